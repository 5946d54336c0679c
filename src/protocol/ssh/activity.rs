//! When a connection last did anything: keep-alives do not count.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// When data or a request last crossed a connection.
#[derive(Debug)]
pub(super) struct Activity {
    last: Mutex<Instant>,
    over: CancellationToken,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { last: Mutex::new(Instant::now()), over: CancellationToken::new() }
    }

    /// Something crosses now.
    pub(super) fn now(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits until nothing crossed for `idle`, and then says so to all who wait for
    /// [`Activity::over`].
    pub(super) async fn ceased(&self, idle: Duration) {
        loop {
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let until = last + idle;
            if until <= Instant::now() {
                self.over.cancel();
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// Waits until it was found that nothing crosses any more.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_is_counted_from_the_last_act() {
        let (activity, idle) = (Activity::new(), Duration::from_millis(50));
        let wait = activity.ceased(idle);
        tokio::pin!(wait);
        tokio::select! {
            biased;
            () = &mut wait => {}
            () = tokio::time::sleep(idle / 2) => {}
        }
        let acted = Instant::now();
        activity.now();
        activity.ceased(idle).await;
        assert!(acted.elapsed() >= idle);
        wait.await;
        activity.over().await;
    }
}
