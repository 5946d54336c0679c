//! When another login would help, and what it must be like.

use jiff::SignedDuration;
use tokio::sync::watch;

use super::*;
use crate::identity::Standing;
use crate::model::login::Authentication;
use crate::model::login::StepUp;
use crate::model::refusal::RefusalCode;
use crate::policy::Ask;
use crate::policy::explain::Connect;
use crate::policy::judge;
use crate::policy::may;
use crate::policy::readmit;
use crate::policy::reveal;
use crate::policy::standpoint;

fn login(age_s: i64, acr: Option<&str>, amr: &[&str]) -> Authentication {
    Authentication {
        at: now().checked_sub(SignedDuration::from_secs(age_s)).unwrap(),
        acr: acr.map(str::to_owned),
        amr: amr.iter().map(|method| (*method).to_owned()).collect(),
    }
}

fn need(age_s_max: Option<u64>, acr: Option<&str>, amr: &[&str]) -> StepUp {
    StepUp {
        age_s_max,
        acr: acr.map(str::to_owned),
        amr: amr.iter().map(|method| (*method).to_owned()).collect(),
    }
}

fn verdict_of(
    snapshot: &Snapshot,
    principal: &Principal,
    login: Option<&Authentication>,
    command: &Command,
) -> Verdict {
    let origin = from("DE");
    let who = Who { principal, origin: &origin, authentication: login };
    judge(snapshot, who, &name("customers"), Some(command), now()).command.unwrap()
}

/// A forbid of `execute` on everything, with what stands between the parentheses and the end.
fn forbidding(annotations: &str, rest: &str) -> Arc<Snapshot> {
    demo_and(&format!(
        "@id(\"more\") {annotations}\n\
         forbid (principal, action == Weir::Action::\"execute\", resource) {rest};"
    ))
    .unwrap()
}

#[test]
fn the_worked_example_asks_for_a_fresh_login_for_changes_and_a_key_for_approvals() {
    let snapshot = demo_with("customers", |facts| {
        facts.labels = set(["prod", "step-up"].map(str::to_owned));
    });
    let (dana, alice) = (dana(), alice());
    let old = login(901, None, &["pwd"]);
    let fresh = login(900, None, &["pwd"]);
    let refusal = denied(verdict_of(&snapshot, &dana, Some(&old), &update()));
    assert_eq!(refusal.code, RefusalCode::StepUp);
    assert_eq!(refusal.step_up.as_deref(), Some(&need(Some(900), None, &[])));
    assert_eq!(refusal.reason, "changes to production need a login of the last 15 minutes");
    assert_eq!(refusal.hint.as_deref(), Some("run `weir login --fresh`, then try again"));
    assert_eq!(ids(&refusal.rules), ["step-up.changes-need-a-fresh-login"]);
    assert_eq!(denied(verdict_of(&snapshot, &dana, None, &update())).code, RefusalCode::StepUp);
    assert_eq!(verdict_of(&snapshot, &dana, Some(&fresh), &update()).word(), "allow");
    assert_eq!(verdict_of(&snapshot, &dana, Some(&old), &select()).word(), "allow");
    // What nobody could have is refused as before, and what waits for others waits after the login.
    let refusal = denied(verdict_of(&snapshot, &dana, Some(&old), &delete_all()));
    assert_eq!((refusal.code, refusal.step_up), (RefusalCode::Denied, None));
    let refusal = denied(verdict_of(&snapshot, &alice, Some(&old), &update()));
    assert_eq!(refusal.code, RefusalCode::StepUp);
    assert_eq!(verdict_of(&snapshot, &alice, Some(&fresh), &update()).word(), "hold");

    let (command, approvers) = (update(), set(["dba".to_owned()]));
    let target = name("customers");
    let ask = Ask::Approve {
        requester: &alice,
        target: &target,
        command: &command,
        approvers: &approvers,
    };
    let answer = |login: &Authentication| {
        let origin = from("DE");
        let who = Who { principal: &dana, origin: &origin, authentication: Some(login) };
        may(&snapshot, who, &ask, now())
    };
    let refusal = answer(&fresh).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::StepUp);
    assert_eq!(refusal.step_up.as_deref(), Some(&need(None, None, &["hwk"])));
    let advice = "run `weir login --fresh` and sign in with hwk, then try again";
    assert_eq!(refusal.hint.as_deref(), Some(advice));
    answer(&login(90_000, None, &["hwk"])).unwrap();
    // Without the labels, nobody is asked for anything.
    assert_eq!(verdict_of(&demo(), &dana, None, &update()).word(), "allow");
}

