//! One gateway's tamper-evident sequence: a chain of lines, a Merkle tree over them, and signed
//! checkpoints of the tree.
//!
//! ```text
//! ledger.jsonl        line n is leaf n-1 of the tree (RFC 6962 §2.1): SHA-256(0x00, line)
//! checkpoints.jsonl   {"at":…,"note":"…"}: every checkpoint that was signed, as C2SP's signed note
//! ```
//!
//! A checkpoint is signed once the disk has the entries that it counts: what it promises is not lost
//! with the power.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::chain;
use crate::audit::chain::Chain;
use crate::audit::chain::Damage;
use crate::audit::chain::Head;
use crate::audit::chain::Line;
use crate::audit::entry::LedgerEvent;
use crate::audit::entry::Volume;
use crate::audit::note::Checkpoint;
use crate::audit::note::NoteKey;
use crate::audit::note::SignedNote;
use crate::audit::record::OpenError;
use crate::audit::tree;
use crate::audit::tree::Frontier;
use crate::model::SessionId;
use crate::model::digest::Digest;

/// How many entries there may be without a checkpoint.
pub const CHECKPOINT_ENTRIES_MAX: u64 = 10_000;
/// Longest line of the file of checkpoints, in bytes.
const NOTE_BYTES_MAX: u64 = 64 * 1024;
/// For how long a ledger may have gone without any checkpoint, in seconds. The first is signed when
/// the gateway starts; a ledger that has none after this time is not believed.
const UNSIGNED_S_MAX: i64 = 600;

/// The ledger, being written.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    checkpoints: PathBuf,
    chain: Chain,
    frontier: Frontier,
    keys: Vec<Arc<NoteKey>>,
    signed: u64,
    /// How many entries there were when a checkpoint was last begun.
    tried: u64,
    latest: Option<SignedNote>,
    /// How long the file of checkpoints is, in bytes; `None` once that is not known.
    checkpoints_bytes: Option<u64>,
    /// The disk may not have what was written, and would not say so again.
    unsynced: bool,
}

/// A line of the file of checkpoints.
#[derive(Debug, Serialize, Deserialize)]
pub struct Signed {
    /// When it was signed.
    pub at: Timestamp,
    /// The signed note.
    pub note: String,
}

/// What opening a ledger found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) ledger: Ledger,
    /// Half an entry at its end was set aside.
    pub(super) torn: Option<LedgerEvent>,
    /// The key that it was signed with last, as its entries say.
    pub(super) signed_by: Option<String>,
    /// The key that wrapped recordings' keys last, as its entries say.
    pub(super) wrapped_by: Option<String>,
    /// Sessions that it admitted and did not close, and those of `watched` that it did.
    pub(super) sessions: BTreeMap<SessionId, Known>,
}

/// What a ledger says about a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Its trail was closed, or was taken stock of.
    pub(super) closed: bool,
    /// A transfer was opened.
    pub(super) transfers: bool,
    /// How much it moved, as far as the ledger was told.
    pub(super) volume: Volume,
}

/// What remains to be done outside the lock that guards the ledger.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) head: Head,
    pub(super) file: Arc<fs::File>,
    /// There are enough entries for a checkpoint.
    pub(super) due: bool,
}

impl Ledger {
    /// Opens or begins the ledger of `gateway` in `dir`. The first of `keys` is the one in force, the
    /// others were and sign as well. What it says about `watched` sessions is told even of those that
    /// it closed.
    pub(super) fn open(
        dir: &Path,
        gateway: &str,
        keys: Vec<Arc<NoteKey>>,
        watched: &BTreeSet<SessionId>,
    ) -> Result<Found, OpenError> {
        let (path, checkpoints) = (dir.join("ledger.jsonl"), dir.join("checkpoints.jsonl"));
        let io = |source| OpenError::Io { path: path.clone(), source };
        let (latest, checkpoints_bytes) = latest(&checkpoints).map_err(io)?;
        let promised = latest.as_ref().and_then(|note| note.checkpoint().ok());
        let mut walk = Walk::new(watched);
        let (chain, torn) = if path.exists() {
            let size = promised.as_ref().map(|checkpoint| checkpoint.size);
            open_chain(&path, origin(gateway), |line, text| walk.see(line, text, size))?
        } else {
            (Chain::create(&path, origin(gateway)).map_err(io)?, None)
        };
        if let Some(promised) = &promised
            && promised.size > 0
            && walk.at_promise != Some(promised.root)
        {
            let what = format!(
                "its checkpoint of {} entries is not of these entries: some were lost or changed",
                promised.size
            );
            let (entry, byte) = (chain.head().entries, 0);
            return Err(OpenError::Damaged { path, damage: Damage { entry, byte, what } });
        }
        let wrong = |why: String| OpenError::Checkpoint { path: checkpoints.clone(), why };
        match &latest {
            None if walk.is_long() => {
                return Err(wrong("there is none, and the ledger was written for long".to_owned()));
            }
            None => {}
            // Whoever changes the ledger can write a checkpoint to it, and cannot sign it. (Signed by
            // a key that is not at hand, the ledger is refused for that.)
            Some(note) => {
                let known = keys.iter().map(|key| key.verifier().clone()).collect::<Vec<_>>();
                let by = walk.signed_by.as_ref();
                if by.is_none_or(|by| known.iter().any(|key| key.to_string() == *by)) {
                    note.verify(&known).map_err(|error| wrong(error.to_string()))?;
                }
            }
        }
        let signed = promised.map_or(0, |promised| promised.size);
        let Walk { frontier, signed_by, wrapped_by, sessions, .. } = walk;
        let (checkpoints_bytes, tried, unsynced) = (Some(checkpoints_bytes), signed, false);
        let ledger = Self {
            path,
            checkpoints,
            chain,
            frontier,
            keys,
            signed,
            tried,
            latest,
            checkpoints_bytes,
            unsynced,
        };
        Ok(Found { ledger, torn, signed_by, wrapped_by, sessions })
    }

