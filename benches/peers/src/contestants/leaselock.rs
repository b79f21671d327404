//! This library.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use leaselock::{Attempt, Lock, LockGuard, Release, Store};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::clock::Nanos;
use crate::contestant::{Contestant, Held, Kind};
use crate::place::Place;

/// How long a newcomer waits before it tries again.
const TRIES_AFTER: Duration = Duration::from_millis(100);

pub struct Leaselock {
    kind: Kind,
    store: Store,
    ttl: Duration,
    requests: Arc<AtomicU64>,
}

struct Guard {
    guard: LockGuard,
    ttl: Duration,
}

impl Leaselock {
    pub async fn open(kind: Kind, place: &Place, ttl: Duration) -> Result<Self> {
        let store = Store::builder(place.url()?).prefix("peers").open().await?;
        Ok(Self { kind, store, ttl, requests: RequestCounter::installed() })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    async fn guard(&self, lock: Lock) -> Result<LockGuard> {
        match self.kind {
            Kind::Fair => Ok(lock.fair().acquire().await?),
            Kind::Newcomer => loop {
                match lock.try_acquire().await? {
                    Attempt::Acquired(guard) => return Ok(guard),
                    Attempt::Held(_) => tokio::time::sleep(TRIES_AFTER).await,
                }
            },
            _ => Ok(lock.acquire().await?),
        }
    }
}

#[async_trait]
impl Contestant for Leaselock {
    async fn lock(&self, name: &str) -> Result<Box<dyn Held>> {
        let guard = self.guard(self.store.lock(name).ttl(self.ttl)).await?;
        Ok(Box::new(Guard { guard, ttl: self.ttl }))
    }

    fn may_be_dropped(&self) -> bool {
        true
    }

    fn requests(&self) -> Option<u64> {
        Some(self.requests.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl Held for Guard {
    async fn unlock(self: Box<Self>) -> Result<()> {
        let release = self.guard.release().await?;
        anyhow::ensure!(matches!(release, Release::Released), "not released: {release:?}");
        Ok(())
    }

    fn renewed(&self) -> Option<Nanos> {
        // The holder trusts a lease for nine tenths of its TTL, from before the write was sent.
        let trusted = self.ttl / 10 * 9;
        let deadline = self.guard.watch().status().boot_deadline;
        deadline.checked_sub(trusted).map(|sent| sent.as_nanos() as Nanos)
    }
}

/// Counts what the library says it sends; everything else it says is let go.
struct RequestCounter(Arc<AtomicU64>);

impl RequestCounter {
    /// The count of this process.
    fn installed() -> Arc<AtomicU64> {
        static COUNT: std::sync::OnceLock<Arc<AtomicU64>> = std::sync::OnceLock::new();
        let count = COUNT.get_or_init(|| {
            let count = Arc::default();
            let recorder = Self(Arc::clone(&count));
            metrics::set_global_recorder(recorder).expect("nobody else sets a recorder");
            count
        });
        Arc::clone(count)
    }
}

impl Recorder for RequestCounter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            "leaselock_store_requests_total" => Counter::from_arc(Arc::clone(&self.0)),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
