//! PostgreSQL's frontend/backend protocol, version 3, on both sides.
//!
//! ```text
//! hello      TLS, up to the startup packet
//! startup    the startup packet: what a client asks for
//! login      how it proves who it is; sasl: OAUTHBEARER's messages
//! upstream   opens the leg, signs in to the target; its senders take Cleared
//! link       the loop: requests (client → target) and answers (target → client)
//! flow       what is in flight, and what names mean meanwhile
//! sql        what a text does, read with PostgreSQL's own grammar
//! explain    the same without a session, for what-if questions
//! command    that reading as a model::Command
//! mask       answers, masked
//! refuse     no, in PostgreSQL's words, and the frames that stand in for denied ones
//! catalogue  what is known of a target's tables
//! cancel     whom a CancelRequest means
//! wire       the bytes
//! ```
//!
//! It makes no decision and can verify no claim. One command is a Query with all its statements, or
//! a Bind with its text and values; a Parse is decided too, so that no denied text reaches a target.

pub mod cancel;
pub mod catalogue;
mod explain;
pub mod command;
pub mod flow;
pub mod hello;
pub mod link;
pub mod login;
#[cfg(test)]
mod login_tests;
pub mod mask;
mod queue;
pub mod refuse;
pub mod sasl;
pub mod sql;
pub mod startup;
pub mod upstream;
pub mod wire;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::time::timeout;

use crate::model::Fault;
use crate::model::Origin;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::TargetName;
use crate::model::fault::Chain;
use crate::model::login::Use;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::postgres::cancel::Cancels;
use crate::protocol::postgres::cancel::KEY_BYTES_3_0;
use crate::protocol::postgres::cancel::KEY_BYTES_3_2;
use crate::protocol::postgres::catalogue::Catalogues;
use crate::protocol::postgres::catalogue::Known;
use crate::protocol::postgres::catalogue::Tables;
use crate::protocol::postgres::catalogue::Whose;
use crate::protocol::postgres::hello::Asked;
use crate::protocol::postgres::hello::Encrypt;
use crate::protocol::postgres::hello::HELLO_MS_MAX;
use crate::protocol::postgres::hello::Hello;
use crate::protocol::postgres::hello::HelloError;
use crate::protocol::postgres::hello::Secured;
use crate::protocol::postgres::link::End;
use crate::protocol::postgres::link::Link;
use crate::protocol::postgres::login::Shown;
use crate::protocol::postgres::refuse::Words;
use crate::protocol::postgres::startup::Startup;
use crate::protocol::postgres::upstream::Opened;
use crate::protocol::postgres::upstream::Trust;
use crate::session::Admitted;
use crate::session::Gateway;
use crate::session::Guard;
use crate::target::PostgresAuth;
use crate::target::PostgresTarget;
use crate::target::Reach;

/// The gateway's PostgreSQL side. Built once, by the daemon.
#[derive(Debug)]
pub struct Postgres {
    gateway: Arc<Gateway>,
    cancels: Arc<Cancels>,
    catalogues: Catalogues,
    trust: Trust,
}

