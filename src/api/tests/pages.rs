//! Pages: who may answer them, and how often.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use secrecy::ExposeSecret;

use super::Got;
use super::Site;
use super::body;
use super::elsewhere;
use super::post;
use crate::api::signing::Ask;
use crate::api::signing::Program;
use crate::api::signing::What;
use crate::identity::SignedIn;
use crate::identity::Wanted;
use crate::model::Protocol;
use crate::model::digest::Digest;
use crate::model::encode::base64url;
use crate::model::login::Form;
use crate::session::Asks;
use crate::session::testing::World;

const COOKIE: &str = "__Host-weir-signin=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const OTHER: &str = "__Host-weir-signin=BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
const VERIFIER: &str = "a-verifier-of-the-program-that-nobody-else-has";
const BACK: &str = "http://127.0.0.1:4711/callback";

impl Site {
    async fn who(&self, name: &str) -> Arc<SignedIn> {
        let token = self.world.token(name, &["engineer"]);
        let gateway = self.world.gateway();
        Arc::new(gateway.logins.identity().verify(&token).await.unwrap())
    }

    /// A page of the browser with [`COOKIE`], after somebody came back from the provider.
    async fn page(&self, id: &str, name: &str, what: What) {
        let browser = Digest::of(COOKIE.split_once('=').unwrap().1.as_bytes());
        let ask = Ask { browser, what, step_up: None, who: Some(self.who(name).await) };
        let now = self.world.gateway().parts.clock.now();
        self.resources.signing.put(id, ask, World::origin().address, now).unwrap();
    }

    /// A page of a program's.
    async fn program_page(&self, id: &str) -> Got {
        let program = Program {
            redirect_uri: BACK.to_owned(),
            state: Some("the program's own".to_owned()),
            challenge: base64url(Digest::of(VERIFIER.as_bytes()).as_bytes()),
            label: Some("<b>weir on laptop</b>".to_owned()),
            wanted: Wanted::everything(),
        };
        self.page(id, "alice", What::Program(program)).await;
        self.get(&format!("/oauth/confirm?ask={id}"), COOKIE).await
    }

    async fn answer(&self, id: &str, csrf: &str, answer: &str) -> Got {
        let pairs = [("ask", id), ("csrf", csrf), ("answer", answer)];
        self.submit("/oauth/confirm", COOKIE, &pairs).await
    }

    /// A code that a program got.
    async fn code(&self, id: &str) -> String {
        let page = self.program_page(id).await;
        let got = self.answer(id, &page.field("csrf"), "approve").await;
        assert_eq!(got.status, 303, "{}", got.text);
        got.leads_with("code").unwrap()
    }

    async fn redeem(&self, code: &str, verifier: &str, back: &str) -> Got {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("client_id", "weir-cli"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", back),
        ];
        self.form("/oauth/token", &pairs).await
    }
}

#[tokio::test]
async fn a_page_says_who_asks_and_looking_at_it_or_a_link_approves_nothing() {
    let site = Site::new().await;
    let page = site.program_page("one").await;
    assert_eq!(page.status, 200);
    for said in ["alice", "127.0.0.1", "DE", "&lt;b&gt;weir on laptop", "This was not me"] {
        assert!(page.text.contains(said), "{said}: {}", page.text);
    }
    let policy = page.header("content-security-policy");
    assert!(policy.contains("form-action 'self' http://127.0.0.1:4711;"), "{policy}");
    let link = format!("/oauth/confirm?ask=one&answer=approve&csrf={}", page.field("csrf"));
    let looked = site.get(&link, COOKIE).await;
    assert_eq!((looked.status.as_u16(), looked.leads_with("code")), (200, None));
    let got = site.answer("one", &page.field("csrf"), "approve").await;
    assert_eq!(got.leads_with("state").as_deref(), Some("the%20program%27s%20own"));
    assert_eq!(got.leads_with("iss").as_deref(), Some("https%3A%2F%2Fweir.test"));
    assert!(got.header("location").starts_with(BACK));
    assert_eq!(site.answer("one", &page.field("csrf"), "approve").await.status, 400, "once");
}

