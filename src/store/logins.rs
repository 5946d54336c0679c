//! Logins and credentials: what [`Vault`] asks, in the database.
//!
//! An end is written once: whoever writes it first is told so, all others are told that it had
//! ended. A credential is written while its login's row is locked, so none slips in behind the
//! login's end. Only digests are here, and the provider's refresh token as it was sealed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;

use crate::identity::Change;
use crate::identity::Vault;
use crate::identity::VaultError;
use crate::model::digest::Digest;
use crate::model::login::Credential;
use crate::model::login::CredentialId;
use crate::model::login::Ended;
use crate::model::login::Form;
use crate::model::login::Login;
use crate::model::login::LoginEnd;
use crate::model::login::LoginId;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::db::Row;
use crate::store::db::Statement;

/// Most logins that one listing returns.
const LIST_LOGINS_MAX: u32 = 1_000;
/// How much further back than asked changes are read. A change becomes visible up to
/// `db::ANSWER_MAX` after the time it bears, which is that of another gateway's clock; the rest is
/// how far the clocks of gateways that share a database may differ.
pub(super) const CHANGES_OVERLAP: Duration = Duration::from_secs(30);

macro_rules! login_columns {
    () => {
        "l.login, l.sid, l.principal, l.authentication, l.device, l.began_at, l.ends_at, \
         l.good_until, l.ended_at, l.ended_why"
    };
}

macro_rules! credential_columns {
    () => {
        "c.credential, c.login AS c_login, c.form, c.digest, c.scope, c.issued_at, c.expires_at, \
         c.ended_at AS c_ended_at, c.ended_why AS c_ended_why"
    };
}

impl Store {
    async fn begin_login(&self, login: &Login, refresh: Option<&[u8]>) -> Result<(), StoreError> {
        let text = "INSERT INTO logins (login, issuer, subject, sid, principal, authentication, \
                    device, began_at, ends_at, good_until, refresh, changed_at) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        let statement = Statement::new(text)
            .with(login.id.as_str())
            .with(login.principal.issuer.as_str())
            .with(login.principal.subject.as_str())
            .with(login.sid.as_deref())
            .with(json(&*login.principal)?)
            .with(json(&login.authentication)?)
            .with(json(&login.device)?)
            .with(login.began_at)
            .with(login.ends_at)
            .with(login.good_until)
            .with(refresh)
            .with(self.clock.now());
        self.db.execute(statement).await.map(|_| ())
    }

    /// What has ended stays as it ended: only a login that stands is updated.
    async fn update_login(&self, login: &Login, refresh: Option<&[u8]>) -> Result<(), StoreError> {
        let text = "UPDATE logins SET issuer = $2, subject = $3, sid = $4, principal = $5, \
                    authentication = $6, device = $7, ends_at = $8, good_until = $9, \
                    refresh = COALESCE($10, refresh), changed_at = $11 \
                    WHERE login = $1 AND ended_at IS NULL";
        let statement = Statement::new(text)
            .with(login.id.as_str())
            .with(login.principal.issuer.as_str())
            .with(login.principal.subject.as_str())
            .with(login.sid.as_deref())
            .with(json(&*login.principal)?)
            .with(json(&login.authentication)?)
            .with(json(&login.device)?)
            .with(login.ends_at)
            .with(login.good_until)
            .with(refresh)
            .with(self.clock.now());
        self.db.execute(statement).await.map(|_| ())
    }

    /// A credential of a login that has ended meanwhile is kept as one that has ended with it.
    async fn keep_credential(&self, credential: &Credential) -> Result<(), StoreError> {
        let locked = "UPDATE logins SET changed_at = changed_at WHERE login = $1";
        let text = "INSERT INTO credentials (credential, login, form, digest, scope, issued_at, \
                    expires_at, ended_at, ended_why, changed_at) \
                    SELECT $1, login, $3, $4, $5, $6, $7, ended_at, ended_why, $8 \
                    FROM logins WHERE login = $2";
        let statement = Statement::new(text)
            .with(credential.id.as_str())
            .with(credential.login.as_str())
            .with(credential.form.as_str())
            .with(credential.digest.to_string())
            .with(json(&credential.scope)?)
            .with(credential.issued_at)
            .with(credential.expires_at)
            .with(self.clock.now());
        let locked = Statement::new(locked).with(credential.login.as_str());
        if self.db.if_any(locked, [statement]).await? {
            Ok(())
        } else {
            Err(StoreError::NoLogin(credential.login.to_string()))
        }
    }

