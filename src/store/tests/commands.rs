//! The index of commands: what is found by which words, and that nothing is counted twice.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use super::Case;
use super::index::opened;
use super::index::write;
use super::on_both;
use super::principal;
use super::seconds;
use crate::audit::TrailEvent;
use crate::audit::entry::Ending;
use crate::audit::entry::Volume;
use crate::model::Command;
use crate::model::Effect;
use crate::model::Object;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::Verdict;
use crate::model::refusal::RefusalCode;
use crate::store::Batch;
use crate::store::Collector;
use crate::store::Filter;
use crate::store::IndexLag;
use crate::store::IndexedCommand;
use crate::store::Note;
use crate::store::Owner;
use crate::store::Place;
use crate::store::PutKey;
use crate::store::Query;
use crate::store::Store;
use crate::store::Whose;
use crate::store::db::Row;
use crate::store::db::Statement;
use crate::store::query::Scope;

on_both!(
    commands_are_found_by_their_words,
    names_are_searched_without_the_texts,
    a_command_that_is_repeated_is_one_row,
    a_batch_is_written_once_and_only_on_top_of_what_it_was_made_for,
    what_is_forgotten_is_gone_and_does_not_come_back,
    an_index_that_is_cleared_can_be_made_again,
    sessions_are_listed_by_what_happened_in_them,
    an_index_is_made_from_a_recording_alone,
    no_query_is_an_error_of_the_database,
    a_recording_key_is_kept_once_and_destroyed_for_good,
);

fn allowed() -> Verdict {
    Verdict::Allow { rules: Vec::new() }
}

fn denied() -> Verdict {
    Verdict::Deny(Refusal::new(RefusalCode::Denied, "no"))
}

fn asked(number: u64, text: &str, verdict: &Verdict) -> IndexedCommand {
    let mut command = Command::new("query", text);
    if text.contains("customers") {
        command.objects.push(Object::new("table", "public.customers", Effect::Read));
    }
    let at = seconds(i64::try_from(number).unwrap());
    IndexedCommand::of(number, at, &command, verdict, false)
}

/// A session of alice's with these commands, and the index of them.
async fn session(store: &Store, texts: &[&str]) -> SessionId {
    let session = SessionId::fresh();
    write(store, [opened(session, "alice")]).await;
    let mut batch = Batch::new(session, 0);
    for (text, number) in texts.iter().zip(1..) {
        batch.add(asked(number, text, &allowed()));
        batch.goes_to(number);
    }
    assert!(store.index_commands(&batch).await.unwrap());
    session
}

async fn texts(store: &Store, query: &str, filter: &Filter) -> Vec<String> {
    let query = query.parse::<Query>().unwrap();
    let hits = store.search(&query, false, filter).await.unwrap();
    hits.into_iter().map(|hit| hit.text).collect()
}

