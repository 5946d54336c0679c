//! What a client gets of a Secret that it may not see, in every form in which the server tells it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::model::Declared;
use crate::model::encode;
use crate::protocol::kubernetes::query::Query;
use crate::protocol::kubernetes::request;
use crate::protocol::kubernetes::request::Request;

use super::*;

const PLANTED: &str = "PLANTED-SECRET-7f3a";

fn classified(method: &str, text: &str) -> Classified {
    let class = |name: &str| Declared::Class(name.parse().unwrap());
    let secrets = vec![("$.data.*".parse().unwrap(), class("cred.secret"))];
    let people = vec![
        ("$.spec.ssn".parse().unwrap(), class("pii.national_id")),
        ("$.spec.contacts[*].mail".parse().unwrap(), class("pii.email")),
        ("$.spec.note".parse().unwrap(), Declared::Clear),
    ];
    let target = KubernetesTarget {
        kubeconfig: "cluster.kubeconfig".into(),
        context: None,
        kinds: BTreeMap::from([
            ("secrets".parse().unwrap(), secrets),
            ("people.hr.example".parse().unwrap(), people),
        ]),
    };
    let (path, raw) = text.split_once('?').map_or((text, None), |(p, q)| (p, Some(q)));
    let query = Query::read(raw).unwrap();
    let Request::Resource(asked) = request::read(method, path, &query).unwrap() else { panic!() };
    Classified::of(&asked, &target).unwrap()
}

fn hidden(classes: &[&str]) -> Masks {
    let mut masks = Masks::none_asked();
    for class in classes {
        masks.hide(class.parse().unwrap(), Vec::new());
    }
    masks
}

fn secret() -> Value {
    let applied = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "annotations": {"a": PLANTED}},
        "stringData": {"password": PLANTED},
    });
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "data": {"password": encode::base64(PLANTED.as_bytes()), "user": encode::base64(b"app")},
        "metadata": {
            "name": "db", "namespace": "prod", "labels": {"app": "web"},
            "annotations": {LAST_APPLIED: applied.to_string(), "copy": PLANTED},
            "managedFields": [{"fieldsV1": {"f:data": {"v:\"PLANTED-SECRET-7f3a\"": {}}}}],
        },
    })
}

fn masked_as(method: &str, text: &str, status: u16, answer: &Value) -> Result<Value, Withheld> {
    let status = StatusCode::from_u16(status).unwrap();
    let masks = hidden(&["cred.secret"]);
    let document = answer.to_string();
    let masked = classified(method, text).mask(&masks, status, document.as_bytes())?.document;
    assert!(!leaks(&masked), "{}", String::from_utf8_lossy(&masked));
    Ok(serde_json::from_slice(&masked).unwrap())
}

/// Whether the planted value stands anywhere, also in base 64 at any offset.
fn leaks(bytes: &[u8]) -> bool {
    let forms = ["", " ", "  "].map(|before| {
        let encoded = encode::base64(format!("{before}{PLANTED}").as_bytes());
        encoded.get(4..20).unwrap().to_owned()
    });
    let text = String::from_utf8_lossy(bytes);
    text.contains(PLANTED) || forms.iter().any(|form| text.contains(form))
}

const ONE: &str = "/api/v1/namespaces/prod/secrets/db";
const MANY: &str = "/api/v1/namespaces/prod/secrets";

#[test]
fn a_secret_keeps_its_names_and_loses_its_values() {
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let masked = masked_as(method, ONE, 200, &secret()).unwrap();
        assert_eq!(masked["data"]["password"], "PG1hc2tlZDpjcmVkLnNlY3JldD4=");
        assert_eq!(masked["data"].as_object().unwrap().len(), 2);
        assert_eq!(masked["metadata"]["labels"]["app"], "web");
        assert_eq!(masked["metadata"]["annotations"]["copy"], "<masked:cred.secret>");
        assert_eq!(masked["metadata"].get("managedFields"), None);
        let applied = masked["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        let applied: Value = serde_json::from_str(applied).unwrap();
        assert_eq!(applied["stringData"]["password"], "<masked:cred.secret>");
    }
}

