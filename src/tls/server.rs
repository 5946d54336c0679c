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
use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS12;
use rustls::version::TLS13;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio::time::timeout_at;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::model::Fault;
use crate::model::login::Presented;
use crate::tls::KeyPair;
use crate::tls::Pem;
use crate::tls::TlsError;
use crate::tls::certificates::CertStore;
use crate::tls::certificates::Resolver;
use crate::tls::certificates::host;
use crate::tls::presented::Taker;
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
    /// The certificates of the `access` authorities. With them, clients are asked for a certificate.
    pub access: Option<Pem>,
}

/// Accepts TLS connections.
pub struct Server {
    certificates: Arc<Resolver>,
    postgres: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    plain: Arc<ServerConfig>,
    taker: Option<Arc<Taker>>,
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
    /// The certificate that the client showed.
    pub certificate: Option<Presented>,
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
        let taker = options.access.as_ref().map(Taker::new).transpose()?;
        let config = |alpn: &[&[u8]]| {
            config(&certificates, taker.as_ref(), options.tls12, alpn).map(Arc::new)
        };
        Ok(Self {
            postgres: config(&[POSTGRESQL])?,
            http: config(&[H2, HTTP_1_1])?,
            plain: config(&[])?,
            certificates,
            taker,
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
        let shown = stream.get_ref().1.peer_certificates();
        let certificate = self.taker.as_ref().and_then(|taker| taker.judge(shown));
        Ok(Accepted { stream, sni, alpn, certificate })
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
    taker: Option<&Arc<Taker>>,
    tls12: bool,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let certificates: Arc<dyn ResolvesServerCert> = Arc::<Resolver>::clone(certificates);
    let versions = if tls12 { &[&TLS13, &TLS12][..] } else { &[&TLS13] };
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(TlsError::Rustls)?;
    let mut config = match taker {
        Some(taker) => {
            let taker: Arc<dyn ClientCertVerifier> = Arc::<Taker>::clone(taker);
            config.with_client_cert_verifier(taker)
        }
        None => config.with_no_client_auth(),
    }
    .with_cert_resolver(certificates);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // No resumption: PostgreSQL's clients never resume, and a session that is resumed was verified
    // under certificates that may have been replaced since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::ServerName;
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::io::DuplexStream;
    use tokio::io::duplex;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::tls::Authority;
    use crate::tls::Leaf;
    use crate::tls::Roots;
    use crate::tls::client;

    type Outcome = (
        Result<Accepted<DuplexStream>, AcceptError>,
        io::Result<tokio_rustls::client::TlsStream<DuplexStream>>,
    );

    fn pair(leaf: &Leaf) -> KeyPair {
        KeyPair {
            chain: Pem::bytes(leaf.chain_pem.clone()),
            key: Pem::bytes(leaf.key_pem.as_bytes()),
        }
    }

    fn server(authority: &Authority, names: &[&[&str]]) -> Server {
        let certificates =
            names.iter().map(|names| pair(&authority.leaf(names, &[]).unwrap())).collect();
        Server::new(&ServerOptions { certificates, tls12: false, access: None }).unwrap()
    }

    fn roots(authority: &Authority) -> Roots {
        Roots::Bundle(Pem::bytes(authority.cert_pem()))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    async fn meet(
        server: &Server,
        opening: Opening,
        config: Arc<rustls::ClientConfig>,
        name: &str,
    ) -> Outcome {
        let (far, near) = duplex(16 * 1024);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let client = TlsConnector::from(config).connect(name, far);
        tokio::join!(server.accept(near, opening, soon()), client)
    }

    fn shown(stream: &tokio_rustls::client::TlsStream<DuplexStream>) -> CertificateDer<'static> {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }

    #[tokio::test]
    async fn what_is_spoken_is_agreed_on_and_a_foreign_offer_is_refused_with_an_alert() {
        let authority = Authority::new("test").unwrap();
        let server = server(&authority, &[&["weir.example"]]);
        let direct: [(&[&[u8]], Option<Alpn>); 8] = [
            (&[], Some(Alpn::None)),
            (&[POSTGRESQL], Some(Alpn::Postgres)),
            (&[H2, POSTGRESQL], Some(Alpn::Postgres)),
            (&[H2, HTTP_1_1], Some(Alpn::Http2)),
            (&[HTTP_1_1, H2], Some(Alpn::Http2)),
            (&[HTTP_1_1], Some(Alpn::Http1)),
            (&[b"ftp"], None),
            (&[b"ftp", HTTP_1_1], Some(Alpn::Http1)),
        ];
        let after_request: [(&[&[u8]], Option<Alpn>); 4] = [
            (&[], Some(Alpn::None)),
            (&[POSTGRESQL], Some(Alpn::Postgres)),
            (&[H2, HTTP_1_1], None),
            (&[H2, POSTGRESQL], Some(Alpn::Postgres)),
        ];
        let cases = direct
            .iter()
            .map(|case| (Opening::Direct, case))
            .chain(after_request.iter().map(|case| (Opening::SslRequest, case)));
        for (opening, (offer, wanted)) in cases {
            let config = client(&roots(&authority), offer, None).unwrap();
            let (ours, theirs) = meet(&server, opening, config, "weir.example").await;
            if let Some(wanted) = wanted {
                assert_eq!(ours.unwrap().alpn, *wanted, "{opening:?} {offer:?}");
                assert!(theirs.is_ok());
            } else {
                assert!(matches!(ours, Err(AcceptError::Handshake(_))));
                let alert = theirs.unwrap_err().to_string();
                assert!(alert.contains("NoApplicationProtocol"), "{alert}");
            }
        }
    }

    #[tokio::test]
    async fn each_name_gets_its_certificate_and_an_unknown_one_none() {
        let authority = Authority::new("test").unwrap();
        let names: [&[&str]; 3] =
            [&["weir.example"], &["*.weir.example"], &["wiki.weir.example", "Other.example"]];
        let server = server(&authority, &names);
        let mut certificates = Vec::new();
        for (name, wanted) in [
            ("weir.example", true),
            ("customers.weir.example", true),
            ("WIKI.weir.example", true),
            ("other.example", true),
            ("a.b.weir.example", false),
            ("elsewhere.example", false),
        ] {
            let config = client(&roots(&authority), &[], None).unwrap();
            let (ours, theirs) = meet(&server, Opening::Direct, config, name).await;
            assert_eq!((ours.is_ok(), theirs.is_ok()), (wanted, wanted), "{name}");
            if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                assert_eq!(ours.sni, Some(name.to_ascii_lowercase()));
                certificates.push(shown(&theirs));
            }
        }
        let [gateway, wildcard, exact, other] = &certificates[..] else { panic!() };
        assert!(gateway != wildcard && wildcard != exact);
        assert_eq!(exact, other);
    }

    #[tokio::test]
    async fn a_client_that_names_no_host_gets_the_first_certificate() {
        let authority = Authority::new("test").unwrap();
        let first = authority.leaf(&["weir.example"], &["192.0.2.1".parse().unwrap()]).unwrap();
        let second = authority.leaf(&["other.example"], &[]).unwrap();
        let certificates = vec![pair(&first), pair(&second)];
        let server =
            Server::new(&ServerOptions { certificates, tls12: false, access: None }).unwrap();
        let config = client(&roots(&authority), &[], None).unwrap();
        let (ours, theirs) = meet(&server, Opening::Direct, config, "192.0.2.1").await;
        assert_eq!(ours.unwrap().sni, None);
        assert!(theirs.is_ok());
    }

    #[tokio::test]
    async fn reloading_shows_new_certificates_and_a_bad_one_changes_nothing() {
        let authority = Authority::new("test").unwrap();
        let server = server(&authority, &[&["weir.example"]]);
        let config = client(&roots(&authority), &[], None).unwrap();
        let see = async || {
            let met = meet(&server, Opening::Direct, Arc::clone(&config), "weir.example").await;
            shown(&met.1.unwrap())
        };
        let before = see().await;
        assert_eq!(see().await, before);
        let good = pair(&authority.leaf(&["weir.example"], &[]).unwrap());
        server.reload(std::slice::from_ref(&good)).unwrap();
        let after = see().await;
        assert_ne!(after, before);

        let foreign = authority.leaf(&["weir.example"], &[]).unwrap();
        let mixed = KeyPair { chain: good.chain.clone(), key: pair(&foreign).key };
        let nameless = pair(&authority.leaf(&[], &["192.0.2.1".parse().unwrap()]).unwrap());
        let missing =
            KeyPair { chain: Pem::File("/nonexistent/chain.pem".into()), key: good.key.clone() };
        let empty = KeyPair { chain: Pem::bytes("no PEM"), key: good.key.clone() };
        assert!(matches!(server.reload(&[mixed]), Err(TlsError::Unusable { .. })));
        assert!(matches!(server.reload(&[nameless]), Err(TlsError::Nameless { .. })));
        assert!(matches!(server.reload(&[missing]), Err(TlsError::Unreadable { .. })));
        assert!(matches!(server.reload(&[empty]), Err(TlsError::NoCertificate { .. })));
        assert!(matches!(server.reload(&[]), Err(TlsError::NoServerCertificate)));
        let twice = [good, pair(&foreign)];
        assert!(matches!(server.reload(&twice), Err(TlsError::Ambiguous { .. })));
        assert_eq!(see().await, after);
    }

    #[tokio::test]
    async fn a_client_believes_its_roots_and_the_name_it_asked_for_and_nothing_else() {
        let authority = Authority::new("test").unwrap();
        let stranger = Authority::new("test").unwrap();
        let server = server(&authority, &[&["weir.example"]]);
        let config = client(&roots(&stranger), &[], None).unwrap();
        let met = meet(&server, Opening::Direct, config, "weir.example").await;
        assert!(met.1.unwrap_err().to_string().contains("invalid peer certificate"));
        let config = client(&roots(&authority), &[], None).unwrap();
        let met = meet(&server, Opening::Direct, config, "192.0.2.9").await;
        assert!(met.1.unwrap_err().to_string().contains("invalid peer certificate"));
        assert!(client(&Roots::Bundle(Pem::bytes("")), &[], None).is_err());
    }

    #[tokio::test]
    async fn tls_1_2_is_spoken_only_where_it_is_allowed() {
        let authority = Authority::new("test").unwrap();
        let leaf = pair(&authority.leaf(&["weir.example"], &[]).unwrap());
        for tls12 in [false, true] {
            let server = Server::new(&ServerOptions {
                certificates: vec![leaf.clone()],
                tls12,
                access: None,
            })
            .unwrap();
            let mut trusted = rustls::RootCertStore::empty();
            let text = Pem::bytes(authority.cert_pem());
            trusted.add(text.certificates().unwrap().remove(0)).unwrap();
            let old = rustls::ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&TLS12])
                .unwrap()
                .with_root_certificates(trusted)
                .with_no_client_auth();
            let met = meet(&server, Opening::Direct, Arc::new(old), "weir.example").await;
            assert_eq!((met.0.is_ok(), met.1.is_ok()), (tls12, tls12));
        }
    }

