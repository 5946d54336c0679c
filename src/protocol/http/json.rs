//! Masking inside JSON: copies a document through, byte for byte, but for the values that may not
//! be seen.
//!
//! Nothing is parsed into a tree and printed again, so that numbers, order, escapes and white space
//! stay as the target wrote them. Keys are compared decoded, every occurrence of a repeated key is
//! asked about, and what is not exactly one document of RFC 8259 in UTF-8 is refused. Knows no
//! route and no class: whoever calls says what may be seen where.

#![deny(clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use crate::mask::path::At;

/// Deepest nesting of arrays and objects.
pub const DEPTH_MAX: usize = 128;
/// Longest key, in bytes of its text.
pub const KEY_BYTES_MAX: usize = 64 * 1024;

/// What may be seen at one place of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// The value as it is, with all that is in it.
    Show,
    /// This text in the value's place, whatever the value is.
    Hide(String),
    /// The members or elements are asked about one by one. A value that has none is shown.
    Within,
    /// The members or elements are asked about one by one. A value that can have none was not
    /// expected here: the document is refused, unless it is `null`.
    Inner,
    /// Nobody knows: the document is refused for this reason.
    Refuse(String),
}

/// A document after masking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// What is left.
    pub document: Vec<u8>,
    /// How many values were masked.
    pub masked: u64,
}

/// A document that cannot be masked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmaskable {
    /// It is not one JSON document in UTF-8 (RFC 8259, section 8.1).
    #[error("the answer is not one JSON document: {what} at byte {at}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// Somebody said [`Sight::Refuse`].
    #[error("{0}")]
    Refused(String),
}

/// Copies `document`, asking `see` about every value on the way down until it says to
/// show or to hide. The root is asked about with an empty place.
pub fn copy(
    document: &[u8],
    see: &mut dyn FnMut(&[At<'_>]) -> Sight,
) -> Result<Copied, Unmaskable> {
    let text = std::str::from_utf8(document)
        .map_err(|e| Unmaskable::Malformed { what: "no UTF-8", at: e.valid_up_to() })?;
    let out = Vec::with_capacity(document.len());
    let mut copier = Copier { text, at: 0, copied: 0, out, masked: 0, place: Vec::new(), see };
    copier.space();
    copier.value()?;
    copier.space();
    if copier.at < text.len() {
        return Err(copier.malformed("something behind the document"));
    }
    copier.flush(copier.at);
    Ok(Copied { document: copier.out, masked: copier.masked })
}

enum Step<'a> {
    Key(Cow<'a, str>),
    Index(usize),
}

struct Copier<'a, 'b> {
    text: &'a str,
    /// How far is read.
    at: usize,
    /// How far is copied.
    copied: usize,
    out: Vec<u8>,
    masked: u64,
    place: Vec<Step<'a>>,
    see: &'b mut dyn FnMut(&[At<'_>]) -> Sight,
}

