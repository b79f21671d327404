//! An acquisition knows its own writes, and its id is in the record for one stay at most.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use leaselock::record::Record;
use leaselock::{Attempt, Break, HolderId, Lock, LockGuard, Result, Store};
use leaselock_test_support::clock::ManualClock;
use leaselock_test_support::counting::{CountingStore, FailKind};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tokio::task::JoinHandle;

const TTL: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(500);

/// One process: its way to the store fails on command, its clock is moved by hand.
struct Process {
    objects: CountingStore,
    clock: ManualClock,
    lock: Lock,
}

impl Process {
    async fn on(inner: &Arc<dyn ObjectStore>, clock: &ManualClock) -> Self {
        let objects = CountingStore::new(Arc::clone(inner)).ignoring(".leaselock");
        let store = Store::from_object_store(objects.as_store())
            .check_preconditions(false)
            .clock(Arc::new(clock.clone()));
        let store = store.open().await.expect("opens");
        let lock = store.lock("x").ttl(TTL).store_clock(false);
        Self { objects, clock: clock.clone(), lock }
    }

    async fn holds_nothing_yet(&self) -> bool {
        matches!(self.lock.try_acquire().await.expect("looks"), Attempt::Held(_))
    }

    fn acquiring(&self) -> JoinHandle<Result<LockGuard>> {
        let lock = self.lock.clone();
        tokio::spawn(async move { lock.acquire().await })
    }

    /// Lets time pass in small steps until it is so.
    async fn pass_until(&self, what: &str, condition: impl Fn() -> bool) {
        for _ in 0..200 {
            if condition() {
                return;
            }
            self.clock.advance(STEP);
            breathe().await;
        }
        panic!("never: {what}");
    }
}

/// Gives the library's thread the time to do what is due.
#[allow(clippy::disallowed_methods, reason = "real time, for another thread")]
async fn breathe() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// An acquisition of `one` that has landed without `one` knowing, was seen by `other`, and then
/// broken; as its entry named it.
async fn put_out_unawares(
    one: &Process,
    other: &Process,
) -> (JoinHandle<Result<LockGuard>>, HolderId) {
    let landed = Arc::new(Mutex::new(None));
    let (note, objects) = (Arc::clone(&landed), one.objects.clone());
    one.objects.on_put(move |_, _, body| {
        let record = Record::decode(body).expect("is a record");
        note.lock().expect("no panic").get_or_insert(record.holders[0].id);
        // What became of it cannot be read back.
        objects.fail_gets(true);
    });
    one.objects.fail_next_puts(1, FailKind::AfterGeneric);
    let acquiring = one.acquiring();
    other.pass_until("the write has landed", || one.objects.counts().creates == 1).await;
    assert!(other.holds_nothing_yet().await);
    other.lock.break_lease(Break::force()).await.expect("breaks");
    let id = landed.lock().expect("no panic").take().expect("was written");
    one.objects.on_put(|_, _, _| {});
    (acquiring, id)
}

#[tokio::test]
async fn an_acquisition_that_was_put_out_unawares_comes_back_as_another() {
    let (inner, clock): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), ManualClock::new());
    let (one, other) = (Process::on(&inner, &clock).await, Process::on(&inner, &clock).await);
    let (acquiring, id) = put_out_unawares(&one, &other).await;
    one.objects.fail_gets(false);
    one.pass_until("it acquires", || acquiring.is_finished()).await;
    let guard = acquiring.await.expect("no panic").expect("acquires");
    assert_ne!(guard.id(), id);
}

#[tokio::test]
async fn a_lease_acquired_again_is_watched_anew() {
    let (inner, clock): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), ManualClock::new());
    let (one, other) = (Process::on(&inner, &clock).await, Process::on(&inner, &clock).await);
    // `other` has seen the entry, and looks again when a lease could have passed.
    let (acquiring, _) = put_out_unawares(&one, &other).await;
    for _ in 0..22 {
        clock.advance(STEP);
        breathe().await;
    }
    one.objects.fail_gets(false);
    one.pass_until("it acquires", || acquiring.is_finished()).await;
    let guard = acquiring.await.expect("no panic").expect("acquires");
    assert!(other.holds_nothing_yet().await, "a lease that has just begun is not over");
    assert!(guard.is_held());
}

#[tokio::test]
async fn an_earlier_write_of_ones_own_that_refuses_a_later_one_is_claimed() {
    let (inner, clock): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), ManualClock::new());
    let one = Process::on(&inner, &clock).await;
    one.objects.hold_puts();
    let acquiring = one.acquiring();
    // All attempts of the first write hang, and it is not known what became of them; then the
    // contender decides anew, with another body.
    one.pass_until("a second write", || one.objects.abandoned() >= 3 && one.objects.held() == 1)
        .await;
    let landed = one.objects.land_abandoned().await;
    assert!(landed[0].is_ok(), "{landed:?}");
    one.objects.release_puts();
    one.pass_until("it knows", || acquiring.is_finished()).await;
    let guard = acquiring.await.expect("no panic").expect("acquires");
    assert!(guard.is_held());
}
