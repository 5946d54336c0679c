//! Signing in to PostgreSQL through the gateway with real clients: psql 15, libpq 18, certificates
//! made by openssl; and what ends a session from outside.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::finish;
use crate::demo::read;
use crate::demo::wait_for;
use crate::gateway::Prepared;
use crate::parts;
use crate::postgres::direct;
use crate::postgres::straight;
use crate::wire;
use crate::wire::Wire;

/// Asks the gateway's own API with curl; `more` says what.
fn api(demo: &Demo, port: u16, path: &str, bearer: Option<&str>, more: &[&str]) -> Value {
    let mut curl = Command::new(parts::program("curl"));
    curl.args(["--silent", "--show-error", "--fail-with-body", "--ipv4", "--max-time", "30"]);
    curl.args(["--cacert", demo.ca_file()]).args(more);
    if let Some(bearer) = bearer {
        curl.args(["--header", &format!("Authorization: Bearer {bearer}")]);
    }
    let output = curl.arg(format!("https://localhost:{port}{path}")).output().unwrap();
    let ran = Ran::of(&output);
    assert_eq!(ran.code, 0, "{path}: {ran:?}");
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{path}: {error}: {}", ran.out))
}

/// A session credential for a person, at a gateway's port; `more`: `scope=…`, `target=…`.
fn credential(demo: &Demo, port: u16, person: &str, more: &[&str]) -> Value {
    let token = format!("subject_token={}", demo.token(person));
    let mut args =
        vec!["--data-urlencode", "grant_type=urn:ietf:params:oauth:grant-type:token-exchange"];
    let kind = "subject_token_type=urn:ietf:params:oauth:token-type:jwt";
    for more in [&[token.as_str(), kind][..], more].concat() {
        args.extend(["--data-urlencode", more]);
    }
    api(demo, port, "/oauth/token", None, &args)
}

fn secret(credential: &Value) -> &str {
    credential["access_token"].as_str().unwrap()
}

/// psql as a person with a password, and one text.
fn psql(demo: &Demo, port: u16, person: &str, password: &str, text: &str) -> Ran {
    let mut psql = demo.psql_at(port, person);
    psql.env("PGPASSWORD", password).args(["-A", "-t", "-c", text]);
    Ran::of(&psql.output().unwrap())
}

fn is_refused(ran: &Ran) {
    let refused = ran.code == 2 && ran.err.contains("FATAL:  the credential was not accepted");
    assert!(refused && ran.err.contains("`weir login`"), "{ran:?}");
}

#[test]
fn a_session_credential_is_a_password_for_what_it_is_bound_to() {
    let demo = Demo::shared();
    let port = demo.port();
    let all = credential(demo, port, "alice", &[]);
    assert!(secret(&all).starts_with("weir_s_"));
    for more in [&[][..], &["scope=postgres"], &["scope=postgres", "target=customers"]] {
        let one = credential(demo, port, "alice", more);
        let ran = psql(demo, port, "alice", secret(&one), "SELECT 'in'");
        assert_eq!(ran.out, "in\n", "{more:?} {ran:?}");
    }
    for more in [&["scope=ssh http"][..], &["scope=control"], &["scope=postgres", "target=wiki"]] {
        let one = credential(demo, port, "alice", more);
        is_refused(&psql(demo, port, "alice", secret(&one), "SELECT 'in'"));
    }
    // What renews is no password.
    is_refused(&psql(demo, port, "alice", all["refresh_token"].as_str().unwrap(), "SELECT 'in'"));
}

#[test]
fn a_provider_s_token_is_no_password_where_the_target_does_not_say_so() {
    let demo = Demo::shared();
    let mut prepared = Prepared::new();
    prepared.change("provider_tokens = true\n", "");
    let gateway = prepared.start();
    let port = gateway.port();
    let ran = psql(demo, port, "alice", demo.token("alice"), "SELECT 'in'");
    assert!(ran.code == 2 && ran.err.contains("provider's token"), "{ran:?}");
    assert!(ran.err.contains("`weir login`"), "{ran:?}");
    let one = credential(demo, port, "alice", &["scope=postgres"]);
    assert_eq!(psql(demo, port, "alice", secret(&one), "SELECT 'in'").out, "in\n");
    // A credential of another gateway's state is nothing here.
    let other = credential(demo, demo.port(), "alice", &["scope=postgres"]);
    is_refused(&psql(demo, port, "alice", secret(&other), "SELECT 'in'"));
}

