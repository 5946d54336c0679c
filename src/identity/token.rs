//! Reads a token's outer form: bounds, header, and which issuer it says it is from.
//!
//! Nothing here is verified; [`Token`] stays inside `identity` and is only good for choosing whose
//! keys are tried.

use std::fmt;

use jsonwebtoken::Header;
use serde::Deserialize;
use serde::Deserializer;
use serde::de;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Value;

use crate::identity::ClaimPath;
use crate::identity::IdentityError;

/// Longest token that is read, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Longest issuer or key id that is read, in bytes.
const ID_BYTES_MAX: usize = 512;
/// What a credential may say it is (`typ`, RFC 7515 §4.1.9; RFC 9068 §2.1). Others, such as
/// `logout+jwt`, are signed by the same provider but are no credential.
pub(super) const CREDENTIALS: &[&str] = &["jwt", "at+jwt", "application/jwt", "application/at+jwt"];
/// What a logout token may say it is (OpenID Connect Back-Channel Logout 1.0 §2.4). Many providers
/// say no more than `JWT`: what it must and must not have besides tells it from a credential.
pub(super) const LOGOUTS: &[&str] =
    &["logout+jwt", "application/logout+jwt", "jwt", "application/jwt"];

/// A token of the right form, not yet verified.
pub(super) struct Token<'a> {
    text: &'a str,
    header: Header,
    issuer: String,
}

impl<'a> Token<'a> {
    /// Reads the outer form of a token whose type is one of `types`, or not said.
    pub(super) fn read(text: &'a str, types: &[&str]) -> Result<Self, IdentityError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(IdentityError::TooLong(text.len()));
        }
        let sign = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if !text.bytes().all(sign) || text.split('.').count() != 3 {
            return Err(IdentityError::Malformed("it is not three parts of base64url"));
        }
        let header = jsonwebtoken::decode_header(text).map_err(|_| {
            IdentityError::Malformed("its header is not understood, or names an unknown algorithm")
        })?;
        // RFC 7515 §4.1.11: what is critical and not understood makes the token invalid.
        if header.crit.is_some() {
            return Err(IdentityError::Malformed("its header names critical extensions"));
        }
        let known = |typ: &String| types.contains(&typ.to_ascii_lowercase().as_str());
        if !header.typ.as_ref().is_none_or(known) {
            return Err(IdentityError::Malformed("its type is another one"));
        }
        if header.kid.as_ref().is_some_and(|id| id.len() > ID_BYTES_MAX) {
            return Err(IdentityError::Malformed("its key id is too long"));
        }
        let claims =
            jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(text).map_err(|_| {
                IdentityError::Malformed("its claims are no JSON object without doubles")
            })?;
        let issuer = claims.issuer()?.to_owned();
        Ok(Self { text, header, issuer })
    }

    /// The token itself: a secret.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The algorithm that the header names.
    pub(super) fn algorithm(&self) -> jsonwebtoken::Algorithm {
        self.header.alg
    }

    /// The id of the key, where the header names one.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The issuer it says it is from.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// The claims of a token: a JSON object in which, at any depth, no name stands twice.
///
/// Two readers of one token must not be able to see two different values (RFC 7519 §4).
pub(super) struct Claims(Value);

impl Claims {
    /// The members of an object; `None` if it is none.
    pub(super) fn of(value: &Value) -> Option<Self> {
        value.is_object().then(|| Self(value.clone()))
    }

    /// Adds what `more` has and these claims have not.
    pub(super) fn complete(&mut self, more: &Self) {
        let (Some(claims), Some(more)) = (self.0.as_object_mut(), more.0.as_object()) else {
            return;
        };
        for (name, value) in more {
            let known = claims.get(name).is_some_and(|value| !value.is_null());
            if !known {
                claims.insert(name.clone(), value.clone());
            }
        }
    }

    /// The claim at `path`; `null` is no claim.
    pub(super) fn at(&self, path: &ClaimPath) -> Option<&Value> {
        if path.as_str().starts_with('/') {
            self.0.pointer(path.as_str()).filter(|value| !value.is_null())
        } else {
            self.named(path.as_str())
        }
    }

    /// The top-level claim `name`; `null` is no claim.
    pub(super) fn named(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Whom the token is for: one text, or a list of texts (RFC 7519 §4.1.3).
    pub(super) fn audience(&self) -> Result<Vec<&str>, IdentityError> {
        const WRONG: &str = "is neither a text nor a list of texts";
        let wrong = || IdentityError::claim("aud", WRONG);
        match self.named("aud") {
            None => Err(IdentityError::claim("aud", "is missing")),
            Some(Value::String(one)) => Ok(vec![one.as_str()]),
            Some(Value::Array(list)) => {
                list.iter().map(|value| value.as_str().ok_or_else(wrong)).collect()
            }
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::Null) => {
                Err(wrong())
            }
        }
    }

    /// The claim `iss`, which must be one text; a list of issuers is none.
    pub(super) fn issuer(&self) -> Result<&str, IdentityError> {
        match self.named("iss").map(|value| value.as_str()) {
            None => Err(IdentityError::claim("iss", "is missing")),
            Some(Some(issuer)) if issuer.len() <= ID_BYTES_MAX => Ok(issuer),
            Some(_) => Err(IdentityError::claim("iss", "is not one text of reasonable length")),
        }
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Strict(value) = Strict::deserialize(deserializer)?;
        if value.is_object() { Ok(Self(value)) } else { Err(de::Error::custom("no object")) }
    }
}

/// A JSON value that was read without taking the last of several members of one name.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value in which no name stands twice")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Strict, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Strict(values.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Strict, A::Error> {
        let mut members = Map::new();
        while let Some((name, Strict(value))) = object.next_entry::<String, Strict>()? {
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("a name stands twice"));
            }
        }
        Ok(Strict(members.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_refused_at_any_depth() {
        for bad in [r#"{"a":1,"a":1}"#, r#"{"a":{"b":1,"b":2}}"#, r#"{"a":[{"b":1,"\u0062":2}]}"#] {
            assert!(serde_json::from_str::<Claims>(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Claims>("[]").is_err());
        assert!(serde_json::from_str::<Claims>(&"[".repeat(16_000)).is_err());
    }

    #[test]
    fn a_claim_is_found_by_name_or_pointer() {
        let claims: Claims = serde_json::from_str(
            r#"{"https://a/b":"x","r":{"roles":["y"]},"n":null,"f":1.5,"i":-1,"t":true}"#,
        )
        .unwrap();
        let at = |path: &str| claims.at(&path.parse().unwrap());
        assert_eq!(at("https://a/b").unwrap(), "x");
        assert_eq!(at("/r/roles").unwrap()[0], "y");
        assert!(at("r/roles").is_none() && at("n").is_none() && at("/n").is_none());
    }
}
