//! What the files are: told by their names, and where a name tells nothing, by how they begin. A
//! name counts first, so that a damaged beginning does not hide a file.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use crate::audit::ledger::Signed;
use crate::audit::note::NOTE_BYTES_MAX;
use crate::audit::note::SignedNote;
use crate::audit::proof;
use crate::audit::recording::Chunks;
use crate::audit::spool;
use crate::audit::spool::Folders;
use crate::audit::verify::Options;
use crate::audit::verify::Problem;
use crate::audit::verify::VerifyError;
use crate::audit::verify::Without;
use crate::audit::verify::report::Findings;
use crate::model::SessionId;

/// Most files that are verified at once.
pub const FILES_MAX: usize = 4_000_000;
/// How deep folders are looked into.
const DEPTH_MAX: usize = 16;
/// How much of a file is looked at to tell what it is, in bytes.
const LOOK_BYTES: u64 = 64;
/// Longest id of a gateway, in bytes.
const GATEWAY_BYTES_MAX: u64 = 1_024;

/// The files, by what they are.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) ledger: Vec<PathBuf>,
    /// Files with checkpoints, and whether they were kept elsewhere.
    pub(super) checkpoints: Vec<(PathBuf, bool)>,
    pub(super) recordings: BTreeMap<SessionId, Vec<Copy>>,
    /// Recordings of which nobody can tell whose they are.
    pub(super) stray: Vec<PathBuf>,
    pub(super) receipts: Vec<PathBuf>,
    /// The ids in the files that gateways put beside their ledgers.
    pub(super) gateways: BTreeSet<String>,
    /// There was a folder, so that recordings that are not here are missing.
    pub(super) folder: bool,
    /// The spools: what no store has must be there.
    pub(super) spools: Vec<PathBuf>,
    /// The folders with the recordings of stores.
    archives: Vec<PathBuf>,
    /// What is not here on purpose.
    pub(super) without: Without,
    /// Folders that were named, and have nothing of a record.
    empty: Vec<PathBuf>,
    /// Folders with a gateway's state, and no spool.
    spoolless: Vec<PathBuf>,
    /// How long they are together.
    pub(super) bytes: u64,
    files: usize,
    segments: BTreeMap<(SessionId, PathBuf), BTreeMap<u64, PathBuf>>,
}

/// One copy of a session's recording.
#[derive(Debug)]
pub(super) enum Copy {
    /// A file of the spool.
    Whole(PathBuf),
    /// The segments of a store, by the byte at which each begins.
    Segments(BTreeMap<u64, PathBuf>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ledger,
    Checkpoints,
    Recording,
    Segment,
    Receipt,
    Gateway,
}

impl Given {
    pub(super) fn find(options: &Options) -> Result<Self, VerifyError> {
        let mut given = Self { without: options.without, ..Self::default() };
        for path in &options.files {
            let about = fs::metadata(path).map_err(VerifyError::io(path))?;
            if about.is_dir() {
                given.folder = true;
                let before = given.files;
                given.walk(path, 0)?;
                if given.files == before {
                    given.empty.push(path.clone());
                }
            } else if !about.is_file() || !given.add(path, about.len())? {
                return Err(VerifyError::Unknown(path.clone()));
            }
        }
        for path in &options.held {
            given.checkpoints.push((path.clone(), true));
        }
        for ((session, _), segments) in std::mem::take(&mut given.segments) {
            given.recordings.entry(session).or_default().push(Copy::Segments(segments));
        }
        if given.files == 0 {
            return Err(VerifyError::Nothing);
        }
        Ok(given)
    }

    /// What is wrong with the folders themselves.
    pub(super) fn judge(&self, findings: &mut Findings<'_>) {
        for path in &self.empty {
            findings.problem(Problem::of(path, "there is nothing of a record in this folder"));
        }
        for path in self.spoolless.iter().filter(|_| !self.without.spool) {
            let what = "there is a gateway's state here, and not its spool (--without-spool says that \
                        it was left out on purpose)";
            findings.problem(Problem::of(path, what));
        }
    }

