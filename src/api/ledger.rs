//! The ledger's checkpoints, to be kept elsewhere, and receipts of its entries.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use serde::Deserialize;
use serde::Serialize;

use crate::api::Caller;
use crate::api::Resources;
use crate::api::Shared;
use crate::api::fail::Fail;
use crate::audit::Audit;
use crate::audit::prove;
use crate::audit::prove::ProveError;
use crate::audit::prove::Wanted;
use crate::policy;

/// What a policy reads where somebody asks for something of the ledger.
const LEDGER: policy::Ask<'static> = policy::Ask::Administer { what: "ledger" };

#[derive(Debug, Serialize)]
pub(super) struct Checkpoint {
    /// The signed note.
    checkpoint: String,
    /// What verifies it.
    verifier: String,
}

/// The latest checkpoint, which counts everything up to now. Only hashes leave the region, so that
/// only the refusals are in the ledger: who fetches one every minute does not make it grow.
pub(super) async fn checkpoint(
    State(resources): Shared,
    caller: Caller,
) -> Result<Json<Checkpoint>, Fail> {
    caller.may(&resources, &LEDGER, None)?;
    let note = in_background(&resources, |audit| {
        audit.checkpoint()?;
        Ok::<_, std::io::Error>(audit.latest_checkpoint())
    });
    let note = note.await?.map_err(|error| Fail::ours(&error))?;
    let checkpoint = note.ok_or_else(|| Fail::not_found("checkpoint"))?.to_string();
    let verifier = resources.gateway.parts.audit.signer().to_owned();
    Ok(Json(Checkpoint { checkpoint, verifier }))
}

#[derive(Debug, Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    end: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Receipt {
    /// As C2SP writes it.
    receipt: String,
}

/// A receipt of an entry.
pub(super) async fn receipt(
    State(resources): Shared,
    caller: Caller,
    Path(id): Path<String>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Receipt>, Fail> {
    let Query(which) = which.map_err(|error| Fail::malformed(&error.body_text()))?;
    let wanted = Wanted::read(&id, which.end).ok_or_else(|| Fail::malformed("no such id"))?;
    caller.may(&resources, &LEDGER, Some(("prove", id)))?;
    let made = in_background(&resources, move |audit| {
        audit.checkpoint().map_err(ProveError::Checkpoint)?;
        prove::receipt(&prove::files_beside(&audit.ledger_path()), &wanted)
    });
    match made.await? {
        Ok(receipt) => Ok(Json(Receipt { receipt: receipt.to_string() })),
        Err(ProveError::NoEntry | ProveError::NotYet { .. }) => Err(Fail::not_found("entry")),
        Err(
            error @ (ProveError::Files(_)
            | ProveError::NoCheckpoint
            | ProveError::Checkpoint(_)
            | ProveError::Damaged(_)),
        ) => Err(Fail::ours(&error)),
    }
}

/// Runs what reads files for long where it does not stop others.
async fn in_background<T: Send + 'static>(
    resources: &Resources,
    work: impl FnOnce(&Audit) -> T + Send + 'static,
) -> Result<T, Fail> {
    let audit = Arc::clone(&resources.gateway.parts.audit);
    let done = tokio::task::spawn_blocking(move || work(&audit)).await;
    done.map_err(|error| Fail::ours(&error))
}
