//! What `weir check` tells of a configuration that is right: every address that the daemon may
//! ever dial, and what is worth a second look.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use secrecy::ExposeSecret;
use serde::Serialize;
use toml::Spanned;

use crate::config::events::Destination;
use crate::config::file::File;
use crate::config::preset::Preset;
use crate::config::problem::Problem;
use crate::config::problem::Source;
use crate::config::secret::SecretRef;
use crate::config::state::Database;
use crate::config::target::Http;
use crate::config::target::Target;
use crate::config::target::Undeclared;
use crate::model::Declared;
use crate::model::Protocol;
use crate::model::TargetName;

/// What `weir check` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every address that the daemon may ever dial. There is no other.
    pub dials: Vec<Dial>,
    /// What is allowed and yet worth a second look.
    pub warnings: Vec<Problem>,
}

/// An address that the daemon may dial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dial {
    /// For whom: `target customers (postgres, region eu-central)`.
    pub purpose: String,
    /// `host:port`; for Kubernetes, the kubeconfig that says where.
    pub address: String,
}

pub(super) fn of(file: &File, source: &Source) -> Report {
    let mut warnings = Warnings { source, all: Vec::new() };
    warnings.file_itself(file);
    for (name, target) in &file.targets {
        warnings.target(name, target);
    }
    warnings.all.sort_by_key(Problem::position);
    Report { dials: dials(file), warnings: warnings.all }
}

fn dials(file: &File) -> Vec<Dial> {
    let targets = file.targets.iter().flat_map(|(name, target)| {
        reached(target).into_iter().map(move |(protocol, address)| Dial {
            purpose: format!("target {name} ({protocol}, region {})", target.region),
            address,
        })
    });
    let providers = file.providers.iter().flat_map(|provider| {
        let issuer = provider.issuer.get_ref();
        let others = provider.jwks_uri.iter().chain(&provider.endpoints).map(Spanned::get_ref);
        std::iter::once(issuer).chain(others).map(move |url| Dial {
            purpose: format!("provider {}", issuer.as_str()),
            address: url.address().to_string(),
        })
    });
    let state = file.state.database.iter().map(|url| Dial {
        purpose: "state database".to_owned(),
        address: database(url.get_ref())
            .map_or_else(|| format!("the server that {} names", url.get_ref()), |d| d.place()),
    });
    let events = file.audit.events.iter().filter_map(|events| match events.to.get_ref() {
        Destination::Http(url) => {
            Some(Dial { purpose: "events".to_owned(), address: url.address().to_string() })
        }
        Destination::Stdout | Destination::File(_) => None,
    });
    let store = &file.audit.store;
    let stored = store
        .origin()
        .map(|(origin, _)| Dial { purpose: store.shown(), address: origin.address.to_string() });
    let kms = file.audit.kms.iter().map(|kms| Dial {
        purpose: "key service".to_owned(),
        address: kms.endpoint.get_ref().address().to_string(),
    });
    let others = state.chain(events).chain(stored).chain(kms);
    let mut dials: Vec<Dial> = targets.chain(providers).chain(others).collect();
    dials.dedup();
    dials
}

/// The database that a URL leads to, if the URL is here and is one.
fn database(url: &SecretRef) -> Option<Database> {
    url.read().ok()?.expose_secret().parse().ok()
}

fn reached(target: &Target) -> Option<(Protocol, String)> {
    if let Some(postgres) = &target.postgres {
        return Some((Protocol::Postgres, postgres.address.to_string()));
    }
    if let Some(ssh) = &target.ssh {
        return Some((Protocol::Ssh, ssh.address.to_string()));
    }
    if let Some(http) = &target.http {
        return Some((Protocol::Http, http.address.to_string()));
    }
    target.kubernetes.as_ref().map(|kubernetes| {
        let file = kubernetes.kubeconfig_file.get_ref().display();
        (Protocol::Kubernetes, format!("the server that {file} names"))
    })
}

struct Warnings<'a> {
    source: &'a Source,
    all: Vec<Problem>,
}

