//! TLS configurations: the only place where rustls configurations are made.
//!
//! The server side (certificates by SNI, ALPN) and the client side (`verify-full` always).
//! Knows keys and names of hosts; knows no principal, no target and no protocol beyond its ALPN
//! name.
//!
//! - [`server`]: the side that clients of the gateway see
//! - [`certificates`]: which certificate is shown for which name, and reloading them
//! - [`mod@client`]: the side that targets, providers and stores see
//! - [`request`]: a client's own key, and the request for its certificate
//! - [`authority`]: certificate authorities: the gateway's own `access` one, and throw-away ones

use std::fmt;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

pub mod authority;
pub mod certificates;
pub mod client;
mod presented;
pub mod request;
pub mod server;

pub use authority::Authority;
pub use authority::ClientAsk;
pub use authority::Leaf;
pub use authority::Signed;
pub use certificates::KeyPair;
pub use client::Doubt;
pub use client::Roots;
pub use client::client;
pub use client::doubt;
pub use request::Request;
pub use server::AcceptError;
pub use server::Accepted;
pub use server::Alpn;
pub use server::Opening;
pub use server::Server;
pub use server::ServerOptions;

/// A PEM file or bundle larger than this is refused before it is read in full.
pub const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Makes aws-lc-rs the process's default provider of cryptography, for those libraries that read
/// the default. What this module makes names its provider itself. Calling it again changes nothing.
pub fn install() {
    // An error says that there is a default already: an earlier call made it, for no other provider
    // is compiled in.
    drop(aws_lc_rs::default_provider().install_default());
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Where PEM text is.
#[derive(Clone)]
pub enum Pem {
    /// In a file, which is read again at each reload.
    File(PathBuf),
    /// Here.
    Bytes(Zeroizing<Vec<u8>>),
}

impl Pem {
    /// PEM text that is at hand.
    pub fn bytes(text: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(Zeroizing::new(text.into()))
    }

    fn read(&self) -> Result<Zeroizing<Vec<u8>>, TlsError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(path) => {
                let unreadable = |source| TlsError::Unreadable { path: path.clone(), source };
                let mut text = Zeroizing::new(Vec::new());
                let file = File::open(path).map_err(unreadable)?;
                let bytes_max = PEM_BYTES_MAX.saturating_add(1);
                let bytes = file.take(bytes_max).read_to_end(&mut text).map_err(unreadable)?;
                if u64::try_from(bytes).is_ok_and(|bytes| bytes <= PEM_BYTES_MAX) {
                    Ok(text)
                } else {
                    Err(TlsError::TooLarge { from: self.to_string() })
                }
            }
        }
    }

    /// Every certificate in it, in order; at least one.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let text = self.read()?;
        let certificates = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| TlsError::NotPem { from: self.to_string(), source })?;
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate { from: self.to_string() });
        }
        Ok(certificates)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.read()?)
            .map_err(|source| TlsError::NotPem { from: self.to_string(), source })
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Bytes(_) => f.write_str("the PEM text given"),
        }
    }
}

/// Says where the text is and never what it is: it may be a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
        }
    }
}

/// Why a configuration could not be made. Names where the bad thing was read from, never a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More bytes than [`PEM_BYTES_MAX`].
    #[error("{from} is larger than {PEM_BYTES_MAX} bytes")]
    TooLarge {
        /// Where it was read from.
        from: String,
    },
    /// Not PEM, or not of the kind that is needed.
    #[error("{from} is not the PEM text that is needed here")]
    NotPem {
        /// Where it was read from.
        from: String,
        /// What the reader stumbled over.
        #[source]
        source: pem::Error,
    },
    /// PEM without any certificate.
    #[error("{from} holds no certificate")]
    NoCertificate {
        /// Where it was read from.
        from: String,
    },
    /// A server needs at least one certificate.
    #[error("no server certificate is configured")]
    NoServerCertificate,
    /// A server certificate that names no host could never be chosen.
    #[error("the certificate in {from} names no host (subjectAltName, DNS)")]
    Nameless {
        /// Where it was read from.
        from: String,
    },
    /// The certificate cannot be read, or the key is not its key.
    #[error("the certificate in {from} and its key cannot be used")]
    Unusable {
        /// Where it was read from.
        from: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// Two certificates are configured for one name.
    #[error("two certificates are configured for {name}")]
    Ambiguous {
        /// The name.
        name: String,
    },
    /// The system has no roots that can be used.
    #[error("the system has no root certificates; name a bundle instead")]
    NoSystemRoots,
    /// rustls refuses the configuration.
    #[error("the TLS configuration is not possible")]
    Rustls(#[source] rustls::Error),
    /// A throw-away certificate could not be made.
    #[error("a certificate could not be made")]
    Making(#[source] rcgen::Error),
}
