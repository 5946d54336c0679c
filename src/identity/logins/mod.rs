//! Logins and the credentials that come of them: issued, renewed, verified, ended.
//!
//! ```text
//! SignedIn ─ begin ─► login ─ issue ─► weir_s_…, weir_r_…   ─ verify ─► Verified
//!                       │    certify ► certificates         ─ verify ─► Verified
//!                       ├─ renew: the provider is asked again; the old secrets are used up
//!                       ├─ step_up: a fresher, stronger proof for everything that rests on it
//!                       └─ end: every session that rests on it ends
//! ```
//!
//! What a login is good for now is its [`Standing`], which every [`Verified`] of it watches. Another
//! gateway's changes come by [`Logins::watch`]. Only digests of secrets are kept anywhere.

mod known;
mod renew;

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;

use jiff::SignedDuration;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use tokio::sync::watch;

use crate::identity::Claim;
use crate::identity::Identity;
use crate::identity::IdentityError;
use crate::identity::Purpose;
use crate::identity::SEAL_KEY_BYTES;
use crate::identity::SignedIn;
use crate::identity::Standing;
use crate::identity::Vault;
use crate::identity::VaultError;
use crate::identity::Verified;
use crate::identity::seal::Seal;
use crate::identity::seal::SealError;
use crate::identity::secret;
use crate::model::Clock;
use crate::model::CredentialId;
use crate::model::LoginId;
use crate::model::RegionName;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::login::Credential;
use crate::model::login::Device;
use crate::model::login::Ended;
use crate::model::login::Form;
use crate::model::login::Login;
use crate::model::login::LoginEnd;
use crate::model::login::Scope;
use crate::model::login::Use;

/// The longest life of a session credential or X.509 certificate, in seconds.
pub const CREDENTIAL_S_MAX: u32 = 3_600;
/// The longest life of an SSH certificate, in seconds.
pub const SSH_CERTIFICATE_S_MAX: u32 = 8 * 3_600;
/// Most logins of one principal that stand at a time.
pub(super) const LOGINS_MAX: u64 = 2_000;
/// Most living credentials of one login.
pub(super) const CREDENTIALS_MAX: usize = 200;
/// Longest label of a device, in bytes.
pub(super) const LABEL_BYTES_MAX: usize = 128;

/// How long things last, and where they count.
#[derive(Debug, Clone)]
pub struct LoginOptions {
    /// The region whose gateways take the credentials.
    pub region: RegionName,
    /// How long a session credential or X.509 certificate lives, in seconds; at most
    /// [`CREDENTIAL_S_MAX`].
    pub credential_s: u32,
    /// How long an SSH certificate lives, in seconds; at most [`SSH_CERTIFICATE_S_MAX`].
    pub ssh_certificate_s: u32,
    /// How long a login may be renewed, in seconds.
    pub login_s_max: u32,
}

/// A credential that was just issued: the one time that its secret is known.
#[derive(Debug)]
pub struct Issued {
    /// The secret, for the client.
    pub secret: SecretString,
    /// What is kept of it.
    pub credential: Credential,
}

/// What a credential is asked to be bound to.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What it may be used for; empty is refused.
    pub uses: BTreeSet<Use>,
    /// The one target it is for.
    pub target: Option<TargetName>,
    /// The one host that a cookie is for.
    pub host: Option<String>,
}

impl Wanted {
    /// Everything: the API and all targets.
    pub fn everything() -> Self {
        use crate::model::Protocol;
        let targets = [Protocol::Postgres, Protocol::Ssh, Protocol::Http, Protocol::Kubernetes];
        let uses = targets.map(Use::Target).into_iter().chain([Use::Control]).collect();
        Self { uses, target: None, host: None }
    }
}

/// What a renewal brings.
#[derive(Debug)]
pub struct Renewed {
    /// The login.
    pub login: LoginId,
    /// The new session credential.
    pub session: Issued,
    /// The secret of the next renewal.
    pub renewal: Issued,
}

