//! Reading ledgers and checkpoints for whoever makes something of them, without judging them.

use std::path::Path;
use std::path::PathBuf;

use crate::audit::note::SignedNote;
use crate::audit::verify::Options;
use crate::audit::verify::Problem;
use crate::audit::verify::VerifyError;
use crate::audit::verify::checkpoints::Checkpoints;
use crate::audit::verify::given::Given;
use crate::audit::verify::report::Findings;
use crate::audit::verify::walk;
use crate::audit::verify::walk::Visit;
use crate::model::digest::Digest;

pub(in crate::audit) use crate::audit::verify::walk::Entry;

/// The files of a ledger.
#[derive(Debug)]
pub(in crate::audit) struct Files {
    /// Those with its entries.
    pub(in crate::audit) ledger: Vec<PathBuf>,
    /// Those with its checkpoints.
    pub(in crate::audit) checkpoints: Vec<PathBuf>,
}

/// Finds a ledger's files among `files`, and in folders.
pub(in crate::audit) fn ledger_and_checkpoints(files: &[PathBuf]) -> Result<Files, VerifyError> {
    let options = Options { files: files.to_vec(), ..Options::default() };
    let Given { ledger, checkpoints, .. } = Given::find(&options)?;
    let checkpoints = checkpoints.into_iter().map(|(path, _)| path).collect();
    Ok(Files { ledger, checkpoints })
}

/// Gives each entry that can be read to `each`.
pub(in crate::audit) fn entries(
    files: &[PathBuf],
    each: impl FnMut(&Entry),
) -> Result<(), VerifyError> {
    walk::walk(files, &mut Each(each))
}

/// Gives each entry of a single ledger to `each`, and whatever is wrong with its chain to `problem`.
/// The number of ledgers that there are.
pub(in crate::audit) fn entries_and_problems(
    files: &[PathBuf],
    each: impl FnMut(&Entry),
    problem: impl FnMut(Problem),
) -> Result<usize, VerifyError> {
    let mut strict = Strict { each, problem, ledgers: 0 };
    walk::walk(files, &mut strict)?;
    Ok(strict.ledgers)
}

struct Strict<F, P> {
    each: F,
    problem: P,
    ledgers: usize,
}

impl<F: FnMut(&Entry), P: FnMut(Problem)> Visit for Strict<F, P> {
    fn begin(&mut self, _file: &Path, _prev: Digest) {
        self.ledgers = self.ledgers.saturating_add(1);
    }

    fn entry(&mut self, ledger: usize, entry: &Entry) {
        if ledger == 0 {
            (self.each)(entry);
        }
    }

    fn broken(&mut self, _ledger: usize) {}

    fn counted(&mut self, _number: u64) -> Result<(), VerifyError> {
        Ok(())
    }

    fn problem(&mut self, problem: Problem) {
        (self.problem)(problem);
    }

    fn read(&mut self, _bytes: u64) {}
}

struct Each<F>(F);

impl<F: FnMut(&Entry)> Visit for Each<F> {
    fn begin(&mut self, _file: &Path, _prev: Digest) {}

    fn entry(&mut self, _ledger: usize, entry: &Entry) {
        (self.0)(entry);
    }

    fn broken(&mut self, _ledger: usize) {}

    fn counted(&mut self, _number: u64) -> Result<(), VerifyError> {
        Ok(())
    }

    fn problem(&mut self, _problem: Problem) {}

    fn read(&mut self, _bytes: u64) {}
}

/// Gives each checkpoint that can be read to `each`, with how many entries it counts.
pub(in crate::audit) fn checkpoints(
    files: &[PathBuf],
    mut each: impl FnMut(u64, &SignedNote),
) -> Result<(), VerifyError> {
    let mut nobody = |_| {};
    let mut findings = Findings::new(0, &mut nobody);
    let files = files.iter().map(|path| (path.clone(), false)).collect::<Vec<_>>();
    let mut all = Checkpoints::open(&files, &[], &mut findings)?;
    while let Some(found) = all.next_until(u64::MAX, &mut findings)? {
        each(found.checkpoint.size, &found.note);
    }
    Ok(())
}
