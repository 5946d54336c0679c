//! HTTP through the gateway, with curl and a real web server: masks, holds, refusals, streams.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;

use serde_json::Value;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::finish;
use crate::demo::read;
use crate::demo::wait_for;
use crate::parts;

/// A value of the people's file that only some may see.
const SECRET: &str = "ylva.achterdeck@example.com";

/// curl, with the gateway's CA and without a credential.
fn curl_without(demo: &Demo) -> Command {
    let mut curl = Command::new(parts::program("curl"));
    curl.args(["-sS", "--max-time", "120", "--cacert", demo.ca_file()]);
    curl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    curl
}

/// curl as a person.
fn curl(demo: &Demo, person: &str) -> Command {
    let mut curl = curl_without(demo);
    curl.arg("-H").arg(format!("Authorization: Bearer {}", demo.token(person)));
    curl
}

/// What came of a request: its status, headers and body, in that order in one text.
fn ask(demo: &Demo, person: &str, words: &[&str], path: &str) -> Ran {
    let url = format!("{}{path}", demo.text("/targets/wiki/url"));
    Ran::of(&curl(demo, person).arg("-i").args(words).arg(url).output().unwrap())
}

fn status(ran: &Ran) -> &str {
    ran.out.split_whitespace().nth(1).unwrap_or("none")
}

/// The refusal in an answer.
fn problem(ran: &Ran) -> Value {
    assert!(ran.out.contains("content-type: application/problem+json"), "{ran:?}");
    serde_json::from_str(ran.out.rsplit("\r\n").next().unwrap()).unwrap()
}

/// The requests that reached the web server and name `marker`.
fn reached(demo: &Demo, marker: &str) -> Vec<String> {
    let log = read(demo.text("/direct/http/access_log_file"));
    log.lines().filter(|line| line.contains(marker)).map(str::to_owned).collect()
}

/// Alice's `PUT` of an article, begun.
fn put(demo: &Demo, name: &str) -> std::process::Child {
    let url = format!("{}/api/articles/{name}", demo.text("/targets/wiki/url"));
    let mut put = curl(demo, "alice");
    put.args(["-i", "-X", "PUT", "-H", "content-type: application/json", "-d"]);
    put.arg(format!("{{\"title\":\"{name}\"}}")).arg(url).spawn().unwrap()
}

#[test]
fn the_printed_lines_work_in_a_shell() {
    let demo = Demo::shared();
    let line = |rest: &str| {
        let (env, ca) = (demo.text("/env_file"), demo.ca_file());
        let url = demo.text("/targets/wiki/url");
        let line = format!(
            ". {env}; curl -sS --cacert {ca} -H \"Authorization: Bearer $ALICE\" {}",
            rest.replace("URL", url)
        );
        Ran::of(&Command::new("/bin/sh").arg("-c").arg(line).output().unwrap())
    };
    let ran = line("URL/api/people");
    assert!(ran.out.contains("\"id\": 1") && ran.out.contains("<masked:pii.email>"), "{ran:?}");
    let ran = line("-X DELETE URL/api/articles/1");
    assert!(ran.out.contains("nothing is deleted from the wiki"), "{ran:?}");
}

#[test]
fn persons_are_masked_for_all_but_the_data_protection_officer() {
    let demo = Demo::shared();
    for person in ["alice", "dana", "mei"] {
        for version in ["--http1.1", "--http2"] {
            let ran = ask(demo, person, &[version], "/api/people");
            let body = ran.out.split("\r\n\r\n").nth(1).unwrap();
            let people = serde_json::from_str::<Value>(body).unwrap();
            for (one, id) in people["people"].as_array().unwrap().iter().zip(1..) {
                assert_eq!(one["id"], id);
                for field in ["name", "email", "phone"] {
                    assert_eq!(one[field], format!("<masked:pii.{field}>"), "{person}");
                }
            }
            assert!(ran.out.to_lowercase().contains("cache-control: private"), "{ran:?}");
        }
        let one = ask(demo, person, &[], "/api/people/1");
        assert!(one.out.contains("<masked:pii.name>") && !one.out.contains("Achterdeck"));
    }
    let clear = ask(demo, "olaf", &[], "/api/people");
    assert!(status(&clear) == "200" && clear.out.contains(SECRET), "{clear:?}");
    // Routes without persons pass as they are.
    let articles = ask(demo, "alice", &[], "/api/articles");
    assert!(articles.out.contains("How to reach the warehouse"), "{articles:?}");
}

