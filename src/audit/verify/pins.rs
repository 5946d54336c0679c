//! What ledgers say of recordings: that there is one, where it stood, where it ends.
//!
//! Where a key or a checkpoint is known from elsewhere, an entry behind the last one that is counted
//! may be anybody's. It may ask more of a recording, and excuses nothing: not that it is gone or in the
//! store, and not that it ends elsewhere.
//!
//! A ledger may say more of recordings than should be in memory at once. Then it is read again, in
//! rounds, each for a part of the sessions.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use crate::audit::LedgerEvent;
use crate::audit::chain::Head;
use crate::audit::chain::Line;
use crate::audit::verify::Problem;
use crate::audit::verify::VerifyError;
use crate::audit::verify::ledgers::Ledger;
use crate::audit::verify::report::Findings;
use crate::audit::verify::walk;
use crate::audit::verify::walk::Entry;
use crate::audit::verify::walk::Visit;
use crate::model::SessionId;
use crate::model::digest::Digest;

/// Most sessions and heads, together, of which what the ledger says is in memory at once.
pub const PINS_MAX: usize = 2_000_000;

/// What a ledger says of one recording, as far as it counts.
#[derive(Debug, Clone)]
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
    /// The store has it: it left the spool.
    pub(super) stored: Option<Stored>,
    /// The entry that says that it was erased, or its time was over: it need not be anywhere.
    pub(super) gone: Option<u64>,
}

/// That the store has a recording.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    /// The entry that says so.
    pub(super) entry: u64,
    /// How long it is, in bytes.
    pub(super) bytes: u64,
}

/// What a ledger says of one recording, with the entries that say so: which of them count is known
/// once every checkpoint was met.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    /// The first entry that is about it.
    first: u64,
    heads: Vec<Head>,
    ends: Vec<End>,
    admitted: bool,
    stored: Option<Stored>,
    gone: Option<u64>,
}

/// Where a recording ends.
#[derive(Debug, Clone, Copy)]
struct End {
    /// The entry that says so.
    entry: u64,
    head: Head,
    /// It was found open after a crash: then, whether there is damage behind it.
    recovered: Option<bool>,
}

impl Notes {
    /// What counts of it where the first `believed` entries of its ledger do.
    fn pin(self, ledger: usize, believed: u64) -> Pin {
        let counts = |entry: u64| entry <= believed;
        // One that counts is not moved by one that does not.
        let end = self.ends.iter().rev().find(|end| counts(end.entry)).or(self.ends.first());
        let recovered = |end: &End| end.recovered.filter(|_| counts(end.entry));
        let mut pin = Pin {
            ledger,
            heads: self.heads,
            end: end.map(|end| end.head),
            damage_known: end.and_then(recovered) == Some(true),
            // A crash between the recording's first entry and the ledger's leaves one without.
            admitted: self.admitted || self.ends.iter().any(|end| recovered(end).is_some()),
            stored: self.stored.filter(|stored| counts(stored.entry)),
            gone: self.gone.filter(|entry| counts(*entry)),
        };
        pin.heads.extend(self.ends.iter().map(|end| end.head));
        pin
    }
}

/// What ledgers say of recordings, or of those of one round.
#[derive(Debug)]
pub(super) struct Pins {
    round: Round,
    max: usize,
    of: BTreeMap<(SessionId, usize), Notes>,
    /// How many sessions and heads were noted, or would have been.
    count: usize,
}

/// One part of the sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    number: u64,
    of: u64,
}

