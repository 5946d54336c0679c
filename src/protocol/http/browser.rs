//! Browsers on a target's host: which credential a request shows, what a page of another origin may
//! not do with it, and the paths below [`OWN_PATH`], which are the gateway's on every host.
//!
//! ```text
//! GET /page, no cookie ─► 302 <gateway>/login?target&return&bind   (bind: a secret kept in a cookie)
//! GET /.weir/enter?code ─► the host's own cookie ─► 303 /page
//! GET /.weir/logout ─► a page with a button ─ POST ─► the login ends, everywhere
//! ```
//!
//! Cookies are for one host (`__Host-`), and ride along with whatever page asks for it. So a request
//! that shows nothing but a cookie is taken only from the host's own pages, or as a navigation that
//! changes nothing: targets are siblings under one domain, and one must not act at another.

use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use http::request::Parts;
use secrecy::ExposeSecret;

use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::login::Form;
use crate::model::login::Presented;
use crate::model::login::StepUp;
use crate::model::login::Use;
use crate::model::refusal::RefusalCode;
use crate::protocol::http::hello::Connection;
use crate::protocol::http::refuse;
use crate::protocol::http::refuse::No;
use crate::protocol::http::refuse::Words;
use crate::protocol::http::wire;
use crate::session::Claim;
use crate::session::Wanted;
use crate::session::fresh_secret;
use crate::session::handoff::is_path;
use crate::session::page;

/// What is the gateway's own on every host, and never forwarded.
pub const OWN_PATH: &str = "/.weir";
/// The cookie by which a browser is signed in at one host.
pub const COOKIE: &str = "__Host-weir";
/// The cookie that binds a sign-in that was begun to the browser that began it.
pub const BIND_COOKIE: &str = "__Host-weir-bind";
/// How long a sign-in that was begun may take, in seconds.
const BIND_S_MAX: u32 = 600;

/// What a request shows.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'a> {
    /// A bearer credential.
    Bearer(&'a str),
    /// A client certificate, of the connection.
    Certificate(&'a Presented),
    /// A cookie.
    Cookie(&'a str),
}

impl Shown<'_> {
    /// The text that must not reach the target; a certificate is no secret.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Bearer(secret) | Self::Cookie(secret) => Some(secret),
            Self::Certificate(_) => None,
        }
    }
}

/// What a request shows: its own bearer first, then the connection's certificate, then a cookie.
pub fn shown<'a>(
    headers: &'a HeaderMap,
    certificate: Option<&'a Presented>,
) -> Result<Shown<'a>, Refusal> {
    if headers.contains_key(header::AUTHORIZATION) {
        return wire::bearer(headers).map(Shown::Bearer);
    }
    match (certificate, cookie(headers, COOKIE)?) {
        (Some(certificate), _) => Ok(Shown::Certificate(certificate)),
        (None, Some(cookie)) => Ok(Shown::Cookie(cookie)),
        (None, None) => wire::bearer(headers).map(Shown::Bearer),
    }
}

/// The value of a cookie of ours. Two of one name: refused, since nobody can say which was meant.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut found = None;
    for line in headers.get_all(header::COOKIE) {
        let Ok(line) = line.to_str() else { continue };
        let pairs = line.split(';').filter_map(|pair| pair.trim().split_once('='));
        for (_, value) in pairs.filter(|(key, _)| *key == name) {
            if found.replace(value).is_some() {
                return Err(wire::malformed("a cookie of the gateway's stands more than once"));
            }
        }
    }
    Ok(found.filter(|value| !value.is_empty()))
}

