//! What everything costs, in requests: counted at the store's interface and on the wire.

use std::time::Duration;

use leaselock::clock::Clock as _;
use leaselock::{Attempt, Outcome, Release, Store};
use leaselock_test_support::clock::{ManualClock, eventually};
use leaselock_test_support::counting::{CountingStore, Counts};
use leaselock_test_support::emulators::Backend;
use leaselock_test_support::place::Place;

const TTL: Duration = Duration::from_secs(30);

async fn process(objects: &CountingStore, clock: &ManualClock) -> Store {
    clock.process(objects.as_store()).open().await.expect("opens")
}

fn counts(gets: u64, creates: u64, updates: u64) -> Counts {
    Counts { gets, creates, updates, ..Counts::default() }
}

#[tokio::test]
async fn the_life_of_a_lock_costs_what_the_budget_says() {
    let clock = ManualClock::new();
    let objects = CountingStore::in_memory().ignoring(".leaselock");
    let first = process(&objects, &clock).await;
    let guard = first.lock("x").ttl(TTL).acquire().await.expect("acquires");
    assert_eq!(objects.counts(), counts(1, 1, 0), "cold, on an absent record");
    objects.reset();
    guard.renew().await.expect("renews");
    assert_eq!(objects.counts(), counts(0, 0, 1), "a renewal");
    objects.reset();
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    assert_eq!(objects.counts(), counts(0, 0, 1), "a release");
    objects.reset();
    let guard = first.lock("x").ttl(TTL).acquire().await.expect("acquires");
    assert_eq!(objects.counts(), counts(0, 0, 1), "warm");
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    objects.reset();
    let second = process(&objects, &clock).await;
    let guard = second.lock("x").ttl(TTL).acquire().await.expect("acquires");
    assert_eq!(objects.counts(), counts(1, 0, 1), "cold, on a free record");
    objects.reset();
    assert!(matches!(first.lock("x").try_acquire().await, Ok(Attempt::Held(_))));
    let refused = objects.counts();
    assert!(refused.reads() == 1, "a look costs one read: {refused:?}");
    drop(guard);
}

#[tokio::test]
async fn a_run_costs_one_read_and_two_writes_and_its_result_one_read() {
    let clock = ManualClock::new();
    let objects = CountingStore::in_memory().ignoring(".leaselock");
    let first = process(&objects, &clock).await.once("x").ttl(TTL);
    let failed = first.run(async |_| Err::<u32, _>("fails")).await.expect("runs");
    assert!(matches!(failed, Outcome::Failed("fails")));
    assert_eq!(objects.counts(), counts(1, 1, 1), "a first run that fails");
    objects.reset();
    let ran = process(&objects, &clock).await.once("x").run(async |_| Ok::<_, ()>(7)).await;
    assert!(matches!(ran, Ok(Outcome::Ran(7))));
    assert_eq!(objects.counts(), counts(1, 0, 2), "a run");
    // By now the first does not expect any more that the record is as it left it.
    clock.advance(Duration::from_secs(11));
    for once in [first, process(&objects, &clock).await.once("x")] {
        objects.reset();
        let done = once.run(async |_| Ok::<_, ()>(8)).await;
        assert!(matches!(done, Ok(Outcome::AlreadyDone(7))));
        assert_eq!(objects.counts(), counts(1, 0, 0), "already done");
        objects.reset();
        assert!(once.inspect().await.expect("reads").done.is_some());
        assert_eq!(objects.counts(), counts(1, 0, 0), "an inspection");
    }
    objects.reset();
    let fresh = process(&objects, &clock).await.once("y");
    assert!(matches!(fresh.run(async |_| Ok::<_, ()>(1)).await, Ok(Outcome::Ran(1))));
    assert_eq!(objects.counts(), counts(1, 1, 1), "a first run");
}

