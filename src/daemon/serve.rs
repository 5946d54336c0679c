//! The accept loop: each connection to its protocol, each in a task of its own.
//!
//! A panic, should one be left, ends its connection alone: the task is gone, its guards' `Drop`
//! closes their trails, and one line in the log says so.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use crate::api::Api;
use crate::listen;
use crate::listen::Accepted;
use crate::listen::BeginError;
use crate::listen::DetectError;
use crate::listen::Drain;
use crate::listen::Listener;
use crate::listen::Prefixed;
use crate::listen::Spoken;
use crate::listen::SpokenInTls;
use crate::listen::detect_tls;
use crate::listen::origin::Networks;
use crate::model::Fault;
use crate::model::Origin;
use crate::model::TargetName;
use crate::model::fault::Chain;
use crate::protocol::http;
use crate::protocol::postgres::Postgres;
use crate::protocol::postgres::hello::Encrypt;
use crate::protocol::postgres::hello::Secured;
use crate::protocol::ssh;
use crate::session::Gateway;
use crate::tls;
use crate::tls::server::Opening;

/// Everything a connection may turn out to need.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) tls: Arc<tls::Server>,
    /// As they are in force now: the next connection is placed by them.
    pub(super) networks: watch::Receiver<Networks>,
    pub(super) drain: Drain,
    pub(super) postgres: Arc<Postgres>,
    pub(super) http: Arc<http::Front>,
    pub(super) ssh: ssh::Server,
    pub(super) gateway: Arc<Gateway>,
}

/// Accepts until the gateway drains.
pub(super) async fn accept(front: Arc<Front>, listener: Listener) {
    loop {
        let incoming = tokio::select! {
            () = front.drain.begun() => return,
            incoming = listener.accept() => incoming,
        };
        let running = front.drain.track();
        let front = Arc::clone(&front);
        tokio::spawn(async move {
            let peer = incoming.socket_peer();
            let served = std::panic::AssertUnwindSafe(front.serve(incoming)).catch_unwind().await;
            if served.is_err() {
                tracing::error!(fault = %Fault::Gateway, %peer, "a panic ended this connection; this is a bug of Weir's");
            }
            drop(running);
        });
    }
}

impl Front {
    async fn serve(&self, incoming: listen::Incoming) {
        let peer = incoming.socket_peer();
        match incoming.begin().await {
            Ok(accepted) => self.speak(accepted).await,
            // Said already, once in a while.
            Err(BeginError::Full(_)) => {}
            // Port scans and health checks.
            Err(error @ BeginError::Detect(DetectError::Gone)) => {
                tracing::debug!(%peer, "{}", Chain(&error));
            }
            Err(error) => {
                tracing::info!(fault = %error.fault(), %peer, "{}", Chain(&error));
            }
        }
    }

    async fn speak(&self, accepted: Accepted) {
        let origin = self.networks.borrow().origin(accepted.peer.ip());
        // Counted among the connections as long as it is served.
        let _slot = accepted.slot;
        match accepted.spoken {
            Spoken::Postgres => {
                let encrypt = Starttls { tls: &self.tls, deadline: accepted.deadline };
                Box::pin(self.postgres.serve_plain(accepted.stream, encrypt, origin)).await;
            }
            Spoken::Ssh => {
                let gateway = Arc::clone(&self.gateway);
                Box::pin(self.ssh.serve(gateway, accepted.stream, origin)).await;
            }
            Spoken::Tls => self.encrypted(accepted.stream, origin, accepted.deadline).await,
        }
    }

    async fn encrypted(&self, stream: Prefixed<TcpStream>, origin: Origin, deadline: Instant) {
        let accepted = match self.tls.accept(stream, Opening::Direct, deadline).await {
            Ok(accepted) => accepted,
            Err(error) => {
                let from = origin.address;
                tracing::info!(fault = %error.fault(), %from, "{}", Chain(&error));
                return;
            }
        };
        let tls::Accepted { stream, sni, alpn, certificate } = accepted;
        match detect_tls(alpn, stream, deadline).await {
            Ok((SpokenInTls::Postgres, stream)) => {
                Box::pin(self.postgres.serve_tls(Secured { stream, sni, certificate }, origin))
                    .await;
            }
            Ok((SpokenInTls::Http, stream)) => {
                let greeting = http::Greeting { sni, alpn, certificate };
                Box::pin(self.http(stream, greeting, origin)).await;
            }
            Ok((SpokenInTls::Ssh, stream)) => {
                let gateway = Arc::clone(&self.gateway);
                let at = sni.as_deref().and_then(|sni| target_of(sni, &gateway.name));
                Box::pin(self.ssh.serve_at(gateway, stream, origin, at)).await;
            }
            Err(DetectError::Gone) => {}
            Err(error) => {
                let from = origin.address;
                tracing::info!(fault = %Fault::Client, %from, "{}", Chain(&error));
            }
        }
    }

    async fn http<S>(&self, stream: S, greeting: http::Greeting, origin: Origin)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let from = origin.address;
        let drain = self.drain.clone();
        let drained = async move { drain.begun().await };
        if let Err(error) = self.http.serve(stream, greeting, origin, drained).await {
            tracing::info!(fault = %error.fault(), %from, "{}", Chain(&error));
        }
    }
}

/// The target that is called by a name in TLS: one label before the gateway's own name.
fn target_of(sni: &str, gateway: &str) -> Option<TargetName> {
    sni.strip_suffix(gateway)?.strip_suffix('.')?.parse().ok()
}

/// The API, for requests to the gateway's own name.
#[derive(Debug)]
pub(super) struct Own(pub(super) Api);

impl http::OwnName for Own {
    fn answer(
        &self,
        origin: Origin,
        request: ::http::Request<Incoming>,
    ) -> BoxFuture<'static, ::http::Response<http::OwnBody>> {
        let api = self.0.clone();
        async move {
            let answer = api.answer(origin, request).await;
            answer.map(|body| body.map_err(Into::into).boxed_unsync())
        }
        .boxed()
    }
}

/// TLS behind an `SSLRequest`.
struct Starttls<'a> {
    tls: &'a tls::Server,
    deadline: Instant,
}

impl Encrypt<Prefixed<TcpStream>> for Starttls<'_> {
    type Stream = TlsStream<Prefixed<TcpStream>>;

    async fn encrypt(self, stream: Prefixed<TcpStream>) -> io::Result<Secured<Self::Stream>> {
        // What came in the clear behind the request would be taken for what came encrypted
        // (CVE-2021-23222).
        if !stream.buffered().is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "bytes in the clear behind the request for TLS",
            ));
        }
        let accepted = self.tls.accept(stream, Opening::SslRequest, self.deadline).await;
        let accepted = accepted.map_err(io::Error::other)?;
        let tls::Accepted { stream, sni, certificate, .. } = accepted;
        Ok(Secured { stream, sni, certificate })
    }
}
