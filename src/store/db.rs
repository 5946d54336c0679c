//! SQLite and PostgreSQL behind one door: the same SQL text, the same values, the same rows.
//!
//! What both understand is little, and enough: `$1` for values, times and counts as BIGINT, JSON as
//! TEXT. Whatever is asked is answered within [`ANSWER_MAX`] or fails: a database that is gone
//! makes nobody wait for longer. A connection whose answer did not come is dropped, not used again.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::Database;
use sqlx::Decode;
use sqlx::Encode;
use sqlx::Executor;
use sqlx::IntoArguments;
use sqlx::PgPool;
use sqlx::Pool;
use sqlx::Postgres;
use sqlx::Row as _;
use sqlx::Sqlite;
use sqlx::SqliteConnection;
use sqlx::SqlitePool;
use sqlx::Type;
use sqlx::database::HasStatementCache;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::query::Query;
use sqlx::sqlite::SqliteRow;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::store::StoreError;

/// How long anything asked of the database may take: getting a connection, every statement of a
/// transaction, and its end.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);
/// After so many of SQLite's steps it is looked whether somebody still waits.
const PROGRESS_STEPS: i32 = 1_000;
/// How long a connection may take on its way back into the pool.
const RELEASE_MAX: Duration = Duration::from_secs(2);

/// The database.
#[derive(Debug, Clone)]
pub(super) enum Db {
    /// Embedded: one file.
    Sqlite(SqlitePool),
    /// A server, which several gateways may share.
    Postgres(PgPool),
}

/// An SQL text, and its values. The text is made of our own words alone.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    text: Cow<'static, str>,
    values: Vec<Value>,
    /// It is planned for its values each time, because they decide how it is best done.
    replan: bool,
}

/// A value of a statement. Its `Debug` tells the kind alone.
#[derive(Clone)]
pub(super) enum Value {
    Text(Option<String>),
    Number(Option<i64>),
    Bytes(Option<Vec<u8>>),
}

/// A row of an answer.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Db {
    /// The one of two texts that this database understands.
    pub(super) fn either<T>(&self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }

    /// Runs a statement; how many rows it wrote.
    pub(super) async fn execute(&self, statement: Statement) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(pool) => {
                answered(pool, async |connection| {
                    connection.execute(query(statement)).await.map(|done| done.rows_affected())
                })
                .await
            }
            Self::Postgres(pool) => {
                answered(pool, async |connection| {
                    connection.execute(query(statement)).await.map(|done| done.rows_affected())
                })
                .await
            }
        }
    }

    /// Runs a statement; the rows that it gives.
    pub(super) async fn rows(&self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(pool) => {
                let rows = answered(pool, async |connection| fetched(connection, statement).await);
                Ok(rows.await?.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(pool) => {
                let rows =
                    answered(pool, async |connection| connection.fetch_all(query(statement)).await);
                Ok(rows.await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Runs a statement that gives at most one row.
    pub(super) async fn row(&self, statement: Statement) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(statement).await?.into_iter().next())
    }

    /// Runs `first` and, in the same transaction, all of `then`; does nothing and says `false` if
    /// `first` finds no row to write.
    ///
    /// `first` writes, so it waits for whoever else writes that row (in SQLite: any row), and what
    /// `then` reads is what those left.
    pub(super) async fn if_any(
        &self,
        first: Statement,
        then: impl IntoIterator<Item = Statement>,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(pool) => {
                answered(pool, async |connection| {
                    let mut transaction = connection.begin().await?;
                    let found = transaction.execute(query(first)).await?.rows_affected() > 0;
                    if !found {
                        transaction.rollback().await?;
                        return Ok(false);
                    }
                    for statement in then {
                        transaction.execute(query(statement)).await?;
                    }
                    transaction.commit().await.map(|()| true)
                })
                .await
            }
            Self::Postgres(pool) => {
                answered(pool, async |connection| {
                    let mut transaction = connection.begin().await?;
                    let found = transaction.execute(query(first)).await?.rows_affected() > 0;
                    if !found {
                        transaction.rollback().await?;
                        return Ok(false);
                    }
                    for statement in then {
                        transaction.execute(query(statement)).await?;
                    }
                    transaction.commit().await.map(|()| true)
                })
                .await
            }
        }
    }
}

/// The rows of a statement. One that may take long is ended by SQLite itself once nobody waits for
/// it: it would go on in its thread, and take processor and disk from everybody else.
async fn fetched(
    connection: &mut SqliteConnection,
    statement: Statement,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let is_long = statement.replan;
    if is_long {
        let begun = Instant::now();
        let goes_on = move || begun.elapsed() < ANSWER_MAX;
        connection.lock_handle().await?.set_progress_handler(PROGRESS_STEPS, goes_on);
    }
    let rows = connection.fetch_all(query(statement)).await;
    if is_long {
        connection.lock_handle().await?.remove_progress_handler();
    }
    rows
}

/// Lends a connection to `work`, and gives up on both after [`ANSWER_MAX`].
async fn answered<DB: Database, T>(
    pool: &Pool<DB>,
    work: impl AsyncFnOnce(&mut DB::Connection) -> Result<T, sqlx::Error>,
) -> Result<T, StoreError> {
    let asked = async {
        let mut lent = Lent { connection: Some(pool.acquire().await?), sound: false };
        let Some(connection) = &mut lent.connection else { return Err(sqlx::Error::PoolClosed) };
        let done = work(connection).await;
        // An error of the server is an answer; what else went wrong may have left half of one.
        lent.sound = matches!(&done, Ok(_) | Err(sqlx::Error::Database(_)));
        done
    };
    match timeout(ANSWER_MAX, asked).await {
        Ok(done) => done.map_err(StoreError::Query),
        Err(_) => Err(StoreError::Slow { seconds: ANSWER_MAX.as_secs() }),
    }
}

/// A connection that goes back into the pool when this is dropped, if it is sound.
///
/// The pool would wait for a connection's last answer without bound, and lend it to nobody else
/// until then: a server that fell silent would take all of them away, one by one.
struct Lent<DB: Database> {
    connection: Option<PoolConnection<DB>>,
    sound: bool,
}

impl<DB: Database> Drop for Lent<DB> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        match Handle::try_current() {
            Ok(runtime) if self.sound => {
                let back = connection.return_to_pool();
                drop(runtime.spawn(async move { timeout(RELEASE_MAX, back).await }));
            }
            Ok(_) | Err(_) => drop(connection.detach()),
        }
    }
}

