//! How often a waiter looks whether a lock has become free.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Boot, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::holder::HolderId;
use crate::rng::Randomness;

mod purse;
#[cfg(test)]
mod queue;
mod rhythm;

use purse::{MINUTE, Purse};
pub(crate) use rhythm::Beat;
use rhythm::Rhythm;

/// How often a waiter looks whether a lock has become free: each look is one conditional read.
///
/// Looks come when the present holder may be done, going by the tenures in the lock's history; without one,
/// and after that, pauses double from the shortest to the longest, each drawn between three quarters of that
/// and the whole. Both begin again when somebody else has got the lock. The number of looks is bounded in any
/// case: half of those of the first minute may come at any time, the others at pauses that grow with what has
/// been waited, and all later ones are spread evenly.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Who holds it …
    pub(crate) holder: HolderId,
    /// … and for how long others did lately, the shortest first.
    pub(crate) holds: Vec<Duration>,
    /// How many others will have it before, in the queue; nothing without a ticket.
    pub(crate) ahead: Option<u32>,
    /// How many others have had it lately and may take it when it is free.
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
    /// Who held it when it was seen last, and how many would have it before.
    seen: Option<(HolderId, Option<u32>)>,
    /// When the lock may be free, going by former holders; the last first.
    chances: Vec<Boot>,
    /// How much earlier than that it is looked at most.
    gap: Duration,
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
            seen: None,
            chances: Vec::new(),
            gap: polling.shortest,
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
        // Where it stands matters as well: without a ticket it was looked as if it were next.
        let seen = Some((expected.holder, expected.ahead));
        if std::mem::replace(&mut self.seen, seen) == seen {
            return;
        }
        self.planned = None;
        self.chances.clear();
        let Polling { shortest, longest, .. } = self.polling;
        let gap = shortest.saturating_mul(expected.rivals.max(1)).min(longest);
        self.gap = gap;
        self.bound = if expected.holds.is_empty() { shortest } else { gap };
        let Some(most) = expected.holds.last() else { return };
        if let Some(ahead) = expected.ahead.filter(|ahead| *ahead > 0) {
            // By then it may be first in the queue, and will know more.
            let usual = expected.holds[expected.holds.len() / 2];
            let soon = usual.saturating_mul(ahead);
            self.chances.push(since.plus((soon / 10 * 7).max(shortest)));
            self.bound = gap.max(soon).min(longest);
            return;
        }
        let chances = chances(&expected.holds, gap);
        // For one holder no more than half of what can be spent.
        let left = self.purse.as_ref().map_or(u32::MAX, |purse| purse.left(now.boot));
        let every = chances.len().div_ceil((left / 2).max(1) as usize).max(1);
        // The earliest of all: where tenures are long because others noticed late that it was their turn,
        // they would become longer and longer.
        self.chances.extend(chances.iter().step_by(every).map(|after| since.plus(*after)));
        self.chances.reverse();
        self.bound = gap.max(*most / 4).min(longest);
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
        // A look at a session in between does not put it off.
        let wake = self.planned.unwrap_or_else(|| self.plan(now));
        self.planned = Some(wake);
        // It leaves something for renewals, unless that makes it late.
        let late = wake.plus(self.polling.longest / 2);
        self.purse.as_ref().map_or(wake, |purse| {
            wake.max(purse.payable(purse.spared)).min(late.max(purse.payable(0)))
        })
    }

    fn plan(&mut self, now: Boot) -> Boot {
        let longest = self.polling.longest;
        while self.chances.pop_if(|at| *at <= now).is_some() {}
        if let Some(chance) = self.chances.pop_if(|at| at.since(now) <= longest) {
            let pause = chance.since(now);
            let early = self.gap.min(pause / 4);
            return now.plus(pause - early + self.rng.up_to(early));
        }
        let mut pause = longest;
        if self.chances.is_empty() {
            pause = self.bound;
            self.bound = (self.bound * 2).min(longest);
        }
        now.plus(pause / 4 * 3 + self.rng.up_to(pause / 4))
    }

    /// It is looked now. Only looks are counted: who has something else to do first, and waits for the
    /// end of a session say, has not looked.
    pub(crate) fn look(&mut self, now: Boot, at: Look) {
        if at == Look::Lock {
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

/// After how long one of the former holders would have been done, and halfway between two of them, but not
/// more often than every `gap`.
fn chances(holds: &[Duration], gap: Duration) -> Vec<Duration> {
    let mut chances = Vec::new();
    let (mut before, mut last) = (Duration::ZERO, Duration::ZERO);
    for hold in holds {
        for after in [(before + *hold) / 2, *hold] {
            if after >= last + gap {
                chances.push(after);
                last = after;
            }
        }
        before = *hold;
    }
    chances
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

    fn held(number: u128, holds: &[u64], ahead: Option<u32>, rivals: u32) -> Expected {
        let holds = holds.iter().copied().map(ms).collect();
        let holder = HolderId::from_random(number);
        Expected { holder, holds, ahead, rivals, beat: None, session: None }
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
                polls.expect(held(holder, &[3], None, 7), now, at(now));
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
    fn a_look_comes_whenever_a_former_holder_would_be_done_and_halfway_between() {
        let mut polls = polls(Polling::new().reads_in_first_minute(None), u128::MAX);
        polls.expect(held(1, &[100, 102, 400], None, 1), START, at(START));
        // After all of them, pauses double from a quarter of the longest.
        assert_eq!(looks(&mut polls, ms(720)), [50, 100, 251, 400, 500, 700].map(ms));
        // The next holder was seen late.
        polls.expect(held(2, &[40], None, 1), Boot::new(ms(999_980)), at(START));
        assert_eq!(looks(&mut polls, ms(30)), [20, 30].map(ms));
        // It is never looked more rarely than it may be, however long others had it.
        polls.expect(held(3, &[60_000], None, 1), START, at(START));
        assert_eq!(looks(&mut polls, ms(12_000)), [5000, 10_000].map(ms));
    }

    #[test]
    fn one_holder_does_not_use_up_the_reads() {
        let holds: Vec<_> = (1..=8).map(|eighth| eighth * 100).collect();
        let mut polls = polls(Polling::new(), u128::MAX);
        polls.expect(held(1, &holds, None, 1), START, at(START));
        assert_eq!(looks(&mut polls, ms(800)), [50, 200, 350, 500, 650, 800].map(ms));
        let now = START.plus(ms(900));
        polls.expect(held(2, &holds, None, 1), now, at(now));
        assert_eq!(polls.chances.len(), 2);
    }

    #[test]
    fn the_more_want_it_the_rarer_each_looks() {
        let seen = |ahead, rivals, within| {
            let mut polls = polls(Polling::new().reads_in_first_minute(None), u128::MAX);
            polls.expect(held(1, &[10, 20, 30], ahead, rivals), START, at(START));
            looks(&mut polls, ms(within))
        };
        assert_eq!(seen(None, 1, 30), [5, 10, 15, 20, 25, 30].map(ms));
        assert_eq!(seen(None, 4, 30), [20].map(ms));
        // Three others will have it before.
        assert_eq!(seen(Some(3), 0, 45), [42].map(ms));
    }

    #[test]
    fn who_stands_further_back_looks_when_most_of_the_others_should_be_done() {
        let mut polls = polls(Polling::new().reads_in_first_minute(None), u128::MAX);
        polls.expect(held(1, &[1, 10, 100], Some(6), 0), START, at(START));
        // Then after as long again: whatever keeps the lock, it is not for this one to notice.
        assert_eq!(looks(&mut polls, ms(250)), [42, 102, 222].map(ms));
    }

    #[test]
    fn a_ticket_puts_off_what_was_planned_without_one() {
        let mut polls = polls(Polling::new(), u128::MAX);
        polls.expect(held(1, &[10], None, 0), START, at(START));
        assert_eq!(polls.next(START).0, START.plus(ms(5)));
        polls.expect(held(1, &[10], Some(6), 0), START, at(START));
        assert_eq!(polls.next(START).0, START.plus(ms(42)));
    }

    #[test]
    fn who_is_first_in_the_queue_and_has_no_reads_left_is_not_late_by_seconds() {
        let mut polls = polls(Polling::new(), u128::MAX);
        let mut now = START;
        for _ in 0..12 {
            now = now.plus(ms(10));
            polls.look(now, Look::Lock);
        }
        polls.expect(held(12, &[10], Some(0), 0), now, at(now));
        let next = polls.next(now).0;
        assert!((ms(50)..ms(60)).contains(&next.since(now)), "{:?}", next.since(now));
    }

    #[test]
    fn the_last_reads_are_for_the_earliest_chances() {
        let mut polls = polls(Polling::new(), u128::MAX);
        for _ in 0..11 {
            polls.look(START, Look::Lock);
        }
        polls.expect(held(1, &[20, 400, 800], Some(0), 0), START, at(START));
        assert_eq!(polls.next(START).0, START.plus(ms(10)));
    }

    #[test]
    fn the_same_holder_starts_nothing_over() {
        let mut polls = polls(Polling::new(), u128::MAX);
        for look in [5, 10, 20, 40] {
            polls.expect(held(1, &[], None, 0), START, at(START));
            assert_eq!(polls.next(START).0, START.plus(ms(look)));
            assert_eq!(polls.next(START).0, START.plus(ms(look)), "nobody has looked");
            polls.look(START, Look::Lock);
        }
        polls.expect(held(2, &[], None, 0), START, at(START));
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
