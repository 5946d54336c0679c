//! Commands of sessions as events: one when a command is decided, one when it has ended.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::audit::ocsf::base;
use crate::audit::ocsf::base::Class;
use crate::audit::ocsf::base::Event;
use crate::audit::ocsf::base::Severity;
use crate::audit::ocsf::base::Status;
use crate::audit::ocsf::ledger::Session;

/// Kinds of objects whose names are the target's own and no values.
const NAMED: [&str; 6] = ["table", "view", "function", "schema", "program", "unit"];

/// The event of one entry of a session's record; `None` for what is no command, or stands in the
/// ledger too.
pub(super) fn event(
    session: &str,
    known: Option<&Session>,
    at: Timestamp,
    entry: &Value,
    include_text: bool,
) -> Option<Event> {
    let is = entry.get("is").and_then(Value::as_str)?;
    let null = Value::Null;
    let member = |name: &str| entry.get(name).unwrap_or(&null);
    let protocol = known.map_or("", |known| known.protocol.as_str());
    let (status, severity) = outcome(is, entry)?;
    let command = member("command");
    let verb = command.get("verb").and_then(Value::as_str).unwrap_or(is);
    let (class, activity) = class_of(protocol, verb, command);
    let user = known.map_or_else(|| json!({ "uid": "unknown" }), |known| known.user.clone());
    let source = known.map_or_else(|| json!({ "uid": session }), |known| known.source.clone());
    let destination = known.map_or_else(|| json!({ "name": "unknown" }), |k| k.target.clone());
    let mut unmapped = json!({
        "is": is,
        "number": member("number"),
        "verdict": member("verdict").get("is"),
        "rules": rules(member("verdict")),
        "observed": entry.get("observed"),
        "effects": command.get("effects"),
        "reads": command.get("reads"),
        "writes": command.get("writes"),
        "objects": objects(command, include_text),
        "how": member("ending").get("how"),
        "volume": entry.get("volume"),
        "sent_bytes": entry.get("sent_bytes"),
    });
    if let Some(members) = unmapped.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    let mut event = Event::new(class, activity, at, severity)
        .status(status)
        .with("actor", json!({ "user": user, "session": { "uid": session } }))
        .with("src_endpoint", source)
        .with("dst_endpoint", destination.clone())
        .with("unmapped", unmapped);
    let text = command.get("text").filter(|_| include_text);
    match class {
        base::DATASTORE => {
            let name = destination.get("name");
            event =
                event.with("database", json!({ "name": name, "type_id": 1, "type": "Relational" }));
            if let Some(text) = text {
                event = event.with("query_info", json!({ "query_string": text }));
            }
        }
        base::API => event = event.with("api", json!({ "operation": verb })),
        base::HTTP => event = event.with("http_request", json!({ "http_method": verb })),
        _ => {}
    }
    Some(match text {
        Some(text) if class != base::DATASTORE => event.with("message", text.clone()),
        Some(_) | None => event,
    })
}

fn outcome(is: &str, entry: &Value) -> Option<(Status, Severity)> {
    match is {
        "command" => {
            let verdict = entry.pointer("/verdict/is").and_then(Value::as_str);
            let observed = entry.get("observed").and_then(Value::as_bool).unwrap_or(false);
            Some(match verdict {
                Some("deny") if !observed => (Status::Failure, Severity::Medium),
                Some("hold") if !observed => (Status::Success, Severity::Low),
                Some(_) | None => (Status::Success, Severity::Informational),
            })
        }
        "ended" => {
            let how = entry.pointer("/ending/how").and_then(Value::as_str);
            let done = how == Some("done");
            let status = if done { Status::Success } else { Status::Failure };
            Some((status, Severity::Informational))
        }
        "refused" => Some((Status::Failure, Severity::Medium)),
        _ => None,
    }
}

/// The class of a protocol's commands, and what this one does in the class's words.
fn class_of(protocol: &str, verb: &str, command: &Value) -> (Class, (u64, &'static str)) {
    let effects = command.get("effects").and_then(Value::as_array);
    let has = |effect: &str| effects.is_some_and(|all| all.iter().any(|one| one == effect));
    match protocol {
        "postgres" => {
            let activity = if has("delete") || has("destroy") {
                (7, "Delete")
            } else if has("define") {
                (6, "Create")
            } else if has("write") {
                (5, "Write")
            } else if has("read") {
                (1, "Read")
            } else {
                (4, "Query")
            };
            (base::DATASTORE, activity)
        }
        "http" => {
            let activity = match verb.to_ascii_uppercase().as_str() {
                "CONNECT" => (1, "Connect"),
                "DELETE" => (2, "Delete"),
                "GET" => (3, "Get"),
                "HEAD" => (4, "Head"),
                "OPTIONS" => (5, "Options"),
                "POST" => (6, "Post"),
                "PUT" => (7, "Put"),
                "TRACE" => (8, "Trace"),
                _ => (99, "Other"),
            };
            (base::HTTP, activity)
        }
        "ssh" => (base::SSH, (6, "Traffic")),
        "kubernetes" => {
            let activity = match verb {
                "create" => (1, "Create"),
                "get" | "list" | "watch" => (2, "Read"),
                "update" | "patch" => (3, "Update"),
                "delete" | "deletecollection" => (4, "Delete"),
                _ => (99, "Other"),
            };
            (base::API, activity)
        }
        _ => (base::BASE, (99, "Other")),
    }
}

fn rules(verdict: &Value) -> Value {
    verdict.get("rules").cloned().unwrap_or_default()
}

/// What a command touches: names only where they are no values, or where text may leave.
fn objects(command: &Value, include_text: bool) -> Value {
    let Some(all) = command.get("objects").and_then(Value::as_array) else { return Value::Null };
    let object = |object: &Value| {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        let named = include_text || NAMED.contains(&kind);
        base::only(object, if named { &["kind", "name", "effect"] } else { &["kind", "effect"] })
    };
    Value::Array(all.iter().map(object).collect())
}