#[test]
fn a_target_may_ask_for_oauth_and_a_client_may_choose() {
    let demo = Demo::shared();
    let mut prepared = Prepared::new();
    prepared.change(
        "[targets.customers.postgres]\n",
        "[targets.customers.postgres]\nauth = \"oauth\"\n",
    );
    let gateway = prepared.start();
    let mut psql = demo.psql_at(gateway.port(), "alice");
    // libpq 15 knows SCRAM alone.
    let ran = Ran::of(&psql.args(["-c", "SELECT 'in'"]).output().unwrap());
    assert!(ran.code == 2 && ran.err.contains("SASL authentication mechanisms"), "{ran:?}");
    let mut psql = demo.psql_at(gateway.port(), "alice");
    psql.env("PGOPTIONS", "-c weir.auth=password").args(["-A", "-t", "-c", "SHOW weir.auth"]);
    let ran = Ran::of(&psql.output().unwrap());
    assert!(ran.err.contains("unrecognized") || ran.err.contains("42501"), "passed on: {ran:?}");
    let mut psql = demo.psql_at(gateway.port(), "alice");
    psql.env("PGOPTIONS", "-c weir.auth=trust").args(["-c", "SELECT 1"]);
    let ran = Ran::of(&psql.output().unwrap());
    assert!(ran.code == 2 && ran.err.contains("it takes one of: password, oauth"), "{ran:?}");
}

#[test]
fn libpq_18_signs_in_by_oauthbearer_and_speaks_the_newest_protocol() {
    let demo = Demo::shared();
    let mut python = Command::new(parts::part("WEIR_PYTHON"));
    python.arg(parts::repository().join("tests/it/drivers/libpq18_client.py"));
    python.env("PORT", demo.port().to_string()).env("CA", demo.ca_file());
    let one = credential(demo, demo.port(), "alice", &["scope=postgres"]);
    python.env("ALICE", demo.token("alice")).env("SECRET", secret(&one));
    let ran = Ran::of(&python.output().unwrap());
    assert!(ran.code == 0 && ran.out.ends_with("done\n"), "{}\n{}", ran.out, ran.err);
}

/// Certificates and keys of a test's own, made by openssl.
struct Made(tempfile::TempDir);

impl Made {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, args: &[&str]) {
        let mut openssl = Command::new(parts::program("openssl"));
        let ran = Ran::of(&openssl.args(args).current_dir(self.0.path()).output().unwrap());
        assert_eq!(ran.code, 0, "openssl {args:?}: {}", ran.err);
    }

    /// A key `NAME.key` and a request for a certificate of it, `NAME.csr`.
    fn request(&self, name: &str) {
        let (key, csr) = (format!("{name}.key"), format!("{name}.csr"));
        let new = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        self.openssl(&[&new[..], &["-subj", "/CN=alice", "-keyout", &key, "-out", &csr]].concat());
    }

    /// A client certificate `NAME.crt`, signed by an authority.
    fn signed(&self, name: &str, ca: &Path, ca_key: &Path) {
        self.request(name);
        std::fs::write(
            self.path("ext"),
            "extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        let (ca, ca_key) = (ca.to_str().unwrap(), ca_key.to_str().unwrap());
        let (csr, crt) = (format!("{name}.csr"), format!("{name}.crt"));
        let sign = ["x509", "-req", "-days", "1", "-CAcreateserial", "-CAserial", "serial"];
        let whose = ["-CA", ca, "-CAkey", ca_key, "-extfile", "ext", "-in", &csr, "-out", &crt];
        self.openssl(&[&sign[..], &whose].concat());
    }

    /// psql with the certificate `NAME.crt` and no password.
    fn psql(&self, demo: &Demo, name: &str, person: &str) -> Command {
        let mut psql = demo.psql_at(demo.port(), person);
        psql.env_remove("PGPASSWORD").arg("-w");
        psql.env("PGSSLCERT", self.path(&format!("{name}.crt")));
        psql.env("PGSSLKEY", self.path(&format!("{name}.key")));
        psql
    }
}

