//! The small values of the file that no other module has a word for: bounded numbers, networks,
//! days. Each says in its error what was expected.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::civil::Date;
use serde::Deserialize;
use serde::Deserializer;
use serde::de;

/// A whole number from `MIN` to `MAX`, both included. Its unit is the end of its setting's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Within<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Within<MIN, MAX> {
    /// The number that is nearest to `value` within the bounds.
    pub const fn nearest(value: u64) -> Self {
        if value < MIN {
            Self(MIN)
        } else if value > MAX {
            Self(MAX)
        } else {
            Self(value)
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as a count or size in memory.
    pub fn count(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// The duration, where the setting counts seconds (`…_s_…`).
    pub const fn seconds(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// The duration, where the setting counts milliseconds (`…_ms_…`).
    pub const fn milliseconds(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Within<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounds<const MIN: u64, const MAX: u64>;

        impl<const MIN: u64, const MAX: u64> de::Visitor<'_> for Bounds<MIN, MAX> {
            type Value = Within<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                u64::try_from(value)
                    .ok()
                    .filter(|value| (MIN..=MAX).contains(value))
                    .map(Within)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                if (MIN..=MAX).contains(&value) {
                    Ok(Within(value))
                } else {
                    Err(E::invalid_value(de::Unexpected::Unsigned(value), &self))
                }
            }
        }

        deserializer.deserialize_u64(Bounds)
    }
}

/// A network such as `10.1.0.0/16`, in the one text form that it has: so the same network cannot
/// be written twice in different words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl Network {
    /// The network.
    pub fn net(self) -> IpNet {
        self.0
    }

    /// Whether it holds `ip`; an IPv4-mapped IPv6 address is the IPv4 address.
    pub fn holds(self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Ok(net) = text.parse::<IpNet>() else {
            return Err(format!(
                "`{text}` is no network; expected an address and a prefix length, such as \
                 10.1.0.0/16 or 2001:db8::/32"
            ));
        };
        // Addresses are compared as IPv4 wherever they are: this network would hold nothing.
        if net.addr().to_canonical() != net.addr() {
            return Err(format!("`{text}` is IPv4 in IPv6; expected the IPv4 network itself"));
        }
        let canonical = net.trunc().to_string();
        if canonical == text {
            Ok(Self(net))
        } else {
            Err(format!("`{text}` is not in its usual form; expected `{canonical}`"))
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A day, written as a TOML date (`2026-11-21`, without quotes). UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(Date);

impl Day {
    /// The date.
    pub fn date(self) -> Date {
        self.0
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "expected a date without quotes, such as 2026-11-21";
        let written = toml::value::Datetime::deserialize(deserializer)
            .map_err(|_| de::Error::custom(format!("not a date; {EXPECTED}")))?;
        let toml::value::Datetime { date: Some(date), time: None, offset: None } = written else {
            return Err(de::Error::custom(format!("more than a date; {EXPECTED}")));
        };
        date.to_string().parse().map(Self).map_err(|_| de::Error::custom(EXPECTED))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
