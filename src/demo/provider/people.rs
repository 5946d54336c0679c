//! Everybody whom the demo invented, and what the provider says of them.

use std::fmt;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::demo::provider::AUDIENCE;

/// How long a token is good that nobody had to sign in for, in seconds.
const TOKEN_S: i64 = 12 * 60 * 60;

/// Somebody invented.
#[derive(Debug)]
pub(in crate::demo) struct Person {
    /// Their name.
    pub(in crate::demo) name: &'static str,
    /// What they do, for people.
    pub(in crate::demo) does: &'static str,
    pub(super) roles: &'static [&'static str],
    entity: &'static str,
}

/// Everybody there is.
pub(in crate::demo) const PEOPLE: [Person; 4] = [
    Person {
        name: "alice",
        does: "engineer at Acme GmbH",
        roles: &["engineer"],
        entity: "acme-de",
    },
    Person {
        name: "dana",
        does: "database administrator and approver at Acme GmbH",
        roles: &["dba", "approver"],
        entity: "acme-de",
    },
    Person {
        name: "olaf",
        does: "data protection officer of Acme GmbH",
        roles: &["dpo"],
        entity: "acme-de",
    },
    Person {
        name: "mei",
        does: "engineer at the sister company in Singapore",
        roles: &["engineer"],
        entity: "acme-sg",
    },
];

impl Person {
    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        PEOPLE.iter().find(|person| person.name == name)
    }

    /// What the claims say; the demo's configuration maps them.
    pub(super) fn claims(&self, roles: &[String], now_s: i64) -> Map<String, Value> {
        let claims = json!({
            "sub": self.name,
            "aud": AUDIENCE,
            "iat": now_s,
            "exp": now_s.saturating_add(TOKEN_S),
            "preferred_username": self.name,
            "groups": roles,
            "company": self.entity,
        });
        object(claims)
    }
}

/// The members of an object that was just written.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

/// A token, and whose it is.
#[derive(Clone)]
pub(in crate::demo) struct Token {
    /// Whose.
    pub(in crate::demo) name: &'static str,
    /// The token: a secret.
    pub(in crate::demo) text: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}
