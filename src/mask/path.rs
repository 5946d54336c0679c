//! JSON paths: which places of a document were declared to hold which class.
//!
//! A subset of RFC 9535 that can be matched while a document streams by: from the root `$`, each
//! step selects a member (`.name`, `['any name']`), an element (`[0]`) or every child (`[*]`,
//! `.*`). Knows nothing of bytes, parsers or masks: it is told where somebody stands.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// Longest path, in bytes of its text.
pub const PATH_BYTES_MAX: usize = 1024;
/// Most steps of a path.
pub const PATH_STEPS_MAX: usize = 64;

/// A path such as `$.people[*].email`.
///
/// The root alone (`$`) is a path too: it selects the whole document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Step {
    Key(String),
    Index(usize),
    Any,
}

/// One step down from the root to where somebody stands in a document.
///
/// Keys are *decoded* (`"s\u0073n"` is `ssn`): comparing raw text would be walked around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At<'a> {
    /// In the member of an object with this key.
    Key(&'a str),
    /// In the element of an array with this index, from 0.
    Index(usize),
}

/// How a place in a document lies to what a path selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// Neither contains the other.
    Apart,
    /// The place contains what the path selects, if that exists.
    Above,
    /// The path selects this very place.
    Here,
    /// The place lies inside what the path selects.
    Inside,
}

/// A text that is no path of the subset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no JSON path: expected {expected}")]
pub struct BadPath {
    text: String,
    expected: &'static str,
}

impl JsonPath {
    /// How the place that `at` leads to lies to what this path selects.
    pub fn meet(&self, at: &[At<'_>]) -> Meeting {
        let fits = self.0.iter().zip(at).all(|(step, at)| match (step, at) {
            (Step::Any, At::Key(_) | At::Index(_)) => true,
            (Step::Key(wanted), At::Key(key)) => wanted == key,
            (Step::Index(wanted), At::Index(index)) => wanted == index,
            (Step::Key(_), At::Index(_)) | (Step::Index(_), At::Key(_)) => false,
        });
        match (fits, at.len().cmp(&self.0.len())) {
            (false, _) => Meeting::Apart,
            (true, std::cmp::Ordering::Less) => Meeting::Above,
            (true, std::cmp::Ordering::Equal) => Meeting::Here,
            (true, std::cmp::Ordering::Greater) => Meeting::Inside,
        }
    }
}

impl FromStr for JsonPath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, BadPath> {
        steps(text).map(Self).map_err(|expected| BadPath { text: text.to_owned(), expected })
    }
}

impl TryFrom<String> for JsonPath {
    type Error = BadPath;

    fn try_from(text: String) -> Result<Self, BadPath> {
        text.parse()
    }
}

impl From<JsonPath> for String {
    fn from(path: JsonPath) -> Self {
        path.to_string()
    }
}

/// Reads a path; the error says what was expected instead.
fn steps(text: &str) -> Result<Vec<Step>, &'static str> {
    if text.len() > PATH_BYTES_MAX {
        return Err("at most 1024 bytes");
    }
    let mut signs = text.chars().peekable();
    if signs.next() != Some('$') {
        return Err("`$`, the root, as the first sign");
    }
    let mut steps = Vec::new();
    while let Some(sign) = signs.next() {
        if steps.len() == PATH_STEPS_MAX {
            return Err("at most 64 steps");
        }
        steps.push(match sign {
            '.' => dotted(&mut signs)?,
            '[' => bracketed(&mut signs)?,
            _ => return Err("`.name`, `['any name']`, `[0]`, `[*]` or `.*` after each step"),
        });
    }
    Ok(steps)
}

/// What follows a dot: `*`, or a shorthand name (RFC 9535 §2.5.1.1, of ASCII only).
fn dotted(signs: &mut Peekable<Chars<'_>>) -> Result<Step, &'static str> {
    if signs.next_if_eq(&'*').is_some() {
        return Ok(Step::Any);
    }
    let mut key = String::new();
    while let Some(sign) = signs.next_if(|s| s.is_ascii_alphanumeric() || *s == '_') {
        key.push(sign);
    }
    if key.is_empty() || key.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("a name of letters, digits and `_` after a dot, or `['any name']`");
    }
    Ok(Step::Key(key))
}

