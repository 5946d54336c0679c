//! The target's side: opening a leg, signing in, and the only senders towards a PostgreSQL server.
//!
//! TLS is verified in full and begins with an `SSLRequest`; the startup packet is built here from
//! what was allowed, never passed on; sign-in is SCRAM-SHA-256 (RFC 7677). What is sent afterwards
//! is [`Cleared`]. It knows no client.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use postgres_protocol::authentication::sasl;
use postgres_protocol::authentication::sasl::ChannelBinding;
use postgres_protocol::authentication::sasl::ScramSha256;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::audit::Unrecorded;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::postgres::queue::Queue;
use crate::protocol::postgres::wire::Answers;
use crate::protocol::postgres::wire::Build;
use crate::protocol::postgres::wire::Frame;
use crate::protocol::postgres::wire::Malformed;
use crate::protocol::postgres::wire::Piece;
use crate::protocol::postgres::wire::Report;
use crate::session::Cleared;
use crate::session::Guard;
use crate::session::guard::Plumbing;
use crate::session::guard::WrongSession;
use crate::target::CredentialError;
use crate::target::PinError;
use crate::target::Pinned;
use crate::target::PostgresTarget;
use crate::target::Target;
use crate::target::UpstreamTls;
use crate::target::pin;
use crate::tls;
use crate::tls::Pem;
use crate::tls::Roots;
use crate::upstream::DialError;
use crate::upstream::OpenLeg;
use crate::upstream::dial;

/// How long TLS and sign-in may take, in milliseconds.
pub const SIGN_IN_MS_MAX: u64 = 15_000;
/// How long a cancel may take until the target closes its connection, in milliseconds.
pub const CANCEL_MS_MAX: u64 = 5_000;
/// Longest secret key of a target's session, in bytes (protocol 3.2).
const KEY_BYTES_MAX: usize = 256;
/// Messages of a sign-in that are read at most.
const SIGN_IN_MESSAGES_MAX: usize = 1_000;
/// Longest message of a sign-in, in bytes.
const SIGN_IN_BYTES_MAX: usize = 64 * 1024;

/// How a target is reached and signed in to.
#[derive(Clone)]
pub struct Access {
    /// The addresses that were checked to lie in the target's region.
    pub pinned: Arc<Pinned>,
    /// How the target is verified; `None`: no TLS, which configuration allows on loopback alone.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The database user that the gateway signs in as.
    pub login: String,
    /// That user's password.
    pub password: SecretString,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("pinned", &self.pinned)
            .field("tls", &self.tls.is_some())
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

/// The TLS configurations towards targets, made once each. One per gateway.
#[derive(Debug, Default)]
pub struct Trust {
    made: Mutex<BTreeMap<TargetName, (UpstreamTls, Arc<ClientConfig>)>>,
}

impl Trust {
    /// How `target` is reached and signed in to now: its name is resolved, its credential read.
    pub async fn access(
        &self,
        target: &Target,
        postgres: &PostgresTarget,
    ) -> Result<Access, OpenError> {
        let pinned = pin(target).await;
        let pinned = pinned.map_err(|error| OpenError::Pin(Box::new(error)))?;
        let password = postgres.credential.read()?;
        let tls = match &postgres.tls {
            UpstreamTls::Off => None,
            UpstreamTls::Verified { ca_pem, server_name } => {
                let config = self.config(target.name(), &postgres.tls, ca_pem.as_deref())?;
                let name = ServerName::try_from(server_name.to_string())
                    .map_err(|error| OpenError::Tls(io::Error::other(error)))?;
                Some((config, name))
            }
        };
        let login = postgres.login.to_string();
        Ok(Access { pinned: Arc::new(pinned), tls, login, password })
    }

    fn config(
        &self,
        target: &TargetName,
        tls: &UpstreamTls,
        ca_pem: Option<&[u8]>,
    ) -> Result<Arc<ClientConfig>, OpenError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, config)) = made.get(target)
            && of == tls
        {
            return Ok(Arc::clone(config));
        }
        let roots = ca_pem.map_or(Roots::System, |pem| Roots::Bundle(Pem::bytes(pem)));
        // After an SSLRequest the server needs no ALPN; an old one would not know it.
        let config = tls::client(&roots, &[], None)?;
        made.insert(target.clone(), (tls.clone(), Arc::clone(&config)));
        Ok(config)
    }
}