#[test]
fn lists_partial_objects_and_copies_that_cannot_be_read_are_masked() {
    let mut item = secret();
    item.as_object_mut().unwrap().remove("kind");
    let list = json!({"apiVersion": "v1", "kind": "SecretList", "metadata": {}, "items": [item, secret()]});
    let masked = masked_as("GET", MANY, 200, &list).unwrap();
    assert_eq!(masked["items"][1]["data"]["user"], "PG1hc2tlZDpjcmVkLnNlY3JldD4=");
    masked_as("DELETE", MANY, 200, &list).unwrap();
    let partial = json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"annotations": {LAST_APPLIED: format!("password: {PLANTED}"), "x": 1}},
    });
    let masked = masked_as("GET", ONE, 200, &partial).unwrap();
    assert_eq!(masked["metadata"]["annotations"][LAST_APPLIED], "<masked:cred.secret>");
}

#[test]
fn every_event_of_a_watch_is_masked() {
    for kind in ["ADDED", "MODIFIED", "DELETED"] {
        let event = json!({"type": kind, "object": secret(), "more": PLANTED});
        let masked = masked_as("GET", "/api/v1/secrets?watch=1", 200, &event).unwrap();
        assert_eq!(masked["object"]["data"]["user"], "PG1hc2tlZDpjcmVkLnNlY3JldD4=");
    }
    let end = json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "Secret",
        "metadata": {"resourceVersion": "7", "annotations": {INITIAL_EVENTS_END: "true"}}}});
    assert_eq!(masked_as("GET", "/api/v1/secrets?watch=1", 200, &end).unwrap(), end);
    let error = json!({"type": "ERROR", "object": {"apiVersion": "v1", "kind": "Status",
        "status": "Failure", "message": PLANTED, "reason": "Expired", "code": 410}});
    let masked = masked_as("GET", "/api/v1/secrets?watch=1", 200, &error).unwrap();
    assert_eq!(
        (&masked["object"]["code"], &masked["object"]["reason"]),
        (&json!(410), &json!("Expired"))
    );
    let line = format!("{end}\n");
    let masks = hidden(&["cred.secret"]);
    let watch = classified("GET", "/api/v1/secrets?watch=1");
    let masked = watch.mask(&masks, StatusCode::OK, line.as_bytes()).unwrap();
    assert_eq!(masked.document, line);
    for bad in [json!({"type": "SHOWN", "object": secret()}), json!({"type": "ADDED"}), secret()] {
        assert!(masked_as("GET", "/api/v1/secrets?watch=1", 200, &bad).is_err(), "{bad}");
    }
}

#[test]
fn the_servers_own_words_are_replaced_and_its_code_is_kept() {
    let failure = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 422,
        "reason": "Invalid", "message": format!("Secret \"db\" is invalid: data: {PLANTED}"),
        "metadata": {"continue": PLANTED},
        "details": {"name": PLANTED, "uid": PLANTED, "causes": [{"message": PLANTED}]}});
    let masked = masked_as("PUT", ONE, 422, &failure).unwrap();
    assert_eq!((&masked["code"], &masked["reason"]), (&json!(422), &json!("Invalid")));
    assert_eq!(masked["details"], json!({"name": "db", "kind": "secrets"}));
    let missing = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 404,
        "reason": "NotFound", "message": "secrets \"db\" not found"});
    assert_eq!(
        masked_as("GET", ONE, 404, &missing).unwrap()["message"],
        "secrets \"db\" not found"
    );
    let uid = "1c5f5d2e-6d0f-4d0e-8f0e-3f6d1f2a9b7c";
    let gone = json!({"apiVersion": "v1", "kind": "Status", "status": "Success",
        "details": {"name": "db", "kind": "secrets", "uid": uid}, "message": PLANTED});
    assert_eq!(masked_as("DELETE", ONE, 200, &gone).unwrap()["details"]["uid"], uid);
    let odd = json!({"apiVersion": "v1", "kind": "Status", "status": PLANTED, "reason": "PLANTED-SECRET-7f3a"});
    assert_eq!(masked_as("GET", ONE, 500, &odd).unwrap()["reason"], "");
}

