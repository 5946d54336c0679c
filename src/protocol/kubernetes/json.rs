//! JSON that can be read in one way only, and the base 64 in which Secrets keep their values.
//!
//! Go merges members that stand twice and serde keeps the last one: where two readers would see two
//! documents, there is none. Knows nothing of Kubernetes' objects.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de;
use serde_json::Map;
use serde_json::Value;

/// A text that is not one JSON document without doubled members.
#[derive(Debug, thiserror::Error)]
#[error("it is not one JSON document without doubled members")]
pub struct NotJson(#[source] serde_json::Error);

/// Reads one document.
pub fn parse(bytes: &[u8]) -> Result<Value, NotJson> {
    serde_json::from_slice::<Single>(bytes).map(|read| read.0).map_err(NotJson)
}

struct Single(Value);

impl<'de> Deserialize<'de> for Single {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> de::Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Single(value)) = access.next_element()? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((name, Single(value))) = access.next_entry::<String, Single>()? {
            if all.insert(name, value).is_some() {
                return Err(de::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base 64 (RFC 4648 §4), padded.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let index = usize::try_from(bits >> shift & 0x3f).unwrap_or_default();
            let sign = SIGNS.get(index).copied().filter(|_| place <= chunk.len());
            text.push(sign.map_or('=', char::from));
        }
    }
    text
}

/// Reads base 64 as kubeconfigs have it: padded or not, white space ignored.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut held) = (0_u32, 0_u32);
    let signs = text.bytes().filter(|sign| !sign.is_ascii_whitespace()).collect::<Vec<_>>();
    let body = signs.strip_suffix(b"==").or(signs.strip_suffix(b"=")).unwrap_or(&signs);
    for sign in body {
        let value = SIGNS.iter().position(|known| known == sign)?;
        bits = (bits & 0xff_ffff) << 6 | u32::try_from(value).ok()?;
        held = held.saturating_add(6);
        if let Some(rest) = held.checked_sub(8) {
            held = rest;
            bytes.push(u8::try_from(bits >> rest & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_readers_see_one_document() {
        assert!(parse(br#"{"a":{"b":[1,2.5,null,true,"\u003c"]}}"#).is_ok());
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"\u0062":2}}"#,
            "{} {}",
            "",
            "{",
            "a: b",
            "\u{feff}{}",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err(), "depth is bounded");
    }

    #[test]
    fn base_64_is_that_of_the_rfc() {
        // RFC 4648 §10.
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(unbase64(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(unbase64("Zm 9v\nYg"), Some(b"foob".to_vec()));
        assert_eq!(unbase64("Z-9v"), None);
    }

    proptest! {
        #[test]
        fn base_64_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(unbase64(&base64(&bytes)), Some(bytes));
        }
    }
}
