//! Certificates that clients show: taken from anybody, judged here, refused in the protocol's words.
//!
//! A handshake that fails tells a person nothing, and a client may show a certificate that is for
//! somebody else's servers. So every certificate whose key the client proves to have is let in, and
//! whether the `access` authority signed it, for clients and for now, stands beside it
//! ([`Presented::ours`]). Nothing but that says who somebody is.

use std::sync::Arc;

use rustls::DigitallySignedStruct;
use rustls::DistinguishedName;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::UnixTime;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerified;
use rustls::server::danger::ClientCertVerifier;

use crate::model::login::Presented;
use crate::tls::Pem;
use crate::tls::TlsError;
use crate::tls::provider;

/// Asks clients for a certificate and takes any, or none.
#[derive(Debug)]
pub(super) struct Taker {
    access: Arc<dyn ClientCertVerifier>,
}

impl Taker {
    /// A taker that knows the certificates of the `access` authorities.
    pub(super) fn new(access: &Pem) -> Result<Arc<Self>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in access.certificates()? {
            roots
                .add(certificate)
                .map_err(|source| TlsError::Unusable { from: access.to_string(), source })?;
        }
        let access = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| TlsError::Rustls(rustls::Error::General(error.to_string())))?;
        Ok(Arc::new(Self { access }))
    }

    /// Judges what a client showed in a handshake that is done.
    pub(super) fn judge(&self, shown: Option<&[CertificateDer<'_>]>) -> Option<Presented> {
        let (leaf, others) = shown?.split_first()?;
        let ours = self.access.verify_client_cert(leaf, others, UnixTime::now()).is_ok();
        Some(Presented { der: leaf.as_ref().to_vec(), ours })
    }
}

impl ClientCertVerifier for Taker {
    /// Named, so that clients that have several choose ours.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.access.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // Whose it is says `judge`; that its key is there, the two functions below.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.access.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.access.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.access.supported_verify_schemes()
    }
}
