//! HTTP end to end: a real gateway in memory, a client's raw bytes on one side, and an origin that
//! answers what a test tells it to on the other.

mod faults;
mod holds;
mod masks;
mod requests;
mod sessions;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use super::*;
use crate::model::target::WithoutBasis;
use crate::session::testing::World;
use crate::target::Credential;
use crate::target::HttpTarget;
use crate::target::Reach;
use crate::target::UpstreamTls;
use crate::target::http::Route;
use crate::target::http::Undeclared;

const POLICIES: &str = r#"
@id("connect") permit (principal, action == Weir::Action::"connect", resource);
@id("read") permit (principal, action == Weir::Action::"execute", resource)
  when { ["read"].containsAll(context.effects) };
@id("ask") @reason("writing needs an approval") @approvers("dba")
permit (principal, action == Weir::Action::"execute", resource)
  when { ["read", "write"].containsAll(context.effects) && context.approved };
@id("writer") permit (principal in Weir::Role::"writer", action == Weir::Action::"execute", resource)
  when { ["read", "write"].containsAll(context.effects) };
@id("no-delete") @reason("nothing is deleted here") @hint("mark it as obsolete")
forbid (principal, action == Weir::Action::"execute", resource)
  when { context.effects.contains("delete") };
@id("dpo") permit (principal in Weir::Role::"dpo", action == Weir::Action::"reveal", resource);
"#;

/// The value that must never be seen by whoever may not see it.
const SECRET: &str = "planted@secret.example";

/// What an origin answers to a request, given its text; `None` closes the connection.
type Script = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

/// A target that answers what it is told to, and keeps what it saw.
struct Site {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
}

impl Site {
    async fn start(script: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, connections) = (Arc::default(), Arc::default());
        let site = Self { port, seen: Arc::clone(&seen), connections: Arc::clone(&connections) };
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *connections.lock().unwrap() += 1;
                tokio::spawn(talk(stream, Arc::clone(&seen), Arc::clone(&script)));
            }
        });
        site
    }

    /// Everything it was asked, one request after another.
    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

async fn talk(mut stream: TcpStream, seen: Arc<Mutex<Vec<String>>>, script: Arc<Script>) {
    let mut bytes = Vec::new();
    loop {
        let Some(request) = next_message(&mut stream, &mut bytes).await else { return };
        seen.lock().unwrap().push(request.clone());
        let Some(answer) = script(&request) else { return };
        if stream.write_all(&answer).await.is_err() || !ends(&answer) {
            return;
        }
    }
}

/// Whether an answer's length is told, so that another may follow.
fn ends(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    text.contains("content-length") || text.contains("chunked") || text.contains(" 204 ")
}

/// Reads one message with a told length.
async fn next_message(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let length = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length = length.map_or(0, |length| length.trim().parse::<usize>().unwrap());
            let whole = if lower.contains("transfer-encoding: chunked") {
                body.find("0\r\n\r\n").map(|at| head.len() + 4 + at + 5)
            } else {
                (body.len() >= length).then_some(head.len() + 4 + length)
            };
            if let Some(whole) = whole {
                return Some(
                    String::from_utf8_lossy(&bytes.drain(..whole).collect::<Vec<_>>()).into(),
                );
            }
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A whole answer with a length.
#[expect(clippy::unnecessary_wraps, reason = "it is what a script gives")]
fn answer(status: &str, headers: &str, body: &str) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let length = body.len();
    write!(text, "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").unwrap();
    Some(text)
}

fn json(body: &str) -> Option<Vec<u8>> {
    answer("200 OK", "content-type: application/json\r\n", body)
}

fn people() -> String {
    format!(
        "{{\"people\": [{{\"id\": 1.0, \"email\": \"{SECRET}\"}}, {{\"id\": 2, \"email\": null}}]}}"
    )
}

/// The gateway's own name, as a test sees it.
#[derive(Debug)]
struct Own;

