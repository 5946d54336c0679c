//! Queries and forms (`application/x-www-form-urlencoded`, WHATWG URL §5).

use std::collections::BTreeMap;
use std::fmt::Write;

/// The fields of a query or a form; of those that stand twice, the first (RFC 6749 §3.1 forbids
/// them). What is no UTF-8 is replaced.
pub(super) fn parse(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        fields.entry(decode(name)).or_insert_with(|| decode(value));
    }
    fields
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let escaped = hex.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A query of these fields.
pub(super) fn query(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        encode(&mut text, name);
        text.push('=');
        encode(&mut text, value);
    }
    text
}

fn encode(text: &mut String, part: &str) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing into a text does not fail.
            let _written = write!(text, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_broken_is_taken_as_it_is() {
        let fields = parse("a=%zz&b=%2&c&=d&e=1+2&e=3&&");
        assert_eq!((fields["a"].as_str(), fields["b"].as_str()), ("%zz", "%2"));
        assert_eq!((fields["c"].as_str(), fields[""].as_str()), ("", "d"));
        assert_eq!(fields["e"], "1 2");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(name in "\\PC{1,8}", value in "\\PC{0,16}") {
            let read = parse(&query(&[(&name, &value)]));
            prop_assert_eq!(read.get(&name), Some(&value));
        }

        #[test]
        fn nothing_makes_it_panic(text in "[%+&=a-f0-9é]{0,40}") {
            drop(parse(&text));
        }
    }
}
