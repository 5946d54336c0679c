//! The record as a whole: admitted, closed, left open by a crash, changed behind its back.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use crate::audit::Admission;
use crate::audit::Audit;
use crate::audit::LedgerEvent;
use crate::audit::OpenError;
use crate::audit::Options;
use crate::audit::Trail;
use crate::audit::TrailEvent;
use crate::audit::entry::Ending;
use crate::audit::entry::Opened;
use crate::audit::entry::TransferNote;
use crate::audit::entry::Volume;
use crate::audit::verify::Report;
use crate::audit::verify::verify;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::SessionId;
use crate::model::clock::Standing;
use crate::model::digest::Digest;
use crate::model::place::PlaceMethod;
use crate::model::principal::Kind;

struct Someone(SessionId);

impl Admission for Someone {
    fn opened(&self) -> Opened {
        let principal = Principal {
            issuer: "https://id.example".into(),
            subject: "1".into(),
            name: "ada".into(),
            kind: Kind::Person,
            roles: ["engineer".to_owned()].into(),
            entity: None,
            residence: None,
            person: "1".into(),
            attributes: [].into(),
            actors: Vec::new(),
        };
        let address = "192.0.2.1".parse().unwrap();
        Opened {
            session: self.0,
            principal: Arc::new(principal),
            origin: Origin { address, country: None, method: PlaceMethod::Unknown },
            target: "customers".parse().unwrap(),
            protocol: Protocol::Postgres,
            region: "eu".parse().unwrap(),
            snapshot: Digest::ZERO,
            rules: Vec::new(),
            transfer: TransferNote {
                outcome: "transfer".into(),
                rows: Vec::new(),
                reason: String::new(),
            },
            suppressed: false,
            observed: None,
            observe: false,
            proof: None,
        }
    }
}

fn open(dir: &Path) -> Result<Audit, OpenError> {
    let options =
        Options { dir: dir.to_owned(), gateway: "gw-1".into(), spool_bytes_max: u64::MAX };
    Audit::open(&options, Arc::new(Standing::at(Timestamp::UNIX_EPOCH)))
}

fn check(dir: &Path) -> Report {
    verify(dir, "gw-1", None).unwrap()
}

fn ended(number: u64) -> TrailEvent {
    TrailEvent::Ended {
        number,
        ending: Ending::Done { status: "SELECT 1".into() },
        volume: Volume { rows: 1, bytes: 10, masked: 0 },
        sent_bytes: 0,
        result: None,
        sent: None,
    }
}

fn close(audit: &Audit, trail: &Trail) {
    let last = TrailEvent::Closed { reason: "done".into(), commands: 1, volume: Volume::default() };
    audit.close(trail, &last).unwrap();
}

/// A record of two closed sessions and one that is open, with its heads noted.
fn written(dir: &Path) -> (Audit, Arc<Trail>) {
    let audit = open(dir).unwrap();
    for _ in 0..2 {
        let (_, trail) = audit.admit(Someone(SessionId::fresh())).unwrap();
        trail.append(&ended(1)).unwrap();
        close(&audit, &trail);
    }
    let (_, trail) = audit.admit(Someone(SessionId::fresh())).unwrap();
    trail.append(&ended(1)).unwrap();
    audit.note_heads().unwrap();
    trail.append(&ended(2)).unwrap();
    (audit, trail)
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut all = vec![dir.join("ledger.jsonl")];
    for place in ["open", "closed"] {
        let entries = fs::read_dir(dir.join("trails").join(place)).unwrap();
        all.extend(entries.map(|entry| entry.unwrap().path()));
    }
    all
}

#[test]
fn a_record_verifies_while_it_is_written_and_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    let report = check(dir.path());
    assert_eq!((report.trails, report.problems), (3, vec![]));
    close(&audit, &trail);
    let head = audit.head();
    let report = verify(dir.path(), "gw-1", Some(head)).unwrap();
    assert_eq!((report.checkpoint_held, report.problems), (Some(true), vec![]));
}

