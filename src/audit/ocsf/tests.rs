//! What the schema requires of each event, what may not leave by one, and that no event is lost.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use serde_json::json;

use super::feed::QUEUE_BYTES_MAX;
use super::feed::QUEUE_MAX;
use super::*;
use crate::audit::LedgerEvent;
use crate::audit::TrailEvent;

const SESSION: &str = "01930000-0000-7000-8000-000000000001";
const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Stands wherever an entry may have text that somebody wrote.
const PLANTED: &str = "PLANTED-219-09-9999";

fn product(include_text: bool) -> Product {
    Product { gateway: "weir-eu-1".to_owned(), version: "0.1.0".to_owned(), include_text }
}

fn principal() -> Value {
    json!({ "issuer": "https://idp.example", "subject": "1", "name": "alice", "kind": "person",
        "roles": ["engineer"], "entity": "acme-de", "residence": "DE", "person": "alice",
        "attributes": { "department": PLANTED } })
}

fn origin() -> Value {
    json!({ "address": "10.1.0.9", "country": "DE", "method": { "configured-network": "10.1.0.0/16" } })
}

fn refusal() -> Value {
    json!({ "code": "denied", "reason": PLANTED, "rules": ["no-mass-delete"], "hint": PLANTED })
}

fn opened(is: &str) -> Value {
    json!({ "is": is, "session": SESSION, "principal": principal(), "origin": origin(),
        "target": "customers", "protocol": "postgres", "region": "eu-central", "snapshot": ZERO,
        "rules": ["connect"], "transfer": transfer(), "suppressed": false,
        "observed": null, "observe": false })
}

fn transfer() -> Value {
    json!({ "outcome": "transfer", "rows": ["EUM-SCC2"], "reason": PLANTED })
}

/// An entry of each kind, and the class that it must have; `None`: nobody is told.
fn entries() -> Vec<(Value, Option<u64>)> {
    let volume = json!({ "rows": 3, "bytes": 99, "masked": 1 });
    let head = json!({ "entries": 3, "digest": ZERO });
    let answered =
        |ending: Value| json!({ "is": "hold-ended", "hold": "h-7kq2m9xd", "ending": ending });
    vec![
        (
            json!({ "is": "started", "gateway": "weir-eu-1", "snapshot": ZERO, "observed": [] }),
            Some(6002),
        ),
        (opened("admitted"), Some(3002)),
        (
            json!({ "is": "refused", "principal": principal(), "origin": origin(),
                "target": "customers", "refusal": refusal(), "snapshot": ZERO }),
            Some(3002),
        ),
        (json!({ "is": "changed", "from": ZERO, "to": ZERO, "observed": [] }), Some(3004)),
        (
            json!({ "is": "transfer-opened", "session": SESSION, "from": "acme-de", "to": "acme-sg",
                "place": "SG", "direction": "read", "classes": ["pii.email"], "basis": transfer() }),
            Some(2003),
        ),
        (
            json!({ "is": "transfer-volume", "session": SESSION, "volume": volume, "closed": true }),
            Some(2003),
        ),
        (json!({ "is": "transfer-unclean", "session": SESSION, "volume": volume }), Some(2003)),
        (
            json!({ "is": "held", "hold": "h-7kq2m9xd", "session": SESSION, "number": 7, "exactly": ZERO }),
            Some(6003),
        ),
        (answered(json!({ "how": "approved", "by": "dana" })), Some(6003)),
        (answered(json!({ "how": "declined", "by": "dana", "reason": PLANTED })), Some(6003)),
        (answered(json!({ "how": "timed-out" })), Some(6003)),
        (answered(json!({ "how": "withdrawn", "reason": PLANTED })), Some(6003)),
        (
            json!({ "is": "control", "principal": principal(), "origin": origin(), "action": "replay",
                "of": SESSION, "rules": ["control.replay"], "refusal": refusal() }),
            Some(6003),
        ),
        (json!({ "is": "heads", "trails": { SESSION: head } }), None),
        (json!({ "is": "trail-closed", "session": SESSION, "head": head }), Some(3002)),
        (
            json!({ "is": "trail-recovered", "session": SESSION, "head": head, "damage": "torn" }),
            Some(2004),
        ),
        (json!({ "is": "torn-tail", "bytes": 7, "kept_as": "ledger.torn-3" }), Some(2004)),
        (json!({ "is": "stopped", "reason": "SIGTERM" }), Some(6002)),
    ]
}