impl Postgres {
    /// The PostgreSQL side of `gateway`.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        let (cancels, catalogues) = (Arc::default(), Catalogues::default());
        Self { gateway, cancels, catalogues, trust: Trust::default() }
    }

    /// Serves a connection that begins in the clear; nobody has taken its first bytes. It logs how
    /// the connection ended.
    pub async fn serve_plain<S, E>(&self, stream: S, encrypt: E, origin: Origin)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        E: Encrypt<S, Stream: 'static>,
    {
        self.serve(hello::plain(stream, encrypt), &origin).await;
    }

    /// Serves a connection that began with TLS (ALPN `postgresql`). It logs
    /// how the connection ended.
    pub async fn serve_tls<S>(&self, secured: Secured<S>, origin: Origin)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve(hello::encrypted(secured), &origin).await;
    }

    /// Greet, verify, find, admit, dial, open, relay.
    async fn serve<S>(
        &self,
        hello: impl Future<Output = Result<Hello<S>, HelloError>>,
        origin: &Origin,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let greeted = timeout(Duration::from_millis(HELLO_MS_MAX), hello).await;
        match greeted {
            Err(_) => {
                tracing::info!(fault = %Fault::Client, from = %origin.address, "no startup in time");
            }
            Ok(Err(error)) => {
                tracing::info!(fault = %Fault::Client, from = %origin.address, "{}", Chain(&error));
            }
            Ok(Ok(Hello::Cancel { process, key, open })) => {
                self.cancels.cancel(process, &key).await;
                open.close().await;
            }
            Ok(Ok(Hello::Session(mut asked))) => match self.begin(&mut asked, origin).await {
                Ok(session) => self.relay(session, asked).await,
                Err(No::Refused(refusal)) => self.refuse(&mut asked, origin, &refusal).await,
                Err(No::Discovery) => self.discovered(&mut asked, origin).await,
                Err(No::Broken(error)) => {
                    tracing::info!(fault = %Fault::Client, from = %origin.address, "{}", Chain(&error));
                }
            },
        }
    }

    /// From a claim to a target that is signed in to.
    async fn begin<S>(&self, asked: &mut Asked<S>, origin: &Origin) -> Result<Begun, No>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let place = Place::of(asked.sni.as_deref(), &self.gateway.name, &asked.startup)?;
        let shown = in_time(asked.prove(self.way(&place.target))).await?;
        let usage = Use::Target(Protocol::Postgres);
        let Some(claim) = shown.claim() else {
            in_time(asked.challenge(&self.gateway.url)).await?;
            return Err(No::Discovery);
        };
        let verified = self.gateway.verify(&claim, usage, Some(&place.target), origin).await;
        let verified = match verified {
            Ok(verified) => verified,
            Err(refusal) => {
                if matches!(shown, Shown::Bearer(_)) {
                    in_time(asked.challenge(&self.gateway.url)).await?;
                }
                return Err(shown.refused(refusal).into());
            }
        };
        drop(shown);
        let principal = Arc::clone(verified.principal());
        let admitted = self.gateway.admit(&verified, &place.target, Protocol::Postgres, origin)?;
        let Admitted { guard, target } = admitted;
        let opened = async {
            let Reach::Postgres(postgres) = target.reach() else {
                return Err(not_postgres());
            };
            let startup = &asked.startup;
            let own = [&principal.name, &principal.subject, &principal.person];
            if !own.contains(&&startup.user) && startup.user != postgres.login.as_str() {
                return Err(other_user(&principal.name));
            }
            let database = place.database(postgres, &startup.user)?;
            let access =
                self.trust.access(&target, postgres).await.map_err(|e| failed(&guard, &e))?;
            let whose = Whose {
                target: target.name().clone(),
                database,
                access: Arc::new(access),
                tables: Arc::new(tables(postgres)),
                classes: target.facts().classes.clone(),
            };
            let known = self.catalogues.known(&self.gateway, &whose).await;
            let known = known.map_err(|e| failed(&guard, &e))?;
            let settings = settings(startup);
            let opened = upstream::open(&guard, &whose.access, &whose.database, &settings).await;
            Ok((opened.map_err(|e| failed(&guard, &e))?, whose, known))
        };
        match opened.await {
            Ok((opened, whose, known)) => Ok(Begun { guard, whose, known, opened }),
            Err(refusal) => {
                guard.ending(refusal.to_string());
                Err(refusal.into())
            }
        }
    }

    /// What a target is set to; a target that there is not, to the same as most. Whoever asks is not
    /// known yet: that a target wants OAUTHBEARER is the one thing that is told of it.
    fn way(&self, target: &str) -> PostgresAuth {
        let version = self.gateway.version();
        let name = target.parse::<TargetName>().ok();
        match name.and_then(|name| version.catalogue.target(&name).cloned()) {
            Some(target) => match target.reach() {
                Reach::Postgres(postgres) => postgres.auth,
                Reach::Ssh(_) | Reach::Http(_) | Reach::Kubernetes(_) => PostgresAuth::default(),
            },
            None => PostgresAuth::default(),
        }
    }

    /// Carries the session until it ends.
    async fn relay<S>(&self, begun: Begun, asked: Asked<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Begun { guard, whose, known, opened } = begun;
        let Opened { stream, early, parameters, key } = opened;
        let session = guard.session();
        let key_bytes = if asked.startup.minor >= 2 { KEY_BYTES_3_2 } else { KEY_BYTES_3_0 };
        let Some(place) = self.cancels.register(key.process, key_bytes) else {
            guard.ending("no random numbers");
            tracing::error!(%session, fault = %Fault::Gateway, "there are no random numbers");
            return;
        };
        let mut watched = HashMap::new();
        for frame in &parameters {
            if let Ok((name, value)) = wire::parameter(frame)
                && link::WATCHED.contains(&name.as_str())
            {
                watched.insert(name, value);
            }
        }
        let mut link = Link::new(link::Parts {
            gateway: &self.gateway,
            catalogues: &self.catalogues,
            whose,
            known,
            guard,
            key,
            watched,
        });
        let greeted = (|| {
            link.say(hello::signed_in())?;
            parameters.into_iter().try_for_each(|frame| link.tell_parameter(frame))?;
            link.say(hello::key_data(place.process(), place.key()))?;
            link.say(hello::ready())
        })();
        let end: End = match greeted {
            Ok(()) => Box::pin(link.run(asked.stream, stream, early, place)).await,
            Err(end) => end,
        };
        match end.fault() {
            None => tracing::info!(%session, "session ended: {}", Chain(&end)),
            Some(fault @ Fault::Client) => {
                tracing::info!(%session, %fault, "session ended: {}", Chain(&end));
            }
            Some(fault @ (Fault::Target | Fault::Provider | Fault::Gateway)) => {
                tracing::warn!(%session, %fault, "session ended: {}", Chain(&end));
            }
        }
    }

    /// Ends a connection that was there to ask where to get a token, which is nothing wrong.
    async fn discovered<S>(&self, asked: &mut Asked<S>, origin: &Origin)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        tracing::debug!(from = %origin.address, "a client asked where to get a token");
        let mut words = Words::new("28000", "a token is needed");
        words.hint = Some(format!("sign in at {}", self.gateway.url));
        if let Err(error) = asked.refuse(&words).await {
            tracing::debug!(%error, "the client did not wait for the end");
        }
    }

    async fn refuse<S>(&self, asked: &mut Asked<S>, origin: &Origin, refusal: &Refusal)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        tracing::info!(from = %origin.address, "no session: {refusal}");
        // At a sign-in every no is the session's: 28000 lets a pool tell it from a lost connection.
        let mut words = Words::from(refusal);
        if words.code == "42501" {
            words.code = "28000".into();
        }
        if let Err(error) = asked.refuse(&words).await {
            tracing::debug!(%error, "the client did not hear why");
        }
    }
}

