//! Stores of other makers that tests own: MinIO, SeaweedFS, a Google Cloud Storage and an Azure; and
//! a key service that speaks as AWS KMS does. Each is started by the test that needs it, can be
//! stopped and started again at its address with what it kept, and ends when it is dropped.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use object_store::aws::AwsAuthorizer;
use object_store::aws::AwsCredential;
use object_store::client::HttpRequestBody;
use secrecy::SecretString;
use weir::audit::storage::AwsKeys;
use weir::audit::storage::Http;
use weir::audit::storage::Secret;
use weir::daemon::Stores;
use weir::upstream::Configured;
use weir::upstream::Fetcher;

use crate::demo::wait_for;
use crate::parts;
use crate::visitor::Visitor;

/// The region of the stores that know one.
pub const REGION: &str = "eu-central-1";
/// Who may sign in at the stores that speak S3.
pub const ACCESS_KEY: &str = "weir-test-key";
/// With what.
pub const SECRET_KEY: &str = "a-secret-that-only-tests-know";
/// The account and key that every Azurite knows.
pub const AZURE_ACCOUNT: &str = "devstoreaccount1";
/// Documented by its makers; it opens nothing else.
pub const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A header that changes nothing.
pub const PLAIN: (&str, &str) = ("content-type", "application/xml");

/// Which make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// S3; knows regions and object lock.
    Minio,
    /// S3; knows object lock, and no region.
    Seaweedfs,
    /// Google Cloud Storage, in the location `EUROPE-WEST3`: of its two APIs the one for settings.
    Gcs,
    /// Azure Blob Storage.
    Azure,
    /// AWS KMS.
    Kms,
}

/// A store, or a key service. Dropping it ends it.
pub struct Peer {
    make: Make,
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
    region: String,
}

impl Peer {
    /// Starts one, and waits until it answers.
    pub fn start(make: Make) -> Self {
        let dir = tempfile::Builder::new().prefix("weir-store-").tempdir().unwrap();
        let port = if make == Make::Seaweedfs { low_port() } else { free_port() };
        let region = REGION.to_owned();
        let child = run(make, dir.path(), port, &region);
        let peer = Self { make, child, port, dir, region };
        peer.await_answer();
        peer
    }

    /// Stops it: nobody answers at its address.
    pub fn down(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }

    /// Starts it again at its address, with what it kept.
    pub fn up(&mut self) {
        self.down();
        self.child = run(self.make, self.dir.path(), self.port, &self.region);
        self.await_answer();
    }

    /// Starts a MinIO again at its address, with what it kept, as one of another region.
    pub fn up_in(&mut self, region: &str) {
        region.clone_into(&mut self.region);
        self.up();
    }

