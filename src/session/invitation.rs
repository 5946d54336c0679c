//! Signing in from inside a connection: somebody who has nothing yet is shown a link and a code,
//! and their connection waits while they sign in with a browser.
//!
//! ```text
//! protocol ─ invite(asks) ─► Invitation { url, code } ─ answered() ──────────────┐
//!                                  │ the person opens the link                    ▼
//! page ──── find(code) ─► who asks, from where, for what ─ accept(code, proof) ─► Verified
//! ```
//!
//! The code is bound to its connection: the proof goes to whoever waits, and to nobody else. The
//! danger is the other way round: that somebody is talked into signing in for a stranger's
//! connection. So the page names who asks, from where and for which target; the code is used up by
//! the first answer; and it is worth nothing when the connection goes.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use jiff::SignedDuration;
use jiff::Timestamp;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::identity::Verified;
use crate::model::Origin;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::place::network;
use crate::model::refusal::RefusalCode;

/// How long an invitation is open, in seconds.
pub const OPEN_S_MAX: u64 = 300;
/// Most invitations that are open at a time.
pub const OPEN_MAX: usize = 4_096;
/// Most of them from one address, behind which may be a whole office; IPv6 counts by /64.
pub const OPEN_PER_ADDRESS_MAX: usize = 256;
/// How many signs a code has: 40 random bits, open for minutes, and tries are bounded.
const CODE_SIGNS: usize = 8;
/// Consonants and digits that are hard to confuse, and spell no words (RFC 8628 §6.1).
const SIGNS: &[u8; 32] = b"BCDFGHJKLMNPQRSTVWXZ23456789BCDF";

/// Who is asked to sign in, and what for: shown on the page.
#[derive(Debug, Clone)]
pub struct Asks {
    /// What the connection speaks; `None`: the command line or another program asks for itself.
    pub protocol: Option<Protocol>,
    /// At which target.
    pub target: Option<String>,
    /// From where.
    pub origin: Origin,
    /// What the client says of itself: `OpenSSH_9.2`, `psql`. Not verified, and shown as such.
    pub program: String,
}

/// An invitation, as the page and the device grant see it.
#[derive(Debug, Clone)]
pub struct Open {
    /// Who asks.
    pub asks: Asks,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// A connection's place in the waiting room. Dropped, the invitation is withdrawn.
#[derive(Debug)]
pub struct Invitation {
    code: String,
    url: String,
    until: Timestamp,
    answer: oneshot::Receiver<Answer>,
    room: Arc<Invitations>,
}

#[derive(Debug)]
enum Answer {
    Accepted(Box<Verified>),
    Declined,
}

/// All invitations that are open.
#[derive(Default)]
pub struct Invitations {
    open: Mutex<HashMap<String, (Open, oneshot::Sender<Answer>)>>,
}

impl Invitations {
    /// Nobody waits yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn invite(
        self: &Arc<Self>,
        url: &str,
        asks: Asks,
        now: Timestamp,
    ) -> Result<Invitation, Refusal> {
        let until = now.checked_add(SignedDuration::from_secs(OPEN_S_MAX.cast_signed()));
        let until = until.unwrap_or(now);
        let (sender, answer) = oneshot::channel();
        let mut open = self.lock();
        open.retain(|_, (one, waits)| one.until > now && !waits.is_closed());
        let here = open.values().filter(|(one, _)| same(&one.asks, asks.origin.address)).count();
        if open.len() >= OPEN_MAX || here >= OPEN_PER_ADDRESS_MAX {
            let reason = "too many are being asked to sign in already";
            return Err(Refusal::new(RefusalCode::TooLarge, reason)
                .hint("try again in a few minutes, or run `weir login` first"));
        }
        let code = fresh_code();
        open.insert(code.clone(), (Open { asks, since: now, until }, sender));
        drop(open);
        let url = format!("{url}/device?code={}", shown_code(&code));
        Ok(Invitation { code, url, until, answer, room: Arc::clone(self) })
    }

    /// What is asked under a code, as it was typed: signs that are no sign of a code do not count.
    pub fn find(&self, typed: &str, now: Timestamp) -> Option<Open> {
        let open = self.lock();
        let (one, waits) = open.get(&plain_code(typed)?)?;
        (one.until > now && !waits.is_closed()).then(|| one.clone())
    }

    /// Somebody signed in for it: the connection goes on as them. `false`: nobody waits any more.
    pub fn accept(&self, typed: &str, verified: Verified, now: Timestamp) -> bool {
        self.answer(typed, Answer::Accepted(Box::new(verified)), now)
    }

    /// Somebody says that it was not them. `false`: nobody waits any more.
    pub fn decline(&self, typed: &str, now: Timestamp) -> bool {
        self.answer(typed, Answer::Declined, now)
    }

