//! An append-only file of JSON lines in which each line carries the hash of the one before: the
//! ledger's.
//!
//! Knows nothing of what the lines say. A line is `{"n":…,"at":…,"prev":…,"event":…}` and ends with
//! one line feed; its hash is the SHA-256 of its bytes without the line feed; `prev` of the first
//! line is a value that the owner of the file gives, so that files cannot be swapped.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::tree;
use crate::model::digest::Digest;

/// Longest line that is read back, in bytes. Longer ones are not written either.
pub const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The state of a chain: how many entries, and the hash of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many entries there are.
    pub entries: u64,
    /// The hash of the last entry's line; of an empty chain, the value its first `prev` will have.
    pub digest: Digest,
}

/// One entry as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line<E> {
    /// Its number, from 1.
    pub n: u64,
    /// When it was written.
    pub at: Timestamp,
    /// The hash of the line before.
    pub prev: Digest,
    /// What happened.
    pub event: E,
}

/// A chain that is being written.
#[derive(Debug)]
pub struct Chain {
    file: Arc<File>,
    head: Head,
    bytes: u64,
    /// Set when a failed write could not be undone: what the file ends with is then unknown.
    broken: bool,
}

impl Chain {
    /// Creates the file, which must not exist, with `origin` as the first `prev`.
    pub fn create(path: &Path, origin: Digest) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        let head = Head { entries: 0, digest: origin };
        Ok(Self { file: Arc::new(file), head, bytes: 0, broken: false })
    }

    /// Goes on with a file whose entries end with `head` after `bytes` bytes (see [`read`]).
    pub fn resume(path: &Path, head: Head, bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self { file: Arc::new(file), head, bytes, broken: false })
    }

    /// Where the chain stands.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The file, to be synchronized.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Appends one entry, and gives the head and the entry's leaf in the tree. When this returns the
    /// entry has left the process; when it fails the chain is as it was before.
    pub fn append(&mut self, at: Timestamp, event: &impl Serialize) -> io::Result<(Head, Digest)> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed and could not be undone"));
        }
        let n = self.head.entries.saturating_add(1);
        let mut line = serde_json::to_vec(&Line { n, at, prev: self.head.digest, event })?;
        if line.len() >= LINE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "an entry over 8 MiB"));
        }
        let (digest, leaf) = (Digest::of(&line), tree::leaf(&line));
        line.push(b'\n');
        let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if let Err(error) = (&*self.file).write_all(&line) {
            // Part of the line may be in the file: take it out again, or never write after it.
            if self.file.set_len(self.bytes).is_err() {
                self.broken = true;
            }
            return Err(error);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.head = Head { entries: n, digest };
        Ok((self.head, leaf))
    }
}

/// What is wrong with a chain, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("entry {entry} (byte {byte}): {what}")]
pub struct Damage {
    /// The entry at which it was noticed, from 1.
    pub entry: u64,
    /// Where that entry begins, in bytes from the start of the file.
    pub byte: u64,
    /// What is wrong.
    pub what: String,
}

/// What [`read`] found.
#[derive(Debug)]
pub struct Reading {
    /// Where the sound part ends.
    pub head: Head,
    /// How long the sound part is, in bytes.
    pub bytes: u64,
    /// Why reading stopped before the end of the file, if it did.
    pub damage: Option<Damage>,
}

/// Reads a chain from its beginning, gives each sound entry to `each` with the head behind it and its
/// text, and stops at the first damage.
pub fn read<E: for<'de> Deserialize<'de>>(
    path: &Path,
    origin: Digest,
    each: impl FnMut(Line<E>, Head, &[u8]),
) -> io::Result<Reading> {
    read_from(BufReader::new(File::open(path)?), origin, each)
}

