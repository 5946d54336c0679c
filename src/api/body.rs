//! The body of a call: JSON, bounded, and read to its end.

use axum::extract::FromRequest;
use axum::extract::Request;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::api::BODY_BYTES_MAX;
use crate::api::fail::Fail;
use crate::model::Refusal;
use crate::model::refusal::RefusalCode;

/// What is read of a body that is too long, and thrown away: over HTTP/2 a client that still sends
/// is told that its stream broke, and not why.
const DISCARDED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a call sent. A call without a body has sent `{}`.
#[derive(Debug)]
pub(super) struct Sent<T>(pub(super) T);

impl<T, S> FromRequest<S> for Sent<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Fail;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Fail> {
        let mut body = request.into_body();
        let mut text = Vec::new();
        let mut bytes = 0_usize;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Fail::malformed(&error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            bytes = bytes.saturating_add(data.len());
            if bytes <= BODY_BYTES_MAX {
                text.extend_from_slice(&data);
            } else if bytes > DISCARDED_BYTES_MAX {
                break;
            }
        }
        if bytes > BODY_BYTES_MAX {
            let reason = format!("the call has a body of over {BODY_BYTES_MAX} bytes");
            return Err(Fail(Refusal::new(RefusalCode::TooLarge, reason)));
        }
        let text = if text.is_empty() { b"{}" } else { text.as_slice() };
        let sent = serde_json::from_slice(text);
        sent.map(Self).map_err(|error| Fail::malformed(&error.to_string()))
    }
}
