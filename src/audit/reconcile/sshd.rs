//! sshd's log against sessions: logins, and what was begun in them.
//!
//! Read are lines of syslog (with or without a year), of `journalctl -o short`, `short-iso`,
//! `short-precise` and `json`, and what `sshd -e` writes. What was begun is there at
//! `LogLevel VERBOSE`; which command line it was, sshd does not say.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;

use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Deserialize;

use crate::audit::reconcile::lines::Line;
use crate::audit::reconcile::options::Options;
use crate::audit::reconcile::recorded::Fate;
use crate::audit::reconcile::recorded::RecordedCommand;
use crate::audit::reconcile::recorded::RecordedLeg;
use crate::audit::reconcile::recorded::RecordedSession;
use crate::audit::reconcile::report::Finding;
use crate::audit::reconcile::report::Kind;
use crate::audit::reconcile::report::Report;
use crate::audit::reconcile::time::LogTime;
use crate::model::Protocol;

/// How long a leg may take from its first byte to the sign-in, in seconds: the gateway gives up
/// then.
const SIGN_IN_S_MAX: i64 = 20;

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

/// The entries in `lines` that are sshd's, of logins. Lines of other programs are passed over.
pub fn entries<'a>(
    lines: impl Iterator<Item = Line> + 'a,
    time: &'a LogTime,
) -> impl Iterator<Item = Entry> + 'a {
    lines.filter_map(|line| entry(&line, time))
}

fn entry(line: &Line, time: &LogTime) -> Option<Entry> {
    let (at, message) = if line.text.starts_with('{') {
        let read = serde_json::from_str::<JournalLine>(&line.text).ok()?;
        let micros = read.realtime.and_then(|micros| micros.parse().ok());
        (micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()), read.message)
    } else {
        let (at, message) = parted(&line.text, time);
        (at, message.to_owned())
    };
    says(message.trim_end()).map(|says| Entry { line: line.number, at, says })
}

/// What is read of a line of `journalctl -o json`.
#[derive(Debug, Deserialize)]
struct JournalLine {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    realtime: Option<String>,
    #[serde(rename = "MESSAGE")]
    message: String,
}

/// Parts time, host and program from the message. A message without them is `sshd -e`'s.
fn parted<'a>(line: &'a str, time: &LogTime) -> (Option<Timestamp>, &'a str) {
    let Some((head, message)) = program(line) else { return (None, line) };
    let mut words = head.split_ascii_whitespace();
    let Some(first) = words.next() else { return (None, message) };
    let at = LogTime::stamp(first).or_else(|| {
        let (day, clock) = (words.next()?, words.next()?);
        time.without_year(first, day, clock)
    });
    (at, message)
}

/// What stands before and behind `sshd[421]: `, whose newer versions split themselves into
/// `sshd-session` and `sshd-auth`. A message cannot play the part: its own head comes first.
fn program(line: &str) -> Option<(&str, &str)> {
    let (head, message) = line.split_once(": ")?;
    let tag = head.rsplit_once(' ').map_or(head, |(_, tag)| tag);
    let name = tag.split('[').next().unwrap_or(tag);
    let is_sshd = matches!(name, "sshd" | "sshd-session" | "sshd-auth");
    is_sshd.then(|| (head.strip_suffix(tag).unwrap_or_default(), message))
}

fn says(message: &str) -> Option<Says> {
    if let Some(rest) = message.strip_prefix("Accepted ") {
        // Accepted publickey for deploy from 127.0.0.1 port 53254 ssh2: ED25519 SHA256:…
        let (method, rest) = rest.split_once(" for ")?;
        let (login, from, after) = place(rest)?;
        let key = after.strip_prefix(" ssh2").unwrap_or(after).trim_start_matches([':', ' ']);
        let by = if key.is_empty() { method } else { key };
        return Some(Says::Accepted { login: login.to_owned(), from, by: by.to_owned() });
    }
    if let Some(rest) = message.strip_prefix("Starting session: ") {
        // Starting session: shell on pts/0 for deploy from 127.0.0.1 port 53254 id 0
        let (what, rest) = rest.split_once(" for ")?;
        let (login, from, _) = place(rest)?;
        let what = what.split(" on ").next().unwrap_or(what).to_owned();
        return Some(Says::Began { what, login: login.to_owned(), from });
    }
    // Of one attempt there may be several lines `Failed …`; these stand once.
    let refused = ["Invalid user ", "Connection closed by authenticating user "];
    refused.iter().any(|head| message.starts_with(head)).then_some(Says::Refused)
}