    /// Looks for a recording once more, where it may have come or gone to meanwhile.
    pub(super) fn again(&self, session: SessionId) -> Option<Copy> {
        let spooled = self.spools.iter().find_map(|dir| {
            let folders = Folders { open: dir.join("open"), closed: dir.join("closed") };
            folders.find(session)
        });
        spooled.map(Copy::Whole).or_else(|| {
            let segments = self.archives.iter().flat_map(|dir| {
                let found = fs::read_dir(dir.join(session.to_string()));
                found.into_iter().flatten().flatten().map(|entry| entry.path())
            });
            let segments = segments.filter_map(|path| Some((segment_of(&path)?, path)));
            let segments = segments.collect::<BTreeMap<_, _>>();
            (!segments.is_empty()).then_some(Copy::Segments(segments))
        })
    }

    fn walk(&mut self, dir: &Path, depth: usize) -> Result<(), VerifyError> {
        if depth > DEPTH_MAX {
            return Ok(());
        }
        let (mut state, mut spool) = (false, false);
        for entry in fs::read_dir(dir).map_err(VerifyError::io(dir))? {
            let entry = entry.map_err(VerifyError::io(dir))?;
            let path = entry.path();
            // Links are not followed: they lead out of what was given.
            let about = match entry.metadata() {
                Ok(about) => about,
                // A running gateway moves its files.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(VerifyError::io(&path)(error)),
            };
            if about.is_dir() {
                if entry.file_name() == "spool" {
                    spool = true;
                    self.spools.push(path.clone());
                } else if entry.file_name() == "recordings" {
                    self.archives.push(path.clone());
                }
                self.walk(&path, depth.saturating_add(1))?;
            } else if about.is_file() {
                state |= entry.file_name() == "gateway";
                self.add(&path, about.len())?;
            }
        }
        if state && !spool {
            self.spoolless.push(dir.to_owned());
        }
        Ok(())
    }

    /// Adds a file; not if it is nothing of a record.
    fn add(&mut self, path: &Path, bytes: u64) -> Result<bool, VerifyError> {
        let Some(kind) = Kind::of(path)? else { return Ok(false) };
        self.files = self.files.saturating_add(1);
        if self.files > FILES_MAX {
            return Err(VerifyError::TooMany);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        match kind {
            Kind::Ledger => self.ledger.push(path.to_owned()),
            Kind::Checkpoints => self.checkpoints.push((path.to_owned(), false)),
            Kind::Receipt => self.receipts.push(path.to_owned()),
            Kind::Recording => self.recording(path)?,
            Kind::Segment => self.segment(path)?,
            Kind::Gateway => {
                self.files = self.files.saturating_sub(1);
                let mut text = String::new();
                let file = File::open(path).map_err(VerifyError::io(path))?;
                file.take(GATEWAY_BYTES_MAX)
                    .read_to_string(&mut text)
                    .map_err(VerifyError::io(path))?;
                self.gateways.insert(text.trim().to_owned());
            }
        }
        Ok(true)
    }

    fn recording(&mut self, path: &Path) -> Result<(), VerifyError> {
        match spool::session_of(path).map_or_else(|| header_session(path), |id| Ok(Some(id)))? {
            Some(session) => {
                let copies = self.recordings.entry(session).or_default();
                copies.push(Copy::Whole(path.to_owned()));
            }
            None => self.stray.push(path.to_owned()),
        }
        Ok(())
    }

    fn segment(&mut self, path: &Path) -> Result<(), VerifyError> {
        let dir = path.parent().unwrap_or(path);
        let session = dir.file_name().and_then(|name| name.to_str());
        let session = session.and_then(|name| name.parse::<SessionId>().ok());
        let from = segment_of(path);
        // One that was taken out of its folder may be the first.
        let told = match session.zip(from) {
            None => header_session(path)?.map(|session| (session, 0)),
            Some(told) => Some(told),
        };
        let Some((session, from)) = told else {
            self.stray.push(path.to_owned());
            return Ok(());
        };
        let place = (session, dir.to_owned());
        self.segments.entry(place).or_default().insert(from, path.to_owned());
        Ok(())
    }
}

impl Kind {
    fn of(path: &Path) -> Result<Option<Self>, VerifyError> {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let above = path.parent().and_then(Path::parent).and_then(Path::file_name);
        if name.starts_with("ledger.torn-") {
            return Ok(None);
        }
        let extension = path.extension().and_then(|extension| extension.to_str());
        let lines = extension == Some("jsonl");
        let kind = match extension {
            Some("wrec") => Some(Self::Recording),
            Some("seg") => Some(Self::Segment),
            Some("tlog-proof") => Some(Self::Receipt),
            _ if name == "gateway" => Some(Self::Gateway),
            _ if name == "checkpoint" || lines && name.starts_with("checkpoints") => {
                Some(Self::Checkpoints)
            }
            _ if above.is_some_and(|above| above == "checkpoints") => Some(Self::Checkpoints),
            _ if lines && (name.starts_with("ledger") || is_range(&name)) => Some(Self::Ledger),
            _ => None,
        };
        kind.map_or_else(|| Self::by_beginning(path), |kind| Ok(Some(kind)))
    }

