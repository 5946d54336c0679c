//! The decision: STEP-1 to STEP-6, STEP-9 and STEP-10 of the algorithm; STEP-7 is in `cover`.
//!
//! Pure: the day is an input, and nothing is read or remembered.

use jiff::civil::Date;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::RuleId;
use crate::model::principal::Entity;
use crate::policy::transfer::basis::Assessment;
use crate::policy::transfer::basis::Basis;
use crate::policy::transfer::cover::Cover;
use crate::policy::transfer::cover::Importer;
use crate::policy::transfer::cover::Need;
use crate::policy::transfer::cover::push;
use crate::policy::transfer::decision::Decision;
use crate::policy::transfer::decision::Leg;
use crate::policy::transfer::decision::LegDecision;
use crate::policy::transfer::decision::Outcome;
use crate::policy::transfer::decision::Party;
use crate::policy::transfer::decision::Remedy;
use crate::policy::transfer::decision::Why;
use crate::policy::transfer::flow::Direction;
use crate::policy::transfer::flow::Flow;
use crate::policy::transfer::flow::Link;
use crate::policy::transfer::flow::Suppression;
use crate::policy::transfer::pack::Pack;
use crate::policy::transfer::rows::Attach;
use crate::policy::transfer::rows::Fallback;
use crate::policy::transfer::rows::Kind;
use crate::policy::transfer::rows::OwnStaff;
use crate::policy::transfer::rows::Regime;
use crate::policy::transfer::rows::Row;
use crate::policy::transfer::rows::Test;
use crate::policy::transfer::rows::Window;

/// Decides one flow: given what was declared, may this data become available there, and on what
/// basis? See the [module](crate::policy::transfer) for what the answer is worth.
pub fn decide(flow: &Flow<'_>, pack: &Pack, bases: &[Basis]) -> Decision {
    let legs = match Movement::of(flow, pack, bases) {
        Ok(movement) => movement.judge(),
        Err(leg) => vec![*leg],
    };
    Decision::of(legs, constant_until(flow, pack, bases))
}

/// A flow of which all parts are known: who exports to whom, from where to where.
struct Movement<'a> {
    flow: &'a Flow<'a>,
    pack: &'a Pack,
    bases: &'a [Basis],
    exporter: &'a Entity,
    importer: &'a Entity,
    /// Where the data comes from: its country's law attaches.
    source: &'a Country,
    /// Where the importer gets to see it.
    place: &'a Country,
    /// Where the person is.
    from: &'a Country,
    kinds: Vec<(&'a DataClass, Kind)>,
    suppression: Suppression,
}

impl<'a> Movement<'a> {
    /// STEP-1 and STEP-2.
    fn of(
        flow: &'a Flow<'a>,
        pack: &'a Pack,
        bases: &'a [Basis],
    ) -> Result<Self, Box<LegDecision>> {
        let unknown = |why, what: String| {
            let mut leg = bare(why, pack.file.steps.normalize.clone());
            leg.place = flow.asker.from.cloned();
            leg.unknown = Some(what);
            Box::new(leg)
        };
        let Some(from) = flow.asker.from else {
            return Err(unknown(Why::UnknownCountry, "the country of access".to_owned()));
        };
        if let Some(country) = countries(flow).find(|country| !pack.knows_country(country)) {
            return Err(unknown(Why::UnknownCountry, format!("{country} is no assigned code")));
        }
        let mut kinds = Vec::new();
        for class in flow.data.classes {
            let Some(row) = pack.class(class, flow.date) else {
                return Err(unknown(Why::UnknownClass, class.to_string()));
            };
            kinds.push((class, row.kind));
        }
        let Some(asker) = flow.asker.entity else {
            return Err(unknown(Why::UnknownEntity, "no configured entity".to_owned()));
        };
        let owner = flow.data.owner;
        if flow.asker.link == Link::Contractor && asker.id == owner.id {
            let what = format!("a contractor of {} is an entity of their own", owner.id);
            return Err(unknown(Why::UnknownEntity, what));
        }
        let common = |exporter, importer, source, place, suppression| Self {
            flow,
            pack,
            bases,
            exporter,
            importer,
            source,
            place,
            from,
            kinds,
            suppression,
        };
        match flow.op.direction() {
            Direction::ToPrincipal => {
                Ok(common(owner, asker, flow.data.country, from, flow.suppression))
            }
            // What a principal sends is not masked: a claimed suppression does not count.
            Direction::ToTarget => {
                let place = flow.data.country;
                Ok(common(asker, owner, &asker.country, place, Suppression::None))
            }
            Direction::Elsewhere => {
                let mut leg = bare(Why::UnknownDestination, pack.file.steps.direction.clone());
                leg.exporter = Some(Party::of(owner));
                Err(Box::new(leg))
            }
        }
    }

