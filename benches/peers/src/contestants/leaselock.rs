//! This library.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use leaselock::{Attempt, Lock, LockGuard, Release, Store};
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder, SharedString, Unit,
};

use crate::clock::Nanos;
use crate::contestant::{Contestant, Held, Kind};
use crate::place::Place;
use crate::requests::Requests;

/// How long a newcomer waits before it tries again.
const TRIES_AFTER: Duration = Duration::from_millis(100);

pub struct Leaselock {
    kind: Kind,
    store: Store,
    ttl: Duration,
    requests: RequestCounter,
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

    fn requests(&self) -> Option<Requests> {
        Some(self.requests.so_far())
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
#[derive(Clone, Default)]
struct RequestCounter(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl RequestCounter {
    /// That of this process.
    fn installed() -> Self {
        static INSTALLED: OnceLock<RequestCounter> = OnceLock::new();
        let install = || {
            let counter = Self::default();
            metrics::set_global_recorder(counter.clone()).expect("nobody else sets a recorder");
            counter
        };
        INSTALLED.get_or_init(install).clone()
    }

    fn so_far(&self) -> Requests {
        let mut requests = Requests::default();
        for (kind, count) in &*self.counts() {
            requests.add(kind, count.load(Ordering::Relaxed));
        }
        requests
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, Arc<AtomicU64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder for RequestCounter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() != "leaselock_store_requests_total" {
            return Counter::noop();
        }
        let labels: Vec<&str> = key.labels().map(Label::value).collect();
        Counter::from_arc(Arc::clone(self.counts().entry(labels.join(" ")).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
