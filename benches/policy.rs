//! How long decisions take: `cargo bench --bench policy`. Measures, asserts nothing.
//!
//! In a session a command costs one question to the engine; what a session's seat costs is paid
//! once, at connect. `explain` pays for both, for every class, on every call.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::error::Error;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use weir::identity::Verified;
use weir::model::Command;
use weir::model::DataClass;
use weir::model::Effect;
use weir::model::Object;
use weir::model::Origin;
use weir::model::Principal;
use weir::model::Protocol;
use weir::model::SessionId;
use weir::model::TargetFacts;
use weir::model::TargetName;
use weir::model::place::PlaceMethod;
use weir::model::principal::Counters;
use weir::model::principal::Entity;
use weir::model::principal::Kind;
use weir::model::principal::Role;
use weir::model::target::WithoutBasis;
use weir::policy;
use weir::policy::GatewayFacts;
use weir::policy::Parts;
use weir::policy::Snapshot;
use weir::policy::transfer::Pack;

type Wrong = Box<dyn Error>;

/// How often each is done.
const ROUNDS: u32 = 2_000;
/// Policies of other teams, about another target.
const OTHERS: usize = 85;

fn main() -> Result<(), Wrong> {
    let snapshot = Arc::new(Snapshot::compile(parts()?)?);
    let now = "2026-11-21T12:00:00Z".parse::<Timestamp>()?;
    let (target, origin) = ("customers".parse::<TargetName>()?, germany()?);
    let asked = policy::Asked {
        session: SessionId::fresh(),
        target: &target,
        protocol: Protocol::Postgres,
        origin: &origin,
    };
    let verified = Verified::gateway(Some("acme-de".parse()?));
    let permit = policy::admit(&verified, asked, &snapshot, now).map_err(|no| no.reason)?;
    let (select, update, delete) = commands()?;

    let one = measure("admit", None, || drop(policy::admit(&verified, asked, &snapshot, now)));
    for (what, command) in [("decide, allowed", &select), ("decide, denied", &update)] {
        measure(what, Some(one), || {
            drop(policy::decide(&permit, &snapshot, command, None, now));
        });
    }
    let classes = &permit.target().classes;
    measure("reveal, 3 classes", Some(one), || {
        drop(policy::reveal(&permit, &snapshot, classes, now));
    });

    let alice = alice()?;
    let who = policy::Who { principal: &alice, origin: &origin, authentication: None };
    let judge = |command| drop(policy::judge(&snapshot, who, &target, command, now));
    let one = measure("explain, connect", None, || judge(None));
    for (what, command) in [("allowed", &select), ("held", &update), ("denied", &delete)] {
        measure(&format!("explain, {what}"), Some(one), || judge(Some(command)));
    }
    Ok(())
}

/// Prints how long one takes, and how that compares.
fn measure(what: &str, beside: Option<Duration>, run: impl Fn()) -> Duration {
    (0..ROUNDS / 10).for_each(|_| run());
    let begin = Instant::now();
    (0..ROUNDS).for_each(|_| run());
    let took = begin.elapsed();
    let each = took.checked_div(ROUNDS).unwrap_or_default();
    let ratio = beside.filter(|beside| !beside.is_zero());
    let ratio = ratio.map(|beside| format!("{:6.2}", each.as_secs_f64() / beside.as_secs_f64()));
    let micros = each.as_secs_f64() * 1e6;
    println!("{what:20} {micros:9.1} µs {}", ratio.unwrap_or_default());
    each
}

fn parts() -> Result<Parts, Wrong> {
    let others = (0..OTHERS).map(|number| {
        format!(
            "@id(\"other-{number}\") permit (principal in Weir::Role::\"team-{number}\", \
             action == Weir::Action::\"execute\", resource == Weir::Target::\"wiki\")\n\
             when {{ [\"read\"].containsAll(context.effects) }};\n"
        )
    });
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let country = "DE".parse()?;
    let entity = Entity {
        id: "acme-de".parse()?,
        country: "DE".parse()?,
        role: Role::Controller,
        attributes: BTreeMap::new(),
        counters: Counters::default(),
    };
    Ok(Parts {
        policies: vec![
            file("control.cedar", include_str!("../config/policies/control.cedar")),
            file("customers.cedar", include_str!("../config/policies/customers.cedar")),
            file("step-up.cedar", include_str!("../config/policies/step-up.cedar")),
            file("others.cedar", &others.collect::<String>()),
        ],
        targets: vec![TargetFacts {
            name: "customers".parse()?,
            protocol: Protocol::Postgres,
            region: "eu-central".parse()?,
            country: "DE".parse()?,
            classes: classes()?,
            owner: entity.id.clone(),
            laws: BTreeSet::new(),
            labels: BTreeSet::from(["prod".to_owned()]),
            without_basis: WithoutBasis::Refuse,
            observe: false,
            us_persons: None,
        }],
        gateway: GatewayFacts {
            id: "weir-eu".to_owned(),
            region: "eu-central".parse()?,
            country,
            entity: Some(entity.id.clone()),
            recording_country: "DE".parse()?,
        },
        entities: vec![entity],
        bases: Vec::new(),
        pack: Pack::builtin().map_err(|bad| bad.to_string())?,
    })
}

fn classes() -> Result<BTreeSet<DataClass>, Wrong> {
    Ok(BTreeSet::from(["pii.name".parse()?, "pii.email".parse()?, "pii.national_id".parse()?]))
}

fn germany() -> Result<Origin, Wrong> {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Ok(Origin { address, country: Some("DE".parse()?), method: PlaceMethod::Assumed })
}

fn alice() -> Result<Principal, Wrong> {
    Ok(serde_json::from_value(serde_json::json!({
        "issuer": "https://login.example",
        "subject": "sub-alice",
        "name": "alice",
        "kind": Kind::Person,
        "roles": ["engineer"],
        "entity": "acme-de",
        "residence": null,
        "person": "alice@acme.example",
        "attributes": {},
    }))?)
}

/// One that is allowed, one that an engineer may do with an approval, one that nobody may.
fn commands() -> Result<(Command, Command, Command), Wrong> {
    let command = |text: &str, effects: &[Effect]| {
        let mut command = Command::new("query", text);
        command.effects = effects.iter().copied().collect();
        let object = |effect: &Effect| Object::new("table", "public.customers", *effect);
        command.objects = effects.iter().map(object).collect();
        command
    };
    let mut select = command("SELECT * FROM customers", &[Effect::Read]);
    select.reads = classes()?;
    let mut update = command("UPDATE customers SET email = 'a@b.example'", &[Effect::Write]);
    update.writes = BTreeSet::from(["pii.email".parse()?]);
    let delete = command("DELETE FROM customers", &[Effect::Delete, Effect::Destroy]);
    Ok((select, update, delete))
}
