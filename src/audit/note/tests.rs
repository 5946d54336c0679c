//! Notes, keys and checkpoints, held against those that others made.

use proptest::prelude::*;

use super::*;

/// The example of Go's `golang.org/x/mod/sumdb/note`, which first had this format.
const GO_VERIFIER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const GO_SEED: &str = "gQoUAtUUbI2E8kQzMPVAgOv5juF9nHT2JS/F1ccoMXM=";
const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpR\
    Zb6KE6RyyBwJnAM=\n";

fn key(name: &str, seed: u8) -> NoteKey {
    NoteKey::new(name.parse().unwrap(), &[seed; KEY_BYTES]).unwrap()
}

fn checkpoint(origin: &str, size: u64) -> Checkpoint {
    Checkpoint { origin: origin.parse().unwrap(), size, root: Digest::of(b"root") }
}

#[test]
fn keys_and_notes_are_those_of_go() {
    let verifier = GO_VERIFIER.parse::<Verifier>().unwrap();
    assert_eq!(verifier.to_string(), GO_VERIFIER);
    let note = GO_NOTE.parse::<SignedNote>().unwrap();
    assert_eq!(note.to_string(), GO_NOTE);
    assert_eq!(note.verify(std::slice::from_ref(&verifier)), Ok(vec![&verifier]));
    // Ed25519 is deterministic, so signing anew gives their very note.
    let seed = unbase64_exactly(GO_SEED).unwrap().try_into().unwrap();
    let key = NoteKey::new("PeterNeumann".parse().unwrap(), &seed).unwrap();
    assert_eq!(key.verifier(), &verifier);
    let text = note.text().to_owned();
    let signatures = vec![key.sign(&text)];
    assert_eq!(SignedNote { text, signatures }.to_string(), GO_NOTE);
}

#[test]
fn checkpoints_are_those_of_tlog() {
    let ours = checkpoint("gw.example/weir-ledger/gw-1", 20_852);
    let theirs = tlog_tiles::Checkpoint::new(
        ours.origin.as_str(),
        ours.size,
        tlog_tiles::Hash(*ours.root.as_bytes()),
        "",
    );
    assert_eq!(theirs.unwrap().to_bytes(), ours.to_string().as_bytes());
    // Their strict reader wants what follows a checkpoint in a note, too.
    let note = ours.signed(&[&key("gw.example/weir-ledger/gw-1", 1)]).to_string();
    let mut reader = note.as_bytes();
    let theirs = tlog_tiles::Checkpoint::from_reader(&mut reader, false).unwrap();
    assert_eq!(theirs.origin(), ours.origin.as_str());
    assert_eq!((theirs.size(), theirs.hash().0), (ours.size, *ours.root.as_bytes()));
}

#[test]
fn a_checkpoint_is_believed_by_its_own_ledgers_key_alone() {
    let (own, witness, other) = (key("gw/l", 1), key("witness", 2), key("gw/l", 3));
    let note = checkpoint("gw/l", 7).signed(&[&witness, &own]);
    let read = note.to_string().parse::<SignedNote>().unwrap();
    assert_eq!(read, note);
    let by = |keys: &[&NoteKey]| {
        let keys = keys.iter().map(|key| key.verifier().clone()).collect::<Vec<_>>();
        read.checkpoint_by(&keys)
    };
    assert_eq!(by(&[&own]), Ok(checkpoint("gw/l", 7)));
    assert_eq!(by(&[&own, &witness]), Ok(checkpoint("gw/l", 7)));
    assert_eq!(by(&[&other, &own]), Ok(checkpoint("gw/l", 7)));
    assert_eq!(by(&[&other]), Err(NoteError::Unsigned));
    assert_eq!(by(&[]), Err(NoteError::Unsigned));
    assert_eq!(by(&[&witness]), Err(NoteError::NotItsOwn("gw/l".into())));
}

