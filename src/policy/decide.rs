//! May this command run, and what may its answer show?

use jiff::Timestamp;

use crate::model::Command;
use crate::model::DataClass;
use crate::model::Principal;
use crate::model::Refusal;
use crate::model::Verdict;
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;
use crate::policy::admit::Permit;
use crate::policy::snapshot::Snapshot;

/// An approval of exactly one command.
#[derive(Debug, Clone, Copy)]
pub struct Approval<'a> {
    /// Who gave it.
    pub by: &'a Principal,
}

/// Decides `command` in the session that `permit` is for.
pub fn decide(
    _permit: &Permit,
    _snapshot: &Snapshot,
    _command: &Command,
    _approval: Option<&Approval<'_>>,
    _now: Timestamp,
) -> Verdict {
    Verdict::Deny(Refusal::new(RefusalCode::Denied, "not decided"))
}

/// Decides which of `classes` may be shown in the session that `permit` is for.
pub fn reveal<'a>(
    _permit: &Permit,
    _snapshot: &Snapshot,
    _classes: impl IntoIterator<Item = &'a DataClass>,
    _now: Timestamp,
) -> Masks {
    Masks::none_asked()
}
