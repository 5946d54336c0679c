//! One task that writes the index, fed through a bounded channel.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::audit::entry::Opened;
use crate::audit::entry::Volume;
use crate::model::Command;
use crate::model::CommandId;
use crate::model::HoldId;
use crate::model::Principal;
use crate::model::SessionId;
use crate::model::fault::Chain;
use crate::store::Store;
use crate::store::StoreError;

/// How many rows may wait to be written.
pub(super) const WAITING_MAX: usize = 4_096;

/// A row to be written.
#[derive(Debug)]
pub enum Note {
    /// A principal was verified.
    Seen {
        /// When.
        at: Timestamp,
        /// Who.
        principal: Arc<Principal>,
    },
    /// A session was admitted.
    Opened {
        /// When.
        at: Timestamp,
        /// Which.
        opened: Box<Opened>,
    },
    /// A session ended.
    Closed {
        /// When.
        at: Timestamp,
        /// Which.
        session: SessionId,
        /// Why.
        reason: String,
        /// How many commands it asked.
        commands: u64,
        /// How many of them were denied.
        denied: u64,
        /// What was released.
        volume: Volume,
    },
    /// A command waits for an approval.
    Held {
        /// When.
        at: Timestamp,
        /// The hold's id.
        hold: HoldId,
        /// The command's session and number.
        command_id: CommandId,
        /// Who asked.
        principal: String,
        /// Of which target.
        target: String,
        /// What.
        command: Arc<Command>,
    },
    /// A hold ended.
    HoldEnded {
        /// When.
        at: Timestamp,
        /// The hold's id.
        hold: HoldId,
        /// How: `approved`, `declined`, `timed-out`, `withdrawn`.
        ending: &'static str,
        /// Who decided.
        by: Option<String>,
    },
}

/// Hands rows to the task that writes them. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub struct Journal {
    notes: mpsc::Sender<Note>,
}

impl Journal {
    /// Starts the task. It ends, all rows written, when the last `Journal` is dropped.
    pub fn start(store: Store) -> (Self, JoinHandle<()>) {
        let (notes, mut waiting) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(async move {
            while let Some(note) = waiting.recv().await {
                if let Err(error) = store.write(&note).await {
                    tracing::error!(fault = "gateway", "the index misses a row: {}", Chain(&error));
                }
            }
        });
        (Self { notes }, task)
    }

    /// Hands over a row. When too many wait already the row is dropped, which the log says: the
    /// record itself is in the trail.
    pub fn note(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            tracing::error!(
                fault = "gateway",
                "the index misses a row: {WAITING_MAX} rows wait already, or the gateway is stopping"
            );
        }
    }
}

impl Store {
    async fn write(&self, note: &Note) -> Result<(), StoreError> {
        let done = match note {
            Note::Seen { at, principal } => self.write_seen(*at, principal).await,
            Note::Opened { at, opened } => self.write_opened(*at, opened).await,
            Note::Closed { at, session, reason, commands, denied, volume } => {
                sqlx::query(
                    "UPDATE sessions SET closed_at = $2, reason = $3, commands = $4, denied = $5, \
                     rows_out = $6, bytes_out = $7, masked = $8 WHERE session = $1",
                )
                .bind(session.to_string())
                .bind(at.as_microsecond())
                .bind(reason)
                .bind(signed(*commands))
                .bind(signed(*denied))
                .bind(signed(volume.rows))
                .bind(signed(volume.bytes))
                .bind(signed(volume.masked))
                .execute(&self.pool)
                .await
            }
            Note::Held { at, hold, command_id, principal, target, command } => sqlx::query(
                "INSERT INTO holds (hold, session, number, held_at, principal, target, command) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(hold.as_str())
            .bind(command_id.session.to_string())
            .bind(signed(command_id.number))
            .bind(at.as_microsecond())
            .bind(principal)
            .bind(target)
            .bind(&command.text)
            .execute(&self.pool)
            .await,
            Note::HoldEnded { at, hold, ending, by } => {
                sqlx::query(
                    "UPDATE holds SET ended_at = $2, ending = $3, decided_by = $4 WHERE hold = $1",
                )
                .bind(hold.as_str())
                .bind(at.as_microsecond())
                .bind(*ending)
                .bind(by)
                .execute(&self.pool)
                .await
            }
        };
        done.map(|_| ()).map_err(StoreError::Query)
    }

    async fn write_seen(
        &self,
        at: Timestamp,
        principal: &Principal,
    ) -> Result<sqlx::sqlite::SqliteQueryResult, sqlx::Error> {
        let mapped =
            serde_json::to_string(principal).map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query(
            "INSERT INTO principals (issuer, subject, name, seen_at, mapped) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (issuer, subject) \
             DO UPDATE SET name = $3, seen_at = $4, mapped = $5",
        )
        .bind(&principal.issuer)
        .bind(&principal.subject)
        .bind(&principal.name)
        .bind(at.as_microsecond())
        .bind(mapped)
        .execute(&self.pool)
        .await
    }

    async fn write_opened(
        &self,
        at: Timestamp,
        opened: &Opened,
    ) -> Result<sqlx::sqlite::SqliteQueryResult, sqlx::Error> {
        sqlx::query(
            "INSERT INTO sessions \
             (session, opened_at, issuer, subject, principal, address, country, target, protocol, \
             observe) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(opened.session.to_string())
        .bind(at.as_microsecond())
        .bind(&opened.principal.issuer)
        .bind(&opened.principal.subject)
        .bind(&opened.principal.name)
        .bind(opened.origin.address.to_string())
        .bind(opened.origin.country.as_ref().map(ToString::to_string))
        .bind(opened.target.as_str())
        .bind(opened.protocol.as_str())
        .bind(i64::from(opened.observe))
        .execute(&self.pool)
        .await
    }
}

/// SQLite's integers are signed; a count that does not fit is the largest that does.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
