//! `/oauth/confirm`: the page on which somebody who has signed in says that it was them who asked.
//!
//! The danger is to be talked into signing in for a stranger's program. So the page names who asks,
//! from where and for what; it is answered by a POST of its own form and never by a link; and the
//! answer counts once.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use jiff::Timestamp;
use jiff::Unit;
use secrecy::ExposeSecret;

use crate::api::Resources;
use crate::api::Shared;
use crate::api::browser::Browser;
use crate::api::oauth::authorize;
use crate::api::oauth::device;
use crate::api::oauth::device::Asker;
use crate::api::oauth::fail::No;
use crate::api::oauth::params::InUrl;
use crate::api::oauth::params::Params;
use crate::api::oauth::signin;
use crate::api::pages::Page;
use crate::api::pages::redirect;
use crate::api::signing::Granted;
use crate::api::signing::Program;
use crate::api::signing::What;
use crate::identity::SignedIn;
use crate::identity::fresh_secret;
use crate::model::Origin;

/// Shows the page. Looking at it does nothing.
pub(in crate::api) async fn show(
    State(resources): Shared,
    browser: Browser,
    params: Result<InUrl, No>,
) -> Response {
    let now = resources.gateway.parts.clock.now();
    let Ok(InUrl(params)) = params else { return signin::over().into_response() };
    let (Some(id), Some(mark)) = (params.get("ask"), browser.known()) else {
        return signin::over().into_response();
    };
    let ask = resources.signing.ask(id, &mark, now);
    let (Some((what, Some(who))), Some(csrf)) =
        (ask.map(|ask| (ask.what, ask.who)), browser.csrf(id))
    else {
        return signin::over().into_response();
    };
    let fields = [("ask", id), ("csrf", csrf.as_str())];
    match what {
        What::Program(program) => {
            let facts = of_program(&program, &browser.origin);
            let origin = authorize::origin_of(&program.redirect_uri);
            page(&who, &facts, None, &fields).leading_to(origin).into_response()
        }
        What::Device(code) => match device::asker(&resources, &code, now) {
            Some(asker) => {
                let other = asker.origin().address != browser.origin.address;
                let careful = other.then(|| {
                    format!(
                        "It asks from {}, and you are at {}. Go on only if you know why.",
                        asker.origin(),
                        browser.origin
                    )
                });
                page(&who, &of_asker(&asker), careful, &fields).into_response()
            }
            None => device::gone().into_response(),
        },
        What::Browser(_) => signin::over().into_response(),
    }
}

/// Takes the answer.
pub(in crate::api) async fn answer(
    State(resources): Shared,
    browser: Browser,
    params: Result<Params, No>,
) -> Response {
    let now = resources.gateway.parts.clock.now();
    let params = match params {
        Ok(params) => params,
        Err(no) => return signin::failed(&no).into_response(),
    };
    let (Some(id), Some(mark)) = (params.get("ask"), browser.known()) else {
        return signin::over().into_response();
    };
    if !browser.sent_by(id, params.get("csrf")) {
        return foreign().into_response();
    }
    let approved = match params.get("answer") {
        Some("approve") => true,
        Some("decline") => false,
        Some(_) | None => return signin::over().into_response(),
    };
    let ask = resources.signing.take(id, &mark, now);
    let Some((what, Some(who))) = ask.map(|ask| (ask.what, ask.who)) else {
        return signin::over().into_response();
    };
    match what {
        What::Program(program) => to_program(&resources, &browser, program, who, approved),
        What::Device(code) => {
            device::answer(&resources, &browser.origin, &code, approved.then_some(who)).await
        }
        What::Browser(_) => signin::over().into_response(),
    }
}

