//! Signing in through the gateway at providers, as people's browsers do it, and what providers do
//! to logins afterwards: codes on other devices, logouts, changes, trouble, stepping up.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;
use serde_json::json;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::wait_for;
use crate::gateway::Gateway;
use crate::gateway::Prepared;
use crate::idp::Idp;
use crate::idp::sign_in;
use crate::logged_in::Kept;
use crate::logged_in::LoggedIn;
use crate::logged_in::Ssh;
use crate::logged_in::ended;
use crate::logged_in::form;
use crate::logged_in::is_refused;
use crate::logged_in::psql;
use crate::logged_in::sleeps;
use crate::parts;
use crate::psql18::LoggingIn;
use crate::site::post;
use crate::visitor::Page;
use crate::visitor::Visitor;
use crate::visitor::member;

/// The pair of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const PROGRAM: &str = "http://127.0.0.1:9/callback";
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

fn visitor() -> Visitor {
    Visitor::new(&["--ipv4", "--cacert", Demo::shared().ca_file()])
}

// --- Codes on other devices ----------------------------------------------------------------------

/// Types a code at the gateway and signs in at the demo's provider; the page that asks.
fn typed(visitor: &Visitor, url: &str, code: &str, person: &str) -> Page {
    let page = visitor.submit(&visitor.visit(url), &[("code", code)]);
    assert!(page.location.is_some(), "the code is not taken: {page:?}");
    let page = visitor.follow(page, "never:").unwrap_err();
    let page = visitor.submit(&page, &[("person", person)]);
    visitor.follow(page, "never:").unwrap_err()
}

/// Begins a device grant: what the device shows, and how it asks.
struct Device(u16, Value);

impl Device {
    fn begin(port: u16, label: &str) -> Self {
        let asked = [("client_id", "toaster"), ("device", label), ("scope", "control http")];
        let said = form(port, "/oauth/device_authorization", &asked).ok();
        assert!(!said["verification_uri"].as_str().unwrap().contains("code="), "{said}");
        Self(port, said)
    }

    fn text(&self, member: &str) -> &str {
        self.1[member].as_str().unwrap()
    }

    fn poll(&self) -> Value {
        let code = self.text("device_code");
        let asked = [("grant_type", DEVICE), ("client_id", "toaster"), ("device_code", code)];
        form(self.0, "/oauth/token", &asked).json()
    }

    fn type_as(&self, visitor: &Visitor, person: &str) -> Page {
        typed(visitor, self.text("verification_uri_complete"), self.text("user_code"), person)
    }
}

#[test]
fn a_device_waits_until_somebody_who_is_told_who_asks_says_yes() {
    let port = Demo::shared().port();
    let device = Device::begin(port, "the kitchen's toaster");
    assert_eq!(device.poll()["error"], "authorization_pending");
    assert_eq!(device.poll()["error"], "slow_down");
    let alice = visitor();
    let page = device.type_as(&alice, "alice");
    for told in ["alice", "toaster", "the kitchen&#39;s toaster", "127.0.0.1", "DE"] {
        let plain = page.body.replace("&#x27;", "&#39;");
        assert!(plain.contains(told), "{told}: {page:?}");
    }
    // Looking changes nothing, and neither does a link.
    let looked = alice.visit(&format!("{}&answer=approve", page.url));
    assert_eq!(looked.status, 200);
    assert!(device.poll()["error"].is_string());
    // Nor another browser, nor another site.
    let csrf = page.hidden("csrf").unwrap();
    let id = page.hidden("ask").unwrap();
    let confirm = format!("https://localhost:{port}/oauth/confirm");
    let answer = [("ask", id.as_str()), ("csrf", csrf.as_str()), ("answer", "approve")];
    assert_ne!(
        post(&visitor(), &confirm, &format!("https://localhost:{port}"), &answer).status,
        200
    );
    let own = format!("https://localhost:{port}");
    let guessed = [answer[0], ("csrf", "x"), answer[2]];
    assert_eq!(post(&alice, &confirm, &own, &guessed).status, 403);
    assert_eq!(post(&alice, &confirm, "https://wiki.localhost", &answer).status, 403);
    assert!(device.poll()["error"].is_string());
    let done = alice.submit(&page, &[]);
    assert!(done.status == 200 && done.body.contains("It is signed in"), "{done:?}");
    assert_ne!(alice.submit(&page, &[]).status, 200, "an answer counts once");
    let said = device.poll();
    let toaster = LoggedIn { port, said };
    assert_eq!(toaster.wiki().status, 200);
    is_refused(&toaster.psql("alice", "SELECT 1"));
    // The code counts once, for its device and for whoever types it.
    assert_eq!(device.poll()["error"], "invalid_grant");
    let again = alice.visit(device.text("verification_uri_complete"));
    let again = alice.submit(&again, &[("code", device.text("user_code"))]);
    assert!(again.status == 404 && again.location.is_none(), "{again:?}");
    let listed = toaster.api("/api/v1/credentials").ok();
    let labels =
        listed.as_array().unwrap().iter().map(|row| row["login"]["device"]["label"].clone());
    assert!(labels.clone().any(|label| label == "the kitchen's toaster"), "{listed}");
}

