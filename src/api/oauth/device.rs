//! Signing in on another device: a program, or a connection, shows a link and a code, and waits
//! (RFC 8628; for connections, [`crate::session::invitation`]).

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use axum::response::Response;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::api::Resources;
use crate::api::Shared;
use crate::api::browser;
use crate::api::browser::Browser;
use crate::api::oauth::confirm;
use crate::api::oauth::fail::No;
use crate::api::oauth::params::InUrl;
use crate::api::oauth::params::Params;
use crate::api::oauth::params::tame;
use crate::api::oauth::signin;
use crate::api::oauth::token;
use crate::api::pages::Page;
use crate::api::pages::in_url;
use crate::api::signing::Ask;
use crate::api::signing::DEVICE_S_MAX;
use crate::api::signing::INTERVAL_S;
use crate::api::signing::Waits;
use crate::api::signing::What;
use crate::identity::Claim;
use crate::identity::SignedIn;
use crate::identity::Wanted;
use crate::identity::fresh_secret;
use crate::model::Origin;
use crate::model::login::Device;
use crate::model::login::LoginEnd;
use crate::model::login::Use;
use crate::session::invitation;

use jiff::Timestamp;

/// How often a fresh code is tried for before giving up: 40 random bits seldom meet.
const TRIES: usize = 3;
/// What the CSRF token of the form for codes is about.
const FORM: &str = "device";

/// `POST /oauth/device_authorization` (RFC 8628 §3.1).
pub(in crate::api) async fn authorization(
    State(resources): Shared,
    Extension(origin): Extension<Origin>,
    params: Result<Params, No>,
) -> Result<Response, No> {
    let params = params?;
    let client = tame(params.need("client_id")?);
    let now = resources.gateway.parts.clock.now();
    let waits = Waits::new(client, params.shown("device"), origin, params.wanted()?, now);
    let missing = || No::unavailable("the gateway has no random numbers; try again");
    let secret = fresh_secret("weir_d_").ok_or_else(missing)?;
    for _ in 0..TRIES {
        let typed = invitation::fresh_code();
        if resources.gateway.invitations.find(&typed, now).is_some() {
            continue;
        }
        resources.signing.waits((&typed, secret.expose_secret()), waits, now)?;
        let (url, shown) = (&resources.gateway.url, invitation::shown_code(&typed));
        let answer = json!({
            "device_code": secret.expose_secret(),
            "user_code": shown,
            "verification_uri": format!("{url}/device"),
            "verification_uri_complete": format!("{url}/device?code={}", in_url(&shown)),
            "expires_in": DEVICE_S_MAX,
            "interval": INTERVAL_S,
        });
        return Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response());
    }
    Err(missing())
}

/// `GET /device`: a form for the code, filled in if the link has it. It asks nobody anything yet.
pub(in crate::api) async fn show(
    State(_resources): Shared,
    mut browser: Browser,
    params: Result<InUrl, No>,
) -> Response {
    let code = params.ok().and_then(|InUrl(params)| params.get("code").map(tame));
    let Some((_, cookie)) = browser.marked() else { return signin::ours().into_response() };
    let csrf = browser.csrf(FORM).unwrap_or_default();
    let page = Page::new(StatusCode::OK, "Sign in for a program or connection")
        .text("Type the code that it shows, or compare it if it is there already.")
        .code_form("/device", &[("csrf", &csrf)], code.as_deref().unwrap_or_default())
        .careful("A code that somebody sent you is not yours: close this page.");
    browser::set(page.into_response(), cookie)
}

/// `POST /device`: the code was typed; the person signs in, and is then asked.
pub(in crate::api) async fn typed(
    State(resources): Shared,
    mut browser: Browser,
    params: Result<Params, No>,
) -> Response {
    let params = match params {
        Ok(params) => params,
        Err(no) => return signin::failed(&no).into_response(),
    };
    if !browser.sent_by(FORM, params.get("csrf")) {
        return confirm::foreign().into_response();
    }
    let (address, now) = (browser.origin.address, resources.gateway.parts.clock.now());
    if !resources.signing.typed.may_try(address, now) {
        let no = No::too_many("Too many wrong codes came from your address.");
        let advice = "Wait a minute, then type the code again.";
        return Page::sorry(no.status, "Not now", &no.description, advice).into_response();
    }
    let code = params.get("code").and_then(invitation::plain_code);
    let found = code.filter(|code| asker(&resources, code, now).is_some());
    let Some(code) = found else {
        resources.signing.typed.was_wrong(address, now);
        return gone().into_response();
    };
    let what = What::Device(code);
    let ask = |browser| Ask { browser, what, step_up: None, who: None };
    signin::begin_after_post(&resources, &mut browser, ask)
}

