//! Puts the questions of a session to the transfer decision: which data, whose, by which way.
//!
//! Knows entities, bases and where the gateway stands. Decides nothing itself.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::model::DataClass;
use crate::model::EntityId;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::RuleId;
use crate::model::principal::Entity;
use crate::model::principal::Kind;
use crate::model::target::WithoutBasis;
use crate::policy::snapshot::GatewayFacts;
use crate::policy::snapshot::Place;
use crate::policy::transfer;
use crate::policy::transfer::Asker;
use crate::policy::transfer::Basis;
use crate::policy::transfer::Data;
use crate::policy::transfer::Decision;
use crate::policy::transfer::Expiring;
use crate::policy::transfer::Flow;
use crate::policy::transfer::Link;
use crate::policy::transfer::Op;
use crate::policy::transfer::Outcome;
use crate::policy::transfer::Pack;
use crate::policy::transfer::Path;
use crate::policy::transfer::Suppression;

/// The mapped claim that says how a person belongs to the entity, and its value for one who is no
/// employee: an entity of his own, who is never "on a trip".
const LINK_ATTRIBUTE: &str = "link";
const CONTRACTOR: &str = "contractor";
/// The mapped claims that say whether a person is a US person, and a covered person (28 CFR 202).
const US_PERSON_ATTRIBUTE: &str = "us_person";
const COVERED_PERSON_ATTRIBUTE: &str = "covered_person";
const YES: &str = "yes";
const NO: &str = "no";

/// The law and the facts it is asked with.
#[derive(Debug)]
pub(super) struct Law {
    pack: Pack,
    bases: Vec<Basis>,
    entities: BTreeMap<EntityId, Entity>,
    gateway: GatewayFacts,
}

/// What a session stands on.
#[derive(Debug, Clone)]
pub(super) struct Residency {
    /// The decision that applies.
    pub(super) applied: Decision,
    /// The decision that forbids showing any class, where the session is to be held without any.
    pub(super) suppressed_by: Option<Decision>,
}

/// Who asks, from where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Viewer<'a> {
    pub(super) principal: &'a Principal,
    pub(super) origin: &'a Origin,
}

impl Law {
    /// The law as it stands, or the entity that is declared twice.
    pub(super) fn new(
        pack: Pack,
        bases: Vec<Basis>,
        entities: Vec<Entity>,
        gateway: GatewayFacts,
    ) -> Result<Self, EntityId> {
        let mut by_id = BTreeMap::new();
        for entity in entities {
            if let Some(twice) = by_id.insert(entity.id.clone(), entity) {
                return Err(twice.id);
            }
        }
        Ok(Self { pack, bases, entities: by_id, gateway })
    }

    pub(super) fn pack(&self) -> &Pack {
        &self.pack
    }

    /// What ends within `days` after `date`, or has ended.
    pub(super) fn expiring(&self, date: Date, days: u16) -> Vec<Expiring> {
        transfer::expiring(&self.bases, &self.pack, date, days)
    }

    pub(super) fn gateway(&self) -> &GatewayFacts {
        &self.gateway
    }

    /// A basis on file.
    pub(super) fn basis(&self, id: &RuleId) -> Option<&Basis> {
        self.bases.iter().find(|basis| basis.id == *id)
    }

    pub(super) fn entity(&self, id: Option<&EntityId>) -> Option<&Entity> {
        self.entities.get(id?)
    }

    /// The entity of whoever looks: the gateway looks for the entity that runs it.
    pub(super) fn entity_of(&self, principal: &Principal) -> Option<&Entity> {
        let own = match principal.kind {
            Kind::Gateway => self.gateway.entity.as_ref(),
            Kind::Person | Kind::Workload | Kind::Agent => None,
        };
        self.entity(principal.entity.as_ref().or(own))
    }

    /// At connect: every class of the target, as if nothing were masked. Where that is forbidden
    /// and the target says so, the session is judged again with every class suppressed.
    pub(super) fn session(&self, viewer: Viewer<'_>, place: &Place, date: Date) -> Residency {
        let classes = &place.facts.classes;
        let judge = |suppression| self.judge(viewer, place, (Op::Read, classes, suppression), date);
        let plain = judge(Suppression::None);
        if plain.outcome.is_allowed() {
            return Residency { applied: plain, suppressed_by: None };
        }
        match place.facts.without_basis {
            WithoutBasis::Refuse => Residency { applied: plain, suppressed_by: None },
            WithoutBasis::Mask => {
                let suppressed = judge(Suppression::Null);
                if suppressed.outcome.is_allowed() {
                    Residency { applied: suppressed, suppressed_by: Some(plain) }
                } else {
                    Residency { applied: plain, suppressed_by: None }
                }
            }
        }
    }

    /// `classes` of a target becoming visible to a viewer, or going to it.
    pub(super) fn flow(
        &self,
        viewer: Viewer<'_>,
        place: &Place,
        (op, classes): (Op, &BTreeSet<DataClass>),
        date: Date,
    ) -> Decision {
        self.judge(viewer, place, (op, classes, Suppression::None), date)
    }

    fn judge(
        &self,
        viewer: Viewer<'_>,
        place: &Place,
        (op, classes, suppression): (Op, &BTreeSet<DataClass>, Suppression),
        date: Date,
    ) -> Decision {
        let Viewer { principal, origin } = viewer;
        let link = match principal.attributes.get(LINK_ATTRIBUTE).map(String::as_str) {
            Some(CONTRACTOR) => Link::Contractor,
            Some(_) | None => Link::Employee,
        };
        let says = |name: &str| principal.attributes.get(name).map(String::as_str);
        let flow = Flow {
            date,
            data: Data {
                country: &place.facts.country,
                classes,
                laws: &place.facts.laws,
                owner: &place.owner,
                us_persons: place.facts.us_persons,
            },
            asker: Asker {
                entity: self.entity_of(principal),
                link,
                from: origin.country.as_ref(),
                residence: principal.residence.as_ref(),
                // What is neither yes nor no lets nobody off.
                us_person: says(US_PERSON_ATTRIBUTE).map(|word| word == YES),
                covered_person: says(COVERED_PERSON_ATTRIBUTE).is_some_and(|word| word != NO),
            },
            path: Path {
                gateway: &self.gateway.country,
                recording: &self.gateway.recording_country,
                caches: &[],
            },
            op,
            suppression,
        };
        transfer::decide(&flow, &self.pack, &self.bases)
    }
}

/// The day of `now`, UTC: law changes by days.
pub(super) fn day(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

/// The first moment at which a decision is no longer known to hold; `None`: no such moment.
pub(super) fn ends(decision: &Decision) -> Option<Timestamp> {
    let after = decision.valid_until?.tomorrow().ok()?;
    after.to_zoned(TimeZone::UTC).ok().map(|start| start.timestamp())
}

/// The word that policies read.
pub(super) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::None => "none",
        Outcome::NoneLogged => "none-logged",
        Outcome::Transfer => "transfer",
        Outcome::Forbidden { .. } => "forbidden",
    }
}
