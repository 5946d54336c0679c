//! The decision: STEP-1 to STEP-4, STEP-9 and STEP-10 of the algorithm. STEP-5 and STEP-6 are in `under`
//! and `status`, STEP-7 in `cover`, STEP-8 in `count`.
//!
//! Pure: the day is an input, and nothing is read or remembered.

use jiff::civil::Date;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::RuleId;
use crate::model::principal::Entity;
use crate::policy::transfer::basis::Assessment;
use crate::policy::transfer::basis::Basis;
use crate::policy::transfer::cover::push;
use crate::policy::transfer::decision::Decision;
use crate::policy::transfer::decision::Leg;
use crate::policy::transfer::decision::LegDecision;
use crate::policy::transfer::decision::Obligation;
use crate::policy::transfer::decision::Outcome;
use crate::policy::transfer::decision::Party;
use crate::policy::transfer::decision::Why;
use crate::policy::transfer::flow::Direction;
use crate::policy::transfer::flow::Flow;
use crate::policy::transfer::flow::Link;
use crate::policy::transfer::flow::Suppression;
use crate::policy::transfer::pack::Pack;
use crate::policy::transfer::rows::Attach;
use crate::policy::transfer::rows::Duty;
use crate::policy::transfer::rows::Kind;
use crate::policy::transfer::rows::Regime;
use crate::policy::transfer::rows::Row;
use crate::policy::transfer::rows::Window;
use crate::policy::transfer::status;
use crate::policy::transfer::under::Under;

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
pub(super) struct Movement<'a> {
    pub(super) flow: &'a Flow<'a>,
    pub(super) pack: &'a Pack,
    pub(super) bases: &'a [Basis],
    pub(super) exporter: &'a Entity,
    pub(super) importer: &'a Entity,
    /// Where the data comes from: its country's law attaches.
    pub(super) source: &'a Country,
    /// Where the importer gets to see it.
    pub(super) place: &'a Country,
    /// Where the person is.
    pub(super) from: &'a Country,
    pub(super) kinds: Vec<(&'a DataClass, Kind)>,
    pub(super) suppression: Suppression,
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
            Attach::UsPerson => {
                let concerned = status::concerned(self.exporter, self.flow.data.us_persons);
                concerned.then(|| regime.cites.attached.clone())
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
        legs.extend(self.flow.path.caches.iter().map(|at| under.machine(Leg::Cache, at)));
        if self.flow.op.direction() == Direction::ToTarget {
            legs.push(under.stored());
        }
        for leg in &mut legs {
            leg.regime = Some(regime.rule());
            if leg.outcome == Outcome::Transfer {
                leg.duties = regime.obliges.iter().map(|duty| duty_of(*duty)).collect();
            }
            push(&mut leg.rows, regime.rule());
            push(&mut leg.rows, attached.clone());
        }
        legs
    }

    pub(super) fn leg(&self, leg: Leg, outcome: Outcome, rows: Vec<RuleId>) -> LegDecision {
        LegDecision {
            leg,
            regime: None,
            outcome,
            rows,
            bases: Vec::new(),
            alone: None,
            duties: Vec::new(),
            exporter: Some(Party::of(self.exporter)),
            importer: Some(Party::of(self.importer)),
            place: Some(self.place.clone()),
            unknown: None,
            remedy: None,
        }
    }

    pub(super) fn forbidden(&self, leg: Leg, why: Why, rows: Vec<RuleId>) -> LegDecision {
        self.leg(leg, Outcome::Forbidden { why }, rows)
    }
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
        duties: Vec::new(),
        exporter: None,
        importer: None,
        place: None,
        unknown: None,
        remedy: None,
    }
}

fn duty_of(duty: Duty) -> Obligation {
    match duty {
        Duty::Consent => Obligation::ConsentReference,
        Duty::Filing => Obligation::Filing,
    }
}

