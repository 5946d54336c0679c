//! Records that are changed behind their gateway's back, in every way that there is a name for; and
//! records that are sound, however they are cut and copied.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::audit::Audit;
use crate::audit::LedgerEvent;
use crate::audit::spool;
use crate::audit::spool::Folders;
use crate::audit::tests::Someone;
use crate::audit::tests::close;
use crate::audit::tests::ended;
use crate::audit::tests::options;
use crate::audit::tests::started;
use crate::audit::tests::written;
use crate::model::SessionId;
use crate::model::clock::Standing;

mod forged;
mod places;
mod receipts;

/// A record of three sessions that ended, its last checkpoint kept elsewhere, and its key.
struct Sound {
    dir: tempfile::TempDir,
    kept: PathBuf,
    key: Verifier,
    _elsewhere: tempfile::TempDir,
}

impl Sound {
    fn new() -> Self {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (audit, trail) = written(dir.path());
        audit.checkpoint().unwrap();
        close(&audit, &trail);
        audit.record(&LedgerEvent::Stopped { reason: "test".into() }).unwrap();
        audit.checkpoint().unwrap();
        let kept = elsewhere.path().join("kept");
        fs::write(&kept, audit.latest_checkpoint().unwrap().to_string()).unwrap();
        let key = audit.signer().parse().unwrap();
        Self { dir, kept, key, _elsewhere: elsewhere }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("ledger.jsonl")).unwrap();
        text.lines().map(|line| format!("{line}\n")).collect()
    }

    fn write(&self, name: &str, lines: &[String]) {
        fs::write(self.path(name), lines.concat()).unwrap();
    }

    fn recordings(&self) -> Vec<PathBuf> {
        let closed = Folders::of(self.dir.path()).closed;
        let sessions = Folders::sessions(&closed).unwrap();
        sessions.iter().map(|session| spool::recording_of(&closed, *session)).collect()
    }

    /// A session, and the file of its recording.
    fn first(&self) -> (SessionId, PathBuf) {
        let path = self.recordings()[0].clone();
        (path.file_stem().unwrap().to_str().unwrap().parse().unwrap(), path)
    }

    /// Verifies it with nothing known from elsewhere.
    fn alone(&self) -> Report {
        check(&[self.dir.path()], &[], &[])
    }

    fn with_key(&self) -> Report {
        check(&[self.dir.path()], &[], std::slice::from_ref(&self.key))
    }

    fn with_kept(&self) -> Report {
        check(&[self.dir.path()], &[&self.kept], &[])
    }
}

fn check(files: &[&Path], held: &[&Path], keys: &[Verifier]) -> Report {
    check_without(Without::default(), files, held, keys)
}

fn check_without(without: Without, files: &[&Path], held: &[&Path], keys: &[Verifier]) -> Report {
    let owned = |paths: &[&Path]| paths.iter().map(|path| path.to_path_buf()).collect();
    let (files, held, keys) = (owned(files), owned(held), keys.to_vec());
    let options = Options { files, held, keys, without };
    verify(&options, &mut |_| ()).unwrap()
}

