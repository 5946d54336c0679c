//! What people meet, with OpenSSH's own client in front and its own server behind.
//!
//! The server runs as whoever runs the tests, on loopback, with a `systemctl` that only writes into
//! a file. Needs Debian's `openssh-client` and `openssh-server`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use secrecy::SecretString;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::model::target::WithoutBasis;
use crate::protocol::ssh::Limits;
use crate::protocol::ssh::Options;
use crate::protocol::ssh::Server;
use crate::protocol::ssh::generate_host_key;
use crate::session::Decision;
use crate::session::EndReason;
use crate::session::hold::Pending;
use crate::session::testing::World;
use crate::target;
use crate::target::Credential;
use crate::target::Reach;
use crate::target::SshTarget;

const POLICIES: &str = r#"
@id("t.connect") permit (principal, action == Weir::Action::"connect", resource)
when { principal in Weir::Role::"engineer" };

@id("t.run") permit (principal, action == Weir::Action::"execute", resource)
when { ["read", "execute", "opaque"].containsAll(context.effects) };

@id("t.restart") @reason("a restart needs a second pair of eyes") @approvers("approver")
permit (principal, action == Weir::Action::"execute", resource)
when { context.effects.contains("server") && !context.effects.contains("destroy") && context.approved };

@id("t.destroy") @reason("nothing is removed beyond undoing") @hint("ask olaf")
forbid (principal, action == Weir::Action::"execute", resource)
when { context.effects.contains("destroy") };
"#;

/// Only reading.
const READS_ONLY: &str = r#"
@id("t.connect") permit (principal, action == Weir::Action::"connect", resource);
@id("t.read") permit (principal, action == Weir::Action::"execute", resource)
when { ["read"].containsAll(context.effects) };
"#;

/// Nobody may connect.
const NOBODY: &str = r#"
@id("t.nobody") @reason("web-1 is closed today")
forbid (principal, action == Weir::Action::"connect", resource);
"#;

struct Rig {
    world: World,
    login: String,
    port: u16,
    sshd: Child,
    sshd_port: u16,
    accepting: JoinHandle<()>,
}

fn login() -> String {
    let me = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(me.stdout).unwrap().trim().to_owned()
}