/// Sends the browser back to the program with a code, or with a no.
fn to_program(
    resources: &Resources,
    browser: &Browser,
    program: Program,
    who: Arc<SignedIn>,
    approved: bool,
) -> Response {
    let (url, state) = (&resources.gateway.url, program.state.clone());
    let redirect_uri = program.redirect_uri.clone();
    if !approved {
        let no = No::new("access_denied", "the person who signed in says that it was not them");
        return authorize::back(url, &redirect_uri, state.as_deref(), &no);
    }
    let Some(code) = fresh_secret("weir_a_") else { return signin::ours().into_response() };
    let (code, now) = (code.expose_secret(), resources.gateway.parts.clock.now());
    let granted = Granted { program, who };
    match resources.signing.grant(code, granted, browser.origin.address, now) {
        Ok(()) => {
            let answer = format!("code={code}");
            redirect(&authorize::returning(url, &redirect_uri, state.as_deref(), &answer))
        }
        Err(no) => authorize::back(url, &redirect_uri, state.as_deref(), &no),
    }
}

fn page(
    who: &SignedIn,
    facts: &[(&str, String)],
    careful: Option<String>,
    fields: &[(&str, &str); 2],
) -> Page {
    let principal = who.verified.principal();
    let mut all = vec![("You are", format!("{} ({})", principal.name, principal.issuer))];
    all.extend(facts.iter().cloned());
    let mut page = Page::new(StatusCode::OK, "Is it you who asks?").facts(&all);
    if let Some(careful) = careful {
        page = page.careful(&careful);
    }
    let [ask, csrf] = *fields;
    page.careful("Go on only if you began this yourself, just now. Nobody else may ask you to.")
        .button("/oauth/confirm", &[ask, csrf, ("answer", "approve")], "Yes, sign it in")
        .button("/oauth/confirm", &[ask, csrf, ("answer", "decline")], "This was not me")
}

fn of_program(program: &Program, origin: &Origin) -> Vec<(&'static str, String)> {
    let label = program.label.as_deref().unwrap_or("nothing about itself");
    vec![
        ("Who asks", format!("weir on this machine; it says that it is \"{label}\"")),
        ("From where", origin.to_string()),
        ("It gets", signin::uses_text(&program.wanted)),
        ("Until", "you log out, at the latest at the end of your working day".to_owned()),
    ]
}

fn of_asker(asker: &Asker) -> Vec<(&'static str, String)> {
    match asker {
        Asker::Device(waits) => {
            let label = waits.label.as_deref().unwrap_or("nothing more");
            vec![
                (
                    "Who asks",
                    format!("a program that says it is \"{}\" and \"{label}\"", waits.client),
                ),
                ("From where", waits.origin.to_string()),
                ("It gets", signin::uses_text(&waits.wanted)),
                ("Until", "you log out, at the latest at the end of your working day".to_owned()),
                ("Its code is open until", clock(waits.until)),
            ]
        }
        Asker::Connection(open) => {
            let asks = &open.asks;
            let program = crate::api::oauth::params::tame(&asks.program);
            let protocol = asks.protocol.map_or("the command line".to_owned(), |p| p.to_string());
            let target = asks.target.as_deref().map(crate::api::oauth::params::tame);
            vec![
                (
                    "Who asks",
                    format!("a connection by {protocol}; its program says it is \"{program}\""),
                ),
                ("To which target", target.unwrap_or_else(|| "none in particular".to_owned())),
                ("From where", asks.origin.to_string()),
                ("It gets", "this one connection".to_owned()),
                ("It waits until", clock(open.until)),
            ]
        }
    }
}

/// A time to the minute.
fn clock(at: Timestamp) -> String {
    let minute = at.round(Unit::Minute).unwrap_or(at);
    format!("{minute}").replace('T', " ").replace(":00Z", " UTC")
}

/// The page for a POST that no page of ours sent.
pub(in crate::api) fn foreign() -> Page {
    Page::sorry(
        StatusCode::FORBIDDEN,
        "This did not come from a page of this gateway",
        "Another site may have tried to answer for you. Nothing was done.",
        "Begin again where you came from.",
    )
}
