//! Signing in: what the provider is asked, and which of its answers are believed.

use std::collections::BTreeSet;

use openidconnect::url::Url;
use secrecy::ExposeSecret;
use secrecy::SecretString;

use super::*;
use crate::identity::AUTHORIZATION_PATH;
use crate::identity::ClientOptions;
use crate::identity::ClientSecret;
use crate::identity::GoesOn;
use crate::identity::PENDING_S_MAX;
use crate::identity::Pending;
use crate::identity::RolesMapping;
use crate::identity::SignedIn;
use crate::identity::TOKEN_PATH;
use crate::model::Fault;
use crate::model::encode;
use crate::model::login::StepUp;
use crate::model::refusal::IntoRefusal;

const BACK: &str = "https://weir.example/oauth/callback";
const USERINFO: &str = "https://id.example/realm/userinfo";

fn client_world() -> World {
    client_world_with(|_| {})
}

fn client_world_with(change: impl FnOnce(&mut ProviderOptions)) -> World {
    World::with(|options| {
        options.client = Some(ClientOptions::public("weir"));
        change(options);
    })
}

fn token_url() -> String {
    format!("{URL}{TOKEN_PATH}")
}

fn query(url: &str) -> BTreeMap<String, String> {
    Url::parse(url).unwrap().query_pairs().into_owned().collect()
}

impl World {
    async fn begin(&self, step_up: Option<&StepUp>) -> (BTreeMap<String, String>, Pending) {
        let (url, pending) = self.identity.start(None, BACK, step_up).await.unwrap();
        (query(&url), pending)
    }

    /// The provider will answer with an id token that differs in `changes`, and in `answer`.
    fn will_answer(&self, asked: &BTreeMap<String, String>, changes: &Value, answer: &Value) {
        let mut claims = claims_with(&json!({ "nonce": asked.get("nonce") }));
        for (name, value) in changes.as_object().unwrap().clone() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(&name);
            } else {
                claims[name] = value;
            }
        }
        let token = sign(&self.issuer, &json!({}), &claims.to_string());
        let mut all = json!({"access_token": "access", "token_type": "Bearer", "id_token": token,
            "refresh_token": "again"});
        all.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        self.web.answer(&token_url(), 200, &all);
    }

    async fn signed_in_with(&self, changes: Value) -> Result<SignedIn, IdentityError> {
        let (asked, pending) = self.begin(None).await;
        self.will_answer(&asked, &changes, &json!({}));
        self.identity.finish(&pending, "the-code").await
    }

    async fn refreshed_with(&self, changes: Value) -> Result<SignedIn, IdentityError> {
        self.will_answer(&BTreeMap::new(), &changes, &json!({}));
        self.identity.refresh(URL, &SecretString::from("again")).await.map(GoesOn::who)
    }
}

#[tokio::test]
async fn somebody_signs_in_by_a_code_that_only_this_gateway_can_use() {
    let world = client_world();
    assert_eq!(world.identity.providers(), [URL]);
    let (url, pending) = world.identity.start(Some(URL), BACK, None).await.unwrap();
    assert!(url.starts_with(&format!("{URL}{AUTHORIZATION_PATH}?")), "{url}");
    let asked = query(&url);
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "weir"),
        ("redirect_uri", BACK),
        ("scope", "openid profile offline_access"),
        ("code_challenge_method", "S256"),
        ("state", pending.state()),
    ] {
        assert_eq!(asked.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!asked.contains_key("prompt") && asked["nonce"].len() > 40);
    world.will_answer(&asked, &json!({"sid": "s-1", "auth_time": NOW_S - 5}), &json!({}));
    let signed_in = world.identity.finish(&pending, "the-code").await.unwrap();
    assert_eq!(signed_in.verified.principal().name, "alice");
    assert_eq!(signed_in.verified.authentication().unwrap().at, at(NOW_S - 5));
    assert_eq!(signed_in.sid.as_deref(), Some("s-1"));
    assert_eq!(signed_in.refresh.unwrap().expose_secret(), "again");
    let sent = world.web.sent().pop().unwrap();
    assert_eq!((sent.url, sent.authorization), (token_url(), None));
    assert_eq!(
        (sent.form["code"].as_str(), sent.form["redirect_uri"].as_str()),
        ("the-code", BACK)
    );
    assert_eq!((sent.form["client_id"].as_str(), sent.form.len()), ("weir", 5));
    // RFC 7636 §4.2: the challenge is the verifier's hash, which nobody but the provider gets.
    let verifier = &sent.form["code_verifier"];
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    assert_eq!(encode::base64url(hash.as_ref()), asked["code_challenge"]);
    for shown in [format!("{pending:?}"), url] {
        assert!(!shown.contains(verifier.as_str()));
    }
    let (other, _) = world.begin(None).await;
    for fresh in ["state", "nonce", "code_challenge"] {
        assert_ne!(other[fresh], asked[fresh], "{fresh}");
    }
}

