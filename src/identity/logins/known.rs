//! What this gateway knows of logins and credentials, and how it hears of other gateways' changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;

use crate::identity::Change;
use crate::identity::Claim;
use crate::identity::IdentityError;
use crate::identity::LoginError;
use crate::identity::Logins;
use crate::identity::Purpose;
use crate::identity::Standing;
use crate::identity::logins::State;
use crate::model::CredentialId;
use crate::model::LoginId;
use crate::model::digest::Digest;
use crate::model::fault::Chain;
use crate::model::login::Credential;
use crate::model::login::Form;
use crate::model::login::Login;
use crate::model::login::LoginEnd;
use crate::model::login::Use;

/// How often other gateways' changes are looked for, in milliseconds.
const LOOK_MS: u64 = 500;
/// How far back each look goes over what was seen already, in seconds: clocks of gateways differ,
/// and a transaction is seen later than it was stamped.
const LOOK_BACK_S: i64 = 10;
/// How long the state database may be silent before what rests on it ends, in seconds.
const SILENT_S_MAX: i64 = 30;
/// How long what was seen of the database is believed without another look, in seconds.
const FRESH_S_MAX: i64 = 5;
/// Most credentials that are remembered, so that not every request asks the database.
const KNOWN_MAX: usize = 16_384;
/// How long what ended is kept in the database, in hours.
const KEPT_H: i64 = 24;

impl Logins {
    /// Takes over what other gateways change, for ever. Where the database is silent for
    /// 30 seconds, everything that rests on it ends: a revocation could not be seen.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(LOOK_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut swept_at = self.clock.now();
        loop {
            ticks.tick().await;
            self.look().await;
            let now = self.clock.now();
            if now.duration_since(swept_at) > SignedDuration::from_hours(1) {
                swept_at = now;
                let before = now.checked_sub(SignedDuration::from_hours(KEPT_H)).unwrap_or(now);
                if let Err(error) = self.vault.sweep(before).await {
                    tracing::warn!(fault = "gateway", "{}", Chain(&error));
                }
            }
        }
    }

    pub(super) async fn look(&self) {
        let began = self.clock.now();
        let since = self.lock().looked_at;
        let back = SignedDuration::from_secs(LOOK_BACK_S);
        let changes = self.vault.changed_since(since.checked_sub(back).unwrap_or(since)).await;
        match changes {
            Ok(changes) => {
                for change in changes {
                    self.take_over(change);
                }
                self.lock().looked_at = began;
                self.forget();
            }
            Err(error) => {
                tracing::warn!(fault = "gateway", "{}", Chain(&error));
                let silent = began.duration_since(since).as_secs();
                if silent > SILENT_S_MAX {
                    self.all_lost();
                }
            }
        }
    }

    fn take_over(&self, change: Change) {
        match change {
            Change::Login(login) => {
                if self.lock().standing.contains_key(&login.id) {
                    self.stands(&login);
                }
            }
            Change::Credential(id, login, ended) => self.credential_ended(&id, &login, ended.why),
        }
    }

    /// Drops what nobody watches, so that memory is bounded by what lives.
    fn forget(&self) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.standing.retain(|_, sender| {
            sender.receiver_count() > 0
                || (sender.borrow().ended.is_none() && sender.borrow().good_until > now)
        });
        state.known.retain(|_, credential| credential.expires_at > now);
        drop(state);
        let mut gates = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| Arc::strong_count(gate) > 1);
    }

    fn all_lost(&self) {
        let mut state = self.lock();
        for sender in state.standing.values() {
            sender.send_if_modified(|standing| {
                let first = standing.ended.is_none();
                standing.ended.get_or_insert(LoginEnd::StateLost);
                first
            });
        }
        state.standing.clear();
        state.known.clear();
    }
}

impl Logins {
    /// The credential with this digest: remembered, or read from the vault.
    pub(super) async fn known(&self, digest: &Digest) -> Result<Arc<Credential>, IdentityError> {
        let now = self.clock.now();
        {
            let state = self.lock();
            let fresh = now.duration_since(state.looked_at).as_secs() <= FRESH_S_MAX;
            if let Some(credential) = state.known.get(digest).filter(|_| fresh) {
                return Ok(Arc::clone(credential));
            }
        }
        let found = self.vault.find(digest).await.map_err(IdentityError::Vault)?;
        let (credential, login) = found.ok_or(IdentityError::Credential("is not known"))?;
        if let Some(ended) = credential.ended {
            return Err(IdentityError::CredentialEnded(ended.why));
        }
        if let Some(ended) = login.ended {
            return Err(IdentityError::CredentialEnded(ended.why));
        }
        self.stands(&login);
        let credential = Arc::new(credential);
        let mut state = self.lock();
        if state.known.len() >= KNOWN_MAX {
            state.known.clear();
        }
        state.known.insert(*digest, Arc::clone(&credential));
        Ok(credential)
    }

