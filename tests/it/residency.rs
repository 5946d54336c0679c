//! Who sees personal data from where: the office in Singapore, through psql.

use crate::demo::Demo;
use crate::demo::Ran;

fn psql_from_singapore(demo: &Demo, person: &str, text: &str) -> Ran {
    let mut psql = demo.psql_at(demo.office_port(), person);
    Ran::of(&psql.args(["-A", "-t", "-c", text]).output().unwrap())
}

#[test]
fn another_legal_entity_without_a_basis_is_refused_at_connect_and_told_why() {
    let demo = Demo::shared();
    let ran = psql_from_singapore(demo, "mei", "SELECT 1");
    assert_ne!(ran.code, 0);
    // The reason, the rows of the law data, and what would help.
    for word in ["acme-de", "acme-sg", "EDPB-3", "EUM-SCC2", "transfer impact assessment"] {
        assert!(ran.err.contains(word), "no {word}: {}", ran.err);
    }
    let ledger = crate::demo::read(demo.state.join("ledger.jsonl"));
    assert!(ledger.lines().any(|l| l.contains("\"is\":\"refused\"") && l.contains("\"mei\"")));
}

#[test]
fn an_employee_who_travels_gets_in_and_the_place_is_on_record() {
    let demo = Demo::shared();
    let ran = psql_from_singapore(demo, "alice", "SELECT 'from singapore'");
    assert_eq!((ran.out.trim(), ran.code), ("from singapore", 0), "{}", ran.err);
    let sessions = demo.weir_json("dana", &["sessions", "ls"]);
    let travelled = sessions
        .as_array()
        .unwrap()
        .iter()
        .find(|session| session["principal"] == "alice" && session["country"] == "SG");
    let id = travelled.expect("the session is listed")["session"].as_str().unwrap().to_owned();
    let shown = demo.weir_json("olaf", &["sessions", "show", &id, "--purpose", "a test"]);
    let opened = &shown["entries"][0]["event"];
    assert_eq!(opened["is"], "opened");
    assert_eq!(opened["transfer"]["outcome"], "none+log", "{opened}");
    let ledger = crate::demo::read(demo.state.join("ledger.jsonl"));
    assert!(
        ledger.lines().any(|l| l.contains("transfer-opened") && l.contains(&id)),
        "the ledger says that data went to {id}"
    );
}

#[test]
fn mei_is_refused_from_germany_too_because_her_employer_is_elsewhere() {
    let demo = Demo::shared();
    let ran = demo.psql("mei", &["SELECT 1"]);
    assert!(ran.code != 0 && ran.err.contains("acme-sg"), "{}", ran.err);
}

#[test]
fn explain_gives_the_daemons_own_verdict() {
    let demo = Demo::shared();
    let ask = |who: &str, from: &str, text: &str| {
        let args =
            ["policy", "explain", "--as", who, "--from", from, "--target", "customers", text];
        demo.weir_json("dana", &args)
    };
    let read = "SELECT email FROM customers";
    let alice = ask("alice", "SG", read);
    assert_eq!(alice["connect"]["is"], "admit");
    assert_eq!(alice["transfer"]["outcome"], "none-logged");
    assert_eq!(alice["command"]["is"], "allow");
    assert!(alice["masks"]["hidden"].get("pii.email").is_some(), "{alice}");
    let olaf = ask("olaf", "DE", read);
    assert!(olaf["masks"]["shown"].as_array().unwrap().iter().any(|c| c == "pii.email"), "{olaf}");
    let mei = ask("mei", "SG", read);
    assert_eq!(mei["connect"]["is"], "refuse");
    let mass = ask("alice", "DE", "DELETE FROM customers");
    assert_eq!(mass["command"]["is"], "deny");
    let held = ask("alice", "DE", "UPDATE customers SET city = 'Bonn' WHERE id = 1");
    assert_eq!(held["command"]["is"], "hold", "{held}");
    // Alice may not ask about others.
    let args = ["policy", "explain", "--as", "olaf", "--target", "customers", read];
    assert_eq!(demo.weir("alice", &args).status.code(), Some(1));
}
