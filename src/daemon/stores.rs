//! From the `[audit.store]` that was written to the store's options; and how stores and key services
//! are spoken to: over `upstream`, to configured places alone.

use std::path::PathBuf;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use toml::Spanned;

use crate::audit::storage;
use crate::audit::storage::Failure;
use crate::audit::storage::Http;
use crate::audit::storage::HttpFailed;
use crate::config::Loaded;
use crate::config::Problem;
use crate::config::SecretRef;
use crate::config::kms::Kms;
use crate::config::store::Said;
use crate::config::store::Store;
use crate::config::store::StoreUrl;
use crate::daemon::translate::BadConfig;
use crate::daemon::translate::Files;
use crate::model::fault::Chain;
use crate::tls;
use crate::upstream::Configured;
use crate::upstream::DialError;
use crate::upstream::FetchError;
use crate::upstream::Fetcher;

/// How long an exchange with a store may take, in milliseconds: objects of 16 MiB over a slow line.
const EXCHANGE_MS_MAX: u64 = 120_000;

/// Speaks to the configured stores and key services, and to nobody else.
#[derive(Debug)]
pub struct Stores(Vec<Fetcher>);

impl Stores {
    /// Speaks to these places.
    pub fn new(places: impl IntoIterator<Item = Fetcher>) -> Self {
        let patient = |place: Fetcher| place.within_ms(EXCHANGE_MS_MAX);
        Self(places.into_iter().map(patient).collect())
    }
}

impl Http for Stores {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, HttpFailed>> {
        let place = self.0.iter().find(|place| place.serves(request.uri()));
        async move {
            let Some(place) = place else {
                let host = request.uri().host().unwrap_or_default();
                let what = format!("{host} is not configured as a store or key service");
                return Err(HttpFailed::new(Failure::NotConfigured, what));
            };
            place.send(request).await.map_err(|error| HttpFailed::new(failure(&error), error))
        }
        .boxed()
    }
}

fn failure(error: &FetchError) -> Failure {
    match error {
        FetchError::NotConfigured(_) => Failure::NotConfigured,
        FetchError::Dial(DialError::Outside { .. }) => Failure::Outside,
        FetchError::Dial(DialError::Unreachable { .. } | DialError::OtherTarget { .. }) => {
            Failure::Unreachable
        }
        FetchError::Exchange { .. } => Failure::Broken,
        FetchError::Slow { .. } => Failure::Slow,
    }
}

/// What the region's store is, and how it is reached: a folder by no address.
pub(super) fn storage(
    loaded: &Loaded,
    files: Files,
) -> Result<(storage::Options, Option<Fetcher>), BadConfig> {
    let written = &loaded.file.audit.store;
    let on = |setting: &Option<Spanned<bool>>| setting.as_ref().is_some_and(|on| *on.get_ref());
    let days = written.lock_days_min.as_ref().map_or(0, |days| days.get_ref().count());
    let options = storage::Options {
        region: loaded.file.gateway.region.get_ref().clone(),
        place: place(loaded, written)?,
        require: storage::Require {
            versioning: on(&written.require_versioning),
            lock: on(&written.require_lock),
            lock_days_min: u32::try_from(days).unwrap_or(u32::MAX),
        },
    };
    Ok((options, fetcher(loaded, files, written)?))
}

fn place(loaded: &Loaded, written: &Store) -> Result<storage::Place, Problem> {
    let endpoint = written.origin();
    let (endpoint, path_style) =
        endpoint.map_or((String::new(), true), |(origin, style)| (origin.to_string(), style));
    let text = |written: &Option<Spanned<String>>| {
        written.as_ref().map(|text| text.get_ref().clone()).unwrap_or_default()
    };
    // `config` has told of what is missing, so these are there.
    let needed = |name: &str, written: &Option<Spanned<SecretRef>>| match written {
        Some(reference) => Ok(secret(reference)),
        None => {
            Err(Problem::of_file(loaded.source.path(), format!("[audit.store] needs `{name}`")))
        }
    };
    let attested = written.location.as_ref().is_some_and(|said| *said.get_ref() == Said::Attested);
    Ok(match written.url.as_ref().map(Spanned::get_ref) {
        None => storage::Place::Folder(loaded.file.gateway.state_dir.join("store")),
        Some(StoreUrl::Folder(path)) => storage::Place::Folder(path.clone()),
        Some(StoreUrl::S3(bucket)) => storage::Place::S3(storage::S3 {
            bucket: bucket.name.clone(),
            prefix: bucket.prefix.clone(),
            region: text(&written.region),
            endpoint,
            path_style,
            located: if attested { storage::Located::Attested } else { storage::Located::Asked },
            keys: storage::AwsKeys {
                id: needed("access_key", &written.access_key)?,
                secret: needed("secret_key", &written.secret_key)?,
                token: written.session_token.as_ref().map(secret),
            },
        }),
        Some(StoreUrl::Gcs(bucket)) => storage::Place::Gcs(storage::Gcs {
            bucket: bucket.name.clone(),
            prefix: bucket.prefix.clone(),
            location: text(&written.region),
            endpoint,
            service_account: needed("service_account", &written.service_account)?,
        }),
        Some(StoreUrl::Azure(container)) => storage::Place::Azure(storage::Azure {
            account: text(&written.account),
            container: container.name.clone(),
            prefix: container.prefix.clone(),
            location: text(&written.region),
            endpoint,
            key: needed("account_key", &written.account_key)?,
        }),
    })
}

