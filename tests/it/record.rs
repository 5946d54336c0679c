//! The record: what it says of a session, and that any change of it is found.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::read;
use crate::demo::wait_for;
use crate::parts;

fn verify(dir: &Path, more: &[&str]) -> Ran {
    let mut weir = Command::new(parts::weir());
    Ran::of(&weir.args(["audit", "verify"]).arg(dir).args(more).output().unwrap())
}

/// A copy of the record as it stands now, without the rest of the state.
fn copy_of(demo: &Demo) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    // The copy is made again until it is of one moment: something may be written meanwhile.
    wait_for("a moment without writing", || {
        let before = fs::read(demo.state.join("ledger.jsonl")).unwrap();
        for folder in ["spool", "store"] {
            let to = dir.path().join(folder);
            let _old = fs::remove_dir_all(&to);
            let copied =
                Command::new("cp").arg("-r").arg(demo.state.join(folder)).arg(&to).output();
            if !copied.unwrap().status.success() {
                return None;
            }
        }
        for file in ["gateway", "checkpoints.jsonl"] {
            fs::copy(demo.state.join(file), dir.path().join(file)).unwrap();
        }
        fs::write(dir.path().join("ledger.jsonl"), &before).unwrap();
        let sound = verify(dir.path(), &[]).code == 0;
        (sound && fs::read(demo.state.join("ledger.jsonl")).unwrap() == before).then_some(())
    });
    dir
}

#[test]
fn a_session_shows_who_what_which_rules_and_the_masked_result() {
    let demo = Demo::shared();
    let ran = demo.psql("alice", &["SELECT email FROM customers WHERE id = 1 /* shown-here */"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let shown = wait_for("the session's end", || {
        let sessions = demo.weir_json("alice", &["sessions", "ls"]);
        sessions.as_array().unwrap().iter().find_map(|session| {
            let id = session["session"].as_str().unwrap();
            let shown = demo.weir_json("alice", &["sessions", "show", id]);
            let text = shown.to_string();
            (text.contains("shown-here") && text.contains("\"closed\"")).then_some(shown)
        })
    });
    let entries = shown["entries"].as_array().unwrap();
    let event = |is: &str| {
        let found = entries.iter().map(|entry| &entry["event"]).find(|event| event["is"] == is);
        found.unwrap_or_else(|| panic!("no {is} in {shown}"))
    };
    assert_eq!(event("opened")["principal"]["name"], "alice");
    assert_eq!(event("opened")["origin"]["country"], "DE");
    assert_eq!(event("command")["verdict"]["is"], "allow");
    assert!(!event("command")["verdict"]["rules"].as_array().unwrap().is_empty());
    assert!(event("masks")["hidden"].get("pii.email").is_some());
    let ended = event("ended");
    assert_eq!(ended["volume"]["rows"], 1);
    assert_eq!(ended["volume"]["masked"], 1);
    let result = ended["result"]["text"].as_str().unwrap();
    assert!(result.contains("<masked:pii.email>") && !result.contains('@'), "{result}");
    // For people it is readable too.
    let id = shown["session"].as_str().unwrap();
    let ran = Ran::of(&demo.weir("alice", &["sessions", "show", id]));
    assert!(ran.out.contains("shown-here") && ran.out.contains("allow ["), "{}", ran.out);
}

#[test]
fn somebody_elses_session_is_for_those_whom_policy_lets() {
    let demo = Demo::shared();
    demo.psql("olaf", &["SELECT 'of olaf'"]);
    let id = wait_for("olaf's session", || {
        let all = demo.weir_json("dana", &["sessions", "ls"]);
        let found = all.as_array().unwrap().iter().find(|s| s["principal"] == "olaf").cloned();
        found.map(|session| session["session"].as_str().unwrap().to_owned())
    });
    assert_eq!(demo.weir("alice", &["sessions", "show", &id]).status.code(), Some(1));
    let own = demo.weir_json("alice", &["sessions", "ls"]);
    assert!(own.as_array().unwrap().iter().all(|session| session["principal"] == "alice"));
    // Looking at it needs a purpose, and is on record as well.
    let without = Ran::of(&demo.weir("dana", &["sessions", "show", &id]));
    assert!(without.code == 1 && without.err.contains("--purpose"), "{}", without.err);
    demo.weir_json("dana", &["sessions", "show", &id, "--purpose", "incident 7"]);
    let ledger = read(demo.state.join("ledger.jsonl"));
    let looked = |line: &&str| line.contains("\"replay\"") && line.contains(&id);
    assert!(ledger.lines().filter(looked).count() >= 3, "two refusals and a look");
    assert!(ledger.lines().filter(looked).any(|line| line.contains("incident 7")));
}

#[test]
fn verify_finds_a_changed_removed_and_reordered_entry_and_a_lost_tail() {
    let demo = Demo::shared();
    demo.psql("alice", &["SELECT 1", "SELECT 2"]);
    let copy = copy_of(demo);
    let sound = verify(copy.path(), &[]);
    assert!(sound.code == 0 && sound.out.contains("internally consistent only"), "{sound:?}");
    let checkpoint = sound.out.rsplit(": ").next().unwrap().trim().to_owned();
    assert_eq!(verify(copy.path(), &["--checkpoint", &checkpoint]).code, 0);

    let ledger = copy.path().join("ledger.jsonl");
    let text = fs::read_to_string(&ledger).unwrap();
    let lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
    let middle = lines.len() / 2;
    let mut changed = lines.clone();
    changed[middle] = changed[middle].replacen("\"at\":\"2", "\"at\":\"1", 1);
    let mut removed = lines.clone();
    removed.remove(middle);
    let mut swapped = lines.clone();
    swapped.swap(middle, middle - 1);
    for damaged in [changed, removed, swapped] {
        fs::write(&ledger, damaged.join("\n") + "\n").unwrap();
        let ran = verify(copy.path(), &[]);
        assert!(ran.code == 4 && ran.out.contains("DAMAGED"), "{ran:?}");
        assert!(ran.out.contains("entry") && ran.out.contains("byte"), "{ran:?}");
    }
    // A tail that was cut off cleanly is found with the checkpoint that was kept.
    fs::write(&ledger, lines[..lines.len() - 1].join("\n") + "\n").unwrap();
    assert_eq!(verify(copy.path(), &["--checkpoint", &checkpoint]).code, 4);
}

#[test]
fn no_token_stands_in_the_record_or_the_log() {
    let demo = Demo::shared();
    demo.psql("alice", &["SELECT 1"]);
    let signature = demo.token("alice").rsplit('.').next().unwrap();
    let copy = copy_of(demo);
    let output = Command::new("grep").args(["-rlF", signature]).arg(copy.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(!demo.log().contains(signature));
}
