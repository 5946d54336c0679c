//! The country of an address, by the networks that an administrator configured; where these do not
//! hold it, by country databases.
//!
//! Knows networks and countries only; whether a country may see something is not asked here.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use ipnet::Ipv4Net;

use crate::listen::country;
use crate::listen::country::Database;
use crate::model::Country;
use crate::model::Origin;
use crate::model::place::PlaceMethod;

/// An IPv6 prefix of this length and more can lie within `::ffff:0:0/96` (RFC 4291, 2.5.5.2).
const MAPPED_PREFIX_BITS: u8 = 96;

/// The configured networks and the country of each, and the country databases.
#[derive(Debug, Clone, Default)]
pub struct Networks {
    countries: HashMap<IpNet, Country>,
    /// The lengths of prefixes that occur, so that a search tries no others.
    lengths: BTreeSet<u8>,
    databases: Arc<[Database]>,
}

/// One network is configured to lie in two countries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the network {network} is configured to lie in {one} and in {other}")]
pub struct Contradiction {
    /// The network.
    pub network: IpNet,
    /// The country given first.
    pub one: Country,
    /// The country given later.
    pub other: Country,
}

impl Networks {
    /// Networks and their countries. The more specific network wins, so the order does not matter;
    /// one network in two countries is an error.
    pub fn new(
        networks: impl IntoIterator<Item = (IpNet, Country)>,
    ) -> Result<Self, Contradiction> {
        let mut known = Self::default();
        for (network, country) in networks {
            let network = normal(network);
            known.lengths.insert(network.prefix_len());
            match known.countries.get(&network) {
                Some(one) if *one != country => {
                    return Err(Contradiction { network, one: one.clone(), other: country });
                }
                Some(_) => {}
                None => drop(known.countries.insert(network, country)),
            }
        }
        Ok(known)
    }

    /// The same, with databases to ask about addresses that no network holds.
    #[must_use]
    pub fn with(mut self, databases: Vec<Database>) -> Self {
        self.databases = databases.into();
        self
    }

    /// Where an address lies: the country of the most specific network that holds it, or else the
    /// one that the databases agree on.
    pub fn origin(&self, address: IpAddr) -> Origin {
        let address = address.to_canonical();
        let found = self.lengths.iter().rev().find_map(|&length| {
            let network = IpNet::new(address, length).ok()?.trunc();
            self.countries.get(&network).map(|country| (network, country.clone()))
        });
        let (country, method) = match found {
            Some((network, country)) => {
                (Some(country), PlaceMethod::ConfiguredNetwork(network.to_string()))
            }
            None => country::agreed(&self.databases, address),
        };
        Origin { address, country, method }
    }
}

/// A network in the one form in which it is compared: without host bits, and as IPv4 where it is
/// written as IPv4-mapped IPv6, as addresses are too.
fn normal(network: IpNet) -> IpNet {
    let network = network.trunc();
    let mapped = match network {
        IpNet::V4(_) => None,
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().and_then(|v4| {
            let length = v6.prefix_len().checked_sub(MAPPED_PREFIX_BITS)?;
            Ipv4Net::new(v4, length).ok()
        }),
    };
    mapped.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::listen::country::tests as country_tests;

    fn networks(list: &[(&str, &str)]) -> Result<Networks, Contradiction> {
        Networks::new(list.iter().map(|(net, country)| {
            (net.parse().expect("a network"), country.parse().expect("a country"))
        }))
    }

    fn country(known: &Networks, address: &str) -> String {
        let origin = known.origin(address.parse().unwrap());
        origin.country.map_or_else(|| "?".to_owned(), String::from)
    }

    #[test]
    fn the_most_specific_network_wins_in_whatever_order() {
        let mut list = [("10.0.0.0/8", "DE"), ("10.1.0.0/16", "SG"), ("10.1.2.3/32", "FR")];
        for _ in 0..2 {
            let known = networks(&list).unwrap();
            assert_eq!(country(&known, "10.9.9.9"), "DE");
            assert_eq!(country(&known, "10.1.9.9"), "SG");
            assert_eq!(country(&known, "10.1.2.3"), "FR");
            let origin = known.origin("10.1.9.9".parse().unwrap());
            assert_eq!(origin.method, PlaceMethod::ConfiguredNetwork("10.1.0.0/16".to_owned()));
            list.reverse();
        }
    }

    #[test]
    fn an_address_in_no_network_is_unknown() {
        let known = networks(&[("10.0.0.0/8", "DE"), ("2001:db8::/32", "FR")]).unwrap();
        let origin = known.origin("192.0.2.1".parse().unwrap());
        assert_eq!((origin.country, origin.method), (None, PlaceMethod::Unknown));
        assert_eq!(country(&known, "2001:db8::1"), "FR");
        assert_eq!(country(&known, "2001:db9::1"), "?");
    }

    #[test]
    fn a_configured_network_counts_for_more_than_any_database() {
        let databases =
            vec![country_tests::database("db", &[("::/0", country_tests::nested("US"))])];
        let known = networks(&[("81.2.69.0/24", "DE")]).unwrap().with(databases);
        let origin = known.origin("81.2.69.160".parse().unwrap());
        assert_eq!(origin.method.to_string(), "by configured network 81.2.69.0/24");
        assert_eq!(country(&known, "81.2.69.160"), "DE");
        let origin = known.origin("81.2.70.1".parse().unwrap());
        assert_eq!(origin.method.to_string(), "by country database db");
        assert_eq!(country(&known, "81.2.70.1"), "US");
        assert_eq!(country(&known, "127.0.0.1"), "?");
    }

    #[test]
    fn an_ipv4_address_is_the_same_when_written_as_ipv6() {
        let known = networks(&[("10.0.0.0/8", "DE")]).unwrap();
        assert_eq!(country(&known, "::ffff:10.1.2.3"), "DE");
        let known = networks(&[("::ffff:10.0.0.0/104", "DE"), ("::/0", "FR")]).unwrap();
        assert_eq!(country(&known, "10.1.2.3"), "DE");
        // All of IPv6 is not all of IPv4, though mapped addresses lie within it.
        assert_eq!(country(&known, "::ffff:11.1.2.3"), "?");
    }

    #[test]
    fn one_network_in_two_countries_is_an_error() {
        assert!(networks(&[("10.0.0.0/8", "DE"), ("10.0.0.0/8", "DE")]).is_ok());
        let error = networks(&[("10.0.0.0/8", "DE"), ("10.1.1.1/8", "SG")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the network 10.0.0.0/8 is configured to lie in DE and in SG"
        );
        assert!(networks(&[("10.0.0.0/8", "DE"), ("::ffff:10.0.0.0/104", "SG")]).is_err());
    }

    proptest! {
        #[test]
        fn it_agrees_with_trying_every_network(
            list in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..20),
            address in any::<u32>(),
        ) {
            let list: Vec<IpNet> = list
                .into_iter()
                .map(|(bits, length)| IpNet::new(std::net::Ipv4Addr::from(bits).into(), length).unwrap())
                .collect();
            let known =
                Networks::new(list.iter().map(|net| (*net, "DE".parse().unwrap()))).unwrap();
            let address = IpAddr::from(std::net::Ipv4Addr::from(address));
            let best = list.iter().filter(|net| net.contains(&address)).map(IpNet::prefix_len).max();
            let method = match best {
                Some(length) => PlaceMethod::ConfiguredNetwork(
                    IpNet::new(address, length).unwrap().trunc().to_string(),
                ),
                None => PlaceMethod::Unknown,
            };
            prop_assert_eq!(known.origin(address).method, method);
        }
    }
}
