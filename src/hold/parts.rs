//! The leases that another is made of.
//!
//! **Invariant.** While the whole says that it is held, so many of its parts as are needed are held
//! by their own account, each within its own 0.9 × TTL. The whole counts from the reading at which
//! the last of those that are needed counts: of `n` parts, of which `needed` have to be held, from
//! the `needed`-th largest `sent` of those that are live. So its deadline is an order statistic of
//! theirs, and moves back when one of them is lost.
//!
//! A reading has two clocks, which may disagree about what came first. The parts are put in order by
//! how long ago `sent` is by whichever clock has moved further, which is what each of them is judged
//! by; of those that are counted on, the earlier reading of each clock is taken. So the whole ends
//! with the first of them, whichever clock ends it.
//!
//! A part that has ended never counts again, and neither does a whole that had too few.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Hold, LeasePhase};
use crate::clock::Moment;

#[derive(Debug)]
pub(super) struct Parts {
    needed: usize,
    live: Mutex<Live>,
}

#[derive(Debug)]
struct Live {
    holds: Vec<Arc<Hold>>,
    /// Room for a judgement, kept because asking a guard does not allocate.
    readings: Vec<(Duration, Moment)>,
}

/// How a whole stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// Enough of it is held, and counts from here.
    Held(Moment),
    /// Too little of it: how the one ended that made it too few.
    Ended(LeasePhase),
}

impl Parts {
    /// At least `needed` leases, all of the same TTL and on the same clocks.
    pub(super) fn new(needed: usize, holds: Vec<Arc<Hold>>) -> Self {
        debug_assert!((1..=holds.len()).contains(&needed), "{needed} of {}", holds.len());
        let readings = Vec::with_capacity(holds.len());
        Self { needed, live: Mutex::new(Live { holds, readings }) }
    }

    pub(super) fn admit(&self, part: Arc<Hold>) {
        self.live().holds.push(part);
    }

    /// Asks every part.
    pub(super) fn standing(&self, now: Moment) -> Standing {
        let Live { holds, readings } = &mut *self.live();
        let mut left = holds.len();
        let mut decisive = None;
        readings.clear();
        holds.retain(|hold| {
            hold.settle();
            let state = hold.state.borrow();
            if state.is_live() {
                readings.push((now.since(state.sent), state.sent));
                return true;
            }
            left -= 1;
            if left < self.needed && decisive.is_none() {
                decisive = Some(state.phase.clone());
            }
            false
        });
        if let Some(phase) = decisive {
            return Standing::Ended(phase);
        }
        readings.sort_unstable_by_key(|(age, _)| *age);
        let counted = readings[..self.needed].iter().map(|(_, sent)| *sent);
        let earlier =
            |a: Moment, b: Moment| Moment { boot: a.boot.min(b.boot), wall: a.wall.min(b.wall) };
        Standing::Held(counted.reduce(earlier).unwrap_or_default())
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Boot, Clock, Wall};
    use crate::hold::LossReason;
    use crate::holder::HolderId;
    use crate::options::LockOptions;
    use crate::token::FencingToken;

    const TTL: Duration = Duration::from_secs(30);

    /// A clock that is set by hand. Nobody sleeps by it here.
    #[derive(Clone, Debug, Default)]
    struct Set(Arc<Mutex<Moment>>);

    impl Set {
        fn to(&self, boot: u64, wall: i64) {
            *self.0.lock().unwrap() = moment(boot, wall);
        }
    }

    impl Clock for Set {
        fn now(&self) -> Moment {
            *self.0.lock().unwrap()
        }

        fn sleep_until(&self, _: Boot) -> futures::future::BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    fn moment(boot: u64, wall: i64) -> Moment {
        Moment {
            boot: Boot::new(Duration::from_secs(boot)),
            wall: Wall::from_micros(wall * 1_000_000),
        }
    }

    struct World {
        clock: Set,
        parts: Vec<Arc<Hold>>,
        whole: Hold,
    }

