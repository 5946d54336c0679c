//! `log_line_prefix`: what stands before each message of PostgreSQL's log.
//!
//! A prefix may end a user's own words (`%a`, an application's name) by signs that such words may
//! hold too. A line that can be read in several ways, which tell other things, is not read at all.
//! Logs in which nobody can play that game are csvlog and jsonlog.

use std::str::FromStr;

use jiff::Timestamp;

use crate::audit::reconcile::time::LogTime;

/// The prefixes that are tried where nobody says which: PostgreSQL's default, Debian's with and
/// without the part that only sessions have, pgBadger's, and those of two clouds.
pub(super) const KNOWN: [&str; 7] = [
    "%m [%p] %q%u@%d ",
    "%m [%p] ",
    "%m [%p] %q%u@%d/%a ",
    "%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ",
    "%t [%p]: user=%u,db=%d,app=%a,client=%h ",
    "%t:%r:%u@%d:[%p]:",
    "%m [%p]: [%l-1] db=%d,user=%u ",
];
/// How often a line is looked at anew before it counts as unreadable.
const STEPS_MAX: u32 = 4096;
/// Longest prefix of a line, in bytes.
const PREFIX_BYTES_MAX: usize = 2048;
/// Longest text in a prefix, in bytes: names have at most 63, the longest names of hosts 253.
const TEXT_BYTES_MAX: usize = 256;
/// What messages call themselves.
const SEVERITIES: [&str; 19] = [
    "LOG",
    "ERROR",
    "FATAL",
    "PANIC",
    "WARNING",
    "NOTICE",
    "INFO",
    "DETAIL",
    "HINT",
    "QUERY",
    "CONTEXT",
    "LOCATION",
    "STATEMENT",
    "BACKTRACE",
    "DEBUG1",
    "DEBUG2",
    "DEBUG3",
    "DEBUG4",
    "DEBUG5",
];

/// A prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(Vec<Piece>);

/// A text that is no `log_line_prefix`, or one in which nothing parts two texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPrefix {
    /// An escape that is not known.
    #[error("`%{0}` is no escape of log_line_prefix")]
    Unknown(char),
    /// Two texts with nothing in between.
    #[error("nothing stands behind `%{0}`, so nobody can tell where it ends")]
    Endless(char),
    /// It does not say which session a line is of.
    #[error("it has neither %p nor %c, so lines cannot be told apart by session")]
    NoProcess,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// `%q`: lines of no session end here.
    Quit,
    Field(char),
}

/// What a prefix said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) at: Option<Timestamp>,
    pub(super) process: Option<i64>,
    pub(super) user: Option<String>,
    pub(super) database: Option<String>,
    pub(super) remote: Option<String>,
    pub(super) port: Option<u16>,
}

/// Why a prefix parts no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unparted {
    /// It does not begin so.
    Other,
    /// It can be read in several ways.
    Several,
}

/// A line of a log as its prefix parts it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parted<'a> {
    pub(super) said: Said,
    pub(super) severity: &'a str,
    pub(super) message: &'a str,
}

impl FromStr for Prefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut signs = text.chars().peekable();
        while let Some(sign) = signs.next() {
            if sign != '%' {
                literal.push(sign);
                continue;
            }
            while signs.next_if(|sign| *sign == '-' || sign.is_ascii_digit()).is_some() {}
            match signs.next() {
                Some('%') => literal.push('%'),
                Some(field) => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(match field {
                        'q' => Piece::Quit,
                        field if is_known(field) => Piece::Field(field),
                        other => return Err(BadPrefix::Unknown(other)),
                    });
                }
                // A sign that stands at the end is written as nothing.
                None => {}
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        for (at, piece) in pieces.iter().enumerate() {
            let Piece::Field(field) = piece else { continue };
            let next = pieces.get(at.saturating_add(1)..).unwrap_or_default();
            let next = next.iter().find(|piece| !matches!(piece, Piece::Quit));
            if is_text(*field) && !matches!(next, Some(Piece::Literal(_))) {
                return Err(BadPrefix::Endless(*field));
            }
        }
        if !pieces.iter().any(|p| matches!(p, Piece::Field('p' | 'c'))) {
            return Err(BadPrefix::NoProcess);
        }
        Ok(Self(pieces))
    }
}

