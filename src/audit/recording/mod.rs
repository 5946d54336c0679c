//! The format of a recording: one session's events and data, encrypted, in a chain of chunks.
//!
//! What is written down here is all that is needed to read a recording in ten years: SHA-256,
//! AES-256-GCM and zstd are public, and `docs/recording-format.md` says the same with an example.
//!
//! ```text
//! recording  = header chunk*
//! header     = "weir recording 1\n" json "\n"                   in the clear: whose recording it is
//! chunk      = head(64 bytes) body                              numbers are big-endian
//! head       = "WRC1" body:u32 number:u64 frames:u32 plain:u32 codec:u8 0 0 0 attempt:u32 prev:32
//! body       = AES-256-GCM(data key, nonce = attempt number, aad = head, codec(frame*)) with its tag
//! frame      = kind:u8 length:u32 payload
//!   'J'        json {"at":…,"event":…}                          one [`TrailEvent`]
//!   'D'        at:u64 (µs since 1970) command:u64 stream:u8 bytes   what crossed, after masking
//! ```
//!
//! - `prev` is the SHA-256 of the chunk before (head and body), of the first chunk that of the header.
//!   It is taken over what is stored, so that the chain is checked without a key, and still holds once
//!   the key was destroyed.
//! - `number` counts chunks from 1, `frames` how many frames the chunk holds, `plain` how many bytes
//!   they are; `codec` is 0 (as they are) or 1 (one zstd frame). `attempt` counts tries of one process
//!   to write a chunk, so that no nonce is used twice.
//! - The data key is one session's own. It is not in the recording, only its commitment is: whoever
//!   destroys the key erases the session.
//! - A crash leaves whole chunks and at most one that is cut off: the prefix is readable.
//!
//! Knows bytes and events; no folder, no ledger, no store.

mod chunk;
mod frame;
mod header;
mod reader;
mod writer;

pub use chunk::BODY_BYTES_MAX;
pub use chunk::CHUNK_BYTES;
pub use chunk::PLAIN_BYTES_MAX;
pub use frame::Entry;
pub use frame::FRAME_BYTES_MAX;
pub use frame::Stream;
pub use frame::What;
pub use header::HEADER_BYTES_MAX;
pub use header::Header;
pub use reader::Chunk;
pub use reader::Chunks;
pub use reader::Entries;
pub use reader::Seen;
pub use writer::Writer;

#[cfg(test)]
mod tests;
