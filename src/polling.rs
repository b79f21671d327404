//! How often a waiter looks whether a lock has become free.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Boot, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::holder::HolderId;
use crate::rng::Randomness;

mod rhythm;

pub(crate) use rhythm::Beat;
use rhythm::Rhythm;

/// How often a waiter looks whether a lock has become free: each look is one conditional read.
///
/// Pauses between looks double from the shortest to the longest, and begin again when somebody else has
/// got the lock and about when the present holder is expected to be done, going by the tenures in the
/// lock's history. Each is drawn between three quarters of that and the whole. The number of looks is bounded in any
/// case: half of those of the first minute may come at any time, the others are spread evenly, and so are all
/// later ones.
///
/// ```
/// # use std::time::Duration;
/// # use leaselock::Polling;
/// # fn wait(store: leaselock::Store) {
/// // Several hundred reads a second, for locks that are held for milliseconds.
/// let hot = store.lock("ledger/7").polling(Polling::fast());
/// // Four reads a minute, for a lock that is held for hours.
/// let cold = store.lock("yearly").polling(Polling::new().longest(Duration::from_secs(15)));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    shortest: Duration,
    longest: Duration,
    first_minute: Option<u32>,
}

/// Where somebody is expected to hold a lock for long, a first look comes after this all the same.
const LONG: Duration = Duration::from_millis(100);
/// What a lock's way from one to the next takes, roughly, beyond the time it is held.
const CHANGE: Duration = Duration::from_millis(10);
const MINUTE: Duration = Duration::from_secs(60);

impl Polling {
    /// What is done unless something else is asked for: pauses from 5 ms to 5 s, and at most 30 reads in the
    /// first minute.
    #[must_use]
    pub const fn new() -> Self {
        let (shortest, longest) = (Duration::from_millis(5), Duration::from_secs(5));
        Self { shortest, longest, first_minute: Some(30) }
    }

    /// Pauses of 2 to 6 ms and no bound on the number of reads: a waiter notices within about 3 ms that the
    /// lock is free, for some 200 reads a second.
    #[must_use]
    pub const fn fast() -> Self {
        let (shortest, longest) = (Duration::from_millis(2), Duration::from_millis(6));
        Self { shortest, longest, first_minute: None }
    }

    /// The shortest pause: 1 ms to the longest.
    #[must_use]
    pub const fn shortest(self, pause: Duration) -> Self {
        Self { shortest: pause, ..self }
    }

    /// The longest pause: up to 1 h.
    #[must_use]
    pub const fn longest(self, pause: Duration) -> Self {
        Self { longest: pause, ..self }
    }

    /// How many reads there may be in the first minute of a wait: 5 or more; `None` for as many as the pauses
    /// allow.
    #[must_use]
    pub const fn reads_in_first_minute(self, reads: Option<u32>) -> Self {
        Self { first_minute: reads, ..self }
    }

    /// All that it consists of.
    pub(crate) const fn bounds(self) -> (Duration, Duration, Option<u32>) {
        (self.shortest, self.longest, self.first_minute)
    }

    /// # Errors
    /// [`InvalidOptions`](ErrorKind::InvalidOptions), with the bound in the message.
    pub(crate) fn check(self) -> Result<Self> {
        let Self { shortest, longest, first_minute } = self;
        let least = Duration::from_millis(1);
        let message = if shortest < least {
            format!(
                "the shortest pause between polls is {shortest:?}, but must be at least {least:?}"
            )
        } else if longest < shortest {
            format!(
                "the longest pause between polls, {longest:?}, is below the shortest, {shortest:?}"
            )
        } else if longest > 60 * MINUTE {
            format!("the longest pause between polls is {longest:?}, but must be at most 3600s")
        } else if first_minute.is_some_and(|reads| reads < 5) {
            "at least 5 reads have to be allowed in the first minute of a wait".to_owned()
        } else {
            return Ok(self);
        };
        Err(Error::new(ErrorKind::InvalidOptions, message))
    }
}

