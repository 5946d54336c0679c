//! Statements and logins of the log against sessions and their commands.
//!
//! A backend belongs to a session if the session's leg names its process, or the port that it was
//! received from, and the time fits. Within a session each statement takes one command with the
//! same text. What is left of either side is a mismatch, but for sessions of which the log shows no
//! backend at all: something stands in between then (a pool), and the same text at the same time
//! counts.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;

use jiff::Timestamp;

use crate::audit::reconcile::lines::Taken;
use crate::audit::reconcile::options::Options;
use crate::audit::reconcile::postgres::entry;
use crate::audit::reconcile::postgres::entry::Message;
use crate::audit::reconcile::postgres::entry::Says;
use crate::audit::reconcile::postgres::entry::Text;
use crate::audit::reconcile::postgres::format::Read;
use crate::audit::reconcile::postgres::session::Last;
use crate::audit::reconcile::postgres::session::PREPARES;
use crate::audit::reconcile::postgres::session::Session;
use crate::audit::reconcile::postgres::session::has_failed;
use crate::audit::reconcile::postgres::session::is_due;
use crate::audit::reconcile::postgres::session::prepares;
use crate::audit::reconcile::postgres::session::runs;
use crate::audit::reconcile::recorded::Fate;
use crate::audit::reconcile::recorded::RecordedSession;
use crate::audit::reconcile::report::Finding;
use crate::audit::reconcile::report::Kind;
use crate::audit::reconcile::report::Report;
use crate::model::Protocol;
use crate::model::digest::Digest;

/// Holds a log against sessions.
#[derive(Debug)]
pub struct Postgres<'a> {
    options: &'a Options,
    sessions: Vec<Session<'a>>,
    /// Sessions by the process that a leg of theirs names.
    processes: HashMap<i64, Vec<usize>>,
    /// Sessions by the gateway's port of a leg of theirs.
    ports: HashMap<u16, Vec<usize>>,
    /// The port that a backend's connection was last received from.
    received: HashMap<i64, u16>,
    /// What no session's backend said, for the second look.
    strays: Vec<Stray>,
    report: Report,
    log: usize,
}

/// Something in the log that no session's leg leads to.
#[derive(Debug)]
struct Stray {
    log: usize,
    line: u64,
    at: Option<Timestamp>,
    process: Option<i64>,
    who: String,
    what: Stuff,
}

#[derive(Debug)]
enum Stuff {
    Login,
    Statement(Text),
    Failed(Text),
    /// It was prepared or bound, or more of its rows were fetched: its statement says the same.
    Part(Text),
}

impl Stuff {
    fn text(&self) -> Option<&Text> {
        match self {
            Self::Statement(text) | Self::Failed(text) | Self::Part(text) => Some(text),
            Self::Login => None,
        }
    }
}

impl<'a> Postgres<'a> {
    /// Nothing of a log was read yet. Sessions of other protocols are left out.
    pub fn new(sessions: &'a [RecordedSession], options: &'a Options) -> Self {
        let mut this = Self {
            options,
            sessions: Vec::new(),
            processes: HashMap::new(),
            ports: HashMap::new(),
            received: HashMap::new(),
            strays: Vec::new(),
            report: Report::default(),
            log: 0,
        };
        for recorded in sessions.iter().filter(|s| s.protocol == Protocol::Postgres) {
            let at = this.sessions.len();
            for leg in &recorded.legs {
                this.ports.entry(leg.from.port()).or_default().push(at);
                if let Some(process) = leg.process {
                    this.processes.entry(process).or_default().push(at);
                }
            }
            this.sessions.push(Session::of(recorded));
        }
        this
    }

    /// Takes all that one log says. Logs are given in the order in which they were written.
    pub fn take(&mut self, log: impl Iterator<Item = Read>) -> Taken {
        let mut taken = Taken::default();
        for read in log {
            match read {
                Read::Message(message) => taken.line(self.message(&message)),
                Read::Unread { line, text, why } => {
                    taken.line(false);
                    self.report.unread(self.log, line, text, why);
                }
            }
        }
        self.log = self.log.saturating_add(1);
        taken
    }

