//! What is declared of an HTTP target.

use std::fmt;
use std::str::FromStr;

use crate::mask::path::JsonPath;
use crate::model::Address;
use crate::model::DataClass;
use crate::model::Declared;
use crate::target::credential::Credential;
use crate::target::tls::UpstreamTls;

/// Longest path pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 2048;

/// An HTTP target.
#[derive(Debug, Clone)]
pub struct HttpTarget {
    /// Where it listens.
    pub address: Address,
    /// How it is verified; [`UpstreamTls::Off`] is plain HTTP.
    pub tls: UpstreamTls,
    /// The header that the gateway signs in with, and where its value is kept.
    pub credential: Option<(HeaderName, Credential)>,
    /// What a path is that no route names.
    pub unlisted: Undeclared,
    /// `%2F` in a path is taken as it is instead of refused.
    pub encoded_slash: bool,
    /// `//` in a path is taken as it is instead of refused.
    pub double_slash: bool,
    /// What answers hold, by path. The first route that fits counts.
    pub routes: Vec<Route>,
}

/// What answers on a path hold.
#[derive(Debug, Clone)]
pub struct Route {
    /// The paths.
    pub path: PathPattern,
    /// What members of the answer hold.
    pub fields: Vec<(JsonPath, Declared)>,
    /// What members are that no field names, where the route is classified.
    pub undeclared: Undeclared,
}

/// What something is that nobody declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undeclared {
    /// Unknown, and therefore refused.
    Refuse,
    /// Clear, in writing.
    Clear,
}

impl HttpTarget {
    /// Every class that was declared.
    pub fn classes(&self) -> impl Iterator<Item = &DataClass> {
        self.routes.iter().flat_map(Route::classes)
    }

    /// The route of a path: canonical, as it is forwarded, without query.
    pub fn route(&self, path: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.path.fits(path))
    }
}

impl Route {
    /// The classes that answers of this route hold.
    pub fn classes(&self) -> impl Iterator<Item = &DataClass> {
        self.fields.iter().filter_map(|(_, declared)| declared.class())
    }
}

/// The name of a header that may carry a credential: lower case, and none that frames a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderName(String);

/// A text that is no such header name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot carry a credential; expected a header name in lower case, such as \
     `authorization`, that does not frame or route the message"
)]
pub struct BadHeaderName(String);

impl HeaderName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = BadHeaderName;

    fn from_str(text: &str) -> Result<Self, BadHeaderName> {
        const FRAMING: [&str; 10] = [
            "host",
            "connection",
            "content-length",
            "transfer-encoding",
            "te",
            "trailer",
            "upgrade",
            "keep-alive",
            "proxy-connection",
            "expect",
        ];
        let valid = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if valid && !FRAMING.contains(&text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadHeaderName(text.to_owned()))
        }
    }
}

/// Which paths: `/api/people` is that path, `*` is one segment, and `/**` at the end is what
/// stands before it and everything below. Compared byte for byte, escapes and case included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
    below: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Exact(String),
    Any,
}

/// A text that is no pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no path; expected `/` and segments, such as /api/people; `*` is one segment, and \
     /** may end it"
)]
pub struct BadPattern(String);

impl PathPattern {
    /// Whether `path` is one of these.
    pub fn fits(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut asked = path.split('/');
        let fits = self.segments.iter().all(|segment| match (segment, asked.next()) {
            (Segment::Any, Some(asked)) => !asked.is_empty(),
            (Segment::Exact(wanted), Some(asked)) => wanted == asked,
            (Segment::Any | Segment::Exact(_), None) => false,
        });
        fits && (self.below || asked.next().is_none())
    }
}

impl FromStr for PathPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let bad = || BadPattern(text.to_owned());
        let plain = |sign: u8| sign.is_ascii_graphic() && !b"?#\\;*\"<>".contains(&sign);
        let (path, below) = match text.strip_suffix("/**") {
            Some(path) => (path, true),
            None => (text, false),
        };
        if text.len() > PATTERN_BYTES_MAX || !text.starts_with('/') {
            return Err(bad());
        }
        // What is left of `/**`, everything, is no segment at all.
        let segments = match path.strip_prefix('/') {
            None => Vec::new(),
            Some(path) => path
                .split('/')
                .map(|segment| match segment {
                    "*" => Ok(Segment::Any),
                    "." | ".." => Err(bad()),
                    exact if exact.bytes().all(plain) => Ok(Segment::Exact(exact.to_owned())),
                    _ => Err(bad()),
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { segments, below })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Exact(exact) => write!(f, "/{exact}")?,
                Segment::Any => f.write_str("/*")?,
            }
        }
        f.write_str(if self.below { "/**" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_path_a_segment_or_all_below() {
        let cases: [(&str, &[&str], &[&str]); 5] = [
            (
                "/api/people",
                &["/api/people"],
                &["/api/people/", "/api", "/api/People", "api/people"],
            ),
            ("/api/*/mail", &["/api/7/mail"], &["/api//mail", "/api/7/8/mail", "/api/mail"]),
            ("/api/**", &["/api", "/api/", "/api/a/b"], &["/apis", "/ap"]),
            ("/**", &["/", "/a", "/a/b"], &["", "*"]),
            ("/", &["/"], &["", "/a", "//"]),
        ];
        for (pattern, fitting, others) in cases {
            let read = pattern.parse::<PathPattern>().unwrap();
            assert_eq!(read.to_string(), pattern);
            for path in fitting {
                assert!(read.fits(path), "{pattern} {path:?}");
            }
            for path in others {
                assert!(!read.fits(path), "{pattern} {path:?}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in
            ["", "api", "/a*", "/**/a", "/a?b", "/a#b", "/../a", "/a b", "/ä", "/a;b", "/a\\b"]
        {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_credential_cannot_stand_in_a_header_that_frames() {
        assert!("x-api-key".parse::<HeaderName>().is_ok());
        for bad in ["", "Host", "host", "content-length", "a b", "a:b", "x\r\n", "te"] {
            assert!(bad.parse::<HeaderName>().is_err(), "{bad:?}");
        }
    }
}
