//! Agents: who acts for whom, as a token says it.
//!
//! Two forms are read. With `act` (RFC 8693 §4.1) the token is about the person, and `act` names
//! the agent that asks. With a claim such as `on_behalf_of` the token is about the agent, and the
//! claim describes the person. Either way the principal becomes the person, asked for by the agent:
//! it has the person's entity, and never a role that the person has not.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::identity::IdentityError;
use crate::identity::Mapping;
use crate::identity::claims;
use crate::identity::token::Claims;
use crate::model::Principal;
use crate::model::principal::Actor;
use crate::model::principal::Kind;

/// Most agents that may act for one another.
const ACTORS_MAX: usize = 4;

/// Who acts for whom.
pub(super) enum Delegation {
    /// The token is about the person. The agents, and the roles of the one that asks where the
    /// token says them.
    Acted { actors: Vec<Actor>, own: Option<BTreeSet<String>> },
    /// The token is about the agent; this is the person.
    Acting(Box<Acting>),
}

/// The person that an agent's own token is about.
pub(super) struct Acting {
    person: Principal,
    /// The agent's own roles, where the token says them.
    own: Option<BTreeSet<String>>,
}

/// Reads who acts for whom; `None`: the principal asks by itself.
pub(super) fn read(
    issuer: &str,
    mapping: &Mapping,
    claims: &Claims,
) -> Result<Option<Delegation>, IdentityError> {
    let person = mapping.acting_for.as_ref().and_then(|path| Some((path, claims.at(path)?)));
    match (claims.named("act"), person) {
        (None, None) => Ok(None),
        (Some(act), None) => {
            let first = object("act", act)?;
            let own = claims::roles(mapping, &first)?;
            Ok(Some(Delegation::Acted { actors: chain(issuer, mapping, act)?, own }))
        }
        (None, Some((path, value))) => {
            let person = person_of(issuer, mapping, path.as_str(), value)?;
            let own = claims::roles(mapping, claims)?;
            Ok(Some(Delegation::Acting(Box::new(Acting { person, own }))))
        }
        // Two stories about who acts for whom: neither can be believed.
        (Some(_), Some(_)) => Err(IdentityError::claim("act", "is not the only word for who acts")),
    }
}

impl Delegation {
    /// Makes of the token's principal the person that the agent acts for.
    pub(super) fn apply(self, principal: Principal) -> Principal {
        let (mut person, actors, own) = match self {
            Self::Acted { actors, own } => (principal, actors, own),
            Self::Acting(acting) => {
                let agent = Actor {
                    issuer: principal.issuer,
                    subject: principal.subject,
                    name: principal.name,
                };
                let attributes = principal.attributes;
                (Principal { attributes, ..acting.person }, vec![agent], acting.own)
            }
        };
        if let Some(own) = own {
            person.roles.retain(|role| own.contains(role));
        }
        Principal { kind: Kind::Agent, actors, ..person }
    }
}

/// The agents, the one that asks first.
fn chain(issuer: &str, mapping: &Mapping, act: &Value) -> Result<Vec<Actor>, IdentityError> {
    let mut actors = Vec::new();
    let mut next = Some(act.clone());
    while let Some(act) = next {
        if actors.len() == ACTORS_MAX {
            return Err(IdentityError::claim("act", "has too many agents in one another"));
        }
        let act = object("act", &act)?;
        let subject = claims::subject(&act)?;
        let issuer = act.named("iss").map_or(Ok(issuer.to_owned()), |iss| claims::text("act", iss));
        // A name is for people; what tells agents from one another is the subject.
        let name = claims::identifier(&mapping.name, &act).unwrap_or_else(|_| subject.clone());
        actors.push(Actor { issuer: issuer?, subject, name });
        next = act.named("act").cloned();
    }
    Ok(actors)
}

/// The person of an agent's own token: an object of claims, or no more than the subject. Of whom
/// the token does not say the roles, the agent has none.
fn person_of(
    issuer: &str,
    mapping: &Mapping,
    claim: &str,
    value: &Value,
) -> Result<Principal, IdentityError> {
    if value.is_string() {
        let subject = claims::text(claim, value)?;
        return Ok(Principal {
            issuer: issuer.to_owned(),
            name: subject.clone(),
            kind: Kind::Agent,
            roles: BTreeSet::new(),
            entity: None,
            residence: None,
            person: subject.clone(),
            attributes: BTreeMap::new(),
            actors: Vec::new(),
            subject,
        });
    }
    let described = object(claim, value)?;
    // A provider speaks only for itself.
    if described.named("iss").is_some_and(|iss| iss.as_str() != Some(issuer)) {
        return Err(IdentityError::claim(claim, "is of another issuer"));
    }
    claims::overflow(mapping, &described)?;
    claims::bare(issuer, mapping, &described)
}

