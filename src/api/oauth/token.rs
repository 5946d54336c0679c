//! `POST /oauth/token`: a code, a device's code, a renewal or somebody else's token becomes a
//! session credential (RFC 6749 §4.1.3 and §6, RFC 8628 §3.4, RFC 8693).

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::response::Response;
use secrecy::ExposeSecret;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::api::Resources;
use crate::api::Shared;
use crate::api::note::Deed;
use crate::api::oauth::CLIENT;
use crate::api::oauth::device_of;
use crate::api::oauth::fail::No;
use crate::api::oauth::params::Params;
use crate::api::oauth::params::scope;
use crate::api::oauth::params::tame;
use crate::api::signing::Code;
use crate::identity::Claim;
use crate::identity::Issued;
use crate::identity::LoginError;
use crate::identity::SignedIn;
use crate::identity::Wanted;
use crate::model::Origin;
use crate::model::digest::Digest;
use crate::model::encode::base64url;
use crate::model::fault::Chain;
use crate::model::login::Device;
use crate::model::login::Form;
use crate::model::login::Login;
use crate::model::login::LoginEnd;
use crate::model::login::Use;
use crate::store::Note;

/// The grants, by their names.
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Longest verifier, in bytes (RFC 7636 §4.1).
const VERIFIER_BYTES_MAX: usize = 128;
/// What kinds of a provider's token there are (RFC 8693 §3).
const TOKEN_TYPES: [&str; 3] = [
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:id_token",
    "urn:ietf:params:oauth:token-type:access_token",
];
/// Every grant, for discovery.
pub(in crate::api) const GRANTS: [&str; 4] =
    ["authorization_code", "refresh_token", DEVICE, EXCHANGE];

/// What was got, and what else the answer has to say.
type Answer = Map<String, Value>;

pub(in crate::api) async fn token(
    State(resources): Shared,
    Extension(origin): Extension<Origin>,
    params: Result<Params, No>,
) -> Result<Response, No> {
    let answer = granted(&resources, &origin, &params?).await;
    if answer.as_ref().is_err_and(No::is_a_guess) {
        let now = resources.gateway.parts.clock.now();
        // Asked only of who is wrong: secrets here are beyond guessing, and whoever is right must not
        // be shut out by somebody else at the same address.
        if !resources.signing.guesses.may_try(origin.address, now) {
            return Err(No::too_many("too many wrong tries from your address; wait a minute"));
        }
        resources.signing.guesses.was_wrong(origin.address, now);
    }
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Value::Object(answer?).to_string()).into_response())
}

async fn granted(resources: &Resources, origin: &Origin, params: &Params) -> Result<Answer, No> {
    match params.need("grant_type")? {
        "authorization_code" => coded(resources, origin, params).await,
        "refresh_token" => renewed(resources, origin, params).await,
        DEVICE => polled(resources, origin, params).await,
        EXCHANGE => exchanged(resources, origin, params).await,
        _ => Err(No::new(
            "unsupported_grant_type",
            "use authorization_code, refresh_token, device_code or token-exchange",
        )),
    }
}

/// A one-time code, by the program that has its verifier, begins a login, or makes one stronger.
async fn coded(resources: &Resources, origin: &Origin, params: &Params) -> Result<Answer, No> {
    let now = resources.gateway.parts.clock.now();
    let code = params.need("code")?;
    let refused = || No::grant("the code was not accepted; begin again with weir login");
    let granted = match resources.signing.redeem(code, now).ok_or_else(refused)? {
        Code::Fresh(granted) => granted,
        Code::Used(login) => {
            // Somebody else has it too: what came of it ends (RFC 6749 §4.1.2).
            if let Some(login) = login {
                let ended = resources.gateway.logins.end(&login, LoginEnd::Replayed).await;
                ended.map_err(LoginError::Vault)?;
            }
            return Err(refused());
        }
    };
    let program = &granted.program;
    let verifier = params.need("code_verifier")?;
    let shown = base64url(Digest::of(verifier.as_bytes()).as_bytes());
    if params.need("client_id")? != CLIENT
        || params.need("redirect_uri")? != program.redirect_uri
        || verifier.len() > VERIFIER_BYTES_MAX
        || shown != program.challenge
    {
        return Err(refused());
    }
    if let Some(secret) = params.get("step_up_of") {
        return stepped_up(resources, origin, secret, &granted.who).await;
    }
    let device = device_of(origin, program.label.clone());
    let answer = begun(resources, origin, &granted.who, device, program.wanted.clone()).await?;
    let login = answer.get("login").and_then(Value::as_str).and_then(|id| id.parse().ok());
    if let Some(login) = login {
        resources.signing.came_of(code, login, now);
    }
    Ok(answer)
}

