//! How long recordings are kept: legal holds, erasure, expiry.
//!
//! Whoever holds, releases or erases is alone with the archive meanwhile, so that a recording that was
//! just put under hold is not erased for its time.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::audit::LedgerEvent;
use crate::audit::Unrecorded;
use crate::audit::archive::Archive;
use crate::audit::archive::ArchiveError;
use crate::audit::archive::Erased;
use crate::model::Principal;
use crate::model::SessionId;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::db::Row;
use crate::store::db::Statement;

/// How many sessions whose time is over are looked up at once.
const EXPIRED_ROWS_MAX: u32 = 500;

/// A recording that is kept until somebody lifts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LegalHold {
    /// Its session.
    pub session: SessionId,
    /// Since when.
    pub held_at: Timestamp,
    /// Who said so.
    pub held_by: String,
    /// Why.
    pub reason: String,
}

/// Why a recording is not held, released or erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// This gateway has no recording of it.
    #[error("this gateway has no recording of session {0}")]
    Missing(SessionId),
    /// It is another gateway's, whose ledger has to say it.
    #[error("session {session} is of gateway {gateway}: ask that one")]
    Elsewhere {
        /// The session.
        session: SessionId,
        /// Its gateway.
        gateway: String,
    },
    /// It has not ended.
    #[error("session {0} has not ended")]
    Live(SessionId),
    /// It is under a legal hold.
    #[error(
        "session {session} is under a legal hold of {held_by} since {held_at:.0}: {reason}",
        session = _0.session, held_by = _0.held_by, held_at = _0.held_at, reason = _0.reason
    )]
    Held(Box<LegalHold>),
    /// It is under none.
    #[error("session {0} is under no legal hold")]
    NotHeld(SessionId),
    /// The state database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive cannot do it now.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The ledger cannot be written.
    #[error(transparent)]
    Ledger(#[from] Unrecorded),
}

impl Store {
    /// Keeps a session's recording until the hold is lifted; the ledger says so. A session that has
    /// not ended may be held as well.
    pub async fn hold(
        &self,
        archive: &Archive,
        session: SessionId,
        (by, reason): (&Arc<Principal>, &str),
    ) -> Result<LegalHold, EraseError> {
        let _alone = archive.alone().await;
        self.is_ours(archive, session).await?;
        if let Some(held) = self.legal_hold(session).await? {
            return Err(EraseError::Held(Box::new(held)));
        }
        let (by, reason) = (Arc::clone(by), reason.to_owned());
        let name = by.name.clone();
        let event = LedgerEvent::LegalHold { session, by, reason: reason.clone() };
        archive.audit().record(&event)?;
        let held_at = self.clock.now();
        let text = "INSERT INTO legal_holds (session, gateway, held_at, held_by, reason) \
                    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (session) DO NOTHING";
        let hold = Statement::new(text).with(session.to_string()).with(&*self.gateway);
        self.db.execute(hold.with(held_at).with(name.as_str()).with(reason.as_str())).await?;
        Ok(LegalHold { session, held_at, held_by: name, reason })
    }

    /// Lifts a session's legal hold; the ledger says so.
    pub async fn release(
        &self,
        archive: &Archive,
        session: SessionId,
        (by, reason): (&Arc<Principal>, &str),
    ) -> Result<LegalHold, EraseError> {
        let _alone = archive.alone().await;
        self.is_ours(archive, session).await?;
        let Some(held) = self.legal_hold(session).await? else {
            return Err(EraseError::NotHeld(session));
        };
        let (by, reason) = (Arc::clone(by), reason.to_owned());
        archive.audit().record(&LedgerEvent::LegalHoldLifted { session, by, reason })?;
        let text = "DELETE FROM legal_holds WHERE session = $1";
        self.db.execute(Statement::new(text).with(session.to_string())).await?;
        Ok(held)
    }