#[test]
fn a_device_is_turned_away_when_it_was_somebody_else_who_asked() {
    let port = Demo::shared().port();
    let device = Device::begin(port, "<b>IT support</b>");
    let alice = visitor();
    let page = device.type_as(&alice, "alice");
    assert!(!page.body.contains("<b>IT"), "{page:?}");
    let done = alice.submit(&page, &[("answer", "decline")]);
    assert!(done.body.contains("turned away"), "{done:?}");
    assert_eq!(device.poll()["error"], "access_denied");
    // A code that nobody waits under leads nowhere, and not to a provider.
    let form_page = alice.visit(&format!("https://localhost:{port}/device"));
    let wrong = alice.submit(&form_page, &[("code", "WRNG-CODE")]);
    assert!(wrong.status == 404 && wrong.location.is_none(), "{wrong:?}");
    // A device's secret is its client's.
    let other = Device::begin(port, "a phone");
    let code = other.text("device_code");
    let asked = [("grant_type", DEVICE), ("client_id", "thief"), ("device_code", code)];
    assert_eq!(form(port, "/oauth/token", &asked).json()["error"], "invalid_grant");
}

#[test]
fn psql_18_signs_in_with_nothing_installed() {
    let demo = Demo::shared();
    let port = demo.port();
    let conninfo = format!(
        "host=localhost hostaddr=127.0.0.1 port={port} user=alice dbname=customers \
         sslmode=verify-full sslrootcert={ca} oauth_issuer=https://localhost:{port} \
         oauth_client_id=psql options='-c weir.auth=oauth'",
        ca = demo.ca_file(),
    );
    let sql = "SELECT name, email FROM customers WHERE id = 1";
    let waiting = LoggingIn::start(&conninfo, Some(demo.ca_file()), sql);
    assert_eq!(waiting.url, format!("https://localhost:{port}/device"));
    let alice = visitor();
    let page = typed(&alice, &waiting.url, &waiting.code, "alice");
    assert!(page.body.contains("psql"), "{page:?}");
    let done = alice.submit(&page, &[]);
    assert!(done.body.contains("It is signed in"), "{done:?}");
    let ran = waiting.finish();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.ends_with("|<masked:pii.email>\n"), "{ran:?}");
}

// --- A gateway and its provider ------------------------------------------------------------------

/// A gateway whose provider is the certified one.
pub struct Site {
    /// The provider.
    pub idp: Idp,
    /// The gateway.
    pub gateway: Gateway,
}

impl Site {
    /// Starts both, after a change of the configuration.
    pub fn start(change: impl FnOnce(&mut Prepared)) -> Self {
        let idp = Idp::start(&[]);
        let mut prepared = Prepared::new();
        // Its provider has to know where it is.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        prepared.change("\"127.0.0.1:0\"", &format!("\"127.0.0.1:{port}\""));
        let issuer = Demo::shared().text("/issuer");
        prepared.change(&format!("\"{issuer}\""), &format!("\"{}\"", idp.issuer()));
        let client =
            "audience = [\"gateway\"]\nconsent = true\nclient_secret = { file = \"oidc.secret\" }";
        prepared.change("audience = [\"weir\"]", client);
        fs::write(prepared.path("oidc.secret"), idp.client_secret()).unwrap();
        change(&mut prepared);
        let gateway = prepared.start();
        assert_eq!(gateway.port(), port);
        let at = |path: &str| format!("https://localhost:{port}/oauth/{path}");
        idp.register(Idp::CLIENT, &[&at("callback")], Some(&at("backchannel_logout")));
        idp.trust(Demo::shared().ca_file());
        Self { idp, gateway }
    }

