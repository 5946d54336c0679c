//! The index of sessions, holds and principals, and whose rows are whose.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::Executor;
use sqlx::sqlite::SqliteConnectOptions;

use super::Case;
use super::on_both;
use super::open;
use super::principal;
use super::seconds;
use crate::audit::entry::Opened;
use crate::audit::entry::TransferNote;
use crate::audit::entry::Volume;
use crate::model::Command;
use crate::model::CommandId;
use crate::model::HoldId;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::SessionId;
use crate::model::clock::Standing;
use crate::model::digest::Digest;
use crate::model::place::PlaceMethod;
use crate::model::principal::Actor;
use crate::model::principal::Kind;
use crate::store::Filter;
use crate::store::Journal;
use crate::store::Note;
use crate::store::Owner;
use crate::store::Place;
use crate::store::Store;
use crate::store::Whose;
use crate::store::db::Statement;
use crate::store::migrations;

on_both!(
    a_session_is_listed_while_it_lives_and_after,
    what_an_agent_did_is_not_its_persons_own,
    gateways_that_share_a_database_close_only_their_own_rows,
    a_hold_is_listed_whatever_its_command_has_in_it,
    whoever_was_seen_last_under_a_name_is_found,
);

pub(super) fn opened(session: SessionId, subject: &str) -> Note {
    let opened = Opened {
        session,
        principal: principal(subject).into(),
        origin: Origin {
            address: Ipv4Addr::LOCALHOST.into(),
            country: Some("DE".parse().unwrap()),
            method: PlaceMethod::Unknown,
        },
        target: "customers".parse().unwrap(),
        protocol: Protocol::Postgres,
        region: "eu-central".parse().unwrap(),
        snapshot: Digest::ZERO,
        rules: Vec::new(),
        transfer: TransferNote {
            outcome: "none".to_owned(),
            rows: Vec::new(),
            reason: String::new(),
        },
        suppressed: false,
        observed: None,
        observe: true,
        proof: None,
        law: None,
    };
    Note::Opened { at: seconds(0), opened: Box::new(opened) }
}

fn closed(session: SessionId) -> Note {
    let volume = Volume { rows: 3, bytes: u64::MAX, masked: 1 };
    let reason = "client_left: bye \0".to_owned();
    Note::Closed { at: seconds(5), session, reason, commands: 7, denied: 2, volume }
}

pub(super) fn held(session: SessionId, text: &str) -> (HoldId, Note) {
    let hold = HoldId::fresh();
    let command = Command::new("query", text);
    let note = Note::Held {
        at: seconds(1),
        hold: hold.clone(),
        command_id: CommandId { session, number: 4 },
        principal: "alice-name".to_owned(),
        target: "customers".to_owned(),
        command: Arc::new(command),
    };
    (hold, note)
}

fn all() -> Filter {
    Filter { limit: Some(10), ..Filter::default() }
}

/// Writes rows as the gateway does, and waits until all are written.
pub(super) async fn write(store: &Store, notes: impl IntoIterator<Item = Note>) {
    let (journal, written) = Journal::start(store.clone());
    notes.into_iter().for_each(|note| journal.note(note));
    drop(journal);
    written.await.unwrap();
}

async fn a_session_is_listed_while_it_lives_and_after(case: Case) {
    let store = &case.store;
    let (one, two) = (SessionId::fresh(), SessionId::fresh());
    write(store, [opened(one, "alice"), opened(two, "bob")]).await;
    let own = Whose::Own(Owner::from(&principal("alice")));
    let rows = store.sessions(&Filter { whose: own, ..all() }).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].session, rows[0].gateway.as_str()), (one, "weir-1"));
    assert_eq!((rows[0].closed_at, rows[0].observe), (None, true));
    assert_eq!(rows[0].country, Some("DE".parse().unwrap()));
    write(store, [closed(one)]).await;
    let row = store.session(one).await.unwrap().unwrap();
    assert_eq!((row.closed_at, row.commands, row.denied), (Some(seconds(5)), 7, 2));
    assert_eq!((row.rows, row.masked), (3, 1));
    assert_eq!(row.bytes, u64::try_from(i64::MAX).unwrap(), "the largest that can be kept");
    assert!(row.reason.unwrap().starts_with("client_left"));
    assert_eq!(store.sessions(&all()).await.unwrap().len(), 2);
    assert_eq!(store.sessions(&Filter { limit: Some(1), ..all() }).await.unwrap().len(), 1);
    assert!(store.session(SessionId::fresh()).await.unwrap().is_none());
}

/// The session of `agent`, at its person's name and subject.
fn opened_by(session: SessionId, agent: Principal) -> Note {
    let Note::Opened { at, mut opened } = opened(session, "alice") else { unreachable!() };
    opened.principal = agent.into();
    Note::Opened { at, opened }
}

