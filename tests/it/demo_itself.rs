//! The demo as somebody meets it who has never seen it: what it prints works, and when it ends,
//! nothing of it is left.

use std::io::BufRead;
use std::io::BufReader;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::finish;
use crate::demo::read;
use crate::demo::wait_for;
use crate::machine::at_provider;
use crate::parts;
use crate::visitor::Visitor;

/// A demo as a person starts it, with folders of its own below `dir`.
struct Started {
    child: Child,
    printed: String,
    dir: tempfile::TempDir,
}

impl Started {
    fn with(more: &[&str]) -> Self {
        let dir = folder();
        let mut demo = demo(dir.path());
        let stderr = std::fs::File::create(dir.path().join("stderr")).unwrap();
        let mut child = demo.args(more).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut printed = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let done = |text: &str| text.contains("audit verify") || text.starts_with('{');
        while !done(&printed) {
            let count = out.read_line(&mut printed).unwrap();
            assert_ne!(count, 0, "{printed}{}", read(dir.path().join("stderr")));
        }
        Self { child, printed, dir }
    }

    /// Every process that this one started, with those that they started.
    fn below(&self) -> Vec<u32> {
        let all = processes();
        let mut found = vec![self.child.id()];
        while let Some((id, _)) =
            all.iter().find(|(id, parent)| found.contains(parent) && !found.contains(id))
        {
            found.push(*id);
        }
        found.split_off(1)
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }
}

/// A short path that every account may go through: servers have sockets and files below it.
fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new().prefix("weir-it-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

fn demo(temporary: &Path) -> Command {
    let mut demo = Command::new(parts::weir());
    demo.args(["demo", "--port", "0", "--office-port", "0"]).env("TMPDIR", temporary);
    demo.stdin(Stdio::null());
    demo
}

/// Ids of all processes, and of their parents; those that ended and wait for a parent are none.
fn processes() -> Vec<(u32, u32)> {
    let ids = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // proc_pid_stat(5): the name is in brackets and may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some((id, parent))
    })
    .collect()
}

fn alive(ids: &[u32]) -> Vec<u32> {
    let all = processes();
    ids.iter().copied().filter(|id| all.iter().any(|(other, _)| other == id)).collect()
}

/// What is left of the demo's folders in `dir`.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

