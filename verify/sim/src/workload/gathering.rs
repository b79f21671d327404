//! Members that gather at a latch, which some close again, and go around a barrier in rounds.

use std::time::Duration;

use leaselock::{Arrival, Barrier, Latch, Result, Waited};

use super::User;
use crate::referee::{Errand, Mode, Spot, Told};
use crate::rng::Draw;

impl User {
    /// Visits one of the two.
    pub(super) async fn gathering_round(&mut self) {
        if self.rng.chance(50) { self.barrier_round().await } else { self.latch_round().await }
    }

    /// Without faults everybody who waits is told, again and again.
    pub(super) async fn last_of_gathering(&mut self) {
        if self.plan.gathering.is_none() {
            return;
        }
        let last = self.tell(|world| world.referee.last_round());
        let member = self.member();
        while self.tell(|world| world.referee.round_of(member)) <= last {
            if !self.go_around(Mode::Forever).await {
                return self.is_stuck("a barrier");
            }
        }
        // A reset may still have been on its way. Who comes alone brings the others along.
        for attempt in 0..4 {
            let names = if attempt == 0 { member..member + 1 } else { 0..self.members() };
            for name in names {
                let (latch, errand) = (self.latch(), arrives(name, None));
                let arriving = async move { latch.arrive(shard(name)).await.map(arrived) };
                self.visit(Spot::Latch, errand, None, arriving).await;
            }
            let latch = self.latch();
            let waiting = async move { latch.wait_timeout(LAST).await.map(waited) };
            let told = self.visit(Spot::Latch, Errand::Look, None, waiting).await;
            if matches!(told, Some(Told::Passed(_))) {
                return;
            }
        }
        self.is_stuck("a latch");
    }

    fn is_stuck(&self, where_: &'static str) {
        if !self.is_shut_down() {
            self.tell(|world| {
                let promise = "without faults everybody who waits is told";
                world.violate(promise, || where_.to_owned());
            });
        }
    }

    async fn barrier_round(&mut self) {
        if self.rng.chance(15) {
            let barrier = self.barrier();
            let looking = async move { barrier.inspect().await.map(Told::Seen) };
            self.visit(Spot::Barrier, Errand::Look, None, looking).await;
        }
        if !self.is_quiet() {
            let mode = self.rng.one_of(&[Mode::Forever, Mode::Until, Mode::Until, Mode::Dropped]);
            self.go_around(mode).await;
        }
    }

    /// Goes around, as the member's work is numbered; whether it has.
    async fn go_around(&mut self, mode: Mode) -> bool {
        let member = self.member();
        let round = self.tell(|world| world.referee.round_of(member));
        let limit = self.patience();
        let (barrier, errand) = (self.barrier(), arrives(member, Some(round)));
        let going = async move {
            match mode {
                Mode::Until => {
                    barrier.wait_at_timeout(round, shard(member), limit).await.map(waited)
                }
                _ => {
                    let passed = barrier.wait_at(round, shard(member)).await;
                    passed.map(|passed| Told::Passed(passed.epoch))
                }
            }
        };
        let limit = (mode == Mode::Dropped).then_some(limit);
        let told = self.visit(Spot::Barrier, errand, limit, going).await;
        let around = matches!(told, Some(Told::Passed(_)));
        if around {
            self.tell(|world| world.referee.round_is_done(member, round));
        }
        around
    }

    async fn latch_round(&mut self) {
        let patience = self.patience();
        let limit = self.rng.chance(20).then_some(patience);
        let time = self.patience();
        // One more than is needed.
        let name = self.rng.below(self.members() + 1);
        let latch = self.latch();
        match self.rng.below(12) {
            0..=4 => {
                let arriving = async move { latch.arrive(shard(name)).await.map(arrived) };
                self.visit(Spot::Latch, arrives(name, None), limit, arriving).await;
            }
            5 => {
                let arriving = async move {
                    let passed = latch.arrive_and_wait(shard(name)).await;
                    passed.map(|passed| Told::Passed(passed.epoch))
                };
                let limit = Some(time + self.ttl() / 2);
                self.visit(Spot::Latch, arrives(name, None), limit, arriving).await;
            }
            6..=8 => {
                let waiting = async move { latch.wait_timeout(time).await.map(waited) };
                self.visit(Spot::Latch, Errand::Look, limit, waiting).await;
            }
            9 => {
                let looking = async move { latch.inspect().await.map(Told::Seen) };
                self.visit(Spot::Latch, Errand::Look, limit, looking).await;
            }
            10 => {
                let resetting = async move { latch.reset().await.map(Told::Present) };
                self.visit(Spot::Latch, Errand::Reset, limit, resetting).await;
            }
            _ => {
                let ending = async move {
                    let epoch = latch.inspect().await?.epoch;
                    latch.reset_from(epoch).await.map(Told::Present)
                };
                self.visit(Spot::Latch, Errand::Reset, limit, ending).await;
            }
        }
    }

    /// Calls, and tells the referee what came of it; drops the call after `limit`.
    async fn visit(
        &mut self,
        spot: Spot,
        errand: Errand,
        limit: Option<Duration>,
        call: impl Future<Output = Result<Told>>,
    ) -> Option<Told> {
        let (process, clock) = (self.process, self.clock.clone());
        let visit = self.tell(|world| {
            let now = world.now;
            world.referee.visit_begins(now, process, spot, errand)
        });
        let told = match limit {
            None => Some(call.await),
            Some(limit) => tokio::select! {
                biased;
                told = call => Some(told),
                () = clock.sleep(limit) => None,
            },
        };
        self.tell(|world| {
            let heard = told.as_ref();
            world.visit_ends(visit, heard.map(|told| told.as_ref().map_err(|error| error.kind())));
        });
        told.and_then(Result::ok)
    }

    /// Which member this is: those of a process are one, and so may be those of two.
    fn member(&self) -> usize {
        self.process % self.members()
    }

    fn members(&self) -> usize {
        self.plan.gathering.unwrap_or(1) as usize
    }

    fn latch(&self) -> Latch {
        self.store.latch(Spot::Latch.name(), self.members() as u32)
    }

    fn barrier(&self) -> Barrier {
        self.store.barrier(Spot::Barrier.name(), self.members() as u32)
    }
}

/// For how long the last wait for the others lasts.
const LAST: Duration = Duration::from_secs(20);

fn shard(member: usize) -> String {
    format!("m{member}")
}

fn arrives(member: usize, epoch: Option<u64>) -> Errand {
    Errand::Arrive(shard(member), epoch)
}

fn arrived(arrival: Arrival) -> Told {
    match arrival.is_open {
        true => Told::Passed(arrival.epoch),
        false => Told::Waiting(arrival.epoch, arrival.arrived),
    }
}

fn waited(waited: Waited) -> Told {
    match waited {
        Waited::Passed(passed) => Told::Passed(passed.epoch),
        Waited::TimedOut(arrival) => Told::Waiting(arrival.epoch, arrival.arrived),
    }
}
