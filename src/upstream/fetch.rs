//! One HTTP/1.1 exchange with a configured place: how the gateway reads what a provider publishes,
//! and how the command line talks to a gateway.
//!
//! No redirects, no proxy, no cookies, one bounded body: whatever else a place says is an error.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio_rustls::TlsConnector;

use crate::upstream::Configured;
use crate::upstream::DialError;
use crate::upstream::reach;

/// Longest body that is read, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a whole exchange may take, in milliseconds.
pub(super) const FETCH_MS_MAX: u64 = 15_000;

/// What a place answered.
#[derive(Debug)]
pub struct Fetched {
    /// The status code.
    pub status: u16,
    /// The body, at most 16 MiB.
    pub body: Bytes,
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL is none that may be fetched.
    #[error("{0} is no URL that is configured")]
    NotConfigured(String),
    /// The place cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS or HTTP failed.
    #[error("the exchange with {host} failed")]
    Exchange {
        /// With whom.
        host: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long.
    #[error("{host} did not answer in 15 s")]
    Slow {
        /// Who.
        host: String,
    },
}

/// Fetches from one configured place.
#[derive(Clone)]
pub struct Fetcher {
    place: Configured,
    tls: Option<Arc<ClientConfig>>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// Fetches from `place`, over TLS where a configuration is given, in the clear otherwise.
    pub fn new(place: Configured, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { place, tls }
    }

    /// Whether `url` leads to this place, by its scheme, host and port.
    pub fn serves(&self, url: &http::Uri) -> bool {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let port = if self.tls.is_some() { 443 } else { 80 };
        url.scheme_str() == Some(scheme)
            && url.host() == Some(self.place.host())
            && url.port_u16().unwrap_or(port) == self.place.port()
    }

    /// Fetches `url`, which must lead to this place.
    pub async fn get(&self, url: &http::Uri) -> Result<Fetched, FetchError> {
        self.call(url, http::Request::get(url), Bytes::new()).await
    }

    /// Sends a request to `url`, which must lead to this place. Nothing but what `request` has
    /// goes along, save `Host`, `Accept` and `Connection: close`.
    pub async fn call(
        &self,
        url: &http::Uri,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Fetched, FetchError> {
        if !self.serves(url) {
            return Err(FetchError::NotConfigured(url.to_string()));
        }
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let authority = url.authority().map_or("", |authority| authority.as_str());
        let request = request
            .uri(path)
            .header(http::header::HOST, authority)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONNECTION, "close")
            .body(Full::new(body))
            .map_err(|e| self.failed(e))?;
        let host = self.place.host().to_owned();
        tokio::time::timeout(Duration::from_millis(FETCH_MS_MAX), self.exchange(request))
            .await
            .unwrap_or(Err(FetchError::Slow { host }))
    }

    async fn exchange(&self, request: http::Request<Full<Bytes>>) -> Result<Fetched, FetchError> {
        let stream = reach(&self.place).await?;
        let Some(tls) = &self.tls else { return self.talk(stream, request).await };
        let bare = self.place.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|e| self.failed(e))?;
        let connector = TlsConnector::from(Arc::clone(tls));
        let stream = connector.connect(name, stream).await.map_err(|e| self.failed(e))?;
        self.talk(stream, request).await
    }

    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Fetched, FetchError> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.failed(e))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| self.failed(e))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX);
            let body = body.collect().await.map_err(|e| self.failed(e))?.to_bytes();
            Ok(Fetched { status, body })
        };
        // The connection is driven here, not in a task of its own: nothing outlives the exchange.
        tokio::pin!(answer);
        tokio::select! {
            fetched = &mut answer => fetched,
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(self.failed(error)),
            },
        }
    }

    fn failed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FetchError {
        FetchError::Exchange { host: self.place.host().to_owned(), source: source.into() }
    }
}
