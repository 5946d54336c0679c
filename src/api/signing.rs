//! Who is in the midst of signing in: what is kept in memory between one request and the next.
//!
//! ```text
//! ask      a browser's page: what it is about, and whose browser it is; later, who signed in
//! state    a browser that is away at a provider
//! code     a program's one-time code, on its way through a browser
//! device   a program that waits for somebody to type its code
//! ```
//!
//! All of it is bounded, expires within minutes, counts once, and is lost with the process. Secrets
//! are kept as digests.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::api::oauth::fail::No;
use crate::api::rates::Rates;
use crate::api::table::Table;
use crate::identity::Pending;
use crate::identity::SignedIn;
use crate::identity::Wanted;
use crate::model::LoginId;
use crate::model::Origin;
use crate::model::digest::Digest;
use crate::model::login::StepUp;

/// How long a page may wait, in seconds.
pub(super) const ASK_S_MAX: i64 = 600;
/// How long a one-time code is good, in seconds (RFC 6749 §4.1.2 permits ten minutes).
pub(super) const CODE_S_MAX: i64 = 60;
/// How long a device's code is open, in seconds.
pub(super) const DEVICE_S_MAX: i64 = 900;
/// How often a device may ask, in seconds (RFC 8628 §3.2).
pub(super) const INTERVAL_S: i64 = 5;
/// Most of each that are kept at a time.
const OPEN_MAX: usize = 16_384;
/// Most of each of one address.
const OPEN_PER_ADDRESS_MAX: usize = 2_048;
/// Most wrong secrets of an address within a minute.
const GUESSES_MAX: u32 = 60;
/// Most wrong typed codes of an address within a minute: a code has only 40 random bits.
const CODES_MAX: u32 = 10;

/// What is kept between the requests of one sign-in.
pub struct Signing {
    /// Wrong secrets.
    pub(super) guesses: Rates,
    /// Wrong typed codes.
    pub(super) typed: Rates,
    asks: Mutex<Table<Ask>>,
    states: Mutex<Table<Away>>,
    codes: Mutex<Table<Code>>,
    devices: Mutex<Table<Waits>>,
    /// From what a program has to what a person types.
    device_codes: Mutex<Table<String>>,
}

/// What a browser's page is about.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// Of the cookie of the browser that began it: no other may go on.
    pub(super) browser: Digest,
    /// What for.
    pub(super) what: What,
    /// What the sign-in must be like.
    pub(super) step_up: Option<StepUp>,
    /// Who signed in for it.
    pub(super) who: Option<Arc<SignedIn>>,
}

/// What somebody signs in for.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// For a program on their machine.
    Program(Program),
    /// For whoever shows this code.
    Device(String),
    /// For the browser itself, which then goes to this path.
    Browser(String),
}

/// A program that waits on a loopback address (RFC 8252 §7.3).
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// Where it waits.
    pub(super) redirect_uri: String,
    /// What it wants to hear again.
    pub(super) state: Option<String>,
    /// Of its verifier (RFC 7636 §4.2).
    pub(super) challenge: String,
    /// What it calls itself.
    pub(super) label: Option<String>,
    /// What it wants.
    pub(super) wanted: Wanted,
}

/// A browser that is away at a provider.
#[derive(Debug)]
pub(super) struct Away {
    /// For which ask.
    pub(super) ask: String,
    /// What the provider's answer is compared with.
    pub(super) pending: Pending,
}

/// A one-time code.
#[derive(Debug, Clone)]
pub(super) enum Code {
    /// Nobody has shown it yet.
    Fresh(Box<Granted>),
    /// Somebody has, and this came of it.
    Used(Option<LoginId>),
}

/// What a code is for.
#[derive(Debug, Clone)]
pub(super) struct Granted {
    /// For which program.
    pub(super) program: Program,
    /// As whom.
    pub(super) who: Arc<SignedIn>,
}

