//! Faults that were found once, each with the test that shows it.

#![allow(clippy::disallowed_methods, reason = "waits in real time, with generous bounds")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use futures::future::BoxFuture;
use leaselock::clock::{Boot, Clock, Moment, SystemClock};
use leaselock::{
    ErrorKind, Lock, LockGuard, LockState, LossReason, Payload, Release, Runtime, Store,
    StoreBuilder,
};
use leaselock_test_support::clock::{eventually, eventually_so};
use leaselock_test_support::counting::{CountingStore, FailKind};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

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
    somebody_waits_for(&other.lock("x")).await;
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

/// What the library does with clocks, counted.
#[derive(Debug, Default)]
struct CountedClock(AtomicU64);

impl Clock for CountedClock {
    fn now(&self) -> Moment {
        self.0.fetch_add(1, Ordering::Relaxed);
        SystemClock.now()
    }

    fn sleep_until(&self, at: Boot) -> BoxFuture<'static, ()> {
        SystemClock.sleep_until(at)
    }
}

/// It is at risk when its session is, which may be later than at half of its TTL.
#[tokio::test]
async fn whoever_follows_what_is_held_under_a_slowly_renewed_session_rests_in_between() {
    let clock = Arc::new(CountedClock::default());
    let objects = CountingStore::in_memory();
    let store = on(&objects).clock(Arc::clone(&clock) as _).open().await.expect("opens");
    let (ttl, every) = (Duration::from_secs(3), Duration::from_millis(1900));
    let session = store.session().ttl(ttl).renew_every(every).open().await.expect("opens");
    let guard = session.lock("x").acquire().await.expect("acquires");
    let _lost = tokio::time::timeout(ttl, guard.lost()).await.expect_err("is kept");
    let looks = clock.0.load(Ordering::Relaxed);
    assert!(looks < 5_000, "{looks} looks at the clock");
}

/// Drops a guard elsewhere while whoever closes its session looks at the clock.
#[derive(Debug, Default)]
struct MeddlingClock {
    ahead: Mutex<Duration>,
    victim: Mutex<Option<LockGuard>>,
}

impl Clock for MeddlingClock {
    fn now(&self) -> Moment {
        if thread::current().name() == Some("closer") {
            let victim = self.victim.lock().expect("no panic").take();
            thread::spawn(move || drop(victim)).join().expect("no panic");
        }
        let ahead = *self.ahead.lock().expect("no panic");
        let now = SystemClock.now();
        Moment { boot: now.boot.plus(ahead), wall: now.wall.plus(ahead) }
    }

    fn sleep_until(&self, at: Boot) -> BoxFuture<'static, ()> {
        let left = at.since(self.now().boot);
        SystemClock.sleep_until(SystemClock.now().boot.plus(left))
    }
}

