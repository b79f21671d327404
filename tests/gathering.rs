//! Latches and barriers: on every store, by clocks moved by hand, and on a store that fails on command.

#![allow(clippy::disallowed_methods, reason = "waits in real time, with generous bounds")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{FutureExt, TryStreamExt};
use leaselock::{
    Arrival, Barrier, Break, Error, ErrorKind, Latch, LockState, Passed, Store, Waited,
};
use leaselock_test_support::clock::{ManualClock, breathe, eventually};
use leaselock_test_support::counting::{CountingStore, FailKind};
use leaselock_test_support::on_every_store;
use leaselock_test_support::place::Place;

const SECOND: Duration = Duration::from_secs(1);
/// Generous: machines are slow and busy.
const LONG: Duration = Duration::from_secs(120);

on_every_store!(
    a_latch_opens_exactly_when_the_last_member_has_arrived,
    an_open_latch_stays_open_until_it_is_reset,
    who_waits_is_told_of_the_end_of_its_epoch,
    nobody_runs_a_round_ahead_at_a_barrier,
    numbered_rounds_can_be_repeated,
    a_name_belongs_to_one_primitive_and_one_number,
    operators_see_it_and_cannot_break_it,
    a_deleted_record_is_told_and_tokens_rise,
);

async fn latch(place: &Place, needed: u32) -> Latch {
    place.open().await.latch("merge", needed)
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("in time")
}

fn members(info: &leaselock::GatheringInfo) -> Vec<&str> {
    info.members.iter().map(|member| member.member.as_str()).collect()
}

#[track_caller]
fn assert_arrival(found: Arrival, epoch: u64, arrived: u32, needed: u32) {
    let told = (found.epoch, found.arrived, found.needed, found.is_open);
    assert_eq!(told, (epoch, arrived, needed, arrived == needed));
}

#[track_caller]
fn assert_kind<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind) {
    assert_eq!(result.expect_err("is refused").kind(), kind);
}

async fn a_latch_opens_exactly_when_the_last_member_has_arrived(place: Place) {
    const SHARDS: u32 = 16;
    let waiting = latch(&place, SHARDS).await;
    let waiting = tokio::spawn(async move { waiting.wait().await });
    // How many different members have begun to arrive.
    let begun = Arc::new(AtomicU64::new(0));
    let arrive = |shard: u32, latch: Latch| {
        let begun = Arc::clone(&begun);
        async move {
            begun.fetch_or(1 << shard, Ordering::SeqCst);
            let arrival = latch.arrive(format!("shard-{shard}")).await.expect("arrives");
            let complete = begun.load(Ordering::SeqCst).count_ones() == SHARDS;
            assert!(!arrival.is_open || complete, "{arrival:?} before all have begun to arrive");
            assert!(arrival.arrived <= SHARDS && arrival.needed == SHARDS);
            arrival
        }
    };
    // In turns of as many as the store's emulator can take; each arrives twice at once, and the second
    // handle repeats the turn before, too.
    let turn = place.backend().max_racers() as u32 / 2;
    let mut last = None;
    for first in (0..SHARDS - 1).step_by(turn as usize) {
        let shards = (first..(first + turn).min(SHARDS - 1)).chain(first.checked_sub(1));
        let mut arriving = Vec::new();
        for shard in shards {
            let handle = latch(&place, SHARDS).await;
            arriving.push(tokio::spawn(arrive(shard, handle.clone())));
            arriving.push(tokio::spawn(arrive(shard, handle)));
        }
        for arrived in arriving {
            let arrival = in_time(arrived).await.expect("no task fails");
            assert!(!arrival.is_open, "15 are not enough: {arrival:?}");
            last = last.max(Some(arrival.arrived));
        }
    }
    assert_eq!(last, Some(SHARDS - 1));
    assert!(!waiting.is_finished(), "15 are not enough");
    let info = latch(&place, SHARDS).await.inspect().await.expect("reads");
    let mut arrived = members(&info);
    arrived.sort_unstable();
    let mut expected: Vec<_> = (0..SHARDS - 1).map(|shard| format!("shard-{shard}")).collect();
    expected.sort_unstable();
    assert_eq!((arrived.len(), info.is_open), (15, false));
    assert_eq!(arrived, expected, "each once");
    let handle = latch(&place, SHARDS).await;
    let racing = (arrive(15, handle.clone()), arrive(15, handle.clone()), arrive(3, handle));
    let (one, two, three) = in_time(async { tokio::join!(racing.0, racing.1, racing.2) }).await;
    assert_arrival(one, 0, 16, 16);
    assert_arrival(two, 0, 16, 16);
    assert!(three.arrived >= 15, "{three:?}");
    let passed = in_time(waiting).await.expect("no panic").expect("is open");
    assert_eq!(passed.epoch, 0);
}

