//! The proof that a principal is who it says it is.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use tokio::sync::watch;

use crate::model::CredentialId;
use crate::model::EntityId;
use crate::model::LoginId;
use crate::model::Principal;
use crate::model::login::Authentication;
use crate::model::login::LoginEnd;
use crate::model::principal::Kind;

/// A principal whose credential was verified.
///
/// Its fields are private, and only the verifiers in this module make one: whoever holds a
/// `Verified` need not ask again whether it was checked, only whether it still holds
/// ([`Verified::expires_at`], [`Verified::ended`]).
///
/// One that rests on a login reads the login as it stands now: when it is renewed, stepped up or
/// ended, every session that holds the proof knows at once.
#[derive(Debug, Clone)]
pub struct Verified {
    principal: Arc<Principal>,
    rests_on: RestsOn,
}

#[derive(Debug, Clone)]
enum RestsOn {
    /// Nothing: it is the gateway itself.
    Itself,
    /// A provider's token.
    Token { expires_at: Timestamp, authentication: Authentication },
    /// A login, by one of its credentials.
    Login {
        login: LoginId,
        credential: CredentialId,
        standing: watch::Receiver<Standing>,
        /// Until when the credential counts by itself; else as long as the login is renewed.
        until: Option<Timestamp>,
    },
}

/// How a login stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Who, as the claims were mapped when the provider was last asked.
    pub principal: Arc<Principal>,
    /// How and when they last proved it.
    pub authentication: Authentication,
    /// Until when, as it was last renewed.
    pub good_until: Timestamp,
    /// Why it ended.
    pub ended: Option<LoginEnd>,
    /// Credentials of it that were ended by themselves.
    pub revoked: BTreeMap<CredentialId, LoginEnd>,
}

impl Verified {
    /// The proof for a principal out of a token; only for `provider.rs`.
    pub(super) fn by_token(
        principal: Principal,
        expires_at: Timestamp,
        authentication: Authentication,
    ) -> Self {
        let rests_on = RestsOn::Token { expires_at, authentication };
        Self { principal: Arc::new(principal), rests_on }
    }

    /// The proof for the principal of a login that stands, by one of its credentials; only for
    /// `logins.rs`.
    pub(super) fn by_login(
        (login, credential): (LoginId, CredentialId),
        standing: watch::Receiver<Standing>,
        until: Option<Timestamp>,
    ) -> Self {
        let principal = Arc::clone(&standing.borrow().principal);
        Self { principal, rests_on: RestsOn::Login { login, credential, standing, until } }
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
            actors: Vec::new(),
        };
        Self { principal: Arc::new(principal), rests_on: RestsOn::Itself }
    }

    /// A proof out of nothing, for unit tests of other modules; no product code has it.
    #[cfg(test)]
    pub(crate) fn for_test(principal: Principal, expires_at: Option<Timestamp>) -> Self {
        let rests_on = expires_at.map_or(RestsOn::Itself, |expires_at| RestsOn::Token {
            expires_at,
            authentication: Authentication {
                at: Timestamp::UNIX_EPOCH,
                acr: None,
                amr: BTreeSet::new(),
            },
        });
        Self { principal: Arc::new(principal), rests_on }
    }

    /// A proof that rests on a login of a test; no product code has it.
    #[cfg(test)]
    pub(crate) fn for_test_by_login(standing: watch::Receiver<Standing>) -> Self {
        Self::by_login((LoginId::fresh(), CredentialId::fresh()), standing, None)
    }

    /// Who it is.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Until when the proof is good, the allowed skew included. `None`: for ever, which only the
    /// gateway itself is. A renewal of the login moves it.
    pub fn expires_at(&self) -> Option<Timestamp> {
        match &self.rests_on {
            RestsOn::Itself => None,
            RestsOn::Token { expires_at, .. } => Some(*expires_at),
            RestsOn::Login { standing, until, .. } => {
                let renewed = standing.borrow().good_until;
                Some(until.map_or(renewed, |until| until.max(renewed)))
            }
        }
    }

    /// Why the proof holds no longer, although its time is not over.
    pub fn ended(&self) -> Option<LoginEnd> {
        let RestsOn::Login { credential, standing, .. } = &self.rests_on else { return None };
        let standing = standing.borrow();
        let revoked = standing.revoked.get(credential).filter(|why| **why != LoginEnd::Renewed);
        let changed = (standing.principal != self.principal).then_some(LoginEnd::Changed);
        standing.ended.clone().or_else(|| revoked.cloned()).or(changed)
    }

    /// How and when they last proved who they are. `None`: it is not known, or the gateway itself.
    pub fn authentication(&self) -> Option<Authentication> {
        match &self.rests_on {
            RestsOn::Itself => None,
            RestsOn::Token { authentication, .. } => Some(authentication.clone()),
            RestsOn::Login { standing, .. } => Some(standing.borrow().authentication.clone()),
        }
    }

    /// The login that it rests on.
    pub fn login(&self) -> Option<&LoginId> {
        match &self.rests_on {
            RestsOn::Login { login, .. } => Some(login),
            RestsOn::Itself | RestsOn::Token { .. } => None,
        }
    }

    /// The credential that was shown.
    pub fn credential(&self) -> Option<&CredentialId> {
        match &self.rests_on {
            RestsOn::Login { credential, .. } => Some(credential),
            RestsOn::Itself | RestsOn::Token { .. } => None,
        }
    }

    /// A watch on the login's standing, for whoever must know at once that it changed.
    pub fn standing(&self) -> Option<watch::Receiver<Standing>> {
        match &self.rests_on {
            RestsOn::Login { standing, .. } => Some(standing.clone()),
            RestsOn::Itself | RestsOn::Token { .. } => None,
        }
    }

    /// Whether the credential is no longer good at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
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
