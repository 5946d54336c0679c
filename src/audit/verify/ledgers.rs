//! The ledgers among the files: their trees as they grow, their keys, and the checkpoints that count
//! their entries.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use crate::audit::LedgerEvent;
use crate::audit::chain::Head;
use crate::audit::ledger;
use crate::audit::note::NoteError;
use crate::audit::note::Verifier;
use crate::audit::tree;
use crate::audit::tree::Frontier;
use crate::audit::verify::LedgerReport;
use crate::audit::verify::Options;
use crate::audit::verify::Problem;
use crate::audit::verify::VerifyError;
use crate::audit::verify::checkpoints::Checkpoints;
use crate::audit::verify::checkpoints::Found;
use crate::audit::verify::given::Given;
use crate::audit::verify::pins::Pins;
use crate::audit::verify::receipts::Read;
use crate::audit::verify::report::Findings;
use crate::audit::verify::walk::Entry;
use crate::audit::verify::walk::Visit;
use crate::model::digest::Digest;

/// What is known of one ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The file that it begins in.
    file: PathBuf,
    /// What its first entry has as `prev`, which tells the gateway.
    prev: Digest,
    pub(super) gateway: Option<String>,
    /// Some entry said a gateway's id that the first entry's `prev` is not of.
    misnamed: bool,
    head: Head,
    frontier: Frontier,
    /// No entry is missing so far.
    whole: bool,
    /// The keys that its entries name.
    pub(super) own: Vec<Verifier>,
    /// The keys that are known from elsewhere, and those that they, or a checkpoint that was kept,
    /// vouched for.
    pub(super) trusted: Vec<Verifier>,
    checkpoints: u64,
    /// How many entries the largest checkpoint counts.
    counted: u64,
    checkpointed: u64,
    signed: u64,
    held: u64,
    /// The first checkpoint that nobody known has signed, and how many there are.
    unsigned: Option<(Found, u64)>,
}

impl Ledger {
    fn new(file: &Path, prev: Digest, keys: &[Verifier]) -> Self {
        Self {
            file: file.to_owned(),
            prev,
            gateway: None,
            misnamed: false,
            head: Head { entries: 0, digest: prev },
            frontier: Frontier::new(),
            whole: true,
            own: Vec::new(),
            trusted: keys.to_vec(),
            checkpoints: 0,
            counted: 0,
            checkpointed: 0,
            signed: 0,
            held: 0,
            unsigned: None,
        }
    }

    pub(super) fn report(self) -> LedgerReport {
        let counted = match self.believed() {
            u64::MAX => self.checkpointed,
            believed => believed,
        };
        LedgerReport {
            origin: self.own.last().map(|key| key.name().to_string()),
            gateway: self.gateway,
            head: self.head,
            root: self.whole.then(|| self.frontier.root()),
            checkpoints: self.checkpoints,
            checkpointed: self.checkpointed,
            signed: self.signed,
            held: self.held,
            uncounted: self.head.entries.saturating_sub(counted),
        }
    }

    /// The file that it begins in.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// How many of its entries may excuse something: those that a checkpoint counts which is believed.
    /// All, where nothing is known from elsewhere.
    pub(super) fn believed(&self) -> u64 {
        if self.trusted.is_empty() && self.held == 0 {
            u64::MAX
        } else {
            self.held.max(self.signed)
        }
    }

    /// Whether checkpoints with this origin are about it; `None` where it does not say.
    pub(super) fn is_called(&self, origin: &str) -> Option<bool> {
        if self.own.is_empty() {
            return None;
        }
        Some(self.own.iter().any(|key| key.name().as_str() == origin))
    }

    /// Every key that is known for it.
    fn keys(&self) -> Vec<Verifier> {
        let mut keys = self.trusted.clone();
        keys.extend(self.own.iter().filter(|key| !self.trusted.contains(key)).cloned());
        keys
    }

    /// What the entry at a start says of the ledger itself; an error where it is another's.
    fn started(&mut self, gateway: &str, key: Option<&str>) -> Result<(), String> {
        if self.whole && ledger::origin(gateway) != self.prev {
            self.misnamed = true;
            return Err(format!("it is about the gateway {gateway}, and the ledger is another's"));
        }
        self.gateway = Some(gateway.to_owned());
        if let Some(key) = key {
            let key = key.parse::<Verifier>().map_err(|error| error.to_string())?;
            // A ledger may go back to a key.
            self.own.retain(|known| *known != key);
            self.own.push(key);
        }
        Ok(())
    }

