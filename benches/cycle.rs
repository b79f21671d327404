//! `cargo bench`: the library's own overhead, on a store that takes no time.

use criterion::{Criterion, criterion_group, criterion_main};
use leaselock::Store;

fn cycle(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let store = runtime.block_on(Store::builder("memory:///").open()).expect("memory opens");
    let lock = store.lock("bench");
    criterion.bench_function("memory: acquire + release", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let guard = lock.acquire().await.expect("is free");
            guard.release().await.expect("releases")
        });
    });
    let guard = runtime.block_on(lock.acquire()).expect("is free");
    criterion.bench_function("is_held", |bencher| bencher.iter(|| guard.is_held()));
    criterion.bench_function("memory: renew", |bencher| {
        bencher.to_async(&runtime).iter(|| async { guard.renew().await.expect("renews") });
    });
}

criterion_group!(benches, cycle);
criterion_main!(benches);
