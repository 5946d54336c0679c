//! The customer's register of legal bases: what was signed, between whom, for what, until when.
//!
//! A basis is a declaration with an owner and a document's hash. Whether the contract was truly
//! signed, or an assessment is right, nobody here can know; it is cited as declared.

use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::EntityId;
use crate::model::RuleId;
use crate::model::digest::Digest;
use crate::policy::transfer::flow::Suppression;
use crate::policy::transfer::rows::Window;

/// A legal basis on file: one mechanism, from one exporter to one importer in one country.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    /// Its id in the register, e.g. `scc-acme-sg-2026`.
    pub id: RuleId,
    /// The mechanism's row in the law pack, e.g. `EUM-SCC2`.
    pub mechanism: RuleId,
    /// Who sends.
    pub exporter: EntityId,
    /// Who receives. `host:US` is whoever runs the gateway's machine there.
    pub importer: EntityId,
    /// Where the importer is established.
    pub importer_country: Country,
    /// Classes it is limited to; missing: all.
    #[serde(default)]
    pub classes: Option<Vec<DataClass>>,
    /// Further countries from which the importer may look.
    #[serde(default)]
    pub access_countries: Vec<Country>,
    /// What must happen to every restricted value.
    #[serde(default)]
    pub needs_mask: Option<NeedsMask>,
    /// The transfer impact assessment on file.
    #[serde(default)]
    pub tia: Option<Assessment>,
    /// Reference of the approval, filing or case.
    #[serde(default)]
    pub filing: Option<String>,
    /// Why it may be used, where it is a derogation for single cases.
    #[serde(default)]
    pub reason: Option<String>,
    /// SHA-256 of the document.
    pub document: Digest,
    /// First day.
    pub valid_from: Date,
    /// Last day.
    pub valid_to: Date,
    /// How often it may be used; needed by derogations.
    #[serde(default)]
    pub max_uses: Option<u64>,
    /// How often it was used so far, as whoever keeps the register declares; the gateway does not
    /// count. Where nobody counts, a derogation is refused.
    #[serde(default)]
    pub uses: Option<u64>,
    /// Who answers for it.
    pub owner: String,
    /// Who approved it.
    pub approved_by: String,
}

/// What a basis asks to happen to every restricted value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeedsMask {
    /// Replaced by a token, or suppressed.
    Token,
    /// Suppressed.
    Null,
}

/// A transfer impact assessment (Decision (EU) 2021/914, clause 14).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assessment {
    /// Where it is filed.
    pub reference: String,
    /// The day it was made.
    pub date: Date,
    /// The last day it counts without a review.
    pub review_by: Date,
}

impl Basis {
    pub(super) fn window(&self) -> Window {
        Window { from: self.valid_from, to: Some(self.valid_to) }
    }

    pub(super) fn serves_class(&self, class: &DataClass) -> bool {
        self.classes.as_ref().is_none_or(|list| list.iter().any(|mine| mine.covers(class)))
    }

    pub(super) fn accepts(&self, suppression: Suppression) -> bool {
        match (self.needs_mask, suppression) {
            (None, _)
            | (Some(_), Suppression::Null)
            | (Some(NeedsMask::Token), Suppression::Token) => true,
            (Some(_), Suppression::None) | (Some(NeedsMask::Null), Suppression::Token) => false,
        }
    }

    /// Whether one more use is left. Where nobody counts, none is.
    pub(super) fn use_left(&self) -> bool {
        self.uses.zip(self.max_uses).is_some_and(|(uses, max)| uses < max)
    }
}

impl Assessment {
    pub(super) fn window(&self) -> Window {
        Window { from: self.date, to: Some(self.review_by) }
    }
}
