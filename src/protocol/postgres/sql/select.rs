//! Queries: SELECT, VALUES and set operations, with their FROM clauses and common table
//! expressions.
//!
//! Follows PostgreSQL's own order (`transformSelectStmt`): WITH, then FROM from left to right, then
//! everything that sees those relations. Classified columns pass through bare outputs of SELECTs
//! over tables, sub-selects and common table expressions; everything else is a concern.

use std::rc::Rc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes;
use pg_raw_parse::raw::SetOperation;

use crate::protocol::postgres::sql::exposed::Analysis;
use crate::protocol::postgres::sql::exposed::DEPTH_MAX;
use crate::protocol::postgres::sql::exposure::Classes;
use crate::protocol::postgres::sql::expression::is_partition_bound;
use crate::protocol::postgres::sql::names;
use crate::protocol::postgres::sql::scope::Cte;
use crate::protocol::postgres::sql::scope::Ctes;
use crate::protocol::postgres::sql::scope::Field;
use crate::protocol::postgres::sql::scope::Meaning;
use crate::protocol::postgres::sql::scope::Place;
use crate::protocol::postgres::sql::scope::Row;
use crate::protocol::postgres::sql::scope::Scope;

/// Most output columns of a query (PostgreSQL's `MaxTupleAttributeNumber`).
const COLUMNS_MAX: usize = 1664;

