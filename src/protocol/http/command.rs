//! Plain HTTP: what a request means where the target speaks nothing more than HTTP.
//!
//! The method is the verb and the effect, the path is the object, and the routes of the catalogue
//! say which classes an answer may carry. Pure but for [`Plain::reach`], which resolves.

use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::StatusCode;
use http::header;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;

use crate::mask;
use crate::mask::path::At;
use crate::mask::path::JsonPath;
use crate::mask::path::Meeting;
use crate::model::Address;
use crate::model::Command;
use crate::model::CommandId;
use crate::model::Declared;
use crate::model::Effect;
use crate::model::Object;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::digest::Digest;
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;
use crate::protocol::http::dialect::BodyNeed;
use crate::protocol::http::dialect::Dialect;
use crate::protocol::http::dialect::Head;
use crate::protocol::http::dialect::MaskedDocument;
use crate::protocol::http::dialect::Masker;
use crate::protocol::http::dialect::Place;
use crate::protocol::http::dialect::Reading;
use crate::protocol::http::dialect::Sent;
use crate::protocol::http::dialect::Told;
use crate::protocol::http::dialect::Unreachable;
use crate::protocol::http::dialect::Veil;
use crate::protocol::http::dialect::Worded;
use crate::protocol::http::json;
use crate::protocol::http::json::Sight;
use crate::protocol::http::refuse;
use crate::protocol::http::wire;
use crate::session::guard::Withheld;
use crate::target;
use crate::target::HttpTarget;
use crate::target::Target;
use crate::target::UpstreamTls;
use crate::target::UpstreamTls::Verified as VerifyFull;
use crate::target::http::Undeclared;
use crate::tls;
use crate::tls::Pem;
use crate::tls::Roots;

/// Plain HTTP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Dialect for Plain {
    fn protocol(&self) -> Protocol {
        Protocol::Http
    }

    fn needs(&self, _: &Target, _: &Head) -> BodyNeed {
        BodyNeed::Begun
    }

    fn read(&self, target: &Target, head: &Head, sent: Sent<'_>) -> Result<Reading, Refusal> {
        let http = http_of(target)?;
        wire::path(&head.path, http.encoded_slash, http.double_slash)?;
        let route = http.route(&head.path);
        let mut command = command(head, sent);
        let veil = if let Some(route) = route {
            command.reads = route.classes().cloned().collect();
            let fields = route.fields.clone();
            Veil::Document(Arc::new(Fields { fields, undeclared: route.undeclared }))
        } else {
            if http.unlisted == Undeclared::Refuse {
                command.reads.clone_from(&target.facts().classes);
            }
            Veil::None("nobody declared what answers on this path hold".to_owned())
        };
        let writes = command.effects.contains(&Effect::Write) && sent != Sent::Nothing;
        if writes && let Some(route) = route {
            command.writes = route.classes().cloned().collect();
        }
        Ok(Reading { command, veil })
    }

    fn reach<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Place, Unreachable>> {
        async move {
            let http = http_of(target)
                .map_err(|refusal| Unreachable::misconfigured(target, format!("{refusal}")))?;
            let pinned = target::pin(target).await.map_err(Unreachable::pin)?;
            let authority = authority(&http.address, matches!(http.tls, UpstreamTls::Off));
            let tls = connector(target, &http.tls)?;
            Ok(Place { pinned, tls, authority })
        }
        .boxed()
    }

    fn dress(
        &self,
        target: &Target,
        _: (&Principal, CommandId),
        headers: &mut HeaderMap,
    ) -> Result<(), Unreachable> {
        let http = http_of(target)
            .map_err(|refusal| Unreachable::misconfigured(target, format!("{refusal}")))?;
        let Some((name, credential)) = &http.credential else { return Ok(()) };
        let secret = credential.read().map_err(|e| Unreachable::credential(target, e))?;
        let name = HeaderName::from_bytes(name.as_str().as_bytes())
            .map_err(|e| Unreachable::misconfigured(target, e))?;
        let mut value = HeaderValue::from_str(secret.expose_secret().trim())
            .map_err(|e| Unreachable::misconfigured(target, e))?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    }

    fn word(&self, refusal: &Refusal, told: &Told<'_>) -> Worded {
        refuse::word(refusal, told)
    }
}

/// What a request does, and to which path.
fn command(head: &Head, sent: Sent<'_>) -> Command {
    let text = wire::line(&head.method, &head.path_and_query());
    let mut command = Command::new(head.method.as_str(), text);
    let effect = match head.method {
        Method::GET | Method::HEAD | Method::OPTIONS => Effect::Read,
        Method::POST | Method::PUT | Method::PATCH => Effect::Write,
        Method::DELETE => Effect::Delete,
        _ => Effect::Opaque,
    };
    if head.method == Method::TRACE {
        let reason = "TRACE is not carried: it shows what the gateway signs in with";
        command.unsupported = Some(reason.to_owned());
    }
    command.effects.insert(effect);
    command.objects.push(Object::new("path", wire::escaped(&head.path), effect));
    if let Some(media) = head.headers.get(header::CONTENT_TYPE) {
        let media = String::from_utf8_lossy(media.as_bytes()).into_owned();
        command.details.push(("content-type".to_owned(), media));
    }
    match sent {
        Sent::Nothing => {}
        Sent::Whole(body) => {
            command.details.push(("body-sha256".to_owned(), Digest::of(body).to_string()));
            command.details.push(("body-bytes".to_owned(), body.len().to_string()));
        }
        Sent::Longer(begun) => {
            command.details.push(("body-bytes".to_owned(), format!("more than {}", begun.len())));
        }
    }
    command
}

