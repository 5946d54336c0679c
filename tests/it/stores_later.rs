//! A store that is found wrong or slow while the gateway runs, and what `weir check` says of one before.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::archive::at;
use crate::archive::is_stored;
use crate::archive::last_session;
use crate::demo::Ran;
use crate::demo::wait_for;
use crate::gateway::Gateway;
use crate::gateway::Prepared;
use crate::parts;
use crate::slow::Line;
use crate::stores::Make;
use crate::stores::Peer;
use crate::stores::REGION;
use crate::stores::SECRET_KEY;
use crate::stores::free_port;
use crate::visitor::Visitor;

const ELSEWHERE: &str = "us-east-1";

fn status(gateway: &Gateway) -> Value {
    gateway.weir_json("olaf", &["audit", "status"])
}

#[test]
fn a_store_that_is_found_elsewhere_gets_nothing_more_and_no_session_begins_until_it_is_back() {
    let mut peer = Peer::start(Make::Minio);
    peer.bucket("recordings");
    let mut prepared = at(&peer, REGION, SECRET_KEY);
    let metrics = free_port();
    let more = format!("asked_every_s = 1\n\n[metrics]\naddress = \"127.0.0.1:{metrics}\"\n");
    prepared.config.push_str(&more);
    let gateway = prepared.start();
    let page = |path: &str| Visitor::new(&[]).visit(&format!("http://127.0.0.1:{metrics}{path}"));
    assert_eq!(gateway.psql("alice", &["SELECT 1"]).code, 0);
    let first = last_session(&gateway);
    wait_for("the recording in the store", || is_stored(&gateway, &first).then_some(()));
    let mut live = gateway.live("alice");
    let running = last_session(&gateway);

    peer.down();
    let kept = peer.kept("recordings/eu");
    peer.up_in(ELSEWHERE);
    let refused = wait_for("the bar", || {
        let ran = gateway.psql("alice", &["SELECT 'barred'"]);
        (ran.code != 0).then_some(ran)
    });
    assert!(refused.err.contains("nothing goes on unrecorded"), "{}", refused.err);
    live.say("SELECT 'goes ' || 'on';");
    live.wait("goes on");
    assert_eq!(page("/health").status, 503);
    assert!(page("/health").body.contains(ELSEWHERE), "{}", page("/health").body);
    assert!(page("/metrics").body.contains("weir_sessions_barred 1"), "{}", page("/metrics").body);
    let said = status(&gateway).to_string();
    assert!(said.contains("wrong_region") && said.contains(ELSEWHERE), "{said}");
    let barred = |event: &Value| event["is"] == "store-checked" && event["barred"] == true;
    assert!(gateway.ledger().iter().any(barred));
    assert!(!gateway.log_lines(ELSEWHERE).is_empty(), "{}", gateway.log());

    // It ends, and its recording is due: the round that would have brought it there says why not.
    live.finish();
    wait_for("a round without an upload", || {
        let store = status(&gateway)["store"].take();
        let told = store["error"].as_str().is_some_and(|why| why.contains(ELSEWHERE));
        (told && store["waiting"].as_u64() > Some(0)).then_some(())
    });
    // Silence lifts nothing.
    peer.down();
    wait_for("the silence", || status(&gateway).to_string().contains("unreachable").then_some(()));
    assert_eq!(page("/health").status, 503);
    assert_eq!(peer.kept("recordings/eu"), kept, "nothing more was brought there");

    peer.up_in(REGION);
    wait_for("sessions", || (gateway.psql("alice", &["SELECT 'again'"]).code == 0).then_some(()));
    assert_eq!(page("/health").status, 200);
    for session in [running, last_session(&gateway)] {
        wait_for("what waited in the store", || is_stored(&gateway, &session).then_some(()));
    }
    // Verified without the store, which has what is not here any more.
    let verified = gateway.verify_with(&["--without-store"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn a_slow_store_disturbs_nobody_and_nothing_is_lost() {
    let peer = Peer::start(Make::Minio);
    peer.bucket("recordings");
    let line = Line::to(peer.port());
    let mut prepared = at(&peer, REGION, SECRET_KEY);
    prepared.change(&peer.endpoint(), &line.endpoint());
    prepared.config.push_str("asked_every_s = 1\n");
    let gateway = prepared.start();
    line.slow(8);
    let mut sessions = Vec::new();
    for n in 0..3 {
        let filler = crate::faults::noise(20_000);
        let ran = gateway.psql("alice", &[&format!("SELECT 'slow {n}' /* {filler} */")]);
        assert_eq!((ran.code, ran.out.trim()), (0, format!("slow {n}").as_str()), "{}", ran.err);
        sessions.push(last_session(&gateway));
    }
    let closed = || fs::read_dir(gateway.path("state/spool/closed")).unwrap().count();
    wait_for("sessions that ended", || (closed() >= 2 * sessions.len()).then_some(()));
    let hold = ["sessions", "hold", &sessions[0], "--reason", "case 4711"];
    let held = gateway.weir("olaf", &hold);
    assert_eq!(held.code, 0, "{held:?}");
    assert!(status(&gateway)["store"].is_object());
    let stored = |session: &String| is_stored(&gateway, session);
    assert!(!sessions.iter().any(stored), "the store has nothing yet");
    line.fast();
    for session in &sessions {
        wait_for("the recording in the store", || stored(session).then_some(()));
    }
    assert_eq!(gateway.psql("alice", &["SELECT 'fast'"]).code, 0);
    // Verified without the store, which has what is not here any more.
    let verified = gateway.verify_with(&["--without-store"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

fn checked(prepared: &Prepared, more: &[&str]) -> Ran {
    fs::write(prepared.path("weir.toml"), &prepared.config).unwrap();
    let mut weir = Command::new(parts::weir());
    let weir = weir.arg("check").arg(prepared.path("weir.toml")).args(more);
    Ran::of(&weir.output().unwrap())
}

#[test]
fn check_says_where_the_store_is_and_whether_the_daemon_would_start() {
    let mut peer = Peer::start(Make::Minio);
    peer.locked_bucket("recordings", 30);
    let right = at(&peer, REGION, SECRET_KEY);
    let said = checked(&right, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    let expected = format!("in {REGION}, as it says itself, keeps versions, locks what is written");
    assert!(said.says(&expected) && said.says("for 30 days"), "{said:?}");
    assert!(peer.kept("recordings/eu").is_empty(), "nothing was written");
    let elsewhere = at(&peer, ELSEWHERE, SECRET_KEY);
    let refused = checked(&elsewhere, &[]);
    assert!(refused.code == 2 && refused.says(REGION), "{refused:?}");
    let refused = checked(&at(&peer, REGION, "another-secret-altogether"), &[]);
    assert!(refused.code == 2 && refused.says("credential"), "{refused:?}");
    let offline = checked(&elsewhere, &["--offline"]);
    assert!(offline.code == 0 && offline.says("not asked: told not to"), "{offline:?}");
    peer.down();
    let silent = checked(&right, &[]);
    assert!(silent.code == 0 && silent.says("warning:"), "{silent:?}");
    assert!(silent.says("cannot be reached"), "{silent:?}");
}

#[test]
fn recordings_in_the_store_whose_keys_are_not_in_the_database_are_counted() {
    let gateway = Prepared::new().start();
    assert_eq!(gateway.psql("alice", &["SELECT 'with a key'"]).code, 0);
    let session = last_session(&gateway);
    wait_for("the recording in the store", || is_stored(&gateway, &session).then_some(()));
    let keyless = || gateway.weir_json("dana", &["audit", "reindex"])["keyless"].take();
    assert_eq!(keyless(), 0);
    // As if its key had been lost with a database.
    let recordings = gateway.path("state/store/recordings");
    let other = recordings.join("0199c1e2-7d3a-7c44-8f10-0123456789ab");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("00000000000000000000.seg"), "of another time").unwrap();
    assert_eq!(keyless(), 1);
    assert!(!gateway.log_lines("whose keys are not in the state database").is_empty());
}
