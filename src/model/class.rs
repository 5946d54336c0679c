//! Data classes: what kind of data something is, nested by dots.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// What kind of data: `pii.email`, `pci.pan`, `phi`. A class covers itself and what nests in it.
///
/// ```
/// use weir::model::DataClass;
///
/// let pii: DataClass = "pii".parse()?;
/// let email: DataClass = "pii.email".parse()?;
/// assert!(pii.covers(&email));
/// assert!(!email.covers(&pii));
/// assert!(!"pi".parse::<DataClass>()?.covers(&pii));
/// # Ok::<(), weir::model::class::BadClass>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DataClass(String);

/// A text that is no data class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no data class: use words of a-z, 0-9 and `_`, joined by dots, such as pii.email")]
pub struct BadClass(String);

impl DataClass {
    /// The class as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `other` is this class or nests in it.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// The outermost word, e.g. `pii` of `pii.email`.
    pub fn root(&self) -> &str {
        self.0.split('.').next().unwrap_or(&self.0)
    }
}

impl TryFrom<String> for DataClass {
    type Error = BadClass;

    fn try_from(text: String) -> Result<Self, BadClass> {
        let word = |w: &str| {
            !w.is_empty()
                && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if text.len() <= 128 && text.split('.').all(word) {
            Ok(Self(text))
        } else {
            Err(BadClass(text))
        }
    }
}

impl FromStr for DataClass {
    type Err = BadClass;

    fn from_str(text: &str) -> Result<Self, BadClass> {
        Self::try_from(text.to_owned())
    }
}

impl From<DataClass> for String {
    fn from(class: DataClass) -> Self {
        class.0
    }
}

impl fmt::Display for DataClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a column, a field or a kind was declared to hold: a class, or, in writing, none.
///
/// What was not declared at all is neither: it is unknown, and unknown is no.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Declared {
    /// Holds no classified data: everybody who may ask may see it.
    Clear,
    /// Holds data of this class.
    Class(DataClass),
}

impl Declared {
    /// The class, if it is one.
    pub fn class(&self) -> Option<&DataClass> {
        match self {
            Self::Clear => None,
            Self::Class(class) => Some(class),
        }
    }
}

impl TryFrom<String> for Declared {
    type Error = BadClass;

    fn try_from(text: String) -> Result<Self, BadClass> {
        if text == "clear" { Ok(Self::Clear) } else { text.try_into().map(Self::Class) }
    }
}

impl From<Declared> for String {
    fn from(declared: Declared) -> Self {
        match declared {
            Declared::Clear => "clear".to_owned(),
            Declared::Class(class) => class.into(),
        }
    }
}
