//! A provider that answers with anything: nothing is believed, nothing panics.

use proptest::prelude::*;
use secrecy::SecretString;

use super::*;
use crate::identity::ClientOptions;
use crate::identity::TOKEN_PATH;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("https://id.example/realm/token")),
        Just(json!("https://evil.example/token")),
        Just(json!("file:///etc/passwd")),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::from))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_discovery_document_leads_nowhere_else(
        members in prop::collection::btree_map(
            prop::sample::select(vec!["issuer", "jwks_uri", "authorization_endpoint",
                "token_endpoint", "userinfo_endpoint", "token_endpoint_auth_methods_supported",
                "authorization_response_iss_parameter_supported"]),
            any_json(), 1..4,
        ),
    ) {
        let world = World::with(|options| {
            options.client = Some(ClientOptions::public("weir"));
            options.userinfo = true;
        });
        let mut document = world.issuer.discovery();
        for (name, value) in members {
            document[name] = value;
        }
        world.web.serve(&format!("{URL}{DISCOVERY_PATH}"), &document);
        block_on(async {
            drop(world.identity.verify(&token(&world.issuer)).await);
            if let Ok((url, pending)) = world.identity.start(None, "https://weir.example/b", None).await {
                prop_assert!(url.starts_with("https://id.example/"), "{url}");
                prop_assert!(world.identity.finish(&pending, "code").await.is_err());
            }
            for sent in world.web.sent() {
                prop_assert!(sent.url.starts_with("https://id.example/"), "{sent:?}");
            }
            Ok(())
        })?;
    }

    #[test]
    fn an_answer_signs_nobody_in_without_an_id_token(answer in any_json(), status in 100_u16..600) {
        let world = World::with(|options| options.client = Some(ClientOptions::public("weir")));
        world.web.answer(&format!("{URL}{TOKEN_PATH}"), status, &json!({
            "access_token": answer, "token_type": "Bearer", "id_token": answer, "error": answer,
        }));
        let again = SecretString::from("again");
        prop_assert!(block_on(world.identity.refresh(URL, &again)).is_err());
    }
}