async fn an_open_latch_stays_open_until_it_is_reset(place: Place) {
    let here = latch(&place, 2).await;
    let info = here.inspect().await.expect("reads");
    assert_eq!((info.epoch, info.needed, info.is_open, info.token), (0, 2, false, None));
    assert_eq!(here.reset().await.expect("has nothing to do"), 0);
    assert_arrival(here.arrive("a").await.expect("arrives"), 0, 1, 2);
    assert_arrival(here.arrive("a").await.expect("arrives again"), 0, 1, 2);
    let late = here.wait_timeout(Duration::from_millis(200)).await.expect("looks");
    let Waited::TimedOut(stands) = late else { panic!("one is not enough: {late:?}") };
    assert_arrival(stands, 0, 1, 2);
    let passed = in_time(here.arrive_and_wait("b")).await.expect("opens it");
    assert_eq!(passed.epoch, 0);
    for handle in [here.clone(), latch(&place, 2).await] {
        assert_eq!(handle.wait().await.expect("is open").epoch, 0);
        let waited = handle.wait_timeout(Duration::ZERO).await.expect("is open");
        assert!(matches!(waited, Waited::Passed(Passed { epoch: 0, .. })));
        for member in ["a", "somebody else"] {
            assert_arrival(handle.arrive(member).await.expect("is open"), 0, 2, 2);
        }
    }
    let open = here.inspect().await.expect("reads");
    assert_eq!((members(&open), open.is_open), (vec!["a", "b"], true));
    assert_eq!(here.reset().await.expect("resets"), 1);
    let closed = here.inspect().await.expect("reads");
    assert_eq!((closed.epoch, members(&closed), closed.is_open), (1, vec![], false));
    assert_eq!(closed.token, open.token, "only what passes advances it");
    assert_eq!(here.reset_from(0).await.expect("is past"), 1);
    assert_kind(here.reset_from(2).await, ErrorKind::EpochMismatch { stored: 1 });
    assert_arrival(here.arrive("b").await.expect("arrives"), 1, 1, 2);
    // Of several at once that have seen the same epoch one has an effect.
    let handles = (latch(&place, 2).await, latch(&place, 2).await);
    let both = tokio::join!(handles.0.reset_from(1), handles.1.reset_from(1));
    assert_eq!((both.0.expect("resets"), both.1.expect("resets")), (2, 2));
    // A reset may change the number.
    assert_eq!(latch(&place, 1).await.reset().await.expect("resets"), 3);
    assert_kind(here.wait().await, ErrorKind::LimitMismatch { stored: 1 });
    assert_arrival(latch(&place, 1).await.arrive("b").await.expect("arrives"), 3, 1, 1);
    assert!(here.inspect().await.expect("reads").token > open.token);
}

async fn who_waits_is_told_of_the_end_of_its_epoch(place: Place) {
    let handle = latch(&place, 2).await;
    assert_arrival(handle.arrive("a").await.expect("arrives"), 0, 1, 2);
    // Its waiter sees the record before it is reset: it arrives itself, in the same call.
    let other = latch(&place, 3).await;
    assert_kind(other.wait().await, ErrorKind::LimitMismatch { stored: 2 });
    let reset = handle.clone();
    let waiting = handle.arrive_and_wait("a");
    let resetting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        reset.reset().await
    };
    let (waited, resetting) = in_time(async { tokio::join!(waiting, resetting) }).await;
    assert_eq!(resetting.expect("resets"), 1);
    let error = waited.expect_err("was reset before it opened");
    assert_eq!(error.kind(), ErrorKind::EpochMismatch { stored: 1 });
    assert!(error.to_string().contains("epoch 0 of \"merge\" is gone"), "{error}");
}

