//! The two clocks by which a lease ends, and sleeping: the only file here that reads raw time.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// The clock that counts through suspend; the library's lease deadlines are readings of it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const BOOT: ClockId = ClockId::CLOCK_BOOTTIME;
/// On macOS this clock counts through sleep already.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const BOOT: ClockId = ClockId::CLOCK_MONOTONIC;

/// One moment on both clocks: since boot, and since 1970.
///
/// A moment is reached as soon as *either* clock says so: the wall clock shows that a virtual
/// machine was frozen, the boot clock is not fooled by a wall clock that was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) boot: Duration,
    pub(crate) wall: Duration,
}

impl Moment {
    /// Never comes.
    pub(crate) const NEVER: Self = Self { boot: Duration::MAX, wall: Duration::MAX };

    /// Does not allocate: the watchdog calls it too.
    #[allow(clippy::disallowed_methods, reason = "this is the file that may")]
    pub(crate) fn now() -> Self {
        // A boot clock that cannot be read would have to end every lease at once.
        let boot = clock_gettime(BOOT).map_or(Duration::MAX, Duration::from);
        let now = Self { boot, wall: since_epoch(SystemTime::now()) };
        #[cfg(feature = "test-clock")]
        let now = now.set_wrong(crate::test_clock::Skew::get());
        now
    }

    #[cfg(feature = "test-clock")]
    fn set_wrong(self, skew: crate::test_clock::Skew) -> Self {
        match self.boot {
            // It cannot be read.
            Duration::MAX => self,
            boot => Self { boot: skew.boot(boot), wall: skew.wall(self.wall, boot) },
        }
    }

    pub(crate) fn at(boot: Duration, wall: SystemTime) -> Self {
        Self { boot, wall: since_epoch(wall) }
    }

    pub(crate) fn reached(self, now: Self) -> bool {
        now.boot >= self.boot || now.wall >= self.wall
    }

    /// How long until it is reached, if both clocks run on as they do.
    pub(crate) fn left(self, now: Self) -> Duration {
        self.boot.saturating_sub(now.boot).min(self.wall.saturating_sub(now.wall))
    }

    pub(crate) fn plus(self, time: Duration) -> Self {
        Self { boot: self.boot.saturating_add(time), wall: self.wall.saturating_add(time) }
    }

    pub(crate) fn minus(self, time: Duration) -> Self {
        Self { boot: self.boot.saturating_sub(time), wall: self.wall.saturating_sub(time) }
    }

    pub(crate) fn earlier(self, other: Self) -> Self {
        Self { boot: self.boot.min(other.boot), wall: self.wall.min(other.wall) }
    }
}

/// Timers stand still while the machine is suspended: sleep for more than a moment in slices, and
/// look at the clock between them.
#[allow(clippy::disallowed_methods, reason = "this is the file that may")]
pub(crate) async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// `None` when `work` did not end in `limit`; it is then dropped.
#[allow(clippy::disallowed_methods, reason = "this is the file that may")]
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// For people: this machine's wall clock.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Moment::now().wall
}

/// For people: how long ago `then` was by this machine's wall clock.
pub(crate) fn age(then: SystemTime) -> Duration {
    Moment::now().wall.saturating_sub(since_epoch(then))
}

/// For people: how long until `then` by this machine's wall clock.
pub(crate) fn ahead(then: SystemTime) -> Duration {
    since_epoch(then).saturating_sub(Moment::now().wall)
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(boot: u64, wall: u64) -> Moment {
        Moment { boot: Duration::from_secs(boot), wall: Duration::from_secs(wall) }
    }

    #[test]
    fn a_moment_is_reached_on_either_clock() {
        let end = moment(100, 1000);
        assert!(!end.reached(moment(99, 999)));
        assert!(end.reached(moment(100, 1)), "a wall clock set back delays nothing");
        assert!(end.reached(moment(1, 1000)), "a frozen machine is noticed by the wall clock");
        assert_eq!(end.left(moment(90, 995)), Duration::from_secs(5));
        assert!(!Moment::NEVER.reached(Moment::now()));
    }

    #[test]
    fn the_clocks_move() {
        let before = Moment::now();
        std::thread::sleep(Duration::from_millis(2));
        let after = Moment::now();
        assert!(after.boot > before.boot);
        assert!(before.plus(Duration::from_millis(1)).reached(after));
    }
}
