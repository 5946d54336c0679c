//! What happens when keys are unknown, change, or cannot be had.

use super::*;
use crate::identity::BODY_BYTES_MAX;
use crate::model::Fault;
use crate::model::refusal::IntoRefusal;

#[tokio::test]
async fn an_unknown_key_is_fetched_once_and_then_not_for_a_while() {
    let world = World::new();
    world.verify(&token(&world.issuer)).await.unwrap();
    assert_eq!(world.web.asked(), 2);
    let payload = Value::Object(good_claims()).to_string();
    let stranger = |kid: &str| sign(&world.issuer, &json!({"kid": kid}), &payload);
    let unknown = |result| matches!(result, Err(IdentityError::UnknownKey(_)));
    // The first fetch was just now.
    assert!(unknown(world.verify(&stranger("a")).await));
    assert_eq!(world.web.asked(), 2);
    world.later(30);
    assert!(unknown(world.verify(&stranger("a")).await));
    assert_eq!(world.web.asked(), 4);
    for kid in ["a", "b", "c"] {
        assert!(unknown(world.verify(&stranger(kid)).await));
    }
    assert_eq!(world.web.asked(), 4);
    // `a` is known to be unknown; `b` has not been asked for.
    world.later(30);
    assert!(unknown(world.verify(&stranger("a")).await));
    assert_eq!(world.web.asked(), 4);
    assert!(unknown(world.verify(&stranger("b")).await));
    assert_eq!(world.web.asked(), 6);
    world.verify(&token(&world.issuer)).await.unwrap();
}

#[tokio::test]
async fn a_rotated_key_is_found_and_the_withdrawn_one_is_gone() {
    let world = World::new();
    let old = token(&world.issuer);
    world.verify(&old).await.unwrap();
    let rotated = LocalIssuer::new(URL).unwrap();
    world.web.serve_issuer(&rotated);
    world.later(31);
    world.verify(&token(&rotated)).await.unwrap();
    assert!(matches!(world.verify(&old).await, Err(IdentityError::UnknownKey(_))));
}

#[tokio::test]
async fn known_keys_stay_while_the_provider_is_down() {
    let world = World::new();
    world.verify(&token(&world.issuer)).await.unwrap();
    world.web.go_down(true);
    let rotated = LocalIssuer::new(URL).unwrap();
    world.later(31);
    let error = world.verify(&token(&rotated)).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Provider);
    assert!(error.refusal().reason.contains("cannot be reached"), "{:?}", error.refusal());
    world.verify(&token(&world.issuer)).await.unwrap();
    // Nonsense is as good as nothing.
    world.web.go_down(false);
    world.web.serve(&format!("{URL}{JWKS_PATH}"), &json!({"keys": []}));
    world.later(31);
    assert_eq!(world.verify(&token(&rotated)).await.unwrap_err().fault(), Fault::Provider);
    world.verify(&token(&world.issuer)).await.unwrap();
    // But not for ever.
    world.later(24 * 60 * 60);
    let late = claims_with(&json!({"iat": world.clock.now().as_second(), "exp": NOW_S + 200_000}));
    let late = world.issuer.mint(late.as_object().unwrap()).unwrap();
    assert_eq!(world.verify(&late).await.unwrap_err().fault(), Fault::Provider);
}

#[tokio::test]
async fn a_provider_that_was_down_at_first_is_asked_again_soon() {
    let world = World::new();
    world.web.go_down(true);
    world.identity.warm().await;
    assert_eq!(world.verify(&token(&world.issuer)).await.unwrap_err().fault(), Fault::Provider);
    assert_eq!(world.web.asked(), 1);
    world.web.go_down(false);
    world.later(5);
    world.verify(&token(&world.issuer)).await.unwrap();
}

#[tokio::test]
async fn old_keys_are_fetched_anew_while_nobody_waits() {
    let world = World::new();
    world.verify(&token(&world.issuer)).await.unwrap();
    world.later(599);
    world.verify(&token(&world.issuer)).await.unwrap();
    assert_eq!(world.web.asked(), 2);
    world.later(1);
    world.web.gate.forget_permits(usize::MAX);
    // The provider hangs; whoever signs in does not.
    world.verify(&token(&world.issuer)).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(world.web.asked(), 3);
    world.verify(&token(&world.issuer)).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(world.web.asked(), 3, "one fetch at a time");
}