    /// The gateway's port.
    pub fn port(&self) -> u16 {
        self.gateway.port()
    }

    /// Signs in for a program, until it has its code; `more` goes along with what it asks.
    fn code(&self, person: &str, more: &str) -> String {
        let (port, visitor) = (self.port(), visitor());
        let url = format!(
            "https://localhost:{port}/oauth/authorize?client_id=weir-cli&response_type=code\
             &redirect_uri={PROGRAM}&state=s&code_challenge={CHALLENGE}\
             &code_challenge_method=S256&device=a+laptop{more}"
        );
        let callback = format!("https://localhost:{port}/oauth/callback");
        let arrived = sign_in(&visitor, &url, person, &callback);
        let page = visitor.follow(visitor.visit(&arrived), "never:").unwrap_err();
        assert!(page.status == 200 && page.body.contains("a laptop"), "{page:?}");
        let back = visitor.submit(&page, &[]).location.unwrap();
        assert!(back.starts_with(PROGRAM), "{back}");
        assert_eq!(member(&back, "state").as_deref(), Some("s"));
        member(&back, "code").unwrap_or_else(|| panic!("{back}"))
    }

    fn redeem(&self, code: &str, more: &[(&str, &str)]) -> Value {
        let members = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("client_id", "weir-cli"),
            ("redirect_uri", PROGRAM),
            ("code_verifier", VERIFIER),
        ];
        form(self.port(), "/oauth/token", &[&members[..], more].concat()).json()
    }

    fn log_in(&self, person: &str) -> LoggedIn {
        LoggedIn { port: self.port(), said: self.redeem(&self.code(person, ""), &[]) }
    }
}

#[test]
fn somebody_signs_in_through_the_gateway_and_their_provider_logs_them_out() {
    let site = Site::start(|_| {});
    let alice = site.log_in("alice");
    assert_eq!(alice.psql("alice", "SELECT 'in'").out, "in\n");
    let sleeping = alice.sleeping("alice", "until-the-provider-says");
    let ssh = alice.ssh();
    let dana = site.log_in("dana");
    let told = site.idp.end_session("alice");
    assert_eq!((&told["told"], &told["failed"]), (&json!(["gateway"]), &json!([])));
    ended(sleeping, "until-the-provider-says", "logged out at the identity provider");
    ssh.ended("logged out at the identity provider");
    assert_eq!(alice.wiki().status, 401);
    assert_eq!(alice.renew().json()["error"], "invalid_grant");
    assert_eq!(dana.api("/api/v1/whoami").status, 200, "dana is not alice");
    let ledger = site.gateway.ledger();
    let of_provider = |entry: &&Value| entry.to_string().contains("\"provider-logout\"");
    assert_eq!(ledger.iter().filter(of_provider).count(), 1, "the ledger names whose login ended");
    // A code that is shown again is in somebody else's hands: what came of it ends.
    let code = site.code("alice", "");
    let first = LoggedIn { port: site.port(), said: site.redeem(&code, &[]) };
    assert_eq!(first.wiki().status, 200);
    assert_eq!(site.redeem(&code, &[])["error"], "invalid_grant");
    assert_eq!(first.wiki().status, 401);
    let code = site.code("alice", "");
    let other = [("code_verifier", "another-verifier-that-is-as-long-as-the-rule-asks-for")];
    let wrong = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("client_id", "weir-cli"),
        ("redirect_uri", PROGRAM),
        other[0],
    ];
    assert_eq!(form(site.port(), "/oauth/token", &wrong).json()["error"], "invalid_grant");
    assert_eq!(site.redeem(&code, &[])["error"], "invalid_grant", "a wrong try uses it up");
    // What the provider did not say ends nothing.
    let alice = site.log_in("alice");
    let forged = site.idp.made(&json!({ "key": "foreign", "claims": {
        "aud": "gateway", "jti": "1", "nonce": null,
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    }}));
    let no = form(site.port(), "/oauth/backchannel_logout", &[("logout_token", &forged)]);
    assert_eq!(no.status, 400, "{no:?}");
    assert_eq!(alice.wiki().status, 200);
}

