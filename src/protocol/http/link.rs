//! The exchange: one request, from its head to its answer's end.
//!
//! ```text
//! addressed → bind → begin body → read → ask ⟲ hold → send → mask or stream
//! ```
//!
//! Every step says no by returning it; [`answer()`] words it once, at the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::Version;
use http::header;
use http::request::Parts;
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::audit::entry::Ending;
use crate::mask;
use crate::model::Command;
use crate::model::Effect;
use crate::model::Fault;
use crate::model::HoldId;
use crate::model::Refusal;
use crate::model::fault::Chain;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::http::HELD_BYTES_MAX;
use crate::protocol::http::ahead::Stop;
use crate::protocol::http::answer;
use crate::protocol::http::body;
use crate::protocol::http::body::ClearedBody;
use crate::protocol::http::body::ReleasedBody;
use crate::protocol::http::browser;
use crate::protocol::http::command::Plain;
use crate::protocol::http::dialect::BodyNeed;
use crate::protocol::http::dialect::Dialect;
use crate::protocol::http::dialect::Head;
use crate::protocol::http::dialect::Reading;
use crate::protocol::http::dialect::Sent;
use crate::protocol::http::dialect::Told;
use crate::protocol::http::dialect::Veil;
use crate::protocol::http::hello::Bound;
use crate::protocol::http::hello::Connection;
use crate::protocol::http::refuse;
use crate::protocol::http::refuse::No;
use crate::protocol::http::refuse::Words;
use crate::protocol::http::upstream::Answered;
use crate::protocol::http::wire;
use crate::protocol::http::wire::Addressed;
use crate::session::Asked;
use crate::session::Cleared;
use crate::session::Decision;
use crate::session::Held;
use crate::session::Running;
use crate::session::Settled;
use crate::target::Target;

/// How long a client may take for the part of a body that is buffered, in milliseconds.
pub const BEGIN_MS_MAX: u64 = 60_000;

/// Answers one request of a connection.
pub async fn answer(connection: &Connection, request: Request<Incoming>) -> Response<ReleasedBody> {
    let (parts, incoming) = request.into_parts();
    let gateway = &connection.front.gateway.name;
    let label = match wire::addressed(&parts, gateway, connection.sni.as_deref()) {
        Ok(Addressed::Own) => {
            let request = Request::from_parts(parts, incoming);
            let origin = connection.origin.clone();
            return connection.front.own.answer(origin, request).await.map(ReleasedBody::own);
        }
        Ok(Addressed::Target(label)) => label,
        Err(no) => return spoken(told(&no, &Plain, None, &head(&parts))),
    };
    let head = head(&parts);
    if browser::is_own_path(&head.path) {
        let words = connection.own_path(&label, &parts).await;
        return spoken(words.unwrap_or_else(|no| told(&no, &Plain, None, &head)));
    }
    let bound = match connection.bind(&label, &parts.method, &parts.headers).await {
        Ok(bound) => bound,
        Err(no) => return not_bound(connection, &label, &no, &head),
    };
    let session = bound.guard.session();
    let exchange = Box::pin(exchange(connection, &bound, &head, parts, incoming));
    let answered = tokio::select! {
        // First the exchange: a command that waits is told its end by itself.
        biased;
        answered = exchange => answered,
        reason = bound.guard.ended() => Err(No::from(reason.refusal())),
    };
    answered.unwrap_or_else(|no| {
        let no = no.in_session(session);
        let words = sign_in_again(connection, &label, &no, &head)
            .unwrap_or_else(|| told(&no, &*bound.dialect, Some(&bound.target), &head));
        match bound.guard.say(words).unseal(session) {
            Ok(words) => spoken(words),
            Err(wrong) => {
                tracing::error!(%session, fault = %Fault::Gateway, "{wrong}");
                spoken(told(&no, &Plain, None, &head))
            }
        }
    })
}

