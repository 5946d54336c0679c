//! The archive: what brings recordings, the ledger and its checkpoints from the spool to the region's
//! store, and reads them back.
//!
//! ```text
//! spool/open, spool/closed ──▶ recordings/<session>/<first byte>.seg   at most 4 MiB each
//! ledger.jsonl             ──▶ ledger/<gateway>/<first>-<last>.jsonl
//! checkpoints              ──▶ checkpoints/<gateway>/<entries>
//! spool/*/ID.key           ──▶ the shelf: the state database
//! ```
//!
//! Nothing is remembered of how far an upload got: the store's own list says so, so that a crash at
//! any moment costs at most one segment sent twice, which the store finds to be the same. A recording
//! leaves the spool once the store has every byte of it, the shelf its key, and the ledger the entry
//! that says so. Where the store does not answer, all stays in the spool, and the spool's bound is
//! what sessions come to feel.
//!
//! Knows no sockets; the store is asked by [`Storage`], keys are kept by whoever implements [`Shelf`].

mod health;
mod lookup;
mod shelf;
mod upload;

pub use health::Health;
pub use lookup::ReadError;
pub use lookup::Reading;
pub use shelf::Shelf;
pub use shelf::ShelfError;
pub use shelf::Shelved;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::audit::Audit;
use crate::audit::Unrecorded;
use crate::audit::archive::health::Tally;
use crate::audit::archive::upload::Progress;
use crate::audit::entry::LedgerEvent;
use crate::audit::storage::BadName;
use crate::audit::storage::Finding;
use crate::audit::storage::Storage;
use crate::audit::storage::StorageError;
use crate::model::SessionId;
use crate::model::fault::Chain;

/// Largest segment of a recording, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How long a recording that grows, or the ledger, may have something that the store has not, in
/// seconds, while the store answers.
pub const BEHIND_S_MAX: u64 = 60;

/// Brings the record of a gateway to its region's store.
#[derive(Debug)]
pub struct Archive {
    audit: Arc<Audit>,
    storage: Arc<Storage>,
    shelf: Arc<dyn Shelf>,
    gateway: String,
    tally: Mutex<Tally>,
    /// What the store last said of itself.
    looked: Mutex<Vec<Finding>>,
    /// How far everything is, as far as this process knows. One round at a time.
    progress: tokio::sync::Mutex<Progress>,
    /// Whoever holds, releases or erases recordings has it.
    alone: tokio::sync::Mutex<()>,
}

