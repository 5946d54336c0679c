//! Browsers: one sign-in for every target, what ends it, and what somebody else's pages, links and
//! cookies cannot do. Chromium without a window, or curl where a browser would not do wrong by itself.

use std::fs;
use std::io::Write;
use std::process::Command;

use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::Validation;
use jsonwebtoken::jwk::JwkSet;
use serde_json::Value;
use serde_json::json;

use crate::browser::Browser;
use crate::demo::Demo;
use crate::demo::Ran;
use crate::gateway::Live;
use crate::idp;
use crate::parts;
use crate::site::APP;
use crate::site::OWN;
use crate::site::Site;
use crate::site::WIKI;
use crate::site::authorize;
use crate::site::post;
use crate::visitor::Page;
use crate::visitor::Visitor;
use crate::visitor::member;

/// Logins that come at once.
const LOGINS: usize = 1_000;
/// How many people they are of.
const PEOPLE: usize = 20;

/// What pages did that their policy forbids.
fn violations(browser: &Browser) -> Vec<String> {
    let said = browser.console();
    let said = said.as_array().unwrap().iter().filter_map(Value::as_str).map(str::to_owned);
    said.filter(|line| line.contains("Security Policy")).collect()
}

/// The cookie of the gateway's at a host.
fn cookie(browser: &Browser, host: &str) -> Option<Value> {
    let all = browser.cookies();
    all.into_iter().find(|one| one["domain"] == host && one["name"] == "__Host-weir")
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The headers and the body of a page.
fn whole(visitor: &Visitor, url: &str, args: &[&str]) -> Page {
    visitor.ask(url, &[&["-i"], args].concat())
}

#[test]
fn the_demo_signs_a_browser_in_and_out() {
    let demo = Demo::shared();
    let browser = Browser::start(&[demo.ca_file()], &[]);
    let wiki = demo.text("/targets/wiki/url").to_owned();
    assert_eq!(browser.goto(&format!("{wiki}/?from=here")), 200);
    browser.expect_text("choose who you want to be");
    browser.click("button[value=alice]");
    browser.expect_text("The demo's wiki");
    assert_eq!(browser.url(), format!("{wiki}/?from=here"));
    browser.click("a[href='/api/people']");
    browser.expect_text("<masked:pii.name>");
    // What is refused is told on a page.
    assert_eq!(browser.goto(&format!("{wiki}/nowhere/at/all")), 501);
    browser.expect_text("The gateway does not carry this");
    // A program of the same person, on its own login.
    let own = demo.text("/api").to_owned();
    let token = Visitor::new(&["--cacert", demo.ca_file()]).send(
        &format!("{own}/oauth/token"),
        &[
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", demo.token("alice")),
        ],
    );
    let token = serde_json::from_str::<Value>(&token.body).unwrap();
    let secret = token["access_token"].as_str().unwrap();
    assert_eq!(browser.goto(&format!("{wiki}/.weir/logout")), 200);
    browser.click("button");
    browser.expect_text("You are logged out");
    assert_eq!(violations(&browser), Vec::<String>::new());
    browser.goto(&wiki);
    browser.expect_text("choose who you want to be");
    let bearer = format!("Authorization: Bearer {secret}");
    let ask = Visitor::new(&["--cacert", demo.ca_file(), "-H", &bearer]);
    assert_eq!(ask.visit(&format!("{own}/api/v1/whoami")).status, 200, "another login goes on");
    // A code that a program shows is typed, and Chromium gets through all of it.
    let asked = Visitor::new(&["--cacert", demo.ca_file()]).send(
        &format!("{own}/oauth/device_authorization"),
        &[("client_id", "some-program"), ("device", "<b>laptop</b>")],
    );
    let asked = serde_json::from_str::<Value>(&asked.body).unwrap();
    assert_eq!(browser.goto(asked["verification_uri_complete"].as_str().unwrap()), 200);
    browser.click("button");
    browser.expect_text("choose who you want to be");
    browser.click("button[value=alice]");
    browser.expect_text("Is it you who asks?");
    let page = browser.text();
    for named in ["alice", "some-program", "<b>laptop</b>", "127.0.0.1", "DE"] {
        assert!(page.contains(named), "{named}: {page}");
    }
    // A link with the answer in it answers nothing.
    let link = format!("{}&answer=approve", browser.url());
    browser.goto(&link);
    browser.expect_text("Is it you who asks?");
    browser.click("button");
    browser.expect_text("signed in");
    assert_eq!(violations(&browser), Vec::<String>::new());
    let given = Visitor::new(&["--cacert", demo.ca_file()]).send(
        &format!("{own}/oauth/token"),
        &[
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", "some-program"),
            ("device_code", asked["device_code"].as_str().unwrap()),
        ],
    );
    assert!(given.status == 200 && given.body.contains("weir_s_"), "{given:?}");
}

#[test]
fn one_sign_in_opens_every_target_and_other_pages_cannot_use_it() {
    let site = Site::start();
    let browser = site.browser();
    browser.goto(&format!("{WIKI}/"));
    browser.sign_in("alice");
    browser.expect_text("The demo's wiki");
    // The second target asks nobody again. Whatever claims to be the gateway's word is dropped.
    browser.headers(&json!({ "X-Weir-Identity": "forged" }));
    assert_eq!(browser.goto(&format!("{APP}/first?x=1")), 200);
    browser.expect_text("The app");
    browser.headers(&json!({}));
    vouched(&site);
    // Its cookies: the gateway's are not its to set, and none is for its siblings.
    let names = browser.cookies().iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    assert!(names.contains(&json!("own")) && !names.contains(&json!("wide")), "{names:?}");
    browser.goto(&format!("{APP}/again"));
    let seen = site.app.seen();
    assert!(seen.contains("own=1"), "{seen}");
    for secret in ["weir_", "__Host-weir", "authorization", "Authorization", "forged"] {
        assert!(!seen.contains(secret), "{secret} reached the target: {seen}");
    }
    for host in ["wiki.weir.example", "app.weir.example", "weir.example"] {
        let cookie = cookie(&browser, host).unwrap_or_else(|| panic!("{:?}", browser.cookies()));
        let is = |name: &str| cookie[name].clone();
        let safe = (is("secure"), is("httpOnly"), is("sameSite"), is("path"));
        assert_eq!(safe, (json!(true), json!(true), json!("Lax"), json!("/")), "{cookie}");
        assert!(cookie["value"].as_str().unwrap().starts_with("weir_b_"));
    }
    siblings(&site, &browser);
    // Somebody else's code, and somebody else's way back from the provider.
    let attacker = site.visitor();
    let enter = site.up_to_enter(&attacker, WIKI, "mei");
    assert_eq!(browser.goto(&enter), 401);
    browser.expect_text("was meant for another browser");
    assert_eq!(attacker.visit(&enter).status, 303);
    assert_eq!(attacker.visit(&enter).status, 401, "a code counts once");
    let attacker = site.visitor();
    let url = format!("{OWN}/signin?return=/logout");
    let callback = idp::sign_in(&attacker, &url, "mei", &format!("{OWN}/oauth/callback"));
    assert_eq!(browser.goto(&callback), 400);
    browser.expect_text("This page is over, or not yours");
    browser.goto(&format!("{OWN}/logout"));
    browser.expect_text("alice");
    // Out of one is out of all.
    browser.goto(&format!("{APP}/.weir/logout"));
    browser.click("button");
    browser.expect_text("You are logged out");
    assert!(cookie(&browser, "app.weir.example").is_none());
    let old = cookie(&browser, "wiki.weir.example").unwrap();
    let old = format!("Cookie: __Host-weir={}", old["value"].as_str().unwrap());
    assert_eq!(site.visitor().ask(&format!("{WIKI}/"), &["-H", &old]).status, 401);
    let ledger = site.gateway.ledger();
    let noted = ledger.iter().any(|event| event.to_string().contains("\"logout\""));
    assert!(noted, "{:?}", ledger.last());
    // Once more, on a page that was open: it says the same.
    browser.goto(&format!("{APP}/.weir/logout"));
    browser.click("button");
    browser.expect_text("You are logged out");
    browser.goto(&format!("{OWN}/logout"));
    browser.expect_text("not signed in");
    // Nothing but what the other page tried.
    let violations = violations(&browser);
    assert!(!violations.is_empty());
    assert!(violations.iter().all(|line| line.starts_with("Framing 'https://weir.example/'")));
}

/// The target was told who asks, by the gateway and by nobody else.
fn vouched(site: &Site) {
    let seen = site.app.seen();
    let told = seen.lines().filter_map(|line| line.strip_prefix("x-weir-identity: "));
    let told = told.collect::<Vec<_>>();
    let keys = site.visitor().visit(&format!("{OWN}/.well-known/weir/jwks.json")).body;
    let keys = serde_json::from_str::<JwkSet>(&keys).unwrap();
    let mut right = Validation::new(Algorithm::ES256);
    right.set_audience(&["app"]);
    right.set_issuer(&[OWN]);
    assert!(!told.is_empty(), "{seen}");
    for one in told {
        let kid = jsonwebtoken::decode_header(one).unwrap().kid.unwrap();
        let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
        let claims = jsonwebtoken::decode::<Value>(one, &key, &right).unwrap().claims;
        assert_eq!((&claims["name"], &claims["entity"]), (&json!("alice"), &json!("acme-de")));
        let mut elsewhere = right.clone();
        elsewhere.set_audience(&["wiki"]);
        assert!(jsonwebtoken::decode::<Value>(one, &key, &elsewhere).is_err());
    }
}

/// A page of one target, in a browser that is signed in at all of them, acts at another, at the
/// gateway, and at its own host.
fn siblings(site: &Site, browser: &Browser) {
    site.app.shows(&format!(
        "<h1>Evil</h1><form method=post action='{WIKI}/api/articles/by-form'>\
         <button id=form>x</button></form><form method=post action='{WIKI}/.weir/logout'>\
         <button id=out>x</button></form><form method=post action='{OWN}/logout'>\
         <button id=own>x</button></form><iframe src='{OWN}/device' id=frame></iframe>"
    ));
    for (button, says) in [
        ("#form", "a page of another origin sent this request with your cookie"),
        ("#out", "a page of another origin sent this request with your cookie"),
        ("#own", "This did not come from a page of this gateway"),
    ] {
        browser.goto(&format!("{APP}/"));
        browser.click(button);
        browser.expect_text(says);
    }
    browser.goto(&format!("{APP}/"));
    let fetched = browser.eval(&format!(
        "(async () => {{ const all = [];\
         for (const [url, method] of [['{WIKI}/api/articles?by=fetch', 'GET'],\
           ['{WIKI}/api/articles/by-fetch', 'POST'], ['{OWN}/api/v1/whoami', 'GET']])\
           for (const mode of ['no-cors', 'cors'])\
             all.push(await fetch(url, {{method, mode, credentials: 'include'}})\
               .then((answer) => `${{answer.type}} ${{answer.status}}`, () => 'failed'));\
         const own = await fetch('/by-itself', {{method: 'POST', body: 'x'}});\
         return [all, own.status]; }})()"
    ));
    let [others, own] = [&fetched[0], &fetched[1]];
    for answer in others.as_array().unwrap() {
        assert!(["opaque 0", "failed"].contains(&answer.as_str().unwrap()), "{fetched}");
    }
    assert_eq!(own, &json!(200), "a host's own page may post");
    assert!(site.app.seen().contains("POST /by-itself"));
    for marker in ["by-form", "by=fetch", "by-fetch"] {
        assert_eq!(site.reached_wiki(marker), Vec::<String>::new());
    }
    // What the refusals of requests without a page look like to a program.
    assert_eq!(browser.goto(&format!("{WIKI}/")), 200, "still signed in");
    site.app.shows("<h1>The app</h1>");
}

#[test]
fn a_cookie_is_for_one_host_and_no_link_does_anything() {
    let site = Site::start();
    let alice = site.visitor();
    site.sign_in(&alice, WIKI, "alice");
    assert_eq!(alice.visit(&format!("{WIKI}/")).status, 200);
    let jar = alice.cookies();
    let of = |host: &str| {
        let lines = jar.lines().map(|line| line.trim_start_matches("#HttpOnly_"));
        let lines = lines.filter(|line| line.starts_with(&format!("{host}\t")));
        let mut own = lines.filter_map(|line| line.split_once("\t__Host-weir\t"));
        own.next().unwrap_or_else(|| panic!("{jar}")).1.to_owned()
    };
    let (wiki, own) = (of("wiki.weir.example"), of("weir.example"));
    let with =
        |url: &str, cookie: &str| site.visitor().ask(url, &["-H", &format!("Cookie: {cookie}")]);
    assert_eq!(with(&format!("{WIKI}/"), &format!("__Host-weir={wiki}")).status, 200);
    for (url, secret) in [
        (format!("{APP}/"), &wiki),
        (format!("{OWN}/api/v1/whoami"), &wiki),
        (format!("{OWN}/api/v1/whoami"), &own),
        (format!("{WIKI}/"), &own),
    ] {
        let page = with(&url, &format!("__Host-weir={secret}"));
        assert_eq!(page.status, 401, "{page:?}");
    }
    let page = with(&format!("{OWN}/logout"), &format!("__Host-weir={wiki}"));
    assert!(page.body.contains("not signed in"), "{page:?}");
    // A cookie is no bearer, two are none, and one that somebody made up is worth nothing.
    for secret in [&wiki, &own] {
        assert_eq!(site.whoami(secret).status, 401);
    }
    let twice = with(&format!("{WIKI}/"), &format!("__Host-weir={wiki}; __Host-weir={wiki}"));
    assert_eq!(twice.status, 400, "{twice:?}");
    let twice = with(&format!("{OWN}/logout"), &format!("__Host-weir={own}; __Host-weir={own}"));
    assert!(twice.body.contains("not signed in"), "{twice:?}");
    let fixed = format!("weir_b_{}", "A".repeat(43));
    let victim = site.visitor();
    let planted = format!("Cookie: __Host-weir={fixed}; __Host-weir-bind=planted");
    assert_eq!(victim.ask(&format!("{WIKI}/"), &["-H", &planted]).status, 401);
    site.sign_in(&victim, WIKI, "dana");
    assert!(!victim.cookies().contains(&fixed));
    assert_eq!(with(&format!("{WIKI}/"), &format!("__Host-weir={fixed}")).status, 401);
    // Programs are told so that they understand it, people so that they can read it.
    let program = whole(&site.visitor(), &format!("{WIKI}/"), &[]);
    assert_eq!(header(&program.body, "content-type"), Some("application/problem+json"));
    let delete =
        ["-X", "DELETE", "-H", "Accept: text/html", "-H", "Origin: https://wiki.weir.example"];
    let person = whole(&alice, &format!("{WIKI}/api/articles/1"), &delete);
    assert_eq!(person.status, 403, "{person:?}");
    assert!(person.body.contains("This is not allowed"), "{person:?}");
    framed_nowhere(&person);
    links(&site, &alice);
}

/// Looking at pages ends nothing, approves nothing and leads nowhere else.
fn links(site: &Site, alice: &Visitor) {
    for url in ["logout", ".weir/logout", "oauth/confirm?answer=approve"] {
        for host in [OWN, WIKI] {
            let _page = alice.ask(&format!("{host}/{url}"), &["-H", "Accept: text/html"]);
        }
    }
    assert_eq!(alice.visit(&format!("{WIKI}/")).status, 200);
    for host in [OWN, WIKI] {
        let at = if host == OWN { "logout" } else { ".weir/logout" };
        framed_nowhere(&whole(alice, &format!("{host}/{at}"), &[]));
        let foreign = post(alice, &format!("{host}/{at}"), APP, &[]);
        assert_eq!(foreign.status, 403, "{foreign:?}");
    }
    // Nobody is sent to another host than where they came from.
    let bind = "ab".repeat(32);
    for back in
        ["//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nSet-Cookie:a=b"]
    {
        let back = encoded(back);
        for url in [
            format!("{OWN}/login?target=wiki&bind={bind}&return={back}"),
            format!("{OWN}/signin?return={back}"),
        ] {
            let page = whole(alice, &url, &[]);
            assert!(page.status == 400 && page.location.is_none(), "{page:?}");
            assert!(header(&page.body, "set-cookie").is_none(), "{page:?}");
        }
    }
    let target = encoded("<script>alert(1)</script>");
    let page = alice.visit(&format!("{OWN}/login?target={target}&bind={bind}&return=/"));
    assert!(page.status == 400 && !page.body.contains("<script"), "{page:?}");
    let nobody = site.visitor();
    let way = nobody.ask(&format!("{WIKI}//evil.example/"), &["-H", "Accept: text/html"]);
    assert_eq!(member(way.location.as_deref().unwrap(), "return").as_deref(), Some("/"));
    // What a provider says is text.
    let begun = nobody.visit(&format!("{OWN}/signin?return=/logout"));
    let state = member(begun.location.as_deref().unwrap(), "state").unwrap();
    let evil = encoded("<script>alert('x')</script>\r\n<img src=x>");
    let issuer = encoded(&site.idp.issuer());
    let said =
        format!("state={}&iss={issuer}&error={evil}&error_description={evil}", encoded(&state));
    let page = nobody.visit(&format!("{OWN}/oauth/callback?{said}"));
    assert_eq!(page.status, 403, "{page:?}");
    assert!(page.body.contains("&lt;script&gt;"), "{page:?}");
    assert!(!page.body.contains("<script") && !page.body.contains("<img"), "{page:?}");
}

/// A page that runs nothing, and that no other page can show.
fn framed_nowhere(page: &Page) {
    let policy =
        header(&page.body, "content-security-policy").unwrap_or_else(|| panic!("{page:?}"));
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert_eq!(header(&page.body, "x-frame-options"), Some("DENY"), "{page:?}");
    assert_eq!(header(&page.body, "cache-control"), Some("no-store"), "{page:?}");
    assert!(!page.body.contains("<script"), "{page:?}");
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn what_the_provider_says_holds_for_browsers_and_programs() {
    let mut site = Site::start();
    let alice = site.visitor();
    site.sign_in(&alice, WIKI, "alice");
    let tokens = site.program_login(&alice, "alice");
    let secret = |tokens: &Value, name: &str| {
        tokens[name].as_str().unwrap_or_else(|| panic!("{tokens}")).to_owned()
    };
    let session = secret(&tokens, "access_token");
    // Groups that changed are seen at the next renewal.
    let roles = |session: &str| {
        let who = serde_json::from_str::<Value>(&site.whoami(session).body).unwrap();
        who["principal"]["roles"].clone()
    };
    assert_eq!(roles(&session), json!(["engineer"]));
    site.idp.set_account("alice", &json!({ "groups": ["engineer", "dba"] }));
    site.idp.rotate();
    let renew =
        |secret: &str| site.token(&[("grant_type", "refresh_token"), ("refresh_token", secret)]);
    let renewed = renew(&secret(&tokens, "refresh_token"));
    assert_eq!(roles(&secret(&renewed, "access_token")), json!(["dba", "engineer"]), "{renewed}");
    // A logout there ends all that came of it here, that of others goes on.
    let (olaf, live) = (site.visitor(), secret(&renewed, "access_token"));
    site.sign_in(&olaf, WIKI, "olaf");
    let mut psql = Live::of(site.psql(&live));
    let told = site.idp.end_session("alice");
    assert_eq!(told["told"], json!(["gateway"]), "{told}");
    psql.say("SELECT 'still in';");
    psql.wait("FATAL");
    let ran = psql.finish();
    assert!(!ran.says("still in") && ran.says("identity provider"), "{ran:?}");
    assert_eq!(alice.visit(&format!("{WIKI}/")).status, 401);
    assert_eq!(site.whoami(&live).status, 401);
    assert_eq!(olaf.visit(&format!("{WIKI}/")).status, 200);
    // Somebody who is removed there is out at the next renewal, and cannot come back.
    let dana = site.visitor();
    let tokens = site.program_login(&dana, "dana");
    site.idp.remove_account("dana");
    let refused = renew(&secret(&tokens, "refresh_token"));
    assert_eq!(refused["error"], "invalid_grant", "{refused}");
    assert_eq!(site.whoami(&secret(&tokens, "access_token")).status, 401);
    let again = dana.ask(&format!("{WIKI}/"), &["-H", "Accept: text/html"]);
    assert!(
        again
            .location
            .as_deref()
            .unwrap_or_else(|| panic!("{again:?}"))
            .starts_with(&format!("{OWN}/login?"))
    );
    // It goes: who is in stays in, and who would sign in is told whose fault it is.
    let mei = site.visitor();
    let callback = format!("{OWN}/oauth/callback");
    let callback = idp::sign_in(&mei, &format!("{OWN}/signin"), "mei", &callback);
    site.idp.down();
    assert_eq!(olaf.visit(&format!("{WIKI}/")).status, 200);
    let page = mei.visit(&callback);
    assert_eq!(page.status, 502, "{page:?}");
    assert!(page.body.contains("identity provider cannot be reached"), "{page:?}");
    assert!(page.body.contains("neither your fault nor the gateway"), "{page:?}");
    site.idp.up();
    let tokens = site.program_login(&site.visitor(), "mei");
    assert_eq!(tokens["principal"], "mei", "{tokens}");
}

#[test]
fn two_providers_are_a_choice_and_each_signs_in() {
    let site = Site::start_with_two();
    let browser = site.browser();
    browser.goto(&format!("{WIKI}/api/articles"));
    browser.expect_text("Where do you sign in?");
    browser.expect_text("contractors");
    browser.click("text=acme");
    browser.sign_in("alice");
    browser.expect_text("How to reach the warehouse");
    assert_eq!(violations(&browser), Vec::<String>::new());
    // The other one's pages need scripts; what they do is done without.
    let dana = site.visitor();
    let choice = dana.visit(&authorize("Laptop"));
    let idp2 = site.idp2.as_ref().unwrap();
    let link = choice.body.split("<a href=\"").find(|link| link.contains("contractors")).unwrap();
    let link = link.split('"').next().unwrap().replace("&amp;", "&");
    let confirm = format!("{OWN}/oauth/confirm");
    let confirm = idp2.sign_in(&dana, &format!("{OWN}{link}"), "dana", &confirm);
    let page = dana.visit(&confirm);
    assert!(page.body.contains(&idp2.issuer()), "{page:?}");
    let tokens = site.confirmed(&dana, page);
    let renewed = site.token(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
    ]);
    let who = site.whoami(renewed["access_token"].as_str().unwrap_or_else(|| panic!("{renewed}")));
    let who = serde_json::from_str::<Value>(&who.body).unwrap();
    assert_eq!(who["principal"]["issuer"], json!(idp2.issuer()), "{who}");
    // The same provider for a code that was typed: a choice again, and no policy in its way.
    browser.new_context(&json!({}));
    browser.goto(&format!("{OWN}/device"));
    browser.fill("input[name=code]", "BBBB-BBBB");
    browser.click("button");
    browser.expect_text("code");
    assert_eq!(violations(&browser), Vec::<String>::new());
}

#[test]
fn a_thousand_log_in_at_once() {
    let mut site = Site::start_changed(&[]);
    let dir = tempfile::tempdir().unwrap();
    let tokens = (0..PEOPLE).map(|person| {
        site.idp.made(&json!({ "claims": {
            "aud": "gateway", "sub": format!("u{person}"), "preferred_username": format!("u{person}"),
            "company": "acme-de", "groups": ["engineer"],
        } }))
    });
    let tokens = tokens.collect::<Vec<_>>();
    let all = dir.path().join("all");
    let mut file = fs::File::create(&all).unwrap();
    let place = format!("weir.example:443:127.0.0.1:{}", site.gateway.port());
    for login in 0..LOGINS {
        writeln!(
            file,
            "{}url = \"{OWN}/oauth/token\"\nconnect-to = \"{place}\"\ncacert = \"{}\"\n\
             data = \"grant_type=urn:ietf:params:oauth:grant-type:token-exchange\"\n\
             data = \"subject_token={}\"\nmax-time = 60\n\
             output = \"/dev/null\"\nwrite-out = \"%{{http_code}} %header{{retry-after}}\\n\"",
            if login == 0 { "" } else { "next\n" },
            Demo::shared().ca_file(),
            tokens[login % PEOPLE],
        )
        .unwrap();
    }
    drop(file);
    let mut curl = Command::new(parts::program("curl"));
    curl.args(["-s", "--parallel", "--parallel-immediate", "--parallel-max", "300", "--config"]);
    let ran = Ran::of(&curl.arg(&all).output().unwrap());
    let answers = ran.out.lines().map(str::trim).collect::<Vec<_>>();
    assert_eq!(answers.len(), LOGINS, "{}", ran.err);
    for answer in &answers {
        let waits = answer
            .split_once(' ')
            .is_some_and(|(status, after)| ["429", "503"].contains(&status) && !after.is_empty());
        assert!(*answer == "200" || waits, "{answer}: {}", ran.err);
    }
    let good = answers.iter().filter(|answer| **answer == "200").count();
    assert!(good * 2 > LOGINS, "only {good} came in");
    assert!(site.gateway.lives());
    let one = site.token(&[
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        (
            "subject_token",
            &site.idp.made(&json!({ "sub": "alice", "claims": { "aud": "gateway" } })),
        ),
    ]);
    assert_eq!(one["principal"], "alice", "{one}");
}
