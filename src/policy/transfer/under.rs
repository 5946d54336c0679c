//! One movement under one regime: STEP-5, the person, and STEP-6, the machines on the way.
//!
//! Knows whom a regime sees as foreign, and what has to stay. What then covers a transfer is in
//! `cover` and `count`; regimes that ask who somebody is are in `status`.

use crate::model::Country;
use crate::model::DataClass;
use crate::model::RuleId;
use crate::policy::transfer::cover::Cover;
use crate::policy::transfer::cover::Importer;
use crate::policy::transfer::cover::Need;
use crate::policy::transfer::cover::push;
use crate::policy::transfer::decide::Movement;
use crate::policy::transfer::decision::Leg;
use crate::policy::transfer::decision::LegDecision;
use crate::policy::transfer::decision::Outcome;
use crate::policy::transfer::decision::Remedy;
use crate::policy::transfer::decision::Why;
use crate::policy::transfer::flow::Direction;
use crate::policy::transfer::flow::Suppression;
use crate::policy::transfer::limits::Abroad;
use crate::policy::transfer::limits::Localization;
use crate::policy::transfer::rows::Fallback;
use crate::policy::transfer::rows::OwnStaff;
use crate::policy::transfer::rows::Regime;
use crate::policy::transfer::rows::Row;
use crate::policy::transfer::rows::Test;
use crate::policy::transfer::rows::Zone;
use crate::policy::transfer::rows::touches;

/// A movement under one regime.
pub(super) struct Under<'a> {
    pub(super) movement: &'a Movement<'a>,
    pub(super) regime: &'a Regime,
    /// The classes that the regime covers; at least one.
    pub(super) classes: &'a [&'a DataClass],
}

impl<'a> Under<'a> {
    /// STEP-5: the person, or on a write the target's owner.
    pub(super) fn person(&self) -> LegDecision {
        let Movement { exporter, importer, place, suppression, .. } = *self.movement;
        let exempt = match suppression {
            Suppression::None => false,
            Suppression::Token => self.regime.token_exempt,
            Suppression::Null => self.regime.null_exempt,
        };
        if exempt {
            let relevance = self.movement.pack.file.steps.relevance.clone();
            return self.movement.leg(Leg::Person, Outcome::NoneLogged, vec![relevance]);
        }
        if let Some(row) = self.has_to_stay() {
            return self.movement.forbidden(Leg::Person, Why::Localized, vec![row.rule()]);
        }
        let own = exporter.id == importer.id;
        let of_entity = || self.zone(&importer.country);
        match self.regime.test {
            Test::Entity if own => self.own_staff(),
            Test::Entity => match of_entity() {
                Some(row) => self.inside(row),
                None => self.other_entity(),
            },
            Test::Place => match self.zone(place) {
                Some(row) => self.inside(row),
                None if own => self.own_staff(),
                None => self.other_entity(),
            },
            Test::EntityOrPlace => match self.zone(place) {
                Some(row) if own || of_entity().is_some() => self.inside(row),
                None if own => self.own_staff(),
                Some(_) | None => self.other_entity(),
            },
            Test::Status => self.status(),
        }
    }

