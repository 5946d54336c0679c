//! The worked cases, from `tests/golden/law/cases.txt`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use jiff::civil::Date;

use super::*;
use crate::model::Country;
use crate::model::DataClass;
use crate::model::EntityId;
use crate::model::digest::Digest;
use crate::model::principal::Counters;
use crate::model::principal::Entity;
use crate::model::principal::Role;

const CASES: &str = include_str!("../../../tests/golden/law/cases.txt");

/// One line of the table, owned; [`Case::flow`] lends it out.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) id: String,
    pub(super) date: Date,
    pub(super) country: Country,
    pub(super) classes: BTreeSet<DataClass>,
    pub(super) laws: BTreeSet<String>,
    pub(super) owner: Entity,
    pub(super) entity: Option<Entity>,
    pub(super) link: Link,
    pub(super) from: Option<Country>,
    pub(super) residence: Option<Country>,
    pub(super) gateway: Country,
    pub(super) recording: Country,
    pub(super) caches: Vec<Country>,
    pub(super) us_persons: Option<u64>,
    pub(super) us_person: Option<bool>,
    pub(super) covered_person: bool,
    pub(super) op: Op,
    pub(super) suppression: Suppression,
    pub(super) bases: Vec<Basis>,
    pub(super) expected: String,
    pub(super) rows: Vec<String>,
}

impl Case {
    pub(super) fn all() -> Vec<Self> {
        CASES
            .lines()
            .filter(|line| ["| A", "| B", "| C"].iter().any(|begin| line.starts_with(begin)))
            .map(Self::read)
            .collect()
    }

    pub(super) fn named(id: &str) -> Self {
        Self::all().into_iter().find(|case| case.id == id).unwrap()
    }

    pub(super) fn flow(&self) -> Flow<'_> {
        Flow {
            date: self.date,
            data: Data {
                country: &self.country,
                classes: &self.classes,
                laws: &self.laws,
                owner: &self.owner,
                us_persons: self.us_persons,
            },
            asker: Asker {
                entity: self.entity.as_ref(),
                link: self.link,
                from: self.from.as_ref(),
                residence: self.residence.as_ref(),
                us_person: self.us_person,
                covered_person: self.covered_person,
            },
            path: Path { gateway: &self.gateway, recording: &self.recording, caches: &self.caches },
            op: self.op,
            suppression: self.suppression,
        }
    }

    pub(super) fn decide(&self, pack: &Pack) -> Decision {
        decide(&self.flow(), pack, &self.bases)
    }

    fn read(line: &str) -> Self {
        let cells = line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
        let [id, day, data, exporter, principal, from, path, op, bases, counters, expected, rows] =
            cells[..]
        else {
            panic!("{line}")
        };
        let mut data = data.split(' ');
        let country = data.next().unwrap().parse().unwrap();
        let (marks, classes) = data.partition::<Vec<_>, _>(|word| word.contains('='));
        let mark = |name: &str| marks.iter().find_map(|word| word.strip_prefix(name));
        let number = |name: &str| {
            counters.split(' ').find_map(|word| word.strip_prefix(name)?.parse::<u64>().ok())
        };
        let declared = |name| (counters != "-").then(|| number(name).unwrap_or(0));
        let counters = Counters { cn_pi: declared("cn_pi="), cn_sens: declared("cn_sens=") };
        let mut owner = Entity { counters, ..entity(exporter) };
        match mark("own=") {
            Some("Acme") => owner = entity("Acme@DE/c"),
            Some("Nordit") => owner = entity("Nordit@NO/p"),
            Some("AcmeUS") => owner = entity("AcmeUS@US/p"),
            Some("Sino") => owner = entity("Sino@CN/p"),
            Some(other) => panic!("{other}"),
            None => {}
        }
        let path = path.split([' ', '=']).collect::<Vec<_>>();
        let words = op.split(' ').collect::<Vec<_>>();
        Self {
            id: id.to_owned(),
            date: day.parse().unwrap(),
            country,
            classes: classes.iter().map(|class| class.parse().unwrap()).collect(),
            laws: mark("law=").map(str::to_owned).into_iter().collect(),
            us_persons: mark("us=").map(|number| number.parse().unwrap()),
            us_person: None,
            covered_person: false,
            owner,
            entity: (principal != "-").then(|| Entity { counters, ..entity(principal) }),
            link: if principal.contains(" con") { Link::Contractor } else { Link::Employee },
            from: (from != "??").then(|| from.parse().unwrap()),
            residence: principal.split(' ').find_map(|w| w.strip_prefix("res=")?.parse().ok()),
            gateway: path[1].parse().unwrap(),
            recording: path[3].parse().unwrap(),
            caches: path.get(5).map(|code| code.parse().unwrap()).into_iter().collect(),
            op: match words[0] {
                "read" => Op::Read,
                "approve" => Op::Approve,
                "replay" => Op::Replay,
                "search" => Op::Search,
                "write" => Op::Write,
                "egress" => Op::Egress,
                other => panic!("{other}"),
            },
            suppression: match words.get(1) {
                None => Suppression::None,
                Some(&"mask=token") => Suppression::Token,
                Some(&"mask=null") => Suppression::Null,
                Some(other) => panic!("{other}"),
            },
            bases: if bases == "-" { Vec::new() } else { bases.split(" + ").map(basis).collect() },
            expected: expected.to_owned(),
            rows: rows.split(' ').map(str::to_owned).collect(),
        }
    }
}

