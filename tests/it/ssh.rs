//! SSH through the gateway, with OpenSSH's clients and server: commands, shells, holds, refusals.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::finish;
use crate::demo::read;
use crate::demo::wait_for;
use crate::parts;

/// The account on `web-1` that the demo offers.
pub(crate) const LOGIN: &str = "deploy@web-1";

/// `ssh <options> -l <user> localhost <words>` as a person.
pub(crate) fn ssh_to(demo: &Demo, person: &str, user: &str, words: &[&str]) -> Command {
    let mut ssh = signed_in(demo, person, "ssh");
    ssh.args(["-F", demo.text("/ssh_config"), "-p", &demo.port().to_string(), "-l", user]);
    ssh.args(words);
    ssh
}

/// Runs a command at `web-1` as a person, through the gateway at a port.
pub(crate) fn ssh_at(demo: &Demo, port: u16, person: &str, command: &str) -> Command {
    let mut ssh = signed_in(demo, person, "ssh");
    ssh.args(["-F", demo.text("/ssh_config"), "-p", &port.to_string(), "-l", "deploy@web-1"]);
    ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
    ssh.args(["localhost", command]);
    ssh
}

/// A program of OpenSSH's that answers the prompt with a person's token.
fn signed_in(demo: &Demo, person: &str, name: &str) -> Command {
    let mut program = Command::new(parts::program(name));
    let askpass = demo.text(&format!("/people/{person}/askpass"));
    program.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
    program.env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY");
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

/// Runs one command line on `web-1` as a person.
fn run(demo: &Demo, person: &str, line: &str) -> Ran {
    Ran::of(&ssh_to(demo, person, LOGIN, &["localhost", line]).output().unwrap())
}

/// Begins one on `web-1` as alice.
fn begin(demo: &Demo, line: &str) -> Child {
    ssh_to(demo, "alice", LOGIN, &["localhost", line]).spawn().unwrap()
}

/// How often `marker` was written into a file of the target's `/tmp`.
fn count(demo: &Demo, marker: &str) -> usize {
    let ran = run(demo, "alice", &format!("cat /tmp/{marker}"));
    ran.out.lines().count()
}

/// Alice's session in which `text` was asked for, once its record has all of `more`.
pub(crate) fn session_with(demo: &Demo, text: &str, more: &[&str]) -> (String, String) {
    wait_for(&format!("a session with {text}"), || {
        let all = demo.weir_json("alice", &["sessions", "ls", "--limit", "500"]);
        all.as_array().unwrap().iter().filter(|s| s["protocol"] == "ssh").find_map(|session| {
            let id = session["session"].as_str().unwrap();
            let shown = demo.weir_json("alice", &["sessions", "show", id]).to_string();
            let found = shown.contains(text) && more.iter().all(|part| shown.contains(part));
            found.then(|| (id.to_owned(), shown))
        })
    })
}

#[test]
fn the_printed_command_works_with_output_errors_and_exit_status() {
    let demo = Demo::shared();
    // Literally as the demo prints it, in a shell.
    let line = format!(
        "SSH_ASKPASS={} SSH_ASKPASS_REQUIRE=force {} 'uname -a'",
        demo.text("/people/alice/askpass"),
        demo.text("/targets/web-1/command")
    );
    let ran = Ran::of(&Command::new("/bin/sh").arg("-c").arg(line).output().unwrap());
    assert!(ran.code == 0 && ran.out.starts_with("Linux web-1 "), "{ran:?}");

    let ran = run(demo, "alice", "echo to-stdout; echo to-stderr >&2; exit 7");
    assert_eq!((ran.code, ran.out.trim()), (7, "to-stdout"), "{ran:?}");
    assert!(ran.err.lines().any(|line| line == "to-stderr"), "{ran:?}");

    // Who asked for what can be read afterwards, refusals too.
    let ran = run(demo, "alice", "rm -rf /srv/ssh-marker-1");
    assert_eq!((ran.code, ran.out.as_str()), (126, ""), "{ran:?}");
    assert!(ran.err.contains("beyond undoing") && ran.err.contains("web.no-destruction"));
    let (_, shown) = session_with(demo, "ssh-marker-1", &["closed"]);
    assert!(shown.contains("\"deny\"") && shown.contains("web.no-destruction"), "{shown}");
}

#[test]
fn a_terminal_has_its_size_its_changes_and_its_exit_status() {
    let demo = Demo::shared();
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let ssh = format!(
        "{} -tt 'stty size; until test \"$(stty size)\" = \"50 99\"; do sleep 0.05; done; \
         echo resized; tty'",
        demo.text("/targets/web-1/command")
    );
    let script = format!(
        "stty rows 41 cols 123\n(until grep -q '41 123' {0}; do sleep 0.05; done; \
         stty rows 50 cols 99 </dev/tty) &\n{ssh} | tee {0}\nwait\n",
        seen.display()
    );
    std::fs::write(&seen, "").unwrap();
    let mut program = signed_in(demo, "alice", "script");
    let ran = program.args(["-qefc", &script, "/dev/null"]).env("SHELL", "/bin/bash").output();
    let ran = Ran::of(&ran.unwrap());
    assert!(ran.out.contains("41 123") && ran.out.contains("resized"), "{ran:?}");
    assert!(ran.out.contains("/dev/pts/"), "{ran:?}");

    let mut shell = ssh_to(demo, "alice", LOGIN, &["-tt", "localhost"]);
    let mut shell = shell.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"echo sum=$((40+2))\nexit 5\n").unwrap();
    let ran = finish(shell);
    assert!(ran.code == 5 && ran.out.contains("sum=42"), "{ran:?}");
}

