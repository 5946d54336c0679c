//! What people meet, with kubectl in front and a real API server behind (`tests/parts/install.sh
//! kube`).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::net::TcpListener as Listener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::model::Declared;
use crate::model::Origin;
use crate::model::target::WithoutBasis;
use crate::protocol::http::Front;
use crate::protocol::http::Greeting;
use crate::protocol::http::OwnBody;
use crate::protocol::http::OwnName;
use crate::session::Decision;
use crate::session::testing::World;
use crate::target;
use crate::tls::Authority;
use crate::tls::KeyPair;
use crate::tls::Opening;
use crate::tls::Pem;
use crate::tls::ServerOptions;

use super::*;

const PLANTED: &str = "PLANTED-SECRET-7f3a";
/// `PLANTED-SECRET-7f3a` in base 64, but for the signs that depend on what stands around it.
const ENCODED: &str = "UExBTlRFRC1TRUNSRVQtN2Yz";

const POLICIES: &str = r#"
@id("t.connect") permit (principal, action == Weir::Action::"connect", resource);
@id("t.work") permit (principal, action == Weir::Action::"execute", resource)
when { ["read", "write", "delete", "destroy", "execute"].containsAll(context.effects) };
@id("t.admins") permit (principal in Weir::Role::"admin", action == Weir::Action::"execute", resource)
when { ["read", "write", "delete", "destroy", "execute", "grant", "define"].containsAll(context.effects) };
@id("t.destroy") @reason("deleting a namespace needs an approval") @approvers("dba")
forbid (principal, action == Weir::Action::"execute", resource)
when { context.effects.contains("destroy") } unless { context.approved };
@id("t.no-pods") @reason("pods are not deleted by hand") @hint("scale the deployment")
forbid (principal, action == Weir::Action::"execute", resource)
when { context.touches.contains("delete:pods") };
@id("t.reveal") permit (principal in Weir::Role::"admin", action == Weir::Action::"reveal", resource);
"#;

/// The test cluster; it ends with its standard input.
struct Kube {
    child: Child,
    dir: tempfile::TempDir,
    kubectl: PathBuf,
}

impl Kube {
    fn start() -> Self {
        let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parts");
        let env = Command::new(parts.join("install.sh")).arg("env").output().unwrap();
        let env = String::from_utf8(env.stdout).unwrap();
        let kubectl = env.lines().find_map(|line| line.strip_prefix("WEIR_KUBECTL=")).unwrap();
        assert!(Path::new(kubectl).exists(), "run tests/parts/install.sh kube");
        let port = Listener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(parts.join("kube/run.sh"))
            .arg(dir.path())
            .arg(port.to_string())
            .arg("--until-eof")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { child, dir, kubectl: kubectl.into() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn target(&self, name: &str, kubeconfig: &str) -> target::Options {
        let class = Declared::Class("cred.secret".parse().unwrap());
        let fields = vec![("$.data.*".parse().unwrap(), class)];
        target::Options {
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
            reach: Reach::Kubernetes(KubernetesTarget {
                kubeconfig: self.file(kubeconfig),
                context: None,
                kinds: BTreeMap::from([("secrets".parse().unwrap(), fields)]),
            }),
        }
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

#[derive(Debug)]
struct Nobody;

impl OwnName for Nobody {
    fn answer(
        &self,
        _: Origin,
        _: http::Request<Incoming>,
    ) -> BoxFuture<'static, Response<OwnBody>> {
        let empty = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
        async move { Response::new(empty) }.boxed()
    }
}

/// A gateway in front of the cluster, and people's kubeconfigs.
struct Stage {
    kube: Kube,
    world: World,
    port: u16,
}

impl Stage {
    async fn new() -> Self {
        let kube = tokio::task::spawn_blocking(Kube::start).await.unwrap();
        let targets = vec![
            kube.target("prod-cluster", "gateway.kubeconfig"),
            kube.target("by-certificate", "gateway-certificate.kubeconfig"),
        ];
        let world = World::new(POLICIES, targets).await;
        let authority = Authority::new("access").unwrap();
        fs::write(world.dir().join("access.pem"), authority.cert_pem()).unwrap();
        let names = ["prod-cluster.weir.test", "by-certificate.weir.test"];
        let leaf = authority.leaf(&names, &[]).unwrap();
        let chain = Pem::bytes(leaf.chain_pem.clone());
        let pair = KeyPair { chain, key: Pem::bytes(leaf.key_pem.as_bytes()) };
        let options = ServerOptions { certificates: vec![pair], tls12: false, access: None };
        let server = Arc::new(tls::Server::new(&options).unwrap());
        let dialect: Arc<dyn Dialect> = Arc::new(Kubernetes::new());
        let front = Front::new(world.gateway(), [dialect], Arc::new(Nobody));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (server, front) = (Arc::clone(&server), Arc::clone(&front));
                tokio::spawn(async move {
                    let deadline = Instant::now() + Duration::from_secs(5);
                    let Ok(accepted) = server.accept(stream, Opening::Direct, deadline).await
                    else {
                        return;
                    };
                    let (sni, alpn) = (accepted.sni, accepted.alpn);
                    let never = std::future::pending();
                    let serving = front.serve(
                        accepted.stream,
                        Greeting::without_certificate(sni, alpn),
                        World::origin(),
                        never,
                    );
                    drop(serving.await);
                });
            }
        });
        Self { kube, world, port }
    }

