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
}