async fn nobody_runs_a_round_ahead_at_a_barrier(place: Place) {
    const PARTIES: usize = 3;
    const ROUNDS: u64 = 3;
    // How many rounds each has ended.
    let ended: Arc<[AtomicU64; PARTIES]> = Arc::default();
    let mut tasks = Vec::new();
    for member in 0..PARTIES {
        let store = place.open().await;
        let barrier = store.barrier("rounds", PARTIES as u32);
        let ended = Arc::clone(&ended);
        tasks.push(tokio::spawn(async move {
            let name = format!("member-{member}");
            for round in 0..ROUNDS {
                ended[member].store(round + 1, Ordering::SeqCst);
                // One arrives often, one goes by numbers, one just waits.
                let passed = match member {
                    0 => {
                        let arrival = barrier.arrive(&name).await.expect("arrives");
                        assert_eq!(arrival.epoch, round);
                        barrier.wait_at(round, &name).await
                    }
                    1 => barrier.wait_at(round, &name).await,
                    _ => barrier.wait(&name).await,
                };
                assert_eq!(passed.expect("passes").epoch, round);
                for other in ended.iter() {
                    assert!(other.load(Ordering::SeqCst) > round, "all have ended round {round}");
                }
            }
        }));
    }
    for task in tasks {
        in_time(task).await.expect("no task fails");
    }
    let barrier = place.open().await.barrier("rounds", PARTIES as u32);
    assert_eq!(barrier.epoch().await.expect("reads"), ROUNDS);
    let info = barrier.inspect().await.expect("reads");
    assert_eq!((members(&info), info.is_open, info.needed), (vec![], false, 3));
}

async fn numbered_rounds_can_be_repeated(place: Place) {
    let barrier = place.open().await.barrier("rounds", 2);
    assert_kind(barrier.wait_at(1, "a").await, ErrorKind::EpochMismatch { stored: 0 });
    let late = barrier.wait_timeout("a", Duration::from_millis(100)).await.expect("looks");
    assert!(matches!(late, Waited::TimedOut(Arrival { epoch: 0, arrived: 1, .. })), "{late:?}");
    // It crashed and came back, again and again.
    for _ in 0..3 {
        let again: Barrier = place.open().await.barrier("rounds", 2);
        assert_arrival(again.arrive("a").await.expect("arrives"), 0, 1, 2);
        let late = again.wait_at_timeout(0, "a", Duration::ZERO).await.expect("looks");
        assert!(matches!(late, Waited::TimedOut(_)), "once is not twice: {late:?}");
    }
    assert_arrival(barrier.arrive("b").await.expect("arrives"), 0, 2, 2);
    assert_eq!(barrier.epoch().await.expect("reads"), 1);
    for member in ["a", "b", "a", "b"] {
        assert_eq!(barrier.wait_at(0, member).await.expect("has passed").epoch, 0);
    }
    let info = barrier.inspect().await.expect("reads");
    assert_eq!((info.epoch, members(&info)), (1, vec![]), "nobody has arrived by that");
    assert_kind(barrier.wait_at(2, "a").await, ErrorKind::EpochMismatch { stored: 1 });
    let pair = (barrier.wait_at(1, "a"), barrier.wait("b"));
    let (one, two) = in_time(async { tokio::join!(pair.0, pair.1) }).await;
    assert_eq!((one.expect("passes").epoch, two.expect("passes").epoch), (1, 1));
}

