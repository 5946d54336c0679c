//! Checkpoints and the notes that carry them, as public tools read them: C2SP's `signed-note` and
//! `tlog-checkpoint`, signed with Ed25519.
//!
//! ```text
//! gw.example/weir-ledger/gw-1                       the origin: whose ledger
//! 20852                                             how many entries
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=      the root of their tree
//!
//! — gw.example/weir-ledger/gw-1 Az3grlgtzPIC…       one line a signature
//! ```
//!
//! Pure, and strict: what is read is written again byte for byte, so that no two texts are one note.

use std::fmt;
use std::fmt::Write;
use std::str::FromStr;

use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::UnparsedPublicKey;

use crate::model::digest::Digest;
use crate::model::encode::base64;
use crate::model::encode::unbase64_exactly;

/// Longest note that is read, in bytes: room for 16 post-quantum signatures.
pub const NOTE_BYTES_MAX: usize = 128 * 1024;
/// Most signatures of a note.
pub const SIGNATURES_MAX: usize = 32;
/// Longest name of a key, in bytes.
pub const KEY_NAME_BYTES_MAX: usize = 512;
/// Longest verifier key in text form, in bytes.
pub const VERIFIER_BYTES_MAX: usize = KEY_NAME_BYTES_MAX + 64;
/// Length of a seed and of a public key of Ed25519, in bytes.
pub const KEY_BYTES: usize = 32;

/// What is told of a key's kind by the byte before it: Ed25519.
const ED25519_KIND: u8 = 1;
/// What a line with a signature begins with.
const DASH: &str = "— ";

/// Why a text is no note, or a note is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It has not the form of a signed note.
    #[error("this is no signed note: {0}")]
    NoNote(&'static str),
    /// The note's text is not that of a checkpoint.
    #[error("this is no checkpoint: {0}")]
    NoCheckpoint(&'static str),
    /// A name that no key may have.
    #[error(
        "a key's name has 1 to {KEY_NAME_BYTES_MAX} bytes, and neither white space nor + nor \
         control characters"
    )]
    BadName,
    /// A text that is no verifier key.
    #[error("this is no verifier key (NAME+HASH+BASE64): {0}")]
    BadVerifier(&'static str),
    /// A known key's signature is not of this text.
    #[error("the signature by {0} is wrong: the text was changed, or somebody else signed it")]
    BadSignature(String),
    /// Of the keys that are known, none has signed it.
    #[error("no key that is known here has signed it")]
    Unsigned,
    /// Known keys have signed it, but not the one of the ledger that it is about.
    #[error("it is about {0}, whose own key has not signed it")]
    NotItsOwn(String),
}

/// The name of a key, and of the ledger that it signs for: best a URL without scheme.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let bad = |sign: char| sign.is_whitespace() || sign.is_control() || sign == '+';
        if text.is_empty() || text.len() > KEY_NAME_BYTES_MAX || text.contains(bad) {
            return Err(NoteError::BadName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tells keys of one name apart. It proves nothing.
type KeyId = [u8; 4];

fn key_id(name: &KeyName, public: &[u8; KEY_BYTES]) -> KeyId {
    let digest = Digest::of_parts(&[name.0.as_bytes(), b"\n", &[ED25519_KIND], public]);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// The private key of a ledger.
pub struct NoteKey {
    verifier: Verifier,
    /// Its memory is wiped by the library when it is dropped.
    pair: Ed25519KeyPair,
}

impl NoteKey {
    /// The key with this name and this seed; `None` where the library has no room for it.
    pub fn new(name: KeyName, seed: &[u8; KEY_BYTES]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { verifier: Verifier::new(name, public), pair })
    }

    /// What verifies its signatures.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    fn sign(&self, text: &str) -> Signature {
        let Verifier { name, id, .. } = &self.verifier;
        let bytes = self.pair.sign(text.as_bytes()).as_ref().to_vec();
        Signature { name: name.clone(), id: *id, bytes }
    }
}

impl fmt::Debug for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoteKey").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

/// The public key of a ledger. As text: `NAME+HASH+BASE64`, as Go's `note` package has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Verifier {
    name: KeyName,
    id: KeyId,
    public: [u8; KEY_BYTES],
}

impl Verifier {
    /// The key with this name and these bytes (RFC 8032 §5.1.2).
    pub fn new(name: KeyName, public: [u8; KEY_BYTES]) -> Self {
        let id = key_id(&name, &public);
        Self { name, id, public }
    }

    /// Its name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    fn verifies(&self, text: &str, signature: &Signature) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.public);
        key.verify(text.as_bytes(), &signature.bytes).is_ok()
    }
}

impl FromStr for Verifier {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let bad = NoteError::BadVerifier;
        if text.len() > VERIFIER_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        // Neither name nor hash has a +; the key itself may.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("it has not three parts"));
        };
        let name = name.parse::<KeyName>()?;
        let key = unbase64_exactly(key).ok_or(bad("its key is no base 64"))?;
        let Some((&ED25519_KIND, public)) = key.split_first() else {
            return Err(bad("its key is not of Ed25519"));
        };
        let public = public.try_into().map_err(|_| bad("its key has not 32 bytes"))?;
        let verifier = Self::new(name, public);
        if hash != hex(verifier.id) {
            return Err(bad("its hash is another key's, or another name's"));
        }
        Ok(verifier)
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519_KIND], self.public.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, hex(self.id), base64(&key))
    }
}

