//! Questions of the control plane: approving, listing, searching, replaying, ending sessions.
//!
//! Approving, searching and replaying are accesses to data and decided likewise, for whoever looks
//! and from where they look.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::Command;
use crate::model::DataClass;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::TargetName;
use crate::model::login::Authentication;
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;
use crate::policy::agent;
use crate::policy::decide;
use crate::policy::engine::Action;
use crate::policy::engine::Answer;
use crate::policy::engine::Facts;
use crate::policy::seat::Purpose;
use crate::policy::seat::Seat;
use crate::policy::seat::ask_gateway;
use crate::policy::seat::person_of;
use crate::policy::seat::place_facts;
use crate::policy::snapshot::Snapshot;
use crate::policy::step_up::Lifted;
use crate::policy::step_up::Proven;
use crate::policy::transfer::Decision;
use crate::policy::words;

/// Whoever asks: who, from where, and when they last signed in.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// Who it is.
    pub principal: &'a Principal,
    /// Where they come from.
    pub origin: &'a Origin,
    /// How and when they last proved who they are. `None`: it is not known, and taken to be long ago.
    pub authentication: Option<&'a Authentication>,
}

/// What somebody asks of the control plane.
#[derive(Debug, Clone, Copy)]
pub enum Ask<'a> {
    /// To see and answer a held command.
    Approve {
        /// Who asked for the command.
        requester: &'a Principal,
        /// The target it is for.
        target: &'a TargetName,
        /// The held command.
        command: &'a Command,
        /// Roles of which the approver must hold one (from the verdict).
        approvers: &'a BTreeSet<String>,
    },
    /// To list sessions: who, where, when; not what.
    ListSessions {
        /// Only the asker's own.
        own_only: bool,
    },
    /// To see a session's commands and results. Which classes of them: [`view`].
    Replay {
        /// The session's target.
        target: &'a TargetName,
        /// Whose session it is.
        owner: &'a Principal,
    },
    /// To search the commands of a target's sessions.
    Search {
        /// The target.
        target: &'a TargetName,
        /// Only of the asker's own sessions; else of others'.
        own: bool,
    },
    /// To end a session.
    Kill {
        /// The session's target.
        target: &'a TargetName,
        /// Whose session it is.
        owner: &'a Principal,
    },
    /// To inspect or change the gateway itself.
    Administer {
        /// What, one word that policies read: `policy`, `ledger`.
        what: &'a str,
    },
}

/// Decides a question of the control plane: the rules that permit it, or the refusal.
pub fn may(
    snapshot: &Snapshot,
    who: Who<'_>,
    ask: &Ask<'_>,
    now: Timestamp,
) -> Result<Vec<RuleId>, Refusal> {
    let Who { principal, origin, authentication } = who;
    let proven = Proven::at(principal.kind, authentication, now);
    let who = Arc::new(principal.clone());
    let sit = |target: &TargetName, purpose: Purpose<'_>| {
        let place = snapshot.place(target).ok_or_else(|| words::no_target(target))?;
        Ok(Seat::take(snapshot, (&who, origin), place, purpose, now))
    };
    match *ask {
        Ask::Approve { requester, target, command, approvers } => {
            decide::may_answer(principal, requester, approvers)?;
            let carried = command.reads.union(&command.writes).cloned().collect();
            let seat = sit(target, Purpose::Approve(&carried))?;
            approve(snapshot, (&seat, &proven), requester, command)
        }
        Ask::ListSessions { own_only } => {
            let mut facts = place_facts(origin);
            facts.flag("own", own_only);
            let what = if own_only { "list their sessions" } else { "list everybody's sessions" };
            let asked = words::Asked { who: principal, what, target: None };
            of_gateway(snapshot, (Action::Search, &facts), asked, &proven)
        }
        Ask::Replay { target, owner } => {
            let seat = sit(target, Purpose::Replay)?;
            let mut facts = seat.facts(&seat.residency.applied);
            facts.flag("own", principal.is_same(owner));
            facts.text("owner", owner.name.as_str());
            let what = format!("see sessions of {owner}");
            let asked = words::Asked { who: principal, what: &what, target: Some(target) };
            of_target(snapshot, (&seat, &proven), (Action::Replay, &facts), asked)
        }
        Ask::Search { target, own } => {
            let seat = sit(target, Purpose::Search)?;
            let mut facts = seat.facts(&seat.residency.applied);
            facts.flag("own", own);
            let what = if own { "search their sessions" } else { "search others' sessions" };
            let asked = words::Asked { who: principal, what, target: Some(target) };
            of_target(snapshot, (&seat, &proven), (Action::Search, &facts), asked)
        }
        Ask::Kill { target, owner } => {
            let facts = administering(origin, "kill", principal.is_same(owner));
            let seat = sit(target, Purpose::Session)?;
            let what = format!("end sessions of {owner}");
            let asked = words::Asked { who: principal, what: &what, target: Some(target) };
            of_target(snapshot, (&seat, &proven), (Action::Administer, &facts), asked)
        }
        Ask::Administer { what } => {
            let facts = administering(origin, what, false);
            let what = format!("administer `{what}`");
            let asked = words::Asked { who: principal, what: &what, target: None };
            of_gateway(snapshot, (Action::Administer, &facts), asked, &proven)
        }
    }
}

