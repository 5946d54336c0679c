//! A key of one's own and a request for a certificate of it: what a client makes before it asks the
//! access CA. The key leaves this process only into a file of its owner's.

use std::fmt;

use zeroize::Zeroizing;

use crate::tls::TlsError;
use crate::tls::authority::called;
use crate::tls::authority::key;

/// A new key, and a request for a certificate of it.
#[derive(Clone)]
pub struct Request {
    /// The request, PKCS #10 in PEM.
    pub csr_pem: String,
    /// The private key, PKCS #8 in PEM.
    pub key_pem: Zeroizing<String>,
    /// The private key, PKCS #8 in DER: what JDBC reads.
    pub key_der: Zeroizing<Vec<u8>>,
}

impl Request {
    /// A new ECDSA P-256 key, and a request that names its holder. Who the certificate is for
    /// is not told by the request, but by who asks with it.
    pub fn new(name: &str) -> Result<Self, TlsError> {
        let key = key()?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = called(name, None);
        let request = params.serialize_request(&key).map_err(TlsError::Making)?;
        Ok(Self {
            csr_pem: request.pem().map_err(TlsError::Making)?,
            key_pem: Zeroizing::new(key.serialize_pem()),
            key_der: Zeroizing::new(key.serialize_der()),
        })
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("csr_pem", &self.csr_pem).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_its_own_key_and_shows_no_key() {
        let (one, two) = (Request::new("alice").unwrap(), Request::new("alice").unwrap());
        assert!(one.csr_pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        assert!(one.key_pem.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_ne!(one.key_pem, two.key_pem);
        let parsed = rcgen::CertificateSigningRequestParams::from_pem(&one.csr_pem);
        assert!(parsed.is_ok(), "it is signed by its key");
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }
}
