//! The hazards of `docs/PROTOCOL.md` that need a clock moved by hand or a store that misbehaves on
//! command.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use leaselock::clock::{Boot, Clock, Moment, SystemClock};
use leaselock::{
    Attempt, ErrorKind, LeasePhase, Lock, LockGuard, LockState, LossReason, Release, Runtime, Store,
};
use leaselock_test_support::clock::{ManualClock, breathe};
use leaselock_test_support::counting::{CountingStore, FailKind};

const TTL: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
const DAY_IN_MICROS: i64 = 86_400_000_000;

/// A store in memory that counts and fails on command, and a clock that stands still.
struct World {
    objects: CountingStore,
    clock: ManualClock,
    runtime: Runtime,
}

impl World {
    fn new() -> Self {
        Self {
            objects: CountingStore::in_memory().ignoring(".leaselock"),
            clock: ManualClock::new(),
            // On the test's own thread nothing depends on how busy the machine is.
            runtime: Runtime::Current,
        }
    }

    /// Another process, with its own clock.
    async fn process(&self, clock: &ManualClock) -> Store {
        Store::from_object_store(self.objects.as_store())
            .check_preconditions(false)
            .clock(Arc::new(clock.clone()))
            .runtime(self.runtime)
            .open()
            .await
            .expect("opens")
    }

    /// Objects are stamped by the machine's real clock, which has nothing to do with the one moved
    /// by hand: the store-clock rule has its own tests.
    async fn lock(&self) -> Lock {
        self.process(&self.clock).await.lock("x").ttl(TTL).store_clock(false)
    }

    async fn acquire(&self) -> LockGuard {
        self.lock().await.acquire().await.expect("acquires")
    }

    /// Lets time pass in small steps, so that everybody does what is due in between.
    async fn pass(&self, time: Duration) {
        self.clock.pass(time).await;
    }
}

async fn busy(lock: &Lock) -> bool {
    matches!(lock.try_acquire().await.expect("looks"), Attempt::Held(_))
}

// ---------------------------------------------------------------- H1: own write taken for a rival's

async fn acquire_in_spite_of(kind: FailKind) {
    let world = World::new();
    world.objects.fail_next_puts(1, kind);
    let lock = world.lock().await;
    let acquiring = tokio::spawn(async move { lock.acquire().await });
    let guard = world.clock.passing(acquiring).await.expect("no panic").expect("acquires");
    assert!(guard.is_held());
    world.objects.fail_next_puts(1, kind);
    let renewing = async { guard.renew().await };
    let renewed = world.clock.passing(renewing).await;
    renewed.expect("renews");
    assert!(guard.is_held());
    world.objects.fail_next_puts(1, kind);
    let released = tokio::spawn(guard.release());
    assert_eq!(
        world.clock.passing(released).await.expect("no panic").expect("releases"),
        Release::Released
    );
    assert!(!busy(&world.lock().await).await);
}

#[tokio::test]
async fn h1_an_error_after_the_commit_is_recognised_as_success() {
    acquire_in_spite_of(FailKind::AfterGeneric).await;
}

#[tokio::test]
async fn h1_a_refusal_that_talks_about_the_own_first_copy_is_recognised() {
    acquire_in_spite_of(FailKind::AfterPrecondition).await;
    acquire_in_spite_of(FailKind::AfterAlreadyExists).await;
}

#[tokio::test]
async fn h4_a_409_on_a_write_in_flight_is_not_taken_for_a_holder() {
    acquire_in_spite_of(FailKind::BeforeConflict409).await;
}

#[tokio::test]
async fn h6_a_failure_before_the_commit_is_sent_again() {
    acquire_in_spite_of(FailKind::BeforeGeneric).await;
}

// ------------------------------------------------- H2: a write that lands after the caller gave up

