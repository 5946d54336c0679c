//! Opening the database, and bringing its tables up to date.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::PgPool;
use sqlx::SqlitePool;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::postgres::PgSslMode;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqliteJournalMode;
use sqlx::sqlite::SqlitePoolOptions;
use tokio::time::timeout;

use crate::model::Clock;
use crate::model::Host;
use crate::store::Door;
use crate::store::Options;
use crate::store::Place;
use crate::store::Server;
use crate::store::ServerTls;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::db::ANSWER_MAX;
use crate::store::db::Db;
use crate::store::migrations;

/// Connections to SQLite: one writes at a time, the others read.
const SQLITE_CONNECTIONS_MAX: u32 = 4;
/// Connections of one gateway to PostgreSQL.
const POSTGRES_CONNECTIONS_MAX: u32 = 10;
/// How long a writer of SQLite waits for another one.
const SQLITE_BUSY_MAX: Duration = Duration::from_secs(4);
/// How long getting a connection may take; shorter than an answer, so that the error says it.
const CONNECT_MAX: Duration = Duration::from_secs(4);
/// How long bringing the tables up to date may take, another gateway's turn included.
const MIGRATE_MAX: Duration = Duration::from_mins(1);
/// The port in the name of a unix socket.
const DEFAULT_PORT: u16 = 5432;
/// After how long the server ends a transaction of a gateway that fell silent, in milliseconds:
/// what it wrote must not stay locked for the others.
const SILENT_MS_MAX: u32 = 10_000;

impl Store {
    /// Opens the database, makes what is missing, and brings its tables up to date. Ends within a
    /// bounded time, whatever the server does.
    pub async fn open(options: &Options, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { place: options.place.to_string(), source };
        let db = match &options.place {
            Place::Sqlite(path) => Db::Sqlite(sqlite(path).await.map_err(failed)?),
            Place::Postgres(server) => {
                let name = format!("weir {}", options.gateway);
                Db::Postgres(postgres(server, &name, failed).await?)
            }
        };
        if let Db::Sqlite(pool) = &db {
            migrations::sqlite().run(pool).await.map_err(StoreError::Migrate)?;
        }
        Ok(Self { db, gateway: options.gateway.as_str().into(), clock })
    }
}

async fn sqlite(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    // Made here, so that nobody else can read it, whatever the folder's mode; SQLite gives the files
    // beside it the same.
    fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What is deleted is to be gone: commands of a session that was erased, keys.
        .pragma("secure_delete", "ON")
        .busy_timeout(SQLITE_BUSY_MAX);
    let pool = SqlitePoolOptions::new().max_connections(SQLITE_CONNECTIONS_MAX);
    pool.connect_with(options).await
}

async fn postgres(
    server: &Server,
    name: &str,
    failed: impl Fn(sqlx::Error) -> StoreError,
) -> Result<PgPool, StoreError> {
    let slow = || failed(sqlx::Error::PoolTimedOut);
    let options = connect_options(server).application_name(name);
    // On a connection of its own: this may take longer than whatever comes after.
    let limits = [("statement_timeout", MIGRATE_MAX.as_millis().to_string())];
    let connecting = timeout(CONNECT_MAX, options.clone().options(limits).connect()).await;
    let mut connection = connecting.map_err(|_| slow())?.map_err(&failed)?;
    let migrated = timeout(MIGRATE_MAX, migrations::postgres().run(&mut connection)).await;
    migrated
        .unwrap_or_else(|_| Err(MigrateError::Execute(sqlx::Error::PoolTimedOut)))
        .map_err(StoreError::Migrate)?;
    if timeout(CONNECT_MAX, connection.close()).await.is_err() {
        tracing::warn!("the connection that brought the state database up to date did not end");
    }
    let limits = [
        ("statement_timeout", ANSWER_MAX.as_millis().to_string()),
        ("idle_in_transaction_session_timeout", SILENT_MS_MAX.to_string()),
    ];
    Ok(PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS_MAX)
        .acquire_timeout(CONNECT_MAX)
        .connect_lazy_with(options.options(limits)))
}

/// Everything is said here: nothing is left to variables of the environment or to `~/.pgpass`.
fn connect_options(server: &Server) -> PgConnectOptions {
    let password = server.password.as_ref().map_or("", |password| password.expose_secret());
    let options = PgConnectOptions::new_without_pgpass()
        .username(&server.login)
        .password(password)
        .database(&server.database);
    let options = match &server.door {
        Door::Tcp(address) => {
            let host = match &address.host {
                Host::Name(name) => name.to_string(),
                Host::Ip(ip) => ip.to_string(),
            };
            options.host(&host).port(address.port)
        }
        Door::Socket(folder) => options.socket(folder).port(DEFAULT_PORT),
    };
    match &server.tls {
        ServerTls::Off => options.ssl_mode(PgSslMode::Disable),
        ServerTls::VerifyFull { ca_file, identity } => {
            let mut options = options.ssl_mode(PgSslMode::VerifyFull);
            if let Some(path) = ca_file {
                options = options.ssl_root_cert(path);
            }
            if let Some((certificate, key)) = identity {
                options = options.ssl_client_cert(certificate).ssl_client_key(key);
            }
            options
        }
    }
}
