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
use crate::identity::Verified;
use crate::model::Command;
use crate::model::DataClass;
use crate::model::Refusal;
use crate::policy;
use crate::policy::Permit;
use crate::policy::Snapshot;
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

fn note(decision: &policy::transfer::Decision) -> TransferNote {
    TransferNote {
        outcome: decision.outcome.to_string(),
        rows: decision.rows.clone(),
        reason: decision.reason(),
    }
}

impl Guard {
    /// Opens the transfer to the target in the ledger, where a command carries personal data.
    pub(super) fn writes(&self, command: &Command, snapshot: &Snapshot) -> Result<(), Refusal> {
        if command.writes.is_empty() || self.state().writing {
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
        };
        self.parts.audit.record(&event).map_err(|error| self.unrecorded(&error))?;
        self.state().writing = true;
        Ok(())
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
            let classes = state.carried.clone();
            self.parts.audit.record(&LedgerEvent::TransferVolume {
                session,
                volume,
                classes,
                closed: false,
            })?;
            state.reading = Some(state.volume.bytes);
        }
        Ok(())
    }
}
