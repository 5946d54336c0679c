//! What the ledger is told of a session: its admission, and the transfers it makes.
//!
//! A transfer is opened in the ledger before its first byte is released or sent, and another before
//! the first byte that rests on another basis or carries another class to the target; volumes follow
//! every 64 MiB and at the end.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::audit::Admission;
use crate::audit::LedgerEvent;
use crate::audit::Unrecorded;
use crate::audit::entry::Opened;
use crate::audit::entry::Proof;
use crate::audit::entry::TransferNote;
use crate::audit::entry::Volume;
use crate::audit::transfer::BasisNote;
use crate::audit::transfer::PartyNote;
use crate::audit::transfer::TransferFacts;
use crate::audit::transfer::WayNote;
use crate::identity::Verified;
use crate::model::Command;
use crate::model::DataClass;
use crate::model::EntityId;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::TargetFacts;
use crate::model::digest::Digest;
use crate::policy;
use crate::policy::Permit;
use crate::policy::Snapshot;
use crate::policy::transfer::Basis;
use crate::policy::transfer::Decision;
use crate::policy::transfer::Obligation;
use crate::policy::transfer::Outcome;
use crate::session::guard::Guard;
use crate::session::guard::State;
use crate::session::guard::Withheld;
use crate::session::guard::ending::Standing;

/// Volume that moves in a transfer before the ledger is told again, in bytes.
const TRANSFER_NOTE_BYTES: u64 = 64 * 1024 * 1024;

impl Admission for Permit {
    fn opened(&self) -> Opened {
        let target = self.target();
        Opened {
            session: self.session(),
            principal: Arc::clone(self.principal()),
            origin: self.origin().clone(),
            target: target.name.clone(),
            protocol: target.protocol,
            region: target.region.clone(),
            snapshot: self.version(),
            rules: self.rules().to_vec(),
            transfer: note(self.transfer()),
            suppressed: self.suppressed(),
            observed: self.observed().cloned(),
            observe: target.observe,
            proof: proof(self.identity()),
            law: Some(Box::new(target.law())),
        }
    }
}

/// What the session rests on, where that is a login.
fn proof(identity: &Verified) -> Option<Proof> {
    Some(Proof {
        login: identity.login()?.clone(),
        credential: identity.credential()?.clone(),
        authentication: identity.authentication()?,
    })
}

/// A decision, as it is recorded.
pub fn note(decision: &Decision) -> TransferNote {
    TransferNote {
        outcome: decision.outcome.to_string(),
        rows: decision.rows.clone(),
        reason: decision.reason(),
    }
}

/// Who moves data from or to a target, and what let them.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Who.
    pub principal: &'a Arc<Principal>,
    /// From where.
    pub origin: &'a Origin,
    /// The target.
    pub target: &'a TargetFacts,
    /// The snapshot that decided.
    pub version: Digest,
    /// The rules that permitted it.
    pub rules: &'a [RuleId],
}

/// What is known of a transfer. Of the register, what is on file now under the ids that decided.
pub fn facts(
    about: About<'_>,
    snapshot: &Snapshot,
    decision: &Decision,
    read: bool,
) -> TransferFacts {
    let About { principal, origin, target, version, rules } = about;
    let party = |id: Option<&EntityId>| {
        let entity = id.and_then(|id| snapshot.entity(id));
        PartyNote {
            entity: id.cloned(),
            country: entity.map(|entity| entity.country.clone()),
            role: entity.map(|entity| entity.role),
        }
    };
    let (owner, own) = (party(Some(&target.owner)), party(principal.entity.as_ref()));
    let (exporter, importer) = if read { (owner, own) } else { (own, owner) };
    let ways = decision.legs.iter().map(|leg| WayNote {
        way: leg.leg.to_string(),
        regime: leg.regime.clone(),
        outcome: leg.outcome.to_string(),
        place: leg.place.clone(),
    });
    let bases = decision.bases.iter().filter_map(|id| snapshot.basis(id)).map(basis);
    TransferFacts {
        principal: Arc::clone(principal),
        origin: origin.clone(),
        target: target.name.clone(),
        protocol: target.protocol,
        region: target.region.clone(),
        data_country: target.country.clone(),
        exporter,
        importer,
        ways: ways.collect(),
        bases: bases.collect(),
        duties: decision.obligations.iter().map(duty).collect(),
        snapshot: version,
        rules: rules.to_vec(),
        valid_until: decision.valid_until,
    }
}

