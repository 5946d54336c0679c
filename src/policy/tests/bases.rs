//! Legal bases on file, as sessions stand on them: until when, and what ends with them.

use super::*;
use crate::model::digest::Digest;
use crate::model::refusal::RefusalCode;
use crate::policy::judge;
use crate::policy::readmit;
use crate::policy::reveal;
use crate::policy::transfer::Assessment;
use crate::policy::transfer::Basis;

/// Clauses from the demo's company to its sister in Singapore, to the end of `last_day`.
fn clauses(last_day: &str, review_by: &str) -> Basis {
    Basis {
        id: "scc-acme-sg".parse().unwrap(),
        mechanism: "EUM-SCC2".parse().unwrap(),
        exporter: "acme-de".parse().unwrap(),
        importer: "acme-sg".parse().unwrap(),
        importer_country: "SG".parse().unwrap(),
        classes: None,
        access_countries: Vec::new(),
        needs_mask: None,
        tia: Some(Assessment {
            reference: "tia-7".to_owned(),
            date: "2026-01-01".parse().unwrap(),
            review_by: review_by.parse().unwrap(),
        }),
        filing: None,
        reason: None,
        document: Digest::of(b"the signed document"),
        valid_from: "2026-01-01".parse().unwrap(),
        valid_to: last_day.parse().unwrap(),
        max_uses: None,
        uses: None,
        owner: "olaf".to_owned(),
        approved_by: "dpo".to_owned(),
    }
}

fn demo_with_clauses(last_day: &str, review_by: &str) -> Arc<Snapshot> {
    let mut parts = parts();
    parts.bases.push(clauses(last_day, review_by));
    compile(parts)
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

#[test]
fn a_basis_that_ends_refuses_the_next_command_of_a_live_session() {
    // Once by the basis, once by its assessment.
    for snapshot in [
        demo_with_clauses("2026-11-22", "2027-01-01"),
        demo_with_clauses("2027-01-01", "2026-11-22"),
    ] {
        let permit = ask(&snapshot, &mei(), &from("SG"), "customers", Protocol::Postgres).unwrap();
        assert_eq!(permit.transfer().outcome.to_string(), "transfer");
        assert_eq!(permit.valid_until(), Some(at("2026-11-23T00:00:00Z")));
        let last = at("2026-11-22T23:59:59Z");
        readmit(&permit, &snapshot, last).unwrap();
        assert_eq!(decide(&permit, &snapshot, &select(), None, last).word(), "allow");
        let over = permit.valid_until().unwrap();
        let refusal = denied(decide(&permit, &snapshot, &select(), None, over));
        assert_eq!(refusal.code, RefusalCode::Residency);
        assert!(ids(&refusal.rules).contains(&"EUM-SCC2"), "{:?}", refusal.rules);
        assert_eq!(readmit(&permit, &snapshot, over).unwrap_err().code, RefusalCode::Residency);
        let all = select().reads;
        assert!(reveal(&permit, &snapshot, &all, over).shown().is_empty());
        // A refused command does not put off the end.
        assert_eq!(permit.valid_until(), Some(over));
    }
}

#[test]
fn a_basis_that_is_taken_out_of_the_register_ends_what_stands_on_it() {
    let snapshot = demo_with_clauses("2027-01-01", "2027-01-01");
    let permit = ask(&snapshot, &mei(), &from("SG"), "customers", Protocol::Postgres).unwrap();
    let refusal = readmit(&permit, &demo(), now()).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Residency);
}

#[test]
fn what_ends_within_thirty_days_is_told() {
    let told = |snapshot: &Snapshot, time: &str| {
        let all = snapshot.expiring(at(time)).iter().map(ToString::to_string).collect::<Vec<_>>();
        all.join("\n")
    };
    let snapshot = demo_with_clauses("2026-12-31", "2027-01-02");
    assert_eq!(told(&snapshot, "2026-11-30T12:00:00Z"), "");
    assert_eq!(
        told(&snapshot, "2026-12-01T00:00:00Z"),
        "the legal basis `scc-acme-sg` ends on 2026-12-31"
    );
    let later = told(&snapshot, "2027-01-01T00:00:00Z");
    assert!(later.starts_with("the legal basis `scc-acme-sg` ended on 2026-12-31\n"), "{later}");
    assert!(later.contains("the assessment of the legal basis `scc-acme-sg` ends on 2027-01-02"));
    let review = told(&demo(), "2027-02-01T00:00:00Z");
    assert!(review.contains("wants a review by 2027-02-28"), "{review}");
}

#[test]
fn explaining_names_every_law_and_leg_that_was_asked() {
    let mut parts = parts();
    let customers = &mut parts.targets[0];
    customers.laws.insert("UK".to_owned());
    customers.laws.insert("LOC-STORE".to_owned());
    let snapshot = compile(parts);
    let (mei, origin) = (mei(), from("SG"));
    let said = judge(&snapshot, who(&mei, &origin), &name("customers"), None, now()).to_string();
    for line in [
        "REG-EU, person in SG: forbidden(no-basis) [EDPB-3",
        "REG-UK, person in SG: forbidden(no-basis) [REG-UK",
        "LOC-STORE, person in SG: none+log [LOC-STORE",
        "LOC-STORE, recording in DE: none [LOC-STORE]",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}