#[test]
fn a_failure_that_is_not_understood_keeps_only_its_status() {
    let masks = hidden(&["cred.secret"]);
    for body in [PLANTED.to_owned(), format!("[\"{PLANTED}\"]"), String::new()] {
        let kind = classified("GET", ONE);
        let masked = kind.mask(&masks, StatusCode::BAD_GATEWAY, body.as_bytes()).unwrap();
        let masked: Value = serde_json::from_slice(&masked.document).unwrap();
        assert_eq!((&masked["kind"], &masked["code"]), (&json!("Status"), &json!(502)));
        assert!(!masked.to_string().contains(PLANTED));
    }
}

#[test]
fn an_answer_that_is_not_understood_is_withheld() {
    let table = json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table", "metadata": {},
        "rows": [{"cells": [PLANTED]}]});
    let nameless = json!({"metadata": {}, "data": {"x": PLANTED}});
    let bare = json!({"apiVersion": "v1", "kind": "Secret", "data": {"x": PLANTED}});
    let items = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [PLANTED]});
    for answer in [table, nameless, bare, items, json!(PLANTED), json!([secret()])] {
        assert!(masked_as("GET", ONE, 200, &answer).is_err(), "{answer}");
    }
    let masks = hidden(&["cred.secret"]);
    for body in ["kind: Secret", "k8s\0", "{} {}", r#"{"kind":"A","kind":"B"}"#, ""] {
        let kind = classified("GET", ONE);
        assert!(kind.mask(&masks, StatusCode::OK, body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn other_kinds_are_masked_where_they_were_declared() {
    let person = json!({"apiVersion": "hr.example/v1", "kind": "Person", "metadata": {"name": "a"},
        "spec": {"ssn": 123_456_789, "note": "tall",
            "contacts": [{"mail": "a@example.org", "kind": "work"}, {"mail": null}]}});
    let kind = classified("GET", "/apis/hr.example/v1/people/a");
    let seen = |classes: &[&str]| {
        let mut masks = hidden(classes);
        for class in ["pii.email", "pii.national_id"] {
            masks.show(class.parse().unwrap());
        }
        let masked = kind.mask(&masks, StatusCode::OK, person.to_string().as_bytes()).unwrap();
        (serde_json::from_slice::<Value>(&masked.document).unwrap(), masked.masked)
    };
    let (all, masked) = seen(&["pii.email", "pii.national_id"]);
    assert_eq!(
        all["spec"]["ssn"], "<masked:pii.national_id>",
        "a number becomes a mask, not a hole"
    );
    assert_eq!(all["spec"]["contacts"][0]["mail"], "<masked:pii.email>");
    assert_eq!((&all["spec"]["note"], masked), (&json!("tall"), 2));
    let (some, _) = seen(&["pii.email"]);
    assert_eq!(some["spec"]["ssn"], 123_456_789);
    assert_eq!(seen(&[]), (person.clone(), 0), "who may see everything gets the bytes as they are");
}

#[test]
fn a_class_that_nobody_asked_about_is_hidden() {
    let masked = classified("GET", ONE)
        .mask(&Masks::none_asked(), StatusCode::OK, secret().to_string().as_bytes())
        .unwrap();
    assert!(!leaks(&masked.document));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(PLANTED)),
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
    ];
    let names = "data|stringData|metadata|annotations|items|kind|apiVersion|object|type|x";
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((names, inner), 0..6)
                .prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever surrounds it, a value in `data`, `stringData` or an annotation does not get out.
    #[test]
    fn nothing_of_what_is_hidden_gets_out(data in any_json(), listed: bool) {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"annotations": {"a": data}},
            "data": {"a": data}, "stringData": {"b": data}});
        let list = json!({"apiVersion": "v1", "kind": "SecretList", "metadata": {}, "items": [object]});
        let answer = if listed { &list } else { &object };
        drop(masked_as("GET", ONE, 200, answer));
    }

    #[test]
    fn nothing_panics(answer in any_json(), status in 200_u16..600, watch: bool) {
        let text = if watch { "/api/v1/secrets?watch=1" } else { MANY };
        let status = StatusCode::from_u16(status).unwrap();
        let kind = classified("GET", text);
        drop(kind.mask(&hidden(&["cred.secret"]), status, answer.to_string().as_bytes()));
    }
}
