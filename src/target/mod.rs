//! The catalogue: what may be reached, where it stands, and how the gateway signs in there.
//!
//! A [`Catalogue`] is immutable: on reload it is built anew and swapped as a whole, so a session
//! that holds a [`Target`] holds what was decided on. Plain declared data; no TLS or SSH library's
//! types. Resolves names ([`pin()`]) and reads secrets late ([`Credential`]), but opens no
//! connection and decides nothing.

pub mod credential;
pub mod http;
pub mod kubernetes;
pub mod pin;
pub mod postgres;
pub mod region;
pub mod ssh;
pub mod tls;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::Address;
use crate::model::DataClass;
use crate::model::EntityId;
use crate::model::Protocol;
use crate::model::RegionName;
use crate::model::TargetFacts;
use crate::model::TargetName;
use crate::model::target::WithoutBasis;

pub use crate::target::credential::Credential;
pub use crate::target::credential::CredentialError;
pub use crate::target::http::HttpTarget;
pub use crate::target::kubernetes::KubernetesTarget;
pub use crate::target::pin::PinError;
pub use crate::target::pin::Pinned;
pub use crate::target::pin::pin;
pub use crate::target::pin::pin_host;
pub use crate::target::postgres::PostgresAuth;
pub use crate::target::postgres::PostgresTarget;
pub use crate::target::region::Region;
pub use crate::target::ssh::SshTarget;
pub use crate::target::tls::UpstreamTls;

/// What the catalogue is built from: one target as configured.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name.
    pub name: TargetName,
    /// The region it stands in.
    pub region: RegionName,
    /// The legal entity that answers for its data.
    pub owner: EntityId,
    /// Laws declared to apply besides those of its country.
    pub laws: BTreeSet<String>,
    /// How many US persons' data can be reached in it, at most, where that was declared.
    pub us_persons: Option<u64>,
    /// Labels that policies may read.
    pub labels: BTreeSet<String>,
    /// Classes that it holds besides those that [`Reach`] declares.
    pub classes: BTreeSet<DataClass>,
    /// What happens at connect when no legal basis covers the transfer.
    pub without_basis: WithoutBasis,
    /// Whether it is in observe mode.
    pub observe: bool,
    /// Whether a provider's own token counts as a password or bearer here.
    pub provider_tokens: bool,
    /// What it speaks, where it is, and what it holds.
    pub reach: Reach,
}

/// What a target speaks, where it is, and what it holds.
#[derive(Debug, Clone)]
pub enum Reach {
    /// A PostgreSQL server.
    Postgres(PostgresTarget),
    /// An SSH server.
    Ssh(SshTarget),
    /// An HTTP server.
    Http(HttpTarget),
    /// A Kubernetes API server.
    Kubernetes(KubernetesTarget),
}

impl Reach {
    /// What the target speaks.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Postgres(_) => Protocol::Postgres,
            Self::Ssh(_) => Protocol::Ssh,
            Self::Http(_) => Protocol::Http,
            Self::Kubernetes(_) => Protocol::Kubernetes,
        }
    }

    /// Where the target is; for Kubernetes, the kubeconfig says it.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Postgres(postgres) => Some(&postgres.address),
            Self::Ssh(ssh) => Some(&ssh.address),
            Self::Http(http) => Some(&http.address),
            Self::Kubernetes(_) => None,
        }
    }

    /// How the gateway signs in; `None` where it does not, or a kubeconfig says how.
    pub fn credential(&self) -> Option<&Credential> {
        match self {
            Self::Postgres(postgres) => Some(&postgres.credential),
            Self::Ssh(ssh) => Some(&ssh.credential),
            Self::Http(http) => http.credential.as_ref().map(|(_, credential)| credential),
            Self::Kubernetes(_) => None,
        }
    }

    /// Whether the target is reached without protection, so must be on this machine.
    fn is_plaintext(&self) -> bool {
        let off = |tls: &UpstreamTls| matches!(tls, UpstreamTls::Off);
        match self {
            Self::Postgres(postgres) => off(&postgres.tls),
            Self::Http(http) => off(&http.tls),
            Self::Ssh(_) | Self::Kubernetes(_) => false,
        }
    }

    /// Every class that was declared of it.
    fn classes(&self) -> BTreeSet<DataClass> {
        match self {
            Self::Postgres(postgres) => postgres.classes().cloned().collect(),
            Self::Ssh(_) => BTreeSet::new(),
            Self::Http(http) => http.classes().cloned().collect(),
            Self::Kubernetes(kubernetes) => kubernetes.classes().cloned().collect(),
        }
    }
}

/// One target of the catalogue.
#[derive(Debug)]
pub struct Target {
    facts: Arc<TargetFacts>,
    region: Arc<Region>,
    reach: Reach,
    provider_tokens: bool,
}

impl Target {
    /// What decisions rest on.
    pub fn facts(&self) -> &Arc<TargetFacts> {
        &self.facts
    }

    /// Its name.
    pub fn name(&self) -> &TargetName {
        &self.facts.name
    }

    /// The region it stands in.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// What it speaks, where it is, and what it holds.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Whether a provider's own token counts as a password or bearer here.
    pub fn provider_tokens(&self) -> bool {
        self.provider_tokens
    }
}

/// What may be reached; immutable.
#[derive(Debug, Default)]
pub struct Catalogue {
    targets: BTreeMap<TargetName, Arc<Target>>,
}

/// A catalogue that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// A target stands in a region that is not declared.
    #[error("target `{target}` stands in region `{region}`, which is not declared")]
    NoRegion {
        /// The target.
        target: TargetName,
        /// The region.
        region: RegionName,
    },
    /// A name stands twice.
    #[error("target `{0}` stands twice")]
    Twice(TargetName),
}

impl Catalogue {
    /// A catalogue of these targets, standing in these regions.
    pub fn new(
        regions: impl IntoIterator<Item = Region>,
        targets: impl IntoIterator<Item = Options>,
    ) -> Result<Self, CatalogueError> {
        let regions: BTreeMap<RegionName, Arc<Region>> =
            regions.into_iter().map(|region| (region.name.clone(), Arc::new(region))).collect();
        let mut catalogue = Self::default();
        for options in targets {
            let name = options.name.clone();
            let Some(region) = regions.get(&options.region) else {
                return Err(CatalogueError::NoRegion { target: name, region: options.region });
            };
            let target = Arc::new(target(options, Arc::clone(region)));
            if catalogue.targets.insert(name.clone(), target).is_some() {
                return Err(CatalogueError::Twice(name));
            }
        }
        Ok(catalogue)
    }

    /// The target of that name.
    pub fn target(&self, name: &TargetName) -> Option<&Arc<Target>> {
        self.targets.get(name)
    }

    /// All targets, by name.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.values()
    }
}

fn target(options: Options, region: Arc<Region>) -> Target {
    let mut classes = options.classes;
    classes.extend(options.reach.classes());
    let facts = TargetFacts {
        name: options.name,
        protocol: options.reach.protocol(),
        region: options.region,
        country: region.country.clone(),
        classes,
        owner: options.owner,
        laws: options.laws,
        us_persons: options.us_persons,
        labels: options.labels,
        without_basis: options.without_basis,
        observe: options.observe,
    };
    let (reach, provider_tokens) = (options.reach, options.provider_tokens);
    Target { facts: Arc::new(facts), region, reach, provider_tokens }
}

#[cfg(test)]
mod tests;
