//! Which heads are taken, and which headers cross, in both directions.
//!
//! Pure: a head in, a head or a reason out. Framing itself is hyper's; what is refused here is what
//! two readers could read in two ways, what belongs to one connection only, and what could carry a
//! credential or a cookie to the wrong side. Names no target and no policy.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::StatusCode;
use http::Version;
use http::header;
use http::request::Parts;

use crate::model::Refusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::http::refuse::No;

/// Longest path and query, in bytes.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;
/// How a cookie of the gateway's begins, in any case.
const OWN_COOKIES: [&str; 3] = ["weir", "__host-weir", "__secure-weir"];

/// Headers that belong to one connection (RFC 9110, section 7.6.1), or frame a message.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
/// What a client says about the way of its request or who sends it, or by which targets read another
/// method or path than the one that was decided.
const MISLEADING: [&str; 18] = [
    "remote-user",
    "x-remote-user",
    "x-remote-group",
    "x-authenticated-user",
    "forwarded",
    "via",
    "x-real-ip",
    "true-client-ip",
    "client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "cf-connecting-ip",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
];
/// What is left of an answer's headers where its body is masked: none of these can carry a value.
const HARMLESS: [HeaderName; 4] =
    [header::ALLOW, header::DATE, header::RETRY_AFTER, header::CONTENT_LANGUAGE];

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressed {
    /// The gateway itself.
    Own,
    /// A target, by what stands before the gateway's name.
    Target(String),
}

/// Whom a request is for, by `Host` or `:authority`, on a connection for `sni`; checks the form of
/// the request's target too (RFC 9112, section 3.2).
pub fn addressed(head: &Parts, gateway: &str, sni: Option<&str>) -> Result<Addressed, No> {
    if head.method == Method::CONNECT {
        return Err(Refusal::new(RefusalCode::Unsupported, "CONNECT is not carried").into());
    }
    let http2 = head.version == Version::HTTP_2;
    if !http2 && (head.uri.authority().is_some() || head.uri.scheme().is_some()) {
        return Err(
            malformed("the request's target is in absolute form: send the path alone").into()
        );
    }
    // RFC 9112, section 6.3: whoever reads the other of the two sees another request here.
    let lengths = [header::TRANSFER_ENCODING, header::CONTENT_LENGTH];
    if lengths.iter().all(|name| head.headers.contains_key(name)) {
        return Err(malformed("the request has a length and chunks").into());
    }
    let path = head.uri.path_and_query().map_or("", |target| target.as_str());
    if !path.starts_with('/') {
        return Err(malformed("the request's target is no path").into());
    }
    if path.len() > TARGET_BYTES_MAX {
        return Err(Refusal::new(
            RefusalCode::TooLarge,
            format!("path and query have more than {TARGET_BYTES_MAX} bytes"),
        )
        .into());
    }
    let host = addressed_host(head, gateway)?;
    // kubectl may dial an address and name the target in its TLS handshake (tls-server-name).
    let dialled = host.parse::<IpAddr>().is_ok();
    let host = sni.filter(|_| dialled && host != gateway).map_or(host, str::to_ascii_lowercase);
    let named = |host: &str| host.strip_suffix(gateway)?.strip_suffix('.').map(str::to_owned);
    let Some(target) = (host != gateway).then(|| named(&host)) else { return Ok(Addressed::Own) };
    let Some(target) = target.filter(|label| !label.is_empty()) else {
        return Err(misdirected("`Host` names nothing that is here"));
    };
    // A connection for one target's name carries no request for another's: browsers reuse
    // connections where one certificate covers both names (RFC 9110, section 7.4).
    match sni.map(str::to_ascii_lowercase).as_deref().and_then(named) {
        Some(other) if other != target => {
            Err(misdirected("`Host` names another target than the TLS connection is for"))
        }
        Some(_) | None => Ok(Addressed::Target(target)),
    }
}

/// The one host that a request names, in lower case, without its port.
fn addressed_host(head: &Parts, gateway: &str) -> Result<String, Refusal> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(malformed("`Host` stands more than once")),
        (Some(host), None) => {
            Some(host.to_str().map_err(|_| malformed("`Host` is not plain text"))?)
        }
        (None, None) => None,
    };
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let named = match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            return Err(malformed("`Host` and `:authority` differ"));
        }
        (Some(named), _) | (None, Some(named)) => named,
        (None, None) => return Err(malformed("the request names no host")),
    };
    let (host, port) = match named.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (named, None),
    };
    let numbered = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
    };
    let host = host.to_ascii_lowercase();
    // A gateway may be called by an address, too.
    let plain = host == gateway
        || host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if !plain || !port.is_none_or(numbered) {
        return Err(malformed("`Host` is no host name with or without a port"));
    }
    Ok(host)
}

