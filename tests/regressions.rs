//! Faults that were found once, each with the test that shows it.

#![allow(clippy::disallowed_methods, reason = "waits in real time, with generous bounds")]

use std::time::Duration;

use leaselock::{ErrorKind, Payload, Release, Store, StoreBuilder};
use leaselock_test_support::clock::eventually;
use leaselock_test_support::counting::{CountingStore, FailKind};

const LONG: Duration = Duration::from_secs(20);

/// On the machine's own clock: a clock moved by hand hides tasks that never rest.
fn on(objects: &CountingStore) -> StoreBuilder {
    Store::from_object_store(objects.as_store()).check_preconditions(false)
}

async fn open(objects: &CountingStore) -> Store {
    on(objects).open().await.expect("opens")
}

#[tokio::test]
async fn a_renewal_that_hangs_at_the_deadline_does_not_stop_other_locks() {
    let (stuck, fine) = (CountingStore::in_memory(), CountingStore::in_memory());
    let lock = open(&stuck).await.lock("x").ttl(Duration::from_secs(1));
    let guard = lock.acquire().await.expect("acquires");
    stuck.hold_puts();
    stuck.fail_gets(true);
    tokio::time::timeout(LONG, guard.lost()).await.expect("is lost in time");
    let other = open(&fine).await.lock("y");
    let acquired = tokio::time::timeout(LONG, other.acquire()).await;
    let _guard = acquired.expect("the library's thread is not stuck").expect("acquires");
}

#[tokio::test]
async fn writes_that_fail_while_reads_work_end_an_attempt() {
    let objects = CountingStore::in_memory();
    let store = open(&objects).await;
    drop(store.lock("x").acquire().await.expect("acquires"));
    let lock = open(&objects).await.lock("x");
    eventually("the first guard is released", || objects.counts().updates == 1).await;
    objects.reset();
    objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
    let tried =
        tokio::time::timeout(LONG, lock.try_acquire()).await.expect("does not try for ever");
    assert_eq!(tried.expect_err("no write works").kind(), ErrorKind::Unavailable);
    assert!(objects.counts().writes() <= 20, "no storm: {:?}", objects.counts());
}

#[tokio::test]
async fn the_keeper_of_a_lost_lease_ends_with_its_guard() {
    let objects = CountingStore::in_memory();
    let store = open(&objects).await;
    let guard = store.lock("x").max_hold(Duration::from_millis(1)).acquire().await.expect("gets");
    tokio::time::timeout(LONG, guard.lost()).await.expect("is lost");
    let watch = guard.watch();
    drop(guard);
    // The keeper's task holds a clone of the store; the counting store sees who is left.
    drop((store, watch));
    eventually("the task is gone", || objects.handles() <= 1).await;
}

#[tokio::test]
async fn a_payload_that_no_reader_could_parse_is_refused() {
    #[derive(serde::Serialize)]
    struct Nested(Vec<Nested>);
    let mut nested = Nested(Vec::new());
    for _ in 0..200 {
        nested = Nested(vec![nested]);
    }
    let error = Payload::from_serialize(&nested).expect_err("too deep");
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(Payload::from_json_str("[[[1]]]").is_ok());
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_a_listing_that_nobody_reads() {
    let objects = CountingStore::in_memory();
    let store = open(&objects).await;
    for number in 0..60 {
        let guard = store.lock(format!("n/{number}")).acquire().await.expect("acquires");
        assert_eq!(guard.release().await.expect("releases"), Release::Released);
    }
    let listing = store.list("");
    tokio::time::timeout(LONG, store.shutdown()).await.expect("ends");
    drop(listing);
}
