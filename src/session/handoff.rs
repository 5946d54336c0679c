//! A browser's way from the gateway's own host, where it signed in, to a target's host.
//!
//! ```text
//! target host: no cookie ─ bind: a secret kept by this browser ─► own host /login?target&return&bind=SHA-256
//! own host:    signed in ─ offer(login, target, bind) ─► target host /.weir/enter?code
//! target host: redeem(code, target, the kept secret) ─► the target host's own cookie
//! ```
//!
//! A code counts once, for a minute, at one host, and in the browser that began: somebody else's
//! code, sent as a link, signs nobody in.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use jiff::SignedDuration;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use secrecy::SecretString;

use crate::identity;
use crate::model::LoginId;
use crate::model::Refusal;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::refusal::RefusalCode;

/// How long a code counts, in seconds.
const OPEN_S: i64 = 60;
/// Most codes that are open at a time.
const OPEN_MAX: usize = 10_000;
/// Most of them of one login: the oldest gives way.
const OPEN_PER_LOGIN_MAX: usize = 16;
/// Longest path that a browser is sent back to, in bytes.
pub const BACK_BYTES_MAX: usize = 4_096;

/// Who goes where.
#[derive(Debug, Clone)]
pub struct Handoff {
    /// Whose browser it is.
    pub login: LoginId,
    /// To which target's host.
    pub target: TargetName,
    /// The digest of the secret that the browser keeps for that host.
    pub bind: Digest,
    /// Where on that host: a path.
    pub back: String,
}

/// The codes that are open.
#[derive(Default)]
pub struct Handoffs {
    open: Mutex<HashMap<Digest, (Handoff, Timestamp)>>,
}

impl Handoffs {
    /// A code for this way.
    pub fn offer(&self, handoff: Handoff, now: Timestamp) -> Result<SecretString, Refusal> {
        if !is_path(&handoff.back) {
            return Err(Refusal::new(RefusalCode::Malformed, "the way back is no path"));
        }
        let full = |reason| Refusal::new(RefusalCode::TooLarge, reason).hint("try again");
        let code = identity::fresh_secret("").ok_or_else(|| full("there are no random numbers"))?;
        let until = now.checked_add(SignedDuration::from_secs(OPEN_S)).unwrap_or(now);
        let mut open = self.lock();
        open.retain(|_, (_, until)| *until > now);
        let own = open.iter().filter(|(_, (one, _))| one.login == handoff.login);
        let own = own.map(|(code, (_, until))| (*until, *code)).collect::<Vec<_>>();
        if own.len() >= OPEN_PER_LOGIN_MAX
            && let Some((_, oldest)) = own.iter().min_by_key(|(until, _)| *until)
        {
            open.remove(oldest);
        }
        if open.len() >= OPEN_MAX {
            return Err(full("too many are signing in at this moment"));
        }
        open.insert(Digest::of(code.expose_secret().as_bytes()), (handoff, until));
        Ok(code)
    }

    /// Takes a code; it is used up, whether it fits or not.
    pub fn redeem(
        &self,
        code: &str,
        target: &TargetName,
        kept: &str,
        now: Timestamp,
    ) -> Option<Handoff> {
        let (handoff, until) = self.lock().remove(&Digest::of(code.as_bytes()))?;
        let fits = handoff.target == *target && handoff.bind == Digest::of(kept.as_bytes());
        (fits && until > now).then_some(handoff)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, (Handoff, Timestamp)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Handoffs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handoffs").field("open", &self.lock().len()).finish()
    }
}

/// Whether a browser that is sent to this stays on its host.
pub fn is_path(text: &str) -> bool {
    text.len() <= BACK_BYTES_MAX
        && text.starts_with('/')
        && !text.starts_with("//")
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(target: &str) -> Handoff {
        Handoff {
            login: LoginId::fresh(),
            target: target.parse().unwrap(),
            bind: Digest::of(b"kept"),
            back: "/page?x=1".to_owned(),
        }
    }

    #[test]
    fn a_code_counts_once_at_its_host_and_in_its_browser() {
        let (codes, now) = (Handoffs::default(), Timestamp::UNIX_EPOCH);
        let late = now.checked_add(SignedDuration::from_secs(OPEN_S)).unwrap();
        let (wiki, mail) = ("wiki".parse().unwrap(), "mail".parse().unwrap());
        for (target, kept, at, good) in [
            (&wiki, "kept", now, true),
            (&mail, "kept", now, false),
            (&wiki, "another browser's", now, false),
            (&wiki, "kept", late, false),
        ] {
            let code = codes.offer(to("wiki"), now).unwrap();
            let code = code.expose_secret();
            assert_eq!(codes.redeem(code, target, kept, at).is_some(), good, "{target} {kept}");
            assert!(codes.redeem(code, &wiki, "kept", now).is_none(), "used up");
        }
    }

    #[test]
    fn one_login_takes_no_room_from_others() {
        let (codes, now) = (Handoffs::default(), Timestamp::UNIX_EPOCH);
        let greedy = to("wiki");
        for second in 0..50 {
            let at = now.checked_add(SignedDuration::from_secs(second)).unwrap();
            codes.offer(greedy.clone(), at).unwrap();
        }
        assert_eq!(codes.lock().len(), OPEN_PER_LOGIN_MAX);
        let last = codes.offer(greedy, now).unwrap();
        let wiki = "wiki".parse().unwrap();
        assert!(codes.redeem(last.expose_secret(), &wiki, "kept", now).is_some());
    }

    #[test]
    fn a_browser_is_sent_back_to_a_path_of_its_host_only() {
        assert!(is_path("/") && is_path("/a/b?c=%20#d"));
        for bad in ["", "a", "//evil.example", "/\\evil.example", "https://x", "/a b", "/\u{e9}"] {
            assert!(!is_path(bad), "{bad:?}");
        }
        assert!(!is_path(&format!("/{}", "x".repeat(BACK_BYTES_MAX))));
    }
}
