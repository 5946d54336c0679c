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
