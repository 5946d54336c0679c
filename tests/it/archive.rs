//! The region's store behind a gateway: what it gets, and what happens when it is slow to come, gone,
//! elsewhere, or does not let the gateway in.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use sha2::Digest as _;
use sha2::Sha256;

use crate::demo::Demo;
use crate::demo::finish;
use crate::demo::wait_for;
use crate::gateway::Gateway;
use crate::gateway::Prepared;
use crate::stores::ACCESS_KEY;
use crate::stores::Make;
use crate::stores::PLAIN;
use crate::stores::Peer;
use crate::stores::REGION;
use crate::stores::SECRET_KEY;

/// How much crosses in the test of full capture, unless WEIR_CAPTURE_BYTES says otherwise
/// (`make test-long`: 10 GiB).
const CAPTURE_BYTES: u64 = 24 * 1024 * 1024;

/// A gateway's configuration whose store is the bucket `recordings` of `peer`.
pub(crate) fn at(peer: &Peer, region: &str, secret: &str) -> Prepared {
    let mut prepared = Prepared::new();
    fs::write(prepared.path("store.id"), ACCESS_KEY).unwrap();
    fs::write(prepared.path("store.key"), secret).unwrap();
    prepared.config.push_str(&format!(
        "\n[audit]\nspool_bytes_max = 1048576\n[audit.store]\nurl = \"s3://recordings/eu\"\n\
         region = \"{region}\"\nendpoint = \"{}\"\naccess_key = {{ file = \"store.id\" }}\n\
         secret_key = {{ file = \"store.key\" }}\n",
        peer.endpoint()
    ));
    prepared
}

fn names(peer: &Peer, under: &str) -> Vec<String> {
    let (status, listed) =
        peer.s3("GET", &format!("recordings?list-type=2&prefix={under}"), PLAIN, "");
    assert_eq!(status, 200, "{listed}");
    let keys = listed.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned());
    keys.collect()
}

/// Whether the ledger says that the store has a session's recording.
pub(crate) fn is_stored(gateway: &Gateway, session: &str) -> bool {
    let is = |event: &serde_json::Value| event["is"] == "stored" && event["session"] == session;
    gateway.ledger().iter().any(is)
}

/// The last session of a person.
pub(crate) fn last_session(gateway: &Gateway) -> String {
    let ledger = gateway.ledger();
    let person = |event: &&serde_json::Value| {
        event["is"] == "admitted" && event["principal"]["kind"] == "person"
    };
    let last = ledger.iter().rev().find(person).unwrap();
    last["session"].as_str().unwrap().to_owned()
}

