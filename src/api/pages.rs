//! The gateway's own pages: plain HTML that needs no script and loads nothing.

use std::fmt::Write;

use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::session::page;
use crate::session::page::escaped;

/// A page.
#[derive(Debug, Clone)]
pub(super) struct Page {
    status: StatusCode,
    title: String,
    body: String,
    /// Where it leads by itself, at once.
    head: Option<String>,
    /// Where its forms may lead besides this gateway, through redirects.
    leads_to: Option<String>,
}

impl Page {
    /// A page with a title that is text, not HTML.
    pub(super) fn new(status: StatusCode, title: &str) -> Self {
        let (title, body) = (title.to_owned(), String::new());
        Self { status, title, body, head: None, leads_to: None }
    }

    /// A page that says that something is not possible: whose fault it is, and the one thing to do.
    pub(super) fn sorry(status: StatusCode, title: &str, why: &str, advice: &str) -> Self {
        Self::new(status, title).text(why).text(advice)
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

    /// Goes on to an address of this host by itself, without a script; the page has a link there
    /// too. For what follows a POST: a redirect would have to be in the policy for forms.
    pub(super) fn going_on(mut self, to: &str) -> Self {
        let to = escaped(to);
        self.head = Some(format!("<meta http-equiv=\"refresh\" content=\"0;url={to}\">\n"));
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
        let head = self.head.unwrap_or_default();
        let html = page::document(&self.title, &head, &self.body);
        let policy = page::policy(self.leads_to.as_deref());
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

/// Puts the headers of every answer to a browser.
pub(super) fn hardened(response: &mut Response) {
    for (name, value) in page::HEADERS {
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