    async fn find_credential(
        &self,
        digest: &Digest,
    ) -> Result<Option<(Credential, Login)>, StoreError> {
        let text = concat!(
            "SELECT ",
            credential_columns!(),
            ", ",
            login_columns!(),
            " FROM credentials c JOIN logins l ON l.login = c.login WHERE c.digest = $1"
        );
        let row = self.db.row(Statement::new(text).with(digest.to_string())).await?;
        row.map(|row| Ok((credential_of(&row)?, login_of(&row)?))).transpose()
    }

    async fn one_login(
        &self,
        id: &LoginId,
    ) -> Result<Option<(Login, Option<Vec<u8>>)>, StoreError> {
        let text =
            concat!("SELECT ", login_columns!(), ", l.refresh FROM logins l WHERE l.login = $1");
        let row = self.db.row(Statement::new(text).with(id.as_str())).await?;
        row.map(|row| Ok((login_of(&row)?, row.get("refresh")?))).transpose()
    }

    async fn one_credential(&self, id: &CredentialId) -> Result<Option<Credential>, StoreError> {
        let text = concat!(
            "SELECT ",
            credential_columns!(),
            " FROM credentials c WHERE c.credential = $1"
        );
        let row = self.db.row(Statement::new(text).with(id.as_str())).await?;
        row.as_ref().map(credential_of).transpose()
    }

    async fn list_logins(
        &self,
        only: Option<(&str, &str)>,
    ) -> Result<Vec<(Login, Vec<Credential>)>, StoreError> {
        let logins = concat!(
            "SELECT ",
            login_columns!(),
            " FROM logins l WHERE l.ended_at IS NULL AND l.ends_at > $1 \
              AND ($2 IS NULL OR (l.issuer = $2 AND l.subject = $3)) \
              ORDER BY l.began_at DESC, l.login LIMIT $4"
        );
        let credentials = concat!(
            "SELECT ",
            credential_columns!(),
            " FROM credentials c WHERE c.ended_at IS NULL AND c.expires_at > $1 AND c.login IN \
              (SELECT l.login FROM logins l WHERE l.ended_at IS NULL AND l.ends_at > $1 \
              AND ($2 IS NULL OR (l.issuer = $2 AND l.subject = $3)) \
              ORDER BY l.began_at DESC, l.login LIMIT $4) \
              ORDER BY c.issued_at DESC, c.credential"
        );
        let now = self.clock.now();
        let asked = |text| {
            Statement::new(text)
                .with(now)
                .with(only.map(|(issuer, _)| issuer))
                .with(only.map(|(_, subject)| subject))
                .with(LIST_LOGINS_MAX)
        };
        let logins = self.db.rows(asked(logins)).await?;
        let mut of = BTreeMap::<LoginId, Vec<Credential>>::new();
        for row in self.db.rows(asked(credentials)).await? {
            let credential = credential_of(&row)?;
            of.entry(credential.login.clone()).or_default().push(credential);
        }
        let with_its_own = |row: &Row| {
            let login = login_of(row)?;
            let credentials = of.remove(&login.id).unwrap_or_default();
            Ok((login, credentials))
        };
        logins.iter().map(with_its_own).collect()
    }

    async fn living_credentials_of(&self, login: &LoginId) -> Result<Vec<Credential>, StoreError> {
        let text = concat!(
            "SELECT ",
            credential_columns!(),
            " FROM credentials c WHERE c.login = $1 AND c.ended_at IS NULL AND c.expires_at > $2 \
              ORDER BY c.issued_at DESC, c.credential LIMIT $3"
        );
        let statement = Statement::new(text).with(login.as_str()).with(self.clock.now());
        let rows = self.db.rows(statement.with(LIST_LOGINS_MAX)).await?;
        rows.iter().map(credential_of).collect()
    }

