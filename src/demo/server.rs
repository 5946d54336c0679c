//! Finding, starting, watching and ending the real programs of the demo.
//!
//! No program outlives the demo, however that ends: each is told by the kernel to die with it
//! (`setpriv --pdeathsig`, `bwrap --die-with-parent`). None gets the demo's environment, and none
//! keeps root.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;
use tokio::time::timeout;
use uuid::Uuid;

use crate::demo::DemoError;

/// How long a server may take until it is ready, in seconds: initdb on a slow and busy disk.
const READY_S_MAX: u64 = 60;
/// How long a server may take to end by itself, in seconds.
const END_S_MAX: u64 = 5;
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How much of a log is shown when a server fails, in lines.
const LOG_LINES_SHOWN: usize = 12;
/// The search path of every program that is started.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program of the system, or the package that has it.
pub(super) fn program(name: &'static str, package: &'static str) -> Result<PathBuf, DemoError> {
    let found =
        PATH.split(':').map(|place| Path::new(place).join(name)).find(|path| path.is_file());
    found.ok_or(DemoError::Missing { program: name, package })
}

/// The account that a server runs as, if the demo runs as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    /// Its user id.
    pub(super) uid: u32,
    /// Its group id.
    pub(super) gid: u32,
}

impl Account {
    /// The first of `names` that exists, if the demo runs as root; else nobody else but the caller
    /// can be had, and `None` says so.
    pub(super) fn unprivileged(names: &[&str]) -> Result<Option<Self>, DemoError> {
        if caller()?.uid != 0 {
            return Ok(None);
        }
        let file = Path::new("/etc/passwd");
        let text = fs::read_to_string(file).map_err(DemoError::file(file))?;
        let account = names.iter().find_map(|name| Self::named(name, &text));
        account.map(Some).ok_or(DemoError::NoAccount)
    }

    /// passwd(5): name, password, uid, gid, and more.
    fn named(name: &str, passwd: &str) -> Option<Self> {
        let mut fields = passwd
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        (uid != 0).then_some(Self { uid, gid })
    }
}

/// Who runs the demo.
pub(super) fn caller() -> Result<Account, DemoError> {
    let file = Path::new("/proc/self");
    let facts = fs::metadata(file).map_err(DemoError::file(file))?;
    Ok(Account { uid: facts.uid(), gid: facts.gid() })
}

/// Makes `account`, if there is one, the owner of `path`.
pub(super) fn give(path: &Path, account: Option<Account>) -> Result<(), DemoError> {
    let Some(Account { uid, gid }) = account else { return Ok(()) };
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(DemoError::file(path))
}

/// The arguments of setpriv(1) that give up whatever `account` has not.
pub(super) fn give_up_root(account: Option<Account>) -> Vec<String> {
    let mut words = vec!["--no-new-privs".to_owned()];
    if let Some(Account { uid, gid }) = account {
        words.extend([format!("--reuid={uid}"), format!("--regid={gid}")]);
        words.extend(
            ["--clear-groups", "--inh-caps=-all", "--bounding-set=-all"].map(str::to_owned),
        );
    }
    words
}

/// A program that dies with the demo, as `account`, in `folder`, with an environment of its own.
pub(super) fn command(
    program: &Path,
    account: Option<Account>,
    folder: &Path,
) -> Result<Command, DemoError> {
    let mut command = bare(&self::program("setpriv", "util-linux")?, folder);
    command.args(["--pdeathsig", "KILL"]).args(give_up_root(account)).arg("--").arg(program);
    Ok(command)
}

/// A program in `folder`, with an environment of its own.
pub(super) fn bare(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").current_dir(folder);
    // A Ctrl-C is for the demo, which ends its servers in good order.
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    command
}

/// Runs a program to its end; what it printed.
pub(super) async fn run(
    what: &'static str,
    mut command: Command,
    input: &[u8],
) -> Result<Vec<u8>, DemoError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = |source| DemoError::Start { what, source };
    let mut child = command.spawn().map_err(start)?;
    let mut stdin = child.stdin.take();
    let work = async {
        let fed = match &mut stdin {
            // A program that does not read to the end tells why by how it ends.
            Some(stdin) => stdin.write_all(input).await,
            None => Ok(()),
        };
        drop(stdin);
        (child.wait_with_output().await, fed)
    };
    let (output, fed) = timeout(Duration::from_secs(READY_S_MAX), work)
        .await
        .map_err(|_| DemoError::Slow { what, seconds: READY_S_MAX, log: String::new() })?;
    let output = output.map_err(start)?;
    if output.status.success() {
        fed.map_err(start)?;
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(DemoError::Ended { what, status: output.status.to_string(), log: last_lines(&text) })
}

/// A server that runs until it is stopped, or the demo ends.
#[derive(Debug)]
pub(super) struct Server {
    what: &'static str,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command`; what it says goes to the file `log`.
    ///
    /// To be called on the thread that lives as long as the demo: the kernel takes the end of the
    /// thread that started a program for the end of its parent.
    pub(super) fn start(
        what: &'static str,
        mut command: Command,
        log: PathBuf,
    ) -> Result<Self, DemoError> {
        let file = File::options().append(true).create(true).open(&log);
        let file = file.map_err(DemoError::file(&log))?;
        let twin = file.try_clone().map_err(DemoError::file(&log))?;
        let child = command.stdout(file).stderr(twin).spawn();
        let child = child.map_err(|source| DemoError::Start { what, source })?;
        Ok(Self { what, child, log })
    }

