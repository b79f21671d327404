//! Hand-over inside a process: those who want a lock by the handles of one store.

use std::time::Duration;

use futures::FutureExt;
use leaselock::clock::Clock as _;
use leaselock::{
    Attempt, Break, ErrorKind, FencingToken, LeasePhase, Lock, LockGuard, LossReason, Payload,
    Release, Runtime, Store, StoreBuilder,
};
use leaselock_test_support::clock::{ManualClock, breathe};
use leaselock_test_support::counting::{CountingStore, FailKind};
use tokio::task::JoinHandle;

const TTL: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

struct World {
    clock: ManualClock,
    objects: CountingStore,
}

impl World {
    fn new() -> Self {
        let objects = CountingStore::in_memory().ignoring(".leaselock");
        Self { clock: ManualClock::new(), objects }
    }

    /// On this thread, where time passes only when it is told to.
    async fn process(&self) -> Store {
        self.clock.process(self.objects.as_store()).open().await.expect("opens")
    }

    fn writes(&self) -> u64 {
        self.objects.counts().writes()
    }
}

fn lock(store: &Store) -> Lock {
    store.lock("x").ttl(TTL)
}

async fn hold(store: &Store) -> LockGuard {
    lock(store).acquire().await.expect("acquires")
}

/// Somebody who waits for the lock, and has come to wait.
async fn waiter(store: &Store) -> JoinHandle<LockGuard> {
    let lock = lock(store);
    let waiting = tokio::spawn(async move { lock.acquire().await.expect("acquires") });
    breathe().await;
    waiting
}

async fn given_back(guard: LockGuard) {
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
}

#[tokio::test]
async fn a_lock_is_handed_on_in_order_without_a_request_and_with_rising_tokens() {
    let world = World::new();
    let store = world.process().await;
    let mut guard = hold(&store).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(waiter(&store).await);
    }
    // The first hand-over reserves tokens, which is the only write.
    world.objects.reset();
    for next in waiting {
        let (token, id) = (guard.token(), guard.id());
        given_back(guard).await;
        guard = next.await.expect("no panic");
        assert!(guard.is_held());
        assert!(guard.token() > token);
        assert_ne!(guard.id(), id);
        assert_eq!(world.writes(), 1);
    }
    assert_eq!(world.objects.counts().reads(), 0);
    let last = guard.token();
    given_back(guard).await;
    assert_eq!(world.writes(), 2, "given back when nobody waits");
    assert!(hold(&world.process().await).await.token() > last);
}

#[tokio::test]
async fn tokens_are_reserved_again_when_they_have_run_out() {
    let world = World::new();
    let store = world.process().await;
    let mut guard = hold(&store).await;
    world.objects.reset();
    let mut tokens = vec![guard.token()];
    for _ in 0..200 {
        let next = waiter(&store).await;
        given_back(guard).await;
        guard = next.await.expect("no panic");
        tokens.push(guard.token());
    }
    assert!(tokens.is_sorted_by(|before, after| before < after));
    // 64, 64, and then as many as had been handed on.
    assert_eq!(world.writes(), 3);
    let record = lock(&store).inspect().await.expect("reads");
    assert!(record.token > tokens.last().copied(), "what is out is on record");
}

#[tokio::test]
async fn a_guard_that_is_dropped_hands_on_as_well_in_and_outside_a_runtime() {
    let world = World::new();
    let store = world.process().await;
    let guard = hold(&store).await;
    let (first, second) = (waiter(&store).await, waiter(&store).await);
    drop(guard);
    let guard = first.await.expect("no panic");
    std::thread::spawn(move || drop(guard)).join().expect("no panic");
    assert!(second.await.expect("no panic").is_held());
}

#[tokio::test]
async fn whoever_stops_waiting_is_passed_over() {
    let world = World::new();
    let store = world.process().await;
    let guard = hold(&store).await;
    let waiting = [waiter(&store).await, waiter(&store).await, waiter(&store).await];
    waiting[0].abort();
    waiting[1].abort();
    breathe().await;
    given_back(guard).await;
    let [.., last] = waiting;
    assert!(last.await.expect("no panic").is_held());
    // Whoever is called and goes in that moment hands on.
    let guard = hold_next(&world, &store).await;
    let lock = lock(&store);
    let mut called = Box::pin(lock.acquire());
    assert!((&mut called).now_or_never().is_none());
    let last = waiter(&store).await;
    given_back(guard).await;
    drop(called);
    assert!(last.await.expect("no panic").is_held());
}