    /// Parts that were sent at these times, by both clocks.
    fn world(needed: usize, sent: &[(u64, i64)], now: (u64, i64)) -> World {
        let clock = Set::default();
        clock.to(now.0, now.1);
        let terms = LockOptions { ttl: Some(TTL), ..LockOptions::default() }.check().unwrap();
        let (id, token) = (HolderId::from_random(1), FencingToken::new(7).unwrap());
        let hold = |(boot, wall): &(u64, i64)| {
            let clock = Arc::new(clock.clone());
            Arc::new(Hold::new("x".into(), id, token, moment(*boot, *wall), &terms, clock))
        };
        let parts: Vec<_> = sent.iter().map(hold).collect();
        let ours = Arc::new(clock.clone());
        let of = (needed, parts.clone());
        let whole = Hold::of_parts("x".into(), id, token, &terms, ours, of);
        World { clock, parts, whole }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn the_deadline_is_that_of_the_last_part_that_is_needed() {
        for (needed, left) in [(1, 26), (2, 24), (3, 20)] {
            let world = world(needed, &[(107, 7), (103, 3), (109, 9)], (110, 10));
            assert_eq!(world.whole.remaining(), seconds(left), "{needed}");
        }
    }

    #[test]
    fn it_moves_back_when_a_part_is_lost_and_on_when_one_is_renewed_or_admitted() {
        let world = world(2, &[(107, 7), (103, 3), (109, 9)], (110, 10));
        world.parts[2].end(LossReason::RecordDeleted);
        assert_eq!(world.whole.remaining(), seconds(20));
        assert!(world.parts[1].extend(moment(110, 10)));
        assert_eq!(world.whole.remaining(), seconds(24));
        world.whole.admit(Arc::clone(&self::world(1, &[(110, 10)], (110, 10)).parts[0]));
        assert_eq!(world.whole.remaining(), seconds(27));
        // Two of three again: another may go.
        world.parts[0].end(LossReason::RecordDeleted);
        assert!(world.whole.is_held());
    }

    #[test]
    fn it_ends_for_good_with_the_reason_of_the_one_that_made_it_too_few() {
        let world = world(2, &[(107, 7), (103, 3), (109, 9)], (110, 10));
        world.parts[0].end(LossReason::RecordDeleted);
        assert!(world.whole.is_held());
        world.parts[1].end(LossReason::RecordUnreadable);
        // Nobody has told the whole: it asks.
        assert!(!world.whole.is_held());
        assert_eq!(world.whole.loss(), Some(LossReason::RecordUnreadable));
        let another = self::world(1, &[(110, 10)], (110, 10));
        world.whole.admit(Arc::clone(&another.parts[0]));
        assert!(!world.whole.is_held());
    }

    #[test]
    fn of_parts_that_are_all_lost_at_once_the_decisive_one_counts() {
        let world = world(2, &[(107, 7), (103, 3), (109, 9)], (110, 10));
        for (part, reason) in world.parts.iter().zip([
            LossReason::RecordDeleted,
            LossReason::RecordUnreadable,
            LossReason::MaxHold,
        ]) {
            part.end(reason);
        }
        assert!(!world.whole.is_held());
        assert_eq!(world.whole.loss(), Some(LossReason::RecordUnreadable));
    }

    #[test]
    fn parts_that_are_given_back_give_the_whole_back() {
        let world = world(2, &[(109, 9), (109, 9)], (110, 10));
        world.parts[0].begin_release().unwrap();
        assert!(!world.whole.is_held());
        assert_eq!((world.whole.loss(), world.whole.is_live()), (None, false));
    }

    #[test]
    fn time_ends_it_with_the_part_that_it_ends() {
        let world = world(2, &[(107, 7), (103, 3), (109, 9)], (110, 10));
        world.clock.to(133, 33);
        assert_eq!(world.whole.remaining(), seconds(1));
        world.clock.to(134, 34);
        assert!(!world.whole.is_held());
        assert!(world.parts[2].is_held());
        assert_eq!(world.whole.loss(), Some(LossReason::Expired));
    }

    #[test]
    fn it_never_outlives_those_it_counts_on_when_the_clocks_disagree() {
        // The wall clock was set back by 5 s between the two renewals.
        let world = world(2, &[(100, 100), (103, 98)], (104, 99));
        assert_eq!(world.whole.remaining(), seconds(23));
        for second in 0..60 {
            world.clock.to(104 + second, 99 + 2 * i64::try_from(second).unwrap());
            let held = world.whole.is_held();
            assert!(!held || world.parts.iter().all(|part| part.is_held()), "{second}");
        }
        assert!(!world.whole.is_held());
    }

    #[test]
    fn a_warning_comes_and_goes_with_the_parts() {
        let world = world(2, &[(100, 0), (100, 0), (90, -10)], (110, 10));
        assert_eq!(world.whole.status().phase, LeasePhase::Held);
        world.clock.to(115, 15);
        assert!(world.whole.is_held());
        assert_eq!(world.whole.status().phase, LeasePhase::AtRisk);
        assert!(world.parts[0].extend(moment(114, 14)));
        assert!(world.whole.is_held());
        assert_eq!(world.whole.status().phase, LeasePhase::AtRisk);
        assert!(world.parts[1].extend(moment(115, 15)));
        assert!(world.whole.is_held());
        let status = world.whole.status();
        assert_eq!((status.phase, status.renewals), (LeasePhase::Held, 1));
    }
}
