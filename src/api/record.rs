//! How the record does: its store, its index, its checkpoint, its keys; and its index, made again.

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use serde_json::json;

use crate::api::Caller;
use crate::api::Shared;
use crate::api::fail::Fail;
use crate::policy;
use crate::store::ReindexProgress;

/// What policies read where somebody asks how the record does, and for its index to be made again.
const STATUS: policy::Ask<'static> = policy::Ask::Administer { what: "ledger" };
const REINDEX: policy::Ask<'static> = policy::Ask::Administer { what: "reindex" };

/// How the record does. Names keys, never shows one.
pub(super) async fn status(State(resources): Shared, caller: Caller) -> Result<Json<Value>, Fail> {
    caller.may(&resources, &STATUS, None)?;
    let audit = &resources.gateway.parts.audit;
    let heads = audit.trail_heads();
    let lag = resources.store.index_lag(&heads).await.map_err(|error| Fail::ours(&error))?;
    let checkpoint = audit.latest_checkpoint();
    let counted = checkpoint.as_ref().and_then(|note| note.checkpoint().ok());
    let wrapping = audit.keys().keys().map(|key| key.id().as_str()).collect::<Vec<_>>();
    Ok(Json(json!({
        "region": audit.region(),
        "level": audit.level().as_str(),
        "store": resources.archive.health(),
        "findings": resources.archive.findings(),
        "index": lag,
        "reindex": resources.reindex.progress(),
        "sessions_open": heads.len(),
        "ledger": {
            "entries": audit.head().entries,
            "checkpointed": counted.map(|counted| counted.size),
            "checkpoint": checkpoint.map(|note| note.to_string()),
            "verifier": audit.signer(),
        },
        "wrapping_keys": wrapping,
    })))
}

/// Has the index of this gateway's commands made again.
pub(super) async fn reindex(
    State(resources): Shared,
    caller: Caller,
) -> Result<Json<ReindexProgress>, Fail> {
    caller.may(&resources, &REINDEX, Some(("reindex", String::new())))?;
    let begun = resources.store.begin_reindex().await.map_err(|error| Fail::ours(&error))?;
    if begun {
        let now = resources.gateway.parts.clock.now();
        resources.reindex.note(|progress| {
            *progress = ReindexProgress {
                running: true,
                begun_at: Some(now),
                ..ReindexProgress::default()
            };
        });
    }
    resources.reindex.wake();
    Ok(Json(resources.reindex.progress()))
}

/// How far that is.
pub(super) async fn reindexing(
    State(resources): Shared,
    caller: Caller,
) -> Result<Json<ReindexProgress>, Fail> {
    caller.may(&resources, &REINDEX, None)?;
    Ok(Json(resources.reindex.progress()))
}
