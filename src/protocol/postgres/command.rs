//! From a reading to a command: what policy is asked, and what the record says.
//!
//! Values in, values out. A string of a Query is one command with all its statements together; a
//! Bind is one command with the text that was prepared and the values bound to it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;

use crate::mask;
use crate::model::Command;
use crate::model::DataClass;
use crate::model::Effect;
use crate::model::digest::Digest;
use crate::model::verdict::Masks;
use crate::protocol::postgres::catalogue::Known;
use crate::protocol::postgres::refuse::Words;
use crate::protocol::postgres::sql::Classes;
use crate::protocol::postgres::sql::Concern;
use crate::protocol::postgres::sql::Exposure;
use crate::protocol::postgres::sql::Kind;
use crate::protocol::postgres::sql::Reading;
use crate::protocol::postgres::sql::Statement;
use crate::protocol::postgres::sql::Unreadable;
use crate::protocol::postgres::wire::Bind;

/// Longest bound value that is recorded as it is, in bytes; of longer ones the digest is.
const VALUE_BYTES_KEPT: usize = 4096;
/// How much of all bound values of a command is recorded as it is, in bytes; of the rest one digest
/// is. A batch has up to 65,535 values, and an entry of the record has a bound.
const VALUES_BYTES_KEPT: usize = 1024 * 1024;

/// A text with what it was read to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The text.
    pub text: Arc<str>,
    /// Its reading.
    pub reading: Arc<Reading>,
    /// What an EXECUTE in it runs.
    pub stored: Option<Arc<Self>>,
}

impl Plan {
    /// The statements that it runs: what was prepared stands for its EXECUTE.
    pub fn statements(&self) -> &[Statement] {
        match &self.stored {
            Some(stored) => stored.statements(),
            None => &self.reading.statements,
        }
    }

    /// What the statement at `index` shows.
    pub fn exposure(&self, index: usize) -> Option<&Exposure> {
        self.statements().get(index).map(|statement| &statement.exposure)
    }

    /// Whether an error or notice of it may carry a classified value.
    pub fn touches_classified(&self) -> bool {
        self.statements().iter().any(|statement| statement.exposure.touches_classified)
    }

    /// The first thing for which whoever has `masks` must be refused.
    pub fn concern(&self, masks: &Masks) -> Option<&Concern> {
        self.statements()
            .iter()
            .flat_map(|statement| &statement.exposure.concerns)
            .find(|concern| is_hit(concern, masks))
    }

    /// The name that its only statement runs by EXECUTE.
    pub fn executes(&self) -> Option<&str> {
        match self.reading.statements.as_slice() {
            [Statement { kind: Kind::ExecutePrepared { name, .. }, .. }] => Some(name),
            _ => None,
        }
    }

    /// Whether a statement in it is PREPARE or EXECUTE although it is not the only one: which
    /// statement a name means then depends on how the ones before end.
    pub fn mixes_names(&self) -> bool {
        let named = |statement: &Statement| {
            matches!(statement.kind, Kind::Prepare { .. } | Kind::ExecutePrepared { .. })
                || matches!(&statement.kind, Kind::Explain { inner, .. }
                    if matches!(inner.kind, Kind::ExecutePrepared { .. }))
        };
        let statements = &self.reading.statements;
        let explained =
            statements.iter().any(|s| matches!(s.kind, Kind::Explain { .. }) && named(s));
        explained || (statements.len() > 1 && statements.iter().any(named))
    }

    /// What it does to the names of prepared statements, once it has run: a name, or all of them,
    /// and what stands there then.
    pub fn renames(&self) -> Option<(Option<&str>, Option<Self>)> {
        self.reading.statements.iter().rev().find_map(|statement| match &statement.kind {
            Kind::Prepare { name, inner } => {
                let reading = Arc::new(Reading { statements: vec![(**inner).clone()] });
                let text = Arc::clone(&self.text);
                Some((Some(name.as_str()), Some(Self { text, reading, stored: None })))
            }
            Kind::Deallocate { name } => Some((name.as_deref(), None)),
            Kind::Discard { all: true } => Some((None, None)),
            Kind::Discard { all: false }
            | Kind::Query
            | Kind::Begin
            | Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::Savepoint { .. }
            | Kind::Release { .. }
            | Kind::RollbackTo { .. }
            | Kind::TwoPhase { .. }
            | Kind::Set { .. }
            | Kind::Reset { .. }
            | Kind::Show { .. }
            | Kind::ExecutePrepared { .. }
            | Kind::DeclareCursor { .. }
            | Kind::Fetch { .. }
            | Kind::CloseCursor { .. }
            | Kind::Explain { .. }
            | Kind::Utility => None,
        })
    }

