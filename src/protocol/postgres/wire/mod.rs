//! The bytes of PostgreSQL's protocol, version 3: where a message begins and ends, in both
//! directions (PostgreSQL documentation, Frontend/Backend Protocol › Message Formats).
//!
//! Bytes in, values out: no socket, no session, no decision. A parser has three answers: a message,
//! need more, malformed. Every length is checked against a named bound before anything is taken.

#![deny(clippy::arithmetic_side_effects)]

mod answer;
mod build;
mod request;

use std::fmt;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;

pub use answer::Cells;
pub use answer::Column;
pub use answer::Report;
pub use answer::columns;
pub use answer::parameter;
pub use answer::ready;
pub use answer::text_of;
pub use build::Build;
pub use request::Bind;
pub use request::Parse;
pub use request::Request;
pub use request::Which;

/// A message's type and its length, in bytes.
pub const HEAD_BYTES: usize = 5;
/// Longest Query or Parse that is read, in bytes: a text of 1 MiB, its name and its types.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024 + 64 * 1024;
/// Longest Bind that is read, in bytes.
pub const BIND_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest message of the other types that PostgreSQL takes (`PQ_SMALL_MESSAGE_LIMIT`), in bytes.
pub const SMALL_BYTES_MAX: usize = 10_000;
/// Longest message that PostgreSQL takes at all (`PQ_LARGE_MESSAGE_LIMIT`), in bytes.
pub const REQUEST_BYTES_MAX: usize = 0x3fff_ffff;
/// Longest message of a target that is taken whole, in bytes; longer rows pass in pieces.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Rows longer than this pass in pieces where nothing in them is masked, in bytes.
pub const PIECE_BYTES_MIN: usize = 64 * 1024;

/// Bytes that are no message of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A type of message that does not exist, or not in this direction.
    #[error("invalid message type {0}")]
    Type(u8),
    /// A length that no message of this type can have.
    #[error("invalid message length {length} of message type {tag}")]
    Length {
        /// The message's type.
        tag: u8,
        /// The length that it says.
        length: u64,
    },
    /// The content is not what the type says.
    #[error("invalid message format of message type {0}")]
    Format(u8),
}

/// One message, with its type and length.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// The message's type.
    pub fn tag(&self) -> u8 {
        self.0.first().copied().unwrap_or_default()
    }

    /// What follows type and length.
    pub fn body(&self) -> Bytes {
        self.0.slice(HEAD_BYTES.min(self.0.len())..)
    }

    /// All of it.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// All of it.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// Says what it is and not what it says: it may hold a secret or a value.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:?}, {} bytes)", char::from(self.tag()), self.0.len())
    }
}

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A message.
    Frame(Frame),
    /// A message of this type that is longer than is read; its bytes are gone.
    Oversized(u8),
}

/// Parts what a client sends into messages.
#[derive(Debug, Default)]
pub struct Incomings {
    /// A message that is too long, and how much of it is still to come.
    skipping: Option<(u8, usize)>,
}

impl Incomings {
    /// The next message of `buffer`; `None`: it takes more bytes.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, Malformed> {
        if let Some((tag, left)) = self.skipping {
            let gone = left.min(buffer.len());
            buffer.advance(gone);
            let left = left.saturating_sub(gone);
            self.skipping = (left > 0).then_some((tag, left));
            return Ok((left == 0).then_some(Incoming::Oversized(tag)));
        }
        let Some((tag, total)) = head(buffer, request_bytes_max)? else { return Ok(None) };
        if total > read_bytes_max(tag) {
            self.skipping = Some((tag, total));
            return self.next(buffer);
        }
        Ok(take(buffer, total).map(Incoming::Frame))
    }
}

/// Whether a Terminate, or something that is no message, stands among the messages of `buffer`,
/// which are not yet to be taken: so a client that leaves is seen while a command of its waits.
pub fn leaves(mut buffer: &[u8]) -> bool {
    loop {
        match head(buffer, request_bytes_max) {
            Ok(Some((b'X', _))) | Err(_) => return true,
            Ok(Some((_, total))) => match buffer.get(total..) {
                Some(rest) => buffer = rest,
                None => return false,
            },
            Ok(None) => return false,
        }
    }
}

/// What a target sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A message.
    Frame(Frame),
    /// A run of whole `DataRow` messages.
    Rows {
        /// The messages.
        bytes: Bytes,
        /// How many they are.
        rows: u64,
    },
    /// A part of one long `DataRow`.
    Part {
        /// The part.
        bytes: Bytes,
        /// It is the first of its message.
        first: bool,
    },
}