async fn exchange(
    connection: &Connection,
    bound: &Bound,
    head: &Head,
    parts: Parts,
    incoming: Incoming,
) -> Result<Response<ReleasedBody>, No> {
    let shown = browser::shown(&parts.headers, connection.certificate.as_ref())?;
    let secret = shown.secret().map(str::to_owned);
    let begun = begin(incoming, bound.dialect.needs(&bound.target, head)).await;
    let begun = begun.map_err(|refusal| {
        let hidden = secret.as_deref().is_some_and(|secret| head_carries(head, secret));
        let line = wire::line(&head.method, &head.path_and_query());
        refused(bound, if hidden { head.method.to_string() } else { line }, refusal)
    })?;
    let reading = read(bound, head, &begun, secret.as_deref())?;
    let masked = hides(bound, &reading.command)?;
    let decided = decide(connection, bound, head, &begun, &reading.command, parts).await?;
    let Decided { running, cleared, hold } = decided;
    let answered = forward(bound, &running, cleared, begun, masked).await;
    let answered = answered.map_err(|no| No { hold: hold.clone(), ..no })?;
    let released = answer::release(bound, &running, reading, answered, head).await;
    let mut response = released.map_err(|no| No { hold: hold.clone(), ..no })?;
    if let Some(hold) = &hold {
        refuse::name_hold(response.headers_mut(), hold);
    }
    Ok(response)
}

/// What of a request's head is read and decided.
fn head(parts: &Parts) -> Head {
    Head {
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers: wire::from_client(&parts.headers),
        upgrade: parts.headers.contains_key(header::UPGRADE),
    }
}

/// What is there of a body when its request is decided.
struct Begun {
    bytes: Bytes,
    rest: Option<Incoming>,
}

impl Begun {
    fn sent(&self) -> Sent<'_> {
        match (&self.rest, self.bytes.is_empty()) {
            (Some(_), _) => Sent::Longer(&self.bytes),
            (None, true) => Sent::Nothing,
            (None, false) => Sent::Whole(&self.bytes),
        }
    }
}

/// Buffers the beginning of a body, up to its end or the bound.
async fn begin(mut incoming: Incoming, need: BodyNeed) -> Result<Begun, Refusal> {
    let bound = u64::try_from(HELD_BYTES_MAX).unwrap_or(u64::MAX);
    if incoming.size_hint().lower() > bound {
        return longer(need, Bytes::new(), incoming);
    }
    let mut bytes = BytesMut::new();
    let begin = async {
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| {
                let reason = format!("the request's body broke off: {}", Chain(&error));
                wire::malformed(&reason)
            })?;
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() > HELD_BYTES_MAX {
                return Ok(false);
            }
        }
        Ok::<_, Refusal>(true)
    };
    let slow =
        |_| Err(Refusal::new(RefusalCode::TimedOut, "the request's body did not come in time"));
    let whole = timeout(Duration::from_millis(BEGIN_MS_MAX), begin).await.unwrap_or_else(slow)?;
    if whole {
        Ok(Begun { bytes: bytes.freeze(), rest: None })
    } else {
        longer(need, bytes.freeze(), incoming)
    }
}

fn longer(need: BodyNeed, bytes: Bytes, rest: Incoming) -> Result<Begun, Refusal> {
    match need {
        BodyNeed::Begun => Ok(Begun { bytes, rest: Some(rest) }),
        BodyNeed::Whole => Err(too_large("a request of this kind")),
    }
}

fn too_large(what: &str) -> Refusal {
    let mebibytes = HELD_BYTES_MAX / (1024 * 1024);
    Refusal::new(RefusalCode::TooLarge, format!("{what} may have at most {mebibytes} MiB of body"))
}

/// Reads a request. What HTTP itself does not carry is unsupported, whatever the dialect says.
fn read(bound: &Bound, head: &Head, begun: &Begun, secret: Option<&str>) -> Result<Reading, No> {
    // Checked before anything of the request is recorded: a credential is in no record either.
    if secret.is_some_and(|secret| carries(head, begun, secret)) {
        let refusal = wire::malformed(
            "the request carries its credential outside `Authorization`, where it would reach the target",
        );
        return Err(refused(bound, head.method.to_string(), refusal));
    }
    let mut reading = match bound.dialect.read(&bound.target, head, begun.sent()) {
        Ok(reading) => reading,
        Err(refusal) => {
            let line = wire::line(&head.method, &head.path_and_query());
            return Err(refused(bound, line, refusal));
        }
    };
    if reading.command.unsupported.is_none() {
        reading.command.unsupported = unsupported(bound, head, begun, &reading)?;
    }
    Ok(reading)
}

