//! Guards and their keepers: what is written, how often, and what becomes of it, by a clock moved
//! by hand and a store that fails on command.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use leaselock::clock::{Clock, Moment};
use leaselock::record::Record;
use leaselock::{
    Attempt, ErrorKind, LeasePhase, Lock, LockGuard, LockState, LossReason, Payload, Release, Store,
};
use leaselock_test_support::clock::{ManualClock, breathe, eventually};
use leaselock_test_support::counting::{CountingStore, FailKind};
use leaselock_test_support::record::record_in;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

const TTL: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

struct World {
    /// Past the counting.
    raw: Arc<InMemory>,
    objects: CountingStore,
    clock: ManualClock,
}

impl World {
    fn new() -> Self {
        let raw = Arc::new(InMemory::new());
        let objects = CountingStore::new(Arc::clone(&raw) as _).ignoring(".leaselock");
        Self { raw, objects, clock: ManualClock::new() }
    }

    fn builder(&self) -> leaselock::StoreBuilder {
        self.clock.process(self.objects.as_store())
    }

    async fn lock(&self) -> Lock {
        self.builder().open().await.expect("opens").lock("x").ttl(TTL).store_clock(false)
    }

    async fn acquire(&self) -> LockGuard {
        let guard = self.lock().await.acquire().await.expect("acquires");
        self.objects.reset();
        guard
    }

    /// Without a keeper that renews by itself.
    async fn acquire_quietly(&self) -> LockGuard {
        let guard = self.lock().await.keeper(false).acquire().await.expect("acquires");
        self.objects.reset();
        guard
    }

    async fn pass(&self, time: Duration) {
        self.clock.pass(time).await;
    }

    /// Time passes until the work is done.
    async fn passing<T>(&self, work: impl Future<Output = T>) -> T {
        self.clock.passing(work).await
    }

    async fn state(&self) -> LockState {
        self.lock().await.inspect().await.expect("reads").state
    }

    fn record(&self) -> Record {
        record_in(&self.raw, "x.lock").expect("is there")
    }
}

/// Renews the holder's entry as somebody with the same identity would.
fn renew_as_a_clone(raw: &InMemory) {
    let mut record = record_in(raw, "x.lock").expect("is there");
    record.holders[0].renewals += 1;
    // Whatever its clock says, it is not the very microsecond of ours.
    record.holders[0].renewed_at = record.holders[0].renewed_at.plus(Duration::from_micros(1));
    record.nonce =
        leaselock::Nonce::from_random(0x0c10_0000 + u128::from(record.holders[0].renewals));
    let body = record.encode().expect("is small").into();
    raw.put(&"x.lock".into(), body).now_or_never().expect("at once").expect("is written");
}

/// Writes the record again as somebody would who changes nothing that matters to its holder.
fn rewrite(raw: &InMemory, nonce: u128) {
    let mut record = record_in(raw, "x.lock").expect("is there");
    record.nonce = leaselock::Nonce::from_random(nonce);
    let body = record.encode().expect("is small").into();
    raw.put(&"x.lock".into(), body).now_or_never().expect("at once").expect("is written");
}

// ------------------------------------------------------------------------------- what a guard says

#[tokio::test]
async fn a_guard_says_what_it_holds() {
    let world = World::new();
    let store = world.builder().prefix("team").open().await.expect("opens");
    let guard = store.lock("x").acquire().await.expect("acquires");
    assert_eq!(guard.name(), "x");
    let info = store.lock("x").inspect().await.expect("reads");
    assert_eq!(info.holders[0].id, guard.id());
    assert_eq!(info.holders[0].token, guard.token());
    assert_eq!(guard.run(async { 7 }).await.expect("is held"), 7);
    let payload = Payload::from_json_str("[1]").expect("is small");
    guard.set_payload(payload.clone()).await.expect("is held");
    assert_eq!(store.lock("x").inspect().await.expect("reads").payload, Some(payload));
    world.raw.head(&"team/x.lock".into()).await.expect("lies below the prefix");
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
}

