//! How those wait who want a lock that others get again and again.

use std::time::Duration;

use leaselock::{Lock, LockGuard, Polling, Store};
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
        Self {
            clock: ManualClock::new(),
            objects: CountingStore::in_memory().ignoring(".leaselock/time"),
        }
    }

    async fn process(&self) -> Store {
        self.clock.process(self.objects.as_store()).open().await.expect("opens")
    }

    async fn lock(&self) -> Lock {
        self.process().await.lock("x").ttl(TTL)
    }

    /// Somebody who looks so often that no holder is missed.
    fn waiter(&self, lock: Lock) -> JoinHandle<LockGuard> {
        let often = Polling::fast().longest(Duration::from_millis(50));
        let lock = lock.polling(often);
        tokio::spawn(async move { lock.acquire().await.expect("acquires") })
    }

    /// Others have the lock one after the other, and are there again before anybody has looked.
    async fn goes_around(&self, times: usize) -> LockGuard {
        let others = self.lock().await;
        let mut guard = others.acquire().await.expect("acquires");
        for _ in 0..times {
            self.clock.pass(SECOND).await;
            guard.release().await.expect("releases");
            guard = others.acquire().await.expect("acquires");
        }
        self.clock.pass(SECOND).await;
        guard
    }

    /// How many wait in the queue.
    async fn tickets(&self) -> usize {
        self.lock().await.inspect().await.expect("reads").waiters.len()
    }
}

#[tokio::test]
async fn whoever_is_overtaken_takes_a_ticket() {
    let world = World::new();
    let guard = world.goes_around(0).await;
    let waiting = world.waiter(world.lock().await);
    breathe().await;
    world.clock.pass(5 * SECOND).await;
    assert_eq!(world.tickets().await, 0, "one holder, however long, overtakes nobody");
    guard.release().await.expect("releases");
    let guard = world.goes_around(0).await;
    assert_eq!(world.tickets().await, 1);
    // Nobody does any more.
    guard.release().await.expect("releases");
    assert!(world.lock().await.try_acquire().await.expect("reads").acquired().is_none());
    let guard = world.clock.passing(waiting).await.expect("no panic");
    assert!(guard.is_held());
    guard.release().await.expect("releases");
}

#[tokio::test]
async fn whoever_was_overtaken_lately_takes_a_ticket_at_once() {
    let world = World::new();
    let guard = world.goes_around(0).await;
    let lock = world.lock().await;
    let waiting = world.waiter(lock.clone());
    breathe().await;
    world.clock.pass(SECOND).await;
    guard.release().await.expect("releases");
    let guard = world.goes_around(0).await;
    guard.release().await.expect("releases");
    let own = world.clock.passing(waiting).await.expect("no panic");
    own.release().await.expect("releases");
    for (later, tickets) in [(SECOND, 1), (20 * SECOND, 0)] {
        world.clock.pass(later).await;
        let guard = world.goes_around(0).await;
        let waiting = world.waiter(lock.clone());
        breathe().await;
        world.clock.pass(2 * SECOND).await;
        assert_eq!(world.tickets().await, tickets, "after {later:?}");
        guard.release().await.expect("releases");
        let own = world.clock.passing(waiting).await.expect("no panic");
        own.release().await.expect("releases");
    }
}

#[tokio::test]
async fn nobody_takes_a_ticket_who_does_not_want_to_or_cannot() {
    let world = World::new();
    let guard = world.goes_around(0).await;
    let plain = world.lock().await;
    let waiting = [
        world.waiter(plain.clone().queue_when_overtaken(false)),
        world.waiter(plain.clone().note("of one holder")),
        world.waiter(plain.clone().keeper(false)),
        world.waiter(plain.clone().renew_every(2 * SECOND)),
    ];
    breathe().await;
    world.clock.pass(SECOND).await;
    guard.release().await.expect("releases");
    let guard = world.goes_around(4).await;
    assert_eq!(world.tickets().await, 0);
    waiting.iter().for_each(JoinHandle::abort);
    guard.release().await.expect("releases");
}

