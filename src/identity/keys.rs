//! A provider's keys: which of a key set are usable, and how long they are.
//!
//! This file decides when keys may be fetched; it does not fetch (that is `oidc.rs`).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use jiff::Timestamp;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::AlgorithmParameters;
use jsonwebtoken::jwk::EllipticCurve;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::jwk::KeyAlgorithm;
use jsonwebtoken::jwk::KeyOperations;
use jsonwebtoken::jwk::PublicKeyUse;
use serde::Deserialize;
use serde_json::Value;

use crate::identity::Algorithm;
use crate::identity::ProviderError;

/// Most keys that a provider may have.
const KEYS_MAX: usize = 64;
/// Known keys older than this are fetched anew while they go on being used, in seconds.
const REFRESH_S: i64 = 10 * 60;
/// An unknown key makes us fetch at most once in this time, in seconds.
const UNKNOWN_KEY_REFRESH_S: i64 = 30;
/// A key that was unknown after a fetch causes no other fetch for this long, in seconds.
const UNKNOWN_KEY_KEPT_S: i64 = 120;
/// Most unknown keys that are remembered.
const UNKNOWN_KEYS_MAX: usize = 256;
/// While there are no keys at all, the provider is asked once in this time, in seconds.
const FIRST_RETRY_S: i64 = 5;
/// Known keys are used for this long without the provider being reached, in seconds. Beyond it a
/// key that was withdrawn could be kept alive by keeping us from the provider.
const KEYS_AGE_S_MAX: i64 = 24 * 60 * 60;

// === KeySet ===

/// The usable keys of a provider.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

struct Key {
    id: Option<String>,
    shape: Shape,
    /// The only algorithm it is for, where the key says so.
    only: Option<KeyAlgorithm>,
    decoding: DecodingKey,
}

/// What kind of key it is; decides which algorithms it can be used with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl KeySet {
    /// Reads a JSON Web Key Set (RFC 7517 §5). Keys that are not understood, symmetric, or not for
    /// signatures are left out, as the section asks; a set without one usable key is an error.
    pub(super) fn read(url: &str, body: &[u8]) -> Result<Self, ProviderError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document = serde_json::from_slice::<Document>(body)
            .map_err(|source| ProviderError::NotUnderstood { url: url.to_owned(), source })?;
        if document.keys.len() > KEYS_MAX {
            return Err(ProviderError::TooManyKeys {
                url: url.to_owned(),
                count: document.keys.len(),
            });
        }
        let keys = document.keys.into_iter().filter_map(Key::read).collect::<Vec<_>>();
        if keys.is_empty() {
            return Err(ProviderError::NoKeys { url: url.to_owned() });
        }
        Ok(Self(keys))
    }

    /// The keys that a token may be verified with: those with its key id that fit its algorithm;
    /// without a key id, the only one that fits (OpenID Connect Core 1.0 §10.1).
    pub(super) fn fitting(&self, wanted: Wanted<'_>) -> Vec<&DecodingKey> {
        let fitting = self.0.iter().filter(|key| key.fits(wanted.algorithm));
        let Some(id) = wanted.id else {
            let keys = fitting.map(|key| &key.decoding).collect::<Vec<_>>();
            return if keys.len() == 1 { keys } else { Vec::new() };
        };
        let named = |key: &&Key| key.id.as_deref() == Some(id);
        fitting.filter(named).map(|key| &key.decoding).collect()
    }
}

/// Which key a token is to be verified with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) algorithm: Algorithm,
}

impl Key {
    fn read(value: Value) -> Option<Self> {
        let jwk = serde_json::from_value::<Jwk>(value).ok()?;
        let for_signatures = jwk
            .common
            .public_key_use
            .as_ref()
            .is_none_or(|usage| *usage == PublicKeyUse::Signature)
            && jwk
                .common
                .key_operations
                .as_ref()
                .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !for_signatures {
            return None;
        }
        let shape = Shape::of(&jwk.algorithm)?;
        let decoding = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, shape, only: jwk.common.key_algorithm, decoding })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let shape = match algorithm {
            Algorithm::Es256 => Shape::P256,
            Algorithm::Es384 => Shape::P384,
            Algorithm::EdDsa => Shape::Ed25519,
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => Shape::Rsa,
        };
        let wanted = KeyAlgorithm::from(jsonwebtoken::Algorithm::from(algorithm));
        self.shape == shape && self.only.is_none_or(|only| only == wanted)
    }
}

