//! The name in an object that kubectl sends as protobuf, as `kubectl create` does.
//!
//! Only the envelope (`k8s.io/apimachinery/pkg/runtime`, `Unknown`) and the metadata in front are
//! read; texts and bytes stand in protobuf as they are, so a mask is found without reading more.
//! Where a field stands twice, which another reader would merge, nothing is read.

/// What such a body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// The object in an envelope: what is left to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<'a>(&'a [u8]);

/// Opens the envelope; `None` where there is none, or one that is encoded once more.
pub fn open(bytes: &[u8]) -> Option<Object<'_>> {
    // Unknown: 1 typeMeta, 2 raw, 3 contentEncoding, 4 contentType.
    let [_, raw, encoding, kind] = messages(bytes.strip_prefix(MAGIC)?, 4)?;
    let plain = encoding.is_none_or(<[u8]>::is_empty) && kind.is_none_or(<[u8]>::is_empty);
    Some(Object(raw.filter(|_| plain)?)).filter(|object| object.names().is_some())
}

impl Object<'_> {
    /// Its name, and the beginning of one that the server completes; empty where there is none.
    pub fn names(self) -> Option<(String, String)> {
        // Every kind: 1 metadata. ObjectMeta: 1 name, 2 generateName.
        let [metadata, ..] = messages(self.0, 1)?;
        let [name, generated, ..] = messages(metadata.unwrap_or_default(), 2)?;
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().into()).ok();
        Some((text(name)?, text(generated)?))
    }
}

/// The contents of the fields 1 to 4 that have a length. The first `single` of them may not stand
/// twice, nor be of another type; other fields must be whole.
fn messages(mut bytes: &[u8], single: usize) -> Option<[Option<&[u8]>; 4]> {
    let mut found = [None; 4];
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = usize::try_from(key >> 3).ok()?;
        let content = match key & 7 {
            0 => varint(&mut bytes).map(|_| None)?,
            1 => take(&mut bytes, 8).map(|_| None)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Some(take(&mut bytes, length)?)
            }
            5 => take(&mut bytes, 4).map(|_| None)?,
            // Groups: Kubernetes has none.
            _ => return None,
        };
        let Some(place) = found.get_mut(field.checked_sub(1)?) else { continue };
        if field <= single && (place.is_some() || content.is_none()) {
            return None;
        }
        *place = content;
    }
    Some(found)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        let part = u64::from(byte & 0x7f);
        // What would be cut off at the end is no number that anybody writes.
        if part.checked_shl(shift)? >> shift != part {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What kubectl 1.36 sends for `create secret generic x --namespace prod --from-literal a=b`.
    const CREATE: &[u8] =
        b"k8s\0\n\x0c\n\x02v1\x12\x06Secret\x12!\n\x15\n\x01x\x12\0\x1a\x04prod\"\0\
        *\x002\08\0B\0\x12\x06\n\x01a\x12\x01b\x1a\0\x1a\0\"\0";

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let head = [number << 3 | 2, u8::try_from(content.len()).unwrap()];
        [&head, content].concat()
    }

    fn sent(object: &[u8]) -> Vec<u8> {
        [MAGIC, &field(1, b""), &field(2, object)].concat()
    }

    #[test]
    fn the_name_is_the_one_that_the_server_reads() {
        let names = open(CREATE).unwrap().names().unwrap();
        assert_eq!(names, ("x".to_owned(), String::new()));
        let generated = sent(&field(1, &field(2, b"job-")));
        assert_eq!(open(&generated).unwrap().names().unwrap().1, "job-");
        // A map of two: the second field of a Secret stands twice.
        let data = [field(1, &field(1, b"x")), field(2, b"a"), field(2, b"b")].concat();
        assert_eq!(open(&sent(&data)).unwrap().names().unwrap().0, "x");
    }

    #[test]
    fn what_go_would_merge_or_decode_once_more_is_not_read() {
        let once = field(1, &field(1, b"x"));
        let twice = [once.clone(), field(1, &field(1, b"y"))].concat();
        let renamed = field(1, &[field(1, b"x"), field(1, b"y")].concat());
        let number = [8, 1];
        for object in [&twice[..], &renamed, &number, b"\x0b\x0c", b"\x0a\x7fx", &field(1, b"\xff")]
        {
            assert_eq!(open(&sent(object)), None, "{object:?}");
        }
        let envelope = sent(&once);
        for more in [field(2, &once), field(3, b"gzip"), field(4, b"application/json"), vec![0xff]]
        {
            assert_eq!(open(&[&envelope[..], &more].concat()), None, "{more:?}");
        }
        for end in 0..CREATE.len() {
            let cut = open(&CREATE[..end]).and_then(Object::names);
            assert!(cut.is_none_or(|names| names.0 == "x"), "{end}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [MAGIC, &bytes].concat();
            drop(open(&bytes).and_then(Object::names));
        }
    }
}
