//! Receipts: one entry of a ledger, and the proof that a signed checkpoint covers it. Whoever has the
//! ledger's public key verifies one with nothing else. The format is C2SP's `tlog-proof`:
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra eyJuIjo3LCJhdCI6…                          the entry's line, in base 64
//! index 6                                          its number, from 0
//! gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=     the hashes beside its way to the root
//!
//! gw.example/weir-ledger/gw-1                      the checkpoint
//! …
//! ```
//!
//! What stands in `extra` is believed only because its hash is the leaf that is proved.

use std::fmt;
use std::str::FromStr;

use crate::audit::note;
use crate::audit::note::Checkpoint;
use crate::audit::note::NOTE_BYTES_MAX;
use crate::audit::note::NoteError;
use crate::audit::note::SignedNote;
use crate::audit::note::Verifier;
use crate::audit::tree;
use crate::audit::tree::PROOF_HASHES_MAX;
use crate::model::digest::Digest;
use crate::model::encode::base64;
use crate::model::encode::unbase64_exactly;

/// Longest entry that a receipt is made of, in bytes: the longest line of a ledger.
pub const ENTRY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest receipt that is read, in bytes.
pub const RECEIPT_BYTES_MAX: usize = ENTRY_BYTES_MAX / 3 * 4 + NOTE_BYTES_MAX + 16 * 1024;

/// The first line of a receipt.
pub const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// Why a text is no receipt, or a receipt proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It has not the form of a receipt.
    #[error("this is no receipt: {0}")]
    NoReceipt(&'static str),
    /// Its checkpoint is none, or nobody who is known has signed it.
    #[error("the receipt's checkpoint cannot be believed")]
    Checkpoint(#[source] NoteError),
    /// The checkpoint does not cover the entry.
    #[error(
        "the receipt's entry is not entry {number} of the ledger that its checkpoint is about: the \
         entry, the proof or the checkpoint was changed"
    )]
    NotIncluded {
        /// The entry's number, from 1.
        number: u64,
    },
}

/// A receipt. As text: see [the module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    entry: Vec<u8>,
    index: u64,
    proof: Vec<Digest>,
    checkpoint: SignedNote,
}

impl Receipt {
    /// The receipt of the entry at `index` (from 0) with this line (without line feed), proved by
    /// [`tree::Prover`] in the tree of `checkpoint`. It is an error where it would not verify.
    pub fn new(
        entry: Vec<u8>,
        index: u64,
        proof: Vec<Digest>,
        checkpoint: SignedNote,
    ) -> Result<Self, ReceiptError> {
        if entry.is_empty() || entry.len() > ENTRY_BYTES_MAX || proof.len() > PROOF_HASHES_MAX {
            return Err(ReceiptError::NoReceipt("its entry or its proof is too long, or empty"));
        }
        let receipt = Self { entry, index, proof, checkpoint };
        receipt.verify_inclusion()?;
        Ok(receipt)
    }

    /// The entry's line, without line feed.
    pub fn entry(&self) -> &[u8] {
        &self.entry
    }

    /// The entry's number, from 1.
    pub fn number(&self) -> u64 {
        self.index.saturating_add(1)
    }

    /// The checkpoint, as it was signed.
    pub fn note(&self) -> &SignedNote {
        &self.checkpoint
    }

    /// That the checkpoint, whoever made it, covers the entry. This is not enough to believe it.
    pub fn verify_inclusion(&self) -> Result<Checkpoint, ReceiptError> {
        let checkpoint = self.checkpoint.checkpoint().map_err(ReceiptError::Checkpoint)?;
        let leaf = tree::leaf(&self.entry);
        let Checkpoint { root, size, .. } = &checkpoint;
        if tree::includes(root, *size, self.index, &leaf, &self.proof) {
            Ok(checkpoint)
        } else {
            Err(ReceiptError::NotIncluded { number: self.number() })
        }
    }

    /// That the checkpoint covers the entry, and that the ledger's own key, which is one of `keys`,
    /// has signed it.
    pub fn verify(&self, keys: &[Verifier]) -> Result<Checkpoint, ReceiptError> {
        self.checkpoint.checkpoint_by(keys).map_err(ReceiptError::Checkpoint)?;
        self.verify_inclusion()
    }
}

impl FromStr for Receipt {
    type Err = ReceiptError;