#[tokio::test]
async fn an_id_token_that_is_not_the_answer_to_this_sign_in_is_refused() {
    let world = client_world();
    world.signed_in_with(json!({})).await.unwrap();
    for wrong in [
        json!({"nonce": null}),
        json!({"nonce": "another"}),
        json!({"nonce": 1}),
        json!({"aud": "other"}),
        json!({"aud": ["weir", "other"]}),
        json!({"aud": null}),
        json!({"azp": "other"}),
        json!({"azp": ["weir"]}),
        json!({"aud": ["weir", "other"], "azp": "other"}),
        json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}),
        json!({"at_hash": 1}),
        json!({"iss": "https://other.example"}),
        json!({"exp": NOW_S - 61}),
        json!({"exp": null}),
        json!({"iat": NOW_S + 61}),
        json!({"auth_time": NOW_S + 61}),
        json!({"auth_time": "now"}),
        json!({"sub": null}),
        json!({"sid": 7}),
        json!({"events": {}}),
    ] {
        let text = wrong.to_string();
        let error = world.signed_in_with(wrong).await.expect_err(&text);
        assert_eq!(error.fault(), Fault::Client, "{text}: {error}");
    }
    let half = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"access");
    let at_hash = encode::base64url(&half.as_ref()[..16]);
    let good = json!({"at_hash": at_hash, "aud": ["weir", "other"], "azp": "weir"});
    world.signed_in_with(good).await.unwrap();
}

