//! What was written of entities, legal bases and laws → what the transfer decision is asked with.
//!
//! A word that no row of the law data asks for is a mistake here: whoever wrote it relies on it.

use toml::Spanned;

use crate::config::Loaded;
use crate::config::Problem;
use crate::config::file;
use crate::config::value::Within;
use crate::model::EntityId;
use crate::model::principal::Entity;
use crate::policy::transfer;
use crate::policy::transfer::Ends;
use crate::policy::transfer::Expiring;
use crate::policy::transfer::Pack;

/// The legal entities.
pub(super) fn entities(loaded: &Loaded, pack: &Pack) -> Result<Vec<Entity>, Problem> {
    let entity = |(id, written): (&Spanned<EntityId>, &file::Entity)| {
        for (name, value) in &written.attributes {
            let checked = pack.check_attribute(name.get_ref(), value);
            checked.map_err(|what| loaded.source.problem(name, what))?;
        }
        let attributes = written.attributes.iter();
        Ok(Entity {
            id: id.get_ref().clone(),
            country: written.country.clone(),
            role: written.role,
            attributes: attributes.map(|(k, v)| (k.get_ref().clone(), v.clone())).collect(),
            counters: written.counters,
        })
    };
    loaded.file.entities.iter().map(entity).collect()
}

/// The legal bases on file.
pub(super) fn bases(loaded: &Loaded, pack: &Pack) -> Result<Vec<transfer::Basis>, Problem> {
    let mut bases = Vec::new();
    for written in &loaded.file.bases {
        check(loaded, pack, written)?;
        bases.push(basis(written));
    }
    Ok(bases)
}

/// Laws that a target declares must be in the law data: any other is refused to everybody.
pub(super) fn check_targets(loaded: &Loaded, pack: &Pack) -> Result<(), Problem> {
    let laws = pack.laws();
    for target in loaded.file.targets.values() {
        for law in &target.laws {
            if !laws.contains(law.get_ref().as_str()) {
                let all = laws.iter().copied().collect::<Vec<_>>().join(", ");
                let what = format!("the law data has no law `{law}`; expected one of: {all}");
                return Err(loaded.source.problem(law, what));
            }
        }
    }
    Ok(())
}

/// What ends soon, at its place in the file.
pub(super) fn warnings(loaded: &Loaded, expiring: &[Expiring]) -> Vec<Problem> {
    let problem = |one: &Expiring| {
        let what = one.to_string();
        let basis = |id| loaded.file.bases.iter().find(|basis| basis.id.get_ref() == id);
        let at = match &one.what {
            Ends::Pack { .. } => None,
            Ends::Basis(id) => basis(id).map(|basis| basis.valid_to.span()),
            Ends::Mechanism { basis: id, .. } => basis(id).map(|basis| basis.mechanism.span()),
            Ends::Assessment(id) => basis(id).map(|basis| {
                let review = basis.tia.as_ref().and_then(|tia| tia.review_by.as_ref());
                review.map_or_else(|| basis.valid_to.span(), Spanned::span)
            }),
        };
        match at {
            Some(span) => loaded.source.problem(&Spanned::new(span, ()), what),
            None => Problem::of_file(loaded.source.path(), &what),
        }
    };
    expiring.iter().map(problem).collect()
}

fn check(loaded: &Loaded, pack: &Pack, written: &file::Basis) -> Result<(), Problem> {
    let mechanism = &written.mechanism;
    if !pack.knows_mechanism(mechanism.get_ref()) {
        let all = pack.mechanisms().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let what = format!("the law data has no mechanism `{mechanism}`; expected one of: {all}");
        return Err(loaded.source.problem(mechanism, what));
    }
    if written.exporter == written.importer && !pack.concerns_own_people(mechanism.get_ref()) {
        let what = "exporter and importer are one entity; expected two: within one entity there is \
                    no transfer to cover under this law";
        return Err(loaded.source.problem(&written.importer, what));
    }
    if pack.is_derogation(mechanism.get_ref())
        && (written.reason.is_none() || written.uses_max.is_none())
    {
        let what = format!(
            "{mechanism} is a derogation for single cases; expected `reason`, `uses_max`, and \
             `uses`, which somebody counts"
        );
        return Err(loaded.source.problem(mechanism, what));
    }
    Ok(())
}

