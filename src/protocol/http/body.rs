//! Bodies on their way: a request's, cleared part by part, and an answer's, released part by part.
//!
//! Neither is ever whole in memory, but for what is buffered before a decision and what is masked.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::audit::entry::Ending;
use crate::mask;
use crate::model::DataClass;
use crate::model::Fault;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::fault::Chain;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::http::mask::Line;
use crate::protocol::http::mask::Lines;
use crate::protocol::http::mask::Part;
use crate::protocol::http::upstream::Lease;
use crate::protocol::http::wire;
use crate::session::EndReason;
use crate::session::Guard;
use crate::session::Released;
use crate::session::Running;

/// How long an answer's body may pause, in milliseconds: a watch may be silent for long.
pub const IDLE_MS_MAX: u64 = 3_600_000;
/// How much of what was sent is looked at again with what follows, so that a mask that two parts
/// share is found, in bytes.
const OVERLAP_BYTES: usize = 32;

/// Why a body ended before its end. Ends the message, and on HTTP/1 the connection.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut: {0}")]
pub struct Cut(String);

/// How a request's body gets on; shared with whoever waits for the answer.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    last: Instant,
    over: bool,
    refused: Option<Refusal>,
}

impl Progress {
    fn new() -> Self {
        let state = State { last: Instant::now(), over: false, refused: None };
        Self(Arc::new(Mutex::new(state)))
    }

    /// When something last went on.
    pub fn last(&self) -> Instant {
        self.state().last
    }

    /// Whether all of it went on.
    pub fn is_over(&self) -> bool {
        self.state().over
    }

    /// Why it was refused in its midst.
    pub fn refused(&self) -> Option<Refusal> {
        self.state().refused.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body, cleared part by part.
#[derive(Debug)]
pub struct ClearedBody {
    session: SessionId,
    running: Arc<Running>,
    begun: Option<Bytes>,
    rest: Option<Incoming>,
    overlap: Vec<u8>,
    progress: Progress,
}

impl ClearedBody {
    /// The body of a command that runs: what was buffered of it, and what is still to come.
    pub fn new(running: &Arc<Running>, begun: Bytes, rest: Option<Incoming>) -> Self {
        let progress = Progress::new();
        progress.state().over = begun.is_empty() && rest.is_none();
        Self {
            session: running.guard().session(),
            running: Arc::clone(running),
            begun: Some(begun).filter(|begun| !begun.is_empty()),
            rest,
            overlap: Vec::new(),
            progress,
        }
    }

    /// How it gets on.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Clears one part, if it may go on.
    fn clear(&mut self, part: Bytes) -> Result<Bytes, Cut> {
        self.overlap.extend_from_slice(part.get(..OVERLAP_BYTES.min(part.len())).unwrap_or(&part));
        if mask::contains_mask(&self.overlap) || mask::contains_mask(&part) {
            return Err(self.refuse(writes_mask()));
        }
        let tail = part.len().saturating_sub(OVERLAP_BYTES);
        if tail > 0 {
            self.overlap.clear();
        }
        // A short part is in the overlap already, whole.
        if part.len() > OVERLAP_BYTES {
            self.overlap.extend_from_slice(part.get(tail..).unwrap_or_default());
        }
        let excess = self.overlap.len().saturating_sub(OVERLAP_BYTES);
        self.overlap.drain(..excess);
        let cleared = self.running.more(part).map_err(|refusal| self.refuse(refusal))?;
        self.progress.state().last = Instant::now();
        cleared.unseal(self.session).map_err(|wrong| Cut(wrong.to_string()))
    }

    fn refuse(&self, refusal: Refusal) -> Cut {
        let cut = Cut(refusal.to_string());
        self.progress.state().refused = Some(refusal);
        cut
    }
}

/// What is told to whoever writes a mask.
pub fn writes_mask() -> Refusal {
    Refusal::new(
        RefusalCode::Denied,
        "the request carries a mask, which would be stored in the place of the value it hides",
    )
    .hint("leave out what you were shown masked, or ask somebody who may see it")
}

impl Body for ClearedBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        if let Some(begun) = this.begun.take() {
            this.progress.state().over = this.rest.is_none();
            return Poll::Ready(Some(this.clear(begun).map(Frame::data)));
        }
        loop {
            let Some(rest) = &mut this.rest else { return Poll::Ready(None) };
            match ready!(Pin::new(rest).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // A client's trailers go nowhere: nothing decided on them.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(this.clear(data).map(Frame::data)));
                    }
                }
                Some(Err(error)) => {
                    this.rest = None;
                    return Poll::Ready(Some(Err(Cut(Chain(&error).to_string()))));
                }
                None => {
                    this.rest = None;
                    this.progress.state().over = true;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let begun = u64::try_from(self.begun.as_ref().map_or(0, Bytes::len)).unwrap_or(u64::MAX);
        let Some(rest) = &self.rest else { return SizeHint::with_exact(begun) };
        match rest.size_hint().exact().and_then(|rest| rest.checked_add(begun)) {
            Some(exact) => SizeHint::with_exact(exact),
            None => SizeHint::default(),
        }
    }
}

/// What is boxed of a body that is not a target's.
pub type OwnBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// An answer's body: the gateway's own words, or a target's, released part by part.
pub struct ReleasedBody(Kind);

enum Kind {
    Own(OwnBody),
    Whole(Option<Whole>),
    Stream(Box<Stream>),
}

/// A masked document on its way.
struct Whole {
    bytes: Bytes,
    running: Arc<Running>,
    ending: Ending,
}

/// A target's body on its way.
struct Stream {
    incoming: Incoming,
    running: Arc<Running>,
    ended: BoxFuture<'static, EndReason>,
    idle: Pin<Box<tokio::time::Sleep>>,
    lease: Option<Lease>,
    ending: Option<Ending>,
    passing: Passing,
}

/// How parts of a body pass.
pub enum Passing {
    /// As they come; they may carry these classes, all of which may be seen.
    Clear(Arc<BTreeSet<DataClass>>),
    /// Line by line, masked.
    Lines(Lines),
}

impl ReleasedBody {
    /// The gateway's own words.
    pub fn own(body: OwnBody) -> Self {
        Self(Kind::Own(body))
    }

