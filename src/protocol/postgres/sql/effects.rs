//! What a plannable statement does: effects and objects of SELECT, VALUES, INSERT, UPDATE, DELETE
//! and MERGE, at every level, for every principal.
//!
//! Complete at any depth: a list of work instead of recursion, because text of 40 kB can nest
//! deeper than a thread's stack. It knows nothing of classes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use pg_raw_parse::Node;
use pg_raw_parse::nodes;
use pg_raw_parse::raw;
use pg_raw_parse::walk::Recurse;
use pg_raw_parse::walk::walk_manual;

use crate::model::Effect;
use crate::model::Object;
use crate::protocol::postgres::sql::builtin;
use crate::protocol::postgres::sql::names;
use crate::protocol::postgres::sql::settings;

/// What has been found so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) effects: BTreeSet<Effect>,
    pub(super) objects: BTreeSet<Object>,
    pub(super) facts: BTreeSet<(&'static str, &'static str)>,
    pub(super) unsupported: Option<String>,
}

impl Tally {
    /// Adds an effect.
    pub(super) fn does(&mut self, effect: Effect) {
        self.effects.insert(effect);
    }

    /// Adds an effect on an object.
    pub(super) fn touches(&mut self, kind: &str, name: impl Into<String>, effect: Effect) {
        self.does(effect);
        self.objects.insert(Object::new(kind, name, effect));
    }

    /// Says why it cannot be carried; the first reason stays.
    pub(super) fn refuse(&mut self, reason: impl Into<String>) {
        self.unsupported.get_or_insert_with(|| reason.into());
    }
}

/// Names of common table expressions visible at a place; an arena, since chains of owners would be
/// dropped recursively.
#[derive(Debug, Default)]
struct Withs<'a> {
    levels: Vec<(BTreeSet<&'a str>, Option<usize>)>,
}

/// Most levels of WITH that are searched for a name. Beyond, the name counts as a table: too many
/// objects are reported, never too few.
const WITH_LEVELS_MAX: usize = 64;

impl<'a> Withs<'a> {
    fn add(&mut self, names: BTreeSet<&'a str>, outer: Option<usize>) -> Option<usize> {
        self.levels.push((names, outer));
        self.levels.len().checked_sub(1)
    }

    fn hold(&self, name: &str, mut at: Option<usize>) -> bool {
        for _ in 0..WITH_LEVELS_MAX {
            let Some((names, outer)) = at.and_then(|index| self.levels.get(index)) else {
                return false;
            };
            if names.contains(name) {
                return true;
            }
            at = *outer;
        }
        false
    }
}

/// Work still to do: nodes, and the WITH level each stands in.
struct Work<'a> {
    todo: Vec<(Node<'a>, Option<usize>)>,
    withs: Withs<'a>,
}

impl<'a> Work<'a> {
    fn push(&mut self, node: Node<'a>, at: Option<usize>) {
        if !matches!(node, Node::None) {
            self.todo.push((node, at));
        }
    }
}

/// Adds what `node` does, and everything below it.
pub(super) fn tally(node: Node<'_>, tally: &mut Tally) {
    let mut work = Work { todo: vec![(node, None)], withs: Withs::default() };
    while let Some((node, at)) = work.todo.pop() {
        visit(node, at, &mut work, tally);
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "some 270 kinds of nodes: what is not named does nothing by itself if the library's \
              walker knows its children, and is opaque if it does not"
)]
fn visit<'a>(node: Node<'a>, at: Option<usize>, work: &mut Work<'a>, tally: &mut Tally) {
    match node {
        Node::SelectStmt(select) => visit_select(select, at, work, tally),
        Node::InsertStmt(insert) => visit_insert(insert, at, work, tally),
        Node::UpdateStmt(update) => visit_update(update, at, work, tally),
        Node::DeleteStmt(delete) => visit_delete(delete, at, work, tally),
        Node::MergeStmt(merge) => visit_merge(merge, at, work, tally),
        Node::RangeVar(range) => {
            let common = range.schemaname().is_none()
                && work.withs.hold(range.relname().unwrap_or_default(), at);
            if !common {
                tally.touches("table", names::relation(range), Effect::Read);
            }
        }
        Node::FuncCall(call) => {
            function(call, tally);
            children(node, at, work, tally);
        }
        Node::A_Expr(expression) => {
            operator(&names::strings(expression.name()), tally);
            work.push(expression.lexpr(), at);
            work.push(expression.rexpr(), at);
        }
        Node::SubLink(link) => {
            operator(&names::strings(link.oper_name()), tally);
            children(node, at, work, tally);
        }
        Node::SortBy(sort) => {
            operator(&names::strings(sort.use_op()), tally);
            work.push(sort.node(), at);
        }
        // Up to version 16 these words are ordinary names of functions, possibly the user's own.
        Node::JsonFuncExpr(_)
        | Node::JsonTable(_)
        | Node::JsonParseExpr(_)
        | Node::JsonScalarExpr(_)
        | Node::JsonSerializeExpr(_)
        | Node::JsonObjectConstructor(_)
        | Node::JsonArrayConstructor(_)
        | Node::JsonArrayQueryConstructor(_)
        | Node::JsonObjectAgg(_)
        | Node::JsonArrayAgg(_) => {
            tally.touches("function", "pg_catalog.json", Effect::Execute);
            children(node, at, work, tally);
        }
        Node::LockingClause(lock) => {
            tally.facts.insert(("lock", lock_word(lock)));
        }
        // Names only: the statement's own arms are pushed where they are read.
        Node::Alias(_) | Node::None => {}
        _ => children(node, at, work, tally),
    }
}

