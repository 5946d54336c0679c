//! Refusals as answers: `application/problem+json` (RFC 9457), or a small page for browsers.

use std::fmt::Write as _;

use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use serde_json::json;

use crate::model::HoldId;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::refusal::RefusalCode;
use crate::protocol::http::dialect::Told;
use crate::protocol::http::dialect::Worded;
use crate::session::guard::Said;
use crate::session::page;
use crate::session::page::escaped;

/// In which header the final answer names the hold that its command waited in.
pub const HOLD_HEADER: &str = "weir-hold";

/// A no, on its way to the client.
#[derive(Debug, Clone)]
pub struct No {
    /// The status.
    pub status: StatusCode,
    /// Why.
    pub refusal: Box<Refusal>,
    /// The session, once there is one.
    pub session: Option<SessionId>,
    /// The hold that ended in this no.
    pub hold: Option<HoldId>,
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self { status: status(refusal.code), refusal: Box::new(refusal), session: None, hold: None }
    }
}

impl No {
    /// The same, told to a client of `session`.
    #[must_use]
    pub fn in_session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }
}

/// A refusal's own words, which carry no byte of a target's.
#[derive(Debug)]
pub struct Words(pub Response<String>);

impl Said for Words {}

/// The status of each kind of no.
pub fn status(code: RefusalCode) -> StatusCode {
    match code {
        RefusalCode::Denied
        | RefusalCode::Residency
        | RefusalCode::Declined
        | RefusalCode::SessionEnded => StatusCode::FORBIDDEN,
        RefusalCode::TimedOut => StatusCode::REQUEST_TIMEOUT,
        RefusalCode::Canceled => StatusCode::CONFLICT,
        RefusalCode::Unauthenticated | RefusalCode::StepUp => StatusCode::UNAUTHORIZED,
        RefusalCode::NoTarget => StatusCode::NOT_FOUND,
        RefusalCode::Unsupported => StatusCode::NOT_IMPLEMENTED,
        RefusalCode::Malformed => StatusCode::BAD_REQUEST,
        RefusalCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RefusalCode::Withheld | RefusalCode::TargetFailed => StatusCode::BAD_GATEWAY,
        RefusalCode::Unrecorded => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The answer that says no, in the words given.
pub fn answer(no: &No, worded: Worded) -> Words {
    let mut response = Response::new(worded.body);
    *response.status_mut() = no.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(worded.content_type));
    harden(headers);
    if no.status == StatusCode::UNAUTHORIZED {
        let plain = HeaderValue::from_static("Bearer");
        let challenge = HeaderValue::try_from(no.refusal.challenge()).unwrap_or(plain);
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    if no.refusal.code == RefusalCode::SessionEnded {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(hold) = &no.hold {
        name_hold(headers, hold);
    }
    Words(response)
}

/// Names the hold that a command waited in.
pub fn name_hold(headers: &mut HeaderMap, hold: &HoldId) {
    if let Ok(value) = HeaderValue::from_str(hold.as_str()) {
        headers.insert(HOLD_HEADER, value);
    }
}

/// Plain HTTP's words: a problem document, or a page where the client asks for one.
pub fn word(refusal: &Refusal, told: &Told<'_>) -> Worded {
    let page = told.head.is_some_and(|head| wants_page(&head.headers));
    if page {
        Worded { content_type: "text/html; charset=utf-8", body: html(refusal, told) }
    } else {
        Worded { content_type: "application/problem+json", body: problem(refusal, told) }
    }
}

/// Whether a client would rather have a page: it names HTML and comes from a browser, not from a
/// program that takes anything.
pub fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| {
        accept.split(',').any(|media| {
            let essence = media.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("text/html")
        })
    })
}

fn problem(refusal: &Refusal, told: &Told<'_>) -> String {
    let mut problem = json!({
        "type": "about:blank",
        "title": told.status.canonical_reason().unwrap_or("Refused"),
        "status": told.status.as_u16(),
        "detail": refusal.reason,
        "code": refusal.code,
        "rules": refusal.rules,
    });
    if let Some(members) = problem.as_object_mut() {
        let more = [
            ("hint", refusal.hint.clone()),
            ("session", told.session.map(|session| session.to_string())),
            ("hold", told.hold.map(ToString::to_string)),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                members.insert(name.to_owned(), value.into());
            }
        }
    }
    let mut text = problem.to_string();
    text.push('\n');
    text
}

