//! Many locks that one process holds at once: what they take of its memory and of the store's time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use leaselock::LockGuard;
use object_store::path::Path;
use object_store::{PutMode, PutOptions};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::contestant::{Contestant, Entry};
use crate::contestants::leaselock::Leaselock;
use crate::record;

/// Writes that are under way at once.
const AT_ONCE: usize = 64;

/// How they are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holding {
    /// Each by a lease of its own.
    Leases,
    /// All under one session.
    Session,
    /// Only the records lie in the memory of the store, which is not the library's to account for.
    Records,
}

/// What that took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Until all were held.
    pub seconds: f64,
    /// How much the process has grown.
    pub bytes: f64,
    /// Once all were held.
    pub requests_per_second: f64,
}

pub async fn hold_many(
    entry: &Entry,
    holding: Holding,
    ttl: Duration,
    count: usize,
    window: Duration,
) -> Result<Held> {
    let place = entry.place.as_ref().context("needs a store")?;
    let library = Leaselock::open(entry.kind, place, ttl).await?;
    let (objects, _) = place.objects()?;
    let grown_from = resident()?;
    let began = clock::now();
    let names = (0..count).map(|number| format!("held/{number}"));
    let mut guards: Vec<LockGuard> = Vec::with_capacity(count);
    let mut session = None;
    match holding {
        Holding::Leases => {
            let locks = names.map(|name| library.store().lock(name).ttl(ttl));
            let acquired = locks.map(|lock| async move { lock.acquire().await });
            guards.extend(stream::iter(acquired).buffered(AT_ONCE).try_collect::<Vec<_>>().await?);
        }
        Holding::Session => {
            let open = library.store().session().ttl(ttl).open().await?;
            let locks: Vec<_> = names.map(|name| open.lock(name)).collect();
            let acquired = locks.into_iter().map(|lock| async move { lock.acquire().await });
            guards.extend(stream::iter(acquired).buffered(AT_ONCE).try_collect::<Vec<_>>().await?);
            session = Some(open);
        }
        Holding::Records => {
            for name in names {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                objects.put_opts(&Path::from(name), record::body(0).await?, options).await?;
            }
        }
    }
    let seconds = clock::since(began).as_secs_f64();
    let bytes = resident()?.saturating_sub(grown_from) as f64;
    let before = library.requests().unwrap_or_default();
    tokio::time::sleep(window).await;
    let sent = library.requests().unwrap_or_default().since(&before).sum();
    anyhow::ensure!(guards.iter().all(LockGuard::is_held), "some were lost");
    // Not given back one by one: the process ends, and the store with it.
    std::mem::forget((guards, session, Arc::clone(&objects)));
    Ok(Held { seconds, bytes, requests_per_second: sent as f64 / window.as_secs_f64() })
}

/// Bytes of this process that are in memory.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    let kibibytes = line.split_whitespace().nth(1).context("VmRSS")?;
    Ok(kibibytes.parse::<u64>()? * 1024)
}
