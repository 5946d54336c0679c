//! One line of a recording, as the gateway streams it.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::client::CallError;
use crate::cli::client::problem;
use crate::model::encode::unbase64;

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    /// What follows: of a live session, and whether something is left out.
    Head {
        /// Data is left out.
        withheld: bool,
    },
    /// Something happened.
    Event {
        /// When.
        at: Timestamp,
        /// What, as `show` tells it.
        event: Value,
    },
    /// Something crossed.
    Data {
        /// When.
        at: Timestamp,
        /// The command's number.
        command: u64,
        /// Which way.
        way: Way,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The end, and why.
    End(End),
    /// Nothing that this version knows.
    Other,
}

/// Which way bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    /// To the principal.
    Output,
    /// To the target.
    Input,
    /// To the principal, on stderr.
    Error,
}

/// Why a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The session has ended, and this was all.
    Complete,
    /// The session goes on.
    SoFar,
    /// The viewer may not look any longer.
    Refused(String),
    /// The rest cannot be read.
    Damaged(String),
    /// The gateway cannot read it now.
    Failed(String),
}

#[derive(Deserialize)]
struct Data {
    command: u64,
    stream: Way,
    base64: String,
}

impl Line {
    /// Reads a line.
    pub(super) fn of(line: &Value) -> Self {
        if let Some(end) = line["end"].as_str() {
            return Self::End(End::of(end, line));
        }
        if let Some(withheld) = line["results_withheld"].as_bool() {
            return Self::Head { withheld };
        }
        let at = line["at"].as_str().and_then(|at| at.parse().ok());
        let Some(at) = at else { return Self::Other };
        if line["event"].is_object() {
            return Self::Event { at, event: line["event"].clone() };
        }
        let data = Data::deserialize(&line["data"]).ok();
        let read = data.and_then(|data| Some((data.command, data.stream, unbase64(&data.base64)?)));
        match read {
            Some((command, way, bytes)) => Self::Data { at, command, way, bytes },
            None => Self::Other,
        }
    }
}

impl End {
    fn of(end: &str, line: &Value) -> Self {
        match end {
            "complete" => Self::Complete,
            "so-far" => Self::SoFar,
            "refused" => Self::Refused(problem(403, line)),
            "damaged" => Self::Damaged(format!("the recording is damaged: {}", detail(line))),
            _ => Self::Failed(detail(line)),
        }
    }

    /// Whether that is an error.
    pub(super) fn outcome(self) -> Result<(), CallError> {
        match self {
            Self::Complete | Self::SoFar => Ok(()),
            Self::Refused(why) => Err(CallError::Refused(why)),
            Self::Damaged(what) => Err(CallError::Damaged(what)),
            Self::Failed(why) => Err(CallError::Unreached(why)),
        }
    }
}

fn detail(line: &Value) -> String {
    line["detail"].as_str().unwrap_or("the gateway does not say why").to_owned()
}