impl Prefix {
    /// Parts `line`.
    pub(super) fn part<'a>(&self, line: &'a str, time: &LogTime) -> Result<Parted<'a>, Unparted> {
        let mut ways = Ways { whole: line.len(), time, steps: STEPS_MAX, first: None, many: false };
        ways.part(&self.0, line, &Said::default());
        match (ways.first, ways.many) {
            (_, true) => Err(Unparted::Several),
            (first, false) => first.ok_or(Unparted::Other),
        }
    }

    /// Whether clients choose what stands in it: the name of their program.
    pub fn is_open(&self) -> bool {
        self.0.contains(&Piece::Field('a'))
    }
}

fn is_known(field: char) -> bool {
    is_text(field) || "pPtmnecslvxQ".contains(field)
}

/// Whether a field may hold any signs at all.
fn is_text(field: char) -> bool {
    "audrhLbi".contains(field)
}

/// The ways in which a line can be read.
struct Ways<'a, 't> {
    /// How long the line is, in bytes.
    whole: usize,
    time: &'t LogTime,
    /// How often it may still be looked at anew.
    steps: u32,
    first: Option<Parted<'a>>,
    /// There is a second one, that tells other things.
    many: bool,
}

impl<'a> Ways<'a, '_> {
    fn part(&mut self, pieces: &[Piece], line: &'a str, said: &Said) {
        let Some(steps) = self.steps.checked_sub(1) else {
            // Whoever makes it so hard has a reason.
            self.many = true;
            return;
        };
        self.steps = steps;
        if self.many || self.whole.saturating_sub(line.len()) > PREFIX_BYTES_MAX {
            return;
        }
        let Some((piece, rest)) = pieces.split_first() else { return self.message(line, said) };
        match piece {
            Piece::Literal(literal) => {
                if let Some(after) = line.strip_prefix(literal.as_str()) {
                    self.part(rest, after, said);
                }
            }
            Piece::Quit => {
                self.part(rest, line, said);
                self.message(line, said);
            }
            Piece::Field(field) if is_text(*field) => self.text(*field, rest, line, said),
            Piece::Field(field) => {
                let line = line.trim_start_matches(' ');
                let parted = length(*field, line).and_then(|length| line.split_at_checked(length));
                let Some((text, after)) = parted else { return };
                let mut said = said.clone();
                said.hear(*field, text, self.time);
                self.part(rest, after, &said);
                // What pads a field to its width.
                let padded = after.trim_start_matches(' ');
                if padded.len() < after.len() {
                    self.part(rest, padded, &said);
                }
            }
        }
    }

    /// A field that ends where what follows it begins, which may be in several places.
    fn text(&mut self, field: char, rest: &[Piece], line: &'a str, said: &Said) {
        let end = rest.iter().find_map(|piece| match piece {
            Piece::Literal(literal) => Some(literal.as_str()),
            Piece::Quit | Piece::Field(_) => None,
        });
        let Some(end) = end else { return };
        for (at, _) in line.match_indices(end).take_while(|(at, _)| *at <= TEXT_BYTES_MAX) {
            let Some((text, after)) = line.split_at_checked(at) else { return };
            let mut said = said.clone();
            said.hear(field, text.trim(), self.time);
            self.part(rest, after, &said);
        }
    }

    /// `LOG:  statement: …`: two blanks, whatever the message.
    fn message(&mut self, line: &'a str, said: &Said) {
        let parted = SEVERITIES.iter().find_map(|severity| {
            let message = line.strip_prefix(severity)?.strip_prefix(":  ")?;
            Some(Parted { said: said.clone(), severity, message })
        });
        let Some(parted) = parted else { return };
        match &self.first {
            // Whose name ends where is told apart by nothing, and changes nothing.
            Some(first) => self.many |= !first.tells_as(&parted),
            None => self.first = Some(parted),
        }
    }
}

