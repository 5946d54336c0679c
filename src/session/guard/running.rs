//! A command that was let go on: what follows it to the target, and what comes back.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::audit::TrailEvent;
use crate::audit::Unrecorded;
use crate::audit::entry::Ending;
use crate::audit::entry::Volume;
use crate::audit::recording::Stream;
use crate::model::Command;
use crate::model::Refusal;
use crate::model::refusal::IntoRefusal;
use crate::model::verdict::Masks;
use crate::session::guard::Answer;
use crate::session::guard::Cleared;
use crate::session::guard::Guard;
use crate::session::guard::Released;
use crate::session::guard::Withheld;
use crate::session::guard::typed::Typed;

/// A command that was let go on. Its end is recorded by [`Running::end`], or, when it is dropped
/// before, as cut.
#[derive(Debug)]
pub struct Running {
    guard: Arc<Guard>,
    number: u64,
    command: Arc<Command>,
    /// What is sent is kept in the record, unless the command carries classified data to the
    /// target: values that somebody writes are no more for the record than values that are masked.
    keeps_sent: bool,
    /// It runs on a terminal: all that is shown and typed is kept.
    terminal: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    volume: Volume,
    /// How many bytes came back in the form that people read, and how many of them are recorded.
    shown: usize,
    result_cut: bool,
    sent_bytes: u64,
    sent: usize,
    sent_cut: bool,
    typed: Typed,
    ended: bool,
}

impl Running {
    pub(super) fn new(guard: Arc<Guard>, number: u64, command: &Arc<Command>) -> Self {
        let keeps_sent = command.writes.is_empty();
        guard.pulse.begin();
        guard.live.begins();
        let (command, terminal) = (Arc::clone(command), AtomicBool::new(false));
        Self { guard, number, command, keeps_sent, terminal, kept: Mutex::default() }
    }

    /// The command's number in its session.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The session's guard.
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// Says that the command runs on a terminal of this size: its session can be watched and played
    /// again, so all that is shown and typed is kept. Called again when the size changes.
    pub fn on_terminal(&self, columns: u32, rows: u32) -> Result<(), Refusal> {
        self.terminal.store(true, Ordering::Release);
        let event = TrailEvent::Terminal { number: self.number, columns, rows };
        self.guard.trail.note(&event).map_err(|error| self.guard.unrecorded(&error))
    }

    /// Clears what follows the command to the target: stdin, a body. Refused once the session has
    /// to end.
    pub fn more<F: AsRef<[u8]>>(&self, part: F) -> Result<Cleared<F>, Refusal> {
        if let Some(reason) = self.guard.over() {
            return Err(reason.refusal());
        }
        self.guard.pulse.beat();
        let bytes = part.as_ref();
        let recorded = {
            let mut kept = self.kept();
            let room = if self.keeps_sent { self.room().saturating_sub(kept.sent) } else { 0 };
            let recorded = bytes.get(..room.min(bytes.len())).unwrap_or_default();
            kept.sent = kept.sent.saturating_add(recorded.len());
            kept.sent_cut |= recorded.len() < bytes.len();
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            kept.sent_bytes = kept.sent_bytes.saturating_add(length);
            if self.is_terminal() { kept.typed.visible(recorded) } else { recorded.to_vec() }
        };
        let trail = &self.guard.trail;
        trail
            .data(self.number, Stream::Input, &recorded)
            .map_err(|error| self.guard.unrecorded(&error))?;
        self.guard.writes(&self.command, &self.guard.snapshot(), 0, bytes.len())?;
        Ok(Cleared::once_recorded(self.guard.session(), part))
    }

    /// Releases an answer: masked, counted, recorded, and, if it is a transfer, in the ledger.
    pub fn release<A: Answer>(
        &self,
        masks: &Masks,
        answer: A,
    ) -> Result<Released<A::Out>, Withheld> {
        let room = self.room().saturating_sub(self.kept().shown);
        self.guard.pulse.beat();
        let masked = answer.masked(masks, room)?;
        self.guard.account(masked.volume, &self.command.reads)?;
        let shown = masked.shown.get(..room).unwrap_or(&masked.shown);
        {
            let mut kept = self.kept();
            kept.volume.add(masked.volume);
            kept.shown = kept.shown.saturating_add(shown.len());
            kept.result_cut |= masked.shown.len() > room || (room == 0 && masked.volume.bytes > 0);
            if self.is_terminal() {
                kept.typed.shown(shown);
            }
        }
        self.guard.trail.data(self.number, masked.stream, shown)?;
        Ok(Released::once_masked(self.guard.session(), masked.out))
    }

    /// Records how the command ended. The first end given stays.
    pub fn end(&self, ending: Ending) -> Result<(), Unrecorded> {
        let mut kept = self.kept();
        if kept.ended {
            return Ok(());
        }
        kept.ended = true;
        self.guard.pulse.end();
        self.guard.live.finishes();
        let event = TrailEvent::Ended {
            number: self.number,
            ending,
            volume: kept.volume,
            sent_bytes: kept.sent_bytes,
            result_cut: kept.result_cut,
            sent_cut: kept.sent_cut,
        };
        let cut_off = kept.typed.end();
        drop(kept);
        self.guard.trail.data(self.number, Stream::Input, &cut_off)?;
        self.guard.trail.note(&event)?;
        self.guard.parts.feed.offer(self.guard.session(), self.guard.now(), &event);
        Ok(())
    }

    fn is_terminal(&self) -> bool {
        self.terminal.load(Ordering::Acquire)
    }

    /// How much of a result, and of what is sent, is kept, in bytes.
    fn room(&self) -> usize {
        if self.is_terminal() { usize::MAX } else { self.guard.parts.result_bytes_max }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let reason = self.guard.state().reason.clone();
        let reason = reason
            .unwrap_or_else(|| "it was still running when its session or stream ended".into());
        if let Err(error) = self.end(Ending::Cut { reason }) {
            self.guard.unrecorded(&error);
        }
    }
}
