//! The archive over a folder: what goes there, what does not, and what is found there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::*;
use crate::audit::Trail;
use crate::audit::keys::WrappedKey;
use crate::audit::spool::Folders;
use crate::audit::storage;
use crate::audit::tests::ended;
use crate::audit::tests::open;
use crate::audit::tests::written;

/// Keeps keys in memory.
#[derive(Debug, Default)]
struct Keys(Mutex<BTreeMap<SessionId, WrappedKey>>);

impl Shelf for Keys {
    fn put<'a>(
        &'a self,
        session: SessionId,
        key: &'a WrappedKey,
    ) -> BoxFuture<'a, Result<(), ShelfError>> {
        self.0.lock().unwrap().insert(session, key.clone());
        async { Ok(()) }.boxed()
    }

    fn find(&self, session: SessionId) -> BoxFuture<'_, Result<Option<Shelved>, ShelfError>> {
        let found = self.0.lock().unwrap().get(&session).cloned().map(Shelved::Key);
        async { Ok(found) }.boxed()
    }

    fn destroy<'a>(
        &'a self,
        session: SessionId,
        _by: &'a str,
        _reason: &'a str,
    ) -> BoxFuture<'a, Result<bool, ShelfError>> {
        let destroyed = self.0.lock().unwrap().remove(&session).is_some();
        async move { Ok(destroyed) }.boxed()
    }

    fn list(
        &self,
        _after: Option<SessionId>,
        _limit: u32,
    ) -> BoxFuture<'_, Result<Vec<SessionId>, ShelfError>> {
        let all = self.0.lock().unwrap().keys().copied().collect();
        async { Ok(all) }.boxed()
    }
}

#[derive(Debug)]
struct NoHttp;

impl storage::Http for NoHttp {
    fn send(
        &self,
        _: ::http::Request<bytes::Bytes>,
    ) -> BoxFuture<'_, Result<::http::Response<bytes::Bytes>, storage::HttpFailed>> {
        panic!("a folder is asked by nobody's network")
    }
}

fn archive(dir: &Path, audit: Audit) -> Archive {
    let options = storage::Options {
        region: "eu".parse().unwrap(),
        place: storage::Place::Folder(dir.join("store")),
        require: storage::Require::default(),
    };
    let storage = Arc::new(Storage::open(options, Arc::new(NoHttp)).unwrap());
    Archive::new(Arc::new(audit), "gw-1".into(), storage, Arc::<Keys>::default())
}

/// An archive of two sessions that ended and one that runs; nothing was sent yet.
fn begun(dir: &Path) -> (Archive, Arc<Trail>) {
    let (audit, trail) = written(dir);
    audit.checkpoint().unwrap();
    (archive(dir, audit), trail)
}

/// Every object of the store but its mark, with its bytes.
fn objects(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let (store, mut found) = (dir.join("store"), Vec::new());
    walk(&store, &mut found);
    let named = found.into_iter().filter(|path| !path.ends_with("weir-store")).map(|path| {
        let name = path.strip_prefix(&store).unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    });
    named.collect()
}

/// The mark can be neither read nor written now.
fn silence(mark: &Path) {
    let _maybe_none = fs::remove_file(mark);
    std::os::unix::fs::symlink(mark, mark).unwrap();
}

