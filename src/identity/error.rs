//! Why a token was not accepted: exactly for our log, in one general sentence for the client.

use std::sync::Arc;

use jiff::Timestamp;

use crate::identity::FetchError;
use crate::identity::TOKEN_BYTES_MAX;
use crate::identity::VaultError;
use crate::model::Fault;
use crate::model::Refusal;
use crate::model::login::LoginEnd;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;

/// Why a token was not accepted.
///
/// `Display` is for the log. It names claims but, except for the issuer and the key's id, never
/// shows what a token says, because a token is a secret and a claim may be personal.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Longer than is read.
    #[error("the token has {0} bytes; at most {TOKEN_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not a signed token of the wanted form.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// No configured provider has this issuer.
    #[error("no configured provider has the issuer {0:?}")]
    UnknownIssuer(String),
    /// Signed with an algorithm that is not in the provider's configured list.
    #[error("the token is signed with {0}, which is not allowed for its provider")]
    Algorithm(&'static str),
    /// The provider has no such key that fits the algorithm.
    #[error("the provider has no key with the id {0:?} that fits the token's algorithm")]
    UnknownKey(String),
    /// No key id, and not exactly one key that fits.
    #[error("the token names no key, and the provider has not exactly one that fits")]
    NoKeyId,
    /// Not signed by the key it names.
    #[error("the signature is wrong")]
    Signature,
    /// Its `exp` has passed, or it was issued too long ago.
    #[error("the token expired at {0}")]
    Expired(Timestamp),
    /// Its `nbf` or `iat` lies in the future.
    #[error("the token is from the future: its `{claim}` is {at}")]
    Early {
        /// The claim.
        claim: &'static str,
        /// What it says.
        at: Timestamp,
    },
    /// A claim is missing or unusable.
    #[error("the claim `{claim}` {problem}")]
    Claim {
        /// The claim, as configured.
        claim: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The keys that are needed cannot be had from the provider.
    #[error("the keys of {issuer} cannot be had")]
    Provider {
        /// The provider's issuer.
        issuer: String,
        /// Why.
        #[source]
        source: Arc<ProviderError>,
    },
    /// A provider's token was shown where only the gateway's own credentials count.
    #[error("a provider's token is not taken here")]
    TokenNotTaken,
    /// The provider would not give new tokens for a refresh token (RFC 6749 §5.2, `invalid_grant`).
    #[error("the provider did not renew the login")]
    RefreshRefused,
    /// A certificate that the `access` authority did not sign, or not for this, or not for now.
    #[error("the certificate is none of this gateway's, or its time is over")]
    ForeignCertificate,
    /// A credential of ours is not good here.
    #[error("the credential {0}")]
    Credential(&'static str),
    /// A credential of ours ended before its time.
    #[error("the credential has ended: {0}")]
    CredentialEnded(LoginEnd),
    /// The state database did not answer, so no credential can be looked up.
    #[error(transparent)]
    Vault(VaultError),
    /// The task that fetches keys was stopped: the gateway is shutting down, or has a bug.
    #[error("the fetching of keys was stopped")]
    Stopped,
}

impl IdentityError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::TooLong(_)
            | Self::Malformed(_)
            | Self::UnknownIssuer(_)
            | Self::Algorithm(_)
            | Self::UnknownKey(_)
            | Self::NoKeyId
            | Self::Signature
            | Self::Expired(_)
            | Self::Early { .. }
            | Self::TokenNotTaken
            | Self::RefreshRefused
            | Self::ForeignCertificate
            | Self::Credential(_)
            | Self::CredentialEnded(_)
            | Self::Claim { .. } => Fault::Client,
            Self::Provider { .. } => Fault::Provider,
            Self::Stopped | Self::Vault(_) => Fault::Gateway,
        }
    }

    /// An error about one claim.
    pub(super) fn claim(claim: impl Into<String>, problem: &'static str) -> Self {
        Self::Claim { claim: claim.into(), problem }
    }
}

impl IntoRefusal for IdentityError {
    /// One text for whatever is wrong with a token, so that nobody can feel their way to a good one.
    fn refusal(&self) -> Refusal {
        if matches!(self, Self::TokenNotTaken) {
            // The same whether there is such a target or not.
            let reason = "no target of that name takes a provider's token as it is";
            return Refusal::new(RefusalCode::Unauthenticated, reason)
                .hint("sign in with `weir login` and use what it gives you, and check the name");
        }
        match self.fault() {
            Fault::Client | Fault::Target => Refusal::new(
                RefusalCode::Unauthenticated,
                "the credential was not accepted",
            )
            .hint(
                "sign in with `weir login` and use what it gives you; the gateway's log says what \
                     was wrong with this",
            ),
            Fault::Provider => Refusal::new(
                RefusalCode::Unauthenticated,
                "the identity provider cannot be reached, so the credential cannot be verified",
            )
            .hint("try again in a minute; if it stays so, tell whoever runs the gateway"),
            Fault::Gateway => Refusal::new(
                RefusalCode::Unauthenticated,
                "the gateway could not verify the credential",
            )
            .hint("try again; if it stays so, tell whoever runs the gateway"),
        }
    }
}

/// Why a provider's keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// No answer.
    #[error("{url} cannot be fetched")]
    Fetch {
        /// What was asked for.
        url: String,
        /// Why there was no answer.
        #[source]
        source: FetchError,
    },
    /// No answer in time.
    #[error("{url} was not fetched within {seconds} s")]
    TimedOut {
        /// What was asked for.
        url: String,
        /// The bound.
        seconds: u64,
    },
    /// Another answer than 200.
    #[error("{url} answers with status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// A longer answer than is read.
    #[error("{url} is too long: {bytes} bytes")]
    TooLong {
        /// What was asked for.
        url: String,
        /// Its length.
        bytes: usize,
    },
    /// Not a document of the wanted form.
    #[error("{url} is not understood")]
    NotUnderstood {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The discovery document is that of another issuer (OpenID Connect Discovery 1.0 §4.3).
    #[error("{url} is the document of another issuer: {found:?}")]
    OtherIssuer {
        /// What was asked for.
        url: String,
        /// The issuer it names.
        found: String,
    },
    /// The discovery document sends us where nobody configured us to go.
    #[error(
        "{url} names a key set elsewhere, at {found:?}; if that is right, configure `jwks_uri`"
    )]
    Elsewhere {
        /// What was asked for.
        url: String,
        /// Where the key set is said to be.
        found: String,
    },
    /// More keys than are kept.
    #[error("{url} has {count} keys, which is too many")]
    TooManyKeys {
        /// What was asked for.
        url: String,
        /// How many keys it has.
        count: usize,
    },
    /// Not one key that a token may be signed with.
    #[error("{url} has no key that a token may be signed with")]
    NoKeys {
        /// What was asked for.
        url: String,
    },
    /// Known keys have become too old to be trusted, and the provider has not been reached since.
    #[error("the known keys are too old")]
    TooOld,
}
