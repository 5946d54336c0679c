//! Answers: what of a target's messages reaches a client, masked where it must be.
//!
//! Which column is of which class comes from the reading of the statement and is checked against
//! the origins that the server names; what a mask is, `crate::mask` says. A masked value keeps the
//! format that the driver asked for: text becomes a mask, every other type NULL, since no text can
//! be one of its values. Whether a masked value was NULL is not shown either.

use std::collections::BTreeSet;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::audit::entry::Volume;
use crate::audit::recording::Stream;
use crate::mask;
use crate::model::DataClass;
use crate::model::verdict::Masks;
use crate::protocol::postgres::sql::Outputs;
use crate::protocol::postgres::wire::Cells;
use crate::protocol::postgres::wire::Column;
use crate::protocol::postgres::wire::Frame;
use crate::protocol::postgres::wire::HEAD_BYTES;
use crate::protocol::postgres::wire::Report;
use crate::session::guard::Answer;
use crate::session::guard::Masked;
use crate::session::guard::Withheld;
use crate::session::guard::beginning;

/// Types whose values are plain text in both formats (`pg_type.oid`): text, varchar, bpchar, name,
/// unknown.
const TEXT_TYPES: [u32; 5] = [25, 1043, 1042, 19, 705];

/// The columns of one statement's rows, as far as masking must know them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    columns: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    classes: BTreeSet<DataClass>,
    text: bool,
}

/// The server's columns are not those that the statement was read to have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the target's columns are not those that this statement was read to have: {0}")]
pub struct Disagreement(String);

impl Disagreement {
    /// The server answers a statement that was not read.
    pub fn unread() -> Self {
        Self("there are more of them than statements".to_owned())
    }
}

impl Shape {
    /// The shape of rows that the statement says to be `outputs` and the server to be `columns`;
    /// `declared` are the tables that were declared, by object identifier.
    pub fn of(
        columns: &[Column],
        outputs: &Outputs,
        declared: &BTreeSet<u32>,
    ) -> Result<Self, Disagreement> {
        let wrong = |what: String| Disagreement(what);
        match outputs {
            Outputs::Nothing => Err(wrong("it returns no rows".to_owned())),
            Outputs::Stored => Err(wrong("what was prepared is not known".to_owned())),
            Outputs::Unclassified => {
                let strange = columns.iter().find(|c| declared.contains(&c.table));
                match strange {
                    Some(column) => {
                        Err(wrong(format!("a column comes from table {}", column.table)))
                    }
                    None => Ok(Self {
                        columns: columns.iter().map(|c| field(c, &BTreeSet::new())).collect(),
                    }),
                }
            }
            Outputs::Columns(expected) => {
                if expected.len() != columns.len() {
                    return Err(wrong(format!("{} instead of {}", columns.len(), expected.len())));
                }
                let checked =
                    expected.iter().zip(columns).enumerate().map(|(at, (output, column))| {
                        let origin = (column.table != 0).then_some((column.table, column.number));
                        // A column that comes from nowhere may not say that it comes from a table that
                        // was declared; one that comes from a table must say so.
                        let agrees = match output.origin {
                            Some(expected) => origin == Some(expected),
                            // Numbers below 0 are system columns, which hold no declared one's value.
                            None => !declared.contains(&column.table) || column.number < 0,
                        };
                        if agrees {
                            Ok(field(column, &output.classes))
                        } else {
                            Err(wrong(format!(
                                "column {} has another origin",
                                at.saturating_add(1)
                            )))
                        }
                    });
                Ok(Self { columns: checked.collect::<Result<_, _>>()? })
            }
        }
    }

    fn hides(&self, masks: &Masks) -> bool {
        self.columns.iter().any(|field| masks.hides_any(&field.classes))
    }
}

fn field(column: &Column, classes: &BTreeSet<DataClass>) -> Field {
    Field { classes: classes.clone(), text: TEXT_TYPES.contains(&column.kind) }
}

/// A run of whole rows of one statement.
#[derive(Debug)]
pub struct Rows {
    /// The messages.
    pub bytes: Bytes,
    /// How many they are.
    pub rows: u64,
    /// Their shape, where it was checked: it always is where something is hidden.
    pub shape: Option<Shape>,
}

impl Answer for Rows {
    type Out = Bytes;