#[test]
fn a_certificate_that_nobody_issued_lets_nobody_in() {
    let demo = Demo::shared();
    let made = Made::new();
    // By the gateway's own authority, and yet not issued to anybody.
    let (ca, ca_key) = (demo.text("/ca_file"), demo.text("/ca_key_file"));
    made.signed("forged", Path::new(ca), Path::new(ca_key));
    let ran = Ran::of(&made.psql(demo, "forged", "alice").output().unwrap());
    is_refused(&ran);
    // By another authority of the same name.
    let selfmade =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let named =
        ["-subj", "/CN=Weir demo access (throw-away)", "-keyout", "ca.key", "-out", "ca.crt"];
    made.openssl(&[&selfmade[..], &named].concat());
    made.signed("foreign", &made.path("ca.crt"), &made.path("ca.key"));
    let ran = Ran::of(&made.psql(demo, "foreign", "alice").output().unwrap());
    assert!(ran.code == 2 && ran.err.contains("not one of this gateway's"), "{ran:?}");
    assert!(ran.err.contains("sslcertmode=disable"), "{ran:?}");
    // A good password beside it does not help: it has to be left out.
    let mut psql = made.psql(demo, "foreign", "alice");
    psql.env("PGPASSWORD", demo.token("alice")).args(["-c", "SELECT 1"]);
    assert_eq!(Ran::of(&psql.output().unwrap()).code, 2);
}

#[test]
fn an_issued_certificate_lets_its_person_in_and_nobody_else_and_nowhere_else() {
    let demo = Demo::shared();
    let port = demo.port();
    let made = Made::new();
    let login = credential(demo, port, "alice", &[]);
    made.request("alice");
    let body = serde_json::json!({ "csr": read(made.path("alice.csr")), "uses": ["postgres"] });
    let json = ["--json", &body.to_string()];
    let issued = api(demo, port, "/api/v1/certificates", Some(secret(&login)), &json);
    std::fs::write(made.path("alice.crt"), issued["certificate"].as_str().unwrap()).unwrap();
    let ask = |person: &str| {
        let mut psql = made.psql(demo, "alice", person);
        psql.args(["-A", "-t", "-c", "SELECT email FROM customers WHERE id = 1"]);
        Ran::of(&psql.output().unwrap())
    };
    assert_eq!(ask("alice").out, "<masked:pii.email>\n");
    // It is alice's: neither olaf's name nor olaf's password makes her somebody else.
    let ran = ask("olaf");
    assert!(ran.code == 2 && ran.err.contains("connect with user=alice"), "{ran:?}");
    // Straight to the target it is worth nothing.
    let mut psql = direct(demo, false);
    psql.env_remove("PGPASSWORD").arg("-w").args(["-c", "SELECT 1"]);
    psql.env("PGSSLCERT", made.path("alice.crt")).env("PGSSLKEY", made.path("alice.key"));
    let ran = Ran::of(&psql.output().unwrap());
    assert!(ran.code == 2 && ran.err.contains("unknown ca"), "{ran:?}");
    // Revoked, it is worth nothing here either.
    let id = issued["id"].as_str().unwrap();
    let path = format!("/api/v1/credentials/{id}/revoke");
    api(demo, port, &path, Some(secret(&login)), &["--request", "POST"]);
    is_refused(&ask("alice"));
}