async fn a_name_belongs_to_one_primitive_and_one_number(place: Place) {
    let store = place.open().await;
    let guard = store.lock("lock").acquire().await.expect("acquires");
    let lock = place.get("lock.lock").await;
    assert_kind(store.latch("lock", 2).arrive("a").await, ErrorKind::WrongKind);
    assert_kind(store.latch("lock", 2).wait().await, ErrorKind::WrongKind);
    assert_kind(store.latch("lock", 2).reset().await, ErrorKind::WrongKind);
    assert_kind(store.barrier("lock", 2).wait("a").await, ErrorKind::WrongKind);
    assert_kind(store.barrier("lock", 2).inspect().await, ErrorKind::WrongKind);
    assert_eq!(place.get("lock.lock").await, lock, "untouched");
    assert!(guard.is_held());
    store.latch("latch", 2).arrive("a").await.expect("arrives");
    store.barrier("barrier", 2).arrive("a").await.expect("arrives");
    let error = store.barrier("latch", 2).wait("a").await.expect_err("is a latch");
    assert_eq!(error.kind(), ErrorKind::WrongKind);
    assert_eq!(error.to_string(), "\"latch\" is a latch, not a barrier");
    assert_kind(store.latch("barrier", 2).wait().await, ErrorKind::WrongKind);
    assert_kind(store.latch("latch", 3).arrive("b").await, LIMIT_OF_TWO);
    assert_kind(store.latch("latch", 3).wait().await, LIMIT_OF_TWO);
    assert_kind(store.barrier("barrier", 1).wait_at(0, "b").await, LIMIT_OF_TWO);
    let info = store.latch("latch", 3).inspect().await.expect("only looks");
    assert_eq!((info.needed, members(&info)), (2, vec!["a"]));
    place.put("odd.lock", b"nonsense").await;
    assert_kind(store.latch("odd", 2).arrive("a").await, ErrorKind::UnreadableRecord);
    assert_kind(store.barrier("odd", 2).inspect().await, ErrorKind::UnreadableRecord);
}

const LIMIT_OF_TWO: ErrorKind = ErrorKind::LimitMismatch { stored: 2 };

async fn operators_see_it_and_cannot_break_it(place: Place) {
    let store = place.open().await;
    store.latch("a/latch", 2).arrive("x").await.expect("arrives");
    store.barrier("a/barrier", 2).arrive("x").await.expect("arrives");
    let mut infos: Vec<_> = store.list("a/").try_collect().await.expect("lists");
    infos.sort_by(|one, other| one.name.cmp(&other.name));
    let listed: Vec<_> = infos.iter().map(|info| (info.name.as_str(), info.state)).collect();
    assert_eq!(listed, [("a/barrier", LockState::Free), ("a/latch", LockState::Free)]);
    for name in ["a/latch", "a/barrier"] {
        let error = store.lock(name).break_lease(Break::force()).await.expect_err("has no holder");
        assert_eq!(error.kind(), ErrorKind::NotHeld);
        assert!(error.to_string().contains(", which nobody holds"), "{error}");
    }
    let info = store.latch("a/latch", 2).inspect().await.expect("reads");
    let json: serde_json::Value = serde_json::from_str(&info.to_json()).expect("is JSON");
    assert_eq!(
        (&json["arrived"], &json["needed"], &json["open"]),
        (&1.into(), &2.into(), &false.into())
    );
    assert_eq!(json["members"][0]["member"], "x");
    assert_eq!(json["token"], info.token.expect("has one").get());
}

async fn a_deleted_record_is_told_and_tokens_rise(place: Place) {
    let barrier = place.open().await.barrier("x", 2);
    let other = place.open().await.barrier("x", 2);
    let (one, two) =
        in_time(async { tokio::join!(barrier.wait_at(0, "a"), other.wait_at(0, "b")) }).await;
    assert_eq!((one.expect("passes").epoch, two.expect("passes").epoch), (0, 0));
    let token = barrier.inspect().await.expect("reads").token;
    let deleting = async {
        let looks = || other.inspect().map(|info| info.is_ok_and(|info| !info.members.is_empty()));
        while !looks().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        place.delete("x.lock").await;
    };
    let (waited, ()) = in_time(async { tokio::join!(barrier.wait_at(1, "a"), deleting) }).await;
    assert_kind(waited, ErrorKind::EpochMismatch { stored: 0 });
    // Rounds that went on by number are refused, not begun anew.
    assert_kind(other.wait_at(1, "b").await, ErrorKind::EpochMismatch { stored: 0 });
    // Dates of stores have whole seconds.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let fresh = place.open().await.barrier("x", 2);
    assert_arrival(fresh.arrive("b").await.expect("arrives"), 0, 1, 2);
    assert!(fresh.inspect().await.expect("reads").token > token);
}

