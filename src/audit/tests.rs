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
use crate::audit::keys::KeyBytes;
use crate::audit::keys::KeyRing;
use crate::audit::keys::LedgerKey;
use crate::audit::keys::Purpose;
use crate::audit::keys::WrappingKey;
use crate::audit::spool;
use crate::audit::spool::Folders;
use crate::audit::spool::Level;
use crate::audit::verify;
use crate::audit::verify::Report;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::SessionId;
use crate::model::clock::Standing;
use crate::model::digest::Digest;
use crate::model::place::PlaceMethod;
use crate::model::principal::Kind;

pub(in crate::audit) struct Someone(pub(in crate::audit) SessionId);

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
            law: None,
        }
    }
}

pub(in crate::audit) fn open(dir: &Path) -> Result<Audit, OpenError> {
    Audit::open(&options(dir, "gw-1"), Arc::new(Standing::at(Timestamp::UNIX_EPOCH)))
}

/// The record of a gateway in `dir`, with keys of its own.
pub(in crate::audit) fn options(dir: &Path, gateway: &str) -> Options {
    let (wrapping, ledger) = (dir.join("wrapping.key"), dir.join("ledger.key"));
    let key = |path: &Path, purpose| {
        if path.exists() { KeyBytes::read(path, purpose) } else { KeyBytes::create(path, purpose) }
    };
    let wrapping = WrappingKey::new(key(&wrapping, Purpose::Wrapping).unwrap());
    let ledger = LedgerKey::new(key(&ledger, Purpose::Ledger).unwrap());
    let name = format!("weir.example/{gateway}").parse().unwrap();
    Options {
        dir: dir.to_owned(),
        gateway: gateway.into(),
        region: "eu".parse().unwrap(),
        spool_bytes_max: u64::MAX,
        level: Level::Process,
        keys: KeyRing::new(wrapping, Vec::new()).unwrap(),
        signers: vec![Arc::new(ledger.named(name).unwrap())],
    }
}

fn check(dir: &Path) -> Report {
    check_with(dir, None)
}

/// Verifies the record in `dir`, with a checkpoint that was kept.
fn check_with(dir: &Path, held: Option<&Path>) -> Report {
    let options = verify::Options {
        files: vec![dir.to_owned()],
        held: held.map(Path::to_owned).into_iter().collect(),
        ..verify::Options::default()
    };
    verify::verify(&options, &mut |_| ()).unwrap()
}

/// Keeps the latest checkpoint elsewhere.
fn kept(audit: &Audit) -> tempfile::NamedTempFile {
    audit.checkpoint().unwrap();
    let kept = tempfile::NamedTempFile::new().unwrap();
    fs::write(kept.path(), audit.latest_checkpoint().unwrap().to_string()).unwrap();
    kept
}

pub(in crate::audit) fn started(audit: &Audit, gateway: &str) {
    let started = LedgerEvent::Started {
        gateway: gateway.into(),
        snapshot: Digest::ZERO,
        observed: Vec::new(),
        ledger_key: Some(audit.signer().to_owned()),
        wrapping_key: None,
        configuration: None,
    };
    audit.record(&started).unwrap();
}

pub(in crate::audit) fn ended(number: u64) -> TrailEvent {
    TrailEvent::Ended {
        number,
        ending: Ending::Done { status: "SELECT 1".into() },
        volume: Volume { rows: 1, bytes: 10, masked: 0 },
        sent_bytes: 0,
        result_cut: false,
        sent_cut: false,
    }
}

pub(in crate::audit) fn close(audit: &Audit, trail: &Arc<Trail>) {
    let last = TrailEvent::Closed { reason: "done".into(), commands: 1, volume: Volume::default() };
    audit.close(trail, &last).unwrap();
}

