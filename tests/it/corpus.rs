//! Every parser reads every file of its corpus, whole and split at every byte, and what chance
//! makes of them: `WEIR_FUZZ_ROUNDS` says how often (`make test-long` sets it high).

use std::collections::BTreeSet;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use std::time::Instant;

use weir::fuzzing::ALL;
use weir::fuzzing::IN_PARTS;
use weir::fuzzing::Reads;

use crate::parts;

/// How often a file of the corpus is changed by chance, where nobody says otherwise.
const ROUNDS_DEFAULT: u64 = 20;
/// Parsers that take long for each input, and so get fewer.
const SLOW: [&str; 1] = ["policy"];
/// Files up to this size are split at every byte, and longer ones at some, in bytes.
const SPLIT_BYTES_MAX: usize = 4096;
/// Longest time that one reading may take; far more than any takes, on a machine however busy.
const READING_S_MAX: u64 = 60;
/// Longest input that chance makes, in bytes.
const INPUT_BYTES_MAX: usize = 64 * 1024;

fn folder(parser: &str) -> PathBuf {
    parts::repository().join("tests/corpus").join(parser)
}

/// The files of a parser's folder: name and content.
fn corpus(parser: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder(parser)).unwrap_or_else(|error| {
        panic!("the parser {parser} has no folder in tests/corpus: {error}")
    });
    let mut files = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect::<Vec<_>>();
    files.sort();
    assert!(!files.is_empty(), "the parser {parser} has no file in its corpus");
    files
}

