//! A clock that is set wrong on purpose, for tests in which processes with different clocks
//! contend. Only in builds with the feature `test-clock`, and only if the environment asks for it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use leaselock::clock::{Boot, Clock, Moment, SystemClock};

use crate::clock;

/// Two whole numbers: by how many milliseconds the wall clock is ahead, and by how many millionths
/// both clocks run too fast; negative ones for behind and too slow. For example `-3600000 20000`.
const VARIABLE: &str = "LEASELOCK_TEST_CLOCK";

/// How far this process's clocks are off.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Skew {
    ahead_ms: i64,
    per_million: i32,
}

impl Skew {
    /// What the environment asks for.
    ///
    /// # Panics
    /// It cannot be understood: the test would not test what it means to.
    pub(crate) fn get() -> Self {
        static SKEW: OnceLock<Skew> = OnceLock::new();
        *SKEW.get_or_init(|| {
            let text = std::env::var(VARIABLE).unwrap_or_default();
            Self::parse(&text).unwrap_or_else(|| panic!("{VARIABLE}: not two numbers: {text:?}"))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let Some(ahead) = words.next() else { return Some(Self::default()) };
        let skew = Self { ahead_ms: ahead.parse().ok()?, per_million: words.next()?.parse().ok()? };
        (skew.per_million > -1_000_000).then_some(skew)
    }

    /// What a clock shows that should show `boot` since boot.
    pub(crate) fn boot(self, boot: Duration) -> Duration {
        boot.mul_f64(1.0 + f64::from(self.per_million) / 1e6)
    }

    /// What a clock shows that should show `wall` since 1970, `boot` after boot. It drifts from
    /// the boot on, as the other one does.
    pub(crate) fn wall(self, wall: Duration, boot: Duration) -> Duration {
        let (is, should_be) = (self.boot(boot), boot);
        let ahead = Duration::from_millis(self.ahead_ms.unsigned_abs());
        let wall = (wall + is).saturating_sub(should_be);
        if self.ahead_ms < 0 { wall.saturating_sub(ahead) } else { wall + ahead }
    }

    /// How long it really takes until the wrong clock has moved on by `time`.
    fn really(self, time: Duration) -> Duration {
        time.div_f64(1.0 + f64::from(self.per_million) / 1e6)
    }
}

/// The library's clock, wrong in the same way as the command's own.
#[derive(Debug)]
struct SkewedClock(Skew);

/// For the library.
pub(crate) fn of_the_library() -> Arc<dyn Clock> {
    Arc::new(SkewedClock(Skew::get()))
}

impl Clock for SkewedClock {
    fn now(&self) -> Moment {
        let now = SystemClock.now();
        let (boot, wall) = (now.boot.since_origin(), now.wall.micros());
        let wall = Duration::from_micros(wall.unsigned_abs());
        let shown = std::time::UNIX_EPOCH + self.0.wall(wall, boot);
        Moment { boot: Boot::new(self.0.boot(boot)), wall: shown.into() }
    }

    fn sleep_until(&self, until: Boot) -> BoxFuture<'static, ()> {
        let clock = Self(self.0);
        Box::pin(async move {
            loop {
                let left = until.since(clock.now().boot);
                if left.is_zero() {
                    return;
                }
                clock::sleep(clock.0.really(left).min(Duration::from_secs(1))).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_set_wrong() {
        let right = Skew::parse("").unwrap();
        let (wall, boot) = (Duration::from_secs(1_000_000), Duration::from_secs(100));
        assert_eq!((right.boot(boot), right.wall(wall, boot)), (boot, wall));
        let fast = Skew::parse("5000 20000").unwrap();
        assert_eq!(fast.boot(boot), Duration::from_secs(102));
        assert_eq!(fast.wall(wall, boot), Duration::from_secs(1_000_007));
        let slow = Skew::parse("-5000 -20000").unwrap();
        assert_eq!(slow.boot(boot), Duration::from_secs(98));
        assert_eq!(slow.wall(wall, boot), Duration::from_secs(999_993));
        assert!(Skew::parse("5000").is_none() && Skew::parse("0 -1000000").is_none());
    }

    #[tokio::test]
    async fn a_sleep_by_the_wrong_clock_is_never_early() {
        for text in ["0 50000", "86400000 -50000"] {
            let clock = SkewedClock(Skew::parse(text).unwrap());
            let until = clock.now().boot.plus(Duration::from_millis(20));
            clock.sleep_until(until).await;
            assert!(clock.now().boot >= until);
        }
    }
}
