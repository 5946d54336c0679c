//! What a utility statement does: every kind that is no query, with its command tag, effects and
//! objects. A kind that is not named here is opaque.
//!
//! Statements inside statements (the query of a view, the actions of a rule, the elements of a
//! schema) count as done, because they will be. It knows nothing of classes.

use pg_raw_parse::Node;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::nodes;
use pg_raw_parse::raw::ObjectType;

use crate::model::Effect;
use crate::protocol::postgres::sql::administer;
use crate::protocol::postgres::sql::effects;
use crate::protocol::postgres::sql::effects::Tally;
use crate::protocol::postgres::sql::names;

/// Adds what a utility statement does and gives its command tag.
pub(super) fn tally(node: Node<'_>, tally: &mut Tally) -> String {
    known(node, tally).unwrap_or_else(|| {
        tally.does(Effect::Opaque);
        "unknown".to_owned()
    })
}

fn known(node: Node<'_>, tally: &mut Tally) -> Option<String> {
    data(node, tally)
        .or_else(|| tables(node, tally))
        .or_else(|| routines(node, tally))
        .or_else(|| administer::rights(node, tally))
        .or_else(|| administer::types(node, tally))
        .or_else(|| administer::foreign(node, tally))
        .or_else(|| administer::changes(node, tally))
        .or_else(|| administer::server(node, tally))
}

/// COPY, TRUNCATE, LOCK, notifications, materialized views.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are asked of other functions")]
fn data(node: Node<'_>, tally: &mut Tally) -> Option<String> {
    let tag = match node {
        Node::CopyStmt(copy) => {
            copied(copy, tally);
            "COPY"
        }
        Node::TruncateStmt(truncate) => {
            for range in ranges(truncate.relations()) {
                tally.touches("table", names::relation(range), Effect::Delete);
                tally.touches("table", names::relation(range), Effect::Destroy);
            }
            "TRUNCATE TABLE"
        }
        Node::LockStmt(lock) => {
            // ACCESS SHARE (1) is what any read takes.
            let effect = if lock.mode <= 1 { Effect::Read } else { Effect::Write };
            for range in ranges(lock.relations()) {
                tally.touches("table", names::relation(range), effect);
            }
            tally.facts.insert(("lock", "table"));
            "LOCK TABLE"
        }
        Node::NotifyStmt(notify) => {
            let channel = notify.conditionname().unwrap_or_default();
            tally.touches("channel", names::joined(&[channel]), Effect::Write);
            "NOTIFY"
        }
        Node::ListenStmt(listen) => {
            let channel = listen.conditionname().unwrap_or_default();
            tally.touches("channel", names::joined(&[channel]), Effect::Session);
            "LISTEN"
        }
        Node::UnlistenStmt(_) => {
            tally.does(Effect::Session);
            "UNLISTEN"
        }
        Node::RefreshMatViewStmt(refresh) => {
            named("table", refresh.relation(), Effect::Write, tally);
            "REFRESH MATERIALIZED VIEW"
        }
        Node::ConstraintsSetStmt(_) => {
            tally.does(Effect::Session);
            "SET CONSTRAINTS"
        }
        _ => return None,
    };
    Some(tag.to_owned())
}

fn copied(copy: &nodes::CopyStmt, tally: &mut Tally) {
    tally.refuse("COPY is not carried yet; use SELECT or INSERT");
    let way = if copy.is_program { Some("program") } else { copy.filename().map(|_| "file") };
    if let Some(kind) = way {
        let effect = if copy.is_from { Effect::Write } else { Effect::Export };
        tally.touches(kind, copy.filename().unwrap_or_default(), effect);
        tally.does(Effect::Server);
        if copy.is_program {
            tally.does(Effect::Execute);
        }
    }
    if copy.is_from {
        named("table", copy.relation(), Effect::Write, tally);
    } else {
        named("table", copy.relation(), Effect::Read, tally);
        tally.does(Effect::Read);
        tally.does(Effect::Export);
    }
    effects::tally(copy.query(), tally);
    effects::tally(copy.where_clause(), tally);
}

