//! Who is admitted where, from where, until when.

use super::*;
use crate::model::refusal::RefusalCode;
use crate::policy::judge;
use crate::policy::readmit;
use crate::policy::reveal;

#[test]
fn alice_is_admitted_at_home_and_on_a_trip() {
    let snapshot = demo();
    let home = session(&snapshot, &alice(), "customers");
    assert_eq!(ids(home.rules()), ["customers.connect"]);
    assert_eq!(home.transfer().outcome.to_string(), "none");
    let trip = ask(&snapshot, &alice(), &from("SG"), "customers", Protocol::Postgres).unwrap();
    assert_eq!(trip.transfer().outcome.to_string(), "none+log");
    assert!(!trip.suppressed());
    assert_eq!(trip.version(), snapshot.version());
}

#[test]
fn the_sister_company_abroad_is_refused_with_rule_row_and_help() {
    let refusal = ask(&demo(), &mei(), &from("SG"), "customers", Protocol::Postgres).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Residency);
    let rules = ids(&refusal.rules);
    assert!(rules.contains(&"weir.residency") && rules.contains(&"REG-EU"), "{rules:?}");
    assert!(refusal.reason.contains("acme-sg"), "{}", refusal.reason);
    assert!(refusal.hint.is_some());
    // It is her entity that counts, not where she sits; and a target without personal data is open.
    ask(&demo(), &mei(), &from("DE"), "customers", Protocol::Postgres).unwrap_err();
    ask(&demo(), &mei(), &from("SG"), "web-1", Protocol::Ssh).unwrap();
}

#[test]
fn an_unknown_country_or_entity_is_refused() {
    let nowhere = ask(&demo(), &alice(), &from(""), "customers", Protocol::Postgres).unwrap_err();
    assert_eq!(nowhere.code, RefusalCode::Residency);
    let nobody = person("eve", &["engineer"], None);
    let nobody = ask(&demo(), &nobody, &from("DE"), "customers", Protocol::Postgres).unwrap_err();
    assert_eq!(nobody.code, RefusalCode::Residency);
}

#[test]
fn a_target_that_is_not_and_one_that_is_not_yours_sound_alike() {
    let snapshot = demo();
    let stranger = person("eve", &[], Some("acme-de"));
    let no = |principal: &Principal, target: &str| {
        let facts = snapshot.target(&name(target));
        let protocol = facts.map_or(Protocol::Ssh, |facts| facts.protocol);
        let refusal = ask(&snapshot, principal, &from("DE"), target, protocol).unwrap_err();
        (refusal.code, refusal.reason.replace(target, "x"), refusal.rules, refusal.hint)
    };
    assert_eq!(no(&stranger, "web-1"), no(&stranger, "no-such"));
    assert_eq!(no(&stranger, "web-1").0, RefusalCode::NoTarget);
    // Neither the law nor a wrong protocol tells more to somebody who may not know of it.
    let wrong = ask(&snapshot, &stranger, &from("DE"), "web-1", Protocol::Http).unwrap_err();
    assert_eq!(wrong.reason.replace("web-1", "x"), no(&stranger, "no-such").1);
    let abroad = person("mallory", &[], Some("acme-sg"));
    assert_eq!(no(&abroad, "customers"), no(&abroad, "no-such"));
    // Who may reach it is told what it speaks.
    let wrong = ask(&snapshot, &alice(), &from("DE"), "customers", Protocol::Ssh).unwrap_err();
    assert_eq!(wrong.reason, "customers speaks postgres, not ssh");
}

#[test]
fn a_policy_with_a_reason_is_told_to_whom_it_forbids() {
    let snapshot = demo_and(
        "@id(\"travel\") @reason(\"only from home\") @hint(\"go home\")\n\
         forbid (principal, action == Weir::Action::\"connect\", resource)\n\
         when { context.residency == \"none-logged\" && resource.classes.contains(\"pii\") };",
    )
    .unwrap();
    let refusal =
        ask(&snapshot, &alice(), &from("SG"), "customers", Protocol::Postgres).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Denied);
    assert_eq!(refusal.reason, "only from home");
    assert_eq!(refusal.hint.as_deref(), Some("go home"));
    assert_eq!(ids(&refusal.rules), ["travel"]);
    session(&snapshot, &alice(), "customers");
}