// ------------------------------------------------------- by clocks moved by hand, and with faults

/// A store in memory that fails on command; processes have clocks of their own.
struct World(CountingStore);

impl World {
    fn new() -> Self {
        Self(CountingStore::in_memory().ignoring(".leaselock"))
    }

    async fn process(&self, clock: &ManualClock) -> Store {
        clock.process(self.0.as_store()).open().await.expect("opens")
    }
}

#[tokio::test]
async fn a_lost_answer_neither_loses_nor_doubles_an_arrival() {
    for kind in [
        FailKind::AfterGeneric,
        FailKind::AfterPrecondition,
        FailKind::AfterAlreadyExists,
        FailKind::BeforeGeneric,
        FailKind::BeforeConflict409,
    ] {
        let world = World::new();
        let clock = ManualClock::new();
        let latch = world.process(&clock).await.latch("x", 3);
        let barrier = world.process(&clock).await.barrier("y", 2);
        for (number, member) in (1..).zip(["a", "b", "a", "c"]) {
            world.0.fail_next_puts(1, kind);
            let arrival = clock.passing(latch.arrive(member)).await;
            let arrived = [1, 2, 2, 3][number - 1];
            assert_arrival(arrival.unwrap_or_else(|e| panic!("{kind:?}: {e:?}")), 0, arrived, 3);
        }
        for epoch in 0..3 {
            for (member, arrived) in [("a", 1), ("a", 1), ("b", 2)] {
                world.0.fail_next_puts(1, kind);
                let arrival = clock.passing(barrier.arrive(member)).await;
                assert_arrival(
                    arrival.unwrap_or_else(|e| panic!("{kind:?}: {e:?}")),
                    epoch,
                    arrived,
                    2,
                );
            }
        }
        world.0.fail_next_puts(1, kind);
        let reset = clock.passing(latch.reset()).await;
        assert_eq!(reset.unwrap_or_else(|e| panic!("{kind:?}: {e:?}")), 1);
        assert_eq!(latch.inspect().await.expect("reads").epoch, 1, "{kind:?}");
    }
}

/// The arrival that completes an epoch lands, its answer and every look at the outcome fail for longer
/// than a write is seen after; meanwhile the others begin the next epoch.
#[tokio::test]
async fn an_arrival_in_doubt_is_not_counted_in_the_next_epoch() {
    let world = World::new();
    let clock = ManualClock::new();
    let barrier = world.process(&clock).await.barrier("x", 2);
    assert_arrival(barrier.arrive("a").await.expect("arrives"), 0, 1, 2);
    world.0.hold_put_answers();
    let late = barrier.clone();
    let waiting = tokio::spawn(async move { late.wait("b").await });
    world.0.wait_for_held(1).await;
    world.0.fail_gets(true);
    // The write's request times out, and what follows fails: now its outcome is unknown.
    for _ in 0..20 {
        clock.advance(SECOND);
        breathe().await;
    }
    assert!(!waiting.is_finished(), "an outage of 20 s is borne");
    world.0.fail_gets(false);
    world.0.release_puts();
    // The other has found out before it, and is in the next round.
    let other = world.process(&ManualClock::new()).await.barrier("x", 2);
    assert_arrival(other.arrive("a").await.expect("arrives"), 1, 1, 2);
    let passed = clock.passing(waiting).await.expect("no panic").expect("has passed");
    assert_eq!(passed.epoch, 0);
    let info = other.inspect().await.expect("reads");
    assert_eq!((info.epoch, members(&info)), (1, vec!["a"]), "b has not arrived in epoch 1");
}

