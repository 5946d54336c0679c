//! `[audit.store]`: where recordings, the ledger and its checkpoints are kept for good.
//!
//! The store is in the gateway's region. What the file alone can tell of that is checked here; the
//! store itself is asked when the gateway starts.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::problem::Problem;
use crate::config::problem::Source;
use crate::config::provider::Url;
use crate::config::secret::SecretRef;
use crate::config::store_country;
use crate::config::value::Network;
use crate::config::value::Within;
use crate::model::Address;
use crate::model::Host;

/// Longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 400;

/// `[audit.store]`: where recordings, the ledger and its checkpoints are kept for good.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Where it is. Left out: the folder `store` in the state folder.
    pub url: Option<Spanned<StoreUrl>>,
    /// The provider's name for where the bucket must be, such as `eu-central-1`.
    pub region: Option<Spanned<String>>,
    /// Who says where the bucket is.
    pub location: Option<Spanned<Said>>,
    /// Where it is spoken to. Left out: where its provider says.
    pub endpoint: Option<Spanned<Url>>,
    /// S3: the bucket's name stands in the path, not in the host's name. Left out: with an
    /// `endpoint`, and where the name has a dot.
    pub path_style: Option<Spanned<bool>>,
    /// S3: the id of the access key.
    pub access_key: Option<Spanned<SecretRef>>,
    /// S3: the access key.
    pub secret_key: Option<Spanned<SecretRef>>,
    /// S3: the token of a temporary access key.
    pub session_token: Option<Spanned<SecretRef>>,
    /// Google: the key of a service account, JSON.
    pub service_account: Option<Spanned<SecretRef>>,
    /// Azure: the storage account.
    pub account: Option<Spanned<String>>,
    /// Azure: the account's key.
    pub account_key: Option<Spanned<SecretRef>>,
    /// Who vouches for the store's TLS certificate, PEM. Left out: the system's roots.
    pub ca_file: Option<Spanned<PathBuf>>,
    /// Every address of the store lies in one of these. None: it is dialled wherever it is.
    pub networks: Vec<Spanned<Network>>,
    /// The bucket must lock what is written there.
    pub require_lock: Option<Spanned<bool>>,
    /// For how many days at least.
    pub lock_days_min: Option<Spanned<Within<1, 36_500>>>,
    /// The bucket must keep versions.
    pub require_versioning: Option<Spanned<bool>>,
    /// How often the store is asked again where it is and how it keeps what is written.
    pub asked_every_s: Option<Spanned<Within<1, 86_400>>>,
}

/// Who says where a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// The bucket itself.
    Asked,
    /// Whoever wrote the configuration.
    Attested,
}

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum StoreUrl {
    /// In a folder of this machine.
    Folder(PathBuf),
    /// In a bucket that is spoken to by S3.
    S3(Bucket),
    /// In a bucket of Google Cloud Storage.
    Gcs(Bucket),
    /// In a container of Azure Blob Storage.
    Azure(Bucket),
}

/// A bucket or container, and what every object's name begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// The prefix, without slashes at its ends; may be empty.
    pub prefix: String,
}

impl TryFrom<String> for StoreUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const EXPECTED: &str = "expected file:<folder>, s3://<bucket>[/<prefix>], \
                                gs://<bucket>[/<prefix>] or az://<container>[/<prefix>]";
        if text.contains('@') {
            return Err(format!("no user in this URL; {EXPECTED}"));
        }
        if let Some(path) = text.strip_prefix("file:") {
            let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
            if path.is_empty() || path.starts_with("//") {
                return Err(format!("`{text}` names no folder; {EXPECTED}"));
            }
            return Ok(Self::Folder(path.into()));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let make = match scheme {
            "s3" => Self::S3,
            "gs" => Self::Gcs,
            "az" => Self::Azure,
            _ => return Err(format!("`{text}` names no store; {EXPECTED}")),
        };
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        if !is_bucket(name) {
            return Err(format!("`{name}` is no name of a bucket; {EXPECTED}"));
        }
        if !prefix.is_empty() && !is_prefix(prefix) {
            return Err(format!(
                "`{prefix}` is no prefix; expected words of ASCII letters, digits, `.`, `_` and \
                 `-`, parted by `/`, none beginning with `.`"
            ));
        }
        Ok(make(Bucket { name: name.to_owned(), prefix: prefix.to_owned() }))
    }
}

