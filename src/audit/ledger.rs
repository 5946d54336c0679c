//! One gateway's tamper-evident sequence, and the opening and closing of trails.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::audit::Unrecorded;
use crate::audit::chain;
use crate::audit::chain::Chain;
use crate::audit::chain::Damage;
use crate::audit::chain::Head;
use crate::audit::chain::Room;
use crate::audit::entry::LedgerEvent;
use crate::audit::entry::TrailEvent;
use crate::audit::entry::Volume;
use crate::audit::recorded::Admission;
use crate::audit::recorded::Recorded;
use crate::audit::trail;
use crate::audit::trail::Trail;
use crate::model::Clock;
use crate::model::SessionId;
use crate::model::digest::Digest;

/// Where the record is kept, and whose it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of the ledger and the trails; made if missing.
    pub dir: PathBuf,
    /// The gateway's id. The ledger's first entry depends on it.
    pub gateway: String,
    /// How much ledger and trails may take together, in bytes; beyond it nothing is recorded, and
    /// so nothing goes on.
    pub spool_bytes_max: u64,
}

/// The record of one gateway: its ledger, and the trails of its sessions.
#[derive(Debug)]
pub struct Audit {
    paths: Paths,
    clock: Arc<dyn Clock>,
    room: Arc<Room>,
    ledger: Mutex<Chain>,
    open: Mutex<BTreeMap<SessionId, Arc<Trail>>>,
    /// The heads that were last put into the ledger, so that only changes are.
    noted: Mutex<BTreeMap<SessionId, Head>>,
}

/// The record cannot be opened, so the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or folder cannot be read or made.
    #[error("the record at {path} cannot be opened")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ledger was changed. It is not repaired, and nothing is written behind the damage.
    #[error(
        "the ledger {path} is damaged: {damage}; keep it as evidence, find out who changed it, \
         and give the gateway a new id and an empty state folder"
    )]
    Damaged {
        /// The ledger's file.
        path: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
}

/// The places of the record's files.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) ledger: PathBuf,
    pub(super) open: PathBuf,
    pub(super) closed: PathBuf,
}

impl Paths {
    pub(super) fn of(dir: &Path) -> Self {
        Self {
            ledger: dir.join("ledger.jsonl"),
            open: dir.join("trails").join("open"),
            closed: dir.join("trails").join("closed"),
        }
    }
}

impl Audit {
    /// Opens the record, or begins it, and takes stock after a crash: trails that were left open
    /// are closed as far as they are readable, which the ledger says.
    pub fn open(options: &Options, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let paths = Paths::of(&options.dir);
        for dir in [&paths.open, &paths.closed] {
            fs::create_dir_all(dir)
                .map_err(|source| OpenError::Io { path: dir.clone(), source })?;
        }
        let used =
            taken(&paths).map_err(|source| OpenError::Io { path: options.dir.clone(), source })?;
        let room = Room::new(options.spool_bytes_max, used);
        let name = options.dir.join("gateway");
        fs::write(&name, &options.gateway)
            .map_err(|source| OpenError::Io { path: name, source })?;
        let (chain, torn) = open_ledger(&paths.ledger, origin(&options.gateway), &room)?;
        let audit = Self {
            paths,
            clock,
            room,
            ledger: Mutex::new(chain),
            open: Mutex::default(),
            noted: Mutex::default(),
        };
        audit
            .recover(torn)
            .map_err(|source| OpenError::Io { path: options.dir.clone(), source })?;
        Ok(audit)
    }

    /// Records an admission: its trail is begun, and the ledger has its entry.
    pub fn admit<T: Admission>(&self, value: T) -> Result<(Recorded<T>, Arc<Trail>), Unrecorded> {
        let opened = Box::new(value.opened());
        let unrecorded = |source| Unrecorded::new("a session's admission", source);
        let trail = {
            let (clock, room) = (Arc::clone(&self.clock), Arc::clone(&self.room));
            Trail::create(&self.paths.open, opened.session, clock, room).map_err(unrecorded)?
        };
        let first = trail.append(&TrailEvent::Opened(opened.clone()));
        let recorded = first.and_then(|_| self.record(&LedgerEvent::Admitted(opened)));
        if let Err(error) = recorded {
            // Nothing was admitted, so there is no trail; a left-over is recovered at next start.
            if let Err(source) = fs::remove_file(trail.path()) {
                tracing::warn!(%source, session = %trail.session(), "could not remove the trail of a session that was not admitted");
            }
            return Err(error);
        }
        let trail = Arc::new(trail);
        lock(&self.open).insert(trail.session(), Arc::clone(&trail));
        Ok((Recorded::once_written(value), trail))
    }

    /// Appends one entry to the ledger. When it returns `Ok` the entry has left the process.
    pub fn record(&self, event: &LedgerEvent) -> Result<Head, Unrecorded> {
        lock(&self.ledger)
            .append(self.clock.now(), event)
            .map_err(|source| Unrecorded::new("an entry of the ledger", source))
    }

    /// Closes a trail: its last entry, its head in the ledger, its file with the closed ones.
    pub fn close(&self, trail: &Trail, last: &TrailEvent) -> Result<(), Unrecorded> {
        let session = trail.session();
        let written = trail.append(last);
        let head = trail.head();
        let noted = self.record(&LedgerEvent::TrailClosed { session, head });
        lock(&self.open).remove(&session);
        lock(&self.noted).remove(&session);
        written?;
        noted?;
        fs::rename(trail.path(), trail::file_of(&self.paths.closed, session))
            .map_err(|source| Unrecorded::new("the end of a trail", source))
    }