/// `deploy from 127.0.0.1 port 53254…`: the account, the peer, and what follows.
fn place(text: &str) -> Option<(&str, Peer, &str)> {
    // An account may be called anything; what follows the last ` from ` was written by sshd.
    let (login, rest) = text.rsplit_once(" from ")?;
    let (address, rest) = rest.split_once(" port ")?;
    let end = rest.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(rest.len());
    let (port, after) = rest.split_at_checked(end)?;
    let peer = Peer { address: address.parse().ok()?, port: port.parse().ok()? };
    Some((login, peer, after))
}

/// Holds logs of sshd against sessions.
#[derive(Debug)]
pub struct Sshd<'a> {
    options: &'a Options,
    sessions: Vec<&'a RecordedSession>,
    /// Legs by the gateway's port: the session, and the leg in it.
    ports: HashMap<u16, Vec<(usize, usize)>>,
    logins: Vec<Login>,
    /// The login that a connection is of, by where it comes from.
    open: HashMap<Peer, usize>,
    report: Report,
    log: usize,
    /// The log says what is begun.
    tells_begins: bool,
}

/// A login in the log, and what was begun in it.
#[derive(Debug)]
struct Login {
    log: usize,
    line: u64,
    at: Option<Timestamp>,
    account: String,
    from: Peer,
    by: String,
    began: Vec<(u64, String)>,
    leg: Option<(usize, usize)>,
}

impl<'a> Sshd<'a> {
    /// Nothing of a log was read yet. Sessions of other protocols are left out.
    pub fn new(sessions: &'a [RecordedSession], options: &'a Options) -> Self {
        let sessions = sessions.iter().filter(|s| s.protocol == Protocol::Ssh).collect::<Vec<_>>();
        let mut ports = HashMap::<u16, Vec<(usize, usize)>>::new();
        for (at, session) in sessions.iter().enumerate() {
            for (number, leg) in session.legs.iter().enumerate() {
                ports.entry(leg.from.port()).or_default().push((at, number));
            }
        }
        Self {
            options,
            sessions,
            ports,
            logins: Vec::new(),
            open: HashMap::new(),
            report: Report::default(),
            log: 0,
            tells_begins: false,
        }
    }

    /// Takes all that one log says. Logs are given in the order in which they were written.
    pub fn take(&mut self, log: impl Iterator<Item = Entry>) {
        for entry in log {
            self.report.saw(entry.at);
            if self.options.outside(entry.at) {
                self.report.log.outside = self.report.log.outside.saturating_add(1);
                continue;
            }
            self.entry(entry);
        }
        self.log = self.log.saturating_add(1);
    }

    fn entry(&mut self, Entry { line, at, says }: Entry) {
        match says {
            Says::Refused => {
                self.report.log.refused = self.report.log.refused.saturating_add(1);
            }
            Says::Accepted { login, from, by } => {
                self.open.insert(from, self.logins.len());
                let (log, account, began) = (self.log, login, Vec::new());
                self.logins.push(Login { log, line, at, account, from, by, began, leg: None });
            }
            Says::Began { what, login, from } => {
                self.tells_begins = true;
                if let Some(known) =
                    self.open.get(&from).and_then(|open| self.logins.get_mut(*open))
                {
                    known.began.push((line, what));
                } else {
                    // Its login stands in a log that was not given.
                    let (log, by) = (self.log, "its login is not in the log".to_owned());
                    let (account, began) = (login, vec![(line, what)]);
                    self.open.insert(from, self.logins.len());
                    self.logins.push(Login { log, line, at, account, from, by, began, leg: None });
                }
            }
        }
    }

    /// What came of it.
    pub fn finish(mut self) -> Report {
        let taken = self.link();
        let keys = self.gateways_keys();
        for login in std::mem::take(&mut self.logins) {
            match login.leg {
                Some(leg) => self.linked(&login, leg),
                None => self.stray(&login, &keys),
            }
        }
        self.leftovers(&taken);
        self.report.sorted()
    }

