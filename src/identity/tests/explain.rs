//! What an administrator is told of a token.

use super::*;
use crate::identity::Explanation;
use crate::identity::Outcome;
use crate::identity::RolesMapping;

fn world() -> World {
    World::with(|options| {
        options.mapping.roles = Some(RolesMapping {
            claim: "groups".parse().unwrap(),
            prefix: None,
            rename: BTreeMap::new(),
            only_named: false,
        });
        options.require = vec![("team".parse().unwrap(), vec!["acme/*".parse().unwrap()])];
    })
}

fn first_failure(explanation: &Explanation) -> Option<&'static str> {
    let failed = |outcome| outcome == Outcome::Failed;
    explanation.findings.iter().find(|one| failed(one.outcome)).map(|one| one.check)
}

#[tokio::test]
async fn every_check_is_told_with_its_outcome_and_agrees_with_the_verifier() {
    let world = world();
    let good = json!({"team": "acme/app", "groups": ["dba"]});
    let with = |changes: Value| {
        let mut all = good.clone();
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        sign(&world.issuer, &json!({}), &claims_with(&all).to_string())
    };
    let stranger = LocalIssuer::new(URL).unwrap();
    let payload = claims_with(&good).to_string();
    let kid = json!({"kid": world.issuer.key_id()});
    for (token, failed) in [
        (with(json!({})), None),
        ("planted".to_owned(), Some("form")),
        (with(json!({"iss": "https://other.example"})), Some("issuer")),
        (sign(&world.issuer, &json!({"alg": "ES384"}), &payload), Some("algorithm")),
        (sign(&stranger, &json!({}), &payload), Some("key")),
        (sign(&stranger, &kid, &payload), Some("signature")),
        (with(json!({"aud": "other"})), Some("audience")),
        (with(json!({"events": {}})), Some("type")),
        (with(json!({"exp": 1})), Some("times")),
        (with(json!({"team": "evil/app"})), Some("required")),
        (with(json!({"team": null})), Some("required")),
        (with(json!({"groups": null, "_claim_names": {"groups": "s"}})), Some("groups")),
        (with(json!({"preferred_username": null})), Some("name")),
        (with(json!({"groups": 7})), Some("roles")),
        (with(json!({"sub": null})), Some("person")),
        (with(json!({"act": "x"})), Some("kind")),
        (with(json!({"auth_time": "x"})), Some("authentication")),
    ] {
        let explanation = world.identity.explain(&token).await;
        assert_eq!(first_failure(&explanation), failed, "{explanation:?}");
        assert_eq!(explanation.findings.len(), 18, "{failed:?}");
        let verified = world.identity.verify(&token).await;
        assert_eq!(explanation.accepted, verified.is_ok(), "{failed:?}");
        assert_eq!(explanation.principal.is_some(), verified.is_ok());
        let shown = format!("{explanation:?} {}", serde_json::to_string(&explanation).unwrap());
        let signature = token.rsplit('.').next().unwrap();
        assert!(!shown.contains(signature), "{shown}");
    }
}

#[tokio::test]
async fn an_expired_tokens_claims_are_explained_all_the_same() {
    let world = world();
    let old = json!({"team": "acme/app", "groups": ["dba", "dev"], "exp": NOW_S - 600});
    let token = sign(&world.issuer, &json!({}), &claims_with(&old).to_string());
    let explanation = world.identity.explain(&token).await;
    let told = |check| {
        let found = explanation.findings.iter().find(|finding| finding.check == check).unwrap();
        (found.outcome, found.detail.as_str())
    };
    assert_eq!(told("roles"), (Outcome::Passed, "dba, dev (by groups)"));
    assert_eq!(told("times").0, Outcome::Failed);
    assert_eq!(told("kind"), (Outcome::Passed, "person"));
    assert!(explanation.principal.is_none(), "who did not prove it is nobody");
}
