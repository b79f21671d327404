//! Many locks at once: on every store, by a clock moved by hand, and on a store that is watched.

#![allow(clippy::disallowed_methods, reason = "waits in real time, with generous bounds")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use leaselock::record::Record;
use leaselock::{
    AllGuard, Attempt, AttemptAll, Break, ErrorKind, LeasePhase, LockState, LossReason, Release,
    Store,
};
use leaselock_test_support::clock::{ManualClock, eventually};
use leaselock_test_support::counting::{CountingStore, FailKind};
use leaselock_test_support::hold::Overlap;
use leaselock_test_support::on_every_store;
use leaselock_test_support::place::Place;

const TTL: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);
/// Generous: machines are slow and busy.
const LONG: Duration = Duration::from_secs(60);

on_every_store!(
    opposite_orders_do_not_wait_for_each_other,
    all_or_none,
    the_loss_of_one_is_the_loss_of_all,
    a_fence_belongs_to_one_lock_and_claims_while_all_are_held,
    a_waiter_gets_all_of_them,
    shutdown_gives_all_of_them_back,
);

async fn acquire(store: &Store, names: &[&str]) -> AllGuard {
    store.lock_all(names.iter().copied()).ttl(TTL).acquire().await.expect("acquires")
}

async fn state(store: &Store, name: &str) -> LockState {
    store.lock(name).inspect().await.expect("reads").state
}

async fn opposite_orders_do_not_wait_for_each_other(place: Place) {
    let (a, b) = (Overlap::new(), Overlap::new());
    let orders = [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]];
    let tasks = orders.into_iter().map(|names| {
        let (place, a, b) = (&place, a.clone(), b.clone());
        async move {
            let store = place.open().await;
            for _ in 0..3 {
                let all = store.lock_all(names).acquire_timeout(LONG).await.expect("waits");
                let all = all.acquired().expect("nobody waits for ever");
                let inside = (
                    a.enter(all.token("a").expect("is among them").get()),
                    b.enter(all.token("b").expect("is among them").get()),
                );
                tokio::task::yield_now().await;
                assert!(all.is_held());
                drop(inside);
                assert_eq!(all.release().await.expect("releases"), Release::Released);
            }
        }
    });
    join_all(tasks).await;
    assert_eq!((a.assert_clean().entries, b.assert_clean().entries), (12, 12));
}

async fn all_or_none(place: Place) {
    let (ours, theirs) = (place.open().await, place.open().await);
    let other = theirs.lock("b").owner("somebody").acquire().await.expect("acquires");
    let all = ours.lock_all(["c", "b", "a"]).owner("us").note("together");
    let AttemptAll::Held(info) = all.try_acquire().await.expect("looks") else {
        panic!("one of them is held")
    };
    assert_eq!((info.name.as_str(), info.holders[0].id), ("b", other.id()));
    assert_eq!(info.holders[0].owner.label, "somebody");
    // What was taken has been given back, and what comes later was not touched.
    assert_eq!(state(&theirs, "a").await, LockState::Free);
    assert_eq!(state(&theirs, "c").await, LockState::Absent);
    let earlier = theirs.lock("a").inspect().await.expect("reads").token.expect("was taken");
    let AttemptAll::Held(_) = all.acquire_timeout(SECOND / 2).await.expect("waits") else {
        panic!("one of them is still held")
    };
    assert_eq!(state(&theirs, "a").await, LockState::Free);

    other.release().await.expect("releases");
    let guard = all.try_acquire().await.expect("looks").acquired().expect("all are free");
    assert!(guard.token("a").expect("is among them") > earlier);
    assert_eq!(guard.token("d"), None);
    let tokens = guard.tokens();
    assert_eq!(tokens.keys().copied().collect::<Vec<_>>(), ["a", "b", "c"]);
    for (name, token) in tokens {
        let info = theirs.lock(name).inspect().await.expect("reads");
        assert_eq!((info.state, info.holders[0].token), (LockState::Held, token));
        assert_eq!(info.holders[0].owner.label, "us");
        assert_eq!(info.holders[0].owner.note.as_deref(), Some("together"));
    }
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    for name in ["a", "b", "c"] {
        assert_eq!(state(&theirs, name).await, LockState::Free, "{name}");
    }
}

