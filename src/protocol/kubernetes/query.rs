//! The query of a request, as Go's `url.ParseQuery` and the API server's conversions read it.
//!
//! Knows nothing of paths. What Go would silently drop (`;`, bad escapes) is refused instead.

use crate::protocol::kubernetes::request::NotCanonical;
use crate::protocol::kubernetes::request::hex;

/// Longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 16 * 1024;

/// The parameters of a query, decoded, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a raw query, without its `?`.
    pub fn read(raw: Option<&str>) -> Result<Self, NotCanonical> {
        let raw = raw.unwrap_or_default();
        let printable = raw.bytes().all(|b| b.is_ascii_graphic() && !b";#\\".contains(&b));
        if raw.len() > QUERY_BYTES_MAX || !printable {
            return Err(NotCanonical::Query);
        }
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        pairs.collect::<Option<_>>().map(Self).ok_or(NotCanonical::Query)
    }

    /// The first value of a parameter: the server looks at no other.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(named, _)| named == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(named, _)| named == name).map(|(_, value)| value.as_str())
    }

    /// Whether a list is a watch: everything but `0` and any `false` says so, nothing too
    /// (`k8s.io/apimachinery/pkg/runtime`, `Convert_Slice_string_To_bool`).
    pub fn watches(&self) -> bool {
        self.first("watch")
            .is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// Whether nothing is to be stored (`dryRun=All`; the server refuses other values).
    pub fn is_dry_run(&self) -> bool {
        self.all("dryRun").any(|value| value == "All")
    }

    /// Whether a field selector asks about something else than an object's name, namespace and type:
    /// then which objects come back tells what their fields hold.
    pub fn selects_fields(&self) -> bool {
        let harmless = |term: &str| {
            let field = term.split(['=', '!']).next().unwrap_or_default();
            ["", "metadata.name", "metadata.namespace", "type"].contains(&field)
        };
        self.all("fieldSelector").any(|selector| !selector.split(',').all(harmless))
    }

    /// The name that a field selector demands (`RequiresExactMatch("metadata.name")`).
    ///
    /// A selector with escapes names nobody: no object has such a name, and without one the
    /// request is decided as what it is at most, one about all of them.
    pub fn selected_name(&self) -> Option<String> {
        let selector = self.first("fieldSelector").filter(|text| !text.contains('\\'))?;
        let named = selector.split(',').find_map(|term| {
            let value = term.strip_prefix("metadata.name=")?;
            Some(value.strip_prefix('=').unwrap_or(value))
        })?;
        // `IsPathSegmentName`; an empty name is none.
        let valid = !matches!(named, "" | "." | "..") && !named.contains(['/', '%']);
        valid.then(|| named.to_owned())
    }
}

/// Decodes escapes and `+`; `None` for an escape that is none, and for text that is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex(bytes.next()?)?.checked_mul(16)?.checked_add(hex(bytes.next()?)?)?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}
