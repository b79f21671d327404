//! Hand-over inside a process.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use leaselock::{Break, LeasePhase, LockGuard, LossReason, Release, Store};
use leaselock_test_support::clock::{ManualClock, breathe};
use leaselock_test_support::counting::CountingStore;

const TTL: Duration = Duration::from_secs(30);

struct World {
    clock: ManualClock,
    objects: CountingStore,
}

impl World {
    fn new() -> Self {
        Self {
            clock: ManualClock::new(),
            objects: CountingStore::in_memory().ignoring(".leaselock"),
        }
    }

    async fn process(&self) -> Store {
        Store::from_object_store(self.objects.as_store())
            .check_preconditions(false)
            .clock(Arc::new(self.clock.clone()))
            .open()
            .await
            .expect("opens")
    }
}

/// Somebody who waits for the lock, and has come to wait.
async fn waiter(store: &Store) -> tokio::task::JoinHandle<LockGuard> {
    let lock = store.lock("x").ttl(TTL);
    let waiting = tokio::spawn(async move { lock.acquire().await.expect("acquires") });
    breathe().await;
    waiting
}

async fn hold(store: &Store) -> LockGuard {
    store.lock("x").ttl(TTL).acquire().await.expect("acquires")
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
    for (number, next) in waiting.into_iter().enumerate() {
        let token = guard.token();
        assert_eq!(guard.release().await.expect("releases"), Release::Released);
        guard = next.await.expect("no panic");
        assert!(guard.is_held());
        assert!(guard.token() > token);
        assert_eq!(world.objects.counts().writes(), 1, "after {number}");
    }
    assert_eq!(world.objects.counts().reads(), 0);
    let last = guard.token();
    assert_eq!(guard.release().await.expect("releases"), Release::Released);
    assert_eq!(world.objects.counts().writes(), 2, "given back when nobody waits");
    let other = hold(&world.process().await).await;
    assert!(other.token() > last);
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
