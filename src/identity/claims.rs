//! What verified claims mean: the configured mapping makes a principal of them.
//!
//! Pure: claims and options in, principal or error out.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::identity::EntityMapping;
use crate::identity::Expression;
use crate::identity::IdentityError;
use crate::identity::Mapping;
use crate::identity::RolesMapping;
use crate::identity::delegation;
use crate::identity::expression::Reading;
use crate::identity::token::Claims;
use crate::model::Country;
use crate::model::EntityId;
use crate::model::Principal;
use crate::model::principal::Kind;

/// Longest text that is taken from a claim, in bytes.
const TEXT_BYTES_MAX: usize = 256;
/// Most roles that a principal may have.
const ROLES_MAX: usize = 256;

/// The principal that `claims` of `issuer` describe.
pub(super) fn principal(
    issuer: &str,
    mapping: &Mapping,
    claims: &Claims,
) -> Result<Principal, IdentityError> {
    overflow(mapping, claims)?;
    let delegation = delegation::read(issuer, mapping, claims)?;
    let principal = bare(issuer, mapping, claims)?;
    Ok(match delegation {
        Some(delegation) => delegation.apply(principal),
        None => principal,
    })
}

/// The principal, without regard to who acts for whom.
pub(super) fn bare(
    issuer: &str,
    mapping: &Mapping,
    claims: &Claims,
) -> Result<Principal, IdentityError> {
    Ok(Principal {
        issuer: issuer.to_owned(),
        subject: subject(claims)?,
        name: identifier(&mapping.name, claims)?,
        kind: kind(mapping, claims)?,
        roles: roles(mapping, claims)?.unwrap_or_default(),
        entity: entity(mapping, claims)?,
        residence: residence(mapping, claims)?,
        person: identifier(&mapping.person, claims)?,
        attributes: attributes(mapping, claims)?,
        actors: Vec::new(),
    })
}

/// The issuer's identifier of the principal.
pub(super) fn subject(claims: &Claims) -> Result<String, IdentityError> {
    text("sub", claims.named("sub").ok_or(IdentityError::claim("sub", "is missing"))?)
}

/// A required text by which somebody is told from others.
pub(super) fn identifier(
    expression: &Expression,
    claims: &Claims,
) -> Result<String, IdentityError> {
    let value = expression.value(claims, Reading::Identifying)?;
    let missing = || IdentityError::claim(expression.as_str(), "is missing");
    text(expression.as_str(), &value.ok_or_else(missing)?)
}

/// An unknown kind is refused and not the default: an agent must not pass for a person.
pub(super) fn kind(mapping: &Mapping, claims: &Claims) -> Result<Kind, IdentityError> {
    let Some(by_claim) = &mapping.kind_claim else { return Ok(mapping.kind) };
    let Some(value) = claims.at(&by_claim.claim) else { return Ok(mapping.kind) };
    by_claim
        .kinds
        .get(text(by_claim.claim.as_str(), value)?.as_str())
        .copied()
        .ok_or(IdentityError::claim(by_claim.claim.as_str(), "is no kind that is configured"))
}

/// The roles; `None` where the claims have no such claim.
pub(super) fn roles(
    mapping: &Mapping,
    claims: &Claims,
) -> Result<Option<BTreeSet<String>>, IdentityError> {
    mapping.roles.as_ref().map_or(Ok(None), |roles| roles.read(claims))
}

/// The legal entity.
pub(super) fn entity(
    mapping: &Mapping,
    claims: &Claims,
) -> Result<Option<EntityId>, IdentityError> {
    mapping.entity.as_ref().map_or(Ok(None), |entity| entity.read(claims))
}

