//! Looking at recordings: whose, what of them, and how much at once.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use serde_json::json;

use super::Got;
use super::Site;
use crate::api::Caller;
use crate::api::look::Look;
use crate::api::look::Sight;
use crate::api::purpose::Purpose;
use crate::api::tests::Session;
use crate::api::tests::opened;
use crate::audit::TrailEvent;
use crate::audit::entry::Ending;
use crate::audit::entry::Opened;
use crate::audit::entry::Volume;
use crate::audit::recording::Stream;
use crate::audit::spool;
use crate::identity::Verified;
use crate::model::Command;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::SessionId;
use crate::model::Verdict;
use crate::model::principal::Actor;
use crate::model::principal::Kind;
use crate::session::testing::World;
use crate::store::Collector;

/// Everybody sees their own, `dba` and `auditor` all; `dba` sees e-mail addresses.
const POLICIES: &str = r#"
@id("own") permit (principal, action == Weir::Action::"replay", resource) when { context.own };
@id("all") permit (principal, action == Weir::Action::"replay", resource)
when { ["dba", "auditor"].containsAny(principal.roles) };
@id("see") permit (principal in Weir::Role::"dba", action == Weir::Action::"reveal", resource);
@id("find") permit (principal, action == Weir::Action::"search", resource) when { context.own };
@id("read") permit (principal, action == Weir::Action::"administer", resource)
when { principal.roles.contains("auditor") && context.what == "ledger" };
"#;

const NULL: Value = Value::Null;

async fn site() -> Site {
    Site::of(World::new(POLICIES, vec![World::target("crm", &["pii.email"])]).await).await
}

fn command(number: u64, text: &str) -> TrailEvent {
    TrailEvent::Command {
        number,
        command: Arc::new(Command::new("GET", text)),
        verdict: Verdict::Allow { rules: Vec::new() },
        observed: false,
        snapshot: None,
    }
}

fn masks(shows_email: bool) -> TrailEvent {
    let email = "pii.email".parse().unwrap();
    let (shown, hidden) = if shows_email {
        ([email].into(), std::collections::BTreeMap::new())
    } else {
        (std::collections::BTreeSet::new(), [(email, Vec::new())].into())
    };
    TrailEvent::Masks { shown, hidden, observed: false }
}

/// A recording of these events; each command shows `data`.
async fn recorded(site: &Site, opened: Opened, events: &[TrailEvent], data: &[u8]) -> SessionId {
    let session = opened.session;
    let audit = Arc::clone(&site.resources.gateway.parts.audit);
    let (_, trail) = audit.admit(Session(opened.clone())).unwrap();
    for event in events {
        trail.append(event).unwrap();
        if let TrailEvent::Command { number, .. } = event {
            for part in data.chunks(1024 * 1024) {
                trail.data(*number, Stream::Output, part).unwrap();
            }
            let (ending, volume) = (Ending::Done { status: "200".into() }, Volume::default());
            let (number, result_cut, sent_cut) = (*number, false, false);
            let sent_bytes = 0;
            let ended =
                TrailEvent::Ended { number, ending, volume, sent_bytes, result_cut, sent_cut };
            trail.append(&ended).unwrap();
        }
    }
    let closed =
        TrailEvent::Closed { reason: "bye".into(), commands: 1, volume: Volume::default() };
    audit.close(&trail, &closed).unwrap();
    let mut collector = Collector::new(session, 0);
    let at = site.resources.gateway.parts.clock.now();
    collector.read(1, at, &TrailEvent::Opened(Box::new(opened)));
    assert!(site.resources.store.index_commands(&collector.take()).await.unwrap());
    session
}

async fn show(site: &Site, secret: &str, session: SessionId, purpose: &str) -> Got {
    let path = format!("/api/v1/sessions/{session}?purpose={purpose}");
    site.call("GET", &path, secret, &NULL).await
}

