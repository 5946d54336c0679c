//! Questions of the control plane: approving, listing, searching, replaying, ending sessions.
//!
//! Approving, searching and replaying are accesses to data and decided likewise, for whoever looks
//! and from where they look.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::Command;
use crate::model::DataClass;
use crate::model::LawFacts;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::TargetFacts;
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
use crate::policy::snapshot::Place;
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
        /// Under which law the target's data was when it was recorded; the stricter answer holds.
        /// `None`: it is not known, and only what holds now is asked.
        law: Option<&'a LawFacts>,
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

/// What permits something that was asked of the control plane.
#[derive(Debug, Clone)]
pub struct Allowed {
    /// The rules.
    pub rules: Vec<RuleId>,
    /// Of an access to a target's data: what the law says.
    pub access: Option<Box<Access>>,
}

/// An access to a target's data, as the law sees it.
#[derive(Debug, Clone)]
pub struct Access {
    /// The target, as it was when that is the stricter answer.
    pub facts: Arc<TargetFacts>,
    /// The classes that are accessed.
    pub classes: BTreeSet<DataClass>,
    /// The answer.
    pub decision: Decision,
}

impl Allowed {
    fn plainly(rules: Vec<RuleId>) -> Self {
        Self { rules, access: None }
    }

    fn at(seat: &Seat, rules: Vec<RuleId>, classes: &BTreeSet<DataClass>) -> Self {
        let (facts, classes) = (Arc::clone(&seat.facts), classes.clone());
        let decision = seat.residency.applied.clone();
        Self { rules, access: Some(Box::new(Access { facts, classes, decision })) }
    }

    /// The stricter of two that both have to hold.
    fn and(self, other: Self) -> Self {
        let severity = |one: &Self| one.access.as_ref().map(|a| a.decision.outcome.severity());
        if severity(&other) > severity(&self) { other } else { self }
    }
}

/// Decides a question of the control plane: what permits it, or the refusal.
pub fn may(
    snapshot: &Snapshot,
    who: Who<'_>,
    ask: &Ask<'_>,
    now: Timestamp,
) -> Result<Allowed, Refusal> {
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
            let rules = approve(snapshot, (&seat, &proven), requester, command)?;
            Ok(Allowed::at(&seat, rules, &carried))
        }
        Ask::ListSessions { own_only } => {
            let mut facts = place_facts(origin);
            facts.flag("own", own_only);
            let what = if own_only { "list their sessions" } else { "list everybody's sessions" };
            let asked = words::Asked { who: principal, what, target: None };
            of_gateway(snapshot, (Action::Search, &facts), asked, &proven).map(Allowed::plainly)
        }
        Ask::Replay { target, law, owner } => {
            let what = format!("see sessions of {owner}");
            let asked = words::Asked { who: principal, what: &what, target: Some(target) };
            let own = principal.is_same(owner);
            let look = |place: &Place| {
                let seat = Seat::take(snapshot, (&who, origin), place, Purpose::Replay, now);
                let mut facts = seat.facts(&seat.residency.applied);
                facts.flag("own", own);
                facts.text("owner", owner.name.as_str());
                let rules = of_target(snapshot, (&seat, &proven), (Action::Replay, &facts), asked)?;
                Ok(Allowed::at(&seat, rules, &seat.facts.classes))
            };
            let mut looks = places(snapshot, target, law)?.into_iter().map(|place| look(&place));
            let now = looks.next().unwrap_or_else(|| Err(words::no_target(target)))?;
            looks.try_fold(now, |strictest, then| Ok(strictest.and(then?)))
        }
        Ask::Search { target, own } => {
            let seat = sit(target, Purpose::Search)?;
            let mut facts = seat.facts(&seat.residency.applied);
            facts.flag("own", own);
            let what = if own { "search their sessions" } else { "search others' sessions" };
            let asked = words::Asked { who: principal, what, target: Some(target) };
            let rules = of_target(snapshot, (&seat, &proven), (Action::Search, &facts), asked)?;
            Ok(Allowed::at(&seat, rules, &seat.facts.classes))
        }
        Ask::Kill { target, owner } => {
            let facts = administering(origin, "kill", principal.is_same(owner));
            let seat = sit(target, Purpose::Session)?;
            let what = format!("end sessions of {owner}");
            let asked = words::Asked { who: principal, what: &what, target: Some(target) };
            of_target(snapshot, (&seat, &proven), (Action::Administer, &facts), asked)
                .map(Allowed::plainly)
        }
        Ask::Administer { what } => {
            let facts = administering(origin, what, false);
            let what = format!("administer `{what}`");
            let asked = words::Asked { who: principal, what: &what, target: None };
            of_gateway(snapshot, (Action::Administer, &facts), asked, &proven).map(Allowed::plainly)
        }
    }
}

/// The target as it is and, where what is recorded of it was under another law, as it was then.
fn places<'s>(
    snapshot: &'s Snapshot,
    target: &TargetName,
    then: Option<&LawFacts>,
) -> Result<Vec<Cow<'s, Place>>, Refusal> {
    let now = snapshot.place(target).ok_or_else(|| words::no_target(target))?;
    let mut places = vec![Cow::Borrowed(now)];
    if let Some(then) = then.filter(|then| **then != now.facts.law()) {
        let owner = snapshot.entity(&then.owner).cloned();
        let owner = owner.ok_or_else(|| words::no_owner(target, &then.owner))?;
        places.push(Cow::Owned(Place { facts: Arc::new(now.facts.under(then)), owner }));
    }
    Ok(places)
}

/// Decides which of `classes` of `target` a viewer of a recording may see, from where they look; of
/// one that was made under another law, what may be seen under both.
pub fn view<'a>(
    snapshot: &Snapshot,
    who: Who<'_>,
    (target, law): (&TargetName, Option<&LawFacts>),
    classes: impl IntoIterator<Item = &'a DataClass>,
    now: Timestamp,
) -> Masks {
    let mut masks = Masks::none_asked();
    // Of a target that is gone nothing is known, so nothing is shown.
    let Ok(places) = places(snapshot, target, law) else { return masks };
    let principal = Arc::new(who.principal.clone());
    let proven = Proven::at(principal.kind, who.authentication, now);
    let mut classes = classes.into_iter().collect::<BTreeSet<_>>();
    for place in &places {
        let seat = Seat::take(snapshot, (&principal, who.origin), place, Purpose::Replay, now);
        // A class that the target held at one time alone is that time's to answer for.
        let held = |class: &DataClass| place.facts.classes.iter().any(|one| one.covers(class));
        let asked = classes.iter().copied().filter(|class| held(class));
        let theirs = decide::masks(snapshot, &seat, &proven, asked);
        theirs.shown().iter().for_each(|class| masks.show(class.clone()));
        theirs.hidden().iter().for_each(|(class, rules)| masks.hide(class.clone(), rules.clone()));
    }
    classes.retain(|class| masks.hides(class) && !masks.hidden().contains_key(*class));
    for class in classes {
        masks.hide(class.clone(), words::own(words::UNDECLARED));
    }
    masks
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
