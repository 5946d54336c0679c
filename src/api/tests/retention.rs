//! Recordings that are held, released, erased and expire, and what everybody is told of it.

use std::sync::Arc;

use jiff::ToSpan;
use serde_json::Value;
use serde_json::json;

use super::Got;
use super::Site;
use crate::api::tests::Session;
use crate::api::tests::opened;
use crate::audit::LedgerEvent;
use crate::audit::TrailEvent;
use crate::audit::archive::Shelved;
use crate::audit::entry::Volume;
use crate::audit::verify;
use crate::model::Command;
use crate::model::SessionId;
use crate::model::Verdict;
use crate::session::testing::World;
use crate::store::Collector;

const POLICIES: &str = r#"
@id("keep") permit (principal in Weir::Role::"dpo", action == Weir::Action::"administer", resource)
when { context.what == "retention" || context.what == "ledger" };
@id("look") permit (principal in Weir::Role::"dpo", action == Weir::Action::"replay", resource);
"#;

const NULL: Value = Value::Null;

/// A session of alice's that ended, recorded, in the index and in the store.
async fn session(site: &Site) -> SessionId {
    let opened = opened(World::approver("alice", &[]), "crm");
    let session = opened.session;
    let audit = Arc::clone(&site.resources.gateway.parts.audit);
    let (_, trail) = audit.admit(Session(opened.clone())).unwrap();
    let command = TrailEvent::Command {
        number: 1,
        command: Arc::new(Command::new("GET", "/api/people")),
        verdict: Verdict::Allow { rules: Vec::new() },
        observed: false,
        snapshot: None,
    };
    trail.note(&command).unwrap();
    let closed =
        TrailEvent::Closed { reason: "bye".into(), commands: 1, volume: Volume::default() };
    audit.close(&trail, &closed).unwrap();
    let mut collector = Collector::new(session, 0);
    let at = site.resources.gateway.parts.clock.now();
    let events = [TrailEvent::Opened(Box::new(opened)), command, closed];
    events.iter().zip(1..).for_each(|(event, n)| collector.read(n, at, event));
    assert!(site.resources.store.index_commands(&collector.take()).await.unwrap());
    session
}

async fn site() -> Site {
    Site::of(World::new(POLICIES, vec![World::target("crm", &[])]).await).await
}

async fn to_the_store(site: &Site) {
    assert!(site.resources.archive.round(true, |_| true).await);
}

async fn keep(site: &Site, secret: &str, session: SessionId, verb: &str) -> Got {
    let path = format!("/api/v1/sessions/{session}/{verb}");
    site.call("POST", &path, secret, &json!({ "reason": "case 7" })).await
}

fn ledger(site: &Site) -> String {
    std::fs::read_to_string(site.resources.gateway.parts.audit.ledger_path()).unwrap()
}

