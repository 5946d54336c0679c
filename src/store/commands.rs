//! The index of commands: written in batches, forgotten by session, made again from recordings.
//!
//! A session asks the same thing often, so there is a row for each *different* command of a session,
//! with how often it was asked. A batch and how far it goes are written in one transaction, and only
//! on top of what the batch was made for: whoever makes it may be ended at any time, and two that
//! read the same recording count nothing twice.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::model::Command;
use crate::model::Object;
use crate::model::SessionId;
use crate::model::Verdict;
use crate::model::digest::Digest;
use crate::model::encode::base64url;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::collect::Batch;
use crate::store::collect::Ended;
use crate::store::db::Statement;
use crate::store::journal;
use crate::store::journal::storable;
use crate::store::words;

/// How much of a command's text is searched, in bytes; what it touches is known in any case.
const TEXT_BYTES_MAX: usize = 32 * 1024;
/// Most objects of a command that are searched.
const OBJECTS_MAX: usize = 64;
/// Longest name of an object that is searched, in bytes.
const OBJECT_BYTES_MAX: usize = 512;
/// Most commands that one statement writes.
const STATEMENT_ROWS_MAX: usize = 250;
/// Most commands that one transaction forgets.
const FORGET_ROWS_MAX: u32 = 2_000;
/// Most sessions that are made ready to be read anew between two looks.
const CLEAR_SESSIONS_MAX: u32 = 100;
/// How much of a digest tells commands of a session apart, in bytes.
const DIGEST_BYTES: usize = 16;

/// A command as the index takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedCommand {
    /// Its number in the session.
    pub number: u64,
    /// When it was asked.
    pub at: Timestamp,
    /// What kind of command, in the protocol's words.
    pub verb: String,
    /// Its text, or the beginning.
    pub text: String,
    /// There is more of the text.
    pub cut: bool,
    /// What it touches and how: `read:table:public.customers`, or `read:path` where the name may be
    /// called after a person.
    pub objects: BTreeSet<String>,
    /// It was denied.
    pub denied: bool,
    /// It waited for an approval.
    pub held: bool,
    pub(super) digest: String,
}

impl IndexedCommand {
    /// A command that was decided. `observed`: the verdict was not applied, so it was neither denied
    /// nor held.
    pub fn of(
        number: u64,
        at: Timestamp,
        command: &Command,
        verdict: &Verdict,
        observed: bool,
    ) -> Self {
        let (denied, held) = match verdict {
            Verdict::Allow { .. } => (false, false),
            Verdict::Hold { .. } => (false, !observed),
            Verdict::Deny(_) => (!observed, false),
        };
        let digest = Digest::of_parts(&[command.verb.as_bytes(), command.text.as_bytes()]);
        let digest = digest.as_bytes().get(..DIGEST_BYTES).unwrap_or_default();
        let text = beginning(&command.text, TEXT_BYTES_MAX);
        let objects = command.objects.iter().take(OBJECTS_MAX).map(|object| {
            let Object { effect, kind, name } = object;
            // Whoever may not read texts may search these: what may be called after a person is in
            // the texts alone.
            if !object.has_plain_name() {
                return storable(&format!("{effect}:{kind}"));
            }
            let name = beginning(name, OBJECT_BYTES_MAX);
            // They are kept in one text, parted by spaces.
            let name = name.replace(char::is_whitespace, "\u{a0}");
            storable(&format!("{effect}:{kind}:{name}"))
        });
        Self {
            number,
            at,
            verb: storable(&command.verb),
            cut: text.len() < command.text.len(),
            text: storable(text),
            objects: objects.collect(),
            denied,
            held,
            digest: base64url(digest),
        }
    }
}

fn beginning(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

/// How far the index of commands is behind the recordings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct IndexLag {
    /// Sessions whose recording has entries that are not in the index.
    pub sessions: u64,
    /// How many entries.
    pub entries: u64,
}

