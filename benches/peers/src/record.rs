//! How large the library's records are, for those who write as much without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use futures::StreamExt;
use leaselock::Store;
use object_store::memory::InMemory;
use object_store::{ObjectStore, PutPayload};
use tokio::sync::OnceCell;

/// Bytes as many as the record of a held lock has, and never the same twice: a store may tell
/// versions by what is in them.
pub async fn body() -> Result<PutPayload> {
    static SIZE: OnceCell<usize> = OnceCell::const_new();
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let size = *SIZE.get_or_try_init(size).await?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    Ok(PutPayload::from(format!("{process:0>20}{number:0>width$}", width = size - 20)))
}

async fn size() -> Result<usize> {
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = Store::from_object_store(Arc::clone(&memory)).prefix("peers").open().await?;
    let guard = store.lock("processes/0123456789").acquire().await?;
    let mut objects = memory.list(Some(&"peers/processes".into()));
    let record = objects.next().await.context("a held lock has no record")??;
    guard.release().await?;
    Ok(record.size as usize)
}