#[tokio::test]
async fn h2_a_late_acquisition_is_shut_out() {
    let world = World::new();
    drop(world.acquire().await);
    let observer = world.lock().await;
    eventually_free(&world, &observer).await;
    // The write hangs on its way to the store until the request times out, again and again.
    world.objects.hold_puts();
    let store = world.process(&world.clock).await;
    let lock = store.lock("x").ttl(TTL).store_clock(false);
    let attempt = tokio::spawn(async move { lock.acquire_timeout(SECOND).await });
    world.objects.wait_for_held(1).await;
    while !attempt.is_finished() {
        world.clock.advance(Duration::from_millis(500));
        breathe().await;
    }
    let given_up = attempt.await.expect("no panic").expect_err("no answer");
    assert_eq!(given_up.kind(), ErrorKind::Unavailable);
    assert!(world.objects.abandoned() >= 1, "a write is under way");
    // The network recovers, the door is shut, and only then the old write arrives.
    world.objects.release_puts();
    world.clock.passing(store.shutdown()).await;
    let landed = world.objects.land_abandoned().await;
    assert!(landed.iter().all(Result::is_err), "the store refuses them: {landed:?}");
    assert!(!busy(&observer).await);
}

async fn eventually_free(world: &World, lock: &Lock) {
    loop {
        world.clock.advance(Duration::from_millis(10));
        breathe().await;
        if lock.inspect().await.expect("reads").state == LockState::Free {
            return;
        }
    }
}

// ------------------------------------------------------------------ H3: equal bodies, equal ETags

#[tokio::test]
async fn h3_every_write_has_a_body_of_its_own() {
    let world = World::new();
    let bodies = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&bodies);
    world.objects.on_put(move |_, _, body| seen.lock().expect("no panic").push(body.to_vec()));
    // The clock stands still: nothing but the nonce tells these writes apart.
    let guard = world.acquire().await;
    for _ in 0..5 {
        guard.renew().await.expect("renews");
    }
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    let bodies = bodies.lock().expect("no panic");
    let nonces: std::collections::HashSet<_> = bodies.iter().map(|body| nonce(body)).collect();
    assert_eq!(nonces.len(), 7);
}

fn nonce(body: &[u8]) -> String {
    let text = std::str::from_utf8(body).expect("is text");
    let (_, rest) = text.split_once("\"nonce\":\"").expect("has a nonce");
    rest[..32].to_owned()
}

// ----------------------------------------------------------- H7, H8: clocks that stop, clocks that jump

#[tokio::test]
async fn h7_a_process_that_was_frozen_knows_at_once_that_its_lease_is_over() {
    let world = World::new();
    let guard = world.acquire().await;
    assert!(guard.is_held());
    // Frozen: time passes and nobody of this process does anything.
    world.clock.advance(TTL);
    assert!(!guard.is_held());
    assert_eq!(guard.remaining(), Duration::ZERO);
    assert!(matches!(guard.release().await, Ok(Release::AlreadyLost(LossReason::Expired))));
}

#[tokio::test]
async fn h7_a_machine_whose_monotonic_clock_was_frozen_too_is_caught_by_its_wall_clock() {
    let world = World::new();
    let guard = world.acquire().await;
    world.clock.move_wall(27_000_000);
    assert!(!guard.is_held());
}

/// The keeper looks at the clocks every second: that alone would be too late for a short lease.
#[tokio::test]
async fn h7_the_end_of_a_lease_is_told_in_time_although_the_monotonic_clock_lags_behind() {
    let world = World::new();
    let lock = world.lock().await.ttl(4 * SECOND).keeper(false);
    let guard = lock.acquire().await.expect("acquires");
    let mut lost = Box::pin(guard.lost());
    breathe().await;
    world.clock.move_wall(1_500_000);
    world.pass(SECOND).await;
    world.clock.advance(Duration::from_millis(1_090));
    breathe().await;
    assert!((&mut lost).now_or_never().is_none(), "3.59 of 3.6 s have passed");
    world.clock.advance(Duration::from_millis(10));
    breathe().await;
    assert_eq!(lost.now_or_never(), Some(LossReason::Expired));
}

#[tokio::test]
async fn h8_a_wall_clock_set_back_neither_shortens_nor_prolongs_a_lease() {
    let world = World::new();
    let lock = world.lock().await.keeper(false);
    let guard = lock.acquire().await.expect("acquires");
    world.clock.move_wall(-DAY_IN_MICROS);
    world.pass(Duration::from_secs(26)).await;
    assert!(guard.is_held());
    world.pass(SECOND).await;
    assert!(!guard.is_held(), "0.9 of the TTL have passed");
}

