//! Where sessions' wrapped data keys are kept once their recordings are in the store.

use futures_util::future::BoxFuture;

use crate::audit::keys::WrappedKey;
use crate::model::SessionId;

/// Keeps wrapped keys, and destroys them. Whoever destroys a session's key erases its recording,
/// wherever copies of that lie.
pub trait Shelf: Send + Sync + std::fmt::Debug {
    /// Keeps a session's wrapped key. Putting the same again is fine.
    fn put<'a>(
        &'a self,
        session: SessionId,
        key: &'a WrappedKey,
    ) -> BoxFuture<'a, Result<(), ShelfError>>;

    /// What is kept of a session's key.
    fn find(&self, session: SessionId) -> BoxFuture<'_, Result<Option<Shelved>, ShelfError>>;

    /// Destroys a session's key for good. `false`: there is none to destroy.
    fn destroy<'a>(
        &'a self,
        session: SessionId,
        by: &'a str,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<bool, ShelfError>>;

    /// This gateway's sessions that a key is or was kept of, oldest first, at most `limit` behind
    /// `after`.
    fn list(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<SessionId>, ShelfError>>;
}

/// What a shelf has of a session's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shelved {
    /// The wrapped key.
    Key(WrappedKey),
    /// It was destroyed.
    Destroyed {
        /// When.
        at: jiff::Timestamp,
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
}

/// The shelf cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// It does not answer, or says no.
    #[error("the keys of recordings cannot be kept or read now")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It has another key for the session.
    #[error("another key is kept for session {0} already")]
    Another(SessionId),
}