#[tokio::test]
async fn where_no_session_can_be_written_one_waits_without_a_ticket() {
    let world = World::new();
    let guard = world.goes_around(0).await;
    let waiting = world.waiter(world.lock().await);
    breathe().await;
    world.clock.pass(SECOND).await;
    guard.release().await.expect("releases");
    let guard = world.lock().await.acquire().await.expect("acquires");
    // The next writes are those of the session.
    world.objects.reset();
    world.objects.fail_next_puts(u64::MAX, FailKind::BeforeDenied);
    world.clock.pass(3 * SECOND).await;
    assert!(world.objects.counts().creates > 0, "it was tried");
    world.objects.fail_next_puts(0, FailKind::BeforeDenied);
    world.clock.pass(3 * SECOND).await;
    assert_eq!(world.tickets().await, 0);
    guard.release().await.expect("releases");
    let guard = world.clock.passing(waiting).await.expect("no panic");
    assert!(guard.is_held());
    guard.release().await.expect("releases");
}

#[tokio::test]
async fn nobody_takes_a_ticket_at_the_end_of_its_limit() {
    let world = World::new();
    // Nobody looks for renewals that do not come.
    let others = world.lock().await.keeper(false);
    let first = others.acquire().await.expect("acquires");
    // A look after 7.5 to 10 s, and one at the end.
    let rarely = Polling::new().shortest(10 * SECOND).longest(10 * SECOND);
    let lock = world.lock().await.polling(rarely);
    let waiting = tokio::spawn(async move { lock.acquire_timeout(11 * SECOND).await });
    breathe().await;
    world.clock.pass(SECOND * 21 / 2).await;
    first.release().await.expect("releases");
    let second = others.acquire().await.expect("acquires");
    world.objects.reset();
    world.clock.pass(SECOND / 2).await;
    let attempt = waiting.await.expect("no panic").expect("reads");
    assert!(attempt.acquired().is_none());
    assert_eq!(world.objects.counts().writes(), 0);
    assert!(second.is_held());
}

#[tokio::test]
async fn whatever_happens_there_are_no_more_reads_in_a_minute_than_are_allowed() {
    let world = World::new();
    let others = world.lock().await;
    let mut guard = others.acquire().await.expect("acquires");
    let own = CountingStore::new(world.objects.as_store());
    let process = world.clock.process(own.as_store()).open().await.expect("opens");
    let lock = process.lock("x").ttl(TTL).queue_when_overtaken(false);
    let waiting = tokio::spawn(async move { lock.acquire_timeout(60 * SECOND).await });
    breathe().await;
    for _ in 0..119 {
        world.clock.pass(SECOND / 2).await;
        guard.release().await.expect("releases");
        guard = others.acquire().await.expect("acquires");
    }
    world.clock.advance(Duration::from_millis(499));
    breathe().await;
    let reads = own.counts().reads();
    assert!((26..=30).contains(&reads), "{reads}");
    waiting.abort();
    assert!(guard.is_held());
}

#[tokio::test]
async fn whoever_looks_often_does_not_wait_behind_somebody_who_looks_rarely() {
    let world = World::new();
    let guard = world.lock().await.acquire().await.expect("acquires");
    let lock = world.lock().await;
    let rarely = lock.clone().polling(Polling::new().shortest(20 * SECOND).longest(20 * SECOND));
    let patient = tokio::spawn(async move { rarely.acquire().await.map(drop) });
    breathe().await;
    let waiting = world.waiter(lock);
    breathe().await;
    world.clock.pass(SECOND).await;
    assert!(!waiting.is_finished());
    guard.release().await.expect("releases");
    world.clock.pass(SECOND).await;
    assert!(waiting.is_finished());
    assert!(!patient.is_finished());
    patient.abort();
}
