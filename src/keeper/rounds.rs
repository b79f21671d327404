//! The rounds that a keeper goes: one task for all leases of a store, asleep until the next of them
//! needs something.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::Kept;
use crate::clock::{Boot, Clock, LOOK};
use crate::hold::{Hold, LossReason};

/// What there is to keep, and when.
#[derive(Default)]
pub(crate) struct Rounds {
    plan: Mutex<Plan>,
    /// Something has become due before the task would wake.
    sooner: Notify,
}

#[derive(Default)]
struct Plan {
    numbers: u64,
    stops: BTreeMap<u64, Stop>,
    /// When each of them has to be looked at, and no other times.
    due: BTreeSet<(Boot, u64)>,
    /// When the task wakes by itself; `None` while there is no task.
    wakes: Option<Boot>,
}

/// A lease on the rounds.
struct Stop {
    kept: Weak<Kept>,
    hold: Arc<Hold>,
    renew_at: Option<Boot>,
    due: Boot,
}

impl Rounds {
    /// A number for another lease.
    pub(super) fn number(&self) -> u64 {
        let mut plan = self.lock();
        plan.numbers += 1;
        plan.numbers
    }

    /// Comes by when this lease is to be renewed next, and whenever time changes something before.
    pub(super) fn plan(self: &Arc<Self>, kept: &Arc<Kept>, renew_at: Option<Boot>) {
        let hold = Arc::clone(&kept.hold);
        let due = due(&hold, renew_at);
        let mut plan = self.lock();
        plan.remove(kept.number);
        if !hold.is_live() {
            return;
        }
        plan.insert(kept.number, Stop { kept: Arc::downgrade(kept), hold, renew_at, due });
        match plan.wakes {
            Some(wakes) if wakes <= due => {}
            Some(_) => self.sooner.notify_one(),
            None => {
                plan.wakes = Some(due);
                drop(plan);
                let clock = Arc::clone(kept.client.store.clock());
                kept.client.spawn_apart(go(Going::begin(self), clock));
            }
        }
    }

    pub(super) fn remove(&self, number: u64) {
        self.lock().remove(number);
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn insert(&mut self, number: u64, stop: Stop) {
        self.due.insert((stop.due, number));
        self.stops.insert(number, stop);
    }

    fn remove(&mut self, number: u64) -> Option<Stop> {
        let stop = self.stops.remove(&number)?;
        self.due.remove(&(stop.due, number));
        Some(stop)
    }

    /// Which leases are to be looked at now.
    fn visits(&self, now: Boot, all: bool) -> Vec<(u64, Arc<Hold>)> {
        let until = if all { Boot::new(Duration::MAX) } else { now };
        let due = self.due.range(..=(until, u64::MAX));
        due.filter_map(|(_, number)| Some((*number, Arc::clone(&self.stops.get(number)?.hold))))
            .collect()
    }

    /// Plans the next visit of a lease; whom to have renewed now.
    fn visited(&mut self, number: u64, now: Boot) -> Option<Weak<Kept>> {
        let mut stop = self.remove(number)?;
        if !stop.hold.is_live() {
            return None;
        }
        let renew = stop.renew_at.take_if(|at| *at <= now).map(|_| stop.kept.clone());
        stop.due = due(&stop.hold, stop.renew_at);
        self.insert(number, stop);
        renew
    }
}

/// When a lease has to be looked at.
fn due(hold: &Hold, renew_at: Option<Boot>) -> Boot {
    let event = hold.next_event();
    renew_at.map_or(event, |at| at.min(event))
}

/// Ends when nothing is kept any more. Renewals are tasks of their own.
async fn go(mut going: Going, clock: Arc<dyn Clock>) {
    let rounds = Arc::clone(&going.rounds);
    let mut looked = clock.now().boot;
    loop {
        let now = clock.now().boot;
        let all = now >= looked.plus(LOOK);
        if all {
            looked = now;
        }
        let visits = rounds.lock().visits(now, all);
        for (_, hold) in &visits {
            hold.settle();
        }
        let mut renewals = Vec::new();
        let wake = {
            let mut plan = rounds.lock();
            renewals.extend(visits.iter().filter_map(|(number, _)| plan.visited(*number, now)));
            plan.wakes = plan.due.first().map(|(due, _)| looked.plus(LOOK).min(*due));
            // From here on whatever is planned has another task.
            going.ended = plan.wakes.is_none();
            plan.wakes
        };
        // Not while the plan is locked: who drops the last of a lease takes it off.
        for kept in renewals.iter().filter_map(Weak::upgrade) {
            kept.client.spawn(Arc::clone(&kept).renew());
        }
        let Some(wake) = wake else { return };
        tokio::select! {
            biased;
            () = rounds.sooner.notified() => {}
            () = clock.sleep_until(wake) => {}
        }
    }
}

/// A lease must not seem to be kept when its keeper is gone, even if that never ran.
struct Going {
    rounds: Arc<Rounds>,
    ended: bool,
}

impl Going {
    fn begin(rounds: &Arc<Rounds>) -> Self {
        Self { rounds: Arc::clone(rounds), ended: false }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut plan = self.rounds.lock();
        plan.wakes = None;
        plan.due.clear();
        let stops = std::mem::take(&mut plan.stops);
        drop(plan);
        for stop in stops.into_values() {
            stop.hold.end(LossReason::KeeperStopped);
        }
    }
}

impl fmt::Debug for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rounds").field("leases", &self.lock().stops.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;

    use super::*;
    use crate::clock::{Moment, SystemClock};
    use crate::holder::HolderId;
    use crate::options::LockOptions;
    use crate::token::FencingToken;

    /// A lease is planned when this is dropped.
    #[derive(Debug)]
    struct PlansAtLast {
        rounds: Arc<Rounds>,
        hold: Arc<Hold>,
    }

    impl Clock for PlansAtLast {
        fn now(&self) -> Moment {
            SystemClock.now()
        }

        fn sleep_until(&self, until: Boot) -> BoxFuture<'static, ()> {
            SystemClock.sleep_until(until)
        }
    }

    impl Drop for PlansAtLast {
        fn drop(&mut self) {
            let due = self.hold.next_event();
            let mut plan = self.rounds.lock();
            let (kept, hold) = (Weak::new(), Arc::clone(&self.hold));
            plan.insert(1, Stop { kept, hold, renew_at: None, due });
            assert_eq!(plan.wakes, None, "there is no task");
            plan.wakes = Some(due);
        }
    }

    #[tokio::test]
    async fn a_task_that_ends_leaves_alone_what_is_planned_in_that_moment() {
        let rounds = Arc::new(Rounds::default());
        rounds.lock().wakes = Some(Boot::default());
        let (id, now) = (HolderId::from_random(1), SystemClock.now());
        let terms = LockOptions::default().check().unwrap();
        let clock = Arc::new(SystemClock);
        let hold = Hold::new("x".to_owned(), id, FencingToken::ZERO, now, &terms, clock);
        let hold = Arc::new(hold);
        let plans = PlansAtLast { rounds: Arc::clone(&rounds), hold: Arc::clone(&hold) };
        go(Going::begin(&rounds), Arc::new(plans)).await;
        assert!(hold.is_held());
        assert_eq!(rounds.lock().stops.len(), 1);
    }
}
