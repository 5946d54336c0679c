//! The daemon: what stops its start, what a reload changes, how it ends, and observe mode.

use std::fs;
use std::process::Command;

use serde_json::Value;
use weir::model::digest::Digest;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::read;
use crate::demo::wait_for;
use crate::gateway::Prepared;
use crate::parts;
use crate::visitor::Visitor;

/// Which sessions of a person's were admitted and are not closed.
fn open_of(ledger: &[Value], name: &str) -> usize {
    let closed = is(ledger, "trail-closed");
    let admitted = is(ledger, "admitted").into_iter().filter(|e| e["principal"]["name"] == name);
    admitted.filter(|a| !closed.iter().any(|c| c["session"] == a["session"])).count()
}

/// A policy that forbids alice to connect to the customers.
const NOT_ALICE: &str = "@id(\"test.not-engineers\")\n\
    @reason(\"engineers are locked out for this test\")\n\
    forbid (principal in Weir::Role::\"engineer\", action == Weir::Action::\"connect\", \
    resource == Weir::Target::\"customers\");\n";

fn is<'a>(events: &'a [Value], what: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["is"] == what).collect()
}

#[test]
fn whatever_is_broken_stops_the_start_with_one_error_that_names_the_place() {
    let only = |ran: &Ran, place: &str, expected: &str| {
        assert_eq!(ran.code, 2, "{ran:?}");
        let said = ran.err.trim_end();
        assert!(said.contains(place) && said.contains(expected), "{place} {expected}: {said}");
        // One error: its line, and at most the line of the file that it is about.
        let (first, more) = said.split_once('\n').unwrap_or((said, ""));
        assert!(first.contains(place) && more.lines().count() <= 4, "{said}");
        assert!(!more.contains("weir: "), "{said}");
    };
    let line_of = |config: &str, needle: &str| {
        config.lines().position(|line| line.starts_with(needle)).unwrap() + 1
    };
    let mut sound = Prepared::new();
    let config = sound.config.clone();
    // The configuration.
    sound.change("drain_s_max = 2", "drain_s_max = \"soon\"");
    let line = line_of(&config, "drain_s_max");
    only(&sound.fails(), &format!("weir.toml:{line}:15"), "0 to 86400");
    // A certificate that is none, and one whose key is another's.
    sound.config = config.clone();
    let certificate = fs::read(sound.path("gateway.crt")).unwrap();
    let line = line_of(&config, "certificate_file");
    fs::write(sound.path("gateway.crt"), "no certificate").unwrap();
    only(&sound.fails(), &format!("weir.toml:{line}:20"), "gateway.crt");
    fs::write(sound.path("gateway.crt"), &certificate).unwrap();
    let key = fs::read(sound.path("gateway.key")).unwrap();
    fs::copy(Demo::shared().text("/ca_key_file"), sound.path("gateway.key")).unwrap();
    only(&sound.fails(), &format!("weir.toml:{line}:20"), "key");
    fs::write(sound.path("gateway.key"), key).unwrap();
    // A target's CA.
    let ca = fs::read(sound.path("upstream-ca.pem")).unwrap();
    fs::write(sound.path("upstream-ca.pem"), "no certificate").unwrap();
    let line = line_of(&config, "tls = { ca_file");
    only(&sound.fails(), &format!("weir.toml:{line}:"), "upstream-ca.pem");
    fs::write(sound.path("upstream-ca.pem"), ca).unwrap();
    // A policy: its syntax, and what it names.
    let broken = sound.path("policies/zz.cedar");
    fs::write(&broken, "@id(\"x\")\npermit(principal, action resource);\n").unwrap();
    only(&sound.fails(), "zz.cedar:2:", "expected");
    fs::write(&broken, "@id(\"x\")\nforbid(principal, action, resource)\nwhen { principal.shoe };")
        .unwrap();
    only(&sound.fails(), "zz.cedar:", "shoe");
    fs::remove_file(&broken).unwrap();
    // A region that a target names and nobody declared.
    sound.change("[targets.web-1]\nregion = \"eu-central\"", "[targets.web-1]\nregion = \"moon\"");
    let line = line_of(&config, "[targets.web-1]") + 1;
    only(&sound.fails(), &format!("weir.toml:{line}:10"), "moon");
    // And a broken ledger: what is lost must not be written over.
    sound.config = config;
    let mut gateway = sound.start();
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code(), Some(0));
    let ledger = gateway.path("state/ledger.jsonl");
    fs::write(&ledger, read(&ledger).replacen("\"n\":1", "\"n\":7", 1)).unwrap();
    let ran = gateway.prepared.fails();
    only(&ran, "ledger.jsonl", "entry");
    assert!(ran.err.contains("byte"), "{}", ran.err);
}

