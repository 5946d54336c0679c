//! PostgreSQL's log: `stderr` with any `log_line_prefix`, `csvlog`, `jsonlog`.
//!
//! Every statement is there with `log_statement = 'all'`, or with `log_min_duration_statement = 0`;
//! logins are there with `log_connections = on`. Messages are read in English (`lc_messages`).

mod entry;
mod format;
mod matcher;
mod prefix;
mod session;

pub use entry::Message;
pub use format::Format;
pub use format::LOOKED_AT_MAX;
pub use format::Read;
pub use matcher::Postgres;
pub use prefix::BadPrefix;
pub use prefix::Prefix;
