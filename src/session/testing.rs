//! A whole gateway in memory and a folder, for tests of protocols: real policy, identity, audit and
//! store, one provider that answers from memory. Test code only.
//!
//! ```text
//! let world = World::new(POLICIES, vec![target]).await;   // loopback region, entity `acme-de`
//! let token = world.token("alice", &["engineer"]);        // good for an hour
//! protocol.serve(world.gateway(), stream, World::origin()).await;
//! world.record()                                          // every line of every trail
//! ```

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::ExposeSecret;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::audit;
use crate::audit::Audit;
use crate::audit::archive::Archive;
use crate::audit::keys::KeyBytes;
use crate::audit::keys::KeyRing;
use crate::audit::keys::LedgerKey;
use crate::audit::keys::WrappingKey;
use crate::audit::ocsf::Feed;
use crate::audit::recording::Seen;
use crate::audit::spool::Folders;
use crate::audit::storage;
use crate::audit::storage::Storage;
use crate::audit::told::Teller;
use crate::identity::Assertions;
use crate::identity::CertificateAsk;
use crate::identity::Certifier;
use crate::identity::CertifyError;
use crate::identity::DISCOVERY_PATH;
use crate::identity::EntityMapping;
use crate::identity::Fetch;
use crate::identity::FetchError;
use crate::identity::Identity;
use crate::identity::JWKS_PATH;
use crate::identity::LocalIssuer;
use crate::identity::LoginOptions;
use crate::identity::Logins;
use crate::identity::Memory;
use crate::identity::Options;
use crate::identity::ProviderOptions;
use crate::identity::Request;
use crate::identity::Response;
use crate::identity::RolesMapping;
use crate::identity::SignedCertificate;
pub(crate) use crate::identity::Wanted;
pub(crate) use crate::identity::ssh_certificate;
use crate::identity::ssh_certificate::SshAuthority;
use crate::model::Clock;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::clock::System;
use crate::model::digest::Digest;
use crate::model::login::Device;
use crate::model::login::Form;
use crate::model::login::Login;
use crate::model::login::Use;
use crate::model::place::PlaceMethod;
use crate::model::principal::Counters;
use crate::model::principal::Entity;
use crate::model::principal::Kind;
use crate::model::principal::Role;
use crate::model::target::WithoutBasis;
use crate::policy::GatewayFacts;
use crate::policy::Parts;
use crate::policy::Snapshot;
use crate::policy::transfer::Pack;
use crate::session::Desk;
use crate::session::Gateway;
use crate::session::Invitations;
use crate::session::Registry;
use crate::session::Version;
use crate::session::guard;
use crate::session::handoff::Handoffs;
use crate::session::hold;
use crate::store;
use crate::store::Journal;
use crate::store::Store;
use crate::target;
use crate::target::Catalogue;
use crate::target::Region;

const URL: &str = "https://id.example/realm";

/// A gateway in region `here` (DE, loopback addresses), and the provider that it believes.
pub(crate) struct World {
    gateway: Arc<Gateway>,
    issuer: LocalIssuer,
    versions: watch::Sender<Arc<Version>>,
    targets: Vec<target::Options>,
    dir: TempDir,
}

/// Signs nothing.
#[derive(Debug)]
struct NoCertifier;

impl Certifier for NoCertifier {
    fn sign(&self, _: &CertificateAsk<'_>) -> Result<SignedCertificate, CertifyError> {
        Err(CertifyError::new("this test has no authority"))
    }

    fn ca_pem(&self) -> &'static str {
        ""
    }
}

/// Reaches no store: a folder needs none.
#[derive(Debug)]
struct NoHttp;

impl storage::Http for NoHttp {
    fn send(
        &self,
        _: http::Request<bytes::Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<bytes::Bytes>, storage::HttpFailed>> {
        let none = || storage::HttpFailed::new(storage::Failure::NotConfigured, "a folder");
        async move { Err(none()) }.boxed()
    }
}

struct Web(BTreeMap<String, Value>);

impl Fetch for Web {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Response, FetchError>> {
        let body = self.0.get(url).map(ToString::to_string).unwrap_or_default();
        let status = if body.is_empty() { 404 } else { 200 };
        async move { Ok(Response { status, body: body.into() }) }.boxed()
    }