    /// Runs kubectl as somebody; what it said on both channels.
    async fn run(&self, who: (&str, &str), target: &str, args: &[&str], input: &str) -> Said {
        let (name, role) = who;
        let file = self.world.dir().join(format!("{name}-{target}.kubeconfig"));
        let token = self.world.token(name, &[role]);
        let ca = self.world.dir().join("access.pem");
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{}', \
             tls-server-name: {target}.weir.test, certificate-authority: {}}}}}]\n",
            self.port,
            ca.display()
        );
        fs::write(&file, config).unwrap();
        let mut command = Command::new(&self.kube.kubectl);
        command.arg("--kubeconfig").arg(&file).arg("--cache-dir").arg(self.world.dir().join(name));
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = input.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let output = output.await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    async fn alice(&self, args: &[&str]) -> Said {
        let said = self.run(("alice", "engineer"), "prod-cluster", args, "").await;
        assert!(!said.leaks(), "{args:?}: {said:?}");
        said
    }

    async fn alice_sends(&self, args: &[&str], input: &str) -> Said {
        let said = self.run(("alice", "engineer"), "prod-cluster", args, input).await;
        assert!(!said.leaks(), "{args:?}: {said:?}");
        said
    }

    /// A request as it is, by alice; ends with the status.
    async fn curl(&self, method: &str, path: &str, header: &str) -> Said {
        let host = "prod-cluster.weir.test";
        let mut command = tokio::process::Command::new("curl");
        command.args([
            "--silent",
            "--path-as-is",
            "--max-time",
            "10",
            "--write-out",
            "%{http_code}",
        ]);
        command.args(["--compressed", "--request", method, "--header", header]);
        command.arg("--cacert").arg(self.world.dir().join("access.pem"));
        command.arg("--resolve").arg(format!("{host}:{}:127.0.0.1", self.port));
        let token = self.world.token("alice", &["engineer"]);
        command.arg("--header").arg(format!("Authorization: Bearer {token}"));
        if method == "PATCH" {
            command.args(["--data", "[]"]);
        }
        let output = command.arg(format!("https://{host}:{}{path}", self.port)).output().await;
        let output = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    async fn dana(&self, args: &[&str]) -> Said {
        self.run(("dana", "admin"), "prod-cluster", args, "").await
    }

    fn audit(&self) -> String {
        fs::read_to_string(self.kube.file("audit.log")).unwrap()
    }
}

#[derive(Debug)]
struct Said {
    ok: bool,
    out: String,
    err: String,
}

impl Said {
    fn leaks(&self) -> bool {
        let all = format!("{}{}", self.out, self.err);
        all.contains(PLANTED) || all.contains(ENCODED)
    }

