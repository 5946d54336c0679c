//! Certificates of the person's own keys: X.509 for PostgreSQL, OpenSSH for ssh. Keys are made
//! here and never leave this machine; certificates are short, and renewed when that is due.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use jiff::SignedDuration;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::Value;
use serde_json::json;

use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::files;
use crate::cli::files::Lock;
use crate::cli::profile;
use crate::cli::wallet::RENEW_BEFORE_S;
use crate::cli::wallet::Wallet;
use crate::model::Clock;
use crate::model::clock::System;
use crate::model::digest::Digest;
use crate::model::fault::Chain;
use crate::tls;

/// The files' names. Those of `ssh-keygen` are as ssh expects them beside each other.
const KEY: &str = "client.key";
const KEY_DER: &str = "client.pk8";
const CERTIFICATE: &str = "client.crt";
const UNTIL: &str = "client.until";
const SSH_KEY: &str = "id_ed25519";
const SSH_PUBLIC: &str = "id_ed25519.pub";
const SSH_CERTIFICATE: &str = "id_ed25519-cert.pub";
const SSH_UNTIL: &str = "id_ed25519.until";

/// A certificate and its key, in files.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// The private key, PEM or OpenSSH's own format.
    pub(super) key: PathBuf,
    /// The private key once more, PKCS #8 in DER: for JDBC.
    pub(super) key_der: Option<PathBuf>,
    /// The certificate.
    pub(super) certificate: PathBuf,
    /// Until when it is good.
    pub(super) expires_at: Timestamp,
}

/// Where the certificates of whoever asks are: a login's beside its credentials, a given token's
/// in a folder of their own, since they are somebody else's.
fn folder(client: &Client) -> Result<PathBuf, CallError> {
    let dir = profile::state(client.home(), client.profile())?;
    if !client.is_given() {
        return Ok(dir);
    }
    let digest = Digest::of(client.token()?.expose_secret().as_bytes()).to_string();
    let name = digest.chars().filter(char::is_ascii_hexdigit).take(16).collect::<String>();
    let dir = dir.join(format!("token-{name}"));
    files::private_dir(&dir)?;
    Ok(dir)
}

/// The X.509 certificate, renewed if that is due.
pub(super) fn x509(client: &Client) -> Result<Files, CallError> {
    let dir = folder(client)?;
    let _lock = Lock::take(&dir.join("certificates.lock"))?;
    let at = |name: &str| dir.join(name);
    let files = |expires_at| Files {
        key: at(KEY),
        key_der: Some(at(KEY_DER)),
        certificate: at(CERTIFICATE),
        expires_at,
    };
    let complete = [KEY, KEY_DER, CERTIFICATE].iter().all(|name| at(name).is_file());
    if let Some(until) = good_until(&at(UNTIL), complete)? {
        return Ok(files(until));
    }
    let failed = |error: tls::TlsError| CallError::Usage(Chain(&error).to_string());
    let request = tls::Request::new("weir").map_err(failed)?;
    let asked = json!({ "csr": request.csr_pem, "uses": ["postgres", "http", "kubernetes"] });
    let answer = client.post("/certificates", &asked)?;
    let (certificate, until) = issued(&answer)?;
    // First the time, which is looked at first: a half-written pair is then made anew.
    files::remove(&at(UNTIL))?;
    files::write(&at(KEY), 0o600, request.key_pem.as_bytes())?;
    files::write(&at(KEY_DER), 0o600, &request.key_der)?;
    files::write(&at(CERTIFICATE), 0o600, certificate.as_bytes())?;
    files::write(&at(UNTIL), 0o600, until.to_string().as_bytes())?;
    Ok(files(until))
}

/// The SSH certificate, renewed if that is due; the key stays.
pub(super) fn ssh(client: &Client) -> Result<Files, CallError> {
    let dir = folder(client)?;
    let _lock = Lock::take(&dir.join("certificates.lock"))?;
    let at = |name: &str| dir.join(name);
    let files = |expires_at| Files {
        key: at(SSH_KEY),
        key_der: None,
        certificate: at(SSH_CERTIFICATE),
        expires_at,
    };
    let has_key = [SSH_KEY, SSH_PUBLIC].iter().all(|name| at(name).is_file());
    let complete = has_key && at(SSH_CERTIFICATE).is_file();
    if let Some(until) = good_until(&at(SSH_UNTIL), complete)? {
        return Ok(files(until));
    }
    if !has_key {
        make_ssh_key(&at(SSH_KEY), &at(SSH_PUBLIC))?;
    }
    let public = files::text(&at(SSH_PUBLIC))?;
    let answer = client.post("/ssh-certificates", &json!({ "public_key": public.trim() }))?;
    let (certificate, until) = issued(&answer)?;
    let line = format!("{}\n", certificate.trim());
    files::remove(&at(SSH_UNTIL))?;
    files::write(&at(SSH_CERTIFICATE), 0o600, line.as_bytes())?;
    files::write(&at(SSH_UNTIL), 0o600, until.to_string().as_bytes())?;
    Ok(files(until))
}

/// Where [`ssh`] puts its files for a login, whether they are there yet or not.
pub(super) fn ssh_files(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join(SSH_KEY), dir.join(SSH_CERTIFICATE))
}

