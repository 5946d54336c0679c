//! What is known of a target's tables: what configuration declares, with the identifiers and the
//! order of columns that the server's catalogue gives them.
//!
//! Read by the gateway itself, as its own principal, on a connection of its own, recorded like any
//! other command. Kept per target and database; read again, at a limited rate, once a statement
//! that changes definitions went through the gateway or the server named a table that was not
//! expected.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;

use crate::audit::entry::Ending;
use crate::model::Command;
use crate::model::DataClass;
use crate::model::Effect;
use crate::model::Object;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::TargetName;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::postgres::sql::Column;
use crate::protocol::postgres::sql::Declared;
use crate::protocol::postgres::sql::Table;
use crate::protocol::postgres::upstream;
use crate::protocol::postgres::upstream::Access;
use crate::protocol::postgres::upstream::OpenError;
use crate::session::Asked;
use crate::session::Gateway;
use crate::session::Settled;

/// How long a catalogue is believed at most, in seconds.
pub const AGE_S_MAX: u64 = 300;
/// How long a catalogue that is doubted is kept at least, in milliseconds.
pub const AGE_MS_MIN: u64 = 1_000;
/// How long reading a catalogue may take, in milliseconds.
pub const READ_MS_MAX: u64 = 15_000;
/// Columns that are read at most.
const COLUMNS_MAX: usize = 100_000;

/// Columns of tables, views and their like outside the system's schemas, in order.
const COLUMNS: &str = "\
    SELECT c.oid::pg_catalog.int8, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, \
           a.attname::pg_catalog.text, a.attnum \
    FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid \
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,m,f,p}'::pg_catalog.\"char\"[]) \
      AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped \
      AND n.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema,pg_toast}'::pg_catalog.name[]) \
    ORDER BY c.oid, a.attnum";

/// Names of functions, operators and casts' types in schemas that an unqualified call may find.
const SHADOWS: &str = "\
    SELECT DISTINCT p.proname::pg_catalog.text FROM pg_catalog.pg_proc p \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
    WHERE n.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema}'::pg_catalog.name[]) \
    UNION \
    SELECT DISTINCT o.oprname::pg_catalog.text FROM pg_catalog.pg_operator o \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace \
    WHERE n.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema}'::pg_catalog.name[])";

/// What configuration declares of one target's tables: by `schema.name`, every column with the
/// classes it carries. A table that is not here is unknown.
pub type Tables = BTreeMap<String, BTreeMap<String, BTreeSet<DataClass>>>;

/// What is known of one database.
#[derive(Debug, Default)]
pub struct Known {
    declared: Declared,
    tables: BTreeSet<u32>,
    classes: BTreeMap<String, BTreeSet<DataClass>>,
    doubts: u64,
}

impl Known {
    /// The count of doubts at which it was read.
    pub fn doubts(&self) -> u64 {
        self.doubts
    }

    /// What the reading of statements is told.
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// Identifiers of the tables that were declared.
    pub fn tables(&self) -> &BTreeSet<u32> {
        &self.tables
    }

    /// The classes that `table` holds; all of the target's, if it is not declared.
    pub fn classes_of(&self, table: &str) -> &BTreeSet<DataClass> {
        self.classes.get(table).unwrap_or_else(|| self.declared.classes())
    }

    fn of(
        classes: &BTreeSet<DataClass>,
        tables: &Tables,
        found: Vec<(u32, String, String, Column)>,
        shadows: Vec<String>,
        seen: &mut Seen,
    ) -> Self {
        let mut known = Self { declared: Declared::new(classes.clone()), ..Self::default() };
        let mut relations = BTreeMap::<(String, String), Table>::new();
        for (oid, schema, name, mut column) in found {
            let Some(columns) = tables.get(&format!("{schema}.{name}")) else { continue };
            // A column that nobody declared is unknown, which counts as every class.
            column.classes = columns.get(&column.name).cloned();
            if let Some(classes) = &mut column.classes {
                let before = seen.entry((oid, column.number)).or_default();
                before.extend(classes.iter().cloned());
                classes.clone_from(before);
            }
            let table = relations.entry((schema, name));
            table.or_insert_with(|| Table { oid, columns: Vec::new() }).columns.push(column);
        }
        for ((schema, name), table) in relations {
            let held = table.columns.iter().flat_map(|c| c.classes.as_ref().unwrap_or(classes));
            known.classes.insert(format!("{schema}.{name}"), held.cloned().collect());
            known.tables.insert(table.oid);
            known.declared.declare(schema, name, table);
        }
        for name in shadows {
            known.declared.shadow(name);
        }
        known
    }
}

