//! May this command run, and what may its answer show?
//!
//! A hold is derived: no, but yes if somebody else approved. Knows commands as the protocols read
//! them; never sees a byte of them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::model::Command;
use crate::model::DataClass;
use crate::model::Effect;
use crate::model::Principal;
use crate::model::Refusal;
use crate::model::Verdict;
use crate::model::digest::Digest;
use crate::model::login::Authentication;
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;
use crate::policy::admit::Permit;
use crate::policy::agent;
use crate::policy::engine::Action;
use crate::policy::engine::Answer;
use crate::policy::engine::Facts;
use crate::policy::law;
use crate::policy::rules::Rule;
use crate::policy::seat::Seat;
use crate::policy::seat::lineage;
use crate::policy::snapshot::Snapshot;
use crate::policy::step_up;
use crate::policy::step_up::Proven;
use crate::policy::transfer::Decision;
use crate::policy::transfer::Op;
use crate::policy::words;

/// Most objects that one command may touch.
pub const OBJECTS_MAX: usize = 1024;
/// Most enclosing names of one object that policies can match, from the outermost.
pub const ENCLOSING_MAX: usize = 16;

/// An approval of exactly one command.
#[derive(Debug, Clone, Copy)]
pub struct Approval<'a> {
    /// Who gave it.
    pub by: &'a Principal,
}

/// Decides `command` in the session that `permit` is for.
///
/// With an approval, the same command is allowed only if it would be held without, and only if the
/// approver is another person and has one of the roles that the policies name.
pub fn decide(
    permit: &Permit,
    snapshot: &Snapshot,
    command: &Command,
    approval: Option<&Approval<'_>>,
    now: Timestamp,
) -> Verdict {
    match permit.seat(snapshot, now) {
        Ok(seat) => execute(snapshot, &seat, &permit.proven(now), command, approval),
        Err(refusal) => Verdict::Deny(refusal),
    }
}

/// Decides which of `classes` may be shown in the session that `permit` is for.
pub fn reveal<'a>(
    permit: &Permit,
    snapshot: &Snapshot,
    classes: impl IntoIterator<Item = &'a DataClass>,
    now: Timestamp,
) -> Masks {
    match permit.seat(snapshot, now) {
        Ok(seat) => masks(snapshot, &seat, &permit.proven(now), classes),
        Err(refusal) => {
            let mut masks = Masks::none_asked();
            classes.into_iter().for_each(|class| masks.hide(class.clone(), refusal.rules.clone()));
            masks
        }
    }
}

/// What the answers of [`reveal`] rest on in one session: they hold as long as it stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standpoint {
    version: Digest,
    day: Date,
    ended: bool,
    authentication: Option<Authentication>,
    /// Where a policy about what is shown reads it.
    proven: Option<Proven>,
}

impl Standpoint {
    /// The snapshot.
    pub fn version(&self) -> Digest {
        self.version
    }
}

/// What [`reveal`] would rest on now.
pub fn standpoint(permit: &Permit, snapshot: &Snapshot, now: Timestamp) -> Standpoint {
    Standpoint {
        version: snapshot.version(),
        day: law::day(now),
        ended: permit.has_ended(now),
        authentication: permit.identity().authentication(),
        proven: snapshot.engine().shows_by_age().then(|| permit.proven(now)),
    }
}

/// The question `execute`; of an agent, also as if its person asked.
pub(super) fn execute(
    snapshot: &Snapshot,
    seat: &Seat,
    proven: &Proven,
    command: &Command,
    approval: Option<&Approval<'_>>,
) -> Verdict {
    let verdict = execute_as(snapshot, seat, proven, command, approval);
    match seat.as_person() {
        None => verdict,
        Some(person) => {
            agent::verdicts(verdict, || execute_as(snapshot, person, proven, command, approval))
        }
    }
}

fn execute_as(
    snapshot: &Snapshot,
    seat: &Seat,
    proven: &Proven,
    command: &Command,
    approval: Option<&Approval<'_>>,
) -> Verdict {
    if let Some(why) = &command.unsupported {
        return Verdict::Deny(Refusal::new(RefusalCode::Unsupported, why));
    }
    if command.objects.len() > OBJECTS_MAX {
        let reason = format!("the command touches more than {OBJECTS_MAX} objects");
        return Verdict::Deny(Refusal::new(RefusalCode::TooLarge, reason));
    }
    let decision = residency(snapshot, seat, command);
    let opaque = command.effects.is_empty() || command.effects.contains(&Effect::Opaque);
    let ask = |proven: &Proven, approved| {
        let facts = facts(seat, command, &decision, approved);
        seat.ask(snapshot, Action::Execute, (facts, proven), opaque)
    };
    let lift = |no: &Answer<'_>, approved| {
        let permits = || seat.step_ups(snapshot, Action::Execute, opaque);
        let lifted = step_up::lift(no, permits, proven, |proven| ask(proven, approved));
        lifted.map(|lifted| Verdict::Deny(words::step_up(lifted)))
    };
    let plain = ask(proven, false);
    if plain.allowed {
        return Verdict::Allow { rules: plain.ids() };
    }
    if !plain.broken.is_empty() {
        return Verdict::Deny(refusal(seat, command, &plain, &decision));
    }
    // Where another login is enough, nobody else need be asked.
    if approval.is_none()
        && let Some(verdict) = lift(&plain, false)
    {
        return verdict;
    }
    let approved = ask(proven, true);
    if !approved.allowed {
        if let Some(verdict) = lift(&approved, true) {
            return verdict;
        }
        // What an approval cannot lift is the reason; what it could is not worth telling.
        return Verdict::Deny(refusal(seat, command, &approved, &decision));
    }
    let hold = Hold::of(&plain, &approved);
    match approval {
        None => hold.verdict(command),
        Some(approval) => hold.answered(*approval, &seat.principal),
    }
}

