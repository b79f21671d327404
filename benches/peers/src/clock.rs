//! Time that every process of this machine reads alike.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine was started, suspended time included.
pub type Nanos = u64;

/// `CLOCK_BOOTTIME`: monotonic, the same for all processes, and what leaselock's deadlines are
/// readings of.
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::Boottime);
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

pub fn since(begin: Nanos) -> Duration {
    Duration::from_nanos(now().saturating_sub(begin))
}

pub fn after(duration: Duration) -> Nanos {
    now() + duration.as_nanos() as u64
}

pub async fn sleep_until(moment: Nanos) {
    let left = moment.saturating_sub(now());
    // Even a sleep of no time takes up to a millisecond.
    if left > 0 {
        tokio::time::sleep(Duration::from_nanos(left)).await;
    }
}
