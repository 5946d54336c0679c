//! OpenID providers that tests own: the certified one of `tests/parts/oidc`, which makes trouble
//! on demand, and one of another make. And a [`Visitor`]: a browser without a window, by curl, that
//! keeps cookies, fills in forms and signs people in.

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

use crate::demo::Ran;
use crate::demo::read;
use crate::parts;

/// More redirects and forms than any sign-in has.
const STEPS_MAX: usize = 30;

// --- Visitors ------------------------------------------------------------------------------------

/// Somebody at a browser: one jar of cookies.
pub struct Visitor {
    jar: tempfile::TempDir,
    args: Vec<String>,
}

impl Visitor {
    /// Without cookies; `args` go to curl at every step: `--cacert`, `--connect-to`, …
    pub fn new(args: &[&str]) -> Self {
        let jar = tempfile::Builder::new().prefix("weir-visitor-").tempdir().unwrap();
        Self { jar, args: args.iter().map(|arg| (*arg).to_owned()).collect() }
    }

    /// Opens a page; redirects are not followed.
    pub fn visit(&self, url: &str) -> Page {
        self.ask(url, &[])
    }

    /// Sends a form, its members encoded.
    pub fn send(&self, url: &str, members: &[(&str, &str)]) -> Page {
        let mut args = vec!["--request".to_owned(), "POST".to_owned()];
        for (name, value) in members {
            args.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        self.ask(url, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Fills in the first form of a page, whose hidden members go along, and sends it.
    pub fn submit(&self, page: &Page, members: &[(&str, &str)]) -> Page {
        let form = page.form().unwrap_or_else(|| panic!("no form: {page:?}"));
        let mut all = form.hidden.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>();
        all.retain(|(name, _)| members.iter().all(|(given, _)| given != name));
        all.extend(members);
        self.send(&form.action, &all)
    }

    /// Follows redirects from `page`, until one leads to an address that starts with `until`, which
    /// is not visited, or there is none.
    pub fn follow(&self, mut page: Page, until: &str) -> Result<String, Page> {
        for _ in 0..STEPS_MAX {
            match page.location.take() {
                None => return Err(page),
                Some(location) if location.starts_with(until) => return Ok(location),
                Some(location) => page = self.visit(&location),
            }
        }
        panic!("went in circles, last at {}", page.url)
    }

    /// curl with this visitor's cookies and further arguments.
    pub fn ask(&self, url: &str, args: &[&str]) -> Page {
        let jar = self.jar.path().join("cookies");
        let body = self.jar.path().join("body");
        let _of_the_last_page = fs::remove_file(&body);
        let mut curl = Command::new(parts::program("curl"));
        curl.args(["-sS", "--max-time", "30", "--cookie"]).arg(&jar).arg("--cookie-jar").arg(&jar);
        curl.args(["-w", "%{http_code}\n%{redirect_url}", "--output"]).arg(&body);
        let ran = Ran::of(&curl.args(&self.args).args(args).arg(url).output().unwrap());
        assert_eq!(ran.code, 0, "{url}: {ran:?}");
        let (status, location) = ran.out.split_once('\n').unwrap();
        Page {
            url: url.to_owned(),
            status: status.parse().unwrap(),
            location: (!location.is_empty()).then(|| location.to_owned()),
            body: if body.exists() { read(&body) } else { String::new() },
        }
    }

    /// The cookies kept, as curl writes them: a line each.
    pub fn cookies(&self) -> String {
        read(self.jar.path().join("cookies"))
    }
}

/// What came back.
#[derive(Debug)]
pub struct Page {
    /// The address that was asked for.
    pub url: String,
    /// The status.
    pub status: u16,
    /// Where it redirects to, in full.
    pub location: Option<String>,
    /// The body.
    pub body: String,
}

/// A form: where it goes, and what goes along unseen.
struct Form {
    action: String,
    hidden: Vec<(String, String)>,
}

impl Page {
    /// The first form.
    fn form(&self) -> Option<Form> {
        let (_, rest) = self.body.split_once("<form")?;
        let (form, _) = rest.split_once("</form>")?;
        let (head, inside) = form.split_once('>')?;
        let input = |tag: &str| {
            let hidden = attribute(tag, "type")? == "hidden";
            let value = attribute(tag, "value").unwrap_or_default();
            hidden.then_some((attribute(tag, "name")?, value))
        };
        let tags = inside.split("<input").skip(1).filter_map(|tag| tag.split('>').next());
        let action = attribute(head, "action").unwrap_or_default();
        Some(Form { action: self.resolve(&action), hidden: tags.filter_map(input).collect() })
    }

    /// A hidden member of the first form, such as its token against forgery.
    pub fn hidden(&self, name: &str) -> Option<String> {
        self.form()?.hidden.into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// An address as this page means it.
    fn resolve(&self, address: &str) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let (host, _) = rest.split_once('/').unwrap_or((rest, ""));
        let path = self.url.split(['?', '#']).next().unwrap();
        match address {
            "" => self.url.clone(),
            whole if whole.contains("://") => whole.to_owned(),
            rooted if rooted.starts_with('/') => format!("{scheme}://{host}{rooted}"),
            query if query.starts_with('?') => format!("{path}{query}"),
            beside => format!("{}/{beside}", path.rsplit_once('/').unwrap().0),
        }
    }
}

/// The value of an attribute in a tag.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    let plain = [("&quot;", "\""), ("&#39;", "'"), ("&#x27;", "'"), ("&#34;", "\"")];
    let text = plain.iter().fold(value.to_owned(), |text, (from, to)| text.replace(from, to));
    Some(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

/// Signs `user` in at the certified provider: opens `url`, follows redirects, fills in the forms of
/// the provider, and gives the first address that starts with `until`, which is not visited.
/// A page that is not the provider's ends it: stop before, by `until`.
pub fn sign_in(visitor: &Visitor, url: &str, user: &str, until: &str) -> String {
    let mut page = visitor.visit(url);
    for _ in 0..STEPS_MAX {
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
        let member = |name: &str| {
            let pairs = login.split_once('?').unwrap().1.split('&');
            let value = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).next();
            decoded(value.unwrap_or_else(|| panic!("no {name}: {login}")))
        };
        let put = |method: &str, path: &str, body: &Value| {
            let json = ["-H", "Content-Type: application/json", "-X", method, "-d"];
            let body = body.to_string();
            let page = visitor.ask(&format!("{origin}/api/{path}"), &[&json[..], &[&body]].concat());
            assert_eq!(page.status, 200, "{page:?}");
        };
        put("POST", "auth/", &json!({ "username": user, "password": "password" }));
        let grant = format!("auth/grant/{}", member("client_id"));
        put("PUT", &grant, &json!({ "scope": member("scope") }));
        let further = visitor.visit(&format!("{}&g_continue", member("callback_url")));
        visitor.follow(further, until).unwrap_or_else(|page| panic!("not sent back: {page:?}"))
    }
}

impl Drop for Idp2 {
    fn drop(&mut self) {
        let _asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _gone = self.child.wait();
    }
}

/// Text out of an address, its escapes undone.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// A member of an address's query, its escapes undone.
pub fn member(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let pairs = query.split('#').next()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| decoded(v))
}
