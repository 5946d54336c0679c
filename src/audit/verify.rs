//! Verifying a record offline: with the files alone, and a checkpoint where one was kept.
//!
//! A hash chain shows any changed, removed or reordered entry but the removal of its own tail. The
//! trails' tails are pinned by the ledger; the ledger's own only by a checkpoint that was kept
//! elsewhere. Without one the best that can be said is "internally consistent only".

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use crate::audit::chain;
use crate::audit::chain::Head;
use crate::audit::entry::LedgerEvent;
use crate::audit::ledger;
use crate::audit::recording::Chunks;
use crate::audit::recording::Seen;
use crate::audit::spool;
use crate::audit::spool::Folders;
use crate::model::SessionId;

/// What verifying a record found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where the ledger ends: keep this elsewhere, and it is a checkpoint.
    pub ledger: Head,
    /// How many trails were checked.
    pub trails: u64,
    /// How many entries they have in all.
    pub trail_entries: u64,
    /// Whether the given checkpoint was found in the ledger; `None` where none was given.
    pub checkpoint_held: Option<bool>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// What, with entry and byte where it can be told.
    pub what: String,
}

/// What the ledger says of one trail.
#[derive(Debug, Default)]
struct Pinned {
    /// Heads that must be found inside the trail.
    heads: Vec<Head>,
    /// The head at which it must end.
    end: Option<Head>,
    /// Damage that was found and noted after a crash: bytes behind the end are no news.
    damage_known: bool,
    admitted: bool,
}

/// Verifies the record in `dir`, which belongs to the gateway called `gateway`.
pub fn verify(dir: &Path, gateway: &str, checkpoint: Option<Head>) -> io::Result<Report> {
    let (ledger_file, folders) = (dir.join("ledger.jsonl"), Folders::of(dir));
    let mut pinned = BTreeMap::<SessionId, Pinned>::new();
    let mut held = checkpoint.map(|_| false);
    let reading =
        chain::read::<LedgerEvent>(&ledger_file, ledger::origin(gateway), |line, head, _| {
            if checkpoint == Some(head) {
                held = Some(true);
            }
            note(&mut pinned, line.event);
        })?;
    let mut report = Report {
        ledger: reading.head,
        trails: 0,
        trail_entries: 0,
        checkpoint_held: held,
        problems: Vec::new(),
    };
    let mut problem = |file: &Path, what: String| {
        report.problems.push(Problem { file: file.to_owned(), what });
    };
    if let Some(damage) = reading.damage {
        problem(&ledger_file, damage.to_string());
    }
    if held == Some(false) {
        problem(
            &ledger_file,
            "the checkpoint is not in it: entries were changed or removed".into(),
        );
    }
    let mut files = trail_files(&folders)?;
    for (session, pin) in &pinned {
        let Some(file) = files.remove(session) else {
            problem(&spool::recording_of(&folders.closed, *session), "the trail is missing".into());
            continue;
        };
        report.trails = report.trails.saturating_add(1);
        match check_trail(&file, *session, pin) {
            Ok(entries) => report.trail_entries = report.trail_entries.saturating_add(entries),
            Err(what) => problem(&file, what),
        }
    }
    for file in files.values() {
        problem(file, "the ledger knows nothing of this trail".into());
    }
    Ok(report)
}

/// The gateway's id as the ledger itself names it. Good enough to find damage; whose record it is
/// only somebody who knows the id can tell.
pub fn gateway_of(dir: &Path) -> io::Result<String> {
    let text = fs::read_to_string(dir.join("gateway"))?;
    Ok(text.trim().to_owned())
}

fn note(pinned: &mut BTreeMap<SessionId, Pinned>, event: LedgerEvent) {
    if let LedgerEvent::Admitted(opened) = &event {
        pinned.entry(opened.session).or_default().admitted = true;
    }
    if let LedgerEvent::Heads { trails } = &event {
        for (session, head) in trails {
            pinned.entry(*session).or_default().heads.push(*head);
        }
    }
    if let LedgerEvent::TrailClosed { session, head } = event {
        pinned.entry(session).or_default().end = Some(head);
    } else if let LedgerEvent::TrailRecovered { session, head, damage } = event {
        let pin = pinned.entry(session).or_default();
        pin.end = Some(head);
        pin.damage_known = damage.is_some();
        // A crash between the trail's first entry and the ledger's leaves a trail without one.
        pin.admitted = true;
    }
}

fn trail_files(folders: &Folders) -> io::Result<BTreeMap<SessionId, PathBuf>> {
    let mut files = BTreeMap::new();
    for dir in [&folders.open, &folders.closed] {
        for session in Folders::sessions(dir)? {
            files.insert(session, spool::recording_of(dir, session));
        }
    }
    Ok(files)
}

fn check_trail(file: &Path, session: SessionId, pin: &Pinned) -> Result<u64, String> {
    let unread = |error: io::Error| format!("it cannot be read: {error}");
    let reader = BufReader::new(fs::File::open(file).map_err(unread)?);
    let mut chunks = Chunks::begin(reader).map_err(unread)?.map_err(|damage| damage.to_string())?;
    if chunks.header().session != session {
        return Err(format!("it is the recording of session {}", chunks.header().session));
    }
    let mut missing = pin.heads.clone();
    let mut end_seen = false;
    let damage = loop {
        let seen = chunks.next().map_err(unread)?;
        let head = chunks.head();
        missing.retain(|pinned| *pinned != head);
        end_seen |= pin.end == Some(head);
        match seen {
            Seen::One(_) => {}
            Seen::End => break None,
            Seen::Damaged(damage) => break Some(damage),
        }
    };
    if let Some(head) = missing.first() {
        return Err(format!("entry {} is not the one that the ledger names", head.entries));
    }
    if let Some(end) = pin.end {
        if !end_seen {
            return Err(format!("it should end with entry {}, as the ledger says", end.entries));
        }
        if chunks.head() != end {
            return Err(format!("it goes on behind entry {}, its end", end.entries));
        }
    }
    if !pin.admitted {
        return Err("the ledger has no admission of this session".into());
    }
    match damage {
        Some(damage) if !pin.damage_known => Err(damage.to_string()),
        Some(_) | None => Ok(chunks.head().entries),
    }
}