    #[track_caller]
    fn shows(&self, text: &str) -> &Self {
        assert!(self.ok && self.out.contains(text), "{text}: {self:?}");
        self
    }

    #[track_caller]
    fn refused(&self, text: &str) -> &Self {
        assert!(!self.ok && self.err.contains(text), "{text}: {self:?}");
        self
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_works_and_sees_no_secret() {
    let stage = Stage::new().await;
    reads(&stage).await;
    writes(&stage).await;
    secrets(&stage).await;
    raw(&stage).await;
    refusals(&stage).await;
    watches(&stage).await;
    holds(&stage).await;
    recorded(&stage);
}

async fn reads(stage: &Stage) {
    stage.alice(&["get", "pods", "-A"]).await.shows("web-1");
    stage.alice(&["get", "pod", "web-1", "-n", "dev", "-o", "yaml"]).await.shows("local/web:1");
    stage.alice(&["api-resources"]).await.shows("deployments");
    stage.alice(&["version"]).await.shows("Server Version");
    stage.alice(&["auth", "whoami"]).await.shows("alice").shows("weir:engineer");
    stage.alice(&["explain", "pod.spec"]).await.shows("containers");
    let certificate = stage.run(("alice", "engineer"), "by-certificate", &["auth", "whoami"], "");
    certificate.await.shows("alice");
    stage.alice(&["get", "pods", "-n", "dev", "--as", "dana"]).await.refused("Forbidden");
    let audit = stage.audit();
    assert!(audit.contains(r#""impersonatedUser":{"username":"alice""#), "the cluster saw whom?");
    let token = stage.world.token("alice", &["engineer"]);
    let head = token.split('.').next().unwrap();
    assert!(!audit.contains(head), "no token of alice's reached the cluster");
}

async fn writes(stage: &Stage) {
    let app = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: new, namespace: dev}}\ndata: {{a: {value}}}"
        )
    };
    stage.alice_sends(&["apply", "-f", "-"], &app("one")).await.shows("configmap/new created");
    stage.alice_sends(&["apply", "-f", "-"], &app("two")).await.shows("configmap/new configured");
    let server_side = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    stage.alice_sends(&server_side, &app("three")).await.shows("serverside-applied");
    stage
        .alice(&["create", "configmap", "b", "-n", "dev", "--from-literal=a=b"])
        .await
        .shows("created");
    stage
        .alice(&["create", "deployment", "d", "-n", "dev", "--image=local/web:1"])
        .await
        .shows("created");
    stage.alice(&["scale", "deployment", "d", "-n", "dev", "--replicas=2"]).await.shows("scaled");
    stage.alice(&["label", "pod", "web-1", "-n", "dev", "seen=yes"]).await.shows("labeled");
    stage.alice(&["delete", "configmap", "b", "-n", "dev"]).await.shows("deleted");
    let record = stage.world.record();
    assert!(record.contains("dev/b") && record.contains("dev/d"), "names of what protobuf creates");
}

async fn secrets(stage: &Stage) {
    let get = ["get", "secret", "db-password", "-n", "prod", "-o", "yaml"];
    let masked = stage.alice(&get).await;
    masked.shows("PG1hc2tlZDpjcmVkLnNlY3JldD4=");
    assert!(stage.dana(&get).await.leaks(), "whoever may see it, does");
    stage.alice(&["get", "secrets", "-A"]).await.shows("db-password");
    stage
        .alice(&["get", "secrets", "-A", "-o", "json"])
        .await
        .shows("PG1hc2tlZDpjcmVkLnNlY3JldD4=");
    stage.alice(&["describe", "secret", "db-password", "-n", "prod"]).await.shows("password");
    stage
        .alice(&["get", "secret", "nosuch", "-n", "prod"])
        .await
        .refused(r#"secrets "nosuch" not found"#);
    let label = ["label", "secret", "db-password", "-n", "prod", "seen=yes", "-o", "yaml"];
    stage.alice(&label).await.shows("seen");
    // What was masked is not written back.
    for args in [&["apply", "-f", "-"][..], &["replace", "-f", "-"], &["create", "-f", "-"]] {
        stage.alice_sends(args, &masked.out).await.refused("mask");
    }
    let copied = masked.out.replace("db-password", "copy");
    stage.alice_sends(&["apply", "--server-side", "-f", "-"], &copied).await.refused("mask");
    let plain = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: dev}\ndata: {a: \"<masked:cred.secret>\"}";
    stage.alice_sends(&["apply", "-f", "-"], plain).await.refused("mask");
    // A Secret of one's own is made, changed and removed as ever.
    stage
        .alice(&["create", "secret", "generic", "own", "-n", "dev", "--from-literal=a=b"])
        .await
        .shows("created");
    let own = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: own, namespace: dev}}\nstringData: {{a: {value}}}"
        )
    };
    stage.alice_sends(&["apply", "-f", "-"], &own("c")).await.shows("secret/own configured");
    stage.alice_sends(&["apply", "-f", "-"], &own("d")).await.shows("secret/own configured");
    let value =
        stage.dana(&["get", "secret", "own", "-n", "dev", "-o", "jsonpath={.data.a}"]).await;
    assert_eq!(value.out, "ZA==");
    stage.alice(&["delete", "secret", "own", "-n", "dev"]).await.shows("deleted");
    let copy = r#"[{"op":"copy","from":"/data/password","path":"/metadata/labels/x"}]"#;
    let patch = ["patch", "secret", "db-password", "-n", "prod", "--type=json", "-p", copy];
    stage.alice(&patch).await.refused("JSON Patch");
    let empty = [
        "patch",
        "secret",
        "db-password",
        "-n",
        "prod",
        "-p",
        "{}",
        "--dry-run=server",
        "-o",
        "yaml",
    ];
    stage.alice(&empty).await.shows("PG1hc2tlZDpjcmVkLnNlY3JldD4=");
    for raw in [
        "/api/v1/namespaces/prod/secrets/db-password",
        "/api/v1/namespaces/prod/secrets?watch=banana&timeoutSeconds=1",
        "/api/v1/watch/namespaces/prod/secrets?timeoutSeconds=1",
        "/api/v1/secrets?limit=1",
    ] {
        stage.alice(&["get", "--raw", raw]).await.shows("PG1hc2tlZDpjcmVkLnNlY3JldD4=");
    }
}

