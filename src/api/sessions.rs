//! Sessions: list them, show one's record, end one.

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
use crate::api::filter::Asked;
use crate::api::purpose::Purpose;
use crate::audit::TrailEvent;
use crate::audit::chain::Line;
use crate::audit::entry::Opened;
use crate::model::DataClass;
use crate::model::Principal;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::policy;
use crate::session::EndReason;
use crate::store::Owner;
use crate::store::SessionRow;
use crate::store::Whose;

/// Most entries of a trail that one answer carries.
const ENTRIES_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShowQuery {
    #[serde(default)]
    purpose: Option<String>,
}

pub(super) async fn list(
    State(resources): Shared,
    caller: Caller,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Vec<SessionRow>>, Fail> {
    let Query(asked) = asked.map_err(|error| Fail::malformed(&error.body_text()))?;
    if asked.q.is_some() {
        return Err(Fail::malformed("a list has no `q`: that is /api/v1/sessions/search"));
    }
    let mut filter = asked.filter(resources.gateway.parts.clock.now())?;
    let all = caller.may_list_all(&resources)?;
    if asked.own || !all {
        filter.whose = Whose::Own(Owner::from(&**caller.principal()));
    }
    let rows = resources.store.sessions(&filter).await;
    let mut rows = rows.map_err(|error| Fail::ours(&error))?;
    for row in &mut rows {
        // The index learns the number of commands at the end; a live session knows better.
        if let Some(live) = resources.gateway.parts.registry.find(row.session) {
            row.commands = live.commands();
        }
    }
    Ok(Json(rows))
}

/// A session's record: what its trail says.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    session: SessionId,
    live: bool,
    /// Results are left out, because the viewer may not see a class that they may carry.
    results_withheld: bool,
    /// There are more entries than one answer carries.
    cut: bool,
    /// Why reading stopped before the end, if it did.
    damage: Option<String>,
    entries: Vec<Line<TrailEvent>>,
}

pub(super) async fn show(
    State(resources): Shared,
    caller: Caller,
    Path(id): Path<String>,
    query: Result<Query<ShowQuery>, QueryRejection>,
) -> Result<Json<Shown>, Fail> {
    let Query(query) = query.map_err(|error| Fail::malformed(&error.body_text()))?;
    let purpose = Purpose::of(query.purpose.as_deref())?;
    let session = parse(&id)?;
    let opened = opened(&resources, session)?;
    let own = is_own(&caller, &opened.principal);
    allow_replay(&resources, &caller, &opened, (&purpose, own))?;
    let withheld = !own && hides_something(&resources, &caller, &opened.target);
    let mut shown = Shown {
        session,
        live: resources.gateway.parts.registry.find(session).is_some(),
        results_withheld: withheld,
        cut: false,
        damage: None,
        entries: Vec::new(),
    };
    let audit = Arc::clone(&resources.gateway.parts.audit);
    let reading = audit.read_trail(session, |mut line, _| {
        if shown.entries.len() >= ENTRIES_MAX {
            shown.cut = true;
            return;
        }
        if withheld {
            withhold(&mut line.event);
        }
        shown.entries.push(line);
    });
    match reading.map_err(|error| Fail::ours(&error))? {
        Some(reading) => shown.damage = reading.damage.map(|damage| damage.to_string()),
        None => return Err(Fail::not_found("session")),
    }
    Ok(Json(shown))
}

pub(super) async fn kill(
    State(resources): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<serde_json::Value>, Fail> {
    let session = parse(&id)?;
    let live = resources.gateway.parts.registry.find(session);
    let live = live.ok_or_else(|| Fail::not_found("live session"))?;
    let ask = policy::Ask::Kill { target: &live.target, owner: &live.principal };
    caller.may(&resources, &ask, Some(("kill", session.to_string())))?;
    live.end(EndReason::Killed { by: caller.principal().name.clone() });
    Ok(Json(serde_json::json!({ "session": session, "killed": true })))
}

fn allow_replay(
    resources: &Resources,
    caller: &Caller,
    opened: &Opened,
    purpose: (&Purpose, bool),
) -> Result<(), Fail> {
    let ask = policy::Ask::Replay { target: &opened.target, owner: &opened.principal };
    let noted = ("replay", opened.session.to_string());
    caller.may_look(resources, &ask, noted, purpose).map(|_| ())
}

/// What the trail's first entry says.
fn opened(resources: &Resources, session: SessionId) -> Result<Opened, Fail> {
    let mut first = None;
    let audit = &resources.gateway.parts.audit;
    audit
        .read_trail(session, |line, _| {
            if let TrailEvent::Opened(opened) = line.event {
                first = Some(*opened);
            }
        })
        .map_err(|error| Fail::ours(&error))?;
    first.ok_or_else(|| Fail::not_found("session"))
}

fn is_own(caller: &Caller, owner: &Principal) -> bool {
    caller.principal().issuer == owner.issuer && caller.principal().subject == owner.subject
}

/// Whether the viewer may not see some class of the target from where they are: what somebody else
/// was shown then stays hidden from them.
pub(super) fn hides_something(resources: &Resources, caller: &Caller, target: &TargetName) -> bool {
    let snapshot = Arc::clone(&resources.gateway.version().snapshot);
    let now = resources.gateway.parts.clock.now();
    let Some(facts) = snapshot.target(target).cloned() else { return true };
    let classes: Vec<&DataClass> = facts.classes.iter().collect();
    let authentication = caller.verified.authentication();
    let who = policy::Who {
        principal: caller.principal(),
        origin: &caller.origin,
        authentication: authentication.as_ref(),
    };
    let masks = policy::control::view(&snapshot, who, target, classes.iter().copied(), now);
    masks.hides_any(classes)
}

fn withhold(event: &mut TrailEvent) {
    if let TrailEvent::Ended { result, sent, .. } = event {
        *result = None;
        *sent = None;
    }
}

fn parse(id: &str) -> Result<SessionId, Fail> {
    id.parse().map_err(|_| Fail::not_found("session"))
}
