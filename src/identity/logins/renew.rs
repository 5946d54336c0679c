//! Renewals: the provider is asked again, and the old secrets are used up.

use std::sync::Arc;
use std::sync::PoisonError;

use jiff::Timestamp;

use crate::identity::GoesOn;
use crate::identity::IdentityError;
use crate::identity::LoginError;
use crate::identity::Logins;
use crate::identity::Renewed;
use crate::identity::Wanted;
use crate::identity::logins::later;
use crate::model::LoginId;
use crate::model::digest::Digest;
use crate::model::fault::Chain;
use crate::model::login::Credential;
use crate::model::login::Ended;
use crate::model::login::Form;
use crate::model::login::Login;
use crate::model::login::LoginEnd;

impl Logins {
    /// Renews a login: asks the provider again, uses up the renewal secret and the session
    /// credential that it came with, and issues new ones.
    ///
    /// A secret that was used up before ends the login: somebody has a copy. A provider that cannot
    /// be reached uses nothing up; one that refuses ends the login.
    pub async fn renew(&self, renewal: &str) -> Result<Renewed, LoginError> {
        let digest = Digest::of(renewal.as_bytes());
        let found = self.vault.find(&digest).await?;
        let (credential, _) = found.ok_or(IdentityError::Credential("is not known"))?;
        if credential.form != Form::Renewal {
            return Err(IdentityError::Credential("is no renewal secret").into());
        }
        let gate = self.gate(&credential.login);
        let _one_at_a_time = gate.lock().await;
        let (mut login, sealed) = self.living(&credential.login).await?;
        if let Some(ended) = self.vault.credential(&credential.id).await?.and_then(|c| c.ended) {
            if ended.why == LoginEnd::Renewed {
                self.end(&login.id, LoginEnd::Replayed).await?;
            }
            return Err(LoginError::Ended);
        }
        let now = self.clock.now();
        if credential.expires_at <= now || login.ends_at <= now {
            return Err(LoginError::Ended);
        }
        if let Some(sealed) = sealed {
            self.ask_provider(&mut login, &sealed).await?;
        }
        self.use_up(&login, &credential, now).await?;
        login.good_until = later(now, self.options.credential_s).min(login.ends_at);
        self.vault.update(&login, None).await?;
        self.stands(&login);
        let wanted = Wanted {
            uses: credential.scope.uses.clone(),
            target: credential.scope.target.clone(),
            host: None,
        };
        let session = self.issue(&login.id, Form::Session, wanted.clone()).await?;
        let renewal = self.issue(&login.id, Form::Renewal, wanted).await?;
        Ok(Renewed { login: login.id, session, renewal })
    }

    /// Renews a login without any secret, for a browser whose cookie is still good: the provider is
    /// asked, and the login goes on.
    pub async fn go_on(&self, id: &LoginId) -> Result<(), LoginError> {
        let gate = self.gate(id);
        let _one_at_a_time = gate.lock().await;
        let (mut login, sealed) = self.living(id).await?;
        let now = self.clock.now();
        // Somebody who waited at the gate finds it done.
        if login.good_until > later(now, self.options.credential_s / 2) {
            return Ok(());
        }
        if let Some(sealed) = sealed {
            self.ask_provider(&mut login, &sealed).await?;
        }
        login.good_until = later(now, self.options.credential_s).min(login.ends_at);
        self.vault.update(&login, None).await?;
        self.stands(&login);
        Ok(())
    }

    /// A browser has nothing to renew with but its cookie: when less than half of the time is left
    /// the provider is asked. One that is down changes nothing as long as the login is good.
    pub(super) async fn renew_behind_cookie(&self, id: &LoginId) -> Result<(), IdentityError> {
        let now = self.clock.now();
        let good_until = self.standing(id).await?.borrow().good_until;
        if good_until > later(now, self.options.credential_s / 2) {
            return Ok(());
        }
        match self.go_on(id).await {
            Ok(()) | Err(LoginError::Ended) => Ok(()),
            Err(_) if good_until > now => Ok(()),
            Err(LoginError::Identity(error)) => Err(error),
            Err(LoginError::Vault(error)) => Err(IdentityError::Vault(error)),
            Err(error) => {
                tracing::warn!("a login was not renewed: {}", Chain(&error));
                Err(IdentityError::Credential("could not be renewed"))
            }
        }
    }

    /// Asks the provider whether its session goes on, and who it says they are now.
    async fn ask_provider(&self, login: &mut Login, sealed: &[u8]) -> Result<(), LoginError> {
        let refresh = self.seal.open(&login.id, sealed)?;
        let answer = self.identity.refresh(&login.principal.issuer, &refresh).await;
        let again = match answer {
            Ok(GoesOn::As(signed_in)) => {
                if signed_in.verified.principal().subject != login.principal.subject {
                    self.end(&login.id, LoginEnd::Changed).await?;
                    return Err(LoginError::SomebodyElse);
                }
                login.principal = Arc::clone(signed_in.verified.principal());
                signed_in.refresh
            }
            // Its session goes on; who they are was not said, so it stays what it was.
            Ok(GoesOn::Unsaid(again)) => again,
            Err(error @ IdentityError::RefreshRefused) => {
                self.end(&login.id, LoginEnd::ProviderRefused).await?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        };
        let sealed = self.sealed(&login.id, again.as_ref())?;
        // At once: most providers take the one before no more.
        self.vault.update(login, sealed.as_deref()).await?;
        self.stands(login);
        Ok(())
    }

    /// Uses up a renewal secret, and the session credentials that came with it.
    async fn use_up(
        &self,
        login: &Login,
        renewal: &Credential,
        now: Timestamp,
    ) -> Result<(), LoginError> {
        let ended = Ended { at: now, why: LoginEnd::Renewed };
        if !self.vault.end_credential(&renewal.id, &ended).await? {
            self.end(&login.id, LoginEnd::Replayed).await?;
            return Err(LoginError::Ended);
        }
        let all = self.vault.credentials_of(&login.id).await?;
        let before = all.into_iter().filter(|credential| {
            credential.form == Form::Session && credential.scope == renewal.scope
        });
        for credential in before {
            self.revoke(&credential.id, LoginEnd::Renewed).await?;
        }
        Ok(())
    }

    pub(super) fn gate(&self, login: &LoginId) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(login.clone()).or_default())
    }
}
