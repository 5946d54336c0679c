//! Until a session stands: whose request it is, for which target, and the sessions that one
//! connection carries.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::HeaderMap;
use http::Method;
use tokio::sync::Notify;

use crate::model::LoginId;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::TargetName;
use crate::model::login::Presented;
use crate::model::login::Use;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::http::Front;
use crate::protocol::http::Greeting;
use crate::protocol::http::ahead::Ahead;
use crate::protocol::http::browser;
use crate::protocol::http::browser::Shown;
use crate::protocol::http::dialect::Dialect;
use crate::protocol::http::refuse::No;
use crate::protocol::http::upstream::Pool;
use crate::session::Claim;
use crate::session::EndReason;
use crate::session::Guard;
use crate::session::Verified;
use crate::target::Target;

/// Most sessions of one connection.
pub const SESSIONS_MAX: usize = 32;

/// One client's connection, and the sessions it carries.
pub struct Connection {
    /// What all connections share.
    pub front: Arc<Front>,
    /// The host that its TLS handshake named.
    pub sni: Option<String>,
    /// The certificate that its client showed.
    pub certificate: Option<Presented>,
    /// Where it comes from.
    pub origin: Origin,
    /// What its client sends ahead while a command waits.
    pub ahead: Ahead,
    sessions: Mutex<BTreeMap<TargetName, Vec<Slot>>>,
    changed: Notify,
}

/// A session, and what its exchanges need.
#[derive(Debug)]
pub struct Bound {
    /// Its guard.
    pub guard: Arc<Guard>,
    /// Its target.
    pub target: Arc<Target>,
    /// What is spoken to it.
    pub dialect: Arc<dyn Dialect>,
    /// Its legs.
    pub pool: Arc<Pool>,
}

/// One principal's place at one target, on this connection.
#[derive(Debug)]
enum Slot {
    /// The session lives.
    Live(Arc<Bound>),
    /// Somebody ended it: this connection gets no other.
    Killed(Arc<Principal>, Option<LoginId>, Refusal),
}

impl Slot {
    /// Whether it is the place of the same principal by the same login: another login of theirs may
    /// be less fresh, and ends by itself.
    fn is_of(&self, verified: &Verified) -> bool {
        let (principal, login) = match self {
            Self::Live(bound) => {
                let permit = bound.guard.permit();
                (permit.principal(), permit.identity().login())
            }
            Self::Killed(principal, login, _) => (principal, login.as_ref()),
        };
        principal == verified.principal() && login == verified.login()
    }
}

impl Connection {
    /// A connection that nobody asked anything on yet.
    pub fn new(front: Arc<Front>, greeting: Greeting, origin: Origin, ahead: Ahead) -> Self {
        let (sessions, changed) = (Mutex::default(), Notify::new());
        let Greeting { sni, certificate, .. } = greeting;
        Self { front, sni, certificate, origin, ahead, sessions, changed }
    }

    /// The session of a request: verified by its own credential, and admitted with the first
    /// request of this principal to this target.
    pub async fn bind(
        &self,
        label: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Arc<Bound>, No> {
        let name = label.parse::<TargetName>().ok();
        let usage = Use::Target(self.protocol(name.as_ref()));
        let gateway = &self.front.gateway;
        let host = self.host(label);
        let claim = match browser::shown(headers, self.certificate.as_ref())? {
            Shown::Bearer(token) => Claim::Secret(token),
            Shown::Certificate(Presented { der, ours }) => {
                // A browser that has one shows it on every page's behalf, as it does cookies.
                if browser::is_from_a_browser(headers) {
                    browser::may_ride(method, headers, &gateway.url_of(label))?;
                }
                Claim::Certificate { der, ours: *ours }
            }
            Shown::Cookie(secret) => {
                browser::may_ride(method, headers, &gateway.url_of(label))?;
                Claim::Cookie { secret, host: &host }
            }
        };
        let verified = gateway.verify(&claim, usage, Some(label), &self.origin).await?;
        let mut sessions = self.sessions();
        if let Some(slots) = name.as_ref().and_then(|name| sessions.get(name))
            && let Some(slot) = slots.iter().find(|slot| slot.is_of(&verified))
        {
            match slot {
                // One that has just ended is about to be taken away: it refuses by itself.
                Slot::Live(bound) => return Ok(Arc::clone(bound)),
                Slot::Killed(_, _, refusal) => return Err(refusal.clone().into()),
            }
        }
        if sessions.values().map(Vec::len).sum::<usize>() >= SESSIONS_MAX {
            let reason = format!("one connection carries at most {SESSIONS_MAX} sessions");
            return Err(Refusal::new(RefusalCode::TooLarge, reason).into());
        }
        let protocol = self.protocol(name.as_ref());
        let admitted = self.front.gateway.admit(&verified, label, protocol, &self.origin)?;
        let dialect = self.front.dialect(protocol)?;
        let pool = {
            // Kubernetes is told who asks in its own way, by impersonation.
            let vouches = (protocol == Protocol::Http).then(|| Arc::clone(&gateway.assertions));
            Pool::new(Arc::clone(&admitted.target), Arc::clone(&dialect), vouches)
        };
        let (guard, target) = (admitted.guard, admitted.target);
        let bound = Arc::new(Bound { guard, target, dialect, pool });
        let slot = Slot::Live(Arc::clone(&bound));
        sessions.entry(bound.target.name().clone()).or_default().push(slot);
        drop(sessions);
        self.changed.notify_one();
        Ok(bound)
    }

    /// Takes away sessions that end, for as long as it is polled.
    pub async fn take_away(&self) {
        loop {
            let mut ends: FuturesUnordered<_> = self
                .live()
                .into_iter()
                .map(|bound| async move {
                    let reason = bound.guard.ended().await;
                    (bound, reason)
                })
                .collect();
            tokio::select! {
                () = self.changed.notified() => {}
                Some((bound, reason)) = ends.next(), if !ends.is_empty() => {
                    self.bury(&bound, &reason);
                }
            }
        }
    }

    /// The protocol in which a target is asked for: its own, where it is one that is spoken here.
    fn protocol(&self, name: Option<&TargetName>) -> Protocol {
        let version = self.front.gateway.version();
        let target = name.and_then(|name| version.catalogue.target(name));
        let own = target.map(|target| target.facts().protocol);
        own.filter(|own| self.front.dialect(*own).is_ok()).unwrap_or(Protocol::Http)
    }

    fn live(&self) -> Vec<Arc<Bound>> {
        let sessions = self.sessions();
        let live = sessions.values().flatten().filter_map(|slot| match slot {
            Slot::Live(bound) => Some(Arc::clone(bound)),
            Slot::Killed(..) => None,
        });
        live.collect()
    }

    fn bury(&self, bound: &Arc<Bound>, reason: &EndReason) {
        bound.guard.ending(reason.word());
        let mut sessions = self.sessions();
        let Some(slots) = sessions.get_mut(bound.target.name()) else { return };
        slots.retain(|slot| !matches!(slot, Slot::Live(live) if Arc::ptr_eq(live, bound)));
        // Whatever else ended it is asked about again with the next request's own credential.
        if let EndReason::Killed { .. } = reason {
            let permit = bound.guard.permit();
            let (principal, login) = (permit.principal(), permit.identity().login());
            slots.push(Slot::Killed(Arc::clone(principal), login.cloned(), reason.refusal()));
        }
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<TargetName, Vec<Slot>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("sni", &self.sni)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}
