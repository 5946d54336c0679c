//! Logins and credentials: what is kept, what ends, and what two that come at once get.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest::test_runner::TestRunner;
use sqlx::Executor;

use super::Case;
use super::on_both;
use super::principal;
use super::seconds;
use crate::identity::Change;
use crate::identity::Vault;
use crate::model::Clock;
use crate::model::Protocol;
use crate::model::digest::Digest;
use crate::model::login::Authentication;
use crate::model::login::Credential;
use crate::model::login::CredentialId;
use crate::model::login::Device;
use crate::model::login::Ended;
use crate::model::login::Form;
use crate::model::login::Login;
use crate::model::login::LoginEnd;
use crate::model::login::LoginId;
use crate::model::login::Scope;
use crate::model::login::Use;
use crate::store::Store;
use crate::store::db::Db;
use crate::store::logins::CHANGES_OVERLAP;

on_both!(
    what_was_kept_is_found_again,
    an_update_keeps_what_it_does_not_bring,
    a_listing_has_the_living_ones_newest_first,
    exactly_one_of_many_ends_a_credential,
    exactly_one_of_many_ends_a_login_and_all_its_credentials,
    a_renewal_that_races_with_the_end_leaves_nothing_standing,
    an_update_does_not_bring_back_what_ended,
    logins_are_found_by_all_that_is_given,
    changes_are_told_even_by_a_gateway_whose_clock_is_late,
    what_is_over_is_swept_and_what_stands_stays,
    a_digest_is_never_found_standing_after_its_end,
    a_credential_without_a_login_is_not_kept,
);

/// How many come at once.
const AT_ONCE: usize = 16;
/// How often a race is run.
const ROUNDS: usize = 40;

fn login(subject: &str) -> Login {
    Login {
        id: LoginId::fresh(),
        principal: principal(subject).into(),
        authentication: Authentication {
            at: seconds(-5),
            acr: Some("loa2".to_owned()),
            amr: ["pwd".to_owned(), "otp".to_owned()].into(),
        },
        sid: Some(format!("sid-of-{subject}")),
        device: Device { address: Ipv4Addr::LOCALHOST.into(), label: "weir on laptop".to_owned() },
        began_at: seconds(0),
        ends_at: seconds(43_200),
        good_until: seconds(3_600),
        ended: None,
    }
}

fn credential(login: &Login, form: Form) -> Credential {
    let id = CredentialId::fresh();
    Credential {
        digest: Digest::of(id.as_str().as_bytes()),
        id,
        login: login.id.clone(),
        form,
        scope: Scope {
            region: "eu-central".parse().unwrap(),
            uses: [Use::Control, Use::Target(Protocol::Postgres)].into(),
            target: Some("customers".parse().unwrap()),
            host: None,
        },
        issued_at: seconds(0),
        expires_at: seconds(3_600),
        ended: None,
    }
}

fn ended(why: LoginEnd) -> Ended {
    Ended { at: seconds(60), why }
}

fn revoked() -> Ended {
    ended(LoginEnd::Revoked { by: "dana".to_owned() })
}

async fn begun(store: &Store, subject: &str) -> (Login, Credential) {
    let login = login(subject);
    store.begin(&login, Some(b"sealed")).await.unwrap();
    let credential = credential(&login, Form::Session);
    store.keep(&credential).await.unwrap();
    (login, credential)
}

/// Whether a digest is found as one that stands.
async fn stands(store: &Store, digest: &Digest) -> bool {
    let found = store.find(digest).await.unwrap();
    found.is_some_and(|(credential, login)| credential.ended.is_none() && login.ended.is_none())
}