    /// A masked document.
    pub fn whole(document: Bytes, running: Arc<Running>, ending: Ending) -> Self {
        Self(Kind::Whole(Some(Whole { bytes: document, running, ending })))
    }

    /// A target's body that streams; `ending` is recorded once it came to its end.
    pub fn stream(
        incoming: Incoming,
        running: Arc<Running>,
        lease: Lease,
        ending: Ending,
        passing: Passing,
    ) -> Self {
        let guard = Arc::clone(running.guard());
        let ended = async move { guard.ended().await }.boxed();
        let idle = Box::pin(tokio::time::sleep(Duration::from_millis(IDLE_MS_MAX)));
        let (lease, ending) = (Some(lease), Some(ending));
        let stream = Stream { incoming, running, ended, idle, lease, ending, passing };
        Self(Kind::Stream(Box::new(stream)))
    }
}

impl Whole {
    fn release(self) -> Option<Result<Frame<Bytes>, Cut>> {
        if let Err(error) = self.running.end(self.ending) {
            return Some(Err(Cut(Chain(&error).to_string())));
        }
        (!self.bytes.is_empty()).then(|| Ok(Frame::data(self.bytes)))
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.ending.is_none() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(reason) = self.ended.poll_unpin(cx) {
            return Poll::Ready(Some(Err(self.cut(Fault::Client, reason.word()))));
        }
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => return Poll::Ready(self.finish()),
                Poll::Ready(Some(Err(error))) => {
                    let why = format!("the target broke off: {}", Chain(&error));
                    return Poll::Ready(Some(Err(self.cut(Fault::Target, why))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let idle = Instant::now() + Duration::from_millis(IDLE_MS_MAX);
                    self.idle.as_mut().reset(idle);
                    match self.pass(frame) {
                        Ok(None) => {}
                        Ok(Some(frame)) => return Poll::Ready(Some(self.passed(frame))),
                        Err(cut) => return Poll::Ready(Some(Err(cut))),
                    }
                }
            }
        }
        ready!(self.idle.as_mut().poll(cx));
        Poll::Ready(Some(Err(self.cut(Fault::Target, "the target paused for too long".into()))))
    }

    /// A frame that goes on. Where its length says that it is the last, nobody asks for the end.
    fn passed(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Cut> {
        let streams = matches!(self.passing, Passing::Clear(_));
        if streams
            && self.incoming.is_end_stream()
            && let Some(Err(cut)) = self.finish()
        {
            return Err(cut);
        }
        Ok(frame)
    }

    /// Releases a frame; `None` where nothing of it goes on yet.
    fn pass(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, Cut> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return Ok(self.trailers(frame)),
        };
        let passed = match &mut self.passing {
            Passing::Clear(classes) => {
                let part = Part { bytes: data, classes: Arc::clone(classes) };
                release(&self.running, part)?.map(Some)
            }
            Passing::Lines(lines) => {
                let mut out = BytesMut::new();
                let mut passed = Ok(());
                for line in lines.split(&data) {
                    match line.map(|line| release_line(&self.running, line)) {
                        Ok(Ok(Ok(bytes))) => out.extend_from_slice(&bytes),
                        Ok(Ok(Err(why))) | Err(why) => {
                            passed = Err(why);
                            break;
                        }
                        Ok(Err(cut)) => return Err(cut),
                    }
                }
                passed.map(|()| Some(out.freeze()).filter(|out| !out.is_empty()))
            }
        };
        match passed {
            Ok(bytes) => Ok(bytes.map(Frame::data)),
            Err(refusal) => Err(self.withhold(&refusal)),
        }
    }

