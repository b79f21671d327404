//! A bucket restored from a backup: what `docs/OPERATIONS.md` says of it.

use std::time::Duration;

use futures::TryStreamExt;
use leaselock::{FencingToken, Store};
use leaselock_test_support::emulators::Backend;
use leaselock_test_support::place::Place;

/// As a process that remembers nothing.
async fn hold_once(place: &Place) -> FencingToken {
    let store: Store = place.open().await;
    let guard = store.lock("x").acquire().await.expect("acquires");
    let token = guard.token();
    guard.release().await.expect("releases");
    token
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "waits in real time for a new first token")]
async fn a_restored_record_repeats_tokens_and_a_deleted_one_does_not() {
    let place = Place::on(Backend::Memory).expect("is always there");
    hold_once(&place).await;
    let backup = place.get("x.lock").await;
    let newest = [hold_once(&place).await, hold_once(&place).await][1];

    place.put("x.lock", &backup).await;
    let repeated = hold_once(&place).await;
    assert!(repeated < newest, "{repeated} after {newest}: the record's counter went back");

    tokio::time::sleep(Duration::from_millis(2100)).await;
    place.delete("x.lock").await;
    let fresh = hold_once(&place).await;
    assert!(fresh > newest, "{fresh} after {newest}");
    let left: Vec<_> = place.open().await.names("").try_collect().await.expect("lists");
    assert_eq!(left, ["x"]);
}