#[tokio::test]
async fn a_guard_that_is_dropped_is_released_and_not_lost() {
    let world = World::new();
    let guard = world.acquire().await;
    let watch = guard.watch();
    drop(guard);
    assert_eq!(watch.status().phase, LeasePhase::Released);
    eventually("it is free", || world.record().holders.is_empty()).await;
    assert_eq!(watch.status().phase, LeasePhase::Released);
}

#[tokio::test]
async fn work_that_outlives_its_lease_without_pausing_is_not_believed() {
    let world = World::new();
    let guard = world.acquire_quietly().await;
    let error = guard.run(async { world.clock.advance(TTL) }).await.expect_err("is lost");
    assert_eq!(error.kind(), ErrorKind::Lost);
    // Once lost, work does not begin.
    let begun = guard.run(async { unreachable!("is dropped") }).await;
    assert_eq!(begun.expect_err("is lost").kind(), ErrorKind::Lost);
}

#[tokio::test]
async fn the_warning_comes_at_half_the_ttl() {
    let world = World::new();
    let guard = world.acquire_quietly().await;
    assert_eq!(guard.at_risk().now_or_never(), None);
    world.clock.advance(TTL / 2 - SECOND);
    assert_eq!(guard.at_risk().now_or_never(), None);
    world.clock.advance(SECOND);
    assert_eq!(guard.at_risk().now_or_never(), Some(()));
    assert!(guard.is_held());
    guard.renew().await.expect("renews");
    assert_eq!(guard.at_risk().now_or_never(), None);
    world.clock.advance(TTL);
    assert_eq!(guard.at_risk().now_or_never(), Some(()));
}

#[tokio::test]
async fn a_keeper_that_is_dropped_with_its_runtime_ends_the_lease() {
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    let builder = world.builder();
    let acquiring = runtime.spawn(async move {
        let store = builder.open().await.expect("opens");
        store.lock("x").acquire().await.expect("acquires")
    });
    let guard = acquiring.await.expect("no panic");
    assert!(guard.is_held());
    runtime.shutdown_background();
    assert_eq!(guard.lost().await, LossReason::KeeperStopped);
    assert_eq!(guard.renew().await.expect_err("nobody is there").kind(), ErrorKind::Lost);
}

#[tokio::test]
async fn a_watch_tells_of_every_renewal_the_warning_and_the_end() {
    let world = World::new();
    let guard = world.acquire_quietly().await;
    let mut watch = guard.watch();
    assert!(watch.changed().now_or_never().is_none());
    guard.renew().await.expect("renews");
    assert_eq!(watch.changed().await.renewals, 1);
    world.clock.advance(TTL / 2);
    assert_eq!(watch.status().phase, LeasePhase::AtRisk);
    assert_eq!(watch.changed().await.phase, LeasePhase::AtRisk);
    world.clock.advance(TTL);
    assert!(!guard.is_held());
    assert_eq!(watch.changed().await.phase, LeasePhase::Lost(LossReason::Expired));
    drop(guard);
    assert!(watch.changed().now_or_never().is_none(), "nothing comes after the end");
}

// ------------------------------------------------------------------------------------- renewals

#[tokio::test]
async fn a_renewal_that_was_asked_for_is_tried_three_times() {
    let world = World::new();
    let guard = world.acquire_quietly().await;
    for reads_fail in [false, true] {
        world.objects.reset();
        world.objects.fail_gets(reads_fail);
        world.objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
        let error = world.passing(guard.renew()).await.expect_err("nothing is written");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let counts = world.objects.counts();
        assert_eq!((counts.updates, counts.gets), (3, 3), "each is looked after once");
    }
    assert!(guard.is_held());
    world.objects.fail_gets(false);
    world.objects.fail_next_puts(0, FailKind::BeforeGeneric);
    guard.renew().await.expect("renews");
    assert_eq!(world.record().holders[0].renewals, 1);
}

#[tokio::test]
async fn a_renewal_that_is_denied_is_not_repeated_for_its_caller() {
    let world = World::new();
    let guard = world.acquire_quietly().await;
    world.objects.fail_next_puts(u64::MAX, FailKind::BeforeDenied);
    let error = world.passing(guard.renew()).await.expect_err("is denied");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(world.objects.counts().updates, 1);
    world.clock.advance(TTL);
    assert_eq!(guard.lost().await, LossReason::Denied);
}

