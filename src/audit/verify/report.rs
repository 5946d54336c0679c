//! What verifying found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use crate::audit::chain::Damage;
use crate::audit::chain::Head;
use crate::audit::verify::Progress;
use crate::audit::verify::ledgers::Ledger;
use crate::model::SessionId;
use crate::model::digest::Digest;

/// Most problems that are told one by one; more are counted.
pub const PROBLEMS_MAX: usize = 10_000;
/// Most recordings that are excused one by one; more are counted.
pub const EXCUSED_MAX: usize = 10_000;
/// Most kinds of entries that are told one by one, of those that are not known.
const UNKNOWN_MAX: usize = 100;
/// Longest entry of a receipt that is shown, in bytes.
const ENTRY_BYTES_MAX: usize = 64 * 1024;
/// How many bytes are read before progress is told again.
const PROGRESS_BYTES: u64 = 4 * 1024 * 1024;

/// What verifying found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Nothing is wrong.
    pub sound: bool,
    /// How certain that is: of the ledger, or the receipt, of which it is least certain.
    pub assurance: Assurance,
    /// The ledgers.
    pub ledgers: Vec<LedgerReport>,
    /// How many recordings were checked.
    pub recordings: u64,
    /// How many entries they have in all.
    pub recording_entries: u64,
    /// How many recordings are not wholly in the store yet.
    pub behind: u64,
    /// How many recordings are where no files were given from on purpose: in the store, or in the spool.
    pub elsewhere: u64,
    /// How many recordings were erased, or their time was over, as the ledger says.
    pub gone: u64,
    /// The recordings that need not be among the files, up to [`EXCUSED_MAX`].
    pub excused: Vec<Excused>,
    /// How many there are beyond those.
    pub excused_more: u64,
    /// No recordings were given, so none was checked.
    pub ledger_only: bool,
    /// Kinds of entries that this version does not know, and how many there are of each. They are
    /// verified by their bytes; what they say is not.
    pub unknown: BTreeMap<String, u64>,
    /// The receipts.
    pub receipts: Vec<ReceiptReport>,
    /// Everything that is wrong, up to [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many problems there are beyond those.
    pub problems_more: u64,
}

/// How certain a sound record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assurance {
    /// Its parts fit each other, and nothing else is known: whoever has the gateway could have written
    /// it anew.
    Consistent,
    /// A key that is known from elsewhere has signed it: only whoever has that key could have written
    /// it anew, or cut off its end.
    Signed,
    /// It goes on from a checkpoint that was kept elsewhere: nothing before that was changed.
    Held,
}

/// One ledger.
#[derive(Debug, Serialize)]
pub struct LedgerReport {
    /// Its name in checkpoints, where it says so.
    pub origin: Option<String>,
    /// Its gateway, where it says so.
    pub gateway: Option<String>,
    /// Where it ends.
    pub head: Head,
    /// The root of its tree; `None` where entries are missing.
    pub root: Option<Digest>,
    /// How many checkpoints of it were compared with it.
    pub checkpoints: u64,
    /// How many of its entries are counted by checkpoints that its own key signed.
    pub checkpointed: u64,
    /// How many of its entries are counted by checkpoints that a key from elsewhere vouches for.
    pub signed: u64,
    /// How many of its entries are counted by checkpoints that were kept elsewhere.
    pub held: u64,
    /// How many entries at its end no checkpoint counts; where something is known from elsewhere, none
    /// that is believed: they excuse no recording.
    pub uncounted: u64,
}

impl LedgerReport {
    fn assurance(&self) -> Assurance {
        if self.held > 0 {
            Assurance::Held
        } else if self.signed > 0 {
            Assurance::Signed
        } else {
            Assurance::Consistent
        }
    }
}

/// One recording that need not be among the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Excused {
    /// The session.
    pub session: SessionId,
    /// Why.
    pub why: Excuse,
    /// The entry of the ledger that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
}

/// Why a recording need not be among the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Excuse {
    /// It was erased, or its time was over.
    Gone,
    /// It is in the store, which was left out on purpose.
    InTheStore,
    /// It is in the spool, which was left out on purpose.
    InTheSpool,
}

/// One receipt that proves what it says.
#[derive(Debug, Serialize)]
pub struct ReceiptReport {
    /// The file.
    pub file: PathBuf,
    /// The ledger.
    pub origin: String,
    /// The entry's number, from 1.
    pub number: u64,
    /// The entry; not if it is very long.
    pub entry: Option<String>,
    /// A key from elsewhere has signed its checkpoint.
    pub signed: bool,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The entry of the ledger or recording at which it was noticed, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// Where that begins in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte: Option<u64>,
    /// What.
    pub what: String,
}