/// Pushes the children of a node the library's walker knows; any other is opaque.
fn children<'a>(node: Node<'a>, at: Option<usize>, work: &mut Work<'a>, tally: &mut Tally) {
    if !walks(node) {
        tally.does(Effect::Opaque);
        return;
    }
    walk_manual::<()>(node, |child| {
        work.push(child, at);
        ControlFlow::Continue(Recurse::No)
    });
}

/// Whether the C walker (`raw_expression_tree_walker`) knows this kind; of others it raises an
/// error. Statements are not here: their parts are pushed by name.
#[rustfmt::skip]
fn walks(node: Node<'_>) -> bool {
    matches!(
        node,
        Node::NodeList(_) | Node::JsonFormat(_) | Node::SetToDefault(_) | Node::CurrentOfExpr(_)
        | Node::SQLValueFunction(_) | Node::Integer(_) | Node::Float(_) | Node::Boolean(_)
        | Node::String(_) | Node::BitString(_) | Node::ParamRef(_) | Node::A_Const(_)
        | Node::A_Star(_) | Node::MergeSupportFunc(_) | Node::ReturningOption(_)
        | Node::GroupingFunc(_) | Node::SubLink(_) | Node::CaseExpr(_) | Node::RowExpr(_)
        | Node::CoalesceExpr(_) | Node::MinMaxExpr(_) | Node::XmlExpr(_)
        | Node::JsonReturning(_) | Node::JsonValueExpr(_) | Node::JsonParseExpr(_)
        | Node::JsonScalarExpr(_) | Node::JsonSerializeExpr(_) | Node::JsonIsPredicate(_)
        | Node::JsonArgument(_) | Node::JsonFuncExpr(_) | Node::JsonBehavior(_)
        | Node::JsonTable(_) | Node::JsonTableColumn(_) | Node::JsonTablePathSpec(_)
        | Node::JsonKeyValue(_) | Node::JsonObjectConstructor(_) | Node::JsonArrayConstructor(_)
        | Node::JsonArrayQueryConstructor(_) | Node::JsonAggConstructor(_)
        | Node::JsonObjectAgg(_) | Node::JsonArrayAgg(_) | Node::JsonOutput(_)
        | Node::NullTest(_) | Node::BooleanTest(_) | Node::JoinExpr(_) | Node::BoolExpr(_)
        | Node::ColumnRef(_) | Node::FuncCall(_) | Node::NamedArgExpr(_) | Node::A_Indices(_)
        | Node::A_Indirection(_) | Node::A_ArrayExpr(_) | Node::ResTarget(_)
        | Node::MultiAssignRef(_) | Node::TypeCast(_) | Node::CollateClause(_)
        | Node::WindowDef(_) | Node::RangeSubselect(_) | Node::RangeFunction(_)
        | Node::RangeTableSample(_) | Node::RangeTableFunc(_) | Node::RangeTableFuncCol(_)
        | Node::TypeName(_) | Node::ColumnDef(_) | Node::IndexElem(_) | Node::GroupingSet(_)
        | Node::XmlSerialize(_) | Node::InferClause(_) | Node::OnConflictClause(_)
        | Node::CommonTableExpr(_) | Node::MergeWhenClause(_) | Node::ReturningClause(_)
    )
}

