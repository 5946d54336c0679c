//! What keeps the archive and the index going: recordings are read into the index, brought to the
//! store and let go; the store is asked about itself; what is too old expires.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::audit::Audit;
use crate::audit::archive::Archive;
use crate::audit::archive::Shelf;
use crate::audit::follow::Follower;
use crate::audit::recording::Seen;
use crate::audit::recording::What;
use crate::audit::storage;
use crate::audit::storage::Severity;
use crate::audit::storage::Storage;
use crate::config::Loaded;
use crate::daemon::StartError;
use crate::daemon::stores;
use crate::daemon::stores::Stores;
use crate::daemon::translate::Files;
use crate::model::SessionId;
use crate::model::fault::Chain;
use crate::store::Collector;
use crate::store::Store;
use crate::store::StoreError;

/// How often recordings are looked at, while all goes well.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// How long is waited at most before a store that failed is tried again.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How often the store is asked about itself, where the configuration does not say.
const ASKED_EVERY: Duration = Duration::from_mins(5);
/// How long a recording waits for an index that fails before it leaves the spool without it.
const INDEX_WAIT: Duration = Duration::from_mins(10);

/// How long a gateway that stops goes on bringing its record to the store.
const END_MAX: Duration = Duration::from_secs(10);

/// Opens the region's store, and asks it about itself.
pub(super) async fn open(
    loaded: &Loaded,
    audit: &Arc<Audit>,
    store: &Store,
) -> Result<Arc<Archive>, StartError> {
    let gateway = &loaded.file.gateway;
    let (options, place) = stores::storage(loaded, Files::Needed)?;
    let http: Arc<dyn storage::Http> = Arc::new(Stores::new(place));
    let storage = Storage::open(options, http).map_err(|error| StartError::Storage {
        store: "[audit.store]".to_owned(),
        what: Chain(&error).to_string(),
    })?;
    let shelf: Arc<dyn Shelf> = Arc::new(store.clone());
    let id = gateway.id.to_string();
    let archive = Archive::new(Arc::clone(audit), id, Arc::new(storage), shelf);
    probe(&archive).await?;
    Ok(Arc::new(archive))
}

/// Brings what there is to the store before the gateway ends; what does not get there stays in the
/// spool, and is brought there after the next start.
pub(super) async fn end(archive: &Archive) {
    // What is not in the index yet stays in the spool, where the next start finds it.
    let round = archive.round(true, |_| false);
    if tokio::time::timeout(END_MAX, round).await.is_err() {
        tracing::warn!("the store has not all of the record yet; the rest waits in the spool");
    }
}

/// How often the store is asked about itself.
pub(super) fn asked_every(loaded: &Loaded) -> Duration {
    let written = &loaded.file.audit.store.asked_every_s;
    written.as_ref().map_or(ASKED_EVERY, |every| every.get_ref().seconds())
}

/// Keeps the archive and the index going, until it is ended.
pub(super) async fn keep(archive: Arc<Archive>, mut indexer: Indexer) {
    let mut pause = ROUND_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let done = round(&archive, &mut indexer).await;
        pause = if done { ROUND_EVERY } else { (pause * 2).min(RETRY_MAX) };
    }
}

/// One round of index and archive; `true`: database and store take what they are given.
async fn round(archive: &Archive, indexer: &mut Indexer) -> bool {
    let is_whole = indexer.round().await;
    archive.round(false, |session| indexer.lets_go(session)).await && is_whole
}

/// Asks the store about itself every so often, until it is ended: what would have stopped the start
/// stops new sessions, and nothing more is brought there. A store that is not known to be as it has to
/// be is asked more often. In a task of its own, because what is on its way to a slow store takes long.
pub(super) async fn keep_asking(archive: Arc<Archive>, asked_every: Duration) {
    loop {
        let fit = archive.is_fit();
        tokio::time::sleep(if fit { asked_every } else { asked_every.min(RETRY_MAX) }).await;
        archive.ask().await;
    }
}

/// Asks the store about itself at the start: a store elsewhere, or a credential that does not fit,
/// stops it. A store that does not answer does not: the spool has room.
async fn probe(archive: &Archive) -> Result<(), StartError> {
    let report = archive.ask().await;
    let worst = report.findings.iter().find(|finding| finding.severity == Severity::Stops);
    match worst {
        Some(finding) => Err(StartError::Storage {
            store: report.store.clone(),
            what: format!("{}; {}", finding.what, finding.next),
        }),
        None => Ok(()),
    }
}

