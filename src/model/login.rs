//! Logins and credentials: what somebody has after signing in.
//!
//! A *login* is one principal on one device, from signing in at a provider until logging out. Its
//! *credentials* are what clients show to the gateway: short, bound and revocable. A session rests
//! on one credential and lives no longer than its login stands.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use crate::model::Principal;
use crate::model::Protocol;
use crate::model::RegionName;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::name::BadName;

/// Crockford's base 32: no i, l, o, u.
const SIGNS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// How many signs an id has after its letter: 60 random bits.
const ID_SIGNS: usize = 12;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $letter:literal, $kind:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A fresh id, from the operating system's random numbers.
            pub fn fresh() -> Self {
                let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
                // Bytes 6 and 8 of a UUIDv4 carry its version and variant: they are left out.
                let random = [one, two].into_iter().flat_map(|uuid| {
                    let bytes = uuid.into_bytes();
                    bytes.into_iter().enumerate().filter(|(at, _)| ![6, 8].contains(at))
                });
                let signs = random.filter_map(|(_, byte)| SIGNS.get(usize::from(byte & 31)));
                let signs = signs.copied().map(char::from).take(ID_SIGNS).collect::<String>();
                Self(format!("{}{signs}", $letter))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                let valid = text.strip_prefix($letter).is_some_and(|rest| {
                    rest.len() == ID_SIGNS && rest.bytes().all(|b| SIGNS.contains(&b))
                });
                if valid { Ok(Self(text)) } else { Err(BadName::new($kind, text, $expected)) }
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// One login, e.g. `l-7kq2m9xdb4tz`. Knowing it permits nothing.
    LoginId,
    "l-",
    "login id",
    "it looks like l-7kq2m9xdb4tz"
);
id!(
    /// One credential, e.g. `c-7kq2m9xdb4tz`. Knowing it permits nothing: it is not the secret.
    CredentialId,
    "c-",
    "credential id",
    "it looks like c-7kq2m9xdb4tz"
);

/// How and when somebody last proved to a provider who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    /// When (`auth_time`; where a token has none, its `iat`).
    pub at: Timestamp,
    /// The provider's word for how strong it was (`acr`, OpenID Connect Core 1.0 §2).
    pub acr: Option<String>,
    /// The methods used (`amr`, RFC 8176): `pwd`, `otp`, `hwk`, `mfa`.
    #[serde(default)]
    pub amr: BTreeSet<String>,
}

/// What a fresh login must be like, where policy asks for one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepUp {
    /// Not longer ago than this, in seconds. `None`: any time.
    pub age_s_max: Option<u64>,
    /// With this `acr`.
    pub acr: Option<String>,
    /// With all of these methods.
    #[serde(default)]
    pub amr: BTreeSet<String>,
}

/// From where and with what a login was begun, for the person to know it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The address it was begun from.
    pub address: IpAddr,
    /// A short text: `weir on laptop-7`, `browser`, `ssh`.
    pub label: String,
}

/// One principal on one device, from signing in until logging out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Its id.
    pub id: LoginId,
    /// Who, as the claims were mapped when the provider was last asked.
    pub principal: Arc<Principal>,
    /// How and when they proved it.
    pub authentication: Authentication,
    /// The provider's own session (`sid`, OpenID Connect Back-Channel Logout 1.0 §2.1).
    pub sid: Option<String>,
    /// From where.
    pub device: Device,
    /// Since when.
    pub began_at: Timestamp,
    /// Until when it may be renewed at most.
    pub ends_at: Timestamp,
    /// Until when its newest credential is good: sessions live until then.
    pub good_until: Timestamp,
    /// When and why it ended.
    pub ended: Option<Ended>,
}

/// That something ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: LoginEnd,
}

