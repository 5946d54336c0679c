//! Where a cluster is and how the gateway signs in there: the target's kubeconfig.
//!
//! Read when it is needed, so that a rotated credential is used without a reload. What a kubeconfig
//! can say but this gateway would not do (run a program, go through a proxy, not verify) is an
//! error that names it. Errors never print what stands in the file: it holds secrets.

use std::fmt;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use http::Uri;
use kube::config::AuthInfo;
use kube::config::Cluster;
use kube::config::Kubeconfig;
use secrecy::ExposeSecret;
use secrecy::SecretString;

use crate::model::Address;
use crate::model::Host;
use crate::model::encode::unbase64;
use crate::target::KubernetesTarget;
use crate::tls::KeyPair;
use crate::tls::Pem;
use crate::tls::Roots;

/// Largest kubeconfig or token file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// An API server, and how the gateway signs in there.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    /// The name in its certificate.
    pub name: Host,
    /// Who vouches for it.
    pub roots: Roots,
    /// How the gateway signs in.
    pub sign_in: SignIn,
}

/// How the gateway signs in.
pub enum SignIn {
    /// With a bearer token.
    Token(SecretString),
    /// With a bearer token from a file, read for each request: it is rotated.
    TokenFile(PathBuf),
    /// With a client certificate.
    Certificate(Box<KeyPair>),
}

impl SignIn {
    /// The bearer token, where one is used.
    pub fn token(&self) -> Result<Option<SecretString>, BadKubeconfig> {
        match self {
            Self::Token(token) => Ok(Some(token.clone())),
            Self::TokenFile(path) => {
                Ok(Some(SecretString::from(text(path)?.expose_secret().trim())))
            }
            Self::Certificate(_) => Ok(None),
        }
    }
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(…)"),
            Self::TokenFile(path) => f.debug_tuple("TokenFile").field(path).finish(),
            Self::Certificate(pair) => f.debug_tuple("Certificate").field(pair).finish(),
        }
    }
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadKubeconfig {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no kubeconfig; where exactly is not told, because readers quote what they read.
    #[error("{} is no kubeconfig", path.display())]
    Unparsable {
        /// The file.
        path: PathBuf,
    },
    /// Something that is needed is not there.
    #[error("{} has no {what}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What.
        what: String,
    },
    /// Something that this gateway does not do, or cannot read.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What, and what to do instead.
        what: String,
    },
}

/// When a kubeconfig was changed last, to tell whether it has to be read again.
pub fn changed(target: &KubernetesTarget) -> Option<(SystemTime, u64)> {
    let about = fs::metadata(&target.kubeconfig).ok()?;
    Some((about.modified().ok()?, about.len()))
}

/// Reads the target's kubeconfig. A short file is read: this may block for a moment.
pub fn read(target: &KubernetesTarget) -> Result<Server, BadKubeconfig> {
    let path = &target.kubeconfig;
    let text = text(path)?;
    let config = Kubeconfig::from_yaml(text.expose_secret())
        .map_err(|_| BadKubeconfig::Unparsable { path: path.clone() })?;
    Reader { path }.server(config, target.context.as_deref())
}

/// What a kubeconfig says, as plain values, for the command line. With its secrets: not to be
/// shown. `None`: it is no kubeconfig.
pub fn values(text: &str) -> Option<serde_json::Value> {
    let config = Kubeconfig::from_yaml(text).ok()?;
    serde_json::to_value(config).ok()
}

struct Reader<'a> {
    path: &'a Path,
}