/// Parts what a target sends into messages, runs of rows and parts of long rows.
#[derive(Debug, Default)]
pub struct Answers {
    /// How much of a long row is still to come.
    left: usize,
}

impl Answers {
    /// The next piece of `buffer`; `None`: it takes more bytes. `whole`: rows are needed whole,
    /// because something in them is masked.
    pub fn next(&mut self, buffer: &mut BytesMut, whole: bool) -> Result<Option<Piece>, Malformed> {
        if self.left > 0 {
            return Ok(self.part(buffer, false));
        }
        let Some((tag, total)) = head(buffer, answer_bytes_max)? else { return Ok(None) };
        if tag != b'D' {
            let too_long = total > ANSWER_BYTES_MAX;
            let length = || u64::try_from(total).unwrap_or(u64::MAX);
            return if too_long {
                Err(Malformed::Length { tag, length: length() })
            } else {
                Ok(take(buffer, total).map(Piece::Frame))
            };
        }
        let (run, rows) = run_of_rows(buffer)?;
        if rows > 0 {
            return Ok(Some(Piece::Rows { bytes: buffer.split_to(run).freeze(), rows }));
        }
        if whole {
            let length = u64::try_from(total).unwrap_or(u64::MAX);
            let fits = total <= ANSWER_BYTES_MAX;
            return if fits { Ok(None) } else { Err(Malformed::Length { tag, length }) };
        }
        if total < PIECE_BYTES_MIN {
            return Ok(None);
        }
        self.left = total;
        Ok(self.part(buffer, true))
    }

    /// Whether the last message was given out whole, so that another may follow.
    pub fn is_between_messages(&self) -> bool {
        self.left == 0
    }

    fn part(&mut self, buffer: &mut BytesMut, first: bool) -> Option<Piece> {
        let size = self.left.min(buffer.len());
        self.left = self.left.saturating_sub(size);
        let bytes = buffer.split_to(size).freeze();
        (size > 0).then_some(Piece::Part { bytes, first })
    }
}

/// How many bytes of whole `DataRow` messages `buffer` begins with, and how many messages they are.
fn run_of_rows(buffer: &[u8]) -> Result<(usize, u64), Malformed> {
    let (mut run, mut rows) = (0_usize, 0_u64);
    while let Some(rest) = buffer.get(run..) {
        match head(rest, answer_bytes_max)? {
            Some((b'D', total)) if total <= rest.len() => {
                run = run.saturating_add(total);
                rows = rows.saturating_add(1);
            }
            Some(_) | None => break,
        }
    }
    Ok((run, rows))
}

/// Type and whole size of the message that `buffer` begins with.
fn head(
    buffer: &[u8],
    bytes_max: fn(u8) -> Option<usize>,
) -> Result<Option<(u8, usize)>, Malformed> {
    let Some((&tag, rest)) = buffer.split_first() else { return Ok(None) };
    let Some(longest) = bytes_max(tag) else { return Err(Malformed::Type(tag)) };
    let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    let malformed = || Malformed::Length { tag, length: u64::from(length) };
    // The length counts itself, but not the type.
    let total = usize::try_from(length).ok().filter(|length| *length >= 4);
    let total = total.and_then(|length| length.checked_add(1)).ok_or_else(malformed)?;
    if total > longest { Err(malformed()) } else { Ok(Some((tag, total))) }
}

fn take(buffer: &mut BytesMut, total: usize) -> Option<Frame> {
    (buffer.len() >= total).then(|| Frame(buffer.split_to(total).freeze()))
}

/// Longest message of a type that a client may send at all; `None`: there is no such type.
fn request_bytes_max(tag: u8) -> Option<usize> {
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Some(REQUEST_BYTES_MAX),
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' => Some(SMALL_BYTES_MAX),
        _ => None,
    }
}

/// Longest message of a type that is read; longer ones are skipped and refused.
fn read_bytes_max(tag: u8) -> usize {
    match tag {
        b'Q' | b'P' => TEXT_BYTES_MAX,
        b'B' => BIND_BYTES_MAX,
        // Refused, or dropped, whatever they say.
        b'F' | b'd' => SMALL_BYTES_MAX,
        _ => REQUEST_BYTES_MAX,
    }
}

