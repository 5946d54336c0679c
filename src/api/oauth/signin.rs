//! A browser signs in at a provider and comes back: the same way whatever it is for.
//!
//! ```text
//! begin ─► (choose) ─► leave ─► provider ─► callback ─► confirm, or on to where it wanted to go
//! ```
//!
//! A cookie from before ties all steps to one browser: somebody else's callback URL, confirmation or
//! code is worth nothing in it, and its own are worth nothing elsewhere (RFC 9700 §4.7).

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use secrecy::ExposeSecret;
use secrecy::SecretString;

use crate::api::Resources;
use crate::api::Shared;
use crate::api::browser;
use crate::api::browser::Browser;
use crate::api::oauth::authorize;
use crate::api::oauth::fail::No;
use crate::api::oauth::login;
use crate::api::oauth::params::InUrl;
use crate::api::oauth::params::tame;
use crate::api::oauth::token;
use crate::api::pages::Page;
use crate::api::pages::in_url;
use crate::api::pages::redirect;
use crate::api::signing::Ask;
use crate::api::signing::Away;
use crate::api::signing::What;
use crate::identity::IdentityError;
use crate::identity::SignedIn;
use crate::identity::Wanted;
use crate::identity::fresh_secret;
use crate::model::Fault;
use crate::model::digest::Digest;
use crate::model::fault::Chain;
use crate::model::login::Device;
use crate::model::login::Form;
use crate::model::login::Use;

/// Longest path that a browser may be sent on to, in bytes.
const PATH_BYTES_MAX: usize = 2_048;

/// Begins: keeps what it is for, marks the browser, and sends it to a provider.
pub(in crate::api) async fn begin(
    resources: &Resources,
    browser: &mut Browser,
    ask: impl FnOnce(Digest) -> Ask,
    provider: Option<&str>,
) -> Response {
    let Kept { id, ask, cookie } = match keep(resources, browser, ask) {
        Ok(kept) => kept,
        Err(page) => return page.into_response(),
    };
    let id = id.expose_secret();
    let identity = resources.gateway.logins.identity();
    let choices = identity.providers();
    let response = match (provider, choices.as_slice()) {
        (_, []) => nowhere().into_response(),
        (None, [_, _, ..]) => choose(resources, id, &choices).into_response(),
        (provider, [_, ..]) => leave(resources, browser, (id, &ask), provider).await,
    };
    browser::set(response, cookie)
}

/// Begins after a form was posted. A redirect to the provider would have to be in the policy of that
/// form's page (CSP 3 §6.3.3), so this is a page that goes on by itself.
pub(in crate::api) fn begin_after_post(
    resources: &Resources,
    browser: &mut Browser,
    ask: impl FnOnce(Digest) -> Ask,
) -> Response {
    let Kept { id, cookie, .. } = match keep(resources, browser, ask) {
        Ok(kept) => kept,
        Err(page) => return page.into_response(),
    };
    let id = id.expose_secret();
    let choices = resources.gateway.logins.identity().providers();
    let page = match choices.as_slice() {
        [] => nowhere(),
        [only] => choose(resources, id, &choices).going_on(&to_provider(id, only)),
        [_, _, ..] => choose(resources, id, &choices),
    };
    browser::set(page.into_response(), cookie)
}

/// What a browser that begins is known by.
struct Kept {
    id: SecretString,
    ask: Ask,
    cookie: HeaderValue,
}

/// Keeps what it is for, and marks the browser.
fn keep(
    resources: &Resources,
    browser: &mut Browser,
    ask: impl FnOnce(Digest) -> Ask,
) -> Result<Kept, Page> {
    let (mark, cookie) = browser.marked().ok_or_else(ours)?;
    let id = fresh_secret("").ok_or_else(ours)?;
    let (ask, now) = (ask(mark), resources.gateway.parts.clock.now());
    let kept = resources.signing.put(id.expose_secret(), ask.clone(), browser.origin.address, now);
    kept.map_err(|no| busy(&no))?;
    Ok(Kept { id, ask, cookie })
}

/// A page of links to the providers.
fn choose(resources: &Resources, id: &str, choices: &[&str]) -> Page {
    let identity = resources.gateway.logins.identity();
    let mut page = Page::new(StatusCode::OK, "Where do you sign in?");
    for issuer in choices {
        let name = tame(identity.provider_name(issuer).unwrap_or(issuer));
        page = page.link(&to_provider(id, issuer), &name);
    }
    page
}

fn to_provider(id: &str, issuer: &str) -> String {
    format!("/oauth/signin?ask={}&provider={}", in_url(id), in_url(issuer))
}

