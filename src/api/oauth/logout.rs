//! The ends of logins: a browser's, a program's, and those that a provider orders.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::api::Shared;
use crate::api::browser;
use crate::api::browser::Browser;
use crate::api::note::Deed;
use crate::api::oauth::confirm;
use crate::api::oauth::fail::No;
use crate::api::oauth::params::Params;
use crate::api::oauth::signin;
use crate::api::oauth::token;
use crate::api::pages::Page;
use crate::identity::LoginError;
use crate::model::Fault;
use crate::model::Origin;
use crate::model::fault::Chain;
use crate::model::login::Form;
use crate::model::login::LoginEnd;

/// `GET /logout`: a page with a button. Looking at it ends nothing.
pub(in crate::api) async fn show(State(resources): Shared, browser: Browser) -> Response {
    match (browser.who(&resources).await, browser.logout_csrf()) {
        (Some(who), Some(csrf)) => Page::new(StatusCode::OK, "Log out?")
            .facts(&[("You are", who.principal().name.clone())])
            .text("This ends what this browser has open at every target, at once.")
            .button("/logout", &[("csrf", &csrf)], "Log out")
            .into_response(),
        (_, None) | (None, _) => logged_out("This browser is not signed in here"),
    }
}

/// `POST /logout`: ends the browser's login.
pub(in crate::api) async fn logout(
    State(resources): Shared,
    browser: Browser,
    params: Result<Params, No>,
) -> Response {
    let csrf = params.ok().and_then(|params| params.get("csrf").map(str::to_owned));
    if !browser.logs_out(csrf.as_deref()) {
        return confirm::foreign().into_response();
    }
    let who = browser.who(&resources).await;
    let Some((verified, login)) = who.and_then(|who| Some((who.clone(), who.login()?.clone())))
    else {
        return logged_out("This browser is not signed in here");
    };
    let (who, origin) = (verified.principal(), &browser.origin);
    let deed = Deed { who, origin, action: "logout", of: login.to_string(), rules: Vec::new() };
    if let Err(fail) = deed.note(&resources) {
        return signin::failed(&No::from(fail)).into_response();
    }
    match resources.gateway.logins.end(&login, LoginEnd::LoggedOut).await {
        Ok(_) => logged_out("You are logged out"),
        Err(error) => signin::failed(&No::from(LoginError::Vault(error))).into_response(),
    }
}

fn logged_out(title: &str) -> Response {
    let page = Page::new(StatusCode::OK, title)
        .text("You may still be signed in at your identity provider.");
    browser::clear(page.into_response())
}

/// `POST /oauth/revoke` (RFC 7009): a session credential ends; a renewal secret ends the login with
/// all that it has. What is not known is answered alike (§2.2).
pub(in crate::api) async fn revoke(
    State(resources): Shared,
    Extension(origin): Extension<Origin>,
    params: Result<Params, No>,
) -> Result<Response, No> {
    let params = params?;
    let now = resources.gateway.parts.clock.now();
    let logins = &resources.gateway.logins;
    if let Some((credential, login)) = logins.whose(params.need("token")?).await? {
        let ends_login = credential.form == Form::Renewal;
        token::note(&resources, &origin, &login, if ends_login { "logout" } else { "revoke" })?;
        let ended = if ends_login {
            logins.end(&login.id, LoginEnd::LoggedOut).await
        } else {
            let by = login.principal.name.clone();
            logins.revoke(&credential.id, LoginEnd::Revoked { by }).await
        };
        ended.map_err(LoginError::Vault)?;
    } else if resources.signing.guesses.may_try(origin.address, now) {
        resources.signing.guesses.was_wrong(origin.address, now);
    } else {
        // Only to who is wrong: nobody at the same address is kept from ending what is theirs.
        return Err(No::too_many("too many wrong tries from your address; wait a minute"));
    }
    Ok(([(CACHE_CONTROL, "no-store")], StatusCode::OK).into_response())
}

/// `POST /oauth/backchannel_logout`: a provider says that somebody's session there is over (OpenID
/// Connect Back-Channel Logout 1.0 §2.5 to §2.8).
pub(in crate::api) async fn by_provider(
    State(resources): Shared,
    Extension(origin): Extension<Origin>,
    params: Result<Params, No>,
) -> Result<Response, No> {
    let params = params?;
    let logins = &resources.gateway.logins;
    let identity = logins.identity();
    let order = identity.logout_order(params.need("logout_token")?).await.map_err(|error| {
        tracing::info!(fault = %error.fault(), from = %origin.address, "logout refused: {}", Chain(&error));
        match error.fault() {
            Fault::Client | Fault::Target => No::request("the logout token was not accepted"),
            Fault::Provider | Fault::Gateway => No::from_identity(&error),
        }
    })?;
    let (subject, sid) = (order.subject.as_deref(), order.sid.as_deref());
    match logins.end_of_provider(&order.issuer, subject, sid).await {
        Ok(ended) => {
            tracing::info!(issuer = %order.issuer, ended = ended.len(), "a provider ended logins");
            // They have ended, whether that can be recorded or not.
            for login in &ended {
                if let Err(no) = token::note(&resources, &origin, login, "provider-logout") {
                    tracing::error!(fault = "gateway", login = %login.id, "{}", no.description);
                }
            }
            Ok(([(CACHE_CONTROL, "no-store")], StatusCode::OK).into_response())
        }
        Err(error) => {
            // So that the provider's next try counts.
            identity.logout_failed(&order);
            Err(No::from(LoginError::Vault(error)))
        }
    }
}