/// Holds it after those who have had it.
async fn hold_next(world: &World, store: &Store) -> LockGuard {
    let lock = lock(store);
    world.clock.passing(async { lock.acquire().await.expect("acquires") }).await
}

#[tokio::test]
async fn a_limit_holds_in_the_queue_and_says_who_has_the_lock() {
    let world = World::new();
    let store = world.process().await;
    let guard = hold(&store).await;
    let limited = lock(&store);
    let waiting = tokio::spawn(async move { limited.acquire_timeout(2 * SECOND).await });
    breathe().await;
    world.clock.pass(SECOND).await;
    assert!(!waiting.is_finished());
    world.clock.pass(SECOND).await;
    let Attempt::Held(info) = waiting.await.expect("no panic").expect("reads") else {
        panic!("is held")
    };
    assert_eq!(info.holders[0].id, guard.id());
    // And nothing is left of it.
    world.objects.reset();
    given_back(guard).await;
    assert_eq!(world.writes(), 1);
    assert_eq!(world.objects.counts().reads(), 0);
}

#[tokio::test]
async fn a_single_look_does_not_wait_in_the_queue() {
    let world = World::new();
    let store = world.process().await;
    let guard = hold(&store).await;
    let next = waiter(&store).await;
    world.objects.reset();
    let looked = lock(&store).try_acquire().await.expect("reads");
    assert!(matches!(looked, Attempt::Held(_)));
    assert_eq!(world.objects.counts().total(), 1);
    given_back(guard).await;
    assert!(next.await.expect("no panic").is_held());
}

#[tokio::test]
async fn the_loss_of_the_lease_is_the_loss_of_all_and_the_next_contends() {
    let world = World::new();
    let store = world.process().await;
    let first = hold(&store).await;
    let (second, third) = (waiter(&store).await, waiter(&store).await);
    given_back(first).await;
    let second = second.await.expect("no panic");
    lock(&store).break_lease(Break::force()).await.expect("breaks");
    // Whoever holds it never gives it back, and the next gets it all the same.
    let lost = world.clock.passing(second.lost()).await;
    assert!(matches!(lost, LossReason::Broken { .. }), "{lost:?}");
    let third = world.clock.passing(third).await.expect("no panic");
    assert!(third.is_held() && third.token() > second.token());
    assert!(!second.is_held());
    let token = third.token();
    // It does not get in the way of those who hold it now.
    assert!(matches!(second.release().await, Ok(Release::AlreadyLost(_))));
    assert!(third.is_held());
    let fourth = waiter(&store).await;
    given_back(third).await;
    let fourth = world.clock.passing(fourth).await.expect("no panic");
    assert!(fourth.is_held() && fourth.token() > token);
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_lost_for_all() {
    let world = World::new();
    let store = world.process().await;
    let first = hold(&store).await;
    let second = waiter(&store).await;
    given_back(first).await;
    let second = second.await.expect("no panic");
    world.objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
    world.clock.pass(TTL / 10 * 9 - SECOND).await;
    assert!(second.is_held());
    world.clock.pass(SECOND).await;
    assert!(!second.is_held());
    assert_eq!(second.lost().now_or_never(), Some(LossReason::Unreachable));
}

#[tokio::test]
async fn what_cannot_be_reserved_is_not_handed_on() {
    let world = World::new();
    let store = world.process().await;
    let first = hold(&store).await;
    let token = first.token();
    let second = waiter(&store).await;
    // The reservation fails; what comes after it does not.
    world.objects.fail_next_puts(1, FailKind::BeforeGeneric);
    given_back(first).await;
    let second = world.clock.passing(second).await.expect("no panic");
    assert!(second.is_held() && second.token() > token);
    let record = lock(&store).inspect().await.expect("reads");
    assert_eq!(record.holders[0].id, second.id(), "by a lease of its own");
}

#[tokio::test]
async fn other_processes_get_their_turn() {
    let world = World::new();
    let (store, other) = (world.process().await, world.process().await);
    let guard = hold(&store).await;
    let outside = waiter(&other).await;
    let mut queue = Vec::new();
    for _ in 0..20 {
        queue.push(waiter(&store).await);
    }
    let busy = tokio::spawn({
        let clock = world.clock.clone();
        async move {
            let mut guard = guard;
            let mut tokens: Vec<FencingToken> = Vec::new();
            for next in queue {
                clock.sleep_until(clock.now().boot.plus(SECOND / 10)).await;
                tokens.push(guard.token());
                given_back(guard).await;
                guard = next.await.expect("no panic");
            }
            tokens.push(guard.token());
            given_back(guard).await;
            tokens
        }
    });
    let outside = world.clock.passing(outside).await.expect("no panic");
    assert!(!busy.is_finished(), "it came before all of those");
    let token = outside.token();
    given_back(outside).await;
    let tokens = world.clock.passing(busy).await.expect("no panic");
    assert!(tokens.is_sorted_by(|before, after| before < after));
    assert!(!tokens.contains(&token) && tokens.iter().any(|other| *other < token));
}

#[tokio::test]
async fn a_process_pauses_when_its_turn_is_over() {
    let world = World::new();
    let store = world.process().await;
    let guard = hold(&store).await;
    let next = waiter(&store).await;
    world.clock.pass(SECOND / 2).await;
    world.objects.reset();
    given_back(guard).await;
    breathe().await;
    assert_eq!(world.writes(), 1, "given back");
    world.clock.pass(SECOND / 50).await;
    assert_eq!(world.writes(), 1, "for others to take");
    world.clock.pass(SECOND / 10).await;
    assert!(next.await.expect("no panic").is_held());
    assert_eq!(world.objects.counts().reads(), 0, "nobody else did");
}

#[tokio::test]
async fn a_failing_store_fails_all_who_wait_at_once() {
    let world = World::new();
    let store = world.process().await;
    world.objects.fail_gets(true);
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let lock = lock(&store);
        waiting.push(tokio::spawn(async move { lock.acquire().await.map(drop) }));
    }
    breathe().await;
    let began = world.clock.now().boot;
    for waiting in waiting {
        let answer = world.clock.passing(waiting).await.expect("no panic");
        assert_eq!(answer.expect_err("fails").kind(), ErrorKind::Unavailable);
    }
    // Each has waited for as long as it bears, the first of them for all: not one after the other.
    assert!(world.clock.now().boot.since(began) < 70 * SECOND);
}

