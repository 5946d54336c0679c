//! What a statement would ask of a target, for `weir policy explain`: read as a session reads it,
//! against the same catalogue, without a session.

use std::sync::Arc;

use crate::model::Command;
use crate::model::fault::Chain;
use crate::model::verdict::Masks;
use crate::protocol::postgres::Postgres;
use crate::protocol::postgres::catalogue::Whose;
use crate::protocol::postgres::command;
use crate::protocol::postgres::command::Plan;
use crate::protocol::postgres::sql;
use crate::protocol::postgres::tables;
use crate::target::PostgresTarget;
use crate::target::Target;

impl Postgres {
    /// What `text` would ask of the first database of `target` from a principal who has `masks`;
    /// or why that cannot be told.
    pub async fn explain(
        &self,
        target: &Target,
        postgres: &PostgresTarget,
        text: &str,
        masks: &Masks,
    ) -> Result<Command, String> {
        let access =
            self.trust.access(target, postgres).await.map_err(|e| Chain(&e).to_string())?;
        let database = postgres.databases.first().ok_or("the target offers no database")?;
        let whose = Whose {
            target: target.name().clone(),
            database: database.to_string(),
            access: Arc::new(access),
            tables: Arc::new(tables(postgres)),
            classes: target.facts().classes.clone(),
        };
        let known = self.catalogues.known(&self.gateway, &whose).await;
        let known = known.map_err(|error| Chain(&error).to_string())?;
        Ok(match sql::read(text, known.declared()) {
            Ok(reading) => {
                let plan = Plan { text: text.into(), reading: Arc::new(reading), stored: None };
                plan.command("query", &known, masks)
            }
            Err(why) => command::unreadable("query", text, &why).0,
        })
    }
}