    fn by_beginning(path: &Path) -> Result<Option<Self>, VerifyError> {
        let mut begins = Vec::new();
        let file = match File::open(path) {
            Ok(file) => file,
            // What nobody may read is not the record's; what is the record's has a name.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(None),
            Err(error) => return Err(VerifyError::io(path)(error)),
        };
        let bytes = file.metadata().map_err(VerifyError::io(path))?.len();
        file.take(LOOK_BYTES).read_to_end(&mut begins).map_err(VerifyError::io(path))?;
        let is = |text: &str| begins.starts_with(text.as_bytes());
        Ok(if is("weir recording ") {
            Some(Self::Recording)
        } else if is("{\"n\":") {
            Some(Self::Ledger)
        } else if is("{\"at\":") && is_signed(path, bytes)? {
            Some(Self::Checkpoints)
        } else if is(proof::FIRST_LINE) {
            Some(Self::Receipt)
        } else if is_note(path, bytes)? {
            Some(Self::Checkpoints)
        } else {
            None
        })
    }
}

/// Where in its recording a segment begins, by its name, in bytes.
fn segment_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".seg")?.parse().ok()
}

/// Whether a name is `FIRST-LAST.jsonl`, as a store's objects with entries of a ledger are called.
fn is_range(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|sign| sign.is_ascii_digit());
    let range = name.strip_suffix(".jsonl").and_then(|range| range.split_once('-'));
    range.is_some_and(|(first, last)| digits(first) && digits(last))
}

fn is_note(path: &Path, bytes: u64) -> Result<bool, VerifyError> {
    if usize::try_from(bytes).map_or(true, |bytes| bytes > NOTE_BYTES_MAX) {
        return Ok(false);
    }
    let bytes = fs::read(path).map_err(VerifyError::io(path))?;
    let note = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse::<SignedNote>().ok());
    Ok(note.is_some_and(|note| note.checkpoint().is_ok()))
}

/// Whether the first line of a file is a checkpoint as gateways keep them.
fn is_signed(path: &Path, bytes: u64) -> Result<bool, VerifyError> {
    let mut line = Vec::new();
    let file = File::open(path).map_err(VerifyError::io(path))?;
    let limit = bytes.min(u64::try_from(NOTE_BYTES_MAX).unwrap_or(u64::MAX));
    let mut reader = std::io::BufReader::new(file.take(limit));
    std::io::BufRead::read_until(&mut reader, b'\n', &mut line).map_err(VerifyError::io(path))?;
    Ok(serde_json::from_slice::<Signed>(&line).is_ok())
}

/// The session that a recording names itself, if it begins as one does.
fn header_session(path: &Path) -> Result<Option<SessionId>, VerifyError> {
    let file = File::open(path).map_err(VerifyError::io(path))?;
    let begun = Chunks::begin(std::io::BufReader::new(file)).map_err(VerifyError::io(path))?;
    Ok(begun.ok().map(|chunks| chunks.header().session))
}
