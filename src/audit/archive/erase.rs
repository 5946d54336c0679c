//! Erasing recordings: the key first, then what the store lets go of.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;

use serde::Deserialize;
use tokio::sync::MutexGuard;

use crate::audit::archive::Archive;
use crate::audit::archive::ArchiveError;
use crate::audit::archive::ShelfError;
use crate::audit::archive::upload;
use crate::audit::archive::upload::Progress;
use crate::audit::chain::LINE_BYTES_MAX;
use crate::audit::entry::LedgerEvent;
use crate::audit::storage::StorageError;
use crate::model::SessionId;

/// Who erases is alone with recordings: nobody holds, releases or erases one, and nothing is on its way
/// to the store or the shelf.
#[derive(Debug)]
pub struct Erasing<'a> {
    archive: &'a Archive,
    progress: MutexGuard<'a, Progress>,
    _alone: MutexGuard<'a, ()>,
}

/// A recording that the ledger says to be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldErased {
    /// Its session.
    pub session: SessionId,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl ToldErased {
    /// What an entry of the ledger says; `None` where it is about something else.
    pub fn by_entry(event: &LedgerEvent) -> Option<Self> {
        if let LedgerEvent::Erased { session, by, reason } = event {
            let (by, reason) = (by.name.clone(), reason.clone());
            Some(Self { session: *session, by, reason })
        } else if let LedgerEvent::Expired { session, kept_days } = event {
            let reason = format!("recordings are kept for {kept_days} days");
            Some(Self { session: *session, by: "retention".to_owned(), reason })
        } else {
            None
        }
    }
}

impl Archive {
    /// Waits until nothing is on its way to the store, and nobody else holds, releases or erases. In
    /// this order, so that whoever holds a recording never waits for the store.
    pub async fn erasing(&self) -> Erasing<'_> {
        let progress = self.progress.lock().await;
        Erasing { archive: self, progress, _alone: self.alone().await }
    }

    /// Deletes an erased recording's objects as far as the store lets go of them; how many stay until
    /// its lock ends, which nobody can read any more.
    pub async fn delete(&self, session: SessionId) -> Result<usize, ArchiveError> {
        let mut left = 0_usize;
        for object in self.storage.list(Some(&upload::folder_of(session)?)).await? {
            match self.storage.delete(&object.name).await {
                Ok(()) => {}
                Err(StorageError::Locked { .. }) => left = left.saturating_add(1),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(left)
    }

    /// The recordings that the ledger says to be erased, the oldest first. Reads all of it: it is for
    /// `spawn_blocking`.
    pub fn told_erased(&self) -> io::Result<Vec<ToldErased>> {
        told_erased(&self.audit.ledger_path())
    }
}

impl Erasing<'_> {
    /// Destroys a recording's key, on the shelf and in the spool. `false`: there was none any more.
    /// The ledger has to say so already.
    pub async fn destroy(&mut self, told: &ToldErased) -> Result<bool, ArchiveError> {
        let (archive, session) = (self.archive, told.session);
        self.put_up(session).await?;
        let destroyed = archive.shelf.destroy(session, &told.by, &told.reason).await?;
        archive.audit.forget(session)?;
        self.progress.forget(session);
        archive.tally().goes_on(session);
        Ok(destroyed)
    }

    /// Puts a key on the shelf that is in the spool alone, so that the shelf knows when and by whom it
    /// was destroyed.
    async fn put_up(&self, session: SessionId) -> Result<(), ArchiveError> {
        let archive = self.archive;
        if archive.shelf.find(session).await?.is_none()
            && let Ok(wrapped) = archive.audit.spooled_wrapped(session)
        {
            match archive.shelf.put(session, &wrapped).await {
                // What is there goes as well.
                Ok(()) | Err(ShelfError::Another(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn told_erased(path: &Path) -> io::Result<Vec<ToldErased>> {
    #[derive(Deserialize)]
    struct Entry {
        event: LedgerEvent,
    }
    let mut reader = BufReader::new(File::open(path)?);
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let (mut told, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if io::Read::take(&mut reader, limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(told);
        }
        // Few entries are of this kind, and reading the others takes long.
        let text = String::from_utf8_lossy(&line);
        if (text.contains("\"erased\"") || text.contains("\"expired\""))
            && let Ok(entry) = serde_json::from_str::<Entry>(&text)
        {
            told.extend(ToldErased::by_entry(&entry.event));
        }
    }
}