/// The question `reveal`, once for each class; of an agent, also as if its person looked.
pub(super) fn masks<'a>(
    snapshot: &Snapshot,
    seat: &Seat,
    proven: &Proven,
    classes: impl IntoIterator<Item = &'a DataClass>,
) -> Masks {
    let mut masks = masks_as(snapshot, seat, proven, classes);
    if let Some(person) = seat.as_person() {
        let theirs = masks_as(snapshot, person, proven, masks.shown());
        theirs.hidden().iter().for_each(|(class, rules)| masks.hide(class.clone(), rules.clone()));
    }
    masks
}

fn masks_as<'a>(
    snapshot: &Snapshot,
    seat: &Seat,
    proven: &Proven,
    classes: impl IntoIterator<Item = &'a DataClass>,
) -> Masks {
    let mut masks = Masks::none_asked();
    for class in classes {
        if let Some(decision) = &seat.residency.suppressed_by {
            let rules = decision.rows.iter().cloned().chain(words::own(words::SUPPRESSED));
            masks.hide(class.clone(), rules.collect());
        } else if !seat.facts.classes.iter().any(|declared| declared.covers(class)) {
            masks.hide(class.clone(), words::own(words::UNDECLARED));
        } else {
            let answer = seat.ask_reveal(snapshot, class, proven);
            if answer.allowed {
                masks.show(class.clone());
            } else if answer.broken.is_empty() {
                masks.hide(class.clone(), answer.ids());
            } else {
                masks.hide(class.clone(), answer.broken);
            }
        }
    }
    masks
}

/// The strictest decision that a command stands on: the session's, that on what it carries to the
/// target, and that on what it makes the target send elsewhere.
fn residency<'s>(snapshot: &Snapshot, seat: &'s Seat, command: &Command) -> Cow<'s, Decision> {
    let mut strictest = Cow::Borrowed(&seat.residency.applied);
    let Some(place) = snapshot.place(&seat.facts.name) else { return strictest };
    let exports = command.effects.contains(&Effect::Export);
    let further = [
        (!command.writes.is_empty()).then_some((Op::Write, &command.writes)),
        (exports && !seat.facts.classes.is_empty()).then_some((Op::Egress, &seat.facts.classes)),
    ];
    for flow in further.into_iter().flatten() {
        let decision = snapshot.law().flow(seat.viewer(), place, flow, seat.day());
        if decision.outcome.severity() > strictest.outcome.severity() {
            strictest = Cow::Owned(decision);
        }
    }
    strictest
}

fn facts(seat: &Seat, command: &Command, decision: &Decision, approved: bool) -> Facts {
    let mut facts = seat.facts(decision);
    let classes = |classes: &BTreeSet<DataClass>| {
        let all = classes.iter().flat_map(lineage).collect::<BTreeSet<_>>();
        all.into_iter().map(String::from).collect::<Vec<_>>()
    };
    let objects = &command.objects;
    let kind_and_name = |kind: &str, name: &str| format!("{kind}:{name}");
    facts.text("verb", command.verb.as_str());
    facts.set("effects", effects(command));
    facts.set("kinds", objects.iter().map(|object| object.kind.clone()));
    facts.set("names", objects.iter().map(|object| object.name.clone()));
    facts.set("objects", objects.iter().map(|object| kind_and_name(&object.kind, &object.name)));
    facts.set(
        "touches",
        objects.iter().flat_map(|object| {
            let kind = format!("{}:{}", object.effect, object.kind);
            [kind_and_name(&kind, &object.name), kind]
        }),
    );
    facts.set(
        "within",
        objects.iter().flat_map(|object| {
            enclosing(&object.name).map(|outer| kind_and_name(&object.kind, outer))
        }),
    );
    facts.set("reads", classes(&command.reads));
    facts.set("writes", classes(&command.writes));
    facts.set("facts", command.facts.iter().map(|(name, value)| format!("{name}={value}")));
    facts.flag("approved", approved);
    facts
}

/// The effects as policies read them. A command without any is one that nobody understood.
pub(super) fn effects(command: &Command) -> Vec<String> {
    let known = command.effects.iter().copied();
    let unknown = command.effects.is_empty().then_some(Effect::Opaque);
    known.chain(unknown).map(|effect| effect.as_str().to_owned()).collect()
}

