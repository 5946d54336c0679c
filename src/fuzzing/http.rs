//! HTTP: heads of requests, and JSON documents on their way through a mask.

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Uri;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::mask::path::At;
use crate::protocol::http::json;
use crate::protocol::http::json::Sight;
use crate::protocol::http::wire;

const MASK: &str = "<masked:pii.national_id>";

/// A request line and headers, one a line. What no HTTP library would take is passed over.
pub(super) fn head(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let line = lines.next().unwrap_or_default();
    let (method, target) = split(line, b' ').unwrap_or((b"GET", line));
    let headers = headers(lines);
    for (slash, double) in [(false, false), (true, false), (false, true), (true, true)] {
        let passed = wire::path(&String::from_utf8_lossy(target), slash, double).is_ok();
        assert!(!passed || target.starts_with(b"/"));
    }
    drop(wire::bearer(&headers).map(str::len));
    let _ = wire::is_plain_json(&headers);
    let mut asking = wire::from_client(&headers);
    assert!(!asking.contains_key(http::header::AUTHORIZATION), "a credential goes on");
    wire::for_masking(&mut asking);
    drop(wire::from_target(&headers));
    let masked = wire::from_target_masked(&headers);
    assert!(!masked.contains_key(http::header::SET_COOKIE), "a value goes on in a header");
    let (Ok(method), Ok(uri)) =
        (Method::from_bytes(method), Uri::from_maybe_shared(Bytes::copy_from_slice(target)))
    else {
        return;
    };
    assert!(wire::line(&method, &uri.to_string()).is_ascii(), "a record with other signs");
    let mut request = Request::new(());
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
    let (head, ()) = request.into_parts();
    for sni in [None, Some("weir.example"), Some("wiki.weir.example"), Some("")] {
        drop(wire::addressed(&head, "weir.example", sni).map_err(|no| no.refusal.to_string()));
    }
}

/// Headers, one a line.
pub(super) fn headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.take(200) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some((name, value)) = split(line, b':') else { continue };
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}

/// What stands before and behind the first `sign`.
pub(super) fn split(bytes: &[u8], sign: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == sign)?;
    Some((bytes.get(..at)?, bytes.get(at.saturating_add(1)..)?))
}

/// Copies a document shown, and with every `ssn` hidden.
pub(super) fn json(bytes: &[u8]) {
    let shown = json::copy(bytes, &mut |_| Sight::Show);
    let inside = json::copy(bytes, &mut |_| Sight::Within);
    if let Ok(copied) = &shown {
        assert_eq!(copied.document, bytes, "showing changes nothing");
        assert_eq!(copied.masked, 0);
        let is_json = serde_json::from_slice::<&RawValue>(bytes).is_ok();
        assert!(is_json, "another reader sees no document");
    } else {
        // What another reader takes must not be refused, but for its bounds.
        let small = bytes.len() <= json::KEY_BYTES_MAX;
        assert!(!small || serde_json::from_slice::<Value>(bytes).is_err(), "refused");
    }
    // Keys are read only on the way inside, so that `inside` may refuse more.
    assert!(shown.is_ok() || inside.is_err());
    let mut hide = |place: &[At<'_>]| match place.last() {
        Some(At::Key("ssn")) => Sight::Hide(MASK.to_owned()),
        Some(At::Key("only")) => Sight::Inner,
        Some(At::Key("bad")) => Sight::Refuse("it is bad".to_owned()),
        Some(At::Key(_) | At::Index(_)) | None => Sight::Within,
    };
    if let Ok(copied) = json::copy(bytes, &mut hide) {
        let Ok(document) = serde_json::from_slice::<Value>(&copied.document) else {
            // Numbers beyond a double and lone surrogates are JSON to some.
            let raw = serde_json::from_slice::<&RawValue>(&copied.document);
            assert!(raw.is_ok(), "masking broke a document");
            return;
        };
        assert!(is_hidden(&document), "something hidden is left");
    }
}

fn is_hidden(value: &Value) -> bool {
    match value {
        Value::Object(members) => members
            .iter()
            .all(|(key, value)| if key == "ssn" { value == MASK } else { is_hidden(value) }),
        Value::Array(elements) => elements.iter().all(is_hidden),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}
