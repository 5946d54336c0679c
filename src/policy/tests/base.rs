//! What no customer's policy can switch off, and what does not load.

use super::*;
use crate::model::refusal::RefusalCode;
use crate::policy::Approval;
use crate::policy::engine::BASE;
use crate::policy::reveal;

const EVERYTHING: &str = "@id(\"everything\") permit (principal, action, resource);";

#[test]
fn no_permit_beats_residency() {
    let snapshot = demo_and(EVERYTHING).unwrap();
    let refusal = ask(&snapshot, &mei(), &from("SG"), "customers", Protocol::Postgres).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Residency);
}

#[test]
fn no_approval_lifts_residency() {
    assert!(!BASE.contains("approved"), "a base policy that mentions approvals could be flipped");
    // She may read what lies abroad, but what she writes there leaves the EEA.
    let mut parts = parts();
    parts.entities.push(entity("acme-us", "US", Role::Processor));
    let customers = &mut parts.targets[0];
    customers.country = "US".parse().unwrap();
    customers.owner = "acme-us".parse().unwrap();
    let snapshot = compile(parts);
    let permit = session(&snapshot, &alice(), "customers");
    assert_eq!(decide(&permit, &snapshot, &select(), None, now()).word(), "allow");
    let dana = dana();
    for approval in [None, Some(&Approval { by: &dana })] {
        let refusal = denied(decide(&permit, &snapshot, &update(), approval, now()));
        assert_eq!(refusal.code, RefusalCode::Residency);
        assert!(ids(&refusal.rules).contains(&"weir.residency"));
        assert!(refusal.reason.contains("acme-us"), "{}", refusal.reason);
    }
    let mut harmless = update();
    harmless.writes.clear();
    assert_eq!(decide(&permit, &snapshot, &harmless, None, now()).word(), "hold");
}

#[test]
fn what_a_target_would_send_elsewhere_is_refused() {
    let snapshot = demo_and(EVERYTHING).unwrap();
    let mut copy = select();
    copy.effects.insert(Effect::Export);
    let refusal = denied(verdict(&snapshot, &alice(), "customers", &copy));
    assert_eq!(refusal.code, RefusalCode::Residency);
    let rules = ids(&refusal.rules);
    assert!(rules.contains(&"STEP-2"), "{rules:?}");
}

#[test]
fn an_error_of_the_engine_is_a_no() {
    // Cedar skips a forbid that errors at run time; this one overflows, which no check foresees.
    let snapshot = demo_and(
        "@id(\"broken\") @reason(\"never shown\")\n\
         forbid (principal, action in [Weir::Action::\"execute\", Weir::Action::\"reveal\"], resource)\n\
         when { 9223372036854775807 + 1 > 0 };",
    )
    .unwrap();
    let permit = session(&snapshot, &alice(), "customers");
    let refusal = denied(decide(&permit, &snapshot, &select(), None, now()));
    assert_eq!(ids(&refusal.rules), ["broken"]);
    assert!(refusal.reason.contains("could not be evaluated"));
    let name = classes(&["pii.name"]);
    let masks = reveal(&permit, &snapshot, &name, now());
    assert_eq!(ids(&masks.hidden()[&"pii.name".parse().unwrap()]), ["broken"]);
    let held = denied(decide(&permit, &snapshot, &update(), None, now()));
    assert_eq!(ids(&held.rules), ["broken"]);
}

#[test]
fn a_class_nobody_declared_is_masked_and_a_nested_one_obeys_its_outer_forbid() {
    let policies = "@id(\"see\") permit (principal, action == Weir::Action::\"reveal\", resource);\n\
         @id(\"no\") forbid (principal, action == Weir::Action::\"reveal\", resource)\n\
         when { context.class in Weir::Class::\"pii.email\" };";
    let snapshot = demo_and(policies).unwrap();
    let permit = session(&snapshot, &alice(), "customers");
    let asked = classes(&["pii.email.work", "pii.name", "pii", "fin.account"]);
    let masks = reveal(&permit, &snapshot, &asked, now());
    assert_eq!(*masks.shown(), classes(&["pii.name"]));
    assert_eq!(ids(&masks.hidden()[&"pii.email.work".parse().unwrap()]), ["no"]);
    assert_eq!(ids(&masks.hidden()[&"fin.account".parse().unwrap()]), ["weir.undeclared"]);
    assert_eq!(ids(&masks.hidden()[&"pii".parse().unwrap()]), ["weir.undeclared"]);
}

