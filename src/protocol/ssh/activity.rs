//! When a connection last did anything: keep-alives do not count.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// When data or a request last crossed a connection.
#[derive(Debug)]
pub(super) struct Activity(Mutex<Instant>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Something crosses now.
    pub(super) fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits until nothing crossed for `idle`.
    pub(super) async fn ceased(&self, idle: Duration) {
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let until = last + idle;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_is_counted_from_the_last_act() {
        let (activity, begun) = (Activity::new(), Instant::now());
        let wait = activity.ceased(Duration::from_millis(100));
        tokio::pin!(wait);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut wait).await.is_err());
        activity.now();
        wait.await;
        assert!(begun.elapsed() >= Duration::from_millis(150));
    }
}
