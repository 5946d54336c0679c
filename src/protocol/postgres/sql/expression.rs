//! Expressions: whatever stands where a value is computed, compared, ordered or grouped.
//!
//! A classified column in an expression is a concern, whatever the expression does with it. The
//! rest is an allow-list: nodes, functions, operators and types that are known to only compute.
//! A list of work instead of recursion: expressions can be as deep as the text is long.

use pg_raw_parse::Node;
use pg_raw_parse::nodes;
use pg_raw_parse::raw::SubLinkType;

use crate::protocol::postgres::sql::builtin;
use crate::protocol::postgres::sql::exposed::Analysis;
use crate::protocol::postgres::sql::exposed::listed;
use crate::protocol::postgres::sql::exposure::Classes;
use crate::protocol::postgres::sql::names;
use crate::protocol::postgres::sql::scope::Meaning;
use crate::protocol::postgres::sql::scope::Place;
use crate::protocol::postgres::sql::scope::Row;

impl Analysis<'_> {
    /// Visits an expression and everything in it.
    pub(super) fn expression(&mut self, node: Node<'_>, place: Place<'_>) {
        let mut todo = vec![node];
        while let Some(node) = todo.pop() {
            if !self.step(1) {
                return;
            }
            self.visit(node, place, &mut todo);
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "one arm for each kind of expression; what is not named is a concern"
    )]
    fn visit<'a>(&mut self, node: Node<'a>, place: Place<'_>, todo: &mut Vec<Node<'a>>) {
        match node {
            Node::None
            | Node::A_Const(_)
            | Node::ParamRef(_)
            | Node::SQLValueFunction(_)
            | Node::SetToDefault(_)
            | Node::MergeSupportFunc(_)
            | Node::CurrentOfExpr(_)
            | Node::A_Star(_)
            // A part of a target's path: `SET address.city = …`.
            | Node::String(_) => {}
            Node::ColumnRef(column) => self.mentioned(column, place),
            Node::NodeList(list) => todo.extend(list.iter()),
            Node::BoolExpr(expression) => todo.extend(expression.args().iter()),
            Node::A_Expr(expression) if is_default_partition(expression) => {}
            Node::A_Expr(expression) => {
                self.operator(&names::strings(expression.name()), expression.location);
                todo.extend([expression.lexpr(), expression.rexpr()]);
            }
            Node::NullTest(test) => todo.push(test.arg()),
            Node::BooleanTest(test) => todo.push(test.arg()),
            Node::CaseExpr(case) => {
                todo.extend([case.arg(), case.defresult()]);
                todo.extend(case.args().iter());
            }
            Node::CaseWhen(when) => todo.extend([when.expr(), when.result()]),
            Node::CoalesceExpr(choice) => todo.extend(choice.args().iter()),
            Node::MinMaxExpr(choice) => todo.extend(choice.args().iter()),
            Node::RowExpr(row) => todo.extend(row.args().iter()),
            Node::A_ArrayExpr(array) => todo.extend(array.elements().iter()),
            Node::A_Indices(indices) => todo.extend([indices.lidx(), indices.uidx()]),
            Node::NamedArgExpr(argument) => todo.push(argument.arg()),
            Node::CollateClause(collate) => todo.push(collate.arg()),
            Node::GroupingFunc(grouping) => todo.extend(grouping.args().iter()),
            Node::GroupingSet(set) => todo.extend(set.content().iter()),
            Node::ResTarget(target) => {
                todo.push(target.val());
                todo.extend(target.indirection().iter());
            }
            Node::MultiAssignRef(assign) => todo.push(assign.source()),
            Node::XmlExpr(xml) => {
                todo.extend(xml.named_args().iter());
                todo.extend(xml.args().iter());
            }
            Node::A_Indirection(step) => {
                todo.push(step.arg());
                for part in step.indirection() {
                    match part.as_str() {
                        Some(field) => self.field(field),
                        None => todo.push(part),
                    }
                }
            }
            Node::TypeCast(cast) => {
                todo.push(cast.arg());
                if let Some(name) = cast.type_name() {
                    self.type_name(name);
                    todo.extend(name.typmods().iter());
                }
            }
            Node::FuncCall(call) => {
                self.call(call);
                todo.extend(call.args().iter());
                todo.extend(call.agg_order().iter().map(Node::SortBy));
                todo.push(call.agg_filter());
                todo.extend(call.over().map(Node::WindowDef));
            }
            Node::WindowDef(window) => {
                todo.extend(window.partition_clause().iter());
                todo.extend(window.order_clause().iter().map(Node::SortBy));
                todo.extend([window.start_offset(), window.end_offset()]);
            }
            Node::SortBy(sort) => {
                self.operator(&names::strings(sort.use_op()), sort.location);
                todo.push(sort.node());
            }
            Node::SubLink(link) => {
                self.operator(&names::strings(link.oper_name()), link.location);
                todo.push(link.testexpr());
                self.sublink(link, place);
            }
            _ => self.refuse(-1, "an expression in it is of a kind that is not analysed yet"),
        }
    }

    /// A column in an expression.
    fn mentioned(&mut self, column: &nodes::ColumnRef, place: Place<'_>) {
        let name = names::strings(column.fields()).last().copied().unwrap_or_default().to_owned();
        match self.meaning(column, place) {
            Meaning::Column(field) => {
                self.concern(&field.classes, column.location, || {
                    format!(
                        "`{name}` is classified {}; it may only appear as a plain output column",
                        listed(&field.classes)
                    )
                });
            }
            Meaning::Whole(classes) => self.whole(&classes, column.location),
            Meaning::Unknown => self.unknown_column(column),
        }
    }

    /// A whole row, as a value.
    pub(super) fn whole(&mut self, classes: &Classes, location: i32) {
        self.concern(classes, location, || {
            format!(
                "a whole row holds what is classified {}; name the columns instead",
                listed(classes)
            )
        });
    }

    /// A column that is not known: the catalogue the gateway read may be old.
    pub(super) fn unknown_column(&mut self, column: &nodes::ColumnRef) {
        let name = names::joined(&names::strings(column.fields()));
        self.refuse(column.location, format!("the column {name} is not known here"));
    }

    /// What a reference to a column means.
    pub(super) fn meaning(&mut self, column: &nodes::ColumnRef, place: Place<'_>) -> Meaning {
        let Some(scope) = place.scope else { return Meaning::Unknown };
        self.step(scope.size());
        let star = column.fields().iter().any(|part| matches!(part, Node::A_Star(_)));
        let parts: Vec<&str> = column.fields().iter().filter_map(Node::as_str).collect();
        if star {
            let row = match parts.as_slice() {
                [table] => scope.relation(None, table),
                [schema, table] => scope.relation(Some(schema), table),
                _ => None,
            };
            return row.map_or(Meaning::Unknown, |relation| Meaning::Whole(relation.row.classes()));
        }
        match parts.as_slice() {
            [name] => scope.column(name),
            [table, name] => scope.qualified(None, table, name),
            [schema, table, name] => scope.qualified(Some(schema), table, name),
            _ => Meaning::Unknown,
        }
    }

    fn sublink(&mut self, link: &nodes::SubLink, place: Place<'_>) {
        let Node::SelectStmt(select) = link.subselect() else {
            self.refuse(link.location, "a sub-query of this kind is not analysed yet");
            return;
        };
        let row = self.query(select, place);
        // EXISTS looks at no value of its rows.
        if link.sub_link_type != SubLinkType::EXISTS_SUBLINK {
            self.consumed(&row, link.location, "a sub-query may not hand it to an expression");
        }
    }

    /// Adds a concern about every classified column of rows that something else goes on with.
    pub(super) fn consumed(&mut self, row: &Row, location: i32, why: &str) {
        for field in &row.fields {
            self.concern(&field.classes, location, || {
                format!("`{}` is classified {}; {why}", field.name, listed(&field.classes))
            });
        }
        self.whole(&row.whole, location);
    }

    /// Visits a call's function, without its arguments.
    pub(super) fn call(&mut self, call: &nodes::FuncCall) {
        let path = names::strings(call.funcname());
        let harmless = match path.as_slice() {
            [name] => builtin::is_harmless_function(name) && !self.declared.is_shadowed(name),
            ["pg_catalog", name] => builtin::is_harmless_function(name),
            ["information_schema", name] => *name == "_pg_expandarray",
            _ => false,
        };
        if !harmless {
            let name = names::joined(&path);
            self.refuse(
                call.location,
                format!("the function {name} is not known to be harmless to classified data"),
            );
        }
    }

    /// A name behind a dot: a field, or a function in another notation.
    fn field(&mut self, name: &str) {
        if !builtin::is_field(name) || self.declared.is_shadowed(name) {
            self.refuse(-1, format!("the field or function .{name} is not analysed yet"));
        }
    }

    /// Visits an operator's name.
    pub(super) fn operator(&mut self, path: &[&str], location: i32) {
        let builtin = match path {
            [] => true,
            [name] => {
                builtin::is_keyword(name)
                    || builtin::is_operator(name) && !self.declared.is_shadowed(name)
            }
            ["pg_catalog", name] => builtin::is_operator(name),
            _ => false,
        };
        if !builtin {
            let name = path.join(".");
            self.refuse(location, format!("the operator {name} is not one of PostgreSQL's own"));
        }
    }

    /// Visits a type's name: a cast to it runs the type's own code.
    pub(super) fn type_name(&mut self, name: &nodes::TypeName) {
        let path: Vec<&str> = name.names().iter().filter_map(nodes::String::sval).collect();
        let builtin = match path.as_slice() {
            [word] | ["pg_catalog", word] => builtin::is_type(word),
            _ => false,
        };
        if !builtin || name.pct_type || name.setof {
            let word = names::joined(&path);
            self.refuse(name.location, format!("the type {word} is not one of PostgreSQL's own"));
        }
    }

    /// ORDER BY and GROUP BY: besides expressions over the relations in view, a number or a bare
    /// name may mean an output column.
    pub(super) fn arranged(&mut self, node: Node<'_>, outputs: &Row, place: Place<'_>) {
        let mut todo = vec![node];
        while let Some(node) = todo.pop() {
            if !self.step(1) {
                return;
            }
            if let Node::SortBy(sort) = node {
                self.operator(&names::strings(sort.use_op()), sort.location);
                todo.push(sort.node());
            } else if let Node::GroupingSet(set) = node {
                todo.extend(set.content().iter());
            } else if let Node::RowExpr(row) = node {
                todo.extend(row.args().iter());
            } else if let Node::NodeList(list) = node {
                todo.extend(list.iter());
            } else if let Node::A_Const(constant) = node {
                self.ordinal(constant, outputs);
            } else if let Node::ColumnRef(column) = node
                && let [name] = names::strings(column.fields()).as_slice()
                && outputs.fields.iter().any(|field| field.name == *name)
            {
                self.by_output(column, name, outputs, place);
            } else {
                self.expression(node, place);
            }
        }
    }

    fn ordinal(&mut self, constant: &nodes::A_Const, outputs: &Row) {
        let Some(pg_raw_parse::ConstValue::Integer(number)) = constant.val() else { return };
        if !outputs.exact {
            self.concern(&outputs.classes(), constant.location, || {
                "columns cannot be counted here; name the column instead".to_owned()
            });
        }
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        if let Some(field) = index.and_then(|index| outputs.fields.get(index)) {
            self.arranging(&field.classes, &field.name, constant.location);
        }
    }

    /// A bare name that an output has: ORDER BY means that output, GROUP BY the relation's column
    /// if there is one. The classes of both count.
    fn by_output(
        &mut self,
        column: &nodes::ColumnRef,
        name: &str,
        outputs: &Row,
        place: Place<'_>,
    ) {
        self.step(outputs.fields.len());
        let named = outputs.fields.iter().filter(|field| field.name == name);
        let classes = named.fold(Classes::NONE, |all, field| all.and(&field.classes));
        let inner = place.scope.map_or(Meaning::Unknown, |scope| scope.column(name));
        let classes = match inner {
            Meaning::Column(field) => classes.and(&field.classes),
            Meaning::Whole(whole) => classes.and(&whole),
            Meaning::Unknown => classes,
        };
        self.arranging(&classes, name, column.location);
    }

    fn arranging(&mut self, classes: &Classes, name: &str, location: i32) {
        self.concern(classes, location, || {
            format!(
                "`{name}` is classified {}; rows may not be ordered or grouped by it",
                listed(classes)
            )
        });
    }
}