#[test]
fn no_way_of_asking_gets_a_masked_value() {
    let demo = Demo::shared();
    let paths = [
        "/api/../api/people",
        "/api/%2e%2e/api/people",
        "/./api/people",
        "//api/people",
        "/api//people",
        "/api/people%00",
        "/api/people%0a",
        "/API/people",
        "/api/PEOPLE",
        "/api/people/",
        "/api/%70eople",
        "/api/people;x=1",
        "/api/people%3bx",
        "/api/people?x=/static/",
        "/api/people%3fx",
        "/api/people%23x",
        "/api/people%20",
        "/api/people\\1",
        "/api/people%5c1",
        "/api/people%2f1",
        "/api/people/1/",
        "/api/people/%31",
        "/people.json",
        "/static/../people.json",
        "/static/%2e%2e/people.json",
        "/static/..%2fpeople.json",
        "/static/%252e%252e/people.json",
        "/static/..%c0%afpeople.json",
        "/static/x/../../api/people",
    ];
    let mut curl = curl(demo, "alice");
    curl.args(["--path-as-is", "-w", "\nstatus=%{http_code}\n"]);
    for path in paths {
        curl.arg(format!("{}{path}", demo.text("/targets/wiki/url")));
    }
    let ran = Ran::of(&curl.output().unwrap());
    assert_eq!(ran.out.matches("\nstatus=").count(), paths.len(), "{ran:?}");
    assert!(!ran.out.contains("status=000"), "{ran:?}");

    for words in [
        &["-H", "Range: bytes=0-200"][..],
        &["-H", "Range: bytes=40-90", "-H", "If-Range: \"x\""],
        &["-H", "If-None-Match: *"],
        &["-H", "If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT"],
        &["-H", "Accept-Encoding: gzip, br"],
        &["--compressed"],
        &["-H", "Accept: text/plain"],
        &["-X", "POST", "-H", "X-HTTP-Method-Override: GET", "-d", ""],
        &["-X", "OPTIONS"],
        &["-X", "TRACE"],
        &["-X", "get"],
        &["-X", "PROPFIND"],
        &["-I"],
        &["-H", "X-Original-URL: /people.json"],
        &["--http1.0", "--no-alpn"],
        &["--http1.1", "-H", "Connection: close, authorization"],
        &["--http1.1", "-H", "Transfer-Encoding: chunked", "-X", "GET", "-d", "x"],
    ] {
        // A write is held: that is as good as a no, and is not waited for.
        let words = [words, &["--max-time", "5"]].concat();
        let answer = ask(demo, "alice", &words, "/api/people");
        for clear in [SECRET, "Achterdeck", "23125"] {
            assert!(!ran.says(clear) && !answer.says(clear), "{words:?}: {answer:?}");
        }
        assert_ne!(status(&answer), "206", "{answer:?}");
        assert!(!answer.out.to_lowercase().contains("etag:"), "{answer:?}");
    }
}

#[test]
fn a_delete_is_refused_readably_and_never_reaches_the_server() {
    let demo = Demo::shared();
    let ran = ask(demo, "alice", &["-X", "DELETE"], "/api/articles/1?marker=deleted-1");
    assert_eq!(status(&ran), "403");
    let told = problem(&ran);
    assert!(told["detail"].as_str().unwrap().contains("nothing is deleted"), "{told}");
    assert_eq!(told["rules"][0], "wiki.no-delete");
    assert!(told["hint"].as_str().unwrap().contains("obsolete"), "{told}");
    let page = ask(
        demo,
        "alice",
        &["-X", "DELETE", "-H", "Accept: text/html"],
        "/api/articles/1?marker=deleted-1",
    );
    assert!(
        page.out.contains("<h1>This is not allowed</h1>") && page.out.contains("wiki.no-delete")
    );
    assert_eq!(reached(demo, "deleted-1"), Vec::<String>::new());
    // The session in the answer is where to look.
    let shown = demo.weir_json("alice", &["sessions", "show", told["session"].as_str().unwrap()]);
    let shown = shown.to_string();
    assert!(shown.contains("DELETE /api/articles/1?marker=deleted-1"), "{shown}");
}

