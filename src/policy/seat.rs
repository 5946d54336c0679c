//! A principal before a target under one snapshot: everything about a question but the question.
//!
//! Made once a session and version, so that a command costs one question to the engine and no more.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::sync::Arc;

use cedar_policy::Entities;
use cedar_policy::Entity;
use cedar_policy::EntityUid;
use cedar_policy::RestrictedExpression;
use jiff::Timestamp;
use jiff::civil::Date;

use crate::model::DataClass;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::TargetFacts;
use crate::model::digest::Digest;
use crate::model::principal::Kind as PrincipalKind;
use crate::policy::engine::Action;
use crate::policy::engine::Answer;
use crate::policy::engine::Facts;
use crate::policy::engine::Kind;
use crate::policy::engine::Narrow;
use crate::policy::engine::Question;
use crate::policy::engine::texts;
use crate::policy::law;
use crate::policy::law::Residency;
use crate::policy::law::Viewer;
use crate::policy::rules::Rule;
use crate::policy::snapshot::Place;
use crate::policy::snapshot::Snapshot;
use crate::policy::step_up::Lifted;
use crate::policy::step_up::Proven;
use crate::policy::step_up::lift;
use crate::policy::transfer::Decision;
use crate::policy::transfer::Op;

/// What somebody sits down for; it decides what the law is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// A session: all classes of the target, as at connect.
    Session,
    /// To see a held command, which carries these classes.
    Approve(&'a BTreeSet<DataClass>),
    /// To see a recording: all classes of the target.
    Replay,
    /// To search commands: all classes of the target.
    Search,
}

/// A principal before a target, under one snapshot and on one day.
#[derive(Debug)]
pub(super) struct Seat {
    version: Digest,
    day: Date,
    pub(super) principal: Arc<Principal>,
    pub(super) origin: Origin,
    pub(super) facts: Arc<TargetFacts>,
    pub(super) residency: Residency,
    principal_uid: EntityUid,
    target_uid: EntityUid,
    entities: Option<Entities>,
    narrow: Option<Narrow>,
    known: BTreeSet<DataClass>,
    /// The same seat, were the agent on it a person.
    as_person: Option<Box<Self>>,
}

impl Seat {
    pub(super) fn take(
        snapshot: &Snapshot,
        (principal, origin): (&Arc<Principal>, &Origin),
        place: &Place,
        purpose: Purpose<'_>,
        now: Timestamp,
    ) -> Self {
        let day = law::day(now);
        let viewer = Viewer { principal, origin };
        let plain = |flow| Residency {
            applied: snapshot.law().flow(viewer, place, flow, day),
            suppressed_by: None,
        };
        let residency = match purpose {
            Purpose::Session => snapshot.law().session(viewer, place, day),
            Purpose::Approve(classes) => plain((Op::Approve, classes)),
            Purpose::Replay => plain((Op::Replay, &place.facts.classes)),
            Purpose::Search => plain((Op::Search, &place.facts.classes)),
        };
        let mut known = BTreeSet::new();
        place.facts.classes.iter().for_each(|class| known.extend(lineage(class)));
        let entities = entities(snapshot, principal, place, &known);
        let engine = snapshot.engine();
        let principal_uid = principal_uid(snapshot, principal);
        let target_uid = engine.uid(Kind::Target, place.facts.name.as_str());
        let narrow = match purpose {
            Purpose::Session => {
                let roles = principal.roles.iter().map(|role| engine.uid(Kind::Role, role));
                let roles = roles.collect::<Vec<_>>();
                engine.narrow((&principal_uid, &roles), &target_uid)
            }
            // Asked once or twice: all policies may be.
            Purpose::Approve(_) | Purpose::Replay | Purpose::Search => None,
        };
        let as_person = person_of(principal)
            .map(|person| Self::take(snapshot, (&person, origin), place, purpose, now));
        let as_person = as_person.map(Box::new);
        Self {
            version: snapshot.version(),
            day,
            principal: Arc::clone(principal),
            origin: origin.clone(),
            facts: Arc::clone(&place.facts),
            residency,
            principal_uid,
            target_uid,
            entities,
            narrow,
            known,
            as_person,
        }
    }

    /// The seat of an agent's person, which must be asked as well.
    pub(super) fn as_person(&self) -> Option<&Self> {
        self.as_person.as_deref()
    }

    /// Whether this is still the seat under `snapshot` at `now`.
    pub(super) fn fits(&self, snapshot: &Snapshot, now: Timestamp) -> bool {
        self.version == snapshot.version() && self.day == law::day(now)
    }