    fn send<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, FetchError>> {
        self.get(&request.url)
    }
}

impl World {
    /// A gateway with these policies in front of these targets.
    pub(crate) async fn new(policies: &str, targets: Vec<target::Options>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(System);
        let issuer = LocalIssuer::new(URL).unwrap();
        let web: Arc<dyn Fetch> = Arc::new(Web(BTreeMap::from([
            (format!("{URL}{DISCOVERY_PATH}"), issuer.discovery()),
            (format!("{URL}{JWKS_PATH}"), issuer.jwks()),
        ])));
        let mut provider = ProviderOptions::new(URL, "weir");
        provider.mapping.roles = Some(roles());
        provider.mapping.entity = Some(entity());
        let options = Options { providers: vec![provider] };
        let identity = Arc::new(Identity::new(options, &web, &clock).unwrap());
        let options = audit::Options {
            dir: dir.path().join("state"),
            gateway: "weir-test".to_owned(),
            region: "here".parse().unwrap(),
            spool_bytes_max: u64::MAX,
            level: audit::spool::Level::Process,
            keys: KeyRing::new(WrappingKey::new(KeyBytes::generate().unwrap()), vec![]).unwrap(),
            signers: vec![Arc::new(
                LedgerKey::new(KeyBytes::generate().unwrap())
                    .named("weir.test/ledger".parse().unwrap())
                    .unwrap(),
            )],
        };
        let audit = Arc::new(Audit::open(&options, Arc::clone(&clock)).unwrap());
        let place = store::Place::Sqlite(dir.path().join("weir.db"));
        let options = store::Options { gateway: "weir-test".to_owned(), place };
        let store = Store::open(&options, Arc::clone(&clock)).await.unwrap();
        let (journal, _) = Journal::start(store);
        let (versions, version) = watch::channel(compile(policies, targets.clone()));
        let parts = guard::Parts {
            audit,
            version,
            desk: Desk::new(hold::Limits::default()),
            registry: Arc::new(Registry::new(1_000)),
            journal,
            feed: Feed::default(),
            clock,
            result_bytes_max: 4_096,
            idle_max: std::time::Duration::from_hours(1),
        };
        let clock: Arc<dyn Clock> = Arc::new(System);
        let options = LoginOptions {
            region: "here".parse().unwrap(),
            credential_s: 3_600,
            ssh_certificate_s: 3_600,
            login_s_max: 7_200,
        };
        let vault = Arc::new(Memory::default());
        let logins = Logins::new(vault, identity, clock, options, &[7; 32]).unwrap();
        let key = Assertions::generate().unwrap();
        let assertions = Assertions::new("https://weir.test", &key).unwrap();
        let gateway = Arc::new(Gateway {
            name: "weir.test".to_owned(),
            url: "https://weir.test".to_owned(),
            logins: Arc::new(logins),
            certifier: Arc::new(NoCertifier),
            ssh_authority: Arc::new(
                SshAuthority::from_pkcs8(&SshAuthority::generate().unwrap()).unwrap(),
            ),
            assertions: Arc::new(assertions),
            handoffs: Handoffs::default(),
            invitations: Invitations::new(),
            parts,
        });
        Self { gateway, issuer, versions, targets, dir }
    }

    /// A target that nobody connects to in a test, which holds these classes.
    pub(crate) fn target(name: &str, classes: &[&str]) -> target::Options {
        target::Options {
            name: name.parse().unwrap(),
            region: "here".parse().unwrap(),
            owner: "acme-de".parse().unwrap(),
            laws: BTreeSet::new(),
            labels: BTreeSet::new(),
            classes: classes.iter().map(|class| class.parse().unwrap()).collect(),
            without_basis: WithoutBasis::Refuse,
            observe: false,
            provider_tokens: false,
            us_persons: None,
            reach: target::Reach::Http(target::HttpTarget {
                address: "127.0.0.1:9".parse().unwrap(),
                tls: target::UpstreamTls::Off,
                credential: None,
                unlisted: target::http::Undeclared::Refuse,
                encoded_slash: false,
                double_slash: false,
                routes: Vec::new(),
            }),
        }
    }

    pub(crate) fn gateway(&self) -> Arc<Gateway> {
        Arc::clone(&self.gateway)
    }

    /// A folder that lives as long as this.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Puts other policies in force.
    pub(crate) fn reload(&self, policies: &str) {
        self.versions.send_replace(compile(policies, self.targets.clone()));
    }

    /// A token of the provider's.
    pub(crate) fn token(&self, name: &str, roles: &[&str]) -> String {
        let now = System.now().as_second();
        let claims = json!({
            "sub": format!("u-{name}"), "aud": "weir", "preferred_username": name,
            "roles": roles, "entity": "acme-de", "iat": now, "exp": now + 3_600,
        });
        self.issuer.mint(claims.as_object().unwrap_or(&Map::new())).unwrap()
    }

    /// A login of somebody, and a session credential of it that is good for everything.
    pub(crate) async fn sign_in(&self, name: &str, roles: &[&str]) -> (Login, String) {
        let logins = &self.gateway.logins;
        let signed_in = logins.identity().verify(&self.token(name, roles)).await.unwrap();
        let device = Device { address: Self::origin().address, label: "a test".to_owned() };
        let login = logins.begin(&signed_in, device).await.unwrap();
        let issued = logins.issue(&login.id, Form::Session, Wanted::everything()).await.unwrap();
        (login, issued.secret.expose_secret().to_owned())
    }