/// Why a login could not be begun, renewed or used to issue something.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The claim or the provider's answer is not accepted.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state database did not answer.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A refresh token could not be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// There are no random numbers.
    #[error("there are no random numbers")]
    Random,
    /// The login has ended, or there is none.
    #[error("the login has ended")]
    Ended,
    /// Somebody else signed in than the one whose login it is.
    #[error("somebody else signed in than the one whose login it is")]
    SomebodyElse,
    /// Too many of something.
    #[error("there are {0} already, which is the bound")]
    TooMany(&'static str),
    /// More was asked for than the credential that asks has itself.
    #[error("more was asked for than the credential that asks is good for")]
    TooWide,
}

/// All logins of a region, as this gateway sees them.
pub struct Logins {
    vault: Arc<dyn Vault>,
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
    options: LoginOptions,
    seal: Seal,
    state: Mutex<State>,
    /// Renewals of one login go one after another.
    renewing: Mutex<HashMap<LoginId, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug)]
struct State {
    standing: HashMap<LoginId, watch::Sender<Standing>>,
    known: HashMap<Digest, Arc<Credential>>,
    /// When the database last answered a look.
    looked_at: Timestamp,
}

impl Logins {
    /// The logins kept in `vault`; refresh tokens are sealed with `seal_key`.
    pub fn new(
        vault: Arc<dyn Vault>,
        identity: Arc<Identity>,
        clock: Arc<dyn Clock>,
        options: LoginOptions,
        seal_key: &[u8; SEAL_KEY_BYTES],
    ) -> Result<Self, SealError> {
        let state =
            State { standing: HashMap::new(), known: HashMap::new(), looked_at: clock.now() };
        Ok(Self {
            vault,
            identity,
            clock,
            options,
            seal: Seal::new(seal_key)?,
            state: Mutex::new(state),
            renewing: Mutex::default(),
        })
    }

    /// Who verifies providers' tokens.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Begins a login for somebody who has just signed in.
    ///
    /// Without a refresh token nobody can be asked whether the provider's session goes on, so the
    /// login ends with the provider's token.
    pub async fn begin(&self, signed_in: &SignedIn, device: Device) -> Result<Login, LoginError> {
        let now = self.clock.now();
        let verified = &signed_in.verified;
        let principal = Arc::clone(verified.principal());
        if self.vault.count(&principal.issuer, &principal.subject).await? >= LOGINS_MAX {
            return Err(LoginError::TooMany("2,000 logins of this principal"));
        }
        let longest = later(now, self.options.login_s_max);
        let ends_at = match (&signed_in.refresh, verified.expires_at()) {
            (Some(_), _) | (None, None) => longest,
            (None, Some(at)) => longest.min(at),
        };
        let login = Login {
            id: LoginId::fresh(),
            principal,
            authentication: verified.authentication().ok_or(LoginError::Ended)?,
            sid: signed_in.sid.clone(),
            device: Device { label: label(&device.label), ..device },
            began_at: now,
            ends_at,
            good_until: later(now, self.options.credential_s).min(ends_at),
            ended: None,
        };
        let refresh = self.sealed(&login.id, signed_in.refresh.as_ref())?;
        self.vault.begin(&login, refresh.as_deref()).await?;
        self.stands(&login);
        Ok(login)
    }

    /// Issues a secret of a login: a session credential, a renewal or a cookie.
    pub async fn issue(
        &self,
        login: &LoginId,
        form: Form,
        wanted: Wanted,
    ) -> Result<Issued, LoginError> {
        let prefix = form.prefix().ok_or(LoginError::TooWide)?;
        let secret = secret::fresh(prefix).ok_or(LoginError::Random)?;
        let digest = Digest::of(secret.expose_secret().as_bytes());
        let credential = self.keep(login, (form, digest), wanted, u32::MAX).await?;
        Ok(Issued { secret, credential })
    }

    /// Keeps a certificate that was made for a login; `seconds`: how long it is good at most. The
    /// digest is that of the certificate's bytes.
    pub async fn certified(
        &self,
        login: &LoginId,
        (form, digest): (Form, Digest),
        wanted: Wanted,
        seconds: u32,
    ) -> Result<Credential, LoginError> {
        self.keep(login, (form, digest), wanted, seconds).await
    }

