//! Ending in good order: telling what runs to end, and waiting until it has.
//!
//! Knows how many run, not what they are.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// The gateway's end: a signal that every task may watch, and a count of what still runs.
#[derive(Debug, Clone)]
pub struct Drain {
    begun: watch::Sender<bool>,
    running: watch::Sender<usize>,
}

/// Something that runs and that a drain waits for, until this is dropped.
#[derive(Debug)]
#[must_use = "a drain waits only for as long as this is kept"]
pub struct Running(watch::Sender<usize>);

impl Drain {
    /// A drain that has not begun, with nothing running.
    pub fn new() -> Self {
        Self { begun: watch::Sender::new(false), running: watch::Sender::new(0) }
    }

    /// Counts something that runs.
    pub fn track(&self) -> Running {
        self.running.send_modify(|running| *running = running.saturating_add(1));
        Running(self.running.clone())
    }

    /// How much runs.
    pub fn running(&self) -> usize {
        *self.running.borrow()
    }

    /// Tells everything that runs to end. Beginning twice changes nothing.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Whether everything was told to end.
    pub fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Waits until everything is told to end. Cancel safe.
    pub async fn begun(&self) {
        let mut begun = self.begun.subscribe();
        // It cannot fail: the sender lives in `self`.
        drop(begun.wait_for(|begun| *begun).await);
    }

    /// Tells everything to end and waits until it has, or until `time_max` is over. Says how many
    /// were left: 0 is a good end.
    pub async fn drain(&self, time_max: Duration) -> usize {
        self.begin();
        let mut running = self.running.subscribe();
        drop(timeout(time_max, running.wait_for(|running| *running == 0)).await);
        self.running()
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running = running.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn a_drain_waits_for_what_runs_and_no_longer() {
        let drain = Drain::new();
        let session = drain.clone();
        let running = drain.track();
        let task = tokio::spawn(async move {
            session.begun().await;
            tokio::time::sleep(SHORT).await;
            drop(running);
        });
        let start = tokio::time::Instant::now();
        assert_eq!(drain.drain(LONG).await, 0);
        assert!((SHORT..LONG).contains(&start.elapsed()));
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_drain_gives_up_at_its_deadline_and_says_how_many_were_left() {
        let drain = Drain::new();
        let stubborn = [drain.track(), drain.track()];
        drop(drain.track());
        let start = tokio::time::Instant::now();
        assert_eq!(drain.drain(SHORT).await, 2);
        assert!(start.elapsed() >= SHORT);
        drop(stubborn);
        assert_eq!(drain.drain(LONG).await, 0);
    }

    #[tokio::test]
    async fn whoever_asks_late_is_told_too() {
        let drain = Drain::new();
        assert!(!drain.has_begun());
        drain.begin();
        drain.clone().begun().await;
        assert!(drain.has_begun());
    }
}
