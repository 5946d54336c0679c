//! The law pack: parsed and checked as a whole, then looked up by day.
//!
//! A pack that is half right does not load: the error names line and column and says what was
//! expected. Knows rows, not flows.

use std::collections::BTreeSet;

use jiff::civil::Date;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::RuleId;
use crate::model::digest::Digest;
use crate::policy::transfer::check::Flaw;
use crate::policy::transfer::check::check;
use crate::policy::transfer::grounds::Adequacy;
use crate::policy::transfer::grounds::Mechanism;
use crate::policy::transfer::grounds::MechanismKind;
use crate::policy::transfer::limits::Concern;
use crate::policy::transfer::rows::Class;
use crate::policy::transfer::rows::File;
use crate::policy::transfer::rows::Jurisdiction;
use crate::policy::transfer::rows::NoRegime;
use crate::policy::transfer::rows::Row;
use crate::policy::transfer::rows::Test;

/// Largest law pack that is read, in bytes.
pub const PACK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The files of the pack in the binary. Joined in this order they are one text: `base.toml` has what
/// stands once, each other one the law of one place.
const FILES: [(&str, &str); 11] = [
    ("base.toml", include_str!("pack/base.toml")),
    ("eu.toml", include_str!("pack/eu.toml")),
    ("uk.toml", include_str!("pack/uk.toml")),
    ("ch.toml", include_str!("pack/ch.toml")),
    ("br.toml", include_str!("pack/br.toml")),
    ("cn.toml", include_str!("pack/cn.toml")),
    ("in.toml", include_str!("pack/in.toml")),
    ("us.toml", include_str!("pack/us.toml")),
    ("ru.toml", include_str!("pack/ru.toml")),
    ("sa.toml", include_str!("pack/sa.toml")),
    ("own.toml", include_str!("pack/own.toml")),
];

/// The law as data: which law sees a border where, and what lets personal data cross it.
#[derive(Debug, Clone)]
pub struct Pack {
    pub(super) file: File,
    digest: Digest,
}

/// Why a text is no law pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("law pack{}, line {line}, column {column}: {what}", in_file(*.file))]
pub struct BadPack {
    /// Which of the files in the binary; `None`: the text was one.
    pub file: Option<&'static str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what was expected.
    pub what: String,
}

impl Pack {
    /// The pack that ships in the binary.
    pub fn builtin() -> Result<Self, BadPack> {
        Self::parse(&builtin_text()).map_err(BadPack::in_its_file)
    }

