//! Two workers, one lock: `cargo run --example hold [STORE-URL]`.

use std::time::Duration;

use leaselock::{Attempt, Release};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let default = format!("file://{}", directory.path().display());
    let store = leaselock::open(std::env::args().nth(1).unwrap_or(default)).await?;
    let lock = store.lock("examples/hold").ttl(Duration::from_secs(10)).owner("first worker");

    let guard = lock.acquire().await?;
    println!("first worker: token {}, held for {:?} at least", guard.token(), guard.remaining());

    let second = lock.clone().owner("second worker");
    if let Attempt::Held(info) = second.try_acquire().await? {
        println!("second worker: busy, held by {}", info.holders[0].owner);
    }
    let waiting = tokio::spawn(async move { second.acquire().await });

    let sum = guard.run(async { (1..=10).sum::<u32>() }).await?;
    println!("first worker: worked out {sum}");
    let released = guard.release().await?;
    assert_eq!(released, Release::Released);
    println!("first worker: released");

    let guard = waiting.await??;
    println!("second worker: token {}", guard.token());
    guard.release().await?;
    for tenure in lock.inspect().await?.history {
        println!("history: token {} by {}, {}", tenure.token, tenure.owner, tenure.ended);
    }
    Ok(())
}
