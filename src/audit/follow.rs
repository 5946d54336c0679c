//! Reading a recording while it is written.

use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::audit::Audit;
use crate::audit::recording::Entries;
use crate::audit::recording::Entry;
use crate::audit::recording::Seen;
use crate::audit::spooled;
use crate::model::SessionId;

/// Follows a recording in the spool: what is written is read, chunk by whole chunk. The file stays
/// open, so that the end of the session and even its leaving the spool are no matter.
#[derive(Debug)]
pub struct Follower {
    audit: Arc<Audit>,
    session: SessionId,
    until: Arc<AtomicU64>,
    entries: Entries<BufReader<Bounded>>,
    ended: bool,
}

/// A file as far as it is known to be written.
#[derive(Debug)]
struct Bounded {
    file: File,
    at: u64,
    until: Arc<AtomicU64>,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.until.load(Ordering::Acquire).saturating_sub(self.at);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let read = match into.get_mut(..length) {
            Some(place) if !place.is_empty() => self.file.read(place)?,
            Some(_) | None => 0,
        };
        self.at = self.at.saturating_add(u64::try_from(read).unwrap_or_default());
        Ok(read)
    }
}

impl Follower {
    /// Follows `session`; `None` where the spool has no recording of it.
    pub fn begin(audit: &Arc<Audit>, session: SessionId) -> io::Result<Option<Self>> {
        let Some((file, key)) = audit.spooled_file(session)? else { return Ok(None) };
        let until = Arc::new(AtomicU64::new(0));
        let (bytes, ended) = written(audit, session, &file)?;
        until.store(bytes, Ordering::Release);
        let bounded = Bounded { file, at: 0, until: Arc::clone(&until) };
        let entries = spooled::entries(BufReader::new(bounded), session, &key)?;
        Ok(Some(Self { audit: Arc::clone(audit), session, until, entries, ended }))
    }

    /// What was written since, up to its end at this moment: the next entry, or the end so far. Blocks
    /// as reading a file does.
    #[expect(clippy::should_implement_trait, reason = "its end is only the end so far")]
    pub fn next(&mut self) -> io::Result<Seen<Entry>> {
        match self.entries.next()? {
            Seen::End if !self.ended => {
                let file = self.entries.reader().get_ref();
                let (bytes, ended) = written(&self.audit, self.session, &file.file)?;
                self.until.store(bytes, Ordering::Release);
                self.ended = ended;
                self.entries.next()
            }
            seen @ (Seen::One(_) | Seen::End | Seen::Damaged(_)) => Ok(seen),
        }
    }

    /// Whether the session has ended: what is read up to the end then is all.
    pub fn has_ended(&self) -> bool {
        self.ended
    }
}

/// How much of a session's recording is written, and whether that is all.
fn written(audit: &Audit, session: SessionId, file: &File) -> io::Result<(u64, bool)> {
    match audit.written(session) {
        Some(bytes) => Ok((bytes, false)),
        None => Ok((file.metadata()?.len(), true)),
    }
}
