//! Reads ledger files in step, entry by entry: files may follow one another, overlap, be copies of
//! each other, or belong to several gateways.
//!
//! All that is kept of a ledger is where it stands. A file belongs to the ledger whose last entry its
//! first one follows. Two different entries that follow the same one are a fork.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;

use crate::audit::LedgerEvent;
use crate::audit::chain::Damage;
use crate::audit::chain::Head;
use crate::audit::chain::LINE_BYTES_MAX;
use crate::audit::chain::Line;
use crate::audit::verify::Problem;
use crate::audit::verify::VerifyError;
use crate::model::digest::Digest;

/// Is told what is in the files.
pub(super) trait Visit {
    /// A ledger begins, in `file`; its first entry has this `prev`.
    fn begin(&mut self, file: &Path, prev: Digest);
    /// The next entry of a ledger, the first of which is 0.
    fn entry(&mut self, ledger: usize, entry: &Entry);
    /// Entries of a ledger are missing.
    fn broken(&mut self, ledger: usize);
    /// Every ledger that has an entry with this number has been told it.
    fn counted(&mut self, number: u64) -> Result<(), VerifyError>;
    /// Something is wrong.
    fn problem(&mut self, problem: Problem);
    /// So many more bytes were read.
    fn read(&mut self, bytes: u64);
}

/// An entry, and where it stands.
#[derive(Debug)]
pub(in crate::audit) struct Entry {
    pub(in crate::audit) line: Line<LedgerEvent>,
    /// The line, without line feed.
    pub(in crate::audit) text: Vec<u8>,
    /// The digest of the line.
    pub(in crate::audit) digest: Digest,
    /// Where it begins, in bytes.
    pub(super) byte: u64,
}

impl Entry {
    /// What kind of entry it says to be.
    pub(super) fn kind(&self) -> String {
        #[derive(Deserialize)]
        struct Said {
            event: Kind,
        }
        #[derive(Deserialize)]
        struct Kind {
            is: String,
        }
        serde_json::from_slice::<Said>(&self.text).map(|said| said.event.is).unwrap_or_default()
    }
}

/// A file that is being read.
struct Piece {
    path: PathBuf,
    reader: BufReader<File>,
    /// Where what was not read yet begins.
    byte: u64,
    /// The number of the entry that was read last; 0: none.
    last: u64,
    /// The entry that is next.
    entry: Option<Entry>,
    /// To which ledger it belongs, once that is known.
    strand: Option<usize>,
}

/// What is known of a ledger.
struct Strand {
    /// Where it stands.
    head: Head,
    /// What comes next, and where that was read.
    next: Option<(Digest, PathBuf)>,
}

/// Reads ledger files.
pub(super) fn walk(files: &[PathBuf], visit: &mut impl Visit) -> Result<(), VerifyError> {
    let mut waiting = waiting(files, visit)?;
    let mut open = Vec::<Piece>::new();
    let mut strands = Vec::<Strand>::new();
    loop {
        let next = open.iter().filter_map(Piece::number).min();
        let first = waiting.last().map(|(first, _)| *first);
        let Some(number) = next.into_iter().chain(first).min() else { return Ok(()) };
        while waiting.last().is_some_and(|(first, _)| *first == number) {
            let Some((_, path)) = waiting.pop() else { break };
            open.extend(begun(&path)?.ok());
        }
        let mut kept = Vec::with_capacity(open.len());
        for mut piece in open {
            if piece.number() != Some(number) || piece.step(&mut strands, visit)? {
                kept.push(piece);
            }
        }
        open = kept;
        for strand in &mut strands {
            if let Some((digest, _)) = strand.next.take() {
                strand.head = Head { entries: number, digest };
            }
        }
        visit.counted(number)?;
    }
}

/// The files by the number of their first entry, the last one first.
fn waiting(files: &[PathBuf], visit: &mut impl Visit) -> Result<Vec<(u64, PathBuf)>, VerifyError> {
    let mut waiting = Vec::new();
    for path in files {
        match begun(path)? {
            Ok(piece) => waiting.extend(piece.number().map(|first| (first, path.clone()))),
            Err(damage) => visit.problem(Problem::damage(path, damage)),
        }
    }
    waiting.sort_by(|one, other| other.cmp(one));
    Ok(waiting)
}

/// Opens a file and reads its first entry.
fn begun(path: &Path) -> Result<Result<Piece, Damage>, VerifyError> {
    let file = File::open(path).map_err(VerifyError::io(path))?;
    let reader = BufReader::with_capacity(256 * 1024, file);
    let mut piece =
        Piece { path: path.to_owned(), reader, byte: 0, last: 0, entry: None, strand: None };
    Ok(match piece.advance().map_err(VerifyError::io(path))? {
        Ok(_) => Ok(piece),
        Err(damage) => Err(damage),
    })
}

