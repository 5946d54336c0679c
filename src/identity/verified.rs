//! The proof that a principal is who it says it is.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::EntityId;
use crate::model::Principal;
use crate::model::login::Authentication;
use crate::model::principal::Kind;

/// A principal whose credential was verified.
///
/// Its fields are private, and only the verifier in this module makes one out of a token: whoever
/// holds a `Verified` need not ask again whether it was checked, only whether it still holds
/// ([`Verified::expires_at`]).
#[derive(Debug, Clone)]
pub struct Verified {
    principal: Arc<Principal>,
    expires_at: Option<Timestamp>,
}

impl Verified {
    /// The proof for a principal out of a token; only for `provider.rs`.
    pub(super) fn by_token(principal: Principal, expires_at: Timestamp) -> Self {
        Self { principal: Arc::new(principal), expires_at: Some(expires_at) }
    }

    /// The gateway itself, which works for `entity`: for its own reads of catalogues.
    ///
    /// It has no role and never expires. No token can yield its issuer, `weir`, or its kind.
    pub fn gateway(entity: Option<EntityId>) -> Self {
        let principal = Principal {
            issuer: "weir".to_owned(),
            subject: "gateway".to_owned(),
            name: "gateway".to_owned(),
            kind: Kind::Gateway,
            roles: BTreeSet::new(),
            entity,
            residence: None,
            person: "gateway".to_owned(),
            attributes: BTreeMap::new(),
        };
        Self { principal: Arc::new(principal), expires_at: None }
    }

    /// A proof out of nothing, for unit tests of other modules; no product code has it.
    #[cfg(test)]
    pub(crate) fn for_test(principal: Principal, expires_at: Option<Timestamp>) -> Self {
        Self { principal: Arc::new(principal), expires_at }
    }

    /// Who it is.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Until when the credential is good, the allowed skew included. `None`: for ever, which only
    /// the gateway itself is.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// How and when they last proved who they are. `None`: it is not known, or the gateway itself.
    pub fn authentication(&self) -> Option<Authentication> {
        None
    }

    /// Whether the credential is no longer good at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_until_it_expires() {
        let principal = Verified::gateway(None).principal().as_ref().clone();
        let at = Timestamp::UNIX_EPOCH;
        let verified = Verified::for_test(principal.clone(), Some(at));
        assert!(!verified.is_expired(Timestamp::MIN) && verified.is_expired(at));
        assert!(!Verified::for_test(principal, None).is_expired(Timestamp::MAX));
    }
}
