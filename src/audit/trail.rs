//! One session's append-only record of commands and decisions.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::audit::Unrecorded;
use crate::audit::chain::Chain;
use crate::audit::chain::Head;
use crate::audit::chain::Room;
use crate::audit::entry::TrailEvent;
use crate::model::Clock;
use crate::model::SessionId;
use crate::model::digest::Digest;

/// One session's append-only record. Appending is one `write` and never awaits, so that it works
/// in `Drop` too: a dropped future is how some libraries say that the client went away.
#[derive(Debug)]
pub struct Trail {
    session: SessionId,
    path: PathBuf,
    chain: Mutex<Chain>,
    clock: Arc<dyn Clock>,
    /// An entry could not be written. Nothing is forwarded any more.
    lost: AtomicBool,
}

impl Trail {
    pub(super) fn create(
        dir: &Path,
        session: SessionId,
        clock: Arc<dyn Clock>,
        room: Arc<Room>,
    ) -> io::Result<Self> {
        let path = file_of(dir, session);
        let chain = Mutex::new(Chain::create(&path, origin(session), room)?);
        Ok(Self { session, path, chain, clock, lost: AtomicBool::new(false) })
    }

    /// The session whose record this is.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Appends one entry. When it returns `Ok` the entry has left the process.
    pub fn append(&self, event: &TrailEvent) -> Result<Head, Unrecorded> {
        let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
        chain.append(self.clock.now(), event).map_err(|source| {
            self.lost.store(true, Ordering::Release);
            Unrecorded::new("an entry of the session's trail", source)
        })
    }

    /// Whether an entry could not be written since the trail was opened.
    pub fn lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Where the trail stands.
    pub fn head(&self) -> Head {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner).head()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The file of `session`'s trail in `dir`.
pub(super) fn file_of(dir: &Path, session: SessionId) -> PathBuf {
    dir.join(format!("{session}.jsonl"))
}

/// What the first entry of `session`'s trail carries as `prev`: so no trail can be renamed.
pub(super) fn origin(session: SessionId) -> Digest {
    Digest::of_parts(&[b"weir trail ", session.to_string().as_bytes()])
}
