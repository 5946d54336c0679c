//! From a claim to a session: the same steps, in the same order, for every protocol.
//!
//! A protocol only words them: it hands over what the client claims and tells the client what came
//! of it. It can neither verify nor admit.

use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::audit::LedgerEvent;
use crate::identity::Assertions;
use crate::identity::Certifier;
use crate::identity::Claim;
use crate::identity::Logins;
use crate::identity::Purpose;
use crate::identity::Verified;
use crate::identity::ssh_certificate;
use crate::identity::ssh_certificate::SshAuthority;
use crate::identity::ssh_certificate::SshExpected;
use crate::model::Fault;
use crate::model::Origin;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::fault::Chain;
use crate::model::login::LoginEnd;
use crate::model::login::Use;
use crate::model::place::PlaceMethod;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::policy;
use crate::policy::Snapshot;
use crate::session::guard::Guard;
use crate::session::guard::Parts;
use crate::session::handoff::Handoffs;
use crate::session::invitation::Asks;
use crate::session::invitation::Invitation;
use crate::session::invitation::Invitations;
use crate::store::Note;
use crate::target::Catalogue;
use crate::target::Target;

/// One version of what decisions rest on: policy and law, and the catalogue that goes with them.
/// They change together or not at all.
#[derive(Debug)]
pub struct Version {
    /// Policy, law and the facts about targets.
    pub snapshot: Arc<Snapshot>,
    /// How the same targets are reached.
    pub catalogue: Arc<Catalogue>,
}

/// What the way of a connection needs of the gateway. Built once, by the daemon.
#[derive(Debug)]
pub struct Gateway {
    /// The gateway's own DNS name; targets are `<target>.<name>`.
    pub name: String,
    /// Where people reach it with a browser: `https://weir.example`, with the port where it is not
    /// 443, without a slash at the end.
    pub url: String,
    /// Logins, credentials, and who verifies claims.
    pub logins: Arc<Logins>,
    /// Who signs people's certificates.
    pub certifier: Arc<dyn Certifier>,
    /// Who signs people's SSH certificates: the SSH half of the same authority.
    pub ssh_authority: Arc<SshAuthority>,
    /// Who says to targets, signed, who asks.
    pub assertions: Arc<Assertions>,
    /// Browsers on their way to a target's host.
    pub handoffs: Handoffs,
    /// Who is asked to sign in from inside a connection.
    pub invitations: Arc<Invitations>,
    /// What a guard needs.
    pub parts: Parts,
}

/// A session that was admitted and recorded; its target may be dialled.
#[derive(Debug)]
pub struct Admitted {
    /// The session's guard.
    pub guard: Arc<Guard>,
    /// How its target is reached.
    pub target: Arc<Target>,
}

impl Gateway {
    /// Verifies what a client shows, for a use: the API, or a target.
    ///
    /// The one way of a claim, whatever the protocol. A provider's own token counts at the API, and
    /// at targets that say so. The refusal says nothing about why something was nearly valid; the
    /// log does.
    pub async fn verify(
        &self,
        claim: &Claim<'_>,
        usage: Use,
        target: Option<&str>,
        origin: &Origin,
    ) -> Result<Verified, Refusal> {
        let tokens = match usage {
            Use::Control => true,
            Use::Target(_) => target.is_some_and(|target| self.takes_tokens(target)),
        };
        let purpose = Purpose { usage, target, tokens };
        let verified = self.logins.verify(claim, &purpose).await.map_err(|error| {
            let (cause, what) = (Chain(&error).to_string(), claim.word());
            let from = origin.address;
            tracing::info!(fault = %error.fault(), %from, what, "sign-in refused: {cause}");
            error.refusal()
        })?;
        if let Claim::SshCertificate { blob, address } = claim {
            self.check_ssh(blob, &verified, *address)?;
        }
        let principal = Arc::clone(verified.principal());
        self.parts.journal.note(Note::Seen { at: self.parts.clock.now(), principal });
        Ok(verified)
    }

    /// That a certificate which is known says the same itself: whose authority, for whom, from where.
    fn check_ssh(&self, blob: &[u8], is: &Verified, address: IpAddr) -> Result<(), Refusal> {
        let expected = SshExpected {
            authorities: std::slice::from_ref(self.ssh_authority.public()),
            now: self.parts.clock.now(),
            principal: &is.principal().name,
            address,
        };
        ssh_certificate::check(blob, &expected).map(drop).map_err(|error| {
            tracing::info!(fault = %Fault::Client, %address, "sign-in refused: {}", Chain(&error));
            error.refusal()
        })
    }

    /// Asks whoever is at the other end of a connection to sign in with a browser, by a link and a
    /// code, and waits for them there.
    pub fn invite(&self, asks: Asks) -> Result<Invitation, Refusal> {
        self.invitations.invite(&self.url, asks, self.parts.clock.now())
    }

