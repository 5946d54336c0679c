//! Seals what must be kept but not read: providers' refresh tokens.
//!
//! AES-256-GCM with a random nonce, bound to the login it belongs to.

use std::fmt;

use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::NONCE_LEN;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::RandomizedNonceKey;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::model::LoginId;

/// Length of the key, in bytes.
pub const SEAL_KEY_BYTES: usize = 32;

/// Seals and opens with one key.
pub(super) struct Seal(RandomizedNonceKey);

/// It could not be sealed, or was not sealed with this key for this login.
#[derive(Debug, thiserror::Error)]
#[error("what was sealed cannot be opened with this gateway's key")]
pub struct SealError;

impl Seal {
    /// A seal with this key.
    pub(super) fn new(key: &[u8; SEAL_KEY_BYTES]) -> Result<Self, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, key).map(Self).map_err(|_| SealError)
    }

    /// Seals `text` for `login`.
    pub(super) fn close(&self, login: &LoginId, text: &str) -> Result<Vec<u8>, SealError> {
        let mut bytes = text.as_bytes().to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(login.as_str()), &mut bytes)
            .map_err(|_| SealError)?;
        Ok([nonce.as_ref().as_slice(), &bytes].concat())
    }

    /// Opens what was sealed for `login`.
    pub(super) fn open(&self, login: &LoginId, sealed: &[u8]) -> Result<SecretString, SealError> {
        let (nonce, bytes) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError)?;
        let mut bytes = Zeroizing::new(bytes.to_vec());
        let text = self
            .0
            .open_in_place(nonce, Aad::from(login.as_str()), &mut bytes)
            .map_err(|_| SealError)?;
        std::str::from_utf8(text).map(SecretString::from).map_err(|_| SealError)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_login_and_key_alone() {
        let seal = Seal::new(&[7; SEAL_KEY_BYTES]).unwrap();
        let (login, other) = (LoginId::fresh(), LoginId::fresh());
        let sealed = seal.close(&login, "refresh").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"refresh"));
        assert_eq!(seal.open(&login, &sealed).unwrap().expose_secret(), "refresh");
        assert!(seal.open(&other, &sealed).is_err());
        assert!(Seal::new(&[8; SEAL_KEY_BYTES]).unwrap().open(&login, &sealed).is_err());
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert!(seal.open(&login, &bent).is_err(), "{at}");
            assert!(seal.open(&login, &sealed[..at]).is_err(), "{at}");
        }
    }
}