/// What OCSF 1.3 requires of every event, and of each class by itself.
fn check(event: &Value) {
    let has = |path: &str| {
        let found = event.pointer(path).unwrap_or_else(|| panic!("{path} is missing: {event:#}"));
        assert!(!found.is_null(), "{path} is null: {event:#}");
        found
    };
    let number = |path: &str| has(path).as_u64().unwrap_or_else(|| panic!("{path}: {event:#}"));
    let any = |paths: &[&str]| {
        let some = |path: &&str| event.pointer(path).is_some_and(|value| !value.is_null());
        assert!(paths.iter().any(some), "none of {paths:?}: {event:#}");
    };
    let (class, activity) = (number("/class_uid"), number("/activity_id"));
    assert_eq!(number("/type_uid"), class * 100 + activity);
    assert_eq!(number("/category_uid"), class / 1000);
    assert!((1..=6).contains(&number("/severity_id")));
    assert!(number("/time") > 1_700_000_000_000, "milliseconds");
    assert_eq!(has("/metadata/version"), "1.3.0");
    assert_eq!(has("/metadata/product/name"), "Weir");
    for path in ["/metadata/product/vendor_name", "/metadata/uid", "/class_name", "/activity_name"]
    {
        assert!(has(path).is_string(), "{path}");
    }
    let activities: &[u64] = match class {
        0 => &[99],
        2003 | 2004 => {
            has("/finding_info/uid");
            has("/finding_info/title");
            if class == 2003 {
                has("/compliance/standards/0");
                has("/compliance/requirements");
            }
            &[1, 2, 3]
        }
        3002 => {
            any(&["/user/name", "/user/uid"]);
            any(&["/dst_endpoint/name", "/service/name"]);
            &[1, 2]
        }
        3004 => {
            any(&["/entity/name", "/entity/uid"]);
            &[1, 2, 3, 4]
        }
        4002 => {
            any(&["/http_request/http_method", "/http_response/code"]);
            any(&["/src_endpoint/ip", "/dst_endpoint/name"]);
            &[1, 2, 3, 4, 5, 6, 7, 8, 99]
        }
        4007 => {
            any(&["/src_endpoint/ip", "/dst_endpoint/name"]);
            &[1, 2, 3, 4, 5, 6, 7, 99]
        }
        6002 => {
            has("/app/name");
            has("/app/vendor_name");
            &[3, 4]
        }
        6003 => {
            has("/api/operation");
            any(&["/actor/user/name", "/actor/session/uid"]);
            any(&["/src_endpoint/ip", "/src_endpoint/uid"]);
            &[1, 2, 3, 4, 99]
        }
        6005 => {
            any(&["/actor/user/name", "/actor/session/uid"]);
            any(&["/src_endpoint/ip", "/src_endpoint/uid"]);
            has("/database/name");
            has("/database/type_id");
            &[1, 2, 3, 4, 5, 6, 7]
        }
        other => panic!("class {other} is none of ours"),
    };
    assert!(activities.contains(&activity), "{event:#}");
}

fn time() -> jiff::Timestamp {
    "2026-11-29T03:00:00.123Z".parse().unwrap()
}

#[test]
fn every_entry_of_the_ledger_is_an_event_as_the_schema_has_it() {
    let mut mapper = Mapper::new(product(false), 1);
    let mut expected = 0;
    for (n, (entry, class)) in (1..).zip(entries()) {
        // The samples are entries, so that they stay what the ledger has.
        serde_json::from_value::<LedgerEvent>(entry.clone())
            .unwrap_or_else(|e| panic!("{e}: {entry}"));
        let event = mapper.ledger(n, time(), &entry);
        assert_eq!(event.is_some(), class.is_some(), "{entry}");
        let Some(event) = event else { continue };
        expected += 1;
        check(&event);
        assert_eq!(event["class_uid"].as_u64(), class, "{entry}");
        assert_eq!(event["metadata"]["uid"], n.to_string());
        assert_eq!(event["metadata"]["sequence"], expected, "numbers have no gap");
        assert!(!event.to_string().contains(PLANTED), "{event:#}");
    }
    let unknown = json!({ "is": "of-a-later-version", "secret": PLANTED, "session": SESSION });
    let event = mapper.ledger(99, time(), &unknown).unwrap();
    check(&event);
    assert!(!event.to_string().contains(PLANTED));
}