    /// Compares a checkpoint that counts as many entries as there are now.
    fn meet(&mut self, found: Found) -> Result<(), Problem> {
        let size = found.checkpoint.size;
        self.counted = self.counted.max(size);
        if self.head.entries < size {
            let has = self.head.entries;
            let whose = match (found.held, found.of_receipt) {
                (true, _) => "the checkpoint that was kept",
                (false, true) => "the receipt's checkpoint",
                (false, false) => "the checkpoint given",
            };
            return Err(found.problem(format!(
                "{whose} counts {size} entries, and of the ledger ({}) only {has} can \
                 be read: its tail was lost or cut off",
                self.file.display()
            )));
        }
        if !self.whole {
            return Ok(());
        }
        self.checkpoints = self.checkpoints.saturating_add(1);
        if self.frontier.root() != found.checkpoint.root {
            return Err(found.problem(format!(
                "the checkpoint is not of the first {size} entries of {}: they were changed, or are \
                 another ledger's, or the checkpoint was changed",
                self.file.display()
            )));
        }
        let unknown = self.trusted.is_empty();
        if found.held {
            self.held = size;
            if unknown {
                // What it counts is the gateway's own word, and so are the keys that stand there.
                self.trusted = self.keys();
            }
        }
        match found.note.verify(&self.keys()) {
            Ok(signers) => {
                let own = |key: &&Verifier| *key.name() == found.checkpoint.origin;
                let trusted = |key: &Verifier| self.trusted.contains(key);
                let vouched = signers.iter().any(|key| own(key) && trusted(key));
                self.checkpointed = size;
                if vouched {
                    self.signed = size;
                    // Whoever signs for entries signs for the keys that they name.
                    self.trusted = self.keys();
                }
                Ok(())
            }
            Err(error @ NoteError::BadSignature(_)) => Err(found.problem(error.to_string())),
            // One that was kept elsewhere is believed because it was.
            Err(_) if found.held && unknown => Ok(()),
            Err(_) if self.keys().is_empty() => Ok(()),
            Err(_) => {
                match &mut self.unsigned {
                    Some((_, count)) => *count = count.saturating_add(1),
                    none => *none = Some((found, 1)),
                }
                Ok(())
            }
        }
    }

    /// What is wrong in the end.
    fn last(&mut self, keys: &[Verifier], gateways: &BTreeSet<String>) -> Vec<Problem> {
        let mut wrong = Vec::new();
        if let Some((found, count)) = self.unsigned.take() {
            let more =
                if count > 1 { format!(" ({count} checkpoints in all)") } else { String::new() };
            let who = if keys.is_empty() { "that the ledger names" } else { "that is known" };
            wrong.push(found.problem(format!(
                "no key {who} has signed this checkpoint: it, or the ledger, was made by somebody \
                 else{more}"
            )));
        }
        if !keys.is_empty() && self.signed < self.counted.max(1) && wrong.is_empty() {
            let from = self.signed;
            wrong.push(Problem::of(&self.file, match from {
                0 => "no checkpoint of this ledger that was signed by a key that you gave was given \
                      and fits it"
                    .to_owned(),
                _ => format!("behind entry {from}, no key that you gave has signed its checkpoints"),
            }));
        }
        let theirs = |id: &&String| ledger::origin(id) == self.prev;
        if self.whole && !self.misnamed && !gateways.is_empty() {
            match gateways.iter().find(theirs) {
                Some(id) => self.gateway = Some(id.clone()),
                None => wrong.push(Problem::of(
                    &self.file,
                    "it is the ledger of another gateway than the one named in the file `gateway`",
                )),
            }
        }
        wrong
    }
}

/// All ledgers, as they are read.
pub(super) struct Ledgers<'a, 'f> {
    keys: &'a [Verifier],
    gateways: &'a BTreeSet<String>,
    /// There was a folder, which is taken as a whole.
    folder: bool,
    all: Vec<Ledger>,
    checkpoints: Checkpoints,
    /// Receipts, by the number of the entry that they are of.
    receipts: BTreeMap<u64, Vec<&'a Read>>,
    pins: Pins,
    findings: &'a mut Findings<'f>,
}