async fn the_loss_of_one_is_the_loss_of_all(place: Place) {
    let (ours, theirs) = (place.open().await, place.open().await);
    let guard = acquire(&ours, &["a", "b", "c"]).await;
    let lost = tokio::spawn(guard.lost());
    let order = Break::expecting(guard.token("b").expect("is among them")).by("ops");
    theirs.lock("b").break_lease(order).await.expect("breaks");
    let reason = tokio::time::timeout(LONG, lost).await.expect("in time").expect("no panic");
    assert_eq!(reason, LossReason::Broken { by: Some("ops".into()), reason: None });
    assert!(!guard.is_held());
    assert_eq!(guard.remaining(), Duration::ZERO);
    let ended = guard.run(std::future::pending::<()>()).await.expect_err("is lost");
    assert_eq!(ended.kind(), ErrorKind::Lost);
    // Work may be winding down: what is left is not free before the guard says so.
    assert_eq!(state(&theirs, "a").await, LockState::Held);
    assert_eq!(guard.release().await.expect("answers"), Release::AlreadyLost(reason));
    let free = theirs.lock_all(["a", "b", "c"]).acquire_timeout(LONG).await.expect("waits");
    assert!(free.acquired().is_some());
}

async fn a_fence_belongs_to_one_lock_and_claims_while_all_are_held(place: Place) {
    let (ours, theirs) = (place.open().await, place.open().await);
    let guard = acquire(&ours, &["a", "b"]).await;
    let objects = ours.objects();
    assert!(guard.fence("c", &objects).is_none());
    let fence = guard.fence("a", &objects).expect("is among them");
    assert_eq!(Some(fence.token()), guard.token("a"));
    fence.put_fenced(place.path("table"), "one").await.expect("writes");
    theirs.lock("b").break_lease(Break::force()).await.expect("breaks");
    tokio::time::timeout(LONG, guard.lost()).await.expect("in time");
    let refused = fence.claim(place.path("other")).await.expect_err("the other lock is lost");
    assert_eq!(refused.kind(), ErrorKind::Lost);
}

async fn a_waiter_gets_all_of_them(place: Place) {
    let holder = acquire(&place.open().await, &["a", "b"]).await;
    let tokens: Vec<_> = holder.tokens().into_values().collect();
    let store = place.open().await;
    let waiter = tokio::spawn(async move {
        let guard = store.lock_all(["b", "a"]).ttl(TTL).acquire().await.expect("waits");
        guard.tokens().into_values().collect::<Vec<_>>()
    });
    tokio::time::sleep(SECOND / 5).await;
    assert!(!waiter.is_finished());
    holder.release().await.expect("releases");
    let later = tokio::time::timeout(LONG, waiter).await.expect("in time").expect("no panic");
    assert!(later[0] > tokens[0] && later[1] > tokens[1]);
}

async fn shutdown_gives_all_of_them_back(place: Place) {
    let store = place.open().await;
    let guard = acquire(&store, &["a", "b"]).await;
    let report = tokio::time::timeout(LONG, store.shutdown()).await.expect("is not waited for");
    assert_eq!((report.released, report.unconfirmed), (2, 0));
    assert!(!guard.is_held());
    assert!(guard.lost().now_or_never().is_none(), "it was given back, not lost");
    let other = place.open().await;
    for name in ["a", "b"] {
        assert_eq!(state(&other, name).await, LockState::Free, "{name}");
    }
    let refused = store.lock_all(["a"]).acquire().await.expect_err("is shut down");
    assert_eq!(refused.kind(), ErrorKind::ShutDown);
}

// ------------------------------------------------------- by a clock and on a store under our control

struct World {
    objects: CountingStore,
    clock: ManualClock,
}

impl World {
    fn new() -> Self {
        Self {
            objects: CountingStore::in_memory().ignoring(".leaselock"),
            clock: ManualClock::new(),
        }
    }

    async fn open(&self) -> Store {
        self.clock.process(self.objects.as_store()).open().await.expect("opens")
    }

    async fn pass(&self, time: Duration) {
        self.clock.pass(time).await;
    }

    /// Time passes until the work is done.
    async fn passing<T>(&self, work: impl Future<Output = T>) -> T {
        self.clock.passing(work).await
    }