/// Pushes the queries of a WITH clause and gives the level its statement stands in.
fn with<'a>(
    clause: Option<&'a nodes::WithClause>,
    at: Option<usize>,
    work: &mut Work<'a>,
) -> Option<usize> {
    let Some(clause) = clause else { return at };
    let all = || clause.ctes().iter().filter_map(nodes::CommonTableExpr::ctename);
    if clause.recursive {
        let inside = work.withs.add(all().collect(), at);
        for cte in clause.ctes() {
            work.push(cte.ctequery(), inside);
        }
        return inside;
    }
    // Each sees those before it: one level each, a chain in the arena.
    let mut inside = at;
    for cte in clause.ctes() {
        work.push(cte.ctequery(), inside);
        inside = work.withs.add(cte.ctename().into_iter().collect(), inside);
    }
    // The statement itself sees them all at one level, so that long lists stay cheap.
    if clause.ctes().len() > 1 { work.withs.add(all().collect(), at) } else { inside }
}

fn visit_select<'a>(
    select: &'a nodes::SelectStmt,
    at: Option<usize>,
    work: &mut Work<'a>,
    tally: &mut Tally,
) {
    let at = with(select.with_clause(), at, work);
    if select.values_lists().is_empty() {
        tally.does(Effect::Read);
    }
    if let Some(target) = select.into_clause().and_then(nodes::IntoClause::rel) {
        tally.touches("table", names::relation(target), Effect::Define);
        tally.touches("table", names::relation(target), Effect::Write);
    }
    for list in [
        select.distinct_clause(),
        select.from_clause(),
        select.group_clause(),
        select.window_clause(),
        select.values_lists(),
    ] {
        list.iter().for_each(|node| work.push(node, at));
    }
    select.target_list().iter().for_each(|target| work.push(Node::ResTarget(target), at));
    select.sort_clause().iter().for_each(|sort| work.push(Node::SortBy(sort), at));
    select.locking_clause().iter().for_each(|lock| work.push(Node::LockingClause(lock), at));
    for node in
        [select.where_clause(), select.having_clause(), select.limit_offset(), select.limit_count()]
    {
        work.push(node, at);
    }
    for arm in [select.larg(), select.rarg()].into_iter().flatten() {
        work.push(Node::SelectStmt(arm), at);
    }
}

fn visit_insert<'a>(
    insert: &'a nodes::InsertStmt,
    at: Option<usize>,
    work: &mut Work<'a>,
    tally: &mut Tally,
) {
    let at = with(insert.with_clause(), at, work);
    if let Some(target) = insert.relation() {
        tally.touches("table", names::relation(target), Effect::Write);
    }
    insert.cols().iter().for_each(|column| work.push(column, at));
    work.push(insert.select_stmt(), at);
    if let Some(conflict) = insert.on_conflict_clause() {
        work.push(Node::OnConflictClause(conflict), at);
    }
    returning(insert.returning_clause(), at, work, tally);
}

fn visit_update<'a>(
    update: &'a nodes::UpdateStmt,
    at: Option<usize>,
    work: &mut Work<'a>,
    tally: &mut Tally,
) {
    let at = with(update.with_clause(), at, work);
    if let Some(target) = update.relation() {
        tally.touches("table", names::relation(target), Effect::Write);
        if ["pg_catalog.pg_settings", "public.pg_settings"]
            .contains(&names::relation(target).as_str())
        {
            tally.does(Effect::Session);
            tally.refuse("settings are changed with SET; pg_settings can only be read");
        }
    }
    if is_unconditional(update.where_clause()) {
        tally.facts.insert(("where", "no"));
    }
    update.target_list().iter().for_each(|target| work.push(Node::ResTarget(target), at));
    update.from_clause().iter().for_each(|item| work.push(item, at));
    work.push(update.where_clause(), at);
    returning(update.returning_clause(), at, work, tally);
}

fn visit_delete<'a>(
    delete: &'a nodes::DeleteStmt,
    at: Option<usize>,
    work: &mut Work<'a>,
    tally: &mut Tally,
) {
    let at = with(delete.with_clause(), at, work);
    let unconditional = is_unconditional(delete.where_clause());
    if let Some(target) = delete.relation() {
        tally.touches("table", names::relation(target), Effect::Delete);
        if unconditional {
            tally.touches("table", names::relation(target), Effect::Destroy);
        }
    }
    if unconditional {
        tally.facts.insert(("where", "no"));
    }
    delete.using_clause().iter().for_each(|item| work.push(item, at));
    work.push(delete.where_clause(), at);
    returning(delete.returning_clause(), at, work, tally);
}

