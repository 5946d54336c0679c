//! The record of one gateway: its ledger, and the opening and closing of trails.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::audit::Unrecorded;
use crate::audit::chain::Damage;
use crate::audit::chain::Head;
use crate::audit::closing::Unclosed;
use crate::audit::entry::LedgerEvent;
use crate::audit::entry::TrailEvent;
use crate::audit::keys::DataKey;
use crate::audit::keys::KeyRing;
use crate::audit::ledger::Appended;
use crate::audit::ledger::Found;
use crate::audit::ledger::Ledger;
use crate::audit::note::NoteKey;
use crate::audit::note::SignedNote;
use crate::audit::recorded::Admission;
use crate::audit::recorded::Recorded;
use crate::audit::recording::Header;
use crate::audit::recording::Writer;
use crate::audit::spool;
use crate::audit::spool::Folders;
use crate::audit::spool::Level;
use crate::audit::spool::Room;
use crate::audit::spool::Syncer;
use crate::audit::trail::Trail;
use crate::model::Clock;
use crate::model::RegionName;
use crate::model::SessionId;
use crate::model::fault::Chain;

/// Where the record is kept, whose it is, and what it takes to be written.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of the ledger and the spool; made if missing.
    pub dir: PathBuf,
    /// The gateway's id. The ledger's first entry depends on it.
    pub gateway: String,
    /// The region whose record it is.
    pub region: RegionName,
    /// How much recordings may take together until the store has them, in bytes; beyond it nothing is
    /// recorded, and so nothing goes on.
    pub spool_bytes_max: u64,
    /// When a record counts as written.
    pub level: Level,
    /// The region's wrapping keys.
    pub keys: KeyRing,
    /// What signs the ledger: the key in force, then those before it, which sign as well.
    pub signers: Vec<Arc<NoteKey>>,
}

/// The record of one gateway: its ledger, and the trails of its sessions.
#[derive(Debug)]
pub struct Audit {
    pub(super) folders: Folders,
    gateway: String,
    pub(super) region: RegionName,
    pub(super) keys: KeyRing,
    clock: Arc<dyn Clock>,
    pub(super) room: Arc<Room>,
    syncer: Option<Arc<Syncer>>,
    ledger: Mutex<Ledger>,
    signer: String,
    pub(super) open: Mutex<BTreeMap<SessionId, Arc<Trail>>>,
    /// Why no session may begin.
    barred: Mutex<Option<String>>,
    /// The heads that were last put into the ledger, so that only changes are.
    pub(super) noted: Mutex<BTreeMap<SessionId, Head>>,
    /// What could not be written since the start.
    failures: Arc<AtomicU64>,
    /// Trails of sessions that ended and could not be closed.
    pub(super) unclosed: Mutex<BTreeMap<SessionId, Unclosed>>,
    /// As long as it is open, no other gateway writes here.
    _lock: fs::File,
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
    /// Another gateway runs in the folder.
    #[error(
        "another gateway runs in {path}: stop it first, or give this one a `state_dir` of its own"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder is another gateway's.
    #[error(
        "{path} is the record of the gateway `{is}`, not of `{asked}`: a gateway keeps its id, and \
         another one needs a `state_dir` of its own"
    )]
    OtherGateway {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        is: String,
        /// Who asked.
        asked: String,
    },
    /// There was a ledger, and it is not there any more.
    #[error(
        "the ledger {path} is gone, though this gateway has run here: put it back; another one under \
         the same id and key would contradict it"
    )]
    LedgerGone {
        /// The ledger's file.
        path: PathBuf,
    },
    /// The latest checkpoint is not the ledger's, or is gone.
    #[error(
        "the checkpoints in {path} are not those of this ledger: {why}; somebody changed or removed \
         them: keep all as evidence, and give the gateway a new id and an empty state folder"
    )]
    Checkpoint {
        /// The file of checkpoints.
        path: PathBuf,
        /// Why.
        why: String,
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
    /// The ledger was signed by a key that is not at hand: nobody could tell that it goes on.
    #[error(
        "the ledger was signed by {by}, which is not among the keys at hand; give the old key as \
         `signing_previous` in [audit.keys], so that the new one is signed for by it"
    )]
    OtherKey {
        /// Its verifier's key.
        by: String,
    },
    /// There is no key to sign the ledger with.
    #[error("there is no key to sign the ledger with")]
    NoKey,
}

