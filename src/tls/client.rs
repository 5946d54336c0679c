//! The client side: towards targets, providers and stores.
//!
//! The peer's certificate and name are always verified in full (`verify-full`), and there is no
//! setting that would weaken it: what is not offered cannot be misconfigured.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::version::TLS12;
use rustls::version::TLS13;

use crate::tls::KeyPair;
use crate::tls::Pem;
use crate::tls::TlsError;
use crate::tls::provider;

/// Whose certificates are believed.
#[derive(Debug, Clone)]
pub enum Roots {
    /// Those signed under a certificate of this bundle, and no others.
    Bundle(Pem),
    /// Those that the system believes.
    System,
}

/// Why a server's certificate is not believed, as far as its client can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It is not good at this machine's time.
    Time,
    /// It is another name's.
    Name,
    /// Nobody who is believed has signed it.
    Issuer,
}

/// The doubt that ended a connection, if it was one.
pub fn doubt(error: &(dyn Error + 'static)) -> Option<Doubt> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An `io::Error` tells the cause of what it wraps as its own: what it wraps is asked for.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = wrapped.and_then(|wrapped| wrapped.downcast_ref::<rustls::Error>());
        let found = found.or_else(|| error.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(why)) = found {
            return of_certificate(why);
        }
        next = error.source();
    }
    None
}

fn of_certificate(why: &CertificateError) -> Option<Doubt> {
    use CertificateError as Why;
    if matches!(
        why,
        Why::Expired
            | Why::ExpiredContext { .. }
            | Why::NotValidYet
            | Why::NotValidYetContext { .. }
    ) {
        Some(Doubt::Time)
    } else if matches!(why, Why::NotValidForName | Why::NotValidForNameContext { .. }) {
        Some(Doubt::Name)
    } else {
        (*why == Why::UnknownIssuer).then_some(Doubt::Issuer)
    }
}

/// The configuration for connecting to a peer: TLS 1.3 or 1.2, the peer verified in full, `alpn`
/// offered in this order (none: no ALPN), `identity` shown if the peer asks for a certificate.
pub fn client(
    roots: &Roots,
    alpn: &[&[u8]],
    identity: Option<&KeyPair>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Rustls)?
        .with_root_certificates(store(roots)?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(pair) => builder
            .with_client_auth_cert(pair.chain.certificates()?, pair.key.key()?)
            .map_err(|source| TlsError::Unusable { from: pair.chain.to_string(), source })?,
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

fn store(roots: &Roots) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match roots {
        // Somebody chose these one by one, so a bad one is a mistake to be told of.
        Roots::Bundle(bundle) => {
            for certificate in bundle.certificates()? {
                store
                    .add(certificate)
                    .map_err(|source| TlsError::Unusable { from: bundle.to_string(), source })?;
            }
        }
        // Nobody chose these: systems are known to carry some that are too old to be read.
        Roots::System => {
            let system = rustls_native_certs::load_native_certs();
            let (added, _) = store.add_parsable_certificates(system.certs);
            if added == 0 {
                return Err(TlsError::NoSystemRoots);
            }
        }
    }
    Ok(store)
}
