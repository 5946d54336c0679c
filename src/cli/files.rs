//! Private files: written whole or not at all, readable by their owner alone, and not believed
//! where somebody else could have written or read them.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::Metadata;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::cli::client::CallError;

/// Largest file that is read, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a file cannot be used: it names the file and the one thing to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// The system says no.
    #[error("{} cannot be {verb}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else may read or write it.
    #[error(
        "{0} is open to others (mode {mode:o}): what is in it may be known to them. Run \
         `chmod go= {0}`, then `weir logout` and `weir login`", path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is somebody else's.
    #[error("{} belongs to another user: remove it, and run `weir login` again", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It is too large, or no file.
    #[error("{} is no file of at most {FILE_BYTES_MAX} bytes", path.display())]
    Odd {
        /// The file.
        path: PathBuf,
    },
}

impl From<FileError> for CallError {
    fn from(error: FileError) -> Self {
        Self::Usage(error.to_string())
    }
}

fn failed<'a>(path: &'a Path, verb: &'static str) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError::Io { path: path.to_owned(), verb, source }
}

/// Makes a folder that only its owner may enter, or makes sure that it is one.
pub(super) fn private_dir(path: &Path) -> Result<(), FileError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(failed(path, "made"))?;
    let about = fs::metadata(path).map_err(failed(path, "read"))?;
    private(path, &about)
}

/// Whether its owner is this process's user, and nobody else may read or write it.
fn private(path: &Path, about: &Metadata) -> Result<(), FileError> {
    if own_user().is_some_and(|user| user != about.uid()) {
        return Err(FileError::Foreign { path: path.to_owned() });
    }
    let mode = about.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

/// The user of this process: the owner of its own entry in `/proc`, and elsewhere of a file that it
/// has just made.
fn own_user() -> Option<u32> {
    if let Ok(about) = fs::metadata("/proc/self") {
        return Some(about.uid());
    }
    let path = std::env::temp_dir().join(format!("weir-{}", Uuid::new_v4()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).ok()?;
    let user = file.metadata().ok().map(|about| about.uid());
    drop(fs::remove_file(&path));
    user
}

/// Writes a file with this mode, whole or not at all: readers see the old one or the new one.
pub(super) fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), FileError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fresh = path.with_file_name(format!(".{name}.{}", Uuid::new_v4()));
    let written = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    written().map_err(|source| {
        drop(fs::remove_file(&fresh));
        FileError::Io { path: path.to_owned(), verb: "written", source }
    })
}

/// Reads a private file; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    let Some(file) = opened(path)? else { return Ok(None) };
    // What was opened is looked at, not what the name leads to by then.
    let about = file.metadata().map_err(failed(path, "read"))?;
    private(path, &about)?;
    whole(path, file).map(Some)
}

/// Reads a file of somebody's that is no secret, such as a configuration; `None` where there is
/// none.
pub(super) fn read_open(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    let Some(file) = opened(path)? else { return Ok(None) };
    whole(path, file).map(Some)
}

/// The text of a file that was named on the command line: it must be there.
pub(super) fn text(path: &Path) -> Result<Zeroizing<String>, CallError> {
    let bytes = read_open(path)?;
    let bytes =
        bytes.ok_or_else(|| CallError::Usage(format!("{}: no such file", path.display())))?;
    let text = std::str::from_utf8(&bytes).map(str::to_owned).map(Zeroizing::new);
    text.map_err(|_| CallError::Usage(format!("{} is not UTF-8", path.display())))
}

fn opened(path: &Path) -> Result<Option<File>, FileError> {
    match fs::metadata(path) {
        // A pipe or a device would block or never end.
        Ok(about) if !about.is_file() => Err(FileError::Odd { path: path.to_owned() }),
        Ok(_) => File::open(path).map(Some).map_err(failed(path, "read")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, "read")(error)),
    }
}

fn whole(path: &Path, file: File) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut bounded = file.take(FILE_BYTES_MAX.saturating_add(1));
    let read = bounded.read_to_end(&mut bytes).map_err(failed(path, "read"))?;
    if u64::try_from(read).is_ok_and(|read| read <= FILE_BYTES_MAX) {
        Ok(bytes)
    } else {
        Err(FileError::Odd { path: path.to_owned() })
    }
}

/// Removes a file; that there was none is fine.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path, "removed")(error)),
    }
}

/// A lock among the processes of one user; released when dropped, and by the system when the
/// process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Waits until it is ours.
    pub(super) fn take(path: &Path) -> Result<Self, FileError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(path).map_err(failed(path, "opened"))?;
        file.lock().map_err(failed(path, "locked"))?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_is_written_is_its_owners_alone_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        private_dir(&state).unwrap();
        assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
        let file = state.join("secret");
        assert!(read(&file).unwrap().is_none());
        for text in ["one", "a longer one", ""] {
            write(&file, 0o600, text.as_bytes()).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
            assert_eq!(read(&file).unwrap().unwrap().as_slice(), text.as_bytes());
        }
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "nothing half-written is left");
        remove(&file).unwrap();
        remove(&file).unwrap();
    }

    #[test]
    fn a_secret_that_others_may_read_or_write_is_refused_and_the_error_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        for mode in [0o640, 0o604, 0o620, 0o602, 0o660, 0o777] {
            write(&file, 0o600, b"s").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&file).unwrap_err();
            assert!(matches!(error, FileError::Open { .. }), "{mode:o}");
            assert!(error.to_string().contains("chmod go="), "{error}");
        }
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(private_dir(&open), Err(FileError::Open { .. })));
    }

    #[test]
    fn another_users_file_is_refused() {
        // Only the superuser can make one; elsewhere, one of the system's is used.
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        write(&file, 0o600, b"s").unwrap();
        let given = std::os::unix::fs::chown(&file, Some(65_534), None).is_ok();
        let foreign = if given { file } else { PathBuf::from("/etc/hostname") };
        if foreign.exists() {
            assert!(matches!(read(&foreign), Err(FileError::Foreign { .. })));
        }
    }

    #[test]
    fn a_folder_a_pipe_and_an_endless_file_are_no_files() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(FileError::Odd { .. })));
        assert!(matches!(read_open(Path::new("/dev/zero")), Err(FileError::Odd { .. })));
        let large = dir.path().join("large");
        let file = File::create(&large).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(matches!(read_open(&large), Err(FileError::Odd { .. })));
    }

    #[test]
    fn two_holders_of_a_lock_come_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _lock = Lock::take(&path).unwrap();
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }
}
