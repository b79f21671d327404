//! Users of a lock over three stores, of which two decide.

use leaselock::{LossReason, Quorum, QuorumLock, Release};

use super::User;
use super::family::{Stay, Want};
use crate::plan::Plan;
use crate::referee::Mode;
use crate::rng::Draw;

impl User {
    /// Takes the lock for a while.
    pub(super) async fn quorum_round(&mut self) {
        let Some(quorum) = self.quorum.clone() else { return };
        let mode = self.way_to_ask();
        let (habits, ttl) = (*self.habits(), self.ttl());
        let lock = self.quorum_lock(&quorum).store_clock(self.rng.chance(habits.store_clock));
        let limited = self.rng.chance(habits.max_hold);
        let limit = self.rng.between(ttl / 10, ttl * 2);
        let lock = if limited { lock.max_hold(limit) } else { lock };
        let time = self.rng.up_to(habits.hold);
        let which = self.plan.of_quorum();
        let want = Want::Majority(lock);
        if let Ok(Some(stay)) = self.ask_for(&want, which, (mode, limited), &[]).await {
            self.hold_all(vec![stay], None, time).await;
        }
    }

    /// Without faults everybody gets it and can give it back.
    pub(super) async fn last_of_quorum(&mut self) {
        let Some(quorum) = self.quorum.clone() else { return };
        let want = Want::Majority(self.quorum_lock(&quorum));
        let which = self.plan.of_quorum();
        let Ok(Some(stay)) = self.ask_for(&want, which, (Mode::Forever, false), &[]).await else {
            return self.tell(|world| {
                let what = || "that over three stores failed".into();
                world.violate("without faults every lock can be acquired", what);
            });
        };
        self.give_last_back(stay, Plan::QUORUM, |_| false).await;
    }

    fn quorum_lock(&self, quorum: &Quorum) -> QuorumLock {
        quorum.lock(Plan::QUORUM).ttl(self.ttl())
    }

    /// Gives back what was got when there were no faults any more, unless it is lost for a reason that
    /// is `excused`.
    pub(super) async fn give_last_back(
        &mut self,
        stay: Stay,
        what: &'static str,
        excused: impl Fn(&LossReason) -> bool,
    ) {
        if !self.still_held(&stay) {
            return self.has_ended(stay, false);
        }
        let (number, watch) = (stay.number, stay.watch);
        self.tell(|world| world.guard_releasing(number));
        let release = stay.guard.release().await;
        let fine = match &release {
            Ok(Release::AlreadyLost(reason)) => excused(reason),
            other => matches!(other, Ok(Release::Released)),
        };
        self.is_over(number, &watch, Some(&release));
        if !fine {
            self.tell(|world| {
                let what = || format!("{what}: {release:?}");
                world.violate("without faults every lock can be given back", what);
            });
        }
    }
}