fn http_of(target: &Target) -> Result<&HttpTarget, Refusal> {
    match target.reach() {
        target::Reach::Http(http) => Ok(http),
        target::Reach::Postgres(_) | target::Reach::Ssh(_) | target::Reach::Kubernetes(_) => {
            let reason = format!("{} does not speak plain HTTP", target.name());
            Err(Refusal::new(RefusalCode::Unsupported, reason))
        }
    }
}

/// What stands in `Host`: without the port where it is the scheme's own (RFC 9110, section 4.2).
fn authority(address: &Address, plain: bool) -> String {
    let whole = address.to_string();
    let own = if plain { ":80" } else { ":443" };
    whole.strip_suffix(own).map_or(whole.clone(), str::to_owned)
}

type Connector = (Arc<rustls::ClientConfig>, ServerName<'static>);

/// How TLS to a target is made.
fn connector(target: &Target, tls: &UpstreamTls) -> Result<Option<Connector>, Unreachable> {
    let VerifyFull { ca_pem, server_name } = tls else { return Ok(None) };
    let roots = match ca_pem {
        Some(pem) => Roots::Bundle(Pem::bytes(pem.clone())),
        None => Roots::System,
    };
    let config = tls::client(&roots, &[tls::server::HTTP_1_1], None)
        .map_err(|e| Unreachable::tls(target, e))?;
    let name = ServerName::try_from(server_name.to_string())
        .map_err(|e| Unreachable::misconfigured(target, e))?;
    Ok(Some((config, name)))
}

/// Masks the answers of one route.
#[derive(Debug)]
struct Fields {
    fields: Vec<(JsonPath, Declared)>,
    undeclared: Undeclared,
}

impl Fields {
    /// What may be seen at a place. Of several fields that name it, one that hides it counts.
    fn see(&self, masks: &Masks, at: &[At<'_>]) -> Sight {
        let (mut declared, mut above) = (false, false);
        for (path, holds) in &self.fields {
            let hidden = holds.class().filter(|class| masks.hides(class));
            match (path.meet(at), hidden) {
                (Meeting::Here | Meeting::Inside, Some(class)) => {
                    return Sight::Hide(mask::text(class));
                }
                (Meeting::Here | Meeting::Inside, None) => declared = true,
                (Meeting::Above, _) => above = true,
                (Meeting::Apart, _) => {}
            }
        }
        match (declared || self.undeclared == Undeclared::Clear, above) {
            (true, false) => Sight::Show,
            (true, true) => Sight::Within,
            (false, true) => Sight::Inner,
            (false, false) => Sight::Refuse(format!(
                "the answer has {}, of which nobody declared what it holds",
                place(at)
            )),
        }
    }
}

impl Masker for Fields {
    fn mask(
        &self,
        masks: &Masks,
        _: StatusCode,
        document: &[u8],
    ) -> Result<MaskedDocument, Withheld> {
        let mut records = Records::default();
        let mut see = |at: &[At<'_>]| {
            records.see(at);
            self.see(masks, at)
        };
        let copied = json::copy(document, &mut see)
            .map_err(|error| Withheld::unmaskable(error.to_string()))?;
        Ok(MaskedDocument {
            document: copied.document.into(),
            masked: copied.masked,
            rows: records.count(),
        })
    }
}

/// Counts records: the elements of the outermost arrays, or the one document.
#[derive(Debug, Default)]
struct Records {
    depth: Option<usize>,
    seen: u64,
}

impl Records {
    fn see(&mut self, at: &[At<'_>]) {
        if let Some(At::Index(_)) = at.last()
            && *self.depth.get_or_insert(at.len()) == at.len()
        {
            self.seen = self.seen.saturating_add(1);
        }
    }

    fn count(&self) -> u64 {
        self.seen.max(1)
    }
}

/// A place for people, without what is a value of it: `$.people[3].nick`. Keys are the target's
/// data, so only those are shown that look like names of members.
fn place(at: &[At<'_>]) -> String {
    let mut text = String::from("$");
    for step in at {
        let written = match step {
            At::Index(index) => write!(text, "[{index}]"),
            At::Key(key) => {
                let named = key.len() <= 64
                    && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                write!(text, ".{}", if named { key } else { "…" })
            }
        };
        if written.is_err() {
            break;
        }
    }
    text
}
