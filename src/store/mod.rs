//! State in SQLite: the index of sessions, holds and principals.
//!
//! An index, not the record: what happened is in the trails and the ledger, and a row lost here is
//! a session that is harder to find, not one that was not recorded. So writing it never makes a
//! session wait: [`Journal`] hands rows to one task through a bounded channel.

mod journal;

use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::Row;
use sqlx::SqlitePool;
use sqlx::migrate::MigrateError;
use sqlx::migrate::Migration;
use sqlx::migrate::MigrationType;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::sqlite::SqliteRow;

use crate::model::Country;
use crate::model::HoldId;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::SessionId;
use crate::model::TargetName;

pub use journal::Journal;
pub use journal::Note;

/// Most rows that one listing returns.
pub const LIST_ROWS_MAX: u32 = 1_000;

/// The state database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
}

/// The state database cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("the state database {path} cannot be opened")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Its tables cannot be made or brought up to date.
    #[error("the state database cannot be brought up to date")]
    Migrate(#[source] MigrateError),
    /// A statement failed.
    #[error("the state database did not answer")]
    Query(#[source] sqlx::Error),
}

/// A session, as the index has it.
#[derive(Debug, Clone, Serialize)]
pub struct SessionRow {
    /// Its id.
    pub session: SessionId,
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
}

/// A hold, as the index has it.
#[derive(Debug, Clone, Serialize)]
pub struct HoldRow {
    /// Its id.
    pub hold: HoldId,
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
    /// Opens the database, makes it if missing, and brings its tables up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
            .busy_timeout(std::time::Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await
            .map_err(failed)?;
        migrations().run(&pool).await.map_err(StoreError::Migrate)?;
        Ok(Self { pool })
    }

    /// Sessions that an earlier run of the gateway left open ended with it.
    pub async fn close_left_open(&self, now: Timestamp) -> Result<u64, StoreError> {
        let closed =
            "UPDATE sessions SET closed_at = $1, reason = 'unclean' WHERE closed_at IS NULL";
        let done = sqlx::query(closed).bind(now.as_microsecond()).execute(&self.pool).await;
        let holds = "UPDATE holds SET ended_at = $1, ending = 'withdrawn' WHERE ended_at IS NULL";
        sqlx::query(holds)
            .bind(now.as_microsecond())
            .execute(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        Ok(done.map_err(StoreError::Query)?.rows_affected())
    }

    /// The newest sessions, newest first. `only`: those of one principal (issuer and subject).
    pub async fn sessions(
        &self,
        only: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let text = "SELECT * FROM sessions \
                    WHERE $1 IS NULL OR (issuer = $1 AND subject = $2) \
                    ORDER BY opened_at DESC, session DESC LIMIT $3";
        let rows = sqlx::query(text)
            .bind(only.map(|(issuer, _)| issuer))
            .bind(only.map(|(_, subject)| subject))
            .bind(limit.min(LIST_ROWS_MAX))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        rows.iter().map(session_row).collect::<Result<_, _>>().map_err(StoreError::Query)
    }

    /// One session.
    pub async fn session(&self, session: SessionId) -> Result<Option<SessionRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM sessions WHERE session = $1")
            .bind(session.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        row.as_ref().map(session_row).transpose().map_err(StoreError::Query)
    }

    /// Whom the gateway saw last under `name`, as their claims were mapped then.
    pub async fn principal(&self, name: &str) -> Result<Option<Principal>, StoreError> {
        let text = "SELECT mapped FROM principals WHERE name = $1 ORDER BY seen_at DESC LIMIT 1";
        let row = sqlx::query(text)
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        let mapped = row.map(|row| row.try_get::<String, _>("mapped")).transpose();
        mapped
            .and_then(|mapped| {
                mapped
                    .map(|text| serde_json::from_str(&text))
                    .transpose()
                    .map_err(|error| sqlx::Error::Decode(error.into()))
            })
            .map_err(StoreError::Query)
    }

    /// The newest holds, newest first.
    pub async fn holds(&self, limit: u32) -> Result<Vec<HoldRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM holds ORDER BY held_at DESC, hold LIMIT $1")
            .bind(limit.min(LIST_ROWS_MAX))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Query)?;
        rows.iter().map(hold_row).collect::<Result<_, _>>().map_err(StoreError::Query)
    }
}

/// The migrations, as they stand in `migrations/sqlite`.
fn migrations() -> Migrator {
    let first = Migration::new(
        1,
        "sessions and holds".into(),
        MigrationType::Simple,
        sqlx::SqlStr::from_static(include_str!(
            "../../migrations/sqlite/0001_sessions_and_holds.sql"
        )),
        false,
    );
    let second = Migration::new(
        2,
        "observe mode".into(),
        MigrationType::Simple,
        sqlx::SqlStr::from_static(include_str!("../../migrations/sqlite/0002_observe_mode.sql")),
        false,
    );
    Migrator::with_migrations(vec![first, second])
}

fn session_row(row: &SqliteRow) -> Result<SessionRow, sqlx::Error> {
    Ok(SessionRow {
        session: parsed(row, "session")?,
        opened_at: time(row, "opened_at")?,
        closed_at: maybe_time(row, "closed_at")?,
        reason: row.try_get("reason")?,
        issuer: row.try_get("issuer")?,
        subject: row.try_get("subject")?,
        principal: row.try_get("principal")?,
        address: row.try_get("address")?,
        country: row.try_get::<Option<String>, _>("country")?.and_then(|c| c.parse().ok()),
        target: parsed(row, "target")?,
        protocol: serde_json::from_value(row.try_get::<String, _>("protocol")?.into())
            .map_err(|error| sqlx::Error::Decode(error.into()))?,
        observe: count(row, "observe")? != 0,
        commands: count(row, "commands")?,
        denied: count(row, "denied")?,
        rows: count(row, "rows_out")?,
        bytes: count(row, "bytes_out")?,
        masked: count(row, "masked")?,
    })
}

fn hold_row(row: &SqliteRow) -> Result<HoldRow, sqlx::Error> {
    Ok(HoldRow {
        hold: parsed(row, "hold")?,
        session: parsed(row, "session")?,
        number: count(row, "number")?,
        held_at: time(row, "held_at")?,
        ended_at: maybe_time(row, "ended_at")?,
        ending: row.try_get("ending")?,
        decided_by: row.try_get("decided_by")?,
        principal: row.try_get("principal")?,
        target: parsed(row, "target")?,
        command: row.try_get("command")?,
    })
}

fn parsed<T: FromStr>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = row.try_get::<String, _>(column)?;
    text.parse().map_err(|error: T::Err| sqlx::Error::Decode(error.into()))
}

fn count(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn time(row: &SqliteRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_microsecond(row.try_get(column)?)
        .map_err(|error| sqlx::Error::Decode(error.into()))
}

fn maybe_time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    row.try_get::<Option<i64>, _>(column)?
        .map(Timestamp::from_microsecond)
        .transpose()
        .map_err(|error| sqlx::Error::Decode(error.into()))
}
