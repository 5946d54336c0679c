//! Sessions seen again, and as they go: terminals byte for byte, transcripts, asciicasts; who may
//! look, what for, and what they are not shown.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use weir::model::encode::unbase64;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::finish;
use crate::demo::read;
use crate::demo::wait_for;
use crate::parts;
use crate::ssh::LOGIN;
use crate::ssh::session_with;
use crate::ssh::ssh_to;

/// `weir sessions …` as a person, that runs.
fn sessions(demo: &Demo, person: &str, args: &[&str]) -> Child {
    let mut weir = Command::new(parts::weir());
    weir.arg("sessions").args(args).env("WEIR_GATEWAY", demo.text("/api"));
    weir.env("WEIR_CA_FILE", demo.ca_file()).env("WEIR_TOKEN", demo.token(person));
    weir.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// `weir sessions replay ID …` as a person.
fn replay(demo: &Demo, person: &str, id: &str, more: &[&str]) -> Ran {
    finish(sessions(demo, person, &[&["replay", id], more].concat()))
}

/// The lines of `weir sessions replay ID --json`.
fn lines(demo: &Demo, person: &str, id: &str, more: &[&str]) -> Vec<Value> {
    let ran = replay(demo, person, id, &[more, &["--json"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What crossed one way.
fn data(lines: &[Value], stream: &str) -> String {
    let data = lines.iter().map(|line| &line["data"]).filter(|data| data["stream"] == stream);
    let bytes = data.flat_map(|data| unbase64(data["base64"].as_str().unwrap()).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

/// A psql session of alice's that goes on, and its id.
fn psql(demo: &Demo, marker: &str) -> (Child, ChildStdin, String) {
    let mut psql = demo.psql_at(demo.port(), "alice");
    psql.args(["-A", "-t"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut psql = psql.spawn().unwrap();
    let mut input = psql.stdin.take().unwrap();
    writeln!(input, "SELECT email FROM customers WHERE id = 1 /* {marker} */;").unwrap();
    let id = wait_for("the session", || {
        let all = demo.weir_json("alice", &["sessions", "ls", "--live", "--limit", "500"]);
        all.as_array().unwrap().iter().find_map(|session| {
            let id = session["session"].as_str().unwrap();
            let shown = demo.weir_json("alice", &["sessions", "show", id]).to_string();
            shown.contains(marker).then(|| id.to_owned())
        })
    });
    (psql, input, id)
}

/// Reads lines until one has `needle`.
fn until(lines: &mut impl BufRead, needle: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(needle) {
        assert_ne!(lines.read_line(&mut seen).unwrap(), 0, "no {needle} in {seen}");
    }
    seen
}

/// The ledger's entries of looks at a session.
fn looks(demo: &Demo, action: &str, id: &str) -> Vec<Value> {
    let ledger = read(demo.state.join("ledger.jsonl"));
    let entries = ledger.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events = entries.map(|mut entry| entry["event"].take());
    events.filter(|event| event["action"] == action && event["of"] == id).collect()
}

#[test]
fn a_terminal_is_replayed_byte_for_byte_and_as_an_asciicast() {
    let demo = Demo::shared();
    let line = "printf 'one\\n\\033[1mbold\\033[0m caf\\303\\251\\n'; seq 3000; echo replay-marker";
    let ssh = ssh_to(demo, "alice", LOGIN, &["-tt", "localhost", line]).output().unwrap();
    let seen = Ran::of(&ssh);
    assert!(seen.code == 0 && seen.out.contains("\x1b[1mbold\x1b[0m café\r\n"), "{seen:?}");
    let (id, _) = session_with(demo, "echo replay-marker", &["closed"]);
    let again = finish(sessions(demo, "alice", &["replay", &id]));
    assert_eq!((again.code, &again.out), (0, &seen.out), "{}", again.err);

    let all = lines(demo, "alice", &id, &[]);
    assert_eq!(all.first().unwrap()["results_withheld"], false);
    assert_eq!(all.last().unwrap()["end"], "complete");
    assert_eq!(data(&all, "output"), seen.out);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("terminal.cast");
    let cast = ["--asciicast", file.to_str().unwrap(), "--idle-max", "1.5"];
    let ran = replay(demo, "alice", &id, &cast);
    assert!(ran.code == 0 && ran.out.is_empty(), "{ran:?}");
    assert_eq!(replay(demo, "alice", &id, &cast).code, 2, "it is not written over");
    let text = read(&file);
    let mut cast = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let header = cast.next().unwrap();
    assert_eq!((&header["version"], &header["idle_time_limit"]), (&2.into(), &1.5.into()));
    assert!(header["width"].as_u64().unwrap() > 0 && header["height"].as_u64().unwrap() > 0);
    let (mut output, mut last) = (String::new(), 0.0);
    for event in cast {
        let at = event[0].as_f64().unwrap();
        assert!(at >= last, "time goes on");
        last = at;
        if event[1] == "o" {
            output.push_str(event[2].as_str().unwrap());
        }
    }
    assert_eq!(output, seen.out);
}

#[test]
fn what_a_hostile_target_shows_does_nothing_to_whoever_looks() {
    let demo = Demo::shared();
    let line = "printf 'before\\033]52;c;aG9zdGlsZQ==\\007\\033[6n\\033]0;evil-words\\007after\\n'; echo hostile-marker";
    let ssh = ssh_to(demo, "alice", LOGIN, &["-tt", "localhost", line]).output().unwrap();
    assert!(Ran::of(&ssh).out.contains("\x1b]52;c;"));
    let (id, _) = session_with(demo, "echo hostile-marker", &["closed"]);
    for more in [&[][..], &["--asciicast", "-"]] {
        let ran = replay(demo, "alice", &id, more);
        assert!(ran.out.contains("beforeafter"), "{ran:?}");
        assert!(!ran.out.contains("aG9zdGlsZQ") && !ran.out.contains("evil-words"), "{ran:?}");
    }
    // The bytes as they were are there for whoever wants them.
    let all = lines(demo, "alice", &id, &[]);
    assert!(data(&all, "output").contains("\x1b]52;c;aG9zdGlsZQ==\x07"));
}

#[test]
fn a_password_typed_at_a_prompt_is_in_no_recording() {
    let demo = Demo::shared();
    let line =
        "bash -c 'read -s -p \"Password: \" p; echo; echo length ${#p}; read l; echo got $l'";
    let mut ssh = ssh_to(demo, "alice", LOGIN, &["-tt", "localhost", line]);
    let mut ssh = ssh.stdin(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (ssh.stdin.take().unwrap(), ssh.stdout.take().unwrap());
    let mut seen = Vec::new();
    let mut byte = [0_u8];
    while !seen.ends_with(b"Password: ") {
        assert_ne!(output.read(&mut byte).unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    input.write_all(b"pass-hidden-7\n").unwrap();
    while !seen.ends_with(b"length 13\r\n") {
        assert_ne!(output.read(&mut byte).unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    input.write_all(b"typed-open-7\n").unwrap();
    output.read_to_end(&mut seen).unwrap();
    drop(input);
    assert_eq!(ssh.wait().unwrap().code(), Some(0));
    let (id, _) = session_with(demo, "length ${#p}", &["closed"]);
    let all = lines(demo, "alice", &id, &[]);
    assert_eq!(data(&all, "output"), String::from_utf8(seen).unwrap());
    let typed = data(&all, "input");
    assert!(
        typed.contains("<not recorded: line 1, 13 bytes>") && typed.contains("typed-open-7"),
        "{typed:?}"
    );
    assert!(!typed.contains("pass-hidden-7"));
    // What was typed is in an asciicast for whoever asks for it.
    let without = replay(demo, "alice", &id, &["--asciicast", "-"]).out;
    let with = replay(demo, "alice", &id, &["--asciicast", "-", "--with-input"]).out;
    assert!(
        !without.contains("\"i\",") && with.contains("\"i\",") && with.contains("<not recorded: ")
    );
}

#[test]
fn a_live_session_is_watched_by_somebody_else_until_it_ends() {
    let demo = Demo::shared();
    let (psql, mut input, id) = psql(demo, "watched-first");
    let purpose = ["--purpose", "incident 42"];
    let mut watch = sessions(demo, "olaf", &[&["watch", &id], &purpose[..]].concat());
    let mut out = BufReader::new(watch.stdout.take().unwrap());
    let first = until(&mut out, "done SELECT 1");
    assert!(first.contains("watched-first") && first.contains("allow ["), "{first}");
    // What alice was shown is what is told: masked, whoever looks.
    assert!(first.contains("> <masked:pii.email>") && !first.contains('@'), "{first}");
    writeln!(input, "SELECT 'seen-' || (40 + 2);").unwrap();
    let second = until(&mut out, "> seen-42");
    assert!(second.contains("'seen-' ||"), "{second}");
    drop(input);
    let rest = until(&mut out, "closed:");
    assert!(!rest.contains("seen-42"), "{rest}");
    let ran = finish(watch);
    assert!(ran.code == 0 && ran.err.contains("the session has ended"), "{ran:?}");
    assert_eq!(finish(psql).code, 0);
    // One entry of the ledger says who watched, and what for.
    let looks = looks(demo, "watch", &id);
    assert_eq!(looks.len(), 1, "{looks:?}");
    assert_eq!(
        (&looks[0]["principal"]["name"], &looks[0]["purpose"]),
        (&"olaf".into(), &"incident 42".into())
    );
    // Afterwards it is the same again.
    let again = replay(demo, "olaf", &id, &purpose);
    assert!(again.out.starts_with(&first) && again.out.contains("closed:"), "{again:?}");
    assert!(again.out.contains("> seen-42"), "{again:?}");
}

#[test]
fn a_look_needs_a_permit_and_a_purpose() {
    let demo = Demo::shared();
    let (psql, mut input, id) = psql(demo, "looked-at");
    for verb in ["replay", "watch"] {
        let ran = finish(sessions(demo, "mei", &[verb, &id, "--purpose", "curious"]));
        assert!(ran.code == 1 && ran.out.is_empty(), "{ran:?}");
        let ran = finish(sessions(demo, "dana", &[verb, &id]));
        assert!(ran.code == 1 && ran.err.contains("--purpose") && ran.out.is_empty(), "{ran:?}");
    }
    // Who may see all of the target sees what alice saw, as it goes.
    let purpose = ["--purpose", "incident 43"];
    let mut watch = sessions(demo, "dana", &[&["watch", &id], &purpose[..]].concat());
    let mut out = BufReader::new(watch.stdout.take().unwrap());
    until(&mut out, "done SELECT 1");
    writeln!(input, "SELECT 'answer-' || (40 + 3);").unwrap();
    drop(input);
    until(&mut out, "closed:");
    assert_eq!(finish(watch).code, 0);
    assert_eq!(finish(psql).code, 0);
    // Alice sees her own, without a purpose; a terminal it has not.
    let own = replay(demo, "alice", &id, &[]);
    assert!(own.code == 0 && own.out.contains("> answer-43"), "{own:?}");
    let ran = replay(demo, "alice", &id, &["--asciicast", "-"]);
    assert!(ran.code == 2 && ran.err.contains("no terminal"), "{ran:?}");
    assert_eq!(looks(demo, "watch", &id).len(), 3, "two refusals and a look");
    assert_eq!(replay(demo, "alice", "0193a1b2-0000-7000-8000-000000000000", &[]).code, 1);
}

#[test]
fn who_may_not_see_a_class_of_the_target_gets_what_was_asked_and_not_what_was_answered() {
    let demo = Demo::shared();
    let url = format!("{}/api/people?withheld-from-dana", demo.text("/targets/wiki/url"));
    let mut curl = Command::new(parts::program("curl"));
    curl.args(["-sS", "--max-time", "60", "--cacert", demo.ca_file(), "-H"]);
    let answered = curl.arg(format!("Authorization: Bearer {}", demo.token("alice"))).arg(url);
    let answered = Ran::of(&answered.output().unwrap());
    assert!(answered.code == 0 && answered.says("<masked:pii"), "{answered:?}");
    let id = wait_for("the session", || {
        let all =
            demo.weir_json("alice", &["sessions", "ls", "--target", "wiki", "--limit", "500"]);
        all.as_array().unwrap().iter().find_map(|session| {
            let id = session["session"].as_str().unwrap();
            let shown = demo.weir_json("alice", &["sessions", "show", id]).to_string();
            let whole = shown.contains("withheld-from-dana") && shown.contains("\"closed\"");
            whole.then(|| id.to_owned())
        })
    });
    let own = replay(demo, "alice", &id, &[]);
    assert!(own.code == 0 && own.out.contains("> ") && own.out.contains("<masked:pii"), "{own:?}");
    let purpose = ["--purpose", "incident 44"];
    for verb in ["replay", "watch"] {
        let told = finish(sessions(demo, "dana", &[&[verb, &id], &purpose[..]].concat()));
        assert!(told.code == 0 && told.out.contains("results are left out"), "{told:?}");
        assert!(
            !told.out.contains("withheld-from-dana") && !told.out.contains("<masked"),
            "{told:?}"
        );
    }
    let all = lines(demo, "dana", &id, &purpose);
    assert_eq!(all.first().unwrap()["results_withheld"], true);
    assert!(all.iter().all(|line| line["data"].is_null()), "{all:?}");
    assert!(all.iter().any(|line| line["event"]["is"] == "command"));
    let ran = replay(demo, "dana", &id, &[&purpose[..], &["--asciicast", "-"]].concat());
    assert!(ran.code == 1 && ran.err.contains("left out"), "{ran:?}");
    assert!(replay(demo, "olaf", &id, &purpose).out.contains("<masked:pii"));
}

#[test]
fn a_watch_that_is_left_or_stuck_holds_up_nobody() {
    let demo = Demo::shared();
    let (psql, mut input, id) = psql(demo, "stuck-watchers");
    // Nobody reads what these print.
    let stuck = (0..4).map(|_| sessions(demo, "alice", &["watch", &id, "--json"]));
    let mut stuck = stuck.collect::<Vec<_>>();
    wait_for("the watches", || (looks(demo, "watch", &id).len() >= 4).then_some(()));
    writeln!(input, "SELECT repeat('x', 100) FROM generate_series(1, 50000);").unwrap();
    writeln!(input, "SELECT 'still-' || 'quick';").unwrap();
    drop(input);
    let ran = finish(psql);
    assert!(ran.code == 0 && ran.out.contains("still-quick"), "{}", ran.err);
    for watch in &mut stuck {
        watch.kill().unwrap();
        watch.wait().unwrap();
    }
    let own = replay(demo, "alice", &id, &[]);
    assert!(own.out.contains("> still-quick") && own.out.contains("closed:"), "{own:?}");
}
