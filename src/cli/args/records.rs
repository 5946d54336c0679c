//! What can be typed about what happened: sessions, and the record.

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::args::Gateway;
use crate::cli::record;
use crate::model::Country;
use crate::model::DataClass;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::when::BadWhen;
use crate::model::when::When;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Sessions {
    /// List sessions, newest first
    Ls {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Find commands by their words: `customers AND ssn`, `"drop table"`, `public.cust*`
    Search {
        /// Words, joined by AND, OR and NOT; "words that follow each other"; a beginning*
        #[arg(value_name = "QUERY", required = true, num_args = 1.., allow_hyphen_values = false)]
        query: Vec<String>,
        #[command(flatten)]
        purpose: Purpose,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Show a session's commands, verdicts and results
    Show {
        /// The session's id
        #[arg(value_name = "ID")]
        session: SessionId,
        #[command(flatten)]
        purpose: Purpose,
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

/// What for.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Purpose {
    /// What you look for; needed where the session is not your own, and recorded
    #[arg(id = "purpose", long = "purpose", value_name = "TEXT")]
    pub(in crate::cli) said: Option<String>,
}

/// Which sessions.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of a command line")]
pub(in crate::cli) struct Which {
    /// Your own
    #[arg(long)]
    pub(in crate::cli) own: bool,
    /// Of somebody, by name or subject
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) user: Option<String>,
    /// At a target
    #[arg(long)]
    pub(in crate::cli) target: Option<TargetName>,
    /// That speak this
    #[arg(long, value_parser = ["postgres", "ssh", "http", "kubernetes"])]
    pub(in crate::cli) protocol: Option<String>,
    /// Not over before: 2026-11-29T12:00:00Z, 2026-11-29 (UTC), or so long ago: 30m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(in crate::cli) since: Option<String>,
    /// Begun before, likewise
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(in crate::cli) until: Option<String>,
    /// With a command that was denied
    #[arg(long)]
    pub(in crate::cli) denied: bool,
    /// With a command that waited for an approval
    #[arg(long)]
    pub(in crate::cli) held: bool,
    /// That were shown data of this class or one that nests in it, such as pii.email
    #[arg(long)]
    pub(in crate::cli) class: Option<DataClass>,
    /// From a country
    #[arg(long)]
    pub(in crate::cli) country: Option<Country>,
    /// That have not ended
    #[arg(long)]
    pub(in crate::cli) live: bool,
    /// How many at most
    #[arg(long, default_value_t = 50)]
    pub(in crate::cli) limit: u32,
}

/// A time, checked here and read by the gateway: so long before its own now.
fn time(text: &str) -> Result<String, BadWhen> {
    text.parse::<When>().map(|_| text.to_owned())
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
