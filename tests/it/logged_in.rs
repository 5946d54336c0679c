//! Somebody who has logged in, as their clients see it: psql, ssh and curl with the credentials of a
//! login that a provider's token began.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;

use serde_json::Value;
use serde_json::json;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::finish;
use crate::demo::wait_for;
use crate::parts;
use crate::postgres::direct;
use crate::postgres::straight;

/// The grant for somebody else's token (RFC 8693).
pub const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// What came back from an HTTP request.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, with names in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of an answer that must be a success.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// What a refusal says: the same for whatever is wrong with a credential.
    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

/// Asks with curl; `host` is a target's label, or empty for the gateway's own name.
pub fn ask(port: u16, host: &str, path: &str, bearer: Option<&str>, more: &[&str]) -> Answer {
    let mut curl = Command::new(parts::program("curl"));
    curl.args(["-sS", "-i", "--ipv4", "--max-time", "60", "--cacert", Demo::shared().ca_file()]);
    curl.args(more);
    if let Some(bearer) = bearer {
        curl.arg("-H").arg(format!("Authorization: Bearer {bearer}"));
    }
    let dot = if host.is_empty() { "" } else { "." };
    let output = curl.arg(format!("https://{host}{dot}localhost:{port}{path}")).output().unwrap();
    let ran = Ran::of(&output);
    assert_eq!(ran.code, 0, "{host}{path}: {ran:?}");
    let (head, body) = ran.out.split_once("\r\n\r\n").unwrap_or((&ran.out, ""));
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// Sends JSON to the gateway's API.
pub fn post(port: u16, path: &str, bearer: &str, body: &Value) -> Answer {
    let body = body.to_string();
    ask(port, "", path, Some(bearer), &["-H", "content-type: application/json", "-d", &body])
}

/// Sends a form to an OAuth endpoint.
pub fn form(port: u16, path: &str, members: &[(&str, &str)]) -> Answer {
    let members = members.iter().map(|(name, value)| format!("{name}={value}"));
    let members = members.collect::<Vec<_>>();
    let args = members.iter().flat_map(|member| ["--data-urlencode", member]).collect::<Vec<_>>();
    ask(port, "", path, None, &args)
}

/// A login of its own for whoever a token is about, and its first credentials.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// The gateway's port.
    pub port: u16,
    /// What the gateway said.
    pub said: Value,
}

impl LoggedIn {
    /// By a provider's token (RFC 8693).
    pub fn by(port: u16, token: &str, more: &[(&str, &str)]) -> Self {
        let kind = "urn:ietf:params:oauth:token-type:jwt";
        let exchange =
            [("grant_type", EXCHANGE), ("subject_token_type", kind), ("subject_token", token)];
        let said = form(port, "/oauth/token", &[&exchange[..], more].concat()).ok();
        Self { port, said }
    }

    /// By the token of somebody of the demo.
    pub fn of(port: u16, person: &str) -> Self {
        Self::by(port, Demo::shared().token(person), &[])
    }

    fn text(&self, member: &str) -> &str {
        self.said[member].as_str().unwrap_or_else(|| panic!("no {member}: {}", self.said))
    }

    /// The session credential.
    pub fn secret(&self) -> &str {
        self.text("access_token")
    }

    /// The renewal secret.
    pub fn renewal(&self) -> &str {
        self.text("refresh_token")
    }

    /// The login's id.
    pub fn login(&self) -> &str {
        self.text("login")
    }

    /// The session credential's id.
    pub fn credential(&self) -> &str {
        self.text("credential")
    }

    /// Renews it.
    pub fn renew(&self) -> Answer {
        let renewal = [("grant_type", "refresh_token"), ("refresh_token", self.renewal())];
        form(self.port, "/oauth/token", &renewal)
    }

    /// Renews it, which must succeed.
    pub fn renewed(&self) -> Self {
        Self { port: self.port, said: self.renew().ok() }
    }

    /// One statement in a psql of its own.
    pub fn psql(&self, person: &str, text: &str) -> Ran {
        psql(self.port, person, self.secret(), text)
    }

    /// A psql that sleeps, once the target has begun to: `marker` tells it from others.
    pub fn sleeping(&self, person: &str, marker: &str) -> Child {
        let mut psql = Demo::shared().psql_at(self.port, person);
        psql.env("PGPASSWORD", self.secret());
        sleeping(psql, marker)
    }

    /// An ssh whose command runs.
    pub fn ssh(&self) -> Ssh {
        Ssh::start(self.port, self.secret())
    }

    /// A call of the API.
    pub fn api(&self, path: &str) -> Answer {
        ask(self.port, "", path, Some(self.secret()), &[])
    }

    /// A page of the wiki.
    pub fn wiki(&self) -> Answer {
        ask(self.port, "wiki", "/api/people", Some(self.secret()), &[])
    }

    /// Ends a login or a credential.
    pub fn revoke(&self, id: &str) -> Answer {
        post(self.port, &format!("/api/v1/credentials/{id}/revoke"), self.secret(), &json!({}))
    }
}

/// One statement in a psql of its own, with a password.
pub fn psql(port: u16, person: &str, password: &str, text: &str) -> Ran {
    let mut psql = Demo::shared().psql_at(port, person);
    psql.env("PGPASSWORD", password).args(["-A", "-t", "-c", text]);
    Ran::of(&psql.output().unwrap())
}