    /// Finds each login's leg: by the port, then, for legs whose port is nowhere in the log, by the
    /// time. Gives every leg that was found.
    fn link(&mut self) -> BTreeMap<(usize, usize), bool> {
        let mut taken = BTreeMap::new();
        let mut logins = std::mem::take(&mut self.logins);
        for login in &mut logins {
            let candidates = self.ports.get(&login.from.port).into_iter().flatten();
            let fits = |place: &&(usize, usize)| {
                let leg = self.leg(**place);
                !taken.contains_key(*place) && leg.is_some_and(|leg| self.fits(leg, login, true))
            };
            let begun = |place: &&(usize, usize)| self.leg(**place).map(|leg| leg.at);
            let place = candidates.filter(fits).max_by_key(begun).copied();
            login.leg = place;
            taken.extend(place.map(|place| (place, true)));
        }
        self.link_by_time(&mut logins, &mut taken);
        self.logins = logins;
        taken
    }

    /// Finds a leg for each login that has none, of those that none has: the first that was opened
    /// shortly before.
    fn link_by_time(&mut self, logins: &mut [Login], taken: &mut BTreeMap<(usize, usize), bool>) {
        let legs = self.sessions.iter().enumerate().flat_map(|(at, session)| {
            let legs = session.legs.iter().enumerate();
            legs.map(move |(number, leg)| (leg.at, (at, number)))
        });
        let mut free = legs.filter(|(_, place)| !taken.contains_key(place)).collect::<Vec<_>>();
        free.sort_unstable();
        for login in logins.iter_mut().filter(|login| login.leg.is_none()) {
            let Some(at) = login.at else { continue };
            let oldest = at.saturating_sub(self.sign_in_max()).unwrap_or(at);
            let first = free.partition_point(|(begun, _)| *begun < oldest);
            let near = free.get(first..).unwrap_or_default().iter().map(|(_, place)| *place);
            // They come in the order of time: behind the first that is too late all are.
            let fits = |place: &(usize, usize)| {
                self.leg(*place).is_some_and(|leg| self.fits(leg, login, false))
            };
            let mut near = near.take_while(fits).filter(|place| !taken.contains_key(place));
            let place = near.find(|place| self.login_fits(*place, login));
            login.leg = place;
            taken.extend(place.map(|place| (place, false)));
            if place.is_some() {
                let log = &mut self.report.log;
                log.matched_by_text = log.matched_by_text.saturating_add(1);
            }
        }
    }

    /// How long after its leg a login may be logged.
    fn sign_in_max(&self) -> SignedDuration {
        SignedDuration::from_secs(SIGN_IN_S_MAX).saturating_add(self.options.skew)
    }