#[test]
fn a_broken_policy_is_named_with_file_line_and_what_was_expected() {
    let cases = [
        ("permit (principal, action, resource)\nwhen { context.efects == 1 };", 2, "efects"),
        ("@id(\"typo\")\npermit (principal, action == Weir::Action::\"run\", resource);", 2, "run"),
        (
            "permit (principal, action, resource)\nwhen {\n  principal.entity == \"x\"\n};",
            3,
            "entity",
        ),
        (
            "@id(\"far\") permit (principal, action, resource)\n\
             when { Weir::Target::\"wiki\".region == \"eu\" };",
            2,
            "",
        ),
        ("@id(\"weir.mine\") permit (principal, action, resource);", 1, "weir."),
        ("permit (principal, action, resource)", 1, ""),
    ];
    for (text, line, word) in cases {
        let error = demo_and(text).unwrap_err();
        assert_eq!((error.file.as_str(), error.line), ("more.cedar", line), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(demo_and(cases[1].0).unwrap_err().rule.as_deref(), Some("typo"));
    // Without @id the id comes from the file's name, which cannot borrow the prefix either.
    let mut parts = parts();
    let policy = "permit (principal, action, resource);";
    parts.policies.push(("weir.residency.cedar".to_owned(), policy.to_owned()));
    assert!(Snapshot::compile(parts).is_err());
}

#[test]
fn facts_that_contradict_each_other_do_not_load() {
    let broken = |change: fn(&mut Parts)| {
        let mut parts = parts();
        change(&mut parts);
        Snapshot::compile(parts).unwrap_err().to_string()
    };
    let twice = broken(|parts| parts.targets.extend(parts.targets.clone()));
    assert!(twice.contains("`customers` is declared twice"), "{twice}");
    let owner = broken(|parts| parts.targets[0].owner = "nobody".parse().unwrap());
    assert!(owner.contains("owner `nobody` is no entity"), "{owner}");
    let entity = broken(|parts| parts.entities.extend(parts.entities.clone()));
    assert!(entity.contains("declared twice"), "{entity}");
}

#[test]
fn every_input_changes_the_version() {
    let first = demo().version();
    assert_eq!(demo().version(), first);
    let changed = [
        demo_and("// only a comment").unwrap(),
        demo_with("wiki", |facts| facts.observe = true),
        {
            let mut parts = parts();
            parts.entities[1].country = "US".parse().unwrap();
            compile(parts)
        },
        {
            let mut parts = parts();
            parts.gateway.recording_country = "FR".parse().unwrap();
            compile(parts)
        },
    ];
    for snapshot in changed {
        assert_ne!(snapshot.version(), first);
    }
    // The order of files means nothing.
    let mut parts = parts();
    parts.policies.reverse();
    assert_eq!(compile(parts).version(), first);
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    assert_eq!(demo().warnings(now()), Vec::<String>::new());
    let snapshot = demo_and(
        "@id(\"gone\") permit (principal, action == Weir::Action::\"connect\", \
         resource == Weir::Target::\"custmers\");\n\
         @id(\"loose\") permit (principal, action == Weir::Action::\"execute\", resource) \
         when { context.effects.contains(\"read\") };\n\
         @id(\"class\") permit (principal, action == Weir::Action::\"reveal\", resource) \
         when { context.class in Weir::Class::\"phi\" };",
    )
    .unwrap();
    let warnings = snapshot.warnings(now()).join("\n");
    for part in ["`gone` names the target `custmers`", "`loose` permits", "class `phi`"] {
        assert!(warnings.contains(part), "{warnings}");
    }
    let late = "2099-01-01T00:00:00Z".parse().unwrap();
    assert!(demo().warnings(late).join("\n").contains("review"));
}