    /// Puts the heads of the open trails into the ledger, as far as they changed. To be called
    /// every 10 s.
    pub fn note_heads(&self) -> Result<(), Unrecorded> {
        let heads = lock(&self.open)
            .iter()
            .map(|(session, trail)| (*session, trail.head()))
            .collect::<BTreeMap<_, _>>();
        let mut noted = lock(&self.noted);
        let trails = heads
            .iter()
            .filter(|(session, head)| noted.get(session) != Some(head))
            .map(|(session, head)| (*session, *head))
            .collect::<BTreeMap<_, _>>();
        if trails.is_empty() {
            return Ok(());
        }
        self.record(&LedgerEvent::Heads { trails })?;
        *noted = heads;
        Ok(())
    }

    /// Where the ledger stands: what an auditor keeps elsewhere as a checkpoint.
    pub fn head(&self) -> Head {
        lock(&self.ledger).head()
    }

    /// Reads a session's trail, open or closed; `None` where there is none.
    pub fn read_trail(
        &self,
        session: SessionId,
        each: impl FnMut(chain::Line<TrailEvent>, Head),
    ) -> io::Result<Option<chain::Reading>> {
        let path = [&self.paths.open, &self.paths.closed]
            .into_iter()
            .map(|dir| trail::file_of(dir, session))
            .find(|path| path.exists());
        path.map(|path| chain::read(&path, trail::origin(session), each)).transpose()
    }

    fn recover(&self, torn: Option<LedgerEvent>) -> io::Result<()> {
        let other = |error: Unrecorded| io::Error::other(error);
        if let Some(event) = torn {
            self.record(&event).map_err(other)?;
        }
        for entry in fs::read_dir(&self.paths.open)? {
            let path = entry?.path();
            let Some(session) = session_of(&path) else { continue };
            let mut left = LeftOpen::default();
            let reading = chain::read(&path, trail::origin(session), |l, _| left.see(&l.event))?;
            if reading.head.entries == 0 {
                // The crash came before the admission was recorded: there was no session.
                fs::remove_file(&path)?;
                continue;
            }
            if left.transfers {
                let volume = left.volume;
                self.record(&LedgerEvent::TransferUnclean { session, volume }).map_err(other)?;
            }
            let damage = reading.damage.map(|damage| damage.to_string());
            self.record(&LedgerEvent::TrailRecovered { session, head: reading.head, damage })
                .map_err(other)?;
            fs::rename(&path, trail::file_of(&self.paths.closed, session))?;
        }
        Ok(())
    }
}

/// What a trail that was left open tells about its session.
#[derive(Debug, Default)]
struct LeftOpen {
    transfers: bool,
    volume: Volume,
}

impl LeftOpen {
    fn see(&mut self, event: &TrailEvent) {
        if let TrailEvent::Opened(opened) = event {
            self.transfers = opened.transfer.outcome != "none";
        }
        if let TrailEvent::Ended { volume, .. } = event {
            self.volume.add(*volume);
        }
    }
}

/// What the first entry of a gateway's ledger carries as `prev`.
pub(super) fn origin(gateway: &str) -> Digest {
    Digest::of_parts(&[b"weir ledger ", gateway.as_bytes()])
}

/// The session whose trail a file is, by its name.
pub(super) fn session_of(path: &Path) -> Option<SessionId> {
    path.file_name()?.to_str()?.strip_suffix(".jsonl")?.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much the record takes already, in bytes.
fn taken(paths: &Paths) -> io::Result<u64> {
    let mut bytes = fs::metadata(&paths.ledger).map_or(0, |ledger| ledger.len());
    for dir in [&paths.open, &paths.closed] {
        for entry in fs::read_dir(dir)? {
            bytes = bytes.saturating_add(entry?.metadata()?.len());
        }
    }
    Ok(bytes)
}

/// Opens or begins the ledger's file. Half an entry at its end, which a crash in the midst of a
/// write leaves, is set aside in a file of its own; the event that says so is returned.
fn open_ledger(
    path: &Path,
    origin: Digest,
    room: &Arc<Room>,
) -> Result<(Chain, Option<LedgerEvent>), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    if !path.exists() {
        return Chain::create(path, origin, Arc::clone(room))
            .map(|chain| (chain, None))
            .map_err(io);
    }
    let reading = chain::read::<LedgerEvent>(path, origin, |_, _| ()).map_err(io)?;
    let Some(damage) = reading.damage else {
        return Chain::resume(path, reading.head, reading.bytes, Arc::clone(room))
            .map(|c| (c, None))
            .map_err(io);
    };
    let tail = tail_of(path, reading.bytes).map_err(io)?;
    if tail.contains(&b'\n') {
        return Err(OpenError::Damaged { path: path.to_owned(), damage });
    }
    let name = format!("ledger.torn-{}", reading.head.entries.saturating_add(1));
    fs::write(path.with_file_name(&name), &tail).map_err(io)?;
    let file = fs::OpenOptions::new().write(true).open(path).map_err(io)?;
    file.set_len(reading.bytes).map_err(io)?;
    let bytes = u64::try_from(tail.len()).unwrap_or(u64::MAX);
    let chain = Chain::resume(path, reading.head, reading.bytes, Arc::clone(room)).map_err(io)?;
    Ok((chain, Some(LedgerEvent::TornTail { bytes, kept_as: name })))
}

fn tail_of(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(u64::try_from(chain::LINE_BYTES_MAX).unwrap_or(u64::MAX)).read_to_end(&mut tail)?;
    Ok(tail)
}
