//! Signed identity for targets: who asks, in a token that the target can verify by itself.
//!
//! A JWT (RFC 7519) for one target (`aud`) and for a minute, so that it is worth nothing elsewhere
//! or later. The public key is at [`Assertions::jwks`]. It is no credential of Weir's: nothing here
//! accepts it.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::jwk::PublicKeyUse;
use jsonwebtoken::jwk::ThumbprintHash;
use serde_json::Value;
use serde_json::json;
use zeroize::Zeroizing;

use crate::model::Principal;
use crate::model::SessionId;
use crate::model::TargetName;

/// How long an assertion is good, in seconds.
const ASSERTION_S: i64 = 60;
/// How far behind a target's clock may be, in seconds.
const BEHIND_S: i64 = 5;

/// Signs who asks.
pub struct Assertions {
    issuer: String,
    key: EncodingKey,
    public: Jwk,
    id: String,
}

/// The key is none, or something could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the key that signs who asks cannot be used")]
pub struct AssertionError;

impl Assertions {
    /// A fresh key, PKCS #8.
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, AssertionError> {
        let random = SystemRandom::new();
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map(|key| Zeroizing::new(key.as_ref().to_vec()))
            .map_err(|_| AssertionError)
    }

    /// Signs as `issuer` (the gateway's URL) with a key that was kept.
    pub fn new(issuer: impl Into<String>, pkcs8: &[u8]) -> Result<Self, AssertionError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
            .map_err(|_| AssertionError)?;
        let key = EncodingKey::from_ec_der(pkcs8);
        let mut public =
            Jwk::from_encoding_key(&key, Algorithm::ES256).map_err(|_| AssertionError)?;
        let id = public.thumbprint(ThumbprintHash::SHA256).map_err(|_| AssertionError)?;
        public.common.key_id = Some(id.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { issuer: issuer.into(), key, public, id })
    }

    /// The public key, as a key set (RFC 7517 §5).
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.public] })
    }

    /// Says to `target`, for a minute from `now`, that `principal` asks.
    pub fn sign(
        &self,
        principal: &Principal,
        target: &TargetName,
        session: SessionId,
        now: Timestamp,
    ) -> Result<String, AssertionError> {
        let now_s = now.as_second();
        let claims = json!({
            "iss": self.issuer,
            "aud": target,
            "sub": principal.subject,
            "iat": now_s,
            "nbf": now_s.saturating_sub(BEHIND_S),
            "exp": now_s.saturating_add(ASSERTION_S),
            "sid": session,
            "provider": principal.issuer,
            "name": principal.name,
            "kind": principal.kind,
            "roles": principal.roles,
            "entity": principal.entity,
        });
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.clone());
        // Not "JWT": nobody shall take it for a token of a provider's (RFC 8725 §3.11).
        header.typ = Some("weir-identity+jwt".to_owned());
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| AssertionError)
    }
}

impl fmt::Debug for Assertions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertions")
            .field("issuer", &self.issuer)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::DecodingKey;
    use jsonwebtoken::Validation;

    use super::*;
    use crate::identity::Verified;
    use crate::model::Clock;

    #[test]
    fn a_target_can_verify_who_asks_and_it_is_for_that_target_and_minute_alone() {
        let key = Assertions::generate().unwrap();
        let assertions = Assertions::new("https://weir.example", &key).unwrap();
        let gateway = Verified::gateway(None);
        let (wiki, now) = ("wiki".parse().unwrap(), crate::model::clock::System.now());
        let token = assertions.sign(gateway.principal(), &wiki, SessionId::fresh(), now).unwrap();
        let jwks = assertions.jwks();
        let jwk = serde_json::from_value::<Jwk>(jwks["keys"][0].clone()).unwrap();
        let read = |audience: &str| {
            let mut validation = Validation::new(Algorithm::ES256);
            validation.set_audience(&[audience]);
            validation.set_issuer(&["https://weir.example"]);
            let key = DecodingKey::from_jwk(&jwk).unwrap();
            jsonwebtoken::decode::<Value>(&token, &key, &validation)
        };
        let claims = read("wiki").unwrap().claims;
        assert_eq!(claims["sub"], "gateway");
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), ASSERTION_S);
        assert!(read("other").is_err());
        assert!(!format!("{jwks}").contains("\"d\""), "the private key stays here");
        assert!(Assertions::new("x", &key[1..]).is_err());
    }
}
