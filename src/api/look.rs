//! A look at a recording: whether somebody may, and what of it they see.
//!
//! What a recording shows was decided for its principal, when it was made. Whoever looks is judged
//! now, its principal as well: they may have lost a role since, or sit elsewhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::Caller;
use crate::api::Resources;
use crate::api::fail::Fail;
use crate::api::purpose::Purpose;
use crate::api::transfer::Transfer;
use crate::audit::TrailEvent;
use crate::audit::entry::Opened;
use crate::model::DataClass;
use crate::model::LawFacts;
use crate::model::Principal;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::principal::Kind;
use crate::model::refusal::RefusalCode;
use crate::policy;
use crate::policy::Allowed;
use crate::store::Owner;
use crate::store::SessionRow;

/// Somebody who looks at a recording.
pub(super) struct Look {
    resources: Arc<Resources>,
    caller: Caller,
    opened: Opened,
    own: bool,
}

impl Look {
    /// Asks policy whether the caller may look, and puts the answer into the ledger as `action`.
    pub(super) fn begin(
        resources: &Arc<Resources>,
        caller: Caller,
        opened: Opened,
        (action, purpose): (&str, &Purpose),
    ) -> Result<(Self, Allowed), Fail> {
        let own = caller.principal().is_same(&opened.principal);
        let look = Self { resources: Arc::clone(resources), caller, opened, own };
        let noted = (action, look.session().to_string());
        let allowed = look.caller.may_look(resources, &look.ask(), noted, (purpose, own))?;
        Ok((look, allowed))
    }

    /// The session.
    pub(super) fn session(&self) -> SessionId {
        self.opened.session
    }

    /// Tells the ledger that the look begins, where the law asks for that.
    pub(super) fn transfer(&self, allowed: &Allowed) -> Result<Option<Transfer>, Fail> {
        let replay = ("replay", Some(self.session()));
        Transfer::open(&self.resources, &self.caller, replay, allowed)
    }

    /// It is their own session.
    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// Whether they still may.
    pub(super) fn may(&self) -> Result<(), Refusal> {
        let no = |reason: String| {
            Err(Refusal::new(RefusalCode::Unauthenticated, reason).hint("sign in again"))
        };
        if let Some(why) = self.caller.verified.ended() {
            return no(format!("your login has ended: {why}"));
        }
        if self.caller.verified.is_expired(self.resources.gateway.parts.clock.now()) {
            return no("your credential has expired".to_owned());
        }
        self.caller.decide(&self.resources, &self.ask()).map(drop)
    }

    fn ask(&self) -> policy::Ask<'_> {
        let Opened { target, principal: owner, law, .. } = &self.opened;
        policy::Ask::Replay { target, law: law.as_deref(), owner }
    }

    /// Every class that the target holds, or held when it was recorded.
    fn classes(&self) -> BTreeSet<DataClass> {
        held(&self.resources, self.place()).unwrap_or_default()
    }

    fn place(&self) -> (&TargetName, Option<&LawFacts>) {
        (&self.opened.target, self.opened.law.as_deref())
    }
}

/// What of a recording somebody sees: what was shown and sent, as long as they may see every class
/// that it may carry.
#[derive(Clone)]
pub(super) struct Sight {
    look: Arc<Look>,
    /// Classes that what was read so far may carry.
    shown: BTreeSet<DataClass>,
    withheld: bool,
}

impl Sight {
    /// At the beginning of a recording.
    pub(super) fn of(look: Arc<Look>) -> Self {
        // What somebody else was shown may carry any class; in observe mode nothing was masked.
        let all = !look.own || look.opened.observe;
        let shown = if all { look.classes() } else { BTreeSet::new() };
        let withheld = all && hides_something(&look.resources, &look.caller, look.place());
        Self { look, shown, withheld }
    }

    /// What was shown and sent is left out.
    pub(super) fn is_withheld(&self) -> bool {
        self.withheld
    }

    /// Reads what happened. `true`: from here on what is shown and sent is left out.
    pub(super) fn read(&mut self, event: &TrailEvent) -> bool {
        let TrailEvent::Masks { shown, hidden, observed } = event else { return false };
        let before = self.shown.len();
        self.shown.extend(shown.iter().cloned());
        if *observed {
            self.shown.extend(hidden.keys().cloned());
        }
        let narrows = !self.withheld && self.shown.len() > before && self.has_narrowed();
        self.withheld |= narrows;
        narrows
    }

    /// Whether something that they were told may carry a class that they may not see by now.
    pub(super) fn has_narrowed(&self) -> bool {
        let Look { resources, caller, .. } = &*self.look;
        !self.withheld && hides(resources, caller, self.look.place(), &self.shown)
    }
}

/// Whether the viewer may not see some class of the target from where they are: what somebody else
/// was shown then stays hidden from them. Of a recording, also a class that the target held then.
pub(super) fn hides_something(
    resources: &Resources,
    caller: &Caller,
    place: (&TargetName, Option<&LawFacts>),
) -> bool {
    // Of a target that is gone nothing is known, so everything is hidden.
    held(resources, place).is_none_or(|classes| hides(resources, caller, place, &classes))
}

/// Every class of a target, now and by `law`; `None`: there is no such target.
fn held(
    resources: &Resources,
    (target, law): (&TargetName, Option<&LawFacts>),
) -> Option<BTreeSet<DataClass>> {
    let mut classes = resources.gateway.version().snapshot.target(target)?.classes.clone();
    classes.extend(law.into_iter().flat_map(|law| law.classes.iter().cloned()));
    Some(classes)
}

fn hides(
    resources: &Resources,
    caller: &Caller,
    place: (&TargetName, Option<&LawFacts>),
    classes: &BTreeSet<DataClass>,
) -> bool {
    let snapshot = Arc::clone(&resources.gateway.version().snapshot);
    let now = resources.gateway.parts.clock.now();
    let authentication = caller.verified.authentication();
    let who = policy::Who {
        principal: caller.principal(),
        origin: &caller.origin,
        authentication: authentication.as_ref(),
    };
    policy::view(&snapshot, who, place, classes, now).hides_any(classes)
}

/// Whether the caller may see a session of which only the index says something: nothing of its
/// recording can be read.
pub(super) fn by_row(
    resources: &Resources,
    caller: &Caller,
    row: &SessionRow,
) -> (Result<Allowed, Refusal>, bool) {
    let me = Owner::from(&**caller.principal());
    let own = (&row.issuer, &row.subject) == (&me.issuer, &me.subject)
        && row.acting.as_ref() == Some(&me.acting);
    let owner = if own {
        Principal::clone(caller.principal())
    } else {
        // No caller is the gateway, so it is nobody's own.
        Principal {
            issuer: row.issuer.clone(),
            subject: row.subject.clone(),
            name: row.principal.clone(),
            kind: Kind::Gateway,
            roles: BTreeSet::new(),
            entity: None,
            residence: None,
            person: String::new(),
            attributes: std::collections::BTreeMap::new(),
            actors: Vec::new(),
        }
    };
    let ask = policy::Ask::Replay { target: &row.target, law: None, owner: &owner };
    (caller.decide(resources, &ask), own)
}
