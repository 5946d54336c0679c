//! A recording as JSON lines, from its beginning to its end, or as it is written.
//!
//! ```text
//! {"session":…,"live":true,"results_withheld":false}                    first
//! {"n":1,"at":…,"event":{…}}                                            an event, as `show` tells it
//! {"n":4,"at":…,"data":{"command":2,"stream":"output","base64":"…"}}    what crossed
//! {"alive":…}                                                           nothing was written for a while
//! {"end":"complete"}                                                    last
//! ```
//!
//! `end` is `complete` (the session has ended, and this was all), `so-far` (it goes on, and nobody
//! asked to follow), `refused` (the viewer may not look any longer), `damaged` or `failed`, with why.
//!
//! A recording is read in batches, off the threads that serve connections; the next one is read when
//! the one before was taken. So a slow viewer, or one that waits, holds nothing but its own stream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::http::header::CACHE_CONTROL;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use crate::api::Caller;
use crate::api::Resources;
use crate::api::Shared;
use crate::api::fail::Fail;
use crate::api::purpose::Purpose;
use crate::api::sessions::allow_replay;
use crate::api::sessions::hides_something;
use crate::api::sessions::is_own;
use crate::api::sessions::opening;
use crate::api::sessions::parse;
use crate::api::sessions::unreadable;
use crate::api::viewers::Place;
use crate::audit::archive::Reading;
use crate::audit::entry::Opened;
use crate::audit::follow::Follower;
use crate::audit::recording::Entry;
use crate::audit::recording::Seen;
use crate::audit::recording::What;
use crate::audit::told::Teller;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::encode::base64;
use crate::model::refusal::RefusalCode;
use crate::policy;

/// How much is read at once, in bytes of lines; a line may be longer.
const BATCH_BYTES: usize = 128 * 1024;
/// How many entries are read at once.
const BATCH_ENTRIES_MAX: usize = 4_096;
/// How many batches wait for the viewer.
const BATCHES_MAX: usize = 2;
/// How often it is looked whether something was written, in milliseconds.
const LOOK_MS: u64 = 250;
/// How often it is asked whether the viewer may still look, in milliseconds.
const ASK_MS: u64 = 5_000;
/// After how long without anything a viewer is told that the stream is alive, in milliseconds.
const ALIVE_MS: u64 = 15_000;
/// How long a viewer may take for one batch, in milliseconds.
const SLOW_MS_MAX: u64 = 600_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamQuery {
    #[serde(default)]
    purpose: Option<String>,
    /// Entries up to this one are left out.
    #[serde(default)]
    after: u64,
    /// What will be written is told as well, until the session ends.
    #[serde(default)]
    follow: bool,
}

pub(super) async fn stream(
    State(resources): Shared,
    caller: Caller,
    Path(id): Path<String>,
    query: Result<Query<StreamQuery>, QueryRejection>,
) -> Result<Response, Fail> {
    let Query(query) = query.map_err(|error| Fail::malformed(&error.body_text()))?;
    let purpose = Purpose::of(query.purpose.as_deref())?;
    let session = parse(&id)?;
    let place = resources.viewers.enter(caller.principal()).map_err(Fail)?;
    let mut source = Source::open(&resources, session).await?;
    let first = blocking(move || source.next().map(|seen| (source, seen))).await;
    let (source, first) = first.map_err(|error| Fail::ours(&error))?;
    let first = match first {
        Seen::One(entry) => entry,
        Seen::End | Seen::Damaged(_) => return Err(Fail::not_found("session")),
    };
    let opened = opening(&first).ok_or_else(|| Fail::not_found("session"))?;
    let own = is_own(&caller, &opened.principal);
    let action = if query.follow { "watch" } else { "replay" };
    allow_replay(&resources, &caller, &opened, (action, &purpose, own))?;
    let withheld =
        !own && hides_something(&resources, &caller, (&opened.target, opened.law.as_deref()));
    let live = resources.gateway.parts.registry.find(session).is_some();
    let head = json!({ "session": session, "live": live, "results_withheld": withheld });
    let told = Told { after: query.after, with_data: !withheld, teller: Teller::new(false) };
    let mut lines = Vec::new();
    put(&mut lines, &head).map_err(|error| Fail::ours(&error))?;
    let told = told.begun(&mut lines, &first).map_err(|error| Fail::ours(&error))?;
    let asked_at = Instant::now();
    let follow = query.follow;
    let viewing = Viewing {
        resources,
        caller,
        opened,
        with_data: !withheld,
        own,
        follow,
        asked_at,
        _place: place,
    };
    let (sender, receiver) = mpsc::channel(BATCHES_MAX);
    tokio::spawn(viewing.run(source, told, lines, sender));
    let body = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let batch: Bytes = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(batch), receiver))
    });
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Where entries come from.
enum Source {
    /// The spool: what is written meanwhile is read too.
    Spool(Box<Follower>),
    /// The store: all is written.
    Store(Box<Reading>),
}

