//! Hosts and ports, as configured and not yet resolved.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

use crate::model::HostName;

/// A host: a DNS name, or an IP address. IPv4-mapped IPv6 addresses become IPv4.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// A name that must be resolved.
    Name(HostName),
    /// An address.
    Ip(IpAddr),
}

/// A text that is no host, or no host with a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind}: {expected}")]
pub struct BadAddress {
    kind: &'static str,
    text: String,
    expected: &'static str,
}

impl Host {
    /// Whether this is the machine itself, whatever a resolver says: a loopback address,
    /// `localhost`, or a name in `.localhost` (RFC 6761 §6.3).
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(ip) => ip.is_loopback(),
            Self::Name(name) => {
                name.as_str() == "localhost" || name.as_str().ends_with(".localhost")
            }
        }
    }
}

impl FromStr for Host {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip.to_canonical()));
        }
        text.parse().map(Self::Name).map_err(|_| BadAddress {
            kind: "host",
            text: text.to_owned(),
            expected: "use a DNS name in lower case, or an IP address",
        })
    }
}

impl TryFrom<String> for Host {
    type Error = BadAddress;

    fn try_from(text: String) -> Result<Self, BadAddress> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// A host and a port, such as `db.internal:5432`, `10.1.0.5:22` or `[fd00::5]:443`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// The host.
    pub host: Host,
    /// The TCP port, never 0.
    pub port: u16,
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let read = || {
            let (host, port) = text.rsplit_once(':')?;
            // `u16` would read `+22` and `022` too, which other readers take for something else.
            let plain = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
            let port = port.parse::<u16>().ok().filter(|_| plain)?;
            let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(v6) => Host::Ip(IpAddr::V6(v6.parse::<Ipv6Addr>().ok()?).to_canonical()),
                None if host.contains(':') => return None,
                None => host.parse().ok()?,
            };
            Some(Self { host, port })
        };
        read().ok_or_else(|| BadAddress {
            kind: "address",
            text: text.to_owned(),
            expected: "use <host>:<port>, the host a DNS name in lower case, an IPv4 address, \
                       or an IPv6 address in brackets",
        })
    }
}

impl TryFrom<String> for Address {
    type Error = BadAddress;

    fn try_from(text: String) -> Result<Self, BadAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(IpAddr::V4(_)) | Host::Name(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back() {
        for text in ["db.internal:5432", "localhost:1", "10.1.0.5:22", "[fd00::5]:65535"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let mapped = "[::ffff:10.1.0.5]:22".parse::<Address>().unwrap();
        assert_eq!(mapped.to_string(), "10.1.0.5:22", "a mapped address is the IPv4 address");
    }

    #[test]
    fn what_resolvers_read_differently_is_refused() {
        let bad = ["", "db", "db:", "db:0", "db:+1", "db:022", "db:65536", "fd00::5:22", "[db]:22"];
        for text in
            bad.into_iter().chain(["127.1:22", "[10.0.0.1]:22", "DB:22", " db:22", "db:22 "])
        {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
