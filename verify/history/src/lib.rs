//! Histories of one lock, or of what several may hold at once, checked for linearizability against the
//! lock's sequential specification.
//!
//! A history is what the users of a lock saw: when each asked for it and was given which token, when
//! each still trusted it, and when each knew that it had ended. It is linearizable (Herlihy and
//! Wing 1990) if every operation can be thought to happen at one instant between its call and its
//! return, such that the lock never has two holders and its tokens only rise. The search for such
//! instants is stateright's. Where several may hold, see [`History::check_shared`].
//!
//! ```
//! use leaselock_history::History;
//!
//! let mut history = History::default();
//! history.acquiring(1);
//! history.acquired(1, Some(7));
//! history.acquiring(2);
//! history.trusted(1, 7);
//! history.ending(1, 7);
//! history.ended(1);
//! history.acquired(2, Some(8));
//! history.check().unwrap();
//! ```

mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// What a user of the lock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Asks for the lock.
    Acquire,
    /// Relies on holding it with this token.
    Trust(u64),
    /// Stops relying on it: releases it, loses it, or dies.
    End(u64),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The lock is held with this token.
    Acquired(u64),
    /// The lock was not acquired.
    NotAcquired,
    /// It was relied on.
    Trusted,
    /// It is not held any more.
    Ended,
}

/// The lock's sequential specification: one holder, rising tokens.
#[derive(Clone, Debug)]
struct Lock {
    holder: Option<u64>,
    /// The tokens given out in this history that are still to come, the next one last. As tokens
    /// rise, no other order of acquisitions can be an explanation: this spares the search from
    /// trying them.
    to_come: Arc<[u64]>,
    left: usize,
}

impl SequentialSpec for Lock {
    type Op = Operation;
    type Ret = Outcome;

    /// For what never returned. Who asked in vain has seen nothing of the lock.
    fn invoke(&mut self, operation: &Operation) -> Outcome {
        match *operation {
            Operation::Acquire => Outcome::NotAcquired,
            Operation::Trust(_) => Outcome::Trusted,
            Operation::End(token) => {
                self.holder.take_if(|holder| *holder == token);
                Outcome::Ended
            }
        }
    }

    fn is_valid_step(&mut self, operation: &Operation, outcome: &Outcome) -> bool {
        match (*operation, *outcome) {
            (Operation::Acquire, Outcome::Acquired(token)) => {
                let next = self.left.checked_sub(1).map(|next| self.to_come[next]);
                let valid = self.holder.is_none() && next == Some(token);
                self.holder = Some(token);
                self.left = self.left.saturating_sub(1);
                valid
            }
            (Operation::Acquire, Outcome::NotAcquired) => true,
            (Operation::Trust(token), Outcome::Trusted) => self.holder == Some(token),
            (Operation::End(token), Outcome::Ended) => self.holder.take() == Some(token),
            _ => false,
        }
    }
}

/// A history of one lock, recorded in the order in which things were seen to happen. Each user is
/// told apart by a number and does one thing at a time.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<(usize, Event)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Call(Operation),
    Return(Outcome),
}

/// Why a history is not one of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLinearizable {
    /// The shortest part, from the beginning, that has no explanation.
    pub events: Vec<String>,
}

impl fmt::Display for NotLinearizable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no order of these operations is one of a lock:")?;
        self.events.iter().try_for_each(|event| write!(f, "\n  {event}"))
    }
}

impl std::error::Error for NotLinearizable {}

impl History {
    /// `user` begins to ask for the lock.
    pub fn acquiring(&mut self, user: usize) {
        self.call(user, Operation::Acquire);
    }

    /// `user` was given the lock with `token`, or gave up.
    pub fn acquired(&mut self, user: usize, token: Option<u64>) {
        self.end(user, token.map_or(Outcome::NotAcquired, Outcome::Acquired));
    }

    /// `user`, who holds the lock with `token`, relies on it at this instant.
    pub fn trusted(&mut self, user: usize, token: u64) {
        self.call(user, Operation::Trust(token));
        self.end(user, Outcome::Trusted);
    }

