//! A gateway as people know one: `weir.example`, its targets as siblings below it, the certified
//! provider to sign in at, and a target whose every request is seen.

use std::fmt::Write as _;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;

use serde_json::Value;
use weir::tls::Authority;

use crate::browser::Browser;
use crate::demo::Demo;
use crate::demo::read;
use crate::gateway::Gateway;
use crate::gateway::Prepared;
use crate::idp;
use crate::idp::Idp;
use crate::idp::Idp2;
use crate::parts;
use crate::visitor::Page;
use crate::visitor::Visitor;
use crate::visitor::member;

/// The gateway's own name: a real domain, so that its targets are siblings of one site.
pub const OWN: &str = "https://weir.example";
/// The demo's wiki.
pub const WIKI: &str = "https://wiki.weir.example";
/// The target whose requests are seen, and whose pages are an attacker's.
pub const APP: &str = "https://app.weir.example";
/// Where providers send people back to.
const CALLBACK: &str = "https://weir.example/oauth/callback";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// What runs. Dropping it ends it.
pub struct Site {
    /// The certified provider.
    pub idp: Idp,
    /// A provider of another make, if asked for.
    pub idp2: Option<Idp2>,
    /// The target whose requests are seen.
    pub app: App,
    /// The gateway.
    pub gateway: Gateway,
}

impl Site {
    /// Starts it.
    pub fn start() -> Self {
        Self::with(None, &[])
    }

    /// Starts it with a second provider.
    pub fn start_with_two() -> Self {
        Self::with(Some(Idp2::start(&[CALLBACK])), &[])
    }

    /// Starts it with a changed configuration.
    pub fn start_changed(changes: &[(&str, &str)]) -> Self {
        Self::with(None, changes)
    }

    fn with(idp2: Option<Idp2>, changes: &[(&str, &str)]) -> Self {
        let (idp, app) = (Idp::start(&[CALLBACK]), App::start());
        let mut prepared = Prepared::new();
        for (from, to) in changes {
            prepared.change(from, to);
        }
        certify(&prepared);
        prepared.change("name = \"localhost\"", "name = \"weir.example\"\npublic_port = 443");
        let (before, rest) = prepared.config.split_once("[[providers]]").unwrap();
        let (_, after) = rest.split_once("[entities.acme-de]").unwrap();
        let providers = providers(&prepared, &idp, idp2.as_ref());
        let app_target = app_target(app.port);
        let config = format!("{before}{providers}[entities.acme-de]{after}{app_target}");
        prepared.config = config;
        let policy = "permit (principal, action in [Weir::Action::\"connect\", \
                      Weir::Action::\"execute\"], resource == Weir::Target::\"app\");";
        let policy = format!("@id(\"app.everybody\")\n{policy}\n");
        fs::write(prepared.path("policies/app.cedar"), policy).unwrap();
        let gateway = prepared.start();
        let hears = format!("{OWN}:{}/oauth/backchannel_logout", gateway.port());
        idp.register(Idp::CLIENT, &[CALLBACK], Some(&hears));
        idp.trust(Demo::shared().ca_file());
        Self { idp, idp2, app, gateway }
    }

    /// A browser at it.
    pub fn browser(&self) -> Browser {
        let place = format!("127.0.0.1:{}", self.gateway.port());
        let hosts = [("weir.example", place.as_str()), ("*.weir.example", place.as_str())];
        Browser::start(&[Demo::shared().ca_file()], &hosts)
    }