#[tokio::test]
async fn only_the_own_page_of_the_same_browser_answers() {
    let site = Site::new().await;
    let page = site.program_page("one").await;
    let csrf = page.field("csrf");
    let pairs = [("ask", "one"), ("csrf", csrf.as_str()), ("answer", "approve")];
    let sent = |cookie: &'static str, site_is: &'static str, csrf: &str| {
        let pairs = [("ask", "one"), ("csrf", csrf), ("answer", "approve")];
        let request = post("/oauth/confirm", &pairs).header("cookie", cookie);
        let request = request.header("sec-fetch-site", site_is).body(body(&pairs)).unwrap();
        site.ask(request)
    };
    assert_eq!(sent(COOKIE, "cross-site", &csrf).await.status, 403);
    assert_eq!(sent(COOKIE, "same-site", &csrf).await.status, 403);
    assert_eq!(sent(COOKIE, "same-origin", "guessed").await.status, 403);
    assert_eq!(sent(OTHER, "same-origin", &csrf).await.status, 403, "another browser");
    assert_eq!(sent("", "same-origin", &csrf).await.status, 400, "no cookie");
    assert_eq!(site.form("/oauth/confirm", &pairs).await.status, 400);
    assert_eq!(site.get("/oauth/confirm?ask=one", OTHER).await.status, 400, "not its page");
    assert_eq!(sent(COOKIE, "same-origin", &csrf).await.status, 303, "and then the right one");
}

#[tokio::test]
async fn a_code_is_for_the_program_that_began_and_counts_once() {
    let site = Site::new().await;
    let code = site.code("one").await;
    let got = site.redeem(&code, VERIFIER, BACK).await;
    assert_eq!(got.status, 200, "{}", got.text);
    let access = got.json()["access_token"].as_str().unwrap().to_owned();
    let alive = site.call("GET", "/api/v1/whoami", &access, &serde_json::Value::Null).await;
    assert_eq!(alive.json()["principal"]["name"], "alice");
    assert_eq!(site.redeem(&code, VERIFIER, BACK).await.status, 400);
    let ended = site.call("GET", "/api/v1/whoami", &access, &serde_json::Value::Null).await;
    assert_eq!(ended.status, 401, "somebody else had the code too");
    for (id, verifier, back) in
        [("two", "another verifier", BACK), ("three", VERIFIER, "http://127.0.0.1:4712/callback")]
    {
        let code = site.code(id).await;
        assert_eq!(site.redeem(&code, verifier, back).await.status, 400, "{id}");
        assert_eq!(site.redeem(&code, VERIFIER, BACK).await.status, 400, "{id} is used up");
    }
}

#[tokio::test]
async fn a_no_is_told_to_the_program() {
    let site = Site::new().await;
    let page = site.program_page("one").await;
    let got = site.answer("one", &page.field("csrf"), "decline").await;
    assert_eq!(got.leads_with("error").as_deref(), Some("access_denied"));
    assert_eq!(got.leads_with("code"), None);
}

#[tokio::test]
async fn what_a_program_asks_wrongly_leads_nowhere_or_back_with_an_error() {
    let site = Site::new().await;
    let challenge = base64url(Digest::of(VERIFIER.as_bytes()).as_bytes());
    let base = format!(
        "/oauth/authorize?response_type=code&client_id=weir-cli&code_challenge={challenge}"
    );
    let evil = format!("{base}&code_challenge_method=S256&redirect_uri=https://evil.example/");
    let got = site.get(&evil, "").await;
    assert_eq!((got.status.as_u16(), got.header("location")), (400, ""));
    let stranger = format!("{evil}&client_id=x").replace("client_id=weir-cli&", "");
    assert_eq!(site.get(&stranger, "").await.status, 400);
    let plain = format!("{base}&redirect_uri={BACK}&state=s&code_challenge_method=plain");
    let got = site.get(&plain, "").await;
    assert_eq!(got.leads_with("error").as_deref(), Some("invalid_request"));
    assert_eq!(got.leads_with("state").as_deref(), Some("s"));
    // Here no provider has a client, which is whoever runs the gateway's to change.
    let good = format!("{base}&redirect_uri={BACK}&state=s&code_challenge_method=S256");
    let got = site.get(&good, "").await;
    assert_eq!(got.status, 501);
    assert!(got.header("set-cookie").starts_with("__Host-weir-signin="));
}

