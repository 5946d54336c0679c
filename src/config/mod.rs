//! What was written: one TOML file and a folder of Cedar policies.
//!
//! ```text
//! weir.toml ──load──▶ Loaded { file: File, source: Source } ──daemon.rs──▶ every module's Options
//! ```
//!
//! [`File`] is what was written, checked as far as the file alone can tell: every reference leads
//! somewhere, nothing contradicts itself. What another module's word means (a JSON path, a login
//! pattern) it does not know; `daemon.rs` translates with [`Source::parse`], which keeps the place
//! in the error. Known to `daemon` and `cli` alone; knows only `model`, opens no socket.

pub mod audit;
pub mod check;
pub mod events;
pub mod file;
pub mod problem;
pub mod kms;
pub mod metrics;
pub mod preset;
pub mod provider;
pub mod report;
pub mod secret;
pub mod state;
pub mod store;
mod store_check;
mod store_country;
pub mod target;
pub mod value;
pub mod watch;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

pub use crate::config::file::File;
pub use crate::config::problem::Problem;
pub use crate::config::problem::Problems;
pub use crate::config::problem::Source;
pub use crate::config::report::Report;
pub use crate::config::secret::SecretRef;
pub use crate::config::watch::Changed;
pub use crate::config::watch::Watch;
pub use crate::config::watch::watch;

/// Largest configuration file, and largest file that it names, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A configuration that was loaded, and its text to point into.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What was written. Paths are relative to the working directory now, not to the file.
    pub file: File,
    /// The text, for errors that name their place.
    pub source: Source,
}

/// Loads a configuration: reads it, and checks that what it says fits together.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let bytes = read_bounded(path).map_err(|what| Problem::of_file(path, what))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Problem::of_file(path, "it is not UTF-8; expected TOML, which always is"))?;
    parse(path, text)
}

/// Loads a configuration of which the text is there: opens no file. `path` is where it is from.
#[doc(hidden)]
pub fn parse(path: &Path, text: String) -> Result<Loaded, Problems> {
    let source = Source::new(path, text);
    let toml = toml::Deserializer::parse(source.text()).map_err(|error| source.syntax(&error))?;
    let mut file = File::deserialize(toml).map_err(|error| source.value(&error))?;
    Problems::none_of(check::problems(&file, &source))?;
    file.rebase(path.parent().unwrap_or(Path::new("")));
    Ok(Loaded { file, source })
}

/// Loads a configuration and reports every address that the daemon may ever dial, and warnings.
///
/// What other modules' words mean, and the policies, are checked by the daemon, which calls this
/// first.
pub fn check(path: &Path) -> Result<Report, Problems> {
    load(path).map(|loaded| loaded.report())
}

impl Loaded {
    /// Every address that the daemon may ever dial, and warnings.
    pub fn report(&self) -> Report {
        report::of(&self.file, &self.source)
    }

    /// Reads a file that the configuration names.
    pub fn read(&self, path: &Spanned<PathBuf>) -> Result<Vec<u8>, Problem> {
        self.read_up_to(path, FILE_BYTES_MAX)
    }

    /// Reads a file that the configuration names and that may have `bytes_max` bytes.
    pub fn read_up_to(&self, path: &Spanned<PathBuf>, bytes_max: u64) -> Result<Vec<u8>, Problem> {
        read_at_most(path.get_ref(), bytes_max).map_err(|what| {
            self.source.problem(path, format!("{}: {what}", path.get_ref().display()))
        })
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    read_at_most(path, FILE_BYTES_MAX)
}

fn read_at_most(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let read = || {
        let mut bytes = Vec::new();
        // A pipe or a device would block or never end.
        if !fs::metadata(path)?.is_file() {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        let read =
            fs::File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(read).is_ok_and(|read| read <= bytes_max) {
            Ok(bytes)
        } else {
            Err(std::io::Error::other("it is too large"))
        }
    };
    let mib = bytes_max / (1024 * 1024);
    let expected = format!("expected a readable file of at most {mib} MiB");
    read().map_err(|error| format!("cannot read it: {error}; {expected}"))
}

impl File {
    /// Makes paths that are relative to the file's `folder` relative to the working directory.
    fn rebase(&mut self, folder: &Path) {
        let rebase = |path: &mut PathBuf| *path = folder.join(&*path);
        let secret = |secret: &mut Spanned<SecretRef>| match secret.get_mut() {
            SecretRef::File(path) => rebase(path),
            SecretRef::Env(_) => {}
        };
        let tls = |tls: &mut target::Tls| tls.ca_file.iter_mut().for_each(|p| rebase(p.get_mut()));
        rebase(&mut self.gateway.state_dir);
        self.places.databases.iter_mut().for_each(|path| rebase(path.get_mut()));
        self.state.database.iter_mut().for_each(secret);
        let keys = &mut self.audit.keys;
        let keys = [&mut keys.wrapping, &mut keys.signing, &mut keys.signing_previous]
            .into_iter()
            .flatten()
            .chain(&mut keys.wrapping_previous);
        keys.for_each(secret);
        if let Some(kms) = &mut self.audit.kms {
            kms.secrets_mut().for_each(secret);
            kms.ca_file.iter_mut().for_each(|path| rebase(path.get_mut()));
        }
        self.audit.store.secrets_mut().for_each(secret);
        self.audit.store.ca_file.iter_mut().for_each(|path| rebase(path.get_mut()));
        if let Some(store::StoreUrl::Folder(path)) =
            self.audit.store.url.as_mut().map(Spanned::get_mut)
        {
            rebase(path);
        }
        rebase(self.gateway.policies_dir.get_mut());
        rebase(self.tls.certificate_file.get_mut());
        rebase(self.tls.key_file.get_mut());
        let login = &mut self.login;
        let files = [&mut login.access_ca_file, &mut login.access_ca_key_file];
        for path in files.into_iter().flatten() {
            rebase(path.get_mut());
        }
        for provider in &mut self.providers {
            provider.ca_file.iter_mut().for_each(|path| rebase(path.get_mut()));
            if let Some(client_secret) = &mut provider.client_secret {
                secret(client_secret);
            }
        }
        for events in &mut self.audit.events {
            if let events::Destination::File(path) = events.to.get_mut() {
                rebase(path);
            }
            events.credential.iter_mut().for_each(secret);
            events.ca_file.iter_mut().for_each(|path| rebase(path.get_mut()));
        }
        for target in self.targets.values_mut() {
            if let Some(postgres) = &mut target.postgres {
                secret(&mut postgres.credential);
                tls(&mut postgres.tls);
            }
            if let Some(ssh) = &mut target.ssh {
                secret(&mut ssh.credential);
            }
            if let Some(http) = &mut target.http {
                http.credential.iter_mut().for_each(secret);
                tls(&mut http.tls);
            }
            if let Some(kubernetes) = &mut target.kubernetes {
                rebase(kubernetes.kubeconfig_file.get_mut());
            }
        }
    }
}

#[cfg(test)]
mod tests;
