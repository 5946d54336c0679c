//! The ledger for an auditor: every transfer with its volumes, from the gateway and from files alone;
//! and recordings that are erased or indexed again.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::demo::Ran;
use crate::demo::wait_for;
use crate::gateway::Gateway;
use crate::gateway::Prepared;
use crate::parts;

/// A basis for the sister company in Singapore.
const BASIS: &str = r#"
[[bases]]
id = "scc-acme-sg-2026"
mechanism = "EUM-SCC2"
exporter = "acme-de"
importer = "acme-sg"
importer_country = "SG"
document_sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
valid_from = "2020-01-01"
valid_to = "2099-12-31"
owner = "dpo@acme.example"
approved_by = "board"

[bases.tia]
reference = "TIA-7"
date = "2020-01-01"
review_by = "2099-12-31"

[targets.customers]
"#;

fn gateway() -> Gateway {
    let mut prepared = Prepared::new();
    prepared.change("[targets.customers]\n", BASIS);
    prepared.start()
}

/// The last ended session of somebody.
fn ended(gateway: &Gateway, person: &str) -> String {
    wait_for("the session's end", || {
        let all = gateway.weir_json("dana", &["sessions", "ls", "--user", person]);
        let all = all.as_array().unwrap();
        all.iter()
            .find(|session| session["closed_at"].is_string())
            .map(|session| session["session"].as_str().unwrap().to_owned())
    })
}

fn weir(args: &[&str]) -> Ran {
    Ran::of(&Command::new(parts::weir()).args(args).output().unwrap())
}

#[test]
fn an_export_has_exactly_the_transfer_with_its_parties_basis_and_volumes() {
    let gateway = gateway();
    // Somebody at home makes no transfer.
    assert_eq!(gateway.psql("alice", &["SELECT id FROM customers WHERE id = 1"]).code, 0);
    let ran = gateway.psql("mei", &["SELECT name, email FROM customers WHERE id <= 2 ORDER BY id"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let session = ended(&gateway, "mei");
    let purpose = ["--purpose", "art. 30"];

    let args = ["ledger", "export", "--framework", "gdpr", "--from", "1h", "--format", "jsonl"];
    let without = gateway.weir("olaf", &args);
    assert!(without.code == 1 && without.err.contains("--purpose"), "{without:?}");
    let ran = gateway.weir("olaf", &[&args[..], &purpose].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lines = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines = lines.collect::<Vec<_>>();
    let [transfer, statement] = &lines[..] else { panic!("{}", ran.out) };
    assert_eq!(transfer["session"], session.as_str());
    assert_eq!((&transfer["state"], &transfer["direction"]), (&"closed".into(), &"read".into()));
    let facts = &transfer["facts"];
    assert_eq!(
        facts["exporter"],
        serde_json::json!(
            { "entity": "acme-de", "country": "DE", "role": "controller" }
        )
    );
    assert_eq!(facts["importer"]["role"], "processor");
    assert_eq!(facts["principal"]["name"], "mei");
    assert_eq!(facts["bases"][0]["id"], "scc-acme-sg-2026");
    // E-mail addresses were masked, so that they did not go there.
    let classes = transfer["classes"].as_object().unwrap();
    assert_eq!(classes.keys().collect::<Vec<_>>(), ["pii.name"]);
    assert_eq!(classes["pii.name"]["rows"], 2);
    assert_eq!(transfer["volume"]["rows"], 2);
    let statement = &statement["statement"];
    assert!(statement["text"].as_str().unwrap().contains("no gap"), "{statement}");
    assert_eq!(statement["checkpointed"], statement["read"]["last"]);
    assert!(statement["checkpoint"].as_str().unwrap().contains("weir-ledger"));

    let args = ["ledger", "export", "--framework", "gdpr", "--format", "csv"];
    let ran = gateway.weir("olaf", &[&args[..], &purpose].concat());
    let rows = ran.out.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>();
    assert!(rows[0].starts_with("entry,opened_at,"), "{}", ran.out);
    assert!(rows.len() > 1 && rows[1..].iter().all(|row| row.contains(&session)), "{}", ran.out);
    assert!(ran.out.contains("0123456789abcdef") && ran.out.contains("\n# ledger of gateway"));

    // The same from the files alone; and nothing of a ledger that was changed.
    let state = gateway.path("state");
    let offline = |format| {
        let dir = state.to_str().unwrap();
        weir(&["ledger", "export", "--framework", "gdpr", "--format", format, "--from-files", dir])
    };
    let from_files = offline("csv");
    assert_eq!(from_files.code, 0, "{}", from_files.err);
    let same = from_files.out.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>();
    assert_eq!(same, rows);
    let copy = tempfile::tempdir().unwrap();
    for file in ["ledger.jsonl", "checkpoints.jsonl", "gateway"] {
        fs::copy(state.join(file), copy.path().join(file)).unwrap();
    }
    let ledger = copy.path().join("ledger.jsonl");
    let text = fs::read_to_string(&ledger).unwrap();
    fs::write(&ledger, text.replacen("acme-sg", "acme-us", 1)).unwrap();
    let dir = copy.path().to_str().unwrap();
    let ran = weir(&["ledger", "export", "--framework", "gdpr", "--from-files", dir]);
    assert!(ran.code == 4 && !ran.out.contains(&session), "{ran:?}");

    let ran =
        gateway.weir("olaf", &["ledger", "ls", "--session", &session, purpose[0], purpose[1]]);
    assert!(ran.code == 0 && ran.out.contains("transfer-opened"), "{ran:?}");
}

#[test]
fn an_erased_recording_is_gone_and_the_record_stays_sound() {
    let gateway = gateway();
    gateway.psql("alice", &["SELECT 'to be erased'"]);
    let id = ended(&gateway, "alice");
    let reason = ["--reason", "case 7"];
    let act = |person: &str, verb: &str| {
        gateway.weir(person, &["sessions", verb, &id, reason[0], reason[1]])
    };
    assert_eq!(act("alice", "erase").code, 1, "it is hers, and not hers to erase");
    assert_eq!(act("olaf", "hold").code, 0);
    let held = act("olaf", "erase");
    assert!(held.code == 1 && held.err.contains("legal hold of olaf"), "{held:?}");
    assert_eq!(act("olaf", "release").code, 0);
    let erased = act("olaf", "erase");
    assert_eq!(erased.code, 0, "{}", erased.err);
    let shown = gateway.weir("alice", &["sessions", "show", &id]);
    assert!(shown.code == 1 && shown.err.contains("by olaf: case 7"), "{shown:?}");
    let verified = gateway.verify();
    assert_eq!(verified.code, 0, "{verified:?}");
    assert!(gateway.ledger().iter().any(|line| line["event"]["is"] == "erased"));
}

#[test]
fn an_index_that_is_made_again_finds_the_same() {
    let gateway = gateway();
    gateway.psql("alice", &["SELECT 'needle-in-the-store'"]);
    let id = ended(&gateway, "alice");
    let found = || {
        let answer = gateway.weir_json("alice", &["sessions", "search", "needle"]);
        answer["hits"].as_array().unwrap().iter().any(|hit| hit["session"] == id.as_str())
    };
    wait_for("the index", || found().then_some(()));
    assert_eq!(gateway.weir("alice", &["audit", "reindex"]).code, 1);
    let ran = gateway.weir_json("dana", &["audit", "reindex"]);
    assert_eq!((&ran["running"], &ran["unread"]), (&false.into(), &0.into()));
    assert!(found());
    let status = gateway.weir("olaf", &["audit", "status"]);
    assert!(status.code == 0 && status.out.contains("checkpoint"), "{status:?}");
}
