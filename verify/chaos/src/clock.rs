//! Real time: these are real processes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Now, on a clock that only goes forward.
#[allow(clippy::disallowed_methods, reason = "real processes, real time, no suspend")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Microseconds since 1970, as first tokens count them.
#[allow(clippy::disallowed_methods, reason = "real processes, real time")]
pub(crate) fn wall_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Looks again and again until `is` holds or `patience` has passed.
pub(crate) fn wait_until(patience: Duration, mut is: impl FnMut() -> bool) -> bool {
    let end = now() + patience;
    loop {
        if is() {
            return true;
        }
        if now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
