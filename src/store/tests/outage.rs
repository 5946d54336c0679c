//! A PostgreSQL that is not there, says nothing, falls silent, or comes back.

use std::sync::Arc;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::seconds;
use super::server;
use crate::model::Clock;
use crate::model::clock::Standing;
use crate::store::Door;
use crate::store::Filter;
use crate::store::Options;
use crate::store::Place;
use crate::store::Server;
use crate::store::ServerTls;
use crate::store::Store;
use crate::store::StoreError;

/// A door in front of the server that can be shut: then nothing passes, and nothing is closed.
struct Valve {
    server: Server,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Valve {
    async fn new() -> Self {
        let mut server = server::database().await;
        let Door::Socket(folder) = server.door else { panic!("a socket") };
        let socket = folder.join(".s.PGSQL.5432");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        server.door = Door::Tcp(listener.local_addr().unwrap().to_string().parse().unwrap());
        let (open, is_open) = watch::channel(true);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let upstream = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(carry(client, upstream, is_open.clone()));
            }
        });
        Self { server, open, task }
    }

    fn set(&self, open: bool) {
        self.open.send_replace(open);
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, server: UnixStream, open: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::join!(
        pass(&mut from_client, &mut to_server, open.clone()),
        pass(&mut from_server, &mut to_client, open),
    );
}

async fn pass(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    mut open: watch::Receiver<bool>,
) {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    let mut bytes = [0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if open.wait_for(|open| *open).await.is_err()
            || to.write_all(&bytes[..count]).await.is_err()
        {
            break;
        }
    }
    let _gone = to.shutdown().await;
}

async fn opened(server: Server) -> Result<Store, StoreError> {
    let place = Place::Postgres(Box::new(server));
    let options = Options { gateway: "weir-1".to_owned(), place };
    let clock: Arc<dyn Clock> = Arc::new(Standing::at(seconds(0)));
    Store::open(&options, clock).await
}

fn at(address: &str) -> Server {
    Server {
        door: Door::Tcp(address.parse().unwrap()),
        tls: ServerTls::Off,
        database: "weir".to_owned(),
        login: "weir".to_owned(),
        password: Some(SecretString::from("planted")),
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_nothing_stops_the_start_with_its_name() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_at = silent.local_addr().unwrap().to_string();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone_at = gone.local_addr().unwrap().to_string();
    drop(gone);
    for address in [silent_at, gone_at] {
        let error = opened(at(&address)).await.unwrap_err();
        assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
        let told = error.to_string();
        assert!(told.contains(&address), "{told}");
        assert!(!format!("{error:?}").contains("planted"));
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_where_it_is_to_be_verified() {
    let valve = Valve::new().await;
    let mut server = valve.server.clone();
    server.tls = ServerTls::VerifyFull { ca_file: None, identity: None };
    let error = opened(server).await.unwrap_err();
    let told = crate::model::fault::Chain(&error).to_string();
    assert!(told.contains("TLS"), "{told}");
}

/// Every connection of the pool falls silent; afterwards all of them work again.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_makes_nobody_wait_for_ever_and_may_come_back() {
    let valve = Valve::new().await;
    let store = opened(valve.server.clone()).await.unwrap();
    store.sessions(&Filter::default()).await.unwrap();
    valve.set(false);
    let asked = (0..24).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.sessions(&Filter::default()).await })
    });
    for asked in asked.collect::<Vec<_>>() {
        let error = asked.await.unwrap().unwrap_err();
        assert!(matches!(error, StoreError::Slow { .. } | StoreError::Query(_)), "{error:?}");
    }
    valve.set(true);
    store.sessions(&Filter::default()).await.unwrap();
}

#[test]
fn what_a_database_is_opened_with_shows_no_password() {
    let options = Options {
        gateway: "weir-1".to_owned(),
        place: Place::Postgres(Box::new(at("db.internal:5432"))),
    };
    let shown = format!("{options:?} {}", options.place);
    assert!(shown.contains("db.internal:5432") && !shown.contains("planted"), "{shown}");
}
