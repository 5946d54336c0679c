//! `weir audit verify` and `weir audit keygen`: with files alone.

use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

use serde_json::json;

use crate::audit::chain::Head;
use crate::audit::keys::KeyBytes;
use crate::audit::keys::LedgerKey;
use crate::audit::keys::Purpose;
use crate::audit::keys::WrappingKey;
use crate::audit::note::KeyName;
use crate::audit::verify;
use crate::cli::client::CallError;
use crate::cli::print;
use crate::model::fault::Chain;

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

/// Makes a key file, and prints what others may know of the key.
pub(super) fn keygen(
    purpose: Purpose,
    origin: Option<KeyName>,
    file: &Path,
    as_json: bool,
) -> Result<(), CallError> {
    let failed = |error| CallError::Usage(Chain(&error).to_string());
    let (what, public) = match (purpose, origin) {
        (Purpose::Wrapping, Some(_)) => {
            let text = "a wrapping key has no --origin: that is the name of a ledger";
            return Err(CallError::Usage(text.to_owned()));
        }
        (Purpose::Wrapping, None) => {
            let key = KeyBytes::create(file, purpose).map_err(failed)?;
            ("id", Some(WrappingKey::new(key).id().to_string()))
        }
        (Purpose::Ledger, origin) => {
            let key = LedgerKey::new(KeyBytes::create(file, purpose).map_err(failed)?);
            let named = origin.map(|name| key.named(name)).transpose().map_err(failed)?;
            ("verifier", named.map(|key| key.verifier().to_string()))
        }
    };
    if as_json {
        print::json(&json!({ "file": file, "purpose": purpose.to_string(), what: public }));
    } else {
        print::line(&format!("{}: a {purpose} key, keep a copy of it safe", file.display()));
        if let Some(public) = public {
            print::line(&format!("{what}: {public}"));
        }
    }
    Ok(())
}
