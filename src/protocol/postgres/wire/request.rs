//! What a client's messages say, field by field: exactly what the server will read, or malformed.

use bytes::Buf;
use bytes::Bytes;

use crate::protocol::postgres::wire::Frame;
use crate::protocol::postgres::wire::Malformed;

/// Whether a name is a prepared statement's or a portal's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// A prepared statement's.
    Statement,
    /// A portal's.
    Portal,
}

/// A Parse message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parse {
    /// The name of the statement to be; empty: the unnamed one.
    pub name: Bytes,
    /// Its text.
    pub text: Bytes,
}

/// A Bind message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The name of the portal to be; empty: the unnamed one.
    pub portal: Bytes,
    /// The prepared statement.
    pub statement: Bytes,
    /// Formats of the values: none (all text), one for all, or one each.
    pub formats: Vec<i16>,
    /// The values; `None` is NULL.
    pub values: Vec<Option<Bytes>>,
    /// Formats wanted for the columns of the answer: none (all text), one for all, or one each.
    pub results: Vec<i16>,
}

impl Bind {
    /// Whether the value at `index` is binary.
    pub fn is_binary(&self, index: usize) -> bool {
        match self.formats.as_slice() {
            [] => false,
            [all] => *all != 0,
            each => each.get(index).is_some_and(|format| *format != 0),
        }
    }
}

/// A client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Runs a string of statements.
    Query(Bytes),
    /// Prepares a statement.
    Parse(Parse),
    /// Makes a portal of a prepared statement.
    Bind(Bind),
    /// Asks for the shape of a statement or portal.
    Describe(Which, Bytes),
    /// Runs a portal.
    Execute(Bytes),
    /// Closes a statement or portal.
    Close(Which, Bytes),
    /// Asks for what is ready.
    Flush,
    /// Ends a run of messages.
    Sync,
    /// Says goodbye.
    Terminate,
    /// Calls a function by its number.
    Function,
    /// Data for a COPY, its end or its failure.
    Copy,
}

impl Request {
    /// What `frame` says.
    pub fn of(frame: &Frame) -> Result<Self, Malformed> {
        let tag = frame.tag();
        let mut fields = Fields { tag, rest: frame.body() };
        let request = match tag {
            b'Q' => Self::Query(fields.string()?),
            b'P' => {
                let parse = Parse { name: fields.string()?, text: fields.string()? };
                let types = fields.count()?;
                fields.take(types.saturating_mul(4))?;
                Self::Parse(parse)
            }
            b'B' => Self::Bind(fields.bind()?),
            b'D' => Self::Describe(fields.which()?, fields.string()?),
            b'E' => {
                let portal = fields.string()?;
                fields.take(4)?;
                Self::Execute(portal)
            }
            b'C' => Self::Close(fields.which()?, fields.string()?),
            b'H' => Self::Flush,
            b'S' => Self::Sync,
            b'X' => Self::Terminate,
            b'F' => return Ok(Self::Function),
            b'd' | b'c' | b'f' => return Ok(Self::Copy),
            other => return Err(Malformed::Type(other)),
        };
        fields.end()?;
        Ok(request)
    }
}

struct Fields {
    tag: u8,
    rest: Bytes,
}

impl Fields {
    fn malformed(&self) -> Malformed {
        Malformed::Format(self.tag)
    }

    fn take(&mut self, size: usize) -> Result<Bytes, Malformed> {
        if self.rest.len() < size {
            return Err(self.malformed());
        }
        Ok(self.rest.split_to(size))
    }

    fn string(&mut self) -> Result<Bytes, Malformed> {
        let end = memchr::memchr(0, &self.rest).ok_or_else(|| self.malformed())?;
        let text = self.rest.split_to(end);
        self.rest.advance(1);
        Ok(text)
    }

    fn which(&mut self) -> Result<Which, Malformed> {
        match self.take(1)?.first() {
            Some(b'S') => Ok(Which::Statement),
            Some(b'P') => Ok(Which::Portal),
            Some(_) | None => Err(self.malformed()),
        }
    }

    fn int16(&mut self) -> Result<i16, Malformed> {
        self.rest.try_get_i16().map_err(|_| self.malformed())
    }

    fn int32(&mut self) -> Result<i32, Malformed> {
        self.rest.try_get_i32().map_err(|_| self.malformed())
    }

    /// A number of things: PostgreSQL reads it as unsigned 16 bits.
    fn count(&mut self) -> Result<usize, Malformed> {
        self.rest.try_get_u16().map(usize::from).map_err(|_| self.malformed())
    }

    fn formats(&mut self) -> Result<Vec<i16>, Malformed> {
        (0..self.count()?).map(|_| self.int16()).collect()
    }

    fn value(&mut self) -> Result<Option<Bytes>, Malformed> {
        match self.int32()? {
            -1 => Ok(None),
            size => {
                let size = usize::try_from(size).map_err(|_| self.malformed())?;
                self.take(size).map(Some)
            }
        }
    }

    fn bind(&mut self) -> Result<Bind, Malformed> {
        let (portal, statement) = (self.string()?, self.string()?);
        let formats = self.formats()?;
        let values = (0..self.count()?).map(|_| self.value()).collect::<Result<Vec<_>, _>>()?;
        let results = self.formats()?;
        let known = |format: &i16| *format == 0 || *format == 1;
        // "0, 1 or as many as there are values"; another number is 08P01 on the server too.
        let each = formats.len() <= 1 || formats.len() == values.len();
        if each && formats.iter().chain(&results).all(known) {
            Ok(Bind { portal, statement, formats, values, results })
        } else {
            Err(self.malformed())
        }
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::postgres::wire::Build;

    #[test]
    fn a_text_behind_its_nul_is_malformed() {
        let query = |body: &[u8]| Request::of(&Build::new(b'Q').raw(body).done());
        assert_eq!(query(b"select 1\0"), Ok(Request::Query(Bytes::from_static(b"select 1"))));
        assert_eq!(query(b"select 1\0select 2\0"), Err(Malformed::Format(b'Q')));
        assert_eq!(query(b"select 1"), Err(Malformed::Format(b'Q')));
    }

    #[test]
    fn a_bind_reads_as_the_server_reads_it() {
        let good = Build::new(b'B').string("p").string("s").int16(1).int16(1).int16(2).int32(-1);
        let good = good.int32(2).raw(b"ab").int16(0).done();
        let Ok(Request::Bind(bind)) = Request::of(&good) else { panic!("it is a Bind") };
        assert_eq!(bind.values, [None, Some(Bytes::from_static(b"ab"))]);
        assert!(bind.is_binary(0) && bind.is_binary(1));
        let three_formats_for_one = Build::new(b'B').string("").string("").int16(3).raw(&[0; 6]);
        let bad = three_formats_for_one.int16(1).int32(-1).int16(0).done();
        assert_eq!(Request::of(&bad), Err(Malformed::Format(b'B')));
    }
}
