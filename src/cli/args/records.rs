//! What can be typed about what happened: sessions, and the record.

use std::path::PathBuf;

use clap::Subcommand;

use crate::audit::keys::Purpose as KeyPurpose;
use crate::audit::note::KeyName;
use crate::audit::note::Verifier;
use crate::audit::verify;
use crate::cli::args::Gateway;
use crate::cli::args::ledger::Kept;
use crate::cli::args::reconcile::Reconcile;
use crate::cli::args::replay::Replay;
use crate::cli::args::replay::Watch;
use crate::model::Country;
use crate::model::DataClass;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::when::BadWhen;
use crate::model::when::When;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Sessions {
    /// List sessions, newest first
    Ls {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Find commands by their words: `customers AND ssn`, `"drop table"`, `public.cust*`
    Search {
        /// Words, joined by AND, OR and NOT; "words that follow each other"; a beginning*
        #[arg(value_name = "QUERY", required = true, num_args = 1.., allow_hyphen_values = false)]
        query: Vec<String>,
        #[command(flatten)]
        purpose: Purpose,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Show a session's commands, verdicts and results
    Show {
        /// The session's id
        #[arg(value_name = "ID")]
        session: SessionId,
        #[command(flatten)]
        purpose: Purpose,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Play a terminal again, or print any other session as a transcript
    ///
    /// Keys while a terminal is played: space stops it and lets it go on, + and - (or > and <) change the
    /// speed, . is one step, [ and ] go to the command or typed line before and after, q ends it.
    Replay(Box<Replay>),
    /// See a live session as it goes; Ctrl-C ends the look, not the session
    Watch(Watch),
    /// End a live session
    Kill {
        /// The session's id
        #[arg(value_name = "ID")]
        session: SessionId,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Put a recording under legal hold: it is kept, whatever its time
    Hold(Kept),
    /// Lift the legal hold of a recording
    Release(Kept),
    /// Erase a recording for good: its key is destroyed, and nobody can read it any more
    Erase(Kept),
}

/// What for.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Purpose {
    /// What you look for; needed where the session is not your own, and recorded
    #[arg(id = "purpose", long = "purpose", value_name = "TEXT")]
    pub(in crate::cli) said: Option<String>,
}

/// Which sessions.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of a command line")]
pub(in crate::cli) struct Which {
    /// Your own
    #[arg(long)]
    pub(in crate::cli) own: bool,
    /// Of somebody, by name or subject
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) user: Option<String>,
    /// At a target
    #[arg(long)]
    pub(in crate::cli) target: Option<TargetName>,
    /// That speak this
    #[arg(long, value_parser = ["postgres", "ssh", "http", "kubernetes"])]
    pub(in crate::cli) protocol: Option<String>,
    /// Not over before: 2026-11-29T12:00:00Z, 2026-11-29 (UTC), or so long ago: 30m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(in crate::cli) since: Option<String>,
    /// Begun before, likewise
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(in crate::cli) until: Option<String>,
    /// With a command that was denied
    #[arg(long)]
    pub(in crate::cli) denied: bool,
    /// With a command that waited for an approval
    #[arg(long)]
    pub(in crate::cli) held: bool,
    /// That were shown data of this class or one that nests in it, such as pii.email
    #[arg(long)]
    pub(in crate::cli) class: Option<DataClass>,
    /// From a country
    #[arg(long)]
    pub(in crate::cli) country: Option<Country>,
    /// That have not ended
    #[arg(long)]
    pub(in crate::cli) live: bool,
    /// How many at most
    #[arg(long, default_value_t = 50)]
    pub(in crate::cli) limit: u32,
}

/// A time, checked here and read by the gateway: so long before its own now.
fn time(text: &str) -> Result<String, BadWhen> {
    text.parse::<When>().map(|_| text.to_owned())
}

/// What is known of a record from elsewhere.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Known {
    /// A checkpoint that was kept elsewhere: everything that it counts must still be there
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// A ledger's public key (NAME+HASH+BASE64) from whom you trust; without one, those that the
    /// ledger itself names are taken
    #[arg(long, value_name = "KEY")]
    key: Vec<Verifier>,
    /// The region's store is not among the files: recordings that it has by the ledger are not missed
    #[arg(long)]
    without_store: bool,
    /// The gateway's spool is not among the files: recordings that no store has yet are not missed
    #[arg(long)]
    without_spool: bool,
}

impl Known {
    /// Whether anything was said.
    pub(in crate::cli) fn is_given(&self) -> bool {
        let files = !self.checkpoint.is_empty() || !self.key.is_empty();
        files || self.without_store || self.without_spool
    }

    /// How `files` are verified with it.
    pub(in crate::cli) fn of(&self, files: Vec<PathBuf>) -> verify::Options {
        let without = verify::Without { store: self.without_store, spool: self.without_spool };
        let (held, keys) = (self.checkpoint.clone(), self.key.clone());
        verify::Options { files, held, keys, without }
    }
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Audit {
    /// Print recordings as JSON lines, from files and the region's key alone
    Read {
        /// The gateway's state folder, or a folder with copies of recordings and their keys
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Only this session's
        #[arg(long, value_name = "ID")]
        session: Option<SessionId>,
        /// The region's wrapping key, and those before it; without any, the state folder's own
        #[arg(long = "wrapping-key", value_name = "FILE")]
        wrapping_keys: Vec<PathBuf>,
    },
    /// Find any changed, removed or reordered entry of a record, and any lost end, with files alone
    Verify {
        /// Ledgers, checkpoints, recordings and receipts; a folder, such as a gateway's state or a
        /// region's store, is taken as a whole: what its ledger names must be there
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        known: Known,
    },
    /// Write a receipt: an entry of the ledger, and the proof that it is in it, which verifies alone
    Prove {
        /// An entry's number, or the id of a session or hold
        #[arg(value_name = "ID")]
        id: String,
        /// Of a session: its end, which names the end of its recording, instead of its admission
        #[arg(long)]
        end: bool,
        /// A state folder, or a ledger's files with its checkpoints; without any, the gateway is asked
        #[arg(long, value_name = "FILE")]
        from: Vec<PathBuf>,
        /// The receipt's file, which must not be there yet; without it, it is printed
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Say how the record does: its store, its index, its checkpoint, its keys
    Status(Gateway),
    /// Make the index of commands again from the recordings, and wait until it is made
    Reindex(Gateway),
    /// Print the latest signed checkpoint of the ledger, to be kept elsewhere
    Checkpoint {
        /// A state folder, or files with checkpoints; without any, the gateway is asked
        #[arg(long, value_name = "FILE")]
        from: Vec<PathBuf>,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Make a key for the record, in a file that only its owner may read
    Keygen {
        /// What the key is for: `wrapping` the data keys of a region, or signing the `ledger`
        #[arg(long, value_name = "PURPOSE")]
        purpose: KeyPurpose,
        /// The ledger's name, to print the public key as public tools and `--key` take it
        #[arg(long, value_name = "NAME")]
        origin: Option<KeyName>,
        /// The file, which must not be there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Hold a target's own log against the record, and list what one has and the other has not
    Reconcile(Box<Reconcile>),
}
