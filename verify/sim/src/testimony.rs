//! What users and the run tell the referee, who needs to see the machines' clocks as well.

use std::time::Duration;

use leaselock::{ErrorKind, HolderId, LeaseStatus, LossReason, Release};

use crate::clock::Time;
use crate::events::Event;
use crate::plan::Plan;
use crate::referee::{Check, Ear, Outcome};
use crate::trace::Kind;
use crate::world::World;

impl World {
    pub(crate) fn violate(&mut self, promise: &'static str, what: impl FnOnce() -> String) {
        self.referee.violate(self.now, promise, what);
    }

    pub(crate) fn count(&mut self, what: &str) {
        self.counts.add(what);
    }

    pub(crate) fn call_ends(&mut self, call: usize, outcome: Outcome) {
        let process = self.referee.process_of(call);
        let user = self.referee.user_of(call);
        let shut_down = self.machines[process].shutting_down;
        self.note(Some(process), Kind::Idle, || format!("u{user} does not get it: {outcome:?}"));
        self.referee.call_ends(self.now, call, outcome, shut_down, &mut self.events);
    }

    pub(crate) fn judge_error(&mut self, process: usize, what: &str, kind: ErrorKind) {
        let shut_down = self.machines[process].shutting_down;
        self.referee.judge_error(self.now, process, what, kind, shut_down);
    }

    pub(crate) fn guard_begins(
        &mut self,
        call: usize,
        id: HolderId,
        token: u64,
        ttl: Duration,
        ear: Ear,
        status: LeaseStatus,
    ) -> usize {
        let (now, machines) = (self.now, &self.machines);
        self.referee.guard_begins(now, call, id, token, ttl, ear, status, machines)
    }

    pub(crate) fn guard_looked(&mut self, guard: usize, held: bool) {
        self.referee.guard_looked(self.now, guard, held, &self.machines);
    }

    pub(crate) fn guard_lost(&mut self, guard: usize, reason: &LossReason) {
        self.referee.guard_lost(self.now, guard, reason, &self.machines);
        self.referee.watch_lease_of(self.now, guard, &mut self.events);
    }

    /// A lease that was left has a guard again.
    pub(crate) fn guard_resumed(&mut self, guard: usize, ear: Ear, status: LeaseStatus) {
        let process = self.referee.holder_of(guard);
        self.note(Some(process), Kind::Holding, || "goes on with a lease".into());
        self.referee.guard_resumed(self.now, guard, ear, status, &self.machines);
    }

    /// A lease that was left is nobody's any more.
    pub(crate) fn guard_is_off_record(&mut self, guard: usize) {
        self.referee.guard_is_off_record(self.now, guard);
        self.guard_ends(guard);
    }

    pub(crate) fn guard_ends(&mut self, guard: usize) {
        self.referee.guard_ends(self.now, guard, &self.machines);
        self.referee.watch_lease_of(self.now, guard, &mut self.events);
    }

    pub(crate) fn guard_releasing(&mut self, guard: usize) {
        self.referee.guard_releasing(guard);
    }

    pub(crate) fn guard_released(
        &mut self,
        guard: usize,
        release: Option<&leaselock::Result<Release>>,
    ) {
        let told = match release {
            Some(Ok(release)) => Some(release),
            Some(Err(_)) => Some(&Release::Unconfirmed),
            None => None,
        };
        self.referee.guard_released(self.now, guard, told, &self.machines);
        self.referee.watch_lease_of(self.now, guard, &mut self.events);
        if let Some(Err(error)) = release {
            let process = self.referee.holder_of(guard);
            self.judge_error(process, "a release", error.kind());
        }
    }

    /// A call was told that the work is done.
    pub(crate) fn told_that_done(&mut self, call: usize, token: u64, result: &str) {
        self.referee.told_that_done(self.now, call, token, result);
    }