#[tokio::test]
async fn a_renewal_of_a_lost_lease_is_not_even_tried() {
    let world = World::new();
    let guard = world.acquire_quietly().await;
    world.clock.advance(TTL);
    assert_eq!(guard.renew().await.expect_err("is lost").kind(), ErrorKind::Lost);
    assert_eq!(world.objects.counts().total(), 0);
}

#[tokio::test]
async fn renewals_keep_to_a_third_of_the_ttl_give_or_take_a_tenth() {
    let world = World::new();
    let times = Arc::new(Mutex::new(Vec::new()));
    let (seen, clock) = (Arc::clone(&times), world.clock.clone());
    world.objects.on_put(move |_, _, _| seen.lock().expect("no panic").push(clock.now().boot));
    let guard = world.lock().await.acquire().await.expect("acquires");
    let step = Duration::from_millis(100);
    while times.lock().expect("no panic").len() < 8 {
        world.clock.advance(step);
        breathe().await;
    }
    assert!(guard.is_held());
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    let apart: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    let range = Duration::from_secs(9)..=Duration::from_secs(11) + step * 10;
    assert!(apart.iter().all(|apart| range.contains(apart)), "{apart:?}");
}

/// A renewal lands and nobody hears of it; the next one finds its work.
#[tokio::test]
async fn a_renewal_that_nobody_heard_of_is_recognised_by_the_next() {
    let world = World::new();
    let guard = world.acquire_quietly().await;
    unheard_renewal(&world, &guard).await;
    assert_eq!(world.record().holders[0].renewals, 1, "it has landed");
    for renewals in 2..5 {
        guard.renew().await.expect("is nobody else's");
        assert_eq!(world.record().holders[0].renewals, renewals);
    }
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
}

/// The write lands, somebody lines up, and only then its answer comes, which tells of a conflict, as a
/// client does that has sent it twice: the version is another's, and the entry is the own.
#[tokio::test]
async fn h27_an_unheard_renewal_is_recognised_in_a_record_that_others_have_rewritten() {
    let world = World::new();
    let guard = world.acquire_quietly().await;
    world.objects.fail_next_puts(1, FailKind::AfterPrecondition);
    world.objects.hold_put_answers();
    let renewal = async { guard.renew().await };
    let others = async {
        world.objects.wait_for_held(1).await;
        assert_eq!(world.record().holders[0].renewals, 1, "it has landed");
        rewrite(&world.raw, 0x0123);
        world.objects.release_puts();
    };
    let (renewed, ()) = tokio::join!(renewal, others);
    renewed.expect("is nobody else's");
    assert!(guard.is_held());
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
}

async fn unheard_renewal(world: &World, guard: &LockGuard) {
    world.objects.hold_put_answers();
    world.objects.fail_gets(true);
    let error = world.passing(guard.renew()).await.expect_err("nobody hears of it");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    world.objects.release_puts();
    world.objects.fail_gets(false);
}

#[tokio::test]
async fn h22_a_clones_renewal_is_not_taken_for_the_own() {
    let world = World::new();
    let guard = world.acquire_quietly().await;
    guard.renew().await.expect("renews");
    renew_as_a_clone(&world.raw);
    assert_eq!(guard.renew().await.expect_err("is a clone's").kind(), ErrorKind::Lost);
    assert_eq!(guard.lost().await, LossReason::Cloned);
}

/// Only one renewal is in doubt at a time: the second that turns up is somebody else's.
#[tokio::test]
async fn h22_a_clones_renewal_after_an_own_one_in_doubt_is_not_taken_for_it() {
    let world = World::new();
    let guard = world.acquire_quietly().await;
    unheard_renewal(&world, &guard).await;
    let (raw, writes) = (Arc::clone(&world.raw), Mutex::new(0));
    world.objects.on_put(move |_, _, _| {
        let mut writes = writes.lock().expect("no panic");
        *writes += 1;
        // Its first write is refused because of its own earlier one, the second because of this.
        if *writes == 2 {
            renew_as_a_clone(&raw);
        }
    });
    assert_eq!(guard.renew().await.expect_err("is a clone's").kind(), ErrorKind::Lost);
    assert_eq!(guard.lost().await, LossReason::Cloned);
}