#[test]
fn every_line_that_it_prints_works_as_printed() {
    let started = Started::with(&[]);
    let indented = started.printed.lines().filter_map(|line| line.strip_prefix("  "));
    let programs = [". ", "PGPASSWORD=", "SSH_ASKPASS=", "curl ", "WEIR_TOKEN=", "weir "];
    let lines = indented.filter(|line| programs.iter().any(|program| line.starts_with(program)));
    let lines = lines.collect::<Vec<_>>();
    let (first, lines) = lines.split_first().unwrap();
    assert!(first.starts_with(". "), "{first}");
    let home = folder();
    let browser = home.path().join("browser");
    std::fs::write(&browser, "#!/bin/sh\nprintf %s \"$1\" > \"$HOME/opened\"\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&browser, mode).unwrap();
    let shell = |line: &str| {
        let mut shell = Command::new("/bin/sh");
        for name in ["SSH_CONNECTION", "SSH_TTY", "XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
            shell.env_remove(name);
        }
        shell.env("HOME", home.path()).env("BROWSER", &browser).env("WEIR_KEYRING", "off");
        shell.arg("-c").arg(format!("{first}\n{line}")).stdin(Stdio::null());
        shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let expected = [
        ("weir login", "signed in as alice", 0),
        ("weir psql customers", "<masked:pii.email>", 0),
        ("deploy@web-1.weir", "web-1", 0),
        ("weir logout", "logged out", 0),
        ("user=alice\" -c 'SELECT", "<masked:pii.email>", 0),
        ("user=olaf\" -c 'SELECT", "@example.", 0),
        ("DELETE FROM customers", "customers.no-mass-delete", 1),
        ("UPDATE customers", "UPDATE 1", 0),
        ("user=mei\"", "acme-sg (SG)", 2),
        ("user=alice\" -c 'SELECT", "<masked:pii.email>", 0),
        ("deploy@web-1@localhost", "", 0),
        ("'uname -a'", "web-1", 0),
        ("'systemctl restart nginx'", "restart nginx", 0),
        ("'rm -rf /'", "web.no-destruction", 126),
        ("/api/people", "<masked:pii.email>", 0),
        ("-X DELETE", "wiki.no-delete", 0),
        ("sessions ls", "web-1", 0),
        ("requests", "nothing waits", 0),
        ("policy explain", "masked: ", 0),
        ("audit verify", "consistent", 0),
    ];
    let approve = lines.iter().find(|line| line.contains("approve ID")).unwrap();
    let lines = lines.iter().filter(|line| line != &approve).collect::<Vec<_>>();
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (part, says, code)) in lines.into_iter().zip(expected) {
        assert!(line.contains(part), "{line}: {part}");
        let child = shell(line);
        if part == "weir login" {
            let opened = home.path().join("opened");
            let url = wait_for("the browser", || {
                std::fs::read_to_string(&opened).ok().filter(|url| url.starts_with("https://"))
            });
            let (_, ca) = started.printed.split_once("that trusts ").unwrap();
            let visitor = Visitor::new(&["--cacert", ca.split_once(":\n").unwrap().0]);
            let page = at_provider(&visitor, visitor.visit(&url), "alice");
            let back = visitor.follow(visitor.submit(&page, &[]), "http://127.0.0.1:").unwrap();
            visitor.visit(&back);
        }
        if line.contains("UPDATE") || line.contains("systemctl") {
            let hold = wait_for("the hold", || {
                let ran = finish(shell("WEIR_TOKEN=$DANA weir requests"));
                ran.out
                    .split_whitespace()
                    .next()
                    .filter(|id| id.starts_with("h-"))
                    .map(str::to_owned)
            });
            let approved = finish(shell(&approve.replace("ID", &hold)));
            assert_eq!(approved.code, 0, "{approved:?}");
        }
        let ran = finish(child);
        assert!(ran.code == code && ran.says(says), "{line}\n{ran:?}");
    }
    started.signal("TERM");
    let ended = started.child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", read(started.dir.path().join("stderr")));
}

#[test]
fn it_ends_on_ctrl_c_and_on_term_and_leaves_nothing() {
    for signal in ["INT", "TERM"] {
        let mut started = Started::with(&["--json"]);
        let below = started.below();
        assert!(below.len() > 4 && alive(&below).len() > 4, "PostgreSQL, sshd, nginx: {below:?}");
        assert_eq!(folders(started.dir.path()).len(), 2);
        started.signal(signal);
        let status = started.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{signal}");
        assert_eq!(alive(&below), [0; 0], "{signal}");
        assert_eq!(folders(started.dir.path()), Vec::<PathBuf>::new(), "{signal}");
    }
}

#[test]
fn none_of_its_servers_outlives_a_demo_that_is_killed() {
    let mut started = Started::with(&["--json"]);
    let below = started.below();
    assert!(below.len() > 4, "{below:?}");
    started.signal("KILL");
    started.child.wait().unwrap();
    wait_for("the servers' end", || alive(&below).is_empty().then_some(()));
}

#[test]
fn it_says_what_it_cannot_have() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = folder();
    for option in ["--port", "--office-port"] {
        let mut demo = Command::new(parts::weir());
        let ports = if option == "--port" { ["--office-port", "0"] } else { ["--port", "0"] };
        demo.arg("demo").args([option, &port]).args(ports).env("TMPDIR", dir.path());
        let ran = Ran::of(&demo.output().unwrap());
        let says = format!("port {port} cannot be had; choose others with --port");
        assert!(ran.code == 2 && ran.err.contains(&says), "{ran:?}");
    }
    let mut demo = demo(dir.path());
    let ran = Ran::of(&demo.args(["--kubeconfig", "/nowhere/kubeconfig"]).output().unwrap());
    assert!(ran.code == 2 && ran.err.contains("/nowhere/kubeconfig"), "{ran:?}");
    assert_eq!(folders(dir.path()), Vec::<PathBuf>::new(), "what was begun is tidied away");
}

#[test]
fn a_state_folder_in_use_is_left_alone() {
    let demo = Demo::shared();
    let dir = folder();
    let mut second = self::demo(dir.path());
    let ran = Ran::of(&second.arg("--state-dir").arg(&demo.state).output().unwrap());
    assert!(ran.code == 2 && ran.err.contains("in use by another demo"), "{ran:?}");
    assert_eq!(demo.psql("alice", &["SELECT 1"]).out, "1\n");
}

#[test]
fn its_json_has_all_that_the_contract_names() {
    let demo = Demo::shared();
    for file in ["/ca_file", "/ca_key_file", "/config_file", "/policy_dir", "/state_dir"] {
        assert!(Path::new(demo.text(file)).exists(), "{file}");
    }
    for text in ["/address", "/office", "/issuer", "/api", "/people/mei/token"] {
        assert!(!demo.text(text).is_empty(), "{text}");
    }
    let dsn = demo.text("/targets/customers/dsn");
    assert!(!dsn.contains("user=") && !dsn.contains("password="), "{dsn}");
    let targets = demo.ready["targets"].as_object().unwrap();
    assert!(targets.values().all(|target| target["protocol"].is_string()), "{targets:?}");
    assert!(targets["web-1"]["command"].is_string() && targets["wiki"]["url"].is_string());
}