/// Why a catalogue could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The gateway may not, or cannot record it.
    #[error("the gateway's own reading was refused: {0}")]
    Refused(Refusal),
    /// The target cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The target failed.
    #[error("the target's catalogue could not be read")]
    Target(#[from] tokio_postgres::Error),
    /// It took too long, or there are more columns than are read.
    #[error("the target's catalogue {0}")]
    Bound(&'static str),
}

impl IntoRefusal for CatalogueError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::Open(error) => error.refusal(),
            Self::Refused(_) | Self::Target(_) | Self::Bound(_) => {
                Refusal::new(RefusalCode::TargetFailed, "the target's catalogue could not be read")
                    .hint("the gateway's log says why")
            }
        }
    }
}

#[derive(Debug)]
struct Read {
    known: Arc<Known>,
    at: Instant,
    /// What was declared then.
    tables: Arc<Tables>,
    seen: Seen,
}

/// The classes that columns carried since the declaration last changed, by table and number: a
/// column that is renamed meanwhile still holds what it held, whatever its new name is declared as.
type Seen = BTreeMap<(u32, i16), BTreeSet<DataClass>>;

/// One database's catalogue.
#[derive(Debug, Default)]
struct Slot {
    doubts: Doubts,
    read: Mutex<Option<Read>>,
}

/// How often a database's catalogue was doubted, by any session: what was read at another count may
/// be old.
pub type Doubts = Arc<AtomicU64>;

/// The catalogues that were read. One per gateway.
#[derive(Debug, Default)]
pub struct Catalogues {
    slots: std::sync::Mutex<BTreeMap<(TargetName, String), Arc<Slot>>>,
}

/// Whose catalogue.
#[derive(Debug, Clone)]
pub struct Whose {
    /// The target.
    pub target: TargetName,
    /// The database.
    pub database: String,
    /// How it is reached.
    pub access: Arc<Access>,
    /// What configuration declares.
    pub tables: Arc<Tables>,
    /// Every class that the target holds.
    pub classes: BTreeSet<DataClass>,
}

impl Catalogues {
    /// What is known of a database: as it was read, or read now.
    pub async fn known(
        &self,
        gateway: &Gateway,
        whose: &Whose,
    ) -> Result<Arc<Known>, CatalogueError> {
        let slot = self.slot(whose);
        // Whoever comes while it is read waits for that reading.
        let mut read = slot.read.lock().await;
        // Taken before reading: a doubt that comes meanwhile is about what is read, too.
        let doubts = slot.doubts.load(Ordering::Acquire);
        if let Some(read) = read.as_ref() {
            let age = read.at.elapsed();
            let declared = Arc::ptr_eq(&read.tables, &whose.tables) || read.tables == whose.tables;
            let recent = age < Duration::from_secs(AGE_S_MAX);
            if declared && recent && read.known.doubts == doubts {
                return Ok(Arc::clone(&read.known));
            }
            tokio::time::sleep(Duration::from_millis(AGE_MS_MIN).saturating_sub(age)).await;
        }
        let seen = read.as_ref().filter(|read| read.tables == whose.tables);
        let mut seen = seen.map(|read| read.seen.clone()).unwrap_or_default();
        let reading = fetch(gateway, whose, &mut seen);
        let mut known = tokio::time::timeout(Duration::from_millis(READ_MS_MAX), reading)
            .await
            .unwrap_or(Err(CatalogueError::Bound("was not read in 15 s")))?;
        known.doubts = doubts;
        let known = Arc::new(known);
        let tables = Arc::clone(&whose.tables);
        *read = Some(Read { known: Arc::clone(&known), at: Instant::now(), tables, seen });
        Ok(known)
    }

    /// The count of doubts about a database's catalogue. Adding to it says that what is known may
    /// be old.
    pub fn doubts(&self, whose: &Whose) -> Doubts {
        Arc::clone(&self.slot(whose).doubts)
    }

    fn slot(&self, whose: &Whose) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let slot = slots.entry((whose.target.clone(), whose.database.clone())).or_default();
        Arc::clone(slot)
    }
}

