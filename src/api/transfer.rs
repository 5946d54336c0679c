//! A look that makes a target's data available elsewhere, in the ledger: opened before its first byte,
//! closed with how much was told.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::Caller;
use crate::api::Resources;
use crate::api::fail::Fail;
use crate::audit::LedgerEvent;
use crate::audit::entry::Volume;
use crate::model::DataClass;
use crate::model::SessionId;
use crate::model::fault::Chain;
use crate::model::refusal::IntoRefusal;
use crate::policy;
use crate::policy::Allowed;
use crate::policy::transfer::Outcome;
use crate::session::guard;
use crate::session::guard::About;

/// A look that the ledger is told of. It ends when this is dropped.
pub(super) struct Transfer {
    resources: Arc<Resources>,
    session: SessionId,
    look: SessionId,
    classes: BTreeSet<DataClass>,
    volume: Volume,
}

impl Transfer {
    /// Tells the ledger that a look begins, unless the law takes no notice of it. `direction`:
    /// `replay`, `search` or `approve`; a search is of no session.
    pub(super) fn open(
        resources: &Arc<Resources>,
        caller: &Caller,
        (direction, session): (&str, Option<SessionId>),
        allowed: &Allowed,
    ) -> Result<Option<Self>, Fail> {
        let Some(access) = &allowed.access else { return Ok(None) };
        if access.decision.outcome == Outcome::None {
            return Ok(None);
        }
        let snapshot = Arc::clone(&resources.gateway.version().snapshot);
        let (principal, target) = (caller.principal(), &access.facts);
        let about = About {
            principal,
            origin: &caller.origin,
            target,
            version: snapshot.version(),
            rules: &allowed.rules,
        };
        let facts = guard::facts(about, &snapshot, &access.decision, true);
        let classes = seen(caller, resources, &snapshot, access);
        let look = SessionId::fresh();
        let session = session.unwrap_or(look);
        record(
            resources,
            &LedgerEvent::TransferOpened {
                session,
                from: target.owner.to_string(),
                to: principal
                    .entity
                    .as_ref()
                    .map_or("unknown", |entity| entity.as_str())
                    .to_owned(),
                place: caller.origin.country.as_ref().map(ToString::to_string),
                direction: direction.to_owned(),
                classes: classes.clone(),
                basis: guard::note(&access.decision),
                facts: Some(Box::new(facts)),
                look: Some(look),
            },
        )?;
        let resources = Arc::clone(resources);
        Ok(Some(Self { resources, session, look, classes, volume: Volume::default() }))
    }

    /// Counts what is told.
    pub(super) fn count(&mut self, rows: usize, bytes: usize) {
        let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
        self.volume.add(Volume { rows: number(rows), bytes: number(bytes), masked: 0 });
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let each = self.classes.iter().map(|class| (class.clone(), self.volume));
        let closed = LedgerEvent::TransferVolume {
            session: self.session,
            volume: self.volume,
            classes: each.collect(),
            written: BTreeMap::new(),
            closed: true,
            look: Some(self.look),
        };
        // The log says if it fails; without this entry the export has it as open, or unclean.
        let _said = record(&self.resources, &closed);
    }
}

/// The classes of the target, or of the command, that are shown.
fn seen(
    caller: &Caller,
    resources: &Resources,
    snapshot: &policy::Snapshot,
    access: &policy::Access,
) -> BTreeSet<DataClass> {
    let authentication = caller.verified.authentication();
    let who = policy::Who {
        principal: caller.principal(),
        origin: &caller.origin,
        authentication: authentication.as_ref(),
    };
    let now = resources.gateway.parts.clock.now();
    let law = access.facts.law();
    let place = (&access.facts.name, Some(&law));
    policy::view(snapshot, who, place, &access.classes, now).shown().clone()
}

fn record(resources: &Resources, event: &LedgerEvent) -> Result<(), Fail> {
    let recorded = resources.gateway.parts.audit.record(event);
    recorded.map(drop).map_err(|error| {
        tracing::error!(fault = "gateway", "{}", Chain(&error));
        Fail(error.refusal())
    })
}