/// Records that a request was refused before it was one command, and says no.
fn refused(bound: &Bound, what: String, refusal: Refusal) -> No {
    match bound.guard.refused(what, &refusal) {
        Ok(()) => refusal.into(),
        Err(error) => error.refusal().into(),
    }
}

/// Whether the credential stands where it would be forwarded.
fn carries(head: &Head, begun: &Begun, token: &str) -> bool {
    head_carries(head, token) || memchr::memmem::find(&begun.bytes, token.as_bytes()).is_some()
}

fn head_carries(head: &Head, token: &str) -> bool {
    let finder = memchr::memmem::Finder::new(token.as_bytes());
    let found = |bytes: &[u8]| finder.find(bytes).is_some();
    found(head.path_and_query().as_bytes())
        || head.headers.values().any(|value| found(value.as_bytes()))
}

/// Why a request is not carried, if it is not.
fn unsupported(
    bound: &Bound,
    head: &Head,
    begun: &Begun,
    reading: &Reading,
) -> Result<Option<String>, No> {
    if head.upgrade {
        return Ok(Some("upgrades to another protocol are not carried yet".to_owned()));
    }
    let reads_only = reading.command.effects.iter().all(|effect| *effect == Effect::Read);
    let query = head.query.as_deref().unwrap_or_default();
    let carries_mask = mask::contains_mask(&begun.bytes) || mask::contains_mask(query.as_bytes());
    if carries_mask && !reads_only {
        return Ok(Some(body::writes_mask().reason));
    }
    let classified = !bound.target.facts().classes.is_empty();
    let encoded = head.headers.contains_key(header::CONTENT_ENCODING);
    if classified && encoded && begun.sent() != Sent::Nothing {
        return Ok(Some(
            "an encoded body cannot be looked into for masks: send it plain".to_owned(),
        ));
    }
    if !hides(bound, &reading.command)? {
        return Ok(None);
    }
    if let Veil::None(reason) = &reading.veil {
        return Ok(Some(format!("its answer would have to be masked and cannot be: {reason}")));
    }
    let conditional = [header::IF_MATCH, header::IF_UNMODIFIED_SINCE];
    if conditional.iter().any(|name| head.headers.contains_key(name)) {
        return Ok(Some("a masked answer has no version to make a condition of".to_owned()));
    }
    Ok(None)
}

/// Whether the answer of a command has to be masked, as things are now.
fn hides(bound: &Bound, command: &Command) -> Result<bool, No> {
    let masks = bound.guard.masks().map_err(|error| No::from(error.refusal()))?;
    Ok(masks.hides_any(command.reads.iter()))
}

/// A command that may go on.
struct Decided {
    running: Arc<Running>,
    cleared: Cleared<Parts>,
    hold: Option<HoldId>,
}

/// Asks the guard, and waits where the command is held.
async fn decide(
    connection: &Connection,
    bound: &Bound,
    head: &Head,
    begun: &Begun,
    command: &Command,
    parts: Parts,
) -> Result<Decided, No> {
    let http2 = parts.version == Version::HTTP_2;
    let parts = forwarded(head, parts);
    let (settled, hold) = match bound.guard.ask(command.clone(), parts) {
        Asked::Settled(settled) => (settled, None),
        Asked::Held(waiting) => {
            let hold = waiting.pending().hold.clone();
            if begun.rest.is_some() {
                let reason = "a command that waits for an approval";
                let refusal = too_large(reason);
                drop(waiting.settle(&Decision::Withdrawn { reason: refusal.reason.clone() }));
                return Err(No { hold: Some(hold), ..No::from(refusal) });
            }
            let waited = wait(connection, bound, *waiting, http2).await;
            let settled = waited.unwrap_or_else(Settled::No);
            (settled, Some(hold))
        }
    };
    match settled {
        Settled::Go(running, cleared) => Ok(Decided { running, cleared, hold }),
        Settled::No(refusal) => Err(No { hold, ..No::from(refusal) }),
    }
}