/// `Acme@DE/c lgpd dpf=nonhr`; `emp`, `con`, `res=` and `rel=` are not the entity's.
pub(super) fn entity(text: &str) -> Entity {
    let (name, rest) = text.split_once('@').unwrap();
    let (country, rest) = rest.split_once('/').unwrap();
    let mut words = rest.split(' ');
    let role = match words.next().unwrap() {
        "c" => Role::Controller,
        "p" => Role::Processor,
        other => panic!("{other}"),
    };
    let of_person = |word: &str| word.starts_with("res=") || word.starts_with("rel=");
    let words = words.filter(|word| !["emp", "con"].contains(word) && !of_person(word));
    let words = words.map(|word| if word == "usp" { "us_person" } else { word });
    let attributes = words.map(|word| word.split_once('=').unwrap_or((word, "yes")));
    Entity {
        id: name.parse().unwrap(),
        country: country.parse().unwrap(),
        role,
        attributes: attributes
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect::<BTreeMap<_, _>>(),
        counters: Counters::default(),
    }
}

/// `EUM-SCC2 Acme>SupIN@IN 2024-01-01..2027-12-31 tia needs=token class=pii filing max=1 uses=0`.
pub(super) fn basis(text: &str) -> Basis {
    let words = text.split(' ').collect::<Vec<_>>();
    let (exporter, importer) = words[1].split_once('>').unwrap();
    let (importer, country) = importer.split_once('@').unwrap();
    let (valid_from, valid_to) = words[2].split_once("..").unwrap();
    let mark = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
    Basis {
        id: format!("basis-{}", words[0]).parse().unwrap(),
        mechanism: words[0].parse().unwrap(),
        exporter: exporter.parse::<EntityId>().unwrap(),
        importer: importer.parse().unwrap(),
        importer_country: country.parse().unwrap(),
        classes: mark("class=").map(|class| vec![class.parse().unwrap()]),
        access_countries: mark("access=").map(|code| code.parse().unwrap()).into_iter().collect(),
        needs_mask: mark("needs=").map(|word| match word {
            "token" => NeedsMask::Token,
            "null" => NeedsMask::Null,
            other => panic!("{other}"),
        }),
        tia: words.contains(&"tia").then(|| Assessment {
            reference: "tia-1".to_owned(),
            date: valid_from.parse().unwrap(),
            review_by: valid_to.parse().unwrap(),
        }),
        reason: None,
        filing: words.contains(&"filing").then(|| "case-1".to_owned()),
        document: Digest::of(b"the signed document"),
        valid_from: valid_from.parse().unwrap(),
        valid_to: valid_to.parse().unwrap(),
        max_uses: mark("max=").map(|n| n.parse().unwrap()),
        uses: mark("uses=").map(|n| n.parse().unwrap()),
        owner: "legal".to_owned(),
        approved_by: "dpo".to_owned(),
    }
}