#[test]
fn a_wrong_signature_by_a_known_key_spoils_the_note_and_one_by_an_unknown_does_not() {
    let (own, witness) = (key("gw/l", 1), key("witness", 2));
    let mut note = checkpoint("gw/l", 7).signed(&[&own, &witness]);
    note.signatures[1].bytes[5] ^= 1;
    let (own, witness) = (own.verifier().clone(), witness.verifier().clone());
    assert_eq!(note.verify(std::slice::from_ref(&own)), Ok(vec![&own]));
    let error = note.verify(&[own, witness]).unwrap_err();
    assert_eq!(error, NoteError::BadSignature("witness".into()));
}

#[test]
fn what_is_no_note_is_refused() {
    let line = GO_NOTE.rsplit("\n\n").next().unwrap();
    for bad in [
        String::new(),
        "text\n".into(),
        "\n\n".into(),
        "text\n\n".into(),
        format!("text\n{line}"),
        format!("text\n\n{}", line.trim_end()),
        format!("text\n\n{line}\n"),
        format!("text\n\n{line}{line}x\n"),
        format!("te\rxt\n\n{line}"),
        format!("te\0xt\n\n{line}"),
        format!("text\n\n{}", line.replace('—', "-")),
        format!("text\n\n{}", line.replace(" x0", "  x0")),
        format!("text\n\n{}", line.replace("AM=", "AM")),
        format!("text\n\n{}", line.replace("AM=", "AN=")),
        format!("text\n\n{}", line.replace("PeterNeumann", "Peter+Neumann")),
        "text\n\n— name x08gow==\n".into(),
        format!("text\n\n{}", line.repeat(SIGNATURES_MAX + 1)),
        format!("{}\n\n{line}", "x".repeat(NOTE_BYTES_MAX)),
    ] {
        assert!(bad.parse::<SignedNote>().is_err(), "{bad:?}");
    }
    let many = format!("text\n\n{}", line.repeat(SIGNATURES_MAX));
    assert_eq!(many.parse::<SignedNote>().unwrap().signatures().len(), SIGNATURES_MAX);
    // The last empty line is the one that counts.
    let note = format!("a\n\n\n{line}").parse::<SignedNote>().unwrap();
    assert_eq!(note.text(), "a\n\n");
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let good = checkpoint("gw/l", 7).to_string();
    assert_eq!(good.parse::<Checkpoint>(), Ok(checkpoint("gw/l", 7)));
    for bad in [
        String::new(),
        good.trim_end().to_owned(),
        format!("{good}extension\n"),
        good.replace("\n7\n", "\n07\n"),
        good.replace("\n7\n", "\n+7\n"),
        good.replace("\n7\n", "\n-7\n"),
        good.replace("\n7\n", "\n18446744073709551616\n"),
        good.replace("gw/l", ""),
        good.replace("gw/l", "gw l"),
        good.replace('=', ""),
        "gw/l\n7\nAAAA\n".into(),
    ] {
        assert!(bad.parse::<Checkpoint>().is_err(), "{bad:?}");
    }
}

#[test]
fn what_is_no_verifier_key_is_refused() {
    for bad in [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a3+",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10Q=",
        "PeterNeumann+c74f20a3+Ahpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ] {
        assert!(bad.parse::<Verifier>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_private_key_does_not_show_itself() {
    let shown = format!("{:?}", key("gw/l", 0x42));
    assert!(!shown.contains("66, 66") && !shown.contains("4242"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// A note with one bit changed is none, or is not signed by anybody known.
    #[test]
    fn any_flipped_bit_is_noticed(at in any::<usize>(), bit in 0_u8..8) {
        let key = key("gw.example/l", 1);
        let mut bytes = checkpoint("gw.example/l", 7).signed(&[&key]).to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let read = String::from_utf8(bytes).ok().and_then(|text| text.parse::<SignedNote>().ok());
        if let Some(note) = read {
            prop_assert!(note.checkpoint_by(&[key.verifier().clone()]).is_err());
        }
    }

    #[test]
    fn verifier_keys_go_both_ways(seed in any::<[u8; KEY_BYTES]>(), name in "[^\\s+\\pC]{1,40}") {
        let key = NoteKey::new(name.parse().unwrap(), &seed).unwrap();
        let verifier = key.verifier();
        prop_assert_eq!(&verifier.to_string().parse::<Verifier>().unwrap(), verifier);
    }
}
