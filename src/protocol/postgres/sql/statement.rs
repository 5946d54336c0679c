//! One statement: its kind, tag, effects, objects and exposure.
//!
//! Puts together what [`super::effects`], [`super::utility`] and [`super::exposed`] find, and unwraps
//! PREPARE, EXPLAIN and DECLARE CURSOR.

use std::collections::BTreeSet;
use std::ops::Range;

use pg_raw_parse::ConstValue;
use pg_raw_parse::Node;
use pg_raw_parse::nodes;
use pg_raw_parse::raw;
use pg_raw_parse::raw::TransactionStmtKind;
use pg_raw_parse::raw::VariableSetKind;

use crate::model::Effect;
use crate::model::Object;
use crate::protocol::postgres::sql::declared::Declared;
use crate::protocol::postgres::sql::effects;
use crate::protocol::postgres::sql::effects::Tally;
use crate::protocol::postgres::sql::exposed;
use crate::protocol::postgres::sql::exposure::Exposure;
use crate::protocol::postgres::sql::settings;
use crate::protocol::postgres::sql::utility;

/// One statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Where it stands in the text, in bytes, without the semicolon.
    pub text_range: Range<usize>,
    /// Its command tag, without counts: `SELECT`, `CREATE TABLE`.
    pub tag: String,
    /// What the session must know of it.
    pub kind: Kind,
    /// Everything it does.
    pub effects: BTreeSet<Effect>,
    /// Everything it touches.
    pub objects: Vec<Object>,
    /// Facts that policies may read: `where = no`, `lock = update`, `temporary = yes`.
    pub facts: Vec<(String, String)>,
    /// What it shows, and whom it must be refused to.
    pub exposure: Exposure,
    /// Why it cannot be carried, whoever asks.
    pub unsupported: Option<String>,
}

/// What the session's state machine must know of a statement. Names of prepared statements and
/// cursors are in one namespace with those of the protocol's own messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE, MERGE.
    Query,
    /// BEGIN or START TRANSACTION.
    Begin,
    /// COMMIT or END; `chain`: the next transaction begins at once.
    Commit {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK or ABORT.
    Rollback {
        /// AND CHAIN.
        chain: bool,
    },
    /// SAVEPOINT.
    Savepoint {
        /// Its name.
        name: String,
    },
    /// RELEASE SAVEPOINT.
    Release {
        /// Its name.
        name: String,
    },
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo {
        /// Its name.
        name: String,
    },
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
    TwoPhase {
        /// The transaction's global identifier.
        id: String,
    },
    /// SET, with the value where it is one constant or name.
    Set {
        /// The setting, in lower case; `None`: SET TRANSACTION and its like.
        name: Option<String>,
        /// Its value, several joined by commas; `None`: DEFAULT or FROM CURRENT.
        value: Option<String>,
        /// SET LOCAL: until the end of the transaction.
        local: bool,
    },
    /// RESET; `None`: RESET ALL.
    Reset {
        /// The setting, in lower case.
        name: Option<String>,
    },
    /// SHOW.
    Show {
        /// The setting, or `all`.
        name: String,
    },
    /// PREPARE.
    Prepare {
        /// Its name.
        name: String,
        /// What is prepared; it does nothing before EXECUTE.
        inner: Box<Statement>,
    },
    /// EXECUTE: does what was prepared under the name, and `parameters` before.
    ExecutePrepared {
        /// The prepared statement's name.
        name: String,
        /// What computing its parameters does beyond reading.
        parameters: BTreeSet<Effect>,
    },
    /// DEALLOCATE; `None`: ALL.
    Deallocate {
        /// The prepared statement's name.
        name: Option<String>,
    },
    /// DECLARE … CURSOR.
    DeclareCursor {
        /// Its name.
        name: String,
        /// WITH HOLD: it outlives the transaction.
        hold: bool,
        /// BINARY: its rows are binary in the simple protocol too.
        binary: bool,
        /// Its query.
        inner: Box<Statement>,
    },
    /// FETCH or MOVE.
    Fetch {
        /// The cursor's name.
        name: String,
    },
    /// CLOSE; `None`: ALL.
    CloseCursor {
        /// The cursor's name.
        name: Option<String>,
    },
    /// DISCARD.
    Discard {
        /// ALL: prepared statements, cursors and settings go too.
        all: bool,
    },
    /// EXPLAIN.
    Explain {
        /// ANALYZE: the inner statement is executed.
        analyze: bool,
        /// VERBOSE.
        verbose: bool,
        /// What is explained.
        inner: Box<Statement>,
    },
    /// Anything else; the tag says what.
    Utility,
}