    #[tokio::test]
    async fn a_client_that_stalls_is_given_up_at_the_deadline() {
        let authority = Authority::new("test").unwrap();
        let server = server(&authority, &[&["weir.example"]]);
        let (mut far, near) = duplex(64);
        far.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
        let deadline = Instant::now() + Duration::from_millis(50);
        let stalled = server.accept(near, Opening::Direct, deadline).await;
        assert!(matches!(stalled, Err(AcceptError::TooSlow)));
        assert!(Instant::now() >= deadline);
    }

    #[tokio::test]
    async fn bytes_pass_both_ways() {
        let authority = Authority::new("test").unwrap();
        let server = server(&authority, &[&["weir.example"]]);
        let identity = pair(&authority.client_leaf("alice", Some("engineers")).unwrap());
        let config = client(&roots(&authority), &[POSTGRESQL], Some(&identity)).unwrap();
        let met = meet(&server, Opening::SslRequest, config, "weir.example").await;
        let (mut ours, mut theirs) = (met.0.unwrap().stream, met.1.unwrap());
        theirs.write_all(b"ping").await.unwrap();
        theirs.flush().await.unwrap();
        let mut four = [0; 4];
        ours.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"ping");
        ours.write_all(b"pong").await.unwrap();
        ours.flush().await.unwrap();
        theirs.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"pong");
    }

    #[test]
    fn no_key_is_ever_printed() {
        let authority = Authority::new("test").unwrap();
        let leaf = authority.leaf(&["weir.example"], &[]).unwrap();
        let options = ServerOptions { certificates: vec![pair(&leaf)], tls12: false, access: None };
        let server = Server::new(&options).unwrap();
        let text = format!("{authority:?} {leaf:?} {options:?} {server:?}");
        for pem in [leaf.key_pem, authority.key_pem()] {
            let secret = pem.lines().nth(1).unwrap();
            assert!(!text.contains(secret) && !text.contains("PRIVATE"), "{text}");
        }
    }
}
