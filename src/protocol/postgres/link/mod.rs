//! The loop of a session: two directions at once, one task, no lock between them.
//!
//! ```text
//! client ──► requests: read, decide, record ──► target
//! client ◄── answers:  account, mask       ◄── target
//! ```
//!
//! Holding is a state of this loop: the client is read on (for its end, its goodbye, its cancel) up
//! to a bound, and nothing behind the held command is forwarded. It makes no decision.

mod answers;
mod denials;
mod end;
mod requests;

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::model::SessionId;
use crate::model::fault::Chain;
use crate::model::verdict::Masks;
use crate::protocol::postgres::cancel::Place;
use crate::protocol::postgres::cancel::Wish;
use crate::protocol::postgres::catalogue::AGE_S_MAX;
use crate::protocol::postgres::catalogue::CatalogueError;
use crate::protocol::postgres::catalogue::Catalogues;
use crate::protocol::postgres::catalogue::Doubts;
use crate::protocol::postgres::catalogue::Known;
use crate::protocol::postgres::catalogue::Whose;
use crate::protocol::postgres::command::Plan;
use crate::protocol::postgres::flow::Flow;
use crate::protocol::postgres::flow::Granted;
use crate::protocol::postgres::queue::Queue;
use crate::protocol::postgres::upstream;
use crate::protocol::postgres::upstream::Cancel;
use crate::protocol::postgres::upstream::Key;
use crate::protocol::postgres::upstream::OpenError;
use crate::protocol::postgres::upstream::ToTarget;
use crate::protocol::postgres::wire;
use crate::protocol::postgres::wire::Answers;
use crate::protocol::postgres::wire::Incoming;
use crate::protocol::postgres::wire::Incomings;
use crate::session::Decision;
use crate::session::EndReason;
use crate::session::Gateway;
use crate::session::Guard;
use crate::session::Held;
use crate::session::Released;
use crate::session::guard::WrongSession;

pub use answers::WATCHED;
pub use end::End;

/// Bytes that one read asks for, in bytes.
const READ_BYTES: usize = 32 * 1024;
/// Bytes of a client that are read ahead while a command of its waits, in bytes. At this bound a
/// hold ends: a client whose bytes are not read cannot be seen to leave.
pub const READ_AHEAD_BYTES_MAX: usize = 256 * 1024;
/// How long the last words may take to leave, in milliseconds.
const LAST_WORDS_MS_MAX: u64 = 2_000;
/// A session that doubts its catalogue asks for a new one no sooner than this, in milliseconds.
const REFRESH_MS_MIN: u64 = 1_000;
/// Readings of texts that a session keeps.
const READINGS_MAX: usize = 256;
/// Longest text whose reading is kept, in bytes.
const READING_BYTES_MAX: usize = 4096;

/// What a session's loop is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The gateway.
    pub gateway: &'a Gateway,
    /// Its catalogues.
    pub catalogues: &'a Catalogues,
    /// Whose catalogue this session reads by.
    pub whose: Whose,
    /// What is known of it.
    pub known: Arc<Known>,
    /// The session's guard.
    pub guard: Arc<Guard>,
    /// By which the target's session is canceled.
    pub key: Key,
    /// The target's parameters at sign-in that must not change.
    pub watched: HashMap<String, String>,
}

/// What waits to be written to the client.
#[derive(Debug)]
struct ToClient {
    session: SessionId,
    queue: Queue,
}

impl ToClient {
    fn send<A: Into<Bytes>>(&mut self, answer: Released<A>) -> Result<(), WrongSession> {
        self.queue.push(answer.unseal(self.session)?.into());
        Ok(())
    }
}

/// A command that waits for an approval, with what its answers will be judged by.
#[derive(Debug)]
struct Pause {
    held: Box<Held<Bytes>>,
    place: Placed,
}

/// Where a command's frame belongs.
#[derive(Debug, Clone)]
struct Placed {
    plan: Arc<Plan>,
    masks: Arc<Masks>,
    /// The portal that it makes; `None`: it is a Query.
    portal: Option<Bytes>,
}

