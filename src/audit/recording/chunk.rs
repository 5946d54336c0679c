//! One chunk: its head, and how its body is sealed and opened.

use std::cell::RefCell;
use std::io;

use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::aead::Nonce;
use bytes::Bytes;

use crate::audit::keys::DataKey;
use crate::audit::recording::FRAME_BYTES_MAX;
use crate::model::digest::Digest;

/// How many bytes of frames make a chunk full.
pub const CHUNK_BYTES: usize = 128 * 1024;
/// Most bytes of frames in a chunk: a full one, and one frame more.
pub const PLAIN_BYTES_MAX: usize = CHUNK_BYTES + FRAME_BYTES_MAX + 64;
/// Longest body, in bytes: what zstd makes of what it cannot compress, and the tag.
pub const BODY_BYTES_MAX: usize = PLAIN_BYTES_MAX + PLAIN_BYTES_MAX / 128 + 1024;

pub(super) const HEAD_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"WRC1";
const STORED: u8 = 0;
const ZSTD: u8 = 1;
/// Below this, compressing costs more than it saves, in bytes.
const COMPRESSED_FROM_BYTES: usize = 1024;
const ZSTD_LEVEL: i32 = 1;

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// The head of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkHead {
    pub(super) body: u32,
    pub(super) number: u64,
    pub(super) frames: u32,
    pub(super) plain: u32,
    codec: u8,
    attempt: u32,
    pub(super) prev: Digest,
}

/// Where in its recording a chunk stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) number: u64,
    pub(super) attempt: u32,
    pub(super) prev: Digest,
}

impl ChunkHead {
    fn bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let mut at = 0_usize;
        let parts: [&[u8]; 9] = [
            &MAGIC,
            &self.body.to_be_bytes(),
            &self.number.to_be_bytes(),
            &self.frames.to_be_bytes(),
            &self.plain.to_be_bytes(),
            &[self.codec],
            &[0; 3],
            &self.attempt.to_be_bytes(),
            self.prev.as_bytes(),
        ];
        for part in parts {
            let end = at.saturating_add(part.len());
            if let Some(place) = bytes.get_mut(at..end) {
                place.copy_from_slice(part);
            }
            at = end;
        }
        bytes
    }

    /// Reads a head and checks its bounds, not yet whether it is the one that should stand there.
    pub(super) fn parse(bytes: &[u8; HEAD_BYTES]) -> Result<Self, String> {
        let word = |at: usize| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
            word.copied().map(u32::from_be_bytes).unwrap_or_default()
        };
        let number = bytes.get(8..).and_then(|rest| rest.first_chunk::<8>());
        let prev = bytes.get(32..).and_then(|rest| rest.first_chunk::<32>());
        let head = Self {
            body: word(4),
            number: number.copied().map(u64::from_be_bytes).unwrap_or_default(),
            frames: word(16),
            plain: word(20),
            codec: bytes.get(24).copied().unwrap_or_default(),
            attempt: word(28),
            prev: Digest::from(prev.copied().unwrap_or_default()),
        };
        let within = |value: u32, max: usize| usize::try_from(value).is_ok_and(|v| v <= max);
        if !bytes.starts_with(&MAGIC) || bytes.get(25..28) != Some(&[0; 3]) {
            return Err("no chunk begins here".to_owned());
        }
        if !within(head.body, BODY_BYTES_MAX) || !within(head.plain, PLAIN_BYTES_MAX) {
            return Err("a chunk claims to be longer than any may be".to_owned());
        }
        if head.codec > ZSTD || head.frames == 0 {
            return Err("a chunk is of a kind that there is not".to_owned());
        }
        Ok(head)
    }
}

/// Seals chunks with a session's data key, and opens them.
#[derive(Debug)]
pub(super) struct Cipher(LessSafeKey);

impl Cipher {
    pub(super) fn new(key: &DataKey) -> io::Result<Self> {
        let unbound = aws_lc_rs::aead::UnboundKey::new(&AES_256_GCM, key.expose());
        unbound
            .map(LessSafeKey::new)
            .map(Self)
            .map_err(|_| io::Error::other("no key for AES-256-GCM"))
    }

    /// The chunk that holds `frames` frames, which are `plain`.
    pub(super) fn seal(&self, at: Position, frames: u32, plain: &[u8]) -> io::Result<Vec<u8>> {
        let sealed = || io::Error::other("a chunk could not be sealed");
        let mut chunk = Vec::with_capacity(HEAD_BYTES + plain.len() + AES_256_GCM.tag_len());
        chunk.extend_from_slice(&[0; HEAD_BYTES]);
        let codec = compress(plain, &mut chunk)?;
        let body = chunk.len().saturating_sub(HEAD_BYTES).saturating_add(AES_256_GCM.tag_len());
        let head = ChunkHead {
            body: u32::try_from(body).map_err(io::Error::other)?,
            number: at.number,
            frames,
            plain: u32::try_from(plain.len()).map_err(io::Error::other)?,
            codec,
            attempt: at.attempt,
            prev: at.prev,
        };
        let bytes = head.bytes();
        let (place, text) = chunk.split_at_mut_checked(HEAD_BYTES).ok_or_else(sealed)?;
        place.copy_from_slice(&bytes);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(&head), Aad::from(bytes), text)
            .map_err(|_| sealed())?;
        chunk.extend_from_slice(tag.as_ref());
        Ok(chunk)
    }

    /// The frames of a chunk.
    pub(super) fn open(&self, head: &ChunkHead, mut body: Vec<u8>) -> Result<Bytes, String> {
        let wrong = || "it cannot be decrypted: another key, or changed".to_owned();
        let plain = self
            .0
            .open_in_place(nonce(head), Aad::from(head.bytes()), &mut body)
            .map_err(|_| wrong())?
            .len();
        body.truncate(plain);
        let length = usize::try_from(head.plain).unwrap_or(usize::MAX);
        if head.codec == ZSTD {
            body = zstd::bulk::decompress(&body, length)
                .map_err(|error| format!("it cannot be decompressed ({error})"))?;
        }
        if body.len() != length {
            return Err("it holds another number of bytes than it says".to_owned());
        }
        Ok(body.into())
    }
}

fn nonce(head: &ChunkHead) -> Nonce {
    let mut nonce = [0; 12];
    let (attempt, number) = nonce.split_at_mut(4);
    attempt.copy_from_slice(&head.attempt.to_be_bytes());
    number.copy_from_slice(&head.number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Appends `plain` to `out`, compressed where that makes it shorter, and gives the codec.
fn compress(plain: &[u8], out: &mut Vec<u8>) -> io::Result<u8> {
    if plain.len() >= COMPRESSED_FROM_BYTES {
        let packed = COMPRESSOR.with_borrow_mut(|kept| {
            let compressor = match kept {
                Some(compressor) => compressor,
                None => kept.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
            };
            compressor.compress(plain)
        })?;
        if packed.len() < plain.len() {
            out.extend_from_slice(&packed);
            return Ok(ZSTD);
        }
    }
    out.extend_from_slice(plain);
    Ok(STORED)
}
