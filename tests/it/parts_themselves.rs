//! The parts that tests are made of: each starts and answers, and does what tests rely on.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::browser::Browser;
use crate::demo::Demo;
use crate::demo::PATIENCE_S;
use crate::demo::Ran;
use crate::idp::Idp;
use crate::idp::Idp2;
use crate::idp::sign_in;
use crate::parts;
use crate::psql18::LoggingIn;
use crate::psql18::psql18;
use crate::visitor::Visitor;
use crate::visitor::claims_of;
use crate::visitor::member;

/// The pair of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const CALLBACK: &str = "http://127.0.0.1:9/callback";

/// Where a client sends somebody to sign in.
fn authorize(endpoint: &str, client: &str, redirect_uri: &str, more: &str) -> String {
    format!(
        "{endpoint}?client_id={client}&response_type=code&redirect_uri={redirect_uri}&state=s&nonce=n\
         &code_challenge={CHALLENGE}&code_challenge_method=S256{more}"
    )
}

/// Asks for tokens; the answer, whatever it is.
fn tokens(endpoint: &str, client: (&str, &str), members: &[(&str, &str)]) -> Value {
    let credential = format!("{}:{}", client.0, client.1.replace(' ', "+").replace(',', "%2C"));
    let page = Visitor::new(&["--user", &credential]).send(endpoint, members);
    serde_json::from_str(&page.body).unwrap_or(Value::Null)
}

/// A client of the certified provider.
struct Client<'a>(&'a Idp);

impl Client<'_> {
    fn endpoint(&self, name: &str) -> String {
        format!("{}/{name}", self.0.issuer())
    }

    fn tokens(&self, members: &[(&str, &str)]) -> Value {
        tokens(&self.endpoint("token"), (self.0.client_id(), self.0.client_secret()), members)
    }

    fn signed_in(&self, visitor: &Visitor, user: &str, more: &str) -> Value {
        let url = authorize(&self.endpoint("auth"), self.0.client_id(), CALLBACK, more);
        self.exchanged(&sign_in(visitor, &url, user, CALLBACK))
    }

    fn exchanged(&self, arrived: &str) -> Value {
        let code = member(arrived, "code").unwrap_or_else(|| panic!("{arrived}"));
        self.tokens(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("code_verifier", VERIFIER),
            ("redirect_uri", CALLBACK),
        ])
    }

    fn refreshed(&self, tokens: &Value) -> Value {
        let refresh = tokens["refresh_token"].as_str().unwrap_or_else(|| panic!("{tokens}"));
        self.tokens(&[("grant_type", "refresh_token"), ("refresh_token", refresh)])
    }
}

fn id_token(tokens: &Value) -> Value {
    claims_of(tokens["id_token"].as_str().unwrap_or_else(|| panic!("{tokens}")))
}

const OPENID: &str = "&scope=openid";
const OFFLINE: &str = "&scope=openid+offline_access&prompt=consent";

#[test]
fn the_certified_provider_signs_in_and_refreshes_until_the_account_is_gone() {
    let idp = Idp::start(&[CALLBACK]);
    let client = Client(&idp);
    let first = client.signed_in(&Visitor::new(&[]), "alice", OFFLINE);
    let claims = id_token(&first);
    assert_eq!(claims["iss"], idp.issuer().as_str());
    assert_eq!((&claims["sub"], &claims["aud"]), (&json!("alice"), &json!(Idp::CLIENT)));
    assert_eq!(claims["preferred_username"], "alice");
    assert_eq!((&claims["company"], &claims["country"]), (&json!("acme-de"), &json!("DE")));
    assert_eq!(claims["groups"], json!(["engineer"]));
    assert_eq!((&claims["acr"], &claims["amr"]), (&json!("pwd"), &json!(["pwd"])));
    assert!(claims["auth_time"].is_u64() && claims["nonce"] == "n", "{claims}");

    idp.set_account("alice", &json!({ "groups": ["dba"], "company": null }));
    let second = client.refreshed(&first);
    let claims = id_token(&second);
    assert_eq!(claims["groups"], json!(["dba"]));
    assert_eq!(claims.get("company"), None);

    idp.remove_account("alice");
    assert_eq!(client.refreshed(&second)["error"], "invalid_grant");
    idp.set_account("alice", &json!({}));
    let third = client.signed_in(&Visitor::new(&[]), "alice", OFFLINE);
    let fourth = client.refreshed(&third);
    assert_eq!(client.refreshed(&third)["error"], "invalid_grant", "one that was used");
    assert_eq!(client.refreshed(&fourth)["error"], "invalid_grant", "and all that came of it");
}

