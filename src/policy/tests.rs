//! What policy promises, against the policies of `config/policies` and the law in the binary.
//!
//! Here: the people, targets and commands that the tests below are about.

mod admission;
mod agents;
mod base;
mod bases;
mod commands;
mod control;
mod matrix;
mod properties;
mod step_up;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::identity::Verified;
use crate::model::Command;
use crate::model::DataClass;
use crate::model::Effect;
use crate::model::Object;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::TargetFacts;
use crate::model::TargetName;
use crate::model::Verdict;
use crate::model::place::PlaceMethod;
use crate::model::principal::Counters;
use crate::model::principal::Entity;
use crate::model::principal::Kind;
use crate::model::principal::Role;
use crate::model::target::WithoutBasis;
use crate::policy::Asked;
use crate::policy::BadPolicy;
use crate::policy::GatewayFacts;
use crate::policy::Parts;
use crate::policy::Permit;
use crate::policy::Snapshot;
use crate::policy::Who;
use crate::policy::admit;
use crate::policy::decide;
use crate::policy::step_up::Proven;
use crate::policy::transfer::Pack;

const DEMO: [(&str, &str); 7] = [
    ("cluster.cedar", include_str!("../../config/policies/cluster.cedar")),
    ("control.cedar", include_str!("../../config/policies/control.cedar")),
    ("customers.cedar", include_str!("../../config/policies/customers.cedar")),
    ("step-up.cedar", include_str!("../../config/policies/step-up.cedar")),
    ("travel.cedar", include_str!("../../config/policies/travel.cedar")),
    ("web.cedar", include_str!("../../config/policies/web.cedar")),
    ("wiki.cedar", include_str!("../../config/policies/wiki.cedar")),
];

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    items.into_iter().collect()
}

fn classes(list: &[&str]) -> BTreeSet<DataClass> {
    list.iter().map(|class| class.parse().unwrap()).collect()
}

fn name(target: &str) -> TargetName {
    target.parse().unwrap()
}

fn entity(id: &str, country: &str, role: Role) -> Entity {
    Entity {
        id: id.parse().unwrap(),
        country: country.parse().unwrap(),
        role,
        attributes: BTreeMap::new(),
        counters: Counters::default(),
    }
}

fn target(target: &str, protocol: Protocol, holds: &[&str]) -> TargetFacts {
    TargetFacts {
        name: name(target),
        protocol,
        region: "eu-central".parse().unwrap(),
        country: "DE".parse().unwrap(),
        classes: classes(holds),
        owner: "acme-de".parse().unwrap(),
        laws: BTreeSet::new(),
        us_persons: None,
        labels: BTreeSet::new(),
        without_basis: WithoutBasis::Refuse,
        observe: false,
    }
}

/// The demo's catalogue, law and policies.
fn parts() -> Parts {
    Parts {
        policies: DEMO.map(|(file, text)| (file.to_owned(), text.to_owned())).to_vec(),
        targets: vec![
            target("customers", Protocol::Postgres, &["pii.name", "pii.email", "pii.national_id"]),
            target("web-1", Protocol::Ssh, &[]),
            target("wiki", Protocol::Http, &["pii.email", "pii.phone"]),
            target("prod-cluster", Protocol::Kubernetes, &["cred.secret"]),
        ],
        entities: vec![
            entity("acme-de", "DE", Role::Controller),
            entity("acme-sg", "SG", Role::Processor),
        ],
        bases: Vec::new(),
        pack: Pack::builtin().unwrap(),
        gateway: GatewayFacts {
            id: "weir-eu".to_owned(),
            region: "eu-central".parse().unwrap(),
            country: "DE".parse().unwrap(),
            entity: Some("acme-de".parse().unwrap()),
            recording_country: "DE".parse().unwrap(),
        },
    }
}

fn compile(parts: Parts) -> Arc<Snapshot> {
    Arc::new(Snapshot::compile(parts).unwrap())
}

fn demo() -> Arc<Snapshot> {
    compile(parts())
}

/// The demo with one more file of policies.
fn demo_and(policies: &str) -> Result<Arc<Snapshot>, BadPolicy> {
    let mut parts = parts();
    parts.policies.push(("more.cedar".to_owned(), policies.to_owned()));
    Snapshot::compile(parts).map(Arc::new)
}

