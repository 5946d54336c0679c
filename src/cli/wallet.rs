//! The credentials of one profile: kept, handed out, renewed once by whichever process comes first.
//!
//! A renewal secret is used up by its use, and using it twice ends the login (somebody has a copy).
//! So processes renew one after the other, under a lock, and each looks first whether another one
//! has done it.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::SignedDuration;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::Value;
use serde_json::json;

use crate::cli::client::Answer;
use crate::cli::client::CallError;
use crate::cli::client::Link;
use crate::cli::client::problem;
use crate::cli::files::Lock;
use crate::cli::home::Home;
use crate::cli::keyring::Place;
use crate::cli::profile;
use crate::cli::profile::Profile;
use crate::cli::profile::wants_keyring;
use crate::model::Clock;
use crate::model::clock::System;

/// The command line as an OAuth client.
pub(super) const CLIENT_ID: &str = "weir-cli";
/// What is good for less than this is renewed, in seconds.
pub(super) const RENEW_BEFORE_S: i64 = 300;

/// What `weir login` brought.
#[derive(Debug, Clone)]
pub(super) struct Tokens {
    /// The gateway that gave them: they are shown to no other.
    pub(super) gateway: String,
    /// The session credential.
    pub(super) access: SecretString,
    /// What renews it, once.
    pub(super) renewal: Option<SecretString>,
    /// Until when the session credential is good.
    pub(super) expires_at: Timestamp,
    /// The login's id.
    pub(super) login: String,
    /// Who.
    pub(super) principal: String,
}

impl Tokens {
    /// Reads a token answer (RFC 6749 §5.1).
    pub(super) fn of_answer(answer: &Value, gateway: &str, now: Timestamp) -> Option<Self> {
        let word = |name: &str| answer.get(name).and_then(Value::as_str);
        let secret = |name: &str| word(name).map(SecretString::from);
        let good_s = answer.get("expires_in").and_then(Value::as_i64).filter(|s| *s > 0)?;
        Some(Self {
            gateway: gateway.to_owned(),
            access: secret("access_token")?,
            renewal: secret("refresh_token"),
            expires_at: now.checked_add(SignedDuration::from_secs(good_s)).ok()?,
            login: word("login").unwrap_or_default().to_owned(),
            principal: word("principal").unwrap_or_default().to_owned(),
        })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let kept = serde_json::from_slice::<Value>(bytes).ok()?;
        let word = |name: &str| kept.get(name).and_then(Value::as_str);
        Some(Self {
            gateway: word("gateway")?.to_owned(),
            access: SecretString::from(word("access_token")?),
            renewal: word("refresh_token").map(SecretString::from),
            expires_at: word("expires_at")?.parse().ok()?,
            login: word("login")?.to_owned(),
            principal: word("principal")?.to_owned(),
        })
    }

    fn text(&self) -> zeroize::Zeroizing<String> {
        let value = json!({
            "gateway": self.gateway,
            "access_token": self.access.expose_secret(),
            "refresh_token": self.renewal.as_ref().map(ExposeSecret::expose_secret),
            "expires_at": self.expires_at,
            "login": self.login,
            "principal": self.principal,
        });
        zeroize::Zeroizing::new(value.to_string())
    }

    fn is_good(&self, now: Timestamp, for_s: i64) -> bool {
        self.expires_at.duration_since(now) > SignedDuration::from_secs(for_s)
    }
}

/// Whether what was shown is good no more, or never was (RFC 6749 §5.2).
pub(super) fn has_ended(answer: &Answer) -> bool {
    answer.body.get("error").and_then(Value::as_str) == Some("invalid_grant")
}

/// Where one profile's credentials are.
#[derive(Debug)]
pub(super) struct Wallet {
    dir: PathBuf,
    profile: String,
    gateway: String,
    /// Whether the profile is in the file: else its name says nothing.
    is_known: bool,
    clock: Arc<dyn Clock>,
    /// Whether the system's keyring is used where there is one.
    keyring: bool,
}

impl Wallet {
    /// Opens the wallet of a profile.
    pub(super) fn open(home: &Home, profile: &Profile) -> Result<Self, CallError> {
        Ok(Self {
            dir: profile::state(home, profile)?,
            profile: profile.name.clone(),
            gateway: profile.gateway.clone(),
            is_known: profile.kept,
            clock: Arc::new(System),
            keyring: wants_keyring(),
        })
    }

