//! What an operator configures about providers, and the checks of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use openidconnect::url::Host;
use openidconnect::url::Url;
use serde::Deserialize;

use crate::identity::ClientOptions;
use crate::identity::Expression;
use crate::identity::Pattern;
use crate::model::EntityId;
use crate::model::principal::Kind;

/// How far a provider's clock may be off, in seconds, where nothing is configured.
pub const SKEW_S_DEFAULT: u32 = 60;
/// The most that can be configured for it, in seconds.
pub const SKEW_S_MAX: u32 = 300;
/// How long after its issue a token is good at most, in seconds, where nothing is configured.
pub const AGE_S_DEFAULT: u32 = 24 * 60 * 60;
/// Longest name of a claim, in bytes.
const CLAIM_BYTES_MAX: usize = 128;

/// Which providers there are.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The providers; each has its own issuer.
    pub providers: Vec<ProviderOptions>,
}

/// One provider.
#[derive(Debug, Clone)]
pub struct ProviderOptions {
    /// The issuer's identifier, byte for byte as the provider writes it: an `https` URL, or `http`
    /// on loopback.
    pub issuer: String,
    /// What people call it; shown where they choose where to sign in.
    pub name: Option<String>,
    /// `aud` must be or contain one of these: this gateway's names at the provider.
    pub audiences: Vec<String>,
    /// How people sign in there. `None`: its tokens are taken, but nobody signs in interactively.
    pub client: Option<ClientOptions>,
    /// Where the keys are, if not where discovery says, or if the provider keeps them on another
    /// host than its issuer's. With it nothing is discovered.
    pub jwks_uri: Option<String>,
    /// Other origins (`https://host[:port]`) where discovery may say that the provider's endpoints
    /// are. Left empty: the issuer's only.
    pub endpoints: Vec<String>,
    /// Whether claims that are not in the token are asked for at the userinfo endpoint (OpenID
    /// Connect Core 1.0 §5.3) whenever somebody signs in or a login is renewed.
    pub userinfo: bool,
    /// What claims must be for a token to count at all: one of the patterns for each.
    pub require: Vec<(Expression, Vec<Pattern>)>,
    /// The algorithms that its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// How far its clock may be off, in seconds.
    pub skew_s: u32,
    /// How long after its issue (`iat`) a token is good at most, in seconds, whatever its `exp`.
    pub age_s_max: u32,
    /// What its claims mean.
    pub mapping: Mapping,
}

impl ProviderOptions {
    /// A provider with the defaults for all the rest.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            name: None,
            audiences: vec![audience.into()],
            client: None,
            jwks_uri: None,
            endpoints: Vec::new(),
            userinfo: false,
            require: Vec::new(),
            algorithms: Algorithm::DEFAULT.to_vec(),
            skew_s: SKEW_S_DEFAULT,
            age_s_max: AGE_S_DEFAULT,
            mapping: Mapping::default(),
        }
    }
}

/// An algorithm that a token may be signed with. `none` and the HMAC ones cannot be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSA PKCS#1 v1.5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// RSA PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// RSA PSS with SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// RSA PSS with SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
}

impl Algorithm {
    /// What is allowed where nothing is configured.
    pub const DEFAULT: [Self; 4] = [Self::Es256, Self::EdDsa, Self::Ps256, Self::Rs256];
}

/// What a provider's claims mean.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// The claim with the name shown to people and in records. Required in every token.
    pub name: Expression,
    /// The claim that tells one human being from another across accounts. Required in every token.
    pub person: Expression,
    /// The claim with the roles.
    pub roles: Option<RolesMapping>,
    /// The claim with the legal entity.
    pub entity: Option<EntityMapping>,
    /// The claim with the country of residence, as an ISO 3166-1 code.
    pub residence: Option<Expression>,
    /// What kind of principal it is, where no claim says.
    pub kind: Kind,
    /// The claim that says what kind of principal it is.
    pub kind_claim: Option<KindMapping>,
    /// Further claims that policies may read, by the attribute's name.
    pub attributes: BTreeMap<String, Expression>,
    /// The claim in which an agent's own token says for whom it acts: an object with that person's
    /// claims. `act` (RFC 8693 §4.1) is always read.
    pub acting_for: Option<ClaimPath>,
}

