//! What sshd's log says, line by line.
//!
//! Read are lines of syslog (with or without a year, and as RFC 5424 has them), of `journalctl -o
//! short`, `short-iso`, `short-precise` and `json`, and what `sshd -e` writes. Lines of other programs
//! are passed over. A line that may tell of a login, and cannot be read, is said to be unread.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Deserialize;

use crate::audit::reconcile::lines::Line;
use crate::audit::reconcile::time::LogTime;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// Somebody signed in.
    Accepted {
        /// The account.
        login: String,
        /// From where.
        from: Peer,
        /// By which key, or by what else: `ED25519 SHA256:…`, `password`.
        by: String,
    },
    /// Something was begun.
    Began {
        /// `command`, `shell` or `subsystem 'sftp'`.
        what: String,
        /// The account.
        login: String,
        /// In whose connection.
        from: Peer,
    },
    /// Somebody was not let in.
    Refused,
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The line, from 1.
    pub line: u64,
    /// When, if the log says so.
    pub at: Option<Timestamp>,
    /// What.
    pub says: Says,
}

/// What a log says next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// An entry.
    Entry(Entry),
    /// A line of sshd's, of nothing that a record has.
    Idle,
    /// A line of another program, or of nobody knows whom.
    Foreign,
    /// A line that may tell of a login, and could not be read.
    Unread {
        /// The line, from 1.
        line: u64,
        /// What stands there.
        text: String,
        /// Why it could not.
        why: &'static str,
    },
}

/// What is read of a line of `journalctl -o json`.
#[derive(Debug, Deserialize)]
struct JournalLine {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    realtime: Option<String>,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    program: Option<String>,
    #[serde(rename = "MESSAGE")]
    message: Option<JournalText>,
}

/// A text, or its bytes where one of them is no sign.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum JournalText {
    Text(String),
    Bytes(Vec<u8>),
}

/// Who wrote a line.
#[derive(Debug, PartialEq, Eq)]
enum Writer<'a> {
    /// sshd, and this is its message.
    Sshd(Option<Timestamp>, &'a str),
    /// Another program.
    Other,
    /// Nobody says: it may be what `sshd -e` writes.
    Unnamed(&'a str),
}

/// What begins the messages that `sshd -e` writes.
const OWN: [&str; 13] = [
    "Server listening ",
    "Connection from ",
    "Connection closed ",
    "Connection reset ",
    "Accepted ",
    "Postponed ",
    "Failed ",
    "Invalid user ",
    "Starting session: ",
    "Close session: ",
    "Received ",
    "Disconnected ",
    "User child ",
];
/// What `Accepted` may go on with that is no login: a key that was offered.
const NO_LOGIN: [&str; 2] = ["key ", "certificate ID "];

/// What each of `lines` says that is not empty.
pub fn entries<'a>(
    lines: impl Iterator<Item = Line> + 'a,
    time: &'a LogTime,
) -> impl Iterator<Item = Read> + 'a {
    lines.filter(|line| !line.text.trim().is_empty()).map(|line| read(line, time))
}

fn read(line: Line, time: &LogTime) -> Read {
    if line.cut {
        return unread(line, "it is longer than is read");
    }
    if line.text.starts_with('{') {
        return journal(line);
    }
    let (at, message) = match writer(&line.text, time) {
        Writer::Sshd(at, message) => (at, message),
        Writer::Unnamed(text) if OWN.iter().any(|head| text.starts_with(head)) => (None, text),
        Writer::Unnamed(text) if may_tell(text) => {
            return unread(line, "nothing says which program wrote it, and when");
        }
        Writer::Other | Writer::Unnamed(_) => return Read::Foreign,
    };
    match said(message, at, line.number) {
        Some(read) => read,
        None => unread(line, "it is about a login, and says not of whom and from where"),
    }
}