/// The machine sleeps while the first write of the session is on its way.
#[tokio::test]
async fn a_session_that_is_opened_too_late_is_no_internal_error() {
    let clock = Arc::new(MeddlingClock::default());
    let objects = CountingStore::in_memory();
    let store = on(&objects).clock(Arc::clone(&clock) as _).open().await.expect("opens");
    let failing = objects.clone();
    objects.on_put(move |_, _, _| {
        *clock.ahead.lock().expect("no panic") = Duration::from_secs(3600);
        // What undoes it comes later than the next look.
        failing.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
    });
    let tried = tokio::time::timeout(LONG, store.semaphore("x", 1).try_acquire()).await;
    let error = tried.expect("does not hang").expect_err("its session is its own former one's");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[test]
fn a_guard_that_is_dropped_while_its_session_is_closed_does_not_hold_that_up() {
    let clock = Arc::new(MeddlingClock::default());
    let objects = CountingStore::in_memory();
    let opened = async {
        let store = on(&objects).clock(Arc::clone(&clock) as _).open().await.expect("opens");
        let session = store.session().open().await.expect("opens");
        let guard = session.lock("x").acquire().await.expect("acquires");
        (session, guard)
    };
    let (session, guard) = futures::executor::block_on(opened);
    *clock.victim.lock().expect("no panic") = Some(guard);
    // The machine has slept for an hour: what was held is lost, and its followers let go of it.
    *clock.ahead.lock().expect("no panic") = Duration::from_secs(3600);
    let (send, closed) = mpsc::channel();
    let closer = thread::Builder::new().name("closer".into()).spawn(move || {
        let _ = send.send(futures::executor::block_on(session.close()));
    });
    let closed = closed.recv_timeout(LONG).expect("does not hang").expect("is answered");
    assert!(matches!(closed, Release::AlreadyLost(_)), "{closed:?}");
    closer.expect("starts").join().expect("no panic");
}

async fn somebody_waits_for(lock: &Lock) {
    eventually_so("somebody is queued", async || {
        !lock.inspect().await.expect("reads").waiters.is_empty()
    })
    .await;
}

/// Waits for `lock` in its queue for longer than a second.
async fn acquired_after_a_wait(store: &Store, lock: Lock) -> LockGuard {
    let plain = store.lock(lock.name());
    let first = plain.acquire().await.expect("acquires");
    let waiting = tokio::spawn(async move { lock.acquire().await.expect("acquires") });
    somebody_waits_for(&plain).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(first.release().await.expect("hands over"), Release::Released);
    tokio::time::timeout(LONG, waiting).await.expect("in time").expect("no panic")
}

#[tokio::test]
async fn a_longest_hold_does_not_begin_in_the_queue() {
    let store = open(&CountingStore::in_memory()).await;
    let lock = store.lock("x").fair().max_hold(Duration::from_millis(900));
    let guard = acquired_after_a_wait(&store, lock).await;
    assert!(guard.is_held(), "{:?}", guard.watch().status());
    assert_eq!(guard.lost().await, LossReason::MaxHold);
}

#[tokio::test]
async fn a_shortest_hold_does_not_begin_in_the_queue() {
    let store = open(&CountingStore::in_memory()).await;
    let lock = store.lock("x").fair().min_hold(Duration::from_secs(1));
    let guard = acquired_after_a_wait(&store, lock).await;
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    let tried = store.lock("x").try_acquire().await.expect("is answered");
    assert!(tried.acquired().is_none(), "it stays for a second");
}

#[tokio::test]
async fn who_was_let_in_from_the_queue_sets_its_payload_too() {
    let store = open(&CountingStore::in_memory()).await;
    let payload = Payload::from_serialize(&7).expect("is small");
    let lock = store.lock("x").fair().payload(payload.clone());
    let guard = acquired_after_a_wait(&store, lock).await;
    assert!(guard.is_held());
    assert_eq!(store.lock("x").inspect().await.expect("reads").payload, Some(payload));
}

#[tokio::test]
async fn a_semaphore_is_acquired_as_soon_as_it_was_resized() {
    let store = open(&CountingStore::in_memory()).await;
    let four = store.semaphore("x", 4);
    four.acquire().await.expect("acquires").release().await.expect("releases");
    let eight = four.resize(8).await.expect("resizes");
    let tried = eight.try_acquire().await.expect("is not refused");
    assert!(tried.acquired().is_some_and(|guard| guard.is_held()));
}

#[tokio::test]
async fn a_session_is_closed_although_a_record_cannot_be_read() {
    let objects = CountingStore::in_memory();
    let store = open(&objects).await;
    let session = store.session().ttl(Duration::from_secs(2)).open().await.expect("opens");
    // Too large to be kept.
    let payload = Payload::from_serialize(&"x".repeat(4000)).expect("is small");
    let guard = session.lock("x").payload(payload).acquire().await.expect("acquires");
    objects.fail_gets(true);
    let closed = tokio::time::timeout(LONG, session.close()).await.expect("ends");
    assert_eq!(closed.expect("is answered"), Release::Released);
    assert!(!guard.is_held());
}

#[tokio::test]
async fn a_limit_is_one_for_the_session_that_is_opened_too() {
    let objects = CountingStore::in_memory();
    let store = open(&objects).await;
    let semaphore = store.semaphore("x", 3);
    semaphore.acquire().await.expect("acquires").release().await.expect("releases");
    objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
    // Under a session of its own.
    let semaphore = semaphore.ttl(Duration::from_secs(7));
    let limit = Duration::from_secs(1);
    let both =
        futures::future::join(semaphore.acquire_timeout(limit), semaphore.acquire_timeout(limit));
    let (one, other) = tokio::time::timeout(limit * 10, both).await.expect("within their limits");
    for answer in [one, other] {
        assert_eq!(answer.expect_err("no write works").kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_guard_under_a_session_that_cannot_be_renewed_for_good_is_lost() {
    let raw = Arc::new(InMemory::new());
    let objects = CountingStore::new(Arc::clone(&raw) as _);
    let session = open(&objects).await.session().open().await.expect("opens");
    // The first is kept, the second is read again.
    for payload in [1, 4000] {
        let payload = Payload::from_serialize(&"x".repeat(payload)).expect("is small");
        let guard = session.lock("x").payload(payload).acquire().await.expect("acquires");
        raw.delete(&"x.lock".into()).await.expect("deletes");
        assert_eq!(guard.renew().await.expect_err("is gone").kind(), ErrorKind::Lost);
        assert!(!guard.is_held());
    }
}

#[tokio::test]
async fn a_new_lock_is_acquired_although_the_stores_time_is_not_to_be_had_at_once() {
    let objects = CountingStore::in_memory();
    let store = open(&objects).await;
    objects.fail_next_puts(1, FailKind::BeforeGeneric);
    let guard = store.lock("x").acquire().await.expect("bears a failure");
    assert!(guard.is_held());
}

/// Its runtime is the caller's, and it is dropped outside of that.
#[test]
fn many_locks_are_given_up_outside_a_runtime() {
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    let objects = CountingStore::in_memory();
    let (store, held) = runtime.block_on(async {
        let store = on(&objects).runtime(Runtime::Current).open().await.expect("opens");
        let held = store.lock("b").acquire().await.expect("acquires");
        (store, held)
    });
    let state = async || store.lock("a").inspect().await.expect("reads").state;
    let all = store.lock_all(["a", "b"]);
    let mut acquiring = Box::pin(all.acquire());
    runtime.block_on(async {
        while state().await != LockState::Held {
            let _ = tokio::time::timeout(Duration::from_millis(5), &mut acquiring).await;
        }
    });
    drop(acquiring);
    let given_back = async || state().await == LockState::Free;
    runtime.block_on(eventually_so("a is given back", given_back));
    assert!(held.is_held());
}
