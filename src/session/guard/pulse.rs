//! Whether a session is idle: nothing asked, nothing answered, and no command that runs or waits.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

/// When a session was last active, and how many of its commands run or wait.
#[derive(Debug)]
pub(super) struct Pulse {
    began: Instant,
    /// The last activity, in milliseconds since the session began.
    last_ms: AtomicU64,
    busy: AtomicUsize,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), last_ms: AtomicU64::new(0), busy: AtomicUsize::new(0) }
    }

    /// Notes activity.
    pub(super) fn beat(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// A command begins to run or to wait.
    pub(super) fn begin(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    /// A command ended.
    pub(super) fn end(&self) {
        self.beat();
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// How long the session may still be idle; `None` once it was for too long.
    pub(super) fn left(&self, idle_max: Duration) -> Option<Duration> {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return Some(idle_max);
        }
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        let idle = self.began.elapsed().saturating_sub(last);
        idle_max.checked_sub(idle).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_idle_only_while_no_command_runs() {
        let pulse = Pulse::new();
        assert!(pulse.left(Duration::from_secs(60)).is_some());
        assert_eq!(pulse.left(Duration::ZERO), None);
        pulse.begin();
        assert!(pulse.left(Duration::ZERO).is_some());
        pulse.end();
        assert_eq!(pulse.left(Duration::ZERO), None);
    }
}
