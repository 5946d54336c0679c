//! `weir audit reconcile` with the logs that PostgreSQL, sshd and an API server write: whatever goes
//! through the gateway matches, and the one thing that goes past it is listed.

use std::process::Command;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::read;
use crate::demo::wait_for;
use crate::parts;
use crate::postgres::direct;

/// Holds a log against what the gateway has recorded; its report and exit code.
fn reconcile(demo: &Demo, log: &[&str]) -> (Value, i32) {
    let args = [&["audit", "reconcile", "--json"], log].concat();
    let ran = Ran::of(&demo.weir("dana", &args));
    let report = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    (report, ran.code)
}

/// Reconciles until every command's end is recorded and in the log, and everything matches.
fn matched(demo: &Demo, log: &[&str]) -> Value {
    wait_for("a match", || {
        let (report, code) = reconcile(demo, log);
        let ends = report["record"]["not_due"] == 0 || code == 0;
        (ends && code == 0).then_some(report)
    })
}

fn findings(report: &Value) -> Vec<(String, String)> {
    let found = report["findings"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    found.map(|finding| (text(&finding["kind"]), text(&finding["what"]))).collect()
}

#[test]
fn a_statement_past_the_gateway_is_the_one_that_is_listed() {
    let demo = Demo::start(&[]);
    let ran =
        demo.psql("alice", &["SELECT id FROM customers ORDER BY id", "DELETE FROM customers"]);
    assert!(ran.says("no-mass-delete"), "{ran:?}");
    let ran =
        demo.psql("alice", &["SELECT 1 AS one,\n\t2 AS \"a; b\"", "SELECT 1/0", "BEGIN; COMMIT"]);
    assert!(ran.says("division by zero"), "{ran:?}");
    let log = ["--postgres-log", demo.text("/direct/postgres/log_file")];
    let report = matched(&demo, &log);
    // The gateway's own reading of the catalogue: this log has no ports, and the library that reads
    // it does not tell the backend's number.
    assert_eq!(report["log"]["matched_by_text"], 2, "{report}");
    assert_eq!(report["record"]["denied"], 1, "{report}");
    assert_eq!(report["log"]["gateways_own"], 1, "{report}");
    assert_eq!(report["record"]["matched"], 6, "{report}");

    let past = "SELECT email FROM customers /* past the gateway */";
    let ran = Ran::of(&direct(&demo, false).args(["-c", past]).output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    let (report, code) = reconcile(&demo, &log);
    assert_eq!(findings(&report), [("unrecorded".to_owned(), past.to_owned())]);
    assert_eq!(code, 1);
    assert_eq!(report["findings"][0]["who"], "weir_app@customers");
    let line = usize::try_from(report["findings"][0]["line"].as_u64().unwrap()).unwrap();
    let text = read(demo.text("/direct/postgres/log_file"));
    assert!(text.lines().nth(line - 1).unwrap().contains("past the gateway"));
    // The same with the files alone.
    let state = demo.state.to_str().unwrap();
    let mut offline = Command::new(parts::weir());
    offline.args(["audit", "reconcile", state, "--json"]).args(log);
    let ran = Ran::of(&offline.output().unwrap());
    assert_eq!(ran.code, 1, "{ran:?}");
    let offline = serde_json::from_str::<Value>(&ran.out).unwrap();
    assert_eq!(offline["findings"], report["findings"]);
    assert_eq!(offline["record"]["matched"], report["record"]["matched"]);
    // The record is verified first: one that misses a recording proves nothing.
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("spool")).unwrap();
    for file in ["gateway", "ledger.jsonl", "wrapping.key"] {
        std::fs::copy(demo.state.join(file), copy.path().join(file)).unwrap();
    }
    let mut offline = Command::new(parts::weir());
    offline.args(["audit", "reconcile"]).arg(copy.path()).arg("--json").args(log);
    let ran = Ran::of(&offline.output().unwrap());
    assert!(ran.code == 4 && ran.out.contains("the recording is missing"), "{ran:?}");
    // Who may do so need not be listed, and is counted.
    let (report, code) = reconcile(&demo, &[&log[..], &["--except", "weir_app@*"]].concat());
    assert_eq!((code, &report["log"]["excepted"]), (0, &Value::from(1)));
}

#[test]
fn a_login_past_the_gateway_is_listed_with_the_key_that_it_used() {
    let demo = Demo::start(&[]);
    let ssh = |line: &str| {
        let mut ssh = Command::new(parts::program("ssh"));
        let askpass = demo.text("/people/alice/askpass");
        ssh.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
        ssh.env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY").stdin(std::process::Stdio::null());
        ssh.args(["-F", demo.text("/ssh_config"), "-p", &demo.port().to_string()]);
        Ran::of(&ssh.args(["-l", "deploy@web-1", "localhost", line]).output().unwrap())
    };
    assert_eq!(ssh("uptime").code, 0);
    assert_eq!(ssh("ls -l /tmp").code, 0);
    let log = ["--sshd-log", demo.text("/direct/ssh/log_file")];
    let report = matched(&demo, &log);
    assert_eq!((&report["log"]["matched"], &report["record"]["matched"]), (&4.into(), &2.into()));

    let at = |name: &str| demo.text(&format!("/direct/ssh/{name}")).to_owned();
    let port = demo.ready.pointer("/direct/ssh/port").unwrap().to_string();
    let mut past = Command::new(parts::program("ssh"));
    past.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-p", &port]);
    past.arg("-o").arg(format!("UserKnownHostsFile={}", at("known_hosts")));
    past.args(["-i", &at("key_file"), &format!("{}@127.0.0.1", at("user")), "id -un"]);
    let ran = Ran::of(&past.stdin(std::process::Stdio::null()).output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    let (report, code) = reconcile(&demo, &log);
    let found = findings(&report);
    let [(kind, what)] = found.as_slice() else { panic!("{report}") };
    assert_eq!((kind.as_str(), code), ("login", 1));
    assert!(what.contains("ED25519 SHA256:") && what.contains("began: command"), "{what}");
    assert!(report["findings"][0]["note"].as_str().unwrap().contains("gateway's own key"));
}

#[test]
fn a_request_past_the_gateway_is_the_one_that_is_listed() {
    let cluster = Cluster::shared();
    cluster.ok("alice", &["get", "pods", "-n", "dev", "-o", "name"]);
    let past = "/api/v1/namespaces/dev/configmaps?labelSelector=past-the-gateway";
    cluster.admin(&["get", "--raw", past]);
    // Other tests use the cluster at the same time: a copy that ends where this look begins, and
    // what of it is not theirs.
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit.log");
    let mut text = cluster.audit_text();
    text.truncate(text.rfind('\n').unwrap() + 1);
    std::fs::write(&log, text).unwrap();
    let found = wait_for("the commands' ends", || {
        let args = ["--kubernetes-audit", log.to_str().unwrap(), "--except", "system:*"];
        let (report, _) = reconcile(&cluster.demo, &args);
        let found = findings(&report);
        let matched = report["log"]["matched"].as_u64().unwrap() > 0;
        let ours = found.iter().all(|(kind, _)| kind == "unrecorded");
        (matched && ours).then_some(report)
    });
    let all = found["findings"].as_array().unwrap();
    let ours = all.iter().filter(|f| f["what"].as_str().unwrap().contains("past-the-gateway"));
    assert_eq!(ours.count(), 1, "{found}");
    // Whatever else is listed was the administrator's, or of somebody without a name, in another
    // test: nothing that the gateway sent is.
    for finding in all {
        let who = finding["who"].as_str().unwrap();
        assert!(who.starts_with("admin") || who.starts_with(" from"), "{finding}");
    }
}
