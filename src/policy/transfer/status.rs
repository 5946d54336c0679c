//! Regimes that ask who somebody is, and not where data goes: 28 CFR 202.
//!
//! Covered persons are those of countries of concern, designated ones, and entities that declare it.
//! What is bulk is said by thresholds; what a transaction then needs, by mechanisms with `when`.

use crate::model::Country;
use crate::model::RuleId;
use crate::model::principal::Entity;
use crate::policy::transfer::cover::Cover;
use crate::policy::transfer::cover::Importer;
use crate::policy::transfer::cover::Need;
use crate::policy::transfer::cover::push;
use crate::policy::transfer::decide::Movement;
use crate::policy::transfer::decision::Leg;
use crate::policy::transfer::decision::LegDecision;
use crate::policy::transfer::decision::Outcome;
use crate::policy::transfer::decision::Why;
use crate::policy::transfer::flow::Direction;
use crate::policy::transfer::grounds::Mechanism;
use crate::policy::transfer::grounds::MechanismKind;
use crate::policy::transfer::grounds::Relation;
use crate::policy::transfer::grounds::Toward;
use crate::policy::transfer::grounds::When;
use crate::policy::transfer::grounds::admits;
use crate::policy::transfer::rows::Row;
use crate::policy::transfer::rows::touches;
use crate::policy::transfer::under::Under;
use crate::policy::transfer::under::abroad;
use crate::policy::transfer::under::joined;

/// The attribute by which an entity outside the United States declares that it is a US person.
pub(super) const US_PERSON: &str = "us_person";
/// The attribute by which an entity is declared a covered person: owned by half or more, designated.
pub(super) const COVERED_PERSON: &str = "covered_person";

/// The United States; an exporter in its territories counts as well.
const UNITED_STATES: &str = "US";
const TERRITORIES: [&str; 6] = ["AS", "GU", "MP", "PR", "UM", "VI"];

/// Whether data of US persons may be involved, and the exporter is one.
pub(super) fn concerned(exporter: &Entity, us_persons: Option<u64>) -> bool {
    us_persons != Some(0) && is_us_person(exporter)
}

fn is_us_person(entity: &Entity) -> bool {
    let country = entity.country.as_str();
    country == UNITED_STATES || TERRITORIES.contains(&country) || admits(entity, US_PERSON)
}

/// What whoever gets the data is to the regime.
enum Standing {
    Covered(RuleId),
    /// Looks from a country of concern, and nobody knows where they live.
    Unknown(RuleId),
    /// A US person; with the country of concern that they look from.
    Ours(Option<RuleId>),
    Foreign,
}