/// Whether a call is `pg_get_expr(relation.relpartbound, relation.oid)`: the bounds of a partition,
/// which are values.
pub(super) fn is_partition_bound(call: &nodes::FuncCall) -> bool {
    let named = matches!(
        names::strings(call.funcname()).as_slice(),
        ["pg_get_expr"] | ["pg_catalog", "pg_get_expr"]
    );
    let plain = call.agg_order().is_empty()
        && matches!(call.agg_filter(), Node::None)
        && call.over().is_none();
    let mut args = call.args().iter().map(|arg| match arg {
        Node::ColumnRef(column) => names::strings(column.fields()).last().copied(),
        _ => None,
    });
    named
        && plain
        && args.next().flatten() == Some("relpartbound")
        && args.next().flatten() == Some("oid")
        && args.next().is_none()
}

/// Whether an expression is psql's `pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'`, which tells
/// that a partition is the default one and nothing of the others' bounds.
fn is_default_partition(expression: &nodes::A_Expr) -> bool {
    let Node::FuncCall(call) = expression.lexpr() else { return false };
    let Node::A_Const(constant) = expression.rexpr() else { return false };
    names::strings(expression.name()).as_slice() == ["="]
        && matches!(constant.val(), Some(pg_raw_parse::ConstValue::String(text)) if text == "DEFAULT")
        && is_partition_bound(call)
}