async fn what_was_kept_is_found_again(case: Case) {
    let store = &case.store;
    let alice = login("alice");
    store.begin(&alice, Some(b"sealed \0 bytes")).await.unwrap();
    let (found, refresh) = store.login(&alice.id).await.unwrap().unwrap();
    assert_eq!((found, refresh.as_deref()), (alice.clone(), Some(&b"sealed \0 bytes"[..])));
    for form in [Form::Session, Form::Renewal, Form::Cookie, Form::Certificate] {
        let kept = credential(&alice, form);
        store.keep(&kept).await.unwrap();
        let (found, of) = store.find(&kept.digest).await.unwrap().unwrap();
        assert_eq!((&found, &of), (&kept, &alice));
        assert_eq!(store.credential(&kept.id).await.unwrap(), Some(kept));
    }
    let mut plain = login("bob");
    (plain.sid, plain.authentication.acr) = (None, None);
    store.begin(&plain, None).await.unwrap();
    assert_eq!(store.login(&plain.id).await.unwrap(), Some((plain, None)));
    assert_eq!(store.find(&Digest::of(b"unknown")).await.unwrap(), None);
    assert_eq!(store.login(&LoginId::fresh()).await.unwrap(), None);
    assert_eq!(store.credential(&CredentialId::fresh()).await.unwrap(), None);
    assert!(store.begin(&alice, None).await.is_err(), "an id is taken once");
    let (other, _) = case.other("weir-2").await;
    assert!(other.login(&alice.id).await.unwrap().is_some());
}

async fn an_update_keeps_what_it_does_not_bring(case: Case) {
    let store = &case.store;
    let (mut alice, kept) = begun(store, "alice").await;
    alice.good_until = seconds(7_200);
    let mut changed = principal("alice");
    changed.roles.clear();
    alice.principal = changed.into();
    store.update(&alice, None).await.unwrap();
    let found = store.login(&alice.id).await.unwrap().unwrap();
    assert_eq!(found, (alice.clone(), Some(b"sealed".to_vec())));
    assert_eq!(store.find(&kept.digest).await.unwrap().unwrap().1, alice);
    store.update(&alice, Some(b"rotated")).await.unwrap();
    assert_eq!(store.login(&alice.id).await.unwrap().unwrap().1, Some(b"rotated".to_vec()));
}

async fn a_listing_has_the_living_ones_newest_first(case: Case) {
    let store = &case.store;
    let (alice, first) = begun(store, "alice").await;
    let mut later = login("alice");
    later.began_at = seconds(10);
    store.begin(&later, None).await.unwrap();
    let (bob, _) = begun(store, "bob").await;
    let (gone, _) = begun(store, "alice").await;
    assert!(store.end_login(&gone.id, &revoked()).await.unwrap());
    let renewed = credential(&alice, Form::Session);
    store.keep(&renewed).await.unwrap();
    assert!(store.end_credential(&first.id, &ended(LoginEnd::Renewed)).await.unwrap());

    let only = Some(("https://login.example", "alice"));
    let expected = vec![(later.clone(), vec![]), (alice.clone(), vec![renewed])];
    assert_eq!(store.list(only).await.unwrap(), expected);
    let all = store.list(None).await.unwrap();
    assert_eq!(all.len(), 3);
    assert!(all.iter().any(|(login, _)| login.id == bob.id));
    assert!(store.list(Some(("https://other.example", "alice"))).await.unwrap().is_empty());
    // An hour later the credentials have expired, and a day later the logins.
    case.clock.set(seconds(3_600));
    assert!(store.list(None).await.unwrap().iter().all(|(_, own)| own.is_empty()));
    case.clock.set(seconds(86_400));
    assert!(store.list(None).await.unwrap().is_empty());
}

/// Runs `work` [`AT_ONCE`] times at once, half on each gateway; how many got `true`.
async fn winners<F>(case: &Case, work: impl Fn(Store) -> F) -> usize
where
    F: Future<Output = bool> + Send + 'static,
{
    let (other, _) = case.other("weir-2").await;
    let start = std::sync::Arc::new(tokio::sync::Barrier::new(AT_ONCE));
    let tasks = (0..AT_ONCE).map(|at| {
        let work = work(if at % 2 == 0 { case.store.clone() } else { other.clone() });
        let start = std::sync::Arc::clone(&start);
        tokio::spawn(async move {
            start.wait().await;
            work.await
        })
    });
    let mut won = 0;
    for task in tasks.collect::<Vec<_>>() {
        won += usize::from(task.await.unwrap());
    }
    won
}

