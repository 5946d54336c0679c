//! What is known of a target's tables: which columns they have, and which classes those carry.
//!
//! Filled from configuration (classes) and from the server's catalogue (object identifiers, the
//! order of columns). It knows nothing of statements.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::model::DataClass;

/// What is known of one database of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    tables: BTreeMap<String, BTreeMap<String, Table>>,
    classes: BTreeSet<DataClass>,
    shadowed: BTreeSet<String>,
}

/// One declared table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its object identifier, as `RowDescription` names the origin of a column.
    pub oid: u32,
    /// Its columns in the catalogue's order, without dropped ones.
    pub columns: Vec<Column>,
}

/// One column of a declared table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its number (`attnum`), as `RowDescription` names the origin of a column.
    pub number: i16,
    /// The classes it carries. `None`: configuration does not declare it, so it counts as carrying
    /// all of them.
    pub classes: Option<BTreeSet<DataClass>>,
}

impl Declared {
    /// A database of which no table is declared, on a target that holds `classes` in all.
    pub fn new(classes: BTreeSet<DataClass>) -> Self {
        Self { classes, ..Self::default() }
    }

    /// Declares a table or view.
    pub fn declare(&mut self, schema: impl Into<String>, name: impl Into<String>, table: Table) {
        for column in &table.columns {
            self.classes.extend(column.classes.iter().flatten().cloned());
        }
        self.tables.entry(schema.into()).or_default().insert(name.into(), table);
    }

    /// Says that a function or operator of this name exists outside `pg_catalog` where an
    /// unqualified call may find it. PostgreSQL prefers argument types over the order of schemas,
    /// so an unqualified call of that name is no longer trusted to be the built-in one.
    pub fn shadow(&mut self, name: impl Into<String>) {
        self.shadowed.insert(name.into());
    }

    /// The table, if it is declared.
    pub fn table(&self, schema: &str, name: &str) -> Option<&Table> {
        self.tables.get(schema)?.get(name)
    }

    /// Every class the target holds.
    pub fn classes(&self) -> &BTreeSet<DataClass> {
        &self.classes
    }

    pub(super) fn is_shadowed(&self, name: &str) -> bool {
        self.shadowed.contains(name)
    }
}
