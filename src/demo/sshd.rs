//! A real sshd whose account can hurt nothing on the host.
//!
//! It runs in a sandbox (bubblewrap): it sees the host's programs read-only, invented account
//! files, and nothing else of the host's files; home and temporary folders live in memory and are
//! bounded; processes, IPC and host name are its own. It is not root, not inside either, and can
//! gain nothing by a setuid program. The network is the host's, since it must listen; the account
//! can reach by it what anybody on this machine can.
//!
//! `systemctl` and `service` are scripts that say what they would do.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::demo::DemoError;
use crate::demo::folder;
use crate::demo::folder::Folder;
use crate::demo::server;
use crate::demo::server::Account;
use crate::demo::server::Server;

/// The account.
pub(super) const LOGIN: &str = "deploy";
/// The host's name, inside.
const HOST: &str = "web-1";
/// How much the account may keep in each of its folders, in bytes; they are memory.
const FOLDER_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// How many processes it may have.
const PROCESSES_MAX: u32 = 512;
/// How large a file it may write, in bytes.
const FILE_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// How much memory each of its processes may have, in bytes.
const MEMORY_BYTES_MAX: u32 = 1024 * 1024 * 1024;
/// How long the sandbox may take to be gone, in seconds.
const END_S_MAX: u64 = 5;
/// Where the harmless programs are, inside.
const BIN: &str = "/opt/demo/bin";

/// A running sshd.
#[derive(Debug)]
pub(super) struct Sshd {
    /// The process.
    pub(super) server: Server,
    /// Where it is.
    pub(super) at: Place,
}

/// Where it is, and how to sign in.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its port on loopback.
    pub(super) port: u16,
    /// Its host key, as a line of OpenSSH's.
    pub(super) host_key: String,
    /// The private key that it lets in.
    pub(super) key_file: PathBuf,
    /// What it says.
    pub(super) log_file: PathBuf,
}

