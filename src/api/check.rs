//! `weir check --token`: how a provider's token is read here, and what policy grants whoever has it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::api::Caller;
use crate::api::Shared;
use crate::api::body::Sent;
use crate::api::fail::Fail;
use crate::policy;

/// A token to be explained. It is used for nothing, and kept nowhere.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    token: String,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Question(a token)")
    }
}

pub(super) async fn check(
    State(resources): Shared,
    caller: Caller,
    Sent(question): Sent<Question>,
) -> Result<Json<Value>, Fail> {
    let ask = policy::Ask::Administer { what: "check-token" };
    caller.may(&resources, &ask, Some(("check-token", "a provider's token".to_owned())))?;
    let gateway = &resources.gateway;
    let explanation = gateway.logins.identity().explain(question.token.trim()).await;
    let version = gateway.version();
    let now = gateway.parts.clock.now();
    let targets = explanation.principal.as_ref().map(|principal| {
        let principal = Arc::new(principal.clone());
        let judged = |name| {
            let who = policy::Who {
                principal: &principal,
                origin: &caller.origin,
                authentication: explanation.authentication.as_ref(),
            };
            policy::judge(&version.snapshot, who, name, None, now)
        };
        let all = version.catalogue.targets().map(|target| {
            let name = &target.facts().name;
            json!({ "target": name, "judgement": judged(name) })
        });
        all.collect::<Vec<_>>()
    });
    Ok(Json(json!({ "explanation": explanation, "targets": targets, "from": caller.origin })))
}
