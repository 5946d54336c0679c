//! Region pinning: every address that a target's name resolves to lies in its region's declared
//! networks, and the address that was checked is the address that is dialed.
//!
//! [`Pinned`] is the proof. It is made here only, and `upstream` dials nothing else: resolving
//! once more when dialing would give a lying resolver its second chance.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::model::Address;
use crate::model::Country;
use crate::model::Fault;
use crate::model::Host;
use crate::model::Refusal;
use crate::model::RegionName;
use crate::model::TargetName;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::target::Target;

/// How long resolving a name may take, in milliseconds.
pub const RESOLVE_MS_MAX: u64 = 5_000;
/// Most addresses that a name may resolve to.
pub const ADDRESSES_MAX: usize = 64;

/// The addresses of a target, each checked to lie in its region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    target: TargetName,
    region: RegionName,
    host: Host,
    addresses: Vec<SocketAddr>,
}

impl Pinned {
    /// The target.
    pub fn target(&self) -> &TargetName {
        &self.target
    }

    /// The region in which every address lies.
    pub fn region(&self) -> &RegionName {
        &self.region
    }

    /// The host that was resolved.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The addresses that were checked, in the resolver's order; never empty.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// A target whose addresses could not be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The target's address is in a kubeconfig: whoever reads that calls [`pin_host`].
    #[error("the address of target `{target}` is in its kubeconfig")]
    NoAddress {
        /// The target.
        target: TargetName,
    },
    /// The resolver knows no address, or failed.
    #[error("cannot resolve `{host}`, the host of target `{target}`")]
    Unresolved {
        /// The target.
        target: TargetName,
        /// Its host.
        host: Host,
        /// What the resolver said.
        #[source]
        cause: std::io::Error,
    },
    /// The resolver took too long.
    #[error("resolving `{host}`, the host of target `{target}`, took more than {within:?}")]
    TimedOut {
        /// The target.
        target: TargetName,
        /// Its host.
        host: Host,
        /// The limit.
        within: Duration,
    },
    /// The resolver gave no address, or too many.
    #[error(
        "`{host}`, the host of target `{target}`, resolves to {count} addresses; expected 1 to {}",
        ADDRESSES_MAX
    )]
    Count {
        /// The target.
        target: TargetName,
        /// Its host.
        host: Host,
        /// How many.
        count: usize,
    },
    /// An address lies outside the region.
    #[error(
        "`{host}`, the host of target `{target}`, resolves to {address}, which lies in no \
         declared network of region `{region}` ({country})"
    )]
    Outside {
        /// The target.
        target: TargetName,
        /// Its host.
        host: Host,
        /// The address.
        address: IpAddr,
        /// The region.
        region: RegionName,
        /// The region's country.
        country: Country,
    },
    /// TLS is off, and an address is another machine's.
    #[error(
        "TLS is off for target `{target}`, and its host `{host}` resolves to {address}, which is \
         not this machine"
    )]
    Plaintext {
        /// The target.
        target: TargetName,
        /// Its host.
        host: Host,
        /// The address.
        address: IpAddr,
    },
}

impl PinError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoAddress { .. } => Fault::Gateway,
            Self::Unresolved { .. }
            | Self::TimedOut { .. }
            | Self::Count { .. }
            | Self::Outside { .. }
            | Self::Plaintext { .. } => Fault::Target,
        }
    }
}

impl IntoRefusal for PinError {
    /// Addresses and host names of the inside are for the log, not for clients.
    fn refusal(&self) -> Refusal {
        match self {
            Self::Outside { target, region, .. } => Refusal::new(
                RefusalCode::Residency,
                format!("an address of target `{target}` lies outside its region `{region}`"),
            ),
            Self::NoAddress { target }
            | Self::Unresolved { target, .. }
            | Self::TimedOut { target, .. }
            | Self::Count { target, .. }
            | Self::Plaintext { target, .. } => Refusal::new(
                RefusalCode::TargetFailed,
                format!("the address of target `{target}` cannot be determined"),
            ),
        }
    }
}

/// Resolves a target's host and checks every address.
pub async fn pin(target: &Target) -> Result<Pinned, PinError> {
    match target.reach().address() {
        Some(address) => pin_host(target, address).await,
        None => Err(PinError::NoAddress { target: target.name().clone() }),
    }
}

/// Resolves the host that a target's kubeconfig names, and checks every address against the
/// target's region.
pub async fn pin_host(target: &Target, address: &Address) -> Result<Pinned, PinError> {
    let within = Duration::from_millis(RESOLVE_MS_MAX);
    let (name, host) = (target.name().clone(), address.host.clone());
    let resolved = match &address.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, address.port)],
        Host::Name(dns) => {
            let lookup = tokio::net::lookup_host((dns.as_str(), address.port));
            match timeout(within, lookup).await {
                Ok(Ok(found)) => found.take(ADDRESSES_MAX + 1).collect(),
                Ok(Err(cause)) => {
                    return Err(PinError::Unresolved { target: name, host, cause });
                }
                Err(_) => return Err(PinError::TimedOut { target: name, host, within }),
            }
        }
    };
    checked(target, host, &resolved)
}

