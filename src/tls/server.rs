//! The server side: one port, and a configuration by what the client offers to speak.
//!
//! A connection that says `postgresql` in its ALPN gets nothing else, one that offers HTTP gets
//! HTTP only, and one that offers nothing is told nothing: so no client can be made to take the
//! answers of one protocol for those of another (ALPACA).

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use rustls::server::ClientHello;
use rustls::server::NoServerSessionStorage;
use rustls::server::ResolvesServerCert;
use rustls::version::TLS12;
use rustls::version::TLS13;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio::time::timeout_at;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::model::Fault;
use crate::tls::KeyPair;
use crate::tls::TlsError;
use crate::tls::certificates::CertStore;
use crate::tls::certificates::Resolver;
use crate::tls::certificates::host;
use crate::tls::provider;

/// The ALPN name of PostgreSQL's protocol (IANA registry of TLS ALPN protocol ids).
pub const POSTGRESQL: &[u8] = b"postgresql";
/// The ALPN name of HTTP/2 (RFC 9113, section 3.2).
pub const H2: &[u8] = b"h2";
/// The ALPN name of HTTP/1.1 (RFC 7301, section 6).
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// What the server shows.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// The certificates; the first is shown to clients that name no host. At least one.
    pub certificates: Vec<KeyPair>,
    /// Whether TLS 1.2 is spoken too. Default: no, TLS 1.3 only.
    pub tls12: bool,
}

/// Accepts TLS connections.
pub struct Server {
    certificates: Arc<Resolver>,
    postgres: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    plain: Arc<ServerConfig>,
}

/// How a TLS connection began, which decides what it may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// With its first byte.
    Direct,
    /// After an answered `SSLRequest`: PostgreSQL and nothing else.
    SslRequest,
}

/// What was agreed on to be spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// `postgresql`.
    Postgres,
    /// `h2`.
    Http2,
    /// `http/1.1`.
    Http1,
    /// The client offered nothing.
    None,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted<IO> {
    /// What is said inside.
    pub stream: TlsStream<IO>,
    /// The host that the client asked for: lower case, without the dot of the root.
    pub sni: Option<String>,
    /// What was agreed on to be spoken.
    pub alpn: Alpn,
}

/// Why there is no connection. Always the client's fault.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The deadline of the handshake passed.
    #[error("the TLS handshake took too long")]
    TooSlow,
    /// The handshake failed; where TLS has an alert for it, the client was told.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
}

impl AcceptError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::TooSlow | Self::Handshake(_) => Fault::Client,
        }
    }
}

impl Server {
    /// A server with these certificates.
    pub fn new(options: &ServerOptions) -> Result<Self, TlsError> {
        let store = CertStore::load(&options.certificates)?;
        let certificates = Arc::new(Resolver::new(store));
        let config = |alpn: &[&[u8]]| config(&certificates, options.tls12, alpn).map(Arc::new);
        Ok(Self {
            postgres: config(&[POSTGRESQL])?,
            http: config(&[H2, HTTP_1_1])?,
            plain: config(&[])?,
            certificates,
        })
    }

    /// Reads certificates (again) and shows these from now on. If one of them cannot be used, those
    /// in force stay so. Connections that exist are not touched.
    pub fn reload(&self, certificates: &[KeyPair]) -> Result<(), TlsError> {
        self.certificates.replace(CertStore::load(certificates)?);
        Ok(())
    }

    /// Does the handshake of one connection, all of it before `deadline`.
    ///
    /// Not cancel safe: what was read is lost with the future, so drop the connection with it.
    pub async fn accept<IO>(
        &self,
        stream: IO,
        opening: Opening,
        deadline: Instant,
    ) -> Result<Accepted<IO>, AcceptError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        timeout_at(deadline, self.handshake(stream, opening))
            .await
            .map_err(|_| AcceptError::TooSlow)?
            .map_err(AcceptError::Handshake)
    }

    async fn handshake<IO>(&self, stream: IO, opening: Opening) -> io::Result<Accepted<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let hello = start.client_hello();
        let config = self.config(&hello, opening);
        let sni = hello.server_name().map(host);
        let stream = start.into_stream(Arc::clone(config)).await?;
        let alpn = match stream.get_ref().1.alpn_protocol() {
            None => Alpn::None,
            Some(POSTGRESQL) => Alpn::Postgres,
            Some(H2) => Alpn::Http2,
            Some(HTTP_1_1) => Alpn::Http1,
            Some(_) => return Err(io::Error::other("an ALPN was chosen that was not offered")),
        };
        Ok(Accepted { stream, sni, alpn })
    }

    /// The configuration for what the client offers to speak. An offer that holds nothing of ours
    /// gets one whose names do not match either: rustls then answers with the alert
    /// `no_application_protocol` (RFC 7301, section 3.2).
    fn config(&self, hello: &ClientHello<'_>, opening: Opening) -> &Arc<ServerConfig> {
        let offers = |name: &[u8]| hello.alpn().is_some_and(|mut names| names.any(|n| n == name));
        match opening {
            Opening::SslRequest => &self.postgres,
            Opening::Direct if offers(POSTGRESQL) => &self.postgres,
            Opening::Direct if hello.alpn().is_some() => &self.http,
            Opening::Direct => &self.plain,
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}

fn config(
    certificates: &Arc<Resolver>,
    tls12: bool,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let certificates: Arc<dyn ResolvesServerCert> = Arc::<Resolver>::clone(certificates);
    let versions = if tls12 { &[&TLS13, &TLS12][..] } else { &[&TLS13] };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(TlsError::Rustls)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // No resumption: PostgreSQL's clients never resume, and a session that is resumed was verified
    // under certificates that may have been replaced since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