    /// A session credential of a login that is good for one use, and perhaps at one target alone.
    pub(crate) async fn narrowed(&self, login: &Login, usage: Use, target: Option<&str>) -> String {
        let target = target.map(|target| target.parse().unwrap());
        let wanted = Wanted { uses: [usage].into(), target, host: None };
        let issued = self.gateway.logins.issue(&login.id, Form::Session, wanted).await.unwrap();
        issued.secret.expose_secret().to_owned()
    }

    /// Makes `der` a client certificate of a login, good for everything.
    pub(crate) async fn certify(&self, login: &Login, der: &[u8]) {
        let proof = (Form::Certificate, Digest::of(der));
        let wanted = Wanted::everything();
        self.gateway.logins.certified(&login.id, proof, wanted, 600).await.unwrap();
    }

    /// Somebody who approves.
    pub(crate) fn approver(name: &str, roles: &[&str]) -> Arc<Principal> {
        Arc::new(Principal {
            issuer: URL.to_owned(),
            subject: format!("u-{name}"),
            name: name.to_owned(),
            kind: Kind::Person,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            entity: None,
            residence: None,
            person: format!("u-{name}"),
            attributes: BTreeMap::new(),
            actors: Vec::new(),
        })
    }

    /// Loopback, in DE.
    pub(crate) fn origin() -> Origin {
        Origin {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            country: Some("DE".parse().unwrap()),
            method: PlaceMethod::Assumed,
        }
    }

    /// An archive in a folder, with its keys in `store`.
    pub(crate) fn archive(&self, store: Store) -> Arc<Archive> {
        let options = storage::Options {
            region: "here".parse().unwrap(),
            place: storage::Place::Folder(self.dir.path().join("store")),
            require: storage::Require::default(),
        };
        let storage = Storage::open(options, Arc::new(NoHttp)).unwrap();
        let audit = Arc::clone(&self.gateway.parts.audit);
        Arc::new(Archive::new(audit, "weir-test".to_owned(), Arc::new(storage), Arc::new(store)))
    }

    /// Every entry of every trail, open or closed, as JSON, one a line.
    pub(crate) fn record(&self) -> String {
        self.records().concat()
    }

    /// Every trail, open or closed: its entries as JSON, one a line.
    pub(crate) fn records(&self) -> Vec<String> {
        let audit = &self.gateway.parts.audit;
        let folders = audit.folders();
        let sessions = [&folders.open, &folders.closed];
        let sessions = sessions.map(|dir| Folders::sessions(dir).unwrap());
        let mut all = Vec::new();
        for session in sessions.iter().flatten() {
            let mut text = String::new();
            let mut entries = audit.spooled(*session).unwrap().unwrap();
            let mut teller = Teller::new(true);
            while let Seen::One(entry) = entries.next().unwrap() {
                if let Some(told) = teller.tell(&entry) {
                    text.push_str(&told.to_string());
                    text.push('\n');
                }
            }
            all.push(text);
        }
        all
    }

    /// How many trails are still open.
    pub(crate) fn open_trails(&self) -> usize {
        Folders::sessions(&self.gateway.parts.audit.folders().open).unwrap().len()
    }
}

fn roles() -> RolesMapping {
    let claim = "roles".to_owned().try_into().unwrap();
    RolesMapping { claim, prefix: None, rename: BTreeMap::new(), only_named: false }
}

fn entity() -> EntityMapping {
    let claim = "entity".to_owned().try_into().unwrap();
    let entities = BTreeMap::from([("acme-de".to_owned(), "acme-de".parse().unwrap())]);
    EntityMapping { claim, entities }
}

fn compile(policies: &str, targets: Vec<target::Options>) -> Arc<Version> {
    let region = Region {
        name: "here".parse().unwrap(),
        country: "DE".parse().unwrap(),
        networks: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
    };
    let catalogue = Catalogue::new([region], targets).unwrap();
    let country = || "DE".parse().unwrap();
    let snapshot = Snapshot::compile(Parts {
        policies: vec![("test.cedar".to_owned(), policies.to_owned())],
        targets: catalogue.targets().map(|target| target.facts().as_ref().clone()).collect(),
        entities: vec![Entity {
            id: "acme-de".parse().unwrap(),
            country: country(),
            role: Role::Controller,
            attributes: BTreeMap::new(),
            counters: Counters::default(),
        }],
        bases: Vec::new(),
        pack: Pack::builtin().unwrap(),
        gateway: GatewayFacts {
            id: "weir-test".to_owned(),
            region: "here".parse().unwrap(),
            country: country(),
            entity: Some("acme-de".parse().unwrap()),
            recording_country: country(),
        },
    });
    Arc::new(Version { snapshot: Arc::new(snapshot.unwrap()), catalogue: Arc::new(catalogue) })
}
