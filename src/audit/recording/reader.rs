//! Reads a recording: chunks without a key, entries with it. Stops at the first damage.

use std::io;
use std::io::BufRead;
use std::io::ErrorKind;

use bytes::Bytes;

use crate::audit::chain::Damage;
use crate::audit::chain::Head;
use crate::audit::keys::DataKey;
use crate::audit::recording::Entry;
use crate::audit::recording::Header;
use crate::audit::recording::chunk::ChunkHead;
use crate::audit::recording::chunk::Cipher;
use crate::audit::recording::chunk::HEAD_BYTES;
use crate::audit::recording::frame;
use crate::model::digest::Digest;

/// What reading came upon.
#[derive(Debug)]
pub enum Seen<T> {
    /// The next one.
    One(T),
    /// The end, in order.
    End,
    /// What follows is damaged; nothing behind it is read.
    Damaged(Damage),
}

/// The chunks of a recording, whose chain is checked as they are read. No key is needed.
#[derive(Debug)]
pub struct Chunks<R> {
    source: R,
    header: Header,
    head: Head,
    number: u64,
    bytes: u64,
}

/// A chunk as it is stored.
#[derive(Debug)]
pub struct Chunk {
    head: ChunkHead,
    body: Vec<u8>,
    /// The number of its first entry.
    first: u64,
}

impl<R: BufRead> Chunks<R> {
    /// Reads the header.
    pub fn begin(mut reader: R) -> io::Result<Result<Self, Damage>> {
        Ok(match Header::read(&mut reader)? {
            Ok((header, bytes, digest)) => {
                let head = Head { entries: 0, digest };
                Ok(Self { source: reader, header, head, number: 0, bytes })
            }
            Err(what) => Err(Damage { entry: 0, byte: 0, what }),
        })
    }

    /// Whose recording it is.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where the sound part ends so far.
    pub fn head(&self) -> Head {
        self.head
    }

    /// How long the sound part is so far, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next chunk.
    #[expect(
        clippy::should_implement_trait,
        reason = "it fails in two ways, which are not the end"
    )]
    pub fn next(&mut self) -> io::Result<Seen<Chunk>> {
        let mut head_bytes = [0; HEAD_BYTES];
        match fill(&mut self.source, &mut head_bytes)? {
            0 => return Ok(Seen::End),
            HEAD_BYTES => {}
            _ => return Ok(Seen::Damaged(self.damage("the last chunk is cut off"))),
        }
        let head = match ChunkHead::parse(&head_bytes) {
            Ok(head) => head,
            Err(what) => return Ok(Seen::Damaged(self.damage(what))),
        };
        let length = usize::try_from(head.body).unwrap_or(usize::MAX);
        let mut body = Vec::new();
        let mut limited = io::Read::take(&mut self.source, u64::from(head.body));
        let read = io::Read::read_to_end(&mut limited, &mut body)?;
        if read != length {
            return Ok(Seen::Damaged(self.damage("the last chunk is cut off")));
        }
        if head.number != self.number.saturating_add(1) {
            let what = format!(
                "chunk {} stands where chunk {} should: chunks were removed, added or reordered",
                head.number,
                self.number.saturating_add(1)
            );
            return Ok(Seen::Damaged(self.damage(what)));
        }
        if head.prev != self.head.digest {
            let what = "it does not follow from the chunk before: one of the two was changed";
            return Ok(Seen::Damaged(self.damage(what)));
        }
        let first = self.head.entries.saturating_add(1);
        self.number = head.number;
        self.head = Head {
            entries: self.head.entries.saturating_add(u64::from(head.frames)),
            digest: Digest::of_parts(&[&head_bytes, &body]),
        };
        let length = HEAD_BYTES.saturating_add(body.len());
        self.bytes = self.bytes.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        Ok(Seen::One(Chunk { head, body, first }))
    }

    fn damage(&self, what: impl Into<String>) -> Damage {
        Damage { entry: self.head.entries.saturating_add(1), byte: self.bytes, what: what.into() }
    }
}

/// The entries of a recording, opened with its data key.
#[derive(Debug)]
pub struct Entries<R> {
    chunks: Chunks<R>,
    cipher: Cipher,
    rest: Bytes,
    /// How many entries were taken, and how many there are up to the end of the open chunk.
    taken: u64,
    until: u64,
    /// Where the open chunk begins and what comes before it.
    before: (Head, u64),
}

impl<R: BufRead> Entries<R> {
    /// Opens what `chunks` reads. `Ok(None)`: `key` is another recording's.
    pub fn open(chunks: Chunks<R>, key: &DataKey) -> io::Result<Option<Self>> {
        if key.commitment() != chunks.header().commitment {
            return Ok(None);
        }
        let before = (chunks.head(), chunks.bytes());
        let (taken, until) = (chunks.head().entries, chunks.head().entries);
        Ok(Some(Self {
            cipher: Cipher::new(key)?,
            chunks,
            rest: Bytes::new(),
            taken,
            until,
            before,
        }))
    }

    /// Whose recording it is.
    pub fn header(&self) -> &Header {
        self.chunks.header()
    }

    /// What it is read from.
    pub fn reader(&self) -> &R {
        &self.chunks.source
    }

    /// Where the whole chunks that were read end.
    pub fn head(&self) -> Head {
        self.chunks.head()
    }

    /// How long they are, in bytes.
    pub fn bytes(&self) -> u64 {
        self.chunks.bytes()
    }

    /// The next entry.
    #[expect(
        clippy::should_implement_trait,
        reason = "it fails in two ways, which are not the end"
    )]
    pub fn next(&mut self) -> io::Result<Seen<Entry>> {
        if self.rest.is_empty() {
            if self.taken != self.until {
                return Ok(Seen::Damaged(self.damage("a chunk holds fewer entries than it says")));
            }
            self.before = (self.chunks.head(), self.chunks.bytes());
            let chunk = match self.chunks.next()? {
                Seen::One(chunk) => chunk,
                Seen::End => return Ok(Seen::End),
                Seen::Damaged(damage) => return Ok(Seen::Damaged(damage)),
            };
            self.taken = chunk.first.saturating_sub(1);
            self.until = self.chunks.head().entries;
            match self.cipher.open(&chunk.head, chunk.body) {
                Ok(rest) => self.rest = rest,
                Err(what) => return Ok(Seen::Damaged(self.damage(what))),
            }
        }
        if self.taken == self.until {
            return Ok(Seen::Damaged(self.damage("a chunk holds more entries than it says")));
        }
        let n = self.taken.saturating_add(1);
        match frame::take(&mut self.rest, n) {
            Ok(entry) => {
                self.taken = n;
                Ok(Seen::One(entry))
            }
            Err(what) => Ok(Seen::Damaged(self.damage(what))),
        }
    }

    fn damage(&self, what: impl Into<String>) -> Damage {
        Damage { entry: self.taken.saturating_add(1), byte: self.before.1, what: what.into() }
    }
}

/// Reads until `place` is full or the input ends, and says how much that was.
fn fill(reader: &mut impl io::Read, place: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0_usize;
    while let Some(rest) = place.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