/// Checks every address. Whoever makes a [`Pinned`] comes through here.
fn checked(target: &Target, host: Host, resolved: &[SocketAddr]) -> Result<Pinned, PinError> {
    let (name, region) = (target.name().clone(), target.region());
    let count = resolved.len();
    if !(1..=ADDRESSES_MAX).contains(&count) {
        return Err(PinError::Count { target: name, host, count });
    }
    let mut addresses = Vec::with_capacity(count);
    for found in resolved {
        let address = found.ip().to_canonical();
        if !region.holds(address) {
            let (region, country) = (region.name.clone(), region.country.clone());
            return Err(PinError::Outside { target: name, host, address, region, country });
        }
        if target.reach().is_plaintext() && !address.is_loopback() {
            return Err(PinError::Plaintext { target: name, host, address });
        }
        addresses.push(SocketAddr::new(address, found.port()));
    }
    Ok(Pinned { target: name, region: region.name.clone(), host, addresses })
}

#[cfg(test)]
mod tests {
    use crate::target::Options;
    use crate::target::tests::catalogue;
    use crate::target::tests::http;

    use super::*;

    fn resolved(options: Options, networks: &[&str], to: &[&str]) -> Result<Pinned, PinError> {
        let catalogue = catalogue(networks, options);
        let target = catalogue.targets().next().unwrap();
        let to: Vec<SocketAddr> = to.iter().map(|address| address.parse().unwrap()).collect();
        checked(target, "db.internal".parse().unwrap(), &to)
    }

    const NETWORKS: &[&str] = &["10.1.0.0/16", "2001:db8::/32"];

    #[test]
    fn every_address_lies_in_the_region() {
        let pinned =
            resolved(http("db.internal:443"), NETWORKS, &["10.1.0.5:443", "[2001:db8::5]:443"])
                .unwrap();
        assert_eq!(pinned.addresses().len(), 2);

        for outside in ["10.2.0.5:443", "[2001:db9::5]:443", "127.0.0.1:443", "[::1]:443"] {
            for to in [[outside, "10.1.0.5:443"], ["10.1.0.5:443", outside]] {
                let error = resolved(http("db.internal:443"), NETWORKS, &to).unwrap_err();
                assert!(matches!(error, PinError::Outside { .. }), "{outside}");
                let text = error.to_string();
                let address = outside.parse::<SocketAddr>().unwrap().ip().to_string();
                assert!(text.contains(&address) && text.contains("`eu-central` (DE)"), "{text}");
                let told = error.refusal().reason;
                assert!(!told.contains(&address) && !told.contains("db.internal"), "{told}");
            }
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mapped = ["[::ffff:10.1.0.5]:443"];
        let pinned = resolved(http("db.internal:443"), NETWORKS, &mapped).unwrap();
        assert_eq!(pinned.addresses(), &["10.1.0.5:443".parse::<SocketAddr>().unwrap()]);
        let elsewhere = ["[::ffff:10.2.0.5]:443"];
        assert!(resolved(http("db.internal:443"), NETWORKS, &elsewhere).is_err());
        assert!(resolved(http("db.internal:443"), &["::/1"], &elsewhere).is_err());
    }

    #[test]
    fn an_address_of_no_single_machine_lies_nowhere() {
        let everything = ["0.0.0.0/0", "::/0"];
        for nowhere in ["0.0.0.0:443", "[::]:443", "224.0.0.1:443", "[ff02::1]:443"] {
            assert!(resolved(http("db.internal:443"), &everything, &[nowhere]).is_err());
        }
    }

    #[test]
    fn none_and_too_many_are_refused() {
        assert!(resolved(http("db.internal:443"), NETWORKS, &[]).is_err());
        let many = vec!["10.1.0.5:443"; ADDRESSES_MAX + 1];
        assert!(resolved(http("db.internal:443"), NETWORKS, &many).is_err());
        assert!(resolved(http("db.internal:443"), NETWORKS, &many[1..]).is_ok());
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_a_literal_address_is_not_trusted() {
        let loopback = ["127.0.0.0/8", "::1/128"];
        let refused: [(&str, &[&str]); 4] = [
            ("localhost:443", NETWORKS),
            ("10.2.0.5:443", NETWORKS),
            ("[2001:db9::5]:443", NETWORKS),
            ("127.0.0.1:443", NETWORKS),
        ];
        for (address, networks) in refused {
            let catalogue = catalogue(networks, http(address));
            let error = pin(catalogue.targets().next().unwrap()).await.unwrap_err();
            assert!(matches!(error, PinError::Outside { .. }), "{address}: {error}");
        }
        for address in ["localhost:443", "127.0.0.1:443"] {
            let catalogue = catalogue(&loopback, http(address));
            let pinned = pin(catalogue.targets().next().unwrap()).await.unwrap();
            assert!(pinned.addresses().iter().all(|a| a.ip().is_loopback() && a.port() == 443));
        }
    }

    #[tokio::test]
    async fn the_server_of_a_kubeconfig_is_pinned_like_any_other() {
        let catalogue = catalogue(NETWORKS, http("10.1.0.5:443"));
        let target = catalogue.targets().next().unwrap();
        assert!(pin_host(target, &"10.1.0.6:6443".parse().unwrap()).await.is_ok());
        assert!(pin_host(target, &"10.2.0.6:6443".parse().unwrap()).await.is_err());
    }

    #[test]
    fn without_tls_only_this_machine_is_reached() {
        use crate::target::Reach;
        use crate::target::tls::UpstreamTls;
        let mut options = http("localhost:80");
        if let Reach::Http(http) = &mut options.reach {
            http.tls = UpstreamTls::Off;
        }
        let networks = ["127.0.0.0/8", "10.1.0.0/16"];
        assert!(resolved(options.clone(), &networks, &["127.0.0.1:80"]).is_ok());
        let error = resolved(options, &networks, &["127.0.0.1:80", "10.1.0.5:80"]).unwrap_err();
        assert!(matches!(error, PinError::Plaintext { .. }), "{error}");
    }
}