#[tokio::test]
async fn a_callback_that_this_browser_did_not_begin_signs_nobody_in() {
    let site = Site::new().await;
    let got = site.get("/oauth/callback?state=somebodys&code=theirs", COOKIE).await;
    assert_eq!(got.status, 400);
    assert_eq!(got.header("set-cookie"), "");
}

async fn device(site: &Site, client: &str) -> serde_json::Value {
    let pairs = [("client_id", client), ("scope", "postgres"), ("device", "psql")];
    let request = post("/oauth/device_authorization", &pairs).body(body(&pairs)).unwrap();
    let got = site.ask_from(request, elsewhere()).await;
    assert_eq!(got.status, 200, "{}", got.text);
    got.json()
}

async fn poll(site: &Site, device_code: &str, client: &str) -> serde_json::Value {
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let pairs = [("grant_type", grant), ("device_code", device_code), ("client_id", client)];
    site.form("/oauth/token", &pairs).await.json()
}

#[tokio::test]
async fn a_device_waits_is_confirmed_on_a_page_and_gets_its_login_once() {
    let site = Site::new().await;
    let asked = device(&site, "my<psql>").await;
    let secret = asked["device_code"].as_str().unwrap();
    assert_eq!(asked["interval"], 5);
    assert_eq!(poll(&site, secret, "my<psql>").await["error"], "authorization_pending");
    assert_eq!(poll(&site, secret, "my<psql>").await["error"], "slow_down");
    assert_eq!(poll(&site, secret, "other").await["error"], "invalid_grant");
    let typed = asked["user_code"].as_str().unwrap().replace('-', "");
    site.page("one", "alice", What::Device(typed)).await;
    let page = site.get("/oauth/confirm?ask=one", COOKIE).await;
    for said in ["my&lt;psql&gt;", "192.0.2.7", "sessions by postgres", "you are at"] {
        assert!(page.text.contains(said), "{said}: {}", page.text);
    }
    assert_eq!(site.answer("one", &page.field("csrf"), "approve").await.status, 200);
    let got = poll(&site, secret, "my<psql>").await;
    assert_eq!(
        (got["scope"].as_str(), got["principal"].as_str()),
        (Some("postgres"), Some("alice"))
    );
    assert_eq!(poll(&site, secret, "my<psql>").await["error"], "invalid_grant", "told once");
}

#[tokio::test]
async fn a_device_that_nobody_knows_is_turned_away() {
    let site = Site::new().await;
    let asked = device(&site, "psql").await;
    let typed = asked["user_code"].as_str().unwrap().replace('-', "");
    site.page("one", "alice", What::Device(typed)).await;
    let page = site.get("/oauth/confirm?ask=one", COOKIE).await;
    let got = site.answer("one", &page.field("csrf"), "decline").await;
    assert!(got.text.contains("turned away"), "{}", got.text);
    let secret = asked["device_code"].as_str().unwrap();
    assert_eq!(poll(&site, secret, "psql").await["error"], "access_denied");
}

#[tokio::test]
async fn a_connection_that_waits_goes_on_as_whoever_confirmed() {
    let site = Site::new().await;
    let gateway = site.world.gateway();
    let asks = Asks {
        protocol: Some(Protocol::Ssh),
        target: Some("web-1".to_owned()),
        origin: elsewhere(),
        program: "OpenSSH_9.2\u{202e}<i>".to_owned(),
    };
    let mut waits = gateway.invite(asks).unwrap();
    let typed = waits.code().replace('-', "");
    site.page("one", "alice", What::Device(typed)).await;
    let page = site.get("/oauth/confirm?ask=one", COOKIE).await;
    for said in ["OpenSSH_9.2&lt;i&gt;", "web-1", "192.0.2.7", "ssh"] {
        assert!(page.text.contains(said), "{said}: {}", page.text);
    }
    assert_eq!(site.answer("one", &page.field("csrf"), "approve").await.status, 200);
    let verified = waits.answered().await.unwrap();
    assert_eq!(verified.principal().name, "alice");
    let login = gateway.logins.login(verified.login().unwrap()).await.unwrap();
    assert_eq!(login.device.label, "ssh from 192.0.2.7");
}

