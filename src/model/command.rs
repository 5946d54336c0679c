//! One thing asked of a target.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::model::DataClass;

/// What a command does to what it touches. What cannot be told apart is [`Effect::Opaque`], which
/// is no harmless default: base policies refuse it unless a policy names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Returns data.
    Read,
    /// Adds or changes data.
    Write,
    /// Removes data.
    Delete,
    /// Changes definitions: DDL, custom resources, admission rules.
    Define,
    /// Changes who may do what.
    Grant,
    /// Runs code: functions, programs, workloads.
    Execute,
    /// Moves data out by a way of the target's own: files, programs, subscriptions.
    Export,
    /// Removes much at once, beyond undoing: `rm -rf`, a DELETE without WHERE, a namespace.
    Destroy,
    /// Changes only the session: settings, prepared statements.
    Session,
    /// Begins or ends a transaction.
    Transaction,
    /// Acts on the server itself: restart, vacuum, checkpoints.
    Server,
    /// What it does cannot be told.
    Opaque,
}

impl Effect {
    /// The word in policies and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Define => "define",
            Self::Grant => "grant",
            Self::Execute => "execute",
            Self::Export => "export",
            Self::Destroy => "destroy",
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Server => "server",
            Self::Opaque => "opaque",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something a command touches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Object {
    /// What kind of thing: `table`, `function`, `path`, `program`, `unit`, `secrets`, `namespace`, …
    pub kind: String,
    /// Its name in the target's own words, qualified: `public.customers`, `/api/people`,
    /// `prod/db-password`.
    pub name: String,
    /// What this command does to it.
    pub effect: Effect,
}

/// Kinds of things whose names are chosen by who builds a system, not by who is in its data.
const PLAINLY_NAMED: [&str; 27] = [
    "aggregate",
    "cast",
    "column",
    "database",
    "domain",
    "event trigger",
    "extension",
    "foreign data wrapper",
    "foreign table",
    "function",
    "index",
    "language",
    "materialized view",
    "operator",
    "policy",
    "procedure",
    "program",
    "publication",
    "routine",
    "schema",
    "sequence",
    "setting",
    "table",
    "trigger",
    "type",
    "unit",
    "view",
];

impl Object {
    /// An object of `kind` called `name`, to which `effect` happens.
    pub fn new(kind: impl Into<String>, name: impl Into<String>, effect: Effect) -> Self {
        Self { kind: kind.into(), name: name.into(), effect }
    }

    /// Whether what it is called says nothing of anybody: what a database defines does not, nor a
    /// program. Paths, objects of Kubernetes and whatever else are often called after a person.
    pub fn has_plain_name(&self) -> bool {
        PLAINLY_NAMED.contains(&self.kind.as_str()) && !self.name.contains('/')
    }
}

/// One command, as it is decided and recorded. The bytes that carry it are the protocol's business.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What kind of command, in the protocol's words: `query`, `exec`, `shell`, `GET`, `delete`.
    pub verb: String,
    /// The command in full, exactly as it would reach the target: SQL text, command line, request
    /// line. An approval is for exactly this text and [`Command::details`].
    pub text: String,
    /// What else belongs to the exact thing asked: bound parameters, the body's digest, the login.
    pub details: Vec<(String, String)>,
    /// Everything it does.
    pub effects: BTreeSet<Effect>,
    /// Everything it touches.
    pub objects: Vec<Object>,
    /// Classes of data that its answer may carry.
    pub reads: BTreeSet<DataClass>,
    /// Classes of data that it carries to the target.
    pub writes: BTreeSet<DataClass>,
    /// Why it cannot be carried, whatever policy says; the reason goes to the client as it is.
    pub unsupported: Option<String>,
    /// Why it may not be held (it would keep locks): a verdict of hold then becomes a deny with
    /// this reason.
    pub unholdable: Option<String>,
    /// Named facts that policies may read, e.g. `where = "no"` for a DELETE without WHERE.
    pub facts: Vec<(String, String)>,
}

impl Command {
    /// A command with nothing known yet but its verb and text.
    pub fn new(verb: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            verb: verb.into(),
            text: text.into(),
            details: Vec::new(),
            effects: BTreeSet::new(),
            objects: Vec::new(),
            reads: BTreeSet::new(),
            writes: BTreeSet::new(),
            unsupported: None,
            unholdable: None,
            facts: Vec::new(),
        }
    }
}