fn told(report: &Report) -> String {
    report.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn finds(report: &Report, what: &str) {
    assert!(!report.sound && told(report).contains(what), "{what:?} in: {}", told(report));
}

#[track_caller]
fn fine(report: &Report, assurance: Assurance) {
    assert_eq!(told(report), "");
    assert!(report.sound && report.assurance == assurance, "{report:?}");
}

#[test]
fn how_certain_a_sound_record_is_depends_on_what_is_known_from_elsewhere() {
    let sound = Sound::new();
    let entries = u64::try_from(sound.lines().len()).unwrap();
    let report = sound.alone();
    fine(&report, Assurance::Consistent);
    let [ledger] = report.ledgers.as_slice() else { panic!("{report:?}") };
    assert_eq!(
        (ledger.head.entries, ledger.checkpointed, ledger.checkpoints),
        (entries, entries, 2)
    );
    assert_eq!(ledger.origin.as_deref(), Some("weir.example/gw-1"));
    assert_eq!(ledger.gateway.as_deref(), Some("gw-1"));
    assert_eq!((report.recordings, report.ledger_only), (3, false));
    let report = sound.with_key();
    fine(&report, Assurance::Signed);
    assert_eq!(report.ledgers[0].signed, entries);
    let report = sound.with_kept();
    fine(&report, Assurance::Held);
    assert_eq!(report.ledgers[0].held, entries);
    // The ledger alone, without its folder: nobody says that recordings should be there.
    let report = check(&[&sound.path("ledger.jsonl")], &[&sound.kept], &[]);
    fine(&report, Assurance::Held);
    assert!(report.ledger_only);
}

#[test]
fn a_record_is_sound_however_its_files_are_cut_and_copied() {
    let sound = Sound::new();
    let lines = sound.lines();
    // As it was uploaded: parts of the ledger, one file a checkpoint, recordings in segments.
    let store = tempfile::tempdir().unwrap();
    let (ledger, notes) = (store.path().join("ledger/gw-1"), store.path().join("checkpoints/gw-1"));
    fs::create_dir_all(&ledger).unwrap();
    fs::create_dir_all(&notes).unwrap();
    for (at, part) in (0..).step_by(2).zip(lines.chunks(2)) {
        let name = format!("{:020}-{:020}.jsonl", at + 1, at + part.len());
        fs::write(ledger.join(name), part.concat()).unwrap();
    }
    fs::copy(&sound.kept, notes.join(format!("{:020}", lines.len()))).unwrap();
    for path in sound.recordings() {
        let dir = store.path().join("recordings").join(path.file_stem().unwrap());
        fs::create_dir_all(&dir).unwrap();
        let bytes = fs::read(&path).unwrap();
        for (at, part) in (0..).step_by(400).zip(bytes.chunks(400)) {
            fs::write(dir.join(format!("{at:020}.seg")), part).unwrap();
        }
    }
    let key = std::slice::from_ref(&sound.key);
    let report = check(&[store.path()], &[&sound.kept], key);
    fine(&report, Assurance::Held);
    assert_eq!(report.recordings, 3);
    // Both together are two copies of one.
    let report = check(&[store.path(), sound.dir.path()], &[], key);
    fine(&report, Assurance::Signed);
    assert_eq!((report.ledgers.len(), report.recordings), (1, 3));

    // A part that is missing is named, and so are bytes that are missing of a recording.
    fs::remove_file(ledger.join(format!("{:020}-{:020}.jsonl", 3, 4))).unwrap();
    finds(&check(&[store.path()], &[], &[]), "entries 3 to 4 are missing");
    fs::remove_file(ledger.join(format!("{:020}-{:020}.jsonl", 1, 2))).unwrap();
    finds(&check(&[store.path()], &[], &[]), "entries 1 to 4 are missing");
    fine(&check(&[store.path(), sound.dir.path()], &[], key), Assurance::Signed);
    let session = sound.recordings()[0].file_stem().unwrap().to_owned();
    let segments = store.path().join("recordings").join(session);
    fs::remove_file(segments.join(format!("{:020}.seg", 400))).unwrap();
    finds(&check(&[store.path(), sound.dir.path()], &[], key), "of the recording are missing");
}

#[test]
fn two_gateways_ledgers_are_verified_side_by_side() {
    let (one, dir) = (Sound::new(), tempfile::tempdir().unwrap());
    let clock = Arc::new(Standing::at(Timestamp::UNIX_EPOCH));
    let other = Audit::open(&options(dir.path(), "gw-2"), clock).unwrap();
    started(&other, "gw-2");
    other.checkpoint().unwrap();
    let both = [one.dir.path(), dir.path()];
    let report = check(&both, &[&one.kept], &[]);
    assert_eq!(report.ledgers.len(), 2, "{report:?}");
    // One was kept a checkpoint of, the other is internally consistent only.
    fine(&report, Assurance::Consistent);
    let keys = [one.key.clone(), other.signer().parse().unwrap()];
    fine(&check(&both, &[], &keys), Assurance::Signed);
    finds(&check(&both, &[], &keys[..1]), "signed by a key that you gave");
}

/// One flipped bit, anywhere.
#[test]
fn any_flipped_bit_is_found() {
    let sound = Sound::new();
    let mut files = sound.recordings();
    files.extend([sound.path("ledger.jsonl"), sound.path("checkpoints.jsonl")]);
    for path in files {
        let bytes = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let recording = path.extension().is_some_and(|extension| extension == "wrec");
        let (ledger, notes) = (sound.path("ledger.jsonl"), sound.path("checkpoints.jsonl"));
        // Of a recording every byte is in a digest, so that some stand for all.
        for at in (0..bytes.len()).step_by(if recording { 5 } else { 1 }) {
            // When a checkpoint was signed is a remark that nobody vouches for.
            let remark = text.get(..at).is_some_and(|before| {
                let line = before.rsplit('\n').next().unwrap();
                path.ends_with("checkpoints.jsonl") && !line.contains("\"note\"")
            });
            if remark {
                continue;
            }
            let mut bent = bytes.clone();
            bent[at] ^= 1 << (at % 8);
            fs::write(&path, bent).unwrap();
            let mut files = vec![ledger.as_path(), notes.as_path()];
            files.extend(recording.then_some(path.as_path()));
            let report = check(&files, &[&sound.kept], &[]);
            let about = |problem: &Problem| problem.file == path || !recording;
            assert!(report.problems.iter().any(about), "{} byte {at}", path.display());
        }
        fs::write(&path, &bytes).unwrap();
    }
    fine(&sound.with_kept(), Assurance::Held);
}

#[test]
fn a_truncated_file_is_found_wherever_it_was_cut() {
    let sound = Sound::new();
    let mut files = sound.recordings();
    files.extend([sound.path("ledger.jsonl"), sound.path("checkpoints.jsonl")]);
    for path in files {
        let bytes = fs::read(&path).unwrap();
        for length in (0..bytes.len()).step_by(7) {
            fs::write(&path, &bytes[..length]).unwrap();
            let report = sound.with_kept();
            // Checkpoints that are lost whole are no loss to whoever kept one.
            let whole = bytes[..length].ends_with(b"\n") || length == 0;
            let fine = path.ends_with("checkpoints.jsonl") && whole;
            assert_eq!(report.sound, fine, "{} at {length}: {}", path.display(), told(&report));
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(sound.with_kept().sound, path.ends_with("checkpoints.jsonl"));
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn removed_reordered_and_repeated_entries_are_found() {
    let sound = Sound::new();
    let lines = sound.lines();
    for at in 0..lines.len() {
        let mut removed = lines.clone();
        removed.remove(at);
        let mut swapped = lines.clone();
        swapped.swap(at, (at + 1) % lines.len());
        let mut repeated = lines.clone();
        repeated.insert(at, lines[at].clone());
        for changed in [removed, swapped, repeated] {
            sound.write("ledger.jsonl", &changed);
            let report = sound.with_kept();
            assert!(!report.sound, "at {at}");
        }
    }
}

#[test]
fn a_tail_that_was_dropped_is_found_by_what_counts_it() {
    let sound = Sound::new();
    let lines = sound.lines();
    let notes = fs::read_to_string(sound.path("checkpoints.jsonl")).unwrap();
    sound.write("ledger.jsonl", &lines[..lines.len() - 1]);
    finds(&sound.alone(), "its tail was lost or cut off");
    // Whoever drops the tail drops the checkpoint that counts it: only one kept elsewhere finds it.
    let first = notes.lines().next().unwrap();
    fs::write(sound.path("checkpoints.jsonl"), format!("{first}\n")).unwrap();
    fine(&sound.alone(), Assurance::Consistent);
    finds(&sound.with_kept(), "its tail was lost or cut off");
    // An older one that was kept is still held, and says how far it goes.
    let older = sound.dir.path().join("older");
    let signed = serde_json::from_str::<crate::audit::ledger::Signed>(first).unwrap();
    fs::write(&older, signed.note).unwrap();
    let report = check(&[sound.dir.path()], &[&older], &[]);
    fine(&report, Assurance::Held);
    assert!(report.ledgers[0].held < report.ledgers[0].head.entries);
}

#[test]
fn a_fork_is_found() {
    let sound = Sound::new();
    let lines = sound.lines();
    let last = lines.last().unwrap();
    let mut other = lines[..lines.len() - 1].to_vec();
    other.push(last.replace("test", "else"));
    sound.write("ledger-copy.jsonl", &other);
    finds(&sound.alone(), "forked");
    // Each of the two is consistent, and only one is the one that was signed.
    fs::remove_file(sound.path("ledger-copy.jsonl")).unwrap();
    sound.write("ledger.jsonl", &other);
    finds(&sound.alone(), "the checkpoint is not of the first");
    finds(&sound.with_kept(), "the checkpoint is not of the first");
}

#[test]
fn parts_of_another_gateways_record_are_found() {
    let (sound, dir) = (Sound::new(), tempfile::tempdir().unwrap());
    let clock = Arc::new(Standing::at(Timestamp::UNIX_EPOCH));
    let other = Audit::open(&options(dir.path(), "gw-2"), clock).unwrap();
    started(&other, "gw-2");
    let (_, trail) = other.admit(Someone(SessionId::fresh())).unwrap();
    trail.append(&ended(1)).unwrap();
    close(&other, &trail);
    other.checkpoint().unwrap();
    let theirs = fs::read_to_string(dir.path().join("ledger.jsonl")).unwrap();
    let theirs = theirs.lines().map(|line| format!("{line}\n")).collect::<Vec<_>>();
    let lines = sound.lines();
    // Their entries behind ours, in one file and in two.
    sound.write("ledger.jsonl", &[&lines[..2], &theirs[2..]].concat());
    finds(&sound.alone(), "does not follow");
    sound.write("ledger.jsonl", &lines[..2]);
    sound.write("ledger-later.jsonl", &theirs[2..]);
    finds(&sound.alone(), "of two gateways");
    fs::remove_file(sound.path("ledger-later.jsonl")).unwrap();
    sound.write("ledger.jsonl", &lines);
    // Their whole ledger, as ours.
    sound.write("ledger.jsonl", &theirs);
    finds(&sound.alone(), "another gateway");
    sound.write("ledger.jsonl", &lines);
    // Their recording, their checkpoint.
    let name = format!("{}.wrec", trail.session());
    let (from, to) = (dir.path().join("spool/closed").join(&name), sound.path("spool/closed"));
    fs::copy(from, to.join(&name)).unwrap();
    finds(&sound.alone(), "the ledger knows nothing of this recording");
    fs::remove_file(to.join(&name)).unwrap();
    let note = dir.path().join("note");
    fs::write(&note, other.latest_checkpoint().unwrap().to_string()).unwrap();
    finds(&check(&[sound.dir.path()], &[&note], &[]), "which is not among the files");
}

#[test]
fn what_was_signed_anew_is_found_by_a_key_or_a_checkpoint_from_elsewhere() {
    let (sound, forged) = (Sound::new(), Sound::new());
    // All of it is written anew, by somebody with another key of the same name.
    fine(&forged.alone(), Assurance::Consistent);
    let key = std::slice::from_ref(&sound.key);
    finds(&check(&[forged.dir.path()], &[], key), "signed by a key that you gave");
    finds(&check(&[forged.dir.path()], &[&sound.kept], &[]), "the checkpoint is not of the first");
    // The checkpoints alone.
    let stolen = fs::read(forged.path("checkpoints.jsonl")).unwrap();
    fs::write(sound.path("checkpoints.jsonl"), stolen).unwrap();
    finds(&sound.alone(), "the checkpoint is not of the first");
    let own = crate::audit::keys::LedgerKey::new(crate::audit::keys::KeyBytes::generate().unwrap());
    let own = own.named("weir.example/gw-1".parse().unwrap()).unwrap();
    let kept = fs::read_to_string(&sound.kept).unwrap();
    let note = kept.parse::<crate::audit::note::SignedNote>().unwrap().checkpoint().unwrap();
    fs::remove_file(sound.path("checkpoints.jsonl")).unwrap();
    fs::write(sound.path("checkpoint"), note.signed(&[&own]).to_string()).unwrap();
    finds(&sound.alone(), "no key that the ledger names has signed this checkpoint");
    finds(&sound.with_key(), "no key that is known has signed this checkpoint");
}

#[test]
fn whoever_trusts_a_key_trusts_the_one_that_followed_it() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, trail) = written(dir.path());
    close(&audit, &trail);
    audit.checkpoint().unwrap();
    let old = audit.signer().parse::<Verifier>().unwrap();
    drop(audit);
    let before = options(dir.path(), "gw-1").signers;
    fs::remove_file(dir.path().join("ledger.key")).unwrap();
    let fresh = options(dir.path(), "gw-1").signers;
    let open = |signers| {
        let options = crate::audit::Options { signers, ..options(dir.path(), "gw-1") };
        Audit::open(&options, Arc::new(Standing::at(Timestamp::UNIX_EPOCH))).unwrap()
    };
    let both = open([fresh.clone(), before].concat());
    started(&both, "gw-1");
    both.checkpoint().unwrap();
    drop(both);
    // Later the old key is put away.
    let alone = open(fresh);
    alone.record(&LedgerEvent::Stopped { reason: "test".into() }).unwrap();
    alone.checkpoint().unwrap();
    let new = alone.signer().parse::<Verifier>().unwrap();
    for key in [old, new] {
        let report = check(&[dir.path()], &[], &[key]);
        fine(&report, Assurance::Signed);
        assert_eq!(report.ledgers[0].signed, alone.head().entries);
    }
}

#[test]
fn a_recording_is_the_one_that_the_ledger_names_or_none() {
    let sound = Sound::new();
    let [first, second, _] = &sound.recordings()[..] else { panic!("three recordings") };
    let bytes = fs::read(first).unwrap();
    fs::copy(second, first).unwrap();
    finds(&sound.alone(), "it is the recording of session");
    fs::remove_file(first).unwrap();
    finds(&sound.alone(), "the recording is missing");
    // One that goes on behind its end.
    let longer = [bytes.as_slice(), &bytes[bytes.len() - 10..]].concat();
    fs::write(first, longer).unwrap();
    finds(&sound.alone(), "cut off");
    fs::write(first, &bytes).unwrap();
    let stray = sound.path("spool/closed/no-session.wrec");
    fs::write(&stray, b"weir recording 1\n").unwrap();
    finds(&sound.alone(), "its header is cut off");
}

/// A gateway that runs goes on while its record is verified.
#[test]
fn recordings_that_come_or_move_meanwhile_are_found_again() {
    let sound = Sound::new();
    let options = Options { files: vec![sound.dir.path().to_owned()], ..Options::default() };
    let folders = Folders::of(sound.dir.path());
    let given = Given::find(&options).unwrap();
    let recordings = sound.recordings();
    let sessions = Folders::sessions(&folders.closed).unwrap();
    for (session, path) in sessions.iter().zip(&recordings) {
        let found = given.again(*session);
        assert!(matches!(found, Some(given::Copy::Whole(found)) if found == *path));
        fs::rename(path, spool::recording_of(&folders.open, *session)).unwrap();
        assert!(given.again(*session).is_some(), "it moved");
        fs::remove_file(spool::recording_of(&folders.open, *session)).unwrap();
        assert!(given.again(*session).is_none(), "it is gone");
    }
}

#[test]
fn what_a_ledger_says_of_many_recordings_is_read_in_rounds() {
    let sound = Sound::new();
    let options = Options { files: vec![sound.dir.path().to_owned()], ..Options::default() };
    let in_rounds = |max| verify_within(&options, max, &mut |_| ()).unwrap();
    let whole = serde_json::to_value(sound.alone()).unwrap();
    for max in [1, 2, 3, 100] {
        assert_eq!(serde_json::to_value(in_rounds(max)).unwrap(), whole, "{max} at once");
    }
    fs::remove_file(&sound.recordings()[0]).unwrap();
    assert_eq!(told(&in_rounds(1)), told(&sound.alone()));
}

#[test]
fn what_is_no_record_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let verified = |path: &Path| {
        let options = Options { files: vec![path.to_owned()], ..Options::default() };
        verify(&options, &mut |_| ())
    };
    assert!(matches!(verified(dir.path()), Err(VerifyError::Nothing)));
    assert!(matches!(verified(&dir.path().join("none")), Err(VerifyError::Io { .. })));
    let other = dir.path().join("other");
    fs::write(&other, "some text").unwrap();
    assert!(matches!(verified(&other), Err(VerifyError::Unknown(_))));
    assert!(matches!(verified(Path::new("/dev/zero")), Err(VerifyError::Unknown(_))));
    let sound = Sound::new();
    let options = Options {
        files: vec![sound.dir.path().to_owned()],
        held: vec![other],
        ..Options::default()
    };
    assert!(matches!(verify(&options, &mut |_| ()), Err(VerifyError::Held { .. })));
}