#[tokio::test]
async fn what_the_store_does_not_confirm_is_said_to_be_unconfirmed() {
    let world = World::new();
    let clock = ManualClock::new();
    let latch = world.process(&clock).await.latch("x", 2);
    assert_arrival(latch.arrive("a").await.expect("arrives"), 0, 1, 2);
    world.0.hold_put_answers();
    let arriving = latch.clone();
    let arriving = tokio::spawn(async move { arriving.arrive("b").await });
    world.0.wait_for_held(1).await;
    world.0.fail_gets(true);
    let error = clock.passing(arriving).await.expect("no panic").expect_err("in doubt");
    assert_eq!(error.kind(), ErrorKind::Unconfirmed, "{error:?}");
    world.0.fail_gets(false);
    world.0.release_puts();
    assert_arrival(latch.arrive("b").await.expect("again"), 0, 2, 2);
    // An outage without a write in doubt is just that.
    world.0.fail_gets(true);
    let error = clock.passing(latch.arrive("c")).await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_write_that_lands_late_counts_once() {
    let world = World::new();
    let clock = ManualClock::new();
    let barrier = world.process(&clock).await.barrier("x", 2);
    assert_arrival(barrier.arrive("a").await.expect("arrives"), 0, 1, 2);
    world.0.hold_puts();
    let arriving = barrier.clone();
    let arriving = tokio::spawn(async move { arriving.arrive("b").await });
    world.0.wait_for_held(1).await;
    // Its request is given up, flies on, and is repeated.
    while world.0.abandoned() == 0 {
        clock.advance(SECOND);
        breathe().await;
    }
    world.0.release_puts();
    let arrival = clock.passing(arriving).await.expect("no panic").expect("arrives");
    assert_arrival(arrival, 0, 2, 2);
    let landed = world.0.land_abandoned().await;
    assert!(!landed.is_empty() && landed.iter().all(Result::is_err), "{landed:?}");
    let info = barrier.inspect().await.expect("reads");
    assert_eq!((info.epoch, members(&info)), (1, vec![]));
}

#[tokio::test]
async fn a_wait_lasts_as_long_as_it_was_told_and_costs_conditional_reads() {
    let world = World::new();
    let clock = ManualClock::new();
    let latch = world.process(&clock).await.latch("x", 2);
    assert_arrival(latch.arrive("a").await.expect("arrives"), 0, 1, 2);
    world.0.reset();
    let waiting = latch.clone();
    let waiting = tokio::spawn(async move { waiting.wait_timeout(SECOND * 10).await });
    breathe().await;
    for step in 0..100 {
        assert!(!waiting.is_finished(), "after {step} tenths of a second");
        clock.advance(Duration::from_millis(100));
        breathe().await;
    }
    let waited = waiting.await.expect("no panic").expect("looks");
    assert!(matches!(waited, Waited::TimedOut(Arrival { arrived: 1, .. })), "{waited:?}");
    let counts = world.0.counts();
    assert_eq!((counts.gets, counts.writes()), (1, 0), "{counts:?}");
    assert!(counts.conditional_gets >= 3 && counts.not_modified == counts.conditional_gets);
    // One who waits learns of the opening by its next look.
    let waiting = latch.clone();
    let waiting = tokio::spawn(async move { waiting.wait().await });
    breathe().await;
    latch.arrive("b").await.expect("arrives");
    for _ in 0..31 {
        clock.advance(Duration::from_millis(100));
        breathe().await;
    }
    assert!(waiting.is_finished(), "a poll comes after 3 s at most");
    assert_eq!(waiting.await.expect("no panic").expect("is open").epoch, 0);
}

#[tokio::test]
async fn an_outage_is_borne_for_a_while() {
    let world = World::new();
    let clock = ManualClock::new();
    let latch = world.process(&clock).await.latch("x", 2);
    assert_arrival(latch.arrive("a").await.expect("arrives"), 0, 1, 2);
    let waiting = latch.clone();
    let mut waiting = tokio::spawn(async move { waiting.wait().await });
    breathe().await;
    for _ in 0..2 {
        world.0.fail_gets(true);
        for _ in 0..20 {
            clock.advance(SECOND);
            breathe().await;
        }
        assert!(!waiting.is_finished(), "20 s are borne");
        world.0.fail_gets(false);
        for _ in 0..10 {
            clock.advance(SECOND);
            breathe().await;
        }
    }
    world.0.fail_gets(true);
    let error = clock.passing(&mut waiting).await.expect("no panic").expect_err("gives up");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_dropped_future_takes_no_arrival_back_and_waits_no_longer() {
    let world = World::new();
    let clock = ManualClock::new();
    let store = world.process(&clock).await;
    let latch = store.latch("x", 2);
    world.0.hold_puts();
    let mut arriving = Box::pin(latch.arrive_and_wait("a"));
    assert!((&mut arriving).now_or_never().is_none());
    world.0.wait_for_held(1).await;
    drop(arriving);
    world.0.release_puts();
    eventually("the task ends", || clock.sleepers() == 0).await;
    breathe().await;
    world.0.reset();
    clock.advance(LONG);
    breathe().await;
    assert_eq!(world.0.counts().total(), 0, "nobody polls any more");
    let info = latch.inspect().await.expect("reads");
    assert_eq!(members(&info), ["a"]);
    // A store that is shut down ends those who wait.
    let waiting = latch.clone();
    let waiting = tokio::spawn(async move { waiting.wait().await });
    breathe().await;
    clock.passing(store.shutdown()).await;
    assert_kind(waiting.await.expect("no panic"), ErrorKind::ShutDown);
    assert_kind(latch.arrive("b").await, ErrorKind::ShutDown);
}

#[tokio::test]
async fn what_an_arrival_costs() {
    let world = World::new();
    let clock = ManualClock::new();
    let latch = world.process(&clock).await.latch("x", 2);
    let cost = async |arrival: Result<Arrival, Error>| {
        arrival.expect("arrives");
        let counts = world.0.counts();
        world.0.reset();
        (counts.reads(), counts.writes())
    };
    let arrival = latch.arrive("a").await;
    assert_eq!(cost(arrival).await, (1, 1));
    let arrival = latch.arrive("a").await;
    assert_eq!(cost(arrival).await, (1, 0), "counts already");
    let arrival = latch.arrive("b").await;
    assert_eq!(cost(arrival).await, (1, 1));
    let arrival = latch.arrive("c").await;
    assert_eq!(cost(arrival).await, (1, 0), "is open");
}

#[tokio::test]
async fn bad_names_and_numbers_are_refused_before_anything_is_written() {
    let world = World::new();
    let store = world.process(&ManualClock::new()).await;
    let long = "m".repeat(129);
    for (member, fault) in
        [("", "an empty text"), (long.as_str(), "more than 128 bytes"), ("a\n", "a control")]
    {
        let error = store.latch("x", 2).arrive(member).await.expect_err(fault);
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains(fault), "{error}");
        assert_kind(store.barrier("x", 2).wait_at(0, member).await, ErrorKind::InvalidOptions);
    }
    for number in [0, 1025, u32::MAX] {
        let error = store.latch("x", number).wait().await.expect_err("out of bounds");
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains("1 to 1024 members"), "{error}");
        assert_kind(store.barrier("x", number).arrive("a").await, ErrorKind::InvalidOptions);
        assert_kind(store.latch("x", number).reset().await, ErrorKind::InvalidOptions);
    }
    let error = store.latch("/x", 2).arrive("a").await.expect_err("no name");
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    assert!(error.to_string().contains("the name of a latch"), "{error}");
    assert_eq!(world.0.counts().total(), 0);
    let longest = "m".repeat(128);
    store.latch("x", 1024).arrive(longest.as_str()).await.expect("just fits");
}
