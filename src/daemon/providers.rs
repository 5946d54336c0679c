//! From the `[[providers]]` that were written to identity's options, and how each is reached.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use toml::Spanned;

use crate::config::Loaded;
use crate::config::Problem;
use crate::config::provider;
use crate::config::provider::Words;
use crate::daemon::translate::BadConfig;
use crate::daemon::translate::Files;
use crate::identity;
use crate::tls;
use crate::upstream::Configured;
use crate::upstream::Fetcher;

/// What identity is built from, and how each provider is reached.
pub(super) fn identity(
    loaded: &Loaded,
    files: Files,
) -> Result<(identity::Options, Vec<Fetcher>), BadConfig> {
    let mut options = identity::Options::default();
    let mut fetchers = Vec::new();
    for provider in &loaded.file.providers {
        let written = provider_options(loaded, provider)?;
        written
            .validate()
            .map_err(|error| loaded.source.problem(&provider.issuer, error.to_string()))?;
        options.providers.push(written);
        let others = provider.jwks_uri.iter().chain(&provider.endpoints);
        for url in std::iter::once(&provider.issuer).chain(others) {
            fetchers.extend(fetcher(loaded, files, provider, url)?);
        }
    }
    Ok((options, fetchers))
}

fn provider_options(
    loaded: &Loaded,
    provider: &provider::Provider,
) -> Result<identity::ProviderOptions, Problem> {
    let issuer = provider.issuer.get_ref().as_str();
    let audiences = provider.audience.get_ref();
    let first = audiences.first().cloned().unwrap_or_default();
    let client = provider.login.then(|| client(provider, first.clone()));
    let require = provider.require.iter().map(|(claim, patterns)| {
        let expression = claim.get_ref().parse();
        let expression = expression.map_err(|error: identity::ExpressionError| {
            loaded.source.problem(claim, error.to_string())
        })?;
        let all = patterns.get_ref().all().iter().map(|pattern| pattern.parse());
        let all = all.collect::<Result<Vec<_>, _>>();
        Ok((expression, all.map_err(|what| loaded.source.problem(patterns, what))?))
    });
    let algorithms = provider.algorithms.get_ref().iter().copied().map(algorithm_of);
    Ok(identity::ProviderOptions {
        name: provider.name.clone(),
        audiences: audiences.clone(),
        client,
        jwks_uri: provider.jwks_uri.as_ref().map(|url| url.get_ref().as_str().to_owned()),
        endpoints: provider.endpoints.iter().map(|url| url.get_ref().as_str().to_owned()).collect(),
        userinfo: provider.userinfo,
        require: require.collect::<Result<_, Problem>>()?,
        algorithms: algorithms.collect(),
        skew_s: u32::try_from(provider.skew_s.count()).unwrap_or(u32::MAX),
        mapping: mapping(loaded, provider)?,
        ..identity::ProviderOptions::new(issuer, first)
    })
}

fn client(provider: &provider::Provider, audience: String) -> identity::ClientOptions {
    let mut scopes = identity::SCOPES_DEFAULT.map(str::to_owned).to_vec();
    scopes.extend(provider.scopes.iter().cloned());
    let mut seen = BTreeSet::new();
    scopes.retain(|scope| seen.insert(scope.clone()));
    let secret = provider.client_secret.as_ref().map(|secret| {
        let secret = secret.get_ref().clone();
        identity::ClientSecret::new(secret.to_string(), move || secret.read())
    });
    let id = provider.client_id.clone().unwrap_or(audience);
    identity::ClientOptions { id, secret, scopes, consent: provider.consent }
}

fn algorithm_of(algorithm: provider::Algorithm) -> identity::Algorithm {
    match algorithm {
        provider::Algorithm::Rs256 => identity::Algorithm::Rs256,
        provider::Algorithm::Rs384 => identity::Algorithm::Rs384,
        provider::Algorithm::Rs512 => identity::Algorithm::Rs512,
        provider::Algorithm::Ps256 => identity::Algorithm::Ps256,
        provider::Algorithm::Ps384 => identity::Algorithm::Ps384,
        provider::Algorithm::Ps512 => identity::Algorithm::Ps512,
        provider::Algorithm::Es256 => identity::Algorithm::Es256,
        provider::Algorithm::Es384 => identity::Algorithm::Es384,
        provider::Algorithm::EdDsa => identity::Algorithm::EdDsa,
    }
}