/// Makes the login that `secret` belongs to stronger, for the same person only.
async fn stepped_up(
    resources: &Resources,
    origin: &Origin,
    secret: &str,
    who: &SignedIn,
) -> Result<Answer, No> {
    let logins = &resources.gateway.logins;
    let refused = || No::grant("the credential was not accepted; sign in again with weir login");
    let (credential, login) = logins.whose(secret).await?.ok_or_else(refused)?;
    let (now, then) = (who.verified.principal(), &login.principal);
    if (&now.issuer, &now.subject) != (&then.issuer, &then.subject) {
        return Err(LoginError::SomebodyElse.into());
    }
    note(resources, origin, &login, "step-up")?;
    logins.step_up(&login.id, who).await?;
    let scope = credential.scope;
    let wanted = Wanted { uses: scope.uses, target: scope.target, host: None };
    let session = logins.issue(&login.id, Form::Session, wanted).await?;
    Ok(tokens(resources, &login, &session, None))
}

/// A device that asks whether somebody has typed its code.
async fn polled(resources: &Resources, origin: &Origin, params: &Params) -> Result<Answer, No> {
    let now = resources.gateway.parts.clock.now();
    let client = tame(params.need("client_id")?);
    let (waits, who) = resources.signing.poll(params.need("device_code")?, &client, now)?;
    let label = waits.label.clone().unwrap_or_else(|| waits.client.clone());
    let device = Device { address: waits.origin.address, label };
    begun(resources, origin, &who, device, waits.wanted).await
}

/// A provider's token, or that of a workload, begins a login; a session credential of ours gives a
/// narrower one of the same login.
async fn exchanged(resources: &Resources, origin: &Origin, params: &Params) -> Result<Answer, No> {
    let kind = params.get("subject_token_type");
    if kind.is_some_and(|kind| !TOKEN_TYPES.contains(&kind)) {
        return Err(No::request("subject_token_type names no kind of token that is taken here"));
    }
    let token = params.need("subject_token")?;
    let wanted = params.wanted()?;
    let mut answer = if token.starts_with("weir_") {
        narrowed(resources, origin, token, wanted).await?
    } else {
        let signed_in = resources.gateway.logins.identity().verify(token).await;
        let signed_in = signed_in.map_err(LoginError::Identity)?;
        begun(resources, origin, &signed_in, device_of(origin, params.shown("device")), wanted)
            .await?
    };
    let issued = "urn:ietf:params:oauth:token-type:access_token";
    answer.insert("issued_token_type".to_owned(), issued.into());
    Ok(answer)
}

/// A credential of the same login that is good for less.
async fn narrowed(
    resources: &Resources,
    origin: &Origin,
    secret: &str,
    wanted: Wanted,
) -> Result<Answer, No> {
    let refused = || No::grant("the credential was not accepted; sign in again with weir login");
    let claim = Claim::Secret(secret);
    let verified = resources.gateway.verify(&claim, Use::Control, None, origin).await;
    let verified = verified.map_err(|_| refused())?;
    let logins = &resources.gateway.logins;
    let (Some(login), Some(id)) = (verified.login(), verified.credential()) else {
        return Err(refused());
    };
    let credential = logins.credential(id).await.map_err(LoginError::Vault)?.ok_or_else(refused)?;
    let wanted = narrow(&credential.scope, wanted)?;
    let login = logins.login(login).await?;
    note(resources, origin, &login, "issue")?;
    let session = logins.issue(&login.id, Form::Session, wanted).await?;
    Ok(tokens(resources, &login, &session, None))
}

