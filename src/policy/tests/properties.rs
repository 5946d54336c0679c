//! What holds for all policies: more forbids never allow more, and hostile texts harm nobody.

use proptest::prelude::*;

use super::*;
use crate::policy::Approval;
use crate::policy::reveal;
use crate::policy::seat::Purpose;
use crate::policy::seat::Seat;

/// Conditions on commands and classes, each valid for its action.
fn policy() -> impl Strategy<Value = (bool, String)> {
    let role = prop::sample::select(vec!["engineer", "dba", "dpo"]);
    let execute = prop::sample::select(vec![
        "[\"read\", \"write\"].containsAll(context.effects)",
        "context.effects.contains(\"write\")",
        "context.effects.contains(\"opaque\")",
        "context.objects.contains(\"table:public.customers\")",
        "context.reads.contains(\"pii\")",
        "true",
        // Errors at run time.
        "9223372036854775807 + 1 > 0",
    ]);
    let reveal = prop::sample::select(vec![
        "context.class in Weir::Class::\"pii\"",
        "context.class == Weir::Class::\"pii.name\"",
        "true",
    ]);
    let connect = prop::sample::select(vec!["context.place_known", "true", "false"]);
    let action = prop_oneof![
        4 => (Just("execute"), execute.boxed()),
        2 => (Just("reveal"), reveal.boxed()),
        1 => (Just("connect"), connect.boxed()),
    ];
    let place = prop::sample::select(vec![
        "resource",
        "resource is Weir::Target",
        "resource == Weir::Target::\"customers\"",
        "resource == Weir::Target::\"wiki\"",
    ]);
    let scope = (role, any::<bool>(), place);
    (any::<bool>(), any::<bool>(), scope, action).prop_map(|(permits, approval, scope, asked)| {
        let (action, condition) = asked;
        let (role, any, place) = scope;
        let who = match (any, role) {
            (true, "dpo") => "principal is Weir::Principal".to_owned(),
            (true, _) => "principal".to_owned(),
            (false, role) => format!("principal in Weir::Role::\"{role}\""),
        };
        let approval = approval && action == "execute";
        let approvers = if approval { format!("@approvers(\"{role}\") ") } else { String::new() };
        let kind = if permits { "permit" } else { "forbid" };
        let also = match (approval, permits) {
            (true, true) => " when { context.approved }",
            (true, false) => " unless { context.approved }",
            (false, true | false) => "",
        };
        let text = format!(
            "{approvers}{kind} ({who}, action == Weir::Action::\"{action}\", {place}) when {{ {condition} }}{also};"
        );
        (permits, text)
    })
}

fn compiled(policies: &[(bool, String)]) -> Arc<Snapshot> {
    let mut parts = parts();
    let base = "permit (principal, action == Weir::Action::\"connect\", resource);";
    let texts = policies.iter().map(|(_, text)| text.as_str()).chain([base]);
    parts.policies = vec![("p.cedar".to_owned(), texts.collect::<Vec<_>>().join("\n"))];
    compile(parts)
}

/// How much an answer allows; what is held, how many roles may approve.
fn allows(verdict: &Verdict) -> (u8, usize) {
    match verdict {
        Verdict::Deny(_) => (0, 0),
        Verdict::Hold { approvers, .. } => (1, approvers.len()),
        Verdict::Allow { .. } => (2, 0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn adding_a_forbid_never_allows_more(
        policies in prop::collection::vec(policy(), 0..5),
        (_, added) in policy().prop_filter("a forbid", |(permits, _)| !permits),
    ) {
        let before = compiled(&policies);
        let mut more = policies;
        more.push((false, added));
        let after = compiled(&more);
        let opaque = command("query", "DO …", &[Effect::Execute, Effect::Opaque], None);
        let dana = dana();
        for principal in [alice(), dana.clone(), mei()] {
            let admitted = |snapshot: &Arc<Snapshot>| {
                ask(snapshot, &principal, &from("DE"), "customers", Protocol::Postgres)
            };
            let Ok(new) = admitted(&after) else { continue };
            let old = admitted(&before);
            prop_assert!(old.is_ok());
            let old = old.unwrap();
            for command in [select(), update(), delete_all(), opaque.clone()] {
                for approval in [None, Some(&Approval { by: &dana })] {
                    let old = decide(&old, &before, &command, approval, now());
                    let new = decide(&new, &after, &command, approval, now());
                    prop_assert!(allows(&new) <= allows(&old), "{old:?} became {new:?}");
                }
            }
            let all = select().reads;
            let shown = |permit, snapshot| reveal(permit, snapshot, &all, now()).shown().clone();
            prop_assert!(shown(&new, &after).is_subset(&shown(&old, &before)));
        }
    }

    #[test]
    fn asking_only_the_policies_in_scope_changes_no_answer(
        policies in prop::collection::vec(policy(), 0..6),
    ) {
        let snapshot = compiled(&policies);
        let place = snapshot.place(&name("customers")).unwrap();
        for principal in [alice(), dana(), olaf(), mei()] {
            let principal = Arc::new(principal);
            let seat = || {
                let who = (&principal, &from("DE"));
                Seat::take(&snapshot, who, place, Purpose::Session, now())
            };
            let (few, all) = (seat(), seat().asking_all());
            for command in [select(), update(), delete_all(), command("?", "?", &[], None)] {
                prop_assert_eq!(
                    decide::execute(&snapshot, &few, &unproven(), &command, None),
                    decide::execute(&snapshot, &all, &unproven(), &command, None)
                );
            }
            let classes = select().reads;
            prop_assert_eq!(
                decide::masks(&snapshot, &few, &unproven(), &classes),
                decide::masks(&snapshot, &all, &unproven(), &classes)
            );
        }
    }

    #[test]
    fn any_text_compiles_or_is_refused_with_a_place(text in "[a-z@(){};:\"= .\n\u{e9}]{0,80}") {
        if let Err(error) = demo_and(&text) {
            prop_assert_eq!(error.file.as_str(), "more.cedar");
            prop_assert!(error.line >= 1 && error.line <= text.lines().count() + 1);
        }
    }
}