impl Mapping {
    /// Everything that is read from a token.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let roles = self.roles.iter().map(|roles| &roles.claim);
        let entity = self.entity.iter().map(|entity| &entity.claim);
        let optional = roles.chain(entity).chain(&self.residence).chain(self.attributes.values());
        [&self.name, &self.person].into_iter().chain(optional)
    }
}

impl Default for Mapping {
    fn default() -> Self {
        Self {
            name: Expression::name("preferred_username"),
            person: Expression::name("sub"),
            roles: None,
            entity: None,
            residence: None,
            kind: Kind::Person,
            kind_claim: None,
            attributes: BTreeMap::new(),
            acting_for: None,
        }
    }
}

/// How roles are read: a text is one role, a list of texts is several.
#[derive(Debug, Clone)]
pub struct RolesMapping {
    /// The claim.
    pub claim: Expression,
    /// Only what begins with this is a role, and the rest of it is its name.
    pub prefix: Option<String>,
    /// New names for roles, after the prefix is gone.
    pub rename: BTreeMap<String, String>,
    /// Whether only what is named in `rename` is a role; otherwise the others keep their names.
    pub only_named: bool,
}

/// How the legal entity is read.
#[derive(Debug, Clone)]
pub struct EntityMapping {
    /// The claim.
    pub claim: Expression,
    /// The configured entity for each value; any other value names no entity.
    pub entities: BTreeMap<String, EntityId>,
}

/// How the kind of a principal is read.
#[derive(Debug, Clone)]
pub struct KindMapping {
    /// The claim.
    pub claim: ClaimPath,
    /// The kind for each value; a token with any other value is refused.
    pub kinds: BTreeMap<String, Kind>,
}

/// Where in a token a claim is: the name of a top-level claim, or a JSON pointer (RFC 6901) such as
/// `/realm_access/roles`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ClaimPath(String);

impl ClaimPath {
    /// A top-level claim whose name is known to be good.
    pub(super) fn name(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// The top-level claim that it is, or lies in.
    pub(super) fn top(&self) -> Cow<'_, str> {
        let Some(pointer) = self.0.strip_prefix('/') else { return Cow::from(&self.0) };
        let first = pointer.split('/').next().unwrap_or_default();
        if first.contains('~') {
            // RFC 6901 §4.
            Cow::from(first.replace("~1", "/").replace("~0", "~"))
        } else {
            Cow::from(first)
        }
    }

    /// The path as configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ClaimPath {
    type Error = OptionsError;

    fn try_from(text: String) -> Result<Self, OptionsError> {
        let length = 1..=CLAIM_BYTES_MAX;
        if length.contains(&text.len()) && text != "/" && !text.chars().any(char::is_control) {
            Ok(Self(text))
        } else {
            Err(OptionsError::Claim(text))
        }
    }
}

impl FromStr for ClaimPath {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with the options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Two providers with one issuer.
    #[error("two providers have the issuer `{0}`")]
    Twice(String),
    /// Not a URL that may be fetched from.
    #[error(
        "`{0}` cannot be used: it must be an https URL (http only on loopback) \
         without user name, password and fragment, and an issuer without a query"
    )]
    Url(String),
    /// No audience: tokens for others would be accepted.
    #[error("the provider `{0}` needs an audience")]
    Audience(String),
    /// No algorithm: no token would be accepted.
    #[error("the provider `{0}` needs at least one algorithm")]
    Algorithms(String),
    /// Too much skew.
    #[error("the provider `{issuer}` has a skew of {skew_s} s; at most {SKEW_S_MAX} s can be had")]
    Skew {
        /// The provider.
        issuer: String,
        /// What was configured.
        skew_s: u32,
    },
    /// A maximal age of nothing: no token would be accepted.
    #[error("the provider `{0}` needs a maximal age of more than 0 s")]
    Age(String),
    /// A claim that cannot be.
    #[error("`{0}` is no claim: use a name, or a JSON pointer such as /realm_access/roles")]
    Claim(String),
    /// A requirement that no token meets.
    #[error("`{0}` is required to be one of none: expected at least one pattern")]
    Required(String),
    /// A client that cannot sign anybody in.
    #[error("the client at `{issuer}` cannot be used: {problem}")]
    Client {
        /// The provider.
        issuer: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A provider that may call its principals the gateway.
    #[error("the provider `{0}` maps principals to the kind gateway, which only the gateway is")]
    Gateway(String),
}

impl ProviderOptions {
    /// Checks what the types do not.
    pub fn validate(&self) -> Result<(), OptionsError> {
        self.check().map(|_| ())
    }

