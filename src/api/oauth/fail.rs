//! Refusals as OAuth words them (RFC 6749 §5.2, RFC 8628 §3.5).

use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::RETRY_AFTER;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::json;

use crate::api::fail::Fail;
use crate::identity::IdentityError;
use crate::identity::LoginError;
use crate::model::Fault;
use crate::model::fault::Chain;

/// After how long a client that came too often, or at a bad moment, may come again, in seconds.
const RETRY_S: &str = "60";

/// A no of an OAuth endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct No {
    pub(in crate::api) status: StatusCode,
    pub(in crate::api) error: &'static str,
    /// What to do, in ASCII without quotes (RFC 6749 §A.8).
    pub(in crate::api) description: String,
}

impl No {
    /// The client is to do something else: status 400.
    pub(in crate::api) fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error, description: description.into() }
    }

    pub(in crate::api) fn request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    pub(in crate::api) fn grant(description: impl Into<String>) -> Self {
        Self::new("invalid_grant", description)
    }

    /// The client comes too often, or too many are waiting.
    pub(in crate::api) fn too_many(description: impl Into<String>) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self { status, error: "slow_down", description: description.into() }
    }

    /// It is not the client's fault.
    pub(in crate::api) fn unavailable(description: impl Into<String>) -> Self {
        let (status, error) = (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable");
        Self { status, error, description: description.into() }
    }

    /// Whether the client guessed: such answers are counted.
    pub(in crate::api) fn is_a_guess(&self) -> bool {
        matches!(self.error, "invalid_grant" | "invalid_client")
    }
}

impl From<LoginError> for No {
    fn from(error: LoginError) -> Self {
        let cause = Chain(&error).to_string();
        match &error {
            LoginError::Identity(identity) => {
                tracing::info!(fault = %identity.fault(), "sign-in refused: {cause}");
                Self::from_identity(identity)
            }
            LoginError::Vault(_) | LoginError::Seal(_) | LoginError::Random => {
                tracing::error!(fault = %Fault::Gateway, "{cause}");
                Self::unavailable("the gateway cannot do it now; try again in a minute")
            }
            LoginError::Ended => Self::grant("this login has ended; run weir login"),
            LoginError::SomebodyElse => Self::grant(
                "somebody else signed in than the one whose login it is; sign in as that person",
            ),
            LoginError::TooMany(what) => {
                Self::new("access_denied", format!("there are {what}; end some of them first"))
            }
            LoginError::TooWide => Self::new(
                "invalid_scope",
                "more was asked for than the credential is good for; ask for less, or sign in",
            ),
        }
    }
}

impl No {
    /// One text for whatever is wrong with a credential, so that nobody can feel their way.
    pub(in crate::api) fn from_identity(error: &IdentityError) -> Self {
        match error.fault() {
            Fault::Client | Fault::Target => {
                Self::grant("the credential was not accepted; sign in again with weir login")
            }
            Fault::Provider => {
                Self::unavailable("the identity provider cannot be reached; try again in a minute")
            }
            Fault::Gateway => {
                Self::unavailable("the gateway cannot do it now; try again in a minute")
            }
        }
    }
}

impl From<Fail> for No {
    fn from(Fail(refusal): Fail) -> Self {
        let text = refusal
            .reason
            .chars()
            .filter(|sign| sign.is_ascii_graphic() && !['"', '\\'].contains(sign) || *sign == ' ');
        Self::unavailable(text.collect::<String>())
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "error_description": self.description });
        let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
        let mut response = (self.status, headers, body.to_string()).into_response();
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_S));
        }
        response
    }
}
