//! `weir policy explain`: the daemon's own verdict by the daemon's own code.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Deserialize;

use crate::api::Caller;
use crate::api::Shared;
use crate::api::body::Sent;
use crate::api::fail::Fail;
use crate::model::Command;
use crate::model::Country;
use crate::model::EntityId;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Refusal;
use crate::model::TargetName;
use crate::model::login::Authentication;
use crate::model::place::PlaceMethod;
use crate::model::principal::Kind;
use crate::model::refusal::RefusalCode;
use crate::policy;

/// A what-if question.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// Who would ask: a name. Without one, the caller.
    #[serde(default, rename = "as")]
    who: Option<String>,
    /// Their roles, where the gateway has not seen them yet or they should be others.
    #[serde(default)]
    roles: Option<BTreeSet<String>>,
    /// Their entity, likewise.
    #[serde(default)]
    entity: Option<EntityId>,
    /// From which country. Without one, from where the caller is.
    #[serde(default)]
    from: Option<Country>,
    /// How long ago they would have signed in. Without it and what follows: as the caller did, and
    /// somebody else long ago.
    #[serde(default)]
    auth_age_s: Option<u32>,
    /// How strongly, in the provider's word.
    #[serde(default)]
    acr: Option<String>,
    /// By which methods.
    #[serde(default)]
    amr: Option<BTreeSet<String>>,
    /// Which target.
    target: TargetName,
    /// What they would ask of it. Without it, only whether they may connect.
    #[serde(default)]
    command: Option<String>,
}

pub(super) async fn explain(
    State(resources): Shared,
    caller: Caller,
    Sent(question): Sent<Question>,
) -> Result<Json<policy::Judgement>, Fail> {
    let own = question.who.as_deref().is_none_or(|who| who == caller.principal().name)
        && question.roles.is_none()
        && question.entity.is_none();
    if !own {
        let ask = policy::Ask::Administer { what: "policy" };
        caller.may(&resources, &ask, None)?;
    }
    let principal = match (&question.who, own) {
        (_, true) | (None, false) => Arc::clone(caller.principal()),
        (Some(who), false) => {
            let seen = resources.store.principal(who).await;
            let seen = seen.map_err(|error| Fail::ours(&error))?;
            Arc::new(seen.unwrap_or_else(|| nobody_yet(who)))
        }
    };
    let now = resources.gateway.parts.clock.now();
    let known = if own { caller.verified.authentication() } else { None };
    let authentication = authentication(known, &question, now);
    let principal = Principal {
        roles: question.roles.unwrap_or_else(|| principal.roles.clone()),
        entity: question.entity.or_else(|| principal.entity.clone()),
        ..(*principal).clone()
    };
    let origin = match question.from {
        Some(country) => Origin {
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            country: Some(country),
            method: PlaceMethod::Assumed,
        },
        None => caller.origin.clone(),
    };
    let version = resources.gateway.version();
    let who = policy::Who {
        principal: &principal,
        origin: &origin,
        authentication: authentication.as_ref(),
    };
    let judge = |command: Option<&Command>| {
        policy::judge(&version.snapshot, who, &question.target, command, now)
    };
    let judged = judge(None);
    let Some(text) = &question.command else { return Ok(Json(judged)) };
    // A target that the caller may not know of is not asked anything: the answer is the same as
    // for one that is not there.
    if !judged.connect.admits() && judged.transfer.is_none() {
        return Ok(Json(judged));
    }
    let command = resources.reader.read(&question.target, text, &judged.masks).await;
    let command = command.map_err(|why| Fail(Refusal::new(RefusalCode::Malformed, why)))?;
    let judged = judge(Some(&command));
    Ok(Json(judged))
}

/// The login of the question: what it says, and for the rest what is known.
fn authentication(
    known: Option<Authentication>,
    question: &Question,
    now: Timestamp,
) -> Option<Authentication> {
    let asked = question.auth_age_s.is_some() || question.acr.is_some() || question.amr.is_some();
    if !asked {
        return known;
    }
    let age = question.auth_age_s.map(|age| SignedDuration::from_secs(age.into()));
    let at = age.and_then(|age| now.checked_sub(age).ok());
    let long_ago = Authentication { at: Timestamp::UNIX_EPOCH, acr: None, amr: BTreeSet::new() };
    let known = known.unwrap_or(long_ago);
    Some(Authentication {
        at: at.unwrap_or(known.at),
        acr: question.acr.clone().or(known.acr),
        amr: question.amr.clone().unwrap_or(known.amr),
    })
}

/// Somebody whom this gateway has not seen: no roles and no entity but those of the question.
fn nobody_yet(name: &str) -> Principal {
    Principal {
        issuer: "unseen".to_owned(),
        subject: name.to_owned(),
        name: name.to_owned(),
        kind: Kind::Person,
        roles: BTreeSet::new(),
        entity: None,
        residence: None,
        person: name.to_owned(),
        attributes: std::collections::BTreeMap::new(),
        actors: Vec::new(),
    }
}
