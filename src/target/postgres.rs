//! What is declared of a PostgreSQL target.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::model::Address;
use crate::model::DataClass;
use crate::model::Declared;
use crate::target::credential::Credential;
use crate::target::tls::UpstreamTls;

/// Longest identifier that the server does not cut (NAMEDATALEN - 1), in bytes.
pub const IDENTIFIER_BYTES_MAX: usize = 63;

/// A PostgreSQL target.
#[derive(Debug, Clone)]
pub struct PostgresTarget {
    /// Where it listens.
    pub address: Address,
    /// The databases that are offered. The first is used when a client names none.
    pub databases: Vec<Identifier>,
    /// The database user that the gateway signs in as.
    pub login: Identifier,
    /// That user's password.
    pub credential: Credential,
    /// By what clients prove who they are, unless they choose otherwise.
    pub auth: PostgresAuth,
    /// How it is verified.
    pub tls: UpstreamTls,
    /// What was declared of each relation: every column of it. What is not here is unknown.
    pub tables: BTreeMap<RelationName, BTreeMap<Identifier, Declared>>,
}

/// By what a client without a certificate proves who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PostgresAuth {
    /// A password, which is a session credential.
    #[default]
    Password,
    /// SASL's OAUTHBEARER.
    Oauth,
}

impl PostgresAuth {
    /// Every way.
    pub const ALL: [Self; 2] = [Self::Password, Self::Oauth];

    /// Its word in configurations and connection strings.
    pub fn word(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Oauth => "oauth",
        }
    }

    /// The way that a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.word() == word)
    }
}

impl PostgresTarget {
    /// Every class that was declared.
    pub fn classes(&self) -> impl Iterator<Item = &DataClass> {
        self.tables.values().flat_map(BTreeMap::values).filter_map(Declared::class)
    }
}

/// A name as it stands in PostgreSQL's catalogue: not quoted, not folded, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier(String);

/// A relation as it stands in PostgreSQL's catalogue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationName {
    /// The schema.
    pub schema: Identifier,
    /// The relation in it.
    pub name: Identifier,
}

/// A text that is no identifier, or no relation name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind}; expected {expected}")]
pub struct BadIdentifier {
    kind: &'static str,
    text: String,
    expected: &'static str,
}

impl Identifier {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Identifier {
    type Err = BadIdentifier;

    fn from_str(text: &str) -> Result<Self, BadIdentifier> {
        let fits = (1..=IDENTIFIER_BYTES_MAX).contains(&text.len());
        if fits && !text.contains(|sign: char| sign.is_control() || sign == '"') {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadIdentifier {
                kind: "PostgreSQL identifier",
                text: text.to_owned(),
                expected: "1 to 63 bytes as in the server's catalogue, without quotes",
            })
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RelationName {
    type Err = BadIdentifier;

    fn from_str(text: &str) -> Result<Self, BadIdentifier> {
        text.split_once('.')
            .filter(|(_, name)| !name.contains('.'))
            .and_then(|(schema, name)| {
                Some(Self { schema: schema.parse().ok()?, name: name.parse().ok()? })
            })
            .ok_or_else(|| BadIdentifier {
                kind: "relation name",
                text: text.to_owned(),
                expected: "<schema>.<relation> as in the server's catalogue, without quotes",
            })
    }
}

impl fmt::Display for RelationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relation_has_one_schema_and_one_name() {
        let name = "public.customers".parse::<RelationName>().unwrap();
        assert_eq!((name.schema.as_str(), name.name.as_str()), ("public", "customers"));
        for bad in ["customers", ".customers", "public.", "a.b.c", "\"public\".t", "a.b\0"] {
            assert!(bad.parse::<RelationName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(64).parse::<Identifier>().is_err(), "the server would cut it");
    }
}
