//! What names mean at a place in a query: relations, their columns, and the way from the innermost
//! query outwards.
//!
//! Where PostgreSQL finds exactly one column, this finds the same one; where it cannot be sure (two
//! columns of that name, a relation whose columns depend on the server's version), it takes the
//! classes of all candidates together.

use std::rc::Rc;

use crate::protocol::postgres::sql::exposure::Classes;

/// One column of a relation or of a query's rows.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) classes: Classes,
    pub(super) origin: Option<(u32, i16)>,
    /// Whether it is a partition's bounds: the server names no origin, and yet it can be masked.
    pub(super) bound: bool,
}

impl Field {
    /// A column that carries no class and comes from no declared column.
    pub(super) fn plain(name: impl Into<String>) -> Self {
        Self { name: name.into(), classes: Classes::NONE, origin: None, bound: false }
    }
}

/// The columns of a relation or query, in order.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) fields: Vec<Field>,
    /// Whether number and order of the columns are known; else there may be more of them, or
    /// fewer, none of them classified.
    pub(super) exact: bool,
    /// What reading all of them at once concerns beyond the columns' own classes.
    pub(super) whole: Classes,
}

impl Row {
    /// Exactly these columns.
    pub(super) fn of(fields: Vec<Field>) -> Self {
        Self { fields, exact: true, whole: Classes::NONE }
    }

    /// Columns that depend on the server's version.
    pub(super) fn open(fields: Vec<Field>) -> Self {
        Self { fields, exact: false, whole: Classes::NONE }
    }

    /// The classes of the whole row.
    pub(super) fn classes(&self) -> Classes {
        self.fields.iter().fold(self.whole.clone(), |all, field| all.and(&field.classes))
    }

    /// The same under the column names of an alias, which renames the first ones.
    pub(super) fn renamed(mut self, names: &[&str]) -> Self {
        if !self.exact && !names.is_empty() {
            // Which column gets which name depends on the server's version.
            let column = |name: &&str| Field { classes: self.whole.clone(), ..Field::plain(*name) };
            let fields = names.iter().map(column).collect();
            return Self { fields, exact: false, whole: self.whole };
        }
        for (field, name) in self.fields.iter_mut().zip(names) {
            (*name).clone_into(&mut field.name);
        }
        self
    }
}

/// A relation that a FROM clause or a changed table brings into view.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// The name it goes by; `None`: it has none.
    pub(super) alias: Option<String>,
    /// Its schema, if it goes by its own name.
    pub(super) schema: Option<String>,
    pub(super) row: Rc<Row>,
    /// Whether it has system columns: it is a table.
    pub(super) table: bool,
    /// Whether its columns are found without naming it.
    pub(super) open: bool,
}

/// The relations in view in one query, and those of the queries around it.
#[derive(Debug)]
pub(super) struct Scope<'s> {
    pub(super) relations: Vec<Relation>,
    pub(super) outer: Option<&'s Self>,
}

/// One common table expression.
#[derive(Debug)]
pub(super) enum Cte {
    /// Its rows.
    Read(Rc<Row>),
    /// Its query comes later in the same WITH RECURSIVE.
    Later,
}

/// The common table expressions in view.
#[derive(Debug)]
pub(super) struct Ctes<'s> {
    pub(super) names: Vec<(String, Cte)>,
    pub(super) outer: Option<&'s Self>,
}

/// Where something stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place<'s> {
    pub(super) scope: Option<&'s Scope<'s>>,
    pub(super) ctes: Option<&'s Ctes<'s>>,
}

/// What a name means.
#[derive(Debug, Clone)]
pub(super) enum Meaning {
    /// A column.
    Column(Field),
    /// A relation's whole row.
    Whole(Classes),
    /// Nothing that is known.
    Unknown,
}

impl<'s> Ctes<'s> {
    /// The innermost one of this name.
    pub(super) fn find(&self, name: &str) -> Option<&Cte> {
        let mut level: Option<&Ctes<'s>> = Some(self);
        while let Some(ctes) = level {
            if let Some((_, cte)) = ctes.names.iter().rev().find(|(known, _)| known == name) {
                return Some(cte);
            }
            level = ctes.outer;
        }
        None
    }
}

impl<'s> Scope<'s> {
    /// This scope and those around it, innermost first.
    fn outwards(&'s self) -> impl Iterator<Item = &'s Scope<'s>> {
        std::iter::successors(Some(self), |scope| scope.outer)
    }

    /// How many columns a search may have to look at.
    pub(super) fn size(&'s self) -> usize {
        let relations = self.outwards().flat_map(|scope| scope.relations.iter());
        relations.fold(1, |sum, relation| sum.saturating_add(relation.row.fields.len()))
    }

    /// What a name without qualification means.
    pub(super) fn column(&'s self, name: &str) -> Meaning {
        let mut found: Option<Field> = None;
        for scope in self.outwards() {
            let mut certain = true;
            for relation in scope.relations.iter().filter(|relation| relation.open) {
                certain &= relation.row.exact;
                for field in relation.row.fields.iter().filter(|field| field.name == name) {
                    found = Some(match found {
                        Some(first) => {
                            Field { classes: first.classes.and(&field.classes), ..first }
                        }
                        None => field.clone(),
                    });
                }
            }
            if found.is_some() && certain {
                break;
            }
        }
        if let Some(field) = found {
            return Meaning::Column(field);
        }
        if is_system_column(name) && self.outwards().any(Self::has_table) {
            return Meaning::Column(Field::plain(name));
        }
        match self.relation(None, name) {
            Some(relation) => Meaning::Whole(relation.row.classes()),
            None => Meaning::Unknown,
        }
    }

    /// What a column qualified by a relation's name means.
    pub(super) fn qualified(&'s self, schema: Option<&str>, table: &str, name: &str) -> Meaning {
        let Some(relation) = self.relation(schema, table) else { return Meaning::Unknown };
        let mut fields = relation.row.fields.iter().filter(|field| field.name == name);
        if let Some(first) = fields.next() {
            let classes = fields.fold(first.classes.clone(), |all, field| all.and(&field.classes));
            return Meaning::Column(Field { classes, ..first.clone() });
        }
        if relation.table && is_system_column(name) {
            return Meaning::Column(Field::plain(name));
        }
        Meaning::Unknown
    }

    /// The innermost relation of this name.
    pub(super) fn relation(&'s self, schema: Option<&str>, table: &str) -> Option<&'s Relation> {
        self.outwards().find_map(|scope| {
            scope.relations.iter().find(|relation| {
                relation.alias.as_deref() == Some(table)
                    && (schema.is_none() || relation.schema.as_deref() == schema)
            })
        })
    }

    fn has_table(scope: &Scope<'_>) -> bool {
        scope.relations.iter().any(|relation| relation.table)
    }
}

fn is_system_column(name: &str) -> bool {
    ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"].contains(&name)
}