    /// Reads a pack. Every row must be whole, have a known source, and contradict no other.
    pub fn parse(text: &str) -> Result<Self, BadPack> {
        if text.len() > PACK_BYTES_MAX {
            let what = format!("the pack is larger than {PACK_BYTES_MAX} bytes");
            return Err(BadPack { file: None, line: 1, column: 1, what });
        }
        let file = toml::from_str::<File>(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            Flaw { at, what: error.message().to_owned() }.locate(text)
        })?;
        check(&file).map_err(|flaw| flaw.locate(text))?;
        Ok(Self { file, digest: Digest::of(text.as_bytes()) })
    }

    /// The pack's version; stored with every decision.
    pub fn version(&self) -> &str {
        &self.file.version
    }

    /// The day whose law it states.
    pub fn as_of(&self) -> Date {
        self.file.as_of
    }

    /// After this day it wants to be reviewed; the daemon warns.
    pub fn review_by(&self) -> Date {
        self.file.review_by
    }

    /// The digest of the pack's text.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The laws that a target may declare with `laws`, e.g. `EU`.
    pub fn laws(&self) -> BTreeSet<&str> {
        self.file.regime.iter().map(|row| row.law.as_str()).collect()
    }

    /// Whether `country` is an assigned code, or has the form of an international organization.
    pub fn knows_country(&self, country: &Country) -> bool {
        country.as_str().starts_with("INT:") || self.file.countries.contains(country)
    }

    /// Whether the class map has an entry for `class` on that day.
    pub fn knows_class(&self, class: &DataClass, date: Date) -> bool {
        self.class(class, date).is_some()
    }

    /// Whether `mechanism` is one that a [`Basis`](crate::policy::transfer::Basis) may name.
    pub fn knows_mechanism(&self, mechanism: &RuleId) -> bool {
        self.mechanism(mechanism).is_some_and(|row| match row.kind {
            MechanismKind::Safeguard | MechanismKind::Derogation | MechanismKind::Exemption => true,
            MechanismKind::Prohibition => false,
        })
    }

    /// Every mechanism that a [`Basis`](crate::policy::transfer::Basis) may name.
    pub fn mechanisms(&self) -> impl Iterator<Item = &RuleId> {
        let ids = self.file.mechanism.iter().map(|row| row.id().get_ref());
        ids.filter(|id| self.knows_mechanism(id))
    }

    /// Whether `mechanism` is for single cases, which are counted.
    pub fn is_derogation(&self, mechanism: &RuleId) -> bool {
        self.mechanism(mechanism).is_some_and(|row| row.kind == MechanismKind::Derogation)
    }

    /// Whether the exporter's own people may need `mechanism`: its law looks at places or persons,
    /// and not at entities alone.
    pub fn concerns_own_people(&self, mechanism: &RuleId) -> bool {
        let Some(row) = self.mechanism(mechanism) else { return false };
        let mut regimes = self.file.regime.iter().filter(|regime| regime.law == row.regime);
        regimes.any(|regime| match regime.test {
            Test::Entity => false,
            Test::Place | Test::EntityOrPlace | Test::Status => true,
        })
    }

    /// The longest entry of the class map that covers `class`.
    pub(super) fn class(&self, class: &DataClass, date: Date) -> Option<&Class> {
        let rows = self.file.class.iter().filter(|row| row.window().holds(date));
        rows.filter(|row| row.prefix.covers(class)).max_by_key(|row| row.prefix.as_str().len())
    }

    pub(super) fn no_regime(&self, code: &Country, date: Date) -> Option<&NoRegime> {
        self.file.no_regime.iter().find(|row| row.code == *code && row.window().holds(date))
    }

    /// What is known of `code` under `law`: in its zone, out of it, or nothing.
    pub(super) fn jurisdiction(
        &self,
        law: &str,
        code: &Country,
        date: Date,
    ) -> Option<&Jurisdiction> {
        let mut rows = self.file.jurisdiction.iter();
        rows.find(|row| row.code == *code && row.regime == law && row.window().holds(date))
    }

    /// The row by which `code` lies in the zone of `law`.
    pub(super) fn in_zone(&self, law: &str, code: &Country, date: Date) -> Option<&Jurisdiction> {
        self.jurisdiction(law, code, date).filter(|row| row.in_zone)
    }

    pub(super) fn adequacy<'a>(
        &'a self,
        law: &'a str,
        code: &'a Country,
    ) -> impl Iterator<Item = &'a Adequacy> {
        let rows = self.file.adequacy.iter().filter(move |row| row.regime == law);
        rows.filter(move |row| row.codes().any(|own| own == code))
    }

    /// The row by which `code` is a country of concern under `law`.
    pub(super) fn concern(&self, law: &str, code: &Country, date: Date) -> Option<&Concern> {
        let mut rows = self.file.concern.iter().filter(|row| row.window().holds(date));
        rows.find(|row| row.regime == law && row.codes.contains(code))
    }

    pub(super) fn mechanism(&self, id: &RuleId) -> Option<&Mechanism> {
        self.file.mechanism.iter().find(|row| row.id().get_ref() == id)
    }
}

impl BadPack {
    /// From the place in the joined text to that in the file of it.
    fn in_its_file(self) -> Self {
        let mut above = 0_usize;
        for (file, text) in FILES {
            let lines = text.lines().count();
            if self.line <= above.saturating_add(lines) {
                let line = self.line.saturating_sub(above);
                return Self { file: Some(file), line, ..self };
            }
            above = above.saturating_add(lines);
        }
        self
    }
}

/// The files as one text.
pub(super) fn builtin_text() -> String {
    FILES.map(|(_, text)| text).concat()
}