/// The lines of a stream.
async fn stream(site: &Site, secret: &str, session: SessionId, purpose: &str) -> Vec<Value> {
    let path = format!("/api/v1/sessions/{session}/stream?purpose={purpose}");
    let got = site.call("GET", &path, secret, &NULL).await;
    assert_eq!(got.status, 200, "{}", got.text);
    got.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn agent_of(person: &Principal) -> Arc<Principal> {
    let (issuer, subject, name) = (person.issuer.clone(), "bot".to_owned(), "bot".to_owned());
    let actors = vec![Actor { issuer, subject, name }];
    Arc::new(Principal { kind: Kind::Agent, actors, ..person.clone() })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_session_is_somebody_elses_for_its_person() {
    let site = site().await;
    let alice = World::approver("alice", &[]);
    let own = recorded(&site, opened(Arc::clone(&alice), "crm"), &[command(1, "/own")], b"").await;
    let bots = recorded(&site, opened(agent_of(&alice), "crm"), &[command(1, "/bot")], b"").await;
    let (_, engineer) = site.world.sign_in("alice", &["engineer"]).await;
    assert_eq!(show(&site, &engineer, own, "").await.status, 200);
    assert_eq!(show(&site, &engineer, bots, "look").await.status, 403);
    let (_, dba) = site.world.sign_in("alice", &["dba"]).await;
    let without = show(&site, &dba, bots, "").await;
    assert!(without.status == 403 && without.text.contains("purpose"), "{}", without.text);
    assert_eq!(show(&site, &dba, bots, "look").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_may_not_see_any_more_is_left_out_of_ones_own() {
    let site = site().await;
    let alice = World::approver("alice", &[]);
    let secret_data = b"carol@example.com";
    let shown = [masks(false), command(1, "/first"), masks(true), command(2, "/second")];
    let session = recorded(&site, opened(Arc::clone(&alice), "crm"), &shown, secret_data).await;
    let masked = [masks(false), command(1, "/masked")];
    let masked = recorded(&site, opened(Arc::clone(&alice), "crm"), &masked, b"<masked>").await;
    let observed = Opened { observe: true, ..opened(alice, "crm") };
    let observed = recorded(&site, observed, &[command(1, "/seen")], secret_data).await;
    let (_, dba) = site.world.sign_in("alice", &["dba"]).await;
    let (_, engineer) = site.world.sign_in("alice", &["engineer"]).await;

    let got = show(&site, &dba, session, "").await;
    assert_eq!(
        (got.text.matches("carol@").count(), &got.json()["results_withheld"]),
        (2, &json!(false))
    );
    // She lost the role: what she was shown under it is hidden, what she asked is not.
    let got = show(&site, &engineer, session, "").await;
    assert_eq!(
        (got.text.matches("carol@").count(), &got.json()["results_withheld"]),
        (1, &json!(true))
    );
    assert!(got.text.contains("/second"), "{}", got.text);
    let got = show(&site, &engineer, masked, "").await;
    assert!(got.text.contains("<masked>") && got.json()["results_withheld"] == false);
    let got = show(&site, &engineer, observed, "").await;
    assert!(!got.text.contains("carol@") && got.json()["results_withheld"] == true);

    let lines = stream(&site, &engineer, session, "").await;
    let data = |line: &Value| line["data"].is_object();
    assert_eq!(lines.iter().filter(|line| data(line)).count(), 1);
    let said = lines.iter().position(|line| line["results_withheld"] == true).unwrap();
    assert!(lines[..said].iter().any(data) && !lines[said..].iter().any(data), "{lines:?}");
    assert_eq!(lines.last().unwrap()["end"], "complete");
    let lines = stream(&site, &engineer, observed, "").await;
    assert!(lines[0]["results_withheld"] == true && !lines.iter().any(data), "{lines:?}");
    assert_eq!(stream(&site, &dba, session, "").await.iter().filter(|line| data(line)).count(), 2);
}

#[tokio::test]
async fn what_becomes_hidden_while_somebody_looks_is_noticed() {
    let site = site().await;
    let entity = Some("acme-de".parse().unwrap());
    let alice = Principal { entity, ..Principal::clone(&World::approver("alice", &["dba"])) };
    let opened = opened(Arc::new(alice.clone()), "crm");
    let later = site.resources.gateway.parts.clock.now() + jiff::SignedDuration::from_hours(1);
    let verified = Verified::for_test(alice, Some(later));
    let caller = Caller { verified, origin: World::origin() };
    let noted = ("watch", &Purpose::default());
    let (look, _) = Look::begin(&site.resources, caller, opened, noted).unwrap();
    let look = Arc::new(look);
    let (mut sight, mut nothing) = (Sight::of(Arc::clone(&look)), Sight::of(Arc::clone(&look)));
    assert!(!sight.read(&masks(true)) && !nothing.read(&masks(false)));
    assert!(!sight.has_narrowed() && !sight.is_withheld());
    let rest = POLICIES.replace("\"reveal\"", "\"connect\"");
    site.world.reload(&rest);
    assert!(sight.has_narrowed(), "she was shown what she may not see now");
    assert!(!nothing.has_narrowed(), "she was shown nothing of the kind");
    look.may().unwrap();
    assert!(nothing.read(&masks(true)) && nothing.is_withheld());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_see_a_class_reads_no_texts_of_others() {
    let site = site().await;
    let events = [command(1, "/people?ssn=123-45-6789")];
    let session =
        recorded(&site, opened(World::approver("bob", &[]), "crm"), &events, b"data").await;
    let (_, rita) = site.world.sign_in("rita", &["auditor"]).await;
    let (_, dana) = site.world.sign_in("dana", &["dba"]).await;
    assert!(show(&site, &dana, session, "look").await.text.contains("6789"));
    let got = show(&site, &rita, session, "look").await;
    assert!(!got.text.contains("6789") && got.text.contains("\"verb\":\"GET\""), "{}", got.text);
    let lines = json!(stream(&site, &rita, session, "look").await).to_string();
    assert!(!lines.contains("6789") && lines.contains("\"withheld\":true"), "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_answer_is_bounded_and_takes_a_place_among_those_who_look() {
    let site = site().await;
    let alice = World::approver("alice", &[]);
    let long = "x".repeat(1024 * 1024);
    let events = (1..=6).map(|number| command(number, &long)).collect::<Vec<_>>();
    let texts = recorded(&site, opened(Arc::clone(&alice), "crm"), &events, b"").await;
    let bulk = vec![b'x'; 33 * 1024 * 1024];
    let data =
        recorded(&site, opened(Arc::clone(&alice), "crm"), &[command(1, "/bulk")], &bulk).await;
    let (_, secret) = site.world.sign_in("alice", &["engineer"]).await;
    let got = show(&site, &secret, texts, "").await;
    assert!(got.json()["cut"] == true && got.text.len() < 5 * 1024 * 1024, "{}", got.text.len());
    assert_eq!(got.json()["entries"].as_array().unwrap().len(), 7, "opened, and three commands");
    let got = show(&site, &secret, data, "").await;
    assert_eq!((got.status.as_u16(), &got.json()["cut"]), (200, &json!(true)));
    let mut places = Vec::new();
    while let Ok(place) = site.resources.viewers.enter(&alice) {
        places.push(place);
    }
    assert_eq!(show(&site, &secret, texts, "").await.status, 413);
    places.pop();
    assert_eq!(show(&site, &secret, texts, "").await.status, 200);
    places.push(site.resources.viewers.enter(&alice).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_at_the_beginning_is_told_to_those_who_might_look() {
    let site = site().await;
    let alice = World::approver("alice", &[]);
    let session = recorded(&site, opened(alice, "crm"), &[command(1, "/own")], b"").await;
    let audit = &site.resources.gateway.parts.audit;
    let path = spool::recording_of(&audit.folders().closed, session);
    let mut bytes = std::fs::read(&path).unwrap();
    let header = bytes.iter().position(|byte| *byte == b'\n').map_or(200, |at| at + 1);
    let at = header + 100;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (_, alice) = site.world.sign_in("alice", &["engineer"]).await;
    let (_, bob) = site.world.sign_in("bob", &["engineer"]).await;
    let got = show(&site, &alice, session, "").await;
    assert_eq!(got.status, 200, "{}", got.text);
    let damage = got.json()["damage"].as_str().unwrap().to_owned();
    assert!(damage.contains("entry 1 (byte "), "{damage}");
    let lines = stream(&site, &alice, session, "").await;
    assert_eq!(lines.last().unwrap(), &json!({ "end": "damaged", "detail": damage }));
    let got = show(&site, &bob, session, "look").await;
    assert!(got.status == 403 && !got.text.contains("byte"), "{}", got.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_goes_on_in_the_same_window_and_names_are_one_line() {
    let site = site().await;
    let (_, rita) = site.world.sign_in("rita", &["auditor"]).await;
    let get = async |path: &str| site.call("GET", path, &rita, &NULL).await;
    let export = "/api/v1/ledger/export?framework=raw&purpose=audit";
    assert_eq!(get(&format!("{export}&from=7d")).await.status, 200);
    assert_eq!(get(&format!("{export}&from=2026-01-01&after=1")).await.status, 200);
    for times in ["from=7d", "to=2h", "from=2026-01-01&to=1s"] {
        let got = get(&format!("{export}&{times}&after=1")).await;
        assert!(got.status == 400 && got.text.contains("moments"), "{times}: {}", got.text);
    }
    let forged = "x%0A9%20%20forged-entry";
    let long = "x".repeat(257);
    for path in [
        format!("/api/v1/ledger?purpose=audit&kind={forged}"),
        format!("/api/v1/ledger?purpose=audit&user={forged}"),
        format!("/api/v1/ledger?purpose=audit&user={long}"),
        format!("/api/v1/sessions/search?q=a&user={forged}"),
        format!("/api/v1/sessions?user={forged}"),
    ] {
        assert_eq!(get(&path).await.status, 400, "{path}");
    }
    get(&format!("/api/v1/sessions/search?q={forged}")).await;
    let ledger = std::fs::read_to_string(site.world.dir().join("state/ledger.jsonl")).unwrap();
    assert!(!ledger.contains("\\n"), "nothing that is noted has a line feed");
    assert_eq!(ledger.matches("forged").count(), 1, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_from_abroad_is_in_the_ledger_and_its_export() {
    let site = site().await;
    let bob = World::approver("bob", &[]);
    let session =
        recorded(&site, opened(bob, "crm"), &[command(1, "/people")], b"carol@example.com").await;
    let (_, dana) = site.world.sign_in("dana", &["dba"]).await;
    let (_, rita) = site.world.sign_in("rita", &["auditor"]).await;
    let transfers = async || {
        let export = "/api/v1/ledger/export?framework=gdpr&purpose=audit";
        let got = site.call("GET", export, &rita, &NULL).await;
        got.json()["rows"].as_array().unwrap().clone()
    };
    assert_eq!(show(&site, &dana, session, "look").await.status, 200);
    assert_eq!(transfers().await, Vec::<Value>::new(), "at home nothing is transferred");
    let country = Some("SG".parse().unwrap());
    for path in ["", "/stream"] {
        let path = format!("/api/v1/sessions/{session}{path}?purpose=look");
        let request = Request::get(path);
        let request = request.header("authorization", format!("Bearer {dana}"));
        let origin = Origin { country: country.clone(), ..World::origin() };
        let got = site.ask_from(request.body(Body::empty()).unwrap(), origin).await;
        assert_eq!(got.status, 200, "{}", got.text);
    }
    let rows = transfers().await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    for row in rows {
        assert_eq!((&row["direction"], &row["place"]), (&json!("replay"), &json!("SG")));
        assert_eq!((&row["state"], &row["session"]), (&json!("closed"), &json!(session)));
        assert_eq!(row["facts"]["principal"]["name"], "dana");
        let moved = row["classes"]["pii.email"]["bytes"].as_u64().unwrap();
        assert!(moved > 100 && row["volume"]["bytes"] == moved, "{row}");
    }
}