/// `GET /oauth/signin`: the person chose a provider, or tries again.
pub(in crate::api) async fn signin(
    State(resources): Shared,
    browser: Browser,
    params: Result<InUrl, No>,
) -> Response {
    let now = resources.gateway.parts.clock.now();
    let Ok(InUrl(params)) = params else { return over().into_response() };
    let (Some(id), Some(mark)) = (params.get("ask"), browser.known()) else {
        return over().into_response();
    };
    match resources.signing.ask(id, &mark, now) {
        Some(ask) => leave(&resources, &browser, (id, &ask), params.get("provider")).await,
        None => over().into_response(),
    }
}

/// Sends the browser to a provider.
async fn leave(
    resources: &Resources,
    browser: &Browser,
    (id, ask): (&str, &Ask),
    provider: Option<&str>,
) -> Response {
    let identity = resources.gateway.logins.identity();
    let callback = format!("{}/oauth/callback", resources.gateway.url);
    let (url, pending) = match identity.start(provider, &callback, ask.step_up.as_ref()).await {
        Ok(started) => started,
        Err(error) => return refused(&error).into_response(),
    };
    let away = Away { ask: id.to_owned(), pending };
    let now = resources.gateway.parts.clock.now();
    match resources.signing.leaves(away, browser.origin.address, now) {
        Ok(()) => redirect(&url),
        Err(no) => busy(&no).into_response(),
    }
}

/// `GET /oauth/callback`: the browser is back from the provider.
pub(in crate::api) async fn callback(
    State(resources): Shared,
    browser: Browser,
    params: Result<InUrl, No>,
) -> Response {
    let now = resources.gateway.parts.clock.now();
    let Ok(InUrl(params)) = params else { return over().into_response() };
    let state = params.get("state").unwrap_or_default();
    let Some(away) = resources.signing.is_back(state, now) else { return over().into_response() };
    // Whoever began it must be whoever comes back: else somebody could be signed in as another.
    let ask = browser.known().and_then(|mark| resources.signing.ask(&away.ask, &mark, now));
    let Some(ask) = ask else {
        tracing::info!(fault = %Fault::Client, from = %browser.origin.address, "a callback in another browser");
        return over().into_response();
    };
    if let Err(error) = away.pending.answered(state, params.get("iss")) {
        return refused(&error).into_response();
    }
    if let Some(error) = params.get("error") {
        let said = params.shown("error_description").unwrap_or_default();
        return said_no(&resources, &away.ask, &ask, &tame(error), &said);
    }
    let identity = resources.gateway.logins.identity();
    let finished = identity.finish(&away.pending, params.get("code").unwrap_or_default()).await;
    let who = match finished {
        Ok(signed_in) => Arc::new(signed_in),
        Err(error) => return refused(&error).into_response(),
    };
    match &ask.what {
        What::Program(_) | What::Device(_) => {
            if !resources.signing.signed_in(&away.ask, who, now) {
                return over().into_response();
            }
            redirect(&format!("/oauth/confirm?ask={}", in_url(&away.ask)))
        }
        What::Browser(path) => {
            drop(resources.signing.take(&away.ask, &ask.browser, now));
            enter(&resources, &browser, &who, path).await
        }
    }
}

/// `GET /signin?return=/…`: signs this browser in, and sends it on within this host.
pub(in crate::api) async fn browser(
    State(resources): Shared,
    mut browser: Browser,
    params: Result<InUrl, No>,
) -> Response {
    let Ok(InUrl(params)) = params else { return over().into_response() };
    let path = params.get("return").unwrap_or("/");
    if !is_path(path) {
        return over().into_response();
    }
    let what = What::Browser(path.to_owned());
    let ask = |browser| Ask { browser, what, step_up: None, who: None };
    begin(&resources, &mut browser, ask, params.get("provider")).await
}

/// Begins a login for the browser, gives it its cookie and sends it on.
async fn enter(resources: &Resources, browser: &Browser, who: &SignedIn, path: &str) -> Response {
    if let Some(id) = login::of_same_person(resources, browser, who).await {
        let login = resources.gateway.logins.login(&id).await;
        let noted = login
            .map_err(No::from)
            .and_then(|login| token::note(resources, &browser.origin, &login, "step-up"));
        return match noted {
            Ok(()) => redirect(path),
            Err(no) => failed(&no).into_response(),
        };
    }
    let device = Device { address: browser.origin.address, label: "browser".to_owned() };
    let login = match token::start(resources, &browser.origin, who, device).await {
        Ok(login) => login,
        Err(no) => return failed(&no).into_response(),
    };
    let host = Some(resources.gateway.name.clone());
    let wanted = Wanted { host, ..Wanted::everything() };
    let issued = match resources.gateway.logins.issue(&login.id, Form::Cookie, wanted).await {
        Ok(issued) => issued,
        Err(error) => return failed(&No::from(error)).into_response(),
    };
    let now = resources.gateway.parts.clock.now();
    let seconds = login.ends_at.duration_since(now).as_secs();
    match browser::session_cookie(&issued.secret, seconds) {
        Some(cookie) => browser::set(redirect(path), cookie),
        None => ours().into_response(),
    }
}

