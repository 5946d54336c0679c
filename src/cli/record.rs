//! `weir audit …`: what is done with files alone, and what the gateway is asked for otherwise.

use std::fs::OpenOptions;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::audit::keys::KeyBytes;
use crate::audit::keys::LedgerKey;
use crate::audit::keys::Purpose;
use crate::audit::keys::WrappingKey;
use crate::audit::note::KeyName;
use crate::audit::prove;
use crate::audit::prove::Wanted;
use crate::audit::verify;
use crate::audit::verify::Assurance;
use crate::audit::verify::Excuse;
use crate::audit::verify::Excused;
use crate::audit::verify::LedgerReport;
use crate::audit::verify::Progress;
use crate::audit::verify::Report;
use crate::cli::args::Gateway;
use crate::cli::client::CallError;
use crate::cli::client::Client;
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
        if io::stderr().is_terminal() && now.duration_since(told.unwrap_or(begun)) >= PROGRESS_EVERY
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
    for (kind, count) in &report.unknown {
        line(format!(
            "entries of the kind {kind}, which this version does not know: {count}; their hashes are \
             verified, what they say is not"
        ));
    }
    if report.ledger_only {
        line("recordings: none was given, so none was checked".to_owned());
    } else if !report.ledgers.is_empty() || report.recordings > 0 {
        let (all, entries) = (report.recordings, report.recording_entries);
        line(format!("recordings: {all} with {entries} entries"));
    }
    for (count, what) in [
        (report.behind, "not wholly in the store yet"),
        (report.elsewhere, "in the store or the spool, which were left out on purpose"),
        (report.gone, "erased, or their time was over, as the ledger says"),
    ] {
        if count > 0 {
            line(format!("recordings: {count} {what}"));
        }
    }
    for excused in report.excused.iter().take(PRINTED_MAX) {
        line(of_excused(excused));
    }
    let told = report.excused.len().min(PRINTED_MAX);
    let more = u64::try_from(report.excused.len().saturating_sub(told)).unwrap_or(u64::MAX);
    let more = more.saturating_add(report.excused_more);
    if more > 0 {
        line(format!("… and {more} more that are excused: --json has them"));
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
        text.extend([", ", &entries.to_string(), " ", how]);
    }
    if ledger.uncounted > 0 {
        let last = ledger.head.entries;
        let first = last.saturating_sub(ledger.uncounted).saturating_add(1);
        let (first, last) = (first.to_string(), last.to_string());
        text.extend(["; entries ", &first, " to ", &last, " are counted by no checkpoint"]);
        if ledger.signed.max(ledger.held) > 0 {
            text.push_str(" that is believed, and excuse nothing");
        }
    }
    text
}

fn of_excused(excused: &Excused) -> String {
    let why = match excused.why {
        Excuse::Gone => "it was erased, or its time was over",
        Excuse::InTheStore => "the store has it",
        Excuse::InTheSpool => "it is in the spool",
    };
    let says = excused.entry.map(|entry| format!(" (entry {entry})")).unwrap_or_default();
    format!("excused: session {}: {why}{says}", excused.session)
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

/// Writes a receipt of an entry, from files, or as the gateway makes it.
pub(super) fn prove(
    (id, end): (&str, bool),
    from: &[PathBuf],
    output: Option<&Path>,
    gateway: &Gateway,
) -> Result<(), CallError> {
    let wanted = Wanted::read(id, end).ok_or_else(|| {
        let expected = "expected the number of an entry, or the id of a session or hold";
        CallError::Usage(format!("`{id}` names no entry: {expected}"))
    })?;
    let receipt = if from.is_empty() {
        let answer = Client::new(gateway)?.get(&format!("/ledger/receipts/{id}?end={end}"))?;
        text(&answer, "receipt")?
    } else {
        let made = prove::receipt(from, &wanted);
        made.map_err(|error| CallError::Usage(Chain(&error).to_string()))?.to_string()
    };
    let Some(path) = output else {
        print::raw(&receipt);
        return Ok(());
    };
    let written = OpenOptions::new().write(true).create_new(true).open(path);
    written
        .and_then(|mut file| file.write_all(receipt.as_bytes()))
        .map_err(|error| CallError::Usage(format!("{} cannot be written: {error}", path.display())))
}

/// Prints the latest checkpoint, from files or of the gateway.
pub(super) fn checkpoint(
    from: &[PathBuf],
    gateway: &Gateway,
    as_json: bool,
) -> Result<(), CallError> {
    let answer = if from.is_empty() {
        Client::new(gateway)?.get("/ledger/checkpoint")?
    } else {
        let latest = prove::latest_checkpoint(from);
        let latest = latest.map_err(|error| CallError::Usage(Chain(&error).to_string()))?;
        let note = latest.ok_or_else(|| CallError::Usage("there is no checkpoint".to_owned()))?;
        json!({ "checkpoint": note.to_string() })
    };
    if as_json {
        print::json(&answer);
    } else {
        print::raw(&text(&answer, "checkpoint")?);
    }
    Ok(())
}

/// A text that the gateway answered, as it will be read by others.
fn text(answer: &Value, name: &str) -> Result<String, CallError> {
    let text = answer.get(name).and_then(Value::as_str);
    let odd = || CallError::Unreached("the gateway's answer is not understood".to_owned());
    let tamed = |text: &str| {
        let lines = print::tame_lines(text).into_iter().map(|line| line + "\n");
        lines.collect::<String>()
    };
    text.map(tamed).ok_or_else(odd)
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

fn field<'a>(answer: &'a Value, name: &str) -> &'a Value {
    answer.get(name).unwrap_or(&Value::Null)
}

/// Has the index made again, and says how far it is until it is made.
pub(super) fn reindex(gateway: &Gateway, as_json: bool) -> Result<(), CallError> {
    let client = Client::new(gateway)?;
    let mut answer = client.post("/audit/reindex", &json!({}))?;
    while answer.get("running").is_some_and(|running| *running == json!(true)) {
        if io::stderr().is_terminal() {
            let mut text = format!("{} recordings are read", field(&answer, "sessions"));
            if let Some(why) = field(&answer, "waits_for").as_str() {
                text = format!("{text}; it waits: {}", print::tame(why));
            }
            print::progress(&text);
        }
        std::thread::sleep(PROGRESS_EVERY);
        answer = client.get("/audit/reindex")?;
    }
    if as_json {
        print::json(&answer);
        return Ok(());
    }
    let number = |name: &str| field(&answer, name).as_u64().unwrap_or_default();
    let (sessions, entries) = (number("sessions"), number("entries"));
    print::line(&format!("the index is made of {sessions} recordings with {entries} entries"));
    let unread = number("unread");
    if unread > 0 {
        print::line(&format!("{unread} cannot be read wholly: the gateway's log says why"));
    }
    let keyless = number("keyless");
    if keyless > 0 {
        let what = "more are in the store whose keys are not in the state database";
        print::line(&format!("{keyless} {what}: nobody can read them"));
    }
    Ok(())
}
