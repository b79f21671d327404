//! What was counted on one store.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::log::Account;

/// Counters by what they count.
type Counts = BTreeMap<&'static str, u64>;

/// The counters of one store.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Numbers>);

/// What they show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    /// Commands started, and how many of them ended by themselves having done their work.
    pub(crate) runs: u64,
    pub(crate) completed: u64,
    /// Of the commands started, those whose clocks were set wrong.
    pub(crate) wrong_clocks: u64,
    /// From the commands' own logs.
    pub(crate) acquired: u64,
    pub(crate) takeovers: u64,
    pub(crate) losses: u64,
    pub(crate) records_deleted: u64,
    pub(crate) ambiguous: u64,
    pub(crate) resolved: u64,
    /// By what was done.
    pub(crate) mischief: Counts,
    pub(crate) faults: Counts,
    pub(crate) restarts: u64,
    /// Faults that have nothing to do with a section.
    pub(crate) violations: Vec<String>,
}

impl Tally {
    pub(crate) fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn did(&self, mischief: &'static str) {
        *self.numbers().mischief.entry(mischief).or_default() += 1;
    }

    pub(crate) fn fault(&self, fault: &'static str) {
        *self.numbers().faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn violation(&self, text: String) {
        self.numbers().violations.push(text);
    }

    /// A command has ended.
    pub(crate) fn account(&self, account: &Account) {
        let mut numbers = self.numbers();
        numbers.runs += 1;
        numbers.completed += u64::from(account.completed);
        numbers.acquired += account.acquired;
        numbers.takeovers += account.takeovers;
        numbers.losses += account.losses;
        numbers.records_deleted += account.records_deleted;
        numbers.ambiguous += account.ambiguous;
        numbers.resolved += account.resolved();
    }
}