#[test]
fn the_certified_provider_refuses_what_a_client_must_not_do() {
    let idp = Idp::start(&[CALLBACK]);
    let client = Client(&idp);
    let visitor = Visitor::new(&[]);
    let url = authorize(&client.endpoint("auth"), Idp::CLIENT, CALLBACK, OPENID);
    let plain = url.replace(&format!("&code_challenge={CHALLENGE}&code_challenge_method=S256"), "");
    assert_eq!(
        member(&sign_in(&visitor, &plain, "alice", CALLBACK), "error").unwrap(),
        "invalid_request"
    );
    let elsewhere =
        authorize(&client.endpoint("auth"), Idp::CLIENT, "http://127.0.0.1:9/other", OPENID);
    assert_eq!(visitor.visit(&elsewhere).status, 400);
    // A code is for its client, its verifier, and for once.
    let arrived = sign_in(&visitor, &url, "alice", CALLBACK);
    let code = member(&arrived, "code").unwrap();
    let mut members = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("code_verifier", "another-verifier-that-is-long-enough-for-the-rule"),
        ("redirect_uri", CALLBACK),
    ];
    assert_eq!(client.tokens(&members)["error"], "invalid_grant");
    members[2].1 = VERIFIER;
    let other = (Idp::OTHER_CLIENT, idp.client_secret());
    assert_eq!(tokens(&client.endpoint("token"), other, &members)["error"], "invalid_grant");
    let wrong = (Idp::CLIENT, "wrong");
    assert_eq!(tokens(&client.endpoint("token"), wrong, &members)["error"], "invalid_client");
}

#[test]
fn the_certified_provider_signs_in_as_well_as_it_is_asked_and_people_can() {
    let idp = Idp::start(&[CALLBACK]);
    let client = Client(&idp);
    let visitor = Visitor::new(&[]);
    let weak = id_token(&client.signed_in(&visitor, "alice", OPENID));
    assert_eq!(weak["acr"], "pwd");
    // Who is signed in is not asked again, unless it is asked for: by `acr_values`, `max_age` or
    // `prompt`.
    let url = |more: &str| authorize(&client.endpoint("auth"), Idp::CLIENT, CALLBACK, more);
    let silent = |more: &str| visitor.follow(visitor.visit(&url(more)), CALLBACK);
    assert!(silent(OPENID).is_ok());
    for more in ["&acr_values=mfa", "&max_age=0", "&prompt=login"] {
        let asked = silent(&format!("{OPENID}{more}")).unwrap_err();
        assert_eq!(asked.hidden("prompt").unwrap(), "login", "{more}");
    }
    let strong = id_token(&client.signed_in(&visitor, "alice", "&scope=openid&acr_values=mfa"));
    assert_eq!((&strong["acr"], &strong["amr"]), (&json!("mfa"), &json!(["pwd", "otp", "mfa"])));
    // Somebody without a second factor is signed in less well than was asked for.
    idp.set_account("dana", &json!({ "_acr_max": "pwd" }));
    let dana = client.signed_in(&Visitor::new(&[]), "dana", "&scope=openid&acr_values=phr");
    assert_eq!(id_token(&dana)["acr"], "pwd");
    // Who is refused, or cancels, comes back without a code.
    let page = Visitor::new(&[]);
    let form = page.follow(page.visit(&url(OPENID)), CALLBACK).unwrap_err();
    let wrong = page.submit(&form, &[("login", "alice"), ("password", "wrong")]);
    assert_eq!(wrong.status, 401);
    let back = page.follow(page.visit(&format!("{}/abort", form.url)), CALLBACK).unwrap();
    assert_eq!(member(&back, "error").unwrap(), "access_denied");
}

