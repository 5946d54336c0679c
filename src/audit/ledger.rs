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
use crate::audit::entry::LedgerEvent;
use crate::audit::note::Checkpoint;
use crate::audit::note::NoteKey;
use crate::audit::note::SignedNote;
use crate::audit::record::OpenError;
use crate::audit::tree;
use crate::audit::tree::Frontier;
use crate::model::digest::Digest;

/// How many entries there may be without a checkpoint.
pub const CHECKPOINT_ENTRIES_MAX: u64 = 10_000;
/// Longest line of the file of checkpoints, in bytes.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// The ledger, being written.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    checkpoints: PathBuf,
    chain: Chain,
    frontier: Frontier,
    keys: Vec<Arc<NoteKey>>,
    signed: u64,
    latest: Option<SignedNote>,
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
    /// others were and sign as well.
    pub(super) fn open(
        dir: &Path,
        gateway: &str,
        keys: Vec<Arc<NoteKey>>,
    ) -> Result<Found, OpenError> {
        let (path, checkpoints) = (dir.join("ledger.jsonl"), dir.join("checkpoints.jsonl"));
        let io = |source| OpenError::Io { path: path.clone(), source };
        let latest = latest(&checkpoints).map_err(io)?;
        let promised = latest.as_ref().and_then(|note| note.checkpoint().ok());
        let mut walk = Walk { frontier: Frontier::new(), at_promise: None, signed_by: None };
        let (chain, torn) = if path.exists() {
            let size = promised.as_ref().map(|checkpoint| checkpoint.size);
            open_chain(&path, origin(gateway), |event, text| walk.see(event, text, size))?
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
        let signed = promised.map_or(0, |promised| promised.size);
        let Walk { frontier, signed_by, .. } = walk;
        let ledger = Self { path, checkpoints, chain, frontier, keys, signed, latest };
        Ok(Found { ledger, torn, signed_by })
    }

    /// Appends one entry.
    pub(super) fn append(&mut self, at: Timestamp, event: &LedgerEvent) -> io::Result<Appended> {
        let (head, leaf) = self.chain.append(at, event)?;
        self.frontier.push(leaf);
        let due = self.frontier.size().saturating_sub(self.signed) >= CHECKPOINT_ENTRIES_MAX;
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

    /// Where the tree stands, if there is something that no checkpoint counts yet.
    pub(super) fn unsigned(&self) -> Option<Checkpoint> {
        let size = self.frontier.size();
        let key = self.keys.first().filter(|_| size > self.signed)?;
        let origin = key.verifier().name().clone();
        Some(Checkpoint { origin, size, root: self.frontier.root() })
    }

    /// Signs `checkpoint`, whose entries the disk has, and keeps the note.
    pub(super) fn sign(&mut self, at: Timestamp, checkpoint: &Checkpoint) -> io::Result<()> {
        if checkpoint.size <= self.signed {
            return Ok(());
        }
        let keys = self.keys.iter().map(|key| &**key).collect::<Vec<_>>();
        let note = checkpoint.signed(&keys);
        let mut line = serde_json::to_vec(&Signed { at, note: note.to_string() })?;
        line.push(b'\n');
        let mut options = fs::OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&self.checkpoints)?;
        file.write_all(&line)?;
        file.sync_data()?;
        self.signed = checkpoint.size;
        self.latest = Some(note);
        Ok(())
    }
}

/// What is gathered while a ledger is read at the start.
struct Walk {
    frontier: Frontier,
    at_promise: Option<Digest>,
    signed_by: Option<String>,
}

impl Walk {
    fn see(&mut self, event: LedgerEvent, text: &[u8], promised: Option<u64>) {
        self.frontier.push(tree::leaf(text));
        if promised == Some(self.frontier.size()) {
            self.at_promise = Some(self.frontier.root());
        }
        if let LedgerEvent::Started { ledger_key: Some(key), .. } = event {
            self.signed_by = Some(key);
        }
    }
}

/// What the first entry of a gateway's ledger carries as `prev`.
pub(super) fn origin(gateway: &str) -> Digest {
    Digest::of_parts(&[b"weir ledger ", gateway.as_bytes()])
}

/// The last checkpoint of a file of checkpoints; a line that a crash cut off does not count.
fn latest(path: &Path) -> io::Result<Option<SignedNote>> {
    let mut file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(NOTE_BYTES_MAX)))?;
    let mut tail = Vec::new();
    Read::take(&mut file, NOTE_BYTES_MAX).read_to_end(&mut tail)?;
    let end = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    if end < tail.len() {
        // The crash came in the midst of a line: no checkpoint was told of it, and none is lost.
        let torn = u64::try_from(tail.len().saturating_sub(end)).unwrap_or_default();
        tracing::warn!(bytes = torn, "half a checkpoint at the end of its file is cut off");
        fs::OpenOptions::new().write(true).open(path)?.set_len(length.saturating_sub(torn))?;
    }
    let lines = tail.get(..end.saturating_sub(1)).unwrap_or_default();
    let read = |line: &[u8]| {
        let signed = serde_json::from_slice::<Signed>(line).ok()?;
        signed.note.parse::<SignedNote>().ok()
    };
    match lines.rsplit(|byte| *byte == b'\n').next().filter(|line| !line.is_empty()) {
        None => Ok(None),
        Some(line) => read(line).map(Some).ok_or_else(|| {
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
    mut each: impl FnMut(LedgerEvent, &[u8]),
) -> Result<(Chain, Option<LedgerEvent>), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let reading = chain::read::<LedgerEvent>(path, origin, |line, _, text| each(line.event, text))
        .map_err(io)?;
    let Some(damage) = reading.damage else {
        return Chain::resume(path, reading.head, reading.bytes).map(|c| (c, None)).map_err(io);
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
