//! The index of sessions, holds and principals: who had which session, and what waits.

use jiff::Timestamp;
use serde::Serialize;

use crate::model::Country;
use crate::model::HoldId;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::db::Row;
use crate::store::db::Statement;
use crate::store::filter::Filter;

/// Most rows that one listing returns.
pub const LIST_ROWS_MAX: u32 = 1_000;

/// A session, as the index has it.
#[derive(Debug, Clone, Serialize)]
pub struct SessionRow {
    /// Its id.
    pub session: SessionId,
    /// The gateway that has it, and its record.
    pub gateway: String,
    /// When it was admitted.
    pub opened_at: Timestamp,
    /// When it ended; `None` while it lives.
    pub closed_at: Option<Timestamp>,
    /// Why it ended.
    pub reason: Option<String>,
    /// Who: issuer, subject, and the name shown.
    pub issuer: String,
    /// The subject at the issuer.
    pub subject: String,
    /// The name shown.
    pub principal: String,
    /// In what capacity, as `Principal::acting` says it. `None`: it is not known.
    #[serde(skip)]
    pub acting: Option<String>,
    /// From which address.
    pub address: String,
    /// From which country, where known.
    pub country: Option<Country>,
    /// At which target.
    pub target: TargetName,
    /// Speaking what.
    pub protocol: Protocol,
    /// The target was in observe mode: verdicts were recorded and not applied.
    pub observe: bool,
    /// How many commands.
    pub commands: u64,
    /// How many of them were denied.
    pub denied: u64,
    /// Rows, objects or records released.
    pub rows: u64,
    /// Bytes released.
    pub bytes: u64,
    /// Values masked.
    pub masked: u64,
    /// When its recording was erased, or expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
}

/// A hold, as the index has it.
#[derive(Debug, Clone, Serialize)]
pub struct HoldRow {
    /// Its id.
    pub hold: HoldId,
    /// The gateway that has it.
    pub gateway: String,
    /// Its session.
    pub session: SessionId,
    /// The command's number.
    pub number: u64,
    /// Since when.
    pub held_at: Timestamp,
    /// Until when; `None` while it waits.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub ending: Option<String>,
    /// Who decided.
    pub decided_by: Option<String>,
    /// Who asked.
    pub principal: String,
    /// Of which target.
    pub target: TargetName,
    /// What.
    pub command: String,
}

impl Store {
    /// Sessions and holds that an earlier run of this gateway left open ended with it; how many
    /// sessions. Other gateways' are theirs to close.
    pub async fn close_left_open(&self, now: Timestamp) -> Result<u64, StoreError> {
        // Rows without a gateway are from before several could share a database.
        let sessions = "UPDATE sessions SET closed_at = $1, reason = 'unclean' \
                        WHERE closed_at IS NULL AND (gateway = $2 OR gateway = '')";
        let sessions = Statement::new(sessions).with(now).with(&*self.gateway);
        let closed = self.db.execute(sessions).await?;
        let holds = "UPDATE holds SET ended_at = $1, ending = 'withdrawn' \
                     WHERE ended_at IS NULL AND (gateway = $2 OR gateway = '')";
        self.db.execute(Statement::new(holds).with(now).with(&*self.gateway)).await?;
        Ok(closed)
    }

    /// The newest sessions that `filter` lets through, newest first, whichever gateway has them.
    pub async fn sessions(&self, filter: &Filter) -> Result<Vec<SessionRow>, StoreError> {
        let statement = Statement::new("SELECT s.* FROM sessions s WHERE 1 = 1");
        let statement = filter.sessions(&self.db, statement);
        let statement = statement
            .and(" ORDER BY s.opened_at DESC, s.session DESC LIMIT $#", filter.rows_max())
            .replanned();
        self.db.rows(statement).await?.iter().map(session_row).collect()
    }

    /// One session.
    pub async fn session(&self, session: SessionId) -> Result<Option<SessionRow>, StoreError> {
        let text = "SELECT * FROM sessions WHERE session = $1";
        let row = self.db.row(Statement::new(text).with(session.to_string())).await?;
        row.as_ref().map(session_row).transpose()
    }

    /// Whom the gateway saw last under `name`, as their claims were mapped then.
    pub async fn principal(&self, name: &str) -> Result<Option<Principal>, StoreError> {
        let text = "SELECT mapped FROM principals WHERE name = $1 ORDER BY seen_at DESC LIMIT 1";
        let row = self.db.row(Statement::new(text).with(name)).await?;
        row.map(|row| row.json("mapped")).transpose()
    }

    /// The newest holds, newest first, whichever gateway has them.
    pub async fn holds(&self, limit: u32) -> Result<Vec<HoldRow>, StoreError> {
        let text = "SELECT * FROM holds ORDER BY held_at DESC, hold LIMIT $1";
        let rows = self.db.rows(Statement::new(text).with(limit.min(LIST_ROWS_MAX))).await?;
        rows.iter().map(hold_row).collect()
    }
}

fn session_row(row: &Row) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        session: row.parsed("session")?,
        gateway: row.get("gateway")?,
        opened_at: row.time("opened_at")?,
        closed_at: row.maybe_time("closed_at")?,
        reason: row.get("reason")?,
        issuer: row.get("issuer")?,
        subject: row.get("subject")?,
        principal: row.get("principal")?,
        acting: row.get("acting")?,
        address: row.get("address")?,
        country: row.get::<Option<String>>("country")?.and_then(|country| country.parse().ok()),
        target: row.parsed("target")?,
        protocol: serde_json::from_value(row.get::<String>("protocol")?.into())
            .map_err(StoreError::decode)?,
        observe: row.count("observe")? != 0,
        commands: row.count("commands")?,
        denied: row.count("denied")?,
        rows: row.count("rows_out")?,
        bytes: row.count("bytes_out")?,
        masked: row.count("masked")?,
        erased_at: row.maybe_time("erased_at")?,
    })
}

fn hold_row(row: &Row) -> Result<HoldRow, StoreError> {
    Ok(HoldRow {
        hold: row.parsed("hold")?,
        gateway: row.get("gateway")?,
        session: row.parsed("session")?,
        number: row.count("number")?,
        held_at: row.time("held_at")?,
        ended_at: row.maybe_time("ended_at")?,
        ending: row.get("ending")?,
        decided_by: row.get("decided_by")?,
        principal: row.get("principal")?,
        target: row.parsed("target")?,
        command: row.get("command")?,
    })
}