fn basis(basis: &Basis) -> BasisNote {
    BasisNote {
        id: basis.id.clone(),
        mechanism: basis.mechanism.clone(),
        document: basis.document,
        valid_from: basis.valid_from,
        valid_to: basis.valid_to,
        owner: basis.owner.clone(),
        approved_by: basis.approved_by.clone(),
        assessment: basis.tia.as_ref().map(|tia| tia.reference.clone()),
        filing: basis.filing.clone(),
    }
}

fn duty(duty: &Obligation) -> String {
    match duty {
        Obligation::LogPlace => "log-place".to_owned(),
        Obligation::LedgerRow => "ledger-row".to_owned(),
        Obligation::SecondBasis(row) => format!("second-basis:{row}"),
        Obligation::ConsentReference => "consent-reference".to_owned(),
        Obligation::Filing => "filing".to_owned(),
    }
}

/// The read transfer that is open in the ledger.
#[derive(Debug)]
pub(super) struct Reading {
    basis: Arc<Decision>,
    /// How much had been released when the ledger was last told, in bytes.
    told: u64,
}

/// A class that was asked about before it went to the target.
#[derive(Debug)]
pub(super) struct Writing {
    version: Digest,
    /// What the ledger was told, unless it is none.
    decision: Decision,
}

impl Writing {
    fn holds(&self, version: Digest, today: Date) -> bool {
        let days = self.decision.valid_until;
        self.version == version && days.is_none_or(|last| today <= last)
    }
}

/// Whether two decisions are one to an auditor: the same answer by the same law and register.
fn is_same(one: &Decision, other: &Decision) -> bool {
    one.outcome == other.outcome && one.rows == other.rows && one.bases == other.bases
}

impl Guard {
    /// Opens transfers to the target in the ledger, where a command carries personal data, and
    /// counts `commands` and `bytes` of it: one for each basis on which classes go there that the
    /// ledger was not told of yet, or told of on another basis.
    pub(super) fn writes(
        &self,
        command: &Command,
        snapshot: &Snapshot,
        commands: u64,
        bytes: usize,
    ) -> Result<(), Refusal> {
        if command.writes.is_empty() {
            return Ok(());
        }
        let (now, version) = (self.now(), snapshot.version());
        let today = now.to_zoned(TimeZone::UTC).date();
        let mut state = self.state();
        let (mut asked, mut fresh) = (Vec::new(), Vec::<(Decision, BTreeSet<DataClass>)>::new());
        for class in &command.writes {
            let known = state.writing.get(class);
            if known.is_some_and(|known| known.holds(version, today)) {
                continue;
            }
            let one = [class.clone()].into();
            let decision = policy::write_transfer(&self.permit, snapshot, &one, now)?;
            let told = known.is_some_and(|known| is_same(&known.decision, &decision));
            if !told && decision.outcome != Outcome::None {
                match fresh.iter_mut().find(|(other, _)| *other == decision) {
                    Some((_, classes)) => classes.extend(one),
                    None => fresh.push((decision.clone(), one)),
                }
            }
            asked.push((class.clone(), Writing { version, decision }));
        }
        for (decision, classes) in fresh {
            let again = classes.iter().any(|class| state.written.contains_key(class));
            self.opens(&mut state, again, &self.write(snapshot, &decision, classes))
                .map_err(|error| self.unrecorded(&error))?;
        }
        state.writing.extend(asked);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        for class in &command.writes {
            if state.writing.get(class).is_some_and(|w| w.decision.outcome != Outcome::None) {
                let written = state.written.entry(class.clone()).or_default();
                written.add(Volume { rows: commands, bytes, masked: 0 });
            }
        }
        Ok(())
    }

