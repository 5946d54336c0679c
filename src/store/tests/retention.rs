//! What is said of how long recordings are kept, and that an index made again goes on where it was.

use super::Case;
use super::on_both;
use crate::model::SessionId;

on_both!(an_index_that_is_made_again_goes_on_where_it_was, nobody_is_under_a_hold_that_nobody_put,);

async fn an_index_that_is_made_again_goes_on_where_it_was(case: Case) {
    let store = &case.store;
    assert_eq!(store.reindexing().await.unwrap(), None);
    assert!(store.begin_reindex().await.unwrap());
    assert!(!store.begin_reindex().await.unwrap(), "it is under way");
    assert_eq!(store.reindexing().await.unwrap(), Some(None));
    let (other, _) = case.other("weir-2").await;
    assert_eq!(other.reindexing().await.unwrap(), None, "each gateway makes its own");
    let session = SessionId::fresh();
    store.reindexed(session).await.unwrap();
    assert_eq!(store.reindexing().await.unwrap(), Some(Some(session)));
    store.end_reindex().await.unwrap();
    assert_eq!(store.reindexing().await.unwrap(), None);
}

async fn nobody_is_under_a_hold_that_nobody_put(case: Case) {
    assert_eq!(case.store.legal_hold(SessionId::fresh()).await.unwrap(), None);
}
