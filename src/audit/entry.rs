//! What trails and the ledger say: the events, as they stand in the files.
//!
//! Fields are only ever added; a reader of today must read what was written in ten years' time and
//! the other way round, as far as it goes.

mod ledger;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::model::Command;
use crate::model::CredentialId;
use crate::model::DataClass;
use crate::model::HoldId;
use crate::model::LawFacts;
use crate::model::LoginId;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::RegionName;
use crate::model::RuleId;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::Verdict;
use crate::model::digest::Digest;
use crate::model::login::Authentication;

pub use ledger::LedgerEvent;

/// Who, where, what: the first entry of a trail, and the ledger's entry of the admission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The session.
    pub session: SessionId,
    /// Who asked.
    pub principal: Arc<Principal>,
    /// From where.
    pub origin: Origin,
    /// The target.
    pub target: TargetName,
    /// What it speaks.
    pub protocol: Protocol,
    /// The target's region.
    pub region: RegionName,
    /// The snapshot of policy, law and catalogue that admitted it.
    pub snapshot: Digest,
    /// The rules that admitted it.
    pub rules: Vec<RuleId>,
    /// The transfer decision at connect.
    pub transfer: TransferNote,
    /// Every class of the target is suppressed, because no legal basis covers showing it.
    pub suppressed: bool,
    /// In observe mode: why it would have been refused.
    pub observed: Option<Refusal>,
    /// The target is in observe mode: verdicts are recorded and not applied.
    pub observe: bool,
    /// What the principal showed. `None`: a provider's own token, or it is the gateway itself.
    #[serde(default)]
    pub proof: Option<Proof>,
    /// Under which law the target's data was: what is recorded stays under it. `None`: it was written
    /// before recordings said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub law: Option<Box<LawFacts>>,
}

/// The login and the credential that a session rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The login.
    pub login: LoginId,
    /// The credential.
    pub credential: CredentialId,
    /// How and when its person had last proved who they are.
    pub authentication: Authentication,
}

/// A transfer decision, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferNote {
    /// `none`, `none-logged`, `transfer` or `forbidden`.
    pub outcome: String,
    /// The rows of the law data and of the register of legal bases that decided.
    pub rows: Vec<RuleId>,
    /// One sentence for people.
    pub reason: String,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Ending {
    /// The target answered; `status` in the protocol's words: a command tag, an exit status, 200.
    Done {
        /// The status.
        status: String,
    },
    /// The target said no; `status` in the protocol's words: an SQLSTATE, an exit status, 404.
    Failed {
        /// The status.
        status: String,
    },
    /// The target skipped it, because an earlier command of the pipeline failed.
    Skipped,
    /// The answer was withheld, because it could not be masked.
    Withheld {
        /// Why.
        reason: String,
    },
    /// It was cut: the client, the target or the gateway ended the session in its midst.
    Cut {
        /// Which, and why.
        reason: String,
    },
}

/// How a hold ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum HoldEnding {
    /// Somebody allowed exactly this command, once.
    Approved {
        /// Who.
        by: String,
    },
    /// Somebody said no.
    Declined {
        /// Who.
        by: String,
        /// Why, in their words.
        reason: Option<String>,
    },
    /// Nobody answered in time.
    TimedOut,
    /// The client took it back or went away, or the session ended.
    Withdrawn {
        /// Which.
        reason: String,
    },
}

/// How much came back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Rows, objects or records.
    pub rows: u64,
    /// Bytes to the client.
    pub bytes: u64,
    /// Values that were masked.
    pub masked: u64,
}

impl Volume {
    /// Adds `other` to this.
    pub fn add(&mut self, other: Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.masked = self.masked.saturating_add(other.masked);
    }

    /// Of each count the larger one, where both are of the same.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        Self {
            rows: self.rows.max(other.rows),
            bytes: self.bytes.max(other.bytes),
            masked: self.masked.max(other.masked),
        }
    }

    /// This without `other`.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_sub(other.rows),
            bytes: self.bytes.saturating_sub(other.bytes),
            masked: self.masked.saturating_sub(other.masked),
        }
    }
}

/// One entry of a trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum TrailEvent {
    /// The session was admitted. Always the first entry.
    Opened(Box<Opened>),
    /// A command was decided. It is written before a byte of the command is forwarded.
    Command {
        /// Its number in the session.
        number: u64,
        /// What was asked.
        command: Arc<Command>,
        /// The verdict.
        verdict: Verdict,
        /// The verdict was not applied, because the target is in observe mode.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        observed: bool,
        /// The snapshot that decided, where it is another than the last one named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<Digest>,
    },
    /// A command waits for an approval.
    Held {
        /// The command's number.
        number: u64,
        /// The hold's id.
        hold: HoldId,
        /// What an approval is for: the digest of the exact command.
        exactly: Digest,
        /// When nobody's answer becomes a no.
        until: Timestamp,
    },
    /// A hold ended.
    HoldEnded {
        /// The command's number.
        number: u64,
        /// The hold's id.
        hold: HoldId,
        /// How.
        ending: HoldEnding,
        /// The verdict with the approval as part of the question, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verdict: Option<Verdict>,
    },
    /// What a principal may see of the target's classes was decided, or changed.
    Masks {
        /// Classes that are shown.
        shown: BTreeSet<DataClass>,
        /// Classes that are hidden, with the rules that hide them.
        hidden: BTreeMap<DataClass, Vec<RuleId>>,
        /// They were not applied, because the target is in observe mode.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        observed: bool,
    },
    /// A command ended.
    Ended {
        /// Its number.
        number: u64,
        /// How.
        ending: Ending,
        /// How much came back.
        volume: Volume,
        /// How many bytes followed the command to the target: stdin, a body.
        #[serde(default)]
        sent_bytes: u64,
        /// More came back than is kept.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        result_cut: bool,
        /// More followed than is kept.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        sent_cut: bool,
    },
    /// A command runs on a terminal, or the terminal's size changed: what it shows is played again.
    Terminal {
        /// The command's number.
        number: u64,
        /// How many columns.
        columns: u32,
        /// How many rows.
        rows: u32,
    },
    /// A connection to the target was opened: by these its own log names it. Written before a byte
    /// is sent on it, and again once the target has said by which number it knows it.
    Leg {
        /// The gateway's end.
        from: SocketAddr,
        /// The target's end.
        to: SocketAddr,
        /// The target's number for it: of PostgreSQL, the backend's process.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<i64>,
        /// The command that it carries, where it carries one alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u64>,
    },
    /// Something that the target or the client began outside any command was refused.
    Refused {
        /// What.
        what: String,
        /// Why.
        refusal: Refusal,
    },
    /// The session ended. Always the last entry, but for a crash.
    Closed {
        /// Why.
        reason: String,
        /// How many commands there were.
        commands: u64,
        /// How much came back in all.
        volume: Volume,
    },
}