#[tokio::test]
async fn a_shutdown_sends_away_who_waits_and_gives_back_what_is_held() {
    let world = World::new();
    let store = world.process().await;
    let first = hold(&store).await;
    let next = waiter(&store).await;
    given_back(first).await;
    let second = next.await.expect("no panic");
    let lock = lock(&store);
    let third = tokio::spawn(async move { lock.acquire().await.map(drop) });
    breathe().await;
    let report = store.shutdown().await;
    assert_eq!((report.released, report.unconfirmed), (1, 0));
    assert!(!second.is_held());
    let error = third.await.expect("no panic").expect_err("is sent away");
    assert_eq!(error.kind(), ErrorKind::ShutDown);
    let info = world.process().await.lock("x").inspect().await.expect("reads");
    assert!(info.holders.is_empty());
}

#[tokio::test]
async fn a_shutdown_gives_back_what_its_caller_has_not_received_yet() {
    let world = World::new();
    let store = world.process().await;
    let lock = lock(&store);
    world.objects.hold_puts();
    let mut acquiring = Box::pin(lock.acquire());
    assert!((&mut acquiring).now_or_never().is_none());
    world.objects.release_puts();
    breathe().await;
    let others = world.process().await.lock("x");
    assert_eq!(others.inspect().await.expect("reads").holders.len(), 1);
    // Whoever acquires it does nothing meanwhile.
    let report = store.shutdown().await;
    assert_eq!((report.released, report.unconfirmed), (1, 0));
    assert!(others.inspect().await.expect("reads").holders.is_empty());
    let error = acquiring.await.expect_err("is sent away");
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

#[tokio::test]
async fn what_a_holder_writes_is_written_for_the_lease() {
    let world = World::new();
    let store = world.process().await;
    let first = hold(&store).await;
    let next = waiter(&store).await;
    given_back(first).await;
    let guard = next.await.expect("no panic");
    guard.renew().await.expect("renews");
    let payload = Payload::from_json_str("7").expect("is small");
    guard.set_payload(payload.clone()).await.expect("is set");
    let info = lock(&store).inspect().await.expect("reads");
    assert_eq!(info.payload, Some(payload));
    assert_eq!(info.holders.len(), 1);
    assert_eq!(guard.watch().status().renewals, info.holders[0].renewals);
}

#[tokio::test]
async fn what_a_holder_has_asked_for_is_done_before_the_next_one_holds() {
    let world = World::new();
    let store = world.process().await;
    let first = hold(&store).await;
    let next = waiter(&store).await;
    given_back(first).await;
    // From here on there are tokens for whoever comes next.
    let first = next.await.expect("no panic");
    let next = waiter(&store).await;
    world.objects.hold_puts();
    let payload = Payload::from_json_str("7").expect("is small");
    // Nobody waits for the answer any more.
    assert!(first.set_payload(payload.clone()).now_or_never().is_none());
    world.objects.wait_for_held(1).await;
    given_back(first).await;
    breathe().await;
    assert!(!next.is_finished());
    world.objects.release_puts();
    let next = world.clock.passing(next).await.expect("no panic");
    assert!(next.is_held());
    let info = lock(&store).inspect().await.expect("reads");
    assert_eq!(info.payload, Some(payload));
}

#[tokio::test]
async fn who_waits_behind_a_release_that_hangs_is_told_that_the_store_does_not_answer() {
    let world = World::new();
    let store = world.process().await;
    let lock = store.lock("x").ttl(Duration::from_secs(3600));
    let first = lock.acquire().await.expect("acquires");
    let next = tokio::spawn(async move { lock.acquire().await.map(drop) });
    breathe().await;
    // It is the others' turn.
    world.clock.pass(SECOND).await;
    world.objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
    world.objects.fail_gets(true);
    drop(first);
    let began = world.clock.now().boot;
    let answer = world.clock.passing(next).await.expect("no panic");
    assert_eq!(answer.expect_err("fails").kind(), ErrorKind::Unavailable);
    assert!(world.clock.now().boot.since(began) < 60 * SECOND);
}

#[tokio::test]
async fn what_is_wanted_on_other_terms_goes_through_the_store() {
    let world = World::new();
    let store = world.process().await;
    let payload = Payload::from_json_str("1").expect("is small");
    let others = [
        lock(&store).local_handover(false),
        lock(&store).ttl(2 * TTL),
        lock(&store).owner("another"),
        lock(&store).payload(payload),
        lock(&store).min_hold(SECOND),
        lock(&store).max_hold(SECOND),
        lock(&store).progress_within(SECOND),
        lock(&store).keeper(false),
    ];
    for other in others {
        let guard = hold_next(&world, &store).await;
        let acquiring = other.clone();
        let waiting = tokio::spawn(async move { acquiring.acquire().await.expect("acquires") });
        breathe().await;
        world.objects.reset();
        given_back(guard).await;
        assert_eq!(world.writes(), 1, "given back");
        let guard = world.clock.passing(waiting).await.expect("no panic");
        assert!(guard.is_held());
        world.clock.passing(guard.release()).await.expect("releases");
    }
}

#[tokio::test]
async fn a_loss_before_anybody_listens_is_heard_of() {
    let world = World::new();
    let store = world.process().await;
    let guard = hold(&store).await;
    let (lost, mut watch) = (guard.lost(), guard.watch());
    let other = world.process().await;
    let break_ = Break::force().reason("a test");
    other.lock("x").break_lease(break_).await.expect("breaks");
    // Its keeper renews, and finds that.
    world.clock.pass(TTL / 2).await;
    let heard = |reason: &LossReason| matches!(reason, LossReason::Broken { .. });
    assert!(lost.now_or_never().is_some_and(|reason| heard(&reason)));
    let status = watch.changed().now_or_never().expect("is told");
    assert!(matches!(status.phase, LeasePhase::Lost(reason) if heard(&reason)));
}

/// A store whose tasks run in a runtime that is gone once what comes with it is dropped.
fn elsewhere(builder: StoreBuilder) -> (Store, Elsewhere) {
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    let store = on_a_thread(|| runtime.block_on(builder.runtime(Runtime::Current).open()));
    (store.expect("opens"), Elsewhere(Some(runtime)))
}

struct Elsewhere(Option<tokio::runtime::Runtime>);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let runtime = self.0.take();
        on_a_thread(|| drop(runtime));
    }
}

