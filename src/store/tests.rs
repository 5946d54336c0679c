//! The same tests on SQLite and on a real PostgreSQL: [`on_both`] makes two of each.

mod commands;
mod index;
mod logins;
mod outage;
mod retention;
mod server;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::Clock;
use crate::model::Principal;
use crate::model::clock::Standing;
use crate::model::principal::Kind;
use crate::store::Options;
use crate::store::Place;
use crate::store::Store;

/// The time at which every test begins.
const NOON: i64 = 1_795_262_400;

/// `on_both!(a, b)`: `a` and `b` are async functions that take a [`Case`].
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(crate::store::tests::Case::sqlite().await).await;
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(crate::store::tests::Case::postgres().await).await;
                }
            )+
        }
    };
}
use on_both;

/// A new database, and a gateway that has it open.
struct Case {
    store: Store,
    clock: Arc<Standing>,
    place: Place,
    _dir: tempfile::TempDir,
}

impl Case {
    async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::at(Place::Sqlite(dir.path().join("state.db")), dir).await
    }

    async fn postgres() -> Self {
        let place = Place::Postgres(Box::new(server::database().await));
        Self::at(place, tempfile::tempdir().unwrap()).await
    }

    async fn at(place: Place, dir: tempfile::TempDir) -> Self {
        let clock = Arc::new(Standing::at(seconds(0)));
        let store = open(&place, "weir-1", &clock).await;
        Self { store, clock, place, _dir: dir }
    }

    /// Another gateway at the same database, with a clock of its own.
    async fn other(&self, gateway: &str) -> (Store, Arc<Standing>) {
        let clock = Arc::new(Standing::at(self.clock.now()));
        (open(&self.place, gateway, &clock).await, clock)
    }
}

async fn open(place: &Place, gateway: &str, clock: &Arc<Standing>) -> Store {
    let options = Options { gateway: gateway.to_owned(), place: place.clone() };
    let clock: Arc<dyn Clock> = Arc::<Standing>::clone(clock);
    Store::open(&options, clock).await.unwrap()
}

/// So many seconds after noon.
fn seconds(after: i64) -> Timestamp {
    Timestamp::from_second(NOON + after).unwrap()
}

fn principal(subject: &str) -> Principal {
    Principal {
        issuer: "https://login.example".to_owned(),
        subject: subject.to_owned(),
        name: format!("{subject}-name"),
        kind: Kind::Person,
        roles: BTreeSet::from(["engineer".to_owned()]),
        entity: Some("acme-de".parse().unwrap()),
        residence: Some("DE".parse().unwrap()),
        person: subject.to_owned(),
        attributes: BTreeMap::from([("department".to_owned(), "ümläut \"quoted\"".to_owned())]),
        actors: Vec::new(),
    }
}
