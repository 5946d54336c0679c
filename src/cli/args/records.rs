//! What can be typed about what happened: sessions, and the record.

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::args::Gateway;
use crate::cli::record;
use crate::model::SessionId;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Sessions {
    /// List sessions, newest first
    Ls {
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: u32,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Show a session's commands, verdicts and results
    Show {
        /// The session's id
        #[arg(value_name = "ID")]
        session: SessionId,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// End a live session
    Kill {
        /// The session's id
        #[arg(value_name = "ID")]
        session: SessionId,
        #[command(flatten)]
        gateway: Gateway,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Audit {
    /// Find any changed, removed or reordered entry of a record, offline
    Verify {
        /// The gateway's state folder, or a copy of it
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// The id of the gateway whose record it is; without it, the id that the record names
        #[arg(long, value_name = "ID")]
        gateway: Option<String>,
        /// A head of the ledger that was kept elsewhere, as this command prints it: N:DIGEST
        #[arg(long, value_name = "N:DIGEST")]
        checkpoint: Option<record::Checkpoint>,
    },
}
