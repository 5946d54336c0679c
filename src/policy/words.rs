//! A no in words: the reason, the rules, and what to do next.
//!
//! Knows answers; decides nothing. What the engine said in detail stays inside: a client reads a
//! policy's own reason, or that none permits it.

use crate::model::EntityId;
use crate::model::Principal;
use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::TargetName;
use crate::model::login::StepUp;
use crate::model::refusal::RefusalCode;
use crate::policy::engine::Answer;
use crate::policy::rules::Rule;
use crate::policy::step_up::Lifted;
use crate::policy::transfer::Decision;

/// The base policy that says no where the transfer decision does.
pub(super) const RESIDENCY: &str = "weir.residency";
/// No permit names "opaque", and it cannot be told what the command does.
pub(super) const OPAQUE: &str = "weir.opaque";
/// The session is held with every class suppressed.
pub(super) const SUPPRESSED: &str = "weir.suppressed";
/// The target does not declare the class, so no transfer of it was judged.
pub(super) const UNDECLARED: &str = "weir.undeclared";
/// Requester and approver are one person, or it cannot be told that they are two.
pub(super) const ANOTHER_PERSON: &str = "weir.approve.another-person";
/// The approver has none of the roles that the policy asks for.
pub(super) const APPROVER_ROLE: &str = "weir.approve.role";
/// The exact statement carries a class that the approver may not see.
pub(super) const APPROVER_SEES: &str = "weir.approve.sees";
/// Two policies hold the command, and no role may approve for both.
pub(super) const NO_APPROVER: &str = "weir.approve.nobody";

pub(super) const ASK: &str = "ask an administrator of this gateway for a policy that permits it";

/// The id of a rule that is code, not policy.
pub(super) fn own(rule: &str) -> Vec<RuleId> {
    rule.parse().into_iter().collect()
}

/// Somebody did not get what they asked for: who, and what, for the case that no rule forbids it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) who: &'a Principal,
    pub(super) what: &'a str,
    pub(super) target: Option<&'a TargetName>,
}

/// Whether residency is among the rules that said no.
pub(super) fn is_residency(answer: &Answer<'_>) -> bool {
    answer.rules.iter().any(|rule| rule.id.as_str() == RESIDENCY)
}

/// Whether a policy that gives its reason is among the rules that said no.
pub(super) fn is_reasoned(answer: &Answer<'_>) -> bool {
    answer.rules.iter().any(|rule| !rule.permits && rule.reason.is_some())
}

/// The refusal that follows from an answer that is no. `decision` is what `residency` was.
pub(super) fn refusal(
    answer: &Answer<'_>,
    asked: Asked<'_>,
    decision: Option<&Decision>,
) -> Refusal {
    if !answer.broken.is_empty() {
        return Refusal::new(
            RefusalCode::Denied,
            "a policy could not be evaluated, so the answer is no",
        )
        .by(answer.broken.clone())
        .hint("tell an administrator of this gateway which policy it was");
    }
    if let Some(decision) = decision.filter(|_| is_residency(answer)) {
        return residency(decision);
    }
    let forbids = answer.rules.iter().filter(|rule| !rule.permits).collect::<Vec<_>>();
    if forbids.is_empty() {
        return Refusal::new(RefusalCode::Denied, nobody_permits(asked)).hint(ASK);
    }
    let reasons = texts(&forbids, |rule| rule.reason.as_deref());
    let reason = if reasons.is_empty() {
        let ids = forbids.iter().map(|rule| format!("`{}`", rule.id)).collect::<Vec<_>>();
        format!("forbidden by policy {}", ids.join(", "))
    } else {
        reasons.join("; ")
    };
    let refusal = Refusal::new(RefusalCode::Denied, reason).by(answer.ids());
    match texts(&forbids, |rule| rule.hint.as_deref()).first() {
        Some(hint) => refusal.hint(*hint),
        None => refusal,
    }
}

