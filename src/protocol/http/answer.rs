//! The second half of an exchange: a target's answer, released as it is or masked, or withheld.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::audit::entry::Ending;
use crate::audit::entry::Volume;
use crate::audit::recording::Stream;
use crate::model::Fault;
use crate::model::Refusal;
use crate::model::fault::Chain;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;
use crate::protocol::http::MASKED_BYTES_MAX;
use crate::protocol::http::body::Passing;
use crate::protocol::http::body::ReleasedBody;
use crate::protocol::http::dialect::Head;
use crate::protocol::http::dialect::Masker;
use crate::protocol::http::dialect::Reading;
use crate::protocol::http::dialect::Veil;
use crate::protocol::http::hello::Bound;
use crate::protocol::http::mask::Document;
use crate::protocol::http::mask::Lines;
use crate::protocol::http::mask::too_long;
use crate::protocol::http::refuse::No;
use crate::protocol::http::upstream::Answered;
use crate::protocol::http::upstream::Lease;
use crate::protocol::http::wire;
use crate::session::Running;
use crate::session::guard::Answer;
use crate::session::guard::Masked;
use crate::session::guard::Withheld;

/// How long a target may pause in an answer that is masked, in milliseconds.
pub const DOCUMENT_PAUSE_MS_MAX: u64 = 60_000;

/// What goes on of an answer: its head by the rules, its body masked or streamed.
pub(super) async fn release(
    bound: &Bound,
    running: &Arc<Running>,
    reading: Reading,
    answered: Answered,
    head: &Head,
) -> Result<Response<ReleasedBody>, No> {
    let (parts, incoming) = answered.response.into_parts();
    let status = parts.status;
    if let Some(fault) = wire::faulty(status) {
        let reason = format!("{} {fault}", bound.target.name());
        end(running, Ending::Cut { reason: reason.clone() });
        let session = bound.guard.session();
        tracing::warn!(%session, fault = %Fault::Target, "{reason}");
        return Err(Refusal::new(RefusalCode::TargetFailed, reason).into());
    }
    let masks = bound.guard.masks().map_err(|error| No::from(error.refusal()))?;
    let hidden = masks.hides_any(reading.command.reads.iter());
    let target_head = TargetHead { status, headers: parts.headers.clone(), masked: hidden };
    let mut response = released_head(bound, running, &masks, target_head)?;
    let ending = ending(status);
    let bodiless = incoming.is_end_stream() || head.method == http::Method::HEAD;
    if bodiless {
        answered.lease.give_back();
        end(running, ending);
        *response.body_mut() =
            ReleasedBody::own(Full::default().map_err(|n| match n {}).boxed_unsync());
        return Ok(response);
    }
    let lease = answered.lease;
    let passing = match (hidden, reading.veil) {
        (false, _) => Passing::Clear(Arc::new(reading.command.reads)),
        (true, Veil::None(reason)) => return Err(withheld(running, reason)),
        (true, veil) => {
            let plain = wire::is_plain_json(&parts.headers);
            if let Some(problem) = unmaskable(status, plain) {
                let reason = format!("the answer must be masked, but {problem}");
                return Err(withheld(running, reason));
            }
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            match veil {
                Veil::Lines(masker) if status == StatusCode::OK => {
                    Passing::Lines(Lines::new(masker, status))
                }
                Veil::Lines(masker) | Veil::Document(masker) => {
                    let whole = Whole { status, masker, incoming, lease };
                    *response.body_mut() = document(bound, running, &masks, whole).await?;
                    return Ok(response);
                }
                Veil::None(reason) => return Err(withheld(running, reason)),
            }
        }
    };
    let running = Arc::clone(running);
    *response.body_mut() = ReleasedBody::stream(incoming, running, lease, ending, passing);
    Ok(response)
}

