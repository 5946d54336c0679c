//! Entries in, rows out; and a ledger that is damaged gives none.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::audit::entry::HoldEnding;
use crate::audit::entry::TransferNote;
use crate::audit::entry::Volume;
use crate::audit::ledger;
use crate::audit::transfer::BasisNote;
use crate::audit::transfer::PartyNote;
use crate::audit::transfer::TransferFacts;
use crate::model::HoldId;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::SessionId;
use crate::model::digest::Digest;
use crate::model::place::PlaceMethod;
use crate::model::principal::Kind;
use crate::model::principal::Role;

const NOON: i64 = 1_795_262_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOON + seconds).unwrap()
}

fn lines(events: Vec<LedgerEvent>) -> Vec<Line<LedgerEvent>> {
    let line = |(event, n): (_, u64)| {
        let at = at(i64::try_from(n).unwrap());
        Line { n, at, prev: Digest::ZERO, event }
    };
    events.into_iter().zip(1..).map(line).collect()
}

fn facts() -> TransferFacts {
    let principal = Principal {
        issuer: "https://login.example".to_owned(),
        subject: "sub-1".to_owned(),
        name: "=mei, \"the\" analyst".to_owned(),
        kind: Kind::Person,
        roles: ["engineer".to_owned()].into(),
        entity: Some("acme-sg".parse().unwrap()),
        residence: None,
        person: "mei".to_owned(),
        attributes: BTreeMap::new(),
        actors: Vec::new(),
    };
    let party = |id: &str, country: &str, role| PartyNote {
        entity: Some(id.parse().unwrap()),
        country: Some(country.parse().unwrap()),
        role: Some(role),
    };
    TransferFacts {
        principal: Arc::new(principal),
        origin: Origin {
            address: "192.0.2.7".parse().unwrap(),
            country: Some("SG".parse().unwrap()),
            method: PlaceMethod::ConfiguredNetwork("192.0.2.0/24".to_owned()),
        },
        target: "customers".parse().unwrap(),
        protocol: Protocol::Postgres,
        region: "eu-central".parse().unwrap(),
        data_country: "DE".parse().unwrap(),
        exporter: party("acme-de", "DE", Role::Controller),
        importer: party("acme-sg", "SG", Role::Processor),
        ways: Vec::new(),
        bases: vec![BasisNote {
            id: "scc-acme-sg-2026".parse().unwrap(),
            mechanism: "EUM-SCC2".parse().unwrap(),
            document: Digest::of(b"the contract"),
            valid_from: "2026-01-01".parse().unwrap(),
            valid_to: "2027-12-31".parse().unwrap(),
            owner: "dpo@acme.example".to_owned(),
            approved_by: "board".to_owned(),
            assessment: Some("TIA-7".to_owned()),
            filing: None,
        }],
        duties: vec!["ledger-row".to_owned()],
        snapshot: Digest::of(b"snapshot"),
        rules: vec!["customers.read".parse().unwrap()],
        valid_until: None,
    }
}

fn opened(session: SessionId, direction: &str) -> LedgerEvent {
    LedgerEvent::TransferOpened {
        session,
        from: "acme-de".to_owned(),
        to: "acme-sg".to_owned(),
        place: Some("SG".to_owned()),
        direction: direction.to_owned(),
        classes: ["pii.email".parse().unwrap(), "pii.name".parse().unwrap()].into(),
        basis: TransferNote {
            outcome: "transfer".to_owned(),
            rows: vec!["EUM-SCC2".parse().unwrap()],
            reason: "with a legal basis".to_owned(),
        },
        facts: Some(Box::new(facts())),
        look: None,
    }
}

fn volume(session: SessionId, rows: u64, closed: bool) -> LedgerEvent {
    let moved = Volume { rows, bytes: rows * 10, masked: 0 };
    LedgerEvent::TransferVolume {
        session,
        volume: Volume { rows: rows + 5, bytes: rows * 10 + 50, masked: 1 },
        classes: [("pii.email".parse().unwrap(), moved)].into(),
        written: BTreeMap::new(),
        closed,
        look: None,
    }
}

