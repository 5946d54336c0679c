//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0 §2.6).

use super::*;
use crate::identity::LogoutOrder;

fn logout_with(changes: &Value) -> String {
    let mut claims = json!({
        "iss": URL, "aud": "weir", "iat": NOW_S, "exp": NOW_S + 120, "jti": "j-1", "sub": "u-1",
        "sid": "s-1", "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    });
    for (name, value) in changes.as_object().unwrap().clone() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(&name);
        } else {
            claims[name] = value;
        }
    }
    claims.to_string()
}

impl World {
    async fn ordered(&self, changes: Value) -> Result<LogoutOrder, IdentityError> {
        let typ = json!({"typ": "logout+jwt"});
        let token = sign(&self.issuer, &typ, &logout_with(&changes));
        self.identity.logout_order(&token).await
    }
}

#[tokio::test]
async fn a_logout_token_orders_whose_session_ends_and_counts_once() {
    let world = World::new();
    let order = world.ordered(json!({})).await.unwrap();
    assert_eq!((order.issuer.as_str(), order.id.as_str()), (URL, "j-1"));
    assert_eq!((order.subject.as_deref(), order.sid.as_deref()), (Some("u-1"), Some("s-1")));
    assert!(matches!(world.ordered(json!({})).await, Err(IdentityError::Replayed)));
    world.identity.logout_failed(&order);
    world.ordered(json!({})).await.unwrap();
    let whole = world.ordered(json!({"jti": "j-2", "sid": null})).await.unwrap();
    assert_eq!((whole.subject.as_deref(), whole.sid), (Some("u-1"), None));
    world.ordered(json!({"jti": "j-3", "sub": null})).await.unwrap();
    let other = World::with(|options| {
        options.client = Some(crate::identity::ClientOptions::public("weir-login"));
    });
    other.ordered(json!({"aud": ["weir-login"]})).await.unwrap();
    other.ordered(json!({"aud": "third", "jti": "j-2"})).await.unwrap_err();
    // A provider that does not say the type.
    let plain = sign(&world.issuer, &json!({}), &logout_with(&json!({"jti": "j-4"})));
    world.identity.logout_order(&plain).await.unwrap();
}

#[tokio::test]
async fn what_is_not_exactly_a_logout_token_ends_nothing() {
    let world = World::new();
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for wrong in [
        json!({"events": null}),
        json!({"events": {}}),
        json!({"events": [event]}),
        json!({"events": {event: true}}),
        json!({"nonce": "n"}),
        json!({"sub": null, "sid": null}),
        json!({"sub": 1}),
        json!({"jti": null}),
        json!({"jti": "x".repeat(300)}),
        json!({"aud": "other"}),
        json!({"aud": null}),
        json!({"iat": null}),
        json!({"iat": NOW_S + 61}),
        json!({"iat": NOW_S - 360}),
        json!({"exp": NOW_S - 60}),
        json!({"iss": "https://other.example"}),
    ] {
        let text = wrong.to_string();
        assert!(world.ordered(wrong).await.is_err(), "{text}");
    }
    let stranger = LocalIssuer::new(URL).unwrap();
    let forged = sign(&stranger, &json!({"kid": world.issuer.key_id()}), &logout_with(&json!({})));
    assert!(matches!(world.identity.logout_order(&forged).await, Err(IdentityError::Signature)));
    // Neither may pass for the other.
    assert!(world.identity.logout_order(&token(&world.issuer)).await.is_err());
    let logout = sign(&world.issuer, &json!({}), &logout_with(&json!({"preferred_username": "a"})));
    assert!(world.verify(&logout).await.is_err());
    world.ordered(json!({})).await.unwrap();
}
