//! What may be reached, as far as a decision needs to know it.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::EntityId;
use crate::model::RegionName;
use crate::model::TargetName;

/// A protocol that Weir speaks on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// PostgreSQL's frontend/backend protocol, version 3.
    Postgres,
    /// SSH (RFC 4251 and following).
    Ssh,
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// The Kubernetes API, over HTTP.
    Kubernetes,
}

impl Protocol {
    /// The word in configuration, policies and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Ssh => "ssh",
            Self::Http => "http",
            Self::Kubernetes => "kubernetes",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The facts about a target that decisions rest on. How to reach it (addresses, credentials) is
/// `target`'s business, not theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFacts {
    /// Its name.
    pub name: TargetName,
    /// What it speaks.
    pub protocol: Protocol,
    /// The region it stands in.
    pub region: RegionName,
    /// The country it stands in.
    pub country: Country,
    /// Every class of data it holds: the union over its tables, paths and kinds.
    pub classes: BTreeSet<DataClass>,
    /// The legal entity that answers for its data (the exporter of a read).
    pub owner: EntityId,
    /// Laws declared to apply in addition to those of its country, e.g. `EU`.
    pub laws: BTreeSet<String>,
    /// How many US persons' (or devices') data can be reached in it, at most. `None`: nobody declared
    /// it, and unknown is more than any number.
    pub us_persons: Option<u64>,
    /// Free labels that policies may read, e.g. `prod`.
    pub labels: BTreeSet<String>,
    /// What happens at connect when no legal basis covers the transfer.
    pub without_basis: WithoutBasis,
    /// Verdicts are computed and recorded, but denies, holds and masks are not applied.
    pub observe: bool,
}

/// What decides under which law a target's data is, and which of it may be shown. A recording keeps
/// it: what it shows stays under the law of its source, whatever becomes of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LawFacts {
    /// Every class of data it held.
    pub classes: BTreeSet<DataClass>,
    /// The country it stood in.
    pub country: Country,
    /// The legal entity that answered for its data.
    pub owner: EntityId,
    /// Laws declared to apply in addition.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub laws: BTreeSet<String>,
    /// How many US persons' data could be reached in it, at most. `None`: nobody declared it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub us_persons: Option<u64>,
}

impl TargetFacts {
    /// What decides under which law its data is.
    pub fn law(&self) -> LawFacts {
        LawFacts {
            classes: self.classes.clone(),
            country: self.country.clone(),
            owner: self.owner.clone(),
            laws: self.laws.clone(),
            us_persons: self.us_persons,
        }
    }

    /// The same target, as it was under `law`.
    #[must_use]
    pub fn under(&self, law: &LawFacts) -> Self {
        let LawFacts { classes, country, owner, laws, us_persons } = law.clone();
        Self { country, classes, owner, laws, us_persons, ..self.clone() }
    }
}

/// What happens at connect when no legal basis covers the transfer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WithoutBasis {
    /// The session is refused.
    #[default]
    Refuse,
    /// The session is admitted with every class of the target suppressed, and logged.
    Mask,
}
