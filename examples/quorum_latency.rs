//! How long an acquisition over three stores takes, against one on the second fastest of them alone:
//! `cargo run --release --example quorum_latency`. Both are measured in turns in one run.

use std::time::Duration;

use leaselock::clock::{Clock, SystemClock};
use leaselock::{Quorum, Store};
use leaselock_test_support::remote::RemoteStore;

/// How long each store takes to answer a request.
const LATENCIES: [u64; 3] = [5, 20, 100];
const ROUNDS: usize = 30;

#[tokio::main]
async fn main() -> leaselock::Result<()> {
    let places = LATENCIES.map(|ms| RemoteStore::in_memory().latency(Duration::from_millis(ms)));
    let second = LATENCIES[1];
    // The records are there afterwards: what is measured is one read and one write.
    alone(&places[1]).await?;
    over_all(&places).await?;
    let (mut plain, mut quorum) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(alone(&places[1]).await?);
        quorum.push(over_all(&places).await?);
    }
    let (plain, quorum) = (median(plain), median(quorum));
    let ratio = quorum.as_secs_f64() / plain.as_secs_f64();
    println!("latencies of the stores:                {LATENCIES:?} ms a request");
    println!("acquire on the one with {second} ms alone:     {plain:.1?} (median of {ROUNDS})");
    println!("acquire over all three:                 {quorum:.1?}");
    println!("ratio:                                  {ratio:.3} (to be at most 1.2)");
    Ok(())
}

/// A handle that remembers nothing: as another process would open it.
async fn open(place: &RemoteStore) -> leaselock::Result<Store> {
    Store::from_object_store(place.as_store()).check_preconditions(false).open().await
}

async fn alone(place: &RemoteStore) -> leaselock::Result<Duration> {
    let lock = open(place).await?.lock("alone");
    let begun = SystemClock.now();
    let guard = lock.acquire().await?;
    let took = SystemClock.now().since(begun);
    guard.release().await?;
    Ok(took)
}

async fn over_all(places: &[RemoteStore]) -> leaselock::Result<Duration> {
    let mut stores = Vec::new();
    for place in places {
        stores.push(open(place).await?);
    }
    let lock = Quorum::new(stores.clone())?.lock("over-all");
    let begun = SystemClock.now();
    let guard = lock.acquire().await?;
    let took = SystemClock.now().since(begun);
    guard.release().await?;
    for store in stores {
        // The slowest is written in the background.
        store.shutdown().await;
    }
    Ok(took)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
