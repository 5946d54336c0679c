//! As much XML as stores' small answers need: the text of an element that holds nothing but text.
//!
//! What is read are words of an enumeration, numbers, and names that we gave ourselves: none has a
//! character that XML would escape.

/// The text of the first element called `name`, without white space around it.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    elements(xml, name).next()
}

/// The content of every element called `name`, in order. Elements of one name do not nest.
pub(super) fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = rest.split_once(open.as_str())?;
            rest = after;
            // `<Version` also begins `<VersionId>`.
            let (tag, content) = after.split_once('>')?;
            if tag.ends_with('/') && (tag == "/" || tag.starts_with(char::is_whitespace)) {
                rest = content;
                return Some("");
            }
            if tag.is_empty() || tag.starts_with(char::is_whitespace) {
                let (text, after) = content.split_once(close.as_str())?;
                rest = after;
                return Some(text.trim());
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_their_whole_name() {
        let xml = "<R xmlns=\"x\"><VersionId>1</VersionId><Version a=\"b\"><Key> k </Key></Version>\
                   <Version><Key>l</Key></Version><Empty/><Status></Status></R>";
        assert_eq!(element(xml, "Key"), Some("k"));
        assert_eq!(
            elements(xml, "Version").collect::<Vec<_>>(),
            ["<Key> k </Key>", "<Key>l</Key>"]
        );
        assert_eq!((element(xml, "Empty"), element(xml, "Status")), (Some(""), Some("")));
        for broken in ["", "<Key", "<Key>", "<Key>x", "<Key>x</Ke", "Key>x</Key>"] {
            assert_eq!(element(broken, "Key"), None, "{broken}");
        }
    }
}
