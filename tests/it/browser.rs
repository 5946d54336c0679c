//! A real browser that tests drive: Chromium without a window, see `tests/parts/browser/run.mjs`.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;

use serde_json::Value;
use serde_json::json;

use crate::demo::Ran;
use crate::demo::read;
use crate::parts;

/// A browser. It checks certificates as everybody's does, trusts the CAs it was given, and reaches
/// loopback only. Dropping it ends it.
pub struct Browser {
    child: Child,
    pipes: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    home: tempfile::TempDir,
}

impl Browser {
    /// Starts it. `hosts` says where hosts are that do not end in `.localhost`, with the port:
    /// `("wiki.weir.example", "127.0.0.1:8443")`; an address names them without a port then.
    pub fn start(ca_files: &[&str], hosts: &[(&str, &str)]) -> Self {
        let home = tempfile::Builder::new().prefix("weir-browser-").tempdir().unwrap();
        trust(home.path(), ca_files);
        let mut node = parts::ending_with_us("TERM", &parts::part("WEIR_NODE"));
        node.arg(parts::repository().join("tests/parts/browser/run.mjs"));
        node.env("WEIR_BROWSER_MODULES", parts::part("WEIR_BROWSER_MODULES"));
        node.env("HOME", home.path()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_CACHE_HOME");
        node.stdin(Stdio::piped()).stdout(Stdio::piped());
        node.stderr(std::fs::File::create(home.path().join("log")).unwrap());
        let _installed = parts::program("chromium");
        let mut child = parts::spawn(node);
        let pipes = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let browser = Self { child, pipes: Mutex::new(Some(pipes)), home };
        let hosts = hosts.iter().map(|(host, place)| ((*host).to_owned(), json!(place)));
        let hosts = Value::Object(hosts.collect());
        assert_eq!(browser.exchange(&json!({ "hosts": hosts })), "ready\n", "{}", browser.log());
        browser
    }

    /// Opens a page; its status. Fails if there is none, as when a certificate is not trusted.
    pub fn goto(&self, url: &str) -> u64 {
        self.step(&json!({ "do": "goto", "url": url })).as_u64().unwrap()
    }

    /// Clicks.
    pub fn click(&self, selector: &str) {
        self.step(&json!({ "do": "click", "selector": selector }));
    }

    /// Writes into a field.
    pub fn fill(&self, selector: &str, text: &str) {
        self.step(&json!({ "do": "fill", "selector": selector, "text": text }));
    }

    /// Waits until a text is to be seen.
    pub fn expect_text(&self, text: &str) {
        self.step(&json!({ "do": "expect_text", "text": text }));
    }

    /// Waits until the address starts with `prefix`; the address.
    pub fn expect_url(&self, prefix: &str) -> String {
        as_text(self.step(&json!({ "do": "expect_url", "prefix": prefix })))
    }

    /// The address.
    pub fn url(&self) -> String {
        as_text(self.step(&json!({ "do": "url" })))
    }

    /// What is to be read on the page.
    pub fn text(&self) -> String {
        as_text(self.step(&json!({ "do": "text" })))
    }

    /// The cookies of this context: `name`, `value`, `domain`, `path`, `secure`, `httpOnly`,
    /// `sameSite`, `expires`.
    pub fn cookies(&self) -> Vec<Value> {
        match self.step(&json!({ "do": "cookies" })) {
            Value::Array(all) => all,
            other => panic!("{other}"),
        }
    }

    /// What a script in the page gives.
    pub fn eval(&self, script: &str) -> Value {
        self.step(&json!({ "do": "eval", "script": script }))
    }

    /// Errors and warnings of all pages so far: a page's own, and violations of its policy.
    pub fn console(&self) -> Value {
        self.step(&json!({ "do": "console" }))
    }

    /// A picture of the page.
    pub fn screenshot(&self, path: &Path) {
        self.step(&json!({ "do": "screenshot", "path": path }));
    }

    /// Sets headers that go along with every request of this context.
    pub fn headers(&self, headers: &Value) {
        self.step(&json!({ "do": "headers", "headers": headers }));
    }

    /// Goes on as somebody else: without cookies. Options as of playwright's `newContext`:
    /// `{"javaScriptEnabled": false}`, `{"viewport": {"width": 360, "height": 640}}`, ….
    pub fn new_context(&self, options: &Value) {
        self.step(&json!({ "do": "context", "options": options }));
    }

    /// Signs in on the certified provider's pages (`Idp`), where the browser must be by now.
    pub fn sign_in(&self, user: &str) {
        self.fill("input[name=login]", user);
        self.fill("input[name=password]", "any");
        self.click("button[type=submit]");
        if self.text().contains("Authorize") {
            self.click("button[type=submit]");
        }
    }

    /// Does one step of `run.mjs`; its value. It must succeed.
    pub fn step(&self, step: &Value) -> Value {
        self.try_step(step).unwrap_or_else(|error| panic!("{step}: {error:#}\n{}", self.log()))
    }

    /// Does one step; its value, or what went wrong: `error`, `url` and the page's `text`.
    pub fn try_step(&self, step: &Value) -> Result<Value, Value> {
        let line = self.exchange(step);
        let mut answer = serde_json::from_str::<Value>(&line)
            .unwrap_or_else(|error| panic!("{step}: {error}: {line}\n{}", self.log()));
        answer.get_mut("value").map(Value::take).ok_or(answer)
    }

    fn exchange(&self, line: &Value) -> String {
        let mut pipes = self.pipes.lock().unwrap();
        let (stdin, stdout) = pipes.as_mut().unwrap();
        let _ended = writeln!(stdin, "{line}");
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        answer
    }

    fn log(&self) -> String {
        read(self.home.path().join("log"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Ok(pipes) = self.pipes.get_mut() {
            *pipes = None;
        }
        let _ended = self.child.wait();
    }
}

/// Makes the file in which Chromium looks for the CAs that somebody has added.
fn trust(home: &Path, ca_files: &[&str]) {
    let database = home.join(".pki/nssdb");
    std::fs::create_dir_all(&database).unwrap();
    let certutil = |args: &[&str]| {
        let mut certutil = Command::new(parts::program("certutil"));
        certutil.arg("-d").arg(format!("sql:{}", database.display())).args(args);
        let ran = Ran::of(&certutil.output().unwrap());
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    certutil(&["-N", "--empty-password"]);
    for ca_file in ca_files {
        certutil(&["-A", "-t", "C,,", "-n", ca_file, "-i", ca_file]);
    }
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => panic!("{other} is no text"),
    }
}
