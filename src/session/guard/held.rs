//! A command that waits for somebody's approval, with the frame it came in.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::audit::LedgerEvent;
use crate::audit::TrailEvent;
use crate::audit::Unrecorded;
use crate::model::Command;
use crate::model::CommandId;
use crate::model::HoldId;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::Verdict;
use crate::model::digest::Digest;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::policy;
use crate::session::guard::Asked;
use crate::session::guard::Guard;
use crate::session::guard::Settled;
use crate::session::hold::Decision;
use crate::session::hold::Pending;
use crate::session::hold::Ticket;
use crate::store::Note;

/// A command that waits. The protocol's loop keeps it, goes on reading its client, and settles it;
/// dropped, it is recorded as withdrawn and never runs.
#[derive(Debug)]
#[must_use]
pub struct Held<F> {
    guard: Arc<Guard>,
    ticket: Ticket,
    frame: Option<F>,
    settled: bool,
}

impl Guard {
    /// Records that a command waits, and lets it; where too many do already, that it does not.
    pub(super) fn hold<F>(
        self: &Arc<Self>,
        number: u64,
        command: Arc<Command>,
        frame: F,
        reason: String,
        approvers: BTreeSet<String>,
    ) -> Asked<F> {
        let now = self.now();
        let until = now.checked_add(self.parts.desk.wait_max()).unwrap_or(Timestamp::MAX);
        let exactly = exactly(self.session(), &command);
        let command_id = CommandId { session: self.session(), number };
        let pending = Pending {
            hold: HoldId::fresh(),
            command_id,
            principal: Arc::clone(self.permit.principal()),
            origin: self.permit.origin().clone(),
            target: self.permit.target().name.clone(),
            protocol: self.permit.target().protocol,
            command,
            exactly,
            reason,
            approvers: approvers.into_iter().collect(),
            since: now,
            until,
        };
        let hold = pending.hold.clone();
        let event = TrailEvent::Held { number, hold: hold.clone(), exactly, until };
        let of = hold.clone();
        let session = self.session();
        let recorded = self.trail.append(&event).and_then(|_| {
            self.parts.audit.record(&LedgerEvent::Held { hold: of, session, number, exactly })
        });
        if let Err(error) = recorded {
            return Asked::Settled(Settled::No(self.unrecorded(&error)));
        }
        let noted = Note::Held {
            at: now,
            hold: pending.hold.clone(),
            command_id: pending.command_id,
            principal: pending.principal.name.clone(),
            target: pending.target.to_string(),
            command: Arc::clone(&pending.command),
        };
        self.parts.journal.note(noted);
        match self.parts.desk.wait(pending) {
            Ok(ticket) => Asked::Held(Box::new(Held::new(Arc::clone(self), ticket, frame))),
            Err(refusal) => {
                let never = Decision::Withdrawn { reason: refusal.reason.clone() };
                let recorded = self.hold_ended(&hold, number, &never, None);
                let told = recorded.map_or_else(|error| self.unrecorded(&error), |()| refusal);
                Asked::Settled(Settled::No(told))
            }
        }
    }

    fn hold_ended(
        &self,
        hold: &HoldId,
        number: u64,
        decision: &Decision,
        verdict: Option<Verdict>,
    ) -> Result<(), Unrecorded> {
        let (hold, ending) = (hold.clone(), decision.ending());
        self.trail.append(&TrailEvent::HoldEnded {
            number,
            hold: hold.clone(),
            ending: ending.clone(),
            verdict,
        })?;
        self.parts.journal.note(Note::HoldEnded {
            at: self.now(),
            hold: hold.clone(),
            ending: decision.word(),
            by: decision.by().map(|by| by.name.clone()),
        });
        self.parts.audit.record(&LedgerEvent::HoldEnded { hold, ending })?;
        Ok(())
    }
}