/// [`read`], from anywhere.
#[doc(hidden)]
pub fn read_from<E: for<'de> Deserialize<'de>>(
    mut reader: impl BufRead,
    origin: Digest,
    mut each: impl FnMut(Line<E>, Head, &[u8]),
) -> io::Result<Reading> {
    let mut reading = Reading { head: Head { entries: 0, digest: origin }, bytes: 0, damage: None };
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let length = io::Read::take(&mut reader, limit).read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(reading);
        }
        match check::<E>(&line, reading.head) {
            Ok((entry, head)) => {
                reading.head = head;
                reading.bytes =
                    reading.bytes.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
                each(entry, head, line.strip_suffix(b"\n").unwrap_or(&line));
            }
            Err(what) => {
                let entry = reading.head.entries.saturating_add(1);
                reading.damage = Some(Damage { entry, byte: reading.bytes, what });
                return Ok(reading);
            }
        }
    }
}

fn check<E: for<'de> Deserialize<'de>>(
    line: &[u8],
    before: Head,
) -> Result<(Line<E>, Head), String> {
    let Some(text) = line.strip_suffix(b"\n") else {
        return Err("the last entry is cut off".to_owned());
    };
    let entry: Line<E> = serde_json::from_slice(text)
        .map_err(|error| format!("this is no entry of such a file ({error})"))?;
    if entry.n != before.entries.saturating_add(1) {
        return Err(format!(
            "entry {} stands where entry {} should: entries were removed, added or reordered",
            entry.n,
            before.entries.saturating_add(1)
        ));
    }
    if entry.prev != before.digest {
        return Err("it does not follow from the entry before: one of the two was changed".into());
    }
    let head = Head { entries: entry.n, digest: Digest::of(text) };
    Ok((entry, head))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn three() -> (tempfile::TempDir, std::path::PathBuf, Head) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chain.jsonl");
        let mut chain = Chain::create(&path, Digest::of(b"origin")).unwrap();
        for word in ["one", "two", "three"] {
            chain.append(Timestamp::UNIX_EPOCH, &word).unwrap();
        }
        (dir, path, chain.head())
    }

    #[test]
    fn a_chain_reads_back_and_goes_on() {
        let (_dir, path, head) = three();
        let mut words = Vec::new();
        let reading =
            read::<String>(&path, Digest::of(b"origin"), |l, _, _| words.push(l.event)).unwrap();
        assert_eq!(words, ["one", "two", "three"]);
        assert_eq!((reading.head, reading.damage), (head, None));
        let mut chain = Chain::resume(&path, reading.head, reading.bytes).unwrap();
        chain.append(Timestamp::UNIX_EPOCH, &"four").unwrap();
        let reading = read::<String>(&path, Digest::of(b"origin"), |_, _, _| ()).unwrap();
        assert_eq!((reading.head, reading.damage), (chain.head(), None));
    }

    #[test]
    fn another_origin_is_noticed() {
        let (_dir, path, _) = three();
        let reading = read::<String>(&path, Digest::ZERO, |_, _, _| ()).unwrap();
        assert_eq!(reading.damage.unwrap().entry, 1);
    }

    #[test]
    fn removed_and_reordered_entries_are_noticed() {
        let (_dir, path, _) = three();
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().collect::<Vec<_>>();
        for order in [&[0, 2][..], &[1, 0, 2], &[0, 1, 1, 2], &[1, 2]] {
            let mixed = order.iter().map(|&i| lines[i]).collect::<Vec<_>>().join("\n") + "\n";
            fs::write(&path, mixed).unwrap();
            let reading = read::<String>(&path, Digest::of(b"origin"), |_, _, _| ()).unwrap();
            assert!(reading.damage.is_some(), "{order:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Any flipped bit is noticed: by the chain itself, or, in the last entry, by its head.
        #[test]
        fn any_flipped_bit_is_noticed(at in 0usize..400, bit in 0u8..8) {
            let (_dir, path, head) = three();
            let mut bytes = fs::read(&path).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            fs::write(&path, bytes).unwrap();
            let reading = read::<String>(&path, Digest::of(b"origin"), |_, _, _| ()).unwrap();
            prop_assert!(reading.damage.is_some() || reading.head != head);
        }
    }
}
