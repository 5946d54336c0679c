//! What a utility statement does: every kind that is no query, with its command tag, effects and
//! objects. A kind that is not named here is opaque.
//!
//! Statements inside statements (the query of a view, the actions of a rule, the elements of a
//! schema) count as done, because they will be. It knows nothing of classes.

use pg_raw_parse::Node;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::nodes;
use pg_raw_parse::raw;
use pg_raw_parse::raw::ObjectType;

use crate::model::Effect;
use crate::protocol::postgres::sql::effects;
use crate::protocol::postgres::sql::effects::Tally;
use crate::protocol::postgres::sql::names;
use crate::protocol::postgres::sql::object;
use crate::protocol::postgres::sql::settings;

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
        .or_else(|| rights(node, tally))
        .or_else(|| types(node, tally))
        .or_else(|| foreign(node, tally))
        .or_else(|| changes(node, tally))
        .or_else(|| server(node, tally))
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
            let name = create.schemaname().or_else(|| role_name(create.authrole()));
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

/// Roles and privileges.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are asked of other functions")]
fn rights(node: Node<'_>, tally: &mut Tally) -> Option<String> {
    let grant = Effect::Grant;
    let tag = match node {
        Node::GrantStmt(statement) => {
            granted(statement, tally);
            if statement.is_grant { "GRANT" } else { "REVOKE" }
        }
        Node::GrantRoleStmt(statement) => {
            tally.does(grant);
            roles(statement.grantee_roles(), tally);
            if statement.is_grant { "GRANT ROLE" } else { "REVOKE ROLE" }
        }
        Node::AlterDefaultPrivilegesStmt(_) => {
            tally.does(grant);
            "ALTER DEFAULT PRIVILEGES"
        }
        Node::CreateRoleStmt(create) => {
            tally.touches("role", names::joined(&[create.role().unwrap_or_default()]), grant);
            "CREATE ROLE"
        }
        Node::AlterRoleStmt(alter) => {
            tally.touches("role", role(alter.role()), grant);
            "ALTER ROLE"
        }
        Node::AlterRoleSetStmt(alter) => {
            tally.touches("role", role(alter.role()), grant);
            tally.does(Effect::Server);
            setting(alter.setstmt(), tally);
            "ALTER ROLE"
        }
        Node::DropRoleStmt(drop) => {
            tally.does(grant);
            roles(drop.roles(), tally);
            "DROP ROLE"
        }
        Node::DropOwnedStmt(drop) => {
            tally.does(grant);
            tally.does(Effect::Define);
            tally.does(Effect::Destroy);
            roles(drop.roles(), tally);
            "DROP OWNED"
        }
        Node::ReassignOwnedStmt(reassign) => {
            tally.does(grant);
            tally.does(Effect::Define);
            roles(reassign.roles(), tally);
            "REASSIGN OWNED"
        }
        Node::SecLabelStmt(_) => {
            tally.does(grant);
            tally.does(Effect::Define);
            "SECURITY LABEL"
        }
        _ => return None,
    };
    Some(tag.to_owned())
}

fn granted(statement: &nodes::GrantStmt, tally: &mut Tally) {
    tally.does(Effect::Grant);
    // Only for tables is the list one of relations.
    let relations = statement.targtype == raw::GrantTargetType::ACL_TARGET_OBJECT
        && statement.objtype == ObjectType::OBJECT_TABLE;
    if relations {
        for range in statement.objects() {
            tally.touches("table", names::relation(range), Effect::Grant);
        }
    }
    for grantee in statement.grantees() {
        tally.touches("role", role(Some(grantee)), Effect::Grant);
    }
}

/// Types, operators, casts, text search.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are asked of other functions")]
fn types(node: Node<'_>, tally: &mut Tally) -> Option<String> {
    let tag = match node {
        Node::DefineStmt(_) => "CREATE",
        Node::CompositeTypeStmt(_) | Node::CreateEnumStmt(_) | Node::CreateRangeStmt(_) => {
            "CREATE TYPE"
        }
        Node::AlterEnumStmt(_) | Node::AlterTypeStmt(_) => "ALTER TYPE",
        Node::CreateDomainStmt(_) => "CREATE DOMAIN",
        Node::AlterDomainStmt(_) => "ALTER DOMAIN",
        Node::CreateCastStmt(_) => "CREATE CAST",
        Node::CreateConversionStmt(_) => "CREATE CONVERSION",
        Node::CreateTransformStmt(_) => "CREATE TRANSFORM",
        Node::CreateOpClassStmt(_) => "CREATE OPERATOR CLASS",
        Node::CreateOpFamilyStmt(_) => "CREATE OPERATOR FAMILY",
        Node::AlterOpFamilyStmt(_) => "ALTER OPERATOR FAMILY",
        Node::AlterOperatorStmt(_) => "ALTER OPERATOR",
        Node::CreateAmStmt(_) => "CREATE ACCESS METHOD",
        Node::CreateEventTrigStmt(_) => "CREATE EVENT TRIGGER",
        Node::AlterEventTrigStmt(_) => "ALTER EVENT TRIGGER",
        Node::AlterCollationStmt(_) => "ALTER COLLATION",
        Node::AlterTSDictionaryStmt(_) => "ALTER TEXT SEARCH DICTIONARY",
        Node::AlterTSConfigurationStmt(_) => "ALTER TEXT SEARCH CONFIGURATION",
        Node::AlterExtensionContentsStmt(_) => "ALTER EXTENSION",
        Node::AlterObjectDependsStmt(_) => "ALTER",
        _ => return None,
    };
    tally.does(Effect::Define);
    Some(tag.to_owned())
}

