//! The engine: asks Cedar one question, and takes whatever it cannot answer cleanly for a no.
//!
//! Knows the schema and the sets of policies; knows nothing of sessions, commands or law.

use std::collections::HashMap;
use std::fmt;

use cedar_policy::ActionConstraint;
use cedar_policy::Authorizer;
use cedar_policy::Context;
use cedar_policy::Decision;
use cedar_policy::Entities;
use cedar_policy::EntityId;
use cedar_policy::EntityTypeName;
use cedar_policy::EntityUid;
use cedar_policy::Policy;
use cedar_policy::PolicyId;
use cedar_policy::PolicySet;
use cedar_policy::PrincipalConstraint;
use cedar_policy::Request;
use cedar_policy::ResourceConstraint;
use cedar_policy::RestrictedExpression;
use cedar_policy::Schema;
use cedar_policy::ValidationMode;
use cedar_policy::Validator;
use cedar_policy::ffi::DetailedError;

use crate::model::RuleId;
use crate::policy::rules::BadPolicy;
use crate::policy::rules::File;
use crate::policy::rules::Rule;

/// What policies may speak about.
pub(super) const SCHEMA: &str = include_str!("schema.cedarschema");
/// The policies inside the binary.
pub(super) const BASE: &str = include_str!("base.cedar");

/// How far a policy may look from the entities of its question: at their attributes, not beyond.
const DEREFERENCES_MAX: u32 = 1;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Connect,
    Execute,
    Reveal,
    Approve,
    Replay,
    Search,
    Administer,
}

impl Action {
    pub(super) const ALL: [Self; 7] = [
        Self::Connect,
        Self::Execute,
        Self::Reveal,
        Self::Approve,
        Self::Replay,
        Self::Search,
        Self::Administer,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Execute => "execute",
            Self::Reveal => "reveal",
            Self::Approve => "approve",
            Self::Replay => "replay",
            Self::Search => "search",
            Self::Administer => "administer",
        }
    }
}

/// The types of entities.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Principal,
    Role,
    Target,
    Class,
    Gateway,
}

/// Values of a question's context, by name.
#[derive(Debug, Default, Clone)]
pub(super) struct Facts(Vec<(String, RestrictedExpression)>);

impl Facts {
    pub(super) fn text(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), RestrictedExpression::new_string(value.into())));
    }

    pub(super) fn number(&mut self, name: &str, value: i64) {
        self.0.push((name.to_owned(), RestrictedExpression::new_long(value)));
    }

    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.0.push((name.to_owned(), RestrictedExpression::new_bool(value)));
    }

    pub(super) fn set(&mut self, name: &str, values: impl IntoIterator<Item = String>) {
        self.0.push((name.to_owned(), texts(values)));
    }

    pub(super) fn entity(&mut self, name: &str, value: EntityUid) {
        self.0.push((name.to_owned(), RestrictedExpression::new_entity_uid(value)));
    }

    pub(super) fn into_pairs(self) -> Vec<(String, RestrictedExpression)> {
        self.0
    }
}

/// A set of texts.
pub(super) fn texts(values: impl IntoIterator<Item = String>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.into_iter().map(RestrictedExpression::new_string))
}

/// One question.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) action: Action,
    pub(super) principal: &'a EntityUid,
    pub(super) resource: &'a EntityUid,
    pub(super) entities: &'a Entities,
    pub(super) facts: Facts,
    /// Only permits that name "opaque" count.
    pub(super) opaque: bool,
    /// The policies that can concern this principal and resource; `None`: all are asked.
    pub(super) narrow: Option<&'a Narrow>,
}

/// The policies whose scope lets them speak about one principal and one target, for the questions
/// of every command. Asking only these gives the same answers: a scope that does not match makes a
/// policy false, whatever else it says.
#[derive(Debug)]
pub(super) struct Narrow {
    execute: PolicySet,
    opaque: PolicySet,
    reveal: PolicySet,
}

