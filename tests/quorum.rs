//! Locks over several stores: on directories, in memory, on servers; by a clock moved by hand where
//! time matters, and with stores that fail, hang, forget and come back.

#![allow(clippy::disallowed_methods, reason = "waits in real time, with generous bounds")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use leaselock::clock::Clock;
use leaselock::record::Record;
use leaselock::{
    Attempt, Break, ErrorKind, FencingToken, LockGuard, LockState, LossReason, Payload, Quorum,
    QuorumLock, Release, Store,
};
use leaselock_test_support::clock::{ManualClock, breathe};
use leaselock_test_support::counting::{CountingStore, FailKind};
use leaselock_test_support::emulators::Backend;
use leaselock_test_support::hold::Overlap;
use leaselock_test_support::place::Place;
use leaselock_test_support::record::record_in;
use leaselock_test_support::remote::{Line, RemoteStore};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

const TTL: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
/// Generous: machines are slow and busy.
const LONG: Duration = Duration::from_secs(60);

struct Member {
    /// Past everything.
    raw: Arc<InMemory>,
    line: RemoteStore,
    objects: CountingStore,
}

impl Member {
    fn new() -> Self {
        let raw = Arc::new(InMemory::new());
        let line = RemoteStore::new(Arc::clone(&raw) as _);
        let objects = CountingStore::new(line.as_store()).ignoring(".leaselock");
        Self { raw, line, objects }
    }

    fn record(&self) -> Option<Record> {
        record_in(&self.raw, "x.lock")
    }

    /// The token of its holder.
    fn holder(&self) -> Option<FencingToken> {
        self.record()?.holders.first().map(|lease| lease.token)
    }

    fn forget(&self) {
        self.raw.delete(&"x.lock".into()).now_or_never().expect("at once").expect("is deleted");
    }
}

struct World {
    members: Vec<Member>,
    clock: ManualClock,
}

impl World {
    fn of(count: usize) -> Self {
        Self { members: (0..count).map(|_| Member::new()).collect(), clock: ManualClock::new() }
    }

    async fn stores(&self) -> Vec<Store> {
        let open = |member: &Member| self.clock.process(member.objects.as_store()).open();
        let stores = join_all(self.members.iter().map(open)).await;
        stores.into_iter().map(|store| store.expect("opens")).collect()
    }

    /// As another process would use it.
    async fn lock(&self) -> QuorumLock {
        let quorum = Quorum::new(self.stores().await).expect("an odd number");
        quorum.lock("x").ttl(TTL).store_clock(false)
    }

    async fn acquire(&self) -> LockGuard {
        let lock = self.lock().await;
        self.passing(lock.acquire()).await.expect("acquires")
    }

    fn set(&self, lines: &[(usize, Line)]) {
        for (member, line) in lines {
            self.members[*member].line.set(*line);
        }
    }

    fn holders(&self) -> Vec<Option<FencingToken>> {
        self.members.iter().map(Member::holder).collect()
    }

    async fn pass(&self, time: Duration) {
        self.clock.pass(time).await;
    }

    /// Time passes until the work is done.
    async fn passing<T>(&self, work: impl Future<Output = T>) -> T {
        self.clock.passing(work).await
    }

    /// How long the work takes.
    async fn timed<T>(&self, work: impl Future<Output = T>) -> (T, Duration) {
        let begun = self.clock.now();
        let output = self.passing(work).await;
        (output, self.clock.now().since(begun))
    }

    /// A holder that is gone without a word: its stores are, too, as far as it is concerned. What it
    /// has entered stays until it expires.
    async fn crash(&self, guard: LockGuard) {
        std::mem::forget(guard);
    }
}

// ---------------------------------------------------------------------------------------- how it goes

