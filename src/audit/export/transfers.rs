//! Transfers, put together from the entries that open, count and close them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::LedgerEvent;
use crate::audit::chain::Line;
use crate::audit::entry::HoldEnding;
use crate::audit::entry::TransferNote;
use crate::audit::entry::Volume;
use crate::audit::export::Window;
use crate::audit::transfer::TransferFacts;
use crate::model::DataClass;
use crate::model::HoldId;
use crate::model::SessionId;

/// A transfer: what an auditor asks of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// The number of the entry that opened it.
    pub entry: u64,
    /// When that was.
    pub opened_at: Timestamp,
    /// The number of the entry that says how much it was in the end.
    pub closed_entry: Option<u64>,
    /// When that was.
    pub closed_at: Option<Timestamp>,
    /// Whether it is over, and how.
    pub state: State,
    /// Its session.
    pub session: SessionId,
    /// `read` or `write`; `replay`, `search` or `approve`.
    pub direction: String,
    /// The exporter's entity.
    pub exporter: String,
    /// The importer's entity.
    pub importer: String,
    /// Where the data became available.
    pub place: Option<String>,
    /// On what legal basis, and whether it is a transfer at all: a place may be logged only.
    pub basis: TransferNote,
    /// Who, from where, at what, and what it rests on. `None`: it is older than that.
    pub facts: Option<Box<TransferFacts>>,
    /// How much each class may have been of it. A class without anything moved nothing.
    pub classes: BTreeMap<DataClass, Volume>,
    /// How much was released in all. Of a write: how much went to the target.
    pub volume: Volume,
    /// Approvals of commands of the session.
    pub approvals: Vec<Approval>,
    /// Of a look at what was recorded or waits, its id; a search has no other session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look: Option<SessionId>,
}

/// How a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its session has not ended; the volume is at least so much.
    Open,
    /// Its session ended, or went on on another basis, as another transfer.
    Closed,
    /// Its session did not end in order; the volume is at least what its recording has.
    Unclean,
}

impl State {
    /// The word in exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Unclean => "unclean",
        }
    }
}

/// A command that somebody let go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The hold.
    pub hold: HoldId,
    /// Who approved it.
    pub by: String,
    /// The number of the entry that says so.
    pub entry: u64,
    /// When.
    pub at: Timestamp,
}

/// Puts transfers together, entry by entry. What is in memory is about sessions that are not over.
#[derive(Debug, Default)]
pub struct Transfers {
    window: Window,
    open: BTreeMap<SessionId, Vec<Open>>,
    /// What was last told of the volumes of sessions that have any.
    told: BTreeMap<SessionId, Told>,
    /// Looks that are not over.
    looks: BTreeMap<SessionId, Transfer>,
    /// Who approved what in a session.
    approvals: BTreeMap<SessionId, Vec<Approval>>,
    /// Of which session a hold is that waits.
    holds: BTreeMap<HoldId, SessionId>,
    finished: Vec<Transfer>,
}

/// A transfer whose session is not over.
#[derive(Debug)]
struct Open {
    transfer: Transfer,
    /// Classes that it still counts: of a write, not those that go on on another basis.
    counts: BTreeSet<DataClass>,
    /// What of the session's volumes was there before it.
    before: Told,
}

/// Volumes of a session, from its beginning.
#[derive(Debug, Clone, Default)]
struct Told {
    volume: Volume,
    carried: BTreeMap<DataClass, Volume>,
    written: BTreeMap<DataClass, Volume>,
}

impl Transfers {
    /// Those that touch `window`.
    pub fn within(window: Window) -> Self {
        Self { window, ..Self::default() }
    }

    /// Reads the next entry.
    pub fn read(&mut self, line: &Line<LedgerEvent>) {
        if let LedgerEvent::Held { hold, session, .. } = &line.event {
            self.holds.insert(hold.clone(), *session);
        } else if let LedgerEvent::HoldEnded { hold, ending } = &line.event {
            self.answered(line, hold, ending);
        } else if let LedgerEvent::TransferVolume { look: Some(look), volume, classes, .. } =
            &line.event
        {
            self.looked(line, *look, (*volume, classes));
        } else if let LedgerEvent::Started { .. } = &line.event {
            // A look ends with the gateway; where that did not say so, it crashed.
            let left = std::mem::take(&mut self.looks).into_values();
            left.for_each(|look| self.finished(Transfer { state: State::Unclean, ..look }));
        } else if let LedgerEvent::TransferVolume {
            session,
            volume,
            classes,
            written,
            closed,
            ..
        } = &line.event
        {
            let state = if *closed { State::Closed } else { State::Open };
            let (carried, written) = (classes.clone(), written.clone());
            let told = Told { volume: *volume, carried, written };
            self.count(line, *session, state, &told);
            self.told.insert(*session, told);
        } else if let LedgerEvent::TransferUnclean { session, volume } = &line.event {
            let told = Told { volume: *volume, ..Told::default() };
            self.count(line, *session, State::Unclean, &told);
        } else if let LedgerEvent::TrailClosed { session, .. }
        | LedgerEvent::TrailRecovered { session, .. } = &line.event
        {
            self.over(*session);
        } else if let Some((look, transfer)) =
            opened(line).and_then(|transfer| Some((transfer.look?, transfer)))
        {
            self.looks.insert(look, transfer);
        } else if let Some(transfer) = opened(line) {
            self.begin(line, transfer);
        }
    }

