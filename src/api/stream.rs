//! A recording as JSON lines, from its beginning to its end, or as it is written.
//!
//! ```text
//! {"session":…,"live":true,"results_withheld":false}                    first
//! {"n":1,"at":…,"event":{…}}                                            an event, as `show` tells it
//! {"n":4,"at":…,"data":{"command":2,"stream":"output","base64":"…"}}    what crossed
//! {"alive":…}                                                           nothing was written for a while
//! {"results_withheld":true}                                             from here on no data
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
use crate::api::look::Look;
use crate::api::look::Sight;
use crate::api::purpose::Purpose;
use crate::api::sessions::parse;
use crate::api::source::Begun;
use crate::api::source::Source;
use crate::api::source::blocking;
use crate::api::transfer::Transfer;
use crate::api::viewers::Place;
use crate::audit::recording::Entry;
use crate::audit::recording::Seen;
use crate::audit::recording::What;
use crate::audit::told::Teller;
use crate::model::Refusal;
use crate::model::encode::base64;
use crate::model::refusal::RefusalCode;

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
    let action = if query.follow { "watch" } else { "replay" };
    let begun = Begun::of(&resources, caller, session, (action, &purpose)).await?;
    let live = resources.gateway.parts.registry.find(session).is_some();
    let head = |withheld| json!({ "session": session, "live": live, "results_withheld": withheld });
    let sound = match begun {
        Begun::Sound(sound) => *sound,
        Begun::Damaged(what) => {
            return Ok(answer(Body::from(format!("{}\n{}\n", head(false), damaged(&what)))));
        }
    };
    let look = Arc::new(sound.look);
    let told = Told::new(query.after, Sight::of(Arc::clone(&look)), look.is_own());
    let mut lines = Vec::new();
    put(&mut lines, &head(told.sight.is_withheld())).map_err(|error| Fail::ours(&error))?;
    let told = told.begun(&mut lines, &sound.first).map_err(|error| Fail::ours(&error))?;
    let viewing = Viewing {
        resources,
        look,
        sight: told.sight.clone(),
        transfer: sound.transfer,
        follow: query.follow,
        asked_at: Instant::now(),
        _place: place,
    };
    let (sender, receiver) = mpsc::channel(BATCHES_MAX);
    tokio::spawn(viewing.run(sound.source, told, lines, sender));
    let body = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let batch: Bytes = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(batch), receiver))
    });
    Ok(answer(Body::from_stream(body)))
}

fn answer(lines: Body) -> Response {
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    (headers, lines).into_response()
}

/// The last line, where the rest cannot be read.
fn damaged(what: &str) -> Value {
    json!({ "end": "damaged", "detail": what })
}

/// Turns entries into lines.
struct Told {
    after: u64,
    sight: Sight,
    own: bool,
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
    fn new(after: u64, sight: Sight, own: bool) -> Self {
        // Data has lines of its own.
        let mut teller = Teller::new(false);
        if sight.is_withheld() {
            teller.withhold(own);
        }
        Self { after, sight, own, teller }
    }

    fn begun(mut self, lines: &mut Vec<u8>, first: &Entry) -> io::Result<Self> {
        self.tell(lines, first)?;
        Ok(self)
    }

    fn tell(&mut self, lines: &mut Vec<u8>, entry: &Entry) -> io::Result<()> {
        if let What::Event(event) = &entry.what
            && self.sight.read(event)
        {
            self.teller.withhold(self.own);
            put(lines, &json!({ "results_withheld": true }))?;
        }
        if entry.n <= self.after {
            return Ok(());
        }
        match &entry.what {
            What::Event(_) => self.teller.tell(entry).map_or(Ok(()), |told| put(lines, &told)),
            What::Data { .. } if self.sight.is_withheld() => Ok(()),
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
    look: Arc<Look>,
    /// What they see of what was told so far.
    sight: Sight,
    /// The look, where the ledger is told of it as a transfer.
    transfer: Option<Transfer>,
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
                    tracing::error!(fault = "gateway", session = %self.look.session(), %error, "a recording cannot be read");
                    return Over::Said(
                        json!({ "end": "failed", "detail": "the gateway cannot read it now" }),
                    );
                }
            };
            self.sight = told.sight.clone();
            let over = match far {
                Far::More => continue,
                Far::Damaged(what) => damaged(&what),
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
                    if let Some(transfer) = &mut self.transfer {
                        transfer.count(memchr::memchr_iter(b'\n', &lines).count(), lines.len());
                    }
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
        self.look.may()?;
        // What was left out from the beginning stays out; what becomes hidden ends the stream.
        if self.sight.has_narrowed() {
            let reason = "what you may see of this target has changed";
            return Err(Refusal::new(RefusalCode::Denied, reason).hint("ask again"));
        }
        Ok(())
    }
}
