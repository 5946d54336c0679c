//! Where the real programs are that the tests meet: what `tests/parts/install.sh env` says.
//!
//! A missing program fails the test that needs it, with the command that installs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The folder of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The built binary.
pub(crate) fn weir() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_weir"))
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
