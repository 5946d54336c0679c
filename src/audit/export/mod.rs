//! What an auditor gets out of a ledger: its transfers, its entries as they stand, and a statement of
//! what was read.
//!
//! ```text
//! ledger files ─ walk, checked ─▶ entries ─▶ Transfers ─▶ Transfer (a row)
//!                                        └─▶ Statement: entries N to M, no gap, and the checkpoint
//! ```
//!
//! Entries in, rows out: nothing but the entries decides what a row says. A ledger that is damaged
//! gives no export.

mod csv;
mod statement;
#[cfg(test)]
mod tests;
mod transfers;
mod which;

pub use csv::CSV_HEAD;
pub use csv::entry_csv;
pub use csv::transfer_csv;
pub use statement::Covered;
pub use statement::Statement;
pub use transfers::Approval;
pub use transfers::State;
pub use transfers::Transfer;
pub use transfers::Transfers;
pub use which::Names;
pub use which::Which;

use std::cell::Cell;
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::LedgerEvent;
use crate::audit::chain::Line;
use crate::audit::export::statement::Taker;
use crate::audit::note::SignedNote;
use crate::audit::prove;
use crate::audit::verify;
use crate::audit::verify::VerifyError;
use crate::audit::verify::reading;

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file cannot be read, or is nothing of a ledger.
    #[error(transparent)]
    Files(#[from] VerifyError),
    /// There are several ledgers.
    #[error("there are {0} ledgers among the files: name those of one gateway")]
    Several(usize),
    /// There is no entry.
    #[error("there is no entry of a ledger")]
    Nothing,
    /// The ledger is damaged.
    #[error("the ledger is damaged, so nothing is said about it: {0}")]
    Damaged(String),
}

/// From when to when; what is left out is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its first moment.
    pub from: Option<Timestamp>,
    /// The first moment behind it.
    pub to: Option<Timestamp>,
}

impl Window {
    /// Whether a moment is in it.
    pub fn has(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to)
    }

    /// Whether something that began and ended then, or goes on, touches it.
    pub fn touches(&self, began: Timestamp, ended: Option<Timestamp>) -> bool {
        let late = self.from.is_some_and(|from| ended.is_some_and(|ended| ended < from));
        !late && self.to.is_none_or(|to| began < to)
    }
}

/// An entry as it stands in its file.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    /// The entry.
    pub line: &'a Line<LedgerEvent>,
    /// Its line, without the line feed.
    pub text: &'a [u8],
}

/// Reads a ledger's files, or those in folders, and gives every entry up to number `upto` to `each`,
/// in order. The chain and the tree are checked on the way; damage behind `upto` is none, because a
/// gateway may be writing there.
pub fn read(
    files: &[PathBuf],
    upto: u64,
    window: Window,
    mut each: impl FnMut(Raw<'_>),
) -> Result<Statement, ExportError> {
    let found = reading::ledger_and_checkpoints(files)?;
    let latest = latest(&found.checkpoints, upto)?;
    let mut taker = Taker::new(window, latest);
    let mut problem = None;
    let last = Cell::new(0_u64);
    let ledgers = reading::entries_and_problems(
        &found.ledger,
        |entry| {
            if entry.line.n <= upto {
                taker.take(entry);
                each(Raw { line: &entry.line, text: &entry.text });
            }
            last.set(entry.line.n);
        },
        |found| {
            if last.get() < upto {
                problem.get_or_insert_with(|| found.to_string());
            }
        },
    )?;
    match (problem, ledgers) {
        (Some(problem), _) => Err(ExportError::Damaged(problem)),
        (None, 0) => Err(ExportError::Nothing),
        (None, 1) => taker.finish().map_err(ExportError::Damaged),
        (None, several) => Err(ExportError::Several(several)),
    }
}

/// Verifies a ledger's files as far as they go, signatures of checkpoints included; what is wrong.
pub fn check(files: &[PathBuf]) -> Result<(), ExportError> {
    let found = reading::ledger_and_checkpoints(files)?;
    let files = found.ledger.into_iter().chain(found.checkpoints).collect();
    let options = verify::Options { files, ..verify::Options::default() };
    let report = verify::verify(&options, &mut |_| {})?;
    match report.problems.first() {
        Some(problem) => Err(ExportError::Damaged(problem.to_string())),
        None => Ok(()),
    }
}

/// The latest checkpoint that counts at most `upto` entries.
fn latest(files: &[PathBuf], upto: u64) -> Result<Option<SignedNote>, VerifyError> {
    let mut latest = None::<(u64, SignedNote)>;
    reading::checkpoints(files, |size, note| {
        if size <= upto && latest.as_ref().is_none_or(|(most, _)| size >= *most) {
            latest = Some((size, note.clone()));
        }
    })?;
    Ok(latest.map(|(_, note)| note))
}

/// The files of the ledger whose current file is `path`.
pub fn files_beside(path: &Path) -> Vec<PathBuf> {
    prove::files_beside(path)
}
