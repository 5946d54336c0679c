//! `[targets.<name>]`: what may be reached. Exactly one table `postgres`, `ssh`, `http` or
//! `kubernetes` below it says what the target speaks and how it is reached.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::secret::SecretRef;
use crate::model::Address;
use crate::model::DataClass;
use crate::model::Declared;
use crate::model::EntityId;
use crate::model::Host;
use crate::model::RegionName;
use crate::model::target::WithoutBasis;

/// What may be reached, whatever it speaks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The region it stands in.
    pub region: Spanned<RegionName>,
    /// The legal entity that answers for its data.
    pub owner: Spanned<EntityId>,
    /// Laws that apply besides those of its country, such as `EU`.
    #[serde(default)]
    pub laws: BTreeSet<Spanned<String>>,
    /// How many US persons' (or devices') data can be reached in it, at most. Left out: unknown,
    /// which is more than any number.
    pub us_persons: Option<u64>,
    /// Labels that policies may read, such as `prod`.
    #[serde(default)]
    pub labels: BTreeSet<String>,
    /// Classes that it holds besides those of its tables, paths and kinds.
    #[serde(default)]
    pub classes: BTreeSet<DataClass>,
    /// What happens at connect when no legal basis covers the transfer.
    #[serde(default)]
    pub without_basis: WithoutBasis,
    /// Verdicts are computed and recorded, but denies, holds and masks are not applied.
    #[serde(default)]
    pub observe: bool,
    /// A provider's own token counts as a password or bearer, besides Weir's credentials.
    #[serde(default)]
    pub provider_tokens: bool,
    /// It speaks PostgreSQL.
    pub postgres: Option<Postgres>,
    /// It speaks SSH.
    pub ssh: Option<Ssh>,
    /// It speaks HTTP.
    pub http: Option<Http>,
    /// It is a Kubernetes API server.
    pub kubernetes: Option<Kubernetes>,
}

/// `tls = { … }` of a target. Left out altogether: verified against the system's roots.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Whether the target is verified. Left out: it is.
    pub mode: Option<Spanned<TlsMode>>,
    /// Who vouches for the target's certificate, PEM. Left out: the system's roots.
    pub ca_file: Option<Spanned<PathBuf>>,
    /// The name in its certificate. Left out: the host of its address.
    pub server_name: Option<Host>,
}

/// Whether a target is verified. There is nothing in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Certificate chain and name must be right.
    VerifyFull,
    /// No TLS; only to this machine itself.
    Off,
}

impl Tls {
    /// Whether the target is verified.
    pub fn mode(&self) -> TlsMode {
        self.mode.as_ref().map_or(TlsMode::VerifyFull, |mode| *mode.get_ref())
    }
}

/// `[targets.<name>.postgres]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// Where it listens.
    pub address: Spanned<Address>,
    /// The databases that are offered. The first is used when a client names none.
    pub databases: Spanned<Vec<String>>,
    /// The database user that the gateway signs in as.
    pub login: Spanned<String>,
    /// That user's password.
    pub credential: Spanned<SecretRef>,
    /// By what clients prove who they are, unless they show a certificate or choose otherwise.
    #[serde(default)]
    pub auth: PostgresAuth,
    /// How it is verified.
    #[serde(default)]
    pub tls: Tls,
    /// What was declared of each relation, by `schema.name`. Others are unknown.
    #[serde(default)]
    pub tables: BTreeMap<Spanned<String>, Table>,
}

/// By what a client of a PostgreSQL target proves who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PostgresAuth {
    /// A password, which is a session credential.
    #[default]
    Password,
    /// SASL's OAUTHBEARER, as PostgreSQL 18's clients speak it.
    Oauth,
}

/// `[targets.<name>.postgres.tables."schema.name"]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Every column, with its class or `clear`. Columns that are not here are unknown.
    pub columns: BTreeMap<Spanned<String>, Declared>,
}

/// `[targets.<name>.ssh]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// Where it listens.
    pub address: Spanned<Address>,
    /// Logins that may be asked for: exact names, or a beginning and `*`, such as `app-*`.
    pub logins: Spanned<Vec<Spanned<String>>>,
    /// Its host keys, as lines of OpenSSH public keys. Others are refused.
    pub host_keys: Spanned<Vec<Spanned<String>>>,
    /// The gateway's private key there, in OpenSSH format.
    pub credential: Spanned<SecretRef>,
}

/// `[targets.<name>.http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Where it listens.
    pub address: Spanned<Address>,
    /// How it is verified; `mode = "off"` is plain HTTP.
    #[serde(default)]
    pub tls: Tls,
    /// What the gateway sends in `credential_header`. Left out: nothing.
    pub credential: Option<Spanned<SecretRef>>,
    /// The header that carries the credential.
    #[serde(default = "authorization")]
    pub credential_header: Spanned<String>,
    /// What a path is that no route names.
    #[serde(default)]
    pub unlisted: Undeclared,
    /// `%2F` in a path is taken as it is instead of refused.
    #[serde(default)]
    pub encoded_slash: bool,
    /// `//` in a path is taken as it is instead of refused.
    #[serde(default)]
    pub double_slash: bool,
    /// What answers hold, by path. The first route that fits counts.
    #[serde(default)]
    pub routes: Vec<Route>,
}

fn authorization() -> Spanned<String> {
    Spanned::new(0..0, "authorization".to_owned())
}

/// `[[targets.<name>.http.routes]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// A path: `/api/people`; `*` is one segment; `/**` at the end is that and all below.
    pub path: Spanned<String>,
    /// What members of the answer hold, by JSON path such as `$.people[*].email`.
    #[serde(default)]
    pub fields: BTreeMap<Spanned<String>, Declared>,
    /// What members are that no field names, where the route has a classified one.
    #[serde(default)]
    pub undeclared: Undeclared,
}

/// What something is that nobody declared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Undeclared {
    /// Unknown, and therefore refused.
    #[default]
    Refuse,
    /// Clear, in writing.
    Clear,
}

/// `[targets.<name>.kubernetes]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// The kubeconfig that says where the API server is and how the gateway signs in.
    pub kubeconfig_file: Spanned<PathBuf>,
    /// The context in it. Left out: its current one.
    pub context: Option<String>,
    /// What kinds hold, by resource: `secrets`, or `<resource>.<group>`.
    #[serde(default)]
    pub kinds: BTreeMap<Spanned<String>, KubernetesKind>,
}

/// `[targets.<name>.kubernetes.kinds.<resource>]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesKind {
    /// What members of an object hold, by JSON path such as `$.data.*`. Others are clear.
    pub fields: BTreeMap<Spanned<String>, Declared>,
}