/// Why bytes of a path are refused, if they are. What passes means the same to every reader that
/// decodes a path once.
pub fn path(path: &str, encoded_slash: bool, double_slash: bool) -> Result<(), Refusal> {
    let no = |what: &str| Err(malformed(&format!("the path holds {what}")));
    if !path.starts_with('/') {
        return no("no `/` at its beginning");
    }
    if path.bytes().any(|b| b < 0x21 || b == 0x7f || b"\\;\"<>^`{|}#".contains(&b)) {
        return no("a sign that has to be escaped, or `;`");
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return no("a `%` without two hexadecimal digits");
        };
        match u8::try_from(high * 16 + low).unwrap_or_default() {
            b'/' if !encoded_slash => return no("an encoded slash"),
            b'\\' => return no("an encoded backslash"),
            b';' => return no("an encoded `;`"),
            b'%' => return no("a doubly encoded sign"),
            0..=0x1f | 0x7f => return no("an encoded control sign"),
            byte => decoded.push(byte),
        }
    }
    let decoded = String::from_utf8_lossy(&decoded);
    if decoded.split('/').any(|segment| segment == "." || segment == "..") {
        return no("a dot segment");
    }
    if !double_slash && decoded.contains("//") {
        return no("an empty segment");
    }
    Ok(())
}

/// `METHOD /path?query` as it is recorded: what is no printable ASCII, and the backslash, stands as
/// `\xHH`.
pub fn line(method: &Method, path_and_query: &str) -> String {
    format!("{method} {}", escaped(path_and_query))
}

/// A part of a request line as it is recorded, in the same escape.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = (0x21..0x7f).contains(&byte) && byte != b'\\';
        let written =
            if plain { safe.write_char(char::from(byte)) } else { write!(safe, "\\x{byte:02x}") };
        if written.is_err() {
            break;
        }
    }
    safe
}

/// A text as the value of a query's member (RFC 3986 §3.4).
pub fn query_escaped(text: &str) -> String {
    use std::fmt::Write as _;

    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        let written = if plain {
            escaped.write_char(char::from(byte))
        } else {
            write!(escaped, "%{byte:02X}")
        };
        if written.is_err() {
            break;
        }
    }
    escaped
}

/// The one bearer token (RFC 6750, section 2.1) of a request.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let none = |reason: &str| {
        Refusal::new(RefusalCode::Unauthenticated, reason)
            .hint("sign in with `weir login` and send `Authorization: Bearer <credential>`")
    };
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (all.next(), all.next()) {
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(none("the request carries more than one credential")),
        (None, _) => return Err(none("the request carries no credential")),
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty())
        .ok_or_else(|| none("the request's credential is no bearer token"))
}

/// What of a client's headers may go on: none of the connection's, none that mislead, no credential
/// or cookie of the gateway's.
pub fn from_client(headers: &HeaderMap) -> HeaderMap {
    let mut kept = end_to_end(headers);
    for name in &[header::HOST, header::AUTHORIZATION, header::CONTENT_LENGTH, header::EXPECT] {
        kept.remove(name);
    }
    for name in kept.keys().filter(|name| misleads(name.as_str())).cloned().collect::<Vec<_>>() {
        kept.remove(name);
    }
    let cookies = kept.get_all(header::COOKIE).iter().filter_map(foreign_cookies);
    let cookies = cookies.collect::<Vec<_>>();
    kept.remove(header::COOKIE);
    for cookie in cookies {
        kept.append(header::COOKIE, cookie);
    }
    kept
}

/// Whether a header must not go on, by its name. CGI, and what descends from it, reads `_` as `-`
/// (RFC 3875, section 4.1.18): `X_Forwarded_User` is `X-Forwarded-User` there.
fn misleads(name: &str) -> bool {
    let read = name.replace('_', "-");
    let own = ["host", "authorization", "content-length", "expect", "cookie"];
    let otherwise =
        read != name && (HOP_BY_HOP.contains(&read.as_str()) || own.contains(&read.as_str()));
    let prefixes = ["x-forwarded-", "x-auth-request-", "x-weir-", "weir-"];
    otherwise
        || MISLEADING.contains(&read.as_str())
        || prefixes.iter().any(|prefix| read.starts_with(prefix))
}

/// A `Cookie` header without the gateway's own; `None` where nothing is left.
fn foreign_cookies(value: &HeaderValue) -> Option<HeaderValue> {
    let foreign = value
        .as_bytes()
        .split(|b| *b == b';')
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty() && !is_own_cookie(pair))
        .collect::<Vec<_>>();
    if foreign.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&foreign.join(&b"; "[..])).ok()
}