#[tokio::test]
async fn all_members_are_entered_with_one_token_and_freed_again() {
    let world = World::of(3);
    let lock = world
        .lock()
        .await
        .owner("us")
        .note("together")
        .payload(Payload::from_json_str("7").expect("is JSON"));
    let guard = lock.acquire().await.expect("acquires");
    breathe().await;
    assert_eq!((guard.name(), guard.is_held()), ("x", true));
    assert_eq!(guard.remaining(), TTL / 10 * 9);
    for member in &world.members {
        let record = member.record().expect("is there");
        assert_eq!((record.token, record.holders[0].token), (guard.token(), guard.token()));
        assert_eq!(record.holders[0].owner.label, "us");
        assert_eq!(record.payload.expect("was set").to_json(), "7");
    }
    let mut ids: Vec<_> =
        world.members.iter().map(|m| m.record().expect("is").holders[0].id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3, "an entry's identity is its own");

    let info = lock.inspect().await.expect("reads");
    assert_eq!((info.state, info.token), (Some(LockState::Held), Some(guard.token())));
    assert_eq!(info.holder.expect("is held").token, guard.token());
    assert_eq!(info.members.len(), 3);

    let first = guard.token();
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    breathe().await;
    assert_eq!(world.holders(), [None; 3]);
    let info = lock.inspect().await.expect("reads");
    assert_eq!((info.state, info.holder.is_none()), (Some(LockState::Free), true));
    assert!(world.acquire().await.token() > first);
}

#[tokio::test]
async fn an_uncontended_cycle_costs_each_member_what_a_lock_costs() {
    let world = World::of(3);
    let lock = world.lock().await;
    lock.acquire().await.expect("acquires").release().await.expect("releases");
    breathe().await;
    for member in &world.members {
        let counts = member.objects.counts();
        assert_eq!((counts.reads(), counts.creates, counts.updates), (1, 1, 1));
        member.objects.reset();
    }
    // It knows what it has freed just now.
    lock.with(async |guard| assert!(guard.is_held())).await.expect("runs");
    breathe().await;
    for member in &world.members {
        let counts = member.objects.counts();
        assert_eq!((counts.reads(), counts.writes()), (0, 2));
    }
}

#[tokio::test]
async fn who_holds_it_is_waited_for_and_told() {
    let world = World::of(3);
    let guard = world.acquire().await;
    breathe().await;
    let other = world.lock().await;
    let Attempt::Held(info) = other.try_acquire().await.expect("looks") else { panic!("held") };
    assert_eq!((info.name.as_str(), info.holders[0].token), ("x", guard.token()));
    let (waited, took) = world.timed(other.acquire_timeout(5 * SECOND)).await;
    assert!(matches!(waited.expect("waits"), Attempt::Held(_)));
    assert!((5 * SECOND..6 * SECOND).contains(&took), "{took:?}");
    let waiting = tokio::spawn(async move { other.acquire().await });
    world.pass(40 * SECOND).await;
    assert!(guard.is_held() && !waiting.is_finished());
    let token = guard.token();
    guard.release().await.expect("releases");
    let next = world.passing(waiting).await.expect("no panic").expect("acquires");
    assert!(next.token() > token && next.is_held());
}

#[tokio::test]
async fn a_crashed_holder_is_replaced() {
    let world = World::of(3);
    let guard = world.acquire().await;
    breathe().await;
    let token = guard.token();
    // Nothing of it reaches a store any more, and what others do goes past.
    let lock = world.lock().await;
    for member in &world.members {
        member.objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
    }
    let waiting = tokio::spawn(async move { lock.acquire().await });
    world.pass(26 * SECOND).await;
    assert!(!waiting.is_finished() && guard.is_held());
    world.pass(2 * SECOND).await;
    assert!(!guard.is_held());
    assert_eq!(guard.lost().await, LossReason::Unreachable);
    for member in &world.members {
        member.objects.fail_next_puts(0, FailKind::BeforeGeneric);
    }
    let next = world.passing(waiting).await.expect("no panic").expect("takes over");
    assert!(next.token() > token);
    world.crash(guard).await;
}

#[tokio::test]
async fn it_is_renewed_on_demand_and_payloads_reach_the_members() {
    let world = World::of(3);
    let guard = world.acquire().await;
    world.pass(5 * SECOND).await;
    let before = guard.remaining();
    guard.renew().await.expect("renews");
    assert!(guard.remaining() > before);
    world.set(&[(2, Line::Down)]);
    let payload = Payload::from_json_str("{\"at\":3}").expect("is JSON");
    guard.set_payload(payload.clone()).await.expect("a majority is enough");
    for member in &world.members[..2] {
        assert_eq!(member.record().expect("is there").payload, Some(payload.clone()));
    }
    world.set(&[(1, Line::Down)]);
    let failed = world.passing(guard.renew()).await.expect_err("one is too few");
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    assert!(guard.is_held(), "until its time is over");
}

