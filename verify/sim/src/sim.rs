//! One run: from a seed to an outcome.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leaselock::{HolderId, LeaseStatus, LeaseWatch, LossReason, Release};

use crate::Options;
use crate::clock::Time;
use crate::counts::{Counts, Meter};
use crate::events::Event;
use crate::faults::What;
use crate::plan::Plan;
use crate::process::Process;
use crate::referee::{Outcome as CallOutcome, Violation};
use crate::trace::{Kind, Timeline};
use crate::workload::{User, break_lease, shut_down};
use crate::world::{Shared, State, World, lock};

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// A digest of everything that happened: the same for the same seed.
    pub trace: u64,
    /// How many events there were.
    pub events: u64,
    /// What happened how often.
    pub counts: Counts,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
    /// Who took part, on what clocks, to read.
    pub cast: Vec<String>,
    /// The schedule of faults, to read.
    pub faults: Vec<String>,
    /// What happened, if that was asked for.
    pub timeline: Option<Timeline>,
}

/// More events than a run that makes progress has.
const MOST_EVENTS: u64 = 400_000;

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let meter = Meter::default();
    metrics::with_local_recorder(&meter, || {
        let plan = Arc::new(Plan::of_seed(seed, options));
        let world = Arc::new(Mutex::new(World::new(Arc::clone(&plan), options)));
        let mut sim = Sim { world, plan, processes: Vec::new(), meter: &meter, events: 0 };
        let ran = catch_unwind(AssertUnwindSafe(|| sim.run()));
        // Whoever is left may have work that panics again.
        let ended = catch_unwind(AssertUnwindSafe(|| sim.end()));
        let panic = ran.err().or(ended.err()).map(|payload| words(&*payload));
        sim.outcome(panic)
    })
}

struct Sim<'a> {
    world: Shared,
    plan: Arc<Plan>,
    processes: Vec<Option<Process>>,
    meter: &'a Meter,
    events: u64,
}