#[tokio::test]
async fn ten_thousand_locks_under_a_session_cost_one_renewal() {
    let clock = ManualClock::new();
    let objects = CountingStore::in_memory().ignoring(".leaselock/time");
    let store = process(&objects, &clock).await;
    objects.reset();
    let session = store.session().ttl(TTL).open().await.expect("opens");
    assert_eq!(objects.counts(), counts(0, 1, 0), "a session");
    objects.reset();
    let mut guards = Vec::new();
    for number in 0..10_000 {
        let lock = session.lock(format!("many/{number}"));
        guards.push(lock.acquire().await.expect("acquires"));
    }
    let cold = objects.counts();
    assert_eq!((cold.gets, cold.updates), (10_000, 0), "{cold:?}");
    objects.reset();
    for _ in 0..60 {
        clock.advance(Duration::from_secs(1));
        settle().await;
    }
    let minute = objects.counts();
    assert_eq!((minute.reads(), minute.creates), (0, 0), "{minute:?}");
    assert!((5..=7).contains(&minute.updates), "every 10 s give or take a tenth: {minute:?}");
    assert!(guards.iter().all(leaselock::LockGuard::is_held));
    objects.reset();
    let guard = guards.pop().expect("there are some");
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    assert_eq!(objects.counts(), counts(0, 0, 1), "a release");
}

#[tokio::test]
async fn a_permit_costs_what_a_lock_does_once_there_is_a_session() {
    let clock = ManualClock::new();
    let objects = CountingStore::in_memory().ignoring(".leaselock/time");
    let store = process(&objects, &clock).await;
    store.lock("warm-up").acquire().await.expect("acquires").release().await.expect("releases");
    objects.reset();
    let licences = store.semaphore("licences", 3);
    let first = licences.acquire().await.expect("acquires");
    let cold = objects.counts();
    assert_eq!((cold.gets, cold.writes()), (1, 2), "the session and the permit: {cold:?}");
    objects.reset();
    let second = licences.acquire().await.expect("acquires");
    assert_eq!(objects.counts(), counts(1, 0, 1), "the second");
    objects.reset();
    assert_eq!(second.release().await.expect("releases"), Release::Released);
    assert_eq!(objects.counts(), counts(0, 0, 1), "a release of the last who came");
    objects.reset();
    // The record is not any more as the first has left it: refused, read, and written again.
    assert_eq!(first.release().await.expect("releases"), Release::Released);
    assert_eq!(objects.counts(), counts(1, 0, 2), "a release after others have come and gone");
}

#[tokio::test]
async fn a_fair_hand_over_costs_one_write_and_one_read() {
    let clock = ManualClock::new();
    let objects = CountingStore::in_memory().ignoring(".leaselock/time");
    let (holder, waiter) = (process(&objects, &clock).await, process(&objects, &clock).await);
    let guard = holder.lock("x").ttl(TTL).acquire().await.expect("acquires");
    objects.reset();
    let lock = waiter.lock("x").ttl(TTL).fair();
    let waiting = tokio::spawn(async move { lock.acquire().await.expect("acquires") });
    eventually("the waiter polls", || objects.counts().writes() == 2).await;
    let queued = objects.counts();
    assert_eq!((queued.gets, queued.creates, queued.updates), (1, 1, 1), "a ticket: {queued:?}");
    guard.renew().await.expect("renews");
    objects.reset();
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    assert_eq!(objects.counts(), counts(0, 0, 1), "the release hands over");
    objects.reset();
    // One poll is due by the cap of the backoff.
    for _ in 0..40 {
        clock.advance(Duration::from_millis(100));
        settle().await;
    }
    let next = waiting.await.expect("no panic");
    assert!(next.is_held());
    let entered = objects.counts();
    assert!(entered.reads() <= 2 && entered.writes() <= 1, "one look: {entered:?}");
}

#[tokio::test]
async fn a_keeper_renews_three_times_per_ttl_with_one_write_each() {
    let clock = ManualClock::new();
    let objects = CountingStore::in_memory().ignoring(".leaselock");
    let store = process(&objects, &clock).await;
    let guard = store.lock("x").ttl(TTL).acquire().await.expect("acquires");
    objects.reset();
    for _ in 0..600 {
        clock.advance(Duration::from_secs(1));
        settle().await;
    }
    let counts = objects.counts();
    assert_eq!(counts.reads(), 0, "nothing is read: {counts:?}");
    assert!((54..=66).contains(&counts.updates), "every 10 s give or take a tenth: {counts:?}");
    assert!(guard.is_held());
}