#[test]
fn a_write_waits_and_runs_once_after_an_approval() {
    let demo = Demo::shared();
    let asked = put(demo, "approved-article");
    let id = demo.hold_of("approved-article");
    assert_eq!(reached(demo, "approved-article"), Vec::<String>::new());
    assert_eq!(demo.weir("dana", &["approve", &id]).status.code(), Some(0));
    let ran = finish(asked);
    assert_eq!(status(&ran), "201", "{ran:?}");
    assert!(ran.out.contains(&format!("weir-hold: {id}")), "{ran:?}");
    assert_ne!(demo.weir("dana", &["approve", &id]).status.code(), Some(0));
    assert_eq!(reached(demo, "\"PUT /api/articles/approved-article").len(), 1);
    let there = ask(demo, "alice", &[], "/api/articles/approved-article");
    assert!(there.out.contains("{\"title\":\"approved-article\"}"), "{there:?}");

    let declined = put(demo, "declined-article");
    let id = demo.hold_of("declined-article");
    let reason = ["deny", &id, "--reason", "we write nothing on Fridays"];
    assert_eq!(demo.weir("dana", &reason).status.code(), Some(0));
    let ran = finish(declined);
    assert_eq!(status(&ran), "403", "{ran:?}");
    assert!(ran.out.contains("we write nothing on Fridays"), "{ran:?}");

    let mut left = put(demo, "left-article");
    let id = demo.hold_of("left-article");
    left.kill().unwrap();
    left.wait().unwrap();
    wait_for("the hold's end", || {
        demo.waiting().iter().all(|hold| hold["hold"] != id.as_str()).then_some(())
    });
    assert_ne!(demo.weir("dana", &["approve", &id]).status.code(), Some(0));
    for marker in ["declined-article", "left-article"] {
        assert_eq!(reached(demo, marker), Vec::<String>::new());
    }
}

