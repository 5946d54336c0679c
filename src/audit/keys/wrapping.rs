//! Data keys, and the wrapping keys without which they are noise.
//!
//! A data key is wrapped with AES-256-GCM under a random nonce, for its session and region: wrapped
//! for another one it does not open. Destroying what [`WrappedKey`] holds erases the session.

use std::collections::BTreeSet;
use std::fmt;

use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::NONCE_LEN;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::RandomizedNonceKey;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::audit::keys::KEY_BYTES;
use crate::audit::keys::KeyBytes;
use crate::audit::keys::KeyError;
use crate::audit::keys::LedgerKey;
use crate::model::RegionName;
use crate::model::SessionId;
use crate::model::digest::Digest;
use crate::model::encode::base64;
use crate::model::encode::unbase64_exactly;

/// Longest wrapped key in text form, in bytes: nonce, key and tag in base 64.
const WRAPPED_BYTES_MAX: usize = 80;

/// The key that encrypts one session's recording.
#[derive(Debug, Clone)]
pub struct DataKey(KeyBytes);

impl DataKey {
    /// A random key.
    pub fn generate() -> Result<Self, KeyError> {
        KeyBytes::generate().map(Self)
    }

    /// The bytes, for whoever seals and opens with them.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        self.0.expose()
    }

    /// What the recording says of its key, so that a key is known to be the one before anything is
    /// opened with it. It tells nothing of the key.
    pub fn commitment(&self) -> Digest {
        Digest::of_parts(&[b"weir data key commitment", self.expose()])
    }
}

/// The name of a wrapping key: 16 hexadecimal signs of a digest, so that it tells nothing of the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WrappingKeyId(String);

impl WrappingKeyId {
    fn of(key: &KeyBytes) -> Self {
        let digest = Digest::of_parts(&[b"weir wrapping key id", key.expose()]);
        Self(digest.to_string().chars().take(16).collect())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for WrappingKeyId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hex = |sign: u8| matches!(sign, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 16 && text.bytes().all(hex) {
            Ok(Self(text))
        } else {
            Err("a wrapping key's id is 16 hexadecimal signs")
        }
    }
}

impl From<WrappingKeyId> for String {
    fn from(id: WrappingKeyId) -> Self {
        id.0
    }
}

impl fmt::Display for WrappingKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A data key that only the named wrapping key opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrappedKey {
    /// The wrapping key.
    pub by: WrappingKeyId,
    /// Nonce, encrypted data key and tag, in base 64.
    pub key: String,
}

/// A key of a region that wraps its sessions' data keys.
#[derive(Debug, Clone)]
pub struct WrappingKey {
    id: WrappingKeyId,
    key: KeyBytes,
}

impl WrappingKey {
    /// The wrapping key with these bytes.
    pub fn new(key: KeyBytes) -> Self {
        Self { id: WrappingKeyId::of(&key), key }
    }

    /// Its name.
    pub fn id(&self) -> &WrappingKeyId {
        &self.id
    }

    /// Wraps the data key of a session in a region.
    pub fn wrap(
        &self,
        data: &DataKey,
        session: &SessionId,
        region: &RegionName,
    ) -> Result<WrappedKey, KeyError> {
        // What is sealed in place is the key itself at first: it may not be left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(WRAPPED_BYTES_MAX));
        bytes.extend_from_slice(data.expose());
        let aad = Aad::from(bound_to(session, region));
        let sealed = self.cipher()?.seal_in_place_append_tag(aad, &mut *bytes);
        let nonce = sealed.map_err(|_| KeyError::Library)?;
        let key = base64(&[nonce.as_ref().as_slice(), &bytes].concat());
        Ok(WrappedKey { by: self.id.clone(), key })
    }

