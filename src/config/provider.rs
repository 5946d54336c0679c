//! `[[providers]]`: who says who somebody is, and what to make of the claims.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::value::Within;
use crate::model::Address;
use crate::model::EntityId;
use crate::model::principal::Kind;

/// An identity provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The issuer's identifier: exactly what tokens say in `iss`, and where discovery begins.
    pub issuer: Spanned<Url>,
    /// A token is for this gateway when `aud` has one of these.
    pub audience: Spanned<Vec<String>>,
    /// Signature algorithms that are accepted, whatever a token's header says.
    #[serde(default = "algorithms")]
    pub algorithms: Spanned<Vec<Algorithm>>,
    /// How far clocks may differ.
    #[serde(default = "skew")]
    pub skew_s: Within<0, 300>,
    /// Where the keys are, instead of where discovery says.
    pub jwks_uri: Option<Spanned<Url>>,
    /// Who vouches for the provider's TLS certificate, PEM. Left out: the system's roots.
    pub ca_file: Option<Spanned<PathBuf>>,
    /// What its principals are.
    #[serde(default = "person")]
    pub kind: Kind,
    /// Which claim says what.
    #[serde(default)]
    pub claims: Claims,
    /// The provider's word for a role → the role. Words that are not here give no role.
    #[serde(default)]
    pub roles: BTreeMap<String, String>,
    /// The provider's word for an entity → the entity. Words that are not here give no entity.
    #[serde(default)]
    pub entities: BTreeMap<String, Spanned<EntityId>>,
}

fn algorithms() -> Spanned<Vec<Algorithm>> {
    Spanned::new(0..0, vec![Algorithm::Es256, Algorithm::Rs256])
}

fn skew() -> Within<0, 300> {
    Within::nearest(30)
}

fn person() -> Kind {
    Kind::Person
}

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1). `none` and HMAC cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Algorithm {
    /// RSA PKCS #1 v1.5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSA PKCS #1 v1.5 with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSA PKCS #1 v1.5 with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// RSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// RSA-PSS with SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// RSA-PSS with SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// Edwards-curve signatures.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// The name in a token's header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// `[providers.claims]`: which claim says what.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Claims {
    /// The name that people and records see.
    pub name: String,
    /// The provider's words for roles: a text or a list.
    pub roles: String,
    /// The provider's word for the legal entity.
    pub entity: Option<String>,
    /// What tells one human being from another across accounts.
    pub person: String,
    /// The country of residence.
    pub residence: Option<String>,
    /// Further attributes that policies may read: attribute → claim.
    pub attributes: BTreeMap<String, String>,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            name: "preferred_username".to_owned(),
            roles: "groups".to_owned(),
            entity: None,
            person: "sub".to_owned(),
            residence: None,
            attributes: BTreeMap::new(),
        }
    }
}

/// An `https` URL; `http` is for this machine only. Keeps the text as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Url {
    text: String,
    address: Address,
}

impl Url {
    /// The text, byte for byte.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address that it leads to.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl TryFrom<String> for Url {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const EXPECTED: &str = "expected https://<host>[:<port>][/<path>], the host a DNS name in \
                                lower case or an IP address";
        let (scheme, rest) = text.split_once("://").ok_or(EXPECTED)?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        // Not repeated in the error: what stands before an `@` may be a password.
        if rest.contains('@') {
            return Err(format!("no user in an URL; {EXPECTED}"));
        }
        if rest.contains('#') || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("no fragment and only ASCII in an URL; {EXPECTED}"));
        }
        let port_follows = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let full = match (scheme, port_follows) {
            ("https" | "http", true) => authority.to_owned(),
            ("https", false) => format!("{authority}:443"),
            ("http", false) => format!("{authority}:80"),
            (other, _) => return Err(format!("`{other}` is no scheme for this; {EXPECTED}")),
        };
        let address = full.parse::<Address>().map_err(|error| format!("{error}; {EXPECTED}"))?;
        if scheme == "http" && !address.host.is_loopback() {
            return Err(format!(
                "http is for this machine only (localhost, 127.0.0.1); {EXPECTED}"
            ));
        }
        Ok(Self { text, address })
    }
}
