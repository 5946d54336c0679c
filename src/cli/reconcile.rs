//! `weir audit reconcile`: a target's own log against the record.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use serde_json::json;

use crate::audit::TrailEvent;
use crate::audit::offline;
use crate::audit::offline::Files;
use crate::audit::reconcile::Finding;
use crate::audit::reconcile::Lines;
use crate::audit::reconcile::LogTime;
use crate::audit::reconcile::Options;
use crate::audit::reconcile::RecordedSession;
use crate::audit::reconcile::Report;
use crate::audit::reconcile::Taken;
use crate::audit::reconcile::kubernetes;
use crate::audit::reconcile::kubernetes::Kubernetes;
use crate::audit::reconcile::postgres::Format;
use crate::audit::reconcile::postgres::LOOKED_AT_MAX;
use crate::audit::reconcile::postgres::Postgres;
use crate::audit::reconcile::postgres::Prefix;
use crate::audit::reconcile::sshd;
use crate::audit::reconcile::sshd::Sshd;
use crate::audit::recording::What;
use crate::audit::verify;
use crate::audit::verify::VerifyError;
use crate::cli::args::reconcile::Logs;
use crate::cli::args::reconcile::Reconcile;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::encode;
use crate::cli::print;
use crate::cli::reading::Opener;
use crate::model::Clock;
use crate::model::Protocol;
use crate::model::clock::System;
use crate::model::fault::Chain;

/// Most sessions that a gateway lists at once.
const SESSIONS_MAX: usize = 1_000;

/// What a log of PostgreSQL is, and this is not.
const NO_POSTGRES: &str = "no message of it is known: lc_messages must be C or English, and log_statement \
                           'all' (or log_min_duration_statement 0)";
/// What a log of sshd is, and this is not.
const NO_SSHD: &str = "no line of it is sshd's: syslog, journalctl (short, short-iso, json) and `sshd -e` \
                       are read";

/// Why the gateway is not asked.
const NO_FILES: &str = "--checkpoint, --key, --without-store and --without-spool are about the record in a \
                        folder: name it, or leave them out";

/// Why a reconciliation came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Usage(String),
    #[error("the record is damaged: {0}")]
    Damaged(String),
}

/// What the record's side is.
#[derive(Debug, Default)]
struct Record {
    sessions: Vec<RecordedSession>,
    damage: Vec<String>,
}

/// Holds the logs against the record and says what does not match.
pub(super) fn run(args: &Reconcile, as_json: bool) -> ExitCode {
    match reconciled(args) {
        Ok((report, record)) => {
            said(args, &report, &record, as_json);
            match (record.damage.is_empty(), report.all_matched()) {
                (false, _) => ExitCode::from(4),
                (true, true) => ExitCode::SUCCESS,
                (true, false) => ExitCode::from(1),
            }
        }
        Err(error) => {
            print::complain(&print::tame_lines(&error.to_string()).join("\n"));
            ExitCode::from(match error {
                Failed::Call(CallError::Unreached(_)) => 3,
                Failed::Call(CallError::Damaged(_)) | Failed::Damaged(_) => 4,
                Failed::Call(CallError::Usage(_) | CallError::Refused(_))
                | Failed::File { .. }
                | Failed::Usage(_) => 2,
            })
        }
    }
}

fn reconciled(args: &Reconcile) -> Result<(Report, Record), Failed> {
    let mut record = match &args.record {
        Some(dir) => of_folder(dir, args)?,
        None if args.known.is_given() => return Err(Failed::Usage(NO_FILES.to_owned())),
        None => of_gateway(args)?,
    };
    if let Some(target) = &args.target {
        record.sessions.retain(|session| session.target == *target);
    }
    let zone = args.timezone.as_deref().map(zone).transpose()?;
    let near = record.sessions.iter().map(|session| session.ended).max();
    let options = Options {
        skew: SignedDuration::from_secs(args.skew.max(0)),
        except: args.except.clone(),
        since: args.since,
        until: args.until,
        time: LogTime { zone, near: Some(near.unwrap_or_else(|| System.now())) },
    };
    let report = held(&args.logs, args.log_line_prefix.as_ref(), &record.sessions, &options)?;
    Ok((report, record))
}

