//! What a client sent on one channel and nobody took yet: bounded in bytes, seen by all who wait.
//!
//! russh hands over a channel's data inside the connection's loop. Awaiting the target there would
//! stop every channel of the connection, and a disconnect would go unseen while a command is held;
//! not awaiting at all would read an endless stdin into memory. So the loop puts data here at once,
//! and [`Inbox::is_full`] makes it grant the client next to no further window
//! (`connection::Connection::adjust_window`): what was granted before still arrives, and no more.
//!
//! Must not know what the data is for.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;
use russh::Sig;
use tokio::sync::watch;

/// How much may wait before the client is granted no further window, in bytes.
pub(super) const AHEAD_BYTES_MAX: usize = 1024 * 1024;
/// How much may wait at all, in bytes: what is ahead, and what two windows let follow.
pub(super) const WAITING_BYTES_MAX: usize = AHEAD_BYTES_MAX + 2 * super::WINDOW_BYTES + 1024 * 1024;
/// What a packet costs besides its data, in bytes: a flood of empty packets is a flood.
const PACKET_BYTES: usize = 64;
/// How many signals may wait; more are dropped.
const SIGNALS_MAX: usize = 16;
/// Ctrl-C, as a terminal sends it.
const CTRL_C: u8 = 3;

/// A terminal's size: columns, rows, and both in pixels (RFC 4254 §6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: u32,
    pub(super) rows: u32,
    pub(super) width_pixels: u32,
    pub(super) height_pixels: u32,
}

/// What a client sent on one channel and nobody took yet.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    data: VecDeque<Bytes>,
    bytes: usize,
    stdin: Stdin,
    signals: VecDeque<Sig>,
    size: Option<Size>,
    interrupted: bool,
    closed: bool,
    done: bool,
}

/// How far a client's stdin is.
#[derive(Debug, Default, PartialEq, Eq)]
enum Stdin {
    /// More may come.
    #[default]
    Open,
    /// Its end came.
    Ended,
    /// Its end was taken.
    Taken,
}

/// The next part of what a client sends to a command.
#[derive(Debug)]
pub(super) enum Input {
    /// Data.
    Data(Bytes),
    /// There is no more.
    End,
}

/// The next thing about a command that is no data.
#[derive(Debug)]
pub(super) enum Control {
    /// A signal.
    Signal(Sig),
    /// The terminal has another size.
    Size(Size),
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Puts data behind what waits.
    pub(super) fn put(&self, data: &[u8]) {
        self.change(|state| {
            if state.stdin != Stdin::Open || state.closed || state.done {
                return;
            }
            state.interrupted |= data.contains(&CTRL_C);
            if state.bytes <= WAITING_BYTES_MAX {
                state.bytes = state.bytes.saturating_add(data.len()).saturating_add(PACKET_BYTES);
                state.data.push_back(Bytes::copy_from_slice(data));
            }
        });
    }

    /// There will be no more data.
    pub(super) fn end(&self) {
        self.change(|state| {
            if state.stdin == Stdin::Open {
                state.stdin = Stdin::Ended;
            }
        });
    }

    /// The client sent a signal.
    pub(super) fn signal(&self, signal: Sig) {
        self.change(|state| {
            if state.signals.len() < SIGNALS_MAX {
                state.signals.push_back(signal);
            }
        });
    }

    /// The client's terminal has another size; only the last one counts.
    pub(super) fn resize(&self, size: Size) {
        self.change(|state| state.size = Some(size));
    }

    /// The client closed the channel, or is gone.
    pub(super) fn close(&self) {
        self.change(|state| state.closed = true);
    }

    /// Nobody takes anything any more: what waits is dropped.
    pub(super) fn done(&self) {
        self.change(|state| {
            state.done = true;
            state.data.clear();
            state.bytes = 0;
        });
    }

    /// Whether nobody takes anything any more.
    pub(super) fn is_done(&self) -> bool {
        self.lock().done
    }

    /// Whether so much waits that the client should send no more.
    pub(super) fn is_full(&self) -> bool {
        self.lock().bytes > AHEAD_BYTES_MAX
    }

    /// Waits until not so much waits any more, or nobody will take it.
    pub(super) async fn room(&self) {
        self.until(|state| (state.bytes <= AHEAD_BYTES_MAX || state.closed).then_some(())).await;
    }