#[tokio::test]
async fn a_record_that_others_rewrite_all_the_time_is_not_tried_for_ever() {
    let world = World::new();
    let guard = world.acquire_quietly().await;
    let raw = Arc::clone(&world.raw);
    let nonces = Mutex::new(0);
    world.objects.on_put(move |_, _, _| {
        let mut nonces = nonces.lock().expect("no panic");
        *nonces += 1;
        rewrite(&raw, *nonces);
    });
    let error = world.passing(guard.renew()).await.expect_err("never the latest version");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(world.objects.counts().updates, 3 * 8);
    assert!(guard.is_held());
    assert_eq!(world.passing(guard.release()).await.expect("gives up"), Release::Unconfirmed);
    let releases = world.objects.counts().updates - 3 * 8;
    assert!((8..200).contains(&releases), "at once, then with pauses: {releases}");
}

/// Moves on by a little with every reading, as if the process were always paused in between.
#[derive(Clone, Debug)]
struct Ticking(ManualClock);

impl Clock for Ticking {
    fn now(&self) -> Moment {
        let now = self.0.now();
        self.0.advance(Duration::from_millis(10));
        now
    }

    fn sleep_until(
        &self,
        until: leaselock::clock::Boot,
    ) -> futures::future::BoxFuture<'static, ()> {
        self.0.sleep_until(until)
    }
}

/// The record must not tell an earlier end than the holder counts on, or the wall-clock rule would
/// let somebody in who trusts it.
#[tokio::test]
async fn a_holder_counts_from_the_time_that_its_record_tells() {
    let world = World::new();
    let clock = Arc::new(Ticking(world.clock.clone()));
    let store = world.builder().clock(clock).open().await.expect("opens");
    let guard = store.lock("x").ttl(TTL).keeper(false).acquire().await.expect("acquires");
    for _ in 0..2 {
        let told = world.record().holders[0].expires_at;
        let trusted: leaselock::clock::Wall = guard.watch().status().wall_deadline.into();
        assert!(trusted.plus(TTL / 10) <= told, "trusts until {trusted:?}, told {told:?}");
        guard.renew().await.expect("renews");
    }
}

// -------------------------------------------------------------------------------------- releases

#[tokio::test]
async fn a_minimum_hold_outlives_the_release_for_its_rest_and_not_longer() {
    let world = World::new();
    let lock = world.lock().await.min_hold(TTL * 2);
    let early = lock.acquire().await.expect("acquires");
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(early.release().await.expect("releases"), Release::Released);
    let record = world.record();
    assert_eq!(record.holders[0].ttl, TTL * 2 - Duration::from_secs(10));
    assert!(record.holders[0].released_at.is_some());
    assert!(matches!(lock.try_acquire().await.expect("looks"), Attempt::Held(_)));
    let world = World::new();
    let late = world.lock().await.min_hold(TTL).acquire().await.expect("acquires");
    world.pass(TTL).await;
    assert_eq!(late.release().await.expect("releases"), Release::Released);
    assert_eq!(world.state().await, LockState::Free, "nothing is left of it");
}

#[tokio::test]
async fn a_release_that_is_refused_for_good_is_an_error() {
    let world = World::new();
    let guard = world.acquire().await;
    world.objects.fail_next_puts(u64::MAX, FailKind::BeforeNotSupported);
    let error = world.passing(guard.release()).await.expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::UnfitStore);
    assert_eq!(world.objects.counts().writes(), 1, "trying again does not help");
}

#[tokio::test]
async fn a_release_outlasts_a_store_that_does_not_answer_for_a_while() {
    let world = World::new();
    let guard = world.acquire().await;
    world.objects.fail_next_puts(1, FailKind::AfterGeneric);
    world.objects.fail_gets(true);
    let releasing = tokio::spawn(guard.release());
    world.pass(SECOND * 5).await;
    assert!(!releasing.is_finished());
    assert!(world.objects.counts().gets > 1, "asks again");
    world.objects.fail_gets(false);
    let released = world.passing(releasing).await.expect("no panic");
    assert_eq!(released.expect("releases"), Release::Released);
    assert_eq!(world.objects.counts().writes(), 1, "it had landed at once");
}