    fn unwrap(
        &self,
        wrapped: &WrappedKey,
        session: &SessionId,
        region: &RegionName,
    ) -> Result<DataKey, KeyError> {
        if wrapped.key.len() > WRAPPED_BYTES_MAX {
            return Err(KeyError::Unwrap);
        }
        let bytes = unbase64_exactly(&wrapped.key).ok_or(KeyError::Unwrap)?;
        let mut bytes = Zeroizing::new(bytes);
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(KeyError::Unwrap)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| KeyError::Unwrap)?;
        let aad = Aad::from(bound_to(session, region));
        let opened = self.cipher()?.open_in_place(nonce, aad, sealed);
        let opened = opened.map_err(|_| KeyError::Unwrap)?;
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if opened.len() != KEY_BYTES {
            return Err(KeyError::Unwrap);
        }
        key.copy_from_slice(opened);
        Ok(DataKey(KeyBytes::new(key)))
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, KeyError> {
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, self.key.expose());
        cipher.map_err(|_| KeyError::Library)
    }
}

/// What a wrapped key is bound to. A session's id has always the same length, so that no two pairs
/// give one text.
fn bound_to(session: &SessionId, region: &RegionName) -> String {
    format!("weir data key 1{session}{region}")
}

/// The wrapping keys of a region: one that wraps, and those that did.
#[derive(Debug, Clone)]
pub struct KeyRing {
    current: WrappingKey,
    previous: Vec<WrappingKey>,
}

impl KeyRing {
    /// The ring of these keys, no two of which may be the same.
    pub fn new(current: WrappingKey, previous: Vec<WrappingKey>) -> Result<Self, KeyError> {
        let ring = Self { current, previous };
        let ids = ring.keys().map(WrappingKey::id).collect::<BTreeSet<_>>();
        if ids.len() == ring.keys().count() {
            Ok(ring)
        } else {
            Err(KeyError::Shared("two of a region's wrapping keys"))
        }
    }

    /// The key that wraps.
    pub fn current(&self) -> &WrappingKey {
        &self.current
    }

    /// Every key, the current one first.
    pub fn keys(&self) -> impl Iterator<Item = &WrappingKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// Wraps the data key of a session in a region, with the current key.
    pub fn wrap(
        &self,
        data: &DataKey,
        session: &SessionId,
        region: &RegionName,
    ) -> Result<WrappedKey, KeyError> {
        self.current.wrap(data, session, region)
    }

    /// Opens a data key with the key that wrapped it.
    pub fn unwrap(
        &self,
        wrapped: &WrappedKey,
        session: &SessionId,
        region: &RegionName,
    ) -> Result<DataKey, KeyError> {
        let key = self.keys().find(|key| key.id == wrapped.by);
        let key = key.ok_or_else(|| KeyError::UnknownWrappingKey(wrapped.by.clone()))?;
        key.unwrap(wrapped, session, region)
    }

    /// An error where a key of the ring signs the ledger as well.
    pub fn refuse_shared(&self, ledger: &LedgerKey) -> Result<(), KeyError> {
        if self.keys().any(|key| key.key.same(&ledger.0)) {
            return Err(KeyError::Shared("the ledger's key and a wrapping key"));
        }
        Ok(())
    }

