//! Signing in to SSH with nothing but a browser: `ssh` shows a link and waits, somebody opens it,
//! signs in at the provider and says that it was them, and the same connection goes on. And what
//! ends it: somebody who says that it was not, and a login that is revoked later.

use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::ChildStderr;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::finish;
use crate::demo::wait_for;
use crate::gateway::Prepared;
use crate::idp;
use crate::parts;
use crate::site::OWN;
use crate::site::Site;
use crate::site::post;
use crate::visitor::Page;
use crate::visitor::Visitor;

const LOGIN: &str = "deploy@web-1";

/// A gateway, and how people sign in there.
enum Door {
    /// The demo: its targets take providers' tokens, and its provider asks for no password.
    Demo(&'static Demo),
    /// A gateway of the test's own, with a certified provider, whose targets take no such tokens.
    Site(Box<Site>),
}

impl Door {
    fn own(&self) -> String {
        match self {
            Self::Demo(demo) => demo.text("/api").to_owned(),
            Self::Site(_) => OWN.to_owned(),
        }
    }

    fn visitor(&self) -> Visitor {
        match self {
            Self::Demo(demo) => Visitor::new(&["--cacert", demo.ca_file()]),
            Self::Site(site) => site.visitor(),
        }
    }

    /// `ssh` of somebody who has no key, no agent and no token.
    fn ssh(&self, line: &str) -> Command {
        let mut ssh = match self {
            Self::Demo(demo) => {
                let mut ssh = plain_ssh(demo.port());
                // Enter is pressed at the prompt.
                ssh.args(["-F", demo.text("/ssh_config")]);
                ssh.env("SSH_ASKPASS", parts::program("true")).env("SSH_ASKPASS_REQUIRE", "force");
                ssh
            }
            Self::Site(site) => {
                let mut ssh = plain_ssh(site.gateway.port());
                // There is no prompt: what would answer one is no program.
                ssh.args(["-F", "none", "-o", "PreferredAuthentications=keyboard-interactive"]);
                ssh.env("SSH_ASKPASS", "/nowhere").env("SSH_ASKPASS_REQUIRE", "force");
                stranger(&mut ssh);
                ssh
            }
        };
        ssh.args(["localhost", line]);
        ssh
    }

    /// Signs a visitor in for the code of a link, up to the page that asks whether it was them.
    fn up_to_confirm(&self, visitor: &Visitor, waiting: &Waiting, person: &str) -> Page {
        let typed = self.typed(visitor, waiting, &waiting.code);
        assert_eq!(typed.status, 200, "{typed:?}");
        let (_, link) = typed.body.split_once("<a href=\"").unwrap_or_else(|| panic!("{typed:?}"));
        let link = link.split('"').next().unwrap().replace("&amp;", "&");
        let (own, confirm) = (self.own(), format!("{}/oauth/confirm", self.own()));
        let url = format!("{own}{link}");
        let confirm = match self {
            Self::Site(_) => idp::sign_in(visitor, &url, person, &confirm),
            Self::Demo(_) => {
                let choice = visitor.follow(visitor.visit(&url), &confirm).unwrap_err();
                let chosen = visitor.submit(&choice, &[("person", person)]);
                visitor.follow(chosen, &confirm).unwrap_or_else(|page| panic!("{page:?}"))
            }
        };
        visitor.visit(&confirm)
    }

    /// Types a code on the page that the link leads to.
    fn typed(&self, visitor: &Visitor, waiting: &Waiting, code: &str) -> Page {
        let page = visitor.visit(&waiting.url);
        assert!(page.status == 200 && page.body.contains(&waiting.code), "{page:?}");
        let csrf = page.hidden("csrf").unwrap();
        let to = format!("{}/device", self.own());
        post(visitor, &to, &self.own(), &[("csrf", &csrf), ("code", code)])
    }

