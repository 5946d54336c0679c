//! Recordings: whether each is the one that the ledger names, from its first chunk to its last. No key
//! is needed: the chain is over what is stored.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use crate::audit::chain::Damage;
use crate::audit::chain::Head;
use crate::audit::recording::Chunks;
use crate::audit::recording::Seen;
use crate::audit::verify::Excuse;
use crate::audit::verify::Problem;
use crate::audit::verify::VerifyError;
use crate::audit::verify::given::Copy;
use crate::audit::verify::given::Given;
use crate::audit::verify::ledgers::Ledger;
use crate::audit::verify::pins::Pin;
use crate::audit::verify::pins::Stored;
use crate::audit::verify::pins::Turn;
use crate::audit::verify::report::Findings;
use crate::model::SessionId;
use crate::model::digest::Digest;

/// Verifies the recordings of a round; `pins` is `None` where there is no ledger.
pub(super) fn verify(
    given: &Given,
    pins: Option<&BTreeMap<SessionId, Pin>>,
    turn: &Turn,
    ledgers: &[Ledger],
    findings: &mut Findings<'_>,
) -> Result<(), VerifyError> {
    for (session, copies) in given.recordings.iter().filter(|(session, _)| turn.has(**session)) {
        let pin = pins.and_then(|pins| pins.get(session));
        if let Some(first) = copies.first().filter(|_| pins.is_some() && pin.is_none()) {
            let what = "the ledger knows nothing of this recording";
            findings.problem(Problem::of(first.path(), what));
        }
        let checked = every_copy(given, copies, (*session, pin), ledgers, findings);
        // A gateway that runs moves its files: then it is looked for once more.
        let moved = checked.as_ref().is_err_and(VerifyError::is_missing);
        if !moved {
            checked?;
        } else if let Some(copy) = given.again(*session) {
            every_copy(given, &[copy], (*session, pin), ledgers, findings)?;
        } else if let Some(pin) = pin.filter(|pin| pin.gone.is_none()) {
            missing(given, *session, pin, findings);
        }
    }
    let none = given.recordings.is_empty() && given.stray.is_empty() && !given.folder;
    findings.ledger_only = none && pins.is_some_and(|pins| !pins.is_empty());
    for (session, pin) in pins.into_iter().flatten().filter(|_| !none) {
        if pin.gone.is_some() {
            findings.excuse(*session, Excuse::Gone, pin.gone);
        } else if given.recordings.contains_key(session) {
            // It was checked above.
        } else if let Some(copy) = given.again(*session) {
            // It was begun while others were verified.
            every_copy(given, &[copy], (*session, Some(pin)), ledgers, findings)?;
        } else {
            missing(given, *session, pin, findings);
        }
    }
    Ok(())
}

/// Checks every copy of one recording.
fn every_copy(
    given: &Given,
    copies: &[Copy],
    (session, pin): (SessionId, Option<&Pin>),
    ledgers: &[Ledger],
    findings: &mut Findings<'_>,
) -> Result<(), VerifyError> {
    let (mut most, mut short) = (None, None);
    for copy in copies {
        match Check::of(copy, session, pin).run(ledgers, findings)? {
            Checked::Whole(entries) => most = most.max(Some(entries)),
            Checked::Short(problem) => short = Some(problem),
            Checked::Wrong | Checked::Gone => {}
        }
    }
    // The store may not have all of it yet: then the spool has.
    let spooled = given.without.spool && pin.is_some_and(|pin| pin.stored.is_none());
    match short {
        Some(_) if most.is_some() || spooled => findings.behind = findings.behind.saturating_add(1),
        Some(problem) => findings.problem(problem),
        None => {}
    }
    if let Some(entries) = most {
        findings.recordings = findings.recordings.saturating_add(1);
        findings.recording_entries = findings.recording_entries.saturating_add(entries);
    }
    Ok(())
}

/// A recording is not among the files.
fn missing(given: &Given, session: SessionId, pin: &Pin, findings: &mut Findings<'_>) {
    let what = match pin.stored {
        Some(stored) if given.without.store => {
            return findings.excuse(session, Excuse::InTheStore, Some(stored.entry));
        }
        None if given.without.spool => {
            return findings.excuse(session, Excuse::InTheSpool, None);
        }
        Some(Stored { entry, .. }) => format!(
            "the recording is missing: by entry {entry} of the ledger the store has it (--without-store \
             says that the store was left out on purpose)"
        ),
        None => {
            "the recording is missing: the ledger names it, and does not say that it is gone or in \
                 the store"
                .to_owned()
        }
    };
    findings.problem(Problem::of(Path::new(&format!("{session}.wrec")), what));
}

