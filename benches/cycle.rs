//! `cargo bench`: the library's own overhead, on a store that takes no time.

use criterion::{Criterion, criterion_group, criterion_main};
use leaselock::{Runtime, Store};

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
    let here = async { Store::builder("memory:///").runtime(Runtime::Current).open().await };
    let near = runtime.block_on(here).expect("memory opens").lock("bench");
    criterion.bench_function("memory: acquire + release, on the caller's runtime", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let guard = near.acquire().await.expect("is free");
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