#[test]
fn an_identity_that_has_ended_gets_nothing() {
    let snapshot = demo();
    let verified = Verified::for_test(alice(), Some(now()));
    let (target, origin) = (name("customers"), from("DE"));
    let session = SessionId::fresh();
    let asked = Asked { session, target: &target, protocol: Protocol::Postgres, origin: &origin };
    let refusal = admit(&verified, asked, &snapshot, now()).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unauthenticated);
    // Also in the middle of a session.
    let permit = super::session(&snapshot, &alice(), "customers");
    assert_eq!(permit.expires_at(), Some(later()));
    assert_eq!(
        readmit(&permit, &snapshot, later()).unwrap_err().code,
        RefusalCode::Unauthenticated
    );
    let verdict = decide(&permit, &snapshot, &select(), None, later());
    assert_eq!(denied(verdict).code, RefusalCode::Unauthenticated);
    let name = classes(&["pii.name"]);
    assert!(!reveal(&permit, &snapshot, &name, now()).hides_any(&name));
    assert!(reveal(&permit, &snapshot, &name, later()).hides_any(&name));
}

#[test]
fn a_session_is_asked_again_and_ends_when_it_would_not_be_admitted() {
    let first = demo();
    let permit = session(&first, &alice(), "customers");
    readmit(&permit, &first, now()).unwrap();
    let closed = demo_and(
        "@id(\"freeze\") @reason(\"the database is frozen\")\n\
         forbid (principal, action == Weir::Action::\"connect\", \
         resource == Weir::Target::\"customers\");",
    )
    .unwrap();
    assert_eq!(readmit(&permit, &closed, now()).unwrap_err().reason, "the database is frozen");
    let mut without = parts();
    without.targets.retain(|facts| facts.name != name("customers"));
    let without = compile(without);
    assert_eq!(readmit(&permit, &without, now()).unwrap_err().code, RefusalCode::NoTarget);
    assert_eq!(
        denied(decide(&permit, &without, &select(), None, now())).code,
        RefusalCode::NoTarget
    );
    let moved = demo_with("customers", |facts| facts.region = "eu-north".parse().unwrap());
    assert_eq!(readmit(&permit, &moved, now()).unwrap_err().code, RefusalCode::SessionEnded);
    // What counts for a command is the law of today, not that of the day of admission.
    let hers = demo_with("customers", |facts| facts.owner = "acme-sg".parse().unwrap());
    let permit = ask(&hers, &mei(), &from("SG"), "customers", Protocol::Postgres).unwrap();
    assert_eq!(decide(&permit, &hers, &select(), None, now()).word(), "allow");
    let refusal = denied(decide(&permit, &first, &select(), None, now()));
    assert_eq!(refusal.code, RefusalCode::Residency);
    assert_eq!(readmit(&permit, &first, now()).unwrap_err().code, RefusalCode::Residency);
}

#[test]
fn observe_mode_admits_and_says_what_would_have_been() {
    let snapshot = demo_with("customers", |facts| facts.observe = true);
    let permit = ask(&snapshot, &mei(), &from("SG"), "customers", Protocol::Postgres).unwrap();
    assert_eq!(permit.observed().unwrap().code, RefusalCode::Residency);
    // The true verdict: whether it is applied is the guard's business.
    let refusal = denied(decide(&permit, &snapshot, &select(), None, now()));
    assert_eq!(refusal.code, RefusalCode::Residency);
    readmit(&permit, &snapshot, now()).unwrap();
    // Once it is enforced, the session ends.
    assert_eq!(readmit(&permit, &demo(), now()).unwrap_err().code, RefusalCode::Residency);
    assert!(session(&snapshot, &alice(), "customers").observed().is_none());
    // It never excuses another protocol or an ended identity.
    ask(&snapshot, &alice(), &from("DE"), "customers", Protocol::Ssh).unwrap_err();
}

