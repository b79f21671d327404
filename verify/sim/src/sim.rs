//! One run: from a seed to an outcome.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::Options;
use crate::counts::{Counts, Meter};
use crate::events::Event;
use crate::faults::What;
use crate::machine::State;
use crate::plan::Plan;
use crate::process::Process;
use crate::referee::Violation;
use crate::trace::{Kind, Timeline};
use crate::workload::{User, break_lease, shut_down};
use crate::world::{Shared, World, lock};

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
        self.ask();
        true
    }

    /// Asks the guards under sessions, if something has happened that may matter to one. They look at
    /// their clocks then, so nobody may have the world.
    fn ask(&self) {
        let asked = lock(&self.world).guards_to_ask();
        if asked.is_empty() {
            return;
        }
        let heard = asked.iter().map(|(number, watch)| (*number, watch.status())).collect();
        lock(&self.world).hear(heard);
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
                let quorum = started.quorums.get(handle).cloned();
                let (store, incarnation) = (store.clone(), started.incarnation);
                let user = User::new(store, quorum, clock, incarnation, (handle, which));
                started.spawn(user.run());
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
        let mut world = lock(&self.world);
        world.dispatch();
        world.plan_wake(process);
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
                lock(&self.world).begin_weather((process, None), length, weather);
            }
            What::Down { place, length, weather } => {
                lock(&self.world).begin_weather((None, Some(place)), length, weather);
            }
            What::Break { process, lock: which, force } => {
                let Some(running) = &mut self.processes[process] else { return };
                let of_family = which >= self.plan.first_of_family();
                let store = if of_family { running.operator() } else { running.stores[0].clone() };
                let (name, clock) = (self.plan.name_of(which), running.clock.clone());
                running.spawn(break_lease(store, clock, name, force));
                self.step(process);
            }
            What::ShutDown { process, restart } => {
                let Some(running) = &self.processes[process] else { return };
                let (stores, clock) = (running.all_stores(), running.clock.clone());
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