/// Waits for the decision on a held command; the client's end, seen here or by hyper (which drops
/// this future), withdraws it, and so does the session's.
async fn wait(
    connection: &Connection,
    bound: &Bound,
    mut held: Held<Parts>,
    http2: bool,
) -> Result<Settled<Parts>, Refusal> {
    let stop = async {
        // On HTTP/2 every stream's end is seen by hyper, and reading ahead would starve the others.
        if http2 { std::future::pending().await } else { connection.ahead.stop().await }
    };
    let withdrawn = |reason: &str| Decision::Withdrawn { reason: reason.to_owned() };
    let decision = tokio::select! {
        decision = held.decided() => decision,
        ended = bound.guard.ended() => {
            drop(held.settle(&withdrawn(&ended.word())));
            return Err(ended.refusal());
        }
        stop = stop => withdrawn(match stop {
            Stop::Gone => "the client went away",
            Stop::Full => "more was sent while it waited than is read ahead",
        }),
    };
    Ok(held.settle(&decision))
}

/// The head as the target gets it, but for its own credential: decided and forwarded path are the
/// same bytes.
fn forwarded(head: &Head, mut parts: Parts) -> Parts {
    let host = parts.headers.get(header::HOST).cloned().or_else(|| {
        let authority = parts.uri.authority()?;
        HeaderValue::from_str(authority.as_str()).ok()
    });
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = parts.uri.path_and_query().cloned();
    parts.uri = http::Uri::from_parts(uri).unwrap_or_default();
    parts.headers = head.headers.clone();
    parts.extensions.clear();
    parts.headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    if let Some(host) = host {
        parts.headers.insert("x-forwarded-host", host);
    }
    parts
}

/// Sends the request, dressed with the target's credential.
async fn forward(
    bound: &Bound,
    running: &Arc<Running>,
    cleared: Cleared<Parts>,
    begun: Begun,
    masked: bool,
) -> Result<Answered, No> {
    let session = bound.guard.session();
    let ended = |reason: String, refusal: Refusal| {
        answer::end(running, Ending::Cut { reason });
        No::from(refusal)
    };
    let body = ClearedBody::new(running, begun.bytes, begun.rest);
    let progress = body.progress();
    let answered = bound.pool.send(&bound.guard, cleared, body, running.number(), masked).await;
    answered.map_err(|error| {
        if let Some(refusal) = progress.refused() {
            return ended(refusal.reason.clone(), refusal);
        }
        tracing::warn!(%session, fault = %error.fault(), "{}", Chain(&error));
        ended(Chain(&error).to_string(), error.refusal())
    })
}

/// A person with a browser is sent to sign in, where that would turn the no into a yes.
fn sign_in_again(connection: &Connection, label: &str, no: &No, head: &Head) -> Option<Words> {
    let signs_in = matches!(no.refusal.code, RefusalCode::Unauthenticated | RefusalCode::StepUp);
    if !signs_in || !browser::navigates(&head.method, &head.headers) {
        return None;
    }
    connection.to_sign_in(label, &head.path_and_query(), no.refusal.step_up.as_deref())
}

/// Words a no for a request that has no session. Only who may know of the target learns by the
/// wording what it speaks.
fn not_bound(connection: &Connection, label: &str, no: &No, head: &Head) -> Response<ReleasedBody> {
    if let Some(words) = sign_in_again(connection, label, no, head) {
        return spoken(words);
    }
    let secret = matches!(no.refusal.code, RefusalCode::NoTarget | RefusalCode::Unauthenticated);
    let version = connection.front.gateway.version();
    let target = label.parse().ok().filter(|_| !secret);
    let target = target.and_then(|name| version.catalogue.target(&name));
    let dialect = target.and_then(|target| connection.front.dialect(target.facts().protocol).ok());
    let words = match (dialect, target) {
        (Some(dialect), Some(target)) => told(no, &*dialect, Some(target), head),
        (_, _) => told(no, &Plain, None, head),
    };
    spoken(words)
}

/// A no in words.
fn told(no: &No, dialect: &dyn Dialect, target: Option<&Target>, head: &Head) -> Words {
    let told = Told {
        status: no.status,
        head: Some(head),
        target,
        session: no.session,
        hold: no.hold.as_ref(),
    };
    refuse::answer(no, dialect.word(&no.refusal, &told))
}

/// The gateway's own words as an answer.
fn spoken(words: Words) -> Response<ReleasedBody> {
    words.0.map(|text| {
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
        ReleasedBody::own(body.boxed_unsync())
    })
}
