//! What ledgers say of recordings: that there is one, where it stood, where it ends.
//!
//! A ledger may say more of recordings than should be in memory at once. Then it is read again, in
//! rounds, each for a part of the sessions.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use crate::audit::LedgerEvent;
use crate::audit::chain::Head;
use crate::audit::verify::Problem;
use crate::audit::verify::VerifyError;
use crate::audit::verify::walk;
use crate::audit::verify::walk::Entry;
use crate::audit::verify::walk::Visit;
use crate::model::SessionId;
use crate::model::digest::Digest;

/// Most sessions and heads, together, of which what the ledger says is in memory at once.
pub const PINS_MAX: usize = 2_000_000;

/// What a ledger says of one recording.
#[derive(Debug, Clone, Default)]
pub(super) struct Pin {
    /// Which ledger.
    pub(super) ledger: usize,
    /// Heads that it must have had.
    pub(super) heads: Vec<Head>,
    /// The head at which it must end.
    pub(super) end: Option<Head>,
    /// Damage that was found and noted after a crash: bytes behind the end are no news.
    pub(super) damage_known: bool,
    /// Its session was admitted, or it was recovered.
    pub(super) admitted: bool,
    /// The store has it, and it is so long, in bytes: it left the spool.
    pub(super) stored: Option<u64>,
    /// It was erased, or its time was over: it need not be anywhere.
    pub(super) gone: bool,
}

/// What ledgers say of recordings, or of those of one round.
#[derive(Debug)]
pub(super) struct Pins {
    round: Round,
    max: usize,
    of: BTreeMap<SessionId, Pin>,
    /// How many sessions and heads were noted, or would have been.
    count: usize,
}

/// One part of the sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    number: u64,
    of: u64,
}

/// One round, with the pins if they are in memory already.
#[derive(Debug)]
pub(super) struct Turn {
    round: Round,
    pins: Option<BTreeMap<SessionId, Pin>>,
}

impl Round {
    const ALL: Self = Self { number: 0, of: 1 };

    /// Whether a session belongs to it.
    pub(super) fn has(self, session: SessionId) -> bool {
        if self.of <= 1 {
            return true;
        }
        let digest = Digest::of(session.to_string().as_bytes());
        let first = digest.as_bytes().first_chunk::<8>().copied().unwrap_or_default();
        u64::from_be_bytes(first).checked_rem(self.of) == Some(self.number)
    }
}

impl Pins {
    /// Of all sessions, as long as there are at most `max`.
    pub(super) fn within(max: usize) -> Self {
        Self { round: Round::ALL, max, of: BTreeMap::new(), count: 0 }
    }

    /// Of the sessions of one round.
    fn in_round(round: Round) -> Self {
        Self { round, ..Self::within(usize::MAX) }
    }

    /// Notes what an entry of a ledger says of recordings.
    pub(super) fn note(&mut self, ledger: usize, event: &LedgerEvent) {
        if let LedgerEvent::Admitted(opened) = event {
            self.pin(ledger, opened.session, |pin| pin.admitted = true);
        } else if let LedgerEvent::Heads { trails } = event {
            for (session, head) in trails {
                self.pin(ledger, *session, |pin| pin.heads.push(*head));
            }
        } else if let LedgerEvent::TrailClosed { session, head } = event {
            self.pin(ledger, *session, |pin| pin.end = Some(*head));
        } else if let LedgerEvent::TrailRecovered { session, head, damage } = event {
            self.pin(ledger, *session, |pin| {
                pin.end = Some(*head);
                pin.damage_known = damage.is_some();
                // A crash between the recording's first entry and the ledger's leaves one without.
                pin.admitted = true;
            });
        } else if let LedgerEvent::Stored { session, bytes, .. } = event {
            self.pin(ledger, *session, |pin| pin.stored = Some(*bytes));
        } else if let LedgerEvent::Erased { session, .. } | LedgerEvent::Expired { session, .. } =
            event
        {
            self.pin(ledger, *session, |pin| pin.gone = true);
        }
    }

    fn pin(&mut self, ledger: usize, session: SessionId, note: impl FnOnce(&mut Pin)) {
        if !self.round.has(session) {
            return;
        }
        self.count = self.count.saturating_add(1);
        if self.count > self.max {
            self.of.clear();
            return;
        }
        let fresh = || Pin { ledger, ..Pin::default() };
        note(self.of.entry(session).or_insert_with(fresh));
    }

    /// The rounds that it takes.
    pub(super) fn rounds(self) -> Vec<Turn> {
        if self.count <= self.max {
            return vec![Turn { round: Round::ALL, pins: Some(self.of) }];
        }
        // Sessions are not spread quite evenly.
        let of = self.count.div_ceil(self.max.max(1)).saturating_mul(2);
        let of = u64::try_from(of).unwrap_or(u64::MAX);
        let turn = |number| Turn { round: Round { number, of }, pins: None };
        (0..of).map(turn).collect()
    }
}

impl Turn {
    /// Whether a session belongs to it.
    pub(super) fn has(&self, session: SessionId) -> bool {
        self.round.has(session)
    }

    /// What the ledgers say of the round's recordings.
    pub(super) fn pins(
        &mut self,
        files: &[PathBuf],
    ) -> Result<BTreeMap<SessionId, Pin>, VerifyError> {
        if let Some(pins) = self.pins.take() {
            return Ok(pins);
        }
        let mut again = Again(Pins::in_round(self.round));
        walk::walk(files, &mut again)?;
        Ok(again.0.of)
    }
}

/// Reads ledgers again, for what they say of recordings alone.
struct Again(Pins);

impl Visit for Again {
    fn begin(&mut self, _file: &Path, _prev: Digest) {}

    fn entry(&mut self, ledger: usize, entry: &Entry) {
        self.0.note(ledger, &entry.line.event);
    }

    fn broken(&mut self, _ledger: usize) {}

    fn counted(&mut self, _number: u64) -> Result<(), VerifyError> {
        Ok(())
    }

    fn problem(&mut self, _problem: Problem) {}

    fn read(&mut self, _bytes: u64) {}
}
