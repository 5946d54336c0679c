//! From what was written to every module's options: the one place where the two meet.
//!
//! An error names the place in the file. A file that another one names (a certificate, a policy,
//! a key) is read here, so that a broken one stops the start and not the first session.

use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use toml::Spanned;

use crate::config;
use crate::config::Loaded;
use crate::config::Problem;
use crate::config::SecretRef;
use crate::config::file;
use crate::config::state;
use crate::config::target::TlsMode;
use crate::daemon::translate_law as law;
use crate::identity;
use crate::listen;
use crate::listen::country;
use crate::listen::country::Database;
use crate::listen::origin::Networks;
use crate::model::Host;
use crate::policy;
use crate::policy::transfer;
use crate::policy::transfer::Pack;
use crate::protocol::ssh;
use crate::session::Version;
use crate::session::hold;
use crate::store;
use crate::target;
use crate::target::Catalogue;
use crate::target::Credential;
use crate::target::UpstreamTls;
use crate::tls;

/// Most policy files in the folder.
const POLICY_FILES_MAX: usize = 1_000;

/// Whether the files that a configuration names must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// They must: the gateway is to run here.
    Needed,
    /// They may be missing: the configuration is only checked.
    MayBeMissing,
}

impl Files {
    /// Reads a file that the configuration names; `None` where it may be missing, and is.
    pub(super) fn read(
        self,
        loaded: &Loaded,
        file: &Spanned<PathBuf>,
    ) -> Result<Option<Vec<u8>>, Problem> {
        if self == Self::MayBeMissing && !file.get_ref().exists() {
            return Ok(None);
        }
        loaded.read(file).map(Some)
    }
}

/// A configuration that cannot be put in force: one line for each thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// The file says something wrong.
    #[error("{0}")]
    Problems(config::Problems),
    /// A place in the file is wrong.
    #[error("{0}")]
    Problem(Problem),
    /// A policy is wrong.
    #[error("{0}")]
    Policy(policy::BadPolicy),
    /// The law data in the binary is wrong.
    #[error("the law data in this binary: {0}")]
    Law(transfer::BadPack),
}

impl From<Problem> for BadConfig {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<config::Problems> for BadConfig {
    fn from(problems: config::Problems) -> Self {
        Self::Problems(problems)
    }
}

/// One version of policy, law and catalogue.
pub(super) fn version(loaded: &Loaded, files: Files) -> Result<Version, BadConfig> {
    let pack = Pack::builtin().map_err(BadConfig::Law)?;
    law::check_targets(loaded, &pack)?;
    let catalogue = catalogue(loaded, files)?;
    let gateway = &loaded.file.gateway;
    let region = region(loaded, &gateway.region)?;
    let parts = policy::Parts {
        policies: policies(loaded)?,
        targets: catalogue.targets().map(|target| (**target.facts()).clone()).collect(),
        entities: law::entities(loaded, &pack)?,
        bases: law::bases(loaded, &pack)?,
        pack,
        gateway: policy::GatewayFacts {
            id: gateway.id.to_string(),
            region: gateway.region.get_ref().clone(),
            country: region.country.clone(),
            entity: Some(gateway.entity.get_ref().clone()),
            recording_country: region.country.clone(),
        },
    };
    let snapshot = policy::Snapshot::compile(parts).map_err(BadConfig::Policy)?;
    Ok(Version { snapshot: Arc::new(snapshot), catalogue: Arc::new(catalogue) })
}

/// Where the gateway listens.
pub(super) fn listeners(file: &config::File) -> Vec<listen::Options> {
    let limits = listen_limits(&file.limits);
    let options = |listener: &file::Listener| listen::Options {
        address: *listener.address.get_ref(),
        proxy: match listener.proxy {
            file::Proxy::Forbidden => listen::Proxy::Forbidden,
            file::Proxy::Required => listen::Proxy::Required {
                from: listener.proxy_from.iter().map(|network| network.get_ref().net()).collect(),
            },
        },
        limits,
    };
    file.listeners.iter().map(options).collect()
}

/// From which network somebody comes from which country, and who else is asked.
pub(super) fn networks(loaded: &Loaded, files: Files) -> Result<Networks, BadConfig> {
    let all = loaded.file.networks.iter();
    let pairs = all.map(|(network, country)| (network.get_ref().net(), country.clone()));
    let networks = Networks::new(pairs).map_err(|error| {
        let place = Spanned::new(0..0, ());
        let place =
            loaded.file.networks.keys().next().map_or(place, |n| Spanned::new(n.span(), ()));
        BadConfig::Problem(loaded.source.problem(&place, error.to_string()))
    })?;
    let databases = &loaded.file.places.databases;
    let there = databases.iter().filter(|path| files == Files::Needed || path.get_ref().exists());
    let databases = there.map(|path| {
        let bytes = loaded.read_up_to(path, country::DATABASE_BYTES_MAX)?;
        let name = path.get_ref().file_name().unwrap_or_default().to_string_lossy();
        Database::read(name, bytes)
            .map_err(|error| BadConfig::Problem(loaded.source.problem(path, error.to_string())))
    });
    Ok(networks.with(databases.collect::<Result<Vec<_>, _>>()?))
}

/// The side that clients see. A certificate that cannot be used is a problem of the configuration.
pub(super) fn tls(loaded: &Loaded, access_pem: Option<&str>) -> Result<tls::Server, BadConfig> {
    let certificates = vec![certificate(&loaded.file)];
    let options =
        tls::ServerOptions { certificates, tls12: false, access: access_pem.map(tls::Pem::bytes) };
    tls::Server::new(&options).map_err(|error| {
        let place = &loaded.file.tls.certificate_file;
        let what = crate::model::fault::Chain(&error).to_string();
        BadConfig::Problem(loaded.source.problem(place, what))
    })
}

/// The gateway's certificate.
pub(super) fn certificate(file: &config::File) -> tls::KeyPair {
    tls::KeyPair {
        chain: tls::Pem::File(file.tls.certificate_file.get_ref().clone()),
        key: tls::Pem::File(file.tls.key_file.get_ref().clone()),
    }
}

/// The state database.
pub(super) fn state(loaded: &Loaded) -> Result<store::Options, BadConfig> {
    let place = match &loaded.file.state.database {
        None => store::Place::Sqlite(loaded.file.gateway.state_dir.join("state.db")),
        Some(reference) => {
            let url = reference.get_ref().read().map_err(|error| {
                let what = crate::model::fault::Chain(&error).to_string();
                loaded.source.problem(reference, what)
            })?;
            store::Place::Postgres(Box::new(server(database(loaded, reference, &url)?)))
        }
    };
    Ok(store::Options { gateway: loaded.file.gateway.id.to_string(), place })
}

/// The networks of the gateway's own region, and this machine, which stands where the gateway stands.
pub(super) fn region_networks(loaded: &Loaded) -> Vec<IpNet> {
    let region = loaded.file.regions.get(&loaded.file.gateway.region);
    let networks = region.iter().flat_map(|region| &region.networks);
    networks.map(|network| network.get_ref().net()).chain(this_machine()).collect()
}

/// This machine alone.
pub(super) fn this_machine() -> [IpNet; 2] {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].map(IpNet::from)
}

