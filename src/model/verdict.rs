//! Policy's answer to a command.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use crate::model::DataClass;
use crate::model::Refusal;
use crate::model::RuleId;

/// Policy's answer to a command, always with the rules that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum Verdict {
    /// It may go on; what its answer may show is in [`Masks`].
    Allow {
        /// The rules that decided.
        rules: Vec<RuleId>,
    },
    /// It may go on once somebody else approves exactly this.
    Hold {
        /// The rules that ask for the approval.
        rules: Vec<RuleId>,
        /// Why, a sentence for a human being.
        reason: String,
        /// Roles of which an approver must hold one.
        approvers: BTreeSet<String>,
    },
    /// It may not go on.
    Deny(Refusal),
}

impl Verdict {
    /// `allow`, `hold` or `deny`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Allow { .. } => "allow",
            Self::Hold { .. } => "hold",
            Self::Deny(_) => "deny",
        }
    }

    /// The rules that decided.
    pub fn rules(&self) -> &[RuleId] {
        match self {
            Self::Allow { rules } | Self::Hold { rules, .. } => rules,
            Self::Deny(refusal) => &refusal.rules,
        }
    }
}

/// Which classes of a target a principal may not see now, and which rules say so.
///
/// A class that is neither shown nor hidden here was not asked about; [`Masks::hides`] treats it as
/// hidden, because unknown is no.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masks {
    shown: BTreeSet<DataClass>,
    hidden: BTreeMap<DataClass, Vec<RuleId>>,
}

impl Masks {
    /// Masks that show nothing and hide nothing by name: every class asked about is hidden.
    pub fn none_asked() -> Self {
        Self::default()
    }

    /// Adds a class that may be shown.
    pub fn show(&mut self, class: DataClass) {
        if !self.hidden.contains_key(&class) {
            self.shown.insert(class);
        }
    }

    /// Adds a class that may not be shown, and the rules that say so (empty: no rule permits it).
    pub fn hide(&mut self, class: DataClass, rules: Vec<RuleId>) {
        self.shown.remove(&class);
        self.hidden.insert(class, rules);
    }

    /// Whether a value of `class` must be masked. A class nobody asked about is hidden.
    pub fn hides(&self, class: &DataClass) -> bool {
        !self.shown.contains(class)
    }

    /// Whether a value that carries all of `classes` must be masked.
    pub fn hides_any<'a>(&self, classes: impl IntoIterator<Item = &'a DataClass>) -> bool {
        classes.into_iter().any(|class| self.hides(class))
    }

    /// Whether anything that was asked about is hidden.
    pub fn hides_something(&self) -> bool {
        !self.hidden.is_empty()
    }

    /// The classes that are hidden, with the rules that hide them.
    pub fn hidden(&self) -> &BTreeMap<DataClass, Vec<RuleId>> {
        &self.hidden
    }

    /// The classes that may be seen.
    pub fn shown(&self) -> &BTreeSet<DataClass> {
        &self.shown
    }
}