// ---------------------------------------------------------------------------------- members that fail

#[tokio::test]
async fn without_one_of_three_it_is_acquired_held_renewed_and_released() {
    for line in [Line::Down, Line::Hanging] {
        for missing in 0..3 {
            let world = World::of(3);
            world.set(&[(missing, line)]);
            let lock = world.lock().await;
            let (guard, took) = world.timed(lock.acquire()).await;
            let guard = guard.expect("two of three are enough");
            assert!(took < SECOND / 2, "{line:?}: it has waited for {missing}: {took:?}");
            world.pass(100 * SECOND).await;
            assert!(guard.is_held());
            let info = world.passing(lock.inspect()).await.expect("a majority answers");
            assert_eq!(info.state, Some(LockState::Held));
            assert!(info.members[missing].answer.is_err());
            let (released, took) = world.timed(guard.release()).await;
            assert_eq!(released.expect("releases"), Release::Released);
            assert!(took < SECOND / 2, "{line:?}: it has waited for {missing}: {took:?}");
        }
    }
}

#[tokio::test]
async fn without_two_of_three_nothing_is_acquired_and_the_error_says_why() {
    let world = World::of(3);
    world.set(&[(0, Line::Down), (2, Line::Down)]);
    let lock = world.lock().await;
    let error = world.passing(lock.try_acquire()).await.expect_err("no majority");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains("1 of 3 stores answered, 2 failed, and 2 are needed"),
        "{error}"
    );
    let source = std::error::Error::source(&error).expect("has a cause").to_string();
    assert!(source.contains("cut off"), "{source}");
    assert_eq!(world.members[1].objects.counts().writes(), 0);
    let error = world.passing(lock.inspect()).await.expect_err("no majority");
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    let (error, took) = world.timed(lock.acquire_timeout(10 * SECOND)).await;
    assert_eq!(error.expect_err("no majority").kind(), ErrorKind::Unavailable);
    assert!((10 * SECOND..15 * SECOND).contains(&took), "{took:?}");
    let (error, took) = world.timed(lock.acquire()).await;
    assert_eq!(error.expect_err("no majority").kind(), ErrorKind::Unavailable);
    assert!((30 * SECOND..40 * SECOND).contains(&took), "{took:?}");

    let waiting = tokio::spawn(async move { lock.acquire().await });
    world.pass(10 * SECOND).await;
    world.set(&[(0, Line::Up)]);
    let guard = world.passing(waiting).await.expect("no panic").expect("acquires");
    assert!(guard.is_held());
}

#[tokio::test]
async fn the_loss_of_a_second_member_loses_it_before_anybody_else_can_have_it() {
    let world = World::of(3);
    let guard = world.acquire().await;
    world.pass(SECOND).await;
    world.set(&[(0, Line::Down)]);
    world.pass(100 * SECOND).await;
    assert!(guard.is_held());
    let token = guard.token();
    world.set(&[(1, Line::Down)]);
    // Others reach what this one does not: it alone is cut off.
    let others = World {
        members: world
            .members
            .iter()
            .map(|member| Member {
                raw: Arc::clone(&member.raw),
                line: member.line.clone(),
                objects: CountingStore::new(Arc::clone(&member.raw) as _),
            })
            .collect(),
        clock: world.clock.clone(),
    };
    let lock = others.lock().await;
    let waiting = tokio::spawn(async move { lock.acquire().await });
    let mut lost_at = None;
    let mut taken_at = None;
    for step in 0..400 {
        if !guard.is_held() {
            lost_at.get_or_insert(step);
        }
        if waiting.is_finished() {
            taken_at.get_or_insert(step);
        }
        world.clock.advance(SECOND / 10);
        breathe().await;
    }
    let next = waiting.await.expect("no panic").expect("takes over");
    assert!(next.token() > token);
    assert!(lost_at.expect("was lost") < taken_at.expect("was taken"));
    assert_eq!(guard.lost().await, LossReason::Unreachable);
}

#[tokio::test]
async fn a_member_that_is_broken_or_forgets_is_no_loss_and_two_are() {
    let world = World::of(3);
    let guard = world.acquire().await;
    breathe().await;
    let stores = world.stores().await;
    stores[0].lock("x").break_lease(Break::force()).await.expect("breaks");
    guard.renew().await.expect("a majority is enough");
    assert!(guard.is_held());
    world.members[1].forget();
    world.members[2].forget();
    assert!(guard.renew().await.is_err());
    assert!(!guard.is_held());
    assert_eq!(guard.lost().await, LossReason::RecordDeleted);
    assert_eq!(
        guard.release().await.expect("answers"),
        Release::AlreadyLost(LossReason::RecordDeleted)
    );
}

