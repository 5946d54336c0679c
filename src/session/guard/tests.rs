//! Sessions whose data crosses a border: what their transfers rest on, and when that ends.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::*;
use crate::audit::recording::Stream;
use crate::identity::Verified;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::TargetFacts;
use crate::model::TargetName;
use crate::model::clock::Standing as StandingClock;
use crate::model::principal::Counters;
use crate::model::principal::Entity;
use crate::model::principal::Kind;
use crate::model::principal::Role;
use crate::model::refusal::RefusalCode;
use crate::model::target::WithoutBasis;
use crate::policy::transfer::Assessment;
use crate::policy::transfer::Basis;
use crate::policy::transfer::Pack;
use crate::session::hold::Limits;
use crate::session::registry::EndReason;
use crate::session::testing::World;
use crate::target::Catalogue;

const POLICIES: &str = r#"
    @id("connect") permit (principal, action == Weir::Action::"connect", resource);
    @id("work") permit (principal, action == Weir::Action::"execute", resource)
    when { ["read", "write"].containsAll(context.effects) };
    @id("ask") @reason("deleting needs an approval") @approvers("dba")
    permit (principal, action == Weir::Action::"execute", resource)
    when { ["delete"].containsAll(context.effects) && context.approved };
    @id("reveal") permit (principal, action == Weir::Action::"reveal", resource);
"#;

fn entity(id: &str, country: &str, role: Role) -> Entity {
    Entity {
        id: id.parse().unwrap(),
        country: country.parse().unwrap(),
        role,
        attributes: BTreeMap::new(),
        counters: Counters::default(),
    }
}

/// Clauses of a German company with a processor in India, to 30 November.
fn clauses(id: &str, mechanism: &str) -> Basis {
    let day = |text: &str| text.parse().unwrap();
    Basis {
        id: id.parse().unwrap(),
        mechanism: mechanism.parse().unwrap(),
        exporter: "acme-de".parse().unwrap(),
        importer: "acme-in".parse().unwrap(),
        importer_country: "IN".parse().unwrap(),
        classes: None,
        access_countries: Vec::new(),
        needs_mask: None,
        tia: Some(Assessment {
            reference: "tia-1".to_owned(),
            date: day("2026-01-01"),
            review_by: day("2027-01-01"),
        }),
        filing: None,
        reason: None,
        document: Digest::of(id.as_bytes()),
        valid_from: day("2026-01-01"),
        valid_to: day("2026-11-30"),
        max_uses: None,
        uses: None,
        owner: "legal".to_owned(),
        approved_by: "dpo".to_owned(),
    }
}

/// Two targets in Germany: `customers` is the German company's, `archive` its Indian processor's.
fn snapshot(bases: Vec<Basis>) -> Arc<Snapshot> {
    let target = |name: &str, country: &str, owner: &str| TargetFacts {
        name: name.parse().unwrap(),
        protocol: Protocol::Postgres,
        region: "here".parse().unwrap(),
        country: country.parse().unwrap(),
        classes: ["pii.email".parse().unwrap(), "phi".parse().unwrap()].into(),
        owner: owner.parse().unwrap(),
        laws: BTreeSet::new(),
        us_persons: None,
        labels: BTreeSet::new(),
        without_basis: WithoutBasis::Refuse,
        observe: false,
    };
    let country = || "DE".parse().unwrap();
    let parts = policy::Parts {
        policies: vec![("test.cedar".to_owned(), POLICIES.to_owned())],
        targets: vec![target("customers", "DE", "acme-de"), target("archive", "DE", "acme-in")],
        entities: vec![
            entity("acme-de", "DE", Role::Controller),
            entity("acme-in", "IN", Role::Processor),
        ],
        bases,
        pack: Pack::builtin().unwrap(),
        gateway: policy::GatewayFacts {
            id: "weir-test".to_owned(),
            region: "here".parse().unwrap(),
            country: country(),
            entity: Some("acme-de".parse().unwrap()),
            recording_country: country(),
        },
    };
    Arc::new(Snapshot::compile(parts).unwrap())
}

fn command(text: &str, effect: Effect) -> Command {
    let mut command = Command::new("query", text);
    command.effects = [effect].into();
    command
}

fn read() -> Command {
    let mut command = command("SELECT email FROM customers", Effect::Read);
    command.reads = ["pii.email".parse().unwrap()].into();
    command
}

fn write(classes: &[&str]) -> Command {
    let mut command = command("INSERT INTO t VALUES ('x')", Effect::Write);
    command.writes = classes.iter().map(|class| class.parse().unwrap()).collect();
    command
}

/// Rows of an answer.
struct Rows(u64);

