//! Tells when the configuration changed: a file was written, a folder's link was swapped (as
//! Kubernetes does with a `ConfigMap`), or SIGHUP came. What to do then is the daemon's business.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use notify::EventKind;
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio::time::sleep_until;

use crate::config::read_bounded;
use crate::model::digest::Digest;

/// Silence after which a run of changes is taken to be over.
const QUIET_MS: u64 = 250;
/// A run of changes that does not end is reported after this time.
const RUN_MS_MAX: u64 = 2_000;
/// Files of a watched folder that are looked at.
const FILES_MAX: usize = 1_000;

/// Why the configuration should be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// What the files say is not what they said.
    Files,
    /// SIGHUP: somebody asks for it, changed or not.
    Asked,
}

/// A running watch; dropping it ends it.
pub struct Watch {
    changes: mpsc::Receiver<Changed>,
}

impl Watch {
    /// Waits for the next change. `None`: the watch has broken. Cancel-safe.
    ///
    /// Changes that come while nobody waits are one change.
    pub async fn changed(&mut self) -> Option<Changed> {
        self.changes.recv().await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// A watch that could not be begun.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system cannot watch files.
    #[error("cannot watch {}", path.display())]
    Files {
        /// What was to be watched.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: notify::Error,
    },
    /// The system cannot deliver SIGHUP.
    #[error("cannot take SIGHUP")]
    Signal(#[source] io::Error),
}

/// Watches files and folders, and takes SIGHUP. Must be called in a runtime.
///
/// A folder is watched with the files directly in it.
pub fn watch(paths: Vec<PathBuf>) -> Result<Watch, WatchError> {
    let (wake, woken) = mpsc::channel(1);
    let on_event = move |event: notify::Result<notify::Event>| {
        // Reading the files again must not look like a change of them.
        let read = event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
        if !read {
            // Full: the run of changes is known already. Closed: nobody wants to know.
            let _known = wake.try_send(());
        }
    };
    let whole = |cause| WatchError::Files { path: PathBuf::new(), cause };
    let mut watcher = notify::recommended_watcher(on_event).map_err(whole)?;
    for path in &paths {
        follow(&mut watcher, path)
            .map_err(|cause| WatchError::Files { path: path.clone(), cause })?;
    }
    let hangup = signal(SignalKind::hangup()).map_err(WatchError::Signal)?;
    let (tell, changes) = mpsc::channel(1);
    let seen = fingerprint(&paths);
    tokio::spawn(run(Running { paths, watcher, woken, hangup, tell, seen }));
    Ok(Watch { changes })
}

struct Running {
    paths: Vec<PathBuf>,
    watcher: RecommendedWatcher,
    woken: mpsc::Receiver<()>,
    hangup: tokio::signal::unix::Signal,
    tell: mpsc::Sender<Changed>,
    seen: Digest,
}

async fn run(mut running: Running) {
    loop {
        let changed = tokio::select! {
            () = running.tell.closed() => return,
            Some(()) = running.hangup.recv() => Changed::Asked,
            Some(()) = running.woken.recv() => {
                settle(&mut running.woken).await;
                Changed::Files
            }
            else => return,
        };
        // A folder that was replaced is another folder: follow the new one.
        for path in &running.paths {
            drop(follow(&mut running.watcher, path));
        }
        let now = fingerprint(&running.paths);
        let same = std::mem::replace(&mut running.seen, now) == now;
        if changed == Changed::Files && same {
            continue;
        }
        // Full: a change is waiting to be taken, and whoever takes it reads what is there then.
        if let Err(mpsc::error::TrySendError::Closed(_)) = running.tell.try_send(changed) {
            return;
        }
    }
}

/// Waits for the end of a run of changes.
async fn settle(woken: &mut mpsc::Receiver<()>) {
    let end = Instant::now() + Duration::from_millis(RUN_MS_MAX);
    loop {
        let quiet = Instant::now() + Duration::from_millis(QUIET_MS);
        tokio::select! {
            () = sleep_until(quiet.min(end)) => return,
            more = woken.recv() => if more.is_none() { return },
        }
    }
}

/// Watches the folder that `path` lies in, for a file is often replaced rather than written; and
/// `path` itself if it is a folder.
fn follow(watcher: &mut RecommendedWatcher, path: &Path) -> notify::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    watcher.watch(parent.unwrap_or(Path::new(".")), RecursiveMode::NonRecursive)?;
    if path.is_dir() {
        watcher.watch(path, RecursiveMode::NonRecursive)?;
    }
    Ok(())
}

/// What the files say, as one value. What cannot be read says nothing.
fn fingerprint(paths: &[PathBuf]) -> Digest {
    let mut parts = Vec::new();
    for path in paths {
        let mut files = vec![path.clone()];
        if let Ok(entries) = fs::read_dir(path) {
            files = entries.take(FILES_MAX).flatten().map(|entry| entry.path()).collect();
            files.sort();
        }
        for file in files {
            let content = read_bounded(&file).map(|bytes| Digest::of(&bytes)).ok();
            let content = content.or_else(|| outside(&file));
            let name = Digest::of(file.as_os_str().as_encoded_bytes());
            parts.extend([name, content.unwrap_or(Digest::ZERO)]);
        }
    }
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes().as_slice()).collect();
    Digest::of_parts(&parts)
}

/// What is told of a file that is too large to be read here: how long it is, and since when.
fn outside(path: &Path) -> Option<Digest> {
    let about = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let since = about.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Digest::of_parts(&[&about.len().to_be_bytes(), &since.as_nanos().to_be_bytes()]))
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    async fn next(watch: &mut Watch) -> Option<Changed> {
        timeout(Duration::from_secs(10), watch.changed()).await.expect("a change is told")
    }

    #[tokio::test]
    async fn a_change_is_told_once_and_a_reading_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (file, policies) = (folder.path().join("weir.toml"), folder.path().join("policies"));
        fs::write(&file, "a").unwrap();
        fs::create_dir(&policies).unwrap();
        let mut watch = watch(vec![file.clone(), policies.clone()]).unwrap();

        for step in ["b", "bc", "bcd"] {
            fs::write(&file, step).unwrap();
        }
        assert_eq!(next(&mut watch).await, Some(Changed::Files));

        fs::write(policies.join("a.cedar"), "permit").unwrap();
        assert_eq!(next(&mut watch).await, Some(Changed::Files));

        fs::read(&file).unwrap();
        fs::write(folder.path().join("unrelated"), "x").unwrap();
        fs::write(&file, "bcd").unwrap();
        let more = timeout(Duration::from_millis(3 * QUIET_MS), watch.changed()).await;
        assert!(more.is_err(), "nothing says anything else than before");
    }

    #[tokio::test]
    async fn a_link_that_is_swapped_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (data, text) in [("one", "1"), ("two", "2")] {
            fs::create_dir(at(data)).unwrap();
            fs::write(at(data).join("weir.toml"), text).unwrap();
        }
        std::os::unix::fs::symlink("one", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/weir.toml", at("weir.toml")).unwrap();
        let mut watch = watch(vec![at("weir.toml")]).unwrap();

        std::os::unix::fs::symlink("two", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(next(&mut watch).await, Some(Changed::Files));
    }
}
