//! What people meet, with OpenSSH's own client in front and its own server behind.
//!
//! The server runs as whoever runs the tests, on loopback, with a `systemctl` that only writes into
//! a file. Needs Debian's `openssh-client` and `openssh-server`.

mod carried;
mod login;
mod refused;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

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

/// How long anything may take before a test gives up, in seconds. Generous: no test measures time,
/// and this only guards against waiting for ever.
const PATIENCE_S: u64 = 180;
/// How long between two looks at what is waited for, in milliseconds.
const LOOK_MS: u64 = 25;

struct Rig {
    world: World,
    login: String,
    port: u16,
    sshd: Child,
    sshd_port: u16,
    server: Arc<Server>,
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
            us_persons: None,
            labels: BTreeSet::new(),
            classes: BTreeSet::new(),
            without_basis: WithoutBasis::Refuse,
            observe: false,
            provider_tokens: true,
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
        let (gateway, serving) = (world.gateway(), Arc::clone(&server));
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (server, gateway) = (Arc::clone(&serving), Arc::clone(&gateway));
                tokio::spawn(async move { server.serve(gateway, stream, World::origin()).await });
            }
        });
        let rig = Self { world, login, port, sshd, sshd_port, server, accepting };
        rig.ready().await;
        rig
    }

    /// Waits until sshd answers.
    async fn ready(&self) {
        let bound = || std::net::TcpListener::bind(("127.0.0.1", self.sshd_port)).is_err();
        until("sshd, which needs openssh-server", || bound().then_some(())).await;
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
        let pending = || self.world.gateway().parts.desk.pending().into_iter().next();
        until("a hold", pending).await
    }

    fn approve(&self, pending: &Pending) -> bool {
        let by = World::approver("dana", &["approver"]);
        self.world.gateway().parts.desk.answer(&pending.hold, Decision::Approved { by })
    }

    /// Waits until the record contains `text`.
    async fn recorded(&self, text: &str) -> String {
        until(text, || Some(self.world.record()).filter(|record| record.contains(text))).await
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
    in_time(command.output()).await.unwrap()
}

/// What comes of `work`, which may not hang.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(PATIENCE_S), work);
    done.await.expect("it hangs")
}

/// Waits until `look` finds something.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(PATIENCE_S), found);
    found.await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