#[test]
fn what_policies_ask_for_adds_up() {
    let snapshot = demo_and(
        "@id(\"a\") @reason(\"fresh\") @step_up(\"max_age=60; amr=hwk\")\n\
         forbid (principal, action == Weir::Action::\"execute\", resource)\n\
         unless { context.auth_age_s < 60 && context.amr.contains(\"hwk\") };\n\
         @id(\"b\") @reason(\"strong\") @hint(\"bring the blue key\") @step_up(\"acr=phr\")\n\
         forbid (principal, action == Weir::Action::\"execute\", resource)\n\
         unless { context has acr && context.acr == \"phr\" };",
    )
    .unwrap();
    let refusal = denied(verdict_of(&snapshot, &dana(), None, &select()));
    assert_eq!(refusal.step_up.as_deref(), Some(&need(Some(60), Some("phr"), &["hwk"])));
    assert_eq!(refusal.reason, "fresh; strong");
    assert_eq!(ids(&refusal.rules), ["a", "b"]);
    assert_eq!(
        refusal.hint.as_deref(),
        Some(
            "run `weir login --fresh --acr phr` and sign in with hwk, then try again; \
             bring the blue key"
        )
    );
    let strong = login(59, Some("phr"), &["hwk", "pwd"]);
    assert_eq!(verdict_of(&snapshot, &dana(), Some(&strong), &select()).word(), "allow");
    let weak = login(59, Some("phr"), &["pwd"]);
    let refusal = denied(verdict_of(&snapshot, &dana(), Some(&weak), &select()));
    assert_eq!(ids(&refusal.rules), ["a"]);
}

#[test]
fn a_login_that_would_not_help_is_not_asked_for() {
    let plain = |snapshot: &Snapshot, principal: &Principal| {
        let refusal = denied(verdict_of(snapshot, principal, None, &select()));
        assert_eq!((refusal.code, refusal.step_up), (RefusalCode::Denied, None), "{principal}");
    };
    let fresh = "unless { context.auth_age_s <= 900 }";
    // A policy that does not say so is a plain no.
    plain(&forbidding("", fresh), &dana());
    // One that asks for less than it wants is no use either.
    plain(&forbidding("@step_up(\"max_age=3600\")", fresh), &dana());
    // Two that contradict each other.
    let acr = |acr: &str| {
        format!(
            "@step_up(\"acr={acr}\") forbid (principal, action, resource)\n\
             unless {{ context has acr && context.acr == \"{acr}\" }};"
        )
    };
    plain(&demo_and(&format!("{}{}", acr("a"), acr("b"))).unwrap(), &dana());
    // A policy that no login lifts.
    let more = format!("{} forbid (principal, action, resource);", acr("a"));
    plain(&demo_and(&more).unwrap(), &dana());
    // Programs cannot sign in.
    let stepping = forbidding("@step_up(\"max_age=900\")", fresh);
    let mut job = dana();
    job.kind = Kind::Workload;
    plain(&stepping, &job);
    // A policy that breaks is a no as ever.
    let broken = forbidding(
        "@step_up(\"max_age=900\")",
        "when { context.auth_age_s * 9223372036854775807 > 900 }",
    );
    let refusal = denied(verdict_of(&broken, &dana(), Some(&login(9, None, &[])), &select()));
    assert_eq!(refusal.code, RefusalCode::Denied);
}

#[test]
fn a_permit_may_ask_for_a_login_too() {
    let eve = person("eve", &["guest"], Some("acme-de"));
    let snapshot = demo_and(
        "@id(\"guests\") @step_up(\"acr=phr\")\n\
         permit (principal in Weir::Role::\"guest\", action, resource)\n\
         when { context has acr && context.acr == \"phr\" };",
    )
    .unwrap();
    let refusal = denied(verdict_of(&snapshot, &eve, None, &select()));
    assert_eq!(refusal.step_up.as_deref(), Some(&need(None, Some("phr"), &[])));
    assert_eq!(refusal.reason, "this needs a login with acr phr");
    assert_eq!(ids(&refusal.rules), ["guests"]);
    let strong = login(90_000, Some("phr"), &[]);
    assert_eq!(verdict_of(&snapshot, &eve, Some(&strong), &select()).word(), "allow");
    // Who has no such permit learns nothing of it, nor of the target.
    let mallory = person("mallory", &[], Some("acme-de"));
    let refusal = denied(verdict_of(&snapshot, &mallory, None, &select()));
    assert_eq!(refusal.code, RefusalCode::Denied);
    let origin = from("DE");
    let connect = |principal: &Principal| {
        judge(&snapshot, who(principal, &origin), &name("customers"), None, now()).connect
    };
    assert!(connect(&eve).asks_for_login());
    let Connect::Refuse(refusal) = connect(&mallory) else { panic!("admitted") };
    assert_eq!(refusal.code, RefusalCode::NoTarget);
}

#[test]
fn no_login_lifts_what_the_law_forbids() {
    let snapshot = demo_and(
        "@id(\"everything\") @step_up(\"max_age=900\")\n\
         permit (principal, action, resource) when { context.auth_age_s < 900 };",
    )
    .unwrap();
    let origin = from("SG");
    for login in [None, Some(login(0, Some("phr"), &["hwk"]))] {
        let mei = mei();
        let who = Who { principal: &mei, origin: &origin, authentication: login.as_ref() };
        let judged = judge(&snapshot, who, &name("customers"), Some(&select()), now());
        let refusal = denied(judged.command.unwrap());
        assert_eq!((refusal.code, refusal.step_up), (RefusalCode::Residency, None));
        let Connect::Refuse(refusal) = judged.connect else { panic!("admitted") };
        assert_ne!(refusal.code, RefusalCode::StepUp);
    }
}