impl Default for Polling {
    fn default() -> Self {
        Self::new()
    }
}

/// What is to be expected of those who have the lock or want it, going by the record. It decides when to
/// look and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Who holds it …
    pub(crate) holder: HolderId,
    /// … for how long, usually.
    pub(crate) usual: Option<Usual>,
    /// How many others will have it before.
    pub(crate) ahead: u32,
    /// How many others have had it lately and may want it again.
    pub(crate) rivals: u32,
    /// Its last renewal.
    pub(crate) beat: Option<Beat>,
    /// Under which session it is held: then that is what is renewed, and has to be looked at apart.
    pub(crate) session: Option<HolderId>,
}

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Lock,
    Session(HolderId),
}

/// For how long a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usual {
    pub(crate) hold: Duration,
    /// Whether it is for about as long every time.
    pub(crate) regular: bool,
}

/// The looks of one waiter.
#[derive(Debug)]
pub(crate) struct Polls {
    polling: Polling,
    rng: Arc<dyn Randomness>,
    purse: Option<Purse>,
    /// Of the next pause.
    bound: Duration,
    /// When to look at the lock next, purse or no purse.
    planned: Option<Boot>,
    holder: Option<HolderId>,
    /// When the lock will probably be free, until that has passed.
    free_at: Option<Boot>,
    /// The first pause then.
    about_then: Duration,
    rhythm: Rhythm,
    session: Option<HolderId>,
}

impl Polls {
    pub(crate) fn new(polling: Polling, rng: Arc<dyn Randomness>) -> Self {
        Self {
            polling,
            rng,
            purse: polling.first_minute.map(Purse::of),
            bound: polling.shortest,
            planned: None,
            holder: None,
            free_at: None,
            about_then: polling.shortest,
            rhythm: Rhythm::default(),
            session: None,
        }
    }

    /// Takes note of who holds the lock, seen to do so since `since`.
    pub(crate) fn expect(&mut self, expected: Expected, since: Boot, now: Moment) {
        self.session = expected.session;
        if let Some(beat) = expected.beat {
            self.rhythm.note(beat, now);
        }
        if self.holder.replace(expected.holder) == Some(expected.holder) {
            return;
        }
        self.planned = None;
        let Polling { shortest, longest, .. } = self.polling;
        let turns = if expected.ahead > 0 { expected.ahead + 1 } else { expected.rivals.max(1) };
        self.about_then = shortest;
        self.bound = shortest;
        if let Some(Usual { hold, regular }) = expected.usual {
            // What it takes to be late by is measured by how long it is held.
            let about_then = shortest.max(hold / 8).saturating_mul(turns);
            self.about_then = about_then.min(longest);
            let first = if regular {
                hold.saturating_mul(2)
            } else {
                hold.saturating_add(CHANGE).saturating_mul(turns).min(LONG * 2) / 2
            };
            self.bound = first.clamp(shortest, longest);
            let before = hold.saturating_add(CHANGE).saturating_mul(expected.ahead);
            self.free_at = Some(since.plus(before.saturating_add(hold)));
        }
    }

    /// When to look next, and at what.
    pub(crate) fn next(&mut self, now: Boot) -> (Boot, Look) {
        let wake = self.next_of_lock(now);
        let Some(renewal) = self.rhythm.next(now) else { return (wake, Look::Lock) };
        let renewal = self.purse.as_ref().map_or(renewal, |purse| renewal.max(purse.payable(0)));
        // One look does for both, where that is of the same record.
        let skips = self.session.is_none() && self.bound >= self.polling.longest;
        let latest = if skips { now.plus(self.polling.longest) } else { wake };
        if renewal >= latest {
            return (wake, Look::Lock);
        }
        (renewal, self.session.map_or(Look::Lock, Look::Session))
    }

