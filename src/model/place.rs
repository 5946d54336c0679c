//! Countries, and how it became known from which country somebody comes.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// A country: an ISO 3166-1 alpha-2 code in upper case, or `INT:<name>` for an international
/// organization, which lies outside every zone.
///
/// The form is checked, not the assignment: whether a code is one that the law data knows is for
/// the transfer decision, which refuses what it does not know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country(String);

/// A text that has not the form of a country.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no country: use an ISO 3166-1 code such as DE, or INT:<name>")]
pub struct BadCountry(String);

impl Country {
    /// The code as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Country {
    type Error = BadCountry;

    fn try_from(text: String) -> Result<Self, BadCountry> {
        let iso = text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase());
        let organization = text.strip_prefix("INT:").is_some_and(|name| {
            (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_uppercase())
        });
        if iso || organization { Ok(Self(text)) } else { Err(BadCountry(text)) }
    }
}

impl FromStr for Country {
    type Err = BadCountry;

    fn from_str(text: &str) -> Result<Self, BadCountry> {
        Self::try_from(text.to_owned())
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.0
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a client comes from: its address, and the country that follows from it.
///
/// The country comes from the network, never from a claim. `None` is "unknown", which the transfer
/// decision treats as unknown, not as a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The client's address, as the listener (or its PROXY header) knows it.
    pub address: IpAddr,
    /// The country, where it could be determined.
    pub country: Option<Country>,
    /// How it was determined.
    pub method: PlaceMethod,
}

/// How a country of access was determined. Recorded with every admission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlaceMethod {
    /// The most specific configured network that holds the address; its text form.
    ConfiguredNetwork(String),
    /// No configured network holds the address; country databases that know it agree.
    Databases {
        /// Those that say so.
        agree: Vec<String>,
        /// Those that do not know the address.
        silent: Vec<String>,
    },
    /// No configured network holds the address, and country databases contradict each other.
    Disagreement(Vec<Said>),
    /// No configured network holds the address, and no country database knows it.
    Unknown,
    /// Given by an administrator in a what-if question (`weir policy explain --from`).
    Assumed,
}

/// What one country database says of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The database.
    pub database: String,
    /// The country. `None`: what it says cannot be read.
    pub country: Option<Country>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.country {
            Some(country) => write!(f, "{} says {country}", self.database),
            None => write!(f, "{} cannot be read there", self.database),
        }
    }
}

/// How the country is known, or why it is not: `by configured network 10.65.0.0/16`.
impl fmt::Display for PlaceMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfiguredNetwork(network) => write!(f, "by configured network {network}"),
            Self::Databases { agree, silent } => {
                let databases = if agree.len() == 1 { "database" } else { "databases" };
                write!(f, "by country {databases} {}", agree.join(", "))?;
                match silent.as_slice() {
                    [] => Ok(()),
                    [one] => write!(f, " ({one} does not know it)"),
                    several => write!(f, " ({} do not know it)", several.join(", ")),
                }
            }
            Self::Disagreement(said) => {
                let said = said.iter().map(ToString::to_string).collect::<Vec<_>>();
                f.write_str(&said.join(", "))
            }
            Self::Unknown => f.write_str("no configured network and no country database knows it"),
            Self::Assumed => f.write_str("assumed in a what-if question"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.country {
            Some(country) => write!(f, "{country} ({})", self.address),
            None => write!(f, "an unknown country ({})", self.address),
        }
    }
}
/// Who is counted as one: who has one IPv6 address usually has 2^64 of them.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}
