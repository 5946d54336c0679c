//! Masks answers about classified kinds: objects, lists of them, watch events, and the server's own
//! words.
//!
//! Every answer of every verb on such a kind comes through here: a PATCH of nothing, a DELETE and a
//! dry run return whole objects, and errors print values. What is not understood is withheld.
//! Pure: values in, values out; which class is hidden is told by [`Masks`].

use std::cell::Cell;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::mask;
use crate::mask::path::At;
use crate::mask::path::JsonPath;
use crate::mask::path::Meeting;
use crate::model::DataClass;
use crate::model::encode;
use crate::model::verdict::Masks;
use crate::protocol::http::MaskedDocument;
use crate::protocol::http::Masker;
use crate::protocol::kubernetes::json;
use crate::protocol::kubernetes::request::Asked;
use crate::protocol::kubernetes::request::Verb;
use crate::session::guard::Withheld;
use crate::target::KubernetesTarget;
use crate::target::kubernetes::Resource;

/// What kubectl keeps of the last `apply`: it repeats the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Says that a streamed list is complete; reflectors wait for it.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A kind of object that was declared to hold classified data, and the request that names it.
#[derive(Debug, Clone)]
pub struct Classified {
    resource: Resource,
    name: String,
    /// Whether the answer is a watch: events, one a line.
    watch: bool,
    fields: Vec<(JsonPath, DataClass)>,
}

/// An answer that cannot be masked: why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unmaskable(&'static str);

impl Classified {
    /// What was declared of the kind that is asked for; `None` where that is nothing classified.
    pub fn of(asked: &Asked, target: &KubernetesTarget) -> Option<Self> {
        let resource = asked.kind().parse::<Resource>().ok()?;
        let declared = target.fields(&resource).iter();
        let fields = declared
            .filter_map(|(path, declared)| Some((path.clone(), declared.class()?.clone())))
            .collect::<Vec<_>>();
        let (name, watch) = (asked.name.clone(), asked.verb == Verb::Watch);
        (!fields.is_empty()).then_some(Self { resource, name, watch, fields })
    }

    /// The classes that objects of this kind hold.
    pub fn classes(&self) -> impl Iterator<Item = &DataClass> {
        self.fields.iter().map(|(_, class)| class)
    }

    /// What of it is hidden under `masks`; `None` where everything may be seen.
    fn hidden(&self, masks: &Masks) -> Option<Hidden<'_>> {
        let fields = self.fields.iter().filter(|(_, class)| masks.hides(class)).collect::<Vec<_>>();
        let (_, first) = fields.first()?;
        let secret = self.resource.name() == "secrets" && self.resource.group().is_empty();
        let (masked, rows) = (Cell::new(0), Cell::new(0));
        Some(Hidden { of: self, mask: mask::text(first), secret, fields, masked, rows })
    }
}

impl Masker for Classified {
    fn mask(
        &self,
        masks: &Masks,
        status: StatusCode,
        document: &[u8],
    ) -> Result<MaskedDocument, Withheld> {
        let Some(hidden) = self.hidden(masks) else {
            let document = Bytes::copy_from_slice(document);
            return Ok(MaskedDocument { document, masked: 0, rows: 1 });
        };
        let masked = if self.watch && status == StatusCode::OK {
            hidden.event(document)
        } else {
            hidden.document(status.as_u16(), document)
        };
        let document = masked.map_err(|Unmaskable(why)| {
            Withheld::unmaskable(format!(
                "the cluster's answer about {} cannot be masked: {why}",
                self.resource
            ))
        })?;
        let (masked, rows) = (hidden.masked.get(), hidden.rows.get());
        Ok(MaskedDocument { document: document.into(), masked, rows })
    }
}

/// A kind of which something is hidden.
#[derive(Debug)]
struct Hidden<'a> {
    of: &'a Classified,
    /// What stands in for a copy of the object, or of a part of it.
    mask: String,
    /// Whether values of `data` are base 64, and `stringData` is another spelling of it.
    secret: bool,
    fields: Vec<&'a (JsonPath, DataClass)>,
    /// How many values were masked, and how many objects there were.
    masked: Cell<u64>,
    rows: Cell<u64>,
}

