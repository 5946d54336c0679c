//! Policy texts become rules: parsed, named, and refused where they could mislead.
//!
//! Knows the files and what their annotations promise; what the policies mean is for `engine`.

use std::collections::BTreeSet;
use std::str::FromStr;

use cedar_policy::Effect as CedarEffect;
use cedar_policy::Policy;
use cedar_policy::PolicyId;
use cedar_policy::PolicySet;
use cedar_policy::ffi::DetailedError;
use serde_json::Value;

use crate::model::RuleId;
use crate::model::login::StepUp;
use crate::policy::nesting;
use crate::policy::step_up;

/// Largest policy file, in bytes.
pub(super) const POLICY_BYTES_MAX: usize = 1024 * 1024;
/// Most policies in a snapshot.
pub(super) const POLICIES_MAX: usize = 10_000;

/// Ids of rules that are in the binary begin so.
pub(super) const BASE_PREFIX: &str = "weir.";

const ANNOTATIONS: [&str; 5] = ["id", "reason", "hint", "approvers", "step_up"];

/// A policy that cannot be loaded: where, what, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPolicy {
    /// The file, as it was named to [`Snapshot::compile`](crate::policy::Snapshot::compile).
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The policy's `@id`, where it is known.
    pub rule: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What was expected instead.
    pub expected: Option<String>,
}

impl std::error::Error for BadPolicy {}

impl std::fmt::Display for BadPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if let Some(rule) = &self.rule {
            write!(f, "policy `{rule}`: ")?;
        }
        f.write_str(&self.problem)?;
        if let Some(expected) = &self.expected {
            write!(f, "; {expected}")?;
        }
        Ok(())
    }
}

/// What is known of a policy beside its meaning.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four findings about a text that have nothing to do with each other"
)]
pub(super) struct Rule {
    pub(super) id: RuleId,
    /// Its place among all, so that answers list rules in a steady order.
    pub(super) order: usize,
    /// The file's place in [`Parts::policies`](crate::policy::Parts), and the byte it begins at.
    pub(super) at: Place,
    pub(super) permits: bool,
    pub(super) reason: Option<String>,
    pub(super) hint: Option<String>,
    /// Roles that may approve. Not empty if and only if the policy reads `context.approved`.
    pub(super) approvers: BTreeSet<String>,
    /// What another login must be like for this rule to say otherwise.
    pub(super) step_up: Option<StepUp>,
    /// It reads how old the login is.
    pub(super) reads_age: bool,
    /// It says "opaque", so commands whose effect cannot be told may reach it.
    pub(super) names_opaque: bool,
    /// It looks whether an effect is among the effects, but never that no other is.
    pub(super) is_loose: bool,
}

/// A byte of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) byte: usize,
}

/// A file of policies.
#[derive(Debug, Clone, Copy)]
pub(super) struct File<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    /// It is inside the binary.
    pub(super) base: bool,
}