fn is_bucket(name: &str) -> bool {
    let sign = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    (3..=63).contains(&name.len())
        && name.bytes().all(sign)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric())
        && !name.contains("..")
}

fn is_prefix(prefix: &str) -> bool {
    let sign = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let word = |word: &str| {
        (1..=200).contains(&word.len()) && !word.starts_with('.') && word.bytes().all(sign)
    };
    prefix.len() <= PREFIX_BYTES_MAX && prefix.split('/').all(word)
}

/// Where a store that is spoken to over the network listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Whether with TLS.
    pub tls: bool,
    /// Where.
    pub address: Address,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, port) = if self.tls { ("https", 443) } else { ("http", 80) };
        let full = self.address.to_string();
        let usual = full.strip_suffix(&format!(":{port}")).filter(|_| self.address.port == port);
        write!(f, "{scheme}://{}", usual.unwrap_or(&full))
    }
}

/// In which country a store's region is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RegionIn {
    /// Its name is the operator's own, or there is none.
    Unsaid,
    /// It is a provider's, and not known here.
    Unknown,
    /// There.
    Country(&'static str),
}

impl Store {
    /// Where it is spoken to, and whether the bucket's name stands in the path. `None`: a folder, or
    /// something is missing that `problems` tells of.
    pub fn origin(&self) -> Option<(Origin, bool)> {
        let (bucket, usual) = match self.url.as_ref()?.get_ref() {
            StoreUrl::Folder(_) => return None,
            StoreUrl::S3(bucket) => {
                let region = self.region.as_ref()?.get_ref();
                let end =
                    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                (Some(bucket), format!("s3.{region}.{end}:443"))
            }
            StoreUrl::Gcs(_) => (None, "storage.googleapis.com:443".to_owned()),
            StoreUrl::Azure(_) => {
                let account = self.account.as_ref()?.get_ref();
                (None, format!("{account}.blob.core.windows.net:443"))
            }
        };
        let mut origin = match &self.endpoint {
            Some(url) => Origin {
                tls: url.get_ref().as_str().starts_with("https:"),
                address: url.get_ref().address().clone(),
            },
            None => Origin { tls: true, address: usual.parse().ok()? },
        };
        // A certificate for *.s3.… does not hold for a name with more dots.
        let usual = |bucket: &Bucket| self.endpoint.is_some() || bucket.name.contains('.');
        let written = self.path_style.as_ref().map(|style| *style.get_ref());
        let path_style = bucket.is_none_or(|bucket| written.unwrap_or_else(|| usual(bucket)));
        if let (false, Some(bucket), Host::Name(host)) = (path_style, bucket, &origin.address.host)
        {
            origin.address.host = format!("{}.{host}", bucket.name).parse().ok()?;
        }
        Some((origin, path_style))
    }

    /// What the store is called in `weir check`.
    pub fn shown(&self) -> String {
        let kind = match self.url.as_ref().map(Spanned::get_ref) {
            None | Some(StoreUrl::Folder(_)) => "folder",
            Some(StoreUrl::S3(_)) => "s3",
            Some(StoreUrl::Gcs(_)) => "gs",
            Some(StoreUrl::Azure(_)) => "az",
        };
        let region = self.region.as_ref().map(|region| format!(", region {region}"));
        format!("store of recordings ({kind}{})", region.unwrap_or_default())
    }

    /// Where its provider says that its region is.
    pub(super) fn country(&self) -> RegionIn {
        let (Some(url), Some(region), None) = (&self.url, &self.region, &self.endpoint) else {
            return RegionIn::Unsaid;
        };
        let found = match url.get_ref() {
            StoreUrl::Folder(_) => return RegionIn::Unsaid,
            StoreUrl::S3(_) => store_country::amazon(region.get_ref()),
            StoreUrl::Gcs(_) => store_country::google(region.get_ref()),
            StoreUrl::Azure(_) => store_country::microsoft(region.get_ref()),
        };
        found.map_or(RegionIn::Unknown, RegionIn::Country)
    }

