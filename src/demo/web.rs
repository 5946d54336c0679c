//! A real HTTP server: nginx with a small wiki.
//!
//! Articles can be put and deleted, so that a denied command that reached it would show. Its
//! access log keeps what a gateway must not pass on: authorization and cookies.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use crate::demo::DemoError;
use crate::demo::folder;
use crate::demo::folder::Folder;
use crate::demo::server;
use crate::demo::server::Account;
use crate::demo::server::Server;

/// How large the file is that shows constant memory, in bytes. It takes no room on the disk.
const LARGE_BYTES: u64 = 512 * 1024 * 1024;
/// Who works for the sister wiki: invented.
const PEOPLE: &str = include_str!("people.json");
const PAGE: &str = "<!doctype html>\n<title>Wiki</title>\n<h1>The demo's wiki</h1>\n\
    <p>See <a href=\"/api/people\">people</a> and <a href=\"/api/articles\">articles</a>.\n";
const ARTICLES: [(u32, &str); 3] = [
    (1, "How to reach the warehouse"),
    (2, "The scales, and how to read them"),
    (3, "Who has the key"),
];

/// A running nginx.
#[derive(Debug)]
pub(super) struct Web {
    /// The process.
    pub(super) server: Server,
    /// Where it is.
    pub(super) at: Place,
}

/// Where it is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its port on loopback.
    pub(super) port: u16,
    /// Every request that reached it.
    pub(super) access_log: PathBuf,
    /// The folder that it serves.
    pub(super) files: PathBuf,
}

/// Writes the files and starts it.
pub(super) async fn start(servers: &Folder) -> Result<Web, DemoError> {
    let account = Account::unprivileged(&["www-data", "nobody"])?;
    let home = servers.folder("www")?;
    let at = Place {
        port: server::free_port()?,
        access_log: home.join("access.log"),
        files: home.join("files"),
    };
    fill(&at.files, account)?;
    let temporary = home.join("tmp");
    folder::make(&temporary, 0o700)?;
    let settings = home.join("nginx.conf");
    folder::write(&settings, 0o600, config(&home, at.port).as_bytes())?;
    // Before the server has it: tests may read it from the first moment.
    folder::write(&at.access_log, 0o600, b"")?;
    for path in [&temporary, &settings, &at.access_log, &home] {
        server::give(path, account)?;
    }
    let mut command = server::command(&server::program("nginx", "nginx")?, account, &home)?;
    command.arg("-e").arg(home.join("error.log")).arg("-p").arg(&home).arg("-c").arg(&settings);
    let mut server = Server::start("nginx", command, servers.join("nginx.log"))?;
    server.ready(async || server::connect(at.port).await.is_ok()).await?;
    Ok(Web { server, at })
}

fn fill(files: &Path, account: Option<Account>) -> Result<(), DemoError> {
    let folder = |name: &str| {
        let path = files.join(name);
        folder::make(&path, 0o700)?;
        server::give(&path, account)
    };
    let file = |name: &str, contents: &str| {
        let path = files.join(name);
        folder::write(&path, 0o600, contents.as_bytes())?;
        server::give(&path, account)
    };
    for name in ["", "api", "api/people", "api/articles", "static"] {
        folder(name)?;
    }
    file("index.html", PAGE)?;
    file("people.json", PEOPLE)?;
    let people = serde_json::from_str::<Value>(PEOPLE).unwrap_or_default();
    for person in people.pointer("/people").and_then(Value::as_array).into_iter().flatten() {
        let id = person.get("id").and_then(Value::as_u64).unwrap_or_default();
        file(&format!("api/people/{id}"), &person.to_string())?;
    }
    let article = |(id, title): &(u32, &str)| json!({ "id": id, "title": title });
    let articles = ARTICLES.iter().map(article).collect::<Vec<_>>();
    file("articles.json", &json!({ "articles": articles }).to_string())?;
    for (all, (id, _)) in articles.iter().zip(&ARTICLES) {
        file(&format!("api/articles/{id}"), &all.to_string())?;
    }
    file("static/large", "")?;
    let large = files.join("static/large");
    let sized =
        fs::OpenOptions::new().write(true).open(&large).and_then(|f| f.set_len(LARGE_BYTES));
    sized.map_err(DemoError::file(&large))
}

/// One process, so that it dies with the demo: a worker would outlive a master that was killed.
fn config(home: &Path, port: u16) -> String {
    let home = home.display();
    format!(
        r#"daemon off;
master_process off;
pid "{home}/nginx.pid";
error_log "{home}/error.log" info;
events {{ worker_connections 512; }}
http {{
    log_format all '$time_iso8601 "$request" $status $body_bytes_sent host="$http_host" '
                   'authorization="$http_authorization" cookie="$http_cookie" '
                   'proxied="$http_proxy_authorization" agent="$http_user_agent"';
    access_log "{home}/access.log" all;
    client_body_temp_path "{home}/tmp/body";
    proxy_temp_path "{home}/tmp/proxy";
    fastcgi_temp_path "{home}/tmp/fastcgi";
    uwsgi_temp_path "{home}/tmp/uwsgi";
    scgi_temp_path "{home}/tmp/scgi";
    client_max_body_size 0;
    server_tokens off;
    server {{
        listen 127.0.0.1:{port};
        root "{home}/files";
        default_type application/json;
        location = / {{ default_type "text/html; charset=utf-8"; try_files /index.html =404; }}
        location = /api/people {{ alias "{home}/files/people.json"; }}
        location = /api/articles {{ alias "{home}/files/articles.json"; }}
        location /api/people/ {{ }}
        location /api/articles/ {{ dav_methods PUT DELETE; }}
        location /static/ {{ default_type application/octet-stream; }}
        location / {{ return 404; }}
    }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn ask(port: u16, request: &str) -> String {
        let mut stream = server::connect(port).await.unwrap();
        let head = format!(
            "{request} HTTP/1.1\r\nhost: wiki\r\nconnection: close\r\n\
                            authorization: Bearer seen\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_serves_and_a_delete_that_reaches_it_shows() {
        let servers = Folder::servers().unwrap();
        let web = start(&servers).await.unwrap();
        let port = web.at.port;
        let people = ask(port, "GET /api/people").await;
        assert!(
            people.starts_with("HTTP/1.1 200") && people.contains("application/json"),
            "{people}"
        );
        assert!(people.contains("ylva.achterdeck@example.com"));
        assert!(ask(port, "GET /api/people/2").await.contains("Bohnenkamp"));
        assert!(ask(port, "GET /").await.contains("text/html"));
        assert!(ask(port, "HEAD /static/large").await.contains(&LARGE_BYTES.to_string()));
        assert!(ask(port, "GET /nowhere").await.starts_with("HTTP/1.1 404"));
        assert!(ask(port, "DELETE /api/people/2").await.starts_with("HTTP/1.1 405"));
        assert!(ask(port, "DELETE /api/articles/1").await.starts_with("HTTP/1.1 204"));
        assert!(!web.at.files.join("api/articles/1").exists());
        web.server.stop("TERM").await;
        let log = fs::read_to_string(&web.at.access_log).unwrap();
        assert!(log.contains("\"DELETE /api/articles/1 HTTP/1.1\" 204"), "{log}");
        assert!(log.contains("authorization=\"Bearer seen\""), "{log}");
    }
}
