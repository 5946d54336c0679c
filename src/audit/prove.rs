//! Makes receipts: finds an entry in ledger files, and proves that the latest checkpoint counts it.

use std::path::Path;
use std::path::PathBuf;

use crate::audit::LedgerEvent;
use crate::audit::note::SignedNote;
use crate::audit::proof::Receipt;
use crate::audit::proof::ReceiptError;
use crate::audit::tree;
use crate::audit::tree::Prover;
use crate::audit::verify::VerifyError;
use crate::audit::verify::reading;
use crate::audit::verify::reading::Entry;
use crate::model::HoldId;
use crate::model::SessionId;

/// Which entry is to be proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The one with this number, from 1.
    Number(u64),
    /// The admission of this session.
    Admission(SessionId),
    /// The end of this session, which names the end of its recording and so all of it.
    End(SessionId),
    /// How this hold ended, or, if it waits, that it was made.
    Hold(HoldId),
}

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The files cannot be read.
    #[error(transparent)]
    Files(#[from] VerifyError),
    /// No entry is the wanted one.
    #[error("the ledger has no such entry")]
    NoEntry,
    /// No checkpoint could be signed.
    #[error("no checkpoint could be signed")]
    Checkpoint(#[source] std::io::Error),
    /// There is no checkpoint among the files.
    #[error("there is no checkpoint of the ledger")]
    NoCheckpoint,
    /// No checkpoint counts the entry yet.
    #[error(
        "entry {number} is not counted by a checkpoint yet (the latest counts {size}): one is signed \
         every 10 s"
    )]
    NotYet {
        /// The entry's number.
        number: u64,
        /// How many entries the latest checkpoint counts.
        size: u64,
    },
    /// The ledger's files do not fit their checkpoint, or entries are missing.
    #[error("the files do not prove it: run `weir audit verify`")]
    Damaged(#[source] Option<ReceiptError>),
}

impl Wanted {
    /// Reads a number, a session's or a hold's id; `end` asks for the end of a session.
    pub fn read(id: &str, end: bool) -> Option<Self> {
        if let Ok(session) = id.parse::<SessionId>() {
            return Some(if end { Self::End(session) } else { Self::Admission(session) });
        }
        if let Ok(hold) = id.parse::<HoldId>() {
            return Some(Self::Hold(hold));
        }
        id.parse::<u64>().ok().filter(|number| *number > 0).map(Self::Number)
    }

    fn is(&self, entry: &Entry) -> bool {
        let event = &entry.line.event;
        match self {
            Self::Number(number) => entry.line.n == *number,
            Self::Admission(wanted) => {
                matches!(event, LedgerEvent::Admitted(opened) if opened.session == *wanted)
            }
            Self::End(wanted) => {
                let (LedgerEvent::TrailClosed { session, .. }
                | LedgerEvent::TrailRecovered { session, .. }) = event
                else {
                    return false;
                };
                *session == *wanted
            }
            Self::Hold(wanted) => {
                let (LedgerEvent::Held { hold, .. } | LedgerEvent::HoldEnded { hold, .. }) = event
                else {
                    return false;
                };
                *hold == *wanted
            }
        }
    }
}

/// The receipt of the wanted entry, from one ledger's files and its checkpoints, or from folders with
/// them.
pub fn receipt(files: &[PathBuf], wanted: &Wanted) -> Result<Receipt, ProveError> {
    let found = reading::ledger_and_checkpoints(files)?;
    let checkpoint = latest(&found.checkpoints)?.ok_or(ProveError::NoCheckpoint)?;
    let Ok(counted) = checkpoint.checkpoint() else { return Err(ProveError::NoCheckpoint) };
    let mut entry = None;
    reading::entries(&found.ledger, |read| {
        if wanted.is(read) {
            entry = Some((read.line.n, read.text.clone()));
        }
    })?;
    let (number, text) = entry.ok_or(ProveError::NoEntry)?;
    let index = number.saturating_sub(1);
    let prover = Prover::inclusion(index, counted.size);
    let mut prover = prover.ok_or(ProveError::NotYet { number, size: counted.size })?;
    reading::entries(&found.ledger, |read| {
        if read.line.n <= counted.size {
            prover.push(tree::leaf(&read.text));
        }
    })?;
    let proof = prover.finish().ok_or(ProveError::Damaged(None))?;
    let receipt = Receipt::new(text, index, proof, checkpoint);
    receipt.map_err(|error| ProveError::Damaged(Some(error)))
}

/// The latest checkpoint of a ledger's files, or of folders with them.
pub fn latest_checkpoint(files: &[PathBuf]) -> Result<Option<SignedNote>, VerifyError> {
    latest(&reading::ledger_and_checkpoints(files)?.checkpoints)
}

fn latest(files: &[PathBuf]) -> Result<Option<SignedNote>, VerifyError> {
    let mut latest = None::<(u64, SignedNote)>;
    reading::checkpoints(files, |size, note| {
        if latest.as_ref().is_none_or(|(most, _)| size >= *most) {
            latest = Some((size, note.clone()));
        }
    })?;
    Ok(latest.map(|(_, note)| note))
}

/// The files of the ledger whose current file is `path`: it, those before it, and its checkpoints.
pub fn files_beside(path: &Path) -> Vec<PathBuf> {
    let dir = path.parent().unwrap_or(path);
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ours = name.starts_with("ledger") || name.starts_with("checkpoints");
        ours && path.extension().is_some_and(|extension| extension == "jsonl")
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files = entries.map(|entry| entry.path()).filter(ours).collect::<Vec<_>>();
    files.sort();
    files
}
