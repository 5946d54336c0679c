//! The PROXY protocol's header, version 2: who the client behind a relay is.
//!
//! A listener requires the header or forbids it; it never guesses, since whoever may send one may
//! choose where it comes from. The specification is `doc/proxy-protocol.txt` of `HAProxy`.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;

/// What follows the first 16 bytes may be this long: addresses take at most 36, and the rest is
/// for type-length-values of relays (names, ids, certificates' subjects), none of which are read.
pub const BODY_BYTES_MAX: usize = 2_048;

/// Section 2.2: the constant first 12 bytes.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const HEAD_BYTES: usize = 16;

/// What bytes are, read as a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A whole header.
    Header {
        /// The client's address, an IPv4-mapped one as IPv4.
        client: SocketAddr,
        /// How many bytes the header is long.
        bytes: usize,
    },
    /// The beginning of a header, of which at least this many bytes are missing.
    NeedMore(usize),
}

/// Why bytes are no header that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// Something else, version 1 of the header included.
    #[error("the connection does not begin with a PROXY header of version 2")]
    Absent,
    /// The relay speaks for itself. The specification lets a receiver serve it; here it is refused,
    /// for the country of a relay is not that of a client. A health check that only connects, or
    /// only sends this, has learned that the port is open.
    #[error("the PROXY header says LOCAL: there is no client behind it")]
    Local,
    /// A command that does not exist.
    #[error("the PROXY header has an unknown command")]
    Command,
    /// Not TCP over IPv4 or IPv6.
    #[error("the PROXY header is not for TCP over IPv4 or IPv6")]
    Family,
    /// Longer than [`BODY_BYTES_MAX`].
    #[error("the PROXY header is longer than {BODY_BYTES_MAX} bytes")]
    TooLong,
    /// Too short for its addresses, or a type-length-value that leaves it.
    #[error("the PROXY header's lengths do not fit together")]
    Lengths,
}

/// Reads a header at the beginning of `bytes` (section 2.2).
pub fn parse(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    if bytes.iter().zip(&SIGNATURE).any(|(byte, wanted)| byte != wanted) {
        return Err(BadHeader::Absent);
    }
    let Some(&[_, _, _, _, _, _, _, _, _, _, _, _, version_command, family, high, low]) =
        bytes.first_chunk::<HEAD_BYTES>()
    else {
        return Ok(Parsed::NeedMore(HEAD_BYTES.saturating_sub(bytes.len())));
    };
    match version_command {
        0x21 => {}
        0x20 => return Err(BadHeader::Local),
        0x22..=0x2f => return Err(BadHeader::Command),
        0..=0x1f | 0x30.. => return Err(BadHeader::Absent),
    }
    if !matches!(family, 0x11 | 0x21) {
        return Err(BadHeader::Family);
    }
    let body_bytes = usize::from(u16::from_be_bytes([high, low]));
    if body_bytes > BODY_BYTES_MAX {
        return Err(BadHeader::TooLong);
    }
    let header_bytes = HEAD_BYTES.saturating_add(body_bytes);
    let Some(body) = bytes.get(HEAD_BYTES..header_bytes) else {
        return Ok(Parsed::NeedMore(header_bytes.saturating_sub(bytes.len())));
    };
    let (client, values) = if family == 0x11 { tcp4(body) } else { tcp6(body) }?;
    check_values(values)?;
    Ok(Parsed::Header { client, bytes: header_bytes })
}

/// Source address, destination address, source port, destination port; then the values.
fn tcp4(body: &[u8]) -> Result<(SocketAddr, &[u8]), BadHeader> {
    let (source, rest) = body.split_first_chunk::<4>().ok_or(BadHeader::Lengths)?;
    let (_, rest) = rest.split_first_chunk::<4>().ok_or(BadHeader::Lengths)?;
    ports(Ipv4Addr::from(*source).into(), rest)
}

fn tcp6(body: &[u8]) -> Result<(SocketAddr, &[u8]), BadHeader> {
    let (source, rest) = body.split_first_chunk::<16>().ok_or(BadHeader::Lengths)?;
    let (_, rest) = rest.split_first_chunk::<16>().ok_or(BadHeader::Lengths)?;
    ports(Ipv6Addr::from(*source).into(), rest)
}

fn ports(source: IpAddr, rest: &[u8]) -> Result<(SocketAddr, &[u8]), BadHeader> {
    let (port, rest) = rest.split_first_chunk::<2>().ok_or(BadHeader::Lengths)?;
    let (_, values) = rest.split_first_chunk::<2>().ok_or(BadHeader::Lengths)?;
    Ok((SocketAddr::new(source.to_canonical(), u16::from_be_bytes(*port)), values))
}

/// Section 2.2.: type, two bytes of length, value; as many as there are.
fn check_values(mut values: &[u8]) -> Result<(), BadHeader> {
    while !values.is_empty() {
        let (&[_, high, low], rest) = values.split_first_chunk::<3>().ok_or(BadHeader::Lengths)?;
        let bytes = usize::from(u16::from_be_bytes([high, low]));
        values = rest.get(bytes..).ok_or(BadHeader::Lengths)?;
    }
    Ok(())
}