/// Why a login or a credential ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum LoginEnd {
    /// Its person logged out.
    LoggedOut,
    /// Somebody revoked it.
    Revoked {
        /// Who.
        by: String,
    },
    /// The provider said that its session ended (back-channel logout).
    ProviderLoggedOut,
    /// The provider would not renew it.
    ProviderRefused,
    /// A renewal brought another principal: other roles, another entity.
    Changed,
    /// It was renewed, and the new one is to be used.
    Renewed,
    /// A secret that had been used up was shown again: somebody has a copy.
    Replayed,
    /// The state database was silent for so long that a revocation could not have been seen.
    StateLost,
}

impl fmt::Display for LoginEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoggedOut => f.write_str("logged out"),
            Self::Revoked { by } => write!(f, "revoked by {by}"),
            Self::ProviderLoggedOut => f.write_str("logged out at the identity provider"),
            Self::ProviderRefused => f.write_str("the identity provider did not renew it"),
            Self::Changed => f.write_str("who you are at the identity provider has changed"),
            Self::Renewed => f.write_str("renewed"),
            Self::StateLost => f.write_str("the gateway's state database does not answer"),
            Self::Replayed => f.write_str("a used-up secret of it was shown again"),
        }
    }
}

/// What a credential may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// The gateway's own API.
    Control,
    /// Sessions with targets of a protocol.
    #[serde(untagged)]
    Target(Protocol),
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.write_str("control"),
            Self::Target(protocol) => protocol.fmt(f),
        }
    }
}

/// What a credential is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The region whose gateways take it.
    pub region: RegionName,
    /// What for; nothing else.
    pub uses: BTreeSet<Use>,
    /// The one target it is for. `None`: any of these kinds.
    pub target: Option<TargetName>,
    /// The one host that a browser's cookie is for.
    pub host: Option<String>,
}

/// What a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A bearer secret, `weir_s_…`, for passwords and `Authorization`.
    Session,
    /// A secret that does nothing but renew, once: `weir_r_…`.
    Renewal,
    /// A browser's cookie, `weir_b_…`.
    Cookie,
    /// An X.509 client certificate.
    Certificate,
    /// An OpenSSH user certificate.
    SshCertificate,
}

impl Form {
    /// The word in the state database and in listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Renewal => "renewal",
            Self::Cookie => "cookie",
            Self::Certificate => "certificate",
            Self::SshCertificate => "ssh-certificate",
        }
    }

    /// What a secret of this form begins with; a certificate is no secret.
    pub fn prefix(self) -> Option<&'static str> {
        match self {
            Self::Session => Some("weir_s_"),
            Self::Renewal => Some("weir_r_"),
            Self::Cookie => Some("weir_b_"),
            Self::Certificate | Self::SshCertificate => None,
        }
    }
}

/// What a client shows to the gateway, as the gateway knows it: never the secret, only its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Its id.
    pub id: CredentialId,
    /// Whose.
    pub login: LoginId,
    /// What it is.
    pub form: Form,
    /// SHA-256 of the secret, or of the certificate's bytes.
    pub digest: Digest,
    /// What it is bound to.
    pub scope: Scope,
    /// Since when.
    pub issued_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
    /// When and why it ended before.
    pub ended: Option<Ended>,
}

/// An X.509 certificate that a client showed, and proved to have the key of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// The `access` authority signed it, for clients, and it is within its time.
    pub ours: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_differ() {
        let login = LoginId::fresh();
        assert_eq!(login.as_str().parse::<LoginId>().unwrap(), login);
        assert_ne!(LoginId::fresh(), login);
        let credential = CredentialId::fresh();
        assert!(credential.as_str().parse::<LoginId>().is_err());
        assert!("c-7kq2m9xd".parse::<CredentialId>().is_err());
    }

    #[test]
    fn uses_are_plain_words_in_the_state_database() {
        let uses = BTreeSet::from([Use::Control, Use::Target(Protocol::Postgres)]);
        let text = serde_json::to_string(&uses).unwrap();
        assert_eq!(text, r#"["control","postgres"]"#);
        assert_eq!(serde_json::from_str::<BTreeSet<Use>>(&text).unwrap(), uses);
    }
}
