//! What was read of a ledger, said so that it can be held against it.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::audit::LedgerEvent;
use crate::audit::chain::Head;
use crate::audit::export::Window;
use crate::audit::note::Checkpoint;
use crate::audit::note::SignedNote;
use crate::audit::tree;
use crate::audit::tree::Frontier;
use crate::audit::verify::reading::Entry;
use crate::model::digest::Digest;

/// What an export rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Whose ledger.
    pub gateway: Option<String>,
    /// The window that was asked for.
    pub window: Window,
    /// The entries that were read, every one, in order: the first and the last.
    pub read: Covered,
    /// Those of them that were written in the window. `None`: no entry was.
    pub within: Option<Covered>,
    /// Where the chain stands behind the last entry that was read.
    pub head: Head,
    /// How many entries the checkpoint counts. `None`: there is none.
    pub checkpointed: Option<u64>,
    /// The checkpoint, as it was signed.
    pub checkpoint: Option<String>,
    /// In one sentence.
    pub text: String,
}

/// Entries without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The number of the first.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
}

/// Takes note of what is read.
pub(super) struct Taker {
    window: Window,
    note: Option<SignedNote>,
    promised: Option<Checkpoint>,
    /// The root, once as many entries were read as the checkpoint counts.
    root: Option<Digest>,
    frontier: Frontier,
    gateway: Option<String>,
    first: Option<u64>,
    head: Option<Head>,
    within: Option<Covered>,
}

impl Taker {
    pub(super) fn new(window: Window, note: Option<SignedNote>) -> Self {
        let promised = note.as_ref().and_then(|note| note.checkpoint().ok());
        Self {
            window,
            note,
            promised,
            root: None,
            frontier: Frontier::new(),
            gateway: None,
            first: None,
            head: None,
            within: None,
        }
    }

    pub(super) fn take(&mut self, entry: &Entry) {
        let n = entry.line.n;
        self.first.get_or_insert(n);
        self.head = Some(Head { entries: n, digest: entry.digest });
        if self.first == Some(1) {
            self.frontier.push(tree::leaf(&entry.text));
        }
        if self.promised.as_ref().is_some_and(|promised| promised.size == n) {
            self.root = Some(self.frontier.root());
        }
        if let LedgerEvent::Started { gateway, .. } = &entry.line.event {
            self.gateway = Some(gateway.clone());
        }
        self.in_window(n, entry.line.at);
    }

    fn in_window(&mut self, n: u64, at: Timestamp) {
        if self.window.has(at) {
            let first = self.within.map_or(n, |within| within.first);
            self.within = Some(Covered { first, last: n });
        }
    }

    /// The statement, or why there is none.
    pub(super) fn finish(self) -> Result<Statement, String> {
        let Some((first, head)) = self.first.zip(self.head) else {
            return Err("there is no entry".to_owned());
        };
        if let Some(promised) = &self.promised
            && first == 1
            && self.root != Some(promised.root)
        {
            return Err(format!(
                "its checkpoint of {} entries is not of these entries",
                promised.size
            ));
        }
        let read = Covered { first, last: head.entries };
        let checkpointed = self.promised.as_ref().map(|promised| promised.size);
        let text = words(self.gateway.as_deref(), read, self.within, head, checkpointed);
        Ok(Statement {
            gateway: self.gateway,
            window: self.window,
            read,
            within: self.within,
            head,
            checkpointed,
            checkpoint: self.note.map(|note| note.to_string()),
            text,
        })
    }
}

fn words(
    gateway: Option<&str>,
    read: Covered,
    within: Option<Covered>,
    head: Head,
    checkpointed: Option<u64>,
) -> String {
    let gateway = gateway.unwrap_or("unknown");
    let Covered { first, last } = read;
    let within = match within {
        Some(Covered { first, last }) => format!("entries {first} to {last} are in the window"),
        None => "no entry is in the window".to_owned(),
    };
    let covered = match checkpointed {
        Some(size) if size >= last => format!("the checkpoint of {size} entries covers them all"),
        Some(size) => format!("the checkpoint covers entries 1 to {size}"),
        None => "no checkpoint covers them".to_owned(),
    };
    let digest = head.digest;
    format!(
        "ledger of gateway {gateway}: entries {first} to {last} were read, no gap; {within}; the hash \
         of entry {last} is {digest}; {covered}"
    )
}