    /// The files in which it keeps what was given to it below a name, whether it runs or not.
    pub fn kept(&self, under: &str) -> BTreeSet<PathBuf> {
        fn walk(dir: &Path, found: &mut BTreeSet<PathBuf>) {
            for entry in fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    found.insert(path);
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(&self.dir.path().join("data").join(under), &mut found);
        found
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How the gateway would speak to it, if it may be at any of these networks (none: anywhere).
    pub fn http(&self, networks: &[&str]) -> Arc<dyn Http> {
        let networks = networks.iter().map(|net| net.parse::<IpNet>().unwrap()).collect();
        let place = Configured::new("the store", "127.0.0.1", self.port).within(networks);
        Arc::new(Stores::new([Fetcher::new(place, None)]))
    }

    /// Sends a signed request as an administrator of a store that speaks S3 would; the answer's
    /// status and body.
    pub fn s3(&self, method: &str, path: &str, header: (&str, &str), body: &str) -> (u16, String) {
        let keys = AwsCredential {
            key_id: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            token: None,
        };
        let url = format!("{}/{path}", self.endpoint());
        let request = http::Request::builder().method(method).uri(url).header(header.0, header.1);
        let mut request = request.body(HttpRequestBody::from(body.to_owned())).unwrap();
        AwsAuthorizer::new(&keys, "s3", REGION).try_authorize(&mut request, None).unwrap();
        let request = request.map(|_| Bytes::from(body.to_owned()));
        let answer = block_on(self.http(&[]).send(request)).unwrap();
        (answer.status().as_u16(), String::from_utf8(answer.into_body().to_vec()).unwrap())
    }

    /// A new bucket of a store that speaks S3, whose objects can be overwritten and deleted.
    pub fn bucket(&self, name: &str) {
        let made = self.s3("PUT", name, PLAIN, "");
        assert_eq!(made.0, 200, "{made:?}");
    }

    /// A new bucket of a store that speaks S3, whose objects are locked for a number of days.
    pub fn locked_bucket(&self, name: &str, days: u32) {
        let made = self.s3("PUT", name, ("x-amz-bucket-object-lock-enabled", "true"), "");
        assert_eq!(made.0, 200, "{made:?}");
        let rule = format!(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>\
             <DefaultRetention><Mode>COMPLIANCE</Mode><Days>{days}</Days></DefaultRetention></Rule>\
             </ObjectLockConfiguration>"
        );
        let set = self.s3("PUT", &format!("{name}?object-lock="), PLAIN, &rule);
        assert_eq!(set.0, 200, "{set:?}");
    }

    /// A new key of a key service: its id.
    pub fn kms_key(&self) -> String {
        let signed = ["-u", "any:any", "--aws-sigv4", "aws:amz:eu-central-1:kms"];
        let target = "x-amz-target: TrentService.CreateKey";
        let kind = "content-type: application/x-amz-json-1.1";
        let asked = ["-H", target, "-H", kind, "-d", "{}"];
        let made = Visitor::new(&signed).ask(&format!("{}/", self.endpoint()), &asked);
        let made = serde_json::from_str::<serde_json::Value>(&made.body).unwrap();
        made["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
    }

    fn await_answer(&self) {
        let path = match self.make {
            Make::Minio => "/minio/health/ready",
            Make::Seaweedfs => "/healthz",
            Make::Gcs => "/storage/v1/b",
            Make::Azure => "/devstoreaccount1?comp=list",
            Make::Kms => "/moto-api/",
        };
        let url = format!("{}{path}", self.endpoint());
        wait_for("the store to answer", || {
            TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            (Visitor::new(&[]).visit(&url).status < 500).then_some(())
        });
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.down();
    }
}

/// Keys for the stores that speak S3.
pub fn aws_keys(id: &'static str, secret: &'static str) -> AwsKeys {
    AwsKeys { id: given(id), secret: given(secret), token: None }
}

/// A secret that is at hand.
pub fn given(text: impl Into<String>) -> Secret {
    let text = text.into();
    let read = move || Ok::<_, std::io::Error>(SecretString::from(text.as_str()));
    Secret::new("a test", read)
}

/// Runs a future to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap().block_on(future)
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn run(make: Make, dir: &Path, port: u16, region: &str) -> Child {
    let address = format!("127.0.0.1:{port}");
    let part = match make {
        Make::Minio => parts::part("WEIR_MINIO"),
        Make::Seaweedfs => parts::part("WEIR_SEAWEEDFS"),
        Make::Gcs => parts::part("WEIR_FAKE_GCS"),
        Make::Azure => parts::part("WEIR_NODE"),
        Make::Kms => parts::part("WEIR_KMS_PYTHON"),
    };
    let data = dir.join("data");
    let mut command = parts::ending_with_us("KILL", &part);
    match make {
        Make::Minio => {
            command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
            command.env("MINIO_REGION", region).env("MINIO_BROWSER", "off").env("HOME", dir);
            command.args(["server", "--quiet", "--address", &address]).arg(&data);
        }
        Make::Seaweedfs => {
            let config = dir.join("s3.json");
            let text = format!(
                r#"{{"identities":[{{"name":"admin","credentials":[{{"accessKey":"{ACCESS_KEY}",
                "secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","List","Tagging","Write"]}}]}}"#
            );
            fs::write(&config, text).unwrap();
            fs::create_dir_all(&data).unwrap();
            command.arg("server").arg(format!("-dir={}", data.display()));
            command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=64"]);
            command.args(["-volume.max=20", "-filer", "-s3", "-master.telemetry=false"]);
            command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
            for option in ["master.port", "volume.port", "filer.port"] {
                // It takes another port for gRPC, 10,000 above.
                command.arg(format!("-{option}={}", low_port()));
            }
            command.arg(format!("-s3.port={port}"));
            command.arg(format!("-s3.config={}", config.display()));
        }
        Make::Gcs => {
            command.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string()]);
            command.args(["-backend", "filesystem", "-filesystem-root"]).arg(&data);
            command.args(["-location", "EUROPE-WEST3", "-public-host", &address]);
        }
        Make::Azure => {
            let azurite = parts::part("WEIR_AZURE_MODULES").join("azurite/dist/src/blob/main.js");
            command.arg(azurite).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
            command.args(["--skipApiVersionCheck", "--disableTelemetry", "--location"]).arg(&data);
        }
        Make::Kms => {
            command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        }
    }
    let log = File::create(dir.join("log")).unwrap();
    command.stdin(std::process::Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    parts::spawn(command)
}

/// A free port with room for another 10,000 above it.
fn low_port() -> u16 {
    loop {
        let port = 20_000 + free_port() % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok()
            && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok()
        {
            return port;
        }
    }
}
