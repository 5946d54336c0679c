//! The law pack: parsed and checked as a whole, then looked up by day.
//!
//! A pack that is half right does not load: the error names line and column and says what was
//! expected. Knows rows, not flows.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use jiff::civil::Date;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::RuleId;
use crate::model::digest::Digest;
use crate::policy::transfer::rows::Adequacy;
use crate::policy::transfer::rows::Class;
use crate::policy::transfer::rows::File;
use crate::policy::transfer::rows::Jurisdiction;
use crate::policy::transfer::rows::Mechanism;
use crate::policy::transfer::rows::NoRegime;
use crate::policy::transfer::rows::Row;
use crate::policy::transfer::rows::Status;

/// Largest law pack that is read, in bytes.
pub const PACK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The law as data: which law sees a border where, and what lets personal data cross it.
#[derive(Debug, Clone)]
pub struct Pack {
    pub(super) file: File,
    digest: Digest,
}

/// Why a text is no law pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("law pack, line {line}, column {column}: {what}")]
pub struct BadPack {
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
        Self::parse(include_str!("pack.toml"))
    }

    /// Reads a pack. Every row must be whole, have a known source, and contradict no other.
    pub fn parse(text: &str) -> Result<Self, BadPack> {
        if text.len() > PACK_BYTES_MAX {
            let what = format!("the pack is larger than {PACK_BYTES_MAX} bytes");
            return Err(BadPack { line: 1, column: 1, what });
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
        self.mechanism(mechanism).is_some()
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
        self.file.adequacy.iter().filter(move |row| row.regime == law && row.code == *code)
    }

    pub(super) fn mechanism(&self, id: &RuleId) -> Option<&Mechanism> {
        self.file.mechanism.iter().find(|row| row.id().get_ref() == id)
    }
}

/// What is wrong, and at which byte of the text.
struct Flaw {
    at: usize,
    what: String,
}

impl Flaw {
    fn locate(self, text: &str) -> BadPack {
        let before = text.get(..self.at).unwrap_or(text);
        let line = before.matches('\n').count().saturating_add(1);
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count());
        BadPack { line, column: column.saturating_add(1), what: self.what }
    }

    fn of<R: Row>(row: &R, what: &str) -> Self {
        let id = row.id();
        Self { at: id.span().start, what: format!("{} {}: {what}", R::TABLE, id.get_ref()) }
    }
}

fn check(file: &File) -> Result<(), Flaw> {
    if file.review_by < file.as_of {
        let what = "`review_by` lies before `as_of`: it must be the same day or later".to_owned();
        return Err(Flaw { at: 0, what });
    }
    let mut sources = BTreeSet::new();
    for source in &file.source {
        if !sources.insert(source.id.get_ref().as_str()) {
            let what = format!("source {}: this id is already taken", source.id.get_ref());
            return Err(Flaw { at: source.id.span().start, what });
        }
    }
    let mut rows = Rows { sources, ids: BTreeSet::new() };
    rows.check(&file.class)?;
    rows.check(&file.regime)?;
    rows.check(&file.no_regime)?;
    rows.check(&file.jurisdiction)?;
    rows.check(&file.adequacy)?;
    rows.check(&file.mechanism)?;
    references(file)?;
    contradictions(file)
}

/// What holds for the rows of every table.
struct Rows<'a> {
    sources: BTreeSet<&'a str>,
    ids: BTreeSet<&'a RuleId>,
}

impl<'a> Rows<'a> {
    fn check<R: Row>(&mut self, rows: &'a [R]) -> Result<(), Flaw> {
        let mut subjects = BTreeMap::<String, Vec<&R>>::new();
        for row in rows {
            if !self.ids.insert(row.id().get_ref()) {
                return Err(Flaw::of(row, "this id is already taken: a changed fact is a new row"));
            }
            if !self.sources.contains(row.source()) {
                let what = format!("no [[source]] has the id `{}`", row.source());
                return Err(Flaw::of(row, &what));
            }
            let window = row.window();
            if window.to.is_some_and(|to| to < window.from) {
                return Err(Flaw::of(row, "`valid_to` lies before `valid_from`"));
            }
            let Some(subject) = row.subject() else { continue };
            let others = subjects.entry(subject).or_default();
            if let Some(other) = others.iter().find(|other| other.window().overlaps(window)) {
                let what = format!(
                    "speaks of the same as {} on the same days: end one with `valid_to`",
                    other.id().get_ref()
                );
                return Err(Flaw::of(row, &what));
            }
            others.push(row);
        }
        Ok(())
    }
}

