//! A real Kubernetes, started once for the test binary, and a demo of its own in front of it.

use std::io::BufRead;
use std::io::BufReader;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;

use serde_json::Value;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::read;
use crate::parts;

/// The value of `seed.yaml` that nobody may see where it does not belong.
pub(crate) const PLANTED: &str = "PLANTED-SECRET-7f3a";

/// An API server with a gateway in front of it.
pub(crate) struct Cluster {
    /// The gateway's side.
    pub(crate) demo: Demo,
    dir: PathBuf,
    /// The cluster ends when its standard input does: with this process, however that ends.
    _child: Child,
}

impl Cluster {
    /// The cluster that tests share: they use names of their own.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        // A socket's path is short, and so is this. The folder goes when it is made anew.
        let dir = std::env::temp_dir().join("weir-it-kube");
        let dir = tempfile::Builder::new().prefix("k").tempdir_in(made(dir)).unwrap().keep();
        // Parts that are missing are told by name before anything waits for them.
        drop((parts::part("WEIR_KUBE"), parts::part("WEIR_KUBECTL")));
        let mut child = Command::new("bash")
            .arg(parts::repository().join("tests/parts/kube/run.sh"))
            .arg(&dir)
            .arg(free_port().to_string())
            .arg("--until-eof")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{}", read(dir.join("stderr")));
        let kubeconfig = dir.join("gateway.kubeconfig");
        let demo = Demo::start(&["--kubeconfig", kubeconfig.to_str().unwrap()]);
        Self { demo, dir, _child: child }
    }

    /// `kubectl` as a person, through the gateway, with the kubeconfig that the demo wrote.
    pub(crate) fn kubectl(&self, person: &str) -> Command {
        self.command(self.demo.text(&format!("/people/{person}/kubeconfig")).into())
    }

    /// Runs `kubectl` as a person to its end.
    pub(crate) fn run(&self, person: &str, args: &[&str]) -> Ran {
        Ran::of(&self.kubectl(person).args(args).output().unwrap())
    }

    /// Runs `kubectl` as a person; it must succeed.
    pub(crate) fn ok(&self, person: &str, args: &[&str]) -> String {
        let ran = self.run(person, args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran.out
    }

    /// Runs `kubectl` past the gateway, as the cluster's administrator; it must succeed.
    pub(crate) fn admin(&self, args: &[&str]) -> String {
        let mut kubectl = self.command(self.dir.join("admin.kubeconfig"));
        let ran = Ran::of(&kubectl.args(args).output().unwrap());
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran.out
    }

    fn command(&self, kubeconfig: PathBuf) -> Command {
        let mut kubectl = Command::new(parts::part("WEIR_KUBECTL"));
        kubectl.env("KUBECONFIG", kubeconfig);
        // What discovery said is kept below the home folder.
        kubectl.env("HOME", &self.dir).stdin(Stdio::null());
        kubectl
    }

    /// A new file for kubectl.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Asks with curl as a person; `path` goes as it is. Headers, a line, and the body.
    pub(crate) fn curl(&self, person: &str, path: &str, more: &[&str]) -> String {
        let (port, token) = (self.demo.port(), self.demo.token(person));
        let mut curl = Command::new(parts::program("curl"));
        curl.args(["--silent", "--show-error", "--path-as-is", "--include", "--max-time", "30"]);
        curl.args(["--globoff", "--cacert", self.demo.ca_file()]);
        curl.args(["--resolve", &format!("prod-cluster.localhost:{port}:127.0.0.1")]);
        curl.args(["--header", &format!("Authorization: Bearer {token}")]).args(more);
        curl.arg(format!("https://prod-cluster.localhost:{port}{path}"));
        let output = curl.output().unwrap();
        // What it got counts, however the exchange ended; bytes may be anything.
        let all = [output.stdout, output.stderr].concat();
        all.into_iter().map(char::from).collect()
    }

    /// What the cluster saw, one request after the other.
    pub(crate) fn audit(&self) -> Vec<Value> {
        // The last line may be half written.
        let log = read(self.dir.join("audit.log"));
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The audit log as it is.
    pub(crate) fn audit_text(&self) -> String {
        read(self.dir.join("audit.log"))
    }
}

/// A folder whose leftovers of earlier runs are gone.
fn made(dir: PathBuf) -> PathBuf {
    std::fs::create_dir_all(&dir).unwrap();
    let old = std::time::Duration::from_hours(1);
    for entry in std::fs::read_dir(&dir).unwrap().flatten() {
        let changed = entry.metadata().and_then(|facts| facts.modified());
        if changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > old)) {
            let _gone = std::fs::remove_dir_all(entry.path());
        }
    }
    dir
}

/// A port that the kernel gives to no client.
fn free_port() -> u16 {
    let first = u16::try_from(std::process::id() % 8000).unwrap() + 12_000;
    (first..first + 100).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// In which forms `text` has the planted value: plain, in hexadecimal, or in base 64 at any of the
/// three offsets.
pub(crate) fn leaks(text: &str) -> Vec<String> {
    let mut forms = vec![PLANTED.to_owned(), PLANTED.chars().rev().collect()];
    let digits = PLANTED.bytes().flat_map(|byte| [byte >> 4, byte & 15]);
    forms.push(digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect());
    for offset in 0..3_usize {
        let padded = [&b"   "[..offset], PLANTED.as_bytes()].concat();
        let encoded = base64(&padded);
        // The signs that depend on nothing but the value.
        forms.push(encoded[offset.div_ceil(3) * 4..padded.len() / 3 * 4].to_owned());
    }
    // Half of it is too much already.
    let halves = forms.iter().flat_map(|form| [&form[..form.len() / 2], &form[form.len() / 2..]]);
    let lower = text.to_lowercase();
    let found = halves.filter(|half| text.contains(*half) || lower.contains(&half.to_lowercase()));
    found.map(str::to_owned).collect()
}

/// Base 64 without padding.
fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for shift in [18, 12, 6, 0].iter().take(chunk.len() + 1) {
            text.push(char::from(SIGNS[usize::try_from(bits >> shift & 0x3f).unwrap()]));
        }
    }
    text
}