    /// Trailers of an answer that streams as it is, by the rules for headers; none of a masked one.
    fn trailers(&self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        match (&self.passing, frame.into_trailers()) {
            (Passing::Clear(_), Ok(trailers)) => {
                Some(Frame::trailers(wire::from_target(&trailers)))
            }
            (Passing::Clear(_), Err(_)) | (Passing::Lines(_), _) => None,
        }
    }

    /// The target's body came to its end.
    fn finish(&mut self) -> Option<Result<Frame<Bytes>, Cut>> {
        let mut last = None;
        if let Passing::Lines(lines) = &mut self.passing
            && let Some(line) = lines.rest()
        {
            match release_line(&self.running, line) {
                Ok(Ok(bytes)) => last = Some(Ok(Frame::data(bytes))),
                Ok(Err(refusal)) => return Some(Err(self.withhold(&refusal))),
                Err(cut) => return Some(Err(cut)),
            }
        }
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        let ending = self.ending.take()?;
        match self.running.end(ending) {
            Ok(()) => last,
            Err(error) => Some(Err(Cut(Chain(&error).to_string()))),
        }
    }

    fn withhold(&mut self, refusal: &Refusal) -> Cut {
        let reason = refusal.to_string();
        self.end(Ending::Withheld { reason: reason.clone() });
        let session = self.running.guard().session();
        tracing::warn!(%session, fault = %Fault::Target, "an answer was withheld in its midst: {reason}");
        Cut(reason)
    }

    fn cut(&mut self, fault: Fault, reason: String) -> Cut {
        self.end(Ending::Cut { reason: reason.clone() });
        let session = self.running.guard().session();
        tracing::info!(%session, %fault, "an answer was cut: {reason}");
        Cut(reason)
    }

    fn end(&mut self, ending: Ending) {
        (self.ending, self.lease) = (None, None);
        if let Err(error) = self.running.end(ending) {
            tracing::error!(fault = %Fault::Gateway, "{}", Chain(&error));
        }
    }
}

/// A part that was released, or why it is withheld; an error is a bug of ours.
type Passed = Result<Result<Bytes, Refusal>, Cut>;

fn release(running: &Running, part: Part) -> Passed {
    let guard: &Guard = running.guard();
    let masks = match guard.masks() {
        Ok(masks) => masks,
        Err(error) => return Ok(Err(error.refusal())),
    };
    open(guard, running.release(&masks, part).map_err(|withheld| withheld.refusal()))
}

fn release_line(running: &Running, line: Line) -> Passed {
    let guard: &Guard = running.guard();
    let masks = match guard.masks() {
        Ok(masks) => masks,
        Err(error) => return Ok(Err(error.refusal())),
    };
    open(guard, running.release(&masks, line).map_err(|withheld| withheld.refusal()))
}

fn open(guard: &Guard, released: Result<Released<Bytes>, Refusal>) -> Passed {
    match released {
        Ok(released) => {
            released.unseal(guard.session()).map(Ok).map_err(|wrong| Cut(wrong.to_string()))
        }
        Err(refusal) => Ok(Err(refusal)),
    }
}

impl Body for ReleasedBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.0 {
            Kind::Own(body) => Pin::new(body).poll_frame(cx),
            Kind::Whole(whole) => {
                let released = whole.take().and_then(Whole::release);
                Poll::Ready(released.map(|frame| frame.map_err(Into::into)))
            }
            Kind::Stream(stream) => {
                stream.poll(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Own(body) => body.is_end_stream(),
            // Its end is recorded when it is asked for.
            Kind::Whole(whole) => whole.is_none(),
            Kind::Stream(stream) => stream.ending.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Own(body) => body.size_hint(),
            Kind::Whole(whole) => {
                let length = whole.as_ref().map_or(0, |whole| whole.bytes.len());
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Kind::Stream(stream) => match &stream.passing {
                Passing::Clear(_) => stream.incoming.size_hint(),
                Passing::Lines(_) => SizeHint::default(),
            },
        }
    }
}

impl fmt::Debug for ReleasedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Own(_) => "ReleasedBody::Own",
            Kind::Whole(_) => "ReleasedBody::Whole",
            Kind::Stream(_) => "ReleasedBody::Stream",
        })
    }
}

impl fmt::Debug for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear(_) => "Clear",
            Self::Lines(_) => "Lines",
        })
    }
}
