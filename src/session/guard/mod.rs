//! The guard: what every command and every answer of a session passes.
//!
//! It is the sole maker of [`Cleared`] and [`Released`]. It is shared (`&self`), because commands
//! overlap: pipelines, SSH channels, HTTP/2 streams. It knows no protocol: what a command means and
//! how an answer is masked the protocol says, by handing over a [`Command`] and an [`Answer`]; what
//! may happen policy says; that it was recorded the trail says; here the three meet.
//!
//! ```text
//! ask(command, frame) ──► decide ──► record ──► Go(Running, Cleared)   the frame may be sent
//!                                          ├──► Held                   wait, then settle: Go or No
//!                                          └──► No(Refusal)            tell the client why
//! Running::release(answer) ──► transfer in the ledger ──► mask ──► account ──► Released
//! ```

mod proof;
mod answer;
mod ending;
mod pulse;
mod account;
mod held;
mod running;
mod typed;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::audit::Admission;
use crate::audit::Audit;
use crate::audit::LedgerEvent;
use crate::audit::Recorded;
use crate::audit::Trail;
use crate::audit::TrailEvent;
use crate::audit::Unrecorded;
use crate::audit::entry::Volume;
use crate::audit::ocsf::Feed;
use crate::model::Clock;
use crate::model::Command;
use crate::model::DataClass;
use crate::model::Effect;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::Verdict;
use crate::model::digest::Digest;
use crate::model::login::Authentication;
use crate::model::refusal::IntoRefusal;
use crate::model::verdict::Masks;
use crate::policy;
use crate::policy::Permit;
use crate::policy::Snapshot;
use crate::policy::Standpoint;
use crate::session::guard::account::Reading;
use crate::session::guard::account::Writing;
use crate::session::guard::ending::Standing;
use crate::session::guard::pulse::Pulse;
use crate::session::hold::Desk;
use crate::session::login::Version;
use crate::session::registry::Live;
use crate::session::registry::Registry;
use crate::store::Journal;
use crate::store::Note;

pub use account::About;
pub use account::facts;
pub use account::note;
pub use answer::Answer;
pub use answer::Masked;
pub use answer::Plumbing;
pub use answer::Said;
pub use answer::Withheld;
pub use answer::beginning;
pub use held::Held;
pub use proof::Cleared;
pub use proof::Released;
pub use proof::WrongSession;
pub use running::Running;

/// How much of its text is recorded of a command that is too long for an entry, in characters.
const TEXT_SIGNS_KEPT: usize = 64 * 1024;

/// The guard's answer to a command.
#[derive(Debug)]
pub enum Asked<F> {
    /// Decided.
    Settled(Settled<F>),
    /// It waits for somebody's approval.
    Held(Box<Held<F>>),
}

/// A decided command.
#[derive(Debug)]
pub enum Settled<F> {
    /// It may go on: the frame may be sent, and its answers go through the [`Running`].
    Go(Arc<Running>, Cleared<F>),
    /// It may not.
    No(Refusal),
}

/// What a guard needs of the gateway.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where is recorded.
    pub audit: Arc<Audit>,
    /// Policy, law and catalogue, as they change.
    pub version: watch::Receiver<Arc<Version>>,
    /// Where commands wait.
    pub desk: Arc<Desk>,
    /// Where live sessions are listed.
    pub registry: Arc<Registry>,
    /// Where the index of sessions and holds is written.
    pub journal: Journal,
    /// Where commands are told to whoever watches, once they are recorded.
    pub feed: Feed,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How much of a command's result is kept, in bytes.
    pub result_bytes_max: usize,
    /// How long a session may ask and answer nothing while no command runs or waits.
    pub idle_max: Duration,
}

