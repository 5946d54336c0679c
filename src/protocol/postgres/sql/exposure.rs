//! What a statement shows, and whom it must be refused to.
//!
//! Results of the analysis in [`super::select`]; plain values.

use std::collections::BTreeSet;

use crate::model::DataClass;

/// Which classes a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Classes {
    /// Whatever the target holds: what is touched cannot be told, or is not declared.
    All,
    /// These, possibly none.
    These(BTreeSet<DataClass>),
}

impl Classes {
    /// No class.
    pub const NONE: Self = Self::These(BTreeSet::new());

    /// Whether it is about no class.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::All => false,
            Self::These(classes) => classes.is_empty(),
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::These(mut left), Self::These(right)) => {
                left.extend(right.iter().cloned());
                Self::These(left)
            }
        }
    }

    /// The classes, of a target that holds `everything`.
    pub fn of(&self, everything: &BTreeSet<DataClass>) -> BTreeSet<DataClass> {
        match self {
            Self::All => everything.clone(),
            Self::These(classes) => classes.clone(),
        }
    }
}

/// What a statement shows, and whom it must be refused to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// Why it must be refused to whoever may not see all of the classes concerned.
    pub concerns: Vec<Concern>,
    /// What its rows consist of.
    pub outputs: Outputs,
    /// Whether it names a table with a classified column: its errors and notices may carry values.
    pub touches_classified: bool,
    /// Every class of the outputs and concerns together: what its answer may carry.
    pub reads: BTreeSet<DataClass>,
}

/// Something a principal who may not see `classes` must be refused for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern {
    /// Which classes. [`Classes::All`]: refused to whomever anything is hidden from.
    pub classes: Classes,
    /// Why, a sentence for a human being.
    pub reason: String,
    /// Where in the text, in characters from 1, as PostgreSQL counts.
    pub position: Option<usize>,
}

/// What the rows of a statement consist of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outputs {
    /// It returns no rows.
    Nothing,
    /// It returns rows of exactly these columns, in this order.
    Columns(Vec<Output>),
    /// It returns rows whose columns depend on the server's version; none of them comes from a
    /// declared table, and a `RowDescription` that says otherwise must be refused.
    Unclassified,
    /// It returns the rows of the prepared statement or cursor it names.
    Stored,
}

/// One column of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name, where it is a column's or was given.
    pub name: Option<String>,
    /// The classes its values carry; empty for everything but classified columns themselves.
    pub classes: BTreeSet<DataClass>,
    /// The table and column it comes from, as `RowDescription` must say it.
    pub origin: Option<(u32, i16)>,
}
