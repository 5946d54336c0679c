//! What the demo's people can do, and how holds come about and end.

use super::*;
use crate::model::refusal::RefusalCode;
use crate::policy::Approval;
use crate::policy::reveal;

#[test]
fn alice_reads_with_email_and_national_id_masked_and_olaf_in_clear() {
    let snapshot = demo();
    let permit = session(&snapshot, &alice(), "customers");
    let allowed = decide(&permit, &snapshot, &select(), None, now());
    assert_eq!(ids(allowed.rules()), ["customers.engineers-work"]);
    let masks = reveal(&permit, &snapshot, &select().reads, now());
    assert_eq!(*masks.shown(), classes(&["pii.name"]));
    assert_eq!(masks.hidden().len(), 2);
    let olaf = session(&snapshot, &olaf(), "customers");
    assert_eq!(decide(&olaf, &snapshot, &select(), None, now()).word(), "allow");
    assert!(!reveal(&olaf, &snapshot, &select().reads, now()).hides_something());
    denied(decide(&olaf, &snapshot, &update(), None, now()));
}

#[test]
fn a_delete_of_everything_is_refused_for_all_with_reason_and_hint() {
    let snapshot = demo();
    for principal in [alice(), dana()] {
        let refusal = denied(verdict(&snapshot, &principal, "customers", &delete_all()));
        assert_eq!(refusal.code, RefusalCode::Denied);
        assert_eq!(refusal.reason, "this would remove every row at once");
        assert!(refusal.hint.unwrap().contains("WHERE"));
        // What an approval could lift is not told: it would not help.
        assert_eq!(ids(&refusal.rules), ["customers.no-mass-delete"]);
    }
}

#[test]
fn an_update_waits_for_a_dba_who_is_somebody_else() {
    let snapshot = demo();
    let permit = session(&snapshot, &alice(), "customers");
    let Verdict::Hold { rules, reason, approvers } =
        decide(&permit, &snapshot, &update(), None, now())
    else {
        panic!("not held");
    };
    assert_eq!(ids(&rules), ["customers.changes-need-approval"]);
    assert!(reason.contains("approval of a database administrator"));
    assert_eq!(approvers, set(["dba".to_owned()]));
    let answer =
        |by: &Principal| decide(&permit, &snapshot, &update(), Some(&Approval { by }), now());
    assert_eq!(answer(&dana()).word(), "allow");
    let own = denied(answer(&alice()));
    assert_eq!(ids(&own.rules), ["weir.approve.another-person"]);
    // The same human being with another account, or one who cannot be told apart.
    let mut second = dana();
    second.person = alice().person;
    assert_eq!(ids(&denied(answer(&second)).rules), ["weir.approve.another-person"]);
    second.person = String::new();
    assert_eq!(ids(&denied(answer(&second)).rules), ["weir.approve.another-person"]);
    assert_eq!(ids(&denied(answer(&olaf())).rules), ["weir.approve.role"]);
    // A dba needs no approval; an approval does not lift what no approval can.
    assert_eq!(verdict(&snapshot, &dana(), "customers", &update()).word(), "allow");
    let dana = dana();
    let approval = Approval { by: &dana };
    denied(decide(&permit, &snapshot, &delete_all(), Some(&approval), now()));
}

#[test]
fn what_may_not_be_held_is_refused_and_what_is_not_carried_stays_so() {
    let snapshot = demo();
    let mut locked = update();
    locked.unholdable = Some("inside a transaction block it would keep locks".to_owned());
    let refusal = denied(verdict(&snapshot, &alice(), "customers", &locked));
    assert!(refusal.reason.contains("locks"));
    assert_eq!(ids(&refusal.rules), ["customers.changes-need-approval"]);
    // Once approved it is not held, so it may run.
    let permit = session(&snapshot, &alice(), "customers");
    let dana = dana();
    let approval = Some(&Approval { by: &dana });
    assert_eq!(decide(&permit, &snapshot, &locked, approval, now()).word(), "allow");
    let mut copy = select();
    copy.unsupported = Some("COPY is not carried".to_owned());
    for approval in [None, approval] {
        let refusal = denied(decide(&permit, &snapshot, &copy, approval, now()));
        assert_eq!(refusal.code, RefusalCode::Unsupported);
        assert_eq!(refusal.reason, "COPY is not carried");
    }
}