/// Why a target could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its address is not one in its region.
    #[error("the target's address cannot be used")]
    Pin(#[source] Box<PinError>),
    /// The gateway's credential cannot be read.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The target's TLS cannot be set up.
    #[error("TLS towards the target cannot be set up")]
    Trust(#[from] tls::TlsError),
    /// It cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection failed.
    #[error("the connection to the target failed at sign-in")]
    Io(#[source] io::Error),
    /// The target does not speak TLS, or shows a certificate that is not trusted.
    #[error("TLS with the target failed")]
    Tls(#[source] io::Error),
    /// The target answered a TLS request with more than its one byte (CVE-2021-23214).
    #[error("the target sent bytes before TLS")]
    BytesBeforeTls,
    /// It took too long.
    #[error("the target did not answer at sign-in in time")]
    Slow,
    /// The target asks for a way to sign in that is not spoken.
    #[error("the target asks for authentication {0}; only SCRAM-SHA-256 is spoken")]
    Method(i32),
    /// SCRAM failed: a wrong password, or a target that does not know it.
    #[error("SCRAM-SHA-256 with the target failed")]
    Scram(#[source] io::Error),
    /// The target said no.
    #[error("the target refused the sign-in with {code}: {message}")]
    Refused {
        /// The SQLSTATE.
        code: String,
        /// The target's message, for our log.
        message: String,
    },
    /// The target does not speak PostgreSQL's protocol.
    #[error("the target broke the protocol at sign-in")]
    Malformed(#[from] Malformed),
    /// The target sent what does not belong into a sign-in.
    #[error("the target sent message {0:?} at sign-in")]
    Unexpected(char),
    /// A proof of another session.
    #[error(transparent)]
    Session(#[from] WrongSession),
    /// The connection cannot be recorded.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
}

impl IntoRefusal for OpenError {
    fn refusal(&self) -> Refusal {
        let failed = |reason: &str| {
            Refusal::new(RefusalCode::TargetFailed, reason)
                .hint("the target's owner can tell; the gateway's log says why")
        };
        match self {
            Self::Dial(error) => error.refusal(),
            Self::Pin(error) => error.refusal(),
            Self::Unrecorded(error) => error.refusal(),
            Self::Credential(_) | Self::Trust(_) => {
                failed("the gateway cannot sign in to the target")
            }
            // The database that a client names may not exist: that is the client's to know.
            Self::Refused { code, .. } if code == "3D000" => {
                Refusal::new(RefusalCode::NoTarget, "the target has no such database")
            }
            Self::Refused { code, .. } => {
                failed(&format!("the target refused the gateway's sign-in (SQLSTATE {code})"))
            }
            Self::Tls(_) | Self::BytesBeforeTls => {
                failed("the target could not be verified by TLS")
            }
            Self::Slow => failed("the target did not answer in time"),
            Self::Io(_)
            | Self::Method(_)
            | Self::Scram(_)
            | Self::Malformed(_)
            | Self::Unexpected(_)
            | Self::Session(_) => failed("the sign-in to the target failed"),
        }
    }
}

/// A connection to a target, with or without TLS.
#[derive(Debug)]
pub enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// Verified by TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A target that was signed in to and is ready.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub stream: Stream,
    /// Bytes that came behind the sign-in.
    pub early: BytesMut,
    /// Its parameters, in its own order.
    pub parameters: Vec<Frame>,
    /// Process id and secret key, by which it is canceled.
    pub key: Key,
}

/// What a target's session is canceled by.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// The backend's process id.
    pub process: i32,
    secret: Bytes,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("process", &self.process).finish_non_exhaustive()
    }
}

/// The one type that opens legs to PostgreSQL servers.
#[derive(Debug)]
struct Opener;

impl OpenLeg for Opener {}

/// Dials the session's target and signs in to `database` with `settings`.
pub async fn open(
    guard: &Guard,
    access: &Access,
    database: &str,
    settings: &BTreeMap<String, String>,
) -> Result<Opened, OpenError> {
    let signed_in = async {
        let (stream, ends) = secure(guard, access).await?;
        let opened = sign_in(stream, access, database, settings).await?;
        guard.leg(ends, Some(i64::from(opened.key.process)), None)?;
        Ok(opened)
    };
    within(SIGN_IN_MS_MAX, signed_in).await
}

/// Dials the session's target and gives the connection, verified, before anybody signs in: for the
/// gateway's own client.
pub async fn connect(guard: &Guard, access: &Access) -> Result<Stream, OpenError> {
    within(SIGN_IN_MS_MAX, secure(guard, access)).await.map(|(stream, _)| stream)
}

/// A cancel of whatever the target's session with this key is at.
#[derive(Debug)]
pub struct Cancel(Bytes);

impl Plumbing for Cancel {}

impl Cancel {
    /// A cancel of the session with `key`.
    pub fn of(key: &Key) -> Self {
        let build = Build::untyped().int32(CANCEL_REQUEST).int32(key.process).raw(&key.secret);
        Self(build.done().into_bytes())
    }
}

/// Sends a cancel on a leg of its own and waits until the target closes it: the target has acted on
/// it then, or never will.
pub async fn send_cancel(
    guard: &Guard,
    access: &Access,
    cancel: Cleared<Cancel>,
) -> Result<(), OpenError> {
    let sent = async {
        let (mut stream, _) = secure(guard, access).await?;
        let cancel = cancel.unseal(guard.session())?;
        stream.write_all(&cancel.0).await.map_err(OpenError::Io)?;
        stream.flush().await.map_err(OpenError::Io)?;
        // It is never answered; an error instead of the end is an end too.
        let mut nothing = [0; 1];
        if let Err(error) = stream.read(&mut nothing).await {
            tracing::debug!(%error, "a cancel's connection ended with an error");
        }
        Ok(())
    };
    within(CANCEL_MS_MAX, sent).await
}

/// What waits to be written to the target.
#[derive(Debug)]
pub struct ToTarget {
    session: SessionId,
    pub(super) queue: Queue,
}

impl ToTarget {
    /// Nothing, for the target of `session`.
    pub fn new(session: SessionId) -> Self {
        Self { session, queue: Queue::default() }
    }

    /// Sends a frame.
    pub fn send<F: Into<Bytes>>(&mut self, frame: Cleared<F>) -> Result<(), WrongSession> {
        self.queue.push(frame.unseal(self.session)?.into());
        Ok(())
    }
}

/// The code of an `SSLRequest` in place of a version (Message Formats › `SSLRequest`).
const SSL_REQUEST: i32 = 80_877_103;
/// The code of a `CancelRequest` in place of a version (Message Formats › `CancelRequest`).
const CANCEL_REQUEST: i32 = 80_877_102;
/// Protocol 3.0.
const VERSION: i32 = 196_608;

/// The two ends of a connection: the gateway's and the target's.
type Ends = (SocketAddr, SocketAddr);

/// Dials, records by which ends the target's log may know the connection, and verifies it.
async fn secure(guard: &Guard, access: &Access) -> Result<(Stream, Ends), OpenError> {
    let leg = dial(guard.permit(), &access.pinned).await?;
    let ends = (leg.local(), leg.peer());
    guard.leg(ends, None, None)?;
    let mut stream = leg.open(&Opener);
    let Some((config, name)) = &access.tls else { return Ok((Stream::Plain(stream), ends)) };
    let request = Build::untyped().int32(SSL_REQUEST).done();
    stream.write_all(request.bytes()).await.map_err(OpenError::Io)?;
    // One byte is read and no more, so that nothing that came before TLS is ever taken for what was
    // said inside (CVE-2021-23214); what is behind it must be TLS.
    let answer = stream.read_u8().await.map_err(OpenError::Io)?;
    if answer != b'S' {
        return Err(OpenError::Tls(io::Error::other("the target does not speak TLS")));
    }
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = connector.connect(name.clone(), stream).await.map_err(OpenError::Tls)?;
    Ok((Stream::Tls(Box::new(stream)), ends))
}

async fn sign_in(
    mut stream: Stream,
    access: &Access,
    database: &str,
    settings: &BTreeMap<String, String>,
) -> Result<Opened, OpenError> {
    let mut startup = Build::untyped().int32(VERSION);
    startup = startup.string("user").string(&access.login).string("database").string(database);
    for (name, value) in settings {
        startup = startup.string(name).string(value);
    }
    write(&mut stream, &startup.byte(0).done()).await?;
    let (mut parser, mut early) = (Answers::default(), BytesMut::with_capacity(4096));
    let mut key = Key { process: 0, secret: Bytes::new() };
    let (mut parameters, mut scram, mut signed_in) = (Vec::new(), None, false);
    for _ in 0..SIGN_IN_MESSAGES_MAX {
        let frame = read(&mut stream, &mut parser, &mut early).await?;
        match frame.tag() {
            b'R' => match authenticate(&frame, access, &mut scram)? {
                Answered::Done => signed_in = true,
                Answered::Say(answer) => write(&mut stream, &answer).await?,
                Answered::Nothing => {}
            },
            b'S' if signed_in => parameters.push(frame),
            b'K' if signed_in => key = key_of(&frame)?,
            // A notice at sign-in is the target's to the gateway, not to the client.
            b'N' | b'v' => {}
            b'E' => {
                let report = Report::of(&frame)?;
                let message = String::from_utf8_lossy(&report.message).into_owned();
                return Err(OpenError::Refused { code: report.code, message });
            }
            b'Z' if signed_in => return Ok(Opened { stream, early, parameters, key }),
            other => return Err(OpenError::Unexpected(char::from(other))),
        }
    }
    Err(OpenError::Unexpected('S'))
}

enum Answered {
    Done,
    Say(Frame),
    Nothing,
}

/// One step of authentication (Message Flow › Start-up; SASL Authentication).
fn authenticate(
    frame: &Frame,
    access: &Access,
    scram: &mut Option<ScramSha256>,
) -> Result<Answered, OpenError> {
    let body = frame.body();
    let malformed = || OpenError::Malformed(Malformed::Format(b'R'));
    let (method, rest) = body.split_first_chunk::<4>().ok_or_else(malformed)?;
    let invalid = |what: &str| OpenError::Scram(io::Error::other(what.to_owned()));
    match i32::from_be_bytes(*method) {
        0 => match scram {
            // The server has proven that it knows the password, or never asked for one.
            None => Ok(Answered::Done),
            Some(_) => Err(invalid("the target skipped the end of SCRAM")),
        },
        10 => {
            let offered = rest.split(|byte| *byte == 0);
            if !offered.into_iter().any(|name| name == sasl::SCRAM_SHA_256.as_bytes()) {
                return Err(OpenError::Method(10));
            }
            let password = access.password.expose_secret().as_bytes();
            let first = ScramSha256::new(password, ChannelBinding::unsupported());
            let size = i32::try_from(first.message().len()).map_err(|_| malformed())?;
            let answer = Build::new(b'p').string(sasl::SCRAM_SHA_256).int32(size);
            let answer = answer.raw(first.message()).done();
            *scram = Some(first);
            Ok(Answered::Say(answer))
        }
        11 => {
            let scram = scram.as_mut().ok_or_else(|| invalid("SCRAM goes on unbegun"))?;
            scram.update(rest).map_err(OpenError::Scram)?;
            Ok(Answered::Say(Build::new(b'p').raw(scram.message()).done()))
        }
        12 => {
            let mut done = scram.take().ok_or_else(|| invalid("SCRAM ends unbegun"))?;
            done.finish(rest).map_err(OpenError::Scram)?;
            Ok(Answered::Nothing)
        }
        other => Err(OpenError::Method(other)),
    }
}

fn key_of(frame: &Frame) -> Result<Key, Malformed> {
    let body = frame.body();
    let malformed = || Malformed::Format(b'K');
    let (process, secret) = body.split_first_chunk::<4>().ok_or_else(malformed)?;
    if !(4..=KEY_BYTES_MAX).contains(&secret.len()) {
        return Err(malformed());
    }
    let secret = Bytes::copy_from_slice(secret);
    Ok(Key { process: i32::from_be_bytes(*process), secret })
}

async fn write(stream: &mut Stream, frame: &Frame) -> Result<(), OpenError> {
    stream.write_all(frame.bytes()).await.map_err(OpenError::Io)?;
    stream.flush().await.map_err(OpenError::Io)
}

async fn read(
    stream: &mut Stream,
    parser: &mut Answers,
    buffer: &mut BytesMut,
) -> Result<Frame, OpenError> {
    loop {
        match parser.next(buffer, true)? {
            Some(Piece::Frame(frame)) => return Ok(frame),
            Some(Piece::Rows { .. } | Piece::Part { .. }) => {
                return Err(OpenError::Unexpected('D'));
            }
            None => {}
        }
        if buffer.len() > SIGN_IN_BYTES_MAX {
            return Err(OpenError::Malformed(Malformed::Format(b'E')));
        }
        if stream.read_buf(buffer).await.map_err(OpenError::Io)? == 0 {
            return Err(OpenError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

async fn within<T>(
    ms_max: u64,
    work: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    tokio::time::timeout(Duration::from_millis(ms_max), work).await.unwrap_or(Err(OpenError::Slow))
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
