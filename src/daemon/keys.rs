//! The gateway's own keys, kept in its state folder: made at the first start, readable by it alone.
//!
//! - `identity.key` signs who asks, for targets
//! - `login.key` seals providers' refresh tokens
//! - `access_ca.crt`, `access_ca.key`: the `access` authority, which signs people's certificates;
//!   unless the configuration names others. No target trusts it
//! - `access_ssh_ca.key`: its SSH half

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::config::Loaded;
use crate::daemon::StartError;
use crate::identity::Assertions;
use crate::identity::CertificateAsk;
use crate::identity::Certifier;
use crate::identity::CertifyError;
use crate::identity::SEAL_KEY_BYTES;
use crate::identity::SignedCertificate;
use crate::identity::ssh_certificate::SshAuthority;
use crate::tls::Authority;
use crate::tls::ClientAsk;

/// The `access` authority.
#[derive(Debug)]
pub(super) struct Access(Authority);

/// Reads a secret of the state folder; made by `make` where it is not there yet.
pub(super) fn kept(
    path: &Path,
    make: impl FnOnce() -> Result<Zeroizing<String>, StartError>,
) -> Result<Zeroizing<String>, StartError> {
    let failed = |source| StartError::State { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = make()?;
            write_new(path, text.as_bytes()).map_err(failed)?;
            Ok(text)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Writes a file that is not there yet, readable by its owner alone.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

/// The key that seals refresh tokens.
pub(super) fn seal_key(state_dir: &Path) -> Result<[u8; SEAL_KEY_BYTES], StartError> {
    let path = state_dir.join("login.key");
    let made = || {
        let mut key = Zeroizing::new(vec![0_u8; SEAL_KEY_BYTES]);
        let filled = aws_lc_rs::rand::fill(key.as_mut_slice());
        filled.map(|()| key).map_err(|_| bad(&path, "there are no random numbers"))
    };
    let key = kept_bytes(&path, made)?;
    key.as_slice().try_into().map_err(|_| bad(&path, "expected 64 hexadecimal digits"))
}

/// Who signs, for targets, who asks.
pub(super) fn assertions(loaded: &Loaded, url: &str) -> Result<Assertions, StartError> {
    let path = loaded.file.gateway.state_dir.join("identity.key");
    let key = kept_bytes(&path, || Assertions::generate().map_err(StartError::Assertions))?;
    Assertions::new(url, &key).map_err(StartError::Assertions)
}

/// The SSH half of the `access` authority.
pub(super) fn ssh_access(state_dir: &Path) -> Result<SshAuthority, StartError> {
    let path = state_dir.join("access_ssh_ca.key");
    let key = kept_bytes(&path, || SshAuthority::generate().map_err(StartError::SshAccess))?;
    SshAuthority::from_pkcs8(&key).map_err(StartError::SshAccess)
}

/// Bytes of the state folder, written as hexadecimal digits.
fn kept_bytes(
    path: &Path,
    make: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, StartError>,
) -> Result<Zeroizing<Vec<u8>>, StartError> {
    let text = kept(path, || {
        let bytes = make()?;
        let mut text = Zeroizing::new(String::with_capacity(bytes.len().saturating_mul(2)));
        for byte in bytes.iter() {
            // Writing to a text cannot fail.
            write!(text, "{byte:02x}").map_err(|_| bad(path, "cannot be written"))?;
        }
        Ok(text)
    })?;
    let digits = text.trim().as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2);
        pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())
    });
    let bytes = digits.collect::<Option<Vec<_>>>().map(Zeroizing::new);
    bytes.ok_or_else(|| bad(path, "expected hexadecimal digits"))
}

fn bad(path: &Path, why: &str) -> StartError {
    let source = io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    StartError::State { path: path.to_owned(), source }
}

/// The `access` authority: as configured, or from the state folder.
pub(super) fn access(loaded: &Loaded) -> Result<Access, StartError> {
    let login = &loaded.file.login;
    if let (Some(certificate), Some(key)) = (&login.access_ca_file, &login.access_ca_key_file) {
        let text = |file| -> Result<Zeroizing<String>, StartError> {
            let bytes = loaded.read(file).map_err(crate::daemon::BadConfig::Problem)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            drop(Zeroizing::new(bytes));
            Ok(Zeroizing::new(text))
        };
        let authority = Authority::from_pem(&text(certificate)?, &text(key)?);
        return Ok(Access(authority.map_err(StartError::Access)?));
    }
    let dir = &loaded.file.gateway.state_dir;
    let (certificate, key) = (dir.join("access_ca.crt"), dir.join("access_ca.key"));
    if !key.exists() {
        let name = format!("Weir access {}", loaded.file.gateway.id);
        let made = Authority::new(&name).map_err(StartError::Access)?;
        // The key last: a start that was cut off in between begins anew.
        let failed = |source| StartError::State { path: certificate.clone(), source };
        fs::write(&certificate, made.cert_pem()).map_err(failed)?;
        kept(&key, || Ok(made.key_pem()))?;
    }
    let failed = |source| StartError::State { path: certificate.clone(), source };
    let cert_pem = fs::read_to_string(&certificate).map_err(failed)?;
    let failed = |source| StartError::State { path: key.clone(), source };
    let key_pem = Zeroizing::new(fs::read_to_string(&key).map_err(failed)?);
    Authority::from_pem(&cert_pem, &key_pem).map(Access).map_err(StartError::Access)
}

impl Certifier for Access {
    fn sign(&self, ask: &CertificateAsk<'_>) -> Result<SignedCertificate, CertifyError> {
        let signed = self.0.sign_client(
            ask.csr_pem,
            &ClientAsk {
                name: ask.name,
                uri: ask.uri,
                from_s: ask.from.as_second(),
                until_s: ask.until.as_second(),
            },
        );
        let signed = signed.map_err(CertifyError::new)?;
        Ok(SignedCertificate { pem: signed.pem, der: signed.der })
    }

    fn ca_pem(&self) -> &str {
        self.0.cert_pem()
    }
}