    /// Counts what is released of an answer that may carry `classes`; before the first byte of a
    /// transfer, and before the first on another basis, the ledger is told.
    pub(super) fn account(
        &self,
        volume: Volume,
        classes: &BTreeSet<DataClass>,
    ) -> Result<(), Withheld> {
        let standing = self.standing()?;
        let decision = &standing.decision;
        let transfers = volume.bytes > 0 && decision.outcome != Outcome::None;
        let mut state = self.state();
        let hidden = state.masks.as_ref().map(|kept| Arc::clone(&kept.applied));
        let shown = |class: &&DataClass| hidden.as_ref().is_none_or(|m| !m.hides(class));
        let open = state.reading.as_ref().is_some_and(|open| is_same(&open.basis, decision));
        if transfers && !open {
            let classes = self.permit.target().classes.iter().filter(shown).cloned().collect();
            let again = state.reading.is_some();
            self.opens(&mut state, again, &self.read(&standing, classes))?;
            let (basis, told) = (Arc::clone(decision), state.volume.bytes);
            state.reading = Some(Reading { basis, told });
        }
        state.volume.add(volume);
        if transfers {
            for class in classes.iter().filter(shown) {
                state.carried.entry(class.clone()).or_default().add(volume);
            }
        }
        let moved = state.volume.bytes;
        if let Some(reading) = &mut state.reading
            && moved.saturating_sub(reading.told) >= TRANSFER_NOTE_BYTES
        {
            reading.told = moved;
            self.parts.audit.record(&self.moved(&state))?;
        }
        Ok(())
    }

    /// Opens a transfer in the ledger. Where its data goes on on another basis than before, what
    /// moved until now is told first: it counts to that one.
    fn opens(
        &self,
        state: &mut State,
        again: bool,
        opened: &LedgerEvent,
    ) -> Result<(), Unrecorded> {
        if again {
            self.parts.audit.record(&self.moved(state))?;
        }
        self.parts.audit.record(opened)?;
        state.transfers = true;
        Ok(())
    }

    fn about<'a>(&'a self, snapshot: &Snapshot) -> About<'a> {
        About {
            principal: self.permit.principal(),
            origin: self.permit.origin(),
            target: self.permit.target(),
            version: snapshot.version(),
            rules: self.permit.rules(),
        }
    }

    fn moved(&self, state: &State) -> LedgerEvent {
        LedgerEvent::TransferVolume {
            session: self.session(),
            volume: state.volume,
            classes: state.carried.clone(),
            written: state.written.clone(),
            closed: false,
            look: None,
        }
    }

    fn read(&self, standing: &Standing, classes: BTreeSet<DataClass>) -> LedgerEvent {
        let (principal, decision) = (self.permit.principal(), &standing.decision);
        let snapshot = &standing.snapshot;
        LedgerEvent::TransferOpened {
            session: self.session(),
            from: self.permit.target().owner.to_string(),
            to: principal.entity.as_ref().map_or("unknown", |e| e.as_str()).to_owned(),
            place: self.permit.origin().country.as_ref().map(ToString::to_string),
            direction: "read".to_owned(),
            classes,
            basis: note(decision),
            facts: Some(Box::new(facts(self.about(snapshot), snapshot, decision, true))),
            look: None,
        }
    }

    fn write(
        &self,
        snapshot: &Snapshot,
        decision: &Decision,
        classes: BTreeSet<DataClass>,
    ) -> LedgerEvent {
        let principal = self.permit.principal();
        LedgerEvent::TransferOpened {
            session: self.session(),
            from: principal.entity.as_ref().map_or("unknown", |e| e.as_str()).to_owned(),
            to: self.permit.target().owner.to_string(),
            place: Some(self.permit.target().country.to_string()),
            direction: "write".to_owned(),
            classes,
            basis: note(decision),
            facts: Some(Box::new(facts(self.about(snapshot), snapshot, decision, false))),
            look: None,
        }
    }
}
