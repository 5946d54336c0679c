//! May this principal hold a session with this target, and may it still?
//!
//! The only maker of [`Permit`]. Knows who was verified; how that came about is for `identity`.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use jiff::Timestamp;

use crate::identity::Verified;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::SessionId;
use crate::model::TargetFacts;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::refusal::RefusalCode;
use crate::policy::agent;
use crate::policy::engine::Action;
use crate::policy::law;
use crate::policy::seat::Purpose;
use crate::policy::seat::Seat;
use crate::policy::seat::place_facts;
use crate::policy::snapshot::Snapshot;
use crate::policy::step_up::Proven;
use crate::policy::transfer::Decision;
use crate::policy::words;

/// What a client asks for at connect.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The session that would begin.
    pub session: SessionId,
    /// The target it names.
    pub target: &'a TargetName,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// Where it comes from.
    pub origin: &'a Origin,
}

/// Proof that a principal may hold a session with a target. Only [`admit`] makes it.
#[derive(Debug)]
pub struct Permit {
    session: SessionId,
    identity: Verified,
    /// How fresh and strong the login was at admission.
    admitted_by: Proven,
    rules: Vec<RuleId>,
    observed: Option<Refusal>,
    /// As it was at admission; it stands in the record.
    admitted: Arc<Seat>,
    version: Digest,
    /// As it is under the snapshot that was asked last: made anew when policy, law or the day change.
    seat: Mutex<Arc<Seat>>,
    /// Until when the law is known to admit it, as of the last time that this was asked. A command
    /// that makes the seat anew does not put it off: whether the session may go on is for [`readmit`].
    law_until: Mutex<Option<Timestamp>>,
}

