//! A real PostgreSQL with an invented customers database.
//!
//! TLS with a certificate of the upstream authority, SCRAM passwords, and a log of every statement
//! that reached it. The gateway signs in as an owner of the tables who is no superuser.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::demo::DemoError;
use crate::demo::folder;
use crate::demo::folder::Folder;
use crate::demo::server;
use crate::demo::server::Account;
use crate::demo::server::Server;
use crate::tls::Authority;

/// The database.
pub(super) const DATABASE: &str = "customers";
/// A second database of the same server that is offered.
pub(super) const ARCHIVE: &str = "archive";
/// Who the gateway signs in as.
pub(super) const LOGIN: &str = "weir_app";
/// Who may do everything; for tests that look behind the gateway.
pub(super) const SUPERUSER: &str = "postgres";
/// The package that has it all.
const PACKAGE: &str = "postgresql";
/// Where Debian puts the programs: one folder a version.
const VERSIONS: &str = "/usr/lib/postgresql";
const SAMPLE: &str = include_str!("customers.sql");
/// Whose client certificates it takes: none that the gateway issues to people.
const CLIENT_CA: &str = "client-ca.pem";
/// What is in [`ARCHIVE`].
const OLD_NOTES: &str = "CREATE TABLE notes (id integer PRIMARY KEY, body text NOT NULL);
INSERT INTO notes VALUES (1, 'moved here in 2019');
";

/// A running PostgreSQL.
#[derive(Debug)]
pub(super) struct Postgres {
    /// The process.
    pub(super) server: Server,
    /// Where it is.
    pub(super) at: Place,
}

/// Where it is, and how to sign in.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its port on loopback.
    pub(super) port: u16,
    /// The folder of its unix socket.
    pub(super) socket_dir: PathBuf,
    /// Every statement that reached it.
    pub(super) log_file: PathBuf,
    /// The password of [`LOGIN`].
    pub(super) password_file: PathBuf,
    /// The password of [`SUPERUSER`].
    pub(super) superuser_password_file: PathBuf,
}

/// Makes a new cluster, starts it and fills the database.
pub(super) async fn start(
    state: &Folder,
    servers: &Folder,
    upstream: &Authority,
) -> Result<Postgres, DemoError> {
    let programs = programs()?;
    let account = Account::unprivileged(&["postgres", "nobody"])?;
    let (password, superuser_password) = (server::password(), server::password());
    let home = servers.folder("pg")?;
    let data = home.join("data");
    let at = Place {
        port: server::free_port()?,
        socket_dir: home.clone(),
        log_file: servers.join("postgres.log"),
        password_file: state.write("postgres.password", password.as_bytes())?,
        superuser_password_file: state
            .write("postgres-superuser.password", superuser_password.as_bytes())?,
    };
    let wanted = home.join("initial-password");
    folder::write(&wanted, 0o600, superuser_password.as_bytes())?;
    server::give(&wanted, account)?;
    server::give(&home, account)?;

    let mut initdb = server::command(&programs.initdb, account, &home)?;
    initdb.arg("-D").arg(&data).args(["-U", SUPERUSER, "--pwfile"]).arg(&wanted);
    initdb.args(["-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
    server::run("initdb", initdb, b"").await?;
    fs::remove_file(&wanted).map_err(DemoError::file(&wanted))?;

    configure(&data, account, upstream, &at)?;
    let mut postgres = server::command(&programs.postgres, account, &home)?;
    postgres.arg("-D").arg(&data);
    let mut server = Server::start("PostgreSQL", postgres, at.log_file.clone())?;
    let status = data.join("postmaster.pid");
    // The eighth line says how far it is (`miscinit.c`, `PM_STATUS_READY`).
    let is_ready =
        || fs::read_to_string(&status).is_ok_and(|s| s.lines().nth(7) == Some("ready   "));
    server.ready(async || is_ready()).await?;
    fill(&programs.psql, state, &at, &password, &superuser_password).await?;
    Ok(Postgres { server, at })
}

struct Programs {
    initdb: PathBuf,
    postgres: PathBuf,
    psql: PathBuf,
}

/// The newest version that has everything; else what the search path has.
fn programs() -> Result<Programs, DemoError> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let versions = versions.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse::<u32>().ok()?;
        Some((number, entry.path().join("bin")))
    });
    let newest = versions.filter(|(_, bin)| bin.join("initdb").is_file()).max();
    let find = |name: &'static str| {
        let own = newest.as_ref().map(|(_, bin)| bin.join(name)).filter(|path| path.is_file());
        own.map_or_else(|| server::program(name, PACKAGE), Ok)
    };
    Ok(Programs { initdb: find("initdb")?, postgres: find("postgres")?, psql: find("psql")? })
}