impl Problem {
    pub(super) fn of(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), entry: None, byte: None, what: what.into() }
    }

    pub(super) fn at(file: &Path, entry: u64, byte: u64, what: impl Into<String>) -> Self {
        Self { entry: Some(entry), byte: Some(byte), ..Self::of(file, what) }
    }

    pub(super) fn damage(file: &Path, damage: Damage) -> Self {
        let Damage { entry, byte, what } = damage;
        Self::at(file, entry, byte, what)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        match (self.entry, self.byte) {
            (Some(entry), Some(byte)) => write!(f, "entry {entry} (byte {byte}): ")?,
            (Some(entry), None) => write!(f, "entry {entry}: ")?,
            (None, Some(byte)) => write!(f, "byte {byte}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.what)
    }
}

/// What was found so far.
pub(super) struct Findings<'a> {
    progress: &'a mut dyn FnMut(Progress),
    done: Progress,
    told: u64,
    problems: Vec<Problem>,
    more: u64,
    pub(super) recordings: u64,
    pub(super) recording_entries: u64,
    pub(super) behind: u64,
    elsewhere: u64,
    gone: u64,
    excused: Vec<Excused>,
    excused_more: u64,
    pub(super) ledger_only: bool,
    unknown: BTreeMap<String, u64>,
    pub(super) receipts: Vec<ReceiptReport>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(of: u64, progress: &'a mut dyn FnMut(Progress)) -> Self {
        Self {
            progress,
            done: Progress { bytes: 0, of },
            told: 0,
            problems: Vec::new(),
            more: 0,
            recordings: 0,
            recording_entries: 0,
            behind: 0,
            elsewhere: 0,
            gone: 0,
            excused: Vec::new(),
            excused_more: 0,
            ledger_only: false,
            unknown: BTreeMap::new(),
            receipts: Vec::new(),
        }
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// A recording need not be among the files, as `entry` of the ledger says.
    pub(super) fn excuse(&mut self, session: SessionId, why: Excuse, entry: Option<u64>) {
        let count = match why {
            Excuse::Gone => &mut self.gone,
            Excuse::InTheStore | Excuse::InTheSpool => &mut self.elsewhere,
        };
        *count = count.saturating_add(1);
        if self.excused.len() < EXCUSED_MAX {
            self.excused.push(Excused { session, why, entry });
        } else {
            self.excused_more = self.excused_more.saturating_add(1);
        }
    }

    /// An entry is of a kind that this version does not know.
    pub(super) fn unknown(&mut self, kind: String) {
        let kinds = self.unknown.len();
        let count = match self.unknown.get_mut(&kind) {
            Some(count) => count,
            None if kinds < UNKNOWN_MAX => self.unknown.entry(kind).or_default(),
            None => self.unknown.entry("others".to_owned()).or_default(),
        };
        *count = count.saturating_add(1);
    }

    /// Says that so many more bytes were read.
    pub(super) fn read(&mut self, bytes: u64) {
        self.done.bytes = self.done.bytes.saturating_add(bytes);
        if self.done.bytes >= self.told.saturating_add(PROGRESS_BYTES) {
            self.told = self.done.bytes;
            (self.progress)(self.done);
        }
    }

    pub(super) fn proved(&mut self, mut receipt: ReceiptReport) {
        receipt.entry = receipt.entry.filter(|entry| entry.len() <= ENTRY_BYTES_MAX);
        self.receipts.push(receipt);
    }

    pub(super) fn report(mut self, ledgers: Vec<Ledger>) -> Report {
        self.excused.sort_unstable();
        let ledgers = ledgers.into_iter().map(Ledger::report).collect::<Vec<_>>();
        let receipts = self
            .receipts
            .iter()
            .map(|receipt| if receipt.signed { Assurance::Signed } else { Assurance::Consistent });
        let all = ledgers.iter().map(LedgerReport::assurance).chain(receipts);
        Report {
            sound: self.problems.is_empty(),
            assurance: all.min().unwrap_or(Assurance::Consistent),
            ledgers,
            recordings: self.recordings,
            recording_entries: self.recording_entries,
            behind: self.behind,
            elsewhere: self.elsewhere,
            gone: self.gone,
            excused: self.excused,
            excused_more: self.excused_more,
            ledger_only: self.ledger_only,
            unknown: self.unknown,
            receipts: self.receipts,
            problems: self.problems,
            problems_more: self.more,
        }
    }
}
