//! The region's store against real ones: what is created once stays, where a bucket is and how it
//! keeps what is written is asked, outages pass, and keys are wrapped by a service.

use std::sync::Arc;

use bytes::Bytes;
use object_store::azure::AzureAccessKey;
use object_store::azure::AzureAuthorizer;
use object_store::azure::AzureCredential;
use object_store::client::HttpRequestBody;
use weir::audit::kms::AwsKms;
use weir::audit::kms::AwsKmsOptions;
use weir::audit::kms::Context;
use weir::audit::kms::KeyWrapper;
use weir::audit::kms::KmsError;
use weir::audit::storage::Azure;
use weir::audit::storage::Creation;
use weir::audit::storage::FindingKind;
use weir::audit::storage::Gcs;
use weir::audit::storage::Http;
use weir::audit::storage::Located;
use weir::audit::storage::Location;
use weir::audit::storage::Lock;
use weir::audit::storage::Name;
use weir::audit::storage::Options;
use weir::audit::storage::Place;
use weir::audit::storage::Require;
use weir::audit::storage::S3;
use weir::audit::storage::Severity;
use weir::audit::storage::Storage;
use weir::audit::storage::StorageError;

use crate::stores::ACCESS_KEY;
use crate::stores::AZURE_ACCOUNT;
use crate::stores::AZURE_KEY;
use crate::stores::Make;
use crate::stores::PLAIN;
use crate::stores::Peer;
use crate::stores::REGION;
use crate::stores::SECRET_KEY;
use crate::stores::aws_keys;
use crate::stores::block_on;
use crate::stores::given;
use crate::visitor::Visitor;

const BUCKET: &str = "records";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The store in the bucket of a peer that speaks S3.
fn s3(peer: &Peer) -> S3 {
    S3 {
        bucket: BUCKET.into(),
        prefix: "eu/central".into(),
        region: REGION.into(),
        endpoint: peer.endpoint(),
        path_style: true,
        located: Located::Asked,
        keys: aws_keys(ACCESS_KEY, SECRET_KEY),
    }
}

fn opened(place: Place, require: Require, http: Arc<dyn Http>) -> Storage {
    Storage::open(Options { region: "eu-central".parse().unwrap(), place, require }, http).unwrap()
}

fn open(peer: &Peer, place: Place) -> Storage {
    opened(place, Require::default(), peer.http(&[]))
}

/// What every store does: objects are created once, read, listed and deleted.
fn keeps_what_is_created_once(store: &Storage) {
    block_on(async {
        let report = store.probe().await;
        assert!(!report.stops(), "{report:?}");
        let first = name("recordings/s1/00000000000000000000.seg");
        let large = Bytes::from(vec![7; 5 * 1024 * 1024]);
        assert_eq!(store.create(&first, large.clone()).await.unwrap(), Creation::Created);
        assert_eq!(store.create(&first, large.clone()).await.unwrap(), Creation::SameAlready);
        let error = store.create(&first, "other".into()).await.unwrap_err();
        assert!(matches!(error, StorageError::Conflict { .. }), "{error:?}");
        assert!(store.read(&first).await.unwrap() == large, "and it is as it was");
        for other in ["recordings/s10/0.seg", "recordings/s1/1.seg", "checkpoints/weir-eu-1/7"] {
            store.create(&name(other), Bytes::from(other)).await.unwrap();
        }
        store.create(&name("empty"), Bytes::new()).await.unwrap();
        assert_eq!(store.read(&name("empty")).await.unwrap(), "");
        let listed = store.list(Some(&name("recordings/s1"))).await.unwrap();
        let listed = listed.iter().map(|stored| (stored.name.as_str(), stored.bytes));
        let expected = [(first.as_str(), 5 * 1024 * 1024), ("recordings/s1/1.seg", 19)];
        assert_eq!(listed.collect::<Vec<_>>(), expected);
        assert_eq!(store.list(None).await.unwrap().len(), 6, "and the store's own mark");
        let error = store.read(&name("recordings/s1/2.seg")).await.unwrap_err();
        assert!(matches!(error, StorageError::Missing { .. }), "{error:?}");
        store.delete(&first).await.unwrap();
        store.delete(&first).await.unwrap();
        assert!(matches!(store.read(&first).await, Err(StorageError::Missing { .. })));
        assert!(store.read(&name("recordings/s1/1.seg")).await.is_ok());
        assert!(!store.probe().await.stops());
    });
}