#[tokio::test]
async fn a_member_that_comes_back_is_entered_with_the_same_token() {
    let world = World::of(3);
    world.set(&[(2, Line::Down)]);
    let guard = world.acquire().await;
    world.pass(60 * SECOND).await;
    assert_eq!(world.members[2].holder(), None);
    world.set(&[(2, Line::Up)]);
    world.pass(45 * SECOND).await;
    assert_eq!(world.members[2].holder(), Some(guard.token()));
    // It counts: another may fail now.
    world.set(&[(0, Line::Hanging)]);
    world.pass(100 * SECOND).await;
    assert!(guard.is_held());
    assert!(world.members[2].record().expect("is there").holders[0].renewals > 5);
    // And come back as well, after its entry has expired.
    let before = world.members[0].record().expect("is there");
    world.set(&[(0, Line::Up)]);
    world.pass(45 * SECOND).await;
    world.set(&[(1, Line::Hanging)]);
    world.pass(100 * SECOND).await;
    let after = world.members[0].record().expect("is there");
    assert_eq!(after.holders[0].token, guard.token());
    assert_ne!(
        after.holders[0].id, before.holders[0].id,
        "an identity that was out does not come back"
    );
    assert!(guard.is_held());
    world.set(&[(1, Line::Up)]);
    let released = world.passing(guard.release()).await.expect("releases");
    assert_eq!(released, Release::Released);
    world.pass(5 * SECOND).await;
    assert_eq!(world.holders()[0], None);
    assert_eq!(world.holders()[2], None);
}

#[tokio::test]
async fn a_break_at_a_majority_ends_the_lock_however_slowly_it_is_done() {
    let world = World::of(3);
    let guard = world.acquire().await;
    breathe().await;
    let stores = world.stores().await;
    stores[1].lock("x").break_lease(Break::force()).await.expect("breaks");
    world.pass(60 * SECOND).await;
    assert!(guard.is_held(), "a minority");
    assert_eq!(world.members[1].holder(), None, "who broke it there meant it");
    stores[0].lock("x").break_lease(Break::force()).await.expect("breaks");
    world.pass(25 * SECOND).await;
    assert!(matches!(guard.lost().await, LossReason::Broken { .. }));
}

#[tokio::test]
async fn a_member_that_has_lost_its_record_is_entered_again() {
    let world = World::of(3);
    let guard = world.acquire().await;
    breathe().await;
    world.members[1].forget();
    world.pass(25 * SECOND).await;
    assert_eq!(world.holders(), [Some(guard.token()); 3]);
    // Who comes next has a larger token than any, also at the one that has forgotten.
    let (token, issued) = (guard.token(), world.members[1].record().expect("is there").token);
    assert!(issued > token, "its counter starts from its own time");
    guard.release().await.expect("releases");
    assert!(world.acquire().await.token() > issued);
}

/// It may have issued larger tokens than the others tell of. Its own time does tell.
#[tokio::test]
async fn a_member_that_has_lost_its_record_does_not_vote_late() {
    let world = World::of(3);
    let guard = world.acquire().await;
    breathe().await;
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    // As if they had been made long ago.
    for member in &world.members[..2] {
        let mut record = member.record().expect("is there");
        record.token = FencingToken::new(record.token.get() - 3_600_000_000).expect("is positive");
        let body = record.encode().expect("is small").into();
        member.raw.put(&"x.lock".into(), body).now_or_never().expect("at once").expect("writes");
    }
    world.members[2].forget();
    world.set(&[(2, Line::Hanging)]);
    let guard = world.acquire().await;
    world.set(&[(2, Line::Up)]);
    breathe().await;
    let issued = || world.members[2].record().map(|record| record.token);
    assert!(issued().is_none_or(|issued| issued > guard.token()), "{:?}", issued());
    world.pass(25 * SECOND).await;
    assert_eq!(world.members[2].holder(), Some(guard.token()), "entered behind the guard");
    assert!(issued() > Some(guard.token()));
}

