//! `[audit.kms]`: a key service that wraps the region's key.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::problem::Problem;
use crate::config::problem::Source;
use crate::config::provider::Url;
use crate::config::secret::SecretRef;
use crate::config::value::Network;

/// `[audit.kms]`: a key service that speaks as AWS KMS does. The region's key is made here, and kept
/// only as the service wrapped it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kms {
    /// Where it is spoken to: `https://kms.eu-central-1.amazonaws.com`.
    pub endpoint: Spanned<Url>,
    /// The region that requests are signed for.
    pub region: Spanned<String>,
    /// The key: an id, an ARN, or an alias such as `alias/weir`.
    pub key: Spanned<String>,
    /// The id of the access key.
    pub access_key: Spanned<SecretRef>,
    /// The access key.
    pub secret_key: Spanned<SecretRef>,
    /// The token of a temporary access key.
    pub session_token: Option<Spanned<SecretRef>>,
    /// Who vouches for the service's TLS certificate, PEM. Left out: the system's roots.
    pub ca_file: Option<Spanned<PathBuf>>,
    /// Every address of the service lies in one of these. None: it is dialled wherever it is.
    #[serde(default)]
    pub networks: Vec<Spanned<Network>>,
}

impl Kms {
    /// Every secret that it names.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = &mut Spanned<SecretRef>> {
        [&mut self.access_key, &mut self.secret_key].into_iter().chain(&mut self.session_token)
    }

    /// Whether it is spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.endpoint.get_ref().as_str().starts_with("https:")
    }

    /// What is wrong with it, seen beside the key that is named as well, if one is.
    pub fn problems(&self, wrapping: Option<&Spanned<SecretRef>>, source: &Source) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(wrapping) = wrapping {
            let what = "the region's key comes from here or from [audit.kms]; expected one of them";
            problems.push(source.problem(wrapping, what));
        }
        if !self.is_tls() && !self.endpoint.get_ref().address().host.is_loopback() {
            let what = "a key would go there in the clear; expected `https://`";
            problems.push(source.problem(&self.endpoint, what));
        }
        problems
    }
}
