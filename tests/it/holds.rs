//! Commands that wait for somebody's approval: exactly that command runs, once, in the backend it
//! was sent to; or it never runs.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use crate::demo::Demo;
use crate::demo::finish;
use crate::demo::text;
use crate::demo::wait_for;
use crate::parts;
use crate::postgres::straight;
use crate::wire;
use crate::wire::Wire;

/// psql as alice in the background, with each text in a `-c` of its own.
fn psql(demo: &Demo, texts: &[&str]) -> Child {
    let mut psql = demo.psql_at(demo.port(), "alice");
    psql.args(["-A", "-t"]);
    for text in texts {
        psql.arg("-c").arg(text);
    }
    psql.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn city(demo: &Demo, id: u32) -> String {
    straight(demo, &format!("SELECT city FROM customers WHERE id = {id}"))
}

/// How often the target was sent a text.
fn times_sent(demo: &Demo, needle: &str) -> usize {
    let log = crate::demo::read(demo.text("/direct/postgres/log_file"));
    log.lines().filter(|line| line.contains(needle) && line.contains("LOG:")).count()
}

#[test]
fn an_approved_command_runs_once_in_the_same_backend() {
    let demo = Demo::shared();
    let update = "UPDATE customers SET city = 'Approved' WHERE id = 11";
    let backend = "SELECT 'backend', pg_backend_pid()";
    let waiting = psql(demo, &[backend, update, backend]);
    let hold = demo.hold_of("'Approved'");
    // It waits, and has not run.
    assert_eq!((city(demo, 11).as_str(), times_sent(demo, update)), ("Ulm", 0));
    // Who asked may not approve, nor who is no administrator; nobody hears of what is not theirs.
    for (person, told) in [("alice", "themselves"), ("olaf", "roles"), ("mei", "")] {
        let output = demo.weir(person, &["approve", &hold]);
        assert_eq!(output.status.code(), Some(1), "{person}");
        assert!(text(&output.stderr).contains(told), "{}", text(&output.stderr));
    }
    assert_eq!(times_sent(demo, update), 0);
    let output = demo.weir("dana", &["approve", &hold]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let ran = finish(waiting);
    assert!(ran.code == 0 && ran.out.contains("UPDATE 1"), "{ran:?}");
    assert!(ran.err.contains(&format!("NOTICE:  01000: held as {hold}")), "{}", ran.err);
    let backends = ran.out.lines().filter(|line| line.starts_with("backend|")).collect::<Vec<_>>();
    assert!(backends.len() == 2 && backends[0] == backends[1], "{}", ran.out);
    // Once is once.
    assert_eq!(demo.weir("dana", &["approve", &hold]).status.code(), Some(1));
    assert_eq!(demo.weir("dana", &["deny", &hold]).status.code(), Some(1));
    assert_eq!((city(demo, 11).as_str(), times_sent(demo, update)), ("Approved", 1));
    // The same text again waits again.
    let waiting = psql(demo, &[update]);
    let again = demo.hold_of("'Approved'");
    assert_ne!(again, hold);
    assert!(demo.weir("dana", &["deny", &again]).status.success());
    assert_eq!(finish(waiting).code, 1);
    let log = crate::demo::read(demo.state.join("ledger.jsonl"));
    assert!(log.lines().any(|line| line.contains(&hold) && line.contains("dana")));
}

#[test]
fn a_declined_command_is_an_ordinary_error_with_the_reason() {
    let demo = Demo::shared();
    let update = "UPDATE customers SET city = 'Declined' WHERE id = 12";
    let mut psql = demo.psql_at(demo.port(), "alice");
    psql.args(["-A", "-t"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut waiting = psql.spawn().unwrap();
    let script = format!("{update};\nSELECT 'and on';\n");
    waiting.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let hold = demo.hold_of("'Declined'");
    let output = demo.weir("dana", &["deny", &hold, "--reason", "not on a Friday"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let ran = finish(waiting);
    assert!(ran.err.contains("42501: dana said no: not on a Friday"), "{}", ran.err);
    assert!(ran.out.contains("and on"), "{}", ran.out);
    assert_eq!((city(demo, 12).as_str(), times_sent(demo, update)), ("Potsdam", 0));
}

#[test]
fn ctrl_c_takes_a_waiting_command_back() {
    let demo = Demo::shared();
    let update = "UPDATE customers SET city = 'Interrupted' WHERE id = 13";
    let mut psql = demo.psql_at(demo.port(), "alice");
    psql.args(["-A", "-t"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut waiting = psql.spawn().unwrap();
    // Its input stays open: psql ends at an interrupt when it reads a file.
    let mut input = waiting.stdin.take().unwrap();
    input.write_all(format!("{update};\n").as_bytes()).unwrap();
    let hold = demo.hold_of("'Interrupted'");
    let mut told = BufReader::new(waiting.stderr.take().unwrap());
    let mut lines = String::new();
    told.read_line(&mut lines).unwrap();
    assert!(lines.contains(&hold), "{lines}");
    let pid = waiting.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    while !lines.contains("57014") {
        assert_ne!(told.read_line(&mut lines).unwrap(), 0, "{lines}");
    }
    drop(input);
    waiting.wait().unwrap();
    let output = demo.weir("dana", &["approve", &hold]);
    assert_eq!(output.status.code(), Some(1), "what was taken back cannot be approved");
    assert_eq!((city(demo, 13).as_str(), times_sent(demo, update)), ("Husum", 0));
}

#[test]
fn a_command_whose_client_vanished_never_runs() {
    let demo = Demo::shared();
    let update = "UPDATE customers SET city = 'Vanished' WHERE id = 14";
    let mut waiting = psql(demo, &[update]);
    let hold = demo.hold_of("'Vanished'");
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    wait_for("the hold's end", || {
        let gone = demo.waiting().iter().all(|other| other["hold"] != hold.as_str());
        gone.then_some(())
    });
    assert_eq!(demo.weir("dana", &["approve", &hold]).status.code(), Some(1));
    // One that was sent by the extended protocol, and pipelined behind by more.
    let mut wire = Wire::of(demo, "alice");
    let insert = wire::query("INSERT INTO notes (body) VALUES ('behind the vanished')");
    let bound = [wire::parse("", update), wire::bind("", "", false), wire::execute("", 0)];
    wire.send(&[bound.concat(), wire::sync(), insert].concat());
    let hold = demo.hold_of("'Vanished'");
    drop(wire);
    wait_for("the hold's end", || {
        let gone = demo.waiting().iter().all(|other| other["hold"] != hold.as_str());
        gone.then_some(())
    });
    assert_eq!((city(demo, 14).as_str(), times_sent(demo, "SET city = 'Vanished'")), ("Jena", 0));
    let behind = straight(demo, "SELECT count(*) FROM notes WHERE body = 'behind the vanished'");
    assert_eq!(behind, "0");
}

#[test]
fn nothing_waits_where_it_would_keep_locks() {
    let demo = Demo::shared();
    let mut wire = Wire::of(demo, "alice");
    let update = "UPDATE customers SET city = 'Locked' WHERE id = 15";
    let told = |wire: &mut Wire, bytes: &[u8]| {
        let answers = wire.ask(bytes);
        let error = answers.iter().find(|(tag, _)| *tag == 'E').unwrap();
        assert_eq!(wire::field(&error.1, 'C'), "42501");
        wire::field(&error.1, 'M')
    };
    wire.ask(&wire::query("BEGIN"));
    assert!(told(&mut wire, &wire::query(update)).contains("transaction block"));
    wire.ask(&wire::query("ROLLBACK"));
    let string = wire::query(&format!("SELECT 1; {update}"));
    assert!(told(&mut wire, &string).contains("alone"));
    // Behind an Execute of the same segment.
    let run = |text: &str| {
        [wire::parse("", text), wire::bind("", "", false), wire::execute("", 0)].concat()
    };
    let segment = [run("SELECT 1"), run(update), wire::sync()].concat();
    assert!(told(&mut wire, &segment).contains("alone"));
    assert_eq!(times_sent(demo, "SET city = 'Locked'"), 0);
    assert!(demo.waiting().iter().all(|hold| !hold.to_string().contains("'Locked'")));
}

#[test]
fn a_bound_command_waits_with_its_values_and_its_driver_gets_the_answer() {
    let demo = Demo::shared();
    let mut wire = Wire::of(demo, "alice");
    let text = "UPDATE customers SET city = $1 WHERE id = 16";
    let value = [&b"\0u\0\0\0\0\0\x01\0\0\0\x05Bound\0\0"[..]].concat();
    let messages = [
        wire::parse("u", text),
        wire::message('B', &value),
        wire::of('D', 'P', ""),
        wire::execute("", 0),
        wire::sync(),
    ];
    wire.send(&messages.concat());
    let notice = wire.until('N');
    let words = wire::field(&notice.last().unwrap().1, 'M');
    let hold = words.split([' ', ':']).find(|word| word.starts_with("h-")).unwrap().to_owned();
    // The approver sees the exact command.
    let all = demo.waiting();
    let seen = all.iter().find(|other| other["hold"] == hold.as_str()).unwrap().to_string();
    assert!(seen.contains("Bound") && seen.contains("SET city = $1"), "{seen}");
    assert!(demo.weir("dana", &["approve", &hold]).status.success());
    let rest = wire.until('Z');
    assert_eq!(wire::tags(&rest), "2nCZ");
    assert_eq!(city(demo, 16), "Bound");
}

#[test]
fn a_session_that_waits_can_be_killed_and_the_command_does_not_run() {
    let demo = Demo::shared();
    let update = "UPDATE customers SET city = 'Killed' WHERE id = 17";
    let waiting = psql(demo, &[update]);
    let hold = demo.hold_of("'Killed'");
    let all = demo.waiting();
    let seen = all.iter().find(|other| other["hold"] == hold.as_str()).unwrap();
    let session = seen["session"].as_str().unwrap().to_owned();
    let output = demo.weir("dana", &["sessions", "kill", &session]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let ran = finish(waiting);
    assert!(ran.code != 0 && ran.err.contains("FATAL"), "{ran:?}");
    assert_eq!(demo.weir("dana", &["approve", &hold]).status.code(), Some(1));
    assert_eq!((city(demo, 17).as_str(), times_sent(demo, update)), ("Goslar", 0));
}

/// A second gateway before the demo's servers, with other settings. Dropping it ends it.
struct Other {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Other {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

impl Other {
    fn start(demo: &Demo, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&demo.state).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_str().unwrap().to_owned();
            let kept = ["pem", "crt", "key", "password"];
            if kept.iter().any(|end| name.ends_with(end)) {
                std::fs::copy(entry.path(), dir.path().join(name)).unwrap();
            }
        }
        let policies = dir.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        for entry in std::fs::read_dir(demo.text("/policy_dir")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, policies.join(path.file_name().unwrap())).unwrap();
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = crate::demo::read(demo.text("/config_file"));
        let text = text.replacen(&demo.port().to_string(), &port.to_string(), 1);
        // The listener behind the office has a port of its own too.
        let mut parts = text.splitn(3, "[[listeners]]");
        let (head, own) = (parts.next().unwrap(), parts.next().unwrap());
        let behind = parts.next().unwrap();
        let behind = behind.split_once("\n[").unwrap().1;
        let text = format!("{head}[[listeners]]{own}\n[{behind}\n{more}\n");
        let file = dir.path().join("weir.toml");
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::create(dir.path().join("stderr")).unwrap();
        let mut child = Command::new(parts::program("setpriv"))
            .args(["--pdeathsig", "KILL"])
            .arg(parts::weir())
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_for("the other gateway", || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("{status}: {}", crate::demo::read(dir.path().join("stderr")));
            }
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { child, port, _dir: dir }
    }
}

#[test]
fn nobody_s_answer_is_a_no() {
    let demo = Demo::shared();
    let other = Other::start(demo, "[holds]\nwait_s_max = 2\n");
    let update = "UPDATE customers SET city = 'Too late' WHERE id = 18";
    let mut psql = demo.psql_at(other.port, "alice");
    let child = psql
        .args(["-A", "-t", "-c", update])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ran = finish(child);
    assert!(ran.err.contains("NOTICE:  01000: held as h-"), "{}", ran.err);
    assert!(ran.err.contains("nobody approved this command in time"), "{}", ran.err);
    assert_eq!((city(demo, 18).as_str(), times_sent(demo, update)), ("Trier", 0));
}