/// A bucket with a lock: it says so, and what is in it cannot be deleted.
fn keeps_what_is_locked(peer: &Peer, located: Located) {
    let place = || Place::S3(S3 { bucket: "locked".into(), located, ..s3(peer) });
    let require = |lock_days_min| Require { versioning: true, lock: true, lock_days_min };
    peer.locked_bucket("locked", 30);
    block_on(async {
        let store = opened(place(), require(30), peer.http(&[]));
        let report = store.probe().await;
        assert!(!report.stops(), "{report:?}");
        assert_eq!(report.versioning, Some(true));
        assert_eq!(report.lock, Some(Lock::On { firm: true, days: Some(30) }));
        let name = name("recordings/s1/0.seg");
        store.create(&name, "kept".into()).await.unwrap();
        assert_eq!(store.create(&name, "kept".into()).await.unwrap(), Creation::SameAlready);
        assert!(matches!(
            store.create(&name, "other".into()).await,
            Err(StorageError::Conflict { .. })
        ));
        let error = store.delete(&name).await.unwrap_err();
        assert!(matches!(error, StorageError::Locked { .. }), "{error:?}");
        assert_eq!(store.read(&name).await.unwrap(), "kept");
        let report = opened(place(), require(31), peer.http(&[])).probe().await;
        let lock = report.finding(FindingKind::Lock).unwrap();
        assert!(
            lock.severity == Severity::Stops && lock.what.contains("for 30 days; 31"),
            "{lock}"
        );
    });
}

/// A bucket without a lock: that is told where one is required.
fn tells_that_nothing_is_locked(peer: &Peer, located: Located) {
    let require = Require { versioning: true, lock: true, lock_days_min: 0 };
    let place = Place::S3(S3 { located, ..s3(peer) });
    let report = block_on(opened(place, require, peer.http(&[])).probe());
    assert!(report.stops(), "{report:?}");
    assert_eq!((report.versioning, report.lock), (Some(false), Some(Lock::None)));
    for kind in [FindingKind::Lock, FindingKind::Versioning] {
        assert_eq!(report.finding(kind).unwrap().severity, Severity::Stops, "{report:?}");
    }
}

/// Credentials that the store does not know, or that are wrong.
fn refuses_others(peer: &Peer, located: Located) {
    for (id, secret) in [("nobody-it-knows", SECRET_KEY), (ACCESS_KEY, "a-wrong-secret")] {
        let place = Place::S3(S3 { keys: aws_keys(id, secret), located, ..s3(peer) });
        block_on(async {
            let store = open(peer, place);
            let error = store.create(&name("a"), "x".into()).await.unwrap_err();
            assert!(matches!(error, StorageError::Denied { .. }), "{error:?}");
            let report = store.probe().await;
            assert!(report.stops() && report.findings.len() == 1, "{report:?}");
            let told = report.finding(FindingKind::Denied).unwrap().to_string();
            assert!(told.contains("docs/storage.md") && !told.contains(secret), "{told}");
        });
    }
}

#[test]
fn minio_keeps_what_is_created_once_and_what_is_locked() {
    let peer = Peer::start(Make::Minio);
    peer.bucket(BUCKET);
    keeps_what_is_created_once(&open(&peer, Place::S3(s3(&peer))));
    tells_that_nothing_is_locked(&peer, Located::Asked);
    keeps_what_is_locked(&peer, Located::Asked);
    refuses_others(&peer, Located::Asked);
}

#[test]
fn seaweedfs_keeps_what_is_created_once_and_what_is_locked() {
    let peer = Peer::start(Make::Seaweedfs);
    peer.bucket(BUCKET);
    let located = Located::Attested;
    let store = open(&peer, Place::S3(S3 { located, ..s3(&peer) }));
    keeps_what_is_created_once(&store);
    let report = block_on(store.probe());
    assert_eq!(report.location, Location::Attested(REGION.into()));
    assert_eq!(report.finding(FindingKind::Attested).unwrap().severity, Severity::Notes);
    let report = block_on(open(&peer, Place::S3(s3(&peer))).probe());
    assert!(report.finding(FindingKind::WrongRegion).is_some(), "it says nothing: {report:?}");
    tells_that_nothing_is_locked(&peer, located);
    keeps_what_is_locked(&peer, located);
    refuses_others(&peer, located);
}

#[test]
fn a_bucket_in_another_region_is_refused_and_nothing_is_written_there() {
    let peer = Peer::start(Make::Minio);
    peer.bucket(BUCKET);
    for located in [Located::Asked, Located::Attested] {
        let store = open(&peer, Place::S3(S3 { region: "us-west-2".into(), located, ..s3(&peer) }));
        let report = block_on(store.probe());
        assert!(report.stops() && report.findings.len() == 1, "{report:?}");
        let told = report.finding(FindingKind::WrongRegion).unwrap().to_string();
        assert!(told.contains("`us-west-2`") && told.contains("`eu-central-1`"), "{told}");
        let error = block_on(store.create(&name("a"), "x".into())).unwrap_err();
        assert!(matches!(error, StorageError::WrongRegion { .. }), "{error:?}");
    }
    let store = open(&peer, Place::S3(s3(&peer)));
    assert_eq!(block_on(store.list(None)).unwrap(), []);
    let report = block_on(store.probe());
    assert_eq!(report.location, Location::Said(REGION.into()));
}

