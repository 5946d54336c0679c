//! Makes the index of commands again from the recordings, in the spool and in the store, when
//! somebody asks for it. One recording at a time; what was begun before a stop is ended after it.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::archive::Archive;
use crate::audit::archive::ReadError;
use crate::audit::archive::Reading;
use crate::audit::recording::Seen;
use crate::audit::recording::What;
use crate::model::SessionId;
use crate::model::fault::Chain;
use crate::store::Collector;
use crate::store::Reindex;
use crate::store::Store;
use crate::store::StoreError;

/// How many sessions are looked up at once.
const SESSIONS_MAX: u32 = 100;
/// How long is waited when the database or the store does not answer.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How often a recording is begun again, because somebody else wrote to its index meanwhile.
const ATTEMPTS_MAX: u32 = 3;

/// Why it does not go on now.
#[derive(Debug, thiserror::Error)]
enum Waits {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Makes indexes again, until it is ended.
pub(super) async fn keep(archive: Arc<Archive>, store: Store, reindex: Arc<Reindex>) {
    let task = Task { archive, store, reindex };
    loop {
        match task.run().await {
            Ok(()) => task.reindex.asked().await,
            Err(waits) => {
                let why = Chain(&waits).to_string();
                tracing::warn!(fault = "gateway", "the index is not made further: {why}");
                task.reindex.note(|progress| progress.waits_for = Some(why));
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

struct Task {
    archive: Arc<Archive>,
    store: Store,
    reindex: Arc<Reindex>,
}

impl Task {
    /// Goes on from where it is, to the end.
    async fn run(&self) -> Result<(), Waits> {
        let Some(mut reached) = self.store.reindexing().await? else { return Ok(()) };
        let now = self.archive.audit().clock().now();
        self.reindex.note(|progress| {
            progress.waits_for = None;
            if !progress.running {
                *progress = crate::store::ReindexProgress::default();
                progress.running = true;
                progress.begun_at = Some(now);
            }
        });
        if reached.is_none() {
            self.store.clear_index().await?;
            // Those that ended and are in the spool alone: the shelf knows nothing of them yet.
            for session in self.archive.audit().closed_trails().unwrap_or_default() {
                self.one(session).await?;
            }
        }
        loop {
            let keys = self.archive.shelf();
            let sessions = keys.list(reached, SESSIONS_MAX).await.map_err(ReadError::from)?;
            if sessions.is_empty() {
                break;
            }
            for session in sessions {
                self.one(session).await?;
                self.store.reindexed(session).await?;
                reached = Some(session);
            }
        }
        self.keyless().await?;
        self.store.end_reindex().await?;
        let now = self.archive.audit().clock().now();
        self.reindex.note(|progress| {
            progress.running = false;
            progress.ended_at = Some(now);
        });
        Ok(())
    }

    /// Counts the recordings in the store whose keys are not on the shelf: whoever lost the database
    /// learns here what was lost with it.
    async fn keyless(&self) -> Result<(), Waits> {
        let (mut keyless, mut first) = (0_u64, None);
        for session in self.archive.stored_sessions().await? {
            if self.archive.shelf().find(session).await.map_err(ReadError::from)?.is_none()
                && self.archive.audit().spooled_wrapped(session).is_err()
            {
                keyless = keyless.saturating_add(1);
                first = first.or(Some(session));
            }
        }
        self.reindex.note(|progress| progress.keyless = keyless);
        if let Some(first) = first {
            let what = "recordings are in the store whose keys are not in the state database";
            let next = "restore a backup of the database; without it nobody can read them";
            tracing::error!(fault = "gateway", keyless, %first, next, "{what}");
        }
        Ok(())
    }

    /// Reads one recording into the index. Those that grow are read by whoever reads them always.
    async fn one(&self, session: SessionId) -> Result<(), Waits> {
        if self.archive.audit().open_trails().iter().any(|(open, _)| *open == session) {
            return Ok(());
        }
        for _ in 0..ATTEMPTS_MAX {
            let Some(cursor) = self.store.index_cursor(session).await? else { return Ok(()) };
            let entries = match self.archive.recording(session).await {
                Ok(entries) => entries,
                Err(ReadError::Missing(_) | ReadError::Erased { .. }) => return Ok(()),
                Err(error @ (ReadError::Storage(_) | ReadError::Shelf(_))) => {
                    return Err(error.into());
                }
                Err(error @ (ReadError::Key(_) | ReadError::Io(_) | ReadError::Name(_))) => {
                    self.unread(session, &Chain(&error).to_string());
                    return Ok(());
                }
            };
            if self.read(session, cursor, entries).await? {
                return Ok(());
            }
        }
        self.unread(session, "somebody else writes to its index all the time");
        Ok(())
    }

    /// Reads a recording to its end. `false`: the index went on without this.
    async fn read(
        &self,
        session: SessionId,
        cursor: u64,
        mut entries: Reading,
    ) -> Result<bool, Waits> {
        let mut collector = Collector::new(session, cursor);
        loop {
            let read = tokio::task::block_in_place(|| some(&mut entries, &mut collector));
            let batch = collector.take();
            if !batch.is_empty() && !self.store.index_commands(&batch).await? {
                return Ok(false);
            }
            match read {
                Read::More => {}
                Read::All { entries } => {
                    self.reindex.note(|progress| {
                        progress.sessions = progress.sessions.saturating_add(1);
                        progress.entries = progress.entries.saturating_add(entries);
                    });
                    return Ok(true);
                }
                Read::Not(why) => {
                    self.unread(session, &why);
                    return Ok(true);
                }
            }
        }
    }

    fn unread(&self, session: SessionId, why: &str) {
        tracing::error!(fault = "gateway", %session, "not wholly in the index: {why}");
        self.reindex.note(|progress| progress.unread = progress.unread.saturating_add(1));
    }
}

/// What came of reading.
enum Read {
    /// The batch is full.
    More,
    /// The recording is over.
    All { entries: u64 },
    /// The rest cannot be read.
    Not(String),
}

/// Reads until the batch is full, or the recording is over.
fn some(entries: &mut Reading, collector: &mut Collector) -> Read {
    let mut last = 0;
    loop {
        match entries.next() {
            Ok(Seen::One(entry)) => {
                last = entry.n;
                let What::Event(event) = &entry.what else { continue };
                collector.read(entry.n, entry.at, event);
                if collector.is_full() {
                    return Read::More;
                }
            }
            Ok(Seen::End) => return Read::All { entries: last },
            Ok(Seen::Damaged(damage)) => return Read::Not(damage.to_string()),
            Err(error) => return Read::Not(error.to_string()),
        }
    }
}
