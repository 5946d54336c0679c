//! What is asked: one flow of data, with everything the decision may know about it.
//!
//! Values only; the day is an input. What the caller does not know is `None`, never a default.

use std::collections::BTreeSet;

use jiff::civil::Date;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::principal::Entity;

/// One flow of data: of what, to or from whom, by which way, on which day.
#[derive(Debug, Clone, Copy)]
pub struct Flow<'a> {
    /// The day, UTC.
    pub date: Date,
    /// What flows, or would.
    pub data: Data<'a>,
    /// Who asks, and from where.
    pub asker: Asker<'a>,
    /// The machines on the way.
    pub path: Path<'a>,
    /// What is done.
    pub op: Op,
    /// What happens to every restricted value before it is shown.
    pub suppression: Suppression,
}

/// The data, and the target it lies in.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    /// The country the target stands in.
    pub country: &'a Country,
    /// Classes that flow: those read, or on a write those written. At connect: all of the target.
    pub classes: &'a BTreeSet<DataClass>,
    /// Laws declared for the target in addition to those of its country.
    pub laws: &'a BTreeSet<String>,
    /// The entity that answers for the target: exporter of a read, importer of a write.
    pub owner: &'a Entity,
    /// How many US persons (or devices) whose data can be reached in the target, at most, as
    /// declared. `None`: nobody declared it.
    pub us_persons: Option<u64>,
}

/// Who asks, and from where. Each viewer is one flow: an approver, whoever replays or watches.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The entity the principal works for. `None`: none that is configured.
    pub entity: Option<&'a Entity>,
    /// How the principal belongs to it.
    pub link: Link,
    /// The country of access, from the network. `None`: unknown.
    pub from: Option<&'a Country>,
    /// The country of residence, where the claims give it.
    pub residence: Option<&'a Country>,
    /// Whether the principal is a US person, where the claims say it.
    pub us_person: Option<bool>,
    /// Whether the principal is designated as a covered person (28 CFR 202.211).
    pub covered_person: bool,
}

/// How a principal belongs to an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// An employee: part of the entity, also on a trip.
    Employee,
    /// A contractor: an entity of his own, which must be the one that is named.
    Contractor,
}

/// The machines on the way.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    /// Where the gateway stands.
    pub gateway: &'a Country,
    /// Where the recording is kept.
    pub recording: &'a Country,
    /// Where other copies are kept: replicas, search indexes.
    pub caches: &'a [Country],
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// A target's data is shown to the principal.
    Read,
    /// A statement with its values is shown to an approver.
    Approve,
    /// A recording is shown.
    Replay,
    /// Commands or recordings are searched.
    Search,
    /// Data goes from the principal to the target. What comes back is a read of its own.
    Write,
    /// The target itself sends data to somewhere else.
    Egress,
}

impl Op {
    /// Which way the data goes.
    pub(super) fn direction(self) -> Direction {
        match self {
            Self::Read | Self::Approve | Self::Replay | Self::Search => Direction::ToPrincipal,
            Self::Write => Direction::ToTarget,
            Self::Egress => Direction::Elsewhere,
        }
    }
}

/// Which way data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToPrincipal,
    ToTarget,
    Elsewhere,
}

/// What happens to every restricted value before it is shown. Counts for the person's view only: the
/// machines on the way see clear text, and what a principal sends is not masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suppression {
    /// Nothing: at least one value is shown as it is.
    None,
    /// Each is replaced by a token.
    Token,
    /// Each is suppressed.
    Null,
}
