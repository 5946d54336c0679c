//! Legs to a session's target: opened here, pooled for that session alone, and given nothing but
//! what is cleared.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::Version;
use http::header;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::model::CommandId;
use crate::model::Fault;
use crate::model::Refusal;
use crate::model::TargetName;
use crate::model::fault::Chain;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::http::body::ClearedBody;
use crate::protocol::http::body::Progress;
use crate::protocol::http::dialect::Dialect;
use crate::protocol::http::dialect::Place;
use crate::protocol::http::dialect::Unreachable;
use crate::protocol::http::wire;
use crate::session::Assertions;
use crate::session::Cleared;
use crate::session::Guard;
use crate::session::guard::WrongSession;
use crate::target::Target;
use crate::upstream;
use crate::upstream::DialError;
use crate::upstream::OpenLeg;

/// How many legs of a session wait for its next request.
pub const IDLE_LEGS_MAX: usize = 8;
/// How long a leg waits for it, in milliseconds: less than servers do, so that few die in between.
pub const IDLE_LEG_MS_MAX: u64 = 15_000;
/// How long a leg that was just given back may take to be ready again, in milliseconds.
const READY_MS_MAX: u64 = 20;
/// Longest TLS handshake with a target, in milliseconds.
pub const TLS_MS_MAX: u64 = 10_000;
/// How long a target may think before its answer's head comes, and how long a client may pause in
/// sending a body, in milliseconds.
pub const HEAD_MS_MAX: u64 = 120_000;
/// In which header a target is told, signed, who asks.
pub const IDENTITY_HEADER: &str = "x-weir-identity";
/// Most headers of an answer.
pub const HEADERS_MAX: usize = 128;
/// Largest head of an answer, in bytes.
pub const HEAD_BYTES_MAX: usize = 128 * 1024;
/// Most interim answers (1xx) before the one that counts.
pub const INTERIM_MAX: usize = 16;

/// What opens legs for HTTP.
struct Opener;

impl OpenLeg for Opener {}

/// The legs of one session.
pub struct Pool {
    target: Arc<Target>,
    dialect: Arc<dyn Dialect>,
    vouches: Option<Arc<Assertions>>,
    idle: Mutex<Vec<(SendRequest<ClearedBody>, Instant)>>,
}

/// A leg that an answer comes from; given back once that is over.
pub struct Lease {
    sender: SendRequest<ClearedBody>,
    pool: Weak<Pool>,
}

/// An answer's head, its body, and the leg it comes from.
#[derive(Debug)]
pub struct Answered {
    /// The answer, whose body is still the target's and goes to nobody as it is.
    pub response: Response<Incoming>,
    /// The leg.
    pub lease: Lease,
}

/// There was no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The target cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The dialect does not know where it is, or cannot sign in.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// TLS failed.
    #[error("the TLS handshake with {0} failed")]
    Tls(TargetName, #[source] std::io::Error),
    /// The exchange broke before there was a head, or the head is malformed.
    #[error("{0} broke the exchange")]
    Broken(TargetName, #[source] hyper::Error),
    /// No head in time.
    #[error("{0} sent no answer in {seconds} s", seconds = HEAD_MS_MAX / 1000)]
    Slow(TargetName),
    /// The client paused for too long in its body.
    #[error("the client paused in its body for {seconds} s", seconds = HEAD_MS_MAX / 1000)]
    SlowClient,
    /// More interim answers than are taken.
    #[error("{0} sent more than {INTERIM_MAX} interim answers")]
    Interim(TargetName),
    /// A proof of another session: a bug of ours.
    #[error(transparent)]
    WrongSession(#[from] WrongSession),
}

impl NoAnswer {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unreachable(unreachable) => unreachable.fault,
            Self::WrongSession(_) => Fault::Gateway,
            Self::SlowClient => Fault::Client,
            Self::Dial(_) | Self::Tls(..) | Self::Broken(..) | Self::Slow(_) | Self::Interim(_) => {
                Fault::Target
            }
        }
    }
}