impl Warnings<'_> {
    fn warn<T>(&mut self, at: &Spanned<T>, what: impl Into<String>) {
        self.all.push(self.source.problem(at, what));
    }

    fn file_itself(&mut self, file: &File) {
        let gateway = &file.gateway;
        let targets = file.targets.values();
        let used: BTreeSet<_> =
            targets.map(|target| &target.region).chain([&gateway.region]).collect();
        for region in file.regions.keys().filter(|region| !used.contains(region)) {
            self.warn(region, format!("nothing stands in region `{region}`"));
        }
        let people = file.providers.iter().flat_map(|provider| provider.entities.values());
        let owners = file.targets.values().map(|target| &target.owner);
        let bases = file.bases.iter().flat_map(|basis| [&basis.exporter, &basis.importer]);
        let used: BTreeSet<_> =
            people.chain(owners).chain(bases).chain([&gateway.entity]).collect();
        for entity in file.entities.keys().filter(|entity| !used.contains(entity)) {
            self.warn(entity, format!("nothing refers to entity `{entity}`"));
        }
        for provider in &file.providers {
            if provider.claims.entity.is_none() || provider.entities.is_empty() {
                let what = "its people have no entity: without one, nobody may reach personal \
                            data; set `claims.entity` and `entities`";
                self.warn(&provider.issuer, what);
            }
            if provider.preset.is_some_and(Preset::is_public) && provider.require.is_empty() {
                let what = "whoever has a repository there can have a token made out to any \
                            audience: say whose count, by `require`";
                self.warn(&provider.issuer, what);
            }
            provider.client_secret.iter().for_each(|secret| self.secret(secret));
            provider.ca_file.iter().for_each(|path| self.file(path, path.get_ref(), false));
        }
        let databases = file.places.databases.iter();
        databases.for_each(|path| self.file(path, path.get_ref(), false));
        file.state.database.iter().for_each(|url| self.secret(url));
        for events in &file.audit.events {
            events.credential.iter().for_each(|secret| self.secret(secret));
            events.ca_file.iter().for_each(|path| self.file(path, path.get_ref(), false));
            if events.include_text {
                let what = "texts of commands leave by these events: whoever reads them reads what \
                            stands in statements";
                self.warn(&events.to, what);
            }
        }
        let store = &file.audit.store;
        store.secrets().for_each(|secret| self.secret(secret));
        store.ca_file.iter().for_each(|path| self.file(path, path.get_ref(), false));
        self.all.extend(store.warnings(self.source));
        if let Some(address) = &file.metrics.address
            && !address.get_ref().ip().is_loopback()
        {
            let what = "whoever reaches this address reads the metrics: let only your Prometheus";
            self.warn(address, what);
        }
        self.folder(&gateway.policies_dir);
        self.file(&file.tls.certificate_file, file.tls.certificate_file.get_ref(), false);
        self.file(&file.tls.key_file, file.tls.key_file.get_ref(), true);
    }

    fn target(&mut self, name: &Spanned<TargetName>, target: &Target) {
        if target.observe {
            self.warn(name, format!("target `{name}` only observes: nothing is refused or masked"));
        }
        let mut classified = !target.classes.is_empty();
        if let Some(postgres) = &target.postgres {
            let mut columns = postgres.tables.values().flat_map(|table| table.columns.values());
            classified |= columns.any(is_class);
            self.secret(&postgres.credential);
            postgres.tls.ca_file.iter().for_each(|path| self.file(path, path.get_ref(), false));
        }
        if let Some(ssh) = &target.ssh {
            self.secret(&ssh.credential);
        }
        if let Some(http) = &target.http {
            classified |= self.http(name, http);
        }
        if let Some(kubernetes) = &target.kubernetes {
            let mut fields = kubernetes.kinds.values().flat_map(|kind| kind.fields.values());
            classified |= fields.any(is_class);
            let path = &kubernetes.kubeconfig_file;
            self.file(path, path.get_ref(), true);
        }
        if !classified {
            let what = format!(
                "target `{name}` declares no data class: nothing in it counts as personal data, \
                 so no transfer law is asked"
            );
            self.warn(name, what);
        }
    }

    /// Warns of what is open in writing; tells whether anything is classified.
    fn http(&mut self, name: &Spanned<TargetName>, http: &Http) -> bool {
        http.credential.iter().for_each(|credential| self.secret(credential));
        http.tls.ca_file.iter().for_each(|path| self.file(path, path.get_ref(), false));
        if http.unlisted == Undeclared::Clear {
            self.warn(name, format!("paths of `{name}` that no route names pass unmasked"));
        }
        let mut any = false;
        for route in &http.routes {
            let classified = route.fields.values().any(is_class);
            any |= classified;
            if classified && route.undeclared == Undeclared::Clear {
                self.warn(&route.path, "members that no field of this route names pass unmasked");
            }
        }
        any
    }

    fn secret(&mut self, reference: &Spanned<SecretRef>) {
        match reference.get_ref() {
            SecretRef::File(path) => self.file(reference, path, true),
            SecretRef::Env(_) => {
                if let Err(error) = reference.get_ref().read() {
                    self.warn(reference, format!("{error}: {}", cause(&error)));
                }
            }
        }
    }

    fn folder<P: AsRef<Path>>(&mut self, path: &Spanned<P>) {
        let shown = path.get_ref().as_ref();
        if !shown.is_dir() {
            self.warn(path, format!("there is no folder {}", shown.display()));
        }
    }

    fn file<T>(&mut self, at: &Spanned<T>, path: &Path, secret: bool) {
        match std::fs::metadata(path) {
            Err(error) => self.warn(at, format!("cannot read {}: {error}", path.display())),
            Ok(found) if !found.is_file() => {
                self.warn(at, format!("{} is not a regular file", path.display()));
            }
            Ok(found) if secret && readable_by_all(&found) => {
                let what = format!("everybody on this machine can read {}", path.display());
                self.warn(at, what);
            }
            Ok(_) => {}
        }
    }
}

fn is_class(declared: &Declared) -> bool {
    declared.class().is_some()
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

fn readable_by_all(found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    found.permissions().mode() & 0o004 != 0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the daemon may dial, and nothing else:")?;
        for dial in &self.dials {
            writeln!(f, "  {}: {}", dial.purpose, dial.address)?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}
