//! Reading recordings, wherever they are: in the spool, or in the store.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::io;

use bytes::Buf;
use bytes::Bytes;
use jiff::Timestamp;

use crate::audit::archive::Archive;
use crate::audit::archive::ShelfError;
use crate::audit::archive::Shelved;
use crate::audit::archive::upload::folder_of;
use crate::audit::keys::KeyError;
use crate::audit::recording::Entries;
use crate::audit::spooled;
use crate::audit::storage::BadName;
use crate::audit::storage::Name;
use crate::audit::storage::Storage;
use crate::audit::storage::StorageError;
use crate::model::SessionId;

/// The entries of a recording.
pub type Reading = Entries<Box<dyn io::BufRead + Send>>;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none of that session here.
    #[error("this gateway has no recording of session {0}")]
    Missing(SessionId),
    /// Its key was destroyed.
    #[error("the recording was erased on {at} by {by}: {reason}")]
    Erased {
        /// When.
        at: Timestamp,
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// The store says no, or nothing.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The shelf of keys says no, or nothing.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// Its key cannot be unwrapped.
    #[error("the recording's key cannot be opened")]
    Key(#[from] KeyError),
    /// It cannot be read, or is no recording of that session.
    #[error("the recording cannot be read")]
    Io(#[from] io::Error),
    /// It has no name in the store.
    #[error(transparent)]
    Name(#[from] BadName),
}

impl Archive {
    /// The sessions of which the store has something, whoever recorded them.
    pub async fn stored_sessions(&self) -> Result<BTreeSet<SessionId>, ReadError> {
        let folders = self.storage.folders(&"recordings".parse()?).await?;
        let session = |name: Name| name.as_str().rsplit('/').next()?.parse().ok();
        Ok(folders.into_iter().filter_map(session).collect())
    }

    /// The entries of a session's recording. Reading what the store has blocks the thread: it is for
    /// `spawn_blocking`, or for a runtime of several threads.
    pub async fn recording(&self, session: SessionId) -> Result<Reading, ReadError> {
        match self.audit.spooled(session) {
            Ok(Some(entries)) => return Ok(entries),
            Ok(None) => {}
            // It left the spool at this very moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let wrapped = match self.shelf.find(session).await? {
            Some(Shelved::Key(wrapped)) => wrapped,
            Some(Shelved::Destroyed { at, by, reason }) => {
                return Err(ReadError::Erased { at, by, reason });
            }
            None => return Err(ReadError::Missing(session)),
        };
        let key = self.audit.keys().unwrap(&wrapped, &session, self.audit.region())?;
        let segments = self.storage.list(Some(&folder_of(session)?)).await?;
        if segments.is_empty() {
            return Err(ReadError::Missing(session));
        }
        let names = segments.into_iter().map(|object| object.name).collect();
        let reader = Segments {
            storage: std::sync::Arc::clone(&self.storage),
            names,
            now: Bytes::new(),
            runtime: tokio::runtime::Handle::current(),
        };
        let reader: Box<dyn io::BufRead + Send> = Box::new(reader);
        tokio::task::block_in_place(|| spooled::entries(reader, session, &key)).map_err(Into::into)
    }
}

/// The bytes of a recording in the store, one segment in memory at a time.
struct Segments {
    storage: std::sync::Arc<Storage>,
    names: VecDeque<Name>,
    now: Bytes,
    runtime: tokio::runtime::Handle,
}

impl io::Read for Segments {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let here = io::BufRead::fill_buf(self)?;
        let length = here.len().min(into.len());
        let (place, part) = (into.get_mut(..length), here.get(..length));
        if let (Some(place), Some(part)) = (place, part) {
            place.copy_from_slice(part);
        }
        io::BufRead::consume(self, length);
        Ok(length)
    }
}

impl io::BufRead for Segments {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.now.is_empty() {
            let Some(name) = self.names.pop_front() else { break };
            let (storage, runtime) = (&self.storage, &self.runtime);
            let read = blocking(|| runtime.block_on(storage.read(&name)));
            self.now = read.map_err(io::Error::other)?;
        }
        Ok(&self.now)
    }

    fn consume(&mut self, amount: usize) {
        self.now.advance(amount.min(self.now.len()));
    }
}

/// Waits where waiting keeps no other task from running.
fn blocking<T>(wait: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::try_current() {
        Ok(_) => tokio::task::block_in_place(wait),
        Err(_) => wait(),
    }
}
