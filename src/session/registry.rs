//! The sessions that live now: who sees them, who ends them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::login::LoginEnd;
use crate::model::principal::Kind;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;

/// Why a session ends although neither side ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// Somebody ended it.
    Killed {
        /// Who.
        by: String,
    },
    /// Policy, law or catalogue changed, and would not admit it now.
    PolicyChanged(Refusal),
    /// The credential it was admitted with has expired.
    Expired,
    /// The login that it rests on, or the credential, has ended.
    LoginEnded(LoginEnd),
    /// The gateway stops.
    Draining,
    /// Nothing was asked or answered for as long as configuration allows.
    Idle,
    /// Its trail cannot be written any more.
    Unrecorded,
}

impl EndReason {
    /// The word in records.
    pub fn word(&self) -> String {
        match self {
            Self::Killed { by } => format!("killed by {by}"),
            Self::PolicyChanged(refusal) => format!("policy_changed: {refusal}"),
            Self::Expired => "credential expired".to_owned(),
            Self::LoginEnded(why) => format!("login ended: {why}"),
            Self::Draining => "gateway stopping".to_owned(),
            Self::Idle => "idle".to_owned(),
            Self::Unrecorded => "trail cannot be written".to_owned(),
        }
    }
}

impl IntoRefusal for EndReason {
    fn refusal(&self) -> Refusal {
        let ended = |reason: &str| Refusal::new(RefusalCode::SessionEnded, reason);
        match self {
            Self::Killed { by } => ended(&format!("this session was ended by {by}"))
                .hint("ask them why; your other sessions go on"),
            Self::PolicyChanged(refusal) => Refusal {
                code: RefusalCode::SessionEnded,
                reason: format!("policy_changed: {}", refusal.reason),
                rules: refusal.rules.clone(),
                hint: refusal.hint.clone(),
                step_up: refusal.step_up.clone(),
            },
            Self::Expired => ended("the credential of this session has expired")
                .hint("sign in again with `weir login`, then connect again"),
            Self::LoginEnded(LoginEnd::Changed) => {
                ended(&format!("this session has ended: {}", LoginEnd::Changed))
                    .hint("connect again, as who you are now")
            }
            Self::LoginEnded(why) => ended(&format!("this session's login has ended: {why}"))
                .hint("sign in again with `weir login`, then connect again"),
            Self::Draining => ended("this gateway is stopping").hint("connect again in a moment"),
            Self::Idle => ended("this session was idle for as long as this gateway allows")
                .hint("connect again; limits.idle_s_max is the bound"),
            Self::Unrecorded => {
                ended("this session's record cannot be written, and nothing goes on unrecorded")
                    .hint("tell the platform team: the gateway's log says what is wrong")
            }
        }
    }
}

/// One live session.
#[derive(Debug)]
pub struct Live {
    /// Its id.
    pub session: SessionId,
    /// Who.
    pub principal: Arc<Principal>,
    /// From where.
    pub origin: Origin,
    /// At which target.
    pub target: TargetName,
    /// Speaking what.
    pub protocol: Protocol,
    /// Since when.
    pub since: Timestamp,
    /// The target is in observe mode.
    pub observe: bool,
    commands: AtomicU64,
    running: AtomicU64,
    end: watch::Sender<Option<EndReason>>,
}

impl Live {
    /// How many commands it has asked so far.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// Counts one more command and gives its number, from 1.
    pub(super) fn next_command(&self) -> u64 {
        self.commands.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Counts a command that runs from now on.
    pub(super) fn begins(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a command that runs no longer.
    pub(super) fn finishes(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether no command of it runs; one that waits for an approval does not run.
    fn is_idle(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }

    /// Ends the session. The first reason given stays.
    pub fn end(&self, reason: EndReason) {
        self.end.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                *now = Some(reason);
            }
            first
        });
    }

    pub(super) fn ending(&self) -> watch::Receiver<Option<EndReason>> {
        self.end.subscribe()
    }
}

/// A live session, as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct LiveView {
    /// Its id.
    pub session: SessionId,
    /// Who: the principal's name.
    pub principal: String,
    /// The subject at the issuer, by which "their own" is decided.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// From where.
    pub origin: Origin,
    /// At which target.
    pub target: TargetName,
    /// Speaking what.
    pub protocol: Protocol,
    /// Since when.
    pub since: Timestamp,
    /// How many commands so far.
    pub commands: u64,
    /// The target is in observe mode.
    pub observe: bool,
}

/// The sessions that live now.
#[derive(Debug)]
pub struct Registry {
    per_principal_max: usize,
    live: Mutex<BTreeMap<SessionId, Arc<Live>>>,
}

impl Registry {
    /// An empty registry, in which one principal may have so many sessions at a time.
    pub fn new(per_principal_max: usize) -> Self {
        Self { per_principal_max, live: Mutex::default() }
    }

    /// Whether a principal may begin one more session. Two that begin in the same instant may both
    /// see the last place free: the bound is against runaways, not a promise.
    pub(super) fn has_room(&self, principal: &Principal) -> Result<(), Refusal> {
        let same = |live: &&Arc<Live>| {
            live.principal.issuer == principal.issuer && live.principal.subject == principal.subject
        };
        let count = self.lock().values().filter(same).count();
        if principal.kind != Kind::Gateway && count >= self.per_principal_max {
            let full = format!("{principal} has {count} sessions already, which is the bound");
            return Err(Refusal::new(RefusalCode::TooLarge, full)
                .hint("end some: `weir sessions ls` shows them"));
        }
        Ok(())
    }

    /// Puts a session among the living.
    pub(super) fn enter(&self, live: Live) -> Arc<Live> {
        let live = Arc::new(live);
        self.lock().insert(live.session, Arc::clone(&live));
        live
    }

    /// Takes a session away from the living.
    pub(super) fn leave(&self, session: SessionId) {
        self.lock().remove(&session);
    }

    /// A live session.
    pub fn find(&self, session: SessionId) -> Option<Arc<Live>> {
        self.lock().get(&session).cloned()
    }

    /// Ends every session, for `reason`.
    pub fn end_all(&self, reason: &EndReason) {
        let all = self.lock().values().cloned().collect::<Vec<_>>();
        for live in all {
            live.end(reason.clone());
        }
    }

    /// Ends every session of which no command runs now, for `reason`.
    pub fn end_idle(&self, reason: &EndReason) {
        let idle = |live: &&Arc<Live>| live.is_idle();
        let all = self.lock().values().filter(idle).cloned().collect::<Vec<_>>();
        for live in all {
            live.end(reason.clone());
        }
    }

    /// Every live session, oldest first.
    pub fn list(&self) -> Vec<LiveView> {
        let view = |live: &Arc<Live>| LiveView {
            session: live.session,
            principal: live.principal.name.clone(),
            subject: live.principal.subject.clone(),
            issuer: live.principal.issuer.clone(),
            origin: live.origin.clone(),
            target: live.target.clone(),
            protocol: live.protocol,
            since: live.since,
            commands: live.commands(),
            observe: live.observe,
        };
        self.lock().values().map(view).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// A session that begins to live.
    pub(super) fn of(opened: &crate::audit::entry::Opened, since: Timestamp) -> Self {
        Self {
            session: opened.session,
            principal: Arc::clone(&opened.principal),
            origin: opened.origin.clone(),
            target: opened.target.clone(),
            protocol: opened.protocol,
            since,
            observe: opened.observe,
            commands: AtomicU64::new(0),
            running: AtomicU64::new(0),
            end: watch::Sender::new(None),
        }
    }
}