fn mapping(loaded: &Loaded, provider: &provider::Provider) -> Result<identity::Mapping, Problem> {
    let read = |words: &Words| {
        words.as_str().parse::<identity::Expression>().map_err(|error| {
            let place = words.place(loaded.source.text(), error.byte());
            loaded.source.problem(&place, error.to_string())
        })
    };
    let claims = &provider.claims;
    let roles = identity::RolesMapping {
        claim: read(&claims.roles)?,
        prefix: None,
        rename: provider.roles.clone(),
        only_named: true,
    };
    let entities = provider.entities.iter();
    let entities = entities.map(|(word, id)| (word.clone(), id.get_ref().clone())).collect();
    let entity = match &claims.entity {
        Some(words) => Some(identity::EntityMapping { claim: read(words)?, entities }),
        None => None,
    };
    let mut attributes = BTreeMap::new();
    for (attribute, words) in &claims.attributes {
        attributes.insert(attribute.clone(), read(words)?);
    }
    let acting_for = claims.acting_for.as_ref().map(|words| {
        words.as_str().parse::<identity::ClaimPath>().map_err(|error| {
            loaded.source.problem(&words.place(loaded.source.text(), 0), error.to_string())
        })
    });
    Ok(identity::Mapping {
        name: read(&claims.name)?,
        person: read(&claims.person)?,
        roles: Some(roles),
        entity,
        residence: claims.residence.as_ref().map(read).transpose()?,
        kind: provider.kind,
        kind_claim: None,
        attributes,
        acting_for: acting_for.transpose()?,
    })
}

