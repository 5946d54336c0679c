//! What can be typed. The commands that sign in and connect are in [`access`], those about what
//! happened in [`records`] and [`ledger`].

pub(super) mod access;
pub(super) mod ledger;
pub(super) mod reconcile;
pub(super) mod records;
pub(super) mod replay;

use std::path::PathBuf;

use clap::Parser;
use clap::Subcommand;
use secrecy::SecretString;

use crate::model::Country;
use crate::model::EntityId;
use crate::model::HoldId;
use crate::model::TargetName;

/// An access gateway that keeps data in its region, and can prove it.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 refused, 2 wrong command line or file, 3 gateway \
                        not reached, 4 record damaged.")]
pub(super) struct Args {
    /// Print JSON, for machines
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a gateway until SIGTERM
    Serve {
        /// Its configuration
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration, its policies, the files it names and its store; or how a token is read
    Check {
        /// The configuration
        #[arg(value_name = "FILE", required_unless_present = "token_read")]
        config: Option<PathBuf>,
        /// Do not ask the store where it is and how it keeps what is written
        #[arg(long, requires = "config")]
        offline: bool,
        /// A file with a provider's token: ask the gateway how it reads it, and what its holder may
        /// reach
        #[arg(id = "token_read", long = "token", value_name = "FILE")]
        token: Option<PathBuf>,
        #[command(flatten)]
        gateway: Place,
    },
    /// Run a gateway with embedded defaults in front of real servers, to try it out
    Demo(DemoArgs),
    /// Sign in: in the browser, with a code on another device, or as a workload of CI
    Login(access::Login),
    /// End your login here, or on every device
    Logout(access::Logout),
    /// List and revoke what you, or others, are signed in with
    Credentials(access::Credentials),
    /// List the gateways that you know, and choose one
    Profiles(access::Profiles),
    /// Show who you are to the gateway, and from where it sees you come
    Whoami(Gateway),
    /// List the targets that you may reach from where you are
    Targets(Gateway),
    /// Open psql at a target
    Psql(access::Psql),
    /// Open a shell, or run a command, at a target
    Ssh(access::Ssh),
    /// Print the settings with which plain ssh, scp, git and Ansible reach targets as NAME.weir
    SshConfig(access::SshConfig),
    /// Renew the SSH certificate where that is due
    #[command(hide = true)]
    SshCertificate(access::SshCertificate),
    /// Carry one SSH connection to a target
    #[command(hide = true)]
    ProxyCommand(access::ProxyCommand),
    /// Print a kubeconfig for targets, or merge it into yours
    Kubeconfig(access::Kubeconfig),
    /// Print a credential for kubectl
    #[command(hide = true)]
    KubeCredential(Gateway),
    /// Give local ports or sockets to tools that can do none of this
    Proxy(access::Proxy),
    /// Turn what a team has into entries of a gateway's catalogue
    Import(access::Import),
    /// Read the ledger: who was let in, which transfers there were, what was changed
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// List, show and end sessions
    #[command(subcommand)]
    Sessions(records::Sessions),
    /// List commands that wait for an approval: yours, and those you may answer
    Requests(Gateway),
    /// Let exactly one held command go on
    Approve {
        /// The hold's id, such as h-7kq2m9xd
        #[arg(value_name = "ID")]
        hold: HoldId,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Refuse a held command
    Deny {
        /// The hold's id, such as h-7kq2m9xd
        #[arg(value_name = "ID")]
        hold: HoldId,
        /// Why, for whoever asked
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Ask what policy says
    #[command(subcommand)]
    Policy(Policy),
    /// Check a record
    #[command(subcommand)]
    Audit(records::Audit),
    /// Print the manual page, or write the pages of all commands into a folder
    Man {
        /// The folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Where the gateway is, and who asks.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Gateway {
    /// The gateway's URL; else that of the profile
    #[arg(id = "gateway_url", long = "gateway", env = "WEIR_GATEWAY", value_name = "URL")]
    pub(super) url: Option<String>,
    /// A profile: a gateway that you have signed in at, by name; else the default one
    #[arg(long, env = "WEIR_PROFILE", value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// Who vouches for the gateway's certificate; else the system's roots
    #[arg(long, env = "WEIR_CA_FILE", value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Your provider's token
    #[arg(long, env = "WEIR_TOKEN", hide_env_values = true, hide = true)]
    pub(super) token: Option<SecretString>,
}

/// Where the gateway is, for a command whose `--token` is something else.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Place {
    /// The gateway's URL; else that of the profile
    #[arg(long = "gateway", env = "WEIR_GATEWAY", value_name = "URL")]
    url: Option<String>,
    /// A profile: a gateway that you have signed in at, by name; else the default one
    #[arg(long, env = "WEIR_PROFILE", value_name = "NAME")]
    profile: Option<String>,
    /// Who vouches for the gateway's certificate; else the system's roots
    #[arg(long, env = "WEIR_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl From<Place> for Gateway {
    fn from(place: Place) -> Self {
        let Place { url, profile, ca_file } = place;
        let token = crate::cli::home::variable("WEIR_TOKEN").map(SecretString::from);
        Self { url, profile, ca_file, token }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Where the demo keeps its state; made anew each time, and kept. Without it, a folder of its
    /// own below the system's temporary one, which is removed at the end
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// The port of the gateway; 0 takes a free one
    #[arg(long, default_value_t = 8443)]
    pub(super) port: u16,
    /// The port of "an office in Singapore", a relay that adds a PROXY header; 0 takes a free one
    #[arg(long, default_value_t = 8444)]
    pub(super) office_port: u16,
    /// Add a Kubernetes cluster: a kubeconfig whose user may impersonate people
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Would this command be allowed, and by which rules?
    Explain {
        /// Who would ask, by name; without it, you
        #[arg(long = "as", value_name = "NAME")]
        who: Option<String>,
        /// Their roles, instead of those they had when last seen
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// Their entity, instead of the one they had when last seen
        #[arg(long)]
        entity: Option<EntityId>,
        /// From which country; without it, from where you are
        #[arg(long, value_name = "COUNTRY")]
        from: Option<Country>,
        /// How long ago they would have signed in; without it, when you did, or long ago
        #[arg(long, value_name = "SECONDS")]
        auth_age: Option<u32>,
        /// How strong their provider would call it (acr)
        #[arg(long, value_name = "WORD")]
        acr: Option<String>,
        /// By which methods they would have signed in (amr), such as hwk,otp
        #[arg(long, value_name = "WORD", value_delimiter = ',')]
        amr: Vec<String>,
        /// At which target
        #[arg(long, value_name = "TARGET")]
        target: TargetName,
        /// The command, in the target's own words; without it, only whether they may connect
        command: Option<String>,
        #[command(flatten)]
        gateway: Gateway,
    },
}
