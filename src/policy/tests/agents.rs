//! An agent never has more than its person.

use super::*;
use crate::model::refusal::RefusalCode;
use crate::policy::Approval;
use crate::policy::Ask;
use crate::policy::may;
use crate::policy::reveal;

/// The same principal, but an agent.
fn agent_of(person: Principal) -> Principal {
    Principal { kind: Kind::Agent, ..person }
}

#[test]
fn an_agent_has_the_roles_it_was_given() {
    let snapshot = demo();
    let agent = agent_of(alice());
    assert_eq!(verdict(&snapshot, &agent, "customers", &select()).word(), "allow");
    assert_eq!(verdict(&snapshot, &agent, "customers", &update()).word(), "hold");
    denied(verdict(&snapshot, &agent, "customers", &delete_all()));
}

#[test]
fn a_policy_may_give_an_agent_less() {
    let snapshot = demo_and(
        "@id(\"agents-read\") @reason(\"agents only read here\")\n\
         forbid (principal, action == Weir::Action::\"execute\", resource)\n\
         when { principal.kind == \"agent\" }\n\
         unless { [\"read\"].containsAll(context.effects) };\n\
         @id(\"agents-see-nothing\")\n\
         forbid (principal, action == Weir::Action::\"reveal\", resource)\n\
         when { principal.kind == \"agent\" };",
    )
    .unwrap();
    let agent = agent_of(dana());
    assert_eq!(verdict(&snapshot, &agent, "customers", &select()).word(), "allow");
    assert_eq!(
        denied(verdict(&snapshot, &agent, "customers", &update())).reason,
        "agents only read here"
    );
    assert_eq!(verdict(&snapshot, &dana(), "customers", &update()).word(), "allow");
    let all = select().reads;
    let shown = |principal: &Principal| {
        let permit = session(&snapshot, principal, "customers");
        reveal(&permit, &snapshot, &all, now()).shown().len()
    };
    assert_eq!((shown(&dana()), shown(&agent)), (3, 0));
}

#[test]
fn a_policy_cannot_give_an_agent_more() {
    let snapshot = demo_and(
        "@id(\"agents-may-all\")\n\
         permit (principal, action, resource) when { principal.kind == \"agent\" };\n\
         @id(\"people-may-not\") @reason(\"not by hand\")\n\
         forbid (principal, action == Weir::Action::\"execute\", resource)\n\
         when { principal.kind == \"person\" && context.effects.contains(\"delete\") };",
    )
    .unwrap();
    let nobody = agent_of(person("eve", &[], Some("acme-de")));
    let refusal =
        ask(&snapshot, &nobody, &from("DE"), "customers", Protocol::Postgres).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NoTarget);
    let agent = agent_of(alice());
    let grant = command("query", "GRANT …", &[Effect::Grant], None);
    denied(verdict(&snapshot, &agent, "customers", &grant));
    let delete = command("query", "DELETE …", &[Effect::Delete], Some(("table", "public.x")));
    let refusal = denied(verdict(&snapshot, &agent, "customers", &delete));
    assert_eq!(refusal.reason, "not by hand");
    let permit = session(&snapshot, &agent, "customers");
    let masks = reveal(&permit, &snapshot, &select().reads, now());
    assert_eq!(masks.shown(), &classes(&["pii.name"]));
    let origin = from("DE");
    let may = |ask: &Ask<'_>| may(&snapshot, who(&agent, &origin), ask, now());
    may(&Ask::ListSessions { own_only: true }).unwrap();
    may(&Ask::ListSessions { own_only: false }).unwrap_err();
    may(&Ask::Administer { what: "policy" }).unwrap_err();
    let customers = name("customers");
    may(&Ask::Kill { target: &customers, owner: &dana() }).unwrap_err();
    may(&Ask::Replay { target: &customers, law: None, owner: &dana() }).unwrap_err();
    may(&Ask::Search { target: &customers, own: false }).unwrap_err();
}

#[test]
fn what_is_held_for_either_needs_who_may_approve_for_both() {
    let held = |agents: &str, people: &str| {
        demo_and(&format!(
            "@id(\"agents\") @approvers(\"{agents}\")\n\
             forbid (principal, action == Weir::Action::\"execute\", resource)\n\
             when {{ principal.kind == \"agent\" }} unless {{ context.approved }};\n\
             @id(\"people\") @approvers(\"{people}\")\n\
             forbid (principal, action == Weir::Action::\"execute\", resource)\n\
             when {{ principal.kind == \"person\" }} unless {{ context.approved }};"
        ))
        .unwrap()
    };
    let agent = agent_of(alice());
    let snapshot = held("dba, dpo", "dba, approver");
    let Verdict::Hold { approvers, rules, .. } = verdict(&snapshot, &agent, "customers", &select())
    else {
        panic!("not held")
    };
    assert_eq!(approvers, set(["dba".to_owned()]));
    assert_eq!(ids(&rules), ["agents", "people"]);
    let permit = session(&snapshot, &agent, "customers");
    let approved = |by: &Principal| {
        decide(&permit, &snapshot, &select(), Some(&Approval { by }), now()).word()
    };
    assert_eq!((approved(&dana()), approved(&olaf())), ("allow", "deny"));
    let refusal = denied(verdict(&held("dpo", "dba"), &agent, "customers", &select()));
    assert!(ids(&refusal.rules).contains(&"weir.approve.nobody"), "{refusal:?}");
}