impl Reader<'_> {
    fn server(&self, config: Kubeconfig, context: Option<&str>) -> Result<Server, BadKubeconfig> {
        let name = context.map(str::to_owned).or(config.current_context);
        let name = name.ok_or_else(|| self.missing("current-context; name one"))?;
        let context = config.contexts.into_iter().find(|named| named.name == name);
        let context = context.and_then(|named| named.context);
        let context = context.ok_or_else(|| self.missing(format!("context `{name}`")))?;
        let cluster = config.clusters.into_iter().find(|named| named.name == context.cluster);
        let cluster = cluster.and_then(|named| named.cluster);
        let cluster =
            cluster.ok_or_else(|| self.missing(format!("cluster `{}`", context.cluster)))?;
        let user = context.user.unwrap_or_default();
        let named = config.auth_infos.into_iter().find(|named| named.name == user);
        let sign_in = named.and_then(|named| named.auth_info);
        let sign_in = sign_in.ok_or_else(|| self.missing(format!("user `{user}`")))?;
        let address = self.address(&cluster)?;
        let host_name = match &cluster.tls_server_name {
            Some(name) => {
                name.parse().map_err(|_| self.unsupported("tls-server-name is no host"))?
            }
            None => address.host.clone(),
        };
        let roots = self.roots(&cluster)?;
        Ok(Server { address, name: host_name, roots, sign_in: self.sign_in(sign_in)? })
    }

    fn address(&self, cluster: &Cluster) -> Result<Address, BadKubeconfig> {
        if cluster.insecure_skip_tls_verify == Some(true) {
            return Err(self.unsupported(
                "insecure-skip-tls-verify is set, but a target is always verified: give its CA",
            ));
        }
        if cluster.proxy_url.is_some() {
            return Err(self.unsupported("proxy-url is set, but targets are dialled directly"));
        }
        let server = cluster.server.as_deref().ok_or_else(|| self.missing("server"))?;
        let bad = || self.unsupported("server is no URL such as https://cluster.internal:6443");
        let url = server.parse::<Uri>().map_err(|_| bad())?;
        let plain = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        let whole = plain && matches!(url.path(), "" | "/") && url.query().is_none();
        if url.scheme_str() != Some("https") || !whole {
            return Err(bad());
        }
        let host = url.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let host = host.to_ascii_lowercase().parse::<Host>().map_err(|_| bad())?;
        let port = url.port_u16().unwrap_or(443);
        if port == 0 { Err(bad()) } else { Ok(Address { host, port }) }
    }

    fn roots(&self, cluster: &Cluster) -> Result<Roots, BadKubeconfig> {
        let data = cluster.certificate_authority_data.as_deref();
        let file = cluster.certificate_authority.as_deref();
        let pem = self.pem("certificate-authority-data", data, file)?;
        Ok(pem.map_or(Roots::System, Roots::Bundle))
    }

    fn sign_in(&self, user: AuthInfo) -> Result<SignIn, BadKubeconfig> {
        if let Some(exec) = &user.exec {
            let program = exec.command.as_deref().unwrap_or("a program");
            return Err(self.unsupported(format!(
                "the user signs in with the output of `{program}` (exec), which this gateway does \
                 not run: give it a token, tokenFile or client certificate of its own"
            )));
        }
        let odd = [
            ("auth-provider", user.auth_provider.is_some()),
            ("username", user.username.is_some()),
            ("password", user.password.is_some()),
            ("as", user.impersonate.is_some()),
            ("as-uid", user.impersonate_uid.is_some()),
            ("as-groups", user.impersonate_groups.is_some()),
            ("as-user-extra", user.impersonate_user_extra.is_some()),
        ];
        let odd = odd.iter().filter(|(_, is)| *is).map(|(name, _)| *name);
        if let Some(name) = odd.chain(user.other.keys().map(String::as_str)).next() {
            return Err(self.unsupported(format!(
                "the user has `{name}`, which this gateway does not use: give it a token, \
                 tokenFile or client certificate of its own"
            )));
        }
        let data = user.client_certificate_data.as_deref();
        let chain =
            self.pem("client-certificate-data", data, user.client_certificate.as_deref())?;
        let data = user.client_key_data.as_ref().map(ExposeSecret::expose_secret);
        let key = self.pem("client-key-data", data, user.client_key.as_deref())?;
        match (user.token, user.token_file, chain, key) {
            (Some(token), None, None, None) => Ok(SignIn::Token(token)),
            (None, Some(file), None, None) => Ok(SignIn::TokenFile(self.beside(&file))),
            (None, None, Some(chain), Some(key)) => {
                Ok(SignIn::Certificate(Box::new(KeyPair { chain, key })))
            }
            (None, None, None, None) => Err(self.missing("credential of the user")),
            _ => Err(self.unsupported(
                "the user signs in with exactly one of token, tokenFile, and client certificate \
                 with key",
            )),
        }
    }

    /// PEM text: in the file itself, which counts, or beside it.
    fn pem(
        &self,
        name: &str,
        data: Option<&str>,
        file: Option<&str>,
    ) -> Result<Option<Pem>, BadKubeconfig> {
        match (data, file) {
            (Some(data), _) => unbase64(data)
                .map(|pem| Some(Pem::bytes(pem)))
                .ok_or_else(|| self.unsupported(format!("{name} is not base 64"))),
            (None, Some(file)) => Ok(Some(Pem::File(self.beside(file)))),
            (None, None) => Ok(None),
        }
    }

    fn beside(&self, file: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(file)
    }

    fn missing(&self, what: impl Into<String>) -> BadKubeconfig {
        BadKubeconfig::Missing { path: self.path.to_owned(), what: what.into() }
    }

    fn unsupported(&self, what: impl Into<String>) -> BadKubeconfig {
        BadKubeconfig::Unsupported { path: self.path.to_owned(), what: what.into() }
    }
}