/// A record of two closed sessions and one that is open, with its heads noted.
pub(in crate::audit) fn written(dir: &Path) -> (Audit, Arc<Trail>) {
    let audit = open(dir).unwrap();
    started(&audit, "gw-1");
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
    let Folders { open, closed } = Folders::of(dir);
    for place in [open, closed] {
        let sessions = Folders::sessions(&place).unwrap();
        all.extend(sessions.iter().map(|session| spool::recording_of(&place, *session)));
    }
    all
}

#[test]
fn a_record_verifies_while_it_is_written_and_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    let report = check(dir.path());
    assert_eq!((report.recordings, report.problems), (3, vec![]));
    close(&audit, &trail);
    let report = check_with(dir.path(), Some(kept(&audit).path()));
    assert_eq!(report.problems, vec![]);
    assert_eq!(report.ledgers[0].held, audit.head().entries);
}

#[test]
fn any_changed_removed_or_reordered_line_of_the_ledger_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    close(&audit, &trail);
    audit.record(&LedgerEvent::Stopped { reason: "test".into() }).unwrap();
    let kept = kept(&audit);
    let file = dir.path().join("ledger.jsonl");
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
            let report = check_with(dir.path(), Some(kept.path()));
            assert!(!report.problems.is_empty(), "line {}", at + 1);
        }
    }
    fs::write(&file, &sound).unwrap();
    assert_eq!(check_with(dir.path(), Some(kept.path())).problems, vec![]);
}

#[test]
fn any_changed_or_missing_recording_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    close(&audit, &trail);
    for file in files(dir.path()).iter().skip(1) {
        let sound = fs::read(file).unwrap();
        for at in (0..sound.len()).step_by(97) {
            let mut changed = sound.clone();
            changed[at] ^= 1;
            fs::write(file, changed).unwrap();
            assert!(!check(dir.path()).problems.is_empty(), "{} byte {at}", file.display());
        }
        fs::write(file, &sound[..sound.len() - 1]).unwrap();
        assert!(!check(dir.path()).problems.is_empty());
        fs::remove_file(file).unwrap();
        assert!(!check(dir.path()).problems.is_empty(), "{}", file.display());
        fs::write(file, &sound).unwrap();
    }
    assert_eq!(check(dir.path()).problems, vec![]);
}

#[test]
fn a_trail_cannot_take_another_ones_place() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    close(&audit, &trail);
    let all = files(dir.path());
    fs::copy(&all[1], &all[2]).unwrap();
    assert!(!check(dir.path()).problems.is_empty());
    let stray = spool::recording_of(&Folders::of(dir.path()).closed, SessionId::fresh());
    fs::copy(&all[3], stray).unwrap();
    assert!(check(dir.path()).problems.len() >= 2);
}

#[test]
fn after_a_crash_open_trails_are_closed_and_torn_ends_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    let session = trail.session();
    // The process dies in the midst of two writes.
    drop((audit, trail));
    let open_trail = spool::recording_of(&Folders::of(dir.path()).open, session);
    for file in [dir.path().join("ledger.jsonl"), open_trail.clone()] {
        let mut bytes = fs::read(&file).unwrap();
        bytes.extend_from_slice(b"WRC1 {\"n\":4,\"at\":\"1970");
        fs::write(&file, bytes).unwrap();
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
    fs::write(dir.path().join("gateway"), "gw-2").unwrap();
    assert!(!check(dir.path()).problems.is_empty());
}

#[test]
fn checkpoints_count_what_the_disk_has_and_a_lost_tail_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    audit.checkpoint().unwrap();
    let first = audit.latest_checkpoint().unwrap().checkpoint().unwrap();
    assert_eq!(first.size, audit.head().entries);
    audit.checkpoint().unwrap();
    assert_eq!(audit.latest_checkpoint().unwrap().checkpoint().unwrap(), first, "nothing is new");
    close(&audit, &trail);
    audit.checkpoint().unwrap();
    drop((audit, trail));
    // The last entry is lost, cleanly: the chain does not show it, the checkpoint does.
    let file = dir.path().join("ledger.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    let end = text.trim_end().rfind('\n').unwrap() + 1;
    fs::write(&file, text.get(..end).unwrap()).unwrap();
    let error = open(dir.path()).expect_err("a lost tail").to_string();
    assert!(error.contains("checkpoint"), "{error}");
    fs::write(&file, text).unwrap();
    assert!(open(dir.path()).is_ok());
}