/// Who waits under a code.
#[derive(Debug)]
pub(in crate::api) enum Asker {
    /// A program, by the device grant.
    Device(Box<Waits>),
    /// A connection, by an invitation.
    Connection(Box<invitation::Open>),
}

impl Asker {
    /// From where it asks.
    pub(in crate::api) fn origin(&self) -> &Origin {
        match self {
            Self::Device(waits) => &waits.origin,
            Self::Connection(open) => &open.asks.origin,
        }
    }
}

/// Finds who waits under a code.
pub(in crate::api) fn asker(resources: &Resources, code: &str, now: Timestamp) -> Option<Asker> {
    let device = resources.signing.device(code, now).map(|waits| Asker::Device(Box::new(waits)));
    device.or_else(|| {
        let open = resources.gateway.invitations.find(code, now)?;
        Some(Asker::Connection(Box::new(open)))
    })
}

/// Gives whoever waits under a code its answer.
pub(in crate::api) async fn answer(
    resources: &Resources,
    origin: &Origin,
    code: &str,
    who: Option<Arc<SignedIn>>,
) -> Response {
    let now = resources.gateway.parts.clock.now();
    let Some(asker) = asker(resources, code, now) else { return gone().into_response() };
    let approved = who.is_some();
    let done = match (&asker, who) {
        (Asker::Device(_), who) => Ok(resources.signing.answer_device(code, who, now)),
        (Asker::Connection(_), None) => Ok(resources.gateway.invitations.decline(code, now)),
        (Asker::Connection(open), Some(who)) => let_in(resources, origin, code, open, &who).await,
    };
    match done {
        Ok(true) if approved => Page::new(StatusCode::OK, "It is signed in")
            .text("Go back to where it waits. You can close this page.")
            .into_response(),
        Ok(true) => Page::new(StatusCode::OK, "It was turned away")
            .text("Whoever asked was not let in. You can close this page.")
            .text("If somebody sent you the link, tell your security team.")
            .into_response(),
        Ok(false) => gone().into_response(),
        Err(no) => signin::failed(&no).into_response(),
    }
}

/// Begins a login for a connection that waits, and lets it go on.
async fn let_in(
    resources: &Resources,
    origin: &Origin,
    code: &str,
    open: &invitation::Open,
    who: &SignedIn,
) -> Result<bool, No> {
    let (gateway, asks) = (&resources.gateway, &open.asks);
    let usage = asks.protocol.map_or(Use::Control, Use::Target);
    let name = asks.protocol.map_or("a program".to_owned(), |protocol| protocol.to_string());
    let address = asks.origin.address;
    let device = Device { address, label: format!("{name} from {address}") };
    let target = asks.target.as_deref().map(str::parse).transpose();
    let target = target.map_err(|_| No::request("the connection names no target"))?;
    let wanted = Wanted { uses: [usage].into(), target, host: None };
    let (login, session) = token::first(resources, origin, who, device, wanted).await?;
    let claim = Claim::Secret(session.secret.expose_secret());
    let target = asks.target.as_deref();
    let verified = gateway.verify(&claim, usage, target, &asks.origin).await;
    let verified = verified.map_err(|refusal| No::grant(refusal.reason))?;
    if gateway.invitations.accept(code, verified, gateway.parts.clock.now()) {
        return Ok(true);
    }
    // Nobody waits any more: what was begun for it is of no use.
    let ended = gateway.logins.end(&login.id, LoginEnd::LoggedOut).await;
    ended.map_err(crate::identity::LoginError::Vault)?;
    Ok(false)
}

/// The page for a code that nobody waits under.
pub(in crate::api) fn gone() -> Page {
    Page::sorry(
        StatusCode::NOT_FOUND,
        "Nobody waits under this code",
        "It is mistyped, or it is over: a code is good for some minutes and counts once.",
        "Look at the code again, or begin again where it was shown.",
    )
    .link("/device", "Type a code")
}
