//! A login and what rests on it, in every protocol at once: credentials used by psql, ssh and curl,
//! renewed, listed, revoked and ended.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::read;
use crate::demo::wait_for;
use crate::gateway::Gateway;
use crate::gateway::Prepared;
use crate::logged_in::EXCHANGE;
use crate::logged_in::Kept;
use crate::logged_in::LoggedIn;
use crate::logged_in::Ssh;
use crate::logged_in::ask;
use crate::logged_in::ended;
use crate::logged_in::form;
use crate::logged_in::is_refused;
use crate::logged_in::post;
use crate::logged_in::psql;
use crate::logged_in::sleeping;
use crate::logged_in::sleeps;
use crate::parts;
use crate::state;

// --- Ends ----------------------------------------------------------------------------------------

#[test]
fn the_end_of_a_login_ends_its_sessions_in_every_protocol_and_no_others() {
    let port = Demo::shared().port();
    let (one, other) = (LoggedIn::of(port, "alice"), LoggedIn::of(port, "alice"));
    let psql_one = one.sleeping("alice", "of-the-first-login");
    let psql_other = other.sleeping("alice", "of-the-second-login");
    let (ssh_one, mut ssh_other) = (one.ssh(), other.ssh());
    let (mut http_one, mut http_other) = (Kept::open(port), Kept::open(port));
    assert!(http_one.ask(port, one.secret()).starts_with("HTTP/1.1 200 "));
    assert!(http_other.ask(port, other.secret()).starts_with("HTTP/1.1 200 "));
    let out = post(port, "/api/v1/logout", one.secret(), &json!({ "everywhere": false }));
    assert_eq!(out.ok()["ended"], 1);
    ended(psql_one, "of-the-first-login", "logged out");
    ssh_one.ended("logged out");
    let after = http_one.ask(port, one.secret());
    assert!(!after.starts_with("HTTP/1.1 200 "), "{after}");
    assert_eq!((one.wiki().status, one.api("/api/v1/whoami").status), (401, 401));
    is_refused(&one.psql("alice", "SELECT 1"));
    assert_eq!(one.renew().json()["error"], "invalid_grant");
    // What rests on the other login lives on, until an administrator ends it.
    assert!(ssh_other.lives() && sleeps("of-the-second-login"));
    assert!(http_other.ask(port, other.secret()).starts_with("HTTP/1.1 200 "));
    let dana = LoggedIn::of(port, "dana");
    let olaf = LoggedIn::of(port, "olaf");
    assert_eq!(olaf.revoke(other.login()).status, 404, "not even that there is one");
    assert!(ssh_other.lives());
    assert_eq!(dana.revoke(other.login()).ok()["ended"], true);
    ended(psql_other, "of-the-second-login", "revoked by dana");
    ssh_other.ended("revoked by dana");
    assert_eq!(other.wiki().status, 401);
    assert_eq!(dana.revoke(other.login()).status, 404, "it has ended");
    // The record says why each ended.
    wait_for("the ends on record", || {
        let all = Demo::shared().weir_json("dana", &["sessions", "ls", "--limit", "500"]);
        let told = |protocol: &str, reason: &str| {
            all.as_array().unwrap().iter().any(|session| {
                session["protocol"] == protocol && session.to_string().contains(reason)
            })
        };
        let each = ["postgres", "ssh", "http"].map(|protocol| told(protocol, "logged out"));
        (each == [true; 3] && told("ssh", "revoked by dana")).then_some(())
    });
}

