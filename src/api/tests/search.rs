//! Listing and searching: whose sessions, with what purpose, and what of them.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

use super::Got;
use super::Site;
use super::in_url;
use crate::api::tests::opened;
use crate::audit::TrailEvent;
use crate::model::Command;
use crate::model::Effect;
use crate::model::Object;
use crate::model::Origin;
use crate::model::SessionId;
use crate::model::Verdict;
use crate::session::testing::World;
use crate::store::Collector;

/// Everybody finds their own, `dba` and `auditor` all, and only `dba` sees e-mail addresses.
const POLICIES: &str = r#"
@id("list-own") permit (principal, action == Weir::Action::"search", resource is Weir::Gateway)
when { context.own };
@id("list-all") permit (principal, action == Weir::Action::"search", resource is Weir::Gateway)
when { ["dba", "auditor"].containsAny(principal.roles) };
@id("search-own") permit (principal, action == Weir::Action::"search", resource is Weir::Target)
when { context.own };
@id("search-all") permit (principal, action == Weir::Action::"search", resource == Weir::Target::"crm")
when { ["dba", "auditor"].containsAny(principal.roles) };
@id("see") permit (principal in Weir::Role::"dba", action == Weir::Action::"reveal", resource);
@id("look") permit (principal in Weir::Role::"dba", action == Weir::Action::"replay", resource);
"#;

const NULL: Value = Value::Null;

async fn site() -> Site {
    let targets = vec![World::target("crm", &["pii.email"]), World::target("wiki", &[])];
    Site::of(World::new(POLICIES, targets).await).await
}

/// A session of somebody's in which they asked this.
async fn session(site: &Site, who: &str, target: &str, text: &str) -> SessionId {
    let opened = opened(World::approver(who, &[]), target);
    let session = opened.session;
    let mut command = Command::new("GET", text);
    command.objects.push(Object::new("path", "/api/people", Effect::Read));
    let command = TrailEvent::Command {
        number: 1,
        command: Arc::new(command),
        verdict: Verdict::Allow { rules: Vec::new() },
        observed: false,
        snapshot: None,
    };
    let mut collector = Collector::new(session, 0);
    let at = site.resources.gateway.parts.clock.now();
    collector.read(1, at, &TrailEvent::Opened(Box::new(opened)));
    collector.read(2, at, &command);
    assert!(site.resources.store.index_commands(&collector.take()).await.unwrap());
    session
}

async fn search(site: &Site, secret: &str, parameters: &[(&str, &str)]) -> Got {
    let pairs = parameters.iter().map(|(name, value)| format!("{name}={}", in_url(value)));
    let path = format!("/api/v1/sessions/search?{}", pairs.collect::<Vec<_>>().join("&"));
    site.call("GET", &path, secret, &NULL).await
}