    /// From here on `user` may not hold the lock any more: it releases it, or has looked for the
    /// last time before it lost it.
    pub fn ending(&mut self, user: usize, token: u64) {
        self.call(user, Operation::End(token));
    }

    /// From here on `user` knows that it does not hold the lock. One that died or was never heard of
    /// again is left with [`ending`](Self::ending).
    pub fn ended(&mut self, user: usize) {
        self.end(user, Outcome::Ended);
    }

    /// How many calls and returns there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn call(&mut self, user: usize, operation: Operation) {
        self.events.push((user, Event::Call(operation)));
    }

    fn end(&mut self, user: usize, outcome: Outcome) {
        self.events.push((user, Event::Return(outcome)));
    }

    /// Whether the history is one of a lock.
    ///
    /// # Errors
    /// It is not; the part that has no explanation.
    ///
    /// # Panics
    /// A user was recorded to do two things at once, or to return from nothing.
    pub fn check(&self) -> Result<(), NotLinearizable> {
        let mut last = 0;
        let mut all = BTreeSet::new();
        for part in self.parts() {
            let tokens = part.iter().filter_map(given);
            // A second holder of one token, or an older one than the part before has seen.
            let rises = tokens.clone().all(|token| token > last && all.insert(token));
            if !rises || !is_linearizable(&part) {
                let events = shortest(&part, |part| rises && is_linearizable(part));
                return Err(NotLinearizable { events: events.iter().map(describe).collect() });
            }
            last = tokens.fold(last, u64::max);
        }
        Ok(())
    }

    /// The history in parts that can be checked one by one, each beginning with a free lock: the
    /// search takes time in the square of the length.
    ///
    /// It is cut where everybody who was given the lock is known to have ended. Whoever is asking
    /// then goes on asking in the next part: if the lock was already his, it was nobody else's in
    /// between. And an end whose return came late, or never, returns when a larger token does: it
    /// cannot be explained later than that.
    fn parts(&self) -> Vec<Vec<(usize, Event)>> {
        let mut parts = vec![Vec::new()];
        let mut asking = BTreeMap::new();
        let mut holding: BTreeMap<u64, usize> = BTreeMap::new();
        let mut ending: BTreeMap<u64, usize> = BTreeMap::new();
        for (user, event) in self.events.iter().copied() {
            let part = parts.last_mut().expect("there is always one");
            match event {
                Event::Call(Operation::Acquire) => drop(asking.insert(user, ())),
                Event::Return(Outcome::Acquired(token)) => {
                    asking.remove(&user);
                    let later = ending.split_off(&token);
                    for (token, user) in std::mem::replace(&mut ending, later) {
                        part.push((user, Event::Return(Outcome::Ended)));
                        holding.remove(&token);
                    }
                    holding.insert(token, user);
                }
                Event::Return(Outcome::NotAcquired) => drop(asking.remove(&user)),
                Event::Call(Operation::End(token)) => drop(ending.insert(token, user)),
                Event::Return(Outcome::Ended) => {
                    let Some(token) = ending.iter().find(|(_, by)| **by == user).map(|(t, _)| *t)
                    else {
                        // It has been returned before.
                        continue;
                    };
                    ending.remove(&token);
                    holding.remove(&token);
                }
                Event::Call(Operation::Trust(_)) | Event::Return(Outcome::Trusted) => {}
            }
            part.push((user, event));
            if holding.is_empty() && event == Event::Return(Outcome::Ended) {
                parts.push(
                    asking.keys().map(|user| (*user, Event::Call(Operation::Acquire))).collect(),
                );
            }
        }
        parts
    }
}

fn given((_, event): &(usize, Event)) -> Option<u64> {
    match event {
        Event::Return(Outcome::Acquired(token)) => Some(*token),
        _ => None,
    }
}

fn describe((user, event): &(usize, Event)) -> String {
    match event {
        Event::Call(operation) => format!("{user} calls {operation:?}"),
        Event::Return(outcome) => format!("{user} returns {outcome:?}"),
    }
}

/// The shortest beginning that is bad: whatever has no explanation has none when it goes on.
fn shortest(
    events: &[(usize, Event)],
    is_good: impl Fn(&[(usize, Event)]) -> bool,
) -> &[(usize, Event)] {
    let (mut good, mut bad) = (0, events.len());
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if is_good(&events[..middle]) { good = middle } else { bad = middle }
    }
    &events[..bad]
}

