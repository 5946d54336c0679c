//! `weir audit …`: what is done with files alone, and what the gateway is asked for otherwise.

use std::io;
use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use crate::audit::keys::KeyBytes;
use crate::audit::keys::LedgerKey;
use crate::audit::keys::Purpose;
use crate::audit::keys::WrappingKey;
use crate::audit::note::KeyName;
use crate::audit::verify;
use crate::audit::verify::Assurance;
use crate::audit::verify::LedgerReport;
use crate::audit::verify::Progress;
use crate::audit::verify::Report;
use crate::cli::client::CallError;
use crate::cli::print;
use crate::model::fault::Chain;

/// How often it is said how far verifying has come.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How many problems are printed, where nobody asks for JSON.
const PRINTED_MAX: usize = 100;

/// Verifies what is in files and folders, and says what is wrong with it.
pub(super) fn verify(options: &verify::Options, as_json: bool) -> ExitCode {
    let mut told = None::<Instant>;
    let begun = Instant::now();
    let mut progress = |progress: Progress| {
        let now = Instant::now();
        if io::stderr().is_terminal()
            && now.duration_since(told.unwrap_or(begun)) >= PROGRESS_EVERY
        {
            told = Some(now);
            print::progress(&format!(
                "verifying: {} of {} MiB",
                progress.bytes / 1_048_576,
                progress.of.max(progress.bytes) / 1_048_576
            ));
        }
    };
    let report = match verify::verify(options, &mut progress) {
        Ok(report) => report,
        Err(error) => {
            print::complain(&print::tame(&Chain(&error).to_string()));
            return ExitCode::from(2);
        }
    };
    if as_json {
        print::json(&json!(report));
    } else {
        tell(&report);
    }
    if report.sound { ExitCode::SUCCESS } else { ExitCode::from(4) }
}

fn tell(report: &Report) {
    let line = |text: String| print::line(&print::tame(&text));
    for problem in report.problems.iter().take(PRINTED_MAX) {
        line(problem.to_string());
    }
    let told = report.problems.len().min(PRINTED_MAX);
    let more = u64::try_from(report.problems.len().saturating_sub(told)).unwrap_or(u64::MAX);
    let more = more.saturating_add(report.problems_more);
    if more > 0 {
        line(format!("… and {more} more: --json has them"));
    }
    for receipt in &report.receipts {
        line(format!("receipt: entry {} of {}", receipt.number, receipt.origin));
        if let Some(entry) = &receipt.entry {
            line(entry.clone());
        }
    }
    for ledger in &report.ledgers {
        line(of_ledger(ledger));
    }
    if report.ledger_only {
        line("recordings: none was given, so none was checked".to_owned());
    } else if !report.ledgers.is_empty() || report.recordings > 0 {
        let (all, entries) = (report.recordings, report.recording_entries);
        line(format!("recordings: {all} with {entries} entries"));
    }
    if report.behind > 0 {
        line(format!("{} of them run, and are not wholly in the store yet", report.behind));
    }
    line(verdict(report).to_owned());
}

fn of_ledger(ledger: &LedgerReport) -> String {
    let name = ledger.origin.as_ref().or(ledger.gateway.as_ref());
    let name = name.map_or_else(|| "ledger".to_owned(), |name| format!("ledger {name}"));
    let mut text = format!("{name}: {} entries", ledger.head.entries);
    let counted = [
        (ledger.checkpointed, "counted by its checkpoints"),
        (ledger.signed, "signed for by a key that you trust"),
        (ledger.held, "counted by a checkpoint that was kept"),
    ];
    for (entries, how) in counted.into_iter().filter(|(entries, _)| *entries > 0) {
        text.push_str(&format!(", {entries} {how}"));
    }
    text
}

fn verdict(report: &Report) -> &'static str {
    if !report.sound {
        return "DAMAGED";
    }
    match report.assurance {
        Assurance::Held => "sound, and it goes on from the checkpoint that was kept",
        Assurance::Signed => {
            "sound, and signed by a key that you trust; whether its end was cut off, only a checkpoint \
             that was kept elsewhere can tell (--checkpoint)"
        }
        Assurance::Consistent => {
            "internally consistent only: without a checkpoint that was kept elsewhere (--checkpoint), or \
             a key that you trust (--key), nobody can tell whether its end was cut off or all of it \
             written anew"
        }
    }
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