#[tokio::test]
async fn a_release_is_tried_until_the_lease_ends_and_no_longer() {
    for reads_fail in [false, true] {
        let world = World::new();
        let guard = world.acquire().await;
        let began = world.clock.now().boot;
        let last = Arc::new(Mutex::new(began));
        let (seen, clock) = (Arc::clone(&last), world.clock.clone());
        world.objects.on_put(move |_, _, _| *seen.lock().expect("no panic") = clock.now().boot);
        world.objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
        world.objects.fail_gets(reads_fail);
        let released = world.passing(guard.release()).await;
        assert_eq!(released.expect("gives up"), Release::Unconfirmed);
        let took = world.clock.now().boot.since(began);
        assert!(took > TTL / 10 * 7 && took < TTL / 10 * 9 + SECOND, "{took:?}");
        let last = last.lock().expect("no panic").since(began);
        assert!(last < TTL / 10 * 9, "{last:?}");
        let counts = world.objects.counts();
        assert!(counts.gets >= 10, "goes on asking: {counts:?}");
        assert_eq!(counts.writes() == 1, reads_fail, "unread, it may have landed: {counts:?}");
    }
}

/// Hazard H7: the pause between two attempts was meant to be short.
#[tokio::test]
async fn a_process_frozen_between_two_attempts_does_not_send_the_second() {
    let world = World::new();
    let guard = world.acquire().await;
    world.objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
    let releasing = tokio::spawn(guard.release());
    breathe().await;
    let before = world.objects.counts().writes();
    assert!(before >= 1);
    // To the very moment at which the lease is over.
    world.clock.advance(TTL / 10 * 9);
    let released = releasing.await.expect("no panic");
    assert_eq!(released.expect("gives up"), Release::Unconfirmed);
    assert_eq!(world.objects.counts().writes(), before);
}

#[tokio::test]
async fn a_release_whose_turn_comes_after_the_lease_writes_nothing() {
    let world = World::new();
    let guard = world.acquire_quietly().await;
    world.clock.advance(Duration::from_secs(24));
    world.objects.hold_puts();
    // The command stays with the keeper when nobody waits for its answer.
    assert!(guard.renew().now_or_never().is_none());
    world.objects.wait_for_held(1).await;
    let releasing = tokio::spawn(guard.release());
    world.pass(Duration::from_secs(6)).await;
    let released = releasing.await.expect("no panic");
    assert_eq!(released.expect("is too late"), Release::Unconfirmed);
    assert_eq!(world.objects.counts().writes(), 1, "the renewal");
}

#[tokio::test]
async fn a_release_that_landed_unheard_is_recognised_behind_a_successor() {
    let world = World::new();
    let guard = world.acquire().await;
    world.objects.fail_next_puts(1, FailKind::AfterGeneric);
    world.objects.fail_gets(true);
    let releasing = tokio::spawn(guard.release());
    breathe().await;
    // The successor is on the same store, but not behind the same network.
    let store = Store::from_object_store(Arc::clone(&world.raw) as _).check_preconditions(false);
    let store = store.open().await.expect("opens");
    let _successor = store.lock("x").acquire().await.expect("is free");
    world.objects.fail_gets(false);
    let released = world.passing(releasing).await.expect("no panic");
    assert_eq!(released.expect("has landed"), Release::Released);
}

#[tokio::test]
async fn a_release_after_a_break_is_told_so() {
    let world = World::new();
    let guard = world.acquire().await;
    let order = leaselock::Break::expecting(guard.token()).by("ops").reason("stuck");
    world.lock().await.break_lease(order).await.expect("breaks");
    let gone = LossReason::Broken { by: Some("ops".into()), reason: Some("stuck".into()) };
    assert_eq!(guard.release().await.expect("is told"), Release::AlreadyLost(gone));
}

