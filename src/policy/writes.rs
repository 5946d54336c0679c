//! Does writing move personal data across a border? The transfer question the other way.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::model::DataClass;
use crate::policy::admit::Permit;
use crate::policy::snapshot::Snapshot;
use crate::policy::transfer::Decision;

/// The transfer decision on writing values of `classes` to the session's target.
pub fn write_transfer(
    permit: &Permit,
    _snapshot: &Snapshot,
    _classes: &BTreeSet<DataClass>,
    _now: Timestamp,
) -> Decision {
    permit.transfer().clone()
}