/// What is wanted, if the credential that asks has it itself; its own target stays.
pub(in crate::api) fn narrow(
    scope: &crate::model::login::Scope,
    wanted: Wanted,
) -> Result<Wanted, LoginError> {
    let target = match (&scope.target, wanted.target) {
        (Some(own), Some(asked)) if *own != asked => return Err(LoginError::TooWide),
        (Some(own), _) => Some(own.clone()),
        (None, asked) => asked,
    };
    if scope.host.is_some() || !wanted.uses.is_subset(&scope.uses) {
        return Err(LoginError::TooWide);
    }
    Ok(Wanted { uses: wanted.uses, target, host: None })
}

/// The same login, for longer.
async fn renewed(resources: &Resources, origin: &Origin, params: &Params) -> Result<Answer, No> {
    if params.get("scope").is_some() || params.get("target").is_some() {
        return Err(No::new("invalid_scope", "leave out scope: a renewal brings what there was"));
    }
    let logins = &resources.gateway.logins;
    let renewed = logins.renew(params.need("refresh_token")?).await?;
    let login = logins.login(&renewed.login).await?;
    note(resources, origin, &login, "renew")?;
    Ok(tokens(resources, &login, &renewed.session, Some(&renewed.renewal)))
}

/// Begins a login of somebody who has just signed in, and gives its first secrets.
pub(in crate::api) async fn begun(
    resources: &Resources,
    origin: &Origin,
    signed_in: &SignedIn,
    device: Device,
    wanted: Wanted,
) -> Result<Answer, No> {
    let (login, session) = first(resources, origin, signed_in, device, wanted.clone()).await?;
    let renewal = resources.gateway.logins.issue(&login.id, Form::Renewal, wanted).await?;
    Ok(tokens(resources, &login, &session, Some(&renewal)))
}

/// Begins a login, and issues its first session credential.
pub(in crate::api) async fn first(
    resources: &Resources,
    origin: &Origin,
    signed_in: &SignedIn,
    device: Device,
    wanted: Wanted,
) -> Result<(Login, Issued), No> {
    let login = start(resources, origin, signed_in, device).await?;
    let session = resources.gateway.logins.issue(&login.id, Form::Session, wanted).await?;
    Ok((login, session))
}

/// Begins a login, and says so in the ledger; one that cannot be recorded is ended.
pub(in crate::api) async fn start(
    resources: &Resources,
    origin: &Origin,
    signed_in: &SignedIn,
    device: Device,
) -> Result<Login, No> {
    let gateway = &resources.gateway;
    let login = gateway.logins.begin(signed_in, device).await?;
    if let Err(no) = note(resources, origin, &login, "login") {
        let why = LoginEnd::Revoked { by: "the gateway, which could not record it".to_owned() };
        if let Err(error) = gateway.logins.end(&login.id, why).await {
            tracing::error!(fault = "gateway", "{}", Chain(&error));
        }
        return Err(no);
    }
    let (at, principal) = (gateway.parts.clock.now(), Arc::clone(&login.principal));
    gateway.parts.journal.note(Note::Seen { at, principal });
    Ok(login)
}

/// Says in the ledger what is done to a login.
pub(in crate::api) fn note(
    resources: &Resources,
    origin: &Origin,
    login: &Login,
    action: &'static str,
) -> Result<(), No> {
    let of = login.id.to_string();
    let deed = Deed { who: &login.principal, origin, action, of, rules: Vec::new() };
    Ok(deed.note(resources)?)
}

/// The answer of RFC 6749 §5.1, with the gateway's own words.
pub(in crate::api) fn tokens(
    resources: &Resources,
    login: &Login,
    session: &Issued,
    renewal: Option<&Issued>,
) -> Answer {
    let now = resources.gateway.parts.clock.now();
    let credential = &session.credential;
    let expires_in = credential.expires_at.duration_since(now).as_secs().max(0);
    let mut answer = Map::new();
    let mut put = |name: &str, value: Value| answer.insert(name.to_owned(), value);
    put("access_token", session.secret.expose_secret().into());
    put("token_type", "Bearer".into());
    put("expires_in", expires_in.into());
    put("scope", scope(&credential.scope.uses).into());
    put("login", login.id.as_str().into());
    put("credential", credential.id.as_str().into());
    put("principal", login.principal.name.as_str().into());
    put("ends_at", json!(login.ends_at));
    if let Some(renewal) = renewal {
        put("refresh_token", renewal.secret.expose_secret().into());
    }
    if let Some(target) = &credential.scope.target {
        put("target", target.as_str().into());
    }
    answer
}