    /// Whether it changes definitions, so that what is known of the tables may be old.
    pub fn defines(&self) -> bool {
        self.statements().iter().any(|statement| statement.effects.contains(&Effect::Define))
    }

    /// Whether its statement at `index` changes definitions: one of thousands is asked about when it
    /// is answered, not all of them each time.
    pub fn defines_at(&self, index: usize) -> bool {
        let statement = self.statements().get(index);
        statement.is_some_and(|statement| statement.effects.contains(&Effect::Define))
    }

    /// What policy is asked, of a principal who has `masks`.
    pub fn command(&self, verb: &str, known: &Known, masks: &Masks) -> Command {
        let mut command = Command::new(verb, self.text.as_ref());
        let own = self.reading.statements.iter();
        let stored = self.stored.iter().flat_map(|stored| stored.statements());
        for statement in own.chain(stored) {
            if let Kind::ExecutePrepared { parameters, .. } = &statement.kind
                && self.stored.is_some()
            {
                // What was prepared counts, not that it was.
                command.effects.extend(parameters.iter().copied());
            } else {
                command.effects.extend(statement.effects.iter().copied());
            }
            for object in &statement.objects {
                if !command.objects.contains(object) {
                    command.objects.push(object.clone());
                }
            }
            for fact in &statement.facts {
                if !command.facts.contains(fact) {
                    command.facts.push(fact.clone());
                }
            }
            command.reads.extend(statement.exposure.reads.iter().cloned());
            if command.unsupported.is_none() {
                command.unsupported.clone_from(&statement.unsupported);
            }
        }
        if command.effects.is_empty() {
            // An empty text, and what computes constants, changes nothing and reads nothing.
            command.effects.insert(Effect::Session);
        }
        command.writes = writes(&command, known);
        if let Some(stored) = &self.stored {
            command.details.push(("prepared".to_owned(), stored.text.to_string()));
        }
        let masked = || changes(&command) && mask::contains_mask(self.text.as_bytes());
        if command.unsupported.is_none() {
            command.unsupported = self
                .concern(masks)
                .map(|concern| concern.reason.clone())
                .or_else(|| masked().then(mask_written));
        }
        command
    }
}

/// Adds the values bound to a prepared statement.
pub fn bind(command: &mut Command, bind: &Bind) {
    let masked = bind.values.iter().flatten().any(|value| mask::contains_mask(value));
    let mut kept = 0_usize;
    for (at, value) in bind.values.iter().enumerate() {
        if kept > VALUES_BYTES_KEPT {
            command.details.push(rest(bind, at));
            break;
        }
        let text = match value {
            None => "NULL".to_owned(),
            Some(value) => shown(value, bind.is_binary(at)),
        };
        kept = kept.saturating_add(text.len());
        command.details.push((format!("${}", at.saturating_add(1)), text));
    }
    if masked && changes(command) && command.unsupported.is_none() {
        command.unsupported = Some(mask_written());
    }
}

/// The values from `from` on, as one: each stands in the digest as its length and its bytes, as in
/// the message (NULL is -1).
fn rest(bind: &Bind, from: usize) -> (String, String) {
    let rest = bind.values.get(from..).unwrap_or_default();
    let length = |value: &Option<Bytes>| {
        let length = value.as_ref().map(|value| i32::try_from(value.len()).unwrap_or(i32::MAX));
        length.unwrap_or(-1).to_be_bytes()
    };
    let lengths = rest.iter().map(length).collect::<Vec<_>>();
    let values = rest.iter().map(|value| value.as_deref().unwrap_or_default());
    let parts = lengths.iter().map(<[u8; 4]>::as_slice).zip(values);
    let digest = Digest::of_parts(&parts.flat_map(<[&[u8]; 2]>::from).collect::<Vec<_>>());
    let bytes = rest.iter().flatten().map(Bytes::len).sum::<usize>();
    let name = format!("${} to ${}", from.saturating_add(1), bind.values.len());
    (name, format!("sha256:{digest} ({bytes} bytes)"))
}