fn visit_merge<'a>(
    merge: &'a nodes::MergeStmt,
    at: Option<usize>,
    work: &mut Work<'a>,
    tally: &mut Tally,
) {
    let at = with(merge.with_clause(), at, work);
    for when in merge.merge_when_clauses() {
        let effect = match when.command_type {
            raw::CmdType::CMD_DELETE => Effect::Delete,
            raw::CmdType::CMD_NOTHING => continue,
            _ => Effect::Write,
        };
        if let Some(target) = merge.relation() {
            tally.touches("table", names::relation(target), effect);
        }
    }
    if let Some(target) = merge.relation() {
        tally.touches("table", names::relation(target), Effect::Write);
    }
    work.push(merge.source_relation(), at);
    work.push(merge.join_condition(), at);
    for when in merge.merge_when_clauses() {
        work.push(when.condition(), at);
        when.target_list().iter().for_each(|node| work.push(node, at));
        when.values().iter().for_each(|node| work.push(node, at));
    }
    returning(merge.returning_clause(), at, work, tally);
}

fn returning<'a>(
    clause: Option<&'a nodes::ReturningClause>,
    at: Option<usize>,
    work: &mut Work<'a>,
    tally: &mut Tally,
) {
    if let Some(clause) = clause {
        tally.does(Effect::Read);
        clause.exprs().iter().for_each(|node| work.push(node, at));
    }
}

/// A missing WHERE, or one that is a constant.
fn is_unconditional(condition: Node<'_>) -> bool {
    matches!(condition, Node::None | Node::A_Const(_))
}

fn lock_word(lock: &nodes::LockingClause) -> &'static str {
    match lock.strength {
        raw::LockClauseStrength::LCS_FORKEYSHARE | raw::LockClauseStrength::LCS_FORSHARE => "share",
        _ => "update",
    }
}

/// Adds what calling a function does.
pub(super) fn function(call: &nodes::FuncCall, tally: &mut Tally) {
    let path = names::strings(call.funcname());
    let (builtin, name) = match path.as_slice() {
        [name] | ["pg_catalog", name] | ["information_schema", name @ "_pg_expandarray"] => {
            (true, *name)
        }
        [.., name] => (false, *name),
        [] => (false, ""),
    };
    let stateful = ["nextval", "currval", "lastval"].contains(&name);
    if builtin && builtin::is_harmless_function(name) && !stateful {
        return;
    }
    let full = if path.len() == 1 && builtin::is_known(name) {
        names::joined(&["pg_catalog", name])
    } else if path.len() == 1 {
        names::joined(&["public", name])
    } else {
        names::joined(&path)
    };
    let effects: &[Effect] =
        if builtin { builtin::function_effects(name) } else { &[Effect::Execute] };
    for effect in effects {
        tally.touches("function", full.clone(), *effect);
    }
    if name == "set_config" {
        set_config(call, tally);
    }
}

/// `set_config(name, value, local)` is SET under another name.
fn set_config(call: &nodes::FuncCall, tally: &mut Tally) {
    let constant = |index: usize| {
        let Some(Node::A_Const(constant)) = call.args().get(index) else { return None };
        match constant.val() {
            Some(pg_raw_parse::ConstValue::String(text)) => Some(text.to_owned()),
            _ => None,
        }
    };
    match (constant(0), constant(1)) {
        (Some(name), value) => {
            tally.touches("setting", name.to_ascii_lowercase(), Effect::Session);
            let identical = value.is_some_and(|value| settings::is_identical(&name, &value));
            if settings::forced_setting(&name) && !identical {
                tally.refuse(settings::refusal(&name));
            }
        }
        (None, _) => tally.refuse("set_config is carried only with a constant name"),
    }
}

/// Adds what applying an operator does: those of `pg_catalog` only compute.
fn operator(path: &[&str], tally: &mut Tally) {
    let builtin = match path {
        [] => true,
        [name] | ["pg_catalog", name] => builtin::is_operator(name) || builtin::is_keyword(name),
        _ => false,
    };
    if !builtin {
        tally.touches("operator", names::joined(path), Effect::Execute);
    }
}