/// Tables, views, indexes, sequences, rules, triggers, policies, schemas.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are asked of other functions")]
fn tables(node: Node<'_>, tally: &mut Tally) -> Option<String> {
    let define = Effect::Define;
    let tag = match node {
        Node::CreateStmt(create) => {
            named("table", create.relation(), define, tally);
            if create.relation().is_some_and(is_temporary) {
                tally.facts.insert(("temporary", "yes"));
            }
            "CREATE TABLE"
        }
        Node::CreateTableAsStmt(create) => {
            let target = create.into().and_then(nodes::IntoClause::rel);
            named("table", target, define, tally);
            named("table", target, Effect::Write, tally);
            if matches!(create.query(), Node::ExecuteStmt(_)) {
                tally.does(Effect::Execute);
            } else {
                effects::tally(create.query(), tally);
            }
            if create.objtype == ObjectType::OBJECT_MATVIEW {
                "CREATE MATERIALIZED VIEW"
            } else {
                "CREATE TABLE AS"
            }
        }
        Node::ViewStmt(view) => {
            named("table", view.view(), define, tally);
            effects::tally(view.query(), tally);
            "CREATE VIEW"
        }
        Node::IndexStmt(index) => {
            named("table", index.relation(), define, tally);
            for element in index.index_params() {
                effects::tally(element.expr(), tally);
            }
            effects::tally(index.where_clause(), tally);
            "CREATE INDEX"
        }
        Node::CreateSeqStmt(create) => {
            named("sequence", create.sequence(), define, tally);
            "CREATE SEQUENCE"
        }
        Node::AlterSeqStmt(alter) => {
            named("sequence", alter.sequence(), define, tally);
            "ALTER SEQUENCE"
        }
        Node::RuleStmt(rule) => {
            named("table", rule.relation(), define, tally);
            rule.actions().iter().for_each(|action| effects::tally(action, tally));
            effects::tally(rule.where_clause(), tally);
            "CREATE RULE"
        }
        Node::CreateTrigStmt(trigger) => {
            named("table", trigger.relation(), define, tally);
            called(trigger.funcname(), tally);
            "CREATE TRIGGER"
        }
        Node::CreatePolicyStmt(policy) => {
            named("table", policy.table(), define, tally);
            tally.does(Effect::Grant);
            "CREATE POLICY"
        }
        Node::AlterPolicyStmt(policy) => {
            named("table", policy.table(), define, tally);
            tally.does(Effect::Grant);
            "ALTER POLICY"
        }
        Node::CreateSchemaStmt(create) => {
            let name = create.schemaname().or_else(|| administer::role_name(create.authrole()));
            tally.touches("schema", names::joined(&[name.unwrap_or_default()]), define);
            for element in create.schema_elts() {
                known(element, tally).unwrap_or_else(|| {
                    tally.does(Effect::Opaque);
                    String::new()
                });
            }
            "CREATE SCHEMA"
        }
        Node::CreateStatsStmt(create) => {
            tally.does(define);
            for range in create.relations() {
                tally.touches("table", names::relation(range), define);
            }
            "CREATE STATISTICS"
        }
        Node::AlterStatsStmt(_) => {
            tally.does(define);
            "ALTER STATISTICS"
        }
        _ => return None,
    };
    Some(tag.to_owned())
}

fn is_temporary(range: &nodes::RangeVar) -> bool {
    u32::try_from(range.relpersistence).is_ok_and(|sign| sign == u32::from('t'))
        || range.schemaname() == Some("pg_temp")
}

/// Functions, procedures, blocks of code, extensions.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are asked of other functions")]
fn routines(node: Node<'_>, tally: &mut Tally) -> Option<String> {
    let tag = match node {
        Node::CallStmt(call) => {
            if let Some(function) = call.funccall() {
                let name = names::qualified(&names::strings(function.funcname()));
                tally.touches("function", name, Effect::Execute);
                effects::tally(Node::FuncCall(function), tally);
            }
            tally.does(Effect::Execute);
            "CALL"
        }
        Node::DoStmt(_) => {
            tally.does(Effect::Execute);
            tally.does(Effect::Opaque);
            "DO"
        }
        Node::CreateFunctionStmt(create) => {
            let name = names::qualified(&names::strings(create.funcname()));
            tally.touches("function", name.clone(), Effect::Define);
            // Its body is text in any language: what it will do cannot be told.
            tally.touches("function", name, Effect::Execute);
            tally.does(Effect::Opaque);
            if create.is_procedure { "CREATE PROCEDURE" } else { "CREATE FUNCTION" }
        }
        Node::AlterFunctionStmt(alter) => {
            if let Some(function) = alter.func() {
                let name = names::qualified(&names::strings(function.objname()));
                tally.touches("function", name, Effect::Define);
            }
            tally.does(Effect::Define);
            "ALTER FUNCTION"
        }
        Node::LoadStmt(_) => {
            tally.does(Effect::Execute);
            tally.does(Effect::Server);
            "LOAD"
        }
        Node::CreateExtensionStmt(create) => {
            let name = names::joined(&[create.extname().unwrap_or_default()]);
            tally.touches("extension", name, Effect::Define);
            tally.does(Effect::Execute);
            tally.does(Effect::Opaque);
            "CREATE EXTENSION"
        }
        Node::AlterExtensionStmt(alter) => {
            let name = names::joined(&[alter.extname().unwrap_or_default()]);
            tally.touches("extension", name, Effect::Define);
            tally.does(Effect::Execute);
            tally.does(Effect::Opaque);
            "ALTER EXTENSION"
        }
        Node::CreatePLangStmt(_) => {
            tally.does(Effect::Define);
            tally.does(Effect::Execute);
            "CREATE LANGUAGE"
        }
        _ => return None,
    };
    Some(tag.to_owned())
}

fn called(path: &NodeList, tally: &mut Tally) {
    tally.touches("function", names::qualified(&names::strings(path)), Effect::Execute);
}

pub(super) fn named(
    kind: &str,
    range: Option<&nodes::RangeVar>,
    effect: Effect,
    tally: &mut Tally,
) {
    tally.does(effect);
    if let Some(range) = range {
        tally.touches(kind, names::relation(range), effect);
    }
}

fn ranges(list: &NodeList) -> impl Iterator<Item = &nodes::RangeVar> {
    list.iter().filter_map(|node| if let Node::RangeVar(range) = node { Some(range) } else { None })
}
