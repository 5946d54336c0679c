//! What a target's messages say, as far as a gateway must know it.

use std::fmt::Write;

use bytes::Bytes;

use crate::protocol::postgres::wire::Frame;
use crate::protocol::postgres::wire::HEAD_BYTES;
use crate::protocol::postgres::wire::Malformed;

/// One column of a `RowDescription`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The table it comes from; 0: none that the server names.
    pub table: u32,
    /// Its number in that table; 0: none, or the whole row.
    pub number: i16,
    /// Its type.
    pub kind: u32,
    /// Its format; 1 is binary.
    pub format: i16,
}

/// The columns of a `RowDescription`.
pub fn columns(frame: &Frame) -> Result<Vec<Column>, Malformed> {
    let body = frame.body();
    let mut fields = Slice { tag: frame.tag(), rest: &body };
    let count = u16::from_be_bytes(fields.chunk()?);
    let columns = (0..count)
        .map(|_| {
            fields.string()?;
            let column = Column {
                table: u32::from_be_bytes(fields.chunk()?),
                number: i16::from_be_bytes(fields.chunk()?),
                kind: u32::from_be_bytes(fields.chunk()?),
                format: {
                    fields.chunk::<6>()?;
                    i16::from_be_bytes(fields.chunk()?)
                },
            };
            Ok(column)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if fields.rest.is_empty() { Ok(columns) } else { Err(fields.malformed()) }
}

/// The transaction's state that a `ReadyForQuery` says: `I`, `T` or `E`.
pub fn ready(frame: &Frame) -> Result<u8, Malformed> {
    match frame.body().as_ref() {
        [state @ (b'I' | b'T' | b'E')] => Ok(*state),
        _ => Err(Malformed::Format(frame.tag())),
    }
}

/// Name and value of a `ParameterStatus`.
pub fn parameter(frame: &Frame) -> Result<(String, String), Malformed> {
    let body = frame.body();
    let mut fields = Slice { tag: frame.tag(), rest: &body };
    let (name, value) = (fields.string()?, fields.string()?);
    if !fields.rest.is_empty() {
        return Err(fields.malformed());
    }
    Ok((lossy(name), lossy(value)))
}

/// The one string that a message consists of: a command tag, an error in old form.
pub fn text_of(frame: &Frame) -> String {
    lossy(frame.body().split(|byte| *byte == 0).next().unwrap_or_default())
}

/// What an `ErrorResponse` or a `NoticeResponse` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// ERROR, FATAL, PANIC, WARNING, NOTICE, DEBUG, INFO or LOG, not translated.
    pub severity: String,
    /// The SQLSTATE.
    pub code: String,
    /// The message.
    pub message: Bytes,
}

impl Report {
    /// What `frame` says.
    pub fn of(frame: &Frame) -> Result<Self, Malformed> {
        let body = frame.body();
        let mut fields = Slice { tag: frame.tag(), rest: &body };
        let mut report =
            Self { severity: String::new(), code: String::new(), message: Bytes::new() };
        loop {
            let [kind] = fields.chunk::<1>()?;
            if kind == 0 {
                break;
            }
            let value = fields.string()?;
            match kind {
                // V is S, not translated (PostgreSQL 9.6 and later).
                b'V' => report.severity = lossy(value),
                b'S' if report.severity.is_empty() => report.severity = lossy(value),
                b'C' => report.code = lossy(value),
                b'M' => report.message = Bytes::copy_from_slice(value),
                _ => {}
            }
        }
        if fields.rest.is_empty() { Ok(report) } else { Err(fields.malformed()) }
    }

    /// What people read of `frame`: severity, SQLSTATE and message, and what else it says in words,
    /// each in a line. Where in the server's code it was raised is left out.
    pub fn text(frame: &Frame) -> Result<String, Malformed> {
        let told = Self::of(frame)?;
        let mut text = format!("{} {}: {}\n", told.severity, told.code, lossy(&told.message));
        let body = frame.body();
        let mut fields = Slice { tag: frame.tag(), rest: &body };
        loop {
            let [kind] = fields.chunk::<1>()?;
            if kind == 0 {
                return Ok(text);
            }
            let value = fields.string()?;
            let name = match kind {
                b'D' => "DETAIL",
                b'H' => "HINT",
                b'W' => "CONTEXT",
                b'q' => "QUERY",
                _ => continue,
            };
            // Writing into a string does not fail.
            let _written = writeln!(text, "{name}: {}", lossy(value));
        }
    }

    /// Whether the server ends the session with it.
    pub fn is_fatal(&self) -> bool {
        self.severity == "FATAL" || self.severity == "PANIC"
    }
}

/// The values of one `DataRow`; `None` is NULL.
#[derive(Debug)]
pub struct Cells<'a> {
    rest: &'a [u8],
    left: u16,
    broken: bool,
}

impl<'a> Cells<'a> {
    /// The values of the `DataRow` that `row` is, with type and length.
    pub fn of(row: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Slice { tag: b'D', rest: row.get(HEAD_BYTES..).unwrap_or_default() };
        let left = u16::from_be_bytes(fields.chunk()?);
        Ok(Self { rest: fields.rest, left, broken: false })
    }

    /// How many values are still to come.
    pub fn left(&self) -> u16 {
        self.left
    }

    /// Whether all of the row was understood, once every value was taken.
    pub fn is_whole(&self) -> bool {
        self.left == 0 && self.rest.is_empty() && !self.broken
    }

    fn take(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let mut fields = Slice { tag: b'D', rest: self.rest };
        let size = i32::from_be_bytes(fields.chunk()?);
        let cell = match size {
            -1 => None,
            size => {
                let size = usize::try_from(size).map_err(|_| fields.malformed())?;
                Some(fields.take(size)?)
            }
        };
        self.rest = fields.rest;
        Ok(cell)
    }
}

impl<'a> Iterator for Cells<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        if let Ok(cell) = self.take() {
            return Some(cell);
        }
        (self.broken, self.left) = (true, 0);
        None
    }
}

struct Slice<'a> {
    tag: u8,
    rest: &'a [u8],
}

impl<'a> Slice<'a> {
    fn malformed(&self) -> Malformed {
        Malformed::Format(self.tag)
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(size).ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(*taken)
    }

    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let end = memchr::memchr(0, self.rest).ok_or_else(|| self.malformed())?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::postgres::wire::Build;

    #[test]
    fn an_error_is_read_by_its_fields() {
        let error = Build::new(b'E').byte(b'S').string("FEHLER").byte(b'V').string("ERROR");
        let error = error.byte(b'C').string("42601").byte(b'M').string("syntax error").byte(0);
        let report = Report::of(&error.done()).unwrap();
        assert_eq!((report.severity.as_str(), report.code.as_str()), ("ERROR", "42601"));
        assert!(!report.is_fatal());
        assert!(Report::of(&Build::new(b'E').byte(b'S').raw(b"no end").done()).is_err());
    }

    #[test]
    fn a_row_is_whole_only_if_every_byte_belongs_to_a_value() {
        let row = Build::new(b'D').int16(2).int32(-1).int32(2).raw(b"ab").done();
        let mut cells = Cells::of(row.bytes()).unwrap();
        assert_eq!(cells.by_ref().collect::<Vec<_>>(), [None, Some(&b"ab"[..])]);
        assert!(cells.is_whole());
        let short = Build::new(b'D').int16(2).int32(-1).int32(9).raw(b"ab").done();
        let mut cells = Cells::of(short.bytes()).unwrap();
        assert_eq!(cells.by_ref().count(), 1);
        assert!(!cells.is_whole());
    }
}
