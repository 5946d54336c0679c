//! Who asks.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::model::Country;
use crate::model::EntityId;

/// What kind of asker a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A human being.
    Person,
    /// A program on its own account, such as a CI job.
    Workload,
    /// An AI agent on behalf of a person.
    Agent,
    /// The gateway itself: catalogue reads, health checks.
    Gateway,
}

/// Who asks: issuer and subject, and what the configured mapping made of the claims.
///
/// A `Principal` is a plain value and proves nothing: `identity::Verified` does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The issuer's identifier (its URL); `weir` for the gateway itself.
    pub issuer: String,
    /// The issuer's stable identifier of the principal (`sub`).
    pub subject: String,
    /// The name shown to people and in records, e.g. `alice`.
    pub name: String,
    /// Person, workload, agent or gateway.
    pub kind: Kind,
    /// Roles, as mapped from the claims.
    pub roles: BTreeSet<String>,
    /// The legal entity the principal works for. `None`: the claims named none that is configured.
    pub entity: Option<EntityId>,
    /// Country of residence, where the claims give it.
    pub residence: Option<Country>,
    /// The claim that tells one human being from another across accounts: requester and approver
    /// must differ in it.
    pub person: String,
    /// Further mapped claims that policies may read.
    pub attributes: BTreeMap<String, String>,
    /// Who acts for the principal: the one that asks first, then whoever it asks for in turn
    /// (RFC 8693 §4.1). Empty: the principal asks by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<Actor>,
}

impl Principal {
    /// In what capacity it asks: what kind of asker it is, and which agents act for it. What a person
    /// does and what an agent does for that person differ in this alone.
    pub fn acting(&self) -> String {
        let kind = match self.kind {
            Kind::Person => "person",
            Kind::Workload => "workload",
            Kind::Agent => "agent",
            Kind::Gateway => "gateway",
        };
        let actors =
            self.actors.iter().map(|actor| format!(" {:?}", (&actor.issuer, &actor.subject)));
        std::iter::once(kind.to_owned()).chain(actors).collect()
    }

    /// Whether both are the same asker in the same capacity: what one did is the other's own. A
    /// person's agent is not the person, nor another agent of theirs.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.issuer, &self.subject) == (&other.issuer, &other.subject)
            && self.acting() == other.acting()
    }

    /// Whether this one may end what the other has begun: it is the same asker, or the person for whom
    /// the other acts. An agent has no say in what its person does themselves.
    pub fn answers_for(&self, other: &Self) -> bool {
        let plain = self.kind == Kind::Person && self.actors.is_empty();
        let theirs = (&self.issuer, &self.subject) == (&other.issuer, &other.subject);
        self.is_same(other) || (plain && theirs)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for actor in &self.actors {
            write!(f, "{} for ", actor.name)?;
        }
        f.write_str(&self.name)
    }
}

/// An agent that acts for somebody. It never may more than they may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Who knows it: the issuer that it names, or the token's.
    pub issuer: String,
    /// That issuer's identifier of it.
    pub subject: String,
    /// The name shown to people and in records.
    pub name: String,
}

/// Whether an entity decides purposes or acts for another (GDPR Art. 4(7), (8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Decides purposes and means.
    Controller,
    /// Acts for a controller, or for another processor.
    Processor,
}

/// A legal entity; with its country it makes a transfer a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Its configured id.
    pub id: EntityId,
    /// The country it is established in.
    pub country: Country,
    /// Controller or processor.
    pub role: Role,
    /// Declared facts that adequacy rows ask for, e.g. `dpf = nonhr,hr` or `lgpd = yes`.
    pub attributes: BTreeMap<String, String>,
    /// Declared numbers that some laws count.
    pub counters: Counters,
}

/// Numbers of which an entity declares that it stays at or below them in every calendar year, with
/// all that it does, here and elsewhere. `None`: nobody declared it, and unknown is more than any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Counters {
    /// Individuals whose personal data it provides (sends or shows) out of China.
    pub cn_pi: Option<u64>,
    /// Those of them whose sensitive personal data it provides.
    pub cn_sens: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_neither_its_person_nor_another_agent_of_theirs() {
        let alice = Principal {
            issuer: "https://login.example".to_owned(),
            subject: "u-alice".to_owned(),
            name: "alice".to_owned(),
            kind: Kind::Person,
            roles: BTreeSet::new(),
            entity: None,
            residence: None,
            person: "u-alice".to_owned(),
            attributes: BTreeMap::new(),
            actors: Vec::new(),
        };
        let agent = |subject: &str, name: &str| {
            let (subject, name) = (subject.to_owned(), name.to_owned());
            let actors = vec![Actor { issuer: alice.issuer.clone(), subject, name }];
            Principal { kind: Kind::Agent, actors, ..alice.clone() }
        };
        let bot = agent("bot", "bot");
        assert!(alice.is_same(&alice) && bot.is_same(&agent("bot", "renamed")));
        let nameless = Principal { kind: Kind::Agent, ..alice.clone() };
        for other in [&bot, &nameless] {
            assert!(!alice.is_same(other) && !other.is_same(&alice));
        }
        assert!(!bot.is_same(&agent("other", "bot")) && !bot.is_same(&nameless));
        assert!(alice.answers_for(&bot) && bot.answers_for(&bot));
        assert!(!bot.answers_for(&alice) && !bot.answers_for(&agent("other", "bot")));
        assert!(!nameless.answers_for(&alice));
        let renewed = Principal { roles: BTreeSet::from(["dba".to_owned()]), ..alice.clone() };
        assert!(alice.is_same(&renewed), "what somebody may changes, and who it is does not");
    }
}