/// Says of recordings of which nobody can tell whose they are what is wrong with them.
pub(super) fn stray(given: &Given, findings: &mut Findings<'_>) -> Result<(), VerifyError> {
    for path in &given.stray {
        let file = File::open(path).map_err(VerifyError::io(path))?;
        let begun = Chunks::begin(BufReader::new(file)).map_err(VerifyError::io(path))?;
        findings.problem(match begun {
            Ok(_) => Problem::of(path, "its name says of no session that it is its recording"),
            Err(damage) => Problem::damage(path, damage),
        });
    }
    Ok(())
}

impl Copy {
    /// The file that it begins in.
    fn path(&self) -> &Path {
        match self {
            Self::Whole(path) => path,
            Self::Segments(all) => all.values().next().map_or(Path::new(""), PathBuf::as_path),
        }
    }
}

/// What became of checking a copy.
enum Checked {
    /// It is the one that the ledger names, and has so many entries.
    Whole(u64),
    /// It is the beginning of it, in a store.
    Short(Problem),
    /// What is wrong was said.
    Wrong,
    /// It is gone, as the ledger says, and what is left of it has a gap or no end.
    Gone,
}

/// One copy of a recording, being checked.
struct Check<'a> {
    copy: &'a Copy,
    session: SessionId,
    pin: Option<&'a Pin>,
    /// What the ledger says that it must have had, by entries.
    heads: BTreeMap<u64, BTreeSet<Digest>>,
}

impl<'a> Check<'a> {
    fn of(copy: &'a Copy, session: SessionId, pin: Option<&'a Pin>) -> Self {
        let mut heads = BTreeMap::<u64, BTreeSet<_>>::new();
        for head in pin.into_iter().flat_map(|pin| pin.heads.iter().chain(&pin.end)) {
            heads.entry(head.entries).or_default().insert(head.digest);
        }
        Self { copy, session, pin, heads }
    }

    fn run(
        mut self,
        ledgers: &[Ledger],
        findings: &mut Findings<'_>,
    ) -> Result<Checked, VerifyError> {
        let path = self.copy.path();
        let parts = Parts::of(self.copy).map_err(VerifyError::io(path))?;
        let (places, gap) = (parts.places.clone(), parts.gap);
        let gone = self.pin.is_some_and(|pin| pin.gone.is_some());
        if gone && gap.is_some() {
            return Ok(Checked::Gone);
        }
        let reader = BufReader::with_capacity(256 * 1024, parts);
        let problem = |damage: Damage| {
            let (path, from) = place(&places, damage.byte, path);
            let byte = damage.byte.saturating_sub(from);
            Problem::damage(&path, Damage { byte, ..damage })
        };
        let mut chunks = match Chunks::begin(reader).map_err(VerifyError::io(path))? {
            Ok(chunks) => chunks,
            Err(damage) => {
                findings.problem(problem(damage));
                return Ok(Checked::Wrong);
            }
        };
        if let Some(what) = self.whose(&chunks, ledgers) {
            findings.problem(Problem::of(path, what));
            return Ok(Checked::Wrong);
        }
        let damage = loop {
            let before = chunks.bytes();
            let seen = chunks.next().map_err(VerifyError::io(path))?;
            findings.read(chunks.bytes().saturating_sub(before));
            match seen {
                Seen::One(_) => {}
                Seen::End => break None,
                Seen::Damaged(damage) => break Some(damage),
            }
            if let Some(what) = self.pass(chunks.head()) {
                let entry = chunks.head().entries;
                findings.problem(problem(Damage { entry, byte: before, what }));
                return Ok(Checked::Wrong);
            }
        };
        let (head, bytes) = (chunks.head(), chunks.bytes());
        let entry = head.entries.saturating_add(1);
        let problem = |what| problem(Damage { entry, byte: bytes, what });
        let wrong = match gap {
            Some(to) => Some(format!("bytes {bytes} to {to} of the recording are missing")),
            None => self.damaged(head, damage),
        };
        if let Some(what) = wrong {
            findings.problem(problem(what));
            return Ok(Checked::Wrong);
        }
        let Some((last, _)) = self.heads.last_key_value() else {
            let stored = self.pin.filter(|pin| !pin.damage_known).and_then(|pin| pin.stored);
            let other = stored.map(|stored| stored.bytes).filter(|stored| *stored != bytes);
            if let Some(stored) = other.filter(|_| !gone) {
                let what = format!("it ends here, and the ledger says that it has {stored} bytes");
                findings.problem(problem(what));
                return Ok(Checked::Wrong);
            }
            return Ok(Checked::Whole(head.entries));
        };
        let what =
            format!("it ends here, and the ledger names its entry {last}: its tail was lost");
        if gone {
            return Ok(Checked::Gone);
        }
        if matches!(self.copy, Copy::Segments(_)) {
            return Ok(Checked::Short(problem(what)));
        }
        findings.problem(problem(what));
        Ok(Checked::Wrong)
    }