    /// An error where a key of the ring wraps for another region as well.
    pub fn refuse_shared_with(&self, other: &Self) -> Result<(), KeyError> {
        if self.keys().any(|key| other.keys().any(|theirs| key.key.same(&theirs.key))) {
            return Err(KeyError::Shared("wrapping keys of two regions"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(byte: u8) -> KeyBytes {
        KeyBytes::new(Zeroizing::new([byte; KEY_BYTES]))
    }

    fn ring(current: u8, previous: &[u8]) -> KeyRing {
        let previous = previous.iter().map(|byte| WrappingKey::new(bytes(*byte))).collect();
        KeyRing::new(WrappingKey::new(bytes(current)), previous).unwrap()
    }

    fn region(name: &str) -> RegionName {
        name.parse().unwrap()
    }

    #[test]
    fn a_data_key_opens_for_its_session_region_and_wrapping_key_alone() {
        let (data, session, eu) = (DataKey::generate().unwrap(), SessionId::fresh(), region("eu"));
        let wrapped = ring(1, &[]).wrap(&data, &session, &eu).unwrap();
        let opens = |ring: &KeyRing, session: &SessionId, region: &RegionName| {
            ring.unwrap(&wrapped, session, region).map(|opened| opened.commitment())
        };
        assert_eq!(opens(&ring(1, &[]), &session, &eu).unwrap(), data.commitment());
        assert!(opens(&ring(1, &[]), &SessionId::fresh(), &eu).is_err());
        assert!(opens(&ring(1, &[]), &session, &region("us")).is_err());
        let error = opens(&ring(2, &[]), &session, &eu).unwrap_err();
        assert!(error.to_string().contains(wrapped.by.as_str()), "{error}");
        // A key that only calls itself the one that wrapped.
        let mut lies = wrapped.clone();
        lies.by = ring(2, &[]).current().id().clone();
        assert!(ring(2, &[]).unwrap(&lies, &session, &eu).is_err());
    }

    #[test]
    fn after_a_rotation_the_previous_keys_still_open() {
        let (data, session, eu) = (DataKey::generate().unwrap(), SessionId::fresh(), region("eu"));
        let wrapped = ring(1, &[]).wrap(&data, &session, &eu).unwrap();
        let rotated = ring(3, &[2, 1]);
        let opened = rotated.unwrap(&wrapped, &session, &eu).unwrap();
        assert_eq!(opened.commitment(), data.commitment());
        assert_eq!(&rotated.wrap(&data, &session, &eu).unwrap().by, rotated.current().id());
    }

    #[test]
    fn no_key_is_used_twice() {
        let one = || WrappingKey::new(bytes(1));
        assert!(KeyRing::new(one(), vec![one()]).is_err());
        let ring = ring(1, &[2]);
        for byte in [1, 2] {
            let error = ring.refuse_shared(&LedgerKey::new(bytes(byte))).unwrap_err();
            assert!(error.to_string().contains("ledger"), "{error}");
        }
        ring.refuse_shared(&LedgerKey::new(bytes(3))).unwrap();
        assert!(ring.refuse_shared_with(&self::ring(3, &[2])).is_err());
        ring.refuse_shared_with(&self::ring(3, &[4])).unwrap();
    }

    #[test]
    fn a_wrapped_key_is_json_and_any_change_of_it_is_noticed() {
        let (data, session, eu) = (DataKey::generate().unwrap(), SessionId::fresh(), region("eu"));
        let ring = ring(1, &[]);
        let wrapped = ring.wrap(&data, &session, &eu).unwrap();
        assert_ne!(ring.wrap(&data, &session, &eu).unwrap(), wrapped, "nonces are random");
        let json = serde_json::to_string(&wrapped).unwrap();
        assert_eq!(serde_json::from_str::<WrappedKey>(&json).unwrap(), wrapped);
        for at in 0..json.len() {
            for bit in 0..8 {
                let mut bytes = json.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let read = serde_json::from_slice::<WrappedKey>(&bytes);
                let opened = read.ok().and_then(|read| ring.unwrap(&read, &session, &eu).ok());
                assert!(opened.is_none(), "byte {at} bit {bit}");
            }
        }
        let long = WrappedKey { key: "A".repeat(1 << 20), ..wrapped };
        assert!(ring.unwrap(&long, &session, &eu).is_err());
    }

    #[test]
    fn ids_and_commitments_are_what_the_format_says() {
        // Computed with sha256sum from the texts and the key.
        let key = WrappingKey::new(bytes(0));
        assert_eq!(key.id().as_str(), "717e37b166dfc7ee");
        assert_eq!(
            DataKey(bytes(0)).commitment().to_string(),
            "7dc5eb6dcae8f89798d52e7fd2b6fb47f54a25e9799308a53290a10ed423a0b4"
        );
        let shown = format!("{:?} {:?}", WrappingKey::new(bytes(0x42)), DataKey(bytes(0x42)));
        assert!(!shown.contains("66, 66"), "{shown}");
    }
}