    /// Appends one entry.
    pub(super) fn append(&mut self, at: Timestamp, event: &LedgerEvent) -> io::Result<Appended> {
        if self.unsynced {
            return Err(io::Error::other(
                "the disk did not take the ledger; look at the disk and start the gateway again",
            ));
        }
        let (head, leaf) = self.chain.append(at, event)?;
        self.frontier.push(leaf);
        // A checkpoint that fails is not tried again with every entry.
        let since = self.signed.max(self.tried);
        let due = self.frontier.size().saturating_sub(since) >= CHECKPOINT_ENTRIES_MAX;
        Ok(Appended { head, file: Arc::clone(self.chain.file()), due })
    }

    pub(super) fn head(&self) -> Head {
        self.chain.head()
    }

    pub(super) fn file(&self) -> &Arc<fs::File> {
        self.chain.file()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The latest checkpoint.
    pub(super) fn latest(&self) -> Option<&SignedNote> {
        self.latest.as_ref()
    }

    /// The disk did not take what was written. It says so once, and would take the next write: nothing
    /// is appended or signed any more.
    pub(super) fn lose(&mut self) {
        self.unsynced = true;
    }

    /// Where the tree stands, if there is something that no checkpoint counts yet.
    pub(super) fn unsigned(&mut self) -> Option<Checkpoint> {
        let size = self.frontier.size();
        self.tried = size;
        let key = self.keys.first().filter(|_| size > self.signed)?;
        let origin = key.verifier().name().clone();
        Some(Checkpoint { origin, size, root: self.frontier.root() })
    }

    /// Signs `checkpoint`, whose entries the disk has, and keeps the note. What fails leaves the file
    /// of checkpoints as it was.
    pub(super) fn sign(&mut self, at: Timestamp, checkpoint: &Checkpoint) -> io::Result<()> {
        if checkpoint.size <= self.signed || self.unsynced {
            return Ok(());
        }
        let Some(before) = self.checkpoints_bytes else {
            return Err(io::Error::other("an earlier checkpoint failed and could not be undone"));
        };
        let keys = self.keys.iter().map(|key| &**key).collect::<Vec<_>>();
        let note = checkpoint.signed(&keys);
        let mut line = serde_json::to_vec(&Signed { at, note: note.to_string() })?;
        line.push(b'\n');
        let mut options = fs::OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&self.checkpoints)?;
        if let Err(error) = file.write_all(&line).and_then(|()| file.sync_data()) {
            if file.set_len(before).is_err() {
                self.checkpoints_bytes = None;
            }
            return Err(error);
        }
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        self.checkpoints_bytes = Some(before.saturating_add(length));
        self.signed = checkpoint.size;
        self.latest = Some(note);
        Ok(())
    }
}

/// What is gathered while a ledger is read at the start.
struct Walk<'a> {
    frontier: Frontier,
    at_promise: Option<Digest>,
    signed_by: Option<String>,
    wrapped_by: Option<String>,
    watched: &'a BTreeSet<SessionId>,
    sessions: BTreeMap<SessionId, Known>,
    /// When the first entry was written, and the last.
    from_to: Option<(Timestamp, Timestamp)>,
}

impl<'a> Walk<'a> {
    fn new(watched: &'a BTreeSet<SessionId>) -> Self {
        let (frontier, sessions) = (Frontier::new(), BTreeMap::new());
        let (at_promise, signed_by, wrapped_by) = (None, None, None);
        Self { frontier, at_promise, signed_by, wrapped_by, watched, sessions, from_to: None }
    }

    fn see(&mut self, line: &Line<LedgerEvent>, text: &[u8], promised: Option<u64>) {
        self.frontier.push(tree::leaf(text));
        if promised == Some(self.frontier.size()) {
            self.at_promise = Some(self.frontier.root());
        }
        let from = self.from_to.map_or(line.at, |(from, _)| from);
        self.from_to = Some((from, line.at));
        if let LedgerEvent::Started { ledger_key, wrapping_key, .. } = &line.event {
            self.signed_by = ledger_key.clone().or(self.signed_by.take());
            self.wrapped_by = wrapping_key.clone().or(self.wrapped_by.take());
        }
        self.see_session(&line.event);
    }