#[tokio::test]
async fn an_id_token_of_another_key_or_algorithm_is_refused() {
    let world = client_world();
    let (asked, pending) = world.begin(None).await;
    let claims = claims_with(&json!({"nonce": asked["nonce"]})).to_string();
    let stranger = LocalIssuer::new(URL).unwrap();
    let header = json!({"kid": world.issuer.key_id()});
    let none = format!("{}.{}.", base64url(br#"{"alg":"none"}"#), base64url(claims.as_bytes()));
    let forged = [
        sign(&stranger, &header, &claims),
        sign(&stranger, &json!({}), &claims),
        sign(&world.issuer, &json!({"typ": "logout+jwt"}), &claims),
        none,
        "x".to_owned(),
    ];
    for token in forged {
        world.will_answer(&asked, &json!({}), &json!({ "id_token": token }));
        world.identity.finish(&pending, "the-code").await.unwrap_err();
    }
}

#[tokio::test]
async fn what_the_browser_brings_must_belong_to_what_was_begun() {
    let world = client_world();
    let (_, pending) = world.begin(None).await;
    let state = pending.state().to_owned();
    pending.answered(&state, Some(URL)).unwrap();
    for (state, issuer) in [
        ("", Some(URL)),
        ("another", Some(URL)),
        (state.get(1..).unwrap(), Some(URL)),
        (state.as_str(), Some("https://other.example")),
        // The provider says that it names itself (RFC 9207 §2.4).
        (state.as_str(), None),
    ] {
        let error = pending.answered(state, issuer).unwrap_err();
        assert!(error.refusal().hint.unwrap().contains("weir login"), "{state} {issuer:?}");
    }
    for code in ["", "a\nb", "ä", &"x".repeat(5_000)] {
        assert!(world.identity.finish(&pending, code).await.is_err(), "{code:?}");
    }
    world.later(PENDING_S_MAX + 1);
    let late = world.identity.finish(&pending, "the-code").await;
    assert!(matches!(late, Err(IdentityError::Answer(_))));
    assert!(world.web.sent().is_empty(), "a code that is not used is not sent");
    // A provider that does not say so need not name itself.
    let mut quiet = world.issuer.discovery();
    quiet.as_object_mut().unwrap().remove("authorization_response_iss_parameter_supported");
    let world = client_world();
    world.web.serve(&format!("{URL}{DISCOVERY_PATH}"), &quiet);
    let (_, pending) = world.begin(None).await;
    pending.answered(pending.state(), None).unwrap();
}

#[tokio::test]
async fn a_step_up_is_asked_for_and_the_answer_must_keep_to_it() {
    let world = client_world();
    let wanted = StepUp {
        age_s_max: Some(300),
        acr: Some("gold".to_owned()),
        amr: BTreeSet::from(["otp".to_owned()]),
    };
    let good = json!({"auth_time": NOW_S - 300, "acr": "gold", "amr": ["pwd", "otp"]});
    let tried = async |changes: Value| {
        let (asked, pending) = world.begin(Some(&wanted)).await;
        assert_eq!(asked["prompt"], "login");
        assert_eq!((asked["max_age"].as_str(), asked["acr_values"].as_str()), ("300", "gold"));
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        world.will_answer(&asked, &claims, &json!({}));
        world.identity.finish(&pending, "the-code").await
    };
    let signed_in = tried(json!({})).await.unwrap();
    let proved = signed_in.verified.authentication().unwrap();
    assert_eq!((proved.acr.as_deref(), proved.amr.len()), (Some("gold"), 2));
    for wrong in [
        json!({"auth_time": NOW_S - 361}),
        json!({"auth_time": null}),
        json!({"acr": null}),
        json!({"acr": "silver"}),
        json!({"acr": ["gold"]}),
        json!({"amr": null}),
        json!({"amr": ["pwd"]}),
        json!({"amr": "otp"}),
    ] {
        let text = wrong.to_string();
        let error = tried(wrong).await.expect_err(&text);
        assert!(matches!(error, IdentityError::StepUp(_)), "{text}: {error}");
        assert!(error.refusal().reason.contains("freshly"), "{text}");
    }
}

#[tokio::test]
async fn a_renewal_tells_who_it_is_but_proves_no_fresh_sign_in() {
    let world = client_world();
    let renewed = world.refreshed_with(json!({"preferred_username": "alice-2"})).await.unwrap();
    assert_eq!(renewed.verified.principal().name, "alice-2");
    assert_eq!(renewed.verified.authentication().unwrap().at, Timestamp::UNIX_EPOCH);
    let sent = world.web.sent().pop().unwrap();
    assert_eq!(
        (sent.form["grant_type"].as_str(), sent.form["refresh_token"].as_str()),
        ("refresh_token", "again")
    );
    let known = world.refreshed_with(json!({"auth_time": NOW_S - 900})).await.unwrap();
    assert_eq!(known.verified.authentication().unwrap().at, at(NOW_S - 900));
    for wrong in [json!({"aud": "other"}), json!({"azp": "other"}), json!({"exp": 1})] {
        world.refreshed_with(wrong).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_provider_that_says_no_is_told_from_one_that_is_down() {
    let world = client_world();
    let again = SecretString::from("again");
    for error in ["invalid_grant", "interaction_required"] {
        world.web.answer(&token_url(), 400, &json!({ "error": error }));
        let refused = world.identity.refresh(URL, &again).await.unwrap_err();
        assert!(matches!(refused, IdentityError::RefreshRefused), "{refused}");
        assert!(refused.refusal().hint.unwrap().contains("weir login"));
    }
    let (_, pending) = world.begin(None).await;
    world.web.answer(&token_url(), 400, &json!({"error": "invalid_grant"}));
    let refused = world.identity.finish(&pending, "stale").await.unwrap_err();
    assert!(matches!(refused, IdentityError::CodeRefused { .. }));
    world.web.answer(&token_url(), 401, &json!({"error": "invalid_client"}));
    let ours = world.identity.refresh(URL, &again).await.unwrap_err();
    assert_eq!(ours.fault(), Fault::Gateway, "{ours}");
    for (status, body) in [
        (500, json!({"error": "invalid_grant"})),
        (503, json!({})),
        (429, json!({"error": "invalid_grant"})),
        (302, json!({})),
        (400, json!({"error": "planted secret\n"})),
        (400, json!({"error": "temporarily_unavailable"})),
        (200, json!({})),
        (200, json!({"access_token": "planted", "token_type": "DPoP", "id_token": "x.y.z"})),
        (200, json!({"access_token": ["planted"], "token_type": "Bearer", "id_token": "x.y.z"})),
    ] {
        world.web.answer(&token_url(), status, &body);
        let error = world.identity.refresh(URL, &again).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Provider, "{status} {body}: {error}");
        assert!(!format!("{error} {error:?}").contains("planted"), "{error:?}");
    }
    world.web.go_down(true);
    let down = world.identity.refresh(URL, &again).await.unwrap_err();
    assert!(matches!(down, IdentityError::Provider { .. }));
    assert!(down.refusal().reason.contains("cannot be reached"));
}

#[tokio::test]
async fn a_provider_may_renew_without_saying_who() {
    let world = client_world();
    let body = json!({"access_token": "a", "token_type": "Bearer", "refresh_token": "next"});
    world.web.answer(&token_url(), 200, &body);
    let goes_on = world.identity.refresh(URL, &SecretString::from("again")).await.unwrap();
    let GoesOn::Unsaid(Some(next)) = goes_on else { panic!("{goes_on:?}") };
    assert_eq!(next.expose_secret(), "next");
}

#[tokio::test]
async fn a_client_with_a_secret_proves_itself_as_the_provider_wants() {
    let with_secret = || {
        client_world_with(|options| {
            let mut client = ClientOptions::public("we ir");
            client.secret = Some(ClientSecret::new("a file", || {
                Ok::<_, std::io::Error>(SecretString::from("p:+ä"))
            }));
            options.client = Some(client);
        })
    };
    for (methods, basic) in [
        (json!(null), true),
        (json!(["client_secret_post", "client_secret_basic"]), true),
        (json!(["client_secret_post"]), false),
    ] {
        let world = with_secret();
        let mut document = world.issuer.discovery();
        document["token_endpoint_auth_methods_supported"] = methods.clone();
        if methods.is_null() {
            document.as_object_mut().unwrap().remove("token_endpoint_auth_methods_supported");
        }
        world.web.serve(&format!("{URL}{DISCOVERY_PATH}"), &document);
        world.refreshed_with(json!({"aud": "we ir"})).await.unwrap();
        let sent = world.web.sent().pop().unwrap();
        let secret = sent.form.get("client_secret").map(String::as_str);
        if basic {
            // RFC 6749 §2.3.1: each is encoded as in a form before they are joined.
            let expected = format!("Basic {}", encode::base64(b"we+ir:p%3A%2B%C3%A4"));
            assert_eq!((sent.authorization, secret), (Some(expected), None));
        } else {
            assert_eq!((sent.authorization, secret), (None, Some("p:+ä")));
        }
        assert!(!format!("{:?}", world.identity).contains("p:+"));
    }
    let unreadable = client_world_with(|options| {
        let mut client = ClientOptions::public("weir");
        client.secret = Some(ClientSecret::new("a file", || Err(std::io::Error::other("gone"))));
        options.client = Some(client);
    });
    let error = unreadable.refreshed_with(json!({})).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Gateway);
}

#[tokio::test]
async fn endpoints_elsewhere_are_used_only_where_that_is_configured() {
    for (member, origin) in [
        ("authorization_endpoint", "https://login.example"),
        ("token_endpoint", "https://login.example"),
        ("token_endpoint", "http://id.example"),
        ("token_endpoint", "https://id.example@login.example"),
    ] {
        let elsewhere = format!("{origin}/x");
        for configured in [false, true] {
            let world = client_world_with(|options| {
                if configured {
                    options.endpoints = vec!["https://login.example".to_owned()];
                }
            });
            let mut document = world.issuer.discovery();
            document[member] = elsewhere.as_str().into();
            world.web.serve(&format!("{URL}{DISCOVERY_PATH}"), &document);
            let tried = async {
                let (_, pending) = world.identity.start(None, BACK, None).await?;
                world.web.answer(&elsewhere, 400, &json!({"error": "invalid_grant"}));
                world.identity.finish(&pending, "the-code").await
            };
            let error = tried.await.unwrap_err();
            let allowed = configured && origin == "https://login.example";
            if member == "token_endpoint" {
                let asked = matches!(error, IdentityError::CodeRefused { .. });
                assert_eq!(asked, allowed, "{member} {origin}: {error}");
            }
            assert_eq!(!world.web.sent().is_empty(), allowed, "{member} {origin}: {error}");
            // Its keys are where they were: tokens are still verified.
            world.verify(&token(&world.issuer)).await.unwrap();
        }
    }
    let world = client_world_with(|options| {
        options.endpoints = vec!["https://login.example".to_owned()];
        options.jwks_uri = Some("https://keys.example/k".to_owned());
    });
    let origins = ["https://id.example", "https://keys.example", "https://login.example"];
    assert_eq!(world.identity.origins(), origins.map(str::to_owned).into());
}

#[tokio::test]
async fn userinfo_completes_the_token_and_cannot_speak_for_others() {
    let groups = || RolesMapping {
        claim: "groups".parse().unwrap(),
        prefix: None,
        rename: BTreeMap::new(),
        only_named: false,
    };
    let world = |userinfo: bool| {
        let world = client_world_with(|options| {
            options.userinfo = userinfo;
            options.mapping.roles = Some(groups());
        });
        let mut document = world.issuer.discovery();
        document["userinfo_endpoint"] = USERINFO.into();
        world.web.serve(&format!("{URL}{DISCOVERY_PATH}"), &document);
        world
    };
    let overflow = json!({"_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {"endpoint": "https://graph.example/me/groups"}}});
    let without = world(false);
    let error = without.signed_in_with(overflow.clone()).await.unwrap_err();
    assert!(matches!(error, IdentityError::Overflow(_)) && error.to_string().contains("userinfo"));
    assert!(error.refusal().reason.contains("groups"));
    let with = world(true);
    with.web.answer(
        USERINFO,
        200,
        &json!({"sub": "u-1", "groups": ["dba"], "preferred_username": "mallory"}),
    );
    let signed_in = with.signed_in_with(overflow.clone()).await.unwrap();
    assert_eq!(signed_in.verified.principal().roles, BTreeSet::from(["dba".to_owned()]));
    assert_eq!(signed_in.verified.principal().name, "alice", "the token's own word holds");
    let sent = with.web.sent().pop().unwrap();
    assert_eq!(
        (sent.url.as_str(), sent.authorization.as_deref()),
        (USERINFO, Some("Bearer access"))
    );
    with.refreshed_with(overflow.clone()).await.unwrap();
    for (status, body) in [
        (200, json!({"sub": "u-2", "groups": ["dba"]})),
        (200, json!({"groups": ["dba"]})),
        (200, json!(["sub"])),
        (401, json!({"sub": "u-1"})),
    ] {
        with.web.answer(USERINFO, status, &body);
        let error = with.signed_in_with(overflow.clone()).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Provider, "{status} {body}: {error}");
    }
    // What userinfo leaves out as well is still not an empty list.
    with.web.answer(USERINFO, 200, &json!({"sub": "u-1"}));
    let error = with.signed_in_with(overflow).await.unwrap_err();
    assert!(matches!(error, IdentityError::Overflow(_)));
}

#[tokio::test]
async fn a_provider_that_is_down_is_not_pestered_and_known_endpoints_outlast_it() {
    let world = client_world();
    world.web.go_down(true);
    for _ in 0..5 {
        let error = world.identity.start(None, BACK, None).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Provider);
    }
    assert_eq!(world.web.asked(), 1);
    world.web.go_down(false);
    world.later(5);
    world.begin(None).await;
    world.web.go_down(true);
    world.later(3_600);
    world.begin(None).await;
    world.later(24 * 3_600);
    assert!(world.identity.start(None, BACK, None).await.is_err());
}

#[tokio::test]
async fn nobody_signs_in_where_it_is_not_configured() {
    let world = World::new();
    assert!(world.identity.providers().is_empty());
    for issuer in [None, Some(URL), Some("https://evil.example")] {
        let error = world.identity.start(issuer, BACK, None).await.unwrap_err();
        assert!(matches!(error, IdentityError::NoLogin(_)));
    }
    assert_eq!(world.web.asked(), 0);
    let named = client_world_with(|options| options.name = Some("Acme".to_owned()));
    assert_eq!(named.identity.provider_name(URL), Some("Acme"));
    assert_eq!(world.identity.provider_name(URL), Some(URL));
}