#[test]
fn the_worked_cases_come_out_as_they_should() {
    let pack = Pack::builtin().unwrap();
    let cases = Case::all();
    assert_eq!(cases.len(), 40 + 38 + 80);
    let mut wrong = String::new();
    for case in &cases {
        let decision = case.decide(&pack);
        let cited = decision.rows.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let missing = case.rows.iter().filter(|row| !cited.contains(*row)).collect::<Vec<_>>();
        if decision.outcome.to_string() != case.expected || !missing.is_empty() {
            wrong.push_str(&case.id);
            wrong.push_str(": ");
            wrong.push_str(&decision.reason());
            wrong.push('\n');
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_refusal_says_who_whom_where_why_and_what_would_help() {
    let pack = Pack::builtin().unwrap();
    let mut case = Case::named("A20");
    case.owner.id = "acme-de".parse().unwrap();
    case.entity = Some(entity("acme-sg@SG/p"));
    case.from = Some("SG".parse().unwrap());
    let decision = case.decide(&pack);
    assert_eq!(
        decision.reason(),
        "making the data available from acme-de (DE) to acme-sg (SG) in SG is forbidden: \
         no adequacy decision and no registered basis covers it (EDPB-3, REG-EU, EU-DE)"
    );
    assert_eq!(
        decision.help().unwrap(),
        "register standard contractual clauses (EUM-SCC2) between acme-de and acme-sg, \
         with a transfer impact assessment"
    );
    assert!(decision.obligations.is_empty());
}

#[test]
fn a_refusal_before_any_law_says_what_is_unknown() {
    let pack = Pack::builtin().unwrap();
    let told = |id| Case::named(id).decide(&pack).reason();
    assert!(told("A04").contains("a country on the way is unknown: the country of access"));
    assert!(told("A05").contains("a class of the data is unknown: unheard.of"));
    assert!(told("B06").contains("XX is no assigned code"));
    assert!(told("B32").contains("does not know the transfer law that applies: that of NC"));
}

#[test]
fn what_an_allowed_flow_obliges_to() {
    let pack = Pack::builtin().unwrap();
    let obligations = |id| Case::named(id).decide(&pack).obligations;
    let second = Obligation::SecondBasis("EUA-US3".parse().unwrap());
    assert_eq!(obligations("A01"), BTreeSet::new());
    assert_eq!(obligations("A03"), BTreeSet::from([Obligation::LogPlace]));
    assert_eq!(obligations("A08"), BTreeSet::from([Obligation::LedgerRow, second]));
    assert_eq!(obligations("B22"), BTreeSet::from([Obligation::LedgerRow]));
    let both = Case::named("B22").decide(&pack);
    assert_eq!(both.bases, ["basis-EUM-SCC2".parse().unwrap()]);
    assert!(Case::named("A03").decide(&pack).help().is_none());
}

#[test]
fn an_answer_says_until_when_it_holds() {
    let pack = Pack::builtin().unwrap();
    let until = |id| Case::named(id).decide(&pack).valid_until.map(|date| date.to_string());
    assert_eq!(until("A01"), None);
    assert_eq!(until("A10").unwrap(), "2027-12-31");
    assert_eq!(until("B17").unwrap(), "2031-12-27");
    // The day before the decision on Brazil begins to hold.
    assert_eq!(until("A20").unwrap(), "2026-01-27");
}

#[test]
fn an_overdue_assessment_does_not_count() {
    let pack = Pack::builtin().unwrap();
    let mut case = Case::named("A10");
    case.bases[0].tia.as_mut().unwrap().review_by = "2026-11-20".parse().unwrap();
    assert_eq!(case.decide(&pack).outcome, Outcome::Forbidden { why: Why::NoTia });
    case.bases[0].tia.as_mut().unwrap().review_by = case.date;
    let decision = case.decide(&pack);
    assert_eq!(decision.outcome, Outcome::Transfer);
    assert_eq!(decision.valid_until, Some(case.date));
}

#[test]
fn a_register_entry_reads_from_toml() {
    let text = r#"
        id = "scc-acme-sg-2026"
        mechanism = "EUM-SCC2"
        exporter = "acme-de"
        importer = "acme-sg"
        importer_country = "SG"
        tia = { reference = "tia-7", date = "2026-01-01", review_by = "2027-01-01" }
        document = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        valid_from = "2026-01-01"
        valid_to = "2028-12-31"
        owner = "legal"
        approved_by = "dpo"
    "#;
    let basis = toml::from_str::<Basis>(text).unwrap();
    assert_eq!((basis.mechanism.as_str(), basis.uses), ("EUM-SCC2", None));
    assert_eq!(toml::from_str::<Basis>(&format!("{text}\nuses = 0")).unwrap().uses, Some(0));
    assert!(toml::from_str::<Basis>(&format!("{text}\nused = 0")).is_err());
    assert!(toml::from_str::<Basis>(&text.replace("document", "#")).is_err());
}

/// A law that is not Union law: rows alone say what it is.
fn with_law(test: &str, own_staff_abroad: &str, default: &str, token_exempt: bool) -> Pack {
    let shipped = pack::builtin_text();
    let more = format!(
        r#"
        [[regime]]
        id = "LOC-X"
        law = "X"
        attaches = ["declared"]
        test = "{test}"
        own_staff_abroad = "{own_staff_abroad}"
        default = "{default}"
        null_exempt = true
        token_exempt = {token_exempt}
        covers = ["personal"]
        cites = {{ attached = "LOC-X", same_entity = "LOC-X", third_country = "LOC-X" }}
        valid_from = "2018-05-25"
        source = "classes"
        [[jurisdiction]]
        id = "X-DE"
        regime = "X"
        code = "DE"
        in_zone = true
        valid_from = "2018-05-25"
        source = "classes"
        [[jurisdiction]]
        id = "X-SG"
        regime = "X"
        code = "SG"
        in_zone = true
        valid_from = "2018-05-25"
        source = "classes"
        "#
    );
    Pack::parse(&format!("{shipped}{more}")).unwrap()
}

#[test]
fn another_law_is_rows() {
    let outcome = |id: &str, pack: &Pack| {
        let mut case = Case::named(id);
        case.laws.insert("X".to_owned());
        case.decide(pack).outcome.to_string()
    };
    // The exporter's own staff in India (A03), and a Norwegian processor in Norway (A02).
    let strict = with_law("place", "forbidden", "deny", false);
    assert_eq!(outcome("A03", &strict), "forbidden(localized)");
    assert_eq!(outcome("A02", &strict), "forbidden(no-basis)");
    let transfer = with_law("place", "transfer", "deny", false);
    assert_eq!(outcome("A03", &transfer), "forbidden(no-basis)");
    let storing = with_law("place", "none-log", "allow", false);
    assert_eq!(outcome("A03", &storing), "none+log");
    assert_eq!(outcome("A02", &storing), "none+log");
    // A basis under one law never serves another; tokens, where that law lets them go, do.
    let entity = |token_exempt| with_law("entity", "none-log", "deny", token_exempt);
    assert_eq!(outcome("A13", &entity(false)), "forbidden(no-basis)");
    assert_eq!(outcome("A13", &entity(true)), "transfer");
    // A law that attaches by declaration only says nothing of a country's own law.
    let mut case = Case::named("A01");
    case.country = "SG".parse().unwrap();
    let decision = case.decide(&strict);
    assert_eq!(decision.outcome, Outcome::Forbidden { why: Why::UnknownRegime });
}