    fn from_str(text: &str) -> Result<Self, ReceiptError> {
        let bad = ReceiptError::NoReceipt;
        if text.len() > RECEIPT_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(bad("it has no checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(bad("its first line is another"));
        }
        let extra = lines.next().and_then(|line| line.strip_prefix("extra "));
        let extra = extra.ok_or(bad("it has no entry, so it can prove none"))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.and_then(note::decimal).ok_or(bad("it has no number of an entry"))?;
        let proof = lines.take(PROOF_HASHES_MAX.saturating_add(1)).map(note::digest);
        let proof = proof.collect::<Option<Vec<_>>>().ok_or(bad("a hash is none"))?;
        if proof.len() > PROOF_HASHES_MAX {
            return Err(bad("it has too many hashes"));
        }
        let entry = unbase64_exactly(extra).ok_or(bad("its entry is no base 64"))?;
        if entry.is_empty() || entry.len() > ENTRY_BYTES_MAX {
            return Err(bad("its entry is too long, or empty"));
        }
        let checkpoint = checkpoint.parse().map_err(ReceiptError::Checkpoint)?;
        Ok(Self { entry, index, proof, checkpoint })
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}\nextra {}\nindex {}", base64(&self.entry), self.index)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", base64(hash.as_bytes())))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::note::NoteKey;
    use crate::audit::tree::Frontier;

    fn key(seed: u8) -> NoteKey {
        NoteKey::new("gw.example/weir-ledger/gw-1".parse().unwrap(), &[seed; 32]).unwrap()
    }

    fn receipt(index: u64, size: u64) -> Receipt {
        let entry = |n: u64| format!("{{\"n\":{n}}}").into_bytes();
        let leaves = (0..size).map(|n| tree::leaf(&entry(n))).collect::<Vec<_>>();
        let mut whole = Frontier::new();
        for leaf in &leaves {
            whole.push(*leaf);
        }
        let key = key(1);
        let origin = key.verifier().name().clone();
        let checkpoint = Checkpoint { origin, size, root: whole.root() };
        let proof = tree::prove_inclusion(index, &leaves).unwrap();
        Receipt::new(entry(index), index, proof, checkpoint.signed(&[&key])).unwrap()
    }

    #[test]
    fn a_receipt_verifies_alone_and_with_the_right_key_only() {
        for (index, size) in [(0, 1), (0, 2), (6, 7), (3, 100)] {
            let text = receipt(index, size).to_string();
            let read = text.parse::<Receipt>().unwrap();
            assert_eq!(read.to_string(), text);
            assert_eq!(read.number(), index + 1);
            assert_eq!(read.entry(), format!("{{\"n\":{index}}}").as_bytes());
            let checkpoint = read.verify(&[key(1).verifier().clone()]).unwrap();
            assert_eq!(checkpoint.size, size);
            let error = read.verify(&[key(2).verifier().clone()]).unwrap_err();
            assert_eq!(error, ReceiptError::Checkpoint(NoteError::Unsigned));
            assert_eq!(read.verify_inclusion(), Ok(checkpoint), "consistent, whoever signed it");
        }
    }

    /// Made from the specifications with Python's `hashlib` and `cryptography`.
    #[test]
    fn receipts_of_another_implementation_are_the_same() {
        for text in [
            include_str!("../../tests/corpus/receipt/first-of-one"),
            include_str!("../../tests/corpus/receipt/middle"),
            include_str!("../../tests/corpus/receipt/last"),
        ] {
            let read = text.parse::<Receipt>().unwrap();
            assert_eq!(read.to_string(), text);
            let checkpoint = read.verify(&[key(1).verifier().clone()]).unwrap();
            let again = checkpoint.signed(&[&key(1)]).to_string();
            assert!(text.contains(again.trim_end()), "signing is deterministic");
        }
    }

    #[test]
    fn an_entry_of_another_number_or_another_ledger_is_not_included() {
        let mut other = receipt(3, 9);
        other.index = 2;
        assert_eq!(other.verify_inclusion(), Err(ReceiptError::NotIncluded { number: 3 }));
        let mut other = receipt(3, 9);
        other.entry = b"{\"n\":4}".to_vec();
        assert_eq!(other.verify_inclusion(), Err(ReceiptError::NotIncluded { number: 4 }));
        let mut other = receipt(3, 9);
        other.checkpoint = receipt(3, 10).checkpoint;
        assert_eq!(other.verify_inclusion(), Err(ReceiptError::NotIncluded { number: 4 }));
        let Receipt { entry, index, proof, checkpoint } = other;
        assert!(Receipt::new(entry, index, proof, checkpoint).is_err(), "none is made either");
    }

    #[test]
    fn what_is_no_receipt_is_refused() {
        let good = receipt(3, 9).to_string();
        let extra = good.lines().nth(1).unwrap().to_owned() + "\n";
        let hash = good.lines().nth(3).unwrap().to_owned() + "\n";
        for bad in [
            String::new(),
            good.replace("@v1", "@v2"),
            good.replace(&extra, ""),
            good.replace(&extra, "extra \n"),
            good.replace(&extra, "extra e\n"),
            good.replace("index 3", "index 03"),
            good.replace("index 3\n", ""),
            good.replace(&hash, "AAAA\n"),
            good.replace(&hash, &hash.repeat(PROOF_HASHES_MAX)),
            good.replace("\n\ngw", "\ngw"),
            good.replace("\n\ngw", "\n\n\ngw"),
            good.replace('\n', "\r\n"),
            good.trim_end().to_owned(),
            "x".repeat(RECEIPT_BYTES_MAX + 1),
        ] {
            let bad = bad
                .parse::<Receipt>()
                .and_then(|receipt| receipt.verify(&[key(1).verifier().clone()]).map(|_| receipt));
            assert!(bad.is_err(), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn any_flipped_bit_is_noticed(at in any::<usize>(), bit in 0_u8..8) {
            let mut bytes = receipt(6, 11).to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let read = String::from_utf8(bytes).ok().and_then(|text| text.parse::<Receipt>().ok());
            let keys = [key(1).verifier().clone()];
            prop_assert!(read.is_none_or(|receipt| receipt.verify(&keys).is_err()));
        }
    }
}
