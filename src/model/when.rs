//! A time as people name it: a moment, a day, or how long ago.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A moment, or how long before now.
///
/// ```
/// use jiff::Timestamp;
/// use weir::model::when::When;
///
/// let now: Timestamp = "2026-11-29T12:00:00Z".parse()?;
/// let ago: When = "2h".parse()?;
/// assert_eq!(ago.before(now).to_string(), "2026-11-29T10:00:00Z");
/// let day: When = "2026-11-01".parse()?;
/// assert_eq!(day.before(now).to_string(), "2026-11-01T00:00:00Z");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This moment.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

/// A text that names no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no time: use one such as 2026-11-29T12:00:00Z, a day such as 2026-11-29 (UTC), or how \
     long ago, such as 30m, 2h or 7d"
)]
pub struct BadWhen(String);

impl When {
    /// The moment, seen from `now`. What would be before all time is the beginning of time.
    pub fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for When {
    type Err = BadWhen;

    fn from_str(text: &str) -> Result<Self, BadWhen> {
        let text = text.trim();
        let bad = || BadWhen(text.chars().take(64).collect());
        if let Some(ago) = duration(text) {
            return Ok(Self::Ago(ago));
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at));
        }
        // A date alone: whoever writes a time without a zone is asked for the zone.
        let day = if text.len() == "2026-11-29".len() { text.parse::<Date>().ok() } else { None };
        let midnight = day.and_then(|day| day.to_zoned(TimeZone::UTC).ok());
        midnight.map(|midnight| Self::At(midnight.timestamp())).ok_or_else(bad)
    }
}

/// `30s`, `5m`, `2h`, `7d`, `4w`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        'w' => 7 * 24 * 60 * 60,
        _ => return None,
    };
    let number = text.strip_suffix(unit)?;
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let count = plain.then(|| number.parse::<u64>().ok()).flatten()?;
    count.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_days_and_durations_are_read_and_nothing_else() {
        let now = "2026-11-29T12:00:00Z".parse::<Timestamp>().unwrap();
        let cases = [
            ("90s", "2026-11-29T11:58:30Z"),
            ("30m", "2026-11-29T11:30:00Z"),
            ("7d", "2026-11-22T12:00:00Z"),
            ("1w", "2026-11-22T12:00:00Z"),
            ("2026-11-29T13:00:00+02:00", "2026-11-29T11:00:00Z"),
            ("2026-11-29", "2026-11-29T00:00:00Z"),
        ];
        for (text, at) in cases {
            assert_eq!(text.parse::<When>().unwrap().before(now).to_string(), at, "{text}");
        }
        for text in ["", "h", "-2h", "2", "2 h", "1.5h", "yesterday", "2026-13-01", "7д"] {
            assert!(text.parse::<When>().unwrap_err().to_string().contains("is no time"), "{text}");
        }
        assert_eq!("99999999999w".parse::<When>().unwrap().before(now), Timestamp::MIN);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in any::<String>()) {
            if let Ok(when) = text.parse::<When>() {
                when.before(Timestamp::UNIX_EPOCH);
            }
        }
    }
}
