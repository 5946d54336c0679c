//! The catalogue as a whole, and what the tests of its parts share.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use secrecy::SecretString;

use crate::model::Declared;
use crate::target::http::Route;
use crate::target::http::Undeclared;
use crate::target::postgres::PostgresAuth;
use crate::target::postgres::PostgresTarget;

use super::*;

/// A catalogue of one target in the region `eu-central`, DE.
pub(super) fn catalogue(networks: &[&str], options: Options) -> Catalogue {
    Catalogue::new([region(networks)], [options]).unwrap()
}

/// An HTTP target whose people have an e-mail address.
pub(super) fn http(address: &str) -> Options {
    let address: Address = address.parse().unwrap();
    let route = Route {
        path: "/api/people".parse().unwrap(),
        fields: vec![
            ("$.people[*].email".parse().unwrap(), class("pii.email")),
            ("$.people[*].id".parse().unwrap(), Declared::Clear),
        ],
        undeclared: Undeclared::Refuse,
    };
    let tls = UpstreamTls::Verified { ca_pem: None, server_name: address.host.clone() };
    options(Reach::Http(HttpTarget {
        address,
        tls,
        credential: None,
        unlisted: Undeclared::Refuse,
        encoded_slash: false,
        double_slash: false,
        routes: vec![route],
    }))
}

fn options(reach: Reach) -> Options {
    Options {
        name: "wiki".parse().unwrap(),
        region: "eu-central".parse().unwrap(),
        owner: "acme-de".parse().unwrap(),
        laws: BTreeSet::new(),
        us_persons: None,
        labels: BTreeSet::new(),
        classes: BTreeSet::new(),
        without_basis: WithoutBasis::Refuse,
        observe: false,
        provider_tokens: true,
        reach,
    }
}

fn region(networks: &[&str]) -> Region {
    Region {
        name: "eu-central".parse().unwrap(),
        country: "DE".parse().unwrap(),
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
    }
}

fn class(class: &str) -> Declared {
    Declared::Class(class.parse().unwrap())
}

fn postgres() -> Options {
    let columns = [("id", Declared::Clear), ("email", class("pii.email")), ("pan", class("pci"))];
    let columns: BTreeMap<_, _> =
        columns.into_iter().map(|(name, declared)| (name.parse().unwrap(), declared)).collect();
    options(Reach::Postgres(PostgresTarget {
        address: "db.internal:5432".parse().unwrap(),
        databases: vec!["customers".parse().unwrap()],
        login: "weir".parse().unwrap(),
        credential: Credential::new("the file /run/password", || {
            Ok::<_, std::io::Error>(SecretString::from("planted-secret"))
        }),
        auth: PostgresAuth::Password,
        tls: UpstreamTls::Off,
        tables: BTreeMap::from([("public.customers".parse().unwrap(), columns)]),
    }))
}

#[test]
fn the_facts_have_every_class_that_was_declared_and_the_regions_country() {
    let mut options = postgres();
    options.classes.insert("hr".parse().unwrap());
    let catalogue = catalogue(&["10.1.0.0/16"], options);
    let target = catalogue.target(&"wiki".parse().unwrap()).unwrap();
    let classes: Vec<_> = target.facts().classes.iter().map(DataClass::as_str).collect();
    assert_eq!(classes, ["hr", "pci", "pii.email"]);
    assert_eq!(target.facts().country.as_str(), "DE");
    assert_eq!(target.facts().protocol, Protocol::Postgres);
    let http = http("wiki.internal:443");
    assert_eq!(http.reach.classes().len(), 1);
}

#[test]
fn a_catalogue_that_contradicts_itself_is_none() {
    let twice = Catalogue::new([region(&[])], [postgres(), postgres()]).unwrap_err();
    assert_eq!(twice.to_string(), "target `wiki` stands twice");
    let nowhere = Catalogue::new([], [postgres()]).unwrap_err();
    assert!(nowhere.to_string().contains("region `eu-central`, which is not declared"));
}

#[test]
fn a_credential_is_read_late_and_never_shown() {
    let catalogue = catalogue(&["10.1.0.0/16"], postgres());
    assert!(!format!("{catalogue:?}").contains("planted"));
    let target = catalogue.targets().next().unwrap();
    let secret = target.reach().credential().unwrap().read().unwrap();
    assert_eq!(secret.expose_secret(), "planted-secret");
    assert!(!format!("{secret:?}").contains("planted"));
}
