//! Where recordings are, and what was left out: the spool, the store.

use super::*;
use crate::audit::recording::Chunks;

/// What the ledger says of a recording decides whether it must be here.
#[test]
fn a_recording_may_be_in_the_store_or_gone_as_the_ledger_says() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    close(&audit, &trail);
    let closed = Folders::of(dir.path()).closed;
    let recordings = Folders::sessions(&closed).unwrap().into_iter().collect::<Vec<_>>();
    let [stored, erased, kept] = recordings[..] else { panic!("three recordings") };
    let path = spool::recording_of(&closed, stored);
    let bytes = fs::read(&path).unwrap();
    let length = u64::try_from(bytes.len()).unwrap();
    let event = LedgerEvent::Stored { session: stored, store: "file".into(), bytes: length };
    audit.record(&event).unwrap();
    fs::remove_file(&path).unwrap();
    let expired = LedgerEvent::Expired { session: erased, kept_days: 30 };
    audit.record(&expired).unwrap();
    fs::remove_file(spool::recording_of(&closed, erased)).unwrap();
    finds(&check(&[dir.path()], &[], &[]), "the store has it");
    let without =
        |store, spool, files: &[&Path]| check_without(Without { store, spool }, files, &[], &[]);
    let report = without(true, false, &[dir.path()]);
    fine(&report, Assurance::Consistent);
    assert_eq!((report.recordings, report.elsewhere, report.gone), (1, 1, 1));
    let why = report.excused.iter().map(|excused| (excused.session, excused.why));
    let listed = why.collect::<Vec<_>>();
    assert_eq!(listed, [(stored, Excuse::InTheStore), (erased, Excuse::Gone)]);
    // With the store at hand, what it should have must be there, and be as long.
    let store = tempfile::tempdir().unwrap();
    let segments = store.path().join("recordings").join(stored.to_string());
    fs::create_dir_all(&segments).unwrap();
    let segment = segments.join(format!("{:020}.seg", 0));
    fs::write(&segment, &bytes).unwrap();
    let both = [dir.path(), store.path()];
    let report = check(&both, &[], &[]);
    fine(&report, Assurance::Consistent);
    assert_eq!((report.recordings, report.elsewhere), (2, 0));
    fs::write(&segment, &bytes[..bytes.len() - 40]).unwrap();
    finds(&check(&both, &[], &[]), "cut off");
    let other = store.path().join("ledger/gw-1");
    fs::create_dir_all(&other).unwrap();
    fs::copy(dir.path().join("ledger.jsonl"), other.join("1-12.jsonl")).unwrap();
    fs::remove_file(&segment).unwrap();
    finds(&check(&both, &[], &[]), "the recording is missing");
    // The store alone has not what is in the spool.
    fs::write(&segment, &bytes).unwrap();
    finds(&check(&[store.path()], &[], &[]), "the recording is missing");
    let report = without(false, true, &[store.path()]);
    fine(&report, Assurance::Consistent);
    assert_eq!((report.recordings, report.elsewhere), (1, 1));
    fs::remove_file(spool::recording_of(&closed, kept)).unwrap();
    finds(&check(&both, &[], &[]), "the recording is missing");
}

/// What is not there looks the same whoever took it away: only who gives the files can say that they
/// left it out.
#[test]
fn folders_that_were_emptied_or_removed_are_no_excuse() {
    let sound = Sound::new();
    let store = tempfile::tempdir().unwrap();
    let both = [sound.dir.path(), store.path()];
    finds(&check(&both, &[&sound.kept], &[]), "nothing of a record in this folder");
    let spool = sound.path("spool");
    fs::remove_dir_all(&spool).unwrap();
    let ledger = store.path().join("ledger/gw-1");
    fs::create_dir_all(&ledger).unwrap();
    fs::copy(sound.path("ledger.jsonl"), ledger.join("1-9.jsonl")).unwrap();
    let report = check(&both, &[&sound.kept], &[]);
    finds(&report, "not its spool");
    finds(&report, "the recording is missing");
    let without = Without { spool: true, store: false };
    let report = check_without(without, &both, &[&sound.kept], &[]);
    fine(&report, Assurance::Held);
    assert_eq!((report.elsewhere, report.excused.len()), (3, 3));
}

/// The beginning of a recording in the store is enough only where the spool, which has the rest, was
/// left out.
#[test]
fn a_beginning_in_the_store_needs_the_rest_in_the_spool() {
    let sound = Sound::new();
    let (session, file) = sound.first();
    let bytes = fs::read(&file).unwrap();
    let mut chunks = Chunks::begin(bytes.as_slice()).unwrap().unwrap();
    chunks.next().unwrap();
    let beginning = &bytes[..usize::try_from(chunks.bytes()).unwrap()];
    let segments = sound.path("store/recordings").join(session.to_string());
    fs::create_dir_all(&segments).unwrap();
    fs::write(segments.join(format!("{:020}.seg", 0)), beginning).unwrap();
    let report = sound.with_kept();
    fine(&report, Assurance::Held);
    assert_eq!(report.behind, 1);
    fs::remove_file(&file).unwrap();
    finds(&sound.with_kept(), "its tail was lost");
    let without = Without { spool: true, store: false };
    let report = check_without(without, &[sound.dir.path()], &[&sound.kept], &[]);
    fine(&report, Assurance::Held);
    assert_eq!(report.behind, 1);
}