/// The command of a text that could not be read, and what its client reads.
pub fn unreadable(verb: &str, text: &str, why: &Unreadable) -> (Command, Words) {
    let mut command = Command::new(verb, cut(text));
    command.effects.insert(Effect::Opaque);
    command.unsupported = Some(why.to_string());
    let words = match why {
        Unreadable::Syntax { message, position } => {
            let mut words = Words::new("42601", message.clone());
            words.position = *position;
            words
        }
        Unreadable::TooLong => Words::new("54000", why.to_string()),
        Unreadable::Internal => Words::new("42501", "this gateway cannot read the statement"),
    };
    (command, words)
}

/// A command that is refused before its text is looked at.
pub fn refused(verb: &str, text: &str, reason: &str) -> Command {
    let mut command = Command::new(verb, cut(text));
    command.effects.insert(Effect::Opaque);
    command.unsupported = Some(reason.to_owned());
    command
}

fn cut(text: &str) -> String {
    text.chars().take(64 * 1024).collect()
}

fn is_hit(concern: &Concern, masks: &Masks) -> bool {
    match &concern.classes {
        Classes::All => masks.hides_something(),
        Classes::These(classes) => masks.hides_something() && masks.hides_any(classes),
    }
}

fn mask_written() -> String {
    "it carries a mask that was read here: a mask is never written in a value's place".to_owned()
}

/// Whether a command does more than read and change its own session.
fn changes(command: &Command) -> bool {
    command.effects.iter().any(|effect| match effect {
        Effect::Read | Effect::Session | Effect::Transaction => false,
        Effect::Write
        | Effect::Delete
        | Effect::Define
        | Effect::Grant
        | Effect::Execute
        | Effect::Export
        | Effect::Destroy
        | Effect::Server
        | Effect::Opaque => true,
    })
}

/// The classes that a command may carry to the target: those of the tables it writes to, and all of
/// the target's where a table is not declared.
fn writes(command: &Command, known: &Known) -> BTreeSet<DataClass> {
    command
        .objects
        .iter()
        .filter(|object| object.kind == "table" && object.effect == Effect::Write)
        .flat_map(|object| known.classes_of(&object.name))
        .cloned()
        .collect()
}

fn shown(value: &[u8], binary: bool) -> String {
    if value.len() > VALUE_BYTES_KEPT {
        return format!("sha256:{} ({} bytes)", Digest::of(value), value.len());
    }
    match std::str::from_utf8(value) {
        Ok(text) if !binary => text.to_owned(),
        Ok(_) | Err(_) => {
            let mut text = String::from("\\x");
            for byte in value {
                // Writing into a string does not fail.
                let _written = write!(text, "{byte:02x}");
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(values: Vec<Option<Bytes>>) -> Vec<(String, String)> {
        let mut command = Command::new("query", "INSERT INTO t VALUES ($1)");
        let (portal, statement) = (Bytes::new(), Bytes::new());
        bind(&mut command, &Bind { portal, statement, formats: vec![1], values, results: vec![] });
        command.details
    }

    #[test]
    fn what_is_bound_is_kept_up_to_a_sum_and_the_rest_as_one_digest() {
        let value = |byte: u8| Some(Bytes::from(vec![byte; 4096]));
        let batch = |last: u8| (0..1280).map(|n| value(if n == 1279 { last } else { 0 })).collect();
        let details = bound(batch(1));
        assert!(details.iter().map(|(_, text)| text.len()).sum::<usize>() < 2 * VALUES_BYTES_KEPT);
        let (name, rest) = details.last().unwrap();
        assert_eq!((name.as_str(), details.len()), ("$129 to $1280", 129));
        assert!(rest.ends_with(&format!("({} bytes)", (1280 - 128) * 4096)), "{rest}");
        // Another last value is another command.
        assert_ne!(details, bound(batch(2)));
        // So is one that is parted otherwise.
        let parted = |one: usize| {
            let mut values = vec![value(0); 200];
            let empty = || Bytes::from(vec![7; one]);
            values.extend([Some(empty()), Some(Bytes::from(vec![7; 9 - one])), None]);
            bound(values)
        };
        assert_ne!(parted(4), parted(5));
        let few = vec![Some(Bytes::from_static(b"\0\x01")), None];
        let few = bound(few);
        assert_eq!(few[0], ("$1".to_owned(), "\\x0001".to_owned()));
        assert_eq!(few[1], ("$2".to_owned(), "NULL".to_owned()));
    }
}
