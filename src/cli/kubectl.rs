//! `weir kubeconfig` and its exec plugin, `weir kube-credential`.

use std::fs;
use std::fs::OpenOptions;
use std::path::Path;
use std::path::PathBuf;

use jiff::SignedDuration;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::Value;
use serde_json::json;

use crate::cli::args::Gateway;
use crate::cli::args::access;
use crate::cli::certificate;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::connect::stand_in;
use crate::cli::files;
use crate::cli::home::own_program;
use crate::cli::home::variable;
use crate::cli::kube_merge;
use crate::cli::kube_merge::Entries;
use crate::cli::print;
use crate::cli::wallet::Wallet;
use crate::model::TargetName;
use crate::model::encode::base64;
use crate::tls;

/// kubectl asks for the next credential this long before the last one ends, in seconds.
const EARLIER_S: i64 = 60;
/// The exec plugin's protocol.
const EXEC_API: &str = "client.authentication.k8s.io/v1";

/// Prints a kubeconfig, or merges it.
pub(super) fn config(args: &access::Kubeconfig, as_json: bool) -> Result<(), CallError> {
    let client = Client::new(&args.gateway)?;
    let targets = match args.targets.as_slice() {
        [] => all(&client)?,
        named => named.to_vec(),
    };
    let Some(first) = targets.first() else {
        return Err(CallError::Refused("you may reach no Kubernetes target from here".to_owned()));
    };
    let entries = entries(&client, &targets)?;
    if !args.merge {
        let current = context(first, &client.profile().name);
        let whole = kube_merge::whole(&entries, &current);
        if as_json {
            print::json(&whole);
        } else {
            print::raw(&kube_merge::yaml(&entries, &current));
        }
        return Ok(());
    }
    let current = args.current.then(|| context(first, &client.profile().name));
    let file = own_file(&client);
    merge_into(&file, &entries, current.as_deref())?;
    let names = targets.iter().map(|target| context(target, &client.profile().name));
    let names = names.collect::<Vec<_>>();
    if as_json {
        print::json(&json!({ "file": file, "contexts": names }));
    } else {
        print::line(&format!("{} has the contexts {}", file.display(), names.join(", ")));
    }
    Ok(())
}

/// Prints a credential for kubectl.
pub(super) fn credential(gateway: &Gateway) -> Result<(), CallError> {
    let client = Client::new(gateway)?;
    let (token, until) = if client.is_given() {
        (client.token()?, None)
    } else {
        let tokens = Wallet::open(client.home(), client.profile())?.tokens(client.link())?;
        (tokens.access, Some(tokens.expires_at))
    };
    print::json(&exec_credential(token.expose_secret(), until));
    Ok(())
}

/// `ExecCredential` (client.authentication.k8s.io/v1).
fn exec_credential(token: &str, until: Option<Timestamp>) -> Value {
    let mut status = json!({ "token": token });
    let until = until.and_then(|at| at.checked_sub(SignedDuration::from_secs(EARLIER_S)).ok());
    if let (Some(until), Some(status)) = (until, status.as_object_mut()) {
        // RFC 3339, in whole seconds.
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        status.insert("expirationTimestamp".to_owned(), Value::from(until));
    }
    json!({ "apiVersion": EXEC_API, "kind": "ExecCredential", "status": status })
}

