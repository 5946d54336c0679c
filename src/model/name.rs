//! Names and identifiers, each its own type so that two of them cannot be swapped.
//!
//! A name is checked once, where it enters ([`TryFrom`]); afterwards its type is the proof.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

/// Longest DNS label (RFC 1035 §2.3.4), in bytes.
pub const LABEL_BYTES_MAX: usize = 63;
/// Longest DNS name in text form (RFC 1035 §2.3.4), in bytes.
pub const HOST_BYTES_MAX: usize = 253;
/// Longest name of a region, rule or entity, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// A text that is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind}: {expected}")]
pub struct BadName {
    kind: &'static str,
    text: String,
    expected: &'static str,
}

impl BadName {
    /// `text` is no `kind`; `expected` says what one looks like.
    pub(super) fn new(kind: &'static str, text: String, expected: &'static str) -> Self {
        Self { kind, text, expected }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) {
                    Ok(Self(text))
                } else {
                    Err(BadName { kind: $kind, text, expected: $expected })
                }
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a target: one DNS label, so that `<target>.<gateway's name>` is a host name.
    TargetName,
    "target name",
    "use a DNS label: 1 to 63 of a-z, 0-9 and `-`, not beginning or ending with `-`",
    is_label
);
name!(
    /// The name of a region, as configured, e.g. `eu-central`.
    RegionName,
    "region name",
    "use a DNS label: 1 to 63 of a-z, 0-9 and `-`, not beginning or ending with `-`",
    is_label
);
name!(
    /// The id of a rule that decided: a Cedar policy's `@id`, or a row of the law data (`EUA-US3`).
    RuleId,
    "rule id",
    "use 1 to 128 of letters, digits, `-`, `_`, `.` and `:`",
    is_identifier
);
name!(
    /// The id of a legal entity, as configured, e.g. `acme-de`.
    EntityId,
    "entity id",
    "use 1 to 128 of letters, digits, `-`, `_`, `.` and `:`",
    is_identifier
);

name!(
    /// A DNS name, e.g. `weir.example`: labels joined by dots, lower case, no dot at the end.
    HostName,
    "host name",
    "use DNS labels of a-z, 0-9 and `-`, joined by dots; an IP address is written as one",
    is_host_name
);

fn is_host_name(text: &str) -> bool {
    // Resolvers read `127.1` and `0x7f000001` as addresses: a name must not look like one.
    let numeric = |label: &str| {
        label.bytes().all(|b| b.is_ascii_digit())
            || label.strip_prefix("0x").is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    text.len() <= HOST_BYTES_MAX
        && text.split('.').all(is_label)
        && text.rsplit('.').next().is_some_and(|last| !numeric(last))
}

fn is_label(text: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_identifier(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
}

/// One session: a version 7 UUID (RFC 9562 §5.7), so that ids sort by the time they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Uuid);

impl SessionId {
    /// A fresh id.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

/// One command: its session, and its number in it, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandId {
    /// The session that asked.
    pub session: SessionId,
    /// The how-manieth command of that session this is, from 1.
    pub number: u64,
}

impl CommandId {
    /// Session and number in signs that any header or file name takes; the number stands behind the
    /// last hyphen.
    pub fn in_one_word(&self) -> String {
        format!("{}-{}", self.session, self.number)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.session, self.number)
    }
}

/// One held command: eight random signs that are easy to read aloud, e.g. `h-7kq2m9xd`.
///
/// 40 random bits. Knowing an id permits nothing; answering it is decided by policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HoldId(String);

impl HoldId {
    /// Crockford's base 32: no i, l, o, u.
    const SIGNS: &'static [u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

    /// A fresh id, from the operating system's random numbers.
    pub fn fresh() -> Self {
        let text = Uuid::new_v4()
            .as_bytes()
            .iter()
            .filter_map(|byte| Self::SIGNS.get(usize::from(byte & 31)).copied().map(char::from))
            // Bytes 6 and 8 of a UUIDv4 carry its version and variant: leave them out.
            .enumerate()
            .filter(|(index, _)| ![6, 8].contains(index))
            .map(|(_, sign)| sign)
            .take(8)
            .collect::<String>();
        Self(format!("h-{text}"))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HoldId {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        let valid = text
            .strip_prefix("h-")
            .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|b| Self::SIGNS.contains(&b)));
        if valid {
            Ok(Self(text))
        } else {
            Err(BadName { kind: "hold id", text, expected: "it looks like h-7kq2m9xd" })
        }
    }
}

impl FromStr for HoldId {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::try_from(text.to_owned())
    }
}

impl From<HoldId> for String {
    fn from(id: HoldId) -> Self {
        id.0
    }
}

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_name_is_a_dns_label() {
        for good in ["customers", "web-1", "a", "0"] {
            assert_eq!(good.parse::<TargetName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "a.b", "A", "a_b", "ａ", &"x".repeat(64)] {
            assert!(bad.parse::<TargetName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_name_is_dns_labels_and_never_an_address_in_disguise() {
        for good in ["localhost", "weir.example", "db-1.eu.internal", "1a.example", "0x7f.example"]
        {
            assert_eq!(good.parse::<HostName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "a..b", "a.", "A.example", "127.1", "2130706433", "0x7f000001", "a_b"]
        {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
        assert!("a.".repeat(130).parse::<HostName>().is_err());
    }

    #[test]
    fn a_hold_id_reads_back() {
        let id = HoldId::fresh();
        assert_eq!(id.as_str().parse::<HoldId>().unwrap(), id);
        assert_ne!(id, HoldId::fresh());
        assert!("h-IIIIIIII".parse::<HoldId>().is_err());
    }
}
