//! The data keys of recordings, wrapped: kept here, so that destroying one erases its recording
//! wherever copies of that lie.

use std::fmt;

use jiff::Timestamp;

use crate::model::SessionId;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::db::Row;
use crate::store::db::Statement;

/// The key of a session's recording, as it is kept. Its `Debug` leaves the wrapped key out.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordingKey {
    /// The session.
    pub session: SessionId,
    /// The gateway that recorded it.
    pub gateway: String,
    /// The id of the key that wraps this one.
    pub kek: String,
    /// The wrapped key. `None`: it was destroyed.
    pub wrapped: Option<Vec<u8>>,
    /// When, by whom and why it was destroyed.
    pub destroyed: Option<Destroyed>,
}

/// The end of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destroyed {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What became of a key that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutKey {
    /// It is kept, now or already.
    Kept,
    /// The session's key was destroyed, and stays so.
    Destroyed,
    /// Another key is kept for the session, or the same one wrapped otherwise; that one stays.
    Another,
}

impl Store {
    /// Keeps the key of a session that this gateway records. The first one stays.
    pub async fn put_recording_key(
        &self,
        session: SessionId,
        kek: &str,
        wrapped: &[u8],
    ) -> Result<PutKey, StoreError> {
        let text = "INSERT INTO recording_keys (session, gateway, kek, wrapped) \
                    VALUES ($1, $2, $3, $4) ON CONFLICT (session) DO NOTHING";
        let put = Statement::new(text).with(session.to_string()).with(&*self.gateway);
        let put = put.with(kek).with(Some(wrapped));
        if self.db.execute(put).await? > 0 {
            return Ok(PutKey::Kept);
        }
        let kept = self.recording_key(session).await?;
        Ok(match kept {
            Some(RecordingKey { wrapped: None, .. }) => PutKey::Destroyed,
            Some(key) if key.kek == kek && key.wrapped.as_deref() == Some(wrapped) => PutKey::Kept,
            Some(_) | None => PutKey::Another,
        })
    }

    /// The key of a session's recording.
    pub async fn recording_key(
        &self,
        session: SessionId,
    ) -> Result<Option<RecordingKey>, StoreError> {
        let text = "SELECT * FROM recording_keys WHERE session = $1";
        let row = self.db.row(Statement::new(text).with(session.to_string())).await?;
        row.as_ref().map(key).transpose()
    }

    /// Replaces a wrapped key by the same key wrapped by another one, each given as the wrapping
    /// key's id and the wrapped bytes. `false`: the first is not what is kept.
    pub async fn rewrap_recording_key(
        &self,
        session: SessionId,
        (old_kek, old): (&str, &[u8]),
        (kek, wrapped): (&str, &[u8]),
    ) -> Result<bool, StoreError> {
        let text = "UPDATE recording_keys SET kek = $2, wrapped = $3 \
                    WHERE session = $1 AND kek = $4 AND wrapped = $5";
        let rewrap = Statement::new(text).with(session.to_string()).with(kek).with(Some(wrapped));
        Ok(self.db.execute(rewrap.with(old_kek).with(Some(old))).await? > 0)
    }

    /// Destroys the key of a session's recording, for good. `false`: there is none to destroy.
    pub async fn destroy_recording_key(
        &self,
        session: SessionId,
        by: &str,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let text = "UPDATE recording_keys SET wrapped = NULL, destroyed_at = $2, \
                    destroyed_by = $3, reason = $4 WHERE session = $1 AND wrapped IS NOT NULL";
        let destroy = Statement::new(text).with(session.to_string()).with(self.clock.now());
        let destroyed = self.db.execute(destroy.with(by).with(reason)).await? > 0;
        if destroyed {
            self.wipe().await?;
        }
        Ok(destroyed)
    }

    /// The keys of this gateway's recordings, oldest first (sessions' ids are in the order in which
    /// they began): at most `limit` behind the session `after`.
    pub async fn recording_keys(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<RecordingKey>, StoreError> {
        let text = "SELECT * FROM recording_keys WHERE gateway = $1 AND session > $2 \
                    ORDER BY session LIMIT $3";
        let after = after.map_or_else(String::new, |after| after.to_string());
        let list = Statement::new(text).with(&*self.gateway).with(after).with(limit);
        self.db.rows(list).await?.iter().map(key).collect()
    }
}

fn key(row: &Row) -> Result<RecordingKey, StoreError> {
    let destroyed = match row.maybe_time("destroyed_at")? {
        Some(at) => {
            Some(Destroyed { at, by: row.get("destroyed_by")?, reason: row.get("reason")? })
        }
        None => None,
    };
    Ok(RecordingKey {
        session: row.parsed("session")?,
        gateway: row.get("gateway")?,
        kek: row.get("kek")?,
        wrapped: row.get("wrapped")?,
        destroyed,
    })
}

impl fmt::Debug for RecordingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, gateway, kek, wrapped: _, destroyed } = self;
        f.debug_struct("RecordingKey")
            .field("session", session)
            .field("gateway", gateway)
            .field("kek", kek)
            .field("destroyed", destroyed)
            .finish_non_exhaustive()
    }
}
