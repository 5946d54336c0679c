//! Approving, listing, searching, replaying, ending sessions.

use super::*;
use crate::model::LawFacts;
use crate::model::RuleId;
use crate::model::refusal::RefusalCode;
use crate::policy::Ask;
use crate::policy::may;
use crate::policy::transfer::Outcome;
use crate::policy::view;

fn asks(principal: &Principal, country: &str, ask: &Ask<'_>) -> Result<Vec<RuleId>, Refusal> {
    may(&demo(), who(principal, &from(country)), ask, now()).map(|allowed| allowed.rules)
}

#[test]
fn an_approver_is_another_person_with_the_role_a_permit_and_a_right_to_see() {
    let (alice, target, command) = (alice(), name("customers"), update());
    let dba = set(["dba".to_owned()]);
    let approve = |who: &Principal, country: &str, command: &Command| {
        let approvers = &dba;
        let ask = Ask::Approve { requester: &alice, target: &target, command, approvers };
        asks(who, country, &ask)
    };
    assert_eq!(ids(&approve(&dana(), "DE", &command).unwrap()), ["control.approvers-approve"]);
    let rules = |refusal: Result<Vec<RuleId>, Refusal>| {
        refusal.unwrap_err().rules.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(rules(approve(&alice, "DE", &command)), ["weir.approve.another-person"]);
    assert_eq!(rules(approve(&olaf(), "DE", &command)), ["weir.approve.role"]);
    // Approving is an access: it is decided for the place and the entity of the approver.
    let nowhere = approve(&dana(), "", &command).unwrap_err();
    assert_eq!(nowhere.code, RefusalCode::Residency);
    let sister = person("mei2", &["dba"], Some("acme-sg"));
    assert_eq!(approve(&sister, "SG", &command).unwrap_err().code, RefusalCode::Residency);
    // The role is asked for before policy: a permit to approve alone is not enough, nor the role.
    let role_only = person("rob", &["dba"], Some("acme-de"));
    approve(&role_only, "DE", &command).unwrap();
    // The exact statement is shown to the approver: only to one who may see what it carries.
    let mut card = update();
    card.writes = classes(&["pii.name", "pci.pan"]);
    assert!(rules(approve(&dana(), "DE", &card)).contains(&"weir.approve.sees".to_owned()));
}

#[test]
fn everybody_lists_their_own_sessions_and_few_all() {
    let own = Ask::ListSessions { own_only: true };
    let all = Ask::ListSessions { own_only: false };
    for principal in [alice(), dana(), olaf(), mei()] {
        asks(&principal, "SG", &own).unwrap();
    }
    asks(&dana(), "DE", &all).unwrap();
    asks(&olaf(), "DE", &all).unwrap();
    let refusal = asks(&alice(), "DE", &all).unwrap_err();
    assert_eq!(refusal.reason, "no policy permits alice to list everybody's sessions");
}

#[test]
fn searches_are_accesses_at_each_target() {
    let target = name("customers");
    let (own, others) =
        (Ask::Search { target: &target, own: true }, Ask::Search { target: &target, own: false });
    assert_eq!(ids(&asks(&alice(), "DE", &own).unwrap()), ["control.search-own-sessions"]);
    for principal in [dana(), olaf()] {
        assert_eq!(ids(&asks(&principal, "DE", &others).unwrap()), ["control.search-all-sessions"]);
        asks(&principal, "DE", &own).unwrap();
    }
    let refusal = asks(&alice(), "DE", &others).unwrap_err();
    assert_eq!(refusal.reason, "no policy permits alice to search others' sessions on customers");
    // An approver lists everybody's sessions, but what they asked is not theirs to read.
    let approver = person("rob", &["approver"], Some("acme-de"));
    asks(&approver, "DE", &Ask::ListSessions { own_only: false }).unwrap();
    asks(&approver, "DE", &others).unwrap_err();
    // Decided for the place and the entity of whoever searches, of their own sessions as well.
    let sister = person("mei2", &["dba"], Some("acme-sg"));
    for ask in [&own, &others] {
        let refusal = asks(&sister, "SG", ask).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Residency);
        assert!(ids(&refusal.rules).contains(&"weir.residency"), "{:?}", refusal.rules);
        assert_eq!(asks(&olaf(), "", ask).unwrap_err().code, RefusalCode::Residency);
    }
    let gone = name("no-such");
    let gone = asks(&dana(), "DE", &Ask::Search { target: &gone, own: true }).unwrap_err();
    assert_eq!(gone.code, RefusalCode::NoTarget);
}