    /// The folder for what belongs to it.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A session credential that is good for some minutes; renewed if it must be.
    pub(super) fn token(&self, link: &Link) -> Result<SecretString, CallError> {
        Ok(self.tokens(link)?.access)
    }

    /// The tokens, renewed if they must be.
    pub(super) fn tokens(&self, link: &Link) -> Result<Tokens, CallError> {
        self.current(|renewal| {
            let pairs = [
                ("grant_type", "refresh_token"),
                ("refresh_token", renewal.expose_secret()),
                ("client_id", CLIENT_ID),
            ];
            link.form("/oauth/token", &pairs)
        })
    }

    /// As [`Self::tokens`], where `renew` asks the gateway.
    fn current(
        &self,
        renew: impl FnOnce(&SecretString) -> Result<Answer, CallError>,
    ) -> Result<Tokens, CallError> {
        let kept = self.kept()?.ok_or_else(|| self.signed_out())?;
        if kept.is_good(self.now(), RENEW_BEFORE_S) {
            return Ok(kept);
        }
        let _lock = self.lock()?;
        // Another process may have renewed it while this one waited.
        let kept = self.kept()?.ok_or_else(|| self.signed_out())?;
        if kept.is_good(self.now(), RENEW_BEFORE_S) {
            return Ok(kept);
        }
        let still_good = kept.is_good(self.now(), 0);
        let Some(renewal) = &kept.renewal else {
            return if still_good { Ok(kept) } else { Err(self.signed_out()) };
        };
        match renew(renewal) {
            Ok(answer) if answer.status == 200 => {
                let fresh = Tokens::of_answer(&answer.body, &self.gateway, self.now());
                let fresh = fresh.ok_or_else(|| {
                    CallError::Refused("the gateway's answer holds no credential".to_owned())
                })?;
                self.keep(&fresh)?;
                Ok(fresh)
            }
            // The login has ended, and so has what is kept of it. Any other no is not about it.
            Ok(answer) if has_ended(&answer) => {
                self.place().clear()?;
                let why = problem(answer.status, &answer.body);
                Err(CallError::Refused(format!(
                    "your login has ended: {why}\nhint: run {}",
                    self.login()
                )))
            }
            // A gateway in trouble does not end what is still good.
            Ok(_) | Err(_) if still_good => Ok(kept),
            Ok(answer) => Err(CallError::Refused(problem(answer.status, &answer.body))),
            Err(error) => Err(error),
        }
    }

    /// What is kept and was given by this gateway.
    pub(super) fn kept(&self) -> Result<Option<Tokens>, CallError> {
        let kept = self.place().read()?;
        let tokens = kept.as_ref().and_then(|bytes| Tokens::read(bytes));
        Ok(tokens.filter(|tokens| tokens.gateway == self.gateway))
    }

    /// Keeps tokens instead of those that are there.
    pub(super) fn keep(&self, tokens: &Tokens) -> Result<(), CallError> {
        self.place().write(tokens.text().as_bytes())
    }

    /// Waits until no other process is changing what is here.
    pub(super) fn lock(&self) -> Result<Lock, CallError> {
        Ok(Lock::take(&self.dir.join("lock"))?)
    }

    /// Where the secrets are.
    pub(super) fn place(&self) -> Place<'_> {
        Place::of(&self.dir, &self.profile, self.keyring)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn login(&self) -> String {
        if self.is_known {
            format!("`weir login --profile {}`", self.profile)
        } else {
            format!("`weir login --gateway {}`", self.gateway)
        }
    }

