//! The record's side: sessions as their trails tell them, as far as a target's log can know.

use std::net::SocketAddr;

use jiff::Timestamp;

use crate::audit::TrailEvent;
use crate::audit::entry::Ending;
use crate::model::Protocol;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::Verdict;

/// A session as its record tells it.
#[derive(Debug, Clone)]
pub struct RecordedSession {
    /// The session.
    pub session: SessionId,
    /// Who asked, by name.
    pub principal: String,
    /// The target.
    pub target: TargetName,
    /// What it speaks.
    pub protocol: Protocol,
    /// When it was admitted.
    pub begun: Timestamp,
    /// When its record ends.
    pub ended: Timestamp,
    /// Whether its record ends in order: it does not run any more.
    pub closed: bool,
    /// Its connections to the target.
    pub legs: Vec<RecordedLeg>,
    /// Its commands, by number.
    pub commands: Vec<RecordedCommand>,
    /// How often something that is no command was refused.
    pub refusals: u64,
}

/// A connection to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedLeg {
    /// When it was opened.
    pub at: Timestamp,
    /// The gateway's end.
    pub from: SocketAddr,
    /// The target's end.
    pub to: SocketAddr,
    /// By which number the target knows it, if it said so.
    pub process: Option<i64>,
    /// The command that it carries, if it carries one alone.
    pub number: Option<u64>,
}

/// A command.
#[derive(Debug, Clone)]
pub struct RecordedCommand {
    /// Its number in the session, from 1.
    pub number: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// What kind of command.
    pub verb: String,
    /// Its text.
    pub text: String,
    /// What else belongs to it.
    pub details: Vec<(String, String)>,
    /// Whether it went to the target.
    pub sent: bool,
    /// How it ended, if its end is recorded.
    pub ending: Option<Ending>,
}

/// Whether a target's log must have a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It ran.
    Ran,
    /// It went to the target, and may have run or not.
    Unsure,
    /// It did not go to the target.
    Kept,
}

impl RecordedCommand {
    /// Whether a target's log must have it.
    pub fn fate(&self) -> Fate {
        if !self.sent {
            return Fate::Kept;
        }
        match &self.ending {
            Some(Ending::Done { .. } | Ending::Failed { .. }) => Fate::Ran,
            Some(Ending::Skipped | Ending::Withheld { .. } | Ending::Cut { .. }) | None => {
                Fate::Unsure
            }
        }
    }
}

impl RecordedSession {
    /// The session whose record begins with `event`; `None` if that is not an admission.
    pub fn begin(at: Timestamp, event: &TrailEvent) -> Option<Self> {
        let TrailEvent::Opened(opened) = event else { return None };
        Some(Self {
            session: opened.session,
            principal: opened.principal.name.clone(),
            target: opened.target.clone(),
            protocol: opened.protocol,
            begun: at,
            ended: at,
            closed: false,
            legs: Vec::new(),
            commands: Vec::new(),
            refusals: 0,
        })
    }

    /// Takes the next event of its record.
    pub fn see(&mut self, at: Timestamp, event: &TrailEvent) {
        self.ended = self.ended.max(at);
        match event {
            TrailEvent::Leg { from, to, process, number } => {
                self.leg(RecordedLeg {
                    at,
                    from: *from,
                    to: *to,
                    process: *process,
                    number: *number,
                });
            }
            TrailEvent::Command { number, command, verdict, observed, .. } => {
                self.commands.push(RecordedCommand {
                    number: *number,
                    at,
                    verb: command.verb.clone(),
                    text: command.text.clone(),
                    details: command.details.clone(),
                    sent: *observed || goes(verdict, &command.verb),
                    ending: None,
                });
            }
            TrailEvent::HoldEnded { number, verdict, .. } => {
                let allowed = matches!(verdict, Some(Verdict::Allow { .. }));
                if let Some(command) = self.command(*number) {
                    // A hold that ended late is when it went to the target.
                    command.sent = allowed;
                }
            }
            TrailEvent::Ended { number, ending, .. } => {
                if let Some(command) = self.command(*number) {
                    command.ending = Some(ending.clone());
                }
            }
            TrailEvent::Closed { .. } => self.closed = true,
            TrailEvent::Refused { .. } => self.refusals = self.refusals.saturating_add(1),
            TrailEvent::Opened(_)
            | TrailEvent::Held { .. }
            | TrailEvent::Masks { .. }
            | TrailEvent::Terminal { .. } => {}
        }
    }

    /// A leg is written when it is opened, and again once the target has said its number.
    fn leg(&mut self, leg: RecordedLeg) {
        match self.legs.last_mut().filter(|last| last.from == leg.from && last.to == leg.to) {
            Some(last) if last.process.is_none() => {
                last.process = leg.process;
                last.number = last.number.or(leg.number);
            }
            Some(_) | None => self.legs.push(leg),
        }
    }

    fn command(&mut self, number: u64) -> Option<&mut RecordedCommand> {
        // The one that is looked for is nearly always the last.
        self.commands.iter_mut().rev().find(|command| command.number == number)
    }
}

/// Whether a command with this verdict goes on. What is only prepared goes on even where it would
/// be held: it waits when it is asked for.
fn goes(verdict: &Verdict, verb: &str) -> bool {
    match verdict {
        Verdict::Allow { .. } => true,
        Verdict::Hold { .. } => verb == "parse",
        Verdict::Deny(_) => false,
    }
}