    /// STEP-3: which laws are asked; then each leg under each.
    fn judge(&self) -> Vec<LegDecision> {
        let relevant = self.kinds.iter().any(|(_, kind)| match kind {
            Kind::Personal | Kind::Important | Kind::Government => true,
            Kind::Plain => false,
        });
        let relevance = self.pack.file.steps.relevance.clone();
        if !relevant {
            return vec![self.leg(Leg::Person, Outcome::None, vec![relevance])];
        }
        let mut legs = self.unknown_laws();
        for regime in &self.pack.file.regime {
            if regime.window().holds(self.flow.date) {
                legs.extend(self.judge_under(regime));
            }
        }
        if legs.is_empty() {
            let known = self.pack.no_regime(self.source, self.flow.date).map(Row::rule);
            let rows = std::iter::once(relevance).chain(known).collect();
            legs.push(self.leg(Leg::Person, Outcome::None, rows));
        }
        legs
    }

    /// Laws that apply, or may, and that the pack does not have: unknown is no.
    fn unknown_laws(&self) -> Vec<LegDecision> {
        let date = self.flow.date;
        let relevance = &self.pack.file.steps.relevance;
        let mut legs = Vec::new();
        let mut unknown = |what: String, further: Option<RuleId>| {
            let rows = std::iter::once(relevance.clone()).chain(further).collect();
            let mut leg = self.forbidden(Leg::Person, Why::UnknownRegime, rows);
            leg.unknown = Some(what);
            legs.push(leg);
        };
        let mut regimes = self.pack.file.regime.iter().filter(|regime| regime.window().holds(date));
        let of_source = |regime: &Regime| {
            regime.attaches.contains(&Attach::Location)
                && self.pack.in_zone(&regime.law, self.source, date).is_some()
        };
        let known = regimes.clone().any(of_source);
        if !known && self.pack.no_regime(self.source, date).is_none() {
            unknown(format!("that of {}", self.source), None);
        }
        for law in self.flow.data.laws {
            let declarable = |regime: &&Regime| {
                regime.law == *law && regime.attaches.contains(&Attach::Declared)
            };
            if !regimes.clone().any(|regime| declarable(&regime)) {
                unknown(format!("the declared law {law}"), None);
            }
        }
        let refused = regimes.find_map(|regime| {
            let refused = |class: &&DataClass| regime.refuses.iter().any(|own| own.covers(class));
            let (class, _) = self.kinds.iter().find(|(class, _)| refused(class))?;
            self.attached(regime).map(|_| (regime, class))
        });
        if let Some((regime, class)) = refused {
            unknown(format!("{class} is not under {}", regime.law), Some(regime.rule()));
        }
        for code in [self.source, &self.exporter.country] {
            let Some(row) = self.pack.no_regime(code, date) else { continue };
            let toward = countries(self.flow).find(|country| row.except_toward.contains(*country));
            if let Some(toward) = toward {
                unknown(format!("that of {code} toward {toward}"), Some(row.rule()));
            }
        }
        legs
    }

    /// Why a regime attaches to this flow, if it does.
    fn attached(&self, regime: &Regime) -> Option<RuleId> {
        let zone = |country| self.pack.in_zone(&regime.law, country, self.flow.date).map(Row::rule);
        regime.attaches.iter().find_map(|attach| match attach {
            Attach::Location => zone(self.source),
            Attach::Exporter => zone(&self.exporter.country),
            Attach::Declared => {
                self.flow.data.laws.contains(&regime.law).then(|| regime.cites.attached.clone())
            }
        })
    }

