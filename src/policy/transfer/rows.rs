//! The rows of the law pack, as they stand in the file.
//!
//! A row is a fact with an id, a source and the days on which it holds. Nothing here decides; a row
//! of a kind that the decision cannot judge does not load, because its words are not in these enums.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::Deserialize;
use toml::Spanned;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::RuleId;
use crate::policy::transfer::grounds::Adequacy;
use crate::policy::transfer::grounds::Mechanism;
use crate::policy::transfer::limits::Concern;
use crate::policy::transfer::limits::Localization;
use crate::policy::transfer::limits::Threshold;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) version: String,
    pub(super) as_of: Date,
    pub(super) review_by: Date,
    pub(super) countries: BTreeSet<Country>,
    pub(super) steps: Steps,
    pub(super) source: Vec<Source>,
    pub(super) class: Vec<Class>,
    pub(super) regime: Vec<Regime>,
    #[serde(default)]
    pub(super) no_regime: Vec<NoRegime>,
    pub(super) jurisdiction: Vec<Jurisdiction>,
    #[serde(default)]
    pub(super) adequacy: Vec<Adequacy>,
    #[serde(default)]
    pub(super) mechanism: Vec<Mechanism>,
    #[serde(default)]
    pub(super) concern: Vec<Concern>,
    #[serde(default)]
    pub(super) threshold: Vec<Threshold>,
    #[serde(default)]
    pub(super) localization: Vec<Localization>,
}

/// Ids of the rules of the decision itself, cited where no row of law decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Steps {
    pub(super) normalize: RuleId,
    pub(super) direction: RuleId,
    pub(super) relevance: RuleId,
}

/// Where a row was read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a source is for whoever reads the file; only its id is looked up")]
pub(super) struct Source {
    pub(super) id: Spanned<String>,
    pub(super) act: String,
    pub(super) article: String,
    pub(super) url: Option<String>,
    pub(super) read_on: Date,
    pub(super) checked: Checked,
}

/// How far a row was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Checked {
    /// The text of the act, or the authority's page.
    P,
    /// Two or more independent secondary sources.
    S,
    /// Known, not read again.
    K,
}

/// The days on which a row holds, both inclusive; `to` missing is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: Date,
    pub(super) to: Option<Date>,
}

impl Window {
    pub(super) fn holds(self, date: Date) -> bool {
        self.from <= date && !self.ended(date)
    }

    pub(super) fn begun(self, date: Date) -> bool {
        self.from <= date
    }

    pub(super) fn ended(self, date: Date) -> bool {
        self.to.is_some_and(|to| to < date)
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        other.to.is_none_or(|to| self.from <= to) && self.to.is_none_or(|to| other.from <= to)
    }

    /// The last day, from `date` on, before this row begins or ends to hold.
    pub(super) fn constant_until(self, date: Date) -> Option<Date> {
        if date < self.from {
            Some(self.from.yesterday().unwrap_or(date))
        } else {
            self.to.filter(|to| date <= *to)
        }
    }
}

/// A row that can be cited.
pub(super) trait Row {
    /// The word in `[[…]]`.
    const TABLE: &'static str;
    fn id(&self) -> &Spanned<RuleId>;
    fn source(&self) -> &str;
    fn window(&self) -> Window;
    /// What no two rows of the table may share on one day.
    fn subjects(&self) -> Vec<String>;

    fn rule(&self) -> RuleId {
        self.id().get_ref().clone()
    }
}

macro_rules! row {
    ($name:ident, $table:literal, $subjects:expr) => {
        impl Row for $name {
            const TABLE: &'static str = $table;

            fn id(&self) -> &toml::Spanned<RuleId> {
                &self.id
            }

            fn source(&self) -> &str {
                &self.source
            }

            fn window(&self) -> Window {
                Window { from: self.valid_from, to: self.valid_to }
            }

            fn subjects(&self) -> Vec<String> {
                let subjects: fn(&Self) -> Vec<String> = $subjects;
                subjects(self)
            }
        }
    };
}
pub(super) use row;

/// Whether one of `rows` speaks of `class`: it covers it, or is a part of it. A class that may hold
/// what a row is about counts as holding it.
pub(super) fn touches(rows: &[DataClass], class: &DataClass) -> bool {
    rows.iter().any(|row| row.covers(class) || class.covers(row))
}

/// What a class of data is to the law.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Relates to a person.
    Personal,
    /// Important data of Chinese law.
    Important,
    /// Government-related data of US law.
    Government,
    /// None of these: no law of this pack asks.
    Plain,
}