fn is_linearizable(events: &[(usize, Event)]) -> bool {
    let mut to_come: Vec<_> = events.iter().filter_map(given).collect();
    to_come.sort_unstable_by(|a, b| b.cmp(a));
    let left = to_come.len();
    let lock = Lock { holder: None, to_come: to_come.into(), left };
    let mut tester = LinearizabilityTester::new(lock);
    for (user, event) in events {
        let recorded = match *event {
            Event::Call(operation) => tester.on_invoke(*user, operation),
            Event::Return(outcome) => tester.on_return(*user, outcome),
        };
        if let Err(fault) = recorded {
            panic!("the history was recorded wrongly: {fault}");
        }
    }
    tester.is_consistent()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1+` asks, `1=7` is given token 7, `1=-` gives up, `1?7` trusts, `1~7` begins to end, `1.`
    /// has ended.
    pub(crate) fn history(script: &str) -> History {
        let mut history = History::default();
        for word in script.split_whitespace() {
            let (user, rest) = word.split_at(1);
            let user = user.parse().unwrap();
            let token = rest[1..].parse();
            match rest.as_bytes()[0] {
                b'+' => history.acquiring(user),
                b'=' => history.acquired(user, token.ok()),
                b'?' => history.trusted(user, token.unwrap()),
                b'~' => history.ending(user, token.unwrap()),
                _ => history.ended(user),
            }
        }
        history
    }

    #[test]
    fn one_after_the_other_is_a_history_of_a_lock() {
        for script in [
            "1+ 1=7 1?7 1~7 1. 2+ 2=8 2?8 2~8 2.",
            // Asking overlaps holding.
            "1+ 2+ 1=7 1?7 3+ 1~7 2=8 1. 2?8 2~8 3=9 3?9 2.",
            // Nobody knows when the first one died; it was before the second was let in.
            "1+ 1=7 1?7 1~7 2+ 2=8 2?8 2~8 2. 3+ 3=11",
            // It noticed late, but did not rely on the lock any more.
            "1+ 2+ 1=7 1?7 1~7 2=8 2?8 1. 2?8 1+ 2~8 2. 1=9",
            "1+ 2+ 2=- 1=7 2+ 1~7 1. 2=-",
        ] {
            history(script).check().unwrap();
        }
    }

    #[test]
    fn two_holders_or_a_token_again_are_not() {
        for script in [
            "1+ 1=7 2+ 2=8",
            "1+ 2+ 1=7 2=8 1?7",
            // Relied on after the successor was let in.
            "1+ 1=7 2+ 1~7 2=8 1. 1?7",
            // The end began only after the successor was let in.
            "1+ 1=7 2+ 2=8 1~7 1.",
            "1+ 1=7 1~7 1. 2+ 2=7",
            "1+ 1=7 1~7 1. 2+ 2=6",
            "1+ 1=7 1~7 2+ 2=6",
            "1+ 1=7 1~7 2+ 2=7",
            // Both were asking, but the first held it after the second was let in.
            "1+ 2+ 2=8 1=7 1~7 1.",
        ] {
            assert!(history(script).check().is_err(), "{script}");
        }
    }

    #[test]
    fn what_has_no_explanation_is_cut_short() {
        let fault = history("3+ 3=5 3~5 3. 1+ 1=7 2+ 2=8 2~8 2. 1?7").check().unwrap_err();
        assert_eq!(fault.events.len(), 4, "{fault}");
        assert!(fault.to_string().ends_with("2 returns Acquired(8)"), "{fault}");
    }

    #[test]
    fn long_histories_are_checked_part_by_part() {
        let mut history = History::default();
        for round in 0..2000 {
            for user in 0..5 {
                if round == 0 {
                    history.acquiring(user);
                }
                let token = round * 5 + user as u64 + 1;
                history.acquired(user, Some(token));
                history.trusted(user, token);
                history.ending(user, token);
                history.ended(user);
                history.acquiring(user);
            }
        }
        history.check().unwrap();
    }
}