fn text(path: &Path) -> Result<SecretString, BadKubeconfig> {
    let unreadable = |source| BadKubeconfig::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    let limit = FILE_BYTES_MAX.saturating_add(1);
    file.take(limit).read_to_string(&mut text).map_err(unreadable)?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes <= FILE_BYTES_MAX) {
        Ok(SecretString::from(text))
    } else {
        Err(unreadable(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes"))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::model::fault::Chain;

    use super::*;

    fn read_text(cluster: &str, user: &str) -> Result<Server, BadKubeconfig> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n"
        );
        fs::write(&path, text).unwrap();
        read(&KubernetesTarget { kubeconfig: path, context: None, kinds: BTreeMap::new() })
    }

    #[test]
    fn a_server_and_one_way_to_sign_in() {
        let server = read_text("server: 'https://Cluster.internal:6443'", "token: t0ken").unwrap();
        assert_eq!(server.address.to_string(), "cluster.internal:6443");
        assert_eq!(server.name, server.address.host);
        assert_eq!(server.sign_in.token().unwrap().unwrap().expose_secret(), "t0ken");
        assert!(!format!("{server:?}").contains("t0ken"));
        let named = "server: 'https://[fd00::1]/', tls-server-name: kubernetes";
        let user = "client-certificate: a.crt, client-key: a.key";
        let server = read_text(named, user).unwrap();
        assert_eq!(server.address.to_string(), "[fd00::1]:443");
        assert_eq!(server.name.to_string(), "kubernetes");
        assert!(matches!(server.sign_in, SignIn::Certificate(_)));
    }

    #[test]
    fn what_would_not_be_done_is_named_and_no_secret_is() {
        let good = "server: 'https://10.0.0.1:6443'";
        for (cluster, user, expected) in [
            ("server: 'http://10.0.0.1'", "token: s3cret", "https://"),
            ("server: 'https://10.0.0.1/k8s/c1'", "token: s3cret", "https://"),
            ("server: 'https://u:s3cret@10.0.0.1'", "token: s3cret", "https://"),
            ("{}", "token: s3cret", "no kubeconfig"),
            ("proxy-url: x, server: 'https://a'", "token: s3cret", "proxy-url"),
            ("server: 'https://a', insecure-skip-tls-verify: true", "token: s3cret", "insecure"),
            (good, "exec: {command: aws, args: [s3cret]}", "`aws` (exec)"),
            (good, "auth-provider: {name: gcp, config: {a: s3cret}}", "auth-provider"),
            (good, "username: a, password: s3cret", "username"),
            (good, "token: s3cret, as: root", "`as`"),
            (good, "token: s3cret, tokenFile: x", "exactly one"),
            (good, "client-certificate: s3cret", "exactly one"),
            (good, "wallet: s3cret", "wallet"),
            (good, "token: [s3cret]", "no kubeconfig"),
            (good, "", "credential"),
            ("certificate-authority-data: '!s3cret', server: 'https://a'", "token: t", "base 64"),
        ] {
            let error = read_text(cluster, user).unwrap_err();
            let text = Chain(&error).to_string();
            assert!(text.contains(expected), "{cluster} {user}: {text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
}