#[tokio::test]
async fn codes_are_typed_on_our_page_and_cannot_be_guessed() {
    let site = Site::new().await;
    let form = site.get("/device?code=%22%3E%3Cscript%3E", COOKIE).await;
    assert!(form.text.contains("&quot;&gt;&lt;script&gt;"), "{}", form.text);
    let csrf = form.field("csrf");
    let asked = device(&site, "psql").await;
    let code = asked["user_code"].as_str().unwrap();
    let foreign = site.form("/device", &[("code", code), ("csrf", &csrf)]).await;
    assert_eq!(foreign.status, 403);
    let wrong = [("code", "BBBB-BBBB"), ("csrf", csrf.as_str())];
    let mut last = 0;
    for _ in 0..12 {
        last = site.submit("/device", COOKIE, &wrong).await.status.as_u16();
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn logging_out_takes_a_button_of_ours_and_ends_the_login() {
    let site = Site::new().await;
    let (login, _) = site.world.sign_in("alice", &[]).await;
    let gateway = site.world.gateway();
    let host = Some("weir.test".to_owned());
    let wanted = Wanted { host, ..Wanted::everything() };
    let issued = gateway.logins.issue(&login.id, Form::Cookie, wanted).await.unwrap();
    let cookie = format!("__Host-weir={}", issued.secret.expose_secret());
    let page = site.get("/logout", &cookie).await;
    let csrf = page.field("csrf");
    assert_eq!(site.submit("/logout", &cookie, &[("csrf", "guessed")]).await.status, 403);
    let pairs = [("csrf", csrf.as_str())];
    let request = post("/logout", &pairs).header("cookie", &cookie);
    let request = request.header("sec-fetch-site", "same-site").body(body(&pairs)).unwrap();
    assert_eq!(site.ask(request).await.status, 403);
    assert!(gateway.logins.login(&login.id).await.is_ok(), "nothing ended yet");
    let got = site.submit("/logout", &cookie, &pairs).await;
    assert_eq!((got.status.as_u16(), got.header("clear-site-data")), (200, "\"cookies\""));
    assert!(gateway.logins.login(&login.id).await.is_err());
}

#[tokio::test]
async fn a_browser_that_is_signed_in_is_sent_back_to_the_targets_host() {
    let site = Site::new().await;
    let (login, _) = site.world.sign_in("alice", &[]).await;
    let gateway = site.world.gateway();
    let host = Some("weir.test".to_owned());
    let wanted = Wanted { host, ..Wanted::everything() };
    let issued = gateway.logins.issue(&login.id, Form::Cookie, wanted).await.unwrap();
    let cookie = format!("__Host-weir={}", issued.secret.expose_secret());
    let path = format!("/login?target=wiki&bind={}&return=/page", Digest::of(b"kept"));
    let got = site.get(&path, &cookie).await;
    assert!(got.header("location").starts_with("https://wiki.weir.test/.weir/enter?code="));
    let code = got.leads_with("code").unwrap();
    let now = gateway.parts.clock.now();
    let handoff = gateway.handoffs.redeem(&code, &"wiki".parse().unwrap(), "kept", now).unwrap();
    assert_eq!((handoff.login, handoff.back.as_str()), (login.id, "/page"));
    assert_eq!(site.get(&path, "").await.status, 501, "one that is not signs in first");
    let acr = format!("{path}&acr_values=gold");
    assert_eq!(site.get(&acr, &cookie).await.status, 501, "so does one that is too weak");
    let bad = "/login?target=wiki&bind=x&return=//evil.example";
    let request = Request::get(bad).body(Body::empty()).unwrap();
    assert_eq!(site.ask(request).await.status, 400);
}
