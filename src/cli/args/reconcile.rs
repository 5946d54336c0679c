//! What `weir audit reconcile` takes.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::audit::reconcile::Pattern;
use crate::audit::reconcile::postgres::Prefix;
use crate::cli::args::Gateway;
use crate::cli::args::records::Known;

/// A target's own log, and the record that it is held against.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Reconcile {
    /// The gateway's state folder, or a copy of ledger, recordings and keys, which is verified first;
    /// without it, the gateway is asked
    #[arg(value_name = "DIR")]
    pub(in crate::cli) record: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) logs: Logs,
    /// Only the sessions with this target
    #[arg(long, value_name = "TARGET")]
    pub(in crate::cli) target: Option<crate::model::TargetName>,
    /// Who may be in the log without the gateway, such as `postgres@*`, `backup` or `system:*`;
    /// they are counted, not listed
    #[arg(long, value_name = "WHO")]
    pub(in crate::cli) except: Vec<Pattern>,
    /// Nothing before this counts; else the log's first entry
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) since: Option<Timestamp>,
    /// Nothing after this counts; else the log's last entry
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) until: Option<Timestamp>,
    /// By how many seconds the target's clock and the gateway's may differ
    #[arg(long, value_name = "SECONDS", default_value_t = crate::audit::reconcile::options::SKEW_S_DEFAULT)]
    pub(in crate::cli) skew: i64,
    /// The zone of the log's times, such as Europe/Berlin, where they do not say it
    #[arg(long, value_name = "ZONE")]
    pub(in crate::cli) timezone: Option<String>,
    /// PostgreSQL's `log_line_prefix`, where it is none of the usual ones
    #[arg(long, value_name = "PREFIX", requires = "postgres_log")]
    pub(in crate::cli) log_line_prefix: Option<Prefix>,
    /// The region's wrapping keys, of a record in a folder; else the folder's wrapping.key
    #[arg(long, value_name = "FILE", requires = "record")]
    pub(in crate::cli) wrapping_key: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) known: Known,
    /// Why others' sessions are looked at, of a gateway that is asked; it is recorded
    #[arg(long, value_name = "TEXT", default_value = "held against the target's own log")]
    pub(in crate::cli) purpose: String,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

/// One kind of log; of several files, in the order in which they were written.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct Logs {
    /// PostgreSQL's log: stderr, csvlog or jsonlog, with `log_statement` = all
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) postgres_log: Vec<PathBuf>,
    /// sshd's log: of syslog, of journalctl, or its own, with `LogLevel` VERBOSE
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) sshd_log: Vec<PathBuf>,
    /// A Kubernetes API server's audit log
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) kubernetes_audit: Vec<PathBuf>,
}