fn journal(line: Line) -> Read {
    let Ok(JournalLine { realtime, program, message }) = serde_json::from_str(&line.text) else {
        return unread(line, "it is no line of a journal");
    };
    if program.is_some_and(|program| !is_sshd(&program)) {
        return Read::Foreign;
    }
    let message = match message {
        Some(JournalText::Text(text)) => text,
        Some(JournalText::Bytes(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        None => return unread(line, "the journal left its message out (journalctl --all has it)"),
    };
    let micros = realtime.and_then(|micros| micros.parse().ok());
    let at = micros.and_then(|micros| Timestamp::from_microsecond(micros).ok());
    match said(&message, at, line.number) {
        Some(read) => read,
        None => unread(line, "it is about a login, and says not of whom and from where"),
    }
}

fn unread(line: Line, why: &'static str) -> Read {
    Read::Unread { line: line.number, text: line.text, why }
}

/// Whether a line of nobody knows whom may be a message of sshd's that counts.
fn may_tell(text: &str) -> bool {
    let accepted = text.contains("Accepted ") && text.contains(" for ");
    accepted || text.contains("Starting session: ")
}

/// Parts time, host and program from the message.
fn writer<'a>(line: &'a str, time: &LogTime) -> Writer<'a> {
    let numbered = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let numbered = numbered.filter(|(number, _)| number.bytes().all(|sign| sign.is_ascii_digit()));
    let line = numbered.map_or(line, |(_, rest)| rest);
    if let Some(rest) = numbered.and_then(|(_, rest)| rest.strip_prefix("1 ")) {
        return rfc5424(rest).unwrap_or(Writer::Unnamed(line));
    }
    let Some((head, message)) = line.split_once(": ") else { return Writer::Unnamed(line) };
    let tag = head.rsplit_once(' ').map_or(head, |(_, tag)| tag);
    let mut words = head.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    let at = LogTime::stamp(first).or_else(|| {
        let (day, clock) = (words.next()?, words.next()?);
        time.without_year(first, day, clock)
    });
    // A message cannot play the part of the tag: its own head comes first.
    match (is_sshd(tag.split('[').next().unwrap_or(tag)), at) {
        (true, at) => Writer::Sshd(at, message),
        (false, Some(_)) => Writer::Other,
        (false, None) => Writer::Unnamed(line),
    }
}

/// `2026-11-29T02:48:39.003Z web-1 sshd 421 - - Accepted …`, behind `<38>1 `.
fn rfc5424(text: &str) -> Option<Writer<'_>> {
    let mut words = text.splitn(6, ' ');
    let (at, _host, program) = (words.next()?, words.next()?, words.next()?);
    let (_process, _kind, rest) = (words.next()?, words.next()?, words.next()?);
    if !is_sshd(program) {
        return Some(Writer::Other);
    }
    let message = match rest.strip_prefix('-') {
        Some(rest) => rest,
        None => rest.rsplit_once("] ").filter(|_| rest.starts_with('['))?.1,
    };
    let message = message.trim_start_matches([' ', '\u{feff}']);
    Some(Writer::Sshd(LogTime::stamp(at), message))
}

/// Newer versions of sshd split themselves into `sshd-session` and `sshd-auth`.
fn is_sshd(program: &str) -> bool {
    matches!(program, "sshd" | "sshd-session" | "sshd-auth")
}

/// What a message of sshd's says; `None`: it is about a login, and cannot be read.
fn said(message: &str, at: Option<Timestamp>, line: u64) -> Option<Read> {
    let message = message.trim_end();
    let entry = |says| Read::Entry(Entry { line, at, says });
    if let Some(rest) = message.strip_prefix("Accepted ") {
        let is_login = !NO_LOGIN.iter().any(|head| rest.starts_with(head));
        return if is_login { accepted(rest).map(entry) } else { Some(Read::Idle) };
    }
    if let Some(rest) = message.strip_prefix("Starting session: ") {
        return began(rest).map(entry);
    }
    if message.starts_with("message repeated ") && may_tell(message) {
        return None;
    }
    // Of one attempt there may be several lines `Failed …`; these stand once.
    let refused = ["Invalid user ", "Connection closed by authenticating user "];
    let is_refused = refused.iter().any(|head| message.starts_with(head));
    Some(if is_refused { entry(Says::Refused) } else { Read::Idle })
}

