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

pub mod ahead;
pub mod answer;
pub mod body;
pub mod browser;
pub mod command;
pub mod dialect;
pub mod hello;
pub mod json;
pub mod link;
pub mod mask;
pub mod refuse;
pub mod upstream;
pub mod wire;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Request;
use http::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

use crate::model::Fault;
use crate::model::Origin;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::login::Presented;
use crate::model::refusal::RefusalCode;
use crate::session::Gateway;
use crate::tls::Alpn;

pub use body::OwnBody;
pub use command::Plain;
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

use crate::protocol::http::hello::Connection;

/// Most of a request's body that is buffered before it is decided, in bytes.
pub const HELD_BYTES_MAX: usize = 1024 * 1024;
/// Longest answer, or line of one, that is masked, in bytes.
pub const MASKED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a client may be silent before and within a request's head, in milliseconds.
pub const CLIENT_HEAD_MS_MAX: u64 = 60_000;
/// Largest head of a request, in bytes.
pub const CLIENT_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most headers of a request.
pub const CLIENT_HEADERS_MAX: usize = 100;
/// Most requests at once on one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 100;
/// How often an HTTP/2 client is asked whether it is still there, in milliseconds.
pub const PING_MS: u64 = 30_000;

/// Who answers requests for the gateway's own name.
pub trait OwnName: fmt::Debug + Send + Sync {
    /// Answers one request of a caller from `origin`.
    fn answer(
        &self,
        origin: Origin,
        request: Request<Incoming>,
    ) -> BoxFuture<'static, Response<OwnBody>>;
}

/// What the TLS handshake of a connection told.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// The host that the client asked for, in lower case.
    pub sni: Option<String>,
    /// What was agreed on to be spoken.
    pub alpn: Alpn,
    /// The certificate that the client showed.
    pub certificate: Option<Presented>,
}

impl Greeting {
    /// One in which no certificate was shown.
    pub fn without_certificate(sni: Option<String>, alpn: Alpn) -> Self {
        Self { sni, alpn, certificate: None }
    }
}

/// HTTP's side of the gateway: what all its connections share.
#[derive(Debug)]
pub struct Front {
    gateway: Arc<Gateway>,
    dialects: BTreeMap<Protocol, Arc<dyn Dialect>>,
    own: Arc<dyn OwnName>,
}

/// A connection ended in the midst of something.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP connection ended early")]
pub struct Broken(#[source] Box<dyn Error + Send + Sync>);

impl Broken {
    /// Whose fault it is. A body that the target cut ends its connection too; that was logged where
    /// it was seen.
    pub fn fault(&self) -> Fault {
        Fault::Client
    }
}

impl Front {
    /// A front for the targets whose protocols these dialects speak.
    pub fn new(
        gateway: Arc<Gateway>,
        dialects: impl IntoIterator<Item = Arc<dyn Dialect>>,
        own: Arc<dyn OwnName>,
    ) -> Arc<Self> {
        let dialects = dialects.into_iter().map(|dialect| (dialect.protocol(), dialect)).collect();
        Arc::new(Self { gateway, dialects, own })
    }

    /// Serves one connection whose TLS handshake is done, until its end; once `drain` resolves, it
    /// takes no further request and ends with those that run.
    ///
    /// Not cancel safe: dropped, every exchange on it is cut.
    pub async fn serve<S>(
        self: &Arc<Self>,
        stream: S,
        greeting: Greeting,
        origin: Origin,
        drain: impl Future<Output = ()> + Send,
    ) -> Result<(), Broken>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (stream, ahead) = ahead::watched(stream);
        let alpn = greeting.alpn;
        let connection = Arc::new(Connection::new(Arc::clone(self), greeting, origin, ahead));
        let served = Arc::clone(&connection);
        let service = service_fn(move |request| {
            let connection = Arc::clone(&served);
            async move { Ok::<_, Infallible>(link::answer(&connection, request).await) }
        });
        let builder = builder(alpn);
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving, drain);
        let mut draining = false;
        loop {
            tokio::select! {
                served = serving.as_mut() => return served.map_err(Broken),
                () = connection.take_away() => {}
                () = &mut drain, if !draining => {
                    draining = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
    }

    /// What is spoken to targets of `protocol`.
    fn dialect(&self, protocol: Protocol) -> Result<Arc<dyn Dialect>, Refusal> {
        self.dialects.get(&protocol).cloned().ok_or_else(|| {
            let reason = format!("{protocol} is not carried over HTTP");
            Refusal::new(RefusalCode::Unsupported, reason)
        })
    }
}

fn builder(alpn: Alpn) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(CLIENT_HEAD_MS_MAX))
        .max_buf_size(CLIENT_HEAD_BYTES_MAX)
        .max_headers(CLIENT_HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_millis(PING_MS))
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(CLIENT_HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    match alpn {
        Alpn::Http2 => builder.http2_only(),
        Alpn::Http1 => builder.http1_only(),
        // Who offered nothing speaks for itself.
        Alpn::None | Alpn::Postgres => builder,
    }
}

#[cfg(test)]
mod tests;