impl<'a> Copier<'a, '_> {
    /// A value about which is asked.
    fn value(&mut self) -> Result<(), Unmaskable> {
        let place = self.place.iter().map(|step| match step {
            Step::Key(key) => At::Key(key),
            Step::Index(index) => At::Index(*index),
        });
        match (self.see)(&place.collect::<Vec<_>>()) {
            Sight::Show => self.skip(),
            Sight::Refuse(reason) => Err(Unmaskable::Refused(reason)),
            Sight::Hide(text) => {
                self.flush(self.at);
                self.skip()?;
                self.copied = self.at;
                quote(&text, &mut self.out);
                self.masked = self.masked.saturating_add(1);
                Ok(())
            }
            Sight::Within => match self.peek() {
                Some(b'{') => self.object(),
                Some(b'[') => self.array(),
                _ => self.skip(),
            },
            Sight::Inner => match self.peek() {
                Some(b'{') => self.object(),
                Some(b'[') => self.array(),
                Some(b'n') => self.skip(),
                _ => Err(Unmaskable::Refused(
                    "the answer has a value where only what is in it was declared".to_owned(),
                )),
            },
        }
    }

    fn object(&mut self) -> Result<(), Unmaskable> {
        self.enter()?;
        let mut first = true;
        while self.another(b'}', first)? {
            first = false;
            let key = self.key()?;
            self.space();
            self.expect(b':')?;
            self.space();
            self.place.push(Step::Key(key));
            self.value()?;
            self.place.pop();
        }
        Ok(())
    }

    fn array(&mut self) -> Result<(), Unmaskable> {
        self.enter()?;
        let mut index = 0_usize;
        while self.another(b']', index == 0)? {
            self.place.push(Step::Index(index));
            self.value()?;
            self.place.pop();
            index = index.saturating_add(1);
        }
        Ok(())
    }

    /// Steps over an opening bracket, if it is not too deep.
    fn enter(&mut self) -> Result<(), Unmaskable> {
        if self.place.len() >= DEPTH_MAX {
            return Err(self.malformed("too deep a nesting"));
        }
        self.step();
        Ok(())
    }

    /// Whether another member or element follows; steps over the comma before it, or over the
    /// closing bracket.
    fn another(&mut self, close: u8, first: bool) -> Result<bool, Unmaskable> {
        self.space();
        match self.peek() {
            Some(sign) if sign == close => {
                self.step();
                Ok(false)
            }
            Some(b',') if !first => {
                self.step();
                self.space();
                // What follows must be a value, which a closing bracket is not.
                Ok(true)
            }
            Some(_) if first => Ok(true),
            Some(_) | None => Err(self.malformed("no comma and no end")),
        }
    }

    /// Steps over a value without asking. Without recursion: what is shown may nest as it likes,
    /// up to the bound.
    fn skip(&mut self) -> Result<(), Unmaskable> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if open.len().saturating_add(self.place.len()) >= DEPTH_MAX {
                        return Err(self.malformed("too deep a nesting"));
                    }
                    self.step();
                    open.push(if bracket == b'{' { b'}' } else { b']' });
                    if self.begin(&mut open, true)? {
                        continue;
                    }
                }
                Some(b'"') => drop(self.string()?),
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(_) => self.word()?,
                None => return Err(self.malformed("an early end")),
            }
            // A value is over: what holds it goes on or is over too.
            loop {
                if open.is_empty() {
                    return Ok(());
                }
                if self.begin(&mut open, false)? {
                    break;
                }
            }
        }
    }

    /// Before a member or element of the innermost open value: `true` where one follows, and then
    /// its key is stepped over; `false` where the innermost is over.
    fn begin(&mut self, open: &mut Vec<u8>, first: bool) -> Result<bool, Unmaskable> {
        let Some(&close) = open.last() else { return Ok(false) };
        if !self.another(close, first)? {
            open.pop();
            return Ok(false);
        }
        if close == b'}' {
            self.string()?;
            self.space();
            self.expect(b':')?;
            self.space();
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<Cow<'a, str>, Unmaskable> {
        let at = self.at;
        let raw = self.string()?;
        if raw.len() > KEY_BYTES_MAX {
            return Err(Unmaskable::Malformed { what: "too long a key", at });
        }
        if !raw.contains('\\') {
            return Ok(Cow::Borrowed(raw));
        }
        decoded(raw)
            .map(Cow::Owned)
            .ok_or(Unmaskable::Malformed { what: "a key that is no text", at })
    }

    /// Steps over a string and gives what stands between its quotes (RFC 8259, section 7).
    fn string(&mut self) -> Result<&'a str, Unmaskable> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let raw = self.text.get(start..self.at).unwrap_or_default();
                    self.step();
                    return Ok(raw);
                }
                Some(b'\\') => {
                    self.step();
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.step(),
                        Some(b'u') => {
                            self.step();
                            for _ in 0..4 {
                                if !self.peek().is_some_and(|sign| sign.is_ascii_hexdigit()) {
                                    return Err(self.malformed("no hexadecimal digit"));
                                }
                                self.step();
                            }
                        }
                        Some(_) | None => return Err(self.malformed("an unknown escape")),
                    }
                }
                Some(0..=0x1f) => return Err(self.malformed("a control sign in a string")),
                Some(_) => self.step(),
                None => return Err(self.malformed("an early end")),
            }
        }
    }

    /// RFC 8259, section 6.
    fn number(&mut self) -> Result<(), Unmaskable> {
        self.step_if(b"-");
        match self.peek() {
            Some(b'0') => self.step(),
            Some(b'1'..=b'9') => self.digits()?,
            Some(_) | None => return Err(self.malformed("no digit")),
        }
        if self.step_if(b".") {
            self.digits()?;
        }
        if self.step_if(b"eE") {
            self.step_if(b"+-");
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Unmaskable> {
        let start = self.at;
        while self.peek().is_some_and(|sign| sign.is_ascii_digit()) {
            self.step();
        }
        if self.at == start { Err(self.malformed("no digit")) } else { Ok(()) }
    }

    fn word(&mut self) -> Result<(), Unmaskable> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word));
        let Some(word) = word else { return Err(self.malformed("no value")) };
        self.at = self.at.saturating_add(word.len());
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.step();
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn step_if(&mut self, signs: &[u8]) -> bool {
        let there = self.peek().is_some_and(|sign| signs.contains(&sign));
        if there {
            self.step();
        }
        there
    }

    fn expect(&mut self, sign: u8) -> Result<(), Unmaskable> {
        if self.step_if(&[sign]) { Ok(()) } else { Err(self.malformed("another sign expected")) }
    }

    /// Copies everything up to `to` that is not copied yet.
    fn flush(&mut self, to: usize) {
        let bytes = self.text.as_bytes();
        self.out.extend_from_slice(bytes.get(self.copied..to).unwrap_or_default());
        self.copied = to;
    }

    fn malformed(&self, what: &'static str) -> Unmaskable {
        Unmaskable::Malformed { what, at: self.at }
    }
}