    /// Erases a session's recording and what the index has of it; the ledger says so first, by `event`
    /// (`Erased` or `Expired`). Refused while it is live or held.
    pub async fn erase(
        &self,
        archive: &Archive,
        session: SessionId,
        event: LedgerEvent,
    ) -> Result<Erased, EraseError> {
        let _alone = archive.alone().await;
        self.is_ours(archive, session).await?;
        if is_live(archive, session) {
            return Err(EraseError::Live(session));
        }
        if let Some(held) = self.legal_hold(session).await? {
            return Err(EraseError::Held(Box::new(held)));
        }
        let erased = archive.erase(session, event).await?;
        self.forget_index(session).await?;
        let text = "UPDATE sessions SET erased_at = $2 WHERE session = $1 AND erased_at IS NULL";
        let mark = Statement::new(text).with(session.to_string()).with(self.clock.now());
        self.db.execute(mark).await?;
        Ok(erased)
    }

    /// Erases the recordings of this gateway's sessions that ended before `before` and are not held;
    /// how many. What cannot be erased now is left for the next time, with the last error.
    pub async fn expire(
        &self,
        archive: &Archive,
        before: Timestamp,
        kept_days: u32,
    ) -> Result<u64, EraseError> {
        let (mut expired, mut failed) = (0_u64, None);
        let mut tried = BTreeSet::new();
        loop {
            let due = self.expired(before, tried.last().copied()).await?;
            if due.is_empty() {
                break;
            }
            for session in due {
                tried.insert(session);
                match self
                    .erase(archive, session, LedgerEvent::Expired { session, kept_days })
                    .await
                {
                    Ok(_) => expired = expired.saturating_add(1),
                    // Its recording went with an earlier state folder, or it was held just now.
                    Err(EraseError::Missing(_) | EraseError::Held(_) | EraseError::Live(_)) => {}
                    Err(error) => failed = Some(error),
                }
            }
        }
        failed.map_or(Ok(expired), Err)
    }

    /// This gateway's sessions that ended before `before`, are not erased and not held, in the order
    /// of their ids.
    async fn expired(
        &self,
        before: Timestamp,
        after: Option<SessionId>,
    ) -> Result<Vec<SessionId>, StoreError> {
        let text = "SELECT session FROM sessions s WHERE gateway = $1 AND closed_at < $2 \
                    AND erased_at IS NULL AND session > $3 AND NOT EXISTS \
                    (SELECT 1 FROM legal_holds h WHERE h.session = s.session) \
                    ORDER BY session LIMIT $4";
        let after = after.map_or_else(String::new, |after| after.to_string());
        let due = Statement::new(text).with(&*self.gateway).with(before).with(after);
        let rows = self.db.rows(due.with(EXPIRED_ROWS_MAX)).await?;
        rows.iter().map(|row| row.parsed("session")).collect()
    }

    /// The legal hold of a session, if it is under one.
    pub async fn legal_hold(&self, session: SessionId) -> Result<Option<LegalHold>, StoreError> {
        let text = "SELECT * FROM legal_holds WHERE session = $1";
        let row = self.db.row(Statement::new(text).with(session.to_string())).await?;
        row.as_ref().map(legal_hold).transpose()
    }

    /// Whether this gateway has the recording.
    async fn is_ours(&self, archive: &Archive, session: SessionId) -> Result<(), EraseError> {
        let key = self.recording_key(session).await?;
        let known = match key {
            Some(key) => Some(key.gateway),
            None => self.session(session).await?.map(|row| row.gateway),
        };
        let here = || archive.audit().spooled_wrapped(session).is_ok();
        match known {
            // Rows without a gateway are from before several could share a database.
            Some(gateway) if !gateway.is_empty() && *gateway != *self.gateway => {
                Err(EraseError::Elsewhere { session, gateway })
            }
            Some(_) => Ok(()),
            None if is_live(archive, session) || here() => Ok(()),
            None => Err(EraseError::Missing(session)),
        }
    }
}

fn is_live(archive: &Archive, session: SessionId) -> bool {
    archive.audit().open_trails().iter().any(|(open, _)| *open == session)
}

fn legal_hold(row: &Row) -> Result<LegalHold, StoreError> {
    Ok(LegalHold {
        session: row.parsed("session")?,
        held_at: row.time("held_at")?,
        held_by: row.get("held_by")?,
        reason: row.get("reason")?,
    })
}
