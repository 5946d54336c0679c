//! Certificate authorities: the gateway's own `access` one, which signs people's short-lived client
//! certificates, and throw-away ones for the demo and for tests. Keys are ECDSA P-256.
//!
//! [`Authority::leaf`] and [`Authority::client_leaf`] are not fit for production: what they sign
//! does not expire, since whoever makes the authority throws it away.

use std::fmt;
use std::net::IpAddr;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateSigningRequestParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::PKCS_ECDSA_P256_SHA256;
use rcgen::SanType;
use zeroize::Zeroizing;

use crate::tls::TlsError;

/// A certificate authority that exists as long as somebody keeps it.
pub struct Authority {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Leaf {
    /// The certificates to show, PEM: the leaf alone, since the authority itself signed it.
    pub chain_pem: String,
    /// Its private key, PKCS #8 in PEM.
    pub key_pem: Zeroizing<String>,
}

/// What a client certificate shall say.
#[derive(Debug, Clone, Copy)]
pub struct ClientAsk<'a> {
    /// The person's name: its common name, for people to read.
    pub name: &'a str,
    /// Its subject alternative name, a URI: `weir:c-…`.
    pub uri: &'a str,
    /// From when, in seconds since the epoch.
    pub from_s: i64,
    /// Until when, in seconds since the epoch.
    pub until_s: i64,
}

/// A signed certificate.
#[derive(Debug, Clone)]
pub struct Signed {
    /// PEM.
    pub pem: String,
    /// DER.
    pub der: Vec<u8>,
}

impl Authority {
    /// A new authority called `name`, with a new key.
    pub fn new(name: &str) -> Result<Self, TlsError> {
        let key = key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = called(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert_pem = params.self_signed(&key).map_err(TlsError::Making)?.pem();
        Ok(Self { cert_pem, issuer: Issuer::new(params, key) })
    }

    /// A server certificate for DNS names and addresses. A wildcard needs two labels after it to be
    /// believed by anybody: `*.weir.example`, never `*.localhost`.
    pub fn leaf(&self, names: &[&str], addresses: &[IpAddr]) -> Result<Leaf, TlsError> {
        let dns: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(dns).map_err(TlsError::Making)?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name = called(names.first().copied().unwrap_or("server"), None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A client certificate for `name` as common name, with an organization (Kubernetes reads it as
    /// the group of a user).
    pub fn client_leaf(&self, name: &str, organization: Option<&str>) -> Result<Leaf, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = called(name, organization);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// The authority whose certificate and key were kept, PEM.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let key = KeyPair::from_pem(key_pem).map_err(TlsError::Making)?;
        let issuer = Issuer::from_ca_cert_pem(cert_pem, key).map_err(TlsError::Making)?;
        Ok(Self { cert_pem: cert_pem.to_owned(), issuer })
    }

    /// Signs a client certificate for the key of a certificate signing request (PKCS #10, PEM),
    /// whose signature proves that the key is there. Nothing else of the request is taken.
    pub fn sign_client(&self, csr_pem: &str, ask: &ClientAsk<'_>) -> Result<Signed, TlsError> {
        let request =
            CertificateSigningRequestParams::from_pem(csr_pem).map_err(TlsError::Making)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = called(ask.name, None);
        let uri = ask.uri.try_into().map_err(TlsError::Making)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.not_before = moment(ask.from_s);
        params.not_after = moment(ask.until_s);
        let signed = CertificateSigningRequestParams { params, public_key: request.public_key }
            .signed_by(&self.issuer)
            .map_err(TlsError::Making)?;
        Ok(Signed { pem: signed.pem(), der: signed.der().to_vec() })
    }

    /// The authority's own certificate, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The authority's private key, PKCS #8 in PEM.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Leaf, TlsError> {
        let key = key()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(TlsError::Making)?;
        Ok(Leaf { chain_pem: certificate.pem(), key_pem: Zeroizing::new(key.serialize_pem()) })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("chain_pem", &self.chain_pem).finish_non_exhaustive()
    }
}

/// A moment, to the second.
fn moment(seconds: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

pub(super) fn key() -> Result<KeyPair, TlsError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(TlsError::Making)
}

pub(super) fn called(name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject
}