/// Every Kubernetes target that the person may reach.
fn all(client: &Client) -> Result<Vec<TargetName>, CallError> {
    let answer = client.get("/targets")?;
    let ours = answer.as_array().into_iter().flatten();
    let ours = ours.filter(|target| target.get("protocol") == Some(&json!("kubernetes")));
    let names = ours.filter_map(|target| target.get("name").and_then(Value::as_str));
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

fn context(target: &TargetName, profile: &str) -> String {
    format!("{target}@{profile}")
}

/// What the kubeconfig is to have for these targets.
fn entries(client: &Client, targets: &[TargetName]) -> Result<Entries, CallError> {
    let about = client.link().about()?;
    let name = certificate::gateway_name(&about)?;
    let authority = match client.link().roots() {
        tls::Roots::Bundle(tls::Pem::File(path)) => Some(base64(files::text(path)?.as_bytes())),
        tls::Roots::Bundle(tls::Pem::Bytes(bytes)) => Some(base64(bytes)),
        tls::Roots::System => None,
    };
    let profile = client.profile();
    let user = format!("weir@{}", profile.name);
    let mut entries = Entries::default();
    for target in targets {
        let host = format!("{target}.{name}");
        let mut cluster = serde_json::Map::new();
        let mut set = |name: &str, value: String| cluster.insert(name.to_owned(), value.into());
        let port = client.link().port();
        if let Some(ip) = stand_in(client, &host)? {
            // The name does not resolve here: it goes into TLS alone. By its own name, the gateway
            // would be asked for itself.
            set("server", format!("https://{}", std::net::SocketAddr::new(ip, port)));
            set("tls-server-name", host);
        } else {
            set("server", format!("https://{host}:{port}"));
        }
        if let Some(authority) = &authority {
            set("certificate-authority-data", authority.clone());
        }
        let own = context(target, &profile.name);
        entries.clusters.push(json!({ "name": own, "cluster": cluster }));
        entries.contexts.push(json!({ "name": own, "context": { "cluster": own, "user": user } }));
    }
    let mut words = vec!["kube-credential".to_owned()];
    words.extend(profile.flags());
    entries.users.push(json!({
        "name": user,
        "user": { "exec": {
            "apiVersion": EXEC_API,
            "command": own_program(),
            "args": words,
            "interactiveMode": "Never",
            "provideClusterInfo": false,
            "installHint": "kubectl signs in through the program `weir`, which is not found here",
        } },
    }));
    Ok(entries)
}

/// The kubeconfig that kubectl would write to: the first one that `KUBECONFIG` names, else
/// `~/.kube/config`.
fn own_file(client: &Client) -> PathBuf {
    let named = variable("KUBECONFIG");
    let mut named = named.iter().flat_map(std::env::split_paths);
    named
        .find(|path| !path.as_os_str().is_empty())
        .unwrap_or_else(|| client.home().user().join(".kube/config"))
}

fn merge_into(file: &Path, entries: &Entries, current: Option<&str>) -> Result<(), CallError> {
    let failed = |error: std::io::Error| CallError::Usage(format!("{}: {error}", file.display()));
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    // A link leads to where the file really is: that one is written.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let _lock = KubectlLock::take(&file)?;
    let old = files::read_open(&file)?.unwrap_or_default();
    let old = std::str::from_utf8(&old)
        .map_err(|_| CallError::Usage(format!("{} is not UTF-8", file.display())))?;
    let new = kube_merge::merged(old, entries, current).map_err(|why| {
        CallError::Usage(format!(
            "{} is left as it is: {why}. Use `weir kubeconfig > FILE` and \
             KUBECONFIG={0}:FILE instead",
            file.display()
        ))
    })?;
    Ok(files::write(&file, 0o600, new.as_bytes())?)
}

/// The lock that kubectl takes when it writes: a file beside, which must not be there.
#[derive(Debug)]
struct KubectlLock(PathBuf);

impl KubectlLock {
    fn take(file: &Path) -> Result<Self, CallError> {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        let path = file.with_file_name(format!("{}.lock", name.unwrap_or_default()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(_) => Ok(Self(path)),
            Err(error) => Err(CallError::Usage(format!(
                "{} cannot be made ({error}): is kubectl writing just now?",
                path.display()
            ))),
        }
    }
}

impl Drop for KubectlLock {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_asks_again_before_the_credential_ends() {
        let until = "2026-11-21T11:00:00.5Z".parse().unwrap();
        let credential = exec_credential("weir_s_x", Some(until));
        assert_eq!(credential["status"]["expirationTimestamp"], "2026-11-21T10:59:00Z");
        assert_eq!(credential["kind"], "ExecCredential");
        let given = exec_credential("t", None);
        assert!(given["status"].get("expirationTimestamp").is_none());
    }

    #[test]
    fn while_kubectl_writes_nothing_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        fs::write(dir.path().join("config.lock"), "").unwrap();
        let error = merge_into(&file, &Entries::default(), None).unwrap_err();
        assert!(error.to_string().contains("kubectl") && !file.exists());
    }
}
