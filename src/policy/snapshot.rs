//! One compiled version of everything decisions rest on: policies, law, catalogue facts.
//!
//! Immutable, so a session that holds one is decided by one. Made from values; reading files and
//! watching them is the daemon's business.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::EntityUid;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::EntityId;
use crate::model::RegionName;
use crate::model::RuleId;
use crate::model::TargetFacts;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::principal::Entity;
use crate::policy::engine::BASE;
use crate::policy::engine::Engine;
use crate::policy::engine::Kind;
use crate::policy::engine::SCHEMA;
use crate::policy::law;
use crate::policy::law::Law;
use crate::policy::rules::BadPolicy;
use crate::policy::transfer::Basis;
use crate::policy::transfer::Expiring;
use crate::policy::transfer::Pack;
use crate::policy::transfer::WARNED_DAYS_BEFORE;

/// What a snapshot is compiled from.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The customer's policies: file name (for messages and ids) and Cedar text.
    pub policies: Vec<(String, String)>,
    /// The targets.
    pub targets: Vec<TargetFacts>,
    /// The legal entities.
    pub entities: Vec<Entity>,
    /// The registered legal bases.
    pub bases: Vec<Basis>,
    /// The law data.
    pub pack: Pack,
    /// The gateway itself.
    pub gateway: GatewayFacts,
}

/// Where the gateway stands and where it records: the machine legs of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GatewayFacts {
    /// Its configured id.
    pub id: String,
    /// The region it stands in.
    pub region: RegionName,
    /// The country it stands in.
    pub country: Country,
    /// The legal entity that runs it.
    pub entity: Option<EntityId>,
    /// The country its recordings and ledger are stored in.
    pub recording_country: Country,
}

/// One compiled version of policies, law and catalogue facts.
#[derive(Debug)]
pub struct Snapshot {
    engine: Engine,
    law: Law,
    places: BTreeMap<TargetName, Place>,
    version: Digest,
}

/// A target as decisions see it: its facts, and the entity that answers for its data.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) facts: Arc<TargetFacts>,
    pub(super) owner: Entity,
}

impl Snapshot {
    /// Compiles `parts`, or says what is wrong with the first policy (or fact) that is.
    pub fn compile(parts: Parts) -> Result<Self, BadPolicy> {
        let Parts { mut policies, targets, entities, bases, pack, gateway } = parts;
        policies.sort();
        let engine = Engine::compile(&policies)?;
        let version = serde_json::to_vec(&(
            (SCHEMA, BASE, &policies),
            (&targets, &entities, &bases, &gateway),
            pack.digest(),
        ))
        .map_err(|error| wrong("catalogue", error.to_string(), "values that can be written"))?;
        let law = Law::new(pack, bases, entities, gateway).map_err(|twice| {
            let problem = format!("entity `{twice}` is declared twice");
            wrong("entities", problem, "declare each legal entity once")
        })?;
        let mut places = BTreeMap::new();
        for facts in targets {
            let name = facts.name.clone();
            let Some(owner) = law.entity(Some(&facts.owner)).cloned() else {
                let problem = format!("target `{name}`: owner `{}` is no entity", facts.owner);
                return Err(wrong("targets", problem, "declare the legal entity, and its country"));
            };
            if places.insert(name.clone(), Place { facts: Arc::new(facts), owner }).is_some() {
                let problem = format!("target `{name}` is declared twice");
                return Err(wrong("targets", problem, "give each target its own name"));
            }
        }
        Ok(Self { engine, law, places, version: Digest::of(&version) })
    }

    /// The digest of all inputs: it stands in every entry that this snapshot decided.
    pub fn version(&self) -> Digest {
        self.version
    }

    /// Where the gateway stands, and who runs it.
    pub fn gateway(&self) -> &GatewayFacts {
        self.law.gateway()
    }

    /// The facts about the target called `name`.
    pub fn target(&self, name: &TargetName) -> Option<&Arc<TargetFacts>> {
        self.place(name).map(|place| &place.facts)
    }

    /// All targets, by name. Which of them somebody may know of is decided by
    /// [`judge`](crate::policy::judge).
    pub fn targets(&self) -> impl Iterator<Item = &Arc<TargetFacts>> {
        self.places.values().map(|place| &place.facts)
    }

    /// The legal entities by id.
    pub fn entity(&self, id: &EntityId) -> Option<&Entity> {
        self.law.entity(Some(id))
    }

    /// The legal basis on file with this id.
    pub fn basis(&self, id: &RuleId) -> Option<&Basis> {
        self.law.basis(id)
    }

    /// Legal bases, their assessments and the law data, where they end within
    /// [`WARNED_DAYS_BEFORE`] days or have ended: to be told at start, on reload and daily.
    pub fn expiring(&self, now: Timestamp) -> Vec<Expiring> {
        self.law.expiring(law::day(now), WARNED_DAYS_BEFORE)
    }

    /// What is allowed but probably not meant: rules that can never fire, names nobody has, law
    /// data past its review.
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let mut warnings = self.engine.warnings().to_vec();
        let mut never = BTreeSet::new();
        for (policy, entity) in self.engine.named() {
            let id = entity.id().unescaped();
            if !self.may_exist(&entity) {
                let kind = entity.type_name().basename().to_lowercase();
                never
                    .insert(format!("policy `{policy}` names the {kind} `{id}`, which is nowhere"));
            }
        }
        warnings.extend(never);
        let pack = self.law.pack();
        if now.to_zoned(TimeZone::UTC).date() > pack.review_by() {
            warnings.push(format!(
                "the law data {} wanted a review by {}: an expert should look at it",
                pack.version(),
                pack.review_by()
            ));
        }
        warnings
    }

    /// Whether a policy that names `entity` can ever mean one. Roles and principals come from
    /// claims, so any may.
    fn may_exist(&self, entity: &EntityUid) -> bool {
        let id = entity.id().unescaped();
        match entity.type_name().basename() {
            "Target" => self.places.keys().any(|name| name.as_str() == id),
            "Class" => id.parse::<DataClass>().is_ok_and(|named| {
                let classes = self.places.values().flat_map(|place| &place.facts.classes);
                let mut classes =
                    classes.filter(|class| named.covers(class) || class.covers(&named));
                classes.next().is_some()
            }),
            "Gateway" => self.law.gateway().id == id,
            _ => true,
        }
    }

    pub(super) fn place(&self, name: &TargetName) -> Option<&Place> {
        self.places.get(name)
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn law(&self) -> &Law {
        &self.law
    }

    pub(super) fn gateway_uid(&self) -> EntityUid {
        self.engine.uid(Kind::Gateway, &self.law.gateway().id)
    }
}

fn wrong(what: &str, problem: String, expected: &str) -> BadPolicy {
    BadPolicy {
        file: what.to_owned(),
        line: 1,
        column: 1,
        rule: None,
        problem,
        expected: Some(expected.to_owned()),
    }
}
