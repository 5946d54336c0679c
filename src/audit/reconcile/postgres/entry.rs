//! What a message of PostgreSQL's log says that a record can be held against.

use jiff::Timestamp;

use crate::audit::reconcile::report;
use crate::model::digest::Digest;

/// What the gateway sends in place of what was denied begins so; the command's number follows.
const DENIED: &str = "weir_denied_";

/// A message of the log, whatever the format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Its first line in the log, from 1.
    pub line: u64,
    /// When.
    pub at: Option<Timestamp>,
    /// The backend's process.
    pub process: Option<i64>,
    /// Who it is signed in as.
    pub user: Option<String>,
    /// In which database.
    pub database: Option<String>,
    /// From where.
    pub remote: Option<String>,
    /// From which port.
    pub port: Option<u16>,
    /// `LOG`, `ERROR`, …
    pub severity: String,
    /// What it says.
    pub text: String,
    /// The statement that it is about (`STATEMENT`), where it is about one.
    pub statement: Option<String>,
}

/// A statement's text, as far as it is needed to know it again and to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) digest: Digest,
    pub(super) shown: String,
}

impl Text {
    pub(super) fn of(text: &str) -> Self {
        Self { digest: Digest::of(text.as_bytes()), shown: report::shown(text) }
    }
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Says {
    /// A connection came in, from this port.
    Received(Option<u16>),
    /// Somebody signed in.
    Authorized,
    /// Somebody was not let in.
    Refused,
    /// A statement runs.
    Runs(Text),
    /// More of a statement's rows are fetched.
    Fetches(Text),
    /// A statement was prepared (its duration is logged).
    Prepared(Text),
    /// A statement was bound (its duration is logged), which may run some of it already.
    Bound(Text),
    /// A statement failed, perhaps before it was logged as running.
    Failed(Text),
    /// A denied command's place was kept; its number.
    Denied(Option<u64>),
    /// Something ran that is no statement: a function by its number, a command of replication.
    Other(Text),
}

/// Reads a message; `None`: it is about nothing that a record has.
pub(super) fn says(message: &Message) -> Option<Says> {
    // Where it stands in a statement, that is what is told.
    let alone = message.statement.as_ref().is_none_or(|statement| statement.starts_with(DENIED));
    if let Some(at) = message.text.find(DENIED)
        && matches!(message.severity.as_str(), "ERROR" | "FATAL")
        && alone
    {
        let number = message.text.get(at.saturating_add(DENIED.len())..)?.split('_').next();
        return Some(Says::Denied(number.and_then(|number| number.parse().ok())));
    }
    match message.severity.as_str() {
        "LOG" => logged(&message.text),
        "ERROR" | "FATAL" | "PANIC" => failed(message),
        _ => None,
    }
}

/// Whether a message that says nothing here is one of a server that speaks English: of another's log,
/// none can be read.
pub(super) fn is_english(message: &Message) -> bool {
    const KNOWN: [&str; 9] = [
        "starting PostgreSQL",
        "listening on ",
        "database system ",
        "checkpoint ",
        "disconnection: ",
        "received ",
        "shutting down",
        "duration: ",
        "automatic ",
    ];
    message.severity == "LOG" && KNOWN.iter().any(|head| message.text.starts_with(head))
}

fn logged(text: &str) -> Option<Says> {
    if let Some(rest) = text.strip_prefix("connection received: ") {
        let port = rest.rsplit_once("port=").and_then(|(_, port)| port.trim().parse().ok());
        return Some(Says::Received(port));
    }
    if text.starts_with("connection authorized: ")
        || text.starts_with("replication connection authorized: ")
    {
        return Some(Says::Authorized);
    }
    if let Some(rest) = text.strip_prefix("statement: ") {
        return Some(Says::Runs(Text::of(rest)));
    }
    if let Some(rest) = text.strip_prefix("execute ") {
        return executed(rest);
    }
    if text.starts_with("fastpath function call: ")
        || text.starts_with("received replication command: ")
    {
        return Some(Says::Other(Text::of(text)));
    }
    // With log_min_duration_statement, the text stands behind the time that it took.
    let (_, rest) = text.strip_prefix("duration: ")?.split_once(" ms  ")?;
    if let Some(rest) = rest.strip_prefix("statement: ") {
        return Some(Says::Runs(Text::of(rest)));
    }
    if let Some(rest) = rest.strip_prefix("execute ") {
        return executed(rest);
    }
    if let Some(rest) = rest.strip_prefix("parse ") {
        return rest.split_once(": ").map(|(_, text)| Says::Prepared(Text::of(text)));
    }
    if let Some(rest) = rest.strip_prefix("bind ") {
        return rest.split_once(": ").map(|(_, text)| Says::Bound(Text::of(text)));
    }
    rest.starts_with("fastpath function call: ").then(|| Says::Other(Text::of(rest)))
}

/// `<unnamed>: SELECT 1`, `s/p: SELECT 1`, `fetch from s/p: SELECT 1`.
fn executed(rest: &str) -> Option<Says> {
    let (name, text) = rest.split_once(": ")?;
    let text = Text::of(text);
    Some(if name.starts_with("fetch from ") { Says::Fetches(text) } else { Says::Runs(text) })
}

fn failed(message: &Message) -> Option<Says> {
    if let Some(statement) = &message.statement {
        return Some(Says::Failed(Text::of(statement)));
    }
    let refused =
        ["password authentication failed", "no pg_hba.conf entry", "authentication failed"];
    let is_refused = message.severity == "FATAL"
        && (refused.iter().any(|words| message.text.contains(words))
            || message.text.contains("does not exist")
            || message.text.contains("authentication"));
    is_refused.then_some(Says::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Option<Says> {
        says(&Message { severity: "LOG".into(), text: text.into(), ..Message::default() })
    }

    #[test]
    fn messages_say_what_ran() {
        let text = Text::of("SELECT 1");
        for (message, says) in [
            ("statement: SELECT 1", Says::Runs(text.clone())),
            ("execute <unnamed>: SELECT 1", Says::Runs(text.clone())),
            ("execute s/p: SELECT 1", Says::Runs(text.clone())),
            ("execute fetch from s/p: SELECT 1", Says::Fetches(text.clone())),
            ("duration: 0.123 ms  statement: SELECT 1", Says::Runs(text.clone())),
            ("duration: 0.123 ms  execute s: SELECT 1", Says::Runs(text.clone())),
            ("duration: 0.123 ms  parse s: SELECT 1", Says::Prepared(text.clone())),
            ("duration: 0.123 ms  bind s/p: SELECT 1", Says::Bound(text)),
            ("connection received: host=::1 port=51234", Says::Received(Some(51234))),
            ("connection received: host=[local]", Says::Received(None)),
            ("connection authorized: user=a database=b", Says::Authorized),
        ] {
            assert_eq!(log(message), Some(says), "{message}");
        }
        for nothing in ["duration: 0.1 ms", "checkpoint"] {
            assert_eq!(log(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn errors_are_about_their_statement_or_a_denied_command() {
        let error = |text: &str, statement: Option<&str>| {
            says(&Message {
                severity: "ERROR".into(),
                text: text.into(),
                statement: statement.map(str::to_owned),
                ..Message::default()
            })
        };
        let token = "syntax error at or near \"weir_denied_17_00ff\" at character 1";
        assert_eq!(error(token, Some("weir_denied_17_00ff")), Some(Says::Denied(Some(17))));
        let own = "SELECT weir_denied_17_00ff";
        assert_eq!(error(token, Some(own)), Some(Says::Failed(Text::of(own))));
        assert_eq!(error(token, None), Some(Says::Denied(Some(17))));
        let failed = Says::Failed(Text::of("SELEC 1"));
        assert_eq!(error("syntax error at or near \"SELEC\"", Some("SELEC 1")), Some(failed));
        assert_eq!(error("canceling statement", None), None);
    }
}
