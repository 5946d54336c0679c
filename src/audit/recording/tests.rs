//! A recording reads back, cut anywhere it is readable up to there, and any change is found.

use std::io::BufReader;
use std::io::Cursor;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::audit::chain::Damage;
use crate::audit::entry::TrailEvent;
use crate::audit::entry::Volume;
use crate::audit::keys::DataKey;
use crate::audit::spool::Room;
use crate::model::SessionId;

fn closed(commands: u64) -> TrailEvent {
    TrailEvent::Closed { reason: "x".repeat(40), commands, volume: Volume::default() }
}

fn header(key: &DataKey) -> Header {
    Header {
        session: SessionId::fresh(),
        gateway: "gw-1".into(),
        region: "eu".parse().unwrap(),
        begun: Timestamp::UNIX_EPOCH,
        wrapped_by: "w".into(),
        commitment: key.commitment(),
    }
}

/// What is put into a recording: `None` is an event that is written at once.
type Put = Option<Vec<u8>>;

fn written(puts: &[Put]) -> (Vec<u8>, DataKey) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.wrec");
    let key = DataKey::generate().unwrap();
    let room = Room::new(u64::MAX, 0);
    let mut writer = Writer::create(&path, &header(&key), &key, room.clone()).unwrap();
    for (at, put) in puts.iter().enumerate() {
        match put {
            None => {
                writer.append(Timestamp::UNIX_EPOCH, &closed(at.try_into().unwrap())).unwrap();
            }
            Some(bytes) => {
                writer.data(Timestamp::UNIX_EPOCH, 1, Stream::Output, bytes).unwrap();
            }
        }
    }
    let head = writer.seal().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::try_from(bytes.len()).unwrap();
    assert_eq!(room.used(), length);
    assert_eq!(writer.bytes(), length);
    let (entries, end, damage) = read(&bytes, &key);
    assert_eq!((end.entries, end.digest, damage), (head.entries, head.digest, None));
    assert_eq!(u64::try_from(entries.len()).unwrap(), head.entries);
    (bytes, key)
}

fn read(bytes: &[u8], key: &DataKey) -> (Vec<Entry>, crate::audit::chain::Head, Option<Damage>) {
    let chunks = Chunks::begin(BufReader::new(Cursor::new(bytes))).unwrap().unwrap();
    let mut entries = Entries::open(chunks, key).unwrap().unwrap();
    let mut all = Vec::new();
    loop {
        match entries.next().unwrap() {
            Seen::One(entry) => all.push(entry),
            Seen::End => return (all, entries.head(), None),
            Seen::Damaged(damage) => return (all, entries.head(), Some(damage)),
        }
    }
}

fn some_puts() -> Vec<Put> {
    vec![None, Some(b"hello".to_vec()), Some(vec![b'a'; 3_000]), None, Some(vec![1; 10]), None]
}

#[test]
fn what_was_put_in_comes_out() {
    let (bytes, key) = written(&some_puts());
    let (entries, ..) = read(&bytes, &key);
    let said = entries.iter().map(|entry| match &entry.what {
        What::Event(_) => "event".to_owned(),
        What::Data { bytes, .. } => bytes.len().to_string(),
    });
    assert_eq!(said.collect::<Vec<_>>(), ["event", "5", "3000", "event", "10", "event"]);
    assert!(!bytes.windows(5).any(|w| w == b"hello"), "it is encrypted");
}

#[test]
fn cut_anywhere_the_prefix_is_readable_and_the_cut_is_named() {
    let (bytes, key) = written(&some_puts());
    let (whole, ..) = read(&bytes, &key);
    let first = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(1).unwrap().0 + 1;
    let mut clean = 0;
    for cut in first..bytes.len() {
        let (entries, head, damage) = read(&bytes[..cut], &key);
        assert_eq!(entries, whole[..entries.len()]);
        match damage {
            None => clean += 1,
            Some(damage) => assert_eq!(damage.entry, head.entries + 1, "{damage}"),
        }
    }
    assert_eq!(clean, 3, "only at the ends of the chunks before the last is nothing amiss");
    for cut in 0..first {
        assert!(Chunks::begin(BufReader::new(&bytes[..cut])).unwrap().is_err());
    }
}