impl File<'_> {
    /// An error at `byte` of this file.
    pub(super) fn bad(&self, byte: usize, problem: impl Into<String>) -> BadPolicy {
        let (line, column) = line_and_column(self.text, byte);
        BadPolicy {
            file: self.name.to_owned(),
            line,
            column,
            rule: None,
            problem: problem.into(),
            expected: None,
        }
    }

    /// What Cedar says is wrong with this file.
    pub(super) fn flaw(&self, detail: &DetailedError, otherwise: usize) -> BadPolicy {
        let label = detail.source_locations.first();
        let byte = label.map_or(otherwise, |label| label.loc.start);
        let said = label.and_then(|label| label.label.clone());
        let expected = said.or_else(|| detail.help.clone());
        BadPolicy { expected, ..self.bad(byte, detail.message.clone()) }
    }

    /// Reads the policies of this file, the `number`th of all.
    pub(super) fn read(
        &self,
        number: usize,
        loaded: &mut Vec<(Rule, Policy)>,
    ) -> Result<(), BadPolicy> {
        if self.text.len() > POLICY_BYTES_MAX {
            return Err(self.bad(0, format!("the file is larger than {POLICY_BYTES_MAX} bytes")));
        }
        if let Some(byte) = nesting::too_deep(self.text) {
            let (deep, many) = (nesting::NESTING_MAX, nesting::OPERATORS_MAX);
            let problem = format!("a policy nests deeper than {deep} or has over {many} operators");
            let expected = Some("split it into several policies".to_owned());
            return Err(BadPolicy { expected, ..self.bad(byte, problem) });
        }
        let set = PolicySet::from_str(self.text)
            .map_err(|errors| self.flaw(&DetailedError::from(&errors), 0))?;
        if set.templates().next().is_some() {
            return Err(self.bad(0, "templates (`?principal`, `?resource`) are not used here"));
        }
        let mut from = 0;
        for policy in in_order(&set) {
            if loaded.len() >= POLICIES_MAX {
                return Err(self.bad(from, format!("there are more than {POLICIES_MAX} policies")));
            }
            let text = policy.to_cedar().unwrap_or_default();
            let rest = self.text.get(from..).unwrap_or_default();
            let byte = rest.find(&text).map_or(from, |found| from.saturating_add(found));
            from = byte.saturating_add(text.len());
            let place = Place { file: number, byte };
            let rule = self.rule(policy, place, loaded.len())?;
            if loaded.iter().any(|(other, _)| other.id == rule.id) {
                let problem = "another policy has the same @id";
                return Err(BadPolicy { rule: Some(rule.id.into()), ..self.bad(byte, problem) });
            }
            let named = policy.new_id(PolicyId::new(rule.id.as_str()));
            loaded.push((rule, named));
        }
        Ok(())
    }

    fn rule(&self, policy: &Policy, at: Place, order: usize) -> Result<Rule, BadPolicy> {
        let said = policy.annotation("id").map(ToOwned::to_owned);
        let bad = |problem: String, expected: &str| BadPolicy {
            rule: said.clone(),
            expected: Some(expected.to_owned()),
            ..self.bad(at.byte, problem)
        };
        let unknown = policy.annotations().map(|(key, _)| key);
        if let Some(key) = unknown.filter(|key| !ANNOTATIONS.contains(key)).min() {
            return Err(bad(
                format!("there is no annotation @{key}"),
                "expected @id, @reason, @hint, @approvers or @step_up",
            ));
        }
        let id = said.clone().unwrap_or_else(|| self.id_of_place(at.byte));
        if !self.base && id.starts_with(BASE_PREFIX) {
            return Err(bad(
                format!("the id `{id}` belongs to the policies inside the binary"),
                "choose an id (or, without @id, a file name) that does not begin with `weir.`",
            ));
        }
        let id = RuleId::try_from(id).map_err(|error| bad(error.to_string(), "change the @id"))?;
        let json = policy.to_json().map_err(|error| self.bad(at.byte, error.to_string()))?;
        let approvers = policy.annotation("approvers").unwrap_or_default();
        let approvers = approvers.split(',').map(str::trim).filter(|role| !role.is_empty());
        let approvers = approvers.map(ToOwned::to_owned).collect::<BTreeSet<_>>();
        match (reads(&json, "approved"), approvers.is_empty()) {
            (true, true) => Err(bad(
                "it reads context.approved, but says nobody who may approve".to_owned(),
                "add @approvers(\"role, role\")",
            )),
            (false, false) => Err(bad(
                "it has @approvers, but never reads context.approved".to_owned(),
                "remove @approvers, or ask for context.approved",
            )),
            (true, false) | (false, true) => Ok(()),
        }?;
        let step_up = policy.annotation("step_up").map(step_up::parse).transpose();
        let step_up = step_up.map_err(|problem| bad(problem, step_up::EXPECTED))?;
        let unread = step_up
            .as_ref()
            .and_then(|need| step_up::facts_of(need).find(|fact| !reads(&json, fact)));
        if let Some(fact) = unread {
            return Err(bad(
                format!("its @step_up asks for a login that it does not look at: context.{fact}"),
                "read the fact in the policy, or take it out of @step_up",
            ));
        }
        let text = |key: &str| policy.annotation(key).map(str::trim).filter(|s| !s.is_empty());
        let permits = match policy.effect() {
            CedarEffect::Permit => true,
            CedarEffect::Forbid => false,
        };
        Ok(Rule {
            id,
            order,
            at,
            permits,
            reason: text("reason").map(ToOwned::to_owned),
            hint: text("hint").map(ToOwned::to_owned),
            approvers,
            step_up,
            reads_age: reads(&json, step_up::AGE),
            names_opaque: holds(&json, &|node| node.get("Value") == Some(&Value::from("opaque"))),
            is_loose: permits && is_loose(&json),
        })
    }

    /// The id of a policy that says none: `engineers.cedar:12`.
    fn id_of_place(&self, byte: usize) -> String {
        let (line, _) = line_and_column(self.text, byte);
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name = self.name.chars().map(|c| if fits(c) { c } else { '-' }).collect::<String>();
        format!("{name}:{line}")
    }
}