    /// Keys of locks as they become held and free from now on.
    fn writes(&self) -> Arc<Mutex<Vec<String>>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        self.objects.on_put(move |path, _, body: &[u8]| {
            let record = Record::decode(&Bytes::copy_from_slice(body)).expect("is a record");
            let sign = if record.holders.is_empty() { '-' } else { '+' };
            log.lock().expect("no panic").push(format!("{sign}{path}"));
        });
        seen
    }
}

fn written(seen: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *seen.lock().expect("no panic"))
}

#[tokio::test]
async fn they_are_taken_by_name_and_given_back_the_other_way_round() {
    let world = World::new();
    let store = world.open().await;
    let writes = world.writes();
    let all = store.lock_all(["c", "a", "b", "a"]);
    assert_eq!(all.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    let guard = all.acquire().await.expect("acquires");
    assert_eq!(written(&writes), ["+a.lock", "+b.lock", "+c.lock"]);
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    assert_eq!(written(&writes), ["-c.lock", "-b.lock", "-a.lock"]);

    drop(all.acquire().await.expect("acquires"));
    world.pass(SECOND).await;
    assert_eq!(written(&writes)[3..], ["-c.lock", "-b.lock", "-a.lock"]);
}

#[tokio::test]
async fn what_was_taken_is_given_back_the_other_way_round_when_a_later_one_is_held() {
    let world = World::new();
    let other = world.open().await.lock("c").acquire().await.expect("acquires");
    let writes = world.writes();
    let all = world.open().await.lock_all(["a", "b", "c", "d"]);
    let AttemptAll::Held(info) = all.try_acquire().await.expect("looks") else { panic!("held") };
    assert_eq!(info.name, "c");
    assert_eq!(written(&writes), ["+a.lock", "+b.lock", "-b.lock", "-a.lock"]);
    drop(other);
}

#[tokio::test]
async fn no_names_and_bad_names_are_refused_before_anything_is_taken() {
    let world = World::new();
    let store = world.open().await;
    let none = store.lock_all([""; 0]).acquire().await.expect_err("nothing to lock");
    assert_eq!(none.kind(), ErrorKind::InvalidOptions);
    let bad = store.lock_all(["a", "b//c"]).acquire().await.expect_err("no name");
    assert_eq!(bad.kind(), ErrorKind::InvalidName);
    let short = store.lock_all(["a"]).ttl(SECOND / 2).acquire().await.expect_err("too short");
    assert_eq!(short.kind(), ErrorKind::InvalidOptions);
    assert_eq!(world.objects.counts().total(), 0);
}

#[tokio::test]
async fn the_deadline_is_one_for_all() {
    let world = World::new();
    let store = world.open().await;
    let a = store.lock("a").acquire().await.expect("acquires");
    let _b = store.lock("b").acquire().await.expect("acquires");
    let begun = leaselock::clock::Clock::now(&world.clock);
    let all = world.open().await.lock_all(["a", "b"]);
    let waiting = all.acquire_timeout(10 * SECOND);
    let waiting = async {
        let (waited, ()) = tokio::join!(waiting, async {
            let clock = &world.clock;
            leaselock::clock::Clock::sleep_until(clock, begun.boot.plus(6 * SECOND)).await;
            a.release().await.expect("releases");
        });
        waited
    };
    let AttemptAll::Held(info) = world.passing(waiting).await.expect("waits") else {
        panic!("one of them is held")
    };
    assert_eq!(info.name, "b");
    let took = leaselock::clock::Clock::now(&world.clock).since(begun);
    assert!((10 * SECOND..12 * SECOND).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_loss_while_another_is_waited_for_starts_over() {
    let world = World::new();
    let store = world.open().await;
    let held = store.lock("b").acquire().await.expect("acquires");
    let all = world.open().await.lock_all(["a", "b"]);
    let waiting = tokio::spawn(async move { all.acquire().await });
    world.pass(SECOND).await;
    let taken = store.lock("a").inspect().await.expect("reads").holders[0].token;
    store.lock("a").break_lease(Break::expecting(taken)).await.expect("breaks");
    // Its keeper learns of it when it renews; then the lock is taken anew.
    world.pass(15 * SECOND).await;
    let again = store.lock("a").inspect().await.expect("reads").holders[0].token;
    assert!(again > taken);
    assert!(!waiting.is_finished());
    held.release().await.expect("releases");
    let guard = world.passing(waiting).await.expect("no panic").expect("acquires");
    assert_eq!(guard.token("a"), Some(again));
    assert!(guard.is_held());
}

#[tokio::test]
async fn whoever_stops_waiting_leaves_nothing() {
    let world = World::new();
    let store = world.open().await;
    let _held = store.lock("c").acquire().await.expect("acquires");
    let writes = world.writes();
    let all = world.open().await.lock_all(["a", "b", "c"]);
    let waiting = tokio::spawn(async move { all.acquire().await.map(drop) });
    world.pass(SECOND).await;
    assert_eq!(written(&writes), ["+a.lock", "+b.lock"]);
    waiting.abort();
    world.pass(SECOND).await;
    assert_eq!(written(&writes), ["-b.lock", "-a.lock"]);
}

#[tokio::test]
async fn the_longest_hold_counts_from_when_all_are_held() {
    let world = World::new();
    let store = world.open().await;
    let held = store.lock("b").acquire().await.expect("acquires");
    let all = world.open().await.lock_all(["a", "b"]).max_hold(20 * SECOND);
    let waiting = tokio::spawn(async move { all.acquire().await });
    world.pass(25 * SECOND).await;
    held.release().await.expect("releases");
    let guard = world.passing(waiting).await.expect("no panic").expect("acquires");
    world.pass(19 * SECOND).await;
    assert!(guard.is_held());
    world.pass(SECOND).await;
    assert!(!guard.is_held());
    assert_eq!(guard.lost().await, LossReason::MaxHold);
    drop(guard);
    world.pass(SECOND).await;
    for name in ["a", "b"] {
        assert_eq!(state(&store, name).await, LockState::Free, "{name}");
    }
}

#[tokio::test]
async fn all_are_renewed_and_end_together_with_the_first_when_nobody_renews() {
    let world = World::new();
    let store = world.open().await;
    let guard = store.lock_all(["a", "b"]).acquire().await.expect("acquires");
    let mut watch = guard.watch();
    world.pass(60 * SECOND).await;
    assert!(guard.is_held());
    assert!(watch.changed().await.renewals >= 4);
    world.objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
    // Nothing moves the deadline of the one that was renewed first.
    let left = guard.remaining();
    assert!(left > 15 * SECOND, "{left:?}");
    world.pass(left - 11 * SECOND).await;
    assert!(guard.is_held());
    assert!(guard.at_risk().now_or_never().is_some());
    world.pass(10 * SECOND).await;
    assert!(guard.is_held());
    world.pass(SECOND).await;
    assert!(!guard.is_held());
    assert_eq!(watch.status().phase, LeasePhase::Lost(LossReason::Unreachable));
}

#[tokio::test]
async fn what_a_lost_guard_leaves_is_given_back_in_the_end() {
    let world = World::new();
    let store = world.open().await;
    let guard = store.lock_all(["a", "b"]).acquire().await.expect("acquires");
    store.lock("a").break_lease(Break::force()).await.expect("breaks");
    world.pass(12 * SECOND).await;
    assert!(!guard.is_held());
    assert_eq!(state(&store, "b").await, LockState::Held);
    world.pass(30 * SECOND).await;
    assert_eq!(state(&store, "b").await, LockState::Free);
    drop(guard);
}

#[tokio::test]
async fn a_guard_dropped_outside_any_runtime_is_released() {
    let world = World::new();
    let store = Store::from_object_store(world.objects.as_store())
        .check_preconditions(false)
        .open()
        .await
        .expect("opens");
    let guard = store.lock_all(["a", "b"]).acquire().await.expect("acquires");
    std::thread::spawn(move || drop(guard)).join().expect("no panic");
    let objects = world.objects.clone();
    eventually("both are written thrice", || objects.counts().writes() >= 4).await;
    for name in ["a", "b"] {
        let attempt = world.open().await.lock(name).try_acquire().await.expect("looks");
        assert!(matches!(attempt, Attempt::Acquired(_)), "{name}");
    }
}
