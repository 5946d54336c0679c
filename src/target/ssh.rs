//! What is declared of an SSH target.

use std::fmt;
use std::str::FromStr;

use crate::model::Address;
use crate::target::credential::Credential;

/// Longest login, in bytes (the limit of Linux's useradd).
pub const LOGIN_BYTES_MAX: usize = 32;

/// An SSH target.
#[derive(Debug, Clone)]
pub struct SshTarget {
    /// Where it listens.
    pub address: Address,
    /// Logins that may be asked for.
    pub logins: Vec<LoginPattern>,
    /// Its host keys. Others are refused.
    pub host_keys: Vec<HostKey>,
    /// The gateway's private key there, in OpenSSH format.
    pub credential: Credential,
}

impl SshTarget {
    /// The login that a client asks for, if it may be asked for here.
    ///
    /// A login is never passed on raw: sshd cuts `deploy:x` at the colon, so a rule about the raw
    /// text would be walked around.
    pub fn login(&self, asked: &str) -> Option<Login> {
        let login = asked.parse::<Login>().ok()?;
        self.logins.iter().any(|pattern| pattern.fits(&login)).then_some(login)
    }
}

/// A login that means the same to everybody: a letter or `_`, then letters, digits, `_`, `-` and
/// `.`, all ASCII, 32 at most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Login(String);

/// Which logins may be asked for: one, or all with a certain beginning (`app-*`).
///
/// `*` alone is refused: it would offer `root`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginPattern {
    beginning: Login,
    open: bool,
}

/// A text that is no login, or no pattern of logins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no login; expected a letter or `_`, then letters, digits, `_`, `-` and `.`, at most \
     32 in all; in a pattern, `*` may end it"
)]
pub struct BadLogin(String);

impl Login {
    /// The login as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Login {
    type Err = BadLogin;

    fn from_str(text: &str) -> Result<Self, BadLogin> {
        let first = |sign: char| sign.is_ascii_alphabetic() || sign == '_';
        let valid = text.len() <= LOGIN_BYTES_MAX
            && text.starts_with(first)
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if valid { Ok(Self(text.to_owned())) } else { Err(BadLogin(text.to_owned())) }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LoginPattern {
    /// Whether `login` may be asked for.
    pub fn fits(&self, login: &Login) -> bool {
        if self.open {
            // `app-*` is not `app-`: the star stands for at least one sign.
            login.0.len() > self.beginning.0.len() && login.0.starts_with(&self.beginning.0)
        } else {
            *login == self.beginning
        }
    }
}

impl FromStr for LoginPattern {
    type Err = BadLogin;

    fn from_str(text: &str) -> Result<Self, BadLogin> {
        let (beginning, open) = match text.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (text, false),
        };
        let beginning = beginning.parse().map_err(|_| BadLogin(text.to_owned()))?;
        Ok(Self { beginning, open })
    }
}

/// A host key: the first two words of an OpenSSH public key line (sshd(8), the format of
/// `authorized_keys`, without options). What the base64 holds, `protocol/ssh` reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey(String);

/// A text that is no public key line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no host key; expected a line such as `ssh-ed25519 AAAAC3Nza…`")]
pub struct BadHostKey;

impl HostKey {
    /// `<type> <base64>`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostKey {
    type Err = BadHostKey;

    fn from_str(text: &str) -> Result<Self, BadHostKey> {
        const TYPES: [&str; 5] = [
            "ssh-ed25519",
            "ssh-rsa",
            "ecdsa-sha2-nistp256",
            "ecdsa-sha2-nistp384",
            "ecdsa-sha2-nistp521",
        ];
        let mut words = text.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some(kind), Some(key))
                if TYPES.contains(&kind)
                    && key.starts_with("AAAA")
                    && !text.contains(['\n', '\r'])
                    && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)) =>
            {
                Ok(Self(format!("{kind} {key}")))
            }
            _ => Err(BadHostKey),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(patterns: &[&str]) -> SshTarget {
        SshTarget {
            address: "web-1.internal:22".parse().unwrap(),
            logins: patterns.iter().map(|pattern| pattern.parse().unwrap()).collect(),
            host_keys: Vec::new(),
            credential: Credential::new("a test", || {
                Ok::<_, std::io::Error>(secrecy::SecretString::from("key"))
            }),
        }
    }

    #[test]
    fn a_login_is_offered_exactly_or_by_its_beginning() {
        let target = target(&["deploy", "app-*"]);
        for good in ["deploy", "app-1", "app-billing.eu"] {
            assert_eq!(target.login(good).unwrap().as_str(), good);
        }
        for bad in ["root", "deploy2", "deplo", "app-", "app", "DEPLOY", ""] {
            assert_eq!(target.login(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_sshd_or_an_eye_would_read_differently_is_no_login() {
        let target = target(&["deploy", "d*"]);
        let hostile =
            ["deploy:x", "deploy ", " deploy", "deploy\0", "deploy@x", "ｄeploy", "dеploy"];
        for bad in hostile.into_iter().chain(["d/../root", "d+x", "d%u", "d\n", "d$(id)"]) {
            assert_eq!(target.login(bad), None, "{bad:?}");
        }
        assert_eq!(target.login(&format!("d{}", "x".repeat(32))), None);
    }

    #[test]
    fn a_pattern_cannot_offer_every_login() {
        for bad in ["*", "", "**", "a*b", "*a", "a**", "-a", "1*", "root:x"] {
            assert!(bad.parse::<LoginPattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_key_is_a_type_and_a_key() {
        let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== root@web-1";
        let key = line.parse::<HostKey>().unwrap();
        assert_eq!(key.as_str(), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==");
        for bad in ["", "ssh-ed25519", "ssh-dss AAAAB3", "web-1 ssh-ed25519 AAAAC3", "ssh-rsa A!"] {
            assert!(bad.parse::<HostKey>().is_err(), "{bad:?}");
        }
        assert!("ssh-rsa AAAA\nssh-rsa AAAA".parse::<HostKey>().is_err(), "one key a line");
    }
}