impl Audit {
    /// Opens the record, or begins it, and takes stock after a crash: trails that were left open
    /// are closed as far as they are readable, which the ledger says.
    pub fn open(options: &Options, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let folders = Folders::of(&options.dir);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        for dir in [&folders.open, &folders.closed] {
            fs::create_dir_all(dir).map_err(failed(dir))?;
        }
        let lock = locked(&options.dir)?;
        let name = options.dir.join("gateway");
        match fs::read_to_string(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(is) if is == options.gateway => {
                let path = options.dir.join("ledger.jsonl");
                if !path.exists() {
                    return Err(OpenError::LedgerGone { path });
                }
            }
            Ok(is) => {
                let (path, asked) = (options.dir.clone(), options.gateway.clone());
                return Err(OpenError::OtherGateway { path, is, asked });
            }
            Err(error) => return Err(failed(&name)(error)),
        }
        let room =
            Room::new(options.spool_bytes_max, folders.bytes().map_err(failed(&options.dir))?);
        let left = Folders::sessions(&folders.open).map_err(failed(&folders.open))?;
        let signers = options.signers.clone();
        let Found { ledger, torn, signed_by, wrapped_by, sessions } =
            Ledger::open(&options.dir, &options.gateway, signers, &left)?;
        tell_of_lost_key(options, wrapped_by.as_deref());
        fs::write(&name, &options.gateway).map_err(failed(&name))?;
        let signer = continued(&options.signers, signed_by.as_deref())?;
        let syncer = match options.level {
            Level::Process => None,
            Level::Disk => Some(Arc::new(Syncer::start().map_err(failed(&options.dir))?)),
        };
        let audit = Self {
            folders,
            gateway: options.gateway.clone(),
            region: options.region.clone(),
            keys: options.keys.clone(),
            clock,
            room,
            syncer,
            ledger: Mutex::new(ledger),
            signer,
            open: Mutex::default(),
            barred: Mutex::default(),
            noted: Mutex::default(),
            failures: Arc::default(),
            unclosed: Mutex::default(),
            _lock: lock,
        };
        audit.recover(torn, &left, &sessions).map_err(failed(&options.dir))?;
        Ok(audit)
    }

    /// Records an admission: its trail is begun, and the ledger has its entry.
    pub fn admit<T: Admission>(&self, value: T) -> Result<(Recorded<T>, Arc<Trail>), Unrecorded> {
        let opened = Box::new(value.opened());
        let session = opened.session;
        if let Some(why) = &*lock(&self.barred) {
            let source = io::Error::other(why.clone());
            return Err(Unrecorded::new("a session's admission", source));
        }
        let trail = self
            .begin(session)
            .map_err(|source| Unrecorded::new("a session's admission", source))?;
        let first = trail.append(&TrailEvent::Opened(opened.clone()));
        let recorded = match first {
            Err(error) => Err(Failed::Without(error)),
            Ok(_) => self.append(&LedgerEvent::Admitted(opened)),
        };
        match recorded {
            Ok(_) => {}
            Err(Failed::Without(error)) => {
                self.abandon(&trail);
                return Err(error);
            }
            // The ledger has the admission, and the disk may not: the recording stays with it.
            Err(Failed::With(error)) => {
                let damage = Some("the disk failed when it was begun; nothing went on".to_owned());
                let recovered = LedgerEvent::TrailRecovered { session, head: trail.head(), damage };
                drop(self.append(&recovered));
                drop(self.put_away(session));
                return Err(error);
            }
        }
        let trail = Arc::new(trail);
        lock(&self.open).insert(session, Arc::clone(&trail));
        Ok((Recorded::once_written(value), trail))
    }

