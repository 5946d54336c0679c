//! Tokens, credentials and certificates.

use serde_json::Value;
use serde_json::json;

use super::Site;

const NULL: Value = Value::Null;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[tokio::test]
async fn a_providers_token_becomes_a_login_with_what_was_asked_for() {
    let site = Site::new().await;
    let got = site.exchange("alice", &[("scope", "control ssh"), ("device", "laptop\n")]).await;
    assert!(text(&got, "access_token").starts_with("weir_s_"));
    assert!(text(&got, "refresh_token").starts_with("weir_r_"));
    assert_eq!((text(&got, "token_type"), text(&got, "scope")), ("Bearer", "control ssh"));
    assert_eq!(text(&got, "principal"), "alice");
    let secret = text(&got, "access_token");
    let me = site.call("GET", "/api/v1/whoami", secret, &NULL).await.json();
    assert_eq!(me["login"], got["login"]);
    assert_eq!(me["uses"], json!(["control", "ssh"]));
    let all = site.call("GET", "/api/v1/credentials", secret, &NULL).await;
    assert!(!all.text.contains("digest") && !all.text.contains("weir_"), "{}", all.text);
    assert_eq!(all.json()[0]["login"]["device"]["label"], "laptop");
    // A credential that is not for the API is of no use there.
    let narrow = site.exchange("alice", &[("scope", "ssh")]).await;
    let refused = site.call("GET", "/api/v1/whoami", text(&narrow, "access_token"), &NULL).await;
    assert_eq!(refused.status, 401);
    let ledger = std::fs::read_dir(site.world.dir().join("state")).unwrap();
    assert!(ledger.count() > 0);
}

#[tokio::test]
async fn what_is_wrong_with_a_token_request_is_said_as_oauth_says_it() {
    let site = Site::new().await;
    let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    let token = site.world.token("alice", &[]);
    for (pairs, error) in [
        (&[("grant_type", "password")][..], "unsupported_grant_type"),
        (&[], "invalid_request"),
        (&[("grant_type", exchange)], "invalid_request"),
        (&[("grant_type", exchange), ("subject_token", "eyJ.a.b")], "invalid_grant"),
        (
            &[("grant_type", exchange), ("subject_token", &token), ("scope", "root")],
            "invalid_scope",
        ),
        (&[("grant_type", exchange), ("subject_token", &token), ("target", "_")], "invalid_target"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "weir_r_x")], "invalid_grant"),
        (&[("grant_type", "authorization_code"), ("code", "x")], "invalid_grant"),
    ] {
        let got = site.form("/oauth/token", pairs).await;
        assert_eq!(got.status, 400, "{pairs:?}");
        assert_eq!(text(&got.json(), "error"), error, "{pairs:?}");
        assert_eq!(got.header("cache-control"), "no-store");
        assert!(!text(&got.json(), "error_description").is_empty());
    }
}

#[tokio::test]
async fn whoever_guesses_has_to_wait() {
    let site = Site::new().await;
    let guess = [("grant_type", "refresh_token"), ("refresh_token", "weir_r_guess")];
    let mut statuses = Vec::new();
    for _ in 0..70 {
        statuses.push(site.form("/oauth/token", &guess).await.status.as_u16());
    }
    assert!(statuses.starts_with(&[400]) && statuses.ends_with(&[429]), "{statuses:?}");
}

#[tokio::test]
async fn others_wrong_guesses_keep_nobody_at_the_same_address_from_what_is_theirs() {
    let site = Site::new().await;
    let got = site.exchange("alice", &[]).await;
    let guess = [("grant_type", "refresh_token"), ("refresh_token", "weir_r_guess")];
    while site.form("/oauth/token", &guess).await.status != 429 {}
    let renewal = [("grant_type", "refresh_token"), ("refresh_token", text(&got, "refresh_token"))];
    let renewed = site.form("/oauth/token", &renewal).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text);
    let renewed = renewed.json();
    let mine = [("token", text(&renewed, "refresh_token"))];
    assert_eq!(site.form("/oauth/revoke", &mine).await.status, 200);
    assert_eq!(site.form("/oauth/revoke", &[("token", "weir_r_guess")]).await.status, 429);
}

#[tokio::test]
async fn a_renewal_counts_once_and_a_second_time_ends_the_login() {
    let site = Site::new().await;
    let first = site.exchange("alice", &[]).await;
    let renew = |secret: String| {
        let site = &site;
        async move {
            let pairs = [("grant_type", "refresh_token"), ("refresh_token", secret.as_str())];
            site.form("/oauth/token", &pairs).await
        }
    };
    let second = renew(text(&first, "refresh_token").to_owned()).await.json();
    assert_eq!(first["login"], second["login"]);
    let whoami = |secret: String| {
        let site = &site;
        async move { site.call("GET", "/api/v1/whoami", &secret, &NULL).await.status.as_u16() }
    };
    assert_eq!(whoami(text(&second, "access_token").to_owned()).await, 200);
    assert_eq!(whoami(text(&first, "access_token").to_owned()).await, 401);
    assert_eq!(renew(text(&first, "refresh_token").to_owned()).await.status, 400);
    assert_eq!(whoami(text(&second, "access_token").to_owned()).await, 401, "it was replayed");
}