/// One session.
#[derive(Debug)]
pub struct Link<'a> {
    parts: Parts<'a>,
    flow: Flow,
    incomings: Incomings,
    answers: Answers,
    to_target: ToTarget,
    to_client: ToClient,
    /// A message that waits until everything in flight is answered.
    waiting: Option<Incoming>,
    pause: Option<Pause>,
    readings: HashMap<Bytes, Arc<Plan>>,
    /// Definitions were changed, in a transaction that is not over.
    defined: bool,
    /// How often what is known was doubted, by any session.
    doubts: Doubts,
    known_at: Instant,
}

type Reading<'a> = Pin<Box<dyn Future<Output = Result<Arc<Known>, CatalogueError>> + Send + 'a>>;
type Canceling<'a> = Pin<Box<dyn Future<Output = Result<(), OpenError>> + Send + 'a>>;

/// What the loop does beside its two directions.
#[derive(Default)]
struct Beside<'a> {
    reading: Option<Reading<'a>>,
    canceling: Option<(Canceling<'a>, Wish)>,
}

enum Event {
    FromClient(io::Result<usize>),
    FromTarget(io::Result<usize>),
    ToClient(io::Result<()>),
    ToTarget(io::Result<()>),
    Decided(Decision),
    Ended(EndReason),
    Cancel(Option<Wish>),
    Canceled(Result<(), OpenError>),
    Known(Result<Arc<Known>, CatalogueError>),
}

impl<'a> Link<'a> {
    /// A session in which nothing was said yet.
    pub fn new(parts: Parts<'a>) -> Self {
        let session = parts.guard.session();
        let doubts = parts.catalogues.doubts(&parts.whose);
        Self {
            parts,
            flow: Flow::default(),
            incomings: Incomings::default(),
            answers: Answers::default(),
            to_target: ToTarget::new(session),
            to_client: ToClient { session, queue: Queue::default() },
            waiting: None,
            pause: None,
            readings: HashMap::new(),
            defined: false,
            doubts,
            known_at: Instant::now(),
        }
    }

    /// Says something of the gateway's own to the client.
    pub fn say(&mut self, own: crate::protocol::postgres::refuse::Own) -> Result<(), End> {
        let released = self.parts.guard.say(own);
        Ok(self.to_client.send(released)?)
    }

    /// Lets the client have a parameter of the target's.
    pub fn tell_parameter(&mut self, frame: wire::Frame) -> Result<(), End> {
        self.pass(frame.into_bytes(), false)
    }

    /// Carries the session until it ends; `early` is what the target said already.
    pub async fn run<C, T>(mut self, client: C, target: T, early: BytesMut, mut place: Place) -> End
    where
        C: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let (from_client, mut to_client) = tokio::io::split(client);
        let (from_target, mut to_target) = tokio::io::split(target);
        let mut streams =
            Streams { from_client, from_target, client_in: BytesMut::new(), target_in: early };
        let turning = self.turn(&mut streams, &mut to_client, &mut to_target, &mut place).await;
        let end = match turning {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.last_words(&end, &mut to_client, &mut to_target).await;
        end
    }