    async fn count_logins(&self, issuer: &str, subject: &str) -> Result<u64, StoreError> {
        let text = "SELECT COUNT(*) AS logins FROM logins WHERE issuer = $1 AND subject = $2 \
                    AND ended_at IS NULL AND ends_at > $3";
        let statement = Statement::new(text).with(issuer).with(subject).with(self.clock.now());
        let rows = self.db.rows(statement).await?;
        rows.first().map_or(Ok(0), |row| row.count("logins"))
    }

    /// A session credential that was renewed is ended once more by whoever revokes it: sessions that
    /// began with it live.
    async fn end_one_credential(
        &self,
        id: &CredentialId,
        ended: &Ended,
    ) -> Result<bool, StoreError> {
        let text = "UPDATE credentials SET ended_at = $2, ended_why = $3, changed_at = $4 \
                    WHERE credential = $1 AND (ended_at IS NULL \
                    OR (form = $5 AND ended_why = $6 AND $6 <> $3))";
        let statement = Statement::new(text)
            .with(id.as_str())
            .with(ended.at)
            .with(json(&ended.why)?)
            .with(self.clock.now())
            .with(Form::Session.as_str())
            .with(json(&LoginEnd::Renewed)?);
        Ok(self.db.execute(statement).await? > 0)
    }

    /// The refresh token goes with the login: nobody is to use it again.
    async fn end_one_login(&self, id: &LoginId, ended: &Ended) -> Result<bool, StoreError> {
        let login = "UPDATE logins SET ended_at = $2, ended_why = $3, changed_at = $4, \
                     refresh = NULL WHERE login = $1 AND ended_at IS NULL";
        let credentials = "UPDATE credentials SET ended_at = $2, ended_why = $3, changed_at = $4 \
                           WHERE login = $1 AND ended_at IS NULL";
        let (why, now) = (json(&ended.why)?, self.clock.now());
        let statement = |text| {
            Statement::new(text).with(id.as_str()).with(ended.at).with(why.as_str()).with(now)
        };
        self.db.if_any(statement(login), [statement(credentials)]).await
    }

    async fn logins_that_fit(
        &self,
        issuer: &str,
        subject: Option<&str>,
        sid: Option<&str>,
    ) -> Result<Vec<LoginId>, StoreError> {
        let text = "SELECT login FROM logins WHERE ended_at IS NULL AND issuer = $1 \
                    AND ($2 IS NULL OR subject = $2) AND ($3 IS NULL OR sid = $3)";
        let rows = self.db.rows(Statement::new(text).with(issuer).with(subject).with(sid)).await?;
        rows.iter().map(|row| row.parsed("login")).collect()
    }

    async fn changes(&self, at: Timestamp) -> Result<Vec<Change>, StoreError> {
        let logins = concat!(
            "SELECT ",
            login_columns!(),
            " FROM logins l WHERE l.changed_at >= $1 ORDER BY l.changed_at"
        );
        let credentials = "SELECT credential, login, ended_at, ended_why FROM credentials \
                           WHERE changed_at >= $1 AND ended_at IS NOT NULL ORDER BY changed_at";
        let from = at.saturating_sub(CHANGES_OVERLAP).map_err(StoreError::encode)?;
        let mut changes = Vec::new();
        for row in self.db.rows(Statement::new(logins).with(from)).await? {
            changes.push(Change::Login(Box::new(login_of(&row)?)));
        }
        for row in self.db.rows(Statement::new(credentials).with(from)).await? {
            if let Some(ended) = ended_of(&row, "ended_at", "ended_why")? {
                let (id, login) = (row.parsed("credential")?, row.parsed("login")?);
                changes.push(Change::Credential(id, login, ended));
            }
        }
        Ok(changes)
    }

    /// Logins before credentials, as everywhere: two that lock in different order would wait for
    /// each other.
    async fn sweep_before(&self, before: Timestamp) -> Result<u64, StoreError> {
        let logins = "DELETE FROM logins WHERE ends_at < $1 OR ended_at < $1";
        let credentials = "DELETE FROM credentials WHERE expires_at < $1 OR ended_at < $1";
        let swept = self.db.execute(Statement::new(logins).with(before)).await?;
        let more = self.db.execute(Statement::new(credentials).with(before)).await?;
        Ok(swept.saturating_add(more))
    }
}

impl Vault for Store {
    fn begin<'a>(
        &'a self,
        login: &'a Login,
        refresh: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<(), VaultError>> {
        answer(self.begin_login(login, refresh))
    }

