//! Names in parse trees: lists of strings, relations, and what PostgreSQL calls a column that was
//! given no name. The parser has already folded, decoded and cut them as the server does.

use pg_raw_parse::Node;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::nodes;

use crate::protocol::postgres::sql::catalog;

/// The strings of a list; other nodes in it count as an empty string, which names nothing.
pub(super) fn strings(list: &NodeList) -> Vec<&str> {
    list.iter().map(|node| node.as_str().unwrap_or_default()).collect()
}

/// The strings of a node that is a list of them, or a string.
pub(super) fn strings_of(node: Node<'_>) -> Vec<&str> {
    if let Node::NodeList(list) = node {
        strings(list)
    } else if let Node::ObjectWithArgs(object) = node {
        strings(object.objname())
    } else if let Node::TypeName(name) = node {
        name.names().iter().filter_map(nodes::String::sval).collect()
    } else {
        node.as_str().into_iter().collect()
    }
}

/// Name parts joined by dots; a part that contains one is quoted, so that no two names look alike.
pub(super) fn joined(parts: &[&str]) -> String {
    let quoted = |part: &&str| {
        if part.contains(['.', '"']) || part.is_empty() {
            format!("\"{}\"", part.replace('"', "\"\""))
        } else {
            (*part).to_owned()
        }
    };
    parts.iter().map(quoted).collect::<Vec<_>>().join(".")
}

/// A relation's name with its schema, as `search_path = public` resolves it.
pub(super) fn relation(range: &nodes::RangeVar) -> String {
    let name = range.relname().unwrap_or_default();
    let path = match range.schemaname() {
        Some(schema) => vec![schema, name],
        None => vec![schema_of(name), name],
    };
    match range.catalogname() {
        Some(database) => format!("{}.{}", joined(&[database]), joined(&path)),
        None => joined(&path),
    }
}

/// A name of one or more parts with its schema.
pub(super) fn qualified(parts: &[&str]) -> String {
    match parts {
        [name] => joined(&[schema_of(name), name]),
        _ => joined(parts),
    }
}

fn schema_of(name: &str) -> &'static str {
    // Views of extensions, which are put into a schema of the database.
    let foreign = ["pg_stat_statements", "pg_stat_statements_info", "pg_buffercache"];
    if catalog::is_system_name(name) && !foreign.contains(&name) { "pg_catalog" } else { "public" }
}

/// The name PostgreSQL gives to an output column without an alias (its `FigureColname`).
pub(super) fn output_name(node: Node<'_>) -> String {
    figure(node, 0).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
}

/// Deepest nesting of casts and sub-selects through which a column's name is sought.
const NAME_DEPTH_MAX: usize = 32;

/// The name and its strength: 1 is a type's or keyword's, which a better one replaces.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every node that is not named here is `?column?`, as in PostgreSQL"
)]
fn figure(node: Node<'_>, depth: usize) -> Option<(String, u8)> {
    if depth > NAME_DEPTH_MAX {
        return None;
    }
    let strong = |name: &str| Some((name.to_owned(), 2));
    match node {
        Node::ColumnRef(column) => last_string(column.fields()).map(|name| (name, 2)),
        Node::A_Indirection(step) => last_string(step.indirection())
            .map(|name| (name, 2))
            .or_else(|| figure(step.arg(), depth + 1)),
        Node::FuncCall(call) => last_string(call.funcname()).map(|name| (name, 2)),
        Node::A_Expr(expression) => (expression.kind
            == pg_raw_parse::raw::A_Expr_Kind::AEXPR_NULLIF)
            .then(|| ("nullif".to_owned(), 2)),
        Node::TypeCast(cast) => {
            figure(cast.arg(), depth + 1).filter(|(_, strength)| *strength > 1).or_else(|| {
                let names = cast.type_name()?.names();
                let last = names.iter().filter_map(nodes::String::sval).next_back()?;
                Some((last.to_owned(), 1))
            })
        }
        Node::CollateClause(collate) => figure(collate.arg(), depth + 1),
        Node::GroupingFunc(_) => strong("grouping"),
        Node::MergeSupportFunc(_) => strong("merge_action"),
        Node::SubLink(link) => sublink_name(link, depth),
        Node::CaseExpr(case) => figure(case.defresult(), depth + 1)
            .filter(|(_, strength)| *strength > 1)
            .or_else(|| Some(("case".to_owned(), 1))),
        Node::A_ArrayExpr(_) => strong("array"),
        Node::RowExpr(_) => strong("row"),
        Node::CoalesceExpr(_) => strong("coalesce"),
        Node::MinMaxExpr(choice) => {
            strong(if choice.op == pg_raw_parse::raw::MinMaxOp::IS_GREATEST {
                "greatest"
            } else {
                "least"
            })
        }
        _ => None,
    }
}

fn sublink_name(link: &nodes::SubLink, depth: usize) -> Option<(String, u8)> {
    use pg_raw_parse::raw::SubLinkType;
    if link.sub_link_type == SubLinkType::EXISTS_SUBLINK {
        return Some(("exists".to_owned(), 2));
    }
    if link.sub_link_type == SubLinkType::ARRAY_SUBLINK {
        return Some(("array".to_owned(), 2));
    }
    if link.sub_link_type != SubLinkType::EXPR_SUBLINK {
        return None;
    }
    let Node::SelectStmt(mut select) = link.subselect() else { return None };
    while let Some(left) = select.larg() {
        select = left;
    }
    let target = select.target_list().iter().next()?;
    match target.name() {
        Some(name) => Some((name.to_owned(), 2)),
        None => figure(target.val(), depth + 1),
    }
}

fn last_string(list: &NodeList) -> Option<String> {
    list.iter().filter_map(Node::as_str).next_back().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_inside_a_name_is_not_a_dot_between_names() {
        assert_eq!(joined(&["public", "a.b"]), "public.\"a.b\"");
        assert_ne!(joined(&["a", "b"]), joined(&["a.b"]));
        assert_eq!(qualified(&["customers"]), "public.customers");
        assert_eq!(qualified(&["pg_class"]), "pg_catalog.pg_class");
    }
}
