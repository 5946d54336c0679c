//! When a session ends although neither side ended it: killed, policy or law changed, login ended,
//! trail lost, idle, gateway stopping.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::identity;
use crate::model::digest::Digest;
use crate::model::refusal::IntoRefusal;
use crate::policy;
use crate::policy::Permit;
use crate::policy::Snapshot;
use crate::policy::transfer::Decision;
use crate::session::guard::Guard;
use crate::session::guard::Parts;
use crate::session::guard::Withheld;
use crate::session::registry::EndReason;

/// What a session stands on: its admission, or the last readmission.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    version: Digest,
    /// Whose decision it is.
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) decision: Arc<Decision>,
}

impl Standing {
    /// What a session stands on that was just admitted.
    pub(super) fn admitted(permit: &Permit, parts: &Parts) -> Self {
        Self {
            version: permit.version(),
            snapshot: Arc::clone(&parts.version.borrow().snapshot),
            decision: Arc::new(permit.transfer().clone()),
        }
    }

    fn readmitted(snapshot: Arc<Snapshot>, decision: Decision) -> Self {
        Self { version: snapshot.version(), snapshot, decision: Arc::new(decision) }
    }
}

impl Guard {
    /// Waits until the session has to end although neither side ended it: killed, policy changed,
    /// credential expired, trail lost, gateway draining. Cancel-safe.
    pub async fn ended(&self) -> EndReason {
        let mut version = self.parts.version.clone();
        let mut ending = self.live.ending();
        let mut standing = self.permit.identity().standing();
        let mut losing = self.trail.losing();
        loop {
            // Marked as seen before looking, so that no change falls between the two.
            version.mark_unchanged();
            ending.mark_unchanged();
            losing.mark_unchanged();
            standing.iter_mut().for_each(watch::Receiver::mark_unchanged);
            if let Some(reason) = self.over() {
                return reason;
            }
            let now = self.now();
            let left = self
                .asked_again_at()
                .map_or(jiff::SignedDuration::MAX, |at| at.duration_since(now));
            let left = Duration::try_from(left).unwrap_or_default();
            let Some(quiet) = self.pulse.left(self.parts.idle_max) else { return EndReason::Idle };
            // Woken at least once a minute: the clock may be set, and dates end.
            let nap = left.min(quiet).clamp(Duration::from_millis(10), Duration::from_mins(1));
            tokio::select! {
                changed = version.changed() => if changed.is_err() { return EndReason::Draining },
                changed = ending.changed() => if changed.is_err() { return EndReason::Draining },
                () = changed(&mut standing) => {}
                _ = losing.changed() => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
    }

    /// Whether the session has to end, and why.
    pub(super) fn over(&self) -> Option<EndReason> {
        if let Some(reason) = self.live.ending().borrow().clone() {
            return Some(reason);
        }
        if self.trail.lost() {
            return Some(EndReason::Unrecorded);
        }
        if let Some(why) = self.permit.identity().ended() {
            return Some(EndReason::LoginEnded(why));
        }
        let now = self.now();
        if self.permit.expires_at().is_some_and(|expiry| now >= expiry) {
            return Some(EndReason::Expired);
        }
        let snapshot = self.snapshot();
        if self.is_to_be_asked(&snapshot, now) || self.authentication_changed() {
            match policy::readmit(&self.permit, &snapshot, now) {
                Err(refusal) => return Some(EndReason::PolicyChanged(refusal)),
                Ok(decision) => {
                    self.state().standing = Standing::readmitted(snapshot, decision);
                }
            }
        }
        None
    }

    /// What the session stands on now. An answer is withheld where it stands on nothing any more.
    pub(super) fn standing(&self) -> Result<Standing, Withheld> {
        if self.is_to_be_asked(&self.snapshot(), self.now())
            && let Some(reason) = self.over()
        {
            return Err(Withheld(reason.refusal()));
        }
        Ok(self.state().standing.clone())
    }

    /// Whether policy or law may say something else than when the session was asked about last.
    fn is_to_be_asked(&self, snapshot: &Snapshot, now: Timestamp) -> bool {
        snapshot.version() != self.state().standing.version
            || self.asked_again_at().is_some_and(|at| now >= at)
    }

    /// Whether another sign-in counts now than at admission: it may be a weaker one.
    fn authentication_changed(&self) -> bool {
        let identity = self.permit.identity();
        identity.standing().is_some() && identity.authentication() != self.admitted_by
    }

    /// When the session has to be asked about again at the latest, if ever.
    fn asked_again_at(&self) -> Option<Timestamp> {
        self.permit.valid_until()
    }
}

/// Waits until a login's standing changes; for ever where there is none, or nobody who could.
async fn changed(standing: &mut Option<watch::Receiver<identity::Standing>>) {
    let gone = match standing {
        Some(standing) => standing.changed().await.is_err(),
        None => true,
    };
    if gone {
        std::future::pending::<()>().await;
    }
}
