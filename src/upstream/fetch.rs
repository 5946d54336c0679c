//! One HTTP/1.1 exchange with a configured place: how the gateway reads what a provider publishes,
//! and how the command line talks to a gateway.
//!
//! No redirects, no proxy, no cookies, one bounded body: whatever else a place says is an error.

use std::future::Future;
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
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::upstream::Arriving;
use crate::upstream::Configured;
use crate::upstream::DialError;
use crate::upstream::arriving::Connection;
use crate::upstream::bare;
use crate::upstream::reach;

/// Longest body that is read, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a whole exchange may take where nothing else is said, in milliseconds.
const FETCH_MS_MAX: u64 = 15_000;

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
    #[error("{host} did not answer in {} s", within_ms / 1_000)]
    Slow {
        /// Who.
        host: String,
        /// How long was waited, in milliseconds.
        within_ms: u64,
    },
}

/// Fetches from one configured place.
#[derive(Clone)]
pub struct Fetcher {
    place: Configured,
    tls: Option<Arc<ClientConfig>>,
    within_ms: u64,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// Fetches from `place`, over TLS where a configuration is given, in the clear otherwise.
    pub fn new(place: Configured, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { place, tls, within_ms: FETCH_MS_MAX }
    }

    /// The same, with another bound on how long a whole exchange may take, in milliseconds.
    #[must_use]
    pub fn within_ms(self, within_ms: u64) -> Self {
        Self { within_ms, ..self }
    }

    /// Whether `url` leads to this place, by its scheme, host and port.
    pub fn serves(&self, url: &http::Uri) -> bool {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let port = if self.tls.is_some() { 443 } else { 80 };
        url.scheme_str() == Some(scheme)
            && url.host().map(bare) == Some(self.place.host())
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
        let request = request
            .uri(url)
            .header(http::header::ACCEPT, "application/json")
            .body(body)
            .map_err(|e| self.failed(e))?;
        let response = self.send(request).await?;
        Ok(Fetched { status: response.status().as_u16(), body: response.into_body() })
    }

    /// Sends a request, whose URL must lead to this place, as it is: nothing goes along but `Host`,
    /// `Content-Length` and `Connection: close`. Gives the answer with its headers; a redirect is an
    /// answer like any other.
    pub async fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, FetchError> {
        let request = self.prepared(request)?;
        self.in_time(self.exchange(request)).await
    }

    /// Likewise, but the body is handed on as it comes, however long that takes and however much it
    /// is. The bound on time is for the answer's head.
    pub async fn open(&self, request: http::Request<Bytes>) -> Result<Arriving, FetchError> {
        let request = self.prepared(request)?;
        let opened = async {
            let stream = reach(&self.place).await?;
            match &self.tls {
                Some(tls) => self.begin(self.encrypted(tls, stream).await?, request).await,
                None => self.begin(stream, request).await,
            }
        };
        self.in_time(opened).await
    }

    async fn in_time<T>(
        &self,
        exchange: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        tokio::time::timeout(Duration::from_millis(self.within_ms), exchange).await.unwrap_or_else(
            |_| {
                let host = self.place.host().to_owned();
                Err(FetchError::Slow { host, within_ms: self.within_ms })
            },
        )
    }

    fn prepared(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Request<Full<Bytes>>, FetchError> {
        let (mut head, body) = request.into_parts();
        if !self.serves(&head.uri) {
            return Err(FetchError::NotConfigured(head.uri.to_string()));
        }
        let authority = head.uri.authority().map_or("", |authority| authority.as_str());
        let authority = http::HeaderValue::try_from(authority).map_err(|e| self.failed(e))?;
        head.headers.insert(http::header::HOST, authority);
        let close = http::HeaderValue::from_static("close");
        head.headers.insert(http::header::CONNECTION, close);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse().map_err(|e: http::uri::InvalidUri| self.failed(e))?;
        Ok(http::Request::from_parts(head, Full::new(body)))
    }

    async fn exchange(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Bytes>, FetchError> {
        let stream = reach(&self.place).await?;
        let Some(tls) = &self.tls else { return self.talk(stream, request).await };
        self.talk(self.encrypted(tls, stream).await?, request).await
    }

    async fn encrypted(
        &self,
        tls: &Arc<ClientConfig>,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, FetchError> {
        let name = self.place.host().to_owned();
        let name = ServerName::try_from(name).map_err(|e| self.failed(e))?;
        let connector = TlsConnector::from(Arc::clone(tls));
        connector.connect(name, stream).await.map_err(|e| self.failed(e))
    }

    async fn begin(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Arriving, FetchError> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.failed(e))?;
        let mut connection: Connection = Box::pin(connection);
        let (answer, over) = {
            let answer = sender.send_request(request);
            tokio::pin!(answer);
            tokio::select! {
                answer = &mut answer => (answer, false),
                ended = &mut connection => match ended {
                    Ok(()) => (answer.await, true),
                    Err(error) => return Err(self.failed(error)),
                },
            }
        };
        let answer = answer.map_err(|e| self.failed(e))?;
        let connection = (!over).then_some(connection);
        Ok(Arriving::new(self.place.host().to_owned(), answer, connection))
    }

    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Bytes>, FetchError> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.failed(e))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| self.failed(e))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX);
            let body = body.collect().await.map_err(|e| self.failed(e))?.to_bytes();
            Ok(http::Response::from_parts(head, body))
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