impl Answer for Rows {
    type Out = ();

    fn masked(self, _: &Masks, _: usize) -> Result<Masked<()>, Withheld> {
        let volume = Volume { rows: self.0, bytes: self.0 * 10, masked: 0 };
        Ok(Masked { out: (), volume, shown: Bytes::new(), stream: Stream::Output })
    }
}

/// A session of somebody, in a gateway whose law can be changed.
struct Scene {
    world: World,
    clock: Arc<StandingClock>,
    reload: watch::Sender<Arc<Version>>,
    guard: Arc<Guard>,
}

impl Scene {
    /// Ravi, who works for `entity` and sits in `country`, at `target`.
    async fn new(target: &str, (entity, country): (&str, &str), bases: Vec<Basis>) -> Self {
        let world = World::new(POLICIES, Vec::new()).await;
        let snapshot = snapshot(bases);
        let clock = Arc::new(StandingClock::at("2026-11-30T23:59:59Z".parse().unwrap()));
        let catalogue = Arc::new(Catalogue::default());
        let in_force = Arc::new(Version { snapshot: Arc::clone(&snapshot), catalogue });
        let (reload, version) = watch::channel(in_force);
        let parts = Parts {
            version,
            clock: Arc::<StandingClock>::clone(&clock),
            ..world.gateway().parts.clone()
        };
        let principal = Principal {
            issuer: "https://id.example/realm".to_owned(),
            subject: "u-ravi".to_owned(),
            name: "ravi".to_owned(),
            kind: Kind::Person,
            roles: BTreeSet::new(),
            entity: Some(entity.parse().unwrap()),
            residence: None,
            person: "ravi".to_owned(),
            attributes: BTreeMap::new(),
            actors: Vec::new(),
        };
        let tomorrow = "2026-12-02T00:00:00Z".parse().unwrap();
        let verified = Verified::for_test(principal, Some(tomorrow));
        let (target, mut origin) = (target.parse::<TargetName>().unwrap(), World::origin());
        origin.country = Some(country.parse().unwrap());
        let asked = policy::Asked {
            session: SessionId::fresh(),
            target: &target,
            protocol: Protocol::Postgres,
            origin: &origin,
        };
        let permit = policy::admit(&verified, asked, &snapshot, clock.now()).unwrap();
        let guard = Guard::open(permit, parts).unwrap();
        Self { world, clock, reload, guard }
    }

    fn reload(&self, bases: Vec<Basis>) {
        let catalogue = Arc::new(Catalogue::default());
        self.reload.send_replace(Arc::new(Version { snapshot: snapshot(bases), catalogue }));
    }

    fn go(&self, command: Command) -> Arc<Running> {
        match self.guard.ask(command, ()) {
            Asked::Settled(Settled::Go(running, _)) => running,
            Asked::Settled(Settled::No(refusal)) => panic!("{refusal}"),
            Asked::Held(_) => panic!("held"),
        }
    }

    fn release(&self, running: &Running, rows: u64) {
        let masks = self.guard.masks().unwrap();
        drop(running.release(&masks, Rows(rows)).unwrap());
    }

