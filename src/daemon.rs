//! The composition root: configuration becomes running parts, here and nowhere else.
//!
//! ```text
//! weir.toml ─ config ─▶ translate ─▶ Options of every module ─▶ start ─▶ Running
//!                                                                 ├─ serve: a task a connection
//!                                                                 ├─ reload: a new version, or none
//!                                                                 └─ heads of trails, every 10 s
//! ```

mod events;
mod expiring;
mod archive;
mod check;
mod fetch;
mod keys;
mod kms;
mod metrics;
mod providers;
mod record;
mod reader;
mod reindex;
mod reload;
mod retention;
mod serve;
mod ssh_host;
mod stores;
mod targets;
mod translate;
mod translate_law;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::api;
use crate::api::Api;
use crate::audit;
use crate::audit::LedgerEvent;
use crate::audit::archive::Archive;
use crate::audit::ocsf::TailError;
use crate::config;
use crate::config::Loaded;
use crate::config::file::LogFormat;
use crate::identity;
use crate::identity::Certifier;
use crate::identity::Identity;
use crate::identity::Logins;
use crate::identity::ssh_certificate::SshAskError;
use crate::listen;
use crate::listen::Listener;
use crate::model::Clock;
use crate::model::clock;
use crate::protocol::http;
use crate::protocol::kubernetes::Kubernetes;
use crate::protocol::postgres::Postgres;
use crate::protocol::ssh;
use crate::session::Desk;
use crate::session::EndReason;
use crate::session::Gateway;
use crate::session::Invitations;
use crate::session::Registry;
use crate::session::guard;
use crate::session::handoff::Handoffs;
use crate::store;
use crate::store::Journal;
use crate::store::Store;
use crate::telemetry;
use crate::tls;
use crate::upstream::DialError;
use translate::Files;

pub use check::Checked;
pub use check::check;
pub use check::check_with_store;
pub use stores::Stores;
pub use translate::BadConfig;

/// How often a gateway that stops looks for sessions whose commands have ended.
const IDLE_LOOKED_FOR_EVERY: Duration = Duration::from_millis(100);

