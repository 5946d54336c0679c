//! When a session ends although neither side ended it: killed, policy or law changed, login ended,
//! trail lost, idle, gateway stopping.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::identity::Standing;
use crate::policy;
use crate::session::guard::Guard;
use crate::session::registry::EndReason;

impl Guard {
    /// Waits until the session has to end although neither side ended it: killed, policy changed,
    /// credential expired, trail lost, gateway draining. Cancel-safe.
    pub async fn ended(&self) -> EndReason {
        let mut version = self.parts.version.clone();
        let mut ending = self.live.ending();
        let mut standing = self.permit.identity().standing();
        let mut losing = self.trail.losing();
        loop {
            // Marked as seen before looking, so that no change falls between the two.
            version.mark_unchanged();
            ending.mark_unchanged();
            losing.mark_unchanged();
            standing.iter_mut().for_each(watch::Receiver::mark_unchanged);
            if let Some(reason) = self.over() {
                return reason;
            }
            let now = self.now();
            let left = self
                .asked_again_at()
                .map_or(jiff::SignedDuration::MAX, |at| at.duration_since(now));
            let left = Duration::try_from(left).unwrap_or_default();
            let Some(quiet) = self.pulse.left(self.parts.idle_max) else { return EndReason::Idle };
            // Woken at least once a minute: the clock may be set, and dates end.
            let nap = left.min(quiet).clamp(Duration::from_millis(10), Duration::from_mins(1));
            tokio::select! {
                changed = version.changed() => if changed.is_err() { return EndReason::Draining },
                changed = ending.changed() => if changed.is_err() { return EndReason::Draining },
                () = changed(&mut standing) => {}
                _ = losing.changed() => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
    }

    /// Whether the session has to end, and why.
    pub(super) fn over(&self) -> Option<EndReason> {
        if let Some(reason) = self.live.ending().borrow().clone() {
            return Some(reason);
        }
        if self.trail.lost() {
            return Some(EndReason::Unrecorded);
        }
        if let Some(why) = self.permit.identity().ended() {
            return Some(EndReason::LoginEnded(why));
        }
        let now = self.now();
        if self.permit.expires_at().is_some_and(|expiry| now >= expiry) {
            return Some(EndReason::Expired);
        }
        let snapshot = self.snapshot();
        let changed = snapshot.version() != self.permit.version()
            || self.authentication_changed()
            || self.asked_again_at().is_some_and(|at| now >= at);
        if changed && let Err(refusal) = policy::readmit(&self.permit, &snapshot, now) {
            return Some(EndReason::PolicyChanged(refusal));
        }
        None
    }

    /// Whether another sign-in counts now than at admission: it may be a weaker one.
    fn authentication_changed(&self) -> bool {
        let identity = self.permit.identity();
        identity.standing().is_some() && identity.authentication() != self.admitted_by
    }

    /// When the session has to be asked about again at the latest, if ever.
    fn asked_again_at(&self) -> Option<Timestamp> {
        self.permit.valid_until()
    }
}

/// Waits until a login's standing changes; for ever where there is none, or nobody who could.
async fn changed(standing: &mut Option<watch::Receiver<Standing>>) {
    let gone = match standing {
        Some(standing) => standing.changed().await.is_err(),
        None => true,
    };
    if gone {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::identity::Verified;
    use crate::model::Clock;
    use crate::model::Command;
    use crate::model::Effect;
    use crate::model::Principal;
    use crate::model::Protocol;
    use crate::model::SessionId;
    use crate::model::TargetFacts;
    use crate::model::TargetName;
    use crate::model::clock::Standing as StandingClock;
    use crate::model::digest::Digest;
    use crate::model::principal::Counters;
    use crate::model::principal::Entity;
    use crate::model::principal::Kind;
    use crate::model::principal::Role;
    use crate::model::refusal::RefusalCode;
    use crate::model::target::WithoutBasis;
    use crate::policy::Snapshot;
    use crate::policy::transfer::Assessment;
    use crate::policy::transfer::Basis;
    use crate::policy::transfer::Pack;
    use crate::session::Version;
    use crate::session::guard::Asked;
    use crate::session::guard::Parts;
    use crate::session::guard::Settled;
    use crate::session::testing::World;
    use crate::target::Catalogue;

    const POLICIES: &str = r#"
        @id("connect") permit (principal, action == Weir::Action::"connect", resource);
        @id("read") permit (principal, action == Weir::Action::"execute", resource)
        when { ["read"].containsAll(context.effects) };
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

    /// A German company's data, and clauses with a processor in India that end on 30 November.
    fn snapshot() -> Snapshot {
        let name: TargetName = "customers".parse().unwrap();
        let day = |text: &str| text.parse().unwrap();
        let target = TargetFacts {
            name,
            protocol: Protocol::Postgres,
            region: "here".parse().unwrap(),
            country: "DE".parse().unwrap(),
            classes: ["pii.email".parse().unwrap()].into(),
            owner: "acme-de".parse().unwrap(),
            laws: BTreeSet::new(),
            us_persons: None,
            labels: BTreeSet::new(),
            without_basis: WithoutBasis::Refuse,
            observe: false,
        };
        let basis = Basis {
            id: "scc-acme-in".parse().unwrap(),
            mechanism: "EUM-SCC2".parse().unwrap(),
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
            document: Digest::of(b"the signed document"),
            valid_from: day("2026-01-01"),
            valid_to: day("2026-11-30"),
            max_uses: None,
            uses: None,
            owner: "legal".to_owned(),
            approved_by: "dpo".to_owned(),
        };
        let country = || "DE".parse().unwrap();
        let parts = policy::Parts {
            policies: vec![("test.cedar".to_owned(), POLICIES.to_owned())],
            targets: vec![target],
            entities: vec![
                entity("acme-de", "DE", Role::Controller),
                entity("acme-in", "IN", Role::Processor),
            ],
            bases: vec![basis],
            pack: Pack::builtin().unwrap(),
            gateway: policy::GatewayFacts {
                id: "weir-test".to_owned(),
                region: "here".parse().unwrap(),
                country: country(),
                entity: Some("acme-de".parse().unwrap()),
                recording_country: country(),
            },
        };
        Snapshot::compile(parts).unwrap()
    }

    fn read() -> Command {
        let mut command = Command::new("query", "SELECT email FROM customers");
        command.effects = [Effect::Read].into();
        command.reads = ["pii.email".parse().unwrap()].into();
        command
    }

    #[tokio::test]
    async fn a_basis_that_ends_refuses_the_next_command_and_ends_the_session() {
        let world = World::new(POLICIES, Vec::new()).await;
        let snapshot = Arc::new(snapshot());
        let clock = Arc::new(StandingClock::at("2026-11-30T23:59:59Z".parse().unwrap()));
        let catalogue = Arc::new(Catalogue::default());
        let in_force = Arc::new(Version { snapshot: Arc::clone(&snapshot), catalogue });
        let (_reload, version) = watch::channel(in_force);
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
            entity: Some("acme-in".parse().unwrap()),
            residence: None,
            person: "ravi".to_owned(),
            attributes: BTreeMap::new(),
            actors: Vec::new(),
        };
        let tomorrow = "2026-12-02T00:00:00Z".parse().unwrap();
        let verified = Verified::for_test(principal, Some(tomorrow));
        let (target, mut origin) = ("customers".parse().unwrap(), World::origin());
        origin.country = Some("IN".parse().unwrap());
        let session = SessionId::fresh();
        let asked = policy::Asked {
            session,
            target: &target,
            protocol: Protocol::Postgres,
            origin: &origin,
        };
        let now = clock.now();
        let permit = policy::admit(&verified, asked, &snapshot, now).unwrap();
        let guard = Guard::open(permit, parts).unwrap();

        assert!(matches!(guard.ask(read(), ()), Asked::Settled(Settled::Go(..))));
        assert!(guard.over().is_none());
        // Nothing is reloaded, nobody connects anew: only the day is over.
        clock.set("2026-12-01T00:00:00Z".parse().unwrap());
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
}
