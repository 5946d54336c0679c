//! The logs of targets: whatever they say, each line is read once and in order.

use crate::audit::reconcile::Lines;
use crate::audit::reconcile::LogTime;
use crate::audit::reconcile::Options;
use crate::audit::reconcile::kubernetes;
use crate::audit::reconcile::kubernetes::Kubernetes;
use crate::audit::reconcile::postgres::Format;
use crate::audit::reconcile::postgres::Postgres;
use crate::audit::reconcile::postgres::Prefix;
use crate::audit::reconcile::postgres::Read;
use crate::audit::reconcile::sshd;
use crate::audit::reconcile::sshd::Sshd;

/// Reads a log in the format that fits, in all formats, and with its first line as the prefix.
pub(super) fn postgres_log(bytes: &[u8]) {
    let time = LogTime::default();
    let lines = Lines::new(bytes).collect::<Vec<_>>();
    let guessed = Format::guess(&lines, &time);
    let prefix = lines.first().and_then(|line| line.text.parse::<Prefix>().ok());
    let formats = [Some(Format::Csv), Some(Format::Json), prefix.map(Format::Stderr), guessed];
    for format in formats.into_iter().flatten() {
        let mut last = 0;
        for read in format.read(lines.iter().cloned(), &time) {
            let line = match read {
                Read::Message(message) => message.line,
                Read::Unread { line, .. } => line,
            };
            assert!(line > last, "line {line} was read after line {last}");
            last = line;
        }
        let options = Options::default();
        let mut matcher = Postgres::new(&[], &options);
        matcher.take(format.read(lines.iter().cloned(), &time));
        let report = matcher.finish();
        assert_eq!(report.log.matched, 0, "something matched nothing");
    }
}

/// Reads a log as sshd's.
pub(super) fn sshd_log(bytes: &[u8]) {
    let options = Options::default();
    let time = LogTime { zone: None, near: "2026-11-29T00:00:00Z".parse().ok() };
    let mut matcher = Sshd::new(&[], &options);
    matcher.take(sshd::entries(Lines::new(bytes), &time));
    let report = matcher.finish();
    assert_eq!(report.log.matched, 0, "something matched nothing");
}

/// Reads a log as an API server's: every line is an event or is listed.
pub(super) fn kubernetes_audit(bytes: &[u8]) {
    let options = Options::default();
    let mut matcher = Kubernetes::new(&[], &options);
    matcher.take(kubernetes::events(Lines::new(bytes)));
    let report = matcher.finish();
    assert_eq!(report.log.matched, 0, "something matched nothing");
}
