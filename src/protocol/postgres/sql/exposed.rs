//! The exposure of a statement of any kind: what it shows, and whom it must be refused to.
//!
//! Queries are analysed ([`super::select`]). Of the other statements, those that touch no data and
//! change nothing but the session are harmless; any other must be refused to whomever something is
//! hidden from, because whoever changes definitions can undo what hides it.

use std::collections::BTreeSet;

use pg_raw_parse::Node;

use crate::model::DataClass;
use crate::protocol::postgres::sql::declared::Declared;
use crate::protocol::postgres::sql::exposure::Classes;
use crate::protocol::postgres::sql::exposure::Concern;
use crate::protocol::postgres::sql::exposure::Exposure;
use crate::protocol::postgres::sql::exposure::Output;
use crate::protocol::postgres::sql::exposure::Outputs;
use crate::protocol::postgres::sql::scope::Place;
use crate::protocol::postgres::sql::scope::Row;
use crate::protocol::postgres::sql::statement::Kind;

/// Most concerns that are listed; one more about all classes then stands for the rest.
const CONCERNS_MAX: usize = 50;

/// Most steps an analysis may take: nodes visited plus columns looked at.
const STEPS_MAX: usize = 4_000_000;

/// Deepest nesting of queries and joins that is analysed.
pub(super) const DEPTH_MAX: usize = 48;

/// An analysis under way.
#[derive(Debug)]
pub(super) struct Analysis<'d> {
    pub(super) declared: &'d Declared,
    text: &'d str,
    concerns: Vec<Concern>,
    reads: Classes,
    pub(super) touches_classified: bool,
    pub(super) depth: usize,
    steps: usize,
}

impl Analysis<'_> {
    /// Adds a concern, if it is about anything.
    pub(super) fn concern(
        &mut self,
        classes: &Classes,
        location: i32,
        reason: impl FnOnce() -> String,
    ) {
        if classes.is_empty() || self.concerns.len() > CONCERNS_MAX {
            return;
        }
        self.reads = std::mem::replace(&mut self.reads, Classes::NONE).and(classes);
        let full = self.concerns.len() == CONCERNS_MAX;
        let concern = if full {
            let reason = "there are more reasons than are listed".to_owned();
            Concern { classes: Classes::All, reason, position: None }
        } else {
            Concern {
                classes: classes.clone(),
                reason: reason(),
                position: self.position(location),
            }
        };
        if full {
            self.reads = Classes::All;
        }
        if !self.concerns.contains(&concern) {
            self.concerns.push(concern);
        }
    }

    /// Adds a concern about whatever the target holds.
    pub(super) fn refuse(&mut self, location: i32, reason: impl Into<String>) {
        self.concern(&Classes::All, location, || reason.into());
    }

    /// Counts work; `false` once there has been too much of it, which is a concern.
    pub(super) fn step(&mut self, amount: usize) -> bool {
        let before = self.steps;
        self.steps = self.steps.saturating_add(amount);
        if before <= STEPS_MAX && self.steps > STEPS_MAX {
            self.refuse(-1, "the statement is too large to be analysed");
        }
        self.steps <= STEPS_MAX
    }

    fn position(&self, location: i32) -> Option<usize> {
        let before = self.text.get(..usize::try_from(location).ok()?)?;
        before.chars().count().checked_add(1)
    }
}

/// The exposure of a statement.
pub(super) fn exposure(node: Node<'_>, kind: &Kind, text: &str, declared: &Declared) -> Exposure {
    let mut analysis = Analysis {
        declared,
        text,
        concerns: Vec::new(),
        reads: Classes::NONE,
        touches_classified: false,
        depth: 0,
        steps: 0,
    };
    let outputs = match kind {
        Kind::Query => {
            let row = analysis.statement(node, Place::default());
            analysis.outputs(row)
        }
        Kind::Begin
        | Kind::Commit { .. }
        | Kind::Rollback { .. }
        | Kind::Savepoint { .. }
        | Kind::Release { .. }
        | Kind::RollbackTo { .. }
        | Kind::Set { .. }
        | Kind::Reset { .. }
        | Kind::Deallocate { .. }
        | Kind::CloseCursor { .. }
        | Kind::Discard { .. } => Outputs::Nothing,
        Kind::Show { .. } => Outputs::Unclassified,
        Kind::Fetch { .. } => {
            analysis.refuse(
                -1,
                "rows are not fetched from cursors of SQL for whoever may not see all of this \
                 target's data; read them with SELECT … LIMIT, or with a portal of the protocol",
            );
            Outputs::Stored
        }
        Kind::ExecutePrepared { .. } => {
            if let Node::ExecuteStmt(execute) = node {
                for parameter in execute.params() {
                    analysis.expression(parameter, Place::default());
                }
            }
            Outputs::Stored
        }
        Kind::Prepare { inner, .. } => {
            analysis.adopt(&inner.exposure);
            Outputs::Nothing
        }
        Kind::DeclareCursor { inner, .. } => {
            analysis.adopt(&inner.exposure);
            analysis.shown(&inner.exposure, "a cursor may not be opened over it");
            Outputs::Nothing
        }
        Kind::Explain { analyze, verbose, inner } => {
            analysis.adopt(&inner.exposure);
            if *analyze || *verbose {
                analysis.shown(&inner.exposure, "EXPLAIN may name it only without options");
            }
            Outputs::Unclassified
        }
        Kind::TwoPhase { .. } | Kind::Utility => analysis.utility(node),
    };
    analysis.finish(outputs)
}