/// Whether a request that shows a cookie comes from where it may: from a page of `origin` itself
/// (`https://wiki.weir.example`), or as a navigation that changes nothing (Fetch Metadata;
/// RFC 9110 §9.2.1).
pub fn may_ride(method: &Method, headers: &HeaderMap, origin: &str) -> Result<(), Refusal> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text("sec-fetch-site");
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let own = match (text("origin"), site) {
        (Some(from), Some("same-origin") | None) => from == origin,
        (Some(_), Some(_)) => false,
        (None, Some("same-origin" | "none")) => true,
        (None, Some(_)) => reads && text("sec-fetch-mode") == Some("navigate"),
        (None, None) => reads,
    };
    if own {
        return Ok(());
    }
    let reason = "a page of another origin sent this request with your cookie";
    Err(Refusal::new(RefusalCode::Denied, reason)
        .hint("open the page on its own host; programs send `Authorization: Bearer` instead"))
}

/// Whether a browser sent it, on behalf of some page: programs send none of these.
pub fn is_from_a_browser(headers: &HeaderMap) -> bool {
    headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN)
}

/// Whether a request is a person's, who goes somewhere with a browser.
pub fn navigates(method: &Method, headers: &HeaderMap) -> bool {
    let mode = headers.get("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
    *method == Method::GET && mode && refuse::wants_page(headers)
}

/// Whether a path is the gateway's own, however its first segment is escaped: a target that reads
/// `/%2eweir` as `/.weir` is not to answer there (RFC 3986 §6.2.2.2).
pub fn is_own_path(path: &str) -> bool {
    let first = path.strip_prefix('/').and_then(|path| path.split('/').next());
    first.and_then(unescaped).as_deref() == OWN_PATH.as_bytes().get(1..)
}

/// The bytes of a segment of a path; what is no escape stays as it is.
fn unescaped(segment: &str) -> Option<Vec<u8>> {
    let mut parts = segment.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        match part.split_at_checked(2).map(|(hex, rest)| (u8::from_str_radix(hex, 16), rest)) {
            Some((Ok(byte), rest)) => {
                bytes.push(byte);
                bytes.extend_from_slice(rest.as_bytes());
            }
            Some((Err(_), _)) | None => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    Some(bytes)
}

impl Connection {
    /// The host of a target, without a port: what its cookies are for.
    pub(super) fn host(&self, label: &str) -> String {
        format!("{label}.{}", self.front.gateway.name)
    }

    /// Sends a browser to the gateway's own host to sign in, and keeps in it what binds the way
    /// back to it.
    pub(super) fn to_sign_in(
        &self,
        label: &str,
        back: &str,
        step_up: Option<&StepUp>,
    ) -> Option<Words> {
        let target = label.parse::<TargetName>().ok()?;
        let kept = fresh_secret("")?;
        let bind = Digest::of(kept.expose_secret().as_bytes());
        let back = if is_path(back) { back } else { "/" };
        let mut to = format!(
            "{}/login?target={target}&bind={bind}&return={}",
            self.front.gateway.url,
            wire::query_escaped(back)
        );
        if let Some(step_up) = step_up {
            let age = step_up.age_s_max.map(|age| format!("&max_age={age}"));
            let acr = step_up.acr.as_ref();
            let acr = acr.map(|acr| format!("&acr_values={}", wire::query_escaped(acr)));
            to.extend(age.into_iter().chain(acr));
        }
        let mut response = redirect(StatusCode::FOUND, &to)?;
        let cookie = set_cookie(BIND_COOKIE, kept.expose_secret(), Some(BIND_S_MAX))?;
        response.headers_mut().append(header::SET_COOKIE, cookie);
        Some(Words(response))
    }

    /// Answers a request for the gateway's own paths on a target's host.
    pub(super) async fn own_path(&self, label: &str, parts: &Parts) -> Result<Words, No> {
        let path = parts.uri.path().strip_prefix(OWN_PATH).unwrap_or_default();
        match (&parts.method, path) {
            (&Method::GET, "/enter") => self.enter(label, parts).await,
            (&Method::GET, "/logout") => Ok(page(LOGOUT_PAGE)),
            (&Method::POST, "/logout") => self.log_out(label, parts).await,
            _ => {
                Err(Refusal::new(RefusalCode::NoTarget, "the gateway has no such page here").into())
            }
        }
    }

    /// The end of a sign-in: the code, and what this browser kept, become the host's own cookie.
    async fn enter(&self, label: &str, parts: &Parts) -> Result<Words, No> {
        let stale = || {
            Refusal::new(
                RefusalCode::Unauthenticated,
                "this link was used already, is too old, or was meant for another browser",
            )
            .hint("open the page that you wanted again")
        };
        let gateway = &self.front.gateway;
        let code = parts.uri.query().and_then(|query| query.strip_prefix("code="));
        let kept = cookie(&parts.headers, BIND_COOKIE)?;
        let (Some(code), Some(kept)) = (code, kept) else { return Err(stale().into()) };
        let target = label.parse::<TargetName>().map_err(|_| stale())?;
        let now = gateway.parts.clock.now();
        let handoff = gateway.handoffs.redeem(code, &target, kept, now).ok_or_else(stale)?;
        let wanted = Wanted {
            uses: [Use::Target(Protocol::Http)].into(),
            target: Some(target),
            host: Some(self.host(label)),
        };
        let issued = gateway.logins.issue(&handoff.login, Form::Cookie, wanted).await;
        let issued = issued.map_err(|error| {
            tracing::info!("no cookie: {}", crate::model::fault::Chain(&error));
            stale()
        })?;
        let ours = || Refusal::new(RefusalCode::Unrecorded, "the gateway made a mistake");
        let mut response = redirect(StatusCode::SEE_OTHER, &handoff.back).ok_or_else(ours)?;
        for (name, value, seconds) in
            [(COOKIE, issued.secret.expose_secret(), None), (BIND_COOKIE, "", Some(0))]
        {
            let cookie = set_cookie(name, value, seconds).ok_or_else(ours)?;
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Ok(Words(response))
    }

    /// Ends the login that this host's cookie belongs to: at every host, and for every program.
    async fn log_out(&self, label: &str, parts: &Parts) -> Result<Words, No> {
        may_ride(&parts.method, &parts.headers, &self.front.gateway.url_of(label))?;
        let gateway = &self.front.gateway;
        let host = self.host(label);
        if let Some(secret) = cookie(&parts.headers, COOKIE)? {
            let claim = Claim::Cookie { secret, host: &host };
            let usage = Use::Target(Protocol::Http);
            match gateway.verify(&claim, usage, Some(label), &self.origin).await {
                Ok(verified) => gateway.log_out(&verified, &self.origin).await?,
                // It has ended already, which is what they want.
                Err(refusal) if refusal.code == RefusalCode::Unauthenticated => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        let mut words = page(LOGGED_OUT_PAGE);
        if let Some(cookie) = set_cookie(COOKIE, "", Some(0)) {
            words.0.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Ok(words)
    }
}

const LOGOUT_PAGE: [&str; 2] = [
    "Log out?",
    "<p>This ends your login in this browser: at every target, at once.</p>\n\
     <form method=\"post\" action=\"/.weir/logout\"><button>Log out</button></form>\n",
];
const LOGGED_OUT_PAGE: [&str; 2] =
    ["You are logged out", "<p>You may still be signed in at your identity provider.</p>\n"];

/// A cookie for this host alone: never sent in the clear, never shown to scripts (RFC 6265bis §4.1.3).
fn set_cookie(name: &str, value: &str, seconds: Option<u32>) -> Option<HeaderValue> {
    let age = seconds.map_or(String::new(), |seconds| format!("; Max-Age={seconds}"));
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn redirect(status: StatusCode, to: &str) -> Option<Response<String>> {
    let mut response = Response::new(String::new());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_str(to).ok()?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Some(response)
}

fn page([title, body]: [&str; 2]) -> Words {
    let mut response = Response::new(page::document(title, "", body));
    refuse::harden(response.headers_mut());
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    Words(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case<'a> = (&'a Method, &'a [(&'a str, &'a str)], bool);

    const WIKI: &str = "https://wiki.weir.example";

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_cookie_rides_along_only_with_what_its_own_host_asks_for() {
        let (get, post) = (Method::GET, Method::POST);
        let sibling = "https://mail.weir.example";
        let cases: [Case<'_>; 14] = [
            (&get, &[], true),
            (&post, &[], false),
            (&post, &[("origin", WIKI)], true),
            (&post, &[("origin", WIKI), ("sec-fetch-site", "same-origin")], true),
            (&post, &[("origin", WIKI), ("sec-fetch-site", "cross-site")], false),
            (&post, &[("origin", sibling)], false),
            (&post, &[("origin", "null")], false),
            (&post, &[("origin", sibling), ("sec-fetch-site", "same-site")], false),
            (&post, &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate")], false),
            (&get, &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate")], true),
            (&get, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], true),
            (&get, &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], false),
            (&get, &[("origin", sibling), ("sec-fetch-site", "same-site")], false),
            (&get, &[("sec-fetch-site", "none")], true),
        ];
        for (method, pairs, good) in cases {
            assert_eq!(may_ride(method, &headers(pairs), WIKI).is_ok(), good, "{method} {pairs:?}");
        }
    }

    #[test]
    fn one_cookie_of_ours_is_read_and_two_are_refused() {
        let read = |lines: &[(&str, &str)]| {
            cookie(&headers(lines), COOKIE).map(|found| found.map(str::to_owned))
        };
        let one = [("cookie", "a=b; __Host-weir=weir_b_x"), ("cookie", "c=d")];
        assert_eq!(read(&one).unwrap().as_deref(), Some("weir_b_x"));
        assert_eq!(read(&[("cookie", "__Host-weir-bind=x; __host-weir=y")]).unwrap(), None);
        assert!(read(&[("cookie", "__Host-weir=x; __Host-weir=y")]).is_err());
        assert!(read(&[("cookie", "__Host-weir=x"), ("cookie", "__Host-weir=y")]).is_err());
    }

    #[test]
    fn a_bearer_comes_before_a_cookie_and_a_bad_one_is_not_passed_over() {
        let both = headers(&[("authorization", "Bearer a"), ("cookie", "__Host-weir=b")]);
        assert!(matches!(shown(&both, None), Ok(Shown::Bearer("a"))));
        let bad = headers(&[("authorization", "Basic a"), ("cookie", "__Host-weir=b")]);
        assert!(shown(&bad, None).is_err());
        let cookie = headers(&[("cookie", "__Host-weir=b")]);
        assert!(matches!(shown(&cookie, None), Ok(Shown::Cookie("b"))));
        let presented = Presented { der: Vec::new(), ours: false };
        assert!(matches!(shown(&cookie, Some(&presented)), Ok(Shown::Certificate(_))));
        assert!(shown(&HeaderMap::new(), None).is_err());
    }

    #[test]
    fn only_a_persons_way_through_pages_is_sent_to_sign_in() {
        let page = ("accept", "text/html,*/*");
        assert!(navigates(&Method::GET, &headers(&[page])));
        assert!(navigates(&Method::GET, &headers(&[page, ("sec-fetch-mode", "navigate")])));
        assert!(!navigates(&Method::GET, &headers(&[page, ("sec-fetch-mode", "cors")])));
        assert!(!navigates(&Method::POST, &headers(&[page])));
        assert!(!navigates(&Method::GET, &headers(&[("accept", "*/*")])));
    }

    #[test]
    fn the_gateways_own_paths_are_known() {
        assert!(is_own_path("/.weir") && is_own_path("/.weir/enter"));
        assert!(!is_own_path("/.weirdo") && !is_own_path("/a/.weir"));
        assert!(is_own_path("/%2eweir/logout") && is_own_path("/.%77%65%69r/enter"));
        assert!(!is_own_path("/%252eweir") && !is_own_path("/%") && !is_own_path(""));
    }
}