#[test]
fn a_renewal_brings_what_the_provider_says_now() {
    let site = Site::start(|_| {});
    let (alice, olaf) = (site.log_in("alice"), site.log_in("olaf"));
    // A new key at the provider is followed, and sessions go on.
    let sleeping = alice.sleeping("alice", "until-the-groups-change");
    site.idp.rotate();
    let alice = alice.renewed();
    assert!(sleeps("until-the-groups-change"));
    // Other groups: whoever is in is not who they were, and whoever comes is who they are.
    site.idp.set_account("alice", &json!({ "groups": ["dba", "engineer"] }));
    assert!(sleeps("until-the-groups-change"), "nothing was asked yet");
    let alice = alice.renewed();
    ended(sleeping, "until-the-groups-change", "who you are at the identity provider has changed");
    assert_eq!(alice.api("/api/v1/whoami").ok()["principal"]["roles"], json!(["dba", "engineer"]));
    let ran = alice.psql("alice", "SELECT email FROM customers WHERE id = 1");
    assert!(ran.code == 0 && !ran.out.contains("masked"), "a dba sees it: {ran:?}");
    // Whoever left is refused, and out.
    let sleeping = alice.sleeping("alice", "until-the-account-goes");
    site.idp.remove_account("alice");
    assert_eq!(alice.renew().json()["error"], "invalid_grant");
    ended(sleeping, "until-the-account-goes", "the identity provider did not renew it");
    assert_eq!(alice.wiki().status, 401);
    // A provider that does not answer takes nothing away, and it is said whose fault it is.
    site.idp.stop();
    let down = olaf.renew();
    assert_eq!(down.status, 503, "{down:?}");
    let told = down.json()["error_description"].as_str().unwrap().to_owned();
    assert!(told.contains("the identity provider cannot be reached"), "{told}");
    assert_eq!(olaf.psql("olaf", "SELECT 'in'").out, "in\n");
    assert_eq!(olaf.wiki().status, 200);
    let lines = site.gateway.log_lines("cannot be had");
    assert!(lines.iter().any(|line| line["fault"] == "provider"), "{}", site.gateway.log());
    site.idp.resume();
}

// --- Stepping up ---------------------------------------------------------------------------------

/// Whatever is done at a target that wants it needs a fresh sign-in with a second factor.
const STEP_UP: &str = r#"
@id("test.fresh")
@reason("this wants a fresh sign-in with a second factor")
@step_up("max_age=900; acr=mfa")
forbid (principal, action == Weir::Action::"execute", resource)
when { resource.labels.contains("fresh") }
unless {
  principal.kind == "gateway" ||
  (context.auth_age_s <= 900 && context has acr && context.acr == "mfa")
};
"#;