    /// What came of it.
    pub fn finish(mut self) -> Report {
        self.second_look();
        self.leftovers();
        self.report.sorted()
    }

    /// Takes a message; whether it is one that is known.
    fn message(&mut self, message: &Message) -> bool {
        self.report.saw(message.at);
        let Some(says) = entry::says(message) else { return entry::is_english(message) };
        self.said(message, says);
        true
    }

    fn said(&mut self, message: &Message, says: Says) {
        if let Says::Received(port) = says {
            if let (Some(process), Some(port)) = (message.process, port) {
                self.received.insert(process, port);
            }
            return;
        }
        if self.options.outside(message.at) {
            self.report.log.outside = self.report.log.outside.saturating_add(1);
            return;
        }
        if matches!(says, Says::Refused) {
            // Where everybody is trusted, the role is looked up after the login was logged.
            let is_login = |stray: &Stray| {
                matches!(stray.what, Stuff::Login)
                    && stray.process == message.process
                    && stray.log == self.log
            };
            self.strays.pop_if(|last| is_login(last));
            self.report.log.refused = self.report.log.refused.saturating_add(1);
            return;
        }
        match self.session_of(message) {
            Some(at) => self.linked(at, message, says),
            None => self.stray(message, says),
        }
    }

    /// The session whose leg leads to the backend that wrote a message.
    fn session_of(&self, message: &Message) -> Option<usize> {
        let port = message.port.or_else(|| self.received.get(&message.process?).copied());
        let by_port = port.and_then(|port| self.ports.get(&port));
        let by_process = message.process.and_then(|process| self.processes.get(&process));
        let fits = |at: &&usize| {
            let Some(session) = self.sessions.get(**at) else { return false };
            let legs = session.recorded.legs.iter();
            let mut legs = legs.filter(|leg| {
                // A port and a process that contradict each other are two connections.
                let port_fits = port.is_none_or(|port| port == leg.from.port());
                let same = leg.process.is_none() || leg.process == message.process;
                port_fits && same && (port.is_some() || leg.process.is_some())
            });
            legs.any(|leg| {
                let Some(time) = message.at else { return true };
                let from = leg.at.saturating_sub(self.options.skew);
                let to = session.recorded.ended.saturating_add(self.options.skew);
                let (Ok(from), Ok(to)) = (from, to) else { return true };
                from <= time && (time <= to || !session.recorded.closed)
            })
        };
        let all = by_port.into_iter().chain(by_process).flatten();
        // Of several the one that began last: the others' backends are gone.
        all.filter(fits).max_by_key(|at| self.sessions.get(**at).map(|s| s.recorded.begun)).copied()
    }

    /// What a session's own backend said.
    fn linked(&mut self, at: usize, message: &Message, says: Says) {
        let log = &mut self.report.log;
        let Some(session) = self.sessions.get_mut(at) else { return };
        session.linked = true;
        let taken = match says {
            Says::Received(_) | Says::Refused => return,
            Says::Denied(number) if session.denied(number) => {
                log.gateways_own = log.gateways_own.saturating_add(1);
                return;
            }
            Says::Denied(_) => Err(Text::of(&message.text)),
            Says::Authorized => {
                log.items = log.items.saturating_add(1);
                log.matched = log.matched.saturating_add(1);
                return;
            }
            Says::Fetches(text) => {
                // It goes on with what was matched when it began.
                if session.commands.iter().any(|held| held.matched && held.digest == text.digest) {
                    return;
                }
                Err(text)
            }
            Says::Prepared(text) => match session.take(text.digest, &[prepares]) {
                Some(_) => return,
                // It may have been told by its failure already.
                None if session.last.is_some_and(|last| last.digest == text.digest) => return,
                None => Err(text),
            },
            // It tells of what was prepared, and of what will run.
            Says::Bound(text) if session.asked(text.digest) => return,
            Says::Failed(text) => {
                if session.failed_again(text.digest) {
                    return;
                }
                let taken = session.take(text.digest, &[has_failed, runs, prepares]);
                session.last = Some(Last { digest: text.digest, command: taken, failed: true });
                taken.ok_or(text)
            }
            Says::Runs(text) => {
                let taken = session.take(text.digest, &[runs]);
                session.last = Some(Last { digest: text.digest, command: taken, failed: false });
                taken.ok_or(text)
            }
            Says::Bound(text) | Says::Other(text) => Err(text),
        };
        log.items = log.items.saturating_add(1);
        match taken {
            Ok(_) => log.matched = log.matched.saturating_add(1),
            Err(text) => self.unmatched(at, message, &text),
        }
    }

