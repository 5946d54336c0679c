//! What the ledger is told of a session: its admission, and the transfers it makes.
//!
//! A transfer is opened in the ledger before its first byte is released or sent; its volume follows
//! every 64 MiB and at the end.

use std::collections::BTreeSet;
use std::sync::Arc;

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

impl<'a> About<'a> {
    fn session(permit: &'a Permit, version: Digest) -> Self {
        Self {
            principal: permit.principal(),
            origin: permit.origin(),
            target: permit.target(),
            version,
            rules: permit.rules(),
        }
    }
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

impl Guard {
    /// Opens the transfer to the target in the ledger, where a command carries personal data.
    pub(super) fn writes(&self, command: &Command, snapshot: &Snapshot) -> Result<(), Refusal> {
        if command.writes.is_empty() {
            return Ok(());
        }
        if self.state().writing {
            self.wrote(command, 1, command.text.len());
            return Ok(());
        }
        let decision = policy::write_transfer(&self.permit, snapshot, &command.writes, self.now())?;
        if decision.outcome == Outcome::None {
            return Ok(());
        }
        let principal = self.permit.principal();
        let event = LedgerEvent::TransferOpened {
            session: self.session(),
            from: principal.entity.as_ref().map_or("unknown", |e| e.as_str()).to_owned(),
            to: self.permit.target().owner.to_string(),
            place: Some(self.permit.target().country.to_string()),
            direction: "write".to_owned(),
            classes: command.writes.clone(),
            basis: note(&decision),
            facts: Some(Box::new(facts(
                About::session(&self.permit, snapshot.version()),
                snapshot,
                &decision,
                false,
            ))),
            look: None,
        };
        self.parts.audit.record(&event).map_err(|error| self.unrecorded(&error))?;
        self.state().writing = true;
        self.wrote(command, 1, command.text.len());
        Ok(())
    }

    /// Counts what goes to the target with a command that writes, where that is a transfer.
    pub(super) fn wrote(&self, command: &Command, commands: u64, bytes: usize) {
        let mut state = self.state();
        if !state.writing {
            return;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        for class in &command.writes {
            let written = state.written.entry(class.clone()).or_default();
            written.add(Volume { rows: commands, bytes, masked: 0 });
        }
    }

    /// Counts what is released of an answer that may carry `classes`; before the first byte of a
    /// transfer the ledger is told.
    pub(super) fn account(
        &self,
        volume: Volume,
        classes: &BTreeSet<DataClass>,
    ) -> Result<(), Unrecorded> {
        let decision = self.permit.transfer();
        let mut state = self.state();
        let hidden = state.masks.as_ref().map(|kept| Arc::clone(&kept.applied));
        let shown = |class: &&DataClass| hidden.as_ref().is_none_or(|m| !m.hides(class));
        if volume.bytes > 0 && state.reading.is_none() && decision.outcome != Outcome::None {
            let classes = self.permit.target().classes.iter().filter(shown).cloned().collect();
            let principal = self.permit.principal();
            self.parts.audit.record(&LedgerEvent::TransferOpened {
                session: self.session(),
                from: self.permit.target().owner.to_string(),
                to: principal.entity.as_ref().map_or("unknown", |e| e.as_str()).to_owned(),
                place: self.permit.origin().country.as_ref().map(ToString::to_string),
                direction: "read".to_owned(),
                classes,
                basis: note(decision),
                facts: Some(Box::new(facts(
                    About::session(&self.permit, self.permit.version()),
                    &self.snapshot(),
                    decision,
                    true,
                ))),
                look: None,
            })?;
            state.reading = Some(0);
        }
        state.volume.add(volume);
        if state.reading.is_some() && volume.bytes > 0 {
            for class in classes.iter().filter(shown) {
                state.carried.entry(class.clone()).or_default().add(volume);
            }
        }
        if let Some(told) = state.reading
            && state.volume.bytes.saturating_sub(told) >= TRANSFER_NOTE_BYTES
        {
            let (session, volume) = (self.session(), state.volume);
            let (classes, written) = (state.carried.clone(), state.written.clone());
            self.parts.audit.record(&LedgerEvent::TransferVolume {
                session,
                volume,
                classes,
                written,
                closed: false,
                look: None,
            })?;
            state.reading = Some(state.volume.bytes);
        }
        Ok(())
    }
}