#[test]
fn every_parser_has_a_corpus_and_every_corpus_a_parser() {
    let parsers = ALL.iter().map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>();
    let folders = fs::read_dir(parts::repository().join("tests/corpus")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(parsers, folders.collect());
    let targets = fs::read_dir(parts::repository().join("tests/fuzz/fuzz_targets")).unwrap();
    let targets = targets.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let targets = targets.map(|file| file.trim_end_matches(".rs").to_owned());
    assert_eq!(parsers, targets.collect(), "each parser has a target for cargo-fuzz");
}

#[test]
fn every_parser_reads_its_corpus() {
    for (name, reads) in ALL {
        for (file, bytes) in corpus(name) {
            if let Err(what) = within_time(*reads, &bytes) {
                panic!("tests/corpus/{name}/{file}: {what}");
            }
        }
    }
}

#[test]
fn what_comes_in_parts_reads_the_same_wherever_it_is_split() {
    for (name, reads) in IN_PARTS {
        for (file, bytes) in corpus(name) {
            let whole = reads(&bytes, b"");
            let step = (bytes.len() / SPLIT_BYTES_MAX).max(1);
            for at in (0..=bytes.len()).step_by(step) {
                let (first, rest) = bytes.split_at(at);
                let parted = catch_unwind(|| reads(first, rest));
                let parted = parted.unwrap_or_else(|_| panic!("{name}/{file} split at {at}"));
                assert_eq!(parted, whole, "tests/corpus/{name}/{file} split at {at}");
            }
        }
    }
}

/// An input that fails is kept in `target/fuzz-finds`: what is mended goes into the corpus.
#[test]
fn no_parser_fails_on_what_chance_makes_of_its_corpus() {
    let number = |name: &str| {
        std::env::var_os(name).map(|text| text.to_str().unwrap().parse::<u64>().unwrap())
    };
    let rounds = number("WEIR_FUZZ_ROUNDS").unwrap_or(ROUNDS_DEFAULT);
    let seed = number("WEIR_FUZZ_SEED").unwrap_or(1);
    let only = std::env::var_os("WEIR_FUZZ_ONLY").map(|only| only.into_string().unwrap());
    let mut failures = Vec::new();
    for (name, reads) in ALL.iter().filter(|(name, _)| only.as_deref().is_none_or(|o| o == *name)) {
        let files = corpus(name).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
        let mut chance = Chance(seed);
        let rounds = if SLOW.contains(name) { rounds.div_ceil(20) } else { rounds };
        let total = rounds.saturating_mul(files.len().try_into().unwrap());
        let begun = Instant::now();
        for round in 0..total {
            let input = chance.mutate(&files);
            if let Err(what) = within_time(*reads, &input) {
                let finds = parts::repository().join("target/fuzz-finds");
                fs::create_dir_all(&finds).unwrap();
                let kept = finds.join(format!("{name}-{seed}-{round}"));
                fs::write(&kept, &input).unwrap();
                failures.push(format!("{name}: {what}: {}", kept.display()));
                break;
            }
        }
        eprintln!("{name}: {total} inputs in {} ms", begun.elapsed().as_millis());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Reads in a thread with the stack of a runtime's thread; says what went wrong.
fn within_time(reads: Reads, bytes: &[u8]) -> Result<(), String> {
    thread_local! {
        static READER: Reader = Reader::start();
    }
    READER.with(|reader| reader.read(reads, bytes))
}

/// A thread that reads, so that a reading without end is noticed.
struct Reader {
    inputs: mpsc::Sender<(Reads, Vec<u8>)>,
    results: mpsc::Receiver<Result<(), String>>,
}

impl Reader {
    fn start() -> Self {
        let (inputs, given) = mpsc::channel::<(Reads, Vec<u8>)>();
        let (done, results) = mpsc::channel();
        std::thread::spawn(move || {
            for (reads, bytes) in given {
                let read = catch_unwind(AssertUnwindSafe(|| reads(&bytes)));
                let read = read.map_err(|cause| {
                    let text = cause.downcast_ref::<&str>().map(|text| (*text).to_owned());
                    text.or_else(|| cause.downcast_ref::<String>().cloned())
                        .unwrap_or_else(|| "it panicked".to_owned())
                });
                if done.send(read).is_err() {
                    return;
                }
            }
        });
        Self { inputs, results }
    }

    fn read(&self, reads: Reads, bytes: &[u8]) -> Result<(), String> {
        self.inputs.send((reads, bytes.to_vec())).unwrap();
        match self.results.recv_timeout(Duration::from_secs(READING_S_MAX)) {
            Ok(read) => read,
            Err(RecvTimeoutError::Timeout) => Err(format!("it took over {READING_S_MAX} s")),
            Err(RecvTimeoutError::Disconnected) => Err("its thread ended".to_owned()),
        }
    }
}

/// Random numbers that are the same for the same seed (xorshift64*), and what they do to inputs.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap();
        usize::try_from((self.next() >> 16) % bound).unwrap()
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let at = self.below(of.len());
        &of[at]
    }

    /// One file of the corpus, changed a few times.
    fn mutate(&mut self, files: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick(files).clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, files);
            bytes.truncate(INPUT_BYTES_MAX);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, files: &[Vec<u8>]) {
        const NUMBERS: [&[u8]; 8] = [
            &[0, 0, 0, 0],
            &[0, 0, 0, 3],
            &[0, 0, 0, 4],
            &[0x3f, 0xff, 0xff, 0xff],
            &[0x7f, 0xff, 0xff, 0xff],
            &[0x80, 0, 0, 0],
            &[0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff],
        ];
        const SIGNS: &[u8] = b"\0\t\n\r \"#$%&'()*+,-./:;<=>?@[\\]^`{|}~09azAZ\x7f\x80\xc3\xff";
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(32)).min(bytes.len());
        match self.below(11) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            3 if at < bytes.len() => bytes[at] = *self.pick(SIGNS),
            4 => bytes.insert(at, *self.pick(SIGNS)),
            5 => {
                for (byte, new) in bytes[at..].iter_mut().zip(*self.pick(&NUMBERS)) {
                    *byte = *new;
                }
            }
            // A part of it again, once or many times: nesting and repetition.
            6 => {
                let part = bytes[at..end].repeat(1 + self.below(3));
                bytes.splice(at..at, part);
            }
            7 => {
                let count = 1 + self.below(2000);
                let part = bytes[at..(at + 1 + self.below(3)).min(bytes.len())].repeat(count);
                bytes.splice(at..at, part);
            }
            // A part of another file, or of the same.
            8 | 9 => {
                let other = self.pick(files);
                let from = self.below(other.len() + 1);
                let to = (from + self.below(64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => bytes
                .splice(at..at, b"\xc3\xa9\xe2\x80\xae\xf0\x9f\x90\xb8".iter().copied())
                .for_each(drop),
        }
    }
}
