//! Somebody's machine: a home folder with what `weir` keeps there, and how to sign in from it.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::text;
use crate::parts;
use crate::visitor::Page;
use crate::visitor::Visitor;

/// Where a login of the command line comes back to.
const LOOPBACK: &str = "http://127.0.0.1:";

/// Variables of whoever runs the tests that change what `weir` does.
const FOREIGN: [&str; 14] = [
    "BROWSER",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "KUBECONFIG",
    "PGPASSWORD",
    "SSH_AUTH_SOCK",
    "SSH_CONNECTION",
    "SSH_TTY",
    "WAYLAND_DISPLAY",
    "WEIR_PROFILE",
    "WEIR_TOKEN",
    "WEIR_ID_TOKEN",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
];

/// Somebody's machine. Its gateway is named in the environment, as the demo's lines do.
pub(crate) struct Machine {
    home: tempfile::TempDir,
    gateway: String,
    ca_file: String,
}

impl Machine {
    /// A new one, for the gateway at a port of this machine.
    pub(crate) fn at(port: u16) -> Self {
        Self::of(Demo::shared(), port)
    }

    /// A new one, for the gateway at a port, under the authority of this demo.
    pub(crate) fn of(demo: &Demo, port: u16) -> Self {
        let home = tempfile::Builder::new().prefix("weir-home-").tempdir().unwrap();
        let gateway = format!("https://localhost:{port}");
        Self { home, gateway, ca_file: demo.ca_file().to_owned() }
    }

    /// The URL of its gateway.
    pub(crate) fn gateway(&self) -> &str {
        &self.gateway
    }

    /// A path below its home folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A file of the state of the profile of this gateway.
    pub(crate) fn kept(&self, name: &str) -> PathBuf {
        let profile = self.gateway.trim_start_matches("https://").replace(':', "-");
        self.path(".local/state/weir").join(profile).join(name)
    }

    /// A program as it runs there.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.env("HOME", self.home.path()).env("PGCONNECT_TIMEOUT", "20");
        command.env("WEIR_GATEWAY", &self.gateway).env("WEIR_CA_FILE", &self.ca_file);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A program of the system, run to its end.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Ran {
        Ran::of(&self.command(&parts::program(program)).args(args).output().unwrap())
    }

    /// `weir`, run to its end.
    pub(crate) fn weir(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(&parts::weir()).args(args).output().unwrap())
    }

    /// What `weir` prints; it must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.weir(args);
        assert_eq!(ran.code, 0, "weir {args:?}: {ran:?}");
        ran.out
    }

    /// What `weir --json` prints; it must succeed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["--json"]].concat())).unwrap()
    }

    /// `weir …`, left running, until it shows an address on standard error.
    pub(crate) fn asks(&self, args: &[&str]) -> Asking {
        let mut child = parts::spawn({
            let mut weir = self.command(&parts::weir());
            weir.args(args);
            weir
        });
        let (mut said, mut err) = (String::new(), BufReader::new(child.stderr.take().unwrap()));
        while !said.contains("https://") {
            assert_ne!(err.read_line(&mut said).unwrap(), 0, "{args:?}: {said}");
        }
        let url = said.split_whitespace().find(|word| word.starts_with("https://")).unwrap();
        Asking { url: url.to_owned(), child, err }
    }

    /// Somebody at a browser of this machine.
    pub(crate) fn visitor(&self) -> Visitor {
        Visitor::new(&["--cacert", &self.ca_file])
    }

    /// Signs a person of the demo in, in the browser.
    pub(crate) fn login(&self, visitor: &Visitor, person: &str, more: &[&str]) -> Ran {
        let asking = self.asks(&[&["login", "--no-browser"], more].concat());
        let page = at_provider(visitor, visitor.visit(&asking.url), person);
        assert!(page.body.contains("Is it you who asks?"), "{page:?}");
        let page = visitor.submit(&page, &[]);
        let back = visitor.follow(page, LOOPBACK).unwrap();
        let told = visitor.visit(&back);
        assert!(told.body.contains("Back to your terminal"), "{told:?}");
        let ran = asking.finish();
        assert_eq!(ran.code, 0, "{ran:?}");
        ran
    }

    /// Signs a person in with the token that a program of theirs would have.
    pub(crate) fn login_as_program(&self, demo: &Demo, person: &str) {
        let file = demo.text(&format!("/people/{person}/token_file"));
        self.ok(&["login", "--workload", "--token-file", file]);
    }

    /// A script that is run in place of a program.
    pub(crate) fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    }
}

/// A `weir login` that waits for somebody.
pub(crate) struct Asking {
    /// What it shows.
    pub(crate) url: String,
    /// The process.
    pub(crate) child: Child,
    err: BufReader<std::process::ChildStderr>,
}

impl Asking {
    /// The next line that it shows.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.err.read_line(&mut line).unwrap(), 0, "it showed nothing more");
        line
    }

    /// Waits for its end: everything that it printed since.
    pub(crate) fn finish(self) -> Ran {
        let Self { child, mut err, .. } = self;
        let output = child.wait_with_output().unwrap();
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut err, &mut rest).unwrap();
        Ran { err: text(&rest), ..Ran::of(&output) }
    }
}

/// From a page of the gateway to the provider, where `person` is chosen, and back to the gateway.
pub(crate) fn at_provider(visitor: &Visitor, page: Page, person: &str) -> Page {
    let page = shown(visitor, page);
    assert!(page.body.contains("demo's own identity provider"), "{page:?}");
    shown(visitor, visitor.submit(&page, &[("person", person)]))
}

/// The page that redirects lead to.
fn shown(visitor: &Visitor, page: Page) -> Page {
    match visitor.follow(page, "nowhere:") {
        Err(page) => page,
        Ok(location) => panic!("{location}"),
    }
}