    /// When a certificate that is made now for `login` has to end.
    pub async fn certificate_ends_at(
        &self,
        login: &LoginId,
        form: Form,
    ) -> Result<Timestamp, LoginError> {
        let login = self.living(login).await?.0;
        Ok(self.ends_at(&login, form, self.clock.now()))
    }

    /// Verifies what a client shows.
    ///
    /// A provider's token is verified by its provider where `purpose` lets it count. Everything else
    /// must be known, live, and bound to this region, to this use and to this target.
    pub async fn verify(
        &self,
        claim: &Claim<'_>,
        purpose: &Purpose<'_>,
    ) -> Result<Verified, IdentityError> {
        let (digest, forms): (Digest, &[Form]) = match claim {
            Claim::Secret(text) if !secret::is_ours(text) => {
                if !purpose.tokens {
                    return Err(IdentityError::TokenNotTaken);
                }
                return self.identity.verify(text).await.map(|signed_in| signed_in.verified);
            }
            Claim::Secret(text) => (Digest::of(text.as_bytes()), &[Form::Session]),
            Claim::Cookie { secret, .. } => (Digest::of(secret.as_bytes()), &[Form::Cookie]),
            Claim::Certificate { ours: false, .. } => {
                return Err(IdentityError::ForeignCertificate);
            }
            Claim::Certificate { der, ours: true } => (Digest::of(der), &[Form::Certificate]),
            Claim::SshCertificate { blob, .. } => (Digest::of(blob), &[Form::SshCertificate]),
        };
        let credential = self.known(&digest).await?;
        if !forms.contains(&credential.form) {
            return Err(IdentityError::Credential("is of another form than it is shown as"));
        }
        self.bound(&credential, claim, purpose)?;
        if credential.form == Form::Cookie {
            self.renew_behind_cookie(&credential.login).await?;
        }
        let standing = self.standing(&credential.login).await?;
        // A certificate is good by itself until its end, unless the login ends; a secret only as
        // long as the login is renewed.
        let alone = credential.form == Form::SshCertificate;
        let until = alone.then_some(credential.expires_at);
        let who = (credential.login.clone(), credential.id.clone());
        let verified = Verified::by_login(who, standing.clone(), until);
        let now = self.clock.now();
        // The standing knows of ends that the remembered row does not.
        let standing = standing.borrow();
        if let Some(why) = standing.ended.as_ref().or_else(|| standing.revoked.get(&credential.id))
        {
            return Err(IdentityError::CredentialEnded(why.clone()));
        }
        if credential.expires_at <= now || (!alone && standing.good_until <= now) {
            return Err(IdentityError::Expired(credential.expires_at));
        }
        drop(standing);
        Ok(verified)
    }

    /// Makes a login fresher and stronger: its person has just signed in again. Everything that
    /// rests on it, sessions that live included, stands on the new proof.
    pub async fn step_up(&self, id: &LoginId, signed_in: &SignedIn) -> Result<(), LoginError> {
        let gate = self.gate(id);
        let _one_at_a_time = gate.lock().await;
        let (mut login, _) = self.living(id).await?;
        let principal = signed_in.verified.principal();
        if principal.issuer != login.principal.issuer
            || principal.subject != login.principal.subject
        {
            return Err(LoginError::SomebodyElse);
        }
        login.principal = Arc::clone(principal);
        login.authentication = signed_in.verified.authentication().ok_or(LoginError::Ended)?;
        if signed_in.sid.is_some() {
            login.sid.clone_from(&signed_in.sid);
        }
        let now = self.clock.now();
        login.good_until = later(now, self.options.credential_s).min(login.ends_at);
        let refresh = self.sealed(&login.id, signed_in.refresh.as_ref())?;
        self.vault.update(&login, refresh.as_deref()).await?;
        self.stands(&login);
        Ok(())
    }

    /// Ends a login; sessions that rest on it end at once. `false`: it had ended.
    pub async fn end(&self, id: &LoginId, why: LoginEnd) -> Result<bool, VaultError> {
        let ended = Ended { at: self.clock.now(), why };
        let first = self.vault.end_login(id, &ended).await?;
        if first {
            self.login_ended(id, ended.why);
        }
        Ok(first)
    }