/// Foreign data, publications, subscriptions: ways out of and into the database.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are asked of other functions")]
fn foreign(node: Node<'_>, tally: &mut Tally) -> Option<String> {
    let tag = match node {
        Node::CreateFdwStmt(_) => "CREATE FOREIGN DATA WRAPPER",
        Node::AlterFdwStmt(_) => "ALTER FOREIGN DATA WRAPPER",
        Node::CreateForeignServerStmt(_) => "CREATE SERVER",
        Node::AlterForeignServerStmt(_) => "ALTER SERVER",
        Node::CreateUserMappingStmt(_) => "CREATE USER MAPPING",
        Node::AlterUserMappingStmt(_) => "ALTER USER MAPPING",
        Node::DropUserMappingStmt(_) => "DROP USER MAPPING",
        Node::ImportForeignSchemaStmt(_) => "IMPORT FOREIGN SCHEMA",
        Node::CreatePublicationStmt(_) => "CREATE PUBLICATION",
        Node::AlterPublicationStmt(_) => "ALTER PUBLICATION",
        Node::CreateSubscriptionStmt(_) => "CREATE SUBSCRIPTION",
        Node::AlterSubscriptionStmt(_) => "ALTER SUBSCRIPTION",
        Node::DropSubscriptionStmt(_) => "DROP SUBSCRIPTION",
        _ => return None,
    };
    tally.does(Effect::Define);
    tally.does(Effect::Export);
    Some(tag.to_owned())
}

/// DROP, ALTER and COMMENT of anything.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are asked of other functions")]
fn changes(node: Node<'_>, tally: &mut Tally) -> Option<String> {
    match node {
        Node::DropStmt(drop) => Some(dropped(drop, tally)),
        Node::AlterTableStmt(alter) => {
            let word = object::word(alter.objtype);
            named("table", alter.relation(), Effect::Define, tally);
            for command in alter.cmds() {
                let Node::AlterTableCmd(command) = command else { continue };
                if command.subtype == raw::AlterTableType::AT_DropColumn {
                    named("table", alter.relation(), Effect::Destroy, tally);
                }
                if command.subtype == raw::AlterTableType::AT_ChangeOwner {
                    tally.does(Effect::Grant);
                }
            }
            Some(format!("ALTER {}", word.to_uppercase()))
        }
        Node::RenameStmt(rename) => {
            tally.does(Effect::Define);
            renamed(rename.rename_type, rename.relation(), rename.object(), tally);
            Some(format!("ALTER {}", object::word(rename.rename_type).to_uppercase()))
        }
        Node::AlterObjectSchemaStmt(alter) => {
            tally.does(Effect::Define);
            renamed(alter.object_type, alter.relation(), alter.object(), tally);
            Some(format!("ALTER {}", object::word(alter.object_type).to_uppercase()))
        }
        Node::AlterOwnerStmt(alter) => {
            tally.does(Effect::Define);
            tally.does(Effect::Grant);
            renamed(alter.object_type, alter.relation(), alter.object(), tally);
            Some(format!("ALTER {}", object::word(alter.object_type).to_uppercase()))
        }
        Node::ReplicaIdentityStmt(_) => {
            tally.does(Effect::Define);
            Some("ALTER TABLE".to_owned())
        }
        Node::CommentStmt(comment) => {
            tally.does(Effect::Define);
            renamed(comment.objtype, None, comment.object(), tally);
            Some("COMMENT".to_owned())
        }
        _ => None,
    }
}

fn dropped(drop: &nodes::DropStmt, tally: &mut Tally) -> String {
    let word = object::word(drop.remove_type);
    let data = [
        ObjectType::OBJECT_TABLE,
        ObjectType::OBJECT_SCHEMA,
        ObjectType::OBJECT_MATVIEW,
        ObjectType::OBJECT_FOREIGN_TABLE,
        ObjectType::OBJECT_SEQUENCE,
        ObjectType::OBJECT_EXTENSION,
    ]
    .contains(&drop.remove_type);
    tally.does(Effect::Define);
    // CASCADE takes whatever depends on it, tables and columns too.
    let cascades = drop.behavior == raw::DropBehavior::DROP_CASCADE;
    for object in drop.objects() {
        let name = object::name(drop.remove_type, object);
        tally.touches(object::kind(drop.remove_type), name.clone(), Effect::Define);
        if data || cascades {
            tally.touches(object::kind(drop.remove_type), name, Effect::Destroy);
        }
    }
    format!("DROP {}", word.to_uppercase())
}