    /// Removes the trail of a session that was not admitted; a left-over is removed at the next start.
    fn abandon(&self, trail: &Trail) {
        let session = trail.session();
        self.room.give_back(trail.bytes());
        for path in [trail.path(), &spool::key_of(&self.folders.open, session)] {
            if let Err(source) = fs::remove_file(path) {
                tracing::warn!(%source, %session, "could not remove the trail of a session that was not admitted");
            }
        }
    }

    /// Begins a session's recording, with a key of its own.
    fn begin(&self, session: SessionId) -> io::Result<Trail> {
        let key = DataKey::generate().map_err(io::Error::other)?;
        let wrapped = self.keys.wrap(&key, &session, &self.region).map_err(io::Error::other)?;
        let key_path = spool::key_of(&self.folders.open, session);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&key_path)?;
        file.write_all(&serde_json::to_vec(&wrapped)?)?;
        if let Some(syncer) = &self.syncer {
            syncer.wait(&Arc::new(file))?;
        }
        let header = Header {
            session,
            gateway: self.gateway.clone(),
            region: self.region.clone(),
            begun: self.clock.now(),
            wrapped_by: wrapped.by.to_string(),
            commitment: key.commitment(),
        };
        let path = spool::recording_of(&self.folders.open, session);
        let writer = Writer::create(&path, &header, &key, Arc::clone(&self.room))
            .inspect_err(|_| drop(fs::remove_file(&key_path)))?;
        let (clock, syncer) = (Arc::clone(&self.clock), self.syncer.clone());
        Ok(Trail::new(session, path, writer, clock, syncer, Arc::clone(&self.failures)))
    }

    /// Appends one entry to the ledger. When it returns `Ok` the entry has left the process; at level
    /// `disk` the disk has it.
    pub fn record(&self, event: &LedgerEvent) -> Result<Head, Unrecorded> {
        self.append(event).map_err(|failed| match failed {
            Failed::Without(error) | Failed::With(error) => error,
        })
    }

    pub(super) fn append(&self, event: &LedgerEvent) -> Result<Head, Failed> {
        let unrecorded = |source| {
            self.failures.fetch_add(1, Ordering::Relaxed);
            Unrecorded::new("an entry of the ledger", source)
        };
        let appended = lock(&self.ledger).append(self.clock.now(), event);
        let Appended { head, file, due } =
            appended.map_err(|source| Failed::Without(unrecorded(source)))?;
        if let Some(syncer) = &self.syncer {
            syncer.wait(&file).map_err(|source| {
                lock(&self.ledger).lose();
                Failed::With(unrecorded(source))
            })?;
        }
        // The entry stands, whether or not it can be signed now: it is tried again in some seconds.
        if due && let Err(error) = self.checkpoint() {
            tracing::error!(fault = "gateway", "no checkpoint could be signed: {}", Chain(&error));
        }
        Ok(head)
    }

    /// Signs where the ledger stands, if it has grown, once the disk has it. To be called every 10 s
    /// and at the end; every 10,000 entries it comes by itself. Blocks until the disk has it.
    pub fn checkpoint(&self) -> io::Result<()> {
        let (unsigned, file) = {
            let mut ledger = lock(&self.ledger);
            (ledger.unsigned(), Arc::clone(ledger.file()))
        };
        let Some(unsigned) = unsigned else { return Ok(()) };
        file.sync_data().inspect_err(|_| lock(&self.ledger).lose())?;
        lock(&self.ledger).sign(self.clock.now(), &unsigned)
    }

    /// The latest checkpoint, to be kept elsewhere.
    pub fn latest_checkpoint(&self) -> Option<SignedNote> {
        lock(&self.ledger).latest().cloned()
    }

    /// The key that signs the ledger, as C2SP writes a verifier's key.
    pub fn signer(&self) -> &str {
        &self.signer
    }

    /// Writes what waits in open trails. To be called every [`crate::audit::FLUSH_MS`].
    pub fn flush(&self) {
        let open = lock(&self.open).values().map(Arc::clone).collect::<Vec<_>>();
        for trail in open {
            trail.flush();
        }
    }

    /// Puts the heads of the open trails into the ledger, as far as they changed, and closes those
    /// that could not be closed. To be called every 10 s.
    pub fn note_heads(&self) -> Result<(), Unrecorded> {
        self.close_again();
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

    /// Where the ledger stands.
    pub fn head(&self) -> Head {
        lock(&self.ledger).head()
    }

    /// The ledger's file.
    pub fn ledger_path(&self) -> PathBuf {
        lock(&self.ledger).path().to_owned()
    }

    /// Where recordings are until the store has them.
    pub fn folders(&self) -> &Folders {
        &self.folders
    }

    /// How much room recordings take, and have.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// The region's wrapping keys.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The region whose record it is.
    pub fn region(&self) -> &RegionName {
        &self.region
    }

    /// The time, as the record has it.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Sessions that run, and how long their recordings are, in bytes.
    pub fn open_trails(&self) -> Vec<(SessionId, u64)> {
        lock(&self.open).iter().map(|(session, trail)| (*session, trail.bytes())).collect()
    }

    /// How many entries the recordings of sessions that run have.
    pub fn trail_heads(&self) -> Vec<(SessionId, u64)> {
        let open = lock(&self.open);
        open.iter().map(|(session, trail)| (*session, trail.head().entries)).collect()
    }

    /// Sessions that ended, whose recordings the store has not wholly yet.
    pub fn closed_trails(&self) -> io::Result<BTreeSet<SessionId>> {
        Folders::sessions(&self.folders.closed)
    }

    /// When a record counts as written.
    pub fn level(&self) -> Level {
        if self.syncer.is_some() { Level::Disk } else { Level::Process }
    }

    /// Whether sessions may begin: `Some` says why not. What runs goes on.
    pub fn bar(&self, why: Option<String>) {
        *lock(&self.barred) = why;
    }

    /// Why no session may begin, if none may.
    pub fn barred(&self) -> Option<String> {
        lock(&self.barred).clone()
    }

    /// How many writes of the record failed since the start.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// How an entry of the ledger failed.
pub(super) enum Failed {
    /// It is not in the ledger.
    Without(Unrecorded),
    /// It is in the ledger, which the disk may not have.
    With(Unrecorded),
}

/// Makes sure that no other gateway writes in `dir` for as long as the file is open.
fn locked(dir: &Path) -> Result<fs::File, OpenError> {
    let path = dir.join("lock");
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(|source| OpenError::Io { path, source })?;
    file.try_lock().map_err(|_| OpenError::InUse { path: dir.to_owned() })?;
    Ok(file)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Recordings whose key nobody has are not readable: somebody may have it still.
fn tell_of_lost_key(options: &Options, wrapped_by: Option<&str>) {
    let known = |by: &str| options.keys.keys().any(|key| key.id().as_str() == by);
    if let Some(by) = wrapped_by.filter(|by| !known(by)) {
        tracing::error!(
            fault = "gateway",
            key = by,
            "earlier recordings were wrapped by a key that is not at hand and cannot be read: give it as `wrapping_previous` in [audit.keys]"
        );
    }
}

/// The key that signs, which has to be the one that did, or be signed for by it.
fn continued(signers: &[Arc<NoteKey>], signed_by: Option<&str>) -> Result<String, OpenError> {
    let known = signers.iter().map(|key| key.verifier().to_string()).collect::<Vec<_>>();
    if let Some(by) = signed_by.filter(|by| !known.iter().any(|key| key == by)) {
        return Err(OpenError::OtherKey { by: by.to_owned() });
    }
    known.into_iter().next().ok_or(OpenError::NoKey)
}