    fn answer(&self, typed: &str, answer: Answer, now: Timestamp) -> bool {
        let Some(code) = plain_code(typed) else { return false };
        let Some((one, waits)) = self.lock().remove(&code) else { return false };
        one.until > now && waits.send(answer).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Open, oneshot::Sender<Answer>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Invitation {
    /// The link, with the code in it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The code, as it is shown: `BCDF-GHJK`.
    pub fn code(&self) -> String {
        shown_code(&self.code)
    }

    /// Until when it is open.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Waits until somebody answers, at most [`OPEN_S_MAX`]. Cancel safe.
    pub async fn answered(&mut self) -> Result<Verified, Refusal> {
        let wait = std::time::Duration::from_secs(OPEN_S_MAX);
        match tokio::time::timeout(wait, &mut self.answer).await {
            Ok(Ok(Answer::Accepted(verified))) => Ok(*verified),
            Ok(Ok(Answer::Declined)) => {
                let reason = "the person who was asked to sign in says that it was not them";
                Err(Refusal::new(RefusalCode::Unauthenticated, reason).hint("run `weir login`"))
            }
            Ok(Err(_)) | Err(_) => {
                let reason = format!("nobody signed in within {} minutes", OPEN_S_MAX / 60);
                Err(Refusal::new(RefusalCode::Unauthenticated, reason)
                    .hint("connect again, and open the link that is shown"))
            }
        }
    }
}

impl Drop for Invitation {
    fn drop(&mut self) {
        self.room.lock().remove(&self.code);
    }
}

impl fmt::Debug for Invitations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitations").field("open", &self.lock().len()).finish()
    }
}

fn same(asks: &Asks, address: IpAddr) -> bool {
    network(asks.origin.address) == network(address)
}

/// A fresh code, from the operating system's random numbers.
pub fn fresh_code() -> String {
    let random = [Uuid::new_v4(), Uuid::new_v4()];
    // Bytes 6 and 8 of a UUIDv4 carry its version and variant: they are left out.
    let bytes = random.into_iter().flat_map(|uuid| {
        uuid.into_bytes().into_iter().enumerate().filter(|(at, _)| ![6, 8].contains(at))
    });
    let signs = bytes.filter_map(|(_, byte)| SIGNS.get(usize::from(byte & 31)));
    signs.copied().map(char::from).take(CODE_SIGNS).collect()
}

/// A code as people read it.
pub fn shown_code(code: &str) -> String {
    let (one, two) = code.split_at_checked(CODE_SIGNS / 2).unwrap_or((code, ""));
    format!("{one}-{two}")
}

/// A code as it was typed, without what is no sign of it.
pub fn plain_code(typed: &str) -> Option<String> {
    if typed.len() > 4 * CODE_SIGNS {
        return None;
    }
    let signs = typed.chars().map(|sign| sign.to_ascii_uppercase());
    let code = signs.filter(char::is_ascii_alphanumeric).collect::<String>();
    (code.len() == CODE_SIGNS).then_some(code)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::place::PlaceMethod;

    fn asks(last: u8) -> Asks {
        let address = Ipv4Addr::new(192, 0, 2, last).into();
        let origin = Origin { address, country: None, method: PlaceMethod::Unknown };
        let (protocol, target) = (Some(Protocol::Ssh), Some("web-1".to_owned()));
        Asks { protocol, target, origin, program: "OpenSSH_9.2".to_owned() }
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[tokio::test]
    async fn whoever_waits_gets_the_proof_and_the_code_is_used_up() {
        let room = Invitations::new();
        let mut waits = room.invite("https://weir.example", asks(1), now()).unwrap();
        let typed = waits.code().to_lowercase().replace('-', " ");
        assert_eq!(waits.url(), format!("https://weir.example/device?code={}", waits.code()));
        assert_eq!(room.find(&typed, now()).unwrap().asks.target.as_deref(), Some("web-1"));
        assert!(room.accept(&typed, Verified::gateway(None), now()));
        assert!(!room.accept(&typed, Verified::gateway(None), now()));
        assert!(room.find(&typed, now()).is_none());
        assert_eq!(waits.answered().await.unwrap().principal().name, "gateway");
    }

    #[tokio::test]
    async fn declined_withdrawn_and_late_answers_let_nobody_in() {
        let room = Invitations::new();
        let mut waits = room.invite("", asks(1), now()).unwrap();
        assert!(room.decline(&waits.code(), now()));
        assert!(waits.answered().await.is_err());
        let gone = room.invite("", asks(1), now()).unwrap();
        let code = gone.code();
        drop(gone);
        assert!(room.find(&code, now()).is_none());
        assert!(!room.accept(&code, Verified::gateway(None), now()));
        let late = room.invite("", asks(1), now()).unwrap();
        assert!(!room.accept(&late.code(), Verified::gateway(None), late.until()));
    }

    #[test]
    fn an_address_cannot_fill_the_room() {
        let room = Invitations::new();
        let held = (0..OPEN_PER_ADDRESS_MAX)
            .map(|_| room.invite("", asks(1), now()).unwrap())
            .collect::<Vec<_>>();
        assert!(room.invite("", asks(1), now()).is_err());
        assert!(room.invite("", asks(2), now()).is_ok());
        drop(held);
        assert!(room.invite("", asks(1), now()).is_ok());
    }

    #[test]
    fn what_is_no_code_is_found_nowhere() {
        let room = Invitations::new();
        for bad in ["", "-", "BCDF", "BCDF-GHJKX", &"B".repeat(100), "ＢＣＤＦ-GHJK"] {
            assert!(room.find(bad, now()).is_none(), "{bad:?}");
        }
    }
}