async fn commands_are_found_by_their_words(case: Case) {
    let store = &case.store;
    let all = Filter::default();
    let id = session(
        store,
        &[
            "SELECT email FROM public.customers WHERE national_id = '1'",
            "kubectl get pods --dry-run=client -n Prüfung",
            "DROP TABLE orders; -- it's \"gone\"\0",
        ],
    )
    .await;
    let found = async |query: &str| {
        let found = texts(store, query, &all).await;
        found.iter().map(|text| text.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for query in [
        "email",
        "EMAIL AND national_id",
        "\"from public.customers\"",
        "public.cust*",
        "select NOT drop",
        "(email OR nothing) where",
        "national",
        "\"id 1\"",
    ] {
        assert_eq!(found(query).await, ["SELECT"], "{query}");
    }
    for query in ["--dry-run", "dry", "\"dry run client\"", "prüfung", "PRÜF*", "pods NOT drop"] {
        assert_eq!(found(query).await, ["kubectl"], "{query}");
    }
    for query in ["\"drop table\"", "orders", "\"it's\"", "gone"] {
        assert_eq!(found(query).await, ["DROP"], "{query}");
    }
    // The newest first; by verb and by object as well.
    assert_eq!(found("query").await, ["DROP", "kubectl", "SELECT"]);
    assert_eq!(found("table:public.customers").await, ["SELECT"]);
    assert_eq!(found("email OR orders").await, ["DROP", "SELECT"]);
    for query in ["customers.public", "mail", "\"email where\"", "email AND orders", "absent"] {
        assert_eq!(found(query).await, Vec::<String>::new(), "{query}");
    }
    // A phrase does not go on from what is touched to what is said.
    assert!(found("\"customers select\"").await.is_empty());
    let query = "email".parse::<Query>().unwrap();
    let hit = store.search(&query, false, &all).await.unwrap().remove(0);
    assert_eq!((hit.session, hit.number, hit.times, hit.denied), (id, 1, 1, 0));
    assert_eq!((hit.principal.as_str(), hit.target.as_str()), ("alice-name", "customers"));
    assert_eq!(hit.objects, ["read:table:public.customers"]);
    assert!(!hit.cut);
    assert!(texts(store, "gone", &all).await[0].ends_with('\u{fffd}'), "no NUL is kept");
    let long = format!("{} end", "ä".repeat(40_000));
    session(store, &[&long]).await;
    let query = "ää* NOT end".parse::<Query>().unwrap();
    let hit = store.search(&query, false, &all).await.unwrap().remove(0);
    assert!(hit.cut && hit.text.len() <= 32 * 1024, "the beginning of a long text is kept");
}

async fn names_are_searched_without_the_texts(case: Case) {
    let store = &case.store;
    session(store, &["SELECT 'alice@example.com' FROM customers"]).await;
    let all = Filter::default();
    let count = async |query: &str, names_only: bool| {
        store.search(&query.parse().unwrap(), names_only, &all).await.unwrap().len()
    };
    for (query, in_all, in_names) in [
        ("customers", 1, 1),
        ("public.customers", 1, 1),
        ("query read", 1, 1),
        ("query NOT alice", 0, 1),
        ("alice", 1, 0),
        ("ali*", 1, 0),
        ("customers AND alice", 1, 0),
        ("nothing OR alice", 1, 0),
    ] {
        assert_eq!((count(query, false).await, count(query, true).await), (in_all, in_names));
    }
}

async fn a_command_that_is_repeated_is_one_row(case: Case) {
    let store = &case.store;
    let id = SessionId::fresh();
    write(store, [opened(id, "alice")]).await;
    for round in 0..2 {
        let mut batch = Batch::new(id, round * 10);
        for number in round * 10 + 1..=round * 10 + 10 {
            let verdict = if number % 5 == 0 { denied() } else { allowed() };
            batch.add(asked(number, "UPDATE accounts SET x = $1", &verdict));
            batch.goes_to(number);
        }
        assert!(store.index_commands(&batch).await.unwrap());
    }
    let query = "accounts".parse::<Query>().unwrap();
    let hits = store.search(&query, false, &Filter::default()).await.unwrap();
    assert_eq!(hits.len(), 1);
    assert_eq!((hits[0].number, hits[0].times, hits[0].denied), (1, 20, 4));
    assert_eq!((hits[0].first_at, hits[0].last_at), (seconds(1), seconds(20)));
    let late = Filter { since: Some(seconds(21)), ..Filter::default() };
    assert!(store.search(&query, false, &late).await.unwrap().is_empty());
    let held = Filter { held: true, ..Filter::default() };
    assert!(store.search(&query, false, &held).await.unwrap().is_empty());
    let only_denied = Filter { denied: true, until: Some(seconds(2)), ..Filter::default() };
    assert_eq!(store.search(&query, false, &only_denied).await.unwrap().len(), 1);
}

async fn a_batch_is_written_once_and_only_on_top_of_what_it_was_made_for(case: Case) {
    let store = &case.store;
    let id = SessionId::fresh();
    write(store, [opened(id, "alice")]).await;
    assert_eq!(store.index_cursor(id).await.unwrap(), Some(0));
    let batch = |after: u64, upto: u64| {
        let mut batch = Batch::new(id, after);
        (after + 1..=upto).for_each(|number| batch.add(asked(number, "SELECT 1", &allowed())));
        batch.goes_to(upto);
        batch
    };
    assert!(!store.index_commands(&batch(3, 5)).await.unwrap(), "there is a gap before it");
    assert!(store.index_commands(&batch(0, 3)).await.unwrap());
    assert!(!store.index_commands(&batch(0, 3)).await.unwrap(), "it is there already");
    assert!(!store.index_commands(&batch(0, 5)).await.unwrap());
    assert!(store.index_commands(&batch(3, 5)).await.unwrap());
    assert_eq!(store.index_cursor(id).await.unwrap(), Some(5));
    let hits = store.search(&"select".parse().unwrap(), false, &Filter::default()).await.unwrap();
    assert_eq!(hits.iter().map(|hit| hit.times).collect::<Vec<_>>(), [5]);
    // Two at once: one of them is first.
    let (one, two) = (batch(5, 9), batch(5, 9));
    let both = tokio::join!(store.index_commands(&one), store.index_commands(&two));
    assert_ne!(both.0.unwrap(), both.1.unwrap());
    let other = SessionId::fresh();
    let cursors = store.index_cursors(&[id, other]).await.unwrap();
    assert_eq!(cursors, BTreeMap::from([(id, 9)]));
    let lag = IndexLag::of([(id, 12), (other, 4)], &cursors);
    assert_eq!(lag, IndexLag { sessions: 2, entries: 7 });
}

async fn what_is_forgotten_is_gone_and_does_not_come_back(case: Case) {
    let store = &case.store;
    let id = session(store, &["SELECT 'uniquesecretmarker'", "SELECT 2"]).await;
    let kept = session(store, &["SELECT 'uniquekeptmarker'"]).await;
    let (hold, note) = super::index::held(id, "SELECT 'uniquesecretmarker'");
    write(store, [note]).await;
    store.forget_index(id).await.unwrap();
    assert!(texts(store, "uniquesecret* OR 2", &Filter::default()).await.is_empty());
    assert_eq!(texts(store, "uniquekept*", &Filter::default()).await.len(), 1);
    assert_eq!(store.index_cursor(id).await.unwrap(), None);
    let mut again = Batch::new(id, 0);
    again.add(asked(1, "SELECT 'uniquesecretmarker'", &allowed()));
    again.goes_to(1);
    assert!(!store.index_commands(&again).await.unwrap());
    assert!(store.session(id).await.unwrap().is_some(), "who had it, and when, stays");
    let holds = store.holds(10).await.unwrap();
    assert_eq!((&holds[0].hold, holds[0].command.as_str()), (&hold, ""));
    store.forget_index(id).await.unwrap();
    // Nothing of it is left in the files either.
    if let Place::Sqlite(path) = &case.place {
        let folder = path.parent().unwrap();
        let mut all = Vec::new();
        for file in fs::read_dir(folder).unwrap() {
            all.extend(fs::read(file.unwrap().path()).unwrap());
        }
        let has = |word: &[u8]| memchr::memmem::find(&all, word).is_some();
        assert!(has(b"uniquekeptmarker"));
        // The search's own index has words behind what they share with the word before.
        assert!(!has(b"uniquesecretmarker") && !has(b"secretmarker"));
    }
    assert_eq!(store.index_cursor(kept).await.unwrap(), Some(1));
}

async fn an_index_that_is_cleared_can_be_made_again(case: Case) {
    let store = &case.store;
    let ours = session(store, &["SELECT 'ours'"]).await;
    let gone = session(store, &["SELECT 'gone'"]).await;
    store.forget_index(gone).await.unwrap();
    let (other, _) = case.other("weir-2").await;
    let theirs = session(&other, &["SELECT 'theirs'"]).await;
    assert_eq!(store.clear_index().await.unwrap(), 1);
    assert!(texts(store, "ours OR gone", &Filter::default()).await.is_empty());
    assert_eq!(texts(store, "theirs", &Filter::default()).await.len(), 1);
    assert_eq!(store.index_cursor(ours).await.unwrap(), Some(0));
    assert_eq!(store.index_cursor(gone).await.unwrap(), None);
    assert_eq!(store.index_cursor(theirs).await.unwrap(), Some(1));
    let mut batch = Batch::new(ours, 0);
    batch.add(asked(1, "SELECT 'ours'", &allowed()));
    batch.goes_to(1);
    assert!(store.index_commands(&batch).await.unwrap());
    assert_eq!(texts(store, "ours", &Filter::default()).await.len(), 1);
}

async fn sessions_are_listed_by_what_happened_in_them(case: Case) {
    let store = &case.store;
    let (one, two) = (SessionId::fresh(), SessionId::fresh());
    write(store, [opened(one, "alice"), opened(two, "bob")]).await;
    let (_, held) = super::index::held(two, "DELETE");
    let end = Note::Closed {
        at: seconds(5),
        session: two,
        reason: "left".to_owned(),
        commands: 1,
        denied: 0,
        volume: Volume::default(),
    };
    write(store, [held, end]).await;
    let mut batch = Batch::new(one, 0);
    batch.add(asked(1, "SELECT 1", &denied()));
    batch.carried("pii.email".parse().unwrap(), true, Volume { rows: 2, bytes: 9, masked: 0 });
    batch.carried("phi".parse().unwrap(), false, Volume { rows: 2, bytes: 9, masked: 2 });
    batch.goes_to(1);
    assert!(store.index_commands(&batch).await.unwrap());
    let none = Filter::default;
    let (alice, class) = (principal("alice"), |name: &str| Some(name.parse().unwrap()));
    let cases = [
        (none(), vec![two, one]),
        (Filter { user: Some("alice-name".to_owned()), ..none() }, vec![one]),
        (Filter { user: Some("bob".to_owned()), ..none() }, vec![two]),
        (Filter { user: Some("carl".to_owned()), ..none() }, vec![]),
        (Filter { whose: Whose::Own(Owner::from(&alice)), ..none() }, vec![one]),
        (Filter { whose: Whose::Others(Owner::from(&alice)), ..none() }, vec![two]),
        (Filter { target: Some("customers".parse().unwrap()), ..none() }, vec![two, one]),
        (Filter { target: Some("wiki".parse().unwrap()), ..none() }, vec![]),
        (Filter { within: Some(vec!["customers".parse().unwrap()]), ..none() }, vec![two, one]),
        (Filter { within: Some(Vec::new()), ..none() }, vec![]),
        (Filter { protocol: Some(crate::model::Protocol::Ssh), ..none() }, vec![]),
        (Filter { denied: true, ..none() }, vec![one]),
        (Filter { held: true, ..none() }, vec![two]),
        (Filter { live: true, ..none() }, vec![one]),
        (Filter { country: Some("DE".parse().unwrap()), ..none() }, vec![two, one]),
        (Filter { country: Some("SG".parse().unwrap()), ..none() }, vec![]),
        (Filter { class: class("pii.email"), ..none() }, vec![one]),
        (Filter { class: class("pii"), ..none() }, vec![one]),
        (Filter { class: class("pii.e"), ..none() }, vec![]),
        (Filter { class: class("phi"), ..none() }, vec![]),
        (Filter { since: Some(seconds(6)), ..none() }, vec![one]),
        (Filter { since: Some(seconds(5)), ..none() }, vec![two, one]),
        (Filter { until: Some(seconds(0)), ..none() }, vec![]),
        (Filter { until: Some(seconds(1)), limit: Some(1), ..none() }, vec![two]),
    ];
    for (filter, expected) in cases {
        let found = store.sessions(&filter).await.unwrap();
        let found = found.iter().map(|row| row.session).collect::<BTreeSet<_>>();
        if filter.limit.is_some() {
            assert_eq!(found.len(), 1);
        } else {
            assert_eq!(found, expected.into_iter().collect(), "{filter:?}");
        }
    }
}

/// What a session's recording says, entry by entry.
fn recording(session: SessionId) -> Vec<TrailEvent> {
    let Note::Opened { opened, .. } = opened(session, "alice") else { unreachable!() };
    let command = |number, text: &str, verdict| {
        let mut command = Command::new("query", text);
        command.reads = BTreeSet::from(["pii.email".parse().unwrap(), "pii.name".parse().unwrap()]);
        let command = Arc::new(command);
        TrailEvent::Command { number, command, verdict, observed: false, snapshot: None }
    };
    let ended = |number, rows| TrailEvent::Ended {
        number,
        ending: Ending::Done { status: "SELECT".to_owned() },
        volume: Volume { rows, bytes: rows * 10, masked: 0 },
        sent_bytes: 0,
        result_cut: false,
        sent_cut: false,
    };
    vec![
        TrailEvent::Opened(opened),
        command(1, "SELECT one", allowed()),
        TrailEvent::Masks {
            shown: BTreeSet::from(["pii.name".parse().unwrap()]),
            hidden: BTreeMap::from([("pii.email".parse().unwrap(), Vec::new())]),
            observed: false,
        },
        ended(1, 3),
        command(2, "SELECT two", denied()),
        command(3, "SELECT three", allowed()),
        ended(3, 4),
        TrailEvent::Closed {
            reason: "left".to_owned(),
            commands: 3,
            volume: Volume { rows: 7, bytes: 70, masked: 0 },
        },
    ]
}

async fn an_index_is_made_from_a_recording_alone(case: Case) {
    let store = &case.store;
    // Wherever the indexer is ended and begins anew, the index is the same.
    for stop in 1..8 {
        let id = SessionId::fresh();
        for _ in 0..2 {
            let cursor = store.index_cursor(id).await.unwrap().unwrap();
            let mut collector = Collector::new(id, cursor);
            for (event, n) in recording(id).iter().zip(1_u64..) {
                collector.read(n, seconds(i64::try_from(n).unwrap()), event);
                if cursor == 0 && n == stop {
                    break;
                }
            }
            assert!(store.index_commands(&collector.take()).await.unwrap());
            assert!(collector.take().is_empty());
        }
        assert_eq!(store.index_cursor(id).await.unwrap(), Some(8));
        let row = store.session(id).await.unwrap().unwrap();
        assert_eq!((row.opened_at, row.closed_at), (seconds(1), Some(seconds(8))));
        assert_eq!((row.commands, row.denied, row.rows), (3, 1, 7));
        let hits = store.search(&"select".parse().unwrap(), false, &Filter::default()).await;
        let hits = hits.unwrap().into_iter().filter(|hit| hit.session == id).collect::<Vec<_>>();
        assert_eq!(hits.iter().map(|hit| hit.denied).sum::<u64>(), 1);
        assert_eq!(hits.iter().map(|hit| hit.times).collect::<Vec<_>>(), [1, 1, 1]);
        let rows = rows_of_classes(store, id).await;
        assert_eq!(rows, [("pii.email".to_owned(), 0, 7), ("pii.name".to_owned(), 1, 7)]);
    }
}

async fn rows_of_classes(store: &Store, id: SessionId) -> Vec<(String, i64, i64)> {
    let text = "SELECT * FROM session_classes WHERE session = $1 ORDER BY class";
    let statement = Statement::new(text).with(id.to_string());
    let rows = store.db.rows(statement).await.unwrap();
    let row = |row: &Row| {
        (row.get("class").unwrap(), row.get("shown").unwrap(), row.get("rows_out").unwrap())
    };
    rows.iter().map(row).collect()
}

/// Whatever is typed either is no query or is one for the database, too.
async fn no_query_is_an_error_of_the_database(case: Case) {
    let store = &case.store;
    session(store, &["SELECT 1"]).await;
    let parts = [
        "(", ")", "\"", "*", " ", " AND ", " OR ", " NOT ", "a", "ß.b", "'", ":", "-", "{text}",
        "^", "NEAR", "\\", "ⓐ", "e\u{301}", "顧客", "\u{200d}", "\u{202e}", "1e5", "$1", "&", "|",
        "!", "<->",
    ];
    let mut seed = 7_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let mut read = 0;
    for _ in 0..3_000 {
        let length = 1 + next(12);
        let text = (0..length).map(|_| parts[next(parts.len())]).collect::<String>();
        let Ok(query) = text.parse::<Query>() else { continue };
        read += 1;
        for names_only in [false, true] {
            let found = store.search(&query, names_only, &Filter::default()).await;
            let scope = if names_only { Scope::Names } else { Scope::Everything };
            found.unwrap_or_else(|error| panic!("{text}: {}: {error:?}", query.fts5(scope)));
        }
    }
    assert!(read > 100, "{read} queries were read");
    let deep = format!("{}a{}", "(x OR (y ".repeat(8), "))".repeat(8));
    store.search(&deep.parse().unwrap(), false, &Filter::default()).await.unwrap();
    let wide = "a OR ".repeat(63) + "b*";
    store.search(&wide.parse().unwrap(), false, &Filter::default()).await.unwrap();
}

async fn a_recording_key_is_kept_once_and_destroyed_for_good(case: Case) {
    let store = &case.store;
    let (one, two) = (SessionId::fresh(), SessionId::fresh());
    assert!(store.recording_key(one).await.unwrap().is_none());
    for _ in 0..2 {
        let put = store.put_recording_key(one, "kek-1", b"wrapped uniquekeybytes").await.unwrap();
        assert_eq!(put, PutKey::Kept);
    }
    let other = store.put_recording_key(one, "kek-1", b"another").await.unwrap();
    assert_eq!(other, PutKey::Another);
    store.put_recording_key(two, "kek-1", b"two").await.unwrap();
    let key = store.recording_key(one).await.unwrap().unwrap();
    assert_eq!(key.wrapped.as_deref(), Some(&b"wrapped uniquekeybytes"[..]));
    assert!(!format!("{key:?}").contains("wrapped"));
    let wrong = store.rewrap_recording_key(two, ("kek-1", b"one"), ("kek-2", b"2")).await.unwrap();
    let right = store.rewrap_recording_key(two, ("kek-1", b"two"), ("kek-2", b"2")).await.unwrap();
    assert_eq!((wrong, right), (false, true));
    assert!(store.destroy_recording_key(one, "olaf", "request 7").await.unwrap());
    assert!(!store.destroy_recording_key(one, "olaf", "again").await.unwrap());
    let put = store.put_recording_key(one, "kek-1", b"wrapped uniquekeybytes").await.unwrap();
    assert_eq!(put, PutKey::Destroyed);
    let key = store.recording_key(one).await.unwrap().unwrap();
    let destroyed = key.destroyed.unwrap();
    assert_eq!((destroyed.by.as_str(), destroyed.reason.as_str()), ("olaf", "request 7"));
    assert_eq!((destroyed.at, key.wrapped), (seconds(0), None));
    let ids = async |after, limit| {
        let keys = store.recording_keys(after, limit).await.unwrap();
        keys.iter().map(|key| key.session).collect::<Vec<_>>()
    };
    let mut all = vec![one, two];
    all.sort_by_key(ToString::to_string);
    assert_eq!(ids(None, 10).await, all);
    assert_eq!(ids(Some(all[0]), 10).await, all[1..]);
    assert_eq!(ids(None, 1).await, all[..1]);
    if let Place::Sqlite(path) = &case.place {
        for file in fs::read_dir(path.parent().unwrap()).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            assert!(memchr::memmem::find(&bytes, b"uniquekeybytes").is_none());
        }
    }
}
