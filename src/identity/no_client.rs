//! Signing in at a provider, where no provider has a client: nobody can.

use crate::identity::Identity;
use crate::identity::IdentityError;
use crate::identity::SignedIn;
use crate::model::login::StepUp;

/// A sign-in that was begun.
#[derive(Debug, Clone)]
pub struct Pending {
    state: String,
}

impl Pending {
    /// What the answer must repeat as `state`.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// Checks what the browser brought along with the code.
    pub fn answered(&self, state: &str, _issuer: Option<&str>) -> Result<(), IdentityError> {
        if state == self.state { Ok(()) } else { Err(IdentityError::Malformed("another state")) }
    }
}

/// That somebody's session at a provider ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogoutOrder {
    /// The provider.
    pub issuer: String,
    /// Whose.
    pub subject: Option<String>,
    /// Which.
    pub sid: Option<String>,
    /// The token's own id.
    pub id: String,
}

impl Identity {
    /// The issuers that people can sign in at.
    pub fn providers(&self) -> Vec<&str> {
        Vec::new()
    }

    /// What people call a provider.
    pub fn provider_name(&self, _issuer: &str) -> Option<&str> {
        None
    }

    /// Begins a sign-in.
    pub async fn start(
        &self,
        issuer: Option<&str>,
        _redirect_uri: &str,
        _step_up: Option<&StepUp>,
    ) -> Result<(String, Pending), IdentityError> {
        Err(IdentityError::UnknownIssuer(issuer.unwrap_or("any").to_owned()))
    }

    /// Ends a sign-in.
    pub async fn finish(&self, _: &Pending, _code: &str) -> Result<SignedIn, IdentityError> {
        Err(IdentityError::UnknownIssuer("any".to_owned()))
    }

    /// Verifies a logout token.
    pub async fn logout_order(&self, _token: &str) -> Result<LogoutOrder, IdentityError> {
        Err(IdentityError::UnknownIssuer("any".to_owned()))
    }

    /// Takes back that an order was given.
    pub fn logout_failed(&self, _order: &LogoutOrder) {}
}
