//! The country of an address, by databases that somebody else made.
//!
//! A database is a `MaxMind` DB file of countries, of whatever maker. What it says is hearsay: it
//! counts only where no network is configured, only for addresses of the internet, and only if all
//! databases that know the address say the same.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use maxminddb::PathElement;
use maxminddb::Reader;

use crate::model::Country;
use crate::model::place::PlaceMethod;
use crate::model::place::Said;

/// Largest database, in bytes.
pub const DATABASE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Where the country stands in an entry: nested as `GeoIP2` has it, or flat.
const NESTED: [PathElement<'static>; 2] =
    [PathElement::Key("country"), PathElement::Key("iso_code")];
const FLAT: [PathElement<'static>; 1] = [PathElement::Key("country_code")];

/// Words that makers use for "no country", beside the codes that ISO 3166-1 leaves to users.
const NO_COUNTRY: [&str; 5] = ["", "-", "--", "EU", "AP"];

/// A database of countries, read into memory.
pub struct Database {
    name: String,
    reader: Reader<Vec<u8>>,
}

/// A file that is no database of countries.
#[derive(Debug, thiserror::Error)]
#[error("it is no MaxMind DB file that can be read; expected a database of countries")]
pub struct BadDatabase(#[source] maxminddb::MaxMindDbError);

/// What a database says of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Says {
    Country(Country),
    Nothing,
    /// Its entry cannot be read.
    Nonsense,
}

impl Database {
    /// Reads a database, which records call `name`.
    pub fn read(name: impl Into<String>, bytes: Vec<u8>) -> Result<Self, BadDatabase> {
        let reader = Reader::from_source(bytes).map_err(BadDatabase)?;
        Ok(Self { name: name.into(), reader })
    }

    fn says(&self, address: IpAddr) -> Says {
        // One without IPv6 does not know such an address.
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Says::Nothing;
        }
        let Ok(entry) = self.reader.lookup(address) else { return Says::Nonsense };
        // Only what is there is read; an entry may have one form, or both if they agree.
        let nested = entry.decode_path::<&str>(&NESTED);
        let flat = entry.decode_path::<&str>(&FLAT);
        let word = match (nested, flat) {
            (Ok(Some(nested)), Ok(Some(flat))) if nested != flat => return Says::Nonsense,
            // A flat entry may have the country's name where a nested one has more.
            (Ok(Some(word)), Ok(_)) | (Ok(None) | Err(_), Ok(Some(word))) => word,
            (Ok(None), Ok(None)) => return Says::Nothing,
            (Err(_), Ok(None) | Err(_)) | (Ok(_), Err(_)) => return Says::Nonsense,
        };
        if NO_COUNTRY.contains(&word) || is_for_users(word) {
            return Says::Nothing;
        }
        // An international organization is no country of access, and lower case no code.
        match word.parse::<Country>() {
            Ok(country) if word.len() == 2 => Says::Country(country),
            Ok(_) | Err(_) => Says::Nonsense,
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What all `databases` say of an address: a country where those that know it agree, and how.
pub(super) fn agreed(databases: &[Database], address: IpAddr) -> (Option<Country>, PlaceMethod) {
    let address = address.to_canonical();
    if databases.is_empty() || !is_of_the_internet(address) {
        return (None, PlaceMethod::Unknown);
    }
    let (mut silent, mut said) = (Vec::new(), Vec::new());
    for database in databases {
        let name = database.name.clone();
        match database.says(address) {
            Says::Nothing => silent.push(name),
            Says::Nonsense => said.push(Said { database: name, country: None }),
            Says::Country(country) => said.push(Said { database: name, country: Some(country) }),
        }
    }
    let countries = said.iter().map(|said| said.country.clone()).collect::<BTreeSet<_>>();
    let mut countries = countries.into_iter();
    match (countries.next(), countries.next()) {
        (None, _) => (None, PlaceMethod::Unknown),
        (Some(Some(country)), None) => {
            let agree = said.into_iter().map(|said| said.database).collect();
            (Some(country), PlaceMethod::Databases { agree, silent })
        }
        (Some(None), _) | (Some(Some(_)), Some(_)) => (None, PlaceMethod::Disagreement(said)),
    }
}

/// Codes that ISO 3166-1 leaves to its users: AA, QM to QZ, XA to XZ, ZZ. Of these, XK is in use as
/// Kosovo's.
fn is_for_users(word: &str) -> bool {
    match word.as_bytes() {
        b"AA" | b"ZZ" => true,
        b"XK" => false,
        [b'Q', second] => (b'M'..=b'Z').contains(second),
        [b'X', second] => second.is_ascii_uppercase(),
        _ => false,
    }
}

/// Whether an address means one place in the internet. The others (private, of this machine or
/// link, of carriers' translation, of many receivers, or with another address inside) are in no
/// database for good reason, and what one says of them is wrong.
fn is_of_the_internet(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_of_the_internet_v4(v4),
        IpAddr::V6(v6) => is_of_the_internet_v6(v6),
    }
}

fn is_of_the_internet_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let carrier = first == 100 && (64..128).contains(&second); // RFC 6598
    let benchmark = first == 198 && (second == 18 || second == 19); // RFC 2544
    let own = address.is_private() || address.is_loopback() || address.is_link_local();
    // 0.0.0.0/8 is this network (RFC 791), 224.0.0.0 and above has many receivers or is reserved.
    !(own || carrier || benchmark || first == 0 || first >= 224)
}

fn is_of_the_internet_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // 2000::/3 is what is given out as global unicast (RFC 4291 §2.4, IANA).
    let global = first & 0xe000 == 0x2000;
    let sixtofour = first == 0x2002; // RFC 3056
    let special = first == 0x2001 && second < 0x0200; // RFC 2928: Teredo and others
    global && !sixtofour && !special
}

/// Reads bytes as a database and asks it of addresses. For `fuzzing`.
#[doc(hidden)]
pub fn read_and_ask(bytes: &[u8]) {
    let Ok(database) = Database::read("fuzz", bytes.to_vec()) else { return };
    let addresses = ["81.2.69.160", "1.1.1.1", "223.255.255.255", "2a02:ff0::1", "2600::1"];
    for address in addresses.iter().filter_map(|address| address.parse().ok()) {
        let (country, method) = agreed(std::slice::from_ref(&database), address);
        assert_eq!(country.is_some(), matches!(method, PlaceMethod::Databases { .. }));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use maxminddb_writer::metadata::IpVersion;
    use maxminddb_writer::paths::IpAddrWithMask;
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::json;

    use super::*;

    /// A database of networks and what it says of them.
    pub(in crate::listen) fn database(name: &str, says: &[(&str, Value)]) -> Database {
        Database::read(name, bytes(says)).unwrap()
    }

    fn bytes(says: &[(&str, Value)]) -> Vec<u8> {
        let mut database = maxminddb_writer::Database::default();
        database.metadata.ip_version = IpVersion::V6;
        database.metadata.binary_format_major_version = 2;
        database.metadata.database_type = "Test-Country".to_owned();
        for (network, entry) in says {
            let entry = database.insert_value(entry).unwrap();
            // IPv4 lies in `::/96` of such a database.
            let network = match network.split_once('/') {
                Some((v4, bits)) if !v4.contains(':') => {
                    format!("::{v4}/{}", 96 + bits.parse::<u8>().unwrap())
                }
                _ => (*network).to_owned(),
            };
            database.insert_node(network.parse::<IpAddrWithMask>().unwrap(), entry);
        }
        database.write_to(Vec::new()).unwrap()
    }

    pub(in crate::listen) fn nested(country: &str) -> Value {
        json!({ "country": { "iso_code": country, "names": { "en": "somewhere" } } })
    }

    fn flat(country: &str) -> Value {
        json!({ "country_code": country, "country": "Somewhere" })
    }

    fn ask(databases: &[Database], address: &str) -> (String, String) {
        let (country, method) = agreed(databases, address.parse().unwrap());
        (country.map_or_else(|| "?".to_owned(), String::from), method.to_string())
    }

    #[test]
    fn a_country_is_where_every_database_that_knows_it_says() {
        let one =
            database("one", &[("81.2.69.0/24", nested("GB")), ("2a02:ff0::/32", nested("DE"))]);
        let two = database("two", &[("81.2.69.0/24", flat("GB"))]);
        let all = [one, two];
        let both = "by country databases one, two";
        assert_eq!(ask(&all, "81.2.69.160"), ("GB".to_owned(), both.to_owned()));
        assert_eq!(ask(&all, "::ffff:81.2.69.160").0, "GB");
        let only = "by country database one (two does not know it)";
        assert_eq!(ask(&all, "2a02:ff0::7"), ("DE".to_owned(), only.to_owned()));
        assert_eq!(ask(&all, "8.8.8.8").0, "?");
        assert_eq!(ask(&[], "81.2.69.160").0, "?");
    }

    #[test]
    fn databases_that_disagree_say_nothing_together() {
        let says = |name, country| database(name, &[("81.2.69.0/24", nested(country))]);
        let all = [says("a", "DE"), says("b", "FR"), says("c", "DE")];
        let said = ask(&all, "81.2.69.160");
        assert_eq!(said, ("?".to_owned(), "a says DE, b says FR, c says DE".to_owned()));
        let broken = database("d", &[("81.2.69.0/24", json!({"country": {"iso_code": 7}}))]);
        let said = ask(&[says("a", "DE"), broken], "81.2.69.160");
        assert_eq!(said, ("?".to_owned(), "a says DE, d cannot be read there".to_owned()));
    }

    #[test]
    fn what_is_no_country_is_not_taken_for_one() {
        for silence in ["", "-", "ZZ", "XX", "QM", "AA", "EU", "AP"] {
            let one = database("one", &[("81.2.69.0/24", nested(silence))]);
            let two = database("two", &[("81.2.69.0/24", nested("DE"))]);
            assert_eq!(ask(&[one], "81.2.69.160").0, "?", "{silence:?}");
            let one = database("one", &[("81.2.69.0/24", nested(silence))]);
            assert_eq!(ask(&[one, two], "81.2.69.160").0, "DE", "{silence:?}");
        }
        for nonsense in [
            nested("de"),
            nested("DEU"),
            nested("INT:UN"),
            json!({ "country": { "iso_code": ["DE"] } }),
            json!({ "country": { "iso_code": "DE" }, "country_code": "FR" }),
            json!({ "country": "DE" }),
            json!("DE"),
        ] {
            let one = database("one", &[("81.2.69.0/24", nonsense.clone())]);
            let two = database("two", &[("81.2.69.0/24", nested("DE"))]);
            assert_eq!(ask(&[one, two], "81.2.69.160").0, "?", "{nonsense}");
        }
        let empty = database("one", &[("81.2.69.0/24", json!({"asn": 7}))]);
        assert_eq!(ask(&[empty], "81.2.69.160").0, "?");
        assert_eq!(
            ask(&[database("one", &[("81.2.69.0/24", nested("XK"))])], "81.2.69.160").0,
            "XK"
        );
    }

    #[test]
    fn addresses_without_a_place_are_never_looked_up() {
        let everywhere = [database("all", &[("::/0", nested("US"))])];
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "2002:5102:45a0::1",
            "2001::1",
            "64:ff9b::5102:45a0",
            "::ffff:10.1.2.3",
        ] {
            assert_eq!(ask(&everywhere, address).0, "?", "{address}");
        }
        assert_eq!(ask(&everywhere, "81.2.69.160").0, "US");
        assert_eq!(ask(&everywhere, "2a02:ff0::1").0, "US");
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error() {
        for bytes in [&b""[..], b"\xab\xcd\xefMaxMind.com", b"PK\x03\x04"] {
            let error = Database::read("x", bytes.to_vec()).unwrap_err();
            assert!(error.to_string().contains("expected a database of countries"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn no_damage_makes_it_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            let mut file = bytes(&[
                ("81.2.69.0/24", nested("GB")),
                ("1.1.1.0/24", flat("AU")),
                ("2600::/16", json!({"country_code": "US"})),
            ]);
            for (at, byte) in changes {
                let at = at.index(file.len());
                file[at] = byte;
            }
            if let Some(cut) = cut {
                file.truncate(cut.index(file.len()));
            }
            read_and_ask(&file);
        }
    }

    /// The corpus of the fuzz target begins with whole databases, or it would search in the dark.
    #[test]
    fn the_corpus_has_databases_of_every_shape() {
        for (file, bytes) in [
            ("nested", include_bytes!("../../tests/corpus/country_database/nested").as_slice()),
            ("flat", include_bytes!("../../tests/corpus/country_database/flat")),
            ("mixed", include_bytes!("../../tests/corpus/country_database/mixed")),
        ] {
            let database = [Database::read(file, bytes.to_vec()).unwrap()];
            assert_eq!(ask(&database, "81.2.69.160").0, "GB", "{file}");
            assert_eq!(ask(&database, "2600::1").0, "US", "{file}");
        }
    }
}
