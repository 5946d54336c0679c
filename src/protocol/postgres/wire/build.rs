//! Building messages.

use bytes::BufMut;
use bytes::BytesMut;

use crate::protocol::postgres::wire::Frame;

/// A message in the making.
#[derive(Debug)]
pub struct Build {
    bytes: BytesMut,
    /// Where the length stands: behind the type, where there is one.
    length_at: usize,
}

impl Build {
    /// A message of type `tag`.
    pub fn new(tag: u8) -> Self {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u8(tag);
        bytes.put_u32(0);
        Self { bytes, length_at: 1 }
    }

    /// A message without type, as those at the beginning of a connection are.
    pub fn untyped() -> Self {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u32(0);
        Self { bytes, length_at: 0 }
    }

    /// Adds one byte.
    #[must_use]
    pub fn byte(mut self, byte: u8) -> Self {
        self.bytes.put_u8(byte);
        self
    }

    /// Adds an Int16.
    #[must_use]
    pub fn int16(mut self, number: i16) -> Self {
        self.bytes.put_i16(number);
        self
    }

    /// Adds an Int32.
    #[must_use]
    pub fn int32(mut self, number: i32) -> Self {
        self.bytes.put_i32(number);
        self
    }

    /// Adds bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.put_slice(bytes);
        self
    }

    /// Adds a string and its NUL; a NUL within would end it early, so it ends there.
    #[must_use]
    pub fn string(mut self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref().split(|byte| *byte == 0).next().unwrap_or_default();
        self.bytes.put_slice(text);
        self.bytes.put_u8(0);
        self
    }

    /// The message, its length set.
    pub fn done(mut self) -> Frame {
        let length = self.bytes.len().saturating_sub(self.length_at);
        // What is built is bounded far below 2 GiB.
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let end = self.length_at.saturating_add(4);
        if let Some(place) = self.bytes.get_mut(self.length_at..end) {
            place.copy_from_slice(&length);
        }
        Frame(self.bytes.freeze())
    }
}
