//! Who reads recordings as streams now: so many at most, and so many of one person.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::model::Principal;
use crate::model::Refusal;
use crate::model::refusal::RefusalCode;

/// Most streams at once.
const STREAMS_MAX: usize = 256;
/// Most streams of one person at once.
const STREAMS_PER_PERSON_MAX: usize = 16;

/// Counts the streams that are read.
#[derive(Debug, Default)]
pub struct Viewers(Arc<Mutex<BTreeMap<Viewer, usize>>>);

/// Issuer and subject.
type Viewer = (String, String);

/// A place among the viewers, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    viewers: Arc<Mutex<BTreeMap<Viewer, usize>>>,
    viewer: Viewer,
}

impl Viewers {
    /// A place for one more stream of `principal`.
    pub(super) fn enter(&self, principal: &Principal) -> Result<Place, Refusal> {
        let viewer = (principal.issuer.clone(), principal.subject.clone());
        let mut viewers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = viewers.get(&viewer).copied().unwrap_or_default();
        let all = viewers.values().copied().fold(0, usize::saturating_add);
        if own >= STREAMS_PER_PERSON_MAX || all >= STREAMS_MAX {
            let reason = format!(
                "too many recordings are read at once: at most {STREAMS_PER_PERSON_MAX} by one \
                 person, and {STREAMS_MAX} in all"
            );
            return Err(Refusal::new(RefusalCode::TooLarge, reason).hint("end one of yours first"));
        }
        viewers.insert(viewer.clone(), own.saturating_add(1));
        drop(viewers);
        Ok(Place { viewers: Arc::clone(&self.0), viewer })
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
        let viewers = Viewers::default();
        let gateway = Verified::gateway(None);
        let principal = gateway.principal();
        let enter = |_| viewers.enter(principal).unwrap();
        let mut places = (0..STREAMS_PER_PERSON_MAX).map(enter).collect::<Vec<_>>();
        viewers.enter(principal).unwrap_err();
        places.pop();
        places.push(viewers.enter(principal).unwrap());
        drop(places);
        assert!(viewers.0.lock().unwrap().is_empty());
    }
}
