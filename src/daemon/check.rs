//! `weir check`: what the daemon would make of a configuration, and of the store that it names,
//! before the daemon does. Nothing is changed, here or there.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::audit::spool::Folders;
use crate::audit::storage;
use crate::audit::storage::Finding;
use crate::audit::storage::Place;
use crate::audit::storage::Severity;
use crate::audit::storage::Storage;
use crate::config;
use crate::config::Loaded;
use crate::config::Problem;
use crate::config::Report;
use crate::daemon::BadConfig;
use crate::daemon::events;
use crate::daemon::providers;
use crate::daemon::stores;
use crate::daemon::stores::Stores;
use crate::daemon::translate;
use crate::daemon::translate::Files;
use crate::daemon::translate_law;
use crate::model::Clock;
use crate::model::clock;
use crate::tls;

/// How long the store is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What `weir check` tells.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// What the files say.
    #[serde(flatten)]
    pub report: Report,
    /// The region's store.
    pub store: StoreChecked,
    /// What of the record waits on this machine. `None`: no gateway has run here.
    pub spool: Option<Spool>,
}

/// What the region's store says of itself.
#[derive(Debug, Serialize)]
pub struct StoreChecked {
    /// Which store.
    pub store: String,
    /// Why it was not asked.
    pub not_asked: Option<String>,
    /// Where it is, and who says so.
    pub location: Option<String>,
    /// Whether it keeps versions. `None`: it was not said.
    pub versioning: Option<bool>,
    /// How it locks what is written. `None`: it was not said.
    pub lock: Option<String>,
    /// What is worth telling, the worst first.
    pub findings: Vec<Finding>,
}

/// What of the record is on this machine, and not yet wholly in the store.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Spool {
    /// Where.
    pub dir: PathBuf,
    /// Recordings of sessions that run, or ran when the gateway was killed.
    pub open: usize,
    /// Recordings of sessions that ended.
    pub closed: usize,
    /// How much they take, in bytes.
    pub bytes: u64,
    /// How much they may take, in bytes; beyond it commands are refused.
    pub bytes_max: u64,
}

impl Checked {
    /// Why the daemon would not start, if it would not.
    pub fn stops(&self) -> Option<&Finding> {
        self.store.findings.iter().find(|finding| finding.severity == Severity::Stops)
    }
}

/// Checks a configuration, its policies and the files it names, and lists every address that the
/// daemon may ever dial. Files that are missing here are warnings: the configuration may be for
/// another machine. Asks nobody.
pub fn check(config_file: &Path) -> Result<Report, BadConfig> {
    tls::install();
    read(&config::load(config_file)?)
}

/// The same, and asks the region's store about itself unless told not to; and says what of the record
/// waits on this machine.
pub fn check_with_store(config_file: &Path, ask: bool) -> Result<Checked, BadConfig> {
    tls::install();
    let loaded = config::load(config_file)?;
    let report = read(&loaded)?;
    let store = store(&loaded, ask)?;
    let dir = &loaded.file.gateway.state_dir;
    let spool = Spool::of(dir, loaded.file.audit.spool_bytes_max.get()).map_err(|error| {
        let what = format!("the spool in {} cannot be read: {error}", dir.display());
        Problem::of_file(loaded.source.path(), what)
    })?;
    Ok(Checked { report, store, spool })
}

fn read(loaded: &Loaded) -> Result<Report, BadConfig> {
    providers::identity(loaded, Files::MayBeMissing)?;
    translate::networks(loaded, Files::MayBeMissing)?;
    translate::check_state(loaded)?;
    stores::storage(loaded, Files::MayBeMissing)?;
    let version = translate::version(loaded, Files::MayBeMissing)?;
    events::check(loaded)?;
    let tls = &loaded.file.tls;
    if [&tls.certificate_file, &tls.key_file].iter().all(|file| file.get_ref().exists()) {
        translate::tls(loaded, None)?;
    }
    let mut report = loaded.report();
    let expiring = version.snapshot.expiring(clock::System.now());
    report.warnings.extend(translate_law::warnings(loaded, &expiring));
    Ok(report)
}

