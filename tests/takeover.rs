//! How soon a waiter has the lock of a holder that is gone.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use leaselock::clock::{Boot, Clock, Moment};
use leaselock::{Lock, Store};
use leaselock_test_support::clock::{ManualClock, breathe};
use leaselock_test_support::counting::{CountingStore, FailKind};

/// What the bound leaves to a test that moves its clock by a tenth of a second at a time.
const STEPS: Duration = Duration::from_millis(200);

/// A machine whose wall clock is wrong by so many seconds.
#[derive(Debug)]
struct Wrong(ManualClock, i64);

impl Clock for Wrong {
    fn now(&self) -> Moment {
        let Moment { boot, wall } = self.0.now();
        let by = Duration::from_secs(self.1.unsigned_abs());
        Moment { boot, wall: if self.1 < 0 { wall.minus(by) } else { wall.plus(by) } }
    }

    fn sleep_until(&self, until: Boot) -> BoxFuture<'static, ()> {
        self.0.sleep_until(until)
    }
}

/// One who holds a lock until it dies, and one who waits for it.
struct Pair {
    clock: ManualClock,
    objects: CountingStore,
    ttl: Duration,
    /// By how many seconds the waiter's wall clock is wrong.
    wrong: i64,
    with: fn(Lock) -> Lock,
}

impl Pair {
    fn new(ttl: u64, wrong: i64, with: fn(Lock) -> Lock) -> Self {
        let objects = CountingStore::in_memory().ignoring(".leaselock/time");
        let ttl = Duration::from_secs(ttl);
        Self { clock: ManualClock::new(), objects, ttl, wrong, with }
    }

    fn lock(&self, store: &Store) -> Lock {
        (self.with)(store.lock("x").ttl(self.ttl))
    }

    /// How long after its last renewal the lock is taken from a holder that dies `until_death` after it
    /// got it, when somebody waits from `until_wait` on; and how often that one has read per minute.
    async fn takes_over(&self, until_wait: Duration, until_death: Duration) -> (Duration, u64) {
        let its_own = CountingStore::new(self.objects.as_store());
        let holder = self.clock.process(its_own.as_store()).open().await.expect("opens");
        let guard = self.lock(&holder).acquire().await.expect("acquires");
        let last = Arc::new(std::sync::Mutex::new(self.clock.now().boot));
        let (clock, renewed) = (self.clock.clone(), Arc::clone(&last));
        its_own.on_put(move |_, _, _| *renewed.lock().expect("no panic") = clock.now().boot);

        self.clock.pass(until_wait).await;
        let its_own_too = CountingStore::new(self.objects.as_store());
        let wrong = Arc::new(Wrong(self.clock.clone(), self.wrong));
        let process = self.clock.process(its_own_too.as_store()).clock(wrong);
        let waiter = process.open().await.expect("opens");
        let lock = self.lock(&waiter);
        let waiting = tokio::spawn(async move { lock.acquire().await });
        breathe().await;
        its_own_too.reset();
        let death = self.clock.now().boot.plus(until_death - until_wait);
        self.clock.passing(self.clock.sleep_until(death)).await;
        let reads = its_own_too.counts().reads();
        let last = *last.lock().expect("no panic");
        its_own.fail_next_puts(u64::MAX, FailKind::BeforeDenied);

        let taken = self.clock.passing(waiting).await.expect("no panic").expect("acquires");
        let after = self.clock.now().boot.since(last);
        assert!(!guard.is_held());
        taken.release().await.expect("releases");
        let minutes = (until_death - until_wait).div_duration_f64(Duration::from_secs(60));
        (after, (reads as f64 / minutes) as u64)
    }

    async fn is_in_time(&self, until_wait: Duration, until_death: Duration) {
        let (after, reads) = self.takes_over(until_wait, until_death).await;
        let bound = self.ttl * 105 / 100 + Duration::from_millis(300) + STEPS;
        let told = format!(
            "TTL {:?}: who waits from {until_wait:?} on for one who dies after {until_death:?} has \
             the lock {after:?} after the last renewal, and {reads} reads a minute",
            self.ttl
        );
        assert!(after <= bound && after >= self.ttl, "{told}");
    }
}

fn seconds(count: f64) -> Duration {
    Duration::from_secs_f64(count)
}

fn plain(lock: Lock) -> Lock {
    lock
}

#[tokio::test]
async fn a_waiter_has_the_lock_of_a_dead_holder_soon_after_it_expires() {
    let pair = Pair::new(30, 0, plain);
    for until_wait in [0.4, 4.0, 8.5] {
        for until_death in [19.0, 35.0, 41.0, 58.0, 127.0] {
            pair.is_in_time(seconds(until_wait), seconds(until_death)).await;
        }
    }
}

#[tokio::test]
async fn clocks_that_disagree_make_it_wait_no_longer_once_it_has_seen_a_few_renewals() {
    for wrong in [3, -3, 3600, -3600] {
        let pair = Pair::new(30, wrong, plain);
        for until_death in [64.0, 79.0, 127.0] {
            pair.is_in_time(seconds(4.0), seconds(until_death)).await;
        }
    }
}

#[tokio::test]
async fn whoever_is_first_in_the_queue_has_it_as_soon() {
    let pair = Pair::new(30, 0, Lock::fair);
    for until_death in [19.0, 35.0, 58.0, 127.0] {
        pair.is_in_time(seconds(4.0), seconds(until_death)).await;
    }
}

#[tokio::test]
async fn short_leases_are_watched_as_well_for_as_long_as_the_reads_last() {
    let pair = Pair::new(3, 0, plain);
    for until_death in [2.0, 2.9, 4.1, 5.0] {
        pair.is_in_time(seconds(0.1), seconds(until_death)).await;
    }
    let pair = Pair::new(25, 0, plain);
    for until_death in [19.0, 35.0, 58.0, 67.0, 127.0, 301.0] {
        pair.is_in_time(seconds(3.0), seconds(until_death)).await;
    }
}
