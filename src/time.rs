//! Readings of clocks as plain values. Nothing here reads a clock: see [`crate::clock`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A reading of *B*: a monotonic clock that goes on counting while the machine is suspended
/// (`CLOCK_BOOTTIME` on Linux). The origin is the clock's own; readings of two machines have
/// nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Boot(Duration);

impl Boot {
    /// The reading that lies `since_origin` after the clock's origin.
    pub const fn new(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// How far the reading lies after the clock's origin.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// This reading moved later by `by`; saturates.
    #[must_use]
    pub const fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// The time from `earlier` to this reading; zero when `earlier` is in fact later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A reading of *W*: a wall clock, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(i64);

impl Wall {
    /// The reading `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch; negative before it.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This reading moved later by `by`; saturates.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros(by)))
    }

    /// This reading moved earlier by `by`; saturates.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros(by)))
    }

    /// The time from `earlier` to this reading; zero when `earlier` is in fact later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl From<SystemTime> for Wall {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(micros(after)),
            Err(before) => Self(micros(before.duration()).saturating_neg()),
        }
    }
}

impl From<Wall> for SystemTime {
    fn from(wall: Wall) -> Self {
        let distance = Duration::from_micros(wall.0.unsigned_abs());
        let shifted = if wall.0 >= 0 {
            UNIX_EPOCH.checked_add(distance)
        } else {
            UNIX_EPOCH.checked_sub(distance)
        };
        shifted.unwrap_or(UNIX_EPOCH)
    }
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Moment {
    /// The monotonic clock.
    pub boot: Boot,
    /// The wall clock.
    pub wall: Wall,
}

impl Moment {
    /// The time from `earlier` to this moment, by whichever clock moved further.
    ///
    /// The wall clock catches a machine that was frozen together with its monotonic clock; the
    /// monotonic clock catches a wall clock that was set back. (Hazards H7, H8.)
    pub fn since(self, earlier: Self) -> Duration {
        self.boot.since(earlier.boot).max(self.wall.since(earlier.wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(boot: u64, wall: i64) -> Moment {
        Moment {
            boot: Boot::new(Duration::from_secs(boot)),
            wall: Wall::from_micros(wall * 1_000_000),
        }
    }

    #[test]
    fn elapsed_is_the_larger_of_both_clocks() {
        assert_eq!(moment(15, 105).since(moment(10, 100)), Duration::from_secs(5));
        assert_eq!(moment(11, 160).since(moment(10, 100)), Duration::from_secs(60));
        assert_eq!(moment(20, 40).since(moment(10, 100)), Duration::from_secs(10));
    }

    #[test]
    fn wall_survives_the_system_time_round_trip() {
        for micros in [0, 1, -1, 1_795_227_959_644_000, -62_000_000_000] {
            let wall = Wall::from_micros(micros);
            assert_eq!(Wall::from(SystemTime::from(wall)), wall);
        }
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Wall::from_micros(5).since(Wall::from_micros(9)), Duration::ZERO);
        assert_eq!(Wall::from_micros(i64::MAX).plus(Duration::MAX).micros(), i64::MAX);
        assert_eq!(Boot::default().since(Boot::new(Duration::MAX)), Duration::ZERO);
    }
}
