//! Where the real programs are that the tests meet: what `tests/parts/install.sh env` says.
//!
//! A missing program fails the test that needs it, with the command that installs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::mpsc;

/// The folder of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The built binary.
pub(crate) fn weir() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_weir"))
}

/// What the environment says of how long a test is to take.
#[expect(clippy::disallowed_methods, reason = "`make test-long` asks for more by the environment")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The place of a private part, by its variable: `WEIR_KUBE`, `WEIR_NODE`, `WEIR_PYTHON`, …
pub(crate) fn part(name: &str) -> PathBuf {
    static ALL: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let script = repository().join("tests/parts/install.sh");
        let output = Command::new("bash").arg(script).arg("env").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let pair = |line: &str| {
            line.split_once('=').map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
        };
        text.lines().filter_map(pair).collect()
    });
    let path = all.get(name).unwrap_or_else(|| panic!("install.sh env names no {name}")).clone();
    assert!(path.exists(), "{} is missing: run tests/parts/install.sh test", path.display());
    path
}

/// A program of the system, or the command that installs it.
pub(crate) fn program(name: &str) -> PathBuf {
    let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing: run tests/parts/install.sh test"))
}

/// `program`, to be started with [`spawn`]: it gets `signal` when this test binary ends, however
/// that ends.
pub fn ending_with_us(signal: &str, program: &Path) -> Command {
    let mut command = Command::new(self::program("setpriv"));
    command.args(["--pdeathsig", signal]).arg(program);
    command
}

/// Starts a program from a thread that stays: the kernel sends the signal of
/// [`ending_with_us`] when the *thread* that started the program is gone, and a test is a thread.
pub fn spawn(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static ORDERS: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in taken {
                let _test_is_over = reply.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (reply, child) = mpsc::channel();
    orders.lock().unwrap().send((command, reply)).unwrap();
    child.recv().unwrap().unwrap()
}