/// A psql whose query waits for the lock of a row, which nobody gives up. (Functions that wait are
/// not known to be harmless.) `marker` tells it from others.
pub fn sleeping(mut psql: Command, marker: &str) -> Child {
    static HOLDER: OnceLock<(Child, ChildStdin)> = OnceLock::new();
    HOLDER.get_or_init(|| {
        let mut holder = direct(Demo::shared(), true);
        let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = holder.stdin.take().unwrap();
        let lock = "SELECT 'locked' FROM notes WHERE id = 1 FOR UPDATE";
        writeln!(input, "\\c archive\nBEGIN;\n{lock};").unwrap();
        let mut out = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert!(out.any(|line| line.unwrap().contains("locked")));
        (holder, input)
    });
    psql.args(["-c", "\\c customers/archive", "-c"]);
    psql.arg(format!("SELECT body FROM notes WHERE id = 1 FOR UPDATE /* {marker} */"));
    let child = psql.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the query's start", || sleeps(marker).then_some(()));
    child
}

/// Whether the query with this marker runs at the target.
pub fn sleeps(marker: &str) -> bool {
    let (begin, end) = marker.split_at(1);
    let query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE";
    straight(Demo::shared(), &format!("{query} '%{begin}' || '{end}%'")) != "0"
}

/// That a sleeping psql ended from outside, for a reason, at the target as well.
pub fn ended(child: Child, marker: &str, reason: &str) {
    let ran = finish(child);
    assert!(ran.code != 0 && ran.err.contains("57P01") && ran.err.contains(reason), "{ran:?}");
    wait_for("the query's end at the target", || (!sleeps(marker)).then_some(()));
}

/// That psql was refused at the sign-in.
pub fn is_refused(ran: &Ran) {
    let refused = ran.code == 2 && ran.err.contains("FATAL:  the credential was not accepted");
    assert!(refused, "{ran:?}");
}

/// An ssh that stays. Dropping it ends it.
pub struct Ssh {
    child: Child,
    out: BufReader<ChildStdout>,
    _dir: tempfile::TempDir,
}

impl Ssh {
    /// `ssh` that answers every question with `secret`.
    pub fn command(dir: &Path, port: u16, secret: &str) -> Command {
        let askpass = dir.join("askpass");
        fs::write(dir.join("secret"), secret).unwrap();
        let script = format!("#!/bin/sh\ncat '{}'\n", dir.join("secret").display());
        fs::write(&askpass, script).unwrap();
        fs::set_permissions(&askpass, fs::Permissions::from_mode(0o700)).unwrap();
        let mut ssh = Command::new(parts::program("ssh"));
        ssh.args(["-F", "/dev/null", "-4", "-l", "deploy@web-1", "-p", &port.to_string()]);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "PreferredAuthentications=password",
            "NumberOfPasswordPrompts=1",
        ] {
            ssh.args(["-o", option]);
        }
        ssh.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
        ssh.env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY");
        ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ssh
    }

    /// One command.
    pub fn run(port: u16, secret: &str, line: &str) -> Ran {
        let dir = tempfile::tempdir().unwrap();
        let mut ssh = Self::command(dir.path(), port, secret);
        Ran::of(&ssh.args(["localhost", line]).output().unwrap())
    }

    fn start(port: u16, secret: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut ssh = Self::command(dir.path(), port, secret);
        let mut child = ssh.args(["localhost", "echo begun; sleep 600"]).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let ssh = Self { child, out, _dir: dir };
        if line == "begun\n" { ssh } else { panic!("{:?}", ssh.finish()) }
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    fn finish(mut self) -> Ran {
        let status = wait_for("ssh's end", || self.child.try_wait().unwrap());
        let (mut out, mut err) = (String::new(), String::new());
        let _rest = self.out.read_line(&mut out);
        let stderr = self.child.stderr.take().unwrap();
        for line in BufReader::new(stderr).lines() {
            err.push_str(&line.unwrap());
        }
        Ran { out, err, code: status.code().unwrap_or(-1) }
    }

    /// That it ended from outside, for a reason.
    pub fn ended(self, reason: &str) {
        let ran = self.finish();
        assert!(ran.code != 0 && ran.err.contains(reason), "{ran:?}");
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A connection to the wiki that is kept, with HTTP/1.1 by hand. Dropping it ends it.
pub struct Kept {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Kept {
    /// Opens it.
    pub fn open(port: u16) -> Self {
        let mut openssl = Command::new(parts::program("openssl"));
        openssl.args(["s_client", "-quiet", "-verify_quiet", "-verify_return_error", "-CAfile"]);
        openssl.args([Demo::shared().ca_file(), "-servername", "wiki.localhost"]);
        openssl.args(["-alpn", "http/1.1", "-connect", &format!("127.0.0.1:{port}")]);
        openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = openssl.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    /// Asks; the head of the answer, or nothing where the connection is over.
    pub fn ask(&mut self, port: u16, secret: &str) -> String {
        let request = format!(
            "GET /api/people HTTP/1.1\r\nHost: wiki.localhost:{port}\r\n\
             Authorization: Bearer {secret}\r\n\r\n"
        );
        let _maybe_closed = self.input.write_all(request.as_bytes());
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let begin = head.len();
            if self.output.read_line(&mut head).unwrap() == 0 {
                return head;
            }
            let line = head[begin..].to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            assert!(!line.starts_with("transfer-encoding"), "{head}");
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).unwrap();
        head
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
