//! libpq's connection service file ("The Connection Service File").

use crate::cli::import::BadLine;
use crate::cli::import::Entry;
use crate::cli::import::Found;
use crate::cli::import::Setting;
use crate::cli::import::address;
use crate::cli::import::list;
use crate::cli::import::quoted;

/// Parameters of libpq 18 that say how a client connects: the gateway has its own ways.
const CLIENTS: [&str; 46] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "options",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "servicefile",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslkeylogfile",
    "sslnegotiation",
    "sslpassword",
    "sslsni",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "target_session_attrs",
    "tcp_user_timeout",
    "authtype",
    "tty",
];

/// A section as far as it is read.
#[derive(Debug, Default)]
struct Service {
    name: String,
    host: Option<String>,
    hostaddr: Option<String>,
    port: Option<String>,
    database: Option<String>,
    user: Option<String>,
    mode: Option<String>,
    roots: Option<String>,
    has_password: bool,
    left_out: Vec<String>,
    unknown: Vec<String>,
}

/// Reads the file.
pub(super) fn read(text: &str) -> Result<Found, BadLine> {
    let mut services: Vec<Service> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let bad = |what: &str| BadLine { line: at.saturating_add(1), what: what.to_owned() };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| bad("expected [NAME]"))?.to_owned();
            services.push(Service { name, ..Service::default() });
            continue;
        }
        if line.starts_with("ldap") {
            return Err(bad("LDAP lookups are not followed: write out what they give"));
        }
        let (name, value) = line.split_once('=').ok_or_else(|| bad("expected NAME=VALUE"))?;
        if name.is_empty() || name.ends_with(char::is_whitespace) {
            return Err(bad("expected NAME=VALUE without a blank before `=`"));
        }
        let service = services.last_mut().ok_or_else(|| bad("expected [NAME] first"))?;
        service.set(name, value).map_err(|what| bad(&what))?;
    }
    let remarks = services.iter().flat_map(Service::remarks).collect();
    Ok(Found { entries: services.iter().map(Service::entry).collect(), remarks })
}

impl Service {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let place = match name {
            "host" => &mut self.host,
            "hostaddr" => &mut self.hostaddr,
            "port" => &mut self.port,
            "dbname" => &mut self.database,
            "user" => &mut self.user,
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.roots,
            "password" => {
                self.has_password = true;
                return Ok(());
            }
            "service" => return Err("a service cannot name another one".to_owned()),
            known if CLIENTS.contains(&known) => {
                self.left_out.push(known.to_owned());
                return Ok(());
            }
            unknown => {
                self.unknown.push(unknown.to_owned());
                return Ok(());
            }
        };
        // libpq takes the first value and goes on.
        place.get_or_insert_with(|| value.to_owned());
        Ok(())
    }

    fn remarks(&self) -> Vec<String> {
        let unknown = self.unknown.iter();
        unknown.map(|name| format!("[{}]: unknown option `{name}`", self.name)).collect()
    }

    fn entry(&self) -> Entry {
        let mut remarks = Vec::new();
        let mut settings = Vec::new();
        let host = self.host.as_deref().or(self.hostaddr.as_deref()).unwrap_or_default();
        let port = self.port.as_deref().unwrap_or("5432");
        let several = |text: &str| text.contains(',');
        if several(host) || several(port) {
            remarks
                .push("had several hosts: each is a target of its own; this is the first".into());
        }
        let first = |text: &str| text.split(',').next().unwrap_or_default().to_owned();
        let (host, port) = (first(host), first(port));
        if host.is_empty() || host.starts_with(['/', '@']) {
            let missing = "where it listens: HOST:PORT, since a socket is not dialed";
            settings.push(Setting::missing(
                "address",
                &quoted(&address("localhost", &port)),
                missing,
            ));
        } else {
            settings.push(Setting::known("address", &address(&host, &port)));
        }
        settings.push(match self.database.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => Setting::missing(
                "databases",
                &list(&[name]),
                "those offered; the first is the default",
            ),
            None => Setting::missing("databases", "[]", "those offered; the first is the default"),
        });
        let own = "a database user of the gateway's own, not a person's";
        let user = self.user.as_deref().unwrap_or_default();
        settings.push(Setting::missing("login", &quoted(user), own));
        let password = if self.has_password {
            "a password was written there: keep the gateway's in a file, and change that one"
        } else {
            "the file with that user's password"
        };
        settings.push(Setting::missing("credential", "{ file = \"\" }", password));
        if let Some(roots) = self.roots.as_deref().filter(|roots| *roots != "system") {
            settings.push(Setting::known("tls.ca_file", roots));
        }
        match self.mode.as_deref() {
            Some("verify-full") | None => {}
            Some(mode) => remarks.push(format!(
                "had sslmode={mode}: the gateway verifies in full (tls.ca_file, tls.server_name)"
            )),
        }
        if !self.left_out.is_empty() {
            remarks.push(format!("not carried over, a client's own: {}", self.left_out.join(", ")));
        }
        if !self.unknown.is_empty() {
            remarks.push(format!("unknown options: {}", self.unknown.join(", ")));
        }
        Entry { called: self.name.clone(), table: "postgres", settings, remarks }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use crate::cli::import::catalogue;

    use super::*;

    fn text(file: &str) -> String {
        catalogue(&read(file).unwrap().entries, Path::new("f"))
    }

    #[test]
    fn a_service_is_a_target_and_its_password_stays_where_it_is() {
        let text = text(
            "# ours\n[customers]\nhost=db-1.internal\nport=5433\ndbname=crm\nuser=app\n\
             password=s3cret=x\nsslmode=require\nsslrootcert=/ca.pem\nconnect_timeout=3\nfoo=1\n",
        );
        for line in [
            "[targets.customers]",
            "address = \"db-1.internal:5433\"",
            "databases = [\"crm\"]",
            "login = \"app\"",
            "credential = { file = \"\" }",
            "tls.ca_file = \"/ca.pem\"",
            "# had sslmode=require",
            "# not carried over, a client's own: connect_timeout",
            "# unknown options: foo",
        ] {
            assert!(text.contains(line), "no `{line}` in\n{text}");
        }
        assert!(!text.contains("s3cret"));
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        for (file, line) in [
            ("host=a", 1),
            ("[a]\n\nhost", 3),
            ("[a\n", 1),
            ("[]\n", 1),
            ("[a]\npassword = s3cret", 2),
            ("[a]\nservice=b", 2),
            ("[a]\nldap://x", 2),
        ] {
            let bad = read(file).unwrap_err();
            assert_eq!(bad.line, line, "{file}");
            assert!(!bad.what.contains("s3cret"));
        }
    }

    #[test]
    fn a_socket_and_several_hosts_are_said() {
        let text = text("[a]\nhost=/run/postgresql\n[b]\nhost=x,y\nport=1,2\n");
        assert!(text.contains("a socket is not dialed") && text.contains("had several hosts"));
        assert!(text.contains("\"x:1\""), "{text}");
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic_and_never_shows_a_password(
            file in "(\\[?[a-z]{0,3}\\]?=?[ #,/:\\[\\]]?\n|password=s3cret\n){0,12}",
        ) {
            if let Ok(found) = read(&file) {
                prop_assert!(!catalogue(&found.entries, Path::new("f")).contains("s3cret"));
            }
        }
    }
}
