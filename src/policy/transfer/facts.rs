//! What an entity may declare: the words that rows ask for, and their values.
//!
//! A word that no row asks for would be relied on in vain, so whoever reads configuration refuses
//! it. This matters most for facts that count against a flow (`ciio`, `authority`).

use std::collections::BTreeMap;

use crate::policy::transfer::grounds::DECLARED;
use crate::policy::transfer::grounds::DENIED;
use crate::policy::transfer::grounds::RELATION;
use crate::policy::transfer::grounds::Relation;
use crate::policy::transfer::grounds::Scope;
use crate::policy::transfer::pack::Pack;
use crate::policy::transfer::status::COVERED_PERSON;
use crate::policy::transfer::status::US_PERSON;

/// The words of a certification: for which kinds of data it stands.
const KINDS: [&str; 2] = ["nonhr", "hr"];

/// What values an attribute has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    YesOrNo,
    Kinds,
    Relation,
}

impl Pack {
    /// Whether an entity may declare `name = value`; else what was expected.
    pub fn check_attribute(&self, name: &str, value: &str) -> Result<(), String> {
        let known = self.attributes();
        let Some(values) = known.get(name) else {
            let names = known.keys().copied().collect::<Vec<_>>().join(", ");
            return Err(format!("no law in the data asks for `{name}`; expected one of: {names}"));
        };
        let (fits, expected) = match values {
            Values::YesOrNo => ([DECLARED, DENIED].contains(&value), "`yes` or `no`".to_owned()),
            Values::Kinds => {
                let fits = value.split(',').all(|word| KINDS.contains(&word.trim()));
                (fits, "`nonhr`, `hr` or `nonhr,hr`".to_owned())
            }
            Values::Relation => {
                let words = Relation::WORDS;
                (words.contains(&value), format!("one of: {}", words.join(", ")))
            }
        };
        if fits {
            Ok(())
        } else {
            Err(format!("`{name}` has the value `{value}`; expected {expected}"))
        }
    }

    fn attributes(&self) -> BTreeMap<&str, Values> {
        let file = &self.file;
        let scopes = file.adequacy.iter().filter_map(|row| match &row.scope {
            Scope::All => None,
            Scope::Declared { attribute } | Scope::Unless { attribute } => {
                Some((attribute.as_str(), Values::YesOrNo))
            }
            Scope::Certified { attribute } => Some((attribute.as_str(), Values::Kinds)),
        });
        let excluded = file.mechanism.iter().filter_map(|row| row.excluded_exporters.as_deref());
        let numbers = file.threshold.iter().filter_map(|row| row.exporter());
        let local = file.localization.iter().filter_map(|row| row.exporter());
        let exporters = excluded.chain(numbers).chain(local);
        let fixed = [US_PERSON, COVERED_PERSON].into_iter();
        let facts = exporters.chain(fixed).map(|name| (name, Values::YesOrNo));
        scopes.chain(facts).chain([(RELATION, Values::Relation)]).collect()
    }
}