/// What every command and every answer of a session passes. See the module.
#[derive(Debug)]
pub struct Guard {
    permit: Recorded<Permit>,
    trail: Arc<Trail>,
    live: Arc<Live>,
    parts: Parts,
    pulse: Pulse,
    /// How the principal had proved who they are when the session was admitted.
    admitted_by: Option<Authentication>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last snapshot that the trail names.
    snapshot: Digest,
    /// Masks of all the target's classes, and what they rest on.
    masks: Option<Kept>,
    /// Everything that was released.
    volume: Volume,
    /// How much of it may have carried each class, since a transfer is open.
    carried: BTreeMap<DataClass, Volume>,
    /// How much went to the target in commands that write each class, since a transfer is open.
    written: BTreeMap<DataClass, Volume>,
    /// What the session stands on, as of the last time that this was asked.
    standing: Standing,
    /// A transfer was opened in the ledger.
    transfers: bool,
    reading: Option<Reading>,
    writing: BTreeMap<DataClass, Writing>,
    /// How many commands were denied.
    denied: u64,
    /// Why the session ended, once that is known.
    reason: Option<String>,
}

/// Masks that were asked for and recorded.
#[derive(Debug)]
struct Kept {
    /// They hold as long as this stays the same.
    standpoint: Standpoint,
    /// What policy said.
    said: Masks,
    /// What is applied: in observe mode, nothing.
    applied: Arc<Masks>,
}

/// A command on record.
#[derive(Debug)]
struct Decided {
    number: u64,
    snapshot: Arc<Snapshot>,
    verdict: Verdict,
    /// The verdict is not applied, because the target is in observe mode.
    observed: bool,
}

impl Guard {
    /// Records the admission and opens the session. The target may be dialled with
    /// [`Guard::permit`] from now on.
    pub fn open(permit: Permit, parts: Parts) -> Result<Arc<Self>, Unrecorded> {
        let opened = permit.opened();
        let (permit, trail) = parts.audit.admit(permit)?;
        let now = parts.clock.now();
        let live = parts.registry.enter(Live::of(&opened, now));
        parts.journal.note(Note::Opened { at: now, opened: Box::new(opened.clone()) });
        let state = State {
            snapshot: opened.snapshot,
            masks: None,
            volume: Volume::default(),
            carried: BTreeMap::new(),
            written: BTreeMap::new(),
            standing: Standing::admitted(&permit, &parts),
            transfers: false,
            reading: None,
            writing: BTreeMap::new(),
            denied: 0,
            reason: None,
        };
        let (pulse, state) = (Pulse::new(), Mutex::new(state));
        let admitted_by = permit.identity().authentication();
        Ok(Arc::new(Self { permit, trail, live, parts, pulse, admitted_by, state }))
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.permit.session()
    }

    /// The recorded permit, with which [`crate::upstream::dial`] reaches the target.
    pub fn permit(&self) -> &Recorded<Permit> {
        &self.permit
    }

    /// Decides a command and records the decision; only then is its frame cleared.
    pub fn ask<F>(self: &Arc<Self>, command: Command, frame: F) -> Asked<F> {
        let command = Arc::new(command);
        let Decided { number, snapshot, verdict, observed } = match self.decide(&command) {
            Ok(decided) => decided,
            Err(refusal) => return Asked::Settled(Settled::No(refusal)),
        };
        match verdict {
            Verdict::Allow { .. } => Asked::Settled(self.go(number, &command, &snapshot, frame)),
            Verdict::Hold { .. } | Verdict::Deny(_) if observed => {
                Asked::Settled(self.go(number, &command, &snapshot, frame))
            }
            Verdict::Deny(refusal) => Asked::Settled(Settled::No(refusal)),
            Verdict::Hold { reason, approvers, .. } => {
                self.hold(number, command, frame, reason, approvers)
            }
        }
    }

    /// Decides what is only prepared now, such as the text of a prepared statement, and records the
    /// decision. What would be held may be prepared: it waits when it is asked for.
    pub fn prepare<F>(self: &Arc<Self>, command: Command, frame: F) -> Settled<F> {
        let command = Arc::new(command);
        match self.decide(&command) {
            Err(refusal) => Settled::No(refusal),
            Ok(Decided { verdict: Verdict::Deny(refusal), observed: false, .. }) => {
                Settled::No(refusal)
            }
            Ok(Decided { number, snapshot, .. }) => {
                // Values in the text reach the target with it. As a command it counts when it runs.
                if let Err(refusal) = self.writes(&command, &snapshot, 0, command.text.len()) {
                    return Settled::No(refusal);
                }
                let running = Running::new(Arc::clone(self), number, &command);
                Settled::Go(Arc::new(running), Cleared::once_recorded(self.session(), frame))
            }
        }
    }