/// Puts an object there, as somebody else would, or as an upload whose answer was lost.
fn put(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join("store").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn segment(session: SessionId, first: usize) -> String {
    format!("recordings/{session}/{first:020}.seg")
}

fn closed(dir: &Path) -> Vec<SessionId> {
    Folders::sessions(&Folders::of(dir).closed).unwrap().into_iter().collect()
}

fn ledger(dir: &Path) -> String {
    fs::read_to_string(dir.join("ledger.jsonl")).unwrap()
}

#[tokio::test]
async fn nothing_goes_to_a_store_that_is_elsewhere_and_silence_lifts_no_bar() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, trail) = begun(dir.path());
    assert!(archive.round(true, |_| true).await);
    let there = objects(dir.path());
    let mark = dir.path().join("store/weir-store");
    let ours = fs::read(&mark).unwrap();

    fs::write(&mark, "weir store 1\nregion us\n").unwrap();
    archive.ask().await;
    assert!(archive.audit().barred().unwrap().contains("another region"));
    trail.append(&ended(3)).unwrap();
    archive.audit().checkpoint().unwrap();
    assert!(!archive.round(true, |_| true).await);
    assert_eq!(objects(dir.path()), there, "nothing more is there");
    assert!(archive.health().error.unwrap().contains("another region"));
    assert!(ledger(dir.path()).contains("\"barred\":true"));

    // It says nothing now: it may still be elsewhere.
    silence(&mark);
    assert!(!archive.ask().await.is_whole());
    assert!(archive.audit().barred().is_some());
    assert!(!archive.round(true, |_| true).await);
    assert_eq!(objects(dir.path()), there, "nothing more is there");

    fs::remove_file(&mark).unwrap();
    fs::write(&mark, ours).unwrap();
    archive.ask().await;
    assert_eq!(archive.audit().barred(), None);
    assert!(archive.round(true, |_| true).await);
    assert!(objects(dir.path()).len() > there.len());
}

#[tokio::test]
async fn after_an_outage_the_store_is_asked_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, _trail) = begun(dir.path());
    let mark = dir.path().join("store/weir-store");
    // At the start it does not answer.
    silence(&mark);
    assert!(!archive.ask().await.stops());
    assert_eq!(archive.audit().barred(), None, "sessions go on");
    assert!(!archive.round(true, |_| true).await);
    // It is another one when it does.
    fs::remove_file(&mark).unwrap();
    fs::write(&mark, "weir store 1\nregion us\n").unwrap();
    assert!(!archive.round(true, |_| true).await);
    assert!(archive.audit().barred().is_some());
    assert_eq!(objects(dir.path()), BTreeMap::new());
}

#[tokio::test]
async fn an_upload_whose_answer_was_lost_is_found_there_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, trail) = begun(dir.path());
    let session = trail.session();
    assert!(archive.round(true, |_| true).await);
    let path = spool::recording_of(&Folders::of(dir.path()).open, session);
    let sent = fs::read(&path).unwrap().len();
    // The store has the next segment, and nobody was told; then the recording grows.
    trail.append(&ended(3)).unwrap();
    archive.audit().flush();
    put(dir.path(), &segment(session, sent), &fs::read(&path).unwrap()[sent..]);
    trail.append(&ended(4)).unwrap();
    archive.round(true, |_| true).await;
    archive.round(true, |_| true).await;
    let whole = fs::read(&path).unwrap();
    let segments = objects(dir.path()).into_iter();
    let segments = segments.filter(|(name, _)| name.contains(&session.to_string()));
    assert_eq!(segments.flat_map(|(_, bytes)| bytes).collect::<Vec<_>>(), whole);
    assert_eq!(archive.health().stuck, []);
}

#[tokio::test]
async fn a_recording_that_cannot_be_sent_keeps_no_other_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, trail) = begun(dir.path());
    let (lost, other) = (closed(dir.path())[0], closed(dir.path())[1]);
    fs::write(spool::key_of(&Folders::of(dir.path()).closed, lost), "").unwrap();
    assert!(archive.round(true, |_| true).await, "the store takes what it is given");
    let there = objects(dir.path());
    for session in [lost, other, trail.session()] {
        assert!(there.contains_key(&segment(session, 0)), "{session}: {:?}", there.keys());
    }
    assert!(there.keys().any(|name| name.starts_with("ledger/")), "{:?}", there.keys());
    assert_eq!(closed(dir.path()), [lost], "it stays, the other is let go");
    let stuck = archive.health().stuck;
    assert_eq!((stuck.len(), stuck[0].session), (1, lost));
    let path = spool::recording_of(&Folders::of(dir.path()).closed, lost);
    assert!(stuck[0].why.contains(path.to_str().unwrap()), "{}", stuck[0].why);
    assert!(ledger(dir.path()).contains(&format!("the recording of session {lost}")));
}

