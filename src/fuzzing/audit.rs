//! The record: chains of ledger and trail entries, signed notes, receipts and keys.

use crate::audit::LedgerEvent;
use crate::audit::TrailEvent;
use crate::audit::chain;
use crate::audit::chain::Line;
use crate::audit::keys::KeyBytes;
use crate::audit::keys::Purpose;
use crate::audit::keys::WrappedKey;
use crate::audit::note::Checkpoint;
use crate::audit::note::SignedNote;
use crate::audit::note::Verifier;
use crate::audit::proof::Receipt;
use crate::model::digest::Digest;

/// Reads a file as a ledger and as a trail, and each of its lines alone: the chain stops at the
/// first that does not follow.
pub(super) fn chain(bytes: &[u8]) {
    let bound = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let ledger = chain::read_from::<LedgerEvent>(bytes, Digest::ZERO, |line, _, _| known(&line));
    let trail = chain::read_from::<TrailEvent>(bytes, Digest::ZERO, |line, _, _| again(&line));
    for reading in [ledger, trail].into_iter().flatten() {
        assert!(reading.bytes <= bound);
        assert!(reading.damage.is_some() || reading.bytes == bound);
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        serde_json::from_slice(line).iter().for_each(known);
        serde_json::from_slice(line).iter().for_each(again::<TrailEvent>);
    }
}

/// An entry of a kind that a later version knows is read by its bytes alone, and never written.
fn known(line: &Line<LedgerEvent>) {
    if line.event != LedgerEvent::Unknown {
        again(line);
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

/// Reads a text as a signed note, as a checkpoint and as a verifier key, and what was read as what
/// it stands for.
pub(super) fn signed_note(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(note) = text.parse::<SignedNote>() {
        assert_eq!(note.to_string(), text, "two texts are one note");
        assert!(note.verify(&[]).is_err(), "it is believed without a key");
        note.checkpoint().iter().for_each(|read| same(read, note.text()));
    }
    text.parse::<Checkpoint>().iter().for_each(|read| same(read, &text));
    text.parse::<Verifier>().iter().for_each(|read| same(read, &text));
}

/// What was read is written as the text that it was read from, and as no other.
fn same(read: &impl ToString, text: &str) {
    assert_eq!(read.to_string(), text, "two texts are one value");
}

/// Reads a text as a receipt, and verifies it.
pub(super) fn receipt(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(receipt) = text.parse::<Receipt>() {
        same(&receipt, &text);
        assert!(receipt.verify(&[]).is_err(), "it is believed without a key");
        if let Ok(checkpoint) = receipt.verify_inclusion() {
            assert!((1..=checkpoint.size).contains(&receipt.number()), "an entry outside the tree");
        }
    }
}

/// Reads a text as a key for each purpose, of which it has one, and as a wrapped key.
pub(super) fn record_key(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let read = |purpose| KeyBytes::parse(&text, purpose).is_ok();
    assert!(!(read(Purpose::Wrapping) && read(Purpose::Ledger)), "a key for two purposes");
    if let Ok(wrapped) = serde_json::from_slice::<WrappedKey>(bytes) {
        let written = serde_json::to_vec(&wrapped).unwrap_or_default();
        assert_eq!(serde_json::from_slice(&written).ok(), Some(wrapped), "another wrapped key");
    }
}
