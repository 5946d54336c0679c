//! What ends soon: bases on file, their assessments, and the law data's own review.
//!
//! Pure: the day is an input. Whoever has a clock asks daily, and tells people.

use std::fmt;

use jiff::ToSpan;
use jiff::civil::Date;

use crate::model::RuleId;
use crate::policy::transfer::basis::Basis;
use crate::policy::transfer::pack::Pack;
use crate::policy::transfer::rows::Row;

/// How long before its end something is told, in days.
pub const WARNED_DAYS_BEFORE: u16 = 30;

/// Something that ends soon, or has ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiring {
    /// The last day on which it holds.
    pub last_day: Date,
    /// What it is.
    pub what: Ends,
    /// Whether that day is over.
    pub over: bool,
}

/// What ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ends {
    /// A basis on file.
    Basis(RuleId),
    /// The transfer impact assessment of a basis.
    Assessment(RuleId),
    /// The mechanism that a basis makes use of, by the law itself.
    Mechanism {
        /// The basis.
        basis: RuleId,
        /// Its mechanism.
        mechanism: RuleId,
    },
    /// The law data: it wants a review.
    Pack {
        /// Its version.
        version: String,
    },
}

/// Whatever ends within `days` after `date`, or has ended, the earliest first.
pub fn expiring(bases: &[Basis], pack: &Pack, date: Date, days: u16) -> Vec<Expiring> {
    let horizon = date.saturating_add(i64::from(days).days());
    let of_basis = |basis: &Basis| {
        let id = || basis.id.clone();
        let assessment = basis.tia.as_ref().map(|tia| (tia.review_by, Ends::Assessment(id())));
        let row = pack.mechanism(&basis.mechanism);
        let last_day = row.and_then(|row| row.window_of(basis).to).unwrap_or(basis.valid_to);
        let mechanism = row.and_then(|row| row.window().to).map(|last| {
            (last, Ends::Mechanism { basis: id(), mechanism: basis.mechanism.clone() })
        });
        [Some((last_day, Ends::Basis(id()))), assessment, mechanism].into_iter().flatten()
    };
    let review = (pack.review_by(), Ends::Pack { version: pack.version().to_owned() });
    let all = bases.iter().flat_map(of_basis).chain([review]);
    let soon = all.filter(|(last_day, _)| *last_day <= horizon);
    let mut soon = soon
        .map(|(last_day, what)| Expiring { last_day, what, over: last_day < date })
        .collect::<Vec<_>>();
    soon.sort();
    soon
}

impl fmt::Display for Expiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { last_day, what, over } = self;
        let ends = if *over { "ended on" } else { "ends on" };
        match what {
            Ends::Basis(id) => write!(f, "the legal basis `{id}` {ends} {last_day}"),
            Ends::Assessment(id) => {
                write!(f, "the assessment of the legal basis `{id}` {ends} {last_day}")
            }
            Ends::Mechanism { basis, mechanism } => {
                write!(
                    f,
                    "{mechanism}, which the legal basis `{basis}` rests on, {ends} {last_day}"
                )
            }
            Ends::Pack { version } => {
                let wants = if *over { "wanted" } else { "wants" };
                write!(
                    f,
                    "the law data {version} {wants} a review by {last_day}: an expert should look \
                     at it"
                )
            }
        }
    }
}