    /// Ends one credential; sessions that rest on it end at once. `false`: it had ended. One that was
    /// only renewed is still revoked: sessions that began with it live.
    pub async fn revoke(&self, id: &CredentialId, why: LoginEnd) -> Result<bool, VaultError> {
        let Some(credential) = self.vault.credential(id).await? else { return Ok(false) };
        let ended = Ended { at: self.clock.now(), why };
        let first = self.vault.end_credential(id, &ended).await?;
        if first {
            self.credential_ended(id, &credential.login, ended.why);
        }
        Ok(first)
    }

    /// Ends the logins that a provider says are over; gives those that this ended.
    pub async fn end_of_provider(
        &self,
        issuer: &str,
        subject: Option<&str>,
        sid: Option<&str>,
    ) -> Result<Vec<Login>, VaultError> {
        let mut ended = Vec::new();
        if subject.is_none() && sid.is_none() {
            return Ok(ended);
        }
        for id in self.vault.logins_of(issuer, subject, sid).await? {
            let Some((login, _)) = self.vault.login(&id).await? else { continue };
            if self.end(&id, LoginEnd::ProviderLoggedOut).await? {
                ended.push(login);
            }
        }
        Ok(ended)
    }

    /// The logins that live, with their living credentials. `only`: of one issuer and subject.
    pub async fn list(
        &self,
        only: Option<(&str, &str)>,
    ) -> Result<Vec<(Login, Vec<Credential>)>, VaultError> {
        self.vault.list(only).await
    }

    /// A login that lives.
    pub async fn login(&self, id: &LoginId) -> Result<Login, LoginError> {
        self.living(id).await.map(|(login, _)| login)
    }

    /// A credential, living or not.
    pub async fn credential(&self, id: &CredentialId) -> Result<Option<Credential>, VaultError> {
        self.vault.credential(id).await
    }
}

// === Issuing ===

impl Logins {
    async fn keep(
        &self,
        login: &LoginId,
        (form, digest): (Form, Digest),
        wanted: Wanted,
        seconds: u32,
    ) -> Result<Credential, LoginError> {
        if wanted.uses.is_empty() || (form == Form::Cookie) != wanted.host.is_some() {
            return Err(LoginError::TooWide);
        }
        let (login, _) = self.living(login).await?;
        let living = self.vault.credentials_of(&login.id).await?.len();
        if living >= CREDENTIALS_MAX {
            return Err(LoginError::TooMany("200 credentials of this login"));
        }
        let now = self.clock.now();
        let expires_at = self.ends_at(&login, form, now).min(later(now, seconds));
        let credential = Credential {
            id: CredentialId::fresh(),
            login: login.id.clone(),
            form,
            digest,
            scope: Scope {
                region: self.options.region.clone(),
                uses: wanted.uses,
                target: wanted.target,
                host: wanted.host,
            },
            issued_at: now,
            expires_at,
            ended: None,
        };
        self.vault.keep(&credential).await?;
        Ok(credential)
    }

    fn ends_at(&self, login: &Login, form: Form, now: Timestamp) -> Timestamp {
        let seconds = match form {
            Form::Session | Form::Certificate => self.options.credential_s,
            Form::SshCertificate => self.options.ssh_certificate_s,
            // They do nothing by themselves once the login is not renewed.
            Form::Renewal | Form::Cookie => u32::MAX,
        };
        later(now, seconds).min(login.ends_at)
    }

    fn sealed(
        &self,
        login: &LoginId,
        refresh: Option<&SecretString>,
    ) -> Result<Option<Vec<u8>>, LoginError> {
        let sealed = refresh.map(|refresh| self.seal.close(login, refresh.expose_secret()));
        Ok(sealed.transpose()?)
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").field("options", &self.options).finish_non_exhaustive()
    }
}

fn later(now: Timestamp, seconds: u32) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX)
}

/// A label as it may stand in listings: short, without control characters.
fn label(text: &str) -> String {
    let mut label = String::new();
    for sign in text.chars().filter(|sign| !sign.is_control()) {
        if label.len().saturating_add(sign.len_utf8()) > LABEL_BYTES_MAX {
            break;
        }
        label.push(sign);
    }
    label
}

#[cfg(test)]
mod tests;