#[test]
fn one_step_up_counts_for_everything_that_rests_on_the_login() {
    const PSQLS: usize = 20;
    let site = Site::start(|prepared| {
        prepared.change("labels = [\"prod\"]", "labels = [\"prod\", \"step-up\", \"fresh\"]");
        for target in ["web-1", "wiki"] {
            let head = format!("[targets.{target}]\n");
            prepared.change(&head, &format!("{head}labels = [\"fresh\"]\n"));
        }
        fs::write(prepared.path("policies/test.cedar"), STEP_UP).unwrap();
    });
    let port = site.port();
    let alice = site.log_in("alice");
    let needed = "this wants a fresh sign-in with a second factor";
    let todo = "weir login --fresh --acr mfa";
    // PostgreSQL: sessions that stay.
    let open = |_| {
        let mut psql = Demo::shared().psql_at(port, "alice");
        psql.env("PGPASSWORD", alice.secret()).args(["-A", "-t"]);
        let psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = psql.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        let out = BufReader::new(child.stdout.take().unwrap());
        (child, input, out, err)
    };
    let mut psqls = (0..PSQLS).map(open).collect::<Vec<_>>();
    for (_, input, _, err) in &mut psqls {
        writeln!(input, "SELECT 'in';").unwrap();
        let mut told = String::new();
        while !told.contains("HINT:") {
            assert_ne!(err.read_line(&mut told).unwrap(), 0, "{told}");
        }
        assert!(told.contains("28000") && told.contains(needed) && told.contains(todo), "{told}");
        assert!(told.contains("test.fresh"), "{told}");
    }
    // SSH: a connection that stays.
    let dir = tempfile::tempdir().unwrap();
    let control = format!("ControlPath={}", dir.path().join("c").display());
    let ssh = |more: &[&str]| {
        let mut ssh = Ssh::command(dir.path(), port, alice.secret());
        ssh.args(["-o", &control]).args(more);
        ssh
    };
    let mut master =
        ssh(&["-o", "ControlMaster=yes", "-N", "localhost"]).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the master", || {
        let check = ssh(&["-O", "check", "localhost"]).output().unwrap();
        check.status.success().then_some(())
    });
    let shell = || Ran::of(&ssh(&["localhost", "echo in"]).output().unwrap());
    let ran = shell();
    assert!(ran.code == 126 && ran.err.contains(needed) && ran.err.contains(todo), "{ran:?}");
    // HTTP: RFC 9470, and a connection that stays.
    let answer = alice.wiki();
    assert_eq!(answer.status, 401, "{answer:?}");
    let challenge = "www-authenticate: bearer realm=\"weir\", \
                     error=\"insufficient_user_authentication\", max_age=\"900\", \
                     acr_values=\"mfa\"";
    assert!(answer.head.contains(challenge), "{answer:?}");
    assert!(answer.detail().contains(needed) && answer.body.contains(todo), "{answer:?}");
    let mut kept = Kept::open(port);
    assert!(kept.ask(port, alice.secret()).starts_with("HTTP/1.1 401 "));

    // Somebody else's step-up is not alice's, and a weak one is none.
    let of = [("step_up_of", alice.secret())];
    let dana = site.code("dana", "&prompt=login&acr_values=mfa");
    assert_eq!(site.redeem(&dana, &of)["error"], "invalid_grant");
    assert_eq!(alice.wiki().status, 401);
    // One sign-in.
    let code = site.code("alice", "&prompt=login&acr_values=mfa");
    let fresh = site.redeem(&code, &of);
    assert_eq!(fresh["login"], alice.login(), "{fresh}");
    // Everything goes on as it was, on what it had.
    assert!(kept.ask(port, alice.secret()).starts_with("HTTP/1.1 200 "));
    assert_eq!(alice.wiki().status, 200);
    assert_eq!(shell().out, "in\n");
    for (child, input, out, _) in &mut psqls {
        writeln!(input, "SELECT 'in again';").unwrap();
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "in again\n");
        assert!(child.try_wait().unwrap().is_none());
    }
    for (mut child, input, _, _) in psqls {
        drop(input);
        assert!(child.wait().unwrap().success());
    }
    let _gone = master.kill();
    master.wait().unwrap();
}

#[test]
fn an_old_sign_in_reads_all_day_and_changes_nothing() {
    let site = Site::start(|prepared| {
        prepared.change("labels = [\"prod\"]", "labels = [\"prod\", \"step-up\"]");
    });
    let token = |age_s: u64| {
        let claims = json!({ "aud": "gateway", "auth_time": now_s() - age_s });
        site.idp.made(&json!({ "sub": "dana", "claims": claims }))
    };
    let change = "UPDATE customers SET city = city WHERE id = 1";
    let old = LoggedIn::by(site.port(), &token(3_600), &[]);
    assert_eq!(old.psql("dana", "SELECT 'in'").out, "in\n");
    let ran = old.psql("dana", change);
    assert!(ran.err.contains("28000") && ran.err.contains("weir login --fresh"), "{ran:?}");
    assert!(ran.err.contains("step-up.changes-need-a-fresh-login"), "{ran:?}");
    // The token itself is as old as the login it would begin.
    let ran = psql(site.port(), "dana", &token(3_600), change);
    assert!(ran.err.contains("28000"), "{ran:?}");
    let fresh = LoggedIn::by(site.port(), &token(1), &[]);
    assert_eq!(fresh.psql("dana", change).out, "UPDATE 1\n");
}

/// Now, in seconds.
pub fn now_s() -> u64 {
    let ran = Ran::of(&Command::new(parts::program("date")).arg("+%s").output().unwrap());
    ran.out.trim().parse().unwrap()
}