/// An account that is not root's: sshd passes no signals on for root (it keeps no monitor). Where
/// the tests run as root it is made, with no password and no home.
fn account() -> String {
    const NAME: &str = "weir-test";
    let me = login();
    if me != "root" {
        return me;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    if !passwd.lines().any(|line| line.starts_with("weir-test:")) {
        let made = std::process::Command::new("useradd")
            .args(["--system", "--shell", "/bin/sh", "--home-dir", "/", "--password", "*", NAME])
            .status();
        // Two tests may come to make it at once: 9 says that the name is taken.
        assert!(matches!(made.unwrap().code(), Some(0 | 9)), "useradd failed");
    }
    NAME.to_owned()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn write(path: &PathBuf, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn keygen(path: &PathBuf) -> String {
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
    fs::read_to_string(path.with_extension("pub")).unwrap()
}

impl Rig {
    async fn new() -> Self {
        Self::with(POLICIES, |_| {}).await
    }

    async fn with(policies: &str, change: impl FnOnce(&mut target::Options)) -> Self {
        Self::of(login(), policies, change).await
    }

    async fn of(login: String, policies: &str, change: impl FnOnce(&mut target::Options)) -> Self {
        let dir = tempfile::tempdir().unwrap().keep();
        let sshd_port = free_port();
        let host_key = keygen(&dir.join("host"));
        write(&dir.join("authorized"), &keygen(&dir.join("gateway")), 0o644);
        let key = fs::read_to_string(dir.join("gateway")).unwrap();
        let mut options = target::Options {
            name: "web-1".parse().unwrap(),
            region: "here".parse().unwrap(),
            owner: "acme-de".parse().unwrap(),
            laws: BTreeSet::new(),
            labels: BTreeSet::new(),
            classes: BTreeSet::new(),
            without_basis: WithoutBasis::Refuse,
            observe: false,
            reach: Reach::Ssh(SshTarget {
                address: format!("127.0.0.1:{sshd_port}").parse().unwrap(),
                logins: vec![login.parse().unwrap()],
                host_keys: vec![host_key.trim().parse().unwrap()],
                credential: Credential::new("a test", move || {
                    Ok::<_, std::io::Error>(SecretString::from(key.clone()))
                }),
            }),
        };
        change(&mut options);
        let world = World::new(policies, vec![options]).await;
        let home = world.dir().join("ssh");
        fs::rename(&dir, &home).unwrap();
        // The account may be another than ours, and sshd reads as it.
        for dir in [world.dir(), &home] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let sshd = start_sshd(&home, sshd_port);
        let pem = generate_host_key().unwrap();
        let options = Options { host_keys: vec![pem], limits: Limits::default() };
        let server = Arc::new(Server::new(&options).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let known = format!("[127.0.0.1]:{port} {}\n", server.public_keys()[0]);
        write(&world.dir().join("known_hosts"), &known, 0o600);
        let gateway = world.gateway();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (server, gateway) = (Arc::clone(&server), Arc::clone(&gateway));
                tokio::spawn(async move { server.serve(gateway, stream, World::origin()).await });
            }
        });
        let rig = Self { world, login, port, sshd, sshd_port, accepting };
        rig.ready().await;
        rig
    }

    /// Waits until sshd answers.
    async fn ready(&self) {
        for _ in 0..100 {
            let bound = std::net::TcpListener::bind(("127.0.0.1", self.sshd_port));
            if bound.is_err() {
                return;
            }
            drop(bound);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("sshd did not start: is openssh-server installed?");
    }

    /// The file that the target's systemctl writes into.
    fn restarts(&self) -> String {
        fs::read_to_string(self.world.dir().join("ssh").join("restarts")).unwrap_or_default()
    }

    fn tool(&self, program: &str, user: &str, token: &str) -> Command {
        self.tool_at(self.port, program, user, token)
    }

    fn tool_at(&self, port: u16, program: &str, user: &str, token: &str) -> Command {
        let askpass = self.world.dir().join(format!("askpass-{}", uuid::Uuid::new_v4()));
        write(&askpass, &format!("#!/bin/sh\necho '  {token}'\n"), 0o700);
        let known = self.world.dir().join("known_hosts");
        let mut command = Command::new(program);
        command
            .args(["-F", "none", "-o", "StrictHostKeyChecking=yes"])
            .args(["-o", "NumberOfPasswordPrompts=1", "-o", "LogLevel=ERROR"])
            .args(["-o", &format!("UserKnownHostsFile={}", known.display())])
            .args(["-o", &format!("Port={port}"), "-o", &format!("User={user}")])
            .env("SSH_ASKPASS", askpass)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// `ssh login@web-1@gateway`, as alice.
    fn ssh(&self, words: &[&str]) -> Command {
        let token = self.world.token("alice", &["engineer"]);
        let mut command = self.tool("ssh", &format!("{}@web-1", self.login), &token);
        command.arg("127.0.0.1").args(words);
        command
    }

    async fn run(&self, line: &str) -> Output {
        ended(self.ssh(&[line])).await
    }

    /// Waits for the one command that is held.
    async fn held(&self) -> Arc<Pending> {
        for _ in 0..200 {
            if let Some(pending) = self.world.gateway().parts.desk.pending().into_iter().next() {
                return pending;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("nothing was held: {}", self.world.record());
    }

    fn approve(&self, pending: &Pending) -> bool {
        let by = World::approver("dana", &["approver"]);
        self.world.gateway().parts.desk.answer(&pending.hold, Decision::Approved { by })
    }

    /// Waits until the record contains `text`.
    async fn recorded(&self, text: &str) -> String {
        for _ in 0..200 {
            let record = self.world.record();
            if record.contains(text) {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("no {text:?} in {}", self.world.record());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Err(error) = self.sshd.start_kill() {
            assert!(std::thread::panicking(), "{error}");
        }
    }
}

fn start_sshd(dir: &Path, port: u16) -> Child {
    if login() == "root" {
        fs::create_dir_all("/run/sshd").unwrap();
    }
    let home = dir.display();
    let systemctl = format!("#!/bin/sh\necho \"$@\" >> {home}/restarts\n");
    write(&dir.join("systemctl"), &systemctl, 0o755);
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {home}/host\nAuthorizedKeysFile {home}/authorized\n\
         StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication no\n\
         AcceptEnv *\nSetEnv PATH={home}:/usr/bin:/bin\nPrintMotd no\nPrintLastLog no\n",
    );
    write(&dir.join("config"), &config, 0o600);
    Command::new("/usr/sbin/sshd")
        .args(["-D", "-E"])
        .arg(dir.join("log"))
        .arg("-f")
        .arg(dir.join("config"))
        .kill_on_drop(true)
        .spawn()
        .expect("these tests need openssh-server")
}

async fn ended(mut command: Command) -> Output {
    let done = tokio::time::timeout(Duration::from_mins(1), command.output());
    done.await.expect("the client hangs").unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_with_its_output_stderr_and_status() {
    let rig = Rig::new().await;
    let done = rig.run("uname -s").await;
    assert_eq!((out(&done).as_str(), done.status.code()), ("Linux\n", Some(0)), "{}", err(&done));
    let done = rig.run("echo out; echo err >&2; exit 7").await;
    assert_eq!((out(&done), err(&done)), ("out\n".to_owned(), "err\n".to_owned()));
    assert_eq!(done.status.code(), Some(7));
    let record = rig.recorded("exit 7").await;
    assert!(record.contains(r#""text":"uname -s""#) && record.contains("Linux"), "{record}");
    assert!(record.contains("exit 0"));
    let killed = rig.run("kill -9 $$").await;
    assert_eq!(killed.status.code(), Some(255), "ssh gives 255 for a signal");
    rig.recorded("signal KILL").await;
    for _ in 0..100 {
        if rig.world.open_trails() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a trail is still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn stdin_reaches_the_command_whole() {
    let rig = Rig::new().await;
    let mut command = rig.ssh(&["cat | sha256sum"]);
    command.stdin(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut stdin = client.stdin.take().unwrap();
    let data = (0..40_000_000_u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>();
    let writing = tokio::spawn(async move { stdin.write_all(&data).await.unwrap() });
    let done = client.wait_with_output().await.unwrap();
    writing.await.unwrap();
    let expected = std::process::Command::new("sh")
        .args(["-c", "python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256))*156250)' | sha256sum"])
        .output()
        .unwrap();
    assert_eq!(out(&done), String::from_utf8(expected.stdout).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_stdin_stops_neither_its_output_nor_another_channel() {
    let rig = Rig::new().await;
    let control = rig.world.dir().join("control");
    let mux = ["-o", &format!("ControlPath={}", control.display()), "-o"].map(ToOwned::to_owned);
    let with = |rest: &[&str]| {
        let mut words = mux.iter().map(String::as_str).collect::<Vec<_>>();
        words.extend(rest);
        let token = rig.world.token("alice", &["engineer"]);
        let mut command = rig.tool("ssh", &format!("{}@web-1", rig.login), &token);
        command.args(words);
        command
    };
    let mut first = with(&["ControlMaster=yes", "127.0.0.1", "sleep 1; seq 1000000"]);
    let mut yes = std::process::Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
    first.stdin(Stdio::from(yes.stdout.take().unwrap()));
    let first = tokio::spawn(ended(first));
    while !control.exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    let asked = Instant::now();
    let other = ended(with(&["ControlMaster=no", "127.0.0.1", "echo alive"])).await;
    assert_eq!(out(&other), "alive\n", "{}", err(&other));
    assert!(!first.is_finished(), "the other channel was served while the first was stuck");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let done = first.await.unwrap();
    yes.kill().unwrap();
    yes.wait().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert_eq!(out(&done).lines().count(), 1_000_000);
    assert!(out(&done).ends_with("1000000\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_at_a_terminal_works() {
    let rig = Rig::new().await;
    let token = rig.world.token("alice", &["engineer"]);
    let mut command = rig.tool("ssh", &format!("{}@web-1", rig.login), &token);
    command.args(["-tt", "127.0.0.1"]).env("TERM", "xterm").stdin(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"tty; echo term=$TERM; echo $((6*7)); exit 3\n").await.unwrap();
    let done = tokio::time::timeout(Duration::from_secs(20), client.wait_with_output()).await;
    let done = done.expect("the shell hangs").unwrap();
    let said = out(&done);
    assert!(
        said.contains("/dev/pts/") && said.contains("term=xterm") && said.contains("\n42\r"),
        "{said}"
    );
    assert_eq!(done.status.code(), Some(3));
    let record = rig.recorded("exit 3").await;
    assert!(record.contains(r#""verb":"shell""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_locale_reaches_the_target_and_no_token_does() {
    let rig = Rig::new().await;
    let token = rig.world.token("alice", &["engineer"]);
    let mut command = rig.tool("ssh", &format!("{}@web-1", rig.login), &token);
    command.args(["-o", "SendEnv=*", "127.0.0.1", "env"]);
    command.env("LC_TIME", "C").env("WEIR_TOKEN", &token).env("EVIL", "1");
    let done = ended(command).await;
    let said = out(&done);
    assert!(said.contains("LC_TIME=C"), "{said}");
    assert!(!said.contains("EVIL") && !said.contains("WEIR") && !said.contains(&token), "{said}");
    let log = fs::read_to_string(rig.world.dir().join("ssh").join("log")).unwrap_or_default();
    assert!(!log.contains(&token) && !rig.world.record().contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_on_stderr_with_126() {
    let rig = Rig::new().await;
    let file = rig.world.dir().join("keep");
    fs::create_dir(&file).unwrap();
    for line in ["rm -rf", "cd / && rm -fr", "/bin/rm -r -f"] {
        let done = rig.run(&format!("{line} {}", file.display())).await;
        assert_eq!(done.status.code(), Some(126), "{}", err(&done));
        assert!(err(&done).contains("nothing is removed beyond undoing"), "{}", err(&done));
        assert!(err(&done).contains("t.destroy") && err(&done).contains("ask olaf"));
        assert!(out(&done).is_empty() && file.exists());
    }
    rig.recorded("t.destroy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_command_runs_once_and_exactly_then() {
    let rig = Rig::new().await;
    let client = rig.ssh(&["systemctl restart nginx"]);
    let client = tokio::spawn(ended(client));
    let pending = rig.held().await;
    assert_eq!(pending.command.text, "systemctl restart nginx");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.restarts(), "", "nothing runs while it waits");
    assert!(rig.approve(&pending));
    let done = client.await.unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert!(err(&done).contains("weir: held as h-") && err(&done).contains("weir approve h-"));
    assert_eq!(rig.restarts(), "restart nginx\n");
    assert!(!rig.approve(&pending), "an approval is for once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_command_that_is_declined_or_left_never_runs() {
    let rig = Rig::new().await;
    let client = tokio::spawn(ended(rig.ssh(&["systemctl restart nginx"])));
    let pending = rig.held().await;
    let declined = Decision::Declined {
        by: World::approver("dana", &["approver"]),
        reason: Some("not now".into()),
    };
    assert!(rig.world.gateway().parts.desk.answer(&pending.hold, declined));
    let done = client.await.unwrap();
    assert_eq!(done.status.code(), Some(126));
    assert!(err(&done).contains("dana said no: not now"), "{}", err(&done));

    let mut client = rig.ssh(&["systemctl restart nginx"]).spawn().unwrap();
    let pending = rig.held().await;
    client.kill().await.unwrap();
    rig.recorded("the client went away").await;
    assert!(!rig.approve(&pending), "nobody can approve what no longer waits");

    // More than is read ahead.
    let mut flood = rig.ssh(&["systemctl restart nginx"]);
    let zero = fs::File::open("/dev/zero").unwrap();
    flood.stdin(Stdio::from(zero));
    let done = ended(flood).await;
    assert_eq!(done.status.code(), Some(126));
    assert!(err(&done).contains("read ahead"), "{}", err(&done));

    // Ctrl-C at a terminal.
    let token = rig.world.token("alice", &["engineer"]);
    let mut command = rig.tool("ssh", &format!("{}@web-1", rig.login), &token);
    command.args(["-tt", "127.0.0.1", "systemctl restart nginx"]).stdin(Stdio::piped());
    let mut client = command.spawn().unwrap();
    rig.held().await;
    client.stdin.as_mut().unwrap().write_all(&[3]).await.unwrap();
    let done = client.wait_with_output().await.unwrap();
    assert_eq!(done.status.code(), Some(126));
    assert!(err(&done).contains("canceled by the client"), "{}", err(&done));
    assert_eq!(rig.restarts(), "");
}

/// Begins a command that runs long; its client, and its process.
async fn long_command(rig: &Rig) -> (Child, String) {
    let mut client = rig.ssh(&["echo $$; sleep 1000 | sleep 1000"]).spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.as_mut().unwrap()).lines();
    let pid = lines.next_line().await.unwrap().unwrap();
    assert!(Path::new("/proc").join(&pid).exists());
    (client, pid)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_session_ends_its_command_on_the_target() {
    let rig = Rig::of(account(), POLICIES, |_| {}).await;
    let (client, pid) = long_command(&rig).await;
    let live = rig.world.gateway().parts.registry.list();
    let live = rig.world.gateway().parts.registry.find(live[0].session).unwrap();
    live.end(EndReason::Killed { by: "dana".to_owned() });
    let done = client.wait_with_output().await.unwrap();
    assert_eq!(done.status.code(), Some(255));
    assert!(err(&done).contains("ended by dana"), "{}", err(&done));
    assert_gone(&pid).await;
    rig.recorded("killed by dana; it ended on the target by TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_command_on_the_target() {
    let rig = Rig::of(account(), POLICIES, |_| {}).await;
    let (mut client, pid) = long_command(&rig).await;
    client.kill().await.unwrap();
    assert_gone(&pid).await;
    rig.recorded("the client went away; it ended on the target by TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_of_the_client_reaches_the_command() {
    let rig = Rig::of(account(), POLICIES, |_| {}).await;
    let token = rig.world.token("alice", &["engineer"]);
    let mut command = rig.tool("ssh", &format!("{}@web-1", rig.login), &token);
    let line = "trap 'echo hup; exit 4' HUP INT; echo ready; while :; do sleep 0.1; done";
    command.args(["-tt", "127.0.0.1", line]).stdin(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap().trim(), "ready");
    client.stdin.as_mut().unwrap().write_all(&[3]).await.unwrap();
    assert!(lines.next_line().await.unwrap().unwrap().contains("hup"));
    assert_eq!(client.wait().await.unwrap().code(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_sign_in_is_sent_away() {
    let rig = Rig::new().await;
    let limits = Limits { login_s_max: 1, ..Limits::default() };
    let options = Options { host_keys: vec![generate_host_key().unwrap()], limits };
    let server = Server::new(&options).unwrap();
    let begun = Instant::now();
    for greeting in [&b""[..], b"SSH-2.0-x\r\n"] {
        let (near, mut far) = tokio::io::duplex(4_096);
        far.write_all(greeting).await.unwrap();
        server.serve(rig.world.gateway(), near, World::origin()).await;
    }
    assert!((2..8).contains(&begun.elapsed().as_secs()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_ends_and_says_so() {
    let rig = Rig::new().await;
    let limits = Limits { idle_s_max: 1, ..Limits::default() };
    let options = Options { host_keys: vec![generate_host_key().unwrap()], limits };
    let server = Server::new(&options).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let token = rig.world.token("alice", &["engineer"]);
    let mut command = rig.tool_at(port, "ssh", &format!("{}@web-1", rig.login), &token);
    let known = rig.world.dir().join("known_hosts");
    write(&known, &format!("[127.0.0.1]:{port} {}\n", server.public_keys()[0]), 0o600);
    command.args(["127.0.0.1", "sleep 1000"]);
    let client = tokio::spawn(ended(command));
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        server.serve(rig.world.gateway(), stream, World::origin()).await;
    };
    tokio::time::timeout(Duration::from_secs(20), serving).await.expect("it idles on");
    let done = client.await.unwrap();
    assert_eq!(done.status.code(), Some(255));
    assert!(err(&done).contains("too long"), "{}", err(&done));
    assert!(rig.world.record().contains(r#""reason":"idle""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_ends_the_session() {
    let rig = Rig::new().await;
    let client = tokio::spawn(ended(rig.ssh(&["echo begun; sleep 1000"])));
    rig.recorded("echo begun").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.world.reload(NOBODY);
    let done = client.await.unwrap();
    assert_eq!(done.status.code(), Some(255));
    assert!(err(&done).contains("web-1 is closed today"), "{}", err(&done));
}

async fn assert_gone(pid: &str) {
    let process = PathBuf::from("/proc").join(pid);
    for _ in 0..100 {
        if !process.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("process {pid} still runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_verified_learns_nothing_and_whoever_is_not_admitted_learns_why() {
    let rig = Rig::new().await;
    let user = format!("{}@web-1", rig.login);
    let with = |user: &str, token: &str| {
        let mut command = rig.tool("ssh", user, token);
        command.args(["127.0.0.1", "id"]);
        ended(command)
    };
    let good = rig.world.token("alice", &["engineer"]);
    let other = rig.world.token("mallory", &["guest"]);
    let wrong = with(&user, "nonsense").await;
    assert_eq!(wrong.status.code(), Some(255));
    assert!(err(&wrong).contains("Permission denied"), "{}", err(&wrong));
    let guest = with(&user, &other).await;
    assert_eq!(guest.status.code(), Some(126), "{}", err(&guest));
    assert!(err(&guest).starts_with("weir: "), "{}", err(&guest));
    for (user, said) in [
        ("nobody@web-1", "not offered"),
        (&format!("{}:x@web-1", rig.login), "not offered"),
        (&rig.login, "user name must say"),
        (&format!("{}@web-2", rig.login), "no target `web-2`"),
    ] {
        let done = with(user, &good).await;
        assert_eq!(
            (done.status.code(), err(&done).contains(said)),
            (Some(126), true),
            "{user}: {}",
            err(&done)
        );
    }
    assert!(!rig.world.record().contains("uid="), "nothing ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_may_be_the_token_and_a_key_is_no_sign_in() {
    let rig = Rig::new().await;
    let user = format!("{}@web-1", rig.login);
    let token = rig.world.token("alice", &["engineer"]);
    let by = |method: &str| {
        let key = rig.world.dir().join("ssh").join("gateway");
        let mut command = rig.tool("ssh", &user, &token);
        command.args(["-o", &format!("PreferredAuthentications={method}"), "-i"]).arg(key);
        command.args(["127.0.0.1", "echo in"]);
        ended(command)
    };
    assert_eq!(out(&by("password").await), "in\n");
    let key = by("publickey").await;
    assert_eq!(
        (out(&key).as_str(), key.status.code()),
        ("", Some(255)),
        "even the gateway's own key"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_agents_and_file_transfer_are_refused_and_recorded() {
    let rig = Rig::new().await;
    let user = format!("{}@web-1", rig.login);
    let token = rig.world.token("alice", &["engineer"]);
    let mut forward = rig.tool("ssh", &user, &token);
    forward.args(["-W", &format!("127.0.0.1:{}", rig.sshd_port), "127.0.0.1"]);
    let done = ended(forward).await;
    assert_ne!(done.status.code(), Some(0));
    assert!(!out(&done).contains("SSH-2.0"), "nothing came through");
    rig.recorded("direct-tcpip").await;
    let mut remote = rig.tool("ssh", &user, &token);
    remote.args(["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "127.0.0.1", "id"]);
    assert_ne!(ended(remote).await.status.code(), Some(0));
    rig.recorded("tcpip-forward").await;
    let mut agent = rig.tool("ssh", &user, &token);
    agent.args(["-A", "127.0.0.1", "echo agent=$SSH_AUTH_SOCK"]);
    assert_eq!(out(&ended(agent).await), "agent=\n");
    let file = rig.world.dir().join("file");
    fs::write(&file, "x").unwrap();
    for old in [&[][..], &["-O"]] {
        let copy = rig.world.dir().join("copy");
        let mut scp = rig.tool("scp", &user, &token);
        scp.args(old).arg(&file).arg(format!("127.0.0.1:{}", copy.display()));
        let done = ended(scp).await;
        assert_ne!(done.status.code(), Some(0));
        assert!(err(&done).contains("does not carry file transfer"), "{}", err(&done));
        assert!(!copy.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_dead_or_another_is_told_apart() {
    let another =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4bHk9HjRsCHTDmL9zJYtHbGxVJPZSFwgyXQwjvQ2bM";
    let rig = Rig::with(POLICIES, |target| {
        if let Reach::Ssh(ssh) = &mut target.reach {
            ssh.host_keys = vec![another.parse().unwrap()];
        }
    })
    .await;
    let done = rig.run("id").await;
    assert_eq!(done.status.code(), Some(255));
    assert!(err(&done).contains("host key of `web-1` changed"), "{}", err(&done));
    drop(rig);
    let rig = Rig::with(POLICIES, |target| {
        if let Reach::Ssh(ssh) = &mut target.reach {
            ssh.address = format!("127.0.0.1:{}", free_port()).parse().unwrap();
        }
    })
    .await;
    let done = rig.run("id").await;
    assert_eq!(done.status.code(), Some(255));
    assert!(err(&done).contains("web-1 cannot be reached"), "{}", err(&done));
    rig.recorded("cannot be reached").await;
    drop(rig);
    let mut rig = Rig::new().await;
    let client = tokio::spawn(ended(rig.ssh(&["echo begun; kill -9 $PPID; sleep 5"])));
    let done = client.await.unwrap();
    assert_eq!(done.status.code(), Some(255));
    assert!(err(&done).contains("the target closed the connection"), "{}", err(&done));
    rig.sshd.start_kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_hold_hidden_data_does_not_run() {
    let rig = Rig::with(READS_ONLY, |target| {
        target.classes.insert("pii.email".parse().unwrap());
    })
    .await;
    let done = rig.run("cat /etc/passwd").await;
    assert_eq!(done.status.code(), Some(126));
    assert!(err(&done).contains("free text cannot be masked"), "{}", err(&done));
    assert!(out(&done).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_needs_a_policy_that_says_so() {
    let rig = Rig::with(READS_ONLY, |_| {}).await;
    assert_eq!(rig.run("uname").await.status.code(), Some(0));
    for line in ["uname; id", "bash", "uname $(id)"] {
        let done = rig.run(line).await;
        assert_eq!(done.status.code(), Some(126), "{line}");
        assert!(err(&done).contains("cannot be told"), "{}", err(&done));
    }
    let shell = ended(rig.ssh(&[])).await;
    assert_eq!(shell.status.code(), Some(126), "a shell on stdin is a shell");
}
