//! What can be typed to sign in, and to connect.

use std::path::PathBuf;

use clap::Subcommand;
use clap::ValueEnum;

use crate::cli::args::Gateway;
use crate::model::TargetName;

/// `weir login`
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of a command line")]
pub(in crate::cli) struct Login {
    /// Show a link, a code and a QR code, to sign in on another device
    #[arg(long, conflicts_with_all = ["workload", "no_browser"])]
    pub(in crate::cli) device: bool,
    /// Sign in with the token that CI or a cluster gives to this job
    #[arg(long)]
    pub(in crate::cli) workload: bool,
    /// The file of that token, instead of the usual variables and files
    #[arg(long, value_name = "FILE", requires = "workload")]
    pub(in crate::cli) token_file: Option<PathBuf>,
    /// For whom CI shall make the token
    #[arg(long, value_name = "NAME", default_value = "weir", requires = "workload")]
    pub(in crate::cli) audience: String,
    /// Prove once more who you are, even where the provider still knows you
    #[arg(long)]
    pub(in crate::cli) fresh: bool,
    /// Prove it in this way, as a refusal may ask for
    #[arg(long, value_name = "ACR")]
    pub(in crate::cli) acr: Option<String>,
    /// The provider to sign in at, where there are several
    #[arg(long, value_name = "ISSUER")]
    pub(in crate::cli) provider: Option<String>,
    /// Print the link to open on this machine, and open nothing
    #[arg(long)]
    pub(in crate::cli) no_browser: bool,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

/// `weir logout`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Logout {
    /// On every device, not only here
    #[arg(long)]
    pub(in crate::cli) everywhere: bool,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

/// `weir credentials`
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct Credentials {
    #[command(subcommand)]
    pub(in crate::cli) verb: Option<CredentialsVerb>,
    #[command(flatten)]
    pub(in crate::cli) list: CredentialsList,
}

/// `weir credentials ls`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CredentialsList {
    /// Everybody's, for administrators
    #[arg(long)]
    pub(in crate::cli) all: bool,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CredentialsVerb {
    /// List logins and their credentials, newest first
    Ls(CredentialsList),
    /// End a login with all its credentials, or one credential; its sessions end too
    Revoke {
        /// The login's or the credential's id, such as l-7kq2m9xdb4tz or c-7kq2m9xdb4tz
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        gateway: Gateway,
    },
}

/// `weir profiles`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Profiles {
    #[command(subcommand)]
    pub(in crate::cli) verb: Option<ProfilesVerb>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ProfilesVerb {
    /// List profiles
    Ls,
    /// Make a profile the default
    Use {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Forget a profile, after `weir logout`
    Rm {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// `weir psql`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Psql {
    /// Print an entry of libpq's service file, with the files that a driver or GUI tool needs
    #[arg(long)]
    pub(in crate::cli) print: bool,
    /// Sign in to the database as this user, where the target offers it; else as yourself
    #[arg(long, short = 'U', value_name = "LOGIN")]
    pub(in crate::cli) user: Option<String>,
    /// The target, and a database of it: TARGET[/DATABASE]
    #[arg(value_name = "TARGET")]
    pub(in crate::cli) target: String,
    /// For psql
    #[arg(value_name = "PSQL ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(in crate::cli) args: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

/// `weir ssh`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Ssh {
    /// The login and the target: [LOGIN@]TARGET
    #[arg(value_name = "TARGET")]
    pub(in crate::cli) target: String,
    /// For ssh: a command
    #[arg(value_name = "SSH ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(in crate::cli) args: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

/// `weir ssh-config`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SshConfig {
    /// Keep it in a file, and include that from ~/.ssh/config
    #[arg(long)]
    pub(in crate::cli) install: bool,
    /// What the names of targets end with
    #[arg(long, value_name = "SUFFIX", default_value = "weir")]
    pub(in crate::cli) suffix: String,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

/// `weir ssh-certificate`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SshCertificate {
    /// Say only what goes wrong
    #[arg(long)]
    pub(in crate::cli) quiet: bool,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

/// `weir proxy-command`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ProxyCommand {
    /// What ssh was asked for: TARGET.SUFFIX
    #[arg(value_name = "HOST")]
    pub(in crate::cli) host: String,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

/// `weir kubeconfig`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Kubeconfig {
    /// Merge it into your kubeconfig, and leave what is there as it is
    #[arg(long)]
    pub(in crate::cli) merge: bool,
    /// Make the first target's context the current one
    #[arg(long = "use", requires = "merge")]
    pub(in crate::cli) current: bool,
    /// The targets; else every Kubernetes target that you may reach
    #[arg(value_name = "TARGET")]
    pub(in crate::cli) targets: Vec<TargetName>,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

/// `weir proxy`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Proxy {
    /// The targets, each with where to listen: TARGET, TARGET=PORT or TARGET=unix:PATH
    #[arg(value_name = "TARGET[=PLACE]", required = true)]
    pub(in crate::cli) targets: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) gateway: Gateway,
}

/// `weir import`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Import {
    /// What the file is
    #[arg(value_name = "KIND")]
    pub(in crate::cli) kind: ImportKind,
    /// The file
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ImportKind {
    /// libpq's connection service file
    #[value(name = "pg_service.conf", alias = "pg_service")]
    PgService,
    /// OpenSSH's client configuration
    #[value(name = "ssh_config")]
    SshConfig,
    /// kubectl's configuration
    #[value(name = "kubeconfig")]
    Kubeconfig,
}
