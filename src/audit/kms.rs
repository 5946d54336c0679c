//! Keys that wrap keys: a key service holds a key that never leaves it, and the region's own key lies
//! with us only as it wrapped it.
//!
//! [`KeyWrapper`] is what the record asks for; [`AwsKms`] is a service that speaks as AWS KMS does
//! (JSON 1.1 over HTTPS, Signature Version 4). What is wrapped is bound to its purpose by the
//! encryption context, which the service authenticates and writes into its own log: unwrapping with
//! another context fails.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::audit::aws::SignError;
use crate::audit::storage::AwsKeys;
use crate::audit::storage::Failure;
use crate::audit::storage::Http;
use crate::audit::storage::HttpFailed;
use crate::audit::storage::refused::Refused;
use crate::model::encode::base64;
use crate::model::encode::unbase64;

/// Length of a key that is wrapped, in bytes.
pub const KEY_BYTES: usize = 32;
/// Longest wrapped key that is taken, in bytes: what AWS KMS takes at most.
pub const WRAPPED_BYTES_MAX: usize = 6_144;

/// A key, which is overwritten when it is let go.
pub type Key = Zeroizing<[u8; KEY_BYTES]>;

/// What a wrapped key is for. All of it must be the same again to unwrap it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The region.
    pub region: String,
    /// The gateway's id.
    pub gateway: String,
    /// What the key is used for, such as `recordings`.
    pub purpose: String,
}

/// Wraps and unwraps keys with one that it does not give away.
pub trait KeyWrapper: fmt::Debug + Send + Sync {
    /// Which key it wraps with, for records: an id, an ARN, an alias.
    fn id(&self) -> &str;

    /// Wraps a key.
    fn wrap<'a>(
        &'a self,
        key: &'a [u8; KEY_BYTES],
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Vec<u8>, KmsError>>;

    /// Gives a key that was wrapped in the same context.
    fn unwrap<'a>(
        &'a self,
        wrapped: &'a [u8],
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Key, KmsError>>;
}

/// A key could not be wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// No answer, or one that says to come back later.
    #[error("the key service at {endpoint} cannot be reached")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request cannot be signed.
    #[error("the request to the key service cannot be signed")]
    Unsigned(#[from] SignError),
    /// The credential is wrong, or may not use the key.
    #[error("the key service at {endpoint} refuses the gateway's credential: it answered {code}")]
    Denied {
        /// Where.
        endpoint: String,
        /// What it said.
        code: String,
    },
    /// The key that wraps is not there, disabled, or about to be deleted.
    #[error("key `{key}` cannot be used: the key service answered {code}")]
    NoKey {
        /// Which.
        key: String,
        /// What it said.
        code: String,
    },
    /// It was wrapped in another context, by another key, or was changed.
    #[error("what is wrapped was not wrapped by key `{key}` for this region, gateway and purpose")]
    OtherContext {
        /// Which.
        key: String,
    },
    /// It said something that is no answer.
    #[error("the key service at {endpoint} did not answer as one: {what}")]
    Answer {
        /// Where.
        endpoint: String,
        /// What was wrong.
        what: String,
    },
}

impl KmsError {
    /// What to do next, as one sentence.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => {
                "look whether the key service is reachable from here; keys that were unwrapped \
                 before stay in use until the gateway stops"
            }
            Self::Unsigned(_) | Self::Denied { .. } => {
                "check the credential, and that it may Encrypt and Decrypt with that key in this \
                 encryption context (docs/storage.md)"
            }
            Self::NoKey { .. } => {
                "enable the key, or cancel its deletion: without it no recording can be read again"
            }
            Self::OtherContext { .. } => {
                "look whether the state folder is another gateway's; if not, what lies wrapped \
                 there was changed"
            }
            Self::Answer { .. } => "check the endpoint: something else answers there",
        }
    }
}

/// Which key of which service.
#[derive(Debug, Clone)]
pub struct AwsKmsOptions {
    /// Scheme, host and port: `https://kms.eu-central-1.amazonaws.com`.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The key: an id, an ARN, or an alias such as `alias/weir`.
    pub key: String,
    /// How the gateway signs in.
    pub keys: AwsKeys,
}

/// A key of AWS KMS, or of a service that speaks as it does.
#[derive(Debug)]
pub struct AwsKms {
    options: AwsKmsOptions,
    http: Arc<dyn Http>,
}

/// What is asked of the service. Has no `Debug`: it may hold a key.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Asked<'a> {
    key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_blob: Option<String>,
    encryption_context: BTreeMap<&'static str, &'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    ciphertext_blob: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    plaintext: SecretString,
}

impl AwsKms {
    /// A key of a service. Nothing is dialled yet.
    pub fn new(options: AwsKmsOptions, http: Arc<dyn Http>) -> Self {
        Self { options, http }
    }