    /// What the verdict on a command would be now. Nothing is recorded and nothing is cleared: a
    /// protocol asks so before it asks, where it must know whether the command would wait.
    pub fn foresee(&self, command: &Command) -> Verdict {
        policy::decide(&self.permit, &self.snapshot(), command, None, self.now())
    }

    /// Lets a frame pass that changes nothing and asks for nothing.
    pub fn plumb<P: Plumbing>(&self, frame: P) -> Cleared<P> {
        self.pulse.beat();
        Cleared::once_recorded(self.session(), frame)
    }

    /// Lets the gateway's own words to the client.
    pub fn say<S: Said>(&self, own: S) -> Released<S> {
        Released::once_masked(self.session(), own)
    }

    /// Releases something that the target began outside any command, such as a parameter's status
    /// or a notice. Its volume counts; no result is kept.
    pub fn pass<A: Answer>(&self, answer: A) -> Result<Released<A::Out>, Withheld> {
        let masks = self.masks()?;
        let masked = answer.masked(&masks, 0)?;
        self.account(masked.volume, &self.permit.target().classes)?;
        Ok(Released::once_masked(self.session(), masked.out))
    }

    /// Records that something was refused which is no command: a channel that a target opens, a
    /// frame out of place.
    pub fn refused(&self, what: impl Into<String>, refusal: &Refusal) -> Result<(), Unrecorded> {
        let event = TrailEvent::Refused { what: what.into(), refusal: refusal.clone() };
        self.trail.append(&event).map(|_| ())
    }

    /// Records a connection to the target, by what the target's own log names it with: `process`,
    /// the target's number for it, once that is known; `number`, the command that it carries alone.
    pub fn leg(
        &self,
        (from, to): (SocketAddr, SocketAddr),
        process: Option<i64>,
        number: Option<u64>,
    ) -> Result<(), Unrecorded> {
        self.trail.append(&TrailEvent::Leg { from, to, process, number }).map(|_| ())
    }

    /// The number of the command that was last decided; 0 before the first.
    pub fn last_command(&self) -> u64 {
        self.live.commands()
    }

    /// What the principal may see of the target's classes now. In observe mode everything is shown
    /// and what would be hidden is recorded.
    pub fn masks(&self) -> Result<Arc<Masks>, Unrecorded> {
        let (snapshot, now) = (self.snapshot(), self.now());
        let standpoint = policy::standpoint(&self.permit, &snapshot, now);
        if let Some(kept) = &self.state().masks
            && kept.standpoint == standpoint
        {
            return Ok(Arc::clone(&kept.applied));
        }
        let target = self.permit.target();
        let said = policy::reveal(&self.permit, &snapshot, &target.classes, now);
        // A login gets older by the second; the record is told when that makes a difference.
        let told = self.state().masks.as_ref().is_some_and(|kept| {
            kept.said == said && kept.standpoint.version() == standpoint.version()
        });
        if !told {
            self.trail.note(&TrailEvent::Masks {
                shown: said.shown().clone(),
                hidden: said.hidden().clone(),
                observed: target.observe && said.hides_something(),
            })?;
        }
        let applied = if target.observe { shows_all(&target.classes) } else { said.clone() };
        let applied = Arc::new(applied);
        self.state().masks = Some(Kept { standpoint, said, applied: Arc::clone(&applied) });
        Ok(applied)
    }

    /// Says why the session ends. The first reason given stays; the trail's last entry has it.
    pub fn ending(&self, reason: impl Into<String>) {
        self.state().reason.get_or_insert_with(|| reason.into());
    }

    /// Decides and records.
    fn decide(&self, command: &Arc<Command>) -> Result<Decided, Refusal> {
        self.pulse.beat();
        let number = self.live.next_command();
        if let Some(reason) = self.over() {
            return Err(reason.refusal());
        }
        let snapshot = self.snapshot();
        let verdict = policy::decide(&self.permit, &snapshot, command, None, self.now());
        let observed = self.permit.target().observe
            && command.unsupported.is_none()
            && !matches!(verdict, Verdict::Allow { .. });
        let named = self.newly_named(snapshot.version());
        let event = TrailEvent::Command {
            number,
            command: Arc::clone(command),
            verdict: verdict.clone(),
            observed,
            snapshot: named,
        };
        if let Err(error) = self.trail.append(&event) {
            return Err(self.not_decided((number, named), command, &error));
        }
        self.parts.feed.offer(self.session(), self.now(), &event);
        if matches!(verdict, Verdict::Deny(_)) && !observed {
            self.state().denied += 1;
        }
        Ok(Decided { number, snapshot, verdict, observed })
    }

