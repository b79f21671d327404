//! When a holder's next renewal can be seen. It decides when to look, and nothing else.
//!
//! A lease counts for others from when they first see it, so a waiter that saw the last renewal late would
//! take over as late. Entries tell by the holder's wall clock when the next renewal is due. What that means
//! on this machine's clock is found out as it goes: each renewal that is seen, and was not there at the
//! look before, bounds the difference of the two clocks from both sides. (Marzullo 1984 intersects such
//! bounds in the same way.)

use std::time::Duration;

use crate::clock::{Boot, Moment, Wall};
use crate::holder::HolderId;

/// A renewal, and when the next is due: both by the wall clock of whoever renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    /// The lease, or the session whose lease it is.
    pub(crate) of: HolderId,
    pub(crate) at: Wall,
    pub(crate) next: Option<Wall>,
    /// When it was first seen.
    pub(crate) seen: Boot,
}

/// The beats of one holder, as one waiter sees them.
#[derive(Debug, Default)]
pub(super) struct Rhythm {
    last: Option<Beat>,
    /// When it was looked last …
    looking: Option<Boot>,
    /// … and last of all before that found no other than the last beat.
    looked: Option<Boot>,
    ahead: Ahead,
    /// When to look for the next one, and again if it was not there.
    looks: [Option<Boot>; 3],
}

/// By how many microseconds this machine's *B* is ahead of the other's wall clock, with what it takes until
/// a renewal can be seen: by more than the one, and at most the other.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    least: i64,
    most: i64,
}

/// By how many microseconds a renewal may be seen late: it is not tried to see it sooner.
const CLOSE: i64 = 150_000;
/// How many more it may take to be there than the quickest took.
const SLACK: i64 = 100_000;
/// Who is later than that is looked for once more, so much later.
const LATE: i64 = 300_000;

impl Rhythm {
    /// Takes note of the last renewal there is.
    pub(super) fn note(&mut self, beat: Beat, now: Moment) {
        let before = std::mem::replace(&mut self.looked, self.looking);
        let former = self.last.replace(beat);
        if former == Some(beat) {
            return;
        }
        let bounds = Ahead {
            least: before.map_or(i64::MIN, |looked| difference(looked, beat.at)),
            most: difference(beat.seen, beat.at),
        };
        let known = former.filter(|former| former.of == beat.of);
        self.ahead = known.map_or(bounds, |_| self.ahead.and(bounds));
        self.looks = [None; 3];
        if let Some(next) = beat.next {
            let most = self.ahead.most.saturating_add(SLACK);
            let looks = [self.ahead.to_try(now), most, most.saturating_add(LATE)];
            self.looks = looks.map(|ahead| Some(reading(next, ahead)));
        }
    }

    /// When to look for the next one.
    pub(super) fn next(&self, now: Boot) -> Option<Boot> {
        self.looks.into_iter().flatten().find(|at| *at > now)
    }

    /// It is looked now.
    pub(super) fn look(&mut self, now: Boot) {
        self.looking = Some(now);
    }
}

impl Default for Ahead {
    fn default() -> Self {
        Self { least: i64::MIN, most: i64::MAX }
    }
}

impl Ahead {
    /// The bounds that both have; the later ones, if one of the clocks was set meanwhile.
    fn and(self, later: Self) -> Self {
        let both = Self { least: self.least.max(later.least), most: self.most.min(later.most) };
        if both.least < both.most { both } else { later }
    }

    /// What is to be tried next, for narrower bounds: as far as this machine's own wall clock is ahead, if
    /// that can be, as most clocks agree; otherwise half of what is possible.
    fn to_try(self, now: Moment) -> i64 {
        let Self { least, most } = self;
        let agreeing = difference(now.boot, now.wall).saturating_add(SLACK);
        if most.saturating_sub(least) <= CLOSE {
            most.saturating_add(SLACK)
        } else if least < agreeing && agreeing < most - CLOSE {
            agreeing
        } else if (most - CLOSE..=most).contains(&agreeing) {
            most - CLOSE
        } else if least == i64::MIN {
            most
        } else {
            least + (most - least) / 2
        }
    }
}

/// By how many microseconds a reading of *B* is ahead of one of a wall clock.
fn difference(boot: Boot, wall: Wall) -> i64 {
    let boot = i64::try_from(boot.since_origin().as_micros()).unwrap_or(i64::MAX);
    boot.saturating_sub(wall.micros())
}