    /// A run has recorded its result, or not.
    pub(crate) fn run_finished(
        &mut self,
        guard: usize,
        result: &str,
        finished: &leaselock::Result<()>,
    ) {
        let released = finished.as_ref().ok().map(|()| Ok(Release::Released));
        self.guard_released(guard, released.as_ref());
        match finished {
            Ok(()) => self.referee.told_that_recorded(self.now, guard, &format!("{result:?}")),
            Err(error) => {
                let process = self.referee.holder_of(guard);
                self.judge_error(process, "a recording", error.kind());
                match error.kind() {
                    ErrorKind::Unconfirmed => self.count("results unconfirmed"),
                    _ => self.result_is_refused(guard),
                }
            }
        }
    }

    /// A run was told that its result is not on record.
    pub(crate) fn result_is_refused(&mut self, guard: usize) {
        self.referee.told_that_refused(self.now, guard);
    }

    pub(crate) fn judge_resumed(&mut self, process: usize) {
        self.referee.process_resumed(self.now, process, &self.machines);
    }

    pub(crate) fn check(&mut self, check: Check) {
        self.referee.check(self.now, check, &self.machines, &mut self.events);
    }

    pub(crate) fn expect_successors(&mut self, process: usize) {
        self.referee.expect_successors(self.now, process, &mut self.events);
    }

    /// A person deletes a record. Not in the first seconds after it was made: tokens start from the
    /// store's time, and `docs/PROTOCOL.md` promises nothing about a record that is so young.
    pub(crate) fn delete(&mut self, which: usize) {
        let key = format!("{}.lock", Plan::name(which));
        let Some(made) = self.objects.get(&key).map(|object| object.made) else { return };
        if self.now < made + self.youth() {
            return;
        }
        self.objects.remove(&key);
        self.referee.deleted(self.now, which);
        self.count("deletions");
        self.note(None, Kind::Fault, || format!("somebody deletes {key}"));
    }

    /// How long a record is too young to be deleted: a second for the resolution of stamps, two for
    /// the differences between the store's machines, and the time in which it was made.
    fn youth(&self) -> Time {
        Duration::from_secs(3) + self.plan.round_trip() * 4
    }

    pub(crate) fn begin_shutdown(&mut self, process: usize, restart: Duration) {
        let machine = &mut self.machines[process];
        machine.shutting_down = true;
        machine.restart = Some(restart);
        self.count("shutdowns");
        if self.referee.has_queue(process) {
            self.count("shutdowns with a queue in the process");
        }
        self.note(Some(process), Kind::Fault, || "shuts down".into());
    }

    pub(crate) fn is_shut_down(&mut self, process: usize, incarnation: u32) {
        let machine = &mut self.machines[process];
        if machine.incarnation == incarnation {
            machine.shut_down = true;
        }
    }

    pub(crate) fn take_shut_down(&mut self) -> Vec<usize> {
        let mut ended = Vec::new();
        for process in 0..self.machines.len() {
            let machine = &mut self.machines[process];
            if std::mem::take(&mut machine.shut_down) {
                let after = machine.restart.take().unwrap_or_default();
                let at = self.now + if self.is_quiet() { Duration::ZERO } else { after };
                self.events.add(at, Event::Start(process));
                ended.push(process);
            }
        }
        ended
    }

    pub(crate) fn user_is_done(&mut self, process: usize) {
        let machine = &mut self.machines[process];
        machine.users = machine.users.saturating_sub(1);
    }

    /// Whether everybody has finished after the faults ended.
    pub(crate) fn is_over(&self) -> bool {
        self.is_quiet()
            && self.machines.iter().all(|machine| machine.users == 0 && !machine.shutting_down)
    }

    pub(crate) fn expect_the_end(&mut self) {
        let late: Vec<_> = (0..self.machines.len())
            .filter(|process| self.machines[*process].users > 0)
            .map(|process| format!("p{process}"))
            .collect();
        self.violate("without faults everybody is served in time", || late.join(" "));
    }

    /// Every lease of somebody who died ends; then everybody who waits is served in turn.
    pub(crate) fn time_to_finish(&self) -> Time {
        let users: usize = self.machines.iter().map(|machine| machine.users).sum();
        let turns = (users * self.plan.keys()) as u32 + 4;
        let turn = Duration::from_secs(5) + self.plan.round_trip() * 4;
        let lease = self.plan.longest_ttl() * 5 + Duration::from_secs(40);
        self.plan.by_the_slowest(lease + turn * turns)
    }
}