async fn fetch(gateway: &Gateway, whose: &Whose, seen: &mut Seen) -> Result<Known, CatalogueError> {
    let admitted = gateway
        .admit_itself(whose.target.as_str(), Protocol::Postgres)
        .map_err(CatalogueError::Refused)?;
    let guard = admitted.guard;
    let stream = upstream::connect(&guard, &whose.access).await?;
    let mut config = tokio_postgres::Config::new();
    config
        .user(&whose.access.login)
        .password(whose.access.password.expose_secret())
        .dbname(&whose.database)
        .application_name("weir")
        .options("-c search_path=pg_catalog -c default_transaction_read_only=on")
        // TLS, where it is wanted, is there already.
        .ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect_raw(stream, NoTls).await?;
    let ask = |text: &'static str| {
        let mut command = Command::new("query", text);
        command.effects.insert(Effect::Read);
        command.objects.push(Object::new("table", "pg_catalog.pg_class", Effect::Read));
        match guard.ask(command, text) {
            Asked::Settled(Settled::Go(running, cleared)) => {
                let text = cleared.unseal(guard.session()).map_err(OpenError::Session)?;
                Ok((running, text))
            }
            Asked::Settled(Settled::No(refusal)) => Err(CatalogueError::Refused(refusal)),
            Asked::Held(_) => Err(CatalogueError::Refused(Refusal::new(
                RefusalCode::Denied,
                "a policy holds the gateway's own reading, which nobody can approve",
            ))),
        }
    };
    let read = async {
        let (running, text) = ask(COLUMNS)?;
        let rows = client.query(text, &[]).await?;
        ended(&running, rows.len());
        if rows.len() > COLUMNS_MAX {
            return Err(CatalogueError::Bound("has more columns than are read"));
        }
        let found = rows.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let (running, text) = ask(SHADOWS)?;
        let rows = client.query(text, &[]).await?;
        ended(&running, rows.len());
        let shadows = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<_>, _>>()?;
        Ok(Known::of(&whose.classes, &whose.tables, found, shadows, seen))
    };
    tokio::pin!(read);
    // The connection is driven here: nothing outlives the reading.
    let known = tokio::select! {
        known = &mut read => known?,
        ended = connection => {
            ended?;
            return Err(CatalogueError::Bound("connection ended early"));
        }
    };
    guard.ending("catalogue read");
    Ok(known)
}

fn ended(running: &crate::session::Running, rows: usize) {
    // Where this cannot be recorded, the trail is lost, and the next command is refused for it.
    drop(running.end(Ending::Done { status: format!("SELECT {rows}") }));
}

fn column(row: &tokio_postgres::Row) -> Result<(u32, String, String, Column), CatalogueError> {
    let oid = u32::try_from(row.try_get::<_, i64>(0)?)
        .map_err(|_| CatalogueError::Bound("has an identifier that is none"))?;
    let column = Column { name: row.try_get(3)?, number: row.try_get(4)?, classes: None };
    Ok((oid, row.try_get(1)?, row.try_get(2)?, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> (BTreeSet<DataClass>, Tables) {
        let email = BTreeSet::from(["pii.email".parse().unwrap()]);
        let columns = BTreeMap::from([
            ("id".to_owned(), BTreeSet::new()),
            ("email".to_owned(), email.clone()),
            ("note".to_owned(), BTreeSet::new()),
        ]);
        (email, Tables::from([("public.customers".to_owned(), columns)]))
    }

    fn found(names: &[&str]) -> Vec<(u32, String, String, Column)> {
        let column = |(name, number): (&&str, i16)| {
            let column = Column { name: (*name).to_owned(), number, classes: None };
            (7, "public".to_owned(), "customers".to_owned(), column)
        };
        names.iter().zip(1..).map(column).collect()
    }

    #[test]
    fn an_undeclared_column_is_unknown_and_an_undeclared_table_holds_everything() {
        let (email, tables) = declared();
        let shadows = vec!["lower".to_owned()];
        let known =
            Known::of(&email, &tables, found(&["id", "email", "added"]), shadows, &mut Seen::new());
        let table = known.declared().table("public", "customers").unwrap();
        assert_eq!(table.columns[0].classes, Some(BTreeSet::new()));
        assert_eq!(table.columns[1].classes.as_ref(), Some(&email));
        assert_eq!(table.columns[2].classes, None);
        assert_eq!(known.classes_of("public.notes"), &email);
        assert!(known.tables().contains(&7));
    }

    #[test]
    fn a_column_that_is_renamed_to_a_clear_one_still_holds_what_it_held() {
        let ((email, tables), mut seen) = (declared(), Seen::new());
        Known::of(&email, &tables, found(&["id", "email"]), Vec::new(), &mut seen);
        let known = Known::of(&email, &tables, found(&["id", "note"]), Vec::new(), &mut seen);
        let table = known.declared().table("public", "customers").unwrap();
        assert_eq!(table.columns[1].name, "note");
        assert_eq!(table.columns[1].classes.as_ref(), Some(&email));
    }
}