fn over(session: SessionId) -> LedgerEvent {
    let head = crate::audit::chain::Head { entries: 3, digest: Digest::ZERO };
    LedgerEvent::TrailClosed { session, head }
}

fn rows(window: Window, events: Vec<LedgerEvent>) -> Vec<Transfer> {
    let mut transfers = Transfers::within(window);
    let mut rows = Vec::new();
    for line in lines(events) {
        transfers.read(&line);
        rows.extend(transfers.take());
    }
    rows.extend(transfers.finish());
    rows
}

#[test]
fn a_transfer_is_one_row_with_its_last_volumes_and_the_approvals_of_its_session() {
    let (session, other, hold) = (SessionId::fresh(), SessionId::fresh(), HoldId::fresh());
    let exactly = Digest::of(b"command");
    let events = vec![
        LedgerEvent::Held { hold: hold.clone(), session, number: 1, exactly },
        LedgerEvent::HoldEnded {
            hold: hold.clone(),
            ending: HoldEnding::Approved { by: "olaf".to_owned() },
        },
        opened(session, "read"),
        volume(session, 1, false),
        opened(other, "read"),
        LedgerEvent::TransferUnclean {
            session: other,
            volume: Volume { rows: 9, bytes: 90, masked: 0 },
        },
        volume(session, 4, true),
        over(session),
    ];
    let rows = rows(Window::default(), events);
    assert_eq!(rows.len(), 2);
    let row = &rows[0];
    assert_eq!((row.entry, row.closed_entry, row.state), (3, Some(7), State::Closed));
    assert_eq!(row.classes[&"pii.email".parse().unwrap()].rows, 4);
    assert_eq!(row.classes[&"pii.name".parse().unwrap()], Volume::default());
    assert_eq!(row.volume.rows, 9);
    assert_eq!((row.approvals[0].hold.clone(), row.approvals[0].by.as_str()), (hold, "olaf"));
    assert_eq!((rows[1].state, rows[1].volume.rows), (State::Unclean, 9));
}

/// After a crash a trail may have less than was counted, and more.
#[test]
fn a_transfer_that_a_crash_cut_has_the_most_that_is_known_of_it() {
    let session = SessionId::fresh();
    let counted = Volume { rows: 9, bytes: 900, masked: 0 };
    let trail = Volume { rows: 2, bytes: 1200, masked: 1 };
    let events = vec![
        opened(session, "read"),
        LedgerEvent::TransferVolume {
            session,
            volume: counted,
            classes: BTreeMap::new(),
            written: BTreeMap::new(),
            closed: false,
            look: None,
        },
        LedgerEvent::TransferUnclean { session, volume: trail },
    ];
    let rows = rows(Window::default(), events);
    assert_eq!(rows[0].state, State::Unclean);
    assert_eq!(rows[0].volume, Volume { rows: 9, bytes: 1200, masked: 1 });
}

#[test]
fn a_window_has_what_touches_it() {
    let session = SessionId::fresh();
    let events = || vec![opened(session, "read"), volume(session, 1, true), over(session)];
    let window = |from: Option<i64>, to: Option<i64>| Window { from: from.map(at), to: to.map(at) };
    assert_eq!(rows(window(Some(2), None), events()).len(), 1, "it ended then");
    assert_eq!(rows(window(Some(3), None), events()).len(), 0, "it was over");
    assert_eq!(rows(window(None, Some(2)), events()).len(), 1, "it began before");
    assert_eq!(rows(window(None, Some(1)), events()).len(), 0, "it began later");
    let open = vec![opened(session, "read")];
    assert_eq!(rows(window(Some(99), None), open)[0].state, State::Open, "it goes on");
}

