//! Which tokens are accepted, and what the others are told.

use std::collections::BTreeMap;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::encoding::Pkcs8V1Der;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::KeyPair;
use jsonwebtoken::jwk::Jwk;
use proptest::prelude::*;

use super::*;
use crate::identity::Algorithm;
use crate::identity::IssuerError;
use crate::identity::LOCAL_TOKEN_BYTES_MAX;
use crate::identity::RolesMapping;
use crate::identity::TOKEN_BYTES_MAX;
use crate::model::Fault;
use crate::model::principal::Kind;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;

#[tokio::test]
async fn a_good_token_becomes_the_mapped_principal() {
    let world = World::with(|options| {
        options.mapping.roles = Some(RolesMapping {
            claim: "groups".parse().unwrap(),
            prefix: None,
            rename: BTreeMap::new(),
            only_named: false,
        });
    });
    let mut claims = good_claims();
    claims.insert("groups".into(), json!(["engineer"]));
    let verified = world.verify(&world.issuer.mint(&claims).unwrap()).await.unwrap();
    let alice = verified.principal();
    assert_eq!((alice.issuer.as_str(), alice.subject.as_str()), (URL, "u-1"));
    assert_eq!((alice.name.as_str(), alice.kind), ("alice", Kind::Person));
    assert!(alice.roles.contains("engineer"));
    assert_eq!(verified.expires_at(), Some(at(NOW_S + 660)));
    assert!(!verified.is_expired(at(NOW_S + 659)) && verified.is_expired(at(NOW_S + 660)));
}

#[tokio::test]
async fn times_are_checked_to_the_second_with_the_skew_and_no_more() {
    let world = World::new();
    for good in [
        json!({"exp": NOW_S - 59}),
        json!({"exp": 1_700_000_000.5}),
        json!({"nbf": NOW_S + 60}),
        json!({"iat": NOW_S + 60}),
        json!({"iat": NOW_S - 86_400 - 59}),
    ] {
        let text = good.to_string();
        assert!(world.verify_with(good).await.is_ok(), "{text}");
    }
    for expired in
        [json!({"exp": NOW_S - 60}), json!({"iat": NOW_S - 86_400 - 60}), json!({"exp": 0})]
    {
        assert!(matches!(world.refused_with(expired).await, IdentityError::Expired(_)));
    }
    for early in [json!({"nbf": NOW_S + 61}), json!({"iat": NOW_S + 61})] {
        assert!(matches!(world.refused_with(early).await, IdentityError::Early { .. }));
    }
    for wrong in
        [json!("1700000600"), json!(-1), json!(1e300), json!(u64::MAX), json!([1]), json!(true)]
    {
        for claim in ["exp", "iat", "nbf"] {
            let error = world.refused_with(json!({claim: wrong})).await;
            let early = matches!(error, IdentityError::Early { .. } | IdentityError::Expired(_));
            assert!(!early && error.fault() == Fault::Client, "{claim} {wrong}: {error}");
        }
    }
}

#[tokio::test]
async fn a_token_is_good_no_longer_than_its_age_allows() {
    let world = World::with(|options| options.age_s_max = 100);
    let verified = world.verify_with(json!({"exp": NOW_S + 1_000_000})).await.unwrap();
    assert_eq!(verified.expires_at(), Some(at(NOW_S + 160)));
}

#[tokio::test]
async fn a_token_for_others_or_without_a_required_claim_is_refused() {
    let world = World::new();
    for claim in ["iss", "sub", "aud", "exp", "iat", "preferred_username"] {
        world.refused_with(json!({claim: null})).await;
    }
    for aud in [
        json!("other"),
        json!(["other"]),
        json!([]),
        json!({"weir": 1}),
        json!("WEIR"),
        json!(["weir", 1]),
    ] {
        world.refused_with(json!({"aud": aud})).await;
    }
    for iss in [
        json!([URL]),
        json!("https://id.example/realm/"),
        json!("https://ID.example/realm"),
        json!(1),
    ] {
        world.refused_with(json!({"iss": iss})).await;
    }
    world.refused_with(json!({"events": {"logout": {}}})).await;
    assert!(world.verify_with(json!({"aud": ["other", "weir"]})).await.is_ok());
}