    pub(super) async fn standing(
        &self,
        id: &LoginId,
    ) -> Result<watch::Receiver<Standing>, IdentityError> {
        if let Some(sender) = self.lock().standing.get(id) {
            return Ok(sender.subscribe());
        }
        let found = self.vault.login(id).await.map_err(IdentityError::Vault)?;
        let (login, _) = found.ok_or(IdentityError::Credential("has no login"))?;
        self.stands(&login);
        let state = self.lock();
        let sender = state.standing.get(id);
        sender.map(watch::Sender::subscribe).ok_or(IdentityError::Credential("has no login"))
    }

    /// Takes over how a login stands. An end that is known already stays.
    pub(super) fn stands(&self, login: &Login) {
        let mut state = self.lock();
        let ended = login.ended.as_ref().map(|ended| ended.why.clone());
        let Some(sender) = state.standing.get(&login.id) else {
            let standing = Standing {
                principal: Arc::clone(&login.principal),
                authentication: login.authentication.clone(),
                good_until: login.good_until,
                ended,
                revoked: BTreeMap::new(),
            };
            state.standing.insert(login.id.clone(), watch::Sender::new(standing));
            return;
        };
        sender.send_if_modified(|standing| {
            let before = standing.clone();
            // Whatever changes a login renews it: a row that is good for less was read before.
            if login.good_until >= standing.good_until {
                standing.principal = Arc::clone(&login.principal);
                standing.authentication = login.authentication.clone();
                standing.good_until = login.good_until;
            }
            standing.ended = before.ended.clone().or(ended);
            *standing != before
        });
    }

    pub(super) fn login_ended(&self, id: &LoginId, why: LoginEnd) {
        let mut state = self.lock();
        state.known.retain(|_, credential| credential.login != *id);
        if let Some(sender) = state.standing.get(id) {
            sender.send_if_modified(|standing| {
                let first = standing.ended.is_none();
                standing.ended.get_or_insert(why);
                first
            });
        }
    }

    pub(super) fn credential_ended(&self, id: &CredentialId, login: &LoginId, why: LoginEnd) {
        let mut state = self.lock();
        state.known.retain(|_, credential| credential.id != *id);
        if let Some(sender) = state.standing.get(login) {
            sender.send_if_modified(|standing| {
                // Renewed, it still carries sessions, which a later end of it ends.
                let before = standing.revoked.get(id);
                let counts = before
                    .is_none_or(|before| *before == LoginEnd::Renewed && why != LoginEnd::Renewed);
                if counts {
                    standing.revoked.insert(id.clone(), why);
                }
                counts
            });
        }
    }

    /// Whether a credential is bound to what it is shown for.
    pub(super) fn bound(
        &self,
        credential: &Credential,
        claim: &Claim<'_>,
        purpose: &Purpose<'_>,
    ) -> Result<(), IdentityError> {
        let scope = &credential.scope;
        if scope.region != self.options.region {
            return Err(IdentityError::Credential("is for another region"));
        }
        if !scope.uses.contains(&purpose.usage) {
            return Err(IdentityError::Credential("is for another use"));
        }
        if let Some(target) = &scope.target
            && purpose.usage != Use::Control
            && purpose.target != Some(target.as_str())
        {
            return Err(IdentityError::Credential("is for another target"));
        }
        match (claim, &scope.host) {
            (Claim::Cookie { host, .. }, Some(bound)) if bound == host => Ok(()),
            (Claim::Cookie { .. }, _) => Err(IdentityError::Credential("is for another host")),
            (_, None) => Ok(()),
            (_, Some(_)) => Err(IdentityError::Credential("is a cookie")),
        }
    }

    /// The living login, and credential, that a secret of ours belongs to, whatever it is good for.
    /// Only for what changes the login itself: whoever shows it for a use goes by [`Self::verify`].
    pub async fn whose(&self, secret: &str) -> Result<Option<(Credential, Login)>, LoginError> {
        let found = self.vault.find(&Digest::of(secret.as_bytes())).await?;
        let now = self.clock.now();
        Ok(found.filter(|(credential, login)| {
            matches!(credential.form, Form::Session | Form::Renewal)
                && credential.ended.is_none()
                && credential.expires_at > now
                && credential.scope.region == self.options.region
                && login.ended.is_none()
                && login.ends_at > now
        }))
    }

    pub(super) async fn living(
        &self,
        id: &LoginId,
    ) -> Result<(Login, Option<Vec<u8>>), LoginError> {
        let (login, sealed) = self.vault.login(id).await?.ok_or(LoginError::Ended)?;
        if login.ended.is_some() || login.ends_at <= self.clock.now() {
            return Err(LoginError::Ended);
        }
        Ok((login, sealed))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
