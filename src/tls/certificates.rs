//! Which certificate is shown for which name, and exchanging them while the gateway runs.
//!
//! Knows names of hosts; whether one of them is a target's is not known here.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use crate::tls::Pem;
use crate::tls::TlsError;
use crate::tls::provider;

/// A certificate with its chain, and its private key: where they are.
#[derive(Debug, Clone)]
pub struct KeyPair {
    /// The certificate, then those that link it to a root.
    pub chain: Pem,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: Pem,
}

/// Every certificate that the server may show, by name.
#[derive(Debug)]
pub(super) struct CertStore {
    /// Shown to clients that ask for no name: the first one configured.
    default: Arc<CertifiedKey>,
    /// `host.example`, and `*.host.example` for every name that is one label longer.
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl CertStore {
    pub(super) fn load(pairs: &[KeyPair]) -> Result<Self, TlsError> {
        let mut default = None;
        let mut by_name = HashMap::new();
        for pair in pairs {
            let certified = Arc::new(certified(pair)?);
            for name in names(&certified, &pair.chain)? {
                if by_name.insert(name.clone(), Arc::clone(&certified)).is_some() {
                    return Err(TlsError::Ambiguous { name });
                }
            }
            default.get_or_insert(certified);
        }
        let default = default.ok_or(TlsError::NoServerCertificate)?;
        Ok(Self { default, by_name })
    }

    /// The certificate for the name that a client asks for. A name that no certificate is for gets
    /// none, which ends the handshake: the client would not have trusted another one.
    fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let Some(name) = name else { return Some(&self.default) };
        let name = host(name);
        // RFC 9525, section 6.3: a wildcard stands for exactly one label, the leftmost.
        self.by_name.get(&name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }
}

/// Gives rustls the certificates that are in force at this moment.
pub(super) struct Resolver(ArcSwap<CertStore>);

impl Resolver {
    pub(super) fn new(store: CertStore) -> Self {
        Self(ArcSwap::from_pointee(store))
    }

    pub(super) fn replace(&self, store: CertStore) {
        self.0.store(Arc::new(store));
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().find(hello.server_name()).cloned()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.load().by_name.keys()).finish()
    }
}

/// A name of a host as it is compared: lower case, without the dot of the root.
pub(super) fn host(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Reads a certificate and its key, and sees that they belong together.
pub(super) fn certified(pair: &KeyPair) -> Result<CertifiedKey, TlsError> {
    let chain = pair.chain.certificates()?;
    let key = pair.key.key()?;
    CertifiedKey::from_der(chain, key, &provider())
        .map_err(|source| TlsError::Unusable { from: pair.chain.to_string(), source })
}

fn names(certified: &CertifiedKey, from: &Pem) -> Result<Vec<String>, TlsError> {
    let nameless = || TlsError::Nameless { from: from.to_string() };
    let leaf = certified.cert.first().ok_or_else(nameless)?;
    let leaf = EndEntityCert::try_from(leaf).map_err(|_| nameless())?;
    let mut names: Vec<String> = leaf.valid_dns_names().map(host).collect();
    // A certificate may name a host twice; two certificates may not.
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { Err(nameless()) } else { Ok(names) }
}