    fn leg(&self, (session, leg): (usize, usize)) -> Option<&'a RecordedLeg> {
        self.sessions.get(session)?.legs.get(leg)
    }

    /// Whether a login is a leg's: it follows the leg in time, and comes from the same place,
    /// unless something between them changes addresses.
    fn fits(&self, leg: &RecordedLeg, login: &Login, same_place: bool) -> bool {
        let place = leg.from.port() == login.from.port
            && leg.from.ip().to_canonical() == login.from.address.to_canonical();
        if same_place && !place {
            return false;
        }
        let Some(at) = login.at else { return same_place };
        // Times of syslog have no fractions.
        let early = self.options.skew.saturating_add(SignedDuration::from_secs(1));
        let (from, to) = (leg.at.saturating_sub(early), leg.at.saturating_add(self.sign_in_max()));
        from.is_ok_and(|from| from <= at) && to.is_ok_and(|to| at <= to)
    }

    /// Whether the command of a leg signs in as a login's account.
    fn login_fits(&self, place: (usize, usize), login: &Login) -> bool {
        let command = self.command(place);
        let account = command.and_then(|c| c.details.iter().find(|(name, _)| name == "login"));
        account.is_none_or(|(_, account)| *account == login.account)
    }

    /// The command that a leg carries.
    fn command(&self, place: (usize, usize)) -> Option<&'a RecordedCommand> {
        let (session, number) = (self.sessions.get(place.0)?, self.leg(place)?.number?);
        session.commands.iter().find(|command| command.number == number)
    }

    /// The keys by which the gateway's own legs signed in.
    fn gateways_keys(&self) -> Vec<String> {
        let linked = self.logins.iter().filter(|login| login.leg.is_some());
        linked.map(|login| login.by.clone()).filter(|by| by.contains("SHA256:")).collect()
    }

    /// A login of a leg: what was begun in it is the leg's command, once.
    fn linked(&mut self, login: &Login, place: (usize, usize)) {
        let log = &mut self.report.log;
        log.items = log.items.saturating_add(1);
        log.matched = log.matched.saturating_add(1);
        let command = self.command(place);
        let expected = command.map(begins);
        let mut due = expected.clone();
        for (line, what) in &login.began {
            let log = &mut self.report.log;
            log.items = log.items.saturating_add(1);
            let is_due = due.take_if(|due| same(due, what)).is_some();
            if is_due || (expected.is_none() && login.began.len() == 1) {
                log.matched = log.matched.saturating_add(1);
                continue;
            }
            let (session, number) = (self.sessions.get(place.0), command.map(|c| c.number));
            let denied = command.filter(|command| command.fate() == Fate::Kept);
            let kind = match (denied, &expected) {
                (Some(_), _) => Kind::RanThoughDenied,
                (None, Some(expected)) if due.is_some() && !same(expected, what) => Kind::Differs,
                (None, Some(_) | None) => Kind::Unrecorded,
            };
            let note = "it came on a session's own connection".to_owned();
            self.report.find(Finding {
                kind,
                log: Some(login.log),
                line: Some(*line),
                session: session.map(|session| session.session),
                number,
                at: login.at,
                who: format!("{} from {}", login.account, login.from.address),
                what: format!("session: {what}"),
                note: Some(note),
            });
        }
    }

    fn stray(&mut self, login: &Login, keys: &[String]) {
        let who = format!("{} from {}", login.account, login.from.address);
        let log = &mut self.report.log;
        if self.options.excepts(&who) || self.options.excepts(&login.account) {
            log.excepted = log.excepted.saturating_add(1);
            return;
        }
        log.items = log.items.saturating_add(1);
        let began = login.began.iter().map(|(_, what)| what.as_str()).collect::<Vec<_>>();
        let began =
            if began.is_empty() { String::new() } else { format!("; began: {}", began.join(", ")) };
        let own = keys.contains(&login.by);
        let note = "with the gateway's own key: whoever it was has that key".to_owned();
        self.report.find(Finding {
            kind: Kind::Login,
            log: Some(login.log),
            line: Some(login.line),
            session: None,
            number: None,
            at: login.at,
            who,
            what: format!("by {}, port {}{began}", login.by, login.from.port),
            note: own.then_some(note),
        });
    }

    /// What the record has and the log has not.
    fn leftovers(&mut self, taken: &BTreeMap<(usize, usize), bool>) {
        // Where nobody says which time counts, it is the time that the log covers.
        let first = self.report.first.filter(|_| self.options.since.is_none());
        let last = self.report.last.filter(|_| self.options.until.is_none());
        for (at, session) in self.sessions.clone().into_iter().enumerate() {
            let record = &mut self.report.record;
            record.sessions = record.sessions.saturating_add(1);
            for command in &session.commands {
                let number = Some(command.number);
                let mut legs = session.legs.iter().enumerate();
                let matched =
                    legs.any(|(n, leg)| leg.number == number && taken.contains_key(&(at, n)));
                let outside = self.options.outside(Some(command.at))
                    || first.is_some_and(|first| command.at < first)
                    || last.is_some_and(|last| command.at > last);
                let record = &mut self.report.record;
                record.commands = record.commands.saturating_add(1);
                let count = match (matched, command.fate()) {
                    (true, Fate::Ran | Fate::Unsure) => &mut record.matched,
                    (_, Fate::Kept) => &mut record.denied,
                    (false, Fate::Unsure) => &mut record.not_due,
                    (false, Fate::Ran) if outside => &mut record.outside,
                    (false, Fate::Ran) => {
                        self.report.find(Finding {
                            kind: Kind::Unlogged,
                            log: None,
                            line: None,
                            session: Some(session.session),
                            number,
                            at: Some(command.at),
                            who: session.principal.clone(),
                            what: command.text.clone(),
                            note: None,
                        });
                        continue;
                    }
                };
                *count = count.saturating_add(1);
            }
        }
    }
}

/// What sshd says when a command begins.
fn begins(command: &RecordedCommand) -> String {
    match command.verb.as_str() {
        "exec" => "command".to_owned(),
        "subsystem" => format!("subsystem '{}'", command.text),
        other => other.to_owned(),
    }
}

/// A forced command is a command too, whatever was asked for.
fn same(due: &str, what: &str) -> bool {
    what == due || what.starts_with("forced-command")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Entry> {
        let time = LogTime { zone: None, near: "2026-11-29T00:00:00Z".parse().ok() };
        entry(&Line { number: 1, text: text.to_owned(), cut: false }, &time)
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
}
