//! The store's clock, learned from the `Date` of its answers at no extra request.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::facts::StoreNow;
use crate::time::{Boot, Wall};

/// `Date` has whole seconds.
pub(crate) const RESOLUTION: Duration = Duration::from_secs(1);
/// What the clocks of a store's front ends and of its storage may differ by.
pub(crate) const TOLERANCE: Duration = Duration::from_secs(2);
/// How long a disagreement of front ends turns the store-clock rule off.
const DISTRUST: Duration = Duration::from_secs(60 * 60);
/// How fast our clock and the store's may drift apart: one part in a thousand.
const DRIFT: u32 = 1000;

/// Compares all dates that a store sends. When they cannot all come from one clock, its front ends
/// disagree, and none of them is believed for an hour (hazard H24).
#[derive(Debug, Default)]
pub(crate) struct StoreClock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The store's time minus our monotonic clock, in microseconds, and when that was learned.
    offset: Option<(i64, i64, Boot)>,
    disagreed: Option<Boot>,
}

impl StoreClock {
    /// Takes note of an answer that was stamped with `date` (rounded down to `resolution`) some
    /// time between `sent` and `received`; `None` while front ends disagree.
    pub(crate) fn note(
        &self,
        date: Wall,
        resolution: Duration,
        sent: Boot,
        received: Boot,
    ) -> Option<StoreNow> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at_most = date.plus(resolution).plus(received.since(sent));
        // All of these are cut to microseconds: what was cut off must not look like a disagreement.
        let (mut low, mut high) = (offset(date, received) - 1, offset(at_most, received) + 1);
        if let Some((old_low, old_high, at)) = state.offset {
            let drift = micros(received.since(at) / DRIFT);
            let (both_low, both_high) = (low.max(old_low - drift), high.min(old_high + drift));
            if both_low <= both_high {
                (low, high) = (both_low, both_high);
            } else {
                tracing::warn!(
                    apart_us = both_low - both_high,
                    "the store's front ends disagree about the time: not taking over by it"
                );
                state.disagreed = Some(received);
            }
        }
        state.offset = Some((low, high, received));
        let trusted = state.disagreed.is_none_or(|at| received.since(at) > DISTRUST);
        trusted.then_some(StoreNow { at_least: date, at_most, at: received })
    }
}

fn offset(wall: Wall, boot: Boot) -> i64 {
    wall.micros().saturating_sub(micros(boot.since_origin()))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(millis: u64) -> Boot {
        Boot::new(Duration::from_millis(millis))
    }

    fn date(seconds: i64) -> Wall {
        Wall::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn an_answer_bounds_the_time_from_both_sides() {
        let now = StoreClock::default().note(date(1000), RESOLUTION, boot(500), boot(700)).unwrap();
        assert_eq!(now.at_least, date(1000));
        assert_eq!(now.at_most, Wall::from_micros(1_001_200_000));
        assert_eq!(now.at, boot(700));
    }

    #[test]
    fn answers_of_one_clock_agree_however_they_fall() {
        let clock = StoreClock::default();
        for step in 0..1000_u64 {
            let at = step * 37;
            // The store's clock stands 5,000.4 s before ours began.
            let stamp = date((5_000_400 + at as i64) / 1000);
            assert!(clock.note(stamp, RESOLUTION, boot(at), boot(at + 3)).is_some(), "{step}");
        }
    }

    #[test]
    fn what_is_cut_off_is_no_disagreement() {
        for ahead in (0..1_000).step_by(100) {
            let clock = StoreClock::default();
            // A clock of microseconds, ahead of ours by less than one, that is read between two looks at ours.
            for read in (1_000..50_000).step_by(370) {
                let (sent, received) = (read - read % 7 * 60, read + read % 11 * 30);
                let date = Wall::from_micros((read + ahead) as i64 / 1_000);
                let [sent, received] =
                    [sent, received].map(|at| Boot::new(Duration::from_nanos(at)));
                let told = clock.note(date, Duration::from_micros(1), sent, received);
                assert!(told.is_some(), "read at {read} ns, {ahead} ns ahead");
            }
        }
    }

    #[test]
    fn front_ends_that_disagree_are_not_believed_for_an_hour() {
        let clock = StoreClock::default();
        assert!(clock.note(date(1000), RESOLUTION, boot(0), boot(10)).is_some());
        assert!(clock.note(date(1009), RESOLUTION, boot(100), boot(110)).is_none());
        assert!(clock.note(date(1009), RESOLUTION, boot(200), boot(210)).is_none());
        let later = 2 * 60 * 60 * 1000;
        assert!(clock.note(date(1009 + 7200), RESOLUTION, boot(later), boot(later + 10)).is_some());
    }

    #[test]
    fn slow_drift_is_no_disagreement() {
        let clock = StoreClock::default();
        assert!(clock.note(date(0), RESOLUTION, boot(0), boot(1)).is_some());
        // Ten hours later the store is 20 s ahead of where our clock would have it.
        let hours = 10 * 3600;
        assert!(
            clock
                .note(
                    date(hours + 20),
                    RESOLUTION,
                    boot(hours as u64 * 1000),
                    boot(hours as u64 * 1000 + 1)
                )
                .is_some()
        );
    }
}
