//! Commands on their way to destinations that asked for them. Nothing waits here: what finds a queue
//! full is counted, and its number is missed by whoever reads the others.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::audit::entry::TrailEvent;
use crate::model::SessionId;

/// How many events of commands wait for one destination at most.
pub(super) const QUEUE_MAX: usize = 8_192;

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
}

#[derive(Debug, Default)]
struct Counts {
    offered: AtomicU64,
    dropped: AtomicU64,
}

/// One destination's end of the feed.
#[derive(Debug)]
pub struct Fed {
    queue: mpsc::Receiver<Told>,
    counts: Arc<Counts>,
}

impl Feed {
    /// A feed for `destinations` of them, and their ends.
    pub fn new(destinations: usize) -> (Self, Vec<Fed>) {
        let ends = (0..destinations).map(|_| {
            let (sender, queue) = mpsc::channel(QUEUE_MAX);
            let counts = Arc::<Counts>::default();
            (Place { queue: sender, counts: Arc::clone(&counts) }, Fed { queue, counts })
        });
        let (places, fed): (Vec<_>, Vec<_>) = ends.unzip();
        (Self { places: places.into() }, fed)
    }

    /// Offers an entry that was recorded. Never waits.
    pub fn offer(&self, session: SessionId, at: Timestamp, event: &TrailEvent) {
        if self.places.is_empty() {
            return;
        }
        let Ok(value) = serde_json::to_value(event) else { return };
        for place in self.places.iter() {
            let sequence = place.counts.offered.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            let told = Told { sequence, session, at, event: value.clone() };
            if place.queue.try_send(told).is_err() {
                place.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Fed {
    /// The next entry; waits for one. `None`: there will be no more. Cancel safe.
    pub async fn next(&mut self) -> Option<Told> {
        self.queue.recv().await
    }

    /// The next entry, if there is one now.
    pub fn now(&mut self) -> Option<Told> {
        self.queue.try_recv().ok()
    }

    /// How many were dropped since this was last asked.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.swap(0, Ordering::Relaxed)
    }
}
