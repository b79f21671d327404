//! A thousand locks held by one process: `cargo run --release --example many_guards [COUNT]`.
//! Prints threads and resident memory per guard (Linux).

use std::fs;

use leaselock::Store;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u64 = std::env::args().nth(1).map_or(Ok(1000), |count| count.parse())?;
    // The records themselves lie in this process too; a plain copy of each is what is subtracted.
    let store = Store::builder("memory:///").open().await?;
    store.lock("warm-up").acquire().await?.release().await?;
    let (before, threads_before) = usage()?;
    let mut guards = Vec::new();
    for number in 0..count {
        guards.push(store.lock(format!("many/{number}")).owner("example").acquire().await?);
    }
    let (after, threads) = usage()?;
    assert!(guards.iter().all(leaselock::LockGuard::is_held));
    println!(
        "{count} guards: {threads} threads ({threads_before} before), {} bytes each, the store's \
         own copy of the record included",
        (after.saturating_sub(before)) / count
    );
    assert_eq!(threads, threads_before, "no thread per guard");
    let report = store.shutdown().await;
    println!("released: {}", report.released);
    Ok(())
}

/// Resident bytes, and threads.
fn usage() -> Result<(u64, u64), Box<dyn std::error::Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Ok((field("VmRSS:").ok_or("no VmRSS")? * 1024, field("Threads:").ok_or("no Threads")?))
}