    fn see_session(&mut self, event: &LedgerEvent) {
        if let LedgerEvent::Admitted(opened) = event {
            self.sessions.insert(opened.session, Known::default());
        }
        if let LedgerEvent::TransferOpened { session, look: None, .. } = event
            && let Some(known) = self.sessions.get_mut(session)
        {
            known.transfers = true;
        }
        if let LedgerEvent::TransferVolume { session, volume, look: None, .. } = event
            && let Some(known) = self.sessions.get_mut(session)
        {
            known.volume = *volume;
        }
        if let LedgerEvent::TrailClosed { session, .. }
        | LedgerEvent::TrailRecovered { session, .. } = event
        {
            if self.watched.contains(session) {
                self.sessions.entry(*session).or_default().closed = true;
            } else {
                self.sessions.remove(session);
            }
        }
    }

    /// Whether it was written for so long that there must be a checkpoint.
    fn is_long(&self) -> bool {
        let seconds = |(from, to): (Timestamp, Timestamp)| to.duration_since(from).as_secs();
        self.frontier.size() >= CHECKPOINT_ENTRIES_MAX
            || self.from_to.map_or(0, seconds) > UNSIGNED_S_MAX
    }
}

/// What the first entry of a gateway's ledger carries as `prev`.
pub(super) fn origin(gateway: &str) -> Digest {
    Digest::of_parts(&[b"weir ledger ", gateway.as_bytes()])
}

/// The last checkpoint of a file of checkpoints, and how long the file is, in bytes; a line that a
/// crash cut off does not count.
fn latest(path: &Path) -> io::Result<(Option<SignedNote>, u64)> {
    let mut file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, 0)),
        opened => opened?,
    };
    let mut length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(NOTE_BYTES_MAX)))?;
    let mut tail = Vec::new();
    Read::take(&mut file, NOTE_BYTES_MAX).read_to_end(&mut tail)?;
    let end = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    if end < tail.len() {
        // The crash came in the midst of a line: no checkpoint was told of it, and none is lost.
        let torn = u64::try_from(tail.len().saturating_sub(end)).unwrap_or_default();
        tracing::warn!(bytes = torn, "half a checkpoint at the end of its file is cut off");
        length = length.saturating_sub(torn);
        fs::OpenOptions::new().write(true).open(path)?.set_len(length)?;
    }
    let lines = tail.get(..end.saturating_sub(1)).unwrap_or_default();
    let read = |line: &[u8]| {
        let signed = serde_json::from_slice::<Signed>(line).ok()?;
        signed.note.parse::<SignedNote>().ok()
    };
    match lines.rsplit(|byte| *byte == b'\n').next().filter(|line| !line.is_empty()) {
        None => Ok((None, length)),
        Some(line) => read(line).map(|note| (Some(note), length)).ok_or_else(|| {
            let what = format!("the last line of {} is no checkpoint", path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        }),
    }
}

/// Opens the ledger's file and gives each entry to `each`. Half an entry at its end, which a crash in
/// the midst of a write leaves, is set aside in a file of its own; the event that says so is returned.
fn open_chain(
    path: &Path,
    origin: Digest,
    mut each: impl FnMut(&Line<LedgerEvent>, &[u8]),
) -> Result<(Chain, Option<LedgerEvent>), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let reading =
        chain::read::<LedgerEvent>(path, origin, |line, _, text| each(&line, text)).map_err(io)?;
    let name = format!("ledger.torn-{}", reading.head.entries.saturating_add(1));
    let kept = path.with_file_name(&name);
    let Some(damage) = reading.damage else {
        let chain = Chain::resume(path, reading.head, reading.bytes).map_err(io)?;
        // Set aside, and the next crash came before an entry could say so.
        let torn = fs::metadata(&kept).ok().map(|file| file.len());
        return Ok((chain, torn.map(|bytes| LedgerEvent::TornTail { bytes, kept_as: name })));
    };
    let tail = tail_of(path, reading.bytes).map_err(io)?;
    if tail.contains(&b'\n') {
        return Err(OpenError::Damaged { path: path.to_owned(), damage });
    }
    fs::write(&kept, &tail).map_err(io)?;
    let file = fs::OpenOptions::new().write(true).open(path).map_err(io)?;
    file.set_len(reading.bytes).map_err(io)?;
    let bytes = u64::try_from(tail.len()).unwrap_or(u64::MAX);
    let chain = Chain::resume(path, reading.head, reading.bytes).map_err(io)?;
    Ok((chain, Some(LedgerEvent::TornTail { bytes, kept_as: name })))
}

fn tail_of(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(u64::try_from(chain::LINE_BYTES_MAX).unwrap_or(u64::MAX)).read_to_end(&mut tail)?;
    Ok(tail)
}
