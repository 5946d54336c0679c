//! `weir demo --json`, started once and shared by the tests that do not change it for others.

use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use crate::parts;

/// How long anything may take before a test gives up, in seconds. Generous: no test measures time.
pub(crate) const PATIENCE_S: u64 = 60;

/// A running demo. Dropping it ends it and everything it started.
pub(crate) struct Demo {
    child: Child,
    /// What it said once ready.
    pub(crate) ready: Value,
    /// Its state folder.
    pub(crate) state: PathBuf,
    _dir: tempfile::TempDir,
}

impl Demo {
    /// Starts a demo of its own, on free ports.
    pub(crate) fn start(more: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("weir-it-").tempdir().unwrap();
        let state = dir.path().join("state");
        let mut command = parts::ending_with_us("TERM", &parts::weir());
        command
            .args(["demo", "--json", "--port", "0", "--office-port", "0", "--state-dir"])
            .arg(&state)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.path().join("stderr")).unwrap());
        let mut child = parts::spawn(command);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(dir.path().join("stderr")).unwrap_or_default();
            panic!("the demo did not get ready ({error}): {line}\n{log}")
        });
        Self { child, ready, state, _dir: dir }
    }

    /// The demo that tests share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Demo> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// The gateway's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the gateway has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.state.with_file_name("stderr")).unwrap_or_default()
    }

    /// A text of what it said once ready, by JSON pointer: `/people/alice/token`.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        let value = self.ready.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
        value.as_str().unwrap_or_else(|| panic!("{pointer} is no text"))
    }

    /// A person's token.
    pub(crate) fn token(&self, person: &str) -> &str {
        self.text(&format!("/people/{person}/token"))
    }

    /// The port of the gateway.
    pub(crate) fn port(&self) -> u16 {
        self.text("/address").rsplit(':').next().unwrap().parse().unwrap()
    }

    /// The port of the office in Singapore.
    pub(crate) fn office_port(&self) -> u16 {
        self.text("/office").rsplit(':').next().unwrap().parse().unwrap()
    }

    /// The CA's certificate.
    pub(crate) fn ca_file(&self) -> &str {
        self.text("/ca_file")
    }

    /// `weir …` as a person.
    pub(crate) fn weir(&self, person: &str, args: &[&str]) -> Output {
        Command::new(parts::weir())
            .args(args)
            .env("WEIR_GATEWAY", self.text("/api"))
            .env("WEIR_CA_FILE", self.ca_file())
            .env("WEIR_TOKEN", self.token(person))
            .output()
            .unwrap()
    }

    /// `weir --json …` as a person, its answer read; it must succeed.
    pub(crate) fn weir_json(&self, person: &str, args: &[&str]) -> Value {
        let output = self.weir(person, &[args, &["--json"]].concat());
        assert!(output.status.success(), "weir {args:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A psql command line as a person, at `port`; further arguments may be added.
    pub(crate) fn psql_at(&self, port: u16, person: &str) -> Command {
        let mut psql = Command::new(parts::program("psql"));
        let ca = self.ca_file();
        psql.arg(format!(
            "host=localhost hostaddr=127.0.0.1 port={port} dbname=customers user={person} \
             sslmode=verify-full sslrootcert={ca}"
        ));
        psql.args(["-X", "-v", "VERBOSITY=verbose"]);
        psql.env("PGPASSWORD", self.token(person)).env("PGCONNECT_TIMEOUT", "20");
        psql.stdin(Stdio::null());
        psql
    }

    /// Runs SQL in psql as a person, each text in a `-c` of its own.
    pub(crate) fn psql(&self, person: &str, texts: &[&str]) -> Ran {
        let mut psql = self.psql_at(self.port(), person);
        psql.arg("-A").arg("-t");
        for text in texts {
            psql.arg("-c").arg(text);
        }
        Ran::of(&psql.output().unwrap())
    }

    /// The holds that wait now, as `dana` sees them.
    pub(crate) fn waiting(&self) -> Vec<Value> {
        match self.weir_json("dana", &["requests"]) {
            Value::Array(all) => all,
            other => panic!("{other}"),
        }
    }

    /// Waits until a command whose text contains `text` is held, and gives its id.
    pub(crate) fn hold_of(&self, text: &str) -> String {
        let found = wait_for(&format!("a hold of {text}"), || {
            let all = self.waiting();
            all.into_iter().find(|hold| hold["command"]["text"].as_str().unwrap().contains(text))
        });
        found["hold"].as_str().unwrap().to_owned()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _asked = Command::new("kill").args(["-TERM", &pid]).status();
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _killed = self.child.kill();
    }
}

/// What a program printed and returned.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its standard output.
    pub(crate) out: String,
    /// Its standard error.
    pub(crate) err: String,
    /// Its exit code; -1 if a signal ended it.
    pub(crate) code: i32,
}

impl Ran {
    /// Of a finished program.
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            out: text(&output.stdout),
            err: text(&output.stderr),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// Whether either stream has `needle`.
    pub(crate) fn says(&self, needle: &str) -> bool {
        self.out.contains(needle) || self.err.contains(needle)
    }
}

/// Bytes as text, for messages.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until `look` finds something; fails after [`PATIENCE_S`].
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(PATIENCE_S);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited {PATIENCE_S} s for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for a child's end; its output.
pub(crate) fn finish(child: Child) -> Ran {
    Ran::of(&child.wait_with_output().unwrap())
}

/// Reads a file that is written by others.
/// The entries of all recordings of a state folder, in the spool and in its store, as
/// `weir audit read` tells them: `session`, `n`, `at`, `event`.
pub(crate) fn recorded(state: &Path) -> Vec<Value> {
    let mut weir = Command::new(parts::weir());
    let output = weir.args(["audit", "read"]).arg(state).output().unwrap();
    // A recording that moves to the store meanwhile is missed: look again.
    if !output.status.success() && !text(&output.stderr).contains("damage") {
        let mut weir = Command::new(parts::weir());
        let again = weir.args(["audit", "read"]).arg(state).output().unwrap();
        return json_lines(&text(&again.stdout));
    }
    json_lines(&text(&output.stdout))
}

fn json_lines(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How many recordings of a state folder are of sessions that run.
pub(crate) fn open_recordings(state: &Path) -> usize {
    let files = std::fs::read_dir(state.join("spool/open")).unwrap();
    files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "wrec"))
        .count()
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let bytes = std::fs::read(path.as_ref())
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()));
    text(&bytes)
}