/// Why no header could be read.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// What came is no header that is accepted.
    #[error("the PROXY header is not accepted")]
    Bad(#[source] BadHeader),
    /// The connection ended or broke before the header was there.
    #[error("the connection ended before its PROXY header")]
    Gone(#[source] io::Error),
}

/// Reads a header and not one byte more; gives the client's address.
///
/// Not cancel safe: what was read is lost with the future, so drop the connection with it.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<SocketAddr, HeaderError> {
    let mut header = Vec::with_capacity(HEAD_BYTES);
    loop {
        let missing = match parse(&header).map_err(HeaderError::Bad)? {
            Parsed::Header { client, .. } => return Ok(client),
            Parsed::NeedMore(bytes) => u64::try_from(bytes).unwrap_or(u64::MAX),
        };
        let mut some = (&mut *stream).take(missing);
        if some.read_buf(&mut header).await.map_err(HeaderError::Gone)? == 0 {
            return Err(HeaderError::Gone(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A header by the specification's words.
    pub(in crate::listen) fn header(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([version_command, family]);
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    /// 203.0.113.7:51000 to 192.0.2.1:8443.
    pub(in crate::listen) const TCP4: [u8; 12] =
        [203, 0, 113, 7, 192, 0, 2, 1, 0xc7, 0x38, 0x20, 0xfb];

    fn tcp6_body(source: Ipv6Addr) -> Vec<u8> {
        let mut body = source.octets().to_vec();
        body.extend(Ipv6Addr::LOCALHOST.octets());
        body.extend([0xc7, 0x38, 0x20, 0xfb]);
        body
    }

    fn refused(bytes: &[u8]) -> BadHeader {
        parse(bytes).expect_err("this must be refused")
    }

    #[test]
    fn the_client_is_who_the_relay_says_split_at_every_byte() {
        let v6: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let with_values = [&TCP4[..], &[0x02, 0, 3, b'a', b'b', b'c', 0x04, 0, 0]].concat();
        for (bytes, wanted) in [
            (header(0x21, 0x11, &TCP4), "203.0.113.7:51000"),
            (header(0x21, 0x11, &with_values), "203.0.113.7:51000"),
            (header(0x21, 0x21, &tcp6_body(v6)), "[2001:db8::7]:51000"),
            (
                header(0x21, 0x21, &tcp6_body(Ipv4Addr::new(203, 0, 113, 7).to_ipv6_mapped())),
                "203.0.113.7:51000",
            ),
        ] {
            for split in 0..bytes.len() {
                match parse(&bytes[..split]) {
                    Ok(Parsed::NeedMore(missing)) => assert!(missing <= bytes.len() - split),
                    other => panic!("{other:?} after {split} bytes"),
                }
            }
            let client = wanted.parse().unwrap();
            let whole = Ok(Parsed::Header { client, bytes: bytes.len() });
            assert_eq!(parse(&bytes), whole);
            assert_eq!(parse(&[&bytes[..], b"SSH-2.0"].concat()), whole);
        }
    }

    #[test]
    fn whatever_else_is_refused() {
        assert_eq!(refused(b"PROXY TCP4 203.0.113.7 192.0.2.1 51000 8443\r\n"), BadHeader::Absent);
        assert_eq!(refused(b"\x16"), BadHeader::Absent);
        assert_eq!(refused(b"\r\n\r\nG"), BadHeader::Absent);
        assert_eq!(refused(&header(0x20, 0x00, &[])), BadHeader::Local);
        assert_eq!(refused(&header(0x22, 0x11, &TCP4)), BadHeader::Command);
        assert_eq!(refused(&header(0x11, 0x11, &TCP4)), BadHeader::Absent);
        assert_eq!(refused(&header(0x31, 0x11, &TCP4)), BadHeader::Absent);
        // UDP, UNIX and unspecified.
        for family in [0x00, 0x10, 0x12, 0x22, 0x31, 0x32, 0xff] {
            assert_eq!(refused(&header(0x21, family, &TCP4)), BadHeader::Family);
        }
    }

    #[test]
    fn hostile_lengths_are_refused_before_anything_is_read() {
        assert_eq!(refused(&header(0x21, 0x11, &TCP4[..11])), BadHeader::Lengths);
        assert_eq!(refused(&header(0x21, 0x11, &[])), BadHeader::Lengths);
        assert_eq!(refused(&header(0x21, 0x21, &TCP4)), BadHeader::Lengths);
        let values_beyond = [&TCP4[..], &[0x02, 0xff, 0xff, 0]].concat();
        assert_eq!(refused(&header(0x21, 0x11, &values_beyond)), BadHeader::Lengths);
        let half_a_value = [&TCP4[..], &[0x02, 0]].concat();
        assert_eq!(refused(&header(0x21, 0x11, &half_a_value)), BadHeader::Lengths);
        let head = header(0x21, 0x11, &[0; BODY_BYTES_MAX + 1]);
        assert_eq!(refused(&head[..HEAD_BYTES]), BadHeader::TooLong);
    }

    #[tokio::test]
    async fn not_one_byte_after_the_header_is_taken() {
        let (mut far, mut near) = tokio::io::duplex(1);
        let bytes = [&header(0x21, 0x11, &TCP4)[..], b"SSH-2.0-x"].concat();
        let sender = tokio::spawn(async move { far.write_all(&bytes).await.unwrap() });
        assert_eq!(read(&mut near).await.unwrap(), "203.0.113.7:51000".parse().unwrap());
        let mut rest = String::new();
        near.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "SSH-2.0-x");
        sender.await.unwrap();
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_none_are_claimed_that_are_not_there(
            head in proptest::sample::select(vec![
                vec![], SIGNATURE.to_vec(), [&SIGNATURE[..], &[0x21]].concat(),
                [&SIGNATURE[..], &[0x21, 0x11]].concat(), [&SIGNATURE[..], &[0x21, 0x21, 0]].concat(),
            ]),
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [head, rest].concat();
            match parse(&bytes) {
                Ok(Parsed::Header { bytes: length, .. }) => prop_assert!(length <= bytes.len()),
                Ok(Parsed::NeedMore(missing)) => prop_assert!(missing > 0),
                Err(_) => {}
            }
        }
    }
}