#[tokio::test]
async fn an_unsigned_or_altered_token_is_refused() {
    let world = World::new();
    let good = token(&world.issuer);
    let parts = good.split('.').collect::<Vec<_>>();
    let payload = claims_with(&json!({"sub": "u-2"})).to_string();
    let forged = base64url(payload.as_bytes());
    for alg in ["none", "None", "NONE", ""] {
        let header = base64url(json!({"alg": alg, "typ": "JWT"}).to_string().as_bytes());
        world.verify(&format!("{header}.{forged}.")).await.unwrap_err();
        world.verify(&format!("{header}.{forged}.{}", parts[2])).await.unwrap_err();
    }
    let swapped = world.verify(&format!("{}.{forged}.{}", parts[0], parts[2])).await;
    assert!(matches!(swapped, Err(IdentityError::Signature)));
    for cut in 0..good.len() {
        assert!(world.verify(good.get(..cut).unwrap()).await.is_err(), "{cut}");
    }
    for index in 0..parts[2].len() - 1 {
        let mut signature = parts[2].as_bytes().to_vec();
        signature[index] = if signature[index] == b'A' { b'B' } else { b'A' };
        let signature = String::from_utf8(signature).unwrap();
        let altered = format!("{}.{}.{signature}", parts[0], parts[1]);
        assert!(world.verify(&altered).await.is_err(), "{index}");
    }
    for framed in [format!(" {good}"), format!("{good}\n"), format!("{good}."), format!("{good}=")]
    {
        assert!(matches!(world.verify(&framed).await, Err(IdentityError::Malformed(_))));
    }
}

/// The classic: the public key, which everybody has, taken as the secret of an HMAC.
#[tokio::test]
async fn the_public_key_is_no_shared_secret() {
    let world = World::new();
    world.verify(&token(&world.issuer)).await.unwrap();
    let jwk = world.issuer.jwks()["keys"][0].clone();
    let coordinates =
        jsonwebtoken::DecodingKey::from_jwk(&serde_json::from_value(jwk.clone()).unwrap()).unwrap();
    let payload = Value::Object(good_claims()).to_string();
    for secret in [jwk.to_string().into_bytes(), coordinates.try_get_as_bytes().unwrap().to_vec()] {
        let header = json!({"alg": "HS256", "kid": world.issuer.key_id()}).to_string();
        let key = EncodingKey::from_secret(&secret);
        let forged = sign_as(&key, jsonwebtoken::Algorithm::HS256, &header, &payload);
        assert!(matches!(world.verify(&forged).await, Err(IdentityError::Algorithm(_))));
    }
}

/// Even a provider that publishes a symmetric key does not get tokens accepted with it.
#[tokio::test]
async fn a_published_symmetric_key_is_left_out() {
    let world = World::new();
    let oct = json!({"kty": "oct", "k": base64url(&[7; 32]), "kid": "s", "alg": "ES256"});
    let jwks = json!({"keys": [oct, world.issuer.jwks()["keys"][0]]});
    world.web.serve(&format!("{URL}{JWKS_PATH}"), &jwks);
    world.verify(&token(&world.issuer)).await.unwrap();
    let payload = Value::Object(good_claims()).to_string();
    let key = EncodingKey::from_secret(&[7; 32]);
    for alg in ["HS256", "ES256"] {
        let header = json!({"alg": alg, "kid": "s"}).to_string();
        let forged = sign_as(&key, jsonwebtoken::Algorithm::HS256, &header, &payload);
        world.verify(&forged).await.unwrap_err();
    }
    world.web.serve(&format!("{URL}{JWKS_PATH}"), &json!({"keys": [oct]}));
    let only = World::new();
    only.web.serve(&format!("{URL}{JWKS_PATH}"), &json!({"keys": [oct]}));
    let error = only.verify(&token(&only.issuer)).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Provider);
}

#[tokio::test]
async fn a_key_is_used_only_with_algorithms_that_fit_it() {
    let world = World::new();
    let payload = Value::Object(good_claims()).to_string();
    for alg in ["RS256", "PS256", "ES384", "EdDSA"] {
        world.verify(&sign(&world.issuer, &json!({"alg": alg}), &payload)).await.unwrap_err();
    }
    let encryption = World::new();
    let mut jwk = encryption.issuer.jwks()["keys"][0].clone();
    for (member, value) in
        [("use", json!("enc")), ("alg", json!("ES384")), ("key_ops", json!(["sign"]))]
    {
        let before = jwk[member].take();
        jwk[member] = value;
        if member != "use" {
            jwk["use"] = json!("sig");
        }
        let other = World::new();
        other.web.serve(&format!("{URL}{JWKS_PATH}"), &json!({"keys": [jwk]}));
        let signed = token(&encryption.issuer);
        assert!(other.verify(&signed).await.is_err(), "{member}");
        jwk[member] = before;
        if jwk[member].is_null() {
            jwk.as_object_mut().unwrap().remove(member);
        }
    }
    let narrow = World::with(|options| options.algorithms = vec![Algorithm::Rs256]);
    let refused = narrow.verify(&token(&narrow.issuer)).await;
    assert!(matches!(refused, Err(IdentityError::Algorithm("ES256"))));
    assert_eq!(narrow.web.asked(), 0, "an algorithm that is not allowed costs no fetch");
}