/// What follows an opening bracket, up to and including the closing one.
fn bracketed(signs: &mut Peekable<Chars<'_>>) -> Result<Step, &'static str> {
    let step = match signs.next() {
        Some('*') => Step::Any,
        Some(quote @ ('\'' | '"')) => Step::Key(quoted(signs, quote)?),
        Some(first) if first.is_ascii_digit() => {
            let mut digits = String::from(first);
            while let Some(digit) = signs.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            // RFC 9535 §2.3.3: no leading zeros.
            let plain = digits == "0" || !digits.starts_with('0');
            let index = digits.parse::<usize>().ok().filter(|_| plain);
            Step::Index(index.ok_or("an index such as `[0]`")?)
        }
        Some(_) | None => return Err("`*`, an index or a quoted name in brackets"),
    };
    if signs.next() == Some(']') { Ok(step) } else { Err("`]`") }
}

/// A quoted name up to its closing quote; `\` stands before a quote or another `\`.
fn quoted(signs: &mut Peekable<Chars<'_>>, quote: char) -> Result<String, &'static str> {
    let mut key = String::new();
    loop {
        match signs.next() {
            Some('\\') => match signs.next_if(|s| *s == quote || *s == '\\') {
                Some(sign) => key.push(sign),
                None => return Err("a quote or `\\` after `\\`"),
            },
            Some(sign) if sign == quote => return Ok(key),
            Some(sign) if !sign.is_control() => key.push(sign),
            Some(_) => return Err("no control signs in a name"),
            None => return Err("a closing quote"),
        }
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        for step in &self.0 {
            match step {
                Step::Any => f.write_str("[*]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if is_shorthand(key) => write!(f, ".{key}")?,
                Step::Key(key) => {
                    write!(f, "['{}']", key.replace('\\', "\\\\").replace('\'', "\\'"))?;
                }
            }
        }
        Ok(())
    }
}

fn is_shorthand(key: &str) -> bool {
    key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> JsonPath {
        text.parse().unwrap()
    }

    #[test]
    fn a_path_meets_what_it_selects() {
        use At::Index;
        use At::Key;
        let email = path("$.people[*].email");
        let cases: [(&[At<'_>], Meeting); 9] = [
            (&[], Meeting::Above),
            (&[Key("people")], Meeting::Above),
            (&[Key("people"), Index(7)], Meeting::Above),
            (&[Key("people"), Index(7), Key("email")], Meeting::Here),
            (&[Key("people"), Key("x"), Key("email")], Meeting::Here),
            (&[Key("people"), Index(7), Key("email"), Index(0)], Meeting::Inside),
            (&[Key("people"), Index(7), Key("Email")], Meeting::Apart),
            (&[Key("persons"), Index(7), Key("email")], Meeting::Apart),
            (&[Index(0)], Meeting::Apart),
        ];
        for (at, expected) in cases {
            assert_eq!(email.meet(at), expected, "{at:?}");
        }
        assert_eq!(path("$").meet(&[]), Meeting::Here, "the root is the whole document");
        assert_eq!(path("$").meet(&[Key("a")]), Meeting::Inside);
        assert_eq!(path("$['0']").meet(&[Index(0)]), Meeting::Apart, "a key is no index");
        assert_eq!(path("$[0]").meet(&[Key("0")]), Meeting::Apart);
    }

    #[test]
    fn one_path_has_several_spellings() {
        assert_eq!(path("$.data.*"), path("$['data'][*]"));
        assert_eq!(path("$.a"), path("$[\"a\"]"));
        assert_eq!(path(r"$['it\'s']").to_string(), r"$['it\'s']");
        assert_eq!(path("$['last-applied'][10]").to_string(), "$['last-applied'][10]");
    }

    #[test]
    fn what_is_no_path_is_refused_with_what_was_expected() {
        let bad =
            ["", "people", "$people", "$.", "$..a", "$.a-b", "$.1", "$[", "$[]", "$[1", "$[-1]"];
        let more = [
            "$[01]",
            "$['a",
            "$['a'",
            "$['a\\n']",
            "$[?@.a]",
            "$[0:1]",
            "$ .a",
            "$.a ",
            "$['a\n']",
        ];
        for text in bad.into_iter().chain(more) {
            let error = text.parse::<JsonPath>().unwrap_err().to_string();
            assert!(error.contains("expected"), "{error}");
        }
        let huge = "99999999999999999999999";
        assert!(format!("$[{huge}]").parse::<JsonPath>().is_err());
        assert!(format!("${}", ".a".repeat(PATH_STEPS_MAX)).parse::<JsonPath>().is_ok());
        assert!(format!("${}", ".a".repeat(PATH_STEPS_MAX + 1)).parse::<JsonPath>().is_err());
        assert!(format!("$.{}", "a".repeat(PATH_BYTES_MAX)).parse::<JsonPath>().is_err());
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<String>()
                .prop_map(|key| key.chars().filter(|s| !s.is_control()).take(16).collect())
                .prop_map(Step::Key),
            any::<usize>().prop_map(Step::Index),
            Just(Step::Any),
        ]
    }

    proptest! {
        #[test]
        fn a_path_reads_back(steps in prop::collection::vec(step(), 0..8)) {
            let written = JsonPath(steps);
            prop_assert_eq!(written.to_string().parse::<JsonPath>(), Ok(written));
        }

        #[test]
        fn any_text_is_a_path_or_refused(text in r#"\$?([.\[\]*'"\\a0-]|\PC){0,24}"#) {
            if let Ok(path) = text.parse::<JsonPath>() {
                prop_assert_eq!(path.to_string().parse::<JsonPath>(), Ok(path));
            }
        }

        #[test]
        fn a_place_is_above_here_or_inside_in_this_order(
            steps in prop::collection::vec(step(), 0..8),
            more in 0_usize..3,
        ) {
            let path = JsonPath(steps.clone());
            let mut at: Vec<At<'_>> = steps
                .iter()
                .map(|step| match step {
                    Step::Key(key) => At::Key(key),
                    Step::Index(index) => At::Index(*index),
                    Step::Any => At::Index(3),
                })
                .collect();
            prop_assert_eq!(path.meet(&at), Meeting::Here);
            at.extend([At::Key("more")].repeat(more + 1));
            prop_assert_eq!(path.meet(&at), Meeting::Inside);
            for length in 0..steps.len() {
                prop_assert_eq!(path.meet(&at[..length]), Meeting::Above);
            }
        }
    }
}
