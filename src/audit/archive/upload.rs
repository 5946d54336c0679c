//! Recordings, from the spool to the store, a segment at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::audit::archive::Archive;
use crate::audit::archive::ArchiveError;
use crate::audit::archive::BEHIND_S_MAX;
use crate::audit::archive::SEGMENT_BYTES_MAX;
use crate::audit::archive::Shelved;
use crate::audit::archive::ledger::LedgerSent;
use crate::audit::entry::LedgerEvent;
use crate::audit::spool;
use crate::audit::storage::BadName;
use crate::audit::storage::Name;
use crate::audit::storage::OBJECT_BYTES_MAX;
use crate::audit::storage::Stored;
use crate::model::SessionId;

/// How far uploads are, as far as this process knows.
#[derive(Debug, Default)]
pub(super) struct Progress {
    sessions: BTreeMap<SessionId, Sent>,
    pub(super) ledger: Option<LedgerSent>,
    /// Recordings that cannot be brought to the store, and until when they are left alone.
    resting: BTreeMap<SessionId, Instant>,
    /// Where the last round had to end.
    next: Option<SessionId>,
}

/// How much of a recording the store has.
#[derive(Debug, Clone)]
struct Sent {
    /// So many bytes this process created, or held against the spool.
    bytes: u64,
    at: Timestamp,
    /// They are all that the store has. Not known while something is on its way, nor after that failed.
    listed: bool,
    /// Why its key cannot be read, if it cannot.
    keyless: Option<String>,
}

/// What became of sending a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// The store has it, as far as was asked.
    Done,
    /// There was no time for the rest.
    Partly,
    /// It was erased: nothing is sent any more.
    Erased,
    /// It cannot be sent now, for a reason of its own.
    Stuck,
}

/// Where a session's wrapped key is.
enum Shelving {
    Shelved,
    Destroyed,
    Unreadable(String),
}

impl Progress {
    /// Forgets what is neither open nor waits any more.
    pub(super) fn retain<T>(&mut self, due: &BTreeMap<SessionId, T>) {
        self.sessions.retain(|session, _| due.contains_key(session));
        self.resting.retain(|session, _| due.contains_key(session));
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.resting.remove(&session);
    }

    /// The session with which the next round begins, if the last one could not end.
    pub(super) fn next_from(&mut self) -> Option<SessionId> {
        self.next.take()
    }

    pub(super) fn go_on_from(&mut self, session: SessionId) {
        self.next = Some(session);
    }

    /// Leaves a recording alone for a while.
    pub(super) fn rest(&mut self, session: SessionId, until: Instant) {
        self.resting.insert(session, until);
    }

    pub(super) fn rests(&self, session: SessionId) -> bool {
        self.resting.get(&session).is_some_and(|until| Instant::now() < *until)
    }
}

/// The folder of a session's segments.
pub(super) fn folder_of(session: SessionId) -> Result<Name, BadName> {
    format!("recordings/{session}").parse()
}

/// The byte with which a segment begins, by its name.
fn first_of(name: &Name) -> Option<u64> {
    name.as_str().rsplit('/').next()?.strip_suffix(".seg")?.parse().ok()
}

impl Archive {
    /// Brings a recording to the store that is written to its end, and lets it go from the spool.
    pub(super) async fn closed(
        &self,
        progress: &mut Progress,
        session: SessionId,
        lets_go: bool,
        until: Instant,
    ) -> Result<Sending, ArchiveError> {
        let path = spool::recording_of(&self.audit.folders().closed, session);
        let length = match std::fs::metadata(&path) {
            Ok(found) => found.len(),
            // It was erased since somebody looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sending::Erased),
            Err(error) => return Err(error.into()),
        };
        match self.send(progress, session, (&path, length), until).await? {
            Sending::Erased => {
                self.audit.forget(session)?;
                return Ok(Sending::Erased);
            }
            Sending::Done => {}
            sent @ (Sending::Partly | Sending::Stuck) => return Ok(sent),
        }
        let sent = progress.sessions.get(&session);
        if sent.is_some_and(|sent| sent.bytes != length) {
            return Err(ArchiveError::Foreign { what: format!("more of {session}") });
        }
        if let Some(why) = sent.and_then(|sent| sent.keyless.clone()) {
            return Err(ArchiveError::Keyless { why });
        }
        if !lets_go {
            return Ok(Sending::Done);
        }
        let store = self.storage.shown().to_owned();
        self.audit.record(&LedgerEvent::Stored { session, store, bytes: length })?;
        self.audit.forget(session)?;
        progress.forget(session);
        Ok(Sending::Done)
    }