    fn next_of_lock(&mut self, now: Boot) -> Boot {
        if self.free_at.take_if(|at| *at <= now).is_some() {
            self.bound = self.about_then;
            self.planned = None;
        }
        // A look at a session in between does not put it off.
        let wake = *self.planned.get_or_insert_with(|| {
            let pause = self.bound / 4 * 3 + self.rng.up_to(self.bound / 4);
            let wake = now.plus(pause);
            self.free_at.map_or(wake, |at| wake.min(at))
        });
        // It leaves something for renewals, unless that makes it late.
        let late = wake.plus(self.polling.longest / 2);
        self.purse.as_ref().map_or(wake, |purse| {
            wake.max(purse.payable(purse.spared)).min(late.max(purse.payable(0)))
        })
    }

    /// It is looked now. Only looks are counted: who has something else to do first, and waits for the
    /// end of a session say, has not looked.
    pub(crate) fn look(&mut self, now: Boot, at: Look) {
        if at == Look::Lock {
            self.bound = (self.bound * 2).min(self.polling.longest);
            self.planned = None;
        }
        if self.session.is_none() || at != Look::Lock {
            self.rhythm.look(now);
        }
        if let Some(purse) = &mut self.purse {
            purse.spend(now);
        }
    }
}

/// How many reads can be paid for: so many at any time, and another one every so often. (The generic cell
/// rate algorithm, ITU-T I.371.)
#[derive(Debug)]
struct Purse {
    every: Duration,
    at_once: u32,
    /// How many of those are only for renewals, which are seen in time or in vain.
    spared: u32,
    /// By when all that was spent would have been earned.
    earned: Option<Boot>,
}

impl Purse {
    fn of(first_minute: u32) -> Self {
        let at_once = first_minute / 2;
        let every = MINUTE / (first_minute - at_once);
        Self { every, at_once, spared: at_once / 4, earned: None }
    }

    /// From when on the next read can be paid for, with so many left: when the last but one of those that can
    /// be spent at once has been earned again.
    fn payable(&self, left: u32) -> Boot {
        let in_debt = self.every * (self.at_once - 1 - left);
        let earned = self.earned.unwrap_or_default();
        Boot::new(earned.since_origin().saturating_sub(in_debt))
    }

