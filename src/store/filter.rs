//! Which sessions are meant: of whom, where, when, what happened in them.

use jiff::Timestamp;
use serde_json::json;

use crate::model::Country;
use crate::model::DataClass;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::TargetName;
use crate::store::LIST_ROWS_MAX;
use crate::store::db::Db;
use crate::store::db::Statement;

/// Which sessions are meant. The default is all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Whose sessions may be among them at all.
    pub whose: Whose,
    /// At which targets they may be at all; `None`: at any.
    pub within: Option<Vec<TargetName>>,
    /// Those of somebody: their name as it is shown, or their subject.
    pub user: Option<String>,
    /// Those at a target.
    pub target: Option<TargetName>,
    /// Those that speak this.
    pub protocol: Option<Protocol>,
    /// Those that lived at this time or later; of commands, those asked then.
    pub since: Option<Timestamp>,
    /// Those that lived before this time; of commands, those asked then.
    pub until: Option<Timestamp>,
    /// Those with a command that was denied; of commands, those that were.
    pub denied: bool,
    /// Those with a command that waited for an approval; of commands, those that did.
    pub held: bool,
    /// Those that were shown data of this class, or of one that nests in it.
    pub class: Option<DataClass>,
    /// Those from this country.
    pub country: Option<Country>,
    /// Those that have not ended.
    pub live: bool,
    /// How many at most; `None`, or more: [`LIST_ROWS_MAX`].
    pub limit: Option<u32>,
}

/// Whose sessions may be found.
#[derive(Debug, Clone, Default)]
pub enum Whose {
    /// Everybody's.
    #[default]
    Everybodys,
    /// Those of one principal.
    Own(Owner),
    /// Those of all but one principal.
    Others(Owner),
}

/// A principal, as sessions name theirs.
#[derive(Debug, Clone)]
pub struct Owner {
    /// Who vouches for them.
    pub issuer: String,
    /// Who they are there.
    pub subject: String,
    /// In what capacity, as [`Principal::acting`] says it: what a person's agent did is not the
    /// person's own.
    pub acting: String,
}

impl From<&Principal> for Owner {
    fn from(principal: &Principal) -> Self {
        Self {
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            acting: principal.acting(),
        }
    }
}

impl Filter {
    /// How many rows are returned at most.
    pub(super) fn rows_max(&self) -> u32 {
        self.limit.unwrap_or(LIST_ROWS_MAX).min(LIST_ROWS_MAX)
    }

    /// Whether it lets through the sessions of somebody or something alone.
    pub(super) fn narrows(&self) -> bool {
        matches!(self.whose, Whose::Own(_))
            || self.within.is_some()
            || self.user.is_some()
            || self.target.is_some()
            || self.protocol.is_some()
            || self.class.is_some()
            || self.country.is_some()
            || self.live
    }

    /// Adds the conditions for a list of sessions, which the statement calls `s`.
    pub(super) fn sessions(&self, db: &Db, statement: Statement) -> Statement {
        let mut statement = self.either(db, statement);
        if let Some(since) = self.since {
            statement = statement.and(" AND (s.closed_at IS NULL OR s.closed_at >= $#)", since);
        }
        if let Some(until) = self.until {
            statement = statement.and(" AND s.opened_at < $#", until);
        }
        if self.denied {
            // A live session's own count is not known yet.
            statement = statement.plain(
                " AND (s.denied > 0 OR EXISTS (SELECT 1 FROM commands c \
                 WHERE c.session = s.session AND c.denied > 0))",
            );
        }
        if self.held {
            statement =
                statement.plain(" AND EXISTS (SELECT 1 FROM holds h WHERE h.session = s.session)");
        }
        statement
    }

    /// Adds the conditions for a search for commands, which the statement calls `c`, of sessions `s`.
    pub(super) fn commands(&self, db: &Db, statement: Statement) -> Statement {
        let mut statement = self.either(db, statement);
        if let Some(since) = self.since {
            statement = statement.and(" AND c.last_at >= $#", since);
        }
        if let Some(until) = self.until {
            statement = statement.and(" AND c.first_at < $#", until);
        }
        if self.denied {
            statement = statement.plain(" AND c.denied > 0");
        }
        if self.held {
            statement = statement.plain(" AND c.held > 0");
        }
        statement
    }

    fn either(&self, db: &Db, mut statement: Statement) -> Statement {
        statement = match &self.whose {
            Whose::Everybodys => statement,
            Whose::Own(Owner { issuer, subject, acting }) => statement
                .and(" AND s.subject = $#", subject.as_str())
                .and(" AND s.issuer = $#", issuer.as_str())
                .and(" AND s.acting = $#", acting.as_str()),
            // Where it is not known who acted, it is nobody's own.
            Whose::Others(Owner { issuer, subject, acting }) => statement
                .and(" AND NOT (s.subject = $#", subject.as_str())
                .and(" AND s.issuer = $#", issuer.as_str())
                .and(" AND COALESCE(s.acting, '') = $#)", acting.as_str()),
        };
        if let Some(within) = &self.within {
            let text = db.either(
                " AND s.target IN (SELECT value FROM json_each($#))",
                " AND s.target IN (SELECT json_array_elements_text(CAST($# AS JSON)))",
            );
            statement = statement.and(text, json!(within).to_string());
        }
        if let Some(user) = &self.user {
            statement = statement
                .and(" AND (s.principal = $#", user.as_str())
                .and(" OR s.subject = $#)", user.as_str());
        }
        if let Some(target) = &self.target {
            statement = statement.and(" AND s.target = $#", target.as_str());
        }
        if let Some(protocol) = self.protocol {
            statement = statement.and(" AND s.protocol = $#", protocol.as_str());
        }
        if let Some(class) = &self.class {
            statement = statement
                .plain(
                    " AND EXISTS (SELECT 1 FROM session_classes k \
                     WHERE k.session = s.session AND k.shown = 1",
                )
                .and(" AND (k.class = $#", class.as_str())
                .and(" OR substr(k.class, 1, length($#))", format!("{class}."))
                .and(" = $#))", format!("{class}."));
        }
        if let Some(country) = &self.country {
            statement = statement.and(" AND s.country = $#", country.to_string());
        }
        if self.live {
            statement = statement.plain(" AND s.closed_at IS NULL");
        }
        statement
    }
}
