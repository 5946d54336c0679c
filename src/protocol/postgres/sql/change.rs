//! INSERT, UPDATE, DELETE and MERGE: what they read is analysed as in queries, and a classified
//! column may be neither written nor returned by whoever may not see it.
//!
//! Writing counts, because whether a value is refused as a duplicate tells whether it exists.

use pg_raw_parse::Node;
use pg_raw_parse::nodes;

use crate::protocol::postgres::sql::exposed::Analysis;
use crate::protocol::postgres::sql::exposed::listed;
use crate::protocol::postgres::sql::scope::Place;
use crate::protocol::postgres::sql::scope::Relation;
use crate::protocol::postgres::sql::scope::Row;
use crate::protocol::postgres::sql::scope::Scope;

impl Analysis<'_> {
    /// INSERT. Its rows; `None`: it returns none.
    pub(super) fn insert(&mut self, insert: &nodes::InsertStmt, place: Place<'_>) -> Option<Row> {
        self.within(insert.with_clause(), place, |analysis, place| {
            let target = analysis.changed(insert.relation()?);
            let width = if let Node::SelectStmt(select) = insert.select_stmt() {
                let row = analysis.query(select, place);
                analysis.consumed(&row, -1, "it may not be written into a table");
                row.exact.then_some(row.fields.len())
            } else {
                Some(0)
            };
            if insert.cols().is_empty() {
                let fields = target.row.fields.len();
                let width = width.unwrap_or(fields).min(fields);
                for field in target.row.fields.iter().take(width) {
                    analysis.written(&target, &field.name, -1);
                }
            }
            for column in insert.cols() {
                analysis.assigned(column, &target, place);
            }
            if let Some(conflict) = insert.on_conflict_clause() {
                analysis.conflict(conflict, &target, place);
            }
            analysis.returned(insert.returning_clause(), vec![target], place)
        })
    }

    fn conflict(
        &mut self,
        conflict: &nodes::OnConflictClause,
        target: &Relation,
        place: Place<'_>,
    ) {
        let excluded = Relation {
            alias: Some("excluded".to_owned()),
            schema: None,
            open: false,
            ..target.clone()
        };
        let scope = Scope { relations: vec![target.clone(), excluded], outer: place.scope };
        let inside = Place { scope: Some(&scope), ..place };
        if let Some(infer) = conflict.infer() {
            for element in infer.index_elems() {
                let Node::IndexElem(element) = element else { continue };
                if let Some(name) = element.name() {
                    self.written(target, name, infer.location);
                }
                self.expression(element.expr(), inside);
            }
            self.expression(infer.where_clause(), inside);
        }
        for assignment in conflict.target_list() {
            self.assigned(Node::ResTarget(assignment), target, inside);
        }
        self.expression(conflict.where_clause(), inside);
    }

    /// UPDATE. Its rows; `None`: it returns none.
    pub(super) fn update(&mut self, update: &nodes::UpdateStmt, place: Place<'_>) -> Option<Row> {
        self.within(update.with_clause(), place, |analysis, place| {
            let target = analysis.changed(update.relation()?);
            let mut relations = Vec::new();
            for item in update.from_clause() {
                analysis.item(item, &mut relations, place);
            }
            relations.insert(0, target.clone());
            let scope = Scope { relations, outer: place.scope };
            let inside = Place { scope: Some(&scope), ..place };
            for assignment in update.target_list() {
                analysis.assigned(Node::ResTarget(assignment), &target, inside);
            }
            analysis.expression(update.where_clause(), inside);
            analysis.returned(update.returning_clause(), scope.relations, place)
        })
    }

    /// DELETE. Its rows; `None`: it returns none.
    pub(super) fn delete(&mut self, delete: &nodes::DeleteStmt, place: Place<'_>) -> Option<Row> {
        self.within(delete.with_clause(), place, |analysis, place| {
            let target = analysis.changed(delete.relation()?);
            let mut relations = Vec::new();
            for item in delete.using_clause() {
                analysis.item(item, &mut relations, place);
            }
            relations.insert(0, target);
            let scope = Scope { relations, outer: place.scope };
            analysis.expression(delete.where_clause(), Place { scope: Some(&scope), ..place });
            analysis.returned(delete.returning_clause(), scope.relations, place)
        })
    }

    /// MERGE. Its rows; `None`: it returns none.
    pub(super) fn merge(&mut self, merge: &nodes::MergeStmt, place: Place<'_>) -> Option<Row> {
        self.within(merge.with_clause(), place, |analysis, place| {
            let target = analysis.changed(merge.relation()?);
            let mut relations = Vec::new();
            analysis.item(merge.source_relation(), &mut relations, place);
            relations.insert(0, target.clone());
            let scope = Scope { relations, outer: place.scope };
            let inside = Place { scope: Some(&scope), ..place };
            analysis.expression(merge.join_condition(), inside);
            for when in merge.merge_when_clauses() {
                analysis.expression(when.condition(), inside);
                let inserts = when.command_type == pg_raw_parse::raw::CmdType::CMD_INSERT;
                if inserts && when.target_list().is_empty() {
                    for field in target.row.fields.iter().take(when.values().len()) {
                        analysis.written(&target, &field.name, -1);
                    }
                }
                for assignment in when.target_list() {
                    analysis.assigned(assignment, &target, inside);
                }
                for value in when.values() {
                    analysis.expression(value, inside);
                }
            }
            analysis.returned(merge.returning_clause(), scope.relations, place)
        })
    }

    /// The table a statement changes; never a common table expression.
    fn changed(&mut self, range: &nodes::RangeVar) -> Relation {
        let catalog = range
            .schemaname()
            .is_some_and(|schema| ["pg_catalog", "information_schema"].contains(&schema))
            || range.schemaname().is_none()
                && range.relname().unwrap_or_default().starts_with("pg_");
        if catalog {
            self.refuse(range.location, "relations of the catalogue may only be read");
        }
        self.table(range)
    }

    /// `column = value`, or a column of INSERT's list.
    fn assigned(&mut self, node: Node<'_>, target: &Relation, place: Place<'_>) {
        let Node::ResTarget(assignment) = node else {
            self.refuse(-1, "an assignment of this kind is not analysed yet");
            return;
        };
        self.written(target, assignment.name().unwrap_or_default(), assignment.location);
        for part in assignment.indirection() {
            self.expression(part, place);
        }
        self.expression(assignment.val(), place);
    }

    fn written(&mut self, target: &Relation, name: &str, location: i32) {
        self.step(target.row.fields.len());
        let Some(field) = target.row.fields.iter().find(|field| field.name == name) else {
            self.refuse(location, format!("the column `{name}` is not known here"));
            return;
        };
        self.concern(&field.classes, location, || {
            format!(
                "`{name}` is classified {}; whoever may not see it may not write or compare it",
                listed(&field.classes)
            )
        });
    }

    fn returned(
        &mut self,
        clause: Option<&nodes::ReturningClause>,
        relations: Vec<Relation>,
        place: Place<'_>,
    ) -> Option<Row> {
        let clause = clause?;
        if !clause.options().is_empty() {
            self.refuse(-1, "RETURNING WITH is not analysed yet");
        }
        // `*` over several relations: joins merge columns, and MERGE begins with its source.
        let mut columns = Row { exact: relations.len() == 1, ..Row::of(Vec::new()) };
        for relation in &relations {
            columns.exact &= relation.row.exact;
            columns.whole = columns.whole.and(&relation.row.whole);
            columns.fields.extend(relation.row.fields.iter().cloned());
        }
        let scope = Scope { relations, outer: place.scope };
        let inside = Place { scope: Some(&scope), ..place };
        let targets = clause.exprs().iter().filter_map(|node| {
            if let Node::ResTarget(target) = node { Some(target) } else { None }
        });
        let row = self.targets(targets, &columns, inside);
        self.consumed(&row, -1, "RETURNING may not show it");
        Some(row)
    }
}
