//! What a waiter expects of those who have the lock or want it, going by the record. It decides when to
//! look, and nothing else.

use std::time::Duration;

use super::{Contender, View};
use crate::clock::Boot;
use crate::polling::Expected;
use crate::record::{Ended, Record, Tenure};

/// Of how many tenures the usual one is taken.
const TENURES: usize = 8;

impl Contender {
    /// What to expect, and since when the present holder has been seen.
    pub(super) fn expected(&self, view: &View) -> Option<(Expected, Boot)> {
        let record = view.found.as_deref()?;
        // Of several, whoever has had it longest.
        let holders = record.holders.iter();
        let seen = holders.filter_map(|lease| Some((view.observations.since(lease)?, lease.id)));
        let (since, holder) = seen.min()?;
        let place = record.waiters.iter().position(|ticket| ticket.id == self.id);
        let ahead = place.and_then(|place| u32::try_from(place).ok()).unwrap_or(0);
        let hold = usual_hold(&record.history);
        Some((Expected { holder, hold, ahead, rivals: self.rivals(record) }, since))
    }

    /// How many others have had it lately.
    fn rivals(&self, record: &Record) -> u32 {
        let own = &self.terms.owner;
        let tenures = record.history.iter().map(|tenure| &tenure.owner);
        let holders = record.holders.iter().map(|lease| &lease.owner);
        let mut others: Vec<_> = tenures
            .chain(holders)
            .map(|owner| (&owner.host, owner.pid))
            .filter(|(host, pid)| (*host, *pid) != (&own.host, own.pid))
            .collect();
        others.sort_unstable();
        others.dedup();
        u32::try_from(others.len()).unwrap_or(u32::MAX)
    }
}

/// The median of the last tenures that ended as they should.
fn usual_hold(history: &[Tenure]) -> Option<Duration> {
    let done = |tenure: &&Tenure| matches!(tenure.ended, Ended::Released | Ended::Finished);
    let last = history.iter().rev().filter(done).take(TENURES);
    let mut holds: Vec<_> = last.map(|tenure| tenure.to.since(tenure.from)).collect();
    holds.sort_unstable();
    holds.get(holds.len() / 2).copied()
}
