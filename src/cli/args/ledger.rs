//! What can be typed about the ledger, and about how long recordings are kept.

use std::path::PathBuf;

use clap::Subcommand;
use clap::ValueEnum;

use crate::cli::args::Gateway;
use crate::cli::args::records::Purpose;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::when::BadWhen;
use crate::model::when::When;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Ledger {
    /// List entries, newest first
    Ls(Box<Ls>),
    /// Write every transfer of a time, with a statement of which entries were read
    Export(Box<Export>),
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Ls {
    /// Not written before: 2026-11-29T12:00:00Z, 2026-11-29 (UTC), or so long ago: 30m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(in crate::cli) since: Option<String>,
    /// Written before, likewise
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(in crate::cli) until: Option<String>,
    /// About a session
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) session: Option<SessionId>,
    /// About somebody, by name or subject
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) user: Option<String>,
    /// About a target
    #[arg(long)]
    pub(in crate::cli) target: Option<TargetName>,
    /// Of a kind: admitted, refused, transfer-opened, transfer-volume, hold-ended, control, erased, …
    #[arg(long, value_name = "KIND")]
    pub(in crate::cli) kind: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 50)]
    pub(in crate::cli) limit: usize,
    #[command(flatten)]
    pub(in crate::cli) purpose: Purpose,
    /// A state folder, or a ledger's files: they are read instead of asking the gateway
    #[arg(long = "from-files", value_name = "DIR")]
    pub(in crate::cli) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Export {
    /// What for: `gdpr` is every transfer, and every access whose place is logged; `raw` is every entry
    #[arg(long, value_enum)]
    pub(in crate::cli) framework: Framework,
    /// That were not over before: 2026-11-01T00:00:00Z, 2026-11-01 (UTC), or so long ago: 30d
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(in crate::cli) from: Option<String>,
    /// That were opened before, likewise
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(in crate::cli) to: Option<String>,
    /// One line a transfer and class, or one JSON object a transfer
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    pub(in crate::cli) format: Format,
    /// The file, which must not be there yet; without it, it is printed
    #[arg(long, short, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) purpose: Purpose,
    /// A state folder, or a ledger's files with its checkpoints: they are verified and read instead of
    /// asking the gateway
    #[arg(long = "from-files", value_name = "DIR")]
    pub(in crate::cli) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Framework {
    Gdpr,
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    Csv,
    Jsonl,
}

/// A session, and why its recording is held, released or erased.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Kept {
    /// The session's id
    #[arg(value_name = "ID")]
    pub(in crate::cli) session: SessionId,
    /// Why; it is recorded
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: String,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

/// A time, checked here and read by whoever answers: so long before their own now.
fn time(text: &str) -> Result<String, BadWhen> {
    text.parse::<When>().map(|_| text.to_owned())
}
