//! Verifying a record offline: with files alone, from anywhere, and a checkpoint where one was kept.
//!
//! ```text
//! files ──▶ given ──▶ ledger files ──▶ walk ──▶ ledgers ◀── checkpoints, in step with the entries
//!             │                                   │
//!             │                                   ▼ what it says of recordings
//!             └─────▶ recordings ──────────────▶ pins
//! ```
//!
//! - The chain shows any changed, removed or reordered entry but the removal of its own tail.
//! - A checkpoint shows the whole beginning that it counts. One that the gateway kept beside its
//!   ledger could be lost with the tail; one that was kept elsewhere could not.
//! - Heads of recordings stand in the ledger, so a recording is as certain as the ledger is.
//! - What excuses a recording (it was erased, the store has it, a crash cut it) counts only where a
//!   checkpoint that is believed counts the entry that says so; and it is listed.
//!
//! Without a checkpoint kept elsewhere, or at least a key that is known from elsewhere, the best that
//! can be said is [`Assurance::Consistent`]: whoever has the gateway can write all of it anew.
//!
//! Memory is bounded: files are read in step, and where a ledger says more of recordings than
//! [`PINS_MAX`], it is read in several rounds. Nothing is written, nobody is asked.

mod checkpoints;
mod given;
mod ledgers;
mod pins;
pub(in crate::audit) mod reading;
mod receipts;
mod recordings;
mod report;
mod walk;

pub use given::FILES_MAX;
pub use pins::PINS_MAX;
pub use report::Assurance;
pub use report::EXCUSED_MAX;
pub use report::Excuse;
pub use report::Excused;
pub use report::LedgerReport;
pub use report::PROBLEMS_MAX;
pub use report::Problem;
pub use report::ReceiptReport;
pub use report::Report;

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::audit::note::NoteError;
use crate::audit::note::Verifier;
use crate::audit::verify::given::Given;
use crate::audit::verify::ledgers::Ledgers;
use crate::audit::verify::pins::Pins;
use crate::audit::verify::report::Findings;

/// What is to be verified, and what is known from elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Ledger files, checkpoints, recordings and receipts, and folders with them.
    pub files: Vec<PathBuf>,
    /// Checkpoints that were kept elsewhere.
    pub held: Vec<PathBuf>,
    /// The public keys of the ledgers, as somebody who is trusted told them. Without any, the keys that
    /// a ledger itself names are taken, which proves only that it is consistent.
    pub keys: Vec<Verifier>,
    /// What is not among the files on purpose.
    pub without: Without,
}

/// What of a record is not among the files on purpose. Nobody but who gives them can say so: an empty
/// folder looks the same whoever emptied it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Without {
    /// The region's store.
    pub store: bool,
    /// The gateway's spool.
    pub spool: bool,
}

/// Why verifying could not be done, which says nothing about the record.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file or a folder cannot be read.
    #[error("{} cannot be read", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that was named is nothing of a record.
    #[error(
        "{} is neither a ledger nor a checkpoint, a recording or a receipt", _0.display()
    )]
    Unknown(PathBuf),
    /// In the folders that were named is nothing of a record.
    #[error("there is neither a ledger nor a checkpoint, a recording or a receipt")]
    Nothing,
    /// There are more files than can be verified at once.
    #[error("there are more than {FILES_MAX} files: verify them in parts")]
    TooMany,
    /// What should be a checkpoint that was kept elsewhere is none.
    #[error("{} is no checkpoint", path.display())]
    Held {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: NoteError,
    },
}

impl VerifyError {
    /// A file that was there is there no more.
    fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// How far verifying has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many bytes were read.
    pub bytes: u64,
    /// How many there are to read, as far as is known.
    pub of: u64,
}

/// Verifies what is given, and says everything that is wrong with it; `progress` is told now and then.
pub fn verify(
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, VerifyError> {
    verify_within(options, PINS_MAX, progress)
}

/// [`verify`], with so many pins in memory.
fn verify_within(
    options: &Options,
    pins_max: usize,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, VerifyError> {
    let given = Given::find(options)?;
    let mut findings = Findings::new(given.bytes, progress);
    let receipts = receipts::read(&given.receipts, &mut findings)?;
    let pins = Pins::within(pins_max);
    let mut ledgers = Ledgers::new(options, &given, &receipts, pins, &mut findings)?;
    walk::walk(&given.ledger, &mut ledgers)?;
    let (ledgers, pins) = ledgers.finish()?;
    receipts::judge(&receipts, &ledgers, &options.keys, &mut findings);
    recordings::stray(&given, &mut findings)?;
    given.judge(&mut findings);
    // Without a ledger nobody knows which recordings there should be.
    let known = !given.ledger.is_empty();
    for mut turn in pins.rounds() {
        let pins = turn.pins(&given.ledger, &ledgers, &mut findings)?;
        recordings::verify(&given, known.then_some(&pins), &turn, &ledgers, &mut findings)?;
    }
    Ok(findings.report(ledgers))
}

#[cfg(test)]
mod tests;
