//! What every event has, and the objects that several classes share.

use jiff::Timestamp;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The version of the schema.
const VERSION: &str = "1.3.0";

/// Who says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// The gateway's id.
    pub gateway: String,
    /// The version of Weir.
    pub version: String,
    /// Text of commands, reasons of refusals and names of objects may leave.
    pub include_text: bool,
}

/// A class of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    uid: u64,
    category: u64,
    name: &'static str,
}

pub(super) const BASE: Class = Class { uid: 0, category: 0, name: "Base Event" };
pub(super) const COMPLIANCE: Class = Class { uid: 2003, category: 2, name: "Compliance Finding" };
pub(super) const DETECTION: Class = Class { uid: 2004, category: 2, name: "Detection Finding" };
pub(super) const AUTHENTICATION: Class = Class { uid: 3002, category: 3, name: "Authentication" };
pub(super) const ENTITY: Class = Class { uid: 3004, category: 3, name: "Entity Management" };
pub(super) const HTTP: Class = Class { uid: 4002, category: 4, name: "HTTP Activity" };
pub(super) const SSH: Class = Class { uid: 4007, category: 4, name: "SSH Activity" };
pub(super) const LIFECYCLE: Class = Class { uid: 6002, category: 6, name: "Application Lifecycle" };
pub(super) const API: Class = Class { uid: 6003, category: 6, name: "API Activity" };
pub(super) const DATASTORE: Class = Class { uid: 6005, category: 6, name: "Datastore Activity" };

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Informational,
    Low,
    Medium,
    High,
}

impl Severity {
    fn id(self) -> (u64, &'static str) {
        match self {
            Self::Informational => (1, "Informational"),
            Self::Low => (2, "Low"),
            Self::Medium => (3, "Medium"),
            Self::High => (4, "High"),
        }
    }
}

/// Whether it went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Success,
    Failure,
}

/// An event in the making.
#[derive(Debug)]
pub(super) struct Event(Map<String, Value>);

impl Event {
    pub(super) fn new(
        class: Class,
        (activity, name): (u64, &str),
        at: Timestamp,
        severity: Severity,
    ) -> Self {
        let (severity_id, severity) = severity.id();
        let mut event = Map::new();
        for (member, value) in [
            ("class_uid", json!(class.uid)),
            ("class_name", json!(class.name)),
            ("category_uid", json!(class.category)),
            ("activity_id", json!(activity)),
            ("activity_name", json!(name)),
            ("type_uid", json!(class.uid.saturating_mul(100).saturating_add(activity))),
            ("time", json!(at.as_millisecond())),
            ("severity_id", json!(severity_id)),
            ("severity", json!(severity)),
        ] {
            event.insert(member.to_owned(), value);
        }
        Self(event)
    }

    pub(super) fn with(mut self, member: &str, value: Value) -> Self {
        if !value.is_null() {
            self.0.insert(member.to_owned(), value);
        }
        self
    }

    pub(super) fn status(self, status: Status) -> Self {
        let (id, word) = match status {
            Status::Success => (1, "Success"),
            Status::Failure => (2, "Failure"),
        };
        self.with("status_id", json!(id)).with("status", json!(word))
    }

    /// The event as number `sequence` of a log: of the ledger's entries, or of commands.
    pub(super) fn done(self, product: &Product, log: &str, uid: &str, sequence: u64) -> Value {
        let metadata = json!({
            "version": VERSION,
            "uid": uid,
            "sequence": sequence,
            "log_name": log,
            "product": {
                "name": "Weir",
                "vendor_name": "Weir",
                "version": product.version,
                "uid": product.gateway,
            },
        });
        Value::Object(self.with("metadata", metadata).0)
    }
}

/// The members of `from` that are named, and no others.
pub(super) fn only(from: &Value, members: &[&str]) -> Value {
    let mut kept = Map::new();
    for member in members {
        if let Some(value) = from.get(member).filter(|value| !value.is_null()) {
            kept.insert((*member).to_owned(), value.clone());
        }
    }
    Value::Object(kept)
}

/// A principal, as `user`.
pub(super) fn user(principal: &Value) -> Value {
    let kind = principal.get("kind").and_then(Value::as_str);
    // 1 User, 3 System; 99 what the schema has no word for.
    let (type_id, kind) = match kind {
        Some("person") => (1, "User"),
        Some("workload" | "gateway") => (3, "System"),
        Some(_) | None => (99, "Other"),
    };
    let groups = principal.get("roles").and_then(Value::as_array).into_iter().flatten();
    let groups = groups.map(|role| json!({ "name": role })).collect::<Vec<_>>();
    let mut user = json!({
        "name": principal.get("name"),
        "uid": principal.get("subject"),
        "domain": principal.get("issuer"),
        "type_id": type_id,
        "type": kind,
        "groups": groups,
    });
    if let (Some(user), Some(entity)) = (user.as_object_mut(), principal.get("entity"))
        && !entity.is_null()
    {
        user.insert("org".to_owned(), json!({ "uid": entity, "name": entity }));
    }
    user
}

/// Where somebody comes from, as `src_endpoint`.
pub(super) fn source(origin: &Value) -> Value {
    let mut endpoint = json!({ "ip": origin.get("address") });
    if let (Some(endpoint), Some(country)) = (endpoint.as_object_mut(), origin.get("country"))
        && !country.is_null()
    {
        endpoint.insert("location".to_owned(), json!({ "country": country }));
    }
    endpoint
}

/// A target, as `dst_endpoint`.
pub(super) fn target(name: &Value, protocol: Option<&Value>, region: Option<&Value>) -> Value {
    let mut endpoint = json!({ "name": name });
    if let Some(endpoint) = endpoint.as_object_mut() {
        if let Some(protocol) = protocol {
            endpoint.insert("svc_name".to_owned(), protocol.clone());
        }
        if let Some(region) = region {
            endpoint.insert("zone".to_owned(), region.clone());
        }
    }
    endpoint
}

/// A refusal, without its sentence unless text may leave: it may repeat what was asked.
pub(super) fn refusal(refusal: &Value, include_text: bool) -> Value {
    let members: &[&str] =
        if include_text { &["code", "rules", "reason"] } else { &["code", "rules"] };
    only(refusal, members)
}