/// What kubectl would not send, curl does.
async fn raw(stage: &Stage) {
    let secret = "/api/v1/namespaces/prod/secrets/db-password";
    for (expected, method, path, header) in [
        ("400", "GET", "/api/v1/namespaces/prod/%73ecrets/db-password", "a: b"),
        ("400", "GET", "/api/v1/namespaces/prod/secrets%2Fdb-password", "a: b"),
        ("400", "DELETE", "/api/v1/namespaces/prod/secrets%2Fdb-password", "a: b"),
        ("400", "GET", "/api/v1//secrets", "a: b"),
        ("400", "GET", "/api/v1/secrets/", "a: b"),
        ("400", "GET", "/api/v1/./secrets", "a: b"),
        ("400", "GET", "/api/v1/pods/../secrets", "a: b"),
        ("400", "GET", "/api/v1/secrets?watch=0;watch=1", "a: b"),
        ("403", "GET", secret, "Impersonate-Group: system:masters"),
        ("403", "GET", secret, "iMPERSONATE-uSER: dana"),
        ("403", "GET", secret, "Impersonate-Extra-x: y"),
        ("501", "OPTIONS", secret, "a: b"),
        ("501", "DELETE", "/api/v1/watch/namespaces/prod/secrets/db-password", "a: b"),
        ("501", "PATCH", secret, "Content-Type: application/json-patch+json"),
        ("200", "GET", secret, "Accept: application/yaml"),
        ("200", "GET", secret, "Accept: application/vnd.kubernetes.protobuf"),
        ("200", "GET", secret, "Accept: application/cbor"),
        ("200", "GET", secret, "Accept: application/json;as=Table;v=v1;g=meta.k8s.io"),
        (
            "200",
            "GET",
            secret,
            "Accept: application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        ),
        ("200", "GET", secret, "Accept-Encoding: gzip"),
        ("200", "GET", "/api/v1/secrets?pretty=true", "Audit-ID: theirs"),
    ] {
        let said = stage.curl(method, path, header).await;
        assert!(
            !said.leaks() && said.out.ends_with(expected),
            "{method} {path} {header}: {said:?}"
        );
    }
    assert!(!stage.audit().contains("theirs"));
    stage.dana(&["get", "secret", "db-password", "-n", "prod"]).await.shows("db-password");
}

async fn refusals(stage: &Stage) {
    let no = stage.alice(&["delete", "pod", "web-1", "-n", "dev"]).await;
    no.refused("Error from server (Forbidden): pods are not deleted by hand [t.no-pods]; scale the deployment");
    stage.alice(&["exec", "-n", "dev", "web-1", "--", "id"]).await.refused("not carried");
    stage.alice(&["port-forward", "-n", "dev", "web-1", "8080"]).await.refused("");
    stage.alice(&["attach", "-n", "dev", "web-1"]).await.refused("");
    stage.alice(&["create", "token", "default", "-n", "dev"]).await.refused("not handed out");
    stage.alice(&["get", "--raw", "/api/v1/nodes/n/proxy/pods"]).await.refused("past this gateway");
    stage.alice(&["get", "--raw", "/logs"]).await.refused("");
    stage
        .alice(&["create", "clusterrole", "x", "--verb=get", "--resource=pods"])
        .await
        .refused("Forbidden");
    let there = stage.dana(&["get", "pod", "web-1", "-n", "dev"]).await;
    there.shows("web-1");
}

async fn watches(stage: &Stage) {
    let args = ["get", "secrets", "-n", "dev", "-w", "-o", "json", "--request-timeout=4s"];
    let watching = stage.alice(&args);
    let changing = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let literal = format!("--from-literal=a={PLANTED}");
        stage.dana(&["create", "secret", "generic", "seen", "-n", "dev", &literal]).await
    };
    let (watched, _) = tokio::join!(watching, changing);
    assert!(watched.out.contains("\"seen\""), "{watched:?}");
    let pods = stage.alice(&["get", "pods", "-n", "dev", "-w", "--request-timeout=2s"]).await;
    assert!(pods.out.contains("web-1"), "{pods:?}");
}

