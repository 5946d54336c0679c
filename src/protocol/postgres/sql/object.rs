//! Kinds and names of the objects that DROP, ALTER, GRANT and COMMENT name.

use pg_raw_parse::Node;
use pg_raw_parse::raw::ObjectType;

use crate::protocol::postgres::sql::names;

/// The kind of an object, in the words of commands' objects.
pub(super) fn kind(kind: ObjectType::Type) -> &'static str {
    match kind {
        ObjectType::OBJECT_TABLE
        | ObjectType::OBJECT_VIEW
        | ObjectType::OBJECT_MATVIEW
        | ObjectType::OBJECT_FOREIGN_TABLE
        | ObjectType::OBJECT_COLUMN
        | ObjectType::OBJECT_TABCONSTRAINT
        | ObjectType::OBJECT_RULE
        | ObjectType::OBJECT_TRIGGER
        | ObjectType::OBJECT_POLICY => "table",
        ObjectType::OBJECT_FUNCTION
        | ObjectType::OBJECT_PROCEDURE
        | ObjectType::OBJECT_ROUTINE
        | ObjectType::OBJECT_AGGREGATE => "function",
        _ => word(kind),
    }
}

/// The name of an object of DROP, ALTER or COMMENT. Of a column, rule, trigger or policy, the last
/// part is its own name and the rest is its table's.
pub(super) fn name(kind: ObjectType::Type, object: Node<'_>) -> String {
    let parts = names::strings_of(object);
    let of_table = [
        ObjectType::OBJECT_COLUMN,
        ObjectType::OBJECT_TABCONSTRAINT,
        ObjectType::OBJECT_RULE,
        ObjectType::OBJECT_TRIGGER,
        ObjectType::OBJECT_POLICY,
    ]
    .contains(&kind);
    let unqualified = [
        ObjectType::OBJECT_SCHEMA,
        ObjectType::OBJECT_DATABASE,
        ObjectType::OBJECT_ROLE,
        ObjectType::OBJECT_EXTENSION,
        ObjectType::OBJECT_TABLESPACE,
        ObjectType::OBJECT_PUBLICATION,
        ObjectType::OBJECT_SUBSCRIPTION,
        ObjectType::OBJECT_LANGUAGE,
        ObjectType::OBJECT_FOREIGN_SERVER,
        ObjectType::OBJECT_FDW,
        ObjectType::OBJECT_EVENT_TRIGGER,
        ObjectType::OBJECT_ACCESS_METHOD,
    ]
    .contains(&kind);
    match parts.split_last() {
        Some((_, table)) if of_table && !table.is_empty() => names::qualified(table),
        _ if unqualified => names::joined(&parts),
        _ => names::qualified(&parts),
    }
}

/// What a command tag calls it, in lower case.
pub(super) fn word(kind: ObjectType::Type) -> &'static str {
    match kind {
        ObjectType::OBJECT_TABLE | ObjectType::OBJECT_COLUMN => "table",
        ObjectType::OBJECT_VIEW => "view",
        ObjectType::OBJECT_MATVIEW => "materialized view",
        ObjectType::OBJECT_FOREIGN_TABLE => "foreign table",
        ObjectType::OBJECT_INDEX => "index",
        ObjectType::OBJECT_SEQUENCE => "sequence",
        ObjectType::OBJECT_SCHEMA => "schema",
        ObjectType::OBJECT_DATABASE => "database",
        ObjectType::OBJECT_ROLE => "role",
        ObjectType::OBJECT_FUNCTION => "function",
        ObjectType::OBJECT_PROCEDURE => "procedure",
        ObjectType::OBJECT_ROUTINE => "routine",
        ObjectType::OBJECT_AGGREGATE => "aggregate",
        ObjectType::OBJECT_OPERATOR => "operator",
        ObjectType::OBJECT_TYPE | ObjectType::OBJECT_ATTRIBUTE => "type",
        ObjectType::OBJECT_DOMAIN | ObjectType::OBJECT_DOMCONSTRAINT => "domain",
        ObjectType::OBJECT_CAST => "cast",
        ObjectType::OBJECT_EXTENSION => "extension",
        ObjectType::OBJECT_TRIGGER => "trigger",
        ObjectType::OBJECT_RULE => "rule",
        ObjectType::OBJECT_POLICY => "policy",
        ObjectType::OBJECT_PUBLICATION => "publication",
        ObjectType::OBJECT_SUBSCRIPTION => "subscription",
        ObjectType::OBJECT_TABLESPACE => "tablespace",
        ObjectType::OBJECT_LANGUAGE => "language",
        ObjectType::OBJECT_FOREIGN_SERVER => "server",
        ObjectType::OBJECT_FDW => "foreign data wrapper",
        ObjectType::OBJECT_EVENT_TRIGGER => "event trigger",
        ObjectType::OBJECT_STATISTIC_EXT => "statistics",
        _ => "object",
    }
}
