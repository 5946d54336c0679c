//! Cancel keys: which live session a `CancelRequest` means.
//!
//! A session's process id is its server's own, so that tools can compare it; its secret key is the
//! gateway's, so that the target's never leaves. A cancel is never answered, whether it fits or not
//! (libpq › Canceling Queries), and may come without TLS, as libpq's `PQcancel` sends it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use aws_lc_rs::constant_time;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::protocol::postgres::upstream::CANCEL_MS_MAX;

/// Cancels that are looked at in a second, of all clients; more are dropped.
pub const CANCELS_PER_S_MAX: u32 = 100;
/// Length of a secret key in protocol 3.0, in bytes.
pub const KEY_BYTES_3_0: usize = 4;
/// Length of a secret key in protocol 3.2, in bytes.
pub const KEY_BYTES_3_2: usize = 32;

/// A wish to cancel; dropped once it was acted on, so that its connection can be closed.
pub type Wish = oneshot::Sender<()>;

#[derive(Debug)]
struct Entry {
    key: Bytes,
    tell: mpsc::Sender<Wish>,
}

/// The sessions that can be canceled. One per gateway.
#[derive(Debug, Default)]
pub struct Cancels {
    sessions: Mutex<HashMap<i32, Vec<Entry>>>,
    recent: Mutex<Option<(Instant, u32)>>,
}

/// A session's place among those that can be canceled; dropping it gives the place up.
#[derive(Debug)]
pub struct Place {
    cancels: Arc<Cancels>,
    process: i32,
    key: Bytes,
    /// Wishes to cancel it.
    pub wishes: mpsc::Receiver<Wish>,
}

impl Cancels {
    /// Registers a session whose server's process is `process`, with a fresh key of `key_bytes`.
    /// `None`: there are no random numbers.
    pub fn register(self: &Arc<Self>, process: i32, key_bytes: usize) -> Option<Place> {
        let mut key = vec![0; key_bytes];
        aws_lc_rs::rand::fill(&mut key).ok()?;
        let key = Bytes::from(key);
        // One wish at a time: more of them cancel nothing more.
        let (tell, wishes) = mpsc::channel(1);
        let entry = Entry { key: key.clone(), tell };
        self.sessions().entry(process).or_default().push(entry);
        Some(Place { cancels: Arc::clone(self), process, key, wishes })
    }

    /// Tells the session that `process` and `key` mean, and waits until it acted on it.
    pub async fn cancel(&self, process: i32, key: &[u8]) {
        if !self.may_look() {
            return;
        }
        let Some(tell) = self.find(process, key) else { return };
        let (wish, acted) = oneshot::channel();
        if tell.try_send(wish).is_ok() {
            let acted = tokio::time::timeout(Duration::from_millis(CANCEL_MS_MAX), acted);
            // Acted on, given up or too late: the connection is closed all the same.
            drop(acted.await);
        }
    }

    fn find(&self, process: i32, key: &[u8]) -> Option<mpsc::Sender<Wish>> {
        let sessions = self.sessions();
        let same = |entry: &&Entry| constant_time::verify_slices_are_equal(&entry.key, key).is_ok();
        sessions.get(&process)?.iter().find(same).map(|entry| entry.tell.clone())
    }

    fn may_look(&self) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match recent.as_mut() {
            Some((since, seen)) if now.duration_since(*since) < Duration::from_secs(1) => {
                *seen = seen.saturating_add(1);
                *seen <= CANCELS_PER_S_MAX
            }
            Some(_) | None => {
                *recent = Some((now, 1));
                true
            }
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<i32, Vec<Entry>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The process id that the client is told.
    pub fn process(&self) -> i32 {
        self.process
    }

    /// The secret key that the client is told.
    pub fn key(&self) -> &Bytes {
        &self.key
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sessions = self.cancels.sessions();
        if let Some(entries) = sessions.get_mut(&self.process) {
            entries.retain(|entry| entry.key != self.key);
            if entries.is_empty() {
                sessions.remove(&self.process);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_whole_key_of_a_live_session_cancels() {
        let cancels = Arc::new(Cancels::default());
        let mut one = cancels.register(7, KEY_BYTES_3_2).unwrap();
        let mut two = cancels.register(7, KEY_BYTES_3_0).unwrap();
        let key = one.key().clone();
        cancels.cancel(7, &key[..4]).await;
        cancels.cancel(8, &key).await;
        cancels.cancel(7, b"").await;
        assert!(one.wishes.try_recv().is_err() && two.wishes.try_recv().is_err());
        let acting = async {
            one.wishes.recv().await.unwrap();
        };
        tokio::join!(cancels.cancel(7, &key), acting);
        drop(one);
        cancels.cancel(7, &key).await;
        assert!(two.wishes.try_recv().is_err(), "another session of the same process id");
    }

    #[tokio::test]
    async fn guesses_are_limited() {
        let cancels = Cancels::default();
        let looked = (0..CANCELS_PER_S_MAX * 2).filter(|_| cancels.may_look()).count();
        assert_eq!(looked, usize::try_from(CANCELS_PER_S_MAX).unwrap());
    }
}