impl IntoRefusal for NoAnswer {
    fn refusal(&self) -> Refusal {
        let failed = |reason: String| {
            Refusal::new(RefusalCode::TargetFailed, reason)
                .hint("the target's side failed, not yours; the gateway's log says how")
        };
        match self {
            Self::Dial(error) => error.refusal(),
            Self::Unreachable(unreachable) => unreachable.refusal.clone(),
            Self::Tls(target, _) => failed(format!("{target} could not prove that it is {target}")),
            Self::Broken(target, _) => failed(format!("{target} broke the exchange")),
            Self::Slow(target) => failed(format!("{target} did not answer in time")),
            Self::Interim(target) => failed(format!("{target} did not come to an answer")),
            Self::SlowClient => {
                Refusal::new(RefusalCode::TimedOut, "the request's body did not come in time")
            }
            Self::WrongSession(_) => Refusal::new(
                RefusalCode::Unrecorded,
                "the gateway made a mistake, and sent nothing",
            ),
        }
    }
}

impl Pool {
    /// No legs yet.
    pub fn new(
        target: Arc<Target>,
        dialect: Arc<dyn Dialect>,
        vouches: Option<Arc<Assertions>>,
    ) -> Arc<Self> {
        Arc::new(Self { target, dialect, vouches, idle: Mutex::default() })
    }

    /// Sends the request that is the session's command `number`, dressed with the target's
    /// credential, and waits for the answer's head; where that is `masked`, it is asked for in a form that can be.
    ///
    /// Once a byte of it may have been written it is never sent again: whether the target did it
    /// nobody here knows. Not cancel safe: dropped, the leg ends, and so does the request there.
    pub async fn send(
        self: &Arc<Self>,
        guard: &Guard,
        head: Cleared<Parts>,
        body: ClearedBody,
        number: u64,
        masked: bool,
    ) -> Result<Answered, NoAnswer> {
        let mut head = head.unseal(guard.session())?;
        head.version = Version::HTTP_11;
        if masked {
            wire::for_masking(&mut head.headers);
        }
        let command = CommandId { session: guard.session(), number };
        let asker = (&**guard.permit().principal(), command);
        self.dialect.dress(&self.target, asker, &mut head.headers)?;
        self.vouch(guard, &mut head.headers)?;
        let progress = body.progress();
        let mut interim = InterimCount::default();
        let mut request = Request::from_parts(head, body);
        interim.count_of(&mut request);
        let place = self.dialect.reach(&self.target).await?;
        let host = HeaderValue::from_str(&place.authority)
            .map_err(|e| Unreachable::misconfigured(&self.target, e))?;
        request.headers_mut().insert(header::HOST, host);
        let answered = |mut response: Response<Incoming>, sender| {
            wire::relative_redirect(response.headers_mut(), &place.authority);
            self.answered(response, sender)
        };
        while let Some(mut sender) = self.idle_leg().await {
            match self.exchange(&mut sender, request, &progress, &interim).await? {
                Sent::Answered(response) => return Ok(answered(response, sender)),
                // The leg had died before a byte was written.
                Sent::NotBegun(unsent, _) => request = unsent,
            }
        }
        let mut sender = self.dial(guard, &place).await?;
        match self.exchange(&mut sender, request, &progress, &interim).await? {
            Sent::Answered(response) => Ok(answered(response, sender)),
            Sent::NotBegun(_, error) => Err(NoAnswer::Broken(self.name(), error)),
        }
    }

    /// Says to the target, signed, who asks; what a client sent under that name is gone already.
    fn vouch(&self, guard: &Guard, headers: &mut HeaderMap) -> Result<(), NoAnswer> {
        let Some(vouches) = &self.vouches else { return Ok(()) };
        let principal = guard.permit().principal();
        let signed = vouches.sign(principal, self.target.name(), guard.session(), guard.now());
        let signed = signed.map_err(|e| Unreachable::misconfigured(&self.target, e))?;
        let value = HeaderValue::from_str(&signed);
        let mut value = value.map_err(|e| Unreachable::misconfigured(&self.target, e))?;
        value.set_sensitive(true);
        headers.insert(IDENTITY_HEADER, value);
        Ok(())
    }

