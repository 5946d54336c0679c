//! OpenID providers that tests own: the certified one of `tests/parts/oidc`, which makes trouble
//! on demand, and one of another make; and how to sign in there without a browser.

use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;

use serde_json::Value;
use serde_json::json;

use crate::demo::read;
use crate::parts;
use crate::visitor::Visitor;
use crate::visitor::member;

/// More forms than any sign-in has.
const FORMS_MAX: usize = 10;

/// Signs `user` in at the certified provider: opens `url`, follows redirects, fills in the forms of
/// the provider, and gives the first address that starts with `until`, which is not visited.
/// A page that is not the provider's ends it: stop before, by `until`.
pub fn sign_in(visitor: &Visitor, url: &str, user: &str, until: &str) -> String {
    let mut page = visitor.visit(url);
    for _ in 0..FORMS_MAX {
        page = match visitor.follow(page, until) {
            Ok(arrived) => return arrived,
            Err(page) => page,
        };
        page = match page.hidden("prompt").as_deref() {
            Some("login") if page.status == 200 => {
                visitor.submit(&page, &[("login", user), ("password", "any")])
            }
            Some("consent") => visitor.submit(&page, &[]),
            _ => panic!("{user} cannot sign in: {page:?}"),
        };
    }
    panic!("{user} is asked again and again: {page:?}")
}

// --- The certified provider ----------------------------------------------------------------------

/// The certified provider. Dropping it ends it.
///
/// Its people are alice, dana, olaf and mei, with the claims of the demo's people; its clients are
/// [`Idp::CLIENT`] and [`Idp::OTHER_CLIENT`], confidential, with the same secret.
pub struct Idp {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
    setup: Mutex<Value>,
}

impl Idp {
    /// The client of a gateway.
    pub const CLIENT: &str = "gateway";
    /// The client of another gateway.
    pub const OTHER_CLIENT: &str = "gateway-2";
    const SECRET: &str = "a secret that only tests know, of this length";

    /// Starts it. A gateway that chooses its own port is registered by [`Idp::register`] later.
    pub fn start(redirect_uris: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("weir-idp-").tempdir().unwrap();
        let client = |id: &str| client(id, redirect_uris, None);
        let setup = json!({
            "clients": [client(Self::CLIENT), client(Self::OTHER_CLIENT)],
            "accounts": {
                "alice": account("alice", "acme-de", "DE", &["engineer"]),
                "dana": account("dana", "acme-de", "DE", &["dba", "approver"]),
                "olaf": account("olaf", "acme-de", "DE", &["dpo"]),
                "mei": account("mei", "acme-sg", "SG", &["engineer"]),
            },
        });
        save(&dir, &setup);
        let (child, port) = run(dir.path(), 0);
        Self { child, port, dir, setup: Mutex::new(setup) }
    }

    /// Ends it: nobody answers at its address.
    pub fn down(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }

    /// Starts it again at its address, with new keys, and having forgotten whom it signed in.
    pub fn up(&mut self) {
        self.down();
        (self.child, _) = run(self.dir.path(), self.port);
    }

    /// Its issuer.
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The id of the client of a gateway.
    pub fn client_id(&self) -> &'static str {
        Self::CLIENT
    }

    /// The secret of both clients.
    pub fn client_secret(&self) -> &'static str {
        Self::SECRET
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        read(self.dir.path().join("log"))
    }

    /// Registers a client anew: where it may be sent back to, and where it hears of logouts.
    pub fn register(&self, id: &str, redirect_uris: &[&str], backchannel: Option<&str>) {
        self.change(|setup| {
            let clients = setup["clients"].as_array_mut().unwrap();
            clients.retain(|old| old["client_id"] != id);
            clients.push(client(id, redirect_uris, backchannel));
        });
    }

    /// Whom it trusts when it tells clients of logouts.
    pub fn trust(&self, ca_file: &str) {
        self.change(|setup| setup["ca_file"] = json!(ca_file));
    }

    /// Sets members of somebody's account, which are their claims, and makes the account if there
    /// is none; a member that is null goes. `_acr_max` is how well they can sign in: `pwd`, `mfa`
    /// or `phr`, of which they use what `acr_values` asks for.
    pub fn set_account(&self, name: &str, members: &Value) {
        self.change(|setup| {
            let old = setup["accounts"].as_object_mut().unwrap();
            let account = old.entry(name).or_insert_with(|| account(name, "acme-de", "DE", &[]));
            for (member, value) in members.as_object().unwrap() {
                account[member] = value.clone();
            }
            account.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        });
    }

    /// Removes somebody: they cannot sign in, and what they hold is refused when renewed.
    pub fn remove_account(&self, name: &str) {
        self.change(|setup| {
            let removed = setup["accounts"].as_object_mut().unwrap().remove(name);
            assert!(removed.is_some(), "there is no {name}");
        });
    }

    /// A new signing key; the old one leaves the key set.
    pub fn rotate(&self) {
        self.hook("rotate", &json!({}));
    }

    /// Ends somebody's sessions at the provider, which tells the clients: how many sessions, which
    /// clients were `told`, and for which that `failed`.
    pub fn end_session(&self, sub: &str) -> Value {
        self.hook(&format!("logout?sub={sub}"), &json!({}))
    }

    /// A token made to order, good or bad; see `tests/parts/oidc/server.mjs`.
    pub fn made(&self, order: &Value) -> String {
        self.hook("token", order)["token"].as_str().unwrap().to_owned()
    }

    /// Stops it, as a machine that hangs: connections are taken and nothing is answered.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on after [`Idp::stop`].
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let mut kill = Command::new(parts::program("kill"));
        assert!(kill.arg(signal).arg(self.child.id().to_string()).status().unwrap().success());
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut setup = self.setup.lock().unwrap();
        change(&mut setup);
        save(&self.dir, &setup);
    }

    fn hook(&self, path: &str, body: &Value) -> Value {
        let page = Visitor::new(&["-X", "POST", "-d", &body.to_string()])
            .visit(&format!("{}/_test/{path}", self.issuer()));
        assert_eq!(page.status, 200, "{page:?}");
        serde_json::from_str(&page.body).unwrap()
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        self.down();
    }
}

