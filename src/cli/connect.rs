//! `weir psql` and `weir ssh`: the client that is there, told where to go and what to show.

use std::net::IpAddr;
use std::net::ToSocketAddrs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::cli::args::access;
use crate::cli::certificate;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::home::variable;
use crate::cli::print;
use crate::cli::profile::absolute;
use crate::cli::proxy::protocol;
use crate::cli::ssh_config;
use crate::cli::wallet::Wallet;
use crate::model::Protocol;
use crate::model::TargetName;
use crate::tls;

/// Bundles of the system's roots, for libpq before 16, which cannot be told "system".
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How libpq reaches a target.
#[derive(Debug)]
struct Service {
    target: TargetName,
    host: String,
    /// Where the name does not resolve here: the gateway's address.
    hostaddr: Option<IpAddr>,
    port: u16,
    database: String,
    user: String,
    roots: String,
    certificate: PathBuf,
    key: PathBuf,
    key_der: Option<PathBuf>,
    expires_at: Timestamp,
}

/// Opens psql at a target, or prints what other clients need.
pub(super) fn psql(args: &access::Psql, as_json: bool) -> Result<(), CallError> {
    let client = Client::new(&args.gateway)?;
    let service = Service::of(&client, &args.target, args.user.as_deref())?;
    if args.print {
        if as_json {
            print::json(&service.json());
        } else {
            print::raw(&service.entry());
        }
        return Ok(());
    }
    let mut psql = Command::new("psql");
    for name in ["PGSERVICE", "PGPASSWORD", "PGPASSFILE", "PGHOSTADDR", "PGREQUIREAUTH"] {
        psql.env_remove(name);
    }
    psql.envs(service.variables()).args(&args.args);
    Err(not_run("psql", &psql.exec(), "PostgreSQL's client"))
}

/// Opens ssh at a target.
pub(super) fn ssh(args: &access::Ssh) -> Result<(), CallError> {
    let client = Client::new(&args.gateway)?;
    let (login, target) = args
        .target
        .split_once('@')
        .map_or((None, args.target.as_str()), |named| (Some(named.0.to_owned()), named.1));
    let target = target_name(target)?;
    let login = login.or_else(|| variable("USER")).filter(|login| !login.is_empty());
    let login =
        login.ok_or_else(|| CallError::Usage(format!("say which login: LOGIN@{target}")))?;
    let about = client.link().about()?;
    let known_hosts = certificate::known_hosts(&client, &about)?;
    let files = certificate::ssh(&client)?;
    let option = |name: &str, value: &str| format!("{name}={value}");
    let path =
        |name: &str, path: &Path| Ok::<_, CallError>(option(name, &ssh_config::quoted(path)?));
    let options = [
        option("User", &format!("{login}@{target}")),
        option("Port", &client.link().port().to_string()),
        option("HostKeyAlias", certificate::gateway_name(&about)?),
        option("StrictHostKeyChecking", "yes"),
        option("IdentitiesOnly", "yes"),
        path("UserKnownHostsFile", &known_hosts)?,
        path("IdentityFile", &files.key)?,
        path("CertificateFile", &files.certificate)?,
    ];
    let mut ssh = Command::new("ssh");
    ssh.args(options.iter().flat_map(|option| ["-o", option]));
    ssh.arg(client.link().host().trim_matches(['[', ']'])).args(&args.args);
    Err(not_run("ssh", &ssh.exec(), "OpenSSH's client"))
}

fn not_run(program: &str, error: &std::io::Error, install: &str) -> CallError {
    CallError::Usage(format!("{program} cannot be run: {error}; install {install}"))
}

/// A target's name, as it was typed.
pub(super) fn target_name(text: &str) -> Result<TargetName, CallError> {
    text.parse().map_err(|error: crate::model::name::BadName| CallError::Usage(error.to_string()))
}

/// Whether a name resolves here; where it does not, the gateway's address stands in for it.
pub(super) fn stand_in(client: &Client, host: &str) -> Result<Option<IpAddr>, CallError> {
    let port = client.link().port();
    let lookup = |host: &str| {
        (host, port).to_socket_addrs().ok().and_then(|mut all| all.next()).map(|a| a.ip())
    };
    if lookup(host).is_some() {
        return Ok(None);
    }
    let gateway = client.link().host().trim_matches(['[', ']']);
    let unknown = || CallError::Unreached(format!("neither {host} nor {gateway} resolves here"));
    lookup(gateway).map(Some).ok_or_else(unknown)
}

