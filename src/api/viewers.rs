//! Who reads recordings, or searches, now: so many at most, and so many of one person.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::model::Principal;
use crate::model::Refusal;
use crate::model::refusal::RefusalCode;

/// Most streams at once, and of one person.
const STREAMS_MAX: (usize, usize) = (256, 16);
/// Most searches at once, and of one person.
const SEARCHES_MAX: (usize, usize) = (8, 2);

/// Counts those who look.
#[derive(Debug)]
pub struct Viewers {
    counts: Counts,
    what: &'static str,
    all_max: usize,
    own_max: usize,
}

type Counts = Arc<Mutex<BTreeMap<Viewer, usize>>>;

/// Issuer and subject.
type Viewer = (String, String);

/// A place among the viewers, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    viewers: Counts,
    viewer: Viewer,
}

impl Viewers {
    /// For those who read recordings.
    pub fn of_streams() -> Self {
        Self::new("recordings are read", STREAMS_MAX)
    }

    /// For those who search.
    pub fn of_searches() -> Self {
        Self::new("searches run", SEARCHES_MAX)
    }

    fn new(what: &'static str, (all_max, own_max): (usize, usize)) -> Self {
        Self { counts: Counts::default(), what, all_max, own_max }
    }

    /// A place for one more of `principal`.
    pub(super) fn enter(&self, principal: &Principal) -> Result<Place, Refusal> {
        let viewer = (principal.issuer.clone(), principal.subject.clone());
        let mut viewers = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = viewers.get(&viewer).copied().unwrap_or_default();
        let all = viewers.values().copied().fold(0, usize::saturating_add);
        if own >= self.own_max || all >= self.all_max {
            let Self { what, all_max, own_max, .. } = self;
            let reason = format!(
                "too many {what} at once: at most {own_max} by one person, and {all_max} in all"
            );
            return Err(Refusal::new(RefusalCode::TooLarge, reason).hint("end one of yours first"));
        }
        viewers.insert(viewer.clone(), own.saturating_add(1));
        drop(viewers);
        Ok(Place { viewers: Arc::clone(&self.counts), viewer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut viewers = self.viewers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = viewers.get_mut(&self.viewer) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                viewers.remove(&self.viewer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Verified;

    #[test]
    fn one_person_has_so_many_streams_and_gets_one_back_for_each_that_ends() {
        let viewers = Viewers::of_streams();
        let gateway = Verified::gateway(None);
        let principal = gateway.principal();
        let enter = |_| viewers.enter(principal).unwrap();
        let mut places = (0..STREAMS_MAX.1).map(enter).collect::<Vec<_>>();
        viewers.enter(principal).unwrap_err();
        places.pop();
        places.push(viewers.enter(principal).unwrap());
        drop(places);
        assert!(viewers.counts.lock().unwrap().is_empty());
    }
}
