//! Which entries of a ledger are asked for.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::audit::LedgerEvent;
use crate::audit::export::Raw;
use crate::audit::export::Window;
use crate::model::Principal;
use crate::model::SessionId;
use crate::model::TargetName;

/// What is asked for; what is left out does not matter.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// Written then.
    pub window: Window,
    /// About this session.
    pub session: Option<SessionId>,
    /// About somebody, by name or subject: what they did, and what was done to it.
    pub user: Option<String>,
    /// About this target.
    pub target: Option<TargetName>,
    /// Of this kind, as entries have it in `is`, such as `transfer-opened`.
    pub kind: Option<String>,
}

/// Whose the sessions are that are not over: entries that name a session alone are about its person
/// and its target as well.
#[derive(Debug, Default)]
pub struct Names {
    sessions: BTreeMap<SessionId, (String, String, TargetName)>,
}

#[derive(Deserialize)]
struct Tagged {
    event: Tag,
}

#[derive(Deserialize)]
struct Tag {
    is: String,
}

impl Names {
    /// Whether an entry is asked for. To be asked of each entry, in order.
    pub fn wants(&mut self, which: &Which, raw: Raw<'_>) -> bool {
        let event = &raw.line.event;
        if let LedgerEvent::Admitted(opened) = event {
            let who = &opened.principal;
            let about = (who.name.clone(), who.subject.clone(), opened.target.clone());
            self.sessions.insert(opened.session, about);
        }
        let wanted = self.is_wanted(which, raw);
        if let LedgerEvent::TrailClosed { session, .. }
        | LedgerEvent::TrailRecovered { session, .. } = event
        {
            self.sessions.remove(session);
        }
        wanted
    }

    fn is_wanted(&self, which: &Which, raw: Raw<'_>) -> bool {
        let event = &raw.line.event;
        let session = session_of(event);
        which.window.has(raw.line.at)
            && which.session.is_none_or(|wanted| session == Some(wanted))
            && which.user.as_ref().is_none_or(|user| self.is_about(event, session, user))
            && which.target.as_ref().is_none_or(|target| self.is_at(event, session, target))
            && which.kind.as_ref().is_none_or(|kind| {
                serde_json::from_slice::<Tagged>(raw.text).is_ok_and(|line| line.event.is == *kind)
            })
    }

    fn is_about(&self, event: &LedgerEvent, session: Option<SessionId>, user: &str) -> bool {
        let is = |who: &Principal| who.name == user || who.subject == user;
        let known = session.and_then(|session| self.sessions.get(&session));
        known.is_some_and(|(name, subject, _)| name == user || subject == user)
            || principal_of(event).is_some_and(is)
    }

    fn is_at(&self, event: &LedgerEvent, session: Option<SessionId>, wanted: &TargetName) -> bool {
        let known = session.and_then(|session| self.sessions.get(&session));
        if known.is_some_and(|(_, _, target)| target == wanted) {
            return true;
        }
        if let LedgerEvent::Refused { target, .. } = event {
            return target == wanted.as_str();
        }
        if let LedgerEvent::TransferOpened { facts: Some(facts), .. } = event {
            return facts.target == *wanted;
        }
        false
    }
}

/// The session that an entry is about.
pub(super) fn session_of(event: &LedgerEvent) -> Option<SessionId> {
    match event {
        LedgerEvent::Admitted(opened) => Some(opened.session),
        LedgerEvent::TransferOpened { session, .. }
        | LedgerEvent::TransferVolume { session, .. }
        | LedgerEvent::TransferUnclean { session, .. }
        | LedgerEvent::Held { session, .. }
        | LedgerEvent::TrailClosed { session, .. }
        | LedgerEvent::TrailRecovered { session, .. }
        | LedgerEvent::Stored { session, .. }
        | LedgerEvent::LegalHold { session, .. }
        | LedgerEvent::LegalHoldLifted { session, .. }
        | LedgerEvent::Erased { session, .. }
        | LedgerEvent::Expired { session, .. } => Some(*session),
        LedgerEvent::Control { of, .. } => of.parse().ok(),
        LedgerEvent::Started { .. }
        | LedgerEvent::Stopped { .. }
        | LedgerEvent::Changed { .. }
        | LedgerEvent::Refused { .. }
        | LedgerEvent::HoldEnded { .. }
        | LedgerEvent::Heads { .. }
        | LedgerEvent::StoreFailing { .. }
        | LedgerEvent::StoreRecovered { .. }
        | LedgerEvent::StoreChecked { .. }
        | LedgerEvent::BasisEnds { .. }
        | LedgerEvent::ClockStepped { .. }
        | LedgerEvent::TornTail { .. }
        | LedgerEvent::Unknown => None,
    }
}

/// Whoever did what an entry says.
fn principal_of(event: &LedgerEvent) -> Option<&Principal> {
    match event {
        LedgerEvent::Admitted(opened) => Some(&opened.principal),
        LedgerEvent::Refused { principal, .. } | LedgerEvent::Control { principal, .. } => {
            Some(principal)
        }
        LedgerEvent::TransferOpened { facts, .. } => facts.as_ref().map(|facts| &*facts.principal),
        LedgerEvent::LegalHold { by, .. }
        | LedgerEvent::LegalHoldLifted { by, .. }
        | LedgerEvent::Erased { by, .. } => Some(by),
        LedgerEvent::Started { .. }
        | LedgerEvent::Stopped { .. }
        | LedgerEvent::Changed { .. }
        | LedgerEvent::TransferVolume { .. }
        | LedgerEvent::TransferUnclean { .. }
        | LedgerEvent::Held { .. }
        | LedgerEvent::HoldEnded { .. }
        | LedgerEvent::Heads { .. }
        | LedgerEvent::TrailClosed { .. }
        | LedgerEvent::TrailRecovered { .. }
        | LedgerEvent::Stored { .. }
        | LedgerEvent::StoreFailing { .. }
        | LedgerEvent::StoreRecovered { .. }
        | LedgerEvent::StoreChecked { .. }
        | LedgerEvent::Expired { .. }
        | LedgerEvent::BasisEnds { .. }
        | LedgerEvent::ClockStepped { .. }
        | LedgerEvent::TornTail { .. }
        | LedgerEvent::Unknown => None,
    }
}