/// Reads recordings into the index, as they grow.
#[derive(Debug)]
pub(super) struct Indexer {
    audit: Arc<Audit>,
    store: Store,
    reading: BTreeMap<SessionId, Reader>,
    /// Ended sessions whose recordings are wholly in the index, or are not to be in it.
    finished: BTreeSet<SessionId>,
    failing_since: Option<Instant>,
}

#[derive(Debug)]
struct Reader {
    follower: Follower,
    collector: Collector,
}

impl Indexer {
    pub(super) fn new(audit: Arc<Audit>, store: Store) -> Self {
        let (reading, finished) = (BTreeMap::new(), BTreeSet::new());
        Self { audit, store, reading, finished, failing_since: None }
    }

    /// Whether an ended session's recording may leave the spool as far as the index goes.
    fn lets_go(&self, session: SessionId) -> bool {
        self.finished.contains(&session)
            || self.failing_since.is_some_and(|since| since.elapsed() >= INDEX_WAIT)
    }

    /// Reads what was written since the last round; `true`: the index has all of it.
    async fn round(&mut self) -> bool {
        let open = self.audit.open_trails().into_iter().map(|(session, _)| session);
        let closed = self.audit.closed_trails().unwrap_or_default();
        self.finished.retain(|session| closed.contains(session));
        let due = open.chain(closed.iter().copied()).collect::<BTreeSet<_>>();
        self.reading.retain(|session, _| due.contains(session));
        for session in due {
            if self.finished.contains(&session) {
                continue;
            }
            if let Err(error) = self.read(session).await {
                self.reading.remove(&session);
                if self.failing_since.is_none() {
                    tracing::error!(fault = "gateway", "the index is behind: {}", Chain(&error));
                }
                self.failing_since.get_or_insert_with(Instant::now);
                return false;
            }
        }
        self.failing_since = None;
        true
    }

    async fn read(&mut self, session: SessionId) -> Result<(), StoreError> {
        if !self.reading.contains_key(&session) {
            let Some(cursor) = self.store.index_cursor(session).await? else {
                self.finished.insert(session);
                return Ok(());
            };
            match Follower::begin(&self.audit, session) {
                Ok(Some(follower)) => {
                    let collector = Collector::new(session, cursor);
                    self.reading.insert(session, Reader { follower, collector });
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    // It cannot be read, now or ever: the record stands, the index goes without it.
                    tracing::error!(fault = "gateway", %session, "not in the index: {error}");
                    self.finished.insert(session);
                    return Ok(());
                }
            }
        }
        let Some(reader) = self.reading.get_mut(&session) else { return Ok(()) };
        loop {
            let (full, over) = tokio::task::block_in_place(|| reader.read());
            let batch = reader.collector.take();
            if !batch.is_empty() && !self.store.index_commands(&batch).await? {
                // Somebody cleared the index meanwhile: begin anew.
                self.reading.remove(&session);
                return Ok(());
            }
            if over {
                self.reading.remove(&session);
                self.finished.insert(session);
                return Ok(());
            }
            if !full {
                return Ok(());
            }
        }
    }
}

impl Reader {
    /// Reads until the batch is full or the recording ends so far: whether it is full, and whether
    /// the recording is over.
    fn read(&mut self) -> (bool, bool) {
        loop {
            match self.follower.next() {
                Ok(Seen::One(entry)) => match &entry.what {
                    What::Event(event) => {
                        self.collector.read(entry.n, entry.at, event);
                        if self.collector.is_full() {
                            return (true, false);
                        }
                    }
                    What::Data { .. } => {}
                },
                Ok(Seen::End) => return (false, self.follower.has_ended()),
                Ok(Seen::Damaged(damage)) => {
                    tracing::error!(fault = "gateway", "a recording is damaged: {damage}");
                    return (false, true);
                }
                Err(error) => {
                    tracing::error!(fault = "gateway", "a recording cannot be read: {error}");
                    return (false, true);
                }
            }
        }
    }
}
