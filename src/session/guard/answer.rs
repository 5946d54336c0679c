//! What a protocol brings to the guard beside commands: plumbing, its own words, answers.

use bytes::Bytes;

use crate::audit::Unrecorded;
use crate::audit::entry::Volume;
use crate::audit::recording::Stream;
use crate::model::Refusal;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;

/// Frames that change nothing and ask for nothing: each protocol lists its own in one table, with
/// a test. They pass without a decision of their own.
pub trait Plumbing {}

/// The gateway's own words to a client: encoders of refusals and notices, without a byte of a
/// target's.
pub trait Said {}

/// Something of a target's that may go to a client once it is masked.
pub trait Answer {
    /// What is left to send.
    type Out;

    /// Applies `masks`; `room` is how many bytes of it the record still keeps (0: none).
    fn masked(self, masks: &Masks, room: usize) -> Result<Masked<Self::Out>, Withheld>;
}

/// An answer after masking.
#[derive(Debug)]
pub struct Masked<O> {
    /// What is left to send.
    pub out: O,
    /// How much it is.
    pub volume: Volume,
    /// What of it is recorded, in a form that people read; empty where there is no room.
    pub shown: Bytes,
    /// Where people see it.
    pub stream: Stream,
}

/// The beginning of `bytes` for a record that still keeps `room` bytes: one byte more than fits says
/// that there was more.
pub fn beginning(bytes: &Bytes, room: usize) -> Bytes {
    let kept = if room == 0 { 0 } else { room.saturating_add(1).min(bytes.len()) };
    bytes.slice(..kept)
}

/// An answer that must not be released. What is told to the client is in the refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an answer was withheld: {0}")]
pub struct Withheld(pub Refusal);

impl Withheld {
    /// The answer cannot be masked, because of `reason`.
    pub fn unmaskable(reason: impl Into<String>) -> Self {
        Self(Refusal::new(RefusalCode::Withheld, reason))
    }
}

impl IntoRefusal for Withheld {
    fn refusal(&self) -> Refusal {
        self.0.clone()
    }
}

impl From<Unrecorded> for Withheld {
    fn from(error: Unrecorded) -> Self {
        Self(error.refusal())
    }
}