    async fn call(&self, operation: &str, asked: &Asked<'_>) -> Result<Bytes, KmsError> {
        let body = serde_json::to_vec(asked).map_err(|error| self.unlike(&error.to_string()))?;
        // It may hold a key: whoever drops it last overwrites it.
        let body = Bytes::from_owner(Zeroizing::new(body));
        let request = http::Request::post(format!("{}/", self.endpoint()))
            .header(http::header::CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("x-amz-target", format!("TrentService.{operation}"))
            .body(body)
            .map_err(|error| self.unlike(&error.to_string()))?;
        let signed = self.options.keys.sign(request, "kms", &self.options.region)?;
        let answer = self.http.send(signed).await.map_err(|failed| self.unanswered(failed))?;
        match Refused::in_answer(&answer) {
            None => Ok(answer.into_body()),
            Some(refused) => Err(self.refused(refused)),
        }
    }

    fn endpoint(&self) -> &str {
        self.options.endpoint.trim_end_matches('/')
    }

    fn unanswered(&self, failed: HttpFailed) -> KmsError {
        match failed.failure() {
            Failure::Unreachable
            | Failure::Slow
            | Failure::Broken
            | Failure::Outside
            | Failure::NotConfigured => KmsError::Unreachable {
                endpoint: self.endpoint().to_owned(),
                cause: Box::new(failed),
            },
        }
    }

    /// AWS KMS API Reference, Encrypt and Decrypt, "Errors".
    fn refused(&self, refused: Refused) -> KmsError {
        let (endpoint, key) = (self.endpoint().to_owned(), self.options.key.clone());
        match refused.code.as_str() {
            "InvalidCiphertextException" | "IncorrectKeyException" => {
                KmsError::OtherContext { key }
            }
            "NotFoundException"
            | "DisabledException"
            | "KMSInvalidStateException"
            | "KeyUnavailableException"
            | "InvalidKeyUsageException" => KmsError::NoKey { key, code: refused.code },
            "AccessDeniedException"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "ExpiredTokenException"
            | "IncompleteSignatureException"
            | "MissingAuthenticationTokenException" => {
                KmsError::Denied { endpoint, code: refused.code }
            }
            _ if matches!(refused.status, 401 | 403) => {
                KmsError::Denied { endpoint, code: refused.code }
            }
            _ => KmsError::Unreachable { endpoint, cause: Box::new(refused) },
        }
    }

    fn unlike(&self, what: &str) -> KmsError {
        KmsError::Answer { endpoint: self.endpoint().to_owned(), what: what.to_owned() }
    }
}

impl KeyWrapper for AwsKms {
    fn id(&self) -> &str {
        &self.options.key
    }

    fn wrap<'a>(
        &'a self,
        key: &'a [u8; KEY_BYTES],
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Vec<u8>, KmsError>> {
        async move {
            let plaintext = Zeroizing::new(base64(key));
            let asked = Asked {
                key_id: &self.options.key,
                plaintext: Some(&plaintext),
                ciphertext_blob: None,
                encryption_context: context.members(),
            };
            let answer = self.call("Encrypt", &asked).await?;
            let answer = serde_json::from_slice::<Encrypted>(&answer)
                .map_err(|_| self.unlike("no CiphertextBlob"))?;
            let wrapped = unbase64(&answer.ciphertext_blob)
                .ok_or_else(|| self.unlike("a CiphertextBlob that is no base64"))?;
            if !(1..=WRAPPED_BYTES_MAX).contains(&wrapped.len()) {
                return Err(self.unlike("a CiphertextBlob of a length that cannot be"));
            }
            Ok(wrapped)
        }
        .boxed()
    }

    fn unwrap<'a>(
        &'a self,
        wrapped: &'a [u8],
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Key, KmsError>> {
        async move {
            let asked = Asked {
                key_id: &self.options.key,
                plaintext: None,
                ciphertext_blob: Some(base64(wrapped)),
                encryption_context: context.members(),
            };
            let answer = self.call("Decrypt", &asked).await?;
            let answer = serde_json::from_slice::<Decrypted>(&answer)
                .map_err(|_| self.unlike("no Plaintext"))?;
            let plain = unbase64(answer.plaintext.expose_secret())
                .map(Zeroizing::new)
                .ok_or_else(|| self.unlike("a Plaintext that is no base64"))?;
            <[u8; KEY_BYTES]>::try_from(plain.as_slice())
                .map(Zeroizing::new)
                .map_err(|_| self.unlike("a Plaintext that is no key of ours"))
        }
        .boxed()
    }
}

impl Context {
    fn members(&self) -> BTreeMap<&'static str, &str> {
        let (region, gateway) = (self.region.as_str(), self.gateway.as_str());
        BTreeMap::from([("region", region), ("gateway", gateway), ("purpose", &self.purpose)])
    }
}