async fn holds(stage: &Stage) {
    let delete = ["delete", "namespace", "dev", "--wait=false"];
    let desk = Arc::clone(&stage.world.gateway().parts.desk);
    let answer = |decision: Decision| {
        let desk = Arc::clone(&desk);
        async move {
            loop {
                if let Some(pending) = desk.pending().first() {
                    assert!(desk.answer(&pending.hold, decision));
                    return Arc::clone(pending);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let by = World::approver("olga", &["dba"]);
    let reason = Some("not on a Friday".to_owned());
    let declined = Decision::Declined { by: Arc::clone(&by), reason };
    let (said, pending) = tokio::join!(stage.alice(&delete), answer(declined));
    said.refused("Error from server (Forbidden): olga said no: not on a Friday");
    assert_eq!(pending.command.text, "DELETE /api/v1/namespaces/dev");
    stage.dana(&["get", "namespace", "dev"]).await.shows("Active");
    let (said, _) = tokio::join!(stage.alice(&delete), answer(Decision::Approved { by }));
    said.shows("deleted");
    stage.dana(&["get", "namespace", "dev"]).await.shows("Terminating");
    // Whose client has left, its command never runs.
    let gone = ["delete", "namespace", "prod", "--wait=false", "--request-timeout=1s"];
    stage.alice(&gone).await.refused("");
    while !desk.pending().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stage.dana(&["get", "namespace", "prod"]).await.shows("Active");
}

/// Who may not see a value has none in the record either.
fn recorded(stage: &Stage) {
    let mut found = 0;
    for trail in stage.world.records() {
        if trail.lines().next().is_some_and(|first| first.contains("alice")) {
            found += 1;
            assert!(!trail.contains(PLANTED) && !trail.contains(ENCODED));
        }
    }
    assert!(found > 20, "{found} trails of alice's");
}
