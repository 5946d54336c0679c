//! A Kubernetes cluster that is not the demo's own: `--kubeconfig FILE`.
//!
//! The demo's region gets the cluster's addresses, since it plays that all stand in one country.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;
use tokio::net::lookup_host;

use crate::demo::DemoError;
use crate::demo::provider::Token;

/// Largest kubeconfig that is read, in bytes.
const KUBECONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    kubeconfig: PathBuf,
    hosts: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Cluster {
    /// The cluster that `kubeconfig` leads to, with the addresses that its name has now.
    pub(super) async fn find(kubeconfig: &Path) -> Result<Self, DemoError> {
        let failed = DemoError::file(kubeconfig);
        let path = fs::canonicalize(kubeconfig).map_err(&failed)?;
        let facts = fs::metadata(&path).map_err(&failed)?;
        if !facts.is_file() || facts.len() > KUBECONFIG_BYTES_MAX {
            return Err(failed(std::io::Error::other("this is no kubeconfig")));
        }
        let mut cluster = Self::at(&path, &fs::read(&path).map_err(&failed)?);
        for host in std::mem::take(&mut cluster.hosts) {
            match lookup_host((host.as_str(), 443)).await {
                Ok(found) => cluster.addresses.extend(found.map(|address| address.ip())),
                Err(error) => tracing::warn!(host, %error, "this cluster cannot be resolved"),
            }
        }
        Ok(cluster)
    }

    /// The cluster that the text of a kubeconfig names, its names not resolved yet.
    pub(super) fn at(path: &Path, text: &[u8]) -> Self {
        let mut cluster = Self {
            kubeconfig: path.to_owned(),
            hosts: BTreeSet::new(),
            addresses: BTreeSet::new(),
        };
        for host in servers(&String::from_utf8_lossy(text)) {
            match host.parse::<IpAddr>() {
                Ok(ip) => _ = cluster.addresses.insert(ip.to_canonical()),
                Err(_) => _ = cluster.hosts.insert(host),
            }
        }
        cluster
    }

    /// Its kubeconfig, whose user may impersonate people.
    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Networks of one address each, besides loopback.
    pub(super) fn networks(&self) -> Vec<String> {
        let others = self.addresses.iter().filter(|ip| !ip.is_loopback());
        others.map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })).collect()
    }
}

/// The hosts of all `server: https://…` of a kubeconfig, in YAML or JSON. Reading more of it is
/// the gateway's business; a host too many widens the demo's region by an address.
fn servers(text: &str) -> BTreeSet<String> {
    let urls = text.split("https://").skip(1).zip(text.split("https://"));
    let named = urls.filter(|(_, before)| {
        let before = before.trim_end_matches(|c: char| c.is_whitespace() || "\"':".contains(c));
        before.ends_with("server")
    });
    let host = |(url, _): (&str, &str)| {
        let authority = url.split(|c: char| c.is_whitespace() || "/\"',}".contains(c)).next()?;
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next()?,
            None => authority.split(':').next()?,
        };
        (!host.is_empty()).then(|| host.to_owned())
    };
    named.filter_map(host).collect()
}

/// A kubeconfig that leads to the gateway, with a context for each of `tokens`; the first is the
/// current one. kubectl does not resolve `*.localhost` everywhere, so the address and the name in
/// the certificate are told apart. (JSON is YAML.)
pub(super) fn kubeconfig(port: u16, ca_file: &Path, tokens: &[Token]) -> Value {
    let contexts = tokens.iter().map(|token| {
        json!({ "name": token.name, "context": { "cluster": "prod-cluster", "user": token.name } })
    });
    let users =
        tokens.iter().map(|token| json!({ "name": token.name, "user": { "token": token.text } }));
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "prod-cluster",
            "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "tls-server-name": "prod-cluster.localhost",
                "certificate-authority": ca_file,
            },
        }],
        "users": users.collect::<Vec<_>>(),
        "contexts": contexts.collect::<Vec<_>>(),
        "current-context": tokens.first().map_or("", |token| token.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_of_a_kubeconfig_are_found() {
        for (text, hosts) in [
            ("clusters:\n- cluster:\n    server: https://10.1.2.3:6443\n", &["10.1.2.3"][..]),
            ("server: \"https://k8s.example/path\"\n", &["k8s.example"]),
            ("{\"cluster\":{\"server\":\"https://[fd00::5]:6443\"}}", &["fd00::5"]),
            ("server: https://a:1\nserver: 'https://b'", &["a", "b"]),
            ("proxy-url: https://proxy\nserver: http://plain\n", &[]),
            ("server: https://", &[]),
            ("", &[]),
        ] {
            let found = servers(text);
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), hosts, "{text}");
        }
    }

    #[test]
    fn loopback_needs_no_network_of_its_own() {
        let text = b"server: https://127.0.0.1:6443\nserver: https://[2001:db8::1]\n";
        assert_eq!(Cluster::at(Path::new("/k"), text).networks(), ["2001:db8::1/128"]);
    }

    #[test]
    fn everybody_has_a_context() {
        let token = |name| Token { name, text: format!("token-of-{name}") };
        let file = kubeconfig(8443, Path::new("/ca.pem"), &[token("alice"), token("dana")]);
        assert_eq!(file["current-context"], "alice");
        assert_eq!(file["contexts"][1]["context"]["user"], "dana");
        assert_eq!(file["users"][1]["user"]["token"], "token-of-dana");
        assert_eq!(file["clusters"][0]["cluster"]["tls-server-name"], "prod-cluster.localhost");
    }
}
