//! The answer: per leg and law, combined, with rows, obligations and the words for a human being.
//!
//! Plain values; how they come about is in `decide`.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;

use crate::model::Country;
use crate::model::RuleId;
use crate::model::principal::Entity;
use crate::policy::transfer::cover::push;

/// The answer for one flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The worst outcome of all legs under all laws.
    pub outcome: Outcome,
    /// Each leg under each law.
    pub legs: Vec<LegDecision>,
    /// Every deciding row, those of the worst legs first.
    pub rows: Vec<RuleId>,
    /// The registered bases it stands on, by their ids in the customer's register.
    pub bases: Vec<RuleId>,
    /// What must be done if the flow goes on. Empty where it is forbidden.
    pub obligations: BTreeSet<Obligation>,
    /// The last day on which this answer is known to hold, all else being equal: no row, basis or
    /// assessment that concerns the flow begins or ends before. `None`: no such day is known.
    pub valid_until: Option<Date>,
}

/// What the law says, from mild to strict; several answers combine to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// No transfer.
    None,
    /// No transfer; the place is logged.
    NoneLogged,
    /// A transfer that a basis covers.
    Transfer,
    /// It may not happen.
    Forbidden {
        /// Why not.
        why: Why,
    },
}

impl Outcome {
    /// Whether the flow may go on.
    pub fn is_allowed(self) -> bool {
        match self {
            Self::None | Self::NoneLogged | Self::Transfer => true,
            Self::Forbidden { .. } => false,
        }
    }

    /// How strict it is, whatever the reason: 0 to 3.
    pub fn severity(self) -> u8 {
        match self {
            Self::None => 0,
            Self::NoneLogged => 1,
            Self::Transfer => 2,
            Self::Forbidden { .. } => 3,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::NoneLogged => f.write_str("none+log"),
            Self::Transfer => f.write_str("transfer"),
            Self::Forbidden { why } => write!(f, "forbidden({why})"),
        }
    }
}

/// Why a flow is forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// A country is not known, or its code is not assigned.
    UnknownCountry,
    /// A class of data is not in the class map.
    UnknownClass,
    /// It is not known for whom the principal works.
    UnknownEntity,
    /// The law of the data's country, or a declared law, is not in the pack.
    UnknownRegime,
    /// The target would send data to a place that is not registered.
    UnknownDestination,
    /// Neither an adequacy decision nor a registered basis.
    NoBasis,
    /// The adequacy decision does not speak for this importer or this data.
    Scope,
    /// What would cover it is not in force on that day.
    Expired,
    /// The importer looks from a country that the basis does not cover.
    AccessCountry,
    /// The clauses on file are made for other roles.
    Module,
    /// The basis on file does not cover the class.
    Class,
    /// There is no transfer impact assessment in force.
    NoTia,
    /// The approval, filing or case reference is missing.
    NoFiling,
    /// The basis on file asks for masking.
    NeedsMask,
    /// The derogation is used up, not counted, or barred for this exporter.
    Derogation,
    /// The gateway stands where the data may not go.
    GatewayRegion,
    /// The recording would be kept abroad.
    RecordingRegion,
    /// A copy would be kept abroad.
    CacheRegion,
    /// The data has to stay: it may not be seen, kept or collected abroad.
    Localized,
    /// The number of persons is too high for what is on file, or nobody declared it.
    Counter,
    /// Somebody of a country of concern would get it.
    Concern,
}

impl Why {
    /// The word in records and cases.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownCountry => "unknown-country",
            Self::UnknownClass => "unknown-class",
            Self::UnknownEntity => "unknown-entity",
            Self::UnknownRegime => "unknown-regime",
            Self::UnknownDestination => "unknown-destination",
            Self::NoBasis => "no-basis",
            Self::Scope => "scope",
            Self::Expired => "expired",
            Self::AccessCountry => "access-country",
            Self::Module => "module",
            Self::Class => "class",
            Self::NoTia => "no-tia",
            Self::NoFiling => "no-filing",
            Self::NeedsMask => "needs-mask",
            Self::Derogation => "derogation",
            Self::GatewayRegion => "gateway-region",
            Self::RecordingRegion => "recording-region",
            Self::CacheRegion => "cache-region",
            Self::Localized => "localized",
            Self::Counter => "counter",
            Self::Concern => "concern",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::UnknownCountry => "a country on the way is unknown",
            Self::UnknownClass => "a class of the data is unknown",
            Self::UnknownEntity => "it is unknown for which legal entity the principal works",
            Self::UnknownRegime => "the law pack does not know the transfer law that applies",
            Self::UnknownDestination => "the target would send data to a place nobody registered",
            Self::NoBasis => "no adequacy decision and no registered basis covers it",
            Self::Scope => "the adequacy decision does not cover this importer or this data",
            Self::Expired => "what would cover it is not in force on this day",
            Self::AccessCountry => "the basis does not cover access from there",
            Self::Module => "the clauses on file are made for other roles",
            Self::Class => "the basis on file does not cover this class of data",
            Self::NoTia => "the basis on file has no transfer impact assessment in force",
            Self::NoFiling => "the basis on file lacks its approval or case reference",
            Self::NeedsMask => "the basis on file asks that the data be masked",
            Self::Derogation => "the derogation is used up, not counted, or barred",
            Self::GatewayRegion => "the gateway stands where this data may not go",
            Self::RecordingRegion => "the recording would be kept where this data may not go",
            Self::CacheRegion => "a copy would be kept where this data may not go",
            Self::Localized => "it has to stay where its law says",
            Self::Counter => "the number of persons asks for more than is on file, or is unknown",
            Self::Concern => "somebody of a country of concern would get it",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A way on which data becomes available to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leg {
    /// The principal, or on a write the target's owner.
    Person,
    /// The gateway's machine.
    Gateway,
    /// Where the recording is kept.
    Recording,
    /// Another machine that keeps a copy.
    Cache,
    /// The machine a write goes to.
    Target,
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Person => "person",
            Self::Gateway => "gateway",
            Self::Recording => "recording",
            Self::Cache => "copy",
            Self::Target => "target",
        })
    }
}

