//! Many users of one opened store who want one lock again and again, for a moment: it goes from one to
//! the next inside their process.

use std::time::Duration;

use leaselock::{LeasePhase, LossReason};

use super::{Held, Terms, User};
use crate::plan::{CrowdPlan, Plan};
use crate::referee::{Crowd, Mode};
use crate::rng::Draw;

/// How often in a row at most.
const IN_A_ROW: usize = 12;

impl User {
    /// Takes a lock a few times in a row.
    pub(super) async fn crowd_round(&mut self, plan: CrowdPlan) {
        let which = self.rng.below(self.plan.locks);
        let mut left = 1 + self.rng.below(IN_A_ROW);
        while left > 0 && !self.is_quiet() && !self.is_shut_down() {
            left -= 1;
            let mode = match self.rng.below(12) {
                0 => Mode::Once,
                1 => Mode::Until,
                2 => Mode::Dropped,
                _ => Mode::Forever,
            };
            let terms = self.terms_of_crowd(which);
            let Some(held) = self.ask(&terms, which, mode).await else { continue };
            let longest = if self.rng.chance(90) { plan.brief } else { self.habits().hold };
            let time = self.rng.up_to(longest);
            self.hold_briefly(held, time).await;
        }
        let rest = self.rng.up_to(self.ttl() / 4);
        self.nap(rest).await;
    }

    /// On which everybody who shares a lease wants it.
    pub(super) fn terms_of_crowd(&mut self, which: usize) -> Terms {
        let habits = *self.habits();
        let lock = self.lock(which).store_clock(self.rng.chance(habits.store_clock));
        let lock = habits.max_skew.map(|skew| lock.clone().trust_wall_clock(skew)).unwrap_or(lock);
        let crowd =
            Crowd { process: self.process, incarnation: self.incarnation, handle: self.handle };
        let (ttl, crowd) = (self.ttl(), Some(crowd));
        Terms { lock, ttl, manual: false, limited: false, elects: false, crowd }
    }

    async fn hold_briefly(&mut self, held: Held, time: Duration) {
        if !self.look(&held) {
            return self.loses(held).await;
        }
        let (lost, clock, quiet) = (held.guard.lost(), self.clock.clone(), self.quiet_time());
        let reason = tokio::select! {
            biased;
            reason = lost => Some(reason),
            () = clock.sleep(time) => None,
            () = quiet => None,
        };
        if let Some(reason) = reason {
            return self.keeps(held, &reason);
        }
        if self.rng.chance(5) {
            let ttl = self.ttl();
            self.do_something(&held, false, ttl).await;
        }
        if !self.look(&held) {
            return self.loses(held).await;
        }
        self.give_back(held).await;
    }

    async fn loses(&mut self, held: Held) {
        match held.guard.watch().status().phase {
            LeasePhase::Lost(reason) => self.keeps(held, &reason),
            _ => self.has_lost(held).await,
        }
    }

    /// Some go on as if they had not been told, and keep a guard that is worth nothing: whoever waits in
    /// the process does not wait for that.
    fn keeps(&mut self, held: Held, reason: &LossReason) {
        self.hears(&held, reason);
        if self.rng.chance(60) {
            self.tell(|world| world.count("guards kept after they were lost"));
            self.lost.push(held.guard);
        }
    }

    /// Whether the last round is one among the crowd.
    pub(super) fn is_in_crowd(&mut self) -> bool {
        self.plan.crowd.is_some() && self.rng.chance(70)
    }
}

impl Plan {
    /// Whether a process does without handing locks on inside.
    pub(super) fn hands_over(&self, process: usize) -> bool {
        self.crowd.is_some() || self.processes[process].hands_over
    }
}
