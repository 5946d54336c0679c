//! What can be typed about a session that is seen again, or as it goes.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::args::Gateway;
use crate::cli::args::records::Purpose;
use crate::cli::replay::From;
use crate::cli::replay::Speed;
use crate::cli::replay::seconds;
use crate::model::SessionId;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Replay {
    /// The session's id
    #[arg(value_name = "ID")]
    pub(in crate::cli) session: SessionId,
    /// How fast, from 0.1 to 100
    #[arg(long, value_name = "N", default_value = "1")]
    pub(in crate::cli) speed: Speed,
    /// Longest pause that is played, in seconds [default: 2]; in an asciicast, for its player
    #[arg(long, value_name = "S", value_parser = pause)]
    pub(in crate::cli) idle_max: Option<Duration>,
    /// Begin at a command (3), so long after the beginning (90s, 2m, 1h), or at a time
    #[arg(long, value_name = "WHERE")]
    pub(in crate::cli) from: Option<From>,
    /// Write the terminal for asciinema into a file that must not be there yet; - is stdout
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) asciicast: Option<PathBuf>,
    /// Write what was typed into it too
    #[arg(long, requires = "asciicast")]
    pub(in crate::cli) with_input: bool,
    #[command(flatten)]
    pub(in crate::cli) purpose: Purpose,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Watch {
    /// The session's id
    #[arg(value_name = "ID")]
    pub(in crate::cli) session: SessionId,
    #[command(flatten)]
    pub(in crate::cli) purpose: Purpose,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

fn pause(text: &str) -> Result<Duration, String> {
    seconds(text).ok_or_else(|| format!("`{text}` is no number of seconds"))
}
