//! Whether what was written fits together, as far as the file alone can tell: every reference
//! leads somewhere, nothing stands twice, nothing contradicts itself. Opens no file.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use toml::Spanned;

use crate::config::events;
use crate::config::file::Basis;
use crate::config::file::DATABASES_MAX;
use crate::config::file::File;
use crate::config::file::Proxy;
use crate::config::file::Region;
use crate::config::problem::Problem;
use crate::config::problem::Source;
use crate::config::store_check;
use crate::config::target::Target;
use crate::config::target::Tls;
use crate::config::target::TlsMode;
use crate::config::value::Network;
use crate::model::Address;
use crate::model::Host;
use crate::model::RegionName;
use crate::model::TargetName;

/// Everything that does not fit, in the order of the file.
pub(super) fn problems(file: &File, source: &Source) -> Vec<Problem> {
    let mut check = Check { file, source, problems: Vec::new() };
    check.gateway();
    check.listeners();
    check.regions();
    check.places();
    check.providers();
    check.bases();
    check.events();
    check.store();
    check.kms();
    for (name, target) in &file.targets {
        check.target(name, target);
    }
    check.problems.sort_by_key(Problem::position);
    check.problems
}

struct Check<'a> {
    file: &'a File,
    source: &'a Source,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn problem<T>(&mut self, at: &Spanned<T>, what: impl Into<String>) {
        self.problems.push(self.source.problem(at, what));
    }

    fn problem_of_file(&mut self, what: &str) {
        self.problems.push(Problem::of_file(self.source.path(), what));
    }

    /// A reference must lead to something that is declared.
    fn declared<K: Ord + Display, V>(
        &mut self,
        kind: &str,
        reference: &Spanned<K>,
        declared: &BTreeMap<Spanned<K>, V>,
    ) {
        if declared.contains_key(reference) {
            return;
        }
        let expected = match declared.len() {
            0 => format!("expected one to be declared in this file; there is no {kind}"),
            _ => format!("expected one of: {}", join(declared.keys())),
        };
        self.problem(reference, format!("{kind} `{reference}` is not declared; {expected}"));
    }

    /// A list must have at least one member.
    fn filled<T>(&mut self, list: &Spanned<Vec<T>>, expected: &str) {
        if list.get_ref().is_empty() {
            self.problem(list, format!("the list is empty; expected {expected}"));
        }
    }

    /// Nothing may stand twice.
    fn once<'k, K: Ord + Display + 'k>(
        &mut self,
        kind: &str,
        all: impl Iterator<Item = &'k Spanned<K>>,
    ) {
        let mut seen = BTreeSet::new();
        for one in all {
            if !seen.insert(one.get_ref()) {
                self.problem(one, format!("{kind} `{one}` stands twice; expected each once"));
            }
        }
    }

    fn gateway(&mut self) {
        let file = self.file;
        self.declared("region", &file.gateway.region, &file.regions);
        self.declared("entity", &file.gateway.entity, &file.entities);
    }

    fn listeners(&mut self) {
        let file = self.file;
        if file.listeners.is_empty() {
            self.problem_of_file("there is no listener; expected at least one [[listeners]]");
        }
        self.once("listener", file.listeners.iter().map(|listener| &listener.address));
        for listener in &file.listeners {
            match (listener.proxy, listener.proxy_from.first()) {
                (Proxy::Required, None) => self.problem(
                    &listener.address,
                    "this listener requires a PROXY header and takes it from nowhere; expected \
                     `proxy_from` to list the relays' networks: whoever may send the header \
                     chooses a country",
                ),
                (Proxy::Forbidden, Some(network)) => self.problem(
                    network,
                    "`proxy_from` without a PROXY header; expected `proxy = \"required\"`, or no \
                     `proxy_from`",
                ),
                (Proxy::Required, Some(_)) | (Proxy::Forbidden, None) => {}
            }
        }
    }

    fn regions(&mut self) {
        let file = self.file;
        for (name, region) in &file.regions {
            if region.networks.is_empty() {
                let what = format!("region `{name}` has no network; expected those of its targets");
                self.problem(name, what);
            }
            for network in &region.networks {
                if network.get_ref().net().prefix_len() == 0 {
                    let what = format!(
                        "`{network}` is every address there is, which pins nothing; expected the \
                         networks of region `{name}`"
                    );
                    self.problem(network, what);
                }
                self.one_country(name.get_ref(), region, network);
            }
        }
    }

    /// Records call a database by the name of its file, and one that is asked twice would agree with
    /// itself.
    fn places(&mut self) {
        let databases = &self.file.places.databases;
        if let Some(one_more) = databases.get(DATABASES_MAX) {
            let what = format!("there are more than {DATABASES_MAX} country databases");
            self.problem(one_more, what);
        }
        let mut seen = BTreeSet::new();
        for path in databases {
            let Some(name) = path.get_ref().file_name() else {
                self.problem(path, "it names no file; expected a country database (.mmdb)");
                continue;
            };
            if !seen.insert(name) {
                let name = name.display();
                let what = format!(
                    "two country databases are called `{name}`; expected each once, under a name of its own"
                );
                self.problem(path, what);
            }
        }
    }

    /// An address that lay in regions of two countries would be in both: refused.
    fn one_country(&mut self, name: &RegionName, region: &Region, network: &Spanned<Network>) {
        let net = network.get_ref().net();
        let others = self.file.regions.iter().filter(|(_, other)| other.country != region.country);
        let clash = others
            .flat_map(|(name, other)| other.networks.iter().map(move |theirs| (name, theirs)))
            .find(|(_, theirs)| theirs.get_ref().net().contains(&net));
        if let Some((other, theirs)) = clash {
            let what = format!(
                "`{network}` of region `{name}` lies in `{theirs}` of region `{other}`, which is \
                 another country; expected networks that do not overlap"
            );
            self.problem(network, what);
        }
    }

    fn providers(&mut self) {
        let file = self.file;
        if file.providers.is_empty() {
            self.problem_of_file("there is no provider; expected at least one [[providers]]");
        }
        let mut issuers = BTreeSet::new();
        for provider in &file.providers {
            if !issuers.insert(provider.issuer.get_ref().as_str()) {
                self.problem(&provider.issuer, "the issuer stands twice; expected each once");
            }
            self.filled(&provider.audience, "the gateway's own name at the provider");
            self.filled(&provider.algorithms, "at least one signature algorithm");
            for entity in provider.entities.values() {
                self.declared("entity", entity, &file.entities);
            }
        }
    }

    fn bases(&mut self) {
        let file = self.file;
        self.once("basis", file.bases.iter().map(|basis| &basis.id));
        for basis in &file.bases {
            self.basis(basis);
        }
    }

    fn events(&mut self) {
        let audit = &self.file.audit;
        let region = self.file.regions.get(&self.file.gateway.region);
        self.problems.extend(events::problems(&audit.events, region, self.source));
    }

    fn kms(&mut self) {
        if let Some(kms) = &self.file.audit.kms {
            let wrapping = self.file.audit.keys.wrapping.as_ref();
            self.problems.extend(kms.problems(wrapping, self.source));
        }
    }

    fn store(&mut self) {
        let region = self.file.regions.get(&self.file.gateway.region);
        let country = region.map(|region| &region.country);
        self.problems.extend(store_check::problems(&self.file.audit.store, country, self.source));
    }

    fn basis(&mut self, basis: &Basis) {
        let file = self.file;
        self.declared("entity", &basis.exporter, &file.entities);
        self.declared("entity", &basis.importer, &file.entities);
        if let Some(importer) = file.entities.get(&basis.importer)
            && importer.country != *basis.importer_country.get_ref()
        {
            let what = format!(
                "the importer `{}` is established in {}; expected that country, or another \
                 importer",
                basis.importer, importer.country
            );
            self.problem(&basis.importer_country, what);
        }
        if *basis.valid_to.get_ref() < basis.valid_from {
            let what = format!(
                "the basis ends before it begins; expected {} or a later day",
                basis.valid_from
            );
            self.problem(&basis.valid_to, what);
        }
        if let Some(tia) = &basis.tia
            && let Some(review_by) = &tia.review_by
            && *review_by.get_ref() < tia.date
        {
            let what = format!(
                "the review is due before the assessment was made; expected a day after {}",
                tia.date
            );
            self.problem(review_by, what);
        }
    }

    fn target(&mut self, name: &Spanned<TargetName>, target: &Target) {
        let file = self.file;
        self.declared("region", &target.region, &file.regions);
        self.declared("entity", &target.owner, &file.entities);
        let protocols = [
            target.postgres.is_some(),
            target.ssh.is_some(),
            target.http.is_some(),
            target.kubernetes.is_some(),
        ];
        let count = protocols.into_iter().filter(|is| *is).count();
        if count != 1 {
            let what = format!(
                "target `{name}` speaks {count} protocols; expected exactly one table of \
                 [targets.{name}.postgres], .ssh, .http and .kubernetes"
            );
            self.problem(name, what);
        }
        if let Some(postgres) = &target.postgres {
            self.address(target, &postgres.address);
            self.tls(&postgres.address, &postgres.tls);
            self.filled(&postgres.databases, "the databases that are offered");
            for (table, declared) in &postgres.tables {
                if declared.columns.is_empty() {
                    let what = format!("`{table}` has no column; expected every column of it");
                    self.problem(table, what);
                }
            }
        }
        if let Some(ssh) = &target.ssh {
            self.address(target, &ssh.address);
            self.filled(&ssh.logins, "the logins that may be asked for");
            self.filled(&ssh.host_keys, "the target's host keys: `ssh-keyscan` prints them");
        }
        if let Some(http) = &target.http {
            self.address(target, &http.address);
            self.tls(&http.address, &http.tls);
            self.once("route", http.routes.iter().map(|route| &route.path));
        }
        if let Some(kubernetes) = &target.kubernetes {
            for (kind, declared) in &kubernetes.kinds {
                if declared.fields.is_empty() {
                    let what = format!("`{kind}` has no field; expected what its members hold");
                    self.problem(kind, what);
                }
            }
        }
    }

    /// An address that needs no resolver is known to lie in its region, or not, now.
    fn address(&mut self, target: &Target, address: &Spanned<Address>) {
        let Some(region) = self.file.regions.get(&target.region) else { return };
        let holds = |ip: IpAddr| region.networks.iter().any(|net| net.get_ref().holds(ip));
        let outside = match &address.get_ref().host {
            Host::Ip(ip) => !holds(*ip),
            host @ Host::Name(_) if host.is_loopback() => {
                !holds(Ipv4Addr::LOCALHOST.into()) && !holds(Ipv6Addr::LOCALHOST.into())
            }
            Host::Name(_) => false,
        };
        if outside {
            let networks = join(region.networks.iter());
            let what = format!(
                "`{address}` lies outside region `{}`; expected an address in: {networks}",
                target.region
            );
            self.problem(address, what);
        }
    }

    fn tls(&mut self, address: &Spanned<Address>, tls: &Tls) {
        let Some(mode) = tls.mode.as_ref().filter(|mode| *mode.get_ref() == TlsMode::Off) else {
            return;
        };
        if !address.get_ref().host.is_loopback() {
            let what = format!(
                "TLS is off and `{address}` is another machine; expected `mode = \
                 \"verify-full\"`: without TLS a target must be on this machine (localhost, \
                 127.0.0.1)"
            );
            self.problem(mode, what);
        }
        if let Some(ca_file) = &tls.ca_file {
            self.problem(ca_file, "TLS is off; expected no `ca_file`, or `mode = \"verify-full\"`");
        }
    }
}

fn join<T: Display>(all: impl Iterator<Item = T>) -> String {
    all.map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}
