//! `weir audit verify`: with the files alone.

use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

use serde_json::json;

use crate::audit::chain::Head;
use crate::audit::verify;
use crate::cli::print;

/// A head of the ledger that was kept elsewhere: `N:DIGEST`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checkpoint(Head);

impl FromStr for Checkpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected N:DIGEST, as `weir audit verify` prints it".to_owned();
        let (entries, digest) = text.split_once(':').ok_or_else(expected)?;
        let entries = entries.parse().map_err(|_| expected())?;
        let digest = digest.parse().map_err(|_| expected())?;
        Ok(Self(Head { entries, digest }))
    }
}

/// Verifies the record in `dir` and says what is wrong with it.
pub(super) fn verify(
    dir: &Path,
    gateway: Option<String>,
    checkpoint: Option<Checkpoint>,
    as_json: bool,
) -> ExitCode {
    let gateway = gateway.map_or_else(|| verify::gateway_of(dir), Ok);
    let report = gateway.and_then(|id| verify::verify(dir, &id, checkpoint.map(|c| c.0)));
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            print::complain(&format!("the record in {} cannot be read: {error}", dir.display()));
            return ExitCode::from(2);
        }
    };
    let head = format!("{}:{}", report.ledger.entries, report.ledger.digest);
    let sound = report.problems.is_empty();
    if as_json {
        print::json(&json!({
            "sound": sound,
            "head": head,
            "checkpoint_held": report.checkpoint_held,
            "trails": report.trails,
            "trail_entries": report.trail_entries,
            "problems": report.problems,
        }));
    } else {
        for problem in &report.problems {
            print::line(&format!("{}: {}", problem.file.display(), problem.what));
        }
        let (trails, entries) = (report.trails, report.trail_entries);
        print::line(&format!("ledger: {} entries", report.ledger.entries));
        print::line(&format!("trails: {trails} with {entries} entries"));
        print::line(match (sound, report.checkpoint_held) {
            (false, _) => "DAMAGED",
            (true, Some(_)) => "sound, and it goes on from the checkpoint",
            (true, None) => {
                "internally consistent only: without a checkpoint that was kept elsewhere, nobody \
                 can tell whether its end was cut off or all of it written anew"
            }
        });
        print::line(&format!("keep this elsewhere, it is a checkpoint: {head}"));
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::from(4) }
}