#[test]
fn definitions_are_for_dbas_and_other_tables_for_everybody_at_work() {
    let snapshot = demo();
    let ddl = command("query", "DROP TABLE t", &[Effect::Define], Some(("table", "public.t")));
    let refusal = denied(verdict(&snapshot, &alice(), "customers", &ddl));
    assert_eq!(ids(&refusal.rules), ["customers.ddl-is-for-dbas"]);
    assert_eq!(verdict(&snapshot, &dana(), "customers", &ddl).word(), "allow");
    let note = Some(("table", "public.notes"));
    let insert = command("query", "INSERT INTO notes …", &[Effect::Write], note);
    assert_eq!(verdict(&snapshot, &alice(), "customers", &insert).word(), "allow");
    let call = command("query", "SELECT f()", &[Effect::Read, Effect::Execute], None);
    let refusal = denied(verdict(&snapshot, &alice(), "customers", &call));
    assert_eq!(refusal.reason, "no policy permits alice to read, execute on customers");
    assert!(refusal.rules.is_empty() && refusal.hint.is_some());
}

#[test]
fn what_cannot_be_told_needs_a_policy_that_says_so() {
    let snapshot = demo();
    let opaque = [Effect::Execute, Effect::Opaque];
    let block = command("query", "DO $$…$$", &opaque, None);
    let refusal = denied(verdict(&snapshot, &dana(), "customers", &block));
    assert_eq!(ids(&refusal.rules), ["weir.opaque"]);
    assert!(refusal.reason.contains("cannot be told"));
    // A command that nobody understood at all has no effects: it is opaque, too.
    denied(verdict(&snapshot, &alice(), "customers", &command("query", "?", &[], None)));
    // A permit without any condition does not reach it; one that names it does.
    let all = "@id(\"all\") permit (principal, action == Weir::Action::\"execute\", resource);";
    denied(verdict(&demo_and(all).unwrap(), &dana(), "customers", &block));
    let named = "permit (principal, action == Weir::Action::\"execute\", resource)\n\
                 when { [\"execute\", \"opaque\"].containsAll(context.effects) };";
    assert_eq!(verdict(&demo_and(named).unwrap(), &dana(), "customers", &block).word(), "allow");
    // On the web server the demo names the shell and single command lines.
    let shell = command("shell", "", &opaque, None);
    let exec = command("exec", "uname -a", &opaque, Some(("program", "uname")));
    assert_eq!(ids(verdict(&snapshot, &alice(), "web-1", &shell).rules()), ["web.engineers-shell"]);
    assert_eq!(ids(verdict(&snapshot, &alice(), "web-1", &exec).rules()), ["web.engineers-run"]);
}

#[test]
fn a_restart_is_held_and_rm_rf_refused() {
    let snapshot = demo();
    let effects = [Effect::Execute, Effect::Server];
    let restart = command("exec", "systemctl restart nginx", &effects, Some(("unit", "nginx")));
    let held = verdict(&snapshot, &alice(), "web-1", &restart);
    assert_eq!(ids(held.rules()), ["web.restarts-need-approval"]);
    assert_eq!(held.word(), "hold");
    let effects = [Effect::Execute, Effect::Destroy];
    let remove = command("exec", "rm -rf /srv", &effects, Some(("path", "/srv")));
    let refusal = denied(verdict(&snapshot, &alice(), "web-1", &remove));
    assert!(refusal.reason.contains("beyond undoing"));
}

#[test]
fn the_wiki_is_read_masked_written_with_approval_and_never_deleted_from() {
    let snapshot = demo();
    let people = Some(("path", "/api/people"));
    let get = command("GET", "GET /api/people", &[Effect::Read], people);
    assert_eq!(verdict(&snapshot, &alice(), "wiki", &get).word(), "allow");
    let all = classes(&["pii.email", "pii.phone"]);
    let permit = session(&snapshot, &alice(), "wiki");
    assert!(all.iter().all(|class| reveal(&permit, &snapshot, &all, now()).hides(class)));
    let post = command("POST", "POST /api/people", &[Effect::Write], people);
    let held = verdict(&snapshot, &alice(), "wiki", &post);
    assert_eq!((held.word(), ids(held.rules())), ("hold", vec!["wiki.writes-need-approval"]));
    let delete = command("DELETE", "DELETE /api/people/1", &[Effect::Delete], people);
    let refusal = denied(verdict(&snapshot, &alice(), "wiki", &delete));
    assert!(refusal.reason.starts_with("nothing is deleted from the wiki"));
}