    /// curl at it, with cookies of its own.
    pub fn visitor(&self) -> Visitor {
        let mut args = vec!["--cacert".to_owned(), Demo::shared().ca_file().to_owned()];
        for host in ["", "wiki.", "app."] {
            let place = format!("{host}weir.example:443:127.0.0.1:{}", self.gateway.port());
            args.extend(["--connect-to".to_owned(), place]);
        }
        Visitor::new(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Signs a visitor in at the host of a target: up to the address that gives it its cookie,
    /// which is not visited.
    pub fn up_to_enter(&self, visitor: &Visitor, target: &str, user: &str) -> String {
        let asked = visitor.ask(&format!("{target}/"), &["-H", "Accept: text/html"]);
        let login = asked.location.as_deref().unwrap_or_else(|| panic!("{asked:?}"));
        idp::sign_in(visitor, login, user, &format!("{target}/.weir/enter"))
    }

    /// Signs a visitor in at the host of a target.
    pub fn sign_in(&self, visitor: &Visitor, target: &str, user: &str) {
        let enter = self.up_to_enter(visitor, target, user);
        assert_eq!(visitor.visit(&enter).status, 303);
    }

    /// What `weir login` does, with a visitor as its browser: the answer of the token endpoint.
    pub fn program_login(&self, visitor: &Visitor, user: &str) -> Value {
        let page = visitor.visit(&idp::sign_in(
            visitor,
            &authorize("Laptop of the test"),
            user,
            &format!("{OWN}/oauth/confirm"),
        ));
        self.confirmed(visitor, page)
    }

    /// The rest of it, once its page asks.
    pub fn confirmed(&self, visitor: &Visitor, page: Page) -> Value {
        assert_eq!(page.status, 200, "{page:?}");
        let hidden = |name: &str| page.hidden(name).unwrap_or_else(|| panic!("{page:?}"));
        let members = [("ask", hidden("ask")), ("csrf", hidden("csrf"))];
        let members = members.each_ref().map(|(name, value)| (*name, value.as_str()));
        let [ask, csrf] = members;
        let to = format!("{OWN}/oauth/confirm");
        let back = post(visitor, &to, OWN, &[ask, csrf, ("answer", "approve")]);
        let code = back.location.as_deref().and_then(|url| member(url, "code"));
        let code = code.unwrap_or_else(|| panic!("{back:?}"));
        self.token(&[
            ("grant_type", "authorization_code"),
            ("client_id", "weir-cli"),
            ("redirect_uri", "http://127.0.0.1:1/back"),
            ("code_verifier", VERIFIER),
            ("code", &code),
        ])
    }

    /// What the token endpoint says.
    pub fn token(&self, members: &[(&str, &str)]) -> Value {
        let page = self.visitor().send(&format!("{OWN}/oauth/token"), members);
        serde_json::from_str(&page.body).unwrap_or_else(|_| panic!("{page:?}"))
    }

    /// A psql of a credential.
    pub fn psql(&self, secret: &str) -> Command {
        let mut psql = Command::new(parts::program("psql"));
        psql.arg("-X").arg(format!(
            "host=customers.weir.example hostaddr=127.0.0.1 port={} dbname=customers user=alice \
             sslmode=verify-full sslrootcert={}",
            self.gateway.port(),
            Demo::shared().ca_file()
        ));
        psql.env("PGPASSWORD", secret).env("PGCONNECT_TIMEOUT", "20").stdin(Stdio::null());
        psql
    }

    /// Whether a bearer credential counts at the API.
    pub fn whoami(&self, secret: &str) -> Page {
        let bearer = format!("Authorization: Bearer {secret}");
        self.visitor().ask(&format!("{OWN}/api/v1/whoami"), &["-H", &bearer])
    }

    /// The requests that reached the wiki and name `marker`.
    pub fn reached_wiki(&self, marker: &str) -> Vec<String> {
        let log = read(Demo::shared().text("/direct/http/access_log_file"));
        log.lines().filter(|line| line.contains(marker)).map(str::to_owned).collect()
    }
}

/// Where a program on somebody's machine sends its browser.
pub fn authorize(device: &str) -> String {
    format!(
        "{OWN}/oauth/authorize?response_type=code&client_id=weir-cli&state=its-state\
         &redirect_uri=http://127.0.0.1:1/back&code_challenge={CHALLENGE}\
         &code_challenge_method=S256&device={}",
        device.replace(' ', "+")
    )
}

/// A POST as a browser sends it from a page of `origin`.
pub fn post(visitor: &Visitor, url: &str, origin: &str, members: &[(&str, &str)]) -> Page {
    let mut args = vec!["-H".to_owned(), format!("Origin: {origin}")];
    args.extend(["-X".to_owned(), "POST".to_owned()]);
    for (name, value) in members {
        args.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
    }
    visitor.ask(url, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The gateway's certificate for its names, of the demo's throw-away authority.
fn certify(prepared: &Prepared) {
    let pem = |name: &str| read(prepared.path(name));
    let authority = Authority::from_pem(&pem("ca.pem"), &pem("ca.key")).unwrap();
    let leaf = authority.leaf(&["weir.example", "*.weir.example"], &[]).unwrap();
    fs::write(prepared.path("gateway.crt"), &leaf.chain_pem).unwrap();
    fs::write(prepared.path("gateway.key"), leaf.key_pem.as_bytes()).unwrap();
}

fn providers(prepared: &Prepared, idp: &Idp, idp2: Option<&Idp2>) -> String {
    let mut text = String::new();
    let mut add = |name: &str, issuer: &str, secret: &str, algorithm: &str, more: &str| {
        fs::write(prepared.path(&format!("{name}.secret")), secret).unwrap();
        write!(
            text,
            "[[providers]]\nname = \"{name}\"\nissuer = \"{issuer}\"\naudience = [\"gateway\"]\n\
             client_secret = {{ file = \"{name}.secret\" }}\nalgorithms = [\"{algorithm}\"]\n\
             consent = true\n{more}\n"
        )
        .unwrap();
    };
    let roles = "[providers.roles]\nengineer = \"engineer\"\ndba = \"dba\"\n\
                 approver = \"approver\"\ndpo = \"dpo\"\n\
                 [providers.entities]\nacme-de = \"acme-de\"\nacme-sg = \"acme-sg\"\n";
    let claims = format!("[providers.claims]\nentity = \"company\"\n{roles}");
    add("acme", &idp.issuer(), idp.client_secret(), "ES256", &claims);
    if let Some(idp2) = idp2 {
        let claims = format!("[providers.claims]\nname = \"name\"\n{roles}");
        add("contractors", &idp2.issuer(), idp2.client_secret(), "RS256", &claims);
    }
    text
}

fn app_target(port: u16) -> String {
    format!(
        "\n[targets.app]\nregion = \"eu-central\"\nowner = \"acme-de\"\n\n\
         [targets.app.http]\naddress = \"127.0.0.1:{port}\"\ntls = {{ mode = \"off\" }}\n\n\
         [[targets.app.http.routes]]\npath = \"/**\"\n"
    )
}

/// A web server that keeps what it is asked, answers `/` with what it is told to, and tries to set
/// cookies that it may not set.
pub struct App {
    port: u16,
    kept: Arc<Mutex<(String, String)>>,
}

impl App {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let kept = Arc::new(Mutex::new((String::new(), "<h1>The app</h1>".to_owned())));
        let all = Arc::clone(&kept);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&all);
                std::thread::spawn(move || serve(&stream.unwrap(), &kept));
            }
        });
        Self { port, kept }
    }

    /// Every request so far.
    pub fn seen(&self) -> String {
        self.kept.lock().unwrap().0.clone()
    }

    /// Sets its page.
    pub fn shows(&self, page: &str) {
        self.kept.lock().unwrap().1 = page.to_owned();
    }
}

fn serve(stream: &TcpStream, kept: &Mutex<(String, String)>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = head[from..].to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let page = {
            let mut kept = kept.lock().unwrap();
            kept.0.push_str(&head);
            kept.0.push_str(&String::from_utf8_lossy(&body));
            kept.1.clone()
        };
        let cookies = "Set-Cookie: __Host-weir=planted; Path=/; Secure\r\n\
                       Set-Cookie: __Host-weir-signin=planted; Path=/; Secure\r\n\
                       Set-Cookie: wide=1; Domain=weir.example; Path=/\r\n\
                       Set-Cookie: own=1; Path=/\r\n";
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{cookies}Content-Length: {}\r\n\r\n{page}",
            page.len()
        );
        let mut writer = stream;
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