#[tokio::test]
async fn rsa_and_ed25519_keys_work_as_configured() {
    let world = World::with(|options| {
        options.algorithms = vec![Algorithm::Ps256, Algorithm::Rs256, Algorithm::EdDsa];
    });
    let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let n = rsa.public_key().modulus().big_endian_without_leading_zero().to_vec();
    let e = rsa.public_key().exponent().big_endian_without_leading_zero().to_vec();
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&rsa).unwrap();
    // jsonwebtoken wants the RSAPrivateKey (RFC 8017 §A.1.2), which stands after 26 bytes of PKCS #8.
    let rsa_key = EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..]);
    let random = aws_lc_rs::rand::SystemRandom::new();
    let ed = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8v1(&random).unwrap();
    let ed_public = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(ed.as_ref())
        .unwrap()
        .public_key()
        .as_ref()
        .to_vec();
    let ed_key = EncodingKey::from_ed_der(ed.as_ref());
    world.web.serve(
        &format!("{URL}{JWKS_PATH}"),
        &json!({"keys": [
            {"kty": "unheard-of", "kid": "q", "x": 1},
            "not even an object",
            {"kty": "RSA", "kid": "r", "n": base64url(&n), "e": base64url(&e)},
            {"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": base64url(&ed_public)},
        ]}),
    );
    let payload = Value::Object(good_claims()).to_string();
    let signed = |alg: &str, kid: Option<&str>, key| {
        let header = json!({"alg": alg, "kid": kid}).to_string();
        sign_as(key, alg.parse().unwrap(), &header, &payload)
    };
    for (alg, kid, key) in [
        ("RS256", Some("r"), &rsa_key),
        ("PS256", Some("r"), &rsa_key),
        ("EdDSA", Some("e"), &ed_key),
        // Without an id, the only key that fits.
        ("EdDSA", None, &ed_key),
    ] {
        world.verify(&signed(alg, kid, key)).await.unwrap();
    }
    assert!(matches!(
        world.verify(&signed("RS512", Some("r"), &rsa_key)).await,
        Err(IdentityError::Algorithm("RS512"))
    ));
    world.verify(&signed("RS256", Some("e"), &rsa_key)).await.unwrap_err();
}

#[tokio::test]
async fn a_header_that_asks_for_more_than_we_know_is_refused() {
    let world = World::new();
    let payload = Value::Object(good_claims()).to_string();
    for header in [
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
        json!({"typ": "logout+jwt"}),
        json!({"typ": "dpop+jwt"}),
        json!({"kid": "k".repeat(513)}),
        json!({"alg": ["ES256"]}),
    ] {
        let error = world.verify(&sign(&world.issuer, &header, &payload)).await.unwrap_err();
        assert!(matches!(error, IdentityError::Malformed(_)), "{header}: {error}");
    }
    // Keys that a token brings along are not even looked at.
    let own = LocalIssuer::new(URL).unwrap();
    let brought = json!({"jwk": own.jwks()["keys"][0], "jku": "https://evil.example/keys"});
    world.verify(&sign(&own, &brought, &payload)).await.unwrap_err();
    for typ in ["at+jwt", "jwt", "application/at+jwt"] {
        world.verify(&sign(&world.issuer, &json!({"typ": typ}), &payload)).await.unwrap();
    }
}

