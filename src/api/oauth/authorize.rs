//! `GET /oauth/authorize`: a program on the person's machine asks for a login (RFC 6749 §4.1 with
//! RFC 7636, RFC 8252 and RFC 9207).

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::api::Shared;
use crate::api::browser::Browser;
use crate::api::oauth::CLIENT;
use crate::api::oauth::fail::No;
use crate::api::oauth::params::InUrl;
use crate::api::oauth::params::Params;
use crate::api::oauth::signin;
use crate::api::pages::Page;
use crate::api::pages::in_url;
use crate::api::pages::redirect;
use crate::api::signing::Ask;
use crate::api::signing::Program;
use crate::api::signing::What;
use crate::model::login::StepUp;

/// How long ago a sign-in may be that was asked to be fresh, in seconds.
const FRESH_S: u64 = 300;
/// Longest address to return to, in bytes.
const REDIRECT_BYTES_MAX: usize = 512;
/// Longest `state`, in bytes.
const STATE_BYTES_MAX: usize = 1_024;
/// How long a challenge is: SHA-256 in base64url (RFC 7636 §4.2).
const CHALLENGE_SIGNS: usize = 43;

pub(in crate::api) async fn authorize(
    State(resources): Shared,
    mut browser: Browser,
    params: Result<InUrl, No>,
) -> Response {
    let params = match params {
        Ok(InUrl(params)) => params,
        Err(no) => return not_ours(&no.description).into_response(),
    };
    // Before these two are known to be right, nobody is sent anywhere (RFC 6749 §4.1.2.1).
    let redirect_uri = match (params.get("client_id"), params.get("redirect_uri")) {
        (Some(CLIENT), Some(uri)) if is_loopback(uri) => uri.to_owned(),
        (Some(CLIENT), _) => {
            return not_ours(
                "Its redirect_uri must be http://127.0.0.1:PORT/… or http://[::1]:PORT/….",
            )
            .into_response();
        }
        (_, _) => {
            return not_ours("Its client_id is not known. Programs here are weir-cli.")
                .into_response();
        }
    };
    let state = params.get("state").filter(|state| state.len() <= STATE_BYTES_MAX);
    let state = state.map(str::to_owned);
    match program(&params, redirect_uri.clone(), state.clone()) {
        Ok((program, step_up)) => {
            let what = What::Program(program);
            let ask = |browser| Ask { browser, what, step_up, who: None };
            signin::begin(&resources, &mut browser, ask, params.get("provider")).await
        }
        Err(no) => back(&resources.gateway.url, &redirect_uri, state.as_deref(), &no),
    }
}

/// What the program asks for.
fn program(
    params: &Params,
    redirect_uri: String,
    state: Option<String>,
) -> Result<(Program, Option<StepUp>), No> {
    if params.need("response_type")? != "code" {
        return Err(No::new("unsupported_response_type", "use response_type=code"));
    }
    if params.get("state").is_some() && state.is_none() {
        return Err(No::request("state is too long"));
    }
    if params.get("code_challenge_method") != Some("S256") {
        return Err(No::request("use code_challenge_method=S256 (RFC 7636)"));
    }
    let challenge = params.need("code_challenge")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if challenge.len() != CHALLENGE_SIGNS || !challenge.bytes().all(plain) {
        return Err(No::request("code_challenge is not a SHA-256 in base64url"));
    }
    let program = Program {
        redirect_uri,
        state,
        challenge: challenge.to_owned(),
        label: params.shown("device"),
        wanted: params.wanted()?,
    };
    Ok((program, step_up(params)?))
}