    /// Checks what the types do not, and parses the issuer and where its keys are.
    pub(super) fn check(&self) -> Result<(Url, Option<Url>), OptionsError> {
        let issuer = || self.issuer.clone();
        let url = fetchable(&self.issuer)?;
        if url.query().is_some() {
            return Err(OptionsError::Url(issuer()));
        }
        let jwks_uri = self.jwks_uri.as_deref().map(fetchable).transpose()?;
        for endpoint in &self.endpoints {
            let url = fetchable(endpoint)?;
            if url.path() != "/" || url.query().is_some() {
                return Err(OptionsError::Url(endpoint.clone()));
            }
        }
        if let Some(client) = &self.client {
            let wrong = |problem| OptionsError::Client { issuer: issuer(), problem };
            client.check().map_err(wrong)?;
        }
        if let Some((claim, _)) = self.require.iter().find(|(_, patterns)| patterns.is_empty()) {
            return Err(OptionsError::Required(claim.to_string()));
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return Err(OptionsError::Audience(issuer()));
        }
        if self.algorithms.is_empty() {
            return Err(OptionsError::Algorithms(issuer()));
        }
        if self.skew_s > SKEW_S_MAX {
            return Err(OptionsError::Skew { issuer: issuer(), skew_s: self.skew_s });
        }
        if self.age_s_max == 0 {
            return Err(OptionsError::Age(issuer()));
        }
        let kinds = self.mapping.kind_claim.iter().flat_map(|mapping| mapping.kinds.values());
        if kinds.chain([&self.mapping.kind]).any(|kind| *kind == Kind::Gateway) {
            return Err(OptionsError::Gateway(issuer()));
        }
        Ok((url, jwks_uri))
    }
}

/// A URL that may be fetched from: its answers cannot be forged on the way.
pub(super) fn fetchable(text: &str) -> Result<Url, OptionsError> {
    let refused = || OptionsError::Url(text.to_owned());
    let url = Url::parse(text).map_err(|_| refused())?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => return Err(refused()),
    };
    let private = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if private && plain { Ok(url) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> ProviderOptions {
        ProviderOptions::new("https://id.example", "weir")
    }

    #[test]
    fn a_provider_is_fetched_from_over_tls_or_on_loopback_only() {
        for good in [
            "https://id.example",
            "https://id.example/realms/a",
            "http://127.0.0.1:8080",
            "http://[::1]:1/x",
            "http://localhost:9",
        ] {
            let options = ProviderOptions { issuer: good.to_owned(), ..provider() };
            assert!(options.check().is_ok(), "{good}");
        }
        for bad in [
            "http://id.example",
            "http://localhost.id.example",
            "https://u@id.example",
            "https://u:p@id.example",
            "https://id.example?x",
            "https://id.example#x",
            "file:///etc/passwd",
            "id.example",
            "weir",
            "",
        ] {
            let options = ProviderOptions { issuer: bad.to_owned(), ..provider() };
            assert!(options.check().is_err(), "{bad}");
        }
        let options =
            ProviderOptions { jwks_uri: Some("http://id.example/k".into()), ..provider() };
        assert!(options.check().is_err());
    }

    #[test]
    fn what_would_accept_everything_or_nothing_is_refused() {
        for bad in [
            ProviderOptions { audiences: Vec::new(), ..provider() },
            ProviderOptions { audiences: vec!["weir".into(), String::new()], ..provider() },
            ProviderOptions { endpoints: vec!["https://a.example/b".into()], ..provider() },
            ProviderOptions { endpoints: vec!["http://a.example".into()], ..provider() },
            ProviderOptions { algorithms: Vec::new(), ..provider() },
            ProviderOptions { skew_s: SKEW_S_MAX + 1, ..provider() },
            ProviderOptions { age_s_max: 0, ..provider() },
            ProviderOptions {
                mapping: Mapping { kind: Kind::Gateway, ..Mapping::default() },
                ..provider()
            },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn symmetric_algorithms_and_none_cannot_be_configured() {
        for name in ["none", "None", "HS256", "HS384", "HS512", "rs256", ""] {
            assert!(serde_json::from_value::<Algorithm>(name.into()).is_err(), "{name}");
        }
        assert_eq!(serde_json::from_value::<Algorithm>("EdDSA".into()).unwrap(), Algorithm::EdDsa);
    }
}
