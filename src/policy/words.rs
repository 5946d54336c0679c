//! A no in words: the reason, the rules, and what to do next.
//!
//! Knows answers; decides nothing. What the engine said in detail stays inside: a client reads a
//! policy's own reason, or that none permits it.

use crate::model::Principal;
use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::TargetName;
use crate::model::refusal::RefusalCode;
use crate::policy::engine::Answer;
use crate::policy::rules::Rule;
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

const ASK: &str = "ask an administrator of this gateway for a policy that permits it";

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
