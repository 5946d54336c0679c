//! How stores and key services are spoken to: a trait, because this module must not know sockets,
//! and what makes `object_store` speak by it too.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::HttpClient;
use object_store::client::HttpConnector;
use object_store::client::HttpError;
use object_store::client::HttpErrorKind;
use object_store::client::HttpRequest;
use object_store::client::HttpResponse;
use object_store::client::HttpService;

use crate::audit::storage::refused::Refused;

/// Speaks to the configured stores and key services, and to nobody else.
///
/// An implementation verifies the server's certificate, dials only addresses in the networks that
/// are declared for the place, follows no redirect, knows no proxy, sends nothing of its own along
/// but `Host` and what HTTP/1.1 needs, and reads at most 16 MiB of an answer.
pub trait Http: fmt::Debug + Send + Sync {
    /// Sends one request and gives the answer, whatever its status.
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, HttpFailed>>;
}

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No address accepted a connection, or none is known.
    Unreachable,
    /// An address lies outside the networks that are declared for the place.
    Outside,
    /// The answer took too long.
    Slow,
    /// TLS or HTTP failed, or the answer is too long.
    Broken,
    /// The place is none that is configured.
    NotConfigured,
}

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
#[error("the request got no answer")]
pub struct HttpFailed {
    failure: Failure,
    #[source]
    cause: Box<dyn Error + Send + Sync>,
}

impl HttpFailed {
    /// A failure because of `cause`.
    pub fn new(failure: Failure, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { failure, cause: cause.into() }
    }

    /// Why.
    pub fn failure(&self) -> Failure {
        self.failure
    }
}

/// Lends our way of speaking HTTP to `object_store`, which then has no other.
#[derive(Debug, Clone)]
pub(super) struct Connector(pub(super) Arc<dyn Http>);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    /// A refusal becomes an error that keeps what the store said: `object_store` would make a
    /// sentence of it. What it means something by itself (missing, exists already) it gets to see.
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let put = head.method == http::Method::PUT;
        let body = body.collect().await?.to_bytes();
        let sent = self.0.send(http::Request::from_parts(head, body)).await;
        let response = sent.map_err(|failed| {
            let kind = match failed.failure() {
                Failure::Unreachable => HttpErrorKind::Connect,
                Failure::Slow => HttpErrorKind::Timeout,
                Failure::Broken => HttpErrorKind::Interrupted,
                Failure::Outside | Failure::NotConfigured => HttpErrorKind::Unknown,
            };
            HttpError::new(kind, failed)
        })?;
        match Refused::in_answer(&response) {
            Some(refused) if !refused.is_plain(put) => {
                let kind = if refused.is_passing() {
                    HttpErrorKind::Request
                } else {
                    HttpErrorKind::Unknown
                };
                Err(HttpError::new(kind, refused))
            }
            Some(_) | None => Ok(response.map(Into::into)),
        }
    }
}
