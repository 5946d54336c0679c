//! The beginning of a recording, in the clear: whose it is, and which key opens it.

use std::io;
use std::io::BufRead;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::model::RegionName;
use crate::model::SessionId;
use crate::model::digest::Digest;

/// The first line of every recording.
const FIRST_LINE: &[u8] = b"weir recording 1\n";
/// Longest header, in bytes.
pub const HEADER_BYTES_MAX: usize = 4_096;

/// Whose recording it is. It holds nothing that must be hidden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The session.
    pub session: SessionId,
    /// The gateway that wrote it.
    pub gateway: String,
    /// The region whose key opens it.
    pub region: RegionName,
    /// When it was begun.
    pub begun: Timestamp,
    /// The id of the wrapping key that wraps the session's data key at the beginning.
    pub wrapped_by: String,
    /// Tells the right data key from a wrong one, and nothing else about it.
    pub commitment: Digest,
}

impl Header {
    /// The header as it stands in a file.
    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = FIRST_LINE.to_vec();
        serde_json::to_writer(&mut bytes, self)?;
        bytes.push(b'\n');
        if bytes.len() > HEADER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a header over 4 KiB"));
        }
        Ok(bytes)
    }

    /// Reads a header, and gives it with its length and the digest that the first chunk follows.
    /// `Ok(Err(why))`: this is no recording.
    pub(super) fn read(
        reader: &mut impl BufRead,
    ) -> io::Result<Result<(Self, u64, Digest), String>> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(HEADER_BYTES_MAX).unwrap_or(u64::MAX);
        let mut limited = io::Read::take(reader, limit);
        limited.read_until(b'\n', &mut bytes)?;
        if bytes != FIRST_LINE {
            return Ok(Err("it does not begin as a recording does".to_owned()));
        }
        limited.read_until(b'\n', &mut bytes)?;
        let Some(json) = bytes.get(FIRST_LINE.len()..).and_then(|line| line.strip_suffix(b"\n"))
        else {
            return Ok(Err("its header is cut off".to_owned()));
        };
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(serde_json::from_slice(json)
            .map(|header| (header, length, Digest::of(&bytes)))
            .map_err(|error| format!("its header cannot be read ({error})")))
    }
}
