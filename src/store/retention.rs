//! How long recordings are kept: legal holds, erasure, expiry.
//!
//! Whoever holds, releases or erases is alone with the archive meanwhile, so that a recording that was
//! just put under hold is not erased for its time.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::audit::LedgerEvent;
use crate::audit::Unrecorded;
use crate::audit::archive::Archive;
use crate::audit::archive::ArchiveError;
use crate::audit::archive::Erasing;
use crate::audit::archive::ToldErased;
use crate::model::Principal;
use crate::model::SessionId;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::db::Row;
use crate::store::db::Statement;
use crate::store::recording_keys::Destroyed;

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

/// What erasing a recording did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// Its key was destroyed now; `false`: there was none any more.
    pub destroyed: bool,
    /// How many objects stay until the store's lock ends, which nobody can read any more.
    pub locked_objects: usize,
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
    /// It was erased, so there is nothing to keep.
    #[error("the recording of session {session} was erased at {at:.0} by {by}")]
    Erased {
        /// The session.
        session: SessionId,
        /// When.
        at: Timestamp,
        /// By whom.
        by: String,
    },
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
        if let Some(Destroyed { at, by, .. }) =
            self.recording_key(session).await?.and_then(|key| key.destroyed)
        {
            return Err(EraseError::Erased { session, at, by });
        }
        let (by, reason) = (Arc::clone(by), reason.to_owned());
        let name = by.name.clone();
        let held_at = self.clock.now();
        let text = "INSERT INTO legal_holds (session, gateway, held_at, held_by, reason) \
                    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (session) DO NOTHING";
        let hold = Statement::new(text).with(session.to_string()).with(&*self.gateway);
        self.db.execute(hold.with(held_at).with(name.as_str()).with(reason.as_str())).await?;
        // The row is what keeps it: the ledger never says of a recording that it is held which is not.
        let event = LedgerEvent::LegalHold { session, by, reason: reason.clone() };
        if let Err(error) = archive.audit().record(&event) {
            self.unhold(session).await?;
            return Err(error.into());
        }
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
        self.unhold(session).await?;
        Ok(held)
    }

    async fn unhold(&self, session: SessionId) -> Result<(), StoreError> {
        let text = "DELETE FROM legal_holds WHERE session = $1";
        self.db.execute(Statement::new(text).with(session.to_string())).await.map(drop)
    }

    /// Erases a session's recording and what the index has of it; the ledger says so first, by `event`
    /// (`Erased` or `Expired`). Refused while it is live or held. Should it be cut short behind the
    /// ledger's entry, [`Store::finish_erasures`] does the rest.
    pub async fn erase(
        &self,
        archive: &Archive,
        session: SessionId,
        event: LedgerEvent,
    ) -> Result<Erased, EraseError> {
        let Some(told) = ToldErased::by_entry(&event) else {
            return Err(EraseError::Missing(session));
        };
        let erasing = archive.erasing().await;
        self.is_ours(archive, session).await?;
        if is_live(archive, session) {
            return Err(EraseError::Live(session));
        }
        if let Some(held) = self.legal_hold(session).await? {
            return Err(EraseError::Held(Box::new(held)));
        }
        archive.audit().record(&event)?;
        self.erase_told(archive, erasing, &told).await
    }

    /// Does what the ledger says to have been done, and is not, because the gateway was stopped or the
    /// store or the database did not answer: how many recordings.
    pub async fn finish_erasures(&self, archive: &Arc<Archive>) -> Result<u64, EraseError> {
        let reader = Arc::clone(archive);
        let told = tokio::task::spawn_blocking(move || reader.told_erased()).await;
        let told = told.map_err(io::Error::other).flatten().map_err(ArchiveError::from)?;
        let mut finished = 0_u64;
        for told in told {
            if self.is_left_over(archive, told.session).await? {
                let erasing = archive.erasing().await;
                // Whoever held it after it was to be erased wants it kept.
                if self.legal_hold(told.session).await?.is_none() {
                    self.erase_told(archive, erasing, &told).await?;
                    finished = finished.saturating_add(1);
                }
            }
        }
        Ok(finished)
    }

    /// Whether something is left of a recording that the ledger says to be erased.
    async fn is_left_over(
        &self,
        archive: &Archive,
        session: SessionId,
    ) -> Result<bool, EraseError> {
        let key = self.recording_key(session).await?;
        let row = self.session(session).await?;
        Ok(key.is_some_and(|key| key.wrapped.is_some())
            || row.is_some_and(|row| row.erased_at.is_none())
            || archive.audit().spooled_wrapped(session).is_ok())
    }

    /// Erases what the ledger says to be erased: the key, then the index, then what the store has. While
    /// the store is waited for, others may hold and erase.
    async fn erase_told(
        &self,
        archive: &Archive,
        mut erasing: Erasing<'_>,
        told: &ToldErased,
    ) -> Result<Erased, EraseError> {
        let session = told.session;
        let destroyed = erasing.destroy(told).await?;
        self.forget_index(session).await?;
        drop(erasing);
        let locked_objects = archive.delete(session).await?;
        let text = "UPDATE sessions SET erased_at = $2 WHERE session = $1 AND erased_at IS NULL";
        let mark = Statement::new(text).with(session.to_string()).with(self.clock.now());
        self.db.execute(mark).await?;
        Ok(Erased { destroyed, locked_objects })
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
