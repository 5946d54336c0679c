//! How often an address may be wrong: whoever guesses secrets or codes is slowed down.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;

use jiff::Timestamp;

use crate::model::place::network;

/// The time in which wrong ones are counted, in seconds.
const WINDOW_S: i64 = 60;
/// Most addresses that are remembered; beyond it, those that have waited longest are forgotten.
const ADDRESSES_MAX: usize = 16_384;

/// Counts the wrong tries of addresses.
pub(super) struct Rates {
    tries_max: u32,
    tries: Mutex<HashMap<IpAddr, (Timestamp, u32)>>,
}

impl Rates {
    /// At most so many wrong tries of an address within a minute.
    pub(super) fn new(tries_max: u32) -> Self {
        Self { tries_max, tries: Mutex::default() }
    }

    /// Whether the address may try.
    pub(super) fn may_try(&self, address: IpAddr, now: Timestamp) -> bool {
        let tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = tries.get(&network(address)).filter(|(since, _)| is_recent(*since, now));
        counted.is_none_or(|(_, count)| *count < self.tries_max)
    }

    /// Counts a wrong try.
    pub(super) fn was_wrong(&self, address: IpAddr, now: Timestamp) {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.len() >= ADDRESSES_MAX {
            tries.retain(|_, (since, _)| is_recent(*since, now));
            if tries.len() >= ADDRESSES_MAX {
                let oldest = tries.iter().min_by_key(|(_, (since, _))| *since).map(|(one, _)| *one);
                oldest.and_then(|oldest| tries.remove(&oldest));
            }
        }
        let (since, count) = tries.entry(network(address)).or_insert((now, 0));
        if !is_recent(*since, now) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates").field("tries_max", &self.tries_max).finish_non_exhaustive()
    }
}

fn is_recent(since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since).as_secs().abs() < WINDOW_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_often_wrong_has_to_wait_and_nobody_else() {
        let rates = Rates::new(2);
        let at = |second| Timestamp::from_second(second).unwrap();
        let (one, beside) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let other = "2001:db8:0:1::1".parse().unwrap();
        rates.was_wrong(one, at(0));
        assert!(rates.may_try(beside, at(0)));
        rates.was_wrong(beside, at(1));
        assert!(!rates.may_try(one, at(2)) && rates.may_try(other, at(2)));
        assert!(rates.may_try(one, at(61)));
    }

    #[test]
    fn memory_is_bounded() {
        let rates = Rates::new(2);
        for last in 0..u32::try_from(ADDRESSES_MAX).unwrap() + 100 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + last);
            rates.was_wrong(address.into(), Timestamp::UNIX_EPOCH);
        }
        assert_eq!(rates.tries.lock().unwrap().len(), ADDRESSES_MAX);
    }
}