#[tokio::test]
async fn a_credential_gives_narrower_ones_and_never_wider() {
    let site = Site::new().await;
    let grant = "urn:ietf:params:oauth:grant-type:token-exchange";
    let own = site.exchange("alice", &[("scope", "control ssh"), ("target", "web-1")]).await;
    let secret = text(&own, "access_token");
    let ask = |more: &'static [(&'static str, &'static str)]| {
        let (site, secret) = (&site, secret.to_owned());
        async move {
            let mut pairs = vec![("grant_type", grant), ("subject_token", secret.as_str())];
            pairs.extend(more);
            site.form("/oauth/token", &pairs).await
        }
    };
    let narrow = ask(&[("scope", "ssh")]).await.json();
    assert_eq!((text(&narrow, "scope"), text(&narrow, "target")), ("ssh", "web-1"));
    assert!(narrow.get("refresh_token").is_none());
    for wider in [&[("scope", "ssh postgres")][..], &[], &[("scope", "ssh"), ("target", "other")]] {
        assert_eq!(text(&ask(wider).await.json(), "error"), "invalid_scope", "{wider:?}");
    }
}

#[tokio::test]
async fn one_ends_what_is_ones_own_and_an_administrator_all() {
    let site = Site::new().await;
    let (login, alice) = site.world.sign_in("alice", &["engineer"]).await;
    let (_, mallory) = site.world.sign_in("mallory", &["engineer"]).await;
    let (_, root) = site.world.sign_in("root", &["admin"]).await;
    let revoke = format!("/api/v1/credentials/{}/revoke", login.id);
    let by_other = site.call("POST", &revoke, &mallory, &NULL).await;
    let of_nobody = "/api/v1/credentials/l-000000000000/revoke";
    let of_nobody = site.call("POST", of_nobody, &mallory, &NULL).await;
    assert_eq!((by_other.status, of_nobody.status), (404.try_into().unwrap(), by_other.status));
    assert_eq!(by_other.text, of_nobody.text);
    assert_eq!(site.call("GET", "/api/v1/credentials?all=true", &mallory, &NULL).await.status, 403);
    let all = site.call("GET", "/api/v1/credentials?all=true", &root, &NULL).await.json();
    assert_eq!(all.as_array().unwrap().len(), 3);
    let ended = site.call("POST", &revoke, &root, &NULL).await;
    assert_eq!(ended.json()["ended"], true, "{}", ended.text);
    assert_eq!(site.call("GET", "/api/v1/whoami", &alice, &NULL).await.status, 401);
    let (_, again) = site.world.sign_in("alice", &["engineer"]).await;
    let (_, third) = site.world.sign_in("alice", &["engineer"]).await;
    let out = site.call("POST", "/api/v1/logout", &again, &json!({ "everywhere": true })).await;
    assert_eq!(out.json()["ended"], 2);
    assert_eq!(site.call("GET", "/api/v1/whoami", &third, &NULL).await.status, 401);
}

#[tokio::test]
async fn revoking_says_nothing_of_what_is_not_known() {
    let site = Site::new().await;
    let own = site.exchange("alice", &[]).await;
    let (access, renewal) = (text(&own, "access_token"), text(&own, "refresh_token"));
    assert_eq!(site.form("/oauth/revoke", &[("token", "weir_s_unknown")]).await.status, 200);
    assert_eq!(site.form("/oauth/revoke", &[("token", access)]).await.status, 200);
    assert_eq!(site.call("GET", "/api/v1/whoami", access, &NULL).await.status, 401);
    assert_eq!(site.form("/oauth/revoke", &[("token", renewal)]).await.status, 200);
    let pairs = [("grant_type", "refresh_token"), ("refresh_token", renewal)];
    assert_eq!(site.form("/oauth/token", &pairs).await.status, 400, "the login is over");
}

#[tokio::test]
async fn an_ssh_certificate_is_for_ssh_and_for_a_login() {
    let site = Site::new().await;
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUBQJSPP3l0TPHfXGZTKBpvYhJmQzFRmJ5O2V1Vw7tT a";
    let body = json!({ "public_key": key });
    let (_, full) = site.world.sign_in("alice", &[]).await;
    let got = site.call("POST", "/api/v1/ssh-certificates", &full, &body).await;
    assert_eq!(got.status, 200, "{}", got.text);
    assert!(text(&got.json(), "certificate").starts_with("ssh-ed25519-cert-v01@openssh.com "));
    let narrow = site.exchange("alice", &[("scope", "control")]).await;
    let narrow = text(&narrow, "access_token");
    assert_eq!(site.call("POST", "/api/v1/ssh-certificates", narrow, &body).await.status, 403);
    let token = site.world.token("alice", &[]);
    assert_eq!(site.call("POST", "/api/v1/ssh-certificates", &token, &body).await.status, 401);
    let odd = json!({ "public_key": "ssh-ed25519 nonsense" });
    assert_eq!(site.call("POST", "/api/v1/ssh-certificates", &full, &odd).await.status, 400);
}

#[tokio::test]
async fn a_thousand_log_in_at_once() {
    let site = Site::new().await;
    let names = (0..1_000).map(|number| format!("person-{number}")).collect::<Vec<_>>();
    let all = futures_util::future::join_all(names.iter().map(|name| site.exchange(name, &[])));
    let all = all.await;
    let ids = all.iter().map(|got| text(got, "login").to_owned());
    assert_eq!(ids.collect::<std::collections::BTreeSet<_>>().len(), 1_000);
}
