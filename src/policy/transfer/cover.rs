//! STEP-7: what covers one transfer under one regime, or why nothing does.
//!
//! In this order: an adequacy decision, a registered safeguard, a registered derogation. Knows one
//! exporter, one importer and one regime; not how many legs there are.

use jiff::civil::Date;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::EntityId;
use crate::model::RuleId;
use crate::model::principal::Entity;
use crate::model::principal::Role;
use crate::policy::transfer::basis::Assessment;
use crate::policy::transfer::basis::Basis;
use crate::policy::transfer::decision::Party;
use crate::policy::transfer::decision::Why;
use crate::policy::transfer::flow::Suppression;
use crate::policy::transfer::grounds::Adequacy;
use crate::policy::transfer::grounds::Mechanism;
use crate::policy::transfer::grounds::MechanismKind;
use crate::policy::transfer::grounds::Status;
use crate::policy::transfer::pack::Pack;
use crate::policy::transfer::rows::Regime;
use crate::policy::transfer::rows::Row;
use crate::policy::transfer::rows::Test;

/// Who gets the data.
#[derive(Debug, Clone, Copy)]
pub(super) enum Importer<'a> {
    Entity(&'a Entity),
    /// A machine abroad: whoever runs it is a processor there, and nothing is declared of it.
    Host(&'a Country),
}

impl<'a> Importer<'a> {
    pub(super) fn country(self) -> &'a Country {
        match self {
            Self::Entity(entity) => &entity.country,
            Self::Host(country) => country,
        }
    }

    pub(super) fn party(self) -> Party {
        match self {
            Self::Entity(entity) => Party::of(entity),
            Self::Host(country) => {
                Party { name: format!("host:{country}"), country: country.clone() }
            }
        }
    }

    fn entity(self) -> Option<&'a Entity> {
        match self {
            Self::Entity(entity) => Some(entity),
            Self::Host(_) => None,
        }
    }

    fn role(self) -> Role {
        match self {
            Self::Entity(entity) => entity.role,
            Self::Host(_) => Role::Processor,
        }
    }

    fn is(self, id: &EntityId) -> bool {
        match self {
            Self::Entity(entity) => entity.id == *id,
            Self::Host(country) => id.as_str().strip_prefix("host:") == Some(country.as_str()),
        }
    }
}

/// One transfer that needs a basis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need<'a> {
    pub(super) pack: &'a Pack,
    pub(super) bases: &'a [Basis],
    pub(super) regime: &'a Regime,
    pub(super) date: Date,
    pub(super) exporter: &'a Entity,
    pub(super) importer: Importer<'a>,
    /// Where the importer gets to see it.
    pub(super) place: &'a Country,
    /// The classes that the regime covers; at least one.
    pub(super) classes: &'a [&'a DataClass],
    pub(super) suppression: Suppression,
    /// The mechanisms that serve. `None`: all of the regime.
    pub(super) only: Option<&'a [RuleId]>,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Cover {
    Found {
        rows: Vec<RuleId>,
        bases: Vec<RuleId>,
        /// The row that wants a second basis and has none.
        alone: Option<RuleId>,
    },
    Missing {
        why: Why,
        rows: Vec<RuleId>,
    },
}

impl<'a> Need<'a> {
    pub(super) fn cover(&self) -> Cover {
        let registered = self.registered();
        let adequate = match self.only {
            None => self.begun_adequacy().find(|row| self.adequacy(row).is_ok()),
            Some(_) => None,
        };
        if let Some(row) = adequate {
            return by_adequacy(row, &registered);
        }
        let mut rows = Vec::new();
        let mut used = Vec::new();
        for found in registered.iter().filter(|found| found.refused.is_none()) {
            let safeguard = found.mechanism.kind != MechanismKind::Derogation;
            // A derogation is for when no safeguard serves, and one is enough.
            if safeguard || used.is_empty() {
                push(&mut rows, found.mechanism.rule());
                push(&mut used, found.basis.id.clone());
            }
        }
        if used.is_empty() {
            self.missing(&registered)
        } else {
            Cover::Found { rows, bases: used, alone: None }
        }
    }

