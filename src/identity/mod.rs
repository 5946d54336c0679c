//! Who calls: a provider's token becomes a [`Verified`] principal, or an error.
//!
//! ```text
//! token ── bounds, form ──► its `iss` chooses the provider ── keys ──► signature ──► claims ──► Verified
//!          (token.rs)        (mod.rs)                (keys.rs, oidc.rs)   (provider.rs)  (claims.rs)
//! ```
//!
//! Nothing of a token is believed before its signature is verified with a key of the configured
//! provider; the one claim read earlier, `iss`, only chooses whose keys are tried and is compared
//! again afterwards.
//!
//! This module knows tokens and providers. It must not know sockets (whoever builds [`Identity`]
//! brings a [`Fetch`]), protocols, policies or what a principal may do.

mod assertion;
mod certifier;
mod claim;
mod claims;
mod client;
mod delegation;
mod error;
mod explain;
mod expression;
mod fetch;
mod issuer;
mod keys;
mod logout;
mod logins;
mod oidc;
mod options;
mod provider;
mod seal;
mod secret;
pub mod ssh_certificate;
mod token;
mod vault;
mod verified;

#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;

pub use assertion::AssertionError;
pub use assertion::Assertions;
pub use certifier::CertificateAsk;
pub use certifier::Certifier;
pub use certifier::CertifyError;
pub use certifier::SignedCertificate;
pub use claim::Claim;
pub use claim::Purpose;
pub use client::ClientOptions;
pub use client::ClientSecret;
pub use client::GoesOn;
pub use client::PENDING_S_MAX;
pub use client::Pending;
pub use client::SCOPES_DEFAULT;
pub use client::SignedIn;
pub use error::IdentityError;
pub use error::ProviderError;
pub use explain::Explanation;
pub use explain::Finding;
pub use explain::Outcome;
pub use expression::EXPRESSION_BYTES_MAX;
pub use expression::Expression;
pub use expression::ExpressionError;
pub use expression::Pattern;
pub use fetch::BODY_BYTES_MAX;
pub use fetch::Fetch;
pub use fetch::FetchError;
pub use fetch::Request;
pub use fetch::Response;
pub use issuer::AUTHORIZATION_PATH;
pub use issuer::DISCOVERY_PATH;
pub use issuer::IssuerError;
pub use issuer::JWKS_PATH;
pub use issuer::LOCAL_TOKEN_BYTES_MAX;
pub use issuer::LocalIssuer;
pub use issuer::TOKEN_PATH;
pub use logins::CREDENTIAL_S_MAX;
pub use logins::Issued;
pub use logins::LoginError;
pub use logins::LoginOptions;
pub use logins::Logins;
pub use logins::Renewed;
pub use logins::SSH_CERTIFICATE_S_MAX;
pub use logins::Wanted;
pub use logout::LogoutOrder;
#[cfg(test)]
pub(crate) use memory::Memory;
pub use options::AGE_S_DEFAULT;
pub use options::Algorithm;
pub use options::ClaimPath;
pub use options::EntityMapping;
pub use options::KindMapping;
pub use options::Mapping;
pub use options::Options;
pub use options::OptionsError;
pub use options::ProviderOptions;
pub use options::RolesMapping;
pub use options::SKEW_S_DEFAULT;
pub use options::SKEW_S_MAX;
pub use seal::SEAL_KEY_BYTES;
pub use seal::SealError;
pub use secret::fresh as fresh_secret;
pub use token::TOKEN_BYTES_MAX;
pub use vault::Change;
pub use vault::Vault;
pub use vault::VaultError;
pub use vault::WithCredentials;
pub use vault::WithRefresh;
pub use verified::Standing;
pub use verified::Verified;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::identity::provider::Provider;
use crate::identity::token::CREDENTIALS;
use crate::identity::token::Token;
use crate::model::Clock;

/// Reads bytes as a token, as claims and as a provider's keys, and throws away what was read:
/// nothing that is not verified leaves this module. For `fuzzing`.
#[doc(hidden)]
pub fn read_and_forget(bytes: &[u8]) {
    const ISSUER: &str = "https://idp.example";
    let mapping = Mapping::default();
    if let Ok(keys) = keys::KeySet::read(ISSUER, bytes) {
        drop(keys);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    drop(text.parse::<Expression>());
    drop(Token::read(text, CREDENTIALS).map(|token| token.text().len()));
    if let Ok(claims) = serde_json::from_str::<token::Claims>(text) {
        drop(claims::principal(ISSUER, &mapping, &claims));
    }
}

/// The configured providers and what is known of their keys; shared by all connections.
pub struct Identity {
    providers: Vec<Arc<Provider>>,
}

impl Identity {
    /// Checks the options; opens no connection yet.
    pub fn new(
        options: Options,
        fetch: &Arc<dyn Fetch>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, OptionsError> {
        let mut issuers = BTreeSet::new();
        let mut providers = Vec::new();
        for provider in options.providers {
            if !issuers.insert(provider.issuer.clone()) {
                return Err(OptionsError::Twice(provider.issuer));
            }
            let provider = Provider::new(provider, Arc::clone(fetch), Arc::clone(clock))?;
            providers.push(Arc::new(provider));
        }
        Ok(Self { providers })
    }

    /// Verifies a provider's token.
    ///
    /// May wait for the provider's keys when the token names one that is not known yet. Cancel
    /// safe: a fetch that was begun goes on for those who come after.
    pub async fn verify(&self, token: &str) -> Result<SignedIn, IdentityError> {
        let token = Token::read(token, CREDENTIALS)?;
        self.provider(token.issuer())?.verify(&token).await
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.iter()
    }

    fn provider(&self, issuer: &str) -> Result<&Arc<Provider>, IdentityError> {
        let provider = self.all().find(|provider| provider.issuer() == issuer);
        provider.ok_or_else(|| IdentityError::UnknownIssuer(issuer.to_owned()))
    }

    /// Fetches the keys of all providers, so that the first to sign in need not wait, and known
    /// keys are there should a provider go down. A failure is logged and not final.
    pub async fn warm(&self) {
        for provider in &self.providers {
            provider.warm().await;
        }
    }

    /// The origins (scheme, host, port) that providers are contacted at: there are no others.
    pub fn origins(&self) -> BTreeSet<String> {
        self.providers.iter().flat_map(|provider| provider.origins()).collect()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("providers", &self.providers).finish()
    }
}