    /// All legs under one regime. Empty where it does not attach, or covers none of the classes.
    fn judge_under(&self, regime: &Regime) -> Vec<LegDecision> {
        let Some(attached) = self.attached(regime) else { return Vec::new() };
        let covered = self.kinds.iter().filter(|(_, kind)| regime.covers.contains(kind));
        let classes = covered.map(|(class, _)| *class).collect::<Vec<_>>();
        if classes.is_empty() {
            return Vec::new();
        }
        let under = Under { movement: self, regime, classes: &classes };
        let mut legs = vec![
            under.person(),
            under.machine(Leg::Gateway, self.flow.path.gateway),
            under.machine(Leg::Recording, self.flow.path.recording),
        ];
        if self.flow.op.direction() == Direction::ToTarget {
            legs.push(under.stored());
        }
        for leg in &mut legs {
            leg.regime = Some(regime.rule());
            push(&mut leg.rows, regime.rule());
            push(&mut leg.rows, attached.clone());
        }
        legs
    }

    fn leg(&self, leg: Leg, outcome: Outcome, rows: Vec<RuleId>) -> LegDecision {
        LegDecision {
            leg,
            regime: None,
            outcome,
            rows,
            bases: Vec::new(),
            alone: None,
            exporter: Some(Party::of(self.exporter)),
            importer: Some(Party::of(self.importer)),
            place: Some(self.place.clone()),
            unknown: None,
            remedy: None,
        }
    }

    fn forbidden(&self, leg: Leg, why: Why, rows: Vec<RuleId>) -> LegDecision {
        self.leg(leg, Outcome::Forbidden { why }, rows)
    }
}

/// A movement under one regime.
struct Under<'a> {
    movement: &'a Movement<'a>,
    regime: &'a Regime,
    classes: &'a [&'a DataClass],
}