#[test]
fn the_certified_provider_tells_of_logouts_rotates_keys_hangs_and_goes() {
    let (told, port) = listen(|stream, told| {
        let request = http_request(stream);
        let _test_is_over = told.send(request);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let mut idp = Idp::start(&[CALLBACK]);
    idp.register(Idp::CLIENT, &[CALLBACK], Some(&format!("http://gw.localhost:{port}/logout")));
    let visitor = Visitor::new(&[]);
    let tokens = Client(&idp).signed_in(&visitor, "alice", OFFLINE);
    let sid = id_token(&tokens)["sid"].clone();
    assert!(sid.is_string());
    let ended = idp.end_session("alice");
    assert_eq!(ended, json!({ "sessions": 1, "told": [Idp::CLIENT], "failed": [] }));
    let request = told.recv_timeout(Duration::from_secs(PATIENCE_S)).unwrap();
    let order = claims_of(request.split_once("logout_token=").unwrap().1);
    assert_eq!((&order["sub"], &order["sid"]), (&json!("alice"), &sid));
    assert!(order["events"]["http://schemas.openid.net/event/backchannel-logout"].is_object());
    // They must sign in again; what they got before goes on, which is why clients are told.
    assert!(Client(&idp).refreshed(&tokens)["id_token"].is_string());
    assert_eq!(idp.end_session("alice")["sessions"], 0);

    // Over TLS too, if it trusts who is called: the demo's gateway answers, though not gladly.
    let demo = Demo::shared();
    idp.register(Idp::CLIENT, &[CALLBACK], Some(&format!("{}/nowhere", demo.text("/api"))));
    let failed_by = |reason: &str| {
        Client(&idp).signed_in(&Visitor::new(&[]), "alice", OPENID);
        let ended = idp.end_session("alice");
        assert!(ended["failed"][0].as_str().unwrap().contains(reason), "{ended} {}", idp.log());
    };
    failed_by("certificate");
    idp.trust(demo.ca_file());
    failed_by("expected 200 OK");

    let keys = || Visitor::new(&[]).visit(&Client(&idp).endpoint("jwks")).body;
    let old = keys();
    idp.rotate();
    assert_ne!(keys(), old);
    let made = idp.made(&json!({ "sub": "mei", "claims": { "aud": Idp::CLIENT, "exp": null } }));
    assert_eq!(
        (&claims_of(&made)["company"], claims_of(&made).get("exp")),
        (&json!("acme-sg"), None)
    );

    let asks = |patience: &str| {
        let mut curl = Command::new(parts::program("curl"));
        curl.args(["-sS", "--max-time", patience]).arg(Client(&idp).endpoint("jwks"));
        curl.output().unwrap().status.code().unwrap()
    };
    idp.stop();
    assert_eq!(asks("1"), 28, "curl's word for: no answer in time");
    idp.resume();
    assert_eq!(asks("30"), 0);
    let url = Client(&idp).endpoint("jwks");
    idp.down();
    let mut curl = Command::new(parts::program("curl"));
    assert_eq!(curl.arg("-sS").arg(&url).output().unwrap().status.code(), Some(7), "refused");
    idp.up();
    assert_eq!(Visitor::new(&[]).visit(&url).status, 200);
}

#[test]
fn the_provider_of_another_make_signs_in_and_refreshes() {
    let idp = Idp2::start(&[CALLBACK]);
    let known =
        Visitor::new(&[]).visit(&format!("{}/.well-known/openid-configuration", idp.issuer()));
    let known = serde_json::from_str::<Value>(&known.body).unwrap();
    let place = |name: &str| known[name].as_str().unwrap_or_else(|| panic!("no {name}: {known}"));
    assert_eq!(place("issuer"), idp.issuer());
    let keys = Visitor::new(&[]).visit(place("jwks_uri")).body;
    assert!(keys.contains("\"RSA\"") && !keys.contains("\"d\""), "{keys}");
    let url = authorize(place("authorization_endpoint"), idp.client_id(), CALLBACK, OPENID);
    let visitor = Visitor::new(&[]);
    let code = member(&idp.sign_in(&visitor, &url, "dana", CALLBACK), "code").unwrap();
    let client = (idp.client_id(), idp.client_secret());
    let signed_in = tokens(
        place("token_endpoint"),
        client,
        &[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("code_verifier", VERIFIER),
            ("redirect_uri", CALLBACK),
        ],
    );
    let claims = id_token(&signed_in);
    assert_eq!((&claims["name"], &claims["aud"]), (&json!("dana"), &json!("gateway")));
    assert_eq!(claims["groups"], json!(["dba", "approver"]));
    let refresh = signed_in["refresh_token"].as_str().unwrap();
    let again = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let refreshed = tokens(place("token_endpoint"), client, &again);
    assert!(
        refreshed["access_token"].is_string() && refreshed["id_token"].is_null(),
        "{refreshed}"
    );
}

#[test]
fn psql_18_shows_a_code_and_brings_a_token_when_it_was_entered() {
    let ran = Ran::of(&psql18().arg("--version").output().unwrap());
    assert!(ran.out.contains("(PostgreSQL) 18."), "{ran:?}");
    let idp = Idp::start(&[CALLBACK]);
    let issuer = idp.issuer();
    let offered = issuer.clone();
    let (_told, port) = listen(move |stream, _| offer_oauth(stream, &offered));
    let conninfo = format!(
        "host=127.0.0.1 port={port} user=alice dbname=d sslmode=disable oauth_issuer={issuer} \
         oauth_client_id=weir oauth_scope=openid"
    );
    let psql = LoggingIn::start(&conninfo, None, "SELECT 1");
    assert_eq!(psql.url, format!("{issuer}/device"));
    // Whoever enters the code, confirms it and signs in, gives psql a token.
    let visitor = Visitor::new(&[]);
    let mut page = visitor.submit(&visitor.visit(&psql.url), &[("user_code", &psql.code)]);
    assert!(page.body.contains(&psql.code), "{page:?}");
    while page.hidden("prompt").is_some() || page.hidden("confirm").is_some() {
        let filled = [("login", "alice"), ("password", "any")];
        page = visitor.follow(visitor.submit(&page, &filled), "never:").unwrap_err();
    }
    assert!(visitor.cookies().contains("_session") && page.status == 200, "{page:?}");
    let ran = psql.finish();
    assert!(ran.code == 2 && ran.err.contains("a token was brought"), "{ran:?}");
}

#[test]
fn the_browser_signs_in_and_trusts_whom_it_was_told_to() {
    let demo = Demo::shared();
    let (told, port) = listen(|stream, told| {
        let _test_is_over = told.send(http_request(stream));
        let page = "<title>t</title><h1>Arrived</h1><script>console.error('said')</script>";
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: c=1; HttpOnly\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{page}",
            page.len()
        );
        let _was_opened_for_nothing = stream.write_all(answer.as_bytes());
    });
    let callback = format!("http://wiki.localhost:{port}/callback");
    let idp = Idp::start(&[&callback]);
    let browser =
        Browser::start(&[demo.ca_file()], &[("wiki.weir.example", &format!("127.0.0.1:{port}"))]);
    browser.goto(&authorize(&Client(&idp).endpoint("auth"), Idp::CLIENT, &callback, OFFLINE));
    browser.sign_in("alice");
    let arrived = browser.expect_url(&callback);
    assert!(member(&arrived, "code").is_some(), "{arrived}");
    browser.expect_text("Arrived");
    assert_eq!(browser.eval("document.title"), "t");
    assert!(browser.console().to_string().contains("said"));
    let picture = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
    browser.screenshot(picture.path());
    assert!(picture.as_file().metadata().unwrap().len() > 1000);
    let cookies = browser.cookies();
    assert!(
        cookies.iter().any(|c| c["name"] == "c" && c["domain"] == "wiki.localhost"),
        "{cookies:?}"
    );
    browser.new_context(&Value::Null);
    assert_eq!(browser.cookies(), Vec::<Value>::new());
    assert_eq!(browser.goto("http://wiki.weir.example/"), 200);
    browser.headers(&json!({ "X-Extra": "along" }));
    assert_eq!(browser.eval("fetch('/').then((answer) => answer.status)"), 200);
    assert_eq!(browser.url(), "http://wiki.weir.example/");
    assert!(told.try_iter().last().unwrap().to_lowercase().contains("x-extra: along"));
    // The gateway's certificate is that CA's.
    browser.goto(demo.text("/api"));
    let nobody = browser.try_step(&json!({ "do": "goto", "url": "http://example.com/" }));
    assert!(nobody.unwrap_err().to_string().contains("ERR_NAME_NOT_RESOLVED"));
    let stranger = Browser::start(&[], &[]);
    let refused =
        stranger.try_step(&json!({ "do": "goto", "url": demo.text("/api") })).unwrap_err();
    assert!(refused["error"].as_str().unwrap().contains("ERR_CERT_AUTHORITY_INVALID"), "{refused}");
}

#[test]
fn a_keyring_keeps_a_secret_without_a_desktop() {
    let home = tempfile::Builder::new().prefix("weir-keyring-").tempdir().unwrap();
    let script = "printf %s unlocking | gnome-keyring-daemon --unlock --components=secrets >&2
        printf %s kept | secret-tool store --label=test program weir-test
        secret-tool lookup program weir-test";
    let mut run = Command::new(parts::program("dbus-run-session"));
    run.args(["--", "sh", "-ec", script]).env("HOME", home.path()).env_remove("XDG_DATA_HOME");
    let ran = Ran::of(&run.env("XDG_RUNTIME_DIR", home.path()).output().unwrap());
    assert_eq!((ran.code, ran.out.as_str()), (0, "kept"), "{ran:?}");
}

// --- Peers ---------------------------------------------------------------------------------------

/// Listens on a port, and answers every connection in turn; what `answer` tells, and the port.
fn listen(
    answer: impl Fn(&mut TcpStream, &mpsc::Sender<String>) + Send + 'static,
) -> (mpsc::Receiver<String>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, hears) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(&mut stream.unwrap(), &told);
        }
    });
    (hears, port)
}