impl Parted<'_> {
    /// Whether both tell the same, whoever is said to have asked.
    fn tells_as(&self, other: &Self) -> bool {
        let about = |parted: &Self| (parted.said.at, parted.said.process, parted.said.port);
        about(self) == about(other)
            && (self.severity, self.message) == (other.severity, other.message)
    }
}

/// How long a field is that has a form of its own.
fn length(field: char, line: &str) -> Option<usize> {
    let of = |is: fn(u8) -> bool| line.bytes().take_while(|byte| is(*byte)).count();
    match field {
        't' | 'm' | 's' => time_length(line),
        'n' => Some(of(|byte| byte.is_ascii_digit() || byte == b'.')),
        'c' => Some(of(|byte| byte.is_ascii_hexdigit() || byte == b'.')),
        'v' => Some(of(|byte| byte.is_ascii_digit() || byte == b'/' || byte == b'-')),
        'e' => Some(of(|byte| byte.is_ascii_alphanumeric()).min(5)),
        'Q' => Some(of(|byte| byte.is_ascii_digit() || byte == b'-')),
        _ => Some(of(|byte| byte.is_ascii_digit())),
    }
}

/// `2026-11-29 02:48:39.123 UTC`.
fn time_length(line: &str) -> Option<usize> {
    let mut words = line.splitn(3, ' ');
    let (date, time, rest) = (words.next()?, words.next()?, words.next()?);
    // A colon is part of an offset, and stands behind a word.
    let colon = rest.starts_with(['+', '-']);
    let is_zone = |byte: &u8| {
        byte.is_ascii_alphanumeric() || b"+-/_".contains(byte) || (colon && *byte == b':')
    };
    let zone = rest.bytes().take_while(|byte| is_zone(byte)).count();
    let zone = rest.get(..zone)?.trim_end_matches(':').len();
    let begins = date.len() == 10 && time.len() >= 8 && zone > 0;
    begins.then(|| date.len().saturating_add(time.len()).saturating_add(zone).saturating_add(2))
}

impl Said {
    fn hear(&mut self, field: char, text: &str, time: &LogTime) {
        let known = || Some(text.to_owned()).filter(|t| !t.is_empty() && t != "[unknown]");
        match field {
            't' | 'm' => self.at = stamp(text, time),
            'n' => self.at = epoch(text),
            'p' => self.process = text.parse().ok(),
            // Its second half is the process's number.
            'c' if self.process.is_none() => {
                let process = text.split_once('.').map(|(_, process)| process);
                self.process = process.and_then(|hex| i64::from_str_radix(hex, 16).ok());
            }
            'u' => self.user = known(),
            'd' => self.database = known(),
            'h' => self.remote = known(),
            'r' => {
                let (host, port) = text.rsplit_once('(').unwrap_or((text, ""));
                self.port = port.trim_end_matches(')').parse().ok();
                self.remote = Some(host.to_owned()).filter(|host| !host.is_empty());
            }
            _ => {}
        }
    }
}

/// A time as PostgreSQL writes it.
pub(super) fn stamp(text: &str, time: &LogTime) -> Option<Timestamp> {
    let mut words = text.splitn(3, ' ');
    time.with_word(words.next()?, words.next()?, words.next()?)
}

