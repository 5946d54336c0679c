//! `weir demo`: a gateway with embedded defaults in front of real servers, to try it out and to
//! test it.
//!
//! ```text
//! psql ssh curl kubectl ──▶ gateway ──▶ PostgreSQL   invented customers
//!        │                  ▲     │ ──▶ sshd         in a sandbox
//!        └─▶ office ────────┘     │ ──▶ nginx        a small wiki
//!            adds a PROXY header  │ ──▶ a cluster    with --kubeconfig
//!                                 └ ─ ▶ provider     discovery and keys
//! ```
//!
//! The gateway is the daemon's own, started from a configuration file like any other: nothing in
//! it knows that this is a demo. What is here knows the daemon's door, and throw-away authorities
//! and issuers; it must not know policies, protocols or sessions. It prints nothing; whoever runs
//! it is told once, when it is ready.

mod cluster;
mod folder;
mod office;
mod postgres;
mod provider;
mod ready;
mod server;
mod settings;
mod sshd;
mod web;

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::path::Path;
use std::path::PathBuf;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::daemon;
use crate::demo::cluster::Cluster;
use crate::demo::folder::Folder;
use crate::demo::postgres::Postgres;
use crate::demo::provider::Provider;
use crate::demo::ready::Files;
use crate::demo::settings::Facts;
use crate::demo::sshd::Sshd;
use crate::demo::web::Web;
use crate::identity::Claim;
use crate::identity::IssuerError;
use crate::model::Origin;
use crate::model::Refusal;
use crate::model::login::Use;
use crate::model::place::PlaceMethod;
use crate::telemetry;
use crate::tls::Authority;
use crate::tls::TlsError;

pub use crate::demo::ready::Ready;

/// Files of the state folder: the authority that clients trust, and its key.
const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
/// The authority that the gateway trusts at targets. The two are unrelated.
const UPSTREAM_CA: &str = "upstream-ca.pem";
/// The names that the gateway's certificate is for. A wildcard below `localhost` is believed by
/// nobody, so every target stands here.
const NAMES: [&str; 5] = [
    "localhost",
    "customers.localhost",
    "web-1.localhost",
    "wiki.localhost",
    "prod-cluster.localhost",
];

/// What can be chosen.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where the gateway keeps its state; kept at the end. Left out: a temporary folder.
    pub state_dir: Option<PathBuf>,
    /// The gateway's port; 0 takes a free one.
    pub port: u16,
    /// The office's port; 0 takes a free one.
    pub office_port: u16,
    /// A cluster to add.
    pub kubeconfig: Option<PathBuf>,
}

