//! Leases that outlive the process that took them: what goes on with them, what does not, and what
//! that costs.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use leaselock::record::Record;
use leaselock::{
    Attempt, Break, DetachedLease, Error, ErrorKind, HolderId, Lock, LockState, LossReason,
    Payload, Release,
};
use leaselock_test_support::clock::{ManualClock, breathe, eventually};
use leaselock_test_support::counting::{CountingStore, Counts, FailKind};
use leaselock_test_support::on_every_store;
use leaselock_test_support::place::Place;
use leaselock_test_support::record::record_in;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

const TTL: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

on_every_store!(
    a_lease_goes_from_process_to_process,
    who_goes_on_with_a_lease_excludes_others_beyond_its_first_ttl,
    a_lease_that_somebody_broke_is_lost_to_who_comes_back,
);

async fn a_lease_goes_from_process_to_process(place: Place) {
    let lock = place.open().await.lock("x").keeper(false);
    let left = lock.acquire().await.expect("free").detach().await.expect("is held");
    let second = place.open().await.lock("x");
    assert!(matches!(second.try_acquire().await, Ok(Attempt::Held(_))), "nobody gave it back");
    let guard = second.resume(left.holder).await.expect("is on record");
    assert_eq!((guard.token(), guard.id()), (left.token, left.holder));
    assert!(guard.is_held());
    guard.renew().await.expect("renews");
    assert_eq!(guard.release().await.expect("releases"), Release::Released);

    let left = lock.acquire().await.expect("free").detach().await.expect("is held");
    place.open().await.lock("x").release_detached(left.holder).await.expect("is on record");
    let next = second.acquire().await.expect("free");
    assert!(next.token() > left.token);
    next.release().await.expect("releases");
}

async fn who_goes_on_with_a_lease_excludes_others_beyond_its_first_ttl(place: Place) {
    let ttl = 2 * SECOND;
    let lock = place.open().await.lock("x").ttl(ttl).keeper(false);
    let left = lock.acquire().await.expect("free").detach().await.expect("is held");
    let guard = place.open().await.lock("x").resume(left.holder).await.expect("is on record");
    let other = place.open().await.lock("x").ttl(ttl);
    // Twice the TTL: the keeper renews what was resumed.
    let waited = other.acquire_timeout(2 * ttl).await.expect("waits");
    assert!(matches!(waited, Attempt::Held(_)), "it was taken from a holder that is alive");
    assert!(guard.is_held());
    guard.release().await.expect("releases");
}

async fn a_lease_that_somebody_broke_is_lost_to_who_comes_back(place: Place) {
    let lock = place.open().await.lock("x").keeper(false);
    let left = lock.acquire().await.expect("free").detach().await.expect("is held");
    let order = Break::expecting(left.token).by("ops").reason("stuck");
    lock.break_lease(order).await.expect("is held");
    for error in [
        lock.resume(left.holder).await.map(drop).expect_err("is broken"),
        lock.release_detached(left.holder).await.expect_err("is broken"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Lost);
        assert!(error.to_string().contains("broken by ops: stuck"), "{error}");
    }
}

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

    /// Another process's.
    async fn lock(&self) -> Lock {
        let store = self.clock.process(self.objects.as_store()).open().await.expect("opens");
        store.lock("x").keeper(false)
    }

    /// A lease that a process has left.
    async fn left(&self) -> DetachedLease {
        let guard = self.lock().await.ttl(TTL).acquire().await.expect("free");
        let left = guard.detach().await.expect("is held");
        self.objects.reset();
        left
    }

    fn record(&self) -> Record {
        record_in(&self.raw, "x.lock").expect("is there")
    }

    fn renewals(&self, holder: HolderId) -> Option<u64> {
        self.record().lease(holder).map(|lease| lease.renewals)
    }

    async fn refuses(&self, holder: HolderId) -> Error {
        self.lock().await.resume(holder).await.map(drop).expect_err("is not to be had")
    }

    async fn is_free(&self) -> bool {
        self.lock().await.inspect().await.expect("reads").state == LockState::Free
    }
}

