//! Commands on their way to destinations that asked for them. Nothing waits here: what finds a queue
//! full is counted, and its number is missed by whoever reads the others. Texts wait for those alone
//! who are to have them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::audit::entry::TrailEvent;
use crate::model::SessionId;

/// How many events of commands wait for one destination at most.
pub(super) const QUEUE_MAX: usize = 8_192;
/// How much they take in memory at most, in bytes, about.
pub(super) const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a value takes beside its text, in bytes, about.
const VALUE_BYTES: usize = 64;

/// What of a command every destination is told.
const TOLD: [&str; 5] = ["verb", "effects", "reads", "writes", "objects"];

/// An entry of a session's record on its way.
#[derive(Debug)]
pub struct Told {
    /// Its number among all that were offered to the destination, from 1.
    pub sequence: u64,
    /// The session.
    pub session: SessionId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Value,
    /// What it takes in memory, in bytes, about.
    pub(super) bytes: usize,
}

/// Where commands are offered. Nowhere, unless a destination asked for them.
#[derive(Debug, Clone, Default)]
pub struct Feed {
    places: Arc<[Place]>,
}

#[derive(Debug)]
struct Place {
    queue: mpsc::Sender<Told>,
    counts: Arc<Counts>,
    /// Texts of commands may go there.
    include_text: bool,
}

#[derive(Debug, Default)]
struct Counts {
    offered: AtomicU64,
    dropped: AtomicU64,
    /// How much waits, in bytes.
    waiting: AtomicUsize,
}

/// One destination's end of the feed.
#[derive(Debug)]
pub struct Fed {
    queue: mpsc::Receiver<Told>,
    counts: Arc<Counts>,
}

impl Feed {
    /// A feed for some destinations, each given as whether texts of commands may go there; and their
    /// ends.
    pub fn new(destinations: impl IntoIterator<Item = bool>) -> (Self, Vec<Fed>) {
        let ends = destinations.into_iter().map(|include_text| {
            let (sender, queue) = mpsc::channel(QUEUE_MAX);
            let counts = Arc::<Counts>::default();
            let place = Place { queue: sender, counts: Arc::clone(&counts), include_text };
            (place, Fed { queue, counts })
        });
        let (places, fed): (Vec<_>, Vec<_>) = ends.unzip();
        (Self { places: places.into() }, fed)
    }

    /// Offers an entry that was recorded. Never waits.
    pub fn offer(&self, session: SessionId, at: Timestamp, event: &TrailEvent) {
        if self.places.is_empty() {
            return;
        }
        let Ok(mut value) = serde_json::to_value(event) else { return };
        let (whole, bare): (Vec<_>, Vec<_>) =
            self.places.iter().partition(|place| place.include_text);
        for place in whole {
            place.offer(session, at, &value);
        }
        without_text(&mut value);
        for place in bare {
            place.offer(session, at, &value);
        }
    }
}

impl Place {
    fn offer(&self, session: SessionId, at: Timestamp, event: &Value) {
        let counts = &self.counts;
        let sequence = counts.offered.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let bytes = bytes_of(event);
        let more =
            |waiting: usize| waiting.checked_add(bytes).filter(|all| *all <= QUEUE_BYTES_MAX);
        let taken = counts.waiting.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if taken {
            let told = Told { sequence, session, at, event: event.clone(), bytes };
            if self.queue.try_send(told).is_ok() {
                return;
            }
            counts.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        counts.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes out what only those get who are to have texts: what was asked, in full and in detail.
fn without_text(event: &mut Value) {
    if let Some(command) = event.get_mut("command").and_then(Value::as_object_mut) {
        command.retain(|name, _| TOLD.contains(&name.as_str()));
    }
}

/// What a value takes in memory, about.
fn bytes_of(value: &Value) -> usize {
    let inner = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(all) => all.iter().map(bytes_of).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len().saturating_add(bytes_of(value))).sum()
        }
    };
    inner.saturating_add(VALUE_BYTES)
}

impl Fed {
    /// The next entry; waits for one. `None`: there will be no more. Cancel safe.
    pub async fn next(&mut self) -> Option<Told> {
        let told = self.queue.recv().await;
        told.inspect(|told| self.taken(told))
    }

    /// The next entry, if there is one now.
    pub fn now(&mut self) -> Option<Told> {
        let told = self.queue.try_recv().ok();
        told.inspect(|told| self.taken(told))
    }

    fn taken(&self, told: &Told) {
        self.counts.waiting.fetch_sub(told.bytes, Ordering::Relaxed);
    }

    /// How many were dropped since this was last asked.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.swap(0, Ordering::Relaxed)
    }
}