/// Reads one statement of `text`.
pub(super) fn read(
    node: Node<'_>,
    range: &Range<usize>,
    text: &str,
    declared: &Declared,
) -> Statement {
    let mut tally = Tally::default();
    let (tag, kind) = kind(node, range, text, declared, &mut tally);
    let exposure = exposed::exposure(node, &kind, text, declared);
    Statement {
        text_range: range.clone(),
        tag,
        kind,
        effects: tally.effects,
        objects: tally.objects.into_iter().collect(),
        facts: tally.facts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        exposure,
        unsupported: tally.unsupported,
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other kind is a utility statement, and opaque if `utility` does not know it"
)]
fn kind(
    node: Node<'_>,
    range: &Range<usize>,
    text: &str,
    declared: &Declared,
    tally: &mut Tally,
) -> (String, Kind) {
    let inner = |node| Box::new(read(node, range, text, declared));
    match node {
        Node::SelectStmt(select) => {
            tally.does(Effect::Read);
            effects::tally(node, tally);
            let tag = if select.into_clause().is_some() { "SELECT INTO" } else { "SELECT" };
            (tag.to_owned(), Kind::Query)
        }
        Node::InsertStmt(_) => query("INSERT", node, tally),
        Node::UpdateStmt(_) => query("UPDATE", node, tally),
        Node::DeleteStmt(_) => query("DELETE", node, tally),
        Node::MergeStmt(_) => query("MERGE", node, tally),
        Node::TransactionStmt(statement) => transaction(statement, tally),
        Node::VariableSetStmt(statement) => set(statement, tally),
        Node::VariableShowStmt(show) => {
            let name = show.name().unwrap_or_default().to_ascii_lowercase();
            tally.touches("setting", name.clone(), Effect::Read);
            ("SHOW".to_owned(), Kind::Show { name })
        }
        Node::DiscardStmt(discard) => {
            tally.does(Effect::Session);
            let all = discard.target == raw::DiscardMode::DISCARD_ALL;
            ("DISCARD".to_owned(), Kind::Discard { all })
        }
        Node::PrepareStmt(prepare) => {
            tally.does(Effect::Session);
            let name = owned(prepare.name());
            let inner = adopt(inner(prepare.query()), tally);
            ("PREPARE".to_owned(), Kind::Prepare { name, inner })
        }
        Node::ExecuteStmt(execute) => {
            let mut parameters = Tally::default();
            execute.params().iter().for_each(|node| effects::tally(node, &mut parameters));
            merge(parameters.clone(), tally);
            tally.does(Effect::Execute);
            let name = owned(execute.name());
            ("EXECUTE".to_owned(), Kind::ExecutePrepared { name, parameters: parameters.effects })
        }
        Node::DeallocateStmt(deallocate) => {
            tally.does(Effect::Session);
            let name = deallocate.name().map(str::to_owned);
            ("DEALLOCATE".to_owned(), Kind::Deallocate { name })
        }
        Node::DeclareCursorStmt(declare) => {
            tally.does(Effect::Session);
            let has =
                |flag: u32| u32::try_from(declare.options).is_ok_and(|options| options & flag != 0);
            let kind = Kind::DeclareCursor {
                name: owned(declare.portalname()),
                hold: has(raw::CURSOR_OPT_HOLD),
                binary: has(raw::CURSOR_OPT_BINARY),
                inner: adopt(inner(declare.query()), tally),
            };
            ("DECLARE CURSOR".to_owned(), kind)
        }
        Node::FetchStmt(fetch) => {
            tally.does(Effect::Read);
            let name = owned(fetch.portalname());
            let tag = if fetch.ismove { "MOVE" } else { "FETCH" };
            (tag.to_owned(), Kind::Fetch { name })
        }
        Node::ClosePortalStmt(close) => {
            tally.does(Effect::Session);
            let name = close.portalname().map(str::to_owned);
            ("CLOSE CURSOR".to_owned(), Kind::CloseCursor { name })
        }
        Node::ExplainStmt(explain) => {
            let (analyze, verbose) = (option(explain, "analyze"), option(explain, "verbose"));
            let inner = inner(explain.query());
            tally.does(Effect::Read);
            let inner = if analyze { adopt(inner, tally) } else { only_reads(inner, tally) };
            ("EXPLAIN".to_owned(), Kind::Explain { analyze, verbose, inner })
        }
        _ => (utility::tally(node, tally), Kind::Utility),
    }
}

