//! Checkpoints, read in the order of the entries that they count, so that each meets the tree when it
//! has grown to its size.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Take;
use std::path::Path;
use std::path::PathBuf;

use crate::audit::ledger::Signed;
use crate::audit::note::Checkpoint;
use crate::audit::note::NOTE_BYTES_MAX;
use crate::audit::note::NoteError;
use crate::audit::note::SignedNote;
use crate::audit::verify::Problem;
use crate::audit::verify::VerifyError;
use crate::audit::verify::receipts::Read as Receipt;
use crate::audit::verify::report::Findings;

/// Longest line with a checkpoint, in bytes: a note, escaped.
const LINE_BYTES_MAX: u64 = 256 * 1024;

/// A checkpoint, and where it stands.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: PathBuf,
    pub(super) byte: Option<u64>,
    /// It was kept elsewhere.
    pub(super) held: bool,
    /// It is a receipt's.
    pub(super) of_receipt: bool,
    pub(super) note: SignedNote,
    pub(super) checkpoint: Checkpoint,
}

impl Found {
    fn of_receipt(Receipt { file, receipt, checkpoint }: &Receipt) -> Self {
        Self {
            file: file.clone(),
            byte: None,
            held: false,
            of_receipt: true,
            note: receipt.note().clone(),
            checkpoint: checkpoint.clone(),
        }
    }

    /// Something is wrong with it, or with what it counts.
    pub(super) fn problem(&self, what: impl Into<String>) -> Problem {
        Problem { byte: self.byte, ..Problem::of(&self.file, what) }
    }
}

/// All checkpoints that were given.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Files of one note each, by size. They are read again when it is their turn.
    notes: BTreeMap<(u64, PathBuf), bool>,
    /// Files of many.
    lines: Vec<Lines>,
    /// Those of receipts, the largest first. Where they lie tells nothing of who kept them.
    receipts: Vec<Found>,
}

/// A file with a checkpoint in each line, as gateways keep them.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    held: bool,
    /// What comes behind the length that the file has now may count entries that are read no more.
    reader: BufReader<Take<File>>,
    byte: u64,
    next: Option<Found>,
    size: u64,
}

impl Checkpoints {
    pub(super) fn open(
        files: &[(PathBuf, bool)],
        receipts: &[Receipt],
        findings: &mut Findings<'_>,
    ) -> Result<Self, VerifyError> {
        let mut receipts = receipts.iter().map(Found::of_receipt).collect::<Vec<_>>();
        receipts.sort_by_key(|found| Reverse(found.checkpoint.size));
        let mut all = Self { notes: BTreeMap::new(), lines: Vec::new(), receipts };
        for (path, held) in files {
            let file = File::open(path).map_err(VerifyError::io(path))?;
            let length = file.metadata().map_err(VerifyError::io(path))?.len();
            let mut reader = BufReader::new(file.take(length));
            let begins = reader.fill_buf().map_err(VerifyError::io(path))?;
            if begins.first() == Some(&b'{') || path.extension().is_some_and(|e| e == "jsonl") {
                let (path, held) = (path.clone(), *held);
                let mut lines = Lines { path, held, reader, byte: 0, next: None, size: 0 };
                lines.advance(findings)?;
                if lines.held && lines.next.is_none() {
                    let (path, source) =
                        (lines.path, NoteError::NoNote("it has none that is read"));
                    return Err(VerifyError::Held { path, source });
                }
                all.lines.push(lines);
                continue;
            }
            match note(path)? {
                Ok(found) => {
                    all.notes.insert((found.checkpoint.size, path.clone()), *held);
                }
                Err(source) if *held => {
                    return Err(VerifyError::Held { path: path.clone(), source });
                }
                Err(error) => findings.problem(Problem::of(path, error.to_string())),
            }
        }
        Ok(all)
    }

    /// The next checkpoint of at most `size` entries.
    pub(super) fn next_until(
        &mut self,
        size: u64,
        findings: &mut Findings<'_>,
    ) -> Result<Option<Found>, VerifyError> {
        for lines in &mut self.lines {
            if lines.next.as_ref().is_some_and(|found| found.checkpoint.size <= size) {
                let found = lines.next.take();
                lines.advance(findings)?;
                return Ok(found);
            }
        }
        if self.receipts.last().is_some_and(|found| found.checkpoint.size <= size) {
            return Ok(self.receipts.pop());
        }
        let due = self.notes.first_entry().filter(|first| first.key().0 <= size);
        let Some(((_, path), held)) = due.map(OccupiedEntry::remove_entry) else {
            return Ok(None);
        };
        let again = note(&path)?.map(|found| Found { held, ..found });
        again.map(Some).map_err(|source| VerifyError::Held { path, source })
    }
}

impl Lines {
    fn advance(&mut self, findings: &mut Findings<'_>) -> Result<(), VerifyError> {
        let (byte, path) = (self.byte, self.path.clone());
        let mut line = Vec::new();
        let read = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let length = u64::try_from(read.map_err(VerifyError::io(&path))?).unwrap_or(u64::MAX);
        if length == 0 {
            return Ok(());
        }
        self.byte = byte.saturating_add(length);
        findings.read(length);
        match read_line(&line) {
            Ok((note, checkpoint)) if checkpoint.size > self.size => {
                self.size = checkpoint.size;
                let (file, byte, held) = (path, Some(byte), self.held);
                self.next = Some(Found { file, byte, held, of_receipt: false, note, checkpoint });
            }
            Ok(_) => {
                let what = "a checkpoint counts no more entries than the one before: they were \
                            reordered or changed, and nothing behind this is read";
                findings.problem(Problem { byte: Some(byte), ..Problem::of(&path, what) });
            }
            Err(what) => {
                let what = format!("{what}; nothing behind this is read");
                findings.problem(Problem { byte: Some(byte), ..Problem::of(&path, what) });
            }
        }
        Ok(())
    }
}

fn read_line(line: &[u8]) -> Result<(SignedNote, Checkpoint), String> {
    let Some(text) = line.strip_suffix(b"\n") else {
        return Err("the last checkpoint is cut off".to_owned());
    };
    let signed = serde_json::from_slice::<Signed>(text)
        .map_err(|error| format!("this is no line with a checkpoint ({error})"))?;
    let note = signed.note.parse::<SignedNote>().map_err(|error| error.to_string())?;
    let checkpoint = note.checkpoint().map_err(|error| error.to_string())?;
    Ok((note, checkpoint))
}

/// Reads a file that is one note.
fn note(path: &Path) -> Result<Result<Found, NoteError>, VerifyError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(NOTE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let file = File::open(path).map_err(VerifyError::io(path))?;
    file.take(limit).read_to_end(&mut bytes).map_err(VerifyError::io(path))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| NoteError::NoNote("it is no text"));
    let note = text.and_then(str::parse::<SignedNote>);
    Ok(note.and_then(|note| {
        let checkpoint = note.checkpoint()?;
        let file = path.to_owned();
        Ok(Found { file, byte: None, held: false, of_receipt: false, note, checkpoint })
    }))
}