#[test]
fn a_policy_that_changes_ends_whom_it_no_longer_admits_and_a_broken_one_changes_nothing() {
    let mut gateway = Prepared::new().start();
    let mut alice = gateway.live("alice");
    let mut olaf = gateway.live("olaf");
    // A broken policy: the old version stays, the log says why, and where.
    gateway.replace("policies/zz.cedar", "@id(\"x\")\nforbid(principal, action resource);\n");
    let said = wait_for("the error in the log", || gateway.log_lines("not reloaded").pop());
    assert_eq!(said["level"], "ERROR");
    assert!(said["message"].as_str().unwrap().contains("zz.cedar:2:"), "{said}");
    alice.say("SELECT 'still ' || 'here';");
    alice.wait("still here");
    assert!(is(&gateway.ledger(), "changed").is_empty());
    // The repaired one is taken: alice's session ends, olaf's goes on.
    gateway.replace("policies/zz.cedar", NOT_ALICE);
    let ledger = wait_for("the change in the ledger", || {
        let ledger = gateway.ledger();
        (open_of(&ledger, "alice") == 0).then_some(ledger)
    });
    assert_eq!(is(&ledger, "changed").len(), 1);
    let trails = gateway.trails();
    let changed = |e: &&&Value| e["reason"].as_str().unwrap().contains("policy_changed");
    assert_eq!(is(&trails, "closed").iter().filter(changed).count(), 1);
    alice.say("SELECT 'and ' || 'now';");
    let ran = alice.finish();
    assert!(!ran.out.contains("and now"), "{ran:?}");
    for word in ["57P01", "policy_changed", "engineers are locked out", "test.not-engineers"] {
        assert!(ran.err.contains(word), "no {word}: {}", ran.err);
    }
    olaf.say("SELECT 'olaf ' || 'stays';");
    olaf.wait("olaf stays");
    let again = gateway.psql("alice", &["SELECT 1"]);
    assert!(again.err.contains("engineers are locked out"), "{again:?}");
    // What is asked by name is taken, too: SIGHUP, and a policy that goes.
    fs::remove_file(gateway.path("policies/zz.cedar")).unwrap();
    gateway.signal("HUP");
    wait_for("alice's return", || (gateway.psql("alice", &["SELECT 1"]).code == 0).then_some(()));
    // A broken configuration changes nothing either.
    let config = gateway.prepared.config.clone();
    gateway.replace("weir.toml", &config.replacen("[targets.wiki]", "[targets.wi ki]", 1));
    wait_for("the error", || {
        let said = gateway.log_lines("not reloaded").pop().unwrap();
        said["message"].as_str().unwrap().contains("weir.toml:").then_some(())
    });
    assert_eq!(gateway.psql("alice", &["SELECT 1"]).code, 0);
    // A target that is gone ends its sessions.
    gateway.replace("weir.toml", &config.replace("targets.customers", "targets.clients"));
    wait_for("the end of olaf's session", || {
        (open_of(&gateway.ledger(), "olaf") == 0).then_some(())
    });
    assert!(gateway.lives());
}

#[test]
fn a_certificate_that_was_replaced_is_shown_to_the_next_client() {
    let gateway = Prepared::new().start();
    let shown = || {
        let mut openssl = Command::new(parts::program("openssl"));
        let address = format!("127.0.0.1:{}", gateway.port());
        openssl.args(["s_client", "-connect", &address, "-servername", "localhost"]);
        let output = openssl.stdin(std::process::Stdio::null()).output().unwrap();
        let ran = Ran::of(&output);
        let pem = ran.out.split("-----BEGIN").nth(1).unwrap_or_default();
        pem.split("-----END").next().unwrap_or_default().to_owned()
    };
    let first = shown();
    assert!(!first.is_empty());
    // A broken one first: the old one stays.
    let old = fs::read_to_string(gateway.path("gateway.crt")).unwrap();
    gateway.replace("gateway.crt", "no certificate");
    let said = wait_for("the error", || gateway.log_lines("the old certificate stays").pop());
    assert_eq!(said["level"], "ERROR");
    assert_eq!(shown(), first);
    let mut openssl = Command::new(parts::program("openssl"));
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    openssl.args([
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
    ]);
    openssl.arg("-keyout").arg(gateway.path("new.key")).arg("-out").arg(gateway.path("new.crt"));
    assert!(openssl.output().unwrap().status.success());
    fs::rename(gateway.path("new.key"), gateway.path("gateway.key")).unwrap();
    fs::rename(gateway.path("new.crt"), gateway.path("gateway.crt")).unwrap();
    let second = wait_for("the new certificate", || Some(shown()).filter(|now| *now != first));
    assert!(!second.is_empty() && !old.contains(second.trim()));
}

