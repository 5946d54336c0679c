//! The rows that take back what a regime would let cross: countries of concern, numbers, and what has
//! to stay where it is.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::Deserialize;
use toml::Spanned;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::RuleId;
use crate::model::principal::Entity;
use crate::policy::transfer::grounds::admits;
use crate::policy::transfer::rows::Checked;
use crate::policy::transfer::rows::Row;
use crate::policy::transfer::rows::Window;
use crate::policy::transfer::rows::row;
use crate::policy::transfer::rows::touches;

/// A country whose persons are covered, or to which nothing may go by the general rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Concern {
    id: Spanned<RuleId>,
    pub(super) regime: String,
    pub(super) codes: BTreeSet<Country>,
    valid_from: Date,
    valid_to: Option<Date>,
    source: String,
}
row!(Concern, "concern", |row| {
    row.codes.iter().map(|code| format!("{code} under {}", row.regime)).collect()
});

/// What a threshold counts. The customer declares the numbers: nobody here can know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Counts {
    /// Individuals whose data the exporter provides abroad.
    Individuals,
    /// Those whose sensitive data it does.
    Sensitive,
    /// US persons, or devices, whose data can be reached in the target.
    UsPersons,
}

/// What is counted as one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Unit {
    #[default]
    Persons,
    Devices,
}

/// Over which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Span {
    #[serde(rename = "calendar-year")]
    CalendarYear,
    #[serde(rename = "12-months")]
    TwelveMonths,
}

/// A number, or a status, from which on more is asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Threshold {
    id: Spanned<RuleId>,
    pub(super) regime: String,
    #[serde(rename = "means")]
    _means: String,
    /// `None`: it holds whatever the number.
    pub(super) counts: Option<Counts>,
    /// From this number on.
    #[serde(default)]
    pub(super) at_least: u64,
    /// It is about data of several of the regime's thresholds together, and only cited.
    #[serde(default)]
    pub(super) combined: bool,
    #[serde(default, rename = "unit")]
    _unit: Unit,
    #[serde(rename = "window")]
    _window: Option<Span>,
    /// Attribute of the exporters that it is about. `None`: all.
    exporter: Option<String>,
    /// Classes that it is about. Empty: all.
    #[serde(default)]
    classes: Vec<DataClass>,
    /// Classes within these that it is not about.
    #[serde(default)]
    unless: Vec<DataClass>,
    /// The mechanisms that serve, any one of them; in a counting regime none is an exemption.
    #[serde(default)]
    pub(super) needs: Vec<RuleId>,
    valid_from: Date,
    valid_to: Option<Date>,
    source: String,
    #[serde(rename = "checked")]
    _checked: Checked,
}
row!(Threshold, "threshold", |_row| Vec::new());

impl Threshold {
    /// Whether it is about this exporter and one of these classes.
    pub(super) fn speaks_of(&self, exporter: &Entity, classes: &[&DataClass]) -> bool {
        self.exporter.as_ref().is_none_or(|name| admits(exporter, name))
            && (self.classes.is_empty() || classes.iter().any(|class| self.speaks_of_class(class)))
    }

    fn speaks_of_class(&self, class: &DataClass) -> bool {
        touches(&self.classes, class) && !self.unless.iter().any(|except| except.covers(class))
    }

    pub(super) fn exporter(&self) -> Option<&str> {
        self.exporter.as_deref()
    }
}

/// Whether something may be abroad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Abroad {
    #[serde(rename = "yes")]
    Allowed,
    #[serde(rename = "no")]
    Forbidden,
}

/// What has to stay inside a regime's zone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Localization {
    id: Spanned<RuleId>,
    pub(super) regime: String,
    /// Attribute of the exporters that it is about. `None`: all.
    exporter: Option<String>,
    /// Classes that it is about. Empty: all.
    #[serde(default)]
    classes: Vec<DataClass>,
    /// Whether a copy may be kept abroad.
    pub(super) store: Abroad,
    /// Whether a machine abroad may see it pass.
    pub(super) process: Abroad,
    /// Whether somebody abroad may look.
    pub(super) view: Abroad,
    /// Whether it may be collected straight into a place abroad.
    pub(super) collect: Abroad,
    /// The one mechanism that serves for whatever else goes abroad.
    pub(super) abroad_needs: Option<RuleId>,
    #[serde(rename = "means")]
    _means: String,
    valid_from: Date,
    valid_to: Option<Date>,
    source: String,
    #[serde(rename = "checked")]
    _checked: Checked,
}
row!(Localization, "localization", |_row| Vec::new());

impl Localization {
    /// Whether it is about this exporter and one of these classes.
    pub(super) fn speaks_of(&self, exporter: &Entity, classes: &[&DataClass]) -> bool {
        self.exporter.as_ref().is_none_or(|name| admits(exporter, name))
            && (self.classes.is_empty() || classes.iter().any(|one| touches(&self.classes, one)))
    }

    pub(super) fn exporter(&self) -> Option<&str> {
        self.exporter.as_deref()
    }
}
