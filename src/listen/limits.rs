//! Every bound of the listener, and counting connections against them.
//!
//! Knows addresses and numbers only.

use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// IPv6 clients are counted by networks of this prefix, since a single host is given that much
/// (RFC 6177) and could otherwise count as as many clients as it likes.
const CLIENT_PREFIX_BITS: u32 = 64;

/// Every bound of a listener. The defaults suit a gateway for some hundred people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. Default 10 000.
    pub connections_max: usize,
    /// Connections at once from one client address (IPv6: one /64 network). Default 500, since a
    /// whole office may come from one address.
    pub connections_per_address_max: usize,
    /// From accepting a connection until its TLS handshake is done, or until it is told to be SSH.
    /// Default 10 s.
    pub handshake_ms_max: u64,
    /// The size of a PostgreSQL startup packet. Default 10 000, as PostgreSQL has it.
    pub startup_bytes_max: usize,
    /// How long a client may be silent before it is taken for an SSH client that waits for the
    /// server's banner. Default 2 s; must be less than `handshake_ms_max`, or no silent client is.
    pub silence_ms_max_before_ssh: u64,
    /// How long a session may be idle. Default 8 h.
    pub idle_ms_max: u64,
    /// How long sessions may go on once the gateway was told to end. Default 30 s.
    pub drain_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_per_address_max: 500,
            handshake_ms_max: 10_000,
            startup_bytes_max: 10_000,
            silence_ms_max_before_ssh: 2_000,
            idle_ms_max: 8 * 60 * 60 * 1_000,
            drain_ms_max: 30_000,
        }
    }
}

impl Limits {
    /// `handshake_ms_max` as a duration.
    pub fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms_max)
    }

    /// `silence_ms_max_before_ssh` as a duration.
    pub fn silence_before_ssh(&self) -> Duration {
        Duration::from_millis(self.silence_ms_max_before_ssh)
    }

    /// `idle_ms_max` as a duration.
    pub fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms_max)
    }

    /// `drain_ms_max` as a duration.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms_max)
    }
}

/// Counts connections, in total and by client.
#[derive(Debug)]
pub(super) struct Slots {
    total_max: usize,
    by_client_max: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// One connection's place among the counted; dropping it frees the place.
#[derive(Debug)]
#[must_use = "the connection is counted only for as long as this is kept"]
pub struct Slot {
    slots: Arc<Slots>,
    client: Option<IpAddr>,
}

/// No place is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// `connections_max` is reached.
    #[error("there are {0} connections already (connections_max)")]
    InTotal(usize),
    /// `connections_per_address_max` is reached.
    #[error("{0} has {1} connections already (connections_per_address_max)")]
    ForAddress(IpAddr, usize),
}

impl Slots {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            total_max: limits.connections_max,
            by_client_max: limits.connections_per_address_max,
            counts: Mutex::default(),
        })
    }

    /// A place for a connection whose client is not known yet.
    pub(super) fn take(self: &Arc<Self>) -> Result<Slot, Full> {
        let mut counts = self.counts();
        if counts.total >= self.total_max {
            return Err(Full::InTotal(self.total_max));
        }
        counts.total = counts.total.saturating_add(1);
        drop(counts);
        Ok(Slot { slots: Arc::clone(self), client: None })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Counts the connection as one of this client's, too. To be called once.
    pub(super) fn claim(mut self, address: IpAddr) -> Result<Self, Full> {
        let client = client(address);
        let mut counts = self.slots.counts();
        let count = counts.by_client.entry(client).or_default();
        if *count >= self.slots.by_client_max {
            // A limit of zero must not leave an empty entry behind.
            if *count == 0 {
                counts.by_client.remove(&client);
            }
            drop(counts);
            return Err(Full::ForAddress(address, self.slots.by_client_max));
        }
        *count = count.saturating_add(1);
        drop(counts);
        self.client = Some(client);
        Ok(self)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.slots.counts();
        counts.total = counts.total.saturating_sub(1);
        if let Some(client) = self.client
            && let Some(count) = counts.by_client.get_mut(&client)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.by_client.remove(&client);
            }
        }
    }
}

/// Whom an address is counted for.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let mask = u128::MAX << (u128::BITS - CLIENT_PREFIX_BITS);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(connections_max: usize, connections_per_address_max: usize) -> Arc<Slots> {
        Slots::new(&Limits { connections_max, connections_per_address_max, ..Limits::default() })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_total_is_bounded_and_freed() {
        let slots = slots(2, 9);
        let one = slots.take().unwrap();
        let _two = slots.take().unwrap();
        assert_eq!(slots.take().unwrap_err(), Full::InTotal(2));
        drop(one);
        assert!(slots.take().is_ok());
    }

    #[test]
    fn each_client_is_bounded_and_harms_no_other() {
        let slots = slots(9, 1);
        let alice = address("192.0.2.1");
        let first = slots.take().unwrap().claim(alice).unwrap();
        let mapped = address("::ffff:192.0.2.1");
        assert_eq!(slots.take().unwrap().claim(mapped).unwrap_err(), Full::ForAddress(mapped, 1));
        let _other = slots.take().unwrap().claim(address("192.0.2.2")).unwrap();
        drop(first);
        let again = slots.take().unwrap().claim(alice).unwrap();
        drop(again);
        assert_eq!(slots.counts().by_client.len(), 1, "who has gone is forgotten");
        assert_eq!(slots.counts().total, 1, "a refused claim frees its place");
    }

    #[test]
    fn a_client_cannot_multiply_itself_within_its_ipv6_network() {
        let slots = slots(9, 1);
        let _first = slots.take().unwrap().claim(address("2001:db8:0:1::1")).unwrap();
        assert!(slots.take().unwrap().claim(address("2001:db8:0:1:ffff::2")).is_err());
        assert!(slots.take().unwrap().claim(address("2001:db8:0:2::1")).is_ok());
    }
}
