//! Entries of the ledger as events.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::audit::ocsf::base;
use crate::audit::ocsf::base::Event;
use crate::audit::ocsf::base::Product;
use crate::audit::ocsf::base::Severity;
use crate::audit::ocsf::base::Status;
use crate::audit::ocsf::command;
use crate::audit::ocsf::feed::Told;

/// How many sessions are remembered, so that later entries of theirs can say who it was.
const SESSIONS_MAX: usize = 20_000;

/// Makes events of entries, in the order of the ledger.
#[derive(Debug)]
pub struct Mapper {
    product: Product,
    sessions: BTreeMap<String, Session>,
    sequence: u64,
}

/// What is remembered of a session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) user: Value,
    pub(super) source: Value,
    pub(super) target: Value,
    pub(super) protocol: String,
}

impl Mapper {
    /// A mapper whose next event is number `sequence`, from 1.
    pub fn new(product: Product, sequence: u64) -> Self {
        Self { product, sessions: BTreeMap::new(), sequence }
    }

    /// The number that the next event will have.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Says the numbers from `sequence` on once more: what had them was not delivered.
    pub(super) fn rewind(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// The event that says what entry `n` says. `None`: it says nothing to whoever watches, as the
    /// heads of trails do.
    pub fn ledger(&mut self, n: u64, at: Timestamp, entry: &Value) -> Option<Value> {
        let event = self.event(at, entry)?;
        Some(self.numbered(event, &n.to_string()))
    }

    /// The event of an entry of a session's record, where it is about a command.
    pub fn command(&self, told: &Told) -> Option<Value> {
        let session = told.session.to_string();
        let known = self.sessions.get(&session);
        let include_text = self.product.include_text;
        let event = command::event(&session, known, told.at, &told.event, include_text)?;
        let uid = match told.event.get("number") {
            Some(number) => format!("{session}/{number}"),
            None => session,
        };
        Some(event.done(&self.product, "commands", &uid, told.sequence))
    }

    fn numbered(&mut self, event: Event, uid: &str) -> Value {
        let done = event.done(&self.product, "ledger", uid, self.sequence);
        self.sequence = self.sequence.saturating_add(1);
        done
    }

    fn event(&mut self, at: Timestamp, entry: &Value) -> Option<Event> {
        let word = |name: &str| entry.get(name).and_then(Value::as_str);
        let info = Severity::Informational;
        Some(match word("is")? {
            "heads" => return None,
            "started" => self.lifecycle((3, "Start"), at, entry, &["snapshot", "observed"]),
            "stopped" => self.lifecycle((4, "Stop"), at, entry, &["reason"]),
            "changed" => Event::new(base::ENTITY, (3, "Update"), at, info)
                .status(Status::Success)
                .with(
                    "entity",
                    json!({ "name": "policy, law and catalogue", "type": "snapshot",
                    "uid": entry.get("to") }),
                )
                .with("unmapped", base::only(entry, &["from", "to", "observed"])),
            "admitted" => self.admitted(at, entry),
            "refused" => self.refused(at, entry),
            "trail-closed" => self.ended(at, entry, info, "session ended"),
            "trail-recovered" => {
                Self::finding(at, entry, "a session's record was found open after a crash")
            }
            "torn-tail" => Self::finding(at, entry, "the ledger ended in half an entry"),
            "transfer-opened" => self.transfer(at, entry, (1, "Create")),
            "transfer-volume" => {
                let closed = entry.get("closed").and_then(Value::as_bool).unwrap_or(false);
                self.transfer(at, entry, if closed { (3, "Close") } else { (2, "Update") })
            }
            "transfer-unclean" => self.transfer(at, entry, (3, "Close")),
            "held" => self.api(at, entry, "hold", Status::Success),
            "hold-ended" => self.hold_ended(at, entry),
            "control" => self.control(at, entry),
            other => Event::new(base::BASE, (99, "Other"), at, info)
                .with("unmapped", json!({ "is": other, "session": entry.get("session") })),
        })
    }

    fn lifecycle(
        &self,
        activity: (u64, &str),
        at: Timestamp,
        entry: &Value,
        members: &[&str],
    ) -> Event {
        let product = &self.product;
        let app = json!({ "name": "Weir", "vendor_name": "Weir", "version": product.version,
            "uid": product.gateway });
        Event::new(base::LIFECYCLE, activity, at, Severity::Informational)
            .status(Status::Success)
            .with("app", app)
            .with("unmapped", base::only(entry, members))
    }

    fn admitted(&mut self, at: Timestamp, entry: &Value) -> Event {
        let null = Value::Null;
        let member = |name: &str| entry.get(name).unwrap_or(&null);
        let known = Session {
            user: base::user(member("principal")),
            source: base::source(member("origin")),
            target: base::target(member("target"), entry.get("protocol"), entry.get("region")),
            protocol: member("protocol").as_str().unwrap_or_default().to_owned(),
        };
        let members = ["region", "rules", "transfer", "suppressed", "observe", "snapshot", "proof"];
        let mut unmapped = base::only(entry, &members);
        let outcome = entry.get("transfer").map(|t| base::only(t, &["outcome", "rows"]));
        if let (Some(unmapped), Some(outcome)) = (unmapped.as_object_mut(), outcome) {
            unmapped.insert("transfer".to_owned(), outcome);
            let login = entry.pointer("/proof/login").cloned().unwrap_or_default();
            unmapped.insert("proof".to_owned(), json!({ "login": login }));
        }
        let event = Event::new(base::AUTHENTICATION, (1, "Logon"), at, Severity::Informational)
            .status(Status::Success)
            .with("user", known.user.clone())
            .with("actor", json!({ "user": known.user }))
            .with("src_endpoint", known.source.clone())
            .with("dst_endpoint", known.target.clone())
            .with("session", json!({ "uid": entry.get("session") }))
            .with("unmapped", unmapped);
        if let Some(session) = entry.get("session").and_then(Value::as_str) {
            if self.sessions.len() >= SESSIONS_MAX {
                // Ids begin with the time: the first is the oldest.
                self.sessions.pop_first();
            }
            self.sessions.insert(session.to_owned(), known);
        }
        event
    }

    fn refused(&self, at: Timestamp, entry: &Value) -> Event {
        let null = Value::Null;
        let member = |name: &str| entry.get(name).unwrap_or(&null);
        let user = base::user(member("principal"));
        let refusal = base::refusal(member("refusal"), self.product.include_text);
        Event::new(base::AUTHENTICATION, (1, "Logon"), at, Severity::Medium)
            .status(Status::Failure)
            .with("status_code", refusal.get("code").cloned().unwrap_or_default())
            .with("user", user.clone())
            .with("actor", json!({ "user": user }))
            .with("src_endpoint", base::source(member("origin")))
            .with("dst_endpoint", base::target(member("target"), None, None))
            .with("unmapped", json!({ "refusal": refusal, "snapshot": entry.get("snapshot") }))
    }

    /// The end of a session.
    fn ended(&self, at: Timestamp, entry: &Value, severity: Severity, what: &str) -> Event {
        let session = session_of(entry);
        let known = self.sessions.get(&session);
        Event::new(base::AUTHENTICATION, (2, "Logoff"), at, severity)
            .status(Status::Success)
            .with("message", json!(what))
            .with("user", known.map_or_else(|| json!({ "uid": "unknown" }), |k| k.user.clone()))
            .with(
                "dst_endpoint",
                known.map_or_else(|| json!({ "name": "unknown" }), |k| k.target.clone()),
            )
            .with("session", json!({ "uid": session }))
            .with("unmapped", base::only(entry, &["head"]))
    }

    fn finding(at: Timestamp, entry: &Value, title: &str) -> Event {
        let session = session_of(entry);
        let uid = if session.is_empty() { "ledger".to_owned() } else { session };
        let severity = if entry.get("damage").is_none_or(Value::is_null) {
            Severity::Low
        } else {
            Severity::High
        };
        Event::new(base::DETECTION, (1, "Create"), at, severity)
            .with("finding_info", json!({ "uid": uid, "title": title }))
            .with("resources", json!([{ "uid": uid, "type": "record" }]))
            .with("unmapped", base::only(entry, &["session", "head", "damage", "bytes", "kept_as"]))
    }

    fn transfer(&self, at: Timestamp, entry: &Value, activity: (u64, &str)) -> Event {
        let session = session_of(entry);
        let direction = entry.get("direction").and_then(Value::as_str);
        let uid = format!("transfer/{session}");
        let unclean = entry.get("is").and_then(Value::as_str) == Some("transfer-unclean");
        let severity = if unclean { Severity::Medium } else { Severity::Informational };
        let basis = entry.get("basis").map(|basis| base::only(basis, &["outcome", "rows"]));
        let requirements =
            basis.as_ref().and_then(|basis| basis.get("rows")).cloned().unwrap_or(json!([]));
        let mut unmapped = base::only(
            entry,
            &["session", "from", "to", "place", "direction", "classes", "volume", "closed"],
        );
        if let (Some(unmapped), Some(basis)) = (unmapped.as_object_mut(), basis) {
            unmapped.insert("basis".to_owned(), basis);
        }
        let known = self.sessions.get(&session);
        let title = match direction {
            Some(direction) => format!("personal data moves across a border ({direction})"),
            None => "personal data moved across a border".to_owned(),
        };
        Event::new(base::COMPLIANCE, activity, at, severity)
            .with("finding_info", json!({ "uid": uid, "title": title }))
            .with(
                "compliance",
                json!({ "standards": ["data residency"],
                "requirements": requirements, "status_id": 1, "status": "Pass" }),
            )
            .with("actor", known.map(|known| json!({ "user": known.user })).unwrap_or_default())
            .with(
                "resources",
                known.map(|k| json!([{ "name": k.target.get("name") }])).unwrap_or_default(),
            )
            .with("unmapped", unmapped)
    }

    fn api(&self, at: Timestamp, entry: &Value, operation: &str, status: Status) -> Event {
        let session = session_of(entry);
        let known = self.sessions.get(&session);
        let actor = known.map_or_else(
            || json!({ "session": { "uid": session } }),
            |known| json!({ "user": known.user, "session": { "uid": session } }),
        );
        let source = known.map_or_else(|| json!({ "uid": session }), |known| known.source.clone());
        let event = Event::new(base::API, (99, operation), at, Severity::Informational)
            .status(status)
            .with("api", json!({ "operation": operation, "service": { "name": "weir" } }))
            .with("actor", actor)
            .with("src_endpoint", source)
            .with("unmapped", base::only(entry, &["hold", "session", "number", "exactly"]));
        match known {
            Some(known) => event.with("dst_endpoint", known.target.clone()),
            None => event,
        }
    }

    fn hold_ended(&self, at: Timestamp, entry: &Value) -> Event {
        let ending = entry.get("ending");
        let member = |name: &str| ending.and_then(|ending| ending.get(name)?.as_str());
        let how = member("how").unwrap_or("unknown");
        let (operation, status) = match how {
            "approved" => ("approve", Status::Success),
            "declined" => ("deny", Status::Success),
            _ => (how, Status::Failure),
        };
        let hold = entry.get("hold").cloned().unwrap_or_default();
        let by = member("by");
        let actor = by.map_or_else(
            || json!({ "session": { "uid": hold } }),
            |by| json!({ "user": { "name": by, "uid": by } }),
        );
        self.api(at, entry, operation, status)
            .with("actor", actor)
            .with("resources", json!([{ "uid": hold, "type": "hold" }]))
    }

    fn control(&self, at: Timestamp, entry: &Value) -> Event {
        let null = Value::Null;
        let member = |name: &str| entry.get(name).unwrap_or(&null);
        let action = member("action").as_str().unwrap_or("unknown");
        let refused = !member("refusal").is_null();
        let (status, severity) = if refused {
            (Status::Failure, Severity::Medium)
        } else {
            (Status::Success, Severity::Informational)
        };
        let activity = match action {
            "replay" | "search" | "show" | "list" => (2, "Read"),
            "kill" | "revoke" => (4, "Delete"),
            other => (99, other),
        };
        let refusal = base::refusal(member("refusal"), self.product.include_text);
        Event::new(base::API, activity, at, severity)
            .status(status)
            .with("api", json!({ "operation": action, "service": { "name": "weir" } }))
            .with("actor", json!({ "user": base::user(member("principal")) }))
            .with("src_endpoint", base::source(member("origin")))
            .with("resources", json!([{ "uid": member("of") }]))
            .with("unmapped", json!({ "rules": member("rules"), "refusal": refusal }))
    }
}

fn session_of(entry: &Value) -> String {
    entry.get("session").and_then(Value::as_str).unwrap_or_default().to_owned()
}