    /// What is wrong with whose recording it says to be.
    fn whose<R: io::BufRead>(&self, chunks: &Chunks<R>, ledgers: &[Ledger]) -> Option<String> {
        let header = chunks.header();
        if header.session != self.session {
            return Some(format!("it is the recording of session {}", header.session));
        }
        let pin = self.pin?;
        if !pin.admitted {
            return Some("the ledger has no admission of this session".to_owned());
        }
        let gateway = ledgers.get(pin.ledger)?.gateway.as_ref()?;
        (header.gateway != *gateway).then(|| {
            format!("it says to be of gateway {}, and the ledger is of {gateway}", header.gateway)
        })
    }

    /// What is wrong once the recording has come to `head`.
    fn pass(&mut self, head: Head) -> Option<String> {
        while let Some(first) = self.heads.first_entry().filter(|e| *e.key() <= head.entries) {
            let (entries, digests) = first.remove_entry();
            if entries < head.entries || digests.iter().any(|digest| *digest != head.digest) {
                return Some(format!("entry {entries} is not the one that the ledger names"));
            }
        }
        match self.pin.and_then(|pin| pin.end) {
            Some(end) if head.entries > end.entries => {
                Some(format!("it goes on behind entry {}, its end", end.entries))
            }
            Some(_) | None => None,
        }
    }

    /// What is damaged behind `head`, unless the ledger says so itself.
    fn damaged(&self, head: Head, damage: Option<Damage>) -> Option<String> {
        let end = self.pin.and_then(|pin| pin.end);
        let known = self.pin.is_some_and(|pin| pin.damage_known) && end == Some(head);
        damage.filter(|_| !known).map(|damage| damage.what)
    }
}

/// In which file, and from where, a byte of a recording stands.
fn place(places: &BTreeMap<u64, PathBuf>, byte: u64, path: &Path) -> (PathBuf, u64) {
    let found = places.range(..=byte).next_back();
    found.map_or_else(|| (path.to_owned(), 0), |(from, path)| (path.clone(), *from))
}

/// The files of a copy, one after another.
struct Parts {
    places: BTreeMap<u64, PathBuf>,
    /// Those that were not begun yet, the last one first.
    rest: Vec<PathBuf>,
    open: Option<File>,
    /// Where bytes are missing: what is behind is not read. It is where they go on.
    gap: Option<u64>,
}

impl Parts {
    fn of(copy: &Copy) -> io::Result<Self> {
        let places = match copy {
            Copy::Whole(path) => BTreeMap::from([(0, path.clone())]),
            Copy::Segments(all) => all.clone(),
        };
        let (mut at, mut gap, mut rest) = (0_u64, None, Vec::new());
        for (from, path) in &places {
            if *from != at {
                gap = Some(*from);
                break;
            }
            at = at.saturating_add(path.metadata()?.len());
            rest.push(path.clone());
        }
        rest.reverse();
        Ok(Self { places, rest, open: None, gap })
    }
}

impl Read for Parts {
    fn read(&mut self, place: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(open) = &mut self.open {
                let read = open.read(place)?;
                if read > 0 || place.is_empty() {
                    return Ok(read);
                }
                self.open = None;
            }
            let Some(path) = self.rest.pop() else { return Ok(0) };
            self.open = Some(File::open(path)?);
        }
    }
}
