//! What an object of a store is called: a path of plain words, the same for every make of store.

use std::fmt;
use std::str::FromStr;

/// Longest name, in bytes: with a prefix of the same length it fits every make of store.
pub const NAME_BYTES_MAX: usize = 400;
/// Longest word between two slashes, in bytes: what a file's name may have.
const WORD_BYTES_MAX: usize = 200;

/// The name of an object, or of a folder of objects: words of ASCII letters, digits, `.`, `_` and
/// `-`, parted by slashes. No word begins with a dot, so that none leads elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// A text that names no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no object; expected words of ASCII letters, digits, `.`, `_` and `-`, parted by \
     `/`, none beginning with `.`"
)]
pub struct BadName(String);

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let sign = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let word = |word: &str| {
            (1..=WORD_BYTES_MAX).contains(&word.len())
                && !word.starts_with('.')
                && word.bytes().all(sign)
        };
        if text.len() <= NAME_BYTES_MAX && text.split('/').all(word) {
            return Ok(Self(text.to_owned()));
        }
        Err(BadName(text.chars().filter(|sign| !sign.is_control()).take(80).collect()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        let id = "0199c1e2-7d3a-7c44-8f10-0123456789ab";
        for good in [format!("recordings/{id}/00000000000000000000.seg"), "a".into(), "a.b".into()]
        {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        let long = "a".repeat(WORD_BYTES_MAX + 1);
        let deep = "a/".repeat(NAME_BYTES_MAX / 2) + "a";
        for bad in [
            "", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a/.b", "a b", "a%2f", "a\\b", "ä",
            "a\n", "a?b", "a#1", "a*", &long, &deep,
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