#[test]
fn without_a_good_token_there_is_a_401_and_nothing_else() {
    let demo = Demo::shared();
    let token = demo.token("olaf");
    let (body, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = body.split_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIn0";
    let headers = [
        "X-None: 1".to_owned(),
        "Authorization: Bearer garbage".to_owned(),
        "Authorization: Bearer".to_owned(),
        format!("Authorization: Basic {token}"),
        format!("Authorization: Bearer {body}."),
        format!("Authorization: Bearer {none}.{claims}."),
        format!("Authorization: Bearer {header}.{claims}.{}", "A".repeat(signature.len())),
        format!("Authorization: Bearer {token} {token}"),
        format!("Cookie: weir={token}"),
        format!("X-Forwarded-Access-Token: {token}"),
    ];
    for place in [demo.text("/targets/wiki/url"), demo.text("/api")] {
        let path = if place == demo.text("/api") { "/api/v1/sessions" } else { "/api/people" };
        for header in &headers {
            let mut curl = curl_without(demo);
            let ran = curl.args(["-i", "-H", header]).arg(format!("{place}{path}?at=no-sign-in"));
            let ran = Ran::of(&ran.output().unwrap());
            assert_eq!(status(&ran), "401", "{header} at {place}: {ran:?}");
            assert!(ran.out.to_lowercase().contains("www-authenticate: bearer"), "{ran:?}");
            assert!(!ran.out.contains("Achterdeck"), "{ran:?}");
        }
    }
    // A second credential beside a good one is no credential either.
    let mut twice = curl(demo, "olaf");
    twice.args(["-i", "--http1.1", "-H", "Authorization: Bearer other"]);
    let ran = twice.arg(format!("{}/api/people?at=no-sign-in", demo.text("/targets/wiki/url")));
    let ran = Ran::of(&ran.output().unwrap());
    assert!(!ran.out.contains(SECRET), "{ran:?}");
    assert_eq!(reached(demo, "no-sign-in"), Vec::<String>::new());
}

#[test]
fn names_lead_where_they_say_and_upgrades_nowhere() {
    let demo = Demo::shared();
    let wiki = demo.text("/targets/wiki/url");
    let port = demo.port();
    let at = |words: &[&str], url: &str| {
        Ran::of(&curl(demo, "alice").arg("-i").args(words).arg(url).output().unwrap())
    };
    // Another target's name than the connection is for.
    let other = format!("Host: customers.localhost:{port}");
    assert_eq!(status(&at(&["-H", &other], &format!("{wiki}/?at=host-trick"))), "421");
    let elsewhere = at(&["-H", "Host: example.com"], &format!("{wiki}/?at=host-trick"));
    assert_eq!(status(&elsewhere), "421", "{elsewhere:?}");
    for bad in ["Host: wiki.localhost:x", "Host: a b", "Host: wiki.localhost@evil", "Host:"] {
        let ran = at(&["--http1.1", "-H", bad], &format!("{wiki}/?at=host-trick"));
        assert!(["400", "421"].contains(&status(&ran)), "{bad}: {ran:?}");
    }
    // A PostgreSQL target speaks no HTTP, and the gateway's own name has its API and no target's.
    let database = at(&[], &format!("https://customers.localhost:{port}/"));
    assert_ne!(status(&database), "200", "{database:?}");
    let own = at(&[], &format!("https://localhost:{port}/api/people?at=host-trick"));
    assert_eq!(status(&own), "404", "{own:?}");
    let mut words = vec!["--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"];
    words.extend([
        "-H",
        "Sec-WebSocket-Version: 13",
        "-H",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]);
    let upgraded = at(&words, &format!("{wiki}/?at=host-trick"));
    assert_eq!(status(&upgraded), "501");
    assert!(upgraded.out.contains("upgrades to another protocol"), "{upgraded:?}");
    assert_eq!(reached(demo, "host-trick"), Vec::<String>::new());
}

#[test]
fn a_large_file_streams_whole_in_constant_memory() {
    let demo = Demo::shared();
    let resident_kib = || {
        let status = read(format!("/proc/{}/status", demo.pid()));
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident_kib();
    let mut curl = curl(demo, "alice");
    curl.args(["-N", "-o", "-", "-w", "%{stderr}%{size_download}"]);
    curl.arg(format!("{}/static/large", demo.text("/targets/wiki/url")));
    let mut child = curl.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let (mut bytes, mut peak, mut buffer) = (0_u64, before, vec![0; 1024 * 1024]);
    loop {
        let n = out.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        let (then, now) = (bytes >> 25, (bytes + u64::try_from(n).unwrap()) >> 25);
        bytes += u64::try_from(n).unwrap();
        if then != now {
            peak = peak.max(resident_kib());
        }
    }
    drop(out);
    assert_eq!(finish(child).code, 0);
    assert_eq!(bytes, 512 * 1024 * 1024);
    // Other tests use the gateway meanwhile; buffering the file would take four times as much.
    assert!(peak < before + 128 * 1024, "from {before} KiB to {peak} KiB");
}

/// A web server that answers with the head it got, and keeps every byte that reached it.
struct Echo {
    port: u16,
    seen: Arc<Mutex<String>>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(&stream.unwrap(), &kept));
            }
        });
        Self { port, seen }
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: &TcpStream, kept: &Mutex<String>) {
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
        let body = String::from_utf8(body).unwrap();
        kept.lock().unwrap().push_str(&[&head, body.as_str(), "\n"].concat());
        let location = format!("Location: http://{}/moved?x=1\r\n", stream.local_addr().unwrap());
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{}Content-Length: {}\r\n\r\n{head}",
            if head.contains("/redirect") { &location } else { "" },
            head.len()
        );
        let mut writer = stream;
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A demo whose gateway has one more target: an HTTP server at `port`, named `echo`.
fn with_echo(port: u16) -> Demo {
    let demo = Demo::start(&[]);
    let policy = r#"
@id("echo.connect")
permit (principal in Weir::Role::"engineer", action == Weir::Action::"connect",
  resource == Weir::Target::"echo");
@id("echo.run")
permit (principal in Weir::Role::"engineer", action == Weir::Action::"execute",
  resource == Weir::Target::"echo") when { ["read", "write"].containsAll(context.effects) };
"#;
    std::fs::write(Path::new(demo.text("/policy_dir")).join("echo.cedar"), policy).unwrap();
    let path = demo.text("/config_file");
    let config = format!(
        "{}\n[targets.echo]\nregion = \"eu-central\"\nowner = \"acme-de\"\n\
         provider_tokens = true\n\n\
         [targets.echo.http]\naddress = \"127.0.0.1:{port}\"\ntls = {{ mode = \"off\" }}\n",
        read(path)
    );
    std::fs::write(path, config).unwrap();
    wait_for("the new target", || {
        let mut curl = curl(&demo, "alice");
        curl.arg("-H").arg(format!("Host: echo.localhost:{}", demo.port()));
        let url = format!("{}/ready", demo.text("/api"));
        Ran::of(&curl.arg(url).output().unwrap()).out.contains("GET /ready").then_some(())
    });
    demo
}

