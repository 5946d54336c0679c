//! `[[providers]]`: who says who somebody is, and what to make of the claims.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::preset;
use crate::config::preset::Preset;
use crate::config::secret::SecretRef;
use crate::config::value::Within;
use crate::model::Address;
use crate::model::EntityId;
use crate::model::principal::Kind;

/// An identity provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Written")]
pub struct Provider {
    /// The issuer's identifier: exactly what tokens say in `iss`, and where discovery begins.
    pub issuer: Spanned<Url>,
    /// What people call it, where they choose where to sign in.
    pub name: Option<String>,
    /// A token is for this gateway when `aud` has one of these.
    pub audience: Spanned<Vec<String>>,
    /// Where its claims are known already.
    pub preset: Option<Preset>,
    /// Whether people may sign in there interactively.
    pub login: bool,
    /// The gateway's client id there. Left out: the first audience.
    pub client_id: Option<String>,
    /// Where the client's secret is kept. Left out: a public client, which PKCE protects.
    pub client_secret: Option<Spanned<SecretRef>>,
    /// What is asked for besides `openid`, `profile` and `offline_access`.
    pub scopes: Vec<String>,
    /// Whether people are asked for their consent at each sign-in.
    pub consent: bool,
    /// Whether claims that are not in the token are asked for at the userinfo endpoint.
    pub userinfo: bool,
    /// Other origins where discovery may say that the provider's endpoints are.
    pub endpoints: Vec<Spanned<Url>>,
    /// What claims must be for a token to count at all.
    pub require: BTreeMap<Spanned<String>, Spanned<Patterns>>,
    /// Signature algorithms that are accepted, whatever a token's header says.
    pub algorithms: Spanned<Vec<Algorithm>>,
    /// How far clocks may differ.
    pub skew_s: Within<0, 300>,
    /// Where the keys are, instead of where discovery says.
    pub jwks_uri: Option<Spanned<Url>>,
    /// Who vouches for the provider's TLS certificate, PEM. Left out: the system's roots.
    pub ca_file: Option<Spanned<PathBuf>>,
    /// What its principals are.
    pub kind: Kind,
    /// Which claim says what.
    pub claims: Claims,
    /// The provider's word for a role → the role. Words that are not here give no role.
    pub roles: BTreeMap<String, String>,
    /// The provider's word for an entity → the entity. Words that are not here give no entity.
    pub entities: BTreeMap<String, Spanned<EntityId>>,
}

/// An identity provider, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    issuer: Spanned<Url>,
    name: Option<String>,
    audience: Spanned<Vec<String>>,
    preset: Option<Preset>,
    login: Option<bool>,
    client_id: Option<String>,
    client_secret: Option<Spanned<SecretRef>>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    consent: bool,
    #[serde(default)]
    userinfo: bool,
    #[serde(default)]
    endpoints: Vec<Spanned<Url>>,
    #[serde(default)]
    require: BTreeMap<Spanned<String>, Spanned<Patterns>>,
    #[serde(default = "algorithms")]
    algorithms: Spanned<Vec<Algorithm>>,
    #[serde(default = "skew")]
    skew_s: Within<0, 300>,
    jwks_uri: Option<Spanned<Url>>,
    ca_file: Option<Spanned<PathBuf>>,
    kind: Option<Kind>,
    #[serde(default)]
    claims: WrittenClaims,
    #[serde(default)]
    roles: BTreeMap<String, String>,
    #[serde(default)]
    entities: BTreeMap<String, Spanned<EntityId>>,
}

impl From<Written> for Provider {
    fn from(written: Written) -> Self {
        let default = if written.preset.is_some() { Kind::Workload } else { Kind::Person };
        let kind = written.kind.unwrap_or(default);
        Self {
            issuer: written.issuer,
            name: written.name,
            audience: written.audience,
            preset: written.preset,
            login: written.login.unwrap_or(kind == Kind::Person),
            client_id: written.client_id,
            client_secret: written.client_secret,
            scopes: written.scopes,
            consent: written.consent,
            userinfo: written.userinfo,
            endpoints: written.endpoints,
            require: written.require,
            algorithms: written.algorithms,
            skew_s: written.skew_s,
            jwks_uri: written.jwks_uri,
            ca_file: written.ca_file,
            kind,
            claims: written.claims.over(written.preset),
            roles: written.roles,
            entities: written.entities,
        }
    }
}

/// One pattern, or several of which one must fit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of texts")]
pub enum Patterns {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Patterns {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }
}

fn algorithms() -> Spanned<Vec<Algorithm>> {
    Spanned::new(0..0, vec![Algorithm::Es256, Algorithm::Rs256])
}

fn skew() -> Within<0, 300> {
    Within::nearest(30)
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

/// `[providers.claims]`: which claim says what. Each is an expression in identity's own language.
#[derive(Debug, Clone)]
pub struct Claims {
    /// The name that people and records see.
    pub name: Words,
    /// The provider's words for roles: a text or a list.
    pub roles: Words,
    /// The provider's word for the legal entity.
    pub entity: Option<Words>,
    /// What tells one human being from another across accounts.
    pub person: Words,
    /// The country of residence.
    pub residence: Option<Words>,
    /// In an agent's own token: the person for whom it acts.
    pub acting_for: Option<Words>,
    /// Further attributes that policies may read: attribute → claim.
    pub attributes: BTreeMap<String, Words>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenClaims {
    name: Option<Words>,
    roles: Option<Words>,
    entity: Option<Words>,
    person: Option<Words>,
    residence: Option<Words>,
    acting_for: Option<Words>,
    attributes: BTreeMap<String, Words>,
}

impl WrittenClaims {
    /// What is written, and where nothing is, what the preset says.
    fn over(self, preset: Option<Preset>) -> Claims {
        let known = preset.map_or(preset::PLAIN, Preset::claims);
        let attributes = known.attributes.iter();
        let mut attributes: BTreeMap<_, _> =
            attributes.map(|(name, words)| ((*name).to_owned(), Words::known(words))).collect();
        attributes.extend(self.attributes);
        Claims {
            name: self.name.unwrap_or_else(|| Words::known(known.name)),
            roles: self.roles.unwrap_or_else(|| Words::known(known.roles)),
            entity: self.entity,
            person: self.person.unwrap_or_else(|| Words::known(known.person)),
            residence: self.residence,
            acting_for: self.acting_for,
            attributes,
        }
    }
}

/// An expression, and where it stands in the file.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Words(Spanned<String>);

impl Words {
    fn known(text: &str) -> Self {
        Self(Spanned::new(0..0, text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get_ref()
    }

    /// The place of the text's `byte` in the file, whose text is `file`; where escapes keep it from
    /// being found, the place of the whole.
    pub fn place(&self, file: &str, byte: usize) -> Spanned<()> {
        let span = self.0.span();
        let begin = span.start.saturating_add(1);
        let end = begin.saturating_add(self.as_str().len());
        let plain = file.get(begin..end) == Some(self.as_str());
        let begin = begin.saturating_add(byte);
        Spanned::new(if plain && begin < end { begin..end } else { span }, ())
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
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
