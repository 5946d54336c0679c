//! What somebody may try who went past the gateway, and does not want it to be seen.

use super::*;

/// Holds lines of sshd against sessions.
fn sshd_held(sessions: &[RecordedSession], log: &[&str]) -> Report {
    let options = Options::default();
    let text = log.join("\n");
    let mut matcher = Sshd::new(sessions, &options);
    let lines = Lines::new(text.as_bytes());
    matcher.take(sshd::entries(lines, &options.time));
    matcher.finish()
}

/// Holds a csvlog against sessions.
fn csv_held(sessions: &[RecordedSession], says: &[(&str, &str, &str)]) -> Report {
    let options = Options::default();
    let rows = rows(says);
    let mut matcher = Postgres::new(sessions, &options);
    matcher.take(Format::Csv.read(Lines::new(rows.as_bytes()), &options.time));
    matcher.finish()
}

fn kinds(report: &Report) -> Vec<Kind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_login_does_not_hide_behind_a_leg_that_no_login_has() {
    let mut recorded = session(Protocol::Ssh, "2026-11-29T03:14:15Z", "2026-11-29T03:14:40Z");
    recorded.legs = vec![
        leg(at("2026-11-29T03:14:15Z"), 33200, None, Some(1)),
        leg(at("2026-11-29T03:14:17Z"), 33208, None, Some(2)),
    ];
    recorded.commands = vec![
        command(1, at("2026-11-29T03:14:15Z"), "exec", "true", true),
        command(2, at("2026-11-29T03:14:17Z"), "exec", "true", true),
    ];
    // Its client went away: the target need not have logged it.
    recorded.commands[1].ending = Some(Ending::Cut { reason: "gone".to_owned() });
    let line = |second: u8, port: u16| {
        format!(
            "2026-11-29T03:14:{second}Z web-1 sshd[1]: Accepted publickey for deploy from 127.0.0.1 \
             port {port} ssh2: ED25519 SHA256:x"
        )
    };
    let (own, past) = (line(16, 33200), line(18, 50000));
    let report = sshd_held(std::slice::from_ref(&recorded), &[&own, &past]);
    assert_eq!((kinds(&report), report.log.matched_by_text), (vec![Kind::Login], 0));
    assert_eq!(report.findings[0].line, Some(2));
    // Where addresses are changed on the way, none of the gateway's ports is in the log.
    let report = sshd_held(&[recorded], &[&past]);
    assert_eq!((report.log.matched_by_text, kinds(&report)), (1, vec![]));
}

#[test]
fn a_login_that_cannot_be_read_is_a_mismatch() {
    let line = "Accepted password for root from UNKNOWN port 65535 ssh2";
    assert_eq!(kinds(&sshd_held(&[], &[line])), [Kind::Unread]);
}

#[test]
fn a_log_of_something_else_is_known_to_be_one() {
    let options = Options::default();
    let sshd = |name: &str| {
        let mut matcher = Sshd::new(&[], &options);
        matcher.take(sshd::entries(corpus(name).into_iter(), &options.time))
    };
    assert!(sshd("postgres_log/debian.csv").is_foreign());
    for name in ["syslog", "short-iso", "own", "journal-json"] {
        assert!(!sshd(&format!("sshd_log/{name}")).is_foreign(), "{name}");
    }
    let postgres = |says: &[(&str, &str, &str)]| {
        let mut matcher = Postgres::new(&[], &options);
        let rows = rows(says);
        matcher.take(Format::Csv.read(Lines::new(rows.as_bytes()), &options.time))
    };
    assert!(postgres(&[("LOG", "Anweisung: DROP TABLE customers", "")]).is_foreign());
    assert!(!postgres(&[("LOG", "checkpoint starting: time", "")]).is_foreign());
    assert!(!postgres(&[]).is_foreign(), "nothing is in it");
}

#[test]
fn what_was_only_prepared_or_bound_past_the_gateway_is_listed_once() {
    let prepared = ("LOG", "duration: 0.1 ms  parse s: SELECT wipe()", "");
    let bound = ("LOG", "duration: 0.1 ms  bind s: SELECT wipe()", "");
    let ran = ("LOG", "duration: 0.1 ms  execute s: SELECT wipe()", "");
    let fetched = ("LOG", "duration: 0.1 ms  execute fetch from s: SELECT wipe()", "");
    for says in [&[prepared][..], &[bound], &[fetched], &[prepared, bound, ran, fetched]] {
        let report = csv_held(&[], says);
        assert_eq!(kinds(&report), [Kind::Unrecorded], "{says:?}");
        assert_eq!(report.findings[0].what, "SELECT wipe()");
    }
}

#[test]
fn a_denial_s_token_is_the_gateway_s_only_where_something_was_denied() {
    let mut sessions = postgres_sessions([1, 2, 3], [91, 92, 93], "02:57");
    sessions.truncate(1);
    sessions[0].commands.truncate(1);
    let token = |number: u64| format!("weir_denied_{number}_00ff");
    let held = |sessions: &[RecordedSession], number: u64| {
        let token = token(number);
        let message = format!("syntax error at or near \"\"{token}\"\" at character 1");
        csv_held(sessions, &[("LOG", "statement: SELECT 1", ""), ("ERROR", &message, &token)])
    };
    assert_eq!(kinds(&held(&sessions, 1)), [Kind::Unrecorded], "nothing was denied in it");
    let mut denied = command(2, sessions[0].begun, "query", "DROP TABLE customers", true);
    (denied.sent, denied.ending) = (false, None);
    sessions[0].commands.push(denied);
    let report = held(&sessions, 2);
    assert_eq!((kinds(&report), report.log.gateways_own), (vec![], 1));
    assert_eq!(kinds(&held(&sessions, 3)), [Kind::Unrecorded], "there is no such command");
}
