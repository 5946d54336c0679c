//! Frames: events as JSON, and what crossed as bytes.

use std::io;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::entry::TrailEvent;

/// Longest frame, in bytes. Longer events are not written.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A frame's kind and length.
const FRAME_HEAD_BYTES: usize = 5;
/// What stands before the bytes of a data frame: time, command, stream.
const DATA_HEAD_BYTES: usize = 17;
const EVENT: u8 = b'J';
const DATA: u8 = b'D';

/// Which way bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// What the principal saw: a result, a body, stdout, a terminal.
    Output,
    /// What the principal sent after the command: stdin, a body, keys.
    Input,
    /// What the principal saw on stderr.
    Error,
}

impl Stream {
    fn byte(self) -> u8 {
        match self {
            Self::Output => 0,
            Self::Input => 1,
            Self::Error => 2,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Output, Self::Input, Self::Error].into_iter().find(|stream| stream.byte() == byte)
    }
}

/// One thing of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1.
    pub n: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Something happened.
    Event(Box<TrailEvent>),
    /// Bytes crossed.
    Data {
        /// Of which command of the session.
        command: u64,
        /// Which way.
        stream: Stream,
        /// The bytes, after masking.
        bytes: Bytes,
    },
}

#[derive(Serialize)]
struct Stamped<'a> {
    at: Timestamp,
    event: &'a TrailEvent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StampedOwned {
    at: Timestamp,
    event: Box<TrailEvent>,
}

/// Appends an event's frame to `out`; on failure `out` is as it was.
pub(super) fn put_event(out: &mut Vec<u8>, at: Timestamp, event: &TrailEvent) -> io::Result<()> {
    let begin = out.len();
    out.extend_from_slice(&[EVENT, 0, 0, 0, 0]);
    let written = serde_json::to_writer(&mut *out, &Stamped { at, event });
    let length = out.len().saturating_sub(begin).saturating_sub(FRAME_HEAD_BYTES);
    let fits = u32::try_from(length).ok().filter(|_| length <= FRAME_BYTES_MAX);
    if let Some(length) = fits.filter(|_| written.is_ok()) {
        let place = out.get_mut(begin.saturating_add(1)..).and_then(|o| o.first_chunk_mut());
        if let Some(place) = place {
            *place = length.to_be_bytes();
        }
        return Ok(());
    }
    out.truncate(begin);
    written?;
    Err(io::Error::new(io::ErrorKind::FileTooLarge, "an entry over 8 MiB"))
}

/// Appends a data frame to `out`. `bytes` are at most [`FRAME_BYTES_MAX`] less its head.
pub(super) fn put_data(
    out: &mut Vec<u8>,
    at: Timestamp,
    command: u64,
    stream: Stream,
    bytes: &[u8],
) -> io::Result<()> {
    let length = bytes.len().saturating_add(DATA_HEAD_BYTES);
    let length = u32::try_from(length)
        .ok()
        .filter(|_| length <= FRAME_BYTES_MAX)
        .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "a data frame over 8 MiB"))?;
    let at = u64::try_from(at.as_microsecond()).unwrap_or_default();
    out.push(DATA);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&at.to_be_bytes());
    out.extend_from_slice(&command.to_be_bytes());
    out.push(stream.byte());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Takes the next frame off `rest`, as entry number `n`.
pub(super) fn take(rest: &mut Bytes, n: u64) -> Result<Entry, String> {
    let head = rest.first_chunk::<FRAME_HEAD_BYTES>().ok_or("a frame is cut off")?;
    let [kind, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let whole = length.checked_add(FRAME_HEAD_BYTES).filter(|whole| *whole <= rest.len());
    let mut payload = rest.split_to(whole.ok_or("a frame is longer than its chunk")?);
    let payload = payload.split_off(FRAME_HEAD_BYTES);
    match kind {
        EVENT => {
            let StampedOwned { at, event } = serde_json::from_slice(&payload)
                .map_err(|error| format!("an event cannot be read ({error})"))?;
            Ok(Entry { n, at, what: What::Event(event) })
        }
        DATA => data(payload, n),
        other => Err(format!("a frame is of the unknown kind {other}")),
    }
}

fn data(mut payload: Bytes, n: u64) -> Result<Entry, String> {
    if payload.len() < DATA_HEAD_BYTES {
        return Err("a data frame is cut off".to_owned());
    }
    let bytes = payload.split_off(DATA_HEAD_BYTES);
    let number = |from: usize| {
        let value = payload.get(from..).and_then(|rest| rest.first_chunk::<8>());
        value.copied().map(u64::from_be_bytes).unwrap_or_default()
    };
    let at = i64::try_from(number(0)).ok().and_then(|at| Timestamp::from_microsecond(at).ok());
    let stream = payload.last().copied().and_then(Stream::of);
    match (at, stream) {
        (Some(at), Some(stream)) => {
            Ok(Entry { n, at, what: What::Data { command: number(8), stream, bytes } })
        }
        _ => Err("a data frame has a time or a stream that there is not".to_owned()),
    }
}
