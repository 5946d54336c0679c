//! kubectl's configuration: every context is a target. The gateway reads the file itself, so the
//! entry names it, and nothing of its secrets is looked at.

use std::path::Path;

use serde_json::Value;

use crate::cli::import::BadLine;
use crate::cli::import::Entry;
use crate::cli::import::Found;
use crate::cli::import::Setting;
use crate::protocol::kubernetes::kubeconfig::values;

/// Ways to sign in that a gateway does not use, and what it does with them.
const OTHERS: [(&str, &str); 6] = [
    ("exec", "signs in with a program (exec), which the gateway does not run"),
    ("auth-provider", "signs in with an auth-provider, which the gateway does not have"),
    ("username", "signs in with a password, which the gateway does not send"),
    ("as", "impersonates somebody, which only the gateway itself may do"),
    ("as-groups", "impersonates groups, which only the gateway itself may do"),
    ("as-uid", "impersonates somebody, which only the gateway itself may do"),
];

/// Reads the file.
pub(super) fn read(text: &str, path: &Path) -> Result<Found, BadLine> {
    let config = values(text).ok_or_else(|| BadLine {
        line: 1,
        what: "this is no kubeconfig; what is wrong is not shown, since it holds secrets".into(),
    })?;
    let named = |section: &str, name: &str, inner: &str| {
        let all = config.get(section).and_then(Value::as_array).into_iter().flatten();
        let mut found = all.filter(|entry| entry.get("name").and_then(Value::as_str) == Some(name));
        found.next().and_then(|entry| entry.get(inner)).cloned()
    };
    let contexts = config.get("contexts").and_then(Value::as_array).into_iter().flatten();
    let mut found = Found::default();
    for context in contexts {
        let word = |value: &Value, name: &str| {
            value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let called = word(context, "name");
        let inner = context.get("context").cloned().unwrap_or_default();
        let cluster = named("clusters", &word(&inner, "cluster"), "cluster");
        let user = named("users", &word(&inner, "user"), "user");
        found.entries.push(entry(called, cluster.as_ref(), user.as_ref(), path));
    }
    // Whatever kubectl does not know either is nobody's.
    if let Some(others) = config.as_object() {
        let known = [
            "apiVersion",
            "kind",
            "clusters",
            "contexts",
            "users",
            "current-context",
            "preferences",
            "extensions",
        ];
        let unknown = others.keys().filter(|name| !known.contains(&name.as_str()));
        found.remarks.extend(unknown.map(|name| format!("unknown option `{name}`")));
    }
    Ok(found)
}

fn entry(called: String, cluster: Option<&Value>, user: Option<&Value>, path: &Path) -> Entry {
    let mut remarks = Vec::new();
    let has = |value: &Value, name: &str| {
        value.get(name).is_some_and(|value| !(value.is_null() || *value == Value::Bool(false)))
    };
    match cluster {
        None => remarks.push("its cluster is not in the file".to_owned()),
        Some(cluster) => {
            let server = cluster.get("server").and_then(Value::as_str).unwrap_or("nowhere");
            // What stands before an `@` is a secret.
            let server = server.rsplit('@').next().unwrap_or_default();
            remarks.push(format!("its API server: {server}"));
            if has(cluster, "insecure-skip-tls-verify") {
                remarks.push("skips verification: the gateway always verifies; give its CA".into());
            }
            if has(cluster, "proxy-url") {
                remarks.push("goes through a proxy: the gateway dials directly".to_owned());
            }
        }
    }
    match user {
        None => remarks.push("its user is not in the file".to_owned()),
        Some(user) => {
            let others = OTHERS.iter().filter(|(name, _)| has(user, name));
            remarks.extend(others.map(|(_, what)| format!("{what}: give it a token of its own")));
        }
    }
    let own = "better one of the gateway's own, whose user may impersonate people and nothing more";
    let file = path.display().to_string();
    let settings = vec![
        Setting { remark: Some(own.to_owned()), ..Setting::known("kubeconfig_file", &file) },
        Setting::known("context", &called),
    ];
    Entry { called, table: "kubernetes", settings, remarks }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::cli::import::catalogue;

    use super::*;

    const FILE: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster:\n    \
        server: https://u:s3cret@10.0.0.1:6443\n    insecure-skip-tls-verify: true\ncontexts:\n- name: Prod/EU\n  \
        context: {cluster: c, user: u}\n- name: lost\n  context: {cluster: x, user: y}\nusers:\n- name: u\n  \
        user:\n    token: s3cret\n    exec: {command: aws, apiVersion: v1}\nwallet: s3cret\n";

    #[test]
    fn a_context_is_a_target_and_no_secret_is_shown() {
        let found = read(FILE, Path::new("/etc/kube.conf")).unwrap();
        let text = catalogue(&found.entries, Path::new("f"));
        for line in [
            "[targets.prod-eu]\n# was called Prod/EU",
            "kubeconfig_file = \"/etc/kube.conf\"",
            "context = \"Prod/EU\"",
            "# its API server: 10.0.0.1:6443",
            "# skips verification",
            "(exec)",
            "# its cluster is not in the file",
        ] {
            assert!(text.contains(line), "no `{line}` in\n{text}");
        }
        assert_eq!(found.remarks, ["unknown option `wallet`"]);
        assert!(!text.contains("s3cret"));
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(at in 0..FILE.len(), sign in "[ -~\n]{0,3}") {
            let mut file = FILE.to_owned();
            file.insert_str(at, &sign);
            if let Err(bad) = read(&file, Path::new("/k")) {
                prop_assert!(!bad.what.contains("s3cret"));
            }
        }
    }
}