/// How long a gateway that stops waits for its tasks together, and for what blocks at the very end.
const TASKS_END_MAX: Duration = Duration::from_secs(5);

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration, or something it names, is wrong.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// Changes of the configuration cannot be noticed.
    #[error(transparent)]
    Watch(#[from] config::watch::WatchError),
    /// The log cannot be set up.
    #[error("the log cannot be set up")]
    Log(#[source] telemetry::LogError),
    /// The providers' settings are wrong.
    #[error("[[providers]]")]
    Identity(#[source] identity::OptionsError),
    /// The record cannot be opened.
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    /// A key of the record cannot be used.
    #[error("the key {place}")]
    RecordKey {
        /// Which, and where it is kept.
        place: String,
        /// Why.
        #[source]
        source: audit::keys::KeyError,
    },
    /// The region's store cannot be used.
    #[error("the store {store}: {what}")]
    Storage {
        /// Which.
        store: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The key service does not give the region's key.
    #[error("[audit.kms]: {what}")]
    KeyService {
        /// Why, and what to do.
        what: String,
    },
    /// The record cannot be written.
    #[error(transparent)]
    Unrecorded(#[from] audit::Unrecorded),
    /// The state database cannot be opened.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The state database lies outside of the region.
    #[error("[state] database")]
    StateElsewhere(#[source] DialError),
    /// The `access` authority cannot be made or read.
    #[error("the access authority (access_ca.crt, access_ca.key)")]
    Access(#[source] tls::TlsError),
    /// The SSH half of the `access` authority cannot be made or read.
    #[error("the state folder's access_ssh_ca.key")]
    SshAccess(#[source] identity::ssh_certificate::SshAuthorityError),
    /// The key that signs who asks cannot be used.
    #[error("the state folder's identity.key")]
    Assertions(#[source] identity::AssertionError),
    /// The key that seals refresh tokens cannot be used.
    #[error("the state folder's login.key")]
    Seal(#[source] identity::SealError),
    /// A destination of events lies outside of the region.
    #[error("[[audit.events]]")]
    Events(#[source] DialError),
    /// How far a destination of events is cannot be read.
    #[error("[[audit.events]]")]
    EventsPlace(#[source] TailError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] listen::BindError),
    /// SSH cannot be set up.
    #[error("the state folder's ssh_host_key")]
    Ssh(#[source] ssh::HostKeyError),
    /// The gateway's own SSH host certificate cannot be signed.
    #[error("the SSH host certificate")]
    SshHost(#[source] SshAskError),
    /// A file of the state folder cannot be read or written.
    #[error("{path}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A running gateway.
#[derive(Debug)]
pub struct Running {
    gateway: Arc<Gateway>,
    addresses: Vec<SocketAddr>,
    ssh_host_key: String,
    drain: listen::Drain,
    drain_max: Duration,
    tasks: Vec<JoinHandle<()>>,
    journal: JoinHandle<()>,
    archive: Arc<Archive>,
}

/// Runs a gateway until SIGTERM or SIGINT.
pub fn serve(config_file: &Path) -> Result<(), StartError> {
    tls::install();
    let loaded = config::load(config_file).map_err(BadConfig::from)?;
    let gateway = &loaded.file.gateway;
    let format = match gateway.log_format {
        LogFormat::Text => telemetry::Format::Human,
        LogFormat::Json => telemetry::Format::Json,
    };
    telemetry::init(&telemetry::Options { format, filter: gateway.log.clone() })
        .map_err(StartError::Log)?;
    let runtime = runtime(config_file)?;
    let served = runtime.block_on(async {
        let running = start(config_file).await?;
        let reason = asked_to_stop().await;
        running.stop(reason).await;
        Ok(())
    });
    // A full pipe behind standard output, or a file system that hangs, is not waited for.
    runtime.shutdown_timeout(TASKS_END_MAX);
    served
}

/// A tokio runtime for a gateway.
pub fn runtime(config_file: &Path) -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::State { path: config_file.to_owned(), source })
}

/// Waits for SIGTERM or SIGINT and says which came.
pub async fn asked_to_stop() -> &'static str {
    use tokio::signal::unix::SignalKind;
    use tokio::signal::unix::signal;
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        },
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(fault = "gateway", %error, "signals cannot be waited for");
            "no signals"
        }
    }
}

/// Starts a gateway. When this returns it listens.
#[expect(clippy::too_many_lines, reason = "the composition root tells everything in its order")]
pub async fn start(config_file: &Path) -> Result<Running, StartError> {
    tls::install();
    let loaded = config::load(config_file).map_err(BadConfig::from)?;
    // Begun before what it watches is read; what is missing is told by whoever reads it.
    let changes = reload::watch(&loaded, config_file);
    let clock: Arc<dyn Clock> = Arc::new(clock::System);
    let version = Arc::new(translate::version(&loaded, Files::Needed)?);
    let (networks_in_force, networks) =
        watch::channel(translate::networks(&loaded, Files::Needed)?);
    let changes = changes?;
    let identity = identity(&loaded, &clock)?;
    let (audit, store) = record::open(&loaded, &version, &clock).await?;
    let archive = archive::open(&loaded, &audit, &store).await?;
    let indexer = archive::Indexer::new(Arc::clone(&audit), store.clone());
    let reindex = Arc::new(store::Reindex::default());
    let access = Arc::new(keys::access(&loaded)?);
    let tls = Arc::new(translate::tls(&loaded, Some(access.ca_pem()))?);
    let logins = logins(&loaded, &store, &identity, &clock)?;
    let ssh = ssh(&loaded)?;
    let ssh_host_key = ssh.public_keys().first().cloned().unwrap_or_default();

    let (versions, version) = watch::channel(version);
    let (journal, journal_task) = Journal::start(store.clone());
    let (feed, offered) = events::feed(&loaded);
    let parts = guard::Parts {
        audit: Arc::clone(&audit),
        version,
        desk: Desk::new(translate::holds(&loaded.file)),
        registry: Arc::new(Registry::new(loaded.file.limits.sessions_per_principal_max.count())),
        journal,
        feed,
        clock,
        result_bytes_max: record::result_bytes_max(&loaded.file.audit),
        idle_max: loaded.file.limits.idle_s_max.seconds(),
    };
    let name = loaded.file.gateway.name.to_string();
    let gateway = Arc::new(Gateway {
        name,
        url: translate::url(&loaded.file),
        logins: Arc::clone(&logins),
        certifier: access,
        ssh_authority: Arc::new(keys::ssh_access(&loaded.file.gateway.state_dir)?),
        assertions: Arc::new(keys::assertions(&loaded, &translate::url(&loaded.file))?),
        handoffs: Handoffs::default(),
        invitations: Invitations::new(),
        parts,
    });

    ssh_host::certify(&ssh, &gateway)?;

    let drain = listen::Drain::new();
    let postgres = Arc::new(Postgres::new(Arc::clone(&gateway)));
    let plain: Arc<dyn http::Dialect> = Arc::new(http::Plain);
    let kubernetes: Arc<dyn http::Dialect> = Arc::new(Kubernetes::new());
    let reader = reader::Protocols {
        gateway: Arc::clone(&gateway),
        postgres: Arc::clone(&postgres),
        http: Arc::clone(&plain),
        kubernetes: Arc::clone(&kubernetes),
    };
    let api = Api::new(api::Resources {
        gateway: Arc::clone(&gateway),
        store: store.clone(),
        archive: Arc::clone(&archive),
        reindex: Arc::clone(&reindex),
        reader: Arc::new(reader),
        ssh_host_key: ssh_host_key.clone(),
        signing: api::Signing::default(),
        viewers: api::Viewers::of_streams(),
        searches: api::Viewers::of_searches(),
    });
    let own = Arc::new(serve::Own(api));
    let front = Arc::new(serve::Front {
        tls: Arc::clone(&tls),
        networks,
        drain: drain.clone(),
        postgres,
        http: http::Front::new(Arc::clone(&gateway), [plain, kubernetes], own),
        ssh,
        gateway: Arc::clone(&gateway),
    });
    let mut addresses = Vec::new();
    let mut tasks = vec![
        tokio::spawn(record::flush(Arc::clone(&audit))),
        tokio::spawn(record::keep(Arc::clone(&audit))),
        tokio::spawn(archive::keep(Arc::clone(&archive), indexer)),
        tokio::spawn(retention::finish(Arc::clone(&archive), store.clone())),
        tokio::spawn(archive::keep_asking(Arc::clone(&archive), archive::asked_every(&loaded))),
        tokio::spawn(reindex::keep(Arc::clone(&archive), store.clone(), reindex)),
        tokio::spawn(logins.watch()),
        tokio::spawn(expiring::watch(gateway.parts.version.clone(), Arc::clone(&audit))),
        tokio::spawn(ssh_host::certify_again(Arc::clone(&front))),
    ];
    if let Some(address) = &loaded.file.metrics.address {
        let listener = metrics::bind(*address.get_ref()).await?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "metrics are at /metrics, and /health says whether all is well");
        }
        let measures = metrics::Measures::new(&gateway, &archive, &store);
        tasks.push(tokio::spawn(metrics::serve(listener, measures)));
    }
    tasks.extend(events::start(&loaded, offered).await?);
    if let Some(days) = &loaded.file.audit.retention.days {
        let days = u32::try_from(days.get()).unwrap_or(u32::MAX);
        tasks.push(tokio::spawn(retention::keep(Arc::clone(&archive), store, days)));
    }
    for options in translate::listeners(&loaded.file) {
        let listener = Listener::bind(options)?;
        let address = listener.local_addr();
        addresses
            .push(address.map_err(|source| StartError::State { path: "listener".into(), source })?);
        tasks.push(tokio::spawn(serve::accept(Arc::clone(&front), listener)));
    }
    let reload = reload::Reload {
        path: config_file.to_owned(),
        version: versions,
        networks: networks_in_force,
        audit,
        tls,
    };
    let drain_max = Duration::from_secs(loaded.file.limits.drain_s_max.seconds().as_secs());
    tasks.push(tokio::spawn(reload.run(changes, loaded.source.digest())));
    for address in &addresses {
        tracing::info!(%address, "listening");
    }
    Ok(Running {
        gateway,
        addresses,
        ssh_host_key,
        drain,
        drain_max,
        tasks,
        journal: journal_task,
        archive,
    })
}

impl Running {
    /// The way of a connection.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Where it listens, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The gateway's SSH host key, as a line of OpenSSH's `known_hosts` has it: `ssh-ed25519 AAAA…`.
    pub fn ssh_host_key(&self) -> &str {
        &self.ssh_host_key
    }

    /// Stops: no new connections, sessions may end by themselves within the configured time, then
    /// they are told and ended.
    pub async fn stop(self, reason: &str) {
        tracing::info!(reason, "stopping");
        self.drain.begin();
        let left = self.drained().await;
        if left > 0 {
            tracing::info!(left, "ending the connections that are left");
            self.gateway.parts.registry.end_all(&EndReason::Draining);
            self.drain.drain(Duration::from_secs(5)).await;
        }
        if !ended(self.tasks, TASKS_END_MAX).await {
            tracing::warn!("something of the gateway does not stop, and is left behind");
        }
        let stopped = LedgerEvent::Stopped { reason: reason.to_owned() };
        record::end(&self.gateway.parts.audit, &stopped);
        archive::end(&self.archive).await;
        drop(self.gateway);
        if tokio::time::timeout(Duration::from_secs(5), self.journal).await.is_err() {
            tracing::warn!("the index was not written to its end");
        }
    }
}

impl Running {
    /// Waits for what runs, within the configured time; says how many connections are left. Whoever
    /// is idle is told at once, and whoever becomes idle then.
    async fn drained(&self) -> usize {
        let drained = self.drain.drain(self.drain_max);
        tokio::pin!(drained);
        let mut ticks = tokio::time::interval(IDLE_LOOKED_FOR_EVERY);
        loop {
            tokio::select! {
                left = &mut drained => return left,
                _ = ticks.tick() => self.gateway.parts.registry.end_idle(&EndReason::Draining),
            }
        }
    }
}

/// Ends tasks, so that what they hold is dropped before the journal is waited for. `false`: some go on
/// when the time is over, because what they wait for blocks.
async fn ended(tasks: Vec<JoinHandle<()>>, within: Duration) -> bool {
    for task in &tasks {
        task.abort();
    }
    tokio::time::timeout(within, futures_util::future::join_all(tasks)).await.is_ok()
}

fn identity(loaded: &Loaded, clock: &Arc<dyn Clock>) -> Result<Arc<Identity>, StartError> {
    let (options, fetchers) = providers::identity(loaded, Files::Needed)?;
    let fetch: Arc<dyn identity::Fetch> = Arc::new(fetch::Providers(fetchers));
    let identity = Identity::new(options, &fetch, clock).map_err(StartError::Identity)?;
    let identity = Arc::new(identity);
    let warm = Arc::clone(&identity);
    // A provider that is down must not keep the gateway from starting.
    tokio::spawn(async move { warm.warm().await });
    Ok(identity)
}

fn logins(
    loaded: &Loaded,
    store: &Store,
    identity: &Arc<Identity>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Logins>, StartError> {
    let vault: Arc<dyn identity::Vault> = Arc::new(store.clone());
    let key = keys::seal_key(&loaded.file.gateway.state_dir)?;
    let options = translate::logins(&loaded.file);
    let logins = Logins::new(vault, Arc::clone(identity), Arc::clone(clock), options, &key);
    logins.map(Arc::new).map_err(StartError::Seal)
}

/// The SSH side, with the gateway's host key, made at the first start and kept in the state folder.
fn ssh(loaded: &Loaded) -> Result<ssh::Server, StartError> {
    let path = loaded.file.gateway.state_dir.join("ssh_host_key");
    let key = keys::kept(&path, || {
        let key = ssh::generate_host_key().map_err(StartError::Ssh)?;
        Ok(Zeroizing::new(key.expose_secret().to_owned()))
    })?;
    let options = ssh::Options {
        host_keys: vec![key.as_str().into()],
        limits: translate::ssh(&loaded.file.limits),
    };
    ssh::Server::new(&options).map_err(StartError::Ssh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_that_blocks_does_not_keep_the_gateway_from_stopping() {
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let blocks = tokio::spawn(async move {
            let _told = begun.send(());
            let _released = tokio::task::block_in_place(|| blocked.recv());
        });
        begins.await.unwrap();
        let waits = tokio::spawn(std::future::pending());
        assert!(!ended(vec![blocks, waits], Duration::from_millis(50)).await);
        drop(release);
        assert!(ended(vec![tokio::spawn(std::future::pending())], TASKS_END_MAX).await);
    }
}