async fn exactly_one_of_many_ends_a_credential(case: Case) {
    let (_, kept) = begun(&case.store, "alice").await;
    let won = winners(&case, |store| {
        let id = kept.id.clone();
        async move { store.end_credential(&id, &ended(LoginEnd::Renewed)).await.unwrap() }
    });
    assert_eq!(won.await, 1);
    let won = winners(&case, |store| {
        let id = kept.id.clone();
        async move { store.end_credential(&id, &revoked()).await.unwrap() }
    });
    assert_eq!(won.await, 1, "sessions that began with it live: it can be revoked, once");
    assert!(!case.store.end_credential(&kept.id, &ended(LoginEnd::Renewed)).await.unwrap());
    let found = case.store.credential(&kept.id).await.unwrap().unwrap();
    assert_eq!(found.ended, Some(revoked()), "that end stays");
    assert!(!case.store.end_credential(&CredentialId::fresh(), &revoked()).await.unwrap());
}

async fn exactly_one_of_many_ends_a_login_and_all_its_credentials(case: Case) {
    let (alice, kept) = begun(&case.store, "alice").await;
    let renewed = credential(&alice, Form::Renewal);
    case.store.keep(&renewed).await.unwrap();
    let (_, of_bob) = begun(&case.store, "bob").await;
    assert!(case.store.end_credential(&renewed.id, &ended(LoginEnd::Renewed)).await.unwrap());
    let won = winners(&case, |store| {
        let id = alice.id.clone();
        async move { store.end_login(&id, &revoked()).await.unwrap() }
    });
    assert_eq!(won.await, 1);
    assert!(!case.store.end_login(&alice.id, &ended(LoginEnd::LoggedOut)).await.unwrap());
    let (found, refresh) = case.store.login(&alice.id).await.unwrap().unwrap();
    assert_eq!((found.ended, refresh), (Some(revoked()), None), "its refresh token went with it");
    let (found, of) = case.store.find(&kept.digest).await.unwrap().unwrap();
    assert_eq!((found.ended, of.ended), (Some(revoked()), Some(revoked())));
    let earlier = case.store.credential(&renewed.id).await.unwrap().unwrap();
    assert_eq!(earlier.ended, Some(ended(LoginEnd::Renewed)), "its own end stays");
    assert!(stands(&case.store, &of_bob.digest).await, "another's login is untouched");
}

/// Renewing writes a new credential; whichever comes first, the end counts.
async fn a_renewal_that_races_with_the_end_leaves_nothing_standing(case: Case) {
    let (other, _) = case.other("weir-2").await;
    for _ in 0..ROUNDS {
        let (alice, old) = begun(&case.store, "alice").await;
        let renewal = async {
            if !case.store.end_credential(&old.id, &ended(LoginEnd::Renewed)).await.unwrap() {
                return Vec::new();
            }
            case.store.update(&alice, Some(b"rotated")).await.unwrap();
            let new = vec![credential(&alice, Form::Session), credential(&alice, Form::Renewal)];
            for credential in &new {
                case.store.keep(credential).await.unwrap();
            }
            new
        };
        let id = alice.id.clone();
        let other = other.clone();
        let end = tokio::spawn(async move { other.end_login(&id, &revoked()).await.unwrap() });
        let new = renewal.await;
        assert!(end.await.unwrap());
        for credential in new.iter().chain([&old]) {
            let (found, of) = case.store.find(&credential.digest).await.unwrap().unwrap();
            assert!(found.ended.is_some() && of.ended.is_some(), "{found:?}");
        }
        assert_eq!(case.store.login(&alice.id).await.unwrap().unwrap().1, None);
        let mut changes = case.store.changed_since(case.clock.now()).await.unwrap().into_iter();
        assert!(changes.any(|change| match change {
            Change::Login(login) => login.id == alice.id && login.ended == Some(revoked()),
            Change::Credential(..) => false,
        }));
    }
}

/// A login's end is being written; a credential that comes meanwhile waits for it and is ended too.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_comes_while_its_login_ends_waits_for_the_end() {
    let case = Case::postgres().await;
    let (alice, _) = begun(&case.store, "alice").await;
    let Db::Postgres(pool) = &case.store.db else { panic!("a PostgreSQL") };
    let mut end = pool.begin().await.unwrap();
    let text = "UPDATE logins SET ended_at = 1, ended_why = '{\"why\":\"logged-out\"}'";
    end.execute(text).await.unwrap();
    let late = credential(&alice, Form::Session);
    let (store, kept) = (case.store.clone(), late.clone());
    let keeping = tokio::spawn(async move { store.keep(&kept).await });
    let waits = "SELECT 1 FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while !keeping.is_finished() && pool.fetch_all(waits).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    end.commit().await.unwrap();
    keeping.await.unwrap().unwrap();
    let found = case.store.credential(&late.id).await.unwrap().unwrap();
    assert_eq!(found.ended.unwrap().why, LoginEnd::LoggedOut);
}

