//! Does writing move personal data across a border? The transfer question the other way, as the
//! ledger has to know it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::model::DataClass;
use crate::model::Refusal;
use crate::policy::admit::Permit;
use crate::policy::snapshot::Snapshot;
use crate::policy::transfer::Decision;
use crate::policy::transfer::Op;
use crate::policy::words;

/// The transfer decision on values of `classes` going to the session's target.
pub fn write_transfer(
    permit: &Permit,
    snapshot: &Snapshot,
    classes: &BTreeSet<DataClass>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let seat = permit.seat(snapshot, now)?;
    let name = &permit.target().name;
    let place = snapshot.place(name).ok_or_else(|| words::no_target(name))?;
    Ok(snapshot.law().flow(seat.viewer(), place, (Op::Write, classes), seat.day()))
}
