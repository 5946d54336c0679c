//! What is declared of a Kubernetes target. Its address and credentials are in a kubeconfig, which
//! `protocol/kubernetes` reads and pins with [`crate::target::pin_host`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::mask::path::JsonPath;
use crate::model::DataClass;
use crate::model::Declared;

/// A Kubernetes target.
#[derive(Debug, Clone)]
pub struct KubernetesTarget {
    /// The kubeconfig that says where the API server is and how the gateway signs in.
    pub kubeconfig: PathBuf,
    /// The context in it. `None`: its current one.
    pub context: Option<String>,
    /// What the members of an object hold, by resource. Members that are not here are clear.
    pub kinds: BTreeMap<Resource, Vec<(JsonPath, Declared)>>,
}

impl KubernetesTarget {
    /// Every class that was declared.
    pub fn classes(&self) -> impl Iterator<Item = &DataClass> {
        self.kinds.values().flatten().filter_map(|(_, declared)| declared.class())
    }

    /// What the members of an object of `resource` hold; empty where nothing was declared.
    pub fn fields(&self, resource: &Resource) -> &[(JsonPath, Declared)] {
        self.kinds.get(resource).map_or(&[], Vec::as_slice)
    }
}

/// A resource as it stands in the API's paths, of every version: `secrets`, or
/// `certificates.cert-manager.io` for one of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    name: String,
    group: String,
}

/// A text that is no resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no resource; expected its plural name in lower case, such as `secrets`, or \
     `<name>.<group>`, such as `certificates.cert-manager.io`"
)]
pub struct BadResource(String);

impl Resource {
    /// The plural name, e.g. `secrets`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The API group; empty for the core group.
    pub fn group(&self) -> &str {
        &self.group
    }
}

impl FromStr for Resource {
    type Err = BadResource;

    fn from_str(text: &str) -> Result<Self, BadResource> {
        let label = |text: &str| {
            (1..=63).contains(&text.len())
                && text.starts_with(|first: char| first.is_ascii_lowercase())
                && !text.ends_with('-')
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let (name, group) = text.split_once('.').unwrap_or((text, ""));
        // A dot at the end would be the core group, written in two ways.
        let grouped = !text.contains('.') || group.split('.').all(label);
        if label(name) && grouped && text.len() <= 253 {
            Ok(Self { name: name.to_owned(), group: group.to_owned() })
        } else {
            Err(BadResource(text.to_owned()))
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_a_name_and_perhaps_a_group() {
        let secrets = "secrets".parse::<Resource>().unwrap();
        assert_eq!((secrets.name(), secrets.group()), ("secrets", ""));
        let certificates = "certificates.cert-manager.io".parse::<Resource>().unwrap();
        assert_eq!(certificates.group(), "cert-manager.io");
        assert_eq!(certificates.to_string(), "certificates.cert-manager.io");
        for bad in ["", "Secret", "secrets.", ".v1", "pods/exec", "a..b", "secrets ", "v1/secrets"]
        {
            assert!(bad.parse::<Resource>().is_err(), "{bad:?}");
        }
    }
}