#[test]
fn sigterm_lets_commands_end_and_tells_the_idle() {
    let mut prepared = Prepared::new();
    prepared.change("drain_s_max = 2", "drain_s_max = 60");
    let mut gateway = prepared.start();
    let mut idle = gateway.live("alice");
    let mut busy = gateway.live("dana");
    let marker = "SELECT pg_sleep(6), 'sleeper ' || 'done';";
    busy.say(marker);
    wait_for("the query to run", || {
        let trails = gateway.trails();
        trails
            .iter()
            .any(|e| e["command"]["text"].as_str().is_some_and(|t| t.contains("pg_sleep")))
            .then_some(())
    });
    gateway.signal("TERM");
    // The idle one is told at once: while the other one's query runs still.
    wait_for("the end of the idle session", || {
        (open_of(&gateway.ledger(), "alice") == 0).then_some(())
    });
    assert!(!busy.said().contains("sleeper done"), "the idle session was told too late");
    idle.say("SELECT 'idle ' || 'again';");
    let ran = idle.finish();
    assert!(ran.err.contains("57P01") && ran.err.contains("stopping"), "{ran:?}");
    busy.wait("sleeper done");
    assert_eq!(gateway.ended().code(), Some(0), "{}", gateway.log());
    let ledger = gateway.ledger();
    assert_eq!(ledger.last().unwrap()["is"], "stopped", "{ledger:?}");
    assert_eq!(ledger.last().unwrap()["reason"], "SIGTERM");
    assert_eq!(is(&ledger, "admitted").len(), is(&ledger, "trail-closed").len());
    assert_eq!(crate::demo::open_recordings(&gateway.path("state")), 0);
    assert_eq!(gateway.verify().code, 0, "{:?}", gateway.verify());
}

#[test]
fn in_observe_mode_nothing_is_refused_and_everything_is_said() {
    let mut prepared = Prepared::new();
    prepared.change("labels = [\"prod\"]", "labels = [\"prod\"]\nobserve = true");
    let gateway = prepared.start();
    assert!(is(&gateway.ledger(), "started")[0]["observed"].to_string().contains("customers"));
    let ran = gateway.psql(
        "alice",
        &[
            "SELECT email FROM customers WHERE id = 1",
            "DELETE FROM notes WHERE id = -1",
            "UPDATE customers SET city = city WHERE id = -1",
            "CREATE TEMP TABLE observed (id int)",
        ],
    );
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains('@') && ran.out.contains("UPDATE 0"), "{}", ran.out);
    let trails = gateway.trails();
    let opened = is(&trails, "opened");
    assert_eq!(opened[0]["observe"], true);
    let commands = is(&trails, "command");
    let of = |text: &str| {
        let found = commands.iter().find(|c| c["command"]["text"].as_str().unwrap().contains(text));
        *found.unwrap_or_else(|| panic!("no {text}"))
    };
    assert_eq!(
        (of("UPDATE")["observed"].clone(), of("UPDATE")["verdict"]["is"].clone()),
        (Value::from(true), Value::from("hold"))
    );
    assert_eq!(
        (of("CREATE")["observed"].clone(), of("CREATE")["verdict"]["is"].clone()),
        (Value::from(true), Value::from("deny"))
    );
    assert_eq!(of("DELETE")["observed"], Value::Null);
    let masks = is(&trails, "masks");
    assert!(masks[0]["observed"] == true && masks[0]["hidden"].get("pii.email").is_some());
    // It shows wherever the target does.
    let listed = gateway.weir("alice", &["sessions", "ls"]);
    assert!(listed.out.contains("observe"), "{}", listed.out);
    let targets = gateway.weir_json("alice", &["targets"]);
    let of = |name: &str| targets.as_array().unwrap().iter().find(|t| t["name"] == name).unwrap();
    assert_eq!(of("customers")["observe"], true);
    // It weakens neither identity nor region pinning nor residency at connect on record.
    assert_ne!(gateway.psql_with("alice", "no-token", &["SELECT 1"]).code, 0);
}