#[test]
fn a_store_is_one_regions_and_is_refused_to_another() {
    let peer = Peer::start(Make::Minio);
    peer.bucket(BUCKET);
    assert!(!block_on(open(&peer, Place::S3(s3(&peer))).probe()).stops());
    let other = |prefix: &str| {
        let place = Place::S3(S3 { prefix: prefix.into(), ..s3(&peer) });
        let options =
            Options { region: "asia".parse().unwrap(), place, require: Require::default() };
        block_on(Storage::open(options, peer.http(&[])).unwrap().probe())
    };
    let report = other("eu/central");
    let told = report.finding(FindingKind::WrongRegion).unwrap().to_string();
    assert!(report.stops() && told.contains("`asia`"), "{told}");
    assert!(!other("asia").stops());
}

#[test]
fn a_store_outside_its_networks_is_not_dialled() {
    let peer = Peer::start(Make::Minio);
    peer.bucket(BUCKET);
    let store =
        |networks: &[&str]| opened(Place::S3(s3(&peer)), Require::default(), peer.http(networks));
    let outside = store(&["10.1.0.0/16", "::1/128"]);
    let error = block_on(outside.create(&name("a"), "x".into())).unwrap_err();
    assert!(matches!(error, StorageError::Outside { .. }) && !error.is_passing(), "{error:?}");
    let report = block_on(outside.probe());
    assert!(report.stops(), "{report:?}");
    let told = report.finding(FindingKind::Outside).unwrap().to_string();
    assert!(told.contains("127.0.0.1") && told.contains("declare the network"), "{told}");
    assert!(!block_on(store(&["127.0.0.0/8"]).probe()).stops());
}

#[test]
fn an_outage_is_told_passes_and_leaves_no_half_object() {
    let mut peer = Peer::start(Make::Minio);
    peer.bucket(BUCKET);
    let store = open(&peer, Place::S3(s3(&peer)));
    let first = name("recordings/s1/0.seg");
    block_on(store.create(&first, "one".into())).unwrap();
    peer.down();
    let error = block_on(store.create(&name("recordings/s1/1.seg"), "two".into())).unwrap_err();
    assert!(matches!(error, StorageError::Unreachable { .. }) && error.is_passing(), "{error:?}");
    let report = block_on(store.probe());
    assert!(!report.stops(), "an outage does not keep a gateway from starting: {report:?}");
    assert_eq!(report.finding(FindingKind::Unreachable).unwrap().severity, Severity::Warns);
    peer.up();
    assert_eq!(block_on(store.create(&first, "one".into())).unwrap(), Creation::SameAlready);
    assert_eq!(block_on(store.list(None)).unwrap().len(), 1);
    assert!(block_on(store.probe()).findings.is_empty());
}

#[test]
fn a_bucket_that_does_not_exist_is_told_and_not_made() {
    let peer = Peer::start(Make::Minio);
    let store = open(&peer, Place::S3(s3(&peer)));
    let report = block_on(store.probe());
    assert!(report.stops() && report.finding(FindingKind::Unusable).is_some(), "{report:?}");
    let error = block_on(store.create(&name("a"), "x".into())).unwrap_err();
    assert!(matches!(error, StorageError::NoBucket { .. }), "{error:?}");
}

#[test]
fn what_was_deleted_by_somebody_else_and_is_still_there_is_deleted_for_good() {
    let peer = Peer::start(Make::Minio);
    peer.bucket(BUCKET);
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(peer.s3("PUT", "records?versioning=", PLAIN, on).0, 200);
    let store = open(&peer, Place::S3(s3(&peer)));
    block_on(store.create(&name("a"), "x".into())).unwrap();
    block_on(store.create(&name("ab"), "x".into())).unwrap();
    assert_eq!(peer.s3("DELETE", "records/eu/central/a", PLAIN, "").0, 204);
    let versions = || peer.s3("GET", "records?prefix=eu&versions=", PLAIN, "").1;
    assert!(versions().contains("<DeleteMarker>"), "{}", versions());
    block_on(store.delete(&name("a"))).unwrap();
    assert!(!versions().contains("central/a<"), "{}", versions());
    assert!(versions().contains("central/ab<"), "another object stays: {}", versions());
}

