//! Where the command line keeps its things, and what the environment says.
//!
//! | what | where |
//! |---|---|
//! | profiles | `$XDG_CONFIG_HOME/weir/config.toml`, else `~/.config/weir/config.toml` |
//! | credentials, keys | `$XDG_STATE_HOME/weir/`, else `~/.local/state/weir/` |

use std::path::Path;
use std::path::PathBuf;

use crate::cli::client::CallError;

/// Where things are.
#[derive(Debug, Clone)]
pub(super) struct Home {
    /// The folder of `config.toml`.
    config: PathBuf,
    /// The folder of credentials, one folder for each profile.
    state: PathBuf,
    /// The person's own folder.
    user: PathBuf,
}

impl Home {
    /// As the environment says.
    pub(super) fn of_environment() -> Result<Self, CallError> {
        let user = path("HOME").ok_or_else(|| {
            CallError::Usage("HOME is not set: `weir` would not know where to keep things".into())
        })?;
        let config = path("XDG_CONFIG_HOME").unwrap_or_else(|| user.join(".config"));
        let state = path("XDG_STATE_HOME").unwrap_or_else(|| user.join(".local/state"));
        Ok(Self { config: config.join("weir"), state: state.join("weir"), user })
    }

    /// Everything below one folder.
    #[cfg(test)]
    pub(super) fn below(dir: &Path) -> Self {
        Self { config: dir.join("config"), state: dir.join("state"), user: dir.to_owned() }
    }

    /// The file of profiles.
    pub(super) fn profiles(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The folder of profiles.
    pub(super) fn config_dir(&self) -> &Path {
        &self.config
    }

    /// The folder of one profile's credentials and keys.
    pub(super) fn state_of(&self, profile: &str) -> PathBuf {
        self.state.join(profile)
    }

    /// The person's own folder.
    pub(super) fn user(&self) -> &Path {
        &self.user
    }
}

/// A variable of the environment; an empty one counts as none, as does one that is no UTF-8.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty())
}

/// An absolute path from the environment: a relative one is invalid (XDG Base Directory, "Basics").
fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A program of the `PATH`.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let all = std::env::var_os("PATH")?;
    std::env::split_paths(&all).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The path of this very program, for files that call it; its name alone where that is not known.
pub(super) fn own_program() -> String {
    let path = std::env::current_exe().ok();
    path.and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_else(|| "weir".to_owned())
}