/// The refusal of what another login would allow: which login, and the line that begins it.
pub(super) fn step_up(lifted: Lifted<'_>) -> Refusal {
    let Lifted { need, rules } = lifted;
    let references = rules.iter().collect::<Vec<_>>();
    let reasons = texts(&references, |rule| rule.reason.as_deref());
    let reason = if reasons.is_empty() {
        format!("this needs {}", login(&need))
    } else {
        reasons.join("; ")
    };
    let hint = texts(&references, |rule| rule.hint.as_deref()).first().copied();
    let rules = rules.iter().map(|rule| rule.id.clone()).collect();
    step_up_needed(reason, rules, need, hint)
}

/// The refusal that asks for another login. What to do comes first, then what the policy says.
pub(super) fn step_up_needed(
    reason: String,
    rules: Vec<RuleId>,
    need: StepUp,
    hint: Option<&str>,
) -> Refusal {
    let mut advice = "run `weir login --fresh".to_owned();
    if let Some(acr) = &need.acr {
        advice.push_str(" --acr ");
        advice.push_str(acr);
    }
    advice.push('`');
    if !need.amr.is_empty() {
        advice.push_str(" and sign in with ");
        advice.push_str(&list(&need));
    }
    advice.push_str(", then try again");
    if let Some(hint) = hint {
        advice.push_str("; ");
        advice.push_str(hint);
    }
    let refusal = Refusal::new(RefusalCode::StepUp, reason).by(rules).hint(advice);
    Refusal { step_up: Some(Box::new(need)), ..refusal }
}

/// A login as policies ask for it: `a login of the last 900 s, with acr phr, by hwk and otp`.
fn login(need: &StepUp) -> String {
    let age = need.age_s_max.map(|age| format!(" of the last {age} s"));
    let acr = need.acr.as_ref().map(|acr| format!(" with acr {acr}"));
    let amr = (!need.amr.is_empty()).then(|| format!(" by {}", list(need)));
    let all = [age, acr, amr].into_iter().flatten().collect::<Vec<_>>();
    format!("a login{}", all.join(","))
}

fn list(need: &StepUp) -> String {
    need.amr.iter().map(String::as_str).collect::<Vec<_>>().join(" and ")
}

/// The refusal of what several policies hold, each for others.
pub(super) fn nobody_approves(rules: Vec<RuleId>) -> Refusal {
    let rules = rules.into_iter().chain(own(NO_APPROVER)).collect();
    Refusal::new(RefusalCode::Denied, "it needs approvals that no single role may give").by(rules)
}

/// The refusal of a flow that the transfer decision forbids.
pub(super) fn residency(decision: &Decision) -> Refusal {
    let mut rules = decision.rows.clone();
    rules.extend(own(RESIDENCY));
    let refusal = Refusal::new(RefusalCode::Residency, decision.reason()).by(rules);
    match decision.help() {
        Some(help) => refusal.hint(help),
        None => refusal,
    }
}

/// One answer for a target that is not, and for one that somebody may not know of.
pub(super) fn no_target(name: &TargetName) -> Refusal {
    Refusal::new(RefusalCode::NoTarget, format!("no target `{name}`, or none that you may know of"))
        .hint("ask an administrator of this gateway which targets you may reach")
}

/// What was recorded belongs to somebody of whom nothing is known any more.
pub(super) fn no_owner(target: &TargetName, owner: &EntityId) -> Refusal {
    let reason = format!(
        "`{owner}` answered for the data of `{target}` when it was recorded, and is no entity now"
    );
    Refusal::new(RefusalCode::Residency, reason)
        .by(own(RESIDENCY))
        .hint("ask an administrator of this gateway to declare that entity again")
}

/// What rules say under `of`, each once.
pub(super) fn texts<'a>(
    rules: &[&&'a Rule],
    of: impl Fn(&'a Rule) -> Option<&'a str>,
) -> Vec<&'a str> {
    let mut said = Vec::new();
    for text in rules.iter().filter_map(|rule| of(rule)) {
        if !said.contains(&text) {
            said.push(text);
        }
    }
    said
}

fn nobody_permits(asked: Asked<'_>) -> String {
    let Asked { who, what, target } = asked;
    match target {
        Some(target) => format!("no policy permits {who} to {what} on {target}"),
        None => format!("no policy permits {who} to {what}"),
    }
}
