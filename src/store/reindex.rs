//! That the index of commands is made again, and how far that is: kept in the database, so that a
//! gateway that was stopped meanwhile goes on where it was.

use std::sync::Mutex;
use std::sync::PoisonError;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Notify;

use crate::model::SessionId;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::db::Statement;

/// Between those who ask for an index to be made again and the task that makes it.
#[derive(Debug, Default)]
pub struct Reindex {
    asked: Notify,
    progress: Mutex<ReindexProgress>,
}

/// How far making an index again is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReindexProgress {
    /// It runs.
    pub running: bool,
    /// Since when, or when it ran last. `None`: not since the gateway started.
    pub begun_at: Option<Timestamp>,
    /// When it was done.
    pub ended_at: Option<Timestamp>,
    /// How many recordings were read.
    pub sessions: u64,
    /// How many entries of them.
    pub entries: u64,
    /// How many recordings cannot be read, wholly or at all; the log says why.
    pub unread: u64,
    /// How many recordings are in the store whose keys are not in the state database: nobody can read
    /// them. Those of other gateways count, where they share the store and not the database.
    pub keyless: u64,
    /// Why it does not go on now.
    pub waits_for: Option<String>,
}

impl Reindex {
    /// Tells the task that somebody asked.
    pub fn wake(&self) {
        self.asked.notify_one();
    }

    /// Waits until somebody asks.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// How far it is.
    pub fn progress(&self) -> ReindexProgress {
        self.lock().clone()
    }

    /// Changes how far it is.
    pub fn note(&self, change: impl FnOnce(&mut ReindexProgress)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ReindexProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Notes that this gateway's index is to be made again. `false`: that is under way.
    pub async fn begin_reindex(&self) -> Result<bool, StoreError> {
        let text = "INSERT INTO reindexing (gateway, reached) VALUES ($1, '') \
                    ON CONFLICT (gateway) DO NOTHING";
        Ok(self.db.execute(Statement::new(text).with(&*self.gateway)).await? > 0)
    }

    /// Whether this gateway's index is being made again, and which session was the last. `Some(None)`:
    /// it was not begun.
    pub async fn reindexing(&self) -> Result<Option<Option<SessionId>>, StoreError> {
        let text = "SELECT reached FROM reindexing WHERE gateway = $1";
        let row = self.db.row(Statement::new(text).with(&*self.gateway)).await?;
        let Some(row) = row else { return Ok(None) };
        let reached = row.get::<String>("reached")?;
        if reached.is_empty() {
            return Ok(Some(None));
        }
        reached.parse().map(|session| Some(Some(session))).map_err(StoreError::decode)
    }

    /// Notes that the index is made up to this session.
    pub async fn reindexed(&self, session: SessionId) -> Result<(), StoreError> {
        let text = "UPDATE reindexing SET reached = $2 WHERE gateway = $1";
        let reached = Statement::new(text).with(&*self.gateway).with(session.to_string());
        self.db.execute(reached).await.map(drop)
    }

    /// Notes that the index is made.
    pub async fn end_reindex(&self) -> Result<(), StoreError> {
        let text = "DELETE FROM reindexing WHERE gateway = $1";
        self.db.execute(Statement::new(text).with(&*self.gateway)).await.map(drop)
    }
}