#[tokio::test]
async fn h8_a_contenders_wall_clock_has_no_say() {
    let world = World::new();
    let guard = world.acquire().await;
    for jump in [DAY_IN_MICROS, -DAY_IN_MICROS, -DAY_IN_MICROS] {
        let elsewhere = ManualClock::new();
        elsewhere.move_wall(jump);
        let other = world.process(&elsewhere).await.lock("x").ttl(TTL).store_clock(false);
        assert!(busy(&other).await);
    }
    assert!(guard.is_held());
}

// -------------------------------------------------------------- H9: the record deleted meanwhile

#[tokio::test]
async fn h9_a_renewal_never_makes_a_deleted_record_again() {
    use object_store::ObjectStoreExt;
    let world = World::new();
    let guard = world.acquire().await;
    world.objects.as_store().delete(&"x.lock".into()).await.expect("deletes");
    let error = guard.renew().await.expect_err("is gone");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert_eq!(guard.lost().await, LossReason::RecordDeleted);
    assert_eq!(world.lock().await.inspect().await.expect("reads").state, LockState::Absent);
}

// ----------------------------------------- H11: a renewal that hangs while the deadline passes

#[tokio::test]
async fn h11_the_deadline_passes_whether_or_not_the_store_answers() {
    let world = World::new();
    let guard = world.acquire().await;
    world.objects.hold_put_answers();
    world.objects.fail_gets(true);
    let lost = tokio::spawn(guard.lost());
    let mut warned = false;
    // Renewals land, but nobody hears of it: the old deadline counts.
    for _ in 0..53 {
        world.pass(SECOND / 2).await;
        warned |= guard.watch().status().phase == LeasePhase::AtRisk;
        assert!(guard.is_held());
    }
    assert!(warned, "the warning comes before the loss");
    world.pass(SECOND).await;
    assert!(!guard.is_held());
    assert_eq!(lost.await.expect("no panic"), LossReason::Unreachable);
    // The late answers do not revive it.
    world.objects.release_puts();
    world.objects.fail_gets(false);
    world.pass(SECOND).await;
    assert!(!guard.is_held());
}

// -------------------------------------------------------- H12: a release that meets a renewal

#[tokio::test]
async fn h12_a_release_waits_for_the_renewal_in_flight_and_nothing_is_written_afterwards() {
    let world = World::new();
    let guard = world.acquire().await;
    world.objects.hold_puts();
    world.clock.advance(Duration::from_secs(11));
    world.objects.wait_for_held(1).await;
    let releasing = tokio::spawn(guard.release());
    breathe().await;
    assert_eq!(world.objects.held(), 1, "one write at a time");
    world.objects.release_puts();
    assert_eq!(releasing.await.expect("no panic").expect("releases"), Release::Released);
    let after = world.objects.counts().writes();
    world.pass(TTL * 2).await;
    assert_eq!(world.objects.counts().writes(), after, "a released holder never writes again");
}

#[tokio::test]
async fn a_lost_holder_never_writes_again() {
    let world = World::new();
    let guard = world.acquire().await;
    world.clock.advance(TTL);
    assert!(!guard.is_held());
    let before = world.objects.counts().writes();
    world.pass(TTL).await;
    drop(guard);
    world.pass(TTL).await;
    assert_eq!(world.objects.counts().writes(), before);
}

// --------------------------------------------------------------------- H13: storms of refusals

#[tokio::test]
async fn h13_a_storm_of_errors_shorter_than_the_lease_is_survived() {
    let world = World::new();
    let guard = world.acquire().await;
    // Longer than any one renewal's attempts.
    world.objects.fail_next_puts(5, FailKind::BeforeGeneric);
    world.pass(Duration::from_secs(20)).await;
    assert!(guard.is_held());
    assert!(guard.watch().status().renewals >= 1);
    assert_eq!(guard.watch().status().phase, LeasePhase::Held);
}

#[tokio::test]
async fn h13_an_outage_is_reported_and_ends_a_lease_in_time() {
    let world = World::new();
    let guard = world.acquire().await;
    world.objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
    world.pass(Duration::from_secs(28)).await;
    assert_eq!(guard.lost().await, LossReason::Unreachable);
}