impl Sim<'_> {
    fn run(&mut self) {
        for process in 0..self.plan.processes.len() {
            self.processes.push(None);
            self.start(process);
        }
        while self.next() {
            self.events += 1;
            if self.events > MOST_EVENTS {
                lock(&self.world).violate("every call makes progress", || "too many events".into());
            }
        }
        let mut world = lock(&self.world);
        let now = world.now;
        world.referee.check_histories(now);
    }

    /// Lets the next event happen; whether there may be more.
    fn next(&mut self) -> bool {
        let (event, quiet) = {
            let mut world = lock(&self.world);
            if world.referee.violation().is_some() || world.is_over() {
                return false;
            }
            let Some((at, event)) = world.events.next() else { return false };
            world.now = at;
            (event, world.is_quiet())
        };
        match event {
            Event::Wake(process) => {
                if lock(&self.world).is_to_wake(process) {
                    self.step(process);
                }
            }
            Event::Arrive { request, copy } => lock(&self.world).arrive(request, copy),
            Event::Answer { request, reply } => {
                let answer = lock(&self.world).answer(request);
                if let Some((process, sender)) = answer {
                    // Whoever has stopped waiting does not hear it.
                    let _ = sender.send(reply);
                    self.step(process);
                }
            }
            Event::Fault(number) if !quiet => self.strike(self.plan.faults[number].what),
            Event::Fault(_) => {}
            Event::Resume { process, incarnation } => {
                if lock(&self.world).machines[process].incarnation == incarnation {
                    self.resume(process);
                }
            }
            Event::Start(process) => self.start(process),
            Event::Check(check) => lock(&self.world).check(check),
            Event::Quiet => self.quiet(),
            Event::End => lock(&self.world).expect_the_end(),
        }
        self.bury();
        true
    }

    fn start(&mut self, process: usize) {
        if self.processes[process].is_some() {
            return;
        }
        let started = Process::start(&self.world, process);
        let users = self.plan.processes[process].users;
        lock(&self.world).machines[process].users = users * started.stores.len();
        for (handle, store) in started.stores.iter().enumerate() {
            for user in 0..users {
                let which = (handle * users + user) as u64;
                let clock = started.clock.clone();
                started.spawn(User::new(store.clone(), clock, started.incarnation, which).run());
            }
        }
        self.processes[process] = Some(started);
        self.step(process);
    }

    /// Lets a process run until it waits, if it runs at all.
    fn step(&mut self, process: usize) {
        let Some(running) = &self.processes[process] else { return };
        let wakers = {
            let mut world = lock(&self.world);
            if world.machines[process].state != State::Running {
                return;
            }
            world.slept_enough(process)
        };
        wakers.into_iter().for_each(std::task::Waker::wake);
        running.run();
        lock(&self.world).plan_wake(process);
    }

    fn resume(&mut self, process: usize) {
        let goes_on = lock(&self.world).resume(process);
        if goes_on {
            self.step(process);
            lock(&self.world).judge_resumed(process);
        }
    }

    fn strike(&mut self, what: What) {
        match what {
            What::Crash { process, restart } => self.crash(process, restart),
            What::Pause { process, length } => lock(&self.world).stop(process, length, false),
            What::Freeze { process, length } => lock(&self.world).stop(process, length, true),
            What::Jump { process, micros } => lock(&self.world).jump(process, micros),
            What::Delete { lock: which } => lock(&self.world).delete(which),
            What::Weather { process, length, weather } => {
                lock(&self.world).begin_weather(process, length, weather);
            }
            What::Break { process, lock: which, force } => {
                let Some(running) = &self.processes[process] else { return };
                let (store, clock) = (running.stores[0].clone(), running.clock.clone());
                running.spawn(break_lease(store, clock, which, force));
                self.step(process);
            }
            What::ShutDown { process, restart } => {
                let Some(running) = &self.processes[process] else { return };
                let (stores, clock) = (running.stores.clone(), running.clock.clone());
                let incarnation = running.incarnation;
                lock(&self.world).begin_shutdown(process, restart);
                running.spawn(shut_down(stores, clock, incarnation));
                self.step(process);
            }
            What::Fate(_) => {}
        }
    }

    fn crash(&mut self, process: usize, restart: Option<Duration>) {
        if self.processes[process].is_none() {
            return;
        }
        {
            let mut world = lock(&self.world);
            world.count("crashes");
            world.expect_successors(process);
            if let Some(after) = restart {
                let at = world.now + after;
                world.events.add(at, Event::Start(process));
            }
        }
        self.kill(process);
    }

    fn kill(&mut self, process: usize) {
        let sleepers = lock(&self.world).kill(process);
        let dying = self.processes[process].take();
        // The drop of what it held is no release: nothing of it is sent, and nobody counts it.
        self.meter.muted(|| {
            drop(sleepers);
            drop(dying);
        });
    }

    /// Ends the processes that have shut down.
    fn bury(&mut self) {
        let ended = lock(&self.world).take_shut_down();
        for process in ended {
            self.kill(process);
        }
    }

    /// All faults end; everybody is started who was dead.
    fn quiet(&mut self) {
        let wakers = lock(&self.world).become_quiet();
        wakers.into_values().for_each(std::task::Waker::wake);
        for process in 0..self.processes.len() {
            self.resume(process);
            self.start(process);
            self.step(process);
        }
        let mut world = lock(&self.world);
        let at = world.now + world.time_to_finish();
        world.events.add(at, Event::End);
    }

    fn end(&mut self) {
        for process in 0..self.processes.len() {
            if self.processes[process].is_some() {
                self.kill(process);
            }
        }
    }

    fn outcome(self, panic: Option<String>) -> Outcome {
        let mut world = lock(&self.world);
        if let Some(words) = panic {
            world.violate("nothing panics", || words);
        }
        let violation = world.referee.violation().cloned();
        if let Some(violation) = &violation {
            let text = violation.to_string();
            world.note(None, Kind::Violation, || text);
        }
        let (trace, timeline) = world.trace.end();
        let mut counts = std::mem::take(&mut world.counts);
        counts.merge(world.referee.take_counts());
        counts.merge(self.meter.take());
        world.referee.forget_guards();
        let failed = violation.is_some() || timeline.is_some();
        let cast = if failed { self.plan.cast() } else { Vec::new() };
        let faults = self.plan.faults.iter().map(ToString::to_string).collect();
        Outcome {
            seed: self.plan.seed,
            trace,
            events: self.events,
            counts,
            violation,
            cast,
            faults,
            timeline,
        }
    }
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// What users and the run tell the referee: it needs to see the machines' clocks.
impl World {
    pub(crate) fn violate(&mut self, promise: &'static str, what: impl FnOnce() -> String) {
        self.referee.violate(self.now, promise, what);
    }

