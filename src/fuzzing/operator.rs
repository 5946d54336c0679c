//! What an operator writes: configuration, policies, law, paths, names.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use crate::config;
use crate::mask::path::JsonPath;
use crate::model::Address;
use crate::model::Country;
use crate::model::DataClass;
use crate::model::EntityId;
use crate::model::Host;
use crate::model::RegionName;
use crate::model::RuleId;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::principal::Counters;
use crate::model::principal::Entity;
use crate::model::principal::Role;
use crate::policy::GatewayFacts;
use crate::policy::Parts;
use crate::policy::Snapshot;
use crate::policy::transfer::Pack;
use crate::target::kubernetes::Resource;

pub(super) fn config(bytes: &[u8]) {
    let Ok(text) = String::from_utf8(bytes.to_vec()) else { return };
    match config::parse(Path::new("weir.toml"), text) {
        Ok(loaded) => drop(format!("{:?}", loaded.report())),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}

pub(super) fn law_pack(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(bad) = Pack::parse(text) {
        assert!(!bad.to_string().is_empty());
    }
}

/// Compiles one file of policies beside the gateway's own.
pub(super) fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(parts) = PARTS.as_ref() else { return };
    let mut parts = parts.clone();
    parts.policies.push(("fuzz.cedar".to_owned(), text.to_owned()));
    match Snapshot::compile(parts) {
        Ok(snapshot) => drop(format!("{}", snapshot.version())),
        Err(bad) => assert!(!bad.to_string().is_empty()),
    }
}

static PARTS: LazyLock<Option<Parts>> = LazyLock::new(|| {
    let country = "DE".parse::<Country>().ok()?;
    let entity = Entity {
        id: "acme-de".parse().ok()?,
        country: country.clone(),
        role: Role::Controller,
        attributes: BTreeMap::new(),
        counters: Counters::default(),
    };
    let gateway = GatewayFacts {
        id: "weir-eu".to_owned(),
        region: "eu-central".parse().ok()?,
        country: country.clone(),
        entity: Some(entity.id.clone()),
        recording_country: country,
    };
    Some(Parts {
        policies: Vec::new(),
        targets: Vec::new(),
        entities: vec![entity],
        bases: Vec::new(),
        pack: Pack::builtin().ok()?,
        gateway,
    })
});

/// A path that was read and written is the same path.
pub(super) fn json_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(path) = text.parse::<JsonPath>() {
        let written = path.to_string();
        assert_eq!(written.parse().ok(), Some(path), "{text:?} was written as {written:?}");
    }
}

pub(super) fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for same in [
        same::<Address>(text),
        same::<Country>(text),
        same::<DataClass>(text),
        same::<Digest>(text),
        same::<EntityId>(text),
        same::<Host>(text),
        same::<RegionName>(text),
        same::<Resource>(text),
        same::<RuleId>(text),
        same::<SessionId>(text),
        same::<TargetName>(text),
    ] {
        assert!(same, "{text:?} was written as something else");
    }
}

/// Whether a name that can be read reads the same once it was written.
fn same<N: std::str::FromStr + std::fmt::Display + PartialEq>(text: &str) -> bool {
    let Ok(name) = text.parse::<N>() else { return true };
    name.to_string().parse().is_ok_and(|again: N| again == name)
}