#[tokio::test]
async fn a_release_that_finds_no_record_writes_none() {
    let world = World::new();
    let guard = world.acquire().await;
    world.raw.delete(&"x.lock".into()).await.expect("deletes");
    let gone = Release::AlreadyLost(LossReason::RecordDeleted);
    assert_eq!(guard.release().await.expect("is told"), gone);
    assert_eq!(world.state().await, LockState::Absent);
    let guard = world.acquire().await;
    world.raw.put(&"x.lock".into(), "nonsense".into()).await.expect("writes");
    let gone = Release::AlreadyLost(LossReason::RecordUnreadable);
    assert_eq!(guard.release().await.expect("is told"), gone);
}

#[tokio::test]
async fn a_shutdown_waits_for_guards_that_were_dropped_before() {
    let world = World::new();
    let store = world.builder().open().await.expect("opens");
    let lost = store.lock("y").ttl(TTL).keeper(false).acquire().await.expect("acquires");
    world.clock.advance(TTL);
    assert!(!lost.is_held());
    let guard = store.lock("x").ttl(TTL).acquire().await.expect("acquires");
    world.objects.hold_puts();
    drop(guard);
    world.objects.wait_for_held(1).await;
    let down = tokio::spawn(async move { store.shutdown().await });
    breathe().await;
    assert!(!down.is_finished(), "the lock is not free yet");
    world.objects.release_puts();
    let report = down.await.expect("no panic");
    assert_eq!((report.released, report.unconfirmed), (0, 0), "nothing was left to give back");
    assert!(world.record().holders.is_empty());
    drop(lost);
}

// ------------------------------------------------------------------------------------- acquisitions

#[tokio::test]
async fn a_first_write_without_an_answer_is_sent_again_as_it_was() {
    let world = World::new();
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&bodies);
    world.objects.on_put(move |_, _, body| seen.lock().expect("no panic").push(body.to_vec()));
    world.objects.fail_next_puts(1, FailKind::BeforeGeneric);
    let lock = world.lock().await;
    let _guard = world.passing(lock.acquire()).await.expect("acquires");
    let bodies = bodies.lock().expect("no panic");
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn whoever_comes_second_sees_the_first_and_writes_no_more() {
    for absent in [true, false] {
        let world = World::new();
        if !absent {
            let guard = world.acquire().await;
            assert_eq!(guard.release().await.expect("releases"), Release::Released);
        }
        world.objects.hold_puts();
        world.objects.reset();
        let first = world.lock().await;
        let first = tokio::spawn(async move { first.try_acquire().await });
        let second = world.lock().await;
        let second = tokio::spawn(async move { second.try_acquire().await });
        world.objects.wait_for_held(2).await;
        world.objects.release_puts();
        let first = first.await.expect("no panic").expect("is answered").acquired();
        let second = second.await.expect("no panic").expect("is answered").acquired();
        assert_eq!(u8::from(first.is_some()) + u8::from(second.is_some()), 1);
        let counts = world.objects.counts();
        assert_eq!((counts.writes(), counts.gets), (2, 3), "one look each, one at the winner");
    }
}

#[tokio::test]
async fn a_write_that_a_rivals_has_overtaken_is_not_sent_again() {
    let world = World::new();
    let raw = Arc::clone(&world.raw);
    let rival = include_bytes!("golden/held.json");
    world.objects.on_put(move |_, _, _| {
        let body = rival.to_vec().into();
        raw.put(&"x.lock".into(), body).now_or_never().expect("at once").expect("is written");
    });
    world.objects.fail_next_puts(1, FailKind::BeforeGeneric);
    let lock = world.lock().await;
    assert!(matches!(lock.try_acquire().await.expect("is answered"), Attempt::Held(_)));
    assert_eq!(world.objects.counts().writes(), 1);
}

#[tokio::test]
async fn a_record_that_would_grow_too_large_is_not_written() {
    let world = World::new();
    let free = include_str!("golden/free.json");
    let mut document: serde_json::Value = serde_json::from_str(free).expect("is JSON");
    document["from_the_future"] = "x".repeat(256_000).into();
    let body = document.to_string().into_bytes();
    world.raw.put(&"x.lock".into(), body.clone().into()).await.expect("writes");
    let payload = Payload::from_serialize(&"y".repeat(16_000)).expect("is small");
    let lock = world.lock().await;
    let error = lock.clone().payload(payload).acquire().await.expect_err("is too large");
    assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error:?}");
    assert_eq!(world.objects.counts().writes(), 0);
    let _guard = lock.acquire().await.expect("is small enough without");
}

