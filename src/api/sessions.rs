//! Sessions: list them, show one's record, end one. What streams a record is `stream`.

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::api::Caller;
use crate::api::Resources;
use crate::api::Shared;
use crate::api::fail::Fail;
use crate::api::filter::Asked;
use crate::api::purpose::Purpose;
use crate::audit::TrailEvent;
use crate::audit::archive::ReadError;
use crate::audit::archive::Reading;
use crate::audit::entry::Opened;
use crate::audit::recording::Entry;
use crate::audit::recording::Seen;
use crate::audit::recording::What;
use crate::audit::told::Teller;
use crate::model::DataClass;
use crate::model::LawFacts;
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
    entries: Vec<Value>,
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
    let mut recording = Recording::find(&resources, session).await?;
    let opened = recording.opened()?;
    let own = is_own(&caller, &opened.principal);
    allow_replay(&resources, &caller, &opened, ("replay", &purpose, own))?;
    let seen = (&opened.target, opened.law.as_deref());
    let withheld = !own && hides_something(&resources, &caller, seen);
    let mut shown = Shown {
        session,
        live: resources.gateway.parts.registry.find(session).is_some(),
        results_withheld: withheld,
        cut: false,
        damage: None,
        entries: Vec::new(),
    };
    let mut teller = Teller::new(!withheld);
    while let Some(entry) = recording.next()? {
        let Some(told) = teller.tell(&entry) else { continue };
        if shown.entries.len() >= ENTRIES_MAX {
            shown.cut = true;
            break;
        }
        shown.entries.push(told);
    }
    shown.damage = recording.damage;
    Ok(Json(shown))
}

pub(super) async fn kill(
    State(resources): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fail> {
    let session = parse(&id)?;
    let live = resources.gateway.parts.registry.find(session);
    let live = live.ok_or_else(|| Fail::not_found("live session"))?;
    let ask = policy::Ask::Kill { target: &live.target, owner: &live.principal };
    caller.may(&resources, &ask, Some(("kill", session.to_string())))?;
    live.end(EndReason::Killed { by: caller.principal().name.clone() });
    Ok(Json(serde_json::json!({ "session": session, "killed": true })))
}

/// Whether the caller may look at a session, which is on record as `action`.
pub(super) fn allow_replay(
    resources: &Resources,
    caller: &Caller,
    opened: &Opened,
    (action, purpose, own): (&str, &Purpose, bool),
) -> Result<(), Fail> {
    let Opened { target, principal: owner, .. } = opened;
    let ask = policy::Ask::Replay { target, law: opened.law.as_deref(), owner };
    let noted = (action, opened.session.to_string());
    caller.may_look(resources, &ask, noted, (purpose, own)).map(|_| ())
}

/// A recording that is being read for somebody.
struct Recording {
    entries: Reading,
    first: Option<Entry>,
    damage: Option<String>,
}

impl Recording {
    async fn find(resources: &Resources, session: SessionId) -> Result<Self, Fail> {
        match resources.archive.recording(session).await {
            Ok(entries) => Ok(Self { entries, first: None, damage: None }),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// What the first entry says.
    fn opened(&mut self) -> Result<Opened, Fail> {
        let first = self.next()?.ok_or_else(|| Fail::not_found("session"))?;
        let opened = opening(&first);
        self.first = Some(first);
        opened.ok_or_else(|| Fail::not_found("session"))
    }

    /// The next entry; `None` at the end, or where the rest is damaged.
    fn next(&mut self) -> Result<Option<Entry>, Fail> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match self.entries.next().map_err(|error| Fail::ours(&error))? {
            Seen::One(entry) => Ok(Some(entry)),
            Seen::End => Ok(None),
            Seen::Damaged(damage) => {
                self.damage = Some(damage.to_string());
                Ok(None)
            }
        }
    }
}

/// Why a recording is not shown.
pub(super) fn unreadable(error: &ReadError) -> Fail {
    match error {
        ReadError::Missing(_) => Fail::not_found("session"),
        ReadError::Erased { .. } => Fail::gone(&error.to_string()),
        ReadError::Storage(_)
        | ReadError::Shelf(_)
        | ReadError::Key(_)
        | ReadError::Io(_)
        | ReadError::Name(_) => Fail::ours(error),
    }
}

/// What a recording's first entry says, if `entry` is one.
pub(super) fn opening(entry: &Entry) -> Option<Opened> {
    let What::Event(event) = &entry.what else { return None };
    if let TrailEvent::Opened(opened) = &**event { Some((**opened).clone()) } else { None }
}

pub(super) fn is_own(caller: &Caller, owner: &Principal) -> bool {
    caller.principal().is_same(owner)
}

/// Whether the viewer may not see some class of the target from where they are: what somebody else
/// was shown then stays hidden from them. Of a recording, also a class that the target held then.
pub(super) fn hides_something(
    resources: &Resources,
    caller: &Caller,
    (target, law): (&TargetName, Option<&LawFacts>),
) -> bool {
    let snapshot = Arc::clone(&resources.gateway.version().snapshot);
    let now = resources.gateway.parts.clock.now();
    let Some(facts) = snapshot.target(target).cloned() else { return true };
    let then = law.into_iter().flat_map(|law| &law.classes);
    let classes: Vec<&DataClass> = facts.classes.iter().chain(then).collect();
    let authentication = caller.verified.authentication();
    let who = policy::Who {
        principal: caller.principal(),
        origin: &caller.origin,
        authentication: authentication.as_ref(),
    };
    let masks = policy::view(&snapshot, who, (target, law), classes.iter().copied(), now);
    masks.hides_any(classes)
}

pub(super) fn parse(id: &str) -> Result<SessionId, Fail> {
    id.parse().map_err(|_| Fail::not_found("session"))
}
