//! The catalogue: what may be reached, where it stands, and how the gateway signs in there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::TargetFacts;
use crate::model::TargetName;

/// Every target, by name.
#[derive(Debug, Default)]
pub struct Catalogue(BTreeMap<TargetName, Arc<Target>>);

impl Catalogue {
    /// The target called `name`.
    pub fn find(&self, name: &TargetName) -> Option<&Arc<Target>> {
        self.0.get(name)
    }
}

/// One target.
#[derive(Debug)]
pub struct Target {
    /// What decisions rest on.
    pub facts: Arc<TargetFacts>,
}

/// Addresses of a target that were checked to lie in its region.
#[derive(Debug)]
pub struct Pinned {
    target: TargetName,
    addresses: Vec<SocketAddr>,
}

impl Pinned {
    /// Whose they are.
    pub fn target(&self) -> &TargetName {
        &self.target
    }

    /// The addresses.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}
