//! An agent never has more than its person: what both may, and no more.
//!
//! Every question about an agent is asked twice, once as if the person asked; here the two answers
//! become one. So a policy may give an agent less, and cannot give it more.

use std::collections::BTreeSet;

use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::Verdict;
use crate::model::refusal::RefusalCode;
use crate::policy::step_up;
use crate::policy::words;

/// Yes only if both say yes, with the rules of both.
pub(super) fn answers(
    agent: Result<Vec<RuleId>, Refusal>,
    person: impl FnOnce() -> Result<Vec<RuleId>, Refusal>,
) -> Result<Vec<RuleId>, Refusal> {
    match agent {
        Ok(rules) => Ok(union(rules, person()?)),
        Err(refusal) if refusal.code == RefusalCode::StepUp => Err(match person() {
            Ok(_) => refusal,
            Err(other) => stricter(refusal, other),
        }),
        Err(refusal) => Err(refusal),
    }
}

/// Allowed only if both are; held until somebody approves who may approve for both.
pub(super) fn verdicts(agent: Verdict, person: impl FnOnce() -> Verdict) -> Verdict {
    if let Verdict::Deny(refusal) = &agent
        && refusal.code != RefusalCode::StepUp
    {
        return agent;
    }
    match (agent, person()) {
        (Verdict::Deny(agent), Verdict::Deny(person)) => Verdict::Deny(stricter(agent, person)),
        (Verdict::Deny(refusal), Verdict::Allow { .. } | Verdict::Hold { .. })
        | (Verdict::Allow { .. } | Verdict::Hold { .. }, Verdict::Deny(refusal)) => {
            Verdict::Deny(refusal)
        }
        (Verdict::Allow { rules: agent }, Verdict::Allow { rules: person }) => {
            Verdict::Allow { rules: union(agent, person) }
        }
        (hold @ Verdict::Hold { .. }, Verdict::Allow { .. })
        | (Verdict::Allow { .. }, hold @ Verdict::Hold { .. }) => hold,
        (
            Verdict::Hold { rules, reason, approvers },
            Verdict::Hold { rules: further, reason: other, approvers: also },
        ) => held((rules, reason, &approvers), (further, &other, &also)),
    }
}

fn held(
    (rules, reason, approvers): (Vec<RuleId>, String, &BTreeSet<String>),
    (further, other, also): (Vec<RuleId>, &str, &BTreeSet<String>),
) -> Verdict {
    let rules = union(rules, further);
    let approvers = approvers.intersection(also).cloned().collect::<BTreeSet<_>>();
    if approvers.is_empty() {
        return Verdict::Deny(words::nobody_approves(rules));
    }
    let reason = if reason == other { reason } else { format!("{reason}; {other}") };
    Verdict::Hold { rules, reason, approvers }
}

/// Of two refusals, what is told: the one that no login lifts, or both needs as one.
fn stricter(agent: Refusal, person: Refusal) -> Refusal {
    let (Some(one), Some(other)) = (&agent.step_up, &person.step_up) else {
        return if agent.step_up.is_some() { person } else { agent };
    };
    match step_up::both(one, other) {
        Some(need) => words::step_up_needed(
            if agent.reason == person.reason {
                agent.reason
            } else {
                format!("{}; {}", agent.reason, person.reason)
            },
            union(agent.rules, person.rules),
            need,
            None,
        ),
        None => Refusal::new(
            RefusalCode::Denied,
            "policies ask for two logins at once that contradict each other",
        )
        .by(union(agent.rules, person.rules))
        .hint(words::ASK),
    }
}

fn union(mut rules: Vec<RuleId>, further: Vec<RuleId>) -> Vec<RuleId> {
    for rule in further {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}