/// One leg under one law.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegDecision {
    /// Which leg.
    pub leg: Leg,
    /// The regime's row. `None`: decided before any law was asked, or the law is unknown.
    pub regime: Option<RuleId>,
    /// What it says.
    pub outcome: Outcome,
    /// The rows that decided, the deciding one first.
    pub rows: Vec<RuleId>,
    /// The registered bases it stands on.
    pub bases: Vec<RuleId>,
    /// The contested row it stands on alone.
    pub alone: Option<RuleId>,
    /// What its law asks for besides a basis.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duties: Vec<Obligation>,
    /// Who makes the data available.
    pub exporter: Option<Party>,
    /// Who gets it.
    pub importer: Option<Party>,
    /// Where it becomes available; `None`: unknown.
    pub place: Option<Country>,
    /// What is unknown, where that is the reason.
    pub unknown: Option<String>,
    /// The mechanism that would usually cover it.
    pub remedy: Option<Remedy>,
}

/// An entity as it is named in an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Its configured id; `host:US` for whoever runs a machine.
    pub name: String,
    /// Its country.
    pub country: Country,
}

impl Party {
    pub(super) fn of(entity: &Entity) -> Self {
        Self { name: entity.id.to_string(), country: entity.country.clone() }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.country)
    }
}

/// A mechanism that could be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// Its row.
    pub mechanism: RuleId,
    /// Its name in plain words.
    pub name: String,
    /// Whether it needs a transfer impact assessment.
    pub needs_tia: bool,
}

/// What must be done if the flow goes on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obligation {
    /// The place of access is recorded, and how it was determined.
    LogPlace,
    /// A row in the ledger: exporter, importer, classes, all bases, volume.
    LedgerRow,
    /// A second basis should be put on file: this row is contested.
    SecondBasis(RuleId),
    /// The reference of the persons' separate consent is kept with the record.
    ConsentReference,
    /// The filing with the authority is kept up to date, with its reference.
    Filing,
}

impl Decision {
    /// Combines the legs: the strictest wins, and all laws and legs must agree.
    pub(super) fn of(legs: Vec<LegDecision>, valid_until: Option<Date>) -> Self {
        let outcome = legs.iter().map(|leg| leg.outcome);
        // Of equally strict ones the first stands: legs come in the order person, machines.
        let outcome = outcome
            .reduce(|worst, next| if next.severity() > worst.severity() { next } else { worst })
            .unwrap_or(Outcome::Forbidden { why: Why::UnknownRegime });
        let mut order = legs.iter().collect::<Vec<_>>();
        order.sort_by_key(|leg| std::cmp::Reverse(leg.outcome.severity()));
        let mut rows = Vec::new();
        let mut bases = Vec::new();
        for leg in order {
            leg.rows.iter().for_each(|row| push(&mut rows, row.clone()));
            leg.bases.iter().for_each(|basis| push(&mut bases, basis.clone()));
        }
        let obligations = legs.iter().flat_map(obligations).collect();
        let obligations = if outcome.is_allowed() { obligations } else { BTreeSet::new() };
        Self { outcome, legs, rows, bases, obligations, valid_until }
    }