/// Runs the provider on a port, or on one of its own choice if that is 0.
fn run(dir: &Path, port: u16) -> (Child, u16) {
    let mut run = parts::ending_with_us("KILL", &parts::program("bash"));
    run.arg(parts::repository().join("tests/parts/oidc/run.sh")).arg(port.to_string());
    run.arg("--setup").arg(dir.join("setup.json"));
    run.stdin(Stdio::null()).stdout(Stdio::piped());
    run.stderr(File::create(dir.join("log")).unwrap());
    let mut child = parts::spawn(run);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    match line.trim().split_once(' ') {
        Some(("ready", chosen)) => (child, chosen.parse().unwrap()),
        None if line == "ready\n" => (child, port),
        _ => panic!("{line}{}", read(dir.join("log"))),
    }
}

fn client(id: &str, redirect_uris: &[&str], backchannel: Option<&str>) -> Value {
    let mut client = json!({
        "client_id": id,
        "client_secret": Idp::SECRET,
        "redirect_uris": redirect_uris,
    });
    if let Some(uri) = backchannel {
        client["backchannel_logout_uri"] = json!(uri);
    }
    client
}

fn account(name: &str, company: &str, country: &str, groups: &[&str]) -> Value {
    json!({
        "preferred_username": name,
        "email": format!("{name}@example.com"),
        "groups": groups,
        "company": company,
        "country": country,
    })
}

/// Replaces the provider's setup as a whole, so that it never reads half of it.
fn save(dir: &tempfile::TempDir, setup: &Value) {
    let new = dir.path().join("setup.new");
    fs::write(&new, setup.to_string()).unwrap();
    fs::rename(new, dir.path().join("setup.json")).unwrap();
}

// --- The other make ------------------------------------------------------------------------------

/// A provider of another make: Glewlwyd, in C. Dropping it ends it.
///
/// What differs, as providers do: RS256, an opaque `sub`, `auth_time` 0, and no id token from a
/// refresh. Its people are alice and dana; there is one client, confidential.
pub struct Idp2 {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Idp2 {
    /// Starts it.
    pub fn start(redirect_uris: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("weir-idp2-").tempdir().unwrap();
        // It cannot choose a port itself; a port that another test was given meanwhile ends it.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut run = parts::ending_with_us("TERM", &parts::program("bash"));
            run.arg(parts::repository().join("tests/parts/idp2/run.sh")).arg(dir.path());
            run.arg(port.to_string()).args(redirect_uris).stdin(Stdio::null());
            run.stdout(Stdio::piped()).stderr(File::create(dir.path().join("said")).unwrap());
            let mut child = parts::spawn(run);
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            if line == "ready\n" {
                return Self { child, port, _dir: dir };
            }
            let _ended = child.wait();
        }
        panic!("{}", read(dir.path().join("said")))
    }

    /// Its issuer.
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}/api/oidc", self.port)
    }

    /// The id of the client of a gateway.
    pub fn client_id(&self) -> &'static str {
        "gateway"
    }

    /// Its secret.
    pub fn client_secret(&self) -> &'static str {
        "gateway-secret"
    }

    /// Signs `user` in, as [`sign_in`] does at the certified provider. Its pages are made by a
    /// script; this does what that script would.
    pub fn sign_in(&self, visitor: &Visitor, url: &str, user: &str, until: &str) -> String {
        let origin = format!("http://127.0.0.1:{}", self.port);
        let login = match visitor.follow(visitor.visit(url), &format!("{origin}/login.html")) {
            Ok(login) => login,
            Err(page) => panic!("not sent to sign in: {page:?}"),
        };
        let asked = |name: &str| member(&login, name).unwrap_or_else(|| panic!("{login}"));
        let put = |method: &str, path: &str, body: &Value| {
            let json = ["-H", "Content-Type: application/json", "-X", method, "-d"];
            let body = body.to_string();
            let page =
                visitor.ask(&format!("{origin}/api/{path}"), &[&json[..], &[&body]].concat());
            assert_eq!(page.status, 200, "{page:?}");
        };
        put("POST", "auth/", &json!({ "username": user, "password": "password" }));
        let grant = format!("auth/grant/{}", asked("client_id"));
        put("PUT", &grant, &json!({ "scope": asked("scope") }));
        let further = visitor.visit(&format!("{}&g_continue", asked("callback_url")));
        visitor.follow(further, until).unwrap_or_else(|page| panic!("not sent back: {page:?}"))
    }
}

impl Drop for Idp2 {
    fn drop(&mut self) {
        let _asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _gone = self.child.wait();
    }
}
