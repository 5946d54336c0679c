//! How a provider is spoken to: a trait, because this module must not know sockets.

use std::error::Error;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

/// Longest discovery document, key set or other answer that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Speaks to providers over HTTP.
///
/// An implementation verifies the server's certificate, follows no redirect, sends nothing of its
/// own along (no cookie, no credential) and stops reading after [`BODY_BYTES_MAX`] bytes with an
/// error. It only goes where it is configured to go ([`crate::identity::Identity::origins`]).
pub trait Fetch: Send + Sync {
    /// `GET url`.
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Response, FetchError>>;

    /// Sends `request`: `POST` with its form, or `GET` where it has none.
    fn send<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, FetchError>>;
}

/// A request with secrets in it.
#[derive(Debug)]
pub struct Request {
    /// Where to.
    pub url: String,
    /// The header `Authorization`.
    pub authorization: Option<SecretString>,
    /// A form, as `application/x-www-form-urlencoded`.
    pub form: Option<SecretString>,
}

/// An answer, as far as it matters here.
#[derive(Clone)]
pub struct Response {
    /// The status code; only 200 is a document.
    pub status: u16,
    /// The whole body, which may hold tokens.
    pub body: Bytes,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.body.len();
        f.debug_struct("Response").field("status", &self.status).field("bytes", &bytes).finish()
    }
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