    async fn exchange(
        &self,
        sender: &mut SendRequest<ClearedBody>,
        request: Request<ClearedBody>,
        progress: &Progress,
        interim: &InterimCount,
    ) -> Result<Sent, NoAnswer> {
        let sending = sender.try_send_request(request);
        tokio::pin!(sending);
        loop {
            let until = progress.last() + Duration::from_millis(HEAD_MS_MAX);
            tokio::select! {
                answered = &mut sending => return match answered {
                    Ok(response) => Ok(Sent::Answered(response)),
                    Err(mut error) => match error.take_message() {
                        Some(unsent) => Ok(Sent::NotBegun(unsent, error.into_error())),
                        None => Err(NoAnswer::Broken(self.name(), error.into_error())),
                    },
                },
                () = interim.too_many() => return Err(NoAnswer::Interim(self.name())),
                () = tokio::time::sleep_until(until) => {
                    if progress.last() + Duration::from_millis(HEAD_MS_MAX) <= Instant::now() {
                        let client = !progress.is_over();
                        let slow = if client { NoAnswer::SlowClient } else { NoAnswer::Slow(self.name()) };
                        return Err(slow);
                    }
                }
            }
        }
    }

    fn answered(
        self: &Arc<Self>,
        response: Response<Incoming>,
        leg: SendRequest<ClearedBody>,
    ) -> Answered {
        Answered { response, lease: Lease { sender: leg, pool: Arc::downgrade(self) } }
    }

    async fn dial(
        &self,
        guard: &Guard,
        place: &Place,
    ) -> Result<SendRequest<ClearedBody>, NoAnswer> {
        let leg = upstream::dial(guard.permit(), &place.pinned).await?;
        let stream = leg.open(&Opener);
        match &place.tls {
            None => self.begin(stream).await,
            Some((config, name)) => self.begin(self.tls(config, name, stream).await?).await,
        }
    }

    async fn tls<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
        stream: S,
    ) -> Result<tokio_rustls::client::TlsStream<S>, NoAnswer> {
        let connecting = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream);
        timeout(Duration::from_millis(TLS_MS_MAX), connecting)
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|source| NoAnswer::Tls(self.name(), source))
    }

    async fn begin<S>(&self, stream: S) -> Result<SendRequest<ClearedBody>, NoAnswer>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| NoAnswer::Broken(self.name(), source))?;
        let target = self.name();
        // It ends with its sender, and with the body of its last answer.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(fault = %Fault::Target, %target, "a leg ended: {}", Chain(&error));
            }
        });
        Ok(sender)
    }

    /// A leg that waits for a request. One that was just given back may need a moment.
    async fn idle_leg(&self) -> Option<SendRequest<ClearedBody>> {
        loop {
            let (mut leg, since) = self.idle().pop()?;
            let fresh = since.elapsed() < Duration::from_millis(IDLE_LEG_MS_MAX);
            let ready = timeout(Duration::from_millis(READY_MS_MAX), leg.ready());
            if fresh && matches!(ready.await, Ok(Ok(()))) {
                return Some(leg);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(SendRequest<ClearedBody>, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> TargetName {
        self.target.name().clone()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.idle().len();
        f.debug_struct("Pool")
            .field("target", self.target.name())
            .field("dialect", &self.dialect)
            .field("idle", &idle)
            .finish_non_exhaustive()
    }
}

impl Lease {
    /// Gives the leg back for the session's next request: the answer came to its proper end.
    pub fn give_back(self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let mut idle = pool.idle();
        idle.retain(|(leg, _)| !leg.is_closed());
        if idle.len() < IDLE_LEGS_MAX {
            idle.push((self.sender, Instant::now()));
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

/// What came of sending.
#[expect(clippy::large_enum_variant, reason = "it lives for a moment on the stack")]
enum Sent {
    Answered(Response<Incoming>),
    NotBegun(Request<ClearedBody>, hyper::Error),
}

/// Counts interim answers to one request.
#[derive(Debug, Clone, Default)]
struct InterimCount {
    seen: Arc<AtomicUsize>,
    over: Arc<Notify>,
}

impl InterimCount {
    fn count_of(&mut self, request: &mut Request<ClearedBody>) {
        let count = self.clone();
        hyper::ext::on_informational(request, move |_| {
            if count.seen.fetch_add(1, Ordering::Relaxed) >= INTERIM_MAX {
                count.over.notify_one();
            }
        });
    }

    async fn too_many(&self) {
        self.over.notified().await;
    }
}