/// Why something could not be brought to the store now.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store says no, or nothing.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The shelf of keys says no, or nothing.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// A file of the spool cannot be read or removed.
    #[error("the spool cannot be read")]
    Spool(#[from] std::io::Error),
    /// The ledger cannot be written.
    #[error(transparent)]
    Ledger(#[from] Unrecorded),
    /// What it would be called is no name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The store has other bytes under a recording's name than the spool.
    #[error("the store has {what}, which the gateway did not write: somebody else did")]
    Foreign {
        /// What.
        what: String,
    },
}

impl Archive {
    /// An archive of what `audit` records, in `storage`.
    pub fn new(
        audit: Arc<Audit>,
        gateway: String,
        storage: Arc<Storage>,
        shelf: Arc<dyn Shelf>,
    ) -> Self {
        let (tally, progress) = (Mutex::default(), tokio::sync::Mutex::default());
        let (alone, looked) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { audit, storage, shelf, gateway, tally, looked, progress, alone }
    }

    /// The store.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// Where wrapped keys are kept.
    pub fn shelf(&self) -> &Arc<dyn Shelf> {
        &self.shelf
    }

    /// Brings everything to the store that is due, and all that there is if `all`. What fails is
    /// logged once, is in the ledger, and is tried again at the next round. A recording that the store
    /// has wholly leaves the spool once `lets_go` says so. To be called about every second. `true`:
    /// nothing is left behind.
    pub async fn round(&self, all: bool, lets_go: impl Fn(SessionId) -> bool + Sync) -> bool {
        let mut progress = self.progress.lock().await;
        let mut failed = None;
        let open = self.audit.open_trails();
        let closed = self.audit.closed_trails().unwrap_or_default();
        for session in &closed {
            if let Err(error) = self.closed(&mut progress, *session, lets_go(*session)).await {
                failed = Some(error);
                break;
            }
        }
        if failed.is_none() {
            failed = self.growing(&mut progress, &open, all).await.err();
        }
        let room = self.audit.room().used();
        let now = self.audit.clock().now();
        let done = failed.is_none();
        let (event, line) = self.tally().round(now, room, closed.len(), failed.as_ref());
        if let Some(line) = line {
            let cause = failed.as_ref().map(|error| Chain(error).to_string());
            tracing::warn!(fault = "gateway", store = self.storage.shown(), cause, "{line}");
        }
        if let Some(event) = event
            && let Err(error) = self.audit.record(&event)
        {
            tracing::error!(fault = "gateway", "{}", Chain(&error));
        }
        done
    }

    async fn growing(
        &self,
        progress: &mut Progress,
        open: &[(SessionId, u64)],
        all: bool,
    ) -> Result<(), ArchiveError> {
        for (session, bytes) in open {
            self.open(progress, *session, *bytes, all).await?;
        }
        self.ledger(progress, all).await
    }

    /// How far behind the store is, and what is wrong.
    pub fn health(&self) -> Health {
        let (used, max) = (self.audit.room().used(), self.audit.room().bytes_max());
        self.tally().health(self.storage.shown(), used, max)
    }

    /// Takes note of what asking the store about itself found.
    pub fn note_findings(&self, findings: &[Finding]) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = findings.to_vec();
    }

    /// What the store last said of itself.
    pub fn findings(&self) -> Vec<Finding> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is recorded here.
    pub fn audit(&self) -> &Arc<Audit> {
        &self.audit
    }

    /// Waits until nobody else holds, releases or erases a recording. As long as the guard lives,
    /// nobody does.
    pub async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.alone.lock().await
    }

    /// Erases a session's recording: its key is destroyed, and its objects are deleted as far as the
    /// store lets go of them. The ledger says so first. What it pinned stays pinned.
    pub async fn erase(
        &self,
        session: SessionId,
        event: LedgerEvent,
    ) -> Result<Erased, ArchiveError> {
        let (by, reason) = if let LedgerEvent::Erased { by, reason, .. } = &event {
            (by.name.clone(), reason.clone())
        } else if let LedgerEvent::Expired { kept_days, .. } = &event {
            ("retention".to_owned(), format!("recordings are kept for {kept_days} days"))
        } else {
            ("the gateway".to_owned(), "it was erased".to_owned())
        };
        // Nothing of it may be on its way to the store or the shelf meanwhile.
        let progress = self.progress.lock().await;
        self.audit.record(&event)?;
        self.put_up(session).await?;
        let destroyed = self.shelf.destroy(session, &by, &reason).await?;
        self.audit.forget(session)?;
        drop(progress);
        let prefix = upload::folder_of(session)?;
        let mut left = 0_usize;
        for object in self.storage.list(Some(&prefix)).await? {
            match self.storage.delete(&object.name).await {
                Ok(()) => {}
                Err(StorageError::Locked { .. }) => left = left.saturating_add(1),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Erased { destroyed, locked_objects: left })
    }

    /// Puts a key on the shelf that is in the spool alone, so that the shelf knows when and by whom it
    /// was destroyed.
    async fn put_up(&self, session: SessionId) -> Result<(), ArchiveError> {
        if self.shelf.find(session).await?.is_none()
            && let Ok(wrapped) = self.audit.spooled_wrapped(session)
        {
            self.shelf.put(session, &wrapped).await?;
        }
        Ok(())
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What erasing a recording did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// Its key was destroyed now; `false`: there was none any more.
    pub destroyed: bool,
    /// How many objects stay until the store's lock ends, which nobody can read any more.
    pub locked_objects: usize,
}
