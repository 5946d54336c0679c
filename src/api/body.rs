//! The body of a call: JSON, bounded, and read to its end.

use std::time::Duration;

use axum::extract::FromRequest;
use axum::extract::Request;
use bytes::Bytes;
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::api::BODY_BYTES_MAX;
use crate::api::fail::Fail;
use crate::model::Refusal;
use crate::model::refusal::RefusalCode;

/// What is read of a body that is too long, and thrown away: over HTTP/2 a client that still sends
/// is told that its stream broke, and not why.
const DISCARDED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a body may take, in seconds.
const BODY_S_MAX: u64 = 30;

/// Reads a body to its end, whatever the call is answered; of one that is too long there is one
/// byte too many.
pub(super) async fn whole<B>(mut body: B) -> Result<Bytes, Fail>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let reading = async {
        let mut text = BytesMut::new();
        let mut bytes = 0_usize;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Fail::malformed(&error.into().to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            bytes = bytes.saturating_add(data.len());
            let room = BODY_BYTES_MAX.saturating_add(1).saturating_sub(text.len());
            text.extend_from_slice(data.get(..room).unwrap_or(&data));
            if bytes > DISCARDED_BYTES_MAX {
                break;
            }
        }
        Ok(text.freeze())
    };
    tokio::time::timeout(Duration::from_secs(BODY_S_MAX), reading)
        .await
        .unwrap_or_else(|_| Err(Fail::malformed("the body did not come within 30 s")))
}

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
        let body = request.into_body().collect().await;
        let text = body.map_err(|error| Fail::malformed(&error.to_string()))?.to_bytes();
        if text.len() > BODY_BYTES_MAX {
            let reason = format!("the call has a body of over {BODY_BYTES_MAX} bytes");
            return Err(Fail(Refusal::new(RefusalCode::TooLarge, reason)));
        }
        let text: &[u8] = if text.is_empty() { b"{}" } else { &text };
        let sent = serde_json::from_slice(text);
        sent.map(Self).map_err(|error| Fail::malformed(&error.to_string()))
    }
}