impl RolesMapping {
    fn read(&self, claims: &Claims) -> Result<Option<BTreeSet<String>>, IdentityError> {
        let Some(value) = self.claim.value(claims, Reading::Plain)? else { return Ok(None) };
        let wrong = |problem| IdentityError::claim(self.claim.as_str(), problem);
        let values = match &value {
            Value::String(_) => std::slice::from_ref(&value),
            Value::Array(values) => values.as_slice(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                return Err(wrong("is neither a text nor a list of texts"));
            }
        };
        let mut roles = BTreeSet::new();
        for value in values {
            let role = value.as_str().ok_or(wrong("is a list with something else than texts"))?;
            let prefix = self.prefix.as_deref().unwrap_or_default();
            let Some(role) = role.strip_prefix(prefix) else { continue };
            let role = text(self.claim.as_str(), &Value::from(role))?;
            match self.rename.get(&role) {
                Some(name) => roles.insert(name.clone()),
                None if self.only_named => continue,
                None => roles.insert(role),
            };
            if roles.len() > ROLES_MAX {
                return Err(wrong("has too many roles"));
            }
        }
        Ok(Some(roles))
    }
}

impl EntityMapping {
    fn read(&self, claims: &Claims) -> Result<Option<EntityId>, IdentityError> {
        let Some(value) = self.claim.value(claims, Reading::Plain)? else { return Ok(None) };
        Ok(self.entities.get(&text(self.claim.as_str(), &value)?).cloned())
    }
}

/// The country of residence.
pub(super) fn residence(
    mapping: &Mapping,
    claims: &Claims,
) -> Result<Option<Country>, IdentityError> {
    let Some(expression) = &mapping.residence else { return Ok(None) };
    let Some(value) = expression.value(claims, Reading::Plain)? else { return Ok(None) };
    Country::try_from(text(expression.as_str(), &value)?.to_ascii_uppercase())
        .map(Some)
        .map_err(|_| IdentityError::claim(expression.as_str(), "is no country"))
}

/// Attributes are optional; those that are there must be a text, a number or a truth value.
pub(super) fn attributes(
    mapping: &Mapping,
    claims: &Claims,
) -> Result<BTreeMap<String, String>, IdentityError> {
    let mut attributes = BTreeMap::new();
    for (name, expression) in &mapping.attributes {
        let value = match expression.value(claims, Reading::Plain)? {
            None => continue,
            Some(Value::Bool(value)) => value.to_string(),
            Some(Value::Number(value)) => value.to_string(),
            Some(value) => text(expression.as_str(), &value)?,
        };
        attributes.insert(name.clone(), value);
    }
    Ok(attributes)
}

/// A claim that the provider left out of the token because it is too long, and only says where it
/// could be asked for (aggregated and distributed claims, OpenID Connect Core 1.0 §5.6.2), is not
/// one that is missing: without its groups somebody would silently have no roles.
pub(super) fn overflow(mapping: &Mapping, claims: &Claims) -> Result<(), IdentityError> {
    let elsewhere = claims.named("_claim_names").and_then(Value::as_object);
    // Entra's short form where a token must fit a URL.
    let has_groups = claims.named("hasgroups").is_some_and(|value| {
        value.as_bool() == Some(true) || value.as_str().is_some_and(|text| text == "true")
    });
    for path in mapping.expressions().flat_map(Expression::paths) {
        let name = path.top();
        let named = elsewhere.is_some_and(|names| names.contains_key(name.as_ref()));
        if claims.named(&name).is_none() && (named || (has_groups && name == "groups")) {
            return Err(IdentityError::Overflow(name.into_owned()));
        }
    }
    Ok(())
}

/// A text that can stand in a record and on a page without being taken for another one.
pub(super) fn text(claim: &str, value: &Value) -> Result<String, IdentityError> {
    let wrong = |problem| IdentityError::claim(claim, problem);
    let text = value.as_str().ok_or(wrong("is no text"))?;
    if text.is_empty() {
        return Err(wrong("is empty"));
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(wrong("is too long"));
    }
    if text.chars().any(is_invisible) || text.trim() != text {
        return Err(wrong("has invisible signs"));
    }
    Ok(text.to_owned())
}

