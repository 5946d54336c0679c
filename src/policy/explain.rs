//! What would the daemon say? Its own verdict, by its own code.
//!
//! Calls the functions that `admit` and `decide` call; adds nothing but words.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::Command;
use crate::model::Country;
use crate::model::Origin;
use crate::model::Refusal;
use crate::model::RuleId;
use crate::model::TargetName;
use crate::model::Verdict;
use crate::model::digest::Digest;
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;
use crate::policy::Who;
use crate::policy::admit;
use crate::policy::decide;
use crate::policy::seat::Purpose;
use crate::policy::seat::Seat;
use crate::policy::snapshot::Snapshot;
use crate::policy::step_up::Proven;
use crate::policy::transfer::Decision;
use crate::policy::words;

/// Everything policy says about a principal, a target and, where given, a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// Who asks.
    pub principal: String,
    /// From where.
    pub from: Origin,
    /// The target.
    pub target: TargetName,
    /// The version of the snapshot that answers.
    pub version: Digest,
    /// May a session begin?
    pub connect: Connect,
    /// Whether the target is in observe mode: what is below is recorded, not applied.
    pub observe: bool,
    /// The transfer decision that a session would stand on; none where the target is unknown.
    pub transfer: Option<Decision>,
    /// The decision because of which every class would be suppressed.
    pub suppressed_by: Option<Decision>,
    /// The verdict on the command, if the session were held.
    pub command: Option<Verdict>,
    /// What may be shown of each class of the target.
    pub masks: Masks,
}

/// May a session begin?
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum Connect {
    /// It may.
    Admit {
        /// The rules that admit.
        rules: Vec<RuleId>,
    },
    /// It may not.
    Refuse(Refusal),
}

impl Connect {
    /// Whether a session may begin.
    pub fn admits(&self) -> bool {
        match self {
            Self::Admit { .. } => true,
            Self::Refuse(_) => false,
        }
    }

    /// Whether a session may begin after another login.
    pub fn asks_for_login(&self) -> bool {
        match self {
            Self::Admit { .. } => false,
            Self::Refuse(refusal) => refusal.code == RefusalCode::StepUp,
        }
    }
}

/// Answers "may `who` do this on `target`?" as the daemon would.
pub fn judge(
    snapshot: &Snapshot,
    who: Who<'_>,
    target: &TargetName,
    command: Option<&Command>,
    now: Timestamp,
) -> Judgement {
    let Who { principal, origin, authentication } = who;
    let proven = Proven::at(principal.kind, authentication, now);
    let mut judgement = Judgement {
        principal: principal.name.clone(),
        from: origin.clone(),
        target: target.clone(),
        version: snapshot.version(),
        connect: Connect::Refuse(words::no_target(target)),
        observe: false,
        transfer: None,
        suppressed_by: None,
        command: None,
        masks: Masks::none_asked(),
    };
    let Some(place) = snapshot.place(target) else { return judgement };
    let who = Arc::new(principal.clone());
    let seat = Seat::take(snapshot, (&who, origin), place, Purpose::Session, now);
    judgement.connect = match admit::connect(snapshot, &seat, &proven) {
        Ok(rules) => Connect::Admit { rules },
        Err(refusal) => Connect::Refuse(refusal),
    };
    judgement.observe = seat.facts.observe;
    judgement.command =
        command.map(|command| decide::execute(snapshot, &seat, &proven, command, None));
    judgement.masks = decide::masks(snapshot, &seat, &proven, &seat.facts.classes);
    judgement.transfer = Some(seat.residency.applied);
    judgement.suppressed_by = seat.residency.suppressed_by;
    judgement
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { principal, from, target, .. } = self;
        writeln!(f, "{principal} from {from} on {target}")?;
        match &self.connect {
            Connect::Admit { rules } => writeln!(f, "connect   yes{}", Rules(rules))?,
            Connect::Refuse(refusal) => No("connect", refusal).fmt(f)?,
        }
        if let Some(decision) = &self.suppressed_by {
            writeln!(f, "          with every class suppressed: {}", decision.reason())?;
        }
        if let Some(decision) = &self.transfer {
            writeln!(f, "transfer  {}: {}", decision.outcome, decision.reason())?;
            Legs(decision).fmt(f)?;
        }
        match &self.command {
            None => {}
            Some(Verdict::Allow { rules }) => writeln!(f, "command   yes{}", Rules(rules))?,
            Some(Verdict::Hold { rules, reason, approvers }) => {
                let roles = approvers.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                writeln!(f, "command   held for approval by {roles}: {reason}{}", Rules(rules))?;
            }
            Some(Verdict::Deny(refusal)) => No("command", refusal).fmt(f)?,
        }
        for class in self.masks.shown() {
            writeln!(f, "class     {class}: shown")?;
        }
        for (class, rules) in self.masks.hidden() {
            writeln!(f, "class     {class}: masked{}", Rules(rules))?;
        }
        if self.observe {
            writeln!(f, "          the target is in observe mode: recorded, not applied")?;
        }
        write!(f, "version   {}", self.version)
    }
}

/// Each leg under each law, where more than one was asked: the reason is only of the strictest.
struct Legs<'a>(&'a Decision);

impl fmt::Display for Legs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for leg in &self.0.legs {
            let Some(regime) = &leg.regime else { continue };
            let place = leg.place.as_ref().map_or("nowhere", Country::as_str);
            let bases = leg.bases.iter().map(RuleId::as_str).collect::<Vec<_>>();
            write!(f, "          {regime}, {} in {place}: {}", leg.leg, leg.outcome)?;
            Rules(&leg.rows).fmt(f)?;
            if !bases.is_empty() {
                write!(f, " by {}", bases.join(", "))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

struct Rules<'a>(&'a [RuleId]);

impl fmt::Display for Rules<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.0.iter().map(RuleId::as_str).collect::<Vec<_>>();
        if ids.is_empty() { Ok(()) } else { write!(f, " [{}]", ids.join(", ")) }
    }
}

struct No<'a>(&'static str, &'a Refusal);

impl fmt::Display for No<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(what, refusal) = self;
        writeln!(f, "{what:<10}no: {refusal}")?;
        match &refusal.hint {
            Some(hint) => writeln!(f, "          {hint}"),
            None => Ok(()),
        }
    }
}
