//! One compiled version of everything decisions rest on.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::Country;
use crate::model::EntityId;
use crate::model::RegionName;
use crate::model::TargetFacts;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::principal::Entity;
use crate::policy::transfer::Basis;
use crate::policy::transfer::Pack;

/// What a snapshot is compiled from.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The customer's policies: file name (for messages and ids) and Cedar text.
    pub policies: Vec<(String, String)>,
    /// The targets.
    pub targets: Vec<TargetFacts>,
    /// The legal entities.
    pub entities: Vec<Entity>,
    /// The registered legal bases.
    pub bases: Vec<Basis>,
    /// The law data.
    pub pack: Pack,
    /// The gateway itself.
    pub gateway: GatewayFacts,
}

/// Where the gateway stands and where it records: the machine legs of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GatewayFacts {
    /// Its configured id.
    pub id: String,
    /// The region it stands in.
    pub region: RegionName,
    /// The country it stands in.
    pub country: Country,
    /// The legal entity that runs it.
    pub entity: Option<EntityId>,
    /// The country its recordings and ledger are stored in.
    pub recording_country: Country,
}

/// One compiled version of policies, law and catalogue facts. Immutable.
#[derive(Debug)]
pub struct Snapshot;

/// A policy that cannot be loaded: where, what, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {problem}")]
pub struct BadPolicy {
    /// The file, as named in [`Parts::policies`].
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The policy's `@id`, where it is known.
    pub rule: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What was expected instead.
    pub expected: Option<String>,
}

impl Snapshot {
    /// Compiles `parts`, or says what is wrong with the first policy that is.
    pub fn compile(_parts: Parts) -> Result<Self, BadPolicy> {
        Ok(Self)
    }

    /// The digest of all inputs: stands in every entry that this snapshot decided.
    pub fn version(&self) -> Digest {
        Digest::ZERO
    }

    /// The facts about the target called `name`.
    pub fn target(&self, _name: &TargetName) -> Option<&Arc<TargetFacts>> {
        None
    }

    /// What is allowed but probably not meant: rules that can never fire, names nobody has, law
    /// data past its review.
    pub fn warnings(&self, _now: Timestamp) -> Vec<String> {
        Vec::new()
    }
}
