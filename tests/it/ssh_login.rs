//! Signing in to SSH with OpenSSH's own client and a certificate that the gateway's API issued:
//! without a question, until it is revoked, nowhere else; and what is no sign-in.

use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;
use serde_json::json;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::finish;
use crate::demo::read;
use crate::demo::wait_for;
use crate::parts;

const LOGIN: &str = "deploy@web-1";

/// A key with its certificate, in a folder of its own.
struct Certified {
    dir: tempfile::TempDir,
    /// What the API said.
    said: Value,
    /// The session credential that asked for it.
    session: String,
}

/// The answer of the gateway's own API.
fn api(demo: &Demo, bearer: Option<&str>, words: &[&str], path: &str) -> Value {
    let mut curl = Command::new(parts::program("curl"));
    curl.args(["-sS", "--max-time", "60", "--cacert", demo.ca_file()]).args(words);
    if let Some(bearer) = bearer {
        curl.arg("-H").arg(format!("Authorization: Bearer {bearer}"));
    }
    let output = curl.arg(format!("{}{path}", demo.text("/api"))).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A session credential, got for a person's token.
fn session(demo: &Demo, person: &str) -> String {
    let token = format!("subject_token={}", demo.token(person));
    let grant = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange";
    let words = ["-d", grant, "-d", "subject_token_type=urn:ietf:params:oauth:token-type:jwt"];
    let words = [&words[..], &["--data-urlencode", &token]].concat();
    let said = api(demo, None, &words, "/oauth/token");
    said["access_token"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned()
}

impl Certified {
    fn new(demo: &Demo, person: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        keygen(dir.path(), &["-q", "-t", "ed25519", "-N", "", "-C", person, "-f", "id"]);
        let session = session(demo, person);
        let asked = json!({ "public_key": read(dir.path().join("id.pub")) }).to_string();
        let words = ["-H", "content-type: application/json", "-d", &asked];
        let said = api(demo, Some(&session), &words, "/api/v1/ssh-certificates");
        let line = said["certificate"].as_str().unwrap_or_else(|| panic!("{said}"));
        std::fs::write(dir.path().join("id-cert.pub"), format!("{line}\n")).unwrap();
        Self { dir, said, session }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// `ssh` with it, which asks nobody anything.
    fn ssh(&self, demo: &Demo, words: &[&str]) -> Command {
        self.ssh_with(demo, demo.text("/ssh_config"), words)
    }

    fn ssh_with(&self, demo: &Demo, config: &str, words: &[&str]) -> Command {
        let mut ssh = Command::new(parts::program("ssh"));
        ssh.args(["-o", "BatchMode=yes", "-o", "PreferredAuthentications=publickey"]);
        ssh.args(["-o", "IdentitiesOnly=yes", "-i", &self.path("id")]).args(words);
        ssh.args(["-F", config, "-p", &demo.port().to_string(), "-l", LOGIN]);
        ssh.env_remove("SSH_AUTH_SOCK");
        ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ssh
    }

    fn run(&self, demo: &Demo, line: &str) -> Ran {
        Ran::of(&self.ssh(demo, &[]).args(["localhost", line]).output().unwrap())
    }
}

fn keygen(dir: &Path, words: &[&str]) {
    let mut keygen = Command::new(parts::program("ssh-keygen"));
    let ran = Ran::of(&keygen.current_dir(dir).args(words).output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn a_certificate_of_the_api_signs_in_without_a_question_until_it_is_revoked() {
    let demo = Demo::shared();
    let alice = Certified::new(demo, "alice");
    let ran = alice.run(demo, "id -un");
    assert_eq!((ran.code, ran.out.trim()), (0, "deploy"), "{ran:?}");

    let mut long = alice.ssh(demo, &[]);
    let mut child = long.args(["localhost", "echo begun; sleep 600"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    let id = alice.said["id"].as_str().unwrap();
    let path = format!("/api/v1/credentials/{id}/revoke");
    api(demo, Some(&alice.session), &["-X", "POST"], &path);
    // It ends by itself, and says why.
    let ran = finish(child);
    assert!(ran.code != 0 && ran.err.contains("revoked"), "{ran:?}");
    let after = alice.run(demo, "id -un");
    assert_eq!((after.code, after.out.as_str()), (255, ""), "{after:?}");
}

#[test]
fn one_connection_without_a_question_carries_many_commands() {
    let demo = Demo::shared();
    let alice = Certified::new(demo, "alice");
    let control = format!("ControlPath={}", alice.path("c"));
    let master = ["-o", &control, "-o", "ControlMaster=yes", "-N"];
    let mut master = alice.ssh(demo, &master).arg("localhost").spawn().unwrap();
    wait_for("the master", || {
        let mut check = alice.ssh(demo, &["-o", &control, "-O", "check"]);
        check.arg("localhost").output().unwrap().status.success().then_some(())
    });
    for word in ["one", "two", "three"] {
        let mut one = alice.ssh(demo, &["-o", &control]);
        let ran = Ran::of(&one.args(["localhost", "echo", word]).output().unwrap());
        assert_eq!((ran.code, ran.out.trim()), (0, word), "{ran:?}");
    }
    // OpenSSH closes such a channel once both directions are over: the status came before.
    let mut quiet = alice.ssh(demo, &["-o", &control]);
    let line = "echo out; exec >&- 2>&-; sleep 0.5; exit 4";
    let ran = Ran::of(&quiet.args(["localhost", line]).output().unwrap());
    assert_eq!((ran.code, ran.out.as_str()), (4, "out\n"), "{ran:?}");
    let _gone = master.kill();
    master.wait().unwrap();
}

#[test]
fn keys_and_certificates_that_the_gateway_did_not_issue_open_nothing() {
    let demo = Demo::shared();
    let alice = Certified::new(demo, "alice");
    let issued = read(alice.path("id-cert.pub"));
    let dir = alice.dir.path();
    keygen(dir, &["-q", "-t", "ed25519", "-N", "", "-f", "ca"]);
    let refused = |what: &str| {
        let ran = alice.run(demo, "echo in");
        assert_eq!((ran.code, ran.out.as_str()), (255, ""), "{what}: {ran:?}");
        assert!(ran.err.contains("Permission denied"), "{what}: {ran:?}");
    };
    let certificate = alice.path("id-cert.pub");
    std::fs::remove_file(&certificate).unwrap();
    refused("a plain key");
    for (what, words) in [
        ("another authority's", &["-n", "alice", "-V", "-1m:+1h"][..]),
        ("for anybody, for ever", &[]),
        ("with a command", &["-n", "alice", "-V", "-1m:+1h", "-O", "force-command=id"]),
        ("with an unknown option", &["-n", "alice", "-V", "-1m:+1h", "-O", "critical:x@y=z"]),
        ("expired", &["-n", "alice", "-V", "-2h:-1h"]),
    ] {
        keygen(dir, &[&["-q", "-s", "ca", "-I", "alice"], words, &["id.pub"]].concat());
        refused(what);
    }
    std::fs::write(&certificate, issued).unwrap();
    assert_eq!(alice.run(demo, "echo in").out.trim(), "in", "its own is as good as before");
}

#[test]
fn a_certificate_is_for_the_gateway_and_not_for_the_target_itself() {
    let demo = Demo::shared();
    let alice = Certified::new(demo, "alice");
    let direct = demo.ready.pointer("/direct/ssh/port").unwrap().as_u64().unwrap().to_string();
    let words = ["-o", "StrictHostKeyChecking=no", "-p", &direct, "-l", "deploy"];
    let ran = alice.ssh(demo, &words).args(["localhost", "echo in"]).output().unwrap();
    let ran = Ran::of(&ran);
    assert_eq!((ran.code, ran.out.as_str()), (255, ""), "{ran:?}");
    assert!(ran.err.contains("Permission denied"), "{ran:?}");
}

#[test]
fn one_line_makes_the_gateway_known() {
    let demo = Demo::shared();
    let alice = Certified::new(demo, "alice");
    let ca = alice.said["ca"].as_str().unwrap();
    let (known, config) = (alice.path("known"), alice.path("config"));
    let line = format!("@cert-authority *.localhost,localhost {ca}\n");
    std::fs::write(&known, line).unwrap();
    let text = format!("Host *\n  UserKnownHostsFile \"{known}\"\n  StrictHostKeyChecking yes\n");
    std::fs::write(&config, text).unwrap();
    // As the port is not 22, the name in the list would have it: the alias is the name alone.
    for alias in ["localhost", "web-1.localhost"] {
        let words = ["-o", &format!("HostKeyAlias={alias}")];
        let mut ssh = alice.ssh_with(demo, &config, &words);
        let ran = Ran::of(&ssh.args(["localhost", "echo in"]).output().unwrap());
        assert_eq!((ran.code, ran.out.trim()), (0, "in"), "{alias}: {ran:?}");
    }
}

#[test]
fn whoever_has_nothing_is_shown_a_link_that_names_this_connection() {
    let demo = Demo::shared();
    let dir = tempfile::tempdir().unwrap();
    let askpass = dir.path().join("askpass");
    let asked = dir.path().join("asked");
    // Somebody who presses Enter, once they were asked to.
    let script = format!("#!/bin/sh\nprintf '%s' \"$1\" > {}\necho\n", asked.display());
    std::fs::write(&askpass, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&askpass, mode).unwrap();
    let mut ssh = Command::new(parts::program("ssh"));
    ssh.args(["-F", demo.text("/ssh_config"), "-p", &demo.port().to_string(), "-l", LOGIN]);
    ssh.args(["localhost", "echo in"]).env_remove("SSH_AUTH_SOCK");
    ssh.env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force");
    ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = ssh.spawn().unwrap();
    let mut told = String::new();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    while !told.contains("show the code") {
        assert_ne!(err.read_line(&mut told).unwrap(), 0, "{told}");
    }
    assert!(told.contains("/device?code="), "{told}");
    wait_for("the prompt", || asked.exists().then_some(()));
    assert!(read(&asked).contains("Press Enter"), "{}", read(&asked));
    // It waits, and nothing runs: nobody has signed in.
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}
