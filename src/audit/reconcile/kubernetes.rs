//! The audit log of a Kubernetes API server (`audit.k8s.io/v1`, one JSON object a line) against
//! sessions: the gateway chooses each request's `Audit-ID` after session and number.

use std::collections::HashMap;
use std::collections::HashSet;

use jiff::Timestamp;
use serde::Deserialize;

use crate::audit::reconcile::lines::Line;
use crate::audit::reconcile::options::Options;
use crate::audit::reconcile::recorded::Fate;
use crate::audit::reconcile::recorded::RecordedSession;
use crate::audit::reconcile::report::Finding;
use crate::audit::reconcile::report::Kind;
use crate::audit::reconcile::report::Report;
use crate::model::CommandId;
use crate::model::Protocol;

/// One event: one stage of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The line, from 1.
    pub line: u64,
    /// When the request came.
    pub at: Option<Timestamp>,
    /// Its id.
    pub id: String,
    /// `RequestReceived`, `ResponseStarted`, `ResponseComplete` or `Panic`.
    pub stage: String,
    /// What is asked: `get`, `list`, …
    pub verb: String,
    /// Path and query.
    pub uri: String,
    /// Who signed in.
    pub user: String,
    /// For whom they ask.
    pub impersonated: Option<String>,
    /// From where.
    pub from: Option<String>,
}

/// What a log says next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// An event.
    Event(Box<Event>),
    /// A line that is none.
    Unread {
        /// The line, from 1.
        line: u64,
        /// What stands there.
        text: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    kind: String,
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: User,
    impersonated_user: Option<User>,
    #[serde(default, rename = "sourceIPs")]
    source_ips: Vec<String>,
    request_received_timestamp: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

/// The events in `lines`.
pub fn events(lines: impl Iterator<Item = Line>) -> impl Iterator<Item = Read> {
    lines.filter(|line| !line.text.trim().is_empty()).map(event)
}

fn event(line: Line) -> Read {
    let written = serde_json::from_str::<Written>(&line.text).ok();
    let written = written.filter(|written| written.kind == "Event" && !line.cut);
    let Some(written) = written else {
        return Read::Unread { line: line.number, text: line.text };
    };
    Read::Event(Box::new(Event {
        line: line.number,
        at: written.request_received_timestamp,
        id: written.audit_id,
        stage: written.stage,
        verb: written.verb,
        uri: written.request_uri,
        user: written.user.username,
        impersonated: written.impersonated_user.map(|user| user.username),
        from: written.source_ips.into_iter().next(),
    }))
}

/// Holds audit logs against sessions.
#[derive(Debug)]
pub struct Kubernetes<'a> {
    options: &'a Options,
    sessions: Vec<&'a RecordedSession>,
    /// The requests, in the order in which they came.
    requests: Vec<Request>,
    known: HashMap<Identity, usize>,
    report: Report,
    log: usize,
}

/// What the events of one request have in common. Whoever asks may choose the id, so that it alone
/// tells no two requests apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    id: String,
    at: Option<Timestamp>,
    verb: String,
    uri: String,
    user: String,
}

impl Identity {
    fn of(event: &Event) -> Self {
        let Event { id, at, verb, uri, user, .. } = event.clone();
        Self { id, at, verb, uri, user }
    }
}

/// A request in the log: its first event, and how often it began or ended.
#[derive(Debug)]
struct Request {
    log: usize,
    event: Event,
    stages: HashMap<String, u32>,
}

impl<'a> Kubernetes<'a> {
    /// Nothing of a log was read yet. Sessions of other protocols are left out.
    pub fn new(sessions: &'a [RecordedSession], options: &'a Options) -> Self {
        let sessions = sessions.iter().filter(|s| s.protocol == Protocol::Kubernetes).collect();
        Self {
            options,
            sessions,
            requests: Vec::new(),
            known: HashMap::new(),
            report: Report::default(),
            log: 0,
        }
    }

    /// Takes all that one log says.
    pub fn take(&mut self, log: impl Iterator<Item = Read>) {
        for read in log {
            match read {
                Read::Unread { line, text } => {
                    self.report.unread(self.log, line, text, "it is no audit.k8s.io event");
                }
                Read::Event(event) => self.event(*event),
            }
        }
        self.log = self.log.saturating_add(1);
    }

