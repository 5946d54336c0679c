//! Searching commands by their words.

use jiff::Timestamp;
use serde::Serialize;

use crate::model::Country;
use crate::model::Protocol;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::store::Filter;
use crate::store::Query;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::db::Row;
use crate::store::db::Statement;
use crate::store::query::Scope;

/// Up to how many commands are gathered first, so that of the others that have the words too nothing
/// but the number is read.
const FEW_MAX: u32 = 5_000;
/// The plus keeps SQLite from asking for the words of each command by itself.
const AMONG_FEW: &str = " AND +commands_text.rowid IN (SELECT c.command FROM sessions s \
                         CROSS JOIN commands c ON c.session = s.session WHERE 1 = 1";

/// A command that a search has found: all that a session asked in these very words.
#[derive(Debug, Clone, Serialize)]
pub struct Hit {
    /// The session.
    pub session: SessionId,
    /// Whose it is: the name shown.
    pub principal: String,
    /// From which country.
    pub country: Option<Country>,
    /// At which target.
    pub target: TargetName,
    /// Speaking what.
    pub protocol: Protocol,
    /// The command's number when it was first asked.
    pub number: u64,
    /// When it was first asked.
    pub first_at: Timestamp,
    /// When it was last asked.
    pub last_at: Timestamp,
    /// How often.
    pub times: u64,
    /// How often it was denied.
    pub denied: u64,
    /// How often it waited for an approval.
    pub held: u64,
    /// What kind of command.
    pub verb: String,
    /// What it touches, and how: `read:table:public.customers`.
    pub objects: Vec<String>,
    /// Its text, or the beginning.
    #[serde(skip)]
    pub text: String,
    /// There is more of the text.
    pub cut: bool,
}

impl Store {
    /// The commands that `query` finds in the sessions that `filter` lets through, those first that
    /// came last into the index. `names_only`: what they say is not looked at, only what they do and
    /// touch; so nobody finds out by searching what they may not see.
    pub async fn search(
        &self,
        query: &Query,
        names_only: bool,
        filter: &Filter,
    ) -> Result<Vec<Hit>, StoreError> {
        let scope = if names_only { Scope::Names } else { Scope::Everything };
        let few = self.db.either(true, false) && filter.narrows() && self.are_few(filter).await?;
        let statement = Statement::new(
            "SELECT c.session, c.first_number, c.first_at, c.last_at, c.times, \
             c.denied AS command_denied, c.held, c.verb, c.objects, c.text, c.cut, \
             s.principal, s.country, s.target, s.protocol FROM ",
        );
        let statement = if self.db.either(true, false) {
            // The words are looked up first, and the newest rows come out of that one by one.
            let from = "commands_text CROSS JOIN commands c ON c.command = commands_text.rowid \
                        CROSS JOIN sessions s ON s.session = c.session WHERE commands_text MATCH ";
            let found = statement.plain(from).and("$#", query.fts5(scope));
            if few { filter.commands(&self.db, found.plain(AMONG_FEW)).plain(")") } else { found }
        } else {
            // PostgreSQL plans by itself.
            let from = "commands c JOIN sessions s ON s.session = c.session WHERE c.words @@ ";
            statement.plain(from).and("CAST($# AS TSQUERY)", query.tsquery(scope))
        };
        let statement = filter.commands(&self.db, statement);
        let order = self.db.either(
            " ORDER BY commands_text.rowid DESC LIMIT $#",
            " ORDER BY c.command DESC LIMIT $#",
        );
        let statement = statement.and(order, filter.rows_max()).replanned();
        self.db.rows(statement).await?.iter().map(hit).collect()
    }

    /// Whether the sessions that `filter` lets through asked at most [`FEW_MAX`] commands.
    async fn are_few(&self, filter: &Filter) -> Result<bool, StoreError> {
        let text = "SELECT COUNT(*) AS found FROM (SELECT 1 FROM sessions s \
                    CROSS JOIN commands c ON c.session = s.session WHERE 1 = 1";
        let statement = filter.commands(&self.db, Statement::new(text));
        let statement = statement.and(" LIMIT $#)", FEW_MAX.saturating_add(1));
        let row = self.db.row(statement).await?;
        let found = row.map(|row| row.count("found")).transpose()?;
        Ok(found.is_some_and(|found| found <= u64::from(FEW_MAX)))
    }
}

fn hit(row: &Row) -> Result<Hit, StoreError> {
    let objects = row.get::<String>("objects")?;
    Ok(Hit {
        session: row.parsed("session")?,
        principal: row.get("principal")?,
        country: row.get::<Option<String>>("country")?.and_then(|country| country.parse().ok()),
        target: row.parsed("target")?,
        protocol: serde_json::from_value(row.get::<String>("protocol")?.into())
            .map_err(StoreError::decode)?,
        number: row.count("first_number")?,
        first_at: row.time("first_at")?,
        last_at: row.time("last_at")?,
        times: row.count("times")?,
        denied: row.count("command_denied")?,
        held: row.count("held")?,
        verb: row.get("verb")?,
        objects: objects.split(' ').filter(|o| !o.is_empty()).map(str::to_owned).collect(),
        text: row.get("text")?,
        cut: row.count("cut")? != 0,
    })
}