#[test]
fn without_a_basis_a_target_may_be_held_with_everything_suppressed() {
    let mask = demo_with("customers", |facts| facts.without_basis = WithoutBasis::Mask);
    let permit = ask(&mask, &mei(), &from("SG"), "customers", Protocol::Postgres).unwrap();
    assert!(permit.suppressed());
    assert_eq!(permit.transfer().outcome.to_string(), "none+log");
    assert!(!permit.suppressed_by().unwrap().outcome.is_allowed());
    // Names, which engineers see otherwise, are hidden too, and a SELECT still runs.
    let all = select().reads;
    let masks = reveal(&permit, &mask, &all, now());
    assert!(all.iter().all(|class| masks.hides(class)));
    assert!(ids(&masks.hidden()[&"pii.name".parse().unwrap()]).contains(&"weir.suppressed"));
    assert_eq!(decide(&permit, &mask, &select(), None, now()).word(), "allow");
    // Suppression once is suppression until the session ends, even if the law would allow more.
    let own = demo_with("customers", |facts| facts.owner = "acme-sg".parse().unwrap());
    assert!(reveal(&permit, &own, &all, now()).shown().is_empty());
    // A session that began in clear does not go on suppressed: its client may hold old answers.
    let clear = session(&mask, &alice(), "customers");
    assert!(!clear.suppressed());
}

#[test]
fn the_gateway_reads_catalogues_and_nothing_else() {
    let snapshot = demo();
    let verified = Verified::gateway(None);
    let (target, origin) = (name("customers"), from("DE"));
    let session = SessionId::fresh();
    let asked = Asked { session, target: &target, protocol: Protocol::Postgres, origin: &origin };
    let permit = admit(&verified, asked, &snapshot, now()).unwrap();
    assert_eq!(permit.expires_at(), None);
    assert_eq!(decide(&permit, &snapshot, &select(), None, now()).word(), "allow");
    denied(decide(&permit, &snapshot, &update(), None, now()));
    let all = select().reads;
    assert!(all.iter().all(|class| reveal(&permit, &snapshot, &all, now()).hides(class)));
    // A claim cannot make somebody the gateway.
    let mut liar = alice();
    liar.kind = Kind::Gateway;
    let refusal = ask(&snapshot, &liar, &from("DE"), "customers", Protocol::Postgres).unwrap_err();
    assert_eq!(ids(&refusal.rules), ["weir.gateway.only"]);
}

#[test]
fn explaining_gives_the_daemons_own_verdict() {
    let snapshot = demo();
    for (principal, country) in
        [(alice(), "DE"), (alice(), "SG"), (mei(), "SG"), (olaf(), "DE"), (dana(), "")]
    {
        let origin = from(country);
        let target = name("customers");
        let judgement = judge(&snapshot, who(&principal, &origin), &target, Some(&update()), now());
        let admitted = ask(&snapshot, &principal, &origin, "customers", Protocol::Postgres);
        match admitted {
            Err(refusal) => assert_eq!(
                judgement.connect,
                crate::policy::explain::Connect::Refuse(refusal),
                "{principal}"
            ),
            Ok(permit) => {
                let verdict = decide(&permit, &snapshot, &update(), None, now());
                assert_eq!(judgement.command, Some(verdict));
                let masks = reveal(&permit, &snapshot, &permit.target().classes, now());
                assert_eq!(judgement.masks, masks);
                assert_eq!(judgement.transfer.as_ref(), Some(permit.transfer()));
            }
        }
        serde_json::to_string(&judgement).unwrap();
    }
    let (alice, origin) = (alice(), from("SG"));
    let said = judge(&snapshot, who(&alice, &origin), &name("customers"), Some(&select()), now());
    let said = said.to_string();
    for part in ["alice from SG", "none+log", "[customers.engineers-work]", "pii.email: masked"] {
        assert!(said.contains(part), "{said}");
    }
    let unknown = judge(&snapshot, who(&alice, &origin), &name("no-such"), None, now());
    assert!(unknown.to_string().contains("no target `no-such`"));
}