/// The sessions of the hits.
fn found(got: &Got) -> Vec<String> {
    assert_eq!(got.status, 200, "{}", got.text);
    let answer = got.json();
    let hits = answer["hits"].as_array().unwrap().iter();
    hits.map(|hit| hit["session"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn everybody_finds_their_own_and_few_what_others_asked() {
    let site = site().await;
    let own = session(&site, "alice", "crm", "GET /api/people?of=alice").await.to_string();
    let others = session(&site, "bob", "crm", "GET /api/people?of=bob").await.to_string();
    let wiki = session(&site, "bob", "wiki", "GET /api/people?of=wiki").await.to_string();
    let (_, alice) = site.world.sign_in("alice", &["engineer"]).await;
    let (_, dana) = site.world.sign_in("dana", &["dba"]).await;
    assert_eq!(found(&search(&site, &alice, &[("q", "people")]).await), std::slice::from_ref(&own));
    // Without a purpose nobody looks at what others did.
    let without = search(&site, &dana, &[("q", "people")]).await;
    assert_eq!(without.status, 403);
    assert!(without.json()["hint"].as_str().unwrap().contains("--purpose"), "{}", without.text);
    let purpose = ("purpose", "incident 7");
    let got = search(&site, &dana, &[("q", "people"), purpose]).await;
    assert_eq!(found(&got), [others.clone(), own.clone()]);
    assert_eq!(got.json()["targets_left_out"], 1, "{wiki} is at a target that she may not search");
    let hit = &got.json()["hits"][0];
    assert_eq!((&hit["principal"], &hit["withheld"]), (&"bob".into(), &false.into()));
    assert_eq!(hit["context"]["text"], "GET /api/people?of=bob");
    assert_eq!(hit["context"]["marks"], serde_json::json!([[9, 15]]));
    let only = search(&site, &dana, &[("q", "of"), purpose, ("user", "alice")]).await;
    assert_eq!(found(&only), [own]);
    let at_wiki = search(&site, &dana, &[("q", "of"), purpose, ("target", "wiki")]).await;
    assert_eq!(found(&at_wiki), Vec::<String>::new(), "she may search her own there, and has none");
    assert_eq!(found(&search(&site, &dana, &[("q", "of"), ("own", "true")]).await).len(), 0);
    let ledger = std::fs::read_to_string(site.world.dir().join("state/ledger.jsonl")).unwrap();
    let searches = ledger.lines().filter(|line| line.contains("\"search\"")).collect::<Vec<_>>();
    assert_eq!(searches.len(), 6, "{ledger}");
    assert!(searches[1].contains("needs a purpose"), "{}", searches[1]);
    assert!(searches[2].contains("incident 7") && searches[2].contains("search-all"));
    assert!(searches[3].contains("of; user alice"), "{}", searches[3]);
}

#[tokio::test]
async fn who_may_not_see_a_class_neither_reads_nor_guesses_the_texts() {
    let site = site().await;
    let text = "GET /api/people?email=carol@example.com";
    let session = session(&site, "bob", "crm", text).await.to_string();
    let (_, auditor) = site.world.sign_in("rita", &["auditor"]).await;
    let ask =
        async |query: &str| search(&site, &auditor, &[("q", query), ("purpose", "an audit")]).await;
    let got = ask("read:path").await;
    assert_eq!(found(&got), [session]);
    let hit = &got.json()["hits"][0];
    assert_eq!((&hit["number"], &hit["withheld"]), (&1.into(), &true.into()));
    assert!(!got.text.contains("carol") && hit.get("objects").is_none(), "{}", got.text);
    // What a path is called may be a person's as well.
    for query in ["carol", "car*", "path AND carol", "\"carol example\"", "people", "api*"] {
        assert_eq!(found(&ask(query).await), Vec::<String>::new(), "{query}");
    }
    assert_eq!(found(&ask("path NOT carol").await).len(), 1, "nor by leaving it out");
    let (_, dana) = site.world.sign_in("dana", &["dba"]).await;
    let got = search(&site, &dana, &[("q", "carol"), ("purpose", "an audit")]).await;
    assert_eq!(found(&got).len(), 1);
}

#[tokio::test]
async fn a_search_is_decided_for_the_place_of_whoever_searches() {
    let site = site().await;
    session(&site, "alice", "crm", "GET /api/people").await;
    let (_, alice) = site.world.sign_in("alice", &["engineer"]).await;
    let request = Request::get("/api/v1/sessions/search?q=people&target=crm");
    let request = request.header("authorization", format!("Bearer {alice}"));
    let nowhere = Origin { country: None, ..World::origin() };
    let got = site.ask_from(request.body(Body::empty()).unwrap(), nowhere).await;
    assert_eq!(got.status, 403);
    assert!(got.text.contains("weir.residency"), "{}", got.text);
}

#[tokio::test]
async fn what_is_wrong_with_a_search_or_a_filter_is_said() {
    let site = site().await;
    let (_, alice) = site.world.sign_in("alice", &["engineer"]).await;
    for (parameters, word) in [
        (&[("q", "a AND")][..], "column 6"),
        (&[], "column 1"),
        (&[("q", "a"), ("since", "yesterday")], "is no time"),
        (&[("q", "a"), ("limit", "many")], "limit"),
        (&[("q", "a"), ("classes", "pii")], "classes"),
        (&[("q", "a"), ("protocol", "telnet")], "telnet"),
        (&[("q", "a"), ("purpose", "two\nlines")], "one line"),
    ] {
        let got = search(&site, &alice, parameters).await;
        assert_eq!(got.status, 400, "{parameters:?}");
        assert!(got.text.contains(word), "{parameters:?}: {}", got.text);
    }
    let list = site.call("GET", "/api/v1/sessions?q=a", &alice, &NULL).await;
    assert_eq!(list.status, 400);
}

#[tokio::test]
async fn sessions_are_listed_by_filters() {
    let site = site().await;
    let own = session(&site, "alice", "crm", "GET /").await.to_string();
    let others = session(&site, "bob", "wiki", "GET /").await.to_string();
    let (_, alice) = site.world.sign_in("alice", &["engineer"]).await;
    let (_, dana) = site.world.sign_in("dana", &["dba"]).await;
    let list = async |secret: &str, query: &str| {
        let got = site.call("GET", &format!("/api/v1/sessions?{query}"), secret, &NULL).await;
        assert_eq!(got.status, 200, "{}", got.text);
        let rows = got.json();
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["session"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(&alice, "").await, std::slice::from_ref(&own));
    assert_eq!(list(&alice, "user=bob").await, Vec::<String>::new());
    assert_eq!(list(&dana, "live=true&country=DE&since=1h").await, [others.clone(), own.clone()]);
    assert_eq!(list(&dana, "target=wiki").await, [others]);
    assert_eq!(list(&dana, "user=alice&protocol=http").await, [own]);
    assert_eq!(list(&dana, "own=true").await, Vec::<String>::new());
    assert_eq!(list(&dana, "denied=true").await, Vec::<String>::new());
    assert_eq!(list(&dana, "until=2020-01-01").await, Vec::<String>::new());
}
