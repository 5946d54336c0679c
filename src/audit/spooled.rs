//! What is in the spool: recordings that are read back before the store has them, and let go.

use std::fs;
use std::io;
use std::io::BufReader;

use crate::audit::Audit;
use crate::audit::keys::DataKey;
use crate::audit::keys::WrappedKey;
use crate::audit::record::lock;
use crate::audit::recording::Chunks;
use crate::audit::recording::Entries;
use crate::audit::spool;
use crate::audit::spool::Folders;
use crate::model::SessionId;

impl Audit {
    /// The entries of a session's recording, if it is in the spool; what waits is written first.
    pub fn spooled(
        &self,
        session: SessionId,
    ) -> io::Result<Option<Entries<Box<dyn io::BufRead + Send>>>> {
        let Some((file, key)) = self.spooled_file(session)? else { return Ok(None) };
        let reader: Box<dyn io::BufRead + Send> = match self.written(session) {
            // What is being written at this moment is not read in its midst.
            Some(bytes) => Box::new(BufReader::new(io::Read::take(file, bytes))),
            None => Box::new(BufReader::new(file)),
        };
        entries(reader, session, &key).map(Some)
    }

    /// The file of a session's recording and its key, if it is in the spool.
    pub(super) fn spooled_file(
        &self,
        session: SessionId,
    ) -> io::Result<Option<(fs::File, DataKey)>> {
        let Some(path) = self.folders.find(session) else { return Ok(None) };
        // A session may end, and its file move, between the look and the opening.
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::File::open(spool::recording_of(&self.folders.closed, session))?
            }
            opened => opened?,
        };
        let key = self.spooled_key(session)?;
        Ok(Some((file, key)))
    }

    /// How many bytes of an open session's recording are written, what waits among them.
    pub(super) fn written(&self, session: SessionId) -> Option<u64> {
        let trail = lock(&self.open).get(&session).cloned()?;
        trail.flush();
        Some(trail.bytes())
    }

    /// The data key of a recording in the spool.
    pub(super) fn spooled_key(&self, session: SessionId) -> io::Result<DataKey> {
        let wrapped = self.spooled_wrapped(session)?;
        self.keys.unwrap(&wrapped, &session, &self.region).map_err(io::Error::other)
    }

    /// The wrapped data key of a recording in the spool.
    pub fn spooled_wrapped(&self, session: SessionId) -> io::Result<WrappedKey> {
        let Folders { open, closed } = &self.folders;
        let bytes = fs::read(spool::key_of(open, session))
            .or_else(|_| fs::read(spool::key_of(closed, session)))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Lets go of a recording in the spool that ended: the store has it, or it was erased. The key
    /// goes first: where the rest fails, nobody can read what is left.
    pub fn forget(&self, session: SessionId) -> io::Result<()> {
        gone(fs::remove_file(spool::key_of(&self.folders.closed, session)))?;
        let path = spool::recording_of(&self.folders.closed, session);
        let bytes = match fs::metadata(&path) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        gone(fs::remove_file(&path))?;
        self.room.give_back(bytes);
        Ok(())
    }
}

/// The entries of `session`'s recording, opened with `key`.
pub(super) fn entries<R: io::BufRead>(
    reader: R,
    session: SessionId,
    key: &DataKey,
) -> io::Result<Entries<R>> {
    let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let chunks = Chunks::begin(reader)?.map_err(|damage| damaged(damage.to_string()))?;
    if chunks.header().session != session {
        return Err(damaged(format!("it is the recording of {}", chunks.header().session)));
    }
    let opened = Entries::open(chunks, key)?;
    opened.ok_or_else(|| damaged("the key at hand is another recording's".to_owned()))
}

/// Whether a file is gone, by us or before.
pub(super) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
