//! Writes a recording: frames are gathered, and a chunk is one `write`.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use crate::audit::chain::Head;
use crate::audit::entry::TrailEvent;
use crate::audit::keys::DataKey;
use crate::audit::recording::Header;
use crate::audit::recording::Stream;
use crate::audit::recording::chunk::CHUNK_BYTES;
use crate::audit::recording::chunk::Cipher;
use crate::audit::recording::chunk::Position;
use crate::audit::recording::frame;
use crate::audit::spool::Room;

/// What an idle session keeps of its buffer, in bytes.
const KEPT_BYTES: usize = 1_024;
/// Longest data frame, in bytes: what crosses at once is parted.
const PART_BYTES_MAX: usize = 64 * 1024;

/// A recording that is being written.
#[derive(Debug)]
pub struct Writer {
    file: Arc<File>,
    room: Arc<Room>,
    cipher: Cipher,
    head: Head,
    chunks: u64,
    attempt: u32,
    /// Frames that are in no chunk yet.
    waiting: Vec<u8>,
    frames: u32,
    bytes: u64,
    /// Set when a failed write could not be undone: what the file ends with is then unknown.
    broken: bool,
    /// The last event is being written, for which there is always room.
    beyond: bool,
    /// It is written.
    finished: bool,
}

impl Writer {
    /// Creates the file, which must not exist, and writes the header.
    pub fn create(
        path: &Path,
        header: &Header,
        key: &DataKey,
        room: Arc<Room>,
    ) -> io::Result<Self> {
        let cipher = Cipher::new(key)?;
        let bytes = header.bytes()?;
        let length = length_of(&bytes);
        room.take(length)?;
        let created = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
        let written = created.and_then(|mut file| file.write_all(&bytes).map(|()| file));
        let file = written.inspect_err(|_| room.give_back(length))?;
        Ok(Self {
            file: Arc::new(file),
            room,
            cipher,
            head: Head { entries: 0, digest: crate::model::digest::Digest::of(&bytes) },
            chunks: 0,
            attempt: 0,
            waiting: Vec::new(),
            frames: 0,
            bytes: length,
            broken: false,
            beyond: false,
            finished: false,
        })
    }

    /// Where the chunks that are written stand.
    pub fn head(&self) -> Head {
        self.head
    }

    /// How long the file is, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file, to be synchronized.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Whether frames wait to be written.
    pub fn waits(&self) -> bool {
        self.frames > 0
    }

    /// How much waits to be written, in bytes.
    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.len()
    }

    /// Adds an event to the next chunk; it is not written yet.
    pub fn event(&mut self, at: Timestamp, event: &TrailEvent) -> io::Result<()> {
        self.seal_if_full()?;
        frame::put_event(&mut self.waiting, at, event)?;
        self.frames = self.frames.saturating_add(1);
        self.seal_if_full()
    }

    /// Adds an event, and writes it with everything that waits. When this returns the event has left
    /// the process; when it fails the event is in no chunk and never will be.
    pub fn append(&mut self, at: Timestamp, event: &TrailEvent) -> io::Result<Head> {
        self.seal_if_full()?;
        let (length, frames) = (self.waiting.len(), self.frames);
        frame::put_event(&mut self.waiting, at, event)?;
        self.frames = self.frames.saturating_add(1);
        self.seal().inspect_err(|_| {
            self.waiting.truncate(length);
            self.frames = frames;
        })
    }

    /// Adds the last event, and writes it with everything that waits, beyond the spool's bound if need
    /// be: what happened is not dropped, and nothing comes after it. Done twice, it is done once.
    pub fn finish(&mut self, at: Timestamp, event: &TrailEvent) -> io::Result<Head> {
        if self.finished {
            return Ok(self.head);
        }
        self.beyond = true;
        let written = self.append(at, event);
        self.beyond = false;
        self.finished = written.is_ok();
        written
    }

    /// Adds bytes that crossed; full chunks are written.
    pub fn data(
        &mut self,
        at: Timestamp,
        command: u64,
        stream: Stream,
        bytes: &[u8],
    ) -> io::Result<()> {
        for part in bytes.chunks(PART_BYTES_MAX) {
            self.seal_if_full()?;
            frame::put_data(&mut self.waiting, at, command, stream, part)?;
            self.frames = self.frames.saturating_add(1);
            self.seal_if_full()?;
        }
        Ok(())
    }

    /// Writes what waits as one chunk.
    pub fn seal(&mut self) -> io::Result<Head> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed and could not be undone"));
        }
        if self.frames == 0 {
            return Ok(self.head);
        }
        let number = self.chunks.saturating_add(1);
        let at = Position { number, attempt: self.attempt, prev: self.head.digest };
        // Another try at the same number must not use the same nonce.
        self.attempt = self.attempt.checked_add(1).ok_or_else(|| io::Error::other("worn out"))?;
        let chunk = self.cipher.seal(at, self.frames, &self.waiting)?;
        let length = length_of(&chunk);
        if self.beyond {
            self.room.take_beyond(length);
        } else {
            self.room.take(length)?;
        }
        if let Err(error) = (&*self.file).write_all(&chunk) {
            self.room.give_back(length);
            // Part of the chunk may be in the file: take it out again, or never write after it.
            if self.file.set_len(self.bytes).is_err() {
                self.broken = true;
            }
            return Err(error);
        }
        self.attempt = 0;
        self.chunks = number;
        self.bytes = self.bytes.saturating_add(length);
        let entries = self.head.entries.saturating_add(u64::from(self.frames));
        self.head = Head { entries, digest: crate::model::digest::Digest::of(&chunk) };
        self.frames = 0;
        self.waiting.clear();
        self.waiting.shrink_to(KEPT_BYTES);
        Ok(self.head)
    }

    /// Called before a frame is added too: where chunks cannot be written, what waits must not grow
    /// beyond what a chunk may hold.
    fn seal_if_full(&mut self) -> io::Result<()> {
        if self.waiting.len() >= CHUNK_BYTES { self.seal().map(|_| ()) } else { Ok(()) }
    }
}

fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