    pub(crate) fn count(&mut self, what: &str) {
        self.counts.add(what);
    }

    pub(crate) fn call_ends(&mut self, call: usize, outcome: CallOutcome) {
        let process = self.referee.process_of(call);
        let user = self.referee.user_of(call);
        let shut_down = self.machines[process].shutting_down;
        self.note(Some(process), Kind::Idle, || format!("u{user} does not get it: {outcome:?}"));
        self.referee.call_ends(self.now, call, outcome, shut_down, &mut self.events);
    }

    pub(crate) fn judge_error(&mut self, process: usize, what: &str, kind: leaselock::ErrorKind) {
        let shut_down = self.machines[process].shutting_down;
        self.referee.judge_error(self.now, process, what, kind, shut_down);
    }

    pub(crate) fn guard_begins(
        &mut self,
        call: usize,
        id: HolderId,
        token: u64,
        ttl: Duration,
        watch: LeaseWatch,
        status: LeaseStatus,
    ) -> usize {
        let (now, machines) = (self.now, &self.machines);
        self.referee.guard_begins(now, call, id, token, ttl, watch, status, machines)
    }

    pub(crate) fn guard_looked(&mut self, guard: usize, held: bool) {
        self.referee.guard_looked(self.now, guard, held, &self.machines);
    }

    pub(crate) fn guard_lost(&mut self, guard: usize, reason: &LossReason) {
        self.referee.guard_lost(self.now, guard, reason);
    }

    pub(crate) fn guard_ends(&mut self, guard: usize) {
        self.referee.guard_ends(self.now, guard);
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
        if let Some(Err(error)) = release {
            let process = self.referee.holder_of(guard);
            self.judge_error(process, "a release", error.kind());
        }
    }

    fn judge_resumed(&mut self, process: usize) {
        self.referee.process_resumed(self.now, process, &self.machines);
    }

    fn check(&mut self, check: crate::referee::Check) {
        self.referee.check(self.now, check, &self.machines, &mut self.events);
    }

    fn expect_successors(&mut self, process: usize) {
        self.referee.expect_successors(self.now, process, &mut self.events);
    }

    /// A person deletes a record. Not in the first seconds after it was made: tokens start from the
    /// store's time, and `docs/PROTOCOL.md` promises nothing about a record that is so young.
    fn delete(&mut self, which: usize) {
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

    fn begin_shutdown(&mut self, process: usize, restart: Duration) {
        let machine = &mut self.machines[process];
        machine.shutting_down = true;
        machine.restart = Some(restart);
        self.count("shutdowns");
        self.note(Some(process), Kind::Fault, || "shuts down".into());
    }

    pub(crate) fn is_shut_down(&mut self, process: usize, incarnation: u32) {
        let machine = &mut self.machines[process];
        if machine.incarnation == incarnation {
            machine.shut_down = true;
        }
    }

    fn take_shut_down(&mut self) -> Vec<usize> {
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
    fn is_over(&self) -> bool {
        self.is_quiet()
            && self.machines.iter().all(|machine| machine.users == 0 && !machine.shutting_down)
    }

    fn expect_the_end(&mut self) {
        let late: Vec<_> = (0..self.machines.len())
            .filter(|process| self.machines[*process].users > 0)
            .map(|process| format!("p{process}"))
            .collect();
        self.violate("without faults everybody is served in time", || late.join(" "));
    }

    /// Every lease of somebody who died ends; then everybody who waits is served in turn.
    fn time_to_finish(&self) -> Time {
        let users: usize = self.machines.iter().map(|machine| machine.users).sum();
        let turns = (users * self.plan.locks) as u32 + 4;
        let turn = Duration::from_secs(5) + self.plan.round_trip() * 4;
        let lease = self.plan.longest_ttl() * 5 + Duration::from_secs(40);
        self.plan.by_the_slowest(lease + turn * turns)
    }
}
