//! The record's running parts: its keys, its opening, and what is done every so often.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use secrecy::ExposeSecret;
use toml::Spanned;

use crate::audit;
use crate::audit::Audit;
use crate::audit::LedgerEvent;
use crate::audit::keys::KeyBytes;
use crate::audit::keys::KeyError;
use crate::audit::keys::KeyRing;
use crate::audit::keys::LedgerKey;
use crate::audit::keys::Purpose;
use crate::audit::keys::WrappingKey;
use crate::audit::note::KeyName;
use crate::audit::note::NoteKey;
use crate::audit::spool;
use crate::config;
use crate::config::Loaded;
use crate::config::audit::Capture;
use crate::config::audit::Level;
use crate::config::secret::SecretRef;
use crate::daemon::StartError;
use crate::daemon::kms;
use crate::daemon::reload;
use crate::daemon::translate;
use crate::daemon::translate::BadConfig;
use crate::model::Clock;
use crate::model::fault::Chain;
use crate::session::Version;
use crate::store;
use crate::store::Store;
use crate::upstream;
use crate::upstream::Configured;
use crate::upstream::DialError;

/// How often the heads of open trails go into the ledger, and a checkpoint is signed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

/// By how much the clock may differ between two looks without that it was set, in milliseconds.
const CLOCK_STEP_MS_MAX: i64 = 1_000;

/// Opens the record and the state database, and says in the ledger what is in force.
pub(super) async fn open(
    loaded: &Loaded,
    version: &Version,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<Audit>, Store), StartError> {
    let gateway = &loaded.file.gateway;
    let dir = &gateway.state_dir;
    fs::create_dir_all(dir).map_err(|source| StartError::State { path: dir.clone(), source })?;
    let keys = Keys::read(loaded).await?;
    let wrapping_key = keys.ring.current().id().to_string();
    let options = audit::Options {
        dir: dir.clone(),
        gateway: gateway.id.to_string(),
        region: gateway.region.get_ref().clone(),
        spool_bytes_max: loaded.file.audit.spool_bytes_max.get(),
        level: match loaded.file.audit.level {
            Level::Process => spool::Level::Process,
            Level::Disk => spool::Level::Disk,
        },
        keys: keys.ring,
        signers: keys.signers,
    };
    let audit = Audit::open(&options, Arc::clone(clock))?;
    audit.record(&LedgerEvent::Started {
        gateway: gateway.id.to_string(),
        snapshot: version.snapshot.version(),
        observed: reload::observed(version),
        ledger_key: Some(audit.signer().to_owned()),
        wrapping_key: Some(wrapping_key),
        configuration: Some(loaded.source.digest()),
    })?;
    let state = translate::state(loaded)?;
    in_region(loaded, &state.place).await?;
    let store = Store::open(&state, Arc::clone(clock)).await?;
    let left = store.close_left_open(clock.now()).await?;
    if left > 0 {
        tracing::warn!(sessions = left, "an earlier run did not end in order");
    }
    Ok((Arc::new(audit), store))
}

/// The index holds commands and whom they were by: its database stands in the gateway's region.
async fn in_region(loaded: &Loaded, place: &store::Place) -> Result<(), StartError> {
    let store::Place::Postgres(server) = place else { return Ok(()) };
    let store::Door::Tcp(address) = &server.door else { return Ok(()) };
    let place = Configured::new("the state database", address.host.to_string(), address.port)
        .within(translate::region_networks(loaded));
    match upstream::addresses(&place).await {
        // What cannot be reached is told by whoever opens it.
        Ok(_) | Err(DialError::Unreachable { .. } | DialError::OtherTarget { .. }) => Ok(()),
        Err(outside @ DialError::Outside { .. }) => Err(StartError::StateElsewhere(outside)),
    }
}

/// How much of a command's result is kept, in bytes.
pub(super) fn result_bytes_max(audit: &config::audit::Audit) -> usize {
    match audit.capture {
        Capture::Sample => audit.result_bytes_max.count(),
        Capture::Full => usize::MAX,
    }
}

/// The keys of the record.
struct Keys {
    ring: KeyRing,
    signers: Vec<Arc<NoteKey>>,
}

impl Keys {
    async fn read(loaded: &Loaded) -> Result<Self, StartError> {
        let written = &loaded.file.audit.keys;
        let dir = &loaded.file.gateway.state_dir;
        let bad = |source| StartError::RecordKey { place: "[audit.keys]".to_owned(), source };
        let wrapping = match (&written.wrapping, &loaded.file.audit.kms) {
            (Some(reference), _) => kept(loaded, reference, Purpose::Wrapping)?,
            (None, Some(kms)) => kms::wrapping(loaded, kms).await?,
            (None, None) => own(&dir.join("wrapping.key"), Purpose::Wrapping)?,
        };
        let previous = written
            .wrapping_previous
            .iter()
            .map(|reference| kept(loaded, reference, Purpose::Wrapping).map(WrappingKey::new))
            .collect::<Result<Vec<_>, _>>()?;
        let ring = KeyRing::new(WrappingKey::new(wrapping), previous).map_err(bad)?;
        let signing = match &written.signing {
            Some(reference) => kept(loaded, reference, Purpose::Ledger)?,
            None => own(&dir.join("ledger.key"), Purpose::Ledger)?,
        };
        let mut keys = vec![LedgerKey::new(signing)];
        if let Some(before) = &written.signing_previous {
            keys.push(LedgerKey::new(kept(loaded, before, Purpose::Ledger)?));
        }
        let name = key_name(loaded)?;
        let mut signers = Vec::new();
        for key in keys {
            ring.refuse_shared(&key).map_err(bad)?;
            signers.push(Arc::new(key.named(name.clone()).map_err(bad)?));
        }
        Ok(Self { ring, signers })
    }
}

