//! `[[audit.events]]`: where the ledger goes as events, for whoever watches.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::file::Region;
use crate::config::problem::Problem;
use crate::config::problem::Source;
use crate::config::provider::Url;
use crate::config::secret::SecretRef;
use crate::config::value::Network;
use crate::config::value::Within;

/// A destination of events.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Where to.
    pub to: Spanned<Destination>,
    /// Commands go there too, as they are decided and as they end.
    #[serde(default)]
    pub commands: bool,
    /// Commands' texts, the sentences of refusals and the names of objects may leave.
    #[serde(default)]
    pub include_text: bool,
    /// Of HTTP: every address lies in one of these, each in a network of the gateway's region. Left
    /// out: in any of the region's networks.
    #[serde(default)]
    pub networks: Vec<Spanned<Network>>,
    /// Of HTTP: what stands in `Authorization`.
    pub credential: Option<Spanned<SecretRef>>,
    /// Of HTTP: who vouches for the certificate, PEM. Left out: the system's roots.
    pub ca_file: Option<Spanned<PathBuf>>,
    /// Of a file: how large it may be before the next is begun.
    #[serde(default = "file_bytes_max")]
    pub file_bytes_max: Within<1_048_576, 1_099_511_627_776>,
}

fn file_bytes_max() -> Within<1_048_576, 1_099_511_627_776> {
    Within::nearest(104_857_600)
}

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Destination {
    /// The daemon's standard output.
    Stdout,
    /// A file.
    File(PathBuf),
    /// A place that takes them by POST.
    Http(Url),
}

impl TryFrom<String> for Destination {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "stdout" {
            return Ok(Self::Stdout);
        }
        if let Some(path) = text.strip_prefix("file:") {
            return match path {
                "" => Err("`file:` names no file; expected \"file:/path/of/it\"".to_owned()),
                path => Ok(Self::File(PathBuf::from(path))),
            };
        }
        if !text.starts_with("http") {
            return Err(format!(
                "`{text}` is no destination; expected \"stdout\", \"file:…\" or \"https://…\""
            ));
        }
        Url::try_from(text).map(Self::Http)
    }
}

impl Events {
    /// What people call it: the destination without what may be secret in it.
    pub fn shown(&self) -> String {
        match self.to.get_ref() {
            Destination::Stdout => "stdout".to_owned(),
            Destination::File(path) => format!("file {}", path.display()),
            Destination::Http(url) => url.address().to_string(),
        }
    }

    /// By which name it keeps its place in the ledger: the same for the same destination.
    pub fn key(&self) -> String {
        let text = match self.to.get_ref() {
            Destination::Stdout => "stdout".to_owned(),
            Destination::File(path) => format!("file-{}", path.display()),
            Destination::Http(url) => url.as_str().to_owned(),
        };
        let plain = |sign: char| if sign.is_ascii_alphanumeric() { sign } else { '-' };
        let digest = crate::model::digest::Digest::of(text.as_bytes()).to_string();
        let name = text.chars().map(plain).take(40).collect::<String>();
        format!("{name}-{}", digest.get(..8).unwrap_or_default())
    }
}

/// What does not fit.
pub(super) fn problems(
    events: &[Events],
    region: Option<&Region>,
    source: &Source,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, one) in events.iter().enumerate() {
        let same = events.iter().take(at).any(|other| other.to.get_ref() == one.to.get_ref());
        if same {
            problems.push(source.problem(&one.to, "this destination stands twice; expected once"));
        }
        let is_http = matches!(one.to.get_ref(), Destination::Http(_));
        if !is_http {
            let what = "only a destination by HTTP takes this; expected it to be left out";
            one.networks.first().iter().for_each(|at| problems.push(source.problem(at, what)));
            one.credential.iter().for_each(|at| problems.push(source.problem(at, what)));
            one.ca_file.iter().for_each(|at| problems.push(source.problem(at, what)));
        }
        for network in &one.networks {
            let net = network.get_ref().net();
            let inside = region.is_some_and(|region| {
                region.networks.iter().any(|whole| whole.get_ref().net().contains(&net))
            });
            if !inside {
                let what = format!(
                    "network {net} lies in no network of the gateway's region; expected events to \
                     stay in the region"
                );
                problems.push(source.problem(network, what));
            }
        }
    }
    problems
}
