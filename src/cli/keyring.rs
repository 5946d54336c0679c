//! Where credentials rest: the system's keyring where there is one, else a file of mode 0600.
//!
//! The keyring is asked through the program that the system has for it: `secret-tool` for the
//! Secret Service of Linux desktops, `security` on macOS. A secret goes to it on standard input,
//! never as an argument, which every process of the machine could read.

use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use zeroize::Zeroizing;

use crate::cli::client::CallError;
use crate::cli::files;
use crate::cli::home::program;
use crate::cli::home::variable;
use crate::cli::print;

/// How long the keyring may take: it may ask its owner to unlock it.
const KEYRING_S_MAX: u64 = 60;
/// How often it is looked whether it is done, in milliseconds.
const LOOK_MS: u64 = 10;
/// The file that is used where there is no keyring.
const FILE: &str = "credentials.json";
/// What the secret is called in the keyring.
const SERVICE: &str = "weir";

/// A place for the credentials of one profile.
#[derive(Debug)]
pub(super) struct Place<'a> {
    dir: &'a Path,
    profile: &'a str,
    keyring: Option<Keyring>,
}

#[derive(Debug, Clone, Copy)]
enum Keyring {
    /// `secret-tool`, of libsecret.
    SecretService,
    /// `security`, of macOS.
    MacOs,
}

impl<'a> Place<'a> {
    /// The place for a profile whose folder is `dir`: a file where no keyring is wanted.
    pub(super) fn of(dir: &'a Path, profile: &'a str, wanted: bool) -> Self {
        let keyring = wanted.then(Keyring::of_system).flatten();
        Self { dir, profile, keyring }
    }

    /// What was kept.
    pub(super) fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CallError> {
        if let Some(kept) = files::read(&self.dir.join(FILE))? {
            return Ok(Some(kept));
        }
        Ok(self.keyring.and_then(|keyring| keyring.read(self.profile)))
    }

    /// Keeps a secret instead of what was there.
    pub(super) fn write(&self, secret: &[u8]) -> Result<(), CallError> {
        let file = self.dir.join(FILE);
        if let Some(keyring) = self.keyring {
            if keyring.write(self.profile, secret) {
                return Ok(files::remove(&file)?);
            }
            print::progress("the keyring did not take the credentials: they are kept in a file");
        }
        Ok(files::write(&file, 0o600, secret)?)
    }

    /// Forgets it everywhere.
    pub(super) fn clear(&self) -> Result<(), CallError> {
        if let Some(keyring) = self.keyring {
            keyring.clear(self.profile);
        }
        Ok(files::remove(&self.dir.join(FILE))?)
    }

    /// In words.
    pub(super) fn is(&self) -> &'static str {
        match self.keyring {
            Some(_) if !self.dir.join(FILE).exists() => "the system's keyring",
            Some(_) | None => "a file that only you may read",
        }
    }
}

impl Keyring {
    fn of_system() -> Option<Self> {
        if cfg!(target_os = "macos") {
            return program("security").map(|_| Self::MacOs);
        }
        // Without a session bus there is nobody to ask.
        variable("DBUS_SESSION_BUS_ADDRESS")?;
        program("secret-tool").map(|_| Self::SecretService)
    }

    fn read(self, profile: &str) -> Option<Zeroizing<Vec<u8>>> {
        let account = ["service", SERVICE, "profile", profile];
        let found = match self {
            Self::SecretService => {
                finish(Command::new("secret-tool").arg("lookup").args(account), b"")
            }
            Self::MacOs => {
                let args = ["find-generic-password", "-s", SERVICE, "-a", profile, "-w"];
                finish(Command::new("security").args(args), b"")
            }
        }?;
        let end =
            found.len().saturating_sub(found.iter().rev().take_while(|b| **b == b'\n').count());
        let text = found.get(..end).filter(|text| !text.is_empty())?;
        Some(Zeroizing::new(text.to_vec()))
    }

    fn write(self, profile: &str, secret: &[u8]) -> bool {
        let account = ["service", SERVICE, "profile", profile];
        let written = match self {
            Self::SecretService => {
                let label = format!("--label=Weir: {profile}");
                let mut tool = Command::new("secret-tool");
                finish(tool.args(["store", &label]).args(account), secret)
            }
            // `security -i` reads commands from standard input; -X takes the secret in base 16.
            Self::MacOs => {
                let digits = Zeroizing::new(digits(secret));
                let line = Zeroizing::new(format!(
                    "add-generic-password -U -s {SERVICE} -a {profile} -X {}\n",
                    digits.as_str()
                ));
                finish(Command::new("security").arg("-i"), line.as_bytes())
            }
        };
        // What was kept is what reads back: a locked keyring may say yes and do nothing.
        written.is_some() && self.read(profile).is_some_and(|kept| kept.as_slice() == secret)
    }

    fn clear(self, profile: &str) {
        let account = ["service", SERVICE, "profile", profile];
        // That there was nothing is fine.
        let _was_there = match self {
            Self::SecretService => {
                finish(Command::new("secret-tool").arg("clear").args(account), b"")
            }
            Self::MacOs => {
                let args = ["delete-generic-password", "-s", SERVICE, "-a", profile];
                finish(Command::new("security").args(args), b"")
            }
        };
    }
}

/// Base 16.
fn digits(secret: &[u8]) -> String {
    let digit = |bits: u8| char::from_digit(u32::from(bits), 16).unwrap_or('0');
    secret.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Runs a program to its end with `input`; its output, if it succeeded in time.
fn finish(command: &mut Command, input: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take()?;
    // Secrets are shorter than a pipe is deep: this does not wait for the reader.
    let sent = stdin.write_all(input);
    drop(stdin);
    let succeeded = in_time(&mut child) && sent.is_ok();
    let mut output = Zeroizing::new(Vec::new());
    child.stdout.take()?.take(files::FILE_BYTES_MAX).read_to_end(&mut output).ok()?;
    succeeded.then_some(output)
}

fn in_time(child: &mut Child) -> bool {
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if begun.elapsed() < Duration::from_secs(KEYRING_S_MAX) => {
                std::thread::sleep(Duration::from_millis(LOOK_MS));
            }
            Ok(None) | Err(_) => {
                drop(child.kill());
                drop(child.wait());
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_keyring_there_is_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::of(dir.path(), "eu", false);
        assert!(place.read().unwrap().is_none());
        place.write(b"secret").unwrap();
        assert_eq!(place.read().unwrap().unwrap().as_slice(), b"secret");
        assert!(place.is().contains("file"));
        place.clear().unwrap();
        assert!(place.read().unwrap().is_none());
    }

    #[test]
    fn a_program_gets_its_input_and_one_that_fails_has_no_output() {
        let echoed = finish(&mut Command::new("cat"), b"secret").unwrap();
        assert_eq!(echoed.as_slice(), b"secret");
        assert!(finish(Command::new("sh").args(["-c", "cat; exit 3"]), b"x").is_none());
        assert!(finish(&mut Command::new("/nonexistent/program"), b"x").is_none());
    }
}
