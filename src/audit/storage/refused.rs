//! What a store says when it refuses: a status, a code, and sometimes the region it is in.

use bytes::Bytes;
use serde_json::Value;

use crate::audit::storage::xml;

/// Longest code that is kept, in bytes.
const CODE_BYTES_MAX: usize = 80;

/// What stores say of an object that is kept from being changed or deleted: codes where they have
/// one (Azure, Google), and where they have none (all S3) words of their messages.
const LOCKED: [&str; 6] = [
    "BlobImmutableDueToPolicy",
    "retentionPolicyNotMet",
    "ObjectLocked",
    "WORM protected",
    "protected by object lock",
    "object is under",
];

/// A refusal, in the store's own words. Only the code is kept: messages may repeat what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it answered {status} {code}")]
pub(in crate::audit) struct Refused {
    pub(in crate::audit) status: u16,
    pub(in crate::audit) code: String,
    /// The region that the store says it is in.
    pub(in crate::audit) region: Option<String>,
    locked: bool,
}

impl Refused {
    /// The refusal in an answer, if it is one.
    pub(in crate::audit) fn in_answer(answer: &http::Response<Bytes>) -> Option<Self> {
        let status = answer.status();
        if status.is_success() || status == http::StatusCode::NOT_MODIFIED {
            return None;
        }
        let text = String::from_utf8_lossy(answer.body());
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let code = match serde_json::from_str::<Value>(&text) {
            Ok(json) => code_of(&json),
            Err(_) => xml::element(&text, "Code").map(str::to_owned),
        };
        let code = code.or_else(|| header("x-ms-error-code").map(str::to_owned));
        let region = header("x-amz-bucket-region").or_else(|| xml::element(&text, "Region"));
        let locked = LOCKED.iter().any(|words| text.contains(words));
        Some(Self {
            locked,
            status: status.as_u16(),
            code: word(&code.unwrap_or_else(|| "without a reason".to_owned())),
            region: region.filter(|region| !region.is_empty()).map(word),
        })
    }

    /// Whether it is one that `object_store` is to see as it is: an object that is missing, or that
    /// exists already.
    pub(super) fn is_plain(&self, put: bool) -> bool {
        match self.status {
            404 => !self.is_without_bucket(),
            409 => put && !self.is_locked(),
            412 => true,
            _ => false,
        }
    }

    /// Whether another try may help.
    pub(super) fn is_passing(&self) -> bool {
        self.status == 408 || self.status == 429 || (self.status >= 500 && !self.is_full())
    }

    /// Whether it is for want of the bucket or container itself.
    pub(super) fn is_without_bucket(&self) -> bool {
        ["NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"].contains(&self.code.as_str())
    }

    /// Whether the store has no room.
    pub(super) fn is_full(&self) -> bool {
        self.status == 507 || self.code.contains("StorageFull") || self.code.contains("Quota")
    }

    /// Whether the object is kept from being changed or deleted.
    pub(super) fn is_locked(&self) -> bool {
        self.locked
    }

    /// Whether the credential, or what it may do, is at fault.
    pub(super) fn is_denied(&self) -> bool {
        const CODES: [&str; 4] =
            ["ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthenticationFailed"];
        matches!(self.status, 401 | 403) || CODES.contains(&self.code.as_str())
    }

    /// Whether the store says that it is elsewhere.
    pub(super) fn is_elsewhere(&self) -> bool {
        const CODES: [&str; 4] = [
            "AuthorizationHeaderMalformed",
            "PermanentRedirect",
            "TemporaryRedirect",
            "IllegalLocationConstraintException",
        ];
        matches!(self.status, 301 | 307 | 308) || CODES.contains(&self.code.as_str())
    }
}

/// Google's errors say a reason, AWS's key service a type.
fn code_of(json: &Value) -> Option<String> {
    let google = json.pointer("/error/errors/0/reason");
    let google = google.or_else(|| json.pointer("/error/status"));
    let code = google.or_else(|| json.get("__type")).or_else(|| json.get("code"))?.as_str()?;
    Some(code.rsplit('#').next().unwrap_or(code).to_owned())
}

/// What somebody else's text may put into our log: a word.
fn word(text: &str) -> String {
    let plain = |sign: &char| sign.is_ascii_alphanumeric() || " .-_:".contains(*sign);
    text.chars().filter(plain).take(CODE_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &'static str) -> Refused {
        let answer = http::Response::builder().status(status).body(Bytes::from(body)).unwrap();
        Refused::in_answer(&answer).unwrap()
    }

    #[test]
    fn the_three_makes_of_refusals_are_read() {
        let s3 = refused(
            400,
            "<?xml version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>the \
             region is wrong</Message><Region>eu-central-1</Region></Error>",
        );
        assert_eq!(
            (s3.code.as_str(), s3.region.as_deref()),
            ("AuthorizationHeaderMalformed", Some("eu-central-1"))
        );
        assert!(s3.is_elsewhere() && !s3.is_denied() && !s3.is_plain(true));
        let gcs =
            refused(403, r#"{"error":{"code":403,"errors":[{"reason":"retentionPolicyNotMet"}]}}"#);
        assert!(gcs.is_locked());
        let kms = refused(400, r#"{"__type":"com.amazonaws.kms#InvalidCiphertextException"}"#);
        assert_eq!(kms.code, "InvalidCiphertextException");
        let azure =
            http::Response::builder().status(404).header("x-ms-error-code", "ContainerNotFound");
        let azure = Refused::in_answer(&azure.body(Bytes::new()).unwrap()).unwrap();
        assert!(azure.is_without_bucket() && !azure.is_plain(true));
    }

    #[test]
    fn what_a_store_says_cannot_break_a_line() {
        let evil = refused(403, "<Error><Code>Access\nDenied\u{1b}[31m</Code></Error>");
        assert_eq!(evil.to_string(), "it answered 403 AccessDenied31m");
        assert!(evil.is_denied());
        assert_eq!(refused(503, "").to_string(), "it answered 503 without a reason");
        assert!(refused(503, "").is_passing() && !refused(507, "").is_passing());
    }
}
