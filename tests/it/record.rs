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
    let kept = Kept::of(demo);
    let copy = copy_of(demo);
    let sound = verify(copy.path(), &[]);
    assert!(sound.code == 0 && sound.out.contains("internally consistent only"), "{sound:?}");
    let Kept { file, key, .. } = &kept;
    let checkpoint = file.to_str().unwrap();
    let held = verify(copy.path(), &["--checkpoint", checkpoint]);
    assert!(held.code == 0 && held.out.contains("goes on from the checkpoint"), "{held:?}");
    let signed = verify(copy.path(), &["--key", key]);
    assert!(
        signed.code == 0 && signed.out.contains("signed by a key that you trust"),
        "{signed:?}"
    );

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
    // A tail that was cut off cleanly, with the checkpoints that count it, and all that was said of
    // recordings since, is found with the checkpoint that was kept.
    let ran = |lines: &[String]| {
        fs::write(&ledger, lines.join("\n") + "\n").unwrap();
        verify(copy.path(), &["--checkpoint", checkpoint])
    };
    fs::remove_file(copy.path().join("checkpoints.jsonl")).unwrap();
    for uploaded in ["store/checkpoints", "store/ledger"] {
        let _not_yet = fs::remove_dir_all(copy.path().join(uploaded));
    }
    assert_eq!(ran(&lines).code, 0);
    let lost = ran(&lines[..kept.entries - 1]);
    assert!(lost.code == 4 && lost.out.contains("tail was lost"), "{lost:?}");
}

/// A checkpoint that somebody fetched, and the public key that they were told.
struct Kept {
    _dir: tempfile::TempDir,
    file: std::path::PathBuf,
    key: String,
    entries: usize,
}

impl Kept {
    fn of(demo: &Demo) -> Self {
        let answer = demo.weir_json("dana", &["audit", "checkpoint"]);
        let (note, key) = (answer["checkpoint"].as_str().unwrap(), &answer["verifier"]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kept");
        fs::write(&file, note).unwrap();
        let entries = note.lines().nth(1).unwrap().parse().unwrap();
        Self { _dir: dir, file, key: key.as_str().unwrap().to_owned(), entries }
    }
}

#[test]
fn the_record_verifies_with_files_alone_where_there_is_no_network() {
    let demo = Demo::shared();
    demo.psql("alice", &["SELECT 1"]);
    let kept = Kept::of(demo);
    let copy = copy_of(demo);
    let mut alone = Command::new("unshare");
    alone.args(["--map-root-user", "--net"]).arg(parts::weir()).args(["audit", "verify"]);
    alone.arg(copy.path()).arg("--checkpoint").arg(&kept.file).args(["--key", &kept.key]);
    let ran = Ran::of(&alone.env_clear().output().unwrap());
    assert!(ran.code == 0 && ran.out.contains("goes on from the checkpoint"), "{ran:?}");
    let entry = kept.file.with_file_name("receipt.tlog-proof");
    let mut prove = Command::new("unshare");
    prove.args(["--map-root-user", "--net"]).arg(parts::weir()).args(["audit", "prove", "1"]);
    prove.arg("--from").arg(copy.path()).arg("--output").arg(&entry);
    let ran = Ran::of(&prove.env_clear().output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = verify(&entry, &["--key", &kept.key]);
    assert!(ran.code == 0 && ran.out.contains("\"is\":\"started\""), "{ran:?}");
}

#[test]
fn a_receipt_that_the_gateway_gives_verifies_alone() {
    let demo = Demo::shared();
    demo.psql("alice", &["SELECT 'receipt'"]);
    let session = wait_for("the session", || {
        let all = demo.weir_json("alice", &["sessions", "ls"]);
        all[0]["session"].as_str().map(str::to_owned)
    });
    let kept = Kept::of(demo);
    let shown = Ran::of(&demo.weir("dana", &["audit", "checkpoint"])).out;
    assert!(shown.contains("\n\n\u{2014} "), "a signed note, to be kept as it is: {shown}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("receipt");
    let output = file.to_str().unwrap();
    let ran = Ran::of(&demo.weir("dana", &["audit", "prove", &session, "--output", output]));
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = verify(&file, &["--key", &kept.key]);
    assert!(ran.code == 0 && ran.out.contains(&session), "{ran:?}");
    assert!(ran.out.contains("\"is\":\"admitted\""), "{ran:?}");
    // Any change is noticed, and another's key proves nothing.
    let text = read(&file);
    fs::write(&file, text.replacen("index ", "index 1", 1)).unwrap();
    assert_eq!(verify(&file, &["--key", &kept.key]).code, 4);
    // Who may not read the ledger gets no receipt, and asking is on record.
    let ran = Ran::of(&demo.weir("alice", &["audit", "prove", &session]));
    assert_eq!(ran.code, 1, "{ran:?}");
    let ledger = read(demo.state.join("ledger.jsonl"));
    let asked = |line: &&str| line.contains("\"prove\"") && line.contains(&session);
    assert_eq!(ledger.lines().filter(asked).count(), 2, "a receipt and a refusal");
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