impl Source {
    async fn open(resources: &Arc<Resources>, session: SessionId) -> Result<Self, Fail> {
        let audit = Arc::clone(&resources.gateway.parts.audit);
        match blocking(move || Follower::begin(&audit, session)).await {
            Ok(Some(follower)) => return Ok(Self::Spool(Box::new(follower))),
            Ok(None) => {}
            // It left the spool at this very moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Fail::ours(&error)),
        }
        let reading = resources.archive.recording(session).await;
        reading.map(|reading| Self::Store(Box::new(reading))).map_err(|error| unreadable(&error))
    }

    fn next(&mut self) -> io::Result<Seen<Entry>> {
        match self {
            Self::Spool(follower) => follower.next(),
            Self::Store(reading) => reading.next(),
        }
    }

    /// Whether what is read up to the end is all.
    fn has_ended(&self) -> bool {
        match self {
            Self::Spool(follower) => follower.has_ended(),
            Self::Store(_) => true,
        }
    }
}

/// Does what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Turns entries into lines.
struct Told {
    after: u64,
    with_data: bool,
    teller: Teller,
}

/// How far a batch got.
enum Far {
    /// There is more to read now.
    More,
    /// All is read that is written.
    End,
    /// The rest cannot be read.
    Damaged(String),
}

impl Told {
    fn begun(mut self, lines: &mut Vec<u8>, first: &Entry) -> io::Result<Self> {
        self.tell(lines, first)?;
        Ok(self)
    }

    fn tell(&mut self, lines: &mut Vec<u8>, entry: &Entry) -> io::Result<()> {
        if entry.n <= self.after {
            return Ok(());
        }
        match &entry.what {
            What::Event(_) => self.teller.tell(entry).map_or(Ok(()), |told| put(lines, &told)),
            What::Data { .. } if !self.with_data => Ok(()),
            What::Data { command, stream, bytes } => {
                let data = json!({ "command": command, "stream": stream, "base64": base64(bytes) });
                put(lines, &json!({ "n": entry.n, "at": entry.at, "data": data }))
            }
        }
    }

    /// Reads and tells what fits a batch.
    fn batch(&mut self, source: &mut Source) -> io::Result<(Vec<u8>, Far)> {
        let mut lines = Vec::new();
        for _ in 0..BATCH_ENTRIES_MAX {
            if lines.len() >= BATCH_BYTES {
                break;
            }
            match source.next()? {
                Seen::One(entry) => self.tell(&mut lines, &entry)?,
                Seen::End => return Ok((lines, Far::End)),
                Seen::Damaged(damage) => return Ok((lines, Far::Damaged(damage.to_string()))),
            }
        }
        Ok((lines, Far::More))
    }
}

fn put(lines: &mut Vec<u8>, line: &Value) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, line)?;
    lines.push(b'\n');
    Ok(())
}

/// Somebody who looks.
struct Viewing {
    resources: Arc<Resources>,
    caller: Caller,
    opened: Opened,
    /// Data is told: where it is the session of somebody else, nothing of the target may be hidden.
    with_data: bool,
    own: bool,
    follow: bool,
    /// When it was last asked whether they may.
    asked_at: Instant,
    _place: Place,
}

/// Why a stream ends.
enum Over {
    /// The viewer has gone, or takes nothing.
    Gone,
    /// There is something to be said.
    Said(Value),
}

impl Viewing {
    async fn run(mut self, source: Source, told: Told, lines: Vec<u8>, sender: Sender<Bytes>) {
        let Over::Said(last) = self.show(source, told, lines, &sender).await else { return };
        let mut lines = Vec::new();
        if put(&mut lines, &last).is_ok() {
            let within = Duration::from_millis(SLOW_MS_MAX);
            // Whoever does not take it will see that the last line is missing.
            drop(tokio::time::timeout(within, sender.send(Bytes::from(lines))).await);
        }
    }

