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
use crate::store::db::Statement;

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
        // Every call of a client makes one of these: they leave half of the room to all others, so
        // that nobody's busy client costs another's session its row.
        let is_seen = matches!(note, Note::Seen { .. });
        if is_seen && self.notes.capacity() < WAITING_MAX / 2 {
            tracing::debug!("the index does not hear again of somebody who was seen");
            return;
        }
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
        let statement = match note {
            Note::Seen { at, principal } => seen(*at, principal)?,
            Note::Opened { at, opened } => self.opened(*at, opened),
            Note::Closed { at, session, reason, commands, denied, volume } => {
                closed((*at, *session), reason, (*commands, *denied), *volume)
            }
            Note::Held { at, hold, command_id, principal, target, command } => Statement::new(
                "INSERT INTO holds \
                 (hold, session, number, held_at, principal, target, command, gateway) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .with(hold.as_str())
            .with(command_id.session.to_string())
            .with(command_id.number)
            .with(*at)
            .with(principal.as_str())
            .with(target.as_str())
            .with(storable(&command.text))
            .with(&*self.gateway),
            Note::HoldEnded { at, hold, ending, by } => Statement::new(
                "UPDATE holds SET ended_at = $2, ending = $3, decided_by = $4 WHERE hold = $1",
            )
            .with(hold.as_str())
            .with(*at)
            .with(*ending)
            .with(by.as_deref()),
        };
        self.db.execute(statement).await.map(|_| ())
    }

    /// The row of a session that was admitted; who reads its recording writes it as well.
    pub(super) fn opened(&self, at: Timestamp, opened: &Opened) -> Statement {
        Statement::new(
            "INSERT INTO sessions \
             (session, opened_at, issuer, subject, principal, address, country, target, protocol, \
             observe, gateway, acting) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
             ON CONFLICT (session) DO UPDATE SET acting = excluded.acting \
             WHERE sessions.acting IS NULL",
        )
        .with(opened.session.to_string())
        .with(at)
        .with(opened.principal.issuer.as_str())
        .with(opened.principal.subject.as_str())
        .with(opened.principal.name.as_str())
        .with(opened.origin.address.to_string())
        .with(opened.origin.country.as_ref().map(ToString::to_string))
        .with(opened.target.as_str())
        .with(opened.protocol.as_str())
        .with(i64::from(opened.observe))
        .with(&*self.gateway)
        .with(storable(&opened.principal.acting()))
    }
}

/// What is written when a session has ended.
pub(super) fn closed(
    (at, session): (Timestamp, SessionId),
    reason: &str,
    (commands, denied): (u64, u64),
    volume: Volume,
) -> Statement {
    let text = "UPDATE sessions SET closed_at = $2, reason = $3, commands = $4, denied = $5, \
                rows_out = $6, bytes_out = $7, masked = $8 WHERE session = $1";
    Statement::new(text)
        .with(session.to_string())
        .with(at)
        .with(storable(reason))
        .with(commands)
        .with(denied)
        .with(volume.rows)
        .with(volume.bytes)
        .with(volume.masked)
}

fn seen(at: Timestamp, principal: &Principal) -> Result<Statement, StoreError> {
    let text = "INSERT INTO principals (issuer, subject, name, seen_at, mapped) \
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT (issuer, subject) \
                DO UPDATE SET name = $3, seen_at = $4, mapped = $5";
    Ok(Statement::new(text)
        .with(principal.issuer.as_str())
        .with(principal.subject.as_str())
        .with(principal.name.as_str())
        .with(at)
        .with(serde_json::to_string(principal).map_err(StoreError::encode)?))
}

/// What a client wrote, as both databases can keep it: PostgreSQL has no NUL in a text.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Verified;

    #[test]
    fn a_busy_client_leaves_room_for_the_rows_of_sessions() {
        let (notes, waiting) = mpsc::channel(WAITING_MAX);
        let journal = Journal { notes };
        let (at, principal) =
            (Timestamp::UNIX_EPOCH, Arc::clone(Verified::gateway(None).principal()));
        for _ in 0..WAITING_MAX * 2 {
            journal.note(Note::Seen { at, principal: Arc::clone(&principal) });
        }
        assert!(waiting.len() <= WAITING_MAX / 2 + 1, "{}", waiting.len());
        let (hold, by, ending) = (HoldId::fresh(), None, "withdrawn");
        journal.note(Note::HoldEnded { at, hold, ending, by });
        assert!(waiting.len() > WAITING_MAX / 2, "the row of a session is not dropped");
    }
}