/// Why there is no session.
#[derive(Debug)]
enum No {
    /// The client is to be told.
    Refused(Refusal),
    /// It only asked where to get a token.
    Discovery,
    /// It broke the protocol or went away; it has been told what can be.
    Broken(HelloError),
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Whatever a client has to say until it is known.
async fn in_time<T>(work: impl Future<Output = Result<T, HelloError>>) -> Result<T, No> {
    match timeout(Duration::from_millis(HELLO_MS_MAX), work).await {
        Ok(Ok(said)) => Ok(said),
        Ok(Err(error)) => Err(No::Broken(error)),
        Err(_) => Err(no_proof().into()),
    }
}

/// A session whose target is signed in to.
#[derive(Debug)]
struct Begun {
    guard: Arc<Guard>,
    whose: Whose,
    known: Arc<Known>,
    opened: Opened,
}

/// Which target and database a client means.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    target: String,
    database: Option<String>,
}

impl Place {
    /// By SNI `<target>.<gateway>` with `dbname=<database>`, or by `dbname=<target>[/<database>]`.
    /// Both given and different: refused.
    fn of(sni: Option<&str>, gateway: &str, startup: &Startup) -> Result<Self, Refusal> {
        let by_host = sni
            .and_then(|host| host.strip_suffix(gateway)?.strip_suffix('.'))
            .filter(|target| !target.is_empty());
        let database = startup.database.as_deref().filter(|name| !name.is_empty());
        match (by_host, database.map(|name| name.split_once('/').unwrap_or((name, "")))) {
            (None, None) => Err(no_target()),
            (None, Some((target, database))) => {
                let database = (!database.is_empty()).then(|| database.to_owned());
                Ok(Self { target: target.to_owned(), database })
            }
            (Some(target), None) => Ok(Self { target: target.to_owned(), database: None }),
            (Some(target), Some((database, ""))) => {
                Ok(Self { target: target.to_owned(), database: Some(database.to_owned()) })
            }
            (Some(target), Some((named, database))) if named == target => {
                Ok(Self { target: target.to_owned(), database: Some(database.to_owned()) })
            }
            (Some(_), Some(_)) => Err(two_targets()),
        }
    }

