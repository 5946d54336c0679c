//! How far behind the store is, and what is wrong.

use jiff::Timestamp;
use serde::Serialize;

use crate::audit::archive::ArchiveError;
use crate::audit::entry::LedgerEvent;
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
    /// When everything that was due was last in the store.
    pub caught_up_at: Option<Timestamp>,
    /// Since when the store fails.
    pub failing_since: Option<Timestamp>,
    /// Why it failed last.
    pub error: Option<String>,
}

/// What is remembered from round to round.
#[derive(Debug, Default)]
pub(super) struct Tally {
    waiting: usize,
    caught_up_at: Option<Timestamp>,
    failing: Option<(Timestamp, String)>,
}

impl Tally {
    /// Takes note of a round: what the ledger and the log should be told, if anything.
    pub(super) fn round(
        &mut self,
        now: Timestamp,
        spool_bytes: u64,
        waiting: usize,
        failed: Option<&ArchiveError>,
    ) -> (Option<LedgerEvent>, Option<String>) {
        self.waiting = if failed.is_some() { waiting } else { 0 };
        let Some(error) = failed else {
            self.caught_up_at = Some(now);
            let Some((since, _)) = self.failing.take() else { return (None, None) };
            let line = format!("the store answers again, after it failed since {since}");
            return (Some(LedgerEvent::StoreRecovered { since }), Some(line));
        };
        let why = Chain(error).to_string();
        let fresh = self.failing.as_ref().is_none_or(|(_, before)| *before != why);
        let since = self.failing.as_ref().map_or(now, |(since, _)| *since);
        let began = self.failing.is_none();
        self.failing = Some((since, why.clone()));
        let event = began.then_some(LedgerEvent::StoreFailing { why });
        let line = fresh.then(|| {
            format!("the store fails; the spool holds {spool_bytes} bytes, and sessions go on until it is full")
        });
        (event, line)
    }

    pub(super) fn health(&self, store: &str, spool_bytes: u64, spool_bytes_max: u64) -> Health {
        Health {
            store: store.to_owned(),
            spool_bytes,
            spool_bytes_max,
            waiting: self.waiting,
            caught_up_at: self.caught_up_at,
            failing_since: self.failing.as_ref().map(|(since, _)| *since),
            error: self.failing.as_ref().map(|(_, why)| why.clone()),
        }
    }
}
