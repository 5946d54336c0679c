//! Who somebody is: a certified OpenID provider's tokens, good and bad, its keys as they change,
//! and the provider gone.

use std::io::BufRead;
use std::io::BufReader;
use std::net::TcpListener;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;
use serde_json::json;

use crate::demo::Ran;
use crate::demo::wait_for;
use crate::gateway::Gateway;
use crate::gateway::Prepared;
use crate::parts;

/// The certified provider of `tests/parts/oidc`.
pub(crate) struct Provider {
    child: Child,
    port: u16,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_at(port)
    }

    fn start_at(port: u16) -> Self {
        let mut run = Command::new("bash");
        run.arg(parts::repository().join("tests/parts/oidc/run.sh")).arg(port.to_string());
        run.arg("--until-eof").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = parts::spawn(run);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "run tests/parts/install.sh test");
        Self { child, port }
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A token as a person gets it: by logging in.
    fn login(&self, person: &str) -> String {
        let mut run = Command::new("bash");
        run.arg(parts::repository().join("tests/parts/oidc/run.sh"));
        let ran = Ran::of(&run.args(["token", &self.port.to_string(), person]).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out.trim().to_owned()
    }

    fn hook(&self, path: &str, body: &Value) -> Value {
        let mut curl = Command::new(parts::program("curl"));
        curl.args(["-sS", "-X", "POST", "-d", &body.to_string()]);
        let ran = Ran::of(&curl.arg(format!("{}/_test/{path}", self.issuer())).output().unwrap());
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// A token made to order.
    fn made(&self, order: &Value) -> String {
        self.hook("token", order)["token"].as_str().unwrap().to_owned()
    }

    /// A gateway whose provider this is.
    fn gateway(&self) -> Prepared {
        let mut prepared = Prepared::new();
        let issuer = crate::demo::Demo::shared().text("/issuer");
        prepared
            .change(&format!("issuer = \"{issuer}\""), &format!("issuer = \"{}\"", self.issuer()));
        prepared.change("entity = \"company\"", "entity = \"entity\"\nname = \"sub\"");
        prepared.change("acme-de = \"acme-de\"", "example-de = \"acme-de\"");
        prepared
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// What a client is told of a token that is not accepted: the same, whatever is wrong with it.
fn refused(gateway: &Gateway, token: &str, log: &str) {
    let before = gateway.log_lines("sign-in refused").len();
    let ran = gateway.weir_with(token, &["whoami"]);
    assert!(ran.code == 1 && ran.err.contains("the credential was not accepted"), "{log}: {ran:?}");
    assert!(!ran.err.contains(log), "the client is told why: {}", ran.err);
    let lines = wait_for("the log", || {
        Some(gateway.log_lines("sign-in refused")).filter(|lines| lines.len() > before)
    });
    let said = lines.get(before..).unwrap_or_default();
    assert!(said.iter().any(|line| line.to_string().contains(log)), "{log}: {said:?}");
}

#[test]
fn a_certified_providers_tokens_are_taken_and_mapped_and_bad_ones_are_not() {
    let provider = Provider::start();
    let gateway = provider.gateway().start();
    let alice = provider.login("alice");
    let ran = gateway.psql_with("alice", &alice, &["SELECT 'by the code flow'"]);
    assert_eq!(ran.out.trim(), "by the code flow", "{}", ran.err);
    let ran = gateway.weir_with(&alice, &["whoami", "--json"]);
    let who = serde_json::from_str::<Value>(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    let principal = &who["principal"];
    assert_eq!(principal["name"], "alice");
    assert_eq!(principal["issuer"], provider.issuer().as_str());
    assert_eq!(principal["roles"], json!(["engineer"]));
    assert_eq!(principal["entity"], "acme-de");
    let dana = provider.login("dana");
    let ran = gateway.weir_with(&dana, &["whoami", "--json"]);
    let who = serde_json::from_str::<Value>(&ran.out).unwrap();
    assert_eq!(who["principal"]["roles"], json!(["approver", "dba"]));

    let now = now_s();
    let bad = [
        (json!({ "claims": { "exp": now - 600, "iat": now - 4000 } }), "expired"),
        (json!({ "claims": { "aud": "other" } }), "aud"),
        (json!({ "claims": { "aud": null } }), "aud"),
        (json!({ "claims": { "nbf": now + 600 } }), "nbf"),
        (json!({ "claims": { "iat": now + 600 } }), "iat"),
        (json!({ "claims": { "exp": null } }), "exp"),
        (json!({ "claims": { "sub": null } }), "sub"),
        (json!({ "claims": { "iss": "https://elsewhere.example" } }), "issuer"),
        (json!({ "alg": "none" }), "malformed"),
        (json!({ "alg": "HS256" }), "shared secret"),
        (json!({ "key": "foreign" }), "no key with the id"),
    ];
    for (order, log) in bad {
        let token = provider.made(&order);
        refused(&gateway, &token, log);
        let ran = gateway.psql_with("alice", &token, &["SELECT 'in'"]);
        assert!(ran.code != 0 && !ran.out.contains("in"), "{log}: {ran:?}");
        assert!(ran.err.contains("the credential was not accepted"), "{log}: {}", ran.err);
    }
    // The claims of one token with the signature of another.
    let other = provider.made(&json!({ "sub": "dana" }));
    let parts = |token: &str, n: usize| token.split('.').nth(n).unwrap().to_owned();
    let mixed = format!("{}.{}.{}", parts(&alice, 0), parts(&other, 1), parts(&alice, 2));
    refused(&gateway, &mixed, "signature");
    for junk in ["", "a.b.c", "....", &"x".repeat(100_000), "weir_abc"] {
        let ran = gateway.weir_with(junk, &["whoami"]);
        assert!(ran.code > 0, "{ran:?}");
    }
    // Somebody without an entity is nobody whom policy could admit.
    let stranger = provider.made(&json!({ "claims": { "entity": null } }));
    assert_ne!(gateway.psql_with("alice", &stranger, &["SELECT 1"]).code, 0);
    // No token stands anywhere.
    let log = gateway.log();
    for token in [&alice, &dana, &other, &mixed, &stranger] {
        assert!(!log.contains(parts(token, 2).as_str()) && !log.contains(parts(token, 1).as_str()));
    }
}

#[test]
fn keys_that_change_are_followed_and_known_ones_outlast_the_provider() {
    let provider = Provider::start();
    let gateway = provider.gateway().start();
    let accepts = |token: &str| gateway.weir_with(token, &["whoami"]).code == 0;
    let old = provider.login("alice");
    assert!(accepts(&old));
    // A new key is fetched when a token names it, and the old one is forgotten then. Fetching is
    // limited, so that nobody can make the gateway pester the provider.
    provider.hook("rotate", &json!({}));
    let new = provider.login("alice");
    wait_for("the new key", || accepts(&new).then_some(()));
    refused(&gateway, &old, "no key with the id");
    refused(&gateway, &provider.made(&json!({ "key": "retired" })), "no key with the id");
    let unknown = provider.made(&json!({ "header": { "kid": "unknown" } }));
    refused(&gateway, &unknown, "no key with the id");
    // The provider goes: who is known stays known.
    let port = provider.port;
    drop(provider);
    assert!(accepts(&new));
    assert_eq!(gateway.psql_with("alice", &new, &["SELECT 1"]).code, 0);
    // A gateway that never reached it starts, and says what is wrong, and recovers.
    let provider = Provider::start_at(port);
    let prepared = provider.gateway();
    let fresh = provider.login("alice");
    let second_key = provider.login("dana");
    drop(provider);
    let gateway = prepared.start();
    let ran = gateway.weir_with(&fresh, &["whoami"]);
    assert!(
        ran.code == 1 && ran.err.contains("the identity provider cannot be reached"),
        "{ran:?}"
    );
    let ran = gateway.psql_with("alice", &second_key, &["SELECT 1"]);
    assert!(ran.code != 0 && ran.err.contains("provider cannot be reached"), "{ran:?}");
    let said = gateway.log_lines("cannot be had");
    assert!(said.iter().any(|line| line["fault"] == "provider"), "{said:?}");
    let provider = Provider::start_at(port);
    let token = provider.login("alice");
    wait_for("the provider's return", || {
        (gateway.weir_with(&token, &["whoami"]).code == 0).then_some(())
    });
}

/// Now, in seconds.
fn now_s() -> u64 {
    let ran = Ran::of(&Command::new(parts::program("date")).arg("+%s").output().unwrap());
    ran.out.trim().parse().unwrap()
}