#[test]
fn a_session_that_ended_is_in_the_regions_store_and_read_from_there() {
    let peer = Peer::start(Make::Minio);
    peer.locked_bucket("recordings", 1);
    let mut prepared = at(&peer, REGION, SECRET_KEY);
    prepared.config.push_str("require_lock = true\nrequire_versioning = true\n");
    let mut gateway = prepared.start();
    let ran =
        gateway.psql("alice", &["SELECT name FROM customers WHERE id = 1 /* to-the-store */"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let session = last_session(&gateway);
    wait_for("the recording in the store", || is_stored(&gateway, &session).then_some(()));
    assert_eq!(names(&peer, &format!("eu/recordings/{session}/")).len(), 1);
    wait_for("an empty spool", || {
        let left = fs::read_dir(gateway.path("state/spool/closed")).unwrap().count();
        (left == 0).then_some(())
    });
    let shown = gateway.weir_json("alice", &["sessions", "show", &session]).to_string();
    assert!(shown.contains("to-the-store") && shown.contains("Frieda Ackerbrot"), "{shown}");
    let found = gateway.weir_json("alice", &["sessions", "search", "store AND to"]).to_string();
    assert!(found.contains(&session), "{found}");
    // At its end the gateway brings the ledger and its last checkpoint there too.
    gateway.signal("TERM");
    assert!(gateway.ended().success());
    assert!(!names(&peer, "eu/ledger/").is_empty());
    assert!(!names(&peer, "eu/checkpoints/").is_empty());
}

#[test]
fn while_the_store_is_gone_sessions_go_on_until_the_spool_is_full_and_nothing_is_lost() {
    let mut peer = Peer::start(Make::Minio);
    peer.bucket("recordings");
    let mut gateway = at(&peer, REGION, SECRET_KEY).start();
    assert_eq!(gateway.psql("alice", &["SELECT 1"]).code, 0);
    peer.down();
    let mut sessions = Vec::new();
    for n in 0..3 {
        let ran = gateway.psql("alice", &[&format!("SELECT 'outage {n}'")]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        sessions.push(last_session(&gateway));
    }
    wait_for("the outage in the ledger", || {
        gateway.ledger().iter().any(|event| event["is"] == "store-failing").then_some(())
    });
    assert!(!gateway.log_lines("the store fails").is_empty());
    // The spool's bound: refused, with a clear word, and nothing reaches the target.
    let filler = crate::faults::noise(100_000);
    let refused = wait_for("a refusal", || {
        let ran = gateway.psql("alice", &[&format!("SELECT 'filled' /* {filler} */")]);
        (ran.code != 0).then_some(ran)
    });
    assert!(refused.err.contains("nothing goes on unrecorded"), "{}", refused.err);
    // A crash in the outage loses nothing either.
    gateway.kill();
    gateway.start();
    peer.up();
    for session in &sessions {
        wait_for("what waited in the store", || is_stored(&gateway, session).then_some(()));
    }
    wait_for("room", || (gateway.psql("alice", &["SELECT 'again'"]).code == 0).then_some(()));
    let shown = gateway.weir_json("alice", &["sessions", "show", &sessions[1]]).to_string();
    assert!(shown.contains("outage 1"), "{shown}");
    // What the store has is not in the state folder: verify calls that damage unless it is told so.
    let verified = gateway.verify();
    assert!(verified.code == 4 && verified.out.contains("the store has it"), "{verified:?}");
    let verified = gateway.verify_with(&["--without-store"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn a_store_in_another_region_or_a_wrong_credential_stops_the_start() {
    let peer = Peer::start(Make::Minio);
    peer.bucket("recordings");
    let elsewhere = at(&peer, "us-east-1", SECRET_KEY).fails();
    assert_ne!(elsewhere.code, 0);
    assert!(elsewhere.err.contains("eu-central-1"), "{}", elsewhere.err);
    let refused = at(&peer, REGION, "another-secret-altogether").fails();
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("recordings"), "{}", refused.err);
    assert!(names(&peer, "").is_empty(), "nothing was written");
    let mut unlocked = at(&peer, REGION, SECRET_KEY);
    unlocked.config.push_str("require_lock = true\n");
    let unlocked = unlocked.fails();
    assert_ne!(unlocked.code, 0);
    assert!(unlocked.err.contains("lock"), "{}", unlocked.err);
}

#[test]
fn with_full_capture_the_bytes_recorded_are_the_bytes_relayed() {
    let bytes =
        crate::parts::variable("WEIR_CAPTURE_BYTES").map_or(CAPTURE_BYTES, |n| n.parse().unwrap());
    let mut prepared = Prepared::new();
    prepared.config.push_str("\n[audit]\ncapture = \"full\"\n");
    let gateway = prepared.start();
    let demo = Demo::shared();
    // Numbers: half of what people move is about as compressible.
    let command = format!("seq 1 100000000000 | head -c {bytes}");
    let mut ssh = crate::ssh::ssh_at(demo, gateway.port(), "alice", &command);
    let mut child = ssh.stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = Sha256::new();
    let mut out = child.stdout.take().unwrap();
    let mut part = vec![0; 1 << 20];
    let mut relayed = 0;
    loop {
        let read = out.read(&mut part).unwrap();
        if read == 0 {
            break;
        }
        relayed += u64::try_from(read).unwrap();
        seen.update(&part[..read]);
    }
    let ran = finish(child);
    assert_eq!((ran.code, relayed), (0, bytes), "{}", ran.err);
    let session = last_session(&gateway);
    wait_for("the recording in the store", || is_stored(&gateway, &session).then_some(()));
    let (recorded, kept) = recorded_output(&gateway, &session);
    assert_eq!(recorded, bytes);
    assert_eq!(kept, seen.finalize().to_vec());
}

/// How many bytes of output a session's recording has, and their digest.
fn recorded_output(gateway: &Gateway, session: &str) -> (u64, Vec<u8>) {
    use weir::audit::archive::Shelf;
    use weir::audit::archive::Shelved;
    use weir::audit::keys::KeyBytes;
    use weir::audit::keys::KeyRing;
    use weir::audit::keys::Purpose;
    use weir::audit::keys::WrappingKey;
    use weir::audit::recording::Seen;
    use weir::audit::recording::Stream;
    use weir::audit::recording::What;
    let session = session.parse().unwrap();
    let state = gateway.path("state");
    let files = weir::audit::offline::recordings(&state).unwrap();
    let place = weir::store::Place::Sqlite(state.join("state.db"));
    let options = weir::store::Options { gateway: String::new(), place };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let clock = std::sync::Arc::new(weir::model::clock::System);
    let store = runtime.block_on(weir::store::Store::open(&options, clock)).unwrap();
    let Some(Shelved::Key(wrapped)) = runtime.block_on(store.find(session)).unwrap() else {
        panic!("no key of {session}");
    };
    let key = KeyBytes::read(&state.join("wrapping.key"), Purpose::Wrapping).unwrap();
    let ring = KeyRing::new(WrappingKey::new(key), Vec::new()).unwrap();
    let chunks =
        weir::audit::recording::Chunks::begin(files[&session].open().unwrap()).unwrap().unwrap();
    let region = chunks.header().region.clone();
    let key = ring.unwrap(&wrapped, &session, &region).unwrap();
    let mut entries = weir::audit::recording::Entries::open(chunks, &key).unwrap().unwrap();
    let (mut count, mut digest) = (0, Sha256::new());
    loop {
        match entries.next().unwrap() {
            Seen::One(entry) => {
                if let What::Data { stream: Stream::Output, bytes, .. } = entry.what {
                    count += u64::try_from(bytes.len()).unwrap();
                    digest.update(&bytes);
                }
            }
            Seen::End => return (count, digest.finalize().to_vec()),
            Seen::Damaged(damage) => panic!("{damage}"),
        }
    }
}

#[test]
fn at_level_disk_everything_works_as_it_does() {
    let mut prepared = Prepared::new();
    prepared.config.push_str("\n[audit]\nlevel = \"disk\"\n");
    let gateway = prepared.start();
    let texts = (0..20).map(|n| format!("SELECT {n}")).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let ask = || {
            let texts = texts.iter().map(String::as_str).collect::<Vec<_>>();
            gateway.psql("alice", &texts)
        };
        let clients = (0..4).map(|_| scope.spawn(ask)).collect::<Vec<_>>();
        for client in clients {
            let ran = client.join().unwrap();
            assert_eq!((ran.code, ran.out.lines().count()), (0, 20), "{}", ran.err);
        }
    });
    assert_eq!(gateway.verify().code, 0, "{:?}", gateway.verify());
}

#[test]
fn a_key_service_wraps_the_regions_key_and_without_it_there_is_no_start() {
    let mut peer = Peer::start(Make::Kms);
    let key = peer.kms_key();
    let mut prepared = Prepared::new();
    fs::write(prepared.path("kms.key"), "any").unwrap();
    prepared.config.push_str(&format!(
        "\n[audit.kms]\nendpoint = \"{}\"\nregion = \"{REGION}\"\nkey = \"{key}\"\n\
         access_key = {{ file = \"kms.key\" }}\nsecret_key = {{ file = \"kms.key\" }}\n",
        peer.endpoint()
    ));
    let mut gateway = prepared.start();
    assert_eq!(gateway.psql("alice", &["SELECT 'under a key service'"]).code, 0);
    let session = last_session(&gateway);
    wait_for("the recording in the store", || is_stored(&gateway, &session).then_some(()));
    assert!(!gateway.path("state/wrapping.key").exists(), "no key lies there in the clear");
    gateway.kill();
    gateway.start();
    let shown = gateway.weir_json("alice", &["sessions", "show", &session]).to_string();
    assert!(shown.contains("under a key service"), "{shown}");
    gateway.kill();
    peer.down();
    let refused = gateway.prepared.fails();
    assert!(refused.code != 0 && refused.err.contains("[audit.kms]"), "{refused:?}");
}
