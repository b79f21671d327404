//! Users who want both locks at once, or neither.

use std::pin::pin;
use std::time::Duration;

use leaselock::{AllGuard, AttemptAll, LeasePhase, LockAll, LossReason, Release, Result};

use super::User;
use crate::plan::Plan;
use crate::referee::{Ear, Mode, Outcome};
use crate::rng::Draw;
use crate::trace::Kind;

/// Both locks, and their guards' numbers.
struct Both {
    guard: AllGuard,
    numbers: [usize; 2],
}

impl User {
    /// Takes both locks for a while.
    pub(super) async fn round_of_all(&mut self) {
        let (habits, ttl) = (*self.habits(), self.ttl());
        let mode = self.rng.one_of(&[
            Mode::Forever,
            Mode::Forever,
            Mode::Once,
            Mode::Until,
            Mode::Dropped,
        ]);
        let limited = self.rng.chance(habits.max_hold);
        let longest = limited.then(|| self.rng.between(ttl / 10, ttl * 2));
        let time = self.rng.up_to(habits.hold);
        if let Some(both) = self.ask_for_both(mode, longest).await {
            self.hold_both(both, time).await;
        }
    }

    /// Without faults everybody gets both and can give them back.
    pub(super) async fn last_of_all(&mut self) {
        let Some(both) = self.ask_for_both(Mode::Forever, None).await else {
            return self.tell(|world| {
                let what = || "both at once".into();
                world.violate("without faults every lock can be acquired", what);
            });
        };
        if !self.look_at_both(&both) {
            return self.have_lost(both);
        }
        let Both { guard, numbers } = both;
        for number in numbers {
            self.tell(|world| world.guard_releasing(number));
        }
        let release = guard.release().await;
        let fine = matches!(
            &release,
            // An operator's order may still have been on its way.
            Ok(Release::Released | Release::AlreadyLost(LossReason::Broken { .. }))
        );
        self.are_released(numbers, Some(&release));
        if !fine {
            self.tell(|world| {
                let what = || format!("both at once: {release:?}");
                world.violate("without faults every lock can be given back", what);
            });
        }
    }

    async fn ask_for_both(&mut self, mode: Mode, longest: Option<Duration>) -> Option<Both> {
        let (process, incarnation, user) = (self.process, self.incarnation, self.number);
        let call = self.tell(|world| {
            world.note(Some(process), Kind::Waiting, || format!("u{user} asks for both, {mode:?}"));
            let (now, how) = (world.now, (mode, longest.is_some()));
            world.referee.calls_begin(now, process, incarnation, user, how)
        });
        let all = self.both().owner(format!("c{call}"));
        let all = longest.map(|longest| all.clone().max_hold(longest)).unwrap_or(all);
        let (limit, clock) = (self.patience(), self.clock.clone());
        let asked: Option<Result<AttemptAll>> = match mode {
            Mode::Forever => Some(all.acquire().await.map(AttemptAll::Acquired)),
            Mode::Once => Some(all.try_acquire().await),
            Mode::Until => Some(all.acquire_timeout(limit).await),
            Mode::Dropped => {
                let mut asking = pin!(all.acquire());
                tokio::select! {
                    biased;
                    asked = &mut asking => Some(asked.map(AttemptAll::Acquired)),
                    () = clock.sleep(limit) => None,
                }
            }
        };
        let outcome = match asked {
            Some(Ok(AttemptAll::Acquired(guard))) => return Some(self.introduce_both(call, guard)),
            Some(Ok(AttemptAll::Held(_))) => Outcome::Held,
            Some(Err(error)) => Outcome::Failed(error.kind()),
            None => Outcome::Dropped,
        };
        for call in [call, call + 1] {
            self.tell(|world| world.call_ends(call, outcome));
        }
        None
    }

    /// Shows the guard to the referee, once for each lock.
    fn introduce_both(&self, call: usize, guard: AllGuard) -> Both {
        let numbers = [0, 1].map(|lock| {
            let watch = guard.watch();
            let status = watch.status();
            let token = guard.token(Plan::name(lock)).map_or(0, |token| token.get());
            self.tell(|world| {
                let id = world.referee.entry_of(call + lock, token);
                let ear = Ear::Told(watch);
                world.guard_begins(call + lock, id, token, self.ttl(), ear, status)
            })
        });
        self.tell(|world| world.count("several locks acquired at once"));
        Both { guard, numbers }
    }

    async fn hold_both(&mut self, both: Both, time: Duration) {
        let until = self.clock_now().plus(time);
        loop {
            if !self.look_at_both(&both) {
                return self.have_lost(both);
            }
            if self.is_quiet() || self.clock_now() >= until {
                break;
            }
            let longest = self.habits().look;
            let nap = self.rng.up_to(longest);
            let (lost, clock, quiet) = (both.guard.lost(), self.clock.clone(), self.quiet_time());
            tokio::select! {
                biased;
                _ = lost => return self.have_lost(both),
                () = clock.sleep(nap) => {}
                () = quiet => {}
            }
        }
        let Both { guard, numbers } = both;
        for number in numbers {
            self.tell(|world| world.guard_releasing(number));
        }
        if self.rng.chance(20) {
            drop(guard);
            return self.are_released(numbers, None);
        }
        let release = guard.release().await;
        self.are_released(numbers, Some(&release));
    }

    fn look_at_both(&self, both: &Both) -> bool {
        let is_held = both.guard.is_held();
        for number in both.numbers {
            self.tell(|world| world.guard_looked(number, is_held));
        }
        is_held
    }

    /// The loss of one is the loss of both; what is left is given back when the guard is dropped.
    fn have_lost(&self, both: Both) {
        let phase = both.guard.watch().status().phase;
        let (shut_down, still) = (self.is_shut_down(), both.guard.is_held());
        self.tell(|world| {
            for number in both.numbers {
                match &phase {
                    LeasePhase::Lost(reason) => world.guard_lost(number, reason),
                    _ => world.guard_ends(number),
                }
            }
            match phase {
                LeasePhase::Lost(_) => world.count("several locks lost at once"),
                _ if shut_down => {}
                phase => world.violate("a guard ends for a reason", || format!("both: {phase:?}")),
            }
            if still {
                let what = || "both".into();
                world.violate("a guard that was lost never says held again", what);
            }
        });
    }

    fn are_released(&self, numbers: [usize; 2], release: Option<&Result<Release>>) {
        self.tell(|world| {
            for number in numbers {
                world.guard_released(number, release);
            }
            if matches!(release, Some(Ok(Release::Released))) {
                world.count("several locks given back at once");
            }
        });
    }

    fn both(&self) -> LockAll {
        // The order does not matter.
        self.store.lock_all([1, 0].map(Plan::name)).ttl(self.ttl())
    }
}
