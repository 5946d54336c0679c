//! The beginning of a connection: TLS, the startup packet; each step once and in
//! order (PostgreSQL documentation, Message Flow › Start-up, SSL Session Encryption).
//!
//! ```text
//! plain ─ SSLRequest ─► encrypted ─ StartupMessage ─► asked ─► `login`
//!   └── CancelRequest ──────┴──► cancel
//! ```
//!
//! What follows, how a client proves who it is, is in `login`.

use std::fmt;
use std::io;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::model::login::Presented;
use crate::protocol::postgres::refuse::Own;
use crate::protocol::postgres::refuse::Words;
use crate::protocol::postgres::startup::Startup;
use crate::protocol::postgres::startup::startup;
use crate::protocol::postgres::wire::Build;

/// Longest startup packet (`MAX_STARTUP_PACKET_LENGTH`), in bytes.
pub const STARTUP_BYTES_MAX: usize = 10_000;
/// How long a client may take until its startup packet is here, and again until its proof is, in milliseconds.
pub const HELLO_MS_MAX: u64 = 60_000;
/// Longest secret key of a `CancelRequest` (protocol 3.2), in bytes.
const CANCEL_KEY_BYTES_MAX: usize = 256;

/// The gateway's TLS, as the composition root hands it over.
pub trait Encrypt<S>: Send {
    /// The encrypted stream.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// Does the handshake on a stream whose `SSLRequest` was answered.
    fn encrypt(self, stream: S) -> impl Future<Output = io::Result<Secured<Self::Stream>>> + Send;
}

/// A stream inside TLS, and what the handshake told.
#[derive(Debug)]
pub struct Secured<S> {
    /// The stream.
    pub stream: S,
    /// The host that the client asked for, in lower case.
    pub sni: Option<String>,
    /// The certificate that the client showed.
    pub certificate: Option<Presented>,
}