fn query<DB>(statement: Statement) -> Query<'static, DB, DB::Arguments>
where
    DB: Database + HasStatementCache,
    DB::Arguments: IntoArguments<DB>,
    Option<String>: Encode<'static, DB> + Type<DB>,
    Option<i64>: Encode<'static, DB> + Type<DB>,
    Option<Vec<u8>>: Encode<'static, DB> + Type<DB>,
{
    let mut query = match statement.text {
        Cow::Borrowed(text) => sqlx::query(text),
        // Put together from fixed texts, as `Statement` allows nothing else.
        Cow::Owned(text) => sqlx::query(AssertSqlSafe(text)),
    };
    query = query.persistent(!statement.replan);
    for value in statement.values {
        query = match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
            Value::Bytes(bytes) => query.bind(bytes),
        };
    }
    query
}

impl Statement {
    /// A text without values yet.
    pub(super) fn new(text: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), values: Vec::new(), replan: false }
    }

    /// With the next value.
    pub(super) fn with(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// With more text, in which `$#` stands for the next value.
    pub(super) fn and(mut self, more: &'static str, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        let number = format!("${}", self.values.len());
        self.text.to_mut().push_str(&more.replace("$#", &number));
        self
    }

    /// With more text and no value.
    pub(super) fn plain(mut self, more: &'static str) -> Self {
        self.text.to_mut().push_str(more);
        self
    }

    /// To be planned for its values each time.
    pub(super) fn replanned(self) -> Self {
        Self { replan: true, ..self }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(Some(number.into()))
    }
}

/// Databases' integers are signed; a count that does not fit is the largest that does.
impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Number(Some(i64::try_from(count).unwrap_or(i64::MAX)))
    }
}

impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        Self::Number(Some(at.as_microsecond()))
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(at: Option<Timestamp>) -> Self {
        Self::Number(at.map(Timestamp::as_microsecond))
    }
}

impl From<Option<&[u8]>> for Value {
    fn from(bytes: Option<&[u8]>) -> Self {
        Self::Bytes(bytes.map(<[u8]>::to_vec))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text",
            Self::Number(_) => "Number",
            Self::Bytes(_) => "Bytes",
        })
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Row")
    }
}

impl Row {
    /// A value of a column.
    pub(super) fn get<'r, T>(&'r self, column: &str) -> Result<T, StoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(StoreError::Query)
    }

    /// A text, read as something else.
    pub(super) fn parsed<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.get::<String>(column)?.parse().map_err(|error: T::Err| StoreError::decode(error))
    }

    /// A JSON text, read.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        column: &str,
    ) -> Result<T, StoreError> {
        serde_json::from_str(&self.get::<String>(column)?).map_err(StoreError::decode)
    }

    /// A count.
    pub(super) fn count(&self, column: &str) -> Result<u64, StoreError> {
        u64::try_from(self.get::<i64>(column)?).map_err(StoreError::decode)
    }

    /// A time.
    pub(super) fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        Timestamp::from_microsecond(self.get(column)?).map_err(StoreError::decode)
    }

    /// A time, where there is one.
    pub(super) fn maybe_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        let at = self.get::<Option<i64>>(column)?;
        at.map(Timestamp::from_microsecond).transpose().map_err(StoreError::decode)
    }
}
