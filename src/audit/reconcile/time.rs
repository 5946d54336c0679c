//! The times in logs: with a zone, with a word for one, or without even a year.

use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::tz::TimeZone;

/// How the times of a log are to be read.
#[derive(Debug, Clone, Default)]
pub struct LogTime {
    /// The zone of times that name none, or name one by a word that several zones share. `None`:
    /// UTC where none is named; a word that is not UTC's is not read.
    pub zone: Option<TimeZone>,
    /// A time that the log is known to lie near: times without a year are put within half a year
    /// of it.
    pub near: Option<Timestamp>,
}

impl LogTime {
    /// `2026-11-29 02:48:39.123 UTC`, as PostgreSQL writes it: `date`, `time` and `zone`.
    pub(super) fn with_word(&self, date: &str, time: &str, zone: &str) -> Option<Timestamp> {
        let civil = format!("{date}T{time}").parse::<DateTime>().ok()?;
        match offset(zone) {
            Some(offset) => offset.to_timestamp(civil).ok(),
            None => self.zone.as_ref()?.to_timestamp(civil).ok(),
        }
    }

    /// RFC 3339, or its like without a colon in the offset.
    pub(super) fn stamp(text: &str) -> Option<Timestamp> {
        text.parse().ok()
    }

    /// `Nov 29 02:48:39`, as syslog always wrote it.
    pub(super) fn without_year(&self, month: &str, day: &str, time: &str) -> Option<Timestamp> {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = MONTHS.iter().position(|name| *name == month)?.checked_add(1)?;
        let day = day.parse::<u8>().ok()?;
        let zone = self.zone.clone().unwrap_or(TimeZone::UTC);
        let near = self.near?;
        let year = near.to_zoned(zone.clone()).year();
        let read = |year: i16| {
            let text = format!("{year:04}-{month:02}-{day:02}T{time}");
            zone.to_timestamp(text.parse::<DateTime>().ok()?).ok()
        };
        let away = |at: &Timestamp| at.duration_since(near).abs();
        let years = [year.checked_sub(1)?, year, year.checked_add(1)?];
        let nearest: Option<Timestamp> = years.into_iter().filter_map(read).min_by_key(away);
        nearest.filter(|at| away(at) <= SignedDuration::from_hours(24 * 190))
    }
}

/// The offset that a word says by itself.
fn offset(word: &str) -> Option<Offset> {
    if matches!(word, "UTC" | "GMT" | "Z" | "UCT" | "Etc/UTC") {
        return Some(Offset::UTC);
    }
    let (sign, digits) = match word.as_bytes().first()? {
        b'+' => (1, word.get(1..)?),
        b'-' => (-1, word.get(1..)?),
        _ => return None,
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some(pair) => pair,
        None if digits.len() == 4 => digits.split_at_checked(2)?,
        None => (digits, "0"),
    };
    let (hours, minutes) = (hours.parse::<i32>().ok()?, minutes.parse::<i32>().ok()?);
    if !(0..=15).contains(&hours) || !(0..=59).contains(&minutes) {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_word_that_several_zones_share_needs_to_be_told() {
        let none = LogTime::default();
        let read = |time: &LogTime, zone| time.with_word("2026-11-29", "02:48:39.123", zone);
        assert_eq!(read(&none, "UTC"), Some(at("2026-11-29T02:48:39.123Z")));
        assert_eq!(read(&none, "+02"), Some(at("2026-11-29T00:48:39.123Z")));
        assert_eq!(read(&none, "-0330"), Some(at("2026-11-29T06:18:39.123Z")));
        assert_eq!(read(&none, "CET"), None);
        let told = LogTime { zone: Some(TimeZone::fixed(Offset::constant(1))), near: None };
        assert_eq!(read(&told, "CET"), Some(at("2026-11-29T01:48:39.123Z")));
        for bad in ["", "+", "+99", "+1:99", "-x"] {
            assert_eq!(read(&none, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_without_a_year_is_in_the_nearest() {
        let near = LogTime { zone: None, near: Some(at("2026-01-03T00:00:00Z")) };
        assert_eq!(near.without_year("Dec", "31", "23:59:59"), Some(at("2025-12-31T23:59:59Z")));
        assert_eq!(near.without_year("Jan", "4", "00:00:00"), Some(at("2026-01-04T00:00:00Z")));
        assert_eq!(near.without_year("Foo", "4", "00:00:00"), None);
        assert_eq!(LogTime::default().without_year("Jan", "4", "00:00:00"), None);
    }
}