/// `%n`: seconds since 1970 with a fraction.
fn epoch(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let millis = format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?;
    Timestamp::from_millisecond(
        seconds.parse::<i64>().ok()?.checked_mul(1000)?.checked_add(millis)?,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part<'a>(prefix: &str, line: &'a str) -> Option<Parted<'a>> {
        prefix.parse::<Prefix>().unwrap().part(line, &LogTime::default()).ok()
    }

    #[test]
    fn a_line_that_can_be_read_in_two_ways_is_not_read() {
        let several = |prefix: &str, line: &str| {
            let parted = prefix.parse::<Prefix>().unwrap();
            assert_eq!(parted.part(line, &LogTime::default()), Err(Unparted::Several), "{line}");
        };
        let head = "2026-11-29 02:48:39 UTC [421]: user=app,db=crm,app=";
        let said = "LOG:  statement: DROP TABLE customers";
        several(KNOWN[4], &format!("{head}a,client=1 LOG:  x,client=10.0.0.1 {said}"));
        let head = "2026-11-29 02:48:39.123 UTC [421] app@crm";
        several(KNOWN[2], &format!("{head}/a LOG:  x {said}"));
        // A name with the sign that parts names changes nothing.
        let parted = part(KNOWN[0], "2026-11-29 02:48:39.123 UTC [421] a@b@crm LOG:  statement: x");
        assert_eq!(parted.unwrap().message, "statement: x");
    }

    #[test]
    fn every_known_prefix_parts_its_own_lines() {
        for (prefix, head) in [
            (KNOWN[0], "2026-11-29 02:48:39.123 UTC [421] app@crm "),
            (KNOWN[1], "2026-11-29 02:48:39.123 UTC [421] "),
            (KNOWN[2], "2026-11-29 02:48:39.123 UTC [421] app@crm/my tool "),
            (KNOWN[3], "2026-11-29 02:48:39 UTC [421]: [7-1] user=app,db=crm,app=a, b,client=::1 "),
            (KNOWN[4], "2026-11-29 02:48:39 UTC [421]: user=app,db=crm,app=,client=10.0.0.1 "),
            (KNOWN[5], "2026-11-29 02:48:39 UTC:10.0.0.1(5432):app@crm:[421]:"),
            (KNOWN[6], "2026-11-29 02:48:39.123 UTC [421]: [7-1] db=crm,user=app "),
            ("%n %-8p|%c|%e ", "1764384519.123 421     |692a.1a5|42601 "),
        ] {
            let line = format!("{head}LOG:  statement: SELECT ':  '");
            let parted = part(prefix, &line).unwrap_or_else(|| panic!("{prefix}"));
            assert_eq!((parted.severity, parted.message), ("LOG", "statement: SELECT ':  '"));
            assert_eq!(parted.said.process, Some(421), "{prefix}");
            assert!(parted.said.at.is_some(), "{prefix}");
            if prefix.contains("%u") {
                assert_eq!(parted.said.user.as_deref(), Some("app"), "{prefix}");
                assert_eq!(parted.said.database.as_deref(), Some("crm"), "{prefix}");
            }
        }
        let server = part(KNOWN[0], "2026-11-29 02:48:39.123 UTC [9] LOG:  ready").unwrap();
        assert_eq!((server.message, server.said.user), ("ready", None));
        let far = part(KNOWN[5], "2026-11-29 02:48:39 UTC:10.0.0.1(5432):a@c:[1]:LOG:  x").unwrap();
        assert_eq!((far.said.port, far.said.remote.as_deref()), (Some(5432), Some("10.0.0.1")));
    }

    #[test]
    fn what_cannot_part_lines_is_no_prefix() {
        let parse = |text: &str| text.parse::<Prefix>();
        assert_eq!(parse("%m %y"), Err(BadPrefix::Unknown('y')));
        assert_eq!(parse("%p %u%d "), Err(BadPrefix::Endless('u')));
        assert_eq!(parse("%p %u"), Err(BadPrefix::Endless('u')));
        assert_eq!(parse("%m "), Err(BadPrefix::NoProcess));
        assert_eq!(part("%p ", "no prefix at all"), None);
    }
}