    async fn turn<C, T>(
        &mut self,
        streams: &mut Streams<C, T>,
        client: &mut (impl AsyncWrite + Unpin),
        target: &mut (impl AsyncWrite + Unpin),
        place: &mut Place,
    ) -> Result<std::convert::Infallible, End>
    where
        C: AsyncRead + Unpin,
        T: AsyncRead + Unpin,
    {
        let guard = Arc::clone(&self.parts.guard);
        let ended = guard.ended();
        tokio::pin!(ended);
        let mut beside = Beside::default();
        loop {
            self.take_answers(&mut streams.target_in)?;
            // Asked for before the next message is read by it.
            if beside.reading.is_none() && self.flow.is_idle() && self.wants_catalogue() {
                let (catalogues, gateway) = (self.parts.catalogues, self.parts.gateway);
                let whose = self.parts.whose.clone();
                beside.reading =
                    Some(Box::pin(async move { catalogues.known(gateway, &whose).await }));
            }
            if beside.is_idle() {
                self.take_requests(&mut streams.client_in)?;
            }
            let blocked = self.is_blocked() || !beside.is_idle();
            let read_client = !blocked || streams.client_in.len() < READ_AHEAD_BYTES_MAX;
            let read_target = !self.to_client.queue.is_full();
            if self.pause.is_some() && wire::leaves(&streams.client_in) {
                return Err(End::Terminated);
            }
            if self.pause.is_some() && !read_client {
                self.withdraw(requests::Withdrawn::TooMuch)?;
                continue;
            }
            let Streams { from_client, from_target, client_in, target_in } = streams;
            let event = tokio::select! {
                read = read_into(from_target, target_in), if read_target => Event::FromTarget(read),
                read = read_into(from_client, client_in), if read_client => Event::FromClient(read),
                sent = self.to_client.queue.drain(client), if !self.to_client.queue.is_idle() => Event::ToClient(sent),
                sent = self.to_target.queue.drain(target), if !self.to_target.queue.is_idle() => Event::ToTarget(sent),
                decision = decided(&mut self.pause), if self.pause.is_some() => Event::Decided(decision),
                reason = &mut ended => Event::Ended(reason),
                wish = place.wishes.recv(), if beside.canceling.is_none() => Event::Cancel(wish),
                done = beside.done(), if !beside.is_idle() => done,
            };
            self.on(event, &mut beside)?;
        }
    }

    fn on(&mut self, event: Event, beside: &mut Beside<'a>) -> Result<(), End> {
        match event {
            Event::FromClient(Ok(0)) => return Err(End::ClientGone(None)),
            // TLS's own goodbye is often left out; that is an end like any other.
            Event::FromClient(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(End::ClientGone(None));
            }
            Event::FromClient(Err(error)) | Event::ToClient(Err(error)) => {
                return Err(End::ClientGone(Some(error)));
            }
            Event::FromTarget(Ok(0)) => return Err(End::TargetGone(None)),
            Event::FromTarget(Err(error)) | Event::ToTarget(Err(error)) => {
                return Err(End::TargetGone(Some(error)));
            }
            Event::FromClient(Ok(_))
            | Event::FromTarget(Ok(_))
            | Event::ToClient(Ok(()))
            | Event::ToTarget(Ok(())) => {}
            Event::Decided(decision) => self.settle(&decision)?,
            Event::Ended(reason) => return Err(End::Ended(reason)),
            Event::Cancel(Some(wish)) => self.cancel(wish, beside)?,
            // The registry of cancels lives as long as the gateway.
            Event::Cancel(None) => return Err(End::Ended(EndReason::Draining)),
            Event::Canceled(done) => {
                beside.canceling = None;
                if let Err(error) = done {
                    let session = self.parts.guard.session();
                    tracing::warn!(%session, fault = "target", "a cancel was not delivered: {}", Chain(&error));
                }
            }
            Event::Known(known) => {
                beside.reading = None;
                self.learn(known);
            }
        }
        Ok(())
    }

    /// A wish to cancel: a held command is withdrawn, whatever runs is canceled at the target, and
    /// where nothing is outstanding nothing is done.
    fn cancel(&mut self, wish: Wish, beside: &mut Beside<'a>) -> Result<(), End> {
        if self.pause.is_some() {
            drop(wish);
            return self.withdraw(requests::Withdrawn::Canceled);
        }
        if !self.flow.is_idle() {
            let guard = Arc::clone(&self.parts.guard);
            let access = Arc::clone(&self.parts.whose.access);
            let cancel = guard.plumb(Cancel::of(&self.parts.key));
            let sending =
                Box::pin(async move { upstream::send_cancel(&guard, &access, cancel).await });
            // Until it is done, nothing new is forwarded: a cancel hits whatever runs when it lands.
            beside.canceling = Some((sending, wish));
        }
        Ok(())
    }

    fn wants_catalogue(&self) -> bool {
        let age = self.known_at.elapsed();
        let doubted = self.doubts.load(Ordering::Acquire) != self.parts.known.doubts();
        (doubted && age >= Duration::from_millis(REFRESH_MS_MIN))
            || age >= Duration::from_secs(AGE_S_MAX)
    }

