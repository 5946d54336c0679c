//! Providers of workloads whose claims are known: `preset = "github-actions"`.
//!
//! A preset says where a token has what; which repositories or namespaces count, and which roles
//! they have, only the operator knows (`[providers.require]`, `[providers.roles]`).

use serde::Deserialize;

/// A kind of provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// GitHub Actions: `https://token.actions.githubusercontent.com`, or an enterprise's own.
    GithubActions,
    /// GitLab CI/CD's `id_tokens`: `https://gitlab.com`, or one's own instance.
    GitlabCi,
    /// Service accounts of a Kubernetes cluster, by projected tokens.
    Kubernetes,
}

/// Expressions that are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) person: &'static str,
    pub(super) roles: &'static str,
    pub(super) attributes: &'static [(&'static str, &'static str)],
}

/// Where there is no preset.
pub(super) const PLAIN: Known =
    Known { name: "preferred_username", person: "sub", roles: "groups", attributes: &[] };

/// A job's name is its repository, and its word for a role too. All jobs of a repository count as
/// one when a request needs another's approval.
const GITHUB_ACTIONS: Known = Known {
    name: "repository",
    person: "first(repository_id, repository)",
    roles: "repository",
    attributes: &[
        ("repository", "repository"),
        ("owner", "repository_owner"),
        ("ref", "ref"),
        ("environment", "environment"),
        ("event", "event_name"),
        ("workflow", "job_workflow_ref"),
        ("run", "run_id"),
        ("started_by", "actor"),
    ],
};

const GITLAB_CI: Known = Known {
    name: "project_path",
    person: "first(project_id, project_path)",
    roles: "project_path",
    attributes: &[
        ("repository", "project_path"),
        ("namespace", "namespace_path"),
        ("ref", "ref"),
        ("ref_protected", "ref_protected"),
        ("environment", "environment"),
        ("event", "pipeline_source"),
        ("run", "pipeline_id"),
        ("started_by", "user_login"),
    ],
};

/// A service account is `namespace:name`.
const KUBERNETES: Known = Known {
    name: "match(sub, \"system:serviceaccount:*\")",
    person: "sub",
    roles: "match(sub, \"system:serviceaccount:*\")",
    attributes: &[
        ("namespace", "/kubernetes.io/namespace"),
        ("service_account", "/kubernetes.io/serviceaccount/name"),
        ("pod", "/kubernetes.io/pod/name"),
    ],
};

impl Preset {
    /// What is known of it.
    pub(super) fn claims(self) -> Known {
        match self {
            Self::GithubActions => GITHUB_ACTIONS,
            Self::GitlabCi => GITLAB_CI,
            Self::Kubernetes => KUBERNETES,
        }
    }

    /// Whether whoever has a repository there can have a token made out to any audience.
    pub fn is_public(self) -> bool {
        match self {
            Self::GithubActions | Self::GitlabCi => true,
            Self::Kubernetes => false,
        }
    }
}