    /// Waits until `is_ready` says so.
    pub(super) async fn ready(
        &mut self,
        mut is_ready: impl AsyncFnMut() -> bool,
    ) -> Result<(), DemoError> {
        let what = self.what;
        let look = async {
            while !is_ready().await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let answer = tokio::select! {
            ended = self.child.wait() => return Err(self.error(ended)),
            answer = timeout(Duration::from_secs(READY_S_MAX), look) => answer,
        };
        answer.map_err(|_| DemoError::Slow { what, seconds: READY_S_MAX, log: self.log_end() })
    }

    /// Waits until it ends by itself, which it should not.
    pub(super) async fn ended(&mut self) -> DemoError {
        let ended = self.child.wait().await;
        self.error(ended)
    }

    /// Ends it: asks with `signal`, and kills it if it does not.
    pub(super) async fn stop(mut self, signal: &str) {
        let Some(id) = self.child.id() else { return };
        // The shell's own `kill`: a package need not be there for it.
        let script = ["-c", "kill -s \"$1\" \"$2\"", "sh", signal];
        let mut kill = Command::new("/bin/sh");
        kill.args(script).arg(id.to_string()).stderr(Stdio::null());
        let asked = kill.status().await.is_ok_and(|status| status.success());
        let patience = Duration::from_secs(if asked { END_S_MAX } else { 0 });
        if timeout(patience, self.child.wait()).await.is_err()
            && let Err(error) = self.child.kill().await
        {
            tracing::warn!(%error, "{} could not be ended", self.what);
        }
    }

    fn error(&self, ended: io::Result<std::process::ExitStatus>) -> DemoError {
        let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        DemoError::Ended { what: self.what, status, log: self.log_end() }
    }

    fn log_end(&self) -> String {
        last_lines(&fs::read_to_string(&self.log).unwrap_or_default())
    }
}

/// A free port of loopback, outside of the range from which the kernel gives ports to clients: so
/// it is still free when a server takes it. Given once: a port that nobody listens on yet is free still.
pub(super) fn free_port() -> Result<u16, DemoError> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    const TRIES_MAX: usize = 100;
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let free = |port: &u16| {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        free && GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(*port)
    };
    std::iter::repeat_with(Uuid::new_v4)
        .map(|random| {
            let [high, low, ..] = random.into_bytes();
            FIRST.saturating_add(u16::from_be_bytes([high, low]) % COUNT)
        })
        .take(TRIES_MAX)
        .find(free)
        .ok_or(DemoError::NoPort)
}

/// Connects to a server of the demo's own.
pub(super) async fn connect(port: u16) -> io::Result<TcpStream> {
    #[expect(clippy::disallowed_methods, reason = "the demo asks its own servers whether they run")]
    TcpStream::connect(loopback(port)).await
}

/// A port of this machine, for nobody else.
pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A password that nobody guesses.
pub(super) fn password() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Quotes a word for a POSIX shell.
pub(super) fn quoted(word: &(impl AsRef<OsStr> + ?Sized)) -> String {
    let word = word.as_ref().to_string_lossy();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-=:,@".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn last_lines(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>();
    let first = lines.len().saturating_sub(LOG_LINES_SHOWN);
    lines.get(first..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let missing = program("no-such-program", "no-such-package").unwrap_err().to_string();
        assert!(missing.contains("no-such-program"), "{missing}");
        assert!(missing.contains("apt-get install no-such-package"), "{missing}");
    }

    #[test]
    fn accounts_are_read_from_passwd_and_root_is_none() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\npostgres:x:101:104:P,,,:/v:/b\n";
        assert_eq!(Account::named("postgres", passwd), Some(Account { uid: 101, gid: 104 }));
        for none in ["root", "toor", "post", "nobody", ""] {
            assert_eq!(Account::named(none, passwd), None, "{none}");
        }
    }

    #[test]
    fn quoting_keeps_a_word_one_word() {
        assert_eq!(quoted("/tmp/weir-demo-1/ca.pem"), "/tmp/weir-demo-1/ca.pem");
        assert_eq!(quoted("a b$(x)'c"), r"'a b$(x)'\''c'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn ports_are_free_and_not_the_clients() {
        let port = free_port().unwrap();
        assert!((20_000..32_000).contains(&port));
        drop(TcpListener::bind(loopback(port)).unwrap());
    }

    #[tokio::test]
    async fn what_failed_says_why() {
        let mut command = bare(Path::new("/bin/sh"), Path::new("/"));
        command.args(["-c", "cat >/dev/null; echo why >&2; exit 3"]);
        let error = run("a thing", command, b"input").await.unwrap_err().to_string();
        assert!(
            error.contains("a thing") && error.contains('3') && error.contains("why"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_server_that_ends_before_it_is_ready_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = bare(Path::new("/bin/sh"), Path::new("/"));
        command.args(["-c", "echo the port is taken; exit 1"]);
        let mut server = Server::start("a server", command, dir.path().join("log")).unwrap();
        let error = server.ready(async || false).await.unwrap_err().to_string();
        assert!(error.contains("the port is taken"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_does_not_heed_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let program = Path::new("/bin/sh");
        let mut command = command(program, None, Path::new("/")).unwrap();
        let script = "trap '' TERM; touch ready; while :; do sleep 0.1; done";
        command.args(["-c", script]).current_dir(dir.path());
        let mut server = Server::start("a server", command, dir.path().join("log")).unwrap();
        let mark = dir.path().join("ready");
        server.ready(async || mark.exists()).await.unwrap();
        let id = server.child.id().unwrap();
        server.stop("TERM").await;
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
