//! How long to wait before trying again.

use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder;

use crate::rng::Randomness;

/// Bounds of a backoff.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) first: Duration,
    pub(crate) cap: Duration,
}

/// Between polls of a lock that somebody holds.
pub(crate) const POLLING: Pace =
    Pace { first: Duration::from_millis(100), cap: Duration::from_secs(3) };
/// Between attempts of a request that failed.
pub(crate) const RETRYING: Pace =
    Pace { first: Duration::from_millis(50), cap: Duration::from_secs(2) };
/// Between attempts to take a ticket while others write the same record. Whoever takes and leaves a lock all the
/// time is not to keep others from it for long; and of those who want one, no more than are served in turn.
pub(crate) const QUEUEING: Pace =
    Pace { first: Duration::from_millis(2), cap: Duration::from_millis(50) };

/// Exponential backoff with full jitter (Brooker 2015): each delay is uniform between zero and a
/// bound that doubles from the first to the cap. Never ends by itself.
#[derive(Debug)]
pub(crate) struct Backoff {
    pace: Pace,
    bounds: backon::ExponentialBackoff,
    rng: Arc<dyn Randomness>,
}

impl Backoff {
    pub(crate) fn new(pace: Pace, rng: Arc<dyn Randomness>) -> Self {
        Self { pace, bounds: bounds(pace), rng }
    }

    /// The next delay.
    pub(crate) fn next(&mut self) -> Duration {
        let bound = self.bounds.next().unwrap_or(self.pace.cap);
        self.rng.up_to(bound)
    }

    /// Begins again with the first bound: something has changed.
    pub(crate) fn reset(&mut self) {
        self.bounds = bounds(self.pace);
    }
}

fn bounds(pace: Pace) -> backon::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(pace.first)
        .with_factor(2.0)
        .with_max_delay(pace.cap)
        .without_max_times()
        .build()
}

/// Others write the same record: the second time and later there is a pause, so that of many that
/// arrive at once not all read and write all the time.
#[derive(Debug)]
pub(crate) struct Contention {
    lost: bool,
    backoff: Backoff,
}

impl Contention {
    pub(crate) fn new(pace: Pace, rng: Arc<dyn Randomness>) -> Self {
        Self { lost: false, backoff: Backoff::new(pace, rng) }
    }

    /// After another refused write: how long to pause.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        std::mem::replace(&mut self.lost, true).then(|| self.backoff.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SeededRandomness;

    /// Always the largest delay that the bound allows.
    #[derive(Debug)]
    struct Longest;

    impl Randomness for Longest {
        fn bits(&self) -> u128 {
            u128::MAX
        }
    }

    #[test]
    fn bounds_double_up_to_the_cap_and_start_over_on_reset() {
        let mut backoff = Backoff::new(POLLING, Arc::new(Longest));
        let bounds: Vec<_> = (0..7).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1600, 3000, 3000]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 100);
    }

    #[test]
    fn delays_are_jittered() {
        let mut backoff = Backoff::new(POLLING, Arc::new(SeededRandomness::new(1)));
        let delays: Vec<_> = (0..50).map(|_| backoff.next()).collect();
        assert!(delays.windows(2).any(|pair| pair[1] < pair[0]));
        assert!(delays.iter().all(|delay| *delay <= POLLING.cap));
    }
}