    async fn show(
        &mut self,
        mut source: Source,
        mut told: Told,
        mut lines: Vec<u8>,
        sender: &Sender<Bytes>,
    ) -> Over {
        let mut sent_at = Instant::now();
        loop {
            if lines.is_empty() && sent_at.elapsed() >= Duration::from_millis(ALIVE_MS) {
                let now = self.resources.gateway.parts.clock.now();
                lines = format!("{}\n", json!({ "alive": now })).into_bytes();
            }
            if !lines.is_empty() {
                if let Err(over) = self.send(sender, Bytes::from(lines)).await {
                    return over;
                }
                sent_at = Instant::now();
            }
            let read = blocking(move || {
                let read = told.batch(&mut source)?;
                Ok((source, told, read))
            });
            let far;
            (source, told, (lines, far)) = match read.await {
                Ok(read) => read,
                Err(error) => {
                    tracing::error!(fault = "gateway", session = %self.opened.session, %error, "a recording cannot be read");
                    return Over::Said(
                        json!({ "end": "failed", "detail": "the gateway cannot read it now" }),
                    );
                }
            };
            let over = match far {
                Far::More => continue,
                Far::Damaged(what) => json!({ "end": "damaged", "detail": what }),
                Far::End if source.has_ended() => json!({ "end": "complete" }),
                Far::End if !self.follow => json!({ "end": "so-far" }),
                Far::End if !lines.is_empty() => continue,
                Far::End => match self.wait(sender).await {
                    Ok(()) => continue,
                    Err(over) => return over,
                },
            };
            if !lines.is_empty()
                && let Err(over) = self.send(sender, Bytes::from(lines)).await
            {
                return over;
            }
            return Over::Said(over);
        }
    }

    /// Waits until something may have been written.
    async fn wait(&mut self, sender: &Sender<Bytes>) -> Result<(), Over> {
        tokio::select! {
            () = sender.closed() => return Err(Over::Gone),
            () = tokio::time::sleep(Duration::from_millis(LOOK_MS)) => {}
        }
        self.ask()
    }

    /// Hands over a batch once the viewer took one before, and only if they may still look then.
    async fn send(&mut self, sender: &Sender<Bytes>, lines: Bytes) -> Result<(), Over> {
        let until = Instant::now() + Duration::from_millis(SLOW_MS_MAX);
        loop {
            let room = tokio::time::timeout(Duration::from_millis(ASK_MS), sender.reserve()).await;
            self.ask()?;
            match room {
                Ok(Ok(room)) => {
                    room.send(lines);
                    return Ok(());
                }
                Ok(Err(_)) => return Err(Over::Gone),
                Err(_) if Instant::now() >= until => return Err(Over::Gone),
                Err(_) => {}
            }
        }
    }

    /// Asks, if it was not asked just now, whether the viewer may still look.
    fn ask(&mut self) -> Result<(), Over> {
        if self.asked_at.elapsed() < Duration::from_millis(ASK_MS) {
            return Ok(());
        }
        self.asked_at = Instant::now();
        self.may().map_err(|refusal| {
            Over::Said(json!({
                "end": "refused",
                "detail": refusal.reason,
                "rules": refusal.rules,
                "hint": refusal.hint,
            }))
        })
    }

    fn may(&self) -> Result<(), Refusal> {
        let no = |reason: String| {
            Err(Refusal::new(RefusalCode::Unauthenticated, reason).hint("sign in again"))
        };
        if let Some(why) = self.caller.verified.ended() {
            return no(format!("your login has ended: {why}"));
        }
        if self.caller.verified.is_expired(self.resources.gateway.parts.clock.now()) {
            return no("your credential has expired".to_owned());
        }
        let Opened { target, principal: owner, law, .. } = &self.opened;
        let ask = policy::Ask::Replay { target, law: law.as_deref(), owner };
        self.caller.decide(&self.resources, &ask)?;
        // What was left out from the beginning stays out; what becomes hidden ends the stream.
        if self.with_data && !self.own && self.hides_more() {
            let reason = "what you may see of this target has changed";
            return Err(Refusal::new(RefusalCode::Denied, reason).hint("ask again"));
        }
        Ok(())
    }

    fn hides_more(&self) -> bool {
        hides_something(
            &self.resources,
            &self.caller,
            (&self.opened.target, self.opened.law.as_deref()),
        )
    }
}