    /// The next data, or their end, once. Cancel-safe.
    pub(super) async fn input(&self) -> Input {
        let input = self.until(|state| {
            if let Some(data) = state.data.pop_front() {
                state.bytes = state.bytes.saturating_sub(data.len().saturating_add(PACKET_BYTES));
                return Some(Input::Data(data));
            }
            let ended = state.stdin == Stdin::Ended;
            if ended {
                state.stdin = Stdin::Taken;
            }
            ended.then_some(Input::End)
        });
        let input = input.await;
        self.changed.send_replace(());
        input
    }

    /// The next signal or size. Cancel-safe.
    pub(super) async fn control(&self) -> Control {
        self.until(|state| {
            let signal = state.signals.pop_front().map(Control::Signal);
            signal.or_else(|| state.size.take().map(Control::Size))
        })
        .await
    }

    /// Waits until the client closed the channel or is gone.
    pub(super) async fn closed(&self) {
        self.until(|state| state.closed.then_some(())).await;
    }

    /// Waits until more came than can be kept: never, unless a client sends beyond its window.
    pub(super) async fn overflowed(&self) {
        self.until(|state| (state.bytes > WAITING_BYTES_MAX).then_some(())).await;
    }

    /// Waits until the client takes a held command back, and says how. The end of its stdin is no
    /// such thing: `ssh -n` sends it at once, and waits.
    pub(super) async fn withdrawn(&self, terminal: bool) -> &'static str {
        self.until(|state| {
            let signal = |signal: &Sig| {
                matches!(signal, Sig::INT | Sig::TERM | Sig::HUP | Sig::QUIT | Sig::KILL)
            };
            if state.closed {
                Some("the client went away")
            } else if (terminal && state.interrupted) || state.signals.iter().any(signal) {
                Some("canceled by the client")
            } else if state.bytes > AHEAD_BYTES_MAX {
                Some("the client sent more than is read ahead while a command waits (1 MiB)")
            } else {
                None
            }
        })
        .await
    }

    async fn until<T>(&self, mut found: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(found) = found(&mut self.lock()) {
                return found;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn data_come_in_order_and_end_once() {
        let inbox = Inbox::new();
        inbox.put(b"a");
        inbox.put(b"b");
        inbox.end();
        inbox.put(b"c");
        assert!(matches!(inbox.input().await, Input::Data(data) if data == "a"));
        assert!(matches!(inbox.input().await, Input::Data(data) if data == "b"));
        assert!(matches!(inbox.input().await, Input::End));
        assert!(inbox.input().now_or_never().is_none(), "there is one end");
    }

    #[tokio::test]
    async fn a_full_inbox_is_full_until_it_is_taken() {
        let inbox = Inbox::new();
        inbox.put(&vec![0; AHEAD_BYTES_MAX]);
        assert!(inbox.is_full() && inbox.room().now_or_never().is_none());
        inbox.input().await;
        assert!(!inbox.is_full() && inbox.room().now_or_never().is_some());
    }

    #[tokio::test]
    async fn empty_packets_fill_it_too() {
        let inbox = Inbox::new();
        for _ in 0..=AHEAD_BYTES_MAX / PACKET_BYTES {
            inbox.put(b"");
        }
        assert!(inbox.is_full());
    }

    #[tokio::test]
    async fn no_flood_grows_beyond_the_bound() {
        let inbox = Inbox::new();
        for _ in 0..100 {
            inbox.put(&vec![0; 1024 * 1024]);
        }
        assert!(inbox.lock().bytes <= WAITING_BYTES_MAX + 1024 * 1024 + PACKET_BYTES);
        assert!(inbox.overflowed().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_held_command_is_taken_back_by_what_means_that() {
        let taken_back = |act: fn(&Inbox), terminal| {
            let inbox = Inbox::new();
            act(&inbox);
            inbox.withdrawn(terminal).now_or_never()
        };
        assert_eq!(taken_back(Inbox::close, false), Some("the client went away"));
        assert_eq!(taken_back(|i| i.signal(Sig::INT), false), Some("canceled by the client"));
        assert_eq!(taken_back(|i| i.put(&[3]), true), Some("canceled by the client"));
        assert!(taken_back(|i| i.put(&vec![0; AHEAD_BYTES_MAX + 1]), false).is_some());
        assert_eq!(taken_back(|i| i.put(&[3]), false), None, "a byte of a file is no Ctrl-C");
        assert_eq!(taken_back(Inbox::end, false), None, "ssh -n waits");
        assert_eq!(taken_back(|i| i.signal(Sig::USR1), false), None);
    }
}
