//! Those who have no browser: workloads by their platform's tokens, agents that act for people, and
//! kubectl with what a login gives it.

use std::fs;
use std::process::Command;

use serde_json::Value;
use serde_json::json;

use crate::cluster::Cluster;
use crate::demo::Ran;
use crate::demo::read;
use crate::gateway::Prepared;
use crate::idp::Idp;
use crate::logged_in::EXCHANGE;
use crate::logged_in::LoggedIn;
use crate::logged_in::ask;
use crate::logged_in::form;
use crate::login_providers::Site;
use crate::login_providers::now_s;
use crate::parts;
use crate::visitor::Visitor;

#[test]
fn a_workload_s_token_counts_where_its_claims_are_those_required() {
    let idp = Idp::start(&[]);
    let mut prepared = Prepared::new();
    prepared.config.push_str(&format!(
        "\n[[providers]]\nissuer = \"{}\"\naudience = [\"weir-ci\"]\npreset = \"github-actions\"\n\
         require = {{ repository = \"acme/*\", ref = [\"refs/heads/main\", \"refs/tags/*\"] }}\n\
         [providers.claims]\nentity = \"repository_owner\"\n\
         [providers.roles]\n\"acme/shop\" = \"engineer\"\n\
         [providers.entities]\nacme = \"acme-de\"\n",
        idp.issuer()
    ));
    let gateway = prepared.start();
    let port = gateway.port();
    let job = |changes: Value| {
        let mut claims = json!({
            "sub": "repo:acme/shop:ref:refs/heads/main", "aud": "weir-ci",
            "repository": "acme/shop", "repository_id": "7", "repository_owner": "acme",
            "ref": "refs/heads/main", "event_name": "push", "run_id": "12", "actor": "alice",
            "job_workflow_ref": "acme/shop/.github/workflows/ci.yml@refs/heads/main",
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        idp.made(&json!({ "sub": "job", "claims": claims }))
    };
    let shop = LoggedIn::by(port, &job(json!({})), &[("scope", "control http")]);
    let principal = shop.api("/api/v1/whoami").ok()["principal"].clone();
    assert_eq!(principal["name"], "acme/shop");
    assert_eq!(
        (&principal["kind"], &principal["roles"]),
        (&json!("workload"), &json!(["engineer"]))
    );
    assert_eq!(principal["attributes"]["run"], json!("12"), "{principal}");
    let people = shop.wiki();
    assert!(people.status == 200 && people.body.contains("<masked:pii.email>"), "{people:?}");
    let kind = ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt");
    let grant = ("grant_type", EXCHANGE);
    for bad in [
        json!({ "repository": "evil/shop" }),
        json!({ "repository": "acme" }),
        json!({ "repository": ["acme/shop"] }),
        json!({ "repository": null }),
        json!({ "ref": "refs/heads/feature" }),
        json!({ "ref": "refs/pull/7/merge" }),
        json!({ "aud": "weir" }),
        json!({ "exp": now_s() - 600, "iat": now_s() - 4_000 }),
    ] {
        let token = job(bad.clone());
        let said = form(port, "/oauth/token", &[grant, kind, ("subject_token", &token)]);
        assert_eq!(said.json()["error"], "invalid_grant", "{bad}: {said:?}");
        let said = ask(port, "", "/api/v1/whoami", Some(&token), &[]);
        assert_eq!(said.status, 401, "{bad}");
        assert_eq!(said.detail(), "the credential was not accepted", "{bad}");
    }
    // Another repository of theirs counts, and has no role here.
    let other = LoggedIn::by(port, &job(json!({ "repository": "acme/site" })), &[]);
    assert_eq!(other.api("/api/v1/whoami").ok()["principal"]["roles"], json!([]));
    assert_eq!(other.wiki().status, 404);
}

#[test]
fn an_agent_is_shown_with_whom_it_acts_for_and_may_no_more_than_both() {
    let site = Site::start(|_| {});
    site.idp.set_account("alice", &json!({ "groups": ["engineer", "dba"] }));
    let act = json!({
        "sub": "agent-7", "preferred_username": "helper", "groups": ["engineer", "approver"],
        "act": { "sub": "planner-1" },
    });
    let token = site.idp.made(&json!({ "claims": { "aud": "gateway", "act": act } }));
    let agent = LoggedIn::by(site.port(), &token, &[]);
    let principal = agent.api("/api/v1/whoami").ok()["principal"].clone();
    assert_eq!((&principal["kind"], &principal["name"]), (&json!("agent"), &json!("alice")));
    assert_eq!(principal["roles"], json!(["engineer"]));
    let actors = principal["actors"].as_array().unwrap();
    let names = actors.iter().map(|actor| actor["subject"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(names, ["agent-7", "planner-1"]);
    let ran = agent.psql("alice", "SELECT email FROM customers WHERE id = 1");
    assert_eq!(ran.out, "<masked:pii.email>\n", "a dba would see it: {ran:?}");
    // The record names both.
    let trails = json!(site.gateway.trails()).to_string();
    assert!(trails.contains("\"agent-7\"") && trails.contains("\"planner-1\""), "{trails}");
}

#[test]
fn kubectl_takes_a_session_credential_a_certificate_and_the_exec_plugin() {
    let cluster = Cluster::shared();
    let ca = cluster.demo.ca_file();
    let place = cluster.demo.text("/api");
    let visitor = Visitor::new(&["--ipv4", "--cacert", ca]);
    let login = |scope: &str| {
        let members = [
            ("grant_type", EXCHANGE),
            ("subject_token", cluster.demo.token("alice")),
            ("scope", scope),
        ];
        let page = visitor.send(&format!("{place}/oauth/token"), &members);
        serde_json::from_str::<Value>(&page.body)
            .unwrap_or_else(|error| panic!("{error}: {page:?}"))
    };
    let secret = |login: &Value| login["access_token"].as_str().unwrap().to_owned();
    let pods = ["get", "pods", "-A"];
    // A kubeconfig with nothing of a person's.
    let whole = serde_json::from_str::<Value>(&read(cluster.demo.text("/people/alice/kubeconfig")));
    let with = |name: &str, user: Value| {
        let mut config = whole.as_ref().unwrap().clone();
        config["users"][0]["user"] = user;
        cluster.file(name, &config.to_string())
    };
    let run = |config: &str, args: &[&str]| {
        let mut kubectl = cluster.kubectl("alice");
        Ran::of(&kubectl.env("KUBECONFIG", config).args(args).output().unwrap())
    };
    let good = login("kubernetes control");
    let ran = run(&with("session.json", json!({ "token": secret(&good) })), &pods);
    assert!(ran.code == 0 && ran.out.contains("web-2"), "{ran:?}");
    for scope in ["control", "postgres ssh http"] {
        let other = with("other.json", json!({ "token": secret(&login(scope)) }));
        let ran = run(&other, &pods);
        assert!(ran.code != 0 && ran.err.contains("must be logged in"), "{scope}: {ran:?}");
    }
    // The exec plugin of `weir kubeconfig`.
    let env = |name: &str, value: &str| json!({ "name": name, "value": value });
    let exec = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": parts::weir(),
        "args": ["kube-credential"],
        "interactiveMode": "Never",
        "env": [env("WEIR_GATEWAY", place), env("WEIR_CA_FILE", ca), env("WEIR_TOKEN", &secret(&good))],
    }});
    let ran = run(&with("exec.json", exec), &pods);
    assert!(ran.code == 0 && ran.out.contains("web-2"), "{ran:?}");
    // A certificate: at the gateway, and straight at the API server, where it is nothing.
    let dir = tempfile::tempdir().unwrap();
    let (key, csr) = (dir.path().join("k.key"), dir.path().join("k.csr"));
    let mut openssl = Command::new(parts::program("openssl"));
    openssl.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-subj", "/O=system:masters/CN=kubernetes-admin", "-keyout"]);
    assert!(openssl.arg(&key).arg("-out").arg(&csr).output().unwrap().status.success());
    let asked = json!({ "csr": read(&csr), "uses": ["kubernetes"] }).to_string();
    let bearer = format!("Authorization: Bearer {}", secret(&good));
    let json_type = "content-type: application/json";
    let page = visitor.ask(
        &format!("{place}/api/v1/certificates"),
        &["-H", &bearer, "-H", json_type, "-d", &asked],
    );
    let issued = serde_json::from_str::<Value>(&page.body).unwrap_or_else(|_| panic!("{page:?}"));
    let certificate = dir.path().join("k.crt");
    fs::write(&certificate, issued["certificate"].as_str().unwrap()).unwrap();
    let user = json!({ "client-certificate": certificate, "client-key": key });
    let config = with("certificate.json", user);
    let ran = run(&config, &["auth", "whoami"]);
    assert!(ran.code == 0 && ran.out.contains("alice"), "{ran:?}");
    assert!(!ran.out.contains("masters"), "{ran:?}");
    let server = cluster.admin(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let mut curl = Command::new(parts::program("curl"));
    curl.args(["-sS", "-k", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code}"]);
    curl.arg("--cert").arg(&certificate).arg("--key").arg(&key);
    let ran = Ran::of(&curl.arg(format!("{server}/api/v1/namespaces")).output().unwrap());
    assert!(["401", "403", "000"].contains(&ran.out.as_str()), "{ran:?}");
    // Revoked, it opens nothing.
    let id = issued["id"].as_str().unwrap();
    let path = format!("{place}/api/v1/credentials/{id}/revoke");
    assert_eq!(visitor.ask(&path, &["-H", &bearer, "-X", "POST"]).status, 200);
    let ran = run(&config, &pods);
    assert!(ran.code != 0 && !ran.out.contains("web-2"), "{ran:?}");
}
