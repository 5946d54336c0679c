//! Logins and credentials: who one is, what one has, and ending it.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::api::Caller;
use crate::api::Resources;
use crate::api::Shared;
use crate::api::body::Sent;
use crate::api::certificates::failed;
use crate::api::fail::Fail;
use crate::api::note::Deed;
use crate::identity::LoginError;
use crate::model::CredentialId;
use crate::model::LoginId;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::TargetName;
use crate::model::login::Authentication;
use crate::model::login::Credential;
use crate::model::login::Form;
use crate::model::login::Login;
use crate::model::login::LoginEnd;
use crate::model::login::Use;
use crate::policy;

/// Who the caller is, where the gateway sees them come from, and on what that rests.
#[derive(Debug, Serialize)]
pub(super) struct WhoAmI {
    principal: Arc<Principal>,
    origin: Origin,
    expires_at: Option<Timestamp>,
    login: Option<LoginId>,
    credential: Option<CredentialId>,
    /// Until when the login may be renewed.
    ends_at: Option<Timestamp>,
    authentication: Option<Authentication>,
    uses: Option<BTreeSet<Use>>,
    target: Option<TargetName>,
}

pub(super) async fn whoami(State(resources): Shared, caller: Caller) -> Result<Json<WhoAmI>, Fail> {
    let logins = &resources.gateway.logins;
    let verified = &caller.verified;
    let (login, credential) = match (verified.login(), verified.credential()) {
        (Some(login), Some(credential)) => {
            let login = logins.login(login).await.map_err(|error| failed(&error))?;
            let credential = logins.credential(credential).await;
            (Some(login), credential.map_err(|error| Fail::ours(&error))?)
        }
        (_, None) | (None, _) => (None, None),
    };
    let scope = credential.as_ref().map(|credential| credential.scope.clone());
    Ok(Json(WhoAmI {
        principal: Arc::clone(caller.principal()),
        expires_at: verified.expires_at(),
        authentication: verified.authentication(),
        ends_at: login.as_ref().map(|login| login.ends_at),
        login: login.map(|login| login.id),
        credential: credential.map(|credential| credential.id),
        target: scope.as_ref().and_then(|scope| scope.target.clone()),
        uses: scope.map(|scope| scope.uses),
        origin: caller.origin,
    }))
}

/// A credential as it is listed: all but its digest.
#[derive(Debug, Serialize)]
struct Listed {
    id: CredentialId,
    form: Form,
    uses: BTreeSet<Use>,
    target: Option<TargetName>,
    host: Option<String>,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

impl From<Credential> for Listed {
    fn from(credential: Credential) -> Self {
        let scope = credential.scope;
        Self {
            id: credential.id,
            form: credential.form,
            uses: scope.uses,
            target: scope.target,
            host: scope.host,
            issued_at: credential.issued_at,
            expires_at: credential.expires_at,
        }
    }
}

/// A login with what it has.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    login: Login,
    credentials: Vec<Listed>,
    /// The caller's own call rests on it.
    current: bool,
}

/// Whose are listed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    /// Everybody's, for administrators.
    #[serde(default)]
    all: bool,
}

pub(super) async fn list(
    State(resources): Shared,
    caller: Caller,
    whose: Result<Query<Whose>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Vec<Row>>, Fail> {
    let Query(whose) = whose.map_err(|error| Fail::malformed(&error.to_string()))?;
    if whose.all {
        let ask = policy::Ask::Administer { what: "credentials" };
        caller.may(&resources, &ask, Some(("credentials", "all".to_owned())))?;
    }
    let principal = caller.principal();
    let own = (principal.issuer.as_str(), principal.subject.as_str());
    let all = resources.gateway.logins.list((!whose.all).then_some(own)).await;
    let all = all.map_err(|error| Fail::ours(&error))?.into_iter();
    let shown = all.filter(|(login, _)| whose.all || principal.answers_for(&login.principal));
    let rows = shown.map(|(login, credentials)| {
        let current = caller.verified.login() == Some(&login.id);
        let credentials = credentials.into_iter().map(Listed::from).collect();
        Row { login, credentials, current }
    });
    Ok(Json(rows.collect()))
}

/// What a path names.
enum Named {
    Login(LoginId),
    Credential(CredentialId),
}

/// Ends a credential, or a login with all that it has; sessions that rest on it end at once.
pub(super) async fn revoke(
    State(resources): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fail> {
    let logins = &resources.gateway.logins;
    let missing = || Fail::not_found("login or credential");
    let named = match (id.parse::<LoginId>(), id.parse::<CredentialId>()) {
        (Ok(login), _) => Named::Login(login),
        (_, Ok(credential)) => Named::Credential(credential),
        (Err(_), Err(_)) => return Err(missing()),
    };
    let of = match &named {
        Named::Login(login) => login.clone(),
        Named::Credential(credential) => {
            let found = logins.credential(credential).await.map_err(|error| Fail::ours(&error))?;
            found.ok_or_else(missing)?.login
        }
    };
    let login = logins.login(&of).await.map_err(|error| {
        if matches!(error, LoginError::Ended) { missing() } else { failed(&error) }
    })?;
    let who = caller.principal();
    let own = who.answers_for(&login.principal);
    let rules = if own {
        Vec::new()
    } else {
        let ask = policy::Ask::Administer { what: "credentials" };
        // Whoever may not end it does not learn that it is there.
        caller.may(&resources, &ask, None).map_err(|_| missing())?.rules
    };
    let origin = &caller.origin;
    Deed { who, origin, action: "revoke", of: id, rules }.note(&resources)?;
    let why = LoginEnd::Revoked { by: who.name.clone() };
    let ended = match &named {
        Named::Login(login) => logins.end(login, why).await,
        Named::Credential(credential) => logins.revoke(credential, why).await,
    };
    let ended = ended.map_err(|error| Fail::ours(&error))?;
    Ok(Json(json!({ "ended": ended })))
}

/// How far a logout goes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Logout {
    /// Every login of the caller's, on every device.
    #[serde(default)]
    everywhere: bool,
}

pub(super) async fn logout(
    State(resources): Shared,
    caller: Caller,
    Sent(logout): Sent<Logout>,
) -> Result<Json<Value>, Fail> {
    let ids = if logout.everywhere {
        let who = caller.principal();
        let own = Some((who.issuer.as_str(), who.subject.as_str()));
        let all = resources.gateway.logins.list(own).await.map_err(|error| Fail::ours(&error))?;
        let own = all.into_iter().filter(|(login, _)| who.answers_for(&login.principal));
        own.map(|(login, _)| login.id).collect::<Vec<_>>()
    } else {
        caller.verified.login().cloned().into_iter().collect()
    };
    let ended = end_all(&resources, &caller, &ids).await?;
    Ok(Json(json!({ "ended": ended })))
}

/// Ends logins of the caller's.
async fn end_all(resources: &Resources, caller: &Caller, ids: &[LoginId]) -> Result<usize, Fail> {
    let mut count = 0_usize;
    for id in ids {
        let (who, origin) = (caller.principal(), &caller.origin);
        let deed = Deed { who, origin, action: "logout", of: id.to_string(), rules: Vec::new() };
        deed.note(resources)?;
        let ended = resources.gateway.logins.end(id, LoginEnd::LoggedOut).await;
        if ended.map_err(|error| Fail::ours(&error))? {
            count = count.saturating_add(1);
        }
    }
    Ok(count)
}
