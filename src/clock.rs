//! The only place that reads clocks and sleeps.

use std::fmt;
use std::future::Future;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;

use crate::runtime::with_timers;
pub use crate::time::{Boot, Moment, Wall};

/// The clocks of one process, injected so that tests and simulations can move them.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Both clocks now. Must not block and must not allocate.
    fn now(&self) -> Moment;

    /// Completes when the monotonic clock shows at least `until`. May be late, never early.
    fn sleep_until(&self, until: Boot) -> BoxFuture<'static, ()>;
}

/// The machine's own clocks: one that counts through suspend, and the wall clock.
///
/// [`std::time::Instant`] will not do: on Linux it stands still while the machine is suspended,
/// and a lease would seem to last for ever (hazard H7).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// Timers stand still while the machine sleeps, and no timer fires when the wall clock jumps: who follows a
/// lease looks at the clocks this often.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// Timers of the runtime stand still during suspend; a sleep never trusts one for longer.
const LONGEST_NAP: Duration = Duration::from_secs(1);

impl SystemClock {
    fn boot() -> Boot {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let id = rustix::time::ClockId::Boottime;
        // On macOS and iOS CLOCK_MONOTONIC counts through sleep already.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let id = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(id);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        Boot::new(Duration::new(seconds, nanos))
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the file that may")]
    fn now(&self) -> Moment {
        Moment { boot: Self::boot(), wall: SystemTime::now().into() }
    }

    #[allow(clippy::disallowed_methods, reason = "this is the file that may")]
    fn sleep_until(&self, until: Boot) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            loop {
                let left = until.since(Self::boot());
                if left.is_zero() {
                    return;
                }
                // Who waits for a lease may do so on any executor.
                with_timers(|| tokio::time::sleep(left.min(LONGEST_NAP))).await;
            }
        })
    }
}

/// The time ran out before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {} ms", .0.as_millis())]
pub(crate) struct TimedOut(pub(crate) Duration);

/// Runs `work` for at most `limit` by `clock`, then drops it.
pub(crate) async fn timeout<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, TimedOut> {
    let sleep = clock.sleep_until(clock.now().boot.plus(limit));
    tokio::select! {
        biased;
        output = work => Ok(output),
        () = sleep => Err(TimedOut(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_clock_moves_and_sleeps_are_never_early() {
        let before = SystemClock.now();
        let until = before.boot.plus(Duration::from_millis(5));
        SystemClock.sleep_until(until).await;
        assert!(SystemClock.now().boot >= until);
    }

    #[tokio::test]
    async fn a_timeout_ends_work_that_hangs_and_lets_finished_work_through() {
        let limit = Duration::from_millis(1);
        let hung = timeout(&SystemClock, limit, std::future::pending::<()>()).await;
        assert_eq!(hung, Err(TimedOut(limit)));
        assert_eq!(timeout(&SystemClock, Duration::ZERO, async { 7 }).await, Ok(7));
    }
}