    /// Every secret that it refers to.
    pub fn secrets(&self) -> impl Iterator<Item = &Spanned<SecretRef>> {
        let s3 = [&self.access_key, &self.secret_key, &self.session_token];
        s3.into_iter().chain([&self.service_account, &self.account_key]).flatten()
    }

    /// The same, to be changed.
    pub(super) fn secrets_mut(&mut self) -> impl Iterator<Item = &mut Spanned<SecretRef>> {
        let s3 = [&mut self.access_key, &mut self.secret_key, &mut self.session_token];
        s3.into_iter().chain([&mut self.service_account, &mut self.account_key]).flatten()
    }

    /// What is allowed and yet worth a second look, where it stands, in a gateway's `country`.
    pub(super) fn warnings(&self, source: &Source) -> Vec<Problem> {
        let mut warnings = Vec::new();
        if let (Some(endpoint), true) = (&self.endpoint, self.networks.is_empty())
            && !endpoint.get_ref().address().host.is_loopback()
        {
            let what = "nothing says where this endpoint's addresses lie: declare its `networks`";
            warnings.push(source.problem(endpoint, what));
        }
        if let (RegionIn::Unknown, Some(region)) = (self.country(), &self.region) {
            let what = format!(
                "it is not known in which country `{region}` is: make sure that it is the gateway's"
            );
            warnings.push(source.problem(region, what));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::config::Loaded;
    use crate::config::Problems;

    const EXAMPLE: &str = include_str!("../../config/weir.toml");
    const KEYS: &str = "access_key = { env = \"A\" }\nsecret_key = { file = \"b\" }";

    fn load(store: &str) -> Result<Loaded, Problems> {
        let text = format!("{EXAMPLE}\n[audit.store]\n{store}\n");
        config::parse(Path::new("/etc/weir/weir.toml"), text)
    }

    fn told(store: &str) -> String {
        load(store).expect_err(store).to_string()
    }

    fn s3(settings: &str) -> String {
        format!("url = \"s3://records\"\nregion = \"eu-central-1\"\n{KEYS}\n{settings}")
    }

    #[test]
    fn the_block_of_the_example_is_understood_kind_by_kind() {
        let block = EXAMPLE.split("# [audit.store]\n").nth(1).unwrap();
        let lines = block.lines().map_while(|line| line.strip_prefix("#   ")).collect::<Vec<_>>();
        assert_eq!(lines.len(), 17);
        let of = |kinds: &[&str]| {
            let mine = |line: &&&str| {
                let comment = line.split_once("  # ").map_or("", |(_, comment)| comment);
                let kind = comment.split([',', ':', ';']).next().unwrap_or_default();
                !["s3", "gs", "az"].contains(&kind) || kinds.contains(&kind)
            };
            lines.iter().filter(mine).copied().collect::<Vec<_>>().join("\n")
        };
        let loaded = load(&of(&["s3"])).unwrap();
        let report = loaded.report();
        let dial = report.dials.iter().find(|dial| dial.purpose.contains("store")).unwrap();
        assert_eq!(dial.purpose, "store of recordings (s3, region eu-central-1)");
        assert_eq!(dial.address, "s3.corp.example:9000");
        let google = of(&["gs"]).replace("s3://", "gs://").replace("eu-central-1", "europe-west3");
        load(&google.replace("location = \"asked\"", "")).unwrap();
        let azure = of(&["az"]).replace("s3://", "az://").replace("\"asked\"", "\"attested\"");
        load(&azure).unwrap();
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let loaded = load(&s3("ca_file = \"ca.pem\"\nendpoint = \"https://a.example\"")).unwrap();
        let store = &loaded.file.audit.store;
        assert_eq!(store.ca_file.as_ref().unwrap().get_ref(), Path::new("/etc/weir/ca.pem"));
        let secret = store.secret_key.as_ref().unwrap().get_ref();
        assert_eq!(*secret, SecretRef::File("/etc/weir/b".into()));
        for (url, path) in [
            ("file:kept", "/etc/weir/kept"),
            ("file:/srv/a", "/srv/a"),
            ("file:///srv/a", "/srv/a"),
        ] {
            let loaded = load(&format!("url = \"{url}\"")).unwrap();
            let found = loaded.file.audit.store.url.as_ref().unwrap().get_ref();
            assert_eq!(*found, StoreUrl::Folder(path.into()));
            assert!(!loaded.file.audit.store.shown().contains("region"));
        }
    }

    #[test]
    fn a_mistake_is_told_with_what_was_expected() {
        for (store, words) in [
            ("url = \"records\"".to_owned(), &["names no store", "expected file:<folder>"][..]),
            ("url = \"s3://A\"".to_owned(), &["no name of a bucket"]),
            ("url = \"s3://records/../x\"".to_owned(), &["no prefix"]),
            ("url = \"s3://user:pass@records\"".to_owned(), &["no user in this URL"]),
            ("url = \"s3://records\"".to_owned(), &["needs `region`", "needs `secret_key`"]),
            ("url = \"gs://records\"".to_owned(), &["needs `service_account`"]),
            ("url = \"az://records\"".to_owned(), &["needs `account_key`", "\"attested\""]),
            (s3("account = \"x\""), &["`account` means nothing", "begins with one of: az://"]),
            ("networks = [\"10.0.0.0/8\"]".to_owned(), &["`networks` means nothing", "s3://"]),
            ("require_lock = true".to_owned(), &["`require_lock` means nothing"]),
            (s3("lock_days_min = 0"), &["from 1 to 36500"]),
            (s3("networks = [\"0.0.0.0/0\"]"), &["pins nothing"]),
            (s3("endpoint = \"https://a.example/b\""), &["has a path"]),
            (s3("endpoint = \"http://a.example\""), &["http is for this machine only"]),
            (s3("endpoint = \"http://127.0.0.1:1\"\nca_file = \"x\""), &["has no TLS"]),
            (s3("location = \"maybe\""), &["`maybe`", "`attested`"]),
            (s3("session_token = \"written-out\""), &["a secret is not written into this file"]),
            (s3("").replace("eu-central-1", "eu central"), &["this is no region"]),
        ] {
            let told = told(&store);
            assert!(words.iter().all(|word| told.contains(word)), "{store}:\n{told}");
            assert!(told.starts_with("/etc/weir/weir.toml:"), "a place: {told}");
            assert!(!told.contains("pass") && !told.contains("written-out"), "{told}");
        }
    }

    #[test]
    fn a_region_in_another_country_is_refused_and_an_unknown_one_is_warned_of() {
        let told = told(&s3("").replace("eu-central-1", "us-east-1"));
        assert!(told.contains("`us-east-1` is in US, the gateway in DE"), "{told}");
        let warned = |store: &str| {
            let report = load(store).unwrap().report();
            report.warnings.iter().map(|warning| warning.what().to_owned()).collect::<String>()
        };
        assert!(
            warned(&s3("").replace("eu-central-1", "eu-moon-1")).contains("not known in which")
        );
        assert!(!warned(&s3("")).contains("not known in which"));
        let own = s3("endpoint = \"https://s3.corp.example\"").replace("eu-central-1", "us-east-1");
        assert!(warned(&own).contains("declare its `networks`"), "a region of one's own naming");
    }

    #[test]
    fn a_bucket_stands_in_the_hosts_name_or_in_the_path() {
        let origin = |store: &str| {
            let (origin, path_style) = load(store).unwrap().file.audit.store.origin().unwrap();
            (origin.to_string(), path_style)
        };
        let usual = "https://records.s3.eu-central-1.amazonaws.com";
        assert_eq!(origin(&s3("")), (usual.to_owned(), false));
        let dotted = s3("").replace("//records", "//records.acme");
        assert_eq!(origin(&dotted), ("https://s3.eu-central-1.amazonaws.com".to_owned(), true));
        let own = "endpoint = \"https://s3.corp.example:9000\"";
        assert_eq!(origin(&s3(own)), ("https://s3.corp.example:9000".to_owned(), true));
        let hosted = s3(&format!("{own}\npath_style = false"));
        assert_eq!(origin(&hosted), ("https://records.s3.corp.example:9000".to_owned(), false));
    }
}
