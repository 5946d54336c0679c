//! May this principal hold a session with this target?

use std::sync::Arc;

use jiff::Timestamp;

use crate::identity::Verified;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::SessionId;
use crate::model::TargetFacts;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::refusal::RefusalCode;
use crate::policy::snapshot::Snapshot;
use crate::policy::transfer::Decision;

/// What a client asks for at connect.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The session that would begin.
    pub session: SessionId,
    /// The target it names.
    pub target: &'a TargetName,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// Where it comes from.
    pub origin: &'a Origin,
}

/// Proof that a principal may hold a session with a target. Only [`admit`] makes it.
#[derive(Debug)]
pub struct Permit {
    session: SessionId,
    principal: Arc<Principal>,
    target: Arc<TargetFacts>,
    origin: Origin,
    expires_at: Timestamp,
    valid_until: Timestamp,
    version: Digest,
    rules: Vec<RuleId>,
    transfer: Decision,
    suppressed: Option<Decision>,
    observed: Option<Refusal>,
}

impl Permit {
    /// The session it is for.
    pub fn session(&self) -> SessionId {
        self.session
    }
    /// Who holds the session.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }
    /// The target, as it was at admission.
    pub fn target(&self) -> &Arc<TargetFacts> {
        &self.target
    }
    /// Where the principal comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
    /// When the principal's proof of identity ends; the session ends with it.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
    /// When the session must be asked again ([`readmit`]): the earliest end of a fact it stands on.
    pub fn valid_until(&self) -> Timestamp {
        self.valid_until
    }
    /// The version of the snapshot that admitted.
    pub fn version(&self) -> Digest {
        self.version
    }
    /// The rules that decided.
    pub fn rules(&self) -> &[RuleId] {
        &self.rules
    }
    /// The transfer decision that the session stands on.
    pub fn transfer(&self) -> &Decision {
        &self.transfer
    }
    /// Whether it is admitted only with every class of the target suppressed.
    pub fn suppressed(&self) -> bool {
        self.suppressed.is_some()
    }
    /// Why every class is suppressed: the decision that forbids showing any.
    pub fn suppressed_by(&self) -> Option<&Decision> {
        self.suppressed.as_ref()
    }
    /// What would have been refused, were the target not in observe mode.
    pub fn observed(&self) -> Option<&Refusal> {
        self.observed.as_ref()
    }
}

/// Decides whether `verified` may hold a session with the target it asks for.
pub fn admit(
    _verified: &Verified,
    _asked: Asked<'_>,
    _snapshot: &Arc<Snapshot>,
    _now: Timestamp,
) -> Result<Permit, Refusal> {
    Err(Refusal::new(RefusalCode::NoTarget, "not decided"))
}

/// Asks again whether the session that `permit` is for may go on under `snapshot`.
pub fn readmit(_permit: &Permit, _snapshot: &Snapshot, _now: Timestamp) -> Result<(), Refusal> {
    Err(Refusal::new(RefusalCode::NoTarget, "not decided"))
}