#[test]
fn what_is_written_to_a_target_is_the_volume_of_a_write() {
    let session = SessionId::fresh();
    let sent = Volume { rows: 2, bytes: 64, masked: 0 };
    let last = LedgerEvent::TransferVolume {
        session,
        volume: Volume { rows: 100, bytes: 1000, masked: 0 },
        classes: BTreeMap::new(),
        written: [("pii.email".parse().unwrap(), sent)].into(),
        closed: true,
        look: None,
    };
    let rows = rows(Window::default(), vec![opened(session, "write"), last, over(session)]);
    assert_eq!((rows[0].direction.as_str(), rows[0].volume), ("write", sent));
}

#[test]
fn what_goes_on_on_another_basis_counts_to_that_alone() {
    let session = SessionId::fresh();
    let events = vec![
        opened(session, "read"),
        volume(session, 1, false),
        opened(session, "read"),
        volume(session, 4, true),
        over(session),
    ];
    let rows = rows(Window::default(), events);
    let email = "pii.email".parse().unwrap();
    let counted = |row: &Transfer| (row.classes[&email].rows, row.volume.rows, row.closed_entry);
    assert_eq!(counted(&rows[0]), (1, 6, Some(3)));
    assert_eq!(counted(&rows[1]), (3, 3, Some(4)));
    assert!(rows.iter().all(|row| row.state == State::Closed));
}

#[test]
fn a_write_counts_its_own_classes() {
    let session = SessionId::fresh();
    let write = |class: &str| {
        let mut event = opened(session, "write");
        if let LedgerEvent::TransferOpened { classes, .. } = &mut event {
            *classes = [class.parse().unwrap()].into();
        }
        event
    };
    let sent = |rows| Volume { rows, bytes: rows * 10, masked: 0 };
    let last = LedgerEvent::TransferVolume {
        session,
        volume: Volume::default(),
        classes: BTreeMap::new(),
        written: [("phi".parse().unwrap(), sent(2)), ("pii.email".parse().unwrap(), sent(5))]
            .into(),
        closed: true,
        look: None,
    };
    let rows = rows(Window::default(), vec![write("pii.email"), write("phi"), last, over(session)]);
    assert_eq!((rows[0].classes.len(), rows[0].volume), (1, sent(5)));
    assert_eq!((rows[1].classes.len(), rows[1].volume), (1, sent(2)));
}

#[test]
fn csv_has_a_line_a_class_and_no_cell_that_a_spreadsheet_runs() {
    let session = SessionId::fresh();
    let events = vec![opened(session, "read"), volume(session, 4, true), over(session)];
    let rows = rows(Window::default(), events);
    let text = transfer_csv(&rows[0]);
    assert_eq!(text.lines().count(), 2);
    let columns = CSV_HEAD.split(',').count();
    for line in text.lines() {
        assert!(line.starts_with("1,"), "{line}");
        assert!(line.contains("\"'=mei, \"\"the\"\" analyst\""), "{line}");
        // Without the quoted commas, as many cells as names.
        let plain = line.replace("\"'=mei, \"\"the\"\" analyst\"", "mei");
        assert_eq!(plain.split(',').count(), columns, "{plain}");
    }
    assert!(text.contains(",pii.email,4,40,0,9,90,EUM-SCC2,scc-acme-sg-2026,"), "{text}");
    assert!(text.contains(&Digest::of(b"the contract").to_string()));
}

/// A ledger of some entries in a folder.
fn written(dir: &Path, events: &[LedgerEvent]) {
    let path = dir.join("ledger.jsonl");
    let origin = ledger::origin("weir-test");
    let mut chain = crate::audit::chain::Chain::create(&path, origin).unwrap();
    for (event, n) in events.iter().zip(1..) {
        chain.append(at(n), event).unwrap();
    }
}