impl Analysis<'_> {
    /// Takes over what an inner statement concerns.
    fn adopt(&mut self, inner: &Exposure) {
        self.concerns.extend(inner.concerns.iter().cloned());
        self.reads = std::mem::replace(&mut self.reads, Classes::NONE)
            .and(&Classes::These(inner.reads.clone()));
        self.touches_classified |= inner.touches_classified;
    }

    /// Adds a concern about every classified column an inner statement shows.
    fn shown(&mut self, inner: &Exposure, why: &str) {
        let Outputs::Columns(outputs) = &inner.outputs else { return };
        for output in outputs {
            let name = output.name.as_deref().unwrap_or("a column");
            let classes = Classes::These(output.classes.clone());
            let list = listed(&classes);
            self.concern(&classes, -1, || format!("`{name}` is classified {list}; {why}"));
        }
    }

    /// Statements that are neither queries nor of the session.
    fn utility(&mut self, node: Node<'_>) -> Outputs {
        if let Node::TruncateStmt(truncate) = node {
            for relation in truncate.relations() {
                if let Node::RangeVar(range) = relation {
                    self.table(range);
                }
            }
        } else if let Node::LockStmt(lock) = node {
            for relation in lock.relations() {
                if let Node::RangeVar(range) = relation {
                    self.table(range);
                }
            }
        } else if !matches!(
            node,
            Node::ConstraintsSetStmt(_) | Node::UnlistenStmt(_) | Node::CheckPointStmt(_)
        ) {
            self.refuse(
                -1,
                "whoever may not see all of this target's data may only query and change its rows",
            );
        }
        Outputs::Nothing
    }

    fn outputs(&mut self, row: Option<Row>) -> Outputs {
        let Some(row) = row else { return Outputs::Nothing };
        let classes = row.classes();
        self.reads = std::mem::replace(&mut self.reads, Classes::NONE).and(&classes);
        if !row.exact {
            self.concern(&classes, -1, || {
                "classified columns cannot be told apart from those of `*` here; name the columns"
                    .to_owned()
            });
            return Outputs::Unclassified;
        }
        // Only a column of a table can be recognized, and masked, in the server's answer; and bounds
        // of partitions, which are computed from definitions.
        for field in row.fields.iter().filter(|field| field.origin.is_none() && !field.bound) {
            self.concern(&field.classes, -1, || {
                format!("`{}` may hold values and comes from no declared column", field.name)
            });
        }
        let everything = self.declared.classes();
        let output = |field: crate::protocol::postgres::sql::scope::Field| Output {
            name: Some(field.name),
            classes: field.classes.of(everything),
            origin: field.origin,
        };
        Outputs::Columns(row.fields.into_iter().map(output).collect())
    }

    fn finish(self, outputs: Outputs) -> Exposure {
        let reads: BTreeSet<DataClass> = self.reads.of(self.declared.classes());
        Exposure {
            concerns: self.concerns,
            outputs,
            touches_classified: self.touches_classified,
            reads,
        }
    }
}

/// Classes as words: `pii.email, pii.ssn`.
pub(super) fn listed(classes: &Classes) -> String {
    match classes {
        Classes::All => "as nothing in particular (it is not declared)".to_owned(),
        Classes::These(classes) => {
            classes.iter().map(DataClass::as_str).collect::<Vec<_>>().join(", ")
        }
    }
}