impl IndexLag {
    /// The lag, from how many entries each recording has and how many of each are in the index.
    pub fn of(
        heads: impl IntoIterator<Item = (SessionId, u64)>,
        indexed: &BTreeMap<SessionId, u64>,
    ) -> Self {
        let mut lag = Self::default();
        for (session, head) in heads {
            let behind = head.saturating_sub(indexed.get(&session).copied().unwrap_or(0));
            lag.sessions = lag.sessions.saturating_add(u64::from(behind > 0));
            lag.entries = lag.entries.saturating_add(behind);
        }
        lag
    }
}

impl Store {
    /// How many entries of a session's recording are in the index. `None`: it was forgotten, and is
    /// not to be read.
    pub async fn index_cursor(&self, session: SessionId) -> Result<Option<u64>, StoreError> {
        let text = "SELECT entries, forgotten_at FROM indexed WHERE session = $1";
        let row = self.db.row(Statement::new(text).with(session.to_string())).await?;
        let Some(row) = row else { return Ok(Some(0)) };
        let forgotten = row.maybe_time("forgotten_at")?.is_some();
        Ok(if forgotten { None } else { Some(row.count("entries")?) })
    }

    /// How far the index is behind recordings, of which it is said how many entries each has.
    pub async fn index_lag(&self, heads: &[(SessionId, u64)]) -> Result<IndexLag, StoreError> {
        let sessions = heads.iter().map(|(session, _)| *session).collect::<Vec<_>>();
        let indexed = self.index_cursors(&sessions).await?;
        Ok(IndexLag::of(heads.iter().copied(), &indexed))
    }

    /// How many entries of these sessions' recordings are in the index: for [`IndexLag::of`]. Those
    /// that were forgotten have no lag.
    pub async fn index_cursors(
        &self,
        of: &[SessionId],
    ) -> Result<BTreeMap<SessionId, u64>, StoreError> {
        let text = self.db.either(
            "SELECT * FROM indexed WHERE session IN (SELECT value FROM json_each($1))",
            "SELECT * FROM indexed WHERE session IN \
             (SELECT json_array_elements_text(CAST($1 AS JSON)))",
        );
        let mut cursors = BTreeMap::new();
        for row in self.db.rows(Statement::new(text).with(json!(of).to_string())).await? {
            let forgotten = row.maybe_time("forgotten_at")?.is_some();
            let entries = if forgotten { u64::MAX } else { row.count("entries")? };
            cursors.insert(row.parsed("session")?, entries);
        }
        Ok(cursors)
    }

    /// Writes a batch, and that the index goes as far as the batch does. `false`, and nothing is
    /// written: the index does not end where the batch begins, because somebody else wrote, forgot or
    /// cleared it; whoever made the batch begins anew with [`Store::index_cursor`].
    pub async fn index_commands(&self, batch: &Batch) -> Result<bool, StoreError> {
        let session = batch.session.to_string();
        let cursor = "INSERT INTO indexed (session, gateway, entries) \
                      SELECT $1, $2, $4 WHERE $3 = 0 \
                      OR EXISTS (SELECT 1 FROM indexed WHERE session = $1) \
                      ON CONFLICT (session) DO UPDATE SET entries = $4 \
                      WHERE indexed.entries = $3 AND indexed.forgotten_at IS NULL";
        let cursor = Statement::new(self.db.either(
            cursor,
            // PostgreSQL must be told what a value that is only selected is.
            "INSERT INTO indexed (session, gateway, entries) \
             SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($4 AS BIGINT) \
             WHERE CAST($3 AS BIGINT) = 0 \
             OR EXISTS (SELECT 1 FROM indexed WHERE session = $1) \
             ON CONFLICT (session) DO UPDATE SET entries = $4 \
             WHERE indexed.entries = $3 AND indexed.forgotten_at IS NULL",
        ));
        let cursor = cursor.with(session.as_str()).with(&*self.gateway);
        let cursor = cursor.with(batch.after).with(batch.upto);
        let mut statements = Vec::new();
        if let Some((at, opened)) = &batch.opened {
            statements.push(self.opened(*at, opened));
        }
        if let Some(Ended { at, reason, commands, denied, volume }) = &batch.closed {
            statements.push(journal::closed(
                (*at, batch.session),
                reason,
                (*commands, *denied),
                *volume,
            ));
        }
        statements.extend(self.command_rows(&session, batch));
        if !batch.classes.is_empty() {
            statements.push(self.class_rows(&session, batch));
        }
        self.db.if_any(cursor, statements).await
    }

