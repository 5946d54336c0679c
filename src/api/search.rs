//! Searching what was asked. It is an access to the data of each target, and decided for each as a
//! replay is: for whoever searches, and from where.
//!
//! Where somebody may not see a class of a target, what others asked there is not searched but for
//! what it does and touches: the texts may carry that class, and whoever may try out words would read
//! it by the hits. Such a hit says nothing but which command of which session it is.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use axum::Json;
use axum::extract::Query as Parameters;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use jiff::Timestamp;
use serde::Serialize;

use crate::api::Caller;
use crate::api::Resources;
use crate::api::Shared;
use crate::api::fail::Fail;
use crate::api::filter::Asked;
use crate::api::look::hides_something;
use crate::api::purpose::Purpose;
use crate::api::transfer::Transfer;
use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::refusal::RefusalCode;
use crate::policy;
use crate::policy::Allowed;
use crate::store::Context;
use crate::store::Filter;
use crate::store::Hit;
use crate::store::Owner;
use crate::store::Query;
use crate::store::StoreError;
use crate::store::Whose;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    /// Newest first.
    hits: Vec<Shown>,
    /// There may be more than one answer carries.
    cut: bool,
    /// How many targets were left out, because their sessions may not be searched by the caller from
    /// where they are.
    targets_left_out: usize,
}

/// A hit, as the caller may see it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Shown {
    Whole {
        #[serde(flatten)]
        hit: Box<Hit>,
        context: Context,
        withheld: bool,
    },
    Withheld {
        session: SessionId,
        number: u64,
        first_at: Timestamp,
        last_at: Timestamp,
        withheld: bool,
    },
}

/// Where the caller may search.
#[derive(Debug, Default)]
struct Reach {
    /// Targets at which they may search their own sessions.
    own: Vec<TargetName>,
    /// Targets at which they may search others' sessions.
    others: Vec<TargetName>,
    /// Likewise, but not the texts.
    names_only: Vec<TargetName>,
    rules: BTreeSet<RuleId>,
    /// What the law says of a search at each of them.
    allowed: BTreeMap<TargetName, Allowed>,
    left_out: usize,
    refusal: Option<Refusal>,
}

pub(super) async fn search(
    State(resources): Shared,
    caller: Caller,
    asked: Result<Parameters<Asked>, QueryRejection>,
) -> Result<Json<Found>, Fail> {
    let Parameters(asked) = asked.map_err(|error| Fail::malformed(&error.body_text()))?;
    let query = read(asked.q.as_deref().unwrap_or_default())?;
    let purpose = Purpose::of(asked.purpose.as_deref())?;
    let filter = asked.filter(resources.gateway.parts.clock.now())?;
    let everybody = caller.may_list_all(&resources)? && !asked.own;
    let reach = reach(&resources, &caller, asked.target(), everybody);
    let answer = reach.answer().and_then(|allowed| {
        purpose.is_enough(!everybody)?;
        Ok(allowed)
    });
    caller.note(&resources, ("search", asked.in_words()), purpose.said(), &answer)?;
    answer.map_err(Fail)?;

    let owner = || Owner::from(&**caller.principal());
    let places = [
        (Whose::Own(owner()), reach.own, false),
        (Whose::Others(owner()), reach.others, false),
        (Whose::Others(owner()), reach.names_only, true),
    ];
    let place = resources.searches.enter(caller.principal()).map_err(Fail)?;
    let mut hits = Vec::new();
    for (whose, within, names_only) in places {
        if within.is_empty() {
            continue;
        }
        let filter = Filter { whose, within: Some(within), ..filter.clone() };
        let found = resources.store.search(&query, names_only, &filter).await;
        let found = found.map_err(|error| failed(&error))?;
        hits.extend(found.into_iter().map(|hit| (hit, names_only)));
    }
    drop(place);
    hits.sort_by_key(|(hit, _)| std::cmp::Reverse((hit.last_at, hit.session, hit.number)));
    let limit = filter.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let cut = hits.len() >= limit;
    hits.truncate(limit);
    let mut transfers = BTreeMap::new();
    for target in hits.iter().map(|(hit, _)| &hit.target).collect::<BTreeSet<_>>() {
        let Some(allowed) = reach.allowed.get(target) else { continue };
        let transfer = Transfer::open(&resources, &caller, ("search", None), allowed)?;
        transfers.extend(transfer.map(|transfer| (target.clone(), transfer)));
    }
    let mut shown = Vec::new();
    for (hit, withheld) in hits {
        let target = hit.target.clone();
        let hit = Shown::of(hit, withheld, &query);
        if let Some(transfer) = transfers.get_mut(&target) {
            transfer.count(1, serde_json::to_vec(&hit).map_or(0, |hit| hit.len()));
        }
        shown.push(hit);
    }
    let hits = shown;
    Ok(Json(Found { hits, cut, targets_left_out: reach.left_out }))
}

fn read(text: &str) -> Result<Query, Fail> {
    text.parse().map_err(|bad| {
        let reason = format!("the search is not understood: {bad}");
        let hint = "join words by AND, OR and NOT, put \"words that follow each other\" into quotes, \
                    end a word with * for whatever else it has";
        Fail(Refusal::new(RefusalCode::Malformed, reason).hint(hint))
    })
}

fn failed(error: &StoreError) -> Fail {
    if error.is_slow() {
        let reason = "the search took too long";
        let hint = "narrow it: by rarer words, by --since, --target or --user";
        return Fail(Refusal::new(RefusalCode::TimedOut, reason).hint(hint));
    }
    Fail::ours(error)
}

/// Asks policy about each target that the search may be about.
fn reach(
    resources: &Resources,
    caller: &Caller,
    only: Option<&TargetName>,
    everybody: bool,
) -> Reach {
    let version = resources.gateway.version();
    let all = version.catalogue.targets().map(|target| target.facts().name.clone());
    let targets = only.map_or_else(|| all.collect::<Vec<_>>(), |only| vec![only.clone()]);
    let mut reach = Reach::default();
    for target in targets {
        let mut ask = |own: bool| {
            let ask = policy::Ask::Search { target: &target, own };
            match caller.decide(resources, &ask) {
                Ok(allowed) => {
                    reach.rules.extend(allowed.rules.iter().cloned());
                    reach.allowed.insert(target.clone(), allowed);
                    true
                }
                Err(refusal) => {
                    reach.refusal.get_or_insert(refusal);
                    false
                }
            }
        };
        let (own, others) = (ask(true), everybody && ask(false));
        if own {
            reach.own.push(target.clone());
        }
        if others && hides_something(resources, caller, (&target, None)) {
            reach.names_only.push(target);
        } else if others {
            reach.others.push(target);
        } else if everybody || !own {
            reach.left_out = reach.left_out.saturating_add(1);
        }
    }
    reach
}

impl Reach {
    /// The rules that permit the search, where anything of it is permitted.
    fn answer(&self) -> Result<Allowed, Refusal> {
        let nothing = [&self.own, &self.others, &self.names_only].iter().all(|all| all.is_empty());
        match &self.refusal {
            Some(refusal) if nothing => Err(refusal.clone()),
            Some(_) | None => {
                Ok(Allowed { rules: self.rules.iter().cloned().collect(), access: None })
            }
        }
    }
}

impl Shown {
    fn of(hit: Hit, withheld: bool, query: &Query) -> Self {
        if withheld {
            let Hit { session, number, first_at, last_at, .. } = hit;
            return Self::Withheld { session, number, first_at, last_at, withheld };
        }
        let context = query.context(&hit.text);
        Self::Whole { hit: Box::new(hit), context, withheld }
    }
}