    /// The ledger's entries of a kind.
    fn ledger(&self, kind: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.world.dir().join("state/ledger.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|mut line| line["event"].take()).filter(|event| event["is"] == kind).collect()
    }

    /// Of each transfer that was opened: its classes, and the registered bases.
    fn opened(&self) -> Vec<(Vec<String>, Vec<String>)> {
        let texts = |values: &Value, of: fn(&Value) -> &Value| {
            let values = values.as_array().unwrap().iter();
            values.map(|value| of(value).as_str().unwrap().to_owned()).collect()
        };
        let opened = self.ledger("transfer-opened");
        let each = opened.iter().map(|event| {
            let bases = texts(&event["facts"]["bases"], |basis| &basis["id"]);
            (texts(&event["classes"], |class| class), bases)
        });
        each.collect()
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn a_basis_that_ends_refuses_the_next_command_and_ends_the_session() {
    let scc = clauses("scc-acme-in", "EUM-SCC2");
    let scene = Scene::new("customers", ("acme-in", "IN"), vec![scc]).await;
    let guard = &scene.guard;
    assert!(matches!(guard.ask(read(), ()), Asked::Settled(Settled::Go(..))));
    assert!(guard.over().is_none());
    // Nothing is reloaded, nobody connects anew: only the day is over.
    scene.clock.set("2026-12-01T00:00:00Z".parse().unwrap());
    match guard.ask(read(), ()) {
        Asked::Settled(Settled::No(refusal)) => {
            assert_eq!(refusal.code, RefusalCode::SessionEnded);
            assert!(refusal.rules.iter().any(|rule| rule.as_str() == "EUM-SCC2"));
            assert!(refusal.reason.contains("not in force on this day"), "{refusal}");
        }
        Asked::Settled(Settled::Go(..)) | Asked::Held(_) => panic!("not refused"),
    }
    let EndReason::PolicyChanged(refusal) = guard.ended().await else { panic!("not ended") };
    assert_eq!(refusal.code, RefusalCode::Residency);
}

#[tokio::test]
async fn every_class_that_is_written_is_opened_once_and_literals_of_a_prepared_text_too() {
    let scc = clauses("scc-acme-in", "EUM-SCC2");
    let scene = Scene::new("archive", ("acme-de", "DE"), vec![scc]).await;
    drop(scene.go(write(&["pii.email"])));
    drop(scene.go(write(&["pii.email"])));
    let scc = || strings(&["scc-acme-in"]);
    assert_eq!(scene.opened(), [(strings(&["pii.email"]), scc())]);
    // A Parse: its literals reach the target with it.
    assert!(matches!(scene.guard.prepare(write(&["phi", "pii.email"]), ()), Settled::Go(..)));
    assert_eq!(scene.opened(), [(strings(&["pii.email"]), scc()), (strings(&["phi"]), scc())]);
    drop(scene.go(write(&["phi"])));
    assert_eq!(scene.opened().len(), 2);
}

#[tokio::test]
async fn what_goes_on_on_another_basis_is_another_transfer() {
    let old = clauses("scc-old", "EUM-SCC2");
    let scene = Scene::new("customers", ("acme-in", "IN"), vec![old]).await;
    let running = scene.go(read());
    scene.release(&running, 3);
    let both = || strings(&["phi", "pii.email"]);
    assert_eq!(scene.opened(), [(both(), strings(&["scc-old"]))]);
    // The register has a new version of the clauses; the session is readmitted by them.
    scene.reload(vec![clauses("scc-new", "EUM-SCC2")]);
    scene.release(&running, 4);
    scene.release(&running, 5);
    let (old, new) = ((both(), strings(&["scc-old"])), (both(), strings(&["scc-new"])));
    assert_eq!(scene.opened(), [old, new]);
    let told = scene.ledger("transfer-volume");
    assert_eq!((told.len(), told[0]["volume"]["rows"].as_u64()), (1, Some(3)));
    // Nothing of the register covers it any more: not a byte goes on, and the session ends.
    scene.reload(Vec::new());
    let masks = Masks::none_asked();
    let withheld = running.release(&masks, Rows(1)).unwrap_err();
    assert_eq!(withheld.0.code, RefusalCode::SessionEnded);
}

#[tokio::test]
async fn a_command_that_is_too_long_for_an_entry_is_refused_alone() {
    let scene = Scene::new("customers", ("acme-de", "DE"), Vec::new()).await;
    let mut long = read();
    long.details.push(("$1".to_owned(), "x".repeat(9 * 1024 * 1024)));
    let Asked::Settled(Settled::No(refusal)) = scene.guard.ask(long, ()) else {
        panic!("not refused")
    };
    assert_eq!(refusal.code, RefusalCode::TooLarge);
    assert!(scene.guard.over().is_none(), "the session goes on");
    drop(scene.go(read()));
    let record = scene.world.record();
    assert!(record.contains("longer than one entry of the record may be"), "{record}");
    let numbers = ["\"number\":1", "\"number\":2"].map(|number| record.contains(number));
    assert_eq!(numbers, [true, true], "{record}");
}

#[tokio::test]
async fn a_hold_that_the_desk_has_no_place_for_is_recorded_as_over() {
    let scene = Scene::new("customers", ("acme-de", "DE"), Vec::new()).await;
    let delete = || command("DELETE FROM customers WHERE id = 7", Effect::Delete);
    let places = Limits::default().pending_per_session_max;
    let waiting = (0..places).map(|_| scene.guard.ask(delete(), ())).collect::<Vec<_>>();
    assert!(waiting.iter().all(|asked| matches!(asked, Asked::Held(_))));
    let Asked::Settled(Settled::No(refusal)) = scene.guard.ask(delete(), ()) else {
        panic!("not refused")
    };
    let (held, ended) = (scene.ledger("held"), scene.ledger("hold-ended"));
    assert_eq!((held.len(), ended.len()), (places + 1, 1));
    assert_eq!(held[places]["hold"], ended[0]["hold"]);
    assert_eq!(ended[0]["ending"]["reason"], refusal.reason.as_str());
    assert!(scene.world.record().contains("\"hold-ended\""));
}