impl Service {
    /// For `TARGET[/DATABASE]`, as the person or as a login of the database.
    fn of(client: &Client, asked: &str, login: Option<&str>) -> Result<Self, CallError> {
        let (target, database) = match asked.split_once('/') {
            Some((target, database)) => (target, Some(database)),
            None => (asked, None),
        };
        let target = target_name(target)?;
        let about = client.link().about()?;
        // TLS would refuse the name of any other target without a word.
        if protocol(&client.get("/targets")?, &target)? != Protocol::Postgres {
            return Err(CallError::Usage(format!(
                "`{target}` is no PostgreSQL: see `weir targets`"
            )));
        }
        let host = format!("{target}.{}", certificate::gateway_name(&about)?);
        let hostaddr = stand_in(client, &host)?;
        let files = certificate::x509(client)?;
        let user = match login {
            Some(login) => login.to_owned(),
            None => own_name(client)?,
        };
        let roots = match client.link().roots() {
            tls::Roots::Bundle(tls::Pem::File(path)) => absolute(path).display().to_string(),
            tls::Roots::Bundle(tls::Pem::Bytes(_)) | tls::Roots::System => {
                let bundle = BUNDLES.iter().find(|path| Path::new(path).is_file());
                bundle.map_or_else(|| "system".to_owned(), ToString::to_string)
            }
        };
        Ok(Self {
            host,
            hostaddr,
            port: client.link().port(),
            // The target's name in place of a database means its first one.
            database: database.map_or_else(|| target.to_string(), str::to_owned),
            target,
            user,
            roots,
            certificate: files.certificate,
            key: files.key,
            key_der: files.key_der,
            expires_at: files.expires_at,
        })
    }

    /// libpq's parameters and its variables for them.
    fn parameters(&self) -> Vec<(&'static str, &'static str, String)> {
        let mut all = vec![("host", "PGHOST", self.host.clone())];
        all.extend(self.hostaddr.map(|ip| ("hostaddr", "PGHOSTADDR", ip.to_string())));
        all.extend([
            ("port", "PGPORT", self.port.to_string()),
            ("dbname", "PGDATABASE", self.database.clone()),
            ("user", "PGUSER", self.user.clone()),
            ("sslmode", "PGSSLMODE", "verify-full".to_owned()),
            ("sslrootcert", "PGSSLROOTCERT", self.roots.clone()),
            ("sslcert", "PGSSLCERT", self.certificate.display().to_string()),
            ("sslkey", "PGSSLKEY", self.key.display().to_string()),
            ("gssencmode", "PGGSSENCMODE", "disable".to_owned()),
        ]);
        all
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        self.parameters().into_iter().map(|(_, name, value)| (name, value)).collect()
    }

    /// An entry of `pg_service.conf`.
    fn entry(&self) -> String {
        let mut text = format!(
            "# For ~/.pg_service.conf; then: psql service={0}\n# The certificate is good until {1}; \
             `weir psql --print {0}` renews it in place.\n",
            self.target, self.expires_at
        );
        if let Some(key) = &self.key_der {
            text.push_str("# JDBC (DBeaver) wants the key as PKCS #8 in DER: ");
            text.push_str(&key.display().to_string());
            text.push('\n');
        }
        text.push_str(&format_args!("[{}]\n", self.target).to_string());
        for (name, _, value) in self.parameters() {
            // The file has no quoting: a value ends with its line.
            text.push_str(&format_args!("{name}={value}\n").to_string());
        }
        text
    }

    fn json(&self) -> Value {
        let mut service = serde_json::Map::new();
        for (name, _, value) in self.parameters() {
            service.insert(name.to_owned(), Value::from(value));
        }
        json!({
            "service": self.target, "parameters": service, "key_der_file": self.key_der,
            "expires_at": self.expires_at,
        })
    }
}

/// The name by which the gateway knows who asks.
pub(super) fn own_name(client: &Client) -> Result<String, CallError> {
    if !client.is_given() {
        let tokens = Wallet::open(client.home(), client.profile())?.tokens(client.link())?;
        if !tokens.principal.is_empty() {
            return Ok(tokens.principal);
        }
    }
    let answer = client.get("/whoami")?;
    let name = answer.get("principal").and_then(|p| p.get("name")).and_then(Value::as_str);
    let missing = || CallError::Refused("the gateway did not say who you are".to_owned());
    name.map(str::to_owned).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        Service {
            target: "customers".parse().unwrap(),
            host: "customers.weir.example".to_owned(),
            hostaddr: Some("192.0.2.1".parse().unwrap()),
            port: 8443,
            database: "customers".to_owned(),
            user: "alice".to_owned(),
            roots: "/etc/ssl/ca.pem".to_owned(),
            certificate: PathBuf::from("/state/client.crt"),
            key: PathBuf::from("/state/client.key"),
            key_der: Some(PathBuf::from("/state/client.pk8")),
            expires_at: "2026-11-21T11:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn what_is_printed_is_what_import_and_libpq_read() {
        let entry = service().entry();
        assert!(entry.contains("\n[customers]\nhost=customers.weir.example\n"), "{entry}");
        assert!(entry.contains("\nsslmode=verify-full\n") && entry.contains("\nuser=alice\n"));
        assert!(!entry.contains("password"));
        assert_eq!(service().json()["parameters"]["sslkey"], "/state/client.key");
    }

    #[test]
    fn every_connection_is_verified_in_full() {
        let variables = service().variables();
        assert!(variables.contains(&("PGSSLMODE", "verify-full".to_owned())));
        assert!(variables.iter().all(|(name, _)| *name != "PGPASSWORD"));
    }
}