    fn signed_out(&self) -> CallError {
        CallError::Usage(format!(
            "you are not signed in at {}: run {} (a program may set WEIR_TOKEN to a provider's \
             token instead)",
            self.gateway,
            self.login()
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;

    use crate::model::clock::Standing;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn wallet(dir: &Path, now: &str) -> Wallet {
        let clock = Arc::new(Standing::at(at(now)));
        let (profile, gateway) = ("eu".to_owned(), "https://eu.example".to_owned());
        Wallet { dir: dir.to_owned(), profile, gateway, is_known: true, clock, keyring: false }
    }

    /// What the gateway answers: tokens, and for any other status than 200 a no.
    fn answer(status: u16, number: u32) -> Answer {
        let error = if status == 400 { "invalid_grant" } else { "slow_down" };
        let body = json!({
            "access_token": format!("weir_s_{number}"), "refresh_token": format!("weir_r_{number}"),
            "expires_in": 3600, "login": "l-7kq2m9xdb4tz", "principal": "alice",
            "error": error, "error_description": "logged out",
        });
        Answer { status, body }
    }

    fn signed_in(dir: &Path) {
        let wallet = wallet(dir, "2026-11-21T10:00:00Z");
        let tokens = Tokens::of_answer(&answer(200, 0).body, "https://eu.example", wallet.now());
        wallet.keep(&tokens.unwrap()).unwrap();
    }

    #[test]
    fn a_credential_is_renewed_when_less_than_five_minutes_are_left() {
        let dir = tempfile::tempdir().unwrap();
        signed_in(dir.path());
        let early = wallet(dir.path(), "2026-11-21T10:54:59Z");
        let tokens = early.current(|_| panic!("too early")).unwrap();
        assert_eq!(tokens.access.expose_secret(), "weir_s_0");
        let due = wallet(dir.path(), "2026-11-21T10:55:01Z");
        let asked = Cell::new(String::new());
        let tokens = due.current(|renewal| {
            asked.set(renewal.expose_secret().to_owned());
            Ok(answer(200, 1))
        });
        assert_eq!(asked.into_inner(), "weir_r_0");
        assert_eq!(tokens.unwrap().access.expose_secret(), "weir_s_1");
        let kept = due.kept().unwrap().unwrap();
        assert_eq!(kept.renewal.unwrap().expose_secret(), "weir_r_1");
    }

    #[test]
    fn of_many_processes_one_renews() {
        let dir = tempfile::tempdir().unwrap();
        signed_in(dir.path());
        let renewals = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let wallet = wallet(dir.path(), "2026-11-21T10:58:00Z");
                    let tokens = wallet.current(|_| {
                        renewals.fetch_add(1, Ordering::SeqCst);
                        Ok(answer(200, 1))
                    });
                    assert_eq!(tokens.unwrap().access.expose_secret(), "weir_s_1");
                });
            }
        });
        assert_eq!(renewals.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_refused_renewal_ends_the_login_and_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        signed_in(dir.path());
        let wallet = wallet(dir.path(), "2026-11-21T10:58:00Z");
        let error = wallet.current(|_| Ok(answer(400, 1))).unwrap_err().to_string();
        assert!(error.contains("logged out") && error.contains("weir login"), "{error}");
        assert!(wallet.kept().unwrap().is_none());
    }

    #[test]
    fn a_gateway_that_is_down_does_not_end_what_is_still_good() {
        let dir = tempfile::tempdir().unwrap();
        signed_in(dir.path());
        let down = |_: &SecretString| Err(CallError::Unreached("down".to_owned()));
        assert!(wallet(dir.path(), "2026-11-21T10:58:00Z").current(down).is_ok());
        for status in [429, 503] {
            let wallet = wallet(dir.path(), "2026-11-21T10:58:00Z");
            assert!(wallet.current(|_| Ok(answer(status, 1))).is_ok(), "{status}");
        }
        let late = wallet(dir.path(), "2026-11-21T11:00:01Z");
        assert!(matches!(late.current(down), Err(CallError::Unreached(_))));
        assert!(late.kept().unwrap().is_some(), "it is tried again later");
    }

    #[test]
    fn one_gateways_credential_is_never_shown_to_another() {
        let dir = tempfile::tempdir().unwrap();
        signed_in(dir.path());
        let mut other = wallet(dir.path(), "2026-11-21T10:00:00Z");
        other.gateway = "https://evil.example".to_owned();
        assert!(matches!(other.current(|_| Ok(answer(200, 1))), Err(CallError::Usage(_))));
    }

    #[test]
    fn no_secret_shows_in_debug() {
        let tokens =
            Tokens::of_answer(&answer(200, 0).body, "https://a", at("2026-11-21T10:00:00Z"));
        assert!(!format!("{tokens:?}").contains("weir_"));
    }
}
