//! Reload on change: a new version is put in force as a whole, or the old one stays.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::audit::Audit;
use crate::audit::LedgerEvent;
use crate::config;
use crate::config::Loaded;
use crate::config::Watch;
use crate::config::watch::WatchError;
use crate::daemon::translate;
use crate::listen::origin::Networks;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::fault::Chain;
use crate::session::Version;
use crate::tls;

/// What a reload may change while the gateway runs.
#[derive(Debug)]
pub(super) struct Reload {
    /// The configuration's file.
    pub(super) path: PathBuf,
    /// Where the version in force is told.
    pub(super) version: watch::Sender<Arc<Version>>,
    /// Where it is told from which network somebody comes from which country.
    pub(super) networks: watch::Sender<Networks>,
    /// Where a change is recorded.
    pub(super) audit: Arc<Audit>,
    /// Whose certificate may be renewed.
    pub(super) tls: Arc<tls::Server>,
}

impl Reload {
    /// Reads again whenever `watch` sees a change, until the gateway stops. `configuration` is the
    /// one that was read at the start.
    pub(super) async fn run(self, mut watch: Watch, mut configuration: Digest) {
        while watch.changed().await.is_some() {
            self.once(&mut configuration);
        }
    }

    /// Reads everything again. What is wrong leaves all as it was, and is said in the log.
    /// `configuration` is the one that was read last.
    fn once(&self, configuration: &mut Digest) {
        let read = config::load(&self.path).map_err(translate::BadConfig::from);
        let read = read.and_then(|loaded| {
            let version = translate::version(&loaded, translate::Files::Needed)?;
            let networks = translate::networks(&loaded, translate::Files::Needed)?;
            Ok((loaded, version, networks))
        });
        let (loaded, version, networks) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(
                    fault = "gateway",
                    "not reloaded, the old version stays in force: {error}"
                );
                return;
            }
        };
        if let Err(error) = self.tls.reload(&[translate::certificate(&loaded.file)]) {
            tracing::error!(fault = "gateway", "the old certificate stays: {}", Chain(&error));
        }
        let from = self.version.borrow().snapshot.version();
        let to = version.snapshot.version();
        // The catalogue may have changed where the snapshot has not: an address, a credential.
        let read = loaded.source.digest();
        if from != to || read != *configuration {
            let (observed, configuration) = (observed(&version), Some(read));
            let event = LedgerEvent::Changed { from, to, observed, configuration };
            if let Err(error) = self.audit.record(&event) {
                tracing::error!(fault = "gateway", "not reloaded: {}", Chain(&error));
                return;
            }
        }
        *configuration = read;
        self.networks.send_replace(networks);
        self.version.send_replace(Arc::new(version));
        // Whoever changed something else must not believe that it is in force.
        tracing::info!(%from, %to, "reloaded: policies, targets, regions, entities, bases, networks and the certificate; other settings count from the next start");
    }
}

/// Watches everything that a reload reads. To be begun before it is read: what changes between
/// reading and watching would be missed.
pub(super) fn watch(loaded: &Loaded, path: &Path) -> Result<Watch, WatchError> {
    let file = &loaded.file;
    let mut paths = vec![path.to_owned(), file.gateway.policies_dir.get_ref().clone()];
    paths.push(file.tls.certificate_file.get_ref().clone());
    paths.push(file.tls.key_file.get_ref().clone());
    paths.extend(file.places.databases.iter().map(|path| path.get_ref().clone()));
    config::watch(paths)
}

/// The targets in observe mode: they stand in the ledger with every version.
pub(super) fn observed(version: &Version) -> Vec<TargetName> {
    let all = version.catalogue.targets().map(|target| target.facts());
    all.filter(|facts| facts.observe).map(|facts| facts.name.clone()).collect()
}