    /// Answers the page.
    fn answered(&self, visitor: &Visitor, page: &Page, answer: &str) -> Page {
        let hidden = |name: &str| page.hidden(name).unwrap_or_else(|| panic!("{page:?}"));
        let (ask, csrf) = (hidden("ask"), hidden("csrf"));
        let to = format!("{}/oauth/confirm", self.own());
        let members = [("ask", ask.as_str()), ("csrf", &csrf), ("answer", answer)];
        post(visitor, &to, &self.own(), &members)
    }
}

fn plain_ssh(port: u16) -> Command {
    let mut ssh = Command::new(parts::program("ssh"));
    ssh.args(["-o", "IdentitiesOnly=yes", "-o", "IdentityFile=none"]);
    ssh.args(["-p", &port.to_string(), "-l", LOGIN]);
    ssh.env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY");
    ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    ssh
}

/// Goes to a gateway whose host key nobody knows.
fn stranger(ssh: &mut Command) {
    ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
}

/// An `ssh` that shows its link and waits.
struct Waiting {
    child: Child,
    err: BufReader<ChildStderr>,
    told: String,
    url: String,
    code: String,
}

impl Waiting {
    fn begin(mut ssh: Command) -> Self {
        let mut child = ssh.spawn().unwrap();
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut told = String::new();
        while !told.contains("show the code") {
            assert_ne!(err.read_line(&mut told).unwrap(), 0, "{told}");
        }
        let after = |begin: &str| {
            let (_, rest) = told.split_once(begin).unwrap_or_else(|| panic!("{told}"));
            rest.split_whitespace().next().unwrap().to_owned()
        };
        let (url, code) = (after("To sign in, open "), after("show the code "));
        let code = code.trim_end_matches('.').to_owned();
        assert!(url.ends_with(&format!("/device?code={code}")), "{told}");
        Self { child, err, told, url, code }
    }

    fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn ended(mut self) -> Ran {
        while self.err.read_line(&mut self.told).unwrap() > 0 {}
        let ran = finish(self.child);
        Ran { err: self.told, ..ran }
    }
}

/// All that a door promises, with three connections that wait at once.
fn a_door_opens_for_whoever_says_it_was_them(door: &Door) {
    let begin = |person: &str| Waiting::begin(door.ssh(&format!("echo in; : of-{person}")));
    let (mut first, mut second, mut third) = (begin("alice"), begin("dana"), begin("nobody"));
    let codes = [&first.code, &second.code, &third.code];
    assert!(codes[0] != codes[1] && codes[1] != codes[2] && codes[0] != codes[2], "{codes:?}");

    // No link does anything, with or without what a form would send.
    let visitor = door.visitor();
    for more in ["", "&answer=approve", "&csrf=x&provider=x"] {
        assert_eq!(visitor.visit(&format!("{}{more}", third.url)).status, 200);
    }
    let wrong = door.typed(&visitor, &third, "BBBB-BBBB");
    assert!(wrong.status == 404 && wrong.body.contains("Nobody waits"), "{wrong:?}");
    let page = door.up_to_confirm(&visitor, &third, "mei");
    let ask = page.hidden("ask").unwrap();
    let by_link = format!("{}/oauth/confirm?ask={ask}&answer=approve", door.own());
    assert!(visitor.visit(&by_link).body.contains("Is it you who asks?"));
    // Somebody else's browser has no say in it, though it knows the page's address.
    let other = door.answered(&door.visitor(), &page, "approve");
    assert!(other.status >= 400, "{other:?}");

    // Each goes on as whoever answered for its own code, and as nobody else.
    let (alice, dana) = (door.visitor(), door.visitor());
    let for_dana = door.up_to_confirm(&dana, &second, "dana");
    let for_alice = door.up_to_confirm(&alice, &first, "alice");
    for named in ["alice", "ssh", "web-1", "127.0.0.1", "OpenSSH_"] {
        assert!(for_alice.body.contains(named), "{named}: {for_alice:?}");
    }
    assert!(first.lives() && second.lives() && third.lives());
    let done = door.answered(&alice, &for_alice, "approve");
    assert!(done.status == 200 && done.body.contains("It is signed in"), "{done:?}");
    let ran = first.ended();
    assert_eq!((ran.code, ran.out.as_str()), (0, "in\n"), "{ran:?}");
    assert!(second.lives() && third.lives());
    let done = door.answered(&dana, &for_dana, "approve");
    assert_eq!(done.status, 200, "{done:?}");
    // She is not alice: web-1 is nothing that she may reach.
    let ran = second.ended();
    assert_eq!((ran.code, ran.out.as_str()), (126, ""), "{ran:?}");
    assert!(ran.err.contains("none that you may know of"), "{ran:?}");
    // An answer counts once.
    assert!(door.answered(&alice, &for_alice, "approve").status >= 400);

    assert!(third.lives());
    let done = door.answered(&visitor, &page, "decline");
    assert!(done.status == 200 && done.body.contains("turned away"), "{done:?}");
    let ran = third.ended();
    assert_eq!((ran.code, ran.out.as_str()), (255, ""), "{ran:?}");
    assert!(ran.err.contains("says that it was not them"), "{ran:?}");
}

#[test]
fn a_link_lets_its_own_connection_in_and_no_other_after_enter_was_pressed() {
    let demo = Demo::shared();
    let door = Door::Demo(demo);
    a_door_opens_for_whoever_says_it_was_them(&door);
    // Here, so that no other test begins a login of hers meanwhile.
    a_revoked_login_ends_its_connection(&door, demo);
    // The record says who it was.
    wait_for("the record", || {
        let all = demo.weir_json("alice", &["sessions", "ls", "--limit", "500"]);
        all.as_array().unwrap().iter().find_map(|session| {
            let id = session["session"].as_str().unwrap();
            let shown = demo.weir_json("alice", &["sessions", "show", id]).to_string();
            (shown.contains("of-alice") && shown.contains("\"name\":\"alice\"")).then_some(())
        })
    });
}

#[test]
fn a_link_lets_its_own_connection_in_and_no_other_without_a_prompt() {
    let tokens = ("provider_tokens = true\n", "");
    let site = Site::start_changed(&[tokens, tokens, tokens]);
    a_door_opens_for_whoever_says_it_was_them(&Door::Site(Box::new(site)));
}

/// Asks the demo's API as a person.
fn api(demo: &Demo, bearer: &str, words: &[&str], path: &str) -> Value {
    let bearer = format!("Authorization: Bearer {bearer}");
    let visitor = Visitor::new(&["--cacert", demo.ca_file(), "-H", &bearer]);
    let page = visitor.ask(&format!("{}{path}", demo.text("/api")), words);
    assert_eq!(page.status, 200, "{page:?}");
    serde_json::from_str(&page.body).unwrap()
}

/// A login that is revoked ends its connection, and the command at the target.
fn a_revoked_login_ends_its_connection(door: &Door, demo: &Demo) {
    let mark = format!("/tmp/ended-{}", std::process::id());
    let line = format!(
        "trap 'echo by-term > {mark}; exit 0' TERM; echo begun; while :; do sleep 0.1; done"
    );
    let before = logins(demo);
    let mut waiting = Waiting::begin(door.ssh(&line));
    let visitor = door.visitor();
    let page = door.up_to_confirm(&visitor, &waiting, "alice");
    assert_eq!(door.answered(&visitor, &page, "approve").status, 200);
    let mut out = BufReader::new(waiting.child.stdout.take().unwrap());
    let mut begun = String::new();
    out.read_line(&mut begun).unwrap();
    assert_eq!(begun, "begun\n");
    // The one that was begun on that page.
    for login in logins(demo).iter().filter(|login| !before.contains(login)) {
        let path = format!("/api/v1/credentials/{login}/revoke");
        api(demo, demo.token("alice"), &["-X", "POST"], &path);
    }
    let ran = waiting.ended();
    assert_eq!(ran.code, 255, "{ran:?}");
    assert!(ran.err.contains("revoked by alice"), "{ran:?}");
    wait_for("the trap at the target", || {
        let askpass = demo.text("/people/alice/askpass");
        let mut ssh = plain_ssh(demo.port());
        ssh.args(["-F", demo.text("/ssh_config"), "localhost", &format!("cat {mark}")]);
        ssh.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
        (Ran::of(&ssh.output().unwrap()).out == "by-term\n").then_some(())
    });
}

/// Alice's logins that were begun for a connection by SSH.
fn logins(demo: &Demo) -> Vec<String> {
    let all = api(demo, demo.token("alice"), &[], "/api/v1/credentials");
    let all = all.as_array().unwrap().iter().map(|one| &one["login"]);
    let ours = all.filter(|login| login.to_string().contains("ssh from"));
    ours.map(|login| login["id"].as_str().unwrap_or_else(|| panic!("{login}")).to_owned()).collect()
}

#[test]
fn what_another_login_would_allow_is_refused_with_the_line_that_begins_it() {
    let demo = Demo::shared();
    let prepared = Prepared::new();
    let policy = "@id(\"t.key\") @reason(\"web-1 wants a security key\") @step_up(\"amr=hwk\")\n\
                  forbid (principal, action == Weir::Action::\"execute\", \
                  resource == Weir::Target::\"web-1\")\nunless { context.amr.contains(\"hwk\") };\n";
    std::fs::write(prepared.path("policies/key.cedar"), policy).unwrap();
    let gateway = prepared.start();
    let mut ssh = plain_ssh(gateway.port());
    stranger(&mut ssh);
    ssh.args(["-F", "none", "-o", "PreferredAuthentications=keyboard-interactive"]);
    let askpass = demo.text("/people/alice/askpass");
    ssh.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
    let ran = Ran::of(&ssh.args(["localhost", "id -un"]).output().unwrap());
    assert_eq!((ran.code, ran.out.as_str()), (126, ""), "{ran:?}");
    for said in ["web-1 wants a security key", "t.key", "weir login --fresh", "hwk"] {
        assert!(ran.err.contains(said), "{said}: {ran:?}");
    }
}

#[test]
fn the_name_in_tls_and_the_user_name_have_to_agree() {
    let demo = Demo::shared();
    let run = |name: &str, user: &str| {
        let tunnel = format!(
            "{} s_client -quiet -verify_quiet -no_ign_eof -connect 127.0.0.1:{} -servername {name} \
             -CAfile {}",
            parts::program("openssl").display(),
            demo.port(),
            demo.ca_file()
        );
        let mut ssh = Command::new(parts::program("ssh"));
        ssh.args(["-F", demo.text("/ssh_config"), "-p", &demo.port().to_string()]);
        ssh.args(["-l", user, "-o", &format!("ProxyCommand={tunnel}"), "localhost", "echo in"]);
        let askpass = demo.text("/people/alice/askpass");
        ssh.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
        ssh.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
        Ran::of(&ssh.output().unwrap())
    };
    for (name, user) in
        [("web-1.localhost", "deploy"), ("web-1.localhost", LOGIN), ("localhost", LOGIN)]
    {
        let ran = run(name, user);
        assert_eq!((ran.code, ran.out.as_str()), (0, "in\n"), "{name} {user}: {ran:?}");
    }
    for (name, user) in [
        ("customers.localhost", LOGIN),
        ("nosuch.localhost", LOGIN),
        ("web-1.localhost", "deploy@customers"),
        ("localhost", "deploy"),
    ] {
        let ran = run(name, user);
        assert!(ran.code != 0 && ran.out.is_empty(), "{name} {user}: {ran:?}");
    }
}