#[test]
fn the_cluster_holds_namespaces_and_hides_secrets() {
    let snapshot = demo();
    let effects = [Effect::Delete, Effect::Destroy];
    let namespace = command("delete", "DELETE …", &effects, Some(("namespaces", "prod")));
    assert_eq!(verdict(&snapshot, &alice(), "prod-cluster", &namespace).word(), "hold");
    let pod = command("delete", "DELETE …", &[Effect::Delete], Some(("pods", "prod/web")));
    assert_eq!(verdict(&snapshot, &alice(), "prod-cluster", &pod).word(), "allow");
    // A workload could print what alice may not read.
    let effects = [Effect::Write, Effect::Execute];
    let workload = command("create", "POST …", &effects, Some(("pods", "prod/web")));
    let held = verdict(&snapshot, &alice(), "prod-cluster", &workload);
    assert_eq!((held.word(), ids(held.rules())), ("hold", vec!["cluster.workloads-need-approval"]));
    assert_eq!(verdict(&snapshot, &dana(), "prod-cluster", &workload).word(), "allow");
    let secret = classes(&["cred.secret"]);
    let hides = |principal: &Principal| {
        let permit = session(&snapshot, principal, "prod-cluster");
        reveal(&permit, &snapshot, &secret, now()).hides_any(&secret)
    };
    assert!(hides(&alice()) && !hides(&dana()));
}

#[test]
fn rules_that_hold_together_need_an_approver_who_serves_all() {
    let two = |approvers: &str| {
        demo_and(&format!(
            "@id(\"two\") @reason(\"and the privacy team\") @approvers(\"{approvers}\")\n\
             forbid (principal, action == Weir::Action::\"execute\", resource)\n\
             when {{ context.writes.contains(\"pii\") }} unless {{ context.approved }};"
        ))
        .unwrap()
    };
    let Verdict::Hold { rules, reason, approvers } =
        verdict(&two("privacy, dba"), &alice(), "customers", &update())
    else {
        panic!("not held");
    };
    assert_eq!(ids(&rules), ["customers.changes-need-approval", "two"]);
    assert!(reason.contains("; and the privacy team"));
    assert_eq!(approvers, set(["dba".to_owned()]));
    let refusal = denied(verdict(&two("privacy"), &alice(), "customers", &update()));
    assert!(ids(&refusal.rules).contains(&"weir.approve.nobody"));
}

#[test]
fn policies_match_objects_by_kind_name_effect_and_place() {
    let conditions = [
        "context.objects.contains(\"path:/api/people/7\")",
        "context.names.contains(\"/api/people/7\")",
        "context.kinds.contains(\"path\")",
        "context.touches.contains(\"read:path\")",
        "context.touches.contains(\"read:path:/api/people/7\")",
        "context.within.contains(\"path:/api\")",
        "context.within.contains(\"path:/api/people\")",
        "context.reads.contains(\"pii\")",
        "context.facts.contains(\"depth=3\")",
        "context.verb == \"GET\" && context.place_known && context has from",
        "!resource.labels.contains(\"prod\") && resource.owner_country == \"DE\"",
        "principal.hasTag(\"team\") && principal.getTag(\"team\") == \"red\"",
    ];
    let mut get = command("GET", "GET …", &[Effect::Read], Some(("path", "/api/people/7")));
    get.reads = classes(&["pii.email"]);
    get.facts = vec![("depth".to_owned(), "3".to_owned())];
    let mut alice = alice();
    alice.attributes.insert("team".to_owned(), "red".to_owned());
    for condition in conditions {
        let snapshot = demo_and(&format!(
            "@id(\"x\") forbid (principal, action == Weir::Action::\"execute\", resource)\n\
             when {{ {condition} }};"
        ))
        .unwrap();
        let refusal = denied(verdict(&snapshot, &alice, "wiki", &get));
        assert_eq!(refusal.reason, "forbidden by policy `x`", "{condition}");
    }
}

#[test]
fn too_many_objects_are_refused() {
    let mut wide = select();
    wide.objects = (0..=decide::OBJECTS_MAX)
        .map(|number| Object::new("table", format!("public.t{number}"), Effect::Read))
        .collect();
    let refusal = denied(verdict(&demo(), &alice(), "customers", &wide));
    assert_eq!(refusal.code, RefusalCode::TooLarge);
}