// ------------------------------------------------------------- H15, H16: dropped guards and futures

#[test]
fn h15_a_guard_dropped_outside_any_runtime_is_released() {
    let world = World { runtime: Runtime::Dedicated, ..World::new() };
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    let guard = runtime.block_on(world.acquire());
    drop(runtime);
    drop(guard);
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    runtime.block_on(async {
        let lock = world.lock().await;
        eventually_free(&world, &lock).await;
    });
}

#[tokio::test]
async fn h16_an_acquisition_dropped_during_its_write_is_undone() {
    for answers_only in [false, true] {
        let world = World::new();
        if answers_only {
            world.objects.hold_put_answers();
        } else {
            world.objects.hold_puts();
        }
        let store = world.process(&world.clock).await;
        let lock = store.lock("x").ttl(TTL).store_clock(false);
        let acquiring = tokio::spawn(async move { lock.acquire().await });
        world.objects.wait_for_held(1).await;
        acquiring.abort();
        assert!(acquiring.await.expect_err("is aborted").is_cancelled());
        world.objects.release_puts();
        world.clock.passing(store.shutdown()).await;
        assert_eq!(world.objects.abandoned(), 0, "no write was dropped half-way");
        let state = world.lock().await.inspect().await.expect("reads").state;
        assert_eq!(state, LockState::Free, "answers only: {answers_only}");
    }
}

#[tokio::test]
async fn h16_a_waiter_that_is_dropped_leaves_nothing() {
    let world = World::new();
    let guard = world.acquire().await;
    let store = world.process(&world.clock).await;
    let lock = store.lock("x").ttl(TTL).store_clock(false);
    let waiting = tokio::spawn(async move { lock.acquire().await });
    world.pass(SECOND).await;
    waiting.abort();
    world.clock.passing(store.shutdown()).await;
    let before = world.objects.counts();
    world.clock.advance(SECOND * 3);
    breathe().await;
    assert_eq!(world.objects.counts().conditional_gets, before.conditional_gets, "polls no more");
    assert!(guard.is_held());
}

#[tokio::test]
async fn h16_a_release_whose_future_is_dropped_goes_on() {
    let world = World::new();
    let guard = world.acquire().await;
    world.objects.hold_puts();
    let releasing = tokio::spawn(guard.release());
    world.objects.wait_for_held(1).await;
    releasing.abort();
    world.objects.release_puts();
    eventually_free(&world, &world.lock().await).await;
}

// -------------------------------------------------------------- H17: a keeper that keeps a hung job's lock

#[tokio::test]
async fn h17_a_hold_has_its_longest_time() {
    let world = World::new();
    let lock = world.lock().await.max_hold(Duration::from_secs(100));
    let guard = lock.acquire().await.expect("acquires");
    world.pass(Duration::from_secs(99)).await;
    assert!(guard.is_held());
    assert!(guard.remaining() <= SECOND);
    world.pass(SECOND).await;
    assert_eq!(guard.lost().await, LossReason::MaxHold);
}

#[tokio::test]
async fn h17_work_without_progress_loses_its_lease() {
    let world = World::new();
    let lock = world.lock().await.progress_within(Duration::from_secs(60));
    let guard = lock.acquire().await.expect("acquires");
    for _ in 0..3 {
        world.pass(Duration::from_secs(50)).await;
        assert!(guard.is_held());
        guard.touch();
    }
    world.pass(Duration::from_secs(61)).await;
    assert_eq!(guard.lost().await, LossReason::NoProgress);
}

// -------------------------------------------------------------------- H18: two handles in one process

#[tokio::test]
async fn h18_two_handles_of_one_process_exclude_each_other() {
    let world = World::new();
    let store = world.process(&world.clock).await;
    let lock = store.lock("x").ttl(TTL).store_clock(false);
    let guard = lock.acquire().await.expect("acquires");
    assert!(busy(&lock).await && busy(&lock.clone()).await && busy(&store.lock("x")).await);
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
}

// -------------------------------------------------------------- H20: credentials that expire mid-hold