/// Every country that is named in a flow.
fn countries<'a>(flow: &Flow<'a>) -> impl Iterator<Item = &'a Country> {
    let fixed =
        [flow.data.country, &flow.data.owner.country, flow.path.gateway, flow.path.recording];
    let entity = flow.asker.entity.map(|entity| &entity.country);
    let optional = [entity, flow.asker.from, flow.asker.residence];
    fixed.into_iter().chain(flow.path.caches).chain(optional.into_iter().flatten())
}

/// STEP-10: the last day before any row, basis or assessment that concerns this flow begins or ends.
/// Looking at all that could matter, not only at what decided, makes the answer constant until then.
fn constant_until(flow: &Flow<'_>, pack: &Pack, bases: &[Basis]) -> Option<Date> {
    let places = countries(flow).collect::<Vec<_>>();
    let laws = laws(flow, pack);
    let file = &pack.file;
    let mine = |law: &String| laws.contains(&law.as_str());
    let regimes = file.regime.iter().filter(|row| mine(&row.law)).map(Row::window);
    let classes = file.class.iter().map(Row::window);
    let none = file.no_regime.iter().filter(|row| places.contains(&&row.code)).map(Row::window);
    let zones = file.jurisdiction.iter().filter(|row| places.contains(&&row.code));
    let zones = zones.filter(|row| mine(&row.regime)).map(Row::window);
    let adequacy = file.adequacy.iter().filter(|row| mine(&row.regime));
    let adequacy = adequacy.filter(|row| row.codes().any(|code| places.contains(&code)));
    let concern = file.concern.iter().filter(|row| mine(&row.regime)).map(Row::window);
    let numbers = file.threshold.iter().filter(|row| mine(&row.regime)).map(Row::window);
    let local = file.localization.iter().filter(|row| mine(&row.regime)).map(Row::window);
    // Of a regime of status also what is prohibited counts, which nobody registers.
    let prohibited = file.mechanism.iter().filter(|row| mine(&row.regime) && row.when.is_some());
    let concerned_bases = bases.iter().filter(|basis| places.contains(&&basis.importer_country));
    let registered = concerned_bases.flat_map(|basis| {
        let mechanism = pack.mechanism(&basis.mechanism);
        let own = mechanism.map_or_else(|| basis.window(), |row| row.window_of(basis));
        let assessment = basis.tia.as_ref().map(Assessment::window);
        [Some(own), mechanism.map(Row::window), assessment].into_iter().flatten()
    });
    let windows = regimes.chain(classes).chain(none).chain(zones).chain(adequacy.map(Row::window));
    let windows = windows.chain(concern).chain(numbers).chain(local);
    let windows = windows.chain(prohibited.map(Row::window)).chain(registered);
    windows.filter_map(|window: Window| window.constant_until(flow.date)).min()
}

/// The laws that attach to this flow on some day.
fn laws<'a>(flow: &Flow<'_>, pack: &'a Pack) -> Vec<&'a str> {
    let owner = flow.data.owner;
    let (source, exporter) = match (flow.op.direction(), flow.asker.entity) {
        (Direction::ToTarget, Some(asker)) => (&asker.country, asker),
        (Direction::ToTarget, None) | (Direction::ToPrincipal | Direction::Elsewhere, _) => {
            (flow.data.country, owner)
        }
    };
    let zones = &pack.file.jurisdiction;
    let within =
        |law: &str, code: &Country| zones.iter().any(|row| row.regime == law && row.code == *code);
    let attached = pack.file.regime.iter().filter(|regime| {
        regime.attaches.iter().any(|attach| match attach {
            Attach::Location => within(&regime.law, source),
            Attach::Exporter => within(&regime.law, &exporter.country),
            Attach::Declared => flow.data.laws.contains(&regime.law),
            Attach::UsPerson => status::concerned(exporter, flow.data.us_persons),
        })
    });
    attached.map(|regime| regime.law.as_str()).collect()
}
