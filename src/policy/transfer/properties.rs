//! What holds for every flow, whatever the rows say.

use std::sync::OnceLock;

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::civil::date;
use proptest::prelude::*;

use super::cases::Case;
use super::cases::basis;
use super::cases::entity;
use super::rows::Row;
use super::*;
use crate::model::Country;
use crate::model::principal::Counters;
use crate::model::principal::Entity;

/// Countries that differ in what the pack knows of them.
const COUNTRIES: [&str; 15] =
    ["DE", "FR", "NO", "US", "GB", "CH", "BR", "IN", "NC", "RE", "CN", "HK", "RU", "SA", "INT:EPO"];
/// Mechanisms, of several laws.
const MECHANISMS: [&str; 15] = [
    "EUM-SCC1", "EUM-SCC2", "EUM-SCC3", "EUM-SCC4", "EUM-BCR", "EUM-49B", "UKM-IDTA", "CHM-162D",
    "BRM-SCC", "CNM-SC", "CNM-SA", "CNT-05B", "INM-R7", "USM-401", "RUM-12",
];
/// Laws that a target may declare.
const LAWS: [&str; 10] =
    ["EU", "UK", "CH", "BR", "CN", "IN", "US-DOJ", "RU", "LOC-STRICT", "LOC-STORE"];

/// The shipped pack, parsed once: a thousand flows are asked of it.
fn pack() -> &'static Pack {
    static PACK: OnceLock<Pack> = OnceLock::new();
    PACK.get_or_init(|| Pack::builtin().unwrap())
}

fn country() -> impl Strategy<Value = Country> {
    prop::sample::select(&COUNTRIES[..]).prop_map(|code| code.parse().unwrap())
}

/// A number that somebody declared, or nobody.
fn count() -> impl Strategy<Value = Option<u64>> {
    let numbers = vec![0, 1, 1_000, 10_000, 99_999, 100_000, 1_000_000];
    prop::option::of(prop::sample::select(numbers))
}

fn day() -> impl Strategy<Value = Date> {
    (0..5500_i64).prop_map(|days| date(2018, 1, 1).saturating_add(days.days()))
}