/// Reads the logs and holds them against the sessions.
fn held(
    logs: &Logs,
    prefix: Option<&Prefix>,
    sessions: &[RecordedSession],
    options: &Options,
) -> Result<Report, Failed> {
    if !logs.postgres_log.is_empty() {
        let mut matcher = Postgres::new(sessions, options);
        for path in &logs.postgres_log {
            let mut lines = lines(path)?;
            let head = lines.by_ref().take(LOOKED_AT_MAX).collect::<Vec<_>>();
            let given = prefix.cloned().map(Format::Stderr);
            let guessed = given.or_else(|| Format::guess(&head, &options.time));
            let format = match guessed {
                Some(format) => format,
                None if head.iter().all(|line| line.text.trim().is_empty()) => Format::Json,
                None => return Err(Failed::Usage(unknown_format(path))),
            };
            warn_of(path, &format);
            let taken =
                matcher.take(format.read(head.into_iter().chain(lines.by_ref()), &options.time));
            whole(path, lines)?;
            of_its_kind(path, taken, NO_POSTGRES)?;
        }
        return Ok(matcher.finish());
    }
    if !logs.sshd_log.is_empty() {
        let mut matcher = Sshd::new(sessions, options);
        for path in &logs.sshd_log {
            let mut lines = lines(path)?;
            let taken = matcher.take(sshd::entries(lines.by_ref(), &options.time));
            whole(path, lines)?;
            of_its_kind(path, taken, NO_SSHD)?;
        }
        return Ok(matcher.finish());
    }
    let mut matcher = Kubernetes::new(sessions, options);
    for path in &logs.kubernetes_audit {
        let mut lines = lines(path)?;
        matcher.take(kubernetes::events(lines.by_ref()));
        whole(path, lines)?;
    }
    Ok(matcher.finish())
}

fn lines(path: &Path) -> Result<Lines<BufReader<File>>, Failed> {
    let file = File::open(path).map_err(|source| Failed::File { path: path.to_owned(), source })?;
    Ok(Lines::new(BufReader::with_capacity(256 * 1024, file)))
}

fn whole(path: &Path, lines: Lines<BufReader<File>>) -> Result<(), Failed> {
    let error = lines.error();
    error.map_or(Ok(()), |source| Err(Failed::File { path: path.to_owned(), source }))
}

/// That something in a log was understood, unless nothing is in it.
fn of_its_kind(path: &Path, taken: Taken, what: &str) -> Result<(), Failed> {
    if taken.is_foreign() {
        return Err(Failed::Usage(format!("{}: {what}", path.display())));
    }
    Ok(())
}

/// Says where clients choose what stands in the lines of a log.
fn warn_of(path: &Path, format: &Format) {
    if matches!(format, Format::Stderr(prefix) if prefix.is_open()) {
        print::complain(&print::tame(&format!(
            "{}: clients choose what stands for %a in its prefix: lines that can be read in several ways \
             are listed as not understood; csvlog and jsonlog have none",
            path.display()
        )));
    }
}

fn zone(name: &str) -> Result<TimeZone, Failed> {
    TimeZone::get(name).map_err(|error| Failed::Usage(format!("--timezone {name}: {error}")))
}

fn unknown_format(path: &Path) -> String {
    format!(
        "{}: no line of it is read as csvlog, as jsonlog, or with one of the usual prefixes; say \
         which log_line_prefix it has by --log-line-prefix, and in which zone its times are by \
         --timezone",
        path.display()
    )
}

/// The sessions whose recordings lie below a folder.
fn of_folder(dir: &Path, args: &Reconcile) -> Result<Record, Failed> {
    let usage = |why: String| Failed::Usage(format!("{}: {why}", dir.display()));
    let damage = unproven(dir, args).map_err(|error| usage(Chain(&error).to_string()))?;
    let found = offline::recordings(dir).map_err(|error| usage(error.to_string()))?;
    let opener = Opener::new(dir, &args.wrapping_key).map_err(usage)?;
    let mut record = Record { sessions: Vec::new(), damage };
    for (id, files) in found {
        let mut session = None;
        let read = opener.each(id, &files, |entry| {
            if let What::Event(event) = &entry.what {
                add(&mut session, entry.at, event);
            }
        });
        record.sessions.extend(session);
        if let Err(why) = read
            && !may_be_written(&files)
        {
            record.damage.push(format!("session {id}: {why}"));
        }
    }
    Ok(record)
}

/// What is wrong with a folder's record: whoever could add a recording could have recorded anything.
fn unproven(dir: &Path, args: &Reconcile) -> Result<Vec<String>, VerifyError> {
    let report = verify::verify(&args.known.of(vec![dir.to_owned()]), &mut |_| ())?;
    let mut damage = report.problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    if report.ledgers.is_empty() {
        damage.push("there is no ledger, so nobody knows which recordings there should be".into());
    }
    if report.problems_more > 0 {
        damage
            .push(format!("{} more problems, which `weir audit verify` has", report.problems_more));
    }
    Ok(damage)
}

/// Whether somebody may be in the midst of a write to a recording: its session runs.
fn may_be_written(files: &Files) -> bool {
    match files {
        Files::Whole(path) => path.parent().is_some_and(|folder| folder.ends_with("open")),
        Files::Segments(_) => false,
    }
}