#[tokio::test]
async fn waiting_costs_one_conditional_read_per_poll_and_never_a_write() {
    let clock = ManualClock::new();
    let objects = CountingStore::in_memory().ignoring(".leaselock");
    let holder = process(&objects, &clock).await;
    let guard = holder.lock("x").ttl(TTL).acquire().await.expect("acquires");
    let waiter = process(&objects, &clock).await.lock("x").ttl(TTL).store_clock(false);
    objects.reset();
    let waiting = tokio::spawn(async move { waiter.acquire().await });
    eventually("the waiter looks", || objects.counts().gets == 1).await;
    let began = clock.now().boot;
    clock.pass(Duration::from_secs(60)).await;
    let minute = objects.counts();
    assert_eq!(clock.now().boot.since(began), Duration::from_secs(60));
    assert_eq!(minute.gets, 1, "only the first look is unconditional: {minute:?}");
    assert!((20..=30).contains(&minute.conditional_gets), "{minute:?}");
    assert_eq!(minute.creates + minute.overwrites, 0, "{minute:?}");
    assert!(minute.updates <= 7, "the holder's renewals and nothing else: {minute:?}");
    let writes = minute.updates;
    assert_eq!(writes, guard.watch().status().renewals, "never a write by the waiter");
    waiting.abort();
}

/// Lets the library's thread do what is due.
#[allow(clippy::disallowed_methods, reason = "real time, for another thread")]
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// The requests of one process that acquires, renews and releases, as they go over the wire.
async fn on_the_wire(backend: Backend) {
    let Some(place) = Place::on(backend) else { return };
    let (proxy, url) = place.url().expect("has a URL").proxied();
    let open =
        || async { Store::builder(&url).check_preconditions(false).open().await.expect("opens") };
    let store = open().await;
    let lock = store.lock("x").ttl(TTL);
    let guard = lock.acquire().await.expect("acquires");
    assert_eq!(methods(&proxy), ["GET", "PUT"], "cold");
    guard.renew().await.expect("renews");
    assert_eq!(methods(&proxy), ["PUT"], "a renewal");
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    assert_eq!(methods(&proxy), ["PUT"], "a release");
    let guard = lock.acquire().await.expect("acquires");
    assert_eq!(methods(&proxy), ["PUT"], "warm");
    assert!(matches!(open().await.lock("x").try_acquire().await, Ok(Attempt::Held(_))));
    assert_eq!(methods(&proxy), ["GET"], "a look at a lock that is held");
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    methods(&proxy);
    let ran = open().await.once("x").run(async |_| Ok::<_, ()>(7)).await;
    assert!(matches!(ran, Ok(Outcome::Ran(7))));
    assert_eq!(methods(&proxy), ["GET", "PUT", "PUT"], "a run");
    let done = open().await.once("x").run(async |_| Ok::<_, ()>(8)).await;
    assert!(matches!(done, Ok(Outcome::AlreadyDone(7))));
    assert_eq!(methods(&proxy), ["GET"], "already done");
}

/// A hundred cycles of one process go over very few connections, and so do those of four tasks: one more is
/// opened where a request begins in the moment before the one before has given its connection back.
async fn over_kept_connections(backend: Backend) {
    let Some(place) = Place::on(backend) else { return };
    let (proxy, url) = place.url().expect("has a URL").proxied();
    let store = Store::builder(&url).check_preconditions(false).open().await.expect("opens");
    for _ in 0..100 {
        let guard = store.lock("x").ttl(TTL).acquire().await.expect("acquires");
        guard.release().await.expect("releases");
    }
    assert!(proxy.connections() <= 4, "{} for {}", proxy.connections(), proxy.total_requests());
    let tasks = (0..4).map(|number| {
        let lock = store.lock(format!("y/{number}")).ttl(TTL);
        tokio::spawn(async move {
            for _ in 0..25 {
                let guard = lock.acquire().await.expect("acquires");
                guard.release().await.expect("releases");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    assert!(proxy.connections() <= 12, "{} for {}", proxy.connections(), proxy.total_requests());
}

fn methods(proxy: &leaselock_test_support::proxy::FaultProxy) -> Vec<String> {
    let methods = proxy.log().into_iter().map(|entry| entry.method).collect();
    proxy.clear_log();
    methods
}

#[tokio::test]
async fn ministack_on_the_wire() {
    on_the_wire(Backend::Ministack).await;
}

#[tokio::test]
async fn seaweedfs_on_the_wire() {
    on_the_wire(Backend::Seaweedfs).await;
}

#[tokio::test]
async fn azurite_on_the_wire() {
    on_the_wire(Backend::Azurite).await;
}

#[tokio::test]
async fn gcs_on_the_wire() {
    on_the_wire(Backend::Gcs).await;
}

#[tokio::test]
async fn ministack_keeps_its_connections() {
    over_kept_connections(Backend::Ministack).await;
}

#[tokio::test]
async fn azurite_keeps_its_connections() {
    over_kept_connections(Backend::Azurite).await;
}