    fn spend(&mut self, now: Boot) {
        let earned = self.earned.unwrap_or(now);
        self.earned = Some(earned.max(now).plus(self.every));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SeededRandomness;

    const START: Boot = Boot::new(Duration::from_secs(1000));

    fn at(boot: Boot) -> Moment {
        Moment { boot, ..Moment::default() }
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Always the longest or the shortest pause.
    #[derive(Debug)]
    struct Always(u128);

    impl Randomness for Always {
        fn bits(&self) -> u128 {
            self.0
        }
    }

    fn polls(polling: Polling, bits: u128) -> Polls {
        Polls::new(polling.check().unwrap(), Arc::new(Always(bits)))
    }

    fn held(number: u128, hold: Option<Duration>, ahead: u32, rivals: u32) -> Expected {
        let usual = hold.map(|hold| Usual { hold, regular: false });
        let holder = HolderId::from_random(number);
        Expected { holder, usual, ahead, rivals, beat: None, session: None }
    }

    /// The looks within the time.
    fn looks(polls: &mut Polls, within: Duration) -> Vec<Duration> {
        let mut now = START;
        let mut looks = Vec::new();
        loop {
            let (next, _) = polls.next(now);
            assert!(next > now, "a wait for nothing is a storm");
            now = next;
            polls.look(now, Look::Lock);
            if now.since(START) > within {
                return looks;
            }
            looks.push(now.since(START));
        }
    }

    #[test]
    fn pauses_double_from_the_shortest_to_the_longest() {
        let unbounded = Polling::new().reads_in_first_minute(None);
        let mut longest = polls(unbounded, u128::MAX);
        let seen = looks(&mut longest, Duration::from_secs(12));
        let expected = [5, 15, 35, 75, 155, 315, 635, 1275, 2555, 5115, 10_115];
        assert_eq!(seen, expected.map(ms));
        let seen = looks(&mut polls(unbounded, 0), ms(100));
        let early = [3_750, 11_250, 26_250, 56_250].map(Duration::from_micros);
        assert_eq!(seen, early);
    }

    #[test]
    fn whatever_happens_the_number_of_looks_is_bounded() {
        for seed in 0..50 {
            let rng = Arc::new(SeededRandomness::new(seed));
            let mut polls = Polls::new(Polling::new(), rng);
            let (mut now, mut within) = (START, [0; 3]);
            for holder in 0.. {
                // Somebody else has it at every look.
                polls.expect(held(holder, Some(ms(3)), 0, 7), now, at(now));
                now = polls.next(now).0;
                polls.look(now, Look::Lock);
                let minute = now.since(START).as_secs() / 60;
                match within.get_mut(minute as usize) {
                    Some(count) => *count += 1,
                    None => break,
                }
            }
            assert!((26..=30).contains(&within[0]), "{within:?}");
            assert!(within[1..].iter().all(|count| (13..=16).contains(count)), "{within:?}");
        }
    }

    #[test]
    fn a_look_comes_when_the_lock_should_be_free_and_others_soon_after() {
        let mut polls = polls(Polling::new().reads_in_first_minute(None), u128::MAX);
        polls.expect(held(1, Some(ms(1000)), 0, 1), START, at(START));
        let seen = looks(&mut polls, ms(1400));
        assert_eq!(seen, [100, 300, 700, 1000, 1125, 1375].map(ms));
        // The next holder has it for as long, but was seen late.
        polls.expect(held(2, Some(ms(40)), 0, 1), Boot::new(ms(999_980)), at(START));
        assert_eq!(looks(&mut polls, ms(30)), [20, 25].map(ms));
        // It has it for as long as ever.
        let usual = Some(Usual { hold: ms(1000), regular: true });
        polls.expect(Expected { usual, ..held(3, None, 0, 1) }, START, at(START));
        assert_eq!(looks(&mut polls, ms(1130)), [1000, 1125].map(ms));
    }

    #[test]
    fn the_more_want_it_the_rarer_each_looks() {
        let first = |ahead, rivals| {
            let mut polls = polls(Polling::new(), u128::MAX);
            polls.expect(held(1, Some(ms(10)), ahead, rivals), START, at(START));
            polls.next(START).0.since(START)
        };
        assert_eq!([first(0, 0), first(0, 1)], [ms(10), ms(10)]);
        assert_eq!([first(0, 4), first(3, 0)], [ms(10), ms(40)]);
    }

    #[test]
    fn the_same_holder_starts_nothing_over() {
        let mut polls = polls(Polling::new(), u128::MAX);
        for look in [5, 10, 20, 40] {
            polls.expect(held(1, None, 0, 0), START, at(START));
            assert_eq!(polls.next(START).0, START.plus(ms(look)));
            assert_eq!(polls.next(START).0, START.plus(ms(look)), "nobody has looked");
            polls.look(START, Look::Lock);
        }
        polls.expect(held(2, None, 0, 0), START, at(START));
        assert_eq!(polls.next(START).0, START.plus(ms(5)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_bound() {
        let refused = |polling: Polling| polling.check().unwrap_err().to_string();
        assert!(refused(Polling::new().shortest(ms(0))).contains("1ms"));
        assert!(refused(Polling::new().longest(ms(4))).contains("5ms"));
        assert!(refused(Polling::new().longest(61 * MINUTE)).contains("3600s"));
        assert!(refused(Polling::new().reads_in_first_minute(Some(4))).contains('5'));
        assert_eq!(Polling::fast().check().unwrap(), Polling::fast());
    }
}
