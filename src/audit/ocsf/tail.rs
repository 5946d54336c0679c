//! Follows the ledger from where a destination has it, and keeps that place on the disk: what could
//! not be delivered today is delivered tomorrow, and nothing waits for it.

use std::fs;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::audit::chain::LINE_BYTES_MAX;
use crate::audit::ocsf::base::Product;
use crate::audit::ocsf::deliver::Deliver;
use crate::audit::ocsf::feed::Told;
use crate::audit::ocsf::ledger::Mapper;

/// Most events that are delivered at once.
pub const BATCH_EVENTS_MAX: usize = 500;
/// Most bytes that are delivered at once, but for one event that is longer, in bytes.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Where a destination has the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The last entry that was delivered, or that says nothing to whoever watches.
    pub entry: u64,
    /// Where the entry behind it begins in the ledger's file, in bytes, unless that was rotated.
    pub byte: u64,
    /// The last event's number.
    pub sequence: u64,
}

/// Why nothing goes on.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The ledger, or the file of the place in it.
    #[error("{path}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What stands at a place of the ledger is no entry.
    #[error("entry {entry} of the ledger cannot be read, so no event says what it says")]
    Entry {
        /// Which.
        entry: u64,
    },
    /// The destination did not take them.
    #[error("the destination did not take the events behind entry {entry}")]
    Delivery {
        /// What it has.
        entry: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Follows the ledger in a state folder for one destination.
#[derive(Debug)]
pub struct Tail {
    dir: PathBuf,
    place: PathBuf,
    progress: Progress,
    mapper: Mapper,
}

/// What is read of an entry.
#[derive(Debug, Deserialize)]
struct Entry {
    n: u64,
    at: Timestamp,
    event: Value,
}

impl Tail {
    /// Goes on where the destination called `name` has the ledger in `dir`.
    pub fn open(dir: &Path, name: &str, product: Product) -> Result<Self, TailError> {
        let folder = dir.join("events");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| TailError::File { path, source }
        };
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let place = folder.join(format!("{name}.json"));
        let progress = match fs::read(&place) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| failed(&place)(e.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Progress::default(),
            Err(error) => return Err(failed(&place)(error)),
        };
        let mapper = Mapper::new(product, progress.sequence.saturating_add(1));
        Ok(Self { dir: dir.to_owned(), place, progress, mapper })
    }

    /// Where the destination has the ledger.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The event of a command, of a session whose admission was delivered before.
    pub fn command(&self, told: &Told) -> Option<Value> {
        self.mapper.command(told)
    }

    /// Delivers what there is, at most one batch. Whether there may be more at once.
    pub async fn step(&mut self, to: &mut dyn Deliver) -> Result<bool, TailError> {
        let Some(mut reader) = self.reader()? else { return Ok(false) };
        let (mut progress, mut lines, mut events) = (self.progress, Vec::new(), 0_usize);
        let path = self.dir.join("ledger.jsonl");
        let failed = |source| TailError::File { path: path.clone(), source };
        let mut more = true;
        while events < BATCH_EVENTS_MAX && lines.len() < BATCH_BYTES_MAX {
            let mut line = Vec::new();
            let bound = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
            reader.file.by_ref().take(bound).read_until(b'\n', &mut line).map_err(failed)?;
            if line.last() != Some(&b'\n') {
                // It is not written to its end yet, or there is none.
                more = reader.rotated;
                break;
            }
            let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
            let next = progress.entry.saturating_add(1);
            let entry = serde_json::from_slice::<Entry>(&line).ok();
            let Some(entry) = entry.filter(|entry| entry.n <= next) else {
                if progress.entry == self.progress.entry {
                    return Err(TailError::Entry { entry: next });
                }
                // What stands before it goes first.
                break;
            };
            progress.byte = if reader.rotated { 0 } else { progress.byte.saturating_add(length) };
            if entry.n < next {
                continue;
            }
            progress.entry = entry.n;
            if let Some(event) = self.mapper.ledger(entry.n, entry.at, &entry.event) {
                progress.sequence = self.mapper.sequence().saturating_sub(1);
                lines.extend_from_slice(event.to_string().as_bytes());
                lines.push(b'\n');
                events = events.saturating_add(1);
            }
        }
        if !lines.is_empty()
            && let Err(source) = to.deliver(&lines).await
        {
            // The same entries get the same numbers again.
            self.mapper.rewind(self.progress.sequence.saturating_add(1));
            return Err(TailError::Delivery { entry: self.progress.entry, source });
        }
        let advanced = progress != self.progress;
        if advanced {
            self.keep(progress)?;
        }
        Ok(more && advanced)
    }

    /// The file in which the next entry stands, at its place or before it.
    fn reader(&mut self) -> Result<Option<Reader>, TailError> {
        let next = self.progress.entry.saturating_add(1);
        let rotated = self.rotated(next)?;
        let is_rotated = rotated.is_some();
        let path = rotated.unwrap_or_else(|| self.dir.join("ledger.jsonl"));
        let failed = |source| TailError::File { path: path.clone(), source };
        let mut file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if is_rotated || file.metadata().map_err(failed)?.len() < self.progress.byte {
            // A file that is shorter than the place in it is another file.
            self.progress.byte = 0;
        }
        file.seek(SeekFrom::Start(self.progress.byte)).map_err(failed)?;
        let mut file = BufReader::new(file);
        if self.progress.byte > 0 && !begins_with(&mut file, next).map_err(failed)? {
            self.progress.byte = 0;
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
        }
        Ok(Some(Reader { file, rotated: is_rotated }))
    }

    /// The file `ledger-<first>-<last>.jsonl` that holds entry `n`, if there is one.
    fn rotated(&self, n: u64) -> Result<Option<PathBuf>, TailError> {
        let failed = |source| TailError::File { path: self.dir.clone(), source };
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let range = path.file_name().and_then(|name| {
                let name = name.to_str()?.strip_prefix("ledger-")?.strip_suffix(".jsonl")?;
                let (first, last) = name.split_once('-')?;
                Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?))
            });
            if range.is_some_and(|(first, last)| (first..=last).contains(&n)) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Writes the place down, whole or not at all.
    fn keep(&mut self, progress: Progress) -> Result<(), TailError> {
        let new = self.place.with_extension("new");
        let written = || {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&serde_json::to_vec(&progress)?)?;
            file.sync_data()?;
            fs::rename(&new, &self.place)
        };
        written().map_err(|source| TailError::File { path: self.place.clone(), source })?;
        self.progress = progress;
        Ok(())
    }
}

struct Reader {
    file: BufReader<fs::File>,
    /// It is a file that nothing is added to any more.
    rotated: bool,
}

/// Whether the next line is entry `n`, or nothing yet. What is read is read again.
fn begins_with(file: &mut BufReader<fs::File>, n: u64) -> io::Result<bool> {
    let head = file.fill_buf()?;
    let expected = format!("{{\"n\":{n},");
    let length = expected.len().min(head.len());
    Ok(head.get(..length) == expected.as_bytes().get(..length))
}