#[tokio::test]
async fn a_recording_is_let_go_only_if_the_store_has_the_very_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, _trail) = begun(dir.path());
    let (forged, cut) = (closed(dir.path())[0], closed(dir.path())[1]);
    let here = |session| fs::read(spool::recording_of(&Folders::of(dir.path()).closed, session));
    // Of the same length; and longer than what is here.
    let (mut other, mut longer) = (here(forged).unwrap(), here(cut).unwrap());
    *other.last_mut().unwrap() ^= 1;
    put(dir.path(), &segment(forged, 0), &other);
    longer.push(7);
    put(dir.path(), &segment(cut, 0), &longer);
    for _ in 0..2 {
        archive.round(true, |_| true).await;
    }
    assert_eq!(closed(dir.path()), [forged, cut]);
    assert!(!ledger(dir.path()).contains("\"stored\""));
    let stuck = archive.health().stuck;
    assert!(stuck.iter().all(|stuck| stuck.why.contains("somebody else")), "{stuck:?}");
    assert_eq!(stuck.len(), 2);
}

#[tokio::test]
async fn a_ledger_goes_on_where_the_store_has_it_and_not_behind_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let (first, trail) = begun(dir.path());
    assert!(first.round(true, |_| true).await);
    drop((first, trail));
    // An upload whose answer was lost with the process; then the ledger grows.
    let audit = open(dir.path()).unwrap();
    let had = objects(dir.path()).into_iter().filter(|(name, _)| name.starts_with("ledger/"));
    let had = had.flat_map(|(_, bytes)| bytes).collect::<Vec<_>>();
    let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().count();
    let text = fs::read(dir.path().join("ledger.jsonl")).unwrap();
    let (next, end) = (lines(&had) + 1, lines(&text));
    assert!(next <= end);
    let name = format!("ledger/gw-1/{next:020}-{end:020}.jsonl");
    put(dir.path(), &name, &text[had.len()..]);
    audit.record(&LedgerEvent::Stopped { reason: "test".into() }).unwrap();
    audit.checkpoint().unwrap();
    let second = archive(dir.path(), audit);
    assert!(second.round(true, |_| true).await);
    let all = objects(dir.path()).into_iter().filter(|(name, _)| name.starts_with("ledger/"));
    let all = all.flat_map(|(_, bytes)| bytes).collect::<Vec<_>>();
    let now = fs::read(dir.path().join("ledger.jsonl")).unwrap();
    assert!(all.len() > had.len() && now.starts_with(&all), "every entry is there once");

    // What somebody else wrote is not gone on behind.
    let last = objects(dir.path()).into_keys().rfind(|name| name.starts_with("ledger/")).unwrap();
    put(dir.path(), &last, b"{}\n");
    second.audit().record(&LedgerEvent::Stopped { reason: "again".into() }).unwrap();
    second.audit().checkpoint().unwrap();
    let third = archive(dir.path(), drop_and_open(second, dir.path()));
    assert!(!third.round(true, |_| true).await);
    assert!(third.health().error.unwrap().contains(&last));
}

fn drop_and_open(archive: Archive, dir: &Path) -> Audit {
    drop(archive);
    open(dir).unwrap()
}

#[tokio::test]
async fn what_the_ledger_says_to_be_erased_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, _trail) = begun(dir.path());
    let session = closed(dir.path())[0];
    archive.audit().record(&LedgerEvent::Expired { session, kept_days: 7 }).unwrap();
    let told = archive.told_erased().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].session, told[0].by.as_str()), (session, "retention"));
    let mut erasing = archive.erasing().await;
    erasing.destroy(&told[0]).await.unwrap();
    assert!(!closed(dir.path()).contains(&session));
}