#[test]
fn everybody_lists_and_ends_what_is_theirs_and_administrators_what_is_anybody_s() {
    let port = Demo::shared().port();
    let (alice, olaf) = (LoggedIn::of(port, "alice"), LoggedIn::of(port, "olaf"));
    let dana = LoggedIn::of(port, "dana");
    let list = |who: &LoggedIn, path: &str| {
        let answer = who.api(path);
        // What is kept of a secret is not shown either.
        assert!(!answer.body.contains("weir_") && !answer.body.contains("digest"), "{answer:?}");
        answer
    };
    let own = list(&alice, "/api/v1/credentials").ok();
    let rows = own.as_array().unwrap();
    assert!(rows.iter().all(|row| row["login"]["principal"]["name"] == "alice"), "{own}");
    let mine = rows.iter().find(|row| row["login"]["id"] == alice.login()).unwrap();
    assert_eq!(mine["current"], true);
    let forms = mine["credentials"].as_array().unwrap().iter().map(|one| one["form"].clone());
    let mut forms = forms.map(|form| form.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    forms.sort();
    assert_eq!(forms, ["renewal", "session"]);
    assert_eq!(list(&alice, "/api/v1/credentials?all=true").status, 403);
    let all = list(&dana, "/api/v1/credentials?all=true").ok().to_string();
    assert!(all.contains(alice.login()) && all.contains(olaf.login()));
    // One's own, and nobody else's.
    for id in [olaf.login(), olaf.credential(), "l-unknown", "c-0"] {
        assert_eq!(alice.revoke(id).status, 404, "{id}");
    }
    let narrow = [("scope", "http control")];
    let second = LoggedIn::by(port, alice.secret(), &narrow);
    assert_eq!(second.login(), alice.login(), "a credential of the same login");
    assert_eq!(second.wiki().status, 200);
    assert_eq!(alice.revoke(second.credential()).ok()["ended"], true);
    assert_eq!((second.wiki().status, alice.wiki().status), (401, 200));
    assert_eq!(dana.revoke(olaf.credential()).ok()["ended"], true);
    assert_eq!(olaf.api("/api/v1/whoami").status, 401);
    // Everywhere is everywhere.
    let mei = [LoggedIn::of(port, "mei"), LoggedIn::of(port, "mei")];
    let out = post(port, "/api/v1/logout", mei[0].secret(), &json!({ "everywhere": true }));
    assert!(out.ok()["ended"].as_u64().unwrap() >= 2);
    assert_eq!(mei[1].api("/api/v1/whoami").status, 401);
}

// --- Scope and renewal ---------------------------------------------------------------------------

#[test]
fn a_credential_is_good_for_its_uses_and_its_target_and_every_refusal_sounds_the_same() {
    let port = Demo::shared().port();
    let whole = LoggedIn::of(port, "alice");
    let unknown = format!("weir_s_{}", "A".repeat(43));
    let strange = |place: &str| match place {
        "api" => ask(port, "", "/api/v1/whoami", Some(&unknown), &[]).detail(),
        _ => ask(port, "wiki", "/api/people", Some(&unknown), &[]).detail(),
    };
    let (api_words, wiki_words) = (strange("api"), strange("wiki"));
    for (more, api, wiki, database, shell) in [
        (&[][..], true, true, true, true),
        (&[("scope", "control")], true, false, false, false),
        (&[("scope", "http")], false, true, false, false),
        (&[("scope", "http"), ("target", "wiki")], false, true, false, false),
        (&[("scope", "http"), ("target", "customers")], false, false, false, false),
        (&[("scope", "ssh postgres"), ("target", "web-1")], false, false, false, true),
        (&[("scope", "postgres")], false, false, true, false),
    ] {
        let one = LoggedIn::by(port, whole.secret(), more);
        assert_eq!(one.login(), whole.login());
        let answer = one.api("/api/v1/whoami");
        assert_eq!(answer.status, if api { 200 } else { 401 }, "{more:?} {answer:?}");
        if !api {
            assert_eq!(answer.detail(), api_words, "{more:?}");
        }
        let answer = one.wiki();
        assert_eq!(answer.status, if wiki { 200 } else { 401 }, "{more:?} {answer:?}");
        if !wiki {
            assert_eq!(answer.detail(), wiki_words, "{more:?}");
        }
        let ran = one.psql("alice", "SELECT 'in'");
        if database {
            assert_eq!(ran.out, "in\n", "{more:?} {ran:?}");
        } else {
            is_refused(&ran);
        }
        let ran = Ssh::run(port, one.secret(), "echo in");
        assert_eq!(ran.out == "in\n", shell, "{more:?} {ran:?}");
    }
    // What is narrow does not widen, and what renews is for nothing else.
    let narrow = LoggedIn::by(port, whole.secret(), &[("scope", "control http")]);
    let wide = [
        ("grant_type", EXCHANGE),
        ("subject_token", narrow.secret()),
        ("scope", "control http postgres"),
    ];
    assert_eq!(form(port, "/oauth/token", &wide).json()["error"], "invalid_scope");
    let renewal = whole.renewal();
    assert_eq!(ask(port, "", "/api/v1/whoami", Some(renewal), &[]).detail(), api_words);
    assert_eq!(ask(port, "wiki", "/api/people", Some(renewal), &[]).detail(), wiki_words);
}

#[test]
fn a_renewal_replaces_both_secrets_and_a_replayed_one_ends_the_login() {
    let port = Demo::shared().port();
    let first = LoggedIn::of(port, "alice");
    let sleeping = first.sleeping("alice", "across-renewals");
    let mut ssh = first.ssh();
    let second = first.renewed();
    assert_eq!(second.login(), first.login());
    assert!(second.secret() != first.secret() && second.renewal() != first.renewal());
    assert_eq!((first.wiki().status, second.wiki().status), (401, 200));
    is_refused(&first.psql("alice", "SELECT 1"));
    let third = second.renewed();
    assert_eq!(third.psql("alice", "SELECT 'in'").out, "in\n");
    // Sessions go on: it is the same person.
    assert!(sleeps("across-renewals") && ssh.lives());
    // Somebody has a copy of the first renewal secret.
    let replayed = first.renew();
    assert_eq!((replayed.status, &replayed.json()["error"]), (400, &json!("invalid_grant")));
    ended(sleeping, "across-renewals", "a used-up secret of it was shown again");
    ssh.ended("a used-up secret of it was shown again");
    assert_eq!(third.wiki().status, 401);
    assert_eq!(third.renew().json()["error"], "invalid_grant");
}

#[test]
fn where_a_provider_s_token_is_no_credential_only_what_it_is_exchanged_for_counts() {
    let mut prepared = Prepared::new();
    while prepared.config.contains("provider_tokens = true\n") {
        prepared.change("provider_tokens = true\n", "");
    }
    let gateway = prepared.start();
    let (port, token) = (gateway.port(), Demo::shared().token("alice"));
    let refused = ask(port, "wiki", "/api/people", Some(token), &[]);
    assert!(refused.status == 401 && refused.detail().contains("provider's token"), "{refused:?}");
    let ran = psql(port, "alice", token, "SELECT 1");
    assert!(ran.code == 2 && ran.err.contains("provider's token"), "{ran:?}");
    let ran = Ssh::run(port, token, "echo in");
    assert!(ran.code == 255 && ran.out.is_empty(), "{ran:?}");
    assert_eq!(ask(port, "", "/api/v1/whoami", Some(token), &[]).status, 200);
    let one = LoggedIn::of(port, "alice");
    assert_eq!(one.wiki().status, 200);
    assert_eq!(one.psql("alice", "SELECT 'in'").out, "in\n");
    assert_eq!(Ssh::run(port, one.secret(), "echo in").out, "in\n");
}

// --- What is written down ------------------------------------------------------------------------

/// Every file below a folder that has one of the texts in it.
fn files_with(dir: &Path, texts: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, texts));
            continue;
        }
        let bytes = fs::read(&path).unwrap_or_default();
        let has = |text: &String| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        let which = texts.iter().filter(|text| has(text)).collect::<Vec<_>>();
        if !which.is_empty() {
            found.push(format!("{}: {which:?}", path.display()));
        }
    }
    found
}