fn unmaskable(status: StatusCode, plain: Result<(), &'static str>) -> Option<&'static str> {
    if status == StatusCode::PARTIAL_CONTENT {
        return Some("it is only a part, which was not asked for");
    }
    plain.err()
}

/// An answer's head, as the guard takes it.
struct TargetHead {
    status: StatusCode,
    headers: HeaderMap,
    masked: bool,
}

impl Answer for TargetHead {
    type Out = (StatusCode, HeaderMap);

    fn masked(self, _: &Masks, _: usize) -> Result<Masked<Self::Out>, Withheld> {
        let headers = if self.masked {
            wire::from_target_masked(&self.headers)
        } else {
            wire::from_target(&self.headers)
        };
        let out = (self.status, headers);
        Ok(Masked { out, volume: Volume::default(), shown: Bytes::new(), stream: Stream::Output })
    }
}

fn released_head(
    bound: &Bound,
    running: &Running,
    masks: &Masks,
    head: TargetHead,
) -> Result<Response<ReleasedBody>, No> {
    let released = running.release(masks, head).map_err(|withheld| No::from(withheld.refusal()))?;
    let (status, headers) = released.unseal(bound.guard.session()).map_err(|wrong| {
        tracing::error!(fault = %Fault::Gateway, "{wrong}");
        No::from(Refusal::new(RefusalCode::Unrecorded, "the gateway made a mistake"))
    })?;
    let empty = Full::default().map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(ReleasedBody::own(empty));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// An answer that is masked as a whole.
struct Whole {
    status: StatusCode,
    masker: Arc<dyn Masker>,
    incoming: Incoming,
    lease: Lease,
}

async fn document(
    bound: &Bound,
    running: &Arc<Running>,
    masks: &Masks,
    whole: Whole,
) -> Result<ReleasedBody, No> {
    let Whole { status, masker, mut incoming, lease } = whole;
    let mut bytes = BytesMut::new();
    let pause = Duration::from_millis(DOCUMENT_PAUSE_MS_MAX);
    loop {
        let broke = |why: String| {
            end(running, Ending::Cut { reason: why.clone() });
            let session = bound.guard.session();
            tracing::warn!(%session, fault = %Fault::Target, "{why}");
            let reason = format!("{} broke off its answer", bound.target.name());
            No::from(Refusal::new(RefusalCode::TargetFailed, reason))
        };
        match timeout(pause, incoming.frame()).await {
            Err(_) => return Err(broke("the target paused for too long".to_owned())),
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(broke(Chain(&error).to_string())),
            Ok(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_default();
                if bytes.len().saturating_add(data.len()) > MASKED_BYTES_MAX {
                    return Err(withheld_for(running, too_long()));
                }
                bytes.extend_from_slice(&data);
            }
        }
    }
    lease.give_back();
    let answer = Document { bytes: bytes.freeze(), status, masker };
    let released = running
        .release(masks, answer)
        .map_err(|withheld| withheld_for(running, withheld.refusal()))?;
    let document = released.unseal(bound.guard.session()).map_err(|wrong| {
        tracing::error!(fault = %Fault::Gateway, "{wrong}");
        No::from(Refusal::new(RefusalCode::Unrecorded, "the gateway made a mistake"))
    })?;
    Ok(ReleasedBody::whole(document, Arc::clone(running), ending(status)))
}

fn withheld(running: &Running, reason: String) -> No {
    withheld_for(running, Refusal::new(RefusalCode::Withheld, reason))
}

fn withheld_for(running: &Running, refusal: Refusal) -> No {
    let session = running.guard().session();
    tracing::warn!(%session, fault = %Fault::Target, "an answer was withheld: {refusal}");
    end(running, Ending::Withheld { reason: refusal.reason.clone() });
    refusal.into()
}

fn ending(status: StatusCode) -> Ending {
    let text = status.as_str().to_owned();
    if status.is_client_error() || status.is_server_error() {
        Ending::Failed { status: text }
    } else {
        Ending::Done { status: text }
    }
}

/// Records how a command ended.
pub(super) fn end(running: &Running, ending: Ending) {
    if let Err(error) = running.end(ending) {
        let session = running.guard().session();
        tracing::error!(%session, fault = %Fault::Gateway, "{}", Chain(&error));
    }
}
