//! Somebody at a browser without a window and without scripts: curl, which keeps cookies, fills in
//! forms and shows every redirect.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::demo::Ran;
use crate::demo::read;
use crate::parts;

/// More redirects than any way has.
const STEPS_MAX: usize = 30;

/// Somebody at a browser: one jar of cookies.
pub struct Visitor {
    jar: tempfile::TempDir,
    args: Vec<String>,
}

impl Visitor {
    /// Without cookies; `args` go to curl at every step: `--cacert`, `--connect-to`, …
    pub fn new(args: &[&str]) -> Self {
        let jar = tempfile::Builder::new().prefix("weir-visitor-").tempdir().unwrap();
        Self { jar, args: args.iter().map(|arg| (*arg).to_owned()).collect() }
    }

    /// Opens a page; redirects are not followed.
    pub fn visit(&self, url: &str) -> Page {
        self.ask(url, &[])
    }

    /// Sends a form, its members encoded.
    pub fn send(&self, url: &str, members: &[(&str, &str)]) -> Page {
        self.send_with(url, members, &[])
    }

    fn send_with(&self, url: &str, members: &[(&str, &str)], args: &[&str]) -> Page {
        let mut args = args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        args.extend(["--request".to_owned(), "POST".to_owned()]);
        for (name, value) in members {
            args.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        self.ask(url, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Fills in the first form of a page, whose hidden members go along, and sends it as a browser
    /// does: saying from which origin.
    pub fn submit(&self, page: &Page, members: &[(&str, &str)]) -> Page {
        let form = page.form().unwrap_or_else(|| panic!("no form: {page:?}"));
        let mut all = form.hidden.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>();
        all.retain(|(name, _)| members.iter().all(|(given, _)| given != name));
        all.extend(members);
        let (scheme, rest) = page.url.split_once("://").unwrap();
        let host = rest.split(['/', '?']).next().unwrap();
        self.send_with(&form.action, &all, &["-H", &format!("Origin: {scheme}://{host}")])
    }

    /// Follows redirects from `page`, until one leads to an address that starts with `until`, which
    /// is not visited, or there is none.
    pub fn follow(&self, mut page: Page, until: &str) -> Result<String, Page> {
        for _ in 0..STEPS_MAX {
            match page.location.take() {
                None => return Err(page),
                Some(location) if location.starts_with(until) => return Ok(location),
                Some(location) => page = self.visit(&location),
            }
        }
        panic!("went in circles, last at {}", page.url)
    }

    /// curl with this visitor's cookies and further arguments.
    pub fn ask(&self, url: &str, args: &[&str]) -> Page {
        let jar = self.jar.path().join("cookies");
        let body = self.jar.path().join("body");
        let _of_the_last_page = fs::remove_file(&body);
        let mut curl = Command::new(parts::program("curl"));
        curl.args(["-sS", "--max-time", "30", "--cookie"]).arg(&jar).arg("--cookie-jar").arg(&jar);
        curl.args(["-w", "%{http_code}\n%{redirect_url}", "--output"]).arg(&body);
        let ran = Ran::of(&curl.args(&self.args).args(args).arg(url).output().unwrap());
        assert_eq!(ran.code, 0, "{url}: {ran:?}");
        let (status, location) = ran.out.split_once('\n').unwrap();
        let mut page = Page {
            url: url.to_owned(),
            status: status.parse().unwrap(),
            location: (!location.is_empty()).then(|| location.to_owned()),
            body: if body.exists() { read(&body) } else { String::new() },
        };
        page.location = page.location.take().or_else(|| page.refresh());
        page
    }

    /// The cookies kept, as curl writes them: a line each.
    pub fn cookies(&self) -> String {
        read(self.jar.path().join("cookies"))
    }
}

/// What came back.
#[derive(Debug)]
pub struct Page {
    /// The address that was asked for.
    pub url: String,
    /// The status.
    pub status: u16,
    /// Where it redirects to, in full; by the page itself, too.
    pub location: Option<String>,
    /// The body.
    pub body: String,
}

/// A form: where it goes, and what goes along unseen.
struct Form {
    action: String,
    hidden: Vec<(String, String)>,
}

impl Page {
    /// The first form.
    fn form(&self) -> Option<Form> {
        let (_, rest) = self.body.split_once("<form")?;
        let (form, _) = rest.split_once("</form>")?;
        let (head, inside) = form.split_once('>')?;
        let input = |tag: &str| {
            let hidden = attribute(tag, "type")? == "hidden";
            let value = attribute(tag, "value").unwrap_or_default();
            hidden.then_some((attribute(tag, "name")?, value))
        };
        let tags = inside.split("<input").skip(1).filter_map(|tag| tag.split('>').next());
        let action = attribute(head, "action").unwrap_or_default();
        Some(Form { action: self.resolve(&action), hidden: tags.filter_map(input).collect() })
    }

    /// A hidden member of the first form, such as its token against forgery.
    pub fn hidden(&self, name: &str) -> Option<String> {
        self.form()?.hidden.into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Where the page itself leads on to, at once.
    fn refresh(&self) -> Option<String> {
        let (_, rest) = self.body.split_once("<meta http-equiv=\"refresh\"")?;
        let content = attribute(rest.split('>').next()?, "content")?;
        Some(self.resolve(content.strip_prefix("0;url=")?))
    }

    /// An address as this page means it.
    fn resolve(&self, address: &str) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let (host, _) = rest.split_once('/').unwrap_or((rest, ""));
        let path = self.url.split(['?', '#']).next().unwrap();
        match address {
            "" => self.url.clone(),
            whole if whole.contains("://") => whole.to_owned(),
            rooted if rooted.starts_with('/') => format!("{scheme}://{host}{rooted}"),
            query if query.starts_with('?') => format!("{path}{query}"),
            beside => format!("{}/{beside}", path.rsplit_once('/').unwrap().0),
        }
    }
}

/// The value of an attribute in a tag.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    let plain = [("&quot;", "\""), ("&#39;", "'"), ("&#x27;", "'"), ("&#34;", "\"")];
    let text = plain.iter().fold(value.to_owned(), |text, (from, to)| text.replace(from, to));
    Some(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

/// Text out of an address, its escapes undone.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// A member of an address's query, its escapes undone.
pub fn member(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let pairs = query.split('#').next()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| decoded(v))
}

/// The claims of a JWT, unverified.
pub fn claims_of(token: &str) -> Value {
    let sixtyfour = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for sign in token.split('.').nth(1).unwrap().bytes() {
        let value = sixtyfour.iter().position(|s| *s == sign).unwrap();
        (bits, count) = (bits << 6 | u32::try_from(value).unwrap(), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    serde_json::from_slice(&bytes).unwrap()
}