    fn masked(self, masks: &Masks, room: usize) -> Result<Masked<Bytes>, Withheld> {
        let Some(shape) = self.shape.as_ref().filter(|shape| shape.hides(masks)) else {
            if self.shape.is_none() && masks.hides_something() {
                return Err(Withheld::unmaskable("the shape of this answer is not known"));
            }
            return Ok(whole(self.bytes, self.rows, room));
        };
        let mut out = BytesMut::with_capacity(self.bytes.len());
        let mut masked = 0_u64;
        for row in rows_of(&self.bytes) {
            masked = masked.saturating_add(rewrite(row, shape, masks, &mut out)?);
        }
        let out = out.freeze();
        let shown = shown(&out, room);
        let volume = Volume { rows: self.rows, bytes: size(&out), masked };
        Ok(Masked { out, volume, shown: shown.into(), stream: Stream::Output })
    }
}

fn whole(bytes: Bytes, rows: u64, room: usize) -> Masked<Bytes> {
    let shown = shown(&bytes, room);
    let volume = Volume { rows, bytes: size(&bytes), masked: 0 };
    Masked { out: bytes, volume, shown: shown.into(), stream: Stream::Output }
}

/// Writes `row` with its hidden values masked, and gives how many they were.
fn rewrite(row: &[u8], shape: &Shape, masks: &Masks, out: &mut BytesMut) -> Result<u64, Withheld> {
    let broken = || Withheld::unmaskable("a row of the target cannot be read");
    let mut cells = Cells::of(row).map_err(|_| broken())?;
    if usize::from(cells.left()) != shape.columns.len() {
        return Err(Withheld::unmaskable("a row has other columns than were described"));
    }
    let begin = out.len();
    out.put_u8(b'D');
    out.put_i32(0);
    out.put_u16(cells.left());
    let mut masked = 0_u64;
    for (cell, field) in cells.by_ref().zip(&shape.columns) {
        if masks.hides_any(&field.classes) {
            masked = masked.saturating_add(1);
            let hidden = field.classes.iter().filter(|class| masks.hides(class));
            let mask = field.text.then(|| mask::text_of(hidden));
            put(out, mask.as_deref().map(str::as_bytes));
        } else {
            put(out, cell);
        }
    }
    // `zip` has stopped at the shorter side; both were counted equal before.
    if !cells.is_whole() {
        return Err(broken());
    }
    let length = out.len().saturating_sub(begin).saturating_sub(1);
    let length = u32::try_from(length).map_err(|_| broken())?.to_be_bytes();
    let at = begin.saturating_add(1);
    let place = out.get_mut(at..at.saturating_add(4)).ok_or_else(broken)?;
    place.copy_from_slice(&length);
    Ok(masked)
}

fn put(out: &mut BytesMut, cell: Option<&[u8]>) {
    match cell {
        None => out.put_i32(-1),
        Some(value) => {
            // A value came in a message of at most 16 MiB.
            out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
            out.put_slice(value);
        }
    }
}

/// The rows of a run, with type and length.
fn rows_of(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = rest.get(1..HEAD_BYTES)?.first_chunk::<4>()?;
        let total = usize::try_from(u32::from_be_bytes(*length)).ok()?.checked_add(1)?;
        let (row, behind) = rest.split_at_checked(total)?;
        rest = behind;
        Some(row)
    })
}

/// The beginning of a run of rows as people read it, about `room` bytes: values parted by tabs, one
/// row a line.
fn shown(bytes: &[u8], room: usize) -> Vec<u8> {
    let mut text = Vec::new();
    if room == 0 {
        return text;
    }
    for row in rows_of(bytes) {
        let Ok(cells) = Cells::of(row) else { break };
        for (at, cell) in cells.enumerate() {
            if at > 0 {
                text.push(b'\t');
            }
            show(cell, room.saturating_sub(text.len()), &mut text);
        }
        text.push(b'\n');
        if text.len() > room {
            break;
        }
    }
    text
}