#[test]
fn no_secret_stands_in_a_log_a_record_a_page_or_the_state() {
    let mut gateway = Prepared::new().start();
    let port = gateway.port();
    let one = LoggedIn::of(port, "alice");
    let two = one.renewed();
    assert_eq!(two.psql("alice", "SELECT 'in'").out, "in\n");
    assert_eq!(two.wiki().status, 200);
    assert_eq!(Ssh::run(port, two.secret(), "echo in").out, "in\n");
    // Wrong uses and wrong places write most.
    let lost = format!("weir_s_{}", "Lost".repeat(10) + "abc");
    is_refused(&psql(port, "alice", &lost, "SELECT 1"));
    is_refused(&psql(port, "alice", two.renewal(), "SELECT 1"));
    is_refused(&one.psql("alice", "SELECT 1"));
    let _refused = Ssh::run(port, &lost, "echo in");
    assert_eq!(ask(port, "wiki", "/api/people", Some(&lost), &[]).status, 401);
    let device = form(port, "/oauth/device_authorization", &[("client_id", "some-client")]).ok();
    let device = device["device_code"].as_str().unwrap();
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let poll = [("grant_type", grant), ("client_id", "other"), ("device_code", device)];
    assert_eq!(form(port, "/oauth/token", &poll).json()["error"], "invalid_grant");
    let three = two.renewed();
    let listed = three.api("/api/v1/credentials").body;
    assert_eq!(two.renew().status, 400, "a replay");
    let _in_the_url = ask(port, "", &format!("/oauth/callback?code={lost}&state=s"), None, &[]);
    gateway.signal("TERM");
    assert!(gateway.ended().success());
    let all = [&one, &two, &three];
    let mut secrets = all.iter().map(|one| one.secret().to_owned()).collect::<Vec<_>>();
    secrets.extend(all.iter().map(|one| one.renewal().to_owned()));
    secrets.extend([lost, device.to_owned()]);
    let token = Demo::shared().token("alice").split('.').nth(2).unwrap().to_owned();
    secrets.push(token);
    // Without the prefix that tells what they are: no part of them stands anywhere either.
    let parts = secrets.iter().map(|secret| secret[secret.len() - 24..].to_owned());
    let parts = parts.collect::<Vec<_>>();
    assert_eq!(files_with(&gateway.path(""), &parts), [""; 0]);
    assert!(!parts.iter().any(|part| listed.contains(part)));
    // The eye is open: what is written down is found.
    assert!(!files_with(&gateway.path("state"), &[one.login().to_owned()]).is_empty());
}