impl<F> Held<F> {
    fn new(guard: Arc<Guard>, ticket: Ticket, frame: F) -> Self {
        guard.pulse.begin();
        Self { guard, ticket, frame: Some(frame), settled: false }
    }

    /// What waits, for whom, until when: to be told to the client.
    pub fn pending(&self) -> &Arc<Pending> {
        self.ticket.pending()
    }

    /// One sentence for the client: why it waits, for whom, and the line an approver types.
    pub fn notice(&self) -> String {
        let pending = self.pending();
        let whom = match pending.approvers.as_slice() {
            [] => "somebody else".to_owned(),
            roles => format!("somebody with role {}", roles.join(" or ")),
        };
        format!(
            "held as {id}: {reason}; waiting for {whom} to run: weir approve {id}",
            id = pending.hold,
            reason = pending.reason
        )
    }

    /// Waits for the decision. Cancel-safe.
    pub async fn decided(&mut self) -> Decision {
        self.ticket.decided().await
    }

    /// Settles the command: an approval is one more question to policy, with the approval in it,
    /// and is recorded before the frame is cleared.
    pub fn settle(mut self, decision: &Decision) -> Settled<F> {
        self.settled = true;
        let pending = Arc::clone(self.ticket.pending());
        let guard = Arc::clone(&self.guard);
        let snapshot = guard.snapshot();
        let verdict = match (decision, guard.over()) {
            (Decision::Approved { .. }, Some(reason)) => Some(Verdict::Deny(reason.refusal())),
            (Decision::Approved { by }, None) => {
                let approval = policy::Approval { by };
                let command = &pending.command;
                Some(policy::decide(
                    &guard.permit,
                    &snapshot,
                    command,
                    Some(&approval),
                    guard.now(),
                ))
            }
            (Decision::Declined { .. } | Decision::TimedOut | Decision::Withdrawn { .. }, _) => {
                None
            }
        };
        if let Err(error) = self.record(decision, verdict.clone()) {
            return Settled::No(guard.unrecorded(&error));
        }
        let number = pending.command_id.number;
        match (verdict, self.frame.take()) {
            (Some(Verdict::Allow { .. }), Some(frame)) => {
                guard.go(number, &pending.command, &snapshot, frame)
            }
            (Some(Verdict::Deny(refusal)), _) => Settled::No(refusal),
            (Some(Verdict::Allow { .. } | Verdict::Hold { .. }) | None, _) => {
                Settled::No(decision.refusal().unwrap_or_else(no_longer_approvable))
            }
        }
    }

    fn record(&self, decision: &Decision, verdict: Option<Verdict>) -> Result<(), Unrecorded> {
        let pending = self.ticket.pending();
        let number = pending.command_id.number;
        self.guard.hold_ended(&pending.hold, number, decision, verdict)
    }
}

impl<F> Drop for Held<F> {
    fn drop(&mut self) {
        self.guard.pulse.end();
        if !self.settled {
            let gone = Decision::Withdrawn { reason: "the client went away".to_owned() };
            if let Err(error) = self.record(&gone, None) {
                self.guard.unrecorded(&error);
            }
        }
    }
}

fn no_longer_approvable() -> Refusal {
    Refusal::new(
        RefusalCode::Denied,
        "the command was approved, but policy changed meanwhile and asks for more",
    )
    .hint("send the command again")
}

/// What an approval is for: exactly this text with exactly these details, in this session.
fn exactly(session: SessionId, command: &Command) -> Digest {
    let details = command.details.iter().fold(String::new(), |mut all, (name, value)| {
        for part in [name, value] {
            all.push_str(&part.len().to_string());
            all.push(':');
            all.push_str(part);
        }
        all
    });
    let session = session.to_string();
    let verb = format!("{}:{}", command.verb.len(), command.verb);
    let text = format!("{}:{}", command.text.len(), command.text);
    Digest::of_parts(&[session.as_bytes(), verb.as_bytes(), text.as_bytes(), details.as_bytes()])
}
