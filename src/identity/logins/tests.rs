//! Credentials are good for what they are bound to, for as long as their login stands.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::DISCOVERY_PATH;
use crate::identity::Fetch;
use crate::identity::FetchError;
use crate::identity::JWKS_PATH;
use crate::identity::LocalIssuer;
use crate::identity::Memory;
use crate::identity::Options;
use crate::identity::ProviderOptions;
use crate::identity::Request;
use crate::identity::Response;
use crate::model::Protocol;

const URL: &str = "https://id.example";

#[derive(Debug)]
struct Hands(Mutex<Timestamp>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

struct Web(BTreeMap<String, Value>);

impl Fetch for Web {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Response, FetchError>> {
        let body = self.0.get(url).map(ToString::to_string).unwrap_or_default();
        async move { Ok(Response { status: 200, body: body.into() }) }.boxed()
    }

    fn send<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, FetchError>> {
        self.get(&request.url)
    }
}

struct Bench {
    logins: Logins,
    vault: Arc<Memory>,
    hands: Arc<Hands>,
    issuer: LocalIssuer,
}

impl Bench {
    fn new() -> Self {
        let hands = Arc::new(Hands(Mutex::new("2026-11-21T10:00:00Z".parse().unwrap())));
        let clock: Arc<dyn Clock> = Arc::<Hands>::clone(&hands);
        let issuer = LocalIssuer::new(URL).unwrap();
        let web: Arc<dyn Fetch> = Arc::new(Web(BTreeMap::from([
            (format!("{URL}{DISCOVERY_PATH}"), issuer.discovery()),
            (format!("{URL}{JWKS_PATH}"), issuer.jwks()),
        ])));
        let options = Options { providers: vec![ProviderOptions::new(URL, "weir")] };
        let identity = Arc::new(Identity::new(options, &web, &clock).unwrap());
        let vault = Arc::new(Memory::default());
        let options = LoginOptions {
            region: "here".parse().unwrap(),
            credential_s: 3_600,
            ssh_certificate_s: 3_600,
            login_s_max: 36_000,
        };
        let kept: Arc<dyn Vault> = Arc::<Memory>::clone(&vault);
        let logins = Logins::new(kept, identity, clock, options, &[7; 32]).unwrap();
        Self { logins, vault, hands, issuer }
    }

    fn pass(&self, seconds: i64) {
        let mut now = self.hands.0.lock().unwrap();
        *now = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    async fn signed_in(&self, name: &str, lives_s: i64) -> SignedIn {
        let now = self.hands.now().as_second();
        let claims = json!({
            "sub": name, "aud": "weir", "preferred_username": name,
            "iat": now, "exp": now + lives_s, "auth_time": now,
        });
        let token = self.issuer.mint(claims.as_object().unwrap()).unwrap();
        self.logins.identity.verify(&token).await.unwrap()
    }

    async fn login(&self, name: &str, lives_s: i64) -> Login {
        let device = Device { address: [127, 0, 0, 1].into(), label: "x".repeat(500) };
        self.logins.begin(&self.signed_in(name, lives_s).await, device).await.unwrap()
    }

    async fn secret(&self, login: &Login, form: Form, wanted: Wanted) -> Issued {
        self.logins.issue(&login.id, form, wanted).await.unwrap()
    }

    async fn shows(&self, secret: &SecretString) -> Result<Verified, IdentityError> {
        self.shows_for(secret, Use::Control, None).await
    }

    async fn shows_for(
        &self,
        secret: &SecretString,
        usage: Use,
        target: Option<&str>,
    ) -> Result<Verified, IdentityError> {
        let purpose = Purpose { usage, target, tokens: false };
        self.logins.verify(&Claim::Secret(secret.expose_secret()), &purpose).await
    }
}

fn only(usage: Use) -> Wanted {
    Wanted { uses: BTreeSet::from([usage]), target: None, host: None }
}

#[tokio::test]
async fn a_credential_is_good_for_its_use_and_target_and_nothing_else() {
    let bench = Bench::new();
    let login = bench.login("alice", 36_000).await;
    assert!(login.device.label.len() <= LABEL_BYTES_MAX);
    let postgres = Use::Target(Protocol::Postgres);
    let wanted = Wanted { target: Some("customers".parse().unwrap()), ..only(postgres) };
    let secret = bench.secret(&login, Form::Session, wanted).await.secret;
    assert!(bench.shows_for(&secret, postgres, Some("customers")).await.is_ok());
    for (usage, target) in [
        (postgres, Some("other")),
        (postgres, None),
        (Use::Control, None),
        (Use::Target(Protocol::Ssh), Some("customers")),
    ] {
        assert!(bench.shows_for(&secret, usage, target).await.is_err(), "{usage} {target:?}");
    }
    let unknown = SecretString::from("weir_s_unknown");
    assert!(bench.shows_for(&unknown, postgres, Some("customers")).await.is_err());
}

#[tokio::test]
async fn a_credential_is_good_in_its_region_alone() {
    let bench = Bench::new();
    let login = bench.login("alice", 36_000).await;
    let secret = bench.secret(&login, Form::Session, Wanted::everything()).await.secret;
    // A gateway of another region that has got hold of the same database and key.
    let options = LoginOptions { region: "there".parse().unwrap(), ..bench.logins.options.clone() };
    let vault: Arc<dyn Vault> = Arc::<Memory>::clone(&bench.vault);
    let (identity, clock) = (Arc::clone(&bench.logins.identity), Arc::clone(&bench.logins.clock));
    let elsewhere = Logins::new(vault, identity, clock, options, &[7; 32]).unwrap();
    let purpose = Purpose { usage: Use::Control, target: None, tokens: true };
    let claim = Claim::Secret(secret.expose_secret());
    assert!(bench.logins.verify(&claim, &purpose).await.is_ok());
    assert!(elsewhere.verify(&claim, &purpose).await.is_err());
}

#[tokio::test]
async fn a_secret_counts_only_as_what_it_is() {
    let bench = Bench::new();
    let login = bench.login("alice", 36_000).await;
    let renewal = bench.secret(&login, Form::Renewal, Wanted::everything()).await.secret;
    assert!(bench.shows(&renewal).await.is_err());
    let wanted = Wanted { host: Some("wiki.weir.example".into()), ..Wanted::everything() };
    let cookie = bench.secret(&login, Form::Cookie, wanted).await.secret;
    assert!(bench.shows(&cookie).await.is_err());
    let purpose = Purpose { usage: Use::Control, target: None, tokens: true };
    let secret = cookie.expose_secret();
    for (host, good) in [("wiki.weir.example", true), ("mail.weir.example", false)] {
        let claim = Claim::Cookie { secret, host };
        assert_eq!(bench.logins.verify(&claim, &purpose).await.is_ok(), good, "{host}");
    }
    let digest = Digest::of(b"certificate");
    let kept = (Form::Certificate, digest);
    bench.logins.certified(&login.id, kept, Wanted::everything(), 60).await.unwrap();
    for (ours, good) in [(true, true), (false, false)] {
        let claim = Claim::Certificate { der: b"certificate", ours };
        assert_eq!(bench.logins.verify(&claim, &purpose).await.is_ok(), good);
    }
    let blob = b"certificate".as_slice();
    let claim = Claim::SshCertificate { blob, address: [127, 0, 0, 1].into() };
    assert!(bench.logins.verify(&claim, &purpose).await.is_err(), "of another form");
}

#[tokio::test]
async fn a_credential_ends_with_its_time_and_a_login_without_renewal_with_its_token() {
    let bench = Bench::new();
    let login = bench.login("alice", 600).await;
    let secret = bench.secret(&login, Form::Session, Wanted::everything()).await;
    assert!(secret.credential.expires_at <= login.ends_at);
    bench.pass(599);
    assert!(bench.shows(&secret.secret).await.is_ok());
    bench.pass(120);
    assert!(bench.shows(&secret.secret).await.is_err());
    assert!(bench.logins.issue(&login.id, Form::Session, Wanted::everything()).await.is_err());
}

#[tokio::test]
async fn an_end_is_seen_at_once_by_whoever_holds_a_proof() {
    let bench = Bench::new();
    let login = bench.login("alice", 36_000).await;
    let one = bench.secret(&login, Form::Session, Wanted::everything()).await;
    let two = bench.secret(&login, Form::Session, Wanted::everything()).await;
    let (first, second) =
        (bench.shows(&one.secret).await.unwrap(), bench.shows(&two.secret).await.unwrap());
    let mut seen = first.standing().unwrap();
    seen.mark_unchanged();
    let by = LoginEnd::Revoked { by: "dana".into() };
    assert!(bench.logins.revoke(&one.credential.id, by.clone()).await.unwrap());
    assert!(!bench.logins.revoke(&one.credential.id, LoginEnd::LoggedOut).await.unwrap());
    assert!(seen.has_changed().unwrap());
    assert_eq!((first.ended(), second.ended()), (Some(by), None));
    assert!(bench.shows(&one.secret).await.is_err());
    assert!(bench.shows(&two.secret).await.is_ok());
    assert!(bench.logins.end(&login.id, LoginEnd::LoggedOut).await.unwrap());
    assert_eq!(second.ended(), Some(LoginEnd::LoggedOut));
    assert!(bench.shows(&two.secret).await.is_err());
}

#[tokio::test]
async fn what_was_renewed_can_still_be_revoked_and_its_sessions_end() {
    let bench = Bench::new();
    let login = bench.login("alice", 36_000).await;
    let before = bench.secret(&login, Form::Session, Wanted::everything()).await;
    let renewal = bench.secret(&login, Form::Renewal, Wanted::everything()).await.secret;
    let proof = bench.shows(&before.secret).await.unwrap();
    let renewed = bench.logins.renew(renewal.expose_secret()).await.unwrap();
    assert_eq!(proof.ended(), None);
    let by = LoginEnd::Revoked { by: "dana".into() };
    assert!(bench.logins.revoke(&before.credential.id, by.clone()).await.unwrap());
    assert_eq!(proof.ended(), Some(by));
    assert!(bench.shows(&renewed.session.secret).await.is_ok(), "the login itself goes on");
}

#[tokio::test]
async fn another_gateways_end_is_taken_over() {
    let bench = Bench::new();
    let login = bench.login("alice", 36_000).await;
    let secret = bench.secret(&login, Form::Session, Wanted::everything()).await.secret;
    let proof = bench.shows(&secret).await.unwrap();
    let ended = Ended { at: bench.hands.now(), why: LoginEnd::ProviderLoggedOut };
    bench.vault.end_login(&login.id, &ended).await.unwrap();
    bench.logins.look().await;
    assert_eq!(proof.ended(), Some(LoginEnd::ProviderLoggedOut));
    assert!(bench.shows(&secret).await.is_err());
}

#[tokio::test]
async fn a_silent_database_ends_what_rests_on_it() {
    let bench = Bench::new();
    let login = bench.login("alice", 36_000).await;
    let secret = bench.secret(&login, Form::Session, Wanted::everything()).await.secret;
    let proof = bench.shows(&secret).await.unwrap();
    bench.vault.silence(true);
    bench.pass(4);
    bench.logins.look().await;
    assert!(bench.shows(&secret).await.is_ok(), "what was just seen is believed for a moment");
    bench.pass(2);
    assert!(bench.shows(&secret).await.is_err(), "but not longer");
    assert_eq!(proof.ended(), None);
    bench.pass(30);
    bench.logins.look().await;
    assert_eq!(proof.ended(), Some(LoginEnd::StateLost));
    bench.vault.silence(false);
    bench.logins.look().await;
    assert!(bench.shows(&secret).await.is_ok(), "it comes back with the database");
}

#[tokio::test]
async fn a_renewal_uses_up_its_secret_and_a_copy_of_it_ends_the_login() {
    let bench = Bench::new();
    let login = bench.login("alice", 36_000).await;
    let before = bench.secret(&login, Form::Session, Wanted::everything()).await.secret;
    let renewal = bench.secret(&login, Form::Renewal, Wanted::everything()).await.secret;
    let proof = bench.shows(&before).await.unwrap();
    let renewed = bench.logins.renew(renewal.expose_secret()).await.unwrap();
    assert!(bench.shows(&before).await.is_err(), "the old one is renewed away");
    assert!(bench.shows(&renewed.session.secret).await.is_ok());
    assert_eq!(proof.ended(), None, "the same person's sessions go on");
    assert!(bench.logins.renew(renewal.expose_secret()).await.is_err());
    assert_eq!(proof.ended(), Some(LoginEnd::Replayed));
    assert!(bench.shows(&renewed.session.secret).await.is_err());
    assert!(bench.logins.renew(renewed.renewal.secret.expose_secret()).await.is_err());
}

#[tokio::test]
async fn a_step_up_counts_for_what_lives_and_only_its_person_can_make_it() {
    let bench = Bench::new();
    let login = bench.login("alice", 36_000).await;
    let secret = bench.secret(&login, Form::Session, Wanted::everything()).await.secret;
    let proof = bench.shows(&secret).await.unwrap();
    let before = proof.authentication().unwrap().at;
    bench.pass(900);
    let mallory = bench.signed_in("mallory", 600).await;
    let refused = bench.logins.step_up(&login.id, &mallory).await;
    assert!(matches!(refused, Err(LoginError::SomebodyElse)));
    let again = bench.signed_in("alice", 600).await;
    bench.logins.step_up(&login.id, &again).await.unwrap();
    assert_eq!(proof.authentication().unwrap().at.duration_since(before).as_secs(), 900);
    assert_eq!(proof.ended(), None);
}

#[tokio::test]
async fn a_provider_ends_the_logins_it_names_and_no_others() {
    let bench = Bench::new();
    let (alice, bob) = (bench.login("alice", 600).await, bench.login("bob", 600).await);
    assert_eq!(bench.logins.end_of_provider(URL, None, None).await.unwrap().len(), 0);
    assert_eq!(
        bench.logins.end_of_provider("https://x", Some("alice"), None).await.unwrap().len(),
        0
    );
    assert_eq!(bench.logins.end_of_provider(URL, Some("alice"), None).await.unwrap().len(), 1);
    assert!(bench.logins.login(&alice.id).await.is_err());
    assert!(bench.logins.login(&bob.id).await.is_ok());
}