#[tokio::test]
async fn many_who_wait_for_keys_cause_one_fetch_even_if_the_first_goes_away() {
    let world = World::new();
    world.web.gate.forget_permits(usize::MAX);
    let good = token(&world.issuer);
    let verify = || {
        let (identity, good) = (Arc::clone(&world.identity), good.clone());
        tokio::spawn(async move { identity.verify(&good).await })
    };
    let first = verify();
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    first.abort();
    let others = (0..20).map(|_| verify()).collect::<Vec<_>>();
    tokio::task::yield_now().await;
    world.web.gate.add_permits(2);
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert_eq!(world.web.asked(), 2);
}

#[tokio::test]
async fn a_provider_that_hangs_keeps_nobody_waiting_for_long() {
    let world = World::new();
    world.web.gate.forget_permits(usize::MAX);
    let error = world.verify(&token(&world.issuer)).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Provider);
}

#[tokio::test]
async fn a_discovery_document_cannot_speak_for_others_or_send_us_elsewhere() {
    for (member, value) in [
        ("issuer", "https://id.example/other"),
        ("issuer", "https://id.example/realm/"),
        ("jwks_uri", "https://evil.example/realm/jwks.json"),
        ("jwks_uri", "http://id.example/realm/jwks.json"),
        ("jwks_uri", "https://id.example:8443/realm/jwks.json"),
        ("jwks_uri", "http://169.254.169.254/latest"),
    ] {
        let world = World::new();
        let mut document = world.issuer.discovery();
        document[member] = value.into();
        world.web.serve(&format!("{URL}{DISCOVERY_PATH}"), &document);
        world.web.serve(value, &world.issuer.jwks());
        let error = world.verify(&token(&world.issuer)).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Provider, "{member} {value}");
        assert_eq!(world.web.asked(), 1, "{member} {value}");
    }
}

#[tokio::test]
async fn a_configured_key_set_is_used_without_discovery() {
    let keys = "https://keys.example/v1?x=y";
    let world = World::with(|options| options.jwks_uri = Some(keys.to_owned()));
    world.web.serve(keys, &world.issuer.jwks());
    world.verify(&token(&world.issuer)).await.unwrap();
    assert_eq!(world.web.asked(), 1);
    assert_eq!(world.identity.origins(), ["https://keys.example".to_owned()].into());
}

#[tokio::test]
async fn answers_that_are_no_documents_are_refused() {
    for (status, body) in [
        (302, "{}".to_owned()),
        (500, String::new()),
        (200, "<html>".to_owned()),
        (200, " ".repeat(BODY_BYTES_MAX + 1)),
        (200, json!({"keys": vec![json!({}); 65]}).to_string()),
    ] {
        let world = World::new();
        let answer = Response { status, body: body.into() };
        world.web.documents.lock().unwrap().insert(format!("{URL}{JWKS_PATH}"), answer);
        let error = world.verify(&token(&world.issuer)).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Provider, "{status}");
    }
}

#[tokio::test]
async fn each_provider_speaks_only_for_itself() {
    let web = Arc::new(Web::new());
    let clock = Arc::new(Standing::at(at(NOW_S)));
    let ours = LocalIssuer::new(URL).unwrap();
    let other = LocalIssuer::new("https://other.example").unwrap();
    web.serve_issuer(&ours);
    web.serve_issuer(&other);
    let providers = vec![
        ProviderOptions::new(URL, "weir"),
        ProviderOptions::new("https://other.example", "weir-at-other"),
    ];
    let identity = identity(Options { providers }, &web, &clock).unwrap();
    identity.warm().await;
    let payload = Value::Object(good_claims()).to_string();
    // Signed by the other provider, under our key id and under its own.
    for kid in [ours.key_id(), other.key_id()] {
        identity.verify(&sign(&other, &json!({"kid": kid}), &payload)).await.unwrap_err();
    }
    // Its own token is for its own audience only.
    let theirs = |aud: &str| {
        let claims = claims_with(&json!({"aud": aud}));
        other.mint(claims.as_object().unwrap()).unwrap()
    };
    identity.verify(&theirs("weir")).await.unwrap_err();
    let verified = identity.verify(&theirs("weir-at-other")).await.unwrap();
    assert_eq!(verified.verified.principal().issuer, "https://other.example");
    let stranger = LocalIssuer::new("https://evil.example").unwrap();
    let error = identity.verify(&token(&stranger)).await.unwrap_err();
    assert!(matches!(error, IdentityError::UnknownIssuer(_)));
}

#[test]
fn two_providers_cannot_share_an_issuer() {
    let provider = ProviderOptions::new(URL, "weir");
    let providers = vec![provider.clone(), provider];
    let clock = Arc::new(Standing::at(at(NOW_S)));
    let refused = identity(Options { providers }, &Arc::new(Web::new()), &clock).unwrap_err();
    assert_eq!(refused, OptionsError::Twice(URL.to_owned()));
}
