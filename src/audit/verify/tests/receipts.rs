//! Receipts, alone and beside their ledgers.

use super::*;
use crate::audit::prove;
use crate::audit::prove::Wanted;

#[test]
fn a_receipt_proves_its_entry_alone() {
    let sound = Sound::new();
    let lines = sound.lines();
    let state = vec![sound.dir.path().to_owned()];
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("receipt");
    let session = sound.recordings()[0].file_stem().unwrap().to_str().unwrap().to_owned();
    let session = session.parse::<SessionId>().unwrap();
    let mut wanted =
        (1..=lines.len()).map(|n| Wanted::Number(n.try_into().unwrap())).collect::<Vec<_>>();
    wanted.extend([Wanted::Admission(session), Wanted::End(session)]);
    for wanted in &wanted {
        let receipt = prove::receipt(&state, wanted).unwrap();
        let line = &lines[usize::try_from(receipt.number()).unwrap() - 1];
        assert_eq!(receipt.entry(), line.trim_end().as_bytes(), "{wanted:?}");
        fs::write(&file, receipt.to_string()).unwrap();
        let report = check(&[&file], &[], std::slice::from_ref(&sound.key));
        fine(&report, Assurance::Signed);
        assert_eq!(report.receipts[0].number, receipt.number());
        fine(&check(&[&file], &[], &[]), Assurance::Consistent);
        // With its ledger, it is compared.
        fine(&check(&[&file, sound.dir.path()], &[], &[]), Assurance::Consistent);
    }
    let end = prove::receipt(&state, &Wanted::End(session)).unwrap();
    assert!(String::from_utf8_lossy(end.entry()).contains("trail-closed"));
    assert!(matches!(
        prove::receipt(&state, &Wanted::Number(1 + u64::try_from(lines.len()).unwrap())),
        Err(prove::ProveError::NoEntry)
    ));
    // Another's key, a changed receipt, and the receipt of a fork.
    let forged = Sound::new();
    let text = fs::read_to_string(&file).unwrap();
    finds(&check(&[&file], &[], std::slice::from_ref(&forged.key)), "cannot be believed");
    fs::write(&file, text.replace("index ", "index 1")).unwrap();
    finds(&check(&[&file], &[], &[]), "is not entry");
    let theirs = prove::receipt(&[forged.dir.path().to_owned()], &Wanted::Number(2)).unwrap();
    fs::write(&file, theirs.to_string()).unwrap();
    finds(&check(&[&file, sound.dir.path()], &[], &[]), "the ledger was forked");
}

#[test]
fn a_receipt_tells_of_a_tail_that_was_cut_off() {
    let sound = Sound::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let receipt = elsewhere.path().join("1.tlog-proof");
    let state = vec![sound.dir.path().to_owned()];
    let proof = prove::receipt(&state, &Wanted::Number(1)).unwrap();
    fs::write(&receipt, proof.to_string()).unwrap();
    let files = [sound.dir.path(), receipt.as_path()];
    fine(&check(&files, &[], &[]), Assurance::Consistent);
    // Whoever cuts the tail off leaves the entry of the receipt, and takes the gateway's checkpoints.
    let lines = sound.lines();
    sound.write("ledger.jsonl", &lines[..lines.len() - 1]);
    fs::remove_file(sound.path("checkpoints.jsonl")).unwrap();
    fine(&sound.alone(), Assurance::Consistent);
    finds(&check(&files, &[], &[]), "the receipt's checkpoint counts");
    sound.write("ledger.jsonl", &[&lines[..lines.len() - 1], &[lines[0].clone()]].concat());
    assert!(!check(&files, &[], &[]).sound);
    // Without its ledger it still verifies alone.
    fine(&check(&[&receipt], &[], &[]), Assurance::Consistent);
}
