//! Logs that real servers wrote (`tests/corpus`) against sessions as the gateway would have
//! recorded them: each mismatch that there can be is listed, and nothing else.

use std::fs;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::audit::TrailEvent;
use crate::audit::entry::Ending;
use crate::audit::reconcile::kubernetes::Kubernetes;
use crate::audit::reconcile::postgres::Format;
use crate::audit::reconcile::postgres::Postgres;
use crate::audit::reconcile::sshd::Sshd;
use crate::model::CommandId;
use crate::model::Protocol;
use crate::model::SessionId;

mod evasions;

const SESSION: &str = "01930000-0000-7000-8000-000000000001";

fn corpus(name: &str) -> Vec<Line> {
    let path = format!("{}/tests/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    Lines::new(fs::read(path).unwrap().as_slice()).collect()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn session(protocol: Protocol, begun: &str, ended: &str) -> RecordedSession {
    RecordedSession {
        session: SESSION.parse().unwrap(),
        principal: "alice".to_owned(),
        target: "customers".parse().unwrap(),
        protocol,
        begun: at(begun),
        ended: at(ended),
        closed: true,
        legs: Vec::new(),
        commands: Vec::new(),
        refusals: 0,
    }
}

fn leg(at: Timestamp, port: u16, process: Option<i64>, number: Option<u64>) -> RecordedLeg {
    let (from, to) = (([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], 54999).into());
    RecordedLeg { at, from, to, process, number }
}

fn command(number: u64, at: Timestamp, verb: &str, text: &str, done: bool) -> RecordedCommand {
    let status = "SELECT 1".to_owned();
    let ending = Some(if done { Ending::Done { status } } else { Ending::Failed { status } });
    let (verb, text) = (verb.to_owned(), text.to_owned());
    RecordedCommand { number, at, verb, text, details: Vec::new(), sent: true, ending }
}

/// What psql and pgbench did when `tests/corpus/postgres_log` was written, as a session each.
fn postgres_sessions(processes: [i64; 3], ports: [u16; 3], minute: &str) -> Vec<RecordedSession> {
    let begun = |second: &str| format!("2026-11-29T{minute}:{second}Z");
    let mut psql = session(Protocol::Postgres, &begun("54"), &begun("59.9"));
    let start = psql.begun;
    let two = "SELECT 'a\n\tb, \"c\"' AS two,\n  2";
    psql.commands = vec![
        command(1, start, "query", "SELECT 1", true),
        command(2, start, "query", two, true),
        command(3, start, "query", "DROP TABLE customers", true),
        command(4, start, "query", "SELEC 1", false),
        command(5, start, "query", "SELECT 1/0", false),
        command(6, start, "query", "BEGIN; SELECT 2; COMMIT", true),
        command(7, start, "query", "-- nothing", true),
    ];
    psql.commands[2].sent = false;
    psql.commands[2].ending = None;
    let mut prepared = session(Protocol::Postgres, &begun("54"), &begun("59.9"));
    prepared.commands = vec![
        command(1, start, "parse", "SELECT $1 + 1;", true),
        command(2, start, "query", "SELECT $1 + 1;", true),
        command(3, start, "query", "SELECT $1 + 1;", true),
    ];
    let mut extended = prepared.clone();
    extended.commands.pop();
    let mut all = vec![psql, prepared, extended];
    for ((session, process), port) in all.iter_mut().zip(processes).zip(ports) {
        session.legs = vec![leg(start, port, Some(process), None)];
    }
    all
}

fn postgres(name: &str, sessions: &[RecordedSession], options: &Options) -> Report {
    let lines = corpus(&format!("postgres_log/{name}"));
    let format = Format::guess(&lines, &options.time).unwrap();
    let mut matcher = Postgres::new(sessions, options);
    matcher.take(format.read(lines.into_iter(), &options.time));
    matcher.finish()
}

/// The superuser's own session, and pgbench's looks at its tables, are in every log.
fn others() -> Options {
    let except = ["postgres@*"].map(|text| text.parse().unwrap()).to_vec();
    Options { except, ..Options::default() }
}

/// pgbench opens a connection of its own to look at the tables: logins without a statement.
const LOOKS: u64 = 2;

fn whole(report: &Report) {
    let found = |kind: Kind| report.findings.iter().filter(|f| f.kind == kind).count();
    assert_eq!(u64::try_from(found(Kind::Login)).unwrap(), LOOKS, "{report:#?}");
    assert_eq!(found(Kind::Login), report.findings.len(), "{report:#?}");
    assert_eq!(report.record.denied, 1);
    assert_eq!(report.log.gateways_own, 1, "the denied command's place was kept");
    assert_eq!(report.log.refused, 1);
}

#[test]
fn each_format_of_postgresql_s_log_matches_what_was_recorded() {
    let sessions = postgres_sessions([27476, 27480, 27486], [42598, 42624, 42636], "02:57");
    for name in ["debian.log", "debian.csv", "debian.json"] {
        let report = postgres(name, &sessions, &others());
        whole(&report);
        // Six statements of psql, three of pgbench, and the three logins.
        assert_eq!((report.log.matched, report.record.matched), (12, 9), "{name}");
        assert_eq!((report.log.matched_by_text, report.record.not_due), (0, 2), "{name}");
    }
}

#[test]
fn durations_and_other_prefixes_do_as_well() {
    let badger = corpus("postgres_log/badger.log");
    let process = |application: &str, nth: usize| {
        let of = |line: &&Line| line.text.contains("authorized") && line.text.contains(application);
        let line = &badger.iter().filter(of).nth(nth).unwrap().text;
        line.split(['[', ']']).nth(1).unwrap().parse::<i64>().unwrap()
    };
    let all = [process("my \"tool\"", 0), process("pgbench", 1), process("pgbench", 3)];
    let sessions = postgres_sessions(all, [1, 2, 3], "02:57");
    // By the process alone: the ports are not those of the record.
    let sessions = without_ports(sessions);
    let report = postgres("badger.log", &sessions, &others());
    whole(&report);
    assert_eq!(report.record.matched, 11, "what was prepared is logged with its duration");
}

/// Sessions whose legs' ports are unknown to the log: a log without any tells none.
fn without_ports(mut sessions: Vec<RecordedSession>) -> Vec<RecordedSession> {
    let badger = corpus("postgres_log/badger.log");
    for session in &mut sessions {
        for leg in &mut session.legs {
            let process = format!("[{}]", leg.process.unwrap());
            let line = badger.iter().find(|l| l.text.contains(&process)).unwrap();
            let port = line.text.rsplit_once("port=").unwrap().1.parse().unwrap();
            leg.from.set_port(port);
        }
    }
    sessions
}

#[test]
fn a_statement_past_the_gateway_is_listed_and_nothing_else() {
    let sessions = postgres_sessions([27476, 27480, 27486], [42598, 42624, 42636], "02:57");
    let options = Options::default();
    let report = postgres("debian.log", &sessions, &options);
    let past = report.findings.iter().filter(|f| f.kind == Kind::Unrecorded).collect::<Vec<_>>();
    let shown = past.iter().map(|f| (f.line.unwrap(), f.what.as_str())).collect::<Vec<_>>();
    assert_eq!(
        shown,
        [
            (8, "CREATE DATABASE crm"),
            (9, "CREATE ROLE app LOGIN"),
            (10, "GRANT ALL ON SCHEMA public TO app")
        ]
    );
    assert_eq!(past[0].who, "postgres@postgres");
}

#[test]
fn what_is_missing_on_either_side_is_listed() {
    let whole = postgres_sessions([27476, 27480, 27486], [42598, 42624, 42636], "02:57");
    let only = |sessions: &[RecordedSession], kind: Kind| {
        let report = postgres("debian.log", sessions, &others());
        let found = report.findings.into_iter().filter(|f| f.kind == kind);
        found.map(|f| (f.line, f.number, f.what)).collect::<Vec<_>>()
    };
    // A command that the record lost.
    let mut sessions = whole.clone();
    sessions[0].commands.remove(0);
    let lost = only(&sessions, Kind::Unrecorded);
    assert_eq!(lost, [(Some(14), None, "SELECT 1".to_owned())]);
    // One that the log lost, or that never arrived.
    let mut sessions = whole.clone();
    let more = command(8, at("2026-11-29T02:57:55.96Z"), "query", "SELECT 3", true);
    sessions[0].commands.push(more);
    let lost = only(&sessions, Kind::Unlogged);
    assert_eq!(lost, [(None, Some(8), "SELECT 3".to_owned())]);
    // One that ran although the record says that it was denied.
    let mut sessions = whole.clone();
    sessions[0].commands[0].sent = false;
    let ran = only(&sessions, Kind::RanThoughDenied);
    assert_eq!(ran, [(Some(14), Some(1), "SELECT 1".to_owned())]);
    // The same number of a backend at another time is another backend.
    let mut sessions = whole;
    for session in &mut sessions {
        session.legs[0].at = at("2026-11-28T00:00:00Z");
        session.begun = at("2026-11-28T00:00:00Z");
        session.ended = at("2026-11-28T01:00:00Z");
        session.commands.clear();
    }
    // Nine statements, and a token of the gateway's on a connection that is not its own.
    assert_eq!(only(&sessions, Kind::Unrecorded).len(), 10);
}

#[test]
fn behind_a_pool_the_same_text_at_the_same_time_counts_and_is_counted() {
    let mut sessions = postgres_sessions([1, 2, 3], [4, 5, 6], "02:57");
    let report = postgres("debian.log", &sessions, &others());
    assert_eq!(report.log.matched_by_text, 9, "{report:#?}");
    let kinds = report.findings.iter().map(|f| f.kind).collect::<Vec<_>>();
    // The pool's logins are nobody's, and the token is on no session's connection.
    assert!(kinds.iter().all(|kind| matches!(kind, Kind::Login | Kind::Unrecorded)));
    for session in &mut sessions {
        session.ended = at("2026-11-29T02:57:50Z");
    }
    assert_eq!(postgres("debian.log", &sessions, &others()).log.matched_by_text, 0);
}

#[test]
fn sshd_s_logins_match_by_their_port_whatever_wrote_the_log() {
    let time = LogTime { zone: None, near: Some(at("2026-11-29T00:00:00Z")) };
    let mut recorded = session(Protocol::Ssh, "2026-11-29T03:14:15Z", "2026-11-29T03:14:20Z");
    recorded.legs = vec![
        leg(at("2026-11-29T03:14:15Z"), 33200, None, Some(1)),
        leg(at("2026-11-29T03:14:17Z"), 33208, None, Some(2)),
    ];
    recorded.commands = vec![
        command(1, at("2026-11-29T03:14:15Z"), "exec", "true", true),
        command(2, at("2026-11-29T03:14:17Z"), "shell", "the login shell", true),
    ];
    let held = |sessions: &[RecordedSession], name: &str| {
        let options = Options { time: time.clone(), ..Options::default() };
        let mut matcher = Sshd::new(sessions, &options);
        let lines = corpus(&format!("sshd_log/{name}"));
        matcher.take(sshd::entries(lines.into_iter(), &time));
        matcher.finish()
    };
    for name in ["syslog", "short-iso", "own"] {
        let report = held(std::slice::from_ref(&recorded), name);
        assert_eq!((report.log.matched, report.record.matched), (4, 2), "{name}: {report:#?}");
        let [past] = report.findings.as_slice() else { panic!("{name}: {report:#?}") };
        assert_eq!((past.kind, past.who.as_str()), (Kind::Login, "root from 127.0.0.1"));
        assert!(past.what.contains("subsystem 'sftp'") && past.what.contains("SHA256:"));
        assert!(past.note.as_ref().unwrap().contains("own key"), "the key is the gateway's");
        assert_eq!(report.log.refused, 2, "{name}");
    }
    // Another thing was begun than what was decided.
    let mut other = recorded.clone();
    other.commands[1].verb = "exec".to_owned();
    let report = held(&[other], "syslog");
    assert!(report.findings.iter().any(|f| f.kind == Kind::Differs), "{report:#?}");
    // Where addresses are changed on the way, the time has to do.
    let mut far = recorded;
    far.legs.iter_mut().for_each(|leg| leg.from.set_port(1));
    far.legs[1].from.set_port(2);
    let report = held(&[far], "syslog");
    assert_eq!((report.log.matched_by_text, report.findings.len()), (2, 1), "{report:#?}");
}

fn event(id: &str, stage: &str, uri: &str, user: &str, impersonated: &str) -> Line {
    let text = serde_json::json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
        "auditID": id, "stage": stage, "requestURI": uri, "verb": "get",
        "user": {"username": user, "groups": []},
        "impersonatedUser": {"username": impersonated},
        "sourceIPs": ["127.0.0.1"], "requestReceivedTimestamp": "2026-11-29T03:00:00.5Z",
        "stageTimestamp": "2026-11-29T03:00:00.6Z",
    });
    Line { number: 1, text: text.to_string(), cut: false }
}

