//! What was written, section by section: the gateway itself, its listeners, limits and law.
//!
//! `config/weir.toml` shows every setting with its meaning. A value whose form is wrong does not
//! get this far; whether values fit together is for [`crate::config::load`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::audit::Audit;
use crate::config::metrics::Metrics;
use crate::config::provider::Provider;
use crate::config::state::State;
use crate::config::target::Target;
use crate::config::value::Day;
use crate::config::value::Network;
use crate::config::value::Within;
use crate::model::Country;
use crate::model::DataClass;
use crate::model::EntityId;
use crate::model::HostName;
use crate::model::RegionName;
use crate::model::RuleId;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::principal::Counters;
use crate::model::principal::Role;

/// Most country databases.
pub(super) const DATABASES_MAX: usize = 8;

/// The whole file. Paths in it are relative to its folder until [`crate::config::load`] is done.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The gateway itself.
    pub gateway: Gateway,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// Where it keeps its state.
    #[serde(default)]
    pub state: State,
    /// Bounds on what clients and targets may do.
    #[serde(default)]
    pub limits: Limits,
    /// Its certificate.
    pub tls: Tls,
    /// Where gateways and targets stand.
    pub regions: BTreeMap<Spanned<RegionName>, Region>,
    /// From which network somebody comes from which country: the most specific one counts.
    #[serde(default)]
    pub networks: BTreeMap<Spanned<Network>, Country>,
    /// Who else says from which country somebody comes.
    #[serde(default)]
    pub places: Places,
    /// Who says who somebody is.
    pub providers: Vec<Provider>,
    /// Legal entities.
    pub entities: BTreeMap<Spanned<EntityId>, Entity>,
    /// Legal bases on file.
    #[serde(default)]
    pub bases: Vec<Basis>,
    /// What may be reached.
    #[serde(default)]
    pub targets: BTreeMap<Spanned<TargetName>, Target>,
    /// What is kept.
    #[serde(default)]
    pub audit: Audit,
    /// Where it shows what it measures of itself.
    #[serde(default)]
    pub metrics: Metrics,
    /// How long a command waits for an approval.
    #[serde(default)]
    pub holds: Holds,
    /// How people sign in, and for how long.
    #[serde(default)]
    pub login: Login,
}

/// `[gateway]`: the gateway itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Its id in records; never changes.
    pub id: RuleId,
    /// Its DNS name; a target's is `<target>.<name>`.
    pub name: HostName,
    /// The port by which people reach it, where that is not the first listener's.
    pub public_port: Option<u16>,
    /// The region it stands in.
    pub region: Spanned<RegionName>,
    /// The legal entity that runs it.
    pub entity: Spanned<EntityId>,
    /// Folder of state, recordings and ledger.
    pub state_dir: PathBuf,
    /// Folder of Cedar policies.
    pub policies_dir: Spanned<PathBuf>,
    /// Log filter, such as `info` or `info,weir::identity=debug`.
    #[serde(default = "info")]
    pub log: String,
    /// How log lines look.
    #[serde(default)]
    pub log_format: LogFormat,
}

fn info() -> String {
    "info".to_owned()
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// `[[listeners]]`: an address and what its clients must send first.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The address to listen on.
    pub address: Spanned<SocketAddr>,
    /// Whether connections begin with a PROXY v2 header.
    #[serde(default)]
    pub proxy: Proxy,
    /// From where connections with a PROXY header are taken: the relays, and nobody else.
    #[serde(default)]
    pub proxy_from: Vec<Spanned<Network>>,
}

/// Whether connections begin with a PROXY v2 header: never found out by looking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proxy {
    /// They do not; a header is malformed input.
    #[default]
    Forbidden,
    /// They do; without one the connection ends.
    Required,
}

/// `[limits]`: bounds on what clients and targets may do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections in total.
    pub connections_max: Within<1, 1_000_000>,
    /// Connections from one client address.
    pub connections_per_address_max: Within<1, 1_000_000>,
    /// Sessions of one principal at a time.
    pub sessions_per_principal_max: Within<1, 100_000>,
    /// From accept to the end of the TLS handshake.
    pub handshake_ms_max: Within<100, 120_000>,
    /// In SSH, from the first byte to a verified token.
    pub login_s_max: Within<1, 600>,
    /// In SSH, rejected tries to sign in on one connection, the client's first probe included.
    pub login_tries_max: Within<1, 20>,
    /// Silence after which a connection is taken for SSH.
    pub silence_ms: Within<100, 60_000>,
    /// What a client may send before it is known who asks.
    pub startup_bytes_max: Within<1_024, 1_048_576>,
    /// Nothing asked and nothing answered for this long ends a session.
    pub idle_s_max: Within<10, 604_800>,
    /// How long sessions may go on after SIGTERM.
    pub drain_s_max: Within<0, 86_400>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: Within::nearest(10_000),
            connections_per_address_max: Within::nearest(500),
            sessions_per_principal_max: Within::nearest(200),
            handshake_ms_max: Within::nearest(10_000),
            login_s_max: Within::nearest(120),
            login_tries_max: Within::nearest(10),
            silence_ms: Within::nearest(2_000),
            startup_bytes_max: Within::nearest(32_768),
            idle_s_max: Within::nearest(28_800),
            drain_s_max: Within::nearest(30),
        }
    }
}