#[test]
fn replays_are_accesses_and_kills_are_for_administrators() {
    let (alice, target) = (alice(), name("customers"));
    let replay = Ask::Replay { target: &target, law: None, owner: &alice };
    assert_eq!(ids(&asks(&alice, "DE", &replay).unwrap()), ["control.replay-own-sessions"]);
    asks(&olaf(), "DE", &replay).unwrap();
    asks(&mei(), "DE", &replay).unwrap_err();
    let sister = person("mei2", &["dba"], Some("acme-sg"));
    assert_eq!(asks(&sister, "SG", &replay).unwrap_err().code, RefusalCode::Residency);
    // What she does herself is not her agent's own, nor the other way round.
    let agent = Principal { kind: Kind::Agent, ..alice.clone() };
    asks(&agent, "DE", &replay).unwrap_err();
    asks(&alice, "DE", &Ask::Replay { target: &target, law: None, owner: &agent }).unwrap_err();
    asks(&agent, "DE", &Ask::Replay { target: &target, law: None, owner: &agent }).unwrap();
    let kill = Ask::Kill { target: &target, owner: &alice };
    asks(&dana(), "DE", &kill).unwrap();
    asks(&alice, "DE", &kill).unwrap_err();
    asks(&olaf(), "DE", &kill).unwrap_err();
    asks(&olaf(), "DE", &Ask::Administer { what: "ledger" }).unwrap();
    asks(&olaf(), "DE", &Ask::Administer { what: "config" }).unwrap_err();
    let gone = name("no-such");
    let gone = asks(&dana(), "DE", &Ask::Kill { target: &gone, owner: &alice }).unwrap_err();
    assert_eq!(gone.code, RefusalCode::NoTarget);
}

#[test]
fn who_replays_sees_what_they_may_see_not_what_the_owner_saw() {
    let all = select().reads;
    let sees = |principal: &Principal, country: &str| {
        let masks =
            view(&demo(), who(principal, &from(country)), (&name("customers"), None), &all, now());
        masks.shown().clone()
    };
    assert_eq!(sees(&olaf(), "DE"), all);
    assert_eq!(sees(&alice(), "DE"), classes(&["pii.name"]));
    assert!(sees(&mei(), "SG").is_empty());
    assert!(sees(&olaf(), "").is_empty());
}

#[test]
fn a_recording_stays_under_the_law_of_its_source() {
    let target = name("customers");
    let law = demo().target(&target).unwrap().law();
    // What was recorded before the target was anonymised, moved or handed to somebody else.
    let now_is = demo_with("customers", |facts| facts.classes.clear());
    let olaf = olaf();
    let sister = person("ravi", &["dpo"], Some("acme-sg"));
    let asked =
        |snapshot: &Snapshot, who_asks: &Principal, country: &str, law: Option<&LawFacts>| {
            let ask = Ask::Replay { target: &target, law, owner: &alice() };
            may(snapshot, who(who_asks, &from(country)), &ask, now())
        };
    asked(&now_is, &sister, "SG", None).unwrap();
    let refusal = asked(&now_is, &sister, "SG", Some(&law)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Residency);
    let allowed = asked(&now_is, &olaf, "DE", Some(&law)).unwrap();
    assert_eq!(allowed.access.unwrap().decision.outcome, Outcome::None);
    // The stricter holds whichever it is.
    let nothing = LawFacts { classes: BTreeSet::new(), ..law.clone() };
    let refusal = asked(&demo(), &sister, "SG", Some(&nothing)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Residency);
    // What the target held then is hidden from whoever may not see it, and what it never held.
    let phone = classes(&["pii.phone"]);
    let all = law.classes.union(&phone).cloned().collect::<BTreeSet<_>>();
    let sees = |principal: &Principal, law: Option<&LawFacts>| {
        view(&now_is, who(principal, &from("DE")), (&target, law), &all, now())
    };
    assert_eq!(sees(&olaf, Some(&law)).shown(), &law.classes);
    assert_eq!(sees(&alice(), Some(&law)).shown(), &classes(&["pii.name"]));
    assert!(sees(&olaf, None).shown().is_empty());
    assert!(sees(&olaf, Some(&law)).hidden().contains_key(phone.first().unwrap()));
    // An entity that is declared no more answers for nothing.
    let gone = LawFacts { owner: "acme-old".parse().unwrap(), ..law };
    let refusal = asked(&demo(), &olaf, "DE", Some(&gone)).unwrap_err();
    assert!(refusal.reason.contains("acme-old"), "{refusal:?}");
    assert!(sees(&olaf, Some(&gone)).shown().is_empty());
}