/// The name of the ledger's key, and the origin of its checkpoints.
fn key_name(loaded: &Loaded) -> Result<KeyName, StartError> {
    let gateway = &loaded.file.gateway;
    let name = format!("{}/weir-ledger/{}", gateway.name, gateway.id);
    name.parse::<KeyName>().map_err(|error| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
        StartError::State { path: name.into(), source }
    })
}

/// A key that the configuration names.
fn kept(
    loaded: &Loaded,
    reference: &Spanned<SecretRef>,
    purpose: Purpose,
) -> Result<KeyBytes, StartError> {
    let failed = |source: KeyError| {
        let place = reference.get_ref().to_string();
        StartError::RecordKey { place, source }
    };
    match reference.get_ref() {
        SecretRef::File(path) => KeyBytes::read(path, purpose).map_err(failed),
        SecretRef::Env(_) => {
            let text = reference.get_ref().read().map_err(|error| {
                let what = Chain(&error).to_string();
                StartError::Config(BadConfig::Problem(loaded.source.problem(reference, what)))
            })?;
            KeyBytes::parse(text.expose_secret(), purpose).map_err(failed)
        }
    }
}

/// A key of the state folder, made at the first start.
fn own(path: &Path, purpose: Purpose) -> Result<KeyBytes, StartError> {
    let key =
        if path.exists() { KeyBytes::read(path, purpose) } else { KeyBytes::create(path, purpose) };
    key.map_err(|source| StartError::RecordKey { place: path.display().to_string(), source })
}

/// Writes what waits in open trails, until it is ended.
pub(super) async fn flush(audit: Arc<Audit>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(audit::FLUSH_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let audit = Arc::clone(&audit);
        // Writing may wait for a slow disk.
        if tokio::task::spawn_blocking(move || audit.flush()).await.is_err() {
            return;
        }
    }
}

/// Puts the heads of open trails into the ledger and signs checkpoints, until it is ended. A clock
/// that was set meanwhile is in the ledger as well.
pub(super) async fn keep(audit: Arc<Audit>) {
    let mut watch = ClockWatch::new(&**audit.clock());
    let mut ticks = tokio::time::interval(CHECKPOINT_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let audit = Arc::clone(&audit);
        if let Some(by_ms) = watch.stepped(&**audit.clock()) {
            tracing::warn!(by_ms, "the clock was set");
            if let Err(error) = audit.record(&LedgerEvent::ClockStepped { by_ms }) {
                tracing::error!(fault = "gateway", "{}", Chain(&error));
            }
        }
        if tokio::task::spawn_blocking(move || pin(&audit)).await.is_err() {
            return;
        }
    }
}

/// Holds the clock on the wall against one that nobody sets.
struct ClockWatch {
    at: Timestamp,
    then: Instant,
}

impl ClockWatch {
    fn new(clock: &dyn Clock) -> Self {
        Self { at: clock.now(), then: Instant::now() }
    }

    /// By how many milliseconds the clock was set since the last time, if by more than a second.
    fn stepped(&mut self, clock: &dyn Clock) -> Option<i64> {
        let (at, then) = (clock.now(), Instant::now());
        let by_wall = at.duration_since(self.at).as_millis();
        let passed = i128::try_from(then.duration_since(self.then).as_millis()).unwrap_or(0);
        (self.at, self.then) = (at, then);
        let by = by_wall.saturating_sub(passed);
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        (by.abs() > CLOCK_STEP_MS_MAX).then_some(by)
    }
}

fn pin(audit: &Audit) {
    if let Err(error) = audit.note_heads() {
        tracing::error!(fault = "gateway", "{}", Chain(&error));
    }
    if let Err(error) = audit.checkpoint() {
        tracing::error!(fault = "gateway", "no checkpoint could be signed: {}", Chain(&error));
    }
}

/// Says in the ledger that the gateway stops, and signs the last checkpoint.
pub(super) fn end(audit: &Audit, stopped: &LedgerEvent) {
    if let Err(error) = audit.record(stopped) {
        tracing::error!(fault = "gateway", "{}", Chain(&error));
    }
    pin(audit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::clock::Standing;

    #[test]
    fn a_clock_that_is_set_is_noticed_and_one_that_goes_is_not() {
        let noon = Timestamp::from_second(1_795_262_400).unwrap();
        let clock = Standing::at(noon);
        let mut watch = ClockWatch::new(&clock);
        assert_eq!(watch.stepped(&clock), None);
        clock.set(noon + Duration::from_hours(1));
        assert!(watch.stepped(&clock).unwrap() > 3_500_000);
        clock.set(noon);
        assert!(watch.stepped(&clock).unwrap() < -3_500_000);
    }
}
