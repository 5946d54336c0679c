//! The shelf of recordings' keys, as the archive wants it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::audit::archive::Shelf;
use crate::audit::archive::ShelfError;
use crate::audit::archive::Shelved;
use crate::audit::keys::WrappedKey;
use crate::audit::keys::WrappingKeyId;
use crate::model::SessionId;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::recording_keys::PutKey;
use crate::store::recording_keys::RecordingKey;

impl Shelf for Store {
    fn put<'a>(
        &'a self,
        session: SessionId,
        key: &'a WrappedKey,
    ) -> BoxFuture<'a, Result<(), ShelfError>> {
        async move {
            let put = self.put_recording_key(session, key.by.as_str(), key.key.as_bytes()).await;
            match put.map_err(failed)? {
                PutKey::Kept => Ok(()),
                PutKey::Destroyed | PutKey::Another => Err(ShelfError::Another(session)),
            }
        }
        .boxed()
    }

    fn find(&self, session: SessionId) -> BoxFuture<'_, Result<Option<Shelved>, ShelfError>> {
        async move {
            let Some(key) = self.recording_key(session).await.map_err(failed)? else {
                return Ok(None);
            };
            shelved(key).map(Some)
        }
        .boxed()
    }

    fn destroy<'a>(
        &'a self,
        session: SessionId,
        by: &'a str,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<bool, ShelfError>> {
        async move { self.destroy_recording_key(session, by, reason).await.map_err(failed) }.boxed()
    }

    fn list(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<SessionId>, ShelfError>> {
        async move {
            let keys = self.recording_keys(after, limit).await.map_err(failed)?;
            Ok(keys.into_iter().map(|key| key.session).collect())
        }
        .boxed()
    }
}

fn shelved(key: RecordingKey) -> Result<Shelved, ShelfError> {
    if let Some(destroyed) = key.destroyed {
        let (at, by, reason) = (destroyed.at, destroyed.by, destroyed.reason);
        return Ok(Shelved::Destroyed { at, by, reason });
    }
    let wrapped = key.wrapped.unwrap_or_default();
    let text = String::from_utf8(wrapped).map_err(|error| ShelfError::Failed(error.into()))?;
    let by = WrappingKeyId::try_from(key.kek).map_err(|error| ShelfError::Failed(error.into()))?;
    Ok(Shelved::Key(WrappedKey { by, key: text }))
}

fn failed(error: StoreError) -> ShelfError {
    ShelfError::Failed(error.into())
}