#[test]
fn a_restart_waits_and_runs_once_after_an_approval_by_another() {
    let demo = Demo::shared();
    let line = "systemctl restart nginx; echo ran >>/tmp/approved-once";
    let mut asked = begin(demo, line);
    let id = demo.hold_of("approved-once");
    // The wait is told, with what to do, while it lasts.
    let mut errors = BufReader::new(asked.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains(&id) {
        assert_ne!(errors.read_line(&mut told).unwrap(), 0, "{told}");
    }
    assert!(told.contains(&format!("weir approve {id}")) && told.contains("approver"), "{told}");
    assert_eq!(count(demo, "approved-once"), 0, "it ran before it was approved");
    let own = Ran::of(&demo.weir("alice", &["approve", &id]));
    assert!(own.code != 0 && own.err.contains("themselves"), "{own:?}");
    let approved = Ran::of(&demo.weir("dana", &["approve", &id]));
    assert_eq!(approved.code, 0, "{approved:?}");
    let ran = finish(asked);
    assert!(ran.code == 0 && ran.out.contains("restart nginx - pretending"), "{ran:?}");
    // An approval is for one run: it cannot be given again, and the same line waits again.
    assert_ne!(demo.weir("dana", &["approve", &id]).status.code(), Some(0));
    let mut again = begin(demo, line);
    let second = demo.hold_of("approved-once");
    assert_ne!(second, id);
    again.kill().unwrap();
    again.wait().unwrap();
    wait_for("the second hold's end", || {
        demo.waiting().iter().all(|hold| hold["hold"] != second.as_str()).then_some(())
    });
    assert_eq!(count(demo, "approved-once"), 1);
}

#[test]
fn what_was_declined_or_left_while_it_was_held_never_runs() {
    let demo = Demo::shared();
    let declined = begin(demo, "systemctl restart nginx; echo ran >>/tmp/declined-one");
    let id = demo.hold_of("declined-one");
    let ran = Ran::of(&demo.weir("dana", &["deny", &id, "--reason", "not on a Friday"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = finish(declined);
    assert!(ran.code == 126 && ran.err.contains("not on a Friday"), "{ran:?}");
    assert_eq!(ran.out, "");

    let mut left = begin(demo, "systemctl restart nginx; echo ran >>/tmp/left-one");
    let id = demo.hold_of("left-one");
    left.kill().unwrap();
    left.wait().unwrap();
    wait_for("the hold's end", || {
        demo.waiting().iter().all(|hold| hold["hold"] != id.as_str()).then_some(())
    });
    assert_ne!(demo.weir("dana", &["approve", &id]).status.code(), Some(0));
    session_with(demo, "left-one", &["closed"]);
    assert_eq!(count(demo, "declined-one") + count(demo, "left-one"), 0);
}

#[test]
fn what_is_not_carried_is_refused_clearly_and_the_session_lives() {
    let demo = Demo::shared();
    let port = demo.port().to_string();
    for (name, more) in [("scp", &["-O"][..]), ("scp", &[]), ("sftp", &[])] {
        let mut program = signed_in(demo, "alice", name);
        program.args(["-F", demo.text("/ssh_config"), "-P", &port]);
        program.arg("-o").arg(format!("User={LOGIN}")).args(more);
        if name == "scp" {
            program.args(["/etc/hostname", "localhost:/tmp/copied"]);
        } else {
            program.arg("localhost");
        }
        let ran = Ran::of(&program.output().unwrap());
        assert!(ran.code != 0 && ran.err.contains("does not carry file transfer"), "{ran:?}");
    }
    assert_eq!(count(demo, "copied"), 0);

    // A listener on the target, an agent and a display: none of them, and the command runs.
    let words = [
        "-A",
        "-X",
        "-R",
        "0:127.0.0.1:1",
        "localhost",
        "echo alive agent=$SSH_AUTH_SOCK display=$DISPLAY",
    ];
    let plain = ssh_to(demo, "alice", LOGIN, &words);
    let mut agent = signed_in(demo, "alice", "ssh-agent");
    agent.arg(plain.get_program()).args(plain.get_args()).env("DISPLAY", ":77");
    let ran = Ran::of(&agent.output().unwrap());
    assert_eq!((ran.code, ran.out.trim()), (0, "alive agent= display="), "{ran:?}");
    assert!(ran.err.contains("remote port forwarding failed"), "{ran:?}");
    assert!(ran.err.contains("X11 forwarding request failed"), "{ran:?}");

    // A connection that should come out at the target comes out nowhere; the command goes on.
    let local = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sshd = demo.ready.pointer("/direct/ssh/port").unwrap().as_u64().unwrap();
    let forward = format!("{local}:127.0.0.1:{sshd}");
    let words = ["-L", &forward, "localhost", "echo up; head -n 1"];
    let mut ssh = ssh_to(demo, "alice", LOGIN, &words);
    let mut child = ssh.stdin(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    let mut through = TcpStream::connect(("127.0.0.1", local)).unwrap();
    let mut bytes = Vec::new();
    let _closed = through.read_to_end(&mut bytes);
    assert_eq!(bytes, b"", "{}", String::from_utf8_lossy(&bytes));
    child.stdin.take().unwrap().write_all(b"still here\n").unwrap();
    line.clear();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "still here\n");
    let ran = finish(child);
    assert!(ran.code == 0 && ran.err.contains("prohibited"), "{ran:?}");
    let (_, shown) = session_with(demo, "echo up; head -n 1", &["closed"]);
    assert!(shown.contains("forward"), "the refusal is on record: {shown}");
}

#[test]
fn a_flood_of_input_freezes_neither_its_command_nor_another_channel() {
    let demo = Demo::shared();
    let dir = tempfile::tempdir().unwrap();
    let control = format!("ControlPath={}", dir.path().join("c").display());
    let words = ["-o", &control, "-o", "ControlMaster=yes", "-N", "localhost"];
    let mut master = ssh_to(demo, "alice", LOGIN, &words).spawn().unwrap();
    let channel = |words: &[&str]| {
        let words = [&["-o", &control, "localhost"], words].concat();
        ssh_to(demo, "alice", LOGIN, &words)
    };
    wait_for("the master", || {
        let words = ["-o", &control, "-O", "check", "localhost"];
        let ready = ssh_to(demo, "alice", LOGIN, &words).output().unwrap().status.success();
        ready.then_some(())
    });
    let mut yes = Command::new(parts::program("yes")).stdout(Stdio::piped()).spawn().unwrap();
    let mut flood = channel(&["echo begun; sleep 1; seq 1000000"]);
    let mut flood = flood.stdin(yes.stdout.take().unwrap()).spawn().unwrap();
    let mut out = BufReader::new(flood.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    // While the flood waits, another channel of the same connection answers.
    let other = Ran::of(&channel(&["echo other channel"]).output().unwrap());
    assert_eq!((other.code, other.out.trim()), (0, "other channel"), "{other:?}");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("999999\n1000000\n"), "{} bytes", rest.len());
    assert_eq!(rest.lines().count(), 1_000_000);
    assert_eq!(flood.wait().unwrap().code(), Some(0));
    let after = Ran::of(&channel(&["echo after"]).output().unwrap());
    assert_eq!(after.out.trim(), "after", "{after:?}");
    for child in [&mut yes, &mut master] {
        let _gone = child.kill();
        child.wait().unwrap();
    }
}

#[test]
fn a_killed_session_ends_its_command_on_the_target() {
    let demo = Demo::shared();
    let running =
        || run(demo, "alice", "cat /proc/[0-9]*/cmdline | tr '\\0' '_' | grep -c 'sleep_7[7]31'");
    let child = begin(demo, "sleep 7731");
    wait_for("the command to run", || (running().out.trim() == "1").then_some(()));
    let (id, _) = session_with(demo, "sleep 7731", &[]);
    let refused = Ran::of(&demo.weir("olaf", &["sessions", "kill", &id]));
    assert_ne!(refused.code, 0, "olaf may read, not end: {refused:?}");
    let killed = Ran::of(&demo.weir("dana", &["sessions", "kill", &id]));
    assert_eq!(killed.code, 0, "{killed:?}");
    let ran = finish(child);
    assert!(ran.code != 0 && ran.err.contains("dana"), "who ended it is told: {ran:?}");
    wait_for("its end on the target", || (running().out.trim() == "0").then_some(()));
}

#[test]
fn nothing_of_the_gateways_reaches_the_target() {
    let demo = Demo::shared();
    let words =
        ["-o", "SetEnv=SMUGGLED=yes", "localhost", "env; cat /proc/[0-9]*/environ /tmp/* ~/*"];
    let ran = Ran::of(&ssh_to(demo, "alice", LOGIN, &words).output().unwrap());
    let signature = demo.token("alice").rsplit('.').next().unwrap();
    assert!(ran.out.contains("LOGNAME=deploy"), "{ran:?}");
    assert!(!ran.says(signature) && !ran.says("SMUGGLED"), "{ran:?}");
    let log = read(demo.text("/direct/ssh/log_file"));
    assert!(log.contains("deploy") && !log.contains(signature));
}

#[test]
fn only_the_offered_login_at_a_known_target_gets_in() {
    let demo = Demo::shared();
    let marker = "login-trick-ran";
    for (user, why) in [
        ("root@web-1", "not offered"),
        ("deploy:x@web-1", "not offered"),
        ("root:deploy@web-1", "not offered"),
        ("DEPLOY@web-1", "not offered"),
        ("@web-1", "not offered"),
        ("deploy@customers", "no target"),
    ] {
        let words = ["localhost", "echo ran >>/tmp/login-trick-ran; id -un"];
        let ran = Ran::of(&ssh_to(demo, "alice", user, &words).output().unwrap());
        assert_eq!((ran.code, ran.out.as_str()), (126, ""), "{user}: {ran:?}");
        assert!(ran.err.contains("weir: "), "{user}: {ran:?}");
        assert!(ran.err.contains(why) || why == "no target", "{user}: {ran:?}");
    }
    // A provider's token counts at targets that take it; elsewhere it is not even looked at.
    for user in ["deploy@nowhere", "deploy", "deploy@web-1@web-1", "deploy\u{ff20}web-1"] {
        let words = ["localhost", "echo ran >>/tmp/login-trick-ran; id -un"];
        let ran = Ran::of(&ssh_to(demo, "alice", user, &words).output().unwrap());
        assert_eq!((ran.code, ran.out.as_str()), (255, ""), "{user}: {ran:?}");
    }
    assert_eq!(count(demo, marker), 0);
    // Policy lets engineers in, whoever employs them: web-1 holds nobody's data.
    assert_eq!(run(demo, "mei", "id -un").out.trim(), "deploy");
    for person in ["olaf", "dana"] {
        let ran = run(demo, person, "id -un");
        assert_eq!((ran.code, ran.out.as_str()), (126, ""), "{ran:?}");
        assert!(ran.err.contains("or none that you may know of"), "{ran:?}");
    }
}
