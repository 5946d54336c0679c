//! What the reading promises, on whole texts: effects, exposure, and hostile input.

use std::collections::BTreeSet;

use crate::model::DataClass;
use crate::protocol::postgres::sql::Classes;
use crate::protocol::postgres::sql::Column;
use crate::protocol::postgres::sql::Declared;
use crate::protocol::postgres::sql::Statement;
use crate::protocol::postgres::sql::Table;
use crate::protocol::postgres::sql::read;

mod does;
mod hostile;
mod shows;

fn class(text: &str) -> DataClass {
    text.parse().unwrap()
}

fn table(oid: u32, columns: &[(&str, &[&str])]) -> Table {
    let columns = columns
        .iter()
        .enumerate()
        .map(|(index, (name, classes))| Column {
            name: (*name).to_owned(),
            number: i16::try_from(index + 1).unwrap(),
            classes: Some(classes.iter().map(|text| class(text)).collect()),
        })
        .collect();
    Table { oid, columns }
}

/// The schema of the hard list: everything declared but views, functions' results and statistics.
fn declared() -> Declared {
    const SSN: &[&str] = &["pii.ssn"];
    let mut all = Declared::new(BTreeSet::from([class("pii.email"), class("pii.ssn")]));
    all.declare(
        "public",
        "customers",
        table(100, &[("id", &[]), ("email", &["pii.email"]), ("ssn", SSN), ("note", &[])]),
    );
    all.declare(
        "public",
        "orders",
        table(101, &[("id", &[]), ("customer_id", &[]), ("amount", &[])]),
    );
    all.declare("public", "notes", table(102, &[("id", &[]), ("body", &[]), ("n", &[])]));
    all.declare(
        "public",
        "gen_customers",
        table(103, &[("id", &[]), ("ssn", SSN), ("ssn_key", SSN)]),
    );
    all.declare("public", "p_customers", table(104, &[("id", &[]), ("ssn", SSN), ("note", &[])]));
    all.declare("public", "p_customers_1", table(105, &[("id", &[]), ("ssn", SSN), ("note", &[])]));
    all.declare("public", "uniq_notes", table(106, &[("body", &[])]));
    all.declare("public", "fk_notes", table(107, &[("body", &[])]));
    all.declare("public", "excl_notes", table(108, &[("body", &[])]));
    all.declare("public", "doorbell", table(109, &[("id", &[])]));
    // A column was added that configuration does not know.
    let mut grown = table(110, &[("id", &[]), ("added", &[])]);
    grown.columns[1].classes = None;
    all.declare("public", "grown", grown);
    all
}

fn statements(text: &str) -> Vec<Statement> {
    read(text, &declared()).unwrap_or_else(|error| panic!("{text}: {error:?}")).statements
}

fn one(text: &str) -> Statement {
    let mut all = statements(text);
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0)
}

/// Whether the statement must be refused to a principal from whom `hidden` is hidden.
fn refused_to(statement: &Statement, hidden: &DataClass) -> bool {
    statement.unsupported.is_some()
        || statement.exposure.concerns.iter().any(|concern| match &concern.classes {
            Classes::All => true,
            Classes::These(classes) => classes.contains(hidden),
        })
}
