//! The rows that let data cross a border: adequacy decisions and mechanisms.
//!
//! A scope or a condition is a predicate on what the customer declared of an entity; a word that is
//! not in these enums does not load.

use std::collections::BTreeSet;

use jiff::ToSpan;
use jiff::civil::Date;
use serde::Deserialize;
use toml::Spanned;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::RuleId;
use crate::model::principal::Entity;
use crate::model::principal::Role;
use crate::policy::transfer::basis::Basis;
use crate::policy::transfer::rows::Checked;
use crate::policy::transfer::rows::Row;
use crate::policy::transfer::rows::Window;
use crate::policy::transfer::rows::row;

/// Value of an attribute of an entity that declares a fact, e.g. `lgpd = yes`.
pub(super) const DECLARED: &str = "yes";
/// Value that denies one.
pub(super) const DENIED: &str = "no";
/// What the transaction with an entity is, for a regime of status.
pub(super) const RELATION: &str = "relation";

/// Whether an entity declares what counts against it. Anything but a plain "no" counts as declared:
/// the doubt is against the flow.
pub(super) fn admits(entity: &Entity, attribute: &str) -> bool {
    entity.attributes.get(attribute).is_some_and(|value| value != DENIED)
}

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
    /// The country it speaks of, or `codes`.
    pub(super) code: Option<Country>,
    #[serde(default)]
    pub(super) codes: BTreeSet<Country>,
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
row!(Adequacy, "adequacy", |row| {
    let subject =
        |code: &Country| format!("{code} under {} with scope {:?}", row.regime, row.scope);
    row.codes().map(subject).collect()
});

impl Adequacy {
    /// The countries that it speaks of.
    pub(super) fn codes(&self) -> impl Iterator<Item = &Country> {
        self.code.iter().chain(&self.codes)
    }
}

/// What kind of basis a mechanism makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum MechanismKind {
    /// For regular transfers.
    Safeguard,
    /// For single cases, counted.
    Derogation,
    /// What is declared takes a flow out of the numbers of a counting regime.
    Exemption,
    /// No basis: transactions that are prohibited whatever is on file.
    Prohibition,
}

/// In a regime of status: for which transactions a mechanism is made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    pub(super) toward: Toward,
    /// Empty: all.
    #[serde(default)]
    pub(super) relations: BTreeSet<Relation>,
    /// Empty: all.
    #[serde(default)]
    pub(super) classes: Vec<DataClass>,
}

/// With whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Toward {
    /// A covered person.
    Covered,
    /// Any other foreign person.
    Foreign,
}

/// What a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Relation {
    Brokerage,
    Vendor,
    Employment,
    Investment,
}

impl Relation {
    /// The words of the attribute that declares it.
    pub(super) const WORDS: [&'static str; 4] = ["brokerage", "vendor", "employment", "investment"];

    /// Between an exporter and somebody else, as declared.
    pub(super) fn declared(importer: &Entity) -> Option<Self> {
        Some(match importer.attributes.get(RELATION)?.as_str() {
            "vendor" => Self::Vendor,
            "employment" => Self::Employment,
            "investment" => Self::Investment,
            _ => Self::Brokerage,
        })
    }

    /// What is not declared of a controller counts as brokerage, which is the strictest; a processor
    /// is a vendor.
    pub(super) fn strictest(importer: &Entity) -> Self {
        Self::declared(importer).unwrap_or(match importer.role {
            Role::Processor => Self::Vendor,
            Role::Controller => Self::Brokerage,
        })
    }
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
    pub(super) when: Option<When>,
    pub(super) needs_tia: bool,
    /// An approval, authority reference or case number must be on file.
    pub(super) needs_filing: bool,
    /// Attribute of an exporter that may not use it.
    pub(super) excluded_exporters: Option<String>,
    /// How many years one is good for at most, whatever the register says.
    validity_years: Option<u8>,
    valid_from: Date,
    valid_to: Option<Date>,
    source: String,
    #[serde(rename = "checked")]
    _checked: Checked,
}
row!(Mechanism, "mechanism", |_row| Vec::new());

impl Mechanism {
    /// The days on which `basis`, which makes use of this, holds.
    pub(super) fn window_of(&self, basis: &Basis) -> Window {
        let registered = basis.window();
        let Some(years) = self.validity_years else { return registered };
        let end = basis.valid_from.saturating_add(i64::from(years).years());
        let last = end.yesterday().unwrap_or(basis.valid_from);
        Window { to: registered.to.map(|to| to.min(last)), ..registered }
    }

    pub(super) fn excludes(&self, exporter: &Entity) -> bool {
        self.excluded_exporters.as_ref().is_some_and(|name| admits(exporter, name))
    }
}