fn reading(wall: Wall, ahead: i64) -> Boot {
    let micros = wall.micros().saturating_add(ahead);
    Boot::new(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000;

    /// Someone else's clock, ahead of this one's wall clock; renewals every ten seconds can be seen at once.
    struct Other {
        ahead: i64,
        rhythm: Rhythm,
        renewals: u64,
    }

    fn now(micros: u64) -> Moment {
        let wall = Wall::from_micros(i64::try_from(micros).unwrap() + 1_795_000_000_000_000);
        Moment { boot: Boot::new(Duration::from_micros(micros)), wall }
    }

    impl Other {
        fn new(ahead: i64) -> Self {
            Self { ahead, rhythm: Rhythm::default(), renewals: 0 }
        }

        fn wall(&self, micros: u64) -> Wall {
            Wall::from_micros(now(micros).wall.micros() + self.ahead)
        }

        /// When the renewal takes place that is to be seen next.
        fn due(&self) -> u64 {
            MINUTE + (self.renewals + 1) * 10_000_000
        }

        /// Looks at this time.
        fn look(&mut self, micros: u64) {
            if micros >= self.due() {
                self.renewals += 1;
            }
            let renewed = self.due() - 10_000_000;
            let last = self.rhythm.last.map(|beat| (beat.at, beat.seen));
            let at = self.wall(renewed);
            let seen =
                last.filter(|(last, _)| *last == at).map_or(now(micros).boot, |(_, seen)| seen);
            let next = Some(self.wall(self.due()));
            let beat = Beat { of: HolderId::from_random(1), at, next, seen };
            self.rhythm.look(now(micros).boot);
            self.rhythm.note(beat, now(micros));
        }

        /// How late the renewals are seen by who looks when it should, and how often it looks.
        fn late(&mut self, renewals: usize) -> Vec<(u64, usize)> {
            let mut late = Vec::new();
            for _ in 0..renewals {
                let (due, mut looks) = (self.due(), 0);
                let mut at = self.rhythm.looked.unwrap();
                while self.due() == due {
                    // As late as it looks anyway.
                    at = self.rhythm.next(at).unwrap_or(now(due + 4_000_000).boot);
                    self.look(u64::try_from(at.since_origin().as_micros()).unwrap());
                    looks += 1;
                }
                let seen = u64::try_from(at.since_origin().as_micros()).unwrap();
                late.push(((seen - due) / 1000, looks));
            }
            late
        }
    }

    #[test]
    fn where_clocks_agree_each_renewal_is_seen_at_once() {
        let mut other = Other::new(0);
        other.look(MINUTE + 4_000_000);
        let once = (200, 1);
        assert_eq!(
            other.late(4),
            [(100, 1), (200, 2), once, once],
            "the second tries whether it is sooner"
        );
    }

    #[test]
    fn where_they_do_not_it_is_found_out_by_how_much() {
        for ahead in [700_000, -700_000, 3_000_000, -3_000_000, 3_600_000_000, -3_600_000_000] {
            let mut other = Other::new(ahead);
            other.look(MINUTE + 4_000_000);
            let late = other.late(10);
            assert!(late.iter().all(|(late, looks)| *late <= 4100 && *looks <= 2), "{late:?}");
            assert!(late[7..].iter().all(|(late, looks)| *late <= 250 && *looks <= 2), "{late:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_is_learned_anew() {
        let mut other = Other::new(0);
        other.look(MINUTE + 4_000_000);
        other.late(3);
        other.ahead = -5_000_000;
        let late = other.late(12);
        assert!(late[8..].iter().all(|(late, looks)| *late <= 250 && *looks <= 2), "{late:?}");
    }

    #[test]
    fn who_does_not_tell_is_not_looked_for() {
        let mut rhythm = Rhythm::default();
        let start = now(MINUTE);
        let of = HolderId::from_random(1);
        rhythm.note(Beat { of, at: start.wall, next: None, seen: start.boot }, start);
        assert_eq!(rhythm.next(start.boot), None);
        // Nor who tells nonsense.
        for next in [i64::MIN, i64::MAX, 0].map(Wall::from_micros) {
            let at = start.wall.plus(Duration::from_secs(1));
            rhythm.note(Beat { of, at, next: Some(next), seen: start.boot }, start);
            let _ = rhythm.next(start.boot);
        }
    }
}
