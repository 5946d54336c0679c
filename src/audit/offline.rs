//! Recordings in a folder: a state folder, or what was copied out of a store. For those who have the
//! files alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use crate::audit::spool;
use crate::model::SessionId;

/// How deep folders are looked into.
const DEPTH_MAX: usize = 16;

/// The files of one session's recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// One file, as the spool has it.
    Whole(PathBuf),
    /// Segments, as a store has them, by where they begin.
    Segments(BTreeMap<u64, PathBuf>),
}

/// The recordings below `dir`, by session. Where there are both, the whole file counts.
pub fn recordings(dir: &Path) -> io::Result<BTreeMap<SessionId, Files>> {
    let mut found = BTreeMap::new();
    walk(dir, 0, &mut |path| note(&mut found, path))?;
    Ok(found)
}

/// The wrapped keys of the spool below `dir`, by session.
pub fn keys(dir: &Path) -> io::Result<BTreeMap<SessionId, PathBuf>> {
    let mut found = BTreeMap::new();
    walk(dir, 0, &mut |path| {
        let name = path.file_name().and_then(|name| name.to_str());
        let session = name.and_then(|name| name.strip_suffix(".key")?.parse().ok());
        if let Some(session) = session {
            found.insert(session, path);
        }
    })?;
    Ok(found)
}

fn walk(dir: &Path, depth: usize, each: &mut impl FnMut(PathBuf)) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < DEPTH_MAX {
            walk(&entry.path(), depth.saturating_add(1), each)?;
        } else if kind.is_file() {
            each(entry.path());
        }
    }
    Ok(())
}

fn note(found: &mut BTreeMap<SessionId, Files>, path: PathBuf) {
    if let Some(session) = spool::session_of(&path) {
        found.insert(session, Files::Whole(path));
        return;
    }
    let Some((session, at)) = segment_of(&path) else { return };
    let files = found.entry(session).or_insert_with(|| Files::Segments(BTreeMap::new()));
    if let Files::Segments(segments) = files {
        segments.insert(at, path);
    }
}

/// The session and the first byte of a segment, by its name and its folder's.
pub fn segment_of(path: &Path) -> Option<(SessionId, u64)> {
    let at = path.file_name()?.to_str()?.strip_suffix(".seg")?.parse().ok()?;
    let session = path.parent()?.file_name()?.to_str()?.parse().ok()?;
    Some((session, at))
}

impl Files {
    /// Reads them from the beginning to the end.
    pub fn open(&self) -> io::Result<Box<dyn BufRead + Send>> {
        match self {
            Self::Whole(path) => Ok(Box::new(BufReader::new(File::open(path)?))),
            Self::Segments(segments) => {
                let mut all: Box<dyn Read + Send> = Box::new(io::empty());
                for path in segments.values() {
                    all = Box::new(all.chain(File::open(path)?));
                }
                Ok(Box::new(BufReader::new(all)))
            }
        }
    }
}
