//! How many requests are made, as the library counts them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_global_recorder,
};

use crate::watch::rota::PAGE;

/// What the library counts by kind and outcome; all of them together here.
const REQUESTS: &str = "leaselock_store_requests_total";

/// How many there were since the program began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests(Arc<AtomicU64>);

impl Requests {
    /// Counts from now on.
    pub(crate) fn count() -> Self {
        let requests = Self::default();
        // Only this command counts, and once: nobody has set another.
        let _ = set_global_recorder(requests.clone());
        requests
    }

    /// A listing that has found so many names: the library does not count its pages.
    pub(crate) fn listed(&self, names: usize) {
        let pages = names.div_ceil(PAGE).max(1);
        self.0.fetch_add(u64::try_from(pages).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn so_far(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Recorder for Requests {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            REQUESTS => Counter::from_arc(Arc::clone(&self.0)),
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

/// The requests of the last minute.
#[derive(Debug, Default)]
pub(crate) struct LastMinute {
    /// When, by the boot clock, and how many there had been by then.
    samples: VecDeque<(Duration, u64)>,
}

impl LastMinute {
    const LENGTH: Duration = Duration::from_secs(60);

    pub(crate) fn note(&mut self, now: Duration, so_far: u64) {
        // Twice a second is exact enough.
        let before = self.samples.iter().rev().nth(1);
        if before.is_some_and(|before| now.saturating_sub(before.0) < Duration::from_millis(500)) {
            self.samples.pop_back();
        }
        self.samples.push_back((now, so_far));
        // One that is older is kept: the minute begins with it.
        while self.samples.get(1).is_some_and(|second| now.saturating_sub(second.0) >= Self::LENGTH)
        {
            self.samples.pop_front();
        }
    }

    /// `41 requests in 60s`
    pub(crate) fn text(&self) -> String {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return "no requests".to_owned();
        };
        let time = last.0.saturating_sub(first.0).as_secs();
        format!("{} requests in {time}s", last.1.saturating_sub(first.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_as_long_as_a_minute() {
        let mut minute = LastMinute::default();
        for second in 0..=300 {
            minute.note(Duration::from_secs(second), second * 3);
            if second == 10 {
                assert_eq!(minute.text(), "30 requests in 10s");
            }
        }
        assert_eq!(minute.text(), "180 requests in 60s");
        assert!(minute.samples.len() < 70);
    }

    #[test]
    fn samples_in_between_do_not_pile_up() {
        let mut minute = LastMinute::default();
        for step in 0..100_000_u64 {
            minute.note(Duration::from_millis(step), step);
        }
        assert!(minute.text().starts_with("60") && minute.text().ends_with(" requests in 60s"));
        assert!(minute.samples.len() < 200, "{}", minute.samples.len());
    }

    #[test]
    fn a_listing_is_counted_by_its_pages() {
        let requests = Requests::default();
        requests.listed(0);
        requests.listed(1_001);
        assert_eq!(requests.so_far(), 3);
    }
}
