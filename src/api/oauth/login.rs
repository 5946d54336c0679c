//! `GET /login`: a browser comes from a target's host to be signed in there (the other half is
//! `session::handoff`). Signed in once at the gateway's own host, it is sent right back.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use secrecy::ExposeSecret;

use crate::api::Resources;
use crate::api::Shared;
use crate::api::browser::Browser;
use crate::api::oauth::authorize;
use crate::api::oauth::fail::No;
use crate::api::oauth::params::InUrl;
use crate::api::oauth::params::Params;
use crate::api::oauth::signin;
use crate::api::pages::Page;
use crate::api::pages::in_url;
use crate::api::pages::redirect;
use crate::api::signing::Ask;
use crate::api::signing::What;
use crate::identity::Verified;
use crate::model::LoginId;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::login::StepUp;
use crate::session::handoff::Handoff;
use crate::session::handoff::is_path;

pub(in crate::api) async fn login(
    State(resources): Shared,
    mut browser: Browser,
    params: Result<InUrl, No>,
) -> Response {
    let Ok(InUrl(params)) = params else { return not_right().into_response() };
    let Some((target, bind, back)) = way(&params) else { return not_right().into_response() };
    let Ok(step_up) = authorize::step_up(&params) else { return not_right().into_response() };
    let who = browser.who(&resources).await;
    let strong = who.filter(|who| meets(&resources, who, step_up.as_ref()));
    if let Some(login) = strong.as_ref().and_then(Verified::login) {
        let handoff = Handoff { login: login.clone(), target, bind, back };
        return enter(&resources, handoff);
    }
    // What is asked of the sign-in is met by then; asked again, it would go round and round.
    let path = format!("/login?target={target}&bind={bind}&return={}", in_url(&back));
    let what = What::Browser(path);
    let ask = |browser| Ask { browser, what, step_up, who: None };
    signin::begin(&resources, &mut browser, ask, params.get("provider")).await
}

/// Where the browser comes from, and what it keeps there.
fn way(params: &Params) -> Option<(TargetName, Digest, String)> {
    let target = params.get("target")?.parse().ok()?;
    let bind = params.get("bind")?.parse().ok()?;
    let back = params.get("return").filter(|back| is_path(back))?.to_owned();
    Some((target, bind, back))
}

/// Whether somebody's login is as fresh and strong as is asked.
fn meets(resources: &Resources, who: &Verified, step_up: Option<&StepUp>) -> bool {
    let Some(step_up) = step_up else { return true };
    let Some(authentication) = who.authentication() else { return false };
    let age_s = resources.gateway.parts.clock.now().duration_since(authentication.at).as_secs();
    let young = step_up.age_s_max.is_none_or(|max| u64::try_from(age_s).is_ok_and(|s| s <= max));
    young && (step_up.acr.is_none() || step_up.acr == authentication.acr)
}

/// Sends the browser to the target's host, with a code that counts once and only in it.
fn enter(resources: &Resources, handoff: Handoff) -> Response {
    let gateway = &resources.gateway;
    let host = gateway.url.strip_prefix("https://").unwrap_or(&gateway.url);
    let url = format!("https://{}.{host}/.weir/enter", handoff.target);
    match gateway.handoffs.offer(handoff, gateway.parts.clock.now()) {
        Ok(code) => redirect(&format!("{url}?code={}", code.expose_secret())),
        Err(refusal) => {
            let advice = refusal.hint.as_deref().unwrap_or("Try again.");
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Page::sorry(status, "Not now", &refusal.reason, advice).into_response()
        }
    }
}

/// Makes the login that a browser has stronger, if the same person signed in again.
pub(in crate::api) async fn of_same_person(
    resources: &Resources,
    browser: &Browser,
    who: &crate::identity::SignedIn,
) -> Option<LoginId> {
    let verified = browser.who(resources).await?;
    let login = verified.login()?;
    resources.gateway.logins.step_up(login, who).await.ok()?;
    Some(login.clone())
}

fn not_right() -> Page {
    Page::sorry(
        StatusCode::BAD_REQUEST,
        "This link is not right",
        "It does not say where you come from.",
        "Open the target's own address again.",
    )
}