/// A key's text, its escapes decoded; `None` where it is none (half of a surrogate pair).
fn decoded(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut signs = raw.chars();
    while let Some(sign) = signs.next() {
        if sign != '\\' {
            text.push(sign);
            continue;
        }
        text.push(match signs.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = unit(&mut signs)?;
                let second = match high {
                    0xd800..=0xdbff => match (signs.next()?, signs.next()?) {
                        ('\\', 'u') => Some(unit(&mut signs)?),
                        _ => return None,
                    },
                    _ => None,
                };
                let pair = std::iter::once(high).chain(second);
                let mut decoded = char::decode_utf16(pair);
                decoded.next()?.ok().filter(|_| decoded.next().is_none())?
            }
            plain => plain,
        });
    }
    Some(text)
}

fn unit(signs: &mut std::str::Chars<'_>) -> Option<u16> {
    let digits = signs.by_ref().take(4).collect::<String>();
    u16::from_str_radix(&digits, 16).ok()
}

/// Writes `text` as a JSON string.
fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for sign in text.chars() {
        match sign {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            control if control.is_control() => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
            }
            plain => out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::mask::path::JsonPath;
    use crate::mask::path::Meeting;

    /// Hides what `path` selects.
    fn hide(document: &str, path: &str) -> Result<String, Unmaskable> {
        let path = path.parse::<JsonPath>().unwrap();
        let mut see = |at: &[At<'_>]| match path.meet(at) {
            Meeting::Here | Meeting::Inside => Sight::Hide("*".to_owned()),
            Meeting::Above => Sight::Within,
            Meeting::Apart => Sight::Show,
        };
        copy(document.as_bytes(), &mut see).map(|c| String::from_utf8(c.document).unwrap())
    }

    #[test]
    fn what_is_declared_is_masked_and_the_rest_stays_as_it_was_written() {
        let document = "\n{ \"n\" : 1.0e+02,\"mail\":\"a@b\", \"\\u00e4\":[ ],\"x\":{\"mail\":1}} ";
        assert_eq!(
            hide(document, "$.mail").unwrap(),
            "\n{ \"n\" : 1.0e+02,\"mail\":\"*\", \"\\u00e4\":[ ],\"x\":{\"mail\":1}} "
        );
        let list = r#"[{"mail":{"a":[1,{"b":2}]},"n":1},{"mail":null},7,{"n":"\"mail\":3"}]"#;
        assert_eq!(
            hide(list, "$[*].mail").unwrap(),
            r#"[{"mail":"*","n":1},{"mail":"*"},7,{"n":"\"mail\":3"}]"#
        );
        assert_eq!(hide("true", "$").unwrap(), "\"*\"");
        assert_eq!(hide("[1,2,3]", "$[1]").unwrap(), "[1,\"*\",3]");
    }

    #[test]
    fn keys_that_decode_to_the_declared_one_and_repeated_keys_are_masked() {
        assert_eq!(
            hide(r#"{"ssn":1,"s\u0073n":2,"\u0073\u0073\u006E":3,"ssn":[4]}"#, "$.ssn").unwrap(),
            r#"{"ssn":"*","s\u0073n":"*","\u0073\u0073\u006E":"*","ssn":"*"}"#
        );
        assert_eq!(hide(r#"{"\ud83d\ude00":1}"#, "$['😀']").unwrap(), r#"{"\ud83d\ude00":"*"}"#);
    }

    #[test]
    fn what_is_not_one_document_is_refused() {
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        let key = format!("{{\"{}\":1}}", "k".repeat(KEY_BYTES_MAX + 1));
        for bad in [
            "",
            " ",
            "{",
            "[1",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\" 1}",
            "[1 2]",
            "1 2",
            "{}{}",
            "{}\n{}",
            "nul",
            "truex",
            "01",
            "-",
            "1.",
            "1e",
            "+1",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "\u{feff}{}",
            "{\"\\ud800\":1}",
            "{\"\\ud800\\u0041\":1}",
            "[,1]",
            "{,}",
            "NaN",
            "'a'",
            "[1]]",
            "{\"a\":}",
            "//\n1",
            &deep,
            &key,
        ] {
            for path in ["$.z.z", "$[7][7]"] {
                let read = hide(bad, path);
                // A long key is no fault where nobody has to compare it.
                assert!(read.is_err() || bad.len() > KEY_BYTES_MAX && path == "$[7][7]", "{bad:?}");
            }
        }
        assert!(copy(b"\"\xff\"", &mut |_| Sight::Show).is_err());
        assert!(copy(&[0xff, 0xfe, b'{', 0, b'}', 0], &mut |_| Sight::Show).is_err(), "UTF-16");
        let refused = copy(b"{\"a\":1}", &mut |at| {
            if at.is_empty() { Sight::Within } else { Sight::Refuse("who knows".to_owned()) }
        });
        assert_eq!(refused, Err(Unmaskable::Refused("who knows".to_owned())));
    }

    #[test]
    fn every_beginning_of_a_document_is_refused_and_none_panics() {
        let whole = r#"{"a":[1,-2.5e3,"x\u00e4\n",true,null,{"mail":"s"}],"mail":{"b":[]}}"#;
        for (end, _) in whole.char_indices() {
            let (begun, _) = whole.split_at(end);
            assert!(hide(begun, "$.mail").is_err(), "{end}");
            assert!(hide(begun, "$.a[*].mail").is_err(), "{end}");
        }
        assert!(hide(whole, "$.mail").is_ok());
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z\"\\\\ä\n]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            let key = prop_oneof![Just("mail".to_owned()), "[a-c\"\\\\ä]{0,3}"];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::vec((key, inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Puts `secret` into every member called `mail`, at whatever depth.
    fn plant(value: &mut Value, secret: &str) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| plant(item, secret)),
            Value::Object(members) => {
                for (key, member) in members.iter_mut() {
                    if key == "mail" {
                        *member = serde_json::json!([{ "in": [secret] }, secret]);
                    } else {
                        plant(member, secret);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn everywhere(at: &[At<'_>]) -> Sight {
        match at.last() {
            Some(At::Key("mail")) => Sight::Hide("*".to_owned()),
            _ => Sight::Within,
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_unchanged(document in documents(), pretty in any::<bool>()) {
            let text = if pretty {
                serde_json::to_vec_pretty(&document).unwrap()
            } else {
                serde_json::to_vec(&document).unwrap()
            };
            let shown = copy(&text, &mut |_| Sight::Show).unwrap();
            prop_assert_eq!(&shown.document, &text);
            let looked = copy(&text, &mut |_| Sight::Within).unwrap();
            prop_assert_eq!((&looked.document, looked.masked), (&text, 0));
        }

        #[test]
        fn a_planted_secret_never_comes_out(mut document in documents(), escape in any::<bool>()) {
            plant(&mut document, "PLANTED");
            let mut text = serde_json::to_string(&document).unwrap();
            if escape {
                text = text.replace("\"mail\"", "\"m\\u0061il\"");
            }
            let masked = copy(text.as_bytes(), &mut everywhere).unwrap();
            let masked = String::from_utf8(masked.document).unwrap();
            prop_assert!(!masked.contains("PLANTED"), "{}", masked);
            prop_assert!(serde_json::from_str::<Value>(&masked).is_ok(), "{}", masked);
        }

        #[test]
        fn what_another_parser_refuses_is_refused(text in "[\\[\\]{},:\"a1.eE+\\- \\\\utnl]{0,12}") {
            let ours = copy(text.as_bytes(), &mut |_| Sight::Within).is_ok();
            let theirs = serde_json::from_str::<Value>(&text);
            // That parser also refuses numbers beyond the range of its type.
            let range = theirs.as_ref().is_err_and(|e| e.to_string().contains("out of range"));
            prop_assert!(ours == theirs.is_ok() || range, "{:?} {:?}", text, theirs);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(copy(&bytes, &mut everywhere));
        }
    }
}
