//! Questions of the control plane: approving, listing, replaying, killing.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::model::Command;
use crate::model::DataClass;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::TargetName;
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;
use crate::policy::snapshot::Snapshot;

/// What somebody asks of the control plane.
#[derive(Debug, Clone, Copy)]
pub enum Ask<'a> {
    /// To see and answer a held command.
    Approve {
        /// Who asked for the command.
        requester: &'a Principal,
        /// The target it is for.
        target: &'a TargetName,
        /// The held command.
        command: &'a Command,
        /// Roles of which the approver must hold one (from the verdict).
        approvers: &'a BTreeSet<String>,
    },
    /// To list sessions: one's own, or everybody's.
    ListSessions {
        /// Only the asker's own.
        own_only: bool,
    },
    /// To see a session's commands and results.
    Replay {
        /// The session's target.
        target: &'a TargetName,
        /// Whose session it is.
        owner: &'a Principal,
    },
    /// To end a session.
    Kill {
        /// The session's target.
        target: &'a TargetName,
        /// Whose session it is.
        owner: &'a Principal,
    },
    /// To change or inspect the gateway itself.
    Administer {
        /// What, one word: `policy`, `ledger`, `config`.
        what: &'a str,
    },
}

/// Decides a question of the control plane: the rules that permit it, or the refusal.
pub fn may(
    _snapshot: &Snapshot,
    _principal: &Principal,
    _origin: &Origin,
    _ask: &Ask<'_>,
    _now: Timestamp,
) -> Result<Vec<RuleId>, Refusal> {
    Err(Refusal::new(RefusalCode::Denied, "not decided"))
}

/// Decides which of `classes` of `target` a viewer (of a recording, of a held command) may see.
pub fn view<'a>(
    _snapshot: &Snapshot,
    _principal: &Principal,
    _origin: &Origin,
    _target: &TargetName,
    _classes: impl IntoIterator<Item = &'a DataClass>,
    _now: Timestamp,
) -> Masks {
    Masks::none_asked()
}
