//! Sessions: list them, show one's record, end one. What streams a record is `stream`.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use serde_json::value::to_raw_value;

use crate::api::Caller;
use crate::api::Shared;
use crate::api::fail::Fail;
use crate::api::filter::Asked;
use crate::api::look::Sight;
use crate::api::purpose::Purpose;
use crate::api::source::Begun;
use crate::api::source::Sound;
use crate::api::source::blocking;
use crate::audit::recording::Seen;
use crate::audit::recording::What;
use crate::audit::told::Teller;
use crate::model::SessionId;
use crate::policy;
use crate::session::EndReason;
use crate::store::Owner;
use crate::store::SessionRow;
use crate::store::Whose;

/// Most entries of a trail that one answer carries.
const ENTRIES_MAX: usize = 10_000;
/// About how long an answer may get, in bytes; it has one entry at least.
const TOLD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much of what was shown and sent is read for one answer, in bytes.
const DATA_BYTES_MAX: usize = 32 * 1024 * 1024;

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
    /// There is more than one answer carries.
    cut: bool,
    /// Why reading stopped before the end, if it did.
    damage: Option<String>,
    entries: Vec<Box<RawValue>>,
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
    let place = resources.viewers.enter(caller.principal()).map_err(Fail)?;
    let begun = Begun::of(&resources, caller, session, ("replay", &purpose)).await?;
    let mut shown = Shown {
        session,
        live: resources.gateway.parts.registry.find(session).is_some(),
        results_withheld: false,
        cut: false,
        damage: None,
        entries: Vec::new(),
    };
    let sound = match begun {
        Begun::Sound(sound) => *sound,
        Begun::Damaged(what) => {
            shown.damage = Some(what);
            return Ok(Json(shown));
        }
    };
    let told = blocking(move || {
        let _place = place;
        shown.read(sound)?;
        Ok(shown)
    });
    told.await.map(Json).map_err(|error| Fail::ours(&error))
}

impl Shown {
    /// Reads a recording, as far as one answer carries it. Blocks.
    fn read(&mut self, sound: Sound) -> io::Result<()> {
        let Sound { mut source, first, look, mut transfer } = sound;
        let own = look.is_own();
        let mut sight = Sight::of(Arc::new(look));
        let mut teller = Teller::new(true);
        if sight.is_withheld() {
            teller.withhold(own);
        }
        let (mut told_bytes, mut data_bytes) = (0_usize, 0_usize);
        let mut next = Seen::One(first);
        loop {
            let entry = match next {
                Seen::One(entry) => entry,
                Seen::End => break,
                Seen::Damaged(damage) => {
                    self.damage = Some(damage.to_string());
                    break;
                }
            };
            match &entry.what {
                What::Event(event) if sight.read(event) => teller.withhold(own),
                What::Event(_) => {}
                What::Data { bytes, .. } => data_bytes = data_bytes.saturating_add(bytes.len()),
            }
            let told = teller.tell(&entry).map(|told| to_raw_value(&told)).transpose()?;
            let length = told.as_ref().map_or(0, |told| told.get().len());
            told_bytes = told_bytes.saturating_add(length);
            self.cut = self.entries.len() >= ENTRIES_MAX
                || data_bytes > DATA_BYTES_MAX
                || (told_bytes > TOLD_BYTES_MAX && !self.entries.is_empty());
            if self.cut {
                break;
            }
            self.entries.extend(told);
            next = source.next()?;
        }
        self.results_withheld = sight.is_withheld();
        if let Some(transfer) = &mut transfer {
            transfer.count(self.entries.len(), told_bytes);
        }
        Ok(())
    }
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

pub(super) fn parse(id: &str) -> Result<SessionId, Fail> {
    id.parse().map_err(|_| Fail::not_found("session"))
}
