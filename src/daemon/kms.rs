//! The region's wrapping key from a key service: made once, kept as the service wrapped it, and
//! unwrapped at each start.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::audit::keys::KeyBytes;
use crate::audit::kms::AwsKms;
use crate::audit::kms::AwsKmsOptions;
use crate::audit::kms::Context;
use crate::audit::kms::KeyWrapper;
use crate::audit::kms::KmsError;
use crate::audit::storage;
use crate::audit::storage::Http;
use crate::config::Loaded;
use crate::config::kms::Kms;
use crate::daemon::StartError;
use crate::daemon::stores;
use crate::daemon::stores::Stores;
use crate::daemon::translate::Files;
use crate::model::encode::base64;
use crate::model::encode::unbase64_exactly;
use crate::model::fault::Chain;

/// The region's key as it lies in the state folder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The service's key that wraps it.
    by: String,
    /// What the service gave, in base 64.
    wrapped: String,
}

/// The region's wrapping key, which `kms` unwraps; it is made if there is none yet.
pub(super) async fn wrapping(loaded: &Loaded, kms: &Kms) -> Result<KeyBytes, StartError> {
    let service = service(loaded, kms)?;
    let gateway = &loaded.file.gateway;
    let context = Context {
        region: gateway.region.get_ref().to_string(),
        gateway: gateway.id.to_string(),
        purpose: "recordings".to_owned(),
    };
    let path = gateway.state_dir.join("wrapping.kms");
    let bad = |what: String| StartError::KeyService { what };
    let refused = |error: KmsError| bad(format!("{}; {}", Chain(&error), error.advice()));
    let state = |source| StartError::State { path: path.clone(), source };
    if path.exists() {
        let text = fs::read(&path).map_err(state)?;
        let kept: Kept = serde_json::from_slice(&text).map_err(|error| state(error.into()))?;
        let wrapped = unbase64_exactly(&kept.wrapped)
            .ok_or_else(|| bad(format!("{} is no wrapped key", path.display())))?;
        return service.unwrap(&wrapped, &context).await.map(KeyBytes::new).map_err(refused);
    }
    let key = KeyBytes::generate()
        .map_err(|source| StartError::RecordKey { place: path.display().to_string(), source })?;
    let wrapped = service.wrap(key.expose(), &context).await.map_err(refused)?;
    let kept = Kept { by: service.id().to_owned(), wrapped: base64(&wrapped) };
    write_new(&path, &kept).map_err(state)?;
    Ok(key)
}

fn service(loaded: &Loaded, kms: &Kms) -> Result<AwsKms, StartError> {
    let fetcher = stores::key_service(loaded, Files::Needed, kms)?;
    let http: Arc<dyn Http> = Arc::new(Stores::new(fetcher));
    let options = AwsKmsOptions {
        endpoint: kms.endpoint.get_ref().as_str().to_owned(),
        region: kms.region.get_ref().clone(),
        key: kms.key.get_ref().clone(),
        keys: storage::AwsKeys {
            id: stores::secret(&kms.access_key),
            secret: stores::secret(&kms.secret_key),
            token: kms.session_token.as_ref().map(stores::secret),
        },
    };
    Ok(AwsKms::new(options, http))
}

/// Writes the file whole, or not at all: half of it would be a key that is lost.
fn write_new(path: &Path, kept: &Kept) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.sync_all()?;
    fs::rename(beside, path)
}