/// Forgets certificates and keys: they were another login's.
pub(super) fn forget(dir: &Path) -> Result<(), CallError> {
    let all = [UNTIL, KEY, KEY_DER, CERTIFICATE, SSH_UNTIL, SSH_KEY, SSH_PUBLIC, SSH_CERTIFICATE];
    for name in all {
        files::remove(&dir.join(name))?;
    }
    Ok(())
}

/// Writes the gateway's host keys for ssh to believe: those that it told over verified TLS.
pub(super) fn known_hosts(client: &Client, about: &Value) -> Result<PathBuf, CallError> {
    let name = gateway_name(about)?;
    let mut lines = String::new();
    for (mark, member) in [("@cert-authority ", "ssh_host_ca"), ("", "ssh_host_key")] {
        let key = about.get(member).and_then(Value::as_str).unwrap_or_default().trim();
        let sign = |c: char| c.is_ascii_graphic() || c == ' ';
        if !key.is_empty() && key.chars().all(sign) {
            lines.push_str(&format_args!("{mark}{name} {key}\n").to_string());
        }
    }
    if lines.is_empty() {
        return Err(CallError::Refused("the gateway told no host key: does it serve SSH?".into()));
    }
    let path = profile::state(client.home(), client.profile())?.join("known_hosts");
    files::write(&path, 0o600, lines.as_bytes())?;
    Ok(path)
}

/// The gateway's DNS name, as it says itself.
pub(super) fn gateway_name(about: &Value) -> Result<&str, CallError> {
    let name = about.get("name").and_then(Value::as_str).unwrap_or_default();
    match name.parse::<crate::model::HostName>() {
        Ok(_) => Ok(name),
        Err(error) => Err(CallError::Refused(format!("the gateway's own name is none: {error}"))),
    }
}

/// Until when what is there is good, if that is long enough.
fn good_until(file: &Path, complete: bool) -> Result<Option<Timestamp>, CallError> {
    let Some(text) = files::read(file)?.filter(|_| complete) else { return Ok(None) };
    let until = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<Timestamp>().ok());
    let left = |until: &Timestamp| until.duration_since(System.now());
    Ok(until.filter(|until| left(until) > SignedDuration::from_secs(RENEW_BEFORE_S)))
}

fn issued(answer: &Value) -> Result<(&str, Timestamp), CallError> {
    let word = |name: &str| answer.get(name).and_then(Value::as_str);
    let until = word("expires_at").and_then(|text| text.parse().ok());
    word("certificate")
        .zip(until)
        .ok_or_else(|| CallError::Refused("the gateway's answer holds no certificate".to_owned()))
}

/// `ssh-keygen` is wherever ssh is, and writes the format that this very ssh reads.
fn make_ssh_key(key: &Path, public: &Path) -> Result<(), CallError> {
    files::remove(key)?;
    files::remove(public)?;
    let mut keygen = Command::new("ssh-keygen");
    let keygen = keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "weir", "-f"]).arg(key);
    let made = keygen.stdin(Stdio::null()).stdout(Stdio::null()).output();
    match made {
        Ok(made) if made.status.success() && fs::metadata(public).is_ok() => Ok(()),
        Ok(made) => Err(CallError::Usage(format!(
            "ssh-keygen made no key: {}",
            String::from_utf8_lossy(&made.stderr).trim()
        ))),
        Err(error) => Err(CallError::Usage(format!(
            "ssh-keygen cannot be run: {error}; install OpenSSH's client"
        ))),
    }
}

/// Where the person's SSH files are, and whose they are.
pub(super) fn own_dir(client: &Client) -> Result<PathBuf, CallError> {
    Ok(Wallet::open(client.home(), client.profile())?.dir().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_for_its_owner_alone_and_made_again_after_forgetting() {
        let dir = tempfile::tempdir().unwrap();
        let (key, public) = (dir.path().join(SSH_KEY), dir.path().join(SSH_PUBLIC));
        make_ssh_key(&key, &public).unwrap();
        let first = files::read(&key).unwrap().unwrap();
        assert!(fs::read_to_string(&public).unwrap().starts_with("ssh-ed25519 "));
        forget(dir.path()).unwrap();
        assert!(!key.exists() && !public.exists());
        make_ssh_key(&key, &public).unwrap();
        assert_ne!(files::read(&key).unwrap().unwrap(), first);
    }

    #[test]
    fn what_is_about_to_expire_or_not_whole_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(UNTIL);
        assert_eq!(good_until(&file, true).unwrap(), None);
        for (left_s, good) in [(3600, true), (RENEW_BEFORE_S - 10, false), (-1, false)] {
            let until = System.now() + SignedDuration::from_secs(left_s);
            files::write(&file, 0o600, until.to_string().as_bytes()).unwrap();
            assert_eq!(good_until(&file, true).unwrap().is_some(), good, "{left_s}");
            assert_eq!(good_until(&file, false).unwrap(), None);
        }
        files::write(&file, 0o600, b"\xff").unwrap();
        assert_eq!(good_until(&file, true).unwrap(), None);
    }
}