/// What encloses `name`: `/api` and `/api/people` for `/api/people/7`, `public` for `public.t`.
fn enclosing(name: &str) -> impl Iterator<Item = &str> {
    let cuts = name.match_indices(['.', '/']).filter_map(|(at, _)| name.get(..at));
    cuts.filter(|outer| !outer.is_empty()).take(ENCLOSING_MAX)
}

fn refusal(seat: &Seat, command: &Command, answer: &Answer<'_>, decision: &Decision) -> Refusal {
    let effects = effects(command);
    let opaque = effects.iter().any(|effect| effect == Effect::Opaque.as_str());
    let what = effects.join(", ");
    let asked = words::Asked { who: &seat.principal, what: &what, target: Some(&seat.facts.name) };
    let refusal = words::refusal(answer, asked, Some(decision));
    let default = answer.rules.is_empty() && answer.broken.is_empty();
    if !(opaque && default) {
        return refusal;
    }
    let reason = format!(
        "what this does cannot be told, and no policy permits {} such commands on {}",
        seat.principal, seat.facts.name
    );
    Refusal { reason, rules: words::own(words::OPAQUE), ..refusal }
}

/// Why a command waits, and for whom.
struct Hold<'a> {
    rules: Vec<&'a Rule>,
    /// Roles of which one satisfies every rule. Empty: nobody can.
    approvers: BTreeSet<String>,
}

impl<'a> Hold<'a> {
    /// The rules that an approval satisfies: every forbid that it lifts, and, where only permits
    /// that ask for it remain, those. One permit is enough, so their approvers add up; every forbid
    /// must be lifted, so theirs are what they have in common.
    fn of(plain: &Answer<'a>, approved: &Answer<'a>) -> Self {
        let mut rules = Vec::new();
        let mut approvers = None::<BTreeSet<String>>;
        if approved.rules.iter().all(|permit| !permit.approvers.is_empty()) {
            let all = approved.rules.iter().flat_map(|permit| permit.approvers.iter().cloned());
            approvers = Some(all.collect());
            rules.extend(approved.rules.iter().copied());
        }
        for forbid in plain.rules.iter().copied().filter(|rule| !rule.permits) {
            approvers = Some(match approvers {
                Some(so_far) => so_far.intersection(&forbid.approvers).cloned().collect(),
                None => forbid.approvers.clone(),
            });
            rules.push(forbid);
        }
        rules.sort_by_key(|rule| rule.order);
        Self { rules, approvers: approvers.unwrap_or_default() }
    }

    fn verdict(self, command: &Command) -> Verdict {
        let references = self.rules.iter().collect::<Vec<_>>();
        let rules = self.rules.iter().map(|rule| rule.id.clone()).collect::<Vec<_>>();
        let hint = words::texts(&references, |rule| rule.hint.as_deref()).first().copied();
        let deny = |reason: &str| {
            let refusal = Refusal::new(RefusalCode::Denied, reason);
            hint.map_or(refusal.clone(), |hint| refusal.hint(hint))
        };
        if self.approvers.is_empty() {
            let refusal = words::nobody_approves(rules);
            return Verdict::Deny(hint.map_or(refusal.clone(), |hint| refusal.hint(hint)));
        }
        if let Some(why) = &command.unholdable {
            return Verdict::Deny(deny(why).by(rules));
        }
        let reasons = words::texts(&references, |rule| rule.reason.as_deref());
        let reason = if reasons.is_empty() {
            "this waits for an approval".to_owned()
        } else {
            reasons.join("; ")
        };
        Verdict::Hold { rules, reason, approvers: self.approvers }
    }

    fn answered(self, approval: Approval<'_>, requester: &Principal) -> Verdict {
        match may_answer(approval.by, requester, &self.approvers) {
            Ok(()) => {
                Verdict::Allow { rules: self.rules.iter().map(|rule| rule.id.clone()).collect() }
            }
            Err(refusal) => Verdict::Deny(refusal),
        }
    }
}

/// Not policy but part of what an approval is: another person, with one of the roles asked for.
pub(super) fn may_answer(
    approver: &Principal,
    requester: &Principal,
    approvers: &BTreeSet<String>,
) -> Result<(), Refusal> {
    let nameless = approver.person.is_empty() || requester.person.is_empty();
    let same_account =
        (&approver.issuer, &approver.subject) == (&requester.issuer, &requester.subject);
    if nameless || same_account || approver.person == requester.person {
        let reason = format!("{approver} may not approve what they asked for themselves");
        return Err(Refusal::new(RefusalCode::Denied, reason)
            .by(words::own(words::ANOTHER_PERSON))
            .hint("ask another approver"));
    }
    if approver.roles.is_disjoint(approvers) {
        let roles = approvers.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let reason = format!("{approver} has none of the roles that may approve this: {roles}");
        return Err(Refusal::new(RefusalCode::Denied, reason)
            .by(words::own(words::APPROVER_ROLE))
            .hint("ask somebody who has one of these roles"));
    }
    Ok(())
}
