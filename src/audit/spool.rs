//! Where recordings are until the region's store has them: how much room there is, and what it takes
//! for a record to count as written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use crate::model::SessionId;

/// When a record counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Once it has left the process: it survives the process, not the machine.
    Process,
    /// Once the disk has it: it survives a loss of power.
    Disk,
}

impl Level {
    /// The word in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Disk => "disk",
        }
    }
}

/// How much all recordings of a spool may take together.
#[derive(Debug)]
pub struct Room {
    used: AtomicU64,
    bytes_max: u64,
}

impl Room {
    /// Room for `bytes_max` bytes, of which `used` are taken.
    pub fn new(bytes_max: u64, used: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(used), bytes_max })
    }

    /// Takes room for `bytes` bytes.
    pub fn take(&self, bytes: u64) -> io::Result<()> {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.bytes_max);
        match self.used.try_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(()),
            Err(used) => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the record takes {used} of {} bytes already", self.bytes_max),
            )),
        }
    }

    /// Takes room for `bytes` bytes even where there is none: for the end of what was begun.
    pub fn take_beyond(&self, bytes: u64) {
        let more = |used: u64| Some(used.saturating_add(bytes));
        let _before = self.used.try_update(Ordering::AcqRel, Ordering::Acquire, more);
    }

    /// Gives back what was taken.
    pub fn give_back(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _before = self.used.try_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// How much is taken, in bytes.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// How much there is, in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }
}

/// The folders of a spool.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Recordings of sessions that run, with their wrapped keys.
    pub open: PathBuf,
    /// Recordings of sessions that ended, which the store has not wholly yet.
    pub closed: PathBuf,
}

impl Folders {
    /// Those below a state folder.
    pub fn of(dir: &Path) -> Self {
        let spool = dir.join("spool");
        Self { open: spool.join("open"), closed: spool.join("closed") }
    }

    /// The recording of `session`, wherever it is.
    pub fn find(&self, session: SessionId) -> Option<PathBuf> {
        [&self.open, &self.closed]
            .into_iter()
            .map(|dir| recording_of(dir, session))
            .find(|path| path.exists())
    }

    /// The recordings in `dir`, one of the two folders, in the order in which they were begun.
    pub fn sessions(dir: &Path) -> io::Result<BTreeSet<SessionId>> {
        let mut all = BTreeSet::new();
        for entry in std::fs::read_dir(dir)? {
            all.extend(session_of(&entry?.path()));
        }
        Ok(all)
    }

    /// How much they take, in bytes. A recording that goes away meanwhile takes nothing.
    pub fn bytes(&self) -> io::Result<u64> {
        let mut bytes = 0_u64;
        for dir in [&self.open, &self.closed] {
            for entry in std::fs::read_dir(dir)? {
                let entry = entry?;
                if session_of(&entry.path()).is_some() {
                    match entry.metadata() {
                        Ok(found) => bytes = bytes.saturating_add(found.len()),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(bytes)
    }
}

/// The file of `session`'s recording in `dir`.
pub fn recording_of(dir: &Path, session: SessionId) -> PathBuf {
    dir.join(format!("{session}.wrec"))
}

/// The file of `session`'s wrapped key in `dir`.
pub fn key_of(dir: &Path, session: SessionId) -> PathBuf {
    dir.join(format!("{session}.key"))
}

/// The session whose recording a file is, by its name.
pub fn session_of(path: &Path) -> Option<SessionId> {
    path.file_name()?.to_str()?.strip_suffix(".wrec")?.parse().ok()
}

/// How many files may wait to be synchronized.
const WAITING_MAX: usize = 65_536;

/// Synchronizes files with the disk, those that wait together in one go.
///
/// Whoever waits for the disk waits for the round that follows; all that ask meanwhile share it.
#[derive(Debug)]
pub struct Syncer {
    asked: mpsc::SyncSender<Asked>,
}

struct Asked {
    file: Arc<File>,
    done: Arc<Done>,
}

#[derive(Debug, Default)]
struct Done {
    result: Mutex<Option<io::Result<()>>>,
    told: Condvar,
}

impl Syncer {
    /// Starts the thread that synchronizes; it ends with the last `Syncer`.
    pub fn start() -> io::Result<Self> {
        let (asked, waiting) = mpsc::sync_channel(WAITING_MAX);
        std::thread::Builder::new().name("record-sync".into()).spawn(move || rounds(&waiting))?;
        Ok(Self { asked })
    }

    /// Returns once the disk has what was written to `file` before. Blocks the thread; on a runtime
    /// of several threads others take over its tasks meanwhile.
    pub fn wait(&self, file: &Arc<File>) -> io::Result<()> {
        let done = Arc::new(Done::default());
        let asked = Asked { file: Arc::clone(file), done: Arc::clone(&done) };
        let gone = |_| io::Error::other("the thread that synchronizes is gone");
        blocking(|| {
            self.asked.send(asked).map_err(gone)?;
            let mut result = done.result.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if let Some(result) = result.take() {
                    return result;
                }
                result = done.told.wait(result).unwrap_or_else(PoisonError::into_inner);
            }
        })
    }
}

/// Runs what blocks where that keeps no other task waiting, if there is such a place.
fn blocking<T>(wait: impl FnOnce() -> T) -> T {
    use tokio::runtime::Handle;
    use tokio::runtime::RuntimeFlavor;
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        Ok(_) | Err(_) => wait(),
    }
}

fn rounds(waiting: &mpsc::Receiver<Asked>) {
    while let Ok(first) = waiting.recv() {
        let mut round = vec![first];
        round.extend(waiting.try_iter());
        // A file that several wait for is synchronized once.
        let mut synced: Vec<(*const File, Result<(), io::ErrorKind>)> = Vec::new();
        for Asked { file, done } in round {
            let at = Arc::as_ptr(&file);
            let known = synced.iter().find(|(other, _)| *other == at).map(|(_, result)| *result);
            let result = known.unwrap_or_else(|| {
                let result = file.sync_data().map_err(|error| error.kind());
                synced.push((at, result));
                result
            });
            let mut place = done.result.lock().unwrap_or_else(PoisonError::into_inner);
            *place = Some(result.map_err(io::Error::from));
            done.told.notify_one();
        }
    }
}