#[test]
fn the_statement_says_what_was_read_and_damage_gives_none() {
    let dir = tempfile::tempdir().unwrap();
    let session = SessionId::fresh();
    let started = LedgerEvent::Started {
        gateway: "weir-test".to_owned(),
        snapshot: Digest::ZERO,
        observed: Vec::new(),
        ledger_key: None,
        wrapping_key: None,
        configuration: None,
    };
    let events = [started, opened(session, "read"), volume(session, 1, true), over(session)];
    written(dir.path(), &events);
    let files = [dir.path().to_owned()];
    let window = Window { from: Some(at(2)), to: Some(at(4)) };
    let mut seen = 0;
    let statement = read(&files, u64::MAX, window, |_| seen += 1).unwrap();
    assert_eq!(seen, 4);
    assert_eq!(statement.gateway.as_deref(), Some("weir-test"));
    assert_eq!(statement.read, Covered { first: 1, last: 4 });
    assert_eq!(statement.within, Some(Covered { first: 2, last: 3 }));
    assert!(statement.text.contains("entries 1 to 4 were read, no gap"), "{}", statement.text);
    assert!(statement.text.contains("no checkpoint covers them"), "{}", statement.text);
    check(&files).unwrap();

    let path = dir.path().join("ledger.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"rows\":1", "\"rows\":2", 1)).unwrap();
    let damaged = read(&files, u64::MAX, window, |_| {}).unwrap_err();
    assert!(matches!(damaged, ExportError::Damaged(_)), "{damaged}");
    assert!(matches!(check(&files).unwrap_err(), ExportError::Damaged(_)));
}

#[test]
fn entries_are_found_by_session_person_target_and_kind() {
    let dir = tempfile::tempdir().unwrap();
    let session = SessionId::fresh();
    let other = SessionId::fresh();
    written(
        dir.path(),
        &[opened(session, "read"), volume(session, 1, true), opened(other, "read")],
    );
    let count = |which: &Which| {
        let (mut names, mut found) = (Names::default(), 0);
        let files = [dir.path().to_owned()];
        read(&files, u64::MAX, Window::default(), |raw| {
            found += u32::from(names.wants(which, raw));
        })
        .unwrap();
        found
    };
    let all = Which::default();
    assert_eq!(count(&all), 3);
    assert_eq!(count(&Which { session: Some(session), ..all.clone() }), 2);
    assert_eq!(count(&Which { user: Some("sub-1".to_owned()), ..all.clone() }), 2);
    assert_eq!(count(&Which { user: Some("nobody".to_owned()), ..all.clone() }), 0);
    assert_eq!(count(&Which { target: Some("customers".parse().unwrap()), ..all.clone() }), 2);
    assert_eq!(count(&Which { kind: Some("transfer-volume".to_owned()), ..all }), 1);
}

#[test]
fn a_look_at_a_session_counts_apart_from_it() {
    let (session, one, other) = (SessionId::fresh(), SessionId::fresh(), SessionId::fresh());
    let look = |id: SessionId, mut event: LedgerEvent| {
        if let LedgerEvent::TransferOpened { look, direction, .. } = &mut event {
            (*look, *direction) = (Some(id), "replay".to_owned());
        }
        if let LedgerEvent::TransferVolume { look, .. } = &mut event {
            *look = Some(id);
        }
        event
    };
    let started = LedgerEvent::Started {
        gateway: "weir-1".to_owned(),
        snapshot: Digest::ZERO,
        observed: Vec::new(),
        ledger_key: None,
        wrapping_key: None,
        configuration: None,
    };
    let events = vec![
        opened(session, "read"),
        look(one, opened(session, "read")),
        volume(session, 4, false),
        look(one, volume(session, 7, true)),
        look(other, opened(session, "read")),
        over(session),
        started,
    ];
    let rows = rows(Window::default(), events);
    let told =
        rows.iter().map(|row| (row.direction.as_str(), row.state, row.volume.rows, row.look));
    let told = told.collect::<Vec<_>>();
    assert_eq!(
        told,
        [
            ("replay", State::Closed, 12, Some(one)),
            ("read", State::Open, 9, None),
            ("replay", State::Unclean, 0, Some(other)),
        ]
    );
}