fn store(loaded: &Loaded, ask: bool) -> Result<StoreChecked, BadConfig> {
    let (options, fetcher) = stores::storage(loaded, Files::MayBeMissing)?;
    let shown = options.place.to_string();
    let secrets = loaded.file.audit.store.secrets();
    let missing = match &options.place {
        _ if !ask => Some("told not to".to_owned()),
        Place::Folder(path) if !path.is_dir() => Some("the start makes it".to_owned()),
        Place::Folder(_) => None,
        Place::S3(_) | Place::Gcs(_) | Place::Azure(_) => {
            let mut unread = secrets.filter(|secret| secret.get_ref().read().is_err());
            match (unread.next(), &fetcher) {
                (Some(secret), _) => Some(format!("{} cannot be read here", secret.get_ref())),
                (None, None) => Some("its `ca_file` is not here".to_owned()),
                (None, Some(_)) => None,
            }
        }
    };
    if missing.is_some() {
        return Ok(StoreChecked::not_asked(shown, missing));
    }
    let http: Arc<dyn storage::Http> = Arc::new(Stores::new(fetcher));
    let storage = match Storage::open(options, http) {
        Ok(storage) => storage,
        Err(error) => return Ok(StoreChecked::unusable(shown, &error)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Ok(StoreChecked::not_asked(shown, Some(error.to_string()))),
    };
    let looked = runtime.block_on(async { tokio::time::timeout(ANSWER_MAX, storage.look()).await });
    Ok(match looked {
        Ok(report) => StoreChecked::said(report),
        Err(_elapsed) => {
            let waited = format!("it did not answer within {} s", ANSWER_MAX.as_secs());
            StoreChecked::not_asked(shown, Some(waited))
        }
    })
}

impl StoreChecked {
    fn not_asked(store: String, why: Option<String>) -> Self {
        let findings = Vec::new();
        Self { store, not_asked: why, location: None, versioning: None, lock: None, findings }
    }

    fn unusable(store: String, error: &storage::StorageError) -> Self {
        Self { findings: vec![Finding::of(error)], ..Self::not_asked(store, None) }
    }

    fn said(report: storage::Report) -> Self {
        Self {
            store: report.store,
            not_asked: None,
            location: Some(report.location.to_string()),
            versioning: report.versioning,
            lock: report.lock.map(|lock| lock.to_string()),
            findings: report.findings,
        }
    }
}

impl Spool {
    fn of(state_dir: &Path, bytes_max: u64) -> io::Result<Option<Self>> {
        let folders = Folders::of(state_dir);
        if !folders.open.is_dir() || !folders.closed.is_dir() {
            return Ok(None);
        }
        let count = |dir| Folders::sessions(dir).map(|sessions| sessions.len());
        let (open, closed) = (count(&folders.open)?, count(&folders.closed)?);
        let bytes = folders.bytes()?;
        Ok(Some(Self { dir: state_dir.join("spool"), open, closed, bytes, bytes_max }))
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.report, self.store)?;
        match &self.spool {
            None => Ok(()),
            Some(spool) => write!(f, "{spool}"),
        }
    }
}

impl fmt::Display for StoreChecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "recordings and ledger are kept in {}", self.store)?;
        if let Some(why) = &self.not_asked {
            writeln!(f, "  not asked: {why}")?;
        }
        if let Some(location) = &self.location {
            let versions = match self.versioning {
                Some(true) => ", keeps versions",
                Some(false) => ", keeps no versions",
                None => "",
            };
            let lock = self.lock.as_ref().map(|lock| format!(", {lock}")).unwrap_or_default();
            writeln!(f, "  {location}{versions}{lock}")?;
        }
        for finding in &self.findings {
            let word = match finding.severity {
                Severity::Stops => "error",
                Severity::Warns => "warning",
                Severity::Notes => "note",
            };
            writeln!(f, "{word}: {finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dir, open, closed) = (self.dir.display(), self.open, self.closed);
        let (bytes, max) = (self.bytes, self.bytes_max);
        writeln!(
            f,
            "{dir} holds {open} recordings that grow and {closed} that wait for the store: {bytes} \
             of {max} bytes"
        )
    }
}