async fn an_update_does_not_bring_back_what_ended(case: Case) {
    let (mut alice, kept) = begun(&case.store, "alice").await;
    assert!(case.store.end_login(&alice.id, &revoked()).await.unwrap());
    alice.good_until = seconds(9_999);
    case.store.update(&alice, Some(b"rotated")).await.unwrap();
    let (found, refresh) = case.store.login(&alice.id).await.unwrap().unwrap();
    assert_eq!((found.ended, refresh), (Some(revoked()), None));
    assert_ne!(found.good_until, alice.good_until);
    assert!(!stands(&case.store, &kept.digest).await);
    let late = credential(&alice, Form::Session);
    case.store.keep(&late).await.unwrap();
    let (found, _) = case.store.find(&late.digest).await.unwrap().unwrap();
    assert_eq!(found.ended, Some(revoked()), "it says why it is of no use");
}

async fn logins_are_found_by_all_that_is_given(case: Case) {
    const ISSUER: &str = "https://login.example";
    let store = &case.store;
    let (alice, _) = begun(store, "alice").await;
    let (bob, _) = begun(store, "bob").await;
    let (gone, _) = begun(store, "alice").await;
    assert!(store.end_login(&gone.id, &revoked()).await.unwrap());
    let found = |subject, sid| store.logins_of(ISSUER, subject, sid);
    assert_eq!(found(Some("alice"), None).await.unwrap(), std::slice::from_ref(&alice.id));
    assert_eq!(found(None, Some("sid-of-bob")).await.unwrap(), [bob.id]);
    assert_eq!(found(Some("alice"), Some("sid-of-alice")).await.unwrap(), [alice.id]);
    assert!(found(Some("alice"), Some("sid-of-bob")).await.unwrap().is_empty());
    assert!(found(Some("alice' OR '1'='1"), None).await.unwrap().is_empty());
    let elsewhere = store.logins_of("https://other.example", Some("alice"), None);
    assert!(elsewhere.await.unwrap().is_empty());
}

async fn changes_are_told_even_by_a_gateway_whose_clock_is_late(case: Case) {
    let (store, (late, clock)) = (&case.store, case.other("weir-2").await);
    let (alice, kept) = begun(store, "alice").await;
    case.clock.set(seconds(1_000));
    assert!(store.changed_since(seconds(1_000)).await.unwrap().is_empty(), "all is known");
    // The other gateway's clock stands a little before what this one has read up to.
    let behind = i64::try_from(CHANGES_OVERLAP.as_secs()).unwrap() - 1;
    clock.set(seconds(1_000 - behind));
    assert!(late.end_credential(&kept.id, &ended(LoginEnd::LoggedOut)).await.unwrap());
    let changes = store.changed_since(seconds(1_000)).await.unwrap();
    let told = ended(LoginEnd::LoggedOut);
    assert_eq!(changes, [Change::Credential(kept.id.clone(), alice.id.clone(), told)]);
    assert!(late.end_login(&alice.id, &revoked()).await.unwrap());
    let changes = store.changed_since(seconds(1_000)).await.unwrap();
    let [Change::Login(login), Change::Credential(id, of, _)] = &*changes else {
        panic!("{changes:?}")
    };
    assert_eq!((&login.id, &login.ended), (&alice.id, &Some(revoked())));
    assert_eq!((id, of), (&kept.id, &alice.id));
    // What changes without an end is told as well: until when a login is good.
    let (bob, _) = begun(&late, "bob").await;
    let changes = store.changed_since(seconds(1_000)).await.unwrap();
    assert!(changes.contains(&Change::Login(Box::new(bob))));
}

