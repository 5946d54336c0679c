//! Holds logins of sshd's log against the legs of sessions.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::audit::reconcile::lines::Taken;
use crate::audit::reconcile::options::Options;
use crate::audit::reconcile::recorded::Fate;
use crate::audit::reconcile::recorded::RecordedCommand;
use crate::audit::reconcile::recorded::RecordedLeg;
use crate::audit::reconcile::recorded::RecordedSession;
use crate::audit::reconcile::report::Finding;
use crate::audit::reconcile::report::Kind;
use crate::audit::reconcile::report::Report;
use crate::audit::reconcile::sshd::entry::Entry;
use crate::audit::reconcile::sshd::entry::Peer;
use crate::audit::reconcile::sshd::entry::Read;
use crate::audit::reconcile::sshd::entry::Says;
use crate::model::Protocol;

/// How long a leg may take from its first byte to the sign-in, in seconds: the gateway gives up
/// then.
const SIGN_IN_S_MAX: i64 = 20;

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
    pub fn take(&mut self, log: impl Iterator<Item = Read>) -> Taken {
        let mut taken = Taken::default();
        for read in log {
            taken.line(!matches!(read, Read::Foreign));
            match read {
                Read::Entry(entry) => self.timely(entry),
                Read::Unread { line, text, why } => {
                    self.report.unread(self.log, line, text, why);
                }
                Read::Idle | Read::Foreign => {}
            }
        }
        self.log = self.log.saturating_add(1);
        taken
    }

    fn timely(&mut self, entry: Entry) {
        self.report.saw(entry.at);
        if self.options.outside(entry.at) {
            self.report.log.outside = self.report.log.outside.saturating_add(1);
        } else {
            self.entry(entry);
        }
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
    /// shortly before. Where the log has the port of but one leg to a target, it has every leg's: then a
    /// login with another port came past the gateway, whatever leg is free.
    fn link_by_time(&mut self, logins: &mut [Login], taken: &mut BTreeMap<(usize, usize), bool>) {
        let target = |place: &(usize, usize)| self.sessions.get(place.0).map(|s| &s.target);
        let ported = taken.keys().filter_map(target).collect::<BTreeSet<_>>();
        let legs = self.sessions.iter().enumerate().flat_map(|(at, session)| {
            let legs = session.legs.iter().enumerate();
            legs.map(move |(number, leg)| (leg.at, (at, number)))
        });
        let free = legs.filter(|(_, place)| target(place).is_some_and(|t| !ported.contains(t)));
        let mut free = free.collect::<Vec<_>>();
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
        for (at, session) in self.sessions.iter().enumerate() {
            self.report.record.sessions = self.report.record.sessions.saturating_add(1);
            for command in &session.commands {
                let mut legs = session.legs.iter().enumerate();
                let has = legs.any(|(n, leg)| {
                    leg.number == Some(command.number) && taken.contains_key(&(at, n))
                });
                self.report.command(self.options, (session, command), (has, true));
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