impl Shape {
    /// `None` for what no token may be signed with. Symmetric keys above all: jsonwebtoken would
    /// make HMAC keys of them.
    fn of(parameters: &AlgorithmParameters) -> Option<Self> {
        if let AlgorithmParameters::RSA(_) = parameters {
            Some(Self::Rsa)
        } else if let AlgorithmParameters::EllipticCurve(key) = parameters {
            let p384 = (key.curve == EllipticCurve::P384).then_some(Self::P384);
            if key.curve == EllipticCurve::P256 { Some(Self::P256) } else { p384 }
        } else if let AlgorithmParameters::OctetKeyPair(key) = parameters {
            (key.curve == EllipticCurve::Ed25519).then_some(Self::Ed25519)
        } else {
            None
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Es256 => Self::ES256,
            Algorithm::Es384 => Self::ES384,
            Algorithm::EdDsa => Self::EdDSA,
            Algorithm::Rs256 => Self::RS256,
            Algorithm::Rs384 => Self::RS384,
            Algorithm::Rs512 => Self::RS512,
            Algorithm::Ps256 => Self::PS256,
            Algorithm::Ps384 => Self::PS384,
            Algorithm::Ps512 => Self::PS512,
        }
    }
}

// === KeyCache ===

/// The keys of a provider as last fetched, and what was tried since.
#[derive(Debug, Default)]
pub(super) struct KeyCache(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: Option<Known>,
    tried: Option<Tried>,
    /// Counts attempts, so that whoever waited for one knows that there was one.
    attempts: u64,
    /// Key ids that were not there after a fetch, and when.
    unknown: HashMap<String, Timestamp>,
}

#[derive(Debug)]
struct Known {
    set: Arc<KeySet>,
    at: Timestamp,
}

#[derive(Debug)]
struct Tried {
    at: Timestamp,
    failure: Option<Arc<ProviderError>>,
}

impl Known {
    /// Whether the keys may still be used.
    fn is_young(&self, now: Timestamp) -> bool {
        now.as_second().saturating_sub(self.at.as_second()) < KEYS_AGE_S_MAX
    }
}

/// What the cache has for a token.
#[derive(Debug)]
pub(super) enum Look {
    /// Keys that fit.
    Known {
        set: Arc<KeySet>,
        /// They ought to be fetched anew, without letting anybody wait.
        aged: bool,
    },
    /// None, but a fetch may bring it.
    Fetch,
    /// None, because the provider cannot be reached.
    Failed(Arc<ProviderError>),
    /// None, and it is not the time to ask the provider again.
    Unknown,
}

impl KeyCache {
    /// Looks for `wanted` and says what to do. Also gives the number of attempts so far.
    pub(super) fn look(&self, wanted: Wanted<'_>, now: Timestamp) -> (Look, u64) {
        let state = self.state();
        (state.look(wanted, now), state.attempts)
    }

    /// The number of attempts so far.
    pub(super) fn attempts(&self) -> u64 {
        self.state().attempts
    }

    /// Notes how an attempt went; a failure leaves the known keys as they are.
    pub(super) fn tried(&self, result: Result<KeySet, ProviderError>, now: Timestamp) {
        let mut state = self.state();
        state.attempts = state.attempts.wrapping_add(1);
        let failure = match result {
            Ok(set) => {
                state.known = Some(Known { set: Arc::new(set), at: now });
                None
            }
            Err(error) => Some(Arc::new(error)),
        };
        state.tried = Some(Tried { at: now, failure });
    }

    /// Notes that the provider was asked and has no such key.
    pub(super) fn is_unknown(&self, id: &str, now: Timestamp) {
        let mut state = self.state();
        state.unknown.retain(|_, at| !passed(*at, now, UNKNOWN_KEY_KEPT_S));
        if state.unknown.len() < UNKNOWN_KEYS_MAX {
            state.unknown.insert(id.to_owned(), now);
        }
    }

    /// How the last attempt failed, if it did.
    pub(super) fn failure(&self) -> Option<Arc<ProviderError>> {
        self.state().tried.as_ref().and_then(|tried| tried.failure.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn look(&self, wanted: Wanted<'_>, now: Timestamp) -> Look {
        let rested =
            |seconds| self.tried.as_ref().is_none_or(|tried| passed(tried.at, now, seconds));
        let failure = || self.tried.as_ref().and_then(|tried| tried.failure.clone());
        let Some(known) = self.known.as_ref().filter(|known| known.is_young(now)) else {
            return if rested(FIRST_RETRY_S) {
                Look::Fetch
            } else {
                Look::Failed(failure().unwrap_or_else(|| Arc::new(ProviderError::TooOld)))
            };
        };
        if !known.set.fitting(wanted).is_empty() {
            let aged = passed(known.at, now, REFRESH_S) && rested(UNKNOWN_KEY_REFRESH_S);
            return Look::Known { set: Arc::clone(&known.set), aged };
        }
        let remembered = wanted
            .id
            .and_then(|id| self.unknown.get(id))
            .is_some_and(|at| !passed(*at, now, UNKNOWN_KEY_KEPT_S));
        if !remembered && rested(UNKNOWN_KEY_REFRESH_S) {
            return Look::Fetch;
        }
        failure().map_or(Look::Unknown, Look::Failed)
    }
}

/// Whether `seconds` have passed since `since`. A clock that was set back counts as passed, so
/// that it cannot keep us from fetching.
fn passed(since: Timestamp, now: Timestamp, seconds: i64) -> bool {
    now < since || now.as_second().saturating_sub(since.as_second()) >= seconds
}
