//! How far behind the store is, and what is wrong.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::audit::archive::ArchiveError;
use crate::audit::entry::LedgerEvent;
use crate::model::SessionId;
use crate::model::fault::Chain;

/// How an archive does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Which store.
    pub store: String,
    /// How much the spool holds, in bytes.
    pub spool_bytes: u64,
    /// How much it may hold, in bytes.
    pub spool_bytes_max: u64,
    /// How many ended sessions the store has not wholly.
    pub waiting: usize,
    /// Recordings that cannot be brought to the store, though it takes the others.
    pub stuck: Vec<Stuck>,
    /// When everything that was due was last in the store.
    pub caught_up_at: Option<Timestamp>,
    /// Since when the store fails, or something cannot be brought there.
    pub failing_since: Option<Timestamp>,
    /// Why it failed last.
    pub error: Option<String>,
}

/// A recording that stays in the spool until somebody looks after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stuck {
    /// Its session.
    pub session: SessionId,
    /// What is wrong, with its path.
    pub why: String,
}

/// What a round left behind.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Ended sessions that the store has not wholly.
    pub(super) waiting: usize,
    /// There was no time for something.
    pub(super) unreached: bool,
    /// Nothing more can be brought to the store now, or not the ledger.
    pub(super) failed: Option<ArchiveError>,
}

/// What is remembered from round to round.
#[derive(Debug, Default)]
pub(super) struct Tally {
    waiting: usize,
    stuck: BTreeMap<SessionId, String>,
    caught_up_at: Option<Timestamp>,
    failing: Option<(Timestamp, String)>,
}

impl Tally {
    /// Takes note of a recording that cannot be brought to the store. `true`: that is new.
    pub(super) fn is_stuck(&mut self, session: SessionId, why: &str) -> bool {
        self.stuck.insert(session, why.to_owned()).is_none_or(|before| before != why)
    }

    /// Takes note that nothing keeps a recording from the store.
    pub(super) fn goes_on(&mut self, session: SessionId) {
        self.stuck.remove(&session);
    }

    /// Forgets recordings that are not in the spool any more.
    pub(super) fn retain<T>(&mut self, due: &BTreeMap<SessionId, T>) {
        self.stuck.retain(|session, _| due.contains_key(session));
    }

    /// Takes note of a round: what the ledger should be told, and whether the log should be.
    pub(super) fn round(&mut self, now: Timestamp, behind: &Behind) -> (Option<LedgerEvent>, bool) {
        self.waiting = behind.waiting;
        let failed = behind.failed.as_ref().map(|error| Chain(error).to_string());
        let Some(why) = failed.or_else(|| self.stuck.values().next().cloned()) else {
            if !behind.unreached {
                self.caught_up_at = Some(now);
            }
            let Some((since, _)) = self.failing.take() else { return (None, false) };
            return (Some(LedgerEvent::StoreRecovered { since }), true);
        };
        let fresh = self.failing.as_ref().is_none_or(|(_, before)| *before != why);
        let since = self.failing.as_ref().map_or(now, |(since, _)| *since);
        let began = self.failing.is_none();
        self.failing = Some((since, why.clone()));
        (began.then_some(LedgerEvent::StoreFailing { why }), fresh)
    }

    pub(super) fn health(&self, store: &str, spool_bytes: u64, spool_bytes_max: u64) -> Health {
        let stuck = self.stuck.iter();
        let stuck = stuck.map(|(session, why)| Stuck { session: *session, why: why.clone() });
        Health {
            store: store.to_owned(),
            spool_bytes,
            spool_bytes_max,
            waiting: self.waiting,
            stuck: stuck.collect(),
            caught_up_at: self.caught_up_at,
            failing_since: self.failing.as_ref().map(|(since, _)| *since),
            error: self.failing.as_ref().map(|(_, why)| why.clone()),
        }
    }
}
