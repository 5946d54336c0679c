//! From a recording's events to batches for the index.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::audit::TrailEvent;
use crate::audit::entry::Opened;
use crate::audit::entry::Volume;
use crate::model::DataClass;
use crate::model::SessionId;
use crate::store::commands::IndexedCommand;

/// How many different commands make a batch full.
const BATCH_COMMANDS_MAX: usize = 1_000;
/// How many bytes of texts make a batch full.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most commands whose end is awaited; of the oldest beyond them the volume is not known.
const OPEN_COMMANDS_MAX: usize = 10_000;

/// What a piece of a recording adds to the index: made by a [`Collector`], or by hand.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(super) session: SessionId,
    pub(super) after: u64,
    pub(super) upto: u64,
    pub(super) opened: Option<(Timestamp, Box<Opened>)>,
    pub(super) closed: Option<Ended>,
    pub(super) commands: BTreeMap<String, (IndexedCommand, Count)>,
    pub(super) classes: BTreeMap<(DataClass, bool), Volume>,
    bytes: usize,
}

/// How often the same command was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    pub(super) last_at: Timestamp,
    pub(super) times: u64,
    pub(super) denied: u64,
    pub(super) held: u64,
}

/// How a session ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) at: Timestamp,
    pub(super) reason: String,
    pub(super) commands: u64,
    pub(super) denied: u64,
    pub(super) volume: Volume,
}

impl Batch {
    /// An empty one that goes on behind the first `after` entries of a session's recording.
    pub fn new(session: SessionId, after: u64) -> Self {
        Self {
            session,
            after,
            upto: after,
            opened: None,
            closed: None,
            commands: BTreeMap::new(),
            classes: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// It goes as far as the first `entries` entries.
    pub fn goes_to(&mut self, entries: u64) {
        self.upto = self.upto.max(entries);
    }

    /// Whether it goes anywhere.
    pub fn is_empty(&self) -> bool {
        self.upto == self.after
    }

    /// Whether it is time to write it.
    pub fn is_full(&self) -> bool {
        self.commands.len() >= BATCH_COMMANDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Adds a command.
    pub fn add(&mut self, command: IndexedCommand) {
        let (at, denied, held) = (command.at, command.denied, command.held);
        let size = command.text.len();
        let row = self.commands.entry(command.digest.clone()).or_insert_with(|| {
            self.bytes = self.bytes.saturating_add(size);
            (command, Count { last_at: at, times: 0, denied: 0, held: 0 })
        });
        let count = &mut row.1;
        count.last_at = at;
        count.times = count.times.saturating_add(1);
        count.denied = count.denied.saturating_add(u64::from(denied));
        count.held = count.held.saturating_add(u64::from(held));
    }

    /// Adds that answers of `volume` may have carried `class`, and whether it was shown.
    pub fn carried(&mut self, class: DataClass, shown: bool, volume: Volume) {
        self.classes.entry((class, shown)).or_default().add(volume);
    }
}

/// Reads the events of one session's recording, from its beginning, and makes batches of what is
/// behind the index's cursor.
///
/// ```text
/// let Some(cursor) = store.index_cursor(session).await? else { return };   // forgotten
/// let mut collector = Collector::new(session, cursor);
/// for line in recording {                                 // from the first entry
///     collector.read(line.n, line.at, &line.event);
///     if collector.is_full() { store.index_commands(&collector.take()).await?; }
/// }
/// store.index_commands(&collector.take()).await?;         // may go on later with the same one
/// ```
#[derive(Debug)]
pub struct Collector {
    batch: Batch,
    cursor: u64,
    /// What is hidden now; nothing is known before it was first decided.
    hidden: BTreeSet<DataClass>,
    /// What the answers of commands that have not ended may carry.
    open: BTreeMap<u64, BTreeSet<DataClass>>,
    denied: u64,
}

impl Collector {
    /// One for a recording of which the first `cursor` entries are in the index. Those are read for
    /// what they tell about later ones.
    pub fn new(session: SessionId, cursor: u64) -> Self {
        Self {
            batch: Batch::new(session, cursor),
            cursor,
            hidden: BTreeSet::new(),
            open: BTreeMap::new(),
            denied: 0,
        }
    }

    /// Reads the `n`th entry (from 1).
    pub fn read(&mut self, n: u64, at: Timestamp, event: &TrailEvent) {
        let fresh = n > self.cursor;
        if fresh {
            self.batch.goes_to(n);
        }
        match event {
            TrailEvent::Opened(opened) if fresh => {
                self.batch.opened = Some((at, opened.clone()));
            }
            TrailEvent::Command { number, command, verdict, observed, .. } => {
                let command_row = IndexedCommand::of(*number, at, command, verdict, *observed);
                self.denied = self.denied.saturating_add(u64::from(command_row.denied));
                if !command_row.denied && !command.reads.is_empty() {
                    self.open.insert(*number, command.reads.clone());
                    if self.open.len() > OPEN_COMMANDS_MAX {
                        self.open.pop_first();
                    }
                }
                if fresh {
                    self.batch.add(command_row);
                }
            }
            // What is observed is not applied, so everything was shown.
            TrailEvent::Masks { hidden, observed, .. } => {
                self.hidden =
                    if *observed { BTreeSet::new() } else { hidden.keys().cloned().collect() };
            }
            TrailEvent::Ended { number, volume, .. } => {
                let classes = self.open.remove(number).unwrap_or_default();
                if fresh && (volume.rows > 0 || volume.bytes > 0) {
                    for class in classes {
                        let shown = !self.hidden.contains(&class);
                        self.batch.carried(class, shown, *volume);
                    }
                }
            }
            TrailEvent::Closed { reason, commands, volume } if fresh => {
                self.batch.closed = Some(Ended {
                    at,
                    reason: reason.clone(),
                    commands: *commands,
                    denied: self.denied,
                    volume: *volume,
                });
            }
            TrailEvent::Opened(_)
            | TrailEvent::Held { .. }
            | TrailEvent::HoldEnded { .. }
            | TrailEvent::Terminal { .. }
            | TrailEvent::Refused { .. }
            | TrailEvent::Leg { .. }
            | TrailEvent::Closed { .. } => {}
        }
    }

    /// Whether it is time to write what was read.
    pub fn is_full(&self) -> bool {
        self.batch.is_full()
    }

    /// What was read since the last time. It is lost where it is not written: then a new collector
    /// begins.
    pub fn take(&mut self) -> Batch {
        self.cursor = self.cursor.max(self.batch.upto);
        let next = Batch::new(self.batch.session, self.cursor);
        std::mem::replace(&mut self.batch, next)
    }
}
