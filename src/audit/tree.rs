//! The Merkle tree over a ledger's entries, as RFC 6962 §2.1 and RFC 9162 §2.1 define it.
//!
//! Pure: leaf hashes in; roots and proofs out. A tree is never held whole: [`Frontier`] is what is
//! needed to go on, and [`Prover`] is what is needed of one proof, each `O(log n)` hashes.

use crate::model::digest::Digest;

/// Longest proof, in hashes: one for each bit of a tree's size, and one more.
pub const PROOF_HASHES_MAX: usize = 65;

/// What stands before a leaf's bytes, so that no leaf can pass for a node.
const LEAF: &[u8] = &[0];
/// What stands before a node's two hashes.
const NODE: &[u8] = &[1];

/// The hash of a leaf with these bytes.
pub fn leaf(bytes: &[u8]) -> Digest {
    Digest::of_parts(&[LEAF, bytes])
}

/// The hash of a node with these children.
pub fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[NODE, left.as_bytes(), right.as_bytes()])
}

/// A growing tree: the roots of its complete subtrees, which suffice to go on and to know the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// One for each bit that is set in `size`, the largest subtree first.
    peaks: Vec<Digest>,
}

impl Frontier {
    /// A tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree that had this [`Frontier::size`] and these [`Frontier::peaks`]; `None` where they
    /// do not fit each other.
    pub fn resume(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        (u32::try_from(peaks.len()) == Ok(size.count_ones())).then_some(Self { size, peaks })
    }

    /// Appends a leaf by its hash (see [`leaf`]).
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, the largest first.
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// The root; of a tree without leaves, the hash of nothing.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Digest::of(b"") };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

/// Gathers one proof while the leaves go by, from the first to the last.
#[derive(Debug, Clone)]
pub struct Prover {
    /// The subtrees whose roots are the proof, in its order. No two have a leaf in common.
    parts: Vec<Part>,
    seen: u64,
}

#[derive(Debug, Clone)]
struct Part {
    from: u64,
    to: u64,
    tree: Frontier,
}

impl Part {
    fn new(from: u64, to: u64) -> Self {
        Self { from, to, tree: Frontier::new() }
    }
}

impl Prover {
    /// Of the leaf at `index` (from 0) in the tree of `size` leaves; `None` where there is no such
    /// leaf.
    pub fn inclusion(index: u64, size: u64) -> Option<Self> {
        if index >= size {
            return None;
        }
        let (mut from, mut to) = (0, size);
        let mut parts = Vec::new();
        while let Some(middle) = split(from, to) {
            if index < middle {
                parts.push(Part::new(middle, to));
                to = middle;
            } else {
                parts.push(Part::new(from, middle));
                from = middle;
            }
        }
        parts.reverse();
        Some(Self { parts, seen: 0 })
    }

    /// That the tree of `old` leaves is the beginning of that of `size` leaves; `None` where it
    /// cannot be. From an empty tree, and to the same, there is nothing to prove.
    pub fn consistency(old: u64, size: u64) -> Option<Self> {
        if old > size {
            return None;
        }
        let (mut from, mut to) = (0, size);
        let mut parts = Vec::new();
        if old > 0 {
            while let Some(middle) = split(from, to).filter(|_| old < to) {
                if old <= middle {
                    parts.push(Part::new(middle, to));
                    to = middle;
                } else {
                    parts.push(Part::new(from, middle));
                    from = middle;
                }
            }
            // The old tree itself is known to whoever asks.
            if from > 0 {
                parts.push(Part::new(from, to));
            }
        }
        parts.reverse();
        Some(Self { parts, seen: 0 })
    }

    /// The next leaf, by its hash.
    pub fn push(&mut self, leaf: Digest) {
        let at = self.seen;
        if let Some(part) = self.parts.iter_mut().find(|part| (part.from..part.to).contains(&at)) {
            part.tree.push(leaf);
        }
        self.seen = at.saturating_add(1);
    }