fn renamed(
    kind: ObjectType::Type,
    relation: Option<&nodes::RangeVar>,
    object: Node<'_>,
    tally: &mut Tally,
) {
    if let Some(relation) = relation {
        tally.touches("table", names::relation(relation), Effect::Define);
    } else if !matches!(object, Node::None) {
        tally.touches(object::kind(kind), object::name(kind, object), Effect::Define);
    }
}

/// Maintenance, databases, table spaces, settings of the server.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are asked of other functions")]
fn server(node: Node<'_>, tally: &mut Tally) -> Option<String> {
    let does = Effect::Server;
    tally_database(node, tally).or_else(|| {
        let tag = match node {
            Node::AlterSystemStmt(alter) => {
                setting(alter.setstmt(), tally);
                "ALTER SYSTEM"
            }
            Node::VacuumStmt(vacuum) => {
                for relation in vacuum.rels() {
                    named("table", relation.relation(), does, tally);
                }
                if vacuum.is_vacuumcmd { "VACUUM" } else { "ANALYZE" }
            }
            Node::ClusterStmt(cluster) => {
                named("table", cluster.relation(), does, tally);
                "CLUSTER"
            }
            Node::ReindexStmt(reindex) => {
                named("table", reindex.relation(), does, tally);
                "REINDEX"
            }
            Node::CheckPointStmt(_) => "CHECKPOINT",
            Node::CreateTableSpaceStmt(_) => "CREATE TABLESPACE",
            Node::DropTableSpaceStmt(_) => {
                tally.does(Effect::Destroy);
                "DROP TABLESPACE"
            }
            Node::AlterTableSpaceOptionsStmt(_) | Node::AlterTableMoveAllStmt(_) => {
                "ALTER TABLESPACE"
            }
            _ => return None,
        };
        tally.does(does);
        Some(tag.to_owned())
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are asked of other functions")]
fn tally_database(node: Node<'_>, tally: &mut Tally) -> Option<String> {
    let (name, effects, tag): (_, &[Effect], _) = match node {
        Node::CreatedbStmt(create) => {
            (create.dbname(), &[Effect::Define, Effect::Server], "CREATE DATABASE")
        }
        Node::DropdbStmt(drop) => {
            (drop.dbname(), &[Effect::Define, Effect::Destroy, Effect::Server], "DROP DATABASE")
        }
        Node::AlterDatabaseStmt(alter) => {
            (alter.dbname(), &[Effect::Define, Effect::Server], "ALTER DATABASE")
        }
        Node::AlterDatabaseRefreshCollStmt(alter) => {
            (alter.dbname(), &[Effect::Define, Effect::Server], "ALTER DATABASE")
        }
        Node::AlterDatabaseSetStmt(alter) => {
            setting(alter.setstmt(), tally);
            (alter.dbname(), &[Effect::Define, Effect::Server], "ALTER DATABASE")
        }
        _ => return None,
    };
    for effect in effects {
        tally.touches("database", names::joined(&[name.unwrap_or_default()]), *effect);
    }
    Some(tag.to_owned())
}

/// The setting that ALTER ROLE, ALTER DATABASE or ALTER SYSTEM changes for later sessions.
fn setting(set: Option<&nodes::VariableSetStmt>, tally: &mut Tally) {
    let Some(set) = set else { return };
    match set.name() {
        Some(name) => {
            tally.touches("setting", name.to_ascii_lowercase(), Effect::Server);
            if settings::forced_setting(name) {
                tally.refuse(settings::refusal(name));
            }
        }
        None => tally.refuse("forced settings would be reset for later sessions"),
    }
}

fn called(path: &NodeList, tally: &mut Tally) {
    tally.touches("function", names::qualified(&names::strings(path)), Effect::Execute);
}

fn named(kind: &str, range: Option<&nodes::RangeVar>, effect: Effect, tally: &mut Tally) {
    tally.does(effect);
    if let Some(range) = range {
        tally.touches(kind, names::relation(range), effect);
    }
}

fn ranges(list: &NodeList) -> impl Iterator<Item = &nodes::RangeVar> {
    list.iter().filter_map(|node| if let Node::RangeVar(range) = node { Some(range) } else { None })
}

fn roles(list: &NodeList, tally: &mut Tally) {
    for node in list {
        if let Node::RoleSpec(spec) = node {
            tally.touches("role", role(Some(spec)), Effect::Grant);
        }
    }
}

fn role(spec: Option<&nodes::RoleSpec>) -> String {
    names::joined(&[role_name(spec).unwrap_or("all")])
}

fn role_name(spec: Option<&nodes::RoleSpec>) -> Option<&str> {
    let spec = spec?;
    match spec.roletype {
        raw::RoleSpecType::ROLESPEC_CSTRING => spec.rolename(),
        raw::RoleSpecType::ROLESPEC_CURRENT_ROLE | raw::RoleSpecType::ROLESPEC_CURRENT_USER => {
            Some("current_user")
        }
        raw::RoleSpecType::ROLESPEC_SESSION_USER => Some("session_user"),
        _ => Some("public"),
    }
}