    fn update<'a>(
        &'a self,
        login: &'a Login,
        refresh: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<(), VaultError>> {
        answer(self.update_login(login, refresh))
    }

    fn keep<'a>(&'a self, credential: &'a Credential) -> BoxFuture<'a, Result<(), VaultError>> {
        answer(self.keep_credential(credential))
    }

    fn find<'a>(
        &'a self,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Option<(Credential, Login)>, VaultError>> {
        answer(self.find_credential(digest))
    }

    fn login<'a>(
        &'a self,
        id: &'a LoginId,
    ) -> BoxFuture<'a, Result<Option<(Login, Option<Vec<u8>>)>, VaultError>> {
        answer(self.one_login(id))
    }

    fn credential<'a>(
        &'a self,
        id: &'a CredentialId,
    ) -> BoxFuture<'a, Result<Option<Credential>, VaultError>> {
        answer(self.one_credential(id))
    }

    fn list<'a>(
        &'a self,
        only: Option<(&'a str, &'a str)>,
    ) -> BoxFuture<'a, Result<Vec<(Login, Vec<Credential>)>, VaultError>> {
        answer(self.list_logins(only))
    }

    fn credentials_of<'a>(
        &'a self,
        login: &'a LoginId,
    ) -> BoxFuture<'a, Result<Vec<Credential>, VaultError>> {
        answer(self.living_credentials_of(login))
    }

    fn count<'a>(
        &'a self,
        issuer: &'a str,
        subject: &'a str,
    ) -> BoxFuture<'a, Result<u64, VaultError>> {
        answer(self.count_logins(issuer, subject))
    }

    fn end_credential<'a>(
        &'a self,
        id: &'a CredentialId,
        ended: &'a Ended,
    ) -> BoxFuture<'a, Result<bool, VaultError>> {
        answer(self.end_one_credential(id, ended))
    }

    fn end_login<'a>(
        &'a self,
        id: &'a LoginId,
        ended: &'a Ended,
    ) -> BoxFuture<'a, Result<bool, VaultError>> {
        answer(self.end_one_login(id, ended))
    }

    fn logins_of<'a>(
        &'a self,
        issuer: &'a str,
        subject: Option<&'a str>,
        sid: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<LoginId>, VaultError>> {
        answer(self.logins_that_fit(issuer, subject, sid))
    }

    fn changed_since(&self, at: Timestamp) -> BoxFuture<'_, Result<Vec<Change>, VaultError>> {
        answer(self.changes(at))
    }

    fn sweep(&self, before: Timestamp) -> BoxFuture<'_, Result<u64, VaultError>> {
        answer(self.sweep_before(before))
    }
}

fn answer<'a, T>(
    answer: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> BoxFuture<'a, Result<T, VaultError>> {
    answer.map(|answer| answer.map_err(VaultError::new)).boxed()
}

fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::encode)
}

fn login_of(row: &Row) -> Result<Login, StoreError> {
    Ok(Login {
        id: row.parsed("login")?,
        principal: Arc::new(row.json("principal")?),
        authentication: row.json("authentication")?,
        sid: row.get("sid")?,
        device: row.json("device")?,
        began_at: row.time("began_at")?,
        ends_at: row.time("ends_at")?,
        good_until: row.time("good_until")?,
        ended: ended_of(row, "ended_at", "ended_why")?,
    })
}

fn credential_of(row: &Row) -> Result<Credential, StoreError> {
    Ok(Credential {
        id: row.parsed("credential")?,
        login: row.parsed("c_login")?,
        form: serde_json::from_value(row.get::<String>("form")?.into())
            .map_err(StoreError::decode)?,
        digest: row.parsed("digest")?,
        scope: row.json("scope")?,
        issued_at: row.time("issued_at")?,
        expires_at: row.time("expires_at")?,
        ended: ended_of(row, "c_ended_at", "c_ended_why")?,
    })
}

/// A row with a time and no reason is broken, and an error: it must not count as one that stands.
fn ended_of(row: &Row, at: &str, why: &str) -> Result<Option<Ended>, StoreError> {
    let Some(at) = row.maybe_time(at)? else { return Ok(None) };
    Ok(Some(Ended { at, why: row.json::<LoginEnd>(why)? }))
}