#[test]
fn whoever_may_choose_between_a_login_and_an_approval_signs_in() {
    let snapshot = forbidding(
        "@approvers(\"dba\") @step_up(\"max_age=900\")",
        "unless { context.approved || context.auth_age_s < 900 }",
    );
    let refusal = denied(verdict_of(&snapshot, &dana(), None, &select()));
    assert_eq!(refusal.code, RefusalCode::StepUp);
    let mut job = dana();
    job.kind = Kind::Workload;
    assert_eq!(verdict_of(&snapshot, &job, None, &select()).word(), "hold");
}

/// A live session of dana's, and the login that it rests on.
fn live(snapshot: &Arc<Snapshot>, login: Authentication) -> (Permit, watch::Sender<Standing>) {
    let standing = Standing {
        principal: Arc::new(dana()),
        authentication: login,
        good_until: later(),
        ended: None,
        revoked: BTreeMap::new(),
    };
    let (tell, standing) = watch::channel(standing);
    let verified = Verified::for_test_by_login(standing);
    let (target, origin) = (name("customers"), from("DE"));
    let (session, protocol) = (SessionId::fresh(), Protocol::Postgres);
    let asked = Asked { session, target: &target, protocol, origin: &origin };
    (admit(&verified, asked, snapshot, now()).unwrap(), tell)
}

fn after(seconds: i64) -> Timestamp {
    now().checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

#[test]
fn a_login_in_the_middle_of_a_session_counts_at_once_and_gets_old_again() {
    let snapshot = forbidding("@step_up(\"max_age=900\")", "unless { context.auth_age_s <= 900 }");
    let (permit, standing) = live(&snapshot, login(0, None, &[]));
    let word = |at| decide(&permit, &snapshot, &select(), None, at);
    assert_eq!(word(now()).word(), "allow");
    assert_eq!(word(after(900)).word(), "allow");
    assert_eq!(denied(word(after(901))).code, RefusalCode::StepUp);
    standing.send_modify(|standing| standing.authentication.at = after(901));
    assert_eq!(word(after(901)).word(), "allow");
    assert_eq!(denied(word(after(1802))).code, RefusalCode::StepUp);
}

#[test]
fn what_is_shown_follows_the_login() {
    let reveal_if = |condition: &str| {
        demo_and(&format!(
            "forbid (principal, action == Weir::Action::\"reveal\", resource)\n\
             unless {{ {condition} }};"
        ))
        .unwrap()
    };
    let all = select().reads;
    let by_age = reveal_if("context.auth_age_s <= 60");
    let (permit, standing) = live(&by_age, login(0, None, &[]));
    let shown =
        |snapshot: &Snapshot, permit: &Permit, at| reveal(permit, snapshot, &all, at).shown().len();
    assert_eq!((shown(&by_age, &permit, now()), shown(&by_age, &permit, after(61))), (3, 0));
    // Whoever keeps an answer learns that it may be another one: with every second here, and with
    // another login everywhere.
    let kept = standpoint(&permit, &by_age, now());
    assert_eq!(standpoint(&permit, &by_age, now()), kept);
    assert_ne!(standpoint(&permit, &by_age, after(1)), kept);
    standing.send_modify(|standing| standing.authentication.at = after(61));
    assert_eq!(shown(&by_age, &permit, after(61)), 3);

    let by_key = reveal_if("context.amr.contains(\"hwk\")");
    let (permit, standing) = live(&by_key, login(0, None, &[]));
    let kept = standpoint(&permit, &by_key, now());
    assert_eq!(standpoint(&permit, &by_key, after(1)), kept);
    assert_eq!(shown(&by_key, &permit, now()), 0);
    standing.send_modify(|standing| standing.authentication = login(0, None, &["hwk"]));
    assert_ne!(standpoint(&permit, &by_key, now()), kept);
    assert_eq!(shown(&by_key, &permit, now()), 3);
}

#[test]
fn a_login_need_be_fresh_to_begin_a_session_and_as_strong_as_ever_to_go_on() {
    let snapshot = demo_and(
        "@id(\"begin\") @step_up(\"max_age=60; amr=hwk\")\n\
         forbid (principal, action == Weir::Action::\"connect\", resource)\n\
         unless { context.auth_age_s <= 60 && context.amr.contains(\"hwk\") };",
    )
    .unwrap();
    let refusal =
        ask(&snapshot, &dana(), &from("DE"), "customers", Protocol::Postgres).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::StepUp);
    let (permit, standing) = live(&snapshot, login(60, None, &["hwk"]));
    readmit(&permit, &snapshot, after(3600)).unwrap();
    standing.send_modify(|standing| standing.authentication.amr = BTreeSet::new());
    let refusal = readmit(&permit, &snapshot, now()).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::StepUp);
}
