//! How documents of a provider are fetched: a trait, because this module must not know sockets.

use std::error::Error;

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// Longest discovery document or key set that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Fetches a document over HTTP.
///
/// An implementation verifies the server's certificate, follows no redirect, sends nothing of its
/// own along (no cookie, no credential) and stops reading after [`BODY_BYTES_MAX`] bytes with an
/// error. It only goes where it is configured to go ([`crate::identity::Identity::origins`]).
pub trait Fetch: Send + Sync {
    /// `GET url`.
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Response, FetchError>>;
}

/// An answer, as far as it matters here.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code; only 200 is a document.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
}

/// The request got no answer.
#[derive(Debug, thiserror::Error)]
#[error("the request failed")]
pub struct FetchError(#[source] Box<dyn Error + Send + Sync>);

impl FetchError {
    /// An error because of `cause`.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}
