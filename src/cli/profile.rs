//! Profiles: gateways by name, side by side, in `config.toml`. No secret is in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::cli::args::Gateway;
use crate::cli::client::CallError;
use crate::cli::files;
use crate::cli::home::Home;
use crate::cli::home::variable;

/// The gateway of whoever has not named one: that of `weir demo`.
const GATEWAY: &str = "https://localhost:8443";
/// Longest name of a profile, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// What a new file begins with.
const HEADER: &str =
    "# Gateways that `weir` knows: written by `weir login` and `weir profiles`.\n\n";

/// A gateway, and the name under which credentials for it are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    /// Its name: a folder is called so.
    pub(super) name: String,
    /// The gateway's URL, without a slash at the end.
    pub(super) gateway: String,
    /// Who vouches for the gateway's certificate. `None`: the system's roots.
    pub(super) ca_file: Option<PathBuf>,
    /// The issuer of the provider to sign in at, where there are several.
    pub(super) provider: Option<String>,
    /// Whether it is in the file of profiles.
    pub(super) kept: bool,
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profiles {
    /// The one that is used when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default: Option<String>,
    /// All, by name.
    #[serde(default)]
    pub(super) profiles: BTreeMap<String, Entry>,
}

/// What is kept of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// The gateway's URL.
    pub(super) gateway: String,
    /// Who vouches for its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,
    /// The issuer to sign in at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<String>,
}

impl Profiles {
    /// Reads the file; without one there are no profiles.
    pub(super) fn load(home: &Home) -> Result<Self, CallError> {
        let path = home.profiles();
        let Some(bytes) = files::read_open(&path)? else { return Ok(Self::default()) };
        let wrong = |what: String| CallError::Usage(format!("{}: {what}", path.display()));
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let profiles = toml::from_str::<Self>(text).map_err(|error| wrong(error.to_string()))?;
        for name in profiles.profiles.keys().chain(&profiles.default) {
            valid(name).map_err(&wrong)?;
        }
        if let Some(name) =
            profiles.default.as_ref().filter(|n| !profiles.profiles.contains_key(*n))
        {
            return Err(wrong(format!("the default `{name}` is no profile of this file")));
        }
        Ok(profiles)
    }

    /// Writes the file.
    pub(super) fn save(&self, home: &Home) -> Result<(), CallError> {
        let text = toml::to_string(self).map_err(|error| CallError::Usage(error.to_string()))?;
        std::fs::create_dir_all(home.config_dir()).map_err(|error| {
            CallError::Usage(format!("{} cannot be made: {error}", home.config_dir().display()))
        })?;
        Ok(files::write(&home.profiles(), 0o600, format!("{HEADER}{text}").as_bytes())?)
    }

    /// Keeps a profile; the first one is the default.
    pub(super) fn keep(&mut self, profile: &Profile) {
        let entry = Entry {
            gateway: profile.gateway.clone(),
            ca_file: profile.ca_file.clone(),
            provider: profile.provider.clone(),
        };
        self.profiles.insert(profile.name.clone(), entry);
        self.default.get_or_insert_with(|| profile.name.clone());
    }

    /// The profile that the command line means: `--gateway` as it is, with the credentials kept for
    /// that very URL; else the one that is named; else the default.
    pub(super) fn choose(&self, asked: &Gateway) -> Result<Profile, CallError> {
        let profile = asked.profile.clone();
        if let Some(name) = &profile {
            valid(name).map_err(CallError::Usage)?;
        }
        let mut chosen = match (&asked.url, profile) {
            (Some(url), name) => self.at(&plain(url)?, name),
            (None, Some(name)) => self.named(&name).ok_or_else(|| {
                let names = self.profiles.keys().cloned().collect::<Vec<_>>().join(", ");
                let known = if names.is_empty() { "none yet".to_owned() } else { names };
                CallError::Usage(format!(
                    "there is no profile `{name}` (known: {known}): make it by `weir login \
                     --profile {name} --gateway URL`"
                ))
            })?,
            (None, None) => match self.default.as_ref().and_then(|name| self.named(name)) {
                Some(profile) => profile,
                None => self.at(GATEWAY, None),
            },
        };
        if let Some(file) = &asked.ca_file {
            // Kept in a file that is read from anywhere.
            chosen.ca_file = Some(std::path::absolute(file).unwrap_or_else(|_| file.clone()));
        }
        chosen.gateway = plain(&chosen.gateway)?;
        Ok(chosen)
    }

    fn named(&self, name: &str) -> Option<Profile> {
        let entry = self.profiles.get(name)?;
        Some(Profile {
            name: name.to_owned(),
            gateway: entry.gateway.clone(),
            ca_file: entry.ca_file.clone(),
            provider: entry.provider.clone(),
            kept: true,
        })
    }

    /// The profile of a URL: the one named, else the one kept for it, else a new one.
    fn at(&self, url: &str, name: Option<String>) -> Profile {
        let same = |entry: &Entry| plain(&entry.gateway).is_ok_and(|kept| kept == url);
        let kept = || self.profiles.iter().find(|(_, entry)| same(entry)).map(|(n, _)| n.clone());
        let name = name.or_else(kept).unwrap_or_else(|| called(url));
        match self.named(&name) {
            Some(profile) if same(&Entry::of(&profile)) => profile,
            // Another gateway than the one kept by that name: nothing of the old one is believed.
            Some(_) | None => Profile {
                name,
                gateway: url.to_owned(),
                ca_file: None,
                provider: None,
                kept: false,
            },
        }
    }
}