/// The policies of a file as they stand in it: Cedar numbers them `policy0`, `policy1`, ….
fn in_order(set: &PolicySet) -> Vec<&Policy> {
    let mut policies = set.policies().collect::<Vec<_>>();
    policies.sort_by_key(|policy| {
        let id: &str = policy.id().as_ref();
        id.strip_prefix("policy").and_then(|number| number.parse::<usize>().ok())
    });
    policies
}

fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let begin = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let column = before.get(begin..).map_or(0, |rest| rest.chars().count()).saturating_add(1);
    (line, column)
}

/// Whether any node of a policy's syntax tree satisfies `is`.
fn holds(json: &Value, is: &dyn Fn(&Value) -> bool) -> bool {
    if is(json) {
        return true;
    }
    match json {
        Value::Array(items) => items.iter().any(|item| holds(item, is)),
        Value::Object(fields) => fields.values().any(|field| holds(field, is)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether the policy looks at `fact`, of whatever record: rather too often than too rarely.
fn reads(json: &Value, fact: &str) -> bool {
    holds(json, &|node| node.get("attr") == Some(&Value::from(fact)))
}

fn is_loose(json: &Value) -> bool {
    let effects = |node: Option<&Value>| {
        let attr = node.and_then(|node| node.get(".")).and_then(|get| get.get("attr"));
        attr == Some(&Value::from("effects"))
    };
    let any = |node: &Value| {
        let asked = node.get("contains").or_else(|| node.get("containsAny"));
        effects(asked.and_then(|call| call.get("left")))
    };
    let all = |node: &Value| effects(node.get("containsAll").and_then(|call| call.get("right")));
    holds(json, &any) && !holds(json, &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Rule>, BadPolicy> {
        let mut loaded = Vec::new();
        File { name: "team a.cedar", text, base: false }.read(0, &mut loaded)?;
        Ok(loaded.into_iter().map(|(rule, _)| rule).collect())
    }

    #[test]
    fn a_policy_without_id_is_named_by_its_place() {
        let rules = read(
            "// first\npermit (principal, action, resource);\n\n\
             @id(\"b\") @reason(\"why\")\nforbid (principal, action, resource);\n\
             permit (principal, action, resource);\n",
        )
        .unwrap();
        let ids = rules.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>();
        assert_eq!(ids, ["team-a.cedar:2", "b", "team-a.cedar:6"]);
        assert_eq!(rules[1].reason.as_deref(), Some("why"));
        assert!(!rules[1].permits);
    }

    #[test]
    fn what_could_mislead_does_not_load() {
        let cases = [
            ("@id(\"weir.residency\")\npermit (principal, action, resource);", 1, "binary"),
            ("\n@id(\"a b\") permit (principal, action, resource);", 2, "rule id"),
            ("@aprovers(\"dba\") permit (principal, action, resource);", 1, "@aprovers"),
            ("@approvers(\"dba\") permit (principal, action, resource);", 1, "never reads"),
            ("permit (principal, action, resource) when { context.approved };", 1, "nobody"),
            (
                "permit (principal, action, resource) when { context has approved && true };",
                1,
                "nobody",
            ),
            ("permit (principal == ?principal, action, resource);", 1, "templates"),
            ("\n\n@step_up(\"max_age=15m\") permit (principal, action, resource);", 3, "max_age"),
            (
                "@step_up(\"acr=phr\") permit (principal, action, resource) \
                 when { context.auth_age_s < 900 };",
                1,
                "context.acr",
            ),
            (
                "@id(\"x\") permit (principal, action, resource);\n@id(\"x\") \
                 permit (principal, action, resource);",
                2,
                "same @id",
            ),
            ("permit (principal, action, resource)\n  wen { true };", 2, "wen"),
        ];
        for (text, line, word) in cases {
            let error = read(text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.to_string().contains(word), "{error}");
            assert!(error.to_string().starts_with("team a.cedar:"), "{error}");
        }
    }

    #[test]
    fn a_permit_that_forgets_other_effects_is_noticed() {
        let loose =
            "permit (principal, action, resource) when { context.effects.contains(\"read\") };";
        let tight = "permit (principal, action, resource) when { [\"read\"].containsAll(context.effects) };";
        assert!(read(loose).unwrap()[0].is_loose);
        assert!(!read(tight).unwrap()[0].is_loose);
    }
}