#[test]
fn a_google_bucket_says_where_it_is() {
    let peer = Peer::start(Make::Gcs);
    let endpoint = peer.endpoint();
    let place = |location: &str| {
        let account = serde_json::json!({
            "private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true,
        });
        Place::Gcs(Gcs {
            bucket: BUCKET.into(),
            prefix: String::new(),
            location: location.into(),
            endpoint: endpoint.clone(),
            service_account: given(account.to_string()),
        })
    };
    let report = block_on(open(&peer, place("europe-west3")).probe());
    assert!(report.finding(FindingKind::Unusable).is_some(), "there is no bucket: {report:?}");
    let json = ["-H", "content-type: application/json", "-d", r#"{"name":"records"}"#];
    let made = Visitor::new(&[]).ask(&format!("{endpoint}/storage/v1/b?project=weir"), &json);
    assert_eq!(made.status, 200, "{made:?}");
    let report = block_on(open(&peer, place("us-central1")).probe());
    assert!(report.stops() && report.finding(FindingKind::WrongRegion).is_some(), "{report:?}");
    let report = block_on(open(&peer, place("europe-west3")).probe());
    assert_eq!(report.location, Location::Said("europe-west3".into()));
    assert_eq!((report.versioning, report.lock), (Some(false), Some(Lock::None)));
}

#[test]
fn an_azure_store_keeps_what_is_created_once_and_its_place_is_attested() {
    let peer = Peer::start(Make::Azure);
    let endpoint = format!("{}/{AZURE_ACCOUNT}", peer.endpoint());
    let place = |key: &str| {
        Place::Azure(Azure {
            account: AZURE_ACCOUNT.into(),
            container: BUCKET.into(),
            prefix: "eu".into(),
            location: "germanywestcentral".into(),
            endpoint: endpoint.clone(),
            key: given(key),
        })
    };
    let report = block_on(open(&peer, place(AZURE_KEY)).probe());
    assert!(report.finding(FindingKind::Unusable).is_some(), "no container: {report:?}");
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(AZURE_KEY).unwrap());
    let mut made = http::Request::put(format!("{endpoint}/{BUCKET}?restype=container"))
        .header("content-length", "0")
        .body(HttpRequestBody::empty())
        .unwrap();
    AzureAuthorizer::new(&credential, AZURE_ACCOUNT).try_authorize(&mut made).unwrap();
    let made = block_on(peer.http(&[]).send(made.map(|_| Bytes::new()))).unwrap();
    assert_eq!(made.status(), 201, "{made:?}");
    let store = open(&peer, place(AZURE_KEY));
    keeps_what_is_created_once(&store);
    let report = block_on(store.probe());
    assert_eq!(report.location, Location::Attested("germanywestcentral".into()));
    assert_eq!(report.lock, Some(Lock::None));
    for wrong in ["d3Jvbmc=", "planted?"] {
        let report = block_on(open(&peer, place(wrong)).probe());
        assert!(report.finding(FindingKind::Denied).is_some(), "{report:?}");
        assert!(!format!("{report:?}").contains(wrong));
    }
}

#[test]
fn a_key_service_wraps_a_key_and_unwraps_it_in_the_same_context_only() {
    let mut peer = Peer::start(Make::Kms);
    let key = peer.kms_key();
    let (endpoint, http) = (peer.endpoint(), peer.http(&[]));
    let service = |key: &str| {
        let options = AwsKmsOptions {
            endpoint: endpoint.clone(),
            region: REGION.into(),
            key: key.into(),
            keys: aws_keys("any", "any"),
        };
        AwsKms::new(options, Arc::clone(&http))
    };
    let context = |purpose: &str| Context {
        region: "eu-central".into(),
        gateway: "weir-eu-1".into(),
        purpose: purpose.into(),
    };
    let (kms, secret) = (service(&key), [42; 32]);
    let wrapped = block_on(kms.wrap(&secret, &context("recordings"))).unwrap();
    assert!(!wrapped.windows(32).any(|bytes| bytes == secret));
    assert_eq!(*block_on(kms.unwrap(&wrapped, &context("recordings"))).unwrap(), secret);
    let error = block_on(kms.unwrap(&wrapped, &context("ledger"))).unwrap_err();
    assert!(matches!(error, KmsError::OtherContext { .. }), "{error:?}");
    let mut changed = wrapped.clone();
    *changed.last_mut().unwrap() ^= 1;
    let error = block_on(kms.unwrap(&changed, &context("recordings"))).unwrap_err();
    assert!(matches!(error, KmsError::OtherContext { .. }), "{error:?}");
    let missing = service("alias/nobody-made-it");
    let error = block_on(missing.wrap(&secret, &context("recordings"))).unwrap_err();
    assert!(matches!(error, KmsError::NoKey { .. }), "{error:?}");
    peer.down();
    let error = block_on(service(&key).unwrap(&wrapped, &context("recordings"))).unwrap_err();
    assert!(matches!(error, KmsError::Unreachable { .. }), "{error:?}");
}
