//! Utility statements about rights, types, ways in and out, changes of anything, and the server.
//!
//! The other half of [`super::utility`]; it knows nothing of classes either.

use pg_raw_parse::Node;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::nodes;
use pg_raw_parse::raw;
use pg_raw_parse::raw::ObjectType;

use crate::model::Effect;
use crate::protocol::postgres::sql::effects::Tally;
use crate::protocol::postgres::sql::names;
use crate::protocol::postgres::sql::object;
use crate::protocol::postgres::sql::settings;
use crate::protocol::postgres::sql::utility;

/// Roles and privileges.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are asked of other functions")]
pub(super) fn rights(node: Node<'_>, tally: &mut Tally) -> Option<String> {
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
pub(super) fn types(node: Node<'_>, tally: &mut Tally) -> Option<String> {
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
pub(super) fn foreign(node: Node<'_>, tally: &mut Tally) -> Option<String> {
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
pub(super) fn changes(node: Node<'_>, tally: &mut Tally) -> Option<String> {
    match node {
        Node::DropStmt(drop) => Some(dropped(drop, tally)),
        Node::AlterTableStmt(alter) => {
            let word = object::word(alter.objtype);
            utility::named("table", alter.relation(), Effect::Define, tally);
            for command in alter.cmds() {
                let Node::AlterTableCmd(command) = command else { continue };
                if command.subtype == raw::AlterTableType::AT_DropColumn {
                    utility::named("table", alter.relation(), Effect::Destroy, tally);
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
pub(super) fn server(node: Node<'_>, tally: &mut Tally) -> Option<String> {
    let does = Effect::Server;
    tally_database(node, tally).or_else(|| {
        let tag = match node {
            Node::AlterSystemStmt(alter) => {
                setting(alter.setstmt(), tally);
                "ALTER SYSTEM"
            }
            Node::VacuumStmt(vacuum) => {
                for relation in vacuum.rels() {
                    utility::named("table", relation.relation(), does, tally);
                }
                if vacuum.is_vacuumcmd { "VACUUM" } else { "ANALYZE" }
            }
            Node::ClusterStmt(cluster) => {
                utility::named("table", cluster.relation(), does, tally);
                "CLUSTER"
            }
            Node::ReindexStmt(reindex) => {
                utility::named("table", reindex.relation(), does, tally);
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

pub(super) fn role_name(spec: Option<&nodes::RoleSpec>) -> Option<&str> {
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