    /// The mechanism by which such a transfer is usually covered: that of the role pair first.
    pub(super) fn remedy(&self) -> Option<&'a Mechanism> {
        let rows = || {
            self.pack.file.mechanism.iter().filter(|row| {
                row.kind == MechanismKind::Safeguard
                    && row.window().holds(self.date)
                    && self.serves(row)
            })
        };
        let mut of_roles = rows().filter(|row| row.roles.is_some() && self.fits(row));
        of_roles.next().or_else(|| rows().find(|row| row.roles.is_none()))
    }

    /// Whether a mechanism is one of this regime, and of those that serve here.
    fn serves(&self, mechanism: &Mechanism) -> bool {
        mechanism.regime == self.regime.law
            && self.only.is_none_or(|only| only.contains(mechanism.id().get_ref()))
    }

    /// The reason is that of the registered basis that came furthest, else of the newest adequacy
    /// decision that has begun, else that there is none; the rows of both are cited.
    fn missing(&self, registered: &[Registered<'a>]) -> Cover {
        let newest = self.begun_adequacy().max_by_key(|row| row.window().from);
        let furthest = registered
            .iter()
            .filter_map(|found| found.refused.map(|(step, why)| (step, why, found)))
            // Of equals the first in the register, so that the answer does not depend on chance.
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        let mut rows = Vec::new();
        let mut why = None;
        if let Some((_, reason, found)) = furthest {
            why = Some(reason);
            push(&mut rows, found.mechanism.rule());
        }
        if let Some(row) = newest {
            why = why.or_else(|| self.adequacy(row).err());
            push(&mut rows, row.rule());
        }
        let why = why.unwrap_or_else(|| {
            push(&mut rows, self.regime.cites.third_country.clone());
            Why::NoBasis
        });
        // A territory of a member state that is outside the zone surprises: say by which row.
        let country = self.importer.country();
        if let Some(row) = self.pack.jurisdiction(&self.regime.law, country, self.date) {
            push(&mut rows, row.rule());
        }
        Cover::Missing { why, rows }
    }

    fn begun_adequacy(&self) -> impl Iterator<Item = &'a Adequacy> {
        let date = self.date;
        self.pack
            .adequacy(&self.regime.law, self.importer.country())
            .filter(move |row| row.window().begun(date))
    }

    fn adequacy(&self, row: &Adequacy) -> Result<(), Why> {
        let hr = |class: &&DataClass| self.pack.class(class, self.date).is_some_and(|row| row.hr);
        let some_hr = self.classes.iter().any(hr);
        let some_other = !self.classes.iter().all(hr);
        if row.window().ended(self.date) {
            Err(Why::Expired)
        } else if !row.scope.holds(self.importer.entity(), some_hr, some_other) {
            Err(Why::Scope)
        } else if !(row.anywhere || self.at_home(&[])) {
            Err(Why::AccessCountry)
        } else {
            Ok(())
        }
    }

    /// Whether the importer looks from its own country, from inside the zone, or from `further`.
    fn at_home(&self, further: &[Country]) -> bool {
        // A regime of status asks who somebody is, and not where.
        self.regime.test == Test::Status
            || self.place == self.importer.country()
            || further.contains(self.place)
            || self.pack.in_zone(&self.regime.law, self.place, self.date).is_some()
    }

    /// The bases on file for this exporter and importer under this regime, each with the first
    /// check it fails.
    fn registered(&self) -> Vec<Registered<'a>> {
        let matching = self.bases.iter().filter(|basis| {
            basis.exporter == self.exporter.id
                && self.importer.is(&basis.importer)
                && basis.importer_country == *self.importer.country()
        });
        let known = matching.filter_map(|basis| {
            let mechanism = self.pack.mechanism(&basis.mechanism)?;
            let refused = self.refusal(basis, mechanism);
            self.serves(mechanism).then_some(Registered { basis, mechanism, refused })
        });
        let mut found = known.collect::<Vec<_>>();
        // Safeguards before derogations, each kind in the register's order.
        found.sort_by_key(|found| found.mechanism.kind == MechanismKind::Derogation);
        found
    }

    fn refusal(&self, basis: &Basis, mechanism: &Mechanism) -> Option<(usize, Why)> {
        let in_force =
            mechanism.window_of(basis).holds(self.date) && mechanism.window().holds(self.date);
        let derogates = match mechanism.kind {
            MechanismKind::Safeguard | MechanismKind::Exemption => true,
            MechanismKind::Prohibition => false,
            MechanismKind::Derogation => !mechanism.excludes(self.exporter) && basis.use_left(),
        };
        let used_up = basis.max_uses.is_some() && !basis.use_left();
        let assessed = !mechanism.needs_tia
            || basis.tia.as_ref().map(Assessment::window).is_some_and(|w| w.holds(self.date));
        let filed = basis.filing.as_ref().is_some_and(|text| !text.trim().is_empty());
        let checks = [
            (self.fits(mechanism), Why::Module),
            (self.classes.iter().all(|class| basis.serves_class(class)), Why::Class),
            (in_force, Why::Expired),
            (derogates && !used_up, Why::Derogation),
            (assessed, Why::NoTia),
            (!mechanism.needs_filing || filed, Why::NoFiling),
            (basis.accepts(self.suppression), Why::NeedsMask),
            (self.at_home(&basis.access_countries), Why::AccessCountry),
        ];
        let first_failed = checks.into_iter().enumerate().find(|(_, (holds, _))| !holds);
        first_failed.map(|(step, (_, why))| (step, why))
    }

    /// Whether the mechanism is made for these two roles.
    fn fits(&self, mechanism: &Mechanism) -> bool {
        mechanism.roles.is_none_or(|roles| {
            roles.exporter == self.exporter.role && roles.importer == self.importer.role()
        })
    }
}

/// A basis on file that names this exporter and importer.
struct Registered<'a> {
    basis: &'a Basis,
    mechanism: &'a Mechanism,
    /// The first check it fails, and how far it came.
    refused: Option<(usize, Why)>,
}

/// Stands on an adequacy decision; where that is contested, on the safeguards on file as well.
fn by_adequacy(row: &Adequacy, registered: &[Registered<'_>]) -> Cover {
    let mut rows = vec![row.rule()];
    let mut bases = Vec::new();
    let mut alone = None;
    if row.status == Status::Contested {
        let second = registered.iter().filter(|found| {
            found.refused.is_none() && found.mechanism.kind == MechanismKind::Safeguard
        });
        for found in second {
            push(&mut rows, found.mechanism.rule());
            push(&mut bases, found.basis.id.clone());
        }
        alone = bases.is_empty().then(|| row.rule());
    }
    Cover::Found { rows, bases, alone }
}

/// Appends what is not there yet.
pub(super) fn push(list: &mut Vec<RuleId>, id: RuleId) {
    if !list.contains(&id) {
        list.push(id);
    }
}