impl<'a, 'f> Ledgers<'a, 'f> {
    pub(super) fn new(
        options: &'a Options,
        given: &'a Given,
        receipts: &'a [Read],
        pins: Pins,
        findings: &'a mut Findings<'f>,
    ) -> Result<Self, VerifyError> {
        let mut by_number = BTreeMap::<u64, Vec<&Read>>::new();
        for receipt in receipts {
            by_number.entry(receipt.receipt.number()).or_default().push(receipt);
        }
        Ok(Self {
            keys: &options.keys,
            gateways: &given.gateways,
            folder: given.folder,
            all: Vec::new(),
            checkpoints: Checkpoints::open(&given.checkpoints, receipts, findings)?,
            receipts: by_number,
            pins,
            findings,
        })
    }

    /// The ledgers, and what they say of recordings, once everything was read.
    pub(super) fn finish(mut self) -> Result<(Vec<Ledger>, Pins), VerifyError> {
        self.meet_until(u64::MAX)?;
        if self.all.is_empty() && !self.gateways.is_empty() {
            let what = "there is a gateway's state here, and not its ledger";
            self.findings.problem(Problem::of(Path::new("ledger.jsonl"), what));
        }
        for ledger in &mut self.all {
            for problem in ledger.last(self.keys, self.gateways) {
                self.findings.problem(problem);
            }
        }
        Ok((self.all, self.pins))
    }

    fn meet_until(&mut self, size: u64) -> Result<(), VerifyError> {
        while let Some(found) = self.checkpoints.next_until(size, self.findings)? {
            let origin = found.checkpoint.origin.as_str();
            let called = self.all.iter().position(|l| l.is_called(origin) == Some(true));
            let only = self.all.first().filter(|_| self.all.len() == 1);
            let unnamed = only.filter(|only| only.is_called(origin).is_none()).map(|_| 0);
            let at = called.or(unnamed);
            let none = self.all.is_empty();
            let met =
                match at.and_then(|at| self.all.get_mut(at)) {
                    Some(ledger) => ledger.meet(found),
                    // It verifies alone, and that is judged with the receipt.
                    None if found.of_receipt => Ok(()),
                    None if none && (found.held || self.folder) => Err(found
                        .problem("the ledger that the checkpoint is about is not among the files")),
                    None if none => alone(&found, self.keys),
                    None => Err(found.problem(format!(
                        "the checkpoint is about the ledger {origin}, which is not among the files"
                    ))),
                };
            if let Err(problem) = met {
                self.findings.problem(problem);
            }
        }
        Ok(())
    }
}

/// Verifies a checkpoint without a ledger, as far as that goes.
fn alone(found: &Found, keys: &[Verifier]) -> Result<(), Problem> {
    if keys.is_empty() {
        return Ok(());
    }
    let verified = found.note.checkpoint_by(keys);
    verified.map(|_| ()).map_err(|error| found.problem(error.to_string()))
}

impl Visit for Ledgers<'_, '_> {
    fn begin(&mut self, file: &Path, prev: Digest) {
        self.all.push(Ledger::new(file, prev, self.keys));
    }

    fn entry(&mut self, at: usize, entry: &Entry) {
        let Some(ledger) = self.all.get_mut(at) else { return };
        ledger.head = Head { entries: entry.line.n, digest: entry.digest };
        if ledger.whole {
            ledger.frontier.push(tree::leaf(&entry.text));
        }
        if entry.line.event == LedgerEvent::Unknown {
            self.findings.unknown(entry.kind());
        }
        if let LedgerEvent::Started { gateway, ledger_key, .. } = &entry.line.event
            && let Err(what) = ledger.started(gateway, ledger_key.as_deref())
        {
            let (file, n) = (&ledger.file, entry.line.n);
            self.findings.problem(Problem::at(file, n, entry.byte, what));
        }
        for receipt in self.receipts.get(&entry.line.n).into_iter().flatten() {
            let about = ledger.is_called(receipt.checkpoint.origin.as_str());
            if about != Some(false) && receipt.receipt.entry() != entry.text {
                let what = format!(
                    "the receipt's entry {} is another than the one in {}: one of the two was changed, \
                     or the ledger was forked",
                    entry.line.n,
                    ledger.file.display()
                );
                self.findings.problem(Problem::of(&receipt.file, what));
            }
        }
        self.pins.note(at, &entry.line);
    }

    fn broken(&mut self, at: usize) {
        if let Some(ledger) = self.all.get_mut(at) {
            ledger.whole = false;
        }
    }

    fn counted(&mut self, number: u64) -> Result<(), VerifyError> {
        self.meet_until(number)
    }

    fn problem(&mut self, problem: Problem) {
        self.findings.problem(problem);
    }

    fn read(&mut self, bytes: u64) {
        self.findings.read(bytes);
    }
}
