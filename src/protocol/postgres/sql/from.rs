//! FROM clauses: tables, sub-selects, functions and joins, and the columns they show in order.

use std::rc::Rc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes;
use pg_raw_parse::raw::JoinType;

use crate::protocol::postgres::sql::builtin;
use crate::protocol::postgres::sql::catalog;
use crate::protocol::postgres::sql::exposed::Analysis;
use crate::protocol::postgres::sql::exposed::listed;
use crate::protocol::postgres::sql::exposure::Classes;
use crate::protocol::postgres::sql::names;
use crate::protocol::postgres::sql::scope::Cte;
use crate::protocol::postgres::sql::scope::Field;
use crate::protocol::postgres::sql::scope::Place;
use crate::protocol::postgres::sql::scope::Relation;
use crate::protocol::postgres::sql::scope::Row;
use crate::protocol::postgres::sql::scope::Scope;

impl Analysis<'_> {
    /// One item of a FROM clause: adds what it brings into view, gives what `*` shows of it.
    /// `relations` holds what stands to its left, which LATERAL items see.
    pub(super) fn item(
        &mut self,
        node: Node<'_>,
        relations: &mut Vec<Relation>,
        place: Place<'_>,
    ) -> Row {
        // Long joins nest on the left, which is walked here.
        let mut joins = Vec::new();
        let mut left = node;
        while let Node::JoinExpr(join) = left {
            if !self.step(1) {
                return Row::open(Vec::new());
            }
            joins.push((join, relations.len()));
            left = join.larg();
        }
        let mut shown = self.single_item(left, relations, place);
        for (join, start) in joins.into_iter().rev() {
            shown = self
                .deeper(|analysis| analysis.join(join, &shown, start, relations, place))
                .unwrap_or_else(|| Row::open(Vec::new()));
        }
        shown
    }

    fn single_item(
        &mut self,
        node: Node<'_>,
        relations: &mut Vec<Relation>,
        place: Place<'_>,
    ) -> Row {
        // What stands to the left is copied where an item may see it.
        if !self.step(relations.len()) {
            return Row::open(Vec::new());
        }
        let relation = if let Node::RangeVar(range) = node {
            self.named_relation(range, place)
        } else if let Node::RangeSubselect(sub) = node {
            self.sub_select(sub, relations, place)
        } else if let Node::RangeFunction(function) = node {
            self.functions(function, relations, place)
        } else if let Node::RangeTableSample(sample) = node {
            let scope = Scope { relations: relations.clone(), outer: place.scope };
            let inside = Place { scope: Some(&scope), ..place };
            sample.args().iter().for_each(|argument| self.expression(argument, inside));
            self.expression(sample.repeatable(), inside);
            let method = names::strings(sample.method());
            if !matches!(method.as_slice(), ["bernoulli" | "system"]) {
                self.refuse(sample.location, "a sampling method of this name is not known");
            }
            let Node::RangeVar(range) = sample.relation() else {
                self.refuse(sample.location, "a sample of this kind is not analysed yet");
                return Row::open(Vec::new());
            };
            self.named_relation(range, place)
        } else {
            self.refuse(-1, "a FROM item of this kind is not analysed yet");
            return Row::open(Vec::new());
        };
        let row = relation.row.as_ref().clone();
        self.step(row.fields.len());
        relations.push(relation);
        row
    }

    /// A name in a FROM clause: a common table expression or a relation of the database.
    fn named_relation(&mut self, range: &nodes::RangeVar, place: Place<'_>) -> Relation {
        let name = range.relname().unwrap_or_default();
        let common = match (range.schemaname(), place.ctes) {
            (None, Some(ctes)) => ctes.find(name),
            _ => None,
        };
        let aliases = alias_columns(range.alias());
        match common {
            Some(Cte::Read(row)) => {
                let row = Rc::new(row.as_ref().clone().renamed(&aliases));
                Relation { row, ..view(range.alias(), Some(name)) }
            }
            Some(Cte::Later) => {
                self.refuse(range.location, "a query refers to a later one of its WITH clause");
                view(range.alias(), Some(name))
            }
            None => self.table(range),
        }
    }

    /// A relation of the database.
    pub(super) fn table(&mut self, range: &nodes::RangeVar) -> Relation {
        let name = range.relname().unwrap_or_default();
        let schema = match range.schemaname() {
            Some(schema) => schema,
            None if catalog::is_system_name(name) => "pg_catalog",
            None => "public",
        };
        let aliases = alias_columns(range.alias());
        let row = self.columns(schema, name, range).renamed(&aliases);
        Relation {
            schema: range.alias().is_none().then(|| schema.to_owned()),
            row: Rc::new(row),
            table: true,
            ..view(range.alias(), Some(name))
        }
    }

    fn columns(&mut self, schema: &str, name: &str, range: &nodes::RangeVar) -> Row {
        if range.catalogname().is_some() {
            self.refuse(range.location, "a relation is named without its database here");
            return Row::open(Vec::new());
        }
        if let Some(columns) = catalog::columns(schema, name) {
            let mut row = Row::open(columns.map(Field::plain).collect());
            if !catalog::is_whole(name) {
                row.whole = Classes::All;
            }
            return row;
        }
        let Some(table) = self.declared.table(schema, name) else {
            let name = names::joined(&[schema, name]);
            self.refuse(range.location, format!("the relation {name} is not declared"));
            return Row::open(Vec::new());
        };
        let fields: Vec<Field> = table
            .columns
            .iter()
            .map(|column| Field {
                name: column.name.clone(),
                classes: column.classes.clone().map_or(Classes::All, Classes::These),
                origin: Some((table.oid, column.number)),
                bound: false,
            })
            .collect();
        self.touches_classified |= fields.iter().any(|field| !field.classes.is_empty());
        Row::of(fields)
    }

    fn sub_select(
        &mut self,
        sub: &nodes::RangeSubselect,
        relations: &[Relation],
        place: Place<'_>,
    ) -> Relation {
        let Node::SelectStmt(select) = sub.subquery() else {
            self.refuse(-1, "a FROM item of this kind is not analysed yet");
            return view(sub.alias(), None);
        };
        let row = if sub.lateral {
            let scope = Scope { relations: relations.to_vec(), outer: place.scope };
            self.query(select, Place { scope: Some(&scope), ..place })
        } else {
            self.query(select, place)
        };
        let row = Rc::new(row.renamed(&alias_columns(sub.alias())));
        Relation { row, ..view(sub.alias(), None) }
    }

    /// Functions in FROM see what stands to their left, with or without LATERAL.
    fn functions(
        &mut self,
        function: &nodes::RangeFunction,
        relations: &[Relation],
        place: Place<'_>,
    ) -> Relation {
        let scope = Scope { relations: relations.to_vec(), outer: place.scope };
        let inside = Place { scope: Some(&scope), ..place };
        let mut fields: Vec<Field> = Vec::new();
        for item in function.functions() {
            // Each is a pair: the call, and the columns of its own definition list.
            let Node::NodeList(pair) = item else { continue };
            let call = pair.iter().next().unwrap_or(Node::None);
            self.expression(call, inside);
            let name = names::output_name(call);
            fields.extend(builtin::function_columns(&name).iter().copied().map(Field::plain));
            let alias = function.alias().and_then(nodes::Alias::aliasname);
            fields.push(Field::plain(alias.unwrap_or(&name)));
            if let Some(Node::NodeList(list)) = pair.iter().nth(1) {
                list.iter().for_each(|definition| self.defined(definition, &mut fields));
            }
        }
        for definition in function.coldeflist() {
            self.defined(Node::ColumnDef(definition), &mut fields);
        }
        fields.push(Field::plain("ordinality"));
        fields.extend(alias_columns(function.alias()).into_iter().map(Field::plain));
        let name = function
            .functions()
            .iter()
            .find_map(|item| item.as_node_list()?.iter().next().map(names::output_name));
        Relation { row: Rc::new(Row::open(fields)), ..view(function.alias(), name.as_deref()) }
    }

    fn defined(&mut self, definition: Node<'_>, fields: &mut Vec<Field>) {
        let Node::ColumnDef(column) = definition else { return };
        fields.push(Field::plain(column.colname().unwrap_or_default()));
        if let Some(name) = column.type_name() {
            self.type_name(name);
        }
    }

    /// A join; what it brought into view begins at `start`.
    fn join(
        &mut self,
        join: &nodes::JoinExpr,
        left: &Row,
        start: usize,
        relations: &mut Vec<Relation>,
        place: Place<'_>,
    ) -> Row {
        let right = self.item(join.rarg(), relations, place);
        let size = left.fields.len().saturating_add(right.fields.len());
        if !self.step(size.saturating_add(relations.len())) {
            return Row::open(Vec::new());
        }
        if join.join_using_alias().is_some() {
            self.refuse(-1, "an alias of JOIN … USING is not analysed yet");
        }
        let merged: Vec<String> = if join.is_natural {
            if !left.exact || !right.exact {
                self.refuse(-1, "a NATURAL JOIN of relations whose columns are not known");
            }
            self.step(left.fields.len().saturating_mul(right.fields.len()));
            let common = left.fields.iter().map(|field| &field.name);
            common
                .filter(|name| right.fields.iter().any(|other| other.name == **name))
                .cloned()
                .collect()
        } else {
            let using = join.using_clause().iter().filter_map(nodes::String::sval);
            using.map(str::to_owned).collect()
        };
        let row = self.merged(join, left, &right, &merged);
        {
            // The condition sees what the join joins, and what encloses the query.
            let joined = relations.get(start..).unwrap_or_default().to_vec();
            let scope = Scope { relations: joined, outer: place.scope };
            self.expression(join.quals(), Place { scope: Some(&scope), ..place });
        }
        let Some(alias) = join.alias() else { return row };
        // Behind its alias the joined relations are out of view.
        relations.truncate(start);
        let row = row.renamed(&alias_columns(Some(alias)));
        relations.push(Relation { row: Rc::new(row.clone()), ..view(Some(alias), None) });
        row
    }

    /// The columns of a join in order: merged ones first, then the rest of both sides.
    fn merged(
        &mut self,
        join: &nodes::JoinExpr,
        left: &Row,
        right: &Row,
        merged: &[String],
    ) -> Row {
        let mut fields = Vec::new();
        for name in merged {
            if !self.step(left.fields.len().saturating_add(right.fields.len())) {
                break;
            }
            let find = |row: &Row| row.fields.iter().find(|field| field.name == *name).cloned();
            let (one, other) = (find(left), find(right));
            if one.is_none() || other.is_none() {
                self.refuse(-1, format!("the column {name} of JOIN … USING is not known here"));
            }
            let one = one.unwrap_or_else(|| Field::plain(name.clone()));
            let other = other.unwrap_or_else(|| Field::plain(name.clone()));
            let classes = one.classes.clone().and(&other.classes);
            self.concern(&classes, -1, || {
                format!(
                    "`{name}` is classified {}; tables may not be joined on it",
                    listed(&classes)
                )
            });
            let origin = match join.jointype {
                JoinType::JOIN_FULL => None,
                JoinType::JOIN_RIGHT => other.origin,
                _ => one.origin,
            };
            fields.push(Field { name: name.clone(), classes, origin, bound: false });
        }
        for side in [left, right] {
            let rest = side.fields.iter().filter(|field| !merged.contains(&field.name));
            fields.extend(rest.cloned());
        }
        Row {
            fields,
            exact: left.exact && right.exact,
            whole: left.whole.clone().and(&right.whole),
        }
    }
}

/// A relation under its alias or name, without columns.
fn view(alias: Option<&nodes::Alias>, name: Option<&str>) -> Relation {
    let alias = alias.and_then(nodes::Alias::aliasname).or(name).map(str::to_owned);
    let row = Rc::new(Row::open(Vec::new()));
    Relation { alias, schema: None, row, table: false, open: true }
}

fn alias_columns(alias: Option<&nodes::Alias>) -> Vec<&str> {
    alias.map(|alias| names::strings(alias.colnames())).unwrap_or_default()
}