/// `[tls]`: the gateway's certificate, for its name and `*.<name>`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and its intermediates, PEM.
    pub certificate_file: Spanned<PathBuf>,
    /// Its private key, PEM.
    pub key_file: Spanned<PathBuf>,
}

/// `[regions.<name>]`: where gateways and targets stand.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its country.
    pub country: Country,
    /// Every address of a target of the region lies in one of these.
    pub networks: Vec<Spanned<Network>>,
}

/// `[places]`: who else says from which country somebody comes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Places {
    /// Country databases, for addresses that no configured network holds.
    #[serde(default)]
    pub databases: Vec<Spanned<PathBuf>>,
}

/// `[entities.<id>]`: a legal entity.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// The country it is established in.
    pub country: Country,
    /// Controller or processor.
    pub role: Role,
    /// Declared facts that the law data asks for, such as `dpf = "nonhr,hr"`.
    #[serde(default)]
    pub attributes: BTreeMap<Spanned<String>, String>,
    /// Declared numbers that some laws count: upper bounds, for every calendar year.
    #[serde(default)]
    pub counters: Counters,
}

/// `[[bases]]`: a legal basis on file. A declaration: Weir cites it and cannot judge it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    /// Its id in records.
    pub id: Spanned<RuleId>,
    /// The row of the law data that it makes use of, such as `EUM-SCC2`.
    pub mechanism: Spanned<RuleId>,
    /// Who makes the data available.
    pub exporter: Spanned<EntityId>,
    /// Who gets it.
    pub importer: Spanned<EntityId>,
    /// The importer's country as the document says.
    pub importer_country: Spanned<Country>,
    /// The classes it covers. Left out: all.
    pub classes: Option<Vec<DataClass>>,
    /// Further countries from which the importer's people may look.
    #[serde(default)]
    pub access_countries: Vec<Country>,
    /// What the document asks for besides.
    pub needs_mask: Option<NeedsMask>,
    /// The assessment of the importer's law.
    pub tia: Option<Assessment>,
    /// Reference of the approval, filing or case, where the mechanism needs one.
    pub filing: Option<String>,
    /// Why it may be used; needed by derogations.
    pub reason: Option<String>,
    /// SHA-256 of the document.
    pub document_sha256: Digest,
    /// First day on which it holds.
    pub valid_from: Day,
    /// Last day on which it holds.
    pub valid_to: Spanned<Day>,
    /// How often it may be used. Left out: without bound.
    pub uses_max: Option<Within<1, 1_000_000>>,
    /// How often it was used so far: whoever keeps the register counts, the gateway does not. Left
    /// out: unknown, and then a basis with `uses_max` does not serve.
    pub uses: Option<Within<0, 1_000_000>>,
    /// Who answers for the declaration.
    pub owner: String,
    /// Who approved it.
    pub approved_by: String,
}

/// How values must leave under a basis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeedsMask {
    /// Replaced by tokens.
    Token,
    /// Suppressed.
    Null,
}

/// `tia = { … }`: an assessment of the importer's law.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assessment {
    /// Where it is filed.
    pub reference: String,
    /// When it was made.
    pub date: Day,
    /// When it must be looked at again. Left out: with the basis.
    pub review_by: Option<Spanned<Day>>,
}

/// `[login]`: how people sign in, and for how long.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Login {
    /// How long a session credential or client certificate lives; it is renewed before.
    pub credential_s: Within<60, 3_600>,
    /// How long an SSH certificate lives.
    pub ssh_certificate_s: Within<60, 28_800>,
    /// How long a login is renewed before its person has to sign in again.
    pub login_s_max: Within<300, 2_592_000>,
    /// The certificate of the authority that signs people's certificates, PEM. Left out: one is made
    /// in the state folder.
    pub access_ca_file: Option<Spanned<PathBuf>>,
    /// Its key.
    pub access_ca_key_file: Option<Spanned<PathBuf>>,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            credential_s: Within::nearest(3_600),
            ssh_certificate_s: Within::nearest(28_800),
            login_s_max: Within::nearest(43_200),
            access_ca_file: None,
            access_ca_key_file: None,
        }
    }
}

/// `[holds]`: how long a command waits for an approval, and how many may wait.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Holds {
    /// A command that nobody answered for this long is refused.
    pub wait_s_max: Within<1, 86_400>,
    /// Commands of one session that may wait at once.
    pub pending_per_session_max: Within<1, 1_000>,
    /// Commands that may wait at once, in total.
    pub pending_max: Within<1, 100_000>,
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            wait_s_max: Within::nearest(300),
            pending_per_session_max: Within::nearest(4),
            pending_max: Within::nearest(1_000),
        }
    }
}