/// Reads an HTTP request with its body; empty if the connection was opened for nothing.
fn http_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return String::new();
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        text.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    text + &String::from_utf8(body).unwrap()
}

/// A Postgres server that takes nothing but OAuth: it says where to get a token, and goes no
/// further when it is given one.
fn offer_oauth(stream: &mut TcpStream, issuer: &str) {
    let message = |stream: &mut TcpStream, kind: u8, body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap();
        stream.write_all(&[&[kind][..], &length.to_be_bytes(), body].concat()).unwrap();
    };
    let receive = |stream: &mut TcpStream| {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
        stream.read_exact(&mut body).unwrap();
        String::from_utf8_lossy(&body).into_owned()
    };
    let _startup = receive(stream);
    // AuthenticationSASL; and to no token, RFC 7628's answer in AuthenticationSASLContinue.
    message(stream, b'R', b"\0\0\0\x0aOAUTHBEARER\0\0");
    let mut kind = [0];
    stream.read_exact(&mut kind).unwrap();
    if receive(stream).contains("auth=Bearer ") {
        return message(stream, b'E', b"SFATAL\0C28000\0Ma token was brought\0\0");
    }
    let known = format!("{issuer}/.well-known/openid-configuration");
    let told =
        json!({ "status": "invalid_token", "openid-configuration": known, "scope": "openid" });
    message(stream, b'R', &[b"\0\0\0\x0b", told.to_string().as_bytes()].concat());
    stream.read_exact(&mut kind).unwrap();
    let _end_of_exchange = receive(stream);
    message(stream, b'E', b"SFATAL\0C28000\0Mno token\0\0");
}
