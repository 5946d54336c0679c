//! Whether a law pack is whole: every row sourced, no fact twice, no word without a meaning.
//!
//! What the decision would not read must not load: somebody would rely on it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::model::Country;
use crate::model::RuleId;
use crate::policy::transfer::grounds::MechanismKind;
use crate::policy::transfer::grounds::Status;
use crate::policy::transfer::limits::Counts;
use crate::policy::transfer::pack::BadPack;
use crate::policy::transfer::rows::Attach;
use crate::policy::transfer::rows::Fallback;
use crate::policy::transfer::rows::File;
use crate::policy::transfer::rows::Regime;
use crate::policy::transfer::rows::Row;
use crate::policy::transfer::rows::Test;

/// What is wrong, and at which byte of the text.
pub(super) struct Flaw {
    pub(super) at: usize,
    pub(super) what: String,
}

impl Flaw {
    pub(super) fn locate(self, text: &str) -> BadPack {
        let before = text.get(..self.at).unwrap_or(text);
        let line = before.matches('\n').count().saturating_add(1);
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count());
        BadPack { file: None, line, column: column.saturating_add(1), what: self.what }
    }

    fn of<R: Row>(row: &R, what: &str) -> Self {
        let id = row.id();
        Self { at: id.span().start, what: format!("{} {}: {what}", R::TABLE, id.get_ref()) }
    }
}

/// Whether the rows are whole and agree with each other.
pub(super) fn check(file: &File) -> Result<(), Flaw> {
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
    rows.check(&file.concern)?;
    rows.check(&file.threshold)?;
    rows.check(&file.localization)?;
    references(file)?;
    meaningless(file)?;
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
            for subject in row.subjects() {
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
        code(&row.code).map_err(|what| Flaw::of(row, &what))?;
    }
    for row in &file.adequacy {
        let all = law(&row.regime).and_then(|()| row.codes().try_for_each(code));
        all.map_err(|what| Flaw::of(row, &what))?;
        if row.code.is_some() != row.codes.is_empty() {
            return Err(Flaw::of(row, "expected either `code`, or at least one of `codes`"));
        }
    }
    for row in &file.concern {
        let all = law(&row.regime).and_then(|()| row.codes.iter().try_for_each(code));
        all.map_err(|what| Flaw::of(row, &what))?;
    }
    for row in &file.mechanism {
        law(&row.regime).map_err(|what| Flaw::of(row, &what))?;
    }
    let mechanism = |id: &RuleId, regime: &str| {
        let mut all = file.mechanism.iter();
        let known = all.any(|row| row.id().get_ref() == id && row.regime == regime);
        if known { Ok(()) } else { Err(format!("{regime} has no [[mechanism]] `{id}`")) }
    };
    for row in &file.threshold {
        let mut needs = row.needs.iter();
        let all = needs.try_for_each(|id| mechanism(id, &row.regime));
        law(&row.regime).and(all).map_err(|what| Flaw::of(row, &what))?;
    }
    for row in &file.localization {
        let mut needs = row.abroad_needs.iter();
        let all = needs.try_for_each(|id| mechanism(id, &row.regime));
        law(&row.regime).and(all).map_err(|what| Flaw::of(row, &what))?;
    }
    Ok(())
}

/// Words that only the decision of another kind of regime reads.
fn meaningless(file: &File) -> Result<(), Flaw> {
    let all = |law: &str, holds: fn(&Regime) -> bool| {
        file.regime.iter().filter(|row| row.law == law).all(holds)
    };
    let counting = |law: &str| all(law, |row| row.default == Fallback::Count);
    let of_status = |law: &str| all(law, |row| row.test == Test::Status);
    for row in &file.mechanism {
        let (holds, what) = match row.kind {
            MechanismKind::Exemption => (counting(&row.regime), "an exemption needs `count`"),
            MechanismKind::Prohibition => {
                (row.when.is_some(), "a prohibition needs `when`, which says of what")
            }
            MechanismKind::Safeguard | MechanismKind::Derogation => (true, ""),
        };
        if !holds {
            return Err(Flaw::of(row, what));
        }
        if row.when.is_some() != of_status(&row.regime) {
            return Err(Flaw::of(row, "`when` belongs to the mechanisms of a regime of status"));
        }
    }
    for row in &file.threshold {
        let status = of_status(&row.regime);
        let (holds, what) = match row.counts {
            _ if !status && !counting(&row.regime) => (false, "its regime counts nothing"),
            Some(Counts::UsPersons) => (status, "`us-persons` belongs to a regime of status"),
            Some(Counts::Individuals | Counts::Sensitive) => {
                (!status, "a regime of status counts `us-persons`")
            }
            None if row.at_least > 0 => (false, "`at_least` needs `counts`"),
            None => (true, ""),
        };
        if !holds || (row.combined && (!status || row.counts.is_some())) {
            let what = if holds { "`combined` belongs to a regime of status, alone" } else { what };
            return Err(Flaw::of(row, what));
        }
    }
    for row in &file.localization {
        if row.abroad_needs.is_some() && !counting(&row.regime) {
            return Err(Flaw::of(row, "`abroad_needs` belongs to a regime that counts"));
        }
    }
    for row in &file.regime {
        let status = row.test == Test::Status;
        if status != row.attaches.contains(&Attach::UsPerson) {
            return Err(Flaw::of(row, "the test of status and `us-person` belong together"));
        }
        if status && row.default != Fallback::Allow {
            return Err(Flaw::of(row, "a regime of status has the default `allow`"));
        }
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
