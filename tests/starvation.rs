//! A program that blocks all of its own threads keeps its lease (hazard H21). In a process of its
//! own: it starves every other test of its runtime.

use std::time::Duration;

use leaselock::{Attempt, Release};

const TTL: Duration = Duration::from_secs(1);

#[test]
#[allow(clippy::disallowed_methods, reason = "blocks threads on purpose")]
fn a_lease_survives_a_runtime_that_is_blocked_for_three_ttls() {
    let directory = tempfile::tempdir().expect("is made");
    let url = format!("file://{}", directory.path().display());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("starts");
    let acquiring = async { leaselock::open(&url).await?.lock("x").ttl(TTL).acquire().await };
    let guard = runtime.block_on(acquiring).expect("acquires");
    for _ in 0..8 {
        runtime.spawn(async { std::thread::sleep(TTL * 3) });
    }
    std::thread::sleep(TTL * 3);
    assert!(guard.is_held());
    assert!(guard.watch().status().renewals >= 3);
    // Another process, as it were, has not got in.
    let other = tokio::runtime::Runtime::new().expect("starts");
    let looking = async { leaselock::open(&url).await?.lock("x").try_acquire().await };
    assert!(matches!(other.block_on(looking).expect("looks"), Attempt::Held(_)));
    assert_eq!(other.block_on(guard.release()).expect("releases"), Release::Released);
}

#[test]
fn any_executor_will_do() {
    let guard = futures::executor::block_on(async {
        let store = leaselock::open("memory:///").await?;
        store.lock("x").acquire().await
    });
    let guard = guard.expect("acquires");
    assert_eq!(futures::executor::block_on(guard.release()).expect("releases"), Release::Released);
}