/// The sessions that a gateway lists.
fn of_gateway(args: &Reconcile) -> Result<Record, Failed> {
    let client = Client::new(&args.gateway)?;
    let logs = &args.logs;
    let protocol = match (logs.postgres_log.is_empty(), logs.sshd_log.is_empty()) {
        (false, _) => Protocol::Postgres,
        (true, false) => Protocol::Ssh,
        (true, true) => Protocol::Kubernetes,
    };
    let target = args.target.as_ref().map(|target| format!("&target={target}"));
    let which = format!("limit={SESSIONS_MAX}&protocol={protocol}{}", target.unwrap_or_default());
    let purpose = encode::form(&[("purpose", args.purpose.as_str())]);
    let rows = client.get(&format!("/sessions?{which}"))?;
    let rows = rows.as_array().cloned().unwrap_or_default();
    if rows.len() >= SESSIONS_MAX {
        return Err(Failed::Usage(format!(
            "the gateway lists no more than {SESSIONS_MAX} sessions at once: name its state \
             folder, or a copy of it"
        )));
    }
    let mut record = Record::default();
    for row in rows {
        let Some(id) = row.get("session").and_then(Value::as_str) else { continue };
        let shown = client.get(&format!("/sessions/{id}?{purpose}"))?;
        if let Some(damage) = shown.get("damage").and_then(Value::as_str) {
            record.damage.push(format!("session {id}: {damage}"));
        }
        if shown.get("cut").and_then(Value::as_bool) == Some(true) {
            return Err(Failed::Usage(format!(
                "session {id} has more entries than the gateway shows at once: name its state \
                 folder, or a copy of it"
            )));
        }
        let entries = shown.get("entries").and_then(Value::as_array);
        let mut session = None;
        for entry in entries.into_iter().flatten() {
            let (at, event) = entry_of(entry)
                .ok_or_else(|| Failed::Damaged(format!("session {id} has an unknown entry")))?;
            add(&mut session, at, &event);
        }
        record.sessions.extend(session);
    }
    Ok(record)
}

fn entry_of(entry: &Value) -> Option<(Timestamp, TrailEvent)> {
    let at = entry.get("at")?.as_str()?.parse().ok()?;
    Some((at, serde_json::from_value(entry.get("event")?.clone()).ok()?))
}

fn add(session: &mut Option<RecordedSession>, at: Timestamp, event: &TrailEvent) {
    match session {
        None => *session = RecordedSession::begin(at, event),
        Some(session) => session.see(at, event),
    }
}

/// Says what was found.
fn said(args: &Reconcile, report: &Report, record: &Record, as_json: bool) {
    let logs = &args.logs;
    let files = [&logs.postgres_log, &logs.sshd_log, &logs.kubernetes_audit];
    let files = files.into_iter().flatten().map(|path| path.display().to_string());
    let files = files.collect::<Vec<_>>();
    if as_json {
        let mut value = json!(report);
        if let Some(object) = value.as_object_mut() {
            object.insert("matched".to_owned(), json!(report.all_matched()));
            object.insert("logs".to_owned(), json!(files));
            object.insert("damage".to_owned(), json!(record.damage));
        }
        print::json(&value);
        return;
    }
    for damage in &record.damage {
        print::line(&print::tame(&format!("damaged record: {damage}")));
    }
    for finding in &report.findings {
        print::line(&print::tame(&line(finding, &files)));
    }
    if report.more > 0 {
        print::line(&format!("… and {} more", report.more));
    }
    let (log, own) = (report.log, report.record);
    print::line(&format!(
        "log: {} items, {} matched ({} by text and time alone), {} the gateway's own, {} excepted, \
         {} outside of the time, {} refused logins",
        log.items,
        log.matched,
        log.matched_by_text,
        log.gateways_own,
        log.excepted,
        log.outside,
        log.refused
    ));
    print::line(&format!(
        "record: {} sessions, {} commands, {} matched, {} denied, {} need not be logged, {} outside \
         of the log's time",
        own.sessions, own.commands, own.matched, own.denied, own.not_due, own.outside
    ));
    print::line(if report.all_matched() {
        "each has what the other has"
    } else {
        "MISMATCHES: see above"
    });
}

/// One finding on one line.
fn line(finding: &Finding, files: &[String]) -> String {
    let mut places = Vec::new();
    if let (Some(log), Some(number)) = (finding.log, finding.line) {
        let file = files.get(log).map_or("log", String::as_str);
        places.push(format!("{file}:{number}: "));
    }
    match (finding.session, finding.number) {
        (Some(session), Some(number)) => {
            places.push(format!("session {session} command {number}: "));
        }
        (Some(session), None) => places.push(format!("session {session}: ")),
        (None, _) => {}
    }
    let at = finding.at.map(|at| format!(", {at}")).unwrap_or_default();
    let note = finding.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    let what = finding.what.replace(['\n', '\t', '\r'], " ");
    format!("{}{}{at}, {}: {what}{note}", places.concat(), finding.kind.words(), finding.who)
}