impl Permit {
    /// The session it is for.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Who holds the session.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.admitted.principal
    }

    /// The target, as it was at admission.
    pub fn target(&self) -> &Arc<TargetFacts> {
        &self.admitted.facts
    }

    /// Where the principal comes from.
    pub fn origin(&self) -> &Origin {
        &self.admitted.origin
    }

    /// When the principal's proof of identity ends, as it is now: from then on everything is
    /// refused. `None`: never, which only the gateway's own does.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.identity.expires_at()
    }

    /// The proof that the session stands on.
    pub fn identity(&self) -> &Verified {
        &self.identity
    }

    /// When the session must be asked again ([`readmit`]): the first moment at which its identity or
    /// a fact of law that it stands on may have ended. `None`: no such moment is known.
    pub fn valid_until(&self) -> Option<Timestamp> {
        let law = *self.law_until.lock().unwrap_or_else(PoisonError::into_inner);
        law.into_iter().chain(self.expires_at()).min()
    }

    /// The version of the snapshot that admitted.
    pub fn version(&self) -> Digest {
        self.version
    }

    /// The rules that decided.
    pub fn rules(&self) -> &[RuleId] {
        &self.rules
    }

    /// The transfer decision that the session was admitted on; [`readmit`] may give another.
    pub fn transfer(&self) -> &Decision {
        &self.admitted.residency.applied
    }

    /// Whether it is admitted only with every class of the target suppressed.
    pub fn suppressed(&self) -> bool {
        self.suppressed_by().is_some()
    }

    /// Why every class is suppressed: the decision that forbids showing any.
    pub fn suppressed_by(&self) -> Option<&Decision> {
        self.admitted.residency.suppressed_by.as_ref()
    }

    /// What would have been refused, were the target not in observe mode.
    pub fn observed(&self) -> Option<&Refusal> {
        self.observed.as_ref()
    }

    fn seat_held(&self) -> Arc<Seat> {
        Arc::clone(&self.seat.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How and when the principal last proved who they are: read anew for every question, for a
    /// login may be repeated while the session lives.
    pub(super) fn proven(&self, now: Timestamp) -> Proven {
        proven(&self.identity, now)
    }

    /// Whether the proof of identity holds no longer.
    pub(super) fn has_ended(&self, now: Timestamp) -> bool {
        alive(&self.identity, now).is_err()
    }

    /// The seat under `snapshot` at `now`; refused if the identity has ended or the target is gone.
    pub(super) fn seat(&self, snapshot: &Snapshot, now: Timestamp) -> Result<Arc<Seat>, Refusal> {
        alive(&self.identity, now)?;
        let held = self.seat_held();
        if held.fits(snapshot, now) {
            return Ok(held);
        }
        let name = &self.admitted.facts.name;
        let place = snapshot.place(name).ok_or_else(|| words::no_target(name))?;
        let who = (&self.admitted.principal, &self.admitted.origin);
        let mut fresh = Seat::take(snapshot, who, place, Purpose::Session, now);
        // A session that began without any class shown stays so.
        if fresh.residency.suppressed_by.is_none() {
            fresh.residency.suppressed_by.clone_from(&self.admitted.residency.suppressed_by);
        }
        let fresh = Arc::new(fresh);
        *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        Ok(fresh)
    }
}

/// Decides whether `verified` may hold a session with the target it asks for.
///
/// Where the target is in observe mode, a refusal for reasons of policy or law is kept in
/// [`Permit::observed`] instead. A target that is not, another protocol and an identity that has
/// ended are refused always.
pub fn admit(
    verified: &Verified,
    asked: Asked<'_>,
    snapshot: &Arc<Snapshot>,
    now: Timestamp,
) -> Result<Permit, Refusal> {
    alive(verified, now)?;
    let place = snapshot.place(asked.target).ok_or_else(|| words::no_target(asked.target))?;
    let who = (verified.principal(), asked.origin);
    let seat = Arc::new(Seat::take(snapshot, who, place, Purpose::Session, now));
    let proven = proven(verified, now);
    let answer = connect(snapshot, &seat, &proven);
    if asked.protocol != seat.facts.protocol {
        // Only who may reach the target learns what it speaks.
        return Err(match answer {
            Ok(_) => Refusal::new(
                RefusalCode::NoTarget,
                format!("{} speaks {}, not {}", asked.target, seat.facts.protocol, asked.protocol),
            ),
            Err(_) => words::no_target(asked.target),
        });
    }
    let (rules, observed) = match answer {
        Ok(rules) => (rules, None),
        Err(refusal) if seat.facts.observe => (refusal.rules.clone(), Some(refusal)),
        Err(refusal) => return Err(refusal),
    };
    Ok(Permit {
        session: asked.session,
        identity: verified.clone(),
        admitted_by: proven,
        rules,
        observed,
        version: snapshot.version(),
        law_until: Mutex::new(law::ends(&seat.residency.applied)),
        seat: Mutex::new(Arc::clone(&seat)),
        admitted: seat,
    })
}

/// Asks again whether the session that `permit` is for may go on under `snapshot`, and on which
/// transfer decision.
///
/// To be asked whenever policy, law, catalogue, identity or login change, and at
/// [`Permit::valid_until`]. Where a policy wants a fresh login to begin a session, it is enough that
/// it was fresh then.
pub fn readmit(permit: &Permit, snapshot: &Snapshot, now: Timestamp) -> Result<Decision, Refusal> {
    let seat = permit.seat(snapshot, now)?;
    still_admits(permit, snapshot, &seat, now)?;
    let until = law::ends(&seat.residency.applied);
    *permit.law_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    Ok(seat.residency.applied.clone())
}

fn still_admits(
    permit: &Permit,
    snapshot: &Snapshot,
    seat: &Seat,
    now: Timestamp,
) -> Result<(), Refusal> {
    let (then, facts) = (&permit.admitted.facts, &seat.facts);
    if then.protocol != facts.protocol
        || then.region != facts.region
        || then.country != facts.country
    {
        return Err(Refusal::new(
            RefusalCode::SessionEnded,
            format!("{} stands somewhere else now, or speaks another protocol", facts.name),
        )
        .hint("connect again"));
    }
    let proven = permit.proven(now).no_older_than(&permit.admitted_by);
    match connect(snapshot, seat, &proven) {
        Err(refusal) if !facts.observe => return Err(refusal),
        // Refused, and observed as at admission.
        Err(_) => return Ok(()),
        Ok(_) => {}
    }
    match &seat.residency.suppressed_by {
        Some(decision) if !permit.suppressed() && !facts.observe => Err(words::residency(decision)),
        Some(_) | None => Ok(()),
    }
}

/// The question `connect`: the rules that admit, or the refusal; of an agent, also as if its person
/// asked.
pub(super) fn connect(
    snapshot: &Snapshot,
    seat: &Seat,
    proven: &Proven,
) -> Result<Vec<RuleId>, Refusal> {
    let answer = connect_as(snapshot, seat, proven);
    match seat.as_person() {
        None => answer,
        Some(person) => agent::answers(answer, || connect_as(snapshot, person, proven)),
    }
}

fn connect_as(snapshot: &Snapshot, seat: &Seat, proven: &Proven) -> Result<Vec<RuleId>, Refusal> {
    let decision = &seat.residency.applied;
    let mut facts = seat.facts(decision);
    facts.set("rows", decision.rows.iter().map(ToString::to_string));
    let answer =
        seat.ask_lifting(snapshot, Action::Connect, &facts, proven).map_err(words::step_up)?;
    if answer.allowed {
        return Ok(answer.ids());
    }
    let name = &seat.facts.name;
    let asked = words::Asked { who: &seat.principal, what: "connect", target: Some(name) };
    if !answer.broken.is_empty() {
        return Err(words::refusal(&answer, asked, None));
    }
    let answer = if words::is_residency(&answer) {
        // What the law says about a target is told only to those whom policy would let know of it.
        let mut facts = place_facts(&seat.origin);
        facts.text("residency", "none");
        facts.set("rows", []);
        let otherwise = seat.ask(snapshot, Action::Connect, (facts, proven), false);
        if otherwise.allowed {
            return Err(words::residency(decision));
        }
        otherwise
    } else {
        answer
    };
    if words::is_reasoned(&answer) {
        return Err(words::refusal(&answer, asked, None));
    }
    Err(words::no_target(name))
}

fn proven(verified: &Verified, now: Timestamp) -> Proven {
    Proven::at(verified.principal().kind, verified.authentication().as_ref(), now)
}

/// Whether a proof of identity still holds.
fn alive(identity: &Verified, now: Timestamp) -> Result<(), Refusal> {
    let ended = |what: String| {
        Refusal::new(RefusalCode::Unauthenticated, what).hint("sign in again: `weir login`")
    };
    if let Some(why) = identity.ended() {
        return Err(ended(format!("the login that this rests on has ended: {why}")));
    }
    match identity.expires_at() {
        Some(at) if at <= now => Err(ended(format!("the proof of who you are ended at {at}"))),
        Some(_) | None => Ok(()),
    }
}