#[tokio::test]
async fn leaving_costs_nothing_and_the_rest_a_read_and_a_write_each() {
    let world = World::new();
    let guard = world.lock().await.acquire().await.expect("free");
    world.objects.reset();
    let left = guard.detach().await.expect("is held");
    assert_eq!(world.objects.counts(), Counts::default());
    let guard = world.lock().await.resume(left.holder).await.expect("is on record");
    let once = Counts { gets: 1, updates: 1, ..Counts::default() };
    assert_eq!(world.objects.counts(), once);
    let left = guard.detach().await.expect("is held");
    world.objects.reset();
    world.lock().await.release_detached(left.holder).await.expect("is on record");
    assert_eq!(world.objects.counts(), once);
    assert!(world.is_free().await);
}

#[tokio::test]
async fn nobody_renews_what_was_left() {
    let world = World::new();
    let store = world.clock.process(world.objects.as_store()).open().await.expect("opens");
    let lock = store.lock("x").ttl(TTL).local_handover(false).queue_when_overtaken(false);
    let guard = lock.acquire().await.expect("free");
    let left = guard.detach().await.expect("is held");
    assert_eq!((left.name.as_str(), left.ttl), ("x", TTL));
    world.clock.pass(2 * TTL).await;
    assert_eq!(world.renewals(left.holder), Some(0));
    // Neither does the end of the process that left it give it back.
    store.shutdown().await;
    assert_eq!(world.renewals(left.holder), Some(0));
}

#[tokio::test]
async fn a_lease_whose_time_is_over_is_resumed_while_nobody_has_taken_it() {
    let world = World::new();
    let left = world.left().await;
    world.clock.advance(10 * TTL);
    let guard = world.lock().await.resume(left.holder).await.expect("nobody else came");
    assert!(guard.remaining() > TTL / 2);
    assert_eq!(guard.token(), left.token);
    world.clock.advance(TTL);
    assert!(!guard.is_held(), "its TTL is that on record");
}

#[tokio::test]
async fn who_was_replaced_meanwhile_learns_so_and_changes_nothing() {
    let world = World::new();
    let left = world.left().await;
    world.clock.advance(2 * TTL);
    let lock = world.lock().await;
    let next = world.clock.passing(lock.acquire()).await.expect("has expired");
    let before = world.record();
    let error = world.refuses(left.holder).await;
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains(&next.token().to_string()), "{error}");
    let error = world.lock().await.release_detached(left.holder).await.expect_err("is lost");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert_eq!(world.record(), before);
    assert!(next.is_held());
}

#[tokio::test]
async fn what_was_given_back_is_gone_and_giving_it_back_twice_is_no_error() {
    let world = World::new();
    let left = world.left().await;
    for _ in 0..2 {
        world.lock().await.release_detached(left.holder).await.expect("is nobody's");
    }
    let error = world.refuses(left.holder).await;
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains("given back"), "{error}");
    world.raw.delete(&"x.lock".into()).await.expect("is there");
    let error = world.refuses(left.holder).await;
    assert!(error.to_string().contains("deleted"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Lost);
}

/// What is not confirmed is neither held nor given back.
#[tokio::test]
async fn a_renewal_that_failed_gives_nothing_back() {
    for kind in [FailKind::BeforeGeneric, FailKind::BeforeDenied] {
        let world = World::new();
        let left = world.left().await;
        world.objects.fail_next_puts(100, kind);
        let lock = world.lock().await;
        let resumed = world.clock.passing(lock.resume(left.holder)).await;
        resumed.map(drop).expect_err("nothing was written");
        breathe().await;
        world.objects.fail_next_puts(0, kind);
        assert_eq!(world.renewals(left.holder), Some(0));
        let guard = world.lock().await.resume(left.holder).await.expect("is still on record");
        assert_eq!(guard.token(), left.token);
        guard.release().await.expect("releases");
    }
}