#[test]
fn an_admission_says_who_from_where_and_to_what() {
    let mut mapper = Mapper::new(product(false), 1);
    let event = mapper.ledger(1, time(), &opened("admitted")).unwrap();
    assert_eq!(event["actor"]["user"]["name"], "alice");
    assert_eq!(event["user"]["org"]["uid"], "acme-de");
    assert_eq!(event["src_endpoint"]["ip"], "10.1.0.9");
    assert_eq!(event["src_endpoint"]["location"]["country"], "DE");
    assert_eq!(event["dst_endpoint"]["name"], "customers");
    assert_eq!(event["unmapped"]["transfer"]["rows"][0], "EUM-SCC2");
    assert_eq!(event["time"], 1_795_921_200_123_i64);
    // Later entries of the session know whose it is.
    let held = json!({ "is": "held", "hold": "h-7kq2m9xd", "session": SESSION, "number": 7, "exactly": ZERO });
    let event = mapper.ledger(2, time(), &held).unwrap();
    assert_eq!(event["actor"]["user"]["name"], "alice");
    assert_eq!(event["src_endpoint"]["ip"], "10.1.0.9");
}

#[test]
fn no_command_s_text_leaves_unless_it_was_asked_for() {
    let command = json!({ "is": "command", "number": 3, "command": {
        "verb": "query", "text": PLANTED, "details": [["$1", PLANTED]], "effects": ["read"],
        "objects": [{ "kind": "table", "name": "public.customers", "effect": "read" },
                    { "kind": "path", "name": PLANTED, "effect": "read" }],
        "reads": ["pii.email"], "writes": [], "unsupported": PLANTED, "unholdable": null,
        "facts": [["where", PLANTED]] }, "verdict": { "is": "deny", "code": "denied",
        "reason": PLANTED, "rules": ["no-mass-delete"], "hint": null } });
    serde_json::from_value::<TrailEvent>(command.clone()).unwrap();
    for protocol in ["postgres", "ssh", "http", "kubernetes"] {
        for include_text in [false, true] {
            let mut mapper = Mapper::new(product(include_text), 1);
            let mut opened = opened("admitted");
            opened["protocol"] = json!(protocol);
            mapper.ledger(1, time(), &opened).unwrap();
            let event = mapper.command(&told(1, &command)).unwrap();
            check(&event);
            assert_eq!(event.to_string().contains(PLANTED), include_text, "{event:#}");
            assert_eq!(event["status"], "Failure");
            assert_eq!(event["unmapped"]["objects"][0]["name"], "public.customers");
            assert_eq!(event["metadata"]["uid"], format!("{SESSION}/3"));
        }
    }
    // One whose session nobody remembers is an event too.
    check(&Mapper::new(product(false), 1).command(&told(1, &command)).unwrap());
}

fn told(sequence: u64, event: &Value) -> Told {
    let (session, event) = (SESSION.parse().unwrap(), event.clone());
    Told { sequence, session, at: time(), event, bytes: 0 }
}

#[test]
fn commands_that_find_the_queue_full_are_counted_and_their_numbers_missed() {
    let (feed, mut ends) = Feed::new([false]);
    let closed = json!({ "is": "closed", "reason": "x", "commands": 1,
        "volume": { "rows": 0, "bytes": 0, "masked": 0 } });
    let event = serde_json::from_value::<TrailEvent>(closed).unwrap();
    let most = u64::try_from(QUEUE_MAX).unwrap();
    let offer = || feed.offer(SESSION.parse().unwrap(), time(), &event);
    (0..most + 3).for_each(|_| offer());
    let sequences = std::iter::from_fn(|| ends[0].now()).map(|told| told.sequence);
    assert_eq!(sequences.last(), Some(most));
    assert_eq!((ends[0].dropped(), ends[0].dropped()), (3, 0));
    offer();
    assert_eq!(ends[0].now().unwrap().sequence, most + 4);
    // Where nobody asked for commands, nothing is kept.
    Feed::default().offer(SESSION.parse().unwrap(), time(), &event);
}

#[test]
fn what_waits_is_bounded_in_bytes_and_texts_wait_where_they_may_go() {
    let (feed, mut ends) = Feed::new([true, false]);
    let command = json!({ "is": "command", "number": 1, "command": {
        "verb": "query", "text": "x".repeat(QUEUE_BYTES_MAX / 4), "details": [["$1", PLANTED]],
        "effects": ["read"], "objects": [], "reads": [], "writes": [], "unsupported": null,
        "unholdable": null, "facts": [] }, "verdict": { "is": "allow", "rules": [] } });
    let event = serde_json::from_value::<TrailEvent>(command).unwrap();
    let offer = || feed.offer(SESSION.parse().unwrap(), time(), &event);
    (0..6).for_each(|_| offer());
    assert_eq!((ends[0].dropped(), ends[1].dropped()), (3, 0));
    let bare = ends[1].now().unwrap().event;
    assert_eq!(bare["command"]["verb"], "query");
    assert!(bare["command"].get("text").is_none() && !bare.to_string().contains(PLANTED));
    // What was taken makes room.
    assert!(ends[0].now().unwrap().event["command"].get("text").is_some());
    offer();
    assert_eq!(ends[0].dropped(), 0);
}