#[tokio::test]
async fn a_store_that_cannot_write_conditionally_is_asked_once() {
    let world = World::new();
    world.objects.fail_next_puts(u64::MAX, FailKind::BeforeNotSupported);
    let lock = world.lock().await;
    let error = world.passing(lock.acquire()).await.expect_err("cannot");
    assert_eq!(error.kind(), ErrorKind::UnfitStore);
    assert_eq!(world.objects.counts().writes(), 1);
}

// ------------------------------------------------- a store that nobody can connect to for a while

/// A port that is ours for the whole test, whether or not anybody listens on it at the moment.
struct Port {
    _kept: tokio::net::TcpSocket,
    address: std::net::SocketAddr,
}

impl Port {
    fn new() -> Self {
        let socket = reusable();
        socket.bind(([127, 0, 0, 1], 0).into()).expect("binds");
        let address = socket.local_addr().expect("is bound");
        Self { _kept: socket, address }
    }

    fn url(&self) -> String {
        let Self { address, .. } = self;
        format!(
            "s3://locks?aws_endpoint=http://{address}&aws_allow_http=true&aws_access_key_id=a\
             &aws_secret_access_key=b"
        )
    }

    /// A store that has nothing and takes every write, until it is dropped.
    fn serve(&self) -> tokio::task::JoinSet<()> {
        let socket = reusable();
        socket.bind(self.address).expect("binds");
        let listener = socket.listen(16).expect("listens");
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                answer(stream).await.expect("answers");
            }
        });
        serving
    }
}

fn reusable() -> tokio::net::TcpSocket {
    let socket = tokio::net::TcpSocket::new_v4().expect("is made");
    socket.set_reuseport(true).expect("is set");
    socket
}

async fn answer(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut request = Vec::new();
    let body = loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        stream.read_buf(&mut request).await?;
    };
    let head = String::from_utf8_lossy(&request[..body]).to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    let length: usize = length.map_or(0, |length| length.parse().expect("is a number"));
    while request.len() < body + length {
        stream.read_buf(&mut request).await?;
    }
    let status = if head.starts_with("put") { "200 OK\r\nETag: \"1\"" } else { "404 Not Found" };
    let rest = "Date: Sat, 21 Nov 2026 06:30:20 GMT\r\nContent-Length: 0\r\nConnection: close";
    stream.write_all(format!("HTTP/1.1 {status}\r\n{rest}\r\n\r\n").as_bytes()).await?;
    stream.shutdown().await
}

async fn stop(mut serving: tokio::task::JoinSet<()>) {
    serving.shutdown().await;
}

async fn acquire_at(port: &Port, ttl: Duration) -> LockGuard {
    let store = Store::builder(port.url()).check_preconditions(false);
    let lock = store.open().await.expect("opens").lock("x").ttl(ttl).keeper(false);
    lock.acquire().await.expect("acquires")
}

#[tokio::test]
async fn a_release_waits_for_a_store_that_comes_back() {
    let port = Port::new();
    let serving = port.serve();
    let guard = acquire_at(&port, TTL).await;
    let watch = guard.watch();
    stop(serving).await;
    // Cannot have been applied, and is not tried again for its caller's sake alone.
    let error = guard.renew().await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no connection"), "{error}");
    let releasing = tokio::spawn(guard.release());
    eventually("the release has begun", || watch.status().phase == LeasePhase::Released).await;
    let _serving = port.serve();
    assert_eq!(releasing.await.expect("no panic").expect("releases"), Release::Released);
}

#[tokio::test]
async fn a_release_that_reaches_nobody_is_not_confirmed() {
    let port = Port::new();
    let serving = port.serve();
    let guard = acquire_at(&port, SECOND).await;
    stop(serving).await;
    assert_eq!(guard.release().await.expect("gives up"), Release::Unconfirmed);
}