/// What the sign-in must be like (OpenID Connect Core 1.0 §3.1.2.1, RFC 9470 §4).
pub(in crate::api) fn step_up(params: &Params) -> Result<Option<StepUp>, No> {
    let fresh = match params.get("prompt") {
        None => false,
        Some("login") => true,
        Some("none") => {
            return Err(No::new(
                "interaction_required",
                "a person has to confirm; leave out prompt",
            ));
        }
        Some(_) => return Err(No::request("prompt can only be login")),
    };
    let age = params.get("max_age").map(str::parse::<u64>).transpose();
    let age = age.map_err(|_| No::request("max_age is a number of seconds"))?;
    let acr = params.get("acr_values").map(str::to_owned);
    if acr.as_ref().is_some_and(|acr| acr.contains(' ')) {
        return Err(No::request("acr_values can only name one"));
    }
    if !fresh && age.is_none() && acr.is_none() {
        return Ok(None);
    }
    let age_s_max = age.or(fresh.then_some(FRESH_S));
    Ok(Some(StepUp { age_s_max, acr, amr: std::collections::BTreeSet::new() }))
}

/// Whether a program of this machine waits there: a loopback address, whatever the port (RFC 8252
/// §7.3). A name such as `localhost` could be somebody else's (§8.3).
fn is_loopback(uri: &str) -> bool {
    let rest =
        ["http://127.0.0.1:", "http://[::1]:"].iter().find_map(|head| uri.strip_prefix(head));
    let Some(rest) = rest else { return false };
    let (port, path) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
    uri.len() <= REDIRECT_BYTES_MAX
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0)
        && path.bytes().all(plain)
}

/// The origin of an address to return to, as a policy for forms has it. Such policies cannot name
/// IPv6 addresses (CSP 3 §2.3.1), so for those it is every address.
pub(in crate::api) fn origin_of(redirect_uri: &str) -> String {
    let host = redirect_uri.strip_prefix("http://127.0.0.1:");
    match host {
        Some(rest) => {
            let port = rest.split('/').next().unwrap_or_default();
            format!("http://127.0.0.1:{port}")
        }
        None => "http:".to_owned(),
    }
}

/// Sends the browser back to the program with a no (RFC 6749 §4.1.2.1).
pub(in crate::api) fn back(
    issuer: &str,
    redirect_uri: &str,
    state: Option<&str>,
    no: &No,
) -> Response {
    let (error, description) = (no.error, in_url(&no.description));
    let answer = format!("error={error}&error_description={description}");
    redirect(&returning(issuer, redirect_uri, state, &answer))
}

/// The address of the program with an answer in it.
pub(in crate::api) fn returning(
    issuer: &str,
    redirect_uri: &str,
    state: Option<&str>,
    answer: &str,
) -> String {
    let mut url = format!("{redirect_uri}?{answer}&iss={}", in_url(issuer));
    if let Some(state) = state {
        url.push_str("&state=");
        url.push_str(&in_url(state));
    }
    url
}

fn not_ours(why: &str) -> Page {
    let title = "This link is not right";
    Page::new(StatusCode::BAD_REQUEST, title)
        .text("The program that opened this page asked in a way that this gateway does not take.")
        .text(why)
        .text("Nothing was signed in. Update that program, or use `weir login`.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_on_the_same_machine_get_an_answer() {
        for good in ["http://127.0.0.1:49152/callback", "http://[::1]:1/", "http://127.0.0.1:80"] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "http://localhost:1234/",
            "https://127.0.0.1:1234/",
            "http://127.0.0.1/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:+1/",
            "http://127.0.0.1:1234@evil.example/",
            "http://127.0.0.1:1234.evil.example/",
            "http://127.0.0.1:12/a?b=c",
            "http://127.0.0.1:12/a#b",
            "http://127.0.0.1:12/\r\nset-cookie: a=b",
            "http://127.0.0.1.evil.example:12/",
            "http://evil.example/http://127.0.0.1:12/",
            "",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn a_policy_for_forms_names_where_the_program_waits() {
        assert_eq!(origin_of("http://127.0.0.1:12/a"), "http://127.0.0.1:12");
        assert_eq!(origin_of("http://127.0.0.1:12"), "http://127.0.0.1:12");
        assert_eq!(origin_of("http://[::1]:12/a"), "http:");
    }
}