/// Whether a cookie's pair is the gateway's, or could be read as one: a pair without a name is sent
/// back as its value (RFC 6265bis, section 5.7).
fn is_own_cookie(pair: &[u8]) -> bool {
    let name = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
    let nameless = name.is_empty() || !pair.contains(&b'=');
    nameless
        || OWN_COOKIES.iter().any(|own| {
            name.get(..own.len()).is_some_and(|start| start.eq_ignore_ascii_case(own.as_bytes()))
        })
}

/// Takes from a request what would make its answer partial or conditional, and asks for JSON as it
/// is: for answers that have to be masked.
pub fn for_masking(headers: &mut HeaderMap) {
    let partial =
        [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];
    for name in &partial {
        headers.remove(name);
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
}

/// What a target may not answer with, whatever the request was; the reason is for the log and the
/// record.
pub fn faulty(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        101 => Some("switched to another protocol unasked"),
        100..=199 => Some("ended with an interim answer"),
        407 => Some("asked for a proxy's credential"),
        200..=599 => None,
        _ => Some("answered with a status outside 100 to 599"),
    }
}

/// What of an answer's headers may go to the client, where its body streams as it is.
pub fn from_target(headers: &HeaderMap) -> HeaderMap {
    let mut kept = end_to_end(headers);
    let not_theirs = |name: &&HeaderName| {
        let name = name.as_str();
        ["alt-svc", "clear-site-data", "service-worker-allowed", "public-key-pins"].contains(&name)
            || name.starts_with("x-weir-")
            || name.starts_with("weir-")
    };
    for name in kept.keys().filter(not_theirs).cloned().collect::<Vec<_>>() {
        kept.remove(name);
    }
    let cookies = kept.get_all(header::SET_COOKIE).iter().filter(|c| may_set(c)).cloned();
    let cookies = cookies.collect::<Vec<_>>();
    kept.remove(header::SET_COOKIE);
    for cookie in cookies {
        kept.append(header::SET_COOKIE, cookie);
    }
    kept
}

/// Makes a redirect to the target's own address one to the host that the client asked: it cannot
/// reach the target by any other way, and learns nothing of where it is.
pub fn relative_redirect(headers: &mut HeaderMap, authority: &str) {
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let value = headers.get(&name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let rest = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
        let path = rest.and_then(|rest| rest.strip_prefix(authority)).unwrap_or_default();
        // `//host` and, for browsers, `/\host` would lead elsewhere (RFC 3986, section 4.2).
        let elsewhere = path.starts_with("//") || path.starts_with("/\\");
        if !path.starts_with('/') || elsewhere {
            continue;
        }
        if let Ok(path) = HeaderValue::from_str(path) {
            headers.insert(name, path);
        }
    }
}

/// Whether a target may set this cookie: on its own host alone, and none of the gateway's.
fn may_set(cookie: &HeaderValue) -> bool {
    let mut parts = cookie.as_bytes().split(|b| *b == b';');
    let own = parts.next().is_none_or(|pair| is_own_cookie(pair.trim_ascii()));
    let wide = parts.any(|attribute| {
        let name = attribute.split(|b| *b == b'=').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"domain")
    });
    !own && !wide
}

/// What of an answer's headers may go to the client, where its body is masked: by name.
pub fn from_target_masked(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in HARMLESS {
        if let Some(value) = headers.get(&name) {
            kept.insert(name, value.clone());
        }
    }
    kept.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    kept
}

/// Headers without those of the connection, and without those that `Connection` names.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: BTreeSet<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        .collect();
    let mut kept = headers.clone();
    for name in headers.keys() {
        if HOP_BY_HOP.contains(&name.as_str()) || named.contains(name.as_str()) {
            kept.remove(name);
        }
    }
    kept
}

/// Whether an answer's body is JSON as it is: one media type of JSON in UTF-8, in no encoding.
pub fn is_plain_json(headers: &HeaderMap) -> Result<(), &'static str> {
    let encodings = headers.get_all(header::CONTENT_ENCODING);
    if encodings.iter().any(|e| !e.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity")) {
        return Err("it is encoded, which was not asked for");
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(media), None) = (types.next(), types.next()) else {
        return Err("it has not exactly one media type");
    };
    let media = media.to_str().map_err(|_| "its media type is no text")?.to_ascii_lowercase();
    let mut parts = media.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    if !json {
        return Err("it is no JSON");
    }
    let utf8 = |part: &str| {
        part.strip_prefix("charset=")
            .is_none_or(|set| matches!(set, "utf-8" | "\"utf-8\"" | "utf8"))
    };
    if parts.all(utf8) { Ok(()) } else { Err("its charset is not UTF-8") }
}