fn basis(basis: &file::Basis) -> transfer::Basis {
    let last_day = basis.valid_to.get_ref().date();
    transfer::Basis {
        id: basis.id.get_ref().clone(),
        mechanism: basis.mechanism.get_ref().clone(),
        exporter: basis.exporter.get_ref().clone(),
        importer: basis.importer.get_ref().clone(),
        importer_country: basis.importer_country.get_ref().clone(),
        classes: basis.classes.clone(),
        access_countries: basis.access_countries.clone(),
        needs_mask: basis.needs_mask.map(|needs| match needs {
            file::NeedsMask::Token => transfer::NeedsMask::Token,
            file::NeedsMask::Null => transfer::NeedsMask::Null,
        }),
        tia: basis.tia.as_ref().map(|tia| transfer::Assessment {
            reference: tia.reference.clone(),
            date: tia.date.date(),
            review_by: tia.review_by.as_ref().map_or(last_day, |day| day.get_ref().date()),
        }),
        filing: basis.filing.clone(),
        reason: basis.reason.clone(),
        document: basis.document_sha256,
        valid_from: basis.valid_from.date(),
        valid_to: last_day,
        max_uses: basis.uses_max.map(Within::get),
        uses: basis.uses.map(Within::get),
        owner: basis.owner.clone(),
        approved_by: basis.approved_by.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::policy::transfer::expiring;

    const EXAMPLE: &str = include_str!("../../config/weir.toml");

    /// The example with one change.
    fn loaded(from: &str, to: &str) -> Loaded {
        assert!(EXAMPLE.contains(from), "{from}");
        config::parse(Path::new("weir.toml"), EXAMPLE.replacen(from, to, 1)).unwrap()
    }

    fn told(from: &str, to: &str) -> String {
        let (loaded, pack) = (loaded(from, to), Pack::builtin().unwrap());
        let all = check_targets(&loaded, &pack)
            .and_then(|()| entities(&loaded, &pack))
            .and_then(|_| bases(&loaded, &pack));
        all.err().map(|problem| problem.to_string()).unwrap_or_default()
    }

    #[test]
    fn words_that_no_law_asks_for_are_refused_where_they_stand() {
        for (from, to, parts) in [
            ("# attributes = { dpf = \"nonhr,hr\" }", "attributes = { dfp = \"hr\" }", "dfp"),
            (
                "# attributes = { dpf = \"nonhr,hr\" }",
                "attributes = { ciio = \"maybe\" }",
                "`yes` or `no`",
            ),
            (
                "# attributes = { dpf = \"nonhr,hr\" }",
                "attributes = { dpf = \"yes\" }",
                "`nonhr,hr`",
            ),
            (
                "# attributes = { dpf = \"nonhr,hr\" }",
                "attributes = { relation = \"x\" }",
                "brokerage",
            ),
            (
                "# laws = [\"EU\", \"LOC-STORE\"]",
                "laws = [\"MARS\"]",
                "no law `MARS`; expected one of: BR",
            ),
            ("\"EUM-SCC2\"", "\"EUM-SCC9\"", "no mechanism `EUM-SCC9`"),
            ("\"EUM-SCC2\"", "\"USM-301\"", "no mechanism `USM-301`"),
            ("\"EUM-SCC2\"", "\"EUM-49B\"", "expected `reason`"),
        ] {
            let told = told(from, to);
            assert!(told.starts_with("weir.toml:") && told.contains(parts), "{to}: {told}");
        }
        assert_eq!(
            told("# attributes = { dpf = \"nonhr,hr\" }", "attributes = { dpf = \"hr\" }"),
            ""
        );
    }

    #[test]
    fn one_entity_has_a_basis_with_itself_only_where_the_law_looks_at_places_or_persons() {
        let own = |mechanism: &str| {
            let parties = "importer = \"acme-sg\"                          # gets it\nimporter_country = \"SG\"";
            let own = format!(
                "importer = \"acme-de\"\nimporter_country = \"DE\"\nfiling = \"{mechanism}\""
            );
            let text = EXAMPLE.replacen(parties, &own, 1).replacen("EUM-SCC2", mechanism, 1);
            assert_ne!(text, EXAMPLE);
            let loaded = config::parse(Path::new("weir.toml"), text).unwrap();
            bases(&loaded, &Pack::builtin().unwrap())
        };
        assert!(own("EUM-SCC2").unwrap_err().to_string().contains("expected two"));
        for mechanism in ["CNM-SC", "SAM-SCC", "INM-R7", "USM-401"] {
            assert_eq!(own(mechanism).unwrap().len(), 1);
        }
    }

    #[test]
    fn what_is_declared_arrives() {
        let pack = Pack::builtin().unwrap();
        let with_numbers = loaded(
            "# counters = { cn_pi = 50000, cn_sens = 0 }",
            "counters = { cn_pi = 50000, cn_sens = 0 }",
        );
        let entities = entities(&with_numbers, &pack).unwrap();
        let sister = entities.iter().find(|entity| entity.id.as_str() == "acme-sg").unwrap();
        assert_eq!((sister.counters.cn_pi, sister.counters.cn_sens), (Some(50_000), Some(0)));
        let with_derogation = loaded(
            "# reason = \"claim 7 O 12/26\"                  # example; why: derogations need it, and the next two\n# uses_max = 1                                # example; default: without bound\n# uses = 0 ",
            "reason = \"claim\"\nfiling = \"7 O 12/26\"\nuses_max = 3\nuses = 1 ",
        );
        let [basis] = &bases(&with_derogation, &pack).unwrap()[..] else { panic!("one basis") };
        assert_eq!((basis.max_uses, basis.uses), (Some(3), Some(1)));
        assert_eq!(
            (basis.reason.as_deref(), basis.filing.as_deref()),
            (Some("claim"), Some("7 O 12/26"))
        );
    }

    #[test]
    fn what_ends_soon_is_told_where_it_stands() {
        let (loaded, pack) = (loaded("[[bases]]", "[[bases]]"), Pack::builtin().unwrap());
        let bases = bases(&loaded, &pack).unwrap();
        let ends = expiring(&bases, &pack, "2027-02-01".parse().unwrap(), 30);
        let told = warnings(&loaded, &ends);
        let told = told.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for part in [
            "review_by = 2027-02-10",
            "the assessment of the legal basis `scc-acme-sg` ends on 2027-02-10",
            "the legal basis `scc-acme-sg` ends on 2027-02-28",
            "wants a review by 2027-02-28",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert_eq!(expiring(&bases, &pack, "2027-01-01".parse().unwrap(), 30), []);
    }
}
