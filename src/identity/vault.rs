//! Where logins and credentials rest: a trait, because this module must not know databases.

use std::error::Error;
use std::fmt::Debug;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::model::CredentialId;
use crate::model::LoginId;
use crate::model::digest::Digest;
use crate::model::login::Credential;
use crate::model::login::Ended;
use crate::model::login::Login;

/// A login, with its sealed refresh token.
pub type WithRefresh = (Login, Option<Vec<u8>>);
/// A login, with its living credentials.
pub type WithCredentials = (Login, Vec<Credential>);

/// Keeps logins and credentials, for all gateways of a region.
///
/// It never sees a secret: credentials are found by their digest, and a provider's refresh token is
/// handed over sealed.
pub trait Vault: Send + Sync + Debug {
    /// Keeps a new login, with its sealed refresh token.
    fn begin<'a>(
        &'a self,
        login: &'a Login,
        refresh: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<(), VaultError>>;

    /// Replaces a login that lives. `refresh`: a new sealed refresh token; `None` keeps the one
    /// there is. A login that has ended stays as it is.
    fn update<'a>(
        &'a self,
        login: &'a Login,
        refresh: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<(), VaultError>>;

    /// Keeps a new credential.
    fn keep<'a>(&'a self, credential: &'a Credential) -> BoxFuture<'a, Result<(), VaultError>>;

    /// The credential with this digest and its login, ended ones too.
    fn find<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<(Credential, Login)>, VaultError>>;

    /// A login and its sealed refresh token.
    fn login<'a>(
        &'a self,
        id: &'a LoginId,
    ) -> BoxFuture<'a, Result<Option<WithRefresh>, VaultError>>;

    /// A credential.
    fn credential<'a>(
        &'a self,
        id: &'a CredentialId,
    ) -> BoxFuture<'a, Result<Option<Credential>, VaultError>>;

    /// What lives, newest login first, at most 1,000 logins. `only`: of one issuer and subject.
    fn list<'a>(
        &'a self,
        only: Option<(&'a str, &'a str)>,
    ) -> BoxFuture<'a, Result<Vec<WithCredentials>, VaultError>>;

    /// The living credentials of a login, newest first.
    fn credentials_of<'a>(
        &'a self,
        login: &'a LoginId,
    ) -> BoxFuture<'a, Result<Vec<Credential>, VaultError>>;

    /// How many logins of an issuer's subject live.
    fn count<'a>(
        &'a self,
        issuer: &'a str,
        subject: &'a str,
    ) -> BoxFuture<'a, Result<u64, VaultError>>;

    /// Ends a credential. Of several who end it, one is told `true`.
    fn end_credential<'a>(
        &'a self,
        id: &'a CredentialId,
        ended: &'a Ended,
    ) -> BoxFuture<'a, Result<bool, VaultError>>;

    /// Ends a login and all its credentials. Of several who end it, one is told `true`.
    fn end_login<'a>(
        &'a self,
        id: &'a LoginId,
        ended: &'a Ended,
    ) -> BoxFuture<'a, Result<bool, VaultError>>;

    /// The living logins of an issuer that match what is given of subject and provider session.
    fn logins_of<'a>(
        &'a self,
        issuer: &'a str,
        subject: Option<&'a str>,
        sid: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<LoginId>, VaultError>>;

    /// What changed at or after `at`, at any gateway; some of it may be told again.
    fn changed_since(&self, at: Timestamp) -> BoxFuture<'_, Result<Vec<Change>, VaultError>>;

    /// Removes what ended or expired before `before`; says how much.
    fn sweep(&self, before: Timestamp) -> BoxFuture<'_, Result<u64, VaultError>>;
}

/// Something that another gateway may not know yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A login as it is now.
    Login(Box<Login>),
    /// A credential ended.
    Credential(CredentialId, LoginId, Ended),
}

/// The state database did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the state database did not answer")]
pub struct VaultError(#[source] Box<dyn Error + Send + Sync>);

impl VaultError {
    /// An error because of `cause`.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}
