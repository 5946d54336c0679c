//! A bounded table in memory whose rows expire.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::model::digest::Digest;
use crate::model::place::network;

/// Rows by the digest of a secret.
pub(super) struct Table<T> {
    rows: HashMap<Digest, Row<T>>,
    of_address: HashMap<IpAddr, usize>,
    rows_max: usize,
    per_address_max: usize,
}

struct Row<T> {
    value: T,
    until: Timestamp,
    address: IpAddr,
}

impl<T> Table<T> {
    /// An empty one for at most so many rows, and so many of one address.
    pub(super) fn new((rows_max, per_address_max): (usize, usize)) -> Self {
        let (rows, of_address) = (HashMap::new(), HashMap::new());
        Self { rows, of_address, rows_max, per_address_max }
    }

    /// Keeps a row that is not there yet. `false`: there is no room.
    pub(super) fn put(
        &mut self,
        key: Digest,
        value: T,
        address: IpAddr,
        (until, now): (Timestamp, Timestamp),
    ) -> bool {
        let address = network(address);
        if !self.has_room(address) {
            self.sweep(now);
            self.yield_room(address);
            if !self.has_room(address) {
                return false;
            }
        }
        if self.rows.contains_key(&key) {
            return false;
        }
        self.rows.insert(key, Row { value, until, address });
        let count = self.of_address.entry(address).or_default();
        *count = count.saturating_add(1);
        true
    }

    pub(super) fn get(&self, key: &Digest, now: Timestamp) -> Option<&T> {
        self.rows.get(key).filter(|row| row.until > now).map(|row| &row.value)
    }

    pub(super) fn get_mut(&mut self, key: &Digest, now: Timestamp) -> Option<&mut T> {
        self.rows.get_mut(key).filter(|row| row.until > now).map(|row| &mut row.value)
    }

    pub(super) fn take(&mut self, key: &Digest, now: Timestamp) -> Option<T> {
        let row = self.rows.remove(key)?;
        self.forget(row.address);
        (row.until > now).then_some(row.value)
    }

    fn has_room(&self, address: IpAddr) -> bool {
        let here = self.of_address.get(&address).copied().unwrap_or_default();
        self.rows.len() < self.rows_max && here < self.per_address_max
    }

    fn sweep(&mut self, now: Timestamp) {
        let Self { rows, of_address, .. } = self;
        rows.retain(|_, row| row.until > now);
        of_address.clear();
        for row in rows.values() {
            let count = of_address.entry(row.address).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Where all rows are taken, whoever has most of them gives its oldest to somebody who has far
    /// fewer: a crowd of requests shuts out only itself.
    fn yield_room(&mut self, address: IpAddr) {
        let here = self.of_address.get(&address).copied().unwrap_or_default();
        if self.rows.len() < self.rows_max {
            return;
        }
        let most = self.of_address.iter().max_by_key(|(_, count)| **count);
        let Some((&greedy, _)) = most.filter(|(_, count)| **count / 4 > here) else { return };
        let of_greedy = self.rows.iter().filter(|(_, row)| row.address == greedy);
        let oldest = of_greedy.min_by_key(|(_, row)| row.until).map(|(key, _)| *key);
        if oldest.is_some_and(|oldest| self.rows.remove(&oldest).is_some()) {
            self.forget(greedy);
        }
    }

    fn forget(&mut self, address: IpAddr) {
        if let Some(count) = self.of_address.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_expire_and_their_number_is_bounded() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let key = |text: &str| Digest::of(text.as_bytes());
        let mut table = Table::new((3, 2));
        assert!(table.put(key("a"), 'a', one, (at(10), at(0))));
        assert!(!table.put(key("a"), 'b', other, (at(10), at(0))), "a row is not replaced");
        assert!(table.put(key("b"), 'b', one, (at(10), at(0))));
        assert!(!table.put(key("c"), 'c', one, (at(10), at(0))), "two of an address");
        assert!(table.put(key("d"), 'd', other, (at(20), at(0))));
        assert!(!table.put(key("e"), 'e', "::1".parse().unwrap(), (at(10), at(0))), "three");
        assert_eq!(table.get(&key("a"), at(9)), Some(&'a'));
        assert_eq!(table.get(&key("a"), at(10)), None);
        assert_eq!(table.take(&key("d"), at(9)), Some('d'));
        assert_eq!(table.take(&key("d"), at(9)), None);
        assert!(table.put(key("c"), 'c', one, (at(20), at(10))), "the expired ones made room");
    }

    #[test]
    fn a_crowd_from_one_network_shuts_out_nobody_else() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let key = |number: u16| Digest::of(&number.to_be_bytes());
        let mut table = Table::new((8, 8));
        for number in 0..8 {
            let beside = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number);
            let until = at(100 + i64::from(number));
            assert!(table.put(key(number), number, beside.into(), (until, at(0))));
        }
        let late = "2001:db8::ffff".parse().unwrap();
        assert!(!table.put(key(8), 8, late, (at(200), at(0))), "they count as one");
        let other = "192.0.2.1".parse().unwrap();
        assert!(table.put(key(9), 9, other, (at(200), at(0))));
        assert_eq!(table.get(&key(0), at(0)), None, "the oldest of the crowd gave way");
        assert_eq!(table.rows.len(), 8);
        for number in 10..20 {
            let _full_some_time = table.put(key(number), number, other, (at(200), at(0)));
        }
        assert!(table.of_address[&other] < 4, "nobody is pushed out by whoever has as many");
        assert_eq!(table.rows.len(), 8);
    }
}