/// Takes events, unless it is broken.
#[derive(Debug, Clone, Default)]
struct Taker {
    taken: Arc<Mutex<Vec<Value>>>,
    broken: bool,
}

impl Deliver for Taker {
    fn deliver<'a>(&'a mut self, lines: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        async move {
            if self.broken {
                return Err(io::Error::other("down"));
            }
            assert!(lines.ends_with(b"\n"));
            let lines = std::str::from_utf8(lines).unwrap().lines();
            self.taken
                .lock()
                .unwrap()
                .extend(lines.map(|l| serde_json::from_str::<Value>(l).unwrap()));
            Ok(())
        }
        .boxed()
    }
}

fn append(dir: &Path, numbers: std::ops::Range<u64>) {
    let text = numbers.map(|n| {
        let event = json!({ "is": "stopped", "reason": "x" });
        format!("{{\"n\":{n},\"at\":\"{}\",\"prev\":\"{ZERO}\",\"event\":{event}}}\n", time())
    });
    let old = fs::read_to_string(dir.join("ledger.jsonl")).unwrap_or_default();
    fs::write(dir.join("ledger.jsonl"), old + &text.collect::<String>()).unwrap();
}

fn sequences(taker: &Taker) -> Vec<u64> {
    let all = taker.taken.lock().unwrap();
    all.iter().map(|event| event["metadata"]["sequence"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn no_entry_is_lost_by_an_outage_a_restart_or_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Tail::open(dir.path(), "siem", product(false)).unwrap();
    let mut taker = Taker::default();
    let mut tail = open();
    assert!(!tail.step(&mut taker).await.unwrap(), "there is no ledger yet");
    append(dir.path(), 1..1201);
    taker.broken = true;
    assert!(matches!(tail.step(&mut taker).await, Err(TailError::Delivery { entry: 0, .. })));
    taker.broken = false;
    assert!(tail.step(&mut taker).await.unwrap());
    assert_eq!(tail.progress().entry, 500);
    // Another process goes on; meanwhile the ledger was rotated.
    let mut tail = open();
    fs::rename(dir.path().join("ledger.jsonl"), dir.path().join("ledger-1-1200.jsonl")).unwrap();
    append(dir.path(), 1201..1204);
    while tail.step(&mut taker).await.unwrap() {}
    assert_eq!(sequences(&taker), (1..=1203).collect::<Vec<_>>());
    // Half an entry waits for its other half.
    let path = dir.path().join("ledger.jsonl");
    let whole = fs::read(&path).unwrap();
    append(dir.path(), 1204..1205);
    let longer = fs::read(&path).unwrap();
    fs::write(&path, &longer[..whole.len() + 20]).unwrap();
    assert!(!tail.step(&mut taker).await.unwrap());
    fs::write(&path, &longer).unwrap();
    tail.step(&mut taker).await.unwrap();
    assert_eq!(sequences(&taker).last(), Some(&1204));
    // What is no entry is said, and not passed over.
    fs::write(&path, [&longer[..], b"nonsense\n"].concat()).unwrap();
    assert!(matches!(tail.step(&mut taker).await, Err(TailError::Entry { entry: 1205 })));
    let kept = fs::read_to_string(dir.path().join("events/siem.json")).unwrap();
    let kept = serde_json::from_str::<Progress>(&kept).unwrap();
    assert_eq!((kept.entry, kept.sequence), (1204, 1204));
}

#[tokio::test]
async fn a_file_is_its_owner_s_and_rotated_by_its_size() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ocsf.jsonl");
    let mut file = Rotated::new(path.clone(), 10);
    for text in ["one\n", "two\n", "three\n", "a line that is longer than a file\n", "four\n"] {
        file.deliver(text.as_bytes()).await.unwrap();
    }
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("ocsf.jsonl"), "four\n");
    assert_eq!(read("ocsf.jsonl.1"), "a line that is longer than a file\n");
    assert_eq!(read("ocsf.jsonl.2"), "three\n");
    assert_eq!(read("ocsf.jsonl.3"), "one\ntwo\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for _ in 0..9 {
        file.deliver(b"0123456789\n").await.unwrap();
    }
    assert!(dir.path().join("ocsf.jsonl.4").exists() && !dir.path().join("ocsf.jsonl.5").exists());
}
