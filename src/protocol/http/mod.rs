//! HTTP/1.1 and HTTP/2, to targets by `Host`.
//!
//! ```text
//! Host → target (or the gateway's own name) → Authorization → session → read → guard → forward
//!                                   client ← released body ← masked or streamed ← answer
//! ```
//!
//! A session is (connection, principal, target): it is admitted with the first request that needs
//! it, and lives as long as the connection. What a request means the [`Dialect`] of the target's
//! protocol says. This module makes no decision and can verify no claim.

pub mod dialect;
pub mod json;

pub use dialect::BodyNeed;
pub use dialect::Dialect;
pub use dialect::Head;
pub use dialect::MaskedDocument;
pub use dialect::Masker;
pub use dialect::Place;
pub use dialect::Reading;
pub use dialect::Sent;
pub use dialect::Told;
pub use dialect::Unreachable;
pub use dialect::Veil;
pub use dialect::Worded;

/// Most of a request's body that is buffered before it is decided, in bytes.
pub const HELD_BYTES_MAX: usize = 1024 * 1024;
/// Longest answer, or line of one, that is masked, in bytes.
pub const MASKED_BYTES_MAX: usize = 8 * 1024 * 1024;