#[tokio::test]
async fn a_slow_member_is_not_waited_for_and_enters_late() {
    let world = World::of(3);
    world.members[2].objects.hold_puts();
    let lock = world.lock().await;
    let (guard, took) = world.timed(lock.acquire()).await;
    let guard = guard.expect("acquires");
    assert!(took < SECOND / 2, "{took:?}");
    assert_eq!(world.members[2].holder(), None);
    world.members[2].objects.release_puts();
    breathe().await;
    assert_eq!(world.members[2].holder(), Some(guard.token()), "without a repair");
    world.set(&[(0, Line::Down)]);
    world.pass(60 * SECOND).await;
    assert!(guard.is_held());
}

#[tokio::test]
async fn what_lands_after_the_release_is_undone() {
    let world = World::of(3);
    world.members[2].objects.hold_puts();
    let guard = world.acquire().await;
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    world.members[2].objects.release_puts();
    world.pass(5 * SECOND).await;
    assert_eq!(world.holders(), [None; 3]);
}

// -------------------------------------------------------------------------- tokens, and who is undone

#[tokio::test]
async fn tokens_rise_whichever_majority_makes_an_acquisition() {
    let world = World::of(3);
    let mut last = None;
    for missing in [0, 1, 2, 2, 1, 0, 1, 0, 2] {
        world.set(&[(missing, Line::Down)]);
        let guard = world.acquire().await;
        assert!(Some(guard.token()) > last, "without {missing}");
        last = Some(guard.token());
        world.passing(guard.release()).await.expect("releases");
        world.set(&[(missing, Line::Up)]);
    }
}

#[tokio::test]
async fn tokens_rise_when_a_minority_forgets() {
    let world = World::of(3);
    let mut last = None;
    for forgetful in [0, 1, 2, 0, 1] {
        let guard = world.acquire().await;
        breathe().await;
        assert!(Some(guard.token()) > last);
        last = Some(guard.token());
        guard.release().await.expect("releases");
        breathe().await;
        world.members[forgetful].forget();
    }
    // The one that has forgotten and one that has seen little decide.
    world.members[0].forget();
    world.set(&[(2, Line::Down)]);
    assert!(Some(world.acquire().await.token()) > last);
}

#[tokio::test]
async fn a_member_ahead_of_the_others_is_followed() {
    let world = World::of(3);
    drop(world.acquire().await);
    world.pass(SECOND).await;
    // Acquired on its own, many times: its counter is ahead.
    let store = world.stores().await.remove(1);
    for _ in 0..5 {
        store.lock("x").acquire().await.expect("acquires").release().await.expect("releases");
    }
    let ahead = world.members[1].record().expect("is there").token;
    // Without it nobody knows, and it does not vote when it is back. It is entered all the same.
    world.set(&[(1, Line::Down)]);
    let guard = world.acquire().await;
    assert!(guard.token() < ahead);
    world.set(&[(1, Line::Up)]);
    world.pass(45 * SECOND).await;
    assert_eq!(world.members[1].holder(), Some(guard.token()));
    assert_eq!(world.members[1].record().expect("is there").token, ahead, "never decreases");
    guard.release().await.expect("releases");
    breathe().await;
    let guard = world.acquire().await;
    assert_eq!(guard.token().get(), ahead.get() + 1);
}

#[tokio::test]
async fn a_minoritys_entry_is_undone() {
    let world = World::of(3);
    drop(world.acquire().await);
    world.pass(SECOND).await;
    let lock = world.lock().await;
    // They can be read and not written.
    for member in &world.members[1..] {
        member.objects.fail_next_puts(u64::MAX, FailKind::BeforeGeneric);
    }
    let error = world.passing(lock.try_acquire()).await.expect_err("no majority");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(world.members[0].objects.counts().writes() > 2, "it was entered");
    world.pass(SECOND).await;
    assert_eq!(world.members[0].holder(), None);
}

#[tokio::test]
async fn writes_that_land_after_the_attempt_was_given_up_are_undone() {
    let world = World::of(3);
    drop(world.acquire().await);
    world.pass(SECOND).await;
    for member in &world.members[1..] {
        member.objects.hold_puts();
    }
    let lock = world.lock().await;
    let waiting = tokio::spawn(async move { lock.acquire().await.map(drop) });
    breathe().await;
    assert!(world.members[0].holder().is_some());
    waiting.abort();
    breathe().await;
    for member in &world.members[1..] {
        member.objects.release_puts();
    }
    world.pass(10 * SECOND).await;
    for member in &world.members[1..] {
        member.objects.land_abandoned().await;
    }
    assert_eq!(world.holders(), [None; 3]);
    assert!(world.acquire().await.is_held());
}

