//! Questions of the control plane: approving, listing, replaying, ending sessions.
//!
//! Approving and replaying are accesses to data and decided likewise, for whoever looks and from
//! where they look.

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
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;
use crate::policy::decide;
use crate::policy::engine::Action;
use crate::policy::engine::Answer;
use crate::policy::engine::Facts;
use crate::policy::seat::Purpose;
use crate::policy::seat::Seat;
use crate::policy::seat::ask_gateway;
use crate::policy::seat::place_facts;
use crate::policy::snapshot::Snapshot;
use crate::policy::transfer::Decision;
use crate::policy::words;

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
    principal: &Principal,
    origin: &Origin,
    ask: &Ask<'_>,
    now: Timestamp,
) -> Result<Vec<RuleId>, Refusal> {
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
            approve(snapshot, &seat, requester, command)
        }
        Ask::ListSessions { own_only } => {
            let mut facts = place_facts(origin);
            facts.flag("own", own_only);
            let answer = ask_gateway(snapshot, principal, Action::Search, facts);
            let what = if own_only { "list their sessions" } else { "list everybody's sessions" };
            answered(&answer, words::Asked { who: principal, what, target: None }, None)
        }
        Ask::Replay { target, owner } => {
            let seat = sit(target, Purpose::Replay)?;
            let mut facts = seat.facts(&seat.residency.applied);
            facts.flag("own", is_same(principal, owner));
            facts.text("owner", owner.name.as_str());
            let answer = seat.ask(snapshot, Action::Replay, facts, false);
            let what = format!("see sessions of {owner}");
            let asked = words::Asked { who: principal, what: &what, target: Some(target) };
            answered(&answer, asked, Some(&seat.residency.applied))
        }
        Ask::Kill { target, owner } => {
            let facts = administering(origin, "kill", is_same(principal, owner));
            let seat = sit(target, Purpose::Session)?;
            let answer = seat.ask(snapshot, Action::Administer, facts, false);
            let what = format!("end sessions of {owner}");
            answered(
                &answer,
                words::Asked { who: principal, what: &what, target: Some(target) },
                None,
            )
        }
        Ask::Administer { what } => {
            let facts = administering(origin, what, false);
            let answer = ask_gateway(snapshot, principal, Action::Administer, facts);
            let what = format!("administer `{what}`");
            answered(&answer, words::Asked { who: principal, what: &what, target: None }, None)
        }
    }
}

/// Decides which of `classes` of `target` a viewer of a recording may see, from where they look.
pub fn view<'a>(
    snapshot: &Snapshot,
    principal: &Principal,
    origin: &Origin,
    target: &TargetName,
    classes: impl IntoIterator<Item = &'a DataClass>,
    now: Timestamp,
) -> Masks {
    // Of a target that is gone nothing is known, so nothing is shown.
    let Some(place) = snapshot.place(target) else { return Masks::none_asked() };
    let who = Arc::new(principal.clone());
    let seat = Seat::take(snapshot, (&who, origin), place, Purpose::Replay, now);
    decide::masks(snapshot, &seat, classes)
}

/// The question `approve`; the exact statement is shown, so what it carries must be too.
fn approve(
    snapshot: &Snapshot,
    seat: &Seat,
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
    let answer = seat.ask(snapshot, Action::Approve, facts, false);
    let asked = words::Asked { who: &seat.principal, what: "approve", target: Some(name) };
    let rules = answered(&answer, asked, Some(&seat.residency.applied))?;
    let masks = decide::masks(snapshot, seat, &command.writes);
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

fn answered(
    answer: &Answer<'_>,
    asked: words::Asked<'_>,
    decision: Option<&Decision>,
) -> Result<Vec<RuleId>, Refusal> {
    if answer.allowed { Ok(answer.ids()) } else { Err(words::refusal(answer, asked, decision)) }
}

fn administering(origin: &Origin, what: &str, own: bool) -> Facts {
    let mut facts = place_facts(origin);
    facts.text("what", what);
    facts.flag("own", own);
    facts
}

fn is_same(one: &Principal, other: &Principal) -> bool {
    (&one.issuer, &one.subject) == (&other.issuer, &other.subject)
}
