//! Where the demo keeps its files: a state folder for the gateway, and one for the servers.
//!
//! They are two, because a server that gave up root must be able to reach its own files, and may
//! see none of the gateway's.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;

use crate::demo::DemoError;

/// Marks a state folder that the demo made, and may therefore make anew.
const MARK: &str = ".weir-demo";
/// Longest path of the servers' folder, in bytes: a unix socket in it has at most 107.
const PATH_BYTES_MAX: usize = 60;
/// How often removing a folder is tried while the last of its writers ends.
const REMOVALS_MAX: u32 = 40;
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// A folder. If it is temporary, it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    temporary: bool,
    /// Locked while a demo uses a state folder.
    _mark: Option<fs::File>,
}

impl Folder {
    /// The state folder: `given`, which is kept at the end, or a temporary one.
    ///
    /// A folder that holds something the demo did not make is refused, not emptied.
    pub(super) fn state(given: Option<&Path>) -> Result<Self, DemoError> {
        let (path, temporary) = match given {
            None => (fresh(&std::env::temp_dir(), 0o700)?, true),
            Some(path) => (emptied(path)?, false),
        };
        let mark = marked(&path)?;
        Ok(Self { path: absolute(&path)?, temporary, _mark: Some(mark) })
    }

    /// The servers' folder: temporary, short, and one that everybody may go through, if they know
    /// what is inside.
    pub(super) fn servers() -> Result<Self, DemoError> {
        let places = [std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")];
        let place = places.iter().find(|place| {
            let short = place.as_os_str().len() < PATH_BYTES_MAX;
            short && place.is_absolute() && everybody_may_enter(place)
        });
        let place = place.ok_or_else(|| {
            let source = io::Error::other("not every account may enter it; set TMPDIR to another");
            DemoError::File { path: std::env::temp_dir(), source }
        })?;
        Ok(Self { path: fresh(place, 0o711)?, temporary: true, _mark: None })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` in it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A new folder in it, for its owner alone.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, DemoError> {
        let path = self.join(name);
        make(&path, 0o700)?;
        Ok(path)
    }

    /// A new file in it, for its owner alone.
    pub(super) fn write(&self, name: &str, contents: &[u8]) -> Result<PathBuf, DemoError> {
        let path = self.join(name);
        write(&path, 0o600, contents)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.temporary {
            return;
        }
        for _ in 0..REMOVALS_MAX {
            match fs::remove_dir_all(&self.path) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                // A server that was killed may still be writing its last.
                Err(_) => std::thread::sleep(REMOVAL_PAUSE),
            }
        }
        tracing::warn!(path = %self.path.display(), "this folder could not be removed");
    }
}

/// Writes a new file with exactly these permissions.
pub(super) fn write(path: &Path, mode: u32, contents: &[u8]) -> Result<(), DemoError> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(contents)
    };
    write().map_err(DemoError::file(path))
}

/// Makes a new folder with exactly these permissions.
pub(super) fn make(path: &Path, mode: u32) -> Result<(), DemoError> {
    // The umask can only take away.
    fs::DirBuilder::new()
        .mode(mode & 0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(DemoError::file(path))
}

fn fresh(place: &Path, mode: u32) -> Result<PathBuf, DemoError> {
    let id = Uuid::new_v4().simple().to_string();
    let path = place.join(format!("weir-demo-{}", id.get(..8).unwrap_or(&id)));
    make(&path, mode)?;
    Ok(path)
}

/// An empty folder at `path`: a new one, or one that was the demo's before.
fn emptied(path: &Path) -> Result<PathBuf, DemoError> {
    let inside = match fs::read_dir(path) {
        Ok(inside) => inside.collect::<io::Result<Vec<_>>>().map_err(DemoError::file(path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path, 0o700)?;
            return Ok(path.to_owned());
        }
        Err(error) => return Err(DemoError::file(path)(error)),
    };
    if !inside.is_empty() && !path.join(MARK).is_file() {
        return Err(DemoError::NotOurs(path.to_owned()));
    }
    // Held until the folder is empty: another demo may be living in it.
    let _mark = marked(path)?;
    for entry in inside.into_iter().filter(|entry| entry.file_name() != MARK) {
        let path = entry.path();
        let is_folder = entry.file_type().map_err(DemoError::file(&path))?.is_dir();
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(DemoError::file(&path))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(DemoError::file(path))?;
    Ok(path.to_owned())
}

/// Marks a folder as the demo's, and as in use for as long as the file is kept.
fn marked(path: &Path) -> Result<fs::File, DemoError> {
    let mark = path.join(MARK);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&mark).map_err(DemoError::file(&mark))?;
    file.try_lock().map_err(|_| DemoError::InUse(path.to_owned()))?;
    Ok(file)
}

fn absolute(path: &Path) -> Result<PathBuf, DemoError> {
    let path = fs::canonicalize(path).map_err(DemoError::file(path))?;
    // The path goes into files and command lines, which are text.
    if path.to_str().is_none() {
        let source = io::Error::other("its path is not UTF-8");
        return Err(DemoError::File { path, source });
    }
    Ok(path)
}

fn everybody_may_enter(path: &Path) -> bool {
    path.ancestors().all(|folder| {
        fs::metadata(folder).is_ok_and(|facts| facts.permissions().mode() & 0o001 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_temporary_state_folder_is_for_its_owner_and_goes() {
        let folder = Folder::state(None).unwrap();
        let path = folder.path().to_owned();
        let secret = folder.write("secret", b"s").unwrap();
        assert_eq!((mode(&path), mode(&secret)), (0o700, 0o600));
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_given_folder_is_kept_and_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let folder = Folder::state(Some(&path)).unwrap();
        folder.write("left", b"over").unwrap();
        drop(folder);
        assert!(path.join("left").exists());
        let again = Folder::state(Some(&path)).unwrap();
        assert!(!again.join("left").exists());
        again.write("live", b"data").unwrap();
        let refused = Folder::state(Some(&path)).unwrap_err();
        assert!(matches!(refused, DemoError::InUse(_)), "{refused}");
        assert!(path.join("live").exists());
    }

    #[test]
    fn a_folder_with_somebody_elses_files_is_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
        let refused = Folder::state(Some(dir.path())).unwrap_err();
        assert!(matches!(refused, DemoError::NotOurs(_)), "{refused}");
        assert!(dir.path().join("thesis.tex").exists());
    }

    #[test]
    fn the_servers_folder_is_short_and_lets_everybody_through() {
        let folder = Folder::servers().unwrap();
        assert_eq!(mode(folder.path()), 0o711);
        assert!(everybody_may_enter(folder.path()));
        assert!(folder.path().as_os_str().len() < PATH_BYTES_MAX + "/weir-demo-12345678".len());
    }
}
