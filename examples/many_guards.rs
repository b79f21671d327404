//! Thousands of locks held by one process, under leases of their own or under one session:
//! `cargo run --release --example many_guards [COUNT [session]]`.
//! Prints threads and resident memory per guard (Linux), and fails if ten thousand or more of them
//! under one session take more than 2 KiB each.

use std::fs;
use std::sync::Arc;

use futures::TryStreamExt;
use leaselock::Store;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u64 = std::env::args().nth(1).map_or(Ok(1000), |count| count.parse())?;
    let under_session = std::env::args().nth(2).is_some_and(|word| word == "session");
    // The records themselves lie in this process too.
    let objects = Arc::new(InMemory::new());
    let store = Store::from_object_store(Arc::clone(&objects) as _);
    let store = store.check_preconditions(false).open().await?;
    store.lock("warm-up").acquire().await?.release().await?;
    let session = store.session().open().await?;
    let (before, threads_before) = usage()?;
    let mut guards = Vec::new();
    for number in 0..count {
        let name = format!("many/{number}");
        let lock = if under_session { session.lock(name) } else { store.lock(name) };
        guards.push(lock.owner("example").acquire().await?);
    }
    let (after, threads) = usage()?;
    assert!(guards.iter().all(leaselock::LockGuard::is_held));
    // A plain copy of each record is what is subtracted.
    let copies = copy(&objects).await?;
    let records = usage()?.0.saturating_sub(after);
    let all = after.saturating_sub(before);
    let each = all.saturating_sub(records) / count;
    println!(
        "{count} guards{}: {threads} threads ({threads_before} before), {} bytes each without the \
         store's own copy of the record, {} with it",
        if under_session { " under one session" } else { "" },
        each,
        all / count,
    );
    drop(copies);
    // What is there once, whatever the count, weighs on fewer.
    assert!(!under_session || count < 10_000 || each <= 2048, "{each} bytes each");
    assert_eq!(threads, threads_before, "no thread per guard");
    let report = store.shutdown().await;
    println!("released: {}", report.released);
    Ok(())
}

/// What the store has, in another of its kind.
async fn copy(objects: &InMemory) -> Result<InMemory, Box<dyn std::error::Error>> {
    let copies = InMemory::new();
    let mut listed = objects.list(None);
    while let Some(meta) = listed.try_next().await? {
        let body = objects.get(&meta.location).await?.bytes().await?;
        copies.put(&meta.location, body.to_vec().into()).await?;
    }
    Ok(copies)
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
