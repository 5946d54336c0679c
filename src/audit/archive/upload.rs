//! From the spool to the store, a segment at a time.

use std::collections::BTreeMap;
use std::io;
use std::io::BufRead;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;

use crate::audit::archive::Archive;
use crate::audit::archive::ArchiveError;
use crate::audit::archive::BEHIND_S_MAX;
use crate::audit::archive::SEGMENT_BYTES_MAX;
use crate::audit::archive::Shelved;
use crate::audit::chain::LINE_BYTES_MAX;
use crate::audit::entry::LedgerEvent;
use crate::audit::spool;
use crate::audit::storage::BadName;
use crate::audit::storage::Name;
use crate::model::SessionId;

/// Largest segment of the ledger, in bytes, but for its last line.
const LEDGER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How far uploads are, as far as this process knows.
#[derive(Debug, Default)]
pub(super) struct Progress {
    sessions: BTreeMap<SessionId, Sent>,
    ledger: Option<LedgerSent>,
}

/// How much of a growing recording the store has.
#[derive(Debug, Clone, Copy)]
struct Sent {
    bytes: u64,
    at: Timestamp,
    has_key: bool,
}

/// How much of the ledger the store has.
#[derive(Debug, Clone, Copy)]
struct LedgerSent {
    entries: u64,
    bytes: u64,
    checkpoint: u64,
    at: Timestamp,
}

/// What became of sending a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// The store has it, as far as was asked.
    Done,
    /// Its key was destroyed: nothing is sent any more.
    Erased,
}

/// The folder of a session's segments.
pub(super) fn folder_of(session: SessionId) -> Result<Name, BadName> {
    format!("recordings/{session}").parse()
}

/// The number that an object's name begins or ends with, behind its last slash.
fn number_of(name: &Name, suffix: &str) -> Option<u64> {
    let word = name.as_str().rsplit('/').next()?.strip_suffix(suffix)?;
    word.rsplit('-').next()?.parse().ok()
}

impl Archive {
    /// Brings a recording to the store that is written to its end, and lets it go from the spool.
    pub(super) async fn closed(
        &self,
        progress: &mut Progress,
        session: SessionId,
        lets_go: bool,
    ) -> Result<(), ArchiveError> {
        let path = spool::recording_of(&self.audit.folders().closed, session);
        let length = std::fs::metadata(&path)?.len();
        if self.send(progress, session, &path, length).await? == Sending::Erased {
            self.audit.forget(session)?;
            return Ok(());
        }
        if !lets_go {
            return Ok(());
        }
        let store = self.storage.shown().to_owned();
        self.audit.record(&LedgerEvent::Stored { session, store, bytes: length })?;
        self.audit.forget(session)?;
        progress.sessions.remove(&session);
        Ok(())
    }

