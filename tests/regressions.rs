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

/// Everybody waits for them until their session ends, which may be never.
#[tokio::test]
async fn what_a_limit_ends_under_a_session_is_given_back() {
    let objects = CountingStore::in_memory();
    let (store, other) = (open(&objects).await, open(&objects).await);
    let limit = Duration::from_millis(10);
    let writer = store.rwlock("x").max_hold(limit).write().await.expect("writes");
    let table = other.rwlock("x");
    let other = tokio::time::timeout(LONG, table.write()).await;
    let other = other.expect("in time").expect("writes");
    assert!(!writer.is_held(), "its job hangs, and its guard stays");
    assert_eq!(other.release().await.expect("releases"), Release::Released);
}

#[tokio::test]
async fn a_release_that_failed_under_a_session_is_tried_again_for_as_long_as_that_stands() {
    let objects = CountingStore::in_memory().ignoring(".session");
    let (store, other) = (open(&objects).await, open(&objects).await);
    let session = store.session().ttl(Duration::from_secs(1)).open().await.expect("opens");
    let guard = session.lock("x").acquire().await.expect("acquires");
    objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
    assert_eq!(guard.release().await.expect("is answered"), Release::Unconfirmed);
    objects.fail_next_puts(0, FailKind::BeforeGeneric);
    let fair = other.lock("x").fair();
    let taken = tokio::time::timeout(LONG, fair.acquire()).await;
    let taken = taken.expect("in time").expect("acquires");
    assert!(session.is_held());
    assert_eq!(taken.release().await.expect("releases"), Release::Released);
}

#[tokio::test]
async fn a_ticket_is_taken_back_however_long_that_takes() {
    const TTL: Duration = Duration::from_secs(1);
    let objects = CountingStore::in_memory().ignoring(".session");
    let (store, other) = (open(&objects).await, open(&objects).await);
    let guard = other.lock("x").acquire().await.expect("acquires");
    let session = store.session().ttl(TTL).open().await.expect("opens");
    let waiting = tokio::spawn({
        let lock = session.lock("x").fair();
        async move { lock.acquire().await }
    });
    let queue = async || other.lock("x").inspect().await.expect("reads").waiters.len();
    let queued = async {
        while queue().await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, queued).await.expect("is queued");
    objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
    waiting.abort();
    // Longer than a lease would have lasted that nobody renews.
    tokio::time::sleep(TTL * 3).await;
    assert!(session.is_held());
    objects.fail_next_puts(0, FailKind::BeforeGeneric);
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    let fair = other.lock("x").fair();
    let next = tokio::time::timeout(LONG, fair.acquire()).await;
    let next = next.expect("in time").expect("acquires");
    assert!(session.is_held());
    assert_eq!(next.release().await.expect("releases"), Release::Released);
}

#[tokio::test]
async fn who_waits_for_what_is_held_under_a_session_does_not_probe_the_stores_time() {
    const TTL: Duration = Duration::from_secs(1);
    let objects = CountingStore::in_memory().ignoring(".session");
    let (store, other) = (open(&objects).await, open(&objects).await);
    let _held = store.rwlock("x").ttl(TTL).write().await.expect("writes");
    tokio::time::sleep(TTL * 5).await;
    objects.reset();
    let waited = other.rwlock("x").ttl(TTL).write_timeout(TTL * 2).await.expect("is answered");
    assert!(waited.acquired().is_none());
    let counts = objects.counts();
    assert_eq!((counts.creates, counts.deletes), (0, 0), "probes: {counts:?}");
}
