//! Commands that wait for somebody's approval.
//!
//! Holding is a state of a protocol's loop, not a blocked task: the loop keeps a [`Ticket`] and
//! goes on reading its client. An answer is taken once: whoever answers takes the entry off the
//! desk, and a ticket that is dropped takes it off too, so that nothing can be approved that no
//! longer waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::audit::entry::HoldEnding;
use crate::model::Command;
use crate::model::CommandId;
use crate::model::HoldId;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::refusal::RefusalCode;

/// Bounds of holding.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a command waits before nobody's answer is a no, in seconds.
    pub wait_s_max: u32,
    /// How many commands may wait at once, of all sessions.
    pub pending_max: usize,
    /// How many commands of one session may wait at once.
    pub pending_per_session_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { wait_s_max: 300, pending_max: 1_000, pending_per_session_max: 4 }
    }
}

/// How a hold was decided.
#[derive(Debug, Clone)]
pub enum Decision {
    /// Somebody allowed exactly this command, once.
    Approved {
        /// Who.
        by: Arc<Principal>,
    },
    /// Somebody said no.
    Declined {
        /// Who.
        by: Arc<Principal>,
        /// Why, in their words.
        reason: Option<String>,
    },
    /// Nobody answered in time.
    TimedOut,
    /// The client took it back: a cancel, its end, or more bytes than are read ahead.
    Withdrawn {
        /// Which; the client is told so, if it is still there.
        reason: String,
    },
}

impl Decision {
    /// As it is recorded.
    pub fn ending(&self) -> HoldEnding {
        match self {
            Self::Approved { by } => HoldEnding::Approved { by: by.name.clone() },
            Self::Declined { by, reason } => {
                HoldEnding::Declined { by: by.name.clone(), reason: reason.clone() }
            }
            Self::TimedOut => HoldEnding::TimedOut,
            Self::Withdrawn { reason } => HoldEnding::Withdrawn { reason: reason.clone() },
        }
    }

    /// The word in records: `approved`, `declined`, `timed-out`, `withdrawn`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Approved { .. } => "approved",
            Self::Declined { .. } => "declined",
            Self::TimedOut => "timed-out",
            Self::Withdrawn { .. } => "withdrawn",
        }
    }

    /// Who decided, where somebody did.
    pub fn by(&self) -> Option<&Arc<Principal>> {
        match self {
            Self::Approved { by } | Self::Declined { by, .. } => Some(by),
            Self::TimedOut | Self::Withdrawn { .. } => None,
        }
    }

    /// What the client is told; `None` for an approval.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Approved { .. } => None,
            Self::Declined { by, reason } => Some(match reason {
                Some(reason) => {
                    Refusal::new(RefusalCode::Declined, format!("{by} said no: {reason}"))
                }
                None => Refusal::new(RefusalCode::Declined, format!("{by} said no")),
            }),
            Self::TimedOut => Some(
                Refusal::new(RefusalCode::TimedOut, "nobody approved this command in time")
                    .hint("ask an approver to be there, then send the command again"),
            ),
            Self::Withdrawn { reason } => Some(Refusal::new(RefusalCode::Canceled, reason.clone())),
        }
    }
}

/// A command that waits, as an approver sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Pending {
    /// The hold's id.
    pub hold: HoldId,
    /// The command's session and number.
    pub command_id: CommandId,
    /// Who asks.
    pub principal: Arc<Principal>,
    /// From where.
    pub origin: Origin,
    /// Of which target.
    pub target: TargetName,
    /// In which protocol.
    pub protocol: Protocol,
    /// What exactly.
    pub command: Arc<Command>,
    /// The digest of what exactly; an approval is for nothing else.
    pub exactly: Digest,
    /// Why it waits.
    pub reason: String,
    /// Roles of which an approver must hold one.
    pub approvers: Vec<String>,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

#[derive(Debug)]
struct Waiting {
    pending: Arc<Pending>,
    answer: oneshot::Sender<Decision>,
}

/// Where commands wait. One per gateway.
#[derive(Debug)]
pub struct Desk {
    limits: Limits,
    waiting: Mutex<BTreeMap<HoldId, Waiting>>,
}

/// A place in the desk's queue; dropping it gives the place up.
#[derive(Debug)]
pub struct Ticket {
    desk: Arc<Desk>,
    pending: Arc<Pending>,
    answer: oneshot::Receiver<Decision>,
    deadline: Instant,
    decision: Option<Decision>,
}

impl Desk {
    /// An empty desk.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, waiting: Mutex::default() })
    }

    /// How long a command waits at most.
    pub fn wait_max(&self) -> Duration {
        Duration::from_secs(u64::from(self.limits.wait_s_max))
    }

    /// Lets a command wait; refused when too many do already.
    pub(super) fn wait(self: &Arc<Self>, pending: Pending) -> Result<Ticket, Refusal> {
        let (tell, answer) = oneshot::channel();
        let pending = Arc::new(pending);
        let mut waiting = self.lock();
        let session = pending.command_id.session;
        let own = waiting.values().filter(|w| w.pending.command_id.session == session).count();
        if waiting.len() >= self.limits.pending_max || own >= self.limits.pending_per_session_max {
            let full = format!("{} commands already wait for an approval", waiting.len());
            return Err(Refusal::new(RefusalCode::TooLarge, full)
                .hint("send the command again once some of them are answered"));
        }
        let place = Waiting { pending: Arc::clone(&pending), answer: tell };
        waiting.insert(pending.hold.clone(), place);
        drop(waiting);
        let deadline = Instant::now() + self.wait_max();
        Ok(Ticket { desk: Arc::clone(self), pending, answer, deadline, decision: None })
    }

    /// What waits now, oldest first.
    pub fn pending(&self) -> Vec<Arc<Pending>> {
        let mut all = self.lock().values().map(|w| Arc::clone(&w.pending)).collect::<Vec<_>>();
        all.sort_by_key(|pending| pending.since);
        all
    }

    /// One command that waits.
    pub fn find(&self, hold: &HoldId) -> Option<Arc<Pending>> {
        self.lock().get(hold).map(|waiting| Arc::clone(&waiting.pending))
    }

    /// Answers a hold, once: `false` when it no longer waits. Whether `decision` may be given by
    /// whoever gives it has been decided by policy before.
    pub fn answer(&self, hold: &HoldId, decision: Decision) -> bool {
        let Some(waiting) = self.lock().remove(hold) else { return false };
        waiting.answer.send(decision).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HoldId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// What waits.
    pub fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    /// Waits for the answer, or for the end of the time. Cancel-safe: an answer that has come is
    /// not lost when this future is dropped and made again, and once given it is given again.
    pub async fn decided(&mut self) -> Decision {
        if let Some(decision) = &self.decision {
            return decision.clone();
        }
        let decision = tokio::select! {
            biased;
            answer = &mut self.answer => answer.unwrap_or(Decision::TimedOut),
            () = tokio::time::sleep_until(self.deadline) => self.time_out(),
        };
        self.decision = Some(decision.clone());
        decision
    }

    /// Gives the place up; an answer that came in the same instant still counts.
    fn time_out(&mut self) -> Decision {
        let waited = self.desk.lock().remove(&self.pending.hold).is_some();
        if waited {
            Decision::TimedOut
        } else {
            self.answer.try_recv().unwrap_or(Decision::TimedOut)
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.desk.lock().remove(&self.pending.hold);
    }
}