impl Analysis<'_> {
    /// A statement that may stand in a WITH clause. Its rows; `None`: it returns none.
    pub(super) fn statement(&mut self, node: Node<'_>, place: Place<'_>) -> Option<Row> {
        if let Node::SelectStmt(select) = node {
            Some(self.query(select, place))
        } else if let Node::InsertStmt(insert) = node {
            self.deeper(|analysis| analysis.insert(insert, place)).flatten()
        } else if let Node::UpdateStmt(update) = node {
            self.deeper(|analysis| analysis.update(update, place)).flatten()
        } else if let Node::DeleteStmt(delete) = node {
            self.deeper(|analysis| analysis.delete(delete, place)).flatten()
        } else if let Node::MergeStmt(merge) = node {
            self.deeper(|analysis| analysis.merge(merge, place)).flatten()
        } else {
            self.refuse(-1, "a statement of this kind is not analysed yet");
            None
        }
    }

    /// Does something one level deeper; beyond the bound, a concern takes its place.
    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.depth >= DEPTH_MAX || !self.step(1) {
            self.refuse(-1, "queries or joins are nested too deeply to be analysed");
            return None;
        }
        self.depth = self.depth.saturating_add(1);
        let result = work(self);
        self.depth = self.depth.saturating_sub(1);
        Some(result)
    }

    /// A query's rows.
    pub(super) fn query(&mut self, select: &nodes::SelectStmt, place: Place<'_>) -> Row {
        self.deeper(|analysis| {
            analysis.within(select.with_clause(), place, |analysis, place| {
                analysis.bare_query(select, place)
            })
        })
        .unwrap_or_else(|| Row::open(Vec::new()))
    }

    /// Reads a WITH clause and does something where its names are in view.
    pub(super) fn within<T>(
        &mut self,
        clause: Option<&nodes::WithClause>,
        place: Place<'_>,
        work: impl FnOnce(&mut Self, Place<'_>) -> T,
    ) -> T {
        let Some(clause) = clause else { return work(self, place) };
        let mut ctes = Ctes { names: Vec::new(), outer: place.ctes };
        if clause.recursive {
            // All names are in view of all queries; one that is not read yet is a concern.
            let names = clause.ctes().iter().filter_map(nodes::CommonTableExpr::ctename);
            ctes.names = names.map(|name| (name.to_owned(), Cte::Later)).collect();
        }
        for cte in clause.ctes() {
            if !self.step(ctes.names.len()) {
                break;
            }
            let name = cte.ctename().unwrap_or_default();
            let row = Rc::new(self.common_table(cte, clause.recursive, &ctes, place));
            match ctes.names.iter_mut().find(|(known, _)| clause.recursive && known == name) {
                Some(entry) => entry.1 = Cte::Read(row),
                None => ctes.names.push((name.to_owned(), Cte::Read(row))),
            }
        }
        work(self, Place { ctes: Some(&ctes), ..place })
    }

    fn common_table(
        &mut self,
        cte: &nodes::CommonTableExpr,
        recursive: bool,
        ctes: &Ctes<'_>,
        place: Place<'_>,
    ) -> Row {
        if cte.search_clause().is_some() || cte.cycle_clause().is_some() {
            self.refuse(cte.location, "SEARCH and CYCLE clauses are not analysed yet");
        }
        let aliases = names::strings(cte.aliascolnames());
        let inside = Place { ctes: Some(ctes), ..place };
        let Node::SelectStmt(select) = cte.ctequery() else {
            let row = self.statement(cte.ctequery(), inside);
            return row.unwrap_or_else(|| Row::of(Vec::new())).renamed(&aliases);
        };
        let union = select.op != SetOperation::SETOP_NONE;
        let row = if recursive && union {
            self.recursive_union(select, cte, inside)
        } else {
            self.query(select, inside)
        };
        row.renamed(&aliases)
    }

    /// `WITH RECURSIVE t AS (first UNION second)`: the second arm sees `t` with the first's columns.
    fn recursive_union(
        &mut self,
        select: &nodes::SelectStmt,
        cte: &nodes::CommonTableExpr,
        place: Place<'_>,
    ) -> Row {
        let name = cte.ctename().unwrap_or_default();
        let aliases = names::strings(cte.aliascolnames());
        let read = |analysis: &mut Self| {
            let Some((left, right)) = select.larg().zip(select.rarg()) else {
                analysis.refuse(cte.location, "a recursive query of this form is not analysed");
                return Row::open(Vec::new());
            };
            if select.with_clause().is_some() {
                analysis.refuse(cte.location, "a recursive query of this form is not analysed");
            }
            let first = analysis.query(left, place);
            analysis.consumed(&first, cte.location, "a recursive query may not go on with it");
            let plain = first.fields.iter().map(|field| Field::plain(field.name.clone())).collect();
            let row = if first.exact { Row::of(plain) } else { Row::open(plain) };
            let itself = Rc::new(row.clone().renamed(&aliases));
            let ctes =
                Ctes { names: vec![(name.to_owned(), Cte::Read(itself))], outer: place.ctes };
            let second = analysis.query(right, Place { ctes: Some(&ctes), ..place });
            analysis.consumed(&second, cte.location, "a recursive query may not go on with it");
            analysis.tail(select, &row, place);
            row
        };
        self.deeper(read).unwrap_or_else(|| Row::open(Vec::new()))
    }

    /// A query without its WITH clause.
    fn bare_query(&mut self, select: &nodes::SelectStmt, place: Place<'_>) -> Row {
        if select.op != SetOperation::SETOP_NONE {
            self.set_operation(select, place)
        } else if !select.values_lists().is_empty() {
            self.values(select, place)
        } else {
            self.plain_select(select, place)
        }
    }

    /// UNION, INTERSECT, EXCEPT. Long chains nest on the left, which is walked here.
    fn set_operation(&mut self, select: &nodes::SelectStmt, place: Place<'_>) -> Row {
        let mut arms = Vec::new();
        let mut node = select;
        while let Some((left, right)) = node.larg().zip(node.rarg()) {
            arms.push(right);
            let plain = left.op != SetOperation::SETOP_NONE
                && left.with_clause().is_none()
                && left.sort_clause().is_empty()
                && left.locking_clause().is_empty()
                && matches!(left.limit_count(), Node::None)
                && matches!(left.limit_offset(), Node::None);
            if !plain {
                arms.push(left);
                break;
            }
            node = left;
        }
        let mut names: Vec<Field> = Vec::new();
        let mut exact = true;
        for arm in arms.into_iter().rev() {
            if !self.step(1) {
                break;
            }
            let row = self.query(arm, place);
            self.consumed(&row, -1, "UNION, INTERSECT and EXCEPT may not go on with it");
            if names.is_empty() {
                names = row.fields.into_iter().map(|field| Field::plain(field.name)).collect();
            }
            exact &= row.exact;
        }
        let row = if exact { Row::of(names) } else { Row::open(names) };
        self.tail(select, &row, place);
        row
    }

    /// VALUES: computed, so nothing classified may be in them.
    fn values(&mut self, select: &nodes::SelectStmt, place: Place<'_>) -> Row {
        let mut width = 0;
        for list in select.values_lists() {
            self.expression(list, place);
            if let Node::NodeList(list) = list {
                width = list.len();
            }
        }
        let fields = (1..=width).map(|number| Field::plain(format!("column{number}"))).collect();
        let row = Row::of(fields);
        self.tail(select, &row, place);
        row
    }

    /// ORDER BY, LIMIT and OFFSET of a query whose relations are not in view there.
    fn tail(&mut self, select: &nodes::SelectStmt, row: &Row, place: Place<'_>) {
        for sort in select.sort_clause() {
            self.arranged(Node::SortBy(sort), row, place);
        }
        self.expression(select.limit_count(), place);
        self.expression(select.limit_offset(), place);
    }

    fn plain_select(&mut self, select: &nodes::SelectStmt, place: Place<'_>) -> Row {
        if select.into_clause().is_some() {
            self.refuse(-1, "SELECT INTO defines a table");
        }
        let mut relations = Vec::new();
        let mut columns = Row::of(Vec::new());
        for item in select.from_clause() {
            if !self.step(1) {
                break;
            }
            let shown = self.item(item, &mut relations, place);
            columns.exact &= shown.exact;
            columns.whole = columns.whole.and(&shown.whole);
            columns.fields.extend(shown.fields);
        }
        let scope = Scope { relations, outer: place.scope };
        let inside = Place { scope: Some(&scope), ..place };
        let row = self.targets(select.target_list().iter(), &columns, inside);
        for node in [
            select.where_clause(),
            select.having_clause(),
            select.limit_count(),
            select.limit_offset(),
        ] {
            self.expression(node, inside);
        }
        for window in select.window_clause() {
            self.expression(window, inside);
        }
        for node in select.group_clause() {
            self.arranged(node, &row, inside);
        }
        for sort in select.sort_clause() {
            self.arranged(Node::SortBy(sort), &row, inside);
        }
        self.distinct(select, &row, inside);
        row
    }

    fn distinct(&mut self, select: &nodes::SelectStmt, row: &Row, place: Place<'_>) {
        // DISTINCT without ON is a list that holds nothing.
        let plain = select.distinct_clause().iter().any(|node| matches!(node, Node::None));
        if plain {
            self.consumed(row, -1, "DISTINCT may not compare it");
            return;
        }
        for node in select.distinct_clause() {
            self.arranged(node, row, place);
        }
    }

    /// The output columns of a target list or RETURNING; `columns` is what `*` stands for.
    pub(super) fn targets<'a>(
        &mut self,
        targets: impl Iterator<Item = &'a nodes::ResTarget>,
        columns: &Row,
        place: Place<'_>,
    ) -> Row {
        let mut row = Row::of(Vec::new());
        for target in targets {
            if !self.step(1) {
                break;
            }
            self.target(target, columns, place, &mut row);
            if row.fields.len() > COLUMNS_MAX {
                self.refuse(target.location, "it has more columns than PostgreSQL allows");
                return Row::open(Vec::new());
            }
        }
        row
    }

    fn target(
        &mut self,
        target: &nodes::ResTarget,
        columns: &Row,
        place: Place<'_>,
        row: &mut Row,
    ) {
        let name = || target.name().map_or_else(|| names::output_name(target.val()), str::to_owned);
        if let Node::ColumnRef(column) = target.val() {
            let parts: Vec<&str> = column.fields().iter().filter_map(Node::as_str).collect();
            if column.fields().iter().any(|part| matches!(part, Node::A_Star(_))) {
                self.star(column, &parts, columns, place, row);
                return;
            }
            match self.meaning(column, place) {
                Meaning::Column(field) => row.fields.push(Field { name: name(), ..field }),
                Meaning::Whole(classes) => {
                    self.whole(&classes, column.location);
                    row.fields.push(Field::plain(name()));
                }
                Meaning::Unknown => {
                    self.unknown_column(column);
                    row.fields.push(Field::plain(name()));
                }
            }
            return;
        }
        if let Node::FuncCall(call) = target.val()
            && is_partition_bound(call)
            && call.args().iter().all(|arg| self.is_of_catalog(arg, place))
        {
            // psql's `\\d` asks for it of every table; it is shown as any value of the target.
            row.fields.push(Field { classes: Classes::All, bound: true, ..Field::plain(name()) });
            return;
        }
        if let Node::A_Indirection(step) = target.val()
            && step.indirection().iter().any(|part| matches!(part, Node::A_Star(_)))
        {
            row.exact = false;
        }
        self.expression(target.val(), place);
        row.fields.push(Field::plain(name()));
    }

    /// Whether a column is none of a declared table or of a sub-select.
    fn is_of_catalog(&mut self, node: Node<'_>, place: Place<'_>) -> bool {
        let Node::ColumnRef(column) = node else { return false };
        match self.meaning(column, place) {
            Meaning::Unknown => true,
            Meaning::Column(field) => field.classes.is_empty() && field.origin.is_none(),
            Meaning::Whole(_) => false,
        }
    }

    /// `*` or `relation.*`.
    fn star(
        &mut self,
        column: &nodes::ColumnRef,
        parts: &[&str],
        columns: &Row,
        place: Place<'_>,
        row: &mut Row,
    ) {
        let relation = |schema: Option<&str>, table: &str| {
            place.scope?.relation(schema, table).map(|relation| Rc::clone(&relation.row))
        };
        let shown = match parts {
            [] => Some(Rc::new(columns.clone())),
            [table] => relation(None, table),
            [schema, table] => relation(Some(schema), table),
            _ => None,
        };
        let Some(shown) = shown else {
            self.unknown_column(column);
            row.exact = false;
            return;
        };
        self.step(shown.fields.len());
        self.whole(&shown.whole, column.location);
        row.exact &= shown.exact;
        row.fields.extend(shown.fields.iter().cloned());
    }
}
