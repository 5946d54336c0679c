//! Who signs client certificates: a trait, because X.509 is made elsewhere.

use std::error::Error;
use std::fmt::Debug;

use jiff::Timestamp;

/// What a client certificate shall say.
#[derive(Debug, Clone, Copy)]
pub struct CertificateAsk<'a> {
    /// The certificate signing request, PEM; only its key is taken.
    pub csr_pem: &'a str,
    /// The person's name, for people to read.
    pub name: &'a str,
    /// What it is bound to, a URI: `weir:l-…`.
    pub uri: &'a str,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// A certificate that was just signed.
#[derive(Debug, Clone)]
pub struct SignedCertificate {
    /// PEM.
    pub pem: String,
    /// DER.
    pub der: Vec<u8>,
}

/// The request is none, or its key cannot be signed for.
#[derive(Debug, thiserror::Error)]
#[error("the certificate signing request cannot be used")]
pub struct CertifyError(#[source] Box<dyn Error + Send + Sync>);

impl CertifyError {
    /// An error because of `cause`.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// Signs client certificates with the `access` authority.
pub trait Certifier: Send + Sync + Debug {
    /// Signs one.
    fn sign(&self, ask: &CertificateAsk<'_>) -> Result<SignedCertificate, CertifyError>;

    /// The authority's certificate, PEM.
    fn ca_pem(&self) -> &str;
}