    /// The proof; `None` where leaves are missing.
    pub fn finish(self) -> Option<Vec<Digest>> {
        let whole = |part: &Part| part.tree.size() == part.to.saturating_sub(part.from);
        let root = |part: Part| whole(&part).then(|| part.tree.root());
        self.parts.into_iter().map(root).collect()
    }
}

/// Where the left subtree of the leaves `from..to` ends; `None` of fewer than two leaves.
fn split(from: u64, to: u64) -> Option<u64> {
    let half = to.checked_sub(from)?.checked_sub(1)?.checked_ilog2()?;
    1_u64.checked_shl(half)?.checked_add(from)
}

/// The proof of the leaf at `index` in the tree of all `leaves`, given by their hashes.
pub fn prove_inclusion(index: u64, leaves: &[Digest]) -> Option<Vec<Digest>> {
    proven(Prover::inclusion(index, u64::try_from(leaves.len()).ok()?)?, leaves)
}

/// The proof that the tree of the first `old` leaves is the beginning of that of all `leaves`.
pub fn prove_consistency(old: u64, leaves: &[Digest]) -> Option<Vec<Digest>> {
    proven(Prover::consistency(old, u64::try_from(leaves.len()).ok()?)?, leaves)
}

fn proven(mut prover: Prover, leaves: &[Digest]) -> Option<Vec<Digest>> {
    for leaf in leaves {
        prover.push(*leaf);
    }
    prover.finish()
}

/// Whether `proof` shows that the leaf with this hash stands at `index` in the tree of `size`
/// leaves with this root (RFC 9162 §2.1.3.2).
#[must_use]
pub fn includes(root: &Digest, size: u64, index: u64, leaf: &Digest, proof: &[Digest]) -> bool {
    if index >= size {
        return false;
    }
    let mut path = Path { node: index, last: size.saturating_sub(1) };
    let mut hash = *leaf;
    for sibling in proof {
        match path.climb() {
            Some(Side::Left) => hash = node(sibling, &hash),
            Some(Side::Right) => hash = node(&hash, sibling),
            None => return false,
        }
    }
    path.last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `old` leaves with the root `old_root` is the beginning of
/// that of `size` leaves with the root `root` (RFC 9162 §2.1.4.2).
#[must_use]
pub fn extends(old: u64, old_root: &Digest, size: u64, root: &Digest, proof: &[Digest]) -> bool {
    if old == 0 || old == size {
        let same = if old == 0 { Frontier::new().root() } else { *root };
        return proof.is_empty() && *old_root == same;
    }
    // A complete old tree is a node of the new one, and so is not in the proof.
    let known = old.is_power_of_two().then_some(old_root);
    let mut path = known.into_iter().chain(proof);
    let Some(first) = path.next().filter(|_| old < size) else { return false };
    let mut at = Path { node: old.saturating_sub(1), last: size.saturating_sub(1) };
    while at.node & 1 == 1 {
        at.up();
    }
    let (mut before, mut after) = (*first, *first);
    for sibling in path {
        match at.climb() {
            Some(Side::Left) => {
                before = node(sibling, &before);
                after = node(sibling, &after);
            }
            Some(Side::Right) => after = node(&after, sibling),
            None => return false,
        }
    }
    at.last == 0 && before == *old_root && after == *root
}

/// Where a node stands in its row, and where the row's last one does.
struct Path {
    node: u64,
    last: u64,
}

/// On which side of a node its sibling is.
enum Side {
    Left,
    Right,
}

impl Path {
    /// Climbs to the next node that has a sibling, and over it: on which side that sibling is.
    /// `None` at the root.
    fn climb(&mut self) -> Option<Side> {
        if self.last == 0 {
            return None;
        }
        let side = if self.node & 1 == 1 || self.node == self.last {
            while self.node & 1 == 0 && self.node != 0 {
                self.up();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.up();
        Some(side)
    }

    fn up(&mut self) {
        self.node >>= 1;
        self.last >>= 1;
    }
}

#[cfg(test)]
mod tests {
    use ct_merkle::RootHash;
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use proptest::prelude::*;
    use sha2::Sha256;
    use tlog_tiles::tlog;

    use super::*;

    fn leaves(count: u64) -> Vec<Vec<u8>> {
        (0..count).map(|n| format!("entry {n}").into_bytes()).collect()
    }

    fn hashes(of: &[Vec<u8>]) -> Vec<Digest> {
        of.iter().map(|bytes| leaf(bytes)).collect()
    }

    fn root(of: &[Digest]) -> Digest {
        let mut tree = Frontier::new();
        for leaf in of {
            tree.push(*leaf);
        }
        assert_eq!(tree.size(), u64::try_from(of.len()).unwrap());
        assert_eq!(Frontier::resume(tree.size(), tree.peaks().to_vec()), Some(tree.clone()));
        tree.root()
    }

    /// The tree of Certificate Transparency's own tests.
    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let data: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let hashes = data.map(leaf);
        for (size, expected) in roots.iter().enumerate() {
            assert_eq!(root(&hashes[..size]).to_string(), *expected, "of {size} leaves");
        }
    }

    /// What tlog keeps of a tree, in memory.
    struct Stored(Vec<tlog::Hash>);

    impl tlog::HashReader for Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
            Ok(indexes.iter().map(|&at| self.0[usize::try_from(at).unwrap()]).collect())
        }
    }

    fn theirs(hash: Digest) -> tlog::Hash {
        tlog::Hash(*hash.as_bytes())
    }

    fn all_theirs(hashes: &[Digest]) -> Vec<tlog::Hash> {
        hashes.iter().copied().map(theirs).collect()
    }

    fn ours(hashes: &[tlog::Hash]) -> Vec<Digest> {
        hashes.iter().map(|hash| Digest::from(hash.0)).collect()
    }

    #[test]
    fn roots_and_proofs_are_those_of_tlog() {
        let data = leaves(70);
        let mut stored = Stored(Vec::new());
        for (size, bytes) in (1..).zip(&data) {
            let more = tlog::stored_hashes(size - 1, bytes, &stored).unwrap();
            stored.0.extend(more);
            let hashes = hashes(&data[..usize::try_from(size).unwrap()]);
            let root = root(&hashes);
            assert_eq!(tlog::tree_hash(size, &stored).unwrap(), theirs(root));
            for index in 0..size {
                let proof = prove_inclusion(index, &hashes).unwrap();
                assert_eq!(ours(&tlog::prove_record(size, index, &stored).unwrap()), proof);
                let leaf = hashes[usize::try_from(index).unwrap()];
                assert!(includes(&root, size, index, &leaf, &proof));
                let (proof, root, leaf) = (all_theirs(&proof), theirs(root), theirs(leaf));
                tlog::check_record(&proof, size, root, index, leaf).unwrap();
            }
            for old in 1..=size {
                let proof = prove_consistency(old, &hashes).unwrap();
                assert_eq!(ours(&tlog::prove_tree(size, old, &stored).unwrap()), proof);
                let old_root = self::root(&hashes[..usize::try_from(old).unwrap()]);
                assert!(extends(old, &old_root, size, &root, &proof), "{old} of {size}");
                let proof = all_theirs(&proof);
                tlog::check_tree(&proof, size, theirs(root), old, theirs(old_root)).unwrap();
            }
        }
    }

    #[test]
    fn proofs_are_those_of_ct_merkle() {
        let data = leaves(40);
        let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        for (size, bytes) in (1_usize..).zip(&data) {
            tree.push(bytes.clone());
            let hashes = hashes(&data[..size]);
            let root = RootHash::<Sha256>::new((*root(&hashes).as_bytes()).into(), tree.len());
            assert!(tree.root() == root);
            for index in 0..size {
                let proof = prove_inclusion(index.try_into().unwrap(), &hashes).unwrap();
                let bytes = proof.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>();
                assert_eq!(tree.prove_inclusion(index).as_bytes(), bytes);
            }
            for old in 1..size {
                let proof = prove_consistency(old.try_into().unwrap(), &hashes).unwrap();
                let bytes = proof.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>();
                assert_eq!(tree.prove_consistency(size - old).as_bytes(), bytes);
            }
        }
    }

    #[test]
    fn an_empty_tree_is_the_beginning_of_every_one_and_proves_no_leaf() {
        let (empty, three) = (root(&[]), hashes(&leaves(3)));
        assert!(extends(0, &empty, 3, &root(&three), &[]));
        assert!(extends(0, &empty, 0, &empty, &[]));
        assert!(!extends(0, &three[0], 3, &root(&three), &[]));
        assert!(!extends(3, &root(&three), 2, &root(&three[..2]), &[]));
        assert!(!includes(&empty, 0, 0, &empty, &[]));
        assert_eq!(prove_inclusion(0, &[]), None);
        assert_eq!(prove_inclusion(3, &three), None);
        assert_eq!(prove_consistency(4, &three), None);
        assert_eq!(Prover::inclusion(1, 3).unwrap().finish(), None, "without its leaves");
        assert_eq!(Frontier::resume(3, vec![empty]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// A proof is of one leaf, at one place, in one tree: with anything else it fails.
        #[test]
        fn a_changed_inclusion_proof_fails(
            size in 1_u64..200, index in any::<u64>(), at in any::<usize>(), bit in 0_usize..256,
        ) {
            let index = index % size;
            let hashes = hashes(&leaves(size));
            let (root, leaf) = (root(&hashes), hashes[usize::try_from(index).unwrap()]);
            let proof = prove_inclusion(index, &hashes).unwrap();
            prop_assert!(proof.len() <= PROOF_HASHES_MAX);
            prop_assert!(includes(&root, size, index, &leaf, &proof));
            for other in (0..size).filter(|other| *other != index) {
                prop_assert!(!includes(&root, size, other, &leaf, &proof));
            }
            let longer = [proof.as_slice(), &[leaf]].concat();
            prop_assert!(!includes(&root, size, index, &leaf, &longer));
            prop_assert!(!includes(&flipped(root, bit), size, index, &leaf, &proof));
            prop_assert!(!includes(&root, size, index, &flipped(leaf, bit), &proof));
            if !proof.is_empty() {
                prop_assert!(!includes(&root, size, index, &leaf, &proof[1..]));
                let mut bent = proof;
                let at = at % bent.len();
                bent[at] = flipped(bent[at], bit);
                prop_assert!(!includes(&root, size, index, &leaf, &bent));
            }
        }

        #[test]
        fn a_changed_consistency_proof_fails(
            size in 2_u64..200, old in any::<u64>(), at in any::<usize>(), bit in 0_usize..256,
        ) {
            let old = old % (size - 1) + 1;
            let hashes = hashes(&leaves(size));
            let (root, before) = (root(&hashes), root(&hashes[..usize::try_from(old).unwrap()]));
            let proof = prove_consistency(old, &hashes).unwrap();
            prop_assert!(proof.len() <= PROOF_HASHES_MAX);
            prop_assert!(extends(old, &before, size, &root, &proof));
            let longer = [proof.as_slice(), &[root]].concat();
            prop_assert!(!extends(old, &before, size, &root, &longer));
            prop_assert!(!extends(old, &before, size, &root, &proof[1..]));
            prop_assert!(!extends(old, &flipped(before, bit), size, &root, &proof));
            prop_assert!(!extends(old, &before, size, &flipped(root, bit), &proof));
            let mut bent = proof;
            let at = at % bent.len();
            bent[at] = flipped(bent[at], bit);
            prop_assert!(!extends(old, &before, size, &root, &bent));
        }

        /// Whatever is asked, a verifier answers.
        #[test]
        fn sizes_of_any_order_are_answered(
            a in any::<u64>(), b in any::<u64>(), count in 0_usize..70,
        ) {
            let proof = vec![Digest::ZERO; count];
            prop_assert!(!includes(&Digest::ZERO, a, b, &Digest::ZERO, &proof));
            prop_assert!(!extends(a, &Digest::ZERO, b, &Digest::of(b"x"), &proof));
            if let Some(prover) = Prover::inclusion(b, a) {
                prop_assert!(prover.parts.len() <= PROOF_HASHES_MAX);
            }
            if let Some(prover) = Prover::consistency(b, a) {
                prop_assert!(prover.parts.len() <= PROOF_HASHES_MAX);
            }
        }
    }

    fn flipped(digest: Digest, bit: usize) -> Digest {
        let mut bytes = *digest.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        Digest::from(bytes)
    }
}
