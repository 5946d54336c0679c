//! A command that waits for somebody's approval, with the frame it came in.

use std::sync::Arc;

use crate::audit::LedgerEvent;
use crate::audit::TrailEvent;
use crate::audit::Unrecorded;
use crate::model::Refusal;
use crate::model::Verdict;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::policy;
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

impl<F> Held<F> {
    pub(super) fn new(guard: Arc<Guard>, ticket: Ticket, frame: F) -> Self {
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
        let (hold, ending) = (pending.hold.clone(), decision.ending());
        self.guard.trail.append(&TrailEvent::HoldEnded {
            number: pending.command_id.number,
            hold: hold.clone(),
            ending: ending.clone(),
            verdict,
        })?;
        self.guard.parts.journal.note(Note::HoldEnded {
            at: self.guard.now(),
            hold: hold.clone(),
            ending: decision.word(),
            by: decision.by().map(|by| by.name.clone()),
        });
        self.guard.parts.audit.record(&LedgerEvent::HoldEnded { hold, ending })?;
        Ok(())
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
