//! Work that is run once: users ask for it, run it for some time, and record a result, or fail.

use std::pin::pin;
use std::time::Duration;

use leaselock::{ErrorKind, LeasePhase, Once, Result, Run, Start};

use super::User;
use crate::plan::Plan;
use crate::referee::{Mode, Outcome};
use crate::rng::Draw;
use crate::trace::Kind;

impl User {
    /// Asks for the work, and runs it if it is to be run here.
    pub(super) async fn once_round(&mut self) {
        let mode = self.rng.one_of(&[
            Mode::Forever,
            Mode::Forever,
            Mode::Forever,
            Mode::Once,
            Mode::Until,
            Mode::Dropped,
        ]);
        if let Some((run, number, result)) = self.ask_to_run(mode).await {
            let longest = self.habits().hold;
            let time = self.rng.up_to(longest);
            self.carry_out(run, number, result, time).await;
        }
    }

    /// Without faults the work is done in the end, by somebody.
    pub(super) async fn last_run(&mut self) {
        let Some((run, number, result)) = self.ask_to_run(Mode::Forever).await else { return };
        if !self.look_at(&run, number) {
            return self.run_is_lost(run, number).await;
        }
        self.tell(|world| world.guard_releasing(number));
        let finished = run.finish(&result).await;
        self.tell(|world| {
            world.run_finished(number, &result, &finished);
            if let Err(error) = finished {
                world.violate("without faults every result can be recorded", || error.to_string());
            }
        });
    }

    async fn ask_to_run(&mut self, mode: Mode) -> Option<(Run, usize, String)> {
        let call = self.begin(self.plan.locks, mode, false);
        let once = self.once().owner(format!("c{call}"));
        let limit = self.patience();
        let started: Option<Result<Start>> = match mode {
            Mode::Forever => Some(once.start().await),
            Mode::Once => Some(once.try_start().await),
            Mode::Until => Some(once.start_timeout(limit).await),
            Mode::Dropped => {
                let clock = self.clock.clone();
                let mut starting = pin!(once.start());
                tokio::select! {
                    biased;
                    started = &mut starting => Some(started),
                    () = clock.sleep(limit) => None,
                }
            }
        };
        let outcome = match started {
            Some(Ok(Start::Run(run))) => {
                let number = self.introduce(call, run.guard(), self.ttl());
                return Some((run, number, format!("r{call}")));
            }
            Some(Ok(Start::Done(done))) => {
                let (token, result) = (done.token.get(), done.result.to_json());
                self.tell(|world| world.told_that_done(call, token, &result));
                Outcome::Done
            }
            Some(Ok(_)) => Outcome::Held,
            Some(Err(error)) => Outcome::Failed(error.kind()),
            None => Outcome::Dropped,
        };
        self.tell(|world| world.call_ends(call, outcome));
        None
    }

    /// Works for some time, and then records a result, most times.
    async fn carry_out(&mut self, run: Run, number: usize, result: String, time: Duration) {
        let until = self.clock_now().plus(time);
        loop {
            if !self.look_at(&run, number) {
                return self.run_is_lost(run, number).await;
            }
            if self.is_quiet() || self.clock_now() >= until {
                break;
            }
            let longest = self.habits().look;
            let nap = self.rng.up_to(longest);
            let (lost, clock, quiet) = (run.guard().lost(), self.clock.clone(), self.quiet_time());
            tokio::select! {
                biased;
                _ = lost => return self.run_is_lost(run, number).await,
                () = clock.sleep(nap) => {}
                () = quiet => {}
            }
        }
        let (process, user) = (self.process, self.number);
        self.tell(|world| {
            world.note(Some(process), Kind::Idle, || format!("u{user} ends its run"));
            world.guard_releasing(number);
        });
        match self.rng.below(10) {
            0 => {
                drop(run);
                self.tell(|world| world.guard_released(number, None));
            }
            1 | 2 => {
                let release = run.give_back().await;
                self.tell(|world| world.guard_released(number, Some(&release)));
            }
            3 => {
                let limit = self.rng.up_to(self.plan.round_trip());
                let clock = self.clock.clone();
                let mut finishing = pin!(run.finish(&result));
                tokio::select! {
                    biased;
                    finished = &mut finishing => {
                        self.tell(|world| world.run_finished(number, &result, &finished));
                    }
                    () = clock.sleep(limit) => self.tell(|world| {
                        world.guard_released(number, None);
                        world.count("recordings unheard of");
                    }),
                }
            }
            _ => {
                let finished = run.finish(&result).await;
                self.tell(|world| world.run_finished(number, &result, &finished));
            }
        }
    }

    /// Who has lost its lease may try to record a result all the same.
    async fn run_is_lost(&mut self, run: Run, number: usize) {
        match run.guard().watch().status().phase {
            LeasePhase::Lost(reason) => self.tell(|world| world.guard_lost(number, &reason)),
            phase => {
                let shut_down = self.is_shut_down();
                self.tell(|world| {
                    world.guard_ends(number);
                    if !shut_down {
                        let what = || format!("a run: {phase:?}");
                        world.violate("a guard ends for a reason", what);
                    }
                });
            }
        }
        let finished = run.finish(&"too late").await;
        let kind = finished.as_ref().err().map(leaselock::Error::kind);
        let refused = matches!(kind, Some(ErrorKind::Lost | ErrorKind::ShutDown));
        self.tell(|world| {
            world.result_is_refused(number);
            if !refused {
                let what = || format!("{finished:?}");
                world.violate("who has lost its lease records no result", what);
            }
        });
    }

    fn look_at(&self, run: &Run, number: usize) -> bool {
        let is_held = run.guard().is_held();
        self.tell(|world| world.guard_looked(number, is_held));
        is_held
    }

    fn once(&self) -> Once {
        let once = self.store.once(Plan::ONCE).ttl(self.ttl());
        match self.plan.once.and_then(|plan| plan.retention) {
            Some(time) => once.retention(time),
            None => once,
        }
    }
}