/// One entry of the class map.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Class {
    id: Spanned<RuleId>,
    #[serde(rename = "class")]
    pub(super) prefix: DataClass,
    pub(super) kind: Kind,
    /// Data of the employment relationship.
    #[serde(default)]
    pub(super) hr: bool,
    #[serde(rename = "means")]
    _means: String,
    valid_from: Date,
    valid_to: Option<Date>,
    source: String,
}
row!(Class, "class", |row| vec![row.prefix.to_string()]);

/// By what a regime attaches to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Attach {
    /// The data lies in its zone.
    Location,
    /// The exporter is established in its zone.
    Exporter,
    /// The target declares it, because law follows the data.
    Declared,
    /// The exporter is a US person, and the target holds data of US persons, or may.
    UsPerson,
}

/// Inside which countries a regime sees no border.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Zone {
    /// Those of its `[[jurisdiction]]` rows.
    #[default]
    Listed,
    /// The country that the target stands in.
    Home,
}

/// Whom a regime sees as foreign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Test {
    /// Another entity outside the zone.
    Entity,
    /// Any place outside the zone, whoever looks.
    Place,
    /// Another entity outside the zone, and any place outside it.
    EntityOrPlace,
    /// Who somebody is: a person or entity of a country of concern.
    Status,
}

/// What the exporter's own staff may do from outside the zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OwnStaff {
    /// No transfer; the place is logged.
    NoneLog,
    /// A transfer like any other.
    Transfer,
    /// Not at all.
    Forbidden,
}

/// What holds where no row and no basis answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fallback {
    /// No transfer; the place is logged.
    Allow,
    /// A transfer by the general rule (`cites.third_country`), but not to a country of concern.
    Transfer,
    /// It may not happen.
    Deny,
    /// What the `[[threshold]]` rows say.
    Count,
}

/// What a regime asks for besides a basis, to be on file and referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Duty {
    /// The separate consent of the persons.
    Consent,
    /// A filing with the authority.
    Filing,
}

/// Ids cited where the regime's own general rule decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cites {
    pub(super) attached: RuleId,
    /// Cited besides the zone's row, where somebody looks from inside.
    pub(super) inside: Option<RuleId>,
    pub(super) same_entity: RuleId,
    pub(super) third_country: RuleId,
}

/// One law on transfer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Regime {
    id: Spanned<RuleId>,
    /// Its name in `law = …` of a target and in other rows.
    pub(super) law: String,
    pub(super) attaches: BTreeSet<Attach>,
    #[serde(default)]
    pub(super) zone: Zone,
    pub(super) test: Test,
    pub(super) own_staff_abroad: OwnStaff,
    pub(super) default: Fallback,
    /// Classes for which the answer is no where `default` would allow.
    #[serde(default)]
    pub(super) denies: Vec<DataClass>,
    /// Classes that `counts = "sensitive"` is about.
    #[serde(default)]
    pub(super) sensitive: Vec<DataClass>,
    #[serde(default)]
    pub(super) obliges: BTreeSet<Duty>,
    /// Whether suppressing every value takes the person's view out of the regime.
    pub(super) null_exempt: bool,
    /// Whether tokenizing every value does.
    pub(super) token_exempt: bool,
    pub(super) covers: BTreeSet<Kind>,
    /// Classes for which another regime holds that this pack does not have.
    #[serde(default)]
    pub(super) refuses: Vec<DataClass>,
    pub(super) cites: Cites,
    valid_from: Date,
    valid_to: Option<Date>,
    source: String,
}
row!(Regime, "regime", |row| vec![row.law.clone()]);

/// A country of which it is known that it has no rule of its own on transfer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoRegime {
    id: Spanned<RuleId>,
    pub(super) code: Country,
    valid_from: Date,
    valid_to: Option<Date>,
    source: String,
}
row!(NoRegime, "no_regime", |row| vec![row.code.to_string()]);

/// Whether a country lies in a regime's zone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Jurisdiction {
    id: Spanned<RuleId>,
    pub(super) regime: String,
    pub(super) code: Country,
    pub(super) in_zone: bool,
    #[serde(default, rename = "caveat")]
    _caveat: Option<String>,
    valid_from: Date,
    valid_to: Option<Date>,
    source: String,
}
row!(Jurisdiction, "jurisdiction", |row| vec![format!("{} under {}", row.code, row.regime)]);