/// How a provider's URL is fetched; `None` where its CA's file may be missing, and is.
fn fetcher(
    loaded: &Loaded,
    files: Files,
    provider: &provider::Provider,
    url: &Spanned<provider::Url>,
) -> Result<Option<Fetcher>, Problem> {
    let address = url.get_ref().address();
    let place = Configured::new(
        format!("provider {}", provider.issuer.get_ref().as_str()),
        address.host.to_string(),
        address.port,
    );
    if url.get_ref().as_str().starts_with("http:") {
        return Ok(Some(Fetcher::new(place, None)));
    }
    let roots = match &provider.ca_file {
        Some(file) => match files.read(loaded, file)? {
            Some(pem) => tls::Roots::Bundle(tls::Pem::bytes(pem)),
            None => return Ok(None),
        },
        None => tls::Roots::System,
    };
    let client = tls::client(&roots, &[b"http/1.1"], None).map_err(|error| {
        loaded.source.problem(url, crate::model::fault::Chain(&error).to_string())
    })?;
    Ok(Some(Fetcher::new(place, Some(client))))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    const EXAMPLE: &str = include_str!("../../config/weir.toml");

    /// The example with other settings for its provider.
    fn options(settings: &str, claims: &str) -> Result<identity::ProviderOptions, String> {
        let text = EXAMPLE
            .replacen("[[providers]]\n", &format!("[[providers]]\n{settings}\n"), 1)
            .replacen("[providers.claims] ", &format!("[providers.claims]\n{claims}\n# "), 1);
        let loaded = config::parse(Path::new("weir.toml"), text).map_err(|e| e.to_string())?;
        let (options, _) = identity(&loaded, Files::MayBeMissing).map_err(|e| e.to_string())?;
        Ok(options.providers.into_iter().next().unwrap())
    }

    #[test]
    fn several_audiences_are_taken_and_the_first_is_the_client() {
        let text = EXAMPLE.replacen("[\"weir\"]  ", "[\"weir\", \"weir-ci\"]", 1);
        let loaded = config::parse(Path::new("weir.toml"), text).unwrap();
        let (options, _) = identity(&loaded, Files::MayBeMissing).unwrap();
        assert_eq!(options.providers[0].audiences, ["weir", "weir-ci"]);
        assert_eq!(options.providers[0].client.as_ref().unwrap().id, "weir");
    }

    #[test]
    fn people_sign_in_at_a_provider_unless_it_says_otherwise_and_programs_do_not() {
        let client = |settings| options(settings, "").unwrap().client;
        let scopes = client("scopes = [\"groups\", \"openid\"]").unwrap().scopes;
        assert_eq!(scopes, ["openid", "profile", "offline_access", "groups"]);
        assert!(client("login = false").is_none());
        assert!(client("kind = \"workload\"").is_none());
        assert!(client("kind = \"workload\"\nlogin = true").is_some());
        assert_eq!(client("client_id = \"other\"").unwrap().id, "other");
        let secret = client("client_secret = { env = \"PATH\" }").unwrap().secret;
        assert_eq!(format!("{:?}", secret.unwrap()), "ClientSecret(the environment variable PATH)");
        assert!(options("scopes = [\"a b\"]", "").unwrap_err().contains("RFC 6749"));
    }

    #[test]
    fn presets_are_workloads_whose_claims_are_known_and_can_be_said_otherwise() {
        for preset in ["github-actions", "gitlab-ci", "kubernetes"] {
            let plain = options(&format!("preset = \"{preset}\""), "").unwrap();
            assert_eq!(plain.mapping.kind, crate::model::principal::Kind::Workload, "{preset}");
            assert!(plain.client.is_none() && plain.mapping.attributes.len() > 3, "{preset}");
            assert_ne!(plain.mapping.name.as_str(), "preferred_username");
        }
        let own = options("preset = \"kubernetes\"", "name = \"sub\"").unwrap();
        assert_eq!(own.mapping.name.as_str(), "sub");
        assert!(options("preset = \"jenkins\"", "").unwrap_err().contains("github-actions"));
    }

    #[test]
    fn the_workloads_of_the_documentation_are_understood_and_worth_no_warning() {
        let page = include_str!("../../docs/configuration.md");
        let shown = page.split("### Workloads").nth(1).unwrap();
        let shown = shown.split("```toml").nth(1).unwrap().split("```").next().unwrap();
        let text = EXAMPLE.replacen("[[providers]]", &format!("{shown}\n[[providers]]"), 1);
        let loaded = config::parse(Path::new("weir.toml"), text.clone()).unwrap();
        let (options, _) = identity(&loaded, Files::MayBeMissing).unwrap();
        assert_eq!(options.providers.len(), 4);
        assert!(options.providers[..3].iter().all(|provider| !provider.require.is_empty()));
        let warned = |text: String| {
            let report = config::parse(Path::new("weir.toml"), text).unwrap().report();
            report.warnings.iter().any(|warning| warning.what().contains("made out to any"))
        };
        assert!(!warned(text.clone()));
        assert!(warned(text.replacen("\nrequire = ", "\n# require = ", 1)));
    }

    #[test]
    fn a_mistake_in_an_expression_is_told_with_its_place() {
        let told = options("", "name = \"first(email, nope(x))\"").unwrap_err();
        let line = told.lines().next().unwrap();
        assert!(line.contains("expected one of first, join"), "{told}");
        let (before, caret) = told.rsplit_once('\n').unwrap();
        let shown = before.lines().last().unwrap();
        assert!(shown.get(caret.find('^').unwrap()..).unwrap().starts_with("nope("), "{told}");
        for (settings, word) in [
            ("require = { \"lower(\" = \"x\" }", "expected a claim"),
            ("require = { repository = \"*/*\" }", "at most one `*`"),
            ("require = { repository = [] }", "repository"),
            ("require = { repository = 1 }", "a text, or a list"),
            ("endpoints = [\"https://a.example/path\"]", "https URL"),
            ("endpoints = [\"http://a.example\"]", "http is for this machine"),
        ] {
            let told = options(settings, "").unwrap_err();
            assert!(told.contains(word), "{settings}: {told}");
        }
    }
}