    /// Brings to the store what is due of a recording that grows: whole segments, and what is left
    /// once it is a minute old.
    pub(super) async fn open(
        &self,
        progress: &mut Progress,
        session: SessionId,
        (bytes, all): (u64, bool),
        until: Instant,
    ) -> Result<Sending, ArchiveError> {
        let now = self.audit.clock().now();
        let fresh = Sent { bytes: 0, at: now, listed: false, keyless: None };
        let sent = progress.sessions.entry(session).or_insert(fresh);
        let waiting = bytes.saturating_sub(sent.bytes);
        let age = now.duration_since(sent.at).as_secs();
        let old = age >= i64::try_from(BEHIND_S_MAX).unwrap_or(i64::MAX);
        if waiting == 0 || !(all || old || waiting >= SEGMENT_BYTES_MAX) {
            return Ok(Sending::Done);
        }
        let path = spool::recording_of(&self.audit.folders().open, session);
        let length = if all || old { bytes } else { bytes - waiting % SEGMENT_BYTES_MAX };
        match self.send(progress, session, (&path, length), until).await {
            // It ended meanwhile and is with the closed ones: the next round has it.
            Err(ArchiveError::Spool(error)) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Sending::Done)
            }
            sent => sent,
        }
    }

    /// Sends the first `length` bytes of a recording, behind its key. Cancel safe: what the store has
    /// is asked anew after anything that did not come to its end.
    async fn send(
        &self,
        progress: &mut Progress,
        session: SessionId,
        (path, length): (&Path, u64),
        until: Instant,
    ) -> Result<Sending, ArchiveError> {
        let now = self.audit.clock().now();
        let known = progress.sessions.get(&session).cloned();
        let mut sent = known.unwrap_or(Sent { bytes: 0, at: now, listed: false, keyless: None });
        progress.sessions.insert(session, Sent { listed: false, ..sent.clone() });
        let mut file = File::open(path)?;
        if !sent.listed {
            sent.keyless = match self.shelve(session).await? {
                Shelving::Shelved => None,
                Shelving::Unreadable(why) => Some(why),
                Shelving::Destroyed => {
                    // It was erased while it waited here.
                    progress.forget(session);
                    return Ok(Sending::Erased);
                }
            };
            sent.bytes = self.compared(session, &mut file, sent.bytes).await?;
            sent.listed = true;
        }
        if sent.bytes < length {
            on_disk(&file).await?;
        }
        while sent.bytes < length {
            if Instant::now() >= until {
                progress.sessions.insert(session, sent);
                return Ok(Sending::Partly);
            }
            let segment = length.saturating_sub(sent.bytes).min(SEGMENT_BYTES_MAX);
            let bytes = part(&mut file, sent.bytes, segment)?;
            let name = format!("recordings/{session}/{:020}.seg", sent.bytes).parse::<Name>()?;
            self.put(&name, bytes).await?;
            sent.bytes = sent.bytes.saturating_add(segment);
            sent.at = now;
            progress.sessions.insert(session, Sent { listed: false, ..sent.clone() });
        }
        progress.sessions.insert(session, sent);
        Ok(Sending::Done)
    }

    /// Puts a session's wrapped key on the shelf, unless it is there, or was destroyed.
    async fn shelve(&self, session: SessionId) -> Result<Shelving, ArchiveError> {
        let shelved = self.shelf.find(session).await?;
        if let Some(Shelved::Destroyed { .. }) = shelved {
            return Ok(Shelving::Destroyed);
        }
        match self.audit.spooled_wrapped(session) {
            Ok(key) => self.shelf.put(session, &key).await?,
            Err(_) if shelved.is_some() => {}
            // A loss of power may leave a file without what was written to it, or no file.
            Err(error) if is_lost(&error) => return Ok(Shelving::Unreadable(error.to_string())),
            Err(error) => return Err(error.into()),
        }
        Ok(Shelving::Shelved)
    }

    /// How many bytes of a recording the store has, from its beginning on. What is there beyond `sure`
    /// is held against the file.
    async fn compared(
        &self,
        session: SessionId,
        file: &mut File,
        sure: u64,
    ) -> Result<u64, ArchiveError> {
        let mut bytes = 0_u64;
        for object in self.storage.list(Some(&folder_of(session)?)).await? {
            let end = bytes.saturating_add(object.bytes);
            let ours = first_of(&object.name) == Some(bytes)
                && (1..=OBJECT_BYTES_MAX).contains(&object.bytes)
                && (end <= sure || bytes >= sure && self.is_same(&object, file, bytes).await?);
            if !ours {
                return Err(ArchiveError::Foreign { what: object.name.to_string() });
            }
            bytes = end;
        }
        Ok(bytes)
    }

    /// Whether an object has the bytes that the file has from `first` on.
    async fn is_same(
        &self,
        object: &Stored,
        file: &mut File,
        first: u64,
    ) -> Result<bool, ArchiveError> {
        let here = match part(file, first, object.bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            here => here?,
        };
        Ok(self.storage.read(&object.name).await? == here)
    }
}

fn is_lost(error: &io::Error) -> bool {
    use io::ErrorKind::InvalidData;
    use io::ErrorKind::NotFound;
    use io::ErrorKind::UnexpectedEof;
    [InvalidData, NotFound, UnexpectedEof].contains(&error.kind())
}

/// Returns once the disk has what was written to a file: what the store has must not be lost here, or
/// the two would differ after a loss of power.
async fn on_disk(file: &File) -> io::Result<()> {
    let file = file.try_clone()?;
    let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
    synced.map_err(io::Error::other)?
}

fn part(file: &mut File, from: u64, length: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    Read::take(file, length).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).ok() != Some(length) {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a recording got shorter"));
    }
    Ok(bytes.into())
}
