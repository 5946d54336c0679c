//! State in a database: the index of sessions, holds and principals, the logins, and the wrapped keys
//! of recordings.
//!
//! ```text
//! Journal ─┐                           ┌─▶ SQLite      one file in the state folder
//! Store ───┼─▶ Statement ──▶ db::Db ───┤
//! Vault ───┘                           └─▶ PostgreSQL  shared by several gateways
//! ```
//!
//! The index is no record: what happened is in the trails and the ledger, and a row lost there is
//! a session that is harder to find, not one that was not recorded. So writing it never makes a
//! session wait: [`Journal`] hands rows to one task through a bounded channel.
//!
//! **The keys of recordings (`recording_keys`) are no index.** Once a recording is in the region's
//! store, its wrapped key is here alone: who loses this table can read none of them any more, though all
//! of them still verify. So the database has to be backed up.
//!
//! Commands are found by their words: [`Collector`] reads a recording, [`Batch`] is what it adds to
//! the index, [`Query`] is what is looked for, [`Filter`] in which sessions.
//!
//! Logins and credentials (`logins`) are state: they are written before anybody is told of them,
//! and what ended is never found standing again.

mod collect;
mod commands;
mod db;
mod filter;
mod journal;
mod logins;
mod migrations;
mod open;
pub mod query;
mod recording_keys;
mod reindex;
mod retention;
mod search;
mod sessions;
mod shelf;
mod words;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use sqlx::migrate::MigrateError;

use crate::model::Address;
use crate::model::Clock;
use crate::store::db::Db;

pub use collect::Batch;
pub use collect::Collector;
pub use commands::IndexLag;
pub use commands::IndexedCommand;
pub use filter::Filter;
pub use filter::Owner;
pub use filter::Whose;
pub use journal::Journal;
pub use journal::Note;
pub use query::Query;
pub use recording_keys::Destroyed;
pub use recording_keys::PutKey;
pub use recording_keys::RecordingKey;
pub use reindex::Reindex;
pub use reindex::ReindexProgress;
pub use retention::EraseError;
pub use retention::Erased;
pub use retention::LegalHold;
pub use search::Hit;
pub use sessions::HoldRow;
pub use sessions::LIST_ROWS_MAX;
pub use sessions::SessionRow;
pub use words::Context;

/// What a state database is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway's id: which rows are its own.
    pub gateway: String,
    /// Where the database is.
    pub place: Place,
}

/// Where a state database is.
#[derive(Debug, Clone)]
pub enum Place {
    /// In this file, which is made if it is missing.
    Sqlite(PathBuf),
    /// At a PostgreSQL server.
    Postgres(Box<Server>),
}

/// A PostgreSQL server, and how to sign in.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it listens.
    pub door: Door,
    /// How it is verified.
    pub tls: ServerTls,
    /// The database's name.
    pub database: String,
    /// Who the gateway signs in as.
    pub login: String,
    /// The password, where the server wants one.
    pub password: Option<SecretString>,
}

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum Door {
    /// At an address.
    Tcp(Address),
    /// At the unix socket in a folder.
    Socket(PathBuf),
}

/// How a server is verified. There is nothing in between.
#[derive(Debug, Clone)]
pub enum ServerTls {
    /// Not, and not encrypted: it is on this very machine.
    Off,
    /// Its chain and its name must be right.
    VerifyFull {
        /// Who vouches for it besides the public authorities, PEM.
        ca_file: Option<PathBuf>,
        /// The certificate to show to it, and its key, PEM.
        identity: Option<(PathBuf, PathBuf)>,
    },
}

/// The state database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
    gateway: Arc<str>,
    clock: Arc<dyn Clock>,
}

/// The state database cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("the state database {place} cannot be opened")]
    Open {
        /// Which.
        place: String,
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
    /// It took too long.
    #[error("the state database did not answer within {seconds} s")]
    Slow {
        /// How long it had.
        seconds: u64,
    },
    /// What was to be written under refers to a login that is not there.
    #[error("the state database has no login {0}")]
    NoLogin(String),
}

impl StoreError {
    /// Whether what was asked takes too long, and may be answered if less is asked.
    pub fn is_slow(&self) -> bool {
        // PostgreSQL's `query_canceled`: a statement took longer than it may.
        let canceled = |error: &sqlx::Error| {
            error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
                .is_some_and(|c| c == "57014")
        };
        match self {
            Self::Slow { .. } => true,
            Self::Query(error) => canceled(error),
            Self::Open { .. } | Self::Migrate(_) | Self::NoLogin(_) => false,
        }
    }

    fn decode(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Query(sqlx::Error::Decode(error.into()))
    }

    fn encode(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Query(sqlx::Error::Encode(error.into()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(server) => {
                let name = &server.database;
                match &server.door {
                    Door::Tcp(address) => write!(f, "{name} at {address}"),
                    Door::Socket(folder) => write!(f, "{name} at {}", folder.display()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
