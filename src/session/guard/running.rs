//! A command that was let go on: what follows it to the target, and what comes back.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::audit::TrailEvent;
use crate::audit::Unrecorded;
use crate::audit::entry::Ending;
use crate::audit::entry::Sample;
use crate::audit::entry::Volume;
use crate::model::Command;
use crate::model::Refusal;
use crate::model::refusal::IntoRefusal;
use crate::model::verdict::Masks;
use crate::session::guard::Answer;
use crate::session::guard::Cleared;
use crate::session::guard::Guard;
use crate::session::guard::Released;
use crate::session::guard::Withheld;

/// A command that was let go on. Its end is recorded by [`Running::end`], or, when it is dropped
/// before, as cut.
#[derive(Debug)]
pub struct Running {
    guard: Arc<Guard>,
    number: u64,
    /// What is sent is kept in the record, unless the command carries classified data to the
    /// target: values that somebody writes are no more for the record than values that are masked.
    keeps_sent: bool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    volume: Volume,
    sent_bytes: u64,
    result: Vec<u8>,
    result_cut: bool,
    sent: Vec<u8>,
    ended: bool,
}

impl Running {
    pub(super) fn new(guard: Arc<Guard>, number: u64, command: &Command) -> Self {
        let keeps_sent = command.writes.is_empty();
        guard.pulse.begin();
        guard.live.begins();
        Self { guard, number, keeps_sent, kept: Mutex::default() }
    }

    /// The command's number in its session.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The session's guard.
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// Clears what follows the command to the target: stdin, a body. Refused once the session has
    /// to end.
    pub fn more<F: AsRef<[u8]>>(&self, part: F) -> Result<Cleared<F>, Refusal> {
        if let Some(reason) = self.guard.over() {
            return Err(reason.refusal());
        }
        self.guard.pulse.beat();
        let mut kept = self.kept();
        let bytes = part.as_ref();
        let keep = if self.keeps_sent { self.guard.parts.result_bytes_max } else { 0 };
        let room = keep.saturating_sub(kept.sent.len());
        kept.sent.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        kept.sent_bytes =
            kept.sent_bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(Cleared::once_recorded(self.guard.session(), part))
    }

    /// Releases an answer: masked, counted, and, if it is a transfer, in the ledger.
    pub fn release<A: Answer>(
        &self,
        masks: &Masks,
        answer: A,
    ) -> Result<Released<A::Out>, Withheld> {
        let room = {
            let kept = self.kept();
            self.guard.parts.result_bytes_max.saturating_sub(kept.result.len())
        };
        self.guard.pulse.beat();
        let masked = answer.masked(masks, room)?;
        self.guard.account(masked.volume)?;
        let mut kept = self.kept();
        kept.volume.add(masked.volume);
        kept.result_cut |= masked.shown.len() > room || (room == 0 && masked.volume.bytes > 0);
        kept.result.extend_from_slice(masked.shown.get(..room).unwrap_or(&masked.shown));
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
        let sent_cut = kept.sent_bytes > u64::try_from(kept.sent.len()).unwrap_or(u64::MAX);
        let event = TrailEvent::Ended {
            number: self.number,
            ending,
            volume: kept.volume,
            sent_bytes: kept.sent_bytes,
            result: sample(&kept.result, kept.result_cut),
            sent: sample(&kept.sent, sent_cut),
        };
        (kept.result, kept.sent) = (Vec::new(), Vec::new());
        drop(kept);
        self.guard.trail.append(&event).map(|_| ())
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

fn sample(bytes: &[u8], cut: bool) -> Option<Sample> {
    if bytes.is_empty() && !cut {
        return None;
    }
    Some(Sample { text: String::from_utf8_lossy(bytes).into_owned(), cut })
}