/// Checks the URL of the state database, if it is on this machine.
pub(super) fn check_state(loaded: &Loaded) -> Result<(), BadConfig> {
    if let Some(reference) = &loaded.file.state.database
        && let Ok(url) = reference.get_ref().read()
    {
        database(loaded, reference, &url)?;
    }
    Ok(())
}

fn database(
    loaded: &Loaded,
    reference: &Spanned<SecretRef>,
    url: &SecretString,
) -> Result<state::Database, Problem> {
    let read = url.expose_secret().parse::<state::Database>();
    read.map_err(|error| {
        loaded.source.problem(reference, format!("the URL in {}: {error}", reference.get_ref()))
    })
}

fn server(database: state::Database) -> store::Server {
    store::Server {
        door: match database.door {
            state::Door::Tcp(address) => store::Door::Tcp(address),
            state::Door::Socket(folder) => store::Door::Socket(folder),
        },
        tls: match database.tls {
            state::Tls::Off => store::ServerTls::Off,
            state::Tls::VerifyFull { ca_file, identity } => {
                store::ServerTls::VerifyFull { ca_file, identity }
            }
        },
        database: database.name,
        login: database.login,
        password: database.password,
    }
}

/// How long logins and credentials last.
pub(super) fn logins(file: &config::File) -> identity::LoginOptions {
    let seconds = |seconds: usize| u32::try_from(seconds).unwrap_or(u32::MAX);
    identity::LoginOptions {
        region: file.gateway.region.get_ref().clone(),
        credential_s: seconds(file.login.credential_s.count()),
        ssh_certificate_s: seconds(file.login.ssh_certificate_s.count()),
        login_s_max: seconds(file.login.login_s_max.count()),
    }
}

/// Where people reach the gateway with a browser.
pub(super) fn url(file: &config::File) -> String {
    let listener = file.listeners.first().map(|listener| listener.address.get_ref().port());
    let port = file.gateway.public_port.or(listener).unwrap_or(443);
    let name = &file.gateway.name;
    if port == 443 { format!("https://{name}") } else { format!("https://{name}:{port}") }
}

/// Bounds of holding.
pub(super) fn holds(file: &config::File) -> hold::Limits {
    hold::Limits {
        wait_s_max: u32::try_from(file.holds.wait_s_max.count()).unwrap_or(u32::MAX),
        pending_max: file.holds.pending_max.count(),
        pending_per_session_max: file.holds.pending_per_session_max.count(),
    }
}

/// Bounds of SSH connections.
pub(super) fn ssh(limits: &file::Limits) -> ssh::Limits {
    let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    ssh::Limits {
        login_s_max: seconds(limits.login_s_max.seconds()),
        login_tries_max: limits.login_tries_max.count(),
        idle_s_max: seconds(limits.idle_s_max.seconds()),
        ..ssh::Limits::default()
    }
}

