//! What the ledger says: admissions, transfers, approvals, changes, and the heads of trails.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::chain::Head;
use crate::audit::entry::HoldEnding;
use crate::audit::entry::Opened;
use crate::audit::entry::TransferNote;
use crate::audit::entry::Volume;
use crate::audit::transfer::TransferFacts;
use crate::model::DataClass;
use crate::model::HoldId;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::digest::Digest;

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum LedgerEvent {
    /// The gateway started.
    Started {
        /// The gateway's id.
        gateway: String,
        /// The snapshot in force.
        snapshot: Digest,
        /// Targets in observe mode.
        observed: Vec<TargetName>,
        /// The key that signs this ledger from here on, as C2SP writes a verifier's key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ledger_key: Option<String>,
        /// The id of the key that wraps recordings' keys from here on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wrapping_key: Option<String>,
        /// The SHA-256 of the configuration file. `None`: it was written before the ledger said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        configuration: Option<Digest>,
    },
    /// The gateway stopped in order.
    Stopped {
        /// Why.
        reason: String,
    },
    /// A reload put another snapshot or another configuration in force: policies, facts and law are
    /// in the snapshot; addresses and references to credentials are in the configuration alone.
    Changed {
        /// The snapshot that was.
        from: Digest,
        /// The snapshot that is; it may be the same.
        to: Digest,
        /// Targets in observe mode.
        observed: Vec<TargetName>,
        /// The SHA-256 of the configuration file. `None`: it was written before the ledger said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        configuration: Option<Digest>,
    },
    /// A session was admitted.
    Admitted(Box<Opened>),
    /// A principal was refused at connect.
    Refused {
        /// Who asked.
        principal: Arc<Principal>,
        /// From where.
        origin: Origin,
        /// For what, as the client wrote it.
        target: String,
        /// Why not.
        refusal: Refusal,
        /// The snapshot that decided.
        snapshot: Digest,
    },
    /// Personal data is about to become available across a border, or to be watched for it.
    TransferOpened {
        /// The session.
        session: SessionId,
        /// The exporter: the entity that answers for the data (of a write: the principal's).
        from: String,
        /// The importer: the principal's entity (of a write: the one that answers for the target).
        to: String,
        /// Where the importer's person sits.
        place: Option<String>,
        /// `read` or `write`; of a look at what was recorded or waits, `replay`, `search` or `approve`.
        direction: String,
        /// Which classes.
        classes: BTreeSet<DataClass>,
        /// On what legal basis.
        basis: TransferNote,
        /// Who, at which target, from where, and what it rests on. `None`: it was written before the
        /// ledger said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        facts: Option<Box<TransferFacts>>,
        /// Of a look, its own id: it counts apart from the session that is looked at. A search is of
        /// many sessions, and has this in place of one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        look: Option<SessionId>,
    },
    /// How much a transfer moved so far, and whether that is all.
    TransferVolume {
        /// The session.
        session: SessionId,
        /// How much.
        volume: Volume,
        /// How much of it may have carried each class.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        classes: BTreeMap<DataClass, Volume>,
        /// Of a write transfer, how much went to the target: commands as `rows`, and their bytes.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        written: BTreeMap<DataClass, Volume>,
        /// The session, or the look, has ended.
        closed: bool,
        /// Of which look, if it is of one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        look: Option<SessionId>,
    },
    /// A transfer's session did not end in order; the volume is at least what its trail has.
    TransferUnclean {
        /// The session.
        session: SessionId,
        /// What the trail has.
        volume: Volume,
    },
    /// A command waits for an approval.
    Held {
        /// The hold's id.
        hold: HoldId,
        /// The session.
        session: SessionId,
        /// The command's number.
        number: u64,
        /// What an approval is for: the digest of the exact command.
        exactly: Digest,
    },
    /// A hold ended.
    HoldEnded {
        /// The hold's id.
        hold: HoldId,
        /// How.
        ending: HoldEnding,
    },
    /// Somebody used the control plane: read a trail, ended a session.
    Control {
        /// Who.
        principal: Arc<Principal>,
        /// From where.
        origin: Origin,
        /// `replay`, `search`, `kill`, …
        action: String,
        /// Of what; of a search, what was looked for and where.
        of: String,
        /// The rules that permitted it; none when it was refused.
        rules: Vec<RuleId>,
        /// Why not, if it was refused.
        refusal: Option<Refusal>,
        /// What for, in the words of whoever asked, where they had to say it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        purpose: Option<String>,
    },
    /// Where open trails stand, every 10 s.
    Heads {
        /// The trails.
        trails: BTreeMap<SessionId, Head>,
    },
    /// A trail was closed.
    TrailClosed {
        /// The session.
        session: SessionId,
        /// Where it ends.
        head: Head,
    },
    /// After a crash: a trail was found open. What is readable ends at `head`.
    TrailRecovered {
        /// The session.
        session: SessionId,
        /// Where the readable part ends.
        head: Head,
        /// What is wrong behind it, if anything.
        damage: Option<String>,
    },
    /// The region's store has a recording wholly.
    Stored {
        /// The session.
        session: SessionId,
        /// Which store.
        store: String,
        /// How long it is, in bytes.
        bytes: u64,
    },
    /// The region's store does not take what is recorded; it waits in the spool.
    StoreFailing {
        /// Why.
        why: String,
    },
    /// The store takes what is recorded again; nothing was dropped.
    StoreRecovered {
        /// Since when it had failed.
        since: Timestamp,
    },
    /// The store was asked about itself, and something is to be told: where it is, that it is locked.
    StoreChecked {
        /// Which store.
        store: String,
        /// What was found.
        findings: Vec<String>,
        /// No session may begin.
        barred: bool,
    },
    /// A recording is kept until this is lifted, whatever its time.
    LegalHold {
        /// The session.
        session: SessionId,
        /// Who said so.
        by: Arc<Principal>,
        /// Why.
        reason: String,
    },
    /// A recording is not kept for a legal hold any more.
    LegalHoldLifted {
        /// The session.
        session: SessionId,
        /// Who said so.
        by: Arc<Principal>,
        /// Why.
        reason: String,
    },
    /// A recording is erased: its key is destroyed.
    Erased {
        /// The session.
        session: SessionId,
        /// Who said so.
        by: Arc<Principal>,
        /// Why.
        reason: String,
    },
    /// A recording's time is over: its key is destroyed.
    Expired {
        /// The session.
        session: SessionId,
        /// How long recordings are kept, in days.
        kept_days: u32,
    },
    /// A legal basis, its assessment or the law data ends soon, or has ended.
    BasisEnds {
        /// Which.
        id: RuleId,
        /// What of it: `basis`, `assessment`, `mechanism` or `law data`.
        what: String,
        /// Its last day.
        last_day: jiff::civil::Date,
    },
    /// The clock was set while the gateway ran.
    ClockStepped {
        /// By how much, in milliseconds; forwards is positive.
        by_ms: i64,
    },
    /// After a crash: the ledger ended in half an entry, which was set aside.
    TornTail {
        /// How many bytes.
        bytes: u64,
        /// The file that has them now.
        kept_as: String,
    },
    /// Something that a later version wrote. Its line says what; this version never writes it.
    #[serde(other, skip_serializing)]
    Unknown,
}