fn query(tag: &str, node: Node<'_>, tally: &mut Tally) -> (String, Kind) {
    effects::tally(node, tally);
    (tag.to_owned(), Kind::Query)
}

/// Adds what the inner statement does: it does so now or, prepared, later and undecided.
fn adopt(inner: Box<Statement>, tally: &mut Tally) -> Box<Statement> {
    tally.effects.extend(inner.effects.iter().copied());
    tally.objects.extend(inner.objects.iter().cloned());
    for (name, value) in [("where", "no"), ("lock", "update"), ("lock", "share")] {
        if inner.facts.iter().any(|fact| fact.0 == name && fact.1 == value) {
            tally.facts.insert((name, value));
        }
    }
    if let Some(reason) = &inner.unsupported {
        tally.refuse(reason.clone());
    }
    inner
}

/// Adds what is touched by planning the inner statement: nothing of it is executed, but immutable
/// functions are.
fn only_reads(inner: Box<Statement>, tally: &mut Tally) -> Box<Statement> {
    for object in &inner.objects {
        let effect = if object.effect == Effect::Execute { Effect::Execute } else { Effect::Read };
        tally.touches(&object.kind, object.name.clone(), effect);
    }
    if inner.effects.contains(&Effect::Opaque) {
        tally.does(Effect::Opaque);
    }
    if let Some(reason) = &inner.unsupported {
        tally.refuse(reason.clone());
    }
    inner
}

fn merge(other: Tally, tally: &mut Tally) {
    tally.effects.extend(other.effects);
    tally.objects.extend(other.objects);
    tally.facts.extend(other.facts);
    if let Some(reason) = other.unsupported {
        tally.refuse(reason);
    }
}

/// Whether a boolean option of EXPLAIN is on; a value that is not understood counts as on. Of
/// several the last one holds for PostgreSQL; here one that is on suffices.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is no word or number counts as on")]
fn option(explain: &nodes::ExplainStmt, name: &str) -> bool {
    explain.options().iter().filter(|option| option.defname() == Some(name)).any(|option| {
        let word = match option.arg() {
            Node::String(word) => word.sval().unwrap_or_default().to_ascii_lowercase(),
            Node::Integer(number) => number.ival.to_string(),
            Node::Boolean(flag) => flag.boolval.to_string(),
            _ => String::new(),
        };
        !["false", "off", "0"].contains(&word.as_str())
    })
}

fn transaction(statement: &nodes::TransactionStmt, tally: &mut Tally) -> (String, Kind) {
    tally.does(Effect::Transaction);
    let name = || owned(statement.savepoint_name());
    let id = || owned(statement.gid());
    let chain = statement.chain;
    let (tag, kind) = match statement.kind {
        TransactionStmtKind::TRANS_STMT_BEGIN => ("BEGIN", Kind::Begin),
        TransactionStmtKind::TRANS_STMT_START => ("START TRANSACTION", Kind::Begin),
        TransactionStmtKind::TRANS_STMT_COMMIT => ("COMMIT", Kind::Commit { chain }),
        TransactionStmtKind::TRANS_STMT_ROLLBACK => ("ROLLBACK", Kind::Rollback { chain }),
        TransactionStmtKind::TRANS_STMT_SAVEPOINT => {
            ("SAVEPOINT", Kind::Savepoint { name: name() })
        }
        TransactionStmtKind::TRANS_STMT_RELEASE => ("RELEASE", Kind::Release { name: name() }),
        TransactionStmtKind::TRANS_STMT_ROLLBACK_TO => {
            ("ROLLBACK", Kind::RollbackTo { name: name() })
        }
        TransactionStmtKind::TRANS_STMT_PREPARE => {
            ("PREPARE TRANSACTION", Kind::TwoPhase { id: id() })
        }
        TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED => {
            ("COMMIT PREPARED", Kind::TwoPhase { id: id() })
        }
        TransactionStmtKind::TRANS_STMT_ROLLBACK_PREPARED => {
            ("ROLLBACK PREPARED", Kind::TwoPhase { id: id() })
        }
        _ => {
            tally.does(Effect::Opaque);
            ("unknown", Kind::Utility)
        }
    };
    (tag.to_owned(), kind)
}