fn configure(
    data: &Path,
    account: Option<Account>,
    upstream: &Authority,
    at: &Place,
) -> Result<(), DemoError> {
    let leaf = upstream.leaf(&["localhost"], &[std::net::Ipv4Addr::LOCALHOST.into()])?;
    for (name, text) in [("server.crt", leaf.chain_pem.as_str()), ("server.key", &*leaf.key_pem)] {
        let path = data.join(name);
        folder::write(&path, 0o600, text.as_bytes())?;
        server::give(&path, account)?;
    }
    folder::write(&data.join(CLIENT_CA), 0o644, upstream.cert_pem().as_bytes())?;
    let settings = data.join("postgresql.conf");
    fs::write(&settings, self::settings(at)).map_err(DemoError::file(&settings))?;
    let hba = data.join("pg_hba.conf");
    let rules = "local   all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(&hba, rules).map_err(DemoError::file(&hba))
}

/// Nothing here needs to survive the demo, so nothing waits for the disk.
fn settings(at: &Place) -> String {
    let socket_dir = at.socket_dir.display().to_string().replace('\'', "''");
    let port = at.port;
    format!(
        "listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = '32MB'
dynamic_shared_memory_type = mmap
fsync = off
full_page_writes = off
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
ssl_ca_file = '{CLIENT_CA}'
ssl_min_protocol_version = 'TLSv1.3'
password_encryption = 'scram-sha-256'
log_statement = 'all'
log_line_prefix = '%m [%p] %q%u@%d '
log_timezone = 'UTC'
timezone = 'UTC'
"
    )
}

async fn fill(
    psql: &Path,
    state: &Folder,
    at: &Place,
    password: &str,
    superuser_password: &str,
) -> Result<(), DemoError> {
    let make = format!(
        "CREATE ROLE {LOGIN} LOGIN PASSWORD '{password}';\n\
         CREATE DATABASE {DATABASE} OWNER {LOGIN};\n\
         CREATE DATABASE {ARCHIVE} OWNER {LOGIN};\n"
    );
    let as_owner = |script: &str| format!("SET ROLE {LOGIN};\n{script}");
    let scripts = [(SUPERUSER, make), (DATABASE, as_owner(SAMPLE)), (ARCHIVE, as_owner(OLD_NOTES))];
    for (database, script) in scripts {
        let mut psql = server::command(psql, None, state.path())?;
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        psql.env("PGHOST", "127.0.0.1").env("PGPORT", at.port.to_string());
        psql.env("PGUSER", SUPERUSER).env("PGPASSWORD", superuser_password);
        psql.env("PGDATABASE", database);
        psql.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", state.join(super::UPSTREAM_CA));
        // The log is for what comes later; and a password is no matter for a log.
        psql.env("PGOPTIONS", "-c log_statement=none");
        server::run("psql", psql, script.as_bytes()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_taken() {
        let programs = programs().unwrap();
        assert!(programs.postgres.is_file() && programs.psql.is_file());
    }

    /// Whatever the sample has, the configuration declares, and nothing else.
    #[test]
    fn every_column_of_the_sample_is_declared() {
        let declared = crate::demo::settings::GATEWAY;
        for (table, columns) in tables() {
            let head = format!("[targets.customers.postgres.tables.\"public.{table}\".columns]\n");
            let section = declared.split(&head).nth(1).unwrap_or_else(|| panic!("no {table}"));
            let section = section.split("\n[").next().unwrap();
            let names =
                section.lines().filter_map(|line| line.split_once(" = ")).map(|pair| pair.0);
            assert_eq!(names.collect::<Vec<_>>(), columns, "{table}");
        }
    }

    fn tables() -> Vec<(&'static str, Vec<&'static str>)> {
        let tables = SAMPLE.split("CREATE TABLE ").skip(1);
        let read = |text: &'static str| {
            let (name, rest) = text.split_once(" (").unwrap();
            let body = rest.split("\n);").next().unwrap();
            let columns = body.lines().filter_map(|line| line.split_whitespace().next());
            (name, columns.collect())
        };
        tables.map(read).collect()
    }
}