    /// Where people reach a target with a browser: `https://wiki.weir.example`, with the port where
    /// the gateway's own has one. What browsers call the origin of its pages.
    pub fn url_of(&self, label: &str) -> String {
        let host = self.url.strip_prefix("https://").unwrap_or(&self.url);
        format!("https://{label}.{host}")
    }

    fn takes_tokens(&self, target: &str) -> bool {
        let version = self.version();
        let name = target.parse::<TargetName>().ok();
        let target = name.and_then(|name| version.catalogue.target(&name).cloned());
        target.is_some_and(|target| target.provider_tokens())
    }

    /// Finds the target, asks policy, records the admission and opens the session.
    pub fn admit(
        &self,
        verified: &Verified,
        target: &str,
        protocol: Protocol,
        origin: &Origin,
    ) -> Result<Admitted, Refusal> {
        let version = self.version();
        let admitted = self.try_admit(&version, verified, target, protocol, origin);
        let Err(refusal) = &admitted else { return admitted };
        let principal = Arc::clone(verified.principal());
        tracing::info!(fault = %Fault::Client, %principal, target, from = %origin, "not admitted: {refusal}");
        let entry = LedgerEvent::Refused {
            principal,
            origin: origin.clone(),
            target: target.chars().take(128).collect(),
            refusal: refusal.clone(),
            snapshot: version.snapshot.version(),
        };
        self.parts.audit.record(&entry).map_err(|error| {
            tracing::error!(fault = %Fault::Gateway, "{}", Chain(&error));
            error.refusal()
        })?;
        admitted
    }

    /// Admits the gateway itself, as its own principal, for what it reads on its own account: a
    /// catalogue, a health check. Decided and recorded like any other session.
    pub fn admit_itself(&self, target: &str, protocol: Protocol) -> Result<Admitted, Refusal> {
        let version = self.version();
        let facts = version.snapshot.gateway();
        let verified = Verified::gateway(facts.entity.clone());
        let origin = Origin {
            address: IpAddr::V6(Ipv6Addr::LOCALHOST),
            country: Some(facts.country.clone()),
            method: PlaceMethod::ConfiguredNetwork("the gateway itself".to_owned()),
        };
        self.admit(&verified, target, protocol, &origin)
    }

    /// Ends the login that somebody's credential rests on, because they say so: at every target, in
    /// every program that shares it. What cannot be recorded is not done.
    pub async fn log_out(&self, verified: &Verified, origin: &Origin) -> Result<(), Refusal> {
        let Some(login) = verified.login() else { return Ok(()) };
        let event = LedgerEvent::Control {
            principal: Arc::clone(verified.principal()),
            origin: origin.clone(),
            action: "logout".to_owned(),
            of: login.to_string(),
            rules: Vec::new(),
            refusal: None,
            purpose: None,
        };
        self.parts.audit.record(&event).map_err(|error| {
            tracing::error!(fault = %Fault::Gateway, "{}", Chain(&error));
            error.refusal()
        })?;
        self.logins.end(login, LoginEnd::LoggedOut).await.map(drop).map_err(|error| {
            tracing::error!(fault = %Fault::Gateway, "{}", Chain(&error));
            Refusal::new(RefusalCode::Unrecorded, "the login could not be ended").hint("try again")
        })
    }

    /// What is in force now.
    pub fn version(&self) -> Arc<Version> {
        Arc::clone(&self.parts.version.borrow())
    }

    /// A watch on what is in force.
    pub fn versions(&self) -> watch::Receiver<Arc<Version>> {
        self.parts.version.clone()
    }

    fn try_admit(
        &self,
        version: &Version,
        verified: &Verified,
        target: &str,
        protocol: Protocol,
        origin: &Origin,
    ) -> Result<Admitted, Refusal> {
        let name = target.parse::<TargetName>().map_err(|_| unknown(target))?;
        let asked = policy::Asked { session: SessionId::fresh(), target: &name, protocol, origin };
        self.parts.registry.has_room(verified.principal())?;
        let now = self.parts.clock.now();
        let permit = policy::admit(verified, asked, &version.snapshot, now)?;
        let target = version.catalogue.target(&name).ok_or_else(|| unknown(target))?;
        let guard = Guard::open(permit, self.parts.clone()).map_err(|error| {
            tracing::error!(fault = %Fault::Gateway, "{}", Chain(&error));
            error.refusal()
        })?;
        Ok(Admitted { guard, target: Arc::clone(target) })
    }
}

/// What is said of a name that no target has; the same words as policy's for one that the
/// principal may not know of.
fn unknown(target: &str) -> Refusal {
    let shown = target.chars().filter(|c| !c.is_control()).take(64).collect::<String>();
    Refusal::new(
        RefusalCode::NoTarget,
        format!("there is no target `{shown}`, or none that you may know of"),
    )
    .hint("ask the platform team which targets you may reach")
}
