//! The one page: who do you want to be?

use std::fmt::Write;

use crate::demo::provider::desk::Fields;
use crate::demo::provider::people::PEOPLE;

/// A form with a button for everybody; what was asked goes along unchanged.
pub(super) fn people(fields: &Fields) -> String {
    let mut form = String::new();
    for (name, value) in fields {
        let (name, value) = (escaped(name), escaped(value));
        // Writing into a text does not fail.
        let _written = writeln!(form, r#"<input type="hidden" name="{name}" value="{value}">"#);
    }
    for person in &PEOPLE {
        let (name, does) = (escaped(person.name), escaped(person.does));
        let _written =
            writeln!(form, r#"<button name="person" value="{name}"><b>{name}</b> {does}</button>"#);
    }
    document(&format!(
        "<h1>Sign in</h1>\n<p>This is the demo's own identity provider. Everybody here is \
         invented, and nobody has a password: choose who you want to be.</p>\n\
         <form method=\"post\" action=\"/authorize\">\n{form}</form>"
    ))
}

/// A page that says why there is no form.
pub(super) fn refused(why: &str) -> String {
    document(&format!("<h1>This cannot go on</h1>\n<p>{}</p>", escaped(why)))
}

fn document(body: &str) -> String {
    const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:10vh auto;\
        padding:0 1rem;color:#1a1a1a;background:#fff}button{display:block;width:100%;\
        margin:.5rem 0;padding:.75rem 1rem;font:inherit;text-align:left;border:1px solid #767676;\
        border-radius:.4rem;background:#fff;color:inherit;cursor:pointer}\
        button:hover,button:focus{background:#eef3ff}";
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Sign in</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n\
         <body>\n{body}\n</body>\n</html>\n"
    )
}

/// A text between tags or quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            sign => escaped.push(sign),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_button_and_what_was_asked_goes_along_as_text() {
        let fields = Fields::from([("state".to_owned(), "\"><script>'&".to_owned())]);
        let page = people(&fields);
        for person in &PEOPLE {
            assert!(page.contains(&format!("name=\"person\" value=\"{}\"", person.name)));
        }
        assert!(page.contains("value=\"&quot;&gt;&lt;script&gt;&#39;&amp;\""), "{page}");
        assert!(!page.contains("<script"));
    }
}
