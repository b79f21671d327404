//! How long failures of the store are borne.

use std::sync::Arc;
use std::time::Duration;

use super::Limit;
use crate::clock::Boot;
use crate::rng::Randomness;
use crate::wait::{Backoff, RETRYING};

/// Without an end of its own, waiting gives up when the store has failed for this long.
const LONGEST: Duration = Duration::from_secs(30);
/// A single look is given up at this failure.
const FAILURES: u32 = 4;

/// Failures since the store last did what it was asked.
#[derive(Debug)]
pub(crate) struct Outage {
    since: Option<Boot>,
    failures: u32,
    backoff: Backoff,
}

impl Outage {
    pub(crate) fn new(rng: Arc<dyn Randomness>) -> Self {
        Self { since: None, failures: 0, backoff: Backoff::new(RETRYING, rng) }
    }

    /// Another failure: when to try again, unless it is time to give up.
    pub(crate) fn next(&mut self, now: Boot, limit: Limit) -> Option<Boot> {
        let since = *self.since.get_or_insert(now);
        self.failures += 1;
        let resume = now.plus(self.backoff.next());
        let bearable = match limit {
            Limit::Once => self.failures < FAILURES,
            Limit::Until(limit) => resume < limit,
            Limit::Forever => now.since(since) < LONGEST,
        };
        bearable.then_some(resume)
    }

    pub(crate) fn over(&mut self) {
        self.since = None;
        self.failures = 0;
        self.backoff.reset();
    }
}