#[test]
fn a_running_query_ends_with_the_credential_it_rests_on() {
    let demo = Demo::shared();
    let port = demo.port();
    let one = credential(demo, port, "olaf", &["scope=postgres control"]);
    let mut psql = demo.psql_at(port, "olaf");
    let long = "SELECT count(*) FROM generate_series(1, 2000000000) /* until-revoked */";
    psql.env("PGPASSWORD", secret(&one)).args(["-c", long]);
    let child = psql.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                   AND query LIKE '%until-' || 'revoked%'";
    wait_for("the query's start", || (straight(demo, running) == "1").then_some(()));
    let id = one["credential"].as_str().unwrap();
    let path = format!("/api/v1/credentials/{id}/revoke");
    api(demo, port, &path, Some(secret(&one)), &["--request", "POST"]);
    let ran = finish(child);
    assert!(ran.code != 0 && ran.err.contains("57P01"), "{ran:?}");
    wait_for("the query's end at the target", || (straight(demo, running) == "0").then_some(()));
    is_refused(&psql_again(demo, port, secret(&one)));
}

fn psql_again(demo: &Demo, port: u16, password: &str) -> Ran {
    psql(demo, port, "olaf", password, "SELECT 1")
}

#[test]
fn databases_of_a_target_are_listed_and_gone_to_where_they_are_offered() {
    let demo = Demo::shared();
    // What psql and DBeaver ask for their lists.
    let dbeaver = "SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE 1 = 1 \
                   AND datallowconn AND NOT datistemplate ORDER BY db.datname";
    let pgadmin = "SELECT db.oid AS did, db.datname AS name, db.datallowconn, \
                   pg_catalog.pg_encoding_to_char(db.encoding) AS serverencoding \
                   FROM pg_catalog.pg_database db ORDER BY datname";
    for person in ["alice", "olaf", "dana"] {
        for asked in ["\\l", dbeaver, pgadmin] {
            let ran = demo.psql(person, &[asked]);
            let both = ran.out.contains("customers") && ran.out.contains("archive");
            assert!(ran.code == 0 && both, "{person} {asked}: {ran:?}");
        }
    }
    // By the target's host name, as by the gateway's.
    let at = |host: &str, database: &str, asked: &[&str]| {
        let mut psql = Command::new(parts::program("psql"));
        let (port, ca) = (demo.port(), demo.ca_file());
        psql.arg(format!(
            "host={host} hostaddr=127.0.0.1 port={port} dbname={database} user=alice \
             sslmode=verify-full sslrootcert={ca}"
        ));
        psql.args(["-X", "-A", "-t", "-v", "VERBOSITY=verbose"]).stdin(Stdio::null());
        for text in asked {
            psql.arg("-c").arg(text);
        }
        Ran::of(&psql.env("PGPASSWORD", demo.token("alice")).output().unwrap())
    };
    let (old, now) = ("SELECT body FROM notes WHERE id = 1", "SELECT current_database()");
    for (host, database, other) in [
        ("customers.localhost", "customers", "archive"),
        ("localhost", "customers", "customers/archive"),
        ("localhost", "customers/customers", "customers/archive"),
    ] {
        let ran = at(host, database, &[now, &format!("\\c {other}"), now, old]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let rows = ran.out.lines().filter(|line| !line.starts_with("You are")).collect::<Vec<_>>();
        assert_eq!(rows, ["customers", "archive", "moved here in 2019"], "{host} {ran:?}");
    }
    // The server has it, and it is not offered.
    for (host, database, other) in [
        ("customers.localhost", "customers", "postgres"),
        ("localhost", "customers", "customers/postgres"),
    ] {
        let ran = at(host, database, &[&format!("\\c {other}"), now]);
        assert!(ran.err.contains("this target offers no such database"), "{ran:?}");
        assert!(ran.err.contains("it offers: customers, archive"), "{ran:?}");
    }
}

#[test]
fn many_statements_in_one_string_are_all_answered() {
    const MANY: usize = 100_000;
    let mut wire = Wire::of(Demo::shared(), "alice");
    let answers = wire.ask(&wire::query(&"SELECT 1;".repeat(MANY)));
    assert_eq!(wire::state_of(&answers), "");
    assert_eq!(answers.len(), 3 * MANY + 1);
    assert_eq!(wire::rows(&answers).len(), MANY);
    assert_eq!(wire::rows(&wire.ask(&wire::query("SELECT 'on'"))), ["on"]);
}
