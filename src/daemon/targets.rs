//! What was written of a target → how it is reached, and what it holds.

use std::collections::BTreeMap;

use toml::Spanned;

use crate::config;
use crate::config::Loaded;
use crate::config::Problem;
use crate::config::target::Http;
use crate::config::target::Kubernetes;
use crate::config::target::Postgres;
use crate::config::target::Ssh;
use crate::config::target::Target;
use crate::config::target::Undeclared;
use crate::daemon::translate::Files;
use crate::daemon::translate::credential;
use crate::daemon::translate::upstream_tls;
use crate::mask::path::JsonPath;
use crate::model::TargetName;
use crate::model::class::Declared;
use crate::target::HttpTarget;
use crate::target::KubernetesTarget;
use crate::target::PostgresAuth;
use crate::target::PostgresTarget;
use crate::target::Reach;
use crate::target::SshTarget;
use crate::target::http;

/// What a target speaks, where it is, and what it holds.
pub(super) fn reach(
    loaded: &Loaded,
    files: Files,
    name: &Spanned<TargetName>,
    written: &Target,
) -> Result<Reach, Problem> {
    match (&written.postgres, &written.ssh, &written.http, &written.kubernetes) {
        (Some(it), None, None, None) => postgres(loaded, files, it).map(Reach::Postgres),
        (None, Some(it), None, None) => ssh(loaded, it).map(Reach::Ssh),
        (None, None, Some(it), None) => http(loaded, files, it).map(Reach::Http),
        (None, None, None, Some(it)) => kubernetes(loaded, files, it).map(Reach::Kubernetes),
        _ => Err(loaded
            .source
            .problem(name, "expected exactly one of .postgres, .ssh, .http and .kubernetes")),
    }
}

fn postgres(loaded: &Loaded, files: Files, it: &Postgres) -> Result<PostgresTarget, Problem> {
    let source = &loaded.source;
    let mut databases = Vec::new();
    for database in it.databases.get_ref() {
        databases.push(source.parse(&Spanned::new(it.databases.span(), database.clone()))?);
    }
    let mut tables = BTreeMap::new();
    for (name, table) in &it.tables {
        let mut columns = BTreeMap::new();
        for (column, declared) in &table.columns {
            columns.insert(source.parse(column)?, declared.clone());
        }
        tables.insert(source.parse(name)?, columns);
    }
    let address = it.address.get_ref().clone();
    Ok(PostgresTarget {
        tls: upstream_tls(loaded, files, &it.tls, &address.host)?,
        address,
        databases,
        login: source.parse(&it.login)?,
        credential: credential(&it.credential),
        auth: match it.auth {
            config::target::PostgresAuth::Password => PostgresAuth::Password,
            config::target::PostgresAuth::Oauth => PostgresAuth::Oauth,
        },
        tables,
    })
}

fn ssh(loaded: &Loaded, it: &Ssh) -> Result<SshTarget, Problem> {
    let source = &loaded.source;
    let logins = it.logins.get_ref().iter().map(|login| source.parse(login));
    let host_keys = it.host_keys.get_ref().iter().map(|key| source.parse(key));
    Ok(SshTarget {
        address: it.address.get_ref().clone(),
        logins: logins.collect::<Result<_, _>>()?,
        host_keys: host_keys.collect::<Result<_, _>>()?,
        credential: credential(&it.credential),
    })
}

fn http(loaded: &Loaded, files: Files, it: &Http) -> Result<HttpTarget, Problem> {
    let source = &loaded.source;
    let mut routes = Vec::new();
    for route in &it.routes {
        routes.push(http::Route {
            path: source.parse(&route.path)?,
            fields: fields(loaded, &route.fields)?,
            undeclared: undeclared(route.undeclared),
        });
    }
    let address = it.address.get_ref().clone();
    let signs_in = match &it.credential {
        Some(secret) => Some((source.parse(&it.credential_header)?, credential(secret))),
        None => None,
    };
    Ok(HttpTarget {
        tls: upstream_tls(loaded, files, &it.tls, &address.host)?,
        address,
        credential: signs_in,
        unlisted: undeclared(it.unlisted),
        encoded_slash: it.encoded_slash,
        double_slash: it.double_slash,
        routes,
    })
}

fn kubernetes(loaded: &Loaded, files: Files, it: &Kubernetes) -> Result<KubernetesTarget, Problem> {
    // Read once at the start, so that a missing file stops it and not the first session.
    files.read(loaded, &it.kubeconfig_file)?;
    let mut kinds = BTreeMap::new();
    for (resource, kind) in &it.kinds {
        kinds.insert(loaded.source.parse(resource)?, fields(loaded, &kind.fields)?);
    }
    Ok(KubernetesTarget {
        kubeconfig: it.kubeconfig_file.get_ref().clone(),
        context: it.context.clone(),
        kinds,
    })
}

fn fields(
    loaded: &Loaded,
    written: &BTreeMap<Spanned<String>, Declared>,
) -> Result<Vec<(JsonPath, Declared)>, Problem> {
    let field = |(path, declared): (&Spanned<String>, &Declared)| {
        loaded.source.parse(path).map(|path| (path, declared.clone()))
    };
    written.iter().map(field).collect()
}

fn undeclared(written: Undeclared) -> http::Undeclared {
    match written {
        Undeclared::Refuse => http::Undeclared::Refuse,
        Undeclared::Clear => http::Undeclared::Clear,
    }
}
