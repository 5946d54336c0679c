//! A vault in memory, for tests.

use std::sync::Mutex;
use std::sync::MutexGuard;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::future::ready;
use jiff::Timestamp;

use crate::identity::Change;
use crate::identity::Vault;
use crate::identity::VaultError;
use crate::model::CredentialId;
use crate::model::LoginId;
use crate::model::digest::Digest;
use crate::model::login::Credential;
use crate::model::login::Ended;
use crate::model::login::Login;

/// Logins and credentials in memory; a switch makes it silent.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    silent: bool,
    logins: Vec<(Login, Option<Vec<u8>>)>,
    credentials: Vec<Credential>,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, VaultError>>;

impl Memory {
    /// Whether every question fails from now on.
    pub(crate) fn silence(&self, silent: bool) {
        self.0.lock().unwrap().silent = silent;
    }

    fn rows(&self) -> Result<MutexGuard<'_, Rows>, VaultError> {
        let rows = self.0.lock().unwrap();
        if rows.silent { Err(VaultError::new("silent")) } else { Ok(rows) }
    }

    fn with<'a, T: Send + 'a>(&self, done: impl FnOnce(&mut Rows) -> T) -> Answer<'a, T> {
        ready(self.rows().map(|mut rows| done(&mut rows))).boxed()
    }
}

impl Vault for Memory {
    fn begin<'a>(&'a self, login: &'a Login, refresh: Option<&'a [u8]>) -> Answer<'a, ()> {
        self.with(|rows| rows.logins.push((login.clone(), refresh.map(<[u8]>::to_vec))))
    }

    fn update<'a>(&'a self, login: &'a Login, refresh: Option<&'a [u8]>) -> Answer<'a, ()> {
        self.with(|rows| {
            for (one, sealed) in &mut rows.logins {
                if one.id == login.id && one.ended.is_none() {
                    *one = login.clone();
                    if let Some(refresh) = refresh {
                        *sealed = Some(refresh.to_vec());
                    }
                }
            }
        })
    }

    fn keep<'a>(&'a self, credential: &'a Credential) -> Answer<'a, ()> {
        self.with(|rows| rows.credentials.push(credential.clone()))
    }

    fn find<'a>(&'a self, digest: &'a Digest) -> Answer<'a, Option<(Credential, Login)>> {
        self.with(|rows| {
            let credential = rows.credentials.iter().find(|one| one.digest == *digest)?;
            let (login, _) = rows.logins.iter().find(|(one, _)| one.id == credential.login)?;
            Some((credential.clone(), login.clone()))
        })
    }

    fn login<'a>(&'a self, id: &'a LoginId) -> Answer<'a, Option<(Login, Option<Vec<u8>>)>> {
        self.with(|rows| rows.logins.iter().find(|(one, _)| one.id == *id).cloned())
    }

    fn credential<'a>(&'a self, id: &'a CredentialId) -> Answer<'a, Option<Credential>> {
        self.with(|rows| rows.credentials.iter().find(|one| one.id == *id).cloned())
    }

    fn list<'a>(
        &'a self,
        only: Option<(&'a str, &'a str)>,
    ) -> Answer<'a, Vec<(Login, Vec<Credential>)>> {
        self.with(|rows| {
            let wanted = |login: &Login| {
                let own = (login.principal.issuer.as_str(), login.principal.subject.as_str());
                login.ended.is_none() && only.is_none_or(|only| only == own)
            };
            let of = |login: &Login| {
                let living = |one: &&Credential| one.login == login.id && one.ended.is_none();
                rows.credentials.iter().filter(living).cloned().collect()
            };
            let logins = rows.logins.iter().rev().map(|(login, _)| login);
            logins.filter(|l| wanted(l)).map(|login| (login.clone(), of(login))).collect()
        })
    }

    fn credentials_of<'a>(&'a self, login: &'a LoginId) -> Answer<'a, Vec<Credential>> {
        self.with(|rows| {
            let living = |one: &&Credential| one.login == *login && one.ended.is_none();
            rows.credentials.iter().rev().filter(living).cloned().collect()
        })
    }

    fn count<'a>(&'a self, issuer: &'a str, subject: &'a str) -> Answer<'a, u64> {
        self.with(|rows| {
            let living = |(login, _): &&(Login, Option<Vec<u8>>)| {
                let own = (login.principal.issuer.as_str(), login.principal.subject.as_str());
                login.ended.is_none() && own == (issuer, subject)
            };
            u64::try_from(rows.logins.iter().filter(living).count()).unwrap_or(u64::MAX)
        })
    }

    fn end_credential<'a>(&'a self, id: &'a CredentialId, ended: &'a Ended) -> Answer<'a, bool> {
        self.with(|rows| {
            let living = |one: &&mut Credential| one.id == *id && one.ended.is_none();
            let found = rows.credentials.iter_mut().find(living);
            found.map(|one| one.ended = Some(ended.clone())).is_some()
        })
    }

    fn end_login<'a>(&'a self, id: &'a LoginId, ended: &'a Ended) -> Answer<'a, bool> {
        self.with(|rows| {
            let living = |one: &&mut Credential| one.login == *id && one.ended.is_none();
            for credential in rows.credentials.iter_mut().filter_map(|c| Some(c).filter(living)) {
                credential.ended = Some(ended.clone());
            }
            let found = rows.logins.iter_mut().find(|(l, _)| l.id == *id && l.ended.is_none());
            found.map(|(login, _)| login.ended = Some(ended.clone())).is_some()
        })
    }

    fn logins_of<'a>(
        &'a self,
        issuer: &'a str,
        subject: Option<&'a str>,
        sid: Option<&'a str>,
    ) -> Answer<'a, Vec<LoginId>> {
        self.with(|rows| {
            let logins = rows.logins.iter().map(|(login, _)| login).filter(|login| {
                login.ended.is_none()
                    && login.principal.issuer == issuer
                    && subject.is_none_or(|subject| login.principal.subject == subject)
                    && sid.is_none_or(|sid| login.sid.as_deref() == Some(sid))
            });
            logins.map(|login| login.id.clone()).collect()
        })
    }

    fn changed_since(&self, _: Timestamp) -> Answer<'_, Vec<Change>> {
        self.with(|rows| {
            let logins =
                rows.logins.iter().map(|(login, _)| Change::Login(Box::new(login.clone())));
            let ended = rows.credentials.iter().filter_map(|one| {
                let ended = one.ended.clone()?;
                Some(Change::Credential(one.id.clone(), one.login.clone(), ended))
            });
            logins.chain(ended).collect()
        })
    }

    fn sweep(&self, before: Timestamp) -> Answer<'_, u64> {
        self.with(|rows| {
            let all = rows.credentials.len();
            rows.credentials.retain(|one| one.expires_at >= before);
            u64::try_from(all.saturating_sub(rows.credentials.len())).unwrap_or_default()
        })
    }
}