impl Sshd {
    /// Ends it, and waits until nothing of it listens: the kernel ends what is inside the sandbox a
    /// moment after the sandbox.
    pub(super) async fn stop(self) {
        self.server.stop("TERM").await;
        let until = Instant::now() + Duration::from_secs(END_S_MAX);
        while Instant::now() < until && server::connect(self.at.port).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Makes keys and a sandbox, and starts it.
pub(super) async fn start(state: &Folder, servers: &Folder) -> Result<Sshd, DemoError> {
    let account = Account::unprivileged(&["nobody"])?;
    let inside = match account {
        Some(account) => account,
        // Nobody else can be had: the caller's own id is called `deploy` in there.
        None => server::caller()?,
    };
    let home = servers.folder("web-1")?;
    let host_key = new_key(&home.join("host_key")).await?;
    server::give(&home.join("host_key"), account)?;
    let key_file = state.join("web-1.key");
    let key = new_key(&key_file).await?;
    let at = Place {
        port: server::free_port()?,
        host_key,
        key_file,
        log_file: servers.join("sshd.log"),
    };
    for (name, mode, text) in files(inside, at.port, &key) {
        let path = home.join(name);
        folder::write(&path, mode, text.as_bytes())?;
        server::give(&path, account)?;
    }
    server::give(&home, account)?;

    let mut command = server::bare(&server::program("bwrap", "bubblewrap")?, servers.path());
    command.args(sandbox(&home));
    command.arg(server::program("setpriv", "util-linux")?).args(server::give_up_root(account));
    command.arg("--").arg(server::program("prlimit", "util-linux")?).args([
        format!("--nproc={PROCESSES_MAX}"),
        format!("--fsize={FILE_BYTES_MAX}"),
        format!("--as={MEMORY_BYTES_MAX}"),
        "--core=0".to_owned(),
    ]);
    command.arg("--").arg(server::program("sshd", "openssh-server")?);
    command.args(["-D", "-e", "-f", "/etc/ssh/sshd_config"]);
    let mut server = Server::start("sshd", command, at.log_file.clone())?;
    server.ready(async || speaks_ssh(at.port).await).await?;
    Ok(Sshd { server, at })
}

/// A new ed25519 key at `path`; its public half.
async fn new_key(path: &Path) -> Result<String, DemoError> {
    let program = server::program("ssh-keygen", "openssh-client")?;
    let mut command = server::bare(&program, Path::new("/"));
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "weir-demo", "-f"]).arg(path);
    server::run("ssh-keygen", command, b"").await?;
    let public = path.with_added_extension("pub");
    let line = fs::read_to_string(&public).map_err(DemoError::file(&public))?;
    fs::remove_file(&public).map_err(DemoError::file(&public))?;
    Ok(line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

async fn speaks_ssh(port: u16) -> bool {
    let Ok(mut stream) = server::connect(port).await else { return false };
    let mut banner = [0; 4];
    stream.read_exact(&mut banner).await.is_ok() && banner == *b"SSH-"
}

/// Every file that the sandbox has besides the host's programs: name, permissions, contents.
fn files(inside: Account, port: u16, key: &str) -> Vec<(&'static str, u32, String)> {
    let Account { uid, gid } = inside;
    // `*` is no password; `!` would mean a locked account (sshd(8)).
    let passwd = format!(
        "root:*:0:0:root:/nonexistent:/bin/false\n{LOGIN}:*:{uid}:{gid}::/home/{LOGIN}:/bin/bash\n"
    );
    // No group `tty`: sshd would want to give the pty to it, which takes root.
    let group = format!("root:*:0:\n{LOGIN}:*:{gid}:\n");
    let says = |what: &str| {
        format!(
            "#!/bin/sh\n# Says what it would do, and does nothing.\n\
             echo \"{what} (demo): $* - pretending\"\n"
        )
    };
    vec![
        ("passwd", 0o644, passwd),
        ("group", 0o644, group),
        ("nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files\n".to_owned()),
        ("hosts", 0o644, format!("127.0.0.1 localhost {HOST}\n")),
        ("profile", 0o644, format!("PATH={BIN}:{}\nPS1='\\u@\\h:\\w\\$ '\n", server::PATH)),
        ("authorized_keys", 0o644, format!("restrict,pty {key}\n")),
        ("sshd_config", 0o644, config(port)),
        ("systemctl", 0o755, says("systemctl")),
        ("service", 0o755, says("service")),
    ]
}

fn config(port: u16) -> String {
    format!(
        "ListenAddress 127.0.0.1
Port {port}
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/authorized_keys
AllowUsers {LOGIN}
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
DisableForwarding yes
PermitUserRC no
PermitUserEnvironment no
PrintMotd no
PrintLastLog no
PidFile none
MaxStartups 100:30:200
MaxSessions 100
LogLevel VERBOSE
SetEnv PATH={BIN}:{path}
",
        path = server::PATH
    )
}

/// The arguments of bwrap(1), up to the program.
fn sandbox(home: &Path) -> Vec<String> {
    let mut words = Vec::new();
    let mut say = |all: &[&str]| words.extend(all.iter().map(|&word| word.to_owned()));
    say(&["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]);
    say(&["--die-with-parent", "--new-session", "--hostname", HOST]);
    say(&["--ro-bind", "/usr", "/usr"]);
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let path = format!("/{name}");
        match fs::read_link(&path) {
            Ok(target) => say(&["--symlink", &target.to_string_lossy(), &path]),
            Err(_) => say(&["--ro-bind-try", &path, &path]),
        }
    }
    // Folders that bwrap makes by itself are root's alone.
    for path in ["/etc", "/etc/ssh", "/home", "/opt", "/opt/demo", BIN, "/var"] {
        say(&["--dir", path]);
    }
    for path in ["/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime"] {
        say(&["--ro-bind-try", path, path]);
    }
    let inside = [
        ("passwd", "/etc/passwd"),
        ("group", "/etc/group"),
        ("nsswitch.conf", "/etc/nsswitch.conf"),
        ("hosts", "/etc/hosts"),
        ("profile", "/etc/profile"),
        ("authorized_keys", "/etc/ssh/authorized_keys"),
        ("sshd_config", "/etc/ssh/sshd_config"),
        ("host_key", "/etc/ssh/host_key"),
        ("systemctl", "/opt/demo/bin/systemctl"),
        ("service", "/opt/demo/bin/service"),
    ];
    for (name, path) in inside {
        say(&["--ro-bind", &home.join(name).to_string_lossy(), path]);
    }
    say(&["--proc", "/proc", "--dev", "/dev"]);
    let size = FOLDER_BYTES_MAX.to_string();
    for (mode, path) in [("1777", "/tmp"), ("1777", "/var/tmp"), ("0755", "/run")] {
        say(&["--perms", mode, "--size", &size, "--tmpfs", path]);
    }
    let own = format!("/home/{LOGIN}");
    say(&["--perms", "0777", "--size", &size, "--tmpfs", &own]);
    say(&["--remount-ro", "/", "--chdir", "/", "--"]);
    words
}

#[cfg(test)]
mod tests {
    use std::process::Output;

    use super::*;

    struct Host {
        sshd: Sshd,
        state: Folder,
        servers: Folder,
    }

    impl Host {
        async fn start() -> Self {
            let (state, servers) = (Folder::state(None).unwrap(), Folder::servers().unwrap());
            let sshd = start(&state, &servers).await.unwrap();
            let line = format!("[127.0.0.1]:{} {}\n", sshd.at.port, sshd.at.host_key);
            state.write("known_hosts", line.as_bytes()).unwrap();
            Self { sshd, state, servers }
        }

        async fn ssh(&self, options: &[&str], command: &str) -> Output {
            let program = server::program("ssh", "openssh-client").unwrap();
            let mut ssh = server::bare(&program, self.state.path());
            let at = &self.sshd.at;
            ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=known_hosts"]);
            ssh.args(["-p", &at.port.to_string(), "-i", &at.key_file.to_string_lossy()]);
            ssh.args(options).arg(format!("{LOGIN}@127.0.0.1")).arg(command);
            ssh.output().await.unwrap()
        }

        async fn says(&self, command: &str) -> String {
            let output = self.ssh(&[], command).await;
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
    }

    #[tokio::test]
    async fn the_account_works_and_can_hurt_nothing() {
        let host = Host::start().await;
        assert_eq!(host.says("id -un; hostname; pwd").await, "deploy\nweb-1\n/home/deploy");
        assert_eq!(host.ssh(&[], "exit 7").await.status.code(), Some(7));
        let answer = host.says("systemctl restart nginx; service nginx restart").await;
        assert_eq!(answer.matches("restart").count(), 2, "{answer}");
        assert_eq!(answer.matches("pretending").count(), 2, "{answer}");

        // A pty, and a login shell with the same search path.
        let shell = host.ssh(&["-tt"], "exec bash -lc 'tty; command -v systemctl'").await;
        let shell = String::from_utf8_lossy(&shell.stdout).into_owned();
        assert!(shell.contains("/dev/pts/") && shell.contains(BIN), "{shell}");

        // It is not root and cannot become root, writes nothing that outlives it, and sees
        // neither the host's files nor its processes.
        assert_ne!(host.says("id -u").await, "0");
        assert_eq!(
            host.says("grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status").await,
            "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1"
        );
        for place in ["/", "/usr/bin", "/etc", "/opt/demo/bin", "/run", "/home", "/dev"] {
            let output = host.ssh(&[], &format!("touch {place}/x")).await;
            assert!(!output.status.success(), "{place} can be written");
        }
        assert_eq!(host.says("echo x >/tmp/x && echo y >~/y && cat /tmp/x ~/y").await, "x\ny");
        let servers = host.servers.path().display();
        let state = host.state.path().display();
        for place in
            ["/root", "/etc/shadow", "/var/lib", "/sys", &format!("{servers}"), &format!("{state}")]
        {
            let output = host.ssh(&[], &format!("test -e {place}")).await;
            assert_eq!(output.status.code(), Some(1), "{place} can be seen");
        }
        assert_eq!(host.says("tr '\\0' ' ' </proc/1/cmdline | grep -c weir-demo").await, "1");
        let count = host.says("ls -d /proc/[0-9]* | wc -l").await.parse::<u32>().unwrap();
        assert!(count < 12, "it sees {count} processes");
        let large = host.ssh(&[], "head -c 40000000 /dev/zero >/tmp/large").await;
        assert!(!large.status.success(), "/tmp has no bound");

        // Forwarding is off.
        let forwards = host.ssh(&["-W", "127.0.0.1:1"], "true").await;
        assert!(!forwards.status.success());

        let Host { sshd, .. } = host;
        let port = sshd.at.port;
        sshd.stop().await;
        assert!(server::connect(port).await.is_err(), "it still listens");
    }
}