/// `publickey for deploy from 127.0.0.1 port 53254 ssh2: ED25519 SHA256:…`.
fn accepted(rest: &str) -> Option<Says> {
    let (method, rest) = rest.split_once(" for ")?;
    // Behind that stands what a certificate says of itself.
    let (place, key) = rest.split_once(" ssh2").unwrap_or((rest, ""));
    let (login, from) = peer(place)?;
    let key = key.trim_start_matches([':', ' ']);
    let by = if key.is_empty() { method } else { key };
    Some(Says::Accepted { login: login.to_owned(), from, by: by.to_owned() })
}

/// `shell on pts/0 for deploy from 127.0.0.1 port 53254 id 0`.
fn began(rest: &str) -> Option<Says> {
    let (what, rest) = rest.split_once(" for ")?;
    let (login, from) = peer(rest)?;
    let what = what.split(" on ").next().unwrap_or(what).to_owned();
    Some(Says::Began { what, login: login.to_owned(), from })
}

/// `deploy from 127.0.0.1 port 53254…`: the account and the peer.
fn peer(text: &str) -> Option<(&str, Peer)> {
    // An account may be called anything; what follows the last ` from ` was written by sshd.
    let (login, rest) = text.rsplit_once(" from ")?;
    let (address, rest) = rest.split_once(" port ")?;
    let end = rest.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(rest.len());
    let (port, _) = rest.split_at_checked(end)?;
    // On which of its networks it is the same address for others, only the target knows.
    let (address, _scope) = address.split_once('%').unwrap_or((address, ""));
    Some((login, Peer { address: address.parse().ok()?, port: port.parse().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Read {
        let time = LogTime { zone: None, near: "2026-11-29T00:00:00Z".parse().ok() };
        super::read(Line { number: 1, text: text.to_owned(), cut: false }, &time)
    }

    fn read(text: &str) -> Option<Entry> {
        if let Read::Entry(entry) = line(text) { Some(entry) } else { None }
    }

    const ACCEPTED: &str =
        "Accepted publickey for deploy from 10.0.0.7 port 53254 ssh2: ED25519 SHA256:abc/def";

    #[test]
    fn every_way_in_which_sshd_is_logged_is_read() {
        let at = "2026-11-29T02:48:39Z".parse().ok();
        for (head, at) in [
            ("", None),
            ("Nov 29 02:48:39 web-1 sshd[421]: ", at),
            ("2026-11-29T02:48:39+00:00 web-1 sshd[421]: ", at),
            ("2026-11-29T03:48:39+0100 web-1 sshd-session[421]: ", at),
            ("2026-11-29T02:48:39Z web-1 sshd: ", at),
            ("<38>Nov 29 02:48:39 web-1 sshd[421]: ", at),
            ("<38>1 2026-11-29T02:48:39Z web-1 sshd 421 - - ", at),
            ("<38>1 2026-11-29T02:48:39Z web-1 sshd 421 - [a@1 b=\"c\"] \u{feff}", at),
        ] {
            let entry = read(&format!("{head}{ACCEPTED}")).unwrap_or_else(|| panic!("{head}"));
            assert_eq!(entry.at, at, "{head}");
            let Says::Accepted { login, from, by } = entry.says else { panic!("{head}") };
            assert_eq!((login.as_str(), from.port), ("deploy", 53254));
            assert_eq!(by, "ED25519 SHA256:abc/def");
        }
        let journal = format!(
            r#"{{"__REALTIME_TIMESTAMP":"1795920519000000","MESSAGE":"{ACCEPTED}","_PID":"7"}}"#
        );
        assert_eq!(read(&journal).unwrap().at, at);
        let bytes = serde_json::to_string(ACCEPTED.as_bytes()).unwrap();
        let journal = journal.replace(&format!("\"{ACCEPTED}\""), &bytes);
        assert_eq!(read(&journal).unwrap().at, at);
        assert_eq!(line(&journal.replace("_PID", "SYSLOG_IDENTIFIER")), Read::Foreign);
    }

    #[test]
    fn what_was_begun_is_told_apart_and_names_play_no_part() {
        for (text, what) in [
            ("Starting session: command for a from ::1 port 5 id 0", "command"),
            ("Starting session: shell on pts/0 for a from ::1 port 5 id 0", "shell"),
            ("Starting session: subsystem 'sftp' for a from ::1 port 5 id 0", "subsystem 'sftp'"),
        ] {
            let Some(Entry { says: Says::Began { what: read, .. }, .. }) = read(text) else {
                panic!("{text}")
            };
            assert_eq!(read, what);
        }
        let odd = "Accepted password for a from 9.9.9.9 port 1 from 10.0.0.7 port 53254 ssh2";
        let Some(Entry { says: Says::Accepted { from, by, .. }, .. }) = read(odd) else { panic!() };
        assert_eq!((from.address.to_string().as_str(), by.as_str()), ("10.0.0.7", "password"));
        assert_eq!(read("Nov 29 02:48:39 web-1 cron[1]: Accepted x for a from ::1 port 5"), None);
        assert_eq!(
            read("Connection closed by authenticating user root ::1 port 5 [preauth]")
                .unwrap()
                .says,
            Says::Refused
        );
    }
    #[test]
    fn a_login_that_cannot_be_read_is_said_to_be() {
        let head = "Nov 29 02:48:39 web-1 sshd[421]: ";
        let scoped = read(&format!("{head}Accepted password for a from fe80::1%eth0 port 5 ssh2"));
        let Some(Entry { says: Says::Accepted { from, .. }, .. }) = scoped else { panic!() };
        assert_eq!(from.address.to_string(), "fe80::1");
        let named = "Accepted publickey for a from 10.0.0.7 port 5 ssh2: ED25519-CERT SHA256:x ID b \
                     from 9.9.9.9 port 22 ssh2 (serial 1) CA ED25519 SHA256:y";
        let Some(Entry { says: Says::Accepted { login, from, .. }, .. }) = read(named) else {
            panic!()
        };
        assert_eq!((login.as_str(), from.address.to_string().as_str()), ("a", "10.0.0.7"));
        for text in [
            "Accepted password for a from UNKNOWN port 65535 ssh2",
            "Accepted in some other way",
            "message repeated 2 times: [ Accepted password for a from ::1 port 5 ssh2]",
            "Starting session: shell on pts/0 for a from UNKNOWN port 65535 id 0",
        ] {
            assert!(matches!(line(&format!("{head}{text}")), Read::Unread { .. }), "{text}");
            assert!(matches!(line(text), Read::Unread { .. }), "{text}");
        }
        let odd = format!("web-1 | {ACCEPTED}");
        assert!(matches!(line(&odd), Read::Unread { .. }));
        assert!(matches!(line(r#"{"MESSAGE":null}"#), Read::Unread { .. }));
        assert!(matches!(line("{\"MESSAGE\":\"Acc"), Read::Unread { .. }));
        for text in ["Accepted key ED25519 SHA256:x found at f:1", "Accepted certificate ID \"x\""]
        {
            assert_eq!(line(&format!("{head}{text}")), Read::Idle, "{text}");
        }
        assert_eq!(line("Nov 29 02:48:39 web-1 cron[1]: Starting session: x"), Read::Foreign);
        assert_eq!(line("what is this"), Read::Foreign);
    }
}