#[test]
fn ten_thousand_entries_bring_a_checkpoint_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path()).unwrap();
    for _ in 0..10_000 {
        audit.record(&LedgerEvent::Stopped { reason: "test".into() }).unwrap();
    }
    let checkpoint = audit.latest_checkpoint().expect("one").checkpoint().unwrap();
    assert_eq!(checkpoint.size, 10_000);
}

#[test]
fn another_ledger_key_is_refused_unless_the_old_one_signs_too() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path()).unwrap();
    started(&audit, "gw-1");
    drop(audit);
    fs::remove_file(dir.path().join("ledger.key")).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::OtherKey { .. })));
}

#[test]
fn beyond_the_spools_bound_nobody_is_admitted_and_commands_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { spool_bytes_max: 6_000, ..options(dir.path(), "gw-1") };
    let audit = Audit::open(&options, Arc::new(Standing::at(Timestamp::UNIX_EPOCH))).unwrap();
    let (_, trail) = audit.admit(Someone(SessionId::fresh())).unwrap();
    let mut appended = 0;
    while trail.append(&ended(1)).is_ok() {
        appended += 1;
        assert!(appended < 100);
    }
    assert!(trail.lost());
    assert!(audit.admit(Someone(SessionId::fresh())).is_err());
    assert!(audit.room().used() <= 6_000);
    assert_eq!(Folders::sessions(&audit.folders().open).unwrap().len(), 1);
}

#[test]
fn two_gateways_cannot_write_in_one_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    let before = fs::read(dir.path().join("ledger.jsonl")).unwrap();
    let error = open(dir.path()).expect_err("in use");
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert_eq!(fs::read(dir.path().join("ledger.jsonl")).unwrap(), before);
    trail.append(&ended(3)).unwrap();
    close(&audit, &trail);
    assert_eq!(check(dir.path()).problems, vec![]);
    drop(audit);
    assert!(open(dir.path()).is_ok(), "it is free once the other has gone");
}

#[test]
fn a_folder_stays_its_gateways() {
    let dir = tempfile::tempdir().unwrap();
    drop(written(dir.path()));
    let options = options(dir.path(), "gw-2");
    let other = Audit::open(&options, Arc::new(Standing::at(Timestamp::UNIX_EPOCH)));
    assert!(matches!(other, Err(OpenError::OtherGateway { .. })));
    assert_eq!(fs::read_to_string(dir.path().join("gateway")).unwrap(), "gw-1");
    assert_eq!(check(dir.path()).problems, vec![]);
}

/// Damages the recording that a crash left open by `damage`, and starts again: the ledger's text.
fn recovered(damage: impl FnOnce(&mut Vec<u8>)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    let session = trail.session();
    drop((audit, trail));
    let Folders { open: running, closed } = Folders::of(dir.path());
    let file = spool::recording_of(&running, session);
    let mut bytes = fs::read(&file).unwrap();
    damage(&mut bytes);
    fs::write(&file, &bytes).unwrap();
    drop(open(dir.path()).unwrap());
    assert_eq!(fs::read(spool::recording_of(&closed, session)).unwrap(), bytes, "kept as it is");
    assert!(spool::key_of(&closed, session).exists());
    fs::read_to_string(dir.path().join("ledger.jsonl")).unwrap()
}

#[test]
fn a_damaged_recording_of_an_admitted_session_is_kept_and_named() {
    let harms: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes[9] ^= 1,
        Vec::clear,
        |bytes| bytes.truncate(40),
        |bytes| {
            let first = bytes.windows(4).position(|four| four == b"WRC1").unwrap();
            bytes.truncate(first);
        },
    ];
    for harm in harms {
        let ledger = recovered(harm);
        let entry = ledger.lines().rfind(|line| line.contains("trail-recovered")).unwrap();
        assert!(entry.contains("\"damage\":\""), "{entry}");
    }
}