/// A program that waits for somebody to type its code.
#[derive(Debug, Clone)]
pub(super) struct Waits {
    /// Which client it says that it is.
    pub(super) client: String,
    /// What it calls its device.
    pub(super) label: Option<String>,
    /// From where it asks.
    pub(super) origin: Origin,
    /// What it wants.
    pub(super) wanted: Wanted,
    /// Until when.
    pub(super) until: Timestamp,
    /// When it last asked.
    polled_at: Option<Timestamp>,
    interval_s: i64,
    answer: Answer,
}

#[derive(Debug, Clone)]
enum Answer {
    None,
    Approved(Arc<SignedIn>),
    Declined,
}

impl Waits {
    pub(super) fn new(
        client: String,
        label: Option<String>,
        origin: Origin,
        wanted: Wanted,
        now: Timestamp,
    ) -> Self {
        let until = later(now, DEVICE_S_MAX);
        let (polled_at, interval_s) = (None, INTERVAL_S);
        Self { client, label, origin, wanted, until, polled_at, interval_s, answer: Answer::None }
    }
}

impl Default for Signing {
    fn default() -> Self {
        let bounds = (OPEN_MAX, OPEN_PER_ADDRESS_MAX);
        Self {
            guesses: Rates::new(GUESSES_MAX),
            typed: Rates::new(CODES_MAX),
            asks: Mutex::new(Table::new(bounds)),
            states: Mutex::new(Table::new(bounds)),
            codes: Mutex::new(Table::new(bounds)),
            devices: Mutex::new(Table::new(bounds)),
            device_codes: Mutex::new(Table::new(bounds)),
        }
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signing").finish_non_exhaustive()
    }
}

fn lock<T>(table: &Mutex<Table<T>>) -> MutexGuard<'_, Table<T>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn later(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now)
}

fn full() -> No {
    No::too_many("too many are signing in at this moment; try again in a few minutes")
}