    /// Whoever looks, for the law.
    pub(super) fn viewer(&self) -> Viewer<'_> {
        Viewer { principal: &self.principal, origin: &self.origin }
    }

    /// The day that the law was asked for.
    pub(super) fn day(&self) -> Date {
        self.day
    }

    /// The facts that every context has, and the outcome of `decision`.
    pub(super) fn facts(&self, decision: &Decision) -> Facts {
        let mut facts = place_facts(&self.origin);
        facts.text("residency", law::word(decision.outcome));
        facts
    }

    /// Asks a question about this target: an answer, and where it is a no that another login would
    /// lift, that login.
    pub(super) fn ask_lifting<'s>(
        &self,
        snapshot: &'s Snapshot,
        action: Action,
        facts: &Facts,
        proven: &Proven,
    ) -> Result<Answer<'s>, Lifted<'s>> {
        let ask = |proven: &Proven| self.ask(snapshot, action, (facts.clone(), proven), false);
        let answer = ask(proven);
        let permits = || self.step_ups(snapshot, action, false);
        match lift(&answer, permits, proven, ask) {
            None => Ok(answer),
            Some(lifted) => Err(lifted),
        }
    }

    /// The permits for this seat that another login may make say yes.
    pub(super) fn step_ups<'s>(
        &self,
        snapshot: &'s Snapshot,
        action: Action,
        opaque: bool,
    ) -> Vec<&'s Rule> {
        snapshot.engine().step_ups(action, opaque, self.narrow.as_ref())
    }

    /// Asks a question about this target.
    pub(super) fn ask<'s>(
        &self,
        snapshot: &'s Snapshot,
        action: Action,
        (mut facts, proven): (Facts, &Proven),
        opaque: bool,
    ) -> Answer<'s> {
        let Some(entities) = &self.entities else { return unaskable(snapshot) };
        proven.tell(&mut facts);
        snapshot.engine().ask(Question {
            action,
            principal: &self.principal_uid,
            resource: &self.target_uid,
            entities,
            facts,
            opaque,
            narrow: self.narrow.as_ref(),
        })
    }

    /// Asks whether a value of `class` may be shown.
    pub(super) fn ask_reveal<'s>(
        &self,
        snapshot: &'s Snapshot,
        class: &DataClass,
        proven: &Proven,
    ) -> Answer<'s> {
        let mut facts = self.facts(&self.residency.applied);
        facts.entity("class", snapshot.engine().uid(Kind::Class, class.as_str()));
        if self.known.contains(class) {
            return self.ask(snapshot, Action::Reveal, (facts, proven), false);
        }
        proven.tell(&mut facts);
        // A class deeper than those declared: the engine must know in what it nests, or a forbid on
        // an outer class would miss it.
        let engine = snapshot.engine();
        let nested = lineage(class).into_iter().filter(|one| !self.known.contains(one));
        let nested = nested.map(|one| class_entity(snapshot, &one));
        let entities = self.entities.clone();
        let entities = entities.and_then(|known| known.add_entities(nested, None).ok());
        let Some(entities) = entities else { return unaskable(snapshot) };
        engine.ask(Question {
            action: Action::Reveal,
            principal: &self.principal_uid,
            resource: &self.target_uid,
            entities: &entities,
            facts,
            opaque: false,
            narrow: self.narrow.as_ref(),
        })
    }
}

#[cfg(test)]
impl Seat {
    /// The same seat, but every policy is asked.
    pub(super) fn asking_all(mut self) -> Self {
        self.narrow = None;
        self.as_person = self.as_person.map(|person| Box::new(person.asking_all()));
        self
    }
}

/// An agent as the person that it acts for: the same in all but the kind. `None`: it is no agent.
pub(super) fn person_of(principal: &Principal) -> Option<Arc<Principal>> {
    match principal.kind {
        PrincipalKind::Agent => {
            let person = Principal { kind: PrincipalKind::Person, ..principal.clone() };
            Some(Arc::new(person))
        }
        PrincipalKind::Person | PrincipalKind::Workload | PrincipalKind::Gateway => None,
    }
}

/// Asks a question about the gateway itself: an answer, and where it is a no that another login
/// would lift, that login.
pub(super) fn ask_gateway<'s>(
    snapshot: &'s Snapshot,
    principal: &Principal,
    action: Action,
    facts: &Facts,
    proven: &Proven,
) -> Result<Answer<'s>, Lifted<'s>> {
    let ask = |proven: &Proven| {
        let mut facts = facts.clone();
        proven.tell(&mut facts);
        ask_gateway_plainly(snapshot, principal, action, facts)
    };
    let answer = ask(proven);
    let permits = || snapshot.engine().step_ups(action, false, None);
    match lift(&answer, permits, proven, ask) {
        None => Ok(answer),
        Some(lifted) => Err(lifted),
    }
}

