//! What is done to logins and credentials, in the ledger: who, from where, what, and its id; never a
//! secret.

use std::sync::Arc;

use crate::api::Resources;
use crate::api::fail::Fail;
use crate::audit::LedgerEvent;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::RuleId;
use crate::model::fault::Chain;
use crate::model::refusal::IntoRefusal;

/// Something that was done.
pub(super) struct Deed<'a> {
    /// By whom.
    pub(super) who: &'a Arc<Principal>,
    /// From where.
    pub(super) origin: &'a Origin,
    /// `login`, `logout`, `issue`, `renew`, `revoke`, `certificate`, `step-up`.
    pub(super) action: &'static str,
    /// To what: an id.
    pub(super) of: String,
    /// The rules that permitted it, where it was asked of policy.
    pub(super) rules: Vec<RuleId>,
}

impl Deed<'_> {
    /// Puts it into the ledger. What cannot be recorded is not done.
    pub(super) fn note(self, resources: &Resources) -> Result<(), Fail> {
        let event = LedgerEvent::Control {
            principal: Arc::clone(self.who),
            origin: self.origin.clone(),
            action: self.action.to_owned(),
            of: self.of,
            rules: self.rules,
            refusal: None,
            purpose: None,
        };
        let recorded = resources.gateway.parts.audit.record(&event);
        recorded.map(drop).map_err(|error| {
            tracing::error!(fault = "gateway", "{}", Chain(&error));
            Fail(error.refusal())
        })
    }
}