fn show(cell: Option<&[u8]>, room: usize, text: &mut Vec<u8>) {
    let Some(value) = cell else {
        text.extend_from_slice(b"NULL");
        return;
    };
    // One byte more than there is room for, so that the record says that it was cut.
    let kept = value.get(..room.saturating_add(1)).unwrap_or(value);
    let plain = |c: char| !c.is_control() || c == '\n' || c == '\t';
    let readable = match std::str::from_utf8(kept) {
        Ok(text) => text.chars().all(plain),
        // A sign that was cut in its midst is still text.
        Err(error) => error.error_len().is_none() && error.valid_up_to() > 0,
    };
    if readable {
        for byte in kept {
            match byte {
                b'\n' => text.extend_from_slice(b"\\n"),
                b'\t' => text.extend_from_slice(b"\\t"),
                other => text.push(*other),
            }
        }
    } else {
        text.extend_from_slice(b"\\x");
        for byte in kept.iter().take(room.saturating_add(1)) {
            text.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
    }
}

/// A part of one long row, of a statement of which nothing is masked.
#[derive(Debug)]
pub struct RowPart {
    /// The part.
    pub bytes: Bytes,
    /// It is the first of its row.
    pub first: bool,
}

impl Answer for RowPart {
    type Out = Bytes;

    fn masked(self, masks: &Masks, room: usize) -> Result<Masked<Bytes>, Withheld> {
        if masks.hides_something() {
            return Err(Withheld::unmaskable("a part of a row cannot be masked"));
        }
        let volume = Volume { rows: u64::from(self.first), bytes: size(&self.bytes), masked: 0 };
        let shown = beginning(&self.bytes, room);
        Ok(Masked { out: self.bytes, volume, shown, stream: Stream::Output })
    }
}

/// A message that carries none of a table's values, or one whose values were taken out before.
#[derive(Debug)]
pub struct Plain {
    /// The message.
    pub bytes: Bytes,
    /// Whether it may carry data: it counts as volume then.
    pub counts: bool,
}

impl Answer for Plain {
    type Out = Bytes;

    fn masked(self, _masks: &Masks, _room: usize) -> Result<Masked<Bytes>, Withheld> {
        let bytes = if self.counts { size(&self.bytes) } else { 0 };
        let volume = Volume { rows: 0, bytes, masked: 0 };
        Ok(Masked { out: self.bytes, volume, shown: Bytes::new(), stream: Stream::Output })
    }
}

/// An error or notice of a command, without what is hidden: its text may carry values as rows do, so
/// it is kept in the record as they are.
#[derive(Debug)]
pub struct Told(pub Frame);

impl Answer for Told {
    type Out = Bytes;

    fn masked(self, _masks: &Masks, room: usize) -> Result<Masked<Bytes>, Withheld> {
        let text = if room == 0 { Ok(String::new()) } else { Report::text(&self.0) };
        let text = text.map_err(|error| Withheld::unmaskable(error.to_string()))?;
        let shown = beginning(&Bytes::from(text), room);
        let out = self.0.into_bytes();
        let volume = Volume { rows: 0, bytes: size(&out), masked: 0 };
        Ok(Masked { out, volume, shown, stream: Stream::Error })
    }
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::postgres::sql::Output;
    use crate::protocol::postgres::wire::Build;

    fn classes(names: &[&str]) -> BTreeSet<DataClass> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn output(names: &[&str], origin: Option<(u32, i16)>) -> Output {
        Output { name: None, classes: classes(names), origin }
    }

    fn column(table: u32, number: i16, kind: u32) -> Column {
        Column { table, number, kind, format: 0 }
    }

    fn hiding() -> Masks {
        let mut masks = Masks::none_asked();
        masks.hide("pii.email".parse().unwrap(), Vec::new());
        masks
    }

    fn row(cells: &[Option<&[u8]>]) -> Bytes {
        let mut build = Build::new(b'D').int16(i16::try_from(cells.len()).unwrap());
        for cell in cells {
            build = match cell {
                None => build.int32(-1),
                Some(value) => build.int32(i32::try_from(value.len()).unwrap()).raw(value),
            };
        }
        build.done().into_bytes()
    }

    fn shape() -> Shape {
        let outputs = Outputs::Columns(vec![
            output(&[], Some((9, 1))),
            output(&["pii.email"], Some((9, 2))),
            output(&["pii.email"], Some((9, 3))),
        ]);
        let columns = [column(9, 1, 23), column(9, 2, 25), column(9, 3, 23)];
        Shape::of(&columns, &outputs, &BTreeSet::new()).unwrap()
    }

    #[test]
    fn hidden_text_becomes_a_mask_and_other_types_null() {
        let bytes = row(&[Some(b"1"), Some(b"ada@example.org"), Some(b"42")]);
        let rows = Rows { bytes, rows: 1, shape: Some(shape()) };
        let masked = rows.masked(&hiding(), 100).unwrap();
        assert_eq!(masked.out, row(&[Some(b"1"), Some(b"<masked:pii.email>"), None]));
        assert_eq!(masked.volume.masked, 2);
        assert_eq!(masked.shown, &b"1\t<masked:pii.email>\tNULL\n"[..]);
    }

    #[test]
    fn whether_a_hidden_value_is_null_is_not_shown() {
        let of = |cell| {
            let bytes = row(&[None, cell, None]);
            Rows { bytes, rows: 1, shape: Some(shape()) }.masked(&hiding(), 0).unwrap().out
        };
        assert_eq!(of(None), of(Some(b"ada@example.org")));
    }

    #[test]
    fn rows_of_unknown_shape_are_withheld_when_something_is_hidden() {
        let rows = || Rows { bytes: row(&[None]), rows: 1, shape: None };
        assert!(rows().masked(&hiding(), 0).is_err());
        assert!(rows().masked(&Masks::none_asked(), 0).is_ok());
        let other = Rows { bytes: row(&[None]), rows: 1, shape: Some(shape()) };
        assert!(other.masked(&hiding(), 0).is_err(), "another number of columns");
    }

    #[test]
    fn a_server_that_names_another_origin_is_not_believed() {
        let outputs = Outputs::Columns(vec![output(&[], Some((9, 1)))]);
        let declared = BTreeSet::new();
        for columns in
            [vec![column(9, 2, 25)], vec![column(8, 1, 25)], vec![column(0, 0, 25)], vec![]]
        {
            assert!(Shape::of(&columns, &outputs, &declared).is_err(), "{columns:?}");
        }
        assert!(Shape::of(&[column(9, 1, 25)], &outputs, &declared).is_ok());
        assert!(Shape::of(&[column(9, 1, 25)], &Outputs::Nothing, &declared).is_err());
        assert!(Shape::of(&[column(9, 1, 25)], &Outputs::Stored, &declared).is_err());
    }

    #[test]
    fn a_system_column_of_a_declared_table_is_no_surprise_but_its_row_is() {
        let outputs = Outputs::Columns(vec![output(&[], None)]);
        let declared = BTreeSet::from([9]);
        assert!(Shape::of(&[column(9, -2, 28)], &outputs, &declared).is_ok());
        assert!(Shape::of(&[column(9, 0, 25)], &outputs, &declared).is_err());
        assert!(Shape::of(&[column(9, 1, 25)], &outputs, &declared).is_err());
    }

    #[test]
    fn without_masks_the_bytes_are_the_same_bytes() {
        let bytes = row(&[Some(b"1"), Some(b"x"), Some(b"2")]);
        let rows = Rows { bytes: bytes.clone(), rows: 1, shape: None };
        let out = rows.masked(&Masks::none_asked(), 0).unwrap().out;
        assert_eq!(out.as_ptr(), bytes.as_ptr(), "forwarded without a copy");
    }

    #[test]
    fn what_an_error_says_is_kept_as_it_was_told() {
        let error = Build::new(b'E').byte(b'S').string("ERROR").byte(b'C').string("23505");
        let error = error.byte(b'M').string("duplicate key").byte(b'F').string("nbtinsert.c");
        let error = error.byte(b'D').string("Key (email)=(ada@example.org) already exists.");
        let error = error.byte(0).done();
        let told = |room| Told(error.clone()).masked(&Masks::none_asked(), room).unwrap();
        let masked = told(4096);
        assert_eq!(masked.out, error.bytes());
        assert_eq!(masked.stream, Stream::Error);
        let text =
            "ERROR 23505: duplicate key\nDETAIL: Key (email)=(ada@example.org) already exists.\n";
        assert_eq!(masked.shown, text.as_bytes());
        assert_eq!((told(4).shown.len(), told(0).shown.len()), (5, 0));
    }

    proptest! {
        #[test]
        fn a_hidden_value_is_in_no_output(secret in "[a-z]{6,40}", other in "[0-9]{0,5}") {
            let bytes = row(&[Some(other.as_bytes()), Some(secret.as_bytes()), Some(secret.as_bytes())]);
            let rows = Rows { bytes, rows: 1, shape: Some(shape()) };
            let masked = rows.masked(&hiding(), 1000).unwrap();
            let find = |hay: &[u8]| memchr::memmem::find(hay, secret.as_bytes()).is_some();
            prop_assume!(!"<masked:pii.email>".contains(&secret));
            prop_assert!(!find(&masked.out) && !find(&masked.shown));
        }
    }
}