fn listen_limits(limits: &file::Limits) -> listen::Limits {
    let ms = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    listen::Limits {
        connections_max: limits.connections_max.count(),
        connections_per_address_max: limits.connections_per_address_max.count(),
        handshake_ms_max: ms(limits.handshake_ms_max.count()),
        startup_bytes_max: limits.startup_bytes_max.count(),
        silence_ms_max_before_ssh: ms(limits.silence_ms.count()),
        idle_ms_max: ms(limits.idle_s_max.count()).saturating_mul(1_000),
        drain_ms_max: ms(limits.drain_s_max.count()).saturating_mul(1_000),
    }
}

fn region<'a>(
    loaded: &'a Loaded,
    name: &Spanned<crate::model::RegionName>,
) -> Result<&'a file::Region, Problem> {
    let found = loaded.file.regions.iter().find(|(known, _)| known.get_ref() == name.get_ref());
    found.map(|(_, region)| region).ok_or_else(|| {
        loaded.source.problem(name, "this region is not declared; expected one of [regions]")
    })
}

/// The customer's policies: every `*.cedar` of the folder, by name.
fn policies(loaded: &Loaded) -> Result<Vec<(String, String)>, Problem> {
    let place = &loaded.file.gateway.policies_dir;
    let dir = place.get_ref();
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        let expected = "expected a folder with the customer's *.cedar files";
        loaded.source.problem(place, format!("{}: {error}; {expected}", path.display()))
    };
    let mut files = Vec::<PathBuf>::new();
    for entry in fs::read_dir(dir).map_err(|error| failed(dir, &error))? {
        let path = entry.map_err(|error| failed(dir, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "cedar") {
            files.push(path);
        }
    }
    if files.len() > POLICY_FILES_MAX {
        return Err(failed(dir, &format!("it has over {POLICY_FILES_MAX} policy files")));
    }
    files.sort();
    let read = |path: &PathBuf| {
        let bytes = loaded.read(&Spanned::new(place.span(), path.clone()))?;
        let text = String::from_utf8(bytes).map_err(|_| failed(path, &"it is not UTF-8"))?;
        Ok((path.display().to_string(), text))
    };
    files.iter().map(read).collect()
}

fn catalogue(loaded: &Loaded, files: Files) -> Result<Catalogue, Problem> {
    let region =
        |(name, region): (&Spanned<crate::model::RegionName>, &file::Region)| target::Region {
            name: name.get_ref().clone(),
            country: region.country.clone(),
            networks: region.networks.iter().map(|network| network.get_ref().net()).collect(),
        };
    let mut options = Vec::new();
    for (name, written) in &loaded.file.targets {
        options.push(target::Options {
            name: name.get_ref().clone(),
            region: written.region.get_ref().clone(),
            owner: written.owner.get_ref().clone(),
            laws: written.laws.iter().map(|law| law.get_ref().clone()).collect(),
            us_persons: written.us_persons,
            labels: written.labels.clone(),
            classes: written.classes.clone(),
            without_basis: written.without_basis,
            observe: written.observe,
            provider_tokens: written.provider_tokens,
            reach: super::targets::reach(loaded, files, name, written)?,
        });
    }
    Catalogue::new(loaded.file.regions.iter().map(region), options)
        .map_err(|error| loaded.source.problem(&loaded.file.gateway.region, error.to_string()))
}

/// A secret, to be read when it is needed.
pub(super) fn credential(secret: &Spanned<SecretRef>) -> Credential {
    let secret = secret.get_ref().clone();
    Credential::new(secret.to_string(), move || secret.read())
}

/// How a target is verified.
pub(super) fn upstream_tls(
    loaded: &Loaded,
    files: Files,
    written: &config::target::Tls,
    host: &Host,
) -> Result<UpstreamTls, Problem> {
    Ok(match written.mode() {
        TlsMode::Off => UpstreamTls::Off,
        TlsMode::VerifyFull => UpstreamTls::Verified {
            ca_pem: match &written.ca_file {
                Some(file) => roots(loaded, files, file)?,
                None => None,
            },
            server_name: written.server_name.clone().unwrap_or_else(|| host.clone()),
        },
    })
}

/// A target's CA, tried here so that a broken one is found now and not by the first session.
fn roots(
    loaded: &Loaded,
    files: Files,
    file: &Spanned<PathBuf>,
) -> Result<Option<Vec<u8>>, Problem> {
    let Some(pem) = files.read(loaded, file)? else { return Ok(None) };
    let bundle = tls::Roots::Bundle(tls::Pem::bytes(pem.clone()));
    tls::client(&bundle, &[], None).map_err(|error| {
        let why = crate::model::fault::Chain(&error);
        let what = format!("{}: {why}; expected certificates, PEM", file.get_ref().display());
        loaded.source.problem(file, what)
    })?;
    Ok(Some(pem))
}