/// A has one member and B another; each needs the third, which one of them gets.
#[tokio::test]
async fn of_two_who_propose_the_same_token_one_wins_and_the_other_gets_a_larger_one() {
    for winner in 0..2 {
        let world = World::of(3);
        drop(world.acquire().await);
        world.pass(SECOND).await;
        let (a, b) = (world.stores().await, world.stores().await);
        let lock = |stores: Vec<Store>| {
            Quorum::new(stores).expect("odd").lock("x").ttl(TTL).store_clock(false)
        };
        let (a, b) = (lock(a), lock(b));
        // Both have read before either writes.
        for member in &world.members {
            member.objects.hold_puts();
        }
        let mut tasks = vec![
            tokio::spawn(async move { a.acquire().await.expect("acquires") }),
            tokio::spawn(async move { b.acquire().await.expect("acquires") }),
        ];
        for member in &world.members {
            member.objects.wait_for_held(2).await;
        }
        for member in &world.members {
            member.objects.release_puts();
        }
        let first = loop {
            world.clock.advance(Duration::from_millis(20));
            breathe().await;
            if let Some(done) = tasks.iter().position(tokio::task::JoinHandle::is_finished) {
                break tasks.remove(done).await.expect("no panic");
            }
        };
        world.pass(SECOND * (1 + winner)).await;
        assert!(first.is_held() && !tasks[0].is_finished());
        // What the other has entered was undone, and the winner has joined there.
        world.pass(15 * SECOND).await;
        assert_eq!(world.holders(), [Some(first.token()); 3]);
        let token = first.token();
        first.release().await.expect("releases");
        let second = world.passing(tasks.remove(0)).await.expect("no panic");
        assert!(second.token() > token);
    }
}

// ----------------------------------------------------------------------------------- what it refuses

#[tokio::test]
async fn even_numbers_and_the_same_store_twice_are_refused() {
    let world = World::of(4);
    let error = Quorum::new(world.stores().await).expect_err("four");
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("4 stores"), "{error}");
    assert!(Quorum::new([]).is_err());
    let store = world.stores().await.remove(0);
    assert!(Quorum::new([store.clone()]).is_ok());
    let clones = Quorum::new([store.clone(), store.clone(), store]).expect_err("one store");
    assert_eq!(clones.kind(), ErrorKind::InvalidOptions);

    let places: Vec<_> = (0..2).map(|_| Place::on(Backend::File).expect("a directory")).collect();
    let (one, other) = (places[0].open().await, places[1].open().await);
    let again = places[0].open().await;
    assert!(Quorum::new([one.clone(), other, again]).is_err());
    let memory = || async { leaselock::open("memory:///").await.expect("opens") };
    let quorum = Quorum::new([one, memory().await, memory().await]).expect("all are others");
    assert_eq!(quorum.majority(), 2);
    assert_eq!(quorum.urls().count(), 3);
}

#[tokio::test]
async fn the_longest_hold_is_that_of_the_whole() {
    let world = World::of(3);
    let lock = world.lock().await.max_hold(40 * SECOND);
    let guard = world.passing(lock.acquire()).await.expect("acquires");
    world.pass(39 * SECOND).await;
    assert!(guard.is_held());
    world.pass(SECOND).await;
    assert!(!guard.is_held());
    assert_eq!(guard.lost().await, LossReason::MaxHold);
    drop(guard);
    world.pass(SECOND).await;
    assert_eq!(world.holders(), [None; 3]);
}