/// Any flow between any two entities, with bases that may or may not fit.
fn case() -> impl Strategy<Value = Case> {
    let places = (country(), country(), country(), country(), country(), country());
    let op = prop::sample::select(vec![Op::Read, Op::Approve, Op::Replay, Op::Search, Op::Write]);
    let suppression =
        prop::sample::select(vec![Suppression::None, Suppression::Token, Suppression::Null]);
    let classes = vec!["pii.email", "pii.ident", "hr.salary", "phi", "gov", "imp", "pay"];
    let classes = prop::sample::subsequence(classes, 1..=3);
    let roles = prop::sample::subsequence(vec!["c", "p"], 1..=2);
    let facts = vec!["lgpd", "dpf=nonhr,hr", "ukx=nonhr,hr", "ciio", "us_person", "covered_person"];
    let facts = prop::sample::subsequence(facts, 0..=3);
    let numbers = (count(), count(), count());
    let bases =
        prop::collection::vec((prop::sample::select(&MECHANISMS[..]), any::<[bool; 4]>()), 0..=3);
    let laws = prop::sample::subsequence(&LAWS[..], 0..=2);
    let more = (roles, facts, bases, laws, any::<bool>(), numbers);
    (places, day(), op, suppression, classes, more).prop_map(
        |(places, date, op, suppression, classes, (roles, facts, bases, laws, same, numbers))| {
            let (at, of, by, from, gateway, recording) = places;
            let mut case = Case::named("A01");
            let role = |index: usize| roles[index % roles.len()];
            case.owner = entity(&format!("Owner@{of}/{}", role(0)));
            case.owner.counters = Counters { cn_pi: numbers.0, cn_sens: numbers.1 };
            case.us_persons = numbers.2;
            let other = entity(format!("Other@{by}/{} {}", role(1), facts.join(" ")).trim_end());
            case.entity = Some(if same { case.owner.clone() } else { other });
            (case.country, case.from) = (at, Some(from));
            (case.gateway, case.recording) = (gateway, recording);
            (case.date, case.op, case.suppression) = (date, op, suppression);
            case.classes = classes.iter().map(|class| class.parse().unwrap()).collect();
            case.laws = laws.into_iter().map(str::to_owned).collect();
            let (exporter, importer) = match case.op {
                _ if same => ("Owner", format!("Owner@{of}")),
                Op::Write => ("Other", format!("Owner@{of}")),
                Op::Read | Op::Approve | Op::Replay | Op::Search | Op::Egress => {
                    ("Owner", format!("Other@{by}"))
                }
            };
            let facts = |on: [bool; 4]| {
                let words = ["tia", "filing", "needs=token", "max=2 uses=1"];
                let words = words.iter().zip(on).filter(|(_, on)| *on).map(|(word, _)| *word);
                words.collect::<Vec<_>>().join(" ")
            };
            let bases = bases.into_iter().enumerate().map(|(number, (name, on))| {
                let text =
                    format!("{name} {exporter}>{importer} 2020-01-01..2026-06-30 {}", facts(on));
                let mut one = basis(text.trim_end());
                one.id = format!("basis-{number}").parse().unwrap();
                one
            });
            case.bases = bases.collect();
            case
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn removing_a_basis_never_allows_more(case in case()) {
        let pack = pack();
        let before = case.decide(pack);
        for index in 0..case.bases.len() {
            let mut less = case.clone();
            less.bases.remove(index);
            let after = less.decide(pack);
            prop_assert!(before.outcome.is_allowed() || !after.outcome.is_allowed(), "{}", after.reason());
        }
    }

    #[test]
    fn removing_an_adequacy_row_never_allows_more(case in case()) {
        let pack = pack();
        let before = case.decide(pack);
        for row in &before.rows {
            let mut less = pack.clone();
            less.file.adequacy.retain(|other| other.rule() != *row);
            let after = case.decide(&less);
            prop_assert!(before.outcome.is_allowed() || !after.outcome.is_allowed(), "{}", after.reason());
        }
    }

    #[test]
    fn a_country_that_is_unknown_never_gets_personal_data(case in case(), which in 0..5_usize) {
        let pack = pack();
        let mut case = case;
        let nowhere: Country = "ZZ".parse().unwrap();
        match which {
            0 => case.from = None,
            1 => case.from = Some(nowhere),
            2 => case.gateway = nowhere,
            3 => case.recording = nowhere,
            _ => case.country = nowhere,
        }
        prop_assert_eq!(case.decide(pack).outcome, Outcome::Forbidden { why: Why::UnknownCountry });
    }

    #[test]
    fn data_in_a_country_of_unknown_law_goes_nowhere(case in case()) {
        let pack = pack();
        let mut case = case;
        case.op = Op::Read;
        case.country = "SG".parse().unwrap();
        // Before the first day of the class map its classes are unknown, which comes first.
        let known = case.date >= date(2018, 5, 25);
        let why = if known { Why::UnknownRegime } else { Why::UnknownClass };
        prop_assert_eq!(case.decide(pack).outcome, Outcome::Forbidden { why });
    }

    #[test]
    fn another_law_never_makes_it_milder(case in case(), law in prop::sample::select(&LAWS[..])) {
        let pack = pack();
        let without = case.decide(pack);
        let mut with = case;
        with.laws.insert(law.to_owned());
        let with = with.decide(pack);
        prop_assert!(with.outcome.severity() >= without.outcome.severity());
    }

    #[test]
    fn a_higher_number_never_allows_more(case in case(), which in 0..4_usize, more in 1..2_000_000_u64) {
        let pack = pack();
        let before = case.decide(pack);
        let mut higher = case;
        let raise = |number: &mut Option<u64>| {
            // What nobody declares is more than any number.
            *number = number.and_then(|n| (more % 7 > 0).then(|| n + more));
        };
        match which {
            0 => raise(&mut higher.owner.counters.cn_pi),
            1 => raise(&mut higher.owner.counters.cn_sens),
            2 => raise(&mut higher.us_persons),
            _ => higher.bases.iter_mut().for_each(|basis| raise(&mut basis.uses)),
        }
        if let Some(entity) = higher.entity.as_mut().filter(|entity| entity.id == higher.owner.id) {
            entity.counters = higher.owner.counters;
        }
        let after = higher.decide(pack);
        prop_assert!(after.outcome.severity() >= before.outcome.severity(), "{}", after.reason());
    }

    #[test]
    fn a_fact_that_counts_against_a_flow_never_allows_more(
        case in case(),
        fact in prop::sample::select(vec!["ciio", "authority", "covered_person"]),
    ) {
        let pack = pack();
        let before = case.decide(pack);
        let mut against = case;
        let declare = |entity: &mut Entity| {
            entity.attributes.insert(fact.to_owned(), "yes".to_owned());
        };
        declare(&mut against.owner);
        against.entity.iter_mut().for_each(declare);
        let after = against.decide(pack);
        prop_assert!(before.outcome.is_allowed() || !after.outcome.is_allowed(), "{}", after.reason());
    }

    #[test]
    fn another_copy_never_makes_it_milder(case in case(), at in country()) {
        let pack = pack();
        let before = case.decide(pack);
        let mut with = case;
        with.caches.push(at);
        prop_assert!(with.decide(pack).outcome.severity() >= before.outcome.severity());
    }

    #[test]
    fn masking_never_makes_a_read_stricter(case in case()) {
        let pack = pack();
        let under = |suppression| {
            let decision = Case { suppression, ..case.clone() }.decide(pack);
            decision.outcome.is_allowed()
        };
        prop_assert!(!under(Suppression::None) || under(Suppression::Token));
        prop_assert!(!under(Suppression::Token) || under(Suppression::Null));
    }

    #[test]
    fn the_answer_stays_the_same_until_the_day_it_names(case in case(), part in 0.0..=1.0_f64) {
        let pack = pack();
        let now = case.decide(pack);
        let last = now.valid_until.unwrap_or(date(2040, 1, 1));
        prop_assert!(last >= case.date);
        let days = (last - case.date).get_days();
        let later = (f64::from(days) * part).floor();
        for days in [f64::from(days), later] {
            let days = format!("{days}").parse::<i64>().unwrap();
            let then = Case { date: case.date.saturating_add(days.days()), ..case.clone() };
            let then = then.decide(pack);
            prop_assert_eq!(&now.outcome, &then.outcome);
            prop_assert_eq!(&now.rows, &then.rows);
            prop_assert_eq!(&now.valid_until, &then.valid_until);
        }
    }

    #[test]
    fn every_answer_can_be_explained(case in case()) {
        let pack = pack();
        let decision = case.decide(pack);
        prop_assert!(!decision.rows.is_empty() && !decision.legs.is_empty());
        prop_assert!(decision.rows.iter().all(|row| decision.reason().contains(row.as_str()) || decision.legs.len() > 1));
        prop_assert_eq!(decision.help().is_none(), decision.outcome.is_allowed());
        prop_assert!(decision.outcome.is_allowed() || decision.obligations.is_empty());
    }
}