/// What a login of a browser for itself is good for.
pub(in crate::api) fn uses_text(wanted: &Wanted) -> String {
    let mut words = wanted.uses.iter().map(|usage| match usage {
        Use::Control => "see and answer requests with the command line".to_owned(),
        Use::Target(protocol) => format!("sessions by {protocol}"),
    });
    let first = words.next().unwrap_or_default();
    let all = words.fold(first, |all, word| format!("{all}, {word}"));
    match &wanted.target {
        Some(target) => format!("{all}; only at {target}"),
        None => all,
    }
}

/// A path of this host's, and of no other: browsers take `//` and `/\` for another one.
fn is_path(path: &str) -> bool {
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    path.starts_with('/') && !path.starts_with("//") && plain && path.len() <= PATH_BYTES_MAX
}

/// The provider, or the person there, said no.
fn said_no(resources: &Resources, id: &str, ask: &Ask, error: &str, said: &str) -> Response {
    let now = resources.gateway.parts.clock.now();
    drop(resources.signing.take(id, &ask.browser, now));
    if let What::Program(program) = &ask.what {
        let no = No::new("access_denied", "nobody signed in at the identity provider");
        let state = program.state.as_deref();
        return authorize::back(&resources.gateway.url, &program.redirect_uri, state, &no);
    }
    Page::new(StatusCode::FORBIDDEN, "The identity provider says no")
        .text("You were not signed in there.")
        .facts(&[("It says", format!("{error} {said}").trim().to_owned())])
        .text("Begin again where you came from; if it stays so, ask whoever runs the provider.")
        .into_response()
}

/// The sign-in failed.
fn refused(error: &IdentityError) -> Page {
    tracing::info!(fault = %error.fault(), "sign-in refused: {}", Chain(error));
    match error.fault() {
        Fault::Client | Fault::Target => Page::sorry(
            StatusCode::FORBIDDEN,
            "You were not signed in",
            "What the identity provider says about you was not accepted here.",
            "Begin again where you came from; the gateway's log says what was wrong.",
        ),
        Fault::Provider => Page::sorry(
            StatusCode::BAD_GATEWAY,
            "The identity provider cannot be reached",
            "This is neither your fault nor the gateway's.",
            "Try again in a minute; if it stays so, tell whoever runs the gateway.",
        ),
        Fault::Gateway => ours(),
    }
}

/// What an OAuth no is on a page.
pub(in crate::api) fn failed(no: &No) -> Page {
    Page::sorry(no.status, "This did not work", &no.description, "Begin again where you came from.")
}

fn nowhere() -> Page {
    Page::sorry(
        StatusCode::NOT_IMPLEMENTED,
        "Nobody can sign in with a browser here",
        "No identity provider is configured for it at this gateway.",
        "Ask whoever runs the gateway to configure a client for one ([providers.client]).",
    )
}

fn busy(no: &No) -> Page {
    let advice = "Wait a minute and begin again where you came from.";
    Page::sorry(no.status, "Not now", &no.description, advice)
}

/// The page that is shown for whatever does not belong to this browser or is over.
pub(in crate::api) fn over() -> Page {
    Page::sorry(
        StatusCode::BAD_REQUEST,
        "This page is over, or not yours",
        "It belongs to a sign-in that took longer than ten minutes, was finished already, or was \
         begun in another browser. Nothing was signed in.",
        "Begin again where you came from.",
    )
}

pub(in crate::api) fn ours() -> Page {
    Page::sorry(
        StatusCode::SERVICE_UNAVAILABLE,
        "The gateway cannot do this now",
        "This is its own fault; its log says what is wrong.",
        "Try again in a minute; if it stays so, tell whoever runs the gateway.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_sent_on_within_this_host_only() {
        for good in ["/", "/login?target=wiki&return=%2Fa"] {
            assert!(is_path(good), "{good}");
        }
        for bad in ["", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nb", "a"]
        {
            assert!(!is_path(bad), "{bad}");
        }
    }
}