/// The demo with one target changed.
fn demo_with(target: &str, change: impl Fn(&mut TargetFacts)) -> Arc<Snapshot> {
    let mut parts = parts();
    parts.targets.iter_mut().filter(|facts| facts.name == name(target)).for_each(change);
    compile(parts)
}

fn person(person: &str, roles: &[&str], works_for: Option<&str>) -> Principal {
    Principal {
        issuer: "https://login.example".to_owned(),
        subject: format!("sub-{person}"),
        name: person.to_owned(),
        kind: Kind::Person,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        entity: works_for.map(|entity| entity.parse().unwrap()),
        residence: None,
        person: format!("{person}@acme.example"),
        attributes: BTreeMap::new(),
        actors: Vec::new(),
    }
}

fn alice() -> Principal {
    person("alice", &["engineer"], Some("acme-de"))
}

fn dana() -> Principal {
    person("dana", &["engineer", "dba", "approver"], Some("acme-de"))
}

fn olaf() -> Principal {
    person("olaf", &["dpo"], Some("acme-de"))
}

fn mei() -> Principal {
    person("mei", &["engineer"], Some("acme-sg"))
}

fn from(country: &str) -> Origin {
    Origin {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        country: (!country.is_empty()).then(|| country.parse().unwrap()),
        method: PlaceMethod::Assumed,
    }
}

/// Somebody of whom it is not known when they signed in.
fn who<'a>(principal: &'a Principal, origin: &'a Origin) -> Who<'a> {
    Who { principal, origin, authentication: None }
}

fn unproven() -> Proven {
    Proven::at(Kind::Person, None, now())
}

fn ask(
    snapshot: &Arc<Snapshot>,
    principal: &Principal,
    origin: &Origin,
    target: &str,
    protocol: Protocol,
) -> Result<Permit, Refusal> {
    let verified = Verified::for_test(principal.clone(), Some(later()));
    let target = name(target);
    let asked = Asked { session: SessionId::fresh(), target: &target, protocol, origin };
    admit(&verified, asked, snapshot, now())
}

/// When everybody's token ends.
fn later() -> Timestamp {
    "2027-02-01T00:00:00Z".parse().unwrap()
}

/// Admitted in Germany, with the protocol that the target speaks.
fn session(snapshot: &Arc<Snapshot>, principal: &Principal, target: &str) -> Permit {
    let protocol = snapshot.target(&name(target)).unwrap().protocol;
    ask(snapshot, principal, &from("DE"), target, protocol).unwrap()
}

fn verdict(
    snapshot: &Arc<Snapshot>,
    principal: &Principal,
    target: &str,
    command: &Command,
) -> Verdict {
    decide(&session(snapshot, principal, target), snapshot, command, None, now())
}

fn denied(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Deny(refusal) => refusal,
        Verdict::Allow { .. } | Verdict::Hold { .. } => panic!("not denied: {verdict:?}"),
    }
}

fn ids(rules: &[crate::model::RuleId]) -> Vec<&str> {
    rules.iter().map(crate::model::RuleId::as_str).collect()
}

/// A command that touches one object with all its effects.
fn command(verb: &str, text: &str, effects: &[Effect], object: Option<(&str, &str)>) -> Command {
    let mut command = Command::new(verb, text);
    command.effects = set(effects.iter().copied());
    if let Some((kind, name)) = object {
        command.objects = effects.iter().map(|effect| Object::new(kind, name, *effect)).collect();
    }
    command
}

fn select() -> Command {
    let object = Some(("table", "public.customers"));
    let mut select = command("query", "SELECT * FROM customers", &[Effect::Read], object);
    select.reads = classes(&["pii.name", "pii.email", "pii.national_id"]);
    select
}

fn update() -> Command {
    let object = Some(("table", "public.customers"));
    let text = "UPDATE customers SET email = 'a@b.example' WHERE id = 1";
    let mut update = command("query", text, &[Effect::Write], object);
    update.writes = classes(&["pii.email"]);
    update
}

fn delete_all() -> Command {
    let object = Some(("table", "public.customers"));
    let effects = [Effect::Delete, Effect::Destroy];
    let mut delete = command("query", "DELETE FROM customers", &effects, object);
    delete.facts = vec![("where".to_owned(), "no".to_owned())];
    delete
}