/// Longest message of a type that a target may send; `None`: there is no such type.
fn answer_bytes_max(tag: u8) -> Option<usize> {
    let known = b"RSKZTtDCENAGHWdcVI123nsv".contains(&tag);
    // PostgreSQL builds no message of more than 1 GiB.
    known.then_some(0x4000_0000)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "tests count")]

    use proptest::prelude::*;

    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        Build::new(tag).raw(body).done().into_bytes().to_vec()
    }

    fn all_incoming(bytes: &[u8], at: usize) -> Result<Vec<Incoming>, Malformed> {
        let (mut parser, mut buffer, mut found) =
            (Incomings::default(), BytesMut::new(), Vec::new());
        for part in [&bytes[..at], &bytes[at..]] {
            buffer.extend_from_slice(part);
            while let Some(next) = parser.next(&mut buffer)? {
                found.push(next);
            }
        }
        Ok(found)
    }

    #[test]
    fn requests_are_the_same_wherever_the_bytes_are_split() {
        let mut bytes = frame(b'Q', b"select 1\0");
        bytes.extend(frame(b'd', &vec![7; 20_000]));
        bytes.extend(frame(b'S', b""));
        let whole = all_incoming(&bytes, 0).unwrap();
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[1], Incoming::Oversized(b'd'));
        for at in (0..=bytes.len()).filter(|at| *at < 200 || *at > bytes.len() - 200) {
            assert_eq!(all_incoming(&bytes, at).unwrap(), whole, "split at {at}");
        }
    }

    #[test]
    fn lengths_out_of_bounds_and_unknown_types_are_malformed() {
        for length in [0_u32, 3, 0x4000_0000, 0x7fff_ffff, 0xffff_ffff] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            assert!(all_incoming(&bytes, 0).is_err(), "{length:#x}");
        }
        // Types that PostgreSQL keeps small: 10,000 bytes, the type not counted.
        let mut bytes = vec![b'E'];
        bytes.extend(10_001_u32.to_be_bytes());
        assert!(all_incoming(&bytes, 0).is_err());
        assert_eq!(all_incoming(b"y", 0), Err(Malformed::Type(b'y')));
        assert_eq!(all_incoming(b"p", 0), Err(Malformed::Type(b'p')));
    }

    #[test]
    fn a_client_that_leaves_is_seen_behind_other_messages() {
        let mut bytes = frame(b'E', b"\0\0\0\0\0");
        bytes.extend(frame(b'S', b""));
        assert!(!leaves(&bytes));
        bytes.extend(frame(b'X', b""));
        assert!(leaves(&bytes));
    }

    fn pieces(bytes: &[u8], at: usize, whole: bool) -> Result<(Vec<u8>, u64, usize), Malformed> {
        let (mut parser, mut buffer) = (Answers::default(), BytesMut::new());
        let (mut said, mut rows, mut frames) = (Vec::new(), 0, 0);
        for part in [&bytes[..at], &bytes[at..]] {
            buffer.extend_from_slice(part);
            while let Some(piece) = parser.next(&mut buffer, whole)? {
                match piece {
                    Piece::Frame(frame) => {
                        frames += 1;
                        said.extend_from_slice(frame.bytes());
                    }
                    Piece::Rows { bytes, rows: n } => {
                        rows += n;
                        said.extend_from_slice(&bytes);
                    }
                    Piece::Part { bytes, first } => {
                        rows += u64::from(first);
                        said.extend_from_slice(&bytes);
                    }
                }
            }
        }
        Ok((said, rows, frames))
    }

    #[test]
    fn answers_keep_every_byte_wherever_they_are_split() {
        let mut bytes = frame(b'T', b"\0\0");
        for _ in 0..3 {
            bytes.extend(frame(b'D', b"\0\x01\0\0\0\x01x"));
        }
        bytes.extend(frame(b'C', b"SELECT 3\0"));
        for at in 0..=bytes.len() {
            for whole in [true, false] {
                assert_eq!(pieces(&bytes, at, whole).unwrap(), (bytes.clone(), 3, 2), "{at}");
            }
        }
        let long = frame(b'D', &vec![1; 3 * PIECE_BYTES_MIN]);
        assert_eq!(pieces(&long, 100, false).unwrap(), (long.clone(), 1, 0));
        assert_eq!(pieces(&long, 100, true).unwrap(), (long.clone(), 1, 0));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), tag in any::<u8>()) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut parser = Incomings::default();
            while let Ok(Some(next)) = parser.next(&mut buffer) {
                if let Incoming::Frame(frame) = next {
                    drop(Request::of(&frame));
                }
            }
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut parser = Answers::default();
            while let Ok(Some(_)) = parser.next(&mut buffer, bytes.len() % 2 == 0) {}
            let made = Frame(Bytes::from(frame(tag, &bytes)));
            drop(Request::of(&made));
            drop(columns(&made));
            drop(Report::of(&made));
            let _cells = Cells::of(made.bytes()).map(Iterator::count);
        }
    }
}