impl Hidden<'_> {
    /// Masks an answer that is one document; `status` is its HTTP status.
    fn document(&self, status: u16, body: &[u8]) -> Result<Vec<u8>, Unmaskable> {
        match (json::parse(body), status) {
            (Ok(mut document), _) => match self.answer(&mut document, status) {
                Ok(()) => Ok(document.to_string().into_bytes()),
                Err(_) if status >= 400 => Ok(self.failure(status).to_string().into_bytes()),
                Err(unmaskable) => Err(unmaskable),
            },
            // What is in front of the API server answers in plain text, and so does the server
            // where it has no object to speak of.
            (Err(_), 400..) => Ok(self.failure(status).to_string().into_bytes()),
            (Err(_), _) => Err(Unmaskable("the answer is not one JSON document")),
        }
    }

    /// Masks one line of a watch: `{"type": …, "object": …}`.
    fn event(&self, line: &[u8]) -> Result<Vec<u8>, Unmaskable> {
        let bad = Unmaskable("a line of the watch is no event");
        let Ok(Value::Object(mut event)) = json::parse(line) else { return Err(bad) };
        let known = matches!(
            event.get("type").and_then(Value::as_str),
            Some("ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR")
        );
        let object = event.get_mut("object").filter(|_| known).ok_or(bad)?;
        self.answer(object, 500)?;
        // Members beyond the two are not the API's.
        event.retain(|name, _| name == "type" || name == "object");
        let mut masked = Value::Object(event).to_string().into_bytes();
        masked.extend(line.last().filter(|last| **last == b'\n'));
        Ok(masked)
    }

    fn answer(&self, answer: &mut Value, status: u16) -> Result<(), Unmaskable> {
        let Value::Object(object) = &*answer else { return Err(Unmaskable("it is no object")) };
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
        match (version.as_str(), kind.as_str()) {
            ("v1", "Status") => *answer = self.status(object, status),
            // The cells of a table come from columns that nobody declared.
            (_, "Table") => return Err(Unmaskable("it is a table, whose cells nobody declared")),
            ("", _) | (_, "") => {
                return Err(Unmaskable("it does not say what kind of object it is"));
            }
            _ if object.get("metadata").is_some_and(Value::is_object) => self.object(answer)?,
            _ => return Err(Unmaskable("it is neither an object nor a list of objects")),
        }
        Ok(())
    }

    /// Masks an object, and, where it is a list, each of its items: a list says of its items
    /// neither kind nor version.
    fn object(&self, object: &mut Value) -> Result<(), Unmaskable> {
        self.mask_fields(object);
        self.mask_copies(object);
        let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) else {
            self.rows.set(self.rows.get().saturating_add(1));
            return Ok(());
        };
        for item in items {
            if !item.is_object() {
                return Err(Unmaskable("an item of the list is no object"));
            }
            // An item may be a list itself. The depth of a document is bounded where it is read.
            self.object(item)?;
        }
        Ok(())
    }

    /// Masks what stands where it was declared.
    fn mask_fields(&self, object: &mut Value) {
        self.walk(object, &mut Vec::new());
    }

    fn walk<'v>(&self, value: &'v mut Value, at: &mut Vec<At<'v>>) {
        match self.meet(at) {
            Met::Apart => {}
            Met::Within(class) => {
                let base64 = self.secret && at.first() == Some(&At::Key("data"));
                let text = mask::text(class);
                let text = if base64 { encode::base64(text.as_bytes()) } else { text };
                let masked = blot(value, &text);
                self.masked.set(self.masked.get().saturating_add(masked));
            }
            Met::Above => match value {
                Value::Object(members) => {
                    for (name, member) in members {
                        at.push(At::Key(name));
                        self.walk(member, at);
                        at.pop();
                    }
                }
                Value::Array(elements) => {
                    for (index, element) in elements.iter_mut().enumerate() {
                        at.push(At::Index(index));
                        self.walk(element, at);
                        at.pop();
                    }
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            },
        }
    }

    fn meet(&self, at: &[At<'_>]) -> Met<'_> {
        // `stringData` is `data` on its way in; last-applied-configuration has it too.
        let renamed = match at {
            [At::Key("stringData"), rest @ ..] if self.secret => {
                Some([&[At::Key("data")], rest].concat())
            }
            _ => None,
        };
        let mut met = Met::Apart;
        for (path, class) in &self.fields {
            let meeting = renamed.as_ref().map_or(Meeting::Apart, |renamed| path.meet(renamed));
            for meeting in [path.meet(at), meeting] {
                match meeting {
                    Meeting::Here | Meeting::Inside => return Met::Within(class),
                    Meeting::Above => met = Met::Above,
                    Meeting::Apart => {}
                }
            }
        }
        met
    }

    /// Masks what may repeat the object: annotations, and the record of who set which field.
    fn mask_copies(&self, object: &mut Value) {
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        metadata.remove("managedFields");
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        for (name, value) in annotations.into_iter().flatten() {
            if name == INITIAL_EVENTS_END && value == "true" {
                continue;
            }
            let repeated = value.as_str().filter(|_| name == LAST_APPLIED);
            *value = repeated
                .and_then(|text| self.repeated(text))
                .unwrap_or_else(|| self.mask.clone())
                .into();
        }
    }

    /// The object that an annotation repeats, masked; three-way merges need its names.
    fn repeated(&self, text: &str) -> Option<String> {
        let mut object = json::parse(text.as_bytes()).ok().filter(Value::is_object)?;
        if object.get("items").is_some() {
            return None;
        }
        self.mask_fields(&mut object);
        self.mask_copies(&mut object);
        Some(object.to_string())
    }

    /// A `Status` in fixed words: its message and causes print values.
    fn status(&self, status: &Map<String, Value>, http: u16) -> Value {
        let succeeded = status.get("status").and_then(Value::as_str) == Some("Success");
        let plain = |text: &&str| {
            (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphabetic())
        };
        let reason = status.get("reason").and_then(Value::as_str).filter(plain);
        let code = status.get("code").and_then(Value::as_u64);
        let code = code.and_then(|code| u16::try_from(code).ok()).unwrap_or(http);
        let told = status.get("details").and_then(Value::as_object);
        let mut details = self.details();
        // kubectl waits for the end of the object with this id.
        let uid = told.and_then(|told| told.get("uid")).and_then(Value::as_str);
        if let Some(uid) = uid.filter(|uid| uid.parse::<uuid::Uuid>().is_ok()) {
            details.insert("uid".to_owned(), uid.into());
        }
        let wait = told.and_then(|told| told.get("retryAfterSeconds")).and_then(Value::as_u64);
        if let Some(wait) = wait.filter(|wait| *wait <= 3600) {
            details.insert("retryAfterSeconds".to_owned(), wait.into());
        }
        if succeeded {
            return json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": details,
            });
        }
        self.failed(code, reason.unwrap_or_default(), &details)
    }

    /// A `Status` for a failure that is not one, or none that we understand.
    fn failure(&self, status: u16) -> Value {
        self.failed(status, "", &self.details())
    }

    fn failed(&self, code: u16, reason: &str, details: &Map<String, Value>) -> Value {
        let (kind, name) = (self.of.resource.to_string(), &self.of.name);
        let message = match (reason, name.as_str()) {
            ("NotFound", name) if !name.is_empty() => format!("{kind} {name:?} not found"),
            ("AlreadyExists", name) if !name.is_empty() => {
                format!("{kind} {name:?} already exists")
            }
            ("Forbidden", _) => format!(
                "the cluster's own roles or admission rules do not allow this with {kind}; its \
                 words are withheld, because they may repeat what is masked for you"
            ),
            _ => format!(
                "the cluster did not do it (code {code}); its words about {kind} are withheld, \
                 because they may repeat what is masked for you"
            ),
        };
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "details": details, "code": code,
        })
    }

    /// What the client itself said that it asks about.
    fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        let known = [
            ("name", self.of.name.as_str()),
            ("group", self.of.resource.group()),
            ("kind", self.of.resource.name()),
        ];
        for (name, value) in known.into_iter().filter(|(_, value)| !value.is_empty()) {
            details.insert(name.to_owned(), value.into());
        }
        details
    }
}

/// How a place lies to what is hidden.
enum Met<'a> {
    Apart,
    Above,
    Within(&'a DataClass),
}

/// Replaces every value in `value`, and says how many. Numbers become text, too: what was masked
/// must be known again when it is written back, and a hole would not be.
fn blot(value: &mut Value, text: &str) -> u64 {
    match value {
        Value::Null => 0,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            *value = text.into();
            1
        }
        Value::Array(elements) => elements.iter_mut().map(|element| blot(element, text)).sum(),
        Value::Object(members) => members.values_mut().map(|member| blot(member, text)).sum(),
    }
}

#[cfg(test)]
#[path = "mask_tests.rs"]
mod tests;