async fn what_is_over_is_swept_and_what_stands_stays(case: Case) {
    let store = &case.store;
    let (stays, kept) = begun(store, "alice").await;
    let (gone, of_gone) = begun(store, "bob").await;
    assert!(store.end_login(&gone.id, &revoked()).await.unwrap());
    let mut over = login("carol");
    over.ends_at = seconds(30);
    store.begin(&over, None).await.unwrap();
    let mut expired = credential(&stays, Form::Session);
    expired.expires_at = seconds(30);
    store.keep(&expired).await.unwrap();
    assert_eq!(store.sweep(seconds(30)).await.unwrap(), 0, "not yet");
    assert_eq!(store.sweep(seconds(61)).await.unwrap(), 3);
    assert!(stands(store, &kept.digest).await);
    for digest in [&of_gone.digest, &expired.digest] {
        assert_eq!(store.find(digest).await.unwrap(), None);
    }
    for id in [&gone.id, &over.id] {
        assert_eq!(store.login(id).await.unwrap(), None);
    }
    assert_eq!(store.credential(&of_gone.id).await.unwrap(), None);
}

async fn a_credential_without_a_login_is_not_kept(case: Case) {
    let stray = credential(&login("alice"), Form::Session);
    assert!(case.store.keep(&stray).await.is_err());
    assert_eq!(case.store.find(&stray.digest).await.unwrap(), None);
}

/// What may happen, in any order; numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    Begin,
    Keep(usize),
    Update(usize),
    EndCredential(usize),
    EndLogin(usize),
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Begin),
        4 => any::<usize>().prop_map(Step::Keep),
        2 => any::<usize>().prop_map(Step::Update),
        2 => any::<usize>().prop_map(Step::EndCredential),
        2 => any::<usize>().prop_map(Step::EndLogin),
        1 => Just(Step::Sweep),
    ];
    proptest::collection::vec(step, 1..24)
}

async fn a_digest_is_never_found_standing_after_its_end(case: Case) {
    let runtime = tokio::runtime::Handle::current();
    let store = case.store.clone();
    let run = move || {
        let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
        runner.run(&steps(), |steps| {
            runtime.block_on(walk(&store, &steps));
            Ok(())
        })
    };
    tokio::task::spawn_blocking(run).await.unwrap().unwrap();
}

async fn walk(store: &Store, steps: &[Step]) {
    let (mut logins, mut credentials) = (Vec::<Login>::new(), Vec::<Credential>::new());
    // Whether each login and credential stands.
    let mut standing = BTreeMap::<String, bool>::new();
    for step in steps {
        let chosen = |at: usize, count: usize| (count > 0).then(|| at % count);
        match step {
            Step::Begin => {
                let login = login("alice");
                store.begin(&login, Some(b"sealed")).await.unwrap();
                standing.insert(login.id.to_string(), true);
                logins.push(login);
            }
            Step::Keep(at) => {
                let Some(at) = chosen(*at, logins.len()) else { continue };
                let credential = credential(&logins[at], Form::Session);
                store.keep(&credential).await.unwrap();
                standing.insert(credential.id.to_string(), standing[logins[at].id.as_str()]);
                credentials.push(credential);
            }
            Step::Update(at) => {
                let Some(at) = chosen(*at, logins.len()) else { continue };
                logins[at].good_until += Duration::from_mins(1);
                store.update(&logins[at], None).await.unwrap();
            }
            Step::EndCredential(at) => {
                let Some(at) = chosen(*at, credentials.len()) else { continue };
                let done = store.end_credential(&credentials[at].id, &revoked()).await.unwrap();
                let stood = standing.insert(credentials[at].id.to_string(), false);
                assert_eq!(Some(done), stood);
            }
            Step::EndLogin(at) => {
                let Some(at) = chosen(*at, logins.len()) else { continue };
                let done = store.end_login(&logins[at].id, &revoked()).await.unwrap();
                assert_eq!(Some(done), standing.insert(logins[at].id.to_string(), false));
                for credential in credentials.iter().filter(|c| c.login == logins[at].id) {
                    standing.insert(credential.id.to_string(), false);
                }
            }
            // Older than anything here: nothing may go.
            Step::Sweep => assert_eq!(store.sweep(seconds(-1)).await.unwrap(), 0),
        }
        for credential in &credentials {
            let expected = standing[credential.id.as_str()];
            assert_eq!(stands(store, &credential.digest).await, expected, "{step:?}");
        }
    }
    for login in &logins {
        let only = Some((login.principal.issuer.as_str(), login.principal.subject.as_str()));
        let listed = store.list(only).await.unwrap().into_iter().any(|(l, _)| l.id == login.id);
        assert_eq!(listed, standing[login.id.as_str()]);
        store.end_login(&login.id, &revoked()).await.unwrap();
    }
}