#[test]
fn a_network_that_changes_its_country_counts_from_the_next_connection() {
    let gateway = Prepared::new().start();
    let from = || gateway.weir_json("alice", &["whoami"])["origin"]["country"].clone();
    assert_eq!(from(), "DE");
    let config = &gateway.prepared.config;
    gateway.replace(
        "weir.toml",
        &config.replace("\"127.0.0.0/8\" = \"DE\"", "\"127.0.0.0/8\" = \"SG\""),
    );
    wait_for("the change", || (from() == "SG").then_some(()));
    // One that nobody declares is unknown, and unknown is no.
    gateway.replace("weir.toml", &config.replace("\"127.0.0.0/8\" = \"DE\"\n", ""));
    wait_for("the change", || from().is_null().then_some(()));
    assert_ne!(gateway.psql("alice", &["SELECT 1"]).code, 0);
}

#[test]
fn metrics_and_health_tell_how_the_record_does_and_name_nobody() {
    let mut prepared = Prepared::new();
    prepared.config.push_str("\n[metrics]\naddress = \"127.0.0.1:0\"\n");
    let gateway = prepared.start();
    let said = wait_for("the address", || gateway.log_lines("/metrics").pop());
    let address = said["address"].as_str().unwrap().to_owned();
    let alice = gateway.live("alice");
    let visitor = Visitor::new(&[]);
    let page = visitor.visit(&format!("http://{address}/metrics"));
    assert_eq!(page.status, 200);
    let value = |name: &str| {
        let line = page.body.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("no {name} in {}", page.body))
    };
    let close_to = |name: &str, number: f64| {
        assert!((value(name) - number).abs() < 0.5, "{name}: {}", value(name));
    };
    close_to("weir_sessions_live", 1.0);
    close_to("weir_record_failures_total", 0.0);
    close_to("weir_sessions_barred", 0.0);
    close_to("weir_store_failing", 0.0);
    close_to("weir_spool_max_bytes", 10_737_418_240.0);
    assert!(value("weir_ledger_entries_total") > 2.0 && value("weir_ledger_signed_total") > 0.0);
    assert!(value("weir_spool_bytes") > 0.0);
    assert!(value("weir_store_caught_up_timestamp_seconds") > 1.7e9);
    for word in ["weir_store{store=\"the folder ", "region=\"eu-central\"", "# EOF\n"] {
        assert!(page.body.contains(word), "no {word} in {}", page.body);
    }
    for word in ["alice", "customers", "web-1"] {
        assert!(!page.body.contains(word), "{word} in {}", page.body);
    }
    let health = visitor.visit(&format!("http://{address}/health"));
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    assert_eq!(visitor.visit(&format!("http://{address}/api/v1/sessions")).status, 404);
    assert_eq!(visitor.send(&format!("http://{address}/metrics"), &[]).status, 405);
    drop(alice);
}

#[test]
fn a_second_gateway_in_the_same_folder_is_refused_and_disturbs_nothing() {
    let gateway = Prepared::new().start();
    let mut alice = gateway.live("alice");
    // Its own ports, the same state folder.
    let second = gateway.prepared.fails();
    assert_eq!(second.code, 2, "{second:?}");
    assert!(second.err.contains("another gateway runs in"), "{second:?}");
    alice.say("SELECT 'still ' || 'here';");
    alice.wait("still here");
    alice.finish();
    let verified = gateway.verify();
    assert_eq!(verified.code, 0, "{verified:?}");
    assert_eq!(is(&gateway.ledger(), "started").len(), 1);
}

#[test]
fn a_configuration_that_changes_stands_in_the_ledger_by_its_digest() {
    let gateway = Prepared::new().start();
    let config = gateway.prepared.config.clone();
    let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
    assert_eq!(is(&gateway.ledger(), "started")[0]["configuration"], digest(&config));
    // Nothing that policy reads: how the gateway signs in at a target.
    let old = config.lines().find(|line| line.starts_with("credential = ")).unwrap();
    let changed = config.replacen(old, &format!("{old} # the same, said anew"), 1);
    gateway.replace("weir.toml", &changed);
    let entry =
        wait_for("the change in the ledger", || is(&gateway.ledger(), "changed").pop().cloned());
    assert_eq!(entry["configuration"], digest(&changed));
    assert_eq!(entry["from"], entry["to"], "policies are as they were");
}