/// A runtime is neither entered nor dropped where another one runs.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().expect("no panic"))
}

#[tokio::test]
async fn whoever_waits_in_a_runtime_that_ends_is_told() {
    let world = World::new();
    let builder = world.clock.process(world.objects.as_store());
    let (store, runtime) = elsewhere(builder);
    let guard = hold(&store).await;
    let wanted = lock(&store);
    let before = tokio::spawn(async move { wanted.acquire().await.map(drop) });
    breathe().await;
    drop(runtime);
    assert_eq!(guard.lost().await, LossReason::KeeperStopped);
    // Whoever holds does not care.
    let error = before.await.expect("no panic").expect_err("nobody can contend");
    assert_eq!(error.kind(), ErrorKind::Internal);
    let error = lock(&store).acquire().await.expect_err("nobody can contend");
    assert_eq!(error.kind(), ErrorKind::Internal);
    drop(guard);
}

#[tokio::test]
async fn in_a_runtime_that_is_gone_nothing_is_begun() {
    let world = World::new();
    let other = hold(&world.process().await).await;
    // Its timers are those of its runtime.
    let builder = Store::from_object_store(world.objects.as_store()).check_preconditions(false);
    let (store, runtime) = elsewhere(builder);
    drop(runtime);
    let error = lock(&store).acquire().await.expect_err("nobody can contend");
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(other.is_held());
}