#[test]
fn more_than_a_chunk_holds_is_parted_and_read_back() {
    let big = (0..700_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect::<Vec<_>>();
    let (bytes, key) = written(&[Some(big.clone()), None]);
    let (entries, ..) = read(&bytes, &key);
    let mut all = Vec::new();
    for entry in entries {
        if let What::Data { bytes, .. } = entry.what {
            all.extend_from_slice(&bytes);
        }
    }
    assert_eq!(all, big);
    assert!(bytes.len() < big.len() * 2);
}

#[test]
fn another_key_opens_nothing() {
    let (bytes, _) = written(&some_puts());
    let chunks = Chunks::begin(BufReader::new(Cursor::new(&bytes))).unwrap().unwrap();
    assert!(Entries::open(chunks, &DataKey::generate().unwrap()).unwrap().is_none());
}

#[test]
fn where_there_is_no_room_nothing_is_written_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let key = DataKey::generate().unwrap();
    let path = dir.path().join("r.wrec");
    let room = Room::new(1_500, 0);
    let mut writer = Writer::create(&path, &header(&key), &key, room.clone()).unwrap();
    let head = writer.append(Timestamp::UNIX_EPOCH, &closed(1)).unwrap();
    let long = TrailEvent::Closed {
        reason: (0..60_u64)
            .map(|n| crate::model::digest::Digest::of(&n.to_le_bytes()).to_string())
            .collect(),
        commands: 2,
        volume: Volume::default(),
    };
    let error = writer.append(Timestamp::UNIX_EPOCH, &long).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(writer.head(), head);
    writer.append(Timestamp::UNIX_EPOCH, &closed(3)).unwrap();
    let (entries, _, damage) = read(&std::fs::read(&path).unwrap(), &key);
    assert_eq!((entries.len(), damage), (2, None));
    assert_eq!(room.used(), writer.bytes());
}

#[test]
fn while_nothing_can_be_written_what_waits_does_not_grow() {
    let dir = tempfile::tempdir().unwrap();
    let key = DataKey::generate().unwrap();
    let path = dir.path().join("r.wrec");
    let room = Room::new(1_000, 0);
    let mut writer = Writer::create(&path, &header(&key), &key, room).unwrap();
    let part = (0..2_048_u64)
        .flat_map(|n| *crate::model::digest::Digest::of(&n.to_le_bytes()).as_bytes())
        .collect::<Vec<_>>();
    let mut refused = 0;
    for _ in 0..200 {
        refused += u32::from(writer.data(Timestamp::UNIX_EPOCH, 1, Stream::Output, &part).is_err());
    }
    assert!(refused >= 198, "{refused}");
    assert!(writer.waiting_bytes() <= PLAIN_BYTES_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Any flipped bit is found without a key, but in the header's text before the first chunk says.
    #[test]
    fn any_flipped_bit_is_found_without_a_key(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (mut bytes, _) = written(&some_puts());
        let whole = walk(&bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(walk(&bytes).is_none_or(|head| head != whole));
    }

    /// Nothing that a file may hold makes the reader panic, or take more than there is.
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = walk(&bytes);
        let (mut whole, key) = written(&some_puts());
        whole.extend_from_slice(&bytes);
        let (entries, ..) = read(&whole, &key);
        prop_assert_eq!(entries.len(), 6);
    }
}

/// The head at the end, if nothing is damaged.
fn walk(bytes: &[u8]) -> Option<crate::audit::chain::Head> {
    let mut chunks = Chunks::begin(BufReader::new(bytes)).unwrap().ok()?;
    loop {
        match chunks.next().unwrap() {
            Seen::One(_) => {}
            Seen::End => return Some(chunks.head()),
            Seen::Damaged(_) => return None,
        }
    }
}