impl<'a> Under<'a> {
    /// STEP-5: the person, or on a write the target's owner.
    fn person(&self) -> LegDecision {
        let Movement { exporter, importer, suppression, .. } = *self.movement;
        let exempt = match suppression {
            Suppression::None => false,
            Suppression::Token => self.regime.token_exempt,
            Suppression::Null => self.regime.null_exempt,
        };
        if exempt {
            let relevance = self.movement.pack.file.steps.relevance.clone();
            return self.movement.leg(Leg::Person, Outcome::NoneLogged, vec![relevance]);
        }
        let own = exporter.id == importer.id;
        match self.regime.test {
            Test::Entity if own => self.own_staff(),
            Test::Entity => match self.zone(&importer.country) {
                Some(row) => self.inside(row),
                None => self.other_entity(),
            },
            Test::Place => match self.zone(self.movement.place) {
                Some(row) => self.inside(row),
                None if own => self.own_staff(),
                None => self.other_entity(),
            },
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
        let away = self.zone(self.movement.from).is_none();
        let third_country = self.regime.cites.third_country.clone();
        if away {
            self.movement.leg(Leg::Person, Outcome::NoneLogged, vec![third_country, row])
        } else {
            self.movement.leg(Leg::Person, Outcome::None, vec![row])
        }
    }

    fn other_entity(&self) -> LegDecision {
        let importer = Importer::Entity(self.movement.importer);
        let suppression = self.movement.suppression;
        self.covered(Leg::Person, importer, self.movement.place, suppression)
    }

    /// STEP-6: a machine on the way. Being of the same entity excuses people only.
    fn machine(&self, leg: Leg, country: &'a Country) -> LegDecision {
        if let Some(row) = self.zone(country) {
            return at(self.movement.leg(leg, Outcome::None, vec![row]), country);
        }
        // A machine in the data's own country adds nothing.
        if country == self.movement.source {
            return at(self.movement.leg(leg, Outcome::None, Vec::new()), country);
        }
        let mut judged = self.covered(leg, Importer::Host(country), country, Suppression::None);
        match leg {
            Leg::Gateway if !judged.outcome.is_allowed() => {
                judged.outcome = Outcome::Forbidden { why: Why::GatewayRegion };
            }
            // Whatever adequacy says.
            Leg::Recording => {
                let forbidden = Outcome::Forbidden { why: Why::RecordingRegion };
                judged = self.movement.leg(leg, forbidden, Vec::new());
            }
            Leg::Gateway | Leg::Person | Leg::Target => {}
        }
        at(judged, country)
    }

    /// On a write: the machine that stores. Where the owner is another entity outside the zone, the
    /// person's leg has judged this place already.
    fn stored(&self) -> LegDecision {
        let Movement { exporter, importer, place, .. } = *self.movement;
        let judged = exporter.id != importer.id && self.zone(&importer.country).is_none();
        if judged {
            return self.movement.leg(Leg::Target, Outcome::None, Vec::new());
        }
        self.machine(Leg::Target, place)
    }

    fn covered(
        &self,
        leg: Leg,
        importer: Importer<'a>,
        place: &'a Country,
        suppression: Suppression,
    ) -> LegDecision {
        let need = Need {
            pack: self.movement.pack,
            bases: self.movement.bases,
            regime: self.regime,
            date: self.movement.flow.date,
            exporter: self.movement.exporter,
            importer,
            place,
            classes: self.classes,
            suppression,
        };
        let mut judged = match need.cover() {
            Cover::Found { rows, bases, alone } => {
                let found = self.movement.leg(leg, Outcome::Transfer, rows);
                LegDecision { bases, alone, ..found }
            }
            Cover::Missing { why, rows } => match self.regime.default {
                Fallback::Allow => self.movement.leg(leg, Outcome::NoneLogged, rows),
                Fallback::Deny => {
                    let remedy = need.remedy().map(|row| Remedy {
                        mechanism: row.rule(),
                        name: row.name.clone(),
                        needs_tia: row.needs_tia,
                    });
                    LegDecision { remedy, ..self.movement.forbidden(leg, why, rows) }
                }
            },
        };
        judged.importer = Some(importer.party());
        judged.place = Some(place.clone());
        judged
    }

    fn zone(&self, country: &Country) -> Option<RuleId> {
        let Movement { pack, flow, .. } = *self.movement;
        pack.in_zone(&self.regime.law, country, flow.date).map(Row::rule)
    }
}

/// The leg, with the machine as its importer.
fn at(leg: LegDecision, country: &Country) -> LegDecision {
    let importer = Some(Importer::Host(country).party());
    LegDecision { importer, place: Some(country.clone()), ..leg }
}

/// A refusal before any law is asked.
fn bare(why: Why, row: RuleId) -> LegDecision {
    LegDecision {
        leg: Leg::Person,
        regime: None,
        outcome: Outcome::Forbidden { why },
        rows: vec![row],
        bases: Vec::new(),
        alone: None,
        exporter: None,
        importer: None,
        place: None,
        unknown: None,
        remedy: None,
    }
}

/// Every country that is named in a flow.
fn countries<'a>(flow: &Flow<'a>) -> impl Iterator<Item = &'a Country> {
    let fixed =
        [flow.data.country, &flow.data.owner.country, flow.path.gateway, flow.path.recording];
    let entity = flow.asker.entity.map(|entity| &entity.country);
    let optional = [entity, flow.asker.from, flow.asker.residence];
    fixed.into_iter().chain(optional.into_iter().flatten())
}

/// STEP-10: the last day before any row, basis or assessment that concerns this flow begins or ends.
/// Looking at all that could matter, not only at what decided, makes the answer constant until then.
fn constant_until(flow: &Flow<'_>, pack: &Pack, bases: &[Basis]) -> Option<Date> {
    let concerned = countries(flow).collect::<Vec<_>>();
    let file = &pack.file;
    let regimes = file.regime.iter().map(Row::window);
    let classes = file.class.iter().map(Row::window);
    let none = file.no_regime.iter().filter(|row| concerned.contains(&&row.code)).map(Row::window);
    let zones = file.jurisdiction.iter().filter(|row| concerned.contains(&&row.code));
    let adequacy = file.adequacy.iter().filter(|row| concerned.contains(&&row.code));
    let concerned_bases = bases.iter().filter(|basis| concerned.contains(&&basis.importer_country));
    let registered = concerned_bases.flat_map(|basis| {
        let mechanism = pack.mechanism(&basis.mechanism).map(Row::window);
        let assessment = basis.tia.as_ref().map(Assessment::window);
        [Some(basis.window()), mechanism, assessment].into_iter().flatten()
    });
    let windows = regimes.chain(classes).chain(none).chain(zones.map(Row::window));
    let windows = windows.chain(adequacy.map(Row::window)).chain(registered);
    windows.filter_map(|window: Window| window.constant_until(flow.date)).min()
}
