//! Holding, releasing and erasing recordings.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::api::Caller;
use crate::api::Resources;
use crate::api::Shared;
use crate::api::body::Sent;
use crate::api::fail::Fail;
use crate::api::purpose::Purpose;
use crate::audit::LedgerEvent;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::refusal::RefusalCode;
use crate::policy;
use crate::store::EraseError;

/// What a policy reads where somebody decides how long a recording is kept.
const RETENTION: policy::Ask<'static> = policy::Ask::Administer { what: "retention" };

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    #[serde(default)]
    reason: Option<String>,
}

/// Keeps a recording until that is lifted.
pub(super) async fn hold(
    State(resources): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Sent(why): Sent<Why>,
) -> Result<Json<Value>, Fail> {
    let (session, reason) = allowed(&resources, &caller, (&id, "legal-hold"), &why)?;
    let (store, archive) = (resources.store.clone(), Arc::clone(&resources.archive));
    let by = Arc::clone(caller.principal());
    let hold = async move { store.hold(&archive, session, (&by, &reason)).await };
    Ok(Json(json!(to_its_end(hold).await?)))
}

/// Lifts that.
pub(super) async fn release(
    State(resources): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Sent(why): Sent<Why>,
) -> Result<Json<Value>, Fail> {
    let (session, reason) = allowed(&resources, &caller, (&id, "release"), &why)?;
    let (store, archive) = (resources.store.clone(), Arc::clone(&resources.archive));
    let by = Arc::clone(caller.principal());
    let release = async move { store.release(&archive, session, (&by, &reason)).await };
    Ok(Json(json!(to_its_end(release).await?)))
}

/// Erases a recording.
pub(super) async fn erase(
    State(resources): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Sent(why): Sent<Why>,
) -> Result<Json<Value>, Fail> {
    let (session, reason) = allowed(&resources, &caller, (&id, "erase"), &why)?;
    let by = Arc::clone(caller.principal());
    let event = LedgerEvent::Erased { session, by, reason };
    let (store, archive) = (resources.store.clone(), Arc::clone(&resources.archive));
    let erase = async move { store.erase(&archive, session, event).await };
    let erased = to_its_end(erase).await?;
    Ok(Json(json!({
        "session": session,
        "erased": erased.destroyed,
        "locked_objects": erased.locked_objects,
    })))
}

/// Does what was asked, also where whoever asked does not wait for it.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, EraseError>> + Send + 'static,
) -> Result<T, Fail> {
    match tokio::spawn(work).await {
        Ok(done) => done.map_err(|error| fail(&error)),
        Err(error) => Err(Fail::ours(&error)),
    }
}

fn allowed(
    resources: &Resources,
    caller: &Caller,
    (id, action): (&str, &str),
    why: &Why,
) -> Result<(SessionId, String), Fail> {
    let session = id.parse::<SessionId>().map_err(|_| Fail::not_found("session"))?;
    let reason = Purpose::of(why.reason.as_deref())?;
    let Some(said) = reason.said() else {
        return Err(Fail::malformed("it needs a `reason`, which is recorded"));
    };
    let noted = (action, session.to_string());
    caller.may_look(resources, &RETENTION, noted, (&reason, false))?;
    Ok((session, said.to_owned()))
}

fn fail(error: &EraseError) -> Fail {
    let refused = |hint: &str| {
        let reason = error.to_string();
        Fail(Refusal::new(RefusalCode::Denied, reason).hint(hint))
    };
    match error {
        EraseError::Missing(_) => Fail::not_found("session"),
        EraseError::Elsewhere { .. } => refused("give that gateway's URL by --gateway"),
        EraseError::Live(_) => refused("end it first: weir sessions kill"),
        EraseError::Held(_) => refused("it ends with weir sessions release, by whoever may"),
        EraseError::Erased { .. } => refused("weir ledger ls --session ID says why"),
        EraseError::NotHeld(_) => refused("weir ledger ls --session ID says what was done to it"),
        EraseError::Store(_) | EraseError::Archive(_) | EraseError::Ledger(_) => Fail::ours(&error),
    }
}
