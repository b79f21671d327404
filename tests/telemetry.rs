//! What operators see: every metric is counted. In a process of its own, as there is one recorder.

use std::collections::BTreeMap;
use std::time::Duration;

use leaselock::{Break, Store};
use leaselock_test_support::counting::{CountingStore, FailKind};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// The counters and the number of samples of each histogram, with their labels.
fn seen(snapshotter: &Snapshotter) -> BTreeMap<String, u64> {
    let entries = snapshotter.snapshot().into_vec().into_iter();
    let value = |value| match value {
        DebugValue::Counter(count) => count,
        DebugValue::Histogram(samples) => samples.len() as u64,
        DebugValue::Gauge(_) => 0,
    };
    entries.map(|(key, _, _, counted)| (key.key().to_string(), value(counted))).collect()
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "waits in real time for a lease to end")]
async fn the_life_of_locks_is_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().expect("is the first");
    let objects = CountingStore::in_memory();
    let store = Store::from_object_store(objects.as_store()).open().await.expect("opens");
    let lock = store.lock("x").ttl(Duration::from_secs(1));

    let guard = lock.acquire().await.expect("acquires");
    drop(lock.try_acquire().await.expect("looks"));
    objects.fail_next_puts(1, FailKind::AfterGeneric);
    guard.renew().await.expect("renews");
    lock.break_lease(Break::force()).await.expect("breaks");
    tokio::time::timeout(Duration::from_secs(60), guard.lost()).await.expect("learns of it");

    let gone = lock.clone().keeper(false).acquire().await.expect("acquires");
    tokio::time::timeout(Duration::from_secs(60), gone.at_risk()).await.expect("is at risk");
    std::mem::forget(gone);
    let waited = lock.acquire_timeout(Duration::from_secs(60)).await.expect("waits");
    let release = waited.acquired().expect("takes over").release().await;
    release.expect("releases");

    let seen = seen(&snapshotter);
    let count = |name: &str, labels: &[&str]| -> u64 {
        let wanted =
            |key: &str| key.contains(name) && labels.iter().all(|label| key.contains(label));
        seen.iter().filter(|(key, _)| wanted(key)).map(|(_, count)| count).sum()
    };
    assert_eq!(count("leaselock_acquire_attempts_total", &[]), 4, "{seen:?}");
    assert_eq!(count("leaselock_acquired_total", &[]), 3, "{seen:?}");
    assert_eq!(count("leaselock_busy_total", &[]), 1, "{seen:?}");
    assert_eq!(count("leaselock_wait_seconds", &[]), 3, "{seen:?}");
    assert_eq!(count("leaselock_lost_total", &["broken"]), 1, "{seen:?}");
    assert_eq!(count("leaselock_takeovers_total", &["observation"]), 1, "{seen:?}");
    assert_eq!(count("leaselock_ambiguous_writes_total", &["won"]), 1, "{seen:?}");
    assert!(count("leaselock_renewals_total", &[]) >= 1, "{seen:?}");
    assert!(count("leaselock_at_risk_total", &[]) >= 1, "{seen:?}");
    assert!(count("leaselock_hold_seconds", &[]) >= 2, "{seen:?}");
    for (kind, outcome) in
        [("get", "ok"), ("poll", "not_modified"), ("create", "refused"), ("update", "ok")]
    {
        let counted = count("leaselock_store_requests_total", &[kind, outcome]);
        assert!(counted >= 1, "{kind} {outcome}: {seen:?}");
    }
}
