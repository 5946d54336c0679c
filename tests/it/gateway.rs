//! A gateway of a test's own: `weir serve` with the demo's configuration, changed, in front of the
//! shared demo's servers. Its state is its own, so it may be killed, filled up and reloaded.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

use serde_json::Value;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::read;
use crate::demo::text;
use crate::demo::wait_for;
use crate::parts;

/// A gateway's folder, before it is started.
pub struct Prepared {
    dir: tempfile::TempDir,
    /// The configuration's text.
    pub config: String,
}

impl Prepared {
    /// The demo's configuration and the files it names, with free ports and a new state folder.
    pub fn new() -> Self {
        let demo = Demo::shared();
        let dir = tempfile::Builder::new().prefix("weir-gw-").tempdir().unwrap();
        for entry in fs::read_dir(&demo.state).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let wanted = [".crt", ".password", "web-1.key", "gateway.key", "ca.pem", "ca.key"];
            if wanted.iter().any(|end| name.ends_with(end)) {
                fs::copy(&path, dir.path().join(name)).unwrap();
            }
        }
        fs::create_dir(dir.path().join("policies")).unwrap();
        for entry in fs::read_dir(demo.state.join("policies")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, dir.path().join("policies").join(path.file_name().unwrap())).unwrap();
        }
        // Both listeners on free ports: the log says which.
        let mut listener = false;
        let mut config = String::new();
        for line in read(demo.text("/config_file")).lines() {
            listener = if line.starts_with('[') { line == "[[listeners]]" } else { listener };
            let address = listener && line.starts_with("address = ");
            let free = format!("address = \"127.0.0.{}:0\"", config.matches(":0\"").count() + 1);
            config.push_str(if address { &free } else { line });
            config.push('\n');
        }
        let mut prepared = Self { dir, config };
        prepared.change("state_dir = \".\"", "state_dir = \"state\"\nlog_format = \"json\"");
        prepared
    }

    /// Changes the configuration; what is to be changed must be there.
    pub fn change(&mut self, from: &str, to: &str) -> &mut Self {
        assert!(self.config.contains(from), "the demo's configuration has no {from}");
        self.config = self.config.replacen(from, to, 1);
        self
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts it, and waits until it listens.
    pub fn start(self) -> Gateway {
        let mut gateway = Gateway { child: None, prepared: self, ports: Vec::new() };
        gateway.start();
        gateway
    }

    /// Runs `weir serve`, which must end by itself.
    pub fn fails(&self) -> Ran {
        fs::write(self.path("weir.toml"), &self.config).unwrap();
        let mut timeout = Command::new(parts::program("timeout"));
        timeout.arg("30").arg(parts::weir()).arg("serve").arg("--config");
        Ran::of(&timeout.arg(self.path("weir.toml")).output().unwrap())
    }
}

/// A running gateway. Dropping it kills it.
pub struct Gateway {
    child: Option<Child>,
    /// Its folder.
    pub prepared: Prepared,
    ports: Vec<u16>,
}

impl Gateway {
    /// Starts it, or starts it again.
    pub fn start(&mut self) {
        fs::write(self.path("weir.toml"), &self.prepared.config).unwrap();
        let mut weir = parts::ending_with_us("KILL", &parts::weir());
        weir.arg("serve")
            .arg("--config")
            .arg(self.path("weir.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.path("log")).unwrap());
        self.child = Some(parts::spawn(weir));
        let count = self.prepared.config.matches("[[listeners]]").count();
        self.ports = wait_for("the gateway to listen", || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the gateway ended: {}", self.log());
            let lines = self.log_lines("listening");
            let port = |line: &Value| line["address"].as_str()?.rsplit(':').next()?.parse().ok();
            let ports = lines.iter().filter_map(port).collect::<Vec<u16>>();
            (ports.len() == count).then_some(ports)
        });
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.prepared.path(name)
    }

    /// Its public port.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The port behind the relay.
    pub fn private_port(&self) -> u16 {
        self.ports[1]
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Its log.
    pub fn log(&self) -> String {
        read(self.path("log"))
    }

    /// The lines of its log whose message has `needle`.
    pub fn log_lines(&self, needle: &str) -> Vec<Value> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|l| l["message"].as_str().is_some_and(|m| m.contains(needle))).collect()
    }

    /// The events of its ledger.
    pub fn ledger(&self) -> Vec<Value> {
        lines_of(&self.path("state/ledger.jsonl"))
    }

