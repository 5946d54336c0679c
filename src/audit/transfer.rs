//! What the ledger says of a transfer besides its volume: who got the data, from whom, where, and on
//! what it rests.

use std::sync::Arc;

use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;

use crate::model::Country;
use crate::model::EntityId;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::RegionName;
use crate::model::RuleId;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::principal::Role;

/// A transfer, as it stood when it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferFacts {
    /// Who asked, for which entity, and who acts for them.
    pub principal: Arc<Principal>,
    /// From where, and how that is known.
    pub origin: Origin,
    /// The target.
    pub target: TargetName,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its region.
    pub region: RegionName,
    /// The country the target stands in.
    pub data_country: Country,
    /// Who makes the data available.
    pub exporter: PartyNote,
    /// Who gets it.
    pub importer: PartyNote,
    /// Each way on which it becomes available, under each law.
    pub ways: Vec<WayNote>,
    /// The registered legal bases that it rests on, as the register has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<BasisNote>,
    /// What its law asks for besides, in one word each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duties: Vec<String>,
    /// The snapshot of policy, law and catalogue that decided.
    pub snapshot: Digest,
    /// The rules that admitted the session.
    pub rules: Vec<RuleId>,
    /// The last day on which the decision is known to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Date>,
}

/// A legal entity, as it is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartyNote {
    /// Which. `None`: it is unknown.
    pub entity: Option<EntityId>,
    /// Where it is established. `None`: it is not configured.
    pub country: Option<Country>,
    /// Controller or processor. `None`: it is not configured.
    pub role: Option<Role>,
}

/// One way on which data becomes available, under one law.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayNote {
    /// `person`, `gateway`, `recording`, `copy` or `target`.
    pub way: String,
    /// The law's row. `None`: it was decided before any law was asked.
    pub regime: Option<RuleId>,
    /// `none`, `none+log`, `transfer` or `forbidden(…)`.
    pub outcome: String,
    /// Where it becomes available. `None`: unknown.
    pub place: Option<Country>,
}

/// A legal basis on file. A declaration: what was signed, nobody here can know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasisNote {
    /// Its id in the register.
    pub id: RuleId,
    /// The mechanism's row in the law data.
    pub mechanism: RuleId,
    /// SHA-256 of the document.
    pub document: Digest,
    /// Its first day.
    pub valid_from: Date,
    /// Its last day.
    pub valid_to: Date,
    /// Who answers for it.
    pub owner: String,
    /// Who approved it.
    pub approved_by: String,
    /// Reference of the transfer impact assessment on file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assessment: Option<String>,
    /// Reference of the approval, filing or case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filing: Option<String>,
}
