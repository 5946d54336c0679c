//! A target's answers as the guard takes them: parts that stream, documents, and lines.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use bytes::BytesMut;
use http::StatusCode;

use crate::audit::entry::Volume;
use crate::audit::recording::Stream;
use crate::model::DataClass;
use crate::model::Refusal;
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;
use crate::protocol::http::MASKED_BYTES_MAX;
use crate::protocol::http::dialect::Masker;
use crate::session::guard::Answer;
use crate::session::guard::Masked;
use crate::session::guard::Withheld;
use crate::session::guard::beginning;

/// A part of a body that streams as it is.
#[derive(Debug)]
pub struct Part {
    /// The part.
    pub bytes: Bytes,
    /// The classes that it may carry.
    pub classes: Arc<BTreeSet<DataClass>>,
}

impl Answer for Part {
    type Out = Bytes;

    /// Passes only while everything may be seen: policy may change under a long answer.
    fn masked(self, masks: &Masks, room: usize) -> Result<Masked<Bytes>, Withheld> {
        if masks.hides_any(self.classes.iter()) {
            let reason = "what may be seen changed while the answer was on its way";
            return Err(Withheld::unmaskable(reason));
        }
        let shown = beginning(&self.bytes, room);
        let volume = Volume { rows: 0, bytes: length(&self.bytes), masked: 0 };
        Ok(Masked { out: self.bytes, volume, shown, stream: Stream::Output })
    }
}

/// A whole document that has to be masked.
#[derive(Debug)]
pub struct Document {
    /// The document; empty where the answer has no body.
    pub bytes: Bytes,
    /// The answer's status.
    pub status: StatusCode,
    /// Who masks it.
    pub masker: Arc<dyn Masker>,
}

impl Answer for Document {
    type Out = Bytes;

    fn masked(self, masks: &Masks, room: usize) -> Result<Masked<Bytes>, Withheld> {
        if self.bytes.is_empty() {
            let (volume, shown) = (Volume::default(), Bytes::new());
            return Ok(Masked { out: self.bytes, volume, shown, stream: Stream::Output });
        }
        let masked = self.masker.mask(masks, self.status, &self.bytes)?;
        let shown = beginning(&masked.document, room);
        let bytes = length(&masked.document);
        let volume = Volume { rows: masked.rows, bytes, masked: masked.masked };
        Ok(Masked { out: masked.document, volume, shown, stream: Stream::Output })
    }
}

/// One line, which is a document of its own.
#[derive(Debug)]
pub struct Line(Document);

impl Answer for Line {
    type Out = Bytes;

    fn masked(self, masks: &Masks, room: usize) -> Result<Masked<Bytes>, Withheld> {
        let mut masked = self.0.masked(masks, room)?;
        let mut line = BytesMut::from(masked.out);
        line.extend_from_slice(b"\n");
        masked.out = line.freeze();
        masked.volume.bytes = masked.volume.bytes.saturating_add(1);
        if masked.shown.len() < room {
            masked.shown = [&masked.shown, &b"\n"[..]].concat().into();
        }
        Ok(masked)
    }
}

/// Cuts a body into lines.
pub struct Lines {
    masker: Arc<dyn Masker>,
    status: StatusCode,
    begun: BytesMut,
}

impl Lines {
    /// Nothing yet.
    pub fn new(masker: Arc<dyn Masker>, status: StatusCode) -> Self {
        Self { masker, status, begun: BytesMut::new() }
    }

    /// The lines that are whole with `part`; the last is an error where one is too long.
    pub fn split(&mut self, part: &[u8]) -> Vec<Result<Line, Refusal>> {
        let mut lines = Vec::new();
        let mut rest = part;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at_checked(at).unwrap_or_default();
            rest = after.get(1..).unwrap_or_default();
            if self.begun.len().saturating_add(line.len()) > MASKED_BYTES_MAX {
                lines.push(Err(too_long()));
                return lines;
            }
            self.begun.extend_from_slice(line);
            let line = self.begun.split().freeze();
            if !line.trim_ascii().is_empty() {
                lines.push(Ok(self.line(line)));
            }
        }
        if self.begun.len().saturating_add(rest.len()) > MASKED_BYTES_MAX {
            lines.push(Err(too_long()));
            return lines;
        }
        self.begun.extend_from_slice(rest);
        lines
    }

    /// What stands behind the last line feed.
    pub fn rest(&mut self) -> Option<Line> {
        let line = self.begun.split().freeze();
        (!line.trim_ascii().is_empty()).then(|| self.line(line))
    }

    fn line(&self, bytes: Bytes) -> Line {
        Line(Document { bytes, status: self.status, masker: Arc::clone(&self.masker) })
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("begun_bytes", &self.begun.len()).finish_non_exhaustive()
    }
}

/// What is said of an answer that is longer than is buffered for masking.
pub fn too_long() -> Refusal {
    let mebibytes = MASKED_BYTES_MAX / (1024 * 1024);
    Refusal::new(
        RefusalCode::Withheld,
        format!("the answer must be masked, and has more than {mebibytes} MiB"),
    )
    .hint("ask for less at once")
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