/// Hazard H1: its own renewal is not taken for somebody else's.
#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_recognised() {
    for kind in [FailKind::AfterGeneric, FailKind::AfterPrecondition] {
        let world = World::new();
        let left = world.left().await;
        world.objects.fail_next_puts(1, kind);
        let lock = world.lock().await;
        let guard = world.clock.passing(lock.resume(left.holder)).await.expect("has landed");
        assert_eq!(world.renewals(left.holder), Some(1));
        guard.renew().await.expect("counts on from there");
        assert_eq!(world.renewals(left.holder), Some(2));
        guard.release().await.expect("releases");
    }
}

/// A call that was given up has left nothing that gives the lease back, nor anything that hinders the
/// next: its renewal may land as late as it likes.
#[tokio::test]
async fn a_resume_that_was_given_up_leaves_the_lease_to_the_next() {
    let world = World::new();
    let left = world.left().await;
    world.objects.hold_put_answers();
    let lock = world.lock().await;
    let mut resuming = Box::pin(lock.resume(left.holder));
    assert!(resuming.as_mut().now_or_never().is_none());
    world.objects.wait_for_held(1).await;
    drop(resuming);
    world.objects.release_puts();
    breathe().await;
    assert_eq!(world.renewals(left.holder), Some(1));
    assert!(!world.is_free().await, "a dropped call gave it back");
    let guard = world.lock().await.resume(left.holder).await.expect("is on record");
    guard.release().await.expect("releases");
    assert!(world.is_free().await);
}

/// The time of a slow answer counts: a guard is never handed out whose lease is over.
#[tokio::test]
async fn an_answer_that_comes_too_late_is_no_lease() {
    let world = World::new();
    let left = world.left().await;
    world.objects.hold_put_answers();
    let lock = world.lock().await;
    let mut resuming = Box::pin(lock.resume(left.holder));
    assert!(resuming.as_mut().now_or_never().is_none());
    world.objects.wait_for_held(1).await;
    // By the wall clock alone: no request is out of time.
    world.clock.move_wall(i64::try_from(TTL.as_micros()).expect("fits"));
    world.objects.release_puts();
    let error = resuming.await.map(drop).expect_err("is over");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    breathe().await;
    assert!(!world.is_free().await, "it is still for the next to go on with");
}

/// Hazard H22: two that go on with one lease; the first hears of it with its next write.
#[tokio::test]
async fn of_two_who_resume_the_first_has_lost_it() {
    let world = World::new();
    let left = world.left().await;
    let first = world.lock().await.resume(left.holder).await.expect("is on record");
    let second = world.lock().await.resume(left.holder).await.expect("is on record");
    world.clock.advance(SECOND);
    assert_eq!(first.renew().await.expect_err("is the other's").kind(), ErrorKind::Lost);
    assert_eq!(first.lost().await, LossReason::Cloned);
    drop(first);
    breathe().await;
    assert!(second.is_held());
    second.renew().await.expect("is its own");
    second.release().await.expect("releases");
}

/// Hazard H12: one write at a time, so no renewal of the one who left comes after.
#[tokio::test]
async fn leaving_waits_for_the_write_that_is_under_way() {
    let world = World::new();
    let guard = world.lock().await.acquire().await.expect("free");
    world.objects.hold_puts();
    let mut renewing = Box::pin(guard.renew());
    assert!(renewing.as_mut().now_or_never().is_none());
    world.objects.wait_for_held(1).await;
    drop(renewing);
    // And one that waits for its turn.
    assert!(guard.renew().now_or_never().is_none());
    let holder = guard.id();
    let mut leaving = Box::pin(guard.detach());
    assert!(leaving.as_mut().now_or_never().is_none(), "a write is under way");
    world.objects.release_puts();
    let left = leaving.await.expect("is held");
    breathe().await;
    let renewals = world.renewals(holder);
    world.objects.reset();
    breathe().await;
    assert_eq!((world.renewals(holder), world.objects.counts().writes()), (renewals, 0));
    let guard = world.lock().await.resume(left.holder).await.expect("is on record");
    guard.release().await.expect("releases");
}

