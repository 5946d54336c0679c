//! Where a proxy listens: a port of 127.0.0.1, or a socket that is its owner's alone from the
//! moment it is there.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::UnixListener;
use uuid::Uuid;

use crate::cli::files;
use crate::cli::print;
use crate::cli::proxy::Served;
use crate::cli::proxy::carry;

/// How long nothing is accepted after the system said no, in milliseconds.
const REST_MS: u64 = 200;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On this port of 127.0.0.1; 0 takes a free one.
    Port(u16),
    /// On a socket of this name.
    Socket(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Socket(PathBuf::from(path))),
            Some(_) | None => text.parse().map(Self::Port).map_err(|_| {
                format!("`{text}` is no place to listen: use a port, or unix:PATH for a socket")
            }),
        }
    }
}

/// A place that is listened on; a socket is removed when this is dropped.
#[derive(Debug)]
pub(super) enum Listening {
    Port(TcpListener),
    Socket(UnixListener, PathBuf),
}

impl Listening {
    pub(super) async fn bind(place: &Place) -> Result<Self, String> {
        match place {
            Place::Port(port) => TcpListener::bind(("127.0.0.1", *port))
                .await
                .map(Self::Port)
                .map_err(|error| format!("port {port} of 127.0.0.1 cannot be used: {error}")),
            Place::Socket(path) => socket(path)
                .map(|listener| Self::Socket(listener, path.clone()))
                .map_err(|error| format!("{} cannot be made: {error}", path.display())),
        }
    }

    /// Where it is, for people.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Port(listener) => {
                listener.local_addr().map(|at| at.to_string()).unwrap_or_default()
            }
            Self::Socket(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// Carries every connection, until it is dropped.
    pub(super) async fn accept(&self, served: &Arc<Served>) {
        loop {
            let accepted = match self {
                Self::Port(listener) => listener.accept().await.map(|(stream, _)| {
                    tokio::spawn(carry(Arc::clone(served), stream, true));
                }),
                Self::Socket(listener, _) => listener.accept().await.map(|(stream, _)| {
                    tokio::spawn(carry(Arc::clone(served), stream, false));
                }),
            };
            if let Err(error) = accepted {
                // Out of descriptors, say: it passes, and spinning would not help.
                print::progress(&format!("{}: {error}", served.target));
                tokio::time::sleep(Duration::from_millis(REST_MS)).await;
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Self::Socket(_, path) = self {
            drop(fs::remove_file(path));
        }
    }
}

/// Makes a socket of mode 0600. It is made in a folder that only its owner may enter and then
/// moved: nobody can connect before its mode is right. One that nobody listens on is replaced.
fn socket(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(about) if !about.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there, and no socket"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens on it"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Short: the name of a socket has 108 bytes at most.
    let id = Uuid::new_v4().simple().to_string();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new(".")).join(id.get(..8).unwrap_or("weir"));
    files::private_dir(&folder).map_err(io::Error::other)?;
    let made = || {
        let fresh = folder.join("s");
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        fs::rename(&fresh, path)?;
        Ok(listener)
    };
    let made = made();
    drop(fs::remove_dir_all(&folder));
    made
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    #[test]
    fn a_place_is_a_port_or_a_socket() {
        assert_eq!("5432".parse(), Ok(Place::Port(5432)));
        assert_eq!("unix:/tmp/s".parse(), Ok(Place::Socket(PathBuf::from("/tmp/s"))));
        for bad in ["", "65536", "-1", "unix:", "0.0.0.0:80", "x"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_alone_and_goes_with_the_proxy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let place = Place::Socket(path.clone());
        let listening = Listening::bind(&place).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        UnixStream::connect(&path).await.unwrap();
        assert!(Listening::bind(&place).await.unwrap_err().contains("somebody listens"));
        drop(listening);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_a_file_never_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listening = Listening::bind(&Place::Socket(path.clone())).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
        drop(listening);
        fs::write(&path, "mine").unwrap();
        assert!(Listening::bind(&Place::Socket(path.clone())).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_port_is_on_the_loopback_address() {
        let listening = Listening::bind(&Place::Port(0)).await.unwrap();
        assert!(listening.address().starts_with("127.0.0.1:"));
    }
}