#[test]
fn a_target_sees_no_credential_and_one_connection_has_a_session_for_each_target() {
    let echo = Echo::start();
    let demo = with_echo(echo.port);
    let port = demo.port();
    let token = demo.token("alice").to_owned();
    let (wiki_host, echo_host) =
        (format!("Host: wiki.localhost:{port}"), format!("Host: echo.localhost:{port}"));
    // The demo's certificate does not name the new target, so the connection is for the gateway.
    let own = format!("https://localhost:{port}");
    let send = |words: &[&str], path: &str| {
        let mut curl = curl(&demo, "alice");
        curl.args(["-i", "-H", &echo_host]).args(words).arg(format!("{own}{path}"));
        Ran::of(&curl.output().unwrap())
    };
    // Harmless headers arrive, the gateway's own and what lies about the request's way do not.
    let mut words = Vec::new();
    for header in [
        "X-Mine: kept",
        "Cookie: theirs=1; weir=own; __Host-weir=own",
        "Proxy-Authorization: Basic b3du",
        "X-Forwarded-For: 203.0.113.9",
        "Forwarded: for=203.0.113.9",
        "X-Forwarded-User: own-root",
        "X_Forwarded_User: own-root",
        "Remote-User: own-root",
        "Transfer_Encoding: own",
        "X-Original-URL: /own",
        "X-HTTP-Method-Override: DELETE",
        "Connection: keep-alive, X-Hop",
        "X-Hop: own",
    ] {
        words.extend(["-H", header]);
    }
    words.push("--http1.1");
    let ran = send(&words, "/seen?y=1");
    assert_eq!(status(&ran), "200", "{ran:?}");
    assert!(ran.out.contains("GET /seen?y=1 HTTP/1.1"), "{ran:?}");
    assert!(ran.out.contains("kept") && ran.out.contains("theirs=1"), "{ran:?}");
    for gone in ["own", "203.0.113.9", "DELETE", "Bearer"] {
        assert!(!echo.seen().contains(gone), "{gone} reached the target: {}", echo.seen());
    }
    // The token anywhere else is refused, or at least never passed on.
    let cookie = format!("Cookie: t={token}");
    let header = format!("X-Token: {token}");
    let form = format!("t={token}");
    send(&[], &format!("/q?access_token={token}"));
    send(&["-H", &cookie], "/cookie");
    send(&["-H", &header], "/header");
    send(&["-H", &header, "--http1.1"], "/header");
    send(&["-d", &form], "/form");
    let signature = token.rsplit('.').next().unwrap();
    assert!(!echo.seen().contains(signature), "{}", echo.seen());

    // Two requests of one HTTP/2 connection: two sessions, each with its own decision.
    let mut two = curl(&demo, "alice");
    let bearer = format!("Authorization: Bearer {token}");
    two.args(["-v", "-X", "PUT", "-d", "x", "-H", &echo_host, &format!("{own}/first-of-two")]);
    two.args(["--next", "-sS", "-v", "--cacert", demo.ca_file(), "-H", &bearer, "-H", &wiki_host]);
    two.args(["-X", "DELETE", &format!("{own}/api/articles/2?second-of-two")]);
    let ran = Ran::of(&two.output().unwrap());
    assert!(ran.err.contains("Re-using existing connection"), "{ran:?}");
    assert!(ran.out.contains("PUT /first-of-two") && ran.out.contains("nothing is deleted"));
    let opened = |marker: &str| {
        wait_for(marker, || {
            let all = demo.weir_json("alice", &["sessions", "ls"]);
            all.as_array().unwrap().iter().find_map(|session| {
                let id = session["session"].as_str().unwrap();
                let shown = demo.weir_json("alice", &["sessions", "show", id]).to_string();
                let target = session["target"].as_str().unwrap().to_owned();
                shown.contains(marker).then(|| (id.to_owned(), target, shown))
            })
        })
    };
    let (first, second) = (opened("first-of-two"), opened("second-of-two"));
    assert_ne!(first.0, second.0);
    assert_eq!((first.1.as_str(), second.1.as_str()), ("echo", "wiki"));
    assert!(!first.2.contains("second-of-two") && !second.2.contains("first-of-two"));
    assert!(first.2.contains("\"allow\"") && second.2.contains("\"deny\""));

    // A redirect to the target's own address leads back through the gateway.
    let ran = send(&["--http1.1"], "/redirect");
    let address = format!("127.0.0.1:{}", echo.port);
    let line = ran.out.lines().find(|line| line.to_lowercase().starts_with("location:"));
    assert!(line.is_some_and(|line| !line.contains(&address)), "{ran:?}");
    assert!(line.unwrap().ends_with("/moved?x=1"), "{line:?}");
}
