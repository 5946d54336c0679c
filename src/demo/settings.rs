//! The gateway's configuration and policies, as an operator would write them.
//!
//! Pure: what the servers are goes in, text comes out. The gateway reads it like any other.

use std::path::Path;

use crate::demo::DemoError;
use crate::demo::cluster::Cluster;
use crate::demo::folder;
use crate::demo::folder::Folder;
use crate::demo::office;
use crate::demo::postgres;
use crate::demo::provider;
use crate::demo::sshd;

/// The configuration without a cluster.
pub(super) const GATEWAY: &str = include_str!("gateway.toml");
/// What a cluster adds.
const CLUSTER: &str = include_str!("cluster.toml");
/// The policies of `config/policies`, which explain themselves.
const POLICIES: [(&str, &str); 7] = [
    ("cluster.cedar", include_str!("../../config/policies/cluster.cedar")),
    ("control.cedar", include_str!("../../config/policies/control.cedar")),
    ("customers.cedar", include_str!("../../config/policies/customers.cedar")),
    ("step-up.cedar", include_str!("../../config/policies/step-up.cedar")),
    ("travel.cedar", include_str!("../../config/policies/travel.cedar")),
    ("web.cedar", include_str!("../../config/policies/web.cedar")),
    ("wiki.cedar", include_str!("../../config/policies/wiki.cedar")),
];

/// What the configuration says that is not the same in every demo.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) port: u16,
    pub(super) private_port: u16,
    pub(super) issuer: &'a str,
    pub(super) postgres_port: u16,
    pub(super) ssh_port: u16,
    pub(super) ssh_host_key: &'a str,
    pub(super) http_port: u16,
    pub(super) cluster: Option<&'a Cluster>,
}

/// The configuration's text.
pub(super) fn text(facts: &Facts<'_>) -> String {
    let mut networks = vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()];
    networks.extend(facts.cluster.iter().flat_map(|cluster| cluster.networks()));
    let networks = networks.iter().map(|network| format!("\"{network}\"")).collect::<Vec<_>>();
    let mut template = GATEWAY.to_owned();
    let mut values = vec![
        ("PORT", facts.port.to_string()),
        ("PRIVATE_PORT", facts.private_port.to_string()),
        ("REGION_NETWORKS", networks.join(", ")),
        ("OFFICE_NETWORK", office::NETWORK.to_owned()),
        ("ISSUER", facts.issuer.to_owned()),
        ("AUDIENCE", provider::AUDIENCE.to_owned()),
        ("POSTGRES_PORT", facts.postgres_port.to_string()),
        ("POSTGRES_DATABASE", postgres::DATABASE.to_owned()),
        ("POSTGRES_ARCHIVE", postgres::ARCHIVE.to_owned()),
        ("POSTGRES_LOGIN", postgres::LOGIN.to_owned()),
        ("UPSTREAM_CA", super::UPSTREAM_CA.to_owned()),
        ("SSH_PORT", facts.ssh_port.to_string()),
        ("SSH_LOGIN", sshd::LOGIN.to_owned()),
        ("SSH_HOST_KEY", facts.ssh_host_key.to_owned()),
        ("HTTP_PORT", facts.http_port.to_string()),
    ];
    if let Some(cluster) = facts.cluster {
        template.push_str(CLUSTER);
        values.push(("KUBECONFIG", inside_quotes(cluster.kubeconfig())));
    }
    // The order does not matter: no value has an `@`-word of this form in it, save perhaps a path,
    // which comes last.
    values.iter().fold(template, |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

/// Writes the policies into the folder `policies` of `state`.
pub(super) fn write_policies(state: &Folder) -> Result<(), DemoError> {
    let dir = state.folder("policies")?;
    for (name, text) in POLICIES {
        folder::write(&dir.join(name), 0o600, text.as_bytes())?;
    }
    Ok(())
}

/// A path between the quotes of a TOML basic string, whose escapes are those of JSON.
fn inside_quotes(path: &Path) -> String {
    let quoted = serde_json::Value::from(path.to_string_lossy()).to_string();
    quoted.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn facts(cluster: Option<&Cluster>) -> Facts<'_> {
        Facts {
            port: 8443,
            private_port: 20_001,
            issuer: "http://127.0.0.1:20002",
            postgres_port: 20_003,
            ssh_port: 20_004,
            ssh_host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
            http_port: 20_005,
            cluster,
        }
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        let kubeconfig = b"clusters: [{cluster: {server: https://10.9.8.7:6443}}]";
        let cluster = Cluster::at(Path::new("/a \"b\"/kube.config"), kubeconfig);
        for text in [text(&facts(None)), text(&facts(Some(&cluster)))] {
            let code = text.lines().filter(|line| !line.starts_with('#')).collect::<String>();
            assert!(!code.contains('@'), "{code}");
        }
        let text = text(&facts(Some(&cluster)));
        assert!(text.contains(r#"kubeconfig_file = "/a \"b\"/kube.config""#), "{text}");
        assert!(text.contains(r#""::1/128", "10.9.8.7/32"]"#), "{text}");
    }

    #[test]
    fn the_gateway_understands_its_configuration() {
        let state = Folder::state(None).unwrap();
        write_policies(&state).unwrap();
        let authority = crate::tls::Authority::new("upstream").unwrap();
        state.write(super::super::UPSTREAM_CA, authority.cert_pem().as_bytes()).unwrap();
        let file = state.write("weir.toml", text(&facts(None)).as_bytes()).unwrap();
        crate::daemon::check(&file).unwrap();
        // Every policy is there, and a broken one would be found.
        assert_eq!(fs::read_dir(state.join("policies")).unwrap().count(), POLICIES.len());
    }
}
