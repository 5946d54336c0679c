//! The record: chains of ledger and trail entries.

use crate::audit::LedgerEvent;
use crate::audit::TrailEvent;
use crate::audit::chain;
use crate::audit::chain::Line;
use crate::model::digest::Digest;

/// Reads a file as a ledger and as a trail, and each of its lines alone: the chain stops at the
/// first that does not follow.
pub(super) fn chain(bytes: &[u8]) {
    let bound = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let ledger = chain::read_from::<LedgerEvent>(bytes, Digest::ZERO, |line, _, _| again(&line));
    let trail = chain::read_from::<TrailEvent>(bytes, Digest::ZERO, |line, _, _| again(&line));
    for reading in [ledger, trail].into_iter().flatten() {
        assert!(reading.bytes <= bound);
        assert!(reading.damage.is_some() || reading.bytes == bound);
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        serde_json::from_slice(line).iter().for_each(again::<LedgerEvent>);
        serde_json::from_slice(line).iter().for_each(again::<TrailEvent>);
    }
}

/// What was read can be written and reads the same.
fn again<E>(line: &Line<E>)
where
    E: serde::Serialize + for<'de> serde::Deserialize<'de> + PartialEq + std::fmt::Debug,
{
    let written = serde_json::to_vec(line).unwrap_or_default();
    let read = serde_json::from_slice::<Line<E>>(&written);
    assert_eq!(read.ok().as_ref(), Some(line), "an entry reads back as another");
}
