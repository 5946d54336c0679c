//! The lines of a log, each with its number, and none longer than is read.

use std::io;
use std::io::BufRead;
use std::io::Read;

/// Longest line of a log, in bytes: sixteen times the longest statement that the gateway carries.
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One line of a log, without its line feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// What it says; bytes that are no UTF-8 are replaced.
    pub text: String,
    /// It was longer than is read, and cut.
    pub cut: bool,
}

/// How much of a log was understood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many lines, or messages, there are.
    pub lines: u64,
    /// How many of them are of the kind that was looked for.
    pub known: u64,
}

impl Taken {
    /// Counts one.
    pub(super) fn line(&mut self, is_known: bool) {
        self.lines = self.lines.saturating_add(1);
        self.known = self.known.saturating_add(u64::from(is_known));
    }

    /// Whether it is a log of something else: nothing in it is of the kind that was looked for.
    pub fn is_foreign(self) -> bool {
        self.lines > 0 && self.known == 0
    }
}

/// The lines of `R`. It ends at the first error, which [`Lines::error`] then has.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    number: u64,
    bytes_max: usize,
    error: Option<io::Error>,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, number: 0, bytes_max: LINE_BYTES_MAX, error: None }
    }

    /// Why reading stopped before the end, if it did.
    pub fn error(self) -> Option<io::Error> {
        self.error
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        let bound = u64::try_from(self.bytes_max).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        if self.reader.by_ref().take(bound).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        self.number = self.number.saturating_add(1);
        let ended = bytes.pop_if(|last| *last == b'\n').is_some();
        let cut = !ended && bytes.len() >= self.bytes_max && self.skip()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Some(Line { number: self.number, text, cut }))
    }

    /// Leaves out the rest of a line; whether there was any.
    fn skip(&mut self) -> io::Result<bool> {
        let mut any = false;
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(any);
            }
            if let Some(at) = memchr::memchr(b'\n', buffer) {
                self.reader.consume(at.saturating_add(1));
                return Ok(any || at > 0);
            }
            let all = buffer.len();
            self.reader.consume(all);
            any = true;
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.error.is_some() {
            return None;
        }
        self.read().unwrap_or_else(|error| {
            self.error = Some(error);
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_too_long_ones_are_cut_but_counted_once() {
        let mut lines = Lines::new(&b"one\n\n0123456789\n01234567\nlast\xff"[..]);
        lines.bytes_max = 8;
        let all = lines.by_ref().map(|l| (l.number, l.text, l.cut)).collect::<Vec<_>>();
        let is = |n: u64, text: &str, cut: bool| (n, text.to_owned(), cut);
        assert_eq!(
            all,
            [
                is(1, "one", false),
                is(2, "", false),
                is(3, "01234567", true),
                is(4, "01234567", false),
                is(5, "last\u{fffd}", false)
            ]
        );
        assert!(lines.error().is_none());
    }
}