    /// Those that are complete since the last time.
    pub fn take(&mut self) -> Vec<Transfer> {
        std::mem::take(&mut self.finished)
    }

    /// Those whose sessions go on.
    pub fn finish(mut self) -> Vec<Transfer> {
        for session in self.open.keys().copied().collect::<Vec<_>>() {
            self.over(session);
        }
        let looks = std::mem::take(&mut self.looks).into_values();
        looks.for_each(|look| self.finished(look));
        self.finished
    }

    /// A look is over.
    fn looked(
        &mut self,
        line: &Line<LedgerEvent>,
        look: SessionId,
        (volume, classes): (Volume, &BTreeMap<DataClass, Volume>),
    ) {
        let Some(mut transfer) = self.looks.remove(&look) else { return };
        transfer.classes.extend(classes.iter().map(|(class, volume)| (class.clone(), *volume)));
        transfer.volume = volume;
        transfer.state = State::Closed;
        transfer.closed_entry = Some(line.n);
        transfer.closed_at = Some(line.at);
        self.finished(transfer);
    }

    fn finished(&mut self, transfer: Transfer) {
        if self.window.touches(transfer.opened_at, transfer.closed_at) {
            self.finished.push(transfer);
        }
    }

    fn answered(&mut self, line: &Line<LedgerEvent>, hold: &HoldId, ending: &HoldEnding) {
        let Some(session) = self.holds.remove(hold) else { return };
        if let HoldEnding::Approved { by } = ending {
            let (hold, by) = (hold.clone(), by.clone());
            let approval = Approval { hold, by, entry: line.n, at: line.at };
            self.approvals.entry(session).or_default().push(approval);
        }
    }

    /// A transfer begins. Where it is one before that goes on on another basis, that one is over:
    /// a read wholly, a write for the classes of both.
    fn begin(&mut self, line: &Line<LedgerEvent>, transfer: Transfer) {
        let open = self.open.entry(transfer.session).or_default();
        let mut before = Told::default();
        for former in open.iter_mut().filter(|open| open.is_open_as(&transfer.direction)) {
            before = self.told.get(&transfer.session).cloned().unwrap_or_default();
            let reads = former.reads();
            former.counts.retain(|class| !reads && !transfer.classes.contains_key(class));
            if former.counts.is_empty() {
                former.close(State::Closed, line);
            }
        }
        let counts = transfer.classes.keys().cloned().collect();
        open.push(Open { transfer, counts, before });
    }

    fn count(&mut self, line: &Line<LedgerEvent>, session: SessionId, state: State, told: &Told) {
        let open = self.open.get_mut(&session).into_iter().flatten();
        for open in open.filter(|open| open.transfer.state == State::Open) {
            open.count(told);
            if state != State::Open {
                open.close(state, line);
            }
        }
    }

    fn over(&mut self, session: SessionId) {
        let approvals = self.approvals.remove(&session).unwrap_or_default();
        self.holds.retain(|_, of| *of != session);
        self.told.remove(&session);
        for Open { mut transfer, .. } in self.open.remove(&session).unwrap_or_default() {
            if self.window.touches(transfer.opened_at, transfer.closed_at) {
                transfer.approvals.clone_from(&approvals);
                self.finished.push(transfer);
            }
        }
    }
}

impl Open {
    fn reads(&self) -> bool {
        self.transfer.direction == "read"
    }

    fn is_open_as(&self, direction: &str) -> bool {
        self.transfer.state == State::Open && self.transfer.direction == direction
    }

    fn count(&mut self, told: &Told) {
        let reads = self.reads();
        let (classes, before) = if reads {
            (&told.carried, &self.before.carried)
        } else {
            (&told.written, &self.before.written)
        };
        let transfer = &mut self.transfer;
        for (class, volume) in classes {
            if reads || self.counts.contains(class) {
                let before = before.get(class).copied().unwrap_or_default();
                transfer.classes.insert(class.clone(), volume.less(before));
            }
        }
        if reads {
            // What was counted last and, after a crash, what a trail has, are both lower bounds.
            let moved = told.volume.less(self.before.volume);
            transfer.volume = transfer.volume.at_least(moved);
        } else if let Some(most) = transfer.classes.values().max_by_key(|volume| volume.bytes) {
            // A command may write several classes: its bytes went to the target once.
            transfer.volume = *most;
        }
    }

    fn close(&mut self, state: State, line: &Line<LedgerEvent>) {
        self.transfer.state = state;
        self.transfer.closed_entry = Some(line.n);
        self.transfer.closed_at = Some(line.at);
    }
}

fn opened(line: &Line<LedgerEvent>) -> Option<Transfer> {
    let LedgerEvent::TransferOpened {
        session,
        from,
        to,
        place,
        direction,
        classes,
        basis,
        facts,
        look,
    } = &line.event
    else {
        return None;
    };
    Some(Transfer {
        entry: line.n,
        opened_at: line.at,
        closed_entry: None,
        closed_at: None,
        state: State::Open,
        session: *session,
        direction: direction.clone(),
        exporter: from.clone(),
        importer: to.clone(),
        place: place.clone(),
        basis: basis.clone(),
        facts: facts.clone(),
        classes: classes.iter().map(|class| (class.clone(), Volume::default())).collect(),
        volume: Volume::default(),
        approvals: Vec::new(),
        look: *look,
    })
}