// --- Certificates --------------------------------------------------------------------------------

#[test]
fn a_certificate_is_a_credential_of_its_login_for_psql_and_curl_alike() {
    let demo = Demo::shared();
    let port = demo.port();
    let login = LoggedIn::of(port, "alice");
    let dir = tempfile::tempdir().unwrap();
    let (key, csr) = (dir.path().join("alice.key"), dir.path().join("alice.csr"));
    let mut openssl = Command::new(parts::program("openssl"));
    openssl.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-subj", "/CN=somebody else", "-keyout"]).arg(&key);
    let ran = Ran::of(&openssl.arg("-out").arg(&csr).output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    let asked = json!({ "csr": read(&csr), "uses": ["postgres", "http"] });
    let issued = post(port, "/api/v1/certificates", login.secret(), &asked).ok();
    let certificate = dir.path().join("alice.crt");
    fs::write(&certificate, issued["certificate"].as_str().unwrap()).unwrap();
    let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    let shown = ["--cert", certificate, "--key", key];
    let curl = |host: &str, path: &str| ask(port, host, path, None, &shown);
    assert!(curl("wiki", "/api/people").body.contains("<masked:pii.email>"));
    let mut psql = demo.psql_at(port, "alice");
    psql.env_remove("PGPASSWORD").arg("-w").env("PGSSLCERT", certificate).env("PGSSLKEY", key);
    let child = sleeping(psql, "by-certificate");
    assert_eq!(login.revoke(issued["id"].as_str().unwrap()).ok()["ended"], true);
    ended(child, "by-certificate", "revoked by alice");
    assert_eq!(curl("wiki", "/api/people").status, 401);
    assert_eq!(login.wiki().status, 200, "the login itself lives on");
}

// --- Several gateways ----------------------------------------------------------------------------

/// A gateway of a pair: state in the database `name`, and the keys that such gateways share.
fn of_a_pair(id: &str, url: &str) -> Prepared {
    let prepared = state::prepared(id, url);
    fs::create_dir(prepared.path("state")).unwrap();
    fs::write(prepared.path("state/login.key"), "5a".repeat(32)).unwrap();
    prepared
}

#[test]
fn gateways_that_share_a_database_take_and_end_each_other_s_credentials() {
    let url = state::url("state_logins");
    let one = of_a_pair("weir-1", &url).start();
    let two = of_a_pair("weir-2", &url).start();
    let at_one = LoggedIn::of(one.port(), "alice");
    let at =
        |gateway: &Gateway, login: &LoggedIn| LoggedIn { port: gateway.port(), ..login.clone() };
    let at_two = at(&two, &at_one);
    assert_eq!(at_two.psql("alice", "SELECT 'in'").out, "in\n");
    assert_eq!(at_two.wiki().status, 200);
    let sleeping = at_two.sleeping("alice", "at-the-other-gateway");
    let ssh = at_two.ssh();
    // Renewed at the second, known at the first.
    let renewed = at_two.renewed();
    assert_eq!(at(&one, &renewed).wiki().status, 200);
    wait_for("the old credential's end at the first", || {
        (at_one.wiki().status == 401).then_some(())
    });
    assert!(sleeps("at-the-other-gateway"));
    // Ended at the first, over at the second.
    let out = post(one.port(), "/api/v1/logout", renewed.secret(), &json!({}));
    assert_eq!(out.ok()["ended"], 1);
    ended(sleeping, "at-the-other-gateway", "logged out");
    ssh.ended("logged out");
    assert_eq!(renewed.wiki().status, 401);
    // A renewal that is shown at both at once counts at one.
    let login = LoggedIn::of(one.port(), "olaf");
    let elsewhere = at(&two, &login);
    let both = std::thread::scope(|scope| {
        let first = scope.spawn(|| login.renew().status);
        let second = scope.spawn(|| elsewhere.renew().status);
        [first.join().unwrap(), second.join().unwrap()]
    });
    assert!(both.iter().filter(|status| **status == 200).count() <= 1, "{both:?}");
    assert_eq!(one.log_lines("panicked").len() + two.log_lines("panicked").len(), 0);
}
