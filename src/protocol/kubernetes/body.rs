//! What the body of a write says, as far as deciding needs to know it.
//!
//! Knows no target. kubectl sends JSON, also as server-side apply's YAML, of which JSON is a part,
//! and protobuf, of which the name is read; other YAML and CBOR are not read: whoever needs what
//! they say must refuse them.

use serde_json::Value;

use crate::mask;
use crate::protocol::kubernetes::json;
use crate::protocol::kubernetes::protobuf;

/// How a PATCH or an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// One JSON document: an object, or a patch that looks like one.
    Json,
    /// One whole object in protobuf.
    Protobuf,
    /// RFC 6902: operations, of which some read.
    JsonPatch,
    /// Something that is not read here.
    Other,
}

/// A body, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// How it is written.
    pub media: Media,
    /// What it says, where it is JSON.
    pub document: Option<Value>,
    /// The name of the object in it, or the beginning of one that the server completes and `*`.
    pub name: Option<String>,
    /// Whether a mask stands anywhere in it.
    pub masked: bool,
}

impl Body {
    /// Reads a body; `content_type` is the header's text.
    pub fn read(content_type: Option<&str>, bytes: &[u8]) -> Self {
        let kind = content_type.unwrap_or("application/json");
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let document = json::parse(bytes).ok();
        let object = protobuf::open(bytes);
        let media = match (kind.as_str(), &document) {
            ("application/json-patch+json", _) => Media::JsonPatch,
            (
                "application/json"
                | "application/merge-patch+json"
                | "application/strategic-merge-patch+json"
                | "application/apply-patch+yaml"
                | "application/yaml",
                Some(_),
            ) => Media::Json,
            ("application/vnd.kubernetes.protobuf", None) if object.is_some() => Media::Protobuf,
            _ => Media::Other,
        };
        let names = match media {
            Media::Json => document.as_ref().map(names),
            Media::Protobuf => object.and_then(protobuf::Object::names),
            Media::JsonPatch | Media::Other => None,
        };
        let name = names.and_then(|(name, beginning)| match (name.as_str(), beginning.as_str()) {
            ("", "") => None,
            ("", beginning) => Some(format!("{beginning}*")),
            (name, _) => Some(name.to_owned()),
        });
        let masked = contains(bytes) || document.as_ref().is_some_and(says);
        Self { media, document, name, masked }
    }

    /// Whether the body itself (`DeleteOptions`) asks that nothing is stored.
    pub fn is_dry_run(&self) -> bool {
        let asked = self.document.as_ref().and_then(|document| document.get("dryRun")?.as_array());
        asked.is_some_and(|values| values.iter().any(|value| value == "All"))
    }
}

/// Name and `generateName` of an object.
fn names(object: &Value) -> (String, String) {
    let text = |name: &str| {
        let text = object.get("metadata").and_then(|metadata| metadata.get(name)?.as_str());
        text.unwrap_or_default().to_owned()
    };
    (text("name"), text("generateName"))
}

/// Whether a mask stands in a text: plainly, in base 64, or as Go's encoder escapes it, for JSON
/// in JSON.
fn contains(bytes: &[u8]) -> bool {
    let escaped = [b"u003cmasked:", b"u003Cmasked:"];
    mask::contains_mask(bytes)
        || escaped.iter().any(|form| memchr::memmem::find(bytes, *form).is_some())
}

/// Whether a mask stands in any decoded text of a document; raw, an escape could part it.
fn says(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => contains(text.as_bytes()),
        Value::Array(elements) => elements.iter().any(says),
        Value::Object(members) => {
            members.iter().any(|(name, value)| contains(name.as_bytes()) || says(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::model::encode;

    fn json(value: &Value) -> Body {
        Body::read(None, value.to_string().as_bytes())
    }

    #[test]
    fn a_mask_is_found_however_it_is_written() {
        let mask = "<masked:cred.secret>";
        for value in [
            json!({"data": {"password": encode::base64(mask.as_bytes())}}),
            json!({"data": {"url": encode::base64(format!("postgres://app:{mask}@db").as_bytes())}}),
            json!({"data": {"url": encode::base64(format!(" {mask}").as_bytes())}}),
            json!({"stringData": {"password": mask}}),
            json!({"data": {mask: "x"}}),
            json!([{"op": "replace", "path": "/data/a", "value": mask}]),
            json!({"metadata": {"annotations": {"a": json!({"data": mask}).to_string()}}}),
            json!({"metadata": {"annotations": {"a": r#"{"data":"\u003cmasked:cred.secret\u003e"}"#}}}),
        ] {
            assert!(json(&value).masked, "{value}");
        }
        for text in [
            r#"{"data":{"a":"\u003cmasked:cred.secret\u003e"}}"#,
            r#"{"data":{"a":"\u003c\u006dasked:cred.secret>"}}"#,
            "data:\n  a: <masked:cred.secret>\n",
            "data:\n  a: \"\\u003cmasked:cred.secret>\"\n",
        ] {
            assert!(Body::read(Some("application/yaml"), text.as_bytes()).masked, "{text}");
        }
        assert!(!json(&json!({"data": {"note": "masked: no", "b": "bWFza2Vk"}})).masked);
    }

    #[test]
    fn only_what_was_read_has_a_medium() {
        let media = |kind: &str, text: &str| Body::read(Some(kind), text.as_bytes()).media;
        assert_eq!(media("application/json; charset=utf-8", "{}"), Media::Json);
        assert_eq!(media("application/apply-patch+yaml", "{\"kind\":\"Secret\"}"), Media::Json);
        assert_eq!(media("application/strategic-merge-patch+json", "{}"), Media::Json);
        assert_eq!(media("Application/JSON-Patch+json", "[]"), Media::JsonPatch);
        for (kind, text) in [
            ("application/apply-patch+yaml", "kind: Secret"),
            ("application/json", "{\"a\":1,\"a\":2}"),
            ("application/vnd.kubernetes.protobuf", "k8s\0"),
            ("application/vnd.kubernetes.protobuf", "{}"),
            ("application/cbor", "{}"),
            ("text/plain", "{}"),
            ("", "{}"),
        ] {
            assert_eq!(media(kind, text), Media::Other, "{kind} {text}");
        }
    }

    #[test]
    fn a_create_says_its_name() {
        assert_eq!(json(&json!({"metadata": {"name": "a"}})).name.as_deref(), Some("a"));
        assert_eq!(json(&json!({"metadata": {"generateName": "a-"}})).name.as_deref(), Some("a-*"));
        assert_eq!(json(&json!({"metadata": {}})).name, None);
        assert_eq!(json(&json!([])).name, None);
        assert!(json(&json!({"kind": "DeleteOptions", "dryRun": ["All"]})).is_dry_run());
    }

    proptest! {
        #[test]
        fn nothing_panics(kind in ".*", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let body = Body::read(Some(&kind), &bytes);
            drop((body.name.clone(), body.is_dry_run()));
        }

        #[test]
        fn no_surroundings_hide_a_mask(before in ".*", after in ".*", encoded: bool) {
            let text = format!("{before}<masked:pii.email>{after}");
            let text = if encoded { encode::base64(text.as_bytes()) } else { text };
            let found = json(&json!({"data": {"x": text}})).masked;
            prop_assert!(found);
        }
    }
}
