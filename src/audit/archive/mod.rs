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
//! Nothing is kept of how far an upload got: the store's own list says so, so that a crash at any
//! moment costs at most one segment sent twice, which the store finds to be the same. What is listed
//! there and was not created by this process is held against the spool, byte for byte. A recording
//! leaves the spool once the store has every byte of it, the shelf its key, and the ledger the entry
//! that says so. Where the store does not answer, all stays in the spool, and the spool's bound is
//! what sessions come to feel. One recording that cannot be brought there keeps no other from it.
//!
//! Nothing is written into a store that has not said, since it last failed, that it is as it has to
//! be ([`Archive::ask`]).
//!
//! Knows no sockets; the store is asked by [`Storage`], keys are kept by whoever implements [`Shelf`].

mod erase;
mod health;
mod ledger;
mod lookup;
mod shelf;
mod standing;
#[cfg(test)]
mod tests;
mod upload;

pub use erase::Erasing;
pub use erase::ToldErased;
pub use health::Health;
pub use health::Stuck;
pub use lookup::ReadError;
pub use lookup::Reading;
pub use shelf::Shelf;
pub use shelf::ShelfError;
pub use shelf::Shelved;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::audit::Audit;
use crate::audit::Unrecorded;
use crate::audit::archive::health::Behind;
use crate::audit::archive::health::Tally;
use crate::audit::archive::standing::Standing;
use crate::audit::archive::upload::Progress;
use crate::audit::archive::upload::Sending;
use crate::audit::entry::LedgerEvent;
use crate::audit::spool;
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
/// How long a round may go on beginning to send objects, in seconds: what is left is for the next.
const ROUND_S_MAX: u64 = 20;
/// How long a recording that cannot be brought to the store is left alone, in seconds.
const STUCK_S: u64 = 30;

/// Brings the record of a gateway to its region's store.
#[derive(Debug)]
pub struct Archive {
    audit: Arc<Audit>,
    storage: Arc<Storage>,
    shelf: Arc<dyn Shelf>,
    gateway: String,
    tally: Mutex<Tally>,
    /// What the store last said of itself. `None`: it was not asked.
    looked: Mutex<Option<Vec<Finding>>>,
    /// Whether the store may be written to.
    standing: watch::Sender<Standing>,
    /// Whoever asks the store about itself has it.
    asking: tokio::sync::Mutex<()>,
    /// How far everything is, as far as this process knows. Whoever sends one recording, or the
    /// ledger, has it, and whoever erases one.
    progress: tokio::sync::Mutex<Progress>,
    /// Whoever holds, releases or erases recordings has it; never waited for with it: `progress`.
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
    /// The store has other bytes under a record's name than this machine.
    #[error(
        "the store has {what}, which is not what this gateway has: somebody else wrote it, or the \
         file here was changed"
    )]
    Foreign {
        /// What.
        what: String,
    },
    /// The store may not be written to.
    #[error("nothing is brought to the store: {why}")]
    Unfit {
        /// Why.
        why: String,
    },
    /// Nobody can read the recording, because its key is gone; the store has its bytes.
    #[error(
        "its key cannot be read ({why}); the store has its bytes, and it stays here until its key is \
         put back, or it is erased"
    )]
    Keyless {
        /// Why.
        why: String,
    },
    /// Something of the record.
    #[error("{what} cannot be brought to the store")]
    Of {
        /// What, and where it is.
        what: String,
        /// Why.
        #[source]
        source: Box<Self>,
    },
}

impl ArchiveError {
    /// Whether nothing else of the record could be brought to the store either.
    fn is_of_all(&self) -> bool {
        match self {
            Self::Storage(error) => match error {
                StorageError::Unreachable { .. }
                | StorageError::Full { .. }
                | StorageError::Outside { .. }
                | StorageError::Denied { .. }
                | StorageError::WrongRegion { .. }
                | StorageError::NoBucket { .. }
                | StorageError::Unusable { .. } => true,
                StorageError::Conflict { .. }
                | StorageError::Missing { .. }
                | StorageError::Locked { .. }
                | StorageError::TooLarge { .. }
                | StorageError::TooMany { .. }
                | StorageError::Failed { .. } => false,
            },
            Self::Shelf(ShelfError::Failed(_)) | Self::Unfit { .. } => true,
            Self::Of { source, .. } => source.is_of_all(),
            Self::Shelf(ShelfError::Another(_))
            | Self::Spool(_)
            | Self::Ledger(_)
            | Self::Name(_)
            | Self::Foreign { .. }
            | Self::Keyless { .. } => false,
        }
    }