#[tokio::test]
async fn shutting_down_a_minority_is_borne_and_a_majority_is_not() {
    let world = World::of(3);
    let stores = world.stores().await;
    let quorum = Quorum::new(stores.clone()).expect("odd");
    let lock = quorum.lock("x").ttl(TTL).store_clock(false);
    let guard = lock.acquire().await.expect("acquires");
    breathe().await;
    let report = stores[0].shutdown().await;
    assert_eq!((report.released, report.unconfirmed), (1, 0));
    assert!(guard.is_held());
    world.pass(60 * SECOND).await;
    assert!(guard.is_held());
    assert_eq!(world.holders(), [None, Some(guard.token()), Some(guard.token())]);
    stores[1].shutdown().await;
    assert!(!guard.is_held());
    assert!(guard.lost().now_or_never().is_none(), "it was given back");
    world.pass(5 * SECOND).await;
    let error = world.passing(lock.try_acquire()).await.expect_err("is shut down");
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

// ------------------------------------------------------------------------------ with real concurrency

/// Contends from several threads; nobody's increments may be lost.
async fn nobody_is_inside_with_another(stores: Vec<Vec<Store>>, rounds: u64) {
    let (referee, counter) = (Overlap::new(), Arc::new(AtomicU64::new(0)));
    let racers = stores.len() as u64;
    let tasks = stores.into_iter().map(|stores| {
        let (referee, counter) = (referee.clone(), Arc::clone(&counter));
        tokio::spawn(async move {
            let quorum = Quorum::new(stores).expect("odd");
            for _ in 0..rounds {
                let guard = quorum.lock("contended").acquire().await.expect("acquires");
                let inside = referee.enter(guard.token().get());
                let seen = counter.load(Ordering::Relaxed);
                tokio::task::yield_now().await;
                counter.store(seen + 1, Ordering::Relaxed);
                assert!(guard.is_held());
                drop(inside);
                assert_eq!(guard.release().await.expect("releases"), Release::Released);
            }
        })
    });
    for task in join_all(tasks.collect::<Vec<_>>()).await {
        task.expect("no task fails");
    }
    assert_eq!(referee.assert_clean().entries, racers * rounds);
    assert_eq!(counter.load(Ordering::Relaxed), racers * rounds);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_never_hold_it_at_once_in_directories() {
    for members in [1, 3, 5] {
        let places: Vec<_> =
            (0..members).map(|_| Place::on(Backend::File).expect("a directory")).collect();
        let open = || join_all(places.iter().map(Place::open));
        let stores = join_all((0..4).map(|_| open())).await;
        nobody_is_inside_with_another(stores, 5).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_never_hold_it_at_once_while_members_come_and_go() {
    let lines: Vec<_> = (0..3).map(|_| RemoteStore::in_memory()).collect();
    let open = || async {
        let stores = lines.iter().map(|line| {
            Store::from_object_store(line.as_store()).check_preconditions(false).open()
        });
        let stores = join_all(stores).await;
        stores.into_iter().map(|store| store.expect("opens")).collect::<Vec<_>>()
    };
    let stores = join_all((0..4).map(|_| open())).await;
    let contending = nobody_is_inside_with_another(stores, 8);
    let mischief = async {
        for turn in 0.. {
            let line = &lines[turn % 3];
            line.set(if turn % 2 == 0 { Line::Down } else { Line::Hanging });
            tokio::time::sleep(Duration::from_millis(60)).await;
            line.set(Line::Up);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = contending => {}
        () = mischief => unreachable!("never ends"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_servers_of_several_kinds() {
    let kinds = [Backend::Ministack, Backend::Seaweedfs, Backend::Azurite];
    let Some(places) = kinds.into_iter().map(Place::on).collect::<Option<Vec<_>>>() else {
        return;
    };
    let open = || join_all(places.iter().map(Place::open));
    nobody_is_inside_with_another(join_all((0..3).map(|_| open())).await, 2).await;

    let quorum = Quorum::new(open().await).expect("odd");
    let lock = quorum.lock("x").ttl(2 * SECOND);
    let guard = lock.acquire().await.expect("acquires");
    tokio::time::sleep(3 * SECOND).await;
    assert!(guard.is_held());
    let info = lock.inspect().await.expect("reads");
    assert_eq!((info.state, info.token), (Some(LockState::Held), Some(guard.token())));
    // A minority is nothing; it is entered again.
    places[1].delete("x.lock").await;
    let entered = async {
        loop {
            let info = lock.inspect().await.expect("reads");
            let answer = info.members[1].answer.as_ref().expect("answers");
            if answer.holders.first().is_some_and(|holder| holder.token == guard.token()) {
                return;
            }
            tokio::time::sleep(SECOND / 10).await;
        }
    };
    tokio::time::timeout(LONG, entered).await.expect("is entered again");
    assert!(guard.is_held());
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
}
