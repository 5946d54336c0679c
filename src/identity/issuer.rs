//! A small issuer of our own, for `weir demo` and for tests.
//!
//! It signs what it is told and serves nobody: whoever uses it puts its documents behind
//! [`DISCOVERY_PATH`] and [`JWKS_PATH`]. The daemon proper has no use for it.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::jwk::PublicKeyUse;
use jsonwebtoken::jwk::ThumbprintHash;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::model::digest::Digest;
use crate::model::encode;

/// Where, below the issuer's URL, its discovery document belongs.
pub const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";
/// Where, below the issuer's URL, its keys belong.
pub const JWKS_PATH: &str = "/jwks.json";
/// Where, below the issuer's URL, browsers sign in.
pub const AUTHORIZATION_PATH: &str = "/authorize";
/// Where, below the issuer's URL, codes and refresh tokens are exchanged.
pub const TOKEN_PATH: &str = "/token";
/// Longest token that is minted, in bytes. OpenSSH's client reads answers of up to 1023 bytes.
pub const LOCAL_TOKEN_BYTES_MAX: usize = 900;

/// An issuer with one ES256 key that lives as long as it does.
pub struct LocalIssuer {
    issuer: String,
    key: EncodingKey,
    public: Jwk,
    id: String,
}

/// Why the issuer could not do it.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// No key could be generated.
    #[error("no signing key could be generated")]
    Key,
    /// The token could not be signed.
    #[error("the token could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// Longer than some clients can carry.
    #[error("the token has {0} bytes; at most {LOCAL_TOKEN_BYTES_MAX} fit every client")]
    TooLong(usize),
}

impl LocalIssuer {
    /// An issuer at `issuer`, with a fresh key.
    pub fn new(issuer: impl Into<String>) -> Result<Self, IssuerError> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(|_| IssuerError::Key)?;
        let key = EncodingKey::from_ec_der(pkcs8.as_ref());
        let mut public =
            Jwk::from_encoding_key(&key, Algorithm::ES256).map_err(|_| IssuerError::Key)?;
        let mut id = public.thumbprint(ThumbprintHash::SHA256).map_err(|_| IssuerError::Key)?;
        // Half of a thumbprint (RFC 7638) tells keys apart as well, and makes shorter tokens.
        id.truncate(22);
        public.common.key_id = Some(id.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { issuer: issuer.into(), key, public, id })
    }

    /// Its URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Its discovery document (OpenID Connect Discovery 1.0 §3).
    pub fn discovery(&self) -> Value {
        let base = self.issuer.trim_end_matches('/');
        json!({
            "issuer": self.issuer,
            "authorization_endpoint": format!("{base}{AUTHORIZATION_PATH}"),
            "token_endpoint": format!("{base}{TOKEN_PATH}"),
            "jwks_uri": format!("{base}{JWKS_PATH}"),
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "authorization_response_iss_parameter_supported": true,
            "subject_types_supported": ["public"],
            "scopes_supported": ["openid", "profile", "offline_access"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The challenge that belongs to a verifier: `S256` (RFC 7636 §4.2).
    pub fn challenge(verifier: &str) -> String {
        encode::base64url(Digest::of(verifier.as_bytes()).as_bytes())
    }

    /// Its public key, as a key set (RFC 7517 §5).
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.public] })
    }

    /// A token that says `claims`, and `iss`. The caller gives `sub`, `aud`, `iat`, `exp` and what
    /// the mapping wants.
    pub fn mint(&self, claims: &Map<String, Value>) -> Result<String, IssuerError> {
        let mut claims = claims.clone();
        claims.insert("iss".to_owned(), self.issuer.clone().into());
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.clone());
        let token = jsonwebtoken::encode(&header, &claims, &self.key).map_err(IssuerError::Sign)?;
        if token.len() > LOCAL_TOKEN_BYTES_MAX {
            return Err(IssuerError::TooLong(token.len()));
        }
        Ok(token)
    }

    /// The key's id.
    #[cfg(test)]
    pub(super) fn key_id(&self) -> &str {
        &self.id
    }

    /// The private key.
    #[cfg(test)]
    pub(super) fn key(&self) -> &EncodingKey {
        &self.key
    }
}

impl fmt::Debug for LocalIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalIssuer")
            .field("issuer", &self.issuer)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