/// Puts the headers of every page of the gateway's own on a target's host.
pub fn harden(headers: &mut HeaderMap) {
    for (name, value) in page::HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = HeaderValue::from_str(&page::policy(None));
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.unwrap_or(nothing));
}

/// What a page is called, whose fault it is, and the one thing to do where the refusal names none.
fn title(code: RefusalCode) -> [&'static str; 3] {
    let you = "Neither the gateway nor the target is at fault.";
    let gateway = "This is the gateway's answer, not the target's.";
    let ask = "If you need it, show this page to whoever runs the gateway.";
    let wait = "Try again in a minute; if it stays so, tell whoever runs it.";
    match code {
        RefusalCode::Denied | RefusalCode::Residency => ["This is not allowed", gateway, ask],
        RefusalCode::Declined => ["An approver said no", gateway, "Talk to your approvers."],
        RefusalCode::TimedOut => ["Nobody answered in time", gateway, "Ask for it again."],
        RefusalCode::Canceled => ["This was taken back", gateway, "Ask for it again."],
        RefusalCode::Unauthenticated => ["You are not signed in", you, "Open the page again."],
        RefusalCode::StepUp => ["Sign in again for this", you, "Open the page again."],
        RefusalCode::NoTarget => ["There is nothing here", you, "Check the address."],
        RefusalCode::Unsupported => ["The gateway does not carry this", gateway, ask],
        RefusalCode::Malformed | RefusalCode::TooLarge => {
            ["The request is not right", you, "Go back, and try it in another way."]
        }
        RefusalCode::Withheld => {
            ["The answer is withheld", "The target answered what may not be shown.", ask]
        }
        RefusalCode::Unrecorded => {
            let own = "This is the gateway's own fault; its log says what is wrong.";
            ["The gateway cannot do this now", own, wait]
        }
        RefusalCode::TargetFailed => {
            ["The target does not answer", "This is neither your fault nor the gateway's.", wait]
        }
        RefusalCode::SessionEnded => ["Your session has ended", gateway, "Load the page again."],
    }
}

/// A reason as a sentence on a page.
fn sentence(reason: &str) -> String {
    let mut signs = reason.chars();
    let first = signs.next().into_iter().flat_map(char::to_uppercase);
    let text = first.chain(signs).collect::<String>();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    escaped(&format!("{text}{end}"))
}

fn html(refusal: &Refusal, told: &Told<'_>) -> String {
    let [title, whose, advice] = title(refusal.code);
    let advice = refusal.hint.as_deref().unwrap_or(advice);
    let mut body = format!(
        "<p>{}</p>\n<p>{whose}</p>\n<p class=\"careful\">What to do: {}</p>\n",
        sentence(&refusal.reason),
        escaped(advice)
    );
    let rules = refusal.rules_text();
    let facts = [
        ("Rules", (!rules.is_empty()).then_some(rules)),
        ("Session", told.session.map(|session| session.to_string())),
        ("Hold", told.hold.map(ToString::to_string)),
        ("Status", Some(told.status.to_string())),
    ];
    let facts = facts.into_iter().filter_map(|(name, fact)| Some((name, fact?)));
    let facts = facts.map(|(name, fact)| format!("{name}: {}", escaped(&fact)));
    let facts = facts.collect::<Vec<_>>().join("<br>");
    let _text = writeln!(body, "<p class=\"small\">{facts}</p>");
    page::document(title, "", &body)
}