/// Rows name only regimes and countries that there are.
fn references(file: &File) -> Result<(), Flaw> {
    let laws = file.regime.iter().map(|row| row.law.as_str()).collect::<BTreeSet<_>>();
    let law = |law: &str| {
        let what = format!("no [[regime]] has the law `{law}`");
        if laws.contains(law) { Ok(()) } else { Err(what) }
    };
    let code = |code: &Country| {
        let known = code.as_str().starts_with("INT:") || file.countries.contains(code);
        let what = format!("`{code}` is not in `countries`, and not INT:<name>");
        if known { Ok(()) } else { Err(what) }
    };
    for row in &file.jurisdiction {
        law(&row.regime).and_then(|()| code(&row.code)).map_err(|what| Flaw::of(row, &what))?;
    }
    for row in &file.no_regime {
        let mut codes = row.except_toward.iter().chain([&row.code]);
        codes.try_for_each(code).map_err(|what| Flaw::of(row, &what))?;
    }
    for row in &file.adequacy {
        law(&row.regime).and_then(|()| code(&row.code)).map_err(|what| Flaw::of(row, &what))?;
    }
    for row in &file.mechanism {
        law(&row.regime).map_err(|what| Flaw::of(row, &what))?;
    }
    Ok(())
}

/// Rows of different tables agree.
fn contradictions(file: &File) -> Result<(), Flaw> {
    for row in &file.no_regime {
        let zone = file.jurisdiction.iter().find(|zone| {
            zone.in_zone && zone.code == row.code && zone.window().overlaps(row.window())
        });
        if let Some(zone) = zone {
            let what = format!("{} says that {} is in a zone", zone.id().get_ref(), row.code);
            return Err(Flaw::of(row, &what));
        }
    }
    for row in &file.adequacy {
        match row.status {
            Status::Expired | Status::Annulled if row.valid_to.is_none() => {
                return Err(Flaw::of(row, "what is expired or annulled needs `valid_to`"));
            }
            Status::Expired | Status::Annulled | Status::InForce | Status::Contested => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = include_str!("pack.toml");

    fn broken(from: &str, to: &str) -> BadPack {
        assert_eq!(TEXT.matches(from).count(), 1, "{from}");
        Pack::parse(&TEXT.replace(from, to)).unwrap_err()
    }

    fn line_of(part: &str) -> usize {
        TEXT.lines().position(|line| line.contains(part)).unwrap() + 1
    }

    #[test]
    fn the_builtin_pack_loads_and_has_the_rows_it_claims() {
        let pack = Pack::builtin().unwrap();
        assert_eq!(pack.file.countries.len(), 249);
        assert_eq!(pack.digest(), Digest::of(TEXT.as_bytes()));
        assert!(pack.as_of() <= pack.review_by());
        assert_eq!(pack.laws(), BTreeSet::from(["EU"]));
        let today = pack.as_of();
        let zone = pack.file.jurisdiction.iter().filter(|r| r.in_zone && r.window().holds(today));
        // 27 members, 3 EFTA states, 7 territories with a code of their own.
        assert_eq!(zone.count(), 27 + 3 + 7);
        let adequate = pack.file.adequacy.iter().filter(|row| row.window().holds(today));
        assert_eq!(adequate.count(), 17);
    }

    #[test]
    fn an_error_points_at_the_line_and_says_what_was_expected() {
        let bad = broken("id = \"EUA-BR\"", "id = \"EUA-AR\"");
        assert_eq!((bad.line, bad.column), (line_of("EUA-BR"), 6));
        assert!(bad.what.contains("already taken"), "{bad}");

        let bad = broken("test = \"entity\"", "test = \"status\"");
        assert_eq!(bad.line, line_of("test = \"entity\""));
        assert!(bad.what.contains("expected `entity` or `place`"), "{bad}");

        let bad = broken("id = \"TER-NC\"\nregime = \"EU\"", "id = \"TER-NC\"\nregime = \"FR\"");
        assert_eq!(bad.line, line_of("TER-NC"));
        assert!(bad.what.contains("no [[regime]] has the law `FR`"), "{bad}");
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
            ("review_by = \"2027-02-28\"", "review_by = \"2026-02-28\"", "before `as_of`"),
            (
                "review_by = \"2027-02-28\"",
                "review_by = \"2027-02-28\"\nsurprise = 1",
                "unknown field",
            ),
            ("normalize = \"STEP-1\"\n", "", "missing field `normalize`"),
        ] {
            let bad = Pack::parse(&TEXT.replacen(from, to, 1)).unwrap_err();
            assert!(bad.what.contains(expected), "{from}: {bad}");
        }
    }

    #[test]
    fn two_rows_of_one_country_may_share_days_if_they_differ_in_scope() {
        let from = "id = \"EUA-UY\"";
        let row = TEXT.split("[[adequacy]]").find(|row| row.contains(from)).unwrap();
        let row = row.split("# ---").next().unwrap();
        let more = |row: String| Pack::parse(&format!("{TEXT}\n[[adequacy]]{row}"));
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
        fn no_text_makes_the_parser_panic(text in ".*", at in 0..TEXT.len(), cut in 0..200_usize) {
            let _refused = Pack::parse(&text);
            let end = (at + cut).min(TEXT.len());
            if let (Some(head), Some(tail)) = (TEXT.get(..at), TEXT.get(end..))
                && let Err(bad) = Pack::parse(&format!("{head}{text}{tail}"))
            {
                prop_assert!(bad.line >= 1 && bad.column >= 1 && !bad.what.is_empty());
            }
        }
    }
}