fn object(claim: &str, value: &Value) -> Result<Claims, IdentityError> {
    Claims::of(value).ok_or_else(|| IdentityError::claim(claim, "is no object"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::EntityMapping;
    use crate::identity::RolesMapping;

    const ISSUER: &str = "https://id.example";

    fn mapping() -> Mapping {
        let roles = RolesMapping {
            claim: "groups".parse().unwrap(),
            prefix: None,
            rename: BTreeMap::new(),
            only_named: false,
        };
        let entities = [("acme".to_owned(), "acme-de".parse().unwrap())].into();
        let entity = EntityMapping { claim: "company".parse().unwrap(), entities };
        let acting_for = Some("on_behalf_of".parse().unwrap());
        Mapping { roles: Some(roles), entity: Some(entity), acting_for, ..Mapping::default() }
    }

    fn read(more: &Value) -> Result<Principal, IdentityError> {
        let mut all = json!({"sub": "u-1", "preferred_username": "alice", "company": "acme",
            "groups": ["engineer", "dba"]});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims::principal(ISSUER, &mapping(), &Claims::of(&all).unwrap())
    }

    fn roles(principal: &Principal) -> Vec<&str> {
        principal.roles.iter().map(String::as_str).collect()
    }

    #[test]
    fn an_agent_that_acts_for_a_person_is_shown_and_may_no_more_than_they() {
        let agent = read(&json!({"act": {"sub": "agent-7"}})).unwrap();
        assert_eq!((agent.kind, agent.person.as_str()), (Kind::Agent, "u-1"));
        assert_eq!(agent.to_string(), "agent-7 for alice");
        assert_eq!(roles(&agent), ["dba", "engineer"]);
        let narrow = json!({"act": {"sub": "agent-7", "groups": ["engineer", "administrator"]}});
        assert_eq!(roles(&read(&narrow).unwrap()), ["engineer"], "what both have");
        let nothing = json!({"act": {"sub": "agent-7", "groups": []}});
        assert!(read(&nothing).unwrap().roles.is_empty());
    }

    #[test]
    fn a_chain_of_agents_is_kept_in_order_and_bounded() {
        let nested = |depth: usize| {
            (0..depth).rev().fold(Value::Null, |inner, at| {
                json!({"sub": format!("a{at}"), "iss": "https://agents.example", "act": inner})
            })
        };
        let agent = read(&json!({ "act": nested(4) })).unwrap();
        assert_eq!(agent.to_string(), "a0 for a1 for a2 for a3 for alice");
        assert_eq!(agent.actors[0].issuer, "https://agents.example");
        assert!(read(&json!({ "act": nested(5) })).is_err());
        for bad in [
            json!("agent-7"),
            json!({}),
            json!({"sub": 7}),
            json!({"sub": "a\nb"}),
            json!({"sub": "a", "iss": 1}),
            json!({"sub": "a", "act": "b"}),
        ] {
            assert!(read(&json!({ "act": bad })).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_agents_own_token_makes_it_its_person_with_no_more_than_both_have() {
        let person = json!({"sub": "u-2", "preferred_username": "dana", "company": "acme",
            "groups": ["dba", "approver"]});
        let agent = read(&json!({"sub": "agent-7", "preferred_username": "helper",
            "on_behalf_of": person}))
        .unwrap();
        assert_eq!((agent.subject.as_str(), agent.person.as_str()), ("u-2", "u-2"));
        assert_eq!((agent.kind, agent.to_string().as_str()), (Kind::Agent, "helper for dana"));
        assert_eq!(roles(&agent), ["dba"]);
        // Of whom only the name is known, no role is known.
        let agent = read(&json!({"on_behalf_of": "u-2"})).unwrap();
        assert!(agent.roles.is_empty() && agent.entity.is_none());
        for bad in [
            json!({"on_behalf_of": {"sub": "u-2", "preferred_username": "d", "iss": "https://other.example"}}),
            json!({"on_behalf_of": {"preferred_username": "d"}}),
            json!({"on_behalf_of": ["u-2"]}),
            json!({"on_behalf_of": "u-2", "act": {"sub": "agent-7"}}),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }
}
