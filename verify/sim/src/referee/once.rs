//! Work that is run once: what is on record, and what users are told of it.

use std::collections::BTreeSet;
use std::time::Duration;

use leaselock::record::Record;

use super::Referee;
use crate::clock::Time;

/// Every result that was ever on record.
#[derive(Debug, Default)]
pub(super) struct Results {
    recorded: Vec<Recorded>,
    /// Tokens of runs that were told that their result is not on record.
    refused: BTreeSet<u64>,
}

#[derive(Debug)]
struct Recorded {
    token: u64,
    result: String,
    retention: Option<Duration>,
    from: Time,
    until: Option<Time>,
}

impl Referee {
    /// A write is about to take the place of what is on record: what becomes of a result?
    pub(super) fn judge_results(&mut self, now: Time, lock: usize, process: usize, new: &Record) {
        let case = &self.locks[lock];
        let before = case.record.as_ref().and_then(|record| record.done.as_ref());
        if before == new.done.as_ref() {
            return;
        }
        if before.is_some() {
            self.judge_end_of_result(now, lock, process);
        }
        let Some(done) = &new.done else { return };
        let token = done.token.get();
        let holder = self.locks[lock].record.as_ref().and_then(|record| record.holders.first());
        let holder = holder.map(|lease| lease.token.get());
        if holder != Some(token) {
            self.violate(now, "only the holder on record records a result", || {
                format!("p{process} recorded for {token} where {holder:?} was")
            });
        }
        let results = &mut self.locks[lock].results;
        let refused = results.refused.contains(&token);
        results.recorded.push(Recorded {
            token,
            result: done.result.to_json(),
            retention: done.retention,
            from: now,
            until: None,
        });
        self.counts.add("results recorded");
        if refused {
            self.violate(now, "what was refused is never on record", || format!("token {token}"));
        }
    }

    /// A result may leave the record only when it is past by the store's clock.
    fn judge_end_of_result(&mut self, now: Time, lock: usize, process: usize) {
        let Some(result) = self.locks[lock].results.recorded.last_mut() else { return };
        result.until = Some(now);
        let micros =
            self.store_clock.wall(now).micros() - self.store_clock.wall(result.from).micros();
        let age = Duration::from_micros(micros.unsigned_abs());
        let (token, retention) = (result.token, result.retention);
        self.counts.add("results past");
        if retention.is_none_or(|time| age < time) {
            self.violate(now, "a result stands for as long as it is kept", || {
                format!("p{process} put out the result of {token} after {age:?} of {retention:?}")
            });
        }
    }

    /// A call was told that the work is done.
    pub(crate) fn told_that_done(&mut self, now: Time, call: usize, token: u64, result: &str) {
        let (lock, process, began) =
            (self.calls[call].lock, self.calls[call].process, self.calls[call].began);
        let stood = self.locks[lock].results.recorded.iter().any(|recorded| {
            recorded.token == token
                && recorded.result == result
                && recorded.until.is_none_or(|until| until >= began)
        });
        self.counts.add("results told");
        if !stood {
            self.violate(now, "a result that is told is on record", || {
                format!("p{process} was told {result} of {token}")
            });
        }
    }

    /// A run was told that its result is on record.
    pub(crate) fn told_that_recorded(&mut self, now: Time, guard: usize, result: &str) {
        let (lock, token) = (self.guards[guard].lock, self.token_of(guard));
        let mut recorded = self.locks[lock].results.recorded.iter();
        if !recorded.any(|recorded| recorded.token == token && recorded.result == result) {
            self.violate(now, "a result that is told is on record", || {
                format!("{result} of {token} was acknowledged")
            });
        }
    }

    /// A run was told that its result is not on record.
    pub(crate) fn told_that_refused(&mut self, now: Time, guard: usize) {
        let (lock, token) = (self.guards[guard].lock, self.token_of(guard));
        let results = &mut self.locks[lock].results;
        results.refused.insert(token);
        let there = results.recorded.iter().any(|recorded| recorded.token == token);
        self.counts.add("results refused");
        if there {
            self.violate(now, "what was refused is never on record", || format!("token {token}"));
        }
    }
}