    /// Reads by a new catalogue from now on. Where none could be read the old one stays: what it
    /// does not know is refused, and what it has wrong the target's own columns show.
    fn learn(&mut self, known: Result<Arc<Known>, CatalogueError>) {
        self.known_at = Instant::now();
        match known {
            Ok(known) => {
                self.parts.known = known;
                self.readings.clear();
            }
            Err(error) => {
                let session = self.parts.guard.session();
                let cause = Chain(&error).to_string();
                tracing::warn!(%session, fault = "target", "the old catalogue stays: {cause}");
            }
        }
    }

    /// Whether the client's next message has to wait for something.
    fn is_blocked(&self) -> bool {
        self.pause.is_some()
            || self.waiting.is_some()
            || self.flow.is_full()
            || self.to_target.queue.is_full()
    }

    /// Tells both sides that it is over, as far as they still listen.
    async fn last_words(
        &mut self,
        end: &End,
        client: &mut (impl AsyncWrite + Unpin),
        target: &mut (impl AsyncWrite + Unpin),
    ) {
        self.parts.guard.ending(end.to_string());
        // Dropped before the target hears of the end: a command that waits never runs.
        self.pause = None;
        let words = end.words().filter(|_| self.answers.is_between_messages());
        let said = words.is_none_or(|words| self.say(words.fatal()).is_ok());
        let goodbye = self.parts.guard.plumb(requests::Plumb::terminate());
        let sent = self.to_target.send(goodbye).is_ok();
        // A backend that computes does not look at its connection: what runs for a session that
        // was ended would run on.
        let cancels = matches!(end, End::Ended(_)) && !self.flow.is_idle();
        let guard = Arc::clone(&self.parts.guard);
        let access = Arc::clone(&self.parts.whose.access);
        let cancel = guard.plumb(Cancel::of(&self.parts.key));
        let canceling = async {
            if cancels && let Err(error) = upstream::send_cancel(&guard, &access, cancel).await {
                let session = guard.session();
                tracing::warn!(%session, fault = "target", "a cancel was not delivered: {}", Chain(&error));
            }
        };
        let leaving = async {
            if said && end.reaches_client() {
                drop(self.to_client.queue.drain(client).await);
            }
            if sent && end.reaches_target() {
                drop(self.to_target.queue.drain(target).await);
            }
            drop(client.shutdown().await);
            drop(target.shutdown().await);
        };
        // Whoever does not take the last words in time does not get them.
        let leaving = tokio::time::timeout(Duration::from_millis(LAST_WORDS_MS_MAX), leaving);
        drop(tokio::join!(leaving, canceling));
    }

    fn granted(&self, running: Arc<crate::session::Running>, placed: &Placed) -> Granted {
        Granted {
            running,
            masks: Arc::clone(&placed.masks),
            plan: Arc::clone(&placed.plan),
            known: Arc::clone(&self.parts.known),
        }
    }
}

struct Streams<C, T> {
    from_client: tokio::io::ReadHalf<C>,
    from_target: tokio::io::ReadHalf<T>,
    client_in: BytesMut,
    target_in: BytesMut,
}

impl Beside<'_> {
    fn is_idle(&self) -> bool {
        self.reading.is_none() && self.canceling.is_none()
    }

    async fn done(&mut self) -> Event {
        match (&mut self.reading, &mut self.canceling) {
            (Some(reading), Some((sending, _))) => tokio::select! {
                known = reading => Event::Known(known),
                sent = sending => Event::Canceled(sent),
            },
            (Some(reading), None) => Event::Known(reading.await),
            (None, Some((sending, _))) => Event::Canceled(sending.await),
            (None, None) => std::future::pending().await,
        }
    }
}

async fn decided(pause: &mut Option<Pause>) -> Decision {
    match pause {
        Some(pause) => pause.held.decided().await,
        None => std::future::pending().await,
    }
}

async fn read_into(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<usize> {
    buffer.reserve(READ_BYTES);
    from.read_buf(buffer).await
}