/// One round, with what was noted if that is in memory already.
#[derive(Debug)]
pub(super) struct Turn {
    round: Round,
    notes: Option<BTreeMap<(SessionId, usize), Notes>>,
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
    pub(super) fn note(&mut self, ledger: usize, Line { n, event, .. }: &Line<LedgerEvent>) {
        let entry = *n;
        if let LedgerEvent::Admitted(opened) = event {
            self.of_session((opened.session, ledger), entry, |notes| notes.admitted = true);
        } else if let LedgerEvent::Heads { trails } = event {
            for (session, head) in trails {
                self.of_session((*session, ledger), entry, |notes| notes.heads.push(*head));
            }
        } else if let LedgerEvent::TrailClosed { session, head } = event {
            let end = End { entry, head: *head, recovered: None };
            self.of_session((*session, ledger), entry, |notes| notes.ends.push(end));
        } else if let LedgerEvent::TrailRecovered { session, head, damage } = event {
            let end = End { entry, head: *head, recovered: Some(damage.is_some()) };
            self.of_session((*session, ledger), entry, |notes| notes.ends.push(end));
        } else if let LedgerEvent::Stored { session, bytes, .. } = event {
            let stored = Stored { entry, bytes: *bytes };
            self.of_session((*session, ledger), entry, |notes| {
                notes.stored = notes.stored.or(Some(stored));
            });
        } else if let LedgerEvent::Erased { session, .. } | LedgerEvent::Expired { session, .. } =
            event
        {
            self.of_session((*session, ledger), entry, |notes| {
                notes.gone = notes.gone.or(Some(entry));
            });
        }
    }

    fn of_session(&mut self, place: (SessionId, usize), first: u64, note: impl FnOnce(&mut Notes)) {
        if !self.round.has(place.0) {
            return;
        }
        self.count = self.count.saturating_add(1);
        if self.count > self.max {
            self.of.clear();
            return;
        }
        let fresh = || Notes { first, ..Notes::default() };
        note(self.of.entry(place).or_insert_with(fresh));
    }

    /// The rounds that it takes.
    pub(super) fn rounds(self) -> Vec<Turn> {
        if self.count <= self.max {
            return vec![Turn { round: Round::ALL, notes: Some(self.of) }];
        }
        // Sessions are not spread quite evenly.
        let of = self.count.div_ceil(self.max.max(1)).saturating_mul(2);
        let of = u64::try_from(of).unwrap_or(u64::MAX);
        let turn = |number| Turn { round: Round { number, of }, notes: None };
        (0..of).map(turn).collect()
    }
}

impl Turn {
    /// Whether a session belongs to it.
    pub(super) fn has(&self, session: SessionId) -> bool {
        self.round.has(session)
    }

    /// What counts of what the ledgers say of the round's recordings. Of each, one ledger's word does:
    /// that of the ledger that admitted its session. What others say of it is a problem.
    pub(super) fn pins(
        &mut self,
        files: &[PathBuf],
        ledgers: &[Ledger],
        findings: &mut Findings<'_>,
    ) -> Result<BTreeMap<SessionId, Pin>, VerifyError> {
        let notes = if let Some(notes) = self.notes.take() {
            notes
        } else {
            let mut again = Again(Pins::in_round(self.round));
            walk::walk(files, &mut again)?;
            again.0.of
        };
        let mut pins = BTreeMap::<SessionId, (u64, Pin)>::new();
        for ((session, at), notes) in notes {
            let Some(ledger) = ledgers.get(at) else { continue };
            let mut pin = (notes.first, notes.pin(at, ledger.believed()));
            if let Some(before) = pins.get_mut(&session) {
                if pin.1.admitted && !before.1.admitted {
                    std::mem::swap(before, &mut pin);
                }
                let files =
                    [&before.1, &pin.1].map(|pin| ledgers.get(pin.ledger).map(Ledger::file));
                let [Some(its), Some(other)] = files else { continue };
                let what = format!(
                    "it is about the session {session}, of which the ledger {} speaks: one of the two \
                     is not its gateway's",
                    its.display()
                );
                let entry = Some(pin.0);
                findings.problem(Problem { entry, ..Problem::of(other, what) });
            } else {
                pins.insert(session, pin);
            }
        }
        Ok(pins.into_iter().map(|(session, (_, pin))| (session, pin)).collect())
    }
}

/// Reads ledgers again, for what they say of recordings alone.
struct Again(Pins);

impl Visit for Again {
    fn begin(&mut self, _file: &Path, _prev: Digest) {}

    fn entry(&mut self, ledger: usize, entry: &Entry) {
        self.0.note(ledger, &entry.line);
    }

    fn broken(&mut self, _ledger: usize) {}

    fn counted(&mut self, _number: u64) -> Result<(), VerifyError> {
        Ok(())
    }

    fn problem(&mut self, _problem: Problem) {}

    fn read(&mut self, _bytes: u64) {}
}
