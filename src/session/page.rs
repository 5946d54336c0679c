//! What a page of the gateway's own looks like, on its own host and on the targets': plain HTML that
//! runs nothing, loads nothing and may stand in no frame.

use crate::model::digest::Digest;
use crate::model::encode;

/// Readable on a telephone and on a wide screen, in the light and in the dark.
const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1rem/1.5 system-ui,sans-serif;max-width:38rem;margin:10vh auto 2rem;padding:0 1rem}\
h1{font-size:1.4rem;line-height:1.25}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1rem}\
dt{opacity:.75}dd{margin:0;font-weight:600;overflow-wrap:anywhere}\
.careful{border-left:.3rem solid #c60;padding:.2rem 0 .2rem .8rem}\
.small{font-size:.85rem;opacity:.75;overflow-wrap:anywhere}\
form{display:inline-block;margin:.5rem .8rem .5rem 0}\
button,input{font:inherit;padding:.5rem 1rem}\
input{letter-spacing:.1em}\
a{overflow-wrap:anywhere}";

/// The headers of every answer to a browser: it is kept nowhere, taken for nothing else, framed
/// nowhere, and says nowhere else where the browser came from.
///
/// `same-origin` and not `no-referrer`: with the latter browsers say `Origin: null` when they post
/// our own forms (Fetch standard, "append a request Origin header").
pub const HEADERS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// A page, of a title that is text and a body that is HTML already. `head` is HTML too.
pub fn document(title: &str, head: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n{head}\
         <title>{title} - Weir</title>\n<style>{STYLE}</style></head>\n\
         <body>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
    )
}

/// The policy of a page (CSP 3): its own style and nothing else. Its forms lead to its own host and
/// to where `leads_to` says, which counts for redirects after a POST too (§6.3.3).
pub fn policy(leads_to: Option<&str>) -> String {
    let leads_to = leads_to.map(|origin| format!(" {origin}")).unwrap_or_default();
    format!(
        "default-src 'none'; style-src 'sha256-{}='; form-action 'self'{leads_to}; \
         frame-ancestors 'none'; base-uri 'none'",
        encode::base64url(Digest::of(STYLE.as_bytes()).as_bytes())
    )
}

/// Text as HTML, between tags or quotes.
pub fn escaped(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_text_and_the_policy_lets_the_style_in() {
        let page = document("\"><script>", "", "<p>body</p>\n");
        assert!(!page.contains("<script") && page.contains("<p>body</p>"), "{page}");
        let policy = policy(Some("http://127.0.0.1:12"));
        assert!(
            policy.contains("style-src 'sha256-") && policy.contains("form-action 'self' http")
        );
    }
}
