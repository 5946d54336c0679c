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
use crate::audit::keys::KeyBytes;
use crate::audit::keys::KeyRing;
use crate::audit::keys::Purpose;
use crate::audit::keys::WrappingKey;
use crate::audit::reconcile::Finding;
use crate::audit::reconcile::Lines;
use crate::audit::reconcile::LogTime;
use crate::audit::reconcile::Options;
use crate::audit::reconcile::RecordedSession;
use crate::audit::reconcile::Report;
use crate::audit::reconcile::kubernetes;
use crate::audit::reconcile::kubernetes::Kubernetes;
use crate::audit::reconcile::postgres::Format;
use crate::audit::reconcile::postgres::LOOKED_AT_MAX;
use crate::audit::reconcile::postgres::Postgres;
use crate::audit::reconcile::postgres::Prefix;
use crate::audit::reconcile::sshd;
use crate::audit::reconcile::sshd::Sshd;
use crate::audit::recording::Chunks;
use crate::audit::recording::Entries;
use crate::audit::recording::Seen;
use crate::audit::recording::What;
use crate::audit::spool;
use crate::audit::spool::Folders;
use crate::cli::args::reconcile::Logs;
use crate::cli::args::reconcile::Reconcile;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::encode;
use crate::cli::print;
use crate::model::Clock;
use crate::model::Protocol;
use crate::model::SessionId;
use crate::model::clock::System;
use crate::model::fault::Chain;

/// Most sessions that a gateway lists at once.
const SESSIONS_MAX: usize = 1_000;

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
            print::complain(&print::tame(&error.to_string()));
            ExitCode::from(match error {
                Failed::Call(CallError::Unreached(_)) => 3,
                Failed::Damaged(_) | Failed::Call(CallError::Damaged(_)) => 4,
                Failed::Call(CallError::Usage(_) | CallError::Refused(_))
                | Failed::File { .. }
                | Failed::Usage(_) => 2,
            })
        }
    }
}

fn reconciled(args: &Reconcile) -> Result<(Report, Record), Failed> {
    let mut record = match &args.record {
        Some(dir) => of_folder(dir, &args.wrapping_key)?,
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
            matcher.take(format.read(head.into_iter().chain(lines.by_ref()), &options.time));
            whole(path, lines)?;
        }
        return Ok(matcher.finish());
    }
    if !logs.sshd_log.is_empty() {
        let mut matcher = Sshd::new(sessions, options);
        for path in &logs.sshd_log {
            let mut lines = lines(path)?;
            matcher.take(sshd::entries(lines.by_ref(), &options.time));
            whole(path, lines)?;
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

/// The sessions in a state folder's spool.
fn of_folder(dir: &Path, keys: &[PathBuf]) -> Result<Record, Failed> {
    let ring = ring(dir, keys)?;
    let (folders, mut record) = (Folders::of(dir), Record::default());
    for place in [&folders.open, &folders.closed] {
        let failed = |source| Failed::File { path: place.clone(), source };
        for id in Folders::sessions(place).map_err(failed)? {
            match recorded(place, id, &ring).map_err(failed)? {
                (session, None) => record.sessions.extend(session),
                (session, Some(damage)) => {
                    record.sessions.extend(session);
                    // A session that runs may be in the midst of a write.
                    if *place != folders.open {
                        record.damage.push(format!("session {id}: {damage}"));
                    }
                }
            }
        }
    }
    Ok(record)
}

/// The keys that open the recordings of a state folder.
fn ring(dir: &Path, keys: &[PathBuf]) -> Result<KeyRing, Failed> {
    let own = [dir.join("wrapping.key")];
    let files = if keys.is_empty() { own.as_slice() } else { keys };
    let usage = |path: &Path, error: &dyn std::error::Error| {
        Failed::Usage(format!("{}: {}", path.display(), Chain(error)))
    };
    let mut ring = Vec::new();
    for path in files {
        let key = KeyBytes::read(path, Purpose::Wrapping).map_err(|e| usage(path, &e))?;
        ring.push(WrappingKey::new(key));
    }
    let current = ring.remove(0);
    KeyRing::new(current, ring).map_err(|e| usage(dir, &e))
}

/// A session as its recording tells it, and what is wrong with that.
fn recorded(
    place: &Path,
    id: SessionId,
    ring: &KeyRing,
) -> std::io::Result<(Option<RecordedSession>, Option<String>)> {
    let file = BufReader::new(File::open(spool::recording_of(place, id))?);
    let chunks = match Chunks::begin(file)? {
        Ok(chunks) => chunks,
        Err(damage) => return Ok((None, Some(damage.to_string()))),
    };
    let key = std::fs::read(spool::key_of(place, id))?;
    let key = serde_json::from_slice(&key).map_err(std::io::Error::from).and_then(|wrapped| {
        ring.unwrap(&wrapped, &id, &chunks.header().region).map_err(std::io::Error::other)
    });
    let key = match key {
        Ok(key) => key,
        Err(error) => return Ok((None, Some(format!("its key does not open: {}", Chain(&error))))),
    };
    let Some(mut entries) = Entries::open(chunks, &key)? else {
        return Ok((None, Some("the key at hand is another recording's".to_owned())));
    };
    let mut session = None;
    loop {
        match entries.next()? {
            Seen::One(entry) => {
                if let What::Event(event) = entry.what {
                    add(&mut session, entry.at, &event);
                }
            }
            Seen::End => return Ok((session, None)),
            Seen::Damaged(damage) => return Ok((session, Some(damage.to_string()))),
        }
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
    let mut which = format!("limit={SESSIONS_MAX}&protocol={protocol}");
    if let Some(target) = &args.target {
        which.push_str(&format!("&target={target}"));
    }
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
    let mut line = String::new();
    if let (Some(log), Some(number)) = (finding.log, finding.line) {
        let file = files.get(log).map_or("log", String::as_str);
        line.push_str(&format!("{file}:{number}: "));
    }
    if let Some(session) = finding.session {
        line.push_str(&format!("session {session}"));
        if let Some(number) = finding.number {
            line.push_str(&format!(" command {number}"));
        }
        line.push_str(": ");
    }
    line.push_str(finding.kind.words());
    if let Some(at) = finding.at {
        line.push_str(&format!(", {at}"));
    }
    let what = finding.what.replace(['\n', '\t', '\r'], " ");
    line.push_str(&format!(", {}: {what}", finding.who));
    if let Some(note) = &finding.note {
        line.push_str(&format!(" ({note})"));
    }
    line
}