    /// The answer in one sentence: who makes data available to whom, where, and which rows decide.
    pub fn reason(&self) -> String {
        let Some(leg) = self.deciding() else { return "nothing was asked".to_owned() };
        let rows = leg.rows.iter().map(RuleId::as_str).collect::<Vec<_>>().join(", ");
        let way = leg.way();
        match self.outcome {
            Outcome::None => format!("{way} is no transfer of personal data ({rows})"),
            Outcome::NoneLogged => {
                format!("{way} is no transfer of personal data, and its place is logged ({rows})")
            }
            Outcome::Transfer => format!("{way} is a transfer with a legal basis ({rows})"),
            Outcome::Forbidden { why } => {
                let unknown =
                    leg.unknown.as_ref().map_or_else(String::new, |what| format!(": {what}"));
                format!("{way} is forbidden: {}{unknown} ({rows})", why.words())
            }
        }
    }

    /// What would help, where the answer is no.
    pub fn help(&self) -> Option<String> {
        let leg = self.deciding()?;
        match self.outcome {
            Outcome::None | Outcome::NoneLogged | Outcome::Transfer => None,
            Outcome::Forbidden { why } => Some(leg.help(why)),
        }
    }

    /// The leg whose outcome is the answer's.
    fn deciding(&self) -> Option<&LegDecision> {
        self.legs.iter().find(|leg| leg.outcome == self.outcome)
    }
}

impl LegDecision {
    fn way(&self) -> String {
        let what = match self.leg {
            Leg::Person => "making the data available",
            Leg::Gateway => "passing the data through the gateway",
            Leg::Recording => "recording the data",
            Leg::Cache => "keeping a copy of the data",
            Leg::Target => "storing the data",
        };
        let mut text = what.to_owned();
        let mut add = |word: &str, name: Option<String>| {
            if let Some(name) = name {
                text.push_str(word);
                text.push_str(&name);
            }
        };
        add(" from ", self.exporter.as_ref().map(Party::to_string));
        add(" to ", self.importer.as_ref().map(Party::to_string));
        add(" in ", self.place.as_ref().map(Country::to_string));
        text
    }

    fn help(&self, why: Why) -> String {
        let name = |party: &Option<Party>, other: &str| {
            party.as_ref().map_or_else(|| other.to_owned(), |party| party.name.clone())
        };
        let exporter = name(&self.exporter, "the exporter");
        let importer = name(&self.importer, "the importer");
        let place = self.place.as_ref().map_or("that country", Country::as_str);
        let between = format!("between {exporter} and {importer}");
        match why {
            Why::UnknownCountry => {
                "configure the network of the client with its country, and use assigned ISO 3166-1 \
                 codes"
                    .to_owned()
            }
            Why::UnknownClass => "declare the data under a class of the class map".to_owned(),
            Why::UnknownEntity => {
                "map the claims of the principal to a configured entity; a contractor needs one of \
                 their own"
                    .to_owned()
            }
            Why::UnknownRegime => "use a law pack that has this law".to_owned(),
            Why::UnknownDestination => {
                "read the data through the gateway instead of sending it from the target".to_owned()
            }
            Why::NoBasis | Why::Scope | Why::Expired | Why::Module | Why::Derogation => {
                self.register(&between)
            }
            Why::AccessCountry => {
                format!("register a basis {between} that has {place} among its access countries")
            }
            Why::Class => format!("extend the basis {between} to this class"),
            Why::NoTia => format!("file a transfer impact assessment for the basis {between}"),
            Why::NoFiling => format!("file the approval or case reference of the basis {between}"),
            Why::NeedsMask => "ask with the data masked, as the basis on file says".to_owned(),
            Why::GatewayRegion => "use the gateway of the data's region".to_owned(),
            Why::RecordingRegion => "keep the recording in the data's region".to_owned(),
            Why::CacheRegion => "keep copies in the data's region".to_owned(),
            Why::Localized => "ask from inside the country of the data".to_owned(),
            Why::Counter => format!(
                "declare the numbers that are counted (of {exporter}, and `us_persons` of the \
                 target); if they are right, {}",
                self.register(&between)
            ),
            Why::Concern => format!(
                "ask somebody else, or, where the law lets it, {}; a residence that is unknown is \
                 mapped from the claims",
                self.register(&between)
            ),
        }
    }

    fn register(&self, between: &str) -> String {
        match &self.remedy {
            Some(Remedy { mechanism, name, needs_tia: true }) => format!(
                "register {name} ({mechanism}) {between}, with a transfer impact assessment"
            ),
            Some(Remedy { mechanism, name, needs_tia: false }) => {
                format!("register {name} ({mechanism}) {between}")
            }
            None => format!("register a legal basis {between}"),
        }
    }
}

fn obligations(leg: &LegDecision) -> Vec<Obligation> {
    match leg.outcome {
        Outcome::None | Outcome::Forbidden { .. } => Vec::new(),
        Outcome::NoneLogged => vec![Obligation::LogPlace],
        Outcome::Transfer => {
            let second = leg.alone.clone().map(Obligation::SecondBasis);
            let duties = leg.duties.iter().cloned();
            std::iter::once(Obligation::LedgerRow).chain(second).chain(duties).collect()
        }
    }
}
