//! The store in a folder, and what errors of the other kinds say.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::*;

/// Answers everything alike; `None` is no answer.
#[derive(Debug)]
struct Says(Option<(u16, &'static str)>);

impl Http for Says {
    fn send(
        &self,
        _: ::http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<::http::Response<Bytes>, HttpFailed>> {
        let answer = match self.0 {
            None => Err(HttpFailed::new(Failure::Outside, "192.0.2.1")),
            Some((status, body)) => {
                Ok(::http::Response::builder().status(status).body(body.into()).unwrap())
            }
        };
        async { answer }.boxed()
    }
}

fn folder_store(path: &std::path::Path, region: &str, require: Require) -> Storage {
    let place = Place::Folder(path.to_owned());
    let options = Options { region: region.parse().unwrap(), place, require };
    Storage::open(options, Arc::new(Says(None))).unwrap()
}

fn s3(says: Option<(u16, &'static str)>) -> Storage {
    let given = || Secret::new("a test", || Ok::<_, std::io::Error>(SecretString::from("planted")));
    let place = Place::S3(S3 {
        bucket: "records".into(),
        prefix: "eu".into(),
        region: "eu-central-1".into(),
        endpoint: "https://s3.example".into(),
        path_style: true,
        located: Located::Asked,
        keys: AwsKeys { id: given(), secret: given(), token: None },
    });
    let (region, require) = ("eu-central".parse().unwrap(), Require::default());
    Storage::open(Options { region, place, require }, Arc::new(Says(says))).unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_folder_keeps_what_is_created_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = folder_store(&dir.path().join("a/store"), "eu-central", Require::default());
    let (first, other) = (name("recordings/s1/00.seg"), name("recordings/s10/00.seg"));
    assert_eq!(store.create(&first, "one".into()).await.unwrap(), Creation::Created);
    assert_eq!(store.create(&first, "one".into()).await.unwrap(), Creation::SameAlready);
    let error = store.create(&first, "two".into()).await.unwrap_err();
    assert!(matches!(error, StorageError::Conflict { .. }) && !error.is_passing(), "{error}");
    assert_eq!(store.read(&first).await.unwrap(), "one");
    store.create(&other, "three".into()).await.unwrap();

    let listed = store.list(Some(&name("recordings/s1"))).await.unwrap();
    assert_eq!(listed, [Stored { name: first.clone(), bytes: 3 }], "s10 is another folder");
    assert_eq!(store.list(None).await.unwrap().len(), 2);

    let folders = store.folders(&name("recordings")).await.unwrap();
    assert_eq!(folders, [name("recordings/s1"), name("recordings/s10")]);
    let (recordings, behind) = (name("recordings"), name("recordings/s1/00"));
    let last = store.last(&recordings, &behind).await.unwrap().unwrap();
    assert_eq!((&last.name, last.bytes), (&other, 5));
    assert_eq!(store.last(&recordings, &other).await.unwrap(), None);

    store.delete(&first).await.unwrap();
    store.delete(&first).await.unwrap();
    let error = store.read(&first).await.unwrap_err();
    assert!(matches!(error, StorageError::Missing { .. }), "{error}");
}

#[tokio::test]
async fn a_folder_of_another_region_is_found_out_and_lacks_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let report = folder_store(dir.path(), "eu-central", Require::default()).probe().await;
    assert_eq!((report.stops(), report.location), (false, Location::Here));
    assert!(!folder_store(dir.path(), "eu-central", Require::default()).probe().await.stops());
    let report = folder_store(dir.path(), "asia", Require::default()).probe().await;
    assert!(report.stops() && report.finding(FindingKind::WrongRegion).is_some(), "{report:?}");

    let require = Require { versioning: true, lock: true, lock_days_min: 30 };
    let report = folder_store(dir.path(), "eu-central", require).probe().await;
    assert!(report.stops() && report.finding(FindingKind::Lock).is_some());
    assert!(report.finding(FindingKind::Versioning).is_some());
}

#[tokio::test]
async fn an_object_beyond_the_bound_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let store = folder_store(dir.path(), "eu-central", Require::default());
    let long = vec![0; usize::try_from(OBJECT_BYTES_MAX).unwrap() + 1];
    let error = store.create(&name("long"), long.into()).await.unwrap_err();
    assert!(matches!(error, StorageError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn what_a_store_says_becomes_an_error_that_says_what_to_do() {
    const MALFORMED: &str = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2\
                             </Region></Error>";
    let n = name("a");
    let told = |says| async move { s3(says).read(&name("a")).await.unwrap_err() };
    let error = told(Some((400, MALFORMED))).await;
    assert!(error.to_string().ends_with("it says `us-west-2`"), "{error}");
    let error = told(Some((403, "<Error><Code>InvalidAccessKeyId</Code></Error>"))).await;
    assert!(matches!(error, StorageError::Denied { .. }), "{error:?}");
    let shown = format!("{error:?} {error} {}", crate::model::fault::Chain(&error));
    assert!(shown.contains("InvalidAccessKeyId") && !shown.contains("planted"), "{shown}");
    let error = told(Some((404, "<Error><Code>NoSuchBucket</Code></Error>"))).await;
    assert!(matches!(error, StorageError::NoBucket { .. }), "{error:?}");
    let error = told(Some((404, "<Error><Code>NoSuchKey</Code></Error>"))).await;
    assert!(matches!(error, StorageError::Missing { .. }), "{error:?}");
    let error = told(None).await;
    assert!(matches!(error, StorageError::Outside { .. }), "{error:?}");
    let error = s3(Some((507, ""))).create(&n, "x".into()).await.unwrap_err();
    assert!(matches!(error, StorageError::Full { .. }) && error.is_passing(), "{error:?}");
    let locked = Some((403, "<Error><Message>it is WORM protected</Message></Error>"));
    let error = s3(locked).read(&n).await.unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error:?}");
}

#[tokio::test]
async fn a_bucket_elsewhere_or_without_a_word_is_not_marked() {
    const ELSEWHERE: &str = "<LocationConstraint>us-west-2</LocationConstraint>";
    for (says, kind) in [
        (Some((200, ELSEWHERE)), FindingKind::WrongRegion),
        (Some((200, "<LocationConstraint xmlns=\"x\"/>")), FindingKind::WrongRegion),
        (Some((403, "")), FindingKind::Denied),
        (None, FindingKind::Outside),
    ] {
        let report = s3(says).probe().await;
        assert!(report.stops() && report.findings.len() == 1, "{report:?}");
        assert!(report.finding(kind).is_some(), "{report:?}");
    }
}
