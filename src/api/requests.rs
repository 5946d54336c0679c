//! Commands that wait for an approval: list them, see one, answer one.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::State;
use serde::Deserialize;
use serde::Serialize;

use crate::api::Caller;
use crate::api::Resources;
use crate::api::Shared;
use crate::api::body::Sent;
use crate::api::fail::Fail;
use crate::api::transfer::Transfer;
use crate::model::HoldId;
use crate::policy;
use crate::policy::Allowed;
use crate::session::Decision;
use crate::session::hold::Pending;

#[derive(Debug, Serialize)]
pub(super) struct Answered {
    hold: HoldId,
    decision: &'static str,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct DenyBody {
    #[serde(default)]
    reason: Option<String>,
}

/// What waits and the caller may answer, and what the caller themselves waits for.
pub(super) async fn list(
    State(resources): Shared,
    caller: Caller,
) -> Result<Json<Vec<Arc<Pending>>>, Fail> {
    let mut shown = Vec::new();
    for hold in resources.gateway.parts.desk.pending() {
        if !hold.principal.is_same(caller.principal()) {
            let Ok(allowed) = may_answer(&resources, &caller, &hold, None) else { continue };
            seen(&resources, &caller, &hold, &allowed)?;
        }
        shown.push(hold);
    }
    Ok(Json(shown))
}

pub(super) async fn show(
    State(resources): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Arc<Pending>>, Fail> {
    let hold = find(&resources, &id)?;
    let allowed = may_answer(&resources, &caller, &hold, None)?;
    seen(&resources, &caller, &hold, &allowed)?;
    Ok(Json(hold))
}

pub(super) async fn approve(
    State(resources): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Answered>, Fail> {
    let by = Arc::clone(caller.principal());
    answer(&resources, &caller, &id, Decision::Approved { by })
}

pub(super) async fn deny(
    State(resources): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Sent(body): Sent<DenyBody>,
) -> Result<Json<Answered>, Fail> {
    let by = Arc::clone(caller.principal());
    let reason = body
        .reason
        .map(|reason| reason.chars().filter(|c| !c.is_control()).take(500).collect::<String>());
    answer(&resources, &caller, &id, Decision::Declined { by, reason })
}

fn answer(
    resources: &Resources,
    caller: &Caller,
    id: &str,
    decision: Decision,
) -> Result<Json<Answered>, Fail> {
    let hold = find(resources, id)?;
    let action = match &decision {
        Decision::Approved { .. } => "approve",
        Decision::Declined { .. } | Decision::TimedOut | Decision::Withdrawn { .. } => "deny",
    };
    may_answer(resources, caller, &hold, Some(action))?;
    let word = decision.word();
    if resources.gateway.parts.desk.answer(&hold.hold, decision) {
        Ok(Json(Answered { hold: hold.hold.clone(), decision: word }))
    } else {
        Err(Fail::not_found("command that waits"))
    }
}

fn find(resources: &Resources, id: &str) -> Result<Arc<Pending>, Fail> {
    let id = id.parse::<HoldId>().map_err(|_| Fail::not_found("command that waits"))?;
    resources.gateway.parts.desk.find(&id).ok_or_else(|| Fail::not_found("command that waits"))
}

fn may_answer(
    resources: &Resources,
    caller: &Caller,
    hold: &Pending,
    noted: Option<&str>,
) -> Result<Allowed, Fail> {
    let approvers = hold.approvers.iter().cloned().collect();
    let ask = policy::Ask::Approve {
        requester: &hold.principal,
        target: &hold.target,
        command: &hold.command,
        approvers: &approvers,
    };
    let noted = noted.map(|action| (action, hold.hold.to_string()));
    caller.may(resources, &ask, noted)
}

/// Tells the ledger that somebody sees a command that waits, where that is a transfer.
fn seen(
    resources: &Arc<Resources>,
    caller: &Caller,
    hold: &Pending,
    allowed: &Allowed,
) -> Result<(), Fail> {
    if let Some(mut transfer) =
        Transfer::open(resources, caller, ("approve", Some(hold.command_id.session)), allowed)?
    {
        transfer.count(1, serde_json::to_vec(hold).map_or(0, |hold| hold.len()));
    }
    Ok(())
}