#[tokio::test]
async fn leaving_is_given_up_by_dropping_it() {
    let world = World::new();
    let guard = world.lock().await.acquire().await.expect("free");
    world.objects.hold_puts();
    assert!(guard.renew().now_or_never().is_none());
    world.objects.wait_for_held(1).await;
    assert!(guard.detach().now_or_never().is_none());
    world.objects.release_puts();
    eventually("is given back", || world.record().holders.is_empty()).await;
}

#[tokio::test]
async fn a_lost_lease_cannot_be_left() {
    let world = World::new();
    let guard = world.lock().await.ttl(TTL).acquire().await.expect("free");
    world.clock.advance(TTL);
    assert_eq!(guard.detach().await.expect_err("is over").kind(), ErrorKind::Lost);
}

/// A lease that others hold by is not one's own to leave.
#[tokio::test]
async fn what_is_held_with_others_is_given_back_instead() {
    let world = World::new();
    let store = world.clock.process(world.objects.as_store()).open().await.expect("opens");
    let session = store.session().open().await.expect("opens");
    for lock in [store.lock("x"), store.lock("x").fair(), session.lock("x")] {
        let guard = lock.acquire().await.expect("free");
        let holder = guard.id();
        let error = guard.detach().await.expect_err("is no lease of its own");
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains("keeper(false)"), "{error}");
        eventually("is given back", || world.record().lease(holder).is_none()).await;
    }
    let guard = session.lock("x").acquire().await.expect("free");
    for error in [
        world.refuses(guard.id()).await,
        world.lock().await.release_detached(guard.id()).await.expect_err("is not left"),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains("session"), "{error}");
    }
    assert!(guard.is_held());
    guard.renew().await.expect("is untouched");
}

#[tokio::test]
async fn another_ttl_is_refused_and_a_payload_is_set() {
    let world = World::new();
    let left = world.left().await;
    let lock = world.lock().await;
    let error = lock.clone().ttl(2 * TTL).resume(left.holder).await.map(drop).expect_err("differs");
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("30s") && error.to_string().contains("60s"), "{error}");
    assert_eq!(world.renewals(left.holder), Some(0));
    let payload = Payload::from_json_str("{\"step\": 2}").expect("is JSON");
    let resuming = lock.ttl(TTL).payload(payload.clone());
    let guard = resuming.resume(left.holder).await.expect("is on record");
    assert_eq!(world.record().payload, Some(payload));
    guard.release().await.expect("releases");
}

#[tokio::test]
async fn another_kind_of_record_is_left_alone() {
    let world = World::new();
    let store = world.clock.process(world.objects.as_store()).open().await.expect("opens");
    store.latch("x", 2).arrive("a").await.expect("arrives");
    let holder = HolderId::from_random(1);
    let lock = world.lock().await;
    for error in [
        lock.resume(holder).await.map(drop).expect_err("is a latch"),
        lock.release_detached(holder).await.expect_err("is a latch"),
    ] {
        assert_eq!(error.kind(), ErrorKind::WrongKind);
    }
}

#[tokio::test]
async fn who_waits_in_the_queue_is_served_by_the_release() {
    let world = World::new();
    let left = world.left().await;
    let store = world.clock.process(world.objects.as_store()).open().await.expect("opens");
    let waiter = store.lock("x").ttl(TTL).fair();
    let waiting = tokio::spawn(async move { waiter.acquire().await });
    eventually("waits", || !world.record().waiters.is_empty()).await;
    world.lock().await.release_detached(left.holder).await.expect("is on record");
    assert_eq!(world.record().holders.len(), 1, "handed over in the same write");
    let guard = world.clock.passing(waiting).await.expect("no panic").expect("is served");
    assert!(guard.token() > left.token);
}