    fn of(self, what: &str, path: &Path) -> Self {
        Self::Of { what: format!("{what} ({})", path.display()), source: Box::new(self) }
    }
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
        let (alone, asking) = (tokio::sync::Mutex::default(), tokio::sync::Mutex::default());
        let (looked, standing) = (Mutex::default(), watch::Sender::new(Standing::Unasked));
        Self { audit, storage, shelf, gateway, tally, looked, standing, asking, progress, alone }
    }

    /// The store.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// Where wrapped keys are kept.
    pub fn shelf(&self) -> &Arc<dyn Shelf> {
        &self.shelf
    }

    /// Brings everything to the store that is due, and all that there is if `all`, as far as it gets
    /// in `ROUND_S_MAX`; first asks the store about itself, if it has to be asked. What fails is
    /// logged once, is in the ledger, and is tried again at a later round. A recording that the store
    /// has wholly leaves the spool once `lets_go` says so. To be called about every second. `true`:
    /// the store takes what it is given.
    pub async fn round(&self, all: bool, lets_go: impl Fn(SessionId) -> bool + Sync) -> bool {
        let until = Instant::now() + Duration::from_secs(ROUND_S_MAX);
        let mut behind = Behind::default();
        let fit = self.fit().await;
        let sent = match fit {
            Ok(()) => self.due(&mut behind, (all, until), lets_go).await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            // It may be another one when it answers again.
            self.doubt();
            behind.failed = Some(error);
            behind.waiting = self.audit.closed_trails().unwrap_or_default().len();
        }
        self.tell_round(&behind);
        behind.failed.is_none()
    }

    /// Brings what is due: the ledger, then recordings, those first that were not reached before. An
    /// error is of the store, or of the shelf, and would be the next one's too.
    async fn due(
        &self,
        behind: &mut Behind,
        (all, until): (bool, Instant),
        lets_go: impl Fn(SessionId) -> bool + Sync,
    ) -> Result<(), ArchiveError> {
        let path = self.audit.ledger_path();
        let sent = self.ledger(&mut *self.progress.lock().await, all).await;
        match sent.map_err(|error| error.of("the ledger", &path)) {
            Err(error) if error.is_of_all() => return Err(error),
            sent => behind.failed = sent.err(),
        }
        let open = self.audit.open_trails().into_iter().map(|(session, at)| (session, Some(at)));
        let closed = self.audit.closed_trails().unwrap_or_default();
        let mut sessions =
            closed.into_iter().map(|session| (session, None)).collect::<BTreeMap<_, _>>();
        sessions.extend(open);
        let mut progress = self.progress.lock().await;
        progress.retain(&sessions);
        let from = progress.next_from();
        drop(progress);
        self.tally().retain(&sessions);
        let later = from.map(|from| sessions.split_off(&from)).unwrap_or_default();
        for (session, open) in later.into_iter().chain(sessions) {
            if Instant::now() >= until {
                self.progress.lock().await.go_on_from(session);
                behind.unreached = true;
                break;
            }
            let sent = self.one(session, open, (all, until), lets_go(session)).await?;
            if open.is_none() && matches!(sent, Sending::Partly | Sending::Stuck) {
                behind.waiting = behind.waiting.saturating_add(1);
            }
            behind.unreached |= sent == Sending::Partly;
        }
        Ok(())
    }

    /// Brings one recording to the store. What is wrong with it alone is told, and is no error.
    async fn one(
        &self,
        session: SessionId,
        open: Option<u64>,
        (all, until): (bool, Instant),
        lets_go: bool,
    ) -> Result<Sending, ArchiveError> {
        let mut progress = self.progress.lock().await;
        if !all && progress.rests(session) {
            return Ok(Sending::Stuck);
        }
        let sent = match open {
            Some(bytes) => self.open(&mut progress, session, (bytes, all), until).await,
            None => self.closed(&mut progress, session, lets_go, until).await,
        };
        let Err(error) = sent else {
            self.tally().goes_on(session);
            return sent;
        };
        let folders = self.audit.folders();
        let folder = if open.is_some() { &folders.open } else { &folders.closed };
        let path = spool::recording_of(folder, session);
        let error = error.of(&format!("the recording of session {session}"), &path);
        if error.is_of_all() {
            return Err(error);
        }
        progress.rest(session, Instant::now() + Duration::from_secs(STUCK_S));
        let why = Chain(&error).to_string();
        if self.tally().is_stuck(session, &why) {
            tracing::error!(fault = "gateway", store = self.storage.shown(), "{why}");
        }
        Ok(Sending::Stuck)
    }

    fn tell_round(&self, behind: &Behind) {
        let spool_bytes = self.audit.room().used();
        let now = self.audit.clock().now();
        let (event, is_news) = self.tally().round(now, behind);
        let store = self.storage.shown();
        if let Some(error) = behind.failed.as_ref().filter(|_| is_news) {
            let cause = Chain(error).to_string();
            let what = "the store fails; sessions go on until the spool is full";
            tracing::warn!(fault = "gateway", store, cause, spool_bytes, "{what}");
        } else if let Some(LedgerEvent::StoreRecovered { since }) = &event {
            tracing::warn!(store, "the store answers again, after it failed since {since}");
        }
        if let Some(event) = event
            && let Err(error) = self.audit.record(&event)
        {
            tracing::error!(fault = "gateway", "{}", Chain(&error));
        }
    }

    /// How far behind the store is, and what is wrong.
    pub fn health(&self) -> Health {
        let (used, max) = (self.audit.room().used(), self.audit.room().bytes_max());
        self.tally().health(self.storage.shown(), used, max)
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

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self) -> MutexGuard<'_, Option<Vec<Finding>>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
