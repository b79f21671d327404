//! How large the library's records are, for those who write as much without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use futures::StreamExt;
use leaselock::Store;
use object_store::memory::InMemory;
use object_store::{ObjectStore, PutPayload};
use tokio::sync::OnceCell;

/// How many former tenures a record remembers at most.
const HISTORY: usize = 16;

/// Bytes as many as the record of a held lock has that was held so many times before, and never the same
/// twice: a store may tell versions by what is in them.
pub async fn body(held_before: usize) -> Result<PutPayload> {
    static SIZES: OnceCell<Vec<usize>> = OnceCell::const_new();
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let size = SIZES.get_or_try_init(sizes).await?[held_before.min(HISTORY)];
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    Ok(PutPayload::from(format!("{process:0>20}{number:0>width$}", width = size - 20)))
}

async fn sizes() -> Result<Vec<usize>> {
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = Store::from_object_store(Arc::clone(&memory)).prefix("peers").open().await?;
    let mut sizes = Vec::new();
    for _ in 0..=HISTORY {
        let guard = store.lock("processes/0123456789").acquire().await?;
        let mut objects = memory.list(Some(&"peers/processes".into()));
        let record = objects.next().await.context("a held lock has no record")??;
        guard.release().await?;
        sizes.push(record.size as usize);
    }
    Ok(sizes)
}