fn in_file(file: Option<&'static str>) -> String {
    file.map_or_else(String::new, |file| format!(", {file}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn broken(from: &str, to: &str) -> BadPack {
        let text = builtin_text();
        assert_eq!(text.matches(from).count(), 1, "{from}");
        Pack::parse(&text.replace(from, to)).unwrap_err().in_its_file()
    }

    /// The line of the file in which `part` stands first.
    fn line_of(file: &str, part: &str) -> usize {
        let (_, text) = FILES.iter().find(|(name, _)| *name == file).unwrap();
        text.lines().position(|line| line.contains(part)).unwrap() + 1
    }

    #[test]
    fn the_builtin_pack_loads_and_has_the_rows_it_claims() {
        let pack = Pack::builtin().unwrap();
        assert_eq!(pack.file.countries.len(), 249);
        assert_eq!(pack.digest(), Digest::of(builtin_text().as_bytes()));
        assert!(pack.as_of() <= pack.review_by());
        let laws =
            ["BR", "CH", "CN", "EU", "IN", "LOC-STORE", "LOC-STRICT", "RU", "SA", "UK", "US-DOJ"];
        assert_eq!(pack.laws(), BTreeSet::from(laws));
        let today = pack.as_of();
        let zone = pack.file.jurisdiction.iter().filter(|r| r.in_zone && r.window().holds(today));
        // 27 members, 3 EFTA states, 7 territories with a code of their own.
        assert_eq!(zone.filter(|row| row.regime == "EU").count(), 27 + 3 + 7);
        let adequate = |law: &str| {
            let rows = pack.file.adequacy.iter().filter(|row| row.window().holds(today));
            rows.filter(|row| row.regime == law).count()
        };
        assert_eq!(["EU", "UK", "CH", "BR"].map(adequate), [17, 17, 44, 1]);
        assert_eq!(pack.file.concern.iter().map(|row| row.codes.len()).sum::<usize>(), 8);
        assert_eq!(pack.file.mechanism.len(), 17 + 11 + 12 + 4 + 9 + 2 + 5 + 1 + 3);
    }

    #[test]
    fn an_error_points_at_the_line_and_says_what_was_expected() {
        let bad = broken("id = \"EUA-BR\"", "id = \"EUA-AR\"");
        assert_eq!((bad.line, bad.column), (line_of("eu.toml", "EUA-BR"), 6));
        assert!(bad.what.contains("already taken"), "{bad}");
        assert!(bad.to_string().starts_with("law pack, eu.toml, line "), "{bad}");

        let bad = broken("test = \"entity-or-place\"", "test = \"nationality\"");
        assert_eq!((bad.file, bad.line), (Some("sa.toml"), line_of("sa.toml", "test = ")));
        assert!(bad.what.contains("expected one of `entity`, `place`"), "{bad}");

        let bad = broken("id = \"TER-NC\"\nregime = \"EU\"", "id = \"TER-NC\"\nregime = \"FR\"");
        assert_eq!(bad.line, line_of("eu.toml", "TER-NC"));
        assert!(bad.what.contains("no [[regime]] has the law `FR`"), "{bad}");
    }

    #[test]
    fn a_word_that_the_decision_would_not_read_does_not_load() {
        for (from, to, expected) in [
            (
                "kind = \"exemption\"\nneeds_tia = false\nneeds_filing = false\nvalid_from = \"2024-03-22\"",
                "kind = \"waiver\"\nneeds_tia = false\nneeds_filing = false\nvalid_from = \"2024-03-22\"",
                "unknown variant",
            ),
            (
                "id = \"EUM-46A\"\nregime = \"EU\"\nname = \"instrument between public bodies\"\narticle = \"46(2)(a)\"\nkind = \"safeguard\"",
                "id = \"EUM-46A\"\nregime = \"EU\"\nname = \"x\"\narticle = \"x\"\nkind = \"exemption\"",
                "needs `count`",
            ),
            (
                "when = { toward = \"foreign\", relations = [\"brokerage\"] }\n",
                "",
                "belongs to the mechanisms",
            ),
            (
                "counts = \"sensitive\"\nat_least = 10000\n",
                "counts = \"us-persons\"\nat_least = 10000\n",
                "belongs to a regime of status",
            ),
            ("counts = \"sensitive\"\nat_least = 10000\n", "at_least = 10000\n", "needs `counts`"),
            (
                "needs = [\"CNM-SC\", \"CNM-CERT\", \"CNM-SA\"]",
                "needs = [\"EUM-SCC1\"]",
                "has no [[mechanism]]",
            ),
            ("codes = [\"VE\"]", "codes = [\"ZZ\"]", "not in `countries`"),
            ("combined = true", "combined = true\ncounts = \"us-persons\"", "alone"),
            (
                "attaches = [\"us-person\", \"declared\"]",
                "attaches = [\"declared\"]",
                "belong together",
            ),
            ("codes = [\"CU\"]", "codes = [\"IR\"]", "same days"),
        ] {
            let text = builtin_text();
            assert!(text.contains(from), "{from}");
            let bad = Pack::parse(&text.replacen(from, to, 1)).unwrap_err();
            assert!(bad.what.contains(expected), "{from}: {bad}");
        }
    }

    #[test]
    fn what_is_half_known_or_contradicts_does_not_load() {
        let mechanism = "article = \"46(2)(b), 47\"\n";
        for (from, to, expected) in [
            (mechanism, "", "missing field `article`"),
            ("id = \"CLS-OPS\"\nclass = \"ops\"", "id = \"CLS-OPS\"\nclass = \"pii\"", "same days"),
            ("id = \"NOR-US\"\ncode = \"US\"", "id = \"NOR-US\"\ncode = \"DE\"", "is in a zone"),
            (
                "id = \"TER-NC\"\nregime = \"EU\"\ncode = \"NC\"",
                "id = \"X\"\nregime = \"EU\"\ncode = \"ZZ\"",
                "not in `countries`",
            ),
            (
                "id = \"EUA-GB2\"\nregime = \"EU\"\ncode = \"GB\"",
                "id = \"X\"\nregime = \"EU\"\ncode = \"CH\"",
                "same days",
            ),
            ("valid_to = \"2015-10-05\"\n", "", "needs `valid_to`"),
            ("valid_to = \"2020-12-31\"", "valid_to = \"1972-12-31\"", "before `valid_from`"),
            ("source = \"eea\"", "", "source"),
            ("code = \"INT:EU\"", "codes = []", "either `code`"),
            ("review_by = \"2027-02-28\"", "review_by = \"2026-02-28\"", "before `as_of`"),
            (
                "review_by = \"2027-02-28\"",
                "review_by = \"2027-02-28\"\nsurprise = 1",
                "unknown field",
            ),
            ("normalize = \"STEP-1\"\n", "", "missing field `normalize`"),
        ] {
            let bad = Pack::parse(&builtin_text().replacen(from, to, 1)).unwrap_err();
            assert!(bad.what.contains(expected), "{from}: {bad}");
        }
    }

    #[test]
    fn two_rows_of_one_country_may_share_days_if_they_differ_in_scope() {
        let from = "id = \"EUA-UY\"";
        let text = builtin_text();
        let row = text.split("[[adequacy]]").find(|row| row.contains(from)).unwrap();
        let row = row.split("# ---").next().unwrap();
        let more = |row: String| Pack::parse(&format!("{text}\n[[adequacy]]{row}"));
        let same = row.replace("EUA-UY", "EUA-UY2");
        assert!(more(same.clone()).is_err());
        let scoped = "{ pred = \"declared\", attribute = \"x\" }";
        assert!(more(same.replace("{ pred = \"all\" }", scoped)).is_ok());
    }

    #[test]
    fn a_text_beyond_the_bound_is_refused() {
        assert!(Pack::parse(&" ".repeat(PACK_BYTES_MAX + 1)).unwrap_err().what.contains("larger"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".*", at in 0..60_000_usize, cut in 0..200_usize) {
            let _refused = Pack::parse(&text);
            let whole = builtin_text();
            let end = (at + cut).min(whole.len());
            if let (Some(head), Some(tail)) = (whole.get(..at), whole.get(end..))
                && let Err(bad) = Pack::parse(&format!("{head}{text}{tail}"))
            {
                prop_assert!(bad.line >= 1 && bad.column >= 1 && !bad.what.is_empty());
            }
        }
    }
}
