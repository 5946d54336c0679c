//! The gateway's own pages: plain HTML that needs no script and loads nothing.

use std::fmt::Write;

use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::identity::base64url;
use crate::model::digest::Digest;

/// Readable on a telephone and on a wide screen, in the light and in the dark.
const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1rem/1.5 system-ui,sans-serif;max-width:38rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1rem}\
dt{opacity:.75}dd{margin:0;font-weight:600;overflow-wrap:anywhere}\
.careful{border-left:.3rem solid #c60;padding:.2rem 0 .2rem .8rem}\
form{display:inline-block;margin:.5rem .8rem .5rem 0}\
button,input{font:inherit;padding:.5rem 1rem}\
input{letter-spacing:.1em}\
a{overflow-wrap:anywhere}";

/// A page.
#[derive(Debug, Clone)]
pub(super) struct Page {
    status: StatusCode,
    title: String,
    body: String,
    /// Where its forms may lead besides this gateway, through redirects.
    leads_to: Option<String>,
}

impl Page {
    /// A page with a title that is text, not HTML.
    pub(super) fn new(status: StatusCode, title: &str) -> Self {
        Self { status, title: title.to_owned(), body: String::new(), leads_to: None }
    }

    /// A page that says that something is not possible: whose fault it is, and the one thing to do.
    pub(super) fn sorry(status: StatusCode, title: &str, why: &str, todo: &str) -> Self {
        Self::new(status, title).text(why).text(todo)
    }

    /// A paragraph of text.
    pub(super) fn text(mut self, text: &str) -> Self {
        let _written = writeln!(self.body, "<p>{}</p>", escaped(text));
        self
    }

    /// A paragraph that should not be overlooked.
    pub(super) fn careful(mut self, text: &str) -> Self {
        let _written = writeln!(self.body, "<p class=\"careful\">{}</p>", escaped(text));
        self
    }

    /// Facts, each with its name.
    pub(super) fn facts(mut self, facts: &[(&str, String)]) -> Self {
        self.body.push_str("<dl>\n");
        for (name, value) in facts {
            let (name, value) = (escaped(name), escaped(value));
            let _written = writeln!(self.body, "<dt>{name}</dt><dd>{value}</dd>");
        }
        self.body.push_str("</dl>\n");
        self
    }

    /// A link.
    pub(super) fn link(mut self, to: &str, text: &str) -> Self {
        let (to, text) = (escaped(to), escaped(text));
        let _written = writeln!(self.body, "<p><a href=\"{to}\">{text}</a></p>");
        self
    }

    /// A button that sends fields with a POST.
    pub(super) fn button(mut self, to: &str, fields: &[(&str, &str)], text: &str) -> Self {
        self.open(to, fields);
        let _written = writeln!(self.body, "<button>{}</button></form>", escaped(text));
        self
    }

    /// A field to type a code into, and its button.
    pub(super) fn code_form(mut self, to: &str, fields: &[(&str, &str)], code: &str) -> Self {
        self.open(to, fields);
        let code = escaped(code);
        let _written = writeln!(
            self.body,
            "<label>Code <input name=\"code\" value=\"{code}\" size=\"12\" maxlength=\"32\" \
             autocomplete=\"off\" autocapitalize=\"characters\" required></label> \
             <button>Go on</button></form>"
        );
        self
    }

    /// Lets its forms lead to `origin` too.
    pub(super) fn leading_to(mut self, origin: String) -> Self {
        self.leads_to = Some(origin);
        self
    }

    fn open(&mut self, to: &str, fields: &[(&str, &str)]) {
        let _written = write!(self.body, "<form method=\"post\" action=\"{}\">", escaped(to));
        for (name, value) in fields {
            let (name, value) = (escaped(name), escaped(value));
            let _written =
                write!(self.body, "<input type=\"hidden\" name=\"{name}\" value=\"{value}\">");
        }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let title = escaped(&self.title);
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{title} - Weir</title>\n<style>{STYLE}</style></head>\n\
             <body>\n<h1>{title}</h1>\n{}</body>\n</html>\n",
            self.body
        );
        let leads_to = self.leads_to.map(|origin| format!(" {origin}")).unwrap_or_default();
        // `form-action` counts for redirects after a POST too (CSP 3 §6.3.3).
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}='; form-action 'self'{leads_to}; \
             frame-ancestors 'none'; base-uri 'none'",
            base64url(Digest::of(STYLE.as_bytes()).as_bytes())
        );
        let mut response = (self.status, html).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        match HeaderValue::from_str(&policy) {
            Ok(policy) => headers.insert(header::CONTENT_SECURITY_POLICY, policy),
            Err(_) => headers.insert(
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
            ),
        };
        hardened(&mut response);
        response
    }
}

/// Puts the headers of every answer to a browser: it is kept nowhere, taken for nothing else, and
/// says nowhere else where the browser came from.
///
/// `same-origin` and not `no-referrer`: with the latter browsers say `Origin: null` when they post
/// our own forms (Fetch standard, "append a request Origin header").
pub(super) fn hardened(response: &mut Response) {
    let all: [(HeaderName, &'static str); 5] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in all {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

/// Sends a browser on, always by GET.
pub(super) fn redirect(to: &str) -> Response {
    let Ok(to) = HeaderValue::from_str(to) else {
        let (status, title) = (StatusCode::BAD_REQUEST, "This link leads nowhere");
        return Page::sorry(
            status,
            title,
            "The program that sent you here gave an address that is none.",
            "Update that program, or report this to whoever makes it.",
        )
        .into_response();
    };
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(header::LOCATION, to);
    hardened(&mut response);
    response
}

/// Text as HTML.
pub(super) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

/// Text as the value of a parameter of a URL (RFC 3986 §2.1).
pub(super) fn in_url(text: &str) -> String {
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                url.push(char::from(byte));
            }
            other => {
                let _written = write!(url, "%{other:02X}");
            }
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn nothing_that_others_say_becomes_html() {
        let evil = "\"><script>alert('x')</script>";
        let page = Page::new(StatusCode::OK, evil)
            .text(evil)
            .careful(evil)
            .facts(&[("a", evil.to_owned())])
            .link(evil, evil)
            .button(evil, &[(evil, evil)], evil)
            .code_form(evil, &[], evil);
        let response = page.into_response();
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self';"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let html = String::from_utf8(body.to_vec()).unwrap();
        assert!(!html.contains("<script") && !html.contains("alert('"), "{html}");
        assert!(!html.contains("=\"\">"), "{html}");
    }

    #[test]
    fn a_parameter_stays_one() {
        assert_eq!(in_url("a b&c=d/é"), "a%20b%26c%3Dd%2F%C3%A9");
    }
}
