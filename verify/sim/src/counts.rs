//! What happened how often.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

/// Counters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    pub(crate) fn add(&mut self, what: &str) {
        self.add_many(what, 1);
    }

    pub(crate) fn add_many(&mut self, what: &str, times: u64) {
        match self.0.get_mut(what) {
            Some(count) => *count += times,
            None => drop(self.0.insert(what.to_owned(), times)),
        }
    }

    /// Adds what others have counted.
    pub fn merge(&mut self, others: Self) {
        for (what, times) in others.0 {
            self.add_many(&what, times);
        }
    }

    /// How often it happened.
    pub fn get(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Everything that was counted, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(what, times)| (what.as_str(), *times))
    }
}

/// Takes the metrics that the library records.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    counters: Mutex<HashMap<Key, Arc<Count>>>,
    muted: AtomicBool,
}

#[derive(Debug, Default)]
struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Meter {
    /// Counts nothing while `work` is done: a process that dies has no metrics.
    pub(crate) fn muted(&self, work: impl FnOnce()) {
        self.muted.store(true, Ordering::Relaxed);
        work();
        self.muted.store(false, Ordering::Relaxed);
    }

    /// What was counted since the last time, under the library's names.
    pub(crate) fn take(&self) -> Counts {
        let counters = std::mem::take(&mut *self.counters());
        let mut counts = Counts::default();
        for (key, count) in counters {
            let labels: Vec<_> = key.labels().map(metrics::Label::value).collect();
            let name = format!("{} {}", key.name(), labels.join(" "));
            counts.add_many(name.trim_end(), count.0.load(Ordering::Relaxed));
        }
        counts
    }

    fn counters(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Count>>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder for Meter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if self.muted.load(Ordering::Relaxed) {
            return Counter::noop();
        }
        let mut counters = self.counters();
        if let Some(count) = counters.get(key) {
            return Counter::from_arc(Arc::clone(count));
        }
        let count = Arc::<Count>::default();
        counters.insert(key.clone(), Arc::clone(&count));
        Counter::from_arc(count)
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