    /// Refuses a command whose decision could not be recorded. Of one that is too long for an
    /// entry, that it was refused is recorded with the beginning of its text.
    fn not_decided(
        &self,
        (number, snapshot): (u64, Option<Digest>),
        command: &Command,
        error: &Unrecorded,
    ) -> Refusal {
        let refusal = self.unrecorded(error);
        if !error.is_too_long() {
            return refusal;
        }
        let text = command.text.chars().take(TEXT_SIGNS_KEPT).collect::<String>();
        let mut short = Command::new(command.verb.clone(), text);
        short.effects.insert(Effect::Opaque);
        let event = TrailEvent::Command {
            number,
            command: Arc::new(short),
            verdict: Verdict::Deny(refusal.clone()),
            observed: false,
            snapshot,
        };
        if let Err(error) = self.trail.append(&event) {
            return self.unrecorded(&error);
        }
        self.parts.feed.offer(self.session(), self.now(), &event);
        self.state().denied += 1;
        refusal
    }

    fn go<F>(
        self: &Arc<Self>,
        number: u64,
        command: &Arc<Command>,
        snapshot: &Snapshot,
        frame: F,
    ) -> Settled<F> {
        if let Err(refusal) = self.writes(command, snapshot, 1, command.text.len()) {
            return Settled::No(refusal);
        }
        let running = Running::new(Arc::clone(self), number, command);
        Settled::Go(Arc::new(running), Cleared::once_recorded(self.session(), frame))
    }

    fn newly_named(&self, version: Digest) -> Option<Digest> {
        let mut state = self.state();
        let new = state.snapshot != version;
        state.snapshot = version;
        new.then_some(version)
    }

    /// Logs why something could not be recorded and gives what the client is told.
    fn unrecorded(&self, error: &Unrecorded) -> Refusal {
        let session = self.session();
        let cause = crate::model::fault::Chain(error).to_string();
        if error.is_too_long() {
            tracing::info!(%session, fault = "client", "{cause}; the command is refused");
        } else {
            tracing::error!(%session, fault = "gateway", "{cause}; the command is refused");
        }
        error.refusal()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.parts.version.borrow().snapshot)
    }

    /// What the time is to the session.
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    /// Closes the trail. Every [`Running`] and [`Held`] keeps the guard, so theirs are the entries
    /// before.
    fn drop(&mut self) {
        let session = self.session();
        self.parts.registry.leave(session);
        let (volume, (classes, written), reason, transfers, denied) = {
            let mut state = self.state();
            let reason = state.reason.take().unwrap_or_else(|| "connection ended".to_owned());
            let carried = std::mem::take(&mut state.carried);
            let carried = (carried, std::mem::take(&mut state.written));
            (state.volume, carried, reason, state.transfers, state.denied)
        };
        let commands = self.live.commands();
        let at = self.now();
        let noted = Note::Closed { at, session, reason: reason.clone(), commands, denied, volume };
        self.parts.journal.note(noted);
        let audit = &self.parts.audit;
        let mut closing = Ok(());
        if transfers {
            let event = LedgerEvent::TransferVolume {
                session,
                volume,
                classes,
                written,
                closed: true,
                look: None,
            };
            closing = audit.record(&event).map(|_| ());
        }
        let last = TrailEvent::Closed { reason, commands, volume };
        let closed = audit.close(&self.trail, &last);
        if let Err(error) = closing.and(closed) {
            let cause = crate::model::fault::Chain(&error).to_string();
            tracing::error!(%session, fault = "gateway", "{cause}");
        }
    }
}

fn shows_all(classes: &BTreeSet<DataClass>) -> Masks {
    let mut masks = Masks::none_asked();
    for class in classes {
        masks.show(class.clone());
    }
    masks
}