async fn what_an_agent_did_is_not_its_persons_own(case: Case) {
    let store = &case.store;
    let (by_hand, by_bot, old) = (SessionId::fresh(), SessionId::fresh(), SessionId::fresh());
    let alice = principal("alice");
    let (issuer, subject, name) = (alice.issuer.clone(), "bot".to_owned(), "bot".to_owned());
    let actors = vec![Actor { issuer, subject, name }];
    let bot = Principal { kind: Kind::Agent, actors, ..alice.clone() };
    write(store, [opened(by_hand, "alice"), opened_by(by_bot, bot.clone()), opened(old, "alice")])
        .await;
    let forgotten = "UPDATE sessions SET acting = NULL WHERE session = $1";
    store.db.execute(Statement::new(forgotten).with(old.to_string())).await.unwrap();
    let found = async |whose: Whose| {
        let rows = store.sessions(&Filter { whose, ..all() }).await.unwrap();
        rows.iter().map(|row| row.session).collect::<BTreeSet<_>>()
    };
    assert_eq!(found(Whose::Own(Owner::from(&alice))).await, [by_hand].into());
    assert_eq!(found(Whose::Own(Owner::from(&bot))).await, [by_bot].into());
    assert_eq!(found(Whose::Others(Owner::from(&alice))).await, [by_bot, old].into());
    assert_eq!(found(Whose::Others(Owner::from(&bot))).await, [by_hand, old].into());
    // Whoever reads the recording again says who acted.
    write(store, [opened(old, "alice")]).await;
    assert_eq!(found(Whose::Own(Owner::from(&alice))).await, [by_hand, old].into());
}

async fn gateways_that_share_a_database_close_only_their_own_rows(case: Case) {
    let one = &case.store;
    let (two, _) = case.other("weir-2").await;
    let (of_one, of_two) = (SessionId::fresh(), SessionId::fresh());
    let ((waits_at_one, of_first), (waits_at_two, of_second)) =
        (held(of_one, "a"), held(of_two, "b"));
    write(one, [opened(of_one, "alice"), of_first]).await;
    write(&two, [opened(of_two, "bob"), of_second]).await;
    assert_eq!(one.sessions(&all()).await.unwrap().len(), 2, "each sees the other's");
    // The first comes back after an end without order.
    let again = open(&case.place, "weir-1", &case.clock).await;
    assert_eq!(again.close_left_open(seconds(9)).await.unwrap(), 1);
    let row = two.session(of_one).await.unwrap().unwrap();
    assert_eq!((row.closed_at, row.reason.as_deref()), (Some(seconds(9)), Some("unclean")));
    assert_eq!(two.session(of_two).await.unwrap().unwrap().closed_at, None);
    for row in two.holds(10).await.unwrap() {
        let ending = (row.hold == waits_at_one).then_some("withdrawn");
        assert!(row.hold == waits_at_one || row.hold == waits_at_two);
        assert_eq!(row.ending.as_deref(), ending);
    }
    assert_eq!(again.close_left_open(seconds(10)).await.unwrap(), 0);
}

async fn a_hold_is_listed_whatever_its_command_has_in_it(case: Case) {
    let (hold, note) = held(SessionId::fresh(), "SELECT '\0'; -- \u{1f980}");
    write(&case.store, [note]).await;
    let rows = case.store.holds(10).await.unwrap();
    assert_eq!((rows.len(), &rows[0].hold, rows[0].number), (1, &hold, 4));
    assert_eq!(rows[0].command, "SELECT '\u{fffd}'; -- \u{1f980}");
    let by = Some("dana".to_owned());
    write(&case.store, [Note::HoldEnded { at: seconds(2), hold, ending: "approved", by }]).await;
    let row = case.store.holds(10).await.unwrap().remove(0);
    assert_eq!((row.ended_at, row.decided_by.as_deref()), (Some(seconds(2)), Some("dana")));
}

async fn whoever_was_seen_last_under_a_name_is_found(case: Case) {
    let store = &case.store;
    let mut alice = principal("alice");
    let seen = |after, principal: &Principal| Note::Seen {
        at: seconds(after),
        principal: Arc::new(principal.clone()),
    };
    write(store, [seen(0, &alice)]).await;
    assert_eq!(store.principal("alice-name").await.unwrap(), Some(alice.clone()));
    alice.roles.clear();
    let mut namesake = principal("alice-2");
    namesake.name.clone_from(&alice.name);
    write(store, [seen(2, &alice), seen(1, &namesake)]).await;
    assert_eq!(store.principal("alice-name").await.unwrap(), Some(alice));
    assert_eq!(store.principal("nobody").await.unwrap(), None);
}

/// What an earlier version wrote into the state folder is still there, and this gateway's own.
#[tokio::test]
async fn a_database_of_an_earlier_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    migrations::sqlite().run_to(2, &mut connection).await.unwrap();
    let row = "INSERT INTO sessions (session, opened_at, issuer, subject, principal, address, \
               target, protocol) VALUES ('01890000-0000-7000-8000-000000000000', 1, 'i', 's', \
               'p', '127.0.0.1', 'customers', 'ssh')";
    connection.execute(row).await.unwrap();
    connection.close().await.unwrap();
    let clock = Arc::new(Standing::at(seconds(0)));
    let store = open(&Place::Sqlite(path), "weir-1", &clock).await;
    let rows = store.sessions(&all()).await.unwrap();
    assert_eq!((rows.len(), rows[0].gateway.as_str()), (1, ""));
    assert_eq!(store.close_left_open(seconds(1)).await.unwrap(), 1);
}
