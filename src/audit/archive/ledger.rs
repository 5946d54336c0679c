//! The ledger and its checkpoints, from the state folder to the store.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;

use crate::audit::archive::Archive;
use crate::audit::archive::ArchiveError;
use crate::audit::archive::BEHIND_S_MAX;
use crate::audit::archive::upload::Progress;
use crate::audit::chain::LINE_BYTES_MAX;
use crate::audit::storage::Name;
use crate::audit::storage::OBJECT_BYTES_MAX;
use crate::audit::storage::Stored;

/// Largest segment of the ledger, in bytes, but for its last line.
const LEDGER_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How many entries behind its latest checkpoint the store is first looked at for the ledger's end.
const LOOK_BACK_ENTRIES: u64 = 1_024;

/// How much of the ledger the store has.
#[derive(Debug, Clone, Copy)]
pub(super) struct LedgerSent {
    /// So many entries this process created, or held against the file.
    entries: u64,
    /// How long they are.
    bytes: u64,
    checkpoint: u64,
    at: Timestamp,
    /// They are all that the store has. Not known while something is on its way, nor after that failed.
    listed: bool,
    /// The last entry of what is on its way: it is sent again as it was, and no longer.
    trying: Option<u64>,
}

/// The first and the last entry of a segment of the ledger, by its name.
fn entries_of(name: &Name) -> Option<(u64, u64)> {
    let word = name.as_str().rsplit('/').next()?.strip_suffix(".jsonl")?;
    let (first, last) = word.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

impl Archive {
    /// Brings the ledger up to its latest checkpoint to the store, and the checkpoint behind it. Cancel
    /// safe: what the store has is asked anew after anything that did not come to its end.
    pub(super) async fn ledger(
        &self,
        progress: &mut Progress,
        all: bool,
    ) -> Result<(), ArchiveError> {
        let Some(note) = self.audit.latest_checkpoint() else { return Ok(()) };
        let signed = note.checkpoint().map_err(io::Error::other)?.size;
        let now = self.audit.clock().now();
        let (entries, bytes, checkpoint) = (0, 0, 0);
        let fresh = LedgerSent { entries, bytes, checkpoint, at: now, listed: false, trying: None };
        let mut sent = progress.ledger.unwrap_or(fresh);
        if !sent.listed {
            sent = self.stored_ledger(sent, signed).await?;
            progress.ledger = Some(sent);
        }
        let age = now.duration_since(sent.at).as_secs();
        let due = all || age >= i64::try_from(BEHIND_S_MAX).unwrap_or(i64::MAX);
        if signed <= sent.checkpoint || !due {
            return Ok(());
        }
        while sent.entries < signed {
            let until = sent.trying.map_or(signed, |trying| trying.min(signed));
            let (bytes, last) = lines(&self.audit.ledger_path(), sent, until)?;
            sent.trying = Some(last);
            progress.ledger = Some(LedgerSent { listed: false, ..sent });
            let first = sent.entries.saturating_add(1);
            let name = format!("ledger/{}/{first:020}-{last:020}.jsonl", self.gateway);
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.put(&name.parse()?, bytes).await?;
            sent.bytes = sent.bytes.saturating_add(length);
            (sent.entries, sent.trying) = (last, None);
        }
        progress.ledger = Some(LedgerSent { listed: false, ..sent });
        let name = format!("checkpoints/{}/{signed:020}", self.gateway).parse()?;
        self.put(&name, note.to_string().into()).await?;
        (sent.checkpoint, sent.at) = (signed, now);
        progress.ledger = Some(sent);
        Ok(())
    }

    /// How much of the ledger the store has, beyond what is known to be there. Each entry pins those
    /// before it, so it is the last segment that is held against the file.
    async fn stored_ledger(
        &self,
        known: LedgerSent,
        signed: u64,
    ) -> Result<LedgerSent, ArchiveError> {
        let mut sent = LedgerSent { listed: true, ..known };
        let folder = format!("ledger/{}", self.gateway);
        if let Some(last) = self.last(&folder, (known.entries, signed)).await? {
            let foreign = || ArchiveError::Foreign { what: last.name.to_string() };
            let (first, end) = entries_of(&last.name).ok_or_else(foreign)?;
            if end > sent.entries {
                let path = self.audit.ledger_path();
                let read = tokio::task::spawn_blocking(move || between(&path, first, end)).await;
                let (here, until) = read.map_err(io::Error::other)??;
                if self.storage.read(&last.name).await? != here {
                    return Err(foreign());
                }
                (sent.entries, sent.bytes, sent.trying) = (end, until, None);
            }
        }
        let folder = format!("checkpoints/{}", self.gateway);
        if let Some(last) = self.last(&folder, (known.checkpoint, signed)).await? {
            let number = last.name.as_str().rsplit('/').next().and_then(|name| name.parse().ok());
            let number = number.filter(|number| *number <= signed);
            let foreign = || ArchiveError::Foreign { what: last.name.to_string() };
            sent.checkpoint = number.ok_or_else(foreign)?;
        }
        Ok(sent)
    }

    /// The last object of a folder whose objects are named by entries. Most of them are known to be
    /// there: those are not listed.
    async fn last(
        &self,
        folder: &str,
        (known, signed): (u64, u64),
    ) -> Result<Option<Stored>, ArchiveError> {
        let under = folder.parse::<Name>()?;
        let mut back = LOOK_BACK_ENTRIES;
        loop {
            let from = signed.saturating_sub(back).max(known);
            let behind = format!("{folder}/{from:020}").parse::<Name>()?;
            let found = self.storage.last(&under, &behind).await?;
            if found.is_some() || from == known {
                return Ok(found);
            }
            back = back.saturating_mul(back);
        }
    }
}

/// Whole lines of the ledger behind `sent`, up to entry `until` at most, and the last one's number.
fn lines(path: &Path, sent: LedgerSent, until: u64) -> io::Result<(Bytes, u64)> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(sent.bytes))?;
    let mut reader = BufReader::new(file);
    let (mut bytes, mut last) = (Vec::new(), sent.entries);
    let full = usize::try_from(LEDGER_BYTES_MAX).unwrap_or(usize::MAX);
    while last < until && bytes.len() < full {
        if line(&mut reader, &mut bytes)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the ledger got shorter"));
        }
        last = last.saturating_add(1);
    }
    Ok((bytes.into(), last))
}

/// The lines of the ledger from entry `first` to entry `last`, and where the next begins.
fn between(path: &Path, first: u64, last: u64) -> io::Result<(Bytes, u64)> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut kept, mut skipped, mut at) = (Vec::new(), Vec::new(), 0_u64);
    for entry in 1..=last {
        skipped.clear();
        let into = if entry < first { &mut skipped } else { &mut kept };
        let length = line(&mut reader, into)?;
        if kept.len() > usize::try_from(OBJECT_BYTES_MAX).unwrap_or(usize::MAX) {
            let what = "the store has a segment of the ledger that is longer than any of ours";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        if length == 0 {
            let what = "the store has more of the ledger than this gateway: entries were lost here";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        at = at.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
    }
    Ok((kept.into(), at))
}

fn line(reader: &mut BufReader<File>, into: &mut Vec<u8>) -> io::Result<usize> {
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    Read::take(reader, limit).read_until(b'\n', into)
}
