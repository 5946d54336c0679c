//! `[audit.store]`: what of its settings does not fit together.

use toml::Spanned;

use crate::config::problem::Problem;
use crate::config::problem::Source;
use crate::config::store::RegionIn;
use crate::config::store::Said;
use crate::config::store::Store;
use crate::config::store::StoreUrl;
use crate::model::Country;

/// Everything that does not fit, in the order of the file. `country` is the gateway's, if it has one.
pub(super) fn problems(store: &Store, country: Option<&Country>, source: &Source) -> Vec<Problem> {
    let mut check = Check { store, source, problems: Vec::new() };
    check.kinds();
    check.needed();
    check.values();
    check.country(country);
    check.problems
}

struct Check<'a> {
    store: &'a Store,
    source: &'a Source,
    problems: Vec<Problem>,
}

/// Which settings a kind of store has, besides those that all but folders have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    S3,
    Gcs,
    Azure,
}

impl Check<'_> {
    fn problem<T>(&mut self, at: &Spanned<T>, what: impl Into<String>) {
        self.problems.push(self.source.problem(at, what));
    }

    fn kind(&self) -> Kind {
        match self.store.url.as_ref().map(Spanned::get_ref) {
            None | Some(StoreUrl::Folder(_)) => Kind::Folder,
            Some(StoreUrl::S3(_)) => Kind::S3,
            Some(StoreUrl::Gcs(_)) => Kind::Gcs,
            Some(StoreUrl::Azure(_)) => Kind::Azure,
        }
    }

    /// A setting of another kind of store would be ignored, and somebody may rely on it.
    fn kinds(&mut self) {
        let (store, kind) = (self.store, self.kind());
        let all = [Kind::S3, Kind::Gcs, Kind::Azure];
        let written = [
            ("region", spot(store.region.as_ref()), &all[..]),
            ("endpoint", spot(store.endpoint.as_ref()), &all),
            ("location", spot(store.location.as_ref()), &all),
            ("ca_file", spot(store.ca_file.as_ref()), &all),
            ("networks", spot(store.networks.first()), &all),
            ("require_lock", spot(store.require_lock.as_ref()), &all),
            ("lock_days_min", spot(store.lock_days_min.as_ref()), &all),
            ("require_versioning", spot(store.require_versioning.as_ref()), &all),
            ("asked_every_s", spot(store.asked_every_s.as_ref()), &all),
            ("path_style", spot(store.path_style.as_ref()), &[Kind::S3]),
            ("access_key", spot(store.access_key.as_ref()), &[Kind::S3]),
            ("secret_key", spot(store.secret_key.as_ref()), &[Kind::S3]),
            ("session_token", spot(store.session_token.as_ref()), &[Kind::S3]),
            ("service_account", spot(store.service_account.as_ref()), &[Kind::Gcs]),
            ("account", spot(store.account.as_ref()), &[Kind::Azure]),
            ("account_key", spot(store.account_key.as_ref()), &[Kind::Azure]),
        ];
        for (name, at, kinds) in written {
            if let Some(at) = at.filter(|_| !kinds.contains(&kind)) {
                let expected =
                    kinds.iter().map(|kind| kind.scheme()).collect::<Vec<_>>().join(", ");
                let what = format!(
                    "`{name}` means nothing for this store; expected a `url` that begins with one \
                     of: {expected}"
                );
                self.problem(&at, what);
            }
        }
    }

    fn needed(&mut self) {
        let store = self.store;
        let Some(url) = &store.url else { return };
        let s3 = [
            ("region", store.region.is_some()),
            ("access_key", store.access_key.is_some()),
            ("secret_key", store.secret_key.is_some()),
        ];
        let gcs = [
            ("region", store.region.is_some()),
            ("service_account", store.service_account.is_some()),
        ];
        let azure = [
            ("region", store.region.is_some()),
            ("account", store.account.is_some()),
            ("account_key", store.account_key.is_some()),
        ];
        let needed = match self.kind() {
            Kind::Folder => &[][..],
            Kind::S3 => &s3,
            Kind::Gcs => &gcs,
            Kind::Azure => &azure,
        };
        for (name, _) in needed.iter().filter(|(_, written)| !written) {
            self.problem(url, format!("this store needs `{name}`; expected it in [audit.store]"));
        }
        let attested =
            store.location.as_ref().is_some_and(|said| *said.get_ref() == Said::Attested);
        match (self.kind(), &store.location) {
            (Kind::Azure, _) if !attested => {
                let what = "Azure does not tell a gateway where an account is; expected `location = \
                            \"attested\"`, by which you say that it is in `region`";
                self.problem(url, what);
            }
            (Kind::Gcs, Some(said)) if attested => {
                let what = "Google's buckets say where they are; expected no `location`";
                self.problem(said, what);
            }
            (Kind::Folder | Kind::S3 | Kind::Gcs | Kind::Azure, _) => {}
        }
    }

    fn values(&mut self) {
        let store = self.store;
        let word = |text: &str| {
            (1..=63).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if let Some(region) = store.region.as_ref().filter(|region| !word(region.get_ref())) {
            let what =
                "this is no region; expected the provider's name for it, such as eu-central-1";
            self.problem(region, what);
        }
        if let Some(account) = store.account.as_ref().filter(|account| !word(account.get_ref())) {
            self.problem(account, "this is no storage account; expected its name alone");
        }
        if let Some(endpoint) = &store.endpoint {
            let rest = endpoint.get_ref().as_str().split_once("://").map_or("", |(_, rest)| rest);
            if rest.trim_end_matches('/').contains(['/', '?']) {
                let what = "the endpoint has a path; expected https://<host>[:<port>] alone";
                self.problem(endpoint, what);
            }
            let http = endpoint.get_ref().as_str().starts_with("http:");
            if let Some(ca_file) = store.ca_file.as_ref().filter(|_| http) {
                self.problem(ca_file, "this endpoint has no TLS; expected no `ca_file`, or https");
            }
        }
        for network in &store.networks {
            if network.get_ref().net().prefix_len() == 0 {
                let what = format!(
                    "`{network}` is every address there is, which pins nothing; expected the \
                     networks of the store, or no `networks`"
                );
                self.problem(network, what);
            }
        }
    }

    /// What provider and region name is, is known: recordings do not leave their region.
    fn country(&mut self, country: Option<&Country>) {
        if let (RegionIn::Country(found), Some(country), Some(region)) =
            (self.store.country(), country, &self.store.region)
            && found != country.as_str()
        {
            let what = format!(
                "`{region}` is in {found}, the gateway in {country}; expected a region in {country}: \
                 recordings do not leave their region"
            );
            self.problem(region, what);
        }
    }
}

impl Kind {
    fn scheme(self) -> &'static str {
        match self {
            Self::Folder => "file:",
            Self::S3 => "s3://",
            Self::Gcs => "gs://",
            Self::Azure => "az://",
        }
    }
}

/// Where something is written, if it is.
fn spot<T>(written: Option<&Spanned<T>>) -> Option<Spanned<()>> {
    written.map(|written| Spanned::new(written.span(), ()))
}