/// Why a connection ended before a session was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The client went away, or broke TLS.
    #[error("the client went away before it asked for a session")]
    Gone(#[from] io::Error),
    /// It sent what no beginning is; there is no answer to that.
    #[error("the client sent {0}")]
    Nonsense(&'static str),
    /// It was refused, in these words.
    #[error("{}", .0.message)]
    Refused(Words),
}

impl From<Words> for HelloError {
    fn from(words: Words) -> Self {
        Self::Refused(words)
    }
}

impl<S> Secured<S> {
    /// A stream on which no certificate was shown.
    pub fn without_certificate(stream: S, sni: Option<String>) -> Self {
        Self { stream, sni, certificate: None }
    }
}

/// What a client asks for.
#[derive(Debug)]
pub enum Hello<S> {
    /// A session.
    Session(Asked<S>),
    /// That a session be canceled; its connection is kept open until that is done.
    Cancel {
        /// The session's process id.
        process: i32,
        /// Its secret key.
        key: Bytes,
        /// The connection, which says by its end that the cancel was seen to.
        open: Open,
    },
}

/// A connection on which nothing more is said.
pub struct Open(Box<dyn AsyncWrite + Unpin + Send>);

impl Open {
    /// Ends it in order: inside TLS, an end without `close_notify` is an error to libpq.
    pub async fn close(mut self) {
        if let Err(error) = self.0.shutdown().await {
            tracing::debug!(%error, "a cancel's client did not wait for the end");
        }
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Open")
    }
}

/// A client that asked for a session inside TLS.
#[derive(Debug)]
pub struct Asked<S> {
    /// The connection.
    pub stream: S,
    /// The host that TLS was asked for.
    pub sni: Option<String>,
    /// The certificate that it showed.
    pub certificate: Option<Presented>,
    /// What it asked for.
    pub startup: Startup,
}

enum Opening {
    Ssl,
    Gss,
    Cancel { process: i32, key: Bytes },
    Startup { version: i32, body: Vec<u8> },
}

/// Begins on a connection in the clear, whose first bytes nobody has taken.
pub async fn plain<S, E>(mut stream: S, encrypt: E) -> Result<Hello<E::Stream>, HelloError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    E: Encrypt<S, Stream: 'static>,
{
    let mut gss_asked = false;
    loop {
        // Exactly one request is read, so that bytes behind it are never taken for what was said
        // inside TLS (CVE-2021-23222): they are left to the handshake, which fails on them.
        match opening(&mut stream).await? {
            Opening::Ssl => {
                send(&mut stream, b"S").await?;
                return encrypted(encrypt.encrypt(stream).await?).await;
            }
            Opening::Gss if !gss_asked => {
                gss_asked = true;
                send(&mut stream, b"N").await?;
            }
            Opening::Gss => return Err(HelloError::Nonsense("GSSENCRequest twice")),
            Opening::Cancel { process, key } => {
                return Ok(Hello::Cancel { process, key, open: Open(Box::new(stream)) });
            }
            Opening::Startup { .. } => {
                let mut words = Words::new("28000", "this gateway needs TLS");
                words.hint = Some("connect with sslmode=verify-full".to_owned());
                return Err(told(&mut stream, words).await);
            }
        }
    }
}

/// Goes on, or begins, inside TLS.
pub async fn encrypted<S>(secured: Secured<S>) -> Result<Hello<S>, HelloError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Secured { mut stream, sni, certificate } = secured;
    match opening(&mut stream).await? {
        Opening::Cancel { process, key } => {
            Ok(Hello::Cancel { process, key, open: Open(Box::new(stream)) })
        }
        Opening::Ssl | Opening::Gss => {
            let words = Words::new("08P01", "encryption was asked for inside of TLS");
            Err(told(&mut stream, words).await)
        }
        Opening::Startup { version, body } => match startup(version, &body) {
            Ok(startup) => Ok(Hello::Session(Asked { stream, sni, certificate, startup })),
            Err(words) => Err(told(&mut stream, words).await),
        },
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Asked<S> {
    /// Tells the client that there is no session, and why.
    pub async fn refuse(&mut self, words: &Words) -> io::Result<()> {
        send(&mut self.stream, &Bytes::from(words.fatal())).await
    }
}

/// The words at the end of a sign-in that succeeded.
pub fn signed_in() -> Own {
    Own::made(Build::new(b'R').int32(0).done())
}

/// By which the client can cancel.
pub fn key_data(process: i32, key: &[u8]) -> Own {
    Own::made(Build::new(b'K').int32(process).raw(key).done())
}

/// The first word that a session is ready, outside a transaction.
pub fn ready() -> Own {
    Own::made(Build::new(b'Z').byte(b'I').done())
}

async fn opening<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Opening, HelloError> {
    let length = stream.read_u32().await?;
    let size = usize::try_from(length).ok().filter(|n| (8..=STARTUP_BYTES_MAX).contains(n));
    let Some(size) = size.and_then(|size| size.checked_sub(8)) else {
        return Err(HelloError::Nonsense("a startup packet of invalid length"));
    };
    let code = stream.read_i32().await?;
    match (code, size) {
        (80_877_103, 0) => Ok(Opening::Ssl),
        (80_877_104, 0) => Ok(Opening::Gss),
        (80_877_103 | 80_877_104, _) => {
            Err(HelloError::Nonsense("an encryption request with more"))
        }
        (80_877_102, size) if (8..=CANCEL_KEY_BYTES_MAX.saturating_add(4)).contains(&size) => {
            let process = stream.read_i32().await?;
            let mut key = vec![0; size.saturating_sub(4)];
            stream.read_exact(&mut key).await?;
            Ok(Opening::Cancel { process, key: key.into() })
        }
        (80_877_102, _) => Err(HelloError::Nonsense("a cancel request of invalid length")),
        (version, size) => {
            let mut body = vec![0; size];
            stream.read_exact(&mut body).await?;
            Ok(Opening::Startup { version, body })
        }
    }
}

pub(super) async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

pub(super) async fn told<S: AsyncWrite + Unpin>(stream: &mut S, words: Words) -> HelloError {
    match send(stream, &Bytes::from(words.fatal())).await {
        Ok(()) => HelloError::Refused(words),
        Err(error) => HelloError::Gone(error),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::DuplexStream;

    use super::*;

    struct NoTls;

    impl Encrypt<DuplexStream> for NoTls {
        type Stream = DuplexStream;

        async fn encrypt(self, stream: DuplexStream) -> io::Result<Secured<DuplexStream>> {
            Ok(Secured::without_certificate(stream, Some("customers.weir.example".to_owned())))
        }
    }

    fn packet(pairs: &[(&str, &str)]) -> Vec<u8> {
        let build = Build::untyped().int32(3 << 16);
        let build =
            pairs.iter().fold(build, |build, (name, value)| build.string(name).string(value));
        build.byte(0).done().into_bytes().to_vec()
    }

    async fn talk(sent: &[u8]) -> (Result<Hello<DuplexStream>, HelloError>, Vec<u8>) {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        far.write_all(sent).await.unwrap();
        far.shutdown().await.unwrap();
        let hello = plain(near, NoTls).await;
        let mut said = Vec::new();
        if hello.is_err() {
            far.read_to_end(&mut said).await.unwrap();
        }
        (hello, said)
    }

    const SSL: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
    const GSS: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x30];

    #[tokio::test]
    async fn gss_is_declined_and_tls_follows_on_the_same_connection() {
        let sent = [&GSS[..], &SSL, &packet(&[("user", "alice")])].concat();
        let (hello, _) = talk(&sent).await;
        let Ok(Hello::Session(asked)) = hello else { panic!("{hello:?}") };
        assert_eq!(asked.startup.user, "alice");
        assert_eq!(asked.sni.as_deref(), Some("customers.weir.example"));
        let (hello, said) = talk(&[&GSS[..], &GSS].concat()).await;
        assert!(matches!(hello, Err(HelloError::Nonsense(_))));
        assert_eq!(said, b"N");
        let (hello, _) = talk(&[&SSL[..], &SSL].concat()).await;
        assert!(matches!(hello, Err(HelloError::Refused(_))), "SSL inside TLS");
    }

    #[tokio::test]
    async fn without_tls_there_is_a_cancel_and_nothing_else() {
        let (hello, said) = talk(&packet(&[("user", "alice")])).await;
        assert!(matches!(hello, Err(HelloError::Refused(_))));
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains("C28000") && said.contains("sslmode=verify-full"), "{said}");
        let cancel = [&[0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 7][..], b"abcd"].concat();
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(&cancel).await.unwrap();
        let hello = plain(near, NoTls).await;
        let Ok(Hello::Cancel { process: 7, key, open }) = hello else { panic!("{hello:?}") };
        assert_eq!(&key[..], b"abcd");
        assert!(far.read_u8().now_or_never().is_none(), "its end says that the cancel was seen to");
        open.close().await;
        let error = far.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "a cancel is never answered");
    }

    #[tokio::test]
    async fn packets_out_of_bounds_end_without_an_answer() {
        for length in [0_u32, 7, 10_001, 0x7fff_ffff, 0xffff_ffff] {
            let mut sent = length.to_be_bytes().to_vec();
            sent.extend([0; 32]);
            let (hello, said) = talk(&sent).await;
            assert!(matches!(hello, Err(HelloError::Nonsense(_))), "{length}");
            assert!(said.is_empty());
        }
    }
}