    /// The database, of those that the target offers. libpq names a database like the user where
    /// none was given.
    fn database(&self, target: &PostgresTarget, user: &str) -> Result<String, Refusal> {
        let offered = |name: &str| target.databases.iter().any(|offered| offered.as_str() == name);
        match self.database.as_deref() {
            Some(name) if offered(name) => Ok(name.to_owned()),
            Some(name) if name != user && name != self.target => Err(no_database(target)),
            Some(_) | None => {
                let first = target.databases.first().map(ToString::to_string);
                first.ok_or_else(|| no_database(target))
            }
        }
    }
}

/// What is said to the target at the beginning: what the client may set, and what the reading of
/// statements rests on.
fn settings(startup: &Startup) -> BTreeMap<String, String> {
    let mut settings = startup.settings.clone();
    for (name, value) in [
        ("client_encoding", "UTF8"),
        ("search_path", "public"),
        ("standard_conforming_strings", "on"),
    ] {
        settings.insert(name.to_owned(), value.to_owned());
    }
    settings
}

fn tables(target: &PostgresTarget) -> Tables {
    let columns = target.tables.iter().map(|(table, columns)| {
        let columns = columns.iter().map(|(name, declared)| {
            let classes = declared.class().cloned().into_iter().collect::<BTreeSet<_>>();
            (name.to_string(), classes)
        });
        (table.to_string(), columns.collect())
    });
    columns.collect()
}

/// Logs why a target failed and gives what the client is told.
fn failed<E>(guard: &Guard, error: &E) -> Refusal
where
    E: std::error::Error + IntoRefusal,
{
    let session = guard.session();
    tracing::warn!(%session, fault = %Fault::Target, "{}", Chain(&error));
    error.refusal()
}

fn no_proof() -> Refusal {
    Refusal::new(RefusalCode::Unauthenticated, "nothing was shown in time that says who you are")
        .hint("run `weir login`, then connect by `weir psql`, or as `weir psql --print` shows")
}

fn other_user(own: &str) -> Refusal {
    Refusal::new(
        RefusalCode::Unauthenticated,
        "the user must be your own name, or the database login that this target offers",
    )
    .hint(format!("connect with user={own}"))
}

fn no_target() -> Refusal {
    Refusal::new(RefusalCode::NoTarget, "no target was named")
        .hint("connect with dbname=<target>, or to the host <target>.<gateway's name>")
}

fn two_targets() -> Refusal {
    Refusal::new(RefusalCode::NoTarget, "the host and the database name two different targets")
        .hint("name the target once")
}

fn no_database(target: &PostgresTarget) -> Refusal {
    let offered = target.databases.iter().map(ToString::to_string).collect::<Vec<_>>();
    Refusal::new(RefusalCode::NoTarget, "this target offers no such database")
        .hint(format!("it offers: {}", offered.join(", ")))
}

fn not_postgres() -> Refusal {
    Refusal::new(RefusalCode::NoTarget, "this target does not speak PostgreSQL")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(
        sni: Option<&str>,
        database: Option<&str>,
    ) -> Result<(String, Option<String>), Refusal> {
        let startup = Startup::for_test("alice", database);
        Place::of(sni, "weir.example", &startup).map(|place| (place.target, place.database))
    }

    #[test]
    fn host_and_database_name_one_target() {
        let is = |target: &str, database: Option<&str>| {
            Ok((target.to_owned(), database.map(str::to_owned)))
        };
        let host = Some("customers.weir.example");
        assert_eq!(place(host, None), is("customers", None));
        assert_eq!(place(host, Some("crm")), is("customers", Some("crm")));
        assert_eq!(place(host, Some("customers/crm")), is("customers", Some("crm")));
        assert!(place(host, Some("billing/crm")).is_err(), "both given and different");
        for gateway in [None, Some("weir.example"), Some("elsewhere.example")] {
            assert_eq!(place(gateway, Some("customers")), is("customers", None));
            assert_eq!(place(gateway, Some("customers/crm")), is("customers", Some("crm")));
            assert!(place(gateway, None).is_err());
        }
        assert!(place(Some("xweir.example"), None).is_err());
    }
}