fn key(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

// === Pages ===

impl Signing {
    /// Keeps a page under an id.
    pub(super) fn put(
        &self,
        id: &str,
        ask: Ask,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<(), No> {
        let until = later(now, ASK_S_MAX);
        if lock(&self.asks).put(key(id), ask, address, (until, now)) { Ok(()) } else { Err(full()) }
    }

    /// A page of this browser's.
    pub(super) fn ask(&self, id: &str, browser: &Digest, now: Timestamp) -> Option<Ask> {
        let asks = lock(&self.asks);
        asks.get(&key(id), now).filter(|ask| ask.browser == *browser).cloned()
    }

    /// The same, which is over with that.
    pub(super) fn take(&self, id: &str, browser: &Digest, now: Timestamp) -> Option<Ask> {
        let mut asks = lock(&self.asks);
        asks.get(&key(id), now).filter(|ask| ask.browser == *browser)?;
        asks.take(&key(id), now)
    }

    /// Somebody signed in for a page. `false`: it is over.
    pub(super) fn signed_in(&self, id: &str, who: Arc<SignedIn>, now: Timestamp) -> bool {
        let mut asks = lock(&self.asks);
        let Some(ask) = asks.get_mut(&key(id), now) else { return false };
        ask.who = Some(who);
        true
    }

    /// A browser leaves for a provider.
    pub(super) fn leaves(&self, away: Away, address: IpAddr, now: Timestamp) -> Result<(), No> {
        let state = key(away.pending.state());
        let until = later(now, ASK_S_MAX);
        let put = lock(&self.states).put(state, away, address, (until, now));
        if put { Ok(()) } else { Err(full()) }
    }

    /// A browser is back with a state: once.
    pub(super) fn is_back(&self, state: &str, now: Timestamp) -> Option<Away> {
        lock(&self.states).take(&key(state), now)
    }
}

// === Codes ===

impl Signing {
    /// Keeps a one-time code.
    pub(super) fn grant(
        &self,
        code: &str,
        granted: Granted,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<(), No> {
        let until = later(now, CODE_S_MAX);
        let code_row = Code::Fresh(Box::new(granted));
        let put = lock(&self.codes).put(key(code), code_row, address, (until, now));
        if put { Ok(()) } else { Err(full()) }
    }

    /// Uses a code up.
    pub(super) fn redeem(&self, code: &str, now: Timestamp) -> Option<Code> {
        let mut codes = lock(&self.codes);
        let row = codes.get_mut(&key(code), now)?;
        let used = match row {
            Code::Fresh(_) => Code::Used(None),
            Code::Used(login) => Code::Used(login.clone()),
        };
        Some(std::mem::replace(row, used))
    }

    /// What came of a code: should it be shown again, that ends (RFC 6749 §4.1.2).
    pub(super) fn came_of(&self, code: &str, login: LoginId, now: Timestamp) {
        if let Some(row) = lock(&self.codes).get_mut(&key(code), now) {
            *row = Code::Used(Some(login));
        }
    }
}

// === Devices ===

impl Signing {
    /// A program waits under a code that people type, and asks with one of its own.
    pub(super) fn waits(
        &self,
        (typed, secret): (&str, &str),
        waits: Waits,
        now: Timestamp,
    ) -> Result<(), No> {
        let (address, times) = (waits.origin.address, (waits.until, now));
        if !lock(&self.devices).put(key(typed), waits, address, times)
            || !lock(&self.device_codes).put(key(secret), typed.to_owned(), address, times)
        {
            return Err(full());
        }
        Ok(())
    }

    /// Who waits under a typed code and has no answer yet.
    pub(super) fn device(&self, typed: &str, now: Timestamp) -> Option<Waits> {
        let devices = lock(&self.devices);
        let waits = devices.get(&key(typed), now)?;
        matches!(waits.answer, Answer::None).then(|| waits.clone())
    }

    /// Answers who waits: as whom they go on, or that nobody knows them. `false`: they have their
    /// answer, or are gone.
    pub(super) fn answer_device(
        &self,
        typed: &str,
        who: Option<Arc<SignedIn>>,
        now: Timestamp,
    ) -> bool {
        let mut devices = lock(&self.devices);
        let Some(waits) = devices.get_mut(&key(typed), now) else { return false };
        if !matches!(waits.answer, Answer::None) {
            return false;
        }
        waits.answer = who.map_or(Answer::Declined, Answer::Approved);
        true
    }

    /// A device asks whether it has been answered (RFC 8628 §3.5). A yes is told once.
    pub(super) fn poll(
        &self,
        secret: &str,
        client: &str,
        now: Timestamp,
    ) -> Result<(Waits, Arc<SignedIn>), No> {
        let expired = || No::new("expired_token", "the code has expired; begin again");
        let typed = lock(&self.device_codes).get(&key(secret), now).cloned();
        let Some(typed) = typed else {
            return Err(No::grant("the device code is not known or has expired; begin again"));
        };
        let mut devices = lock(&self.devices);
        let waits = devices.get_mut(&key(&typed), now).ok_or_else(expired)?;
        if waits.client != client {
            return Err(No::grant("the device code is another client's"));
        }
        match &waits.answer {
            Answer::Approved(who) => {
                let who = Arc::clone(who);
                let waits = devices.take(&key(&typed), now).ok_or_else(expired)?;
                drop(devices);
                lock(&self.device_codes).take(&key(secret), now);
                Ok((waits, who))
            }
            Answer::Declined => {
                Err(No::new("access_denied", "the person who was asked says that it was not them"))
            }
            Answer::None => {
                let interval = SignedDuration::from_secs(waits.interval_s);
                let too_soon = waits.polled_at.is_some_and(|at| now.duration_since(at) < interval);
                waits.polled_at = Some(now);
                if too_soon {
                    waits.interval_s = waits.interval_s.saturating_add(INTERVAL_S);
                    return Err(No::new("slow_down", "ask five seconds less often"));
                }
                Err(No::new("authorization_pending", "nobody has typed the code yet"))
            }
        }
    }
}
