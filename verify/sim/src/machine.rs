//! What processes run on: clocks, sleepers, crashes and pauses.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use leaselock::clock::{Boot, Moment};
use rand::rngs::SmallRng;

use crate::clock::{Dial, EPOCH, Time};
use crate::events::Event;
use crate::faults::What;
use crate::plan::Plan;
use crate::rng::{Draw, stream};
use crate::trace::Kind;
use crate::wire::RECOVERY;
use crate::world::World;

/// Readings of the clock within one instant that no working program makes.
const SPINNING: u64 = 200_000;

/// What a process runs on.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) dial: Dial,
    pub(crate) state: State,
    pub(crate) incarnation: u32,
    /// Until when nobody may expect that it is in time with the store.
    pub(crate) troubled: Time,
    /// When something last happened to its clocks, or to it.
    pub(crate) disturbed: Option<Time>,
    /// Users who have not finished.
    pub(crate) users: usize,
    /// The process is being shut down.
    pub(crate) shutting_down: bool,
    /// It has been.
    pub(crate) shut_down: bool,
    /// After which time it is started again then.
    pub(crate) restart: Option<Duration>,
    sleepers: BTreeMap<(Boot, u64), Waker>,
    next_sleeper: u64,
    wake_at: Option<Time>,
    pub(crate) writes: u64,
    pub(crate) reads: u64,
    rng: SmallRng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Paused,
    Dead,
}

impl World {
    pub(crate) fn read_clock(&mut self, process: usize) -> Moment {
        self.readings += 1;
        // Not for good: whoever is dropped by this may read its clock once more.
        if self.readings.is_multiple_of(SPINNING) {
            let what = || format!("process {process} spins without waiting for anything");
            self.violate("every call makes progress", what);
            panic!("{}", what());
        }
        self.machines[process].dial.moment(self.now)
    }

    /// Takes note of a sleeper; returns its number.
    pub(crate) fn sleep(
        &mut self,
        process: usize,
        until: Boot,
        number: Option<u64>,
        waker: &Waker,
    ) -> u64 {
        let machine = &mut self.machines[process];
        let number = number.unwrap_or_else(|| {
            machine.next_sleeper += 1;
            machine.next_sleeper
        });
        machine.sleepers.insert((until, number), waker.clone());
        number
    }

    pub(crate) fn forget_sleep(
        &mut self,
        process: usize,
        until: Boot,
        number: u64,
    ) -> Option<Waker> {
        self.machines[process].sleepers.remove(&(until, number))
    }

    /// Those of a process who have slept long enough.
    pub(crate) fn slept_enough(&mut self, process: usize) -> Vec<Waker> {
        self.readings = 0;
        let machine = &mut self.machines[process];
        let now = machine.dial.boot(self.now);
        let mut wakers = Vec::new();
        while let Some(entry) = machine.sleepers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            wakers.push(entry.remove());
        }
        wakers
    }

    /// Sees to it that a process runs again when its next sleeper has slept long enough.
    pub(crate) fn plan_wake(&mut self, process: usize) {
        let late = self.plan.processes[process].lateness;
        let machine = &mut self.machines[process];
        let Some(((until, _), _)) = machine.sleepers.first_key_value() else { return };
        let due = machine.dial.when(*until).max(self.now);
        // Timers are late, never early; but not by more each time they are looked at.
        if machine.wake_at.is_some_and(|at| at > self.now && at >= due && at <= due + late) {
            return;
        }
        let at = due + machine.rng.up_to(late);
        machine.wake_at = Some(at);
        self.events.add(at, Event::Wake(process));
    }

    /// Whether a wake-up that was planned is still the right one.
    pub(crate) fn is_to_wake(&mut self, process: usize) -> bool {
        let machine = &mut self.machines[process];
        let right = machine.wake_at == Some(self.now);
        if right {
            machine.wake_at = None;
        }
        right && machine.state == State::Running
    }

    pub(crate) fn start(&mut self, process: usize) -> u32 {
        let now = self.now;
        let machine = &mut self.machines[process];
        machine.state = State::Running;
        machine.dial.thaw(now);
        machine.incarnation += 1;
        machine.disturbed = None;
        machine.shutting_down = false;
        machine.shut_down = false;
        machine.wake_at = None;
        let incarnation = machine.incarnation;
        self.note(Some(process), Kind::Alive, || format!("starts ({incarnation})"));
        incarnation
    }

    /// The process dies. What is returned must be dropped while the world is not locked.
    #[must_use]
    pub(crate) fn kill(&mut self, process: usize) -> Vec<Waker> {
        let machine = &mut self.machines[process];
        machine.state = State::Dead;
        machine.users = 0;
        machine.shutting_down = false;
        let sleepers = std::mem::take(&mut machine.sleepers);
        self.note(Some(process), Kind::Dead, || "dies".into());
        self.referee.process_died(process);
        self.referee.visitors_died(self.now, process);
        sleepers.into_values().collect()
    }

    pub(crate) fn stop(&mut self, process: usize, length: Duration, frozen: bool) {
        let now = self.now;
        let machine = &mut self.machines[process];
        if machine.state != State::Running {
            return;
        }
        machine.state = State::Paused;
        machine.disturbed = Some(now + length);
        machine.troubled = machine.troubled.max(now + length + RECOVERY);
        if frozen {
            machine.dial.freeze(now);
            self.counts.add("freezes");
        } else {
            self.counts.add("pauses");
        }
        let incarnation = self.machines[process].incarnation;
        self.events.add(now + length, Event::Resume { process, incarnation });
        let how = if frozen { "is frozen" } else { "is stopped" };
        self.note(Some(process), Kind::Paused, || how.into());
    }

    /// The process goes on; whether it had been stopped.
    pub(crate) fn resume(&mut self, process: usize) -> bool {
        let now = self.now;
        let machine = &mut self.machines[process];
        if machine.state != State::Paused {
            return false;
        }
        machine.state = State::Running;
        machine.wake_at = None;
        machine.disturbed = Some(now);
        machine.dial.thaw(now);
        self.note(Some(process), Kind::Resumed, || "goes on".into());
        true
    }

    /// Somebody sets the wall clock. Only forward where the machine is also frozen at some time: a
    /// pause that neither clock counts is outside the promise.
    pub(crate) fn jump(&mut self, process: usize, micros: i64) {
        let is_frozen_once = self.plan.faults.iter().any(
            |fault| matches!(fault.what, What::Freeze { process: whose, .. } if whose == process),
        );
        let micros = if is_frozen_once { micros.abs() } else { micros };
        self.machines[process].dial.jump(micros);
        self.machines[process].disturbed = Some(self.now);
        self.counts.add("wall clock jumps");
        self.note(Some(process), Kind::Fault, || format!("wall clock set by {micros} us"));
    }
}

impl Machine {
    pub(crate) fn new(plan: &Plan, number: usize) -> Self {
        let process = &plan.processes[number];
        let wall = EPOCH + process.wall_offset;
        Self {
            dial: Dial::new(Duration::ZERO, process.rate, process.boot, wall),
            state: State::Dead,
            incarnation: 0,
            troubled: Duration::ZERO,
            disturbed: None,
            users: 0,
            shutting_down: false,
            shut_down: false,
            restart: None,
            sleepers: BTreeMap::new(),
            next_sleeper: 0,
            wake_at: None,
            writes: 0,
            reads: 0,
            rng: stream(plan.seed, &[5, number as u64]),
        }
    }
}
