//! A browser at the gateway's own name: its cookies, and that a request comes from our own page.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::Response;
use secrecy::ExposeSecret;
use secrecy::SecretString;

use crate::api::Resources;
use crate::api::pages::Page;
use crate::api::signing::ASK_S_MAX;
use crate::identity::Claim;
use crate::identity::Verified;
use crate::identity::fresh_secret;
use crate::model::Origin;
use crate::model::digest::Digest;
use crate::model::encode::base64url;
use crate::model::login::Use;

/// The cookie of a browser that is in the midst of signing in. `__Host-`: it is this host's alone,
/// and no neighbor can plant one (RFC 6265bis §4.1.3.2).
const SIGNING: &str = "__Host-weir-signin";
/// The cookie of a browser that has signed in.
const SESSION: &str = "__Host-weir";
/// How long the value of a cookie of ours is, in signs.
const SIGNING_SIGNS: usize = 43;

/// A browser, as its request shows it.
#[derive(Debug)]
pub(super) struct Browser {
    signing: Option<SecretString>,
    session: Option<SecretString>,
    /// Its request comes from a page of ours.
    own_page: bool,
    /// From where.
    pub(super) origin: Origin,
}

impl FromRequestParts<std::sync::Arc<Resources>> for Browser {
    type Rejection = Page;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &std::sync::Arc<Resources>,
    ) -> Result<Self, Page> {
        let origin = parts.extensions.get::<Origin>().cloned().ok_or_else(no_place)?;
        let signing = cookie(&parts.headers, SIGNING).filter(|value| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
            value.len() == SIGNING_SIGNS && value.bytes().all(plain)
        });
        Ok(Self {
            signing: signing.map(SecretString::from),
            session: cookie(&parts.headers, SESSION).map(SecretString::from),
            own_page: is_own_page(&parts.headers, &state.gateway.url),
            origin,
        })
    }
}

fn no_place() -> Page {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Page::sorry(
        status,
        "The gateway failed",
        "It does not know where you come from. This is its own fault.",
        "Tell whoever runs the gateway.",
    )
}

impl Browser {
    /// The digest of what tells this browser from others while it signs in, if it has that.
    pub(super) fn known(&self) -> Option<Digest> {
        let value = self.signing.as_ref()?;
        Some(Digest::of(value.expose_secret().as_bytes()))
    }

    /// The same, and the cookie to set; made where there is none.
    pub(super) fn marked(&mut self) -> Option<(Digest, HeaderValue)> {
        let value = match self.signing.take() {
            Some(value) => value,
            None => fresh_secret("")?,
        };
        let text = value.expose_secret();
        let cookie = format!(
            "{SIGNING}={text}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={ASK_S_MAX}"
        );
        let digest = Digest::of(text.as_bytes());
        self.signing = Some(value);
        Some((digest, HeaderValue::from_str(&cookie).ok()?))
    }

    /// What a form of the page `about` must carry: only this browser's pages know it.
    pub(super) fn csrf(&self, about: &str) -> Option<String> {
        self.signing.as_ref().map(|value| token(value, about))
    }

    /// Whether a POST comes from the page `about` of this browser's.
    pub(super) fn sent_by(&self, about: &str, csrf: Option<&str>) -> bool {
        self.own_page && same(self.csrf(about).as_deref(), csrf)
    }

    /// As whom the browser is signed in here.
    pub(super) async fn who(&self, resources: &Resources) -> Option<Verified> {
        let claim = Claim::Cookie {
            secret: self.session.as_ref()?.expose_secret(),
            host: &resources.gateway.name,
        };
        resources.gateway.verify(&claim, Use::Control, None, &self.origin).await.ok()
    }

    /// What the form that logs this browser out must carry.
    pub(super) fn logout_csrf(&self) -> Option<String> {
        self.session.as_ref().map(|value| token(value, "logout"))
    }

    /// Whether a POST comes from the page that logs this browser out.
    pub(super) fn logs_out(&self, csrf: Option<&str>) -> bool {
        self.own_page && same(self.logout_csrf().as_deref(), csrf)
    }
}

/// A cookie for a browser that has signed in.
pub(super) fn session_cookie(secret: &SecretString, seconds: i64) -> Option<HeaderValue> {
    let value = secret.expose_secret();
    let cookie =
        format!("{SESSION}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    HeaderValue::from_str(&cookie).ok()
}

/// Puts a cookie into an answer.
pub(super) fn set(mut response: Response, cookie: HeaderValue) -> Response {
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// Takes back every cookie of ours.
pub(super) fn clear(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert("clear-site-data", HeaderValue::from_static("\"cookies\""));
    for gone in [
        "__Host-weir=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0",
        "__Host-weir-signin=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0",
    ] {
        headers.append(header::SET_COOKIE, HeaderValue::from_static(gone));
    }
    response
}

fn token(secret: &SecretString, about: &str) -> String {
    let parts =
        [b"weir csrf\0".as_slice(), secret.expose_secret().as_bytes(), b"\0", about.as_bytes()];
    base64url(Digest::of_parts(&parts).as_bytes())
}

/// Compared by digest, so that the time it takes says nothing.
fn same(own: Option<&str>, shown: Option<&str>) -> bool {
    match (own, shown) {
        (Some(own), Some(shown)) => Digest::of(own.as_bytes()) == Digest::of(shown.as_bytes()),
        (_, None) | (None, _) => false,
    }
}

/// A cookie's value. One that is there twice is none.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs =
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        (_, Some(_)) | (None, None) => None,
    }
}

/// Whether a request comes from a page of ours: by `Sec-Fetch-Site` where the browser says it, else
/// by `Origin`, which every browser sends with a POST.
fn is_own_page(headers: &HeaderMap, url: &str) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text("origin");
    match text("sec-fetch-site") {
        Some(site) => site == "same-origin" && origin.is_none_or(|origin| origin == url),
        None => origin == Some(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_cookie_counts_once() {
        let two = headers(&[("cookie", "a=1; __Host-weir=x"), ("cookie", "b=2")]);
        assert_eq!(cookie(&two, SESSION).as_deref(), Some("x"));
        let twice = headers(&[("cookie", "__Host-weir=x; __Host-weir=y")]);
        assert_eq!(cookie(&twice, SESSION), None);
    }

    #[test]
    fn only_our_own_pages_post() {
        let url = "https://weir.test";
        for (pairs, own) in [
            (&[("origin", "https://weir.test")][..], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://weir.test")], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://weir.test")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://evil.test")], false),
            (&[("origin", "https://wiki.weir.test")], false),
            (&[("origin", "null")], false),
            (&[], false),
        ] {
            assert_eq!(is_own_page(&headers(pairs), url), own, "{pairs:?}");
        }
    }
}