    fn event(&mut self, event: Event) {
        self.report.saw(event.at);
        let identity = Identity::of(&event);
        let known = self.known.get(&identity).and_then(|at| self.requests.get_mut(*at));
        // The first stage is written before it is known for whom the request is.
        let same = |known: &&mut Request| {
            let (one, other) = (&known.event.impersonated, &event.impersonated);
            one.is_none() || other.is_none() || one == other
        };
        if let Some(known) = known.filter(same) {
            let stage = known.stages.entry(event.stage).or_default();
            *stage = stage.saturating_add(1);
            known.event.impersonated = known.event.impersonated.take().or(event.impersonated);
            return;
        }
        if self.options.outside(event.at) {
            self.report.log.outside = self.report.log.outside.saturating_add(1);
            return;
        }
        self.known.insert(identity, self.requests.len());
        let stages = HashMap::from([(event.stage.clone(), 1)]);
        self.requests.push(Request { log: self.log, event, stages });
    }

    /// What came of it.
    pub fn finish(mut self) -> Report {
        let mut places = HashMap::new();
        for (at, session) in self.sessions.iter().enumerate() {
            for (number, command) in session.commands.iter().enumerate() {
                let id = CommandId { session: session.session, number: command.number };
                places.insert(id.in_one_word(), (at, number));
            }
        }
        let mut matched = HashSet::new();
        for request in std::mem::take(&mut self.requests) {
            match places.get(&request.event.id) {
                Some(place) => {
                    let is_first = matched.insert(*place);
                    self.recorded(&request, *place, is_first);
                }
                None => self.stray(&request),
            }
        }
        self.leftovers(&matched);
        self.report.sorted()
    }

    /// A request whose id is a command's.
    fn recorded(&mut self, request: &Request, (at, number): (usize, usize), is_first: bool) {
        let log = &mut self.report.log;
        log.items = log.items.saturating_add(1);
        let Some(session) = self.sessions.get(at) else { return };
        let Some(command) = session.commands.get(number) else { return };
        let event = &request.event;
        let asked = command.text.split_once(' ').map_or(command.text.as_str(), |(_, uri)| uri);
        let often = request.stages.values().copied().max().unwrap_or(1);
        let (kind, note) = if command.fate() == Fate::Kept {
            (Kind::RanThoughDenied, "the record says that it did not go to the cluster".to_owned())
        } else if !is_first {
            (Kind::Unrecorded, "another request has the same id".to_owned())
        } else if event.uri != asked || event.verb != command.verb {
            (Kind::Differs, format!("the record has {} {asked}", command.verb))
        } else if event.impersonated.as_ref() != Some(&session.principal) {
            let name = event.impersonated.as_deref().unwrap_or("nobody");
            (Kind::Differs, format!("asked for {name}, recorded for {}", session.principal))
        } else if often > 1 {
            (Kind::Unrecorded, format!("{often} requests have the id of one"))
        } else {
            log.matched = log.matched.saturating_add(1);
            return;
        };
        self.report.find(Finding {
            kind,
            log: Some(request.log),
            line: Some(event.line),
            session: Some(session.session),
            number: Some(command.number),
            at: event.at,
            who: who(event),
            what: format!("{} {}", event.verb, event.uri),
            note: Some(note),
        });
    }

    fn stray(&mut self, request: &Request) {
        let event = &request.event;
        let log = &mut self.report.log;
        if self.options.excepts(&event.user) {
            log.excepted = log.excepted.saturating_add(1);
            return;
        }
        log.items = log.items.saturating_add(1);
        self.report.find(Finding {
            kind: Kind::Unrecorded,
            log: Some(request.log),
            line: Some(event.line),
            session: None,
            number: None,
            at: event.at,
            who: who(event),
            what: format!("{} {}", event.verb, event.uri),
            note: None,
        });
    }

    /// What the record has and the log has not.
    fn leftovers(&mut self, matched: &HashSet<(usize, usize)>) {
        for (at, session) in self.sessions.iter().enumerate() {
            self.report.record.sessions = self.report.record.sessions.saturating_add(1);
            for (number, command) in session.commands.iter().enumerate() {
                let has = matched.contains(&(at, number));
                self.report.command(self.options, (session, command), (has, true));
            }
        }
    }
}

/// `weir-gateway for alice from 10.0.0.7`.
fn who(event: &Event) -> String {
    let mut who = event.user.clone();
    if let Some(impersonated) = &event.impersonated {
        who.push_str(" for ");
        who.push_str(impersonated);
    }
    if let Some(from) = &event.from {
        who.push_str(" from ");
        who.push_str(from);
    }
    who
}