    fn command_rows(&self, session: &str, batch: &Batch) -> Vec<Statement> {
        let is_postgres = self.db.either(false, true);
        // In the order in which they were asked: the newest are found first.
        let mut commands = batch.commands.values().collect::<Vec<_>>();
        commands.sort_by_key(|(command, _)| command.number);
        let rows = commands.into_iter().map(|(command, count)| {
            let objects = command.objects.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            let words = is_postgres.then(|| tsvector(&command.verb, &objects, &command.text));
            json!({
                "d": command.digest, "v": command.verb, "o": objects, "t": command.text,
                "c": i64::from(command.cut), "n": number(command.number),
                "f": command.at.as_microsecond(), "l": count.last_at.as_microsecond(),
                "i": number(count.times), "x": number(count.denied), "h": number(count.held),
                "w": words,
            })
        });
        let rows = rows.collect::<Vec<_>>();
        let text = self.db.either(
            "INSERT INTO commands (session, digest, verb, objects, text, cut, first_number, \
             first_at, last_at, times, denied, held) \
             SELECT $1, value ->> 'd', value ->> 'v', value ->> 'o', value ->> 't', \
             value ->> 'c', value ->> 'n', value ->> 'f', value ->> 'l', value ->> 'i', \
             value ->> 'x', value ->> 'h' FROM json_each($2) WHERE true \
             ON CONFLICT (session, digest) DO UPDATE SET last_at = excluded.last_at, \
             times = times + excluded.times, denied = denied + excluded.denied, \
             held = held + excluded.held",
            "INSERT INTO commands (session, digest, verb, objects, text, cut, first_number, \
             first_at, last_at, times, denied, held, words) \
             SELECT $1, d, v, o, t, c, n, f, l, i, x, h, CAST(w AS TSVECTOR) \
             FROM json_to_recordset(CAST($2 AS JSON)) AS rows (d TEXT, v TEXT, o TEXT, t TEXT, \
             c BIGINT, n BIGINT, f BIGINT, l BIGINT, i BIGINT, x BIGINT, h BIGINT, w TEXT) \
             ON CONFLICT (session, digest) DO UPDATE SET last_at = excluded.last_at, \
             times = commands.times + excluded.times, \
             denied = commands.denied + excluded.denied, held = commands.held + excluded.held",
        );
        let statement =
            |rows: &[_]| Statement::new(text).with(session).with(json!(rows).to_string());
        rows.chunks(STATEMENT_ROWS_MAX).map(statement).collect()
    }

    fn class_rows(&self, session: &str, batch: &Batch) -> Statement {
        let rows = batch.classes.iter().map(|((class, shown), volume)| {
            json!({
                "c": class, "s": i64::from(*shown),
                "r": number(volume.rows), "b": number(volume.bytes),
            })
        });
        let text = self.db.either(
            "INSERT INTO session_classes (session, class, shown, rows_out, bytes_out) \
             SELECT $1, value ->> 'c', value ->> 's', value ->> 'r', value ->> 'b' \
             FROM json_each($2) WHERE true ON CONFLICT (session, class, shown) DO UPDATE \
             SET rows_out = rows_out + excluded.rows_out, \
             bytes_out = bytes_out + excluded.bytes_out",
            "INSERT INTO session_classes (session, class, shown, rows_out, bytes_out) \
             SELECT $1, c, s, r, b FROM json_to_recordset(CAST($2 AS JSON)) \
             AS rows (c TEXT, s BIGINT, r BIGINT, b BIGINT) \
             ON CONFLICT (session, class, shown) DO UPDATE \
             SET rows_out = session_classes.rows_out + excluded.rows_out, \
             bytes_out = session_classes.bytes_out + excluded.bytes_out",
        );
        let rows = rows.collect::<Vec<_>>();
        Statement::new(text).with(session).with(json!(rows).to_string())
    }

