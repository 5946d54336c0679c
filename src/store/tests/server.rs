//! A real PostgreSQL, started once for all tests of this binary and gone with it.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use sqlx::AssertSqlSafe;
use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::Executor;
use sqlx::postgres::PgConnectOptions;

use crate::store::Door;
use crate::store::Server;
use crate::store::ServerTls;

/// Where Debian puts the programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Who owns everything in it.
const LOGIN: &str = "weir";
/// Lives until its input ends, which it does with this process, however that ends.
const SCRIPT: &str = r#"
dir=$1; bin=$2
trap 'rm -rf "$dir"' EXIT
trap '' INT HUP
"$bin/initdb" -D "$dir/data" -U weir -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$dir/log" 2>&1 \
    || { cat "$dir/log"; exit 1; }
"$bin/postgres" -D "$dir/data" -c listen_addresses= -c unix_socket_directories="$dir" \
    -c dynamic_shared_memory_type=mmap -c shared_buffers=32MB -c max_connections=300 \
    -c fsync=off -c full_page_writes=off -c synchronous_commit=off </dev/null >"$dir/log" 2>&1 &
server=$!
until "$bin/pg_isready" -q -h "$dir" -U weir; do
    kill -0 $server 2>/dev/null || { cat "$dir/log"; exit 1; }
    sleep 0.1
done
echo ready
read -r _
kill -INT $server
wait $server
"#;

/// The server: its folder, and what keeps it alive.
struct Running {
    folder: PathBuf,
    /// Its input stays open as long as this process.
    _alive: Child,
}

/// The folder of its socket.
pub(super) fn socket() -> &'static Path {
    static RUNNING: OnceLock<Running> = OnceLock::new();
    &RUNNING.get_or_init(start).folder
}

fn start() -> Running {
    let program = Path::new(PROGRAMS).join("initdb");
    assert!(program.is_file(), "PostgreSQL 15 is missing: apt-get install postgresql-15");
    // Its script removes it: it must go even if this process is killed.
    let folder = tempfile::Builder::new().prefix("weir-pg-").tempdir().unwrap().keep();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", SCRIPT, "sh"]).arg(&folder).arg(PROGRAMS).env_clear();
    shell.env("PATH", "/usr/bin:/bin").current_dir("/").process_group(0);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        // PostgreSQL refuses to run as root.
        let (uid, gid) = unprivileged();
        std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
        shell.uid(uid).gid(gid);
    }
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = shell.spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut told = Vec::new();
    for line in said {
        if line == "ready" {
            return Running { folder, _alive: child };
        }
        told.push(line);
    }
    let ended = child.wait();
    panic!("PostgreSQL did not start ({ended:?}): {}", told.join("\n"));
}

/// passwd(5): name, password, uid, gid, and more.
fn unprivileged() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let ids = ["postgres", "nobody"].iter().find_map(|name| {
        let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let account = fields.into_iter().find(|fields| fields[0] == *name)?;
        Some((account[2].parse().unwrap(), account[3].parse().unwrap()))
    });
    ids.expect("an account for PostgreSQL")
}

/// A new database of it.
pub(super) async fn database() -> Server {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let socket = tokio::task::spawn_blocking(socket).await.unwrap();
    let database = format!("t{}", MADE.fetch_add(1, Ordering::Relaxed));
    let options = PgConnectOptions::new_without_pgpass().socket(socket).port(5432);
    let mut connection = options.username(LOGIN).database("postgres").connect().await.unwrap();
    let make = AssertSqlSafe(format!("CREATE DATABASE {database}"));
    connection.execute(make).await.unwrap();
    connection.close().await.unwrap();
    Server {
        door: Door::Socket(socket.to_owned()),
        tls: ServerTls::Off,
        database,
        login: LOGIN.to_owned(),
        password: None,
    }
}