fn hex(id: KeyId) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

/// One line under a note: by whom, and what they made of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    name: KeyName,
    id: KeyId,
    bytes: Vec<u8>,
}

impl Signature {
    /// The name of the key that is said to have made it.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Whether it is said to be by this key.
    fn claims(&self, key: &Verifier) -> bool {
        self.name == key.name && self.id == key.id
    }

    fn read(line: &str) -> Result<Self, NoteError> {
        let bad = NoteError::NoNote;
        let rest = line.strip_prefix(DASH).ok_or(bad("a line with a signature begins with —"))?;
        let (name, text) = rest.split_once(' ').ok_or(bad("a line has no signature"))?;
        let bytes = unbase64_exactly(text).ok_or(bad("a signature is no base 64"))?;
        match bytes.split_first_chunk() {
            Some((id, bytes)) if !bytes.is_empty() => {
                Ok(Self { name: name.parse()?, id: *id, bytes: bytes.to_vec() })
            }
            Some(_) | None => Err(bad("a signature is too short")),
        }
    }
}

/// A text and who has signed it. As text: see [the module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<Signature>,
}

impl SignedNote {
    /// What was signed. Nobody should believe it before [`SignedNote::verify`].
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, verified or not.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Which of these keys have signed it. Signatures by other keys are nothing; a wrong one by one
    /// of these makes the note one that nobody should believe.
    pub fn verify<'v>(&self, keys: &'v [Verifier]) -> Result<Vec<&'v Verifier>, NoteError> {
        let mut signers = Vec::new();
        for signature in &self.signatures {
            let Some(key) = keys.iter().find(|key| signature.claims(key)) else { continue };
            if !key.verifies(&self.text, signature) {
                return Err(NoteError::BadSignature(key.name.to_string()));
            }
            if !signers.contains(&key) {
                signers.push(key);
            }
        }
        if signers.is_empty() { Err(NoteError::Unsigned) } else { Ok(signers) }
    }

    /// What it says, signed or not.
    pub fn checkpoint(&self) -> Result<Checkpoint, NoteError> {
        self.text.parse()
    }

    /// What it says, where one of these keys has signed it that has the name of the very ledger.
    pub fn checkpoint_by(&self, keys: &[Verifier]) -> Result<Checkpoint, NoteError> {
        let signers = self.verify(keys)?;
        let checkpoint = self.checkpoint()?;
        if signers.iter().any(|key| key.name == checkpoint.origin) {
            Ok(checkpoint)
        } else {
            Err(NoteError::NotItsOwn(checkpoint.origin.to_string()))
        }
    }
}

impl FromStr for SignedNote {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        let bad = NoteError::NoNote;
        if note.len() > NOTE_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        if note.contains(|sign: char| sign.is_ascii_control() && sign != '\n') {
            return Err(bad("there is a control character in it"));
        }
        let end = note.rfind("\n\n").ok_or(bad("it has no empty line before its signatures"))?;
        let (text, lines) = note.split_at_checked(end.saturating_add(1)).ok_or(bad("it is odd"))?;
        let lines = lines.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
        let lines = lines.ok_or(bad("it does not end with a line feed"))?;
        let signatures = lines.split('\n').take(SIGNATURES_MAX.saturating_add(1));
        let signatures = signatures.map(Signature::read).collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(bad("it has too many signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|Signature { name, id, bytes }| {
            writeln!(f, "{DASH}{name} {}", base64(&[id, bytes.as_slice()].concat()))
        })
    }
}

/// Where a ledger stood: the first `size` entries have the root `root`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose ledger.
    pub origin: KeyName,
    /// How many entries.
    pub size: u64,
    /// The root of their tree.
    pub root: Digest,
}

impl Checkpoint {
    /// The checkpoint as a note, signed by these keys.
    pub fn signed(&self, keys: &[&NoteKey]) -> SignedNote {
        let text = self.to_string();
        let signatures = keys.iter().map(|key| key.sign(&text)).collect();
        SignedNote { text, signatures }
    }
}

impl FromStr for Checkpoint {
    type Err = NoteError;

    /// Reads a note's text. Lines of extension, which C2SP allows and advises against, no checkpoint
    /// of ours has.
    fn from_str(text: &str) -> Result<Self, NoteError> {
        let bad = NoteError::NoCheckpoint;
        let body = text.strip_suffix('\n').ok_or(bad("it does not end with a line feed"))?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(bad("it has not three lines"));
        };
        Ok(Self {
            origin: origin.parse()?,
            size: decimal(size).ok_or(bad("its second line is no number of entries"))?,
            root: digest(root).ok_or(bad("its third line is no root"))?,
        })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, base64(self.root.as_bytes()))
    }
}

/// A number without sign and without leading zeros.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number = text.parse::<u64>().ok()?;
    let mut again = String::with_capacity(text.len());
    write!(again, "{number}").ok()?;
    (again == text).then_some(number)
}

/// A digest in base 64.
pub(super) fn digest(text: &str) -> Option<Digest> {
    <[u8; 32]>::try_from(unbase64_exactly(text)?).ok().map(Digest::from)
}

#[cfg(test)]
mod tests;