    /// A statement on a session's backend that the session did not ask for.
    fn unmatched(&mut self, at: usize, message: &Message, text: &Text) {
        let Some(session) = self.sessions.get(at) else { return };
        let denied = session
            .commands
            .iter()
            .find(|held| held.recorded.fate() == Fate::Kept && held.digest == text.digest);
        let kind = if denied.is_some() { Kind::RanThoughDenied } else { Kind::Unrecorded };
        let number = denied.map(|held| held.recorded.number);
        let note = "it came on a session's own connection".to_owned();
        let finding = Finding {
            line: Some(message.line),
            session: Some(session.recorded.session),
            number,
            at: message.at,
            note: denied.is_none().then_some(note),
            ..self.finding(kind, &session.recorded.principal, text.shown.clone())
        };
        self.report.find(finding);
    }

    /// What no session's backend said.
    fn stray(&mut self, message: &Message, says: Says) {
        let what = match says {
            Says::Received(_) | Says::Refused => return,
            Says::Prepared(text) | Says::Bound(text) | Says::Fetches(text) => Stuff::Part(text),
            Says::Authorized => Stuff::Login,
            // A token of the gateway's that no session's backend has: somebody plays with it.
            Says::Denied(_) => Stuff::Failed(Text::of(&message.text)),
            Says::Runs(text) | Says::Other(text) => Stuff::Statement(text),
            Says::Failed(text) => Stuff::Failed(text),
        };
        let who = who(message);
        if let Stuff::Failed(text) = &what {
            // An error tells its statement again.
            let told = |stray: &&Stray| {
                let is_part = matches!(stray.what, Stuff::Part(_));
                !is_part && stray.process == message.process && stray.log == self.log
            };
            let last = self.strays.iter().rev().take(RECENT_MAX).find(told);
            let again = |stray: &Stray| match &stray.what {
                Stuff::Statement(said) | Stuff::Failed(said) => said.digest == text.digest,
                Stuff::Login | Stuff::Part(_) => false,
            };
            if last.is_some_and(again) {
                return;
            }
        }
        let (at, line, process) = (message.at, message.line, message.process);
        self.strays.push(Stray { log: self.log, line, at, process, who, what });
    }