#[test]
fn requests_match_by_the_id_that_the_gateway_chose() {
    let begun = "2026-11-29T03:00:00Z";
    let mut recorded = session(Protocol::Kubernetes, begun, "2026-11-29T03:01:00Z");
    let pods = "/api/v1/pods?limit=500";
    recorded.commands = vec![command(1, at(begun), "get", &format!("GET {pods}"), true)];
    let id = CommandId { session: recorded.session, number: 1 }.in_one_word();
    let held = |lines: Vec<Line>| {
        let options = Options {
            except: vec!["system:*".parse().unwrap()],
            since: Some(at(begun)),
            ..Options::default()
        };
        let sessions = [recorded.clone()];
        let mut matcher = Kubernetes::new(&sessions, &options);
        matcher.take(kubernetes::events(lines.into_iter()));
        let report = matcher.finish();
        let kinds = report.findings.iter().map(|f| f.kind).collect::<Vec<_>>();
        (report, kinds)
    };
    let good = |stage: &str| event(&id, stage, pods, "weir-gateway", "alice");
    let (report, kinds) = held(vec![good("RequestReceived"), good("ResponseComplete")]);
    assert_eq!((report.log.matched, kinds), (1, vec![]));
    assert_eq!(
        held(vec![good("ResponseComplete"), good("ResponseComplete")]).1,
        [Kind::Unrecorded]
    );
    let other = event(&id, "ResponseComplete", "/api/v1/secrets", "weir-gateway", "alice");
    assert_eq!(held(vec![other]).1, [Kind::Differs]);
    let other = event(&id, "ResponseComplete", pods, "weir-gateway", "dana");
    assert_eq!(held(vec![other]).1, [Kind::Differs]);
    // Another request with the same id: another thing is asked, or the same at another time.
    let again = |from: &str, to: &str| {
        let mut line = good("ResponseComplete");
        line.text = line.text.replace(from, to);
        held(vec![good("RequestReceived"), line]).1
    };
    assert_eq!(again("00.5Z", "00.6Z"), [Kind::Unrecorded]);
    assert_eq!(again(pods, "/api/v1/secrets"), [Kind::Unrecorded]);
    assert_eq!(again("weir-gateway", "admin"), [Kind::Unrecorded]);
    assert_eq!(again("\"verb\":\"get\"", "\"verb\":\"delete\""), [Kind::Unrecorded]);
    let mut verb = good("ResponseComplete");
    verb.text = verb.text.replace("\"verb\":\"get\"", "\"verb\":\"delete\"");
    assert_eq!(held(vec![verb]).1, [Kind::Differs]);
    let past = event("4f0c", "ResponseComplete", pods, "admin", "alice");
    let system = event("4f0d", "ResponseComplete", pods, "system:apiserver", "");
    let (report, kinds) = held(vec![past, system, good("Panic")]);
    assert_eq!((report.log.excepted, kinds), (1, vec![Kind::Unrecorded]));
    let torn = Line { number: 1, text: "{\"kind\":\"Ev".to_owned(), cut: false };
    assert_eq!(held(vec![torn]).1, [Kind::Unread, Kind::Unlogged]);
}