impl Piece {
    fn number(&self) -> Option<u64> {
        self.entry.as_ref().map(|entry| entry.line.n)
    }

    /// Tells the entry that is next, and reads on. `false`: nothing more can be read of the file.
    fn step(
        &mut self,
        strands: &mut Vec<Strand>,
        visit: &mut impl Visit,
    ) -> Result<bool, VerifyError> {
        let Some(entry) = self.entry.take() else { return Ok(false) };
        visit.read(u64::try_from(entry.text.len()).unwrap_or(u64::MAX).saturating_add(1));
        let placed = match self.strand {
            Some(at) => Ok(at),
            None => self.place(&entry, strands, visit),
        };
        let told = placed.and_then(|at| {
            self.strand = Some(at);
            let Some(strand) = strands.get_mut(at) else { return Ok(()) };
            if strand.follow(&entry, &self.path)? {
                visit.entry(at, &entry);
            }
            Ok(())
        });
        if let Err(what) = told {
            visit.problem(Problem::at(&self.path, entry.line.n, entry.byte, what));
            return Ok(false);
        }
        match self.advance().map_err(VerifyError::io(&self.path))? {
            Ok(more) => Ok(more),
            Err(damage) => {
                visit.problem(Problem::damage(&self.path, damage));
                Ok(false)
            }
        }
    }

    /// To which ledger the file belongs, told by its first entry.
    fn place(
        &self,
        entry: &Entry,
        strands: &mut Vec<Strand>,
        visit: &mut impl Visit,
    ) -> Result<usize, String> {
        let Line { n, prev, .. } = entry.line;
        let before = Head { entries: n.saturating_sub(1), digest: prev };
        if let Some(at) = strands.iter().position(|strand| strand.head == before) {
            return Ok(at);
        }
        if n > 1 && strands.iter().any(|strand| strand.head.entries == before.entries) {
            return Err(
                "it follows from no entry before it: one of the two was changed, or they are of two \
                 gateways"
                    .to_owned(),
            );
        }
        let gap = |from: u64| {
            let what = format!("entries {from} to {} are missing", before.entries);
            Problem::at(&self.path, n, entry.byte, what)
        };
        match strands.as_mut_slice() {
            [only] if n > 1 => {
                visit.problem(gap(only.head.entries.saturating_add(1)));
                only.head = before;
                visit.broken(0);
                Ok(0)
            }
            _ => {
                let at = strands.len();
                strands.push(Strand { head: before, next: None });
                visit.begin(&self.path, prev);
                if n > 1 {
                    visit.problem(gap(1));
                    visit.broken(at);
                }
                Ok(at)
            }
        }
    }

    /// Reads the next entry; `false` at the end.
    fn advance(&mut self) -> io::Result<Result<bool, Damage>> {
        let mut text = Vec::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let length = io::Read::take(&mut self.reader, limit).read_until(b'\n', &mut text)?;
        if length == 0 {
            return Ok(Ok(false));
        }
        let byte = self.byte;
        let before = self.last;
        let damage = |what: String| Damage { entry: before.saturating_add(1), byte, what };
        if text.pop() != Some(b'\n') {
            return Ok(Err(damage("the last entry is cut off".to_owned())));
        }
        let line = match serde_json::from_slice::<Line<LedgerEvent>>(&text) {
            Ok(line) => line,
            Err(error) => {
                return Ok(Err(damage(format!("this is no entry of a ledger ({error})"))));
            }
        };
        if before > 0 && line.n != before.saturating_add(1) || line.n == 0 {
            return Ok(Err(damage(format!(
                "entry {} stands where entry {} should: entries were removed, added or reordered",
                line.n,
                before.saturating_add(1)
            ))));
        }
        self.byte = byte.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        self.last = line.n;
        let digest = Digest::of(&text);
        self.entry = Some(Entry { line, text, digest, byte });
        Ok(Ok(true))
    }
}

impl Strand {
    /// Whether `entry`, read in `path`, is a fresh one; else it is one that another file has as well.
    fn follow(&mut self, entry: &Entry, path: &Path) -> Result<bool, String> {
        if entry.line.prev != self.head.digest {
            return Err(
                "it does not follow from the entry before: one of the two was changed".into()
            );
        }
        match &self.next {
            None => {
                self.next = Some((entry.digest, path.to_owned()));
                Ok(true)
            }
            Some((digest, _)) if *digest == entry.digest => Ok(false),
            Some((_, other)) => Err(format!(
                "there are two different entries with this number, here and in {}: the ledger was \
                 forked, and nothing behind this is read here",
                other.display()
            )),
        }
    }
}