/// A refusal of a request that two readers could read in two ways.
pub fn malformed(reason: &str) -> Refusal {
    Refusal::new(RefusalCode::Malformed, reason)
}

/// What is answered with 421 (RFC 9110, section 15.5.20).
fn misdirected(reason: &str) -> No {
    let refusal = Refusal::new(RefusalCode::NoTarget, reason)
        .hint("open a connection to the host that the request is for");
    No { status: StatusCode::MISDIRECTED_REQUEST, ..No::from(refusal) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_redirects_to_the_targets_own_address_become_relative() {
        for (value, becomes) in [
            ("http://10.0.0.1:81/a?b=c", "/a?b=c"),
            ("https://10.0.0.1:81/a", "/a"),
            ("/a", "/a"),
            ("http://10.0.0.1:811/a", "http://10.0.0.1:811/a"),
            ("http://10.0.0.1:81.evil.example/a", "http://10.0.0.1:81.evil.example/a"),
            ("http://10.0.0.1:81@evil.example/a", "http://10.0.0.1:81@evil.example/a"),
            ("http://10.0.0.1:81//evil.example/a", "http://10.0.0.1:81//evil.example/a"),
            ("http://10.0.0.1:81/\\evil.example/a", "http://10.0.0.1:81/\\evil.example/a"),
            ("https://elsewhere.example/a", "https://elsewhere.example/a"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, HeaderValue::from_static(value));
            relative_redirect(&mut headers, "10.0.0.1:81");
            assert_eq!(headers[header::LOCATION], becomes, "{value}");
        }
    }

    #[test]
    fn a_path_is_taken_where_every_reader_reads_the_same() {
        for good in
            ["/", "/a/b", "/a%20b", "/%E2%82%AC", "/a.b/..c", "/a:b@c,d+e=f&g!~*'()$", "/a/"]
        {
            assert!(path(good, false, false).is_ok(), "{good}");
        }
        assert!(path("/a%2Fb", true, false).is_ok() && path("/a%2fb", false, true).is_err());
        assert!(path("/a//b", false, true).is_ok() && path("/a//b", true, false).is_err());
        // An option for one thing is none for another.
        for bad in
            ["/a%2F..%2Fb", "/a%2F%2e%2e/b", "/%2e", "/a/..", "/a%5cb", "/a%3Bb", "/%25", "/%7f"]
        {
            assert!(path(bad, true, true).is_err(), "{bad}");
        }
        assert!(path("/%2F", true, false).is_err(), "`//`, once it is decoded");
    }

    proptest! {
        #[test]
        fn a_taken_path_has_no_dot_segment_however_often_it_is_decoded(
            text in "/([a.%2eE5cF/;]|%2e|%2F|%25|%5c|\\.\\.){0,12}",
        ) {
            if path(&text, true, true).is_ok() {
                let mut decoded = text.clone();
                for _ in 0..3 {
                    decoded = percent_decoded(&decoded);
                    let dots = decoded.split(['/', '\\']).any(|s| s == ".." || s == ".");
                    prop_assert!(!dots, "{} {}", text, decoded);
                }
            }
        }

        #[test]
        fn a_recorded_line_is_plain_and_tells_lines_apart(one in "\\PC{0,12}", other in "\\PC{0,12}") {
            let (first, second) = (escaped(&one), escaped(&other));
            prop_assert!(first.bytes().all(|b| (0x21..0x7f).contains(&b)));
            prop_assert_eq!(one == other, first == second);
        }

        #[test]
        fn no_header_of_the_gateways_crosses(name in "[a-z-]{1,12}", value in "[ -~]{0,20}") {
            let mut headers = HeaderMap::new();
            let named = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(named, HeaderValue::from_str(&value).unwrap());
            headers.insert(header::CONNECTION, HeaderValue::from_str(&format!("close, {name}")).unwrap());
            prop_assert!(from_client(&headers).is_empty());
            prop_assert!(from_target(&headers).is_empty());
        }
    }

    fn percent_decoded(text: &str) -> String {
        let mut out = Vec::new();
        let mut bytes = text.as_bytes().iter();
        while let Some(&byte) = bytes.next() {
            let rest = bytes.as_slice();
            let pair = rest.get(..2).and_then(|p| std::str::from_utf8(p).ok());
            match pair.filter(|_| byte == b'%').and_then(|p| u8::from_str_radix(p, 16).ok()) {
                Some(decoded) => {
                    out.push(decoded);
                    bytes.nth(1);
                }
                None => out.push(byte),
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}