impl Under<'_> {
    /// The person's leg.
    pub(super) fn status(&self) -> LegDecision {
        let leg = |outcome, rows| self.movement.leg(Leg::Person, outcome, rows);
        match self.standing() {
            Standing::Covered(row) => self.transaction(Toward::Covered, Some(row)),
            Standing::Foreign => self.transaction(Toward::Foreign, None),
            Standing::Ours(Some(row)) => leg(Outcome::NoneLogged, vec![row]),
            Standing::Ours(None) => leg(Outcome::None, Vec::new()),
            Standing::Unknown(row) => {
                let unknown = Some("where they primarily live".to_owned());
                let refused = self.movement.forbidden(Leg::Person, Why::Concern, vec![row]);
                LegDecision { unknown, ..refused }
            }
        }
    }

    fn standing(&self) -> Standing {
        let Movement { flow, importer, from, .. } = *self.movement;
        if let Some(row) = self.concern(&importer.country) {
            return Standing::Covered(row);
        }
        if admits(importer, COVERED_PERSON) {
            return Standing::Covered(self.regime.rule());
        }
        // Who reads what is written is not known here; it is the owner that gets it.
        if flow.op.direction() == Direction::ToPrincipal {
            let asker = flow.asker;
            if asker.covered_person {
                return Standing::Covered(self.regime.rule());
            }
            let there = |country: &Country| country.as_str() == UNITED_STATES;
            let by_place = there(from) || asker.residence.is_some_and(there);
            let looks_from = self.concern(from);
            if asker.us_person.unwrap_or(by_place) {
                return Standing::Ours(looks_from);
            }
            match (asker.residence.map(|country| self.concern(country)), looks_from) {
                (Some(Some(row)), _) => return Standing::Covered(row),
                (None, Some(row)) => return Standing::Unknown(row),
                (Some(None) | None, _) => {}
            }
        }
        if is_us_person(importer) { Standing::Ours(None) } else { Standing::Foreign }
    }

    /// What a transaction needs, if the data is bulk.
    fn transaction(&self, toward: Toward, of_concern: Option<RuleId>) -> LegDecision {
        let Movement { exporter, importer, place, suppression, .. } = *self.movement;
        let bulk = self.bulk();
        let covered = toward == Toward::Covered;
        if bulk.is_empty() {
            let outcome = if covered { Outcome::NoneLogged } else { Outcome::None };
            return self.movement.leg(Leg::Person, outcome, of_concern.into_iter().collect());
        }
        let own = exporter.id == importer.id;
        let relation = match toward {
            Toward::Covered if own => Some(Relation::Employment),
            Toward::Covered => Some(Relation::strictest(importer)),
            // With anybody else only a sale of data that is declared as one asks for a clause.
            Toward::Foreign => Relation::declared(importer),
        };
        let rows = of_concern.into_iter().chain(bulk).collect::<Vec<_>>();
        let fits = |row: &&Mechanism| self.is_made_for(row, toward, relation);
        let mut all = self.movement.pack.file.mechanism.iter().filter(fits);
        let prohibits = |row: &&Mechanism| row.kind == MechanismKind::Prohibition;
        if let Some(row) = all.clone().find(prohibits) {
            let rows = joined(rows, vec![row.rule()]);
            return self.movement.forbidden(Leg::Person, Why::Concern, rows);
        }
        let serving = all.clone().map(Row::rule).collect::<Vec<_>>();
        if serving.is_empty() && !covered {
            return self.movement.leg(Leg::Person, Outcome::None, rows);
        }
        let need = self.need(Importer::Entity(importer), place, suppression);
        let need = Need { only: Some(&serving), ..need };
        match need.cover() {
            Cover::Found { rows: by, bases, alone } => {
                let found = self.movement.leg(Leg::Person, Outcome::Transfer, joined(by, rows));
                LegDecision { bases, alone, ..found }
            }
            Cover::Missing { why, rows: by } => {
                let usual = all.next().map(Row::rule);
                let rows = joined(joined(rows, usual.into_iter().collect()), by);
                let unknown = self.movement.flow.data.us_persons.is_none();
                let why = if why != Why::NoBasis {
                    why
                } else if unknown {
                    Why::Counter
                } else if covered {
                    Why::Concern
                } else {
                    Why::NoBasis
                };
                self.missing(Leg::Person, why, rows, &need)
            }
        }
    }

    fn is_made_for(&self, row: &Mechanism, toward: Toward, relation: Option<Relation>) -> bool {
        let made_for = |when: &When| {
            let classes = &when.classes;
            when.toward == toward
                && (when.relations.is_empty()
                    || relation.is_some_and(|one| when.relations.contains(&one)))
                && (classes.is_empty() || self.classes.iter().any(|one| touches(classes, one)))
        };
        row.regime == self.regime.law
            && row.window().holds(self.movement.flow.date)
            && row.when.as_ref().is_some_and(made_for)
    }

    /// The rows by which this is bulk data; none: it is not.
    fn bulk(&self) -> Vec<RuleId> {
        let all = self.thresholds().collect::<Vec<_>>();
        let holds = |counts| self.number(counts);
        let beyond = all.iter().filter(|row| row.counts.is_none_or(|c| holds(c) >= row.at_least));
        let mut rows = beyond.map(|row| row.rule()).collect::<Vec<_>>();
        if all.len() > 1 && !rows.is_empty() {
            let file = &self.movement.pack.file;
            let mut combined = file.threshold.iter().filter(|row| {
                row.combined
                    && row.regime == self.regime.law
                    && row.window().holds(self.movement.flow.date)
            });
            combined.by_ref().for_each(|row| push(&mut rows, row.rule()));
        }
        rows
    }

    /// A machine in a country of concern is run by a covered person, of whom nothing is declared.
    pub(super) fn machine_of_concern(&self, leg: Leg, country: &Country) -> LegDecision {
        let Some(row) = self.concern(country) else {
            return self.movement.leg(leg, Outcome::None, Vec::new());
        };
        let bulk = self.bulk();
        if bulk.is_empty() {
            return self.movement.leg(leg, Outcome::NoneLogged, vec![row]);
        }
        let rows = joined(vec![row], bulk);
        self.movement.forbidden(leg, abroad(leg, Why::Concern), rows)
    }
}