/// Why there is no demo, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A program is not installed.
    #[error("`{program}` is missing: apt-get install {package}")]
    Missing {
        /// Which.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// As root, with nobody to give it up to.
    #[error("servers do not run as root here, and there is no account for them, such as `nobody`")]
    NoAccount,
    /// A state folder with something else in it.
    #[error("{0} has files that are not the demo's; choose an empty folder, or a new one")]
    NotOurs(PathBuf),
    /// A state folder that another demo uses.
    #[error("{0} is in use by another demo")]
    InUse(PathBuf),
    /// A file or folder cannot be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A port that was asked for is taken.
    #[error(
        "port {port} cannot be had; choose others with --port and --office-port (0: a free one)"
    )]
    Port {
        /// Which.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No free port was found.
    #[error("no port is free on 127.0.0.1")]
    NoPort,
    /// Something could not be started.
    #[error("{what} cannot be started")]
    Start {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program ended when it should not have, or badly.
    #[error("{what} ended ({status})\n{log}")]
    Ended {
        /// Which.
        what: &'static str,
        /// How.
        status: String,
        /// The last it said.
        log: String,
    },
    /// A program took too long.
    #[error("{what} was not ready in {seconds} s\n{log}")]
    Slow {
        /// Which.
        what: &'static str,
        /// How long it had.
        seconds: u64,
        /// The last it said.
        log: String,
    },
    /// A certificate could not be made.
    #[error("the certificates")]
    Tls(#[from] TlsError),
    /// A token could not be made.
    #[error("the tokens")]
    Issuer(#[source] IssuerError),
    /// The gateway did not start.
    #[error("the gateway")]
    Gateway(#[source] Box<daemon::StartError>),
    /// The gateway does not know one of the demo's people.
    #[error("the gateway does not take {name}'s token: {refusal}")]
    Unknown {
        /// Whose.
        name: &'static str,
        /// What it said.
        refusal: Refusal,
    },
}

impl DemoError {
    /// An error at a file or folder.
    fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }

    /// An error of the gateway's start.
    fn gateway(error: daemon::StartError) -> Self {
        Self::Gateway(Box::new(error))
    }

    /// An error at a port.
    fn port(port: u16) -> impl Fn(io::Error) -> Self {
        move |source| Self::Port { port, source }
    }
}

/// Runs a demo until SIGTERM or SIGINT; calls `tell` once it is ready. Whatever it started has
/// ended when this returns.
pub fn run(options: &Options, tell: impl FnOnce(&Ready)) -> Result<(), DemoError> {
    // A folder that goes with the demo is no news.
    let filter = "info,notify=error".to_owned();
    let logs = telemetry::Options { filter, ..telemetry::Options::default() };
    if let Err(error) = telemetry::init(&logs) {
        // Then somebody else has the logs, which is as good.
        tracing::debug!(%error, "logs");
    }
    let place = options.state_dir.as_deref().unwrap_or(Path::new("demo"));
    // The servers are started on this thread, which waits for them to the end.
    daemon::runtime(place).map_err(DemoError::gateway)?.block_on(async {
        let mut asked = std::pin::pin!(daemon::asked_to_stop());
        let started = tokio::select! {
            biased;
            _ = &mut asked => return Ok(()),
            started = Box::pin(Demo::start(options)) => started,
        };
        let mut demo = started?;
        tell(&demo.ready);
        let ended = tokio::select! {
            reason = &mut asked => Ok(reason),
            error = demo.servers.ended() => Err(error),
        };
        demo.stop(ended.as_ref().unwrap_or(&"a server ended")).await;
        ended.map(|_| ())
    })
}

/// Everything that runs. Dropping it ends it without ceremony.
#[derive(Debug)]
struct Demo {
    ready: Ready,
    gateway: daemon::Running,
    helpers: Vec<JoinHandle<()>>,
    servers: Servers,
    _folders: [Folder; 2],
}

impl Demo {
    async fn start(options: &Options) -> Result<Self, DemoError> {
        let (port, office) = doors(options).await?;
        let office_port = office.local_addr().map_err(DemoError::port(options.office_port))?.port();
        let state = Folder::state(options.state_dir.as_deref())?;
        let servers_dir = Folder::servers()?;
        let (access, upstream) = authorities(&state)?;
        let servers = Servers::start(&state, &servers_dir, &upstream).await?;
        let cluster = match &options.kubeconfig {
            Some(path) => Some(Cluster::find(path).await?),
            None => None,
        };
        let provider = Provider::bind().await?;
        let facts = Facts {
            port,
            private_port: server::free_port()?,
            issuer: provider.issuer(),
            postgres_port: servers.postgres.at.port,
            ssh_port: servers.sshd.at.port,
            ssh_host_key: &servers.sshd.at.host_key,
            http_port: servers.web.at.port,
            cluster: cluster.as_ref(),
        };
        certify(&state, &access)?;
        settings::write_policies(&state)?;
        let config = state.write("weir.toml", settings::text(&facts).as_bytes())?;
        let private = server::loopback(facts.private_port);

        let (issuer, tokens) = (provider.issuer().to_owned(), provider.tokens()?);
        let helpers =
            vec![tokio::spawn(provider.serve()), tokio::spawn(office::serve(office, private))];
        let gateway = daemon::start(&config).await.map_err(DemoError::gateway)?;
        let ready = Ready {
            port,
            office_port,
            issuer,
            files: Files { dir: state.path().to_owned(), config },
            tokens,
            has_cluster: cluster.is_some(),
            postgres: servers.postgres.at.clone(),
            ssh: servers.sshd.at.clone(),
            web: servers.web.at.clone(),
        };
        introduce(&gateway, &ready).await?;
        ready.write_files(&state, gateway.ssh_host_key())?;
        tracing::info!(port, office_port, "the demo is ready");
        Ok(Self { ready, gateway, helpers, servers, _folders: [state, servers_dir] })
    }

    async fn stop(self, reason: &str) {
        self.gateway.stop(reason).await;
        for helper in self.helpers {
            helper.abort();
        }
        self.servers.stop().await;
    }
}

/// The real servers.
#[derive(Debug)]
struct Servers {
    postgres: Postgres,
    sshd: Sshd,
    web: Web,
}

impl Servers {
    async fn start(
        state: &Folder,
        servers: &Folder,
        upstream: &Authority,
    ) -> Result<Self, DemoError> {
        tracing::info!("starting PostgreSQL, sshd and nginx");
        let (postgres, sshd, web) = tokio::try_join!(
            Box::pin(postgres::start(state, servers, upstream)),
            Box::pin(sshd::start(state, servers)),
            Box::pin(web::start(servers)),
        )?;
        Ok(Self { postgres, sshd, web })
    }

    /// Waits until one of them ends by itself, which none should.
    async fn ended(&mut self) -> DemoError {
        tokio::select! {
            error = self.postgres.server.ended() => error,
            error = self.sshd.server.ended() => error,
            error = self.web.server.ended() => error,
        }
    }

    async fn stop(self) {
        // INT is PostgreSQL's fast shutdown: it ends sessions.
        tokio::join!(
            self.postgres.server.stop("INT"),
            self.sshd.stop(),
            self.web.server.stop("TERM"),
        );
    }
}

/// The gateway's port, and the office's listener. Before all else, since they are what most likely
/// cannot be had.
async fn doors(options: &Options) -> Result<(u16, TcpListener), DemoError> {
    let port = match options.port {
        0 => server::free_port()?,
        port => {
            let free = TcpListener::bind(server::loopback(port)).await;
            drop(free.map_err(DemoError::port(port))?);
            port
        }
    };
    let office = TcpListener::bind(server::loopback(options.office_port)).await;
    Ok((port, office.map_err(DemoError::port(options.office_port))?))
}

/// Two unrelated authorities: `access` for the gateway's clients, `upstream` for its targets.
fn authorities(state: &Folder) -> Result<(Authority, Authority), DemoError> {
    let access = Authority::new("Weir demo access (throw-away)")?;
    let upstream = Authority::new("Weir demo upstream (throw-away)")?;
    state.write(CA, access.cert_pem().as_bytes())?;
    state.write(CA_KEY, access.key_pem().as_bytes())?;
    state.write(UPSTREAM_CA, upstream.cert_pem().as_bytes())?;
    Ok((access, upstream))
}

/// The gateway's certificate.
fn certify(state: &Folder, access: &Authority) -> Result<(), DemoError> {
    let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let leaf = access.leaf(&NAMES, &addresses)?;
    state.write("gateway.crt", leaf.chain_pem.as_bytes())?;
    state.write("gateway.key", leaf.key_pem.as_bytes())?;
    Ok(())
}

/// Shows everybody's token to the gateway once: so it is known to work, and
/// `weir policy explain --as NAME` knows everybody.
async fn introduce(gateway: &daemon::Running, ready: &Ready) -> Result<(), DemoError> {
    let origin =
        Origin { address: Ipv4Addr::LOCALHOST.into(), country: None, method: PlaceMethod::Unknown };
    for token in &ready.tokens {
        let verified = gateway
            .gateway()
            .verify(&Claim::Secret(&token.text), Use::Control, None, &origin)
            .await;
        verified.map_err(|refusal| DemoError::Unknown { name: token.name, refusal })?;
    }
    Ok(())
}
