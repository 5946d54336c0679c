//! `[audit]`: what is recorded, when it counts as recorded, and with which keys.

use serde::Deserialize;
use toml::Spanned;

use crate::config::events::Events;
use crate::config::kms::Kms;
use crate::config::secret::SecretRef;
use crate::config::store::Store;
use crate::config::value::Within;

/// `[audit]`: what is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// What is kept of one command's result; the cut is marked.
    pub result_bytes_max: Within<0, 1_073_741_824>,
    /// What recordings may take on disk until the store has them; beyond it, commands are refused.
    pub spool_bytes_max: Within<1_048_576, 1_125_899_906_842_624>,
    /// When a record counts as written.
    pub level: Level,
    /// How much of results is kept.
    pub capture: Capture,
    /// The keys of the record.
    pub keys: Keys,
    /// Where the ledger goes as events.
    pub events: Vec<Events>,
    /// A key service that wraps the region's key.
    pub kms: Option<Kms>,
    /// Where it is kept for good.
    pub store: Store,
    /// For how long.
    pub retention: Retention,
}

/// `[audit.retention]`: how long recordings are kept. The ledger is kept for ever.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// So many days after a session's end its recording is erased, unless it is under a legal hold.
    /// Left out: never.
    pub days: Option<Within<1, 36_500>>,
}

/// `level`: when a record counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Once it has left the process.
    Process,
    /// Once the disk has it.
    Disk,
}

/// `capture`: how much of results is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capture {
    /// Their beginning; of terminals, everything.
    Sample,
    /// Everything.
    Full,
}

/// `[audit.keys]`: where the keys of the record are kept. Never one key for two purposes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// The region's key, which wraps each recording's own. Left out: made in the state folder.
    pub wrapping: Option<Spanned<SecretRef>>,
    /// Keys that wrapped before; they still open what they wrapped.
    pub wrapping_previous: Vec<Spanned<SecretRef>>,
    /// The key that signs the ledger. Left out: made in the state folder.
    pub signing: Option<Spanned<SecretRef>>,
    /// The key that signed before: it signs as well, so that everybody sees the ledger go on.
    pub signing_previous: Option<Spanned<SecretRef>>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            result_bytes_max: Within::nearest(65_536),
            spool_bytes_max: Within::nearest(10_737_418_240),
            level: Level::Process,
            capture: Capture::Sample,
            keys: Keys::default(),
            events: Vec::new(),
            kms: None,
            store: Store::default(),
            retention: Retention::default(),
        }
    }
}