impl OwnName for Own {
    fn answer(
        &self,
        origin: Origin,
        request: Request<Incoming>,
    ) -> BoxFuture<'static, Response<OwnBody>> {
        let text = format!("own {} {}", request.uri().path(), origin.address);
        async move {
            Response::new(
                Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync(),
            )
        }
        .boxed()
    }
}

/// A gateway in front of `wiki`, which is an origin of a test's.
struct Stage {
    world: World,
    front: Arc<Front>,
}

impl Stage {
    async fn of(site: &Site) -> Self {
        Self::with(vec![wiki("wiki", site.port)]).await
    }

    async fn with(targets: Vec<crate::target::Options>) -> Self {
        let world = World::new(POLICIES, targets).await;
        let dialects: [Arc<dyn Dialect>; 1] = [Arc::new(Plain)];
        let front = Front::new(world.gateway(), dialects, Arc::new(Own));
        Self { world, front }
    }

    /// A connection to the gateway.
    fn connect(&self, sni: Option<&str>, alpn: Alpn) -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let (front, sni) = (Arc::clone(&self.front), sni.map(str::to_owned));
        tokio::spawn(async move {
            drop(
                front
                    .serve(
                        server,
                        Greeting::without_certificate(sni, alpn),
                        World::origin(),
                        std::future::pending(),
                    )
                    .await,
            );
        });
        client
    }

    /// Sends bytes on a connection of their own and gives everything that comes back.
    async fn raw(&self, request: &[u8]) -> String {
        let mut client = self.connect(None, Alpn::Http1);
        // What is refused early is not read to its end.
        drop(client.write_all(request).await);
        read(&mut client).await
    }

    /// Asks as somebody with roles; `more` are further headers, each with its line's end.
    async fn ask(&self, line: &str, roles: &[&str], more: &str, body: &str) -> String {
        self.raw(self.request(line, roles, more, body).as_bytes()).await
    }

    fn request(&self, line: &str, roles: &[&str], more: &str, body: &str) -> String {
        let token = self.world.token("alice", roles);
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("content-length: {}\r\n", body.len())
        };
        format!(
            "{line} HTTP/1.1\r\nhost: wiki.weir.test\r\nauthorization: Bearer {token}\r\n\
             connection: close\r\n{length}{more}\r\n{body}"
        )
    }
}

/// Everything up to the end, or what came in 10 s.
async fn read(client: &mut DuplexStream) -> String {
    let mut bytes = Vec::new();
    drop(tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut bytes)).await);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

/// A target with a classified route, an unclassified one, and others that nobody declared.
fn wiki(name: &str, port: u16) -> crate::target::Options {
    let route = |path: &str, fields: &[(&str, &str)], undeclared| Route {
        path: path.parse().unwrap(),
        fields: fields
            .iter()
            .map(|(path, holds)| (path.parse().unwrap(), (*holds).to_owned().try_into().unwrap()))
            .collect(),
        undeclared,
    };
    let credential = Credential::new("a test", || Ok::<_, std::io::Error>("Basic dGFyZ2V0".into()));
    let people = [("$.people[*].id", "clear"), ("$.people[*].email", "pii.email")];
    crate::target::Options {
        name: name.parse().unwrap(),
        region: "here".parse().unwrap(),
        owner: "acme-de".parse().unwrap(),
        laws: BTreeSet::new(),
        us_persons: None,
        labels: BTreeSet::new(),
        classes: BTreeSet::new(),
        without_basis: WithoutBasis::Refuse,
        observe: false,
        provider_tokens: true,
        reach: Reach::Http(HttpTarget {
            address: format!("127.0.0.1:{port}").parse().unwrap(),
            tls: UpstreamTls::Off,
            credential: Some(("authorization".parse().unwrap(), credential)),
            unlisted: Undeclared::Refuse,
            encoded_slash: false,
            double_slash: false,
            routes: vec![
                route("/api/people", &people, Undeclared::Refuse),
                route("/api/loose", &people, Undeclared::Clear),
                route("/open/**", &[], Undeclared::Refuse),
            ],
        }),
    }
}

/// Waits for something that comes soon.
async fn soon(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come in 5 s");
}