#[tokio::test]
async fn a_name_that_stands_twice_is_refused() {
    let world = World::new();
    let good = Value::Object(good_claims()).to_string();
    for twice in
        [r#"{"sub":"u-2","#, r#"{"iss":"https://id.example/realm","#, r#"{"x":{"a":1,"a":2},"#]
    {
        let payload = good.replacen('{', twice, 1);
        let signed = sign(&world.issuer, &json!({}), &payload);
        assert!(matches!(world.verify(&signed).await, Err(IdentityError::Malformed(_))));
    }
    let header = format!(r#"{{"alg":"none","alg":"ES256","kid":"{}"}}"#, world.issuer.key_id());
    let key = world.issuer.key();
    let signed = sign_as(key, jsonwebtoken::Algorithm::ES256, &header, &good);
    world.verify(&signed).await.unwrap_err();
}

#[tokio::test]
async fn an_oversized_token_is_not_even_read() {
    let world = World::new();
    let long = claims_with(&json!({"x": "y".repeat(TOKEN_BYTES_MAX)})).to_string();
    let signed = sign(&world.issuer, &json!({}), &long);
    assert!(matches!(world.verify(&signed).await, Err(IdentityError::TooLong(_))));
    assert_eq!(world.web.asked(), 0);
    let huge = claims_with(&json!({"groups": vec!["a"; 2500]})).to_string();
    world.verify(&sign(&world.issuer, &json!({}), &huge)).await.unwrap();
    let deep = format!(r#"{{"iss":"{URL}","x":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    world.verify(&sign(&world.issuer, &json!({}), &deep)).await.unwrap_err();
}

#[tokio::test]
async fn a_client_learns_nothing_of_what_was_wrong_and_no_text_shows_the_token() {
    let world = World::new();
    let good = token(&world.issuer);
    let secret = good.rsplit('.').next().unwrap();
    let mut refusals = Vec::new();
    for changes in [
        json!({"exp": 1}),
        json!({"aud": "other"}),
        json!({"preferred_username": "alice\u{202e}secret-name"}),
        json!({"iss": "https://evil.example"}),
        json!({"nbf": NOW_S + 1000}),
    ] {
        let error = world.refused_with(changes).await;
        assert_eq!(error.fault(), Fault::Client);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("secret-name") && !shown.contains(secret), "{shown}");
        refusals.push(error.refusal());
    }
    let forged = format!("{}.{}", good.rsplit_once('.').unwrap().0, base64url(&[1; 64]));
    refusals.push(world.verify(&forged).await.unwrap_err().refusal());
    refusals.push(world.verify("x").await.unwrap_err().refusal());
    assert!(refusals.windows(2).all(|pair| pair[0] == pair[1]), "{refusals:?}");
    assert_eq!(refusals[0].code, RefusalCode::Unauthenticated);
    let verified = world.verify(&good).await.unwrap();
    for shown in
        [format!("{verified:?}"), format!("{:?}", world.identity), format!("{:?}", world.issuer)]
    {
        assert!(!shown.contains(secret) && !shown.contains("PRIVATE"), "{shown}");
    }
}

#[test]
fn the_gateway_is_nobody_that_a_provider_can_name() {
    let gateway = Verified::gateway(None);
    assert_eq!(gateway.principal().kind, Kind::Gateway);
    assert!(gateway.principal().roles.is_empty() && !gateway.is_expired(Timestamp::MAX));
    let web = Arc::new(Web::new());
    let providers = vec![ProviderOptions::new(gateway.principal().issuer.clone(), "weir")];
    let clock = Arc::new(Standing::at(at(NOW_S)));
    assert!(identity(Options { providers }, &web, &clock).is_err());
}

#[test]
fn a_local_token_fits_every_client() {
    let issuer = LocalIssuer::new("http://127.0.0.1:65535").unwrap();
    let mut claims = good_claims();
    claims.insert("groups".into(), json!(["engineer", "approver", "administrator"]));
    claims.insert("entity".into(), json!("an-entity-with-a-rather-long-name"));
    let minted = issuer.mint(&claims).unwrap();
    assert!(minted.len() < 700, "{}", minted.len());
    claims.insert("x".into(), "y".repeat(LOCAL_TOKEN_BYTES_MAX).into());
    assert!(matches!(issuer.mint(&claims), Err(IssuerError::TooLong(_))));
    let jwks = issuer.jwks();
    assert!(jwks["keys"][0].get("d").is_none(), "the private key is not published");
    serde_json::from_value::<Jwk>(jwks["keys"][0].clone()).unwrap();
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_is_accepted_or_makes_it_panic(text in ".{0,300}", parts in "[A-Za-z0-9_-]{0,80}(\\.[A-Za-z0-9_-]{0,80}){0,4}") {
        let world = World::new();
        prop_assert!(block_on(world.verify(&text)).is_err());
        prop_assert!(block_on(world.verify(&parts)).is_err());
    }

    #[test]
    fn no_signed_payload_makes_it_panic(header in "\\PC{0,60}", payload in "\\PC{0,100}", member in "[a-z]{1,8}", number in any::<f64>()) {
        let world = World::new();
        let id = world.issuer.key_id();
        let header = json!({"alg": "ES256", "kid": id, "typ": "JWT", member.clone(): header}).to_string();
        let key = world.issuer.key();
        for payload in [payload.clone(), claims_with(&json!({member: payload})).to_string(), claims_with(&json!({"exp": number})).to_string()] {
            let signed = sign_as(key, jsonwebtoken::Algorithm::ES256, &header, &payload);
            drop(block_on(world.verify(&signed)));
        }
    }
}