    /// Sessions of which no backend was seen, against what no session's backend said.
    fn second_look(&mut self) {
        let mut open = BTreeMap::<Digest, VecDeque<(usize, usize)>>::new();
        for (at, session) in self.sessions.iter().enumerate().filter(|(_, s)| !s.linked) {
            for (number, held) in session.commands.iter().enumerate() {
                if held.recorded.fate() != Fate::Kept && held.recorded.verb != PREPARES {
                    open.entry(held.digest).or_default().push_back((at, number));
                }
            }
        }
        let strays = self.without_parts();
        for stray in strays {
            let text = stray.what.text();
            let candidates = text.and_then(|text| open.get_mut(&text.digest));
            let taken = candidates.and_then(|candidates| {
                let fits = |place: &(usize, usize)| self.fits_time(*place, stray.at);
                let at = candidates.iter().position(fits)?;
                candidates.remove(at)
            });
            if let Some((at, number)) = taken
                && let Some(held) =
                    self.sessions.get_mut(at).and_then(|s| s.commands.get_mut(number))
            {
                held.matched = true;
                let log = &mut self.report.log;
                log.items = log.items.saturating_add(1);
                log.matched = log.matched.saturating_add(1);
                log.matched_by_text = log.matched_by_text.saturating_add(1);
                continue;
            }
            // Only now: a gateway's own login may be among those that need no record.
            if self.options.excepts(&stray.who) {
                self.report.log.excepted = self.report.log.excepted.saturating_add(1);
                continue;
            }
            self.report.log.items = self.report.log.items.saturating_add(1);
            let kind = if text.is_some() { Kind::Unrecorded } else { Kind::Login };
            let what = text.map_or_else(|| "a login".to_owned(), |text| text.shown.clone());
            let (line, at) = (Some(stray.line), stray.at);
            let finding = Finding { line, at, ..self.finding(kind, &stray.who, what) };
            self.report.find(Finding { log: Some(stray.log), ..finding });
        }
    }

    /// The strays, but for the parts of statements that are told anyhow: by the log, or, behind a pool,
    /// by the record.
    fn without_parts(&mut self) -> Vec<Stray> {
        let of = |stray: &Stray| Some((stray.log, stray.process, stray.what.text()?.digest));
        let mut strays = std::mem::take(&mut self.strays);
        let whole = strays.iter().filter(|stray| !matches!(stray.what, Stuff::Part(_)));
        let mut told = whole.filter_map(of).collect::<HashSet<_>>();
        let mut pooled = HashSet::new();
        for session in self.sessions.iter().filter(|session| !session.linked) {
            let sent = session.commands.iter().filter(|held| held.recorded.fate() != Fate::Kept);
            pooled.extend(sent.map(|held| held.digest));
        }
        strays.retain(|stray| match &stray.what {
            Stuff::Part(text) => {
                !pooled.contains(&text.digest) && of(stray).is_some_and(|place| told.insert(place))
            }
            Stuff::Login | Stuff::Statement(_) | Stuff::Failed(_) => true,
        });
        strays
    }

    /// Whether a command may be what was logged at `at`.
    fn fits_time(&self, (session, number): (usize, usize), at: Option<Timestamp>) -> bool {
        let Some(session) = self.sessions.get(session) else { return false };
        let (Some(held), Some(at)) = (session.commands.get(number), at) else { return true };
        let from = held.recorded.at.saturating_sub(self.options.skew);
        let to = session.recorded.ended.saturating_add(self.options.skew);
        from.is_ok_and(|from| from <= at)
            && (!session.recorded.closed || to.is_ok_and(|to| at <= to))
    }

    /// What the record has and the log has not.
    fn leftovers(&mut self) {
        for session in &self.sessions {
            self.report.record.sessions = self.report.record.sessions.saturating_add(1);
            for held in &session.commands {
                let command = (session.recorded, held.recorded);
                let is_due = is_due(held.recorded);
                self.report.command(self.options, command, (held.matched, is_due));
            }
        }
    }

    fn finding(&self, kind: Kind, who: &str, what: String) -> Finding {
        Finding {
            kind,
            log: Some(self.log),
            line: None,
            session: None,
            number: None,
            at: None,
            who: who.to_owned(),
            what,
            note: None,
        }
    }
}

/// How many of the last strays are looked through for the statement that an error is about.
const RECENT_MAX: usize = 256;

/// `app@crm`, as far as the log says it.
fn who(message: &Message) -> String {
    let user = message.user.as_deref().unwrap_or("?");
    let database = message.database.as_deref().unwrap_or("?");
    format!("{user}@{database}")
}