fn set(statement: &nodes::VariableSetStmt, tally: &mut Tally) -> (String, Kind) {
    tally.does(Effect::Session);
    let name = statement.name().map(str::to_ascii_lowercase);
    if let Some(name) = &name {
        tally.touches("setting", name.clone(), Effect::Session);
    }
    let local = statement.is_local;
    match statement.kind {
        VariableSetKind::VAR_RESET_ALL => ("RESET".to_owned(), Kind::Reset { name: None }),
        // Back to the value of the startup packet, which is the gateway's own.
        VariableSetKind::VAR_RESET if name.as_deref().is_none_or(is_started_with) => {
            ("RESET".to_owned(), Kind::Reset { name })
        }
        VariableSetKind::VAR_RESET => {
            keep(name.as_deref(), None, tally);
            ("RESET".to_owned(), Kind::Reset { name })
        }
        VariableSetKind::VAR_SET_VALUE => {
            let value = values(statement);
            keep(name.as_deref(), Some(&value), tally);
            ("SET".to_owned(), Kind::Set { name, value: Some(value), local })
        }
        VariableSetKind::VAR_SET_DEFAULT if name.as_deref().is_none_or(is_started_with) => {
            ("SET".to_owned(), Kind::Set { name, value: None, local })
        }
        VariableSetKind::VAR_SET_DEFAULT | VariableSetKind::VAR_SET_CURRENT => {
            keep(name.as_deref(), None, tally);
            ("SET".to_owned(), Kind::Set { name, value: None, local })
        }
        VariableSetKind::VAR_SET_MULTI => {
            // SET TRANSACTION and SET SESSION CHARACTERISTICS; a snapshot comes from elsewhere.
            tally.does(Effect::Transaction);
            ("SET".to_owned(), Kind::Set { name: None, value: None, local })
        }
        _ => {
            tally.does(Effect::Opaque);
            ("SET".to_owned(), Kind::Utility)
        }
    }
}

/// Whether the startup packet that the gateway builds sets it, so that its default is ours.
fn is_started_with(name: &str) -> bool {
    ["search_path", "client_encoding", "standard_conforming_strings"].contains(&name)
        || !settings::forced_setting(name)
}

fn keep(name: Option<&str>, value: Option<&str>, tally: &mut Tally) {
    let Some(name) = name else { return };
    let identical = value.is_some_and(|value| settings::is_identical(name, value));
    if settings::forced_setting(name) && !identical {
        tally.refuse(settings::refusal(name));
    }
}

/// The values of a SET, joined by commas; what is no constant makes a value nothing equals.
#[expect(clippy::wildcard_enum_match_arm, reason = "the grammar gives constants and intervals")]
fn values(statement: &nodes::VariableSetStmt) -> String {
    let one = |node: Node<'_>| match node {
        Node::A_Const(constant) => match constant.val() {
            Some(ConstValue::String(text) | ConstValue::Float(text)) => text.to_owned(),
            Some(ConstValue::Integer(number)) => number.to_string(),
            Some(ConstValue::Boolean(flag)) => flag.to_string(),
            Some(other) => format!("{other:?}"),
            None => "null".to_owned(),
        },
        Node::TypeCast(_) => "(an interval)".to_owned(),
        _ => "(not a constant)".to_owned(),
    };
    statement.args().iter().map(one).collect::<Vec<_>>().join(", ")
}

fn owned(name: Option<&str>) -> String {
    name.unwrap_or_default().to_owned()
}