/// Control characters, and what changes how a text looks without being seen itself: zero-width
/// signs, line separators, marks of writing direction (Unicode TR 36 §2.4, §3.1).
fn is_invisible(sign: char) -> bool {
    sign.is_control()
        || matches!(
            sign,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::ClaimPath;
    use crate::identity::KindMapping;

    fn read(mapping: &Mapping, more: &Value) -> Result<Principal, IdentityError> {
        let mut all = json!({"sub": "1", "preferred_username": "alice"});
        let members = all.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        let claims = serde_json::from_value::<Claims>(all).unwrap();
        principal("https://id.example", mapping, &claims)
    }

    fn path(text: &str) -> Expression {
        text.parse().unwrap()
    }

    fn roles(prefix: Option<&str>) -> Mapping {
        let rename = BTreeMap::from([("ops".to_owned(), "operator".to_owned())]);
        let prefix = prefix.map(str::to_owned);
        let roles = RolesMapping { claim: path("/realm/roles"), prefix, rename, only_named: false };
        Mapping { roles: Some(roles), ..Mapping::default() }
    }

    #[test]
    fn roles_come_from_a_text_or_a_list_by_prefix_and_with_new_names() {
        let list = json!({"realm": {"roles": ["weir-ops", "weir-dev", "admin"]}});
        let read_roles = |mapping: Mapping, claims: &Value| read(&mapping, claims).unwrap().roles;
        assert_eq!(
            read_roles(roles(Some("weir-")), &list),
            BTreeSet::from(["operator".to_owned(), "dev".to_owned()])
        );
        assert_eq!(read_roles(roles(None), &json!({"realm": {"roles": "ops"}})).len(), 1);
        assert!(read_roles(roles(None), &json!({})).is_empty());
        for bad in [json!(1), json!({"a": 1}), json!(["a", 1]), json!([["a"]]), json!([""])] {
            assert!(read(&roles(None), &json!({"realm": {"roles": bad}})).is_err(), "{bad}");
        }
        let many = (0..=ROLES_MAX).map(|n| n.to_string()).collect::<Vec<_>>();
        assert!(read(&roles(None), &json!({"realm": {"roles": many}})).is_err());
    }

    #[test]
    fn names_that_deceive_are_refused() {
        for bad in [
            "",
            " ",
            "a ",
            "\u{a0}a",
            "a\nb",
            "a\0",
            "a\u{7f}",
            "a\u{202e}b",
            "a\u{200b}",
            "\u{feff}a",
            "a\u{2028}b",
            "a\u{ad}b",
            "a\u{e0041}",
            &"x".repeat(TEXT_BYTES_MAX + 1),
        ] {
            for claim in ["sub", "preferred_username"] {
                assert!(
                    read(&Mapping::default(), &json!({claim: bad})).is_err(),
                    "{claim} {bad:?}"
                );
            }
        }
        for bad in [json!(null), json!(7), json!(["alice"]), json!({"a": "b"}), json!(true)] {
            assert!(read(&Mapping::default(), &json!({"sub": bad})).is_err(), "{bad}");
        }
        let named = read(&Mapping::default(), &json!({"preferred_username": "Łucja Ωmega"}));
        assert_eq!(named.unwrap().name, "Łucja Ωmega");
    }

    #[test]
    fn an_address_identifies_only_if_it_was_verified() {
        let mapping = Mapping { person: path("email"), ..Mapping::default() };
        let email = "alice@acme.example";
        for bad in [json!(false), json!(null), json!("true"), json!(1)] {
            assert!(read(&mapping, &json!({"email": email, "email_verified": bad})).is_err());
        }
        let good = json!({"email": email, "email_verified": true});
        assert_eq!(read(&mapping, &good).unwrap().person, email);
    }

    #[test]
    fn an_entity_is_one_that_is_configured_or_none() {
        let entities = BTreeMap::from([("ACME GmbH".to_owned(), "acme-de".parse().unwrap())]);
        let entity = EntityMapping { claim: path("company"), entities };
        let mapping = Mapping { entity: Some(entity), ..Mapping::default() };
        let entity = |claims| read(&mapping, &claims).unwrap().entity.map(String::from);
        assert_eq!(entity(json!({"company": "ACME GmbH"})).as_deref(), Some("acme-de"));
        assert_eq!(entity(json!({"company": "acme-de"})), None);
        assert_eq!(entity(json!({})), None);
        assert!(read(&mapping, &json!({"company": ["ACME GmbH"]})).is_err());
    }

    #[test]
    fn an_unknown_kind_is_refused_and_not_taken_for_a_person() {
        let kinds = BTreeMap::from([("bot".to_owned(), Kind::Agent)]);
        let claim = "kind".parse::<ClaimPath>().unwrap();
        let kind_claim = Some(KindMapping { claim, kinds });
        let mapping = Mapping { kind_claim, ..Mapping::default() };
        assert_eq!(read(&mapping, &json!({"kind": "bot"})).unwrap().kind, Kind::Agent);
        assert_eq!(read(&mapping, &json!({})).unwrap().kind, Kind::Person);
        assert!(read(&mapping, &json!({"kind": "gateway"})).is_err());
        assert!(read(&mapping, &json!({"kind": 1})).is_err());
    }

    #[test]
    fn residence_and_attributes_are_read_or_refused_but_never_guessed() {
        let attributes = BTreeMap::from([("team".to_owned(), path("team"))]);
        let mapping =
            Mapping { residence: Some(path("country")), attributes, ..Mapping::default() };
        let alice = read(&mapping, &json!({"country": "de", "team": 7})).unwrap();
        assert_eq!(alice.residence.unwrap().as_str(), "DE");
        assert_eq!(alice.attributes["team"], "7");
        let alice = read(&mapping, &json!({})).unwrap();
        assert!(alice.residence.is_none() && alice.attributes.is_empty());
        assert!(read(&mapping, &json!({"country": "Germany"})).is_err());
        assert!(read(&mapping, &json!({"team": ["a"]})).is_err());
    }

    #[test]
    fn only_words_that_are_configured_give_roles_where_it_says_so() {
        let list = json!({"realm": {"roles": ["ops", "administrator"]}});
        let mut mapping = roles(None);
        mapping.roles.as_mut().unwrap().only_named = true;
        assert_eq!(read(&mapping, &list).unwrap().roles, BTreeSet::from(["operator".to_owned()]));
    }

    #[test]
    fn an_address_inside_an_expression_identifies_only_if_it_was_verified() {
        let mapping = Mapping { person: path("lower(first(email, upn))"), ..Mapping::default() };
        let unverified = json!({"email": "Dana@acme.example", "upn": "Alice"});
        assert!(read(&mapping, &unverified).is_err(), "not even the next one is taken");
        let verified = json!({"email": "Dana@acme.example", "email_verified": true});
        assert_eq!(read(&mapping, &verified).unwrap().person, "dana@acme.example");
        assert_eq!(read(&mapping, &json!({"upn": "Alice"})).unwrap().person, "alice");
    }

    #[test]
    fn a_list_that_was_left_out_of_the_token_is_not_an_empty_one() {
        let mapping = Mapping { attributes: roles(None).attributes, ..roles(None) };
        let elsewhere = json!({"_claim_names": {"realm": "src1"},
            "_claim_sources": {"src1": {"endpoint": "https://graph.example/me"}}});
        assert!(matches!(read(&mapping, &elsewhere), Err(IdentityError::Overflow(_))));
        let mut there = elsewhere;
        there["realm"] = json!({"roles": ["dev"]});
        assert_eq!(read(&mapping, &there).unwrap().roles.len(), 1, "it is in the token as well");
        let other = json!({"_claim_names": {"photo": "src1"}});
        assert!(read(&mapping, &other).is_ok(), "nobody asked for that");
        let groups = RolesMapping {
            claim: path("match(groups, \"weir-*\")"),
            prefix: None,
            rename: BTreeMap::new(),
            only_named: false,
        };
        let groups = Mapping { roles: Some(groups), ..Mapping::default() };
        for short in [json!(true), json!("true")] {
            assert!(read(&groups, &json!({"hasgroups": short})).is_err());
        }
    }
}