/// The answer to one question.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) allowed: bool,
    /// The rules that decided: the permits, or the forbids. Empty: no rule permits it.
    pub(super) rules: Vec<&'a Rule>,
    /// Rules that could not be evaluated. Not empty: never allowed.
    pub(super) broken: Vec<RuleId>,
}

impl Answer<'_> {
    pub(super) fn ids(&self) -> Vec<RuleId> {
        self.rules.iter().map(|rule| rule.id.clone()).collect()
    }
}

/// Compiled policies.
pub(super) struct Engine {
    authorizer: Authorizer,
    schema: Schema,
    kinds: [EntityTypeName; 5],
    actions: [(EntityUid, PolicySet); 7],
    /// For `execute`: every forbid, and the permits that name "opaque".
    opaque: PolicySet,
    rules: HashMap<PolicyId, Rule>,
    /// A policy about what is shown reads how old the login is.
    shows_by_age: bool,
    /// What Cedar warns of, and what loads but probably is not meant.
    warnings: Vec<String>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Compiles the base policies and the customer's `policies` (file name and text).
    pub(super) fn compile(policies: &[(String, String)]) -> Result<Self, BadPolicy> {
        let schema_file = File { name: "schema.cedarschema", text: SCHEMA, base: true };
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA)
            .map_err(|error| schema_file.flaw(&DetailedError::from(&error), 0))?;
        let base = File { name: "base.cedar", text: BASE, base: true };
        let customer = policies.iter().map(|(name, text)| File { name, text, base: false });
        let files = std::iter::once(base).chain(customer).collect::<Vec<_>>();
        let mut loaded = Vec::new();
        for (number, file) in files.iter().enumerate() {
            file.read(number, &mut loaded)?;
        }
        let mut warnings = validate(&schema, &files, &loaded)?;
        for (rule, _) in loaded.iter().filter(|(rule, _)| rule.is_loose) {
            warnings.push(format!(
                "policy `{}` permits commands that have one effect, whatever their others are: \
                 ask `[…].containsAll(context.effects)`",
                rule.id
            ));
        }
        let set = |keep: &dyn Fn(&Rule, &Policy) -> bool| {
            let kept = loaded.iter().filter(|(rule, policy)| keep(rule, policy));
            PolicySet::from_policies(kept.map(|(_, policy)| policy.clone()))
                .map_err(|error| schema_file.bad(0, error.to_string()))
        };
        let uid = |action: Action| {
            uid("Weir::Action", action.as_str()).ok_or_else(|| schema_file.bad(0, "no actions"))
        };
        let mut actions = Vec::new();
        for action in Action::ALL {
            let uid = uid(action)?;
            let policies = set(&|_, policy| concerns(policy, &uid))?;
            actions.push((uid, policies));
        }
        let execute = uid(Action::Execute)?;
        let opaque = set(&|rule, policy| {
            concerns(policy, &execute) && (!rule.permits || rule.names_opaque)
        })?;
        let kinds = ["Principal", "Role", "Target", "Class", "Gateway"];
        let kinds = kinds.iter().filter_map(|kind| format!("Weir::{kind}").parse().ok());
        let kinds = kinds.collect::<Vec<EntityTypeName>>();
        let kinds = kinds.try_into().map_err(|_| schema_file.bad(0, "types are missing"))?;
        let actions = actions.try_into().map_err(|_| schema_file.bad(0, "actions are missing"))?;
        let reveal = uid(Action::Reveal)?;
        let shows_by_age =
            loaded.iter().any(|(rule, policy)| rule.reads_age && concerns(policy, &reveal));
        let rules = loaded.into_iter().map(|(rule, policy)| (policy.id().clone(), rule)).collect();
        let authorizer = Authorizer::new();
        Ok(Self { authorizer, schema, kinds, actions, opaque, rules, shows_by_age, warnings })
    }

    /// What loads but probably is not meant.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether what is shown may change only because a login gets older.
    pub(super) fn shows_by_age(&self) -> bool {
        self.shows_by_age
    }

    /// Every entity that policies name, with the policy that does.
    pub(super) fn named(&self) -> impl Iterator<Item = (String, EntityUid)> {
        let sets = self.actions.iter().flat_map(|(_, set)| set.policies());
        sets.flat_map(|policy| {
            let id = policy.id().to_string();
            policy.entity_literals().into_iter().map(move |entity| (id.clone(), entity))
        })
    }

    /// The schema, for checking entities against it.
    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The entity of `kind` called `id`.
    pub(super) fn uid(&self, kind: Kind, id: &str) -> EntityUid {
        let [principal, role, target, class, gateway] = &self.kinds;
        let name = match kind {
            Kind::Principal => principal,
            Kind::Role => role,
            Kind::Target => target,
            Kind::Class => class,
            Kind::Gateway => gateway,
        };
        EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
    }

    /// The policies that can concern `principal`, which is in `roles`, at `resource`, which is in
    /// nothing.
    pub(super) fn narrow(
        &self,
        (principal, roles): (&EntityUid, &[EntityUid]),
        resource: &EntityUid,
    ) -> Option<Narrow> {
        let inside = |group: &EntityUid| group == principal || roles.contains(group);
        let fits = |policy: &&Policy| {
            let who = match policy.principal_constraint() {
                PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
                PrincipalConstraint::Eq(only) => only == *principal,
                PrincipalConstraint::In(group) | PrincipalConstraint::IsIn(_, group) => {
                    inside(&group)
                }
            };
            who && match policy.resource_constraint() {
                ResourceConstraint::Any | ResourceConstraint::Is(_) => true,
                ResourceConstraint::Eq(only)
                | ResourceConstraint::In(only)
                | ResourceConstraint::IsIn(_, only) => only == *resource,
            }
        };
        let narrowed =
            |all: &PolicySet| PolicySet::from_policies(all.policies().filter(fits).cloned()).ok();
        let [_, (_, execute), (_, reveal), ..] = &self.actions;
        Some(Narrow {
            execute: narrowed(execute)?,
            opaque: narrowed(&self.opaque)?,
            reveal: narrowed(reveal)?,
        })
    }

    /// The policies that an action is decided by, and the action.
    fn concerning<'s>(
        &'s self,
        action: Action,
        opaque: bool,
        narrow: Option<&'s Narrow>,
    ) -> (&'s EntityUid, &'s PolicySet) {
        let [connect, execute, reveal, approve, replay, search, administer] = &self.actions;
        let (uid, policies) = match action {
            Action::Connect => connect,
            Action::Execute => execute,
            Action::Reveal => reveal,
            Action::Approve => approve,
            Action::Replay => replay,
            Action::Search => search,
            Action::Administer => administer,
        };
        let policies = match (action, narrow) {
            (Action::Execute, Some(narrow)) if opaque => &narrow.opaque,
            (Action::Execute, Some(narrow)) => &narrow.execute,
            (Action::Reveal, Some(narrow)) => &narrow.reveal,
            (Action::Execute, None) if opaque => &self.opaque,
            (
                Action::Execute
                | Action::Connect
                | Action::Reveal
                | Action::Approve
                | Action::Replay
                | Action::Search
                | Action::Administer,
                Some(_) | None,
            ) => policies,
        };
        (uid, policies)
    }

    /// The permits that would reach further after another login, as they stand in the files.
    pub(super) fn step_ups(
        &self,
        action: Action,
        opaque: bool,
        narrow: Option<&Narrow>,
    ) -> Vec<&Rule> {
        let (_, policies) = self.concerning(action, opaque, narrow);
        let rules = policies.policies().filter_map(|policy| self.rules.get(policy.id()));
        let mut rules =
            rules.filter(|rule| rule.permits && rule.step_up.is_some()).collect::<Vec<_>>();
        rules.sort_by_key(|rule| rule.order);
        rules
    }

    /// Asks one question. Whatever goes wrong makes the answer no.
    pub(super) fn ask(&self, question: Question<'_>) -> Answer<'_> {
        let (action, policies) = self.concerning(question.action, question.opaque, question.narrow);
        // The context is ours, so its types are checked in tests, not on every command.
        let schema = cfg!(debug_assertions).then_some(&self.schema);
        let request = Context::from_pairs(question.facts.into_pairs()).ok().and_then(|context| {
            let principal = question.principal.clone();
            let resource = question.resource.clone();
            Request::new(principal, action.clone(), resource, context, schema).ok()
        });
        let Some(request) = request else {
            let broken = RuleId::try_from(format!("weir.schema.{}", question.action.as_str()));
            return Answer {
                allowed: false,
                rules: Vec::new(),
                broken: broken.into_iter().collect(),
            };
        };
        let response = self.authorizer.is_authorized(&request, policies, question.entities);
        let rules = response.diagnostics().reason().filter_map(|id| self.rules.get(id));
        let mut rules = rules.collect::<Vec<_>>();
        rules.sort_by_key(|rule| rule.order);
        let errors = response.diagnostics().errors();
        let broken = errors.filter_map(|error| {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            self.rules.get(error.policy_id())
        });
        let mut broken = broken.collect::<Vec<_>>();
        broken.sort_by_key(|rule| rule.order);
        let broken = broken.into_iter().map(|rule| rule.id.clone()).collect::<Vec<_>>();
        // Cedar skips a policy that errors, also a forbid: so any error is a no.
        let clean = response.diagnostics().errors().next().is_none();
        let allowed = match response.decision() {
            Decision::Allow => clean,
            Decision::Deny => false,
        };
        Answer { allowed, rules, broken }
    }
}

fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    Some(EntityUid::from_type_name_and_id(kind.parse().ok()?, EntityId::new(id)))
}

/// Whether a policy's scope lets it speak about `action`.
fn concerns(policy: &Policy, action: &EntityUid) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::In(actions) => actions.contains(action),
        ActionConstraint::Eq(only) => only == *action,
    }
}

/// Checks all policies against the schema: the first error, or the warnings.
fn validate(
    schema: &Schema,
    files: &[File<'_>],
    loaded: &[(Rule, Policy)],
) -> Result<Vec<String>, BadPolicy> {
    let all = PolicySet::from_policies(loaded.iter().map(|(_, policy)| policy.clone()));
    let Some(base) = files.first() else { return Ok(Vec::new()) };
    let all = all.map_err(|error| base.bad(0, error.to_string()))?;
    let validator = Validator::new(schema.clone());
    let result = validator.validate_with_level(&all, ValidationMode::Strict, DEREFERENCES_MAX);
    let rule_of = |id: &PolicyId| {
        let id: &str = id.as_ref();
        loaded.iter().map(|(rule, _)| rule).find(|rule| rule.id.as_str() == id)
    };
    let errors = result.validation_errors().filter_map(|error| {
        let rule = rule_of(error.policy_id())?;
        let file = files.get(rule.at.file)?;
        let flaw = file.flaw(&DetailedError::from(error), rule.at.byte);
        // Cedar's message begins with the policy's id, which stands in front of it here anyway.
        let prefix = format!("for policy `{}`, ", rule.id);
        let problem = flaw.problem.strip_prefix(&prefix).unwrap_or(&flaw.problem).to_owned();
        Some((rule.order, BadPolicy { rule: Some(rule.id.to_string()), problem, ..flaw }))
    });
    if let Some((_, first)) = errors.min_by_key(|(order, _)| *order) {
        return Err(first);
    }
    if !result.validation_passed() {
        return Err(base.bad(0, "the policies do not fit the schema"));
    }
    let mut warnings = result.validation_warnings().map(ToString::to_string).collect::<Vec<_>>();
    warnings.sort();
    Ok(warnings)
}