#[test]
fn any_changed_removed_or_reordered_line_is_found_in_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    close(&audit, &trail);
    audit.record(&LedgerEvent::Stopped { reason: "test".into() }).unwrap();
    let head = audit.head();
    for file in files(dir.path()) {
        let sound = fs::read_to_string(&file).unwrap();
        let lines = sound.lines().collect::<Vec<_>>();
        for at in 0..lines.len() {
            let mut removed = lines.clone();
            removed.remove(at);
            let mut changed = lines.iter().map(ToString::to_string).collect::<Vec<_>>();
            changed[at] = changed[at].replacen("1970", "1971", 1);
            let mut swapped = lines.clone();
            swapped.swap(at, (at + 1) % lines.len());
            let texts = [removed.join("\n"), changed.join("\n"), swapped.join("\n")];
            for text in texts.map(|text| text + "\n").iter().filter(|text| **text != sound) {
                fs::write(&file, text).unwrap();
                let report = verify(dir.path(), "gw-1", Some(head)).unwrap();
                assert!(!report.problems.is_empty(), "{} line {}", file.display(), at + 1);
            }
        }
        fs::write(&file, &sound).unwrap();
        fs::rename(&file, dir.path().join("away")).unwrap();
        let missing = verify(dir.path(), "gw-1", Some(head));
        assert!(missing.is_err() || !missing.unwrap().problems.is_empty(), "{}", file.display());
        fs::rename(dir.path().join("away"), &file).unwrap();
    }
    assert_eq!(verify(dir.path(), "gw-1", Some(head)).unwrap().problems, vec![]);
}

#[test]
fn a_trail_cannot_take_another_ones_place() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    close(&audit, &trail);
    let all = files(dir.path());
    fs::copy(&all[1], &all[2]).unwrap();
    assert!(!check(dir.path()).problems.is_empty());
    fs::copy(&all[3], dir.path().join(format!("trails/closed/{}.jsonl", SessionId::fresh())))
        .unwrap();
    assert!(check(dir.path()).problems.len() >= 2);
}

#[test]
fn after_a_crash_open_trails_are_closed_and_torn_ends_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    let session = trail.session();
    // The process dies in the midst of two writes.
    drop((audit, trail));
    let open_trail = dir.path().join(format!("trails/open/{session}.jsonl"));
    for file in [dir.path().join("ledger.jsonl"), open_trail.clone()] {
        let mut text = fs::read_to_string(&file).unwrap();
        text.push_str("{\"n\":4,\"at\":\"1970");
        fs::write(&file, text).unwrap();
    }
    let audit = open(dir.path()).unwrap();
    assert!(!open_trail.exists());
    assert_eq!(check(dir.path()).problems, vec![]);
    let ledger = fs::read_to_string(dir.path().join("ledger.jsonl")).unwrap();
    assert!(ledger.contains("\"torn-tail\""), "{ledger}");
    assert!(ledger.contains("\"trail-recovered\"") && ledger.contains("cut off"), "{ledger}");
    assert!(ledger.contains("\"transfer-unclean\""), "{ledger}");
    audit.record(&LedgerEvent::Stopped { reason: "test".into() }).unwrap();
    assert_eq!(check(dir.path()).problems, vec![]);
}

#[test]
fn a_changed_ledger_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(written(dir.path()));
    let file = dir.path().join("ledger.jsonl");
    let text = fs::read_to_string(&file).unwrap().replacen("ada", "bob", 1);
    fs::write(&file, text).unwrap();
    let error = open(dir.path()).expect_err("damaged");
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn another_gateways_ledger_is_not_taken_for_ours() {
    let dir = tempfile::tempdir().unwrap();
    drop(written(dir.path()));
    assert!(!verify(dir.path(), "gw-2", None).unwrap().problems.is_empty());
}