#[test]
fn a_session_is_read_from_its_trail() {
    let read = |text: &str| serde_json::from_str::<TrailEvent>(text).unwrap();
    let leg = |process: &str| {
        read(&format!(r#"{{"is":"leg","from":"10.0.0.7:5","to":"10.0.0.8:5432"{process}}}"#))
    };
    let mut session = session(Protocol::Postgres, "2026-11-29T03:00:00Z", "2026-11-29T03:00:00Z");
    let now = at("2026-11-29T03:00:01Z");
    session.see(now, &leg(""));
    session.see(now, &leg(r#","process":421"#));
    assert_eq!(session.legs.len(), 1, "the second names the first");
    assert_eq!(session.legs[0].process, Some(421));
    let decided = |number: u64, verdict: &str| {
        read(&format!(
            r#"{{"is":"command","number":{number},"command":{{"verb":"query","text":"SELECT 1",
            "details":[],"effects":[],"objects":[],"reads":[],"writes":[],"unsupported":null,
            "unholdable":null,"facts":[]}},"verdict":{verdict}}}"#
        ))
    };
    session.see(now, &decided(1, r#"{"is":"allow","rules":[]}"#));
    session.see(now, &decided(2, r#"{"is":"hold","rules":[],"reason":"","approvers":[]}"#));
    let ended = r#"{"is":"ended","number":1,"ending":{"how":"done","status":"SELECT 1"},
        "volume":{"rows":1,"bytes":1,"masked":0}}"#;
    session.see(now, &read(ended));
    let fates = session.commands.iter().map(RecordedCommand::fate).collect::<Vec<_>>();
    assert_eq!(fates, [Fate::Ran, Fate::Kept]);
    assert_eq!(session.ended, now);
}

/// Rows of a csvlog of one backend.
fn rows(says: &[(&str, &str, &str)]) -> String {
    let row = |(severity, message, statement): &(&str, &str, &str)| {
        format!(
            "2026-11-29 02:57:56.000 UTC,\"a\",\"b\",1,\"::1:91\",x,1,\"\",2026-11-29 02:57:55 UTC,,0,\
             {severity},00000,\"{message}\",,,,,,\"{statement}\",,,\"\",\"\"\n"
        )
    };
    says.iter().map(row).collect()
}

#[test]
fn an_error_tells_its_statement_once_more_and_is_no_second_one() {
    let held = |commands: &[(&str, bool)], says: &[(&str, &str, &str)]| {
        let mut sessions = postgres_sessions([1, 2, 3], [91, 92, 93], "02:57");
        sessions.truncate(1);
        let text = "SELECT 1";
        let begun = sessions[0].begun;
        let each = (1..).zip(commands);
        sessions[0].commands =
            each.map(|(n, (verb, done))| command(n, begun, verb, text, *done)).collect();
        let options = Options { since: Some(begun), ..Options::default() };
        let mut matcher = Postgres::new(&sessions, &options);
        let rows = rows(says);
        matcher.take(Format::Csv.read(Lines::new(rows.as_bytes()), &options.time));
        matcher.finish()
    };
    let (ran, failed) = (("LOG", "statement: SELECT 1", ""), ("ERROR", "no", "SELECT 1"));
    // It ran and failed; it ran, and another failed at its Bind; its Parse failed, and later it ran.
    for (commands, says) in [
        (&[("query", false)][..], &[ran, failed][..]),
        (&[("query", true), ("query", false)], &[ran, failed]),
        (&[("query", false), ("query", true)], &[failed, ran]),
        (&[("parse", false), ("parse", true), ("query", true)], &[failed, ran]),
    ] {
        let report = held(commands, says);
        assert!(report.all_matched(), "{commands:?} {report:#?}");
    }
    assert_eq!(held(&[("query", true)], &[ran, failed, failed]).findings.len(), 1);
    assert_eq!(held(&[("query", true), ("query", true)], &[ran]).findings.len(), 1);
}

proptest! {
    /// Whatever runs through the gateway and is logged matches, in whatever order sessions mix; and
    /// one statement more is found.
    #[test]
    fn whatever_ran_matches_and_one_more_is_found(
        texts in proptest::collection::vec("[ -~\\n\\t\"',;]{1,30}", 1..20),
        order in proptest::collection::vec(0..3_usize, 20),
        extra in 0..20_usize,
    ) {
        let mut sessions = postgres_sessions([1, 2, 3], [11, 12, 13], "02:57");
        for session in &mut sessions {
            session.commands.clear();
        }
        let start = at("2026-11-29T02:57:55Z");
        let mut rows = String::new();
        let mut row = |process: i64, text: &str| {
            let quoted = text.replace('"', "\"\"");
            let row = format!(
                "2026-11-29 02:57:56.000 UTC,\"a\",\"b\",{process},\"::1:9{process}\",x,1,\"\",\
                 2026-11-29 02:57:55 UTC,,0,LOG,00000,\"statement: {quoted}\",,,,,,,,,\"\",\"\"\n"
            );
            rows.push_str(&row);
        };
        for (text, who) in texts.iter().zip(&order) {
            let text = format!("SELECT {text}");
            let commands = &mut sessions[*who].commands;
            let number = u64::try_from(commands.len()).unwrap() + 1;
            commands.push(command(number, start, "query", &text, true));
            row(i64::try_from(*who).unwrap() + 1, &text);
        }
        let process = i64::try_from(order[extra % order.len()]).unwrap() + 1;
        row(process, "DROP TABLE what_nobody_asked");
        for (session, port) in sessions.iter_mut().zip(91..) {
            session.legs[0].from.set_port(port);
        }
        let options = Options::default();
        let mut matcher = Postgres::new(&sessions, &options);
        let lines = Lines::new(rows.as_bytes());
        matcher.take(Format::Csv.read(lines, &options.time));
        let report = matcher.finish();
        prop_assert_eq!(report.findings.len(), 1, "{:#?}", report);
        prop_assert_eq!(report.findings[0].what.as_str(), "DROP TABLE what_nobody_asked");
        prop_assert_eq!(report.log.matched, u64::try_from(texts.len()).unwrap());
    }

    #[test]
    fn no_line_makes_a_parser_panic(text in "\\PC{0,200}") {
        let lines = || Lines::new(text.as_bytes());
        let options = Options::default();
        let head = lines().collect::<Vec<_>>();
        if let Some(format) = Format::guess(&head, &options.time) {
            format.read(lines(), &options.time).for_each(drop);
        }
        sshd::entries(lines(), &options.time).for_each(drop);
        kubernetes::events(lines()).for_each(drop);
    }
}

#[test]
fn a_session_id_is_read_back_from_a_request_s_id() {
    let id = CommandId { session: SESSION.parse().unwrap(), number: 17 }.in_one_word();
    let (session, number) = id.rsplit_once('-').unwrap();
    assert_eq!(
        (session.parse::<SessionId>().unwrap().to_string().as_str(), number),
        (SESSION, "17")
    );
}