/// How a key service is reached.
pub(super) fn key_service(
    loaded: &Loaded,
    files: Files,
    kms: &Kms,
) -> Result<Option<Fetcher>, BadConfig> {
    let address = kms.endpoint.get_ref().address();
    let networks = kms.networks.iter().map(|network| network.get_ref().net()).collect();
    let place = Configured::new("the key service", address.host.to_string(), address.port);
    let place = place.within(networks);
    if !kms.is_tls() {
        return Ok(Some(Fetcher::new(place, None)));
    }
    let at = kms.endpoint.span();
    Ok(encrypted(loaded, files, (place, at), kms.ca_file.as_ref())?)
}

pub(super) fn secret(reference: &Spanned<SecretRef>) -> storage::Secret {
    let reference = reference.get_ref().clone();
    storage::Secret::new(reference.to_string(), move || reference.read())
}

fn fetcher(loaded: &Loaded, files: Files, written: &Store) -> Result<Option<Fetcher>, Problem> {
    let Some((origin, _)) = written.origin() else { return Ok(None) };
    let networks = written.networks.iter().map(|network| network.get_ref().net()).collect();
    let host = origin.address.host.to_string();
    let place = Configured::new("the store of recordings", host, origin.address.port);
    let place = place.within(networks);
    if !origin.tls {
        return Ok(Some(Fetcher::new(place, None)));
    }
    let at = written.url.as_ref().map_or(0..0, Spanned::span);
    encrypted(loaded, files, (place, at), written.ca_file.as_ref())
}

/// A place that is spoken to over TLS; `at` is where the file names it.
fn encrypted(
    loaded: &Loaded,
    files: Files,
    (place, at): (Configured, std::ops::Range<usize>),
    ca_file: Option<&Spanned<PathBuf>>,
) -> Result<Option<Fetcher>, Problem> {
    let (roots, at) = match ca_file {
        Some(file) => match files.read(loaded, file)? {
            Some(pem) => (tls::Roots::Bundle(tls::Pem::bytes(pem)), file.span()),
            None => return Ok(None),
        },
        None => (tls::Roots::System, at),
    };
    let client = tls::client(&roots, &[b"http/1.1"], None)
        .map_err(|error| loaded.source.problem(&Spanned::new(at, ()), Chain(&error).to_string()))?;
    Ok(Some(Fetcher::new(place, Some(client))))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    const EXAMPLE: &str = include_str!("../../config/weir.toml");

    fn translated(store: &str) -> (storage::Options, Option<Fetcher>) {
        let text = format!("{EXAMPLE}\n[audit.store]\n{store}\n");
        let loaded = config::parse(Path::new("/etc/weir/weir.toml"), text).unwrap();
        storage(&loaded, Files::MayBeMissing).unwrap()
    }

    #[test]
    fn left_out_it_is_a_folder_of_the_state_and_nobody_is_dialled() {
        let (options, fetcher) = translated("");
        assert!(fetcher.is_none() && options.require == storage::Require::default());
        assert!(options.place.to_string().ends_with("/store"), "{}", options.place);
        let (options, _) = translated("url = \"file:kept\"");
        assert_eq!(options.place.to_string(), "the folder /etc/weir/kept");
    }

    #[test]
    fn a_bucket_is_reached_where_its_provider_says_or_where_the_file_says() {
        let keys = "access_key = { env = \"A\" }\nsecret_key = { env = \"B\" }";
        for (written, expected, url) in [
            (
                "",
                "s3://records/eu at https://records.s3.eu-central-1.amazonaws.com",
                "https://records.s3.eu-central-1.amazonaws.com/a",
            ),
            (
                "path_style = true",
                "s3://records/eu at https://s3.eu-central-1.amazonaws.com",
                "https://s3.eu-central-1.amazonaws.com/records/a",
            ),
            (
                "endpoint = \"https://s3.corp.example:9000\"",
                "s3://records/eu at https://s3.corp.example:9000",
                "https://s3.corp.example:9000/records",
            ),
            (
                "endpoint = \"http://127.0.0.1:9000/\"",
                "s3://records/eu at http://127.0.0.1:9000",
                "http://127.0.0.1:9000/records",
            ),
        ] {
            let (options, fetcher) = translated(&format!(
                "url = \"s3://records/eu\"\nregion = \"eu-central-1\"\n{keys}\n{written}"
            ));
            assert_eq!(options.place.to_string(), expected);
            let fetcher = fetcher.unwrap();
            assert!(fetcher.serves(&url.parse().unwrap()), "{url}: {fetcher:?}");
            assert!(!fetcher.serves(&"https://s3.us-east-1.amazonaws.com/".parse().unwrap()));
        }
    }
}
