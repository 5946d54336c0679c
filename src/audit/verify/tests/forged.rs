//! What somebody can do who has the files and no key: entries go to the ledger's end as any other,
//! and recordings are left out.

use serde::Serialize;
use serde_json::json;

use super::*;
use crate::audit::chain;
use crate::audit::chain::Chain;
use crate::audit::ledger;
use crate::audit::recording::Chunks;

/// Appends an entry to the ledger of `gateway` in `file`, without anybody's key.
fn append(file: &Path, gateway: &str, event: &impl Serialize) {
    let reading = chain::read::<LedgerEvent>(file, ledger::origin(gateway), |_, _, _| ()).unwrap();
    assert_eq!(reading.damage, None);
    let mut chain = Chain::resume(file, reading.head, reading.bytes).unwrap();
    chain.append(Timestamp::UNIX_EPOCH, event).unwrap();
}

impl Sound {
    fn forge(&self, event: &impl Serialize) {
        append(&self.path("ledger.jsonl"), "gw-1", event);
    }

    /// Verifies it with all that may be known from elsewhere.
    fn known(&self) -> [Report; 3] {
        let key = std::slice::from_ref(&self.key);
        [self.with_key(), self.with_kept(), check(&[self.dir.path()], &[&self.kept], key)]
    }
}

#[test]
fn what_no_checkpoint_counts_excuses_no_recording() {
    let sound = Sound::new();
    let (session, file) = sound.first();
    sound.forge(&LedgerEvent::Expired { session, kept_days: 1 });
    let entry = u64::try_from(sound.lines().len()).unwrap();
    for report in sound.known() {
        fine(&report, report.assurance);
        assert_eq!((report.ledgers[0].uncounted, report.gone), (1, 0));
    }
    fs::remove_file(file).unwrap();
    for report in sound.known() {
        finds(&report, "the recording is missing");
    }
    // Where nothing is known, nobody can tell; but which recordings are not there is said.
    let report = sound.alone();
    fine(&report, Assurance::Consistent);
    assert_eq!(report.excused, [Excused { session, why: Excuse::Gone, entry: Some(entry) }]);
}

#[test]
fn an_end_that_no_checkpoint_counts_replaces_none() {
    let sound = Sound::new();
    let (session, file) = sound.first();
    let whole = fs::read(&file).unwrap();
    let mut chunks = Chunks::begin(whole.as_slice()).unwrap().unwrap();
    chunks.next().unwrap();
    let (head, bytes) = (chunks.head(), usize::try_from(chunks.bytes()).unwrap());
    assert!(bytes < whole.len());
    fs::write(&file, &whole[..bytes]).unwrap();
    sound.forge(&LedgerEvent::TrailRecovered { session, head, damage: None });
    for report in sound.known().into_iter().chain([sound.alone()]) {
        finds(&report, "its tail was lost");
    }
}

#[test]
fn what_the_gateway_signs_later_counts_for_whoever_kept_a_checkpoint() {
    let sound = Sound::new();
    let (session, file) = sound.first();
    let clock = Arc::new(Standing::at(Timestamp::UNIX_EPOCH));
    let audit = Audit::open(&options(sound.dir.path(), "gw-1"), clock).unwrap();
    audit.record(&LedgerEvent::Expired { session, kept_days: 1 }).unwrap();
    fs::remove_file(file).unwrap();
    finds(&sound.with_kept(), "the recording is missing");
    audit.checkpoint().unwrap();
    for report in sound.known() {
        fine(&report, report.assurance);
        assert_eq!((report.gone, report.ledgers[0].uncounted), (1, 0));
    }
}

#[test]
fn another_ledger_excuses_no_recording() {
    let sound = Sound::new();
    let (session, file) = sound.first();
    let other = tempfile::tempdir().unwrap();
    let clock = Arc::new(Standing::at(Timestamp::UNIX_EPOCH));
    let audit = Audit::open(&options(other.path(), "gw-0"), clock).unwrap();
    started(&audit, "gw-0");
    audit.record(&LedgerEvent::Expired { session, kept_days: 1 }).unwrap();
    audit.checkpoint().unwrap();
    let keys = [sound.key.clone(), audit.signer().parse().unwrap()];
    fs::remove_file(&file).unwrap();
    // Whichever is read first.
    for files in [[sound.dir.path(), other.path()], [other.path(), sound.dir.path()]] {
        for report in [check(&files, &[], &[]), check(&files, &[&sound.kept], &keys)] {
            finds(&report, "entry 2: it is about the session");
            finds(&report, "the recording is missing");
            assert_eq!(report.gone, 0);
        }
    }
}

#[test]
fn an_entry_of_a_later_version_is_verified_by_its_bytes() {
    let sound = Sound::new();
    sound.forge(&json!({ "is": "moon-rose", "full": true }));
    sound.forge(&LedgerEvent::Stopped { reason: "test".into() });
    let report = sound.with_kept();
    fine(&report, Assurance::Held);
    assert_eq!(report.unknown, [("moon-rose".to_owned(), 1)].into());
    let changed = sound.lines().concat().replace("moon-rose", "moon-fell");
    fs::write(sound.path("ledger.jsonl"), changed).unwrap();
    finds(&sound.with_kept(), "does not follow");
    // One that is known has to be whole.
    let sound = Sound::new();
    sound.forge(&json!({ "is": "stopped" }));
    finds(&sound.with_kept(), "this is no entry of a ledger");
}

#[test]
fn a_file_that_was_kept_has_a_checkpoint() {
    let sound = Sound::new();
    let empty = sound.path("empty.jsonl");
    for text in ["", "{\"at\":"] {
        fs::write(&empty, text).unwrap();
        let (files, held) = (vec![sound.path("ledger.jsonl")], vec![empty.clone()]);
        let options = Options { files, held, ..Options::default() };
        let verified = verify(&options, &mut |_| ());
        assert!(matches!(verified, Err(VerifyError::Held { .. })), "{text}");
    }
}
