//! Refusals as HTTP answers: `application/problem+json` (RFC 9457).

use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::WWW_AUTHENTICATE;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::json;

use crate::model::Refusal;
use crate::model::refusal::RefusalCode;

/// A refusal that answers a call.
#[derive(Debug)]
pub(super) struct Fail(pub(super) Refusal);

impl Fail {
    /// Something on our side failed; the log says what.
    pub(super) fn ours(error: &dyn std::error::Error) -> Self {
        tracing::error!(fault = "gateway", "{}", crate::model::fault::Chain(error));
        Self(
            Refusal::new(RefusalCode::Unrecorded, "the gateway could not answer this call")
                .hint("try again; the gateway's log says what is wrong"),
        )
    }

    /// The call says something that is not understood.
    pub(super) fn malformed(why: &str) -> Self {
        let reason = format!("the call is not understood: {why}");
        Self(
            Refusal::new(RefusalCode::Malformed, reason)
                .hint("use the `weir` command line of this gateway's version"),
        )
    }

    /// There was such a thing, and it is no more.
    pub(super) fn gone(why: &str) -> Self {
        Self(Refusal::new(RefusalCode::NoTarget, why).hint("nobody can bring it back"))
    }

    /// Nothing is called so, or nothing that the caller may know of.
    pub(super) fn not_found(what: &str) -> Self {
        Self(Refusal::new(
            RefusalCode::NoTarget,
            format!("there is no such {what}, or none that you may know of"),
        ))
    }
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        let Self(refusal) = self;
        let status = match refusal.code {
            RefusalCode::Denied
            | RefusalCode::Residency
            | RefusalCode::Declined
            | RefusalCode::SessionEnded => StatusCode::FORBIDDEN,
            RefusalCode::TimedOut => StatusCode::REQUEST_TIMEOUT,
            RefusalCode::Canceled => StatusCode::CONFLICT,
            RefusalCode::Unauthenticated | RefusalCode::StepUp => StatusCode::UNAUTHORIZED,
            RefusalCode::NoTarget => StatusCode::NOT_FOUND,
            RefusalCode::Unsupported => StatusCode::NOT_IMPLEMENTED,
            RefusalCode::Malformed => StatusCode::BAD_REQUEST,
            RefusalCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            RefusalCode::Withheld | RefusalCode::TargetFailed => StatusCode::BAD_GATEWAY,
            RefusalCode::Unrecorded => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": refusal.reason,
            "rules": refusal.rules,
            "hint": refusal.hint,
        });
        let challenge = refusal.challenge();
        let headers = [(CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, headers, body.to_string()).into_response();
        if status == StatusCode::UNAUTHORIZED {
            // A client must be told how to sign in (RFC 9110, section 15.5.2).
            let plain = HeaderValue::from_static("Bearer");
            let how = HeaderValue::try_from(challenge).unwrap_or(plain);
            response.headers_mut().insert(WWW_AUTHENTICATE, how);
        }
        response
    }
}