#[tokio::test]
async fn a_limit_ends_a_pause_for_others() {
    let world = World::new();
    let store = world.process().await;
    let guard = hold(&store).await;
    let limited = lock(&store);
    let limit = Duration::from_millis(510);
    let waiting = tokio::spawn(async move { limited.acquire_timeout(limit).await });
    breathe().await;
    world.clock.pass(Duration::from_millis(500)).await;
    given_back(guard).await;
    breathe().await;
    assert!(!waiting.is_finished(), "it is the others' turn");
    // And for at least 25 ms.
    world.clock.pass(Duration::from_millis(10)).await;
    assert!(waiting.is_finished());
}

/// The first of those who wait in `store` has a ticket, and is served when what comes back is released.
async fn queues_for_all(world: &World) -> (Store, Vec<JoinHandle<LockGuard>>, LockGuard) {
    let (store, others) = (world.process().await, world.process().await);
    let rival = lock(&others).local_handover(false);
    let mut guard = rival.acquire().await.expect("acquires");
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(waiter(&store).await);
    }
    loop {
        world.clock.pass(SECOND).await;
        if !rival.inspect().await.expect("reads").waiters.is_empty() {
            return (store, waiting, guard);
        }
        given_back(guard).await;
        guard = rival.acquire().await.expect("acquires");
    }
}

#[tokio::test]
async fn whoever_has_queued_for_all_hands_on_as_well() {
    let world = World::new();
    let (store, mut waiting, rival) = queues_for_all(&world).await;
    given_back(rival).await;
    let mut guard = world.clock.passing(waiting.remove(0)).await.expect("no panic");
    assert!(lock(&store).inspect().await.expect("reads").holders[0].session.is_some());
    world.objects.reset();
    for next in waiting {
        let token = guard.token();
        given_back(guard).await;
        guard = world.clock.passing(next).await.expect("no panic");
        assert!(guard.is_held() && guard.token() > token);
        assert_eq!(world.writes(), 1, "tokens were reserved, once");
    }
    let record = lock(&store).inspect().await.expect("reads");
    assert!(record.token > Some(guard.token()));
    let last = guard.token();
    given_back(guard).await;
    assert!(hold(&world.process().await).await.token() > last);
}

#[tokio::test]
async fn the_loss_of_the_session_is_the_loss_of_all_who_hold_under_it() {
    // The writes of sessions fail as well.
    let objects = CountingStore::in_memory().ignoring(".leaselock/time");
    let world = World { clock: ManualClock::new(), objects };
    let (_store, mut waiting, rival) = queues_for_all(&world).await;
    // Nobody is in line who would tell.
    waiting.drain(1..).for_each(|waiting| waiting.abort());
    breathe().await;
    given_back(rival).await;
    let guard = world.clock.passing(waiting.remove(0)).await.expect("no panic");
    let lost = tokio::spawn(guard.lost());
    world.objects.fail_next_puts(u64::MAX, FailKind::BeforeDenied);
    world.clock.pass(TTL * 9 / 10).await;
    assert!(lost.is_finished(), "nobody has asked the guard");
    assert!(!guard.is_held());
    assert_eq!(lost.await.expect("no panic"), LossReason::Denied);
}