impl Entry {
    fn of(profile: &Profile) -> Self {
        Self {
            gateway: profile.gateway.clone(),
            ca_file: profile.ca_file.clone(),
            provider: profile.provider.clone(),
        }
    }
}

/// A name for the profile of a URL: its host and port.
fn called(url: &str) -> String {
    let host = url.trim_start_matches("https://");
    let sign = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name = host.chars().map(sign).take(NAME_BYTES_MAX).collect::<String>();
    let name = name.trim_matches(['-', '.']).to_ascii_lowercase();
    if valid(&name).is_ok() { name } else { "default".to_owned() }
}

/// A profile's name is a folder's name.
fn valid(name: &str) -> Result<(), String> {
    let sign = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let inner = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if inner && name.len() <= NAME_BYTES_MAX && name.bytes().all(sign) {
        Ok(())
    } else {
        Err(format!(
            "`{name}` is no name of a profile: use 1 to {NAME_BYTES_MAX} of letters, digits, `-`, \
             `_` and `.`, beginning with a letter or digit"
        ))
    }
}

/// A gateway's URL, in the one way of writing it.
fn plain(url: &str) -> Result<String, CallError> {
    let wrong =
        || CallError::Usage(format!("`{url}` is no URL of a gateway: use https://HOST[:PORT]"));
    let uri = url.trim_end_matches('/').parse::<http::Uri>().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?.as_str().to_ascii_lowercase();
    let whole = matches!(uri.path(), "" | "/") && uri.query().is_none();
    if uri.scheme_str() != Some("https") || !whole || authority.contains('@') {
        return Err(wrong());
    }
    Ok(format!("https://{}", authority.trim_end_matches(":443")))
}

/// The folder for credentials of a profile.
pub(super) fn state(home: &Home, profile: &Profile) -> Result<PathBuf, CallError> {
    let dir = home.state_of(&profile.name);
    files::private_dir(&dir)?;
    Ok(dir)
}

/// Whether the keyring is wanted; `WEIR_KEYRING=off` keeps credentials in files.
pub(super) fn wants_keyring() -> bool {
    variable("WEIR_KEYRING").is_none_or(|word| !["off", "0", "no"].contains(&word.as_str()))
}

/// A path that other programs read: absolute.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(url: Option<&str>, profile: Option<&str>) -> Gateway {
        let (url, profile) = (url.map(str::to_owned), profile.map(str::to_owned));
        Gateway { url, profile, ca_file: None, token: None }
    }

    #[test]
    fn several_gateways_live_side_by_side_and_one_is_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::below(dir.path());
        let mut profiles = Profiles::load(&home).unwrap();
        assert_eq!(profiles.choose(&asked(None, None)).unwrap().gateway, GATEWAY);
        let mut eu = profiles.choose(&asked(Some("https://EU.example/"), Some("eu"))).unwrap();
        eu.ca_file = Some(PathBuf::from("/ca.pem"));
        profiles.keep(&eu);
        profiles.keep(&profiles.choose(&asked(Some("https://us.example:8443"), None)).unwrap());
        profiles.save(&home).unwrap();
        let profiles = Profiles::load(&home).unwrap();
        assert_eq!(profiles.choose(&asked(None, None)).unwrap().name, "eu");
        let us = profiles.choose(&asked(None, Some("us.example-8443"))).unwrap();
        assert_eq!(us.gateway, "https://us.example:8443");
        // A URL finds its profile, and what is known of it.
        let found = profiles.choose(&asked(Some("https://eu.example:443"), None)).unwrap();
        assert_eq!((found.name.as_str(), found.ca_file.is_some()), ("eu", true));
        assert!(profiles.choose(&asked(None, Some("asia"))).is_err());
    }

    #[test]
    fn a_profile_that_gets_another_gateway_forgets_who_vouched_for_the_old_one() {
        let mut profiles = Profiles::default();
        let mut eu = profiles.choose(&asked(Some("https://eu.example"), Some("eu"))).unwrap();
        eu.ca_file = Some(PathBuf::from("/ca.pem"));
        profiles.keep(&eu);
        let other = profiles.choose(&asked(Some("https://evil.example"), Some("eu"))).unwrap();
        assert!(other.ca_file.is_none() && !other.kept, "{other:?}");
    }

    #[test]
    fn a_name_that_is_no_folder_and_a_url_that_is_no_gateway_are_refused() {
        let profiles = Profiles::default();
        for name in ["", "..", ".a", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(profiles.choose(&asked(Some("https://a"), Some(name))).is_err(), "{name:?}");
        }
        for url in
            ["http://a", "https://", "a", "https://u@a", "https://a/x", "https://a?x", "ftp://a"]
        {
            assert!(profiles.choose(&asked(Some(url), None)).is_err(), "{url:?}");
        }
    }

    #[test]
    fn an_unknown_setting_is_named_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::below(dir.path());
        std::fs::create_dir_all(home.config_dir()).unwrap();
        std::fs::write(home.profiles(), "[profiles.eu]\ngateway = 'https://a'\nca = 'x'\n")
            .unwrap();
        let error = Profiles::load(&home).unwrap_err().to_string();
        assert!(error.contains("config.toml") && error.contains("line 3"), "{error}");
        std::fs::write(home.profiles(), "default = 'us'\n").unwrap();
        assert!(Profiles::load(&home).unwrap_err().to_string().contains("`us`"));
    }
}
