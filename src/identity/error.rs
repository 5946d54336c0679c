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
    /// A list that is mapped is not in the token, because the provider found it too long.
    #[error(
        "the claim `{0}` is not in the token: the provider keeps it elsewhere because it is long; \
         let the provider send only the groups that matter here, or set `userinfo = true`"
    )]
    Overflow(String),
    /// Nobody can sign in at a provider of this issuer.
    #[error("there is no provider to sign in at: {0:?}")]
    NoLogin(String),
    /// An answer that does not belong to what was begun, or comes too late.
    #[error("the answer to a sign-in {0}")]
    Answer(&'static str),
    /// The provider did not ask for what was wanted, or the person did not give it.
    #[error("the sign-in is not what was asked for: {0}")]
    StepUp(&'static str),
    /// The provider does not take a code.
    #[error("{issuer} does not take the code: {error}")]
    CodeRefused {
        /// The provider's issuer.
        issuer: String,
        /// Its word for it (RFC 6749 §5.2).
        error: String,
    },
    /// The provider does not take this gateway for its client.
    #[error("{issuer} does not accept this gateway as its client: {error}")]
    ClientRefused {
        /// The provider's issuer.
        issuer: String,
        /// Its word for it (RFC 6749 §5.2).
        error: String,
    },
    /// The client's secret cannot be read.
    #[error("the client secret for {issuer}")]
    ClientSecret {
        /// The provider's issuer.
        issuer: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A logout token that was shown before.
    #[error("the logout token was shown before")]
    Replayed,
    /// What is needed cannot be had from the provider.
    #[error("what is needed from {issuer} cannot be had")]
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
            | Self::Claim { .. }
            | Self::NoLogin(_)
            | Self::Answer(_)
            | Self::StepUp(_)
            | Self::CodeRefused { .. }
            | Self::TokenNotTaken
            | Self::RefreshRefused
            | Self::ForeignCertificate
            | Self::Credential(_)
            | Self::CredentialEnded(_)
            | Self::Replayed => Fault::Client,
            Self::Provider { .. } | Self::Overflow(_) => Fault::Provider,
            Self::Stopped
            | Self::ClientRefused { .. }
            | Self::ClientSecret { .. }
            | Self::Vault(_) => Fault::Gateway,
        }
    }

    /// The refusals of those who did prove who they are: they may know what is missing.
    fn of_the_signed(&self) -> Option<Refusal> {
        let (reason, hint) = match self {
            Self::Overflow(_) => (
                "your identity provider left out the list of your groups, because it is long",
                "tell whoever runs the gateway: its log says what to configure",
            ),
            Self::StepUp(_) => (
                "your identity provider did not prove who you are as freshly or as strongly as is \
                 asked for here",
                "sign in again, with the strongest method that you have",
            ),
            Self::RefreshRefused => (
                "your login has ended: the identity provider does not renew it",
                "sign in again: weir login",
            ),
            Self::Answer(_) | Self::CodeRefused { .. } => {
                ("this sign-in is over or was not begun here", "sign in again: weir login")
            }
            Self::TooLong(_)
            | Self::Malformed(_)
            | Self::UnknownIssuer(_)
            | Self::Algorithm(_)
            | Self::UnknownKey(_)
            | Self::NoKeyId
            | Self::Signature
            | Self::Expired(_)
            | Self::Early { .. }
            | Self::Claim { .. }
            | Self::NoLogin(_)
            | Self::ClientRefused { .. }
            | Self::ClientSecret { .. }
            | Self::Replayed
            | Self::TokenNotTaken
            | Self::ForeignCertificate
            | Self::Credential(_)
            | Self::CredentialEnded(_)
            | Self::Vault(_)
            | Self::Provider { .. }
            | Self::Stopped => return None,
        };
        Some(Refusal::new(RefusalCode::Unauthenticated, reason).hint(hint))
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
        if let Some(refusal) = self.of_the_signed() {
            return refusal;
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

/// Why something cannot be had from a provider.
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
    #[error("{url} names a `{what}` elsewhere, at {found:?}; if that is right, add to `endpoints`")]
    Elsewhere {
        /// What was asked for.
        url: String,
        /// What is elsewhere.
        what: &'static str,
        /// Where it is said to be.
        found: String,
    },
    /// The provider has no such endpoint.
    #[error("the provider has no `{0}`")]
    Missing(&'static str),
    /// An answer that is none.
    #[error("the answer of {url} {problem}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
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
