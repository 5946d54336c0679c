//! STEP-8: regimes in which numbers say what a transfer needs.
//!
//! Status comes first (who the exporter is, important data), then what the customer declares as
//! exempt, then numbers. A number that nobody declared counts as higher than every threshold.

use crate::model::RuleId;
use crate::policy::transfer::cover::Cover;
use crate::policy::transfer::cover::Need;
use crate::policy::transfer::decide::Movement;
use crate::policy::transfer::decision::Leg;
use crate::policy::transfer::decision::LegDecision;
use crate::policy::transfer::decision::Outcome;
use crate::policy::transfer::decision::Why;
use crate::policy::transfer::grounds::MechanismKind;
use crate::policy::transfer::limits::Counts;
use crate::policy::transfer::limits::Threshold;
use crate::policy::transfer::rows::Row;
use crate::policy::transfer::rows::touches;
use crate::policy::transfer::under::Under;
use crate::policy::transfer::under::joined;

/// What a transfer needs.
struct Asked<'a> {
    row: RuleId,
    /// Any one of these mechanisms; none of them: it is exempt.
    needs: &'a [RuleId],
    /// The reason where nothing is on file.
    why: Why,
}

impl<'a> Under<'a> {
    pub(super) fn counted(&self, leg: Leg, need: Need<'a>) -> LegDecision {
        if let Some(asked) = self.asked_by_status() {
            return self.answered(leg, need, &asked);
        }
        let exempt = self.exemptions();
        if let Cover::Found { rows, bases, alone } = (Need { only: Some(&exempt), ..need }).cover()
        {
            let found = self.movement.leg(leg, Outcome::Transfer, rows);
            return LegDecision { bases, alone, ..found };
        }
        match self.asked_by_numbers() {
            Some(asked) => self.answered(leg, need, &asked),
            // No row holds on that day: what the numbers ask for is not known.
            None => self.missing(leg, Why::Counter, vec![self.regime.rule()], &need),
        }
    }

    fn answered(&self, leg: Leg, need: Need<'a>, asked: &Asked<'_>) -> LegDecision {
        let row = vec![asked.row.clone()];
        if asked.needs.is_empty() {
            return self.movement.leg(leg, Outcome::Transfer, row);
        }
        let only = Need { only: Some(asked.needs), ..need };
        match only.cover() {
            Cover::Found { rows, bases, alone } => {
                let found = self.movement.leg(leg, Outcome::Transfer, joined(rows, row));
                LegDecision { bases, alone, ..found }
            }
            Cover::Missing { why, rows } => {
                let why = if why == Why::NoBasis { asked.why } else { why };
                self.missing(leg, why, joined(row, rows), &only)
            }
        }
    }

    fn asked_by_status(&self) -> Option<Asked<'a>> {
        let stays = self.localization(|row| row.abroad_needs.is_some());
        let stays = stays.and_then(|row| {
            let needs = std::slice::from_ref(row.abroad_needs.as_ref()?);
            Some(Asked { row: row.rule(), needs, why: Why::NoBasis })
        });
        stays.or_else(|| {
            let row = self.thresholds().find(|row| row.counts.is_none())?;
            Some(Asked { row: row.rule(), needs: &row.needs, why: Why::NoBasis })
        })
    }

    fn asked_by_numbers(&self) -> Option<Asked<'a>> {
        let row = self
            .thresholds()
            .find(|row| row.counts.is_some_and(|counts| self.number(counts) >= row.at_least))?;
        Some(Asked { row: row.rule(), needs: &row.needs, why: Why::Counter })
    }

    /// What a customer may declare as exempt.
    fn exemptions(&self) -> Vec<RuleId> {
        let rows =
            self.movement.pack.file.mechanism.iter().filter(|row| {
                row.regime == self.regime.law && row.kind == MechanismKind::Exemption
            });
        rows.map(Row::rule).collect()
    }

    /// The thresholds that speak of this exporter and this data, in the order of the pack.
    pub(super) fn thresholds(&self) -> impl Iterator<Item = &'a Threshold> {
        let Movement { pack, flow, exporter, .. } = *self.movement;
        let (regime, classes) = (self.regime, self.classes);
        pack.file.threshold.iter().filter(move |row| {
            row.regime == regime.law
                && !row.combined
                && row.window().holds(flow.date)
                && row.speaks_of(exporter, classes)
        })
    }

    /// A number as declared, and at least what this flow itself adds.
    pub(super) fn number(&self, counts: Counts) -> u64 {
        let Movement { flow, exporter, .. } = *self.movement;
        let sensitive = || self.classes.iter().any(|one| touches(&self.regime.sensitive, one));
        let (declared, own) = match counts {
            Counts::Individuals => (exporter.counters.cn_pi, 1),
            Counts::Sensitive => (exporter.counters.cn_sens, u64::from(sensitive())),
            Counts::UsPersons => (flow.data.us_persons, 0),
        };
        declared.map_or(u64::MAX, |number| number.max(own))
    }
}
