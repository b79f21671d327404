//! How many reads a waiter may spend.

use std::time::Duration;

use crate::clock::Boot;

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// So many reads can be paid for at any time, and another one every so often. (The generic cell rate
/// algorithm, ITU-T I.371.)
#[derive(Debug)]
pub(super) struct Purse {
    every: Duration,
    at_once: u32,
    /// How many of those are only for renewals, which are seen in time or in vain.
    pub(super) spared: u32,
    /// By when all that was spent would have been earned.
    earned: Option<Boot>,
}

impl Purse {
    pub(super) fn of(first_minute: u32) -> Self {
        let at_once = first_minute / 2;
        let every = MINUTE / (first_minute - at_once);
        Self { every, at_once, spared: at_once / 4, earned: None }
    }

    /// From when on the next read can be paid for, with so many left: when the last but one of those that can
    /// be spent at once has been earned again.
    pub(super) fn payable(&self, left: u32) -> Boot {
        let in_debt = self.every * (self.at_once - 1 - left);
        let earned = self.earned.unwrap_or_default();
        Boot::new(earned.since_origin().saturating_sub(in_debt))
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
    }
}
