//! Kubernetes: requests, bodies, and answers on their way through a mask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::LazyLock;

use http::StatusCode;
use serde_json::Value;

use crate::fuzzing::hiding;
use crate::fuzzing::http::headers;
use crate::fuzzing::http::split;
use crate::mask;
use crate::model::DataClass;
use crate::model::Declared;
use crate::model::encode;
use crate::model::verdict::Masks;
use crate::protocol::http::Masker;
use crate::protocol::http::mask::Lines;
use crate::protocol::kubernetes::body::Body;
use crate::protocol::kubernetes::command;
use crate::protocol::kubernetes::command::Said;
use crate::protocol::kubernetes::headers::check;
use crate::protocol::kubernetes::json;
use crate::protocol::kubernetes::mask::Classified;
use crate::protocol::kubernetes::protobuf;
use crate::protocol::kubernetes::query::Query;
use crate::protocol::kubernetes::request;
use crate::protocol::kubernetes::request::Asked;
use crate::protocol::kubernetes::request::Request;
use crate::session::guard::Answer;
use crate::target::KubernetesTarget;

/// A line `METHOD PATH?QUERY`, headers, an empty line, a body.
pub(super) fn request(bytes: &[u8]) {
    let (line, rest) = split(bytes, b'\n').unwrap_or((bytes, b""));
    let line = String::from_utf8_lossy(line);
    let (method, target) = line.split_once(' ').unwrap_or(("GET", &line));
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let end = rest.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.and_then(|end| rest.split_at_checked(end)).unwrap_or((rest, b""));
    let headers = headers(head.split(|byte| *byte == b'\n'));
    drop(check(&headers));
    let content_type = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let Ok(query) = Query::read(query) else { return };
    let Ok(request) = request::read(method, path, &query) else { return };
    let classified = match &request {
        Request::Resource(asked) => Classified::of(asked, &TARGET),
        Request::Path { .. } => None,
    };
    let said = Said { line: &line, query: &query, content_type, body: body.trim_ascii_start() };
    let command = command::command(&request, classified.as_ref(), &said);
    assert!(!command.effects.is_empty(), "a request that does nothing");
    assert!(classified.is_none() || !command.reads.is_empty(), "an answer nobody masks");
}

/// A body in every form in which it may be said to be.
pub(super) fn body(bytes: &[u8]) {
    for kind in [
        None,
        Some("application/json"),
        Some("application/json-patch+json"),
        Some("application/apply-patch+yaml"),
        Some("application/vnd.kubernetes.protobuf"),
        Some("text/plain"),
    ] {
        drop(format!("{}", Body::read(kind, bytes).is_dry_run()));
    }
    drop(protobuf::open(bytes).and_then(protobuf::Object::names));
    if let Ok(value) = json::parse(bytes) {
        assert!(json::parse(value.to_string().as_bytes()).is_ok(), "written as no document");
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(encode::unbase64(text));
    }
    assert_eq!(encode::unbase64(&encode::base64(bytes)).as_deref(), Some(bytes));
}

/// An answer about Secrets, of every status and as an event of a watch.
pub(super) fn answer(bytes: &[u8]) {
    let masks = hiding();
    for (watch, status) in [(false, 200), (false, 404), (false, 201), (true, 200), (true, 410)] {
        let Ok(status) = StatusCode::from_u16(status) else { continue };
        let Ok(masked) = classified(watch).mask(&masks, status, bytes) else { continue };
        let document = serde_json::from_slice::<Value>(&masked.document);
        let Ok(document) = document else {
            assert!(masked.document.is_empty(), "masking broke a document");
            continue;
        };
        let object = if watch && status == StatusCode::OK {
            document.get("object").unwrap_or(&Value::Null)
        } else {
            &document
        };
        if object.get("kind").and_then(Value::as_str) != Some("Status") {
            assert!(is_hidden(object), "something hidden is left: {object}");
        }
    }
    drop(lines_in_parts(bytes, b""));
}

/// Whether no value of `data` and `stringData` is left, in the object or its items.
fn is_hidden(object: &Value) -> bool {
    let items = object.get("items").and_then(Value::as_array);
    let members = ["data", "stringData"].iter().filter_map(|name| object.get(*name));
    let own = members.filter_map(Value::as_object).flat_map(|members| members.values());
    own.into_iter().all(is_masked) && items.is_none_or(|items| items.iter().all(is_hidden))
}

fn is_masked(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let decoded = encode::unbase64(text).unwrap_or_default();
            mask::contains_mask(text.as_bytes()) || mask::contains_mask(&decoded)
        }
        Value::Null => true,
        // They are blotted out as texts.
        Value::Bool(_) | Value::Number(_) => false,
        Value::Array(elements) => elements.iter().all(is_masked),
        Value::Object(members) => members.values().all(is_masked),
    }
}

/// The lines of a watch, masked one by one.
pub(super) fn lines_in_parts(first: &[u8], rest: &[u8]) -> String {
    let masks = hiding();
    let mut lines = Lines::new(Arc::new(classified(true)), StatusCode::OK);
    let mut whole = lines.split(first);
    whole.extend(lines.split(rest));
    whole.extend(lines.rest().map(Ok));
    let read = whole.into_iter().map(|line| match line {
        Ok(line) => said(line, &masks),
        Err(refusal) => refusal.to_string(),
    });
    read.collect::<Vec<_>>().join("\n")
}

fn said<A: Answer<Out = bytes::Bytes>>(line: A, masks: &Masks) -> String {
    match line.masked(masks, 1024) {
        Ok(masked) => format!("{:?} {:?}", masked.out, masked.volume),
        Err(withheld) => withheld.to_string(),
    }
}

fn classified(watch: bool) -> Classified {
    let (classified, watching) = &*CLASSIFIED;
    if watch { watching.clone() } else { classified.clone() }
}

static TARGET: LazyLock<KubernetesTarget> = LazyLock::new(|| {
    let path = "$.data.*".parse().ok();
    let class = "cred.secret".parse::<DataClass>().ok().map(Declared::Class);
    let fields = path.zip(class).into_iter().collect::<Vec<_>>();
    let resource = "secrets".parse().ok();
    KubernetesTarget {
        kubeconfig: "kubeconfig".into(),
        context: None,
        kinds: resource.map(|resource| BTreeMap::from([(resource, fields)])).unwrap_or_default(),
    }
});

static CLASSIFIED: LazyLock<(Classified, Classified)> = LazyLock::new(|| {
    let of = |query: &str| {
        let query = Query::read(Some(query)).ok()?;
        match request::read("GET", "/api/v1/namespaces/prod/secrets", &query).ok()? {
            Request::Resource(asked) => Classified::of(&Asked { ..asked }, &TARGET),
            Request::Path { .. } => None,
        }
    };
    of("").zip(of("watch=true")).unwrap_or_else(|| unreachable!("Secrets are classified in here"))
});