    /// Brings to the store what is due of a recording that grows: whole segments, and what is left
    /// once it is a minute old.
    pub(super) async fn open(
        &self,
        progress: &mut Progress,
        session: SessionId,
        bytes: u64,
        all: bool,
    ) -> Result<(), ArchiveError> {
        let now = self.audit.clock().now();
        let sent =
            *progress.sessions.entry(session).or_insert(Sent { bytes: 0, at: now, has_key: false });
        let waiting = bytes.saturating_sub(sent.bytes);
        let age = now.duration_since(sent.at).as_secs();
        let old = age >= i64::try_from(BEHIND_S_MAX).unwrap_or(i64::MAX);
        if waiting == 0 || !(all || old || waiting >= SEGMENT_BYTES_MAX) {
            return Ok(());
        }
        let path = spool::recording_of(&self.audit.folders().open, session);
        let until = if all || old { bytes } else { bytes - waiting % SEGMENT_BYTES_MAX };
        match self.send(progress, session, &path, until).await {
            // It ended meanwhile and is with the closed ones: the next round has it.
            Err(ArchiveError::Spool(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            sent => sent.map(|_| ()),
        }
    }

    /// Sends a recording's bytes up to `until`, behind its key.
    async fn send(
        &self,
        progress: &mut Progress,
        session: SessionId,
        path: &Path,
        until: u64,
    ) -> Result<Sending, ArchiveError> {
        let now = self.audit.clock().now();
        let known = progress.sessions.get(&session).copied();
        let mut sent = known.unwrap_or(Sent { bytes: 0, at: now, has_key: false });
        if !sent.has_key {
            if self.shelve(session).await? {
                // It was erased while it waited here.
                progress.sessions.remove(&session);
                return Ok(Sending::Erased);
            }
            sent.has_key = true;
            sent.bytes = self.stored(session).await?;
        }
        let mut file = std::fs::File::open(path)?;
        while sent.bytes < until {
            let length = until.saturating_sub(sent.bytes).min(SEGMENT_BYTES_MAX);
            let bytes = part(&mut file, sent.bytes, length)?;
            let name = format!("recordings/{session}/{:020}.seg", sent.bytes).parse::<Name>()?;
            self.storage.create(&name, bytes).await?;
            sent.bytes = sent.bytes.saturating_add(length);
            sent.at = now;
            progress.sessions.insert(session, sent);
        }
        progress.sessions.insert(session, sent);
        Ok(Sending::Done)
    }

    /// Puts a session's wrapped key on the shelf. `true`: the key was destroyed meanwhile.
    async fn shelve(&self, session: SessionId) -> Result<bool, ArchiveError> {
        if let Some(Shelved::Destroyed { .. }) = self.shelf.find(session).await? {
            return Ok(true);
        }
        let key = self.audit.spooled_wrapped(session)?;
        self.shelf.put(session, &key).await?;
        Ok(false)
    }

    /// How many bytes of a recording the store has, from its beginning on.
    async fn stored(&self, session: SessionId) -> Result<u64, ArchiveError> {
        let mut bytes = 0;
        for object in self.storage.list(Some(&folder_of(session)?)).await? {
            if number_of(&object.name, ".seg") != Some(bytes) {
                return Err(ArchiveError::Foreign { what: object.name.to_string() });
            }
            bytes = bytes.saturating_add(object.bytes);
        }
        Ok(bytes)
    }

    /// Brings the ledger up to its latest checkpoint to the store, and the checkpoint behind it.
    pub(super) async fn ledger(
        &self,
        progress: &mut Progress,
        all: bool,
    ) -> Result<(), ArchiveError> {
        let Some(note) = self.audit.latest_checkpoint() else { return Ok(()) };
        let signed = note.checkpoint().map_err(io::Error::other)?.size;
        let now = self.audit.clock().now();
        let mut sent = match progress.ledger {
            Some(sent) => sent,
            None => self.stored_ledger(now).await?,
        };
        progress.ledger = Some(sent);
        let age = now.duration_since(sent.at).as_secs();
        let due = all || age >= i64::try_from(BEHIND_S_MAX).unwrap_or(i64::MAX);
        if signed <= sent.checkpoint || !due {
            return Ok(());
        }
        while sent.entries < signed {
            let (bytes, last) = lines(&self.audit.ledger_path(), sent, signed)?;
            let first = sent.entries.saturating_add(1);
            let name = format!("ledger/{}/{first:020}-{last:020}.jsonl", self.gateway);
            sent.bytes = sent.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            self.storage.create(&name.parse()?, bytes).await?;
            sent.entries = last;
            progress.ledger = Some(sent);
        }
        let name = format!("checkpoints/{}/{signed:020}", self.gateway).parse()?;
        self.storage.create(&name, note.to_string().into()).await?;
        sent.checkpoint = signed;
        sent.at = now;
        progress.ledger = Some(sent);
        Ok(())
    }

    /// How much of the ledger the store has.
    async fn stored_ledger(&self, now: Timestamp) -> Result<LedgerSent, ArchiveError> {
        let folder = format!("ledger/{}", self.gateway).parse()?;
        let listed = self.storage.list(Some(&folder)).await?;
        let entries = listed.last().and_then(|object| number_of(&object.name, ".jsonl"));
        let entries = entries.unwrap_or_default();
        let folder = format!("checkpoints/{}", self.gateway).parse()?;
        let listed = self.storage.list(Some(&folder)).await?;
        let checkpoint = listed.last().and_then(|object| number_of(&object.name, ""));
        let bytes = bytes_of(&self.audit.ledger_path(), entries)?;
        Ok(LedgerSent { entries, bytes, checkpoint: checkpoint.unwrap_or_default(), at: now })
    }
}

fn part(file: &mut std::fs::File, from: u64, length: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    Read::take(file, length).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).ok() != Some(length) {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a recording got shorter"));
    }
    Ok(bytes.into())
}

/// Whole lines of the ledger behind `sent`, up to entry `until` at most, and the last one's number.
fn lines(path: &Path, sent: LedgerSent, until: u64) -> io::Result<(Bytes, u64)> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(sent.bytes))?;
    let mut reader = io::BufReader::new(file);
    let (mut bytes, mut last) = (Vec::new(), sent.entries);
    let full = usize::try_from(LEDGER_BYTES_MAX).unwrap_or(usize::MAX);
    while last < until && bytes.len() < full {
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        if Read::take(&mut reader, limit).read_until(b'\n', &mut bytes)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the ledger got shorter"));
        }
        last = last.saturating_add(1);
    }
    Ok((bytes.into(), last))
}

/// How long the first `entries` lines of the ledger are.
fn bytes_of(path: &Path, entries: u64) -> io::Result<u64> {
    let mut reader = io::BufReader::new(std::fs::File::open(path)?);
    let (mut line, mut bytes) = (Vec::new(), 0_u64);
    for _ in 0..entries {
        line.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        if Read::take(&mut reader, limit).read_until(b'\n', &mut line)? == 0 {
            let what = "the store has more of the ledger than this gateway: entries were lost here";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        bytes = bytes.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
    }
    Ok(bytes)
}