    /// The events of all its trails.
    pub fn trails(&self) -> Vec<Value> {
        crate::demo::recorded(&self.path("state"))
            .into_iter()
            .map(|mut e| e["event"].take())
            .collect()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let signal = format!("-{name}");
        let sent = Command::new("kill").args([&signal, &self.pid().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        wait_for("the gateway's end", || child.try_wait().unwrap())
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.signal("KILL");
        assert_eq!(self.ended().signal(), Some(9));
    }

    /// Writes a file of its folder as editors do: beside it, then in its place.
    pub fn replace(&self, name: &str, text: &str) {
        let beside = self.path(&format!("{name}.new"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.path(name)).unwrap();
    }

    /// Runs SQL in psql as a person of the demo.
    pub fn psql(&self, person: &str, texts: &[&str]) -> Ran {
        self.psql_with(person, Demo::shared().token(person), texts)
    }

    /// Runs SQL in psql with a token.
    pub fn psql_with(&self, person: &str, token: &str, texts: &[&str]) -> Ran {
        let mut psql = Demo::shared().psql_at(self.port(), person);
        psql.env("PGPASSWORD", token).arg("-At");
        for text in texts {
            psql.arg("-c").arg(text);
        }
        Ran::of(&psql.output().unwrap())
    }

    /// `weir …` as a person of the demo.
    pub fn weir(&self, person: &str, args: &[&str]) -> Ran {
        self.weir_with(Demo::shared().token(person), args)
    }

    /// `weir …` with a token.
    pub fn weir_with(&self, token: &str, args: &[&str]) -> Ran {
        let output = Command::new(parts::weir())
            .args(args)
            .env("WEIR_GATEWAY", format!("https://localhost:{}", self.port()))
            .env("WEIR_CA_FILE", Demo::shared().ca_file())
            .env("WEIR_TOKEN", token)
            .output();
        Ran::of(&output.unwrap())
    }

    /// `weir --json …` as a person, its answer read; it must succeed.
    pub fn weir_json(&self, person: &str, args: &[&str]) -> Value {
        let ran = self.weir(person, &[args, &["--json"]].concat());
        assert_eq!(ran.code, 0, "weir {args:?}: {}", ran.err);
        serde_json::from_str(&ran.out).unwrap()
    }

    /// `weir audit verify` of its state, which has its store too.
    pub fn verify(&self) -> Ran {
        self.verify_with(&[])
    }

    /// The same, with further arguments.
    pub fn verify_with(&self, args: &[&str]) -> Ran {
        let mut weir = Command::new(parts::weir());
        weir.args(["audit", "verify"]).arg(self.path("state")).args(args);
        Ran::of(&weir.output().unwrap())
    }

    /// `curl` to its own name, with further arguments; prints the status on a line of its own last.
    pub fn curl(&self, path: &str, args: &[&str]) -> Ran {
        let mut curl = Command::new(parts::program("curl"));
        curl.args(["-sS", "--max-time", "30", "--cacert", Demo::shared().ca_file()]);
        curl.args(["-w", "\n%{http_code}"]).args(args);
        let url = format!("https://localhost:{}{path}", self.port());
        Ran::of(&curl.arg(url).output().unwrap())
    }

    /// A psql that stays.
    pub fn live(&self, person: &str) -> Live {
        Live::of(Demo::shared().psql_at(self.port(), person))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

/// The events of a chain's lines, as far as they are whole.
fn lines_of(path: &Path) -> Vec<Value> {
    let lines = text(&fs::read(path).unwrap());
    let values = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    values.map(|mut line| line["event"].take()).collect()
}

/// A psql that stays, fed line by line.
pub struct Live {
    child: Child,
    stdin: Option<ChildStdin>,
    dir: tempfile::TempDir,
}

impl Live {
    /// Starts it, and waits until it is signed in.
    pub fn of(mut psql: Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = psql
            .arg("-At")
            .stdin(Stdio::piped())
            .stdout(File::create(dir.path().join("out")).unwrap())
            .stderr(File::create(dir.path().join("err")).unwrap())
            .spawn();
        let mut child = child.unwrap();
        let stdin = child.stdin.take();
        let mut live = Self { child, stdin, dir };
        live.say("SELECT 'ready';");
        live.wait("ready");
        live
    }

    /// Gives it a line. A psql that has ended already is no failure here.
    pub fn say(&mut self, line: &str) {
        let _maybe_gone = writeln!(self.stdin.as_mut().unwrap(), "{line}");
    }

    /// What it printed so far, both streams.
    pub fn said(&self) -> String {
        read(self.dir.path().join("out")) + &read(self.dir.path().join("err"))
    }

    /// Waits until it printed `needle`.
    pub fn wait(&self, needle: &str) {
        wait_for(needle, || self.said().contains(needle).then_some(()));
    }

    /// Ends its input and waits for its end; what it printed, and its exit code.
    pub fn finish(&mut self) -> Ran {
        drop(self.stdin.take());
        let status = wait_for("psql's end", || self.child.try_wait().unwrap());
        Ran {
            out: read(self.dir.path().join("out")),
            err: read(self.dir.path().join("err")),
            code: status.code().unwrap_or(-1),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