    /// The row by which the data may not get to where the importer would see it.
    fn has_to_stay(&self) -> Option<&'a Localization> {
        if self.zone(self.movement.place).is_some() {
            return None;
        }
        match self.movement.flow.op.direction() {
            Direction::ToTarget => {
                self.localization(|row| [row.store, row.collect].contains(&Abroad::Forbidden))
            }
            Direction::ToPrincipal | Direction::Elsewhere => {
                self.localization(|row| row.view == Abroad::Forbidden)
            }
        }
    }

    /// The exporter's own employee: the law asks only where he looks from.
    fn own_staff(&self) -> LegDecision {
        let cites = &self.regime.cites;
        if let Some(row) = self.zone(self.movement.from) {
            return self.movement.leg(Leg::Person, Outcome::None, vec![row]);
        }
        match self.regime.own_staff_abroad {
            OwnStaff::NoneLog => {
                let rows = vec![cites.same_entity.clone()];
                self.movement.leg(Leg::Person, Outcome::NoneLogged, rows)
            }
            OwnStaff::Transfer => self.other_entity(),
            OwnStaff::Forbidden => {
                let rows = vec![self.regime.rule()];
                self.movement.forbidden(Leg::Person, Why::Localized, rows)
            }
        }
    }

    /// The importer is inside the zone: no transfer, but its person may be on a trip.
    fn inside(&self, row: RuleId) -> LegDecision {
        let cites = &self.regime.cites;
        let rows = cites.inside.iter().cloned().chain([row]);
        if self.zone(self.movement.from).is_none() {
            let rows = std::iter::once(cites.third_country.clone()).chain(rows).collect();
            self.movement.leg(Leg::Person, Outcome::NoneLogged, rows)
        } else {
            self.movement.leg(Leg::Person, Outcome::None, rows.collect())
        }
    }

    fn other_entity(&self) -> LegDecision {
        let importer = Importer::Entity(self.movement.importer);
        let suppression = self.movement.suppression;
        self.covered(Leg::Person, importer, self.movement.place, suppression)
    }

    /// STEP-6: a machine on the way. Being of the same entity excuses people only.
    pub(super) fn machine(&self, leg: Leg, country: &'a Country) -> LegDecision {
        at(self.machine_in(leg, country), country)
    }

    fn machine_in(&self, leg: Leg, country: &'a Country) -> LegDecision {
        if self.regime.test == Test::Status {
            return self.machine_of_concern(leg, country);
        }
        if let Some(row) = self.zone(country) {
            return self.movement.leg(leg, Outcome::None, vec![row]);
        }
        // A machine in the data's own country adds nothing.
        if country == self.movement.source {
            return self.movement.leg(leg, Outcome::None, Vec::new());
        }
        let stays = self.localization(|row| match leg {
            Leg::Gateway => row.process == Abroad::Forbidden,
            Leg::Cache | Leg::Target => row.store == Abroad::Forbidden,
            Leg::Recording | Leg::Person => false,
        });
        if let Some(row) = stays {
            return self.movement.forbidden(leg, abroad(leg, Why::Localized), vec![row.rule()]);
        }
        if leg == Leg::Recording {
            // Whatever adequacy says.
            return self.movement.forbidden(leg, Why::RecordingRegion, Vec::new());
        }
        let mut judged = self.covered(leg, Importer::Host(country), country, Suppression::None);
        if let Outcome::Forbidden { why } = judged.outcome {
            judged.outcome = Outcome::Forbidden { why: abroad(leg, why) };
        }
        judged
    }

    /// On a write: the machine that stores. Where the owner is another entity outside the zone, the
    /// person's leg has judged this place already.
    pub(super) fn stored(&self) -> LegDecision {
        let Movement { exporter, importer, place, .. } = *self.movement;
        let by_entity = match self.regime.test {
            Test::Entity | Test::Place | Test::EntityOrPlace => true,
            Test::Status => false,
        };
        let other = exporter.id != importer.id && self.zone(&importer.country).is_none();
        if by_entity && other {
            return self.movement.leg(Leg::Target, Outcome::None, Vec::new());
        }
        self.machine(Leg::Target, place)
    }

    /// A transfer that needs a basis: what covers it, or what the regime says where nothing does.
    fn covered(
        &self,
        leg: Leg,
        importer: Importer<'a>,
        place: &'a Country,
        suppression: Suppression,
    ) -> LegDecision {
        let need = self.need(importer, place, suppression);
        let listed =
            [place, importer.country()].into_iter().find_map(|country| self.concern(country));
        let mut judged = match (self.regime.default, listed) {
            (Fallback::Count, _) => self.counted(leg, need),
            (Fallback::Transfer, Some(row)) => {
                self.movement.forbidden(leg, Why::Concern, vec![row])
            }
            (Fallback::Transfer | Fallback::Allow | Fallback::Deny, _) => self.by_basis(leg, need),
        };
        judged.importer = Some(importer.party());
        judged.place = Some(place.clone());
        judged
    }

    fn by_basis(&self, leg: Leg, need: Need<'a>) -> LegDecision {
        let (why, rows) = match need.cover() {
            Cover::Found { rows, bases, alone } => {
                let found = self.movement.leg(leg, Outcome::Transfer, rows);
                return LegDecision { bases, alone, ..found };
            }
            Cover::Missing { why, rows } => (why, rows),
        };
        let denies = self.classes.iter().any(|class| touches(&self.regime.denies, class));
        match self.regime.default {
            Fallback::Allow if !denies => self.movement.leg(leg, Outcome::NoneLogged, rows),
            Fallback::Transfer if !denies => {
                let rows = vec![self.regime.cites.third_country.clone()];
                self.movement.leg(leg, Outcome::Transfer, rows)
            }
            Fallback::Allow | Fallback::Transfer | Fallback::Deny | Fallback::Count => {
                self.missing(leg, why, rows, &need)
            }
        }
    }

    /// A refusal, with the mechanism that would usually help.
    pub(super) fn missing(
        &self,
        leg: Leg,
        why: Why,
        rows: Vec<RuleId>,
        need: &Need<'a>,
    ) -> LegDecision {
        let remedy = need.remedy().map(|row| Remedy {
            mechanism: row.rule(),
            name: row.name.clone(),
            needs_tia: row.needs_tia,
        });
        LegDecision { remedy, ..self.movement.forbidden(leg, why, rows) }
    }

    pub(super) fn need(
        &self,
        importer: Importer<'a>,
        place: &'a Country,
        suppression: Suppression,
    ) -> Need<'a> {
        Need {
            pack: self.movement.pack,
            bases: self.movement.bases,
            regime: self.regime,
            date: self.movement.flow.date,
            exporter: self.movement.exporter,
            importer,
            place,
            classes: self.classes,
            suppression,
            only: None,
        }
    }

    /// The row by which `country` lies inside the zone.
    fn zone(&self, country: &Country) -> Option<RuleId> {
        let Movement { pack, flow, .. } = *self.movement;
        match self.regime.zone {
            Zone::Listed => pack.in_zone(&self.regime.law, country, flow.date).map(Row::rule),
            Zone::Home => (country == flow.data.country).then(|| self.regime.rule()),
        }
    }

    /// The row by which `country` is one of concern.
    pub(super) fn concern(&self, country: &Country) -> Option<RuleId> {
        let Movement { pack, flow, .. } = *self.movement;
        pack.concern(&self.regime.law, country, flow.date).map(Row::rule)
    }

    /// The first row on what has to stay that speaks of this data, and says `what`.
    pub(super) fn localization(
        &self,
        what: impl Fn(&Localization) -> bool,
    ) -> Option<&'a Localization> {
        let Movement { pack, flow, exporter, .. } = *self.movement;
        pack.file.localization.iter().find(|row| {
            row.regime == self.regime.law
                && row.window().holds(flow.date)
                && row.speaks_of(exporter, self.classes)
                && what(row)
        })
    }
}

/// The reason of a refusal of a machine abroad: that of the place where it stands, or `other`.
pub(super) fn abroad(leg: Leg, other: Why) -> Why {
    match leg {
        Leg::Gateway => Why::GatewayRegion,
        Leg::Recording => Why::RecordingRegion,
        Leg::Cache => Why::CacheRegion,
        Leg::Person | Leg::Target => other,
    }
}

/// The rows of `first`, then those of `then` that are not among them.
pub(super) fn joined(mut first: Vec<RuleId>, then: Vec<RuleId>) -> Vec<RuleId> {
    for row in then {
        push(&mut first, row);
    }
    first
}

/// The leg, with the machine as its importer.
fn at(leg: LegDecision, country: &Country) -> LegDecision {
    let importer = Some(Importer::Host(country).party());
    LegDecision { importer, place: Some(country.clone()), ..leg }
}
