//! How many reads a waiter may spend.

use std::time::Duration;

use crate::clock::Boot;

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// So many reads can be paid for at any time, and another one every so often. (The generic cell rate
/// algorithm, ITU-T I.371.) Those of the first minute can be had in advance.
#[derive(Debug)]
pub(super) struct Purse {
    first_minute: u32,
    every: Duration,
    at_once: u32,
    /// How many of those are only for renewals, which are seen in time or in vain.
    pub(super) spared: u32,
    /// By when all that was spent would have been earned.
    earned: Option<Boot>,
    spent: Option<Spent>,
}

/// What was spent from the first read to the last.
#[derive(Debug)]
struct Spent {
    reads: u32,
    first: Boot,
    last: Boot,
}

impl Purse {
    pub(super) fn of(first_minute: u32) -> Self {
        let at_once = first_minute / 2;
        let every = MINUTE / (first_minute - at_once);
        Self { first_minute, every, at_once, spared: at_once / 4, earned: None, spent: None }
    }

    /// From when on the next read can be paid for, with so many left: when the last but one of those that can
    /// be spent at once has been earned again, or in advance.
    pub(super) fn payable(&self, left: u32) -> Boot {
        let in_debt = self.every * (self.at_once - 1 - left);
        let earned = self.earned.unwrap_or_default();
        let earned = Boot::new(earned.since_origin().saturating_sub(in_debt));
        self.in_advance(left).map_or(earned, |advance| advance.min(earned))
    }

    /// When the next one of the first minute can be had before it is earned. All of them together cut what is
    /// left of that minute into pauses that are the same part of what has been waited by then: who has
    /// waited for a second is late by less than one who has waited for ten, and nobody by more than a part.
    fn in_advance(&self, left: u32) -> Option<Boot> {
        let spent = self.spent.as_ref()?;
        let waited = spent.last.since(spent.first).max(Duration::from_millis(1));
        let reads = self.first_minute.checked_sub(spent.reads.saturating_add(left))?;
        if reads == 0 || waited >= MINUTE {
            return None;
        }
        let all = MINUTE.as_secs_f64() / waited.as_secs_f64();
        Some(spent.first.plus(waited.mul_f64(all.powf(f64::from(reads).recip()))))
    }

    /// How many can be paid for now, but for those that are spared.
    pub(super) fn left(&self, now: Boot) -> u32 {
        let owed = self.earned.unwrap_or_default().since(now).as_nanos();
        let owed = u32::try_from(owed.div_ceil(self.every.as_nanos())).unwrap_or(u32::MAX);
        (self.at_once - self.spared).saturating_sub(owed)
    }

    pub(super) fn spend(&mut self, now: Boot) {
        let earned = self.earned.unwrap_or(now);
        self.earned = Some(earned.max(now).plus(self.every));
        let spent = self.spent.get_or_insert(Spent { reads: 0, first: now, last: now });
        (spent.reads, spent.last) = (spent.reads.saturating_add(1), now);
    }
}