    /// Forgets what a session asked, for good: its commands, the classes of its answers, and the
    /// texts of its holds. Who had it, and when, stays. May be called again if it did not end.
    pub async fn forget_index(&self, session: SessionId) -> Result<(), StoreError> {
        // First of all, so that nobody who is reading the recording now writes behind us.
        let mark = "INSERT INTO indexed (session, gateway, entries, forgotten_at) \
                    VALUES ($1, $2, 0, $3) \
                    ON CONFLICT (session) DO UPDATE SET forgotten_at = $3";
        let mark = Statement::new(mark).with(session.to_string());
        let mark = mark.with(&*self.gateway).with(self.clock.now());
        self.db.execute(mark).await?;
        self.forget_commands(session).await?;
        let holds = "UPDATE holds SET command = '' WHERE session = $1";
        self.db.execute(Statement::new(holds).with(session.to_string())).await?;
        let classes = "DELETE FROM session_classes WHERE session = $1";
        self.db.execute(Statement::new(classes).with(session.to_string())).await?;
        self.wipe().await
    }

    async fn forget_commands(&self, session: SessionId) -> Result<(), StoreError> {
        let text = "DELETE FROM commands WHERE command IN \
                    (SELECT command FROM commands WHERE session = $1 LIMIT $2)";
        loop {
            let some = Statement::new(text).with(session.to_string()).with(FORGET_ROWS_MAX);
            if self.db.execute(some).await? < u64::from(FORGET_ROWS_MAX) {
                return Ok(());
            }
        }
    }

    /// Empties the index of this gateway's sessions, to be made again from their recordings; how
    /// many sessions. Those that were forgotten stay so.
    pub async fn clear_index(&self) -> Result<u64, StoreError> {
        let mut cleared = 0_u64;
        loop {
            let text = "SELECT session FROM indexed \
                        WHERE gateway = $1 AND forgotten_at IS NULL LIMIT $2";
            let some = Statement::new(text).with(&*self.gateway).with(CLEAR_SESSIONS_MAX);
            let rows = self.db.rows(some).await?;
            if rows.is_empty() {
                return Ok(cleared);
            }
            for row in rows {
                let session = row.parsed::<SessionId>("session")?;
                self.forget_commands(session).await?;
                // What somebody wrote meanwhile goes together with how far they came.
                let of = |text| Statement::new(text).with(session.to_string());
                let cursor = of("DELETE FROM indexed WHERE session = $1 AND forgotten_at IS NULL");
                let rest = [
                    of("DELETE FROM commands WHERE session = $1"),
                    of("DELETE FROM session_classes WHERE session = $1"),
                ];
                let done = self.db.if_any(cursor, rest).await?;
                cleared = cleared.saturating_add(u64::from(done));
            }
        }
    }

    /// Takes what was deleted out of the file's log as well. PostgreSQL does so when it vacuums.
    pub(super) async fn wipe(&self) -> Result<(), StoreError> {
        let Some(text) = self.db.either(Some("PRAGMA wal_checkpoint(TRUNCATE)"), None) else {
            return Ok(());
        };
        self.db.rows(Statement::new(text)).await.map(|_| ())
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A `tsvector`, written out: names weigh A, and no phrase goes from one part to the next.
fn tsvector(verb: &str, objects: &str, text: &str) -> String {
    let mut written = String::new();
    let mut at = 0_u32;
    for (part, weight) in [(verb, "A"), (objects, "A"), (text, "")] {
        for (word, _) in words::words(part) {
            at = at.saturating_add(1);
            // A word is letters and digits: nothing in it needs to be escaped.
            written.extend(["'", &word, "':", &at.to_string(), weight, " "]);
        }
        at = at.saturating_add(1);
    }
    written
}