fn verified(site: &Site) {
    let audit = &site.resources.gateway.parts.audit;
    audit.checkpoint().unwrap();
    let mut files = ["state", "store"].map(|name| site.world.dir().join(name)).to_vec();
    // All of the store's may be erased, and a folder with nothing of a record is none.
    let recordings = files[1].join("recordings");
    if recordings.read_dir().map_or(true, |mut folder| folder.next().is_none()) {
        files.truncate(1);
    }
    let options = verify::Options { files, ..verify::Options::default() };
    let report = verify::verify(&options, &mut |_| {}).unwrap();
    assert!(report.sound, "{:?}", report.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_under_hold_is_not_erased_and_one_that_is_erased_stays_proven() {
    let site = site().await;
    let (one, other) = (session(&site).await, session(&site).await);
    to_the_store(&site).await;
    let (_, alice) = site.world.sign_in("alice", &["engineer"]).await;
    let (_, olaf) = site.world.sign_in("olaf", &["dpo"]).await;
    assert_eq!(keep(&site, &alice, one, "erase").await.status, 403);
    let path = format!("/api/v1/sessions/{one}/erase");
    assert_eq!(site.call("POST", &path, &olaf, &NULL).await.status, 400, "it needs a reason");

    assert_eq!(keep(&site, &olaf, one, "hold").await.status, 200);
    let refused = keep(&site, &olaf, one, "erase").await;
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("legal hold of olaf"), "{}", refused.text);
    let later = site.resources.gateway.parts.clock.now() + 1.hour();
    let (store, archive) = (&site.resources.store, &site.resources.archive);
    assert_eq!(store.expire(archive, later, 30).await.unwrap(), 1, "the one that is not held");
    assert_eq!(keep(&site, &olaf, one, "release").await.status, 200);
    let erased = keep(&site, &olaf, one, "erase").await;
    assert_eq!(erased.status, 200, "{}", erased.text);
    assert_eq!(erased.json()["erased"], true);
    // There is nothing left to be kept.
    let late = keep(&site, &olaf, one, "hold").await;
    assert!(late.status == 403 && late.text.contains("was erased at"), "{}", late.text);

    for (session, why) in [(one, "by olaf: case 7"), (other, "kept for 30 days")] {
        let path = format!("/api/v1/sessions/{session}?purpose=look");
        let shown = site.call("GET", &path, &olaf, &NULL).await;
        assert_eq!(shown.status, 404);
        assert!(shown.text.contains(why), "{}", shown.text);
        let row = store.session(session).await.unwrap().unwrap();
        assert!(row.erased_at.is_some());
        assert_eq!(store.index_cursor(session).await.unwrap(), None, "nor is it indexed again");
    }
    // By whom and why is not for everybody who has the id.
    let shown = site.call("GET", &format!("/api/v1/sessions/{one}"), &alice, &NULL).await;
    assert!(shown.status == 404 && !shown.text.contains("olaf"), "{}", shown.text);
    let ledger = ledger(&site);
    for is in ["legal-hold", "legal-hold-lifted", "erased", "expired"] {
        assert_eq!(ledger.matches(&format!("\"is\":\"{is}\"")).count(), 1, "{is}");
    }
    assert_eq!(store.expire(archive, later, 30).await.unwrap(), 0, "nothing is left to expire");
    verified(&site);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_spool_alone_is_erased_as_well() {
    let site = site().await;
    let session = session(&site).await;
    let (_, olaf) = site.world.sign_in("olaf", &["dpo"]).await;
    let erased = keep(&site, &olaf, session, "erase").await;
    assert_eq!((erased.status.as_u16(), &erased.json()["erased"]), (200, &json!(true)));
    let audit = &site.resources.gateway.parts.audit;
    assert!(audit.closed_trails().unwrap().is_empty());
    to_the_store(&site).await;
    let shown = site.call("GET", &format!("/api/v1/sessions/{session}"), &olaf, &NULL).await;
    assert!(shown.text.contains("erased on"), "{}", shown.text);
    verified(&site);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_done_though_whoever_asked_has_gone() {
    let site = site().await;
    let session = session(&site).await;
    let (_, olaf) = site.world.sign_in("olaf", &["dpo"]).await;
    let archive = &site.resources.archive;
    let others = archive.alone().await;
    let mut asked = Box::pin(keep(&site, &olaf, session, "erase"));
    while !ledger(&site).contains("\"action\":\"erase\"") {
        tokio::select! {
            got = &mut asked => panic!("it was not waited for: {}", got.text),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(asked);
    drop(others);
    let shelved = || archive.shelf().find(session);
    while !matches!(shelved().await.unwrap(), Some(Shelved::Destroyed { .. })) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ledger_says_to_be_erased_is_erased_after_the_next_start() {
    let site = site().await;
    let (one, held) = (session(&site).await, session(&site).await);
    to_the_store(&site).await;
    let (store, archive) = (&site.resources.store, &site.resources.archive);
    let by = World::approver("olaf", &["dpo"]);
    // The gateway was killed behind its entries; then somebody held one of them.
    for session in [one, held] {
        let (by, reason) = (Arc::clone(&by), "case 7".to_owned());
        archive.audit().record(&LedgerEvent::Erased { session, by, reason }).unwrap();
    }
    store.hold(archive, held, (&by, "case 8")).await.unwrap();
    assert_eq!(store.finish_erasures(archive).await.unwrap(), 1);
    assert!(matches!(
        archive.shelf().find(one).await.unwrap(),
        Some(Shelved::Destroyed { reason, .. }) if reason == "case 7"
    ));
    assert!(store.session(one).await.unwrap().is_none_or(|row| row.erased_at.is_some()));
    assert!(matches!(archive.shelf().find(held).await.unwrap(), Some(Shelved::Key(_))));
    assert_eq!(store.finish_erasures(archive).await.unwrap(), 0, "nothing is left");
    assert_eq!(ledger(&site).matches("\"is\":\"erased\"").count(), 2, "it is said once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_listed_and_exported_for_a_purpose() {
    let site = site().await;
    let session = session(&site).await;
    let (_, alice) = site.world.sign_in("alice", &["engineer"]).await;
    let (_, olaf) = site.world.sign_in("olaf", &["dpo"]).await;
    let list = format!("/api/v1/ledger?session={session}");
    assert_eq!(site.call("GET", &list, &olaf, &NULL).await.status, 403, "for no purpose");
    let list = format!("{list}&purpose=audit");
    assert_eq!(site.call("GET", &list, &alice, &NULL).await.status, 403);
    let got = site.call("GET", &list, &olaf, &NULL).await;
    let entries = got.json()["entries"].as_array().unwrap().clone();
    let kinds = entries.iter().map(|entry| entry["event"]["is"].as_str().unwrap());
    assert_eq!(kinds.collect::<Vec<_>>(), ["trail-closed", "admitted"]);

    let export = "/api/v1/ledger/export?framework=raw&purpose=audit";
    let got = site.call("GET", export, &olaf, &NULL).await.json();
    let rows = got["rows"].as_array().unwrap();
    let upto = got["upto"].as_u64().unwrap();
    assert_eq!(u64::try_from(rows.len()).unwrap(), upto);
    assert_eq!(got["statement"]["checkpointed"], upto, "all of it is counted");
    assert!(rows.last().unwrap().as_str().unwrap().contains("ledger-export"), "with itself");
    // The next page is of the same entries.
    let next = format!("{export}&upto={upto}&after={}", upto - 1);
    let got = site.call("GET", &next, &olaf, &NULL).await.json();
    assert_eq!((got["rows"].as_array().unwrap().len(), &got["after"]), (1, &NULL));

    let status = site.call("GET", "/api/v1/audit/status", &olaf, &NULL).await.json();
    assert_eq!((&status["level"], &status["index"]["sessions"]), (&json!("process"), &json!(0)));
    assert_eq!(status["wrapping_keys"].as_array().unwrap().len(), 1);
}