#[test]
fn what_was_begun_for_nobody_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    close(&audit, &trail);
    drop(audit);
    let stray = SessionId::fresh();
    let running = Folders::of(dir.path()).open;
    fs::write(spool::recording_of(&running, stray), b"").unwrap();
    fs::write(spool::key_of(&running, stray), b"").unwrap();
    drop(open(dir.path()).unwrap());
    assert_eq!(fs::read_dir(&running).unwrap().count(), 0);
    assert_eq!(check(dir.path()).problems, vec![]);
}

#[test]
fn a_session_ends_in_order_though_the_spool_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { spool_bytes_max: 6_000, ..options(dir.path(), "gw-1") };
    let audit = Audit::open(&options, Arc::new(Standing::at(Timestamp::UNIX_EPOCH))).unwrap();
    started(&audit, "gw-1");
    let (_, trail) = audit.admit(Someone(SessionId::fresh())).unwrap();
    while trail.append(&ended(1)).is_ok() {}
    close(&audit, &trail);
    let Folders { open, closed } = audit.folders().clone();
    assert_eq!(Folders::sessions(&open).unwrap().len(), 0);
    assert_eq!(Folders::sessions(&closed).unwrap().len(), 1);
    assert_eq!(check(dir.path()).problems, vec![]);
    audit.forget(trail.session()).unwrap();
    assert_eq!(audit.room().used(), 0, "and makes room");
    assert!(audit.admit(Someone(SessionId::fresh())).is_ok());
}

#[test]
fn an_entry_stands_though_no_checkpoint_can_be_signed() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path()).unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("checkpoints.jsonl")).unwrap();
    for _ in 0..10_001 {
        audit.record(&LedgerEvent::Stopped { reason: "test".into() }).unwrap();
    }
    assert!(audit.latest_checkpoint().is_none() && audit.checkpoint().is_err());
}

#[test]
fn a_ledger_is_not_signed_anew() {
    // Without its checkpoints.
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Standing::at(Timestamp::UNIX_EPOCH));
    let audit = Audit::open(&options(dir.path(), "gw-1"), clock.clone()).unwrap();
    started(&audit, "gw-1");
    audit.checkpoint().unwrap();
    clock.set(Timestamp::from_second(3_600).unwrap());
    audit.record(&LedgerEvent::Stopped { reason: "test".into() }).unwrap();
    drop(audit);
    let checkpoints = dir.path().join("checkpoints.jsonl");
    let sound = fs::read_to_string(&checkpoints).unwrap();
    fs::remove_file(&checkpoints).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Checkpoint { .. })));
    // With one of the right form, by another's key.
    let other = tempfile::tempdir().unwrap();
    let forged = open(other.path()).unwrap();
    fs::write(&checkpoints, sound.replacen("— ", "— x", 1)).unwrap();
    assert!(open(dir.path()).is_err());
    drop(forged);
    fs::write(&checkpoints, &sound).unwrap();
    assert!(open(dir.path()).is_ok());
}

#[test]
fn what_a_forgotten_recordings_key_is_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    close(&audit, &trail);
    let closed = audit.folders().closed.clone();
    let session = trail.session();
    // Whoever was killed in the midst of it left the key alone.
    fs::remove_file(spool::recording_of(&closed, session)).unwrap();
    audit.forget(session).unwrap();
    assert!(!spool::key_of(&closed, session).exists());
}

#[test]
fn a_ledger_that_is_gone_is_not_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(written(dir.path()));
    for file in ["ledger.jsonl", "checkpoints.jsonl"] {
        drop(fs::remove_file(dir.path().join(file)));
    }
    assert!(matches!(open(dir.path()), Err(OpenError::LedgerGone { .. })));
    assert!(!dir.path().join("ledger.jsonl").exists());
}