fn ask_gateway_plainly<'s>(
    snapshot: &'s Snapshot,
    principal: &Principal,
    action: Action,
    facts: Facts,
) -> Answer<'s> {
    let gateway = snapshot.law().gateway();
    let uid = snapshot.gateway_uid();
    let attributes = [
        ("region".to_owned(), text(gateway.region.as_str())),
        ("country".to_owned(), text(gateway.country.as_str())),
    ];
    let resource = Entity::new_with_tags(uid.clone(), attributes, [], []).ok();
    let entities = resource.zip(principal_entity(snapshot, principal));
    let entities = entities.and_then(|(resource, principal)| {
        Entities::from_entities([resource, principal], checked(snapshot)).ok()
    });
    let Some(entities) = entities else { return unaskable(snapshot) };
    snapshot.engine().ask(Question {
        action,
        principal: &principal_uid(snapshot, principal),
        resource: &uid,
        entities: &entities,
        facts,
        opaque: false,
        narrow: None,
    })
}

/// The facts about a place that every context has.
pub(super) fn place_facts(origin: &Origin) -> Facts {
    let mut facts = Facts::default();
    if let Some(country) = &origin.country {
        facts.text("from", country.as_str());
    }
    facts.flag("place_known", origin.country.is_some());
    facts
}

/// A class and everything it nests in: `pii.email`, `pii`.
pub(super) fn lineage(class: &DataClass) -> Vec<DataClass> {
    let text = class.as_str();
    let cuts = text.match_indices('.').map(|(at, _)| at).chain(std::iter::once(text.len()));
    cuts.filter_map(|at| text.get(..at)?.parse().ok()).collect()
}

/// Entities that the engine would not take: an answer that is no, whatever the policies say.
fn unaskable(_: &Snapshot) -> Answer<'_> {
    let broken = "weir.entities".parse().into_iter().collect();
    Answer { allowed: false, rules: Vec::new(), broken }
}

/// Entities are checked against the schema in tests and debug builds: they are made here, from
/// typed values.
fn checked(snapshot: &Snapshot) -> Option<&cedar_policy::Schema> {
    cfg!(debug_assertions).then(|| snapshot.engine().schema())
}

fn entities(
    snapshot: &Snapshot,
    principal: &Principal,
    place: &Place,
    known: &BTreeSet<DataClass>,
) -> Option<Entities> {
    let Place { facts, owner } = place;
    let strings = |values: &BTreeSet<String>| texts(values.iter().cloned());
    let attributes = [
        ("protocol".to_owned(), text(facts.protocol.as_str())),
        ("region".to_owned(), text(facts.region.as_str())),
        ("country".to_owned(), text(facts.country.as_str())),
        ("classes".to_owned(), texts(known.iter().map(ToString::to_string))),
        ("labels".to_owned(), strings(&facts.labels)),
        ("owner".to_owned(), text(owner.id.as_str())),
        ("owner_country".to_owned(), text(owner.country.as_str())),
    ];
    let uid = snapshot.engine().uid(Kind::Target, facts.name.as_str());
    let target = Entity::new_with_tags(uid, attributes, [], []).ok()?;
    let classes = known.iter().map(|class| class_entity(snapshot, class));
    let all = [target, principal_entity(snapshot, principal)?].into_iter().chain(classes);
    Entities::from_entities(all, checked(snapshot)).ok()
}

fn class_entity(snapshot: &Snapshot, class: &DataClass) -> Entity {
    let uid = |class: &DataClass| snapshot.engine().uid(Kind::Class, class.as_str());
    let outer = lineage(class).into_iter().filter(|outer| outer != class);
    Entity::new_no_attrs(uid(class), outer.map(|outer| uid(&outer)).collect::<HashSet<_>>())
}

fn principal_uid(snapshot: &Snapshot, principal: &Principal) -> EntityUid {
    let id = format!("{}#{}", principal.issuer, principal.subject);
    snapshot.engine().uid(Kind::Principal, &id)
}

fn principal_entity(snapshot: &Snapshot, principal: &Principal) -> Option<Entity> {
    let kind = match principal.kind {
        PrincipalKind::Person => "person",
        PrincipalKind::Workload => "workload",
        PrincipalKind::Agent => "agent",
        PrincipalKind::Gateway => "gateway",
    };
    let mut attributes = vec![
        ("name".to_owned(), text(&principal.name)),
        ("issuer".to_owned(), text(&principal.issuer)),
        ("subject".to_owned(), text(&principal.subject)),
        ("kind".to_owned(), text(kind)),
        ("person".to_owned(), text(&principal.person)),
        ("roles".to_owned(), texts(principal.roles.iter().cloned())),
    ];
    if let Some(entity) = snapshot.law().entity_of(principal) {
        attributes.push(("entity".to_owned(), text(entity.id.as_str())));
        attributes.push(("entity_country".to_owned(), text(entity.country.as_str())));
    }
    if let Some(residence) = &principal.residence {
        attributes.push(("residence".to_owned(), text(residence.as_str())));
    }
    let roles = principal.roles.iter().map(|role| snapshot.engine().uid(Kind::Role, role));
    let tags = principal.attributes.iter().map(|(name, value)| (name.clone(), text(value)));
    let uid = principal_uid(snapshot, principal);
    Entity::new_with_tags(uid, attributes, roles, tags).ok()
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}