#[tokio::test]
async fn h20_access_that_is_denied_for_a_while_is_survived() {
    let world = World::new();
    let guard = world.acquire().await;
    world.objects.fail_next_puts(3, FailKind::BeforeGeneric);
    world.objects.fail_gets(true);
    world.pass(Duration::from_secs(16)).await;
    world.objects.fail_gets(false);
    world.pass(Duration::from_secs(12)).await;
    assert!(guard.is_held());
}

// --------------------------------------------------------------------------- takeover, exactly timed

#[tokio::test]
async fn a_waiter_takes_over_when_the_lease_has_been_unchanged_for_its_time_and_not_earlier() {
    let world = World::new();
    let lock = world.lock().await.keeper(false);
    std::mem::forget(lock.acquire().await.expect("acquires"));
    let lock = world.lock().await;
    let began = world.clock.now().boot;
    let waiting = tokio::spawn(async move { lock.acquire().await });
    while !waiting.is_finished() {
        world.clock.advance(Duration::from_millis(50));
        breathe().await;
    }
    let waited = world.clock.now().boot.since(began);
    assert!(waiting.await.expect("no panic").is_ok());
    // 30 s × 1.02 + 50 ms, and one poll: the promise about crashes.
    assert!(waited >= Duration::from_millis(30_650), "{waited:?}");
    assert!(waited <= Duration::from_millis(33_700), "{waited:?}");
}

#[tokio::test]
async fn a_renewal_at_the_last_moment_shuts_the_waiter_out() {
    let world = World::new();
    let guard = world.lock().await.keeper(false).acquire().await.expect("acquires");
    let lock = world.lock().await;
    let waiting = tokio::spawn(async move { lock.acquire_timeout(TTL * 2).await });
    world.pass(Duration::from_secs(26)).await;
    guard.renew().await.expect("renews");
    world.pass(Duration::from_secs(26)).await;
    assert!(guard.is_held() && !waiting.is_finished());
    guard.renew().await.expect("renews");
    world.pass(Duration::from_secs(10)).await;
    let waited = waiting.await.expect("no panic").expect("waits");
    assert!(matches!(waited, Attempt::Held(_)));
}

#[tokio::test]
async fn an_acquisition_that_took_longer_than_its_lease_is_given_back() {
    let world = World::new();
    let lock = world.lock().await;
    world.objects.hold_put_answers();
    let acquiring = tokio::spawn(async move { lock.acquire_timeout(TTL * 4).await });
    world.objects.wait_for_held(1).await;
    // Frozen for longer than the lease that was just written.
    world.clock.advance(TTL + SECOND);
    world.objects.release_puts();
    let guard =
        world.clock.passing(acquiring).await.expect("no panic").expect("acquires").acquired();
    let guard = guard.expect("is free");
    assert!(guard.remaining() > Duration::from_secs(20), "not the stale lease");
    let history = world.lock().await.inspect().await.expect("reads").history;
    assert_eq!(history.len(), 1, "the stale one was given back first");
    assert!(guard.token() > history[0].token);
}

/// Reads one clock later than the other, as a thread does that is interrupted in between.
#[derive(Debug, Default)]
struct Interrupted(AtomicU32);

impl Clock for Interrupted {
    fn now(&self) -> Moment {
        let boot = SystemClock.now().boot;
        if self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            std::thread::sleep(Duration::from_millis(2));
        }
        Moment { boot, wall: SystemClock.now().wall }
    }

    fn sleep_until(&self, until: Boot) -> BoxFuture<'static, ()> {
        SystemClock.sleep_until(until)
    }
}

/// H24: an interruption is no disagreement of front ends, after which the store's time would not be believed.
#[tokio::test]
async fn who_is_interrupted_between_its_clocks_still_believes_the_store() {
    let store = Store::builder("memory:///").clock(Arc::new(Interrupted::default()));
    let store = store.open().await.expect("opens");
    let guard = store.lock("x").acquire().await.expect("acquires");
    for _ in 0..20 {
        let info = store.lock("x").inspect().await.expect("is readable");
        assert!(info.holders[0].remaining.is_some(), "the store's time is not known any more");
    }
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
}
