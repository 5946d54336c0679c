//! A region, and which addresses lie in it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::Country;
use crate::model::RegionName;

/// A region: where gateways and targets stand, and the country that follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub name: RegionName,
    /// Its country.
    pub country: Country,
    /// The declared networks in which every address of its targets lies.
    pub networks: Vec<IpNet>,
}

impl Region {
    /// Whether `ip` lies in the region; an IPv4-mapped IPv6 address is the IPv4 address.
    ///
    /// An address that stands for no single machine lies nowhere, whatever was declared:
    /// connecting to `0.0.0.0` or `::` reaches this machine itself.
    pub fn holds(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        !ip.is_unspecified()
            && !ip.is_multicast()
            && self.networks.iter().any(|network| network.contains(&ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_lies_where_the_ipv4_address_lies() {
        let region = |network: &str| Region {
            name: "eu-central".parse().unwrap(),
            country: "DE".parse().unwrap(),
            networks: vec![network.parse().unwrap()],
        };
        let mapped = "::ffff:10.1.0.5".parse().unwrap();
        assert!(region("10.1.0.0/16").holds(mapped));
        assert!(!region("::ffff:0:0/96").holds(mapped));
        assert!(!region("::/1").holds(mapped));
    }
}