/// Decides which of `classes` of `target` a viewer of a recording may see, from where they look.
pub fn view<'a>(
    snapshot: &Snapshot,
    who: Who<'_>,
    target: &TargetName,
    classes: impl IntoIterator<Item = &'a DataClass>,
    now: Timestamp,
) -> Masks {
    // Of a target that is gone nothing is known, so nothing is shown.
    let Some(place) = snapshot.place(target) else { return Masks::none_asked() };
    let principal = Arc::new(who.principal.clone());
    let seat = Seat::take(snapshot, (&principal, who.origin), place, Purpose::Replay, now);
    let proven = Proven::at(principal.kind, who.authentication, now);
    decide::masks(snapshot, &seat, &proven, classes)
}

/// The question `approve`; the exact statement is shown, so what it carries must be too.
fn approve(
    snapshot: &Snapshot,
    (seat, proven): (&Seat, &Proven),
    requester: &Principal,
    command: &Command,
) -> Result<Vec<RuleId>, Refusal> {
    let name = &seat.facts.name;
    let mut facts = seat.facts(&seat.residency.applied);
    facts.text("requester", requester.name.as_str());
    facts.set("requester_roles", requester.roles.iter().cloned());
    facts.text("verb", command.verb.as_str());
    facts.set("effects", decide::effects(command));
    let objects = command.objects.iter().take(decide::OBJECTS_MAX);
    facts.set("objects", objects.map(|object| format!("{}:{}", object.kind, object.name)));
    let asked = words::Asked { who: &seat.principal, what: "approve", target: Some(name) };
    let rules = of_target(snapshot, (seat, proven), (Action::Approve, &facts), asked)?;
    let masks = decide::masks(snapshot, seat, proven, &command.writes);
    match masks.hidden().iter().next() {
        None => Ok(rules),
        Some((class, hiding)) => {
            let reason =
                format!("the statement carries {class}, which {} may not see", seat.principal);
            let rules = words::own(words::APPROVER_SEES).into_iter().chain(hiding.iter().cloned());
            Err(Refusal::new(RefusalCode::Denied, reason)
                .by(rules.collect())
                .hint("ask an approver who may see it"))
        }
    }
}

/// A question about a target; of an agent, also as if its person asked.
fn of_target(
    snapshot: &Snapshot,
    (seat, proven): (&Seat, &Proven),
    (action, facts): (Action, &Facts),
    asked: words::Asked<'_>,
) -> Result<Vec<RuleId>, Refusal> {
    let ask = |seat: &Seat| {
        let answer = seat.ask_lifting(snapshot, action, facts, proven);
        answered(answer, asked, Some(&seat.residency.applied))
    };
    match seat.as_person() {
        None => ask(seat),
        Some(person) => agent::answers(ask(seat), || ask(person)),
    }
}

/// A question about the gateway itself, likewise.
fn of_gateway(
    snapshot: &Snapshot,
    (action, facts): (Action, &Facts),
    asked: words::Asked<'_>,
    proven: &Proven,
) -> Result<Vec<RuleId>, Refusal> {
    let ask = |principal: &Principal| {
        answered(ask_gateway(snapshot, principal, action, facts, proven), asked, None)
    };
    match person_of(asked.who) {
        None => ask(asked.who),
        Some(person) => agent::answers(ask(asked.who), || ask(&person)),
    }
}

fn answered(
    answer: Result<Answer<'_>, Lifted<'_>>,
    asked: words::Asked<'_>,
    decision: Option<&Decision>,
) -> Result<Vec<RuleId>, Refusal> {
    let answer = &answer.map_err(words::step_up)?;
    if answer.allowed { Ok(answer.ids()) } else { Err(words::refusal(answer, asked, decision)) }
}

fn administering(origin: &Origin, what: &str, own: bool) -> Facts {
    let mut facts = place_facts(origin);
    facts.text("what", what);
    facts.flag("own", own);
    facts
}
