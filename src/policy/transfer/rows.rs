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
use crate::model::principal::Entity;
use crate::model::principal::Role;

/// Value of an attribute of an entity that declares a fact, e.g. `lgpd = yes`.
const DECLARED: &str = "yes";
/// Value that denies one.
const DENIED: &str = "no";

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
    /// What no two rows of the table may share on one day; `None`: nothing.
    fn subject(&self) -> Option<String>;

    fn rule(&self) -> RuleId {
        self.id().get_ref().clone()
    }
}

macro_rules! row {
    ($name:ident, $table:literal, $subject:expr) => {
        impl Row for $name {
            const TABLE: &'static str = $table;

            fn id(&self) -> &Spanned<RuleId> {
                &self.id
            }

            fn source(&self) -> &str {
                &self.source
            }

            fn window(&self) -> Window {
                Window { from: self.valid_from, to: self.valid_to }
            }

            fn subject(&self) -> Option<String> {
                let subject: fn(&Self) -> Option<String> = $subject;
                subject(self)
            }
        }
    };
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
row!(Class, "class", |row| Some(row.prefix.to_string()));

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
}

/// Whom a regime sees as foreign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Test {
    /// Another entity outside the zone.
    Entity,
    /// Any place outside the zone, whoever looks.
    Place,
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
    Allow,
    Deny,
}

/// Ids cited where the regime's own general rule decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cites {
    pub(super) attached: RuleId,
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
    pub(super) test: Test,
    pub(super) own_staff_abroad: OwnStaff,
    pub(super) default: Fallback,
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
row!(Regime, "regime", |row| Some(row.law.clone()));

/// A country of which it is known that it has no rule of its own on transfer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoRegime {
    id: Spanned<RuleId>,
    pub(super) code: Country,
    /// Countries toward which it is not known.
    #[serde(default)]
    pub(super) except_toward: BTreeSet<Country>,
    valid_from: Date,
    valid_to: Option<Date>,
    source: String,
}
row!(NoRegime, "no_regime", |row| Some(row.code.to_string()));

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
row!(Jurisdiction, "jurisdiction", |row| Some(format!("{} under {}", row.code, row.regime)));

/// Where an adequacy decision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Status {
    InForce,
    /// In force, and before a court: a second basis is wanted.
    Contested,
    Expired,
    Annulled,
}

/// For whom, and for which data, an adequacy decision speaks: a predicate on what the customer
/// declared of the importer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "pred", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Scope {
    /// Everybody and everything.
    All,
    /// The importer declares the attribute: `lgpd = yes`.
    Declared { attribute: String },
    /// The importer does not declare the attribute.
    Unless { attribute: String },
    /// The importer's entry covers the kind of data: `dpf = nonhr,hr`.
    Certified { attribute: String },
}

impl Scope {
    pub(super) fn holds(&self, importer: Option<&Entity>, hr: bool, other: bool) -> bool {
        let attribute = |name: &str| importer.and_then(|entity| entity.attributes.get(name));
        let lists = |value: &String, kind| value.split(',').any(|word| word.trim() == kind);
        match self {
            Self::All => true,
            Self::Declared { attribute: name } => attribute(name).is_some_and(|v| v == DECLARED),
            Self::Unless { attribute: name } => attribute(name).is_none_or(|v| v == DENIED),
            Self::Certified { attribute: name } => attribute(name).is_some_and(|value| {
                (!hr || lists(value, "hr")) && (!other || lists(value, "nonhr"))
            }),
        }
    }
}

/// One adequacy decision.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Adequacy {
    id: Spanned<RuleId>,
    pub(super) regime: String,
    pub(super) code: Country,
    #[serde(rename = "decision")]
    _decision: String,
    pub(super) status: Status,
    pub(super) scope: Scope,
    #[serde(default, rename = "scope_text")]
    _text: Option<String>,
    /// The importer may look from anywhere: an organization, not a country.
    #[serde(default)]
    pub(super) anywhere: bool,
    valid_from: Date,
    pub(super) valid_to: Option<Date>,
    source: String,
    #[serde(rename = "checked")]
    _checked: Checked,
}
row!(Adequacy, "adequacy", |row| Some(format!(
    "{} under {} with scope {:?}",
    row.code, row.regime, row.scope
)));

/// What kind of basis a mechanism makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum MechanismKind {
    /// For regular transfers.
    Safeguard,
    /// For single cases, counted.
    Derogation,
}

/// Which roles a mechanism is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Roles {
    pub(super) exporter: Role,
    pub(super) importer: Role,
}

/// A way to make a transfer lawful where no adequacy decision does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mechanism {
    id: Spanned<RuleId>,
    pub(super) regime: String,
    pub(super) name: String,
    #[serde(rename = "article")]
    _article: String,
    pub(super) kind: MechanismKind,
    pub(super) roles: Option<Roles>,
    pub(super) needs_tia: bool,
    /// An approval, authority reference or case number must be on file.
    pub(super) needs_filing: bool,
    /// Attribute of an exporter that may not use it.
    pub(super) excluded_exporters: Option<String>,
    valid_from: Date,
    valid_to: Option<Date>,
    source: String,
    #[serde(rename = "checked")]
    _checked: Checked,
}
row!(Mechanism, "mechanism", |_row| None);

impl Mechanism {
    pub(super) fn excludes(&self, exporter: &Entity) -> bool {
        self.excluded_exporters
            .as_ref()
            .and_then(|name| exporter.attributes.get(name))
            // Anything but a plain "no" counts as declared: the doubt is against the exception.
            .is_some_and(|value| value != DENIED)
    }
}
