//! One session's append-only record of commands and decisions: a recording that is being written.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::audit::Unrecorded;
use crate::audit::chain::Head;
use crate::audit::entry::TrailEvent;
use crate::audit::recording::Stream;
use crate::audit::recording::Writer;
use crate::audit::spool::Syncer;
use crate::model::Clock;
use crate::model::SessionId;
use crate::model::fault::Chain;

/// One session's append-only record.
///
/// What decides whether something may happen is appended: one `write`, and at level `disk` one round
/// of `fsync` that all sessions share. What only tells how it went is noted: it is written with the
/// next entry that is appended, or within [`crate::audit::FLUSH_MS`]. Neither awaits, so that both
/// work in `Drop` too: a dropped future is how some libraries say that the client went away.
#[derive(Debug)]
pub struct Trail {
    session: SessionId,
    path: PathBuf,
    writer: Mutex<Writer>,
    clock: Arc<dyn Clock>,
    syncer: Option<Arc<Syncer>>,
    /// Something waits to be written.
    waits: AtomicBool,
    /// An entry could not be written. Nothing is forwarded any more.
    lost: watch::Sender<bool>,
    /// Counts what could not be written, of all trails.
    failures: Arc<AtomicU64>,
}

impl Trail {
    pub(super) fn new(
        session: SessionId,
        path: PathBuf,
        writer: Writer,
        clock: Arc<dyn Clock>,
        syncer: Option<Arc<Syncer>>,
        failures: Arc<AtomicU64>,
    ) -> Self {
        let (waits, lost) = (AtomicBool::new(false), watch::Sender::new(false));
        Self { session, path, writer: Mutex::new(writer), clock, syncer, waits, lost, failures }
    }

    /// The session whose record this is.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Appends one entry. When it returns `Ok` the entry, and all before it, have left the process;
    /// at level `disk` the disk has them.
    pub fn append(&self, event: &TrailEvent) -> Result<Head, Unrecorded> {
        self.write(|writer, at| writer.append(at, event))
    }

    /// Appends the last entry, for which there is room even where the spool is full.
    pub(super) fn finish(&self, event: &TrailEvent) -> Result<Head, Unrecorded> {
        self.write(|writer, at| writer.finish(at, event))
    }

    fn write(
        &self,
        write: impl FnOnce(&mut Writer, Timestamp) -> io::Result<Head>,
    ) -> Result<Head, Unrecorded> {
        let (head, file) = {
            let mut writer = self.writer();
            let written = write(&mut writer, self.clock.now());
            self.waits.store(writer.waits(), Ordering::Release);
            let head = written.map_err(|source| self.failed(source))?;
            (head, Arc::clone(writer.file()))
        };
        if let Some(syncer) = &self.syncer {
            syncer.wait(&file).map_err(|source| self.failed(source))?;
        }
        Ok(head)
    }

    /// Notes one entry: it is written soon.
    pub fn note(&self, event: &TrailEvent) -> Result<(), Unrecorded> {
        let mut writer = self.writer();
        let noted = writer.event(self.clock.now(), event);
        self.waits.store(writer.waits(), Ordering::Release);
        noted.map_err(|source| self.failed(source))
    }

    /// Notes bytes that cross in a command: they are written soon, or now if they are many.
    pub fn data(&self, command: u64, stream: Stream, bytes: &[u8]) -> Result<(), Unrecorded> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer();
        let noted = writer.data(self.clock.now(), command, stream, bytes);
        self.waits.store(writer.waits(), Ordering::Release);
        noted.map_err(|source| self.failed(source))
    }

    /// Writes what waits. What cannot be written goes on waiting, and is logged the first time.
    pub(super) fn flush(&self) {
        if !self.waits.swap(false, Ordering::AcqRel) {
            return;
        }
        if let Err(source) = self.writer().seal() {
            self.waits.store(true, Ordering::Release);
            let (first, session) = (!self.lost(), self.session);
            let error = self.failed(source);
            if first {
                // Nobody asked for anything whose refusal would say so.
                self.lost.send_modify(|_| ());
                tracing::error!(fault = "gateway", %session, "{}", Chain(&error));
            }
        }
    }

    /// Whether an entry could not be written since the trail was opened.
    pub fn lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Tells when that happens and nobody waits for an answer who would be told.
    pub fn losing(&self) -> watch::Receiver<bool> {
        self.lost.subscribe()
    }

    /// Where the trail stands: what is written of it.
    pub fn head(&self) -> Head {
        self.writer().head()
    }

    /// How long it is, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.writer().bytes()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, source: io::Error) -> Unrecorded {
        let failed = |source| Unrecorded::new("an entry of the session's trail", source);
        if super::is_too_long(&source) {
            // Only this entry does not fit: the writer is as it was before.
            return failed(source);
        }
        self.lost.send_if_modified(|lost| {
            *lost = true;
            false
        });
        self.failures.fetch_add(1, Ordering::Relaxed);
        failed(source)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
